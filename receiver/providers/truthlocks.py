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

Not documented: over which bytes, and in which encoding, the HMAC-SHA256 in `X-Truthlocks-Signature` is made, so a
source's configuration must say it; and any time but `revoked_at`, so a type of another kind has a time only if it
brings that one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from msgspec.structs import replace

from receiver.documents import MAX_TYPE, Members, WrongShape, is_uuid, one_case, plain_entry
from receiver.events import Breach, Claim, Effect, Event, Extent, Item, Kind, Past, Via, format_time
from receiver.providers import (
    Call,
    Ignored,
    Inquiry,
    Lookup,
    NotDone,
    Notice,
    Operation,
    Provider,
    Reading,
    Signing,
    Unfit,
    occurred_in_future,
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

_BEHIND = timedelta(seconds=60)
"""How far the provider's clock may stand behind ours."""

_IGNORED = frozenset({"receipt.created", "attestation.created", "key.created", "key.rotated", "webhook.test"})
_IGNORED_UNDER = ("issuer.", "verification.", "team.", "billing.")

# The documented body of the test event, which has no member that names its type.
_TEST_DELIVERY: dict[str, Json] = {"status": "ok", "source": "test-delivery"}

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
        if one_case(record.text("receipt_id")) != one_case(inquiry.path.get("id", "")):
            raise WrongShape("receipt_id is not the one asked for")
        status = record.text("status")
        if status == "revoked":
            notice = replace(_notice(record, "receipt.revoked", _RECORDED), via=Via.POLL)
            return notice if (by_another := _by_another(notice.event, inquiry)) is None else by_another
        if status not in _NOT_REVOKED:
            raise WrongShape(f"status is {status!a}; it must be one of revoked, {', '.join(_NOT_REVOKED)}")
        if record.has("revoked_at"):
            raise WrongShape(f"status is {status!a}, but revoked_at is there")
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return NotDone(f"the receipt is {status}, not revoked")


def _by_another(event: Event, inquiry: Inquiry) -> NotDone | None:
    """That the receipt was not revoked by the call, if that is known."""
    if one_case(event.item.id) in inquiry.known:
        return NotDone("the receipt was revoked before it, or by another call")
    if event.occurred_at is not None and event.occurred_at < inquiry.called_at - _BEHIND:
        return NotDone(f"the receipt was revoked before it, at {format_time(event.occurred_at)}")
    return None


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


def _entry(data: bytes) -> Claim | Unfit | None:
    """No entry of its log is documented: the plain entry (`receiver.documents`) is what is read."""
    try:
        return plain_entry("truthlocks", data)
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))


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
    entry=_entry,
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
)
