"""`/v1/erasures`: having taken away what was recorded of an event, an item or a person.

A request is done before it is answered, unless it takes longer than a client waits: then it goes on in the background,
and is asked after by its id. What was asked for, and why, is in no answer and in no message: a person's address would
be in logs that nobody erases.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from receiver import parameters, problems
from receiver.access import needs
from receiver.bodies import read_body, takes
from receiver.erasure import answers
from receiver.erasure.answers import Answer, Listed, NoSuchErasureError
from receiver.erasure.requests import TURN, Ask, ErasureError, HeldError, NoSuchEventError, ask
from receiver.parameters import DEFAULT_LIMIT, MAX_LIMIT, query
from receiver.problems import Problem
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.opening import Records, Tenant
from translog.errors import StoreError

T = TypeVar("T")

RETRY_AFTER = 5  # seconds


@dataclass(frozen=True, slots=True)
class ErasureList:
    """A page of requests, newest first."""

    items: list[Listed]
    next_cursor: str | None


class ErasuresController(Controller):
    """Needs a key with the scope `operate`; erases, and sees requests, of its tenant and no other."""

    path = "/v1"
    tags = ("erasure",)
    guards = (needs(Scope.OPERATE), parameters.only_known)
    security = ({"key": []},)

    @post(
        "/erasures",
        status_code=200,
        operation_id="erase",
        operation_class=takes(Ask),
        summary="Erase what was recorded of an event, an item or a person",
        description="Exactly one of `event_id`, `item` and `person` says what. What is unknown of an item or a person "
        "is no error: nothing is erased. The answer names the exports and the evidence that had been given out. What "
        "a hold covers is 409 with `details.reason` `held`; it is erased once the hold is released. So it is, with "
        "`answer_waits`, as long as an answer to a call waits to be recorded that a hold may cover; it is tried again.",
        responses=problems.responses(400, 401, 403, 404, 409, 413, 503),
    )
    async def erase(self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]) -> Answer:
        asked = await read_body(request, Ask)
        key: ApiKey = request.state.api_key
        if request.app.state.intake.recorder.refusal is not None:
            raise _halted()

        def work(records: Records) -> Answer:
            return answers.load(records, tenant, ask(records, tenant, asked, key.id, TURN))

        return await _done(request, work)

    @get(
        "/erasures",
        operation_id="listErasures",
        summary="Requests to erase, newest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_erasures(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        cursor: Annotated[str | None, query("the next_cursor of an earlier answer")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> ErasureList:
        before = parameters.id_cursor(cursor)
        records: Records = request.app.state.records
        return ErasureList(*await asyncio.to_thread(answers.find, records, tenant, before, limit))

    @get(
        "/erasures/{erasure_id:str}",
        operation_id="getErasure",
        summary="What became of a request to erase",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_erasure(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], erasure_id: FromPath[str]
    ) -> Answer:
        return await _done(request, lambda records: answers.load(records, tenant, erasure_id))


async def _done(request: Request[Any, Any, Any], work: Callable[[Records], T]) -> T:
    """What comes of that, done in a thread, for it waits for locks. Raises Problem for what it refuses."""
    try:
        return await asyncio.to_thread(work, request.app.state.records)
    except ErasureError as error:
        raise Problem(400, str(error), details={error.member: str(error)}) from error
    except (NoSuchEventError, NoSuchErasureError) as error:
        raise Problem(404, str(error)) from error
    except HeldError as error:
        details = {"reason": error.reason, "erasure": error.erasure_id, "hold": error.hold_id}
        raise Problem(409, str(error), details=details) from error
    except StoreError as error:
        raise _halted() from error


def _halted() -> Problem:
    why = "Nothing more was erased: recording has stopped; /health/ready says why"
    return Problem(503, why, retry_after=RETRY_AFTER)
