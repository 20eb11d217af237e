"""Truthlocks' receipts beside their revocation: minted, listed, searched, verified, proved; and the official SDK."""

import base64
import json
from collections.abc import Generator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from truthlock import NotFoundError, TruthlockClient, TruthlockError
from truthlock.models import ListReceiptsFilter, MintReceiptRequest

from receiver.events import parse_time
from receiver.problems import Code
from receiver.sandbox.truthlocks import ACCOUNT, API_KEY, TOKEN
from receiver.strictjson import digest, parse
from tests.sandbox.service import Sandbox
from tests.sandbox.test_truthlocks import HEADERS, MINTED, RECEIPT, RECEIPTS, refused, revoke, show
from translog import canonical, merkle
from translog.checkpoint import Checkpoint
from translog.note import Signature

ENVELOPE = {
    "spec_version",
    "receipt_type",
    "receipt_version",
    "receipt_id",
    "tenant_id",
    "issuer_id",
    "issued_at",
    "subject",
    "payload",
    "metadata",
}
"""The members that are documented to be signed."""


def mint(sandbox: Sandbox, **members: object) -> httpx2.Response:
    """The documented call, with members replaced; one that is `...` is left out."""
    asked = {name: value for name, value in {**MINTED, **members}.items() if value is not ...}
    return sandbox.client.post(RECEIPTS, headers={**HEADERS, "Idempotency-Key": str(uuid4())}, json=asked)


def minted(sandbox: Sandbox, **members: object) -> str:
    """A new receipt's id."""
    answer = mint(sandbox, **members)
    assert answer.status_code == 201
    return answer.json()["receipt_id"]


def bundle_of(sandbox: Sandbox, receipt_id: str = RECEIPT) -> tuple[dict[str, Any], bytes]:
    """A receipt's proof bundle, read, and as it came."""
    answer = sandbox.client.get(f"{RECEIPTS}/{receipt_id}/proof-bundle", headers=HEADERS)
    assert answer.status_code == 200
    return answer.json(), answer.content


def verify(sandbox: Sandbox, receipt_id: str = RECEIPT) -> dict[str, Any]:
    """The verdict on a receipt, in full."""
    answer = sandbox.client.post(f"{RECEIPTS}/verify", headers=HEADERS, json={"receipt_id": receipt_id})
    assert answer.status_code == 200
    return answer.json()


def from_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# ---- minted --------------------------------------------------------------------------------------------------------


def test_a_new_receipt_is_active(sandbox: Sandbox) -> None:
    """What was asked for, an id, a time, a signature; and the same when it is asked for again."""
    answer = mint(sandbox, metadata={"order": "A-1"})
    record = answer.json()

    assert answer.status_code == 201
    assert record == {
        "spec_version": "receipt-v1",
        "receipt_id": str(UUID(record["receipt_id"])),
        "receipt_type": "payment_receipt",
        "receipt_version": "1.0.0",
        "status": "active",
        "tenant_id": ACCOUNT,
        "issuer_id": MINTED["issuer_id"],
        "subject": MINTED["subject"],
        "payload": MINTED["payload"],
        "metadata": {"order": "A-1"},
        "payload_hash": record["payload_hash"],
        "signature": {"alg": "Ed25519", "kid": "ed-key-2026", "value": record["signature"]["value"]},
        "issued_at": record["issued_at"],
        "revoked_at": None,
        "log": {},
    }
    assert parse_time(record["issued_at"])
    shown = show(sandbox, record["receipt_id"])
    assert {**record, "transparency_log": shown["transparency_log"]} == shown
    assert (sandbox.entries(), sandbox.owed("truthlocks")) == ([], [])


def test_a_payload_stays_as_it_was_written(sandbox: Sandbox) -> None:
    """Numbers that no double holds included, whenever and wherever it is read."""
    payload = b'{"amount":1234567890.123456789012,"total":1.10,"wei":123456789012345678901234567890,"n":"Zo\xc3\xab"}'
    body = json.dumps({**MINTED, "payload": "here"}).encode().replace(b'"here"', payload)

    answer = sandbox.client.post(RECEIPTS, headers={**HEADERS, "Idempotency-Key": str(uuid4())}, content=body)
    receipt_id = answer.json()["receipt_id"]
    revoke(sandbox, receipt_id)

    listed = sandbox.client.get(RECEIPTS, headers=HEADERS).content
    shown = sandbox.client.get(f"{RECEIPTS}/{receipt_id}", headers=HEADERS).content
    assert all(payload in text for text in (answer.content, shown, listed, bundle_of(sandbox, receipt_id)[1]))
    assert answer.json()["payload_hash"] == digest(parse(payload)).hex()
    assert verify(sandbox, receipt_id)["checks"]["signature"]


def test_a_repeated_mint_has_the_first_answer(sandbox: Sandbox) -> None:
    """Even when the receipt was revoked since."""
    headers = {**HEADERS, "Idempotency-Key": str(uuid4())}
    first = sandbox.client.post(RECEIPTS, headers=headers, json=MINTED)
    revoke(sandbox, first.json()["receipt_id"])
    again = sandbox.client.post(RECEIPTS, headers=headers, json=MINTED)

    assert (again.status_code, again.content) == (201, first.content)
    assert sandbox.client.get(RECEIPTS, headers=HEADERS).json()["total"] == 2


@pytest.mark.parametrize(
    "members",
    [
        *({name: ...} for name in ("issuer_id", "kid", "receipt_type", "subject", "payload")),
        *({name: 7} for name in MINTED),
        *({name: ""} for name in MINTED),
        {"payload": []},
        {"metadata": "x"},
        {"receipt_version": 1},
        {"alg": "ES256"},
        {"receipt_type": "x" * 257},
    ],
)
def test_a_mint_that_is_not_as_documented_is_refused(sandbox: Sandbox, members: dict[str, Any]) -> None:
    """By the name of the member that is missing or wrong."""
    assert next(iter(members)) in refused(mint(sandbox, **members), Code.VALIDATION_ERROR)
    assert sandbox.client.get(RECEIPTS, headers=HEADERS).json()["total"] == 1


@pytest.mark.parametrize("path", ["", "/verify", "/search"])
def test_a_body_that_cannot_be_read_is_refused(sandbox: Sandbox, path: str) -> None:
    """Nowhere may it be absent, or no object."""
    headers = {**HEADERS, "Idempotency-Key": str(uuid4())}
    for body in (b"", b"{", b"[]", b"[" * 100_000):
        refused(sandbox.client.post(RECEIPTS + path, headers=headers, content=body), Code.VALIDATION_ERROR)


# ---- listed --------------------------------------------------------------------------------------------------------


def test_receipts_are_listed_page_by_page(sandbox: Sandbox) -> None:
    """Oldest first, with how many there are in all."""
    ids = [RECEIPT, *(minted(sandbox) for _ in range(4))]

    def page(**params: int) -> dict[str, Any]:
        return sandbox.client.get(RECEIPTS, headers=HEADERS, params=params).json()

    first, last, whole = page(limit=2), page(limit=2, offset=4), page()
    assert (first["total"], first["limit"], first["offset"]) == (5, 2, 0)
    assert ids[:2] == [one["receipt_id"] for one in first["items"]]
    assert ids[4:] == [one["receipt_id"] for one in last["items"]]
    assert (ids, 20) == ([one["receipt_id"] for one in whole["items"]], whole["limit"])
    assert page(offset=5)["items"] == []


def test_receipts_are_found_by_every_filter(sandbox: Sandbox) -> None:
    """Each alone picks out one of them, by the query and in a search."""
    issuer, until = str(uuid4()), "2026-02-01T00:00:00Z"
    other = minted(sandbox, issuer_id=issuer, receipt_type="delivery_receipt", payload={"carrier": "Brünn"})
    revoke(sandbox)

    def by_query(name: str, value: str) -> list[str]:
        found = sandbox.client.get(RECEIPTS, headers=HEADERS, params={name: value}).json()
        return [one["receipt_id"] for one in found["items"]]

    def by_search(name: str, value: str) -> list[str]:
        found = sandbox.client.post(f"{RECEIPTS}/search", headers=HEADERS, json={name: value}).json()
        return [one["receipt_id"] for one in found["items"]]

    for name, value in (("issuer_id", issuer), ("receipt_type", "delivery_receipt"), ("status", "active")):
        assert [other] == by_query(name, value) == by_search(name, value)
    assert by_query("status", "revoked") == [RECEIPT]
    assert [] == by_query("status", "superseded") == by_query("issuer_id", "other")
    assert [other] == by_search("q", "brünn") == by_search("from_date", until)
    assert [RECEIPT] == by_search("q", "STRIPE") == by_search("to_date", until)


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "101"), ("limit", "x"), ("offset", "-1"), ("offset", "9" * 30), ("status", "gone")],
)
def test_a_page_that_cannot_be_is_refused(sandbox: Sandbox, name: str, value: str) -> None:
    """By the name of the parameter."""
    answer = sandbox.client.get(RECEIPTS, headers=HEADERS, params={name: value})

    assert name in refused(answer, Code.VALIDATION_ERROR)


@pytest.mark.parametrize("asked", [{"limit": "5"}, {"from_date": "yesterday"}, {"q": 1}, {"index_key": "amount"}])
def test_a_search_that_cannot_be_is_refused(sandbox: Sandbox, asked: dict[str, Any]) -> None:
    """A filter that is not there included: without it, more would be found than was asked for."""
    answer = sandbox.client.post(f"{RECEIPTS}/search", headers=HEADERS, json=asked)

    assert next(iter(asked)) in refused(answer, Code.VALIDATION_ERROR)


# ---- verified and proved -------------------------------------------------------------------------------------------


def test_the_verdict_follows_the_receipt(sandbox: Sandbox) -> None:
    """VALID, then REVOKED; of what is not there, NOT_FOUND."""
    valid = verify(sandbox)
    revoke(sandbox)
    revoked, unknown = verify(sandbox), verify(sandbox, "gone")

    assert valid == {
        "receipt_id": RECEIPT,
        "verdict": "VALID",
        "valid": True,
        "checks": {"signature": True, "active": True},
        "receipt_type": "payment_receipt",
        "issuer_id": show(sandbox)["issuer_id"],
        "issued_at": show(sandbox)["issued_at"],
        "verified_at": valid["verified_at"],
    }
    assert (
        revoked["verdict"],
        revoked["valid"],
        revoked["checks"],
    ) == ("REVOKED", False, {"signature": True, "active": False})
    assert (
        unknown["verdict"],
        unknown["valid"],
        unknown["checks"],
        unknown["issued_at"],
    ) == ("NOT_FOUND", False, {}, None)


def test_a_receipt_that_is_not_as_it_was_signed(sandbox: Sandbox) -> None:
    """Is told as INVALID_SIGNATURE, for it is really verified."""
    with sandbox.ledger.act("truthlocks") as act:
        kept = act.get("receipt", RECEIPT)
        assert kept is not None
        act.put("receipt", RECEIPT, {"json": kept["json"].replace("5000", "5001")})

    assert verify(sandbox)["verdict"] == "INVALID_SIGNATURE"


def test_a_verdict_wants_a_receipt(sandbox: Sandbox) -> None:
    """By its id, a string."""
    for body in ({}, {"receipt_id": 7}, {"receipt_id": None}):
        answer = sandbox.client.post(f"{RECEIPTS}/verify", headers=HEADERS, json=body)
        assert "receipt_id" in refused(answer, Code.VALIDATION_ERROR)


def test_a_bundle_proves_the_receipt(sandbox: Sandbox) -> None:
    """With the key in it the signature over the documented envelope is verified, and the whole by its hash."""
    bundle, raw = bundle_of(sandbox)
    receipt, key = bundle["receipt"], bundle["key"]
    envelope = {name: value for name, value in receipt.items() if name in ENVELOPE}

    assert envelope.keys() == ENVELOPE
    Ed25519PublicKey.from_public_bytes(from_base64url(key["public_key_b64url"])).verify(
        from_base64url(receipt["signature"]["value"]), digest(envelope)
    )
    assert {"kid": "ed-key-2026", "alg": "Ed25519", "status": "active", "compromised_at": None}.items() <= key.items()
    assert (key["kid"], key["alg"]) == (receipt["signature"]["kid"], receipt["signature"]["alg"])
    hashed = digest(parse(raw), drop=("bundle_hash_b64url",))
    assert hashed == from_base64url(bundle["bundle_hash_b64url"])
    assert (str(UUID(bundle["bundle_id"])), "receipt-v1", ACCOUNT) == (
        bundle["bundle_id"],
        bundle["bundle_version"],
        bundle["tenant_id"],
    )


def test_a_bundle_proves_the_revocation(sandbox: Sandbox) -> None:
    """At once: the entry is in the tree of a checkpoint that the log's key has signed, and its hash is the entry's."""
    others = [minted(sandbox) for _ in range(5)]
    for receipt_id in [*others[:3], RECEIPT, *others[3:]]:
        revoke(sandbox, receipt_id)
    proved = bundle_of(sandbox)[0]["transparency_log"]
    signed = proved["checkpoint"]
    log = sandbox.ledger.log
    entry = sandbox.entries()[3]
    root = bytes.fromhex(signed["root_hash"])

    assert (entry["operation"], entry["event"]) == (RECEIPT, "RECEIPT_REVOKE")
    assert (log.origin, 3) == (proved["log_id"], proved["leaf_index"])
    assert merkle.leaf_hash(canonical.encode(entry)).hex() == proved["leaf_hash"]
    merkle.verify_inclusion(
        bytes.fromhex(proved["leaf_hash"]),
        proved["leaf_index"],
        signed["tree_size"],
        [bytes.fromhex(one) for one in proved["inclusion_proof"]],
        root,
    )
    key = log.verifying_key
    signature = Signature(key.name, key.key_id, base64.b64decode(signed["signature"]))
    key.verify(Checkpoint(proved["log_id"], signed["tree_size"], root).text, signature)
    assert signed["sig_kid"] == f"{key.name}+{key.key_id:08x}"
    assert signed["timestamp"] == sandbox.entries()[signed["tree_size"] - 1]["at"]
    shown = show(sandbox)
    assert shown["transparency_log"]["leaf_index"] == 3
    assert shown["log"] == {name: proved[name] for name in ("log_id", "leaf_index", "leaf_hash")}


def test_a_bundle_of_what_was_not_revoked_proves_nothing_of_the_log(sandbox: Sandbox) -> None:
    """There is no entry of it, and none is made up."""
    assert bundle_of(sandbox)[0]["transparency_log"] == {
        "log_id": sandbox.ledger.log.origin,
        "leaf_index": None,
        "leaf_hash": None,
        "inclusion_proof": [],
        "checkpoint": None,
    }


# ---- the official SDK ----------------------------------------------------------------------------------------------


@pytest.fixture
def sdk(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Generator[TruthlockClient]:
    """The official client, at the sandbox; no proxy of the user's stands between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with TruthlockClient(api_key=API_KEY, base_url=str(sandbox.client.base_url)) as client:
        yield client


ASKED = MintReceiptRequest(
    issuer_id="550e8400-e29b-41d4-a716-446655440000",
    kid="ed-key-2026",
    alg="Ed25519",
    receipt_type="payment_receipt",
    subject="customer@example.com",
    payload={"amount": 5000, "currency": "USD"},
    metadata={"order": "A-1"},
)


def test_the_sdk_takes_a_receipt_through_its_life(sandbox: Sandbox, sdk: TruthlockClient) -> None:
    """Mint, get, list, search, verify, revoke without a reason, verify, prove; and the log has it."""
    receipt = sdk.receipts.mint(ASKED)

    assert (receipt.status, receipt.tenant_id, receipt.issuer_id) == ("active", ACCOUNT, ASKED.issuer_id)
    assert sdk.receipts.get(receipt.receipt_id) == receipt
    assert sdk.receipts.list(ListReceiptsFilter(status="active", offset=1)) == [receipt]
    assert [receipt.receipt_id] == [one["receipt_id"] for one in sdk.receipts.search(q="5000", offset=1)["items"]]
    assert sdk.receipts.verify(receipt.receipt_id)["verdict"] == "VALID"

    revoked = sdk.receipts.revoke(receipt.receipt_id)

    assert (revoked.receipt_id, revoked.receipt_type, revoked.status) == (
        receipt.receipt_id,
        "payment_receipt",
        "revoked",
    )
    assert sdk.receipts.verify(receipt.receipt_id)["verdict"] == "REVOKED"
    assert sdk.receipts.get(receipt.receipt_id).status == "revoked"
    assert [one.receipt_id for one in sdk.receipts.list()] == [RECEIPT, receipt.receipt_id]
    bundle = sdk.receipts.get_proof_bundle(receipt.receipt_id)
    assert bundle["transparency_log"]["leaf_index"] == 0 == sdk.receipts.get(receipt.receipt_id).log["leaf_index"]
    assert [receipt.receipt_id] == [entry["operation"] for entry in sandbox.entries()]


def test_the_sdk_is_told_what_is_wrong(sandbox: Sandbox, sdk: TruthlockClient) -> None:
    """By exceptions that have the status and the code."""
    sdk.receipts.revoke(RECEIPT, reason="paid back")

    with pytest.raises(TruthlockError) as again:
        sdk.receipts.revoke(RECEIPT)
    with pytest.raises(NotFoundError):
        sdk.receipts.get(str(uuid4()))
    assert (again.value.status_code, again.value.error_code) == (409, "CONFLICT")
    assert sdk.receipts.verify("gone")["verdict"] == "NOT_FOUND"


def test_the_sdk_repeats_a_mint_by_its_key(sandbox: Sandbox, sdk: TruthlockClient) -> None:
    """And has one receipt."""
    key = str(uuid4())

    assert sdk.receipts.mint(ASKED, idempotency_key=key) == sdk.receipts.mint(ASKED, idempotency_key=key)
    assert len(sdk.receipts.list()) == 2


def test_the_sdk_may_come_with_a_token(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a key."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with TruthlockClient(bearer_token=TOKEN, base_url=str(sandbox.client.base_url)) as client:
        assert client.receipts.get(RECEIPT).status == "active"
