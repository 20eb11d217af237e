"""A delivery, from its first byte to its answer: the table of the design's section 6, top to bottom."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import cast

from litestar.types import HTTPScope, Receive
from sqlalchemy.exc import SQLAlchemyError

from receiver.answer import Answer
from receiver.intake import answers
from receiver.intake.admission import Limiter, Proxies
from receiver.intake.endpoints import Endpoint, Endpoints, Probe
from receiver.intake.recorder import Recorder, Unavailable
from receiver.intake.signatures import Authenticated, Refused
from receiver.intake.submission import Submission
from receiver.metrics import Metrics
from receiver.records.opening import Records
from receiver.records.probes import Delivery, hold

HOLDING = 2.0  # seconds that an answer waits for its delivery to be held

_UNAUTHENTICATED = frozenset({"missing_signature", "malformed_signature", "wrong_signature"})

_log = logging.getLogger(__name__)


class _TooLargeError(Exception):
    """The body is over the limit."""


class _GoneError(Exception):
    """The sender went away before its body was here."""


class Intake:
    """What a delivery passes through. Everything in here runs on the loop."""

    def __init__(self, records: Records, metrics: Metrics) -> None:
        settings = records.settings
        self.endpoints = Endpoints(records, metrics)
        self.recorder = Recorder(records, settings.queue, metrics)
        self._records = records
        self._metrics = metrics
        self._max_body = settings.max_body
        self._proxies = Proxies(settings.trusted_proxies)
        self._refusals = Limiter(settings.refusals_per_minute)
        self._admissions: dict[str, Limiter] = {}
        self._holding = asyncio.Lock()

    async def receive(self, scope: HTTPScope, receive: Receive, source_id: str) -> Answer:
        """Take one delivery to that source and give its answer."""
        try:
            endpoint = await self.endpoints.get(source_id)
        except SQLAlchemyError:
            self._metrics.unavailable.inc()
            return answers.unavailable("the database is out of reach")
        if endpoint is None:
            self._metrics.unknown_sources.inc()
            return self._unless_too_many(scope, answers.unknown_source())
        try:
            body = await _read_body(receive, self._max_body)
        except _TooLargeError:
            endpoint.count("refused:too_large")
            return answers.too_large(self._max_body)
        except _GoneError:
            endpoint.count("refused:incomplete")
            return answers.incomplete()
        # While the body came, the source may have been disabled, or its settings changed.
        endpoint = self.endpoints.present(source_id)
        if endpoint is None:
            self._metrics.unknown_sources.inc()
            return self._unless_too_many(scope, answers.unknown_source())
        now = time.time()
        verdict = endpoint.verifier.verify(cast("list[tuple[bytes, bytes]]", scope["headers"]), body, now)
        if isinstance(verdict, Refused):
            endpoint.count(f"refused:{verdict.reason}")
            if endpoint.probe is not None:
                await self._hold(endpoint, endpoint.probe, verdict, scope, body, now)
            return self._unless_too_many(scope, answers.refused(verdict))
        self.endpoints.hear(source_id, now)
        if wait := self._over_rate(endpoint, now):
            endpoint.count("refused:too_many")
            return answers.too_many("deliveries to this source", wait)
        submission = submission_of(endpoint, verdict, body, datetime.fromtimestamp(now, UTC))
        if submission is None:
            endpoint.count("ignored")
            return answers.IGNORED
        try:
            outcome = await self.recorder.record(submission)
        except Unavailable as error:
            self._metrics.unavailable.inc()
            return answers.unavailable(str(error))
        endpoint.count(outcome.status if outcome.new else "duplicate")
        return answers.kept(outcome)

    async def _hold(
        self, endpoint: Endpoint, probe: Probe, refusal: Refused, scope: HTTPScope, body: bytes, now: float
    ) -> None:
        """Hold a refused delivery for the probe that is on. Whether that works out changes nothing for its sender."""
        if refusal.reason not in _UNAUTHENTICATED or not probe.takes(now):
            return
        delivery = Delivery(now, tuple(scope["headers"]), body)
        try:
            # One at a time: a database that is locked is not to use up the threads that others need.
            async with asyncio.timeout(HOLDING), self._holding:
                if not await asyncio.to_thread(hold, self._records, endpoint.source.id, delivery):
                    probe.left = 0
        except Exception as error:  # noqa: BLE001  (whatever it is, the answer is 401)
            _log.warning(
                "a refusal of source %s is not held for its probe: %s", endpoint.source.id, type(error).__name__
            )

    def _unless_too_many(self, scope: HTTPScope, answer: Answer) -> Answer:
        client = scope["client"]
        address = self._proxies.address(client[0] if client else "", list(scope["headers"]))
        wait = self._refusals.count(address, time.monotonic())
        return answers.too_many("refused deliveries from this address", wait) if wait else answer

    def _over_rate(self, endpoint: Endpoint, now: float) -> int:
        limit = endpoint.source.rate_limit
        if limit is None:
            return 0
        limiter = self._admissions.get(endpoint.source.id)
        if limiter is None or limiter.per_minute != limit:
            limiter = self._admissions[endpoint.source.id] = Limiter(limit)
        return limiter.count("", now)


async def _read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises _TooLargeError as soon as it is over the limit, _GoneError if the sender went away."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _GoneError
        chunk = message["body"]
        size += len(chunk)
        if size > limit:
            raise _TooLargeError
        if not message["more_body"] and not chunks:
            return chunk
        chunks.append(chunk)
        if not message["more_body"]:
            return b"".join(chunks)


def submission_of(endpoint: Endpoint, verdict: Authenticated, body: bytes, received_at: datetime) -> Submission | None:
    """What an authenticated delivery is to be kept as; None if its type bears on nothing we keep."""
    source = endpoint.source
    unread = Submission(
        tenant=endpoint.tenant,
        source_id=source.id,
        provider=endpoint.provider,
        test=source.test,
        replay_window=source.replay_window,
        scheme=verdict.scheme,
        secret_id=verdict.secret_id,
        received_at=received_at,
        headers=verdict.headers,
        body=body,
    )
    return unread.read(source.account)
