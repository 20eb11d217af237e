"""Events that are checked against their provider's own record, and questions about them; on records, without a service.

checked = new_checked(records, "truthlocks")
event_id = checked.tell(item)                       delivered just now, and taken up
look = checked.look(event_id, showing(record))      asked, of an upstream that shows this
"""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver.assurance.asking import Asker, Looked
from receiver.assurance.taking_up import ToCheck, take_up
from receiver.events import format_time, new_id
from receiver.fsck import fsck
from receiver.intake.batch import write_batch
from receiver.intake.endpoints import Endpoints
from receiver.intake.service import submission_of
from receiver.intake.signatures import Authenticated
from receiver.metrics import Metrics
from receiver.records.credentials import set_credential
from receiver.records.opening import Records, Tenant
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import checks, findings, sources
from receiver.strictjson import Json, plain
from tests.receiver.five import FIVE
from tests.receiver.open_calls import CREDENTIALS, NOBODY
from tests.receiver.service import PATIENCE
from tests.receiver.upstreams import Behaviour, Connection, speaking
from translog.evidence import Leaf
from translog.store import entries

LONG_AGO = timedelta(days=2)
"""What was delivered so long ago has no time left."""

_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Look:
    """A look at an event, and the requests that the upstream was sent."""

    looked: Looked
    came: list[bytes]

    @property
    def outcome(self) -> str:
        """What came of it, in a word."""
        return self.looked.outcome.value

    @property
    def asked(self) -> list[str]:
        """The first line of each request."""
        return [one.partition(b"\r\n")[0].decode() for one in self.came]


@dataclass(frozen=True, slots=True)
class Checked:
    """A source whose events are checked against its provider's record."""

    records: Records
    tenant: Tenant
    source_id: str
    provider: str

    def tell(self, item: str, *, ago: timedelta = timedelta(0), **members: object) -> str:
        """Keep a delivery, as `deliver` does, and take it up; the event's id."""
        event_id = self.deliver(item, ago=ago, **members)
        assert take_up(self.records, self.tenant, ToCheck(self.source_id, self.tenant.id)) == 1
        return event_id

    def deliver(self, item: str, *, ago: timedelta = timedelta(0), **members: object) -> str:
        """Keep the documented delivery about that item, received so long ago; the event's id.

        `members` stand in for those at the delivery's top.
        """
        return self.deliver_body(FIVE[self.provider].body(item, **members), ago)

    def deliver_body(self, body: bytes, ago: timedelta = timedelta(0)) -> str:
        """Keep a delivery with that body."""
        endpoints = Endpoints(self.records, Metrics())
        asyncio.run(endpoints.refresh())
        endpoint = next(one for one in endpoints.all() if one.source.id == self.source_id)
        verdict = Authenticated(endpoint.source.secrets[0].id, "token", (("x-signed", "so"),))
        submission = submission_of(endpoint, verdict, body, datetime.now(UTC) - ago)
        assert submission is not None
        [outcome] = write_batch(self.records.database, [submission])
        return outcome.id

    def look(self, event_id: str, behave: Behaviour, *, patient: bool = True) -> Look:
        """Ask about an event now, of such an upstream."""

        async def look() -> Look:
            async with speaking(behave) as there, asking(self.records) as asker:
                self.moves(there.url)
                looked = await asker.look(event_id, patient=patient)
                assert looked is not None
                return Look(looked, there.came)

        return asyncio.run(look())

    def moves(self, upstream: str | None) -> None:
        """Have the source's upstream there, as if it had never been elsewhere."""
        self.set_source(upstream=upstream)

    def set_source(self, **values: object) -> None:
        """Change the source's row."""
        with self.records.database.write() as tx:
            tx.execute(sa.update(sources).where(sources.c.id == self.source_id).values(**values))

    def set_check(self, event_id: str, **values: object) -> None:
        """Change an event's row of `checks`."""
        with self.records.database.write() as tx:
            tx.execute(sa.update(checks).where(checks.c.event_id == event_id).values(**values))

    def grace_is_over(self, event_id: str) -> None:
        """It is over just now."""
        self.set_check(event_id, grace_over_at=format_time(datetime.now(UTC)))

    # ---- what there is ----------------------------------------------------------------------------------------------

    def check(self, event_id: str) -> sa.Row[Any]:
        """What is known of an event."""
        with self.records.database.read() as tx:
            return tx.execute(sa.select(checks).where(checks.c.event_id == event_id)).one()

    def state(self, event_id: str) -> tuple[str, str | None]:
        """In a word, and by whom that was said."""
        row = self.check(event_id)
        return row.state, row.by

    def due_in(self, event_id: str, since: datetime) -> timedelta | None:
        """How long after that it is due again; None if it is not."""
        due_at = self.check(event_id).due_at
        return None if due_at is None else datetime.fromisoformat(due_at) - since

    def told(self, event_id: str) -> list[sa.Row[Any]]:
        """What was found out of it, in the log's order."""
        query = sa.select(findings).where(findings.c.event_id == event_id).order_by(findings.c.log_index)
        with self.records.database.read() as tx:
            return list(tx.execute(query).all())

    def states(self, event_id: str) -> list[str]:
        """The same, in a word each."""
        return [row.state for row in self.told(event_id)]

    def data(self, event_id: str) -> dict[str, Any]:
        """What was found out of it last."""
        found: dict[str, Any] = json.loads(self.told(event_id)[-1].event_data)
        return found

    def leaf(self, row: sa.Row[Any]) -> Leaf:
        """The entry that a finding is."""
        columns = entries.c
        query = sa.select(columns.data).where(columns.log_id == row.log_id, columns.index == row.log_index)
        with self.records.database.read() as tx:
            return Leaf.parse(bytes(tx.execute(query).scalar_one()))

    def wrong(self) -> list[str]:
        """What `receiver fsck` finds."""
        return [str(finding) for finding in fsck(self.records).findings]


def new_checked(
    records: Records, provider: str, *, tenant: str = "default", account: str | None = None, upstream: str = NOBODY
) -> Checked:
    """A new source of that provider, with an upstream, and a credential for it."""
    of = records.ensure_tenant(tenant)
    new = NewSource(f"checked-{next(_names)}", provider, "token", {"header": "x-signed"}, account, upstream=upstream)
    source_id = add_source(records, of, new, new_id())
    set_credential(records, of, source_id, CREDENTIALS[provider])
    return Checked(records, of, source_id, provider)


@asynccontextmanager
async def asking(records: Records, metrics: Metrics | None = None) -> AsyncGenerator[Asker]:
    """An asker, closed in the end."""
    asker = Asker(records, metrics or Metrics())
    try:
        yield asker
    finally:
        await asker.aclose()


@asynccontextmanager
async def asking_in_background(records: Records, metrics: Metrics | None = None) -> AsyncGenerator[None]:
    """One that asks about what is due, for as long as the block lasts."""
    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(Asker(records, metrics or Metrics()).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


# ---- upstreams ------------------------------------------------------------------------------------------------------


def answer(document: Mapping[str, Json], status: str = "200 OK") -> bytes:
    """An answer with that JSON, as it is on the wire."""
    body = json.dumps({name: plain(value) for name, value in document.items()}).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


MISSING = answer({"code": "NOT_FOUND"}, "404 Not Found")


def showing(record: bytes | Mapping[str, Json], bundle: bytes | Mapping[str, Json] = MISSING) -> Behaviour:
    """An upstream that shows this where the record is, and that where the proof bundle is."""

    def choose(target: str) -> bytes:
        shown = bundle if target.endswith("/proof-bundle") else record
        return shown if isinstance(shown, bytes) else answer(shown)

    return choosing(choose)


def choosing(choose: Callable[[str], bytes]) -> Behaviour:
    """An upstream that answers by the target of the request."""

    async def behave(connection: Connection) -> None:
        request = await connection.request()
        await connection.say(choose(request.split(b" ", 2)[1].decode()))

    return behave
