"""Which entry tells of which call: answers that came before, that differ, that come at once or twice, or late."""

import itertools
import uuid
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from msgspec import structs

from receiver import providers
from receiver.intake.batch import write_batch
from receiver.intake.submission import Submission
from receiver.records.attempts import Attempt
from receiver.records.opening import Records
from receiver.relay import entries
from tests.receiver.open_calls import Caller, new_caller
from tests.receiver.operations import CALLED_AT, EXAMPLES
from tests.receiver.passed_on import as_json
from tests.receiver.relays import (
    answer,
    faults_found,
    new_operator,
    sandbox_operator,
    saying,
    standing,
    succeeding,
)
from tests.receiver.service import Service, at_once
from tests.receiver.upstreams import Behaviour, Connection
from tests.sandbox.service import Sandbox
from tests.sandbox.service import running as sandbox_running


def in_turn(*said: bytes) -> Behaviour:
    """An upstream that gives these answers, one after the other."""
    waiting = iter(said)

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.say(next(waiting))

    return behave


def headers_of(responses: list[Any]) -> list[tuple[str, int]]:
    """Which event the callers were told, and at which place in the log."""
    return [(one.headers["x-rescind-event"], int(one.headers["x-rescind-log-index"])) for one in responses]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """A running sandbox, which delivers nothing."""
    with sandbox_running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


# ---- the same answer again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", providers.names())
def test_the_same_answer_to_another_call_is_no_second_event(either_service: Service, provider: str) -> None:
    """The caller is told the first one's; an entry says that the second call was answered as the first was."""
    with standing(succeeding(provider)) as there:
        operator = new_operator(either_service, provider, there.url)
        responses = [operator.call() for _ in range(3)]

    event, *others = operator.told()
    assert headers_of(responses) == [(event.id, event.log_index)] * 3
    assert operator.outcomes() == ["recorded", "duplicate", "duplicate"]
    for attempt, told, response in zip(operator.attempts()[1:], others, responses[1:], strict=True):
        assert (attempt.outcome_id, attempt.id) == (told.id, response.headers["x-rescind-attempt"])
        assert operator.facts(told) == {
            "attempt": attempt.id,
            "effect": None,
            "event": providers.get(provider).operation.name,
            "first": event.id,
            "outcome": "duplicate",
            "provider": provider,
            "received_at": told.received_at,
            "source": operator.source_id,
            "status": response.status_code,
            "test": False,
        }
        assert told.body == response.content
    assert faults_found(either_service) == []


def test_an_answer_that_differs_is_kept_beside_the_first(either_service: Service) -> None:
    """A `mismatch`, once for each content; the first stays the event, and is the one that the callers are told."""
    done = EXAMPLES["capillary"].answer
    other = {**done, "warnings": [{"code": 1}]}
    with standing(in_turn(*(answer(200, as_json(one)) for one in (done, other, other, done)))) as there:
        operator = new_operator(either_service, "capillary", there.url)
        responses = [operator.call() for _ in range(4)]

    event, mismatch, again, same = operator.told()
    assert operator.outcomes() == ["recorded", "mismatch", "duplicate", "duplicate"]
    assert [attempt.outcome_id for attempt in operator.attempts()] == [event.id, mismatch.id, again.id, same.id]
    assert (mismatch.kind, mismatch.first_id) == ("mismatch", event.id)
    assert operator.facts(mismatch)["attempt"] == operator.attempts()[1].id
    assert [operator.facts(row)["first"] for row in (again, same)] == [mismatch.id, event.id]
    told = [event, mismatch, mismatch, event]
    assert headers_of(responses) == [(event.id, row.log_index) for row in told]
    assert faults_found(either_service) == []


def test_answers_that_are_not_understood_are_one_each(either_service: Service) -> None:
    """Also if they are the same to the byte: what each of them tells of its call may be understood later."""
    with standing(saying(200, b"no JSON")) as there:
        operator = new_operator(either_service, "capillary", there.url)
        responses = [operator.call() for _ in range(2)]

    told = operator.told()
    assert [row.kind for row in told] == ["quarantine"] * 2
    assert headers_of(responses) == [(row.id, row.log_index) for row in told]
    assert [operator.facts(row)["attempt"] for row in told] == [attempt.id for attempt in operator.attempts()]
    assert operator.outcomes() == ["quarantined"] * 2
    assert faults_found(either_service) == []


def test_refusals_are_one_each(either_service: Service) -> None:
    """Also if they are the same to the byte: each call was refused."""
    with standing(saying(422, b"{}")) as there:
        operator = new_operator(either_service, "thanx", there.url)
        responses = [operator.call() for _ in range(3)]

    assert headers_of(responses) == [(row.id, row.log_index) for row in operator.told()]
    assert operator.outcomes() == ["refused"] * 3
    assert len({row.id for row in operator.told()}) == 3
    assert faults_found(either_service) == []


def test_another_refusal_of_an_item_is_an_event_of_its_own(either_service: Service) -> None:
    """Where the provider refuses with a success to HTTP: with another error it differs from nothing, and breaks no
    rule; the same again, whatever came between, is no second event.
    """
    says: list[dict[str, Any]] = [{"code": 814, "message": "Not active"}, {"code": 500, "message": "Try again"}]
    inactive, failed = ({"data": None, "errors": [error], "warnings": []} for error in says)
    with standing(in_turn(*(answer(200, as_json(one)) for one in (inactive, failed, inactive, failed)))) as there:
        operator = new_operator(either_service, "capillary", there.url)
        responses = [operator.call() for _ in range(4)]

    first, other, *again = operator.told()
    assert operator.outcomes() == ["recorded", "recorded", "duplicate", "duplicate"]
    assert [(row.kind, row.effect, row.breaches) for row in (first, other)] == [("revocation", "refused", None)] * 2
    assert [operator.facts(row)["first"] for row in again] == [first.id, other.id]
    assert headers_of(responses) == [(row.id, row.log_index) for row in (first, other)] * 2
    assert faults_found(either_service) == []


def test_an_act_that_breaks_a_rule_is_recorded_with_the_breach(either_service: Service) -> None:
    """A receipt that was revoked is revoked again, by the provider's own word, at another time."""
    done = EXAMPLES["truthlocks"].answer
    later = {**done, "revoked_at": "2026-11-20T10:00:00Z"}
    with standing(in_turn(answer(200, as_json(done)), answer(200, as_json(later)))) as there:
        operator = new_operator(either_service, "truthlocks", there.url)
        responses = [operator.call() for _ in range(2)]

    first, second = operator.told()
    assert headers_of(responses) == [(first.id, first.log_index), (second.id, second.log_index)]
    assert operator.outcomes() == ["recorded", "recorded"]
    assert operator.facts(second)["breaches"] == ["revoked_again"]


# ---- at once --------------------------------------------------------------------------------------------------------


def test_of_calls_at_once_one_is_recorded(either_service: Service) -> None:
    """Whichever is first, all others are answered as it was; and each has its own intent and outcome."""
    with standing(succeeding("capillary")) as there:
        operator = new_operator(either_service, "capillary", there.url)
        responses = at_once(12, lambda _: operator.call())

    assert len(set(headers_of(responses))) == 1
    assert Counter(operator.outcomes()) == {"recorded": 1, "duplicate": 11}
    assert {one.headers["x-rescind-attempt"] for one in responses} == {row.id for row in operator.attempts()}
    assert len(operator.rows()) == 24
    assert faults_found(either_service) == []


def test_of_calls_at_once_the_provider_does_one(either_service: Service, sandbox: Sandbox) -> None:
    """Whoever was refused has an event of that, and the item is taken back by one act."""
    operator, before = sandbox_operator(either_service, "truthlocks", sandbox), len(sandbox.entries())

    responses = at_once(8, lambda _: operator.call())

    assert Counter(one.status_code for one in responses) == {200: 1, 409: 7}
    assert Counter(operator.outcomes()) == {"recorded": 1, "refused": 7}
    assert len(sandbox.entries()) == before + 1
    assert faults_found(either_service) == []


def test_of_calls_at_once_with_one_key_all_are_answered(either_service: Service, sandbox: Sandbox) -> None:
    """The provider does it once, and the log tells of it once."""
    operator, before = sandbox_operator(either_service, "scrip", sandbox), len(sandbox.entries())
    body = {"reason": "r", "idempotency_key": str(uuid.uuid4())}

    responses = at_once(8, lambda _: operator.call(body=body))

    assert {one.status_code for one in responses} <= {200, 201}
    assert len(set(headers_of(responses))) == 1
    assert Counter(operator.outcomes()) == {"recorded": 1, "duplicate": 7}
    assert len(sandbox.entries()) == before + 1


# ---- in one batch ---------------------------------------------------------------------------------------------------


@pytest.fixture
def caller(records: Records) -> Caller:
    """Whoever makes calls whose answers are written by hand."""
    return new_caller(records, "truthlocks")


def answered(caller: Caller, attempt: Attempt, **members: object) -> Submission:
    """What the answer to a call becomes."""
    body = as_json({**EXAMPLES["truthlocks"].answer, **members})
    return entries.answer(caller.party, structs.replace(attempt, status=200), body, CALLED_AT)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_comes_in_one_batch_comes_in_its_order(caller: Caller, order: tuple[int, ...]) -> None:
    """Two answers that are the same and one that differs, to three calls: as if they had come one by one."""
    calls = [caller.begin() for _ in range(3)]
    all_three = [answered(caller, calls[0]), answered(caller, calls[1]), answered(caller, calls[2], receipt_type="x")]

    outcomes = write_batch(caller.records.database, [all_three[number] for number in order])

    first = outcomes[0].id
    assert [one.id for one in outcomes] == [first] * 3
    became = {calls[number].id: caller.call(calls[number]).outcome for number in order}
    expected: dict[int, str] = {order[0]: "recorded", 2: "mismatch"}
    if order[0] == 2:
        expected = {2: "recorded", order[1]: "mismatch"}
    assert became == {calls[number].id: expected.get(number, "duplicate") for number in order}
    assert len(caller.told()) == 3


def test_what_is_told_twice_of_one_call_is_written_once(caller: Caller) -> None:
    """In one batch or in two: an answer that was held is recorded by whoever has it, perhaps again."""
    calls = [structs.replace(caller.begin(), status=409) for _ in range(5)]
    for attempt, submission in zip(
        calls,
        (
            answered(caller, calls[0]),
            answered(caller, calls[1], receipt_type="x"),
            answered(caller, calls[2], revoked_at="no time"),
            entries.refusal(caller.party, calls[3], b"{}", CALLED_AT),
            entries.not_sent(caller.party, calls[4], CALLED_AT),
        ),
        strict=True,
    ):
        before = len(caller.told())
        twice = write_batch(caller.records.database, [submission, submission])
        again = write_batch(caller.records.database, [submission])
        assert len({(one.id, one.log_index) for one in (*twice, *again)}) == 1
        assert len(caller.told()) == before + 1
        assert caller.call(attempt).outcome_id == caller.told()[-1].id


@pytest.mark.parametrize("late", ["the same", "another event", "refused", "not understood"])
def test_an_answer_that_comes_late_does_not_change_what_is_known(caller: Caller, late: str) -> None:
    """The call was made again, and that told of both; then an answer to the first, which was held, is recorded."""
    first, second = (caller.begin(key="k") for _ in range(2))
    event = caller.answered(second)
    caller.write(entries.repeated(caller.party, first, event.id, CALLED_AT))
    known, repeated = caller.call(first), caller.told()[-1]

    caller.write(
        {
            "the same": answered(caller, first),
            "another event": answered(caller, first, revoked_at="2026-11-20T10:00:00Z"),
            "refused": entries.refusal(caller.party, structs.replace(first, status=409), b"{}", CALLED_AT),
            "not understood": answered(caller, first, revoked_at="no time"),
        }[late]
    )

    assert caller.call(first) == known
    assert (known.outcome, known.outcome_id) == ("repeated", repeated.id)
    assert caller.facts(repeated)["first"] == event.id
    told = caller.told()[-1]
    assert (told.id == repeated.id) == (late == "the same")
    assert caller.facts(told)["attempt"] == first.id
