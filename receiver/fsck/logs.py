"""The logs that a database has, each with its key and its tenant, looked at for themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.fsck.report import Draft, Notes
from receiver.records.opening import Records
from receiver.records.tables import deliveries, log_keys, tenants
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
    parts = (store.entries, store.tiles, store.published, store.checkpoints, store.leaf_buckets, log_keys, deliveries)
    for table in parts:
        count = sa.func.count().label("count")
        stray = sa.select(table.c.log_id, count).where(table.c.log_id.not_in(known)).group_by(table.c.log_id)
        for row in tx.execute(stray.order_by(table.c.log_id)):
            notes.fault(table.name, f"log {row.log_id} is not there, but rows of it: {row.count}")
    mine = sa.and_(log_keys.c.log_id == tenants.c.log_id, log_keys.c.tenant_id == tenants.c.id)
    for name in tx.execute(sa.select(tenants.c.name).where(~sa.exists().where(mine))).scalars():
        notes.fault(f"tenant {name}", "has no log of its own")


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
