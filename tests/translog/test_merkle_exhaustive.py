"""Every proof of every small tree, and everything that may be wrong with it.

The promises of the whole log rest on these few functions, so nothing is sampled here: each leaf and each pair of sizes
of all trees up to 64 leaves, each range of all trees up to 32, compared with the plain recursion of RFC 6962 and then
spoilt in each hash.
"""

from collections.abc import Callable
from typing import ParamSpec

import pytest

from tests.translog import reference
from translog import merkle
from translog.errors import ProofError

LARGEST = 64
LARGEST_FOR_RANGES = 32
ENTRIES = reference.numbered(LARGEST)
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
ROOTS = [reference.mth(ENTRIES[:size]) for size in range(LARGEST + 1)]
FOREIGN = merkle.leaf_hash(b"not in any of these trees")

P = ParamSpec("P")


def refused(verify: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
    """Whether this is not proved; any error but `ProofError` comes through."""
    try:
        verify(*args, **kwargs)
    except ProofError:
        return True
    return False


@pytest.mark.parametrize("size", range(1, LARGEST + 1))
def test_every_leaf(size: int) -> None:
    """Each leaf's proof is the RFC's, verifies, and verifies for no other hash, leaf, index or root."""
    entries, root = ENTRIES[:size], ROOTS[size]
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, reference.stored(entries))
        assert proof == reference.path(index, entries)
        merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
        for wrong in reference.spoilt(proof):
            assert refused(merkle.verify_inclusion, LEAVES[index], index, size, wrong, root)
        assert refused(merkle.verify_inclusion, FOREIGN, index, size, proof, root)
        for other in range(-1, size + 2):
            if other != index:
                assert refused(merkle.verify_inclusion, LEAVES[index], other, size, proof, root)
        for other_size in range(LARGEST + 1):
            if other_size != size:
                assert refused(merkle.verify_inclusion, LEAVES[index], index, size, proof, ROOTS[other_size])


@pytest.mark.parametrize("new_size", range(LARGEST + 1))
def test_every_pair_of_sizes(new_size: int) -> None:
    """Each growth's proof is the RFC's, verifies, and verifies with no other hash and between no other two roots."""
    entries, new_root = ENTRIES[:new_size], ROOTS[new_size]
    for old_size in range(1, new_size + 1):
        old_root = ROOTS[old_size]
        proof = merkle.consistency_proof(old_size, new_size, reference.stored(entries))
        assert proof == reference.proof(old_size, entries)
        merkle.verify_consistency(old_size, old_root, new_size, new_root, proof)
        for wrong in reference.spoilt(proof):
            assert refused(merkle.verify_consistency, old_size, old_root, new_size, new_root, wrong)
        for other_size, other_root in enumerate([*ROOTS, FOREIGN]):
            if other_size != old_size:
                assert refused(merkle.verify_consistency, old_size, other_root, new_size, new_root, proof)
            if other_size != new_size:
                assert refused(merkle.verify_consistency, old_size, old_root, new_size, other_root, proof)
    assert merkle.consistency_proof(0, new_size, reference.stored(entries)) == []
    merkle.verify_consistency(0, ROOTS[0], new_size, new_root, [])


@pytest.mark.parametrize("size", range(LARGEST_FOR_RANGES + 1))
def test_every_range(size: int) -> None:
    """Each range's proof is the recursion's, verifies, and verifies with no leaf changed, moved, missing or added."""
    entries, root = ENTRIES[:size], ROOTS[size]
    for start in range(size + 1):
        for end in range(start, size + 1):
            leaves = LEAVES[start:end]
            proof = merkle.range_proof(start, end, size, reference.stored(entries))
            assert proof == reference.range_proof(start, end, entries)
            merkle.verify_range(leaves, start, size, proof, root)
            for wrong in reference.spoilt(proof):
                assert refused(merkle.verify_range, leaves, start, size, wrong, root)
            assert refused(merkle.verify_range, leaves, start, size, proof, FOREIGN)
            for wrong in reference.spoilt(leaves):
                assert refused(merkle.verify_range, wrong, start, size, proof, root)
            if leaves:
                for shift in (-1, 1):
                    assert refused(merkle.verify_range, leaves, start + shift, size, proof, root)
            if len(leaves) > 1:
                assert refused(merkle.verify_range, [*leaves[1:], leaves[0]], start, size, proof, root)
