"""The lines of a bundle's large files: found by the index that they state, and read one after another.

Lines rise by their index. So the piece of a file with the lines of some entries is found by halving, without reading
what is before it. What is found is not believed: whoever reads the pieces checks that they hold the lines they should,
and together they are the whole file, so that no line is in none.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from translog.bundle.archive import BLOCK, Archive, Member
from translog.errors import BundleError

__all__ = ["MAX_LINE", "Lines", "Piece", "cut", "lines_of", "parted", "place_of", "stated_index"]

MAX_LINE = 1 << 24
"""Bytes of a line, the most that are read."""

_GLANCE = 1 << 13
_BLOCK = 1 << 18

_Line = TypeVar("_Line")
IndexOf: TypeAlias = Callable[[bytes], int | None]
"""Gives the index that a line states, if it does."""

_Reading: TypeAlias = Callable[[bytes, int, int], list[_Line]]


class Piece(NamedTuple):
    """Whole lines of a member: the bytes [start, end) of the archive's file."""

    member: Member
    start: int
    end: int


class Lines(Generic[_Line]):
    """Reads the lines of some pieces of files, and knows where it is. `name` is a file's that has the first line.

    `read` makes of whole lines, which are a piece of a block, what each of them is to be given as.
    """

    def __init__(self, archive: Archive, pieces: Sequence[Piece], name: str, read: _Reading[_Line]) -> None:
        self._archive = archive
        self._pieces = pieces
        self._name = name
        self._blocks = self._read(read)
        self._ahead: list[_Line] = []
        self._at = 0  # in these, of the one that comes next
        self._taken = [0]  # of each piece up to the one that is read now
        self._before: dict[int, int] = {}  # lines before a piece in its file, once that is asked

    def ahead(self) -> list[_Line]:
        """Lines that come next, as far as they were read: none only at the end, or where a line cannot be read."""
        self._read_on()
        return self._ahead[self._at :]

    def take(self, number: int = 1) -> None:
        """Leave so many of these behind."""
        self._at += number
        self._taken[-1] += number

    def next(self) -> _Line | None:
        """Take one line; None at the end. Raises `BundleError` for one that cannot be read."""
        if not (self._read_on() or self._read_on()):
            return None
        self.take()
        return self._ahead[self._at - 1]

    def __iter__(self) -> Iterator[_Line]:
        """Take each line."""
        while (line := self.next()) is not None:
            yield line

    def _read_on(self) -> bool:
        if self._at == len(self._ahead):
            self._ahead, self._at = next(self._blocks, list[_Line]()), 0
        return self._at < len(self._ahead)

    def _read(self, read: _Reading[_Line]) -> Iterator[list[_Line]]:
        """Some lines at a time; and none before an error, so that it is raised only once that line is wanted."""
        for number, piece in enumerate(self._pieces):
            if number:
                self._taken.append(0)
            at, size = piece.start, _BLOCK
            while at < piece.end:
                block = self._archive.piece(at, min(at + size, piece.end))
                end = block.rfind(b"\n") + 1
                if end:
                    yield read(block, 0, end)
                    at, size = at + end, _BLOCK
                elif len(block) > MAX_LINE:
                    yield []
                    raise BundleError(self.place(after=True), f"a line of more than {MAX_LINE} bytes")
                elif len(block) == piece.end - at:
                    yield []
                    raise BundleError(self.place(after=True), "the line does not end in a newline")
                else:
                    size = min(2 * size, MAX_LINE + _BLOCK)

    def place(self, index: int | None = None, *, after: bool = False) -> str:
        """Where the line is that was taken last, or the one after it; of the entry at that index."""
        name, before = self._name, 0
        if self._pieces:
            piece = len(self._taken) - 1
            member, start, _ = self._pieces[piece]
            if piece not in self._before:
                self._before[piece] = _newlines(self._archive, member.start, start)
            name, before = member.name, self._before[piece]
        entry = "" if index is None else f" (entry {index})"
        return f"{name} line {before + self._taken[-1] + after}{entry}"

    @property
    def counted(self) -> dict[str, int]:
        """How many lines of each file were taken, once all were."""
        return {piece.member.name: number for piece, number in zip(self._pieces, self._taken, strict=False)}


def lines_of(block: bytes, start: int, end: int) -> list[bytes]:
    """The lines in a piece of a block, without their newlines."""
    return block[start:end].split(b"\n")[:-1]


def stated_index(line: bytes) -> int | None:
    """The index that a line states, if it is a JSON object that does: an integer, and not what could be made one."""
    try:
        found: object = json.loads(line)["index"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def cut(archive: Archive, member: Member, indexes: Sequence[int], index_of: IndexOf = stated_index) -> list[Piece]:
    """Cut a member into pieces: the first has the lines of indexes below `indexes[0]`, the last those from its last on.

    One piece more than there are indexes, which rise. Raises `BundleError` for a line of more than `MAX_LINE` bytes.
    """
    edges = [at := member.start]
    stated = None  # by the line that begins there; the files of payloads are many, and most edges are in one other
    for index in indexes:
        if stated is None:
            stated = _order(index_of(archive.piece(at, _end_of_line(archive, member, at, member.end))))
        if stated < index and at < member.end:
            at, stated = _find(archive, at, member, index, index_of), None
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
        at = _find(archive, member.start, member, index, stated_index)
        line = archive.piece(at, _end_of_line(archive, member, at, member.end))
        if stated_index(line) == index:
            return f"{member.name} line {_newlines(archive, member.start, at) + 1} (entry {index})"
    return f"{members[0].name} (entry {index})"


def _find(archive: Archive, low: int, member: Member, index: int, index_of: IndexOf) -> int:
    """The place from `low` on of the first line of that index or above, or of the member's end."""
    high = member.end
    while low < high:
        middle = _end_of_line(archive, member, (low + high) // 2, high)
        start = low if middle >= high else middle
        end = _end_of_line(archive, member, start, high)
        if _order(index_of(archive.piece(start, end))) < index:
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


def _order(stated: int | None) -> int:
    """The index that a line states; below all others if it states none."""
    return -1 if stated is None else stated
