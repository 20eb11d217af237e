"""Trees and proofs that others made: the reference tree of RFC 6962, a real certificate log, a real tiled log."""

import json
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.vectors import VECTORS, needs_vectors
from translog import merkle, tiles
from translog.errors import ProofError
from translog.merkle import Frontier, Node

pytestmark = needs_vectors

ARGON = VECTORS / "golang-mod" / "argon2020"
TILED_LOG = VECTORS / "transparency-dev-tessera" / "testdata" / "log"


def read_json(path: Path) -> Any:
    """The file's JSON, without a claim about its shape."""
    return json.loads(path.read_bytes())


class TestReferenceTree:
    """The tree of eight leaves that implementations of Certificate Transparency have compared since its beginning."""

    @pytest.fixture
    def tree(self) -> Any:
        return read_json(VECTORS / "rfc6962-reference" / "reference_tree.json")

    def test_leaf_and_node_hashes(self, tree: Any) -> None:
        """Each hash of each level is the one written down."""
        levels = [[bytes.fromhex(value) for value in level] for level in tree["node_hashes_hex_by_level"]]
        assert [len(level) for level in levels] == [8, 4, 2, 1]
        assert [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in tree["leaf_inputs_hex"]] == levels[0]
        for below, level in pairwise(levels):
            assert [merkle.node_hash(*below[at : at + 2]) for at in range(0, len(below), 2)] == level

    def test_roots(self, tree: Any) -> None:
        """Sizes 0 to 8 have the roots written down."""
        roots = [bytes.fromhex(root) for root in tree["root_hashes_hex_by_size"]]
        frontier = Frontier()
        grown = [frontier.root()]
        for leaf in tree["leaf_inputs_hex"]:
            frontier.append(merkle.leaf_hash(bytes.fromhex(leaf)))
            grown.append(frontier.root())
        assert grown == roots


class TestCertificateLog:
    """Argon 2020, a log of 961,984,013 certificates: its signed tree head and two proofs it gave out."""

    OLD_SIZE = 3_654_490
    OLD_ROOT = b64decode("AuIZ5V6sDUj1vn3Y1K85oOaQ7y+FJJKtyRTl1edIKBQ=")

    @pytest.fixture
    def head(self) -> tuple[int, bytes]:
        head = read_json(ARGON / "sth.json")
        return head["tree_size"], b64decode(head["sha256_root_hash"])

    def test_leaf_10000_is_included(self, head: tuple[int, bytes]) -> None:
        """The entry's own bytes and the log's audit path lead to its root, at that index only."""
        size, root = head
        assert size == 961_984_013
        answer = read_json(ARGON / "proof.json")
        proof = [b64decode(value) for value in answer["audit_path"]]
        leaf = merkle.leaf_hash(b64decode(read_json(ARGON / "entries.json")["entries"][0]["leaf_input"]))
        merkle.verify_inclusion(leaf, answer["leaf_index"], size, proof, root)
        for other in (answer["leaf_index"] - 1, answer["leaf_index"] + 1):
            with pytest.raises(ProofError):
                merkle.verify_inclusion(leaf, other, size, proof, root)

    def test_it_only_grew(self, head: tuple[int, bytes]) -> None:
        """The log's proof shows that its tree of 3,654,490 entries was the beginning of the later one."""
        size, root = head
        proof = [b64decode(value) for value in read_json(ARGON / "consistency.json")["consistency"]]
        merkle.verify_consistency(self.OLD_SIZE, self.OLD_ROOT, size, root, proof)
        for place, value in enumerate(proof):
            wrong = [*proof[:place], bytes([value[0] ^ 1]) + value[1:], *proof[place + 1 :]]
            with pytest.raises(ProofError):
                merkle.verify_consistency(self.OLD_SIZE, self.OLD_ROOT, size, root, wrong)


class TestTiledLog:
    """A log of 15 entries as its server wrote it to files, with the checkpoint, tile and bundle of every size."""

    def root(self, size: int) -> bytes:
        """The root that the checkpoint of this size names."""
        lines = (TILED_LOG / f"checkpoint.{size}").read_text().split("\n")
        assert lines[:2] == ["example.com/log/testdata", str(size)]
        return b64decode(lines[2], validate=True)

    @pytest.mark.parametrize("size", range(16))
    def test_the_tiles_give_the_root(self, size: int) -> None:
        """Each checkpoint's root follows from the partial tile of its size, found under the path we give it."""
        read = tiles.hash_reader(size, lambda wanted: [(TILED_LOG / tile.path()).read_bytes() for tile in wanted])
        assert merkle.tree_root(size, read) == self.root(size)

    @pytest.mark.parametrize("size", range(1, 16))
    def test_the_bundles_hash_to_the_tile(self, size: int) -> None:
        """Each bundle is written back as it was, and its entries' hashes are the level-0 tile."""
        data = (TILED_LOG / tiles.Bundle(0, size).path()).read_bytes()
        entries = tiles.decode_bundle(data)
        assert len(entries) == size
        assert tiles.encode_bundle(entries) == data
        tile = (TILED_LOG / tiles.Tile(0, 0, size).path()).read_bytes()
        assert b"".join(merkle.leaf_hash(entry) for entry in entries) == tile

    def test_every_file_has_the_path_we_give_it(self) -> None:
        """The paths of all its tiles and bundles are read, and there is one of each for every size."""
        files = [file.relative_to(TILED_LOG).as_posix() for file in (TILED_LOG / "tile").rglob("*") if file.is_file()]
        expected = [tiles.Tile(0, 0, width) for width in range(1, 16)]
        bundles = [tiles.Bundle(0, width) for width in range(1, 16)]
        assert sorted(tiles.parse_path(file) for file in files) == sorted([*expected, *bundles])

    def test_proofs_between_its_checkpoints(self) -> None:
        """Proofs of each growth and each leaf, made from its newest tile, are borne out by its checkpoints."""
        root = self.root(15)
        read = tiles.hash_reader(15, lambda wanted: [(TILED_LOG / tile.path()).read_bytes() for tile in wanted])
        leaves = list(read([Node(0, index) for index in range(15)]))
        for size in range(16):
            proof = merkle.consistency_proof(size, 15, read)
            merkle.verify_consistency(size, self.root(size), 15, root, proof)
            merkle.verify_range(leaves[size:], size, 15, merkle.range_proof(size, 15, 15, read), root)
        for index, leaf in enumerate(leaves):
            merkle.verify_inclusion(leaf, index, 15, merkle.inclusion_proof(index, 15, read), root)
