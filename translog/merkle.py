"""The Merkle tree of a transparency log: its hashes, its growing edge, and three kinds of proof (RFC 6962 §2.1).

A log of `size` entries is a binary tree over their leaf hashes. A tree of more than one leaf splits at the largest
power of two below its size: the left half is always complete, the right half is a smaller tree of the same kind, and
the hash at the top, the root, stands for every entry and its place.

            root                 7 leaves: [0, 4) is complete, [4, 7) is not.
         ____|____               A `Node` names a complete subtree by level and index: Node(2, 0) is [0, 4),
        |         |              Node(1, 2) is [4, 6), Node(0, 6) is leaf 6. Once complete, a subtree never changes,
       2,0        |              whatever the log grows to; so these are the hashes a log stores, and all others
      __|__     __|__            ("the right edge") are combined from them.
     |     |   |     |
    1,0   1,1 1,2   0,6          The proof that leaf 2 is in this tree: the hashes of 0,3 then 1,0 then [4, 7).
    | |   | | | |                The proof that the tree of 4 leaves was its beginning: the hash of [4, 7).
    0 1   2 3 4 5                The proof that [2, 5) are leaves 2, 3, 4: the hashes of 1,0 then 0,5 then 0,6.

Nothing here reads or writes. Who makes a proof hands in a `HashReader`, which is asked once per proof for all the
complete subtrees needed; who verifies a proof needs only the proof, and a root and size from a checkpoint whose
signature was verified. A proof says nothing about a size that came from anywhere else.

Functions that make proofs raise `ValueError` for a position outside the tree. Functions that verify raise `ProofError`
for everything wrong, the position included, because there all of it came from somebody else.

Sources: RFC 6962 §2.1 (tree, inclusion, consistency), RFC 9162 §2.1 (the same, and how to verify). Range proofs are in
neither; they follow the same recursion and are described at `range_proof`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from translog.errors import ProofError

HASH_SIZE = 32
"""Bytes of every hash here: SHA-256."""

MAX_SIZE = 2**63 - 1
"""Most leaves a tree may have, so that every size and index fits a signed 64-bit integer."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree of no leaves (RFC 6962 §2.1)."""

_LEAF = b"\x00"
_NODE = b"\x01"


class Node(NamedTuple):
    """The complete subtree over leaves [index << level, (index + 1) << level); at level 0, a leaf."""

    level: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  nobody searches a coordinate with tuple.index


HashReader = Callable[[Sequence[Node]], Sequence[bytes]]
"""Gives the 32-byte hash of each node asked for, in the same order. Asked once per proof, never with an empty list."""

_Span = tuple[int, int]
"""Leaves [start, end) under one node of the tree, complete or not."""


def leaf_hash(entry: bytes) -> bytes:
    """Give the 32-byte hash of a leaf: SHA-256(0x00 || entry) (RFC 6962 §2.1)."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Give the 32-byte hash over two 32-byte hashes: SHA-256(0x01 || left || right) (RFC 6962 §2.1)."""
    return hashlib.sha256(_NODE + left + right).digest()


def root_from_leaves(leaf_hashes: Sequence[bytes]) -> bytes:
    """Give the root over these 32-byte leaf hashes; `EMPTY_ROOT` for none.

    Equally the hash of a subtree over the hashes of equal, complete subtrees below it, such as those of a tile.
    """
    sha256 = hashlib.sha256
    level = leaf_hashes
    while len(level) > 1:
        parents = [sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        if len(level) % 2:
            parents.append(level[-1])  # unpaired at this level: it joins the tree further up
        level = parents
    return level[0] if level else EMPTY_ROOT


@dataclass(slots=True)
class Frontier:
    """The right edge of a tree: the few hashes from which it can grow and give its root without its leaves.

    `peaks` are the complete subtrees that a tree of `size` leaves falls into, left to right, so from the largest to
    the smallest: one for each 1 in the binary form of size. `Frontier()` is the empty tree.
    """

    size: int = 0
    peaks: list[bytes] = field(default_factory=list[bytes])

    @classmethod
    def at(cls, size: int, read: HashReader) -> Self:
        """Restore the edge of the tree of `size` leaves from stored hashes. Raises `ValueError` for a bad size."""
        _check_size(size)
        return cls(size, _read(_complete_subtrees((0, size)), read))

    def append(self, leaf_hash: bytes) -> None:
        """Add one 32-byte leaf hash at the right; as `extend`."""
        self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add 32-byte leaf hashes at the right.

        Raises `ValueError` for a hash of another length, or for more than `MAX_SIZE` leaves. After that, or after any
        error of the iterable itself, the frontier is what it was before the call.
        """
        sha256 = hashlib.sha256
        size = self.size
        peaks = self.peaks.copy()
        for right in leaf_hashes:
            if len(right) != HASH_SIZE:
                raise ValueError(f"leaf hash {size} has {len(right)} bytes; every hash has {HASH_SIZE}")
            carry = size
            while carry & 1:
                right = sha256(_NODE + peaks.pop() + right).digest()
                carry >>= 1
            peaks.append(right)
            size += 1
        _check_size(size)
        self.size, self.peaks = size, peaks

    def root(self) -> bytes:
        """Give the 32-byte root of the tree so far."""
        return _fold(self.peaks) if self.peaks else EMPTY_ROOT

    def copy(self) -> Self:
        """Give a frontier that grows independently of this one."""
        return type(self)(self.size, self.peaks.copy())


def tree_root(size: int, read: HashReader) -> bytes:
    """Give the 32-byte root of the tree of `size` leaves from stored hashes. Raises `ValueError` for a bad size."""
    return Frontier.at(size, read).root()


def inclusion_proof(index: int, size: int, read: HashReader) -> list[bytes]:
    """Prove that a leaf is at `index` of the tree of `size` leaves (RFC 6962 §2.1.1).

    Gives the hashes beside the path from the leaf up to the root, at most 63. Raises `ValueError` unless index < size.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ValueError(f"there is no leaf {index} in a tree of {size} leaves")
    beside: list[_Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            beside.append((middle, end))
            end = middle
        else:
            beside.append((start, middle))
            start = middle
    return _span_hashes(beside[::-1], read)


def consistency_proof(old_size: int, new_size: int, read: HashReader) -> list[bytes]:
    """Prove that the first `old_size` leaves of the tree of `new_size` are the tree of `old_size` (RFC 6962 §2.1.2).

    Gives the hashes from which both roots follow, at most 64; none if old_size is 0 or equals new_size, where there is
    nothing to prove. Raises `ValueError` unless old_size <= new_size.
    """
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise ValueError(f"{old_size} leaves cannot have grown into {new_size}")
    if old_size == 0:
        return []
    beside: list[_Span] = []
    start, end = 0, new_size
    while end != old_size:
        middle = _split(start, end)
        if old_size <= middle:
            beside.append((middle, end))
            end = middle
        else:
            beside.append((start, middle))
            start = middle
    if start > 0:  # else this subtree is the whole old tree, whose root the verifier has
        beside.append((start, end))
    return _span_hashes(beside[::-1], read)


def range_proof(start: int, end: int, size: int, read: HashReader) -> list[bytes]:
    """Prove that consecutive leaves are leaves [start, end) of the tree of `size` leaves, with nothing left out.

    Gives what the leaves alone do not tell about the root. Walk the tree from the root, left half before right half:
    a subtree outside the range contributes its hash, one inside contributes nothing, any other is split. So at most
    124 hashes, left to right, however long the range. An empty range is proved by the root itself, and an empty tree
    by nothing. Raises `ValueError` unless start <= end <= size.
    """
    if not 0 <= start <= end <= size <= MAX_SIZE:
        raise ValueError(f"there are no leaves [{start}, {end}) in a tree of {size} leaves")
    return _span_hashes(list(_outside(start, end, (0, size))), read)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `proof` puts `leaf_hash` at `index` of the tree of `size` leaves with `root` (RFC 9162 §2.1.3.2).

    Size and root must come from a verified checkpoint. Raises `ProofError` unless the proof holds.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"there is no leaf {index} in a tree of {size} leaves")
    inner, border = _path_shape(index, size)
    _check_lengths(proof, inner + border, leaf_hash, root)
    top = _climb(leaf_hash, index, proof[:inner])
    _check_root(_add_left(top, proof[inner:]), root, f"leaf {index} of {size}")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `new_size` leaves begins with the tree of `old_size` leaves (RFC 9162 §2.1.4.2).

    Both sizes and roots must come from verified checkpoints. Raises `ProofError` unless the proof holds. Every tree
    begins with the empty one, so for old_size 0 nothing is learnt about `new_root`.
    """
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise ProofError(f"{old_size} leaves cannot have grown into {new_size}")
    for size, root in ((old_size, old_root), (new_size, new_root)):
        if size == 0:
            _check_root(EMPTY_ROOT, root, "no leaves")
    if old_size in (0, new_size):
        _check_lengths(proof, 0, old_root, new_root)
        if old_size == new_size:
            _check_root(old_root, new_root, f"{new_size} leaves, the same number as before,")
        return

    # The path climbs from the last complete subtree of the old tree. If that is all of the old tree, its hash is the
    # old root, which the proof leaves out.
    level = (old_size & -old_size).bit_length() - 1
    index = (old_size - 1) >> level
    inner, border = _path_shape(index, ((new_size - 1) >> level) + 1)
    if index == 0:
        _check_lengths(proof, inner + border, old_root, new_root)
        seed, path = old_root, proof
    else:
        _check_lengths(proof, 1 + inner + border, old_root, new_root)
        seed, path = proof[0], proof[1:]

    left_of_path = [sibling for height, sibling in enumerate(path[:inner]) if index >> height & 1]
    old_top = _add_left(seed, left_of_path)
    new_top = _climb(seed, index, path[:inner])
    _check_root(_add_left(old_top, path[inner:]), old_root, f"the old tree of {old_size} leaves")
    _check_root(_add_left(new_top, path[inner:]), new_root, f"the new tree of {new_size} leaves")


def verify_range(leaf_hashes: Sequence[bytes], start: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf_hashes` are the leaves from `start` on of the tree of `size` leaves with `root`.

    Size and root must come from a verified checkpoint. Raises `ProofError` unless the proof holds; see `range_proof`.
    """
    end = start + len(leaf_hashes)
    if not 0 <= start <= end <= size <= MAX_SIZE:
        raise ProofError(f"there are no leaves [{start}, {end}) in a tree of {size} leaves")
    _check_lengths(proof, sum(1 for _ in _outside(start, end, (0, size))), root, *leaf_hashes)
    beside = iter(proof)

    def subtree_hash(lower: int, upper: int) -> bytes:
        if _disjoint(start, end, (lower, upper)):
            return next(beside)
        if start <= lower and upper <= end:
            return root_from_leaves(leaf_hashes[lower - start : upper - start])
        middle = _split(lower, upper)
        left = subtree_hash(lower, middle)
        return node_hash(left, subtree_hash(middle, upper))

    computed = subtree_hash(0, size) if size else EMPTY_ROOT
    _check_root(computed, root, f"leaves [{start}, {end}) of {size}")


# The shape of the tree


def _split(start: int, end: int) -> int:
    """Where the node over two or more leaves [start, end) divides: the largest power of two below their number."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def _complete_subtrees(span: _Span) -> list[Node]:
    """Name the complete subtrees that a node's leaves fall into, left to right: one per 1 in their number."""
    start, end = span
    nodes: list[Node] = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


def _disjoint(start: int, end: int, span: _Span) -> bool:
    return max(start, span[0]) >= min(end, span[1])


def _outside(start: int, end: int, span: _Span) -> Iterator[_Span]:
    """Walk the tree below `span` for the largest nodes outside [start, end), left to right."""
    lower, upper = span
    if start <= lower and upper <= end:
        return
    if _disjoint(start, end, span):
        yield span
        return
    middle = _split(lower, upper)
    yield from _outside(start, end, (lower, middle))
    yield from _outside(start, end, (middle, upper))


def _path_shape(index: int, size: int) -> tuple[int, int]:
    """Count the hashes of an inclusion proof: those below, and those above, where the path reaches the right edge.

    Below, the path to the leaf and the path to the last leaf are apart, every level has a sibling, and the bits of
    index say on which side. Above, the path is the right edge itself, and has siblings on the left only, one for each
    1 that remains.
    """
    inner = (index ^ (size - 1)).bit_length()
    return inner, (index >> inner).bit_count()


# Hashes, read and combined


def _read(nodes: Sequence[Node], read: HashReader) -> list[bytes]:
    if not nodes:
        return []
    hashes = list(read(nodes))
    if len(hashes) != len(nodes):
        raise ValueError(f"the reader gave {len(hashes)} hashes for {len(nodes)} nodes")
    for node, stored in zip(nodes, hashes, strict=True):
        if len(stored) != HASH_SIZE:
            raise ValueError(f"the reader gave {len(stored)} bytes as the hash of {node}")
    return hashes


def _span_hashes(spans: Sequence[_Span], read: HashReader) -> list[bytes]:
    """Give the hash of each node, combined from stored ones that are read in one call."""
    parts = [_complete_subtrees(span) for span in spans]
    stored = iter(_read([node for nodes in parts for node in nodes], read))
    return [_fold([next(stored) for _ in nodes]) for nodes in parts]


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Combine the complete subtrees of one node, given left to right, into its hash."""
    return _add_left(peaks[-1], peaks[-2::-1])


def _add_left(top: bytes, siblings: Iterable[bytes]) -> bytes:
    for sibling in siblings:
        top = node_hash(sibling, top)
    return top


def _climb(top: bytes, index: int, siblings: Iterable[bytes]) -> bytes:
    for sibling in siblings:
        top = node_hash(sibling, top) if index & 1 else node_hash(top, sibling)
        index >>= 1
    return top


# What is refused


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"a tree cannot have {size} leaves")


def _check_lengths(proof: Sequence[bytes], needed: int, *others: bytes) -> None:
    if len(proof) != needed:
        raise ProofError(f"the proof has {len(proof)} hashes, but this one needs exactly {needed}")
    for value in (*proof, *others):
        if len(value) != HASH_SIZE:
            raise ProofError(f"the hash {value[:HASH_SIZE].hex()!r} has {len(value)} bytes; every hash has {HASH_SIZE}")


def _check_root(computed: bytes, root: bytes, subject: str) -> None:
    if computed != root:
        raise ProofError(f"the proof for {subject} leads to the root {computed.hex()}, not to {root.hex()}")
