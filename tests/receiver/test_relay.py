"""Calls through `/relay/{source}/…`: passed on as they are, answered as they were, and recorded before and after."""

import json
import re
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from receiver import providers
from tests.receiver.operations import BADGE, EXAMPLES, OTHER, RECEIPT, REDEMPTION
from tests.receiver.relays import (
    Gate,
    Operator,
    answer,
    body_of,
    doing,
    header_lines,
    new_operator,
    sandbox_operator,
    saying,
    standing,
    succeeding,
)
from tests.receiver.service import Service, read_all, until
from tests.sandbox.service import Sandbox
from tests.sandbox.service import running as sandbox_running

EFFECTS = {
    "truthlocks": "revoked",
    "thanx": "revoking",
    "capillary": "revoked",
    "voucherify": "canceling",
    "scrip": "reversed",
}
"""What the answer to the documented call says, by provider."""

VERSION_4 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """A running sandbox, which delivers nothing."""
    with sandbox_running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


def shown(operator: Operator, path: str, **query: str) -> Any:
    """What an auditor of the operator's tenant is shown there."""
    response = operator.service.client.get(path, params=query, headers=operator.service.key(tenant=operator.tenant))
    assert response.status_code == 200, response.text
    return response.json()


def events(operator: Operator) -> list[dict[str, Any]]:
    """The events of the operator's source, oldest first."""
    return shown(operator, "/v1/events", source=operator.source_id)["items"][::-1]


# ---- all of it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", providers.names())
def test_the_documented_operation_is_passed_on_and_recorded(
    either_service: Service, sandbox: Sandbox, provider: str
) -> None:
    """Its answer is the provider's own, and names the event that it is in the log."""
    operator, before = sandbox_operator(either_service, provider, sandbox), len(sandbox.entries())

    response = operator.call()

    assert response.status_code in providers.get(provider).operation.successes
    assert response.json().keys() >= EXAMPLES[provider].answer.keys()
    (intent, told), attempt = operator.rows(), operator.attempt()
    assert (attempt.id, attempt.outcome, attempt.outcome_id) == (intent.id, "recorded", told.id)
    assert (attempt.key_id, attempt.status) == (operator.key_id, response.status_code)
    assert told.body == response.content
    event = shown(operator, f"/v1/events/{response.headers['x-rescind-event']}")
    assert (event["id"], str(event["log_index"])) == (told.id, response.headers["x-rescind-log-index"])
    assert (event["via"], event["scheme"], event["effect"]) == ("relay", "upstream", EFFECTS[provider])
    assert operator.facts(told)["attempt"] == response.headers["x-rescind-attempt"] == intent.id
    done = sandbox.entries()[before]
    assert (done["item"], done["effect"], done["provider"]) == (event["item"], EFFECTS[provider], provider)
    assert operator.counted("recorded") >= 1


def test_what_an_intent_says(service: Service) -> None:
    """Which key called which operation, and when; and it commits to the request, credentials apart."""
    with standing(succeeding("truthlocks")) as there:
        operator = new_operator(service, "truthlocks", f"{there.url}/base/path")
        response = operator.call(headers={"Idempotency-Key": "k"})

    intent = operator.rows()[0]
    assert operator.facts(intent) == {
        "event": "POST /v1/receipts/{id}/revoke",
        "key": operator.key_id,
        "provider": "truthlocks",
        "received_at": intent.received_at,
        "source": operator.source_id,
        "test": False,
    }
    assert dict(json.loads(intent.headers)) == {
        ":method": "POST",
        ":path": f"/v1/receipts/{RECEIPT}/revoke",
        "idempotency-key": "k",
        "content-type": "application/json",
    }
    assert intent.body == operator.body
    leaf = service.leaf(intent.log_index)
    assert (leaf.kind, leaf.id) == ("attempt", response.headers["x-rescind-attempt"])
    assert None not in (leaf.event, leaf.delivery)
    assert there.came[0].startswith(b"POST /base/path/v1/receipts/")


def test_a_source_is_called_by_its_id_or_by_its_name(service: Service) -> None:
    """One is in the webhook's path, the other is easier to keep in mind; whatever the name is made of."""
    with standing(succeeding("truthlocks")) as there:
        operator = new_operator(service, "truthlocks", there.url)
        operator.change_source(name="shop / café?")
        for named in (operator.source_id, "shop%20%2F%20caf%C3%A9%3F", "%73hop%20%2f%20caf%c3%a9%3f"):
            assert operator.call(path=f"/relay/{named}{operator.target}").status_code == 200

    assert len(operator.attempts()) == 3


# ---- what goes on, and what comes back ------------------------------------------------------------------------------

OURS = {
    "connection",
    "content-length",
    "x-rescind-attempt",
    "x-rescind-event",
    "x-rescind-idempotency-key",
    "x-rescind-log-index",
    "x-rescind-recorded",
}
"""What may be added to an answer."""

BODY = b' {"reason" :"\\u00e4 \xc3\xa4" , "amount": 1.50e0}\r\n'


def test_the_call_goes_on_as_it_came(service: Service) -> None:
    """The body byte for byte; every header, in order and as often as it was there, but those of one connection, and
    those by which some servers take a call for another one.
    """
    sent = [
        (b"authorization", b"Bearer theirs"),
        (b"x-tag", b"a"),
        (b"cookie", b"c=1"),
        (b"x-tag", b"b, c"),
        (b"idempotency-key", b"k"),
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"content-type", b"application/json; charset=utf-8"),
    ]
    dropped = [b"te: trailers", b"keep-alive: timeout=5", b"proxy-authorization: Basic eA==", b"expect: 100-continue"]
    dropped += [b"X-HTTP-Method-Override: DELETE", b"x_http_method: PUT", b"x-original-url: /", b"x-rewrite-url: /"]
    with standing(succeeding("truthlocks")) as there:
        operator = new_operator(service, "truthlocks", there.url)
        with service.connect() as connection:
            lines = [b"%b: %b" % pair for pair in sent]
            connection.sendall(operator.write(*lines, *dropped, body=BODY))
            until(lambda: there.came)

    [request] = there.came
    assert request.startswith(b"POST %b HTTP/1.1\r\n" % operator.target.encode())
    assert body_of(request) == BODY
    own = [(b"accept-encoding", b"identity"), (b"connection", b"close"), (b"content-length", b"%d" % len(BODY))]
    assert header_lines(request) == [(b"host", there.url.removeprefix("http://").encode()), *sent, *own]


@pytest.mark.parametrize("name", [b"x-rescind-key", b"X-RESCIND-KEY", b"X-Rescind-Key"])
def test_the_key_for_this_receiver_does_not_go_on(service: Service, name: bytes) -> None:
    """However it is spelled, and also where it is said to be of the connection."""
    with standing(succeeding("truthlocks")) as there:
        operator = new_operator(service, "truthlocks", there.url)
        request = operator.write(b"te: x").replace(b"x-rescind-key", name)
        for one in (request, request.replace(b"connection: close", b"connection: close, " + name)):
            assert [reply.status for reply in service.exchange(one)] == [200]

    assert len(there.came) == 2
    assert all(b"rescind" not in request.lower() and operator.key.encode() not in request for request in there.came)


@pytest.mark.parametrize("status", [200, 201, 299, 302, 400, 404, 422, 429, 499, 500, 503, 599])
def test_the_answer_comes_back_as_it_was(service: Service, status: int) -> None:
    """Status, body, and every header, in order: what it is taken for changes nothing of it."""
    headers = [
        ("Set-Cookie", "a=1; Path=/"),
        ("X-Request-Id", "r \xe9"),
        ("set-cookie", "b=2"),
        ("Content-Type", "text/x-odd"),
        ("Set-Cookie", "a=1; Path=/"),
        ("Location", "http://127.0.0.1:9/elsewhere"),
        ("Date", "Fri, 20 Nov 2026 09:00:00 GMT"),
        ("Retry-After", "7"),
        ("Content-Encoding", "gzip"),
        ("Server", "theirs"),
    ]
    body = b"\x1f\x8b no gzip, no JSON \x00\xff" * 100
    with standing(saying(status, body, headers)) as there, service.connect() as connection:
        operator = new_operator(service, "truthlocks", there.url)
        connection.sendall(operator.write())
        said = read_all(connection)

    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert body_of(said) == body
    came = [(name.decode(), value.decode("latin-1")) for name, value in header_lines(said)]
    assert came[: len(headers)] == [(name.lower(), value) for name, value in headers]
    assert {name for name, _ in came[len(headers) :]} <= OURS
    assert len(there.came) == 1


def test_an_answer_of_the_largest_size_comes_back_whole(service: Service) -> None:
    """256 KiB, recorded and given."""
    body = b'{"x":"' + b"y" * (262_144 - 8) + b'"}'
    with standing(saying(404, body)) as there:
        operator = new_operator(service, "truthlocks", there.url)
        response = operator.call()

    assert (response.status_code, response.content) == (404, body)
    assert operator.told()[0].body == body


def test_nobody_but_this_receiver_says_what_it_recorded(service: Service) -> None:
    """An upstream's headers of that name are not passed on."""
    forged = [("X-Rescind-Event", "forged"), ("x-rescind-log-index", "0"), ("X-Rescind-Recorded", "pending")]
    with standing(saying(404, b"{}", [*forged, ("X-Theirs", "kept")])) as there:
        response = new_operator(service, "truthlocks", there.url).call()

    assert response.headers["x-theirs"] == "kept"
    assert "forged" not in response.headers.get_list("x-rescind-event")
    assert len(response.headers.get_list("x-rescind-log-index")) == 1
    assert "x-rescind-recorded" not in response.headers


# ---- before and after -----------------------------------------------------------------------------------------------


def test_the_intent_is_durable_before_the_upstream_is_called(either_service: Service) -> None:
    """Whoever looks into the database when the request arrives finds it there, in the log, and without an outcome."""
    seen: list[Any] = []

    def look() -> None:
        seen.extend([operator.rows(), operator.attempts(), either_service.size()])

    with standing(doing(look, answer(404))) as there:
        operator = new_operator(either_service, "truthlocks", there.url)
        size = either_service.size()
        operator.call()

    [intent], [attempt], then = seen
    assert (intent.id, intent.kind, intent.log_index, then) == (attempt.id, "attempt", size, size + 1)
    assert (attempt.outcome, attempt.outcome_id, attempt.ended_at) == (None, None, None)


def test_the_answer_is_durable_before_it_is_given(service: Service) -> None:
    """As long as it cannot be written the caller waits."""
    said = Gate(answer(422, b"{}"))
    with standing(said) as there, ThreadPoolExecutor(1) as pool:
        operator = new_operator(service, "truthlocks", there.url)
        called = pool.submit(operator.call)
        until(said.came.is_set)
        batches = service.metric("rescind_batch_size_count")
        with service.records.database.write():
            said.go.set()
            until(lambda: service.metric("rescind_batch_size_count") > batches)
            assert not called.done()
            assert operator.told() == []
        response = called.result()

    [told] = operator.told()
    assert response.headers["x-rescind-event"] == told.id


# ---- idempotency keys -----------------------------------------------------------------------------------------------


def test_an_idempotency_header_is_added_and_told(service: Service) -> None:
    """Where the provider has one and the caller sent none; so whoever got no answer can repeat the call."""
    with standing(succeeding("truthlocks")) as there:
        operator = new_operator(service, "truthlocks", there.url)
        made = operator.call().headers["x-rescind-idempotency-key"]
        given = operator.call(headers={"Idempotency-Key": made})

    assert VERSION_4.fullmatch(made)
    assert [dict(header_lines(request))[b"idempotency-key"] for request in there.came] == [made.encode()] * 2
    assert "x-rescind-idempotency-key" not in given.headers
    first, second = operator.attempts()
    assert first.idempotency == second.idempotency
    assert ("idempotency-key", made) in [tuple(pair) for pair in json.loads(operator.rows()[0].headers)]


def test_an_idempotency_member_is_added_and_told(service: Service) -> None:
    """The same where it is a member of the request; what is kept is the request that went out."""
    with standing(succeeding("scrip")) as there:
        operator = new_operator(service, "scrip", there.url)
        made = operator.call(body=b'{ "reason":"r" }').headers["x-rescind-idempotency-key"]
        given = operator.call(body={"reason": "r", "idempotency_key": made})

    assert VERSION_4.fullmatch(made)
    sent = b'{"idempotency_key":"%b", "reason":"r" }' % made.encode()
    assert body_of(there.came[0]) == operator.rows()[0].body == sent
    assert "x-rescind-idempotency-key" not in given.headers
    first, second = operator.attempts()
    assert first.idempotency == second.idempotency


@pytest.mark.parametrize("provider", ["thanx", "capillary", "voucherify"])
def test_where_the_provider_has_no_idempotency_key_nothing_is_added(service: Service, provider: str) -> None:
    """It would be a member that is not documented, or a header that does nothing."""
    with standing(succeeding(provider)) as there:
        operator = new_operator(service, provider, there.url)
        response = operator.call()

    assert "x-rescind-idempotency-key" not in response.headers
    assert body_of(there.came[0]) == operator.body
    assert b"idempotency" not in there.came[0].lower()
    assert operator.attempt().idempotency is None


@pytest.mark.parametrize("provider", ["truthlocks", "scrip"])
def test_a_call_that_is_repeated_with_its_key_was_done_once(
    either_service: Service, sandbox: Sandbox, provider: str
) -> None:
    """The provider answers as before, and the event is the one that was recorded before."""
    operator, before = sandbox_operator(either_service, provider, sandbox), len(sandbox.entries())
    key = str(uuid.uuid4())
    body = {**EXAMPLES[provider].request, "idempotency_key": key} if provider == "scrip" else None

    first, second = (operator.call(headers={"Idempotency-Key": key}, body=body) for _ in range(2))

    assert first.content == second.content
    assert first.headers["x-rescind-event"] == second.headers["x-rescind-event"]
    assert first.headers["x-rescind-log-index"] == second.headers["x-rescind-log-index"]
    assert operator.outcomes() == ["recorded", "duplicate"]
    assert len(events(operator)) == len(sandbox.entries()) - before == 1


# ---- what the provider refuses --------------------------------------------------------------------------------------


def test_a_second_revocation_is_refused_and_that_is_an_event(either_service: Service, sandbox: Sandbox) -> None:
    """Of effect `refused`, with the provider's status and words; what was taken back stays so."""
    operator = sandbox_operator(either_service, "truthlocks", sandbox)
    first, second = operator.call(), operator.call()

    assert (first.status_code, second.status_code, second.json()["code"]) == (200, 409, "CONFLICT")
    revoked, refused = events(operator)
    assert (refused["event"], refused["effect"], refused["via"]) == (
        "POST /v1/receipts/{id}/revoke",
        "refused",
        "relay",
    )
    assert (refused["details"], refused["item"]) == ({"status": 409}, revoked["item"])
    assert refused["id"] == second.headers["x-rescind-event"]
    assert str(refused["log_index"]) == second.headers["x-rescind-log-index"]
    assert operator.told()[1].body == second.content
    assert operator.outcomes() == ["recorded", "refused"]
    item = shown(operator, f"/v1/items/truthlocks/receipt/{RECEIPT}", source=operator.source_id)
    assert (item["state"], len(item["events"])) == ("taken_back", 2)


def test_a_refusal_alone_takes_nothing_back(either_service: Service, sandbox: Sandbox) -> None:
    """Of a job that is still pending, as the provider documents it."""
    operator = sandbox_operator(either_service, "thanx", sandbox)

    response = operator.call(path=operator.path.replace("job_xyz789", "job_pending1"))

    assert response.status_code == 422
    item = shown(operator, "/v1/items/thanx/issuance_job/job_pending1", source=operator.source_id)
    assert (item["state"], [event["effect"] for event in item["events"]]) == ("not_taken_back", ["refused"])


def test_a_refusal_may_be_a_success_to_http(either_service: Service, sandbox: Sandbox) -> None:
    """Error 814 in an answer of status 200 is an event of effect `refused`."""
    operator = sandbox_operator(either_service, "capillary", sandbox)
    responses = [operator.call(), operator.call()]

    assert [response.status_code for response in responses] == [200, 200]
    assert responses[1].json()["errors"][0]["code"] == 814
    assert [event["effect"] for event in events(operator)] == ["revoked", "refused"]
    assert [event["event"] for event in events(operator)] == ["badge.revoked"] * 2
    assert operator.outcomes() == ["recorded", "recorded"]
    item = shown(operator, f"/v1/items/capillary/badge/{BADGE}", source=operator.source_id)
    assert item["state"] == "taken_back"


# ---- what goes on after the answer ----------------------------------------------------------------------------------


def test_what_was_begun_is_followed_to_its_end(either_service: Service, sandbox: Sandbox) -> None:
    """A job is `revoking` by the answer, and `revoked` by the provider's own record, of the same attempt."""
    operator = sandbox_operator(either_service, "thanx", sandbox, "following")
    operator.set_credential()

    response = operator.call()
    until(lambda: len(events(operator)) == 2)

    begun, ended = events(operator)
    assert [(event["effect"], event["via"]) for event in (begun, ended)] == [("revoking", "relay"), ("revoked", "poll")]
    assert begun["id"] == response.headers["x-rescind-event"]
    assert {operator.facts(row)["attempt"] for row in operator.told()} == {operator.attempt().id}
    item = shown(operator, "/v1/items/thanx/issuance_job/job_xyz789", source=operator.source_id)
    assert (item["state"], len(item["events"])) == ("taken_back", 2)


# ---- by the source's settings ---------------------------------------------------------------------------------------


def test_what_a_test_source_is_told_is_marked_as_such(service: Service) -> None:
    """The intent, and the event, which says nothing of the item."""
    with standing(saying(200, {**EXAMPLES["truthlocks"].answer, "receipt_id": OTHER})) as there:
        operator = new_operator(service, "truthlocks", there.url, test=True)
        operator.call(path=operator.path.replace(RECEIPT, OTHER))

    assert [row.test for row in operator.rows()] == [True, True]
    assert [operator.facts(row)["test"] for row in operator.rows()] == [True, True]
    assert shown(operator, f"/v1/items/truthlocks/receipt/{OTHER}")["state"] == "no_record"


def test_an_answer_about_another_account_is_no_event(service: Service) -> None:
    """It is in quarantine, which the caller is told, with the provider's answer."""
    with standing(succeeding("thanx")) as there:
        operator = new_operator(service, "thanx", there.url, account="another merchant")
        response = operator.call()

    [told] = operator.told()
    assert (response.status_code, response.headers["x-rescind-event"]) == (202, told.id)
    assert (told.kind, told.reason) == ("quarantine", "other_account")
    assert operator.facts(told)["attempt"] == operator.attempt().id
    assert operator.outcomes() == ["quarantined"]


def test_an_answer_about_another_item_is_no_event(service: Service) -> None:
    """It is not the documented answer to this call."""
    with standing(succeeding("scrip", redemption_id=OTHER)) as there:
        operator = new_operator(service, "scrip", there.url)
        response = operator.call()

    [told] = operator.told()
    assert (response.status_code, told.kind, told.reason) == (200, "quarantine", "wrong_shape")
    assert shown(operator, "/v1/events", item=f"redemption:{REDEMPTION}", source=operator.source_id)["items"] == []
