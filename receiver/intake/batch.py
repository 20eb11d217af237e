"""One batch of submissions, in one transaction: what is known is found, the rest judged, appended and inserted.

Everything between the locks and the commit happens under the heads' locks, so a plain SELECT finds what is already
known without races, and the rules see every earlier event of an item. The unique index on `dedupe_key` is only the
net below that.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from receiver.events import Breach, Effect, Kind, Past, format_time, new_id
from receiver.intake.submission import Outcome, Status, Submission
from receiver.records.engine import Database
from receiver.records.journal import logging_time
from receiver.records.keyed import mismatch_key
from receiver.records.tables import deliveries
from translog.canonical import SALT_SIZE, Value
from translog.evidence import Delivery, Leaf, Opening
from translog.log import Log
from translog.merkle import leaf_hash
from translog.store import BulkInsert, Head, entries

MISMATCH_REASON = "content_differs"

_COLUMNS = (
    "id",
    "log_id",
    "log_index",
    "source_id",
    "kind",
    "via",
    "scheme",
    "event",
    "effect",
    "reason",
    "first_id",
    "breaches",
    "test",
    "received_at",
    "logged_at",
    "occurred_at",
    "dedupe_key",
    "digest",
    "item_key",
    "event_data",
    "event_salt",
    "headers",
    "body",
    "delivery_salt",
)


@dataclass(slots=True)
class _Kept:
    """A delivery that has its row, or will have it when the batch is committed."""

    id: str
    kind: Kind
    content_key: bytes
    reason: str | None = None
    first_id: str | None = None
    breaches: tuple[Breach, ...] = ()
    log_index: int = -1
    leaf_hash: bytes = b""

    def outcome(self, *, new: bool) -> Outcome:
        """What a delivery is answered that became this one, or (not `new`) is another like it."""
        if self.kind is Kind.QUARANTINE:
            return Outcome(Status.QUARANTINED, self.id, self.log_index, self.leaf_hash, self.reason, new)
        if self.kind is Kind.MISMATCH:
            first = self.first_id or self.id
            return Outcome(Status.MISMATCH, first, self.log_index, self.leaf_hash, MISMATCH_REASON, new)
        status = Status.RECORDED if new else Status.DUPLICATE
        return Outcome(status, self.id, self.log_index, self.leaf_hash, None, new)


def write_batch(database: Database, batch: Sequence[Submission]) -> list[Outcome]:
    """Write a batch and give each one's outcome, in order. When this returns, they are durable."""
    logs = {submission.tenant.log_id: submission.tenant.log for submission in batch}
    heads: list[tuple[Log, Head]] = []
    with database.write() as tx:
        # In the order of ids, so that two receivers never wait for each other's second lock.
        locked = {log_id: logs[log_id].lock(tx) for log_id in sorted(logs)}
        answers, new = _decide(tx, batch, {log_id: head.size for log_id, head in locked.items()})
        for log_id, head in locked.items():
            mine = [(submission, kept) for submission, kept in new if submission.tenant.log_id == log_id]
            if mine:
                heads.append((logs[log_id], _append(tx, database.dialect, logs[log_id], head, mine)))
    for log, head in heads:
        log.confirm(head)
    fresh = {id(kept) for _, kept in new}
    outcomes: list[Outcome] = []
    for kept in answers:
        outcomes.append(kept.outcome(new=id(kept) in fresh))
        fresh.discard(id(kept))
    return outcomes


# ---- what is known, and what is new ---------------------------------------------------------------------------------


def _decide(
    tx: sa.Connection, batch: Sequence[Submission], sizes: dict[int, int]
) -> tuple[list[_Kept], list[tuple[Submission, _Kept]]]:
    """What each submission is answered with, in order, and those of them that are to be written.

    `sizes` are the logs' sizes by id; they are counted up as indexes are given out.
    """
    kept = _find(tx, {submission.dedupe_key for submission in batch})
    past = _history(tx, {submission.item_key for submission in batch if submission.dedupe_key not in kept})
    answers: list[_Kept] = []
    new: list[tuple[Submission, _Kept]] = []
    for submission in batch:
        key = submission.dedupe_key
        first = kept.get(key)
        if first is not None and first.content_key != submission.content_key:
            key = mismatch_key(submission.tenant.hash_key, key, submission.content_key)
            kept.update(_find(tx, {key} - kept.keys()))
        this = kept.get(key)
        if this is None:
            log_id = submission.tenant.log_id
            this = kept[key] = _judge(submission, sizes[log_id], first, past)
            sizes[log_id] += 1
            new.append((submission, this))
        answers.append(this)
    return answers, new


def _judge(submission: Submission, index: int, first: _Kept | None, past: dict[bytes | None, list[Past]]) -> _Kept:
    """What a new delivery becomes at that index, and the provider's rules that it breaks."""
    event, content = submission.event, submission.content_key
    if first is not None:
        return _Kept(new_id(), Kind.MISMATCH, content, first_id=first.id, log_index=index)
    if event is None or submission.event_data is None:
        return _Kept(new_id(), Kind.QUARANTINE, content, reason=submission.reason, log_index=index)
    earlier = past.setdefault(submission.item_key, [])
    breaches = submission.provider.check(event, submission.received_at, submission.replay_window, earlier)
    earlier.append(Past.of(event.kind, event.type, event.effect, index, submission.event_data))
    return _Kept(new_id(), event.kind, content, breaches=breaches, log_index=index)


def _find(tx: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, _Kept]:
    wanted = list(keys)
    if not wanted:
        return {}
    rows = tx.execute(_FIND, {"keys": wanted})
    return {
        bytes(row.dedupe_key): _Kept(
            id=row.id,
            kind=Kind(row.kind),
            content_key=bytes(row.digest),
            reason=row.reason,
            first_id=row.first_id,
            log_index=row.log_index,
            leaf_hash=leaf_hash(bytes(row.entry)),
        )
        for row in rows
    }


def _history(tx: sa.Connection, item_keys: Iterable[bytes | None]) -> dict[bytes | None, list[Past]]:
    wanted = [key for key in item_keys if key is not None]
    past: dict[bytes | None, list[Past]] = {}
    for row in tx.execute(_HISTORY, {"keys": wanted}) if wanted else ():
        effect = None if row.effect is None else Effect(row.effect)
        past.setdefault(bytes(row.item_key), []).append(
            Past.of(Kind(row.kind), row.event, effect, row.log_index, bytes(row.event_data))
        )
    return past


_FIND = (
    sa.select(
        deliveries.c.id,
        deliveries.c.kind,
        deliveries.c.reason,
        deliveries.c.first_id,
        deliveries.c.log_index,
        deliveries.c.dedupe_key,
        deliveries.c.digest,
        entries.c.data.label("entry"),
    )
    .join_from(
        deliveries,
        entries,
        sa.and_(entries.c.log_id == deliveries.c.log_id, entries.c.index == deliveries.c.log_index),
    )
    .where(deliveries.c.dedupe_key.in_(sa.bindparam("keys", expanding=True)))
)

_HISTORY = (
    sa.select(
        deliveries.c.kind,
        deliveries.c.event,
        deliveries.c.effect,
        deliveries.c.log_index,
        deliveries.c.item_key,
        deliveries.c.event_data,
    )
    .where(
        deliveries.c.item_key.in_(sa.bindparam("keys", expanding=True)),
        deliveries.c.event_data.is_not(None),  # an erased event no longer says anything
        deliveries.c.kind.in_((Kind.REVOCATION, Kind.CONTEXT)),
    )
    .order_by(deliveries.c.log_id, deliveries.c.log_index)
)


# ---- what is written ------------------------------------------------------------------------------------------------


def _append(
    tx: sa.Connection, dialect: sa.Dialect, log: Log, head: Head, new: Sequence[tuple[Submission, _Kept]]
) -> Head:
    """Append the leaves of what is new to one log, and insert the rows."""
    now = logging_time(head)
    salts = os.urandom(2 * SALT_SIZE * len(new))
    leaves: list[bytes] = []
    rows: list[tuple[object, ...]] = []
    for at, (submission, kept) in zip(range(0, len(salts), 2 * SALT_SIZE), new, strict=True):
        event_salt, delivery_salt = salts[at : at + SALT_SIZE], salts[at + SALT_SIZE : at + 2 * SALT_SIZE]
        received_at = format_time(submission.received_at)
        event, event_data = submission.event, submission.event_data
        if kept.kind is Kind.MISMATCH or event is None or event_data is None:
            event, event_data, event_salt = None, None, None
        committed = None if event_data is None or event_salt is None else Opening(event_data, event_salt)
        delivery = Opening(Delivery(submission.headers, submission.body).encode(), delivery_salt)
        leaf = Leaf(
            kind=kept.kind,
            id=kept.id,
            logged_at=now,
            facts=_facts(submission, kept, received_at),
            event=None if committed is None else committed.commitment("event"),
            delivery=delivery.commitment("delivery"),
        )
        leaves.append(leaf.encode())
        rows.append(
            (
                kept.id,
                submission.tenant.log_id,
                kept.log_index,
                submission.source_id,
                kept.kind.value,
                submission.via.value,
                submission.scheme,
                None if event is None else event.type,
                None if event is None or event.effect is None else event.effect.value,
                kept.reason,
                kept.first_id,
                json.dumps([[breach.code, breach.message] for breach in kept.breaches]) if kept.breaches else None,
                submission.test,
                received_at,
                now,
                None if event is None or event.occurred_at is None else format_time(event.occurred_at),
                _row_key(submission, kept),
                submission.content_key,
                None if event is None else submission.item_key,
                event_data,
                event_salt,
                json.dumps(submission.headers),
                submission.body,
                delivery_salt,
            )
        )
    appended = log.append(tx, leaves, now)
    for (_, kept), hashed in zip(new, appended.leaf_hashes, strict=True):
        kept.leaf_hash = hashed
    _insert(dialect)(tx, rows)
    return appended.head


def _row_key(submission: Submission, kept: _Kept) -> bytes:
    if kept.kind is Kind.MISMATCH:
        return mismatch_key(submission.tenant.hash_key, submission.dedupe_key, submission.content_key)
    return submission.dedupe_key


def _facts(submission: Submission, kept: _Kept, received_at: str) -> dict[str, Value]:
    """The public facts of a leaf, each kind's closed list: never personal, never erased."""
    facts: dict[str, Value] = {
        "provider": submission.provider.name,
        "received_at": received_at,
        "source": submission.source_id,
    }
    event = submission.event
    if kept.kind is Kind.QUARANTINE:
        facts["reason"] = kept.reason
    elif kept.kind is Kind.MISMATCH:
        facts["first"] = kept.first_id
    elif event is not None:
        facts["breaches"] = [breach.code for breach in kept.breaches]
        facts["effect"] = event.effect
        facts["event"] = event.type
        facts["scheme"] = submission.scheme
        facts["secret"] = submission.secret_id
        facts["test"] = submission.test
        facts["via"] = submission.via
    return facts


@cache
def _insert(dialect: sa.Dialect) -> BulkInsert:
    insert = BulkInsert(sa.insert(deliveries), dialect)
    if insert.columns != list(_COLUMNS):
        raise AssertionError(f"rows are made in the order {_COLUMNS}, the table's is {insert.columns}")
    return insert
