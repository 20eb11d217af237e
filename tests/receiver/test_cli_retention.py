"""`receiver retention`: set, listed, cleared, and done by hand."""

from pathlib import Path

import pytest

from receiver.records.opening import Records
from receiver.settings import load
from tests.receiver.commands import Commands
from tests.receiver.holding import acting, delivered, hold, row_of, wrong
from tests.receiver.service import ACCOUNT, revoked
from tests.receiver.submissions import new_sources


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """Commands on a data folder of the test's own."""
    commands = Commands(tmp_path)
    commands.ok("init")
    return commands


def test_it_is_set_listed_and_cleared(commands: Commands) -> None:
    """In words, too; a tenant is made on first use."""
    assert commands.ok("retention", "list") == "Everything is kept for ever.\n"
    rule = commands.json("retention", "set", "--provider", "thanx", "--days", "90")
    assert (rule["provider"], rule["days"]) == ("thanx", 90)
    assert commands.ok("retention", "set", "--provider", "scrip", "--days", "1").startswith("scrip: 1 days, since 20")
    assert [one["provider"] for one in commands.json("retention", "list")["items"]] == ["scrip", "thanx"]
    assert commands.ok("retention", "list").splitlines()[1] == f"thanx: 90 days, since {rule['set_at']}"
    other = commands.json("retention", "set", "--provider", "scrip", "--days", "2", "--tenant", "another")
    assert commands.json("retention", "list", "--tenant", "another")["items"] == [other]

    assert "for ever" in commands.ok("retention", "clear", "--provider", "scrip")
    assert commands.json("retention", "list")["items"] == [rule]
    assert "for ever already" in commands.refused("retention", "clear", "--provider", "scrip")


@pytest.mark.parametrize(
    ("asked", "said", "status"),
    [
        (("--provider", "nobody", "--days", "1"), "is no provider; there are ", 1),
        (("--provider", "thanx", "--days", "0"), "0 is not in the range", 2),
        (("--provider", "thanx"), "--days", 2),
    ],
)
def test_what_cannot_be_set(commands: Commands, asked: tuple[str, ...], said: str, status: int) -> None:
    """A sentence says why."""
    assert said in commands.refused("retention", "set", *asked, status=status)


def test_what_is_too_old_is_erased_by_hand(commands: Commands) -> None:
    """And nothing of it is left in the database's file; what a hold keeps is counted."""
    records = Records.open(load(data=commands.data, guard=commands.folder / "guard"))
    [source] = new_sources(records, "default", account=ACCOUNT)
    [gone, held] = delivered(source, revoked("r1", note="a word of its own"), revoked("r2"), days_ago=31)
    hold(records, acting(records, "Ann"), item={"provider": "truthlocks", "type": "receipt", "id": "r2"})
    assert commands.ok("retention", "run") == "Everything is kept for ever.\n"
    commands.ok("retention", "set", "--provider", "truthlocks", "--days", "30")
    records.close()

    done = commands.json("retention", "run")["items"]
    assert done == [{"provider": "truthlocks", "days": 30, "erased": 1, "held": 1}]
    assert b"a word of its own" not in b"".join(file.read_bytes() for file in commands.data.iterdir())
    assert commands.ok("retention", "run").startswith("truthlocks: of what is older than 30 days 0 entries are erased")
    records = Records.open(load(data=commands.data, guard=commands.folder / "guard"))
    try:
        assert (row_of(records, gone.id).body, row_of(records, held.id).body is None) == (None, False)
        assert wrong(records) == []
    finally:
        records.close()
