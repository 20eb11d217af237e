"""`receiver export`, stopped before its file is whole: nothing is left of it, and it is said how to make it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from receiver.exports import unnamed
from receiver.exports.unnamed import unnamed as new_file
from tests.receiver.commands import Commands
from tests.receiver.exporting import fill

PERIOD = ("--since", "2026-01-01", "--until", "2026-10-01")
COMMAND = """
import sys, time
from importlib import import_module
from receiver.cli import cli

def begin(records, job, file, folder, progress):
    file.write(b"what nobody else may read")
    file.flush()
    print("begun", flush=True)
    time.sleep(600)

import_module("receiver.cli.export").build_into = begin
cli()
"""
"""The command, that never comes to an end."""

needs_nameless = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system has no files without a name")


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder that something was recorded in."""
    commands = Commands(tmp_path)
    records = commands.records()
    fill(records)
    records.close()
    return commands


def stopped(commands: Commands, out: Path, number: signal.Signals) -> tuple[int, str]:
    """Begin an export, and end it by a signal; its exit status, and what it said."""
    arguments = [sys.executable, "-c", COMMAND, "export", *PERIOD, "--out", str(out), "--data", str(commands.data)]
    environment = {**os.environ, **commands.environment}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_it_is_told_how_to_make_it(commands: Commands, tmp_path: Path, number: signal.Signals) -> None:
    """By a command that does; in the folder there is nothing of it."""
    folder = tmp_path / "a folder"
    folder.mkdir()

    status, said = stopped(commands, folder / "x.zip", number)

    assert status == 1
    assert list(folder.iterdir()) == []
    [told] = re.findall("this makes its file: (receiver export --job .*)", said)
    _, *words = shlex.split(told)
    assert words[-2:] == ["--data", str(commands.data)]
    commands.ok(*words[:-2])
    assert zipfile.is_zipfile(folder / "x.zip")


@needs_nameless
def test_killed(commands: Commands, tmp_path: Path) -> None:
    """It cannot say anything, and there is nothing of it either."""
    folder = tmp_path / "folder"
    folder.mkdir()

    status, said = stopped(commands, folder / "x.zip", signal.SIGKILL)

    assert (status, said) == (-signal.SIGKILL, "")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("can_be_nameless", [pytest.param(True, marks=needs_nameless), False])
def test_a_file_appears_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_be_nameless: bool
) -> None:
    """Under its name and no other, whatever the file system can do; in the place of another one only if asked to."""
    if not can_be_nameless:
        monkeypatch.setattr(unnamed, "_OPENED", tmp_path / "none")
    out = tmp_path / "x.zip"

    with new_file(out) as new:
        new.file.write(b"one")
        new.file.flush()
        hidden = list(tmp_path.iterdir())
        new.appear(replace=False)
    assert (hidden == []) is can_be_nameless
    with new_file(out) as new:
        new.file.write(b"two")
        new.file.flush()
        with pytest.raises(FileExistsError) as raised:
            new.appear(replace=False)
        assert raised.value.filename == str(out)
        assert out.read_bytes() == b"one"
        new.appear(replace=True)

    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("x.zip", b"two")]
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_name_that_was_taken_meanwhile(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has it keeps it, and a sentence says so."""
    out = tmp_path / "x.zip"
    exists, seen = Path.exists, list[Path]()

    def take(path: Path) -> bool:
        found = exists(path)
        if path == out and not seen:
            seen.append(path)
            out.write_text("somebody else's")
        return found

    monkeypatch.setattr(Path, "exists", take)
    said = commands.refused("export", *PERIOD, "--out", str(out))

    assert f"{out}: File exists" in said
    assert "this makes its file: receiver export --job " in said
    assert out.read_text() == "somebody else's"
