"""`receiver.assurance.outbox`: what is wanted of the log is put down once, sent when due, and given up in the end."""

from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver.assurance import outbox
from receiver.assurance.outbox import JITTER, LEASE, WAITS, Claimed, Due, again, claim, fill, settle
from receiver.assurance.sending import Result
from receiver.assurance.subscribing import (
    KINDS,
    Added,
    Replay,
    Replaying,
    Resubscribe,
    SubscriptionError,
    replay,
    resubscribe,
    unsubscribe,
)
from receiver.events import format_time, parse_time
from receiver.records.opening import Records
from receiver.records.tables import deliveries, subscriptions
from tests.receiver.service import at_once, receipt_id, revoked
from tests.receiver.sites import local_site, lose
from tests.receiver.subscribers import allow_loopback, findings, listed, record, rows, source, subscribe

URL = "http://127.0.0.1:9/"
TAKEN, FAILED = Result(None, 204), Result("answered 500", 500)


@pytest.fixture
def records(records: Records) -> Records:
    """Records whose subscriptions may call this machine."""
    return allow_loopback(records)


def fill_all(records: Records) -> None:
    """Fill until there is no more."""
    while fill(records):
        pass


def waiting(records: Records, added: Added) -> list[int]:
    """The indexes of the entries that a subscription's outbox is about."""
    return [row.log_index for row in rows(records) if row.subscription_id == added.subscription.id]


def take(records: Records, added: Added, most: int = 2, now: datetime | None = None) -> list[Claimed]:
    """Claim what is due of a subscription."""
    return claim(records, {added.subscription.id: most}, now or datetime.now(UTC))


def every_kind(records: Records) -> dict[str, list[int]]:
    """Entries of every topic, and their indexes by it."""
    made = source(records)
    receipt = receipt_id()
    made.write(revoked(receipt))
    made.write(revoked(receipt, more=1))
    made.write(b"not json")
    (event_id,) = record(made)
    its = [one.log_index for one in findings(records, made, event_id)]
    with records.database.read() as tx:
        of_kind = dict(tx.execute(sa.select(deliveries.c.log_index, deliveries.c.kind)).all())
    found = {topic: [index for index, kind in of_kind.items() if kind in kinds] for topic, kinds in KINDS.items()}
    return {**found, **dict(zip(("cross_check", "gap", "fork", "silence"), ([at] for at in its), strict=True))}


# ---- filling --------------------------------------------------------------------------------------------------------


def test_each_topic_is_passed_on_by_itself(records: Records) -> None:
    """The entries of its kinds and no others; several topics together are all of theirs, in the log's order."""
    made = {topic: subscribe(records, URL, topic) for topic in KINDS}
    several = subscribe(records, URL, *KINDS)
    indexes = every_kind(records)
    fill_all(records)

    assert {topic: waiting(records, added) for topic, added in made.items()} == indexes
    assert len(indexes["recorded"]) == 2
    assert all(len(found) == 1 for topic, found in indexes.items() if topic != "recorded")
    assert waiting(records, several) == sorted(chain(*indexes.values()))
    assert fill(records) is False


def test_nothing_is_put_down_twice_or_left_out(records: Records) -> None:
    """However often it is filled, and by however many at once."""
    made, added = source(records), subscribe(records, URL, "recorded")
    expected: list[int] = []
    for _ in range(4):
        record(made, 5)
        at_once(4, lambda _: fill_all(records))
        expected = waiting(records, added)
    assert len(expected) == 20
    assert expected == sorted(set(expected))
    assert listed(records, added).waiting == 20


def test_where_nothing_is_wanted_nothing_is_written(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription's place in the log moves with what is passed on, and now and then."""
    made, added = source(records), subscribe(records, URL, "silence")
    before = listed(records, added).next_index
    record(made, 5)
    fill_all(records)
    assert listed(records, added).next_index == before
    monkeypatch.setattr(outbox, "STEP", 5)
    fill_all(records)
    assert listed(records, added).next_index > before


def test_a_piece_at_a_time(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long way through the log is many short transactions."""
    monkeypatch.setattr(outbox, "SPAN", 3)
    monkeypatch.setattr(outbox, "STEP", 3)
    record(source(records), 10)
    added = subscribe(records, URL, "recorded", from_index=0)

    assert fill(records) is True
    assert len(waiting(records, added)) < 3
    fill_all(records)
    assert len(waiting(records, added)) == 10


def test_an_outbox_is_bounded(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest waits in the log, and is put down as there is room; what was given up takes none."""
    monkeypatch.setattr(outbox, "MOST_WAITING", 4)
    made, added = source(records), subscribe(records, URL, "recorded")
    record(made, 10)
    fill_all(records)
    first = waiting(records, added)
    assert len(first) == 4
    settle(records, [(one, TAKEN) for one in take(records, added)], datetime.now(UTC))
    fill_all(records)
    assert len(waiting(records, added)) == 4
    with records.database.write() as tx:
        tx.execute(sa.update(outbox.outbox).values(due_at=None))
    fill_all(records)
    assert (listed(records, added).waiting, listed(records, added).given_up) == (4, 4)


def test_what_is_disabled_is_left_where_it_is(records: Records) -> None:
    """And goes on from there once it is enabled."""
    tenant, made, added = records.tenant("default"), source(records), subscribe(records, URL, "recorded")
    resubscribe(records, tenant, added.subscription.id, Resubscribe(enabled=False))
    record(made, 3)
    fill_all(records)
    assert waiting(records, added) == []
    resubscribe(records, tenant, added.subscription.id, Resubscribe(enabled=True))
    fill_all(records)
    assert len(waiting(records, added)) == 3


def test_another_tenants_entries_are_not_passed_on(records: Records) -> None:
    """Each has a log of its own."""
    records.ensure_tenant("another")
    theirs = subscribe(records, URL, *KINDS, tenant="another", from_index=0)
    mine = subscribe(records, URL, *KINDS)
    record(source(records), 2)
    fill_all(records)

    assert (len(waiting(records, mine)), waiting(records, theirs)) == (2, [])


def test_after_a_recovery_the_successors_entries_are_passed_on(tmp_path: Path) -> None:
    """The closed log is gone through first; places in lists are those of the log there is."""
    site = local_site(tmp_path)
    site.deliver(revoked())
    with site.opened() as (records, _):
        added = subscribe(allow_loopback(records), URL, "recorded", from_index=0)
    lose(site)
    site.recover()
    with site.opened() as (records, tenant):
        assert listed(records, added).next_index == 0
        with pytest.raises(SubscriptionError, match="the entries below 0 were passed on so far"):
            replay(records, tenant, added.subscription.id, Replay(from_index=0))
    site.deliver(revoked())
    with site.opened() as (records, tenant):
        fill_all(records)
        assert [row.log_id for row in rows(records)] == [1, 1, 2]
        assert listed(records, added).next_index > rows(records)[2].log_index
        assert tenant.log_id == 2


# ---- replaying ------------------------------------------------------------------------------------------------------


def test_a_replay_puts_down_what_was_taken_and_what_was_given_up(records: Records) -> None:
    """Each once, as if it were new; what was not passed on before comes after it."""
    tenant, made, added = records.tenant("default"), source(records), subscribe(records, URL, "recorded")
    record(made, 4)
    fill_all(records)
    indexes = waiting(records, added)
    settle(records, [(one, TAKEN) for one in take(records, added)], datetime.now(UTC))
    with records.database.write() as tx:
        tx.execute(sa.update(outbox.outbox).values(due_at=None, failure="timeout", tries=10))
    replay(records, tenant, added.subscription.id, Replay(from_index=indexes[0], to_index=indexes[2]))
    record(made)
    fill_all(records)

    found = {row.log_index: (row.tries, row.failure, row.due_at is None) for row in rows(records)}
    fresh, given_up = (0, None, False), (10, "timeout", True)
    assert [found[index] for index in indexes] == [fresh, fresh, fresh, given_up]
    assert len(found) == 5
    assert listed(records, added).replay is None


def test_a_long_replay_is_interrupted_and_goes_on(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is kept with what was put down."""
    monkeypatch.setattr(outbox, "SPAN", 2)
    monkeypatch.setattr(outbox, "STEP", 2)
    tenant, added = records.tenant("default"), subscribe(records, URL, "recorded", from_index=0)
    record(source(records), 5)
    fill_all(records)
    with records.database.write() as tx:
        tx.execute(sa.delete(outbox.outbox))
    end = listed(records, added).next_index
    replay(records, tenant, added.subscription.id, Replay(from_index=0))
    assert fill(records) is True
    assert listed(records, added).replay == Replaying(2, end - 1)
    fill_all(records)
    assert len(waiting(records, added)) == 5
    assert listed(records, added).replay is None


# ---- sending --------------------------------------------------------------------------------------------------------


def test_what_is_claimed_is_not_due_for_others(records: Records) -> None:
    """It is again when the lease is over: then whoever had it is dead."""
    made, added = source(records), subscribe(records, URL, "recorded")
    record(made, 3)
    fill_all(records)
    now = datetime.now(UTC)
    first, second = take(records, added, 2, now), take(records, added, 2, now)

    assert (len(first), len(second)) == (2, 1)
    assert take(records, added, 2, now) == []
    assert take(records, added, 9, now + LEASE - timedelta(seconds=1)) == []
    assert len(take(records, added, 9, now + LEASE)) == 3
    assert {one.tries for one in first} == {1}
    ids = [one.message.id for one in (*first, *second) if one.message is not None]
    assert sorted(ids) == sorted(f"msg_{row.id}" for row in made.rows())


def test_two_receivers_never_claim_the_same(records: Records) -> None:
    """Whoever comes second finds it put off."""
    made, added = source(records), subscribe(records, URL, "recorded")
    record(made, 16)
    fill_all(records)
    claimed = [one.id for found in at_once(4, lambda _: take(records, added, 4)) for one in found]
    assert len(claimed) == len(set(claimed)) == 16


def test_who_has_something_due(records: Records) -> None:
    """Those that are enabled, the one first that has waited longest; `waiting` counts all that is not given up."""
    tenant, made = records.tenant("default"), source(records)
    one, two, off = (subscribe(records, URL, "recorded") for _ in range(3))
    record(made, 2)
    fill_all(records)
    resubscribe(records, tenant, off.subscription.id, Resubscribe(enabled=False))
    times = ["2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"]
    for added, at in ((one, times[1]), (two, times[0])):
        with records.database.write() as tx:
            mine = outbox.outbox.c.subscription_id == added.subscription.id
            tx.execute(sa.update(outbox.outbox).where(mine).values(due_at=at))
    with records.database.read() as tx:
        found, before = outbox.due(tx, datetime.now(UTC)), outbox.due(tx, parse_time(times[0]))
        assert outbox.waiting(tx) == 6

    assert found == [Due(two.subscription.id, tenant.id, times[0]), Due(one.subscription.id, tenant.id, times[1])]
    assert before == found[:1]
    assert claim(records, {off.subscription.id: 2}, datetime.now(UTC)) == []


def test_tries_are_made_as_standard_webhooks_advises(records: Records) -> None:
    """At once, after 5 s, 5 and 30 min, 2, 5, 10, 14, 20 and 24 h; and after the last one it is given up, and stays."""
    added, now = subscribe(records, URL, "recorded"), datetime(2030, 1, 1, tzinfo=UTC)
    record(source(records))
    fill_all(records)
    times = [now]
    while True:
        [one] = take(records, added, 1, times[-1])
        assert one.tries == len(times)
        settle(records, [(one, FAILED)], times[-1])
        [row] = rows(records)
        assert row.failure == "answered 500"
        if row.due_at is None:
            break
        assert take(records, added, 1, parse_time(row.due_at) - timedelta(microseconds=1)) == []
        times.append(parse_time(row.due_at))
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(waits) == len(WAITS) == 9
    assert all(wait <= waited <= wait * (1 + JITTER) for wait, waited in zip(WAITS, waits, strict=True))
    assert timedelta(hours=75) < times[-1] - now < timedelta(hours=91)
    assert (listed(records, added).waiting, listed(records, added).given_up) == (0, 1)
    assert listed(records, added).failure == "answered 500"


def test_an_endpoint_may_ask_for_more_time_and_not_for_less() -> None:
    """A day at most; and after the last try there is none, whatever it asks for."""
    assert again(1, timedelta(hours=1)) == timedelta(hours=1)
    assert again(1, timedelta(days=365)) == timedelta(days=1)
    assert (again(9, timedelta(seconds=1)) or timedelta()) >= timedelta(days=1)
    assert (again(3, timedelta()) or timedelta()) >= timedelta(minutes=30)
    assert again(10, timedelta(hours=1)) is None
    assert again(11) is None


def test_what_is_taken_is_removed(records: Records) -> None:
    """Nothing else is kept of it; what was replayed meanwhile stays to be sent once more."""
    tenant, made, added = records.tenant("default"), source(records), subscribe(records, URL, "recorded")
    record(made, 2)
    fill_all(records)
    one, two = take(records, added)
    replay(records, tenant, added.subscription.id, Replay(from_index=waiting(records, added)[1]))
    fill_all(records)
    settle(records, [(one, TAKEN), (two, TAKEN)], datetime.now(UTC))

    assert [row.id for row in rows(records)] == [two.id]


def test_what_comes_of_a_removed_subscription_is_dropped(records: Records) -> None:
    """And of a try whose lease was over, so that another receiver has it now."""
    tenant, made = records.tenant("default"), source(records)
    gone, late = subscribe(records, URL, "recorded"), subscribe(records, URL, "recorded")
    record(made)
    fill_all(records)
    now = datetime.now(UTC)
    [of_gone], [first] = take(records, gone, 1, now), take(records, late, 1, now)
    [second] = take(records, late, 1, now + LEASE)
    unsubscribe(records, tenant, gone.subscription.id)
    settle(records, [(of_gone, FAILED), (first, TAKEN)], now)

    [row] = rows(records)
    assert (row.id, row.due_at, row.tries) == (second.id, format_time(now + 2 * LEASE), 2)


def test_what_cannot_be_made_a_message_of_is_a_failure_like_others(records: Records) -> None:
    """A secret that does not open, and an entry that is not there: each is tried again."""
    made, added = source(records), subscribe(records, URL, "recorded")
    record(made)
    fill_all(records)
    with records.database.write() as tx:
        tx.execute(sa.update(outbox.outbox).values(log_index=9999))
    [missing] = take(records, added, 1)
    with records.database.write() as tx:
        tx.execute(sa.update(subscriptions).values(secret=b"x" * 40))
    [sealed] = take(records, added, 1, datetime.now(UTC) + LEASE)

    assert (missing.message, missing.problem) == (None, "not sent: entry 9999 is not in the database")
    assert sealed.message is None
    assert sealed.problem.startswith(f"not sent: subscription/{added.subscription.id} does not open with this data key")
    assert all(repr(added.secret) not in repr(one) for one in (missing, sealed))
