"""What `/relay/{source}/…` does not pass on: nothing of it reaches the upstream, and nothing of it is recorded."""

import itertools
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

import receiver.records.engine
from receiver import providers
from receiver.records.apikeys import create_key, parse_scopes, revoke_key
from tests.postgres import Cluster
from tests.receiver.operations import RECEIPT
from tests.receiver.relays import (
    Lock,
    Operator,
    body_of,
    new_operator,
    out_of_reach,
    standing,
    succeeding,
    without_acknowledgement,
)
from tests.receiver.service import Reply, Service, problem, running, settings_in, until
from tests.receiver.upstreams import There
from tests.translog import faults


@pytest.fixture(scope="module")
def there() -> Generator[There]:
    """An upstream that carries out whatever comes."""
    with standing(succeeding("truthlocks")) as there:
        yield there


@pytest.fixture(scope="module")
def operator(service: Service, there: There) -> Operator:
    """Whoever may call it."""
    return new_operator(service, "truthlocks", there.url)


@pytest.fixture(autouse=True)
def _nothing_is_passed_on(operator: Operator, there: There) -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """Whatever a test here does, not one connection is made, and no row is written for the operator's source."""
    before = there.connections, operator.rows()
    yield
    assert (there.connections, operator.rows()) == before


# ---- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ([], "AUTH_REQUIRED"),
        ([b""], "AUTH_INVALID"),
        ([b"rk_nobody"], "AUTH_INVALID"),
        ([b"Bearer KEY"], "AUTH_INVALID"),
        ([b"KEYx"], "AUTH_INVALID"),
        ([b"\xff\xfe"], "AUTH_INVALID"),
        ([b"KEY", b"KEY"], "AUTH_INVALID"),
        ([b"KEY", b""], "AUTH_INVALID"),
        ([b"x", b"KEY"], "AUTH_INVALID"),
        ([b"KEY, KEY"], "AUTH_INVALID"),
    ],
)
def test_without_one_valid_key_nothing_is_passed_on(
    service: Service, operator: Operator, keys: list[bytes], code: str
) -> None:
    """401: none, one that is none, more than one; and a key in `Authorization` is none, for that is the provider's."""
    own = operator.key.encode()
    lines = [b"x-rescind-key: " + key.replace(b"KEY", own) for key in keys]
    request = operator.write(b"authorization: Bearer " + own, *lines)

    [reply] = service.exchange(request.replace(b"x-rescind-key: %b\r\n" % own, b"", 1))

    assert (reply.status, problem(reply)["code"]) == (401, code)
    assert reply.headers["www-authenticate"] == 'x-rescind-key realm="rescind"'  # in lower case, as all of a Reply is
    assert operator.key not in reply.body.decode()


def test_a_key_that_is_no_longer_valid(service: Service, operator: Operator) -> None:
    """401: it has expired, or was revoked."""
    scopes, tenant = parse_scopes("operate"), service.tenant
    _, expired = create_key(service.records, tenant, "expired", scopes, expires_at=datetime.now(UTC) - timedelta(1))
    _, revoked = create_key(service.records, tenant, "revoked", scopes)
    revoke_key(service.records, tenant, "revoked")

    answers = [operator.call(headers={"x-rescind-key": key}) for key in (expired, revoked)]

    assert [(answer.status_code, problem(answer)["code"]) for answer in answers] == [(401, "AUTH_INVALID")] * 2


@pytest.mark.parametrize("scopes", ["audit", "admin", "export", "audit,admin,export"])
def test_a_key_needs_the_scope_operate(service: Service, there: There, operator: Operator, scopes: str) -> None:
    """403, whatever else it may do."""
    other = new_operator(service, "truthlocks", there.url, scopes=scopes)

    answers = [other.call(), operator.call(headers={"x-rescind-key": other.key})]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert [problem(answer)["details"] for answer in answers] == [{"scope": "operate"}] * 2
    assert other.rows() == []


def test_the_key_is_looked_at_before_anything_else(service: Service, operator: Operator) -> None:
    """Who has none learns nothing: not what sources there are, nor what would be passed on."""
    paths = [operator.path, "/relay/nobody/v1/x", f"/relay/{operator.source_id}/v1/admin", "/relay%2Fx%2Fv1"]

    answers = [service.client.post(path, content=b"x" * 300_000) for path in paths]

    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}


# ---- sources --------------------------------------------------------------------------------------------------------


def test_another_tenants_source_is_not_there(service: Service, there: There, operator: Operator) -> None:
    """404, by its id and by its name, as for one that nobody has."""
    stranger = new_operator(service, "truthlocks", there.url, tenant="stranger")
    nobody = "0198a1b2-0000-7000-8000-000000000000"

    for theirs, mine in ((operator, stranger), (stranger, operator)):
        key = {"x-rescind-key": mine.key}
        for named, instead in ((theirs.source_id, nobody), (theirs.name, "nobody")):
            answer = mine.call(path=f"/relay/{named}{mine.target}", headers=key)
            unknown = mine.call(path=f"/relay/{instead}{mine.target}", headers=key)
            assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")
            assert answer.text.replace(named, "") == unknown.text.replace(instead, "")
    assert stranger.rows() == []


def test_each_tenant_has_its_own_source_of_a_name(service: Service, there: There, operator: Operator) -> None:
    """The key says whose is meant, and a header cannot."""
    with standing(succeeding("truthlocks")) as elsewhere:
        neighbour = new_operator(service, "truthlocks", elsewhere.url, tenant="neighbour")
        neighbour.change_source(name=operator.name)
        sizes = service.size(), service.size("neighbour")
        answer = neighbour.call(path=f"/relay/{operator.name}{operator.target}", headers={"x-tenant-id": "default"})

    assert (answer.status_code, elsewhere.connections) == (200, 1)
    assert (service.size(), service.size("neighbour")) == (sizes[0], sizes[1] + 2)
    assert len(neighbour.rows()) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"enabled": False}, "is disabled, so nothing is passed on for it"),
        ({"upstream": None}, "has no upstream to pass calls on to: receiver source set NAME --upstream BASE_URL"),
    ],
)
def test_a_source_that_passes_nothing_on(service: Service, there: There, values: dict[str, object], said: str) -> None:
    """404 that says why, from the moment on that it is so."""
    other = new_operator(service, "truthlocks", there.url)
    other.change_source(**values)

    answer = other.call()

    assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")
    assert said in answer.json()["detail"]
    assert other.rows() == []


# ---- what is not the operation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_another_call(operator: Operator, method: str) -> None:
    """404: of the provider's API only the one operation is open."""
    answer = operator.call(method=method)

    assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")
    assert "POST /v1/receipts/{id}/revoke is passed on, and nothing else" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", 405), ("TRACE", 405), ("PROPFIND", 405), ("OPTIONS", 204), ("CONNECT", 400), ("post", 400)],
)
def test_a_method_that_no_operation_has(service: Service, operator: Operator, method: str, status: int) -> None:
    """Answered here, by what it asks of this receiver."""
    with service.connect() as connection:
        connection.sendall(operator.write(method=method))
        assert connection.recv(12) == b"HTTP/1.1 %d" % status


@pytest.mark.parametrize("query", ["?a=b", "?id=", "?%00", "?x=/v1/receipts"])
def test_a_query_is_another_call(operator: Operator, query: str) -> None:
    """404: no operation documents one."""
    assert operator.call(path=operator.path + query).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/relay",
        "/relay/",
        "/relay/SOURCE",
        "/relay/SOURCE/",
        "/relay/SOURCE/v1/receipts/ID",
        "/relay/SOURCE/v1/receipts/ID/revoke/",
        "/relay/SOURCE/v1/receipts/ID/revoke/x",
        "/relay/SOURCE/v1/receipts/ID/revoke;x",
        "/relay/SOURCE/v1/receipts/ID/revoke%20",
        "/relay/SOURCE/v1/receipts/ID/Revoke",
        "/relay/SOURCE/v1/receipts/ID/%72evoke",
        "/relay/SOURCE/v1/receipts//revoke",
        "/relay/SOURCE/v1/receipts/./revoke",
        "/relay/SOURCE/v1/receipts/../revoke",
        "/relay/SOURCE/v1/receipts/%2e%2e/revoke",
        "/relay/SOURCE/v1/receipts/%252e%252e/revoke",
        "/relay/SOURCE/v1/receipts/a%2Fb/revoke",
        "/relay/SOURCE/v1/receipts/a%5cb/revoke",
        "/relay/SOURCE/v1/receipts/a%3Fb/revoke",
        "/relay/SOURCE/v1/receipts/a%23b/revoke",
        "/relay/SOURCE/v1/receipts/a%00/revoke",
        "/relay/SOURCE/v1/receipts/a%0d%0aX:y/revoke",
        "/relay/SOURCE/v1/receipts/%ff/revoke",
        "/relay/SOURCE/v1/receipts/" + "x" * 257 + "/revoke",
        "/relay/SOURCE/v1/x/../receipts/ID/revoke",
        "/relay/SOURCE/v1%2Freceipts%2FID%2Frevoke",
        "/relay/SOURCE//v1/receipts/ID/revoke",
        "/relay/SOURCE/../SOURCE/v1/receipts/ID/revoke",
        "/relay/./SOURCE/v1/receipts/ID/revoke",
        "/relay//SOURCE/v1/receipts/ID/revoke",
        "//relay/SOURCE/v1/receipts/ID/revoke",
        "/./relay/SOURCE/v1/receipts/ID/revoke",
        "/x/../relay/SOURCE/v1/receipts/ID/revoke",
        "/RELAY/SOURCE/v1/receipts/ID/revoke",
        "/relay%2FSOURCE/v1/receipts/ID/revoke",
        "/relay%2fSOURCE%2fv1%2freceipts%2fID%2frevoke",
        "/relay%2FSOURCE%2Fv1",
        "/%72elay/SOURCE/v1/receipts/ID/revoke",
        "/relay/SOURCE%20/v1/receipts/ID/revoke",
        "/relay/SOURCE%00/v1/receipts/ID/revoke",
        "/relay/SOURCE%ff/v1/receipts/ID/revoke",
        "/relay/SOURCE/http://127.0.0.1/v1/receipts/ID/revoke",
        "/relay/SOURCE@127.0.0.1/v1/receipts/ID/revoke",
        "/relay/http:%2F%2F127.0.0.1/v1/receipts/ID/revoke",
        "/v1/receipts/ID/revoke",
        "http://127.0.0.1/v1/receipts/ID/revoke",
        "*",
    ],
)
def test_another_path_is_another_call(operator: Operator, path: str) -> None:
    """404, as it is on the wire: no two readers of it see two paths."""
    reply = operator.exchange(target=path.replace("SOURCE", operator.source_id).replace("ID", RECEIPT))

    assert (reply.status, problem(reply)["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("of", "called"), list(itertools.permutations(providers.names(), 2)))
def test_another_providers_operation_is_another_call(service: Service, there: There, of: str, called: str) -> None:
    """404: a source passes on what its own provider documents."""
    mine, theirs = new_operator(service, of, there.url), new_operator(service, called, there.url)

    answer = mine.call(path=f"/relay/{mine.source_id}{theirs.target}", body=theirs.body)

    assert answer.status_code == 404
    assert f"{providers.get(of).operation.name} is passed on, and nothing else" in answer.json()["detail"]
    assert mine.rows() == theirs.rows() == []


def test_where_it_goes_is_for_the_source_alone_to_say(service: Service, there: There) -> None:
    """Not for the authority of the target, nor for any header."""
    with standing(succeeding("truthlocks")) as upstream:
        mine = new_operator(service, "truthlocks", upstream.url)
        away = there.url.removeprefix("http://").encode()
        lines = [b"x-forwarded-host: " + away, b"forwarded: host=" + away, b"x-original-url: " + there.url.encode()]
        request = mine.write(*lines, target=there.url + mine.path).replace(b"host: rescind", b"host: " + away, 1)
        [reply] = service.exchange(request)

    assert (reply.status, upstream.connections) == (200, 1)
    assert b"host: " + upstream.url.removeprefix("http://").encode() in upstream.came[0].lower()


# ---- bodies ---------------------------------------------------------------------------------------------------------


def test_a_request_that_is_too_large(operator: Operator) -> None:
    """413 for a byte more than 256 KiB, whose intent could not be kept."""
    answer = operator.call(body=b"x" * (256 * 1024 + 1))

    assert (answer.status_code, problem(answer)["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_request_of_the_largest_size(service: Service) -> None:
    """It is passed on whole."""
    body = b'{"reason":"' + b"x" * (256 * 1024 - 13) + b'"}'
    with standing(succeeding("truthlocks")) as upstream:
        mine = new_operator(service, "truthlocks", upstream.url)
        assert mine.call(body=body).status_code == 200

    assert body_of(upstream.came[0]) == mine.rows()[0].body == body


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[]", b"{", b'{"earnedBadgeId":5}', b'{"earnedBadgeId":""}'])
def test_a_call_that_does_not_say_what_it_is_about(service: Service, there: There, body: bytes) -> None:
    """400: an intent has to name the item, and here only the body does."""
    mine = new_operator(service, "capillary", there.url)

    answer = mine.call(body=body)

    assert (answer.status_code, problem(answer)["code"]) == (400, "VALIDATION_ERROR")
    assert mine.rows() == []


def test_half_a_request_is_none(there: There, tmp_path: Path) -> None:
    """Its sender goes away, or sends no more: half of a call is never made."""
    with running(settings_in(tmp_path, request_timeout=0.5)) as service:
        mine = new_operator(service, "truthlocks", there.url)
        half = mine.write()[:-3]
        with service.connect() as connection:
            connection.sendall(half)
        [slow] = service.exchange(half)
        rows = mine.rows()

    assert (slow.status, problem(slow)["status"]) == (408, 408)
    assert rows == []


# ---- what cannot be recorded ----------------------------------------------------------------------------------------


def must_not_have_called(answer: httpx2.Response | Reply) -> None:
    """A 503 that says that nothing was passed on."""
    members = problem(answer)
    assert (members["status"], members["code"], members["retry_after_ms"]) == (503, "SERVICE_UNAVAILABLE", 5000)
    assert "The call was not passed on" in members["detail"]
    assert not [name for name in answer.headers if name.startswith("x-rescind-")]


@pytest.mark.parametrize("provider", providers.names())
def test_with_the_database_locked_nothing_is_called(
    there: There, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, for each provider."""
    monkeypatch.setattr(receiver.records.engine, "BUSY_TIMEOUT_MS", 200)
    with running(settings_in(tmp_path)) as service:
        mine, lock = new_operator(service, provider, there.url), Lock(service.records.settings.data)
        lock.hold()
        answer = mine.call()
        lock.free()
        assert (mine.rows(), mine.attempts()) == ([], [])
        assert mine.counted("unavailable") == 1

    must_not_have_called(answer)


@pytest.mark.parametrize(
    ("moment", "statement"), [("before", "deliveries"), ("after", "deliveries"), ("after", "attempts")]
)
def test_an_intent_that_is_not_written_calls_nothing(
    either_service: Service, there: There, moment: faults.Moment, statement: str
) -> None:
    """The database fails before its row is written, or after, or before the commit: 503, and nothing is left of it."""
    mine = new_operator(either_service, "truthlocks", there.url)
    size = either_service.size()

    with faults.at(either_service.records.database, moment, f"INSERT INTO {statement}", happens=out_of_reach) as met:
        answer = mine.call()

    assert len(met) == 1
    must_not_have_called(answer)
    assert (mine.rows(), mine.attempts(), either_service.size()) == ([], [], size)


def test_an_intent_of_which_it_is_not_known_whether_it_is_written_calls_nothing(
    either_service: Service, there: There
) -> None:
    """The commit was done and its acknowledgement lost: 503, and the intent stays, as one of unknown outcome."""
    mine = new_operator(either_service, "truthlocks", there.url)

    with without_acknowledgement(either_service.records.database, "INSERT INTO attempts"):
        answer = mine.call()

    must_not_have_called(answer)
    assert mine.outcomes() == [None]


def test_with_the_recorder_halted_nothing_is_called(there: There, tmp_path: Path) -> None:
    """503: what is not recorded any more is not done any more."""
    with running(settings_in(tmp_path)) as service:
        mine = new_operator(service, "truthlocks", there.url)
        service.intake.recorder.halt("the database was replaced while it was in use")
        answer = mine.call()
        assert mine.rows() == []

    must_not_have_called(answer)
    assert "/health/ready says why" in answer.json()["detail"]


def test_with_the_queue_full_nothing_is_called(there: There, tmp_path: Path) -> None:
    """503 at once."""
    with (
        running(settings_in(tmp_path, queue=1)) as service,
        standing(succeeding("truthlocks")) as upstream,
        ThreadPoolExecutor(2) as pool,
    ):
        mine, other = (new_operator(service, "truthlocks", one.url) for one in (there, upstream))
        batches = service.metric("rescind_batch_size_count")
        with service.records.database.write():
            first = pool.submit(other.call)
            until(lambda: service.metric("rescind_batch_size_count") > batches)  # it is being written
            second = pool.submit(other.call)
            until(lambda: service.metric("rescind_waiting") == 1)
            answer = mine.call()
        statuses = [call.result().status_code for call in (first, second)]
        until(lambda: len(other.rows()) == 4)  # an answer that found the queue full is recorded a moment later
        assert mine.rows() == []

    must_not_have_called(answer)
    assert statuses == [200, 200]


def test_with_postgresql_away_nothing_is_called(postgresql: Cluster, there: There, tmp_path: Path) -> None:
    """503: not even the key can be looked at."""
    name = postgresql.create_database()
    with running(settings_in(tmp_path, database_url=postgresql.url(name))) as service:
        mine = new_operator(service, "truthlocks", there.url)
        postgresql.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        away = mine.call()
        postgresql.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        rows = mine.rows()
    postgresql.drop_database(name)

    assert (away.status_code, problem(away)["code"], rows) == (503, "SERVICE_UNAVAILABLE", [])
