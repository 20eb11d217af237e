"""The one pass over the database: the leaves of a range in order, each event with the row that opens it.

Each thousand leaves are read in a transaction of their own. A bundle of a million events takes a while, and on SQLite
a transaction that lasts keeps the write-ahead log from being written back, so that it grows with every delivery that
comes meanwhile. Nothing is lost by it: leaves never change, a row of an event changes only when it is erased, and
what was erased meanwhile is found out in the end (`receiver.exports.watching`), from the log itself. An erasure takes
a row's openings away and says so in one transaction. So whoever finds a row without, and asks afterwards, is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from receiver.events import Kind
from receiver.records.engine import Database
from receiver.records.keeping import erased
from receiver.records.tables import deliveries, findings
from translog.errors import LogDamaged
from translog.store import entries

LEAVES_PER_READ = 1024
"""Leaves that are read in one transaction."""

ROWS_AT_ONCE = 64
"""Rows that are in memory together: a body may have 256 KiB."""

ALL = "all"
"""The extent of an erasure that took both openings away; the other took the delivery's."""


class Kept(NamedTuple):
    """The row of a leaf that is of a kind which events have; what opens it is None once it is erased."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  (the leaf's, as everywhere)
    id: str
    event_data: bytes | None
    event_salt: bytes | None
    headers: str | None
    body: bytes | None
    delivery_salt: bytes | None


class Stand(NamedTuple):
    """The state of an event's cross-check, and the index of the leaf that says so."""

    state: str
    entry: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some leaves in order, each with its index, and what is kept of them."""

    leaves: Sequence[tuple[int, bytes]]
    kept: Mapping[int, Kept]
    """By the leaf's index."""
    stands: Mapping[str, Stand]
    """What the cross-checks say, by the event's id."""
    erasures: Mapping[str, Sequence[tuple[int, str]]]
    """By an event's id: index and extent of each erasure in this log that names it, by index."""


_LOG = sa.bindparam("log", type_=sa.Integer)
_START, _END = (sa.bindparam(name, type_=sa.BigInteger) for name in ("start", "end"))
_LEAVES = (
    sa.select(entries.c.index, entries.c.data)
    .where(entries.c.log_id == _LOG, entries.c.index >= _START, entries.c.index < _END)
    .order_by(entries.c.index)
)
_IN_RANGE = sa.and_(deliveries.c.log_id == _LOG, deliveries.c.log_index >= _START, deliveries.c.log_index < _END)
# Joined here and not by the database: of two ranges PostgreSQL goes through one for each row of the other, as long as
# it has not counted their rows.
_KEPT = (
    sa.select(
        deliveries.c.log_index,
        deliveries.c.id,
        deliveries.c.event_data,
        deliveries.c.event_salt,
        deliveries.c.headers,
        deliveries.c.body,
        deliveries.c.delivery_salt,
    )
    .where(_IN_RANGE, deliveries.c.kind.in_([Kind.REVOCATION.value, Kind.CONTEXT.value, Kind.ATTEMPT.value]))
    .order_by(deliveries.c.log_index)
)
_ANY_STANDS = (
    sa.select(findings.c.id)
    .where(findings.c.log_id == sa.bindparam("log"), findings.c.kind == Kind.CROSS_CHECK.value)
    .limit(1)
)
# From each event to its findings, whatever the database believes of their numbers: the last condition but one is one
# that no index is of, else SQLite would go through all findings of the log for each.
_LAST = (
    sa.select(sa.func.max(findings.c.log_index))
    .where(
        findings.c.event_id == deliveries.c.id,
        findings.c.kind == Kind.CROSS_CHECK.value,
        findings.c.log_id + 0 == _LOG,
        findings.c.log_index < sa.bindparam("size", type_=sa.BigInteger),
    )
    .scalar_subquery()
)
_STANDS = sa.select(deliveries.c.id, _LAST).where(_IN_RANGE)
_STATES = sa.select(findings.c.log_index, findings.c.state).where(
    findings.c.log_id == _LOG, findings.c.log_index.in_(sa.bindparam("indexes", expanding=True))
)
_ERASURES = (
    sa.select(erased.c.entry_id, erased.c.log_index, erased.c.extent)
    .where(erased.c.log_id == sa.bindparam("log"), erased.c.entry_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(erased.c.log_index)
)


class Reading:
    """Reads one log, as it is in the tree of `size` leaves."""

    def __init__(self, database: Database, log_id: int, size: int) -> None:
        self._database = database
        self._log_id = log_id
        self._size = size

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """Leaves start to end in order. Raises LogDamaged where one is missing."""
        with self._database.read() as tx:
            told = tx.execute(_ANY_STANDS, {"log": self._log_id}).first() is not None
        for first in range(start, end, LEAVES_PER_READ):
            last = min(first + LEAVES_PER_READ, end)
            here = {"log": self._log_id, "start": first, "end": last}
            with self._database.read() as tx:
                leaves = [(index, bytes(data)) for index, data in tx.execute(_LEAVES, here)]
                if [index for index, _ in leaves] != list(range(first, last)):
                    raise LogDamaged(
                        f"log {self._log_id} has not all of its entries {first} to {last - 1}; `receiver fsck` lists "
                        "what is wrong"
                    )
                stands = self._stands(tx, here) if told else {}
                place = first
                for rows in _partitions(tx, here):
                    until = rows[-1][0] + 1
                    kept = {row[0]: row for row in rows}
                    yield Part(leaves[place - first : until - first], kept, stands, self._erasures(rows))
                    place = until
            if place < last:
                yield Part(leaves[place - first :], {}, stands, {})

    def _stands(self, tx: sa.Connection, here: Mapping[str, Any]) -> dict[str, Stand]:
        of_size = {**here, "size": self._size}
        last = {event_id: index for event_id, index in tx.execute(_STANDS, of_size) if index is not None}
        if not last:
            return {}
        found = tx.execute(_STATES, {"log": self._log_id, "indexes": list(last.values())})
        states = dict(found.all())
        return {event_id: Stand(states[index], index) for event_id, index in last.items()}

    def _erasures(self, rows: Sequence[Kept]) -> dict[str, list[tuple[int, str]]]:
        # In a transaction of its own, which begins after the rows were read.
        missing = [row.id for row in rows if row.event_salt is None or row.delivery_salt is None]
        found: dict[str, list[tuple[int, str]]] = {}
        if missing:
            with self._database.read() as tx:
                for entry_id, index, extent in tx.execute(_ERASURES, {"log": self._log_id, "ids": missing}):
                    found.setdefault(entry_id, []).append((index, extent))
        return found


def _partitions(tx: sa.Connection, here: Mapping[str, Any]) -> Iterator[Sequence[Kept]]:
    """The rows of a range, a few at a time. On PostgreSQL the rest of them waits at the server."""
    result = tx.execute(_KEPT, here, execution_options={"stream_results": True, "max_row_buffer": ROWS_AT_ONCE})
    for rows in result.partitions(ROWS_AT_ONCE):
        yield cast("Sequence[Kept]", rows)
