"""What ties a bundle's leaves to its checkpoint: hashes out of the log's tiles, each proof checked before it is given.

A range proof is checked against the leaves as they were read (`Span`), so that a bundle whose log is damaged is not
made at all: whoever was given it would find it wrong as well, but could not tell damage from a lie.
"""

import json
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from translog import merkle
from translog.canonical import encode, to_base64
from translog.checkpoint import Checkpoint
from translog.errors import LogDamaged, NotPublished, ProofError
from translog.evidence import Evidence
from translog.log import Log
from translog.merkle import HASH_SIZE, Node
from translog.policy import Policy
from translog.proof import TlogProof
from translog.store import TilePlace, checkpoints, entries
from translog.tiles import TILE_HEIGHT, TILE_WIDTH, width_at

_TILES = 256
"""Tiles that are kept, with all the nodes above their hashes: 64 KiB each."""

_AT_ONCE = 500


class Tree:
    """The nodes of the tree of a checkpoint, from stored tiles, each of which is read and added up once."""

    def __init__(self, log: Log, checkpoint: Checkpoint) -> None:
        self._log = log
        self._checkpoint = checkpoint
        self._nodes = OrderedDict[TilePlace, list[list[bytes]]]()

    def read(self, nodes: Sequence[Node]) -> list[bytes]:
        """The hashes of complete subtrees: a `merkle.HashReader`. Raises LogDamaged if a tile is too short."""
        found: list[bytes] = []
        for node in nodes:
            level, height = divmod(node.level, TILE_HEIGHT)
            index, at = divmod(node.index << height, TILE_WIDTH)
            found.append(self._tile(TilePlace(level, index))[height][at >> height])
        return found

    def inclusion_proof(self, index: int) -> list[bytes]:
        """The hashes that prove leaf `index`, which is not checked yet."""
        return merkle.inclusion_proof(index, self._checkpoint.size, self.read)

    def _tile(self, place: TilePlace) -> list[list[bytes]]:
        nodes = self._nodes.get(place)
        if nodes is None:
            nodes = self._nodes[place] = _nodes_of(self._stored(place))
            if len(self._nodes) > _TILES:
                self._nodes.popitem(last=False)
        else:
            self._nodes.move_to_end(place)
        return nodes

    def _stored(self, place: TilePlace) -> list[bytes]:
        width = width_at(place.level, place.index, self._checkpoint.size)
        store = self._log.store
        with store.transactions.read() as tx:
            data = store.tiles(tx, [place]).get(place, b"")[: width * HASH_SIZE]
        if len(data) != width * HASH_SIZE:
            raise LogDamaged(f"tile {place.level}/{place.index} of {self._log.origin} is missing or too short")
        return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def _nodes_of(hashes: list[bytes]) -> list[list[bytes]]:
    """The complete subtrees over a tile's hashes, by their height above them."""
    levels = [hashes]
    for _ in range(TILE_HEIGHT - 1):
        below = levels[-1]
        levels.append([merkle.node_hash(left, right) for left, right in zip(below[::2], below[1::2], strict=False)])
    return levels


class Span:
    """Consecutive leaves as they come, added up into the complete subtrees that they fall into: few, however many."""

    def __init__(self, start: int) -> None:
        self.start = start
        self._added = start  # every leaf before that is in what was found
        self._waiting: list[bytes] = []
        self._found: list[tuple[Node, bytes]] = []

    @property
    def end(self) -> int:
        """The index after the last leaf."""
        return self._added + len(self._waiting)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """The next leaves, as they are logged."""
        self._waiting += map(merkle.leaf_hash, leaves)
        while self._waiting:
            # A tile's leaves at a time: to add up one by one takes three times as long.
            width = 1 if self._added % TILE_WIDTH else TILE_WIDTH
            if len(self._waiting) < width:
                return
            self._take(width)

    def _take(self, width: int) -> None:
        hashes, self._waiting = self._waiting[:width], self._waiting[width:]
        level = width.bit_length() - 1
        self._add(Node(level, self._added >> level), merkle.root_from_leaves(hashes))
        self._added += width

    def _add(self, node: Node, hash_: bytes) -> None:
        while node.index & 1 and self._found and self._found[-1][0] == (node.level, node.index - 1):
            hash_ = merkle.node_hash(self._found.pop()[1], hash_)
            node = Node(node.level + 1, node.index >> 1)
        self._found.append((node, hash_))

    def root(self, size: int, proof: Iterable[bytes]) -> bytes:
        """The root that these leaves, which are all, and a range proof give of a tree of `size`."""
        while self._waiting:
            self._take(1)
        beside, inside = iter(proof), dict(self._found)

        def hash_of(lower: int, upper: int) -> bytes:
            if lower >= self.end or upper <= self.start:
                return next(beside)
            level = (upper - lower - 1).bit_length()
            complete = inside.get(Node(level, lower >> level)) if upper - lower == 1 << level else None
            if complete is not None:
                return complete
            middle = lower + (1 << (level - 1))
            left = hash_of(lower, middle)
            return merkle.node_hash(left, hash_of(middle, upper))

        return hash_of(0, size)


class Proofs:
    """The proofs of one bundle: of entries of a log in the tree of the checkpoint that `note` is."""

    def __init__(self, log: Log, log_id: int, note: bytes, checkpoint: Checkpoint) -> None:
        self._log = log
        self._log_id = log_id
        self._note = note
        self._checkpoint = checkpoint
        self._tree = Tree(log, checkpoint)

    def range(self, span: Span) -> bytes:
        """`proof/range.json`, of these leaves."""
        size, root = self._checkpoint.size, self._checkpoint.root
        with self._proving():
            hashes = merkle.range_proof(span.start, span.end, size, self._tree.read)
            if span.root(size, hashes) != root:
                raise ProofError(f"leaves [{span.start}, {span.end}) of {size} lead to another root")
        return encode({"end": span.end, "hashes": _texts(hashes), "start": span.start})

    def entry(self, index: int) -> bytes:
        """A `.tlog-proof`: the entry at that index, with nothing opened."""
        with self._log.store.transactions.read() as tx:
            data = next(self._log.store.entries(tx, index, index + 1))
        return TlogProof(index, tuple(self._proved(index, data)), self._note, Evidence(data).encode()).encode()

    def later(self, indexes: Sequence[int]) -> Iterator[bytes]:
        """The lines of `proof/later.jsonl`: these entries, by index."""
        for at in range(0, len(indexes), _AT_ONCE):
            wanted = indexes[at : at + _AT_ONCE]
            found = self._entries(wanted)
            for index in wanted:
                data = found.get(index)
                if data is None:
                    raise LogDamaged(f"entry {index} of {self._log.origin} is missing")
                hashes = self._proved(index, data)
                line = {"entry": to_base64(data), "index": index, "proof": _texts(hashes)}
                yield json.dumps(line, separators=(",", ":")).encode() + b"\n"

    def consistency(self, previous: Checkpoint) -> bytes:
        """`proof/consistency.json`: from that checkpoint of the same log to this one."""
        old, new = previous, self._checkpoint
        with self._proving():
            hashes = merkle.consistency_proof(old.size, new.size, self._tree.read)
            merkle.verify_consistency(old.size, old.root, new.size, new.root, hashes)
        return encode({"hashes": _texts(hashes), "new_size": new.size, "old_size": old.size})

    def beyond(self, index: int) -> "Proofs":
        """The same for an entry beyond this checkpoint: under the first one that covers it, so always the same.

        One is published now if none does yet. Raises NotPublished if that is not possible.
        """
        log, wanted = self._log, _covering(self._log_id, index)
        with log.store.transactions.read() as tx:
            found = tx.execute(wanted).scalar_one_or_none()
        if found is None:
            log.publish()
            with log.store.transactions.read() as tx:
                found = tx.execute(wanted).scalar_one_or_none()
        if found is None:
            raise NotPublished(f"entry {index} of {log.origin} is not published")
        note = bytes(found)
        return Proofs(log, self._log_id, note, Policy.of(log.verifying_key).open(note))

    def _proved(self, index: int, data: bytes) -> list[bytes]:
        with self._proving():
            hashes = self._tree.inclusion_proof(index)
            checkpoint = self._checkpoint
            merkle.verify_inclusion(merkle.leaf_hash(data), index, checkpoint.size, hashes, checkpoint.root)
        return hashes

    def _entries(self, indexes: Sequence[int]) -> dict[int, bytes]:
        query = sa.select(entries.c.index, entries.c.data).where(
            entries.c.log_id == self._log_id, entries.c.index.in_(indexes)
        )
        with self._log.store.transactions.read() as tx:
            return {index: bytes(data) for index, data in tx.execute(query)}

    @contextmanager
    def _proving(self) -> Generator[None]:
        try:
            yield
        except ProofError as error:
            raise LogDamaged(
                f"the entries and tiles of {self._log.origin} contradict its checkpoint: {error}; `receiver fsck` "
                "lists what is wrong"
            ) from error


def _covering(log_id: int, index: int) -> sa.Select[bytes]:
    columns = checkpoints.c
    query = sa.select(columns.note).where(columns.log_id == log_id, columns.size > index)
    return query.order_by(columns.size).limit(1)


def _texts(hashes: Iterable[bytes]) -> list[str]:
    return [to_base64(one) for one in hashes]
