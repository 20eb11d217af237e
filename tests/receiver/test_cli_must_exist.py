"""Commands about what was recorded make no records: in a folder that was mistyped they would find that nothing was."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver.cli import cli
from tests.receiver.commands import Commands

EVENT = "01a1ffa6-ed7c-7e8f-b6e4-5194f7beb0ff"
PERSON = "email:jane@example.com"
ASKED: list[tuple[str, ...]] = [
    ("export", "--since", "2026-07-01", "--until", "2026-10-01", "--out", "x.zip"),
    ("export", "--job", EVENT, "--out", "x.zip"),
    ("erase", "--event", EVENT, "--reason", "asked for", "--yes"),
    ("person", "find", PERSON),
    ("person", "report", PERSON),
    ("person", "erase", PERSON, "--reason", "asked for", "--yes"),
    ("hold", "place", "--person", PERSON, "--reason", "lawsuit 7", "--key-stdin"),
    ("hold", "list"),
    ("hold", "release", EVENT, "--reason", "settled", "--key-stdin"),
    ("retention", "set", "--provider", "thanx", "--days", "30"),
    ("retention", "list"),
    ("retention", "clear", "--provider", "thanx"),
    ("retention", "run"),
]


def name(asked: tuple[str, ...]) -> str:
    """What a test is called by."""
    return " ".join(asked[:2])


@pytest.mark.parametrize("asked", ASKED, ids=name)
def test_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]) -> None:
    """A sentence names it, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    commands = Commands(tmp_path)

    said = commands.refused(*asked, stdin=b"a key\n")

    assert f"there is no data folder {commands.data}" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", ASKED, ids=name)
def test_a_folder_without_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]) -> None:
    """It is no data folder either."""
    monkeypatch.chdir(tmp_path)
    commands = Commands(tmp_path)
    commands.data.mkdir()

    said = commands.refused(*asked, stdin=b"a key\n")

    assert f"there is no database {commands.data / 'rescind.db'}" in said
    assert list(commands.data.iterdir()) == []


@pytest.mark.parametrize("asked", ASKED, ids=name)
def test_no_tenant_is_made(asked: tuple[str, ...]) -> None:
    """The help says so, but of the one that does."""
    command = asked[:1] if asked[0] in {"export", "erase"} else asked[:2]
    told = " ".join(CliRunner().invoke(cli, [*command, "--help"]).stdout.split())

    assert ("Made on first use" in told) is (command == ("retention", "set"))
