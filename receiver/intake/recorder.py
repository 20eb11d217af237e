"""The recorder: whatever is waiting is written in one transaction, and only then answered.

Deliveries gather while the transaction before them runs; there is no timer. One thread writes. In one transaction it
locks the logs concerned, leaves out what is already known, judges the rest by the provider's rules, appends the
leaves and inserts the rows. A crash at any line before the commit leaves nothing of the batch, and nobody was
answered; a crash after it leaves a sender without an answer, whose next attempt is a `duplicate`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread
from typing import TypeAlias

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from receiver.events import Kind
from receiver.intake.batch import write_batch
from receiver.intake.submission import Outcome, Submission
from receiver.metrics import Metrics
from receiver.records.opening import Records
from translog.errors import StoreError

MAX_BATCH = 512
UNRECORDABLE = "unrecordable"
HALTED = "recording has stopped; /health/ready says why"  # to senders, who need know no more

_TRANSIENT = (OperationalError, InterfaceError, InternalError, PoolTimeoutError)
_log = logging.getLogger(__name__)

_Waiting: TypeAlias = tuple[asyncio.Future[Outcome], Submission]


class Unavailable(Exception):  # noqa: N818
    """Nothing was kept, or nothing is known to be: the sender must try again."""


class Recorder:
    """Turns submissions into outcomes. `start`, `stop` and `record` are called on the loop it serves."""

    def __init__(self, records: Records, queue: int, metrics: Metrics) -> None:
        self._records = records
        self._metrics = metrics
        self._most = queue
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()  # None: nothing more will come
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._run, name="recorder")
        self._stopping = False
        self.refusal: str | None = None  # why nothing may be written any more
        metrics.waiting.set_function(self._waiting.qsize)
        metrics.recording.set_function(lambda: self.refusal is None)

    def start(self) -> None:
        """Begin to write."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Write what is waiting, then end."""
        self._stopping = True
        self._waiting.put(None)
        if self._loop is not None:
            await asyncio.to_thread(self._thread.join)

    def halt(self, why: str) -> None:
        """Write nothing any more: the database is not the one it was. May be called from any thread."""
        if self.refusal is None:
            _log.critical("recording has stopped: %s", why)
        self.refusal = why

    async def record(self, submission: Submission) -> Outcome:
        """Keep a delivery; returns once that is durable. Raises Unavailable: then nobody may be told it was kept."""
        if self.refusal is not None:
            raise Unavailable(HALTED)
        if self._stopping or self._waiting.qsize() >= self._most:
            raise Unavailable("too many deliveries are waiting to be recorded")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.put((future, submission))
        return await future

    def _run(self) -> None:
        while (one := self._waiting.get()) is not None:
            batch = [one]
            while len(batch) < MAX_BATCH and not self._waiting.empty():  # nobody else takes: what is there stays
                one = self._waiting.get()
                if one is None:
                    self._waiting.put(None)  # for the loop outside, once this batch is written
                    break
                batch.append(one)
            self._metrics.batch_size.observe(len(batch))
            outcomes = self._write([submission for _, submission in batch])
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_answer, batch, outcomes)

    def _write(self, batch: Sequence[Submission]) -> list[Outcome | Unavailable]:
        if self.refusal is not None:
            return [Unavailable(HALTED)] * len(batch)
        try:
            return list(write_batch(self._records.database, batch))
        except _TRANSIENT as error:
            _log.warning("the database is out of reach: %s", _plain(error))
            return [Unavailable("the database is out of reach")] * len(batch)
        except StoreError as error:
            self.halt(str(error))
            return [Unavailable(HALTED)] * len(batch)
        except Exception as error:  # noqa: BLE001
            # One delivery's data is more than the database takes, whatever that raises. Its neighbours must not pay.
            if len(batch) > 1:
                _log.warning("a batch of %d is written one by one: %s", len(batch), _plain(error))
                return [self._write([submission])[0] for submission in batch]
            return [self._write_poisoned(batch[0], error)]

    def _write_poisoned(self, submission: Submission, error: Exception) -> Outcome | Unavailable:
        """Keep in quarantine, as bytes, what could not be written as an event."""
        _log.error("a delivery to source %s cannot be recorded: %s", submission.source_id, _plain(error))
        if submission.event is None or submission.event.kind is Kind.ATTEMPT:
            return Unavailable("this delivery cannot be kept")
        with contextlib.suppress(Exception):
            return write_batch(self._records.database, [submission.quarantined(UNRECORDABLE)])[0]
        return Unavailable("this delivery cannot be kept")


def _answer(batch: Sequence[_Waiting], outcomes: Sequence[Outcome | Unavailable]) -> None:
    for (future, _), outcome in zip(batch, outcomes, strict=True):
        if future.done():  # the sender went away; what it sent is kept all the same
            continue
        if isinstance(outcome, Outcome):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)


def _plain(error: Exception) -> str:
    """An error without the values of the statement it came from."""
    return type(error).__name__ if not isinstance(error, DBAPIError) else f"{type(error).__name__}: {error.orig}"
