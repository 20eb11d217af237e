"""`entries.bin`: the leaves of the range, cut into chunks, and hashed up to the root that the log has signed.

A chunk begins at a multiple of `CHUNK`, as the range allows. So the leaves of a whole one are one subtree of the log's
tree, and its hash is all that is needed of them; of the first and the last chunk, which may be parts of a subtree, it
is the hashes of the leaves. Chunks can be checked by several processes, in any order.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from translog.bundle.archive import BLOCK, Archive, Member
from translog.errors import BundleError
from translog.merkle import EMPTY_ROOT, node_hash, root_from_leaves

__all__ = ["CHUNK", "ENTRIES", "RANGE", "Hashes", "Span", "first_leaf", "hashed", "leaves", "root", "spans"]

ENTRIES, RANGE = "entries.bin", "proof/range.json"

CHUNK = 4096
"""Leaves of a chunk, a power of two."""


class Span(NamedTuple):
    """The leaves [first, last) of a chunk, which are the bytes [start, end) of the archive's file.

    `before` is where the leaf before them is, its length included; nothing for the range's first.
    """

    first: int
    last: int
    start: int
    end: int
    before: tuple[int, int]


class Hashes(NamedTuple):
    """The leaf hashes of a chunk from `first` on; or only the hash of the subtree that they are."""

    first: int
    last: int
    hashes: Sequence[bytes]


def spans(archive: Archive, member: Member, first: int, last: int) -> list[Span]:
    """Cut the leaves [first, last) into chunks. Raises `BundleError` unless `member` is that many leaves, no more."""
    found: list[Span] = []
    index, at = first, member.start
    opened, began, before = first, member.start, (member.start, member.start)
    while at < member.end and index < last:
        data = archive.piece(at, min(at + BLOCK, member.end))
        if len(data) < 2:
            raise BundleError(f"{ENTRIES} entry {index}", "it ends inside the length of this entry")
        start = end = 0
        while end + 2 <= len(data) and index < last:
            start, end = end, end + 2 + (data[end] << 8 | data[end + 1])
            index += 1
            if index % CHUNK == 0 or index == last:
                found.append(Span(opened, index, began, at + end, before))
                opened, began, before = index, at + end, (at + start, at + end)
        at += end
    if at > member.end:
        raise BundleError(f"{ENTRIES} entry {index - 1}", "it ends inside this entry")
    if at < member.end:
        raise BundleError(ENTRIES, f"it goes on after entry {last - 1}, the last of the range")
    if index != last:
        raise BundleError(f"{ENTRIES} entry {index}", f"it ends before it, but the range goes on to {last - 1}")
    return found


def first_leaf(archive: Archive, member: Member) -> bytes:
    """The first leaf of the file, which is known to have one."""
    size = int.from_bytes(archive.piece(member.start, member.start + 2), "big")
    return archive.piece(member.start + 2, member.start + 2 + size)


def leaves(archive: Archive, span: Span) -> list[bytes]:
    """The leaves of a chunk."""
    data = archive.piece(span.start, span.end)
    found: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + 2
        at = start + (data[at] << 8 | data[at + 1])
        found.append(data[start:at])
    if len(found) != span.last - span.first or at != len(data):
        raise BundleError(ENTRIES, "it was changed while it was read")
    return found


def hashed(span: Span, entries: Sequence[bytes]) -> Hashes:
    """What is needed of a chunk to compute the root."""
    hashes = [sha256(b"\x00" + entry).digest() for entry in entries]  # RFC 6962 section 2.1, for very many
    if len(hashes) == CHUNK:
        return Hashes(span.first, span.last, [root_from_leaves(hashes)])
    return Hashes(span.first, span.last, hashes)


def root(chunks: Sequence[Hashes], first: int, last: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of the tree of `size` leaves, of which [first, last) are those in `chunks`, and `proof` has the rest.

    Raises `BundleError` unless the proof has as many hashes as that takes, of 32 bytes.
    """
    by_first = {chunk.first - chunk.first % CHUNK: chunk for chunk in chunks}
    beside = iter(proof)

    def subtree(lower: int, upper: int) -> bytes:
        if max(first, lower) >= min(last, upper):
            hash_ = next(beside, None)
            if hash_ is None:
                raise BundleError(f"{RANGE} hashes", f"there are {len(proof)}, too few")
            return hash_
        if first <= lower and upper <= last and upper - lower <= CHUNK:
            chunk = by_first[lower - lower % CHUNK]
            if chunk.last - chunk.first == CHUNK and upper - lower == CHUNK:
                return chunk.hashes[0]
            if len(chunk.hashes) == chunk.last - chunk.first:
                return root_from_leaves(chunk.hashes[lower - chunk.first : upper - chunk.first])
        middle = lower + (1 << ((upper - lower - 1).bit_length() - 1))
        left = subtree(lower, middle)
        return node_hash(left, subtree(middle, upper))

    computed = subtree(0, size) if size else EMPTY_ROOT
    if next(beside, None) is not None:
        raise BundleError(f"{RANGE} hashes", f"there are {len(proof)}, too many")
    return computed
