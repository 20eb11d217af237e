"""Scrip: redemptions reversed, as a whole or in parts.

Documented (docs.scrip.dev, "Reverse a redemption"): `POST /v1/redemptions/{id}/reverse` gives back an `amount` of a
redemption, or a `quantity` of its units, or, with neither, all of it. It may be done several times; what is reversed in
all is never above the redemption. The answer, 201, or 200 where the same was asked for before, is the reversal:

    {"id": "<uuid>", "redemption_id": "<uuid>", "amount": "500.00", "quantity": 1, "reason": "Customer refund request",
     "journal_entry_id": "<uuid>", "created_at": "<RFC 3339>"}

Documented ("Webhooks"): the types of events, and the envelope of each, the same for every endpoint and when resent:

    {"id": "<uuid>", "type": "redemption.reversed", "api_version": "2026-03-01", "created_at": "<RFC 3339>",
     "organization_id": "<uuid>", "data": {…}}

The `data` of a `redemption.reversed` is read as the reversal above, that of a `redemption.completed` as the redemption
(documented as the answer of "Get redemption"): its `amount` and `quantity` are how much there is to reverse. A reversal
does not tell that. So only where the redemption was told of before is it known whether a reversal is full.

Documented ("List redemption reversals"): `GET /v1/redemptions/{id}/reversals` answers with a redemption's reversals,
oldest first and at most 200 at once, as `{"data": [<reversal>, …], "pagination": {"has_more", "next_cursor"}}`. None of
their documented members names the call that made a reversal, or that call's `idempotency_key`.

Amounts are decimals in strings, of an asset with at most 18 fraction digits; those of two assets are never compared.

A person is a participant: the redemption has its `participant_id`. Documented ("Participants"), and so found wherever
else they come: `external_id`, which is the operator's own, `email` and `phone`; and of the other side of a transfer
`recipient_id` and `recipient_external_id`. A reversal names nobody.

Not documented: the header of the signature, over which bytes it is made, and how it is written.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TypeAlias
from urllib.parse import quote

from msgspec.structs import replace

from receiver.amounts import MAX_LENGTH, format_amount, parse_amount, total
from receiver.documents import MAX_TYPE, Members, PersonKind, WrongShape, is_uuid, one_case
from receiver.events import Breach, Claim, Effect, Event, Extent, Item, Kind, Past, Via
from receiver.providers import (
    Call,
    Denied,
    Ignored,
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
from receiver.strictjson import Json, Number, digest

_REVERSED = "redemption.reversed"
_COMPLETED = "redemption.completed"
_IGNORED = frozenset(
    {
        "balance.credited",
        "balance.debited",
        "balance.expired",
        "balance.held",
        "balance.released",
        "event.completed",
        "event.failed",
        "participant.created",
        "participant.tier_changed",
        "program.burned",
        "program.funded",
        "transfer.completed",
    }
)

_ASSET = "asset_id"

# What the redemption and its reversal are documented with. A redemption's `description` is not among them: free text.
_KEPT = (
    "journal_entry_id",
    "program_id",
    "participant_id",
    "reward_id",
    "status",
    "unit_cost",
    "reversed_amount",
    "reversed_quantity",
)

# The envelope's id is called so where Scrip lists its deliveries.
_KEPT_OF_ENVELOPE = {"api_version": "api_version", "id": "webhook_event_id"}

_PERSONS = {
    "email": (PersonKind.EMAIL,),
    "external_id": (PersonKind.EXTERNAL_ID,),
    "participant_id": (PersonKind.CUSTOMER_ID,),
    "phone": (PersonKind.MOBILE,),
    "recipient_external_id": (PersonKind.EXTERNAL_ID,),
    "recipient_id": (PersonKind.CUSTOMER_ID,),
}

MAX_REASON = 4096
"""Characters of a reason that is kept. Beyond the documented ones it breaks a rule, but only beyond these the shape."""

_IDEMPOTENCY_KEY = "idempotency_key"
_PAGE = 200
_BEHIND = timedelta(seconds=5)
"""How far the provider's clock may stand behind ours."""

_DOCUMENTED_REASON = 500
_FRACTION_DIGITS = 18
_DIGITS = 30

_Told: TypeAlias = Event | Past


def _read(document: dict[str, Json]) -> Reading:
    try:
        members = Members(document)
        name = members.text("type", MAX_TYPE)
        if name == _REVERSED:
            return _reversal(members.inside("data"), members)
        if name == _COMPLETED:
            return _redemption(members.inside("data"), members)
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return Ignored(name) if name in _IGNORED else Unfit("unknown_type", f"type is {name!a}, which is not documented")


def _reversal(data: Members, envelope: Members | None) -> Notice:
    """The notice of a reversal; `envelope` is None where that came as an answer. Raises WrongShape."""
    reversal_id = data.text("id")
    occurred_at = data.optional_moment("created_at")
    event = Event(
        kind=Kind.REVOCATION,
        type=_REVERSED,
        item=Item("redemption", data.text("redemption_id")),
        effect=Effect.REVERSED,
        extent=Extent.UNKNOWN,
        account=_account(envelope),
        operation=reversal_id,
        occurred_at=occurred_at,
        occurred_from=None if occurred_at is None else f"{data.path}created_at",
        amount=_string(data, "amount", MAX_LENGTH),
        quantity=_quantity(data),
        reason=_string(data, "reason", MAX_REASON),
        details=_details(data, envelope),
    )
    # The type holds no space, so no two notices share a key; an attempt differs from another in the envelope at most.
    return Notice(event, f"{_REVERSED} {one_case(reversal_id)}", digest(data.document), Via.WEBHOOK)


def _redemption(data: Members, envelope: Members) -> Notice:
    item_id = data.optional_text("redemption_id") or data.optional_text("id")
    if item_id is None:
        raise WrongShape(f"neither {data.path}redemption_id nor {data.path}id is there")
    event = Event(
        kind=Kind.CONTEXT,
        type=_COMPLETED,
        item=Item("redemption", item_id),
        effect=None,
        extent=Extent.UNKNOWN,
        account=_account(envelope),
        operation=None,
        occurred_at=None,  # `created_at` is when it was redeemed: nothing was taken back then
        occurred_from=None,
        amount=_string(data, "amount", MAX_LENGTH),
        quantity=_quantity(data),
        reason=None,
        details={**_details(data, envelope), **data.kept("created_at")},
    )
    return Notice(event, f"{_COMPLETED} {one_case(item_id)}", digest(data.document), Via.WEBHOOK)


def _account(envelope: Members | None) -> str | None:
    return None if envelope is None else envelope.optional_text("organization_id")


def _string(data: Members, name: str, limit: int) -> str | None:
    """The member as it is written, empty too: whether it is any good is for the rules to say. None if it is null."""
    value = data.document.get(name)
    if value is None:
        return None
    if type(value) is not str:
        raise WrongShape(f"{data.path}{name} is not a string")
    if len(value) > limit:
        raise WrongShape(f"{data.path}{name} has {len(value)} characters; it may have at most {limit}")
    return value


def _quantity(data: Members) -> str | None:
    units = data.optional_integer("quantity")
    return None if units is None else str(units)


def _details(data: Members, envelope: Members | None) -> dict[str, Json]:
    details = data.kept(*_KEPT)
    if (asset := data.optional_text(_ASSET)) is not None:
        details[_ASSET] = asset
    if envelope is not None:
        details |= {_KEPT_OF_ENVELOPE[name]: value for name, value in envelope.kept(*_KEPT_OF_ENVELOPE).items()}
    return details


def _read_answer(call: Call) -> Notice | Unfit:
    """The answer is the reversal. That it is of all there was is said by the request, which then names no part."""
    try:
        answer, request = Members(call.answer), Members(call.request, "request.")
        if one_case(answer.text("redemption_id")) != one_case(call.path.get("id", "")):
            raise WrongShape("redemption_id is not the one in the path")
        notice = _reversal(answer, None)
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    # A request must have a reason, so one without it is not known, and says nothing by what it leaves out.
    whole = request.has("reason") and not request.has("amount") and not request.has("quantity")
    extent = Extent.FULL if whole else Extent.UNKNOWN
    return replace(notice, event=replace(notice.event, extent=extent), via=Via.RELAY)


def _read_record(inquiry: Inquiry) -> Notice | NotDone | Unfit:
    """The redemption's reversals, of which at most one is the call's; its notice is the delivery's.

    So its extent is not the request's to tell: a reversal that only looks like the call's may be of a part.
    """
    try:
        reversals = _reversals(Members(inquiry.record), inquiry.path.get("id", ""))
        ours = [reversal for reversal in reversals if _may_be_ours(reversal, inquiry)]
        if len(ours) > 1:
            raise WrongShape(f"{len(ours)} of the reversals may be this call's; which of them is cannot be told")
        notices = [replace(_reversal(reversal, None), via=Via.POLL) for reversal in ours]
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return notices[0] if notices else NotDone(f"none of the redemption's reversals ({len(reversals)}) is this call's")


def _reversals(record: Members, redemption_id: str) -> list[Members]:
    """All reversals of that redemption. Raises WrongShape, also where the record does not hold all of them."""
    if _has_more(record):
        raise WrongShape("pagination.has_more is true: which of so many reversals is this call's cannot be told")
    return _page(record, redemption_id)


def _has_more(record: Members) -> bool:
    """Whether a list is only the first page of it. Raises WrongShape."""
    return record.inside("pagination").boolean("has_more")


def _page(record: Members, redemption_id: str) -> list[Members]:
    """The reversals in a list of that redemption's. Raises WrongShape."""
    if not record.has("data"):
        raise WrongShape("data is missing")
    reversals: list[Members] = []
    for index, item in enumerate(record.items("data")):
        if not isinstance(item, dict):
            raise WrongShape(f"data[{index}] is not an object")
        reversal = Members(item, f"data[{index}].")
        if one_case(reversal.text("redemption_id")) != one_case(redemption_id):
            raise WrongShape(f"{reversal.path}redemption_id is not the one asked for")
        reversals.append(reversal)
    return reversals


def _list(redemption_id: str) -> str:
    """Where the reversals of a redemption are listed, as many as are listed at once."""
    return f"/v1/redemptions/{quote(redemption_id, safe='')}/reversals?limit={_PAGE}"


def _listed(claim: Claim) -> str | None:
    """Where the reversal of a claim is shown, which its id tells from the others of the redemption."""
    return _list(claim.item.id) if claim.item.type == "redemption" and claim.operation is not None else None


def _recorded(claim: Claim, document: dict[str, Json]) -> Claim | Denied | Unfit:
    """The reversal of that id; where the list is complete and does not hold it, it was never made."""
    try:
        record = Members(document)
        page = _page(record, claim.item.id)
        ours = [one for one in page if one_case(one.text("id")) == one_case(claim.operation or "")]
        if len(ours) > 1:
            raise WrongShape(f"{len(ours)} of the reversals have the id {claim.operation!a}")
        if not ours and (_has_more(record) or len(page) >= _PAGE):
            raise WrongShape("the reversal is not on the first page of the list, which says nothing of the others")
        shown = _reversal(ours[0], None).event if ours else None
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    if shown is None:
        return Denied(f"none of the redemption's reversals ({len(page)}) has that id")
    amount, quantity, at = shown.amount, shown.quantity, shown.occurred_at
    return replace(claim, account=None, effect=Effect.REVERSED, amount=amount, quantity=quantity, at=at)


def _may_be_ours(reversal: Members, inquiry: Inquiry) -> bool:
    """Whether it can be the call's: none that is known to be another act's can.

    Told by the idempotency key, should it be shown; else by when, why and how much was reversed. Raises WrongShape.
    """
    if one_case(reversal.text("id")) in inquiry.known:
        return False
    told, asked = reversal.document, inquiry.request
    keys = (told.get(_IDEMPOTENCY_KEY), asked.get(_IDEMPOTENCY_KEY))
    if None not in keys:
        return keys[0] == keys[1]
    if reversal.moment("created_at") < inquiry.called_at - _BEHIND or told.get("reason") != asked.get("reason"):
        return False
    # One of units has a quantity, and an amount that was asked for counts nothing; else it is the other way round.
    measure = "quantity" if told.get("quantity") else "amount"
    parts = (_decimal(reversal, measure), _decimal(Members(asked, "request."), measure))
    return None in parts or parts[0] == parts[1]


def _decimal(members: Members, name: str) -> Decimal | None:
    """The number that the member is, in a string or not; None where it is absent or null. Raises WrongShape."""
    value = members.document.get(name)
    if value is None:
        return None
    text = value.literal if isinstance(value, Number) else str(value) if type(value) is int else value
    number = parse_amount(text) if isinstance(text, str) else None
    if number is None:
        raise WrongShape(f"{members.path}{name} is no plain decimal such as 500.00")
    return number


def _complete(event: Event, history: Sequence[Past]) -> Event:
    """The event with how much of the redemption it reverses, if that was told before: by amount, else by quantity."""
    if event.effect is None or event.extent is not Extent.UNKNOWN:
        return event
    redemption = _told_redemption(event, history)
    if redemption is None:
        return event
    for part, whole in ((event.amount, redemption.amount), (event.quantity, redemption.quantity)):
        taken_back, redeemed = _number(part), _number(whole)
        if taken_back is not None and redeemed is not None:
            return replace(event, extent=Extent.FULL if taken_back >= redeemed else Extent.PARTIAL)
    return event


def _told_redemption(event: Event, history: Sequence[Past]) -> _Told | None:
    """What tells how much was redeemed, in what may be the same asset: the event itself, or the newest before it."""
    if event.effect is None:
        return event
    told = (past for past in reversed(history) if past.kind is Kind.CONTEXT and past.effect is None)
    return next((past for past in told if _may_be_one(_asset(past), _asset(event))), None)


def _asset(told: _Told) -> str | None:
    asset = told.details.get(_ASSET)
    return asset if isinstance(asset, str) else None


def _may_be_one(asset: str | None, other: str | None) -> bool:
    """Whether both can be the same asset: one that is not named is not another."""
    return asset is None or other is None or asset == other


def _number(text: str | None) -> Decimal | None:
    return None if text is None else parse_amount(text)


def _check(event: Event, received_at: datetime, replay_window: int, history: Sequence[Past]) -> tuple[Breach, ...]:
    breaches = occurred_in_future(event, received_at, replay_window)
    ids = {"redemption": event.item.id, "reversal": event.operation}
    if wrong := [name for name, id_ in ids.items() if id_ is not None and not is_uuid(id_)]:
        breaches.append(Breach("id_not_uuid", "; ".join(f"the {name}'s id is not a UUID" for name in wrong)))
    if event.effect is not None:
        length = len(event.reason or "")
        if not 0 < length <= _DOCUMENTED_REASON:
            breaches.append(
                Breach("reason_length", f"the reason has {length} characters; it has to have 1 to {_DOCUMENTED_REASON}")
            )
    breaches += _amount_breaches(event)
    if excess := _excess(event, history):
        breaches.append(Breach("reversed_above_redemption", "; ".join(excess)))
    return tuple(breaches)


def _amount_breaches(event: Event) -> list[Breach]:
    breaches: list[Breach] = []
    if event.amount is not None:
        amount = parse_amount(event.amount)
        if amount is None:
            breaches.append(Breach("amount_malformed", "amount is no plain decimal such as 500.00"))
        else:
            if amount <= 0:
                breaches.append(Breach("amount_not_positive", f"amount is {event.amount}; it has to be above 0"))
            whole, _, fraction = event.amount.lstrip("-").partition(".")
            if len(fraction) > _FRACTION_DIGITS or len(whole) + len(fraction) > _DIGITS:
                digits = f"{len(whole)} digits before the point and {len(fraction)} behind it"
                breaches.append(
                    Breach("amount_too_precise", f"amount has {digits}; {_FRACTION_DIGITS} of {_DIGITS} may be behind")
                )
    quantity = _number(event.quantity)
    if quantity is not None and quantity <= 0:
        breaches.append(Breach("quantity_not_positive", f"quantity is {event.quantity}; it has to be above 0"))
    return breaches


def _excess(event: Event, history: Sequence[Past]) -> list[str]:
    """By what more was reversed than redeemed, a clause each, as far as the same asset and measure can tell.

    A redemption that is told of only after its reversals is held against them then.
    """
    redemption = _told_redemption(event, history)
    if redemption is None:
        return []
    asset = _asset(event) or _asset(redemption)
    acts = [
        told
        for told in (event, *history)
        if told.effect is not None and told.effect.takes_back and _may_be_one(_asset(told), asset)
    ]
    if len({_asset(act) for act in acts} - {None}) > 1:
        return []
    measures = (
        ("amount", redemption.amount, [(act.operation, act.amount) for act in acts]),
        ("quantity", redemption.quantity, [(act.operation, act.quantity) for act in acts]),
    )
    clauses: list[str] = []
    for name, whole, parts in measures:
        redeemed, taken_back = _number(whole), _sum(parts)
        if redeemed is not None and taken_back > redeemed:
            clauses.append(f"the {name} reversed in all is {format_amount(taken_back)}, above the {whole} redeemed")
    return clauses


def _sum(parts: Iterable[tuple[str | None, str | None]]) -> Decimal:
    """The sum of what the operations reversed, each once: the first of its parts that is a number.

    What is below 0 reverses nothing, and makes no room for what does.
    """
    counted: dict[str | None, Decimal] = {}
    for operation, part in parts:
        number = _number(part)
        if number is not None:
            counted.setdefault(operation, max(number, Decimal(0)))
    return total(counted.values())


PROVIDER = Provider(
    name="scrip",
    title="Scrip",
    account_name="organization_id",
    signing=Signing(
        "Scrip documents that deliveries are signed, and a secret of whsec_ and 64 hex digits; "
        "but neither the header, nor which bytes are signed, nor how the signature is written"
    ),
    key_names_item=False,
    read=_read,
    check=_check,
    entry=partial(read_plain_entry, "scrip"),  # none of its log is documented
    record=Record(target=_listed, read=_recorded),
    operation=Operation(
        title="Reverse redemption",
        method="POST",
        path="/v1/redemptions/{id}/reverse",
        successes=frozenset({200, 201}),
        credentials=("x-api-key", "authorization"),
        item=lambda path, _request: Item("redemption", path["id"]) if "id" in path else None,
        read=_read_answer,
        idempotency_member=_IDEMPOTENCY_KEY,
        lookup=Lookup(
            target=lambda path, _request: _list(path["id"]),
            read=_read_record,
        ),
    ),
    complete=_complete,
    unit=_ASSET,
    persons=_PERSONS,
)
