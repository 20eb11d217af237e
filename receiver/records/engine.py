"""The database: SQLite as the embedded default, PostgreSQL for many receivers on one log.

Both are held to the same promise: when a write transaction's block is left, what it wrote survives the power cut.
"""

import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError

BUSY_TIMEOUT_MS = 10_000
TRUNCATING_MS = 500
LOCK_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_MS = 30_000
# The WAL is written back ten times a second by `checkpoint_wal`; this many pages are the brake should that fail.
WAL_AUTOCHECKPOINT_PAGES = 16_000


class UnsafeDatabaseError(Exception):
    """A database whose settings would let it acknowledge what it may lose."""


class Database:
    """An engine and its transactions; satisfies `translog.store.Transactions`."""

    def __init__(self, url: str) -> None:
        """Opens nothing yet. Raises ValueError for a URL that is neither SQLite nor PostgreSQL."""
        self.url = _with_driver(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        self._writer = self.engine.execution_options(write=True)
        # SQLite has one writer at a time. Waiting for it here is fair and wakes at once; waiting in SQLite's busy
        # handler sleeps, and sleeps longer each time.
        self._one_writer = threading.Lock() if self.is_sqlite else None
        self.failing: str | None = None  # why the last write was not done, by the database's own word

    @property
    def dialect(self) -> sa.Dialect:
        return self.engine.dialect

    @contextmanager
    def read(self) -> Generator[sa.Connection]:
        """A transaction that only reads."""
        with self.engine.begin() as tx:
            yield tx

    @contextmanager
    def snapshot(self) -> Generator[sa.Connection]:
        """A transaction that sees one moment from its first statement to its end, and cannot write."""
        if self.is_sqlite:
            with self.engine.begin() as tx:
                tx.exec_driver_sql("PRAGMA query_only=ON")
                try:
                    yield tx
                finally:
                    tx.exec_driver_sql("PRAGMA query_only=OFF")  # the connection goes back to the pool
        else:
            with self.engine.connect() as connection:
                tx = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                with tx.begin():
                    yield tx

    @contextmanager
    def write(self) -> Generator[sa.Connection]:
        """A transaction that may write: durable once the block is left, nothing of it if it is left by an error."""
        try:
            with self._one_writer or nullcontext(), self._writer.begin() as tx:
                yield tx
        except (OperationalError, InternalError, InterfaceError) as error:
            self.failing = str(error.orig).strip().partition("\n")[0]
            raise
        self.failing = None

    def must_be_durable(self) -> None:
        """Refuse a PostgreSQL that does not wait for its disk. Raises UnsafeDatabaseError."""
        if self.is_sqlite:
            return
        with self.read() as tx:
            for setting in ("fsync", "full_page_writes"):
                if tx.exec_driver_sql(f"SHOW {setting}").scalar_one() != "on":
                    raise UnsafeDatabaseError(
                        f"PostgreSQL runs with {setting}=off: it would acknowledge what a power cut undoes. Turn it on"
                    )

    def checkpoint_wal(self) -> None:
        """Write SQLite's WAL back into the database without waiting for anybody; nothing on PostgreSQL."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                raw = cast("Any", connection.connection.dbapi_connection)
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def truncate_wal(self) -> bool:
        """Leave nothing in SQLite's WAL that was ever in it; nothing is to be done on PostgreSQL, which is True.

        False if it cannot be yet: somebody still reads what was there before. Whoever writes waits meanwhile, so that
        is not waited for, for long.
        """
        if not self.is_sqlite:
            return True
        with self._one_writer or nullcontext(), self.engine.connect() as connection:
            raw = cast("Any", connection.connection.dbapi_connection)
            raw.execute(f"PRAGMA busy_timeout={TRUNCATING_MS}")
            try:
                busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        return busy == 0

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _with_driver(url: str) -> sa.URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"the database URL cannot be read: {error}") from error
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed
    raise ValueError(f"the database must be sqlite:///FILE or postgresql://…, not {parsed.render_as_string()}")


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"check_same_thread": False})

    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")  # first: the next ones may already have to wait
        _turn_wal_on(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.execute(f"PRAGMA wal_autocheckpoint={WAL_AUTOCHECKPOINT_PAGES}")
        cursor.execute("PRAGMA cache_size=-65536")
        cursor.close()

    def on_begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _turn_wal_on(cursor: sqlite3.Cursor) -> None:
    # The first to do so needs the database for itself, and SQLite's own patience does not cover that moment.
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    settings = {
        "synchronous_commit": "on",
        "lock_timeout": LOCK_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
    }
    return sa.create_engine(
        url,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        connect_args={"options": " ".join(f"-c {name}={value}" for name, value in settings.items())},
    )
