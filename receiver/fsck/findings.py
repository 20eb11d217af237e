"""What was found out: the leaves of cross-checks, gaps, forks and silences, and the rows of `findings` beside them.

And those of erasures, holds and releases, which have such rows for their reasons.

A finding is logged for everybody and explained in its row: the leaf has the facts and two commitments, the row what
these open to, and what questions are answered from. So each must say what the other says. What it was found from is
kept as well, and must be there: the event, what was told of it before, the entry of the issuer's log, byte for byte, or
the evidence of a fork (`receiver.fsck.claims` and `receiver.fsck.issuers` hold these against the issuer's signature).

What is known of an event after all that was found out of it is in `checks` (`receiver.fsck.crosschecks`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from receiver.assurance.bundles import Result
from receiver.assurance.conclusions import ANNOUNCED, OPEN
from receiver.assurance.silence import BEGAN, ENDED
from receiver.erasure.placing import PLACED, RELEASED
from receiver.erasure.selecting import Extent
from receiver.events import CrossCheck, Kind
from receiver.fsck.erasures import read_extents
from receiver.fsck.issuers import Issuer
from receiver.fsck.readings import DELIVERY, EVENT, facts_differ, leaf_of
from receiver.fsck.report import Notes
from receiver.fsck.rows import SourceOf
from receiver.records.tables import bundle_roots, checks, claims, deliveries, findings
from translog.canonical import Value, decode
from translog.errors import FormatError
from translog.evidence import Delivery, Leaf
from translog.fork import Fork
from translog.merkle import leaf_hash
from translog.store import entries

KINDS = frozenset({Kind.CROSS_CHECK, Kind.GAP, Kind.FORK, Kind.SILENCE, Kind.ERASURE, Kind.HOLD, Kind.RELEASE})

_STATES = {
    Kind.CROSS_CHECK: frozenset(state.value for state in CrossCheck),
    Kind.GAP: frozenset({OPEN, ANNOUNCED}),
    Kind.FORK: frozenset({"forked"}),
    Kind.SILENCE: frozenset({BEGAN, ENDED}),
    Kind.ERASURE: frozenset(extent.value for extent in Extent),
    Kind.HOLD: frozenset({PLACED}),
    Kind.RELEASE: frozenset({RELEASED}),
}
# The columns that a row of this kind leaves empty.
_EMPTY = {
    Kind.CROSS_CHECK: (),
    Kind.GAP: ("event_id",),
    Kind.FORK: ("event_id", "source_id", "issuer_index"),
    Kind.SILENCE: ("event_id", "issuer_log_id", "issuer_index"),
    Kind.ERASURE: ("source_id", "event_id", "issuer_log_id", "issuer_index"),
    Kind.HOLD: ("source_id", "event_id", "issuer_log_id", "issuer_index"),
    Kind.RELEASE: ("source_id", "event_id", "issuer_log_id", "issuer_index"),
}
_OF_SOURCES = frozenset({Kind.CROSS_CHECK, Kind.GAP, Kind.SILENCE})
_OF_ENTRIES = frozenset({Kind.CROSS_CHECK, Kind.GAP})
_SAID = frozenset({CrossCheck.CONFIRMED.value, CrossCheck.CONTRADICTED.value})
_BY_NOBODY = frozenset({CrossCheck.PENDING.value, CrossCheck.NONE.value})
# What became of a proof bundle whose path leads to its root.
_PROVEN = frozenset({Result.PROVEN.value, Result.ROOTS_DIFFER.value})


class Findings:
    """One log's leaves of these kinds, and their rows. `check` takes the leaves in order, `finish` ends it."""

    def __init__(
        self,
        tx: sa.Connection,
        log_id: int,
        tenant_id: int | None,
        sources: Mapping[str, SourceOf],
        issuers: Mapping[str, Issuer],
        notes: Notes,
    ) -> None:
        self._tx = tx
        self._log_id = log_id
        self._tenant_id = tenant_id
        self._sources = sources
        self._issuers = issuers
        self._notes = notes
        self._erased: Mapping[str, frozenset[Extent]] = {}  # what is said to be erased of a bundle's rows

    def check(self, start: int, bundle: Sequence[bytes | None], leaves: Sequence[Leaf | None]) -> None:
        """Take the entries from `start` on, None where one is missing, their leaves, and the rows beside them.

        The leaf is None where an entry cannot be read, which is told with that.
        """
        rows = {row.log_index: row for row in self._rows(start, start + len(bundle))}
        self._erased = read_extents(self._tx, [row.id for row in rows.values()])
        for index, (entry, leaf) in enumerate(zip(bundle, leaves, strict=True), start):
            row = rows.get(index)
            if leaf is None:
                if entry is None and row is not None:
                    self._notes.fault(_place(row.id, index), "has no entry")
            elif leaf.kind in KINDS and row is None:
                self._notes.fault(f"entry {index}", f"is the {leaf.kind} {leaf.id}, which has no row")
            elif leaf.kind not in KINDS and row is not None:
                self._notes.fault(_place(row.id, index), f"stands beside a {leaf.kind}, which is no finding")
            elif row is not None:
                for problem in self._differences(leaf, row):
                    self._notes.fault(_place(row.id, index), problem)

    def finish(self, size: int) -> None:
        """Name the rows beyond the log's `size`."""
        columns = findings.c
        beyond = sa.select(columns.id, columns.log_index).where(
            columns.log_id == self._log_id, sa.or_(columns.log_index < 0, columns.log_index >= size)
        )
        for row in self._tx.execute(beyond.order_by(columns.log_index)):
            self._notes.fault(_place(row.id, row.log_index), "has no entry")

    def _rows(self, start: int, stop: int) -> Sequence[sa.Row[Any]]:
        its_claim = sa.and_(
            claims.c.issuer_log_id == findings.c.issuer_log_id,
            claims.c.tenant_id == self._tenant_id,
            claims.c.index == findings.c.issuer_index,
        )
        return self._tx.execute(
            _ROWS.add_columns(
                claims.c.provider.label("claim_provider"),
                claims.c.entry.label("claim_entry"),
                claims.c.gap_id.label("claim_gap_id"),
            )
            .join(claims, its_claim, isouter=True)
            .where(findings.c.log_id == self._log_id, findings.c.log_index >= start, findings.c.log_index < stop)
        ).all()

    # ---- one leaf, one row ------------------------------------------------------------------------------------------

    def _differences(self, leaf: Leaf, row: sa.Row[Any]) -> Iterator[str]:
        for name, logged in (("id", leaf.id), ("kind", leaf.kind), ("logged_at", leaf.logged_at)):
            kept = getattr(row, name)
            if kept != logged:
                yield f"{name} is {kept!a}, the entry's {logged!a}"
        if row.kind != leaf.kind:
            return
        kind = Kind(leaf.kind)
        for name in _EMPTY[kind]:
            if getattr(row, name) is not None:
                yield f"{name} is given, which {_called(kind)} has not"
        source = self._sources.get(row.source_id)
        if kind in _OF_SOURCES:
            if source is None:
                yield f"the source {row.source_id} is not there"
            elif source.tenant_id != self._tenant_id:
                yield f"the source {row.source_id} is another tenant's"
        yield from facts_differ(leaf, _facts(leaf, row, None if source is None else source.provider), _called(kind))
        if row.state == leaf.facts.get("state") and row.state not in _STATES[kind]:
            yield f"state is {row.state!a}, which this version does not know"
        erased = self._erased.get(row.id, frozenset())
        event_data, event_problem = EVENT.open(leaf.event, row, is_erased=Extent.ALL in erased)
        delivery_data, delivery_problem = DELIVERY.open(leaf.delivery, row, is_erased=bool(erased))
        yield from filter(None, (event_problem, delivery_problem))
        found = None if event_data is None else decode(event_data)
        delivery = None if delivery_data is None else Delivery.parse(delivery_data)
        if kind is Kind.CROSS_CHECK:
            yield from _event_differs(row)
        if kind is Kind.FORK:
            yield from self._fork_differs(row, found, delivery)
        elif kind in _OF_ENTRIES:
            yield from self._entry_differs(row, found, delivery)
            yield from self._roots_are_gone(row, found)

    def _entry_differs(self, row: sa.Row[Any], found: Value, delivery: Delivery | None) -> Iterator[str]:
        """What is wrong with the issuer's log and its entry that a finding names."""
        issuer = None if row.issuer_log_id is None else self._issuers.get(row.issuer_log_id)
        if row.issuer_log_id is not None and issuer is None:
            yield f"the issuer log {row.issuer_log_id} is not there"
        told: dict[str, Value] = {"issuer_index": row.issuer_index}
        if row.kind == Kind.GAP and row.claim_entry is None and isinstance(found, dict) and found.get("entry") is None:
            told = {"entry": None, "issuer_index": None}  # it was erased before this was told
        if row.issuer_index is None:
            told["entry"] = None
        elif row.claim_provider is None:
            yield f"entry {row.issuer_index} of the issuer log {row.issuer_log_id}, which it names, is not kept"
        elif row.claim_entry is not None:
            told["entry"] = leaf_hash(bytes(row.claim_entry)).hex()
            if delivery is not None and row.kind == Kind.GAP and delivery.body != bytes(row.claim_entry):
                yield "body is not the entry of the issuer log that it names"
        if row.issuer_log_id is None:
            told["issuer_log"] = None
        elif issuer is not None and issuer.origin is not None and row.state not in _BY_NOBODY:
            told["issuer_log"] = issuer.origin
        yield from _data_differs(told, found)

    def _roots_are_gone(self, row: sa.Row[Any], found: Value) -> Iterator[str]:
        """That the root is kept which a proof bundle led to: later ones are compared with it."""
        match found:
            case {"bundle": {"result": str(result), "log": str(log), "size": int(size), "root": str(root)}}:
                if result not in _PROVEN:
                    return
            case _:
                return
        columns = bundle_roots.c
        kept = sa.select(columns.root).where(
            columns.source_id == row.source_id, columns.log == log, columns.size == size
        )
        if root not in {bytes(one).hex() for one in self._tx.execute(kept).scalars()}:
            yield f"the root {root} of the log {log} at size {size} is not in bundle_roots"

    def _fork_differs(self, row: sa.Row[Any], found: Value, delivery: Delivery | None) -> Iterator[str]:
        """What is wrong with the evidence of a fork that was told of. That it proves one is told with the log."""
        issuer = self._issuers.get(row.issuer_log_id)
        if issuer is None:
            yield f"the issuer log {row.issuer_log_id} is not there"
        elif issuer.fork is None:
            yield f"the issuer log {row.issuer_log_id} has not forked, by issuer_logs"
        elif delivery is not None and delivery.body != issuer.fork:
            yield f"body is not the evidence that issuer_logs has of {row.issuer_log_id}"
        if delivery is None:
            return
        try:
            smaller, larger = Fork.parse(delivery.body).unverified_heads()
        except FormatError as error:
            yield f"body is no evidence of a fork: {error}"
            return
        told: dict[str, Value] = {
            "issuer_log": larger.origin,
            "larger": {"root": larger.root.hex(), "size": larger.size},
            "smaller": {"root": smaller.root.hex(), "size": smaller.size},
        }
        yield from _data_differs(told if issuer is None else {**told, "url": issuer.url}, found)


def _place(row_id: str, index: int) -> str:
    return f"finding {row_id} (entry {index})"


def _called(kind: Kind) -> str:
    """What a row of that kind is called, by its article."""
    return f"an {kind}" if kind is Kind.ERASURE else f"a {kind}"


def _facts(leaf: Leaf, row: sa.Row[Any], provider: str | None) -> dict[str, Value]:
    """The facts of a leaf by its row, and by what was found before. What neither has is the leaf's own word."""
    if leaf.kind == Kind.FORK:
        return {"issuer_log": row.issuer_log_id, "state": row.state}
    if leaf.kind == Kind.ERASURE:  # which is compared with what it names
        return {
            **{name: leaf.facts.get(name) for name in ("by", "claims", "erasure", "ids", "target")},
            "state": row.state,
        }
    if leaf.kind in {Kind.HOLD, Kind.RELEASE}:  # the rest is compared with the hold's own row
        hold_id = row.id if leaf.kind == Kind.HOLD else leaf.facts.get("hold")
        return {"by": leaf.facts.get("by"), "hold": hold_id, "state": row.state}
    told: dict[str, Value] = {"provider": provider, "source": row.source_id, "state": row.state}
    if leaf.kind == Kind.SILENCE:
        told["since"] = leaf.facts.get("since")
    elif leaf.kind == Kind.GAP:
        there = row.claim_provider is not None
        first = None if row.claim_gap_id == row.id else row.claim_gap_id
        told["gap"] = first if there else leaf.facts.get("gap")
    else:
        state = leaf.facts.get("state")
        said_by = "provider_record" if row.issuer_log_id is None else "issuer_log"
        was, was_late = _before(leaf, row)
        told["first"] = row.event_id
        told["by"] = None if state in _BY_NOBODY else said_by
        told["was"] = was
        told["late"] = state in _SAID and (was_late is True or was == CrossCheck.ABSENT)
    return told


def _before(leaf: Leaf, row: sa.Row[Any]) -> tuple[Value, Value]:
    """The state of the event that was told before, and whether that came late; by the leaf if that cannot be read."""
    if row.before_entry is None and row.before_id is None:
        return CrossCheck.PENDING.value, False
    before = leaf_of(row.before_entry)
    if before is None:
        return leaf.facts.get("was"), leaf.facts.get("late")
    return before.facts.get("state"), before.facts.get("late")


def _event_differs(row: sa.Row[Any]) -> Iterator[str]:
    """What is wrong with the event that a cross-check is of, or what is known of it."""
    if row.event_source_id is None:
        yield f"the event {row.event_id} that it is of is not there"
        return
    if row.event_source_id != row.source_id:
        yield f"the event {row.event_id} that it is of is another source's"
    if (row.event_log_id, row.event_log_index) >= (row.log_id, row.log_index):
        yield f"the event {row.event_id} that it is of was logged after it"
    if row.check_event_id is None:
        yield f"the event {row.event_id} that it is of has no row in checks"


def _data_differs(told: Mapping[str, Value], found: Value) -> Iterator[str]:
    """Members of what was found that are not as the row, or what it names, has them."""
    if isinstance(found, dict):
        for name, value in told.items():
            if found.get(name) != value:
                yield f"{name} is {value!a}, and what was found says {found.get(name)!a}"


_earlier = findings.alias("earlier")
_before_rows = findings.alias("before_rows")
_before_entries = entries.alias("before_entries")

_IS_EARLIER = sa.or_(
    _earlier.c.log_id < findings.c.log_id,
    sa.and_(_earlier.c.log_id == findings.c.log_id, _earlier.c.log_index < findings.c.log_index),
)
_LAST_BEFORE = (
    sa.select(_earlier.c.id)
    .where(_earlier.c.event_id == findings.c.event_id, _earlier.c.kind == Kind.CROSS_CHECK.value, _IS_EARLIER)
    .order_by(_earlier.c.log_id.desc(), _earlier.c.log_index.desc())
    .limit(1)
    .correlate(findings)
    .scalar_subquery()
)
_ROWS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        findings,
        _before_rows.c.id.label("before_id"),
        _before_entries.c.data.label("before_entry"),
        deliveries.c.source_id.label("event_source_id"),
        deliveries.c.log_id.label("event_log_id"),
        deliveries.c.log_index.label("event_log_index"),
        checks.c.event_id.label("check_event_id"),
    )
    .join_from(findings, _before_rows, _before_rows.c.id == _LAST_BEFORE, isouter=True)
    .join(
        _before_entries,
        sa.and_(_before_entries.c.log_id == _before_rows.c.log_id, _before_entries.c.index == _before_rows.c.log_index),
        isouter=True,
    )
    .join(deliveries, deliveries.c.id == findings.c.event_id, isouter=True)
    .join(checks, checks.c.event_id == findings.c.event_id, isouter=True)
)
