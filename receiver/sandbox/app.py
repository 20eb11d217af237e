"""The sandbox: the issuing side of every provider as one application, and its log.

    POST /v1/redemptions/…/reverse and the like     the issuers', on the paths that their providers document
    GET  /log/checkpoint, /log/tile/…               the log of what they did (`receiver.sandbox.log`)
    POST /sandbox/reset                             everything as in a fresh sandbox, but for the log, which goes on
    POST /sandbox/log/fork, …                       misbehaviour, on purpose (`receiver.sandbox.misbehaving`)

In the background it does what the issuers put off, signs a checkpoint once something was added to the log, and delivers
the notices that are owed. Each of these goes on after a crash where the database says it was.

What the issuers answer is in their providers' shapes. So is every error under their paths, another method and a fault
of the sandbox's own included. What belongs to none of them is answered `{"message": …}`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any

from litestar import Litestar, Request, Response, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler
from sqlalchemy.exc import SQLAlchemyError

from receiver.sandbox.deliverer import Deliverer, Destination
from receiver.sandbox.issuers import Fault, issuers
from receiver.sandbox.ledger import Ledger, Step
from receiver.sandbox.log import LogController
from receiver.sandbox.misbehaving import MisbehavingController

EVERY = 0.05
"""Seconds between two looks at what is due. A checkpoint is signed as often at most."""

_log = logging.getLogger(__name__)


def create_sandbox(ledger: Ledger, destinations: Mapping[str, Destination]) -> Litestar:
    """The sandbox over its ledger; `destinations` are by provider's name where notices are delivered to.

    They are the issuers that the ledger was opened for, as `told`. A ledger without fixtures is given them.
    """
    deliverer = Deliverer(ledger, destinations)

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        await asyncio.to_thread(put_fixtures, ledger, anew=False)
        background = [asyncio.create_task(_run(ledger)), asyncio.create_task(deliverer.run())]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            with contextlib.suppress(SQLAlchemyError):
                await asyncio.to_thread(go_on, ledger)

    routes: list[ControllerRouterHandler] = [LogController, MisbehavingController, reset]
    for issuer in issuers().values():
        routes.extend(issuer.routes)
    return Litestar(
        route_handlers=routes,
        exception_handlers={HTTPException: _refused, Exception: _failed},
        lifespan=[lifespan],
        state=State({"ledger": ledger}),
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


@post("/sandbox/reset", status_code=204)
async def reset(request: Request[Any, Any, Any]) -> None:
    """Put the fixtures back, as if nothing had been done; what was logged stays logged, what is owed stays owed."""
    ledger: Ledger = request.app.state.ledger
    await asyncio.to_thread(put_fixtures, ledger, anew=True)


def put_fixtures(ledger: Ledger, *, anew: bool) -> None:
    """Give every issuer its fixtures: one that never had any, or `anew` each, and then nothing else is left to it."""
    for name, issuer in issuers().items():
        with ledger.act(name) as act:
            if anew:
                act.forget_all()
            elif not act.is_new():
                continue
            issuer.put_fixtures(act)


def go_on(ledger: Ledger) -> list[Exception]:
    """Do what is due, and sign a checkpoint of what is new in the log; what failed, and will be tried again."""
    failures: list[Exception] = []
    for work in [*(partial(_take, ledger, step) for step in ledger.due()), ledger.publish]:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (it is to keep nothing else from being done)
            failures.append(error)
    return failures


def _take(ledger: Ledger, step: Step) -> None:
    with ledger.act(step.provider) as act:
        if act.done(step):
            issuers()[step.provider].go_on(act, step)


async def _run(ledger: Ledger) -> None:
    """Go on for ever; a failure is logged once."""
    logged: set[str] = set()
    while True:
        try:
            failures = await asyncio.to_thread(go_on, ledger)
        except Exception as error:  # noqa: BLE001  (a database out of reach now is back later)
            failures = [error]
        for error in failures:
            if repr(error) not in logged:
                _log.error("what was to be done in the background failed", exc_info=error)
        logged = {repr(error) for error in failures}
        await asyncio.sleep(EVERY)


def _refused(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    known = {
        404: Fault(404, "not_found", "There is nothing at this path"),
        405: Fault(405, "method_not_allowed", "This path does not take this method"),
        413: Fault(413, "too_large", "The request is too large"),
    }
    fault = known.get(error.status_code, Fault(error.status_code, "invalid_request", error.detail))
    kept = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return _answer(request, fault, kept)


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, Fault(500, "internal_error", "This is a fault of the sandbox, and it was logged"))


def _answer(request: Request[Any, Any, Any], fault: Fault, headers: Mapping[str, str] | None = None) -> Response[Any]:
    """The fault as the issuer whose path it is has its errors."""
    path = request.url.path + "/"
    body: Mapping[str, Any] = {"message": fault.message}
    for issuer in issuers().values():
        if path.startswith(issuer.base + "/"):
            body = issuer.error(fault)
    return Response(body, status_code=fault.status, media_type="application/json", headers=headers)
