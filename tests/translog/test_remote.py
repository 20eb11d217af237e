"""`translog.remote` and a log that is honest: everything is read, proven, and costs no more than it must."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.translog.following import Reader, asking, unmoved
from tests.translog.misbehaving import Simulated, compressed, serving, status
from tests.translog.samples import POLICY, STRANGER
from translog import remote
from translog.errors import ProofError, SignatureError
from translog.follower import Behind, Current, Read, State
from translog.merkle import leaf_hash
from translog.policy import Policy
from translog.proof import TlogProof
from translog.remote import RemoteLog
from translog.tiles import Bundle, Tile

LOG = Simulated.of(20_000)
SHORT = Simulated.of(700)


def test_a_log_is_read_from_nothing_and_on() -> None:
    """All entries, then the new ones, then nothing; the state is that of the checkpoint."""
    reader = Reader()
    with serving(Simulated.of(0)) as server:
        for size in (0, 1, 300, 300, 700, 20_000):
            server.log = Simulated(LOG.entries[:size])
            assert reader.over_http(server) == Current()
            assert tuple(reader.entries) == LOG.entries[:size]
            assert reader.state.note == LOG.checkpoint(size)
        server.asked.clear()
        assert reader.over_http(server) == Current()
        assert server.asked == ["checkpoint"]


def test_bundles_by_gzip_are_read() -> None:
    """As logs serve them."""
    reader = Reader()
    with serving(SHORT) as server:
        server.when("tile/entries", compressed)
        assert reader.over_http(server) == Current()
    assert tuple(reader.entries) == SHORT.entries


def test_an_older_checkpoint_is_told() -> None:
    """As a stale copy gives it: it is proven to be of the same log, and nothing moves."""
    reader = Reader()
    with serving(SHORT) as server:
        reader.over_http(server)
        server.checkpoint = SHORT.checkpoint(300)
        with unmoved(reader):
            assert reader.over_http(server) == Behind(300)


def test_what_grew_meanwhile_is_read_to_where_it_was() -> None:
    """The checkpoint is fetched first; by then partial tiles of its size may be gone, and full ones there instead."""
    reader = Reader()
    with serving(Simulated.of(1024)) as server:
        server.checkpoint = SHORT.checkpoint()
        for path in ("tile/0/002.p", "tile/entries/002.p"):
            server.when(path, status(404))
        assert reader.over_http(server) == Current()
        assert tuple(reader.entries) == SHORT.entries
        server.checkpoint = SHORT.checkpoint(600)
        assert reader.over_http(server) == Behind(600)
        assert {"tile/0/002", "tile/entries/002"} <= set(server.asked)


@pytest.mark.parametrize("size", [1, 255, 256, 700, 16_384, 19_999])
def test_one_new_entry_costs_a_few_requests(size: int) -> None:
    """The checkpoint, twice as many tiles as there are levels at most, and one bundle."""
    reader = Reader()
    with serving(Simulated(LOG.entries[:size])) as server:
        reader.over_http(server)
        server.log = Simulated(LOG.entries[: size + 1])
        server.asked.clear()
        reader.over_http(server)
        assert tuple(reader.entries) == LOG.entries[: size + 1]
        assert len(server.asked) <= 2 + 2 * -(-size.bit_length() // 8)


def test_a_round_can_be_ended_anywhere() -> None:
    """What was kept is where the next one begins, after any part of a round."""
    reader = Reader()
    rounds = 0
    with serving(LOG) as server:

        async def a_part(log: RemoteLog) -> bool:
            async with aclosing(log.follow(reader.state)) as steps:
                async for step in steps:
                    if isinstance(step, Current):
                        return True
                    assert isinstance(step, Read)
                    reader.keep(step)
                    if step.entries:
                        break
            return False

        while not asking(server, a_part):
            rounds += 1
    assert rounds == 2
    assert tuple(reader.entries) == LOG.entries


def test_large_entries_are_read_in_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk ends, too, where its bytes are enough: memory is bounded though entries have 64 KiB each."""
    monkeypatch.setattr(remote, "BUDGET", 1_000_000)
    log = Simulated(tuple(index.to_bytes(2, "big") * 500 for index in range(256 * 40)))
    reader = Reader()
    chunks: list[int] = []

    async def sizes(remote_log: RemoteLog) -> None:
        async for step in remote_log.follow(State()):
            if isinstance(step, Read):
                reader.keep(step)
                chunks.append(len(step.entries))

    with serving(log) as server:
        asking(server, sizes)
    assert tuple(reader.entries) == log.entries
    assert max(chunks[2:]) <= 3 * 256


def test_the_checkpoint_alone() -> None:
    """It is one that the policy accepts, or an error."""
    with serving(SHORT) as server:
        assert asking(server, lambda log: log.checkpoint()) == SHORT.checkpoint()
        server.checkpoint = SHORT.checkpoint(None, STRANGER)
        with pytest.raises(SignatureError):
            asking(server, lambda log: log.checkpoint())


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0), (0, 1), (0, 700), (3, 5), (255, 257), (256, 512), (300, 301), (512, 700), (700, 700)]
)
def test_some_entries(start: int, end: int) -> None:
    """Any range, proven; no bundle is fetched that has none of it."""

    async def some(log: RemoteLog) -> list[bytes]:
        entries: list[bytes] = []
        async for first, more in log.entries(start, end, SHORT.checkpoint()):
            assert first == start + len(entries)
            entries += more
        return entries

    with serving(LOG) as server:
        assert tuple(asking(server, some)) == SHORT.entries[start:end]
        fetched = [path for path in server.asked if path.startswith("tile/entries")]
        expected = range(start // 256, -(-end // 256)) if start < end else range(0)
        assert sorted(fetched) == [Bundle(index, 188 if index == 2 else 256).path() for index in expected]


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (5, 3), (3, 701), (701, 701)])
def test_entries_that_are_not_there(start: int, end: int) -> None:
    """A range that the checkpoint does not cover is a mistake of the program."""

    async def some(log: RemoteLog) -> None:
        async for _ in log.entries(start, end, SHORT.checkpoint()):
            raise AssertionError("there are none")

    with serving(LOG) as server, pytest.raises(ValueError, match="there are no entries"):
        asking(server, some)


def test_entries_under_a_checkpoint_of_nobody_known() -> None:
    """It is verified like any other."""

    async def some(log: RemoteLog) -> None:
        async for _ in log.entries(0, 3, SHORT.checkpoint(None, STRANGER)):
            raise AssertionError("there are none")

    with serving(LOG) as server, pytest.raises(SignatureError):
        asking(server, some)


@pytest.mark.parametrize("size", [0, 1, 256, 300, 700])
def test_following_from_an_index_on(size: int) -> None:
    """The state there is made of tiles, without reading what is before."""
    with serving(SHORT) as server:
        state = asking(server, lambda log: log.state_at(size, SHORT.checkpoint()))
        assert not any(path.startswith("tile/entries") for path in server.asked)
        reader = Reader(kept=state.encode(), entries=list(SHORT.entries[:size]))
        assert reader.over_http(server) == Current()
        assert tuple(reader.entries) == SHORT.entries
        with pytest.raises(ValueError, match="701"):
            asking(server, lambda log: log.state_at(701, SHORT.checkpoint()))


@pytest.mark.parametrize("indexes", [(), (0,), (699,), (5, 3, 5), (0, 255, 256, 511, 512, 699), range(0, 700, 7)])
def test_inclusion_proofs(indexes: Sequence[int]) -> None:
    """Each proves its entry to whoever has the log's key; each tile is fetched once."""
    with serving(LOG) as server:
        proofs = asking(server, lambda log: log.inclusion_proofs(indexes, SHORT.checkpoint()))
        for index, hashes in zip(indexes, proofs, strict=True):
            proof = TlogProof.parse(TlogProof(index, hashes, SHORT.checkpoint()).encode())
            assert proof.verify(SHORT.entries[index], POLICY).size == 700
            with pytest.raises(ProofError):
                proof.verify(SHORT.entries[index - 1], POLICY)
        assert len(server.asked) == len(set(server.asked)) <= 4


def test_inclusion_proofs_of_what_is_not_there() -> None:
    """An index that the checkpoint does not cover is a mistake of the program."""
    with serving(LOG) as server:
        for index in (-1, 700):
            with pytest.raises(ValueError, match=f"there is no leaf {index} in a tree of 700 leaves"):
                asking(server, lambda log, index=index: log.inclusion_proofs([index], SHORT.checkpoint()))
        assert server.asked == []


def test_what_is_fetched_as_it_is() -> None:
    """For whoever verifies it otherwise."""
    wanted = [Tile(0, 1, 256), Tile(1, 0, 78), Bundle(3, 256)]
    with serving(LOG) as server:
        assert asking(server, lambda log: log.fetch(wanted)) == LOG.resources(wanted)


def test_requests_are_counted() -> None:
    """All of them, those that were made again included."""

    async def count(log: RemoteLog) -> int:
        assert log.requests == 0
        await log.checkpoint()
        return log.requests

    with serving(SHORT) as server:
        server.when("checkpoint", status(503), times=2)
        assert asking(server, count) == 3


def test_a_cache_saves_requests(tmp_path: Path) -> None:
    """What a proof needs of full tiles is fetched once for all runs."""
    with serving(LOG) as server:
        for _ in range(2):
            proofs = asking(server, lambda log: log.inclusion_proofs([7], LOG.checkpoint()), cache=tmp_path)
            TlogProof(7, proofs[0], LOG.checkpoint()).verify(LOG.entries[7], POLICY)
    assert server.asked.count("tile/0/000") == 1


def test_an_origin_that_is_not_the_keys_name() -> None:
    """A policy can name the origin that a log writes, where its key is called otherwise."""
    policy = Policy.of(SHORT.key.verifying_key(), origin="another.example/log")
    with serving(SHORT) as server, pytest.raises(SignatureError):
        asking(server, lambda log: log.checkpoint(), policy)


def test_two_rounds_at_once() -> None:
    """One log can be asked for several things at a time."""

    async def both(log: RemoteLog) -> None:
        async def follow() -> int:
            return sum([len(step.entries) async for step in log.follow(State()) if isinstance(step, Read)])

        proofs, one, other = await asyncio.gather(log.inclusion_proofs([7], LOG.checkpoint()), follow(), follow())
        assert one == other == LOG.size
        assert leaf_hash(LOG.entries[6]) == proofs[0][0]

    with serving(LOG) as server:
        asking(server, both)
