"""Who makes the file of an export now, and what becomes of it.

    pending ── take ──▶ processing ── complete ──▶ completed ── the file is not there ──▶ pending
       ▲                    │  │
       │◀── let_go, withdraw┘  └── fail, for the third time ──▶ failed

A process holds an export for as long as it makes its file, by a row that says so and until when. One that was killed
holds nothing once that time has run out, or as soon as its end is noted (`receiver.records.processes`), which the next
start does. It saves work, and nothing rests on it: of two that make the same file both make the same bytes.

But what was erased since must not come back: `receiver.records.giving.withdraw` takes an export away from its holder,
in the erasure's own transaction. Whoever would complete it then finds that it is held no more, and its file is removed.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from receiver.events import format_time
from receiver.exports.building import Built
from receiver.records.giving import COMPLETED, FAILED, PENDING, PROCESSING
from receiver.records.keeping import IS_UNDER_WAY, exports
from receiver.records.tables import processes

HELD_FOR = timedelta(seconds=60)
"""How long an export is held, unless that is renewed, as it is with each note of its progress."""

FAILURES = 3
"""In a row, after which it is not tried again."""

AGAIN_AFTER = timedelta(seconds=5)
"""After a failure, for what was in the way may be gone then."""


def lease(holder: str, now: datetime) -> tuple[str, str]:
    """A holder, and until when it holds what it takes now."""
    return holder, format_time(now + HELD_FOR)


def waiting(tx: sa.Connection, now: datetime) -> list[str]:
    """The exports whose files are to be made, and that nobody makes; oldest first."""
    return list(tx.execute(sa.select(exports.c.id).where(*_free(now)).order_by(exports.c.id)).scalars())


def take(tx: sa.Connection, export_id: str, holder: str, now: datetime) -> bool:
    """Take an export whose file is to be made; False if somebody makes it by now."""
    _, until = lease(holder, now)
    its = sa.update(exports).where(exports.c.id == export_id, *_free(now))
    return tx.execute(its.values(state=PROCESSING, progress=0, holder=holder, held_until=until)).rowcount == 1


def _free(now: datetime) -> tuple[sa.ColumnElement[bool] | sa.TextClause, ...]:
    ended = sa.select(processes.c.id).where(processes.c.stopped_at.is_not(None))
    is_free = sa.or_(
        exports.c.held_until.is_(None), exports.c.held_until < format_time(now), exports.c.holder.in_(ended)
    )
    return IS_UNDER_WAY, is_free


def note_progress(tx: sa.Connection, export_id: str, holder: str, percent: int, now: datetime) -> bool:
    """Note how far it is, and hold it on; False if it is held no more, and what was made of it is of no use."""
    _, until = lease(holder, now)
    return _change(tx, export_id, holder, progress=percent, held_until=until)


def complete(tx: sa.Connection, export_id: str, holder: str, built: Built, now: datetime, kept_for: timedelta) -> bool:
    """Note that its file is there, durably, for that long; False if it is held no more."""
    return _change(
        tx,
        export_id,
        holder,
        state=COMPLETED,
        progress=100,
        error=None,
        start=built.start,
        end=built.end,
        size=built.size,
        sha256=built.sha256,
        completed_at=format_time(now),
        expires_at=format_time(now + kept_for),
        holder=None,
        held_until=None,
        failures=0,
    )


def note_range(tx: sa.Connection, export_id: str, built: Built) -> None:
    """Note which entries its file holds, whoever made that and whatever became of the export: it is always the same."""
    tx.execute(sa.update(exports).where(exports.c.id == export_id).values(start=built.start, end=built.end))


def let_go(tx: sa.Connection, export_id: str, holder: str, not_before: datetime) -> bool:
    """Leave it to whoever comes next, from a time on."""
    return _change(tx, export_id, holder, state=PENDING, progress=0, holder=None, held_until=format_time(not_before))


def fail(tx: sa.Connection, export_id: str, holder: str, error: str, now: datetime, *, for_good: bool = False) -> bool:
    """Note that it could not be made, and why: a sentence for whoever asked. It is tried again until it failed thrice.

    With `for_good`, never.
    """
    failures = exports.c.failures + 1
    over = sa.literal(value=True) if for_good else failures >= FAILURES
    return _change(
        tx,
        export_id,
        holder,
        state=sa.case((over, FAILED), else_=PENDING),
        error=error,
        progress=0,
        holder=None,
        held_until=format_time(now + AGAIN_AFTER),
        failures=failures,
    )


def make_again(tx: sa.Connection, export_id: str) -> None:
    """Have the file of a completed export made again, which is not there."""
    its = sa.update(exports).where(
        exports.c.id == export_id, exports.c.state == COMPLETED, exports.c.expires_at > format_time(datetime.now(UTC))
    )
    tx.execute(its.values(state=PENDING, progress=0, size=None, sha256=None, holder=None, held_until=None))


def _change(tx: sa.Connection, export_id: str, by: str, **values: object) -> bool:
    """Change the row of an export that is held by that process; False if it is not."""
    its = sa.update(exports).where(exports.c.id == export_id, exports.c.state == PROCESSING, exports.c.holder == by)
    return tx.execute(its.values(values)).rowcount == 1
