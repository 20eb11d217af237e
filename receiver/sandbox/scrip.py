"""Scrip as the issuing side: redemptions that are reversed, as a whole or in parts, and the books that are kept of it.

Documented (docs.scrip.dev), and done here to the letter:

- "Reverse a redemption", "Get redemption" and "List redemption reversals", with the members of their answers. A
  reversal is 201, and 200 where the same was asked for before; neither `amount` nor `quantity` is all that is left.
- A redemption is raw, or of a reward, which is AMOUNT_BASED or UNIT_BASED. Units are credited at their `unit_cost`, and
  taken off the reward's `redeemed_count`; below its `max_total`, an OUT_OF_STOCK reward is ACTIVE again.
- An asset is of SIMPLE or LOT mode; lots are consumed first in first out, and given back last in first out. An amount
  with more fraction digits than the asset's `scale` is 400 `invalid_scale`.
- Every movement is a journal entry of postings, debits below and credits above zero, that sum to zero.
- Idempotency keys belong to a program. What is compared is what was meant: `500` and `500.00` are the same.
- Errors are `{"code", "message"}`, with the codes `unauthorized`, `idempotency_conflict` and `invalid_scale`, and 422
  for what a balance does not allow. The key may be in `X-API-Key` or be a bearer token.

Not documented, and so a choice of this sandbox: the other codes and statuses (400 `invalid_request`, 404 `not_found`,
405 `method_not_allowed`, 413 `too_large`, 422 `unprocessable`, 500 `internal_error`); that a member which does not fit
the redemption's kind is as if it were not there, once it is of its type, and but for being part of what an idempotency
key stands for; what a `redemption.reversed` carries besides its envelope (here the reversal, as it was answered); and
its signature (here Standard Webhooks). No lot here ever expires.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from typing import Any, Self, TypeAlias

from litestar import Controller, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from receiver.amounts import format_amount, parse_amount, total
from receiver.documents import Members, WrongShape, is_uuid
from receiver.events import Effect, Item, Via, format_time, new_id
from receiver.sandbox.issuers import Fault, Issuer, Scene
from receiver.sandbox.ledger import Act, Books, Data, Entry, Ledger, Remembered, Step
from receiver.sandbox.signing import standard_webhooks
from receiver.strictjson import NotJson, parse

NAME = "scrip"

API_KEY = "scrip_sandbox"
"""Public, and the same in every sandbox: it keeps nothing secret, and shows that a call without it is refused."""

ORGANIZATION = "3d6f0a4e-5b1c-4f6e-9a0d-2f7e8c9b1a55"
"""Whose redemptions these are: the account in the log and the `organization_id` of what is delivered."""
PROGRAM = "550e8400-e29b-41d4-a716-446655440101"
PARTICIPANT = "550e8400-e29b-41d4-a716-446655440102"

POINTS = "550e8400-e29b-41d4-a716-446655440103"
"""An asset of SIMPLE mode."""
MILES = "550e8400-e29b-41d4-a716-446655440104"
"""An asset of LOT mode."""
GIFT_CARD = "550e8400-e29b-41d4-a716-446655440105"
"""A reward of POINTS, UNIT_BASED and OUT_OF_STOCK."""
DONATION = "550e8400-e29b-41d4-a716-446655440106"
"""A reward of POINTS, AMOUNT_BASED."""

RAW = "550e8400-e29b-41d4-a716-446655440001"
"""A raw redemption of 1000.00 POINTS."""
_OF_AMOUNT = "550e8400-e29b-41d4-a716-446655440013"
"""A redemption of 250.00 POINTS for a DONATION."""

SCALE = 18
"""Fraction digits of both assets: the most that an asset may have."""
MAX_REASON = 500
DEFAULT_LIMIT, MAX_LIMIT = 50, 200

_ASSET, _LOT, _REWARD, _REDEMPTION, _REVERSAL = "asset", "lot", "reward", "redemption", "reversal"
_JOURNAL_ENTRY = "journal_entry"
_CONSUMED = "consumed"
"""Of a redemption: the lots that it consumed, in order, each with how much of it was not given back yet."""

_Part: TypeAlias = tuple[str | None, Decimal]
"""What is moved, and the lot it belongs to, if it does to one."""


class Refused(Exception):  # noqa: N818 (it is what a call is)
    """A call that is answered with an error: its HTTP status, its code, and a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class _Invalid(Refused):
    """A request that is not as documented."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "invalid_request", message)


class _Unprocessable(Refused):
    """A request that the redemption's state does not allow."""

    def __init__(self, message: str) -> None:
        super().__init__(422, "unprocessable", message)


def _refusal(_: Request[Any, Any, Any], refused: Refused) -> Response[Data]:
    return Response(_error(refused), status_code=refused.status)


def _error(wrong: Refused | Fault) -> Data:
    return {"code": wrong.code, "message": wrong.message}


_HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Data]]] = {Refused: _refusal}


async def _authenticated(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: the API key is in one of the two headers."""
    scheme, _space, token = connection.headers.get("authorization", "").partition(" ")
    if connection.headers.get("x-api-key") != API_KEY and (scheme.lower(), token) != ("bearer", API_KEY):
        raise Refused(401, "unauthorized", "The API key is missing, or is none of this organization's")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request to reverse asks for. None: not said."""

    reason: str
    amount: str | None = None
    quantity: int | None = None
    key: str | None = None

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read a request's body. Raises NotJson or WrongShape, which say what is wrong."""
        members = Members(parse(body))
        return cls(
            reason=members.text("reason", MAX_REASON),
            amount=members.optional_text("amount"),
            quantity=members.optional_integer("quantity"),
            key=members.optional_text("idempotency_key"),
        )

    def payload(self, redemption_id: str) -> str:
        """What tells it from other requests, but for the key: trailing zeros of the amount mean nothing."""
        amount = None if self.amount is None else parse_amount(self.amount)
        meant = self.amount if amount is None else _without_trailing_zeros(amount)
        return json.dumps([redemption_id, self.reason, meant, self.quantity])


class RedemptionsController(Controller):
    """The documented operations."""

    path = "/v1/redemptions"
    tags = (NAME,)
    guards = (_authenticated,)
    exception_handlers = _HANDLERS

    @post("/{redemption_id:str}/reverse", status_code=201, operation_id="reverseRedemption", summary="Reverse")
    async def reverse(self, request: Request[Any, Any, Any], redemption_id: FromPath[str]) -> Response[Data]:
        """The reversal, made now (201) or when it was asked for first (200)."""
        try:
            asked = Asked.read(await request.body())
        except (NotJson, WrongShape) as error:
            raise _Invalid(str(error)) from error
        status, reversal = await asyncio.to_thread(reverse, request.app.state.ledger, redemption_id, asked)
        return Response(reversal, status_code=status)

    @get("/{redemption_id:str}", operation_id="getRedemption", summary="Get redemption")
    async def show(self, request: Request[Any, Any, Any], redemption_id: FromPath[str]) -> Data:
        """The redemption, with how much of it was reversed."""
        return await asyncio.to_thread(_show, request.app.state.ledger, redemption_id)

    @get("/{redemption_id:str}/reversals", operation_id="listReversals", summary="List redemption reversals")
    async def reversals(self, request: Request[Any, Any, Any], redemption_id: FromPath[str]) -> Data:
        """Its reversals, oldest first."""
        limit, after = request.query_params.get("limit", str(DEFAULT_LIMIT)), request.query_params.get("cursor")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) > 0):
            raise _Invalid("limit is not an integer of at least 1")
        most = min(int(limit), MAX_LIMIT)
        return await asyncio.to_thread(_list, request.app.state.ledger, redemption_id, most, after)


def reverse(ledger: Ledger, redemption_id: str, asked: Asked) -> tuple[int, Data]:
    """Reverse what is asked for, and give the status and the reversal to answer with. Raises Refused."""
    with ledger.act(NAME) as act:
        redemption = _find(act, redemption_id)
        key = None if asked.key is None else f"{redemption['program_id']} {asked.key}"
        payload = asked.payload(redemption["id"])
        if key is not None and (first := act.recall(key)) is not None:
            if first.request != payload:
                raise Refused(409, "idempotency_conflict", "This idempotency_key was used with another payload")
            return 200, first.answer
        asset = _known(act, _ASSET, redemption["asset_id"])
        reward = None if redemption["reward_id"] is None else _known(act, _REWARD, redemption["reward_id"])
        units = None
        if reward is not None and reward["redemption_type"] == "UNIT_BASED":
            units = _units(redemption, asked)
            amount = total(repeat(Decimal(redemption["unit_cost"]), units))
            act.put(_REWARD, reward["id"], _restocked(reward, units))
        else:
            amount = _amount(redemption, asset["scale"], asked)
        parts = _given_back(act, redemption["id"], amount) if asset["inventory_mode"] == "LOT" else [(None, amount)]
        reversal: Data = {
            "amount": format_amount(amount),
            "created_at": format_time(act.now),
            "id": new_id(),
            "journal_entry_id": _post(act, "REVERSAL", asset, ("SYSTEM_REDEMPTION", "PARTICIPANT"), parts),
            "quantity": units,
            "reason": asked.reason,
            "redemption_id": redemption["id"],
        }
        act.put(_REVERSAL, reversal["id"], reversal)
        act.put(_REDEMPTION, redemption["id"], _lessened(redemption, reversal))
        if key is not None:
            act.remember(key, Remembered(payload, 201, reversal))
        act.tell(
            Entry(
                account=ORGANIZATION,
                amount=reversal["amount"],
                effect=Effect.REVERSED,
                event="REDEMPTION_REVERSE",
                item_type="redemption",
                item_id=redemption["id"],
                operation=reversal["id"],
                quantity=None if units is None else str(units),
            )
        )
        act.notify(_notice(reversal))
    return 201, reversal


def _units(redemption: Data, asked: Asked) -> int:
    """How many units to reverse. Raises Refused."""
    left = redemption["quantity"] - redemption["reversed_quantity"]
    if left == 0:
        raise _Unprocessable("The redemption is fully reversed")
    units = left if asked.quantity is None else asked.quantity
    if units < 1:
        raise _Invalid("quantity is not above 0")
    if units > left:
        raise _Unprocessable(f"quantity is {units}, and no more than {left} can still be reversed")
    return units


def _amount(redemption: Data, scale: int, asked: Asked) -> Decimal:
    """How much to reverse. Raises Refused."""
    left = _less(Decimal(redemption["amount"]), Decimal(redemption["reversed_amount"]))
    if left == 0:
        raise _Unprocessable("The redemption is fully reversed")
    if asked.amount is None:
        return left
    amount = parse_amount(asked.amount)
    if amount is None:
        raise _Invalid("amount is no plain decimal such as 500.00")
    if amount <= 0:
        raise _Invalid("amount is not above 0")
    if len(asked.amount.partition(".")[2]) > scale:
        raise Refused(400, "invalid_scale", f"amount has more fraction digits than the {scale} of its asset")
    if amount > left:
        raise _Unprocessable(f"amount is above the {format_amount(left)} that can still be reversed")
    return amount


def _restocked(reward: Data, units: int) -> Data:
    """The reward with so many units less redeemed."""
    count = reward["redeemed_count"] - units
    again = reward["status"] == "OUT_OF_STOCK" and count < reward["max_total"]
    return {**reward, "redeemed_count": count, "status": "ACTIVE" if again else reward["status"]}


def _lessened(redemption: Data, reversal: Data) -> Data:
    """The redemption after one more reversal."""
    reversed_amount = total((Decimal(redemption["reversed_amount"]), Decimal(reversal["amount"])))
    fully = reversed_amount == Decimal(redemption["amount"])
    changed = {
        "reversed_amount": format_amount(reversed_amount),
        "status": "FULLY_REVERSED" if fully else "PARTIALLY_REVERSED",
        "updated_at": reversal["created_at"],
    }
    if reversal["quantity"] is not None:
        changed["reversed_quantity"] = redemption["reversed_quantity"] + reversal["quantity"]
    return {**redemption, **changed}


def _given_back(act: Act, redemption_id: str, amount: Decimal) -> list[_Part]:
    """Give that much back to the lots that the redemption consumed, the last of them first."""
    consumed = _known(act, _CONSUMED, redemption_id)["lots"]
    parts: list[_Part] = []
    for lot in reversed(consumed):
        part = min(Decimal(lot["amount"]), amount)
        if part > 0:
            amount = _less(amount, part)
            lot["amount"] = format_amount(_less(Decimal(lot["amount"]), part))
            kept = _known(act, _LOT, lot["id"])
            remaining = format_amount(total((Decimal(kept["remaining"]), part)))
            act.put(_LOT, lot["id"], {**kept, "remaining": remaining, "status": "AVAILABLE"})
            parts.append((lot["id"], part))
    act.put(_CONSUMED, redemption_id, {"lots": consumed})
    return parts


def _post(act: Act, action: str, asset: Data, entities: tuple[str, str], parts: Iterable[_Part]) -> str:
    """Enter into the journal that the parts went from the first entity to the second; gives the entry's id."""
    sender, taker = entities
    entry_id = new_id()
    postings = [
        {
            "amount": format_amount(amount),
            "asset_id": asset["id"],
            "bucket": "AVAILABLE",
            "entity_type": entity,
            "id": new_id(),
            "lot_id": lot,
            "participant_id": PARTICIPANT if entity == "PARTICIPANT" else None,
        }
        for lot, part in parts
        for entity, amount in ((sender, part.copy_negate()), (taker, part))
    ]
    entry = {"action_type": action, "created_at": format_time(act.now), "id": entry_id, "postings": postings}
    act.put(_JOURNAL_ENTRY, entry_id, {**entry, "program_id": PROGRAM})
    return entry_id


def _notice(reversal: Data) -> bytes:
    """The documented envelope around a reversal."""
    envelope = {
        "id": new_id(),
        "type": "redemption.reversed",
        "api_version": "2026-03-01",
        "created_at": reversal["created_at"],
        "organization_id": ORGANIZATION,
        "data": reversal,
    }
    return json.dumps(envelope).encode()


def _show(ledger: Ledger, redemption_id: str) -> Data:
    with ledger.read(NAME) as books:
        return _find(books, redemption_id)


def _list(ledger: Ledger, redemption_id: str, most: int, after: str | None) -> Data:
    """At most so many of its reversals, those after the one of that id."""
    with ledger.read(NAME) as books:
        found = _find(books, redemption_id)["id"]
        reversals = [one for one in books.all(_REVERSAL) if one["redemption_id"] == found]
    ids = [one["id"] for one in reversals]
    if after is not None and after not in ids:
        raise _Invalid("cursor is none that was answered")
    start = 0 if after is None else ids.index(after) + 1
    page = reversals[start : start + most]
    more = start + most < len(reversals)
    return {"data": page, "pagination": {"has_more": more, "next_cursor": page[-1]["id"] if more else None}}


def _find(books: Books, redemption_id: str) -> Data:
    # A UUID may be written in either case (RFC 9562 section 4); what is none is not looked for.
    redemption = books.get(_REDEMPTION, redemption_id.lower()) if is_uuid(redemption_id) else None
    if redemption is None:
        raise Refused(404, "not_found", "There is no redemption of this id")
    return redemption


def _known(books: Books, kind: str, thing_id: str) -> Data:
    """What something else in the books names, so that it is there."""
    thing = books.get(kind, thing_id)
    if thing is None:
        raise LookupError(f"the books name the {kind} {thing_id}, and have none")
    return thing


def _less(whole: Decimal, part: Decimal) -> Decimal:
    # Decimal's own minus, and its sign, round to 28 digits.
    return total((whole, part.copy_negate()))


def _without_trailing_zeros(amount: Decimal) -> str:
    text = format_amount(amount)
    return text.rstrip("0").rstrip(".") if "." in text else text


def redeem(
    act: Act, redemption_id: str, asset_id: str, credited: Iterable[str], reward_id: str | None = None, units: int = 0
) -> None:
    """Credit the participant with these amounts of an asset, and have all of it redeemed at once.

    In LOT mode each credit is a lot. `units` are of a UNIT_BASED reward, whose `unit_cost` times them is the sum; its
    `redeemed_count` is taken to be right already. Nobody is told.
    """
    asset = _known(act, _ASSET, asset_id)
    reward = None if reward_id is None else _known(act, _REWARD, reward_id)
    now = format_time(act.now)
    parts: list[_Part] = [(new_id() if asset["inventory_mode"] == "LOT" else None, Decimal(one)) for one in credited]
    lots = [{"amount": format_amount(part), "id": lot} for lot, part in parts if lot is not None]
    amount = total(part for _, part in parts)
    nothing = format_amount(_less(amount, amount))
    for lot in lots:
        spent = {"asset_id": asset_id, "created_at": now, "remaining": nothing, "status": "CONSUMED"}
        act.put(_LOT, str(lot["id"]), {**lot, **spent})
    act.put(_CONSUMED, redemption_id, {"lots": lots})
    _post(act, "CREDIT", asset, ("SYSTEM_ISSUANCE", "PARTICIPANT"), parts)
    redemption: Data = {
        "amount": format_amount(amount),
        "asset_id": asset_id,
        "created_at": now,
        "description": "Cash out" if reward is None else f"Redeemed: {reward['name']}",
        "id": redemption_id,
        "journal_entry_id": _post(act, "REDEMPTION", asset, ("PARTICIPANT", "SYSTEM_REDEMPTION"), parts),
        "participant_id": PARTICIPANT,
        "program_id": PROGRAM,
        "quantity": units or None,
        "reversed_amount": nothing,
        "reversed_quantity": 0 if units else None,
        "reward_id": reward_id,
        "status": "COMPLETED",
        "unit_cost": None if reward is None else reward["unit_cost"],
        "updated_at": now,
    }
    act.put(_REDEMPTION, redemption_id, redemption)


def _put_fixtures(act: Act) -> None:
    for asset_id, symbol, mode in ((POINTS, "PTS", "SIMPLE"), (MILES, "MILES", "LOT")):
        act.put(_ASSET, asset_id, {"id": asset_id, "symbol": symbol, "inventory_mode": mode, "scale": SCALE})
    gift_card: Data = {
        "id": GIFT_CARD,
        "max_total": 10,
        "name": "Gift Card",
        "redeemed_count": 10,
        "redemption_type": "UNIT_BASED",
        "status": "OUT_OF_STOCK",
        "unit_cost": "500.00",
    }
    without_limit: Data = {"max_total": None, "redeemed_count": 0, "status": "ACTIVE"}
    donation: Data = {"id": DONATION, "name": "Donation", "redemption_type": "AMOUNT_BASED", "unit_cost": "1.00"}
    act.put(_REWARD, GIFT_CARD, gift_card)
    act.put(_REWARD, DONATION, {**donation, **without_limit})
    redeem(act, RAW, POINTS, ["1000.00"])
    redeem(act, "550e8400-e29b-41d4-a716-446655440011", POINTS, ["1500.00"], GIFT_CARD, units=3)
    redeem(act, "550e8400-e29b-41d4-a716-446655440012", MILES, ["100.00", "200.00", "300.00"])
    redeem(act, _OF_AMOUNT, POINTS, ["250.00"], DONATION)


def _go_on(_act: Act, _step: Step) -> None:
    """A reversal is final when it is answered: nothing here is ever put off."""


def _scene(title: str, asked: Data, told: Sequence[tuple[Via, Effect]], state: str, redemption: str = RAW) -> Scene:
    return Scene(
        title=title,
        item=Item("redemption", redemption),
        path=f"{RedemptionsController.path}/{redemption}/reverse",
        headers={"X-API-Key": API_KEY, "Content-Type": "application/json"},
        members={"reason": "Customer refund request", **asked},
        status=201,
        told=told,
        state=state,
    )


_SCENES = (
    _scene(
        "reverse 500.00 of 1000.00",
        {"amount": "500.00", "idempotency_key": "reverse-12345", "quantity": 1},
        ((Via.WEBHOOK, Effect.REVERSED),),
        "partly",
    ),
    _scene(
        "reverse the rest",
        {"idempotency_key": "reverse-12346"},
        ((Via.RELAY, Effect.REVERSED), (Via.WEBHOOK, Effect.REVERSED)),
        "taken_back",
    ),
)

ISSUER = Issuer(
    name=NAME,
    routes=(RedemptionsController,),
    base=RedemptionsController.path,
    error=_error,
    put_fixtures=_put_fixtures,
    go_on=_go_on,
    sign=standard_webhooks,
    sends=True,
    account=ORGANIZATION,
    receiver_options=("--scheme", "standard-webhooks"),
    scenes=_SCENES,
    untold=_scene("reverse all of 250.00", {}, (), "no_record", _OF_AMOUNT),
)
