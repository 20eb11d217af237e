"""A log's tree, derived again from its entries while they go by, a bundle at a time, in flat memory.

What the entries give is compared with all that was ever derived from them: every tile, the head, every checkpoint, the
guard, and the index of leaf hashes.

Where an entry and its hash in the level-0 tile differ, one of the two was changed, and both are followed from there
on: the tree of the *entries* and the tree of the *tiles*. So one flipped byte is one fault and not one in each tile and
checkpoint above it, and the newest checkpoint, which belongs to one of the two trees, says which side was changed. A
missing entry is made up for by the hash in the tile; only where both are gone the tree cannot be followed any further.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from receiver.fsck.report import Notes
from translog import lookup
from translog.merkle import HASH_SIZE, Frontier, leaf_hash, root_from_leaves
from translog.store import leaf_buckets
from translog.store import tiles as tiles_table
from translog.tiles import TILE_HEIGHT, TILE_WIDTH, Tile


@dataclass(frozen=True, slots=True)
class Mark:
    """What somebody states of the tree: its first `size` leaves have this `root`."""

    size: int
    root: bytes
    place: str
    """Who states it: `head`, `checkpoint 17`, `guard`."""


@dataclass(slots=True)
class _Level:
    """The hashes of one level that fill no tile yet, in both trees, and the index of that tile."""

    index: int = 0
    entries: list[bytes] = field(default_factory=list[bytes])
    tiles: list[bytes] = field(default_factory=list[bytes])


class Derivation:
    """One log's tree. `add` takes its entries in order; `finish` compares what only the whole tree gives."""

    def __init__(self, tx: sa.Connection, log_id: int, size: int, marks: Iterator[Mark], notes: Notes) -> None:
        """`size` is what the head says; `marks` are in the order of their sizes."""
        self._tx = tx
        self._log_id = log_id
        self._size = size
        self._marks = marks
        self._mark = next(marks, None)
        self._notes = notes
        self._levels: list[_Level] = []
        self._entries = Frontier()
        self._tiles: Frontier | None = None  # the same as that of the entries until they part
        self._lost = False
        self._agrees: tuple[str, str] | None = None
        self._runs = self._indexed_runs()
        self._run_of_entries = bytearray()
        self._run_of_tiles = bytearray()
        self._extend(0, [], [])  # what is stated of no entries

    # ---- while the entries go by ------------------------------------------------------------------------------------

    def add(self, start: int, bundle: Sequence[bytes | None]) -> None:
        """Take the entries from `start`, a multiple of 256, on: 256 of them or those that end the log; None: missing.

        An entry that is missing is told of by the caller.
        """
        stored = self._read_tile(Tile(0, start // TILE_WIDTH, len(bundle)))
        own: list[bytes] = []
        held: list[bytes] = []
        for place, entry in enumerate(bundle):
            in_tile = stored[place * HASH_SIZE : (place + 1) * HASH_SIZE]
            if entry is None and len(in_tile) < HASH_SIZE:
                self.lose(start + place)
                break
            own.append(in_tile if entry is None else leaf_hash(entry))
            held.append(in_tile if len(in_tile) == HASH_SIZE else own[-1])
            if own[-1] != held[-1]:
                path = Tile(0, start // TILE_WIDTH, len(bundle)).path()
                self._notes.fault(
                    f"entry {start + place}", f"gives the leaf hash {own[-1].hex()}, {path} has {held[-1].hex()}"
                )
        if self._tiles is None and own != held:
            self._tiles = self._entries.copy()
        self._extend(start, own, held)
        self._push(0, own, held)
        self._index(own, held)

    @property
    def lost(self) -> bool:
        """Whether the tree can be followed no further: then there is no use in another `add`."""
        return self._lost

    def lose(self, index: int) -> None:
        """Give the tree up from an entry on of which nothing is kept."""
        if not self._lost:
            self._lost = True
            self._notes.remark(
                f"entry {index} is neither among the entries nor in the tiles, so what is derived from it, tiles, "
                "checkpoints and guard, cannot be checked"
            )

    def _extend(self, start: int, own: list[bytes], held: list[bytes]) -> None:
        at, stop = 0, len(own)
        while self._mark is not None and self._mark.size <= start + stop:
            upto = self._mark.size - start
            self._grow(own[at:upto], held[at:upto])
            at = upto
            self._compare(self._mark)
            self._mark = next(self._marks, None)
        self._grow(own[at:], held[at:])

    def _grow(self, own: list[bytes], held: list[bytes]) -> None:
        self._entries.extend(own)
        if self._tiles is not None:
            self._tiles.extend(held)

    def _compare(self, mark: Mark) -> None:
        root = self._entries.root()
        if mark.root == root:
            agrees = "entries"
        elif self._tiles is not None and mark.root == self._tiles.root():
            agrees = "tiles"
        else:
            self._notes.fault(
                mark.place, f"has root {mark.root.hex()} at size {mark.size}, the entries give {root.hex()}"
            )
            return
        if self._tiles is not None and self._tiles.root() != root and mark.place != "head":
            self._agrees = (mark.place, agrees)

    def _push(self, level: int, own: list[bytes], held: list[bytes]) -> None:
        """Add hashes to a level; of what fills a tile, hand the root on to the level above."""
        if level == len(self._levels):
            self._levels.append(_Level())
        row = self._levels[level]
        row.entries += own
        row.tiles += held
        if len(row.entries) == TILE_WIDTH:
            self._check_tile(level)
            above = root_from_leaves(row.entries)
            beside = above if row.tiles == row.entries else root_from_leaves(row.tiles)
            self._levels[level] = _Level(row.index + 1)
            self._push(level + 1, [above], [beside])

    def _check_tile(self, level: int) -> None:
        row = self._levels[level]
        if level == 0:
            return  # compared hash by hash as it went by
        tile = Tile(level, row.index, len(row.entries))
        stored = self._read_tile(tile)
        for place, (own, held) in enumerate(zip(row.entries, row.tiles, strict=True)):
            found = stored[place * HASH_SIZE : (place + 1) * HASH_SIZE]
            if len(found) == HASH_SIZE and found not in (own, held):
                self._notes.fault(tile.path(), f"hash {place} is {found.hex()}, the entries give {own.hex()}")

    def _read_tile(self, tile: Tile) -> bytes:
        """A tile as it is stored, its length checked; as long as it should be, or shorter."""
        columns = tiles_table.c
        found = self._tx.execute(
            sa.select(columns.data).where(
                columns.log_id == self._log_id, columns.level == tile.level, columns.index == tile.index
            )
        ).scalar_one_or_none()
        if found is None:
            self._notes.fault(tile.path(), "is missing")
            return b""
        self._notes.draft.tiles += 1
        if len(found) != tile.width * HASH_SIZE:
            self._notes.fault(tile.path(), f"has {len(found)} bytes, not {tile.width * HASH_SIZE}")
        return bytes(found[: tile.width * HASH_SIZE])

    # ---- the index of leaf hashes -----------------------------------------------------------------------------------

    def _indexed_runs(self) -> int:
        last = self._tx.execute(
            sa.select(sa.func.max(leaf_buckets.c.run)).where(leaf_buckets.c.log_id == self._log_id)
        ).scalar_one()
        return 0 if last is None else last + 1

    def _index(self, own: list[bytes], held: list[bytes]) -> None:
        self._run_of_entries += b"".join(own)
        self._run_of_tiles += b"".join(held)
        if len(self._run_of_entries) == lookup.RUN * HASH_SIZE:
            run = self._entries.size // lookup.RUN - 1
            if run < self._runs:
                self._check_run(run)
            self._run_of_entries.clear()
            self._run_of_tiles.clear()

    def _check_run(self, run: int) -> None:
        rows = self._tx.execute(
            sa.select(leaf_buckets.c.bucket, leaf_buckets.c.data).where(
                leaf_buckets.c.log_id == self._log_id, leaf_buckets.c.run == run
            )
        )
        stored = {bucket: bytes(data) for bucket, data in rows}
        own = lookup.sort_into_buckets(bytes(self._run_of_entries))
        held = lookup.sort_into_buckets(bytes(self._run_of_tiles))
        for bucket in range(lookup.BUCKETS):
            found = stored.pop(bucket, None)
            if found not in (own[bucket], held[bucket]):
                problem = "is missing" if found is None else "does not hold the run's leaf hashes"
                self._notes.fault(f"leaf bucket {bucket} of run {run}", problem)
        for bucket in sorted(stored):
            self._notes.fault(f"leaf bucket {bucket} of run {run}", f"is one too many; there are {lookup.BUCKETS}")

    # ---- at the end -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Compare what is left, and say for which of the two trees a checkpoint speaks, if they differ."""
        if not self._lost:
            for level, row in enumerate(self._levels):
                if row.entries:
                    self._check_tile(level)
            while self._mark is not None:
                self._notes.fault(self._mark.place, f"is of {self._mark.size} entries, the log has {self._size}")
                self._mark = next(self._marks, None)
        self._check_extra()
        if self._agrees is not None:
            place, right = self._agrees
            wrong = "tiles" if right == "entries" else "entries"
            self._notes.remark(
                f"where entries and tiles differ, the {wrong} were changed: the {place} is of what the {right} give"
            )

    def _check_extra(self) -> None:
        columns = tiles_table.c
        top = 0
        expected: list[sa.ColumnElement[bool]] = []
        while hashes := self._size >> (TILE_HEIGHT * top):
            count = -(-hashes // TILE_WIDTH)
            expected.append(sa.and_(columns.level == top, columns.index >= 0, columns.index < count))
            top += 1
        extra = sa.select(columns.level, columns.index).where(
            columns.log_id == self._log_id, sa.not_(sa.or_(sa.false(), *expected))
        )
        for level, index in self._tx.execute(extra.order_by(columns.level, columns.index)):
            self._notes.fault(f"tile of level {level}, index {index}", f"is one too many for {self._size} entries")
        beyond = (
            sa.select(leaf_buckets.c.run)
            .distinct()
            .where(leaf_buckets.c.log_id == self._log_id, leaf_buckets.c.run >= self._size // lookup.RUN)
        )
        for (run,) in self._tx.execute(beyond.order_by(leaf_buckets.c.run)):
            self._notes.fault(
                f"leaf buckets of run {run}", f"are of leaves that a log of {self._size} entries does not have"
            )
