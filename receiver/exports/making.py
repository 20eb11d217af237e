"""Making the files of exports, in the background of the service: one at a time, each in a process of its own.

    look     every second: take an export that waits, have its file made, note how far it is, complete it
    sweep    now and then: remove the files that have expired, that were withdrawn, and that a crash left behind

A file appears under its name once it is whole and on disk, and the export is `completed` after that. So a crash leaves
a file that is unfinished, or one that no export names: both are swept, and the export is made again by whoever finds
that nobody holds it (`receiver.exports.leases`).
"""

import asyncio
import logging
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import sqlalchemy as sa

from receiver.background import Aside, every
from receiver.events import format_time
from receiver.exports import leases
from receiver.exports.apart import Builder, Trouble, trouble
from receiver.exports.building import Built
from receiver.exports.jobs import UncoveredError, settle
from receiver.records.giving import COMPLETED, PROCESSING, file_of, remove, remove_files
from receiver.records.keeping import exports
from receiver.records.opening import Records
from translog.guard import fsync_folder

LOOKED_EVERY = 1.0
SWEPT_EVERY = 10.0
NOTED_EVERY = 1.0
HEARD_EVERY = 0.1
"""Seconds."""

_FILE = "bundle.zip"
"""What a file is called as long as it is being made."""

_OURS = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9a-f]{16}\.(?:zip|part)")

_log = logging.getLogger(__name__)


class Maker:
    """One process's part in it. `start` and `stop` are for the application's lifespan."""

    def __init__(self, records: Records, process_id: str) -> None:
        """`process_id` is this process's in `receiver.records.processes`."""
        self._records = records
        self._process_id = process_id
        self._stopping = Event()
        self._aside = Aside("exports", self._run)

    def start(self) -> None:
        """Begin."""
        self._aside.start()

    async def stop(self) -> None:
        """End what is under way, which whoever comes next begins anew, and wait for that."""
        self._stopping.set()
        await self._aside.stop()

    async def _run(self) -> None:
        await asyncio.gather(
            every(LOOKED_EVERY, lambda: asyncio.to_thread(self.look)),
            every(SWEPT_EVERY, lambda: asyncio.to_thread(sweep, self._records)),
        )

    def look(self) -> None:
        """Make the files that are to be made, and that nobody makes."""
        with self._records.database.read() as tx:
            waiting = leases.waiting(tx, datetime.now(UTC))
        for export_id in waiting:
            if not self._stopping.is_set() and self._take(export_id):
                self._make(export_id)

    def _take(self, export_id: str) -> bool:
        """Whether it is to be made now, by this process: its checkpoint is there, and nobody was faster."""
        now = datetime.now(UTC)
        with self._records.database.write() as tx:
            try:
                settle(tx, export_id)
            except UncoveredError as error:
                if error.for_good and leases.take(tx, export_id, self._process_id, now):
                    leases.fail(tx, export_id, self._process_id, str(error), now, for_good=True)
                return False
            return leases.take(tx, export_id, self._process_id, now)

    def _make(self, export_id: str) -> None:
        settings = self._records.settings
        work = settings.export_folder / f"{export_id}-{secrets.token_hex(8)}.part"
        builder = Builder(settings, export_id, work / _FILE)
        try:
            # What is there of this export is of no use: of who was killed, or of before something was erased.
            remove_files(settings, [export_id])
            settings.export_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            work.mkdir(mode=0o700)
            builder.start()
            outcome = self._outcome(export_id, builder)
            if isinstance(outcome, Built):
                self._complete(export_id, work / _FILE, outcome)
            elif outcome is not None:
                self._fail(export_id, outcome)
        except OSError as error:
            self._fail(export_id, trouble(error))
        finally:
            builder.end()
            remove(work)

    def _outcome(self, export_id: str, builder: Builder) -> Built | Trouble | None:
        """What came of it; None if it is of no use any more, for something of it was erased, or this is to end."""
        noted = time.monotonic()
        while (outcome := builder.hear(HEARD_EVERY)) is None:
            now = datetime.now(UTC)
            if self._stopping.is_set():
                with self._records.database.write() as tx:
                    leases.let_go(tx, export_id, self._process_id, now)
                return None
            if time.monotonic() - noted >= NOTED_EVERY:
                noted = time.monotonic()
                with self._records.database.write() as tx:
                    if not leases.note_progress(tx, export_id, self._process_id, builder.percent, now):
                        return None
        return outcome

    def _complete(self, export_id: str, made: Path, built: Built) -> None:
        settings = self._records.settings
        file = file_of(settings, export_id, built.sha256)
        try:
            made.rename(file)
        except FileNotFoundError:  # removed, for something of it was erased
            return
        fsync_folder(file.parent)
        kept_for = timedelta(days=settings.exports_kept)
        with self._records.database.write() as tx:
            completed = leases.complete(tx, export_id, self._process_id, built, datetime.now(UTC), kept_for)
        if not completed:
            file.unlink(missing_ok=True)

    def _fail(self, export_id: str, why: Trouble) -> None:
        now = datetime.now(UTC)
        _log.warning("export %s could not be made: %s\n%s", export_id, why.said, why.details)
        with self._records.database.write() as tx:
            if why.passing:
                leases.let_go(tx, export_id, self._process_id, now + leases.AGAIN_AFTER)
            else:
                leases.fail(tx, export_id, self._process_id, why.said, now)


def sweep(records: Records) -> None:
    """Remove the files, in the folder of exports, that are not an export's any more, and none that is not ours.

    Of an export that is being made nothing is removed: its file is there a moment before it is `completed`.
    """
    folder = records.settings.export_folder
    if not folder.is_dir():
        return
    # Before the rows: what is made since then is not looked at.
    found = {file: match[1] for file in folder.iterdir() if (match := _OURS.fullmatch(file.name))}
    if not found:
        return
    with records.database.read() as tx:
        rows = tx.execute(sa.select(exports).where(exports.c.id.in_(sorted(set(found.values()))))).all()
    now = datetime.now(UTC)
    of_id = {row.id: row for row in rows}
    for file, export_id in found.items():
        row = of_id.get(export_id)
        if row is None:  # of a database that was put back, or of another one
            needless = file.stat().st_mtime < (now - timedelta(days=records.settings.exports_kept)).timestamp()
        elif row.state == COMPLETED:
            its_file = file_of(records.settings, export_id, bytes(row.sha256))
            needless = file != its_file or row.expires_at <= format_time(now)
        else:
            needless = row.state != PROCESSING
        if needless:
            remove(file)
