"""Checks that are due to be asked about: when that is, and whose turn it is.

These are of events whose source names no issuer's log, and whose provider can be asked for its own record. A check is
due when its row says so (`checks.due_at`), and the one asks who puts the next look off:

    at once              when the event is taken up
    1, 2, 4 … minutes    later, at last every hour, as long as the record does not hold it, cannot be asked, or does not
                         tell: it may lag, or there may be an outage
    the grace's end      in any case: what the record does not hold then, it is held not to
    6 hours later        once more, if it was found not to be there: an outage that held it back is over then

Nothing is given up before 30 days, and nothing within its grace period. What was given up stays pending; a new
credential, or a changed source, makes it due all the same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver.events import CrossCheck, format_time, parse_time
from receiver.records.tables import checks, credentials, sources
from receiver.turns import Waiting, first_come

A_TURN = 64
"""Checks that a source's turn is about at most."""

AFTER = timedelta(minutes=1)
MOST = timedelta(hours=1)
"""The first wait, and the longest."""

GIVE_UP_AFTER = 730
"""Looks, after which 30 days have passed, as long as the waits are."""

ONCE_MORE = timedelta(hours=6)
"""What was found not to be there is looked at again so much later."""


@dataclass(frozen=True, slots=True)
class Due:
    """A check to be asked about now, as it was read."""

    event_id: str
    due_at: str | None
    """None: it was given up."""
    looks: int
    grace_over_at: datetime
    state: CrossCheck

    def later(self, now: datetime) -> datetime | None:
        """When to ask again, should this look leave it as it is; None: never."""
        if now >= self.grace_over_at and self.looks >= GIVE_UP_AFTER:
            return None
        later = now + min(AFTER * 2 ** min(self.looks, 16), MOST)
        return self.grace_over_at if self.state is CrossCheck.PENDING and now < self.grace_over_at < later else later


@dataclass(frozen=True, slots=True)
class Turn:
    """What a source's turn is about."""

    source_id: str
    tenant_id: int
    checks: tuple[Due, ...]
    """Longest due first."""


def turns(
    tx: sa.Connection, now: datetime, busy: Mapping[str, int], last: Mapping[str, int], paused: Collection[str]
) -> list[Turn]:
    """The turns that begin now, given what `receiver.turns.first_come` is; none of a source that is `paused`."""
    at = format_time(now)
    rows = [row for row in tx.execute(_SOURCES).all() if row.due_at is not None and row.due_at <= at]
    waiting = (Waiting(row.id, row.tenant_id, row.due_at) for row in rows if row.id not in paused)
    found: list[Turn] = []
    for one in first_come(waiting, busy, last):
        its = tx.execute(_DUE, {"now": at, "source": one.source_id}).all()
        found.append(Turn(one.source_id, one.tenant_id, tuple(map(_due, its))))
    return found


def find_due(tx: sa.Connection, event_id: str) -> Due | None:
    """The check of that event, due or not; None if there is none that a provider's record is asked for."""
    row = tx.execute(_OF_EVENT, {"event": event_id}).one_or_none()
    return None if row is None else _due(row)


def pending(tx: sa.Connection, source_id: str, after: str) -> list[str]:
    """The events of a source that nothing is known of yet, whether they are due or not: the next ones by their ids."""
    return list(tx.execute(_PENDING, {"source": source_id, "after": after}).scalars())


def claim(tx: sa.Connection, due: Due, now: datetime) -> bool:
    """Put the next look off; whether this one is ours. A crash after it leaves the check to that next look."""
    later = due.later(now)
    as_read = (checks.c.due_at == due.due_at, checks.c.looks == due.looks, checks.c.issuer_log_id.is_(None))
    its = sa.update(checks).where(checks.c.event_id == due.event_id, *as_read)
    values = {"due_at": None if later is None else format_time(later), "looks": due.looks + 1}
    return tx.execute(its.values(**values)).rowcount == 1


def _due(row: sa.Row[Any]) -> Due:
    return Due(row.event_id, row.due_at, row.looks, parse_time(row.grace_over_at), CrossCheck(row.state))


_TO_ASK = (checks.c.issuer_log_id.is_(None), checks.c.due_at.is_not(None))

# Each with what is due first, which one step in an index finds: there may be very many that are due later.
_SOURCES: sa.Select[*tuple[Any, ...]] = sa.select(
    sources.c.id,
    sources.c.tenant_id,
    sa.select(checks.c.due_at)
    .where(checks.c.source_id == sources.c.id, *_TO_ASK)
    .order_by(checks.c.due_at)
    .limit(1)
    .scalar_subquery()
    .label("due_at"),
).where(
    sources.c.enabled,
    sources.c.issuer_log_id.is_(None),
    sources.c.upstream.is_not(None),
    sa.exists().where(credentials.c.source_id == sources.c.id),
)

_CHECKS: sa.Select[*tuple[Any, ...]] = sa.select(
    checks.c.event_id, checks.c.due_at, checks.c.looks, checks.c.grace_over_at, checks.c.state
)
_OF_EVENT = _CHECKS.where(checks.c.event_id == sa.bindparam("event"), checks.c.issuer_log_id.is_(None))
_DUE = (
    _CHECKS.where(checks.c.source_id == sa.bindparam("source"), *_TO_ASK, checks.c.due_at <= sa.bindparam("now"))
    .order_by(checks.c.due_at, checks.c.event_id)
    .limit(A_TURN)
)
_PENDING = (
    sa.select(checks.c.event_id)
    .join_from(checks, sources)
    .where(
        checks.c.tenant_id == sources.c.tenant_id,
        checks.c.state == CrossCheck.PENDING.value,
        checks.c.source_id == sa.bindparam("source"),
        checks.c.issuer_log_id.is_(None),
        checks.c.event_id > sa.bindparam("after"),
    )
    .order_by(checks.c.event_id)
    .limit(A_TURN)
)
