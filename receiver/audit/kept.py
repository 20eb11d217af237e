"""What is kept of one entry of the log for its evidence: a delivery's, or a finding's.

An event that the issuer's own log confirms comes with the issuer's proof of it; so does what was found by an entry of
that log, a cross-check or a gap.
"""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.audit.queries import logs_of
from receiver.events import CrossCheck
from receiver.records.keeping import erased
from receiver.records.opening import Tenant
from receiver.records.tables import checks, claims, deliveries, findings


@dataclass(frozen=True, slots=True)
class ErasedBy:
    """The entry that tells that an entry was erased: `all` of it, or its `delivery` only, as `extent` says."""

    id: str
    log_index: int
    extent: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The entry's place, and what opens it; None where there is nothing, or it is erased. `issuer` is a tlog-proof."""

    log_id: int
    log_index: int
    event_data: bytes | None
    event_salt: bytes | None
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    delivery_salt: bytes | None
    issuer: bytes | None
    erased_by: ErasedBy | None


def find_kept(tx: sa.Connection, tenant: Tenant, entry_id: str) -> Kept | None:
    """What is kept for the evidence of that entry; None if the tenant has no delivery and no finding of that id."""
    for query in (_delivery(tenant), _finding(tenant)):
        row = tx.execute(query, {"id": entry_id}).one_or_none()
        if row is not None:
            told = tx.execute(_ERASED_BY, {"id": entry_id}).first()
            return _kept(row, None if told is None else ErasedBy(*told))
    return None


# Of several the one that took most; in their order, `all` comes first.
_ERASED_BY = (
    sa.select(findings.c.id, erased.c.log_index, erased.c.extent)
    .join_from(
        erased, findings, sa.and_(findings.c.log_id == erased.c.log_id, findings.c.log_index == erased.c.log_index)
    )
    .where(erased.c.entry_id == sa.bindparam("id"))
    .order_by(erased.c.extent, erased.c.log_id, erased.c.log_index)
)


def _delivery(tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    confirmed = sa.and_(checks.c.event_id == deliveries.c.id, checks.c.state == CrossCheck.CONFIRMED.value)
    return (
        _of(deliveries, tenant)
        .join_from(deliveries, checks, confirmed, isouter=True)
        .join(claims, _is_claim(checks, tenant), isouter=True)
    )


def _finding(tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    return _of(findings, tenant).join_from(findings, claims, _is_claim(findings, tenant), isouter=True)


def _of(table: sa.Table, tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    columns = table.c
    return sa.select(
        columns.log_id,
        columns.log_index,
        columns.event_data,
        columns.event_salt,
        columns.headers,
        columns.body,
        columns.delivery_salt,
        claims.c.proof,
    ).where(columns.id == sa.bindparam("id"), columns.log_id.in_(logs_of(tenant)))


def _is_claim(table: sa.Table, tenant: Tenant) -> sa.ColumnElement[bool]:
    """The entry of the issuer's log that a row of that table names."""
    columns = claims.c
    named = (columns.issuer_log_id == table.c.issuer_log_id, columns.index == table.c.issuer_index)
    return sa.and_(columns.tenant_id == tenant.id, *named)


def _kept(row: sa.Row[Any], erased_by: ErasedBy | None) -> Kept:
    headers: list[list[str]] = json.loads(row.headers or "[]")
    return Kept(
        log_id=row.log_id,
        log_index=row.log_index,
        event_data=_bytes(row.event_data),
        event_salt=_bytes(row.event_salt),
        headers=tuple((name, value) for name, value in headers),
        body=_bytes(row.body),
        delivery_salt=_bytes(row.delivery_salt),
        # What the issuer's log says of it is its data once more, where it is kept for another event.
        issuer=None if row.event_data is None else _bytes(row.proof),
        erased_by=erased_by,
    )


def _bytes(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)
