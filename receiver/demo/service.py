"""A receiver of the demo's own: the real commands, in a folder that is gone afterwards.

    with temporary_folder() as folder, running(folder) as service:
        service.command("key", "create", "auditor", "--scopes", "audit")

    folder/data/          the data folder, with a rescind.toml in it that names the guard
    folder/guard/         the guard, so that nothing is ever written to the user's own
    folder/service.log    what the service says

No setting of the user's reaches it: neither RESCIND_* nor a rescind.toml from elsewhere. The service runs in a session
of its own, so that Ctrl-C in the terminal ends the demo, and the demo then ends the service in order.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ORIGIN = "rescind-demo.invalid"
START_SECONDS = 30
STOP_SECONDS = 30

# Not the script's path, which a system may keep anywhere; -P: nothing in the folder we are run from is imported.
_RECEIVER = (sys.executable, "-P", "-c", "from receiver.entry import main; main()")
_LISTENS = re.compile(r"^Rescind listens on (http://\S+) ", re.MULTILINE)


class DemoError(Exception):
    """A step of the demo did not come out as it must; the message says which, and how it came out."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running receiver: where its files are, its URL, its process."""

    folder: Path
    url: str
    process: subprocess.Popen[bytes]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def command(self, *arguments: str) -> str:
        """Run a `receiver` command on the data folder; what it prints. Raises DemoError if it fails."""
        done = subprocess.run(  # noqa: S603  (ourselves)
            [*_RECEIVER, *arguments, "--data", str(self.data)],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
            timeout=START_SECONDS,
        )
        if done.returncode != 0:
            raise DemoError(f"receiver {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def wait(self) -> None:
        """Return never: the service goes on until it is stopped. Raises DemoError if it ends by itself."""
        raise DemoError(f"the service ended by itself, with exit status {self.process.wait()}")

    def stop(self) -> int:
        """End the service as an operator would; its exit status. May be called again."""
        return _stop(self.process)


@contextmanager
def temporary_folder() -> Generator[Path]:
    """A folder with a data folder in it that is set up for the demo; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="rescind-demo-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        settings = f"guard = {json.dumps(str(folder / 'guard'))}\norigin = {json.dumps(ORIGIN)}\n"
        (folder / "data" / "rescind.toml").write_text(settings)
        yield folder


@contextmanager
def running(folder: Path) -> Generator[Service]:
    """`receiver serve` on that folder and a free port of the loopback, until the block is left.

    Raises DemoError if it does not start.
    """
    with _log(folder).open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (ourselves)
            [*_RECEIVER, "serve", "--port", "0", "--data", str(folder / "data")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,
        )
    try:
        yield Service(folder, _url(process, _log(folder)), process)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        found = _LISTENS.search(log.read_text(errors="replace"))
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise DemoError("the service did not start")


def last_words(folder: Path) -> list[str]:
    """The last lines that the service wrote."""
    return _log(folder).read_text(errors="replace").splitlines()[-20:]


def _log(folder: Path) -> Path:
    return folder / "service.log"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RESCIND_")}
