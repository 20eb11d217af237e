"""Whatever becomes of a call, the caller's credentials are nowhere afterwards: not in a file, not in the log's output.

All that the service keeps is searched as bytes: the database with its write-ahead log, the files beside it, the guard.
"""

import base64
import json
import logging
from pathlib import Path

import pytest

import receiver.records.engine
from receiver import providers
from receiver.records.pending import FOLDER, Held, Pending
from tests.postgres import Cluster
from tests.receiver.open_calls import NOBODY
from tests.receiver.operations import EXAMPLES
from tests.receiver.passed_on import as_json
from tests.receiver.relays import (
    CREDENTIALS,
    Lock,
    Operator,
    answer,
    doing,
    header_lines,
    new_operator,
    saying,
    standing,
)
from tests.receiver.service import Service, running, settings_in, until
from tests.receiver.upstreams import Behaviour, Connection

SECRET = "S3CR3T-of-the-caller"
KEPT = "a-reason-that-is-kept"
"""In the request's body, where that has a reason: what is searched must find it."""


def credentials(provider: str) -> dict[str, str]:
    """The headers in which a caller may have a secret, each with one."""
    names = {*providers.get(provider).operation.credentials, *CREDENTIALS[provider], "cookie", "x-gateway-key"}
    given = {name: f"{SECRET}-{name}" for name in sorted(names)}
    return given | {"authorization": "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()}


def marks(operator: Operator) -> list[bytes]:
    """What must not be found: the secrets, as they are and as they are sent, and the key for this receiver."""
    sent = [value.split(" ")[-1] for value in credentials(operator.provider).values()]
    return [mark.encode() for mark in (SECRET, *sent, operator.key)]


def found_in(folder: Path, mark: bytes) -> list[str]:
    """The files under a folder that hold these bytes."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and mark in path.read_bytes()]


def answers(provider: str) -> list[bytes]:
    """Answers of every kind, in turn: two that repeat what they were sent; recorded, another about the same, not
    understood, refused, unknown.
    """
    operation, done = providers.get(provider).operation, EXAMPLES[provider].answer
    success, headers = min(operation.successes), [("set-cookie", f"session={SECRET}")]
    repeated = [value for name, value in credentials(provider).items() if name in operation.credentials]
    return [
        answer(success, as_json({"you sent": repeated}), headers),
        answer(403, as_json({"you sent": repeated}), headers),
        answer(success, as_json(done), headers),
        answer(success, as_json(done), headers),
        answer(success, as_json({**done, "warnings": [{"code": 1}]}), headers),
        answer(success, b"no JSON", headers),
        answer(401, b'{"code":"AUTH_INVALID"}', headers),
        answer(500, b"", headers),
        answer(302, b"", [*headers, ("location", f"/?token={SECRET}")]),
        b"no HTTP\r\n\r\n",
    ]


def in_turn(said: list[bytes]) -> Behaviour:
    """An upstream that gives these answers, one after the other."""
    waiting = iter(said)

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.say(next(waiting))

    return behave


def call_in_every_way(operator: Operator) -> None:
    """Calls with all secrets, of every kind: answered, refused here, not sent, not recorded, recorded later."""
    secrets, request = credentials(operator.provider), {**EXAMPLES[operator.provider].request, "reason": KEPT}
    said = answers(operator.provider)
    with standing(in_turn(said)) as there:
        operator.change_source(upstream=there.url)
        for _ in said:
            operator.call(headers=secrets, body=request)
    sent = [dict(header_lines(request)) for request in there.came]
    assert all(one[name.encode()] == value.encode() for one in sent for name, value in secrets.items())
    operator.change_source(upstream=NOBODY)
    operator.call(headers=secrets, body=request)
    operator.call(headers=secrets, body=request, path=f"{operator.path}/x")
    operator.call(headers=secrets, body=request, path=f"{operator.path}?token={SECRET}")
    operator.call(headers=secrets, body=request, path=f"/relay/nobody{operator.target}")
    operator.call(headers=secrets, body=request, method="PUT")
    operator.call(headers=secrets, body=b"x" * 300_000)
    operator.call(headers={**secrets, "x-rescind-key": SECRET}, body=request)
    known = ["recorded", "quarantined", "refused", None, "not_sent"]
    assert set(known) <= set(operator.outcomes())


def must_say_nothing(operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the log's output, nor what auditors and Prometheus are shown, holds a secret."""
    of_service = [record for record in caplog.records if record.threadName != "MainThread"]  # that is the callers'
    said = "".join(f"{record.getMessage()} {record.exc_text} {record.__dict__}" for record in of_service)
    assert "127.0.0.1:9 cannot be reached" in said
    service, key = operator.service, {"authorization": f"Bearer {operator.key}"}
    service.until_published()
    shown = [service.client.get(path, headers=key).text for path in ("/v1/attempts", "/v1/quarantine", "/v1/events")]
    shown += [service.client.get(f"/v1/events/{row.id}/evidence", headers=key).text for row in operator.rows()]
    shown.append(service.client.get("/metrics").text)
    for mark in marks(operator):
        assert mark.decode() not in said
        assert [text for text in shown if mark.decode() in text] == []


@pytest.mark.parametrize("provider", providers.names())
def test_no_credential_is_kept(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the database, its write-ahead log, an answer's own file or the guard; nor is it logged or shown."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(receiver.records.engine, "BUSY_TIMEOUT_MS", 200)
    secrets, settings = credentials(provider), settings_in(tmp_path)
    with running(settings) as service:
        operator, lock = new_operator(service, provider), Lock(settings.data)
        call_in_every_way(operator)
        with standing(doing(lock.hold, answer(403, b"{}", [("set-cookie", SECRET)]))) as there:
            operator.change_source(upstream=there.url)
            assert operator.call(headers=secrets).headers["x-rescind-recorded"] == "pending"
        assert operator.call(headers=secrets).status_code == 503
        [held] = Pending(settings.data / FOLDER, service.records.vault).all()
        found = [name for mark in marks(operator) for name in found_in(tmp_path, mark)]
        lock.free()
        until(lambda: operator.outcomes()[-1] == "refused")
        must_say_nothing(operator, caplog)
        found += [name for mark in marks(operator) for name in found_in(tmp_path, mark)]
        assert found_in(tmp_path, KEPT.encode()) != []
    found += [name for mark in marks(operator) for name in found_in(tmp_path, mark)]

    assert found == []
    assert held == Held(operator.attempts()[-1].id, "default", operator.source_id, 403, b"{}", held.received_at)


def test_no_credential_is_kept_on_postgresql(
    postgresql: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in any file of the server, its write-ahead log included."""
    caplog.set_level(logging.DEBUG)
    name = postgresql.create_database()
    with running(settings_in(tmp_path, database_url=postgresql.url(name))) as service:
        operators = [new_operator(service, provider) for provider in providers.names()]
        for operator in operators:
            call_in_every_way(operator)
            must_say_nothing(operator, caplog)
        postgresql.execute("CHECKPOINT")
        files = b"".join(path.read_bytes() for path in (postgresql.folder / "data").rglob("*") if path.is_file())
    postgresql.drop_database(name)

    assert KEPT.encode() in files
    assert [mark for operator in operators for mark in marks(operator) if mark in files] == []


@pytest.mark.parametrize("provider", providers.names())
def test_of_the_answers_headers_none_is_kept(service: Service, provider: str) -> None:
    """A cookie that the provider sets is the caller's. What is kept is the status; and of the request, what it asks."""
    success = min(providers.get(provider).operation.successes)
    with standing(saying(success, EXAMPLES[provider].answer, [("set-cookie", SECRET)])) as there:
        operator = new_operator(service, provider, there.url)
        response = operator.call(headers=credentials(provider))

    intent, told = (dict(json.loads(row.headers)) for row in operator.rows())
    assert response.headers["set-cookie"] == SECRET
    assert told == {":status": str(success)}
    assert set(intent) - {"idempotency-key"} == {":method", ":path", "content-type"}
    assert ("idempotency-key" in intent) == (providers.get(provider).operation.idempotency_header is not None)
