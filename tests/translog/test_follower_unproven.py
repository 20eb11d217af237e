"""`translog.follower`: what a log has signed counts, also if it does not show what is in it, or the quorum lacks."""

import pytest

from tests.translog.following import Reader, believed, unmoved
from tests.translog.misbehaving import Simulated, serving, status
from tests.translog.samples import KEY, ORIGIN, POLICY, STRANGER
from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FetchError, FormatError, ProofError, SignatureError
from translog.follower import Behind, Current, Fetch, Follower, Forked, Read, State
from translog.fork import Fork
from translog.note import Kind, Note, SigningKey
from translog.policy import Policy

LOG = Simulated.of(700)
WITNESS = SigningKey("example.com/witness", Kind.COSIGNATURE, bytes(32))
STRICT = Policy.parse(f"log {KEY.verifying_key()}\nwitness W {WITNESS.verifying_key()}\nquorum W\n".encode())


def cosigned(checkpoint: bytes) -> bytes:
    """The checkpoint with the witness's cosignature."""
    signed = Note.parse(checkpoint)
    return Note(signed.text, (*signed.signatures, WITNESS.sign(signed.text, 1_700_000_000))).encode()


def read_to(size: int) -> Reader:
    """Who has read so many entries."""
    reader = Reader()
    assert reader.round(LOG, LOG.checkpoint(size)) == Current()
    return reader


def shown(reader: Reader, checkpoint: bytes) -> None:
    """Show a checkpoint of which no tile is to be had."""
    following = reader.follower()
    step = following.offer(checkpoint)
    while isinstance(step, Read):
        reader.keep(step)
        step = following.go_on()
    assert isinstance(step, Fetch)


# ---- the policy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [0, 300, 700])
def test_a_stricter_policy_holds_for_the_last_checkpoint(entries: int) -> None:
    """It is what later ones must be consistent with, and no more: nothing is read under it, and nothing is current."""
    honest = LOG.checkpoint()
    frontier = merkle.Frontier()
    frontier.extend(map(merkle.leaf_hash, LOG.entries[:entries]))
    state = State(honest, entries, tuple(frontier.peaks))
    reader = Reader(STRICT, state.encode(), list(LOG.entries[:entries]))
    with unmoved(reader):
        for _ in range(2):
            following = reader.follower()
            with pytest.raises(SignatureError, match="the quorum lacks"):
                following.offer(honest)
            with pytest.raises(SignatureError, match="the quorum lacks"):
                following.go_on()
        for told, log, checkpoint in (
            (None, LOG, LOG.forked(7).checkpoint()),
            (None, LOG.forked(7, 701), LOG.forked(7, 701).checkpoint()),
            (Behind(600), LOG, cosigned(LOG.checkpoint(600))),
        ):
            step = Reader(STRICT, reader.kept, list(reader.entries)).round(log, checkpoint)
            assert isinstance(step, Forked) if told is None else step == told
    assert reader.round(LOG, cosigned(honest)) == Current()
    assert tuple(reader.entries) == LOG.entries


@pytest.mark.parametrize("size", [300, 301, 500])
def test_a_checkpoint_without_the_quorum_is_held_against_later_ones(size: int) -> None:
    """What the log signed first, and no witness cosigned, it cannot take back, before the first is accepted."""
    reader = Reader(STRICT)
    with pytest.raises(SignatureError, match="the quorum lacks"):
        reader.round(LOG, LOG.checkpoint(300))
    assert reader.state == State(None, unproven=LOG.checkpoint(300))
    kept = reader.kept
    with pytest.raises(SignatureError, match="the quorum lacks"):
        reader.round(LOG, LOG.checkpoint(300))
    assert reader.kept == kept
    step = Reader(STRICT, kept).round(LOG.forked(7, size), cosigned(LOG.forked(7, size).checkpoint()))
    assert isinstance(step, Forked)
    Fork.parse(step.fork.encode()).verify(STRICT)
    assert reader.round(LOG, cosigned(LOG.checkpoint(size))) == Current()
    assert reader.state.unproven is None
    assert len(reader.entries) == size


def test_a_log_ahead_of_its_witnesses() -> None:
    """Newer checkpoints without the quorum take each other's place once proven; the cosigned ones are read."""
    reader = Reader(STRICT)
    reader.round(LOG, cosigned(LOG.checkpoint(300)))
    for size in (400, 500):
        with unmoved(reader), pytest.raises(SignatureError):
            reader.round(LOG, LOG.checkpoint(size))
        assert reader.state.unproven == LOG.checkpoint(size)
    assert reader.round(LOG, cosigned(LOG.checkpoint(400))) == Current()
    assert (len(reader.entries), reader.state.unproven) == (400, LOG.checkpoint(500))
    step = Reader(STRICT, reader.kept).round(LOG, LOG.forked(450, 500).checkpoint())
    assert isinstance(step, Forked), "the one that is signed, and not read, counts"
    assert reader.round(LOG, cosigned(LOG.checkpoint(600))) == Current()
    assert (len(reader.entries), reader.state.unproven) == (600, None)


# ---- tiles that are withheld --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("withheld", "then"), [(400, 400), (400, 401), (400, 700), (200, 300), (200, 700), (301, 302)])
def test_a_fork_whose_tiles_were_withheld(withheld: int, then: int) -> None:
    """It was signed: the first honest checkpoint that can be compared with it shows the fork."""
    reader = read_to(300)
    other = LOG.forked(7, withheld).checkpoint()
    with unmoved(reader):
        shown(reader, other)
        assert reader.state.unproven == other
        step = reader.round(LOG, LOG.checkpoint(then))
    assert isinstance(step, Forked)
    heads = step.fork.verify(POLICY)
    assert sorted((withheld, then)) == [head.size for head in heads]


@pytest.mark.parametrize("withheld", [200, 400])
def test_what_was_withheld_and_is_honest(withheld: int) -> None:
    """Proven to be of the same log it is dropped, once, and everything is read."""
    reader = read_to(300)
    shown(reader, LOG.checkpoint(withheld))
    if withheld < 300:
        assert reader.round(LOG, LOG.checkpoint(300)) == Current()
        assert reader.state == State(LOG.checkpoint(300), 300, reader.state.peaks)
    assert reader.round(LOG) == Current()
    assert reader.state.unproven is None
    assert tuple(reader.entries) == LOG.entries


def test_it_is_told_once() -> None:
    """However often the same one is shown, there is one `Read` of it; the same for one that is behind."""
    for size, ends in ((400, None), (200, Behind(200))):
        reader = read_to(300)
        shown(reader, LOG.checkpoint(size))
        for _ in range(3):
            following = reader.follower()
            step = following.offer(LOG.checkpoint(size))
            assert isinstance(step, Fetch)
            if ends is not None:
                assert following.give(LOG.resources(step.resources)) == ends
        assert reader.state.unproven == LOG.checkpoint(size)


def test_the_first_is_not_pushed_out() -> None:
    """There is one, and what is shown after it while it is unproven is not remembered; a larger one stays meanwhile."""
    reader = read_to(300)
    first = LOG.forked(7, 600).checkpoint()
    shown(reader, first)
    shown(reader, LOG.forked(8, 500).checkpoint())
    assert reader.state.unproven == first
    assert reader.round(LOG, LOG.checkpoint(400)) == Current()
    assert (len(reader.entries), reader.state.unproven) == (400, first)
    with unmoved(reader):
        assert isinstance(reader.round(LOG, LOG.checkpoint(601)), Forked)


def test_false_tiles_say_nothing_of_it() -> None:
    """Hashes that do not lead to the larger root are an error, and it is compared again with those that do."""
    reader = read_to(300)
    shown(reader, LOG.forked(7, 200).checkpoint())
    with unmoved(reader):
        with pytest.raises(ProofError, match="do not fit its checkpoint"):
            reader.round(LOG.forked(7), LOG.checkpoint())
        assert isinstance(reader.round(LOG, LOG.checkpoint(300)), Forked)


@pytest.mark.parametrize("code", [404, 500])
@pytest.mark.parametrize(("withheld", "then"), [(400, 400), (400, 700), (200, 300)])
def test_over_http(code: int, withheld: int, then: int) -> None:
    """The server gives a forked checkpoint and none of its tiles, and later the honest one: it is found out."""
    with serving(Simulated.of(300)) as server:
        reader = Reader()
        reader.over_http(server)
        server.checkpoint = LOG.forked(7, withheld).checkpoint()
        server.when("tile/", status(code))
        for _ in range(2):
            with unmoved(reader), pytest.raises(FetchError):
                reader.over_http(server)
        assert reader.state.unproven == server.checkpoint
        server.well()
        server.log, server.checkpoint = Simulated.of(then), None
        with unmoved(reader):
            assert isinstance(reader.over_http(server), Forked)


# ---- states -------------------------------------------------------------------------------------------------------


def test_states_with_an_unproven_checkpoint() -> None:
    """They come back as they were, with and without another checkpoint; any other spelling is refused."""
    reader = read_to(300)
    without = reader.kept
    shown(reader, LOG.checkpoint(400))
    assert State.parse(without) == believed(reader.state)
    for state in (reader.state, State(unproven=LOG.checkpoint(400))):
        kept = state.encode()
        assert State.parse(kept) == state
        for wrong in (
            kept.replace(b"unproven ", b"unproven  "),
            kept.replace(b"unproven ", b""),
            kept.replace(b"\nunproven ", b"\nunproven AAAA\nunproven "),
            kept.replace(b"size ", b"unproven AAAA\nsize "),
            kept.replace(b"\n\n", b"A\n\n", 1),
        ):
            with pytest.raises(FormatError):
                State.parse(wrong)


def test_an_unproven_checkpoint_is_of_the_same_log_and_of_another_size() -> None:
    """Else there is nothing to prove, or it was proven."""
    for unproven in (LOG.forked(7, 300).checkpoint(), Simulated(LOG.entries, STRANGER).checkpoint()):
        with pytest.raises(FormatError, match="of the same log, and of another size"):
            State(LOG.checkpoint(300), unproven=unproven)
    with pytest.raises(FormatError):
        State(unproven=b"no checkpoint")


def test_a_key_that_was_given_up_proves_nothing() -> None:
    """An unproven checkpoint that no log of the policy signed does not count any more."""
    state = State(unproven=Simulated(LOG.entries[:400], STRANGER).checkpoint())
    reader = Reader(kept=state.encode())
    assert reader.round(LOG) == Current()
    assert reader.state.unproven is None


def test_another_log_of_the_policy_takes_its_place() -> None:
    """As long as nothing is followed, a checkpoint that was not accepted binds no other log."""
    both = Policy.parse(f"log {STRANGER.verifying_key()}\n".encode() + STRICT.encode())
    reader = Reader(both)
    with pytest.raises(SignatureError):
        reader.round(LOG, Simulated(LOG.entries, STRANGER).checkpoint())
    assert reader.round(LOG, cosigned(LOG.checkpoint(300))) == Current()
    assert reader.state.unproven is None


def test_nothing_is_unproven_of_the_empty_log() -> None:
    """It contradicts no other, and nothing is kept of it."""
    reader = read_to(300)
    with unmoved(reader):
        assert reader.round(LOG, note.sign(Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT).text, KEY)) == Behind(0)
    assert reader.state.unproven is None
    with pytest.raises(SignatureError):
        Follower(STRICT).offer(Simulated(()).checkpoint())
