"""What auditors' questions become in SQL. Every query names the tenant's logs, so none can see another's rows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from receiver import providers
from receiver.audit import crosschecks
from receiver.audit.shapes import BreachShape, EventShape, ItemShape, MismatchShape
from receiver.events import Item, Kind
from receiver.records.keyed import item_key
from receiver.records.opening import Tenant
from receiver.records.tables import checks, deliveries, findings, log_keys, sources
from translog.merkle import leaf_hash
from translog.store import entries

_EVENTS = (Kind.REVOCATION.value, Kind.CONTEXT.value)
_REFUSED = sa.and_(deliveries.c.kind == Kind.ATTEMPT.value, deliveries.c.effect.is_not(None))
_BASES = {"received": deliveries.c.received_at, "occurred": deliveries.c.occurred_at, "logged": deliveries.c.logged_at}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are asked for; None asks for all.

    Times are as in the rows; `detail` is the name and the value of a member of the details; `before` is a place (log,
    index).
    """

    provider: str | None = None
    source: str | None = None
    item: Item | None = None
    effect: str | None = None
    breach: str | None = None
    via: str | None = None
    cross_check: str | None = None
    test: bool | None = None
    detail: tuple[str, str] | None = None
    since: str | None = None
    until: str | None = None
    basis: str = "logged"
    before: tuple[int, int] | None = None


def find_events(tx: sa.Connection, tenant: Tenant, wanted: Filter, limit: int) -> tuple[list[EventShape], str | None]:
    """The newest events that fit, and the place of the last one if there are more (`log.index`)."""
    query = _events(tenant).order_by(deliveries.c.log_id.desc(), deliveries.c.log_index.desc()).limit(limit + 1)
    query = query.where(*_conditions(tx, tenant, wanted))
    if wanted.basis == "logged" and (wanted.since or wanted.until):
        query = query.where(_logged_between(tx, tenant, wanted.since, wanted.until))
    rows = tx.execute(query).all()
    last = f"{rows[limit - 1].log_id}.{rows[limit - 1].log_index}" if len(rows) > limit else None
    return _shapes(tx, rows[:limit]), last


def find_event(tx: sa.Connection, tenant: Tenant, event_id: str) -> EventShape | None:
    """That event, or None if the tenant has none of that id."""
    rows = tx.execute(_events(tenant).where(deliveries.c.id == event_id)).all()
    return _shapes(tx, rows)[0] if rows else None


def find_item(tx: sa.Connection, tenant: Tenant, provider: str, item: Item, source: str | None) -> list[EventShape]:
    """Every event about an item, oldest first.

    Without a source those of all, but for tests, which say nothing of an item that is real. Of a source
    that is a test source now, its tests, if it has told nothing else of it.
    """
    real = sa.not_(deliveries.c.test)
    whose = real if source is None else sa.and_(is_source(source), sa.or_(real, sources.c.environment == "test"))
    query = _events(tenant).where(_about([item_key(tenant.hash_key, provider, item)]), whose)
    rows = tx.execute(query.order_by(deliveries.c.log_id, deliveries.c.log_index)).all()
    return _shapes(tx, [row for row in rows if not row.test] or rows)


def has_source(tx: sa.Connection, tenant: Tenant, source: str) -> bool:
    """Whether the tenant has a source of this id or name; an empty text is neither."""
    query = sa.select(sources.c.id).where(sources.c.tenant_id == tenant.id, is_source(source))
    return tx.execute(query).first() is not None


def logs_of(tenant: Tenant) -> sa.Select[int]:
    """The ids of a tenant's logs, those that were closed included."""
    return sa.select(log_keys.c.log_id).where(log_keys.c.tenant_id == tenant.id)


def _about(items: Sequence[bytes]) -> sa.ColumnElement[bool]:
    """Either the item is the group, or it stands apart from it: each has its index (`receiver.records.tables`)."""
    columns = deliveries.c
    grouped = sa.and_(columns.group_key.in_(items), columns.item_key == columns.group_key)
    return sa.or_(grouped, sa.and_(columns.item_key.in_(items), columns.item_key != columns.group_key))


def is_source(source: str) -> sa.ColumnElement[bool]:
    """Whether a row's source has that id or name."""
    return sa.or_(sources.c.id == source, sources.c.name == source)


def _events(tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    columns = deliveries.c
    return (
        sa.select(
            columns.id,
            columns.log_id,
            columns.log_index,
            columns.source_id,
            columns.event,
            columns.effect,
            columns.via,
            columns.scheme,
            columns.test,
            columns.breaches,
            columns.received_at,
            columns.logged_at,
            columns.event_data,
            sources.c.provider,
            entries.c.data.label("entry"),
            *crosschecks.COLUMNS,
        )
        .join_from(deliveries, sources, sources.c.id == columns.source_id)
        .join(entries, sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index))
        .join(checks, checks.c.event_id == columns.id, isouter=True)
        .join(findings, findings.c.id == checks.c.finding_id, isouter=True)
        .where(sa.or_(columns.kind.in_(_EVENTS), _REFUSED), columns.log_id.in_(logs_of(tenant)))
    )


def _conditions(tx: sa.Connection, tenant: Tenant, wanted: Filter) -> Iterable[sa.ColumnElement[bool]]:
    columns = deliveries.c
    if wanted.provider is not None:
        yield sources.c.provider == wanted.provider
    if wanted.source is not None:
        yield is_source(wanted.source)
    if wanted.item is not None:
        names = [wanted.provider] if wanted.provider else providers.names()
        yield _about([item_key(tenant.hash_key, name, wanted.item) for name in names])
    if wanted.effect is not None:
        yield columns.effect == wanted.effect
    if wanted.via is not None:
        yield columns.via == wanted.via
    if wanted.breach is not None:
        yield columns.breaches.contains(json.dumps([wanted.breach])[:-1] + ",", autoescape=True)
    if wanted.cross_check is not None:
        yield from crosschecks.conditions(tenant, wanted.cross_check)
    if wanted.test is not None:
        yield columns.test == wanted.test
    if wanted.detail is not None:
        yield _detail(tx, *wanted.detail)
    if wanted.before is not None:
        log_id, index = wanted.before
        yield sa.or_(columns.log_id < log_id, sa.and_(columns.log_id == log_id, columns.log_index < index))
    if wanted.basis != "logged":
        when = _BASES[wanted.basis]
        if wanted.since is not None:
            yield when >= wanted.since
        if wanted.until is not None:
            yield when < wanted.until


def _detail(tx: sa.Connection, name: str, value: str) -> sa.ColumnElement[bool]:
    """Whether the details have a member of that name which is that string, or an integer or boolean written so.

    Never true of an erased event, whose data is NULL. The name is of the characters that need no escape in a path.
    """
    data = deliveries.c.event_data
    if tx.dialect.name == "sqlite":
        document, path = sa.cast(data, sa.Text), f'$.details."{name}"'
        member = sa.func.json_extract(document, path)
        kind = sa.func.json_type(document, path)
        written = sa.case((kind.in_(["true", "false"]), kind), else_=sa.cast(member, sa.Text))
        return sa.and_(kind.in_(["text", "integer", "true", "false"]), written == value)
    details = sa.cast(sa.func.convert_from(data, "UTF8"), JSONB)["details"]
    kind = sa.func.jsonb_typeof(details[name])
    return sa.and_(kind.in_(["string", "number", "boolean"]), details[name].astext == value)


def _logged_between(tx: sa.Connection, tenant: Tenant, since: str | None, until: str | None) -> sa.ColumnElement[bool]:
    """The period as a range of indexes in each log: times there never fall, so both ends are found by halving."""
    columns = deliveries.c
    ranges: list[sa.ColumnElement[bool]] = []
    for (log_id,) in tx.execute(logs_of(tenant)).all():
        start = 0 if since is None else _first_at(tx, log_id, since)
        ends = [] if until is None else [columns.log_index < _first_at(tx, log_id, until)]
        ranges.append(sa.and_(columns.log_id == log_id, columns.log_index >= start, *ends))
    return sa.or_(*ranges)


def _first_at(tx: sa.Connection, log_id: int, moment: str) -> int:
    """The lowest index such that every delivery from there on was logged at or after that moment."""
    columns = deliveries.c
    low = 0
    high = 1 + (tx.execute(sa.select(sa.func.max(columns.log_index)).where(columns.log_id == log_id)).scalar_one() or 0)
    while low < high:
        middle = (low + high) // 2
        row = tx.execute(
            sa.select(columns.log_index, columns.logged_at)
            .where(columns.log_id == log_id, columns.log_index >= middle)
            .order_by(columns.log_index)
            .limit(1)
        ).one_or_none()
        if row is None or row.logged_at >= moment:
            high = middle
        else:
            low = row.log_index + 1
    return low


def _shapes(tx: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[EventShape]:
    mismatches = _mismatches(tx, [row.id for row in rows])
    origins = crosschecks.origins(tx, rows)
    return [_shape(row, mismatches.get(row.id, []), origins) for row in rows]


def _shape(row: sa.Row[Any], mismatches: list[MismatchShape], origins: Mapping[str, str]) -> EventShape:
    erased = row.event_data is None
    own: dict[str, Any] = {} if erased else json.loads(row.event_data)
    item = own.get("item")
    return EventShape(
        id=row.id,
        source=row.source_id,
        provider=row.provider,
        event=row.event,
        item=None if item is None else ItemShape(item["type"], item["id"]),
        effect=row.effect,
        extent=own.get("extent"),
        amount=own.get("amount"),
        quantity=own.get("quantity"),
        reason=own.get("reason"),
        via=row.via,
        scheme=row.scheme,
        test=row.test,
        account=own.get("account"),
        operation=own.get("operation"),
        occurred_at=own.get("occurred_at"),
        received_at=row.received_at,
        logged_at=row.logged_at,
        log_index=row.log_index,
        leaf_hash=leaf_hash(bytes(row.entry)).hex(),
        cross_check=crosschecks.shape(row, origins),
        breaches=[BreachShape(code, message) for code, message in json.loads(row.breaches or "[]")],
        mismatches=mismatches,
        details=own.get("details", {}),
        erased=erased,
    )


def _mismatches(tx: sa.Connection, event_ids: Sequence[str]) -> dict[str, list[MismatchShape]]:
    found: dict[str, list[MismatchShape]] = {}
    if event_ids:
        columns = deliveries.c
        rows = tx.execute(
            sa.select(columns.first_id, columns.id, columns.received_at, columns.log_index)
            .where(columns.first_id.in_(event_ids), columns.kind == Kind.MISMATCH.value)
            .order_by(columns.log_id, columns.log_index)
        )
        for first_id, mismatch_id, received_at, log_index in rows:
            found.setdefault(first_id, []).append(MismatchShape(mismatch_id, received_at, log_index))
    return found
