"""The sandbox as its users start it: the real command in a process of its own, which can be killed.

with started(folder) as sandbox:
sandbox.client.get("/log/checkpoint")
sandbox.end(signal.SIGKILL)
"""

import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.receiver.service import PATIENCE, until

BIN = Path(sys.executable).parent
DATA = "sandbox"
"""The sandbox's own folder, within that of the test."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running `receiver sandbox`."""

    process: subprocess.Popen[str]
    client: httpx2.Client
    told: str
    """What it said until it answered."""

    @property
    def url(self) -> str:
        """Where it listens: scheme, host and port."""
        return str(self.client.base_url).removesuffix("/")

    @property
    def vkey(self) -> str:
        """The key of its log, as it said it."""
        found = re.search(r"^The vkey of the log is (\S+)$", self.told, re.MULTILINE)
        assert found is not None
        return found[1]

    def end(self, number: int) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def started(folder: Path, *arguments: str) -> Generator[Process]:
    """The sandbox of that folder in a process of its own, on a free port; gone at the end of the block."""
    said = folder / "said.txt"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [BIN / "receiver", "sandbox", "--port", "0", "--data", folder / DATA, *arguments],
            stdout=log,
            stderr=log,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("RESCIND_")},
        )
    try:
        until(lambda: "startup complete" in said.read_text() or process.poll() is not None)
        told = said.read_text()
        listens = re.search(r"^The sandbox listens on http://(\S+):(\d+) \(data in (.+)\)$", told, re.MULTILINE)
        assert listens is not None, told
        with httpx2.Client(base_url=f"http://127.0.0.1:{listens[2]}", timeout=PATIENCE, trust_env=False) as client:
            yield Process(process, client, told)
    finally:
        process.kill()
        process.wait()
