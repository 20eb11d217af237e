r"""Signed notes: a text, and one signature line for each key that vouches for it.

    This is an example message.

    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=

The last empty line divides the two. A signature line holds the key's name and the base64 of its 32-bit ID and the
signature. Name and ID together say which key signed; the ID is short, so it finds a key and never authenticates one.
Until a signature by a key that the reader was given by other means has been verified, the text is worth nothing;
`open` is the one way to a text to rely on:

    key = SigningKey.generate("example.com/foo")
    data = sign("This is an example message.\n", key)
    vkey = str(key.verifying_key())                       # given to readers once, ahead of time
    open(data, [VerifyingKey.parse(vkey)]).text

A key has a *kind*, the signature type of its vkey. Types 01 (Ed25519), 04 and 06 (Ed25519 and ML-DSA-44 cosignatures
of checkpoints, which state a time) sign and verify. Types 02 (ECDSA) and 05 (tree heads of CT logs) verify only:
there are logs that use them, and no reason to start another.

Follows C2SP signed-note and C2SP tlog-cosignature; text forms of keys as in Go's golang.org/x/mod/sumdb/note.
"""

import hashlib
import secrets
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from translog.canonical import from_base64, to_base64
from translog.checkpoint import MAX_TIMESTAMP, check_lines, cosignature_message, subtree_message, tree_head_message
from translog.errors import FormatError, SignatureError

__all__ = [
    "MAX_SIGNATURES",
    "MAX_SIZE",
    "Kind",
    "Note",
    "Signature",
    "SigningKey",
    "VerifyingKey",
    "ed25519_public_key",
    "open",
    "sign",
]

MAX_SIZE = 1_000_000
"""Bytes of a whole note, the most that is read or written."""

MAX_SIGNATURES = 100
"""Signature lines of a note, the most that are read or written."""

_DASH = "\u2014 "
_PRIVATE = "PRIVATE+KEY+"


class Kind(IntEnum):
    """The signature type: the first byte of a vkey's key material."""

    ED25519 = 0x01
    ECDSA = 0x02
    COSIGNATURE = 0x04
    TREE_HEAD = 0x05
    ML_DSA_44 = 0x06


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: `blob` is what follows the 32-bit key ID, as the kind of the key defines it.

    `timestamp` is known once the signature has been verified, and only if its kind states a time: POSIX seconds
    (milliseconds for a CT tree head), 0 where an ML-DSA-44 cosigner states none. It is covered by the signature, and
    takes no part in comparisons.
    """

    name: str
    key_id: int
    blob: bytes
    timestamp: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not 0 <= self.key_id < 2**32:
            raise FormatError(f"note: the key ID {self.key_id} of {self.name!r} is not a 32-bit number")
        if not self.blob:
            raise FormatError(f"note: the signature of {self.name!r} is empty")


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signature lines: all of them after `Note.parse`, the verified ones after `open`.

    Raises `FormatError` when built of what no signed note can hold.
    """

    text: str
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        _check_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise FormatError(f"note: {len(self.signatures)} signatures; a note has 1 to {MAX_SIGNATURES}")

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        """The note whose encoding is exactly `data`. Nothing is verified: the text must not be relied on.

        Raises `FormatError` for what is not a signed note, is above `MAX_SIZE`, or has more than `MAX_SIGNATURES`
        signature lines.
        """
        if len(data) > MAX_SIZE:
            raise FormatError(f"note: {len(data)} bytes, at most {MAX_SIZE} are read")
        try:
            whole = data.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"note: byte {error.start} is not UTF-8") from None
        text, empty_line, tail = whole.rpartition("\n\n")
        if not empty_line:
            raise FormatError("note: no empty line between a text and its signatures")
        if not tail.endswith("\n"):
            raise FormatError(
                "note: there is no signature line after the last empty line, or it does not end in a newline"
            )
        lines = tail[:-1].split("\n", MAX_SIGNATURES)
        if len(lines) > MAX_SIGNATURES:
            raise FormatError(f"note: more than {MAX_SIGNATURES} signatures")
        return cls(text + "\n", tuple(_parse_signature(line) for line in lines))

    def encode(self) -> bytes:
        """The whole note in UTF-8; `FormatError` if that is above `MAX_SIZE`."""
        lines = [
            f"{_DASH}{signature.name} {to_base64(struct.pack('>I', signature.key_id) + signature.blob)}\n"
            for signature in self.signatures
        ]
        data = "".join((self.text, "\n", *lines)).encode()
        if len(data) > MAX_SIZE:
            raise FormatError(f"note: {len(data)} bytes, at most {MAX_SIZE} are written")
        return data


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half of a key; two are equal if name, kind and key are.

    `public` is as in the vkey: 32 bytes for Ed25519, 1,312 for ML-DSA-44, DER SubjectPublicKeyInfo for ECDSA. Raises
    `FormatError` for a name no note can hold and for a key that is none of its kind.
    """

    name: str
    kind: Kind
    public: bytes
    key_id: int = field(init=False, compare=False)
    _verify: Callable[[bytes, bytes], None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "key_id", _key_id(self.name, self.kind, self.public))
        object.__setattr__(self, "_verify", _verifier(self.kind, self.public))

    @classmethod
    def parse(cls, vkey: str) -> "VerifyingKey":
        """The key written as `<name>+<ID, 8 hex digits>+<base64 of kind and public key>`.

        Raises `FormatError` if `vkey` is not exactly such a text, or its ID is not the one that follows from name and
        key: so a mistyped vkey is noticed.
        """
        if vkey.startswith(_PRIVATE):
            raise FormatError("vkey: this is a private key; keep it secret, and give its vkey instead")
        kind, name, key_id, public = _parse_key(vkey, "vkey")
        key = cls(name, kind, public)
        _check_id(key, key_id, "vkey")
        return key

    def __str__(self) -> str:
        return _format_key(self.name, self.key_id, self.kind, self.public)

    def verify(self, text: str, signature: Signature) -> Signature:
        """Verify a signature of this name and key ID over `text`, and give it back with the time it states.

        Raises `SignatureError` if it does not verify: also if it is one of a checkpoint and `text` is not one that it
        can sign.
        """
        failed = SignatureError(f"note: the signature of {self.name}+{self.key_id:08x} does not verify")
        try:
            message, raw, timestamp = _signed(self, text, signature.blob)
        except FormatError as error:
            raise SignatureError(f"{failed}: {error}") from None
        try:
            self._verify(raw, message)
        except InvalidSignature:
            raise failed from None
        return replace(signature, timestamp=timestamp)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half of a key that can sign: kinds 01, 04 and 06. `seed` is 32 secret bytes, and `str` shows them."""

    name: str
    kind: Kind
    seed: bytes = field(repr=False)
    _verifying_key: VerifyingKey = field(init=False, repr=False, compare=False)
    _sign: Callable[[bytes], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != 32:
            raise FormatError(f"signing key: a seed is exactly 32 bytes, this one has {len(self.seed)}")
        if self.kind in {Kind.ED25519, Kind.COSIGNATURE}:
            private = Ed25519PrivateKey.from_private_bytes(self.seed)
        elif self.kind is Kind.ML_DSA_44:
            private = MLDSA44PrivateKey.from_seed_bytes(self.seed)
        else:
            raise FormatError(f"signing key: keys of type {self.kind:02x} are only verified here, they do not sign")
        object.__setattr__(
            self, "_verifying_key", VerifyingKey(self.name, self.kind, private.public_key().public_bytes_raw())
        )
        object.__setattr__(self, "_sign", private.sign)

    @classmethod
    def generate(cls, name: str, kind: Kind = Kind.ED25519) -> "SigningKey":
        """A new key from the system's randomness."""
        return cls(name, kind, secrets.token_bytes(32))

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """The key written as `PRIVATE+KEY+<name>+<ID>+<base64 of kind and seed>`, Go's form.

        Raises `FormatError` if `text` is not exactly that; the message never quotes it, for it may be a secret.
        """
        if not text.startswith(_PRIVATE):
            raise FormatError(f"signing key: expected a text that begins with {_PRIVATE}")
        try:
            kind, name, key_id, seed = _parse_key(text.removeprefix(_PRIVATE), "signing key")
        except FormatError:
            raise FormatError(
                "signing key: not of the form PRIVATE+KEY+<name>+<ID>+<base64 of the type and 32 bytes>"
            ) from None
        key = cls(name, kind, seed)
        _check_id(key.verifying_key(), key_id, "signing key")
        return key

    def __str__(self) -> str:
        return _PRIVATE + _format_key(self.name, self.key_id, self.kind, self.seed)

    @property
    def key_id(self) -> int:
        return self._verifying_key.key_id

    def verifying_key(self) -> VerifyingKey:
        return self._verifying_key

    def sign(self, text: str, timestamp: int | None = None) -> Signature:
        """The signature line of this key for `text`, which ends in a newline.

        A cosignature takes a checkpoint and states `timestamp`, POSIX seconds: required for type 04, and 0 unless
        given for type 06, which states no time. Type 01 states none. Raises `FormatError` for a text or a time that
        this kind cannot sign.
        """
        _check_text(text)
        if self.kind is Kind.ED25519:
            if timestamp is not None:
                raise FormatError(f"note: {self.name} is a plain Ed25519 key, whose signatures state no time")
            return Signature(self.name, self.key_id, self._sign(text.encode()))
        if timestamp is None and self.kind is Kind.COSIGNATURE:
            raise FormatError(f"note: a cosignature by {self.name} states a time; give it in POSIX seconds")
        stated = timestamp or 0
        if not 0 <= stated <= MAX_TIMESTAMP:
            raise FormatError(f"note: the time {stated} is not between 0 and 2^63 - 1 seconds")
        message = (
            subtree_message(text, self.name, stated)
            if self.kind is Kind.ML_DSA_44
            else cosignature_message(text, stated)
        )
        return Signature(self.name, self.key_id, struct.pack(">Q", stated) + self._sign(message), stated)


def sign(text: str, *keys: SigningKey) -> bytes:
    """The signed note of `text`, which ends in a newline, by each of `keys` in turn; at least one.

    Raises `FormatError` as `SigningKey.sign` does. For cosignatures that state a time, add what `SigningKey.sign`
    gives to the signatures of a `Note`.
    """
    return Note(text, tuple(key.sign(text) for key in keys)).encode()


def open(data: bytes, keys: Iterable[VerifyingKey]) -> Note:  # noqa: A001  `note.open`, as everyone calls it
    """The note in `data` with the signatures by `keys`, all verified, each distinct one once and in their order.

    Signatures by other keys are left out, whatever is in them. Raises `FormatError` for what is not a signed note and
    for two keys of one name and ID, and `SignatureError` if any signature by one of `keys` does not verify, or there
    is none.
    """
    known: dict[tuple[str, int], VerifyingKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) is not key:
            raise FormatError(f"note: two keys were given for {key.name}+{key.key_id:08x}; give each once")
    note = Note.parse(data)
    verified = tuple(
        known[signature.name, signature.key_id].verify(note.text, signature)
        for signature in dict.fromkeys(note.signatures)
        if (signature.name, signature.key_id) in known
    )
    if not verified:
        signers = ", ".join(f"{signature.name}+{signature.key_id:08x}" for signature in note.signatures[:5])
        raise SignatureError(f"note: no signature by a key that was given; it is signed by {signers}")
    return Note(note.text, verified)


# The points of small order of edwards25519, by y; either sign of x. Under such a key a signature made without any
# secret verifies.
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_ORDER_8_Y = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})


def ed25519_public_key(raw: bytes) -> Ed25519PublicKey:
    """The Ed25519 public key of these 32 bytes (RFC 8032 section 5.1.2), if only its owner can sign for it.

    Raises `FormatError` for another length, for an encoding that is not canonical or not of a point of the curve (RFC
    8032 section 5.1.3), and for the points of small order, for which anyone can make signatures; OpenSSL accepts them
    all.
    """
    if len(raw) != 32:
        raise FormatError(f"Ed25519 public key: exactly 32 bytes, not {len(raw)}")
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P:
        raise FormatError("Ed25519 public key: not the canonical encoding of a point")
    if y in _SMALL_ORDER_Y:
        raise FormatError("Ed25519 public key: a point of small order, for which anyone can make signatures")
    # x² = (y² - 1) / (dy² + 1) has a solution if and only if the product of both is a square (Euler's criterion).
    if pow((y * y - 1) * (_D * y * y + 1), (_P - 1) // 2, _P) != 1:
        raise FormatError("Ed25519 public key: not a point of the curve; a digit may be wrong")
    return Ed25519PublicKey.from_public_bytes(raw)


def _verifier(kind: Kind, public: bytes) -> Callable[[bytes, bytes], None]:
    """A function of signature and message that raises `InvalidSignature`, for the key of that kind and encoding."""
    if kind in {Kind.ED25519, Kind.COSIGNATURE}:
        return ed25519_public_key(public).verify
    if kind is Kind.ML_DSA_44:
        try:
            return MLDSA44PublicKey.from_public_bytes(public).verify
        except ValueError:
            raise FormatError(f"ML-DSA-44 public key: exactly 1312 bytes, not {len(public)}") from None
    try:
        key = load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise FormatError("ECDSA public key: expected a key of NIST P-256 as DER SubjectPublicKeyInfo")
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public:
        raise FormatError("ECDSA public key: not the canonical DER encoding")
    ecdsa = ECDSA(hashes.SHA256())
    return lambda signature, message: key.verify(signature, message, ecdsa)


def _signed(key: VerifyingKey, text: str, blob: bytes) -> tuple[bytes, bytes, int | None]:
    """The message that `blob` would be a signature of, the bare signature in it, and the time it states."""
    if key.kind in {Kind.ED25519, Kind.ECDSA}:
        return text.encode(), blob, None
    if len(blob) < 8:
        raise FormatError("it is too short to state a time")
    timestamp, raw = int.from_bytes(blob[:8], "big"), blob[8:]
    if timestamp > MAX_TIMESTAMP:
        raise FormatError(f"the time {timestamp} it states is above 2^63 - 1")
    if key.kind is Kind.COSIGNATURE:
        return cosignature_message(text, timestamp), raw, timestamp
    if key.kind is Kind.ML_DSA_44:
        return subtree_message(text, key.name, timestamp), raw, timestamp
    # A `digitally-signed` of RFC 5246 section 4.7: SHA-256 (4), ECDSA (3), and the signature behind its 16-bit length.
    if raw[:4] != struct.pack(">BBH", 4, 3, len(raw[4:])):
        raise FormatError("it is not an ECDSA signature with SHA-256, as CT logs make them")
    return tree_head_message(text, key.name, timestamp), raw[4:], timestamp


def _key_id(name: str, kind: Kind, public: bytes) -> int:
    """The 32-bit ID of a key (C2SP signed-note, "Signatures"); for type 05 as C2SP static-ct-api has it."""
    named = f"{name}\n".encode() + bytes((kind,))
    if kind is Kind.ECDSA:
        seed = public
    elif kind is Kind.TREE_HEAD:
        seed = named + hashlib.sha256(public).digest()  # the LogID of RFC 6962 section 3.2
    else:
        seed = named + public
    return int.from_bytes(hashlib.sha256(seed).digest()[:4], "big")


def _parse_key(text: str, what: str) -> tuple[Kind, str, int, bytes]:
    """Kind, name, stated ID and key material of `<name>+<ID>+<base64>`."""
    name, plus, rest = text.partition("+")
    hex_id, plus_2, encoded = rest.partition("+")
    if not (plus and plus_2 and len(hex_id) == 8 and set(hex_id) <= set("0123456789abcdef")):
        raise FormatError(f"{what}: {text[:100]!a} is not of the form <name>+<ID, 8 lowercase hex digits>+<base64>")
    material = from_base64(encoded, what)
    if material[:1] not in _KINDS:
        raise FormatError(f"{what}: the key of {name!a} is not of a type known here (01, 02, 04, 05, 06)")
    return _KINDS[material[:1]], name, int(hex_id, 16), material[1:]


_KINDS = {bytes((kind,)): kind for kind in Kind}


def _format_key(name: str, key_id: int, kind: Kind, material: bytes) -> str:
    return f"{name}+{key_id:08x}+{to_base64(bytes((kind,)) + material)}"


def _check_id(key: VerifyingKey, stated: int, what: str) -> None:
    if key.key_id != stated:
        raise FormatError(
            f"{what}: {key.name!a} with this key has the ID {key.key_id:08x}, not {stated:08x}; was it mistyped?"
        )


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() for character in name):
        raise FormatError(f"note: a key's name is not empty and has no spaces and no plus, {name[:100]!a} is not one")
    check_lines(name, "note: a key's name")


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise FormatError("note: the text must end in a newline")
    check_lines(text, "note")


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise FormatError(f"note: {line[:80]!a} is not a signature line (em dash, space, name, space, base64)")
    blob = from_base64(encoded, f"note: the signature of {name[:80]!a}")
    if len(blob) < 5:
        raise FormatError(
            f"note: the signature of {name[:80]!a} is {len(blob)} bytes, fewer than a key ID and a signature"
        )
    return Signature(name, int.from_bytes(blob[:4], "big"), blob[4:])
