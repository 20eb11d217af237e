"""Following a log: what to fetch next, and what is proven by what was fetched.

A pure state machine. Whoever has the network offers it a checkpoint, fetches what each `Fetch` names and gives it,
until it says that everything is read:

    follower = Follower(policy, state)
    step = follower.offer(checkpoint)
    while isinstance(step, Fetch | Read):
        if isinstance(step, Read):
            …                                   # take step.entries and keep step.state, together
            step = follower.go_on()
        else:
            step = follower.give(fetched(step.resources))

Its rules:

1. The first checkpoint is taken on its signatures: the policy must accept it (`Policy.open`). Under one that it does
   not accept, as when witnesses are asked for since, nothing is read, and nothing is current.
2. A later one is of the same origin. If its size is another one, hashes from tiles must lead to the root of the larger
   of the two, and the root that they give for the smaller size must be the smaller one's. Then a larger checkpoint that
   the policy accepts takes the place of the last. A smaller one is only told (`Behind`), and nothing moves. One of
   equal size and root, signed anew, takes its place if the policy accepts it.
3. A fork is two checkpoints that the log itself signed (`Policy.open_log`: no quorum is asked) and that cannot both be
   true: of equal size with different roots, or hashes that lead to the root of the larger one and give another root
   for the smaller size. It is told with what proves it (`Forked`), and from then on nothing is believed any more.
4. What the log has signed counts, also if it does not show what is in it, or the quorum lacks. So a checkpoint that
   cannot be compared yet is kept (`State.unproven`) before its tiles are asked for. Every later one is compared with
   it: at once if it is of the same size, by its own tiles if it is larger; a smaller one was by those of the last
   checkpoint. It is dropped once that shows that the log continues both. There is one such checkpoint, the first: what
   comes while that is unproven does not push it out, and is not remembered.
5. Entries are believed in chunks. The tree of all that was believed before, grown by a chunk, must have the root of the
   checkpoint if it is of that size; else hashes that lead to the checkpoint's root must give the same root for the
   size that it has.
6. Whatever else does not verify is an error: it says nothing about the log, for anything on the way may have changed
   it. It leaves the state as it was, and `go_on` says what to fetch for another try.
7. The state only moves forward: to a checkpoint that continues the last, to entries that continue those before. Each
   time it changes there is a `Read`, of no entries where it is a checkpoint that was taken, kept as unproven, or
   dropped. Any state that was given out can be kept, and followed on from, without gap or repetition.

A chunk ends at the end of a bundle, or at the size of the checkpoint: the next one then begins within a bundle, whose
first entries were believed before and are left out. Memory is bounded by a chunk, and one new entry costs the few
tiles that prove the growth and one bundle.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from translog import merkle
from translog.canonical import decimal, from_base64, to_base64
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, ProofError, SignatureError
from translog.fork import Fork
from translog.merkle import EMPTY_ROOT, HASH_SIZE, MAX_SIZE, Frontier, HashReader
from translog.note import Note
from translog.policy import Policy
from translog.tiles import TILE_WIDTH, Bundle, Resource, Tile, decode_bundle, hash_reader, tiles_needed, width_at

__all__ = [
    "HEADER",
    "MAX_BUNDLES",
    "Behind",
    "Current",
    "Fetch",
    "Follower",
    "Forked",
    "Read",
    "State",
    "Step",
    "frontier_tiles",
    "proven_frontier",
]

HEADER = "translog-state@v1"
_UNPROVEN = "unproven "

MAX_BUNDLES = 64
"""Entry bundles of a chunk: 16,384 entries at most."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a log was followed: all there is to keep. `State()` is the beginning.

    `note` is the last verified checkpoint, verbatim, None before the first. `size` entries were believed, no more than
    it has, and `peaks` are the frontier of their tree (`merkle.Frontier`). `unproven` is a checkpoint of another size
    that the log has signed, and of which it was not proven yet, or not accepted, that it continues what is known.
    Raises `FormatError` when built of what cannot be; whether the checkpoints are signed, only a `Follower` looks.
    """

    note: bytes | None = None
    size: int = 0
    peaks: tuple[bytes, ...] = ()
    unproven: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.peaks) != self.size.bit_count():
            raise FormatError(f"state: a tree of {self.size} entries does not consist of {len(self.peaks)} peaks")
        for peak in self.peaks:
            if len(peak) != HASH_SIZE:
                raise FormatError(f"state: a peak has {len(peak)} bytes; every hash has {HASH_SIZE}")
        checkpoint = self.unverified_checkpoint()
        size, root = (0, EMPTY_ROOT) if checkpoint is None else (checkpoint.size, checkpoint.root)
        if self.size > size:
            raise FormatError(f"state: {self.size} entries were believed, but the checkpoint has {size}")
        if self.size == size and self.frontier().root() != root:
            raise FormatError(f"state: the peaks of {size} entries do not give the root of the checkpoint")
        if self.unproven is not None:
            unproven = _unverified(self.unproven)
            if checkpoint is not None and (unproven.origin != checkpoint.origin or unproven.size == checkpoint.size):
                raise FormatError(
                    f"state: the unproven checkpoint is of {unproven.size} entries of {unproven.origin!r}, the last of "
                    f"{checkpoint.size} of {checkpoint.origin!r}: it has to be of the same log, and of another size"
                )

    @classmethod
    def parse(cls, data: bytes) -> "State":
        """The state whose encoding is exactly `data`. Raises `FormatError` for anything else."""
        head, empty_line, note = data.partition(b"\n\n")
        if not empty_line or not head.isascii():
            raise FormatError("state: expected lines of ASCII, an empty line, and the last checkpoint if there is one")
        header, *lines = head.decode().split("\n")
        if header != HEADER:
            raise FormatError(f"state: the first line is {header[:80]!r}, not {HEADER}")
        if not lines or not lines[0].startswith("size "):
            raise FormatError("state: expected a line with the size behind the first")
        size = decimal(lines[0].removeprefix("size "), "state size", MAX_SIZE)
        unproven = None
        if lines[-1].startswith(_UNPROVEN):
            unproven = from_base64(lines.pop().removeprefix(_UNPROVEN), "state unproven")
        return cls(note or None, size, tuple(from_base64(line, "state peak") for line in lines[1:]), unproven)

    def encode(self) -> bytes:
        """The state as text in UTF-8: a header, the size, the peaks in base64, an empty line, the checkpoint.

        An unproven checkpoint is a line of its own behind the peaks, in base64.
        """
        lines = [HEADER, f"size {self.size}", *(to_base64(peak) for peak in self.peaks)]
        if self.unproven is not None:
            lines.append(f"{_UNPROVEN}{to_base64(self.unproven)}")
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + (self.note or b"")

    def frontier(self) -> Frontier:
        """The frontier of the entries believed so far."""
        return Frontier(self.size, list(self.peaks))

    def unverified_checkpoint(self) -> Checkpoint | None:
        """What the last checkpoint says: no signature is looked at."""
        return None if self.note is None else _unverified(self.note)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch these and give them: either tiles, all of them, or entry bundles, of which the first few will do."""

    resources: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """Entries [start, start + len(entries)) are proven; `state` is behind them. `go_on` says what is next.

    Without entries, what is new in the state is its checkpoint, or the unproven one. It is to be kept like any other,
    before anything else is asked for: what a log has signed counts, also if it never shows what is in it.
    """

    start: int
    entries: list[bytes]
    state: State

    @property
    def note(self) -> bytes:
        """The checkpoint under which they were proven, verbatim."""
        if self.state.note is None:
            raise ValueError("nothing is read without a checkpoint")
        return self.state.note


@dataclass(frozen=True, slots=True)
class Current:
    """Everything up to the newest verified checkpoint is read."""


@dataclass(frozen=True, slots=True)
class Behind:
    """The checkpoint offered is an older one of the same log, of that size. Nothing moves."""

    size: int


@dataclass(frozen=True, slots=True)
class Forked:
    """The log has signed two checkpoints that cannot both be true. Final: nothing is believed any more."""

    fork: Fork


Step: TypeAlias = Fetch | Read | Current | Behind | Forked


@dataclass(frozen=True, slots=True)
class _Signed:
    """A checkpoint whose signatures were verified, and its bytes."""

    note: bytes
    checkpoint: Checkpoint

    @property
    def size(self) -> int:
        """Of the tree."""
        return self.checkpoint.size


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Entries that wait for the tiles that prove them, and the frontier behind them."""

    entries: list[bytes]
    frontier: Frontier


class Follower:
    """Follows one log; the rules are above. What it is given may come from anybody, the state may not."""

    def __init__(self, policy: Policy, state: State | None = None) -> None:
        """Begin at `state`, or at the beginning.

        Raises `SignatureError` if the state's checkpoint is not signed by a log of the policy. So a key that a log has
        given up stays in the policy until a checkpoint with the new one was followed. An unproven checkpoint that no
        log of the policy signed does not count any more.
        """
        self._policy = policy
        self._state = state or State()
        note = self._state.note
        self._last = None if note is None else _Signed(note, policy.open_log(note))
        self._accepted: _Signed | None = None
        """The last checkpoint, once the policy was seen to accept it."""
        self._unproven = self._signed_once(self._state.unproven)
        self._offered: _Signed | None = None
        self._refused: _Signed | None = None
        """A checkpoint that continues what is known, is kept as unproven, and that the policy does not accept."""
        self._chunk: _Chunk | None = None
        self._forked: Forked | None = None

    @property
    def state(self) -> State:
        """The newest state."""
        return self._state

    def offer(self, note: bytes) -> Step:
        """Take a checkpoint that was fetched. What another one is waiting for is forgotten.

        Raises `FormatError` if it is none, `SignatureError` if it is not signed as it has to be or is another log's,
        and `ProofError` for one that no log can have.
        """
        if self._forked is not None:
            return self._forked
        self._offered = self._refused = self._chunk = None
        last = self._last
        offered = last if last is not None and note == last.note else _Signed(note, self._policy.open_log(note))
        checkpoint = offered.checkpoint
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            raise ProofError(f"{checkpoint.origin} signed {checkpoint.root.hex()} as the root of no entries")
        if last is not None and checkpoint.origin != last.checkpoint.origin:
            raise SignatureError(
                f"a checkpoint of {checkpoint.origin!r}; the log that is followed is {last.checkpoint.origin!r}"
            )
        if self._unproven is not None and self._unproven.checkpoint.origin != checkpoint.origin:
            self._unproven = None  # nothing is followed as yet, and the policy has several logs
        for known in (last, self._unproven):
            if known is not None and known.size == checkpoint.size and known.checkpoint.root != checkpoint.root:
                return self._freeze(Fork(known.note, note, checkpoint.root, ()))
        self._offered = offered
        _, smaller = self._compared(offered)
        if smaller and self._unproven is None:
            self._unproven = offered
            return self._moved()
        return self.go_on()

    def give(self, resources: Mapping[Resource, bytes]) -> Step:
        """Take what the last `Fetch` named: all its tiles, or at least the first of its bundles.

        Raises `FormatError` or `ProofError` if it does not verify, and `SignatureError` if the checkpoint offered is
        proven to continue the last but the policy does not accept it. Raises `ValueError` for what was not asked for.
        """
        if self._offered is not None:
            return self._compare(self._offered, resources)
        if self._chunk is not None:
            return self._prove(self._chunk, resources)
        match self.go_on():
            case Fetch(wanted):
                return self._decode(wanted, resources)
            case _:
                raise ValueError("nothing was asked for")

    def go_on(self) -> Step:
        """Say what is next.

        Raises `SignatureError` for a checkpoint that the policy does not accept, which was told before as unproven, or
        is the last of a state that was kept under another policy. Raises `ValueError` before the first was offered.
        """
        if self._forked is not None:
            return self._forked
        if self._offered is not None:
            larger, smaller = self._compared(self._offered)
            if not smaller:
                return self._compare(self._offered, {})
            tiles = [tile for one in smaller for tile in frontier_tiles(one.size, larger.size)]
            return Fetch(tuple(dict.fromkeys(tiles)))
        if self._refused is not None:
            refused, self._refused = self._refused, None
            self._policy.open(refused.note)
        last = self._newest()
        if self._accepted is not last:
            self._policy.open(last.note)
            self._accepted = last
        if self._chunk is not None:
            return Fetch(tuple(frontier_tiles(self._chunk.frontier.size, last.size)))
        if self._state.size == last.size:
            return Current()
        first = self._state.size // TILE_WIDTH
        beyond = min(first + MAX_BUNDLES, -(-last.size // TILE_WIDTH))
        return Fetch(tuple(Bundle(index, width_at(0, index, last.size)) for index in range(first, beyond)))

    def _newest(self) -> _Signed:
        if self._last is None:
            raise ValueError("no checkpoint was offered yet")
        return self._last

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def _signed_once(self, note: bytes | None) -> _Signed | None:
        """An unproven checkpoint, if a log of the policy signed it."""
        if note is None:
            return None
        with suppress(SignatureError):
            return _Signed(note, self._policy.open_log(note))
        return None

    def _compared(self, offered: _Signed) -> tuple[_Signed, list[_Signed]]:
        """The larger of the last checkpoint and the one offered, and the smaller ones to hold against its tiles."""
        larger = offered if self._last is None or offered.size >= self._last.size else self._last
        known = {one.size: one for one in (self._unproven, self._last, offered) if one is not None}
        return larger, [one for size, one in known.items() if 0 < size < larger.size]

    def _compare(self, offered: _Signed, tiles: Mapping[Resource, bytes]) -> Step:
        """Tell growth, an older checkpoint and a fork apart."""
        larger, smaller = self._compared(offered)
        beginnings = [_beginning(one.size, larger.checkpoint, tiles) for one in smaller]
        self._offered = None
        for one, (frontier, proof) in zip(smaller, beginnings, strict=True):
            if frontier.root() != one.checkpoint.root:
                return self._freeze(Fork(one.note, larger.note, frontier.root(), tuple(proof)))
        if offered is not larger:
            # An unproven one stays until a newer checkpoint is there: of an older one, nothing is to be kept.
            return Behind(offered.size)
        if offered is not self._last:
            return self._accept(offered)
        if self._unproven is None or self._unproven.size > offered.size:
            return self.go_on()
        self._unproven = None
        return self._moved()

    def _accept(self, offered: _Signed) -> Step:
        """Take a checkpoint that continues what is known, if the policy accepts it; else keep that it was signed."""
        unproven = self._unproven
        try:
            self._policy.open(offered.note)
        except SignatureError:
            known = {one.size for one in (self._last, unproven) if one is not None}
            if offered.size == 0 or offered.size in known or (unproven is not None and unproven.size > offered.size):
                raise
            self._unproven = self._refused = offered
            return self._moved()
        if unproven is not None and unproven.size <= offered.size:
            self._unproven = None
        self._last = self._accepted = offered
        return self._moved()

    def _moved(self) -> Read:
        """Tell of the checkpoints as they are now."""
        note, unproven = (None if one is None else one.note for one in (self._last, self._unproven))
        self._state = State(note, self._state.size, self._state.peaks, unproven)
        return Read(self._state.size, [], self._state)

    def _freeze(self, fork: Fork) -> Forked:
        self._forked = Forked(fork)
        return self._forked

    # ---- entries ------------------------------------------------------------------------------------------------

    def _decode(self, wanted: tuple[Resource, ...], bundles: Mapping[Resource, bytes]) -> Step:
        """Hash the entries of the first bundles, as far as they were given."""
        entries: list[bytes] = []
        for bundle in wanted:
            data = bundles.get(bundle)
            if data is None:
                break
            entries += _entries(bundle, data)
        if not entries:
            raise ValueError(f"{wanted[0].path()} was not given")
        del entries[: self._state.size % TILE_WIDTH]
        frontier = self._state.frontier()
        frontier.extend(map(merkle.leaf_hash, entries))
        chunk = _Chunk(entries, frontier)
        checkpoint = self._newest().checkpoint
        if frontier.size < checkpoint.size:
            self._chunk = chunk
            return self.go_on()
        return self._believe(chunk, checkpoint.root)

    def _prove(self, chunk: _Chunk, tiles: Mapping[Resource, bytes]) -> Step:
        proven, _ = _beginning(chunk.frontier.size, self._newest().checkpoint, tiles)
        self._chunk = None
        return self._believe(chunk, proven.root())

    def _believe(self, chunk: _Chunk, root: bytes) -> Read:
        """Move behind a chunk, if it leads to the root that the log's tree is known to have there."""
        last = self._newest()
        start, frontier = self._state.size, chunk.frontier
        if frontier.root() != root:
            raise ProofError(
                f"entries [{start}, {frontier.size}) are not those of {last.checkpoint.origin}: they lead to the "
                f"root {frontier.root().hex()}, the log's is {root.hex()}"
            )
        self._state = replace(self._state, size=frontier.size, peaks=tuple(frontier.peaks))
        return Read(start, chunk.entries, self._state)


def proven_frontier(size: int, checkpoint: Checkpoint, tiles: Mapping[Resource, bytes]) -> Frontier:
    """The frontier of the first `size` entries of a verified checkpoint's tree, made of tiles and proven by them.

    With it as a `State`, a log can be followed from there on. The tiles are those that `frontier_tiles` names. Raises
    `ProofError` if they do not lead to the checkpoint's root, `FormatError` for one of another length.
    """
    return _beginning(size, checkpoint, tiles)[0]


def frontier_tiles(size: int, tree_size: int) -> list[Tile]:
    """Name the tiles that `proven_frontier` takes. Raises `ValueError` unless size <= tree_size."""

    def both(read: HashReader) -> None:
        merkle.consistency_proof(size, tree_size, read)
        Frontier.at(size, read)

    return tiles_needed(tree_size, both)


def _unverified(note: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note).text)


def _beginning(size: int, tree: Checkpoint, tiles: Mapping[Resource, bytes]) -> tuple[Frontier, list[bytes]]:
    """The frontier of the first `size` entries as tiles have it, and the proof that the tree begins with them."""

    def given(wanted: Sequence[Tile]) -> list[bytes]:
        for tile in wanted:
            if tile not in tiles:
                raise ValueError(f"{tile.path()} was not given")
        return [tiles[tile] for tile in wanted]

    read = hash_reader(tree.size, given)
    frontier = Frontier.at(size, read)
    proof = merkle.consistency_proof(size, tree.size, read)
    try:
        merkle.verify_consistency(size, frontier.root(), tree.size, tree.root, proof)
    except ProofError as error:
        raise ProofError(f"the tiles of {tree.origin} do not fit its checkpoint of size {tree.size}: {error}") from None
    return frontier, proof


def _entries(bundle: Resource, data: bytes) -> list[bytes]:
    try:
        entries = decode_bundle(data)
    except FormatError as error:
        raise FormatError(f"{bundle.path()}: {error}") from None
    if len(entries) != bundle.width:
        raise FormatError(f"{bundle.path()} has {len(entries)} entries instead of {bundle.width}")
    return entries
