"""The tree and its proofs written down from RFC 6962 §2.1, recursive and over the entries themselves.

Slow and plain on purpose: what `translog.merkle` computes in loops, from stored hashes, must be exactly this. Names are
those of the RFC (D[n] the entries, m an index or size, k the largest power of two below n). The range proof is of the
same making.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256

from translog.merkle import HashReader, Node

Entries = tuple[bytes, ...]


def numbered(size: int) -> Entries:
    """As many different entries."""
    return tuple(b"entry %d" % index for index in range(size))


def largest_power_of_two_below(n: int) -> int:
    """The number called k in §2.1, for n > 1."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


@cache
def mth(entries: Entries) -> bytes:
    """MTH(D[n]) of §2.1."""
    n = len(entries)
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = largest_power_of_two_below(n)
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: Entries) -> list[bytes]:
    """PATH(m, D[n]) of §2.1.1."""
    n = len(entries)
    if n == 1:
        return []
    k = largest_power_of_two_below(n)
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def proof(m: int, entries: Entries) -> list[bytes]:
    """PROOF(m, D[n]) of §2.1.2, for 0 < m <= n."""
    return subproof(m, entries, whole=True)


def subproof(m: int, entries: Entries, *, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of §2.1.2, where b is `whole`."""
    n = len(entries)
    if m == n:
        return [] if whole else [mth(entries)]
    k = largest_power_of_two_below(n)
    if m <= k:
        return [*subproof(m, entries[:k], whole=whole), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], whole=False), mth(entries[:k])]


def range_proof(start: int, end: int, entries: Entries) -> list[bytes]:
    """The hashes beside leaves [start, end), left to right."""
    n = len(entries)
    if start <= 0 and n <= end:
        return []
    if end <= 0 or n <= start or start == end:
        return [mth(entries)]
    k = largest_power_of_two_below(n)
    return [*range_proof(start, end, entries[:k]), *range_proof(start - k, end - k, entries[k:])]


def stored(entries: Entries) -> HashReader:
    """A reader of the complete subtrees of a tree, which lets itself be asked only once and for nothing else."""
    calls: list[Sequence[Node]] = []

    def read(nodes: Sequence[Node]) -> list[bytes]:
        calls.append(nodes)
        assert len(calls) == 1, "a proof is made from one call"
        assert nodes, "nothing is asked for"
        assert all(0 <= index < len(entries) >> level for level, index in nodes), "an incomplete subtree is not stored"
        return [mth(entries[index << level : (index + 1) << level]) for level, index in nodes]

    return read


def spoilt(hashes: Sequence[bytes]) -> Iterator[list[bytes]]:
    """All that must not pass for these hashes: one flipped, cut or left out, or one too many."""
    for place, value in enumerate(hashes):
        flipped = bytes([value[0] ^ 1]) + value[1:]
        before, after = list(hashes[:place]), list(hashes[place + 1 :])
        yield from ([*before, other, *after] for other in (flipped, value[:-1], value + b"\x00", b""))
        yield [*before, *after]
    yield [*hashes, sha256(b"one more").digest()]
    yield [*hashes, b""]
