"""`translog.fork`: evidence of every small fork there is, and none of a log that only grew."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translog import reference
from tests.translog.policies import KEYS, LOG, ORIGIN, OTHER, signer
from tests.translog.reference import Entries, numbered
from tests.vectors import VECTORS, needs_vectors
from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, ProofError, SignatureError
from translog.fork import MAX_SIZE, Fork, Heads
from translog.merkle import EMPTY_ROOT, Node
from translog.note import Kind, Note, SigningKey
from translog.policy import LogLine, Policy, Witness

POLICY = Policy.of(LOG.verifying_key())
LARGEST = 12


def head(entries: Entries, origin: str = ORIGIN) -> Checkpoint:
    """The checkpoint of the log of these entries."""
    return Checkpoint(origin, len(entries), reference.mth(entries))


@cache
def signed(checkpoint: Checkpoint, *keys: SigningKey) -> bytes:
    """Its note, by the log's key unless others are given."""
    return note.sign(checkpoint.text, *(keys or (LOG,)))


def changed(entries: Entries, place: int) -> Entries:
    """The same entries but one."""
    return (*entries[:place], b"another entry", *entries[place + 1 :])


def evidence(smaller: Entries, larger: Entries) -> Fork:
    """What shows, of two logs, that the smaller one is not the beginning of the larger one."""
    size = len(smaller)
    root, proof = reference.mth(larger[:size]), reference.proof(size, larger)
    return Fork(signed(head(smaller)), signed(head(larger)), root, tuple(proof))


def every_pair() -> Iterator[tuple[Entries, Entries, int]]:
    """Two logs of all sizes up to `LARGEST` that are the same but for one entry of the larger, and its index."""
    for size in range(1, LARGEST + 1):
        entries = numbered(size)
        for smaller in range(1, size + 1):
            for place in range(size):
                yield entries[:smaller], changed(entries, place), place
                yield changed(entries, place)[:smaller], entries, place


def test_every_small_fork() -> None:
    """Two logs that differ in an entry both have are a fork, and those that differ beyond the smaller one are not."""
    forks = 0
    for smaller, larger, place in every_pair():
        fork = evidence(smaller, larger)
        assert Fork.parse(fork.encode()) == fork
        if place < len(smaller):
            assert fork.verify(POLICY) == Heads(head(smaller), head(larger))
            forks += 1
        else:
            with pytest.raises(ProofError, match=r"are consistent: the one of size .*; there is no fork"):
                fork.verify(POLICY)
    assert forks == 2 * sum(m for n in range(1, LARGEST + 1) for m in range(1, n + 1))


def test_every_hash_counts() -> None:
    """With a hash of a fork's evidence flipped, cut, left out or added, it shows nothing."""
    for smaller, larger, place in every_pair():
        if place >= len(smaller):
            continue
        fork = evidence(smaller, larger)
        flipped = bytes([fork.root[0] ^ 1]) + fork.root[1:]
        with pytest.raises(ProofError, match="leads to the root"):
            replace(fork, root=flipped).verify(POLICY)
        with pytest.raises(ProofError):
            replace(fork, root=head(smaller).root).verify(POLICY)
        for proof in reference.spoilt(fork.proof):
            with pytest.raises((ProofError, FormatError)):
                replace(fork, proof=tuple(proof)).verify(POLICY)


def test_an_honest_log_is_never_shown_to_fork() -> None:
    """Not with its own hashes, and not with those of any other log."""
    for smaller, larger, place in every_pair():
        honest = numbered(LARGEST)
        own = evidence(honest[: len(smaller)], honest[: len(larger)])
        with pytest.raises(ProofError, match="there is no fork"):
            own.verify(POLICY)
        other = evidence(smaller, larger)
        if place < len(smaller):
            for root, proof in ((other.root, other.proof), (other.root, own.proof), (own.root, other.proof)):
                if (root, proof) != (own.root, own.proof):
                    with pytest.raises(ProofError):
                        replace(own, root=root, proof=proof).verify(POLICY)


hashes = st.binary(min_size=32, max_size=32)


@given(st.integers(0, 40), st.integers(0, 40), hashes, st.lists(hashes, max_size=8))
def test_nor_with_any_hashes(one: int, other: int, root: bytes, proof: list[bytes]) -> None:
    """Whatever sizes and hashes are handed over for a log that only grew."""
    smaller, larger = (signed(head(numbered(size))) for size in (one, other))
    with pytest.raises(ProofError):
        Fork(smaller, larger, root, tuple(proof)).verify(POLICY)


HONEST, FORKED = numbered(5), changed(numbered(7), 2)
FORK = evidence(HONEST, FORKED)
SAME_SIZE = evidence(HONEST, FORKED[:5])


def test_the_text() -> None:
    """Header, root and proof are one line each; each checkpoint follows an empty line, verbatim."""
    root, *proof = (b64encode(value).decode() for value in (FORK.root, *FORK.proof))
    lines = ["translog-fork@v1", root, *proof, "", ORIGIN, "5"]
    text = FORK.encode().decode()

    assert text.split("\n")[: len(lines)] == lines
    assert text.endswith("\n\n" + FORK.smaller.decode() + "\n" + FORK.larger.decode())
    assert SAME_SIZE.encode() == b"translog-fork@v1\n%b\n\n%b\n%b" % (
        b64encode(head(FORKED[:5]).root),
        SAME_SIZE.smaller,
        SAME_SIZE.larger,
    )


def test_what_it_says_unverified() -> None:
    """The two checkpoints can be read without any key."""
    assert FORK.unverified_heads() == Heads(head(HONEST), head(FORKED))


roots = st.builds(Checkpoint, st.just(ORIGIN), st.integers(0, 2**63 - 1), hashes)


@given(roots, roots, hashes, st.lists(hashes, max_size=64))
def test_both_ways(smaller: Checkpoint, larger: Checkpoint, root: bytes, proof: list[bytes]) -> None:
    """Whatever the checkpoints and the hashes, the file is read back."""
    fork = Fork(note.sign(smaller.text, LOG), note.sign(larger.text, LOG, OTHER), root, tuple(proof))
    assert Fork.parse(fork.encode()) == fork


def test_extension_lines_and_other_signatures_are_kept() -> None:
    """The notes stay as they were fetched."""
    extended = replace(head(HONEST), extensions=("one", "two"))
    fork = replace(FORK, smaller=signed(extended, OTHER, LOG))
    assert Fork.parse(fork.encode()) == fork
    assert fork.verify(POLICY).smaller == extended


class TestEqualSizes:
    """Two checkpoints of one size need no hashes."""

    def test_the_roots_differ(self) -> None:
        """That is the fork; the root given is the larger one's, and either may be called the larger."""
        assert SAME_SIZE.proof == ()
        assert SAME_SIZE.verify(POLICY) == Heads(head(HONEST), head(FORKED[:5]))
        assert evidence(FORKED[:5], HONEST).verify(POLICY) == Heads(head(FORKED[:5]), head(HONEST))

    def test_another_root_or_a_proof(self) -> None:
        """There is one way to say it."""
        for fork in (
            replace(SAME_SIZE, root=head(HONEST).root),
            replace(SAME_SIZE, root=bytes(32)),
            replace(SAME_SIZE, proof=(bytes(32),)),
            replace(SAME_SIZE, smaller=SAME_SIZE.larger, larger=SAME_SIZE.smaller),
        ):
            with pytest.raises(ProofError):
                fork.verify(POLICY)

    def test_one_checkpoint_twice(self) -> None:
        """Signed anew, or with other extension lines, it is still one tree."""
        extended = signed(replace(head(HONEST), extensions=("other",)))
        for larger in (SAME_SIZE.smaller, signed(head(HONEST), OTHER, LOG), extended):
            fork = Fork(SAME_SIZE.smaller, larger, head(HONEST).root, ())
            with pytest.raises(ProofError, match="are consistent: the one of size 5 is the beginning of the one of"):
                fork.verify(POLICY)


class TestNoEntries:
    """A checkpoint of size 0 is no side of a fork."""

    WRONG = Checkpoint(ORIGIN, 0, bytes(32))

    @pytest.mark.parametrize("smaller", [WRONG, Checkpoint(ORIGIN, 0, EMPTY_ROOT)])
    @pytest.mark.parametrize("larger", [head(HONEST), WRONG, Checkpoint(ORIGIN, 0, EMPTY_ROOT)])
    @pytest.mark.parametrize("root", [EMPTY_ROOT, bytes(32)])
    def test_whatever_its_root(self, smaller: Checkpoint, larger: Checkpoint, root: bytes) -> None:
        """One with a root that no empty tree has is wrong by itself, and contradicts nothing."""
        with pytest.raises(ProofError, match="a checkpoint of size 0 contradicts no other"):
            Fork(signed(smaller), signed(larger), root, ()).verify(POLICY)


def test_the_notes_swapped() -> None:
    """The smaller one comes first."""
    with pytest.raises(ProofError, match="7 leaves cannot have grown into 5"):
        replace(FORK, smaller=FORK.larger, larger=FORK.smaller).verify(POLICY)


class TestWhoSigned:
    """Both checkpoints are signed by one log that the policy knows."""

    @pytest.mark.parametrize("side", ["smaller", "larger"])
    def test_another_key(self, side: str) -> None:
        """One side by a stranger, or by a key of the log's name that is not its key, proves nothing."""
        checkpoint = getattr(FORK.unverified_heads(), side)
        for key in (OTHER, SigningKey(ORIGIN, Kind.ED25519, bytes(32)), signer(ORIGIN, Kind.ML_DSA_44)):
            with pytest.raises(SignatureError, match="no signature by a key that was given"):
                replace(FORK, **{side: signed(checkpoint, key)}).verify(POLICY)

    @pytest.mark.parametrize("side", ["smaller", "larger"])
    def test_a_signature_of_something_else(self, side: str) -> None:
        """A signature that the log made for another checkpoint does not verify."""
        checkpoint = getattr(FORK.unverified_heads(), side)
        lines = Note.parse(signed(replace(checkpoint, size=6))).signatures
        with pytest.raises(SignatureError, match="does not verify"):
            replace(FORK, **{side: Note(checkpoint.text, lines).encode()}).verify(POLICY)

    @pytest.mark.parametrize("side", ["smaller", "larger"])
    def test_another_origin(self, side: str) -> None:
        """Two logs may well have different entries, though a policy knows both, or one key signs for both."""
        checkpoint = replace(getattr(FORK.unverified_heads(), side), origin=OTHER.name)
        both = Policy.of(LOG.verifying_key(), OTHER.verifying_key())
        with pytest.raises(SignatureError, match=r"a checkpoint of '.*' and one of '.*', which is another log"):
            replace(FORK, **{side: signed(checkpoint, OTHER)}).verify(both)
        with pytest.raises(SignatureError, match="signed only by"):
            replace(FORK, **{side: signed(checkpoint)}).verify(both)

    def test_an_origin_that_is_not_the_keys_name(self) -> None:
        """The policy names it, and any of the log's keys may have signed either side."""
        one, other = (signed(head(entries, "The Log"), key) for entries, key in ((HONEST, LOG), (FORKED, OTHER)))
        fork = replace(FORK, smaller=one, larger=other)
        keys = LOG.verifying_key(), OTHER.verifying_key()
        assert fork.verify(Policy.of(*keys, origin="The Log")).larger.origin == "The Log"
        with pytest.raises(SignatureError, match="give the origin with the policy"):
            fork.verify(Policy.of(*keys))
        with pytest.raises(SignatureError, match="no signature by a key that was given"):
            fork.verify(Policy.of(keys[0], origin="The Log"))

    def test_two_keys_of_one_log(self) -> None:
        """A log that got a new key still answers for what it signed with the old one, if the policy knows both."""
        new = signer(ORIGIN, Kind.ML_DSA_44)
        fork = replace(FORK, larger=signed(head(FORKED), new))
        assert fork.verify(Policy.of(LOG.verifying_key(), new.verifying_key())).smaller == head(HONEST)

    def test_witnesses_are_not_asked(self) -> None:
        """The log is judged by what it signed: no quorum is needed, and no cosignature, right or wrong, helps it."""
        policy = Policy((LogLine(KEYS["log"]),), (Witness(b"a", KEYS["a"]),), quorum=b"a")
        wrong = signer("a.example").sign(head(FORKED).text, 1)
        cosigned = Note(head(HONEST).text, (LOG.sign(head(HONEST).text), wrong)).encode()
        for fork in (FORK, replace(FORK, smaller=cosigned)):
            assert fork.verify(policy) == Heads(head(HONEST), head(FORKED))
        only = Note(head(FORKED).text, (wrong,)).encode()
        with pytest.raises(SignatureError, match="no signature by a key that was given"):
            replace(FORK, larger=only).verify(policy)


HEADER = b"translog-fork@v1\n"
HASH = b64encode(bytes(32)) + b"\n"
NOTES = b"\n" + FORK.smaller + b"\n" + FORK.larger


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "1 paragraphs; the hashes and two signed checkpoints are 5"),
        (FORK.smaller, "2 paragraphs"),
        (HEADER + HASH + b"\n" + FORK.smaller, "3 paragraphs"),
        (HEADER + HASH + NOTES + b"\n" + FORK.larger, "7 paragraphs"),
        (HEADER + HASH + NOTES + b"\n", "paragraphs|no signature line after the last empty line"),
        (HEADER + HASH + NOTES[:-1], "does not end in a newline"),
        (HEADER + HASH + NOTES + b"x", "does not end in a newline"),
        (HEADER + HASH + b"\n" + NOTES, "checkpoint size: 'example.com/log' is not a decimal number"),
        (HEADER + HASH + NOTES.replace(b"\n\n", b"\n\n\n", 1), "checkpoint: "),
        (HEADER + HASH + b"\n" + FORK.smaller + FORK.larger, "4 paragraphs"),
        (HASH + NOTES, "the first line is 'AAAA.*', not translog-fork@v1"),
        (b"translog-fork@v2\n" + HASH + NOTES, "the first line is 'translog-fork@v2'"),
        (b"Translog-fork@v1\n" + HASH + NOTES, "the first line is"),
        (b" " + HEADER + HASH + NOTES, "the first line is"),
        (b"\n" + HEADER + HASH + NOTES, "the first line is ''"),
        (b"\xef\xbb\xbf" + HEADER + HASH + NOTES, "not ASCII"),
        (HEADER.replace(b"\n", b"\r\n") + HASH + NOTES, "the first line is"),
        (HEADER + NOTES, "no root below the first line"),
        (HEADER + HASH[:-2] + b"\n" + NOTES, "fork hash: .* is not canonical standard base64"),
        (HEADER + b" " + HASH + NOTES, "fork hash"),
        (HEADER + HASH + b"root " + HASH + NOTES, "fork hash"),
        (HEADER + HASH.replace(b"=", b"= ") + NOTES, "fork hash"),
        (HEADER + HASH.replace(b"A=", b"B=") + NOTES, "fork hash"),
        (HEADER + b"AAAA\n" + NOTES, "hash 0 has 3 bytes, not 32"),
        (HEADER + HASH + b"AAAA\n" + NOTES, "hash 1 has 3 bytes, not 32"),
        (HEADER + HASH * 66 + NOTES, "65 hashes; no consistency proof has more than 64"),
        (HEADER + HASH + NOTES.replace(b"\n5\n", b"\n05\n"), "checkpoint size"),
        (HEADER + HASH + NOTES.replace(b"\n5\n", b"\n\n5\n"), "6 paragraphs"),
        (HEADER + HASH + NOTES.replace("\u2014".encode(), b"-"), "is not a signature line"),
        (HEADER + HASH + b"\n" + note.sign("hello\n", LOG) + b"\n" + FORK.larger, "checkpoint: expected origin"),
        (HEADER + HASH + b"\n" + FORK.smaller + b"\n" + note.sign("hello\n", LOG), "checkpoint: expected origin"),
        (b"x" * (MAX_SIZE + 1), "2004097 bytes, at most 2004096 are read"),
    ],
)
def test_not_a_forks_evidence(data: bytes, reason: str) -> None:
    """Whatever departs from the format, or is spelled in another way, is refused, and the message says what."""
    with pytest.raises(FormatError, match=reason):
        Fork.parse(data)


def test_evidence_that_was_cut() -> None:
    """However many bytes are missing at the end, it is none."""
    whole = FORK.encode()
    for length in range(len(whole)):
        with pytest.raises(FormatError):
            Fork.parse(whole[:length])


def test_evidence_that_no_file_made() -> None:
    """The rules hold for what a program puts together, as well."""
    for fields in ({"root": bytes(31)}, {"proof": (bytes(33),)}, {"proof": (bytes(32),) * 65}, {"smaller": b""}):
        with pytest.raises(FormatError):
            replace(FORK, **fields)


@needs_vectors
def test_a_log_that_others_made_did_not_fork() -> None:
    """Of sixteen checkpoints of a small log, each is the beginning of all that are larger."""
    folder = VECTORS / "transparency-dev-tessera" / "testdata" / "log"
    policy = Policy.of("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")
    tile = (folder / "tile" / "0" / "000.p" / "15").read_bytes()
    leaves = [tile[at : at + 32] for at in range(0, len(tile), 32)]

    def read(nodes: Sequence[Node]) -> list[bytes]:
        return [merkle.root_from_leaves(leaves[index << level : (index + 1) << level]) for level, index in nodes]

    for larger in range(1, 16):
        for smaller in range(1, larger + 1):
            one, other = ((folder / f"checkpoint.{size}").read_bytes() for size in (smaller, larger))
            root, proof = merkle.root_from_leaves(leaves[:smaller]), merkle.consistency_proof(smaller, larger, read)
            with pytest.raises(ProofError, match="there is no fork"):
                Fork(one, other, root, tuple(proof)).verify(policy)
