"""Capillary as the issuing side: earned badges that are revoked.

Documented ("Revoke issued badge"): `POST /api_gateway/v1/badges/customer/revokeEarn`, with Basic or OAuth credentials,
takes `{"badgeMetaId", "customerId", "earnedBadgeId"}`. The customer is named by the number, or, with the header
`X-CAP-CUSTOMER-IDENTIFIER: email|mobile|externalId|cardNumber`, by that identifier. Every answer has the same three
members, and in it the customer is always the number:

    {"data": {"badgeMetaId": "…", "customerId": 62090013, "earnedBadgeId": "…", "isActive": false},
     "errors": [], "warnings": []}

A badge that is not actively earned (never, no more, by another customer, as another badge) gets error 814, which here
is a 200 with `data` null: the badge is then only in the request. It is the one error that is documented for this
operation. For what has none (credentials, a request that cannot be read, another method, a fault of the sandbox's own)
the same three members are answered with the status of HTTP, which stands in for a code as well; of 400 another
operation on badges documents as much.

No webhook is documented. Whoever is to be told all the same is sent the plain envelope around the answer, with the
secret as a static token in the header `X-Rescind-Token`: nothing of Capillary's is signed. No answer names the
organization; the sandbox is that of `ORG_ID`, which the envelope gives as `request.orgId`.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from litestar import Controller, Request, Response, post

from receiver.documents import Members, WrongShape
from receiver.events import Effect, Item, Via, format_time
from receiver.sandbox.issuers import Issuer, Scene
from receiver.sandbox.ledger import Act, Data, Entry, Ledger, Step
from receiver.strictjson import NotJson, parse

NAME = "capillary"

ORG_ID = 50933
"""The organization whose badges these are: the account in the log and in what is delivered."""

# Public, and the same in every sandbox: they keep nothing secret, and show that a call without any is refused.
USER = "sandbox"
PASSWORD = "sandbox"  # noqa: S105 (see above)
TOKEN = "sandbox-token"  # noqa: S105 (see above)

IDENTIFIER_HEADER = "X-CAP-CUSTOMER-IDENTIFIER"
TOKEN_HEADER = "X-Rescind-Token"  # noqa: S105 (the name of a header)

CUSTOMER_ID = 62090013
IDENTIFIERS = {
    "email": "tom.sawyer@capillarytech.com",
    "mobile": "15555550100",
    "externalId": "EXT-62090013",
    "cardNumber": "CARD-62090013",
}
"""What else the one customer is called by, by the kinds that the header may name."""

EARNED = {
    "654cbea06bccde1274b6d3a2": "653ddb33b3cda7078c7c68e9",
    "6659551c304b6e0b517b7bc7": "653de84db3cda7078c7c68ed",
}
"""The badges that the customer has earned: the `badgeMetaId` of each `earnedBadgeId`."""

NOT_EARNED = 814
"""The documented code of the error that a badge which is not actively earned gets."""

_BASIC = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_CREDENTIALS = {("basic", _BASIC), ("bearer", TOKEN)}
_CHALLENGES = {"www-authenticate": 'Basic realm="sandbox", Bearer realm="sandbox"'}

_BADGE = "badge"
"""The kind of a thing that is an earned badge. Its state is the `data` of the answer, and its id the `earnedBadgeId`.

The other kinds are those of `IDENTIFIERS`: the thing of an identifier says whose it is.
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for. The customer is named by an identifier of that kind; None: by the number."""

    badge_meta_id: str
    earned_badge_id: str
    customer: str
    kind: str | None

    @classmethod
    def read(cls, body: bytes, kind: str | None) -> Self:
        """Read a request's body and its header. Raises NotJson or WrongShape, which say what is wrong."""
        members = Members(parse(body))
        if kind is not None and kind not in IDENTIFIERS:
            raise WrongShape(f"{IDENTIFIER_HEADER} must be one of {', '.join(IDENTIFIERS)}")
        return cls(
            badge_meta_id=members.text("badgeMetaId"),
            earned_badge_id=members.text("earnedBadgeId"),
            # Documented as a string, and shown as a number: both are taken.
            customer=members.identifier("customerId"),
            kind=kind,
        )


class BadgesController(Controller):
    """The documented operation."""

    path = "/api_gateway/v1/badges/customer"
    tags = (NAME,)

    @post("/revokeEarn", status_code=200, operation_id="revokeEarnedBadge", summary="Revoke issued badge")
    async def revoke_earn(self, request: Request[Any, Any, Any]) -> Response[Data]:
        if not _has_credentials(request.headers):
            return _error(401, 401, "Basic or Bearer credentials are missing or wrong", _CHALLENGES)
        try:
            asked = _Asked.read(await request.body(), request.headers.get(IDENTIFIER_HEADER))
        except (NotJson, WrongShape) as error:
            return _error(400, 400, str(error))
        ledger: Ledger = request.app.state.ledger
        badge = await asyncio.to_thread(_revoke, ledger, asked)
        if badge is None:
            return _error(200, NOT_EARNED, "Active earn instance is not present")
        return Response(_answer(badge))


def _has_credentials(headers: Mapping[str, str]) -> bool:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return (scheme.lower(), credentials.strip()) in _CREDENTIALS


def _revoke(ledger: Ledger, asked: _Asked) -> Data | None:
    """Revoke the badge, and give what it is now; None, with nothing changed, if it is not actively earned."""
    with ledger.act(NAME) as act:
        badge = act.get(_BADGE, asked.earned_badge_id)
        if badge is None or not badge["isActive"]:
            return None
        if badge["badgeMetaId"] != asked.badge_meta_id or str(badge["customerId"]) != _customer_id(act, asked):
            return None
        revoked = {**badge, "isActive": False}
        act.put(_BADGE, asked.earned_badge_id, revoked)
        act.tell(
            Entry(
                account=str(ORG_ID),
                amount=None,
                effect=Effect.REVOKED,
                event="BADGE_REVOKE",
                item_type="badge",
                item_id=asked.earned_badge_id,
                operation=asked.earned_badge_id,
                quantity=None,
            )
        )
        act.notify(_envelope(act, revoked))
        return revoked


def _customer_id(act: Act, asked: _Asked) -> str | None:
    """The number of the customer who is named, as text, or None if nobody has that identifier."""
    if asked.kind is None:
        return asked.customer
    owner = act.get(asked.kind, asked.customer)
    return None if owner is None else str(owner["customerId"])


def _answer(badge: Data) -> Data:
    return {"data": badge, "errors": [], "warnings": []}


def _error(status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> Response[Data]:
    return Response(_errors(code, message), status_code=status, headers=headers)


def _errors(code: int, message: str) -> Data:
    return {"data": None, "errors": [{"code": code, "message": message}], "warnings": []}


def _envelope(act: Act, badge: Data) -> bytes:
    """The plain envelope. Of the request it has what the answer may lack, and never the customer: that may be an email
    address.
    """
    return json.dumps(
        {
            "type": "badge.revoked",
            "created_at": format_time(act.now),
            "data": _answer(badge),
            "request": {"orgId": ORG_ID, "earnedBadgeId": badge["earnedBadgeId"]},
        }
    ).encode()


def _put_fixtures(act: Act) -> None:
    for kind, identifier in IDENTIFIERS.items():
        act.put(kind, identifier, {"customerId": CUSTOMER_ID})
    for earned_badge_id, badge_meta_id in EARNED.items():
        badge = {"badgeMetaId": badge_meta_id, "customerId": CUSTOMER_ID, "earnedBadgeId": earned_badge_id}
        act.put(_BADGE, earned_badge_id, {**badge, "isActive": True})


def _go_on(act: Act, step: Step) -> None:
    """Nothing is ever put off: a revocation is final once it is answered."""


def _sign(_body: bytes, secret: str, _message_id: str, _sent_at: int) -> dict[str, str]:
    """The headers of a delivery: the secret itself is the token, and says nothing of body, id and time."""
    return {"content-type": "application/json", TOKEN_HEADER: secret}


def _scene(title: str, earned_badge_id: str, effect: Effect, *, kind: str | None = None) -> Scene:
    """Revoke that badge, its customer named by the number or by an identifier of that kind."""
    headers = {"Authorization": f"Basic {_BASIC}", "Content-Type": "application/json"}
    return Scene(
        title=title,
        item=Item("badge", earned_badge_id),
        path=f"{BadgesController.path}/revokeEarn",
        headers=headers if kind is None else {**headers, IDENTIFIER_HEADER: kind},
        members={
            "badgeMetaId": EARNED[earned_badge_id],
            "customerId": str(CUSTOMER_ID) if kind is None else IDENTIFIERS[kind],
            "earnedBadgeId": earned_badge_id,
        },
        status=200,
        told=((Via.RELAY, effect),),
        state="taken_back",
    )


_FIRST, _SECOND = EARNED

ISSUER = Issuer(
    name=NAME,
    routes=[BadgesController],
    base=BadgesController.path,
    error=lambda fault: _errors(fault.status, fault.message),
    put_fixtures=_put_fixtures,
    go_on=_go_on,
    sign=_sign,
    sends=False,
    account=str(ORG_ID),
    receiver_options=("--scheme", "token", "--header", TOKEN_HEADER),
    scenes=(
        _scene("revoke a badge", _FIRST, Effect.REVOKED),
        _scene(f"revoke it again: error {NOT_EARNED}", _FIRST, Effect.REFUSED),
    ),
    spare=_scene("revoke another badge", _SECOND, Effect.REVOKED, kind="email"),
)
