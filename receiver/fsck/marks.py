"""Who states what of a log's tree: its checkpoints, and its guard.

Each gives marks, which the tree is held against as it is derived. What cannot be a mark, for its signature is wrong or
its size is beyond the log, is a fault by itself.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.exc import NoResultFound

from receiver.fsck.logs import LogRow
from receiver.fsck.report import Draft, Notes
from receiver.fsck.tree import Mark
from receiver.records.loss import Loss, lost_logs, tenant_of
from receiver.records.opening import Records
from receiver.records.tables import log_keys
from translog import store
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, StoreError, TranslogError
from translog.note import VerifyingKey
from translog.policy import Policy

_PAGE = 1024

Guards: TypeAlias = Mapping[str, Checkpoint | StoreError | None]
"""By vkey, what the guard holds; the error where that cannot be read."""


def read_guards(records: Records) -> Guards:
    """What the guard holds of every log."""
    with records.database.read() as tx:
        vkeys = tx.execute(sa.select(log_keys.c.vkey)).scalars().all()
    guards: dict[str, Checkpoint | StoreError | None] = {}
    for vkey in vkeys:
        try:
            guards[vkey] = records.guard.read(VerifyingKey.parse(vkey))
        except StoreError as error:
            guards[vkey] = error
        except FormatError:
            continue  # told of with its log
    return guards


def read_claims(records: Records, draft: Draft) -> Mapping[str, Checkpoint]:
    """What the guard holds of every log under this base, known here or not. To be read before any row is."""
    try:
        with records.database.read() as tx:
            base = records.base_origin(tx)
        return records.guard.claims(f"{base}/log/")
    except NoResultFound:
        return {}  # told of by `check_claims`
    except StoreError as error:
        Notes(draft, "records").fault("guard", str(error))
        return {}


def check_claims(tx: sa.Connection, records: Records, claims: Mapping[str, Checkpoint], draft: Draft) -> None:
    """That all logs are of the base that the settings have, and that none is missing which the guard knows."""
    notes = Notes(draft, "records")
    try:
        base = records.base_origin(tx)
    except NoResultFound:
        notes.fault("settings", "the origin is missing")
        return
    for origin in tx.execute(sa.select(store.logs.c.origin).order_by(store.logs.c.id)).scalars():
        if tenant_of(origin, base) is None:
            notes.fault("settings", f"the origin is {base}, and there is the log {origin}")
    for name, claim in lost_logs(tx, base, claims).items():
        notes.fault(
            "guard",
            f"{name}.checkpoint is of {claim.size} entries of {claim.origin}, a log that is not here: the database was "
            "put back from a copy. Put the newest copy in place; if there is none, see `receiver recover`",
        )


def guard_marks(log: LogRow, guards: Guards, records: Records, notes: Notes) -> Iterator[Mark]:
    """What the guard states of a tenant's live log."""
    if str(log.key) not in guards:
        return  # the log was made since the guards were read
    held = guards[str(log.key)]
    if isinstance(held, StoreError):
        notes.fault("guard", str(held))
    elif held is None:
        unknown = (
            f"the guard {records.guard.folder} knows nothing of it, so whether this database was put back from a copy "
            "cannot be told"
        )
        if records.settings.require_guard:
            notes.fault("guard", unknown)
        elif log.size:
            notes.remark(unknown)
    elif held.size > log.size:
        notes.fault(
            "guard",
            f"has a checkpoint of {held.size} entries, the log has {log.size}: the database was put back from a copy. "
            "Put the newest copy in place; if there is none, see `receiver recover`",
        )
    else:
        yield Mark(held.size, held.root, "guard")


def check_closed(log: LogRow, loss: Loss | None, guards: Guards, notes: Notes) -> None:
    """That a log which does not go on is as its successor's first entry says."""
    if loss is None:
        notes.fault("log", "is not its tenant's log any more, and no successor's first entry tells why")
        return
    guard, kept = loss.guard, loss.kept
    if loss.vkey != str(log.key):
        notes.fault("key", f"is not the one that its successor tells of, {loss.vkey}")
    if (kept.size, kept.root) != (log.size, log.root):
        notes.fault("head", f"has root {log.root.hex()} at size {log.size}; it was closed with {_root(kept)}")
    held = guards.get(str(log.key))
    if isinstance(held, StoreError):
        notes.fault("guard", str(held))
    elif held is not None and (held.size, held.root) != (guard.size, guard.root):
        notes.fault("guard", f"has {_root(held)}; the successor tells of {_root(guard)}")
    gone = "others stand where signed ones stood" if loss.missing is None else f"{loss.missing} are missing"
    notes.remark(f"was recovered from: of {guard.size} signed entries {kept.size} are here, {gone}")


def _root(checkpoint: Checkpoint) -> str:
    return f"root {checkpoint.root.hex()} at size {checkpoint.size}"


def published_marks(tx: sa.Connection, log: LogRow, notes: Notes) -> Iterator[Mark]:
    """What the newest checkpoint states, where it is not in `log_checkpoints` as well."""
    place = "published checkpoint"
    kept = store.checkpoints.c
    newest = tx.execute(
        sa.select(kept.size, kept.note).where(kept.log_id == log.id).order_by(kept.size.desc()).limit(1)
    ).one_or_none()
    row = tx.execute(sa.select(store.published).where(store.published.c.log_id == log.id)).one_or_none()
    if row is None:
        if newest is not None:
            notes.fault(place, f"is missing; the newest in log_checkpoints is of size {newest.size}")
        return
    mark = _mark(log, row.size, bytes(row.note), place, notes)
    if mark is not None and bytes(row.root) != mark.root:
        notes.fault(place, f"has root {row.root.hex()}, its note {mark.root.hex()}")
    if newest is None or (newest.size, bytes(newest.note)) != (row.size, bytes(row.note)):
        of = "there is none" if newest is None else f"that is of size {newest.size}"
        notes.fault(place, f"is of size {row.size}, and not the newest in log_checkpoints: {of}")
        if mark is not None:
            yield mark


def checkpoint_marks(tx: sa.Connection, log: LogRow, notes: Notes) -> Iterator[Mark]:
    """What every checkpoint that was ever signed states, by size."""
    kept = store.checkpoints.c
    last = -1
    while True:
        rows = tx.execute(
            sa.select(kept.size, kept.note)
            .where(kept.log_id == log.id, kept.size > last)
            .order_by(kept.size)
            .limit(_PAGE)
        ).all()
        for row in rows:
            notes.draft.checkpoints += 1
            mark = _mark(log, row.size, bytes(row.note), f"checkpoint {row.size}", notes)
            if mark is not None:
                yield mark
        if len(rows) < _PAGE:
            return
        last = rows[-1].size


def _mark(log: LogRow, size: int, note: bytes, place: str, notes: Notes) -> Mark | None:
    """What a note of that log states. One that does not verify, or is of another size, is a fault and no mark."""
    if log.key is None:
        return None  # nothing verifies without it, and its absence is a fault already
    try:
        signed = Policy.of(log.key).open(note)
    except TranslogError as error:
        notes.fault(place, f"cannot be relied on: {error}")
        return None
    if signed.size != size:
        notes.fault(place, f"was signed for size {signed.size}")
        return None
    return Mark(size, signed.root, place)
