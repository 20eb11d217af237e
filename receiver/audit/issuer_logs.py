"""`/v1/issuer-logs`: the transparency logs that a tenant's sources name, and how each stands.

What proves that a log has forked is given out as it is: anyone who has the log's key can verify it, offline.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from receiver import parameters, problems
from receiver.access import needs
from receiver.audit.shapes import (
    CheckpointShape,
    ForkShape,
    IssuerLogList,
    IssuerLogShape,
    NamedShape,
)
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant
from receiver.records.standing import Standing, standings
from translog.checkpoint import Checkpoint
from translog.fork import Fork
from translog.note import Note


class IssuerLogsController(Controller):
    """Needs a key with the scope `audit`; sees the logs that its tenant's sources name, or named when they forked."""

    path = "/v1/issuer-logs"
    tags = ("audit",)
    guards = (needs(Scope.AUDIT), parameters.only_known)
    security = ({"key": []},)

    @get(
        operation_id="listIssuerLogs",
        summary="Issuers' logs, and how each stands, oldest first",
        description="All of them: they are few. `next_cursor` is always null.",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_issuer_logs(self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]) -> IssuerLogList:
        found = await asyncio.to_thread(_standings, request.app.state.records, tenant)
        return IssuerLogList([shape(one) for one in found], None)

    @get(
        "/{log_id:str}",
        operation_id="getIssuerLog",
        summary="One issuer's log",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_issuer_log(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], log_id: FromPath[str]
    ) -> IssuerLogShape:
        return shape(await _standing(request, tenant, log_id))

    @get(
        "/{log_id:str}/fork",
        operation_id="getFork",
        summary="What proves that a log has forked",
        description="A text that `translog verify` reads, with the log's key. 404 as long as no fork was seen.",
        media_type="text/plain",
        responses={
            200: ResponseSpec(str, description="The evidence", generate_examples=False, media_type="text/plain"),
            **problems.responses(400, 401, 403, 404, 503),
        },
    )
    async def get_fork(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], log_id: FromPath[str]
    ) -> Response[bytes]:
        found = await _standing(request, tenant, log_id)
        if found.fork is None:
            raise Problem(404, f"{found.label} was not seen to fork")
        named = {"content-disposition": f'attachment; filename="{found.id}.fork"'}
        return Response(found.fork.encode(), media_type="text/plain", headers=named)


def shape(standing: Standing) -> IssuerLogShape:
    """How a log stands, as an answer shows it."""
    checkpoint = standing.checkpoint
    return IssuerLogShape(
        id=standing.id,
        url=standing.url,
        origin=None if checkpoint is None else checkpoint.origin,
        policy=standing.policy,
        state=standing.stands.value,
        size=None if checkpoint is None else checkpoint.size,
        root=None if checkpoint is None else checkpoint.root.hex(),
        checkpoint=None if standing.note is None else standing.note.decode(),
        next_index=standing.next_index,
        unreadable=standing.unreadable,
        fetched_at=standing.fetched_at,
        complete_at=standing.complete_at,
        failing_since=standing.failing_since,
        failure=standing.failure,
        fork=None if standing.fork is None else _fork(standing.fork, standing.forked_at or ""),
        sources=[NamedShape(one.id, one.name, one.starts_at, one.follow_every) for one in standing.sources],
    )


def _fork(fork: Fork, at: str) -> ForkShape:
    smaller, larger = (Checkpoint.parse(Note.parse(note).text) for note in (fork.smaller, fork.larger))
    return ForkShape(at, _checkpoint(smaller), _checkpoint(larger))


def _checkpoint(checkpoint: Checkpoint) -> CheckpointShape:
    return CheckpointShape(checkpoint.size, checkpoint.root.hex())


async def _standing(request: Request[Any, Any, Any], tenant: Tenant, log_id: str) -> Standing:
    """Raises Problem 404 if no source of the tenant names a log of that id."""
    found: list[Standing] = []
    if parameters.readable(log_id):
        found = await asyncio.to_thread(_standings, request.app.state.records, tenant, log_id)
    if not found:
        raise Problem(404, f"No source names an issuer's log {log_id[:64]!a}")
    return found[0]


def _standings(records: Records, tenant: Tenant, log_id: str | None = None) -> list[Standing]:
    with records.database.read() as tx:
        return standings(tx, datetime.now(UTC), tenant.id, log_id)
