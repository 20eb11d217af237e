"""One batch of submissions, in one transaction: what is known is found, the rest judged, appended and inserted.

Everything between the locks and the commit happens under the heads' locks, so a plain SELECT finds what is already
known without races, and the rules see every earlier event of an item. The unique index on the keys is only the net
below that.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from receiver import encoding
from receiver.events import Breach, Effect, Event, Kind, Past, format_time, may_be_one_account, new_ids, parse_time
from receiver.intake.submission import Outcome, Status, Submission
from receiver.records import attempts
from receiver.records.attempts import Attempt, Ended
from receiver.records.engine import Database
from receiver.records.journal import logging_time
from receiver.records.keyed import mismatch_key
from receiver.records.tables import deliveries
from translog.canonical import SALT_SIZE, Value, commitment
from translog.evidence import LEAF_VERSION
from translog.log import Log
from translog.merkle import leaf_hash
from translog.store import BulkInsert, Head, entries

MISMATCH_REASON = "content_differs"

_write_json = msgspec.json.encode

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
    "group_key",
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
    dedupe_key: bytes
    content_key: bytes
    reason: str | None = None
    first_id: str | None = None
    breaches: tuple[Breach, ...] = ()
    event: Event | None = None  # as it is recorded, if it is one and is written now
    log_index: int = -1
    logged_at: str = ""  # if it is written now
    log_id: int | None = None  # where it is to be read from; None if it is written now
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
    with database.write() as tx:
        # In the order of ids, so that two receivers never wait for each other's second lock.
        written = write_locked(tx, batch, {log_id: logs[log_id].lock(tx) for log_id in sorted(logs)})
    written.confirm()
    return written.outcomes


class Written(NamedTuple):
    """What a batch came to: each one's outcome, in order, and the heads of the logs that have grown."""

    outcomes: list[Outcome]
    heads: list[tuple[Log, Head]]

    def confirm(self) -> None:
        """Have the logs remember that this was committed: only after the commit."""
        for log, head in self.heads:
            log.confirm(head)


def write_locked(tx: sa.Connection, batch: Sequence[Submission], locked: Mapping[int, Head]) -> Written:
    """Write a batch in a transaction that has the logs of its tenants locked: their heads, by the logs' ids.

    Nothing of it is durable, and nothing may be acknowledged, before the caller's commit.
    """
    logs = {submission.tenant.log_id: submission.tenant.log for submission in batch}
    heads: list[tuple[Log, Head]] = []
    answers, new = _decide(tx, batch, {log_id: head.size for log_id, head in locked.items()})
    for log_id, head in locked.items():
        mine = [(submission, kept) for submission, kept in new if submission.tenant.log_id == log_id]
        if mine:
            heads.append((logs[log_id], _append(tx, logs[log_id], head, mine)))
    _note_attempts(tx, new)
    fresh = {id(kept) for _, kept in new}
    outcomes: list[Outcome] = []
    for kept in answers:
        outcomes.append(kept.outcome(new=id(kept) in fresh))
        fresh.discard(id(kept))
    return Written(outcomes, heads)


# ---- what is known, and what is new ---------------------------------------------------------------------------------


class _Known:
    """What the database and this batch hold already of the groups that a batch is about."""

    def __init__(self, tx: sa.Connection, batch: Sequence[Submission]) -> None:
        self._tx = tx
        self._by_key: dict[tuple[bytes, bytes], _Kept] = {}
        self._rows: dict[tuple[bytes, bool], list[sa.Row[Any]]] = {}  # of events, by item; tests apart from the rest
        self._past: dict[tuple[bytes, bool], list[Past]] = {}
        for row in self._select(_BY_GROUP, {one.group_key for one in batch}):
            kept = _Kept(
                id=row.id,
                kind=Kind(row.kind),
                dedupe_key=bytes(row.dedupe_key),
                content_key=bytes(row.digest),
                reason=row.reason,
                first_id=row.first_id,
                log_index=row.log_index,
                log_id=row.log_id,
            )
            self.add(bytes(row.group_key), kept)
            self._remember(row)
        events = filter(_is_event, batch)
        apart = {one.item_key for one in events if one.item_key is not None and one.item_key != one.group_key}
        for row in self._select(_BY_ITEM, apart):
            self._remember(row)

    def find(self, group: bytes, key: bytes) -> _Kept | None:
        """The delivery with that key, or None."""
        return self._by_key.get((group, key))

    def add(self, group: bytes, kept: _Kept) -> None:
        """Know one more from now on: what was found, or is going to be written."""
        self._by_key[group, kept.dedupe_key] = kept

    def past(self, item: bytes, *, test: bool) -> list[Past]:
        """The events of an item so far, tests or the others, in the log's order: a list to append to."""
        past = self._past.get((item, test))
        if past is None:
            past = self._past[item, test] = [
                Past.of(
                    Kind(row.kind),
                    row.event,
                    None if row.effect is None else Effect(row.effect),
                    parse_time(row.received_at),
                    row.log_index,
                    bytes(row.event_data),
                )
                for row in self._rows.get((item, test), ())
            ]
        return past

    def fill_in(self, answers: Iterable[_Kept]) -> None:
        """Read the leaf hashes of those that were written before this batch."""
        for kept in answers:
            if not kept.leaf_hash and kept.log_id is not None:
                entry = self._tx.execute(
                    sa.select(entries.c.data).where(entries.c.log_id == kept.log_id, entries.c.index == kept.log_index)
                ).scalar_one()
                kept.leaf_hash = leaf_hash(bytes(entry))

    def _remember(self, row: sa.Row[Any]) -> None:
        if row.event_data is not None and row.kind in _EVENTS:  # an erased event no longer says anything
            self._rows.setdefault((bytes(row.item_key), row.test), []).append(row)

    def _select(self, query: sa.Select[*tuple[Any, ...]], keys: Iterable[bytes]) -> Iterable[sa.Row[Any]]:
        wanted = list(keys)
        return self._tx.execute(query, {"keys": wanted}).all() if wanted else ()


def _decide(
    tx: sa.Connection, batch: Sequence[Submission], sizes: dict[int, int]
) -> tuple[list[_Kept], list[tuple[Submission, _Kept]]]:
    """What each submission is answered with, in order, and those of them that are to be written.

    `sizes` are the logs' sizes by id; they are counted up as indexes are given out.
    """
    known = _Known(tx, batch)
    ids = new_ids(2 * len(batch))
    answers: list[_Kept] = []
    new: list[tuple[Submission, _Kept]] = []
    ended = attempts.ended(tx, [one.attempt.id for one in batch if one.attempt is not None])
    for one in batch:
        first = this = known.find(one.group_key, one.dedupe_key)
        key = one.dedupe_key
        if first is not None and first.content_key != one.content_key:
            key = mismatch_key(one.tenant.hash_key, one.dedupe_key, one.content_key)
            this = known.find(one.group_key, key)
        if this is None:
            log_id = one.tenant.log_id
            this = _judge(one, key, next(ids), sizes[log_id], first, known)
            sizes[log_id] += 1
            known.add(one.group_key, this)
            new.append((one, this))
        elif _is_event(one) and one.attempt is not None and one.attempt.id not in ended:
            answer = one.answered(Ended.DUPLICATE, first_id=this.id)
            new.append((answer, _judge(answer, answer.dedupe_key, next(ids), sizes[one.tenant.log_id], None, known)))
            sizes[one.tenant.log_id] += 1
        if _is_event(one) and one.attempt is not None:
            ended.add(one.attempt.id)
        answers.append(this)
    known.fill_in(answers)
    return answers, new


def _is_event(submission: Submission) -> bool:
    return submission.event is not None and submission.event.kind is not Kind.ATTEMPT


def _judge(submission: Submission, key: bytes, new_id: str, index: int, first: _Kept | None, known: _Known) -> _Kept:
    """What a new delivery becomes under that key and at that index, and the provider's rules that it breaks."""
    event, content = submission.event, submission.content_key
    if first is not None:
        return _Kept(new_id, Kind.MISMATCH, key, content, first_id=first.id, log_index=index)
    if event is None or submission.item_key is None:
        return _Kept(new_id, Kind.QUARANTINE, key, content, reason=submission.reason, log_index=index)
    if event.kind is Kind.ATTEMPT and submission.attempt is not None:
        attempt = submission.attempt
        its_id = attempt.id if attempt.ended is None else new_id
        return _Kept(its_id, event.kind, key, content, attempt.ended, attempt.first_id, event=event, log_index=index)
    past = known.past(submission.item_key, test=submission.test)
    provider = submission.provider
    same = [one for one in past if may_be_one_account(one.account, event.account)]
    if provider.complete is not None:
        event = provider.complete(event, same)
    breaches = provider.check(event, submission.received_at, submission.replay_window, same)
    past.append(Past.from_event(event, submission.received_at, index))
    return _Kept(new_id, event.kind, key, content, breaches=breaches, event=event, log_index=index)


_EVENTS = (Kind.REVOCATION.value, Kind.CONTEXT.value)
_FOUND = sa.select(
    deliveries.c.id,
    deliveries.c.kind,
    deliveries.c.event,
    deliveries.c.effect,
    deliveries.c.reason,
    deliveries.c.first_id,
    deliveries.c.test,
    deliveries.c.received_at,
    deliveries.c.log_id,
    deliveries.c.log_index,
    deliveries.c.group_key,
    deliveries.c.dedupe_key,
    deliveries.c.digest,
    deliveries.c.item_key,
    deliveries.c.event_data,
).order_by(deliveries.c.log_id, deliveries.c.log_index)
_BY_GROUP = _FOUND.where(deliveries.c.group_key.in_(sa.bindparam("keys", expanding=True)))
_BY_ITEM = _FOUND.where(
    deliveries.c.item_key.in_(sa.bindparam("keys", expanding=True)),
    deliveries.c.item_key != deliveries.c.group_key,
    deliveries.c.kind != Kind.ATTEMPT.value,
)


# ---- what is written ------------------------------------------------------------------------------------------------


def _append(tx: sa.Connection, log: Log, head: Head, new: Sequence[tuple[Submission, _Kept]]) -> Head:
    """Append the leaves of what is new to one log, and insert the rows."""
    now = logging_time(head, format_time(max(submission.received_at for submission, _ in new)))
    salts = os.urandom(2 * SALT_SIZE * len(new))
    leaves: list[bytes] = []
    rows: list[tuple[object, ...]] = []
    for at, (submission, kept) in zip(range(0, len(salts), 2 * SALT_SIZE), new, strict=True):
        event_salt, delivery_salt = salts[at : at + SALT_SIZE], salts[at + SALT_SIZE : at + 2 * SALT_SIZE]
        received_at = format_time(submission.received_at)
        event, event_data = kept.event, None
        if event is None:
            event_salt = None
        else:
            event_data = submission.event_data if event is submission.event else event.data()
        delivery = encoding.delivery_data(submission.headers, submission.body)
        leaf = {
            "v": LEAF_VERSION,
            "kind": kept.kind,
            "id": kept.id,
            "logged_at": now,
            "facts": _facts(submission, kept, received_at),
            "event": None if event_data is None else commitment(event_salt or b"", "event", event_data),
            "delivery": commitment(delivery_salt, "delivery", delivery),
        }
        leaves.append(encoding.canonical(leaf))
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
                None if not kept.breaches else _write_json([[one.code, one.message] for one in kept.breaches]).decode(),
                submission.test,
                received_at,
                now,
                None if event is None or event.occurred_at is None else format_time(event.occurred_at),
                submission.group_key,
                kept.dedupe_key,
                submission.content_key,
                None if event is None else submission.item_key,
                event_data,
                event_salt,
                _write_json(submission.headers).decode(),
                submission.body,
                delivery_salt,
            )
        )
    appended = log.append(tx, leaves, now)
    for (_, kept), hashed in zip(new, appended.leaf_hashes, strict=True):
        kept.leaf_hash, kept.logged_at = hashed, now
    _insert(tx.dialect)(tx, rows)
    return appended.head


def _facts(submission: Submission, kept: _Kept, received_at: str) -> dict[str, Value]:
    """The public facts of a leaf, each kind's closed list: never personal, never erased."""
    facts: dict[str, Value] = {
        "provider": submission.provider.name,
        "received_at": received_at,
        "source": submission.source_id,
    }
    if submission.quarantine_id is not None:
        facts["reprocessed"] = submission.quarantine_id
    attempt = submission.attempt
    if kept.kind is Kind.ATTEMPT and attempt is not None:
        return facts | _facts_of_attempt(submission, attempt)
    if attempt is not None:
        facts["attempt"] = attempt.id
    event = kept.event
    if kept.kind is Kind.QUARANTINE:
        facts["reason"] = kept.reason
        facts["scheme"] = submission.scheme
        facts["secret"] = submission.secret_id
        facts["test"] = submission.test
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


def _facts_of_attempt(submission: Submission, attempt: Attempt) -> dict[str, Value]:
    """An intent says who called which operation, an answer what became of that."""
    facts: dict[str, Value] = {"event": submission.provider.operation.name, "test": submission.test}
    if attempt.ended is None:
        return {**facts, "key": attempt.key_id}
    effect = None if submission.event is None else submission.event.effect
    return {
        **facts,
        "attempt": attempt.id,
        "effect": effect,
        "first": attempt.first_id,
        "outcome": attempt.ended,
        "status": attempt.status,
    }


_ENDED = {
    Kind.REVOCATION: Ended.RECORDED,
    Kind.CONTEXT: Ended.RECORDED,
    Kind.MISMATCH: Ended.MISMATCH,
    Kind.QUARANTINE: Ended.QUARANTINED,
}


def _note_attempts(tx: sa.Connection, new: Iterable[tuple[Submission, _Kept]]) -> None:
    """Keep beside the rows of calls that were passed on what became of these; their rows are written."""
    for submission, kept in new:
        attempt = submission.attempt
        if attempt is None:
            continue
        if kept.kind is Kind.ATTEMPT and attempt.ended is None:
            attempts.begin(tx, submission.source_id, attempt)
            continue
        effect = None if kept.event is None else kept.event.effect
        follow = effect is not None and effect.under_way and submission.provider.operation.lookup is not None
        attempts.end(tx, attempt, attempt.ended or _ENDED[kept.kind], kept.id, kept.logged_at, follow=follow)


@cache
def _insert(dialect: sa.Dialect) -> BulkInsert:
    insert = BulkInsert(sa.insert(deliveries), dialect)
    if insert.columns != list(_COLUMNS):
        raise AssertionError(f"rows are made in the order {_COLUMNS}, the table's is {insert.columns}")
    return insert
