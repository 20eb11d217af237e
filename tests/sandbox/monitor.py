"""A monitor of the sandbox's log: it has the vkey and HTTP, and believes nothing that is not proved to it."""

from collections.abc import Sequence

import httpx2

from translog import merkle
from translog.checkpoint import Checkpoint
from translog.policy import Policy
from translog.tiles import TILE_WIDTH, Bundle, Tile, decode_bundle, hash_reader, width_at


def read_checkpoint(client: httpx2.Client, vkey: str) -> Checkpoint:
    """The newest checkpoint, which the log's key signed."""
    return Policy.of(vkey).open(_get(client, "checkpoint"))


def read_log(client: httpx2.Client, vkey: str) -> list[bytes]:
    """Every entry that the newest checkpoint covers, each proved to be included in it by the tiles that are served."""
    checkpoint = read_checkpoint(client, vkey)
    size = checkpoint.size

    def tiles(wanted: Sequence[Tile]) -> list[bytes]:
        return [_get(client, tile.path()) for tile in wanted]

    read = hash_reader(size, tiles)
    entries: list[bytes] = []
    while len(entries) < size:
        index = len(entries) // TILE_WIDTH
        entries += decode_bundle(_get(client, Bundle(index, width_at(0, index, size)).path()))
    assert len(entries) == size
    for index, entry in enumerate(entries):
        proof = merkle.inclusion_proof(index, size, read)
        merkle.verify_inclusion(merkle.leaf_hash(entry), index, size, proof, checkpoint.root)
    return entries


def must_continue(client: httpx2.Client, vkey: str, earlier: Checkpoint) -> Checkpoint:
    """The newest checkpoint, proved to be of the same log grown on since an earlier one."""
    checkpoint = read_checkpoint(client, vkey)
    size = checkpoint.size
    read = hash_reader(size, lambda wanted: [_get(client, tile.path()) for tile in wanted])
    proof = merkle.consistency_proof(earlier.size, size, read)
    merkle.verify_consistency(earlier.size, earlier.root, size, checkpoint.root, proof)
    return checkpoint


def _get(client: httpx2.Client, path: str) -> bytes:
    answer = client.get(f"/log/{path}")
    assert answer.status_code == 200, answer.text
    return answer.content
