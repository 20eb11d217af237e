"""Retention at work: what is older than its provider's days is erased, some at a time.

    for aged in run(records, tenant):       one for each provider that has a number of days

What goes are the bodies of deliveries of every kind, with their headers, and what a provider's record said of them; the
day counts on which a delivery was received. What a hold covers stays, and is looked at again when a hold is released.
What a call asked that is open, and what tells of it, stays until it is settled: nobody could find out without it.

Every batch is a change of its own under the log's lock: an entry of kind `erasure`, and what it erases. So deliveries
wait for no more than one, a crash leaves whole batches, and of several receivers that do it at once each finds what is
left by then. A run that erases something has one row in `erasures`, made with its first batch and counting on.

A pass goes by when deliveries were received, and begins where the last one ended; what was recorded since then about
that earlier time (out of quarantine, or by a receiver that was away) is looked for by its place in the log, and calls
that were open when a pass went by among all that are not. It begins anew if the days were set, or a hold was released,
since the last one began.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from receiver.erasure.erasing import Erased, Order, clear_up, erase
from receiver.erasure.holds import held_among
from receiver.erasure.requests import COMPLETED
from receiver.erasure.retention import Rule, rules
from receiver.erasure.selecting import Extent, Target, opens, still_open
from receiver.events import format_time, new_id
from receiver.records import persons
from receiver.records.attempts import open_among
from receiver.records.journal import Changing, change, logging_time
from receiver.records.keeping import erasures, holds, retention
from receiver.records.opening import Records, Tenant
from receiver.records.tables import attempts, deliveries, findings, log_keys, sources

BATCH = 500
"""Deliveries that are erased at once, with what was found about them."""

STRETCH = 10_000
"""Entries of the log among which what came late is looked for at once."""

BY = "retention"


@dataclass(frozen=True, slots=True)
class Aged:
    """What a run came to: rows erased, and deliveries that a hold kept."""

    provider: str
    days: int
    erased: int
    held: int


@dataclass(frozen=True, slots=True)
class _Pass:
    """A run for one provider: all that was received before `until` is to go, and no earlier pass saw it since `since`.

    `size` is that of the log when it begins, and `seen` what the pass before it had: where what came late begins.
    """

    tenant: Tenant
    rule: Rule
    began_at: str
    since: str
    until: str
    seen: int
    size: int


@dataclass(frozen=True, slots=True)
class _Some:
    """What became of some deliveries in one change: those that are held, what was done, and what is left to be done."""

    held: AbstractSet[str] = frozenset()
    done: Erased = field(default_factory=Erased)
    left: Sequence[str] = ()


def run(records: Records, tenant: Tenant, is_stopping: Callable[[], bool] = lambda: False) -> list[Aged]:
    """Erase what is too old now, of every provider that has a number of days. Ends early, between batches, if asked.

    On SQLite whoever calls this truncates the write-ahead log then, if anything was erased. Raises SQLAlchemy's errors,
    StoreError if nothing may be written to the log any more, and OSError for files of exports that cannot be removed;
    what was done until then is done.
    """
    done: list[Aged] = []
    for rule in rules(records, tenant):
        if is_stopping():
            break
        persons.catch_up(records, tenant)  # whom a body names is not found out any more once it is erased
        done.append(_run(records, tenant, rule, is_stopping))
    return done


def _run(records: Records, tenant: Tenant, rule: Rule, is_stopping: Callable[[], bool]) -> Aged:
    passing = _begin(records, tenant, rule)
    order = Order(new_id(), Target.RETENTION, BY, f"retention of {rule.days} days", Extent.DELIVERY)
    erased, held = 0, set[str]()
    for found in _too_old(records, passing):
        ids = found
        while ids and not is_stopping():
            with change(records.database, tenant.log) as changing:
                some = _erase_some(changing, passing, order, ids)
            clear_up(records, some.done)
            erased += some.done.rows
            held |= some.held
            ids = some.left
        if is_stopping():
            return Aged(rule.provider, rule.days, erased, len(held))
    _note_passed(records, passing)
    return Aged(rule.provider, rule.days, erased, len(held))


def _erase_some(changing: Changing, passing: _Pass, order: Order, ids: Sequence[str]) -> _Some:
    """Erase those of the deliveries that still open and are not held, as many as one entry can name."""
    tx, tenant = changing.tx, passing.tenant
    under_way = open_among(tx, ids)
    there = [its_id for its_id in still_open(tx, ids, Extent.DELIVERY) if its_id not in under_way]
    if not there or not _is_in_force(tx, passing):
        return _Some()
    persons.catch_up_locked(tx, tenant)
    held = held_among(tx, tenant, there)
    goes = [its_id for its_id in there if its_id not in held]
    if not goes:
        return _Some(held)
    mine = erasures.c.id == order.id
    if tx.execute(sa.update(erasures).where(mine).values(completed_at=changing.now)).rowcount == 0:
        tx.execute(
            sa.insert(erasures).values(
                id=order.id,
                tenant_id=tenant.id,
                target=order.target.value,
                asked_by=order.by,
                asked_at=changing.now,
                state=COMPLETED,  # whatever a crash leaves to be done, the next run does by itself
                erased=0,
                completed_at=changing.now,
            )
        )
    done = erase(changing, tenant, order, goes)
    return _Some(held, done, goes[done.taken :] if done.rows else ())


# ---- how far it has gone --------------------------------------------------------------------------------------------


def _begin(records: Records, tenant: Tenant, rule: Rule) -> _Pass:
    with records.database.read() as tx:
        head = tenant.log.store.head(tx)
        now = logging_time(head)
        row = tx.execute(sa.select(retention).where(*_mine(tenant, rule))).one_or_none()
        known = row is not None and row.passed_log_id == tenant.log_id and not _was_released(tx, tenant, row.passed_at)
    return _Pass(
        tenant=tenant,
        rule=rule,
        began_at=now,
        since=row.passed_until if known and row is not None else "",
        until=_days_ago(rule.days),
        seen=row.passed_size if known and row is not None else head.size,
        size=head.size,
    )


def _note_passed(records: Records, passing: _Pass) -> None:
    """Have the next pass begin where this one ended, unless a hold was released meanwhile.

    What this pass found to be held is found again then; under the log's lock, where holds are released.
    """
    with change(records.database, passing.tenant.log) as changing:
        if not _was_released(changing.tx, passing.tenant, passing.began_at):
            passed = {
                "passed_at": passing.began_at,
                "passed_until": passing.until,
                "passed_log_id": passing.tenant.log_id,
                "passed_size": passing.size,
            }
            changing.tx.execute(sa.update(retention).where(*_mine(passing.tenant, passing.rule)).values(passed))


def _was_released(tx: sa.Connection, tenant: Tenant, since: str) -> bool:
    """Whether a hold was released at that time or later."""
    released = sa.select(holds.c.id).where(holds.c.tenant_id == tenant.id, holds.c.released_at >= since)
    return tx.execute(released.limit(1)).first() is not None


def _is_in_force(tx: sa.Connection, passing: _Pass) -> bool:
    mine = sa.select(retention.c.days).where(*_mine(passing.tenant, passing.rule))
    return tx.execute(mine).scalar_one_or_none() is not None


def _mine(tenant: Tenant, rule: Rule) -> tuple[sa.ColumnElement[bool], ...]:
    """The row of a rule, as long as nobody has set or cleared it."""
    columns = retention.c
    return columns.tenant_id == tenant.id, columns.provider == rule.provider, columns.set_at == rule.set_at


def _days_ago(days: int) -> str:
    return format_time(datetime.now(UTC) - timedelta(days=days))


# ---- what is too old ------------------------------------------------------------------------------------------------


def _too_old(records: Records, passing: _Pass) -> Iterator[Sequence[str]]:
    """The ids of deliveries that are too old and of which, or of what was found about them, something opens."""
    with records.database.read() as tx:
        query = sa.select(log_keys.c.log_id).where(log_keys.c.tenant_id == passing.tenant.id)
        log_ids = tx.execute(query.order_by(log_keys.c.log_id)).scalars().all()
    for log_id in log_ids:
        yield from _received(records, passing, log_id)
    for start in range(passing.seen, passing.size, STRETCH):
        with records.database.read() as tx:
            late = _came_late(tx, passing, start, min(start + STRETCH, passing.size))
        yield from (late[first : first + BATCH] for first in range(0, len(late), BATCH))
    for told in (attempts.c.id, attempts.c.outcome_id):
        yield from _settled(records, passing, told)


def _received(records: Records, passing: _Pass, log_id: int) -> Iterator[Sequence[str]]:
    """By when they were received, since the last pass."""
    columns = deliveries.c
    query = (
        sa.select(columns.id, columns.received_at)
        .where(
            columns.log_id == log_id,
            columns.received_at < passing.until,
            columns.source_id.in_(_sources(passing)),
            _OPENS,
        )
        .order_by(columns.received_at, columns.id)
        .limit(BATCH)
    )
    after_at, after_id = passing.since, ""
    while True:
        beyond = sa.or_(columns.received_at > after_at, columns.id > after_id)
        with records.database.read() as tx:
            rows = tx.execute(query.where(columns.received_at >= after_at, beyond)).all()
        if not rows:
            return
        after_id, after_at = rows[-1]
        yield [row.id for row in rows]


def _came_late(tx: sa.Connection, passing: _Pass, start: int, end: int) -> list[str]:
    """Those among some entries of the log that the passes before would have found, had they been there."""
    columns = deliveries.c
    late = columns.received_at < passing.since, columns.source_id.in_(_sources(passing))
    log_id = passing.tenant.log_id
    by_themselves = sa.select(columns.id).where(
        columns.log_id == log_id,
        columns.log_index >= start,
        columns.log_index < end,
        opens(deliveries, Extent.DELIVERY),
        *late,
    )
    by_findings = (
        sa.select(columns.id)
        .join_from(findings, deliveries, columns.id == findings.c.event_id)
        .where(
            findings.c.log_id == log_id,
            findings.c.log_index >= start,
            findings.c.log_index < end,
            opens(findings, Extent.DELIVERY),
            *late,
        )
    )
    return sorted(set(tx.execute(by_themselves.union_all(by_findings)).scalars()))


def _settled(records: Records, passing: _Pass, told: sa.ColumnElement[str | None]) -> Iterator[Sequence[str]]:
    """Of calls that are not open what may have stayed when a pass went by, for they were then.

    `told` is the column that says which delivery: the call itself, or what tells of it.
    """
    columns = deliveries.c
    query = (
        sa.select(attempts.c.id.label("call_id"), columns.id)
        .join_from(attempts, deliveries, columns.id == told)
        .where(
            attempts.c.source_id.in_(_sources(passing)),
            attempts.c.outcome.is_not(None),
            attempts.c.next_at.is_(None),
            columns.received_at < passing.since,
            _OPENS,
        )
        .order_by(attempts.c.id)
        .limit(BATCH)
    )
    after = ""
    while True:
        with records.database.read() as tx:
            rows = tx.execute(query.where(attempts.c.id > after)).all()
        if not rows:
            return
        after = rows[-1].call_id
        yield [row.id for row in rows]


_FOUND_OPEN = sa.exists().where(findings.c.event_id == deliveries.c.id, opens(findings, Extent.DELIVERY))
_OPENS = sa.or_(opens(deliveries, Extent.DELIVERY), _FOUND_OPEN)


def _sources(passing: _Pass) -> sa.Select[str]:
    mine = sources.c.tenant_id == passing.tenant.id
    return sa.select(sources.c.id).where(mine, sources.c.provider == passing.rule.provider)


__all__ = ["BATCH", "Aged", "run"]
