"""`translog.lookup`: finding a leaf by its hash, in the runs that are sorted and among the leaves after them."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from receiver.records.engine import Database
from tests.translog import reference
from tests.translog.logs import append, grow, new_log, open_log
from tests.translog.samples import KEY, ORIGIN
from translog import lookup, store
from translog.errors import LogDamaged
from translog.log import Log
from translog.lookup import RUN
from translog.merkle import leaf_hash
from translog.store import Head, SqlStore


def test_a_run_of_hashes_is_found_again() -> None:
    """Each hash of a run is in its bucket, at its place; a row takes eight bytes, and nothing else is kept."""
    hashes = [hashlib.sha256(b"%d" % place).digest() for place in range(RUN)]
    buckets = lookup.sort_into_buckets(b"".join(hashes))
    assert len(buckets) == 256
    assert sum(map(len, buckets)) == 8 * RUN
    for place in [0, 1, 255, 256, 40_000, RUN - 1]:
        assert lookup.search_bucket(buckets[lookup.bucket_of(hashes[place])], hashes[place]) == [place]
    for stranger in (hashlib.sha256(b"stranger").digest(), bytes(32)):
        assert lookup.search_bucket(buckets[lookup.bucket_of(stranger)], stranger) == []


@pytest.mark.parametrize("size", [0, 32, RUN * 32 - 32, RUN * 32 - 1, RUN * 32 + 32])
def test_a_run_is_full(size: int) -> None:
    """Only the hashes of a full run are sorted."""
    with pytest.raises(ValueError, match="a run is 2097152 bytes"):
        lookup.sort_into_buckets(bytes(size))


def test_equal_and_similar_hashes_keep_their_places() -> None:
    """Hashes that agree in their first seven bytes are told apart by the caller, so all their places are given."""
    same, similar = b"\x07" * 32, b"\x07" * 31 + b"\x08"
    hashes = [bytes([1]) * 32] * RUN
    hashes[3], hashes[500], hashes[65_535] = same, similar, same
    buckets = lookup.sort_into_buckets(b"".join(hashes))
    assert lookup.search_bucket(buckets[7], same) == lookup.search_bucket(buckets[7], similar) == [3, 500, 65_535]
    assert len(buckets[1]) == 8 * (RUN - 3)


def test_bytes_that_only_look_like_a_row_are_passed_over() -> None:
    """What is found across two rows of a bucket, or two hashes of a tile, is none."""
    rows = b"abcdef\x00\x01" + b"ghijkl\x00\x02"
    assert lookup.search_bucket(rows, b"?ghijkl" + bytes(25)) == [2]
    assert lookup.search_bucket(rows, b"?def\x00\x01g" + bytes(25)) == []
    repeated = b"zzzzzz\x00\x03" + b"zzzzzzzz" + b"zzzzzz\x00\x04"
    assert lookup.search_bucket(repeated, b"?zzzzzz" + bytes(25)) == [3, int.from_bytes(b"zz", "big"), 4]
    tile = bytes(range(32)) + bytes(range(100, 132)) + bytes(range(32))
    assert lookup.search_tile(tile, bytes(range(100, 132))) == 1
    assert lookup.search_tile(tile, bytes(range(32))) == 0
    assert lookup.search_tile(tile, tile[5:37]) is None
    assert lookup.search_tile(b"", bytes(32)) is None


def test_a_leaf_of_any_run_or_none(sqlite_database: Database) -> None:
    """In a log of two full runs and more each leaf is found, sorted or not, published or not; others are not."""
    log = new_log(sqlite_database)
    entries = reference.numbered(2 * RUN + 300)
    append(log, entries[:RUN])
    append(log, entries[RUN : 2 * RUN])
    assert log.index_leaves() is False  # nothing of it is published
    log.publish()
    append(log, entries[2 * RUN :])
    wanted = [0, 1, 255, 256, RUN - 1, RUN, RUN + 70, 2 * RUN - 1, 2 * RUN, 2 * RUN + 299]
    _finds(log, wanted, entries)
    assert _runs(sqlite_database) == []
    assert log.index_leaves() is True
    assert _runs(sqlite_database) == [0]
    _finds(log, wanted, entries)
    assert log.index_leaves() is True
    assert log.index_leaves() is False
    assert open_log(sqlite_database).index_leaves() is False
    assert _runs(sqlite_database) == [0, 1]
    _finds(log, wanted, entries)
    _finds(open_log(sqlite_database), wanted, entries)


def test_the_first_of_equal_leaves(sqlite_database: Database) -> None:
    """Where one entry was logged more than once, the first of them is given, in a run as after it."""
    log = new_log(sqlite_database)
    append(log, [b"other", b"twice", *[b"filler"] * (RUN - 4), b"twice", b"later"])
    append(log, [b"twice", b"later", b"third", b"third"])
    log.publish()
    for _ in range(2):
        places = [log.find_leaf(leaf_hash(entry)) for entry in (b"twice", b"later", b"filler", b"third")]
        assert places == [1, RUN - 1, 2, RUN + 2]
        log.index_leaves()
    assert _runs(sqlite_database) == [0]


def test_receivers_that_index_at_once(
    database_url: str, database: Database, connect: Callable[[str], Database]
) -> None:
    """A run is kept once, however many receivers sort it at the same moment."""
    grow(new_log(database), RUN)
    logs = [open_log(connect(database_url)) for _ in range(3)]
    logs[0].publish()
    logs[0].publish()
    for log in logs:
        log.refresh()
    together = threading.Barrier(3)

    def index(log: Log) -> bool:
        together.wait()
        return log.index_leaves()

    with ThreadPoolExecutor(3) as pool:
        assert True in set(pool.map(index, logs))
    assert _runs(database) == [0]


class Interrupted(SqlStore):
    """A store where something else happens once, right after one of the three things that a search reads."""

    interrupt: tuple[str, Callable[[], object]] | None = None

    def _did(self, step: str) -> None:
        if self.interrupt is not None and self.interrupt[0] == step:
            (_, meanwhile), self.interrupt = self.interrupt, None
            meanwhile()

    def head(self, tx: sa.Connection) -> Head:
        head = super().head(tx)
        self._did("head")
        return head

    def leaf_runs(self, tx: sa.Connection) -> int:
        runs = super().leaf_runs(tx)
        self._did("leaf_runs")
        return runs

    def leaf_bucket(self, tx: sa.Connection, bucket: int) -> list[tuple[int, bytes]]:
        found = super().leaf_bucket(tx, bucket)
        self._did("leaf_bucket")
        return found


def test_a_run_that_is_indexed_meanwhile(postgresql_database: Database) -> None:
    """A run that another receiver sorts between two steps of a search hides no leaf, and is no error."""
    other = new_log(postgresql_database)
    grow(other, RUN - 10)
    other.publish()
    interrupted = Interrupted(postgresql_database, postgresql_database.dialect, 1)
    log = Log(ORIGIN, KEY, interrupted, None)

    def grow_and_index() -> None:
        grow(other, RUN)
        other.publish()
        assert other.index_leaves()

    # A leaf that came after the head was read: whether it is found is left open.
    interrupted.interrupt = ("head", grow_and_index)
    assert log.find_leaf(leaf_hash(b"entry %d" % (RUN - 1))) in {None, RUN - 1}
    assert interrupted.interrupt is None
    for step in ("head", "leaf_runs", "leaf_bucket"):
        with postgresql_database.write() as tx:
            tx.execute(sa.delete(store.leaf_buckets))
        interrupted.interrupt = (step, other.index_leaves)
        assert log.find_leaf(leaf_hash(b"entry %d" % (RUN - 11))) == RUN - 11, step
        assert _runs(postgresql_database) == [0]


def test_a_damaged_tile_is_not_indexed(sqlite_database: Database) -> None:
    """A run is not sorted from a tile that is missing or cut short."""
    log = new_log(sqlite_database)
    grow(log, RUN)
    log.publish()
    with sqlite_database.write() as tx:
        tx.execute(sa.update(store.tiles).where(store.tiles.c.level == 0, store.tiles.c.index == 7).values(data=b""))
    with pytest.raises(LogDamaged, match="tile/0/007"):
        log.index_leaves()
    assert _runs(sqlite_database) == []


def _finds(log: Log, wanted: list[int], entries: reference.Entries) -> None:
    assert [log.find_leaf(leaf_hash(entries[index])) for index in wanted] == wanted
    assert log.find_leaf(leaf_hash(b"never logged")) is None
    # Found in a bucket, but for its last byte.
    for index in wanted:
        assert log.find_leaf(leaf_hash(entries[index])[:31] + b"?") is None


def _runs(database: Database) -> list[int]:
    """The runs that are indexed, each of them in 256 buckets."""
    with database.read() as tx:
        rows = tx.execute(sa.select(store.leaf_buckets.c.run, sa.func.count()).group_by(sa.text("1"))).all()
    assert {count for _, count in rows} <= {256}
    return sorted(run for run, _ in rows)
