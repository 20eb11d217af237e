"""Where a log keeps its head, entries, tiles and checkpoints: the Store protocol and its SQL implementation.

A store belongs to one log. Every method works inside a transaction that the caller began and will end, so that a
caller's own rows and the log's entries become durable together or not at all. Nothing here decides anything: the
rules (what may follow what) are in `translog.log`.

A tile is one row `(log, level, index)` whose bytes only ever grow, so that the partial tile of width W, as
C2SP tlog-tiles serves it, is the first 32·W bytes of whatever the row holds later.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from translog.errors import LogDamaged, LogRegressed, StoreError

ENTRIES_PER_READ = 1024


class Head(NamedTuple):
    """The tree as it is committed: `size` leaves, their 32-byte `root`, and the last entry's time (text)."""

    size: int
    root: bytes
    logged_at: str


class Published(NamedTuple):
    """The newest checkpoint that was signed: its size, 32-byte root, and the signed note itself."""

    size: int
    root: bytes
    note: bytes


class TilePlace(NamedTuple):
    """Where a tile stands in the tree, whatever its width."""

    level: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  (the place in the level, as C2SP names it)


class Transactions(Protocol):
    """Begins transactions. Leaving the block normally commits, durably; leaving it by an error rolls back."""

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that only reads."""
        ...

    def write(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that may write. On SQLite it holds the write lock from its first moment."""
        ...


class Store(Protocol):
    """One log's rows. Durability: what a method wrote is durable once the caller's transaction has committed."""

    @property
    def transactions(self) -> Transactions: ...

    def head(self, tx: sa.Connection) -> Head:
        """The committed head, without a lock: it may be old by the time it is used."""
        ...

    def lock_head(self, tx: sa.Connection) -> Head:
        """The head, locked until the transaction ends. It must be the transaction's first statement."""
        ...

    def append(
        self, tx: sa.Connection, old: Head, new: Head, entries: Sequence[bytes], tiles: Mapping[TilePlace, bytes]
    ) -> None:
        """Put entries `old.size` to `new.size` down with the tiles they touch, and move the head.

        A crash before the commit leaves nothing of it. Raises LogRegressed if the head is no longer `old`.
        """
        ...

    def entries(self, tx: sa.Connection, start: int, end: int) -> Iterator[bytes]:
        """Entries start to end in order. Raises LogDamaged where one is missing."""
        ...

    def tiles(self, tx: sa.Connection, places: Iterable[TilePlace]) -> dict[TilePlace, bytes]:
        """The bytes of those tiles as far as they have grown; a tile that is not there is left out."""
        ...

    def published(self, tx: sa.Connection) -> Published | None:
        """The newest checkpoint, or None before the first."""
        ...

    def lock_published(self, tx: sa.Connection) -> Published | None:
        """The same, locked until the transaction ends: one publisher at a time."""
        ...

    def publish(self, tx: sa.Connection, checkpoint: Published) -> None:
        """Make that checkpoint the newest and keep it for ever. It must be larger than the one before.

        That of size 0 is every log's first; another receiver may have put the same one there already.
        """
        ...

    def checkpoint(self, tx: sa.Connection, size: int) -> bytes | None:
        """The note that was signed for exactly that size, or None."""
        ...

    def leaf_runs(self, tx: sa.Connection) -> int:
        """How many runs of leaf hashes are indexed (see `translog.lookup`)."""
        ...

    def add_leaf_run(self, tx: sa.Connection, run: int, buckets: Sequence[bytes]) -> None:
        """Keep the buckets of one more run."""
        ...

    def leaf_bucket(self, tx: sa.Connection, bucket: int) -> list[tuple[int, bytes]]:
        """Every run's part of one bucket, as (run, bytes)."""
        ...


metadata = sa.MetaData()

logs = sa.Table(
    "logs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("origin", sa.Text, nullable=False, unique=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("logged_at", sa.Text, nullable=False),
)

# Short rows in key order: without a rowid SQLite writes each of them once, not once more for the key.
entries = sa.Table(
    "log_entries",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

tiles = sa.Table(
    "log_tiles",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

published = sa.Table(
    "log_published",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.LargeBinary, nullable=False),
)

checkpoints = sa.Table(
    "log_checkpoints",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("note", sa.LargeBinary, nullable=False),
)

leaf_buckets = sa.Table(
    "log_leaf_buckets",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)


# Made once: putting a statement together costs as much as running it, and these run for every batch.
_HEAD = sa.select(logs.c.size, logs.c.root, logs.c.logged_at).where(logs.c.id == sa.bindparam("log"))
# Alone in its statement: joined with other reads, PostgreSQL would give the new size beside old rows.
_LOCK_HEAD = _HEAD.with_for_update()
_MOVE_HEAD = (
    sa.update(logs)
    .where(logs.c.id == sa.bindparam("log"), logs.c.size == sa.bindparam("old"))
    .values(size=sa.bindparam("size"), root=sa.bindparam("root"), logged_at=sa.bindparam("logged_at"))
)


class BulkInsert:
    """An INSERT compiled once and handed to the driver as it is: twice the rows per second of Core's own way."""

    def __init__(self, statement: sa.Insert | Any, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._sql = str(compiled)
        # psycopg takes names, sqlite3 takes places; either way a row is a tuple in this order.
        self.columns: list[str] = list(compiled.positiontup or compiled.params)
        self._by_name = not compiled.positional

    def __call__(self, tx: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows, each a tuple in the order of `columns`."""
        if not rows:
            return
        if self._by_name:
            tx.exec_driver_sql(self._sql, [dict(zip(self.columns, row, strict=True)) for row in rows])
        else:
            tx.exec_driver_sql(self._sql, list(rows))


def create_log(tx: sa.Connection, origin: str, empty_root: bytes) -> int:
    """Add an empty log of that origin and give its id. An origin names one log for ever: a second is refused."""
    row = tx.execute(
        sa.insert(logs).values(origin=origin, size=0, root=empty_root, logged_at="").returning(logs.c.id)
    ).scalar_one()
    return int(row)


class Standing(NamedTuple):
    """Where a log stands: its size and root, and the newest checkpoint's size and note (None before the first)."""

    size: int
    root: bytes
    published_size: int | None
    note: bytes | None


def standings(tx: sa.Connection) -> dict[int, Standing]:
    """Where every log of the database stands, by its id: one question, however many there are."""
    columns = logs.c.id, logs.c.size, logs.c.root, published.c.size.label("published_size"), published.c.note
    rows = tx.execute(sa.select(*columns).join_from(logs, published, isouter=True))
    return {id_: Standing(*where) for id_, *where in rows}


class SqlStore:
    """The Store in SQL, on SQLite and on PostgreSQL alike."""

    def __init__(self, transactions: Transactions, dialect: sa.Dialect, log_id: int) -> None:
        self.transactions = transactions
        self.log_id = log_id
        self._dialect_insert = postgresql_insert if dialect.name == "postgresql" else sqlite_insert
        self._insert_entries = BulkInsert(sa.insert(entries), dialect)
        upsert = self._dialect_insert(tiles)
        self._upsert_tiles = BulkInsert(
            upsert.on_conflict_do_update(
                index_elements=["log_id", "level", "index"], set_={"data": upsert.excluded.data}
            ),
            dialect,
        )

    def head(self, tx: sa.Connection) -> Head:
        return self._head(tx, _HEAD)

    def lock_head(self, tx: sa.Connection) -> Head:
        return self._head(tx, _LOCK_HEAD)

    def _head(self, tx: sa.Connection, query: sa.Select[int, bytes, str]) -> Head:
        row = tx.execute(query, {"log": self.log_id}).one_or_none()
        if row is None:
            raise StoreError(f"log {self.log_id} is not in the database")
        return Head(row.size, bytes(row.root), row.logged_at)

    def append(
        self, tx: sa.Connection, old: Head, new: Head, entries: Sequence[bytes], tiles: Mapping[TilePlace, bytes]
    ) -> None:
        log_id = self.log_id
        self._insert_entries(tx, [(log_id, old.size + place, data) for place, data in enumerate(entries)])
        self._upsert_tiles(tx, [(log_id, level, index, data) for (level, index), data in tiles.items()])
        moved = tx.execute(
            _MOVE_HEAD,
            {"log": log_id, "old": old.size, "size": new.size, "root": new.root, "logged_at": new.logged_at},
        )
        if moved.rowcount != 1:
            raise LogRegressed(
                f"the head of log {log_id} is no longer at size {old.size}: something writes to it without the lock"
            )

    def entries(self, tx: sa.Connection, start: int, end: int) -> Iterator[bytes]:
        place = start
        while place < end:
            stop = min(place + ENTRIES_PER_READ, end)
            rows = tx.execute(
                sa.select(entries.c.index, entries.c.data)
                .where(entries.c.log_id == self.log_id, entries.c.index >= place, entries.c.index < stop)
                .order_by(entries.c.index)
            ).all()
            for index, data in rows:
                if index != place:
                    break
                yield bytes(data)
                place += 1
            if place != stop:
                raise LogDamaged(f"entry {place} of log {self.log_id} is missing; `receiver fsck` lists what is wrong")

    def tiles(self, tx: sa.Connection, places: Iterable[TilePlace]) -> dict[TilePlace, bytes]:
        wanted = list(places)
        if not wanted:
            return {}
        rows = tx.execute(
            sa.select(tiles.c.level, tiles.c.index, tiles.c.data).where(
                tiles.c.log_id == self.log_id,
                sa.or_(*(sa.and_(tiles.c.level == level, tiles.c.index == index) for level, index in wanted)),
            )
        )
        return {TilePlace(level, index): bytes(data) for level, index, data in rows}

    def published(self, tx: sa.Connection) -> Published | None:
        return self._published(tx, sa.select(published.c.size, published.c.root, published.c.note))

    def lock_published(self, tx: sa.Connection) -> Published | None:
        return self._published(tx, sa.select(published.c.size, published.c.root, published.c.note).with_for_update())

    def _published(self, tx: sa.Connection, query: sa.Select[int, bytes, bytes]) -> Published | None:
        row = tx.execute(query.where(published.c.log_id == self.log_id)).one_or_none()
        return None if row is None else Published(row.size, bytes(row.root), bytes(row.note))

    def publish(self, tx: sa.Connection, checkpoint: Published) -> None:
        values = {"size": checkpoint.size, "root": checkpoint.root, "note": checkpoint.note}
        kept = {"log_id": self.log_id, "size": checkpoint.size, "note": checkpoint.note}
        if checkpoint.size == 0:
            # There is no row to lock yet, so two first starts may both be here, with the very same note.
            insert = self._dialect_insert
            tx.execute(insert(published).values(log_id=self.log_id, **values).on_conflict_do_nothing())
            tx.execute(insert(checkpoints).values(kept).on_conflict_do_nothing())
            return
        moved = tx.execute(
            sa.update(published)
            .where(published.c.log_id == self.log_id, published.c.size < checkpoint.size)
            .values(**values)
        )
        if moved.rowcount != 1:
            raise LogRegressed(
                f"the newest checkpoint of log {self.log_id} is not below {checkpoint.size}: something else published"
            )
        tx.execute(sa.insert(checkpoints).values(kept))

    def checkpoint(self, tx: sa.Connection, size: int) -> bytes | None:
        note = tx.execute(
            sa.select(checkpoints.c.note).where(checkpoints.c.log_id == self.log_id, checkpoints.c.size == size)
        ).scalar_one_or_none()
        return None if note is None else bytes(note)

    def leaf_runs(self, tx: sa.Connection) -> int:
        last = tx.execute(
            sa.select(sa.func.max(leaf_buckets.c.run)).where(
                leaf_buckets.c.log_id == self.log_id, leaf_buckets.c.bucket == 0
            )
        ).scalar_one()
        return 0 if last is None else last + 1

    def add_leaf_run(self, tx: sa.Connection, run: int, buckets: Sequence[bytes]) -> None:
        tx.execute(
            sa.insert(leaf_buckets),
            [
                {"log_id": self.log_id, "bucket": bucket, "run": run, "data": data}
                for bucket, data in enumerate(buckets)
            ],
        )

    def leaf_bucket(self, tx: sa.Connection, bucket: int) -> list[tuple[int, bytes]]:
        rows = tx.execute(
            sa.select(leaf_buckets.c.run, leaf_buckets.c.data)
            .where(leaf_buckets.c.log_id == self.log_id, leaf_buckets.c.bucket == bucket)
            .order_by(leaf_buckets.c.run)
        )
        return [(run, bytes(data)) for run, data in rows]
