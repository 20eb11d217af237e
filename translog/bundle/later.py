"""`proof/later.jsonl`: leaves from the range's end on that say something of the bundle's events, each with its proof.

A cross-check or an erasure that was logged after the last event is not in the range. That such a leaf is in the log is
proven here; which event it is about, and that nothing in the lines contradicts it, is compared in `joining`. That no
other such leaf is in the log beyond the range, nothing in a bundle can show.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from translog import merkle
from translog.bundle.archive import Archive
from translog.bundle.joining import Boxes, statements
from translog.bundle.leaves import Reader
from translog.bundle.lines import Lines, Piece, parted
from translog.bundle.reading import decoded, hashes, members, number, text
from translog.bundle.work import Side, Workers
from translog.canonical import from_base64
from translog.checkpoint import Checkpoint
from translog.errors import BundleError, TranslogError

__all__ = ["LATER", "Later", "verify_later"]

LATER = "proof/later.jsonl"
_PIECE = 1 << 22


class _Entry(NamedTuple):
    """Where an entry is in the log and in the file, and when it was logged."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  nobody searches an entry with tuple.index
    place: str
    logged_at: bytes


class Later(NamedTuple):
    """The file, or a piece of it: what its leaves say of events, the erasures among them, its first and last entry."""

    boxes: Boxes
    erasures: list[int]
    edges: Sequence[_Entry]


def verify_later(workers: Workers, archive: Archive, end: int, logged_at: bytes) -> Later:
    """Verify the file: its leaves follow the range, which ends at `end`, and whose last one was logged at that time.

    Raises `BundleError`.
    """
    whole = Later(Boxes(), [], [])
    last = _Entry(end - 1, "", logged_at)
    for piece in workers.run(check_piece, parted(archive, archive.member(LATER), _PIECE)):
        first, next_last = piece.edges
        _check_order(last, first)
        last = next_last
        whole.boxes.add(piece.boxes)
        whole.erasures.extend(piece.erasures)
    return whole


def check_piece(side: Side, piece: Piece) -> Later:
    """A task: verify the lines of a piece that has at least one."""
    found = Later(Boxes(), [], edges := list[_Entry]())
    for entry in _entries(side.archive, piece, side.context.checkpoint, side.reader, found):
        if edges:
            _check_order(edges[-1], entry)
            edges[1:] = [entry]
        else:
            edges += [entry, entry]
    return found


def _check_order(one: _Entry, other: _Entry) -> None:
    if other.index <= one.index:
        raise BundleError(other.place, f"it does not come after entry {one.index}")
    if other.logged_at < one.logged_at:
        raise BundleError(other.place, f"it was logged at {other.logged_at.decode()}, before entry {one.index}")


def _entries(archive: Archive, piece: Piece, tree: Checkpoint, reader: Reader, found: Later) -> Iterator[_Entry]:
    """Each entry, proven; what it says goes into `found`."""
    for line in (lines := Lines(archive, [piece], LATER)):
        yield _entry(line, lines.place(), tree, reader, found)


def _entry(line: bytes, place: str, tree: Checkpoint, reader: Reader, found: Later) -> _Entry:
    said = members(place, decoded(place, line), "entry", "index", "proof")
    index = number(place, said["index"])
    place = f"{place} (entry {index})"
    path = hashes(place, said["proof"])
    try:
        data = from_base64(text(place, said["entry"]), "entry")
        merkle.verify_inclusion(merkle.leaf_hash(data), index, tree.size, path, tree.root)
        leaf = reader.read(data)
        about = statements(leaf, index)
    except BundleError:
        raise
    except TranslogError as error:
        raise BundleError(place, str(error)) from None
    if not about:
        raise BundleError(place, "it is neither a cross-check nor an erasure")
    for statement in about:
        found.boxes.state(statement)
    if leaf.kind == b"erasure":
        found.erasures.append(index)
    return _Entry(index, place, leaf.logged_at)
