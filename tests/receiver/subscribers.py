"""Subscriptions as tests meet them: records that may call this machine, and endpoints on it that take what comes.

with inbox() as there:
    added = subscribe(records, there.url, "recorded")
    passing(records, lambda: there.taken)       # a receiver passes on until that is so
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from receiver.assurance import subscribing
from receiver.assurance.addresses import Resolve, resolve
from receiver.assurance.delivering import Subscriptions
from receiver.assurance.sending import Sender
from receiver.assurance.subscribing import Added, Listed, Subscribe
from receiver.events import Kind, new_id
from receiver.metrics import Metrics
from receiver.records.findings import Finding, Kept, keep
from receiver.records.journal import change
from receiver.records.opening import Records, Tenant
from receiver.records.tables import outbox
from tests.receiver.service import PATIENCE, receipt_id, revoked
from tests.receiver.submissions import Source, new_sources
from tests.sandbox.inbox import Delivery
from translog.evidence import Delivery as Bytes

LOOPBACK = "127.0.0.0/8, ::1/128"

Row = sa.Row[Any]


def allow_loopback(records: Records) -> Records:
    """The same records, whose subscriptions may call this machine."""
    records.settings.subscription_networks = LOOPBACK
    return records


def subscribe(records: Records, url: str, *on: str, tenant: str = "default", **asked: Any) -> Added:
    """Add a subscription to these topics, of a name of its own unless one is given."""
    wanted: Any = list(on)
    named: dict[str, Any] = {"name": new_id(), **asked}
    return subscribing.subscribe(records, records.ensure_tenant(tenant), Subscribe(url=url, on=wanted, **named))


def listed(records: Records, added: Added, tenant: str = "default") -> Listed:
    """A subscription as it is now."""
    return subscribing.get(records, records.tenant(tenant), added.subscription.id)


def source(records: Records) -> Source:
    """A source, whose deliveries are written without a service."""
    (made,) = new_sources(records, "default")
    return made


def record(made: Source, number: int = 1) -> list[str]:
    """Record so many events; their ids."""
    return [outcome.id for outcome in made.write(*(revoked(receipt_id()) for _ in range(number)))]


def find(records: Records, kind: Kind, state: str, facts: dict[str, Any], **more: Any) -> Kept:
    """Keep a finding, as those do who find it."""
    tenant = records.tenant("default")
    with change(records.database, tenant.log) as changing:
        return keep(changing, tenant, Finding(kind, state, facts, **more))


def findings(records: Records, made: Source, event_id: str) -> list[Kept]:
    """One finding of each kind, about that source and event: a cross-check, a gap, a fork and a silence."""
    its = {"provider": "truthlocks", "source": made.endpoint.source.id}
    smaller, larger = {"root": "11" * 32, "size": 5}, {"root": "22" * 32, "size": 9}
    return [
        find(
            records,
            Kind.CROSS_CHECK,
            "contradicted",
            {**its, "by": "issuer_log", "first": event_id, "late": False, "was": "pending"},
            data={
                "differences": [{"event": "40.00", "field": "amount", "issuer": "41.00"}],
                "entry": "33" * 32,
                "issuer_index": 7,
                "issuer_log": "log.example",
            },
        ),
        find(
            records,
            Kind.GAP,
            "open",
            {**its, "gap": None},
            data={"entry": "44" * 32, "issuer_index": 8, "issuer_log": "log.example"},
            delivery=Bytes((), b'{"effect":"revoked"}'),
        ),
        find(
            records,
            Kind.FORK,
            "forked",
            {"issuer_log": new_id()},
            data={"issuer_log": "log.example", "larger": larger, "smaller": smaller, "url": "https://log.example/"},
            delivery=Bytes((), b"translog-fork@v1\n"),
        ),
        find(records, Kind.SILENCE, "began", {**its, "since": "2026-11-20T09:00:00.000000Z"}),
    ]


def rows(records: Records) -> list[Row]:
    """What is in the outboxes, in the log's order."""
    with records.database.read() as tx:
        return list(tx.execute(sa.select(outbox).order_by(outbox.c.log_id, outbox.c.log_index)).all())


def told(records: Records, tenant: Tenant | None = None) -> list[dict[str, Any]]:
    """The facts of the entries that tell of subscriptions."""
    log = (tenant or records.tenant("default")).log
    with records.database.read() as tx:
        leaves = [json.loads(entry) for entry in log.store.entries(tx, 0, log.head().size)]
    return [leaf["facts"] for leaf in leaves if "subscription" in leaf["facts"]]


async def passing_on(
    records: Records,
    done: Callable[[], object],
    *,
    receivers: int = 1,
    resolve: Resolve = resolve,
    senders: Sequence[Sender] = (),
    metrics: Metrics | None = None,
) -> None:
    """Have receivers pass on until that is so; then they are stopped, as a service that ends stops them."""
    given = list(senders) or [None] * receivers
    every = [Subscriptions(records, metrics or Metrics(), resolve=resolve, sender=sender) for sender in given]
    tasks = [asyncio.create_task(one.run()) for one in every]
    try:
        async with asyncio.timeout(PATIENCE):
            while not done():  # noqa: ASYNC110  (what it waits for is of another thread)
                await asyncio.sleep(0.01)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def passing(records: Records, done: Callable[[], object], **given: Any) -> None:
    """The same, on a loop of its own."""
    asyncio.run(passing_on(records, done, **given))


def indexes(taken: Sequence[Delivery]) -> list[int]:
    """The indexes of the entries that these messages are about, sorted: order is no promise."""
    return sorted(json.loads(delivery.body)["data"]["log_index"] for delivery in taken)
