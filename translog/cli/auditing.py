"""`translog fsck`: is a log whole. Everything that it serves is read, and held against the root that it signed.

From the top down, so that whatever is wrong can be named. The tiles at the right edge, which no tile stands above, give
the root; every other tile is proven by the one hash that the tile above has for it; and a bundle of entries by its tile
of level 0. So each thing is compared with what the entries, or the tiles below, give for it, and the first that differs
from what is already proven is the one at fault:

    signed root ─▶ tile/2/000.p/1 ─▶ tile/1/000 ─▶ tile/0/000 ─▶ tile/entries/000
              └──▶ tile/1/001.p/17 ─▶ …

If the right edge itself gives another root, it is held against what is below it. That names the tile, unless what is
below does not lead to the signed root either: then nothing tells which of the two is wrong.

Memory holds 256 tiles of each level, and as many bundles as are fetched at one time (`fetching.BUDGET`).
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import stamina.instrumentation
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from translog.checkpoint import Checkpoint
from translog.cli.telling import UsageError, checkpoint_rows, table
from translog.errors import FormatError, ProofError
from translog.fetching import BUDGET, Fetcher
from translog.merkle import HASH_SIZE, Frontier, leaf_hash, root_from_leaves
from translog.policy import Policy
from translog.tiles import TILE_HEIGHT, TILE_WIDTH, Bundle, Resource, Tile, decode_bundle, hash_reader

__all__ = ["fsck"]


@dataclass(slots=True)
class _Count:
    """What was read and found right."""

    entries: int = 0
    tiles: int = 0
    size: int = 0
    """Bytes, as they are without compression."""


def fsck(url: str, policy: Policy, cache: Path | None = None) -> str:
    """Read the whole log at `url`, with a bar on standard error if that is a terminal; give what it is.

    Tiles that are in the folder `cache` are taken from there. Raises `UsageError` for a URL that is none, `ProofError`
    or `FormatError`, which name the first tile or bundle that is wrong, `SignatureError` for the checkpoint, and
    `FetchError` for what cannot be read.
    """
    try:
        fetcher = Fetcher(url, cache=cache)
    except FormatError as error:
        raise UsageError(str(error)) from None
    stamina.instrumentation.set_on_retry_hooks(())  # they write where the bar, or a report, is
    began = time.monotonic()
    with Progress(
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("entries"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("", total=None)
        checkpoint, count = asyncio.run(
            _read(fetcher, policy, lambda size, done: progress.update(task, total=size, completed=done))
        )
    return "\n".join(
        (
            "VERIFIED: all entries and tiles of this log lead to the root that it signed.",
            table(
                (
                    *checkpoint_rows(checkpoint),
                    ("tiles", str(count.tiles)),
                    ("bytes", str(count.size)),
                    ("seconds", f"{time.monotonic() - began:.1f}"),
                )
            ),
            "That others are shown the same log it does not show: compare size and root with what they were given.",
        )
    )


async def _read(fetcher: Fetcher, policy: Policy, told: Callable[[int, int], None]) -> tuple[Checkpoint, _Count]:
    async with aclosing(fetcher):
        checkpoint = policy.open(await fetcher.checkpoint())
        audit = _Audit(fetcher, checkpoint, told)
        await audit.run()
    return checkpoint, audit.count


class _Audit:
    """One reading of the tree of a checkpoint. `told` gets the size, and how many entries are done."""

    def __init__(self, fetcher: Fetcher, checkpoint: Checkpoint, told: Callable[[int, int], None]) -> None:
        self.count = _Count()
        self._fetcher = fetcher
        self._checkpoint = checkpoint
        self._told = told

    async def run(self) -> None:
        size = self._checkpoint.size
        self._told(size, 0)
        edge = list(_right_edge(size))
        try:
            tiles = await self._tiles(edge, self._check_edge)
        except ProofError as error:
            raise await self._fault_at_edge(edge) or error from None
        for tile in reversed(edge):
            await self._check_below(tile, tiles[tile])

    async def _tiles(
        self, wanted: Sequence[Tile], check: Callable[[Mapping[Tile, bytes]], None]
    ) -> Mapping[Tile, bytes]:
        """Tiles that pass a check. They are fetched twice if they do not: a copy that was kept may have gone bad."""
        tiles = await self._fetched(wanted)
        try:
            check(tiles)
        except ProofError:
            self._fetcher.forget(wanted)
            tiles = await self._fetched(wanted)
            check(tiles)
        self.count.tiles += len(tiles)
        self.count.size += sum(map(len, tiles.values()))
        return tiles

    async def _fetched(self, wanted: Sequence[Tile]) -> Mapping[Tile, bytes]:
        given = await self._fetcher.fetch(wanted)
        return {tile: given[tile] for tile in wanted}

    # ---- the right edge -----------------------------------------------------------------------------------------

    def _check_edge(self, tiles: Mapping[Tile, bytes]) -> None:
        size, root = self._checkpoint.size, self._checkpoint.root
        read = hash_reader(size, lambda wanted: [tiles[tile] for tile in wanted])
        if (found := Frontier.at(size, read).root()) != root:
            paths = ", ".join(tile.path() for tile in tiles) or "no tiles"
            raise ProofError(f"the right edge ({paths}) gives the root {found.hex()}, and {root.hex()} is signed")

    async def _fault_at_edge(self, edge: Sequence[Tile]) -> ProofError | None:
        """Of a right edge that does not lead to the signed root: the first tile that differs from what is below it."""
        tiles = await self._fetched(edge)
        derived = {tile: await self._derived(tile) for tile in edge}
        try:
            self._check_edge({tile: b"".join(gives for _, gives in below) for tile, below in derived.items()})
            told = ""
        except ProofError:
            told = "; or that is wrong, for it does not lead to the signed root either"
        for tile, data in tiles.items():
            for (below, gives), has in zip(derived[tile], _hashes(data), strict=True):
                if gives != has:
                    return ProofError(
                        f"{tile.path()} is not the tile that was signed: it has {has.hex()} where {below.path()} gives "
                        f"{gives.hex()}{told}"
                    )
        return None

    async def _derived(self, tile: Tile) -> list[tuple[Resource, bytes]]:
        """For each hash of a tile what is below it, and the hash that this gives."""
        if tile.level == 0:
            bundle = Bundle(tile.index, tile.width)
            given = await self._fetcher.fetch([bundle])
            return [(bundle, leaf_hash(entry)) for entry in _entries(bundle, given[bundle])]
        children = await self._fetched(_children(tile))
        return [(child, root_from_leaves(_hashes(data))) for child, data in children.items()]

    # ---- from a tile downwards ----------------------------------------------------------------------------------

    async def _check_below(self, tile: Tile, data: bytes) -> None:
        """Check all that a tile stands for, which is proven itself."""
        if tile.level == 0:
            await self._check_entries({tile: data})
            return
        below = _children(tile)
        hashes = dict(zip(below, _hashes(data), strict=True))
        tiles = await self._tiles(below, lambda tiles: _check_tiles(tile, hashes, tiles))
        if tile.level == 1:
            await self._check_entries(tiles)
            return
        for one in below:
            await self._check_below(one, tiles[one])

    async def _check_entries(self, tiles: Mapping[Tile, bytes]) -> None:
        """Check the bundles of these tiles of level 0, which are proven."""
        waiting = {Bundle(tile.index, tile.width): data for tile, data in tiles.items()}
        while waiting:
            given = await self._fetcher.fetch(waiting, BUDGET)
            for bundle in [one for one in waiting if one in given]:
                _check_bundle(bundle, given[bundle], waiting.pop(bundle))
                self.count.entries += bundle.width
                self.count.size += len(given[bundle])
                self._told(self._checkpoint.size, self.count.entries)


def _right_edge(size: int) -> Iterator[Tile]:
    """The tiles of which no tile has a hash, from level 0 up: those that are not full."""
    level = 0
    while hashes := size >> (TILE_HEIGHT * level):
        index, width = divmod(hashes, TILE_WIDTH)
        if width:
            yield Tile(level, index, width)
        level += 1


def _children(tile: Tile) -> list[Tile]:
    """The tiles that its hashes stand for."""
    return [Tile(tile.level - 1, tile.index * TILE_WIDTH + place, TILE_WIDTH) for place in range(tile.width)]


def _check_tiles(above: Tile, hashes: Mapping[Tile, bytes], tiles: Mapping[Tile, bytes]) -> None:
    for tile, data in tiles.items():
        if (found := root_from_leaves(_hashes(data))) != hashes[tile]:
            raise ProofError(
                f"{tile.path()} is not the tile that was signed: it gives {found.hex()}, and {above.path()} has "
                f"{hashes[tile].hex()} for it"
            )


def _check_bundle(bundle: Bundle, data: bytes, tile: bytes) -> None:
    for place, (entry, signed) in enumerate(zip(_entries(bundle, data), _hashes(tile), strict=True)):
        if (found := leaf_hash(entry)) != signed:
            raise ProofError(
                f"{bundle.path()}: entry {bundle.index * TILE_WIDTH + place} is not the one that was signed: it has "
                f"the leaf hash {found.hex()}, and its tile has {signed.hex()}"
            )


def _entries(bundle: Bundle, data: bytes) -> list[bytes]:
    try:
        entries = decode_bundle(data)
    except FormatError as error:
        raise FormatError(f"{bundle.path()}: {error}") from None
    if len(entries) != bundle.width:
        raise FormatError(f"{bundle.path()} has {len(entries)} entries instead of {bundle.width}")
    return entries


def _hashes(tile: bytes) -> list[bytes]:
    return [tile[at : at + HASH_SIZE] for at in range(0, len(tile), HASH_SIZE)]
