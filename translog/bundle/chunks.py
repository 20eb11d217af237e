"""One chunk of a bundle: its leaves, the lines of its events and of their payloads, and all that is counted of them.

Chunks are independent of one another, so that several processes can check them. What a chunk alone cannot show comes
back with it in a few bytes: the hashes of its leaves, what they say of events elsewhere, sums, and how long its part of
`events.csv` is and what its SHA-256 must be.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import tee, zip_longest
from typing import NamedTuple, TypeAlias

from translog.bundle import rows
from translog.bundle.archive import Archive
from translog.bundle.entries import ENTRIES, Hashes, Span, hashed, leaves
from translog.bundle.joining import STATES, Boxes, statements
from translog.bundle.leaves import EventFacts, Read, Reader, Shape
from translog.bundle.lines import Lines, Piece, stated_index
from translog.bundle.manifest import COUNTED, Question
from translog.bundle.openings import AS_DELIVERY, AS_EVENT, NOTHING, Told, check_delivery, committed, read_event
from translog.bundle.plain import EVENT, NUMBER, PAYLOAD, SALT, STANDS, Parts, deliver, delivery_of, line_of, tell
from translog.canonical import Value
from translog.checkpoint import Checkpoint
from translog.errors import BundleError, FormatError

__all__ = ["EVENTS", "PAYLOADS", "Chunk", "Context", "Found", "check", "written"]

EVENTS = "events.jsonl"
PAYLOADS = "payloads/{:06d}.jsonl"

_END = re.compile(rb',"salt":"(%b)",%b' % (SALT, STANDS))
_ERASED = re.compile(
    rb'\{"erased":true,"erased_by":(%b),"event":null,"index":(%b),"leaf":(\{.*\}),"salt":null,%b'
    % (NUMBER, NUMBER, STANDS),
    re.DOTALL,
)
_SHOWN, _DELIVERY = b'{"erased":false,"erased_by":null,"event":', b'{"delivery":'
_PAYLOAD_END = re.compile(rb'"(%b)"\}' % SALT)
_TOMBSTONE = re.compile(rb'\{"delivery":null,"erased_by":(%b),"index":(%b),"salt":null\}' % (NUMBER, NUMBER))

_SAYING = frozenset({b"cross_check", b"erasure"})
_EXCLUDED = {b"quarantine": "quarantined", b"mismatch": "mismatches"}
_UNTOLD = None, None


class Context(NamedTuple):
    """What is asked everywhere: the question, the period's first leaf, the end of the range, and the signed tree."""

    question: Question
    first: int
    end: int
    checkpoint: Checkpoint


class Chunk(NamedTuple):
    """A chunk's leaves, and where the lines about them are."""

    span: Span
    lines: Piece
    payloads: tuple[Piece, ...]


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
    csv: tuple[int, bytes] = (0, b"")
    """Length and SHA-256 of its part of `events.csv`."""
    indexes: bytes = b""
    """Of a subset: its part of `proof/indexes.json`."""


def check(archive: Archive, context: Context, chunk: Chunk, reader: Reader) -> Found:
    """Check a chunk. What is wrong with it is given, not raised, unless it cannot be read at all."""
    return _Checking(archive, context, chunk, reader).run()


def written(archive: Archive, context: Context, chunk: Chunk) -> list[tuple[int, bytes]]:
    """The rows of `events.csv` that a chunk without fault gives, each with the index of its event."""
    checking = _Checking(archive, context, chunk, Reader())
    checking.run()
    return [(int(row[: row.index(b",")]), row) for row in checking.rows]


_Stands: TypeAlias = tuple[bytes | None, int | None]
"""The state of an event's cross-check, and the entry that says so."""

_Line: TypeAlias = tuple[Told, int | None, _Stands]
"""What an event's own line says besides its leaf: what it tells, by which entry it was erased, how it stands.

For every event there is one of each, so they are plain tuples, which are made ten times as fast as any other.
"""


class _Checking:
    """The steps of checking one chunk."""

    def __init__(self, archive: Archive, context: Context, chunk: Chunk, reader: Reader) -> None:
        self.archive, self.chunk, self.reader = archive, chunk, reader
        self.question, self.first, self.end, _ = context
        self.since, self.until = self.question.since.encode(), self.question.until.encode()
        self.entries = leaves(archive, chunk.span)
        self.found = Found(chunk.span, hashed(chunk.span, self.entries))
        self.can_be_late = self.question.basis != "logged"
        self.counted: Counter[tuple[Shape, bytes | None, bool, bool, str]] = Counter()
        self.rows: list[bytes] = []
        self.unwanted: dict[Shape, str | None] = {}

    def run(self) -> Found:
        """All of it."""
        found = self.found
        try:
            wanted = list(self._read_leaves())
        except BundleError as error:
            found.leaf_error = error
            return found
        try:
            self._read_lines(wanted)
        except BundleError as error:
            found.error = error
            return found
        self._sum_up()
        return found

    # ---- leaves -----------------------------------------------------------------------------------------------------

    def _read_leaves(self) -> Iterator[tuple[int, Read]]:
        """The leaves that are events of the bundle; on the basis `occurred`, those that can be."""
        found, first, since, until, read = self.found, self.first, self.since, self.until, self.reader.read
        last = self._logged_before()
        index = start = self.chunk.span.first
        try:
            for index, data in enumerate(self.entries, start):
                leaf = read(data)
                kind, logged_at = leaf.kind, leaf.logged_at
                if logged_at < last:
                    raise FormatError(f"it was logged at {logged_at.decode()}, before the entry that it follows")
                last = logged_at
                if logged_at < since:
                    found.before += 1
                elif logged_at >= until and found.beyond is None:
                    found.beyond = index
                if kind in _SAYING:
                    for statement in statements(leaf, index):
                        found.boxes.state(statement)
                elif kind == b"tally":
                    found.tallies.append((index, leaf.facts))
                elif index >= first:
                    reason = self._reason(kind, leaf)
                    if reason is None:
                        yield index, leaf
                    elif reason and (self.can_be_late or logged_at < until):
                        found.exclusions[reason] += 1
        except FormatError as error:
            raise BundleError(f"{ENTRIES} entry {index}", str(error)) from None
        found.logged_at = last

    def _logged_before(self) -> bytes:
        """When the leaf before the chunk was logged; nothing if there is none that says so."""
        start, end = self.chunk.span.before
        try:
            return self.reader.read(self.archive.piece(start, end)[2:]).logged_at
        except FormatError:
            return b""

    def _reason(self, kind: bytes, leaf: Read) -> str | None:
        """Why a leaf is not among the events, empty if it is none; None if it is, or on the basis `occurred` can be."""
        if kind in _EXCLUDED:
            return _EXCLUDED[kind]
        if not leaf.is_event:
            return ""
        if leaf.shape not in self.unwanted:
            self.unwanted[leaf.shape] = self._unwanted(leaf.shape.event)
        reason, basis = self.unwanted[leaf.shape], self.question.basis
        if reason is not None or basis == "occurred":
            return reason
        time = leaf.logged_at if basis == "logged" else leaf.received_at
        return None if time is not None and self.since <= time < self.until else "outside"

    def _unwanted(self, facts: EventFacts) -> str | None:
        """Why no event with these facts is in the bundle, whenever it was; None if it may be."""
        if facts.is_test and not self.question.tests:
            return "tests"
        providers = self.question.providers
        return "other_providers" if providers is not None and facts.provider not in providers else None

    # ---- lines ------------------------------------------------------------------------------------------------------

    def _read_lines(self, wanted: list[tuple[int, Read]]) -> None:
        """Compare the lines with the events that there must be, and count these."""
        chunk, found = self.chunk, self.found
        lines = Lines(self.archive, [chunk.lines], EVENTS, EVENT)
        payloads = Lines(self.archive, chunk.payloads, PAYLOADS.format(0), PAYLOAD)
        each_payload, numbers = iter(payloads), list[bytes]()
        for expected, line in self._paired(wanted, lines):
            if expected is None:
                raise BundleError(lines.place(_index(line)), "it is of no event that is to be in the bundle")
            index, leaf = expected
            if line is None:
                raise BundleError(lines.place(index, after=True), "there is no line of this event: it was left out")
            try:
                said = self._event(index, leaf, line)
            except FormatError as error:
                raise BundleError(lines.place(index), str(error)) from None
            payload = next(each_payload, None)
            if payload is None:
                raise BundleError(payloads.place(index, after=True), "there is no line of this event")
            try:
                gone = self._payload(index, leaf, payload)
            except FormatError as error:
                raise BundleError(payloads.place(index), str(error)) from None
            self._count(index, leaf, said, gone)
            numbers.append(b"%d" % index)
        if (extra := next(each_payload, None)) is not None:
            raise BundleError(payloads.place(_index(extra)), "it is of no event that is in the bundle")
        found.payload_lines = payloads.counted
        if self.question.is_subset:
            found.indexes = b",".join(numbers)

    def _paired(
        self, wanted: list[tuple[int, Read]], lines: Lines
    ) -> Iterator[tuple[tuple[int, Read] | None, bytes | Parts | None]]:
        """Each event with its line. On the basis `occurred` some may have none: only openings tell when it was."""
        if self.question.basis != "occurred":
            return zip_longest(wanted, lines)
        each, others = tee(lines)
        return zip_longest(self._told_of(wanted, map(_index, others)), each)

    def _told_of(self, wanted: list[tuple[int, Read]], stated: Iterator[int | None]) -> Iterator[tuple[int, Read]]:
        """Those of the events that lines state, up to the first line that states none of them; others are counted."""
        of_line = next(stated, None)
        for index, leaf in wanted:
            if index == of_line:
                yield index, leaf
                of_line = next(stated, None)
            else:
                self.found.exclusions["outside"] += 1
                self.found.boxes.leave_out(_identity(leaf), index)

    def _event(self, index: int, leaf: Read, line: bytes | Parts) -> _Line:
        """What the line says, if it is that of the event. Raises `FormatError` if it is not."""
        if isinstance(line, tuple):
            data, *_, stated, its_leaf, salt, state, entry = line
            if its_leaf == leaf.data and stated == b"%d" % index and (told := tell(line)) is not None:
                return self._opened(leaf, data, salt, told), None, _stands(state, entry)
            line = line_of(line)
        if line.startswith(_SHOWN):
            middle = b',"index":%d,"leaf":%b' % (index, leaf.data)
            at = line.rfind(middle)
            match = _END.fullmatch(line, at + len(middle)) if at >= 0 else None
            if match is not None:
                salt, state, entry = match.groups(b"")
                return self._opened(leaf, line[len(_SHOWN) : at], salt, None), None, _stands(state, entry)
        elif match := _ERASED.fullmatch(line):
            by, stated, its_leaf, state, entry = match.groups(b"")
            if stated == b"%d" % index and its_leaf == leaf.data:
                return NOTHING, int(by), _stands(state, entry)
        raise FormatError(_difference(line, index, leaf.data))

    def _opened(self, leaf: Read, data: bytes, salt: bytes, told: Told | None) -> Told:
        """What an event tells that the leaf commits to, once it was read; `told` if it was before."""
        if committed(salt, AS_EVENT, data) != leaf.event:
            raise FormatError("the event and the salt do not give the commitment in the leaf: it was changed")
        told = told or read_event(data)
        if self.question.basis == "occurred":
            self._check_inside(told)
        return told

    def _check_inside(self, told: Told) -> None:
        if told[0] is None or not self.since <= told[0] < self.until:
            raise FormatError("it did not occur in the period")

    def _payload(self, index: int, leaf: Read, line: bytes | Parts) -> int | None:
        """The erasure that a payload's line names, None if it is shown. Raises `FormatError` if it is not the line."""
        if isinstance(line, tuple):
            body, headers, stated, salt = line
            if stated == b"%d" % index and deliver(body, headers):
                self._check_committed(leaf, delivery_of(body, headers), salt)
                return None
            line = line_of(line)
        if line.startswith(_DELIVERY):
            middle = b',"erased_by":null,"index":%d,"salt":' % index
            at = line.rfind(middle)
            match = _PAYLOAD_END.fullmatch(line, at + len(middle)) if at >= 0 else None
            if match is not None:
                data = line[len(_DELIVERY) : at]
                self._check_committed(leaf, data, match[1])
                check_delivery(data)
                return None
        match = _TOMBSTONE.fullmatch(line)
        if match is not None and match[2] == b"%d" % index:
            return int(match[1])
        raise FormatError(_difference(line, index, None))

    def _check_committed(self, leaf: Read, data: bytes, salt: bytes) -> None:
        if committed(salt, AS_DELIVERY, data) != leaf.delivery:
            raise FormatError("the body, headers and salt do not give the commitment in the leaf: they were changed")

    # ---- sums -------------------------------------------------------------------------------------------------------

    def _count(self, index: int, leaf: Read, said: _Line, gone: int | None) -> None:
        found, facts = self.found, leaf.shape.event
        (time, told), erased_by, (state, entry) = said
        when = "undated"
        if time is not None:
            when = "before" if time < self.since else "inside" if time < self.until else "after"
        is_erased = erased_by is not None
        self.counted[leaf.shape, state, is_erased, self.can_be_late and leaf.logged_at >= self.until, when] += 1
        if is_erased or gone is not None:
            found.erased_by |= {by for by in (erased_by, gone) if by is not None and by >= self.end}
        found.boxes.claim(_identity(leaf), index, entry, state, erased_by, gone)
        received_at = leaf.value if leaf.own == b"received_at" else rows.cell(facts.received_at)
        leaf_cells = b"%d,%b,%b,%b,%b" % (index, leaf.id, leaf.logged_at, received_at, leaf.kind)
        ends = facts.breached, state or b"", facts.test, b"true" if is_erased else b"false"
        self.rows.append(leaf_cells + facts.origin + told + b",%b,%b,%b,%b\r\n" % ends)

    def _sum_up(self) -> None:
        found = self.found
        for (shape, state, is_erased, is_late, when), number in self.counted.items():
            facts = shape.event
            found.events += number
            found.erased += number * is_erased
            found.late += number * is_late
            found.occurred[when] += number
            found.counted["by_provider"][facts.provider] += number
            found.counted["by_effect"][facts.effect or "none"] += number
            found.counted["by_cross_check"]["untold" if state is None else state.decode()] += number
            for code in facts.breaches:
                found.counted["by_breach"][code] += number
        data = b"".join(self.rows)
        found.csv = len(data), hashlib.sha256(data).digest()


def _identity(leaf: Read) -> bytes:
    return bytes.fromhex(leaf.id.replace(b"-", b"").decode())


def _stands(state: bytes, entry: bytes) -> _Stands:
    if not state and not entry:
        return _UNTOLD
    if state not in STATES or not entry:
        raise FormatError("how it stands is not said as in a bundle")
    return state, int(entry)


def _index(line: bytes | Parts | None) -> int | None:
    """The index that a line states, if it does."""
    return stated_index(line_of(line) if isinstance(line, tuple) else line or b"")


def _difference(line: bytes, index: int, leaf: bytes | None) -> str:
    """What is wrong with a line that is not the one of the entry at that index."""
    stated = _index(line)
    if stated is None:
        return "it is no JSON object with an index"
    if stated != index:
        return f"here belongs the event of entry {index}, and there is entry {stated}: left out, added or swapped"
    if leaf is not None and leaf not in line:
        return f"its leaf is not entry {index} of {ENTRIES}"
    return "it is not the one line that there can be of this event: another spelling, or other members"
