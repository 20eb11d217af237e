"""`translog.follower`: forks are told with what proves them, and of whatever else is false nothing is believed."""

from collections.abc import Iterator

import pytest

from tests.translog.following import Reader, begun, believed, unmoved
from tests.translog.misbehaving import Simulated, flipped, of_width, shortened, swapped
from tests.translog.samples import KEY, ORIGIN, POLICY, STRANGER
from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, ProofError, SignatureError
from translog.follower import Behind, Current, Fetch, Follower, Forked, Read, State
from translog.fork import Fork
from translog.merkle import EMPTY_ROOT
from translog.note import Kind, Note, SigningKey
from translog.policy import Policy
from translog.tiles import Bundle, Resource, Tile, encode_bundle

SMALL = range(9)
LOG = Simulated.of(700)


def read_to(size: int, log: Simulated = LOG) -> Reader:
    """Who has read so many entries of a log."""
    reader = Reader()
    assert reader.round(log, log.checkpoint(size)) == Current()
    return reader


# ---- forks --------------------------------------------------------------------------------------------------------

SIZES = [(old, new, at) for old in SMALL for new in SMALL for at in range(new)]
LARGER_SIZES = [
    (old, new, at)
    for old in (255, 256, 257, 600)
    for new in (255, 256, 257, 512, 700)
    for at in (0, 128, 254, 255, 256, 511, 599)
    if at < new
]


@pytest.mark.parametrize(("old_size", "new_size", "at"), SIZES + LARGER_SIZES)
def test_another_history_is_a_fork(old_size: int, new_size: int, at: int) -> None:
    """It is one if and only if it differs in what both have; it is told with what proves it, and nothing moves."""
    reader = read_to(old_size)
    other = LOG.forked(at, new_size)
    if at >= old_size:
        assert reader.round(other) == Current()
        assert tuple(reader.entries) == other.entries
        return
    with unmoved(reader):
        step = reader.round(LOG if new_size < old_size else other, other.checkpoint())
    assert isinstance(step, Forked)
    heads = Fork.parse(step.fork.encode()).verify(POLICY)
    checkpoints = [(old_size, LOG.root(old_size)), (new_size, other.root())]
    assert [(head.size, head.root) for head in heads] == sorted(checkpoints, key=lambda head: head[0])


@pytest.mark.parametrize("new_size", [200, 300, 400, 700])
def test_a_fork_is_final(new_size: int) -> None:
    """From then on nothing else is told, whatever is offered."""
    reader = read_to(300)
    following = reader.follower()
    other = LOG.forked(7, new_size)
    step = following.offer(other.checkpoint())
    if isinstance(step, Read):
        wanted = following.go_on()
        assert isinstance(wanted, Fetch)
        step = following.give((LOG if new_size < 300 else other).resources(wanted.resources))
    assert isinstance(step, Forked)
    assert following.offer(LOG.checkpoint()) == step
    assert following.go_on() == step
    assert believed(following.state) == reader.state


def test_what_the_log_signed_is_a_fork_without_its_witnesses() -> None:
    """That a witness refused to cosign it is no excuse: the log's own signature is on both."""
    witness = SigningKey("example.com/witness", Kind.COSIGNATURE, bytes(32))
    policy = Policy.parse(f"log {KEY.verifying_key()}\nwitness W {witness.verifying_key()}\nquorum W\n".encode())

    def cosigned(checkpoint: bytes) -> bytes:
        signed = Note.parse(checkpoint)
        return Note(signed.text, (*signed.signatures, witness.sign(signed.text, 1_700_000_000))).encode()

    reader = Reader(policy)
    with unmoved(reader), pytest.raises(SignatureError, match="the quorum lacks"):
        reader.round(LOG, LOG.checkpoint(300))
    assert reader.round(LOG, cosigned(LOG.checkpoint(300))) == Current()
    for size in (200, 300, 400):
        another = Reader(policy, reader.kept, list(reader.entries))
        with unmoved(another):
            step = another.round(LOG.forked(7, 700) if size > 300 else LOG, LOG.forked(7, size).checkpoint())
        assert isinstance(step, Forked)
        step.fork.verify(policy)
    with unmoved(reader):
        following = reader.follower()
        step = begun(following, LOG.checkpoint(400))
        with pytest.raises(SignatureError):
            following.give(LOG.resources(step.resources))
        assert following.go_on() == Current(), "the last checkpoint is still the last"
    assert reader.round(LOG, cosigned(LOG.checkpoint(400))) == Current()
    assert len(reader.entries) == 400


def test_the_empty_log_contradicts_nothing() -> None:
    """A checkpoint of no entries has one root, or is refused; whatever the log grew to, it began so."""
    wrong = note.sign(Checkpoint(ORIGIN, 0, LOG.root()).text, KEY)
    for reader in (Reader(), read_to(0), read_to(300)):
        with unmoved(reader), pytest.raises(ProofError, match="as the root of no entries"):
            reader.round(LOG, wrong)
    assert read_to(300).round(LOG, note.sign(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text, KEY)) == Behind(0)


# ---- checkpoints --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 0, 300])
def test_a_checkpoint_of_nobody_known_is_refused(size: int | None) -> None:
    """Signed by another key, altered, or no checkpoint at all: nothing is taken from it."""
    reader = Reader() if size is None else read_to(size)
    good = LOG.checkpoint()
    with unmoved(reader):
        with pytest.raises(SignatureError):
            reader.round(LOG, LOG.checkpoint(None, STRANGER))
        for wrong in (good.replace(b"\n700\n", b"\n701\n"), good.replace(ORIGIN.encode(), b"example.com/other", 1)):
            with pytest.raises(SignatureError):
                reader.round(LOG, wrong)
        for wrong in (b"", b"<html>", good[:-1], good[:60], bytes(300), b"\xff" * 300):
            with pytest.raises(FormatError):
                reader.round(LOG, wrong)
    assert reader.round(LOG) == Current()


def test_another_log_of_the_policy_is_another_log() -> None:
    """Its key is known, but what is followed is the log that was begun with."""
    other = Simulated(LOG.entries, STRANGER)
    both = Policy.of(KEY.verifying_key(), STRANGER.verifying_key())
    reader = Reader(both)
    reader.round(LOG, LOG.checkpoint(300))
    with unmoved(reader), pytest.raises(SignatureError, match="the log that is followed is 'example"):
        reader.round(other)


def test_a_state_of_another_log_is_refused() -> None:
    """Its checkpoint is not signed by a log of the policy."""
    with pytest.raises(SignatureError):
        Follower(Policy.of(STRANGER.verifying_key()), read_to(300).state)


# ---- tiles and bundles --------------------------------------------------------------------------------------------


def other_tiles(tile: Tile, honest: bytes) -> Iterator[bytes]:
    """What may come in place of a tile, of which each hash counts."""
    yield from (b"", b"garbage", bytes(len(honest)), shortened(honest), honest[1:], honest + b"\0")
    yield from (of_width(tile.width + 1)(honest), of_width(tile.width - 1)(honest))
    yield honest[-32:] + honest[:-32] if tile.width > 1 else flipped(honest)


def other_bundles(bundle: Bundle, honest: bytes) -> Iterator[bytes]:
    """What may come in place of a bundle, of which the last entry is new."""
    yield from (b"", b"garbage", bytes(len(honest)), shortened(honest), honest[1:], honest + b"\0")
    entries = LOG.entries[bundle.index * 256 :][: bundle.width]
    yield flipped(honest[-2:]) + honest[:-2]
    yield encode_bundle(entries[:-1])
    yield encode_bundle((*entries[:-1], b""))
    yield encode_bundle((*entries[:-1], b"another entry"))
    if bundle.width > 1:
        yield swapped(0, bundle.width - 1)(honest)
        yield swapped(bundle.width - 2, bundle.width - 1)(honest)
        yield encode_bundle((*entries[1:], entries[0]))


@pytest.mark.parametrize(("old_size", "new_size"), [(0, 700), (300, 700), (512, 513), (256, 700), (3, 5)])
def test_nothing_false_is_believed(old_size: int, new_size: int) -> None:
    """Any one tile or bundle that is false is refused: nothing is read, nothing told, and the true one goes on."""
    reader = read_to(old_size)
    following = reader.follower()
    step = following.offer(LOG.checkpoint(new_size))
    refused = 0
    while not isinstance(step, Current):
        if isinstance(step, Read):
            reader.keep(step)
            step = following.go_on()
            continue
        assert isinstance(step, Fetch)
        honest = LOG.resources(step.resources)
        for one in step.resources:
            others = other_tiles(one, honest[one]) if isinstance(one, Tile) else other_bundles(one, honest[one])
            for other in others:
                refuse(following, {**honest, one: other})
                refused += 1
        step = following.give(honest)
    assert tuple(reader.entries) == LOG.entries[:new_size]
    assert refused > 10


def refuse(following: Follower, given: dict[Resource, bytes]) -> None:
    """Have it refuse these: its state is as before, and it asks for the same again."""
    state, asked = following.state, following.go_on()
    with pytest.raises((FormatError, ProofError)):
        following.give(given)
    assert following.state == state
    assert following.go_on() == asked


def test_every_hash_of_a_tile_that_is_used_counts() -> None:
    """Flipping any of them is noticed; flipping one that no proof needs changes nothing."""
    reader = read_to(300)
    following = reader.follower()
    step = begun(following, LOG.checkpoint())
    honest = LOG.resources(step.resources)
    noticed: list[tuple[Resource, int]] = []
    for resource, data in honest.items():
        for at in range(0, len(data), 32):
            false = {**honest, resource: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
            attempt = reader.follower()
            begun(attempt, LOG.checkpoint())
            try:
                told = attempt.give(false)
            except ProofError:
                noticed.append((resource, at // 32))
            else:
                assert told == Read(300, [], State(LOG.checkpoint(), 300, reader.state.peaks))
    assert noticed
    assert following.give(honest) == Read(300, [], State(LOG.checkpoint(), 300, reader.state.peaks))


def test_entries_that_are_wrong_are_told_from_tiles_that_are() -> None:
    """If the tiles are proven, it is the bundles that are fetched again; else it is the tiles."""
    following = Follower(POLICY)
    following.offer(LOG.checkpoint())
    bundles = following.go_on()
    assert isinstance(bundles, Fetch)
    tiles = following.give(LOG.forked(7).resources(bundles.resources[:1]))
    assert isinstance(tiles, Fetch)
    assert all(isinstance(tile, Tile) for tile in tiles.resources)
    with pytest.raises(ProofError, match="do not fit its checkpoint of size 700"):
        following.give(LOG.forked(7).resources(tiles.resources))
    assert following.go_on() == tiles
    with pytest.raises(ProofError, match=r"entries \[0, 256\) are not those of example.com/log/acme"):
        following.give(LOG.resources(tiles.resources))
    assert following.go_on() == bundles


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (b"\x00", "tile/entries/000: the bundle ends inside the length of entry 0"),
        (encode_bundle(LOG.entries[:255]), "tile/entries/000 has 255 entries instead of 256"),
        (b"", "tile/entries/000 has 0 entries instead of 256"),
    ],
)
def test_a_bundle_that_is_none_is_named(bundle: bytes, message: str) -> None:
    """The message says which one, and what is wrong with it."""
    following = Follower(POLICY)
    following.offer(LOG.checkpoint())
    with pytest.raises(FormatError, match=message):
        following.give({Bundle(0, 256): bundle})


def test_a_proof_of_nothing_leads_nowhere() -> None:
    """A log whose key signs a root that its tree has not is believed nothing, and has forked once it signs another."""
    made_up = note.sign(Checkpoint(ORIGIN, 300, merkle.leaf_hash(b"made up")).text, KEY)
    reader = Reader()
    with pytest.raises(ProofError):
        reader.round(LOG, made_up)
    assert (reader.entries, reader.state.note) == ([], made_up)
    with unmoved(reader):
        assert isinstance(reader.round(LOG), Forked)
