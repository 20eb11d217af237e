"""Calls that were passed on and are open, and looks at what became of them; on records, without a service.

    caller = new_caller(records, "thanx", upstream)
    attempt = caller.begin()                       its intent; what is asked is the documented example
    settled = caller.settle(attempt)               asks the upstream, with the source's credential

`python -m tests.receiver.open_calls DATA URL GUARD WHERE` looks at what is due in a process that dies there (`DEATHS`).
"""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import structs

from receiver import providers
from receiver.events import Kind, format_time, new_id
from receiver.fsck import fsck
from receiver.intake.batch import write_batch
from receiver.intake.submission import Outcome, Submission
from receiver.records.apikeys import Scope, create_key
from receiver.records.attempts import METHOD, PATH, Attempt
from receiver.records.credentials import set_credential
from receiver.records.keyed import idempotency_key
from receiver.records.opening import Records
from receiver.records.sources import NewSource, add_source, relay_source
from receiver.records.tables import attempts, deliveries, sources
from receiver.relay import entries
from receiver.relay.entries import SETTLE_MARGIN, Party
from receiver.relay.settling import Record, Settled, Settler
from receiver.settings import Settings
from receiver.strictjson import plain
from tests.receiver import service
from tests.receiver.operations import EXAMPLES
from tests.receiver.upstreams import Behaviour, Connection, answering, speaking, using
from tests.sandbox.service import Sandbox
from tests.translog import faults
from translog.evidence import Leaf
from translog.store import entries as log_entries

UNDER_WAY = timedelta(seconds=30) + SETTLE_MARGIN
"""So long a call may be under way."""

LONG_AGO = UNDER_WAY + timedelta(seconds=1)
"""A call that was made so long ago is no longer under way at the provider."""

NOBODY = "http://127.0.0.1:9"
"""An upstream that nobody is at."""

CREDENTIALS: dict[str, Sequence[tuple[str, str]]] = {
    "truthlocks": [("x-api-key", "tl_test_sandbox")],
    "thanx": [("x-clientid", "sandbox-client"), ("authorization", "Bearer sandbox-token")],
    "scrip": [("x-api-key", "scrip_sandbox")],
}
"""What the sandbox takes, by provider."""

DIED = 9
"""The status that a process dies with."""

_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes the calls of a source."""

    records: Records
    party: Party
    key_id: str

    def begin(
        self,
        path: Mapping[str, str] | None = None,
        request: Mapping[str, Any] | None = None,
        *,
        ago: timedelta = LONG_AGO,
        key: str | None = None,
        due: bool = False,
    ) -> Attempt:
        """Keep the intent of a call made so long ago; where nothing is given, it is the example's.

        `key` is its idempotency key, if the example has none. It is due now, or else later than any test.
        """
        example, operation = EXAMPLES[self.party.provider.name], self.party.provider.operation
        path = example.path if path is None else path
        asked = dict(example.request if request is None else request)
        headers = [(METHOD, operation.method), (PATH, operation.path.format(**path))]
        if operation.idempotency_member is not None:
            key = asked.setdefault(operation.idempotency_member, key or new_id())
        elif key is not None:
            headers.append(((operation.idempotency_header or "x-key").lower(), key))
        item = operation.item(path, asked)
        assert item is not None
        now, hash_key = datetime.now(UTC), self.party.tenant.hash_key
        attempt = Attempt(
            id=new_id(),
            key_id=self.key_id,
            item=item,
            path=path,
            request=asked,
            called_at=now - ago,
            idempotency=None if key is None else idempotency_key(hash_key, self.party.source.id, item, key, asked),
            upstream=self.upstream,
            settle_at=now if due else now + timedelta(days=1),
        )
        self.write(entries.intent(self.party, attempt, headers, as_json(asked), attempt.called_at))
        attempt = structs.replace(attempt, settle_at=attempt.called_at + UNDER_WAY)
        self.set_call(attempt, settle_at=format_time(attempt.settle_at))  # only now: it was due then
        return attempt

    @property
    def upstream(self) -> str:
        """Where the source's calls go now."""
        return relay_source(self.records, self.party.tenant, self.party.source.id).upstream or ""

    def moves(self, upstream: str) -> None:
        """Have the source's upstream there, and its calls made to that one; as if it had never been elsewhere."""
        self.set_source(upstream=upstream)
        its = sa.update(attempts).where(attempts.c.source_id == self.party.source.id)
        with self.records.database.write() as tx:
            tx.execute(its.values(upstream=upstream))

    def answered(self, attempt: Attempt, document: Mapping[str, Any] | None = None) -> Outcome:
        """Keep the provider's success; the example's unless it is given."""
        answer = as_json(EXAMPLES[self.party.provider.name].answer if document is None else document)
        told = structs.replace(attempt, status=min(self.party.provider.operation.successes))
        return self.write(entries.answer(self.party, told, answer, datetime.now(UTC)))

    def refused(self, attempt: Attempt) -> Outcome:
        """Keep the provider's no."""
        told = structs.replace(attempt, status=422)
        return self.write(entries.refusal(self.party, told, b'{"code":"NO"}', datetime.now(UTC)))

    def write(self, submission: Submission) -> Outcome:
        """Keep one submission."""
        [outcome] = write_batch(self.records.database, [submission])
        return outcome

    def wrong(self) -> list[str]:
        """What `receiver fsck` finds."""
        return [str(finding) for finding in fsck(self.records).findings]

    async def record(self, submission: Submission) -> Outcome:
        """The same, as a settler has it done."""
        return await asyncio.to_thread(self.write, submission)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def settle(self, attempt: Attempt) -> Settled:
        """Look at a call now."""

        async def look() -> Settled:
            async with settling(self) as settler:
                return await settler.settle(attempt.id)

        return asyncio.run(look())

    def settle_by(self, attempt: Attempt, behave: Behaviour, record: Record | None = None) -> "Look":
        """The same, where such an upstream has the provider's record."""

        async def look() -> Look:
            async with speaking(behave) as there, settling(self, record) as settler:
                self.moves(there.url)
                return Look(await settler.settle(attempt.id), there.came)

        return asyncio.run(look())

    def set_source(self, **values: object) -> None:
        """Change the source's settings in its row."""
        with self.records.database.write() as tx:
            tx.execute(sa.update(sources).where(sources.c.id == self.party.source.id).values(**values))

    # ---- what there is ----------------------------------------------------------------------------------------------

    def call(self, attempt: Attempt) -> sa.Row[Any]:
        """What became of a call."""
        with self.records.database.read() as tx:
            return tx.execute(sa.select(attempts).where(attempts.c.id == attempt.id)).one()

    def set_call(self, attempt: Attempt, **values: object) -> None:
        """Change that row."""
        with self.records.database.write() as tx:
            tx.execute(sa.update(attempts).where(attempts.c.id == attempt.id).values(**values))

    def told(self) -> list[sa.Row[Any]]:
        """What is kept of the source's calls besides their intents, in the log's order."""
        is_intent = sa.and_(deliveries.c.kind == Kind.ATTEMPT.value, deliveries.c.reason.is_(None))
        query = sa.select(deliveries).where(deliveries.c.source_id == self.party.source.id, ~is_intent)
        with self.records.database.read() as tx:
            return list(tx.execute(query.order_by(deliveries.c.log_index)).all())

    def facts(self, row: sa.Row[Any]) -> dict[str, Any]:
        """Of a delivery's leaf."""
        columns = log_entries.c
        query = sa.select(columns.data).where(columns.log_id == row.log_id, columns.index == row.log_index)
        with self.records.database.read() as tx:
            return dict(Leaf.parse(bytes(tx.execute(query).scalar_one())).facts)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look came to, and the requests that the upstream was sent."""

    settled: Settled
    came: list[bytes]


@asynccontextmanager
async def settling(caller: Caller, record: Record | None = None) -> AsyncGenerator[Settler]:
    """A settler that records so, or by writing."""
    async with using() as upstream:
        yield Settler(caller.records, upstream, record or caller.record)


@asynccontextmanager
async def looking(*callers: Caller, record: Record | None = None) -> AsyncGenerator[None]:
    """A settler for the records of each of these looks in the background, for as long as the block lasts."""
    async with AsyncExitStack() as stack, asyncio.timeout(service.PATIENCE):
        settlers = [await stack.enter_async_context(settling(caller, record)) for caller in callers]
        tasks = [asyncio.create_task(settler.run()) for settler in settlers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], object]) -> None:
    """Wait for something that must come about soon."""
    await asyncio.to_thread(service.until, true)


async def hanging(connection: Connection) -> None:
    """Take a request, and say nothing."""
    await connection.request()
    await connection.reader.read()


def new_caller(
    records: Records, provider: str, upstream: str = "http://127.0.0.1:9", tenant: str = "default"
) -> Caller:
    """A new source of that provider, with that upstream and, if there is something to ask, a credential for it."""
    of = records.ensure_tenant(tenant)
    name = f"source-{next(_names)}"
    new = NewSource(name, provider, "token", {"header": "x-signed"}, upstream=upstream)
    source_id = add_source(records, of, new, new_id())
    if provider in CREDENTIALS:
        set_credential(records, of, source_id, CREDENTIALS[provider])
    key_id, _ = create_key(records, of, name, frozenset({Scope.OPERATE}))
    return Caller(records, Party(relay_source(records, of, source_id), of, providers.get(provider)), key_id)


def base_of(sandbox: Sandbox) -> str:
    """Where a running sandbox is."""
    return str(sandbox.client.base_url).rstrip("/")


def done_at(sandbox: Sandbox, provider: str, path: str, request: Mapping[str, Any], key: str | None = None) -> None:
    """Make a call there of which no receiver knows."""
    headers = {**dict(CREDENTIALS[provider]), "accept-version": "v4.0"}
    if key is not None:
        headers["idempotency-key"] = key
    assert sandbox.client.post(path, json=request, headers=headers).is_success


def record_of(provider: str, **members: object) -> dict[str, Any]:
    """The example's record of what was done; `members` stand in for those of that name."""
    record = EXAMPLES[provider].record
    assert record is not None
    return {**json.loads(as_json(record)), **members}


def saying(document: Mapping[str, Any], status: str = "200 OK") -> Behaviour:
    """An upstream that answers one request with that JSON."""
    body = as_json(document)
    return answering(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


def as_json(document: Mapping[str, Any]) -> bytes:
    """A document as bytes."""
    return json.dumps({name: plain(value) for name, value in document.items()}).encode()


# ---- dying ----------------------------------------------------------------------------------------------------------

DEATHS = ("claiming", "asked", "writing", "written")
"""Where a process that looks in the background may die: before it has claimed the look; with what the record says, and
nothing done about it; with that half written; with all of it written, and nobody told."""


def dies(records: Records, where: str) -> None:
    """Have another process look at what is due, and die there."""
    settings = records.settings
    command = [sys.executable, "-m", __name__, str(settings.data), settings.url, str(settings.guard), where]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False, timeout=60).returncode == DIED


def die(data: str, url: str, guard: str, where: str) -> None:
    """Look, and die."""
    records = Records.open(Settings(data=Path(data), database_url=url, guard=Path(guard)))

    async def record(submission: Submission) -> Outcome:
        if where == "asked":
            os._exit(DIED)
        [outcome] = await asyncio.to_thread(write_batch, records.database, [submission])
        if where == "written":
            os._exit(DIED)
        return outcome

    async def look() -> None:
        async with using() as upstream:
            await Settler(records, upstream, record).run()

    statement = {"claiming": "UPDATE attempts", "writing": "INSERT INTO deliveries"}.get(where, "-")
    with faults.at(records.database, "after", statement, happens=lambda: os._exit(DIED)):
        asyncio.run(look())


if __name__ == "__main__":
    die(*sys.argv[1:])
