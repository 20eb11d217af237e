"""`receiver person`: what is kept about a person, by the real command."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.erasure.placing import Place, place
from receiver.events import CrossCheck, Kind
from receiver.records.apikeys import Scope, create_key, find_key
from receiver.records.findings import Finding, keep
from receiver.records.giving import give
from receiver.records.journal import change
from receiver.records.opening import Records
from tests.receiver.claims import ORGANIZATION, deliver, new_source, reversed_
from tests.receiver.commands import Commands
from translog.evidence import Delivery

JANE = "customer_id:jane"


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder with records that were just made."""
    commands = Commands(tmp_path)
    commands.ok("init")
    return commands


@contextmanager
def opened(commands: Commands) -> Generator[Records]:
    """The records in that folder, for as long as no command runs."""
    records = commands.records()
    yield records
    records.close()


def fill(commands: Commands, *bodies: bytes) -> list[str]:
    """Deliver these; the ids of what was recorded."""
    with opened(commands) as records:
        return [one.id for one in deliver(new_source(records, "scrip", ORGANIZATION), *bodies)]


def redeemed(name: str, participant: str = "jane", **members: Any) -> bytes:
    """The body of a `redemption.reversed` that names a participant."""
    return reversed_(name, f"reversal of {name}", "1", participant_id=participant, **members)


def test_which_deliveries_name_a_person(commands: Commands) -> None:
    """With ids, items, times and sources; found though nothing has caught up with them."""
    first, _, third = fill(commands, redeemed("a"), redeemed("b", "john"), b'{"type":"x","participant_id":"jane"}')
    told = commands.json("person", "find", JANE)

    assert (told["count"], [one["id"] for one in told["items"]]) == (2, [first, third])
    event, unread = told["items"]
    assert (event["kind"], event["event"], event["item"]) == (
        "revocation",
        "redemption.reversed",
        {"type": "redemption", "id": "a"},
    )
    assert (unread["kind"], unread["item"]) == ("quarantine", None)
    assert {"provider", "source", "source_name", "received_at", "occurred_at", "log_index"} <= event.keys()
    lines = commands.ok("person", "find", JANE).splitlines()
    assert [line.split("  ")[0] for line in lines] == [first, third, "2 name this customer id."]
    assert commands.ok("person", "find", "email:nobody@example.com") == "0 name this email address.\n"


def test_everything_about_a_person(commands: Commands) -> None:
    """The event's data, the delivery as it came, and what was found out; of nobody else."""
    body = redeemed("a")
    its_id, _ = fill(commands, body, redeemed("b", "john"))
    told = commands.json("person", "report", JANE)

    assert told["person"] == {"kind": "customer_id", "value": "jane"}
    assert (told["count"], told["given_out"], told["holds"]) == (1, [], [])
    (one,) = told["items"]
    assert (one["id"], one["names_person"], one["found_out"]) == (its_id, True, [])
    assert one["body"] == {"text": body.decode(), "base64": None}
    assert one["data"]["details"]["participant_id"] == "jane"
    assert one["headers"] == {"x-signed": "so"}
    words = commands.ok("person", "report", "customer_id: jane ")
    assert words.startswith("What is kept about the customer id jane: 1 entries.\n")
    assert body.decode() in words
    assert "john" not in words
    assert "Given to nobody." in words


def test_what_repeats_it_comes_with_it(commands: Commands) -> None:
    """A mismatch that names somebody else is of the same notice; it says that it does not name the person."""
    fill(commands, redeemed("a"), redeemed("a", "john"))
    items = commands.json("person", "report", JANE)["items"]

    assert [(one["kind"], one["names_person"]) for one in items] == [("revocation", True), ("mismatch", False)]
    assert "it repeats what one says that does" in commands.ok("person", "report", JANE)


def test_what_was_found_out_and_given_out_and_is_held(commands: Commands) -> None:
    """The provider's record, whose bytes are no text; who was given evidence; and which hold keeps it."""
    (its_id,) = fill(commands, redeemed("a"))
    with opened(commands) as records:
        tenant = records.tenant("default")
        key_id, text = create_key(records, tenant, "dpo", frozenset({Scope.OPERATE}))
        key = find_key(records, text, datetime.now(UTC))
        assert key is not None
        facts = {"by": "provider_record", "first": its_id, "late": False, "provider": "scrip", "was": "pending"}
        record = Delivery((), b"\xff")
        finding = Finding(Kind.CROSS_CHECK, CrossCheck.CONFIRMED, facts, delivery=record, event_id=its_id)
        with change(records.database, tenant.log) as changing:
            kept = keep(changing, tenant, finding)
            give(changing.tx, tenant, key_id, entry_id=its_id)
            give(changing.tx, tenant, key_id, entry_id=kept.id)
            give(changing.tx, tenant, key_id, entry_id="another")
        hold = place(records, tenant, Place(person=JANE, reason="a lawsuit"), key)
    told = commands.json("person", "report", JANE)

    (found,) = told["items"][0]["found_out"]
    assert (found["id"], found["state"], found["body"]) == (kept.id, "confirmed", {"text": None, "base64": "/w=="})
    assert [(one["entry_id"], one["given_to"]) for one in told["given_out"]] == [(its_id, key_id), (kept.id, key_id)]
    assert [(one["id"], one["target"]) for one in told["holds"]] == [(hold.id, "person")]
    words = commands.ok("person", "report", JANE)
    assert f"the evidence of {its_id} to {key_id}" in words
    assert "Not to be erased before these holds are released:" in words


def test_what_was_delivered_writes_nothing_on_the_terminal(commands: Commands) -> None:
    """Control characters in a body are told, not obeyed."""
    fill(commands, json.dumps({"type": "x", "participant_id": "jane", "note": "\x9b31m"}, ensure_ascii=False).encode())
    words = commands.ok("person", "report", JANE)

    assert "\x9b" not in words
    assert "\\u{9b}31m" in words


def test_a_person_is_erased(commands: Commands) -> None:
    """With what repeats it, and for good; then nothing names them, and to erase them again takes nothing."""
    fill(commands, redeemed("a"), redeemed("a", "john"), redeemed("b", "john"))
    erase = ("person", "erase", JANE, "--reason", "asked for", "--yes")
    told = commands.json(*erase)

    assert (told["target"], told["state"], told["erased"], len(told["entries"])) == ("person", "completed", 2, 1)
    assert commands.ok("person", "find", JANE) == "0 name this customer id.\n"
    assert commands.json("person", "report", JANE)["items"] == []
    assert commands.json("person", "find", "customer_id:john")["count"] == 1
    assert commands.json(*erase)["erased"] == 0
    assert commands.ok(*erase).startswith("Nothing is kept of it that could be erased.")
    assert commands.run("fsck").exit_code == 0


def test_whether_it_is_meant_is_asked(commands: Commands) -> None:
    """Where there is no terminal to ask on, it has to have been said."""
    fill(commands, redeemed("a"))

    assert "say --yes" in commands.refused("person", "erase", JANE, "--reason", "asked for", status=2)
    assert commands.json("person", "find", JANE)["count"] == 1


@pytest.mark.parametrize("command", ["find", "report", "erase"])
def test_who_is_no_person(commands: Commands, command: str) -> None:
    """The kinds are told, and not what was given; nor is there anything of a tenant that is not there."""
    more = ["--reason", "asked for", "--yes"] if command == "erase" else []
    told = commands.refused("person", command, "jane@example.com", *more, status=2)
    assert "KIND is one of email, mobile, external_id, card_number, customer_id" in told
    assert "jane" not in told

    assert "there is no tenant 'acme'" in commands.refused("person", command, JANE, *more, "--tenant", "acme")
