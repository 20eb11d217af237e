"""`translog.checkpoint` and `translog.policy`: what a log signs, in which bytes, and whose signature counts."""

import struct
from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translog import checkpoint, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, SignatureError
from translog.note import Kind, Note, SigningKey, VerifyingKey
from translog.policy import Policy

ROOT = bytes(range(32))
ROOT_64 = b64encode(ROOT).decode()
TEXT = f"example.com/log\n7\n{ROOT_64}\n"

lines = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=0x20), min_size=1)
checkpoints = st.builds(
    Checkpoint,
    origin=lines,
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    extensions=st.lists(lines, max_size=3).map(tuple),
)


@given(checkpoints)
def test_both_ways(head: Checkpoint) -> None:
    """Whatever origin, size, root and extension lines, the checkpoint is read back from its text."""
    assert Checkpoint.parse(head.text) == head


def test_the_text() -> None:
    """Origin, size and root are one line each; extension lines follow."""
    head = Checkpoint("example.com/log", 7, ROOT)
    assert head.text == TEXT
    assert replace(head, extensions=("one", "two")).text == TEXT + "one\ntwo\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected origin, size and root"),
        ("example.com/log\n", "expected origin, size and root"),
        ("example.com/log\n7\n", "expected origin, size and root"),
        (TEXT[:-1], "expected origin, size and root"),
        (TEXT + "extension", "expected origin, size and root"),
        (TEXT + "\n", "one line that is not empty"),
        (TEXT + "one\n\ntwo\n", "one line that is not empty"),
        ("\n" + TEXT, "checkpoint size"),
        (f"\n7\n{ROOT_64}\n", "one line that is not empty"),
        (TEXT.replace("7", "07"), "checkpoint size: '07' is not a decimal number"),
        (TEXT.replace("7", "+7"), "checkpoint size"),
        (TEXT.replace("7", "-7"), "checkpoint size"),
        (TEXT.replace("7", " 7"), "checkpoint size"),
        (TEXT.replace("7", "7 "), "checkpoint size"),
        (TEXT.replace("7", "1_0"), "checkpoint size"),
        (TEXT.replace("7", "\u0667"), "checkpoint size"),
        (TEXT.replace("7", ""), "checkpoint size"),
        (TEXT.replace("7", "9223372036854775808"), "checkpoint size: 9223372036854775808 is above"),
        (TEXT.replace("7", "9" * 5000), "checkpoint size"),
        (TEXT.replace("=", ""), "checkpoint root: .* is not canonical standard base64"),
        (TEXT.replace("=", "= "), "checkpoint root"),
        (TEXT.replace(ROOT_64, ""), "a root is exactly 32 bytes, this one has 0"),
        (TEXT.replace(ROOT_64, b64encode(ROOT[:31]).decode()), "a root is exactly 32 bytes, this one has 31"),
        (TEXT.replace(ROOT_64, b64encode(ROOT + b"x").decode()), "a root is exactly 32 bytes, this one has 33"),
        (TEXT.replace("example", "exa\tmple"), "control character U\\+0009"),
        (TEXT.replace("example", "exa\rmple"), "control character U\\+000D"),
        (TEXT + "exten\0sion\n", "control character U\\+0000"),
    ],
)
def test_not_a_checkpoint(text: str, reason: str) -> None:
    """Whatever departs from the format, or is spelled in another way, is refused."""
    with pytest.raises(FormatError, match=reason):
        Checkpoint.parse(text)


def test_sizes_go_up_to_the_limit() -> None:
    """2^63 - 1 leaves can be stated, one more or a negative number cannot."""
    assert Checkpoint.parse(TEXT.replace("7", str(2**63 - 1))).size == 2**63 - 1
    for size in (-1, 2**63):
        with pytest.raises(FormatError, match=f"the size {size} is not between"):
            Checkpoint("example.com/log", size, ROOT)


def test_lines_hold_no_newline() -> None:
    """A newline in an origin or an extension would make another checkpoint of it."""
    with pytest.raises(FormatError, match="one line that is not empty"):
        Checkpoint("example.com/log\n8", 7, ROOT)
    with pytest.raises(FormatError, match="one line that is not empty"):
        Checkpoint("example.com/log", 7, ROOT, ("one\ntwo",))


class TestSignedMessages:
    """The bytes that each kind of signature covers."""

    def test_ed25519_cosignature(self) -> None:
        """Two header lines, then the text as it is, as in the example of C2SP tlog-cosignature."""
        text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        message = checkpoint.cosignature_message(text, 1_679_315_147)
        assert message == b"cosignature/v1\ntime 1679315147\n" + text.encode()

    def test_ml_dsa_44_cosignature(self) -> None:
        """A `cosigned_message`: label, cosigner, time, origin, the range [0, size) and the root."""
        message = checkpoint.subtree_message(TEXT + "extension\n", "witness.example/ü", 258)
        assert message == (
            b"subtree/v1\n\0"
            b"\x12witness.example/\xc3\xbc"
            b"\0\0\0\0\0\0\x01\x02"
            b"\x0fexample.com/log"
            b"\0\0\0\0\0\0\0\0"
            b"\0\0\0\0\0\0\0\x07" + ROOT
        )

    def test_ml_dsa_44_names_have_255_bytes_at_most(self) -> None:
        """Names of 1 to 255 bytes fit the message; longer ones are refused."""
        longest = "x" * 255
        message = checkpoint.subtree_message(TEXT.replace("example.com/log", longest), longest, 0)
        assert len(message) == 12 + 256 + 8 + 256 + 8 + 8 + 32
        with pytest.raises(FormatError, match=r"cosigner name: .* in 1 to 255 bytes, this one has 256"):
            checkpoint.subtree_message(TEXT, "ü" * 128, 0)
        with pytest.raises(FormatError, match=r"checkpoint origin: .* in 1 to 255 bytes, this one has 256"):
            checkpoint.subtree_message(TEXT.replace("example.com/log", "x" * 256), "w", 0)

    def test_tree_head(self) -> None:
        """A `TreeHeadSignature`: version 0, type 1, time, size, root; the origin is not in there, and so is checked."""
        message = checkpoint.tree_head_message(TEXT, "example.com/log", 258)
        assert message == b"\0\x01" + struct.pack(">QQ", 258, 7) + ROOT
        with pytest.raises(FormatError, match="signs for no other origin"):
            checkpoint.tree_head_message(TEXT, "example.com/other", 258)
        with pytest.raises(FormatError, match="does not cover extension lines"):
            checkpoint.tree_head_message(TEXT + "extension\n", "example.com/log", 258)


class TestPolicy:
    """Any one of the log keys suffices, and each speaks for its own log alone."""

    KEY = SigningKey("example.com/log", Kind.ED25519, bytes(32))
    OTHER = SigningKey("example.com/other", Kind.ED25519, b"o" * 32)
    STRANGER = SigningKey("example.com/stranger", Kind.ED25519, b"s" * 32)

    def test_a_signed_checkpoint_opens(self) -> None:
        """The checkpoint is given once its log's signature is verified, whoever else signed it."""
        policy = Policy.of(str(self.KEY.verifying_key()), self.OTHER.verifying_key())
        assert policy.open(note.sign(TEXT, self.KEY)) == Checkpoint.parse(TEXT)
        assert policy.open(note.sign(TEXT, self.STRANGER, self.KEY)) == Checkpoint.parse(TEXT)
        assert policy.open(note.sign(TEXT, self.OTHER, self.KEY)) == Checkpoint.parse(TEXT)

    def test_ml_dsa_44_log_keys(self) -> None:
        """A log may sign with an ML-DSA-44 key."""
        key = SigningKey("example.com/log", Kind.ML_DSA_44, bytes(32))
        assert Policy.of(key.verifying_key()).open(note.sign(TEXT, key)).size == 7

    def test_a_log_does_not_speak_for_another(self) -> None:
        """A checkpoint with the origin of one log, signed by another known log, is refused."""
        policy = Policy.of(self.KEY.verifying_key(), self.OTHER.verifying_key())
        with pytest.raises(SignatureError, match=r"'example\.com/log' signed only by example\.com/other"):
            policy.open(note.sign(TEXT, self.OTHER))

    def test_unknown_logs(self) -> None:
        """A checkpoint that no known log signed is refused."""
        with pytest.raises(SignatureError, match="no signature by a key that was given"):
            Policy.of(self.KEY.verifying_key()).open(note.sign(TEXT, self.STRANGER))

    def test_any_wrong_signature_of_a_known_log(self) -> None:
        """A right signature does not make up for a wrong one by another known log."""
        wrong = self.OTHER.sign("another text\n")
        data = Note(TEXT, (self.KEY.sign(TEXT), wrong)).encode()
        with pytest.raises(SignatureError, match="does not verify"):
            Policy.of(self.KEY.verifying_key(), self.OTHER.verifying_key()).open(data)

    def test_a_signed_text_that_is_no_checkpoint(self) -> None:
        """Even the log's own signature makes no checkpoint of another text."""
        with pytest.raises(FormatError, match="checkpoint: "):
            Policy.of(self.KEY.verifying_key()).open(note.sign("hello\n", self.KEY))

    def test_policies_that_are_mistakes(self) -> None:
        """No key, one key under two names, a vkey that is none, and a witness's key are refused."""
        with pytest.raises(FormatError, match="no log key was given"):
            Policy.of()
        renamed = VerifyingKey("example.com/renamed", Kind.ED25519, self.KEY.verifying_key().public)
        with pytest.raises(FormatError, match="one and the same public key"):
            Policy.of(self.KEY.verifying_key(), renamed)
        with pytest.raises(FormatError, match="vkey: "):
            Policy.of("example.com/log")
        witness = SigningKey("example.com/log", Kind.COSIGNATURE, bytes(32))
        with pytest.raises(FormatError, match="a witness's cosigning key"):
            Policy.of(witness.verifying_key())
