"""Delivering: the loop that fills the outboxes, sends what is due, and keeps what came of it.

    subscriptions = Subscriptions(records, metrics)
    await subscriptions.run()       # for ever; cancelled, it ends what is under way and closes its connections

A few messages are on their way at the same time, of one subscription two, so that their order is no promise. No tenant
has more than half of the places. Endpoints that do not answer hold up none that do: of all places, and of a tenant's,
those whose last message was not taken, or not soon, have at most half; and where there are more than places, those come
first that have waited longest for their turn.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from receiver.assurance import addresses, outbox
from receiver.assurance.addresses import Resolve
from receiver.assurance.outbox import Claimed, Due
from receiver.assurance.sending import Result, Sender
from receiver.assurance.subscribing import disable_gone
from receiver.metrics import Metrics
from receiver.records.opening import Records
from translog.errors import StoreError

AT_ONCE = 8
"""Messages that are on their way."""

OF_ONE = 2
"""Of these at most so many of one subscription."""

OF_ONE_TENANT = 4
"""And so many of one tenant."""

OF_FAILING = 4
"""And so many of subscriptions whose last message was not taken, or not soon."""

OF_FAILING_OF_ONE_TENANT = 2
"""And so many of these of one tenant."""

SOON = 3.0
"""Seconds within which an endpoint answers that holds up no other."""

EVERY = 0.25
"""Seconds between two looks for what there is to do."""

_log = logging.getLogger(__name__)


class Subscriptions:
    """Passes on what is subscribed to. Used on one loop; the database is asked in threads."""

    def __init__(
        self, records: Records, metrics: Metrics, *, resolve: Resolve = addresses.resolve, sender: Sender | None = None
    ) -> None:
        """`resolve` finds the addresses of hosts; or all is sent by that `sender`."""
        self._records = records
        self._metrics = metrics
        self._resolve = resolve
        self._sender = sender
        self._sending: dict[asyncio.Task[None], Claimed] = {}
        self._results: list[tuple[Claimed, Result]] = []
        self._failing: set[str] = set()
        self._slow: set[str] = set()
        self._turns: dict[str, int] = {}  # a number for each subscription that had one, higher for a later one
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Pass on for ever. A failure is logged once, and what it left is done later. Cancelled, it closes its client.

        What is under way then is sent once more, by whoever runs when its lease is over.
        """
        allowed = addresses.networks(self._records.settings.subscription_networks)
        sender = self._sender or Sender(allowed, resolve=self._resolve)
        logged = ""
        try:
            while True:
                self._done.clear()
                try:
                    more = await asyncio.to_thread(outbox.fill, self._records)
                    await self._begin(sender)
                    logged = ""
                except Exception as error:  # noqa: BLE001  (a database out of reach now is back later)
                    more = False
                    said = f"{type(error).__name__}: {error}"
                    if said != logged:
                        _log.warning("%s", said, exc_info=None if isinstance(error, SQLAlchemyError) else error)
                    logged = said
                if not more:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(EVERY):  # wait_for may swallow that this is cancelled
                            await self._done.wait()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            with contextlib.suppress(SQLAlchemyError):
                await self._settle()
            await sender.aclose()

    async def _begin(self, sender: Sender) -> None:
        """Keep what came of those that are done, and begin with those that are due."""
        await self._settle()
        now = datetime.now(UTC)
        found, waiting = await asyncio.to_thread(self._look, now)
        self._metrics.messages_waiting.set(waiting)
        busy = list(self._sending.values())
        shares = share(found, busy, self._failing | self._slow, self._turns)
        if not shares:
            return
        for subscription_id in shares:
            self._turns[subscription_id] = max(self._turns.values(), default=0) + 1
        for claimed in await asyncio.to_thread(outbox.claim, self._records, shares, now):
            task = asyncio.create_task(self._send(sender, claimed))
            self._sending[task] = claimed
            task.add_done_callback(self._ended)

    def _look(self, now: datetime) -> tuple[list[Due], int]:
        with self._records.database.read() as tx:
            return outbox.due(tx, now), outbox.waiting(tx)

    async def _send(self, sender: Sender, claimed: Claimed) -> None:
        began = monotonic()
        if claimed.message is None:
            result = Result(claimed.problem)
        else:
            result = await sender.send(claimed.url, claimed.message, claimed.key)
        if monotonic() - began > SOON:
            self._slow.add(claimed.subscription_id)
        else:
            self._slow.discard(claimed.subscription_id)
        self._results.append((claimed, result))

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self._done.set()

    async def _settle(self) -> None:
        """Keep what came of the tries that have ended. What cannot be kept now is kept the next time."""
        results = list(self._results)
        if not results:
            return
        await asyncio.to_thread(outbox.settle, self._records, results, datetime.now(UTC))
        del self._results[: len(results)]
        for claimed, result in results:
            self._note(claimed, result)
            if result.gone:
                await self._disable(claimed)

    def _note(self, claimed: Claimed, result: Result) -> None:
        if result.failure is None:
            self._metrics.messages.labels("taken").inc()
            self._failing.discard(claimed.subscription_id)
            return
        given_up = outbox.again(claimed.tries) is None
        self._metrics.messages.labels("given_up" if given_up else "not_taken").inc()
        if claimed.subscription_id not in self._failing:
            _log.warning("subscription %s: %s; it is tried again", claimed.subscription_id, result.failure)
        self._failing.add(claimed.subscription_id)

    async def _disable(self, claimed: Claimed) -> None:
        tenant = next((one for one in self._records.tenants if one.id == claimed.tenant_id), None)
        if tenant is None:  # made a moment ago; the next message is answered so as well
            return
        try:
            ended = await asyncio.to_thread(disable_gone, self._records, tenant, claimed.subscription_id, claimed.url)
        except (SQLAlchemyError, StoreError) as error:
            _log.warning("subscription %s is not disabled: %s", claimed.subscription_id, error)
            return
        if ended:
            _log.warning("subscription %s: its endpoint answered 410; it is disabled", claimed.subscription_id)


def share(
    found: Sequence[Due], busy: Collection[Claimed], failing: Collection[str], turns: Mapping[str, int]
) -> dict[str, int]:
    """How many messages of which subscriptions are sent now, by their ids.

    `found` have some that are due, `busy` are on their way, and of `failing` the last one was not taken, or not soon.
    Those come first that have had no turn for longest, and each gets a place before one gets a second.
    """
    free = AT_ONCE - len(busy)
    free_for_failing = OF_FAILING - sum(one.subscription_id in failing for one in busy)
    taken = Counter(one.subscription_id for one in busy)
    of_tenant = Counter(one.tenant_id for one in busy)
    failing_of = Counter(one.tenant_id for one in busy if one.subscription_id in failing)
    shares = Counter[str]()
    in_turn = sorted(found, key=lambda one: (turns.get(one.subscription_id, 0), one.since))
    for due in _rounds(in_turn, OF_ONE):
        one = due.subscription_id
        is_failing = one in failing
        is_full = taken[one] >= OF_ONE or of_tenant[due.tenant_id] >= OF_ONE_TENANT
        is_too_much = is_failing and (free_for_failing <= 0 or failing_of[due.tenant_id] >= OF_FAILING_OF_ONE_TENANT)
        if free <= 0 or is_full or is_too_much:
            continue
        shares[one] += 1
        taken[one] += 1
        of_tenant[due.tenant_id] += 1
        failing_of[due.tenant_id] += is_failing
        free -= 1
        free_for_failing -= is_failing
    return dict(shares)


def _rounds(found: Sequence[Due], times: int) -> Iterable[Due]:
    for _ in range(times):
        yield from found
