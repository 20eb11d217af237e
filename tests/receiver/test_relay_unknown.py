"""Calls of which nobody knows what became: no answer, half of one, one that does not tell, or a receiver that died.

The caller is told that it is unknown; the intent is there, without an outcome, until somebody finds out.
"""

import asyncio
import dataclasses
import json
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import receiver.server
from receiver import providers
from receiver.settings import Settings
from tests.receiver.open_calls import NOBODY
from tests.receiver.operations import EXAMPLES, WITH_LOOKUP
from tests.receiver.relays import (
    CREDENTIALS,
    DEATHS,
    Gate,
    answer,
    faults_found,
    mortal,
    new_operator,
    saying,
    standing,
    succeeding,
)
from tests.receiver.service import PATIENCE, Service, problem, read_all, replies, running, settings_in, until
from tests.receiver.upstreams import Behaviour, Connection, answering, silence
from tests.sandbox.service import Sandbox
from tests.sandbox.service import running as sandbox_running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that waits one second for an answer."""
    with running(settings_in(tmp_path_factory.mktemp("impatient"), relay_timeout=1)) as service:
        yield service


@pytest.fixture(scope="module")
def sandbox_of_all(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """A running sandbox, which delivers nothing."""
    with sandbox_running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(sandbox_of_all: Sandbox) -> Sandbox:
    """The same, with everything in it as it was in the beginning."""
    assert sandbox_of_all.client.post("/sandbox/reset").status_code == 204
    return sandbox_of_all


# ---- no whole answer ------------------------------------------------------------------------------------------------


async def _dribble(connection: Connection) -> None:
    """Say a little, again and again, and never all of it."""
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while not connection.writer.is_closing():
        await connection.say(b"x")
        await asyncio.sleep(0.05)


FAULTS: dict[str, tuple[Behaviour, int, str]] = {
    "silent": (silence, 504, "timeout"),
    "without an end": (_dribble, 504, "timeout"),
    "closed": (answering(), 502, "broken"),
    "half an answer": (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"), 502, "broken"),
    "no HTTP": (answering(b"250 OK\r\n\r\n"), 502, "broken"),
    "another protocol": (answering(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), 502, "broken"),
    "too large": (saying(200, b"x" * 262_145), 502, "answer_too_large"),
}
"""What an upstream may do instead of answering, the status that the caller gets, and the reason."""


@pytest.mark.parametrize(("behave", "status", "reason"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("provider", ["truthlocks", "capillary", "scrip"])
def test_without_a_whole_answer_the_outcome_is_unknown(
    service: Service, provider: str, behave: Behaviour, status: int, reason: str
) -> None:
    """502 or 504, which name the attempt and, if it has one, the key with which the call can be repeated."""
    with standing(behave) as there:
        operator = new_operator(service, provider, there.url)
        before = operator.counted("unknown")
        response = operator.call(
            body={**EXAMPLES[provider].request, "idempotency_key": "k"} if provider == "scrip" else None
        )

    members, attempt = problem(response), operator.attempt()
    key = "k" if provider == "scrip" else response.headers.get("x-rescind-idempotency-key")
    assert members["details"] == {"attempt": attempt.id, "reason": reason} | ({"idempotency_key": key} if key else {})
    assert (members["status"], "repeat the call" in members["detail"]) == (status, key is not None)
    assert (key is None) == (provider == "capillary")
    assert response.headers["x-rescind-recorded"] == "unknown"
    assert response.headers["x-rescind-attempt"] == attempt.id
    assert "x-rescind-event" not in response.headers
    assert (attempt.outcome, operator.told(), len(there.came)) == (None, [], 1)
    assert operator.counted("unknown") == before + 1
    assert operator.told_of(attempt.id)["outcome"] == "in_progress"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 300, 301, 302, 304, 307, 308])
def test_an_answer_that_does_not_tell_leaves_it_unknown(service: Service, status: int) -> None:
    """A fault may have come after the act; a redirect is not followed. The caller gets either as it is."""
    with standing(saying(status, b"" if status == 304 else b"theirs", [("location", "/v1/elsewhere")])) as there:
        operator = new_operator(service, "truthlocks", there.url)
        response = operator.call()

    assert (response.status_code, response.content) == (status, b"" if status == 304 else b"theirs")
    assert response.headers["x-rescind-recorded"] == "unknown"
    assert response.headers["x-rescind-attempt"] == operator.attempt().id
    assert (operator.outcomes(), operator.told(), len(there.came)) == ([None], [], 1)


def test_what_was_never_sent_is_known(service: Service) -> None:
    """There was no connection: 502, and an entry says so."""
    operator = new_operator(service, "truthlocks", NOBODY)
    before = operator.counted("not_sent")

    response = operator.call()

    [told] = operator.told()
    assert problem(response)["details"] == {"attempt": operator.attempt().id, "reason": "unreachable"}
    assert response.headers["x-rescind-event"] == told.id
    assert response.headers["x-rescind-log-index"] == str(told.log_index)
    assert (response.status_code, told.effect, told.body) == (502, None, b"")
    facts = operator.facts(told)
    assert (facts["outcome"], facts["effect"], facts["status"]) == ("not_sent", None, None)
    assert (operator.outcomes(), operator.counted("not_sent")) == (["not_sent"], before + 1)
    assert operator.told_of(operator.attempt().id)["outcome"] == "not_sent"


# ---- finding out ----------------------------------------------------------------------------------------------------


def losing(sandbox: Sandbox) -> Behaviour:
    """What stands between the caller and the sandbox, and loses the answer to the first request."""

    async def behave(connection: Connection) -> None:
        request = await connection.request()
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.client.base_url.port)
        writer.write(request)
        said = await reader.read()
        writer.close()
        if len(connection.came) > 1:
            await connection.say(said)

    return behave


@pytest.mark.parametrize("provider", ["truthlocks", "scrip"])
def test_a_call_without_an_answer_is_repeated_with_its_key(service: Service, sandbox: Sandbox, provider: str) -> None:
    """The answer to the second tells of both: the act was done once, and is one event."""
    before = len(sandbox.entries())
    with standing(losing(sandbox)) as there:
        operator = new_operator(service, provider, there.url)
        lost = operator.call(body={"reason": "r"})
        assert (lost.status_code, operator.outcomes()) == (502, [None])
        key = problem(lost)["details"]["idempotency_key"]
        body = {"reason": "r"} | ({"idempotency_key": key} if provider == "scrip" else {})
        response = operator.call(headers={"Idempotency-Key": key}, body=body)
        until(lambda: operator.outcomes() == ["repeated", "recorded"])

    assert response.status_code in providers.get(provider).operation.successes
    event, repeated = operator.told()
    assert (event.id, operator.facts(repeated)["first"]) == (response.headers["x-rescind-event"], event.id)
    assert len(sandbox.entries()) == before + 1


@pytest.mark.parametrize("provider", WITH_LOOKUP)
def test_the_providers_own_record_tells(service: Service, sandbox: Sandbox, provider: str) -> None:
    """Once the source has a credential for it, it is asked: the act is an event, by `poll`, of the same attempt."""
    before = len(sandbox.entries())
    with standing(losing(sandbox)) as there:
        operator = new_operator(service, provider, there.url, tenant=f"asking-{provider}")
        assert operator.call().status_code == 502
        operator.set_credential()
        until(lambda: operator.outcomes() == ["recorded"])

    told, attempt = operator.told()[0], operator.attempt()
    assert (told.id, told.via, told.scheme) == (attempt.outcome_id, "poll", "upstream")
    assert operator.facts(told)["attempt"] == attempt.id
    assert json.loads(told.event_data)["item"]["id"] == sandbox.entries()[before]["item"]["id"]


# ---- callers that go away, receivers that stop ----------------------------------------------------------------------


def test_a_caller_who_goes_away_changes_nothing(service: Service) -> None:
    """What was begun is recorded, though nobody waits for the answer any more."""
    said = Gate(answer(422, b'{"code":"NO"}'))
    with standing(said) as there:
        operator = new_operator(service, "truthlocks", there.url)
        with service.connect() as connection:
            connection.sendall(operator.write())
            until(said.came.is_set)
        said.go.set()
        until(lambda: operator.outcomes() == ["refused"])

    assert operator.told()[0].body == b'{"code":"NO"}'


def test_a_stop_waits_for_the_call_under_way(tmp_path: Path) -> None:
    """The caller gets the answer, and it is recorded, though the service was told to stop meanwhile."""
    said, settings = Gate(answer(422, b"{}")), settings_in(tmp_path)
    with standing(said) as there, running(settings) as service, service.connect() as connection:
        operator = new_operator(service, "truthlocks", there.url)
        connection.sendall(operator.write())
        until(said.came.is_set)
        service.stop()
        said.go.set()
        [reply] = replies(read_all(connection))
    with running(settings) as service:
        operator = dataclasses.replace(operator, service=service)
        [told] = operator.told()
        assert faults_found(service) == []

    assert (reply.status, reply.headers["x-rescind-event"]) == (422, told.id)


def test_a_call_outlasts_the_time_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told that it is unknown when that is over; the answer is waited for all the same, and recorded."""
    monkeypatch.setattr(receiver.server, "GRACE", 0.2)
    said, settings = Gate(answer(422, b"{}")), settings_in(tmp_path)
    with standing(said) as there:
        with running(settings) as service, service.connect() as connection:
            operator = new_operator(service, "truthlocks", there.url)
            connection.sendall(operator.write(b"idempotency-key: k"))
            until(said.came.is_set)
            service.stop()
            [reply] = replies(read_all(connection))
            said.go.set()
        with running(settings) as service:
            operator = dataclasses.replace(operator, service=service)
            [attempt] = operator.attempts()
            assert faults_found(service) == []

    assert (reply.status, reply.headers["x-rescind-recorded"], attempt.outcome) == (504, "unknown", "refused")
    assert reply.headers["x-rescind-attempt"] == attempt.id
    assert problem(reply)["details"] == {"attempt": attempt.id, "reason": "stopping", "idempotency_key": "k"}


@pytest.mark.parametrize("where", [where for where in DEATHS if where != "pending"])
def test_a_receiver_that_dies(settings: Settings, where: str) -> None:
    """At any line there is an intent if the provider may have been called; and an outcome, or it is listed without."""
    key = str(uuid.uuid4())
    with standing(succeeding("truthlocks")) as there:
        with running(settings) as service:
            operator = new_operator(service, "truthlocks", there.url)
        sent = {"x-rescind-key": operator.key, "idempotency-key": key, **CREDENTIALS["truthlocks"]}
        with mortal(settings, where) as url, pytest.raises(httpx2.RemoteProtocolError):
            httpx2.post(url + operator.path, content=operator.body, headers=sent, timeout=PATIENCE)
        called = there.connections
        with running(settings) as service:
            operator = dataclasses.replace(operator, service=service)
            found = operator.outcomes()
            listed = service.client.get("/v1/attempts", headers=service.key()).json()["items"]
            response = operator.call(headers={"idempotency-key": key})
            until(lambda: None not in operator.outcomes())
            after = operator.outcomes()
            assert faults_found(service) == []

    assert (called, found) == {
        "intending": (0, []),
        "intended": (0, [None]),
        "answered": (1, [None]),
        "writing": (1, [None]),
        "written": (1, ["recorded"]),
    }[where]
    assert [attempt["outcome"] for attempt in listed] == [outcome or "in_progress" for outcome in found]
    assert response.status_code == 200
    expected: dict[Any, list[str]] = {None: ["repeated", "recorded"], "recorded": ["recorded", "duplicate"]}
    assert after == (expected[found[0]] if found else ["recorded"])
