"""`translog.merkle`: the known hashes, the growing edge, what is refused, and trees too large to be built."""

import random
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translog import reference
from translog import merkle
from translog.errors import ProofError
from translog.merkle import EMPTY_ROOT, MAX_SIZE, Frontier, Node

sizes = st.one_of(st.integers(1, 300), st.integers(1, MAX_SIZE), st.integers(0, 62).map(lambda bit: 1 << bit))
hashes = st.binary(min_size=32, max_size=32)


def leaf_hashes(size: int) -> list[bytes]:
    """The leaf hashes of as many different entries."""
    return [merkle.leaf_hash(entry) for entry in reference.numbered(size)]


def uniform(leaf: bytes) -> merkle.HashReader:
    """A tree of any size with the same leaf everywhere: a complete subtree's hash depends on its level alone."""
    by_level = [leaf]
    for _ in range(63):
        by_level.append(merkle.node_hash(by_level[-1], by_level[-1]))
    return lambda nodes: [by_level[node.level] for node in nodes]


LEAF = merkle.leaf_hash(b"the same everywhere")
READ = uniform(LEAF)


def test_the_hash_of_nothing_a_leaf_and_a_node() -> None:
    """The three kinds of hash are those of RFC 6962, told apart by their first byte."""
    empty_leaf = bytes.fromhex("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")
    other_leaf = bytes.fromhex("96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7")
    assert bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") == EMPTY_ROOT
    assert merkle.leaf_hash(b"") == empty_leaf
    assert merkle.leaf_hash(b"\x00") == other_leaf
    expected = bytes.fromhex("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125")
    assert merkle.node_hash(empty_leaf, other_leaf) == expected


def test_an_entry_that_looks_like_a_node_hashes_otherwise() -> None:
    """The bytes of two hashes, logged as an entry, cannot pass for the node over them."""
    left, right = leaf_hashes(2)
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


def test_every_way_to_the_root_agrees() -> None:
    """For every size to 300, the edge grown at once, grown step by step, restored and the plain root are the same."""
    grown = Frontier()
    entries = reference.numbered(300)
    leaves = leaf_hashes(300)
    for size in range(301):
        expected = reference.mth(entries[:size])
        at_once = Frontier()
        at_once.extend(leaves[:size])
        assert (grown.size, grown.root()) == (size, expected)
        assert at_once == grown
        assert Frontier.at(size, reference.stored(entries[:size])) == grown
        assert merkle.tree_root(size, reference.stored(entries[:size])) == expected
        assert merkle.root_from_leaves(leaves[:size]) == expected
        if size < 300:
            grown.append(leaves[size])


def test_root_from_leaves_leaves_its_argument_alone() -> None:
    """The list of leaf hashes that was handed in is as it was."""
    leaves = leaf_hashes(7)
    merkle.root_from_leaves(leaves)
    assert leaves == leaf_hashes(7)


@given(st.integers(0, 40), st.integers(0, 40))
def test_an_edge_grows_in_any_two_steps(first: int, second: int) -> None:
    """How the leaves are divided among calls makes no difference."""
    leaves = leaf_hashes(first + second)
    frontier = Frontier()
    frontier.extend(leaves[:first])
    frontier.extend(iter(leaves[first:]))
    assert frontier.size == first + second
    assert frontier.root() == merkle.root_from_leaves(leaves)


def test_a_copy_grows_by_itself() -> None:
    """What is appended to a copy does not reach the original, nor the other way round."""
    original = Frontier()
    original.extend(leaf_hashes(3))
    copy = original.copy()
    copy.append(LEAF)
    assert (original.size, original.root()) == (3, merkle.root_from_leaves(leaf_hashes(3)))
    original.append(merkle.leaf_hash(b"another"))
    assert (copy.size, copy.root()) == (4, merkle.root_from_leaves([*leaf_hashes(3), LEAF]))


def test_a_failed_extension_changes_nothing() -> None:
    """After a bad hash, or an error of the iterable, the edge is what it was before the call."""
    frontier = Frontier()
    frontier.extend(leaf_hashes(3))
    before = frontier.copy()

    def breaks_off() -> Iterator[bytes]:
        yield from leaf_hashes(6)
        raise OSError

    with pytest.raises(ValueError, match="leaf hash 4 has 31 bytes; every hash has 32"):
        frontier.extend([LEAF, LEAF[:31], LEAF])
    assert frontier == before
    with pytest.raises(OSError):  # noqa: PT011  the iterable's own error comes through as it is
        frontier.extend(breaks_off())
    assert frontier == before


def test_a_tree_ends_at_its_largest_size() -> None:
    """The edge reaches 2^63-1 leaves and refuses the one after."""
    frontier = Frontier.at(MAX_SIZE - 1, READ)
    frontier.append(LEAF)
    assert (frontier.size, frontier.root()) == (MAX_SIZE, merkle.tree_root(MAX_SIZE, READ))
    with pytest.raises(ValueError, match="a tree cannot have 9223372036854775808 leaves"):
        frontier.append(LEAF)
    assert frontier.size == MAX_SIZE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Frontier.at(-1, READ), "a tree cannot have -1 leaves"),
        (lambda: merkle.tree_root(MAX_SIZE + 1, READ), "a tree cannot have 9223372036854775808 leaves"),
        (lambda: merkle.inclusion_proof(0, 0, READ), "there is no leaf 0 in a tree of 0 leaves"),
        (lambda: merkle.inclusion_proof(7, 7, READ), "there is no leaf 7 in a tree of 7 leaves"),
        (lambda: merkle.inclusion_proof(-1, 7, READ), "there is no leaf -1 in a tree of 7 leaves"),
        (lambda: merkle.inclusion_proof(0, MAX_SIZE + 1, READ), "there is no leaf 0 in a tree of 9223372036854775808"),
        (lambda: merkle.consistency_proof(8, 7, READ), "8 leaves cannot have grown into 7"),
        (lambda: merkle.consistency_proof(-1, 7, READ), "-1 leaves cannot have grown into 7"),
        (lambda: merkle.range_proof(3, 2, 7, READ), r"there are no leaves \[3, 2\) in a tree of 7 leaves"),
        (lambda: merkle.range_proof(3, 8, 7, READ), r"there are no leaves \[3, 8\) in a tree of 7 leaves"),
        (lambda: merkle.range_proof(-1, 2, 7, READ), r"there are no leaves \[-1, 2\) in a tree of 7 leaves"),
        (lambda: merkle.tree_root(7, lambda nodes: READ(nodes)[1:]), "the reader gave 2 hashes for 3 nodes"),
        (
            lambda: merkle.tree_root(4, lambda _: [b"short"]),
            r"the reader gave 5 bytes as the hash of Node\(level=2, index=0\)",
        ),
    ],
)
def test_no_proof_is_made_of_what_is_not_there(make: Callable[[], object], message: str) -> None:
    """A position outside the tree, or a reader that does not do its part, is a mistake of the calling program."""
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert not isinstance(caught.value, ProofError)


FOUR = leaf_hashes(4)
ROOT = merkle.root_from_leaves(FOUR)
HALF = merkle.node_hash(FOUR[2], FOUR[3])


@pytest.mark.parametrize(
    ("index", "size", "message"),
    [
        (4, 4, "there is no leaf 4 in a tree of 4 leaves"),
        (-1, 4, "there is no leaf -1 in a tree of 4 leaves"),
        (0, 0, "there is no leaf 0 in a tree of 0 leaves"),
        (0, MAX_SIZE + 1, "there is no leaf 0 in a tree of 9223372036854775808 leaves"),
        (0, 5, "the proof has 2 hashes, but this one needs exactly 3"),
        (1, 4, f"the proof for leaf 1 of 4 leads to the root [0-9a-f]{{64}}, not to {ROOT.hex()}"),
    ],
)
def test_inclusion_is_refused_outside_the_tree(index: int, size: int, message: str) -> None:
    """The index is compared with the size before anything is hashed, and the message says what is wrong."""
    merkle.verify_inclusion(FOUR[0], 0, 4, [FOUR[1], HALF], ROOT)
    with pytest.raises(ProofError, match=message):
        merkle.verify_inclusion(FOUR[0], index, size, [FOUR[1], HALF], ROOT)


def test_inclusion_refuses_hashes_of_another_length() -> None:
    """Every hash has 32 bytes, even where a concatenation would come out the same."""
    with pytest.raises(ProofError, match="the hash '' has 0 bytes; every hash has 32"):
        merkle.verify_inclusion(FOUR[0] + FOUR[1], 0, 2, [b""], merkle.node_hash(FOUR[0], FOUR[1]))
    with pytest.raises(ProofError, match="the hash '' has 0 bytes"):
        merkle.verify_inclusion(b"", 0, 1, [], b"")


@pytest.mark.parametrize(
    ("old_size", "old_root", "new_size", "new_root", "message"),
    [
        (5, ROOT, 4, ROOT, "5 leaves cannot have grown into 4"),
        (-1, ROOT, 4, ROOT, "-1 leaves cannot have grown into 4"),
        (4, ROOT, MAX_SIZE + 1, ROOT, "4 leaves cannot have grown into 9223372036854775808"),
        (4, ROOT, 4, HALF, "4 leaves, the same number as before"),
        (0, ROOT, 4, ROOT, "the proof for no leaves leads to the root e3b0c442"),
        (0, EMPTY_ROOT, 0, ROOT, "the proof for no leaves leads to the root e3b0c442"),
        (0, EMPTY_ROOT, 4, ROOT[:31], "has 31 bytes; every hash has 32"),
        (4, b"", 4, b"", "the hash '' has 0 bytes"),
        (2, HALF, 4, ROOT, "the proof has 0 hashes, but this one needs exactly 1"),
        (3, HALF, 4, ROOT, "the proof has 0 hashes, but this one needs exactly 3"),
    ],
)
def test_consistency_is_refused_where_there_is_nothing_to_hash(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, message: str
) -> None:
    """Sizes that cannot be, equal sizes with different roots, and an empty tree with another root than its own."""
    with pytest.raises(ProofError, match=message):
        merkle.verify_consistency(old_size, old_root, new_size, new_root, [])


def test_an_empty_tree_and_an_unchanged_one_need_no_proof() -> None:
    """Size 0 is the beginning of every tree, and every tree of itself; a proof given all the same is refused."""
    merkle.verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    merkle.verify_consistency(0, EMPTY_ROOT, 4, ROOT, [])
    merkle.verify_consistency(4, ROOT, 4, ROOT, [])
    for old_size, old_root in ((0, EMPTY_ROOT), (4, ROOT)):
        with pytest.raises(ProofError, match="the proof has 1 hashes, but this one needs exactly 0"):
            merkle.verify_consistency(old_size, old_root, 4, ROOT, [HALF])


@pytest.mark.parametrize(
    ("count", "start", "size", "message"),
    [
        (2, 3, 4, r"there are no leaves \[3, 5\) in a tree of 4 leaves"),
        (1, -1, 4, r"there are no leaves \[-1, 0\) in a tree of 4 leaves"),
        (0, 5, 4, r"there are no leaves \[5, 5\) in a tree of 4 leaves"),
        (0, 0, MAX_SIZE + 1, r"there are no leaves \[0, 0\) in a tree of 9223372036854775808 leaves"),
        (2, 0, 4, "the proof has 0 hashes, but this one needs exactly 1"),
        (3, 0, 3, rf"the proof for leaves \[0, 3\) of 3 leads to the root [0-9a-f]{{64}}, not to {ROOT.hex()}"),
    ],
)
def test_a_range_is_refused_outside_the_tree(count: int, start: int, size: int, message: str) -> None:
    """The range is compared with the size before anything is hashed."""
    with pytest.raises(ProofError, match=message):
        merkle.verify_range(FOUR[:count], start, size, [], ROOT)


def test_an_empty_range_is_proved_by_the_root() -> None:
    """No leaves of a tree are proved by its root alone, and all leaves of the empty tree by nothing."""
    for place in range(5):
        assert merkle.range_proof(place, place, 4, reference.stored(reference.numbered(4))) == [ROOT]
        merkle.verify_range([], place, 4, [ROOT], ROOT)
        with pytest.raises(ProofError, match="leads to the root"):
            merkle.verify_range([], place, 4, [HALF], ROOT)
    assert merkle.range_proof(0, 0, 0, reference.stored(())) == []
    merkle.verify_range([], 0, 0, [], EMPTY_ROOT)
    with pytest.raises(ProofError, match="leads to the root"):
        merkle.verify_range([], 0, 0, [], ROOT)


@given(st.data())
def test_inclusion_in_trees_of_any_size(data: st.DataObject) -> None:
    """In trees up to 2^63-1 leaves a proof verifies, has 63 hashes at most, and fails with any hash changed."""
    size = data.draw(sizes)
    index = data.draw(st.integers(0, size - 1))
    root = merkle.tree_root(size, READ)
    proof = merkle.inclusion_proof(index, size, READ)
    assert len(proof) <= 63
    merkle.verify_inclusion(LEAF, index, size, proof, root)
    for wrong in reference.spoilt(proof):
        with pytest.raises(ProofError):
            merkle.verify_inclusion(LEAF, index, size, wrong, root)


@given(st.data())
def test_consistency_of_trees_of_any_size(data: st.DataObject) -> None:
    """Between trees up to 2^63-1 leaves a proof verifies, has 64 hashes at most, and fails with any hash changed."""
    new_size = data.draw(sizes)
    old_size = data.draw(st.integers(1, new_size))
    old_root, new_root = merkle.tree_root(old_size, READ), merkle.tree_root(new_size, READ)
    proof = merkle.consistency_proof(old_size, new_size, READ)
    assert len(proof) <= 64
    merkle.verify_consistency(old_size, old_root, new_size, new_root, proof)
    for wrong in reference.spoilt(proof):
        with pytest.raises(ProofError):
            merkle.verify_consistency(old_size, old_root, new_size, new_root, wrong)


@given(st.data())
def test_ranges_of_trees_of_any_size(data: st.DataObject) -> None:
    """A few leaves anywhere in trees up to 2^63-1 leaves: the proof verifies and fails with any hash changed."""
    size = data.draw(sizes)
    start = data.draw(st.one_of(st.integers(0, size), st.just(size >> 1), st.just((1 << size.bit_length() - 1) - 1)))
    count = data.draw(st.integers(0, min(40, size - start)))
    root = merkle.tree_root(size, READ)
    proof = merkle.range_proof(start, start + count, size, READ)
    assert len(proof) <= 124
    merkle.verify_range([LEAF] * count, start, size, proof, root)
    for wrong in reference.spoilt(proof):
        with pytest.raises(ProofError):
            merkle.verify_range([LEAF] * count, start, size, wrong, root)


def test_the_longest_proofs() -> None:
    """The lengths that the documentation promises are reached and not passed."""
    middle = 1 << 62
    assert len(merkle.inclusion_proof(0, MAX_SIZE, READ)) == 63
    assert len(merkle.consistency_proof(middle - 1, MAX_SIZE, READ)) == 64
    assert len(merkle.range_proof(middle - 1, middle + 1, MAX_SIZE, READ)) == 124


@pytest.mark.parametrize("seed", range(20))
def test_proofs_of_larger_trees_are_those_of_the_reference(seed: int) -> None:
    """Trees of some thousand different leaves: proofs are exactly the RFC's, and verify."""
    chance = random.Random(seed)
    size = chance.randrange(65, 3000)
    entries = reference.numbered(size)
    leaves, root = leaf_hashes(size), reference.mth(entries)
    index, old_size = chance.randrange(size), chance.randrange(1, size)
    start, end = sorted((chance.randrange(size + 1), chance.randrange(size + 1)))

    inclusion = merkle.inclusion_proof(index, size, reference.stored(entries))
    assert inclusion == reference.path(index, entries)
    merkle.verify_inclusion(leaves[index], index, size, inclusion, root)

    consistency = merkle.consistency_proof(old_size, size, reference.stored(entries))
    assert consistency == reference.proof(old_size, entries)
    merkle.verify_consistency(old_size, reference.mth(entries[:old_size]), size, root, consistency)

    between = merkle.range_proof(start, end, size, reference.stored(entries))
    assert between == reference.range_proof(start, end, entries)
    merkle.verify_range(leaves[start:end], start, size, between, root)


@given(st.lists(hashes, max_size=70), st.integers(1, 80), st.integers(0, 80), hashes)
def test_made_up_proofs_are_refused(proof: Sequence[bytes], first: int, second: int, root: bytes) -> None:
    """Hashes out of the air are refused as a proof, never with another error."""
    with pytest.raises(ProofError):
        merkle.verify_inclusion(LEAF, first, second, proof, root)
    with pytest.raises(ProofError):
        merkle.verify_consistency(first, LEAF, second, root, [*proof, LEAF])
    with pytest.raises(ProofError):
        merkle.verify_range([LEAF] * first, second, 100, proof, root)


def test_nodes_are_named_by_level_and_index() -> None:
    """A reader is asked for the complete subtrees, largest first, that an incomplete one consists of."""
    asked: list[Node] = []

    def read(nodes: Sequence[Node]) -> Sequence[bytes]:
        asked.extend(nodes)
        return READ(nodes)

    merkle.inclusion_proof(2, 7, read)
    assert asked == [(0, 3), (1, 0), (1, 2), (0, 6)]
