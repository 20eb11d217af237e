"""What a chunk shows, and what its events come to once their lines were found right: counts, claims, rows of the CSV.

Of plain events all is added by columns, each of many events at a time; of any other event by itself. Both give the
same.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from translog.bundle.entries import Hashes, Span
from translog.bundle.joining import Boxes, identities
from translog.bundle.leaves import Leaves, Read, Shape
from translog.bundle.manifest import COUNTED, Question
from translog.bundle.plain import Events
from translog.bundle.rows import cell, flag, is_plain
from translog.bundle.single import Said
from translog.canonical import Value
from translog.errors import BundleError

__all__ = ["Found", "Sums"]


@dataclass(slots=True)
class Found:
    """What a chunk shows. With an `error`, of its leaves or else of its lines, the rest may not be complete."""

    span: Span
    hashes: Hashes
    leaf_error: BundleError | None = None
    error: BundleError | None = None
    before: int = 0
    """Leaves that were logged before the period."""
    beyond: int | None = None
    """The first leaf that was logged at or after the period's end."""
    logged_at: bytes = b""
    """When its last leaf was logged."""
    exclusions: Counter[str] = field(default_factory=Counter[str])
    counted: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter[str]() for name in COUNTED})
    """Events, by each of `COUNTED`."""
    events: int = 0
    erased: int = 0
    late: int = 0
    occurred: Counter[str] = field(default_factory=Counter[str])
    tallies: list[tuple[int, dict[str, Value]]] = field(default_factory=list[tuple[int, dict[str, Value]]])
    boxes: Boxes = field(default_factory=Boxes)
    erased_by: set[int] = field(default_factory=set[int])
    """The erasures from the range's end on that lines refer to."""
    payload_lines: dict[str, int] = field(default_factory=dict[str, int])
    rows_are_right: bool = False
    """Whether its piece of `events.csv` is what its events give."""
    indexes: bytes = b""
    """Of a subset: its part of `proof/indexes.json`."""


class Sums:
    """Adds up the events of a chunk; `end` is that of the range. `rows` are theirs of `events.csv`."""

    def __init__(self, found: Found, question: Question, end: int) -> None:
        self._found, self._end = found, end
        self._since, self._until = question.since.encode(), question.until.encode()
        self._can_be_late, self._is_subset = question.basis != "logged", question.is_subset
        self._shapes: Counter[Shape] = Counter()
        self._states: Counter[bytes] = Counter()
        self._indexes: list[bytes] = []
        self.rows: list[bytes] = []

    def add(self, index: int, leaf: Read, said: Said, gone: int | None) -> None:
        """An event, with what its line says; `gone` is the erasure that its payload's line names."""
        (time, told), erased_by, state, entry = said
        is_erased = erased_by is not None
        self._count([leaf.shape], [state], [leaf.logged_at], [time])
        self._found.erased += is_erased
        self._found.erased_by |= {by for by in (erased_by, gone) if by is not None and by >= self._end}
        self._found.boxes.claim(identities([leaf.id])[0], index, entry, state, erased_by, gone)
        facts, number = leaf.shape.event, b"%d" % index
        start = b",".join((number, leaf.id, leaf.logged_at, cell(leaf.received_at), facts.origin))
        ends = facts.breached, state, facts.test, flag(is_erased)
        self.rows.append(start + told + b",%b,%b,%b,%b\r\n" % ends)
        self._indexes.append(number)

    def add_plain(self, indexes: Sequence[int], leaves: Leaves, events: Events) -> None:
        """Events of which none is erased, with the lines of each."""
        self._count(leaves.shape, events.state, leaves.logged_at, events.occurred_at)
        self._found.boxes.claim_plain(identities(leaves.id), indexes, events.state, events.entry)
        facts = [shape.event for shape in leaves.shape]
        received = [
            value if shape.own == b"received_at" else one.received
            for value, shape, one in zip(leaves.value, leaves.shape, facts, strict=True)
        ]
        texts: Sequence[Sequence[bytes]] = (
            *(events.item_type, events.item_id, events.account, events.operation, events.occurred_at),
            *(events.extent, events.amount, events.quantity, events.reason),
        )
        if not is_plain(b"," + b",".join(chain.from_iterable(texts)), len(texts) * len(facts)):
            texts = [[cell(text) for text in column] for column in texts]
        starts = events.stated, leaves.id, leaves.logged_at, received, [one.origin for one in facts]
        ends = [one.breached for one in facts], events.state, [one.test for one in facts], repeat(b"false\r\n")
        self.rows += map(b",".join, zip(*starts, *texts, *ends, strict=False))
        self._indexes += events.stated

    def when(self, time: bytes | None) -> str:
        """When something occurred, in relation to the period; an empty time is none."""
        if not time:
            return "undated"
        return "before" if time < self._since else "inside" if time < self._until else "after"

    def _count(
        self,
        shapes: Sequence[Shape],
        states: Sequence[bytes],
        logged: Sequence[bytes],
        occurred: Sequence[bytes | None],
    ) -> None:
        self._shapes.update(shapes)
        self._states.update(states)
        self._found.occurred.update(map(self.when, occurred))
        if self._can_be_late:
            self._found.late += sum(time >= self._until for time in logged)

    def finish(self) -> None:
        """Tell of all that was added."""
        found = self._found
        for shape, number in self._shapes.items():
            facts = shape.event
            found.events += number
            found.counted["by_provider"][facts.provider] += number
            found.counted["by_effect"][facts.effect or "none"] += number
            for code in facts.breaches:
                found.counted["by_breach"][code] += number
        for state, number in self._states.items():
            found.counted["by_cross_check"][state.decode() or "untold"] += number
        if self._is_subset:
            found.indexes = b",".join(self._indexes)
