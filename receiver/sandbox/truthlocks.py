"""Truthlocks as the issuing side: receipts that are minted, and revoked for good.

Documented (docs.truthlocks.com): the operations below, the members of their answers, the `ErrorEnvelope` of every
error, the entry `RECEIPT_REVOKE` in the transparency log, and the `receipt.revoked` that is delivered after it. The
page of the revocation requires a `reason`, the official SDK leaves it out: here it may be absent, and so may the body.

Not documented, or documented in two ways, and so a choice of this sandbox:

- How a delivery is signed: which bytes `X-Truthlocks-Signature` is made over, and its spelling. Standard Webhooks here.
- What a mint puts in the log. Nothing here: a receipt's `log` is empty, and its proof proves nothing, until the receipt
  is revoked. From then on both are of the revocation's entry. Nor is `receipt.created` delivered, whose body is not
  documented.
- How an entry is encoded, and which bytes a checkpoint's signature is over. The log is the sandbox's own, so `log_id`
  is its origin, hashes are hex, and `signature` is the base64 Ed25519 signature over the note of that origin,
  `tree_size` and `root_hash` (C2SP tlog-checkpoint). That note states no time: `timestamp` is its newest entry's.
- What a receipt's signature is over: the SHA-256 of the documented envelope as compact JSON, its members sorted and its
  numbers as they were sent. An issuer and a key exist once a mint names them; every key is Ed25519.
- Receipt types are not kept, so a payload is held against no schema. No member of a payload is indexed.
- A record tells when its receipt was revoked: `revoked_at`, null until then.
- Lists go by `limit` and `offset`, as the pages and the SDK have it, not by the `cursor` of the OpenAPI.
"""

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from litestar import Controller, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from receiver.documents import Members, WrongShape, is_uuid
from receiver.events import Effect, Item, Via, parse_time
from receiver.problems import STATUS, Code, default_code
from receiver.sandbox.issuers import Issuer, Scene
from receiver.sandbox.ledger import Act, Books, Data, Entry, Ledger, Remembered
from receiver.sandbox.signing import standard_webhooks
from receiver.strictjson import NotJson, Number, digest, parse
from translog.canonical import from_base64, to_base64
from translog.merkle import leaf_hash
from translog.note import Note

NAME = "truthlocks"

ACCOUNT = "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10"
"""The `tenant_id` of every receipt made here: the credentials' tenant."""

API_KEY = "tl_test_sandbox"
TOKEN = "sandbox-token"  # noqa: S105 (public: the sandbox keeps nothing that is anybody's)

ACTIVE = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"
"""The one receipt that is there without being minted."""

ALGORITHM = "Ed25519"
MAX_SUBJECT = 4096

_RECEIPT, _KEY = "receipt", "key"
_STATES = ("active", "revoked", "superseded", "redacted")
_CHANGING = ("status", "revoked_at", "log")
"""The members of a record that change; the others are the receipt's signed envelope, and what is made from it."""
_SPECIFICATION = "receipt-v1"


@dataclass(eq=False)
class Refused(Exception):  # noqa: N818 (it is what a call is)
    """A call that is answered with an ErrorEnvelope."""

    code: Code
    message: str


def _refusal(_: Request[Any, Any, Any], refused: Refused) -> Response[Data]:
    status = STATUS[refused.code]
    return Response(_error(status, refused.message, refused.code), status_code=status)


def _error(status: int, message: str, code: Code | None = None) -> Data:
    """An ErrorEnvelope; where no code is named, with the first that goes with the status."""
    codes = (one for one, its_status in STATUS.items() if its_status == status)
    return {"code": code or next(codes, default_code(status)), "message": message, "http_status": status}


def _invalid(request: Request[Any, Any, Any], error: ValueError) -> Response[Data]:
    return _refusal(request, Refused(Code.VALIDATION_ERROR, str(error)))


_ERRORS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Data]]] = {
    Refused: _refusal,
    WrongShape: _invalid,
    NotJson: _invalid,
}


async def _authenticated(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: a key or a token was given, and whatever was given is right. Whose tenant it is follows from that."""
    given: list[bool] = []
    if key := connection.headers.get("x-api-key"):
        given.append(key == API_KEY)
    if authorization := connection.headers.get("authorization"):
        scheme, _space, token = authorization.partition(" ")
        given.append(scheme.lower() == "bearer" and token == TOKEN)
    if not given:
        raise Refused(Code.AUTH_REQUIRED, "Authentication required")
    if not all(given):
        raise Refused(Code.AUTH_INVALID, "The API key or token is not valid")


def _verbatim(value: object) -> msgspec.Raw:
    """What no encoder of JSON knows: a number of a receipt's payload, which stays as it was written."""
    if isinstance(value, Number):
        return msgspec.Raw(value.literal)
    raise TypeError(f"a {type(value).__name__} is not of a parsed document")


class Receipts(Controller):
    """The receipts of the credentials' tenant."""

    path = "/v1/receipts"
    tags = (NAME,)
    guards = (_authenticated,)
    exception_handlers = _ERRORS
    type_encoders = {Number: _verbatim}  # noqa: RUF012 (the framework declares it, as an attribute of instances)

    @post(operation_id="mintReceipt", summary="Mint receipt")
    async def mint(self, request: Request[Any, Any, Any]) -> Data:
        """A new receipt, `active`."""
        ledger: Ledger = request.app.state.ledger
        key, body = _idempotency_key(request), await _body(request)
        asked = f"mint {digest(body.document).hex()}"
        return await asyncio.to_thread(_once, ledger, key, asked, 201, lambda act: _mint(act, body))

    @get(operation_id="listReceipts", summary="List receipts")
    async def show_page(self, request: Request[Any, Any, Any]) -> Data:
        """A page of the receipts, oldest first."""
        ledger: Ledger = request.app.state.ledger
        names = ("receipt_type", "issuer_id", "status", "limit", "offset")
        given = request.query_params
        asked: Data = {name: _number_or_text(given[name]) for name in names if name in given}
        return await asyncio.to_thread(_search, ledger, Members(asked))

    @post("/search", operation_id="searchReceipts", summary="Search receipts", status_code=200)
    async def search(self, request: Request[Any, Any, Any]) -> Data:
        """The same by more filters."""
        ledger: Ledger = request.app.state.ledger
        return await asyncio.to_thread(_search, ledger, await _body(request))

    @post("/verify", operation_id="verifyReceipt", summary="Verify receipt", status_code=200)
    async def verify(self, request: Request[Any, Any, Any]) -> Data:
        """The verdict on a receipt, also on one that is not there."""
        ledger: Ledger = request.app.state.ledger
        return await asyncio.to_thread(_verify, ledger, await _body(request))

    @get("/{receipt_id:str}", operation_id="getReceipt", summary="Get receipt")
    async def show(self, request: Request[Any, Any, Any], receipt_id: FromPath[str]) -> Data:
        """The receipt's record, and the proof that its revocation is in the log."""
        ledger: Ledger = request.app.state.ledger
        return await asyncio.to_thread(_show, ledger, receipt_id)

    @get("/{receipt_id:str}/proof-bundle", operation_id="getProofBundle", summary="Get receipt proof bundle")
    async def proof_bundle(self, request: Request[Any, Any, Any], receipt_id: FromPath[str]) -> Data:
        """All that it takes to check the receipt without the sandbox."""
        ledger: Ledger = request.app.state.ledger
        return await asyncio.to_thread(_bundle, ledger, receipt_id)

    @post("/{receipt_id:str}/revoke", operation_id="revokeReceipt", summary="Revoke receipt", status_code=200)
    async def revoke(self, request: Request[Any, Any, Any], receipt_id: FromPath[str]) -> Data:
        """The receipt, `revoked` from now on."""
        ledger: Ledger = request.app.state.ledger
        key, body = _idempotency_key(request), await _body(request, may_be_empty=True)
        asked = f"revoke {receipt_id.lower()} {digest(body.document).hex()}"
        if not isinstance(body.document.get("reason", ""), str):
            raise WrongShape("reason is not a string")
        return await asyncio.to_thread(_once, ledger, key, asked, 200, lambda act: _revoke(act, ledger, receipt_id))


def _idempotency_key(request: Request[Any, Any, Any]) -> str:
    """The key, in lower case."""
    key = request.headers.get("idempotency-key")
    if key is None:
        raise WrongShape("the header Idempotency-Key is missing")
    if not is_uuid(key):
        raise WrongShape("the header Idempotency-Key is not a UUID")
    return key.lower()


async def _body(request: Request[Any, Any, Any], *, may_be_empty: bool = False) -> Members:
    raw = await request.body()
    return Members({} if may_be_empty and not raw else parse(raw))


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else text


def _once(ledger: Ledger, key: str, asked: str, status: int, do: Callable[[Act], Data]) -> Data:
    """What `do` answers; under a key that was used before for what is asked, what was answered then."""
    with ledger.act(NAME) as act:
        remembered = act.recall(key)
        if remembered is None:
            answer = do(act)
            act.remember(key, Remembered(asked, status, _kept(answer)))
            return answer
    if remembered.request != asked:
        raise Refused(Code.CONFLICT, "The Idempotency-Key was used for another request")
    return _document(remembered.answer)


def _kept(document: Data) -> Data:
    """What the ledger can keep of a document: its text, for Python's own writer of JSON knows no `Number`."""
    return {"json": _text(document)}


def _text(document: Data) -> str:
    return msgspec.json.encode(document, enc_hook=_verbatim).decode()


def _document(kept: Data) -> Data:
    return parse(kept["json"].encode())


def _mint(act: Act, body: Members) -> Data:
    if body.has("alg") and body.text("alg") != ALGORITHM:
        raise WrongShape(f"alg is {body.text('alg')!a}; every signing key here is of {ALGORITHM}")
    metadata = body.optional_inside("metadata")
    members: Data = {
        "receipt_type": body.text("receipt_type"),
        "receipt_version": body.optional_text("receipt_version") or "1.0.0",
        "issuer_id": body.text("issuer_id"),
        "subject": body.text("subject", MAX_SUBJECT),
        "payload": body.inside("payload").document,
        "metadata": {} if metadata is None else metadata.document,
    }
    return _issue(act, str(uuid4()), members, body.text("kid"), act.now)


def _issue(act: Act, receipt_id: str, members: Data, kid: str, issued_at: datetime) -> Data:
    """Sign a receipt and keep it; the record of it, as every answer has it."""
    envelope: Data = {
        "spec_version": _SPECIFICATION,
        "receipt_id": receipt_id,
        **members,
        "tenant_id": ACCOUNT,
        "issued_at": _time(issued_at),
    }
    key_id = f"{members['issuer_id']} {kid}"
    key = act.get(_KEY, key_id) or {"private": to_base64(Ed25519PrivateKey.generate().private_bytes_raw())}
    act.put(_KEY, key_id, key)
    signature = Ed25519PrivateKey.from_private_bytes(from_base64(key["private"])).sign(digest(envelope))
    record: Data = {
        **envelope,
        "status": "active",
        "revoked_at": None,
        "payload_hash": digest(members["payload"]).hex(),
        "signature": {"alg": ALGORITHM, "kid": kid, "value": _base64url(signature)},
        "log": {},
    }
    act.put(_RECEIPT, receipt_id, _kept(record))
    return record


def _envelope(record: Data) -> Data:
    """What a receipt's signature is over, by its SHA-256."""
    beside = {*_CHANGING, "payload_hash", "signature"}
    return {name: value for name, value in record.items() if name not in beside}


def _public_key(books: Books, record: Data) -> Ed25519PublicKey:
    """The one that a receipt was signed under."""
    key = books.get(_KEY, f"{record['issuer_id']} {record['signature']['kid']}") or {}
    return Ed25519PrivateKey.from_private_bytes(from_base64(key["private"])).public_key()


def _find(books: Books, receipt_id: str) -> Data:
    kept = books.get(_RECEIPT, receipt_id.lower())  # a UUID is the same one in either case
    if kept is None:
        raise Refused(Code.NOT_FOUND, "There is no receipt of that id")
    return _document(kept)


def _revoke(act: Act, ledger: Ledger, receipt_id: str) -> Data:
    record = _find(act, receipt_id)
    if record["status"] != "active":
        raise Refused(Code.CONFLICT, f"The receipt is {record['status']}; only an active one can be revoked")
    index = ledger.log.store.head(act.tx).size
    act.tell(
        Entry(
            account=ACCOUNT,
            amount=None,
            effect=Effect.REVOKED,
            event="RECEIPT_REVOKE",
            item_type="receipt",
            item_id=record["receipt_id"],
            operation=record["receipt_id"],
            quantity=None,
        )
    )
    record["log"] = {"log_id": ledger.log.origin, "leaf_index": index, "leaf_hash": leaf_hash(act.entries[-1]).hex()}
    record["status"], record["revoked_at"] = "revoked", _time(act.now)
    act.put(_RECEIPT, record["receipt_id"], _kept(record))
    told = {name: record[name] for name in ("receipt_id", "receipt_type", "tenant_id", "revoked_at")}
    act.notify(json.dumps({"event_type": "receipt.revoked", **told}).encode())
    return {name: record[name] for name in ("receipt_id", "receipt_type", "status", "revoked_at")}


def _search(ledger: Ledger, asked: Members) -> Data:
    """Those of the receipts that every filter lets through, from `offset` on, and how many there are in all."""
    equal = {name: asked.text(name) for name in ("receipt_type", "issuer_id", "status") if asked.has(name)}
    if equal.get("status", "active") not in _STATES:
        raise WrongShape(f"status must be one of {', '.join(_STATES)}")
    if asked.has("index_key"):
        raise WrongShape("index_key: no member of a payload is indexed here")
    words = (asked.optional_text("q") or "").lower()
    since, until = asked.optional_moment("from_date"), asked.optional_moment("to_date")
    limit = asked.integer("limit") if asked.has("limit") else 20
    offset = asked.integer("offset") if asked.has("offset") else 0
    if not 1 <= limit <= 100 or offset < 0:
        raise WrongShape("limit must be 1 to 100, and offset at least 0")

    def fits(record: Data) -> bool:
        issued_at = parse_time(record["issued_at"])
        return (
            all(record[name] == value for name, value in equal.items())
            and words in _text(record["payload"]).lower()
            and (since or issued_at) <= issued_at <= (until or issued_at)
        )

    with ledger.read(NAME) as books:
        found = [record for record in map(_document, books.all(_RECEIPT)) if fits(record)]
    return {"items": found[offset : offset + limit], "total": len(found), "limit": limit, "offset": offset}


def _show(ledger: Ledger, receipt_id: str) -> Data:
    with ledger.read(NAME) as books:
        record = _find(books, receipt_id)
    return {**record, "transparency_log": _anchor(ledger, record)}


def _verify(ledger: Ledger, body: Members) -> Data:
    receipt_id = body.text("receipt_id")
    with ledger.read(NAME) as books:
        kept = books.get(_RECEIPT, receipt_id.lower())
        record: Data = {} if kept is None else _document(kept)
        checks = {"signature": _fits(books, record), "active": record["status"] == "active"} if record else {}
    verdict = "VALID"
    if not checks:
        verdict = "NOT_FOUND"
    elif not checks["signature"]:
        verdict = "INVALID_SIGNATURE"
    elif not checks["active"]:
        verdict = "REVOKED"
    return {
        "receipt_id": receipt_id,
        "verdict": verdict,
        "valid": verdict == "VALID",
        "checks": checks,
        **{name: record.get(name) for name in ("receipt_type", "issuer_id", "issued_at")},
        "verified_at": _time(datetime.now(UTC)),
    }


def _fits(books: Books, record: Data) -> bool:
    """Whether the receipt is as it was signed."""
    signature = urlsafe_b64decode(record["signature"]["value"] + "==")
    try:
        _public_key(books, record).verify(signature, digest(_envelope(record)))
    except InvalidSignature:
        return False
    return True


def _bundle(ledger: Ledger, receipt_id: str) -> Data:
    with ledger.read(NAME) as books:
        record = _find(books, receipt_id)
        public = _public_key(books, record).public_bytes_raw()
    bundle: Data = {
        "bundle_id": str(uuid4()),
        "bundle_version": _SPECIFICATION,
        "generated_at": _time(datetime.now(UTC)),
        "tenant_id": ACCOUNT,
        "receipt": {name: value for name, value in record.items() if name not in _CHANGING},
        "key": {
            "kid": record["signature"]["kid"],
            "alg": ALGORITHM,
            "public_key_b64url": _base64url(public),
            "status": "active",
            "compromised_at": None,
        },
        "transparency_log": _anchor(ledger, record),
    }
    return {**bundle, "bundle_hash_b64url": _base64url(digest(bundle))}


def _anchor(ledger: Ledger, record: Data) -> Data:
    """The proof that a receipt's revocation is in the log, under a checkpoint that is signed for it if need be."""
    log = ledger.log
    if not record["log"]:
        nothing: Data = {"leaf_index": None, "leaf_hash": None, "inclusion_proof": [], "checkpoint": None}
        return {"log_id": log.origin, **nothing}
    index = record["log"]["leaf_index"]
    if index >= log.published_size:
        ledger.publish()
    published = log.published
    proof, _, _ = log.inclusion_proof(index, published.size)
    (signature,) = Note.parse(published.note).signatures
    return {
        **record["log"],
        "inclusion_proof": [one.hex() for one in proof],
        "checkpoint": {
            "tree_size": published.size,
            "root_hash": published.root.hex(),
            "timestamp": json.loads(log.entry(published.size - 1))["at"],
            "signature": to_base64(signature.blob),
            "sig_kid": f"{signature.name}+{signature.key_id:08x}",
        },
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _put_fixtures(act: Act) -> None:
    """One receipt, `active`."""
    members: Data = {
        "receipt_type": "payment_receipt",
        "receipt_version": "1.0.0",
        "issuer_id": "550e8400-e29b-41d4-a716-446655440000",
        "subject": "customer@example.com",
        "payload": {"amount": 5000, "currency": "USD", "provider": "stripe", "provider_reference": "ch_3Pxabc123"},
        "metadata": {},
    }
    _issue(act, ACTIVE, members, "ed-key-2026", datetime(2026, 1, 15, 9, tzinfo=UTC))


def _scene(title: str, key: str, status: int, via: Via, effect: Effect) -> Scene:
    return Scene(
        title=title,
        item=Item("receipt", ACTIVE),
        path=f"{Receipts.path}/{ACTIVE}/revoke",
        headers={"X-API-Key": API_KEY, "Idempotency-Key": key, "Content-Type": "application/json"},
        members={"reason": "Refunded"},
        status=status,
        told=((via, effect),),
        state="taken_back",
    )


_SCENES = (
    _scene("revoke a receipt", "5b0e1f9c-0d3f-4d5c-8a55-0c7d1f2e3a4b", 200, Via.WEBHOOK, Effect.REVOKED),
    _scene("revoke the receipt again", "8d3c6a52-7e41-4b0f-9c1a-2f5e7d6b4a90", 409, Via.RELAY, Effect.REFUSED),
)


ISSUER = Issuer(
    name=NAME,
    routes=(Receipts,),
    base=Receipts.path,
    error=lambda fault: _error(fault.status, fault.message),
    put_fixtures=_put_fixtures,
    go_on=lambda _act, _step: None,  # a receipt is revoked at once: nothing is ever put off
    sign=standard_webhooks,
    sends=True,
    account=ACCOUNT,
    receiver_options=("--scheme", "standard-webhooks"),
    scenes=_SCENES,
)
