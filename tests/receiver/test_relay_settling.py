"""What became of a call whose answer nobody knows: told by another call, by the provider's record, or still unknown."""

import asyncio
import json
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver.events import format_time
from receiver.records.attempts import Attempt, Ended
from receiver.records.credentials import set_credential
from receiver.records.opening import Records
from receiver.records.tables import credentials, deliveries
from receiver.relay.settling import NoSuchAttemptError, Settled, open_attempts
from tests.receiver.open_calls import (
    LONG_AGO,
    NOBODY,
    Caller,
    base_of,
    done_at,
    new_caller,
    record_of,
    saying,
    settling,
)
from tests.receiver.operations import OTHER, RECEIPT, REDEMPTION
from tests.receiver.service import settings_in
from tests.receiver.submissions import altered
from tests.receiver.upstreams import Connection, answering, speaking
from tests.sandbox.service import Sandbox, running

RECEIPT_REVOKED = record_of("truthlocks", revoked_at=None)
ACTIVE = record_of("truthlocks", status="active", revoked_at=None)
JUST_NOW = timedelta(0)


@pytest.fixture(scope="module")
def issuers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """The providers: a running sandbox, shared by the tests of the module."""
    with running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(issuers: Sandbox) -> Sandbox:
    """The same, with its fixtures as they were."""
    assert issuers.client.post("/sandbox/reset").status_code == 204
    return issuers


# ---- the provider's record ------------------------------------------------------------------------------------------


def test_a_call_that_was_done(records: Records, sandbox: Sandbox) -> None:
    """What the record says is its event, which came by `poll`, with the record's bytes and no credential."""
    caller = new_caller(records, "truthlocks", base_of(sandbox))
    attempt = caller.begin()
    done_at(sandbox, "truthlocks", f"/v1/receipts/{RECEIPT}/revoke", {"reason": "r"}, OTHER)

    settled = caller.settle(attempt)

    [event] = caller.told()
    assert settled == Settled(
        attempt.id,
        Ended.RECORDED,
        event.id,
        under_way=False,
        said=f"an event tells of it: {event.id}, entry {event.log_index}",
    )
    call = caller.call(attempt)
    assert (call.outcome, call.outcome_id, call.status, call.next_at) == ("recorded", event.id, None, None)
    assert (event.kind, event.effect, event.via, event.scheme) == ("revocation", "revoked", "poll", "upstream")
    facts = caller.facts(event)
    assert (facts["attempt"], facts["via"], facts["secret"]) == (attempt.id, "poll", None)
    assert json.loads(event.headers) == [[":path", f"/v1/receipts/{RECEIPT}"], [":status", "200"]]
    assert json.loads(event.body)["receipt_id"] == RECEIPT
    assert b"tl_test_sandbox" not in event.body + event.headers.encode()
    assert caller.wrong() == []


def test_a_call_that_was_not_done(records: Records, sandbox: Sandbox) -> None:
    """That is recorded as an answer that is no event, with the record's bytes."""
    caller = new_caller(records, "truthlocks", base_of(sandbox))
    attempt = caller.begin()

    settled = caller.settle(attempt)

    [row] = caller.told()
    said = f"by the provider's record it had no effect: {row.id}, entry {row.log_index}"
    assert settled == Settled(attempt.id, Ended.NOT_DONE, row.id, under_way=False, said=said)
    assert (row.kind, row.reason, row.effect, row.via) == ("attempt", "not_done", None, "poll")
    assert (caller.facts(row)["attempt"], caller.facts(row)["outcome"]) == (attempt.id, "not_done")
    assert json.loads(row.body)["status"] == "active"
    assert caller.wrong() == []


def test_a_call_that_may_still_be_under_way(records: Records, sandbox: Sandbox) -> None:
    """That the record does not have it yet tells nothing; that it has it, does."""
    caller = new_caller(records, "truthlocks", base_of(sandbox))
    attempt = caller.begin(ago=JUST_NOW)

    settled = caller.settle(attempt)

    assert (settled.outcome, settled.is_open, settled.failed) == (None, True, False)
    assert settled.said == "the call may still be under way, though the receipt is active, not revoked"
    assert caller.told() == []
    done_at(sandbox, "truthlocks", f"/v1/receipts/{RECEIPT}/revoke", {"reason": "r"}, OTHER)
    assert caller.settle(attempt).outcome is Ended.RECORDED


def test_it_is_the_time_of_asking_that_counts(tmp_path: Path) -> None:
    """A record that was asked for before the call was over, and came after, says nothing of how the call went on."""
    with closing(Records.open(settings_in(tmp_path))) as records:
        caller = new_caller(records, "truthlocks")
        attempt = caller.begin(ago=LONG_AGO - timedelta(seconds=3))

        async def late(connection: Connection) -> None:
            over = attempt.called_at + LONG_AGO - datetime.now(UTC)
            await asyncio.sleep(over.total_seconds())
            await saying(ACTIVE)(connection)

        assert caller.settle_by(attempt, late).settled.outcome is None


def test_it_is_the_callers_deadline_that_counts(records: Records) -> None:
    """Whoever asks may wait for less time than the one who called."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    caller.set_call(attempt, settle_at=format_time(datetime.now(UTC) + timedelta(hours=1)))

    said = stays(caller, attempt, caller.settle_by(attempt, saying(ACTIVE)).settled)

    assert said == "the call may still be under way, though the receipt is active, not revoked"


def test_a_call_that_was_done_after_all(records: Records) -> None:
    """That it was not gives way to the event, and is no open call meanwhile."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()

    looks = [caller.settle_by(attempt, saying(ACTIVE)).settled for _ in range(2)]

    [row] = caller.told()
    assert looks[0] == looks[1]
    assert (looks[1].outcome, looks[1].outcome_id, looks[1].is_open) == (Ended.NOT_DONE, row.id, False)
    assert open_attempts(records, caller.party.tenant) == []
    assert caller.settle_by(attempt, saying(RECEIPT_REVOKED)).settled.outcome is Ended.RECORDED
    assert (len(caller.told()), caller.call(attempt).next_at) == (2, None)
    assert caller.wrong() == []


def test_a_call_that_is_about_a_part(records: Records, sandbox: Sandbox) -> None:
    """Of several reversals of a redemption it is the one that the call asked for."""
    caller = new_caller(records, "scrip", base_of(sandbox))
    path, asked = f"/v1/redemptions/{REDEMPTION}/reverse", {"reason": "Customer refund request", "amount": "500.00"}
    done_at(sandbox, "scrip", path, {**asked, "amount": "1.00", "idempotency_key": "a"})
    attempt = caller.begin({"id": REDEMPTION}, {**asked, "idempotency_key": "b"}, ago=JUST_NOW)
    done_at(sandbox, "scrip", path, {**asked, "idempotency_key": "b"})

    assert caller.settle(attempt).outcome is Ended.RECORDED

    [event] = caller.told()
    assert json.loads(event.event_data)["amount"] == "500.00"


def test_what_a_record_says_of_another_account(records: Records) -> None:
    """It is for quarantine, like every notice of another account, and the call is known to have come to that."""
    caller = new_caller(records, "truthlocks")
    caller.set_source(account=OTHER)
    attempt = caller.begin()

    settled = caller.settle_by(attempt, saying(RECEIPT_REVOKED)).settled

    [row] = caller.told()
    assert (settled.outcome, settled.is_open) == (Ended.QUARANTINED, False)
    assert (row.kind, row.reason, row.via) == ("quarantine", "other_account", "poll")
    assert caller.facts(row)["attempt"] == attempt.id
    assert caller.wrong() == []


def test_what_was_recorded_of_another_call(records: Records) -> None:
    """The same act is no second call's as well: of the two, nobody knows which one did it."""
    caller = new_caller(records, "truthlocks")
    first, second = caller.begin(), caller.begin()
    caller.settle_by(first, saying(RECEIPT_REVOKED))

    settled = caller.settle_by(second, saying(RECEIPT_REVOKED)).settled

    assert (settled.outcome, settled.failed, len(caller.told())) == (None, True, 1)
    assert settled.said == (
        "the provider's record does not tell: the act that it shows was found for another call: one of the two did it, "
        "and nobody can tell which"
    )
    assert caller.wrong() == []


# ---- another call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["recorded", "duplicate", "mismatch"])
def test_a_call_that_was_made_again(records: Records, how: str) -> None:
    """The one that was answered as done tells of both, and nobody is asked."""
    caller = new_caller(records, "truthlocks")
    unknown, again = caller.begin(key="k"), caller.begin(key="k")
    answer = record_of("truthlocks")
    if how != "recorded":
        caller.answered(caller.begin(), answer)
    caller.answered(again, {**answer, "note": "x"} if how == "mismatch" else answer)
    assert caller.call(again).outcome == how

    look = caller.settle_by(unknown, saying(RECEIPT_REVOKED))

    row = caller.told()[-1]
    said = f"it was made again with its idempotency key, and answered then: {row.id}, entry {row.log_index}"
    assert look.settled == Settled(unknown.id, Ended.REPEATED, row.id, under_way=False, said=said)
    assert look.came == []
    assert (row.reason, row.first_id) == ("repeated", caller.call(again).outcome_id)
    assert caller.wrong() == []


def test_a_call_that_was_made_again_needs_nothing_else(records: Records) -> None:
    """Neither a record to ask, nor an enabled source."""
    caller = new_caller(records, "truthlocks")
    unknown, again = caller.begin(key="k"), caller.begin(key="k")
    caller.answered(again)
    set_credential(records, caller.party.tenant, caller.party.source.id, None)
    caller.set_source(enabled=False)

    assert caller.settle(unknown).outcome is Ended.REPEATED


def test_a_call_that_another_does_not_tell_of(records: Records) -> None:
    """One that was refused, and those without a key: the record is asked."""
    caller = new_caller(records, "truthlocks")
    unknown, refused = caller.begin(key="k"), caller.begin(key="k")
    caller.refused(refused)

    assert caller.settle_by(unknown, saying(RECEIPT_REVOKED)).settled.outcome is Ended.RECORDED
    assert caller.settle_by(caller.begin(), saying(ACTIVE)).settled.outcome is Ended.NOT_DONE


def test_a_call_that_another_tells_of_only_in_the_table(records: Records) -> None:
    """What is compared are the requests that were logged, whatever was made of the rows beside them."""
    caller = new_caller(records, "truthlocks")
    unknown, other = caller.begin(key="k"), caller.begin({"id": OTHER}, key="l")
    caller.answered(other, record_of("truthlocks", receipt_id=OTHER))
    own, others = (caller.call(attempt).idempotency for attempt in (unknown, other))

    for row, forged in ((unknown, others), (other, own)):
        before = caller.call(row).idempotency
        caller.set_call(row, idempotency=forged)
        assert caller.settle(unknown).outcome is None
        caller.set_call(row, idempotency=before)


def test_a_call_that_was_made_again_elsewhere(records: Records) -> None:
    """To another upstream it was not the same call, whatever its idempotency key."""
    caller = new_caller(records, "truthlocks", NOBODY)
    unknown = caller.begin(key="k")
    caller.set_source(upstream="http://127.0.0.1:19")
    caller.answered(caller.begin(key="k"))

    settled = caller.settle(unknown)

    assert (settled.outcome, settled.failed) == (None, False)
    assert settled.said == f"it was made to another upstream, {NOBODY}: its record is not asked"


def test_what_another_call_did(records: Records) -> None:
    """An act that was answered to another call, of another key, is that one's: the record shows none of this call."""
    caller = new_caller(records, "truthlocks")
    unknown, other = caller.begin(key="k"), caller.begin(key="other")
    caller.answered(other)

    settled = caller.settle_by(unknown, saying(RECEIPT_REVOKED)).settled

    assert settled.outcome is Ended.NOT_DONE
    assert [row.kind for row in caller.told()] == ["revocation", "attempt"]
    assert caller.wrong() == []


def test_the_other_call_makes_it_due(records: Records) -> None:
    """As soon as one with its idempotency key is answered, there is something to look at."""
    caller = new_caller(records, "truthlocks")
    unknown, again = caller.begin(key="k"), caller.begin(key="k")
    caller.set_call(unknown, next_at=None)

    caller.answered(again)

    assert caller.call(unknown).next_at == caller.call(again).ended_at


# ---- why it stays unknown -------------------------------------------------------------------------------------------


def stays(caller: Caller, attempt: Attempt, settled: Settled) -> str:
    """What is said of a call that is as unknown as before, and of which nothing was recorded."""
    assert (settled.outcome, settled.is_open, caller.told()) == (None, True, [])
    assert caller.call(attempt).outcome is None
    return settled.said


def test_what_is_missing(records: Records) -> None:
    """It is said, and nobody is asked."""
    caller = new_caller(records, "truthlocks")
    name, attempt = caller.party.source.name, caller.begin()

    def said() -> str:
        settled = caller.settle(attempt)
        assert not settled.failed
        return stays(caller, attempt, settled)

    set_credential(records, caller.party.tenant, caller.party.source.id, None)
    assert said() == f"source {name} has no read-only credential: receiver source credential"
    caller.set_source(upstream=None)
    assert said() == f"source {name} has no upstream: receiver source set --upstream"
    caller.set_source(enabled=False)
    assert said() == f"source {name} is disabled: receiver source enable"


def test_another_upstream(records: Records) -> None:
    """It is not asked what became of a call that it never got, not even of what that began."""
    for provider in ("truthlocks", "thanx"):
        caller = new_caller(records, provider, NOBODY)
        attempt = caller.begin()
        if provider == "thanx":
            caller.answered(attempt)

        async def look(caller: Caller = caller, attempt: Attempt = attempt) -> Settled:
            async with speaking(saying(RECEIPT_REVOKED)) as there, settling(caller) as settler:
                caller.set_source(upstream=there.url)
                settled = await settler.settle(attempt.id)
                assert there.came == []
                return settled

        settled = asyncio.run(look())
        assert (settled.is_open, settled.failed) == (True, False)
        assert settled.said == f"it was made to another upstream, {NOBODY}: its record is not asked"


def test_a_provider_without_a_record(records: Records) -> None:
    """An idempotency key lets the call be made again; without one there is nothing to do."""
    voucherify, scrip = new_caller(records, "voucherify"), new_caller(records, "capillary")
    neither, repeatable = voucherify.begin(), scrip.begin(key="k")

    assert stays(voucherify, neither, voucherify.settle(neither)) == (
        "the provider has neither a record to ask nor an idempotency key: it stays unknown, look there yourself"
    )
    assert stays(scrip, repeatable, scrip.settle(repeatable)) == (
        "the provider has no record to ask; repeat the call with the same idempotency key"
    )


def test_what_is_erased(records: Records) -> None:
    """Without the request nobody knows what to ask about."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    gone = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    with records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == attempt.id).values(**gone))

    said = stays(caller, attempt, caller.settle(attempt))

    assert said == "what it asked for is erased, or is not what was logged, so the provider's record cannot be asked"


def test_a_provider_that_is_not_known(records: Records) -> None:
    """A database may come from a version that knew more."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    caller.set_source(provider="acme")

    assert stays(caller, attempt, caller.settle(attempt)).startswith("there is no provider 'acme'")


def test_a_credential_that_does_not_open(records: Records) -> None:
    """It says so, and nobody is asked without it."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    with records.database.write() as tx:
        tx.execute(sa.update(credentials).values(value=b"x" * 64))

    look = caller.settle_by(attempt, saying(RECEIPT_REVOKED))

    assert "does not open with this data key" in stays(caller, attempt, look.settled)
    assert (look.came, look.settled.failed) == ([], True)


FAULTS = {
    "gone": (saying({}, "404 Not Found"), "cannot be read: the answer is 404"),
    "forbidden": (saying(RECEIPT_REVOKED, "403 Forbidden"), "cannot be read: the answer is 403"),
    "down": (saying({}, "503 Service Unavailable"), "cannot be read: the answer is 503"),
    "elsewhere": (answering(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"), "the answer is 302"),
    "empty": (answering(b"HTTP/1.1 204 No Content\r\n\r\n"), "cannot be read: the answer is 204"),
    "no JSON": (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{"), "cannot be read: "),
    "broken off": (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"), "cannot be asked: broken"),
    "endless": (saying({"a": "x" * 300_000}), "cannot be asked: answer_too_large"),
    "of another": (
        saying({**RECEIPT_REVOKED, "receipt_id": OTHER}),
        "does not tell: receipt_id is not the one asked for",
    ),
    "unheard of": (saying({**RECEIPT_REVOKED, "status": "melted"}), "does not tell: status is 'melted'"),
}
"""What an upstream may do instead of showing the record, and what is said then."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_record_that_does_not_tell(records: Records, fault: str) -> None:
    """Nothing is recorded; what is said never has the credential in it, which the upstream was sent."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    behave, why = FAULTS[fault]

    look = caller.settle_by(attempt, behave)

    said = stays(caller, attempt, look.settled)
    assert said.startswith("the provider's record ")
    assert why in said
    assert look.settled.failed
    [request] = look.came
    assert request.startswith(f"GET /v1/receipts/{RECEIPT} HTTP/1.1\r\n".encode())
    assert b"\r\nx-api-key: tl_test_sandbox\r\n" in request
    assert "tl_test_sandbox" not in said + repr(look.settled)


def test_an_upstream_that_is_not_there(records: Records) -> None:
    """It is said, and whatever is recorded later is recorded then."""
    caller = new_caller(records, "truthlocks", NOBODY)
    attempt = caller.begin()

    assert stays(caller, attempt, caller.settle(attempt)) == "the provider's record cannot be asked: unreachable"
    assert caller.settle_by(attempt, saying(RECEIPT_REVOKED)).settled.outcome is Ended.RECORDED


def test_a_call_that_is_not_there(records: Records) -> None:
    """Nor any id that could be one."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()

    for wrong in (OTHER, "", "x", "\0", "\ud800"):
        with pytest.raises(NoSuchAttemptError, match="there is no call"):
            caller.settle(altered(attempt, id=wrong))


def test_a_call_whose_outcome_is_known(records: Records) -> None:
    """It is told, and nobody is asked."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    outcome = caller.refused(attempt)

    settled = caller.settle(attempt)

    said = f"the provider refused it: {outcome.id}, entry {outcome.log_index}"
    assert settled == Settled(attempt.id, Ended.REFUSED, outcome.id, under_way=False, said=said)
