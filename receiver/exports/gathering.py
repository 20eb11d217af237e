"""The pass itself: every leaf of the range goes by once, and leaves its lines in the files that it belongs into.

What is written follows from the leaves and the openings alone, and each opening is held to its leaf's commitment before
it is written: rows that were changed give no bundle.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from receiver.events import Kind
from receiver.exports import lines
from receiver.exports.archive import Member, Spool
from receiver.exports.counting import Counting
from receiver.exports.facts import Range
from receiver.exports.jobs import Job
from receiver.exports.leaves import (
    EventFacts,
    Leaf,
    is_event,
    may_be_event,
    read_event_facts,
    read_facts,
    read_leaf,
    read_own,
    read_source_facts,
)
from receiver.exports.lines import Cells
from receiver.exports.proofs import Span
from receiver.exports.rows import ALL, Part
from receiver.exports.selection import MISMATCHES, QUARANTINED, Judge
from receiver.exports.tallies import Tallies
from translog.canonical import hmac_sha256
from translog.errors import LogDamaged, StoreError

PAYLOADS_PER_FILE = 100_000

_EVENT, _DELIVERY = b"rescind/commitment/v1\nevent\n", b"rescind/commitment/v1\ndelivery\n"
_EXCLUDED = {Kind.QUARANTINE.value: QUARANTINED, Kind.MISMATCH.value: MISMATCHES}


class Table(Protocol):
    """Takes the rows of `events.parquet`."""

    def rows(self, batch: Sequence[Cells], /) -> None:
        """Add these, in their order."""
        ...


class Spools(NamedTuple):
    """Where the large members are written to."""

    entries: Spool
    events: Spool
    csv: Spool
    payloads: Spool


class Gathering:
    """Takes a range's leaves as they come; then it has the payloads' members, what was counted, and what is named."""

    def __init__(self, job: Job, range_: Range, spools: Spools, table: Table | None) -> None:
        self._range = range_
        self._spools = spools
        self._table = table
        self._judge = Judge(job.query)
        self._log_id = job.log_id
        self.span = Span(range_.start)
        self.counting = Counting()
        self.tallies = Tallies(job.query.since, job.query.until)
        self.payloads: list[Member] = []
        self.indexes = array("q")
        """Of the events."""
        self.named = array("q")
        """Leaves that say something of the events: cross-checks and erasures; some more than once."""
        spools.csv.write(lines.HEADER)

    def take(self, part: Part) -> None:
        """The next leaves. Raises LogDamaged for rows that do not open them."""
        leaves = [data for _, data in part.leaves]
        self._spools.entries.write(b"".join([len(data).to_bytes(2, "big") + data for data in leaves]))
        self.span.extend(leaves)
        table: list[Cells] = []
        for index, data in part.leaves:
            leaf = read_leaf(data)
            if may_be_event(leaf.kind):
                facts = read_event_facts(leaf.facts)
                if is_event(leaf.kind, facts.effect) and index >= self._range.first:
                    self._event(part, index, data, leaf, facts, table)
            else:
                self._other(index, leaf)
        self._spools.csv.write("".join(map(lines.csv_line, table)).encode())
        if self._table is not None:
            self._table.rows(table)

    def finish(self) -> None:
        """All leaves were taken."""
        if self.counting.events % PAYLOADS_PER_FILE:
            self.payloads.append(self._spools.payloads.cut())

    # ---- events -----------------------------------------------------------------------------------------------------

    def _event(self, part: Part, index: int, data: bytes, leaf: Leaf, facts: EventFacts, table: list[Cells]) -> None:
        kept = part.kept.get(index)
        if kept is None or kept.id != leaf.id:
            raise self._damaged(index, "has no row of its id")
        _, _, event_data, event_salt, headers, body, delivery_salt = kept
        own = None if event_data is None else read_own(event_data)
        judge = self._judge
        moment = judge.moment(leaf.logged_at, facts, own)
        reason = judge.why_not(facts, own, moment)
        if reason is not None:
            if judge.is_excluded(leaf.logged_at):
                self.counting.exclusions[reason] += 1
            return

        opening = delivery = erased_by = gone_by = None
        if event_data is None or event_salt is None:
            erased_by = self._erased_by(part, index, leaf.id, ALL)
        else:
            if hmac_sha256(event_salt)(_EVENT + event_data).hex() != leaf.event:
                raise self._damaged(index, "is not opened by its event")
            opening = event_data, event_salt
        if headers is None or body is None or delivery_salt is None:
            gone_by = self._erased_by(part, index, leaf.id, None)
        else:
            opened = lines.delivery_data(headers, body)
            if hmac_sha256(delivery_salt)(_DELIVERY + opened).hex() != leaf.delivery:
                raise self._damaged(index, "is not opened by its delivery")
            delivery = opened, delivery_salt
        if gone_by is None and erased_by is not None:
            raise self._damaged(index, "is erased, and its delivery is not")

        stand = part.stands.get(leaf.id)
        self._spools.events.write(lines.event_line(index, data, opening, erased_by, stand))
        self._spools.payloads.write(lines.payload_line(index, delivery, gone_by))
        table.append(lines.cells(index, leaf, facts, own, stand))
        self.indexes.append(index)
        if stand is not None:
            self.named.append(stand.entry)
        counting = self.counting
        counting.event(index, facts, None if stand is None else stand.state, moment)
        self.tallies.event(None if own is None else own.occurred_at)
        if judge.is_late(leaf.logged_at):
            counting.late.add(index)
        if erased_by is not None:
            counting.erased.add(index)
            self.named.append(erased_by)
        if gone_by is not None:
            self.named.append(gone_by)
        if counting.events % PAYLOADS_PER_FILE == 0:
            self.payloads.append(self._spools.payloads.cut())

    def _erased_by(self, part: Part, index: int, its_id: str, extent: str | None) -> int:
        """The first leaf that says that an opening was erased, with that extent or any."""
        for entry, its_extent in part.erasures.get(its_id, ()):
            if extent is None or its_extent == extent:
                return entry
        raise StoreError(
            f"nothing in log {self._log_id} tells of the erasure of entry {index}. If another log has succeeded it "
            "since, that one does, and no bundle of this one can; else `receiver fsck` lists what is wrong"
        )

    def _damaged(self, index: int, what: str) -> LogDamaged:
        return LogDamaged(f"entry {index} of log {self._log_id} {what}; `receiver fsck` lists what is wrong")

    # ---- all else ---------------------------------------------------------------------------------------------------

    def _other(self, index: int, leaf: Leaf) -> None:
        """A leaf that is no event: tallies count from the range's start, all else from the period's first leaf."""
        if leaf.kind == Kind.TALLY:
            self.tallies.tally(read_facts(leaf.facts))
        if index < self._range.first:
            return
        reason = _EXCLUDED.get(leaf.kind)
        if reason is not None and self._judge.is_excluded(leaf.logged_at):
            self.counting.exclusions[reason] += 1
        if reason is not None or leaf.kind == Kind.GAP:
            told = read_source_facts(leaf.facts)
            if told.source is not None and told.provider is not None:
                self.counting.sources[told.source] = told.provider
                if leaf.kind == Kind.GAP and told.state == "open":
                    self.counting.gap(told.source, index)
