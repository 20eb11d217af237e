"""Voucherify: pending loyalty points canceled before they were activated, in its older and newer loyalty programs.

Documented (docs.voucherify.io, "Introduction to webhooks", "Project settings webhooks", "Distribution webhooks"): of
the older programs (`/v1`), whose pending points are `lopp_…`, a cancellation is delivered:

    {"id": "whs_…", "project_id": "proj_…", "created_at": "<RFC 3339>",
     "type": "voucher.loyalty_card.pending_points.canceled",
     "data": {"customer", "campaign", "voucher", "voucher_pending_points_balance", "order", "redemption",
              "pending_points": {"id": "lopp_…", "points": 23, "campaign_id", "voucher_id", "customer_id", …}},
     "source": {"id", "object", "target_url"},
     "event": {"id", "type", "created_at", "entity_id", "group_id", "event_source"}}

`id` names the sending, `event.id` what happened. A distribution sends the customer's twin of the event
(`customer.voucher.…`): there `type` is whatever its maker called it, and `event.type` says what it is. It can also be
set to send `data` alone, which names no type. Activation then shows by members of its own; an update has the members of
a cancellation, and all that tells the two apart is that a cancellation takes off as many points as there were. (An
update that takes off exactly as many as it leaves, if there is such a thing, looks the same.)

Documented ("Cancel pending points", beta): `POST /v2/…/pending-points/{bucketId}/cancel` answers with a card
transaction, which is `PENDING`, then maybe `PROCESSING`, and in the end `APPROVED` or `REJECTED`:

    {"message": "…", "status": "TRANSACTION_CREATED",
     "transaction": {"id": "lctx_…", "card_id", "program_id", "member_id", "card_definition_id", "card_type",
                     "type": "PENDING_POINTS_CANCELED", "status": "PENDING", "created_at": "<RFC 3339>",
                     "updated_at": null, "object": "card_transaction",
                     "details": {"reason", "rejection", "metadata", "points": {"total": 60, "date", "type"}}}}

The reference page shows this answer without either status; what it answers is a transaction just created, so it is
taken for `PENDING`. It does not say which bucket of points that was: only the path of the request does. So the bucket
is part of what is told, and the same transaction with another one is no duplicate. No webhook of a project's settings
or of a distribution tells of it, so the operator's own systems declare it (the plain envelope of `receiver.documents`,
of type `pending_points.canceled`). A workflow can be made to tell of it: the documentation's public source ("Workflows
webhooks") has the envelope above, with the transaction's type, the transaction in `data.transaction`, and its id in
`event.id` whatever its status. So a transaction is told by its status and id, in whichever way it came. Where nothing
names the bucket, the event is about the transaction itself: an item of another type, and one act all the same.

No GET shows what became of such a call. "List card transactions" names no bucket of pending points; "List pending
points buckets" has those that are still pending, and one that is not among them may have been activated as well.

A person is a customer, documented with `id`, `source_id` (the operator's own, which may be an email address), `email`
and `phone`, or a member; the cards are theirs. The v2 operation names member and card in its path alone.

Not documented: whether a sending that is tried again keeps its `id`, and what a test webhook holds.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial

from msgspec.structs import replace

from receiver.documents import MAX_TYPE, Envelope, Members, PersonKind, WrongShape
from receiver.events import Breach, Effect, Event, Extent, Item, Kind, Past, Via, format_time
from receiver.providers import (
    Call,
    Ignored,
    Notice,
    Operation,
    Provider,
    Reading,
    Signing,
    Unfit,
    occurred_in_future,
    read_plain_entry,
)
from receiver.strictjson import Json, Number, digest

_DECLARED = "pending_points.canceled"
_TRANSACTION = "PENDING_POINTS_CANCELED"

_CANCELED = "voucher.loyalty_card.pending_points.canceled"
_ACTIVATED = "voucher.loyalty_card.pending_points.activated"
_UPDATED = "voucher.loyalty_card.pending_points.updated"
_ADDED = "voucher.loyalty_card.pending_points.added"

# Each has a twin of the customer's. That points were updated is neither a cancellation nor the denial of one.
_EFFECTS = {
    f"{whose}{name}": effect
    for whose in ("", "customer.")
    for name, effect in ((_CANCELED, Effect.CANCELED), (_ACTIVATED, Effect.ACTIVATED), (_UPDATED, None))
}

_IGNORED = frozenset({_ADDED, f"customer.{_ADDED}", "manual_distribution_schedule"})
_IGNORED_UNDER = (
    "business_validation_rule.",
    "campaign.",
    "customer.",
    "publication.",
    "redemption.",
    "vl.",  # what a workflow tells of members, cards, programs …
    "voucher.",
)
_NEVER_IGNORED = ".pending_points."

# The other transactions a workflow can tell of. Added and activated points have another transaction than canceled ones,
# and none of the three names its bucket: they bear on nothing that could be told from them.
_IGNORED_TRANSACTIONS = frozenset(
    {
        "ADMIN_CREDIT",
        "ADMIN_DEBIT",
        "ADMIN_POINTS_EXPIRATION",
        "DOWNGRADED",
        "EVALUATION_REFRESHED",
        "EXPIRATION_CHANGED",
        "FULFILLMENT",
        "JOINED",
        "LEFT",
        "PAY_WITH_POINTS",
        "PENDING_POINTS_ACTIVATED",
        "PENDING_POINTS_ADDED",
        "POINTS_EARNED",
        "POINTS_EXPIRED",
        "POINTS_PURCHASED",
        "POINTS_PURCHASE_REVERSED",
        "POINTS_REFUNDED",
        "POINTS_RETURNED",
        "POINTS_SPENT_ON_ORDER",
        "POINTS_SPENT_ON_REWARD",
        "PURCHASE",
        "REFUND",
        "UPGRADED",
    }
)

_STATUSES = {
    "PENDING": Effect.CANCELING,
    "PROCESSING": Effect.CANCELING,
    "APPROVED": Effect.CANCELED,
    "REJECTED": Effect.REJECTED,
}

_CANCELLATIONS = (Effect.CANCELING, Effect.CANCELED)

_PERSONS = {
    "email": (PersonKind.EMAIL,),
    "phone": (PersonKind.MOBILE,),
    **dict.fromkeys(("customer.source_id", "referrer.source_id"), (PersonKind.EXTERNAL_ID, PersonKind.EMAIL)),
    **dict.fromkeys(("customer.id", "customer_id", "holder_id"), (PersonKind.CUSTOMER_ID,)),
    **dict.fromkeys(("referrer.id", "referrer_id", "member_id", "memberId"), (PersonKind.CUSTOMER_ID,)),
    **dict.fromkeys(("voucher.code", "card_id", "cardId"), (PersonKind.CARD_NUMBER,)),
}

MAX_REASON = 4096
"""Characters of the reason that a transaction may give."""

_REQUEST_AND_PATH = (
    ("program_id", "programId"),
    ("member_id", "memberId"),
    ("card_id", "cardId"),
    ("bucket_id", "bucketId"),
)
_NAMED_BY_BOTH = ("program_id", "member_id", "card_id")


def _read(document: dict[str, Json]) -> Reading:
    try:
        members = Members(document)
        name = _type(members)
        if name is None:
            return _bare(members)
        if name == _DECLARED:
            return _declared(document)
        if name == _TRANSACTION:
            return _told_by_workflow(members)
        if name in _EFFECTS:
            return _told_by_webhook(members, name)
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    if name in _IGNORED or name in _IGNORED_TRANSACTIONS:
        return Ignored(name)
    if name.startswith(_IGNORED_UNDER) and _NEVER_IGNORED not in name:
        return Ignored(name)
    return Unfit("unknown_type", f"the type is {name!a}, which is not documented")


def _type(members: Members) -> str | None:
    """What the delivery is of; None for one that names no type. Raises WrongShape."""
    source, event = members.document.get("source"), members.document.get("event")
    if isinstance(source, dict) and source.get("object") == "distribution" and isinstance(event, dict):
        told = Members(event, "event.").optional_text("type", MAX_TYPE)
        if told is not None:
            return told
    return members.optional_text("type", MAX_TYPE)


# Pending points of the older programs


def _told_by_webhook(envelope: Members, name: str) -> Notice:
    happened = envelope.optional_inside("event") or Members({}, "event.")
    event_id = happened.optional_text("id")
    key = f"event {event_id or envelope.text('id')}"
    occurred_at, occurred_from = happened.optional_moment("created_at"), "event.created_at"
    if occurred_at is None:
        occurred_at, occurred_from = envelope.optional_moment("created_at"), "created_at"
    data = envelope.inside("data")
    event = _pending_points(data, name, happened.kept("group_id"))
    event = replace(
        event,
        account=envelope.optional_text("project_id"),
        occurred_at=occurred_at,
        occurred_from=None if occurred_at is None else occurred_from,
        details=event.details if event_id is None else {**event.details, "event_id": event_id},
    )
    # `id` and `created_at` are of the sending, which may be made anew for each attempt; `source` is the webhook's, of
    # which several may tell us of one event; a distribution's `type` is but a name. What remains is what must be equal.
    return Notice(event, key, digest({"type": name, "data": data.document}), Via.WEBHOOK)


def _bare(data: Members) -> Notice:
    """A webhook's `data` alone, where it can be taken for a cancellation: as many points went as there were."""
    points, balance = data.document.get("pending_points"), data.document.get("voucher_pending_points_balance")
    there = points.get("points") if isinstance(points, dict) else None
    added = balance.get("points") if isinstance(balance, dict) else None
    all_taken_off = type(there) is int and type(added) is int and added == -there < 0
    if not all_taken_off or data.has("balance") or data.has("transaction"):
        raise WrongShape(
            "type is missing: the data alone names none, and its points do not make a cancellation of it; "
            "have the whole envelope sent"
        )
    event = _pending_points(data, _CANCELED, {"form": "bare"})
    return Notice(event, f"bare {event.item.id}", digest(data.document), Via.WEBHOOK)


def _pending_points(data: Members, name: str, more: dict[str, Json]) -> Event:
    """The event that `data` tells of, as far as it does; `more` is details. Raises WrongShape."""
    points = data.inside("pending_points")
    points_id = points.text("id")
    balance = data.optional_inside("voucher_pending_points_balance") or Members({})
    effect = _EFFECTS[name]
    canceled = effect is Effect.CANCELED
    number = points.integer("points") if canceled else points.optional_integer("points")
    return Event(
        kind=Kind.REVOCATION if canceled else Kind.CONTEXT,
        type=name,
        item=Item("pending_points", points_id),
        effect=effect,
        extent=Extent.FULL if canceled else Extent.UNKNOWN,
        account=None,
        operation=points_id if canceled else None,  # they are canceled once, so their id names the act
        occurred_at=None,
        occurred_from=None,
        amount=None,
        quantity=None if number is None else str(number),
        reason=None,
        details={
            **points.kept("campaign_id", "voucher_id", "customer_id", "order_id", "activates_at"),
            **balance.kept("operation_type"),
            **{f"balance_{member}": value for member, value in balance.kept("points", "total").items()},
            **more,
        },
    )


# Card transactions of the newer programs


def _declared(document: dict[str, Json]) -> Notice:
    envelope = Envelope.open(document)
    event = _cancellation(envelope.data, _DECLARED, envelope.request)
    if envelope.declared_at is not None:
        event = replace(event, details={**event.details, "declared_at": format_time(envelope.declared_at)})
    return Notice(event, _transaction_key(event), _content(document, event), Via.DECLARED)


def _told_by_workflow(envelope: Members) -> Notice:
    data = envelope.inside("data")
    event = replace(_cancellation(data, _TRANSACTION, None), account=envelope.optional_text("project_id"))
    return Notice(event, _transaction_key(event), digest({"type": _TRANSACTION, "data": data.document}), Via.WEBHOOK)


def _read_answer(call: Call) -> Notice | Unfit:
    """The answer has the transaction, and the path says which bucket of points it cancels.

    Of another program, member or card than the path's, the transaction cannot be that of the path's bucket.
    """
    asked: dict[str, Json] = {name: call.path[there] for name, there in _REQUEST_AND_PATH if there in call.path}
    try:
        event = _cancellation(Members(call.answer), _DECLARED, Members(asked, "path."))
        if contradictions := _contradictions(event):
            raise WrongShape("; ".join(contradictions))
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    content = _content({"type": _DECLARED, "data": call.answer}, event)
    return Notice(event, _transaction_key(event), content, Via.RELAY)


def _cancellation(answer: Members, name: str, request: Members | None) -> Event:
    """The event that a transaction, or an answer with one in it, tells of. Raises WrongShape."""
    transaction = answer.optional_inside("transaction") or answer
    transaction_id = transaction.text("id")
    kind = transaction.optional_text("type")
    if kind not in (None, _TRANSACTION):
        raise WrongShape(f"{transaction.path}type is {kind!a}; of a cancellation it is {_TRANSACTION}")
    status = _status(answer, transaction)
    effect = _STATUSES[status]
    details = transaction.optional_inside("details") or Members({})
    points = details.optional_inside("points") or Members({})
    told = _texts(transaction, *_NAMED_BY_BOTH)
    asked = {} if request is None else _texts(request, "bucket_id", *_NAMED_BY_BOTH)
    bucket_id = asked.pop("bucket_id", None)
    moment = "created_at" if effect.under_way else "updated_at"
    occurred_at = transaction.optional_moment(moment)
    return Event(
        kind=Kind.REVOCATION,
        type=name,
        item=Item("card_transaction", transaction_id) if bucket_id is None else Item("pending_points", bucket_id),
        effect=effect,
        extent=Extent.UNKNOWN if effect is Effect.REJECTED else Extent.FULL,
        account=None,
        operation=transaction_id,
        occurred_at=occurred_at,
        occurred_from=None if occurred_at is None else f"transaction.{moment}",
        amount=None,
        quantity=_number(points, "total"),
        reason=details.optional_text("reason", MAX_REASON),
        details={
            "status": status,
            **told,
            **{f"request_{member}": value for member, value in asked.items() if value != told.get(member)},
            **transaction.kept("card_definition_id", "card_type"),
            **points.kept("expiration_date", "expiration_type"),
            **{f"points_{member}": value for member, value in points.kept("date", "type").items()},
            **details.kept("rejection", "result", "reward_id", "bucket"),
        },
    )


def _status(answer: Members, transaction: Members) -> str:
    """The transaction's. The answer is documented without one too: its transaction was just created then."""
    if not transaction.has("status") and answer is not transaction:
        told = answer.document.get("status")
        if told == "TRANSACTION_CREATED" or (told is None and answer.has("message")):
            return "PENDING"
    status = transaction.text("status")
    if status not in _STATUSES:
        raise WrongShape(f"{transaction.path}status is {status!a}; it must be one of {', '.join(_STATUSES)}")
    return status


def _transaction_key(event: Event) -> str:
    """A status holds no space, so no two notices share a key: a transaction is told of once in each status."""
    return f"transaction {event.details['status']} {event.operation}"


def _content(envelope: dict[str, Json], event: Event) -> bytes:
    """The digest (32 bytes) of a plain envelope's content, and of the bucket that the request names, if it does.

    The bucket decides the item: a transaction told again with another one must not pass for the same notice.
    """
    content = {name: value for name, value in envelope.items() if name not in ("created_at", "request")}
    if event.item.type == "pending_points":
        content["request"] = {"bucket_id": event.item.id}
    return digest(content)


def _texts(members: Members, *names: str) -> dict[str, str]:
    """Those of the members that are there. Raises WrongShape for one that is no string."""
    return {name: value for name in names if (value := members.optional_text(name)) is not None}


def _number(members: Members, name: str) -> str | None:
    """A number as it was written, None where it is absent. Raises WrongShape for what is not a number."""
    value = members.document.get(name)
    if type(value) is int:
        return str(value)
    if value is None or isinstance(value, Number):
        return None if value is None else value.literal
    raise WrongShape(f"{members.path}{name} is not a number")


# The rules


def _check(event: Event, received_at: datetime, replay_window: int, history: Sequence[Past]) -> tuple[Breach, ...]:
    breaches = occurred_in_future(event, received_at, replay_window)
    if contradictions := _contradictions(event):
        breaches.append(Breach("request_contradicts_answer", "; ".join(contradictions)))
    if event.kind is Kind.REVOCATION and event.quantity is not None and Decimal(event.quantity) <= 0:
        breaches.append(
            Breach("quantity_not_positive", f"{event.quantity} points are canceled; it must be more than 0")
        )
    other = next((past for past in history if _has_another_quantity(past, event)), None)
    if other is not None:
        breaches.append(
            Breach(
                "quantity_differs",
                f"{event.quantity} points are canceled, but {other.quantity} by the same cancellation as entry "
                f"{other.log_index} of the log tells it",
            )
        )
    exclusive = next((past for past in history if {past.effect, event.effect} == _EXCLUSIVE), None)
    if exclusive is not None:
        breaches.append(_canceled_and_activated(event, received_at, exclusive))
    again = next((past for past in history if _is_another_cancellation(past, event)), None)
    if again is not None:
        breaches.append(
            Breach(
                "canceled_again",
                f"the points are canceled by another operation than that of entry {again.log_index} of the log; they "
                "can be canceled once",
            )
        )
    outcome = next((past for past in history if _has_the_other_outcome(past, event)), None)
    if outcome is not None:
        breaches.append(
            Breach(
                "outcome_contradicted",
                f"the transaction is told to be {event.effect} here and {outcome.effect} by entry "
                f"{outcome.log_index} of the log; it has one outcome",
            )
        )
    return tuple(breaches)


_EXCLUSIVE = {Effect.ACTIVATED, Effect.CANCELED}
_OUTCOMES = {Effect.CANCELED, Effect.REJECTED}


def _canceled_and_activated(event: Event, received_at: datetime, past: Past) -> Breach:
    """The breach of these two, one of which cancels the points and one activates them: by which was received later."""
    entry = f"entry {past.log_index} of the log"
    if past.received_at > received_at:
        later, said = past.effect, f"the points were {past.effect} later, by {entry}"
    else:
        later, said = event.effect, f"the points were {past.effect} already, by {entry}"
    if later is Effect.ACTIVATED:
        return Breach("activated_after_cancellation", said)
    return Breach("canceled_after_activation", f"{said}; only pending ones can be canceled")


def _is_another_cancellation(past: Past, event: Event) -> bool:
    """Whether two operations canceled the same points. Where one is not known, they are not told apart."""
    return (
        past.effect is event.effect is Effect.CANCELED
        and None not in (past.operation, event.operation)
        and past.operation != event.operation
    )


def _has_the_other_outcome(past: Past, event: Event) -> bool:
    """Whether one transaction is told to have both outcomes."""
    return (
        {past.effect, event.effect} == _OUTCOMES and event.operation is not None and past.operation == event.operation
    )


def _contradictions(event: Event) -> list[str]:
    """Where the request and the transaction name different things: a clause each."""
    return [
        f"the request's {name} is not the transaction's"  # the ids themselves are in the event, which can be erased
        for name in _NAMED_BY_BOTH
        if name in event.details and f"request_{name}" in event.details
    ]


def _has_another_quantity(past: Past, event: Event) -> bool:
    """Whether both tell of the same cancellation, but of different points. Where one has no number, nothing differs."""
    return (
        event.effect in _CANCELLATIONS
        and past.effect in _CANCELLATIONS
        and past.operation == event.operation
        and past.quantity is not None
        and event.quantity is not None
        and Decimal(past.quantity) != Decimal(event.quantity)
    )


PROVIDER = Provider(
    name="voucherify",
    title="Voucherify",
    account_name="project_id",
    signing=Signing(
        "Voucherify documents the header x-voucherify-signature: the HMAC-SHA256 of the body without the whitespace "
        "outside of its strings, in hex, without a timestamp",
        scheme="hmac",
        options={"header": "x-voucherify-signature", "strip_whitespace": True},
    ),
    key_names_item=False,
    read=_read,
    check=_check,
    entry=partial(read_plain_entry, "voucherify"),  # none of its log is documented
    one_act=frozenset({"card_transaction", "pending_points"}),
    operation=Operation(
        title="Cancel pending points",
        method="POST",
        path="/v2/loyalties/programs/{programId}/members/{memberId}/cards/{cardId}/pending-points/{bucketId}/cancel",
        successes=frozenset({200}),
        credentials=("authorization", "x-app-id", "x-app-token"),
        item=lambda path, _request: Item("pending_points", path["bucketId"]) if "bucketId" in path else None,
        read=_read_answer,
    ),
    persons=_PERSONS,
)
