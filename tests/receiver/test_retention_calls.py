"""Retention and calls that are open: what they asked is needed until it is known what became of them."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from msgspec import structs

from receiver.erasure.aging import Aged, run
from receiver.erasure.retention import set_days
from receiver.events import format_time
from receiver.intake.reprocessing import NotReprocessableError, reprocess
from receiver.records.attempts import Attempt, is_erased, load_attempt, load_idempotency, open_among
from receiver.records.opening import Records
from receiver.records.pending import Held, Pending
from receiver.records.tables import attempts, deliveries
from receiver.relay import entries
from receiver.settings import Settings
from tests.receiver.erasing import erase
from tests.receiver.holding import acting, hold, release, row_of, wrong
from tests.receiver.open_calls import Caller, as_json, new_caller
from tests.receiver.operations import EXAMPLES
from tests.receiver.service import running, until

LONG_AGO = timedelta(days=40)
DONE = as_json(EXAMPLES["truthlocks"].answer)


def age(records: Records, provider: str = "truthlocks") -> Aged:
    """Erase what is older than 30 days by now; what that came to."""
    tenant = records.tenant("default")
    set_days(records, tenant, provider, 30)
    [aged] = run(records, tenant)
    return aged


def has_body(records: Records, its_id: str) -> bool:
    """Whether the body of a delivery is kept."""
    return row_of(records, its_id).body is not None


def test_what_an_open_call_asked_stays_until_it_is_settled(records: Records) -> None:
    """From then on it goes as everything else does, though an earlier pass went by."""
    caller = new_caller(records, "truthlocks")
    call = caller.begin(ago=LONG_AGO)
    assert [age(records).erased, age(records).erased] == [0, 0]
    assert has_body(records, call.id)

    event = caller.answered(call)
    assert age(records).erased == 1
    assert not has_body(records, call.id)
    assert has_body(records, event.id)  # it came now
    assert age(records).erased == 0
    assert wrong(records) == []


def test_what_is_followed_stays_with_what_it_came_to(records: Records) -> None:
    """Until it has ended, whatever tells of that."""
    caller = new_caller(records, "thanx")
    call = caller.begin(ago=LONG_AGO)
    told = structs.replace(call, status=202)
    answer = entries.answer(
        caller.party, told, as_json(EXAMPLES["thanx"].answer), call.called_at + timedelta(seconds=1)
    )
    event = caller.write(answer)
    with records.database.read() as tx:
        assert open_among(tx, [call.id, event.id, "other"]) == {call.id, event.id}
    assert [age(records, "thanx").erased, age(records, "thanx").erased] == [0, 0]

    caller.set_call(call, next_at=None)
    assert age(records, "thanx").erased == 2
    assert not has_body(records, call.id)
    assert not has_body(records, event.id)
    assert wrong(records) == []


def test_a_hold_on_a_call_that_was_open(records: Records) -> None:
    """It is passed over as long as it is held, and no longer."""
    caller = new_caller(records, "truthlocks")
    call = caller.begin(ago=LONG_AGO)
    held = hold(records, acting(records, "Ann"), source=caller.party.source.id)
    assert age(records) == Aged("truthlocks", 30, 0, 0)
    caller.refused(call)

    assert age(records) == Aged("truthlocks", 30, 0, 1)
    release(records, held, acting(records, "Bob"))
    assert age(records) == Aged("truthlocks", 30, 1, 0)


def test_more_settled_calls_than_one_batch(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, some at a time."""
    monkeypatch.setattr("receiver.erasure.aging.BATCH", 2)
    caller = new_caller(records, "truthlocks")
    calls = [caller.begin(ago=LONG_AGO) for _ in range(5)]
    assert age(records).erased == 0
    for call in calls:
        caller.refused(call)

    assert age(records).erased == 5
    assert not any(has_body(records, call.id) for call in calls)
    assert wrong(records) == []


def test_what_asked_for_a_held_answer_is_kept(records: Records) -> None:
    """Also if another answer told later what became of the call."""
    caller = new_caller(records, "truthlocks")
    call = caller.begin(ago=LONG_AGO)
    odd = caller.answered(call, {"odd": 1, "subject": "jane@example.com"})
    caller.answered(call)
    placed = hold(records, acting(records, "Ann"), person="email:jane@example.com")

    assert (age(records).held, has_body(records, call.id), has_body(records, odd.id)) == (1, True, True)
    release(records, placed, acting(records, "Bob"))
    assert (age(records).erased, has_body(records, call.id), has_body(records, odd.id)) == (1, False, True)


def waiting(caller: Caller, status: int = 200, body: bytes = DONE) -> Attempt:
    """A call of long ago whose answer came and could not be recorded."""
    call = caller.begin(ago=LONG_AGO)
    pending = Pending.of(caller.records)
    pending.put(Held(call.id, "default", caller.party.source.id, status, body, call.called_at))
    return call


def test_an_answer_that_waits_is_recorded(settings: Settings) -> None:
    """By a service that comes back after longer than bodies are kept."""
    records = Records.open(settings)
    caller = new_caller(records, "truthlocks")
    call = waiting(caller)
    assert age(records).erased == 0
    records.close()

    with running(settings) as service:
        until(lambda: _outcome(service.records, call) == "recorded")
        until(lambda: not Pending.of(service.records).calls())


def _outcome(records: Records, call: Attempt) -> str | None:
    with records.database.read() as tx:
        return tx.execute(sa.select(attempts.c.outcome).where(attempts.c.id == call.id)).scalar_one()


def not_done(caller: Caller, call: Attempt) -> None:
    """By the provider's record the call had no effect, and nobody looks again."""
    caller.write(entries.not_done(caller.party, call, "/v1/receipts/x", b"{}", datetime.now(UTC)))
    caller.set_call(call, next_at=None)


@pytest.mark.parametrize(
    ("status", "body", "outcome"), [(200, DONE, "quarantined"), (409, b'{"code":"CONFLICT"}', "refused")]
)
def test_an_answer_that_waits_while_its_call_is_settled(
    settings: Settings, status: int, body: bytes, outcome: str
) -> None:
    """On another host, say. Without what was asked it is kept as far as it can be told what it is."""
    records = Records.open(settings)
    caller = new_caller(records, "truthlocks")
    call = waiting(caller, status, body)
    not_done(caller, call)
    assert age(records).erased == 1
    assert len(list(Pending.of(records).all())) == 1
    with records.database.read() as tx:
        assert not is_erased(tx, call.id)
    records.close()

    with running(settings) as service:
        until(lambda: _outcome(service.records, call) == outcome)
        until(lambda: not Pending.of(service.records).calls())
        with service.records.database.read() as tx:
            its = sa.select(deliveries).where(deliveries.c.received_at == format_time(call.called_at))
            kept = [row for row in tx.execute(its) if row.id != call.id]
        assert [bytes(row.body) for row in kept] == [body]
        assert wrong(service.records) == []
        if outcome == "quarantined":
            with pytest.raises(NotReprocessableError, match="is erased"):
                reprocess(service.records, service.records.tenant("default"), kept[0].id)


def test_a_call_whose_body_is_erased(records: Records) -> None:
    """What it was about is known, and what it asked is not: the provider's record is not asked with half of it."""
    caller = new_caller(records, "capillary")
    call = caller.begin(ago=LONG_AGO, key="k")
    not_done(caller, call)
    assert age(records, "capillary").erased == 1

    party = caller.party
    with records.database.read() as tx:
        loaded = load_attempt(tx, party.provider, call.id)
        key = load_idempotency(tx, party.provider, party.tenant.hash_key, party.source.id, call.id)
    assert loaded == structs.replace(call, path={}, request={}, is_whole=False)
    assert key is None
    assert "is erased" in caller.settle(call).said


@pytest.mark.parametrize("column", ["headers", "body", "delivery_salt", "event_salt"])
def test_half_a_call_is_none(records: Records, column: str) -> None:
    """Erasures leave no such thing: somebody changed the row."""
    caller = new_caller(records, "truthlocks")
    call = caller.begin()
    with records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == call.id).values({column: None}))
        assert load_attempt(tx, caller.party.provider, call.id) is None


def test_of_a_call_that_is_erased_no_answer_is_kept(records: Records) -> None:
    """Also if retention took its body before."""
    caller = new_caller(records, "truthlocks")
    call = waiting(caller)
    not_done(caller, call)
    age(records)
    assert Pending.of(records).calls()

    assert erase(records, event_id=call.id).erased > 0
    assert not Pending.of(records).calls()
    assert wrong(records) == []
