"""Truthlocks: receipts, attestations and keys revoked.

Documented (docs.truthlocks.com, "Revoke Receipt" and "Webhooks"): `POST /v1/receipts/{id}/revoke` revokes an active
receipt for good, and then a flat `receipt.revoked` is delivered:

    {"event_type": "receipt.revoked", "receipt_id": "<uuid>", "receipt_type": "payment_receipt",
     "tenant_id": "<uuid>", "revoked_at": "<RFC 3339>"}

Its siblings have the same shape, with the item's id in `attestation_id` or `key_id`. There is no id of the event or of
the delivery, so the notice is told by type, item and time: the same receipt revoked again at another time is an event
of its own, and breaks a rule.

Documented ("Get Receipt"): `GET /v1/receipts/{id}` shows a receipt's record, with its `receipt_id` and its `status`:
`active`, `revoked`, `superseded` or `redacted`. Of the members that the page lists, none is the time of a revocation,
its reason, or the call that made it; a record that brings `revoked_at` is read as the webhook is.

Documented ("Receipt Proof Bundle", "Truth Explorer", "Proof Bundle Format"): `GET /v1/receipts/{id}/proof-bundle` shows
that a receipt is in the transparency log, a tree of RFC 6962, whose hashes are hex, in one of the pages' examples with
`sha256:` before the digits:

    {"receipt": {"receipt_id": "<uuid>", …}, "transparency_log": {"log_id", "leaf_index", "leaf_hash",
     "inclusion_proof": ["<hash>", …],
     "checkpoint": {"tree_size", "root_hash", "timestamp", "signature", "sig_kid"}}, …}

None of the webhooks names a person, nor does the answer to a revocation. A receipt's record and its proof bundle do:
documented ("Mint Receipt", "Receipts") is the receipt's `subject`, an identifier of any form, an email address in the
documented example; and in the payload of a `delivery_receipt` the `recipient`.

Not documented: over which bytes, and in which encoding, the HMAC-SHA256 in `X-Truthlocks-Signature` is made, so a
source's configuration must say it; any time but `revoked_at`, so a type of another kind has a time only if it brings
that one; how a leaf of the log is encoded, so what the leaf of a proof bundle says, the minting or the revocation,
cannot be told; and which bytes the signature of a checkpoint is over.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import quote

from msgspec.structs import replace

from receiver.documents import MAX_TYPE, Members, PersonKind, WrongShape, is_uuid, one_case
from receiver.events import Breach, Claim, Effect, Event, Extent, Item, Kind, Past, Via, format_time
from receiver.providers import (
    Bundle,
    Call,
    Denied,
    Ignored,
    Inclusion,
    Inquiry,
    Lookup,
    NotDone,
    Notice,
    Operation,
    Provider,
    Reading,
    Record,
    Signing,
    Unfit,
    occurred_in_future,
    read_plain_entry,
)
from receiver.strictjson import Json, digest


@dataclass(frozen=True, slots=True)
class _Type:
    """What is known of a type of event: the item it concerns, and what it says of it."""

    kind: Kind
    effect: Effect | None
    item: str
    timed: bool
    """`revoked_at` is part of its documented shape."""

    @property
    def id_member(self) -> str:
        return f"{self.item}_id"


# A compromised key is taken back like a revoked one: nothing signed with it can be relied on any more. That an
# attestation was superseded or has expired is neither a revocation nor the denial of one, so context has no effect.
_TYPES = {
    "receipt.revoked": _Type(Kind.REVOCATION, Effect.REVOKED, "receipt", timed=True),
    "attestation.revoked": _Type(Kind.REVOCATION, Effect.REVOKED, "attestation", timed=True),
    "key.revoked": _Type(Kind.REVOCATION, Effect.REVOKED, "key", timed=True),
    "key.compromised": _Type(Kind.REVOCATION, Effect.REVOKED, "key", timed=False),
    "attestation.superseded": _Type(Kind.CONTEXT, None, "attestation", timed=False),
    "attestation.expired": _Type(Kind.CONTEXT, None, "attestation", timed=False),
}

# A record is documented without the time. What else is in one is no part of what it says of a revocation: its proof is
# of the newest checkpoint, so it is another one whenever it is read.
_RECORDED = _Type(Kind.REVOCATION, Effect.REVOKED, "receipt", timed=False)
_RECORDED_MEMBERS = ("receipt_id", "receipt_type", "tenant_id", "status", "revoked_at")
_NOT_REVOKED = ("active", "superseded", "redacted")

_HASH = re.compile("(?:sha256:)?([0-9a-fA-F]{64})")
_MAX_HASHES = 63
"""A path from a leaf to its root is no longer: then it leads through more leaves than there can be."""

_BEHIND = timedelta(seconds=60)
"""How far the provider's clock may stand behind ours."""

_IGNORED = frozenset({"receipt.created", "attestation.created", "key.created", "key.rotated", "webhook.test"})
_IGNORED_UNDER = ("issuer.", "verification.", "team.", "billing.")

# The documented body of the test event, which has no member that names its type.
_TEST_DELIVERY: dict[str, Json] = {"status": "ok", "source": "test-delivery"}

_ANY_FORM = (PersonKind.EXTERNAL_ID, PersonKind.EMAIL, PersonKind.MOBILE)

MAX_REASON = 4096
"""Characters of the reason that a call may give."""


def _read(document: dict[str, Json]) -> Reading:
    try:
        if document == _TEST_DELIVERY:
            return Ignored("webhook.test")
        members = Members(document)
        name = members.text("event_type", MAX_TYPE)
        known = _TYPES.get(name)
        if known is not None:
            return _notice(members, name, known)
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    if name in _IGNORED or name.startswith(_IGNORED_UNDER):
        return Ignored(name)
    return Unfit("unknown_type", f"event_type is {name!a}, which is not documented")


def _notice(members: Members, name: str, known: _Type) -> Notice:
    item_id = members.text(known.id_member)
    receipt_type = members.optional_text("receipt_type")
    occurred_at = members.moment("revoked_at") if known.timed else members.optional_moment("revoked_at")
    takes_back = known.effect is not None
    event = Event(
        kind=known.kind,
        type=name,
        item=Item(known.item, item_id),
        effect=known.effect,
        extent=Extent.FULL if takes_back else Extent.UNKNOWN,
        account=members.optional_text("tenant_id"),
        operation=item_id if takes_back else None,  # an item is taken back once, so its id names the act
        occurred_at=occurred_at,
        occurred_from=None if occurred_at is None else "revoked_at",
        amount=None,
        quantity=None,
        reason=None,
        details={} if receipt_type is None else {"receipt_type": receipt_type},
    )
    # The type and the time hold no space, so no two notices share a key; the moment, not its spelling, is in it.
    moment = "-" if occurred_at is None else format_time(occurred_at)
    return Notice(event, f"{name} {moment} {one_case(item_id)}", digest(members.document), Via.WEBHOOK)


def _read_answer(call: Call) -> Notice | Unfit:
    """The answer, `{"receipt_id", "status": "revoked", "revoked_at"}`, says what the webhook says, but for the account.

    The request may bring a `reason`, which the webhook never tells.
    """
    try:
        answer = Members(call.answer)
        if answer.text("status") != "revoked":
            raise WrongShape(f"status is {answer.text('status')!a}; after a revocation it is 'revoked'")
        if one_case(answer.text("receipt_id")) != one_case(call.path.get("id", "")):
            raise WrongShape("receipt_id is not the one in the path")
        reason = Members(call.request, "request.").optional_text("reason", MAX_REASON)
        notice = _notice(answer, "receipt.revoked", _TYPES["receipt.revoked"])
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return replace(notice, event=replace(notice.event, reason=reason), via=Via.RELAY)


def _read_record(inquiry: Inquiry) -> Notice | NotDone | Unfit:
    """The receipt's record. That it was revoked is all it says: not by which call, nor why.

    A receipt is revoked once. So if it was before the call, then not by the call.
    """
    try:
        record = Members({name: inquiry.record[name] for name in _RECORDED_MEMBERS if name in inquiry.record})
        status = _status(record, inquiry.path.get("id", ""))
        if status == "revoked":
            notice = replace(_notice(record, "receipt.revoked", _RECORDED), via=Via.POLL)
            return notice if (by_another := _by_another(notice.event, inquiry)) is None else by_another
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return NotDone(f"the receipt is {status}, not revoked")


def _status(record: Members, receipt_id: str) -> str:
    """The state that the record of that receipt says it is in. Raises WrongShape."""
    if one_case(record.text("receipt_id")) != one_case(receipt_id):
        raise WrongShape("receipt_id is not the one asked for")
    status = record.text("status")
    if status != "revoked" and status not in _NOT_REVOKED:
        raise WrongShape(f"status is {status!a}; it must be one of revoked, {', '.join(_NOT_REVOKED)}")
    if status != "revoked" and record.has("revoked_at"):
        raise WrongShape(f"status is {status!a}, but revoked_at is there")
    return status


def _by_another(event: Event, inquiry: Inquiry) -> NotDone | None:
    """That the receipt was not revoked by the call, if that is known."""
    if one_case(event.item.id) in inquiry.known:
        return NotDone("the receipt was revoked before it, or by another call")
    if event.occurred_at is not None and event.occurred_at < inquiry.called_at - _BEHIND:
        return NotDone(f"the receipt was revoked before it, at {format_time(event.occurred_at)}")
    return None


def _receipt(claim: Claim, behind: str = "") -> str | None:
    """Where the receipt of a claim is shown; only receipts have a documented GET that shows their state."""
    return f"/v1/receipts/{quote(claim.item.id, safe='')}{behind}" if claim.item.type == "receipt" else None


def _recorded(claim: Claim, document: dict[str, Json]) -> Claim | Denied | Unfit:
    """What the receipt's record says of its revocation, which a receipt has but one of."""
    try:
        record = Members(document)
        status = _status(record, claim.item.id)
        if status != "revoked":
            return Denied(f"the receipt is {status}, not revoked")
        account, at = record.optional_text("tenant_id"), record.optional_moment("revoked_at")
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return replace(claim, account=account, effect=Effect.REVOKED, amount=None, quantity=None, at=at)


def _included(claim: Claim, document: dict[str, Json]) -> Inclusion | Unfit:
    """The proof in a receipt's bundle: that a leaf is in the log. What the leaf says is not told by it."""
    try:
        bundle = Members(document)
        if one_case(bundle.inside("receipt").text("receipt_id")) != one_case(claim.item.id):
            raise WrongShape("receipt.receipt_id is not the one asked for")
        log = bundle.inside("transparency_log")
        checkpoint = log.inside("checkpoint")
        if not isinstance(log.document.get("inclusion_proof"), list):  # a tree of one leaf has an empty one
            raise WrongShape(f"{log.path}inclusion_proof is not an array")
        hashes = log.items("inclusion_proof")
        if len(hashes) > _MAX_HASHES:
            raise WrongShape(f"{log.path}inclusion_proof has {len(hashes)} hashes; it may have at most {_MAX_HASHES}")
        return Inclusion(
            log=log.text("log_id"),
            index=log.integer("leaf_index"),
            leaf_hash=_hash(log.text("leaf_hash"), f"{log.path}leaf_hash"),
            hashes=tuple(_hash(one, f"{log.path}inclusion_proof[{place}]") for place, one in enumerate(hashes)),
            size=checkpoint.integer("tree_size"),
            root=_hash(checkpoint.text("root_hash"), f"{checkpoint.path}root_hash"),
        )
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))


def _hash(value: Json, path: str) -> bytes:
    """The 32 bytes of a hash in hex, the only spelling that is documented, with `sha256:` before it or without."""
    found = _HASH.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise WrongShape(f"{path} is not a SHA-256 hash in hex")
    return bytes.fromhex(found[1])


def _check(event: Event, received_at: datetime, replay_window: int, history: Sequence[Past]) -> tuple[Breach, ...]:
    breaches = occurred_in_future(event, received_at, replay_window)
    ids = {f"{event.item.type}_id": event.item.id, "tenant_id": event.account}
    if wrong := [name for name, id_ in ids.items() if id_ is not None and not is_uuid(id_)]:
        breaches.append(Breach("id_not_uuid", "; ".join(f"{name} is not a UUID" for name in wrong)))
    again = next((past for past in history if _is_another_revocation(past, event)), None)
    if again is not None:
        breaches.append(
            Breach(
                "revoked_again",
                f"{event.item.type} revoked already, by entry {again.log_index} of the log; a revocation is final",
            )
        )
    return tuple(breaches)


def _is_another_revocation(past: Past, event: Event) -> bool:
    """Whether both say that the same item was revoked, but at different times.

    Of the same type only: that a key was revoked after it was compromised is no contradiction. And where one has no
    time, there is nothing that differs.
    """
    return (
        event.kind is Kind.REVOCATION
        and past.type == event.type
        and past.occurred_at is not None
        and event.occurred_at is not None
        and past.occurred_at != event.occurred_at
    )


PROVIDER = Provider(
    name="truthlocks",
    title="Truthlocks",
    account_name="tenant_id",
    signing=Signing(
        "Truthlocks documents the header X-Truthlocks-Signature and HMAC-SHA256, "
        "but neither which bytes are signed nor how the signature is spelled"
    ),
    key_names_item=True,
    read=_read,
    check=_check,
    entry=partial(read_plain_entry, "truthlocks"),  # none of its log is documented
    record=Record(target=_receipt, read=_recorded),
    bundle=Bundle(
        target=lambda claim: _receipt(claim, "/proof-bundle"),
        read=_included,
        unchecked=("leaf_encoding", "checkpoint_signature"),
    ),
    operation=Operation(
        title="Revoke receipt",
        method="POST",
        path="/v1/receipts/{id}/revoke",
        successes=frozenset({200}),
        credentials=("x-api-key", "authorization"),
        item=lambda path, _request: Item("receipt", path["id"]) if "id" in path else None,
        read=_read_answer,
        idempotency_header="Idempotency-Key",
        lookup=Lookup(
            target=lambda path, _request: f"/v1/receipts/{quote(path['id'], safe='')}",
            read=_read_record,
        ),
    ),
    persons={"recipient": _ANY_FORM, "subject": _ANY_FORM},
)
