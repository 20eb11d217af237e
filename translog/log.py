"""The writer: a log that is appended to inside the caller's transaction, and signed in transactions of its own.

    with transactions.write() as tx:
        head = log.lock(tx)                          # leaves that carry a time are built now, under the lock
        appended = log.append(tx, [b"an entry"], logged_at="2026-11-20T09:00:00.000000Z")
    log.confirm(appended.head)                       # only after the commit
    log.publish()                                    # at most once a second, by whoever comes first

Any number of processes may share a log: the lock on its head row is the only coordination, and it ends with the
transaction. Between two batches each process remembers the tree's right edge; it is used only if the locked head is
exactly the one it belongs to, and is read again from the tiles otherwise, so a rolled-back batch, a lost
acknowledgement of a commit, or another writer can never leave a wrong edge in use.

Readers only ever see what a signed checkpoint covers.
"""

import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import sqlalchemy as sa

from translog import lookup, merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, LogDamaged, LogRegressed, NotPublished, ProofError, StoreError, TranslogError
from translog.guard import Guard, Held, must_continue
from translog.merkle import HASH_SIZE, Frontier, HashReader
from translog.note import SigningKey, VerifyingKey
from translog.policy import Policy
from translog.store import Head, Published, Store, TilePlace
from translog.tiles import MAX_ENTRY_SIZE, TILE_HEIGHT, TILE_WIDTH, Bundle, Tile, encode_bundle, hash_reader, width_at

CACHED_TILES = 4096  # full ones, 8 KiB each


class Appended(NamedTuple):
    """What one append came to: the index of its first entry, the leaf hashes in order, and the head to confirm."""

    start: int
    leaf_hashes: list[bytes]
    head: Head


class _Edge(NamedTuple):
    """The right edge of the tree at one head: its frontier, and each level's partial tile (empty where it is full)."""

    head: Head
    frontier: Frontier
    tails: list[bytes]


class Log:
    """One log: its origin, the key it signs with, its store, and the guard that it is held to (None: none is).

    Given a verifying key alone the log is closed: it can be read, and neither grows nor signs any more.
    """

    def __init__(self, origin: str, key: SigningKey | VerifyingKey, store: Store, guard: Guard | None) -> None:
        self.origin = origin
        self.store = store
        self.guard = guard
        self._key = key if isinstance(key, SigningKey) else None
        self.verifying_key: VerifyingKey = key.verifying_key() if isinstance(key, SigningKey) else key
        self._policy = Policy.of(self.verifying_key)
        self._edge: _Edge | None = None
        self._seen = Head(0, merkle.EMPTY_ROOT, "")
        self._seen_lock = threading.Lock()
        self._published: Published | None = None
        self._serve_lock = threading.Lock()
        self._full_tiles: OrderedDict[TilePlace, bytes] = OrderedDict()
        self._full_tiles_lock = threading.Lock()

    # ---- writing ------------------------------------------------------------------------------------------------

    def lock(self, tx: sa.Connection) -> Head:
        """Lock the head until the transaction ends, and give it. The transaction must begin with this.

        Raises LogRegressed if the head is behind what this process has seen committed, or of that size with another
        root: then nothing may be written, since the database is not the one it was. Raises StoreError if it is closed.
        """
        self._signing_key()
        head = self.store.lock_head(tx)
        self._must_not_regress(head)
        if self._edge is None or self._edge.head != head:
            self._edge = self._read_edge(tx, head)
        return head

    def append(self, tx: sa.Connection, entries: Sequence[bytes], logged_at: str) -> Appended:
        """Append entries (bytes, at most 65,535 each) under the lock; `logged_at` becomes the head's time.

        Nothing is durable, and nothing may be acknowledged, before the caller's commit. Raises FormatError for an
        entry that is too large, and LogRegressed without the lock.
        """
        largest = max(map(len, entries), default=0)
        if largest > MAX_ENTRY_SIZE:
            raise FormatError(f"an entry for {self.origin} has {largest} bytes; it may have {MAX_ENTRY_SIZE}")
        edge, self._edge = self._edge, None  # whatever fails from here on, this edge is not used again
        if edge is None:
            raise LogRegressed(f"append to {self.origin} without its lock")
        leaf_hashes = [merkle.leaf_hash(entry) for entry in entries]
        frontier = edge.frontier
        frontier.extend(leaf_hashes)
        tiles, tails = _grow(edge.head.size, edge.tails, leaf_hashes)
        head = Head(frontier.size, frontier.root(), logged_at)
        self.store.append(tx, edge.head, head, entries, tiles)
        self._edge = _Edge(head, frontier, tails)
        return Appended(edge.head.size, leaf_hashes, head)

    def confirm(self, head: Head) -> None:
        """Remember that this head was committed, so that a database put back behind it is noticed."""
        with self._seen_lock:
            if head.size > self._seen.size:
                self._seen = head

    def _signing_key(self) -> SigningKey:
        if self._key is None:
            raise StoreError(f"{self.origin} is closed: it neither grows nor signs, and a successor log goes on for it")
        return self._key

    def _must_not_regress(self, head: Head) -> None:
        seen = self._seen
        self.confirm(head)
        self._must_continue(seen, head)

    def _must_continue(self, seen: Head, head: Head) -> None:
        if head.size < seen.size or (head.size == seen.size and head.root != seen.root):
            raise LogRegressed(
                f"the head of {self.origin} is at size {head.size} with root {head.root.hex()}, but this process has "
                f"seen size {seen.size} with root {seen.root.hex()}: the database was replaced while it was in use. "
                "Nothing is written to it any more; restart, and follow what the guard says then"
            )

    def _read_edge(self, tx: sa.Connection, head: Head) -> _Edge:
        frontier = Frontier.at(head.size, self._stored_hashes(tx, head.size))
        if frontier.root() != head.root:
            raise LogDamaged(
                f"the tiles of {self.origin} give root {frontier.root().hex()} at size {head.size}, its head says "
                f"{head.root.hex()}; `receiver fsck` lists what is wrong"
            )
        places: list[TilePlace] = []
        level = 0
        while head.size >> (TILE_HEIGHT * level):
            places.append(TilePlace(level, head.size >> (TILE_HEIGHT * (level + 1))))
            level += 1
        rows = self.store.tiles(tx, places)
        tails = [rows.get(place, b"")[: width_at(place.level, place.index, head.size) * HASH_SIZE] for place in places]
        return _Edge(head, frontier, tails)

    # ---- publishing ---------------------------------------------------------------------------------------------

    def publish(self) -> Checkpoint | None:
        """Sign the committed head, if it has moved; the checkpoint signed, or None if there was nothing new.

        Proves first that the head is a true continuation of the last checkpoint, hashing the new entries again from
        their rows, that the tiles at the edge give the head's root, and that the guard's checkpoint is one of this
        log's own; the guard is held meanwhile. It is written before the database: a crash in between leaves a guard
        that the database still reaches, since its entries are committed. The first checkpoint is always of size 0.

        Raises LogRegressed or LogDamaged where that does not hold, or if the head is behind what this process has seen
        committed; then nothing was signed. Raises StoreError if the log is closed.
        """
        key = self._signing_key()
        guarded = None if self.guard is None else self.guard.read(self.verifying_key)
        seen = self._seen  # before the head is read: it may be confirmed further at any moment
        with self.store.transactions.read() as tx:
            last, head = self._survey(tx, guarded)
        if head.size < seen.size:
            self._must_continue(seen, head)
        if last is not None and last.size == head.size:
            self._take_up(last)
            return None
        with self._hold() as held:
            with self.store.transactions.read() as tx:
                last, head = self._survey(tx, None if held is None else held.checkpoint)
                if last is None:
                    # Every log's first checkpoint is of no entries, even where the process that made it died first.
                    head = Head(0, merkle.EMPTY_ROOT, "")
                elif last.size == head.size:
                    return None  # another receiver was faster; its checkpoint is picked up by the next call
                else:
                    self._check_continuation(tx, last, head)
            checkpoint = Checkpoint(self.origin, head.size, head.root)
            signed = Published(head.size, head.root, note.sign(checkpoint.text, key))
            with self.store.transactions.write() as tx:
                if self.store.lock_published(tx) != last:
                    return None  # the same, by a receiver with a guard of its own
                if held is not None:
                    held.advance(signed.note)
                self.store.publish(tx, signed)
        self._serve(signed)
        return checkpoint

    def check(self) -> None:
        """Refuse a database that was put back or regrown, as at every start. Raises LogRegressed or LogDamaged."""
        with self._hold() as held:
            with self.store.transactions.read() as tx:
                last, head = self._survey(tx, None if held is None else held.checkpoint)
                self._check_continuation(tx, last, head)
            if held is not None and last is not None:
                held.advance(last.note)
        if last is not None:
            self._serve(last)

    def index_leaves(self) -> bool:
        """Sort one more run of published leaves by their hashes (`translog.lookup`); False if none is full yet."""
        with self.store.transactions.read() as tx:
            run = self.store.leaf_runs(tx)
            if (run + 1) * lookup.RUN > self.published_size:
                return False
            first = run * lookup.RUN // TILE_WIDTH
            tiles = [Tile(0, first + offset, TILE_WIDTH) for offset in range(lookup.RUN // TILE_WIDTH)]
            buckets = lookup.sort_into_buckets(b"".join(self._tiles(tx, tiles)))
        with self.store.transactions.write() as tx:
            self.store.lock_published(tx)
            if self.store.leaf_runs(tx) == run:
                self.store.add_leaf_run(tx, run, buckets)
        return True

    def _hold(self) -> AbstractContextManager[Held | None]:
        return nullcontext() if self.guard is None else self.guard.hold(self.verifying_key)

    def _survey(self, tx: sa.Connection, guarded: Checkpoint | None) -> tuple[Published | None, Head]:
        """The newest checkpoint and the head, whose tree is found to continue what the guard said.

        The guard is to be read before the transaction begins: another receiver may move both on at any moment.
        """
        last = self._last(tx)
        head = self.store.head(tx)
        must_continue(guarded, head.size, lambda size: merkle.tree_root(size, self._stored_hashes(tx, size)))
        if last is not None and head.size == last.size:
            self._must_be(last.root, head.root, head.size, "its head", "the published checkpoint")
        return last, head

    def _last(self, tx: sa.Connection) -> Published | None:
        """The newest checkpoint in the store. Raises LogDamaged if its row is not what this log signed."""
        last = self.store.published(tx)
        if last is None or last == self._published:
            return last
        try:
            signed = self._policy.open(last.note)
        except TranslogError as error:
            raise LogDamaged(f"the checkpoint that {self.origin} keeps for size {last.size}: {error}") from error
        if (signed.size, signed.root) != (last.size, last.root):
            raise LogDamaged(
                f"{self.origin} keeps a checkpoint for size {last.size} and root {last.root.hex()} that was signed for "
                f"size {signed.size} and root {signed.root.hex()}; `receiver fsck` lists what is wrong"
            )
        return last

    def _check_continuation(self, tx: sa.Connection, last: Published | None, head: Head) -> None:
        size, root = (0, merkle.EMPTY_ROOT) if last is None else (last.size, last.root)
        if head.size < size:
            raise LogRegressed(f"{self.origin} holds {head.size} entries but has published {size}")
        frontier = Frontier.at(size, self._stored_hashes(tx, size))
        self._must_be(root, frontier.root(), size, "its tiles", "the published checkpoint")
        frontier.extend(merkle.leaf_hash(entry) for entry in self.store.entries(tx, size, head.size))
        self._must_be(head.root, frontier.root(), head.size, "its entries", "its head")
        tiles_root = merkle.tree_root(head.size, self._stored_hashes(tx, head.size))
        self._must_be(head.root, tiles_root, head.size, "its tiles", "its head")

    def _must_be(self, expected: bytes, found: bytes, size: int, finder: str, expecter: str) -> None:
        if expected != found:
            raise LogDamaged(
                f"{self.origin} at size {size}: {finder} gives root {found.hex()}, {expecter} {expected.hex()}; "
                "`receiver fsck` lists what is wrong"
            )

    def _take_up(self, last: Published) -> None:
        """Serve a checkpoint that is in the store, whoever signed it: no guard is behind what is served.

        The guard is moved on only to a checkpoint of the very tree that continues the guard's.
        """
        if last.size <= self.published_size and self._published is not None:
            return
        if self.guard is not None:
            with self._hold() as held, self.store.transactions.read() as tx:
                self._survey(tx, None if held is None else held.checkpoint)
                root = merkle.tree_root(last.size, self._stored_hashes(tx, last.size))
                self._must_be(last.root, root, last.size, "its tiles", "the published checkpoint")
                if held is not None:
                    held.advance(last.note)
        self._serve(last)

    def _serve(self, published: Published) -> None:
        with self._serve_lock:
            if self._published is None or published.size > self._published.size:
                self._published = published

    # ---- reading ------------------------------------------------------------------------------------------------

    @property
    def published(self) -> Published:
        """The newest checkpoint this process has seen. Raises NotPublished before the first."""
        if self._published is None:
            raise NotPublished(f"{self.origin} has not published a checkpoint yet")
        return self._published

    @property
    def published_size(self) -> int:
        """Its size; 0 before the first."""
        return 0 if self._published is None else self._published.size

    def refresh(self) -> None:
        """Pick up the newest checkpoint from the store. Raises LogRegressed if the guard contradicts it."""
        with self.store.transactions.read() as tx:
            last = self._last(tx)
        if last is not None:
            self._take_up(last)

    def head(self) -> Head:
        """The committed head: it may be ahead of what is published."""
        with self.store.transactions.read() as tx:
            return self.store.head(tx)

    def checkpoint_of(self, size: int) -> bytes | None:
        """The note signed for exactly that size, or None."""
        if size > self.published_size:
            return None
        with self.store.transactions.read() as tx:
            return self.store.checkpoint(tx, size)

    def inclusion_proof(self, index: int, size: int) -> tuple[list[bytes], bytes, bytes]:
        """The hashes that prove leaf `index` in the tree of `size`, its leaf hash, and the root.

        What is given was verified, up to the newest checkpoint. Raises NotPublished if `size` is beyond that one or
        `index` beyond `size`, and LogDamaged if the tiles give no proof.
        """
        self._must_be_published(size)
        if index >= size:
            raise NotPublished(f"index {index} is not in a tree of size {size}")
        with self.store.transactions.read() as tx:
            read = self._hashes(tx, size)
            proof = merkle.inclusion_proof(index, size, read)
            leaf = read([merkle.Node(0, index)])[0]
            with self._proving():
                root = self._proved_root(tx, size)
                merkle.verify_inclusion(leaf, index, size, proof, root)
            return proof, leaf, root

    def consistency_proof(self, old_size: int, new_size: int) -> tuple[list[bytes], bytes, bytes]:
        """The hashes that prove the tree of `old_size` to be the beginning of that of `new_size`, and both roots.

        What is given was verified, up to the newest checkpoint. Raises NotPublished if either size is beyond that
        one, LogDamaged if the tiles give no proof, and ValueError if `old_size` is the greater.
        """
        self._must_be_published(max(old_size, new_size))
        with self.store.transactions.read() as tx:
            read = self._hashes(tx, new_size)
            proof = merkle.consistency_proof(old_size, new_size, read)
            old_root = merkle.tree_root(old_size, read)
            with self._proving():
                new_root = self._proved_root(tx, new_size)
                merkle.verify_consistency(old_size, old_root, new_size, new_root, proof)
            return proof, old_root, new_root

    def _proved_root(self, tx: sa.Connection, size: int) -> bytes:
        """The root at a published size, proved to be where the newest checkpoint's tree began."""
        last = self.published
        read = self._hashes(tx, last.size)
        root = merkle.tree_root(size, read)
        proof = merkle.consistency_proof(size, last.size, read)
        merkle.verify_consistency(size, root, last.size, last.root, proof)
        return root

    @contextmanager
    def _proving(self) -> Generator[None]:
        # Whoever is given a proof would find it wrong as well, but could not tell damage from a lie.
        try:
            yield
        except ProofError as error:
            raise LogDamaged(
                f"the tiles of {self.origin} contradict its checkpoint: {error}; `receiver fsck` lists what is wrong"
            ) from error

    def entry(self, index: int) -> bytes:
        """The entry at an index that is published. Raises NotPublished otherwise, LogDamaged if it is not the leaf."""
        size = self.published_size
        if index >= size:
            raise NotPublished(f"entry {index} is not published")
        with self.store.transactions.read() as tx:
            leaf = self._hashes(tx, size)([merkle.Node(0, index)])[0]
            entry = next(self.store.entries(tx, index, index + 1))
        if merkle.leaf_hash(entry) != leaf:
            raise LogDamaged(f"entry {index} of {self.origin} is not what its leaf hash was made from")
        return entry

    def find_leaf(self, leaf_hash: bytes) -> int | None:
        """The index of the first committed leaf found with that 32-byte hash, published or not yet; None if none is."""
        with self.store.transactions.read() as tx:
            size = self.store.head(tx).size
            first_unsorted = self.store.leaf_runs(tx) * lookup.RUN  # asked first: a run added meanwhile is seen twice
            for run, bucket in self.store.leaf_bucket(tx, lookup.bucket_of(leaf_hash)):
                for place in lookup.search_bucket(bucket, leaf_hash):
                    index = run * lookup.RUN + place
                    # A run that was indexed since the head was read may be ahead of it.
                    if index < size and self._hashes(tx, size)([merkle.Node(0, index)])[0] == leaf_hash:
                        return index
            for start in range(first_unsorted, size, TILE_WIDTH):
                index = start // TILE_WIDTH
                tile = self._tiles(tx, [Tile(0, index, width_at(0, index, size))])[0]
                found = lookup.search_tile(tile, leaf_hash)
                if found is not None:
                    return start + found
        return None

    def tile(self, tile: Tile) -> bytes | None:
        """A tile of the published tree, or None if that tree has none of that level, index and width."""
        if not self.covers(tile):
            return None
        cached = self.cached_tile(tile)
        if cached is not None:
            return cached
        with self.store.transactions.read() as tx:
            return self._tiles(tx, [tile])[0]

    def covers(self, tile: Tile) -> bool:
        """Whether the published tree has that tile, of that width or a greater."""
        return tile.width <= width_at(tile.level, tile.index, self.published_size)

    def cached_tile(self, tile: Tile) -> bytes | None:
        """The same, only if it is in memory: for callers that must not wait."""
        with self._full_tiles_lock:
            place = TilePlace(tile.level, tile.index)
            data = self._full_tiles.get(place)
            if data is None:
                return None
            self._full_tiles.move_to_end(place)
        return data[: tile.width * HASH_SIZE]

    def bundle(self, bundle: Bundle) -> bytes | None:
        """An entry bundle of the published tree, or None if that tree has none of that index and width."""
        if bundle.width > width_at(0, bundle.index, self.published_size):
            return None
        start = bundle.index * TILE_WIDTH
        with self.store.transactions.read() as tx:
            return encode_bundle(list(self.store.entries(tx, start, start + bundle.width)))

    def _must_be_published(self, size: int) -> None:
        if size > self.published_size:
            raise NotPublished(f"size {size} is beyond the newest checkpoint of {self.origin}, {self.published_size}")

    def _hashes(self, tx: sa.Connection, size: int) -> HashReader:
        return hash_reader(size, lambda tiles: self._tiles(tx, tiles))

    def _stored_hashes(self, tx: sa.Connection, size: int) -> HashReader:
        """The same from the rows as they are now, never from memory: for all that is to notice another database."""
        return hash_reader(size, lambda tiles: self._stored_tiles(tx, tiles))

    def _tiles(self, tx: sa.Connection, tiles: Sequence[Tile]) -> list[bytes]:
        found = {tile: data for tile in tiles if (data := self.cached_tile(tile)) is not None}
        missing = [tile for tile in tiles if tile not in found]
        found.update(zip(missing, self._stored_tiles(tx, missing), strict=True))
        return [found[tile] for tile in tiles]

    def _stored_tiles(self, tx: sa.Connection, tiles: Sequence[Tile]) -> list[bytes]:
        rows = self.store.tiles(tx, [TilePlace(tile.level, tile.index) for tile in tiles])
        result: list[bytes] = []
        for tile in tiles:
            place = TilePlace(tile.level, tile.index)
            row = rows.get(place, b"")
            data = row[: tile.width * HASH_SIZE]
            if len(data) != tile.width * HASH_SIZE:
                raise LogDamaged(f"{tile.path()} of {self.origin} is missing or too short")
            if len(row) == TILE_WIDTH * HASH_SIZE:
                self._remember(place, row)
            result.append(data)
        return result

    def _remember(self, place: TilePlace, data: bytes) -> None:
        with self._full_tiles_lock:
            self._full_tiles[place] = data
            if len(self._full_tiles) > CACHED_TILES:
                self._full_tiles.popitem(last=False)


def _grow(size: int, tails: list[bytes], leaf_hashes: list[bytes]) -> tuple[dict[TilePlace, bytes], list[bytes]]:
    """The tiles that change when leaves are added to a tree of `size`, and each level's new partial tile."""
    changed: dict[TilePlace, bytes] = {}
    grown = list(tails)
    level, coming = 0, leaf_hashes
    full = TILE_WIDTH * HASH_SIZE
    while coming:
        if level == len(grown):
            grown.append(b"")
        index = size >> (TILE_HEIGHT * (level + 1))
        data = grown[level] + b"".join(coming)
        coming: list[bytes] = []
        while len(data) >= full:
            changed[TilePlace(level, index)], data = data[:full], data[full:]
            whole = changed[TilePlace(level, index)]
            coming.append(merkle.root_from_leaves([whole[at : at + HASH_SIZE] for at in range(0, full, HASH_SIZE)]))
            index += 1
        if data:
            changed[TilePlace(level, index)] = data
        grown[level] = data
        level += 1
    return changed, grown
