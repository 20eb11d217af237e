"""The logs that a database has, each with its key and its tenant, looked at for themselves; and who stands where."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.fsck.report import Draft, Notes
from receiver.records.opening import Records
from receiver.records.tables import deliveries, findings, log_keys, outbox, subscriptions, tenants
from receiver.records.vault import VaultError
from translog import store
from translog.errors import TranslogError
from translog.note import SigningKey, VerifyingKey


@dataclass(frozen=True, slots=True)
class LogRow:
    """A log as the database has it; what cannot be read is None."""

    id: int
    origin: str
    size: int
    root: bytes
    logged_at: str
    key: VerifyingKey | None
    tenant_id: int | None
    hash_key: bytes | None
    """Of the tenant's keyed hashes, 32 bytes."""
    live: bool
    """The tenant's log of today; an earlier one is closed."""


def read_logs(tx: sa.Connection, records: Records, draft: Draft) -> Iterator[LogRow]:
    """Every log, in the order of their making, whatever is wrong with its key and tenant being noted."""
    query = (
        sa.select(
            store.logs,
            log_keys.c.vkey,
            log_keys.c.private_key,
            tenants.c.id.label("tenant_id"),
            tenants.c.name.label("tenant"),
            tenants.c.hash_key,
            tenants.c.log_id.label("live_log_id"),
        )
        .join_from(store.logs, log_keys, log_keys.c.log_id == store.logs.c.id, isouter=True)
        .join(tenants, tenants.c.id == log_keys.c.tenant_id, isouter=True)
        .order_by(store.logs.c.id)
    )
    for row in tx.execute(query).all():
        notes = Notes(draft, row.origin)
        live = row.live_log_id == row.id
        yield LogRow(
            id=row.id,
            origin=row.origin,
            size=row.size,
            root=bytes(row.root),
            logged_at=row.logged_at,
            key=_key(row, records, notes, live=live),
            tenant_id=row.tenant_id,
            hash_key=_hash_key(row, records, notes),
            live=live,
        )


def check_strays(tx: sa.Connection, notes: Notes) -> None:
    """Name the rows of logs that are not there, and the tenants without a log of their own."""
    known = sa.select(store.logs.c.id)
    log_parts = (store.entries, store.tiles, store.published, store.checkpoints, store.leaf_buckets)
    for table in (*log_parts, log_keys, deliveries, findings):
        count = sa.func.count().label("count")
        stray = sa.select(table.c.log_id, count).where(table.c.log_id.not_in(known)).group_by(table.c.log_id)
        for row in tx.execute(stray.order_by(table.c.log_id)):
            notes.fault(table.name, f"log {row.log_id} is not there, but rows of it: {row.count}")
    mine = sa.and_(log_keys.c.log_id == tenants.c.log_id, log_keys.c.tenant_id == tenants.c.id)
    for name in tx.execute(sa.select(tenants.c.name).where(~sa.exists().where(mine))).scalars():
        notes.fault(f"tenant {name}", "has no log of its own")


def remark_on_subscriptions(tx: sa.Connection, notes: Notes) -> None:
    """Say where a subscription stands at no place of its tenant's logs, or has to pass on what is not there.

    That is no fault of the records: whatever was to be passed on is in the log, and can be replayed from there.
    """
    its_log = sa.and_(log_keys.c.log_id == subscriptions.c.log_id, log_keys.c.tenant_id == subscriptions.c.tenant_id)
    query = (
        sa.select(subscriptions, log_keys.c.log_id.label("its_log_id"), store.logs.c.size)
        .join_from(subscriptions, log_keys, its_log, isouter=True)
        .join(store.logs, store.logs.c.id == subscriptions.c.log_id, isouter=True)
    )
    for row in tx.execute(query.order_by(subscriptions.c.id)):
        if row.its_log_id is None or row.size is None:
            notes.remark(f"the subscription {row.id} goes through log {row.log_id}, which is no log of its tenant")
            continue
        places = {name: getattr(row, name) for name in ("next_index", "replay_next", "replay_end")}
        for name, place in places.items():
            if place is not None and not 0 <= place <= row.size:
                notes.remark(f"the subscription {row.id} stands beyond its log of {row.size}: {name} is {place}")
    missing = (
        sa.select(outbox.c.subscription_id, sa.func.count().label("messages"))
        .join_from(
            outbox,
            store.entries,
            sa.and_(store.entries.c.log_id == outbox.c.log_id, store.entries.c.index == outbox.c.log_index),
            isouter=True,
        )
        .where(store.entries.c.index.is_(None))
        .group_by(outbox.c.subscription_id)
    )
    for row in tx.execute(missing.order_by(outbox.c.subscription_id)):
        notes.remark(f"the subscription {row.subscription_id} has to pass on {row.messages} entries that are not there")


def _key(row: sa.Row[Any], records: Records, notes: Notes, *, live: bool) -> VerifyingKey | None:
    if row.vkey is None:
        notes.fault("key", "there is none in log_keys")
        return None
    try:
        key = VerifyingKey.parse(row.vkey)
    except TranslogError as error:
        notes.fault("key", str(error))
        return None
    if key.name != row.origin:
        notes.fault("key", f"is that of {key.name}")
    if live:
        try:
            private = SigningKey.parse(records.vault.open(f"log/{row.id}", bytes(row.private_key)).decode())
        except (TranslogError, VaultError) as error:
            notes.fault("private key", str(error))
        else:
            if private.verifying_key() != key:
                notes.fault("private key", f"is that of {private.verifying_key()}")
    elif row.private_key:
        notes.fault("private key", "is still there, though this log must not sign any more")
    return key


def _hash_key(row: sa.Row[Any], records: Records, notes: Notes) -> bytes | None:
    if row.tenant is None:
        notes.fault("log", "belongs to no tenant")
        return None
    try:
        return records.vault.open(f"tenant/{row.tenant}", bytes(row.hash_key))
    except VaultError as error:
        notes.fault(f"tenant {row.tenant}", str(error))
        return None
