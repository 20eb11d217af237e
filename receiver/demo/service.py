"""The demo's own services and commands: the real ones, in a folder that is gone afterwards.

    with temporary_folder() as folder, running(folder, "receiver", "serve", "--port", "0", "--data", DATA) as receiver:
        (made,) = commands(folder, ("key", "create", "auditor", "--scopes", "audit", "--json", "--data", DATA))

    folder/data/          the receiver's data folder, with a rescind.toml in it that names the guard
    folder/sandbox/       the sandbox's
    folder/guard/         the guard, so that nothing is ever written to the user's own
    folder/NAME.log       what the service of that name says

No setting of the user's reaches them: neither RESCIND_* nor a rescind.toml from elsewhere. Each runs in a session of
its own, so that Ctrl-C in the terminal ends the demo, and the demo then ends them in order.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

DATA, SANDBOX = "data", "sandbox"
ORIGIN = "rescind-demo.invalid"

PATIENCE = 60
"""Seconds that anything may take on a machine that has much else to do, until the demo gives it up."""

LOOK_EVERY = 0.05  # seconds between two looks at something that is waited for

# Not the script's path, which a system may keep anywhere; -P: nothing in the folder we are run from is imported.
_PYTHON = (sys.executable, "-P", "-c")
_RECEIVER = "from receiver.entry import main; main()"
_COMMANDS = """\
import json, sys
from receiver.cli import cli
for line in json.load(sys.stdin):
    cli(line, standalone_mode=False)
"""
_LISTENS = re.compile(r" listens on (http://\S+) ")


T = TypeVar("T")


class DemoError(Exception):
    """A step of the demo did not come out as it must; the message says which, and how it came out."""


def must_be(what: str, found: object, expected: object) -> None:
    """Raise DemoError, naming both, unless they are equal."""
    if found != expected:
        raise DemoError(f"{what}: {found!r}, where it must be {expected!r}")


def until(what: str, look: Callable[[], T], expected: T) -> None:
    """Look until that is found. Raises DemoError, naming both, if it takes longer than `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while (found := look()) != expected:
        if time.monotonic() > end:
            must_be(f"{what}, after {PATIENCE} seconds", found, expected)
        time.sleep(LOOK_EVERY)


@dataclass(frozen=True, slots=True)
class Service:
    """A running `receiver serve` or `receiver sandbox`: what it is called here, its URL, its process."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    def must_run(self) -> None:
        """Raise DemoError if it has ended by itself."""
        status = self.process.poll()
        if status is not None:
            raise DemoError(f"the {self.name} ended by itself, with exit status {status}")

    def stop(self) -> int:
        """End it as an operator would; its exit status. May be called again."""
        return _stop(self.process)


@contextmanager
def temporary_folder() -> Generator[Path]:
    """A folder with a data folder in it that is set up for the demo; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="rescind-demo-") as name:
        folder = Path(name)
        (folder / DATA).mkdir()
        settings = f"guard = {json.dumps(str(folder / 'guard'))}\norigin = {json.dumps(ORIGIN)}\n"
        (folder / DATA / "rescind.toml").write_text(settings)
        yield folder


@contextmanager
def running(folder: Path, name: str, *arguments: str) -> Generator[Service]:
    """`receiver` with these arguments, run in that folder until the block is left; `name` is what it is called here.

    Raises DemoError if it does not start.
    """
    log = _log(folder, name)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (ourselves)
            [*_PYTHON, _RECEIVER, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=_environment(),
            start_new_session=True,
        )
    try:
        until(f"whether the {name} has begun", lambda: bool(_listens(log)) or process.poll() is not None, expected=True)
        url = _listens(log)
        if url is None:
            raise DemoError(f"the {name} did not start")
        yield Service(name, url, process)
    finally:
        _stop(process)


def commands(folder: Path, *lines: Sequence[str]) -> list[str]:
    """Run `receiver` commands, each of which prints one line, and give those lines. Raises DemoError if one fails.

    Each names its data folder. They are run one after the other by one process, since most of a command's time is
    Python's own start.
    """
    try:
        done = subprocess.run(  # noqa: S603  (ourselves)
            [*_PYTHON, _COMMANDS],
            input=json.dumps(lines),
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=_environment(),
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"the commands have not ended after {PATIENCE} seconds") from None
    printed = done.stdout.splitlines()
    if done.returncode != 0 or len(printed) != len(lines):
        failed = " ".join(lines[min(len(printed), len(lines) - 1)])
        raise DemoError(f"receiver {failed} ended with {done.returncode}: {''.join(done.stderr.splitlines()[-1:])}")
    return printed


@contextmanager
def reserved_port() -> Generator[int]:
    """A free port of the loopback, kept free until the block is left: there a service that names it may listen on it.

    Two sockets may have one address if both allow that and one of them only holds it. The system gives such a port to
    nobody who asks for any.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def last_words(folder: Path) -> list[str]:
    """The last lines that each service wrote."""
    return [f"{log.stem}: {line}" for log in sorted(folder.glob("*.log")) for line in _read(log).splitlines()[-20:]]


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _listens(log: Path) -> str | None:
    found = _LISTENS.search(_read(log))
    return None if found is None else found[1]


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _log(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RESCIND_")}
