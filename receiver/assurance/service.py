"""All that assurance does in the background of the service, started and stopped together.

    following         the issuers' logs that sources name                                    `following`
    checking          new events taken up, and what is due judged by these logs              `taking_up`, `checking`
    asking            providers' own records, where no log can tell                          `asking`
    subscriptions     events and alerts passed on to the operator's own systems              `delivering`
    silence           sources that have not been heard of for too long                       `silence`
    counting          what those on call are told                                            `alerts`

None of it is on the way of a delivery, and it runs on a loop of its own: what computes for long in it keeps nobody
waiting. Each part goes on by itself; what fails in one is logged once, tried again, and does not end the others. It may
be killed at any moment: what it has done is in the database, and what it has not done is done by whoever comes next.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from receiver.assurance.alerts import Alerts
from receiver.assurance.asking import Asker
from receiver.assurance.checking import judge_due, sources_to_check, take_up
from receiver.assurance.delivering import Subscriptions
from receiver.assurance.following import Following
from receiver.assurance.silence import Silence
from receiver.assurance.taking_up import ToCheck
from receiver.background import Aside, every
from receiver.metrics import Metrics
from receiver.records.opening import Records
from translog.errors import StoreError

CHECKED_EVERY = 0.5
"""Seconds between two looks for events to take up, and for what is due."""

WATCHED_EVERY = 5.0
"""Seconds between two looks for sources that are silent."""

COUNTED_EVERY = 1.0

ANEW_AFTER = 1.0
"""Seconds after which a part that broke off begins anew."""

_log = logging.getLogger(__name__)


class Assurance:
    """One process's part in it. `start` and `stop` are for the application's lifespan."""

    def __init__(self, records: Records, metrics: Metrics, process_id: str) -> None:
        """`process_id` is this process's in `receiver.records.processes`."""
        self._records = records
        self._following = Following(records, process_id)
        self._silence = Silence(records)
        self._asker = Asker(records, metrics)
        self._subscriptions = Subscriptions(records, metrics)
        self._alerts = Alerts(records, lambda: self._following.tracks)
        self._said: dict[str, str] = {}  # by what cannot be done, why, as it was logged last
        self._aside = Aside("assurance", self._run)
        metrics.registry.register(self._alerts)

    def start(self) -> None:
        """Begin."""
        self._aside.start()

    async def stop(self) -> None:
        """End what is under way, and wait for that."""
        await self._aside.stop()

    @property
    def word(self) -> str:
        """What `/health/ready` says of the issuers' logs: `ok`, or what is wrong."""
        return self._alerts.word()

    async def _run(self) -> None:
        await asyncio.gather(
            every(ANEW_AFTER, self._following.run),
            every(ANEW_AFTER, self._asker.run),
            every(ANEW_AFTER, self._subscriptions.run),
            every(CHECKED_EVERY, self._check),
            every(WATCHED_EVERY, _in_a_thread(self._silence.watch)),
            every(COUNTED_EVERY, _in_a_thread(self._alerts.count)),
        )

    # ---- checking -----------------------------------------------------------------------------------------------

    async def _check(self) -> None:
        """Take up and judge until there is nothing to do; of each source and tenant a little at a time."""
        busy = True
        while busy:
            waiting = await asyncio.to_thread(self._waiting)
            tenants = {tenant.id: tenant for tenant in self._records.tenants}
            busy = False
            for source in waiting:
                if source.tenant_id in tenants:  # else it was made a moment ago
                    take = partial(take_up, self._records, tenants[source.tenant_id], source)
                    busy |= await self._do(f"events of source {source.source_id} cannot be taken up", take)
            for tenant in tenants.values():
                judge = partial(judge_due, self._records, tenant)
                busy |= await self._do(f"events of tenant {tenant.name} cannot be judged", judge)

    def _waiting(self) -> list[ToCheck]:
        with self._records.database.read() as tx:
            return sources_to_check(tx)

    async def _do(self, otherwise: str, work: Callable[[], int]) -> bool:
        """Whether there may be more to do. If it fails, `otherwise` is logged, once, and the others are done."""
        try:
            done = await asyncio.to_thread(work)
        except (SQLAlchemyError, StoreError) as error:
            said = f"{type(error).__name__}: {error}"
            if self._said.get(otherwise) != said:
                _log.warning("%s: %s", otherwise, said)
            self._said[otherwise] = said
            return False
        self._said.pop(otherwise, None)
        return done > 0


def _in_a_thread(work: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.to_thread(work)
