"""`/v1/gaps`: what issuers' logs hold of a tenant's accounts, and no delivery announced in time."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import sqlalchemy as sa
from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from receiver import parameters, problems, providers
from receiver.access import needs
from receiver.audit.crosschecks import origin_of
from receiver.audit.queries import is_source, logs_of
from receiver.audit.shapes import GapList, GapShape, ItemShape
from receiver.events import Claim, Kind, format_time
from receiver.parameters import DEFAULT_LIMIT, MAX_LIMIT, query
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant
from receiver.records.tables import claims, findings, issuer_logs, sources
from translog.canonical import to_base64
from translog.merkle import leaf_hash
from translog.store import entries

OPEN, ANNOUNCED = "open", "announced"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which gaps are asked for; None asks for all. Times are of when they were logged, as in the rows; `before` is the
    id of a gap.
    """

    announced: bool | None = None
    source: str | None = None
    provider: str | None = None
    since: str | None = None
    until: str | None = None
    before: str | None = None


class GapsController(Controller):
    """Needs a key with the scope `audit`; sees its tenant's gaps and no others."""

    path = "/v1"
    tags = ("audit",)
    guards = (needs(Scope.AUDIT), parameters.only_known)
    security = ({"key": []},)

    @get(
        "/gaps",
        operation_id="listGaps",
        summary="Entries of issuers' logs that no delivery announced, newest first",
        description="Of a source's account, once its grace period is over. One that was announced later is no gap any "
        "more, and is listed with `announced=true`.",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_gaps(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        announced: Annotated[str, query("whether a delivery did so later", enum=[*parameters.FLAGS])] = "false",
        source: Annotated[str | None, query("its id or name", pattern=parameters.TEXT)] = None,
        provider: Annotated[str | None, query(enum=providers.names())] = None,
        since: Annotated[str | None, query("RFC 3339, inclusive", format="date-time")] = None,
        until: Annotated[str | None, query("RFC 3339, exclusive", format="date-time")] = None,
        cursor: Annotated[str | None, query("the next_cursor of an earlier answer")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> GapList:
        wanted = Wanted(
            announced=parameters.flag("announced", announced),
            source=parameters.text("source", source),
            provider=parameters.choice("provider", provider, providers.names()),
            since=parameters.moment("since", since),
            until=parameters.moment("until", until),
            before=parameters.id_cursor(cursor),
        )
        return await asyncio.to_thread(_list, request.app.state.records, tenant, wanted, limit)

    @get(
        "/gaps/{gap_id:str}",
        operation_id="getGap",
        summary="One gap",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_gap(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], gap_id: FromPath[str]
    ) -> GapShape:
        found = None
        if parameters.readable(gap_id):
            found = await asyncio.to_thread(_get, request.app.state.records, tenant, gap_id)
        if found is None:
            raise Problem(404, f"There is no gap {gap_id[:64]!a}")
        return found


def _list(records: Records, tenant: Tenant, wanted: Wanted, limit: int) -> GapList:
    selected = _gaps(tenant).where(*_conditions(wanted)).order_by(findings.c.id.desc()).limit(limit + 1)
    with records.database.read() as tx:
        rows = tx.execute(selected).all()
    return GapList([_shape(row) for row in rows[:limit]], rows[limit - 1].id if len(rows) > limit else None)


def _get(records: Records, tenant: Tenant, gap_id: str) -> GapShape | None:
    with records.database.read() as tx:
        row = tx.execute(_gaps(tenant).where(findings.c.id == gap_id)).one_or_none()
    return None if row is None else _shape(row)


def _gaps(tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    columns = findings.c
    its_claim = sa.and_(claims.c.gap_id == columns.id, claims.c.tenant_id == tenant.id)
    its_entry = sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index)
    return (
        sa.select(
            columns.id,
            columns.source_id,
            columns.issuer_index,
            columns.log_index,
            columns.logged_at,
            claims.c.provider,
            claims.c.announced,
            claims.c.seen_at,
            claims.c.entry,
            issuer_logs.c.state.label("followed"),
            issuer_logs.c.url,
            entries.c.data.label("leaf"),
        )
        .join_from(findings, claims, its_claim)
        .join(issuer_logs, issuer_logs.c.id == columns.issuer_log_id)
        .join(sources, sources.c.id == columns.source_id)
        .join(entries, its_entry)
        .where(columns.kind == Kind.GAP.value, columns.state == OPEN, columns.log_id.in_(logs_of(tenant)))
    )


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.announced is not None:
        conditions.append(claims.c.announced.is_(wanted.announced))
    if wanted.source is not None:
        conditions.append(is_source(wanted.source))
    if wanted.provider is not None:
        conditions.append(claims.c.provider == wanted.provider)
    if wanted.since is not None:
        conditions.append(findings.c.logged_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(findings.c.logged_at < wanted.until)
    if wanted.before is not None:
        conditions.append(findings.c.id < wanted.before)
    return conditions


def _shape(row: sa.Row[Any]) -> GapShape:
    entry = None if row.entry is None else bytes(row.entry)
    claim = None if entry is None else providers.get(row.provider).entry(entry)
    told = claim if isinstance(claim, Claim) else None
    return GapShape(
        id=row.id,
        state=ANNOUNCED if row.announced else OPEN,
        source=row.source_id,
        provider=row.provider,
        issuer_log=origin_of(bytes(row.followed)) or row.url,
        issuer_index=None if entry is None else row.issuer_index,
        entry=None if entry is None else to_base64(entry),
        item=None if told is None else ItemShape(told.item.type, told.item.id),
        effect=None if told is None else told.effect.value,
        account=None if told is None else told.account,
        operation=None if told is None else told.operation,
        amount=None if told is None else told.amount,
        quantity=None if told is None else told.quantity,
        occurred_at=None if told is None or told.at is None else format_time(told.at),
        seen_at=row.seen_at,
        logged_at=row.logged_at,
        log_index=row.log_index,
        leaf_hash=leaf_hash(bytes(row.leaf)).hex(),
        erased=entry is None,
    )
