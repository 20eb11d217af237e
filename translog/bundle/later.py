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
from translog.bundle.lines import Lines, Piece, lines_of, parted
from translog.bundle.reading import decoded, hashes, members, number, text
from translog.bundle.work import Side, Workers
from translog.canonical import from_base64
from translog.checkpoint import Checkpoint
from translog.errors import BundleError, TranslogError

__all__ = ["LATER", "Later", "Logged", "check_order", "verify_later"]

LATER = "proof/later.jsonl"
_PIECE = 1 << 22


class Logged(NamedTuple):
    """Where an entry is in the log and in the bundle, and when it was logged."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  nobody searches an entry with tuple.index
    place: str
    logged_at: bytes


class Later(NamedTuple):
    """The file, or a piece of it: what its leaves say of events, and the erasures among them.

    `edges` are a piece's first and last entry; of the file, the last one by which time was compared.
    """

    boxes: Boxes
    erasures: list[int]
    edges: Sequence[Logged]


def verify_later(workers: Workers, archive: Archive, last: Logged, others: Sequence[Logged]) -> Later:
    """Verify the file: its leaves come after `last`, the range's last one; `others` are known from elsewhere.

    Among these, too, time does not fall from one entry to the next. Raises `BundleError`.
    """
    whole = Later(Boxes(), [], [])
    pieces = [(piece, others) for piece in parted(archive, archive.member(LATER), _PIECE)]
    for piece in workers.run(check_piece, pieces):
        first, next_last = piece.edges
        check_order(last, first, others)
        last = next_last
        whole.boxes.add(piece.boxes)
        whole.erasures.extend(piece.erasures)
    check_order(last, None, others)
    return whole._replace(edges=[max(last, *others)])


def check_piece(side: Side, task: tuple[Piece, Sequence[Logged]]) -> Later:
    """A task: verify the lines of a piece that has at least one."""
    piece, others = task
    found = Later(Boxes(), [], edges := list[Logged]())
    for entry in _entries(side.archive, piece, side.context.checkpoint, side.reader, found):
        if edges:
            check_order(edges[-1], entry, others)
            edges[1:] = [entry]
        else:
            edges += [entry, entry]
    return found


def check_order(one: Logged, other: Logged | None, others: Sequence[Logged] = ()) -> None:
    """Check that `other` comes after `one`, in the log and in time, and so does what of `others` is between them.

    Without an `other`, all of `others` after `one` are looked at. Raises `BundleError`.
    """
    if other is not None and other.index <= one.index:
        raise BundleError(other.place, f"it does not come after entry {one.index}")
    between = [each for each in others if one.index < each.index and (other is None or each.index < other.index)]
    for each in [*sorted(between), *([] if other is None else [other])]:
        if each.logged_at < one.logged_at:
            raise BundleError(each.place, f"it was logged at {each.logged_at.decode()}, before entry {one.index}")
        one = each


def _entries(archive: Archive, piece: Piece, tree: Checkpoint, reader: Reader, found: Later) -> Iterator[Logged]:
    """Each entry, proven; what it says goes into `found`."""
    lines = Lines(archive, [piece], LATER, lines_of)
    for line in lines:
        yield _entry(line, lines.place(), tree, reader, found)


def _entry(line: bytes, place: str, tree: Checkpoint, reader: Reader, found: Later) -> Logged:
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
    return Logged(index, place, leaf.logged_at)
