"""Calls that are due to be looked at: when that is, and whose turn it is.

A call is due when its row says so (`attempts.next_at`), and the one looks who puts the next look off. How long that is
depends on what is known: of a call of unknown outcome, of one that is followed, and of one that had no effect by the
provider's record, which is in doubt.

Upstreams may be slow, or not answer at all. So sources take turns (`receiver.turns`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver.events import format_time, parse_time
from receiver.records.attempts import FOLLOW_AFTER, Ended
from receiver.records.tables import attempts, deliveries, sources
from receiver.turns import Waiting, first_come

A_TURN = 64
"""Calls that a source's turn is about at most."""

FOLLOW_MOST = timedelta(minutes=5)
"""What was begun is asked after 1, 2, 4 … seconds later, at last this often: of what takes long it is soon enough."""

FOLLOW_FOR = timedelta(days=7)
"""What has not ended after so long is stuck at the provider, and no look will end it."""

UNKNOWN_AFTER = timedelta(minutes=1)
"""Where the record cannot be asked or does not tell, it is asked again 1, 2, 4 … minutes later: it may be an outage."""

UNKNOWN_MOST = timedelta(hours=1)
"""At last this often: soon enough for whoever has mended what was wrong."""

UNKNOWN_FOR = timedelta(days=30)
"""What could not be found out in so long, nobody is about to mend. A new credential makes it due all the same."""

DOUBT_AGAIN = timedelta(hours=6)
"""A call that was found without effect, and again after `DOUBT_AFTER`, is looked at for the last time so much later:
longer than an outage that held something back is likely to last."""


@dataclass(frozen=True, slots=True)
class Due:
    """A call to be looked at now, as it was read."""

    id: str
    next_at: str
    looks: int
    since: datetime
    """When it was made; if it has an outcome, when that was recorded."""
    outcome: Ended | None

    def later(self, now: datetime) -> datetime | None:
        """When to look again, should this look leave it as it is; None: never."""
        if self.outcome is Ended.NOT_DONE:
            return now + DOUBT_AGAIN if self.looks == 0 else None
        first, most, patience = UNKNOWN_AFTER, UNKNOWN_MOST, UNKNOWN_FOR
        if is_followed(self.outcome):
            first, most, patience = FOLLOW_AFTER, FOLLOW_MOST, FOLLOW_FOR
        if now - self.since >= patience:
            return None
        return now + min(first * 2 ** min(self.looks, 16), most)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a source's turn is about."""

    source_id: str
    tenant_id: int
    calls: tuple[Due, ...]
    """Longest due first."""


def is_followed(outcome: Ended | None) -> bool:
    """Whether what is asked of a call that is looked at is its end: what it came to is known then."""
    return outcome is not None and outcome is not Ended.NOT_DONE


def turns(tx: sa.Connection, now: datetime, busy: Mapping[str, int], last: Mapping[str, int]) -> list[Turn]:
    """The turns that begin now, given what `receiver.turns.first_come` is."""
    at = {"now": format_time(now)}
    waiting = (Waiting(row.source_id, row.tenant_id, row.next_at) for row in tx.execute(_WAITING, at).all())
    found: list[Turn] = []
    for one in first_come(waiting, busy, last):
        calls = tx.execute(_DUE, {**at, "source": one.source_id}).all()
        found.append(Turn(one.source_id, one.tenant_id, tuple(map(_due, calls))))
    return found


def claim(tx: sa.Connection, due: Due, now: datetime) -> bool:
    """Put the next look off; whether this one is ours. A crash after it leaves the call to that next look."""
    later = due.later(now)
    its = sa.update(attempts).where(attempts.c.id == due.id, attempts.c.next_at == due.next_at)
    values = {"next_at": None if later is None else format_time(later), "looks": due.looks + 1}
    return tx.execute(its.values(**values)).rowcount == 1


def _due(row: sa.Row[Any]) -> Due:
    since = parse_time(row.received_at if row.ended_at is None else row.ended_at)
    return Due(row.id, row.next_at, row.looks, since, None if row.outcome is None else Ended(row.outcome))


_IS_DUE = attempts.c.next_at <= sa.bindparam("now")

# The sources that have calls which are due, with how long the first of these is.
_WAITING: sa.Select[*tuple[Any, ...]] = (
    sa.select(attempts.c.source_id, sources.c.tenant_id, sa.func.min(attempts.c.next_at).label("next_at"))
    .join_from(attempts, sources, sources.c.id == attempts.c.source_id)
    .where(_IS_DUE)
    .group_by(attempts.c.source_id, sources.c.tenant_id)
)

_DUE: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        attempts.c.id,
        attempts.c.outcome,
        attempts.c.ended_at,
        attempts.c.next_at,
        attempts.c.looks,
        deliveries.c.received_at,
    )
    .join_from(attempts, deliveries, deliveries.c.id == attempts.c.id)
    .where(_IS_DUE, attempts.c.source_id == sa.bindparam("source"))
    .order_by(attempts.c.next_at)
    .limit(A_TURN)
)
