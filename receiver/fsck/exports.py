"""Exports: what the entries tell of them, and the rows that their files are made from.

An export's row and the entry that asks for it are one transaction, and so are a key that exports are signed with and
the entry that announces it. A row that says something else than its entry would have a file made that nobody asked for,
and that verifies with nothing: of that, auditors would be told by the file, so here the operator is told before. What
was erased since an export must not be in its file: by its row an erasure knows how far that reaches, so it must be as
far as what was asked for does. And the file must go some day, and prove that the log only grew since the one before.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from receiver.events import Kind, parse_time
from receiver.exports.jobs import PURPOSE, Query, key_place
from receiver.exports.selection import range_in
from receiver.fsck.report import Notes
from receiver.fsck.told import Told
from receiver.records.giving import COMPLETED, FAILED, PENDING, PROCESSING
from receiver.records.keeping import export_keys, exports
from receiver.records.opening import Records
from receiver.records.tables import log_keys, tenants
from receiver.records.vault import VaultError
from translog.errors import FormatError, LogDamaged, TranslogError
from translog.evidence import Leaf
from translog.note import SigningKey, VerifyingKey
from translog.policy import Policy
from translog.store import entries

_STATES = frozenset({PENDING, PROCESSING, COMPLETED, FAILED})
_FILE = ("start", "end", "size", "sha256", "completed_at", "expires_at", "checkpoint")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_MOST_KEPT = timedelta(days=365)
_SURELY_BEFORE = timedelta(minutes=1)
"""What was completed so long before an export was asked for was so to whoever asked: its time is read first, and its
row changed then.
"""
_ENTRY = sa.and_(entries.c.log_id == exports.c.log_id, entries.c.index == exports.c.log_index)
_ANNOUNCED = sa.and_(entries.c.log_id == export_keys.c.log_id, entries.c.index == export_keys.c.log_index)


def check_exports(tx: sa.Connection, told: Told, notes: Notes) -> None:
    """Compare every export with its entry, both ways."""
    before = exports.alias()
    query = (
        sa.select(
            exports,
            entries.c.data.label("entry"),
            log_keys.c.vkey,
            log_keys.c.tenant_id.label("its_tenant_id"),
            before.c.log_id.label("before_log_id"),
            before.c.log_index.label("before_log_index"),
            before.c.completed_at.label("before_completed_at"),
        )
        .join_from(exports, entries, _ENTRY, isouter=True)
        .join(log_keys, log_keys.c.log_id == exports.c.log_id, isouter=True)
        .join(before, before.c.id == exports.c.previous_id, isouter=True)
    )
    there: set[str] = set()
    completed = _completed(tx)
    for row in tx.execute(query.order_by(exports.c.id)):
        there.add(row.id)
        differences = [*_differences(row)] or [*_misplaced(tx, row), *_not_the_newest(row, completed)]
        for problem in (*differences, *_strange(row)):
            notes.fault(f"export {row.id}", problem)
    for tenant_id in _readable(tx, told):
        for its_id in sorted(told.exports(tenant_id) - there):
            notes.fault(f"export {its_id}", "is not there, though an entry asks for it")


def check_export_keys(tx: sa.Connection, records: Records, told: Told, notes: Notes) -> None:
    """Compare every key that exports are signed with with the entry that announces it, both ways; that it opens."""
    query = (
        sa.select(export_keys, entries.c.data.label("entry"), log_keys.c.vkey.label("log_vkey"))
        .join_from(export_keys, entries, _ANNOUNCED, isouter=True)
        .join(log_keys, log_keys.c.log_id == export_keys.c.log_id, isouter=True)
    )
    there: set[str] = set()
    for row in tx.execute(query.order_by(export_keys.c.log_id)):
        place = f"exports key of log {row.log_id}"
        leaf = _leaf(row.entry)
        if leaf is not None:
            there.add(leaf.id)
        if leaf is None or (leaf.kind, leaf.facts.get("action")) != (Kind.KEY, "announced"):
            notes.fault(place, f"entry {row.log_index} does not announce it")
        elif (leaf.facts.get("vkey"), leaf.facts.get("purpose")) != (row.vkey, PURPOSE):
            notes.fault(place, f"is {row.vkey}, and the entry {row.log_index} announces another one")
        for problem in _not_a_key(row, records):
            notes.fault(place, problem)
    for tenant_id in _readable(tx, told):
        for its_id in sorted(told.announced(tenant_id) - there):
            notes.fault(f"exports key {its_id}", "is not there, though an entry announces it")


def _readable(tx: sa.Connection, told: Told) -> Iterator[int]:
    """The tenants of whose entries each can be read; what is wrong with the others' is said already."""
    ids = tx.execute(sa.select(tenants.c.id).order_by(tenants.c.id)).scalars().all()
    return (tenant_id for tenant_id in ids if tenant_id not in told.incomplete)


def _differences(row: sa.Row[Any]) -> Iterator[str]:
    """In what a row is not as its entry says."""
    leaf = _leaf(row.entry)
    if leaf is None or (leaf.kind, leaf.id) != (Kind.EXPORT, row.id):
        yield f"entry {row.log_index} does not ask for it"
        return
    asked = {
        "basis": row.basis,
        "by": row.asked_by,
        "parquet": row.parquet,
        "providers": None if row.providers is None else row.providers.split(","),
        "since": row.since,
        "tests": row.tests,
        "until": row.until,
    }
    for name in sorted(asked.keys() | leaf.facts.keys()):
        if asked.get(name) != leaf.facts.get(name):
            yield f"{name} is {asked.get(name)!a}, and its entry says {leaf.facts.get(name)!a}"
    if row.created_at != leaf.logged_at:
        yield f"created_at is {row.created_at!a}, and its entry was logged at {leaf.logged_at!a}"


def _misplaced(tx: sa.Connection, row: sa.Row[Any]) -> Iterator[str]:
    """Whether it reaches as far as it says, by the log."""
    if row.start is None and row.end is None:
        return
    providers = None if row.providers is None else tuple(row.providers.split(","))
    query = Query(row.since, row.until, row.basis, providers, row.tests, row.parquet)
    try:
        range_ = range_in(tx, row.log_id, query, row.log_index)
    except (LogDamaged, msgspec.MsgspecError):  # said where the entries are looked at
        return
    if (row.start, row.end) != (range_.start, range_.end):
        yield (
            f"start and end are {row.start} and {row.end}, and by the log its file holds the entries from "
            f"{range_.start} to {range_.end - 1}: an erasure may miss it"
        )


class _Completed(NamedTuple):
    """An export of which there was a file, once at least."""

    log_index: int
    id: str
    at: str


def _completed(tx: sa.Connection) -> Mapping[int, Sequence[_Completed]]:
    """By log, those that were completed, in the order of their entries."""
    query = sa.select(exports.c.log_id, exports.c.log_index, exports.c.id, exports.c.completed_at)
    found: dict[int, list[_Completed]] = defaultdict(list)
    for row in tx.execute(query.where(exports.c.completed_at.is_not(None)).order_by(exports.c.log_index)):
        found[row.log_id].append(_Completed(row.log_index, row.id, row.completed_at))
    return found


def _not_the_newest(row: sa.Row[Any], completed: Mapping[int, Sequence[_Completed]]) -> Iterator[str]:
    """Whether another one than the export before it was the newest when it was asked for.

    One whose file was made again later has the later time, and is not looked at.
    """
    of_log = completed.get(row.log_id, ())
    asked_at = _asked_at(row.id)
    upto = bisect_left(of_log, row.log_index, key=lambda one: one.log_index)
    for one in reversed(of_log[:upto]):
        if row.previous_id is not None and (one.id == row.previous_id or one.log_index <= (row.before_log_index or 0)):
            return
        try:
            is_before = parse_time(one.at) + _SURELY_BEFORE < asked_at
        except (ValueError, OverflowError):  # said of that one itself
            continue
        if is_before:
            said = f"the export before it is {row.previous_id}; {one.id} is newer"
            yield f"{said}, and was completed when it was asked for"
            return


def _asked_at(export_id: str) -> datetime:
    """When it was, by its id (RFC 9562 section 5.7); where a clock was set back, its entry's time is later."""
    return _EPOCH + timedelta(milliseconds=min(int(export_id.replace("-", "")[:12], 16), _LAST))


def _is_kept(completed_at: str, expires_at: str) -> bool:
    """Whether a file is kept for a time that can be set."""
    try:
        return timedelta(0) <= parse_time(expires_at) - parse_time(completed_at) <= _MOST_KEPT
    except ValueError:
        return False


def _strange(row: sa.Row[Any]) -> Iterator[str]:
    """What is wrong with a row by itself, and with the rows that it names."""
    if row.its_tenant_id != row.tenant_id:
        yield "is of a log of another tenant"
    if row.state not in _STATES:
        yield f"state is {row.state!a}, which this version does not know"
    if row.state == COMPLETED:
        for name in _FILE:
            if getattr(row, name) is None:
                yield f"is completed, and {name} is not told"
    if row.start is not None and row.end is not None and not 0 <= row.start <= row.end <= row.log_index + 1:
        yield f"reaches from {row.start} to {row.end}, and its own entry is {row.log_index}"
    before = row.before_log_id, row.before_log_index
    if row.previous_id is not None and (before[0] != row.log_id or before[1] >= row.log_index):
        yield f"the export before it, {row.previous_id}, is of another log or came later"
    elif row.previous_id is not None and row.before_completed_at is None:
        yield f"the export before it, {row.previous_id}, was never completed"
    if row.completed_at is not None and row.expires_at is not None and not _is_kept(row.completed_at, row.expires_at):
        yield (
            f"expires_at is {row.expires_at!a}, and it was completed at {row.completed_at!a}: a file is kept for "
            f"{_MOST_KEPT.days} days at most"
        )
    if row.checkpoint is not None and row.vkey is not None:
        try:
            size = Policy.of(VerifyingKey.parse(row.vkey)).open(bytes(row.checkpoint)).size
        except TranslogError as error:
            yield f"its checkpoint: {error}"
        else:
            if size <= row.log_index:
                yield f"its checkpoint of {size} does not cover its entry, {row.log_index}"


def _not_a_key(row: sa.Row[Any], records: Records) -> Iterator[str]:
    """What is wrong with a key by itself."""
    try:
        key = VerifyingKey.parse(row.vkey)
        private = SigningKey.parse(records.vault.open(key_place(row.log_id), bytes(row.private_key)).decode())
    except (TranslogError, VaultError) as error:
        yield str(error)
        return
    if private.verifying_key() != key:
        yield f"is {key}, and its private key is that of {private.verifying_key()}"
    if row.log_vkey is not None and key.name != f"{VerifyingKey.parse(row.log_vkey).name}/{PURPOSE}":
        yield f"is that of {key.name}"


def _leaf(entry: bytes | None) -> Leaf | None:
    try:
        return None if entry is None else Leaf.parse(bytes(entry))
    except FormatError:
        return None
