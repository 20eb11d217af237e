"""Calls that were passed on, in SQL: the same for `/v1/attempts` and the command.

What became of a call is what its row says. If that says nothing yet, the clock tells: as long as the relay may still be
waiting for the answer, or be recording it, the call is `in_progress`; after that its outcome is `unknown`, and the note
says what will be done about it, or can be.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.audit.queries import is_source
from receiver.audit.shapes import AttemptShape, ItemShape
from receiver.events import Item, format_time
from receiver.providers import Operation
from receiver.records.attempts import Ended, idempotency_key_of
from receiver.records.keyed import item_key
from receiver.records.opening import Tenant
from receiver.records.tables import attempts, credentials, deliveries, sources
from translog.merkle import leaf_hash
from translog.store import entries

IN_PROGRESS, UNKNOWN = "in_progress", "unknown"
OUTCOMES = (IN_PROGRESS, UNKNOWN, *(one.value for one in Ended))
"""The first two are what a call is that has no outcome."""

MARGIN = timedelta(seconds=35)
"""How long, beyond the time that its answer has, a call may still be under way."""

_PAGE = 1000
_AT_ONCE = 50  # rows in memory, each of which may bring a request of 256 KiB along


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls are asked for; None asks for all.

    Times are of their start, as in the rows; `open` are only those without an outcome; `before` is the id of a call.
    """

    source: str | None = None
    provider: str | None = None
    outcome: str | None = None
    open: bool = False
    item: Item | None = None
    key: str | None = None
    since: str | None = None
    until: str | None = None
    test: bool | None = None
    before: str | None = None


def given_up(timeout: float, now: datetime) -> str:
    """A time as in the rows: a call that was begun by then and has no outcome is no longer in progress.

    `timeout` is the relay's, in seconds.
    """
    return format_time(now - timedelta(seconds=timeout) - MARGIN)


def find_attempts(
    tx: sa.Connection, tenant: Tenant, wanted: Wanted, limit: int, late: str
) -> tuple[list[AttemptShape], str | None]:
    """The newest calls that fit, and the id of the last one if there are more; `late` as `given_up` says."""
    query = _attempts(tenant).where(*_conditions(tenant, wanted, late))
    # By their ids, which are in the order of time: so they are read from their own table, not from all deliveries.
    query = query.order_by(attempts.c.id.desc()).limit(limit + 1)
    rows = tx.execute(query, execution_options={"yield_per": _AT_ONCE})
    found = [_shape(row, late) for row in rows]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def all_attempts(tx: sa.Connection, tenant: Tenant, wanted: Wanted, late: str) -> Iterator[AttemptShape]:
    """All that fit, newest first."""
    while True:
        found, last = find_attempts(tx, tenant, wanted, _PAGE, late)
        yield from found
        if last is None:
            return
        wanted = replace(wanted, before=last)


def find_attempt(tx: sa.Connection, tenant: Tenant, attempt_id: str, late: str) -> AttemptShape | None:
    """That call, or None if the tenant has none of that id."""
    row = tx.execute(_attempts(tenant).where(attempts.c.id == attempt_id)).one_or_none()
    return None if row is None else _shape(row, late)


_telling = deliveries.alias("telling")


def _attempts(tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    columns = deliveries.c
    with_member = [name for name in providers.names() if providers.get(name).operation.idempotency_member is not None]
    return (
        sa.select(
            attempts.c.id,
            attempts.c.source_id,
            attempts.c.key_id,
            attempts.c.idempotency,
            attempts.c.outcome,
            attempts.c.outcome_id,
            attempts.c.status,
            attempts.c.ended_at,
            attempts.c.next_at,
            attempts.c.upstream.label("called"),
            columns.event,
            columns.test,
            columns.received_at,
            columns.logged_at,
            columns.log_index,
            columns.event_data,
            columns.headers,
            # A body is needed only where the idempotency key is in it.
            sa.case((sources.c.provider.in_(with_member), columns.body)).label("body"),
            sources.c.provider,
            sources.c.enabled,
            sources.c.upstream,
            credentials.c.source_id.is_not(None).label("has_credential"),
            _telling.c.log_index.label("outcome_log_index"),
            entries.c.data.label("entry"),
        )
        .join_from(attempts, deliveries, columns.id == attempts.c.id)
        .join(sources, sources.c.id == attempts.c.source_id)
        .join(entries, sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index))
        .join(credentials, credentials.c.source_id == sources.c.id, isouter=True)
        .join(_telling, _telling.c.id == attempts.c.outcome_id, isouter=True)
        .where(sources.c.tenant_id == tenant.id)
    )


def _conditions(tenant: Tenant, wanted: Wanted, late: str) -> Iterable[sa.ColumnElement[bool]]:
    columns = deliveries.c
    if wanted.source is not None:
        yield is_source(wanted.source)
    if wanted.provider is not None:
        yield sources.c.provider == wanted.provider
    if wanted.open:
        yield attempts.c.outcome.is_(None)
    if wanted.outcome is not None:
        yield _came_to(wanted.outcome, late)
    if wanted.item is not None:
        names = [wanted.provider] if wanted.provider else providers.names()
        keys = [item_key(tenant.hash_key, name, wanted.item) for name in names]
        # An intent's group is itself, so its item is in the index of such rows.
        yield sa.and_(columns.item_key.in_(keys), columns.item_key != columns.group_key)
    if wanted.key is not None:
        yield attempts.c.key_id == wanted.key
    if wanted.since is not None:
        yield columns.received_at >= wanted.since
    if wanted.until is not None:
        yield columns.received_at < wanted.until
    if wanted.test is not None:
        yield columns.test == wanted.test
    if wanted.before is not None:
        yield attempts.c.id < wanted.before


def _came_to(outcome: str, late: str) -> sa.ColumnElement[bool]:
    begun, is_open = deliveries.c.received_at, attempts.c.outcome.is_(None)
    if outcome == IN_PROGRESS:
        return sa.and_(is_open, begun > late)
    return sa.and_(is_open, begun <= late) if outcome == UNKNOWN else attempts.c.outcome == outcome


def _shape(row: sa.Row[Any], late: str) -> AttemptShape:
    operation = providers.get(row.provider).operation if row.provider in providers.names() else None
    erased = row.event_data is None
    item = None if erased else json.loads(row.event_data)["item"]
    outcome = row.outcome or (IN_PROGRESS if row.received_at > late else UNKNOWN)
    return AttemptShape(
        id=row.id,
        source=row.source_id,
        provider=row.provider,
        operation=row.event,
        item=None if item is None else ItemShape(item["type"], item["id"]),
        key=row.key_id,
        started_at=row.received_at,
        logged_at=row.logged_at,
        log_index=row.log_index,
        leaf_hash=leaf_hash(bytes(row.entry)).hex(),
        outcome=outcome,
        outcome_id=row.outcome_id,
        outcome_log_index=row.outcome_log_index,
        status=row.status,
        ended_at=row.ended_at,
        idempotency_key=None if row.headers is None or row.idempotency is None else _idempotency_key(operation, row),
        test=row.test,
        note=_note(operation, row) if outcome == UNKNOWN else None,
        erased=erased,
    )


def _idempotency_key(operation: Operation | None, row: sa.Row[Any]) -> str | None:
    """As it was sent, whoever made it."""
    if operation is None:
        return None
    return idempotency_key_of(operation, json.loads(row.headers), bytes(row.body or b""))


def _note(operation: Operation | None, row: sa.Row[Any]) -> str:
    """What will be done about a call of unknown outcome, or can be: a sentence for the operator."""
    again = "" if row.idempotency is None else "; or repeat the call with the same idempotency key"
    if operation is None:
        return "this version does not know the provider: it stays unknown, look there yourself"
    if operation.lookup is None:
        if again:
            return "the provider has no record to ask; repeat the call with the same idempotency key"
        return "the provider has neither a record to ask nor an idempotency key: it stays unknown, look there yourself"
    if row.event_data is None:
        return "what it asked for is erased, so the provider's record cannot be asked: it stays unknown"
    if not row.enabled:
        return "the source is disabled, so the provider's record is not asked: receiver source enable"
    if row.upstream is None:
        return "the source has no upstream whose record could be asked: receiver source set --upstream"
    if row.upstream != row.called:
        return f"it was made to another upstream, {row.called}: its record is not asked{again}"
    if not row.has_credential:
        return f"set a read-only credential: receiver source credential{again}"
    if row.next_at is None:
        return f"the provider's record is asked no more: receiver relay settle asks it once again{again}"
    return f"the provider's record is asked with the source's credential{again}"
