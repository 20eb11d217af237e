"""`translog.guard`: what was signed is remembered outside the database, and a database that was put back is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from receiver.records.engine import Database
from tests.backups import Backup
from tests.translog import processes, reference
from tests.translog.logs import advance, append, grow, guard_in, new_log, note_of_size, open_log, rederive
from tests.translog.samples import KEY, ORIGIN, POLICY, STRANGER
from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import LogRegressed, StoreError
from translog.guard import Guard

VKEY = KEY.verifying_key()
GOOD = note_of_size(300)


def _file(guard: Guard) -> Path:
    (file,) = guard.folder.glob("*.checkpoint")
    return file


# ---- the folder -------------------------------------------------------------------------------------------------


def test_gives_back_what_was_written(tmp_path: Path) -> None:
    """The guard holds the last checkpoint that was written, verified again, in a folder only its owner may enter."""
    guard = Guard(tmp_path / "made" / "as needed")
    assert guard.read(VKEY) is None
    for size in (0, 1, 300):
        advance(guard, VKEY, note_of_size(size))
        assert guard.read(VKEY) == POLICY.open(note_of_size(size))
        assert Guard(guard.folder).read(VKEY) == POLICY.open(note_of_size(size))
    assert _file(guard).read_bytes() == note_of_size(300)
    assert guard.folder.stat().st_mode & 0o777 == 0o700


def test_one_file_for_each_key(tmp_path: Path) -> None:
    """Logs that share a guard do not disturb one another, were their origins equal: the key makes the file's name."""
    guard = Guard(tmp_path)
    successor = KEY.generate(ORIGIN)
    advance(guard, VKEY, note_of_size(300))
    assert guard.read(successor.verifying_key()) is None
    fresh = note.sign(Checkpoint(ORIGIN, 1, bytes(32)).text, successor)
    advance(guard, successor.verifying_key(), fresh)
    assert guard.read(successor.verifying_key()) == Checkpoint(ORIGIN, 1, bytes(32))
    assert guard.read(VKEY) == POLICY.open(note_of_size(300))


def test_never_moves_back(tmp_path: Path) -> None:
    """A smaller checkpoint, of a receiver that was slower, leaves the guard as it is."""
    guard = Guard(tmp_path)
    advance(guard, VKEY, note_of_size(300))
    for size in (299, 0, 300):
        advance(guard, VKEY, note_of_size(size))
        assert _file(guard).read_bytes() == note_of_size(300)


def test_refuses_a_second_root_of_one_size(tmp_path: Path) -> None:
    """To sign two roots of one size would be a fork."""
    guard = Guard(tmp_path)
    advance(guard, VKEY, note_of_size(300))
    with pytest.raises(LogRegressed, match="would be a fork"):
        advance(guard, VKEY, note_of_size(300, b"other entries"))
    assert _file(guard).read_bytes() == note_of_size(300)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        GOOD[:-1],
        GOOD[: len(GOOD) // 2],
        GOOD.replace(b"\n300\n", b"\n200\n"),
        GOOD[:-8] + b"AAAA" + GOOD[-4:],
        note.sign(Checkpoint(STRANGER.name, 300, bytes(32)).text, STRANGER),
        note.sign(Checkpoint(STRANGER.name, 300, bytes(32)).text, KEY),
    ],
    ids=["empty", "no end", "half", "smaller", "signature", "another log's", "signed for another log"],
)
def test_a_damaged_file_is_not_an_absent_one(tmp_path: Path, damaged: bytes) -> None:
    """A guard file that does not verify is an error, to read and to replace, until somebody puts it right."""
    guard = Guard(tmp_path)
    advance(guard, VKEY, GOOD)
    _file(guard).write_bytes(damaged)
    with pytest.raises(StoreError, match=f"does not hold a checkpoint of {ORIGIN}:"):
        guard.read(VKEY)
    with pytest.raises(StoreError, match="Put it back from a copy"):
        advance(guard, VKEY, note_of_size(301))
    assert _file(guard).read_bytes() == damaged


def test_a_file_that_cannot_be_read_is_not_an_absent_one(tmp_path: Path) -> None:
    """Whatever keeps the file from being read is an error, and so is a folder that cannot be made."""
    guard = Guard(tmp_path / "guard")
    advance(guard, VKEY, note_of_size(300))
    file = _file(guard)
    file.unlink()
    file.mkdir()
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        guard.read(VKEY)
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be read: Not a directory"):
        Guard(tmp_path / "taken").read(VKEY)
    with pytest.raises(StoreError, match=r"cannot be written .*; set RESCIND_GUARD"):
        advance(Guard(tmp_path / "taken"), VKEY, note_of_size(1))


def test_what_a_crash_leaves_behind(tmp_path: Path) -> None:
    """A file that was not renamed yet, whole or half, is not the guard, and the next write replaces it."""
    guard = Guard(tmp_path)
    advance(guard, VKEY, note_of_size(300))
    unfinished = _file(guard).with_suffix(".new")
    unfinished.write_bytes(note_of_size(400)[:50])
    assert guard.read(VKEY) == POLICY.open(note_of_size(300))
    advance(guard, VKEY, note_of_size(301))
    assert guard.read(VKEY) == POLICY.open(note_of_size(301))
    assert not unfinished.exists()


def test_threads_and_processes_on_one_folder(tmp_path: Path) -> None:
    """Receivers that share a folder leave the largest checkpoint, and whoever reads meanwhile never sees it shrink."""
    guard = Guard(tmp_path)
    advance(guard, VKEY, note_of_size(0))
    done = threading.Event()

    def watch() -> list[int]:
        seen: list[int] = []
        while not done.is_set():
            checkpoint = guard.read(VKEY)
            assert checkpoint is not None
            seen.append(checkpoint.size)
        return seen

    with ThreadPoolExecutor(3) as pool:
        watching = pool.submit(watch)
        try:
            writers = [processes.start("guard", tmp_path, first, 200, 2) for first in (1, 2)]
            threads = [pool.submit(processes.guard, str(tmp_path), "0", "200", step) for step in ("3", "7")]
            assert [writer.wait(60) for writer in writers] == [0, 0]
            assert [thread.result(60) for thread in threads] == [None, None]
        finally:
            done.set()
        seen = watching.result(60)
    assert seen == sorted(seen)
    assert guard.read(VKEY) == POLICY.open(note_of_size(199))


# ---- the log that is held to it ---------------------------------------------------------------------------------


def test_a_database_put_back_is_refused(database: Database, tmp_path: Path) -> None:
    """A database from before the last checkpoint is whole in itself; the guard knows better, as does the process."""
    guard = guard_in(tmp_path)
    log = new_log(database, guard)
    grow(log, 300)
    log.publish()
    backup = Backup.take(database)
    grow(log, 600)
    log.publish()
    backup.put_back()
    assert rederive(database) == reference.numbered(300)
    for receiver in (log, open_log(database, guard)):
        for step in (receiver.check, receiver.publish):
            with pytest.raises(LogRegressed, match="holds 300 entries, but its guard has a checkpoint of 600"):
                step()
    with pytest.raises(LogRegressed, match="this process has seen size 600"):
        append(log, [b"never"])
    assert rederive(database) == reference.numbered(300)


def test_a_database_put_back_is_noticed_without_a_guard(database: Database) -> None:
    """The process that saw the log larger stops writing on its own; one that has just started cannot know."""
    log = new_log(database)
    backup = Backup.take(database)
    grow(log, 300)
    backup.put_back()
    with pytest.raises(LogRegressed, match="this process has seen size 300"):
        append(log, [b"never"])
    with pytest.raises(LogRegressed, match="this process has seen size 300"):
        log.publish()  # nothing is written for long, and yet it is noticed
    append(open_log(database), [b"who could know"])


@pytest.mark.parametrize("size", [100, 600, 601, 900])
def test_a_database_regrown_is_refused(database: Database, tmp_path: Path, size: int) -> None:
    """Put back and grown again with other entries, as far as before or further, a log is another one."""
    guard = guard_in(tmp_path)
    log, regrown = new_log(database, guard), open_log(database)
    grow(log, 50)
    log.publish()
    backup = Backup.take(database)
    grow(log, 100)
    log.publish()
    grow(log, 600)
    # Has it remember every full tile, which must not be taken for those of another database.
    assert log.find_leaf(merkle.leaf_hash(b"entry 599")) == 599
    backup.put_back()
    append(regrown, tuple(b"other %d" % number for number in range(size - 50)))
    for receiver in (log, open_log(database, guard)):
        for step in (receiver.check, receiver.publish):
            with pytest.raises(LogRegressed, match="other entries stand where signed ones stood"):
                step()
    if size <= 600:
        with pytest.raises(LogRegressed, match="but this process has seen size 600"):
            append(log, [b"never"])
    # A receiver without a guard signs it: that is what the guard is for.
    regrown.publish()
    with pytest.raises(LogRegressed, match="other entries stand where signed ones stood"):
        open_log(database, guard).check()


def test_a_fork_is_not_served(database: Database, tmp_path: Path) -> None:
    """A checkpoint that contradicts the guard is not let through to readers, whoever signed it."""
    guard, unguarded = guard_in(tmp_path), Backup.take(database)
    log = new_log(database, guard)
    grow(log, 300)
    log.publish()
    unguarded.put_back()
    other = new_log(database)
    append(other, tuple(b"other %d" % number for number in range(300)))
    other.publish()
    fresh = open_log(database, guard)
    with pytest.raises(LogRegressed, match="other entries stand where signed ones stood"):
        fresh.refresh()
    assert fresh.published_size == 0


def test_readers_move_the_guard_on(database: Database, tmp_path: Path) -> None:
    """A receiver writes what another one signed to its own guard before it serves it, on a machine of its own."""
    ours, theirs = Guard(tmp_path / "ours"), Guard(tmp_path / "theirs")
    log, other = new_log(database, theirs), open_log(database, ours)
    for size, step in [(10, other.refresh), (20, other.check), (30, other.publish)]:
        grow(log, size)
        log.publish()
        step()
        assert other.published_size == size
        guarded = ours.read(VKEY)
        assert guarded is not None
        assert guarded.size == size


def test_a_damaged_guard_stops_publishing(database: Database, tmp_path: Path) -> None:
    """While nobody can tell what was signed, nothing more is; what is committed stays, and is signed afterwards."""
    guard = guard_in(tmp_path)
    log = new_log(database, guard)
    grow(log, 10)
    good = _file(guard).read_bytes()
    _file(guard).write_bytes(good[:-2])
    for step in (log.publish, log.check, open_log(database, guard).check):
        with pytest.raises(StoreError, match="Put it back from a copy"):
            step()
    append(log, [b"recorded all the same"])
    _file(guard).write_bytes(good)
    log.publish()
    assert rederive(database, guard) == (*reference.numbered(10), b"recorded all the same")
