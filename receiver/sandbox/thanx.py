"""Thanx as the issuing side: issuance jobs that issue rewards in the background, and are revoked in the background.

Documented (docs.thanx.com): the operations "Issue Rewards", "Get Issuance Job" and "Revoke Issuance Job", with the job
that each answers with; their scope, `rewards.issue`; the three headers of a call; the webhook `reward_batch.completed`
and how it is signed. Issuing is documented at `POST /partner/campaigns/issue`. Here it is beside the other two, at
`POST /partner/issuance_jobs`, without the documented `X-Idempotency-Key`, and for any campaign and variant.

A job is `pending`, then `processing`, then `completed` or `failed`; once that, it can be revoked, and is `revoking`,
then `revoked`. No webhook is documented for its revocation, so what is told of that is the plain envelope, once for
each of the two states. That a job is done is told by the documented webhook. The one about each single reward,
`reward.issued`, is not sent: it is about people.

Of errors these operations document one: 422 for a job that cannot be revoked in its state. Their shape, `{"error":
{"code", "message"}}`, and a list of codes are documented for the Consumer API at the same hosts, and taken over from
there. Not documented, and so a choice of this sandbox:

- Which status goes with which code. Here that is 401 `AUTHENTICATION_GENERIC`, 403 `FORBIDDEN` (a token without the
  scope), 404 `RESOURCE_NOT_FOUND` (a job that is not there, or is not that merchant's, and a merchant that is not
  there), 400 `BAD_REQUEST` (a body, or one of its members, that is not as documented; another version of the API), 500
  `GENERIC_ERROR`; and 405, 413 and 422 `BAD_REQUEST`, as the list has no code for a method, a size or a job's state.
- For whom nothing can be issued: here it is whoever is named by a phone number, as in the documented example.
- When a job is `failed`: here it is if it issued nothing.
"""

import asyncio
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from receiver.documents import Members, WrongShape
from receiver.events import Effect, Item, Via
from receiver.sandbox.issuers import Fault, Issuer, Scene
from receiver.sandbox.ledger import Act, Books, Data, Entry, Ledger, Step
from receiver.strictjson import NotJson, parse

NAME = "thanx"

CLIENT_ID = "sandbox-client"
TOKEN = "sandbox-token"  # noqa: S105 (public: the sandbox keeps nothing that is anybody's)
TOKEN_READ = "sandbox-token-read"  # noqa: S105 (as the other)
"""A token without the scope `rewards.issue`."""
VERSION = "v4.0"
MERCHANT = "k2lye10h32l5wzo"
"""The only one there is."""

MAX_IDENTIFIERS = 10_000
DELAY = 0.3  # seconds from one state of a job to the next

_JOB = "issuance_job"
_DONE = "job_xyz789"
_CAMPAIGN, _VARIANT = "camp_abc123", "var_treat1"
_UNKNOWN_TYPE = "phone"  # what names nobody here
_REASON = "User not found"


class Refused(Exception):  # noqa: N818 (it is what a call is)
    """A call that is answered with an error: its HTTP status, one of the documented codes, and a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class _BadRequest(Refused):
    """A request that is not as documented."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "BAD_REQUEST", message)


class _NotFound(Refused):
    """Something that is not there, or not that merchant's."""

    def __init__(self) -> None:
        super().__init__(404, "RESOURCE_NOT_FOUND", "The resource you requested was not found.")


def _refusal(_: Request[Any, Any, Any], refused: Refused) -> Response[Data]:
    return Response(_error(refused.code, refused.message), status_code=refused.status)


def _error(code: str, message: str) -> Data:
    return {"error": {"code": code, "message": message}}


def _error_of(fault: Fault) -> Data:
    codes = {404: "RESOURCE_NOT_FOUND", 500: "GENERIC_ERROR"}
    return _error(codes.get(fault.status, "BAD_REQUEST"), fault.message)


_HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Data]]] = {Refused: _refusal}


async def _permitted(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: the three headers are there, and the token has the scope `rewards.issue`."""
    headers = connection.headers
    scheme, _space, token = headers.get("authorization", "").partition(" ")
    known = scheme.lower() == "bearer" and token in (TOKEN, TOKEN_READ)
    if not known or headers.get("x-clientid") != CLIENT_ID:
        raise Refused(401, "AUTHENTICATION_GENERIC", "There was an error authenticating you.")
    if token != TOKEN:
        raise Refused(403, "FORBIDDEN", "You do not have access to this resource.")
    if headers.get("accept-version") != VERSION:
        raise _BadRequest(f"The header Accept-Version must be {VERSION}")


class IssuanceJobs(Controller):
    """The jobs of a merchant."""

    path = "/partner/issuance_jobs"
    tags = (NAME,)
    guards = (_permitted,)
    exception_handlers = _HANDLERS

    @post(operation_id="issueRewards", summary="Issue rewards", status_code=202)
    async def issue(self, request: Request[Any, Any, Any]) -> Data:
        """A new job, `pending`."""
        ledger: Ledger = request.app.state.ledger
        return await asyncio.to_thread(_issue, ledger, await _body(request))

    @get("/{job_id:str}", operation_id="getIssuanceJob", summary="Get issuance job")
    async def show(self, request: Request[Any, Any, Any], job_id: FromPath[str]) -> Data:
        """The job as it is; with a summary of what was issued to whom if it is `completed`."""
        ledger: Ledger = request.app.state.ledger
        merchant = request.query_params.get("merchant_id")
        if not merchant:
            raise _BadRequest("merchant_id is missing")
        return await asyncio.to_thread(_show, ledger, job_id, merchant)

    @post("/{job_id:str}/revoke", operation_id="revokeIssuanceJob", summary="Revoke issuance job", status_code=202)
    async def revoke(self, request: Request[Any, Any, Any], job_id: FromPath[str]) -> Data:
        """The job, `revoking` from now on."""
        ledger: Ledger = request.app.state.ledger
        return await asyncio.to_thread(_revoke, ledger, job_id, await _body(request))


async def _body(request: Request[Any, Any, Any]) -> Members:
    try:
        return Members(parse(await request.body()))
    except NotJson as error:
        raise _BadRequest(f"The body cannot be read: {error}") from error


def _issue(ledger: Ledger, body: Members) -> Data:
    try:
        merchant, campaign, variant = map(body.text, ("merchant_id", "campaign_id", "variant_id"))
        identifiers = _identifiers(body)
    except WrongShape as error:
        raise _BadRequest(str(error)) from error
    if merchant != MERCHANT:
        raise _NotFound
    with ledger.act(NAME) as act:
        made = _made(f"job_{secrets.token_hex(8)}", campaign, variant, identifiers, act.now)
        act.put(_JOB, made["job"]["id"], made)
        act.later("pending", made["job"]["id"], DELAY)
    return {"issuance_job": made["job"]}


def _identifiers(body: Members) -> list[dict[str, str]]:
    """Whom to issue to. Raises WrongShape."""
    items = body.items("identifiers")
    if not 0 < len(items) <= MAX_IDENTIFIERS:
        raise WrongShape(f"identifiers has {len(items)} items; it must have 1 to {MAX_IDENTIFIERS}")
    identifiers: list[dict[str, str]] = []
    for index, item in enumerate(items):
        path = f"identifiers[{index}]"
        if not isinstance(item, dict):
            raise WrongShape(f"{path} is not an object")
        one = Members(item, f"{path}.")
        if one.text("type") not in ("email", "phone"):
            raise WrongShape(f"{path}.type is neither 'email' nor 'phone'")
        identifiers.append({"type": one.text("type"), "value": one.text("value")})
    return identifiers


def _show(ledger: Ledger, job_id: str, merchant: str) -> Data:
    with ledger.read(NAME) as books:
        kept = _find(books, job_id, merchant)
    job = kept["job"]
    if job["state"] != "completed":
        return {"issuance_job": job}
    summary: Data = {"success_count": job["success_count"], "failure_count": job["failure_count"]}
    if failures := _failures(kept["identifiers"]):
        summary["failures"] = [
            {"identifier_index": index, "identifier_type": identifier["type"], "error": _REASON}
            for index, identifier in failures
        ]
    return {"issuance_job": {**job, "summary": summary}}


def _revoke(ledger: Ledger, job_id: str, body: Members) -> Data:
    try:
        merchant = body.text("merchant_id")
    except WrongShape as error:
        raise _BadRequest(str(error)) from error
    with ledger.act(NAME) as act:
        kept = _find(act, job_id, merchant)
        state = kept["job"]["state"]
        if state not in ("completed", "failed"):
            raise Refused(422, "BAD_REQUEST", f"An issuance job that is {state} cannot be revoked")
        job = _take_back(act, kept, "revoking")
        act.later("revoking", job_id, DELAY)
    return {"issuance_job": job}


def _find(books: Books, job_id: str, merchant: str) -> Data:
    kept = books.get(_JOB, job_id)
    if kept is None or kept["merchant_id"] != merchant:
        raise _NotFound
    return kept


def _made(
    job_id: str, campaign: str, variant: str, identifiers: Sequence[Mapping[str, str]], created_at: datetime
) -> Data:
    """A new job, as it is kept: with what its answers leave out."""
    job = {
        "id": job_id,
        "campaign_id": campaign,
        "variant_id": variant,
        "state": "pending",
        "total_count": len(identifiers),
        "processed_count": 0,
        "success_count": 0,
        "failure_count": 0,
        "progress_percent": 0,
        "created_at": _time(created_at),
        "started_at": None,
        "completed_at": None,
    }
    return {"merchant_id": MERCHANT, "identifiers": identifiers, "job": job}


def _started(kept: Data, at: datetime) -> Data:
    return _changed(kept, state="processing", started_at=_time(at))


def _finished(kept: Data, at: datetime) -> Data:
    total = len(kept["identifiers"])
    failed = len(_failures(kept["identifiers"]))
    return _changed(
        kept,
        state="failed" if failed == total else "completed",
        processed_count=total,
        success_count=total - failed,
        failure_count=failed,
        progress_percent=100,
        completed_at=_time(at),
    )


def _changed(kept: Data, **members: object) -> Data:
    return {**kept, "job": {**kept["job"], **members}}


def _failures(identifiers: Sequence[Mapping[str, str]]) -> list[tuple[int, Mapping[str, str]]]:
    """Those to whom nothing can be issued, and where among all they stand."""
    return [(index, one) for index, one in enumerate(identifiers) if one["type"] == _UNKNOWN_TYPE]


def _take_back(act: Act, kept: Data, state: str) -> Data:
    """Make a job `revoking` or `revoked`, and say so: in the log, and to whoever asked for notices. Gives the job."""
    job: Data = {**kept["job"], "state": state}
    act.put(_JOB, job["id"], {**kept, "job": job})
    act.tell(
        Entry(
            account=kept["merchant_id"],
            amount=None,
            effect=state,
            event="ISSUANCE_JOB_REVOKE",
            item_type="issuance_job",
            item_id=job["id"],
            operation=f"{job['id']} {state}",
            quantity=str(job["success_count"]),
        )
    )
    notice = {
        "type": f"issuance_job.{state}",
        "created_at": _time(act.now),
        "data": {"issuance_job": job},
        "request": {"merchant_id": kept["merchant_id"]},
    }
    act.notify(json.dumps(notice).encode())
    return job


def _go_on(act: Act, step: Step) -> None:
    """Move a job out of the state that the step is named after. One that has left it stays as it is."""
    kept = act.get(_JOB, step.thing)
    if kept is None or kept["job"]["state"] != step.kind:
        return
    if step.kind == "pending":
        act.put(_JOB, step.thing, _started(kept, act.now))
        act.later("processing", step.thing, DELAY)
    elif step.kind == "processing":
        finished = _finished(kept, act.now)
        act.put(_JOB, step.thing, finished)
        act.notify(json.dumps(_batch_completed(finished, act.now)).encode())
    else:
        _take_back(act, kept, "revoked")


def _batch_completed(kept: Data, at: datetime) -> Data:
    """The documented webhook that tells of a job that is done."""
    job = kept["job"]
    return {
        "event": "reward_batch.completed",
        "timestamp": _time(at),
        "data": {
            "issuance_job_id": job["id"],
            "merchant_id": kept["merchant_id"],
            "state": job["state"],
            "total_count": job["total_count"],
            "issued_count": job["success_count"],
            "failed_count": job["failure_count"],
            "failures": [
                {"user_identifier": one["value"], "reason": _REASON} for _, one in _failures(kept["identifiers"])
            ],
        },
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _put_fixtures(act: Act) -> None:
    """The documented job, done as its page has it; one that stays `pending`; one that issued nothing."""
    created = datetime(2025, 6, 15, 10, 30, 0, tzinfo=UTC)
    started, completed = created.replace(second=5), created.replace(second=15)
    email = {"type": "email", "value": "jane.smith@example.com"}
    phone = {"type": "phone", "value": "+14155551234"}

    done = _made(_DONE, _CAMPAIGN, _VARIANT, [email, phone], created)
    failed = _made("job_failed1", _CAMPAIGN, _VARIANT, [phone], created)
    act.put(_JOB, _DONE, _finished(_started(done, started), completed))
    act.put(_JOB, "job_pending1", _made("job_pending1", _CAMPAIGN, _VARIANT, [email, phone], created))
    act.put(_JOB, "job_failed1", _finished(_started(failed, started), completed))


def _sign(body: bytes, secret: str, _id: str, _at: int) -> dict[str, str]:
    """As documented: the HMAC-SHA256 of the body in hex. Neither the delivery's id nor its time is signed, or sent."""
    mac = hmac.digest(secret.encode(), body, "sha256")
    return {"content-type": "application/json", "X-Thanx-Signature": mac.hex()}


_SCENES = (
    Scene(
        title="revoke an issuance job",
        item=Item("issuance_job", _DONE),
        path=f"{IssuanceJobs.path}/{_DONE}/revoke",
        headers={
            "X-ClientId": CLIENT_ID,
            "Accept-Version": VERSION,
            "Content-Type": "application/json",
            "Authorization": f"Bearer {TOKEN}",
        },
        members={"merchant_id": MERCHANT},
        status=202,
        told=((Via.RELAY, Effect.REVOKING), (Via.POLL, Effect.REVOKED)),
        state="taken_back",
    ),
)

ISSUER = Issuer(
    name=NAME,
    routes=(IssuanceJobs,),
    base=IssuanceJobs.path,
    error=_error_of,
    put_fixtures=_put_fixtures,
    go_on=_go_on,
    sign=_sign,
    sends=False,
    account=MERCHANT,
    scenes=_SCENES,
)
