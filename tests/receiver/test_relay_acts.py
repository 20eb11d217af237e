"""Acts that are not a call's own: told of before it, or by others, and so not what became of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver import providers
from receiver.events import format_time, new_id
from receiver.records.attempts import Attempt, Ended, idempotency_key_of
from receiver.records.opening import Records
from receiver.relay.calls import MAX_KEPT, prepare
from receiver.relay.others import acts_beside
from receiver.relay.settling import Settled
from tests.receiver.open_calls import Caller, as_json, new_caller, record_of, saying
from tests.receiver.operations import EXAMPLES, RECEIPT, REVERSAL
from tests.receiver.submissions import altered, new_sources

RECEIPT_REVOKED = record_of("truthlocks", revoked_at=None)
REVOKING = record_of("thanx")
JOB_MEMBERS: dict[str, Any] = REVOKING["issuance_job"]
REVOKED = {"issuance_job": {**JOB_MEMBERS, "state": "revoked"}}
ASKED = {"reason": "r", "amount": "5"}


def listed(*reversals: dict[str, Any]) -> dict[str, Any]:
    """The record of these."""
    return {"data": list(reversals), "pagination": {"has_more": False, "next_cursor": None}}


def reversal() -> dict[str, Any]:
    """A reversal of the redemption, made now."""
    made = {"id": new_id(), "created_at": format_time(datetime.now(UTC)), "reason": "r", "amount": "5.00"}
    return {**REVERSAL, **made}


def found(caller: Caller, attempt: Attempt, record: dict[str, Any]) -> Settled:
    """What becomes of a call if that is the provider's record; and the log is sound then."""
    settled = caller.settle_by(attempt, saying(record)).settled
    assert caller.wrong() == []
    return settled


@pytest.mark.parametrize(("provider", "record"), [("truthlocks", RECEIPT_REVOKED), ("thanx", REVOKED)])
@pytest.mark.parametrize("by", ["answer", "record"])
def test_an_act_that_was_told_of_before_the_call(
    records: Records, provider: str, record: dict[str, Any], by: str
) -> None:
    """It is not the call's, whichever source of the provider told of it, and however."""
    other, caller = new_caller(records, provider), new_caller(records, provider)
    earlier = other.begin()
    if by == "answer":
        other.answered(earlier)
    else:
        other.settle_by(earlier, saying(RECEIPT_REVOKED if provider == "truthlocks" else REVOKING))

    assert found(caller, caller.begin(), record).outcome is Ended.NOT_DONE


def test_a_webhook_of_before_the_call_and_one_of_after_it(records: Records) -> None:
    """The one tells that the act is another's, the other may be of this call. Of UUIDs the case does not count."""
    caller, [webhooks] = new_caller(records, "truthlocks"), new_sources(records, "default")
    revoked = {"event_type": "receipt.revoked", "receipt_type": "payment_receipt", "revoked_at": "2026-11-20T09:00:01Z"}
    before = caller.begin()
    webhooks.write(json.dumps({**revoked, "receipt_id": RECEIPT.upper()}).encode())
    after = caller.begin()

    assert found(caller, after, RECEIPT_REVOKED).outcome is Ended.NOT_DONE
    assert found(caller, before, RECEIPT_REVOKED).outcome is Ended.RECORDED


def test_tests_are_apart(records: Records) -> None:
    """What a test source was told of is no act on the item of a call that is none."""
    tests, caller = new_caller(records, "truthlocks"), new_caller(records, "truthlocks")
    tests = altered(tests, party=altered(tests.party, source=altered(tests.party.source, test=True)))
    tests.answered(tests.begin())

    assert found(caller, caller.begin(), RECEIPT_REVOKED).outcome is Ended.RECORDED


@pytest.mark.parametrize(("seconds", "outcome"), [(-61, Ended.NOT_DONE), (-59, Ended.RECORDED), (1, Ended.RECORDED)])
def test_a_revocation_of_before_the_call_by_its_time(records: Records, seconds: int, outcome: Ended) -> None:
    """Though nobody told of it; the provider's clock may be behind somewhat."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    at = format_time(attempt.called_at + timedelta(seconds=seconds))

    assert found(caller, attempt, record_of("truthlocks", revoked_at=at)).outcome is outcome


def test_a_job_that_another_call_began_to_revoke(records: Records) -> None:
    """Its end is no act of this call either, though its state is told of by nothing yet."""
    caller = new_caller(records, "thanx")
    unknown, other = caller.begin(), caller.begin()
    caller.answered(other)

    assert found(caller, unknown, REVOKED).outcome is Ended.NOT_DONE
    assert "has ended: recorded" in found(caller, other, REVOKED).said


def test_a_job_that_was_found_for_another_call(records: Records) -> None:
    """One of the two began it, and nobody can tell which; that one is followed, this one stays unknown."""
    caller = new_caller(records, "thanx")
    first, second = caller.begin(), caller.begin()
    assert found(caller, first, REVOKING).outcome is Ended.RECORDED

    for record in (REVOKING, REVOKED):
        settled = found(caller, second, record)
        assert settled.outcome is None
        assert "one of the two did it, and nobody can tell which" in settled.said
    assert not found(caller, first, REVOKED).is_open
    assert [row.effect for row in caller.told()] == ["revoking", "revoked"]


def test_an_act_that_was_answered_to_a_call_to_another_upstream(records: Records) -> None:
    """Whether that is the same issuer, nobody knows; so nothing is said of this call."""
    caller = new_caller(records, "truthlocks")
    attempt, other = caller.begin(), caller.begin()
    caller.answered(other)
    caller.set_call(other, upstream="http://127.0.0.1:19")

    with records.database.read() as tx:
        acts = acts_beside(tx, caller.party, attempt)

    assert (acts.of_others, acts.in_doubt) == (frozenset(), {RECEIPT})


def test_the_one_reversal_that_is_nobody_elses(records: Records) -> None:
    """Those that were told of before, or were answered to another call, are left out of account."""
    caller = new_caller(records, "scrip")
    old, others, mine = reversal(), reversal(), reversal()
    caller.answered(caller.begin(request=ASKED), old)
    attempt, other = caller.begin(request=ASKED), caller.begin(request=ASKED)
    caller.answered(other, {**others, "id": others["id"].upper()})

    assert found(caller, attempt, listed(old, others)).outcome is Ended.NOT_DONE
    assert found(caller, attempt, listed(old, others, mine)).outcome is Ended.RECORDED
    assert json.loads(caller.told()[-1].event_data)["operation"] == mine["id"]


def test_a_reversal_that_was_found_for_another_call(records: Records) -> None:
    """It is of one of the two; another one beside it may be either's."""
    caller = new_caller(records, "scrip")
    first, second = caller.begin(request=ASKED), caller.begin(request=ASKED)
    one, two = reversal(), reversal()
    assert found(caller, first, listed(one)).outcome is Ended.RECORDED

    assert "one of the two did it" in found(caller, second, listed(one)).said
    assert "2 of the reversals may be this call's" in found(caller, second, listed(one, two)).said
    assert caller.call(second).outcome is None


@pytest.mark.parametrize("key", ["k", "", "x" * MAX_KEPT, "x" * (MAX_KEPT + 1), "\u00e9", "a\tb", 7])
@pytest.mark.parametrize("provider", ["truthlocks", "scrip"])
def test_an_idempotency_key_that_is_derived(provider: str, key: object) -> None:
    """It is the one that the relay took for the call's, which is none where it is not fit for one."""
    operation, example = providers.get(provider).operation, EXAMPLES[provider]
    request, headers = {**example.request}, list[tuple[bytes, bytes]]()
    if operation.idempotency_header is None:
        request["idempotency_key"] = json.loads(json.dumps(key))
    else:
        headers.append((operation.idempotency_header.encode(), str(key).encode()))
    outgoing = prepare(operation, example.path, headers, as_json(request))

    assert outgoing is not None
    assert outgoing.idempotency_key == idempotency_key_of(operation, outgoing.kept, outgoing.body)
