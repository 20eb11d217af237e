"""Making the files of exports in a process apart, and what becomes of an export whose file cannot be made."""

import asyncio
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from receiver.exports import leases, making
from receiver.exports.apart import Builder, Trouble, percent, trouble
from receiver.exports.building import Built
from receiver.exports.jobs import ask, query_of, settle
from receiver.exports.making import Maker
from receiver.records.giving import file_of, withdraw
from receiver.records.journal import change
from receiver.records.keeping import exports
from receiver.records.opening import Records
from tests.receiver.exporting import fill
from translog.errors import LogDamaged, NotPublished

PATIENCE = 60.0  # seconds
QUERY = query_of("2026-07-01T00:00:00Z", "2026-10-01T00:00:00Z", basis="received", tests=True, parquet=False)


@pytest.fixture
def export_id(records: Records) -> str:
    """An export that waits, with a checkpoint that covers it."""
    fill(records)
    export_id = ask(records, records.tenant("default"), QUERY)
    records.tenant("default").log.publish()
    with records.database.write() as tx:
        settle(tx, export_id)
    return export_id


@pytest.fixture
def maker(records: Records, monkeypatch: pytest.MonkeyPatch) -> Generator[Maker]:
    """Who makes them, without waiting between two tries."""
    monkeypatch.setattr(making, "LOOKED_EVERY", 0.01)
    monkeypatch.setattr(making, "SWEPT_EVERY", 0.01)
    monkeypatch.setattr(making, "NOTED_EVERY", 0.01)
    monkeypatch.setattr(leases, "AGAIN_AFTER", timedelta(0))
    maker = Maker(records, "a process")
    maker.start()
    yield maker
    asyncio.run(maker.stop())


def row(records: Records, export_id: str) -> Any:
    """What is known of it: state, error, failures, sha256, holder."""
    columns = (exports.c.state, exports.c.error, exports.c.failures, exports.c.sha256, exports.c.holder)
    with records.database.read() as tx:
        return tx.execute(sa.select(*columns).where(exports.c.id == export_id)).one()


def soon(true: Callable[[], object]) -> None:
    """Wait for what must come about: processes are begun for it."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def outcome(builder: Builder) -> Built | Trouble:
    """What comes of it."""
    deadline = time.monotonic() + PATIENCE
    while (heard := builder.hear(1.0)) is None:
        assert time.monotonic() < deadline
    return heard


def test_a_file_is_made_apart(records: Records, export_id: str, tmp_path: Path) -> None:
    """Of mode 0600, with the hash that is told."""
    out = tmp_path / "out.zip"
    builder = Builder(records.settings, export_id, out)
    builder.start()
    built = outcome(builder)
    builder.end()

    assert isinstance(built, Built)
    assert (built.size, built.sha256) == (out.stat().st_size, hashlib.sha256(out.read_bytes()).digest())
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_process_that_dies_is_trouble(records: Records, export_id: str, tmp_path: Path) -> None:
    """Which says how it died."""
    builder = Builder(records.settings, export_id, tmp_path / "out.zip")
    builder.start()
    pid = builder.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    told = outcome(builder)
    builder.end()

    assert isinstance(told, Trouble)
    assert "signal 9" in told.said


def test_a_process_that_is_ended_is_gone(records: Records, export_id: str, tmp_path: Path) -> None:
    """At once; and one that was never begun needs no end."""
    builder = Builder(records.settings, export_id, tmp_path / "out.zip")
    builder.start()
    pid = builder.pid
    builder.end()
    Builder(records.settings, export_id, tmp_path / "other.zip").end()

    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_an_error_says_to_whoever_asked() -> None:
    """A sentence; what nobody foresaw is for the log alone, for it may quote anything."""
    assert trouble(LogDamaged("entry 3 is missing")) == Trouble("entry 3 is missing", passing=False)
    assert trouble(NotPublished("entry 9 is not published")).passing
    assert trouble(OperationalError("", {}, Exception("away"))) == Trouble("the database is out of reach", passing=True)
    assert trouble(OSError(28, "No space left on device")).said == "its file cannot be written: No space left on device"
    unforeseen = trouble(KeyError("jane@example.com"))
    assert "jane@" not in unforeseen.said
    assert "KeyError" in unforeseen.said
    assert "jane@" in unforeseen.details


def test_what_is_not_completed_is_never_all() -> None:
    """99 at most; nothing of nothing is no error."""
    assert [percent(done, of) for done, of in ((0, 0), (0, 3), (1, 3), (3, 3), (4, 3))] == [0, 0, 33, 99, 99]


def test_what_waits_is_made(records: Records, export_id: str, maker: Maker) -> None:
    """One after the other; nothing but the files is left."""
    other = ask(records, records.tenant("default"), QUERY)
    records.tenant("default").log.publish()
    soon(lambda: {row(records, one).state for one in (export_id, other)} == {"completed"})

    files = {file_of(records.settings, one, row(records, one).sha256 or b"") for one in (export_id, other)}
    soon(lambda: set(records.settings.export_folder.iterdir()) == files)


def test_what_cannot_be_made_is_tried_thrice(records: Records, export_id: str, maker: Maker) -> None:
    """Then it has failed, and says why; once that is mended, another one can be asked for."""
    with records.database.write() as tx:
        tx.execute(sa.update(exports).where(exports.c.id == export_id).values(held_until="9999"))
    folder = records.settings.export_folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_bytes(b"in the way")
    with records.database.write() as tx:
        anew = {"state": "pending", "held_until": None, "holder": None}
        tx.execute(sa.update(exports).where(exports.c.id == export_id).values(anew))
    soon(lambda: row(records, export_id).state == "failed")

    failed = row(records, export_id)
    assert (failed.failures, failed.holder) == (3, None)
    assert (failed.error or "").startswith("its file cannot be written: ")
    folder.unlink()
    other = ask(records, records.tenant("default"), QUERY)
    records.tenant("default").log.publish()
    soon(lambda: row(records, other).state == "completed")


def test_one_that_is_withdrawn_is_made_again(records: Records, export_id: str, maker: Maker) -> None:
    """While it is made, or is there: it is completed in the end."""
    tenant = records.tenant("default")
    for state in ("processing", "completed"):
        soon(lambda state=state: row(records, export_id).state == state)
        with change(records.database, tenant.log) as changing:
            withdraw(changing.tx, tenant, [(tenant.log_id, 1)])
    soon(lambda: row(records, export_id).state == "completed")
    assert file_of(records.settings, export_id, row(records, export_id).sha256 or b"").is_file()


def test_what_is_under_way_is_left_to_others_when_it_stops(records: Records, export_id: str) -> None:
    """At once, and nothing of it stays behind."""
    maker = Maker(records, "a process")
    maker.start()
    soon(lambda: row(records, export_id).state == "processing")
    asyncio.run(maker.stop())

    assert (row(records, export_id).state, row(records, export_id).holder) == ("pending", None)
    assert list(records.settings.export_folder.iterdir()) == []
