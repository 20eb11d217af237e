"""`receiver erase`: the same as over HTTP, by whoever has the data folder."""

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from receiver.cli import cli
from receiver.records.keeping import erasures
from tests.receiver.claims import deliver, new_source
from tests.receiver.commands import Commands
from tests.receiver.erasing import faults_of, told, traces
from tests.receiver.holding import acting, hold
from tests.receiver.service import ACCOUNT, revoked

JANE = "jane@example.com"
WHY = ("--reason", "they asked for it")


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder with one event of a person."""
    commands = Commands(tmp_path)
    commands.ok("init")
    records = commands.records()
    deliver(new_source(records, "truthlocks", ACCOUNT), revoked("r1", subject=JANE))
    records.close()
    return commands


def event_of(commands: Commands) -> str:
    """The event's id."""
    records = commands.records()
    with records.database.read() as tx:
        found: str = tx.execute(sa.text("SELECT id FROM deliveries")).scalar_one()
    records.close()
    return found


@pytest.mark.parametrize("which", ["event", "item", "person"])
def test_what_is_erased(commands: Commands, which: str) -> None:
    """Nothing of it is left, and the log tells of it."""
    named = {"event": event_of(commands), "item": "truthlocks/receipt/r1", "person": f"email:{JANE}"}[which]
    said = commands.ok("erase", f"--{which}", named, *WHY, "--yes")

    assert said.startswith("1 entry cannot be opened any more.")
    assert JANE not in said
    records = commands.records()
    [(index, leaf)] = told(records)
    assert f"Told by the log's entries {index}." in said
    assert leaf.facts["by"] == "command"
    assert traces(records, JANE, 'r1"') == []
    assert faults_of(records) == []
    records.close()
    assert commands.ok("erase", f"--{which}", named, *WHY, "--yes").startswith("Nothing is kept of it")


def test_as_json(commands: Commands) -> None:
    """What `/v1/erasures` answers."""
    answer = commands.json("erase", "--person", f"email:{JANE}", *WHY, "--yes")
    assert {"id", "state", "target", "erased", "entries", "exports", "evidence", "asked_at", "completed_at"} == set(
        answer
    )
    assert (answer["state"], answer["erased"]) == ("completed", 1)


def test_it_must_be_meant(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal it has to be said; on one it is asked, and no is no."""
    asked = ("erase", "--person", f"email:{JANE}", *WHY)
    assert "--yes" in commands.refused(*asked, status=2)
    monkeypatch.setattr(sys.modules["receiver.cli.erase"], "is_terminal", lambda: True)  # a test has none
    result = commands.run(*asked, stdin=b"n\n")
    assert result.exit_code == 1
    records = commands.records()
    assert (told(records), traces(records, JANE)) == ([], ["deliveries.body"])
    records.close()
    assert commands.run(*asked, stdin=b"y\n").exit_code == 0


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ((), 2),
        (("--event", "x", "--person", "email:a@b"), 2),
        (("--item", "truthlocks/receipt"), 2),
        (("--event", "0198a1b2-0000-7000-8000-000000000000"), 1),
        (("--person", JANE), 1),
        (("--item", f"{JANE}/receipt/r1"), 1),
        (("--event", "x", "--tenant", "nobody"), 1),
    ],
)
def test_what_is_refused(commands: Commands, given: tuple[str, ...], status: int) -> None:
    """With a sentence that repeats nothing."""
    assert JANE not in commands.refused("erase", *given, *WHY, "--yes", status=status)


def test_what_is_held(commands: Commands) -> None:
    """The hold and the request are named; the request waits."""
    records = commands.records()
    placed = hold(records, acting(records, "Ann"), provider="truthlocks")
    records.close()
    said = commands.refused("erase", "--person", f"email:{JANE}", *WHY, "--yes")

    assert placed.id in said
    records = commands.records()
    with records.database.read() as tx:
        [row] = tx.execute(sa.select(erasures)).all()
    assert row.state == "held"
    assert row.id in said
    records.close()


def test_its_help() -> None:
    """Says what there is."""
    said = CliRunner().invoke(cli, ["erase", "--help"]).stdout
    assert all(
        option in said for option in ("--event", "--item", "--person", "--reason", "--tenant", "--yes", "--json")
    )
