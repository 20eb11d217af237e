"""A process of its own that makes the file of one export, at a low priority: no delivery waits for it.

    builder = Builder(settings, export_id, out)
    builder.start()
    while (outcome := builder.hear(1.0)) is None:
        …                                             builder.percent
    builder.end()

It is begun anew (`spawn`), opens the records as every process does, and writes nothing but its file. If whoever began
it is gone, however that ended, so is it.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from sqlalchemy.exc import InterfaceError, OperationalError

from receiver.exports.building import Built, build
from receiver.exports.jobs import load
from receiver.records.opening import Records, RecordsError
from receiver.records.vault import VaultError
from receiver.settings import Settings
from translog.errors import NotPublished, TranslogError

NICE = 10
"""How much others come before it."""

TOLD_EVERY = 0.2
"""Seconds between two notes of its progress."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the file could not be made."""

    said: str
    """A sentence for whoever asked for it."""
    passing: bool
    """It has to do with something else, which may be over in a while."""
    details: str = ""
    """For the service's log."""


@dataclass(frozen=True, slots=True)
class _Progress:
    percent: int


class Builder:
    """Makes one file. Its methods may block."""

    def __init__(self, settings: Settings, export_id: str, out: Path) -> None:
        """`out` is a new file, of which nothing is left to whoever may not read it."""
        context = multiprocessing.get_context("spawn")
        self._told, self._telling = context.Pipe(duplex=False)
        arguments = settings, export_id, out, self._telling
        self._process = context.Process(target=_make, args=arguments, name=f"export {export_id}", daemon=True)
        self.percent = 0
        """How far it is."""

    @property
    def pid(self) -> int | None:
        """Of the process; None before it has begun."""
        return self._process.pid

    def start(self) -> None:
        """Begin."""
        self._process.start()
        self._telling.close()

    def hear(self, seconds: float) -> Built | Trouble | None:
        """What came of it, as soon as that is known; None if it is not within so many seconds."""
        until = time.monotonic() + seconds
        while self._told.poll(max(0.0, until - time.monotonic())):
            try:
                told = self._told.recv()
            except EOFError:
                self._process.join()
                how = self._process.exitcode or 0
                return Trouble(
                    f"the process that made it was ended by signal {-how}; there may be too little memory"
                    if how < 0
                    else f"the process that made it ended with status {how}; the service's log may say why",
                    passing=False,
                )
            if not isinstance(told, _Progress):
                return told
            self.percent = told.percent
        return None

    def end(self) -> None:
        """End it, wherever it is."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self._told.close()


def _make(settings: Settings, export_id: str, out: Path, telling: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which ends this
    os.umask(0o077)
    os.nice(NICE)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told_at = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= TOLD_EVERY:
            told_at = time.monotonic()
            telling.send(_Progress(percent(done, of)))

    try:
        records = Records.open(settings, check=False)
        try:
            with records.database.read() as tx:
                job = load(tx, export_id)
            built = build(records, job, out, tell)
        finally:
            records.close()
    except Exception as error:  # noqa: BLE001  (whatever it is, whoever began this has to know)
        telling.send(trouble(error))
    else:
        telling.send(built)


def percent(done: int, of: int) -> int:
    """How far something is that is not completed yet."""
    return min(99, 100 * done // max(1, of))


def trouble(error: Exception) -> Trouble:
    """What an error says to whoever asked for an export."""
    match error:
        case OperationalError() | InterfaceError():
            return Trouble("the database is out of reach", passing=True)
        case NotPublished():
            return Trouble(str(error), passing=True)
        case TranslogError() | VaultError() | RecordsError():
            return Trouble(str(error), passing=False)
        case OSError():
            return Trouble(f"its file cannot be written: {error.strerror or error}", passing=False)
        case _:
            # What it says is for the log alone: it may quote what is nobody's business.
            said = f"an unexpected {type(error).__name__}, which the service's log describes"
            return Trouble(said, passing=False, details="".join(traceback.format_exception(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
