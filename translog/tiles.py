"""A log's tree and entries as files that never change: tiles and entry bundles (C2SP tlog-tiles).

A tile is a row of 1 to 256 consecutive hashes of complete subtrees, 32 bytes each and nothing between them. At level 0
they are leaf hashes; each hash at level L + 1 stands for one full tile at level L. So a tile at level L holds hashes
of `merkle.Node` level 8·L, and the seven node levels between two tile levels are recomputed from the lower tile:

    level 2    tile/2/000.p/1                                              hashes of 65,536 leaves each
    level 1    tile/1/000               tile/1/001.p/17                    hashes of 256 leaves each
    level 0    tile/0/000  tile/0/001   …   tile/0/273.p/112               hashes of one leaf each: 70,000 in all
    entries    tile/entries/000         …   tile/entries/273.p/112         the entries themselves, in bundles

A tile at the right edge is partial and only grows: with width W it is the first 32·W bytes of all its later forms, and
the first W entries of a bundle are those of all its later forms. Whoever reads a tree of a given size therefore cuts
what is stored to the width that size gives it (`width_at`).

A path is its resource under the log's prefix, and has one spelling: the index in groups of three digits, all but the
last marked by an `x`, so that no file has the name of a folder.

Nothing here reads or writes. `hash_reader` turns a function that reads tiles into the `merkle.HashReader` from which
every proof is made.
"""

import re
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self, TypeAlias

from translog.errors import FormatError
from translog.merkle import HASH_SIZE, MAX_SIZE, HashReader, Node, root_from_leaves

TILE_HEIGHT = 8
"""Levels of the tree from one tile level to the next."""

TILE_WIDTH = 1 << TILE_HEIGHT
"""Hashes in a full tile, and entries in a full bundle."""

MAX_LEVEL = 63
"""Highest tile level that a path may name. A tree of `MAX_SIZE` leaves ends at level 7."""

MAX_INDEX = MAX_SIZE >> TILE_HEIGHT
"""Highest index that a path may name: that of the last level-0 tile of a tree of `MAX_SIZE` leaves."""

MAX_ENTRY_SIZE = 0xFFFF
"""Most bytes of an entry: what the length before it in a bundle can say."""

_PATH = re.compile(
    r"tile/(?P<kind>entries|[0-9]{1,2})/(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[0-9]{1,3}))?"
)
_LENGTH = struct.Struct(">H")


class Tile(NamedTuple):
    """Hashes [256·index, 256·index + width) of a tile level: level 0 to 63, width 1 to 256."""

    level: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  nobody searches a coordinate with tuple.index
    width: int

    def path(self) -> str:
        """Give the path under the log's prefix, as `tile/0/x001/x234/067` or `tile/0/x001/x234/067.p/112`."""
        return _path(str(self.level), self.index, self.width)

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read the path of a tile. Raises `FormatError` unless it is exactly what `path` gives."""
        level, index, width = _parse(path)
        if level is None:
            raise FormatError(f"{path!r} is the path of an entry bundle, not of a tile")
        return cls(level, index, width)


class Bundle(NamedTuple):
    """Entries [256·index, 256·index + width) of the log: width 1 to 256."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    width: int

    def path(self) -> str:
        """Give the path under the log's prefix, as `tile/entries/x001/067` or `tile/entries/x001/067.p/112`."""
        return _path("entries", self.index, self.width)

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read the path of an entry bundle. Raises `FormatError` unless it is exactly what `path` gives."""
        level, index, width = _parse(path)
        if level is not None:
            raise FormatError(f"{path!r} is the path of a tile, not of an entry bundle")
        return cls(index, width)


Resource: TypeAlias = Tile | Bundle
"""What a log serves besides its checkpoint, by its coordinates."""

TileReader = Callable[[Sequence[Tile]], Sequence[bytes]]
"""Gives each tile asked for, in the same order, cut to exactly 32 bytes per hash of its width. Never asked for none."""


def parse_path(path: str) -> Resource:
    """Read a path under the log's prefix. Raises `FormatError` unless it is exactly what `Tile` or `Bundle` gives."""
    level, index, width = _parse(path)
    return Bundle(index, width) if level is None else Tile(level, index, width)


def width_at(level: int, index: int, size: int) -> int:
    """Count the hashes that tile `index` of `level` has in a tree of `size` leaves: 0 (there is no such tile) to 256.

    For an entry bundle, take level 0.
    """
    hashes = size >> (TILE_HEIGHT * level)
    return max(0, min(TILE_WIDTH, hashes - index * TILE_WIDTH))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Give the bundle of these entries: for each its length as two big-endian bytes, then the entry itself.

    Raises `FormatError` for an entry over 65,535 bytes or for more than 256 entries.
    """
    if len(entries) > TILE_WIDTH:
        raise FormatError(f"{len(entries)} entries do not fit into a bundle, which holds {TILE_WIDTH} at most")
    parts: list[bytes] = []
    for position, entry in enumerate(entries):
        if len(entry) > MAX_ENTRY_SIZE:
            raise FormatError(f"entry {position} has {len(entry)} bytes; an entry has {MAX_ENTRY_SIZE} at most")
        parts += (_LENGTH.pack(len(entry)), entry)
    return b"".join(parts)


def decode_bundle(data: bytes) -> list[bytes]:
    """Give the entries of a bundle; whether they are as many as its path says is for the caller to compare.

    Raises `FormatError` if the last entry is cut off or there are more than 256.
    """
    entries: list[bytes] = []
    start, end = 0, len(data)
    while start < end:
        if len(entries) == TILE_WIDTH:
            raise FormatError(f"the bundle goes on for {end - start} bytes after its {TILE_WIDTH} entries")
        body = start + _LENGTH.size
        if body > end:
            raise FormatError(f"the bundle ends inside the length of entry {len(entries)}")
        length = data[start] << 8 | data[start + 1]  # every entry of a log comes by here: faster than `struct`
        start = body + length
        if start > end:
            raise FormatError(
                f"entry {len(entries)} should have {length} bytes, but the bundle ends after {end - body}"
            )
        entries.append(data[body:start])
    return entries


def hash_reader(size: int, read_tiles: TileReader) -> HashReader:
    """Read the hashes of complete subtrees out of the tiles of the tree of `size` leaves.

    Each call of the reader calls `read_tiles` once, for each tile needed once: about eight for a proof in a log of
    10^8 entries. The reader raises `ValueError` for a node that is not complete in that tree, and `FormatError` for a
    tile that is not as long as asked for. That a tile is the right one only the proof made from it shows.
    """

    def read(nodes: Sequence[Node]) -> list[bytes]:
        places = [_place(node, size) for node in nodes]
        wanted = list(dict.fromkeys(tile for tile, _, _ in places))
        tiles = dict(zip(wanted, read_tiles(wanted), strict=True))
        for tile, data in tiles.items():
            if len(data) != tile.width * HASH_SIZE:
                raise FormatError(f"{tile.path()} has {len(data)} bytes instead of {tile.width * HASH_SIZE}")
        return [root_from_leaves(_hashes(tiles[tile], start, end)) for tile, start, end in places]

    return read


def tiles_needed(size: int, use: Callable[[HashReader], object]) -> list[Tile]:
    """Name the tiles of the tree of `size` leaves that `use` would read, each once, so that they can be fetched ahead.

    `use` makes proofs or roots with the reader that it is given, whose every hash is zero. It runs once, and what it
    gives is dropped. Raises `ValueError` as `hash_reader` does.
    """
    wanted: dict[Tile, None] = {}

    def note(nodes: Sequence[Node]) -> list[bytes]:
        wanted.update(dict.fromkeys(_place(node, size)[0] for node in nodes))
        return [bytes(HASH_SIZE)] * len(nodes)

    use(note)
    return list(wanted)


def _place(node: Node, size: int) -> tuple[Tile, int, int]:
    """Say where the hashes under a node are: hashes [start, end) of a tile, a power of two of them."""
    if not 0 <= node.index < size >> node.level:
        raise ValueError(f"{node} is not a complete subtree of a tree of {size} leaves")
    level, height = divmod(node.level, TILE_HEIGHT)
    index, start = divmod(node.index << height, TILE_WIDTH)
    return Tile(level, index, width_at(level, index, size)), start, start + (1 << height)


def _hashes(tile: bytes, start: int, end: int) -> list[bytes]:
    return [tile[at : at + HASH_SIZE] for at in range(start * HASH_SIZE, end * HASH_SIZE, HASH_SIZE)]


def _path(kind: str, index: int, width: int) -> str:
    groups = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        groups = f"x{index % 1000:03}/{groups}"
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{kind}/{groups}{partial}"


def _parse(path: str) -> tuple[int | None, int, int]:
    """Read level (None for a bundle), index and width; the pattern bounds the digits, writing again finds the rest."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise FormatError(f"{path[:100]!r} is not the path of a tile or an entry bundle, like tile/0/x001/067.p/112")
    kind = match["kind"]
    level = None if kind == "entries" else int(kind)
    index = int(match["index"].replace("x", "").replace("/", ""))
    width = int(match["width"] or TILE_WIDTH)
    canonical = _path(kind if level is None else str(level), index, width)
    if path != canonical or not 1 <= width <= TILE_WIDTH or index > MAX_INDEX or (level or 0) > MAX_LEVEL:
        raise FormatError(
            f"{path!r} is not canonical, or beyond any tree: level 0 to 63, width 1 to 255, no needless zeros"
        )
    return level, index, width
