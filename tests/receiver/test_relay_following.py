"""What was begun is followed to its end; and what is due is looked at in the background, by one of several, again and
again, until it is known.
"""

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from receiver.events import format_time, parse_time
from receiver.intake.recorder import Unavailable
from receiver.intake.submission import Outcome, Submission
from receiver.records.attempts import Attempt, Ended
from receiver.records.opening import Records
from receiver.relay.settling import Settled
from receiver.settings import Settings
from tests.receiver.open_calls import (
    DEATHS,
    NOBODY,
    Caller,
    base_of,
    dies,
    done_at,
    hanging,
    looking,
    new_caller,
    record_of,
    saying,
    settling,
    until,
)
from tests.receiver.operations import JOB, MERCHANT
from tests.receiver.submissions import altered
from tests.receiver.upstreams import Connection, speaking
from tests.sandbox.service import Sandbox, running
from tests.translog import faults

RECEIPT_REVOKED = record_of("truthlocks", revoked_at=None)
ACTIVE = record_of("truthlocks", status="active", revoked_at=None)
REVOKING = record_of("thanx")
JOB_MEMBERS: dict[str, Any] = REVOKING["issuance_job"]
REVOKED = {"issuance_job": {**JOB_MEMBERS, "state": "revoked"}}
COMPLETED = {"issuance_job": {**JOB_MEMBERS, "state": "completed"}}


# ---- following ------------------------------------------------------------------------------------------------------


def test_what_was_begun(records: Records) -> None:
    """It is due a moment later; as long as it goes on nothing more is recorded, and its end is, once, by `poll`."""
    caller = new_caller(records, "thanx")
    attempt = caller.begin()
    begun = caller.answered(attempt)
    call = caller.call(attempt)
    assert parse_time(call.next_at) - parse_time(call.ended_at) == timedelta(seconds=1)

    looks = [caller.settle_by(attempt, saying(record)).settled for record in (REVOKING, REVOKED, REVOKED)]

    first, end = caller.told()
    assert (first.id, end.kind, end.effect, end.via) == (begun.id, "revocation", "revoked", "poll")
    assert caller.facts(end)["attempt"] == attempt.id
    ended = f"what it began has ended: {{}} {end.id}, entry {end.log_index}"
    told = (attempt.id, Ended.RECORDED, begun.id)
    assert looks == [
        Settled(*told, under_way=True, said="by the provider's record it has not ended yet"),
        Settled(*told, under_way=False, said=ended.format("recorded")),
        Settled(*told, under_way=False, said=ended.format("duplicate")),
    ]
    call = caller.call(attempt)
    assert (call.outcome_id, call.next_at) == (begun.id, None)
    assert caller.wrong() == []


def test_what_is_found_under_way(records: Records) -> None:
    """A call of unknown outcome that has begun something is followed from then on."""
    caller = new_caller(records, "thanx")
    attempt = caller.begin()

    settled = caller.settle_by(attempt, saying(REVOKING)).settled

    [begun] = caller.told()
    said = f"it has begun, and is followed: {begun.id}, entry {begun.log_index}"
    assert settled == Settled(attempt.id, Ended.RECORDED, begun.id, under_way=True, said=said)
    assert caller.call(attempt).next_at is not None
    assert not caller.settle_by(attempt, saying(REVOKED)).settled.is_open
    assert [row.effect for row in caller.told()] == ["revoking", "revoked"]


@pytest.mark.parametrize(
    ("record", "status", "why"),
    [
        (COMPLETED, "200 OK", "denies it: the job is completed, neither revoking nor revoked"),
        (REVOKED, "403 Forbidden", "cannot be read: the answer is 403"),
    ],
)
def test_what_does_not_tell_of_the_end(records: Records, record: dict[str, Any], status: str, why: str) -> None:
    """It is said, nothing is recorded, and the call is followed on."""
    caller = new_caller(records, "thanx")
    attempt = caller.begin()
    caller.answered(attempt)

    settled = caller.settle_by(attempt, saying(record, status)).settled

    assert (settled.is_open, settled.failed, settled.said) == (True, True, f"the provider's record {why}")
    assert len(caller.told()) == 1
    assert caller.call(attempt).next_at is not None


def test_an_end_that_is_for_quarantine(records: Records) -> None:
    """It is kept there, once, and the call is followed no more."""
    caller = new_caller(records, "thanx")
    attempt = caller.begin()
    caller.answered(attempt)
    caller.set_source(account="another")

    settled = caller.settle_by(attempt, saying(REVOKED)).settled

    row = caller.told()[-1]
    said = f"what it began has ended: quarantined {row.id}, entry {row.log_index}"
    assert (settled.is_open, settled.said) == (False, said)
    assert (row.kind, row.reason, row.via) == ("quarantine", "other_account", "poll")
    assert (caller.call(attempt).outcome, caller.call(attempt).next_at) == ("recorded", None)
    assert caller.wrong() == []


def test_what_is_followed_no_more(records: Records) -> None:
    """After the time for that is over, whoever asks for it by its id still learns of the end."""
    caller = new_caller(records, "thanx")
    attempt = caller.begin()
    caller.answered(attempt)
    caller.set_call(attempt, next_at=None)

    assert "has ended: recorded" in caller.settle_by(attempt, saying(REVOKED)).settled.said


# ---- in the background ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """The providers."""
    with running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


def looks(attempt: Attempt, caller: Caller) -> int:
    """How often it was looked at what became of a call."""
    return caller.call(attempt).looks


def test_all_that_is_due(records: Records, sandbox: Sandbox) -> None:
    """Of every source and tenant, to the end of what was begun; what is not due yet is left alone."""
    assert sandbox.client.post("/sandbox/reset").status_code == 204
    base = base_of(sandbox)
    thanx, scrip = new_caller(records, "thanx", base), new_caller(records, "scrip", base)
    truthlocks = new_caller(records, "truthlocks", base, tenant="other")
    done_at(sandbox, "thanx", f"/partner/issuance_jobs/{JOB}/revoke", {"merchant_id": MERCHANT})
    waiting = truthlocks.begin()
    due = [(caller, caller.begin(due=True)) for caller in (thanx, scrip, truthlocks)]

    async def look() -> None:
        async with looking(thanx):
            await until(lambda: all(caller.call(attempt).outcome for caller, attempt in due))
            await until(lambda: thanx.call(due[0][1]).next_at is None)

    asyncio.run(look())

    assert thanx.told()[-1].effect == "revoked"
    assert [caller.call(attempt).outcome for caller, attempt in due] == ["recorded", "not_done", "not_done"]
    assert (truthlocks.call(waiting).outcome, looks(waiting, truthlocks)) == (None, 0)


def test_one_of_several_looks(records: Records, settings: Settings) -> None:
    """However many receivers there are, the record is asked once for each look."""
    caller = new_caller(records, "truthlocks")
    due = [caller.begin(due=True) for _ in range(5)]
    neighbours = [Records.open(settings) for _ in range(3)]

    async def look() -> list[bytes]:
        async with speaking(saying(ACTIVE)) as there:
            caller.moves(there.url)
            async with looking(caller, *(altered(caller, records=neighbour) for neighbour in neighbours)):
                await until(lambda: all(caller.call(attempt).outcome for attempt in due))
                return there.came

    came = asyncio.run(look())
    for neighbour in neighbours:
        neighbour.close()

    assert len(came) == len(due)
    assert [looks(attempt, caller) for attempt in due] == [0] * len(due), "as the end of a call leaves it"
    assert [row.reason for row in caller.told()] == ["not_done"] * len(due)


def test_an_upstream_that_does_not_answer(records: Records) -> None:
    """It keeps no other source waiting; and one call after the other of its own is asked about."""
    hung, well = new_caller(records, "thanx"), new_caller(records, "truthlocks")

    async def look() -> list[bytes]:
        async with speaking(hanging) as nobody, speaking(saying(ACTIVE)) as there:
            hung.moves(nobody.url)
            well.moves(there.url)
            late = [hung.begin(due=True) for _ in range(20)]
            async with looking(well):
                await until(lambda: sum(looks(attempt, hung) for attempt in late))
                prompt = well.begin(due=True)
                await until(lambda: well.call(prompt).outcome)
                assert sum(looks(attempt, hung) for attempt in late) == 1
                return nobody.came

    assert len(asyncio.run(look())) == 1


@pytest.mark.parametrize(
    ("followed", "before", "wait"),
    [
        (False, 0, timedelta(minutes=1)),
        (False, 3, timedelta(minutes=8)),
        (False, 1000, timedelta(hours=1)),
        (True, 0, timedelta(seconds=1)),
        (True, 5, timedelta(seconds=32)),
        (True, 1000, timedelta(minutes=5)),
    ],
)
def test_how_long_it_waits(records: Records, wait: timedelta, before: int, *, followed: bool) -> None:
    """Twice as long after each look, up to a limit; what goes on is asked after sooner than what is not known."""
    caller = new_caller(records, "thanx", NOBODY)
    attempt = caller.begin(ago=timedelta(days=29))
    if followed:
        caller.answered(attempt)
    now = datetime.now(UTC)
    caller.set_call(attempt, looks=before, next_at=format_time(now))

    look_once(caller, attempt)

    again = parse_time(caller.call(attempt).next_at)
    assert now + wait <= again <= datetime.now(UTC) + wait


@pytest.mark.parametrize(("followed", "days"), [(False, 30), (True, 7)])
def test_when_it_gives_up(records: Records, days: int, *, followed: bool) -> None:
    """What could not be found out for so long is looked at once more."""
    caller = new_caller(records, "thanx", NOBODY)
    attempt = caller.begin(ago=timedelta(days=days), due=True)
    if followed:
        caller.answered(attempt)
        long_ago = format_time(attempt.called_at)
        caller.set_call(attempt, ended_at=long_ago, next_at=long_ago)

    look_once(caller, attempt)

    assert caller.call(attempt).next_at is None


def look_once(caller: Caller, attempt: Attempt) -> None:
    """Look in the background until a call was looked at."""
    before = looks(attempt, caller)

    async def look() -> None:
        async with looking(caller):
            await until(lambda: looks(attempt, caller) > before)

    asyncio.run(look())


def test_what_fails_is_logged_once(records: Records, caplog: pytest.LogCaptureFixture) -> None:
    """By source and reason, until a look goes well; and the credential is not in it."""
    caller = new_caller(records, "truthlocks")
    failing, well = saying({}, "500 Internal Server Error"), saying(ACTIVE)
    script = [failing, failing, well, failing]

    async def scripted(connection: Connection) -> None:
        await script.pop(0)(connection)

    async def look() -> None:
        async with speaking(scripted) as there, looking(caller):
            caller.moves(there.url)
            for _ in range(4):
                attempt = caller.begin(due=True)
                await until(lambda attempt=attempt: looks(attempt, caller) or caller.call(attempt).outcome)
            await until(lambda: len(caplog.messages) > 1)

    asyncio.run(look())

    of = f"what became of calls to source {caller.party.source.id} is not found out: "
    assert caplog.messages == [f"{of}the provider's record cannot be read: the answer is 500"] * 2


def test_a_database_out_of_reach(records: Records, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next look is as if nothing had been."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin(due=True)

    def connection_lost() -> None:
        raise OperationalError("SELECT", {}, Exception("the connection was lost"))

    async def look() -> None:
        async with speaking(saying(ACTIVE)) as there:
            caller.moves(there.url)
            with faults.at(
                records.database,
                "before",
                "SELECT attempts.source_id, sources.tenant_id",
                happens=connection_lost,
            ):
                async with looking(caller):
                    await until(lambda: caller.call(attempt).outcome)

    asyncio.run(look())

    [message] = caplog.messages
    assert message.startswith("what became of calls is not found out: OperationalError: ")


def test_what_cannot_be_recorded_now(records: Records, caplog: pytest.LogCaptureFixture) -> None:
    """It is as unknown as before, and looked at again when it is due again."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin(due=True)
    refusals = [Unavailable("the database is out of reach")]

    async def record(submission: Submission) -> Outcome:
        if refusals:
            raise refusals.pop()
        return await caller.record(submission)

    async def look() -> None:
        async with speaking(saying(ACTIVE)) as there:
            caller.moves(there.url)
            async with looking(caller, record=record):
                await until(lambda: caplog.messages)
                call = caller.call(attempt)
                assert (call.outcome, call.looks) == (None, 1)
                caller.set_call(attempt, next_at=format_time(datetime.now(UTC)))
                await until(lambda: caller.call(attempt).outcome)

    asyncio.run(look())

    assert [message.partition(": ")[2] for message in caplog.messages] == ["Unavailable: the database is out of reach"]


def test_an_end(records: Records) -> None:
    """Ended in the middle of a look, it leaves no task behind, and the call to the next look."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin(due=True)

    async def look() -> int:
        async with speaking(hanging) as there:
            caller.moves(there.url)
            async with looking(caller):
                await until(lambda: there.came)
                there_are = asyncio.all_tasks()
            return len(there_are & asyncio.all_tasks())

    # This one, and the upstream's, whose connection is closed.
    assert asyncio.run(look()) <= 2
    call = caller.call(attempt)
    assert (call.outcome, call.looks, call.next_at is None) == (None, 1, False)


# ---- at once, and cut short -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Ended.RECORDED, Ended.NOT_DONE, Ended.REPEATED])
def test_several_at_once(records: Records, settings: Settings, outcome: Ended) -> None:
    """In this process and in another: it is recorded once, and all are told of it."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin(key="k")
    if outcome is Ended.REPEATED:
        caller.answered(caller.begin(key="k"))
    neighbour = altered(caller, records=Records.open(settings))
    shown = saying(ACTIVE if outcome is Ended.NOT_DONE else RECEIPT_REVOKED)
    before = len(caller.told())

    async def look() -> list[Settled]:
        async with speaking(shown) as there, settling(caller) as one, settling(neighbour) as other:
            caller.moves(there.url)
            return await asyncio.gather(*(settler.settle(attempt.id) for settler in [one, other] * 4))

    settled = asyncio.run(look())
    neighbour.records.close()

    [row] = caller.told()[before:]
    assert {(one.outcome, one.outcome_id) for one in settled} == {(outcome, row.id)}
    assert caller.wrong() == []


@pytest.mark.parametrize("moment", ["asking", "recording"])
@pytest.mark.parametrize("answer", ["done", "refused"])
def test_an_answer_that_comes_meanwhile(records: Records, answer: str, moment: str) -> None:
    """It is the call's outcome; what the record says is left out, or if it is too late for that, changes nothing."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    shown = RECEIPT_REVOKED if answer == "done" else ACTIVE
    outcomes: list[Outcome] = []

    def come() -> None:
        outcomes.append(caller.answered(attempt) if answer == "done" else caller.refused(attempt))

    async def behave(connection: Connection) -> None:
        if moment == "asking":
            come()
        await saying(shown)(connection)

    async def record(submission: Submission) -> Outcome:
        if moment == "recording":
            come()
        return await caller.record(submission)

    settled = caller.settle_by(attempt, behave, record).settled

    [first, *others] = caller.told()
    [outcome] = outcomes
    assert first.id == outcome.id == settled.outcome_id == caller.call(attempt).outcome_id
    assert settled.outcome is (Ended.RECORDED if answer == "done" else Ended.REFUSED)
    assert caller.call(attempt).next_at is None
    assert [row.via for row in others] == (["poll"] if moment == "recording" else [])
    assert caller.wrong() == []


def test_an_answer_that_comes_afterwards(records: Records) -> None:
    """A call that had no effect when the record was read may have one after all: the event tells of it then."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    caller.settle_by(attempt, saying(ACTIVE))

    outcome = caller.answered(attempt)

    call = caller.call(attempt)
    assert (call.outcome, call.outcome_id) == ("recorded", outcome.id)
    assert caller.wrong() == []


@pytest.mark.parametrize("where", DEATHS)
def test_a_receiver_that_dies(records: Records, where: str) -> None:
    """At whatever line: the call is due again, or it is known; and it is recorded once in the end."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin(due=True)

    async def look() -> list[Settled]:
        async with speaking(saying(RECEIPT_REVOKED)) as there:
            caller.moves(there.url)
            await asyncio.to_thread(dies, records, where)
            call = caller.call(attempt)
            assert (call.outcome, call.next_at is None) == (("recorded", True) if where == "written" else (None, False))
            assert call.looks == (1 if where in {"asked", "writing"} else 0)
            async with settling(caller) as settler:
                return [await settler.settle(attempt.id) for _ in range(2)]

    settled = asyncio.run(look())

    [event] = caller.told()
    assert {(one.outcome, one.outcome_id) for one in settled} == {(Ended.RECORDED, event.id)}
    assert caller.wrong() == []
