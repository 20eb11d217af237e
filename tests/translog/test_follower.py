"""`translog.follower`: honest logs are read whole, in order and once, however they grow and wherever it is stopped."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.translog import reference
from tests.translog.following import Reader, asked, begun, believed
from tests.translog.misbehaving import Simulated
from tests.translog.samples import KEY, ORIGIN, POLICY
from translog import follower, merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, ProofError
from translog.follower import Behind, Current, Fetch, Follower, Read, State, frontier_tiles, proven_frontier
from translog.merkle import Frontier, Node
from translog.tiles import Bundle, Resource, Tile

LONG = Simulated.of(40_000)
EDGES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 700, 16_384, 16_385, 33_000]


@pytest.mark.parametrize("size", EDGES)
def test_a_log_is_read_from_nothing(size: int) -> None:
    """All entries come in order, and with the last of them it is current."""
    reader = Reader()
    assert reader.round(LONG, LONG.checkpoint(size)) == Current()
    assert tuple(reader.entries) == LONG.entries[:size]
    assert reader.state.note == LONG.checkpoint(size)
    assert reader.round(LONG, LONG.checkpoint(size)) == Current()
    assert len(reader.entries) == size


@pytest.mark.parametrize("old_size", EDGES)
@pytest.mark.parametrize("new_size", EDGES)
def test_a_log_is_read_on(old_size: int, new_size: int) -> None:
    """From any size to any other the new entries come; an older checkpoint is told, and nothing moves."""
    reader = Reader()
    reader.round(LONG, LONG.checkpoint(old_size))
    kept = reader.kept
    expected = Behind(new_size) if new_size < old_size else Current()
    assert reader.round(LONG, LONG.checkpoint(new_size)) == expected
    assert tuple(reader.entries) == LONG.entries[: max(old_size, new_size)]
    assert (believed(reader.state) == believed(State.parse(kept))) is (new_size <= old_size)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_any_growth_in_any_chunks(sizes: list[int], chance: random.Random, stop_early: bool) -> None:
    """Whatever checkpoints a log shows, and however many bundles come at a time, each entry is read, and once."""
    reader = Reader()
    newest = 0
    for size in sizes:
        log = Simulated(LONG.entries[: max(size, newest)])
        steps = reader.follower()
        step = steps.offer(log.checkpoint(size))
        while not isinstance(step, Current | Behind):
            if isinstance(step, Fetch):
                step = steps.give(log.resources(asked(step, lambda count: chance.randint(1, count))))
            else:
                assert isinstance(step, Read)
                reader.keep(step)
                if stop_early and chance.random() < 0.5:
                    break
                step = steps.go_on()
        newest = max(newest, size)
        assert tuple(reader.entries) == LONG.entries[: len(reader.entries)]
    reader.round(LONG, LONG.checkpoint(newest))
    assert tuple(reader.entries) == LONG.entries[:newest]


def test_killed_between_any_two_steps() -> None:
    """Begun again with what was kept, after any step whatever, it reads on without gap or repetition."""
    sizes = (300, 700, 701, 1500)

    def read(killed_after: int) -> tuple[Reader, int]:
        """Stop after so many steps, and begin again; how many there were."""
        reader, steps = Reader(), 0
        for size in sizes:
            following = reader.follower()
            step = following.offer(LONG.checkpoint(size))
            while not isinstance(step, Current):
                steps += 1
                if steps == killed_after:  # whatever the step was, it is lost
                    following = reader.follower()
                    step = following.offer(LONG.checkpoint(size))
                elif isinstance(step, Fetch):
                    step = following.give(LONG.resources(asked(step, lambda _: 1)))
                else:
                    assert isinstance(step, Read)
                    reader.keep(step)
                    step = following.go_on()
        return reader, steps

    undisturbed, steps = read(0)
    assert tuple(undisturbed.entries) == LONG.entries[:1500]
    assert steps > 25
    for killed_after in range(1, steps + 1):
        reader, _ = read(killed_after)
        assert reader.entries == undisturbed.entries
        assert reader.kept == undisturbed.kept


def test_a_new_checkpoint_is_to_be_kept_before_its_entries() -> None:
    """What a log has signed is remembered although not one of its entries can be had."""
    following = Follower(POLICY)
    first = following.offer(LONG.checkpoint(300))
    assert first == Read(0, [], State(LONG.checkpoint(300)))
    assert isinstance(following.go_on(), Fetch)
    second = begun(following, LONG.checkpoint(400))
    assert following.give(LONG.resources(second.resources)) == Read(0, [], State(LONG.checkpoint(400)))


def test_a_checkpoint_signed_anew_takes_the_place_of_the_last() -> None:
    """Of equal size and root, it says nothing new but is kept: its key may be the newer one."""
    other = note.SigningKey(ORIGIN, note.Kind.ED25519, bytes(32))
    both = type(POLICY).of(KEY.verifying_key(), other.verifying_key())
    reader = Reader(both)
    reader.round(LONG, LONG.checkpoint(300))
    assert reader.round(LONG, LONG.checkpoint(300, other)) == Current()
    assert len(reader.entries) == 300
    alone = Reader(type(POLICY).of(other.verifying_key()), reader.kept)
    assert alone.state.note == LONG.checkpoint(300, other)
    assert alone.follower().offer(LONG.checkpoint(300, other)) == Current()


def test_a_chunk_is_bounded() -> None:
    """It asks for 64 bundles at a time at most, the first of which may be within what was read."""
    reader = Reader()
    reader.round(LONG, LONG.checkpoint(300))
    following = reader.follower()
    step = begun(following, LONG.checkpoint())
    step = following.give(LONG.resources(step.resources))
    assert isinstance(step, Read)
    wanted = tuple(Bundle(index, 256) for index in range(1, 1 + follower.MAX_BUNDLES))
    assert following.go_on() == Fetch(wanted)
    step = following.give(LONG.resources(wanted[:2]))
    assert isinstance(step, Fetch), "the end of the second bundle is proven by tiles"
    step = following.give(LONG.resources(step.resources))
    assert isinstance(step, Read)
    assert (step.start, tuple(step.entries)) == (300, LONG.entries[300:768])


class Uniform:
    """A log of any size with the same entry everywhere: a tile's hashes depend on its level alone."""

    ENTRY = b"the same everywhere"

    def __init__(self) -> None:
        self.levels = [merkle.leaf_hash(self.ENTRY)]
        for _ in range(63):
            self.levels.append(merkle.node_hash(self.levels[-1], self.levels[-1]))

    def read(self, nodes: Sequence[Node]) -> list[bytes]:
        """A `merkle.HashReader`."""
        return [self.levels[node.level] for node in nodes]

    def checkpoint(self, size: int) -> bytes:
        """The checkpoint of that size."""
        return note.sign(Checkpoint(ORIGIN, size, merkle.tree_root(size, self.read)).text, KEY)

    def resource(self, wanted: Resource) -> bytes:
        """A tile or a bundle."""
        if isinstance(wanted, Tile):
            return self.levels[8 * wanted.level] * wanted.width
        return (len(self.ENTRY).to_bytes(2, "big") + self.ENTRY) * wanted.width


@pytest.mark.parametrize("size", [10, 1000, 10**4, 10**5, 10**6, 10**8, 10**10, 2**32 - 1, 2**40, 2**62 + 12345])
def test_one_new_entry_costs_a_few_requests(size: int) -> None:
    """As many as there are levels of tiles, twice at most, and one bundle: the logarithm of the size."""
    log = Uniform()
    following = Follower(POLICY, State(log.checkpoint(size), size, tuple(Frontier.at(size, log.read).peaks)))
    step = following.offer(log.checkpoint(size + 1))
    requests, entries = 0, list[bytes]()
    while not isinstance(step, Current):
        if isinstance(step, Fetch):
            requests += len(step.resources)
            step = following.give({one: log.resource(one) for one in step.resources})
        else:
            assert isinstance(step, Read)
            entries += step.entries
            step = following.go_on()
    levels = -(-size.bit_length() // 8)
    assert entries == [log.ENTRY]
    assert requests <= 1 + 2 * levels


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 5000])
def test_following_can_begin_anywhere(size: int) -> None:
    """The frontier at any size, made of tiles, is the state of who has read that far."""
    log = Simulated(LONG.entries[:5000])
    checkpoint = POLICY.open(log.checkpoint())
    frontier = proven_frontier(size, checkpoint, log.resources(frontier_tiles(size, log.size)))
    read = Reader()
    read.round(log, log.checkpoint(size))
    assert tuple(frontier.peaks) == read.state.peaks
    begun = Reader(kept=State(log.checkpoint(), size, tuple(frontier.peaks)).encode(), entries=read.entries)
    assert begun.round(log) == Current()
    assert tuple(begun.entries) == log.entries


def test_a_frontier_is_made_of_the_right_tiles_only() -> None:
    """Tiles of another log give none."""
    log = Simulated(LONG.entries[:700])
    wanted = frontier_tiles(300, 700)
    checkpoint = POLICY.open(log.checkpoint())
    with pytest.raises(ProofError, match="do not fit its checkpoint of size 700"):
        proven_frontier(300, checkpoint, log.forked(299).resources(wanted))
    with pytest.raises(ValueError, match=r"tile/1/000\.p/2 was not given"):
        proven_frontier(300, checkpoint, {})


@pytest.mark.parametrize("size", [0, 1, 300])
def test_states_are_written_and_read(size: int) -> None:
    """A state comes back as it was; any other spelling is refused."""
    state = Reader()
    state.round(LONG, LONG.checkpoint(size))
    assert State.parse(state.kept).encode() == state.kept
    assert State.parse(State().encode()) == State()
    for wrong in (state.kept + b"\n", state.kept[1:], state.kept.replace(b"size ", b"size 0"), b"", b"\n\n"):
        with pytest.raises(FormatError):
            State.parse(wrong)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"translog-state@v2\nsize 0\n\n", "the first line is 'translog-state@v2'"),
        (b"translog-state@v1\n\n", "expected a line with the size"),
        (b"translog-state@v1\nsize 1\n\n", "a tree of 1 entries does not consist of 0 peaks"),
        (b"translog-state@v1\nsize 1\n" + b"A" * 43 + b"=\n\n", "1 entries were believed, but the checkpoint has 0"),
        (b"translog-state@v1\nsize 1\nAAAA\n\n", "a peak has 3 bytes"),
        (b"translog-state@v1\nsize \xc3\xa9\n\n", "expected lines of ASCII"),
    ],
)
def test_what_is_no_state(state: bytes, message: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(FormatError, match=message):
        State.parse(state)


def test_a_state_agrees_with_its_checkpoint() -> None:
    """No more entries than it has, and its root once all of them are read."""
    peaks = (merkle.leaf_hash(b"another"),)
    one = Simulated(reference.numbered(1))
    with pytest.raises(FormatError, match="the peaks of 1 entries do not give the root of the checkpoint"):
        State(one.checkpoint(), 1, peaks)
    with pytest.raises(FormatError, match="2 entries were believed, but the checkpoint has 1"):
        State(one.checkpoint(), 2, peaks)
    with pytest.raises(FormatError, match="note"):
        State(b"no checkpoint")


def test_steps_are_taken_in_turn() -> None:
    """What was not asked for is not taken, and nothing is next before there is a checkpoint."""
    following = Follower(POLICY)
    with pytest.raises(ValueError, match="no checkpoint was offered yet"):
        following.go_on()
    following.offer(LONG.checkpoint(300))
    with pytest.raises(ValueError, match="tile/entries/000 was not given"):
        following.give({})
    with pytest.raises(ValueError, match="tile/entries/000 was not given"):
        following.give(LONG.resources([Bundle(1, 44)]))
    following.give(LONG.resources([Bundle(0, 256)]))
    with pytest.raises(ValueError, match="was not given"):
        following.give(LONG.resources([Bundle(1, 44)]))
    step = following.go_on()
    assert isinstance(step, Fetch)
    following.give(LONG.resources(step.resources))
    following.give(LONG.resources([Bundle(1, 44)]))
    with pytest.raises(ValueError, match="nothing was asked for"):
        following.give({})
