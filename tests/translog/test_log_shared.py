"""`translog.log` in several receivers of one database: threads and processes that append and publish at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from receiver.records import engine
from receiver.records.engine import Database
from tests.backups import Backup
from tests.translog import processes, reference
from tests.translog.logs import LOGGED_AT, append, grow, guard_in, new_log, open_log, rederive
from tests.translog.processes import batch_of
from tests.translog.samples import KEY, ORIGIN
from translog.checkpoint import Checkpoint
from translog.errors import LogRegressed
from translog.guard import Guard
from translog.log import Log
from translog.merkle import EMPTY_ROOT
from translog.store import Head, Published, SqlStore, create_log


def test_two_receivers_in_turn(database: Database, tmp_path: Path) -> None:
    """Receivers that append and publish in turn each find where the other left off, over every edge of a tile."""
    guard = guard_in(tmp_path)
    logs = [new_log(database, guard), open_log(database, guard)]
    entries = reference.numbered(1100)
    for number, start in enumerate(range(0, 1100, 50)):
        append(logs[number % 2], entries[start : start + 50])
        if number % 3 == 0:
            assert logs[number % 2].publish() == Checkpoint(ORIGIN, start + 50, reference.mth(entries[: start + 50]))
    assert rederive(database, guard) == entries


def test_receivers_at_once(
    database_url: str, database: Database, connect: Callable[[str], Database], tmp_path: Path
) -> None:
    """Three writers and two publishers, each on connections of its own: nothing is lost, doubled or out of order."""
    guard = guard_in(tmp_path)
    new_log(database, guard)
    logs = [open_log(connect(database_url), guard) for _ in range(5)]
    written = threading.Event()

    def write(number: int) -> None:
        for batch in range(25):
            append(logs[number], batch_of(f"writer {number}", batch))

    def publish(number: int) -> int:
        signed = 0
        while True:
            last = written.is_set()
            signed += logs[number].publish() is not None
            logs[number].refresh()
            if last:
                return signed

    with ThreadPoolExecutor(5) as pool:
        publishers = [pool.submit(publish, number) for number in (3, 4)]
        try:
            for writer in [pool.submit(write, number) for number in range(3)]:
                writer.result(60)
        finally:
            written.set()
        signed = sum(publisher.result(60) for publisher in publishers)
    entries = rederive(database, guard)
    _hold_whole_batches(entries, [f"writer {number}" for number in range(3)], 25)
    with database.read() as tx:
        kept = tx.exec_driver_sql("SELECT count(*) FROM log_checkpoints").scalar_one()
    assert kept == signed + 1
    assert max(log.published_size for log in logs) == len(entries)


def test_processes_at_once(database: Database, tmp_path: Path) -> None:
    """Two receivers in processes of their own, on one guard folder, keep one log."""
    guard = guard_in(tmp_path)
    log = new_log(database, guard)
    url = database.url.render_as_string(hide_password=False)
    writers = [processes.start("write", url, guard.folder, name, 40) for name in ("left", "right")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    log.publish()
    entries = rederive(database, guard)
    _hold_whole_batches(entries, ["left", "right"], 40)
    assert log.published_size == len(entries)


def test_threads_on_one_log(database: Database) -> None:
    """A log object that several threads of a process share keeps their batches apart."""
    log = new_log(database)

    def write(number: int) -> None:
        for batch in range(25):
            append(log, batch_of(f"thread {number}", batch))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    _hold_whole_batches(rederive(database), [f"thread {number}" for number in range(3)], 25)


def test_first_checkpoints_at_once(
    database_url: str, database: Database, connect: Callable[[str], Database], tmp_path: Path
) -> None:
    """Several first starts may sign size 0 at the same moment: it is one and the same note."""
    with database.write() as tx:
        create_log(tx, ORIGIN, EMPTY_ROOT)
    guard = guard_in(tmp_path)
    logs = [open_log(connect(database_url), guard) for _ in range(4)]
    together = threading.Barrier(4)

    def publish(log: Log) -> Checkpoint | None:
        together.wait()
        return log.publish()

    with ThreadPoolExecutor(4) as pool:
        signed = set(pool.map(publish, logs))
    assert Checkpoint(ORIGIN, 0, EMPTY_ROOT) in signed
    assert signed <= {Checkpoint(ORIGIN, 0, EMPTY_ROOT), None}
    assert rederive(database, guard) == ()


def _nothing() -> None:
    """What else happens unless a test says so."""


class Interrupted(SqlStore):
    """A store where something else happens right after the head was read, or right before the checkpoint is locked."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, database.dialect, 1)
        self.after_head: Callable[[], object] = _nothing
        self.before_lock: Callable[[], object] = _nothing

    def head(self, tx: sa.Connection) -> Head:
        head = super().head(tx)
        self.after_head()
        return head

    def lock_published(self, tx: sa.Connection) -> Published | None:
        self.before_lock()
        return super().lock_published(tx)


def test_a_guard_that_moves_on_meanwhile(database: Database, tmp_path: Path) -> None:
    """A guard that another receiver moved on since it was looked at is not mistaken for a database put back."""
    guard = guard_in(tmp_path)
    other, store = new_log(database, guard), Interrupted(database)
    log = Log(ORIGIN, KEY, store, guard)
    log.check()
    grow(log, 5)

    def meanwhile() -> None:
        store.after_head = _nothing
        grow(other, 10)
        other.publish()

    store.after_head = meanwhile
    assert log.publish() is None
    log.refresh()
    assert log.published_size == other.published_size == 10
    assert rederive(database, guard) == reference.numbered(10)


def test_a_slower_publisher(postgresql_database: Database, tmp_path: Path) -> None:
    """A publisher that finds another machine's checkpoint where it meant to put its own signs nothing."""
    guard, theirs = guard_in(tmp_path), Guard(tmp_path / "theirs")
    other, store = new_log(postgresql_database, theirs), Interrupted(postgresql_database)
    log = Log(ORIGIN, KEY, store, guard)
    grow(log, 5)

    def meanwhile() -> None:
        grow(other, 7)
        other.publish()

    store.before_lock = meanwhile
    assert log.publish() is None
    assert guard.read(log.verifying_key) is None
    store.before_lock = _nothing
    assert log.publish() is None
    assert log.published == other.published
    assert log.published_size == 7
    assert rederive(postgresql_database, guard) == reference.numbered(7)


@pytest.mark.parametrize("step", ["check", "publish", "refresh"])
@pytest.mark.parametrize("second_size", [3, 4, 5])
def test_two_copies_on_one_guard(
    sqlite_database: Database,
    tmp_path: Path,
    connect: Callable[[str], Database],
    step: str,
    second_size: int,
) -> None:
    """Copies of one database that grow apart: the one whose turn with the guard comes second signs and serves nothing.

    It has to wait, and then finds the guard beyond it or of another tree.
    """
    guard = guard_in(tmp_path)
    new_log(sqlite_database, guard)
    copied = connect(f"sqlite:///{Backup.take(sqlite_database).copy}")
    store = Interrupted(sqlite_database)
    first, second = Log(ORIGIN, KEY, store, guard), open_log(copied, guard)
    grow(first, 4)
    append(second, tuple(b"other %d" % number for number in range(second_size)))
    if step == "refresh":
        open_log(copied).publish()  # signed by whoever has no guard
    with ThreadPoolExecutor(1) as pool:
        turns: list[Future[object]] = []

        def meanwhile() -> None:
            store.before_lock = _nothing
            turns.append(pool.submit(getattr(second, step)))
            with pytest.raises(TimeoutError):
                turns[0].result(0.2)

        store.before_lock = meanwhile
        signed = first.publish()
        with pytest.raises(LogRegressed, match=r"other entries stand|holds 3 entries, but its guard"):
            turns[0].result(60)
    assert signed == Checkpoint(ORIGIN, 4, reference.mth(reference.numbered(4)))
    assert guard.read(KEY.verifying_key()) == signed
    assert second.published_size == 0


def test_two_copies_race_for_one_guard(
    sqlite_database: Database, tmp_path: Path, connect: Callable[[str], Database]
) -> None:
    """However their turns fall, all that copies of one database sign, and all that they serve, is of one tree."""
    guard = guard_in(tmp_path)
    new_log(sqlite_database, guard)
    copied = connect(f"sqlite:///{Backup.take(sqlite_database).copy}")
    together = threading.Barrier(2)

    def run(name: str, database: Database) -> int:
        log = open_log(database, guard)
        together.wait()
        for batch in range(30):
            append(log, batch_of(name, batch))
            try:
                log.publish()
                log.refresh()
            except LogRegressed:
                break
        return log.published_size

    with ThreadPoolExecutor(2) as pool:
        sizes = sorted(pool.map(run, ("left", "right"), (sqlite_database, copied)))
    assert sizes == [0, sum(len(batch_of("left", batch)) for batch in range(30))]


def test_a_lock_that_is_held_too_long(
    database_url: str, database: Database, connect: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits too long for another's lock gets an error, not a place in an endless queue, and may try again."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 100)
    log, other = new_log(database), open_log(connect(database_url))
    with database.write() as tx:
        log.lock(tx)
        with pytest.raises(OperationalError, match="lock"):
            append(other, [b"cannot wait"])
        log.append(tx, [b"held the lock"], LOGGED_AT)
    append(other, [b"could wait"])
    assert rederive(database) == (b"held the lock", b"could wait")


def test_two_logs_of_one_database(database: Database, tmp_path: Path) -> None:
    """Logs beside one another share tables and nothing else."""
    log = new_log(database)
    with database.write() as tx:
        second = create_log(tx, f"{ORIGIN}/second", EMPTY_ROOT)
    key = KEY.generate(f"{ORIGIN}/second")
    other = Log(key.name, key, SqlStore(database, database.dialect, second), Guard(tmp_path / "guard"))
    grow(log, 300)
    append(other, [b"its own"])
    assert other.publish() == Checkpoint(key.name, 0, EMPTY_ROOT)
    assert other.publish() == Checkpoint(key.name, 1, reference.mth((b"its own",)))
    assert log.publish() == Checkpoint(ORIGIN, 300, reference.mth(reference.numbered(300)))
    assert (log.entry(0), other.entry(0)) == (b"entry 0", b"its own")
    assert log.find_leaf(reference.mth((b"its own",))) is None


def _hold_whole_batches(entries: reference.Entries, writers: list[str], batches: int) -> None:
    """Each writer's batches are there, each of them whole, in the order in which it wrote them."""
    wanted = {(writer, batch): batch_of(writer, batch) for writer in writers for batch in range(batches)}
    assert len(entries) == sum(map(len, wanted.values()))
    next_batch = dict.fromkeys(writers, 0)
    place = 0
    while place < len(entries):
        writer = entries[place].decode().rsplit(" ", 2)[0]
        batch = wanted[writer, next_batch[writer]]
        assert list(entries[place : place + len(batch)]) == batch
        next_batch[writer] += 1
        place += len(batch)
    assert set(next_batch.values()) == {batches}
