"""`translog.tiles`: the one spelling of each path, bundles, and the few tiles that a proof is made from."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translog import reference
from translog import merkle, tiles
from translog.errors import FormatError
from translog.merkle import MAX_SIZE, Node
from translog.tiles import Bundle, Tile

levels = st.integers(0, 63)
indexes = st.one_of(st.integers(0, 2000), st.integers(0, tiles.MAX_INDEX))
widths = st.integers(1, 256)

PATHS = [
    ("tile/0/000", Tile(0, 0, 256)),
    ("tile/0/000.p/1", Tile(0, 0, 1)),
    ("tile/0/273.p/112", Tile(0, 273, 112)),
    ("tile/1/001.p/17", Tile(1, 1, 17)),
    ("tile/63/999.p/255", Tile(63, 999, 255)),
    ("tile/0/x001/000", Tile(0, 1000, 256)),
    ("tile/0/x001/x234/067", Tile(0, 1234067, 256)),
    ("tile/0/x036/x028/x797/x018/x963/967", Tile(0, 36028797018963967, 256)),
    ("tile/entries/000", Bundle(0, 256)),
    ("tile/entries/x001/x234/067.p/8", Bundle(1234067, 8)),
]


@pytest.mark.parametrize(("path", "place"), PATHS)
def test_paths_both_ways(path: str, place: Tile | Bundle) -> None:
    """A path is written and read as C2SP tlog-tiles has it, up to the last tile of the largest tree."""
    assert place.path() == path
    parsed = tiles.parse_path(path)
    assert (type(parsed), parsed) == (type(place), place)
    assert type(place).parse(path) == place


@given(levels, indexes, widths)
def test_every_path_is_read_back(level: int, index: int, width: int) -> None:
    """Whatever level, index and width, the path leads back to them."""
    assert Tile.parse(Tile(level, index, width).path()) == Tile(level, index, width)
    assert Bundle.parse(Bundle(index, width).path()) == Bundle(index, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000\n",
        " tile/0/000",
        "TILE/0/000",
        "tile//0",
        "tile//000",
        "tile/0",
        "tile/0/",
        "tile/000",
        "tile/00/000",
        "tile/01/000",
        "tile/064/000",
        "tile/64/000",
        "tile/99/000",
        "tile/100/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/1_0/000",
        "tile/\u0663/000",
        "tile/x/000",
        "tile/data/000",
        "tile/Entries/000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000",
        "tile/0/x001",
        "tile/0/x000/001",
        "tile/0/x000/x001/067",
        "tile/0/001/067",
        "tile/0/x01/067",
        "tile/0/X001/067",
        "tile/0/x001//067",
        "tile/0/x001/x067",
        "tile/0/x001067",
        "tile/0/-01",
        "tile/0/+01",
        "tile/0/0_1",
        "tile/0/\u0660\u0660\u0661",
        "tile/0/x\u0660\u0660\u0661/067",
        "tile/0/..",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/01",
        "tile/0/000.p/001",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/1000",
        "tile/0/000.p/-1",
        "tile/0/000.p/+1",
        "tile/0/000.p/\u0663",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "tile/0/000.P/1",
        "tile/0/x000.p/1/000",
        "tile/0/x036/x028/x797/x018/x963/968",
        "tile/0/x999/x999/x999/x999/x999/999",
        "tile/0/x001/x000/x000/x000/x000/x000/000",
        "tile/0/" + "x000/" * 5000 + "001",
        "tile/0/" + "x999/" * 5000 + "999",
    ],
)
def test_other_spellings_are_refused(path: str) -> None:
    """A path that is not written back as it is, or that no tree has, is of no tile and of no bundle."""
    for wrong in (path, path.replace("tile/0/", "tile/entries/")):
        for parse in (tiles.parse_path, Tile.parse, Bundle.parse):
            with pytest.raises(FormatError):
                parse(wrong)


@given(st.text(alphabet="tile/nrsx.p0123456789", max_size=40).map(lambda rest: "tile/" + rest))
def test_what_is_read_is_written_back(path: str) -> None:
    """Any text is either the path that its tile or bundle gives, or refused."""
    try:
        place = tiles.parse_path(path)
    except FormatError:
        return
    assert place.path() == path


def test_a_tile_is_not_a_bundle() -> None:
    """Each class reads its own paths only, and says what the other one is."""
    with pytest.raises(FormatError, match="'tile/entries/000' is the path of an entry bundle, not of a tile"):
        Tile.parse("tile/entries/000")
    with pytest.raises(FormatError, match="'tile/0/000' is the path of a tile, not of an entry bundle"):
        Bundle.parse("tile/0/000")


def test_a_long_wrong_path_is_cut_in_the_message() -> None:
    """What came from outside does not fill the log."""
    with pytest.raises(FormatError) as caught:
        tiles.parse_path("tile/0/" + "x" * 100_000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("size", "full", "partial"),
    [
        (0, {}, {}),
        (1, {}, {0: (0, 1)}),
        (255, {}, {0: (0, 255)}),
        (256, {0: 1}, {1: (0, 1)}),
        (257, {0: 1}, {0: (1, 1), 1: (0, 1)}),
        (65_536, {0: 256, 1: 1}, {2: (0, 1)}),
        (70_000, {0: 273, 1: 1}, {0: (273, 112), 1: (1, 17), 2: (0, 1)}),
    ],
)
def test_which_tiles_a_tree_has(size: int, full: dict[int, int], partial: dict[int, tuple[int, int]]) -> None:
    """The tiles that C2SP tlog-tiles names for a size: so many full ones of each level, and one partial at most."""
    for level in range(64):
        count = full.get(level, 0)
        assert {tiles.width_at(level, index, size) for index in range(count)} <= {256}
        index, width = partial.get(level, (count, 0))
        assert index == count
        assert tiles.width_at(level, index, size) == width
        assert tiles.width_at(level, index + 1, size) == 0


def test_the_largest_tree_ends_at_level_seven() -> None:
    """The last tiles of a tree of 2^63-1 leaves."""
    assert tiles.width_at(0, tiles.MAX_INDEX, MAX_SIZE) == 255
    assert tiles.width_at(0, tiles.MAX_INDEX + 1, MAX_SIZE) == 0
    assert tiles.width_at(7, 0, MAX_SIZE) == 127
    assert tiles.width_at(8, 0, MAX_SIZE) == 0


def test_a_bundle_as_it_is_written() -> None:
    """Each entry comes after its length in two bytes, the larger one first."""
    assert tiles.encode_bundle([b"one", b"", b"x" * 258]) == b"\x00\x03one" + b"\x00\x00" + b"\x01\x02" + b"x" * 258
    assert tiles.decode_bundle(b"\x00\x03one\x00\x00\x00\x01x") == [b"one", b"", b"x"]


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_are_read_back(entries: list[bytes]) -> None:
    """Entries of any bytes, none to 256 of them, come back as they were."""
    assert tiles.decode_bundle(tiles.encode_bundle(entries)) == entries


@given(st.binary(max_size=2000))
def test_what_is_read_as_a_bundle_is_written_back(data: bytes) -> None:
    """Any bytes are either exactly the bundle of their entries, or refused."""
    try:
        entries = tiles.decode_bundle(data)
    except FormatError:
        return
    assert tiles.encode_bundle(entries) == data


def test_the_largest_bundle() -> None:
    """256 entries of 65,535 bytes fit; a longer entry or one more does not, either way."""
    entries = [b"\xff" * 65_535] * 256
    data = tiles.encode_bundle(entries)
    assert tiles.decode_bundle(data) == entries
    with pytest.raises(FormatError, match="entry 1 has 65536 bytes; an entry has 65535 at most"):
        tiles.encode_bundle([b"", b"\xff" * 65_536])
    with pytest.raises(FormatError, match="257 entries do not fit into a bundle, which holds 256 at most"):
        tiles.encode_bundle([b""] * 257)
    with pytest.raises(FormatError, match="the bundle goes on for 2 bytes after its 256 entries"):
        tiles.decode_bundle(data + b"\x00\x00")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00", "the bundle ends inside the length of entry 0"),
        (b"\x00\x03one\x00", "the bundle ends inside the length of entry 1"),
        (b"\x00\x03on", "entry 0 should have 3 bytes, but the bundle ends after 2"),
        (b"\x00\x03one\xff\xff", "entry 1 should have 65535 bytes, but the bundle ends after 0"),
    ],
)
def test_a_bundle_that_breaks_off_is_refused(data: bytes, message: str) -> None:
    """Neither a length nor an entry may be cut."""
    with pytest.raises(FormatError, match=message):
        tiles.decode_bundle(data)


class TiledLog:
    """All tiles of a tree of different leaves, and what was asked of them."""

    def __init__(self, size: int) -> None:
        hashes = [merkle.leaf_hash(entry) for entry in reference.numbered(size)]
        self.rows: list[bytes] = []
        while hashes:
            self.rows.append(b"".join(hashes))
            hashes = [merkle.root_from_leaves(hashes[at : at + 256]) for at in range(0, len(hashes) - 255, 256)]
        self.calls: list[Sequence[Tile]] = []

    def read(self, wanted: Sequence[Tile]) -> list[bytes]:
        """A `tiles.TileReader`."""
        self.calls.append(wanted)
        return [self.rows[level][index * 8192 :][: width * 32] for level, index, width in wanted]


def test_stored_hashes_out_of_tiles() -> None:
    """Of each complete subtree of a tree of 700 leaves, the tiles give the hash; also to a reader of a smaller size."""
    entries = reference.numbered(700)
    log = TiledLog(700)
    for size in (1, 255, 256, 257, 512, 700):
        nodes = [Node(level, index) for level in range(10) for index in range(size >> level)]
        expected = [reference.mth(entries[index << level : (index + 1) << level]) for level, index in nodes]
        assert tiles.hash_reader(size, log.read)(nodes) == expected


def test_each_tile_is_asked_for_once_and_all_in_one_call() -> None:
    """Nodes that share a tile do not have it read again; partial tiles are asked for at their width in that size."""
    log = TiledLog(700)
    tiles.hash_reader(600, log.read)([Node(0, 3), Node(2, 1), Node(0, 599), Node(8, 1), Node(9, 0)])
    assert log.calls == [[Tile(0, 0, 256), Tile(0, 2, 88), Tile(1, 0, 2)]]


@pytest.mark.parametrize("node", [Node(0, 600), Node(1, 300), Node(8, 2), Node(10, 0), Node(0, -1), Node(64, 0)])
def test_nodes_that_are_not_complete_are_not_stored(node: Node) -> None:
    """A reader of the tree of 600 leaves knows no others, though the log may already hold them."""
    with pytest.raises(ValueError, match=r"Node\(.*\) is not a complete subtree of a tree of 600 leaves"):
        tiles.hash_reader(600, TiledLog(700).read)([node])


@pytest.mark.parametrize("length", [0, 1407, 1409, 2816])
def test_a_tile_of_another_length_is_refused(length: int) -> None:
    """A tile has 32 bytes for each hash of its width, no more and no fewer."""
    read = tiles.hash_reader(300, lambda _: [bytes(length)])
    with pytest.raises(FormatError, match=rf"tile/0/001\.p/44 has {length} bytes instead of 1408"):
        read([Node(0, 299)])


def test_a_tile_that_is_not_given_is_missed() -> None:
    """A reader that gives fewer tiles than it was asked for does not have hashes put in the wrong places."""
    with pytest.raises(ValueError, match="shorter"):
        tiles.hash_reader(300, lambda _: [])([Node(0, 299)])


@pytest.mark.parametrize("seed", range(20))
def test_proofs_made_from_tiles_are_those_of_the_reference(seed: int) -> None:
    """Root and proofs of trees of some thousand leaves, read through tiles alone."""
    chance = random.Random(seed)
    size = chance.randrange(257, 3000)
    entries = reference.numbered(size)
    index, old_size = chance.randrange(size), chance.randrange(1, size)
    start, end = sorted((chance.randrange(size + 1), chance.randrange(size + 1)))
    read = tiles.hash_reader(size, TiledLog(size).read)
    assert merkle.tree_root(size, read) == reference.mth(entries)
    assert merkle.inclusion_proof(index, size, read) == reference.path(index, entries)
    assert merkle.consistency_proof(old_size, size, read) == reference.proof(old_size, entries)
    assert merkle.range_proof(start, end, size, read) == reference.range_proof(start, end, entries)


@pytest.mark.parametrize("size", [10**8, 10**8 - 1, 2**24 + 1, 2**26 - 1])
def test_a_proof_in_a_large_log_takes_few_tiles(size: int) -> None:
    """Around 10^8 entries, four tiles give a root, eight a proof of a leaf or a growth, and eleven one of a range."""
    chance = random.Random(size)
    counts: list[int] = []

    def read_tiles(wanted: Sequence[Tile]) -> list[bytes]:
        counts.append(len(wanted))
        assert all(width == tiles.width_at(level, index, size) > 0 for level, index, width in wanted)
        return [bytes(32 * width) for _, _, width in wanted]

    read = tiles.hash_reader(size, read_tiles)
    merkle.tree_root(size, read)
    assert counts.pop() <= 4
    for _ in range(100):
        merkle.inclusion_proof(chance.randrange(size), size, read)
        merkle.consistency_proof(chance.randrange(1, size), size, read)
        assert max(counts) <= 8
        counts.clear()
        start, end = sorted((chance.randrange(size), chance.randrange(1, size)))
        merkle.range_proof(start, end, size, read)
        assert counts.pop() <= 11
        assert not counts


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700, 65_536, 70_000, 10**8])
def test_the_tiles_that_a_proof_will_read_are_known_before(size: int) -> None:
    """Exactly those, each once, and without a hash of them: for roots, and for proofs of leaves and growths."""
    asked: list[Tile] = []

    def read_tiles(wanted: Sequence[Tile]) -> list[bytes]:
        asked.extend(wanted)
        return [bytes(32 * width) for _, _, width in wanted]

    def use(read: merkle.HashReader) -> None:
        merkle.tree_root(size, read)
        merkle.inclusion_proof(size // 3, size, read)
        merkle.consistency_proof(size // 2, size, read)

    needed = tiles.tiles_needed(size, use)
    use(tiles.hash_reader(size, read_tiles))
    assert needed == list(dict.fromkeys(asked))
    assert tiles.tiles_needed(size, lambda _: None) == []
