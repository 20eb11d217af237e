"""Holds and what nobody has read: answers that wait to be recorded. Nobody knows what they say, nor what holds them."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.erasure.due import Due
from receiver.erasure.requests import AnswerWaitsError, Ask, HeldError, ask, resume
from receiver.erasure.retention import set_days
from receiver.events import format_time
from receiver.intake.recorder import Recorder
from receiver.metrics import Metrics
from receiver.records.attempts import Attempt
from receiver.records.opening import Records
from receiver.records.pending import FOLDER, Held, Pending
from receiver.relay import answers
from receiver.relay.answers import Answers
from tests.receiver.holding import acting, covered, delivered, hold, release, row_of
from tests.receiver.open_calls import new_caller, until
from tests.receiver.service import revoked
from tests.receiver.submissions import new_sources
from tests.receiver.test_erasure_requests import states

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ITEM = {"provider": "truthlocks", "type": "receipt", "id": "r1"}
TO_COME = {"since": format_time(datetime.now(UTC) - timedelta(hours=1)), "until": "2100-01-01T00:00:00Z"}


def waiting(records: Records) -> tuple[Attempt, Pending]:
    """A call of two hours ago whose answer waits to be recorded, and names somebody."""
    caller = new_caller(records, "truthlocks")
    call, pending = caller.begin(ago=timedelta(hours=2)), Pending.of(records)
    its_source = caller.party.source.id
    pending.put(Held(call.id, "default", its_source, 200, b'{"subject":"jane@example.com"}', datetime.now(UTC)))
    return call, pending


@pytest.mark.parametrize("covers", [{"person": "email:jane@example.com"}, {"item": ITEM}, {"period": TO_COME}])
def test_a_call_is_held_as_long_as_its_answer_may_be(records: Records, covers: dict[str, Any]) -> None:
    """The call names nobody, and is older; the answer waits to be recorded, and nobody knows what it says."""
    call, pending = waiting(records)
    ann, bob, tenant = acting(records, "Ann"), acting(records, "Bob"), records.tenant("default")
    placed = hold(records, ann, **covers)
    assert covered(records, call.id) is None

    with pytest.raises(AnswerWaitsError, match="waits to be recorded") as refused:
        ask(records, tenant, Ask(event_id=call.id, reason="asked for"))
    assert refused.value.hold_id == placed.id
    resume(records, tenant)
    assert (pending.calls(), row_of(records, call.id).body is None) == ([call.id], False)
    assert states(records) == ["running"]
    release(records, placed, bob)
    resume(records, tenant)
    assert (pending.calls(), row_of(records, call.id).body is None) == ([], True)
    assert states(records) == ["completed"]


@pytest.mark.parametrize(
    ("covers", "becomes"), [({"item": {**ITEM, "id": "unrelated"}}, "completed"), ({"provider": "truthlocks"}, "held")]
)
def test_it_is_found_out_once_the_answer_is_recorded(records: Records, covers: dict[str, Any], becomes: str) -> None:
    """Whether the hold covers any of it: what it does not cover is erased without anybody's asking again."""
    call, pending = waiting(records)
    hold(records, acting(records, "Ann"), **covers)
    due = Due(records)
    due.turn()
    with pytest.raises(AnswerWaitsError):
        ask(records, records.tenant("default"), Ask(event_id=call.id, reason="asked for"))
    due.turn()
    assert states(records) == ["running"]

    pending.drop(call.id)  # as whoever records it does
    due.turn()
    assert states(records) == [becomes]
    assert (row_of(records, call.id).body is None) == (becomes == "completed")


def test_what_is_held_by_itself_is_held(records: Records) -> None:
    """Whatever waits: the hold is of the very item that is to be erased."""
    call, _ = waiting(records)
    item = {**ITEM, "id": "of nothing"}
    hold(records, acting(records, "Ann"), item=item)
    tenant = records.tenant("default")
    for asked in (Ask(event_id=call.id, reason="asked for"), Ask(item=item, reason="asked for")):
        with pytest.raises(HeldError) as refused:
            ask(records, tenant, asked)
        assert refused.value.reason == ("held" if asked.item else "answer_waits")
    assert states(records) == ["running", "held"]


@pytest.mark.parametrize(
    "covers", [{"provider": "scrip"}, {"period": {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}}]
)
def test_a_hold_that_cannot_cover_an_answer(records: Records, covers: dict[str, Any]) -> None:
    """Of another provider, or of a time before the call was made: the answer goes with its call."""
    call, pending = waiting(records)
    hold(records, acting(records, "Ann"), **covers)

    ask(records, records.tenant("default"), Ask(event_id=call.id, reason="asked for"))
    assert (pending.calls(), row_of(records, call.id).body) == ([], None)


def test_an_answer_that_another_receiver_has(records: Records) -> None:
    """Whoever erases its call does not know of it: it stays as long as a hold may cover it."""
    call, pending = waiting(records)
    [held] = pending.all()
    pending.drop(call.id)
    tenant, ann, bob = records.tenant("default"), acting(records, "Ann"), acting(records, "Bob")
    placed = hold(records, ann, person="email:jane@example.com")
    ask(records, tenant, Ask(event_id=call.id, reason="asked for"))

    pending.put(held)
    due = Due(records)
    due.turn()
    assert list(pending.all()) == [held]
    release(records, placed, bob)
    due.turn()
    assert pending.calls() == []


def test_an_answer_that_cannot_be_removed(
    records: Records, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its request is not completed; all else is done, of every tenant, and why is said once."""
    [other] = new_sources(records, "another")
    [old] = delivered(other, revoked("r1"), days_ago=31)
    set_days(records, records.tenant("another"), "truthlocks", 30)
    (stuck, pending), (call, _) = waiting(records), waiting(records)
    drop = Pending.drop

    def fails_for_one(self: Pending, attempt_id: str) -> None:
        if attempt_id == stuck.id:
            raise OSError("the disk")
        drop(self, attempt_id)

    tenant = records.tenant("default")
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(Pending, "drop", fails_for_one)
        with pytest.raises(OSError, match="the disk"):
            ask(records, tenant, Ask(event_id=stuck.id, reason="asked for"))
        ask(records, tenant, Ask(event_id=call.id, reason="asked for"))
        assert (pending.calls(), states(records)) == ([stuck.id], ["running", "completed"])
        due = Due(records)
        for _ in range(2):
            with pytest.raises(OSError, match="the disk"):
                due.turn()
        assert row_of(records, old.id).body is None
    assert caplog.messages == [f"the answer to the erased call {stuck.id} cannot be removed: the disk"]
    due.turn()
    assert (pending.calls(), set(states(records))) == ([], {"completed"})


def test_what_is_no_file_is_no_answer(records: Records) -> None:
    """It is in nobody's way."""
    call, pending = waiting(records)
    pending.drop(call.id)
    (records.settings.data / FOLDER / f"{call.id}.answer").mkdir()
    hold(records, acting(records, "Ann"), item=ITEM)

    assert pending.calls() == []
    ask(records, records.tenant("default"), Ask(event_id=call.id, reason="asked for"))
    assert states(records) == ["completed"]


def test_an_answer_whose_call_is_erased_is_not_tried_again(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be recorded; whether it is kept for a hold is not for whoever records answers to say."""
    call, pending = waiting(records)
    [held] = pending.all()
    ask(records, records.tenant("default"), Ask(event_id=call.id, reason="asked for"))
    pending.put(held)
    monkeypatch.setattr(answers, "AGAIN_EVERY", 0.0)

    async def records_what_waits() -> None:
        told = Answers(records, Recorder(records, 1, Metrics()))
        told.take_up()
        assert len(told) == 1
        task = asyncio.create_task(told.run())
        await until(lambda: len(told) == 0)
        task.cancel()
        told.close()

    asyncio.run(records_what_waits())
    assert pending.calls() == [call.id]
