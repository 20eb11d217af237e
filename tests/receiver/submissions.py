"""Submissions made as intake makes them, for tests of what is behind it."""

import asyncio
import dataclasses
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from msgspec import Struct, structs

from receiver.events import new_id
from receiver.intake.batch import write_batch
from receiver.intake.endpoints import Endpoint, Endpoints
from receiver.intake.service import submission_of
from receiver.intake.signatures import Authenticated
from receiver.intake.submission import Outcome, Submission
from receiver.metrics import Metrics
from receiver.records.engine import Database
from receiver.records.opening import Records
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import deliveries
from translog.evidence import Leaf
from translog.merkle import leaf_hash, root_from_leaves
from translog.store import entries, logs

T = TypeVar("T")

RECEIVED_AT = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Source:
    """A source of some records, whose deliveries are written without a service."""

    records: Records
    endpoint: Endpoint

    @property
    def log_id(self) -> int:
        """Of its tenant's log."""
        return self.endpoint.tenant.log_id

    def submission(self, body: bytes, at: datetime = RECEIVED_AT) -> Submission:
        """The submission that an authenticated delivery becomes."""
        verdict = Authenticated(self.endpoint.source.secrets[0].id, "token", (("x-signed", "so"),))
        submission = submission_of(self.endpoint, verdict, body, at)
        assert submission is not None
        return submission

    def write(self, *bodies: bytes) -> list[Outcome]:
        """Write them in one batch."""
        return write_batch(self.records.database, [self.submission(body) for body in bodies])

    def rows(self) -> list[sa.Row[Any]]:
        """What is kept of its deliveries, in the log's order."""
        query = sa.select(deliveries).where(deliveries.c.source_id == self.endpoint.source.id)
        with self.records.database.read() as tx:
            return list(tx.execute(query.order_by(deliveries.c.log_index)).all())

    def leaves(self) -> list[Leaf]:
        """Every leaf of its tenant's log, after checking that the head's root is theirs."""
        log = self.endpoint.tenant.log
        with self.records.database.read() as tx:
            query = sa.select(entries.c.data).where(entries.c.log_id == self.log_id).order_by(entries.c.index)
            data = [bytes(row) for row in tx.execute(query).scalars()]
        head = log.head()
        assert (head.size, head.root) == (len(data), root_from_leaves([leaf_hash(entry) for entry in data]))
        return [Leaf.parse(entry) for entry in data]


@contextmanager
def held(records: Records, log_id: int) -> Generator[None]:
    """Another receiver has the log locked for as long as the block lasts."""
    other = Database(records.settings.url)
    try:
        with other.write() as tx:
            tx.execute(sa.select(logs.c.size).where(logs.c.id == log_id).with_for_update())
            yield
    finally:
        other.dispose()


def altered(value: T, **changes: object) -> T:
    """The same value but for these members."""
    if isinstance(value, Struct):
        return structs.replace(value, **changes)
    made: T = dataclasses.replace(cast("Any", value), **changes)
    return made


def new_sources(records: Records, *tenants: str, account: str | None = None) -> Sequence[Source]:
    """A new source of each of these tenants."""
    ids: list[str] = []
    for tenant in tenants:
        new = NewSource(new_id(), "truthlocks", "token", {"header": "x-signed"}, account)
        ids.append(add_source(records, records.ensure_tenant(tenant), new, new_id()))
    endpoints = Endpoints(records, Metrics())
    asyncio.run(endpoints.refresh())
    by_id = {endpoint.source.id: endpoint for endpoint in endpoints.all()}
    return [Source(records, by_id[source_id]) for source_id in ids]
