"""`translog.note`: keys in their text forms, signed notes, and which of their signatures count."""

import base64
import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from translog import note
from translog.errors import FormatError, SignatureError
from translog.note import Kind, Note, Signature, SigningKey, VerifyingKey

EXAMPLE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

TEXT = "One line.\n"

KEYS = {
    kind: SigningKey("example.com/log", kind, bytes(range(32)))
    for kind in (Kind.ED25519, Kind.COSIGNATURE, Kind.ML_DSA_44)
}
PLAIN = KEYS[Kind.ED25519]
OTHER = SigningKey("example.com/other", Kind.ED25519, bytes(32))

characters = st.characters(exclude_categories=["Cs"], min_codepoint=0x20)
texts = st.text(characters | st.just("\n")).map(lambda text: text + "\n")
names = st.text(characters, min_size=1).filter(lambda name: "+" not in name and not any(c.isspace() for c in name))
signatures = st.builds(Signature, names, st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=80))


def test_the_example_of_the_specification() -> None:
    """The vkey of C2SP signed-note opens its note, and nothing else of it is left."""
    opened = note.open(EXAMPLE_NOTE, [VerifyingKey.parse(EXAMPLE_VKEY)])
    assert opened.text == "This is an example message.\n"
    assert [(signature.name, signature.key_id) for signature in opened.signatures] == [("example.com/foo", 0x530D903A)]
    assert opened.encode() == EXAMPLE_NOTE


@given(texts, st.lists(signatures, min_size=1, max_size=5))
def test_notes_both_ways(text: str, lines: list[Signature]) -> None:
    """Whatever text and signatures, empty lines within the text included, the note is read back."""
    written = Note(text, tuple(lines))
    assert Note.parse(written.encode()) == written


@given(texts, names)
def test_what_is_signed_opens(text: str, name: str) -> None:
    """A note signed by a key opens with the vkey of that key, read from its text form."""
    key = SigningKey(name, Kind.ED25519, bytes(32))
    opened = note.open(note.sign(text, key), [VerifyingKey.parse(str(key.verifying_key()))])
    assert opened == Note(text, (key.sign(text),))


def test_every_flipped_byte_is_noticed() -> None:
    """A note with any one bit of any one byte changed does not open."""
    data = note.sign(TEXT, PLAIN)
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises((FormatError, SignatureError)):
                note.open(bytes(changed), [PLAIN.verifying_key()])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no empty line"),
        (b"text\n", "no empty line"),
        (b"text\n\n", "no signature line after the last empty line"),
        (b"text\n\n\xe2\x80\x94 n AAAAAAA=", "does not end in a newline"),
        (b"text\n\nn AAAAAAA=\n", "not a signature line"),
        (b"text\n\n-- n AAAAAAA=\n", "not a signature line"),
        (b"text\n\n\xe2\x80\x94n AAAAAAA=\n", "not a signature line"),
        (b"text\n\n\xe2\x80\x94 n\n", "not a signature line"),
        (b"text\n\n\xe2\x80\x94 n AAAAAAA=\n\xe2\x80\x94 \xe2\x80\x94 n AAAAAAA=\n", "not canonical standard base64"),
        (b"text\n\n\xe2\x80\x94  AAAAAAA=\n", "a key's name is not empty"),
        (b"text\n\n\xe2\x80\x94 a+b AAAAAAA=\n", "no plus, 'a\\+b' is not one"),
        (b"text\n\n\xe2\x80\x94 a\xc2\xa0b AAAAAAA=\n", "has no spaces"),
        (b"text\n\n\xe2\x80\x94 n  AAAAAAA=\n", "not canonical standard base64"),
        (b"text\n\n\xe2\x80\x94 n AAAAAAA= \n", "not canonical standard base64"),
        (b"text\n\n\xe2\x80\x94 n AAAAAAA\n", "not canonical standard base64"),
        (b"text\n\n\xe2\x80\x94 n AAAAAAB=\n", "not canonical standard base64"),
        (b"text\n\n\xe2\x80\x94 n AAAAAA==\n", "fewer than a key ID and a signature"),
        (b"text\r\n\n\xe2\x80\x94 n AAAAAAA=\n", "control character U\\+000D"),
        (b"te\0xt\n\n\xe2\x80\x94 n AAAAAAA=\n", "control character U\\+0000"),
        (b"te\txt\n\n\xe2\x80\x94 n AAAAAAA=\n", "control character U\\+0009"),
        (b"text\n\n\xe2\x80\x94 n\x01 AAAAAAA=\n", "control character U\\+0001"),
        (b"te\xffxt\n\n\xe2\x80\x94 n AAAAAAA=\n", "byte 2 is not UTF-8"),
        (b"\xed\xa0\x80\n\n\xe2\x80\x94 n AAAAAAA=\n", "byte 0 is not UTF-8"),
    ],
)
def test_not_a_signed_note(data: bytes, reason: str) -> None:
    """Whatever departs from the format is refused, and the message says where."""
    with pytest.raises(FormatError, match=reason):
        Note.parse(data)


def test_limits() -> None:
    """100 signatures and a million bytes are read; one more of either is refused, to read and to write."""
    line = Signature("n", 1, b"x")
    full = Note(TEXT, (line,) * 100)
    assert Note.parse(full.encode()) == full
    with pytest.raises(FormatError, match="101 signatures"):
        Note(TEXT, (line,) * 101)
    extra = full.encode() + full.encode().splitlines(keepends=True)[-1]
    with pytest.raises(FormatError, match="more than 100 signatures"):
        Note.parse(extra)

    overhead = len(Note("\n", (line,)).encode())
    largest = Note("x" * (1_000_000 - overhead) + "\n", (line,))
    assert len(largest.encode()) == 1_000_000
    assert Note.parse(largest.encode()) == largest
    with pytest.raises(FormatError, match="1000001 bytes, at most 1000000 are written"):
        replace(largest, text="x" + largest.text).encode()
    with pytest.raises(FormatError, match="1000001 bytes, at most 1000000 are read"):
        Note.parse(b"x" + largest.encode())


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "\x7f\0\n", "\ud800\n"])
def test_texts_that_cannot_be_signed(text: str) -> None:
    """A text that no note can hold is refused before anything is signed."""
    with pytest.raises(FormatError, match="note: "):
        note.sign(text, PLAIN)


def test_signatures_by_others_are_ignored() -> None:
    """Unknown keys may say anything, even under the name or the ID of a known one, but do not count."""
    good = PLAIN.sign(TEXT)
    same_name = replace(good, key_id=good.key_id ^ 1)
    same_id = replace(good, name="example.com/else")
    data = Note(TEXT, (same_name, same_id, OTHER.sign(TEXT), good)).encode()
    assert note.open(data, [PLAIN.verifying_key()]) == Note(TEXT, (good,))
    with pytest.raises(SignatureError, match="no signature by a key that was given"):
        note.open(Note(TEXT, (same_name, same_id)).encode(), [PLAIN.verifying_key()])


def test_no_keys_open_nothing() -> None:
    """Without keys there is no text to rely on, and the message names who signed."""
    with pytest.raises(SignatureError, match=rf"signed by example\.com/log\+{PLAIN.key_id:08x}"):
        note.open(note.sign(TEXT, PLAIN), [])


def test_one_wrong_signature_rejects_the_note() -> None:
    """A wrong signature by a known key rejects the note, whatever else is right: before, after, or by the same key."""
    good, wrong = PLAIN.sign(TEXT), OTHER.sign("Another line.\n")
    also_wrong = replace(good, blob=bytes(64))
    keys = [PLAIN.verifying_key(), OTHER.verifying_key()]
    for lines in ((good, wrong), (wrong, good), (good, also_wrong), (also_wrong, good)):
        with pytest.raises(SignatureError, match="does not verify"):
            note.open(Note(TEXT, lines).encode(), keys)


@pytest.mark.parametrize("size", [1, 63, 65])
def test_ed25519_signatures_are_64_bytes(size: int) -> None:
    """A signature of another length does not verify."""
    line = replace(PLAIN.sign(TEXT), blob=(PLAIN.sign(TEXT).blob + b"\0")[:size])
    with pytest.raises(SignatureError, match="does not verify"):
        note.open(Note(TEXT, (line,)).encode(), [PLAIN.verifying_key()])


def test_repeated_signatures_are_given_once() -> None:
    """The same line twice counts once, in its first place."""
    lines = (OTHER.sign(TEXT), PLAIN.sign(TEXT), OTHER.sign(TEXT))
    opened = note.open(Note(TEXT, lines).encode(), [PLAIN.verifying_key(), OTHER.verifying_key()])
    assert opened.signatures == lines[:2]


def test_a_key_given_twice_is_a_mistake() -> None:
    """Two keys of one name and ID would leave open which one is meant."""
    with pytest.raises(FormatError, match=r"two keys were given for example\.com/log"):
        note.open(note.sign(TEXT, PLAIN), [PLAIN.verifying_key(), VerifyingKey.parse(str(PLAIN.verifying_key()))])


class TestKeys:
    """Names, IDs and text forms."""

    @pytest.mark.parametrize("kind", KEYS)
    def test_text_forms_both_ways(self, kind: Kind) -> None:
        """A key of each kind that signs is read back from its text, private and public."""
        key = KEYS[kind]
        assert SigningKey.parse(str(key)) == key
        assert VerifyingKey.parse(str(key.verifying_key())) == key.verifying_key()
        assert hash(VerifyingKey.parse(str(key.verifying_key()))) == hash(key.verifying_key())

    def test_the_id_is_a_hash_of_name_kind_and_key(self) -> None:
        """The ID is the start of SHA-256 over name, newline, type and public key."""
        key = PLAIN.verifying_key()
        digest = hashlib.sha256(b"example.com/log\n\x01" + key.public).digest()
        assert key.key_id == int.from_bytes(digest[:4], "big")
        material = base64.b64encode(b"\x01" + key.public).decode()
        assert str(key) == f"example.com/log+{digest[:4].hex()}+{material}"

    def test_one_seed_gives_other_ids_for_other_kinds(self) -> None:
        """A plain signature is never taken for a cosignature, nor the other way round."""
        plain, cosigner = PLAIN.verifying_key(), KEYS[Kind.COSIGNATURE].verifying_key()
        assert plain.public == cosigner.public
        assert plain != cosigner
        assert plain.key_id != cosigner.key_id

    def test_generated_keys_differ(self) -> None:
        """Each generated key is new, and signs what its vkey opens."""
        first, second = SigningKey.generate("example.com/log"), SigningKey.generate("example.com/log")
        assert first != second
        assert note.open(note.sign(TEXT, first), [first.verifying_key()]).text == TEXT

    def test_the_secret_is_not_in_the_repr(self) -> None:
        """A signing key in a traceback or a log line does not show its seed."""
        assert repr(PLAIN) == "SigningKey(name='example.com/log', kind=<Kind.ED25519: 1>)"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "example.com/foo",
            "example.com/foo+530d903a",
            EXAMPLE_VKEY + "\n",
            " " + EXAMPLE_VKEY,
            EXAMPLE_VKEY.replace("530d903a", "530D903A"),
            EXAMPLE_VKEY.replace("530d903a", "0530d903a"),
            EXAMPLE_VKEY.replace("530d903a", "0x530d90"),
            EXAMPLE_VKEY.replace("530d903a", "530d903b"),
            EXAMPLE_VKEY.replace("foo", "fop"),
            EXAMPLE_VKEY.replace("foo", "f o"),
            EXAMPLE_VKEY.replace("foo", "f\u2003o"),
            EXAMPLE_VKEY.replace("example.com/foo", ""),
            EXAMPLE_VKEY + "=",
            EXAMPLE_VKEY[:-1] + "l",
            "\ud800" + EXAMPLE_VKEY[1:],
        ],
    )
    def test_not_a_vkey(self, text: str) -> None:
        """A vkey that is mistyped, or spelled in another way, is refused."""
        with pytest.raises(FormatError, match=r"vkey: |a key's name"):
            VerifyingKey.parse(text)

    def test_a_private_key_is_not_quoted(self) -> None:
        """A private key given where a vkey belongs is refused, and the message does not repeat it."""
        with pytest.raises(FormatError, match="vkey: this is a private key; keep it secret") as caught:
            VerifyingKey.parse(str(PLAIN))
        assert str(PLAIN).rsplit("+", 1)[1] not in str(caught.value)

    @pytest.mark.parametrize("kind", [0x00, 0x03, 0x07, 0xFA, 0xFF])
    def test_unknown_types(self, kind: int) -> None:
        """Reserved and unknown signature types are refused by name."""
        material = base64.b64encode(bytes([kind]) + bytes(32)).decode()
        with pytest.raises(FormatError, match="not of a type known here"):
            VerifyingKey.parse(f"n+00000000+{material}")

    @pytest.mark.parametrize("kind", [Kind.ECDSA, Kind.TREE_HEAD])
    def test_some_kinds_only_verify(self, kind: Kind) -> None:
        """There is no signing key of the kinds that are only verified."""
        with pytest.raises(FormatError, match=f"keys of type {kind:02x} are only verified here"):
            SigningKey.generate("n", kind)

    @pytest.mark.parametrize(
        "text", ["", "PRIVATE+KEY+", "PRIVATE+KEY+n+00000000+AQ==", "PRIVATE+KEY+n+00000000+s3cr3t"]
    )
    def test_not_a_signing_key(self, text: str) -> None:
        """A private key that cannot be read is refused, and the message does not repeat it."""
        with pytest.raises(FormatError, match="signing key: ") as caught:
            SigningKey.parse(text)
        assert "s3cr3t" not in str(caught.value)

    def test_a_mistyped_private_key(self) -> None:
        """A private key whose ID does not follow from it is refused."""
        with pytest.raises(FormatError, match=f"has the ID {PLAIN.key_id:08x}, not 00000000"):
            SigningKey.parse(str(PLAIN).replace(f"{PLAIN.key_id:08x}", "00000000"))

    @pytest.mark.parametrize("key_id", [-1, 2**32])
    def test_ids_have_32_bits(self, key_id: int) -> None:
        """A signature line has room for a 32-bit ID and no other."""
        with pytest.raises(FormatError, match="not a 32-bit number"):
            Signature("n", key_id, b"x")

    @pytest.mark.parametrize(("kind", "sizes"), [(Kind.ED25519, (0, 31, 33)), (Kind.ML_DSA_44, (0, 32, 1311, 1313))])
    def test_public_keys_have_one_size(self, kind: Kind, sizes: tuple[int, ...]) -> None:
        """A public key of another size is refused."""
        for size in sizes:
            with pytest.raises(FormatError, match=f"bytes, not {size}"):
                VerifyingKey("n", kind, bytes(size))

    def test_ecdsa_keys_are_of_p256(self) -> None:
        """A key of another curve, with trailing bytes or with its point compressed is refused."""
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert VerifyingKey("n", Kind.ECDSA, spki).key_id == int.from_bytes(hashlib.sha256(spki).digest()[:4], "big")
        other = ec.generate_private_key(ec.SECP384R1()).public_key()
        compressed = (
            spki[:1]
            + bytes([spki[1] - 32])
            + spki[2:24]
            + b"\x22\x00"
            + key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        )
        for wrong in (
            other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            spki + b"\0",
            compressed,
            b"",
            bytes(91),
        ):
            with pytest.raises(FormatError, match="ECDSA public key"):
                VerifyingKey("n", Kind.ECDSA, wrong)
