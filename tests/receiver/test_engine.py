"""`receiver.records.engine`: what is committed survives, on SQLite and on PostgreSQL, whatever their defaults are."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from receiver.records import engine
from receiver.records.engine import Database, UnsafeDatabaseError
from receiver.records.tables import settings, sources
from tests.postgres import Cluster

Transaction = Callable[[Database], AbstractContextManager[sa.Connection]]


def put(database: Database, name: str, value: str = "") -> None:
    """Keep a setting in a transaction of its own."""
    with database.write() as tx:
        tx.execute(sa.insert(settings).values(name=name, value=value))


def names(tx: sa.Connection) -> list[str]:
    """The settings that a transaction sees."""
    return list(tx.execute(sa.select(settings.c.name).order_by(settings.c.name)).scalars())


def test_a_block_left_normally_is_kept_and_one_left_by_an_error_is_not(database: Database) -> None:
    """A write transaction commits at the end of its block; any error, of whatever kind, undoes all of it."""
    put(database, "kept")

    def fail(error: type[BaseException]) -> None:
        with database.write() as tx:
            tx.execute(sa.insert(settings).values(name="lost", value=""))
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
    with database.read() as tx:
        assert names(tx) == ["kept"]


@pytest.mark.parametrize("transaction", [Database.read, Database.write, Database.snapshot])
def test_sqlite_waits_for_its_disk(sqlite_database: Database, transaction: Transaction) -> None:
    """Every connection has a write-ahead log that is synced at each commit, references that hold, and patience."""

    def pragmas(_: int) -> list[object]:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
        with transaction(sqlite_database) as tx:
            time.sleep(0.05)  # so that none of the threads uses the connection of another
            return [tx.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() for pragma in pragmas]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(pragmas, range(3))) == [["wal", 2, 1, 1, 10_000]] * 3


def test_postgresql_waits_for_its_disk(
    postgresql_url: str, postgresql: Cluster, connect: Callable[[str], Database]
) -> None:
    """What an administrator made the default for the database does not make a commit less than durable."""
    database = connect(postgresql_url)
    defaults = {
        "synchronous_commit": "off",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "default_transaction_isolation": "serializable",
    }
    for setting, value in defaults.items():
        postgresql.execute(f"ALTER DATABASE {database.url.database} SET {setting} = '{value}'")
    for transaction in (database.read, database.write):
        with transaction() as tx:
            shown = [
                tx.exec_driver_sql(f"SHOW {setting}").scalar_one() for setting in (*defaults, "transaction_isolation")
            ]
        assert shown == ["on", "10s", "30s", "serializable", "read committed"]


@pytest.fixture
def turned_off(request: pytest.FixtureRequest, postgresql: Cluster) -> Generator[str]:
    """A setting of the whole cluster, off for the time of a test."""
    setting = str(request.param)
    postgresql.configure(setting, "off")
    yield setting
    postgresql.configure(setting, "on")


@pytest.mark.parametrize("turned_off", ["fsync", "full_page_writes"], indirect=True)
def test_a_postgresql_that_does_not_wait_for_its_disk_is_refused(
    turned_off: str, postgresql_url: str, connect: Callable[[str], Database]
) -> None:
    """It would acknowledge what a power cut undoes, so the service says so and does not start."""
    with pytest.raises(UnsafeDatabaseError, match=f"runs with {turned_off}=off"):
        connect(postgresql_url).must_be_durable()


def test_both_are_durable_as_they_come(database: Database) -> None:
    """SQLite, and PostgreSQL with its own defaults, are accepted."""
    database.must_be_durable()


def test_a_writer_holds_the_database_from_its_first_moment(
    sqlite_database: Database, sqlite_url: str, connect: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite nobody else writes while a write transaction is open, were it only reading yet; readers go on."""
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    other = connect(sqlite_url)
    with sqlite_database.write() as tx:
        assert names(tx) == []
        with pytest.raises(OperationalError, match="database is locked"):
            put(other, "never")
        with other.read() as reading:
            assert names(reading) == []
        tx.execute(sa.insert(settings).values(name="first", value=""))
    put(other, "second")
    with other.read() as reading:
        assert names(reading) == ["first", "second"]


def test_threads_take_turns(database: Database) -> None:
    """Writers in one process wait for one another, and none of them fails for it."""
    wanted = [f"{number:02}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, [database] * 40, wanted))
    with database.read() as tx:
        assert names(tx) == wanted


def test_a_snapshot_sees_one_moment(database_url: str, database: Database, connect: Callable[[str], Database]) -> None:
    """What others commit meanwhile is not seen, from the first statement to the last."""
    other = connect(database_url)
    put(database, "before")
    with database.snapshot() as tx:
        assert names(tx) == ["before"]
        put(other, "meanwhile")
        assert names(tx) == ["before"]
    with database.snapshot() as tx:
        assert names(tx) == ["before", "meanwhile"]


def test_a_snapshot_cannot_write(database: Database) -> None:
    """Writing in it is an error; the connection it had is as good as any afterwards."""
    for _ in range(2):
        with pytest.raises(DBAPIError, match=r"read-?only"), database.snapshot() as tx:
            tx.execute(sa.insert(settings).values(name="never", value=""))
    for number in range(8):
        put(database, f"{number}")
    with database.read() as tx:
        assert names(tx) == [f"{number}" for number in range(8)]


def test_references_hold(database: Database) -> None:
    """A row that refers to nothing is refused, on SQLite too."""
    columns = {column.name: "" for column in sources.c if isinstance(column.type, sa.Text) and not column.nullable}
    with pytest.raises(IntegrityError), database.write() as tx:
        tx.execute(sa.insert(sources).values(**columns, tenant_id=404, replay_window=0, enabled=True))


def test_errors_say_nothing_of_the_data(database: Database) -> None:
    """The text of a database's error, which may end up in a log file, holds no value of a row."""
    put(database, "settled", "a secret")
    with pytest.raises(IntegrityError) as caught:
        put(database, "settled", "another secret")
    assert "secret" not in str(caught.value)


def test_the_wal_is_written_back(sqlite_database: Database, tmp_path: Path) -> None:
    """Checkpointing brings what is committed into the database file itself, with connections open and in use."""
    put(sqlite_database, "committed")

    def in_the_file_alone() -> list[tuple[str]]:
        alone = Path(shutil.copy(str(sqlite_database.url.database), tmp_path / "alone.db"))
        connection = sqlite3.connect(alone)
        try:
            return connection.execute("SELECT name FROM settings").fetchall()
        except sqlite3.OperationalError:  # not even the table
            return []
        finally:
            connection.close()

    with sqlite_database.read() as tx:
        assert names(tx) == ["committed"]
        assert in_the_file_alone() == []
        sqlite_database.checkpoint_wal()
    assert in_the_file_alone() == [("committed",)]


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///rescind.db", "sqlite"),
        ("sqlite:////var/lib/rescind/rescind.db", "sqlite"),
        ("postgresql://user@host/name", "postgresql+psycopg"),
        ("postgresql+psycopg://user@host/name", "postgresql+psycopg"),
        ("postgresql+psycopg2://user@host/name", "postgresql+psycopg"),
    ],
)
def test_urls_of_databases(url: str, driver: str, connect: Callable[[str], Database]) -> None:
    """SQLite in a file, and PostgreSQL by whichever driver is named; nothing is opened yet."""
    database = connect(url)
    assert database.url.drivername == driver
    assert database.is_sqlite == (driver == "sqlite")


@pytest.mark.parametrize(
    "url",
    ["", "rescind.db", "sqlite://", "sqlite:///:memory:", "mysql://user:hidden@host/name", "postgres://host/name"],
)
def test_urls_of_no_database_we_know(url: str) -> None:
    """Anything else is refused with a sentence that shows no password: a database in memory keeps nothing."""
    with pytest.raises(ValueError, match="database") as caught:
        Database(url)
    assert "hidden" not in str(caught.value)


def test_it_is_known_why_the_last_write_was_not_done(sqlite_database: Database) -> None:
    """Whoever asks is told in the database's own words, until a write is done again."""
    assert sqlite_database.failing is None
    with pytest.raises(OperationalError), sqlite_database.write() as tx:
        tx.exec_driver_sql("INSERT INTO nowhere VALUES (1)")
    assert sqlite_database.failing == "no such table: nowhere"
    with sqlite_database.write():
        pass
    assert sqlite_database.failing is None
