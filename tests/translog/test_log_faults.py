"""`translog.log` where writes are lost, or happen and are not acknowledged: nothing is half done, and work goes on."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from receiver.records.engine import Database
from tests.translog import faults, processes, reference
from tests.translog.faults import Moment, PowerCut
from tests.translog.logs import LOGGED_AT, append, grow, guard_in, new_log, open_log, rederive
from tests.translog.processes import FIRST, SECOND
from translog.guard import Guard, Held
from translog.log import Log

BATCH = tuple(b"a batch that is interrupted %d" % place for place in range(260))  # over the edge of a tile
SELECT_HEAD = "SELECT logs.size"
APPEND = (SELECT_HEAD, "INSERT INTO log_entries", "INSERT INTO log_tiles", "UPDATE logs", "COMMIT")
PUBLISH = (
    ("SELECT log_published", 1),
    ("COMMIT", 1),  # of what was only read
    ("SELECT log_published", 2),  # the same again, with the guard held
    ("COMMIT", 2),
    ("SELECT log_published", 3),  # the lock
    ("UPDATE log_published", 1),
    ("INSERT INTO log_checkpoints", 1),
    ("COMMIT", 3),
)
MOMENTS = ("before", "after")


@pytest.mark.parametrize("statement", APPEND)
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_append_that_fails(database: Database, tmp_path: Path, moment: Moment, statement: str) -> None:
    """Only a commit keeps a batch, acknowledged or not; then the same log, another and a new one all go on from it."""
    guard = guard_in(tmp_path)
    log, other = new_log(database, guard), open_log(database, guard)
    grow(log, 300)
    log.publish()
    with faults.at(database, moment, statement) as met, pytest.raises(PowerCut):
        append(log, BATCH)
    assert len(met) == 1
    kept = BATCH if (moment, statement) == ("after", "COMMIT") else ()
    assert rederive(database, guard) == reference.numbered(300) + kept
    _all_go_on(database, guard, [log, other], reference.numbered(300) + kept)


@pytest.mark.parametrize("statement", APPEND)
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_failed_batch_again(database: Database, moment: Moment, statement: str) -> None:
    """What was not kept is appended again by the same log; what was kept it finds there, and appends nothing twice."""
    log = new_log(database)
    grow(log, 300)
    with faults.at(database, moment, statement), pytest.raises(PowerCut):
        append(log, BATCH)
    with database.write() as tx:
        head = log.lock(tx)
        missing = BATCH[head.size - 300 :]
        log.append(tx, missing, LOGGED_AT)
    assert rederive(database) == reference.numbered(300) + BATCH


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_append_that_fails_after_another_receiver_grew_the_log(database: Database, moment: Moment) -> None:
    """A rolled-back batch leaves no edge behind that could be taken for another receiver's batch of the same size."""
    log, other = new_log(database), open_log(database)
    grow(log, 300)
    with faults.at(database, moment, "UPDATE logs"), pytest.raises(PowerCut):
        append(log, BATCH)
    append(other, BATCH[::-1])
    append(log, [b"next"])
    assert rederive(database) == (*reference.numbered(300), *BATCH[::-1], b"next")


@pytest.mark.parametrize(("statement", "which"), PUBLISH)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_checkpoint_that_is_interrupted(
    database: Database, tmp_path: Path, moment: Moment, statement: str, which: int
) -> None:
    """A checkpoint is published by its commit or not at all, never ahead of its guard, and made again if need be."""
    guard = guard_in(tmp_path)
    log, other = new_log(database, guard), open_log(database, guard)
    grow(log, 300)
    with faults.at(database, moment, statement, which) as met, pytest.raises(PowerCut):
        log.publish()
    assert len(met) == which
    assert rederive(database, guard) == reference.numbered(300)
    open_log(database, guard).check()
    assert log.published_size == 0
    other.refresh()
    assert other.published_size == (300 if (moment, statement, which) == ("after", "COMMIT", 3) else 0)
    _all_go_on(database, guard, [log, other], reference.numbered(300))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_guard_that_cannot_be_written(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    """Between guard and database a crash leaves a guard ahead, which the database still reaches; before it, neither."""
    guard = guard_in(tmp_path)
    log, other = new_log(database, guard), open_log(database, guard)
    grow(log, 300)
    advance = Held.advance

    def interrupted(held: Held, note: bytes) -> None:
        if moment == "after":
            advance(held, note)
        faults.power_cut()

    with monkeypatch.context() as patch:
        patch.setattr(Held, "advance", interrupted)
        with pytest.raises(PowerCut):
            log.publish()
    guarded = guard.read(log.verifying_key)
    assert guarded is not None
    assert guarded.size == (300 if moment == "after" else 0)
    other.refresh()
    assert other.published_size == 0
    open_log(database, guard).check()
    _all_go_on(database, guard, [log, other], reference.numbered(300))


@pytest.mark.parametrize(
    ("moment", "statement", "which", "entries", "published"),
    [
        ("before", "COMMIT", 1, FIRST, 300),
        ("after", "COMMIT", 1, FIRST + SECOND, 300),
        ("before", "COMMIT", 4, FIRST + SECOND, 300),  # the guard is written, the checkpoint is not
    ],
)
def test_a_killed_receiver(
    database: Database,
    tmp_path: Path,
    moment: Moment,
    statement: str,
    which: int,
    entries: reference.Entries,
    published: int,
) -> None:
    """A process that dies at a statement leaves no lock and nothing half done: the next one goes on at once."""
    guard = guard_in(tmp_path)
    log = new_log(database, guard)
    url = database.url.render_as_string(hide_password=False)
    assert processes.start("die", url, guard.folder, moment, statement, which).wait(30) == 9
    assert rederive(database, guard) == entries
    log.refresh()
    assert log.published_size == published
    _all_go_on(database, guard, [log], entries)


def _all_go_on(database: Database, guard: Guard, logs: list[Log], entries: reference.Entries) -> None:
    """Append to and publish each of these logs, and one that has just started, then hold all of it to the entries."""
    fresh = open_log(database, guard)
    fresh.check()
    for number, log in enumerate([*logs, fresh]):
        append(log, [b"goes on %d" % number])
        entries = (*entries, b"goes on %d" % number)
        checkpoint = log.publish()
        assert checkpoint is not None
        assert (checkpoint.size, checkpoint.root) == (len(entries), reference.mth(entries))
        assert log.published_size == len(entries)
    assert rederive(database, guard) == entries


def test_a_connection_that_is_cut(postgresql_database: Database) -> None:
    """Where PostgreSQL ends a session in the middle of a batch nothing of it is left, and nobody has to wait."""
    log, other = new_log(postgresql_database), open_log(postgresql_database)
    grow(log, 300)

    def interrupted() -> None:
        with postgresql_database.write() as tx:
            log.lock(tx)
            log.append(tx, BATCH, LOGGED_AT)
            session = tx.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
            with postgresql_database.read() as killer:
                killer.execute(sa.select(sa.func.pg_terminate_backend(session, 5000))).one()

    with pytest.raises(OperationalError):
        interrupted()
    append(other, [b"by another"])
    append(log, [b"by the same"])
    assert rederive(postgresql_database) == (*reference.numbered(300), b"by another", b"by the same")
