"""Much of one item, several who judge at once, and what was erased: nothing is said that does not follow."""

import logging
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from receiver.assurance import related
from receiver.assurance.checking import judge_due, sources_to_check, take_up
from receiver.events import Effect, Item, format_time
from receiver.fsck import fsck
from receiver.records.engine import Database
from receiver.records.opening import Records
from receiver.records.tables import checks, claims, deliveries
from receiver.settings import Settings
from tests.receiver.claims import GRACE, ORGANIZATION, Issuer, changes, check, deliver, kept, reversed_, state_of, told
from tests.receiver.service import at_once
from tests.receiver.submissions import RECEIVED_AT, Source

REDEMPTION = Item("redemption", "r1")
GRACE_OVER = format_time(RECEIVED_AT + timedelta(seconds=GRACE))
LATE = format_time(RECEIVED_AT + timedelta(days=400))


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
    return issuer.says("scrip", Effect.REVERSED, REDEMPTION, account=ORGANIZATION, operation=reversal, amount=amount)


def crowd(source: Source, number: int) -> list[str]:
    """Deliver that many reversals of the redemption; the ids of the events."""
    return [one.id for one in deliver(source, *(reversed_("r1", f"v{at}") for at in range(number)))]


def states(source: Source, events: list[str]) -> Counter[str | None]:
    """How many of the events are in which state."""
    return Counter(state_of(source.records, event) for event in events)


# ---- much of one item -----------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than five rows of an item are looked at together."""
    for module in ("receiver.assurance.related", "receiver.assurance.judging"):
        monkeypatch.setattr(f"{module}.MOST", 5)


@pytest.mark.usefixtures("few")
def test_a_crowd_of_forgeries_is_absent(issuer: Issuer, source: Source) -> None:
    """Nobody hides that the issuer knows nothing of an event by sending many more."""
    events = crowd(source, 30)
    reverses(issuer, "v3")
    issuer.read_at(GRACE_OVER)
    check(source.records)

    assert states(source, events) == {"absent": 29, "confirmed": 1}
    assert state_of(source.records, events[3]) == "confirmed"
    assert told(source, "gap") == []


@pytest.mark.usefixtures("few")
def test_in_a_crowd_each_is_judged_by_its_operation(issuer: Issuer, source: Source) -> None:
    """As soon as its entry is there, also if that comes late; and so is each entry."""
    events = crowd(source, 10)
    issuer.read_at(None)
    check(source.records)
    assert states(source, events) == {"pending": 10}

    reverses(issuer, "v0", "1")
    issuer.read_at(GRACE_OVER)
    check(source.records)
    assert states(source, events) == {"confirmed": 1, "absent": 9}

    reverses(issuer, "v1")
    index = reverses(issuer, "v10")
    issuer.read_at(GRACE_OVER)
    check(source.records)
    assert state_of(source.records, events[1]) == "confirmed"
    assert [one.facts["late"] for one in told(source)][-1:] == [True]
    assert [kept(source.records, at).announced for at in (0, 1)] == [True, True]
    assert (kept(source.records, index).announced, told(source, "gap")) == (False, [])


@pytest.mark.usefixtures("few")
def test_in_a_crowd_what_is_confirmed_may_be_denied(issuer: Issuer, source: Source) -> None:
    """A new entry is about every event of its operation, whatever is known of that."""
    events = crowd(source, 10)
    reverses(issuer, "v0")
    issuer.read_at(None)
    check(source.records)
    issuer.says("scrip", Effect.REJECTED, REDEMPTION, account=ORGANIZATION, operation="v0")
    issuer.read_at(None)
    check(source.records)

    assert changes(source) == ["pending confirmed", "confirmed contradicted"]
    assert states(source, events) == {"contradicted": 1, "pending": 9}


@pytest.mark.usefixtures("few")
def test_what_a_crowd_leaves_open_stays_open(issuer: Issuer, source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """Which of many acts an entry without an operation is of is not looked into; it is said, and looked at again."""
    events = crowd(source, 10)
    index = reverses(issuer, None)
    issuer.read_at(GRACE_OVER)
    with caplog.at_level(logging.WARNING):
        check(source.records)

    assert states(source, events) == {"pending": 10}
    assert "11 events and entries" in caplog.text
    assert told(source, "gap") == []
    with source.records.database.read() as tx:
        due = set(tx.execute(sa.select(checks.c.due_at)).scalars()) | {kept(source.records, index).due_at}
    assert all(one > GRACE_OVER for one in due)


@pytest.mark.usefixtures("few")
def test_a_crowd_of_entries(issuer: Issuer, source: Source) -> None:
    """What an event may be among many is not looked into either, and what nobody tells of is a gap."""
    (event,) = crowd(source, 1)
    for _ in range(10):
        reverses(issuer, None)
    issuer.read_at(GRACE_OVER)
    check(source.records)
    assert (state_of(source.records, event), told(source, "gap")) == ("pending", [])

    silent = Issuer(source.records)
    other = silent.source("scrip", ORGANIZATION, "elsewhere")
    for number in range(10):
        reverses(silent, f"w{number}")
    silent.read_at(GRACE_OVER)
    check(source.records)
    assert len(told(other, "gap")) == 10


@pytest.mark.usefixtures("few")
def test_a_crowd_grows_without_being_judged_anew(issuer: Issuer, source: Source) -> None:
    """One event more is judged, and the gap that it may end; not all that came before. No forgery ends it."""
    reverses(issuer, "w0")
    issuer.read_at(GRACE_OVER)
    check(source.records)
    crowd(source, 10)
    check(source.records)
    deliver(source, reversed_("r1", "v10"))
    with source.records.database.read() as tx:
        (waiting,) = sources_to_check(tx)
    take_up(source.records, source.endpoint.tenant, waiting)

    assert [judge_due(source.records, source.endpoint.tenant) for _ in range(2)] == [2, 0]
    assert [one.facts["state"] for one in told(source, "gap")] == ["open"]


@pytest.mark.usefixtures("few")
def test_other_items_are_judged_as_ever(issuer: Issuer, source: Source) -> None:
    """A crowd holds up nothing else."""
    crowd(source, 10)
    (event,) = deliver(source, reversed_("r2", "w1"))
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r2"), account=ORGANIZATION)
    issuer.read_at(None)
    check(source.records)

    assert state_of(source.records, event.id) == "confirmed"


def test_a_transaction_is_no_longer_than_it_may_be(
    issuer: Issuer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much for one is judged in several; one thing at least in each."""
    monkeypatch.setattr(related, "AT_ONCE", 4)
    events = [one.id for one in deliver(source, *(reversed_(f"r{at}", f"v{at}") for at in range(8)))]
    issuer.read_at(GRACE_OVER)
    tenant = source.records.tenant("default")
    with source.records.database.read() as tx:
        (waiting,) = sources_to_check(tx)
    take_up(source.records, tenant, waiting)
    dealt = [judge_due(source.records, tenant) for _ in range(5)]

    assert dealt == [2, 2, 2, 2, 0]
    assert states(source, events) == {"absent": 8}


def test_at_most_so_many_are_judged(issuer: Issuer, source: Source) -> None:
    """As many as are asked for, of events and entries together."""
    deliver(source, *(reversed_(f"r{at}", f"v{at}") for at in range(4)))
    for at in range(4):
        issuer.says("scrip", Effect.REVERSED, Item("redemption", f"s{at}"), account=ORGANIZATION)
    issuer.read_at(GRACE_OVER)
    check(source.records)
    with source.records.database.write() as tx:
        tx.execute(sa.update(checks).values(due_at=""))
        tx.execute(sa.update(claims).values(due_at=""))

    tenant = source.records.tenant("default")
    assert [judge_due(source.records, tenant, 3) for _ in range(4)] == [3, 3, 2, 0]


@pytest.mark.parametrize("bound", ["ROUNDS", "AT_ONCE"])
def test_what_hangs_together_far_away_is_not_followed(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Neither further than acts reach, nor beyond what a transaction may read: then each is judged for itself."""
    monkeypatch.setattr(related, bound, 1)
    source = issuer.source("scrip", ORGANIZATION)
    events = [one.id for one in deliver(source, reversed_("r1", "v1"), reversed_("r1", "v2"))]
    reverses(issuer, "v1")
    issuer.read_at(GRACE_OVER)
    check(source.records)

    assert [state_of(source.records, event) for event in events] == ["confirmed", "absent"]


# ---- several at once ------------------------------------------------------------------------------------------------


def test_whoever_judges_each_change_is_told_once(issuer: Issuer, source: Source, settings: Settings) -> None:
    """Four receivers on one database, while entries and events come."""
    events = crowd(source, 12)
    for number in range(6):
        reverses(issuer, f"v{number}")
    reverses(issuer, "w0")
    issuer.read_at(GRACE_OVER)
    others = [source.records, *(Records.open(settings) for _ in range(3))]

    at_once(8, lambda number: check(others[number % 4]))

    assert states(source, events) == {"confirmed": 6, "absent": 6}
    assert sorted(changes(source)) == ["pending absent"] * 6 + ["pending confirmed"] * 6
    assert len({one.facts["first"] for one in told(source)}) == 12
    assert [one.facts["state"] for one in told(source, "gap")] == ["open"]
    assert not fsck(source.records).findings
    for records in others[1:]:
        records.close()


def test_a_failure_leaves_everything_as_it_was(issuer: Issuer, source: Source) -> None:
    """What was judged, and what was to be told of it, is one transaction."""
    crowd(source, 3)
    reverses(issuer, "v0")
    issuer.read_at(None)
    with source.records.database.write() as tx:
        tx.execute(sa.text("ALTER TABLE claims RENAME COLUMN announced TO away"))
    size = source.endpoint.tenant.log.head().size
    with pytest.raises(DatabaseError):
        check(source.records)
    with source.records.database.write() as tx:
        tx.execute(sa.text("ALTER TABLE claims RENAME COLUMN away TO announced"))
    assert source.endpoint.tenant.log.head().size == size

    check(source.records)
    assert changes(source) == ["pending confirmed"]


# ---- what was erased ------------------------------------------------------------------------------------------------


def erase(records: Records, event_id: str) -> None:
    """Take away what an event says, as an erasure does."""
    with records.database.write() as tx:
        its_row = sa.update(deliveries).where(deliveries.c.id == event_id)
        tx.execute(its_row.values(event_data=None, event_salt=None, body=None, headers=None, delivery_salt=None))


def judge_everything(records: Records) -> None:
    """Have everything judged once more."""
    with records.database.write() as tx:
        tx.execute(sa.update(checks).values(due_at=""))
        tx.execute(sa.update(claims).values(due_at=""))
    check(records)


def test_what_an_erased_event_announced_stays_announced(issuer: Issuer, source: Source) -> None:
    """And the event stays what it was."""
    (event,) = deliver(source, reversed_("r1", "v1"))
    index = reverses(issuer, "v1")
    issuer.read_at(GRACE_OVER)
    check(source.records)
    erase(source.records, event.id)
    issuer.read_at(LATE)
    judge_everything(source.records)

    assert changes(source) == ["pending confirmed"]
    assert (kept(source.records, index).announced, kept(source.records, index).due_at) == (True, None)
    assert told(source, "gap") == []


def test_an_erased_event_may_have_announced_what_is_not_announced(issuer: Issuer, source: Source) -> None:
    """So that is no gap; and what is pending stays so."""
    (event,) = deliver(source, reversed_("r1", "v1"))
    check(source.records)
    erase(source.records, event.id)
    index = reverses(issuer, "v1")
    issuer.read_at(LATE)
    check(source.records)

    assert (state_of(source.records, event.id), told(source, "gap")) == ("pending", [])
    assert kept(source.records, index).due_at is None


def test_what_an_erased_entry_confirmed_stays_confirmed(issuer: Issuer, source: Source) -> None:
    """And what it may have confirmed is not absent: nothing will be known of it."""
    confirmed, pending = deliver(source, reversed_("r1", "v1"), reversed_("r1", "v2"))
    reverses(issuer, "v1")
    issuer.read_at(None)
    check(source.records)
    with source.records.database.write() as tx:
        tx.execute(sa.update(claims).values(entry=None, proof=None))
    issuer.entries.clear()
    reverses(issuer, "v3")
    issuer.read_at(LATE)
    judge_everything(source.records)

    assert [state_of(source.records, one.id) for one in (confirmed, pending)] == ["confirmed", "none"]
    assert changes(source) == ["pending confirmed", "pending none"]


@pytest.mark.usefixtures("few")
def test_in_a_crowd_as_well(issuer: Issuer, source: Source) -> None:
    """What is erased is judged for itself, and says nothing."""
    events = crowd(source, 10)
    check(source.records)
    erase(source.records, events[0])
    index = reverses(issuer, "v0")
    issuer.read_at(GRACE_OVER)
    check(source.records)

    assert states(source, events) == {"absent": 9, "pending": 1}
    assert state_of(source.records, events[0]) == "pending"
    assert not kept(source.records, index).announced


# ---- how it is looked up --------------------------------------------------------------------------------------------


def test_what_is_due_is_found_by_when_it_is(sqlite_database: Database) -> None:
    """However much there is that is not: no table is gone through from one end to the other."""
    slow: list[str] = []
    queries = [
        sa.select(table.c.due_at)
        .where(table.c.issuer_log_id == "x", table.c.due_at <= "y", table.c.tenant_id == 1)
        .order_by(table.c.due_at)
        .limit(9)
        for table in (checks, claims)
    ]
    with sqlite_database.read() as tx:
        for query in queries:
            text = str(query.compile(tx.engine, compile_kwargs={"literal_binds": True}))
            plan = " / ".join(row.detail for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
            if "_due (issuer_log_id=? AND due_at<?)" not in plan or "TEMP B-TREE" in plan:
                slow.append(plan)

    assert slow == []
