"""Sources that fall silent: told in the log once when nothing has come for too long, and once when that is over.

    silence = Silence(records)
    silence.watch()             # in a thread, every few seconds

A source is *expected* while it is enabled and has an `expect_every`. It is silent when more than that has passed since
the latest of these:

- its last delivery that was authenticated, whatever became of it: recorded, duplicate, mismatch, ignored, quarantined,
  turned away for its rate, or not kept because that could not be. What was not authenticated came from anybody; what
  was relayed, or read from the provider's record, was asked for.
- when it was first seen to be expected: after it was added or enabled, or given its `expect_every`.
- when the service came up: an outage of ours is no silence of theirs. Any receiver that runs keeps the service up, and
  a break of at most `OUTAGE` is none. A receiver that cannot reach the database for longer has to wait anew.

It is silent no more once a delivery comes, or when it is not expected any more: so each beginning has its end. Both are
told under the log's lock, by whichever receiver sees it first, and by no other.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver.events import Kind, format_time, parse_time
from receiver.records.findings import Finding, keep
from receiver.records.heard import OUTAGE, last_heard, note_expected, up_since
from receiver.records.journal import Changing, change
from receiver.records.opening import Records, Tenant
from receiver.records.tables import heard, sources

BEGAN, ENDED = "began", "ended"


class Silence:
    """One process's watch. All that it remembers is when it looked last, and since when it could."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._looked: datetime | None = None
        self._since = datetime.min.replace(tzinfo=UTC)

    def watch(self, now: datetime | None = None) -> None:
        """Look at every source once, and tell of those that fell silent, or are silent no more. Waits for locks.

        `now` is by our clock, in UTC. Raises SQLAlchemy's errors for a database out of reach, and StoreError; what this
        look left, the next one finds.
        """
        now = datetime.now(UTC) if now is None else now
        with self._records.database.read() as tx:
            rows = tx.execute(_WATCHED).all()
            longest = max((row.expect_every or 0 for row in rows), default=0)
            up = up_since(tx, now, timedelta(seconds=longest))
        if self._looked is not None and now - self._looked > OUTAGE:
            self._since = now
        self._looked, up = now, max(up, self._since)
        self._expect(rows, now)
        tenants = {tenant.id: tenant for tenant in self._records.tenants}
        for row in rows:
            # A tenant that was made a moment ago may not be known here yet.
            if row.tenant_id in tenants and (row.silent_since is not None or _is_late(row, row.at, up, now)):
                self._judge(tenants[row.tenant_id], row.id, up, now)

    def _expect(self, rows: Sequence[sa.Row[Any]], now: datetime) -> None:
        """Note which sources are expected from now on, and which are not any more."""
        changed = [row for row in rows if _is_expected(row) != (row.expected_since is not None)]
        if changed:
            with self._records.database.write() as tx:
                note_expected(tx, {row.id: format_time(now) if _is_expected(row) else None for row in changed})

    def _judge(self, tenant: Tenant, source_id: str, up: datetime, now: datetime) -> None:
        """Decide, of a source that may have fallen silent or may be heard of again: first without the lock."""
        with self._records.database.read() as tx:
            if _due(tx, tenant, source_id, up, now) is None:
                return
        with change(self._records.database, tenant.log) as changing:
            due = _due(changing.tx, tenant, source_id, up, now)
            if due is not None:
                _tell(changing, tenant, *due)


def _due(
    tx: sa.Connection, tenant: Tenant, source_id: str, up: datetime, now: datetime
) -> tuple[sa.Row[Any], str] | None:
    """The source's row and since when it is silent, if there is something to tell: that it is, or is no more."""
    row = tx.execute(_SOURCE.where(sources.c.id == source_id)).one()
    last = last_heard(tx, tenant.log_id, source_id)
    if row.silent_since is None:
        return (row, last or row.expected_since) if _is_late(row, last, up, now) else None
    heard_again = last is not None and last > row.silent_since
    return (row, row.silent_since) if heard_again or not _is_expected(row) else None


def _tell(changing: Changing, tenant: Tenant, row: sa.Row[Any], since: str) -> None:
    begins = row.silent_since is None
    its = sa.update(sources).where(sources.c.id == row.id)
    changing.tx.execute(its.values(silent_since=since if begins else None))
    facts = {"provider": row.provider, "since": since, "source": row.id}
    keep(changing, tenant, Finding(Kind.SILENCE, BEGAN if begins else ENDED, facts, source_id=row.id))


def _is_expected(row: sa.Row[Any]) -> bool:
    return row.enabled and row.expect_every is not None


def _is_late(row: sa.Row[Any], last: str | None, up: datetime, now: datetime) -> bool:
    """Whether nothing has come for too long, if the last delivery came then. What is only now expected is not late."""
    if not _is_expected(row) or row.expected_since is None:
        return False
    since = max(parse_time(max(last or "", row.expected_since)), up)
    return now - since > timedelta(seconds=row.expect_every)


_SOURCE: sa.Select[*tuple[Any, ...]] = sa.select(
    sources.c.id,
    sources.c.tenant_id,
    sources.c.provider,
    sources.c.enabled,
    sources.c.expect_every,
    sources.c.silent_since,
    heard.c.at,
    heard.c.expected_since,
).join_from(sources, heard, heard.c.source_id == sources.c.id, isouter=True)

_WATCHED = _SOURCE.where(
    sa.or_(
        sources.c.expect_every.is_not(None),
        sources.c.silent_since.is_not(None),
        heard.c.expected_since.is_not(None),
    )
).order_by(sources.c.id)


__all__ = ["BEGAN", "ENDED", "Silence"]
