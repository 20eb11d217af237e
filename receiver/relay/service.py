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
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from receiver.answer import Answer as Response
from receiver.events import new_id
from receiver.intake.recorder import Recorder, Unavailable
from receiver.intake.submission import Outcome
from receiver.metrics import Metrics
from receiver.problems import CONTENT_TYPE, Problem
from receiver.records.attempts import Attempt
from receiver.records.keyed import idempotency_key
from receiver.records.opening import Records
from receiver.records.pending import Held
from receiver.relay import entries
from receiver.relay.answers import Answers
from receiver.relay.calls import Outgoing
from receiver.relay.entries import LATE, SETTLE_MARGIN, Party
from receiver.relay.settling import Settler
from receiver.upstream import Answer, NotSent, Unknown, Upstream, without

RETRY_AFTER = 5  # seconds, when nothing was passed on
MOST_AT_ONCE = 64  # calls of one source that are under way: a slow upstream is to be no other source's business

_UNKNOWN = (b"x-rescind-recorded", b"unknown")
_PENDING = (b"x-rescind-recorded", b"pending")


class Relay:
    """Passes calls on. Everything in here runs on the loop; `start` and `stop` are for the application's lifespan."""

    def __init__(self, records: Records, recorder: Recorder, metrics: Metrics) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._timeout = timedelta(seconds=records.settings.relay_timeout)
        self._upstream = Upstream(records.settings.relay_timeout)
        self._settler = Settler(records, self._upstream, recorder.record)
        self._answers = Answers(records, recorder)
        self._calls: set[asyncio.Task[Response]] = set()
        self._of_source = Counter[str]()
        self._background: list[asyncio.Task[None]] = []
        metrics.pending_answers.set_function(lambda: len(self._answers))

    def start(self) -> None:
        """Take up what an earlier process left unrecorded, and look after what is open."""
        self._answers.take_up()
        self._background = [asyncio.create_task(self._settler.run()), asyncio.create_task(self._answers.run())]

    async def stop(self) -> None:
        """Wait for the calls under way, each of which has its time, and end. The recorder is needed until then."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, *self._calls, return_exceptions=True)
        await self._upstream.aclose()
        self._answers.close()

    async def pass_on(self, party: Party, key_id: str, outgoing: Outgoing) -> Response:
        """Record a call's intent, make the call, record what came of it, and give the caller's answer.

        Raises Problem 503 if the intent cannot be recorded (soon enough), and 429 if too many of the source's calls
        are under way: then nothing was passed on.
        """
        source_id = party.source.id
        if self._of_source[source_id] >= MOST_AT_ONCE:
            self._count(party, "too_many")
            raise Problem(429, f"{MOST_AT_ONCE} calls of this source are under way. Call again", retry_after=1)
        self._of_source[source_id] += 1
        called_at, loop = datetime.now(UTC), asyncio.get_running_loop()
        attempt, began = self._attempt(party, key_id, outgoing, called_at), loop.time()
        try:
            await self._recorder.record(entries.intent(party, attempt, outgoing.kept, outgoing.body, called_at))
        except BaseException as error:
            self._of_source[source_id] -= 1
            if not isinstance(error, Unavailable):
                raise
            self._count(party, "unavailable")
            why = f"The call was not passed on, for its intent cannot be recorded: {error}. Call again"
            raise Problem(503, why, retry_after=RETRY_AFTER) from error
        # By both clocks: one stands still while a machine sleeps, the other one can be set.
        took = max(datetime.now(UTC) - called_at, timedelta(seconds=loop.time() - began))
        # On its own: a caller who goes away changes nothing of what was begun.
        call = self._task(source_id, self._call(party, attempt, outgoing, late=took > LATE))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:  # a stop waits for callers not as long as for calls, whose answers it records
            return _problem(_unknown("stopping", attempt, outgoing), [*_about(attempt, outgoing), _UNKNOWN])

    def _attempt(self, party: Party, key_id: str, outgoing: Outgoing, called_at: datetime) -> Attempt:
        return Attempt(
            id=new_id(),
            key_id=key_id,
            item=outgoing.item,
            path=outgoing.parameters,
            request=outgoing.request,
            called_at=called_at,
            idempotency=_idempotency(party, outgoing),
            upstream=party.source.upstream or "",
            settle_at=called_at + self._timeout + SETTLE_MARGIN,
        )

    def _task(self, source_id: str, work: Coroutine[Any, Any, Response]) -> asyncio.Task[Response]:
        task = asyncio.create_task(work)
        self._calls.add(task)

        def done(task: asyncio.Task[Response]) -> None:
            self._calls.discard(task)
            self._of_source[source_id] -= 1

        task.add_done_callback(done)
        return task

    async def _call(self, party: Party, attempt: Attempt, outgoing: Outgoing, *, late: bool) -> Response:
        said = NotSent("late") if late else await self._upstream.send(attempt.upstream, outgoing)
        headers = _about(attempt, outgoing)
        if isinstance(said, Unknown):
            self._count(party, "unknown")
            return _problem(_unknown(said.reason, attempt, outgoing), [*headers, _UNKNOWN])
        if isinstance(said, NotSent):
            headers += await self._record(party, attempt, None, b"")
            why = f"The call did not reach the upstream, so nothing was done there: {said.reason}"
            details = {"attempt": attempt.id, "reason": said.reason}
            return _problem(Problem(502, why, details=details, retry_after=RETRY_AFTER), headers)
        if said.status >= 500 or said.status < 200 or 300 <= said.status < 400:
            self._count(party, "unknown")
            headers.append(_UNKNOWN)
        else:
            headers += await self._record(party, attempt, said.status, without(said.body, outgoing.credentials))
        return Response(said.status, said.body, (*_without_ours(said), *headers))

    async def _record(
        self, party: Party, attempt: Attempt, status: int | None, body: bytes
    ) -> list[tuple[bytes, bytes]]:
        """Record what came of a call; the headers that say so."""
        held = Held(attempt.id, party.tenant.name, party.source.id, status, body, datetime.now(UTC))
        outcome = await self._answers.record(party, attempt, held)
        if outcome is None:
            self._count(party, "pending")
            return [_PENDING]
        self._count(party, _in_a_word(status, outcome))
        return [
            (b"x-rescind-event", outcome.id.encode()),
            (b"x-rescind-log-index", str(outcome.log_index).encode()),
        ]

    def _count(self, party: Party, outcome: str) -> None:
        self._metrics.relayed.labels(party.provider.name, outcome).inc()


def _idempotency(party: Party, outgoing: Outgoing) -> bytes | None:
    if outgoing.idempotency_key is None:
        return None
    key, source = outgoing.idempotency_key, party.source
    return idempotency_key(party.tenant.hash_key, source.id, outgoing.item, key, outgoing.request)


def _in_a_word(status: int | None, outcome: Outcome) -> str:
    if status is None:
        return "not_sent"
    return "refused" if status >= 400 else str(outcome.status)


def _about(attempt: Attempt, outgoing: Outgoing) -> list[tuple[bytes, bytes]]:
    """The headers by which whoever called can ask what became of it, or repeat it."""
    headers = [(b"x-rescind-attempt", attempt.id.encode())]
    if outgoing.made_key and outgoing.idempotency_key is not None:
        headers.append((b"x-rescind-idempotency-key", outgoing.idempotency_key.encode()))
    return headers


def _unknown(reason: str, attempt: Attempt, outgoing: Outgoing) -> Problem:
    """What a caller is told who cannot be told what became of the call."""
    advice = f"GET /v1/attempts/{attempt.id} tells when it is known"
    details = {"attempt": attempt.id, "reason": reason}
    if outgoing.idempotency_key is not None:
        advice += "; to repeat the call, use the same idempotency key"
        details["idempotency_key"] = outgoing.idempotency_key
    why = f"The call was passed on, and what became of it is unknown: {reason}. {advice}"
    return Problem(504 if reason in {"timeout", "stopping"} else 502, why, details=details)


def _problem(problem: Problem, headers: list[tuple[bytes, bytes]]) -> Response:
    own = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    return Response(problem.status, problem.body, ((b"content-type", CONTENT_TYPE.encode()), *own, *headers))


def _without_ours(said: Answer) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in said.headers if not name.lower().startswith(b"x-rescind-")]
