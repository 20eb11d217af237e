"""A tiled log served from memory, at every size up to its own: for benchmarks of whoever reads it.

    python -m bench.tiled SIZE PORT

Below `/<n>/` is the log as it was when it had n entries. Entries are random bytes, 300 on average, the same in every
run. Its key is `KEY`. An answer costs it almost nothing, so that it is the reader that is measured.
"""

import random
import sys
from typing import Any

import uvicorn

from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.note import SigningKey
from translog.tiles import TILE_WIDTH, Bundle, Tile, decode_bundle, encode_bundle, hash_reader, parse_path, width_at

KEY = SigningKey("bench.example/log", note.Kind.ED25519, bytes(32))
SHORTEST, LONGEST = 200, 400


class TiledLog:
    """All bundles and all hashes of a log of so many entries."""

    def __init__(self, size: int) -> None:
        made = random.Random(0)
        self.bundles: list[bytes] = []
        hashes: list[bytes] = []
        for start in range(0, size, TILE_WIDTH):
            count = min(TILE_WIDTH, size - start)
            entries = [made.randbytes(made.randint(SHORTEST, LONGEST)) for _ in range(count)]
            self.bundles.append(encode_bundle(entries))
            hashes += map(merkle.leaf_hash, entries)
        self.rows: list[bytes] = []
        while hashes:
            self.rows.append(b"".join(hashes))
            whole = len(hashes) - len(hashes) % TILE_WIDTH
            hashes = [merkle.root_from_leaves(hashes[at : at + TILE_WIDTH]) for at in range(0, whole, TILE_WIDTH)]

    def tile(self, tile: Tile) -> bytes:
        """A tile of any width that there is."""
        start = tile.index * TILE_WIDTH
        return self.rows[tile.level][start * merkle.HASH_SIZE : (start + tile.width) * merkle.HASH_SIZE]

    def read(self, size: int, path: str) -> bytes | None:
        """What the log of that size has at a path."""
        if path == "checkpoint":
            root = merkle.tree_root(size, hash_reader(size, lambda tiles: [self.tile(tile) for tile in tiles]))
            return note.sign(Checkpoint(KEY.name, size, root).text, KEY)
        match parse_path(path):
            case Tile(level, index, width) as tile:
                return self.tile(tile) if width <= width_at(level, index, size) else None
            case Bundle(index, width):
                if width > width_at(0, index, size):
                    return None
                bundle = self.bundles[index]
                return bundle if width == TILE_WIDTH else encode_bundle(decode_bundle(bundle)[:width])


def main(size: int, port: int) -> None:
    """Make the log, and serve it until interrupted."""
    log = TiledLog(size)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        size, _, path = scope["path"].lstrip("/").partition("/")
        data = log.read(int(size), path)
        status, body = (404, b"") if data is None else (200, data)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(app, port=port, loop="uvloop", http="httptools", access_log=False, log_config=None)
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
