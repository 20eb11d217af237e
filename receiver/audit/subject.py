"""What is kept about a person, as whoever asks for it is to be told: everything, and who else was given it.

    found = deliveries_named(tx, tenant, ids)       which deliveries name them
    kept = all_kept(tx, tenant, ids, named)         what is in these, and in what repeats it
    given = given_out_with(tx, tenant, ids)         which exports and which evidence gave it out

The ids come from the index (`receiver.records.persons`), and from what an erasure would take.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.audit.queries import logs_of
from receiver.audit.shapes import ItemShape
from receiver.events import Kind
from receiver.records.keeping import exports, given_out
from receiver.records.opening import Tenant
from receiver.records.tables import deliveries, findings, sources

_AT_ONCE = 100
"""Rows that are asked for in one statement, each of which may bring a body of 256 KiB along."""

_EVENTS = frozenset({Kind.REVOCATION, Kind.CONTEXT})


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedShape:
    """A delivery, or a part of a call that was passed on. `kind` is that of its entry of the log."""

    id: str
    kind: str
    log_index: int
    provider: str
    source: str
    source_name: str
    event: str | None
    effect: str | None
    via: str
    item: ItemShape | None
    """None where it was not understood, or tells nothing of its own."""
    received_at: str
    logged_at: str
    occurred_at: str | None
    test: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyShape:
    """Bytes as they came: as text if they are UTF-8, else in base64."""

    text: str | None
    base64: str | None

    @classmethod
    def of(cls, body: bytes | None) -> "BodyShape | None":
        """None if there are none, or they are erased."""
        if body is None:
            return None
        try:
            return cls(text=body.decode(), base64=None)
        except UnicodeDecodeError:
            return cls(text=None, base64=base64.b64encode(body).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundOutShape:
    """What was found out about a delivery, with what it was found in."""

    id: str
    kind: str
    state: str
    log_index: int
    logged_at: str
    found: Any
    body: BodyShape | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptShape(NamedShape):
    """The same with all that is kept of it: the event's own data, and the delivery as it came."""

    names_person: bool
    """Whether it names the person; else it repeats what one says that does."""
    data: Any
    breaches: list[list[str]]
    headers: dict[str, str] | None
    body: BodyShape | None
    found_out: list[FoundOutShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenShape:
    """A file of an export, or the evidence of an entry, that was given out: to an API key's id, or `command`."""

    at: str
    given_to: str
    export_id: str | None
    entry_id: str | None


def deliveries_named(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> list[NamedShape]:
    """These deliveries of the tenant, in the order of their ids, which is that in which they came."""
    return [NamedShape(**_named(row)) for row in _rows(tx, tenant, ids)]


def all_kept(tx: sa.Connection, tenant: Tenant, ids: Sequence[str], named: Sequence[str]) -> Iterator[KeptShape]:
    """Everything that is kept in these deliveries and about them, in the same order; `named` name the person."""
    naming = set(named)
    about = _found_out(tx, tenant, ids)
    for row in _rows(tx, tenant, ids):
        yield KeptShape(
            **_named(row),
            names_person=row.id in naming,
            data=None if row.event_data is None else json.loads(row.event_data),
            breaches=json.loads(row.breaches or "[]"),
            headers=None if row.headers is None else dict(json.loads(row.headers)),
            body=BodyShape.of(None if row.body is None else bytes(row.body)),
            found_out=about[row.id],
        )


def given_out_with(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> list[GivenShape]:
    """What was given out of these deliveries and of what was found out about them, oldest first.

    An export counts that had one of them among its events, by what it was asked for.
    """
    entries, given = list(ids), dict[str, sa.Row[Any]]()
    for some in _parts(ids):
        entries += tx.execute(sa.select(findings.c.id).where(findings.c.event_id.in_(some))).scalars()
    mine = sa.select(given_out).where(given_out.c.tenant_id == tenant.id)
    for some in _parts(entries):
        given.update((row.id, row) for row in tx.execute(mine.where(given_out.c.entry_id.in_(some))))
    for some in _parts(_exports_with(tx, tenant, ids)):
        given.update((row.id, row) for row in tx.execute(mine.where(given_out.c.export_id.in_(some))))
    return [
        GivenShape(at=row.at, given_to=row.given_to, export_id=row.export_id, entry_id=row.entry_id)
        for row in sorted(given.values(), key=lambda row: (row.at, row.id))
    ]


def _exports_with(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> list[str]:
    """The exports that one of these is an event of; none if its range is not known yet, for it has no file then."""
    made = sa.select(exports).where(exports.c.tenant_id == tenant.id, exports.c.start.is_not(None))
    asked = tx.execute(made).all()
    rows = list(_rows(tx, tenant, ids)) if asked else []
    return [export.id for export in asked if any(_has(export, row) for row in rows)]


def _has(export: sa.Row[Any], row: sa.Row[Any]) -> bool:
    """Whether a delivery is one of the events that an export was asked for."""
    if row.kind not in _EVENTS and not (row.kind == Kind.ATTEMPT and row.effect is not None):
        return False
    at: str | None = getattr(row, f"{export.basis}_at")
    return (
        export.log_id == row.log_id
        and export.start <= row.log_index < export.end
        and at is not None
        and export.since <= at < export.until
        and (export.providers is None or row.provider in export.providers.split(","))
        and (export.tests or not row.test)
    )


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


# ---- rows -----------------------------------------------------------------------------------------------------------


def _rows(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> Iterator[sa.Row[Any]]:
    """These deliveries, in the order of their ids."""
    query = (
        sa.select(deliveries, sources.c.provider, sources.c.name.label("source_name"))
        .join_from(deliveries, sources, sources.c.id == deliveries.c.source_id)
        .where(deliveries.c.log_id.in_(logs_of(tenant)))
        .order_by(deliveries.c.id)
    )
    for some in _parts(sorted(set(ids))):
        yield from tx.execute(query.where(deliveries.c.id.in_(some)))


def _named(row: sa.Row[Any]) -> Mapping[str, Any]:
    data: dict[str, Any] = {} if row.event_data is None else json.loads(row.event_data)
    item = data.get("item")
    return {
        "id": row.id,
        "kind": row.kind,
        "log_index": row.log_index,
        "provider": row.provider,
        "source": row.source_id,
        "source_name": row.source_name,
        "event": row.event,
        "effect": row.effect,
        "via": row.via,
        "item": None if item is None else ItemShape(item["type"], item["id"]),
        "received_at": row.received_at,
        "logged_at": row.logged_at,
        "occurred_at": row.occurred_at,
        "test": row.test,
    }


def _found_out(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> Mapping[str, list[FoundOutShape]]:
    about: defaultdict[str, list[FoundOutShape]] = defaultdict(list)
    query = sa.select(findings).where(findings.c.log_id.in_(logs_of(tenant)))
    for some in _parts(ids):
        its = query.where(findings.c.event_id.in_(some))
        for row in tx.execute(its.order_by(findings.c.log_id, findings.c.log_index)):
            about[row.event_id].append(
                FoundOutShape(
                    id=row.id,
                    kind=row.kind,
                    state=row.state,
                    log_index=row.log_index,
                    logged_at=row.logged_at,
                    found=None if row.event_data is None else json.loads(row.event_data),
                    body=BodyShape.of(None if row.body is None else bytes(row.body)),
                )
            )
    return about
