"""How far each log was followed: what its row says, and the transactions that change it.

Nobody owns a row. Whatever is noted of a log is noted only if the log is still where whoever notes it began (`Place`):
the same state, the same first entry that is not read, and the same wanted. So of two receivers that read the same
entries one is too late and changes nothing; and what either kept of them is there once, for its place in the log is its
key. Progress and the entries that it is about are one transaction: a crash leaves both or neither, and they are read
again. Where there are many, all but the last of them come before, in transactions of their own, for no writer of the
database is to wait for long; after a crash these are there already.

If more is wanted than was, the log goes back to its beginning, in one transaction with that, unless it is being read
again already: then that comes to its end before. As of when it is complete stays as it was, and holds for those whose
entries were kept before; for what is new it holds once everything was read again (`receiver.assurance.wanted.Reading`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from receiver.assurance.holding import is_free, let_go
from receiver.assurance.wanted import Found, Reading, Wanted
from receiver.events import Kind, format_time, parse_time
from receiver.records.findings import Finding, keep
from receiver.records.issuer_logs import IssuerLog, Naming, followed
from receiver.records.journal import change
from receiver.records.keyed import item_key, operation_key
from receiver.records.opening import Records, Tenant
from receiver.records.standing import is_stale
from receiver.records.tables import claims, findings, issuer_logs, log_keys, sources
from translog.canonical import Value
from translog.checkpoint import Checkpoint
from translog.errors import FormatError
from translog.evidence import Delivery
from translog.follower import Read, State
from translog.fork import Fork

AT_ONCE = 512
"""Entries that are kept in one transaction at most."""

MAX_FAILURE = 1000
"""Characters that are kept of why a log could not be followed."""


@dataclass(frozen=True, slots=True)
class Track:
    """A log that sources name, and what is known of it. Times are in UTC."""

    log: IssuerLog
    namings: tuple[Naming, ...]
    wanted: str
    """What it is read for: a `Reading`, encoded."""
    size: int
    """Of the last verified checkpoint."""
    next_index: int
    unreadable: int
    origin: str | None
    """The log's, once that is known."""
    created_at: datetime
    fetched_at: datetime | None
    complete_at: datetime | None
    next_at: datetime | None
    failing_since: datetime | None
    failure: str | None
    forked_at: datetime | None
    free: bool
    """Nobody else follows it now."""

    @property
    def is_settled(self) -> bool:
        """Whether it is read for what its sources want, or has to be read to its end before that is looked at."""
        reading = Reading.parse(self.wanted)
        return reading.settle(Wanted.by(self.namings)) == reading

    @property
    def tenants(self) -> frozenset[int]:
        """The ids of the tenants that name it."""
        return frozenset(one.tenant_id for one in self.namings)

    @property
    def every(self) -> timedelta:
        """How often it is looked at: as often as the most impatient of its sources has it."""
        return timedelta(seconds=min(one.follow_every for one in self.namings))

    @property
    def name(self) -> str:
        """What people call it."""
        return self.origin or self.log.url

    def stale_since(self, now: datetime) -> datetime | None:
        """Since when no look came to the end of it, if that is too long.

        The first reading may take long, and is no staleness as long as nothing is wrong.
        """
        since = self.complete_at or self.failing_since or self.fetched_at or self.created_at
        return since if is_stale(since, self.every, now) else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log is: what progress begins at."""

    state: bytes
    next_index: int
    wanted: str


def tracks(tx: sa.Connection, holder: str, now: datetime) -> list[Track]:
    """Every log that an enabled source names, for the process `holder`."""
    # The rows first: should a source change in between, then it is the sources that are newer.
    shown = [column for column in issuer_logs.c if column.name not in {"url", "policy", "fork"}]
    rows = {row.id: row for row in tx.execute(sa.select(*shown, is_free(holder, now).label("free")))}
    return [_track(rows[one.log.id], one.log, one.namings) for one in followed(tx) if one.log.id in rows]


def place_of(tx: sa.Connection, log_id: str) -> Place | None:
    """Where a log is now; None if it has forked."""
    its = sa.select(issuer_logs).where(issuer_logs.c.id == log_id, issuer_logs.c.forked_at.is_(None))
    row = tx.execute(its).one_or_none()
    return None if row is None else Place(bytes(row.state), row.next_index, row.wanted)


def settle_wanted(tx: sa.Connection, track: Track) -> None:
    """Note what a log is to be read for that is not settled; if that is more than it was, go back to the beginning."""
    reading = Reading.parse(track.wanted).settle(Wanted.by(track.namings))
    its = sa.select(issuer_logs.c.state).where(issuer_logs.c.id == track.log.id)
    state: bytes = tx.execute(its.with_for_update(key_share=True)).scalar_one()
    values: dict[str, Any] = {"wanted": reading.encode()}
    if reading.is_again:
        known = State.parse(bytes(state))
        anew = State(known.note, unproven=known.unproven)
        values |= {"state": anew.encode(), "next_index": 0, "next_at": None, "unreadable": 0}
    log = sa.update(issuer_logs).where(
        issuer_logs.c.id == track.log.id,
        issuer_logs.c.wanted == track.wanted,
        issuer_logs.c.forked_at.is_(None),
    )
    tx.execute(log.values(**values))


# ---- progress -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry that is kept, and its proof (a tlog-proof whose extra it is)."""

    found: Found
    proof: bytes


def keep_some(
    tx: sa.Connection, log_id: str, proven: Sequence[Proven], tenants: Mapping[int, Tenant], now: datetime
) -> None:
    """Keep entries, for each tenant that wants them, to be judged at once; those that are there stay as they are."""
    rows = [
        {
            "issuer_log_id": log_id,
            "tenant_id": tenant_id,
            "index": one.found.index,
            "provider": one.found.provider,
            **_keys(one.found, tenants[tenant_id].hash_key),
            "seen_at": format_time(now),
            "announced": False,
            "due_at": "",
            "entry": one.found.entry,
            "proof": one.proof,
        }
        for one in proven
        for tenant_id in one.found.tenants
    ]
    insert = postgresql_insert if tx.dialect.name == "postgresql" else sqlite_insert
    if rows:
        tx.execute(insert(claims).on_conflict_do_nothing(), rows)


def advance(
    tx: sa.Connection, track: Track, place: Place, read: Read, unreadable: int, asked_at: datetime
) -> Place | None:
    """Note that these entries are read; the new place, or None if the log is not at this one any more.

    `asked_at` is a time before the checkpoint was asked for under which they were proven. Where nothing but an unproven
    checkpoint is new, that alone is noted.
    """
    new = Place(read.state.encode(), read.state.size, place.wanted)
    checkpoint = read.state.unverified_checkpoint()
    if checkpoint is None or (not read.entries and read.state.note == State.parse(place.state).note):
        return new if _move(tx, track.log.id, place, state=new.state) else None
    moved = _move(
        tx,
        track.log.id,
        place,
        state=new.state,
        size=checkpoint.size,
        next_index=new.next_index,
        unreadable=issuer_logs.c.unreadable + unreadable,
        fetched_at=_later(issuer_logs.c.fetched_at, asked_at),
    )
    if not moved:
        return None
    _gaps_start(tx, track, checkpoint.size)
    return new


def complete(tx: sa.Connection, track: Track, place: Place, asked_at: datetime) -> bool:
    """Note that all entries of a checkpoint are read that was asked for after `asked_at`; False as `advance` is None.

    So nothing is wrong with the log now.
    """
    moved = _move(
        tx,
        track.log.id,
        place,
        wanted=Reading.parse(place.wanted).end().encode(),
        fetched_at=_later(issuer_logs.c.fetched_at, asked_at),
        complete_at=_later(issuer_logs.c.complete_at, asked_at),
        failing_since=None,
        failure=None,
    )
    if moved:
        _gaps_start(tx, track, place.next_index)
    return moved


def fail(tx: sa.Connection, log_id: str, holder: str, why: str, now: datetime, next_at: datetime) -> None:
    """Note why a log could not be followed, and let it go; nothing if another process has it by now."""
    if let_go(tx, log_id, holder, next_at):
        values = {
            "failing_since": sa.func.coalesce(issuer_logs.c.failing_since, format_time(now)),
            "failure": "".join(
                char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in why[:MAX_FAILURE]
            ),
        }
        tx.execute(sa.update(issuer_logs).where(issuer_logs.c.id == log_id).values(**values))


def _move(tx: sa.Connection, log_id: str, place: Place, **values: Any) -> bool:
    its = sa.update(issuer_logs).where(
        issuer_logs.c.id == log_id,
        issuer_logs.c.next_index == place.next_index,
        issuer_logs.c.state == place.state,
        issuer_logs.c.wanted == place.wanted,
        issuer_logs.c.forked_at.is_(None),
    )
    return tx.execute(its.values(**values)).rowcount == 1


def _later(column: sa.ColumnElement[Any], at: datetime) -> sa.ColumnElement[Any]:
    """That time, unless a later one is noted."""
    return sa.case((column > format_time(at), column), else_=format_time(at))


def _gaps_start(tx: sa.Connection, track: Track, size: int) -> None:
    """Where it could not be told before, the gaps of a source start at the first checkpoint that it was there for."""
    waiting = [one.source_id for one in track.namings if one.starts_at is None]
    if waiting:
        its = sa.update(sources).where(
            sources.c.id.in_(waiting),
            sources.c.issuer_log_id == track.log.id,
            sources.c.issuer_log_from.is_(None),
        )
        tx.execute(its.values(issuer_log_from=size))


# ---- forks ----------------------------------------------------------------------------------------------------------


def freeze(tx: sa.Connection, log_id: str, fork: Fork, now: datetime) -> bool:
    """Note that a log has forked, for ever; False if that is known. The evidence was verified."""
    its = sa.update(issuer_logs).where(issuer_logs.c.id == log_id, issuer_logs.c.forked_at.is_(None))
    values = {"failing_since": None, "failure": None, "holder": None, "held_until": None, "next_at": None}
    done = tx.execute(its.values(fork=fork.encode(), forked_at=format_time(now), **values))
    return done.rowcount == 1


def tell_of_fork(records: Records, tenant: Tenant, log: IssuerLog) -> None:
    """Log for a tenant that a log which it names has forked, unless it was told already."""
    told = (
        sa.select(findings.c.id)
        .join(log_keys, log_keys.c.log_id == findings.c.log_id)
        .where(
            findings.c.kind == Kind.FORK.value,
            findings.c.issuer_log_id == log.id,
            log_keys.c.tenant_id == tenant.id,
        )
        .limit(1)
    )
    with records.database.read() as tx:
        if tx.execute(told).first() is not None:
            return
    with change(records.database, tenant.log) as changing:
        if changing.tx.execute(told).first() is not None:
            return
        evidence = changing.tx.execute(sa.select(issuer_logs.c.fork).where(issuer_logs.c.id == log.id)).scalar_one()
        smaller, larger = Fork.parse(bytes(evidence)).unverified_heads()
        finding = Finding(
            kind=Kind.FORK,
            state="forked",
            facts={"issuer_log": log.id},
            data={
                "issuer_log": larger.origin,
                "larger": _head(larger),
                "smaller": _head(smaller),
                "url": log.url,
            },
            delivery=Delivery((), bytes(evidence)),
            issuer_log_id=log.id,
        )
        keep(changing, tenant, finding)


def _head(checkpoint: Checkpoint) -> dict[str, Value]:
    return {"root": checkpoint.root.hex(), "size": checkpoint.size}


# ---- rows -----------------------------------------------------------------------------------------------------------


def _track(row: sa.Row[Any], log: IssuerLog, namings: Iterable[Naming]) -> Track:
    return Track(
        log=log,
        namings=tuple(namings),
        wanted=row.wanted,
        size=row.size,
        next_index=row.next_index,
        unreadable=row.unreadable,
        origin=log.origin or _origin(bytes(row.state)),
        created_at=parse_time(row.created_at),
        fetched_at=_time(row.fetched_at),
        complete_at=_time(row.complete_at),
        next_at=_time(row.next_at),
        failing_since=_time(row.failing_since),
        failure=row.failure,
        forked_at=_time(row.forked_at),
        free=bool(row.free),
    )


def _origin(state: bytes) -> str | None:
    with suppress(FormatError):  # of no other log's concern; who follows this one will say so
        checkpoint = State.parse(state).unverified_checkpoint()
        return None if checkpoint is None else checkpoint.origin
    return None


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)


def _keys(found: Found, hash_key: bytes) -> dict[str, bytes | None]:
    claim = found.claim
    operation = None if claim.operation is None else operation_key(hash_key, found.provider, claim.operation)
    return {"item_key": item_key(hash_key, found.provider, claim.item), "operation_key": operation}
