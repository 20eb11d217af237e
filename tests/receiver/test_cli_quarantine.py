"""`receiver quarantine`: what is in quarantine, and reading it again by command."""

import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.audit import quarantined
from receiver.records.opening import Records
from receiver.records.tables import deliveries
from tests.receiver.commands import Commands
from tests.receiver.service import Sender, Service, revoked, running, settings_in

ORIGIN = "example.com/rescind"


@dataclass(frozen=True, slots=True)
class Kept:
    """A running service with a source and four deliveries in quarantine, and commands on its data folder."""

    commands: Commands
    service: Service
    sender: Sender
    ids: tuple[str, ...]

    @property
    def name(self) -> str:
        """The source's."""
        return self.sender.endpoint.source.name

    def run(self, *arguments: str) -> str:
        """Run a command of the group that must succeed; what it printed."""
        return self.commands.ok("quarantine", *arguments)

    def json(self, *arguments: str) -> dict[str, Any]:
        """The same with --json."""
        return self.commands.json("quarantine", *arguments)

    def set_account(self, account: str | None) -> None:
        """Change the source's account."""
        with self.service.records.database.write() as tx:
            statement = sa.text("UPDATE sources SET account = :account WHERE id = :id")
            tx.execute(statement, {"account": account, "id": self.sender.source_id})


@pytest.fixture
def kept(tmp_path: Path) -> Generator[Kept]:
    """Two of another account, the second of which tells the first one's notice, one of no known type, and no JSON."""
    with running(settings_in(tmp_path)) as service:
        sender = service.add_source()
        bodies = (
            revoked("a", tenant_id="another"),
            revoked("a", tenant_id="another", note="x"),
            b'{"event_type":"receipt.melted"}',
            b"{",
        )
        ids = tuple(sender.post(body).json()["quarantine_id"] for body in bodies)
        yield Kept(Commands(tmp_path), service, sender, ids)


# ---- list ---------------------------------------------------------------------------------------------------------


def test_a_list_in_words(kept: Kept) -> None:
    """One line each, newest first, with the source's name."""
    rows = kept.sender.rows()

    lines = kept.run("list").splitlines()

    assert lines == [
        f"{row.id}  {row.reason}  source {kept.name}  received {row.received_at}  {len(row.body)} bytes"
        for row in reversed(rows)
    ]


def test_a_list_as_json(kept: Kept) -> None:
    """The same as by HTTP."""
    answer = kept.service.client.get("/v1/quarantine", headers=kept.service.key()).json()

    assert kept.json("list")["items"] == answer["items"]


def test_a_list_of_some(kept: Kept) -> None:
    """By source, name or id, and by reason; those that were reprocessed only with --all."""

    def listed(*arguments: str) -> list[str]:
        return [item["id"] for item in kept.json("list", *arguments)["items"]]

    kept.service.add_source().post(b"[")
    first, second, third, fourth = kept.ids
    assert len(listed()) == 5
    assert listed("--source", kept.name) == listed("--source", kept.sender.source_id) == [fourth, third, second, first]
    assert listed("--source", kept.name, "--reason", "other_account") == [second, first]
    kept.set_account("another")
    kept.run("reprocess", first)
    assert listed("--reason", "other_account") == [second]
    assert listed("--reason", "other_account", "--all") == [second, first]
    assert re.search(r"  reprocessed 20[^ ]+Z: recorded\n$", kept.run("list", "--reason", "other_account", "--all"))


def test_a_long_list(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, however many are read at a time."""
    whole = kept.run("list")
    for size in (1, 2, 3, 4):
        monkeypatch.setattr(quarantined, "_PAGE", size)
        assert kept.run("list") == whole


def test_nothing_there(tmp_path: Path) -> None:
    """It says so."""
    commands = Commands(tmp_path)
    commands.ok("init")
    assert commands.ok("quarantine", "list") == "Nothing is in quarantine.\n"
    assert commands.ok("quarantine", "reprocess", "--all") == "Nothing is in quarantine.\n"
    assert commands.json("quarantine", "reprocess", "--all") == {"items": [], "counts": {}}


# ---- reprocess ----------------------------------------------------------------------------------------------------


def test_by_id(kept: Kept) -> None:
    """In the order given, a line each, while the service runs; it sees what was recorded, and publishes it."""
    first, _, _, fourth = kept.ids
    kept.set_account("another")

    printed = kept.run("reprocess", fourth, first)

    row = kept.sender.rows()[-1]
    assert printed.splitlines() == [
        f"{fourth}  quarantined  not_json",
        f"{first}  recorded  event {row.id}, entry {row.log_index}",
        "2 read again: 1 quarantined, 1 recorded.",
    ]
    kept.service.until_published()
    evidence = kept.service.client.get(f"/v1/events/{row.id}/evidence", headers=kept.service.key())
    assert evidence.status_code == 200
    kept.service.refresh()
    assert kept.sender.post(row.body).json()["status"] == "duplicate"
    assert "nothing is wrong" in kept.commands.ok("fsck")


def test_all_of_a_source(kept: Kept) -> None:
    """Oldest first, as rules and duplicates must see them; what is done is not done again."""
    kept.set_account("another")

    done = kept.json("reprocess", "--source", kept.name)

    event, mismatch = kept.sender.rows()[-2:]
    assert [(item["id"], item["status"]) for item in done["items"]] == [
        (kept.ids[0], "recorded"),
        (kept.ids[1], "mismatch"),
        (kept.ids[2], "quarantined"),
        (kept.ids[3], "quarantined"),
    ]
    assert done["counts"] == {"recorded": 1, "mismatch": 1, "quarantined": 2}
    answers = [
        kept.service.client.post(f"/v1/quarantine/{one}/reprocess", headers=kept.service.key("operate")).json()
        for one in kept.ids
    ]
    assert done["items"] == [{"id": one, **answer} for one, answer in zip(kept.ids, answers, strict=True)]
    assert (event.kind, mismatch.first_id) == ("revocation", event.id)
    assert kept.json("reprocess", "--all")["counts"] == {"quarantined": 2}


def test_some_of_a_source(kept: Kept) -> None:
    """By reason, with a source or of all."""
    for arguments in (("--source", kept.name), ("--all",)):
        done = kept.json("reprocess", *arguments, "--reason", "unknown_type")
        assert [(item["id"], item["status"]) for item in done["items"]] == [(kept.ids[2], "quarantined")]


def test_what_is_ignored_now(kept: Kept) -> None:
    """It is said to be, and is in quarantine no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("receiver.providers.truthlocks._IGNORED", frozenset({"receipt.melted"}))
        printed = kept.run("reprocess", kept.ids[2])

    assert printed == f"{kept.ids[2]}  ignored\n1 read again: 1 ignored.\n"
    assert kept.ids[2] not in kept.run("list")


def test_a_copy_of_what_is_erased(kept: Kept) -> None:
    """Once it is known to be one, it is erased as well, at once."""
    copy = kept.sender.post(revoked("a", tenant_id="another") + b" ").json()["quarantine_id"]
    kept.set_account("another")
    kept.run("reprocess", kept.ids[0])
    kept.commands.ok("erase", "--item", "truthlocks/receipt/a", "--reason", "asked for", "--yes")

    printed = kept.run("reprocess", copy)

    assert printed.startswith(f"{copy}  duplicate  event ")
    assert {row.id: row.body for row in kept.sender.rows()}[copy] is None
    assert "nothing is wrong" in kept.commands.ok("fsck")


def test_what_cannot_be_read(kept: Kept) -> None:
    """A sentence for each on standard error, the others are read; exit status 1."""
    nobody = "0198a1b2-0000-7000-8000-000000000000"
    kept.set_account("another")
    with kept.service.records.database.write() as tx:
        gone = dict.fromkeys(("headers", "body", "delivery_salt"))
        tx.execute(sa.update(deliveries).where(deliveries.c.id == kept.ids[3]).values(**gone))

    result = kept.commands.run("quarantine", "reprocess", nobody, kept.ids[3], kept.ids[0])
    as_json = kept.commands.run("quarantine", "reprocess", nobody, "--json")
    everything = kept.json("reprocess", "--all")

    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"{nobody}  failed  there is no quarantined delivery '{nobody}'",
        f"{kept.ids[3]}  failed  the quarantined delivery {kept.ids[3]} is erased: there is nothing left to read",
    ]
    assert result.stdout.splitlines()[-1] == "3 read again: 2 failed, 1 recorded."
    assert (as_json.exit_code, '"status": "failed"' in as_json.stdout) == (1, True)
    assert kept.ids[3] not in [item["id"] for item in everything["items"]]


def test_another_tenants(kept: Kept) -> None:
    """It is not there."""
    kept.service.records.ensure_tenant("second")

    assert kept.run("list", "--tenant", "second") == "Nothing is in quarantine.\n"
    result = kept.commands.run("quarantine", "reprocess", kept.ids[0], "--tenant", "second")
    assert (result.exit_code, "there is no quarantined delivery" in result.stderr) == (1, True)


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("reprocess",), 2, "give ids, or --source, or --all"),
        (("reprocess", "x", "--all"), 2, "give ids, or --source, or --all"),
        (("reprocess", "--all", "--source", "s"), 2, "give ids, or --source, or --all"),
        (("reprocess", "x", "--reason", "not_json"), 2, "--reason goes with --source or --all"),
        (("reprocess", "--all", "--reason", "melted"), 2, "'melted' is not one of 'not_json'"),
        (("reprocess", "--source", "s"), 1, "there is no source 's'; known: none"),
        (("reprocess", "--all", "--tenant", "nobody"), 1, "there is no tenant 'nobody'"),
        (("list", "--source", "s"), 1, "there is no source 's'; known: none"),
        (("list", "--source", ""), 2, "'' must be 1 to 256 printable characters"),
        (("list", "--tenant", "nobody"), 1, "there is no tenant 'nobody'"),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    """With a sentence that says what to do."""
    commands = Commands(tmp_path)
    commands.ok("init")

    assert says in commands.refused("quarantine", *arguments, status=status)


def test_a_database_that_was_put_back(tmp_path: Path) -> None:
    """What its guard refuses is not written to by a command either."""
    commands = Commands(tmp_path)
    commands.ok("init", "--origin", ORIGIN)
    before = {file.name: file.read_bytes() for file in commands.data.iterdir()}
    with running(settings_in(tmp_path)) as service:
        service.add_source().post(b"{")
        service.until_published()
    for file in commands.data.iterdir():
        file.unlink()
    for name, data in before.items():
        (commands.data / name).write_bytes(data)

    said = commands.refused("quarantine", "reprocess", "--all")

    assert "receiver recover" in said
    records = Records.open(settings_in(tmp_path), check=False)
    assert records.tenant("default").log.head().size == 1
    records.close()
