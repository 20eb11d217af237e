"""`translog.log`: what one receiver appends, publishes, proves and serves, against the tree written from the RFC."""

import random
import sqlite3
from collections.abc import Iterable
from itertools import pairwise

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from receiver.records.engine import Database
from tests.translog import reference
from tests.translog.logs import LOGGED_AT, all_tiles, append, bundle_of, grow, new_log, open_log, rederive
from tests.translog.samples import KEY, ORIGIN, POLICY
from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, LogRegressed, NotPublished
from translog.log import Appended, Log
from translog.merkle import EMPTY_ROOT
from translog.store import Head, Published, SqlStore, TilePlace, create_log
from translog.tiles import TILE_WIDTH, Bundle, Tile, width_at

SIZES = [1, 2, 255, 256, 257, 511, 512, 513, 1000]
UNPUBLISHED = 300


@pytest.mark.parametrize("size", SIZES)
def test_serves_the_published_tree_and_nothing_beyond(database: Database, size: int) -> None:
    """Each tile and bundle, at each width a reader may ask for, is the reference's up to the published size."""
    log = new_log(database)
    grow(log, size)
    log.publish()
    grow(log, size + UNPUBLISHED)
    assert rederive(database) == reference.numbered(size + UNPUBLISHED)
    _serves_exactly(log, size, all_tiles(reference.numbered(size + UNPUBLISHED)))
    _serves_exactly(open_again(database), size, all_tiles(reference.numbered(size + UNPUBLISHED)))


@pytest.mark.parametrize("size", SIZES)
def test_proves_the_published_tree_and_nothing_beyond(database: Database, size: int) -> None:
    """Inclusion and consistency proofs are the RFC's, verify, and are refused beyond the published size."""
    log = new_log(database)
    grow(log, size)
    log.publish()
    grow(log, size + UNPUBLISHED)
    marks = sorted({1, size // 3 + 1, size // 2 + 1, max(1, size - 1), size})
    for mark in marks:
        _proves_inclusion(log, sorted({0, mark // 2, mark - 1}), mark)
    for old, new in [(0, 0), (0, size), (size, size), *pairwise(marks)]:
        _proves_consistency(log, old, new)
    for ask in (
        lambda: log.inclusion_proof(0, size + 1),
        lambda: log.inclusion_proof(size, size),
        lambda: log.consistency_proof(1, size + 1),
        lambda: log.entry(size),
    ):
        with pytest.raises(NotPublished):
            ask()
    assert log.entry(size - 1) == reference.numbered(size)[-1]


def test_a_third_level_of_tiles(database: Database) -> None:
    """Across 65,536 leaves, where level 2 begins, tiles, proofs and the edge read back are still the reference's."""
    log = new_log(database)
    entries = reference.numbered(65_537)
    for size in (65_535, 65_536, 65_537):
        # Each step by a log that remembers nothing, so that the edge is read from tiles at each of the three sizes.
        log = open_again(database)
        append(log, entries[log.head().size : size])
        assert log.publish() == Checkpoint(ORIGIN, size, reference.mth(entries[:size]))
        _proves_inclusion(log, [0, 255, 256, 32_768, size - 1], size)
    assert rederive(database) == entries
    assert log.tile(Tile(2, 0, 1)) == reference.mth(entries[:65_536])
    assert log.tile(Tile(1, 0, 255)) == all_tiles(entries)[TilePlace(1, 0)][: 255 * 32]
    assert log.tile(Tile(0, 256, 1)) == reference.mth(entries[65_536:])
    for old, new in [(1, 65_537), (256, 65_536), (65_535, 65_536), (65_535, 65_537), (65_536, 65_537)]:
        _proves_consistency(log, old, new)


def test_how_entries_fall_into_batches_leaves_no_trace(database: Database) -> None:
    """The tree is that of the entries in order, whatever the sizes of the batches that brought them."""
    log = new_log(database)
    entries = reference.numbered(1500)
    sizes = random.Random(1)
    start = 0
    while start < len(entries):
        batch = entries[start : start + sizes.choice([1, 1, 2, 7, 200, 256, 257])]
        appended = append(log, batch)
        start += len(batch)
        head = Head(start, reference.mth(entries[:start]), LOGGED_AT)
        assert appended == Appended(start - len(batch), [merkle.leaf_hash(entry) for entry in batch], head)
        assert log.head() == head
    assert rederive(database) == entries


def test_an_empty_batch_changes_only_the_time(database: Database) -> None:
    """Appending nothing leaves the tree as it is."""
    log = new_log(database)
    grow(log, 3)
    assert append(log, []) == Appended(3, [], Head(3, reference.mth(reference.numbered(3)), LOGGED_AT))
    assert rederive(database) == reference.numbered(3)


def test_append_needs_the_lock(database: Database) -> None:
    """Without `lock` in the same transaction nothing is appended, even by a log that appended before."""
    log = new_log(database)
    with pytest.raises(LogRegressed, match="without its lock"), database.write() as tx:
        log.append(tx, [b"never"], LOGGED_AT)
    grow(log, 1)
    append(open_again(database), [b"another receiver's"])
    with pytest.raises((IntegrityError, sqlite3.IntegrityError)), database.write() as tx:
        log.append(tx, [b"never"], LOGGED_AT)
    assert rederive(database) == (*reference.numbered(1), b"another receiver's")


def test_publish_signs_what_is_committed(database: Database) -> None:
    """Each checkpoint is signed by the log's key over its size and root, kept for ever, and made once."""
    log = new_log(database)
    assert log.published_size == 0
    assert log.publish() is None
    signed: dict[int, bytes] = {}
    for size in (1, 2, 700):
        grow(log, size)
        expected = Checkpoint(ORIGIN, size, reference.mth(reference.numbered(size)))
        assert log.publish() == expected
        assert log.publish() is None
        signed[size] = note.sign(expected.text, KEY)
        assert log.published == Published(size, expected.root, signed[size])
    other = open_again(database)
    assert {size: other.checkpoint_of(size) for size in (1, 2, 3, 700, 701)} == signed | {3: None, 701: None}
    assert POLICY.open(other.checkpoint_of(0) or b"") == Checkpoint(ORIGIN, 0, EMPTY_ROOT)


def test_nothing_is_served_before_the_first_checkpoint(database: Database) -> None:
    """A log that has published nothing has no checkpoint, tile, bundle, entry or proof to give, whatever it holds."""
    with database.write() as tx:
        create_log(tx, ORIGIN, EMPTY_ROOT)
    log = open_log(database)
    grow(log, 5)
    log.refresh()
    assert log.published_size == 0
    assert (log.tile(Tile(0, 0, 1)), log.bundle(Bundle(0, 1)), log.checkpoint_of(5)) == (None, None, None)
    for ask in (lambda: log.published, lambda: log.inclusion_proof(0, 5), lambda: log.entry(0)):
        with pytest.raises(NotPublished):
            ask()


def test_the_first_checkpoint_is_of_size_0(database: Database) -> None:
    """Where whoever made the log died before it published, size 0 comes first all the same, then the rest."""
    with database.write() as tx:
        create_log(tx, ORIGIN, EMPTY_ROOT)
    log = open_log(database)
    grow(log, 5)
    assert log.publish() == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert log.publish() == Checkpoint(ORIGIN, 5, reference.mth(reference.numbered(5)))
    assert rederive(database) == reference.numbered(5)


def test_readers_see_a_checkpoint_once_they_refresh(database: Database) -> None:
    """What one receiver published, another serves after `refresh`, and not what it appended since."""
    writer, reader = new_log(database), open_again(database)
    grow(writer, 10)
    writer.publish()
    grow(writer, 20)
    assert reader.published_size == 0
    reader.refresh()
    assert reader.published == writer.published
    assert reader.tile(Tile(0, 0, 10)) == all_tiles(reference.numbered(10))[TilePlace(0, 0)]
    assert reader.tile(Tile(0, 0, 11)) is None


def test_a_tile_in_memory_is_served_only_as_far_as_published(database: Database) -> None:
    """A full tile that was read before a checkpoint covered it is not given out, in whole or in part."""
    log = new_log(database)
    grow(log, 100)
    log.publish()
    grow(log, 600)
    assert log.find_leaf(merkle.leaf_hash(b"entry 599")) == 599  # reads, and so remembers, every level-0 tile
    assert log.cached_tile(Tile(0, 0, 256)) is not None
    assert not log.covers(Tile(0, 0, 101))
    assert (log.tile(Tile(0, 0, 101)), log.tile(Tile(0, 0, 256)), log.tile(Tile(0, 1, 1))) == (None, None, None)
    assert log.tile(Tile(0, 0, 100)) == all_tiles(reference.numbered(100))[TilePlace(0, 0)]


def test_the_largest_entry(database: Database) -> None:
    """An entry has 65,535 bytes at most, for a bundle can say no more; the empty one is an entry too."""
    log = new_log(database)
    append(log, [b"", b"\x00" * 65_535])
    log.publish()
    assert log.bundle(Bundle(0, 2)) == bundle_of([b"", b"\x00" * 65_535])
    with pytest.raises(FormatError, match="65536 bytes"):
        append(log, [b"fits", b"x" * 65_536])
    append(log, [b"fits"])
    assert rederive(database) == (b"", b"\x00" * 65_535, b"fits")


class LogOfOneHash(SqlStore):
    """As if a log had that many entries, all of them equal: each level then has one hash, and no row is needed."""

    def __init__(self, database: Database, size: int) -> None:
        super().__init__(database, database.dialect, 1)
        self.size = size
        self.levels = [merkle.leaf_hash(b"same")]
        while size >> len(self.levels):
            self.levels.append(merkle.node_hash(self.levels[-1], self.levels[-1]))
        self.root = merkle.tree_root(size, lambda nodes: [self.levels[node.level] for node in nodes])
        self.read: list[TilePlace] = []

    def tiles(self, tx: sa.Connection, places: Iterable[TilePlace]) -> dict[TilePlace, bytes]:
        wanted = list(places)
        self.read += wanted
        width = {place: width_at(place.level, place.index, self.size) for place in wanted}
        return {place: self.levels[8 * place.level] * width[place] for place in wanted if width[place]}

    def published(self, tx: sa.Connection) -> Published:
        return Published(self.size, self.root, note.sign(Checkpoint(ORIGIN, self.size, self.root).text, KEY))


@pytest.mark.parametrize("size", [10**8 + 12_345, 2**40 + 2**31 + 3])
def test_a_proof_in_a_large_log_reads_few_tiles(database: Database, size: int) -> None:
    """A proof needs a path of tiles and the edge: at most two of each level, however large the log."""
    store = LogOfOneHash(database, size)
    log = Log(ORIGIN, KEY, store, None)
    log.refresh()
    levels = (size.bit_length() + 7) // 8
    for index, of in [(0, size), (size // 3, size), (size - 1, size), (12_345, size // 2 + 77)]:
        log = Log(ORIGIN, KEY, store, None)  # remembers nothing
        log.refresh()
        store.read.clear()
        proof, leaf, root = log.inclusion_proof(index, of)
        merkle.verify_inclusion(leaf, index, of, proof, root)
        assert len(set(store.read)) <= 2 * levels + (0 if of == size else levels)
        assert len(store.read) <= 5 * levels
    store.read.clear()
    proof, old_root, new_root = log.consistency_proof(size // 2 + 77, size)
    merkle.verify_consistency(size // 2 + 77, old_root, size, new_root, proof)
    assert len(set(store.read)) <= 2 * levels


def open_again(database: Database) -> Log:
    """A receiver that has just started on the database."""
    log = open_log(database)
    log.check()
    return log


def _serves_exactly(log: Log, size: int, tiles: dict[TilePlace, bytes]) -> None:
    """Hold every tile of a tree that is larger than what is published, and its bundles, against what is served."""
    entries = reference.numbered(size)
    for (level, index), data in tiles.items():
        limit = width_at(level, index, size)
        for width in sorted({1, limit // 2, limit - 1, limit, limit + 1, TILE_WIDTH}):
            if 1 <= width <= TILE_WIDTH:
                expected = data[: 32 * width] if width <= limit else None
                assert log.tile(Tile(level, index, width)) == expected, (level, index, width)
                if level == 0:
                    first = index * TILE_WIDTH
                    bundle = bundle_of(entries[first : first + width]) if width <= limit else None
                    assert log.bundle(Bundle(index, width)) == bundle, (index, width)
    assert log.tile(Tile(len(tiles), 0, 1)) is None


def _proves_inclusion(log: Log, indexes: list[int], size: int) -> None:
    entries = reference.numbered(size)
    for index in indexes:
        proof, leaf, root = log.inclusion_proof(index, size)
        assert (proof, leaf) == (reference.path(index, entries), reference.mth(entries[index : index + 1]))
        assert root == reference.mth(entries)
        merkle.verify_inclusion(leaf, index, size, proof, root)


def _proves_consistency(log: Log, old: int, new: int) -> None:
    entries = reference.numbered(new)
    proof, old_root, new_root = log.consistency_proof(old, new)
    assert proof == (reference.proof(old, entries) if old else [])
    assert (old_root, new_root) == (reference.mth(entries[:old]), reference.mth(entries))
    merkle.verify_consistency(old, old_root, new, new_root, proof)
