"""Answers into the log: at once where that can be, else later, and until then in a file.

The provider has been called, so its answer is worth more than any other request here: it cannot be asked for again. It
is recorded like every delivery. If that fails, or takes longer than the caller should wait, it is held (`pending`),
and recorded when the database can take it. What is recorded twice in the course of that is found by its keys.
"""

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from receiver import providers
from receiver.intake.recorder import Recorder, Unavailable
from receiver.intake.submission import Outcome, Submission
from receiver.records.attempts import Attempt, is_erased, load_attempt
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.pending import Held, Pending
from receiver.records.sources import relay_source
from receiver.relay import entries
from receiver.relay.entries import Party

AGAIN_EVERY = 1.0  # seconds between two tries to record what is held
WITHIN = 2.0  # seconds that a caller waits for an answer to be recorded, before it is held

_log = logging.getLogger(__name__)


class _ErasedError(RecordsError):
    """The call that an answer belongs to is erased."""


class Answers:
    """What records answers. Used on the loop."""

    def __init__(self, records: Records, recorder: Recorder) -> None:
        self._records = records
        self._recorder = recorder
        self._pending = Pending.of(records)
        self._held: dict[str, Held] = {}
        self._said: set[str] = set()
        self._recording: set[asyncio.Task[Outcome]] = set()
        self._disk = ThreadPoolExecutor(1, "relay-pending")  # its own: the others may all be waiting for the database

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    def take_up(self) -> None:
        """Hold what an earlier process left."""
        self._held = {held.attempt_id: held for held in self._pending.all()}

    async def record(self, party: Party, attempt: Attempt, held: Held) -> Outcome | None:
        """Record an answer; None if that fails or takes too long: it is held then, durably if the disk allows it."""
        recording = asyncio.create_task(self._recorder.record(_told(party, attempt, held)))
        self._recording.add(recording)
        recording.add_done_callback(self._recorded)
        # Not given up when it takes too long: it may be written yet, and is then found when it is tried again.
        done, _ = await asyncio.wait({recording}, timeout=WITHIN)
        if done and recording.exception() is None:
            return recording.result()
        error = recording.exception() if done else None
        why = "the database takes its time" if error is None else _plain(error)
        self._say(held, why)
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._pending.put, held)
        except OSError as failure:  # it is still held here, and lost only with this process
            _log.critical("the answer to the call %s is kept in memory only: %s", held.attempt_id, failure)
        # Only now: were it recorded before its file is there, nothing would remove that.
        self._held[held.attempt_id] = held
        return None

    async def run(self) -> None:
        """Record for ever what is held."""
        while True:
            await asyncio.sleep(AGAIN_EVERY)
            for held in list(self._held.values()):
                try:
                    party, attempt = await asyncio.to_thread(_called, self._records, held)
                    await self._recorder.record(_told(party, attempt, held))
                    await asyncio.to_thread(self._pending.drop, held.attempt_id)
                except _ErasedError:
                    # Nothing of it is to be kept. Its file goes with the erasure, which knows whether a hold covers it.
                    del self._held[held.attempt_id]
                except Exception as error:  # noqa: BLE001  (whatever is wrong with one, the others are to be recorded)
                    self._say(held, _plain(error))
                else:
                    del self._held[held.attempt_id]
                    self._said.discard(held.attempt_id)

    def close(self) -> None:
        """Wait for the files."""
        self._disk.shutdown()

    def _say(self, held: Held, why: str) -> None:
        """Once for each: it is tried every second."""
        if held.attempt_id not in self._said:
            _log.error("the answer to the call %s is not recorded yet: %s", held.attempt_id, why)
        self._said.add(held.attempt_id)

    def _recorded(self, recording: asyncio.Task[Outcome]) -> None:
        self._recording.discard(recording)
        with contextlib.suppress(asyncio.CancelledError):
            recording.exception()  # it was told already


def _plain(error: BaseException) -> str:
    """Why something failed, without what it was about: of errors that are not ours the text may quote that."""
    return str(error) if isinstance(error, (Unavailable, RecordsError, OSError)) else type(error).__name__


def find_party(records: Records, tenant: Tenant, source: str) -> Party:
    """A tenant's source by id or name, with what belongs to it. Raises NoSuchSourceError."""
    found = relay_source(records, tenant, source)
    return Party(found, tenant, providers.get(found.provider))


def _told(party: Party, attempt: Attempt, held: Held) -> Submission:
    attempt = replace(attempt, status=held.status)
    if held.status is None:
        return entries.not_sent(party, attempt, held.received_at)
    if held.status >= 400:
        return entries.refusal(party, attempt, held.body, held.received_at)
    return entries.answer(party, attempt, held.body, held.received_at)


def _called(records: Records, held: Held) -> tuple[Party, Attempt]:
    """Whose call an answer belongs to, and which. Raises RecordsError if it is not there any more, or all erased."""
    party = find_party(records, records.tenant(held.tenant), held.source_id)
    with records.database.read() as tx:
        attempt = load_attempt(tx, party.provider, held.attempt_id)
        gone = attempt is None and is_erased(tx, held.attempt_id)
    if gone:
        raise _ErasedError("its intent is erased")
    if attempt is None:
        raise RecordsError("its intent is not there")
    return party, attempt
