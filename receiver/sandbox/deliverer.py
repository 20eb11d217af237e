"""The deliverer: sends the notices that issuers owe, until each was taken. Any 2xx takes one.

An act and the notice of it are one transaction, so whatever happened is told of at least once: a notice is owed until
it was taken, and a sandbox that was killed goes on with those it owes when it runs again. If it is killed between the
2xx and its own note of it, the notice goes out once more, under the same id. Order is not kept.

A notice that is not taken is tried again and again, within a second at first, then somewhat later each time, by chance
more or less so, and every few seconds at last. It keeps no other waiting: only those that are being sent count against
the bound.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
import stamina
from sqlalchemy.exc import SQLAlchemyError

from receiver.sandbox.issuers import issuers
from receiver.sandbox.ledger import Ledger, Notice

AT_ONCE = 8
"""How many notices are on their way to one destination at most."""
EVERY = 0.05  # seconds between two looks at what is owed
TIMEOUT = 10.0  # seconds for each: to connect, to send, to be answered
FIRST_WAIT, LONGEST_WAIT, JITTER = 0.1, 5.0, 0.5  # seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an issuer's notices go, and the secret they are signed with."""

    url: str
    secret: str


class NotTakenError(Exception):
    """The answer was none of the 2xx."""


class Deliverer:
    """Delivers what is owed to the destinations, which are by provider's name. `run` is for the loop."""

    def __init__(self, ledger: Ledger, destinations: Mapping[str, Destination]) -> None:
        self._ledger = ledger
        self._destinations = destinations
        self._turns = {name: asyncio.Semaphore(AT_ONCE) for name in destinations}
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Deliver for ever. Cancelled, it leaves what is under way owed."""
        if not self._destinations:
            return
        last = ""
        # Neither the environment's proxies nor a redirect decide where a notice goes.
        client = httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False, follow_redirects=False)
        async with client, asyncio.TaskGroup() as sending:
            while True:
                for notice in await self._owed(last):
                    last = notice.id
                    sending.create_task(self._deliver(client, notice))
                await asyncio.sleep(EVERY)

    async def _owed(self, last: str) -> list[Notice]:
        try:
            return await asyncio.to_thread(self._ledger.owed, last)
        except SQLAlchemyError as error:
            _log.warning("what is owed cannot be read: %s", error)
            return []

    async def _deliver(self, client: httpx2.AsyncClient, notice: Notice) -> None:
        attempts = stamina.retry_context(
            on=Exception,  # until it is taken, whatever it is that keeps it from that
            attempts=None,
            timeout=None,
            wait_initial=FIRST_WAIT,
            wait_max=LONGEST_WAIT,
            wait_jitter=JITTER,
        )
        async for attempt in attempts:
            with attempt:
                try:
                    async with self._turns[notice.provider]:
                        await self._send(client, notice)
                    await asyncio.to_thread(self._ledger.delivered, notice.id)
                except Exception as error:
                    self._say(notice.provider, error)
                    raise
                self._failing.discard(notice.provider)

    async def _send(self, client: httpx2.AsyncClient, notice: Notice) -> None:
        """Send it once. Raises HTTPError or NotTakenError."""
        to = self._destinations[notice.provider]
        headers = issuers()[notice.provider].sign(notice.body, to.secret, notice.id, int(time.time()))
        async with client.stream("POST", to.url, content=notice.body, headers=headers) as answer:
            if not answer.is_success:
                raise NotTakenError(f"it was answered with {answer.status_code}")

    def _say(self, provider: str, error: Exception) -> None:
        """Once for each time that an issuer's deliveries begin to fail."""
        if provider not in self._failing:
            url = self._destinations[provider].url
            _log.warning("a notice to %s was not taken, and is sent again: %s", url, str(error) or type(error).__name__)
        self._failing.add(provider)
