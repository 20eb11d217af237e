"""The table `checks`: what is known of events, held against what was found out of them.

No entry holds the table as it is. But all of it that tells something follows from entries: the event's own, and the
findings about it, of which the last one counts. So nobody can have an event confirmed that was not, or take back that
it was contradicted. An event of which nothing was found out yet is pending, by nobody; that it has a row at all follows
from how far its source's events were taken up. When an event is judged, or asked about, no entry says.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from receiver.events import CrossCheck, Effect, Kind
from receiver.fsck.readings import EVENT, leaf_of
from receiver.fsck.report import Notes
from receiver.records import keyed
from receiver.records.findings import IS_CHECKED
from receiver.records.tables import checks, deliveries, findings, issuer_logs, log_keys, sources, taken_up
from translog.canonical import Value, decode
from translog.store import entries

_PAGE = 256
_NOTHING_YET: Mapping[str, Value] = {
    "state": CrossCheck.PENDING.value,
    "by": None,
    "late": False,
    "since": None,
    "issuer_index": None,
}
# In these states a check may go on by another log, or none, than the one that it was told of.
_OPEN = frozenset({CrossCheck.PENDING.value, CrossCheck.NONE.value})


def check_crosschecks(tx: sa.Connection, hash_keys: Mapping[int | None, bytes | None], notes: Notes) -> None:
    """That every row is an event's, and says of it what was found out last; and that every event that was taken up to
    be checked by an issuer's log has one.

    `hash_keys` are the tenants', by id; without one the keyed hashes are not checked. That every finding of an event
    has its row here is told with the finding's.
    """
    after = ""
    while rows := tx.execute(_ROWS, {"after": after}).all():
        for row in rows:
            hash_key = hash_keys.get(row.event_tenant_id)
            for problem in (*_not_the_events(row, hash_key), *_not_what_was_found(row)):
                notes.fault(f"check of {row.event_id}", problem)
        after = rows[-1].event_id
    _name_missing(tx, notes)


def _name_missing(tx: sa.Connection, notes: Notes) -> None:
    """Name the events that are said to be taken up, and have no row."""
    for taken in tx.execute(_TAKEN_UP).all():
        for row in tx.execute(_without_row(taken), execution_options={"yield_per": _PAGE}):
            notes.fault(f"row {row.id} (entry {row.log_index})", "was taken up to be checked, and is not in checks")


# ---- one row --------------------------------------------------------------------------------------------------------


def _not_the_events(row: sa.Row[Any], hash_key: bytes | None) -> Iterator[str]:
    """What is wrong with a row by its event."""
    if row.event_kind is None:
        yield "there is no such event"
        return
    if row.event_kind != Kind.REVOCATION or row.event_effect in {None, Effect.REFUSED}:
        yield "what is of this id is never checked"
    for name, expected in (("source_id", row.event_source_id), ("tenant_id", row.event_tenant_id)):
        kept = getattr(row, name)
        if kept != expected:
            yield f"{name} is {kept!a}, its event's {expected!a}"
    if row.issuer_log_id is not None and row.known_log_id is None:
        yield f"the issuer log {row.issuer_log_id} is not there"
    if _bytes(row.item_key) != _bytes(row.event_item_key):
        yield "item_key is not its event's"
    leaf = leaf_of(row.event_entry)
    data = None if leaf is None else EVENT.open(leaf.event, row)[0]
    if leaf is None or data is None or hash_key is None or row.provider is None:
        return
    match decode(data):
        case {"operation": str(operation)}:
            expected = keyed.operation_key(hash_key, row.provider, operation)
        case _:
            expected = None
    if _bytes(row.operation_key) != expected:
        yield "operation_key is not what its event gives"


def _not_what_was_found(row: sa.Row[Any]) -> Iterator[str]:
    """What is wrong with a row by the last finding about its event."""
    if row.finding_id != row.last_id:
        last = "there is none" if row.last_id is None else f"the last one is {row.last_id!a}"
        yield f"finding_id is {row.finding_id!a}, and of the findings about it {last}"
        return  # the rest is another one's
    if row.last_id is None:
        told = _NOTHING_YET
    else:
        leaf = leaf_of(row.last_entry)
        if leaf is None:
            return
        told = {name: leaf.facts.get(name) for name in ("state", "by", "late")}
        told |= {"since": leaf.logged_at, "issuer_index": row.last_issuer_index}
        if row.state not in _OPEN:
            told["issuer_log_id"] = row.last_issuer_log_id
    for name, value in told.items():
        kept = getattr(row, name)
        if kept != value:
            told_it = "nothing was found out of it yet" if row.last_id is None else f"{row.last_id} tells {value!a}"
            yield f"{name} is {kept!a}, and {told_it}"


def _bytes(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)


# ---- rows -----------------------------------------------------------------------------------------------------------

_last = findings.alias("last")
_of_event = findings.alias("of_event")
_last_entries = entries.alias("last_entries")

_LAST_ID = (
    sa.select(_of_event.c.id)
    .where(_of_event.c.event_id == checks.c.event_id, _of_event.c.kind == Kind.CROSS_CHECK.value)
    .order_by(_of_event.c.log_id.desc(), _of_event.c.log_index.desc())
    .limit(1)
    .correlate(checks)
    .scalar_subquery()
)
_ROWS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        checks,
        deliveries.c.kind.label("event_kind"),
        deliveries.c.effect.label("event_effect"),
        deliveries.c.source_id.label("event_source_id"),
        deliveries.c.item_key.label("event_item_key"),
        deliveries.c.event_data,
        deliveries.c.event_salt,
        entries.c.data.label("event_entry"),
        log_keys.c.tenant_id.label("event_tenant_id"),
        sources.c.provider,
        issuer_logs.c.id.label("known_log_id"),
        _last.c.id.label("last_id"),
        _last.c.issuer_log_id.label("last_issuer_log_id"),
        _last.c.issuer_index.label("last_issuer_index"),
        _last_entries.c.data.label("last_entry"),
    )
    .join_from(checks, deliveries, deliveries.c.id == checks.c.event_id, isouter=True)
    .join(
        entries,
        sa.and_(entries.c.log_id == deliveries.c.log_id, entries.c.index == deliveries.c.log_index),
        isouter=True,
    )
    .join(log_keys, log_keys.c.log_id == deliveries.c.log_id, isouter=True)
    .join(sources, sources.c.id == deliveries.c.source_id, isouter=True)
    .join(issuer_logs, issuer_logs.c.id == checks.c.issuer_log_id, isouter=True)
    .join(_last, _last.c.id == _LAST_ID, isouter=True)
    .join(
        _last_entries,
        sa.and_(_last_entries.c.log_id == _last.c.log_id, _last_entries.c.index == _last.c.log_index),
        isouter=True,
    )
    .where(checks.c.event_id > sa.bindparam("after"))
    .order_by(checks.c.event_id)
    .limit(_PAGE)
)

# Of sources without an issuer's log it depends on the provider's module, which another version had without a record.
_TAKEN_UP: sa.Select[*tuple[Any, ...]] = (
    sa.select(taken_up)
    .join_from(taken_up, sources, sources.c.id == taken_up.c.source_id)
    .where(sources.c.issuer_log_id.is_not(None))
    .order_by(taken_up.c.source_id)
)


def _without_row(taken: sa.Row[Any]) -> sa.Select[*tuple[Any, ...]]:
    """The events of a source that have no row, of those up to the place that it was gone through to."""
    columns = deliveries.c
    return (
        sa.select(columns.id, columns.log_index)
        .where(
            columns.source_id == taken.source_id,
            sa.or_(
                columns.log_id < taken.log_id,
                sa.and_(columns.log_id == taken.log_id, columns.log_index < taken.next_index),
            ),
            IS_CHECKED,
            ~sa.exists().where(checks.c.event_id == columns.id),
        )
        .order_by(columns.log_id, columns.log_index)
    )
