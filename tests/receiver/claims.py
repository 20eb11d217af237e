"""An issuer's log for tests of what is behind its following: entries as they are kept once they are read and proven.

    issuer = Issuer(records)
    source = issuer.source("scrip", account="org_1")
    source.write(…)                                     deliveries, as everywhere in tests (tests.receiver.submissions)
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r1"), operation="v1", amount="40.00")
    issuer.read_at("2026-11-20T10:00:00.000000Z")       all of it is read, of a checkpoint that was asked for then
    check(records)                                      take up and judge, until nothing is due

The log is a real one: what is kept of an entry proves that it is there. Only that nothing is fetched.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from receiver.assurance.checking import judge_due, sources_to_check, take_up
from receiver.assurance.wanted import Wanted
from receiver.events import Effect, Item, format_time, new_id
from receiver.intake.batch import write_batch
from receiver.intake.endpoints import Endpoints
from receiver.intake.submission import Outcome
from receiver.metrics import Metrics
from receiver.records.issuer_logs import Checking, LogIdentity, followed, settle
from receiver.records.keyed import item_key, operation_key
from receiver.records.opening import Records
from receiver.records.sources import Decision, NewSource, add_source, change_source
from receiver.records.sources import Source as RecordedSource
from receiver.records.tables import checks, claims, findings, issuer_logs
from tests.receiver.submissions import RECEIVED_AT, Source, altered
from translog import canonical, note
from translog.checkpoint import Checkpoint
from translog.follower import State
from translog.fork import Fork
from translog.merkle import Frontier, Node, inclusion_proof, leaf_hash, root_from_leaves
from translog.note import SigningKey
from translog.policy import Policy
from translog.proof import TlogProof

GRACE = 3600
ORGANIZATION = "6f3d9a52-1f0b-4b52-8a0e-0d9f3a1c2b3d"


class Issuer:
    """An issuer's log, and how far a receiver is told to have read it."""

    def __init__(self, records: Records) -> None:
        self.records = records
        with records.database.read() as tx:
            number = tx.execute(sa.select(sa.func.count()).select_from(issuer_logs)).scalar_one() + 1
        self.key = SigningKey.generate(f"issuer.example/log/{number}")
        self.identity = LogIdentity(
            f"https://issuer.example/log/{number}", Policy.of(self.key.verifying_key()).text, None
        )
        self.entries: list[bytes] = []
        with records.database.write() as tx:
            self.id = settle(tx, self.identity.url, self.identity.policy, None, format_time(RECEIVED_AT))

    @property
    def origin(self) -> str:
        """Its log's."""
        return self.key.name

    def checking(self, **given: Any) -> Checking:
        """A source's settings that name it: gaps from the first entry on, and a grace of `GRACE`, unless given."""
        settings: dict[str, Any] = {"log": self.identity, "starts_at": 0, "grace": GRACE, **given}
        return Checking(**settings)

    def source(
        self, provider: str, account: str | None, tenant: str = "default", *, test: bool = False, **given: Any
    ) -> Source:
        """A new source that names this log."""
        return new_source(self.records, provider, account, tenant, test=test, checking=self.checking(**given))

    def says(
        self,
        provider: str,
        effect: Effect,
        item: Item,
        *,
        account: str | None = None,
        operation: str | None = None,
        amount: str | None = None,
        quantity: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Append a plain entry; its index."""
        entry = {
            "account": account,
            "amount": amount,
            "at": None if at is None else format_time(at),
            "effect": effect.value,
            "event": "ACT",
            "item": {"id": item.id, "type": item.type},
            "operation": operation,
            "provider": provider,
            "quantity": quantity,
        }
        self.entries.append(canonical.encode(entry))
        return len(self.entries) - 1

    def read_at(self, asked_at: str | None, seen_at: datetime = RECEIVED_AT) -> None:
        """All entries are read and kept as seen at that time; complete, if `asked_at` says when it was asked for."""
        hashes = [leaf_hash(entry) for entry in self.entries]
        frontier = Frontier()
        frontier.extend(hashes)
        signed = note.sign(Checkpoint(self.origin, frontier.size, frontier.root()).text, self.key)
        state = State(signed, frontier.size, tuple(frontier.peaks))
        with self.records.database.write() as tx:
            namings = [naming for one in followed(tx) if one.log.id == self.id for naming in one.namings]
            wanted = Wanted.by(namings)
            put_entries(tx, self.records, self.id, wanted, self.entries, signed, seen_at)
            its_row = sa.update(issuer_logs).where(issuer_logs.c.id == self.id)
            values = {"state": state.encode(), "size": frontier.size, "next_index": frontier.size}
            tx.execute(its_row.values(**values, wanted=wanted.encode(), complete_at=asked_at))


def put_entries(
    tx: sa.Connection,
    records: Records,
    log_id: str,
    wanted: Wanted,
    entries: Sequence[bytes],
    signed: bytes,
    seen_at: datetime,
) -> None:
    """Keep all entries of an issuer's log that are wanted, proven under the checkpoint `signed`, as following does."""
    hashes = [leaf_hash(entry) for entry in entries]

    def read(nodes: Sequence[Node]) -> list[bytes]:
        return [root_from_leaves(hashes[one.index << one.level : (one.index + 1) << one.level]) for one in nodes]

    tenants = {tenant.id: tenant for tenant in records.tenants}
    insert = postgresql_insert if tx.dialect.name == "postgresql" else sqlite_insert
    found, unreadable = wanted.read(0, entries)
    assert unreadable == []
    for one in found:
        proof = TlogProof(one.index, tuple(inclusion_proof(one.index, len(entries), read)), signed, one.entry)
        for tenant_id in one.tenants:
            hash_key, operation = tenants[tenant_id].hash_key, one.claim.operation
            row = {
                "issuer_log_id": log_id,
                "tenant_id": tenant_id,
                "index": one.index,
                "provider": one.provider,
                "item_key": item_key(hash_key, one.provider, one.claim.item),
                "operation_key": None if operation is None else operation_key(hash_key, one.provider, operation),
                "seen_at": format_time(seen_at),
                "announced": False,
                "due_at": "",
                "entry": one.entry,
                "proof": proof.encode(),
            }
            tx.execute(insert(claims).values(row).on_conflict_do_nothing())


def forked(records: Records, issuer: Issuer) -> Fork:
    """The issuer was seen to sign two checkpoints of one size and two roots."""
    smaller, larger = (note.sign(Checkpoint(issuer.origin, 3, bytes([byte]) * 32).text, issuer.key) for byte in (1, 2))
    fork = Fork(smaller, larger, bytes([2]) * 32, ())
    with records.database.write() as tx:
        its_row = sa.update(issuer_logs).where(issuer_logs.c.id == issuer.id)
        tx.execute(its_row.values(fork=fork.encode(), forked_at=format_time(RECEIVED_AT)))
    return fork


# ---- sources and their deliveries -----------------------------------------------------------------------------------


def new_source(
    records: Records,
    provider: str,
    account: str | None,
    tenant: str = "default",
    *,
    test: bool = False,
    checking: Checking | None = None,
    upstream: str | None = None,
) -> Source:
    """A new source, as it is at intake."""
    new = NewSource(
        new_id(),
        provider,
        "token",
        {"header": "x-signed"},
        account,
        test=test,
        upstream=upstream,
        checking=checking or Checking(),
    )
    source_id = add_source(records, records.ensure_tenant(tenant), new, new_id())
    endpoints = Endpoints(records, Metrics())
    asyncio.run(endpoints.refresh())
    return next(Source(records, one) for one in endpoints.all() if one.source.id == source_id)


def reconfigure(source: Source, checking: Checking, *, enabled: bool = True, upstream: str | None = None) -> None:
    """Change what a source's events are checked against."""

    def decide(before: RecordedSource) -> Decision:
        return Decision(altered(before, checking=checking, enabled=enabled, upstream=upstream))

    endpoint = source.endpoint
    change_source(source.records, endpoint.tenant, endpoint.source.id, decide)


def deliver(source: Source, *bodies: bytes, at: datetime = RECEIVED_AT) -> list[Outcome]:
    """Deliver these at that time."""
    return write_batch(source.records.database, [source.submission(body, at) for body in bodies])


def reversed_(redemption: str, reversal: str, amount: str | None = None, **members: Any) -> bytes:
    """The body of a `redemption.reversed`; `members` are added to its data, or stand in for others there."""
    data = {
        "id": reversal,
        "redemption_id": redemption,
        "amount": amount,
        "quantity": None,
        "reason": "Customer refund request",
        "created_at": "2026-11-20T08:59:58Z",
        **members,
    }
    envelope = {"id": new_id(), "type": "redemption.reversed", "api_version": "2026-03-01", "data": data}
    return json.dumps({**envelope, "created_at": "2026-11-20T08:59:59Z", "organization_id": ORGANIZATION}).encode()


# ---- what became of it ----------------------------------------------------------------------------------------------


def check(records: Records) -> None:
    """Take up and judge whatever there is, of every tenant."""
    tenants = {tenant.id: tenant for tenant in records.tenants}
    with records.database.read() as tx:
        listed = sources_to_check(tx)
    for source in listed:
        take_up(records, tenants[source.tenant_id], source)
    for tenant in tenants.values():
        for _ in range(1000):
            if not judge_due(records, tenant):
                break
        else:
            raise AssertionError("what was judged stays due")


def known(records: Records, event_id: str) -> sa.Row[Any] | None:
    """What is known of an event: its row of `checks`."""
    with records.database.read() as tx:
        return tx.execute(sa.select(checks).where(checks.c.event_id == event_id)).one_or_none()


def state_of(records: Records, event_id: str) -> str | None:
    """The state of an event's check; None if it has none."""
    row = known(records, event_id)
    return None if row is None else row.state


def kept(records: Records, index: int) -> sa.Row[Any]:
    """What is known of the only entry that is kept under that index."""
    with records.database.read() as tx:
        return tx.execute(sa.select(claims).where(claims.c.index == index)).one()


@dataclass(frozen=True, slots=True)
class Told:
    """A finding: the facts of its entry of our log, and what that commits to, opened."""

    kind: str
    facts: Mapping[str, Any]
    data: Mapping[str, Any]
    body: bytes | None
    row: sa.Row[Any]


def told(source: Source, kind: str = "cross_check") -> list[Told]:
    """The findings of a kind in the log of a source's tenant, in its order, each after a look at its commitments."""
    with source.records.database.read() as tx:
        rows = tx.execute(sa.select(findings).where(findings.c.log_id == source.log_id, findings.c.kind == kind)).all()
    by_id = {row.id: row for row in rows}
    found: list[Told] = []
    for leaf in source.leaves():
        row = by_id.pop(leaf.id, None)
        if row is not None:
            assert (leaf.kind, leaf.facts["state"], leaf.logged_at) == (row.kind, row.state, row.logged_at)
            assert leaf.event == canonical.commitment(bytes(row.event_salt), "event", bytes(row.event_data))
            assert (leaf.delivery is None) == (row.body is None)
            found.append(Told(leaf.kind, leaf.facts, json.loads(row.event_data), row.body, row))
    assert not by_id
    return found


def changes(source: Source) -> list[str]:
    """How the cross-checks of a source's tenant changed, in order: `pending confirmed` and so on."""
    return [f"{one.facts['was']} {one.facts['state']}" for one in told(source)]
