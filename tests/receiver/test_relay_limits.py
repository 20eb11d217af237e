"""What one source, a slow database or a provider that repeats what it was sent may cost others: nothing."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

import receiver.relay.answers as answering
import receiver.relay.service as relaying
from receiver import providers
from tests.receiver.operations import EXAMPLES
from tests.receiver.passed_on import as_json
from tests.receiver.relays import (
    CREDENTIALS,
    Gate,
    answer,
    faults_found,
    new_operator,
    out_of_reach,
    saying,
    standing,
    succeeding,
)
from tests.receiver.service import Service, problem, running, settings_in, until
from tests.translog import faults

DONE = as_json(EXAMPLES["truthlocks"].answer)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service on SQLite."""
    with running(settings_in(tmp_path_factory.mktemp("service"))) as service:
        yield service


def test_calls_of_one_source_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 for one more than may be under way, which is not passed on; another source's calls go through meanwhile."""
    monkeypatch.setattr(relaying, "MOST_AT_ONCE", 2)
    said = Gate(answer(200, DONE))
    with standing(said) as slow, standing(succeeding("truthlocks")) as quick, ThreadPoolExecutor(2) as pool:
        operator, other = (new_operator(service, "truthlocks", there.url) for there in (slow, quick))
        waiting = [pool.submit(operator.call) for _ in range(2)]
        until(lambda: slow.connections == 2)
        too_many, elsewhere = operator.call(), other.call()
        rows, called = len(operator.rows()), slow.connections
        said.go.set()
        answered = [call.result().status_code for call in waiting]
        until(lambda: operator.call().status_code == 200)

    assert (too_many.status_code, problem(too_many)["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert (too_many.headers["retry-after"], "x-rescind-attempt" in too_many.headers) == ("1", False)
    assert (rows, called, answered, elsewhere.status_code) == (2, 2, [200, 200], 200)
    assert operator.counted("too_many") >= 1


def test_a_call_that_was_not_made_takes_up_no_room(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many could not be recorded, the next one passes."""
    monkeypatch.setattr(relaying, "MOST_AT_ONCE", 1)
    with standing(succeeding("truthlocks")) as there:
        operator = new_operator(service, "truthlocks", there.url)
        for _ in range(3):
            with faults.at(service.records.database, "before", "INSERT INTO deliveries", happens=out_of_reach):
                assert operator.call().status_code == 503
        assert operator.call().status_code == 200


def test_a_call_whose_intent_took_too_long_is_not_made(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited may have given it up by then: 502, and it is recorded that nothing was sent."""
    monkeypatch.setattr(relaying, "LATE", timedelta(0))
    with standing(succeeding("truthlocks")) as there:
        operator = new_operator(service, "truthlocks", there.url)
        response = operator.call()

    assert (response.status_code, problem(response)["details"]["reason"]) == (502, "late")
    assert response.headers["x-rescind-event"] == operator.told()[0].id
    assert (operator.outcomes(), there.connections) == (["not_sent"], 0)


def test_an_answer_that_takes_long_to_record_is_given_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in its file by then, and is recorded once, though it was tried twice."""
    monkeypatch.setattr(answering, "WITHIN", 0.1)
    said = Gate(answer(200, DONE))
    with running(settings_in(tmp_path)) as service, standing(said) as there, ThreadPoolExecutor(1) as pool:
        operator = new_operator(service, "truthlocks", there.url)
        called = pool.submit(operator.call)
        until(said.came.is_set)
        with service.records.database.write():
            said.go.set()
            response = called.result()
            files = list((service.records.settings.data / "relay-pending").glob("*.answer"))
        until(lambda: operator.outcomes() == ["recorded"])
        until(lambda: service.metric("rescind_relay_pending") == 0)
        assert (len(operator.told()), faults_found(service)) == (1, [])

    assert (response.content, response.headers["x-rescind-recorded"], len(files)) == (DONE, "pending", 1)


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("provider", providers.names())
def test_a_credential_that_the_answer_repeats_is_not_kept(service: Service, provider: str, status: int) -> None:
    """The caller gets the answer as it was; kept is it without what the provider's credentials are."""
    credentials = [
        CREDENTIALS[provider][name]
        for name in providers.get(provider).operation.credentials
        if name in CREDENTIALS[provider]
    ]
    tokens = [credential.split(" ")[-1] for credential in credentials]
    body = as_json({"you sent": [*credentials, *tokens], "reason": "kept"})
    with standing(saying(status, body)) as there:
        operator = new_operator(service, provider, there.url)
        response = operator.call()

    [told] = operator.told()
    assert (response.content, response.status_code) == (body, status)
    assert b'"reason": "kept"' in told.body
    assert told.body.count(b"[removed]") == 2 * len(credentials)
    assert [token for token in tokens if token.encode() in told.body] == []
