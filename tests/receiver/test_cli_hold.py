"""`receiver hold`: by the keys of two people, which are never arguments."""

from pathlib import Path
from typing import Any

import pytest

from receiver.records.opening import Records
from receiver.settings import load
from tests.receiver.commands import Commands
from tests.receiver.holding import covered, wrong
from tests.receiver.service import revoked
from tests.receiver.submissions import new_sources

ITEM = "truthlocks/receipt/a/b"


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """Commands on a data folder of the test's own."""
    return Commands(tmp_path)


def key(commands: Commands, owner: str, scopes: str = "operate", tenant: str = "default") -> str:
    """The file of a new key."""
    named = ("key", "create", f"{owner} {scopes} {tenant}", "--scopes", scopes, "--owner", owner, "--tenant", tenant)
    file = commands.folder / f"{owner}-{scopes}-{tenant}"
    file.write_text(commands.json(*named)["key"] + "\n")
    return str(file)


def place(commands: Commands, *covers: str, owner: str = "Ann") -> dict[str, Any]:
    """Place a hold that must be taken."""
    return commands.json("hold", "place", *covers, "--reason", "lawsuit 7", "--key-file", key(commands, owner))


def records_of(commands: Commands) -> Records:
    """The records in the data folder."""
    return Records.open(load(data=commands.data, guard=commands.folder / "guard"))


def test_one_is_placed_listed_and_released(commands: Commands) -> None:
    """An item's id may have slashes in it; in words, too."""
    commands.ok("init")
    placed = place(commands, "--item", ITEM)
    assert (placed["target"], placed["item"]) == ("item", {"provider": "truthlocks", "type": "receipt", "id": "a/b"})
    assert commands.json("hold", "list")["items"] == [placed]
    assert commands.ok("hold", "list", "--in-force").splitlines()[0] == f"{placed['id']}  in force  item: {ITEM}"
    assert commands.ok("hold", "list", "--released") == "No holds.\n"

    bobs = Path(key(commands, "Bob")).read_bytes()
    words = commands.ok("hold", "release", placed["id"], "--reason", "settled", "--key-stdin", stdin=bobs)
    assert words.splitlines()[0] == f"{placed['id']}  released  item: {ITEM}"
    assert words.splitlines()[2].endswith(": settled")
    [released] = commands.json("hold", "list", "--released")["items"]
    assert released["release_reason"] == "settled"


@pytest.mark.parametrize(
    ("covers", "words"),
    [
        (("--provider", "thanx"), "provider: thanx"),
        (("--person", "email:jane@example.com"), "person: named by a keyed hash"),
        (
            ("--since", "2026-01-01T00:00:00Z", "--until", "2026-02-01T00:00:00Z"),
            "period: received from 2026-01-01T00:00:00.000000Z until 2026-02-01T00:00:00.000000Z",
        ),
    ],
)
def test_whatever_can_be_held(commands: Commands, covers: tuple[str, ...], words: str) -> None:
    """It is said in the list; a person is not."""
    commands.ok("init")
    placed = place(commands, *covers)

    assert commands.ok("hold", "list").splitlines()[0] == f"{placed['id']}  in force  {words}"


def test_a_release_erases_what_was_held_back(commands: Commands) -> None:
    """Without a service."""
    commands.ok("init")
    records = records_of(commands)
    [source] = new_sources(records, "default")
    [event] = source.write(revoked("r1"))
    records.close()
    placed = place(commands, "--source", source.endpoint.source.name)
    erase = ("erase", "--event", event.id, "--reason", "asked for", "--yes")
    assert placed["id"] in commands.refused(*erase)
    commands.ok("hold", "release", placed["id"], "--reason", "settled", "--key-file", key(commands, "Bob"))

    records = records_of(commands)
    try:
        assert source.rows()[0].event_data is None
        assert covered(records, event.id) is None
        assert wrong(records) == []
    finally:
        records.close()


def test_who_may_not(commands: Commands) -> None:
    """Whoever placed it, a key without the scope, one of another tenant, one that is revoked, and none at all."""
    commands.ok("init")
    placed = place(commands, "--provider", "thanx")
    release = ("hold", "release", placed["id"], "--reason", "settled")
    anns = str(commands.folder / "Ann-operate-default")

    assert "somebody else" in commands.refused(*release, "--key-file", anns)
    assert "the scope operate" in commands.refused(*release, "--key-file", key(commands, "Bob", "audit,admin"))
    elsewhere = key(commands, "Eve", "operate", "another")
    assert "unknown to the tenant default" in commands.refused(*release, "--key-file", elsewhere)
    assert "no hold" in commands.refused(*release, "--key-file", elsewhere, "--tenant", "another")
    bobs = key(commands, "Bob")
    commands.ok("key", "revoke", "Bob operate default")
    assert "expired or revoked" in commands.refused(*release, "--key-file", bobs)
    assert "--key-stdin" in commands.refused(*release, status=2)
    assert "--key-stdin" in commands.refused(*release, "--key-stdin", "--key-file", anns, status=2)
    assert commands.json("hold", "list")["items"] == [placed]


@pytest.mark.parametrize(
    ("covers", "said", "status"),
    [
        ((), "exactly one", 1),
        (("--provider", "thanx", "--source", "shop"), "exactly one", 1),
        (("--item", "receipt/r1"), "PROVIDER/TYPE/ID", 2),
        (("--source", "shop"), "no source", 1),
        (("--person", "jane"), "KIND:VALUE", 1),
        (("--since", "2026-01-01T00:00:00Z"), "since and until", 1),
    ],
)
def test_what_cannot_be_held(commands: Commands, covers: tuple[str, ...], said: str, status: int) -> None:
    """A sentence says why."""
    commands.ok("init")
    asked = ("hold", "place", *covers, "--reason", "why", "--key-file", key(commands, "Ann"))

    assert said in commands.refused(*asked, status=status)
