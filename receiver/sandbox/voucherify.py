"""Voucherify as the issuing side: pending points of a loyalty card that are canceled before they are activated.

Documented ("Cancel pending points", beta): `POST /v2/…/pending-points/{bucketId}/cancel`, with three headers for
credentials and no body (one that is sent is not looked at), answers with a card transaction that is `PENDING`:

    {"transaction": {"id": "lctx_…", "type": "PENDING_POINTS_CANCELED", "status": "PENDING", …,
                     "details": {"reason": "Manual points cancellation", "rejection": null,
                                 "points": {"total": 60, "date": "<when they were to be activated>", …}, …}},
     "status": "TRANSACTION_CREATED", "message": "Points cancellation transaction created"}

The answer has every member that the reference page shows and every one of the documented example, which are not the
same; what there is nothing to say of is null or empty. A moment later the transaction is `APPROVED`, or, if the bucket
is one of those whose transactions are, `REJECTED`.

Errors are documented as `{"code", "key", "message", "details", "request_id"}`, of which `code` is the status: 404
`not_found`, with the `resource_id` and `resource_type` of the program, member, card or bucket that is not there, and
423 for what is locked. Not documented, and so a choice of this sandbox:

- The keys of 423, but for `invalid_pending_points_bucket_status`, and of all others but 404; and which comes first if
  several apply.
- What becomes of the bucket meanwhile. Here it is `CANCELED` from the beginning, so that a second call is refused, and
  `PENDING` again once the transaction is rejected.
- What `result` and `bucket` of the details hold. Here they are empty.

No webhook of this operation is documented, so what is told is the plain envelope, once for each of the two states: of
the first with the answer, of the second with the transaction as it is then, both with the ids of the path. It is signed
as Voucherify documents for its webhooks.
"""

import asyncio
import hmac
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from receiver.events import Effect, Item, Via
from receiver.sandbox.issuers import Fault, Issuer, Scene
from receiver.sandbox.ledger import Act, Data, Entry, Ledger, Step

NAME = "voucherify"

TOKEN = "sandbox-token"  # noqa: S105 (public: the sandbox keeps nothing that is anybody's)
APP_ID = "sandbox-app"
APP_TOKEN = "sandbox-app-token"  # noqa: S105 (as the other)

PROJECT_ID = "proj_sandbox"
"""The project whose points these are: the account in the log. Neither answers nor what is delivered name it."""

SIGNATURE_HEADER = "x-voucherify-signature"
DELAY = 0.3  # seconds until a transaction comes to its end

_PROGRAM, _MEMBER, _CARD, _BUCKET = "program", "member", "card", "card_pending_points_bucket"
_KINDS = (_PROGRAM, _MEMBER, _CARD, _BUCKET)  # from the outside in, as in the path, and as errors call them
_TRANSACTION = "card_transaction"

# So far away that a sandbox may be kept for years, and its points are still to be activated.
_ACTIVATED_ON, _EXPIRES_ON = "2099-08-16", "2100-08-16"
_LONG_AGO = "2026-08-16"

_STRING_OR_WHITESPACE = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')


@dataclass(frozen=True, slots=True)
class Place:
    """Where buckets of points are: on a card of a member of a program. In the path these are the first three ids."""

    program: str
    member: str
    card: str


HERE = Place("lprg_128f58429f4c4bf7b2", "lmbr_128f962dbc8c4ba5dc", "lcrd_128f962dbd8c4ba5df")
"""The card of the documented example, on which points can be canceled."""
NO_PENDING_POINTS = Place(HERE.program, HERE.member, "lcrd_128f962dbd8c4ba5e0")
INACTIVE_MEMBER = Place(HERE.program, "lmbr_128f962dbc8c4ba5e1", "lcrd_128f962dbd8c4ba5e1")
INACTIVE_PROGRAM = Place("lprg_128f58429f4c4bf7e2", "lmbr_128f962dbc8c4ba5e2", "lcrd_128f962dbd8c4ba5e2")
EXPIRED_PROGRAM = Place("lprg_128f58429f4c4bf7e3", "lmbr_128f962dbc8c4ba5e3", "lcrd_128f962dbd8c4ba5e3")

PENDING = "lcppb_12db4ebb0483a14091"
ACTIVATED = "lcppb_12db4ebb0483a14092"
REJECTED = "lcppb_12db4ebb0483a14093"
"""Pending as well, but the transaction that is to cancel it is rejected."""
OVERDUE = "lcppb_12db4ebb0483a14094"
"""Pending, though the day on which it was to be activated is past."""
LOCKED = {
    NO_PENDING_POINTS: "lcppb_12db4ebb0483a14095",
    INACTIVE_MEMBER: "lcppb_12db4ebb0483a14096",
    INACTIVE_PROGRAM: "lcppb_12db4ebb0483a14097",
    EXPIRED_PROGRAM: "lcppb_12db4ebb0483a14098",
}
"""Pending buckets that cannot be canceled for where they are."""


class Refused(Exception):  # noqa: N818 (it is what a call is)
    """A call that is answered with an error: its HTTP status, and the members of the error."""

    def __init__(self, status: int, key: str, message: str, details: str, **resource: str) -> None:
        super().__init__(details)
        self.status = status
        self.error: Data = {
            "code": status,
            "key": key,
            "message": message,
            "details": details,
            **resource,
            "request_id": f"v-{secrets.token_hex(9)}",
        }


def _refusal(_: Request[Any, Any, Any], refused: Refused) -> Response[Data]:
    return Response(refused.error, status_code=refused.status)


_HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Data]]] = {Refused: _refusal}


async def _permitted(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: all three headers are there and right."""
    headers = connection.headers
    scheme, _space, token = headers.get("authorization", "").partition(" ")
    if (
        (scheme.lower(), token) != ("bearer", TOKEN)
        or headers.get("x-app-id") != APP_ID
        or headers.get("x-app-token") != APP_TOKEN
    ):
        details = "Authorization (Bearer), X-App-Id and X-App-Token are needed, and one of them is missing or wrong"
        raise Refused(401, "unauthorized", "Unauthorized", details)


class PendingPoints(Controller):
    """The buckets of pending points on a member's card."""

    path = "/v2/loyalties/programs"
    tags = (NAME,)
    guards = (_permitted,)
    exception_handlers = _HANDLERS

    @post(
        "/{program_id:str}/members/{member_id:str}/cards/{card_id:str}/pending-points/{bucket_id:str}/cancel",
        operation_id="cancelCardPendingPointsBucket",
        summary="Cancel pending points",
        status_code=200,
    )
    async def cancel(
        self,
        request: Request[Any, Any, Any],
        program_id: FromPath[str],
        member_id: FromPath[str],
        card_id: FromPath[str],
        bucket_id: FromPath[str],
    ) -> Data:
        """The transaction that is to cancel the points, `PENDING` from now on."""
        ledger: Ledger = request.app.state.ledger
        return await asyncio.to_thread(_cancel, ledger, Place(program_id, member_id, card_id), bucket_id)


def _cancel(ledger: Ledger, place: Place, bucket_id: str) -> Data:
    with ledger.act(NAME) as act:
        program, member, card, bucket = _find(act, place, bucket_id)
        _refuse_locked(program, member, card, bucket, act.now.date().isoformat())
        transaction = _created(place, card, bucket, act.now)
        act.put(_BUCKET, bucket_id, {**bucket, "status": "CANCELED"})
        act.put(_TRANSACTION, transaction["id"], {"bucket_id": bucket_id, "transaction": transaction})
        act.later(_TRANSACTION, transaction["id"], DELAY)
        answer = {
            "transaction": transaction,
            "status": "TRANSACTION_CREATED",
            "message": "Points cancellation transaction created",
        }
        _tell(act, bucket_id, transaction, Effect.CANCELING, answer)
    return answer


def _find(act: Act, place: Place, bucket_id: str) -> list[Data]:
    """Program, member, card and bucket. Raises Refused for the first one that is not there, or not within the last."""
    found: list[Data] = []
    outer = None
    for kind, thing_id in zip(_KINDS, (place.program, place.member, place.card, bucket_id), strict=True):
        thing = act.get(kind, thing_id)
        if thing is None or thing["within"] != outer:
            details = f"Cannot find {kind} with id {thing_id}"
            raise Refused(404, "not_found", "Resource not found", details, resource_id=thing_id, resource_type=kind)
        found.append(thing)
        outer = thing_id
    return found


def _refuse_locked(program: Data, member: Data, card: Data, bucket: Data, today: str) -> None:
    """Raise Refused where a cancellation is not allowed; `today` is in UTC, and dates are text that sorts."""
    if program["status"] != "ACTIVE":
        raise Refused(423, "program_not_active", "Program not active", "Program must be in ACTIVE status")
    if program["last_day"] < today:
        raise Refused(423, "program_expired", "Program expired", f"Program was valid until {program['last_day']}")
    if member["status"] != "ACTIVE":
        raise Refused(423, "member_not_active", "Member not active", "Member must be in ACTIVE status")
    if not card["pending_points"]:
        details = "Card definition must have pending points enabled"
        raise Refused(423, "pending_points_disabled", "Pending points disabled", details)
    if bucket["status"] != "PENDING":
        details = "Pending points bucket must be in PENDING status in order to be canceled"
        message = "Invalid pending points bucket status"
        raise Refused(423, "invalid_pending_points_bucket_status", message, details)
    if bucket["date"] <= today:
        details = f"Activation date must be in the future, and is {bucket['date']}"
        raise Refused(423, "invalid_pending_points_activation_date", "Invalid activation date", details)


def _created(place: Place, card: Data, bucket: Data, at: datetime) -> Data:
    """A new transaction that is to cancel the bucket's points."""
    return {
        "id": f"lctx_{secrets.token_hex(9)}",
        "card_id": place.card,
        "program_id": place.program,
        "member_id": place.member,
        "card_definition_id": card["card_definition_id"],
        "card_type": card["card_type"],
        "type": "PENDING_POINTS_CANCELED",
        "details": {
            "reason": "Manual points cancellation",
            "rejection": None,
            "metadata": {},
            "points": {
                "total": bucket["points"],
                "date": bucket["date"],
                "type": "PERIOD_BASED",
                "expiration_date": _EXPIRES_ON,
                "expiration_type": "ROLLING_EXPIRATION",
            },
            "result": {},
            "reward_id": None,
            "bucket": {},
        },
        "status": "PENDING",
        "created_at": _time(at),
        "updated_at": None,
        "object": "card_transaction",
    }


def _go_on(act: Act, step: Step) -> None:
    """Bring a transaction to its end. One that has come there stays as it is."""
    kept = act.get(_TRANSACTION, step.thing)
    if kept is None or kept["transaction"]["status"] != "PENDING":
        return
    bucket_id: str = kept["bucket_id"]
    bucket = act.get(_BUCKET, bucket_id)
    transaction: Data = {**kept["transaction"], "status": "APPROVED", "updated_at": _time(act.now)}
    effect = Effect.CANCELED
    if bucket is not None and bucket["rejected"]:
        rejection = {"reason": "Rejected by the sandbox", "details": "Transactions of this bucket are always rejected"}
        transaction |= {"status": "REJECTED", "details": {**transaction["details"], "rejection": rejection}}
        effect = Effect.REJECTED
        act.put(_BUCKET, bucket_id, {**bucket, "status": "PENDING"})
    act.put(_TRANSACTION, step.thing, {**kept, "transaction": transaction})
    _tell(act, bucket_id, transaction, effect, transaction)


def _tell(act: Act, bucket_id: str, transaction: Data, effect: Effect, data: Data) -> None:
    """The entry of what became of a transaction, and the notice of it, with that `data`."""
    act.tell(
        Entry(
            account=PROJECT_ID,
            amount=None,
            effect=effect,
            event="PENDING_POINTS_CANCEL",
            item_type="pending_points",
            item_id=bucket_id,
            operation=transaction["id"],
            quantity=str(transaction["details"]["points"]["total"]),
        )
    )
    notice = {
        "type": "pending_points.canceled",
        "created_at": _time(act.now),
        "data": data,
        "request": {
            "program_id": transaction["program_id"],
            "member_id": transaction["member_id"],
            "card_id": transaction["card_id"],
            "bucket_id": bucket_id,
        },
    }
    act.notify(json.dumps(notice).encode())


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def put_bucket(
    act: Act,
    bucket_id: str,
    card_id: str,
    *,
    status: str = "PENDING",
    date: str = _ACTIVATED_ON,
    rejected: bool = False,
) -> None:
    """Put a bucket of 60 points on a card, to be activated on that day; `rejected` if it shall not be canceled."""
    act.put(_BUCKET, bucket_id, {"within": card_id, "status": status, "points": 60, "date": date, "rejected": rejected})


def _put_fixtures(act: Act) -> None:
    """A card with a bucket in each state, and for each of the other reasons to refuse a card with a pending one."""
    _put_place(act, HERE)
    _put_place(act, NO_PENDING_POINTS, pending_points=False)
    _put_place(act, INACTIVE_MEMBER, member="INACTIVE")
    _put_place(act, INACTIVE_PROGRAM, program="INACTIVE")
    _put_place(act, EXPIRED_PROGRAM, last_day=_LONG_AGO)

    put_bucket(act, PENDING, HERE.card)
    put_bucket(act, ACTIVATED, HERE.card, status="ACTIVATED")
    put_bucket(act, REJECTED, HERE.card, rejected=True)
    put_bucket(act, OVERDUE, HERE.card, date=_LONG_AGO)
    for place, bucket_id in LOCKED.items():
        put_bucket(act, bucket_id, place.card)


def _put_place(
    act: Act,
    place: Place,
    *,
    program: str = "ACTIVE",
    last_day: str = _EXPIRES_ON,
    member: str = "ACTIVE",
    pending_points: bool = True,
) -> None:
    """Put a card there, with the program and the member that it is of; those that are there are put anew."""
    act.put(_PROGRAM, place.program, {"within": None, "status": program, "last_day": last_day})
    act.put(_MEMBER, place.member, {"within": place.program, "status": member})
    act.put(
        _CARD,
        place.card,
        {
            "within": place.member,
            "pending_points": pending_points,
            "card_definition_id": "lcdef_128f495f720c4bec8c",
            "card_type": "INDIVIDUAL",
        },
    )


def _sign(body: bytes, secret: str, _id: str, _at: int) -> dict[str, str]:
    """As documented: the HMAC-SHA256, in hex, of the body without whitespace outside its strings. No id, no time."""
    signed = _STRING_OR_WHITESPACE.sub(rb"\1", body)
    return {"content-type": "application/json", SIGNATURE_HEADER: hmac.digest(secret.encode(), signed, "sha256").hex()}


def _error(fault: Fault) -> Data:
    return Refused(fault.status, fault.code, HTTPStatus(fault.status).phrase, fault.message).error


def _scene(title: str, bucket_id: str, outcome: Effect, state: str) -> Scene:
    """Cancel a bucket on the card of the documented example; the answer says `canceling`, the end is told later."""
    return Scene(
        title=title,
        item=Item("pending_points", bucket_id),
        path=f"{PendingPoints.path}/{HERE.program}/members/{HERE.member}/cards/{HERE.card}/pending-points/{bucket_id}/cancel",
        headers={"Authorization": f"Bearer {TOKEN}", "X-App-Id": APP_ID, "X-App-Token": APP_TOKEN},
        status=200,
        told=((Via.RELAY, Effect.CANCELING), (Via.DECLARED, Effect.CANCELING), (Via.DECLARED, outcome)),
        state=state,
    )


ISSUER = Issuer(
    name=NAME,
    routes=(PendingPoints,),
    base=PendingPoints.path,
    error=_error,
    put_fixtures=_put_fixtures,
    go_on=_go_on,
    sign=_sign,
    sends=False,
    account=PROJECT_ID,
    scenes=(
        _scene("cancel pending points", PENDING, Effect.CANCELED, "taken_back"),
        _scene("cancel points it will keep", REJECTED, Effect.REJECTED, "disputed"),
    ),
)
