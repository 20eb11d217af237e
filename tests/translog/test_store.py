"""`translog.store`: rows in, rows out, on SQLite and on PostgreSQL alike."""

import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from receiver.records.engine import Database
from tests.translog.samples import ORIGIN
from translog import store
from translog.errors import LogDamaged, LogRegressed, StoreError
from translog.merkle import EMPTY_ROOT
from translog.store import ENTRIES_PER_READ, BulkInsert, Head, Published, SqlStore, TilePlace, create_log

EMPTY = Head(0, EMPTY_ROOT, "")
ROOT = bytes(range(32))


@pytest.fixture
def log(database: Database) -> SqlStore:
    """The store of an empty log."""
    with database.write() as tx:
        return SqlStore(database, database.dialect, create_log(tx, ORIGIN, EMPTY_ROOT))


def test_a_new_log_is_empty(log: SqlStore) -> None:
    """Its head is that of the empty tree, and nothing is published."""
    with log.transactions.read() as tx:
        assert log.head(tx) == EMPTY
        assert list(log.entries(tx, 0, 0)) == []
        assert log.tiles(tx, [TilePlace(0, 0)]) == {}
        assert (log.published(tx), log.checkpoint(tx, 0), log.leaf_runs(tx)) == (None, None, 0)
        assert log.leaf_bucket(tx, 0) == []


def test_an_origin_names_one_log(log: SqlStore, database: Database) -> None:
    """A second log of the same origin is refused."""
    with pytest.raises(IntegrityError), database.write() as tx:
        create_log(tx, ORIGIN, EMPTY_ROOT)
    with database.write() as tx:
        assert create_log(tx, f"{ORIGIN}/second", EMPTY_ROOT) != log.log_id


def test_an_append_is_one_with_its_transaction(log: SqlStore) -> None:
    """Entries, tiles and head are there once the transaction is committed, as they were given, or not at all."""
    entries = [b"", b"\x00\xff NUL and all", b"x" * 65_535]
    tiles = {TilePlace(0, 0): b"\x00" * 96, TilePlace(7, 2**40): b"\xff" * 32}
    after = Head(3, ROOT, "2026-11-20T09:00:00.000000Z")

    def append_and_fail() -> None:
        with log.transactions.write() as tx:
            log.append(tx, log.lock_head(tx), after, entries, tiles)
            assert list(log.entries(tx, 0, 3)) == entries
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append_and_fail()
    with log.transactions.read() as tx:
        assert (log.head(tx), log.tiles(tx, tiles)) == (EMPTY, {})
    with log.transactions.write() as tx:
        log.append(tx, log.lock_head(tx), after, entries, tiles)
    with log.transactions.read() as tx:
        assert log.head(tx) == after
        assert list(log.entries(tx, 0, 3)) == entries
        assert log.tiles(tx, [*tiles, TilePlace(0, 1)]) == tiles
        assert log.tiles(tx, []) == {}


def test_a_tile_is_replaced_by_what_it_grew_into(log: SqlStore) -> None:
    """Writing a tile again leaves one row."""
    with log.transactions.write() as tx:
        log.append(tx, EMPTY, Head(1, ROOT, ""), [b"a"], {TilePlace(0, 0): b"a" * 32})
        log.append(tx, Head(1, ROOT, ""), Head(2, ROOT, ""), [b"b"], {TilePlace(0, 0): b"ab" * 32})
        assert log.tiles(tx, [TilePlace(0, 0)]) == {TilePlace(0, 0): b"ab" * 32}
        assert tx.execute(sa.select(sa.func.count()).select_from(store.tiles)).scalar_one() == 1


@pytest.mark.parametrize("old", [Head(1, ROOT, ""), Head(3, ROOT, "")])
def test_a_head_moves_only_from_where_it_is(log: SqlStore, old: Head) -> None:
    """To append to another size than the head's is refused, and leaves nothing."""
    with log.transactions.write() as tx:
        log.append(tx, EMPTY, Head(2, ROOT, ""), [b"a", b"b"], {})
    refusals = (LogRegressed, IntegrityError, sqlite3.IntegrityError)
    with pytest.raises(refusals), log.transactions.write() as tx:
        log.append(tx, old, Head(old.size + 1, EMPTY_ROOT, ""), [b"never"], {TilePlace(0, 0): b"never"})
    with log.transactions.read() as tx:
        assert log.head(tx) == Head(2, ROOT, "")
        assert log.tiles(tx, [TilePlace(0, 0)]) == {}
        assert tx.execute(sa.select(sa.func.count()).select_from(store.entries)).scalar_one() == 2


@pytest.mark.parametrize("missing", [None, 0, 1, ENTRIES_PER_READ - 1, ENTRIES_PER_READ, 2 * ENTRIES_PER_READ])
def test_entries_come_in_order_or_not_at_all(log: SqlStore, missing: int | None) -> None:
    """They are read in portions; one that is missing is named, and those before it were right."""
    count = 2 * ENTRIES_PER_READ + 1
    entries = [b"%d" % index for index in range(count)]
    with log.transactions.write() as tx:
        log.append(tx, EMPTY, Head(count, ROOT, ""), entries, {})
        tx.execute(sa.delete(store.entries).where(store.entries.c.index == missing))
    with log.transactions.read() as tx:
        assert list(log.entries(tx, 5, 9)) == entries[5:9]
        if missing is None:
            assert list(log.entries(tx, 0, count)) == entries
            return
        read: list[bytes] = []
        with pytest.raises(LogDamaged, match=f"entry {missing} of log {log.log_id} is missing"):
            read.extend(log.entries(tx, 0, count))
        assert read == entries[:missing]


def test_entries_beyond_the_last_are_missing(log: SqlStore) -> None:
    """Whoever asks for entries that are not there is told, and not given fewer."""
    with log.transactions.read() as tx, pytest.raises(LogDamaged, match="entry 0 "):
        list(log.entries(tx, 0, 1))


def test_checkpoints_are_kept_for_ever(log: SqlStore) -> None:
    """The newest is `published`; each can be had by its size."""
    for size in (0, 1, 2**40):
        with log.transactions.write() as tx:
            log.publish(tx, Published(size, ROOT, b"note %d" % size))
    with log.transactions.read() as tx:
        assert log.published(tx) == log.lock_published(tx) == Published(2**40, ROOT, b"note %d" % 2**40)
        notes = [log.checkpoint(tx, size) for size in (0, 1, 2, 2**40)]
    assert notes == [b"note 0", b"note 1", None, b"note %d" % 2**40]


@pytest.mark.parametrize("size", [1, 5])
def test_a_checkpoint_is_larger_than_the_one_before(log: SqlStore, size: int) -> None:
    """One of the same size or a smaller one is refused."""
    with log.transactions.write() as tx:
        log.publish(tx, Published(0, EMPTY_ROOT, b"first"))
        log.publish(tx, Published(5, ROOT, b"newest"))
    with pytest.raises(LogRegressed, match=f"is not below {size}"), log.transactions.write() as tx:
        log.publish(tx, Published(size, ROOT, b"never"))
    with log.transactions.read() as tx:
        assert log.published(tx) == Published(5, ROOT, b"newest")
        assert log.checkpoint(tx, 1) is None


def test_the_first_checkpoint_is_put_down_once(log: SqlStore) -> None:
    """Size 0 comes first, and again only without effect."""
    with pytest.raises(LogRegressed), log.transactions.write() as tx:
        log.publish(tx, Published(1, ROOT, b"too early"))
    for note in (b"first", b"again"):
        with log.transactions.write() as tx:
            log.publish(tx, Published(0, EMPTY_ROOT, note))
    with log.transactions.write() as tx:
        log.publish(tx, Published(5, ROOT, b"newest"))
        log.publish(tx, Published(0, EMPTY_ROOT, b"much later"))
        assert log.published(tx) == Published(5, ROOT, b"newest")
        assert log.checkpoint(tx, 0) == b"first"


def test_buckets_of_leaf_runs(log: SqlStore) -> None:
    """Each bucket gives the parts of all runs, in their order."""
    with log.transactions.write() as tx:
        for run in range(3):
            assert log.leaf_runs(tx) == run
            log.add_leaf_run(tx, run, [b"run %d bucket %d" % (run, bucket) for bucket in range(256)])
        assert log.leaf_runs(tx) == 3
        assert log.leaf_bucket(tx, 255) == [(run, b"run %d bucket 255" % run) for run in range(3)]


def test_a_log_that_is_not_there(database: Database) -> None:
    """A store of no log has no head."""
    missing = SqlStore(database, database.dialect, 404)
    with database.write() as tx:
        for head in (missing.head, missing.lock_head):
            with pytest.raises(StoreError, match="log 404 is not in the database"):
                head(tx)


def test_a_bulk_insert_names_its_columns_in_the_order_of_a_row(log: SqlStore, database: Database) -> None:
    """Its rows are tuples in the order of `columns`; of no rows it makes no statement."""
    insert = BulkInsert(sa.insert(store.entries), database.dialect)
    assert insert.columns == ["log_id", "index", "data"]
    with database.write() as tx:
        insert(tx, [])
        insert(tx, [(log.log_id, 1, b"one"), (log.log_id, 0, b"zero")])
        assert list(log.entries(tx, 0, 2)) == [b"zero", b"one"]
