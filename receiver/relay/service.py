"""A call, from the operator to the provider and back, and what is recorded of it.

    intent durable ▶ call upstream ▶ answer durable ▶ answer to the caller

Nothing is passed on before the intent is durable; and nothing is answered before the answer is, or else it is said that
it is not (`X-Rescind-Recorded: pending`). A crash after the intent leaves a call of unknown outcome, which is listed,
and settled where it can be (`receiver.relay.settling`). What became of a call is decided by its answer's status:

    2xx       done, or begun: the event that the operation's answer is
    4xx       refused
    nothing   of it was sent, for there was no connection: that is recorded as well
    all else  unknown: the provider may or may not have done it
"""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from receiver import providers
from receiver.answer import Answer as Response
from receiver.events import new_id
from receiver.intake.recorder import Recorder, Unavailable
from receiver.intake.submission import Outcome, Submission
from receiver.metrics import Metrics
from receiver.problems import CONTENT_TYPE, Problem
from receiver.records.attempts import Attempt, load_attempt
from receiver.records.keyed import idempotency_key
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.sources import relay_source
from receiver.relay import entries
from receiver.relay.calls import Outgoing
from receiver.relay.entries import SETTLE_MARGIN, Party
from receiver.relay.pending import FOLDER, Held, Pending
from receiver.relay.settling import Settler
from receiver.relay.upstream import Answer, NotSent, Unknown, Upstream

RETRY_AFTER = 5  # seconds, when nothing was passed on
PENDING_EVERY = 1.0  # seconds between two tries to record what could not be recorded

_UNKNOWN = (b"x-rescind-recorded", b"unknown")
_PENDING = (b"x-rescind-recorded", b"pending")

_log = logging.getLogger(__name__)


class Relay:
    """Passes calls on. Everything in here runs on the loop; `start` and `stop` are for the application's lifespan."""

    def __init__(self, records: Records, recorder: Recorder, metrics: Metrics) -> None:
        self._records = records
        self._recorder = recorder
        self._metrics = metrics
        self._timeout = records.settings.relay_timeout
        self._upstream = Upstream(self._timeout)
        self._settler = Settler(records, self._upstream, recorder.record)
        self._pending = Pending(records.settings.data / FOLDER, records.vault)
        self._held: dict[str, Held] = {}
        self._calls: set[asyncio.Task[Response]] = set()
        self._background: list[asyncio.Task[None]] = []
        metrics.pending_answers.set_function(lambda: len(self._held))

    def start(self) -> None:
        """Take up what an earlier process left unrecorded, and look after what is open."""
        self._held = {held.attempt_id: held for held in self._pending.all()}
        self._background = [asyncio.create_task(self._settler.run()), asyncio.create_task(self._record_pending())]

    async def stop(self) -> None:
        """Wait for the calls under way, each of which has its time, and end. The recorder is needed until then."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, *self._calls, return_exceptions=True)
        await self._upstream.aclose()

    async def pass_on(self, party: Party, key_id: str, outgoing: Outgoing) -> Response:
        """Record a call's intent, make the call, record what came of it, and give the caller's answer.

        Raises Problem 503 if the intent cannot be recorded: then nothing was passed on.
        """
        called_at = datetime.now(UTC)
        attempt = Attempt(
            id=new_id(),
            key_id=key_id,
            item=outgoing.item,
            path=outgoing.parameters,
            request=outgoing.request,
            called_at=called_at,
            idempotency=_idempotency(party, outgoing),
            settle_at=called_at + timedelta(seconds=self._timeout) + SETTLE_MARGIN,
        )
        try:
            await self._recorder.record(entries.intent(party, attempt, outgoing.kept, outgoing.body, called_at))
        except Unavailable as error:
            self._count(party, "unavailable")
            why = f"The call was not passed on, for its intent cannot be recorded: {error}. Call again"
            raise Problem(503, why, retry_after=RETRY_AFTER) from error
        # On its own: a caller who goes away changes nothing of what was begun.
        return await asyncio.shield(self._task(self._call(party, attempt, outgoing)))

    def _task(self, work: Coroutine[Any, Any, Response]) -> asyncio.Task[Response]:
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def _call(self, party: Party, attempt: Attempt, outgoing: Outgoing) -> Response:
        said = await self._upstream.send(party.source.upstream or "", outgoing)
        attempt = replace(attempt, settle_at=None)
        headers = [(b"x-rescind-attempt", attempt.id.encode())]
        if outgoing.made_key and outgoing.idempotency_key is not None:
            headers.append((b"x-rescind-idempotency-key", outgoing.idempotency_key.encode()))
        if isinstance(said, Unknown):
            self._count(party, "unknown")
            return _problem(_unknown(said, attempt, outgoing), [*headers, _UNKNOWN])
        if isinstance(said, NotSent):
            headers += await self._record(party, attempt, None, b"")
            why = f"The call did not reach the upstream, so nothing was done there: {said.reason}"
            details = {"attempt": attempt.id, "reason": said.reason}
            return _problem(Problem(502, why, details=details, retry_after=RETRY_AFTER), headers)
        if said.status >= 500 or said.status < 200 or 300 <= said.status < 400:
            self._count(party, "unknown")
            headers.append(_UNKNOWN)
        else:
            headers += await self._record(party, attempt, said.status, said.body)
        return Response(said.status, said.body, (*_without_ours(said), *headers))

    async def _record(
        self, party: Party, attempt: Attempt, status: int | None, body: bytes
    ) -> list[tuple[bytes, bytes]]:
        """Record what came of a call; the headers that say so. If that fails now, it is held for later."""
        held = Held(attempt.id, party.tenant.name, party.source.id, status, body, datetime.now(UTC))
        try:
            outcome = await self._recorder.record(_told(party, attempt, held))
        except Exception as error:  # noqa: BLE001  (whatever it is, the provider has been called: its answer goes back)
            _log.error("the answer to the call %s is not recorded yet: %s", attempt.id, _plain(error))
            self._count(party, "pending")
            try:
                await asyncio.to_thread(self._pending.put, held)
            except OSError as failure:  # it is still held here, and lost only with this process
                _log.critical("the answer to the call %s is kept in memory only: %s", attempt.id, failure)
            self._held[attempt.id] = held  # only now, or it could be recorded and forgotten before its file is there
            return [_PENDING]
        self._count(party, _in_a_word(status, outcome))
        return [
            (b"x-rescind-event", outcome.id.encode()),
            (b"x-rescind-log-index", str(outcome.log_index).encode()),
        ]

    async def _record_pending(self) -> None:
        logged: dict[str, str] = {}
        while True:
            await asyncio.sleep(PENDING_EVERY)
            for held in list(self._held.values()):
                try:
                    await self._record_held(held)
                except Exception as error:  # noqa: BLE001  (of this one, which is tried again; the others are now)
                    said = _plain(error)
                    if said != logged.get(held.attempt_id):
                        _log.warning("the answer to the call %s is not recorded yet: %s", held.attempt_id, said)
                    logged[held.attempt_id] = said
                else:
                    logged.pop(held.attempt_id, None)

    async def _record_held(self, held: Held) -> None:
        party, attempt = await asyncio.to_thread(_called, self._records, held)
        await self._recorder.record(_told(party, attempt, held))
        await asyncio.to_thread(self._pending.drop, held.attempt_id)
        del self._held[held.attempt_id]

    def _count(self, party: Party, outcome: str) -> None:
        self._metrics.relayed.labels(party.provider.name, outcome).inc()


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
    """Whose call an answer belongs to, and which. Raises RecordsError if it is not there any more."""
    party = find_party(records, records.tenant(held.tenant), held.source_id)
    with records.database.read() as tx:
        attempt = load_attempt(tx, party.provider, held.attempt_id)
    if attempt is None:
        raise RecordsError("its intent is not there")
    return party, attempt


def _idempotency(party: Party, outgoing: Outgoing) -> bytes | None:
    if outgoing.idempotency_key is None:
        return None
    key, source = outgoing.idempotency_key, party.source
    return idempotency_key(party.tenant.hash_key, source.id, outgoing.item, key, outgoing.request)


def _plain(error: Exception) -> str:
    """Why something failed, without what it was about: of errors that are not ours the text may quote that."""
    return str(error) if isinstance(error, (Unavailable, RecordsError, OSError)) else type(error).__name__


def _in_a_word(status: int | None, outcome: Outcome) -> str:
    if status is None:
        return "not_sent"
    return "refused" if status >= 400 else str(outcome.status)


def _unknown(said: Unknown, attempt: Attempt, outgoing: Outgoing) -> Problem:
    """What a caller is told who cannot be told what became of the call."""
    advice = f"GET /v1/attempts/{attempt.id} tells when it is known"
    details = {"attempt": attempt.id, "reason": said.reason}
    if outgoing.idempotency_key is not None:
        advice += "; to repeat the call, use the same idempotency key"
        details["idempotency_key"] = outgoing.idempotency_key
    why = f"The call was passed on, and what became of it is unknown: {said.reason}. {advice}"
    return Problem(504 if said.reason == "timeout" else 502, why, details=details)


def _problem(problem: Problem, headers: list[tuple[bytes, bytes]]) -> Response:
    own = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    return Response(problem.status, problem.body, ((b"content-type", CONTENT_TYPE.encode()), *own, *headers))


def _without_ours(said: Answer) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in said.headers if not name.lower().startswith(b"x-rescind-")]
