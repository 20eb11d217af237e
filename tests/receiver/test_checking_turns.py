"""Much of one item, and how little of it is read and judged in a transaction: deliveries wait for its lock."""

from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from receiver.assurance import related
from receiver.assurance.checking import judge_due, sources_to_check, take_up
from receiver.assurance.claims import claim_in
from receiver.events import Claim, Effect, Item, format_time
from receiver.records.opening import Records
from receiver.records.tables import checks
from tests.receiver.claims import GRACE, ORGANIZATION, Issuer, changes, check, deliver, reversed_, state_of, told
from tests.receiver.submissions import RECEIVED_AT, Source

GRACE_OVER = format_time(RECEIVED_AT + timedelta(seconds=GRACE))


@pytest.fixture
def issuer(records: Records) -> Issuer:
    """An issuer's log of which nothing is read yet."""
    return Issuer(records)


@pytest.fixture
def source(issuer: Issuer) -> Source:
    """A source that names it."""
    return issuer.source("scrip", ORGANIZATION)


def reverses(issuer: Issuer, reversal: str | None, amount: str | None = None) -> int:
    """Log a reversal of the redemption; the entry's index."""
    return issuer.says(
        "scrip", Effect.REVERSED, Item("redemption", "r1"), account=ORGANIZATION, operation=reversal, amount=amount
    )


def crowd(source: Source, number: int) -> list[str]:
    """Deliver that many reversals of the redemption; the ids of the events."""
    return [one.id for one in deliver(source, *(reversed_("r1", f"v{at}") for at in range(number)))]


def states(source: Source, events: list[str]) -> Counter[str | None]:
    """How many of the events are in which state."""
    return Counter(state_of(source.records, event) for event in events)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than five rows of an item are looked at together."""
    for module in ("receiver.assurance.related", "receiver.assurance.judging"):
        monkeypatch.setattr(f"{module}.MOST", 5)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indexes of the entries that are read, each time they are."""
    indexes: list[int] = []

    def noted(provider: str, entry: bytes | None) -> Claim | None:
        claim = claim_in(provider, entry)
        indexes.append(-1 if claim is None or claim.operation is None else int(claim.operation[1:]))
        return claim

    monkeypatch.setattr(related, "claim_in", noted)
    return indexes


@pytest.mark.usefixtures("few")
def test_what_a_crowd_is_judged_by_is_read_once(issuer: Issuer, source: Source, read: list[int]) -> None:
    """In a transaction, and not once for each event."""
    crowd(source, 40)
    for number in range(5):
        reverses(issuer, f"v{number}")
    issuer.read_at(GRACE_OVER)
    check(source.records)

    # With what is due, for its item, for its operation and for itself, and so once more after it woke its event.
    assert all(times <= 8 for times in Counter(read).values())


@pytest.mark.usefixtures("few")
def test_of_a_crowd_of_entries_none_is_read_for_an_event(issuer: Issuer, source: Source, read: list[int]) -> None:
    """But those of its operation: by them it is judged all the same."""
    confirmed, unknown = crowd(source, 2)
    for number in range(10):
        reverses(issuer, f"v{number if number != 1 else 20}")
    issuer.read_at(GRACE_OVER)
    check(source.records)
    assert (state_of(source.records, confirmed), state_of(source.records, unknown)) == ("confirmed", "pending")

    read.clear()
    with source.records.database.write() as tx:
        tx.execute(sa.update(checks).values(due_at=""))
    check(source.records)
    assert set(read) == {0}


@pytest.mark.usefixtures("few")
def test_a_new_entry_has_only_the_events_of_its_operation_judged(issuer: Issuer, source: Source) -> None:
    """Of a crowd the others cannot be decided by it: else each entry would have each event judged anew."""
    crowd(source, 20)
    issuer.read_at(None)
    check(source.records)
    reverses(issuer, "v3")
    reverses(issuer, "w0")
    issuer.read_at(None)

    tenant = source.endpoint.tenant
    assert [judge_due(source.records, tenant) for _ in range(3)] == [2, 1, 0]
    assert changes(source) == ["pending confirmed"]


@pytest.mark.usefixtures("few")
def test_large_entries_count_as_many(issuer: Issuer, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an item that has few of them they may still be too much to be read together."""
    monkeypatch.setattr(related, "BLOCK", 1)
    (event,) = crowd(source, 1)
    reverses(issuer, None)
    issuer.read_at(GRACE_OVER)
    check(source.records)

    assert (state_of(source.records, event), told(source, "gap")) == ("pending", [])


@pytest.mark.parametrize("bound", ["ROWS", "PAIRS"])
def test_groups_are_judged_a_few_at_a_time(
    issuer: Issuer, source: Source, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """What compares many rows with many takes long: the next group is for the next transaction."""
    monkeypatch.setattr(f"receiver.assurance.judging.{bound}", {"ROWS": 8, "PAIRS": 32}[bound])
    bodies = (reversed_(f"r{item}", f"v{item}-{at}") for item in range(4) for at in range(4))
    events = [one.id for one in deliver(source, *bodies)]
    issuer.read_at(GRACE_OVER)
    with source.records.database.read() as tx:
        (waiting,) = sources_to_check(tx)
    take_up(source.records, source.endpoint.tenant, waiting)

    dealt = [judge_due(source.records, source.endpoint.tenant) for _ in range(3)]
    assert dealt == [8, 8, 0]
    assert states(source, events) == {"absent": 16}
