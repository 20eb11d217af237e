"""`translog.note`, kind by kind: the keys that are refused, and signatures that cover more, or less, than a text."""

import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from translog import note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, SignatureError
from translog.note import Kind, Note, Signature, SigningKey, VerifyingKey

TEXT = "One line.\n"
HEAD = Checkpoint("example.com/log", 7, bytes(32)).text

KEYS = {
    kind: SigningKey("example.com/log", kind, bytes(range(32)))
    for kind in (Kind.ED25519, Kind.COSIGNATURE, Kind.ML_DSA_44)
}
PLAIN = KEYS[Kind.ED25519]


class TestSmallOrderKeys:
    """Ed25519 public keys for which signatures can be made without any private key."""

    P = 2**255 - 19
    POINTS = (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )

    @pytest.mark.parametrize("point", POINTS)
    def test_the_eight_points(self, point: str) -> None:
        """All points whose order divides 8 are refused, by the function and in vkeys of both kinds."""
        raw = bytes.fromhex(point)
        with pytest.raises(FormatError, match="small order"):
            note.ed25519_public_key(raw)
        for kind in (Kind.ED25519, Kind.COSIGNATURE):
            with pytest.raises(FormatError, match="small order"):
                VerifyingKey("n", kind, raw)

    @pytest.mark.parametrize("y", [P, P + 1, P + 3, 2**255 - 1])
    @pytest.mark.parametrize("sign", [0, 1])
    def test_spellings_that_are_not_canonical(self, y: int, sign: int) -> None:
        """A coordinate of p or more is refused, also where it spells a point of small order."""
        with pytest.raises(FormatError, match="not the canonical encoding of a point"):
            note.ed25519_public_key((y | sign << 255).to_bytes(32, "little"))

    def test_points_off_the_curve(self) -> None:
        """Of the numbers from 2 to 9, those that are no y coordinate are refused: no x belongs to them."""
        accepted: list[int] = []
        for y in range(2, 10):
            try:
                note.ed25519_public_key(y.to_bytes(32, "little"))
            except FormatError as error:
                assert "not a point of the curve" in str(error)  # noqa: PT017  either outcome is expected here
            else:
                accepted.append(y)
        assert accepted == [3, 4, 5, 6, 9]

    @given(st.binary(min_size=32, max_size=32))
    def test_real_keys_pass(self, seed: bytes) -> None:
        """The public key of any seed is accepted, as it is."""
        public = SigningKey("n", Kind.ED25519, seed).verifying_key().public
        assert note.ed25519_public_key(public).public_bytes_raw() == public


class TestCosignatures:
    """Types 04 and 06: signatures of checkpoints that state a time."""

    @pytest.mark.parametrize("kind", [Kind.COSIGNATURE, Kind.ML_DSA_44])
    def test_the_time_is_verified_and_given(self, kind: Kind) -> None:
        """An opened cosignature tells the time it states; a changed time does not verify."""
        key = KEYS[kind]
        line = key.sign(HEAD, timestamp=1_679_315_147)
        (opened,) = note.open(Note(HEAD, (line,)).encode(), [key.verifying_key()]).signatures
        assert opened.timestamp == 1_679_315_147
        assert opened.blob[:8] == (1_679_315_147).to_bytes(8, "big")
        later = replace(line, blob=(1_679_315_148).to_bytes(8, "big") + line.blob[8:])
        with pytest.raises(SignatureError, match="does not verify"):
            note.open(Note(HEAD, (later,)).encode(), [key.verifying_key()])

    def test_sizes(self) -> None:
        """A cosignature is eight bytes of time and 64 or 2,420 of signature."""
        assert len(KEYS[Kind.COSIGNATURE].sign(HEAD, timestamp=1).blob) == 8 + 64
        assert len(KEYS[Kind.ML_DSA_44].sign(HEAD).blob) == 8 + 2420

    def test_a_time_is_unknown_until_verified(self) -> None:
        """Reading a note tells no times: they are part of a signature that may be wrong."""
        data = Note(HEAD, (KEYS[Kind.COSIGNATURE].sign(HEAD, timestamp=5),)).encode()
        assert Note.parse(data).signatures[0].timestamp is None

    def test_several_witnesses_on_one_checkpoint(self) -> None:
        """A log's signature and two cosignatures are verified side by side, each by its own key."""
        lines = (PLAIN.sign(HEAD), KEYS[Kind.COSIGNATURE].sign(HEAD, timestamp=5), KEYS[Kind.ML_DSA_44].sign(HEAD))
        opened = note.open(Note(HEAD, lines).encode(), [key.verifying_key() for key in KEYS.values()])
        assert [(signature.key_id, signature.timestamp) for signature in opened.signatures] == [
            (PLAIN.key_id, None),
            (KEYS[Kind.COSIGNATURE].key_id, 5),
            (KEYS[Kind.ML_DSA_44].key_id, 0),
        ]

    def test_only_checkpoints_are_cosigned(self) -> None:
        """A cosigner signs no other text, and no signature of it over another text verifies."""
        for kind in (Kind.COSIGNATURE, Kind.ML_DSA_44):
            key = KEYS[kind]
            with pytest.raises(FormatError, match="checkpoint: "):
                key.sign(TEXT, timestamp=1)
            line = key.sign(HEAD, timestamp=1)
            with pytest.raises(SignatureError, match="does not verify: checkpoint: "):
                note.open(Note(TEXT, (line,)).encode(), [key.verifying_key()])

    def test_extension_lines(self) -> None:
        """An Ed25519 cosignature covers extension lines; an ML-DSA-44 one, as specified, does not."""
        extended = HEAD + "extension\n"
        line = KEYS[Kind.COSIGNATURE].sign(HEAD, timestamp=1)
        with pytest.raises(SignatureError, match="does not verify"):
            KEYS[Kind.COSIGNATURE].verifying_key().verify(extended, line)
        line = KEYS[Kind.ML_DSA_44].sign(HEAD, timestamp=1)
        assert KEYS[Kind.ML_DSA_44].verifying_key().verify(extended, line).timestamp == 1

    def test_times_that_cannot_be_stated(self) -> None:
        """A plain key states no time, a cosignature has to, and none is negative or above 2^63 - 1."""
        with pytest.raises(FormatError, match="signatures state no time"):
            PLAIN.sign(HEAD, timestamp=1)
        with pytest.raises(FormatError, match="states a time; give it"):
            KEYS[Kind.COSIGNATURE].sign(HEAD)
        for timestamp in (-1, 2**63):
            with pytest.raises(FormatError, match="is not between 0 and 2\\^63 - 1 seconds"):
                KEYS[Kind.ML_DSA_44].sign(HEAD, timestamp=timestamp)
        assert KEYS[Kind.ML_DSA_44].sign(HEAD, timestamp=2**63 - 1).timestamp == 2**63 - 1

    @pytest.mark.parametrize(
        ("blob", "reason"),
        [
            (b"x", "too short to state a time"),
            (bytes(7), "too short to state a time"),
            (b"\x80" + bytes(71), "above 2\\^63 - 1"),
            (bytes(8), "does not verify"),
            (bytes(72), "does not verify"),
        ],
    )
    def test_malformed_cosignatures(self, blob: bytes, reason: str) -> None:
        """A cosignature that is cut short or states an impossible time does not verify."""
        for kind in (Kind.COSIGNATURE, Kind.ML_DSA_44):
            key = KEYS[kind].verifying_key()
            with pytest.raises(SignatureError, match=reason):
                key.verify(HEAD, Signature(key.name, key.key_id, blob))


class TestTreeHeads:
    """Type 05: the signatures of CT logs, which cover size, root and time."""

    PRIVATE = ec.derive_private_key(7, ec.SECP256R1())
    KEY = VerifyingKey(
        "example.com/log",
        Kind.TREE_HEAD,
        PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )

    def signature(self, timestamp: int = 9, algorithms: tuple[int, int] = (4, 3), trailing: bytes = b"") -> Signature:
        """A tree head signature for `HEAD`."""
        message = b"\0\1" + struct.pack(">QQ", timestamp, 7) + bytes(32)
        raw = self.PRIVATE.sign(message, ec.ECDSA(hashes.SHA256()))
        blob = struct.pack(">QBBH", timestamp, *algorithms, len(raw)) + raw + trailing
        return Signature(self.KEY.name, self.KEY.key_id, blob)

    def test_a_tree_head_verifies(self) -> None:
        """The signature over RFC 6962's TreeHeadSignature verifies, and tells its time in milliseconds."""
        assert self.KEY.verify(HEAD, self.signature()).timestamp == 9

    @pytest.mark.parametrize(
        "text",
        [
            HEAD.replace("7", "8"),
            HEAD.replace("example.com/log", "example.com/other"),
            HEAD + "extension\n",
            TEXT,
        ],
    )
    def test_other_texts_do_not(self, text: str) -> None:
        """Another size does not verify, nor what the signature leaves open: another origin, extension lines."""
        with pytest.raises(SignatureError, match="does not verify"):
            self.KEY.verify(text, self.signature())

    def test_malformed_tree_heads(self) -> None:
        """Other algorithms, trailing bytes and a cut structure do not verify."""
        for signature in (
            self.signature(algorithms=(4, 1)),
            self.signature(algorithms=(6, 3)),
            self.signature(trailing=b"\0"),
            replace(self.signature(), blob=self.signature().blob[:10]),
        ):
            with pytest.raises(SignatureError, match="not an ECDSA signature with SHA-256"):
                self.KEY.verify(HEAD, signature)
