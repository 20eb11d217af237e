"""`/v1/holds`: what must not be erased, by whom that was placed, and how it is released.

A hold stands for as long as nobody releases it, and whoever placed it cannot do so alone. What it held back is done
before the answer to its release, as far as no other hold covers it and a client waits; the rest is done soon after.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from sqlalchemy.exc import SQLAlchemyError

from receiver import parameters, problems
from receiver.access import needs
from receiver.bodies import read_body, takes
from receiver.erasure import placing
from receiver.erasure.placing import (
    Hold,
    HoldError,
    NoSuchHoldError,
    Place,
    Release,
    ReleasedError,
    SameOwnerError,
)
from receiver.erasure.requests import TURN, run_held
from receiver.parameters import DEFAULT_LIMIT, MAX_LIMIT, query
from receiver.problems import Problem
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.opening import Records, Tenant
from translog.errors import StoreError

T = TypeVar("T")

RETRY_AFTER = 5  # seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HoldList:
    """Holds of a tenant, newest first."""

    items: list[Hold]
    next_cursor: str | None


class HoldsController(Controller):
    """Needs a key with the scope `operate`; sees, places and releases its tenant's holds and no others."""

    path = "/v1"
    tags = ("erasure",)
    guards = (needs(Scope.OPERATE), parameters.only_known)
    security = ({"key": []},)

    @get(
        "/holds",
        operation_id="listHolds",
        summary="What must not be erased, newest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_holds(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        released: Annotated[str | None, query("whether it is", enum=[*parameters.FLAGS])] = None,
        cursor: Annotated[str | None, query("the next_cursor of an earlier answer")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> HoldList:
        wanted = parameters.flag("released", released)
        before = parameters.id_cursor(cursor)
        records: Records = request.app.state.records
        return HoldList(*await asyncio.to_thread(placing.find, records, tenant, wanted, before, limit))

    @get(
        "/holds/{hold_id:str}",
        operation_id="getHold",
        summary="One hold",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_hold(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], hold_id: FromPath[str]
    ) -> Hold:
        return await _done(request, lambda records, _: placing.get(records, tenant, hold_id))

    @post(
        "/holds",
        status_code=201,
        operation_id="placeHold",
        operation_class=takes(Place),
        summary="Have something kept",
        description="Exactly one of `item`, `source`, `provider`, `person` and `period` says what. It covers what is "
        "recorded later as well, and beats every erasure and the retention.",
        responses=problems.responses(400, 401, 403, 413, 503),
    )
    async def place_hold(self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]) -> Hold:
        asked = await read_body(request, Place)
        return await _changed(request, lambda records, by: placing.place(records, tenant, asked, by))

    @post(
        "/holds/{hold_id:str}/release",
        status_code=200,
        operation_id="releaseHold",
        operation_class=takes(Release),
        summary="Have it kept no longer",
        description="With a key of another owner than that of the key that placed it. Erasures that it held back are "
        "run.",
        responses=problems.responses(400, 401, 403, 404, 409, 413, 503),
    )
    async def release_hold(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], hold_id: FromPath[str]
    ) -> Hold:
        asked = await read_body(request, Release)
        released = await _changed(
            request, lambda records, by: placing.release(records, tenant, hold_id, asked.reason, by)
        )
        over = time.monotonic() + TURN
        try:
            await asyncio.to_thread(run_held, request.app.state.records, tenant, lambda: time.monotonic() >= over)
        except (SQLAlchemyError, StoreError, OSError) as error:
            # The hold is released; what it held back is run by the background, which looks again and again.
            _log.warning("what the hold %s held back was not run yet: %s", released.id, type(error).__name__)
        return released


async def _changed(request: Request[Any, Any, Any], work: Callable[[Records, ApiKey], T]) -> T:
    """As `_done`, of what writes: nothing is written once recording has stopped."""
    if request.app.state.intake.recorder.refusal is not None:
        raise _halted()
    return await _done(request, work)


async def _done(request: Request[Any, Any, Any], work: Callable[[Records, ApiKey], T]) -> T:
    """What comes of that, done with the records and the key; in a thread, for it waits for locks.

    Raises Problem for what it refuses.
    """
    try:
        return await asyncio.to_thread(work, request.app.state.records, request.state.api_key)
    except HoldError as error:
        raise Problem(400, str(error), details={error.member: str(error)}) from error
    except SameOwnerError as error:
        raise Problem(403, str(error), details={"owner": "must be another"}) from error
    except NoSuchHoldError as error:
        raise Problem(404, str(error)) from error
    except ReleasedError as error:
        raise Problem(409, str(error), details={"reason": "released"}) from error
    except StoreError as error:
        raise _halted() from error


def _halted() -> Problem:
    why = "Nothing was changed: recording has stopped; /health/ready says why"
    return Problem(503, why, retry_after=RETRY_AFTER)
