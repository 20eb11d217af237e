"""What became of logs that were lost, in whole or in part: as their successors tell, and as the guard shows.

A tenant's log that goes on after a loss begins with one entry of kind `tenant` for each log that it goes on for:

    {"action":"recovered","by":"command","id":"<tenant>","predecessor":{"origin":"…","vkey":"…",
     "guard":{"size":20,"root":"<hex>"},"kept":{"size":15,"root":"<hex>"},"missing":5}}

`guard` is the last checkpoint that the log before it is known to have signed, `kept` what is left of it here,
`missing` the number of entries lost; null where the log had grown again, so that other entries stand where signed ones
stood. Of a log that the database knows nothing of, since it was made after the copy that was put back, nothing is
kept, and `vkey` is null: the guard has only what was signed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import sqlalchemy as sa

from receiver.events import Kind
from receiver.records import tables
from translog.canonical import Value
from translog.checkpoint import Checkpoint
from translog.errors import FormatError
from translog.evidence import Leaf
from translog.guard import claim_of
from translog.merkle import EMPTY_ROOT
from translog.store import entries, logs


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of a log: the last checkpoint it is known to have signed, and the head that is left of it."""

    vkey: str | None
    """None if the database knows nothing of the log."""
    guard: Checkpoint
    kept: Checkpoint
    intact: bool = False
    """The log is all that its guard says, and is closed since others of its tenant are lost."""

    @classmethod
    def whole(cls, guard: Checkpoint) -> Self:
        """The loss of a log that nothing but its guard tells of."""
        return cls(None, guard, Checkpoint(guard.origin, 0, EMPTY_ROOT))

    @property
    def missing(self) -> int | None:
        """How many signed entries are lost; None where others stand in their place."""
        if self.intact:
            return 0
        return self.guard.size - self.kept.size if self.kept.size < self.guard.size else None

    def facts(self) -> dict[str, Value]:
        """As the successor has it under `predecessor`."""
        return {
            "origin": self.kept.origin,
            "vkey": self.vkey,
            "guard": {"size": self.guard.size, "root": self.guard.root.hex()},
            "kept": {"size": self.kept.size, "root": self.kept.root.hex()},
            "missing": self.missing,
        }

    @classmethod
    def told_by(cls, leaf: Leaf) -> Self | None:
        """The loss that a leaf tells of; None if it tells of none, in exactly these facts."""
        match leaf.facts:
            case {
                "action": "recovered",
                "predecessor": {
                    "origin": str(origin),
                    "vkey": str() | None as vkey,
                    "guard": {"size": int(guard_size), "root": str(guard_root)},
                    "kept": {"size": int(kept_size), "root": str(kept_root)},
                    "missing": missing,
                },
            } if leaf.kind == Kind.TENANT:
                try:
                    guard = Checkpoint(origin, guard_size, bytes.fromhex(guard_root))
                    kept = Checkpoint(origin, kept_size, bytes.fromhex(kept_root))
                except ValueError:
                    return None
                told = cls(vkey, guard, kept, intact=missing == 0)
                return told if told.facts() == leaf.facts["predecessor"] else None
            case _:
                return None


def told_losses(tx: sa.Connection, log_id: int) -> Iterator[Loss]:
    """The losses that a log's first entries tell of; none if it succeeds no other."""
    query = sa.select(entries.c.data).where(entries.c.log_id == log_id, entries.c.index == sa.bindparam("at"))
    index = 0
    while (entry := tx.execute(query, {"at": index}).scalar_one_or_none()) is not None:
        try:
            told = Loss.told_by(Leaf.parse(bytes(entry)))
        except FormatError:
            return
        if told is None:
            return
        yield told
        index += 1


def tenant_of(origin: str, base: str) -> str | None:
    """The name of the tenant whose log, the first or a successor, has that origin; None if it is not of this base."""
    found = re.fullmatch(re.escape(base) + "/log/([a-z0-9-]+)(?:/[0-9]+)?", origin)
    return None if found is None else found[1]


def lost_logs(tx: sa.Connection, base: str, claims: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """Those of a guard's claims that are of logs which this database should know, and neither knows nor tells of.

    The claims must have been read before `tx` began: a log is in the database before it signs any entry. One that has
    signed none has lost none: its maker may have died before the commit.
    """
    strange = {
        name: claim for name, claim in claims.items() if claim.size > 0 and tenant_of(claim.origin, base) is not None
    }
    for vkey in tx.execute(sa.select(tables.log_keys.c.vkey)).scalars():
        strange.pop(claim_of(vkey), None)
    if strange:
        told = [loss.guard for log_id in tx.execute(sa.select(logs.c.id)).scalars() for loss in told_losses(tx, log_id)]
        strange = {name: claim for name, claim in strange.items() if claim not in told}
    return strange
