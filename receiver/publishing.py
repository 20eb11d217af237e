"""The publisher: signs what was recorded, once a second at most, and lets readers wait for it.

Each receiver of a database has one. Which of them signs does not matter; all of them pick the newest checkpoint up.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from receiver.metrics import Metrics
from receiver.records.opening import Records, Tenant
from translog.errors import LogDamaged, LogRegressed, TranslogError
from translog.log import Log
from translog.store import Standing, standings

_log = logging.getLogger(__name__)

UNPUBLISHED_FOR_TOO_LONG = 10.0  # seconds
LEAST_PATIENCE = 2.0
"""Seconds that a reader waits for a checkpoint at least: a busy moment of a receiver that signs often is no failure."""


LOOKED_AGAIN = 10.0
"""Seconds after which even a log that stands as it did is looked at: what its guard says may have changed."""


class Publisher:
    """Publishes every tenant's log. Its methods are called on the loop; the work is done in a thread.

    Most logs of a receiver with many tenants are idle. Where they stand is one question for all of them; one that
    stands as it did when all of it was published is passed over.
    """

    def __init__(self, records: Records, metrics: Metrics, halt: Callable[[str], None]) -> None:
        """`halt` is called with the reason once a log is found that must not be written to any more."""
        self._records = records
        self._halt = halt
        self._metrics = metrics
        self.interval = records.settings.publish_interval
        self._published = asyncio.Condition()
        self._awaited: dict[str, tuple[float, int]] = {}  # by tenant, since when which size waits to be covered
        self._settled: dict[str, tuple[Standing, float]] = {}  # by tenant, where its log stood with nothing to do, when
        self.failures: dict[str, str] = {}  # by tenant, what the last attempt failed with

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            began = time.monotonic()
            await self.publish()
            await asyncio.sleep(max(0.0, self.interval - (time.monotonic() - began)))

    async def publish(self) -> None:
        """Publish every log that has grown, and wake who waits."""
        standing = await asyncio.to_thread(self._standing)
        for tenant in self._records.tenants:
            stands = standing.get(tenant.log_id)
            settled, since = self._settled.get(tenant.name, (None, 0.0))
            if stands is None or stands != settled or time.monotonic() - since > LOOKED_AGAIN:
                await asyncio.to_thread(self._publish, tenant, stands)
        async with self._published:
            self._published.notify_all()

    def _standing(self) -> dict[int, Standing]:
        try:
            with self._records.database.read() as tx:
                return standings(tx)
        except Exception:  # noqa: BLE001  (then every log is tried, and each failure is told)
            return {}

    def _publish(self, tenant: Tenant, stands: Standing | None) -> None:
        name, log = tenant.name, tenant.log
        self._settled.pop(name, None)
        try:
            log.publish()
            log.refresh()
            while log.index_leaves():
                pass
            size = log.head().size
        except (LogRegressed, LogDamaged) as error:
            self.failures[name] = str(error)
            self._halt(str(error))
        except Exception as error:  # noqa: BLE001  (a database or guard out of reach: the next second may do better)
            self.failures[name] = f"{type(error).__name__}: {error}" if isinstance(error, TranslogError) else str(error)
        else:
            self.failures.pop(name, None)
            self._metrics.log_size.labels(name).set(size)
            self._metrics.published_size.labels(name).set(log.published_size)
            if name in self._awaited and log.published_size >= min(self._awaited[name][1], size):
                del self._awaited[name]
            if size > log.published_size:
                self._awaited.setdefault(name, (time.monotonic(), size))
            elif stands is not None and stands.size == stands.published_size == size:
                self._settled[name] = stands, time.monotonic()
            return
        self._awaited.setdefault(name, (time.monotonic(), log.published_size + 1))
        self._metrics.publish_failures.labels(name).inc()
        _log.error("the log of tenant %s cannot be published: %s", name, self.failures[name])

    def overdue(self) -> list[str]:
        """The tenants with an entry that has been unpublished for over ten seconds."""
        now = time.monotonic()
        return [name for name, (since, _) in list(self._awaited.items()) if now - since > UNPUBLISHED_FOR_TOO_LONG]

    async def wait_for(self, log: Log, index: int) -> bool:
        """Wait until that entry's checkpoint is published, at most two intervals or two seconds; whether it is."""
        try:
            async with asyncio.timeout(max(2 * self.interval, LEAST_PATIENCE)), self._published:
                while log.published_size <= index:
                    await self._published.wait()
        except TimeoutError:
            return log.published_size > index
        return True
