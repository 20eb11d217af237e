"""After a loss: a successor log that begins by saying what is missing.

A log whose database was put back from a copy holds less than it has signed, or something else than it has signed. It
must not sign again: whatever it signed next would contradict what others may hold. So it is closed for good, and its
tenant goes on in a successor log of its own origin and key, whose first entry tells of it:

    kind    tenant
    facts   {"action":"recovered","by":"command","id":"<tenant>","predecessor":{"origin":"…","vkey":"…",
             "guard":{"size":20,"root":"<hex>"},"kept":{"size":15,"root":"<hex>"},"missing":5}}

`guard` is the last checkpoint that the closed log is known to have signed, `kept` what is left of it here, `missing`
the number of entries lost; null where the log had grown again, so that other entries stand where signed ones stood.
Rows stay with the log they were written for, and deliveries that were kept are still known by their dedupe keys.
"""

from dataclasses import dataclass
from typing import Self

import sqlalchemy as sa

from receiver.events import Kind
from receiver.records import tables
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.processes import running
from translog.canonical import Value
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, LogDamaged
from translog.evidence import Leaf
from translog.merkle import EMPTY_ROOT, Frontier, leaf_hash
from translog.note import SigningKey
from translog.store import Head, create_log, entries, logs


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of a log: the last checkpoint it is known to have signed, and the head that is left of it."""

    vkey: str
    guard: Checkpoint
    kept: Checkpoint

    @property
    def missing(self) -> int | None:
        """How many signed entries are lost; None where others stand in their place."""
        return self.guard.size - self.kept.size if self.kept.size < self.guard.size else None

    def facts(self) -> dict[str, Value]:
        """As the successor's first entry has it under `predecessor`."""
        return {
            "origin": self.kept.origin,
            "vkey": self.vkey,
            "guard": {"size": self.guard.size, "root": self.guard.root.hex()},
            "kept": {"size": self.kept.size, "root": self.kept.root.hex()},
            "missing": self.missing,
        }

    @classmethod
    def told_by(cls, leaf: Leaf) -> Self | None:
        """The loss that a successor's first leaf tells of; None if it tells of none, in exactly these facts."""
        match leaf.facts:
            case {
                "action": "recovered",
                "predecessor": {
                    "origin": str(origin),
                    "vkey": str(vkey),
                    "guard": {"size": int(guard_size), "root": str(guard_root)},
                    "kept": {"size": int(kept_size), "root": str(kept_root)},
                },
            } if leaf.kind == Kind.TENANT:
                try:
                    guard = Checkpoint(origin, guard_size, bytes.fromhex(guard_root))
                    told = cls(vkey, guard, Checkpoint(origin, kept_size, bytes.fromhex(kept_root)))
                except ValueError:
                    return None
                return told if told.facts() == leaf.facts["predecessor"] else None
            case _:
                return None


def find_loss(records: Records, tenant: Tenant) -> Loss | None:
    """What the guard of a tenant's log shows to be lost; None if the log is all that its guard says.

    Reads every entry. Raises LogDamaged where they do not give the log's head: then `receiver fsck` is the next step.
    """
    log = tenant.log
    guarded = records.guard.read(log.verifying_key)
    if guarded is None:
        return None
    with records.database.snapshot() as tx:
        head = log.store.head(tx)
        frontier = Frontier()
        upto = min(guarded.size, head.size)
        frontier.extend(leaf_hash(entry) for entry in log.store.entries(tx, 0, upto))
        holds = (frontier.size, frontier.root()) == (guarded.size, guarded.root)
        frontier.extend(leaf_hash(entry) for entry in log.store.entries(tx, upto, head.size))
    if frontier.root() != head.root:
        raise LogDamaged(
            f"the entries of {log.origin} give root {frontier.root().hex()} at size {head.size}, its head says "
            f"{head.root.hex()}: this database is damaged as well. `receiver fsck` lists what is wrong; put a better "
            "copy in its place"
        )
    if holds:
        return None
    return Loss(str(log.verifying_key), guarded, Checkpoint(log.origin, head.size, head.root))


def recover(records: Records, tenant: Tenant, loss: Loss, by: str = "command") -> Tenant:
    """Close a tenant's log and begin its successor, which tells of the loss; the tenant as it goes on.

    One transaction: a crash leaves the log as it was, or a successor that says why there is one. With it the closed
    log's private key is gone. Raises RecordsError while a service runs, or if the log is no longer as `loss` says.
    """
    with records.database.write() as tx:
        old = tenant.log.store.lock_head(tx)
        _must_be_free(tx, tenant, loss, old)
        key = SigningKey.generate(_next_origin(tx, records, tenant))
        log_id = create_log(tx, key.name, EMPTY_ROOT)
        tx.execute(sa.update(tables.tenants).where(tables.tenants.c.id == tenant.id).values(log_id=log_id))
        closed = tables.log_keys.c.log_id == tenant.log_id
        tx.execute(sa.update(tables.log_keys).where(closed).values(private_key=b""))
        facts: dict[str, Value] = {"action": "recovered", "by": by, "id": tenant.name, "predecessor": loss.facts()}
        records.begin_log(tx, tenant.id, log_id, key, facts, not_before=old.logged_at)
    records.reload()
    successor = records.tenant(tenant.name)
    for _ in range(2):  # that of size 0 comes first, as in every log
        successor.log.publish()
    return successor


def told_loss(tx: sa.Connection, log_id: int) -> Loss | None:
    """The loss that a log's first entry tells of; None if it succeeds no other."""
    query = sa.select(entries.c.data).where(entries.c.log_id == log_id, entries.c.index == 0)
    first = tx.execute(query).scalar_one_or_none()
    try:
        return None if first is None else Loss.told_by(Leaf.parse(bytes(first)))
    except FormatError:
        return None


def _must_be_free(tx: sa.Connection, tenant: Tenant, loss: Loss, head: Head) -> None:
    live = tx.execute(sa.select(tables.tenants.c.log_id).where(tables.tenants.c.id == tenant.id)).scalar_one()
    if live != tenant.log_id or (head.size, head.root) != (loss.kept.size, loss.kept.root):
        raise RecordsError(f"{tenant.log.origin} has changed while it was looked at; run `receiver recover` again")
    if services := running(tx):
        raise RecordsError(f"a service still runs on this database ({'; '.join(services)}): stop it first")


def _next_origin(tx: sa.Connection, records: Records, tenant: Tenant) -> str:
    """An origin that no log has had. The guard is asked as well: what a copy put back does not know was once there."""
    mine = (
        sa.select(logs.c.origin)
        .join_from(logs, tables.log_keys, tables.log_keys.c.log_id == logs.c.id)
        .where(tables.log_keys.c.tenant_id == tenant.id)
        .order_by(logs.c.id)
    )
    known = tx.execute(mine).scalars().all()
    number = len(known) + 1
    while f"{known[0]}/{number}" in records.guard.origins():
        number += 1
    return f"{known[0]}/{number}"
