"""The lines of a bundle's large files: found by the index that they state, and read one after another.

Lines rise by their index. So the piece of a file with the lines of some entries is found by halving, without reading
what is before it. What is found is not believed: whoever reads the pieces checks that they hold the lines they should,
and together they are the whole file, so that no line is in none.
"""

import json
import re
from collections.abc import Iterator, Sequence
from operator import length_hint
from typing import NamedTuple

from translog.bundle.archive import BLOCK, Archive, Member
from translog.bundle.plain import Parts, line_of
from translog.errors import BundleError

__all__ = ["MAX_LINE", "Lines", "Piece", "cut", "parted", "place_of", "stated_index"]

MAX_LINE = 1 << 24
"""Bytes of a line, the most that are read."""

_GLANCE = 1 << 13
_BLOCK = 1 << 16


class Piece(NamedTuple):
    """Whole lines of a member: the bytes [start, end) of the archive's file."""

    member: Member
    start: int
    end: int


class Lines:
    """Reads the lines of some pieces of files, and knows where it is. `name` is a file's that has the first line.

    With a `pattern`, which matches a line with its newline from end to end, lines are taken apart by it.
    """

    def __init__(
        self, archive: Archive, pieces: Sequence[Piece], name: str, pattern: re.Pattern[bytes] | None = None
    ) -> None:
        self._archive = archive
        self._pieces = pieces
        self._name = name
        self._pattern = pattern
        self._read = [0]  # of each piece up to the one that is read now, lines taken from the file
        self._waiting: Iterator[bytes | Parts] = iter(())  # those of them that were not given yet
        self._before: dict[int, int] = {}  # lines before a piece in its file, once that is asked

    def __iter__(self) -> Iterator[bytes | Parts]:
        """Each line without its newline, or its parts, if it and those around it match the pattern and are ASCII."""
        for number, piece in enumerate(self._pieces):
            if number:
                self._read.append(0)
            rest = b""
            for start in range(piece.start, piece.end, _BLOCK):
                block = rest + self._archive.piece(start, min(start + _BLOCK, piece.end))
                end = block.rfind(b"\n") + 1
                whole, rest = block[:end], block[end:]
                lines = self._taken_apart(whole)
                self._read[-1] += len(lines)
                self._waiting = iter(lines)
                yield from self._waiting
                if len(rest) > MAX_LINE:
                    raise BundleError(self.place(after=True), f"a line of more than {MAX_LINE} bytes")
            if rest:
                raise BundleError(self.place(after=True), "the line does not end in a newline")

    def whole(self) -> Iterator[bytes]:
        """Each line, without its newline."""
        return (line_of(line) if isinstance(line, tuple) else line for line in self)

    def _taken_apart(self, block: bytes) -> Sequence[bytes | Parts]:
        if self._pattern is not None and block.isascii():
            found: list[Parts] = self._pattern.findall(block)
            if len(found) == block.count(b"\n"):  # each begins a line and ends one: so there is nothing besides
                return found
        return block.split(b"\n")[:-1]

    def place(self, index: int | None = None, *, after: bool = False) -> str:
        """Where the line is that was read last, or the one after it; of the entry at that index."""
        name, before = self._name, 0
        if self._pieces:
            piece = len(self._read) - 1
            member, start, _ = self._pieces[piece]
            if piece not in self._before:
                self._before[piece] = _newlines(self._archive, member.start, start)
            name, before = member.name, self._before[piece]
        entry = "" if index is None else f" (entry {index})"
        return f"{name} line {before + self._read[-1] - length_hint(self._waiting) + after}{entry}"

    @property
    def counted(self) -> dict[str, int]:
        """How many lines of each file were read, once all were."""
        return {piece.member.name: number for piece, number in zip(self._pieces, self._read, strict=False)}


def cut(archive: Archive, member: Member, indexes: Sequence[int]) -> list[Piece]:
    """Cut a member into pieces: the first has the lines of indexes below `indexes[0]`, the last those from its last on.

    One piece more than there are indexes, which rise. Raises `BundleError` for a line of more than `MAX_LINE` bytes.
    """
    edges = [at := member.start]
    stated = None  # by the line that begins there; the files of payloads are many, and most edges are in one other
    for index in indexes:
        if stated is None:
            stated = _order(archive.piece(at, _end_of_line(archive, member, at, member.end)))
        if stated < index and at < member.end:
            at, stated = _find(archive, at, member, index), None
        edges.append(at)
    return [Piece(member, start, end) for start, end in zip(edges, [*edges[1:], member.end], strict=True)]


def parted(archive: Archive, member: Member, size: int) -> list[Piece]:
    """Cut a member into pieces of about `size` bytes. Raises `BundleError` for a line of more than `MAX_LINE` bytes."""
    pieces: list[Piece] = []
    start = member.start
    while start < member.end:
        end = _end_of_line(archive, member, min(start + size, member.end), member.end)
        pieces.append(Piece(member, start, end))
        start = end
    return pieces


def place_of(archive: Archive, members: Sequence[Member], index: int) -> str:
    """Where the line of the entry at that index is, among the lines of some members that follow one another."""
    for member in members:
        at = _find(archive, member.start, member, index)
        line = archive.piece(at, _end_of_line(archive, member, at, member.end))
        if stated_index(line) == index:
            return f"{member.name} line {_newlines(archive, member.start, at) + 1} (entry {index})"
    return f"{members[0].name} (entry {index})"


def _find(archive: Archive, low: int, member: Member, index: int) -> int:
    """The place from `low` on of the first line of that index or above, or of the member's end."""
    high = member.end
    while low < high:
        middle = _end_of_line(archive, member, (low + high) // 2, high)
        start = low if middle >= high else middle
        end = _end_of_line(archive, member, start, high)
        if _order(archive.piece(start, end)) < index:
            low = end
        else:
            high = start
    return low


def _end_of_line(archive: Archive, member: Member, start: int, limit: int) -> int:
    """The place after the first newline from `start` on; `limit` if there is none before."""
    at, size = start, _GLANCE
    while at < limit:
        found = archive.piece(at, min(at + size, limit)).find(b"\n")
        if found >= 0:
            return at + found + 1
        at, size = at + size, BLOCK
        if at - start > MAX_LINE:
            raise BundleError(member.name, f"a line of more than {MAX_LINE} bytes")
    return limit


def _newlines(archive: Archive, start: int, end: int) -> int:
    return sum(block.count(b"\n") for block in archive.blocks(start, end))


def stated_index(line: bytes) -> int | None:
    """The index that a line states, if it is a JSON object that does: an integer, and not what could be made one."""
    try:
        found: object = json.loads(line)["index"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _order(line: bytes) -> int:
    """The index that a line states; below all others if it states none."""
    stated = stated_index(line)
    return -1 if stated is None else stated
