"""`/health`, `/metrics`: for those on call. No key is needed unless the operator closed them."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from litestar import Controller, Request, Response, get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ASGIApp

from receiver import problems
from receiver.access import authorize
from receiver.answer import Answer
from receiver.assurance.service import Assurance
from receiver.intake.service import Intake
from receiver.metrics import CONTENT_TYPE, Metrics
from receiver.publishing import Publisher
from receiver.records.apikeys import Scope
from receiver.records.opening import Records
from translog.errors import StoreError


@dataclass(frozen=True, slots=True)
class Live:
    """The process answers."""

    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Ready:
    """Whether deliveries can be kept and proved; each check is `ok`, or says what is wrong.

    What is wrong with issuers' logs is nothing that keeps deliveries from being taken: it does not count.
    """

    status: str
    database: str
    log: str
    published: str
    guard: str
    issuer_logs: str


async def unless_closed(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: open to everybody, unless the operator closed it to all but keys with the scope `operate`."""
    records: Records = connection.app.state.records
    if not records.settings.public_metrics:
        await authorize(connection, Scope.OPERATE)


class HealthController(Controller):
    """For probes and scrapers."""

    tags = ("operations",)

    @get("/health/live", operation_id="isLive", summary="The process answers")
    async def live(self) -> Live:
        return Live()

    @get(
        "/health/ready",
        operation_id="isReady",
        summary="Deliveries can be kept and proved",
        guards=[unless_closed],
        responses={503: ResponseSpec(Ready, description="Not ready"), **problems.responses(401, 403)},
    )
    async def ready(self, request: Request[Any, Any, Any]) -> Response[Ready]:
        state = request.app.state
        found = await asyncio.to_thread(_check, state.records, state.intake, state.publisher, state.assurance)
        return Response(found, status_code=200 if found.status == "ok" else 503, headers={"cache-control": "no-store"})

    @get(
        "/metrics",
        operation_id="readMetrics",
        summary="Prometheus metrics",
        guards=[unless_closed],
        media_type="text/plain",
        responses=problems.responses(401, 403),
    )
    async def metrics(self, request: Request[Any, Any, Any]) -> ASGIApp:
        metrics: Metrics = request.app.state.metrics
        return cast("ASGIApp", Answer(200, metrics.render(), ((b"content-type", CONTENT_TYPE.encode()),)))


def _check(records: Records, intake: Intake, publisher: Publisher, assurance: Assurance) -> Ready:
    database = log = published = guard = "ok"
    try:
        with records.database.read() as tx:
            tx.execute(sa.select(1))
    except Exception as error:  # noqa: BLE001  (whatever it is, it is not ready)
        database = type(error).__name__
    if not_written := intake.recorder.refusal or records.database.failing:
        log = not_written
    if overdue := publisher.overdue():
        published = "entries unpublished for over 10 s: " + ", ".join(
            f"{name} ({publisher.failures.get(name, 'the publisher is behind')})" for name in overdue
        )
    unguarded: list[str] = []
    for tenant in records.tenants:
        try:
            if records.guard.read(tenant.log.verifying_key) is None:
                unguarded.append(f"{tenant.name} (not known to {records.guard.folder})")
        except StoreError as error:
            unguarded.append(f"{tenant.name} ({error})")
    if unguarded:
        guard = ", ".join(unguarded)
    good = (database, log, published, guard) == ("ok", "ok", "ok", "ok")
    return Ready("ok" if good else "not ready", database, log, published, guard, assurance.word)
