"""Truthlocks as the issuing side: the documented revocation, what is told and logged of it, and every error."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from receiver import providers
from receiver.events import Effect, Event, Item, Past, parse_time
from receiver.intake.signatures import Authenticated, Secret, scheme_from_options, verifier
from receiver.problems import STATUS, Code
from receiver.providers import Call, Notice
from receiver.sandbox.truthlocks import ACCOUNT, API_KEY, ISSUER, TOKEN
from receiver.strictjson import parse
from tests.receiver.service import at_once
from tests.sandbox.service import Sandbox

TRUTHLOCKS = providers.get("truthlocks")

PAGE = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "truthlocks-revoke-receipt.txt"

RECEIPT = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"
RECEIPTS = "/v1/receipts"
REVOKE = "/v1/receipts/{id}/revoke"
"""The path that the page has; it has no line for curl."""

ANSWERED = {"receipt_id", "status", "revoked_at"}
"""The members of the page's answer."""

DELIVERED = """\
{
  "event_type": "receipt.revoked",
  "receipt_id": "<uuid>",
  "receipt_type": "payment_receipt",
  "tenant_id": "<uuid>",
  "revoked_at": "<RFC3339>"
}
"""
"""What the page has, verbatim."""

KEY = "0c9d4c1e-77f5-4d8e-9a0c-3d5c0f6a2b11"
HEADERS = {"X-API-Key": API_KEY}
REASON = {"reason": "paid back"}


def revoke(
    sandbox: Sandbox, receipt_id: str = RECEIPT, body: object = REASON, **headers: str | None
) -> httpx2.Response:
    """The documented call, with a key of its own unless one is given; None leaves a header out, `_` is a hyphen."""
    given = {"X-API-Key": API_KEY, "Idempotency-Key": str(uuid4())}
    given |= {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    left_out = {name.replace("_", "-") for name, value in headers.items() if value is None}
    return sandbox.client.post(
        REVOKE.format(id=receipt_id),
        headers={name: value for name, value in given.items() if name not in left_out},
        content=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )


def show(sandbox: Sandbox, receipt_id: str = RECEIPT) -> dict[str, Any]:
    """A receipt as it is now."""
    answer = sandbox.client.get(f"{RECEIPTS}/{receipt_id}", headers=HEADERS)
    assert answer.status_code == 200
    return answer.json()


def refused(answer: httpx2.Response, code: Code) -> str:
    """The message of an error, which is the documented ErrorEnvelope with that code and the status that it has."""
    assert (STATUS[code], "application/json") == (answer.status_code, answer.headers["content-type"])
    document = answer.json()
    assert {"code": code, "message": document["message"], "http_status": STATUS[code]} == document
    return document["message"]


def told(event: Event) -> dict[str, Any]:
    """What an entry of the sandbox's log has of that event, but for when it was and for whom."""
    return {
        "amount": event.amount,
        "effect": event.effect,
        "event": "RECEIPT_REVOKE",
        "item": {"id": event.item.id, "type": event.item.type},
        "operation": event.operation,
        "provider": "truthlocks",
        "quantity": event.quantity,
    }


# ---- the documented call --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not PAGE.exists(), reason=f"the page is not on this machine (looked for {PAGE})")
def test_what_is_tried_here_is_what_the_page_documents() -> None:
    """Its path, the members of its answer, its header, the body it delivers, and the codes of its errors."""
    page = PAGE.read_text()

    assert f"POST {REVOKE}\n" in page
    assert set(re.findall(r'<ResponseField name="(\w+)"', page)) == ANSWERED
    assert '<ParamField header="Idempotency-Key" type="string" required>' in page
    assert DELIVERED in page
    assert re.findall(r"^            - ([A-Z_]+)$", page, re.MULTILINE) == list(Code)


def test_the_documented_request_has_the_documented_answer(sandbox: Sandbox) -> None:
    """200, the three documented members, and the type of the receipt, which the SDK reads."""
    answer = revoke(sandbox)
    document = answer.json()

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert {*ANSWERED, "receipt_type"} == document.keys()
    assert (
        document["receipt_id"],
        document["status"],
        document["receipt_type"],
    ) == (RECEIPT, "revoked", "payment_receipt")
    assert timedelta(0) <= datetime.now(UTC) - parse_time(document["revoked_at"]) < timedelta(minutes=1)


def test_the_receipt_is_revoked_from_then_on(sandbox: Sandbox) -> None:
    """Nothing else of its record changes, but for where the log has it."""
    before = show(sandbox)
    revoked_at = revoke(sandbox).json()["revoked_at"]
    after = show(sandbox)

    assert (before["status"], before["log"]) == ("active", {})
    changed = {name: after[name] for name in ("log", "transparency_log")}
    assert {**before, "status": "revoked", "revoked_at": revoked_at, **changed} == after


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason": ""}', b'{"reason": "x", "more": 1.50}'])
def test_the_reason_may_be_absent(sandbox: Sandbox, body: bytes) -> None:
    """The SDK leaves it out, and the page's prose knows of no body."""
    assert revoke(sandbox, body=body).status_code == 200


def test_the_tenant_is_the_credentials(sandbox: Sandbox) -> None:
    """Whatever `X-Tenant-ID` says is not heard."""
    assert revoke(sandbox, **{"X-Tenant-ID": str(uuid4())}).status_code == 200
    assert [entry["account"] for entry in sandbox.entries()] == [ACCOUNT] == [show(sandbox)["tenant_id"]]


# ---- what is told and logged ----------------------------------------------------------------------------------------


def test_the_delivery_is_the_documented_one(sandbox: Sandbox) -> None:
    """Member for member, and of the same moment as the answer."""
    revoked_at = revoke(sandbox).json()["revoked_at"]
    [body] = sandbox.owed("truthlocks")
    expected = json.loads(DELIVERED) | {"receipt_id": RECEIPT, "tenant_id": ACCOUNT, "revoked_at": revoked_at}

    assert list(expected.items()) == list(json.loads(body).items())


def test_the_receiver_reads_delivery_and_answer_as_what_was_logged(sandbox: Sandbox) -> None:
    """The entry has the words of the event, so that they can be matched; and no rule is broken."""
    answer = revoke(sandbox)
    [body] = sandbox.owed("truthlocks")
    delivered = TRUTHLOCKS.read(parse(body))
    assert TRUTHLOCKS.operation is not None
    relayed = TRUTHLOCKS.operation.read(Call({"id": RECEIPT}, dict(REASON), parse(answer.content)))
    assert isinstance(delivered, Notice)
    assert isinstance(relayed, Notice)
    [entry] = sandbox.entries()

    assert entry == {"account": ACCOUNT, "at": entry["at"], **told(delivered.event)}
    assert told(relayed.event) == told(delivered.event)
    assert relayed.event.occurred_at == delivered.event.occurred_at
    assert (delivered.event.account, delivered.event.effect) == (ACCOUNT, Effect.REVOKED)
    assert (Item("receipt", RECEIPT), "paid back") == (relayed.event.item, relayed.event.reason)
    assert delivered.event.occurred_at is not None
    assert timedelta(0) <= parse_time(entry["at"]) - delivered.event.occurred_at < timedelta(seconds=1)
    now = datetime.now(UTC)
    assert TRUTHLOCKS.check(relayed.event, now, 300, [Past.from_event(delivered.event, now, 0)]) == ()


def test_a_delivery_is_signed_so_that_a_source_with_the_options_takes_it() -> None:
    """By Standard Webhooks, since the provider documents no scheme."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert ISSUER.receiver_options[0] == "--scheme"
    scheme = scheme_from_options(ISSUER.receiver_options[1], {})
    headers = ISSUER.sign(b"{}", secret, "n1", 1_763_715_600)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    assert isinstance(verifier(scheme, [Secret("s1", secret)], 300).verify(raw, b"{}", 1_763_715_600), Authenticated)
    assert ISSUER.sends


def test_fixtures_are_told_to_nobody(sandbox: Sandbox) -> None:
    """The receipt was always there: nothing is logged of it, and nothing delivered."""
    assert show(sandbox)["status"] == "active"
    assert (sandbox.entries(), sandbox.owed("truthlocks")) == ([], [])


def test_after_a_reset_the_receipt_is_active_again(sandbox: Sandbox) -> None:
    """The key that revoked it revokes it anew; the log goes on."""
    revoke(sandbox, Idempotency_Key=KEY)
    assert sandbox.client.post("/sandbox/reset").status_code == 204
    assert show(sandbox)["status"] == "active"

    assert revoke(sandbox, Idempotency_Key=KEY).status_code == 200
    assert show(sandbox)["log"]["leaf_index"] == 1
    assert len(sandbox.entries()) == 2


# ---- once ----------------------------------------------------------------------------------------------------------


def test_a_revocation_is_final(sandbox: Sandbox) -> None:
    """Under another key it is refused, and nothing more is logged or told."""
    revoke(sandbox)

    assert "revoked" in refused(revoke(sandbox), Code.CONFLICT)
    assert (len(sandbox.entries()), len(sandbox.owed("truthlocks"))) == (1, 1)


def test_a_repeated_call_has_the_first_answer(sandbox: Sandbox) -> None:
    """Same key and same content, however it is written: byte for byte what was answered then, and done once."""
    first = revoke(sandbox, body=b'{"reason": "paid back", "by": 7}', Idempotency_Key=KEY)
    again = revoke(sandbox, body=b'{ "by":7, "reason":"paid back" }', Idempotency_Key=KEY.upper())

    assert (again.status_code, again.content) == (200, first.content)
    assert (len(sandbox.entries()), len(sandbox.owed("truthlocks"))) == (1, 1)


def test_a_key_is_good_for_one_request(sandbox: Sandbox) -> None:
    """With another body, for another receipt or for another operation it is refused."""
    revoke(sandbox, Idempotency_Key=KEY)
    other = sandbox.client.post(RECEIPTS, headers={**HEADERS, "Idempotency-Key": str(uuid4())}, json=MINTED)

    for answer in (
        revoke(sandbox, body={"reason": "other"}, Idempotency_Key=KEY),
        revoke(sandbox, other.json()["receipt_id"], Idempotency_Key=KEY),
        sandbox.client.post(RECEIPTS, headers={**HEADERS, "Idempotency-Key": KEY}, json=MINTED),
    ):
        assert "Idempotency-Key" in refused(answer, Code.CONFLICT)
    assert len(sandbox.entries()) == 1


def test_a_key_that_was_refused_is_not_used_up(sandbox: Sandbox) -> None:
    """Only what was done is answered again."""
    refused(revoke(sandbox, str(uuid4()), Idempotency_Key=KEY), Code.NOT_FOUND)

    assert revoke(sandbox, Idempotency_Key=KEY).status_code == 200


def test_calls_at_once_are_done_once(sandbox: Sandbox) -> None:
    """Under one key all have one answer; under keys of their own, one is done."""
    alike = at_once(8, lambda _: revoke(sandbox, Idempotency_Key=KEY))
    sandbox.client.post("/sandbox/reset")
    rivals = at_once(8, lambda _: revoke(sandbox))

    assert {(200, alike[0].content)} == {(answer.status_code, answer.content) for answer in alike}
    assert [200, *[409] * 7] == sorted(answer.status_code for answer in rivals)
    assert len(sandbox.entries()) == 2


# ---- errors --------------------------------------------------------------------------------------------------------

MINTED = {
    "issuer_id": "550e8400-e29b-41d4-a716-446655440000",
    "kid": "ed-key-2026",
    "alg": "Ed25519",
    "receipt_type": "payment_receipt",
    "subject": "customer@example.com",
    "payload": {"amount": 5000, "currency": "USD"},
}
"""What a mint asks for."""

OPERATIONS = [
    ("POST", ""),
    ("GET", ""),
    ("POST", "/search"),
    ("POST", "/verify"),
    ("GET", f"/{RECEIPT}"),
    ("GET", f"/{RECEIPT}/proof-bundle"),
    ("POST", f"/{RECEIPT}/revoke"),
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_wants_credentials(sandbox: Sandbox, method: str, path: str) -> None:
    """None, a wrong key, a wrong token, the token by another scheme, and a right key beside a wrong token."""
    wrong = [
        {"X-API-Key": "tl_test_other"},
        {"Authorization": "Bearer other"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"X-API-Key": API_KEY, "Authorization": "Bearer other"},
    ]

    refused(sandbox.client.request(method, RECEIPTS + path), Code.AUTH_REQUIRED)
    for headers in wrong:
        refused(sandbox.client.request(method, RECEIPTS + path, headers=headers), Code.AUTH_INVALID)
    assert sandbox.entries() == []


def test_a_token_is_as_good_as_a_key(sandbox: Sandbox) -> None:
    """The scheme's name in either case."""
    assert revoke(sandbox, X_API_Key=None, Authorization=f"bearer {TOKEN}").status_code == 200


@pytest.mark.parametrize("key", [None, "", "1", KEY[:-1], f"{{{KEY}}}", KEY.replace("-", "")])
def test_the_idempotency_key_is_a_uuid(sandbox: Sandbox, key: str | None) -> None:
    """Without one nothing is revoked, and nothing is minted."""
    assert "Idempotency-Key" in refused(revoke(sandbox, Idempotency_Key=key), Code.VALIDATION_ERROR)
    headers = HEADERS if key is None else {**HEADERS, "Idempotency-Key": key}
    assert "Idempotency-Key" in refused(
        sandbox.client.post(RECEIPTS, headers=headers, json=MINTED), Code.VALIDATION_ERROR
    )
    assert show(sandbox)["status"] == "active"
    assert sandbox.client.get(RECEIPTS, headers=HEADERS).json()["total"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"reason"',
        b'{"reason": 1}',
        b'{"reason": null}',
        b'{"reason": ["x"]}',
        b'{"reason": "a", "reason": "b"}',
        b'{"reason": "\xff"}',
        b'{"reason": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_as_documented_is_refused(sandbox: Sandbox, body: bytes) -> None:
    """With 400, whatever it is; and the receipt stays as it is."""
    refused(revoke(sandbox, body=body), Code.VALIDATION_ERROR)

    assert show(sandbox)["status"] == "active"


@pytest.mark.parametrize("receipt_id", ["00000000-0000-4000-8000-000000000000", "no-uuid", "%00", "%ff"])
def test_a_receipt_that_is_not_there(sandbox: Sandbox, receipt_id: str) -> None:
    """Is not found, to read or to revoke."""
    refused(revoke(sandbox, receipt_id), Code.NOT_FOUND)
    refused(sandbox.client.get(f"{RECEIPTS}/{receipt_id}", headers=HEADERS), Code.NOT_FOUND)
    refused(sandbox.client.get(f"{RECEIPTS}/{receipt_id}/proof-bundle", headers=HEADERS), Code.NOT_FOUND)


def test_an_id_is_the_same_in_either_case(sandbox: Sandbox) -> None:
    """It is told as it was issued, and revoked once."""
    assert revoke(sandbox, RECEIPT.upper(), Idempotency_Key=KEY).json()["receipt_id"] == RECEIPT
    assert revoke(sandbox, Idempotency_Key=KEY).status_code == 200
    assert show(sandbox, RECEIPT.upper()) == show(sandbox)
    assert [entry["operation"] for entry in sandbox.entries()] == [RECEIPT]


def test_a_body_that_is_too_large(sandbox: Sandbox) -> None:
    """Is refused by the code that is documented for it."""
    refused(revoke(sandbox, body={"reason": "x" * 11_000_000}), Code.PAYLOAD_TOO_LARGE)
