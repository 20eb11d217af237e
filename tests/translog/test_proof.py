"""`translog.proof`: a proof that can be carried away, and what it takes to make it fail."""

from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translog.samples import KEY, ORIGIN, POLICY, STRANGER, Log
from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, ProofError, SignatureError
from translog.proof import TlogProof

ENTRY = b"the entry"
LOG = Log(ENTRY)
PROOF = LOG.proof()

hashes = st.binary(min_size=32, max_size=32)


@given(st.integers(0, 2**63 - 2), st.lists(hashes, max_size=63), st.none() | st.binary())
def test_both_ways(index: int, path: list[bytes], extra: bytes | None) -> None:
    """Whatever index, hashes and extra data, empty ones included, the proof is read back."""
    proof = TlogProof(index, tuple(path), LOG.checkpoint(), extra)
    assert TlogProof.parse(proof.encode()) == proof


def test_the_text() -> None:
    """Header, extra data, index and hashes are one line each; the checkpoint follows an empty line, verbatim."""
    lines = [
        "c2sp.org/tlog-proof@v1",
        "extra SGVsbG8=",
        "index 2",
        *(b64encode(value).decode() for value in PROOF.hashes),
        "",
        ORIGIN,
    ]
    text = replace(PROOF, extra=b"Hello").encode().decode()
    assert text.split("\n")[: len(lines)] == lines
    assert text.endswith("\n\n" + LOG.checkpoint().decode())
    assert PROOF.encode().decode().split("\n")[:2] == ["c2sp.org/tlog-proof@v1", "index 2"]


def test_a_proof_verifies() -> None:
    """The entry is in the log of the checkpoint that is given back, whoever else signed it."""
    assert PROOF.verify(ENTRY, POLICY) == PROOF.unverified_checkpoint()
    assert PROOF.verify(ENTRY, POLICY).origin == ORIGIN
    cosigned = replace(PROOF, checkpoint=LOG.checkpoint(STRANGER, KEY))
    assert cosigned.verify(ENTRY, POLICY) == PROOF.unverified_checkpoint()


def test_the_only_entry_needs_no_hashes() -> None:
    """In a log of one entry the leaf hash is the root."""
    head = Checkpoint(ORIGIN, 1, merkle.leaf_hash(ENTRY))
    proof = TlogProof(0, (), note.sign(head.text, KEY))
    assert TlogProof.parse(proof.encode()).verify(ENTRY, POLICY) == head


def test_nothing_else_is_proved() -> None:
    """Another entry, index or log, and hashes dropped, added, swapped or changed, are refused."""
    one, two, three = PROOF.hashes
    for proof in (
        replace(PROOF, index=1),
        replace(PROOF, index=3),
        replace(PROOF, index=5),
        replace(PROOF, index=2**63 - 2),
        replace(PROOF, hashes=(one, two)),
        replace(PROOF, hashes=(one, two, three, three)),
        replace(PROOF, hashes=(two, one, three)),
        *(
            replace(PROOF, hashes=(*PROOF.hashes[:i], bytes([value[0] ^ 1]) + value[1:], *PROOF.hashes[i + 1 :]))
            for i, value in enumerate(PROOF.hashes)
        ),
    ):
        with pytest.raises(ProofError):
            proof.verify(ENTRY, POLICY)
    with pytest.raises(ProofError):
        PROOF.verify(b"another entry", POLICY)
    with pytest.raises(SignatureError):
        replace(PROOF, checkpoint=LOG.checkpoint(STRANGER)).verify(ENTRY, POLICY)


HEAD = b"c2sp.org/tlog-proof@v1\n"
HASH = b64encode(bytes(32))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\n", "the first line is ''"),
        (b"\xef\xbb\xbf" + HEAD + b"index 2\n", "not ASCII"),
        (b"C2SP.org/tlog-proof@v1\nindex 2\n", "the first line is"),
        (b"c2sp.org/tlog-proof@v2\nindex 2\n", "the first line is"),
        (b"c2sp.org/tlog-proof@v1\r\nindex 2\r\n", "the first line is"),
        (HEAD, "expected a line with the index"),
        (HEAD + b"Index 2\n", "expected a line with the index"),
        (HEAD + b"index2\n", "expected a line with the index"),
        (HEAD + b"index 2\nextra AAAA\n", "tlog-proof hash"),
        (HEAD + b"extra AAAA\nextra AAAA\nindex 2\n", "expected a line with the index"),
        (HEAD + b"extra AAA\nindex 2\n", "tlog-proof extra"),
        (HEAD + b"extra  AAAA\nindex 2\n", "tlog-proof extra"),
        (HEAD + b"index 02\n", "tlog-proof index"),
        (HEAD + b"index  2\n", "tlog-proof index"),
        (HEAD + b"index 2 \n", "tlog-proof index"),
        (HEAD + b"index +2\n", "tlog-proof index"),
        (HEAD + b"index 1_0\n", "tlog-proof index"),
        (HEAD + "index \u0662\n".encode(), "not ASCII"),
        (HEAD + b"index 9223372036854775807\n", "tlog-proof index: 9223372036854775807 is above"),
        (HEAD + b"index 2\n" + HASH + b" \n", "tlog-proof hash"),
        (HEAD + b"index 2\n" + HASH[:-1] + b"\n", "tlog-proof hash"),
        (HEAD + b"index 2\nAAAA\n", "hash 0 has 3 bytes, not 32"),
        (HEAD + b"index 2\n" + (HASH + b"\n") * 64, "64 hashes; no inclusion proof has more than 63"),
    ],
)
def test_not_a_proof(head: bytes, reason: str) -> None:
    """Whatever departs from the format above the checkpoint is refused, and the message says what."""
    with pytest.raises(FormatError, match=reason):
        TlogProof.parse(head + b"\n" + LOG.checkpoint())


def test_the_checkpoint_is_one() -> None:
    """A proof without a checkpoint, or with a note that is none, is refused before anything is verified."""
    head = HEAD + b"index 2\n"
    for data, reason in (
        (head, "no empty line between the proof and its checkpoint"),
        (head + b"\n", "note: "),
        (head + b"\n\n" + LOG.checkpoint(), "checkpoint size: "),
        (head + b"\n" + LOG.checkpoint() + b"\n", "note: "),
        (head + b"\n" + LOG.checkpoint()[:-1], "note: "),
        (head + b"\n" + note.sign("hello\n", KEY), "checkpoint: "),
    ):
        with pytest.raises(FormatError, match=reason):
            TlogProof.parse(data)


@pytest.mark.parametrize("index", [-1, 2**63 - 1])
def test_indexes_are_bounded(index: int) -> None:
    """No log has an entry at a negative index or at 2^63 - 1."""
    with pytest.raises(FormatError, match=f"the index {index} is not between"):
        replace(PROOF, index=index)
