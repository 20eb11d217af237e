"""The outbox: what is to be passed on, from the log's entries until it was taken.

    fill       go through the log for each subscription, and put down what is wanted of it
    claim      take what is due, and put it off for as long as a try may take
    settle     what came of the tries: taken messages are removed, others put off, or given up

Nothing of this is on the way of a delivery. Where a subscription stands in the log and what it has in its outbox change
in one transaction, so that a crash leaves out nothing and puts nothing down twice; what was taken just before a crash
is sent once more, with the same id. Any number of receivers do this together: whoever changes rows of an outbox has its
subscription's row locked, several in the order of their ids, and a row that is claimed is not due for the others.

A message that is not taken is tried again as Standard Webhooks advises, ten times within three days, and then given up:
it stays, with the reason, until it is replayed or its subscription is removed. Of one subscription a thousand messages
wait at most, and the rest of them in the log: an endpoint that is away for a week does not fill the database.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from receiver.assurance.messages import Message, of_entry
from receiver.assurance.sending import Result
from receiver.assurance.subscribing import KINDS, open_key
from receiver.events import format_time, new_id
from receiver.records.opening import Records, VaultError
from receiver.records.tables import deliveries, findings, log_keys, outbox, subscriptions, tenants
from translog.store import logs

WAITS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
"""How long after each try the next one is made; after the last there is none."""

JITTER = 0.2
"""By up to this part of it a wait is longer, at random: what failed together is not sent together again."""

LONGEST_WAIT = timedelta(days=1)
"""An endpoint that asks to be left alone for longer is tried after this."""

LEASE = timedelta(seconds=30)
"""What is being sent is not due for so long. It is longer than a try takes; after a crash it is sent again then."""

MOST_WAITING = 1000
"""Messages of one subscription in its outbox that are not given up."""

SPAN = 2000
"""Entries that are gone through for a subscription in one transaction."""

STEP = 200
"""Entries after which its place is moved though it wants none of them: fewer are looked at again, which costs less."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message to be sent now, by whoever has it. Without a `message` there is none that could be: `problem`."""

    id: str
    subscription_id: str
    tenant_id: int
    url: str
    lease: str
    """When it is due again, unless it is settled before."""
    tries: int
    """With this one."""
    key: bytes = field(repr=False)
    message: Message | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """A subscription with messages that are due, whose it is, and since when the first of them is."""

    subscription_id: str
    tenant_id: int
    since: str


def fill(records: Records) -> bool:
    """Put down what is wanted of entries that were not gone through yet, a piece for each subscription.

    Whether there may be more of it now. Waits for locks; raises SQLAlchemy's errors.
    """
    with records.database.read() as tx:
        behind = [row.id for row in tx.execute(_BEHIND) if _has_work(tx, row)]
    if not behind:
        return False
    with records.database.write() as tx:
        moved = [_fill(tx, row) for row in _lock(tx, behind)]
    return any(moved)


def due(tx: sa.Connection, now: datetime) -> list[Due]:
    """The subscriptions that have messages which are due, those first that have waited longest."""
    return [Due(row.subscription_id, row.tenant_id, row.since) for row in tx.execute(_DUE, {"now": format_time(now)})]


def waiting(tx: sa.Connection) -> int:
    """How many messages are in all outboxes, without those that were given up."""
    return tx.execute(sa.select(sa.func.count()).where(outbox.c.due_at.is_not(None))).scalar_one()


def claim(records: Records, shares: Mapping[str, int], now: datetime) -> list[Claimed]:
    """Take messages that are due: of each subscription, by its id, as many at most."""
    lease = format_time(now + LEASE)
    claimed: list[tuple[sa.Row[Any], sa.Row[Any]]] = []
    with records.database.write() as tx:
        for row in _lock(tx, shares):
            its = sa.and_(outbox.c.subscription_id == row.id, outbox.c.due_at <= format_time(now))
            first = sa.select(outbox).where(its).order_by(outbox.c.due_at, outbox.c.id).limit(shares[row.id])
            for one in tx.execute(first).all() if row.enabled else ():
                this = sa.update(outbox).where(outbox.c.id == one.id)
                tx.execute(this.values(due_at=lease, tries=outbox.c.tries + 1))
                claimed.append((row, one))
    with records.database.read() as tx:
        return [_claimed(tx, records, row, one, lease) for row, one in claimed]


def settle(records: Records, results: Sequence[tuple[Claimed, Result]], now: datetime) -> None:
    """Keep what came of these. One that was put off by somebody else meanwhile, or replayed, stays as it is then."""
    with records.database.write() as tx:
        locked = {row.id for row in _lock(tx, {one.subscription_id for one, _ in results})}
        for one, result in results:
            if one.subscription_id not in locked:
                continue  # it was removed
            mine = sa.and_(outbox.c.id == one.id, outbox.c.due_at == one.lease)
            if result.failure is None:
                tx.execute(sa.delete(outbox).where(mine))
            else:
                later = again(one.tries, result.retry_after)
                at = None if later is None else format_time(now + later)
                tx.execute(sa.update(outbox).where(mine).values(due_at=at, failure=result.failure))


def again(tries: int, retry_after: timedelta | None = None) -> timedelta | None:
    """How long after so many tries the next one is made; None: it is given up.

    An endpoint that asks to be left alone is, for a day at most; it is not tried more often for that.
    """
    if tries > len(WAITS):
        return None
    wait = WAITS[tries - 1] * (1 + JITTER * random.random())  # noqa: S311  (no secret is made of it)
    return wait if retry_after is None else max(wait, min(retry_after, LONGEST_WAIT))


# ---- filling --------------------------------------------------------------------------------------------------------


def _has_work(tx: sa.Connection, row: sa.Row[Any]) -> bool:
    """Whether it is worth a transaction: there is room and something to put in it, or much that need not be."""
    start, end = _range(row)
    stop = min(end, start + SPAN)
    must_move = row.log_id != row.live_log_id or stop == row.replay_end or stop - start >= STEP
    return _room(tx, row.id) > 0 and (must_move or bool(_wanted(tx, row, 1)))


def _fill(tx: sa.Connection, row: sa.Row[Any]) -> bool:
    """Put down the next piece of a subscription whose row is locked; whether it is further now."""
    start, end = _range(row)
    its = sa.update(subscriptions).where(subscriptions.c.id == row.id)
    if start >= end:
        successor = sa.select(sa.func.min(log_keys.c.log_id)).where(
            log_keys.c.tenant_id == row.tenant_id, log_keys.c.log_id > row.log_id
        )
        if row.log_id == row.live_log_id:
            return False
        tx.execute(its.values(log_id=successor.scalar_subquery(), next_index=0))
        return True
    room = _room(tx, row.id)
    if not row.enabled or room == 0:
        return False
    found = _wanted(tx, row, room)
    stop = found[-1] + 1 if len(found) == room else min(end, start + SPAN)
    _put(tx, row, found)
    if row.replay_next is None:
        tx.execute(its.values(next_index=stop))
    else:
        left = (None, None) if stop >= end else (stop, end)
        tx.execute(its.values(replay_next=left[0], replay_end=left[1]))
    return True


def _put(tx: sa.Connection, row: sa.Row[Any], indexes: Iterable[int]) -> None:
    """What is there already, for it was replayed while it waited or after it was given up, is as new."""
    insert = postgresql_insert if tx.dialect.name == "postgresql" else sqlite_insert
    now = format_time(datetime.now(UTC))
    fresh: dict[str, Any] = {"created_at": now, "tries": 0, "due_at": now, "failure": None}
    rows = [
        {"id": new_id(), "subscription_id": row.id, "log_id": row.log_id, "log_index": index, **fresh}
        for index in indexes
    ]
    if rows:
        kept = insert(outbox).on_conflict_do_update(
            index_elements=["subscription_id", "log_id", "log_index"], set_=fresh
        )
        tx.execute(kept, rows)


def _range(row: sa.Row[Any]) -> tuple[int, int]:
    """What of its log is to be gone through next: what is replayed comes first."""
    if row.replay_next is not None:
        return row.replay_next, row.replay_end
    return row.next_index, row.size


def _room(tx: sa.Connection, subscription_id: str) -> int:
    its = sa.and_(outbox.c.subscription_id == subscription_id, outbox.c.due_at.is_not(None))
    return MOST_WAITING - tx.execute(sa.select(sa.func.count()).where(its)).scalar_one()


def _wanted(tx: sa.Connection, row: sa.Row[Any], most: int) -> list[int]:
    """The first indexes of entries that it is to pass on, of the next piece."""
    start, end = _range(row)
    # A topic of a later version is none here, and must not hold up the others.
    kinds = [kind.value for topic in row.topics.split(",") for kind in KINDS.get(topic, ())]
    of_tables = [
        sa.select(table.c.log_index).where(
            table.c.log_id == row.log_id,
            table.c.log_index >= start,
            table.c.log_index < min(end, start + SPAN),
            table.c.kind.in_(kinds),
        )
        for table in (deliveries, findings)
    ]
    return list(tx.execute(sa.union_all(*of_tables).order_by("log_index").limit(most)).scalars())


def _lock(tx: sa.Connection, ids: Iterable[str]) -> Sequence[sa.Row[Any]]:
    """The rows of these subscriptions, locked, of those that are still there; in one order, so that no two wait for
    each other.
    """
    locked = sa.select(subscriptions.c.id).where(subscriptions.c.id.in_(list(ids))).order_by(subscriptions.c.id)
    there = tx.execute(locked.with_for_update()).scalars().all()
    return tx.execute(_ROWS.where(subscriptions.c.id.in_(there)).order_by(subscriptions.c.id)).all()


_ROWS: sa.Select[*tuple[Any, ...]] = (
    sa.select(subscriptions, logs.c.size, tenants.c.log_id.label("live_log_id"), tenants.c.name.label("tenant"))
    .join_from(subscriptions, tenants, tenants.c.id == subscriptions.c.tenant_id)
    .join(logs, logs.c.id == subscriptions.c.log_id)
)

_BEHIND = _ROWS.where(
    subscriptions.c.enabled,
    sa.or_(
        subscriptions.c.next_index < logs.c.size,
        subscriptions.c.log_id != tenants.c.log_id,
        subscriptions.c.replay_next.is_not(None),
    ),
)


# ---- sending --------------------------------------------------------------------------------------------------------


_SINCE = sa.func.min(outbox.c.due_at).label("since")

_DUE: sa.Select[*tuple[Any, ...]] = (
    sa.select(outbox.c.subscription_id, subscriptions.c.tenant_id, _SINCE)
    .join_from(outbox, subscriptions, subscriptions.c.id == outbox.c.subscription_id)
    .where(subscriptions.c.enabled, outbox.c.due_at <= sa.bindparam("now"))
    .group_by(outbox.c.subscription_id, subscriptions.c.tenant_id)
    .order_by(_SINCE, outbox.c.subscription_id)
)


def _claimed(tx: sa.Connection, records: Records, row: sa.Row[Any], one: sa.Row[Any], lease: str) -> Claimed:
    key, message, problem = b"", None, ""
    try:
        key = open_key(records, row.id, bytes(row.secret))
        message = of_entry(tx, row.tenant, one.log_id, one.log_index)
    except (VaultError, LookupError) as error:
        problem = f"not sent: {error}"
    return Claimed(
        id=one.id,
        subscription_id=row.id,
        tenant_id=row.tenant_id,
        url=row.url,
        lease=lease,
        tries=one.tries + 1,
        key=key,
        message=message,
        problem=problem,
    )
