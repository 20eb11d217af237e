"""Claims: what an event, and an entry of an issuer's log, say of one act."""

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from receiver.assurance.claims import claim_in, claim_of
from receiver.events import Claim, Effect, Event, Extent, Item, Kind
from receiver.records.findings import IS_CHECKED
from receiver.records.keyed import item_key, operation_key
from receiver.records.opening import Records
from receiver.records.tables import deliveries
from tests.receiver.claims import ORGANIZATION, deliver, new_source, reversed_
from translog.canonical import Value, encode

AT = datetime(2026, 11, 20, 8, 59, 58, tzinfo=UTC)
UUID = "3f0c8f1e-7a51-4f0e-9f5d-0a6b3a1c2b3d"
KEY = bytes(32)

EVENT = Event(
    kind=Kind.REVOCATION,
    type="redemption.reversed",
    item=Item("redemption", "r1"),
    effect=Effect.REVERSED,
    extent=Extent.PARTIAL,
    account="org_1",
    operation="v1",
    occurred_at=AT,
    occurred_from="data.created_at",
    amount="40.00",
    quantity="2",
    reason="because",
    details={"asset_id": "a1"},
)
CLAIM = Claim(
    account="org_1",
    item=Item("redemption", "r1"),
    operation="v1",
    effect=Effect.REVERSED,
    amount="40.00",
    quantity="2",
    at=AT,
)
ENTRY: dict[str, Value] = {
    "account": "org_1",
    "amount": "40.00",
    "at": "2026-11-20T08:59:58Z",
    "effect": "reversed",
    "event": None,
    "item": {"id": "r1", "type": "redemption"},
    "operation": "v1",
    "provider": "scrip",
    "quantity": "2",
}


def test_what_an_event_says() -> None:
    """Its effect, and of its data what an entry can be compared by."""
    assert claim_of("reversed", EVENT.data()) == CLAIM


def test_what_an_event_does_not_say() -> None:
    """Is None."""
    said = {**json.loads(EVENT.data()), **dict.fromkeys(("account", "amount", "occurred_at", "operation", "quantity"))}

    assert claim_of("reversed", json.dumps(said).encode()) == Claim(
        None, Item("redemption", "r1"), None, Effect.REVERSED, None, None, None
    )


@pytest.mark.parametrize(("effect", "data"), [(None, EVENT.data()), ("refused", EVENT.data()), ("reversed", None)])
def test_what_is_never_checked(effect: str | None, data: bytes | None) -> None:
    """Context, what was refused, and what is erased."""
    assert claim_of(effect, data) is None


def test_what_an_entry_says() -> None:
    """As its provider's module reads it."""
    assert claim_in("scrip", encode(ENTRY)) == CLAIM


@pytest.mark.parametrize(
    ("provider", "entry"),
    [
        ("scrip", None),
        ("scrip", b"{"),
        ("thanx", encode(ENTRY)),
        ("scrip", encode({**ENTRY, "effect": "undone"})),
    ],
    ids=["erased", "not JSON", "another provider's", "not as it has to be"],
)
def test_entries_that_say_nothing(provider: str, entry: bytes | None) -> None:
    """None of them is any act."""
    assert claim_in(provider, entry) is None


def test_the_rows_that_can_be_checked(records: Records) -> None:
    """Those that a claim is made of, and no others."""
    source = new_source(records, "scrip", ORGANIZATION)
    context = json.dumps({**json.loads(reversed_("r1", "v1")), "type": "redemption.completed"}).encode()
    deliver(source, reversed_("r1", "v1"), context, reversed_("r1", "v1", "2"), b"{", reversed_("r2", "v2"))
    query = sa.select(deliveries.c.kind, deliveries.c.effect, deliveries.c.event_data, IS_CHECKED.label("checked"))
    with records.database.read() as tx:
        rows = tx.execute(query.order_by(deliveries.c.log_index)).all()

    assert [bool(row.checked) for row in rows] == [True, False, False, False, True]
    events = [row for row in rows if row.kind == Kind.REVOCATION]
    assert [claim_of(row.effect, row.event_data) is not None for row in events] == [True, True]


def test_an_operation_has_a_key_of_its_own() -> None:
    """Another than its item's, the same for a UUID in either case, and each provider's and tenant's another one."""
    key = operation_key(KEY, "scrip", UUID)

    assert key == operation_key(KEY, "scrip", UUID.upper())
    assert len({key, operation_key(KEY, "thanx", UUID), operation_key(bytes([1] * 32), "scrip", UUID)}) == 3
    assert operation_key(KEY, "scrip", "v") != operation_key(KEY, "scrip", "V")
    assert key != item_key(KEY, "scrip", Item("", UUID))
    assert len(key) == 16
