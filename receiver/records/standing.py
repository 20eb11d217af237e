"""How the issuers' logs stand that sources name: how far each was read, since when, and what is wrong with it.

A log of which a tenant was told that it has forked stays among its own, with the evidence, also once no source of its
names it any more.

forked      it showed two histories: nothing of it is believed any more, and its cross-checks are frozen
failing     the last look at it failed: out of reach, or what it gave does not verify
stale       no look of late came to the end of it, so nothing can be called absent or a gap
reading     entries of its newest checkpoint are still to be read
current     all of it is read
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from receiver.events import parse_time
from receiver.records.issuer_logs import DEFAULT_FOLLOW_EVERY
from receiver.records.tables import IS_FORK, findings, issuer_logs, log_keys, sources
from translog.checkpoint import Checkpoint
from translog.follower import State
from translog.fork import Fork


class Stands(StrEnum):
    """In a word. Of several that apply the first here."""

    FORKED = "forked"
    FAILING = "failing"
    STALE = "stale"
    READING = "reading"
    CURRENT = "current"


STALE_AFTER = timedelta(seconds=60)
"""What is looked at more often is stale after so long."""

STALE_LOOKS = 5
"""What is looked at less often is stale after so many looks should have come to its end."""


def is_stale(since: datetime, every: timedelta, now: datetime) -> bool:
    """Whether it is too long since a look came to the end of a log that is looked at so often."""
    return now - since > max(STALE_AFTER, STALE_LOOKS * every)


@dataclass(frozen=True, slots=True)
class Named:
    """A source that names a log."""

    id: str
    name: str
    starts_at: int | None
    """From that entry on what was not announced is a gap; None until that is known."""
    follow_every: int
    """In seconds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A log, and how it stands. Times are as in the rows."""

    id: str
    url: str
    policy: str
    stands: Stands
    checkpoint: Checkpoint | None
    """The last verified one."""
    note: bytes | None
    """The same, as it was signed."""
    next_index: int
    """The first entry that is not read yet."""
    unreadable: int
    """Entries of a known provider that could not be read."""
    fetched_at: str | None
    complete_at: str | None
    failing_since: str | None
    failure: str | None
    fork: Fork | None
    forked_at: str | None
    sources: tuple[Named, ...]

    @property
    def label(self) -> str:
        """Its origin, or as long as that is not known its URL."""
        return self.url if self.checkpoint is None else self.checkpoint.origin


def standings(
    tx: sa.Connection, now: datetime, tenant_id: int | None = None, log_id: str | None = None
) -> list[Standing]:
    """The logs that sources name, of one tenant or of all, oldest first; one of them, if its id is given.

    And those that were named once, and were told to have forked: these have no sources.
    """
    named = {**dict.fromkeys(_told_forked(tx, tenant_id), ()), **_named(tx, tenant_id)}
    wanted = named.keys() if log_id is None else named.keys() & {log_id}
    query = sa.select(issuer_logs).where(issuer_logs.c.id.in_(wanted))
    rows = tx.execute(query.order_by(issuer_logs.c.created_at, issuer_logs.c.id)).all()
    return [_standing(row, named[row.id], now) for row in rows]


def _named(tx: sa.Connection, tenant_id: int | None) -> Mapping[str, Sequence[Named]]:
    columns = sources.c
    query = sa.select(
        columns.issuer_log_id, columns.id, columns.name, columns.issuer_log_from, columns.follow_every
    ).where(columns.issuer_log_id.is_not(None))
    if tenant_id is not None:
        query = query.where(columns.tenant_id == tenant_id)
    found: dict[str, list[Named]] = {}
    for log_id, *rest in tx.execute(query.order_by(columns.created_at, columns.id)):
        found.setdefault(log_id, []).append(Named(*rest))
    return found


def _told_forked(tx: sa.Connection, tenant_id: int | None) -> Sequence[str]:
    """The logs that entries of our own say have forked."""
    columns = findings.c
    query = sa.select(columns.issuer_log_id).where(IS_FORK, columns.issuer_log_id.is_not(None))
    if tenant_id is not None:
        its = sa.select(log_keys.c.log_id).where(log_keys.c.tenant_id == tenant_id)
        query = query.where(columns.log_id.in_(its))
    return tx.execute(query.distinct()).scalars().all()


def _standing(row: sa.Row[Any], named: Sequence[Named], now: datetime) -> Standing:
    state = State.parse(bytes(row.state))
    return Standing(
        id=row.id,
        url=row.url,
        policy=row.policy,
        stands=_stands(row, min((one.follow_every for one in named), default=DEFAULT_FOLLOW_EVERY), now),
        checkpoint=state.unverified_checkpoint(),  # it was verified before it was kept
        note=state.note,
        next_index=row.next_index,
        unreadable=row.unreadable,
        fetched_at=row.fetched_at,
        complete_at=row.complete_at,
        failing_since=row.failing_since,
        failure=row.failure,
        fork=None if row.fork is None else Fork.parse(bytes(row.fork)),
        forked_at=row.forked_at,
        sources=tuple(named),
    )


def _stands(row: sa.Row[Any], follow_every: int, now: datetime) -> Stands:
    if row.fork is not None:
        return Stands.FORKED
    if row.failing_since is not None:
        return Stands.FAILING
    # The first reading may take long, and is no staleness as long as nothing is wrong.
    since = parse_time(row.complete_at or row.fetched_at or row.created_at)
    if is_stale(since, timedelta(seconds=follow_every), now):
        return Stands.STALE
    return Stands.READING if row.complete_at is None or row.next_index < row.size else Stands.CURRENT
