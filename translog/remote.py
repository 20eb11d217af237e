"""A log that is somewhere else: read over HTTP, and nothing believed that was not verified.

    async with RemoteLog("https://log.example.com/acme", Policy.of(vkey)) as log:
        async for step in log.follow(state):
            match step:
                case Read(start, entries, state):
                    …                               # take them and keep the state, together
                case Current() | Behind():
                    …                               # until the next round
                case Forked(fork):
                    …                               # keep the evidence, and stop

What is proven, and how, is told in `translog.follower`; how a server that misbehaves is borne, in `translog.fetching`.
Here the two meet: what the one asks for, the other fetches. What does not verify is dropped from all caches and fetched
once more, for a copy that went bad is no fault of the log. Fails that too, it is raised: a later round may do better.

Errors: `FetchError`, the server did not give what was asked for; `FormatError`, `ProofError` and `SignatureError`, it
gave what does not verify. After any of them, the last state that was given out is where to go on.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from translog import merkle
from translog.checkpoint import Checkpoint
from translog.errors import FetchError, FormatError, ProofError
from translog.fetching import BUDGET, Fetcher
from translog.follower import (
    Behind,
    Current,
    Fetch,
    Follower,
    Forked,
    Read,
    State,
    frontier_tiles,
    proven_frontier,
)
from translog.fork import Fork
from translog.merkle import HASH_SIZE, Node
from translog.note import Note
from translog.policy import Policy
from translog.tiles import TILE_WIDTH, Bundle, Resource, Tile, hash_reader, tiles_needed

__all__ = ["RemoteLog"]

T = TypeVar("T")


class RemoteLog:
    """One log behind a URL, whose checkpoints have to satisfy a policy. Used on one loop, and closed in the end."""

    def __init__(
        self,
        url: str,
        policy: Policy,
        *,
        cache: Path | None = None,
        timeout: float = 10.0,
        attempts: int = 4,
        user_agent: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`url` is the log's prefix, under which it has `checkpoint` and `tile/…`; `cache` a folder for full tiles.

        Each request may take `timeout` seconds from end to end, and is made `attempts` times at most where another
        may do better. `headers` go with each of them. Raises `FormatError` for what is no such URL.
        """
        self._policy = policy
        self._fetcher = Fetcher(
            url, cache=cache, timeout=timeout, attempts=attempts, user_agent=user_agent, headers=headers
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._fetcher.aclose()

    @property
    def requests(self) -> int:
        """How many requests were made so far."""
        return self._fetcher.requests

    async def checkpoint(self) -> bytes:
        """The newest checkpoint, verbatim, which the policy accepts. Whether it continues another, `follow` shows."""
        fetched = await self._fetcher.checkpoint()
        self._policy.open(fetched)
        return fetched

    async def follow(self, state: State, *, entries: bool = True) -> AsyncGenerator[Read | Current | Behind | Forked]:
        """One round: fetch the newest checkpoint, and give what is proven under it, chunk by chunk.

        The last thing given is `Current`, `Behind` or `Forked`. Each `Read` has the state to keep with its entries,
        which is where another round begins; what is new of checkpoints is a `Read` of no entries. Without `entries`,
        the checkpoint alone is followed, and it is `Current` when the state has it.
        """
        follower = Follower(self._policy, state)
        end = None if entries else 0
        note = await self._fetcher.checkpoint()
        step = await self._follow(follower, note, follower.offer(note), end)
        while isinstance(step, Read):
            yield step
            step = await self._follow(follower, note, follower.go_on(), end)
        yield step

    async def entries(self, start: int, end: int, note: bytes) -> AsyncGenerator[tuple[int, list[bytes]]]:
        """Entries [start, end) of the checkpoint `note`, in order and proven: the first one's index, and some of them.

        Raises `ValueError` unless start <= end <= the checkpoint's size.
        """
        checkpoint = self._policy.open(note)
        if not 0 <= start <= end <= checkpoint.size:
            raise ValueError(f"there are no entries [{start}, {end}) in a tree of {checkpoint.size}")
        if start == end:
            return
        follower = Follower(self._policy, await self.state_at(start, note))
        while follower.state.size < end:
            step = await self._feed(follower, follower.go_on(), end)
            if isinstance(step, Read):
                yield step.start, step.entries[: end - step.start]

    async def state_at(self, size: int, note: bytes) -> State:
        """The state of who has read the first `size` entries of the checkpoint `note`, without reading them.

        So a log can be followed from any index on. Raises `ValueError` unless size <= the checkpoint's.
        """
        checkpoint = self._policy.open(note)
        frontier = await self._made_of(
            frontier_tiles(size, checkpoint.size), lambda tiles: proven_frontier(size, checkpoint, tiles)
        )
        return State(note, size, tuple(frontier.peaks))

    async def inclusion_proofs(self, indexes: Sequence[int], note: bytes) -> list[tuple[bytes, ...]]:
        """For each index the hashes that prove its entry under the checkpoint `note`, as `TlogProof` has them.

        They are proven to be of that tree; of which entry, only verifying with the entry itself shows. Each tile is
        fetched once. Raises `ValueError` for an index that is not in the tree.
        """
        checkpoint = self._policy.open(note)
        size = checkpoint.size
        # Neighbours share most of the nodes beside their paths: each is computed once.
        nodes: dict[Node, None] = dict.fromkeys(Node(0, index) for index in indexes)

        def name(wanted: Sequence[Node]) -> list[bytes]:
            nodes.update(dict.fromkeys(wanted))
            return [bytes(HASH_SIZE)] * len(wanted)

        for index in indexes:
            merkle.inclusion_proof(index, size, name)
        if not nodes:
            return []
        named = list(nodes)

        def verified(tiles: Mapping[Resource, bytes]) -> list[tuple[bytes, ...]]:
            read = hash_reader(size, lambda wanted: [tiles[tile] for tile in wanted])
            hashes = dict(zip(named, read(named), strict=True))

            def known(wanted: Sequence[Node]) -> list[bytes]:
                return [hashes[node] for node in wanted]

            proofs = [tuple(merkle.inclusion_proof(index, size, known)) for index in indexes]
            for index, proof in zip(indexes, proofs, strict=True):
                merkle.verify_inclusion(hashes[Node(0, index)], index, size, proof, checkpoint.root)
            return proofs

        return await self._made_of(tiles_needed(size, lambda read: read(named)), verified)

    async def compare(self, state: State, note: bytes) -> Fork | None:
        """What shows that a checkpoint seen elsewhere is none of this log as `state` has it; None if it is.

        It has no more entries than the state's own. Hashes for it are fetched here. Raises `SignatureError` if no log
        of the policy signed it, and `ValueError` for a larger one, or before there is any to compare it with.
        """
        last, other = state.unverified_checkpoint(), self._policy.open_log(note)
        if last is None or other.size > last.size:
            raise ValueError("what is compared is no larger than the checkpoint that is known")
        if (other.size, other.root) == (last.size, last.root):
            return None
        follower = Follower(self._policy, state)
        step = follower.offer(note)
        while isinstance(step, Fetch | Read):
            step = follower.go_on() if isinstance(step, Read) else await self._feed(follower, step)
        return step.fork if isinstance(step, Forked) else None

    async def fetch(self, resources: Iterable[Resource]) -> dict[Resource, bytes]:
        """These as they come, of which nothing is verified but that each tile has the bytes of its width."""
        return await self._fetcher.fetch(resources)

    # ---- fetched until it verifies ------------------------------------------------------------------------------

    async def _follow(
        self, follower: Follower, note: bytes, step: Fetch | Read | Current | Behind | Forked, end: int | None
    ) -> Read | Current | Behind | Forked:
        """What comes of the checkpoint `note`, which was offered."""
        try:
            return await self._feed(follower, step, end)
        except FetchError as error:
            offered, last = Checkpoint.parse(Note.parse(note).text), follower.state.unverified_checkpoint()
            if last is None or offered.size >= last.size:
                raise
            raise FetchError(
                f"the server shows a checkpoint of {offered.size} entries, and showed one of {last.size} before. "
                f"Whether both are of one log cannot be told without the hashes of the larger one: {error}"
            ) from error

    async def _feed(
        self, follower: Follower, step: Fetch | Read | Current | Behind | Forked, end: int | None = None
    ) -> Read | Current | Behind | Forked:
        """Fetch what the follower asks for, until it says something; no bundles from `end` on, if that is given."""
        failed = False
        while isinstance(step, Fetch):
            wanted = [one for one in step.resources if end is None or not _begins_behind(one, end)]
            if not wanted:
                return Current()
            given = await self._fetcher.fetch(wanted, BUDGET if isinstance(wanted[0], Bundle) else None)
            try:
                step = follower.give(given)
            except (FormatError, ProofError):
                self._fetcher.forget(given)
                if failed:
                    raise
                failed = True
                step = follower.go_on()
        return step

    async def _made_of(self, tiles: Sequence[Tile], make: Callable[[Mapping[Resource, bytes]], T]) -> T:
        """What is made of these tiles, and proven in the making."""
        failed = False
        while True:
            given = await self.fetch(tiles)
            try:
                return make(given)
            except (FormatError, ProofError):
                self._fetcher.forget(given)
                if failed:
                    raise
                failed = True


def _begins_behind(resource: Resource, end: int) -> bool:
    return isinstance(resource, Bundle) and resource.index * TILE_WIDTH >= end
