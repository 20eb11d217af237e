"""The `translog` command, run by tests: in this process, or in one of its own."""

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.translog.samples import KEY
from translog import cli

PATIENCE = 30.0  # seconds for what must happen

VKEY = str(KEY.verifying_key())
"""Of the log of the samples."""


class Run:
    """One run after another of the command, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Give exit code, output and errors."""
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = cast("int", stop.code)
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err


@contextmanager
def started(*arguments: str, stdout: int = subprocess.PIPE) -> Generator[subprocess.Popen[bytes]]:
    """The command in a process of its own, which does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "translog", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def words(output: str) -> str:
    """The output with its line breaks taken out, to look for sentences in."""
    return " ".join(output.split())


def until(happened: Callable[[], bool]) -> None:
    """Wait for what must happen."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
