"""What is in quarantine, in SQL: the same for `/v1/quarantine` and the command."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from receiver.audit.queries import is_source
from receiver.audit.shapes import QuarantinedDelivery, QuarantinedShape, ReprocessedShape
from receiver.events import Kind
from receiver.records.opening import Tenant
from receiver.records.tables import deliveries, reprocessed, sources
from translog.canonical import to_base64
from translog.merkle import leaf_hash
from translog.store import entries

REASONS = ("not_json", "wrong_shape", "unknown_type", "other_account", "unrecordable")
"""Why a delivery is in quarantine."""

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which quarantined deliveries are asked for; None asks for all.

    Times are of receipt, as in the rows; `before` is a place (log, index).
    """

    source: str | None = None
    provider: str | None = None
    reason: str | None = None
    reprocessed: bool | None = None
    since: str | None = None
    until: str | None = None
    before: tuple[int, int] | None = None


def find_quarantined(
    tx: sa.Connection, tenant: Tenant, wanted: Wanted, limit: int
) -> tuple[list[QuarantinedShape], tuple[int, int] | None]:
    """The newest that fit, and the place of the last one if there are more."""
    query = _quarantined(tenant).where(*_conditions(wanted)).limit(limit + 1)
    rows = tx.execute(query.order_by(deliveries.c.log_id.desc(), deliveries.c.log_index.desc())).all()
    last = (rows[limit - 1].log_id, rows[limit - 1].log_index) if len(rows) > limit else None
    return [QuarantinedShape(**_members(row)) for row in rows[:limit]], last


def all_quarantined(tx: sa.Connection, tenant: Tenant, wanted: Wanted) -> Iterator[QuarantinedShape]:
    """All that fit, newest first."""
    while True:
        found, last = find_quarantined(tx, tenant, wanted, _PAGE)
        yield from found
        if last is None:
            return
        wanted = replace(wanted, before=last)


def find_delivery(tx: sa.Connection, tenant: Tenant, quarantine_id: str) -> QuarantinedDelivery | None:
    """That one with its headers and body, or None if the tenant has none of that id."""
    columns = deliveries.c
    query = _quarantined(tenant).add_columns(columns.headers, columns.body).where(columns.id == quarantine_id)
    row = tx.execute(query).one_or_none()
    if row is None:
        return None
    return QuarantinedDelivery(
        **_members(row),
        headers=None if row.headers is None else dict(json.loads(row.headers)),
        body=None if row.body is None else to_base64(bytes(row.body)),
    )


_written = deliveries.alias("written")


def _quarantined(tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    columns = deliveries.c
    return (
        sa.select(
            columns.id,
            columns.log_id,
            columns.log_index,
            columns.source_id,
            columns.reason,
            columns.scheme,
            columns.test,
            columns.received_at,
            columns.logged_at,
            sa.func.length(columns.body).label("size"),
            sources.c.provider,
            entries.c.data.label("entry"),
            reprocessed.c.at,
            reprocessed.c.status,
            # Of a mismatch the event is the one that it differs from.
            sa.func.coalesce(_written.c.first_id, _written.c.id).label("event_id"),
        )
        .join_from(deliveries, sources, sources.c.id == columns.source_id)
        .join(entries, sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index))
        .join(reprocessed, reprocessed.c.quarantine_id == columns.id, isouter=True)
        .join(_written, _written.c.id == reprocessed.c.row_id, isouter=True)
        # A literal, for only then is the index of these rows used.
        .where(columns.kind == sa.literal_column(f"'{Kind.QUARANTINE}'"), sources.c.tenant_id == tenant.id)
    )


def _conditions(wanted: Wanted) -> Iterable[sa.ColumnElement[bool]]:
    columns = deliveries.c
    if wanted.source is not None:
        yield is_source(wanted.source)
    if wanted.provider is not None:
        yield sources.c.provider == wanted.provider
    if wanted.reason is not None:
        yield columns.reason == wanted.reason
    if wanted.reprocessed is not None:
        done = reprocessed.c.status
        yield done.is_not(None) if wanted.reprocessed else done.is_(None)
    if wanted.since is not None:
        yield columns.received_at >= wanted.since
    if wanted.until is not None:
        yield columns.received_at < wanted.until
    if wanted.before is not None:
        log_id, index = wanted.before
        yield sa.or_(columns.log_id < log_id, sa.and_(columns.log_id == log_id, columns.log_index < index))


def _members(row: sa.Row[Any]) -> dict[str, Any]:
    done = None if row.status is None else ReprocessedShape(row.at, row.status, row.event_id)
    return {
        "id": row.id,
        "source": row.source_id,
        "provider": row.provider,
        "reason": row.reason,
        "scheme": row.scheme,
        "test": row.test,
        "received_at": row.received_at,
        "logged_at": row.logged_at,
        "log_index": row.log_index,
        "leaf_hash": leaf_hash(bytes(row.entry)).hex(),
        "size": row.size,
        "reprocessed": done,
        "erased": row.size is None,
    }
