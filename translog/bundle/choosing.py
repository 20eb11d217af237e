"""The leaves of a chunk: what they show by themselves, and which of them are to be events of the bundle.

Leaves that follow one another are mostly alike (`Shape`), and logged at the same time. So what depends on that alone is
found out once for a run of them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import compress, groupby
from operator import gt
from typing import NamedTuple

from translog.bundle.entries import ENTRIES
from translog.bundle.joining import statements
from translog.bundle.leaves import Leaves, Shape, joined
from translog.bundle.manifest import Question
from translog.bundle.sums import Found
from translog.errors import BundleError, FormatError

__all__ = ["Choosing", "Chosen"]

_SAYING = frozenset({b"cross_check", b"erasure"})
_EXCLUDED = {b"quarantine": "quarantined", b"mismatch": "mismatches"}


class Chosen(NamedTuple):
    """Events that are to be in the bundle: their indexes, and their leaves."""

    indexes: Sequence[int]
    leaves: Leaves

    def part(self, start: int, end: int) -> "Chosen":
        """Those from `start` up to `end` of them."""
        return Chosen(self.indexes[start:end], self.leaves.part(start, end))

    def these(self, which: Sequence[bool]) -> "Chosen":
        """Those for which that is true."""
        return Chosen([*compress(self.indexes, which)], self.leaves.these(which))


class Choosing:
    """Reads leaves, and adds what they show to `found`; `first` is the period's first leaf."""

    def __init__(self, found: Found, question: Question, first: int) -> None:
        self._found, self._question, self._first = found, question, first
        self._since, self._until = question.since.encode(), question.until.encode()
        self._reasons: dict[Shape, str | None] = {}
        self._indexes: list[int] = []
        self._parts: list[Leaves] = []

    def choose(self, leaves: Iterable[Leaves], last: bytes) -> Chosen:
        """The events among the leaves of the chunk, the one before which was logged at `last`.

        On the basis `occurred`, those that can be. Raises `BundleError` for the first leaf that cannot be there.
        """
        found, at = self._found, self._found.span.first
        try:
            for some in leaves:
                rising = _rising(last, some.logged_at)
                times, start = some.logged_at[:rising], 0
                found.before += bisect_left(times, self._since)
                if found.beyond is None and (inside := bisect_left(times, self._until)) < rising:
                    found.beyond = at + inside
                for _, alike in groupby(some.shape[:rising]):
                    end = start + len([*alike])
                    self._add(at + start, some.part(start, end))
                    start = end
                at += rising
                if rising < len(some.data):
                    time = some.logged_at[rising].decode()
                    raise FormatError(f"it was logged at {time}, before the entry that it follows")
                last = times[-1]
        except FormatError as error:
            raise _wrong(at, error) from None
        found.logged_at = last
        return Chosen(self._indexes, joined(self._parts))

    def _add(self, index: int, leaves: Leaves) -> None:
        """Leaves of one shape, the first of them at that index."""
        shape, number = leaves.shape[0], len(leaves.shape)
        if shape.kind in _SAYING:
            for at in range(number):
                try:
                    said = statements(leaves.one(at), index + at)
                except FormatError as error:
                    raise _wrong(index + at, error) from None
                for statement in said:
                    self._found.boxes.state(statement)
        elif shape.kind == b"tally":
            self._found.tallies += [(index + at, leaves.one(at).facts) for at in range(number)]
        elif index + number > self._first:
            before = max(0, self._first - index)
            try:
                self._add_events(index + before, leaves.part(before, number))
            except FormatError as error:
                raise _wrong(index + before, error) from None

    def _add_events(self, index: int, leaves: Leaves) -> None:
        """Leaves of one shape from the period's first on, which may be events."""
        shape, basis = leaves.shape[0], self._question.basis
        if shape not in self._reasons:
            self._reasons[shape] = self._reason(shape)
        reason = self._reasons[shape]
        if reason == "":
            return
        if reason is None and basis != "occurred":
            times = leaves.logged_at if basis == "logged" else leaves.received_at
            inside = [time is not None and self._since <= time < self._until for time in times]
        else:
            inside = [reason is None] * len(leaves.shape)
        chosen = Chosen(range(index, index + len(inside)), leaves)
        if not all(inside):
            chosen = chosen.these(inside)
            others = leaves.these([not one for one in inside]).logged_at
            counted = [time for time in others if basis != "logged" or time < self._until]
            self._found.exclusions[reason or "outside"] += len(counted)
        self._indexes += chosen.indexes
        self._parts.append(chosen.leaves)

    def _reason(self, shape: Shape) -> str | None:
        """Why leaves are not among the events, whenever they were, empty if they are none; None if they may be."""
        if shape.kind in _EXCLUDED:
            return _EXCLUDED[shape.kind]
        if not shape.is_event:
            return ""
        facts, providers = shape.event, self._question.providers
        if facts.is_test and not self._question.tests:
            return "tests"
        return "other_providers" if providers is not None and facts.provider not in providers else None


def _rising(last: bytes, times: Sequence[bytes]) -> int:
    """Of how many of these times none is before the one that it follows, the first of which follows `last`."""
    falls = [*map(gt, (last, *times), times)]
    return falls.index(True) if True in falls else len(times)


def _wrong(index: int, error: FormatError) -> BundleError:
    return BundleError(f"{ENTRIES} entry {index}", str(error))
