"""After a loss: a successor log that begins by saying what is missing.

A log whose database was put back from a copy holds less than it has signed, or something else than it has signed. It
must not sign again: whatever it signed next would contradict what others may hold. So it is closed for good, and its
tenant goes on in a successor log of its own origin and key, whose first entry tells of it (`receiver.records.loss`).

A log can also be gone altogether: made after the copy was, so that the database knows nothing of it. Only the guard
does, and `receiver.records.opening` refuses such a database. Its tenant is made again with a successor in the same way.

Rows stay with the log they were written for, and deliveries that were kept are still known by their dedupe keys.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from receiver.records import tables
from receiver.records.loss import Loss
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.processes import running
from translog.checkpoint import Checkpoint
from translog.errors import LogDamaged
from translog.merkle import EMPTY_ROOT, Frontier, leaf_hash
from translog.note import SigningKey
from translog.store import Head, create_log, logs


def find_losses(records: Records, name: str) -> tuple[Loss, ...]:
    """All that the guard shows to be lost of a tenant: of its live log, then logs that the database does not know.

    None if there is no loss. A live log that is all that its guard says is among them (`Loss.intact`) only if others
    are lost: it is closed as well, so that one successor tells of all. Raises RecordsError if there is no such tenant,
    and as `find_loss`.
    """
    lost = tuple(Loss.whole(log) for log in records.lost_logs().values() if records.owner(log) == name)
    if lost and not records.has_tenant(name):
        return lost
    tenant = records.tenant(name)
    live = find_loss(records, tenant)
    if live is not None:
        return (live, *lost)
    return (_intact(records, tenant), *lost) if lost else ()


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


def _intact(records: Records, tenant: Tenant) -> Loss:
    log, head = tenant.log, tenant.log.head()
    guarded = records.guard.read(log.verifying_key) or Checkpoint(log.origin, 0, EMPTY_ROOT)
    return Loss(str(log.verifying_key), guarded, Checkpoint(log.origin, head.size, head.root), intact=True)


def recover(records: Records, name: str, losses: Sequence[Loss], by: str = "command") -> Tenant:
    """Close a tenant's log and begin its successor, which tells of these losses; the tenant as it goes on.

    A tenant that is itself lost is made again. One transaction: a crash leaves the log as it was, or a successor that
    says why there is one. With it the closed log's private key is gone. Raises RecordsError while a service runs, or if
    the log is no longer as `losses` say.
    """
    tenant = records.tenant(name) if records.has_tenant(name) else None
    facts = [{"action": "recovered", "by": by, "id": name, "predecessor": loss.facts()} for loss in losses]
    try:
        with records.database.write() as tx:
            old = Head(0, EMPTY_ROOT, "") if tenant is None else tenant.log.store.lock_head(tx)
            _must_be_free(tx, tenant, losses[0], old)
            key = SigningKey.generate(_next_origin(tx, records, name))
            log_id = create_log(tx, key.name, EMPTY_ROOT)
            tenant_id = records.insert_tenant(tx, name, log_id) if tenant is None else tenant.id
            if tenant is not None:
                tx.execute(sa.update(tables.tenants).where(tables.tenants.c.id == tenant.id).values(log_id=log_id))
                closed = tables.log_keys.c.log_id == tenant.log_id
                tx.execute(sa.update(tables.log_keys).where(closed).values(private_key=b""))
            records.begin_log(tx, tenant_id, log_id, key, facts, not_before=old.logged_at)
    except IntegrityError as error:
        raise _changed(losses[0]) from error
    records.reload()
    successor = records.tenant(name)
    for _ in range(2):  # that of size 0 comes first, as in every log
        successor.log.publish()
    return successor


def _must_be_free(tx: sa.Connection, tenant: Tenant | None, loss: Loss, head: Head) -> None:
    if tenant is not None:
        live = tx.execute(sa.select(tables.tenants.c.log_id).where(tables.tenants.c.id == tenant.id)).scalar_one()
        kept = loss.kept
        if live != tenant.log_id or (tenant.log.origin, head.size, head.root) != (kept.origin, kept.size, kept.root):
            raise _changed(loss)
    if services := running(tx):
        raise RecordsError(f"a service still runs on this database ({'; '.join(services)}): stop it first")


def _changed(loss: Loss) -> RecordsError:
    return RecordsError(f"{loss.kept.origin} has changed while it was looked at; run `receiver recover` again")


def _next_origin(tx: sa.Connection, records: Records, name: str) -> str:
    """An origin that no log has had. The guard is asked as well: what a copy put back does not know was once there."""
    first = f"{records.base_origin(tx)}/log/{name}"
    used = {claim.origin for claim in records.guard.claims(first).values()}
    used.update(tx.execute(sa.select(logs.c.origin)).scalars())
    number = 2
    while f"{first}/{number}" in used:
        number += 1
    return f"{first}/{number}"
