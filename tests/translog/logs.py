"""Logs on a real database for tests, and the check that everything a log keeps follows from its entries."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import sqlalchemy as sa

from receiver.records.engine import Database
from tests.translog import reference
from tests.translog.samples import KEY, ORIGIN, POLICY
from translog import merkle, note, store
from translog.checkpoint import Checkpoint
from translog.guard import Guard
from translog.log import Appended, Log
from translog.merkle import EMPTY_ROOT
from translog.note import VerifyingKey
from translog.store import SqlStore, TilePlace, create_log
from translog.tiles import TILE_WIDTH, width_at

LOGGED_AT = "2026-11-20T09:00:00.000000Z"


def new_log(database: Database, guard: Guard | None = None) -> Log:
    """The first log of a database that has none, with size 0 published."""
    with database.write() as tx:
        create_log(tx, ORIGIN, EMPTY_ROOT)
    log = open_log(database, guard)
    log.publish()
    return log


def open_log(database: Database, guard: Guard | None = None) -> Log:
    """Another receiver's view of that log: nothing is remembered yet."""
    return Log(ORIGIN, KEY, SqlStore(database, database.dialect, 1), guard)


def append(log: Log, entries: Sequence[bytes]) -> Appended:
    """One batch as the service appends it."""
    with log.store.transactions.write() as tx:
        log.lock(tx)
        appended = log.append(tx, entries, LOGGED_AT)
    log.confirm(appended.head)
    return appended


def grow(log: Log, size: int) -> None:
    """Append `reference.numbered` entries up to that size, in one batch."""
    append(log, reference.numbered(size)[log.head().size :])


def note_of_size(size: int, content: bytes = b"") -> bytes:
    """A checkpoint signed by the log's key, whose root is made up from its size and, to tell two apart, `content`."""
    return note.sign(Checkpoint(ORIGIN, size, merkle.leaf_hash(b"%d" % size + content)).text, KEY)


def advance(guard: Guard, key: VerifyingKey, note: bytes) -> None:
    """Move a guard on, as a log does whose tree was found to continue it."""
    with guard.hold(key) as held:
        held.advance(note)


def guard_in(folder: Path) -> Guard:
    """A guard in a folder of its own."""
    return Guard(folder / "guard")


def rederive(database: Database, guard: Guard | None = None) -> reference.Entries:
    """Compute the whole log again from its entry rows, and compare; the entries.

    Head, every tile row (no byte more or less), every checkpoint ever signed, and what the guard holds.
    """
    with database.read() as tx:
        head = tx.execute(sa.select(store.logs)).one()
        numbered = tx.execute(sa.select(store.entries.c.index, store.entries.c.data).order_by(sa.text("1"))).all()
        tile_rows = tx.execute(sa.select(store.tiles.c.level, store.tiles.c.index, store.tiles.c.data)).all()
        published = tx.execute(sa.select(store.published)).one_or_none()
        checkpoints = tx.execute(sa.select(store.checkpoints).order_by(store.checkpoints.c.size)).all()
    entries = tuple(data for _, data in numbered)

    assert [index for index, _ in numbered] == list(range(head.size)), "entries are dense"
    assert head.root == reference.mth(entries)
    assert {TilePlace(level, index): data for level, index, data in tile_rows} == all_tiles(entries)
    for row in checkpoints:
        checkpoint = POLICY.open(row.note)
        assert (checkpoint.size, checkpoint.root) == (row.size, reference.mth(entries[: row.size]))
    if published is None:
        assert not checkpoints
    else:
        assert (published.size, published.note) == (checkpoints[-1].size, checkpoints[-1].note)
        assert published.root == reference.mth(entries[: published.size])
    guarded = None if guard is None else guard.read(KEY.verifying_key())
    if guarded is not None:
        assert guarded.size >= (published.size if published is not None else 0), "the guard is never behind"
        assert guarded.root == reference.mth(entries[: guarded.size])
    return entries


def all_tiles(entries: reference.Entries) -> dict[TilePlace, bytes]:
    """Every tile of the tree over these entries, at its full width."""
    tiles: dict[TilePlace, bytes] = {}
    level = 0
    while len(entries) >> (8 * level):
        for index in range(-(-(len(entries) >> (8 * level)) // TILE_WIDTH)):
            tiles[TilePlace(level, index)] = tile_of(entries, level, index)
        level += 1
    return tiles


def tile_of(entries: reference.Entries, level: int, index: int) -> bytes:
    """One tile of the tree over these entries, from the definition: each hash is the tree hash of its leaves."""
    leaves = TILE_WIDTH**level
    first = index * TILE_WIDTH
    return b"".join(
        reference.mth(entries[place * leaves : (place + 1) * leaves])
        for place in range(first, first + width_at(level, index, len(entries)))
    )


def bundle_of(entries: Iterable[bytes]) -> bytes:
    """The bundle of these entries, written out."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
