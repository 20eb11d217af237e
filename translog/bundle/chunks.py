"""One chunk of a bundle: its leaves, the lines of its events and of their payloads, and all that is counted of them.

Chunks are independent of one another, so that several processes can check them. What a chunk alone cannot show comes
back with it in a few bytes: the hashes of its leaves, what they say of events elsewhere, and sums.

Most events are plain (`plain`), and right. So as many as were read are checked together, by columns. What that does not
show to be right is looked at by itself (`single`): that says what is wrong, if anything is.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from translog.bundle.archive import Archive, Member
from translog.bundle.choosing import Choosing, Chosen
from translog.bundle.entries import ENTRIES, Span, hashed, leaves, spans
from translog.bundle.joining import identities
from translog.bundle.leaves import Leaves, Reader
from translog.bundle.lines import Lines, Piece, cut, stated_index
from translog.bundle.manifest import Question
from translog.bundle.openings import AS_DELIVERY, AS_EVENT, commitments
from translog.bundle.plain import EVENT, PAYLOAD, Events, Parts, Payloads
from translog.bundle.rows import HEADER, index_of
from translog.bundle.single import check_event, check_payload
from translog.bundle.sums import Found, Sums
from translog.checkpoint import Checkpoint
from translog.errors import BundleError, FormatError

__all__ = ["CSV", "EVENTS", "PAYLOADS", "Chunk", "Context", "check", "cut_up", "written"]

EVENTS, CSV = "events.jsonl", "events.csv"
PAYLOADS = "payloads/{:06d}.jsonl"


class Context(NamedTuple):
    """What is asked everywhere: the question, the period's first leaf, the end of the range, and the signed tree."""

    question: Question
    first: int
    end: int
    checkpoint: Checkpoint


class Chunk(NamedTuple):
    """A chunk's leaves, and where the lines about them are, and the rows, if these are where they seem to be."""

    span: Span
    lines: Piece
    payloads: tuple[Piece, ...]
    rows: Piece


def cut_up(archive: Archive, start: int, end: int, payloads: Sequence[Member]) -> list[Chunk]:
    """The leaves [start, end) in chunks, each with what is about them in `events.jsonl`, `payloads` and `events.csv`.

    Raises `BundleError` if `entries.bin` is not of so many leaves.
    """
    each, csv = spans(archive, archive.member(ENTRIES), start, end), archive.member(CSV)
    edges = [span.first for span in each[1:]]
    header = min(len(HEADER), csv.size)
    rows = cut(archive, csv._replace(start=csv.start + header, size=csv.size - header), edges, index_of)
    lines = cut(archive, archive.member(EVENTS), edges)
    of_each = [cut(archive, member, edges) for member in payloads]
    return [
        Chunk(span, piece, tuple(one[at] for one in of_each if one[at].start < one[at].end), rows[at])
        for at, (span, piece) in enumerate(zip(each, lines, strict=True))
    ]


def check(archive: Archive, context: Context, chunk: Chunk, reader: Reader) -> Found:
    """Check a chunk. What is wrong with it is given, not raised, unless it cannot be read at all."""
    return _Checking(archive, context, chunk, reader).run()


def written(archive: Archive, context: Context, chunk: Chunk) -> list[tuple[int, bytes]]:
    """The rows of `events.csv` that a chunk without fault gives, each with the index of its event."""
    checking = _Checking(archive, context, chunk, Reader())
    checking.run()
    return [(int(row[: row.index(b",")]), row) for row in checking.sums.rows]


class _Checking:
    """The steps of checking one chunk."""

    def __init__(self, archive: Archive, context: Context, chunk: Chunk, reader: Reader) -> None:
        self.archive, self.context, self.chunk, self.reader = archive, context, chunk, reader
        self.entries = leaves(archive, chunk.span)
        self.found = Found(chunk.span, hashed(chunk.span, self.entries))
        self.sums = Sums(self.found, context.question, context.end)
        self.lines = Lines(archive, [chunk.lines], EVENTS, EVENT.findall)
        self.payloads = Lines(archive, chunk.payloads, PAYLOADS.format(0), PAYLOAD.findall)

    def run(self) -> Found:
        """All of it."""
        found, question = self.found, self.context.question
        choosing = Choosing(found, question, self.context.first)
        try:
            chosen = choosing.choose(self.reader.read_all(self.entries), self._logged_before())
        except BundleError as error:
            found.leaf_error = error
            return found
        try:
            self._read_lines(self._told_of(chosen) if question.basis == "occurred" else chosen)
        except BundleError as error:
            found.error = error
            return found
        self.sums.finish()
        found.rows_are_right = self._are_rows_right()
        return found

    def _logged_before(self) -> bytes:
        """When the leaf before the chunk was logged; nothing if there is none that says so."""
        start, end = self.chunk.span.before
        try:
            return self.reader.read(self.archive.piece(start, end)[2:]).logged_at
        except FormatError:
            return b""

    def _told_of(self, chosen: Chosen) -> Chosen:
        """Those of the events that lines state, up to the first line that states none of them; others are counted.

        Only openings tell when an event occurred. The lines are read once more for it.
        """
        stated = self._stated()
        of_line, told = next(stated, None), list[bool]()
        for index, id_ in zip(chosen.indexes, identities(chosen.leaves.id), strict=True):
            told.append(index == of_line)
            if index == of_line:
                of_line = next(stated, None)
            else:
                self.found.exclusions["outside"] += 1
                self.found.boxes.leave_out(id_, index)
        return chosen.these(told)

    def _stated(self) -> Iterator[int | None]:
        """The indexes that lines state, up to one that cannot be read: whoever comes to check it says so."""
        lines = Lines(self.archive, [self.chunk.lines], EVENTS, EVENT.findall)
        while some := lines.ahead():
            lines.take(len(some))
            each = Events.of(some)
            yield from map(int, each.stated) if each.are_plain else map(_stated, some)

    def _read_lines(self, chosen: Chosen) -> None:
        """Compare the lines with the events that there must be, and count these."""
        lines, payloads, at = self.lines, self.payloads, 0
        while True:
            each, of_each = lines.ahead(), payloads.ahead()
            number = min(len(each), len(of_each), len(chosen.indexes) - at)
            if not number:
                break
            self._check(chosen.part(at, at + number), each[:number], of_each[:number])
            at += number
        if at < len(chosen.indexes):  # a line is missing, or cannot be read
            self._check_next(chosen.part(at, at + 1))
        if (line := lines.next()) is not None:
            raise BundleError(lines.place(_stated(line)), "it is of no event that is to be in the bundle")
        if (extra := payloads.next()) is not None:
            raise BundleError(payloads.place(_stated(extra)), "it is of no event that is in the bundle")
        self.found.payload_lines = payloads.counted

    def _check(self, chosen: Chosen, lines: Sequence[Parts], payloads: Sequence[Parts]) -> None:
        """Check events with their lines: all together, or else those that follow one another with plain lines."""
        if self._are_right(chosen, lines, payloads):
            return
        pairs = zip(lines, payloads, strict=True)
        plain = [Events.of([line]).are_plain and Payloads.of([payload]).are_plain for line, payload in pairs]
        start = 0
        for are_plain, alike in groupby(plain):
            end = start + len([*alike])
            some = chosen.part(start, end)
            if not are_plain or not self._are_right(some, lines[start:end], payloads[start:end]):
                for at in range(end - start):
                    self._check_next(some.part(at, at + 1))
            start = end

    def _are_right(self, chosen: Chosen, lines: Sequence[Parts], payloads: Sequence[Parts]) -> bool:
        """Whether the lines that come next are plain, and as they must be; if so, they are taken and counted."""
        (indexes, leaves), events = chosen, Events.of(lines)
        numbers = tuple([b"%d" % index for index in indexes])
        if (
            events.stated != numbers
            or [*events.leaf] != leaves.data
            or not events.are_plain
            or commitments(events.salt, AS_EVENT, events.data) != b"".join(leaves.event)
            or not self._are_inside(events.occurred_at)
            or not _are_shown(numbers, leaves, payloads)
        ):
            return False
        self.lines.take(len(indexes))
        self.payloads.take(len(indexes))
        self.sums.add_plain(indexes, leaves, events)
        return True

    def _are_inside(self, times: Iterable[bytes | None]) -> bool:
        """Whether events that occurred at these times are all in the period, if that is what was asked for."""
        return self.context.question.basis != "occurred" or {*map(self.sums.when, times)} == {"inside"}

    def _check_next(self, chosen: Chosen) -> None:
        """Check one event with the two lines that come next, and count it."""
        lines, payloads, index, leaf = self.lines, self.payloads, chosen.indexes[0], chosen.leaves.one(0)
        line = lines.next()
        if line is None:
            raise BundleError(lines.place(index, after=True), "there is no line of this event: it was left out")
        try:
            said = check_event(index, leaf, line[0])
            if said.erased_by is None and not self._are_inside([said.told[0]]):
                raise FormatError("it did not occur in the period")
        except FormatError as error:
            raise BundleError(lines.place(index), str(error)) from None
        payload = payloads.next()
        if payload is None:
            raise BundleError(payloads.place(index, after=True), "there is no line of this event")
        try:
            is_shown = _are_shown((b"%d" % index,), chosen.leaves, [payload])
            gone = None if is_shown else check_payload(index, leaf, payload[0])
        except FormatError as error:
            raise BundleError(payloads.place(index), str(error)) from None
        self.sums.add(index, leaf, said, gone)

    def _are_rows_right(self) -> bool:
        """Whether the rows that the events give are those in the chunk's piece of `events.csv`."""
        rows, piece = b"".join(self.sums.rows), self.chunk.rows
        return piece.end - piece.start == len(rows) and self.archive.piece(piece.start, piece.end) == rows


def _are_shown(numbers: tuple[bytes, ...], leaves: Leaves, lines: Sequence[Parts]) -> bool:
    """Whether these are plain lines of the payloads of events of these indexes, as they must be."""
    payloads = Payloads.of(lines)
    return (
        payloads.stated == numbers
        and payloads.are_plain
        and commitments(payloads.salt, AS_DELIVERY, payloads.delivery) == b"".join(leaves.delivery)
    )


def _stated(line: Parts) -> int | None:
    """The index that a line states, if it does."""
    return stated_index(line[0])
