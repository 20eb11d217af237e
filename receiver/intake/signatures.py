"""Whether a delivery comes from whom it says: one verdict, over the raw bytes.

A signature is over bytes, so it is checked before anything is parsed. A `Verifier` is made once for a source, from its
scheme and secrets (`receiver.intake.schemes`), and holds what can be computed beforehand; it answers and never raises,
for raising is slow, and a flood is the time to be fast.

Any listed signature that fits any active secret suffices: that is what makes rotation possible. The timestamp is judged
after the signature, so `stale` and `future` are said of authentic deliveries only. Everything is compared in constant
time, in its one spelling (hex of the scheme `hmac` in either case, for senders differ in it and nothing rests on it).
"""

import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from receiver.intake.schemes import (
    Hmac,
    Scheme,
    Secret,
    StandardWebhooks,
    TimestampedHmac,
    Token,
    check_secret,
    generate_secret,
    public_key,
    scheme_from_options,
    secret_key,
)
from translog.canonical import from_base64, hmac_sha256

__all__ = [
    "Authenticated",
    "Hmac",
    "Reason",
    "Refused",
    "Scheme",
    "Secret",
    "StandardWebhooks",
    "TimestampedHmac",
    "Token",
    "Verifier",
    "check_secret",
    "generate_secret",
    "scheme_from_options",
    "verifier",
    "without_whitespace",
]

MAX_SIGNATURES = 16
"""Listed in one delivery; with more, it is refused and none is tried."""

MAX_HEADER = 4096
"""Bytes of the signature's headers together."""

Reason: TypeAlias = Literal[
    "missing_signature", "malformed_signature", "wrong_signature", "stale", "future", "no_active_secret"
]


class Authenticated(Struct, frozen=True):
    """The delivery was made by someone who holds the secret (for v1a: the private key)."""

    secret_id: str
    scheme: str
    """The scheme's name; `standard-webhooks/v1a` for an asymmetric signature."""
    headers: tuple[tuple[str, str], ...]
    """The signature's headers, by which it can be checked again; none for a token."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not, or it cannot be told; the message says nothing that helps to guess."""

    reason: Reason
    message: str


class _Signed(NamedTuple):
    """What a delivery's headers claim: these signatures (one of which is to fit), of this message, at this time."""

    message: bytes
    signatures: Sequence[bytes]
    sent_at: int | None


class _Key(NamedTuple):
    """A secret made ready: whether one of the signatures is its holder's for the message, and when it is active."""

    secret_id: str
    scheme: str
    start: float
    end: float
    fits: Callable[[bytes, Sequence[bytes]], bool]


@dataclass(frozen=True, slots=True)
class Verifier:
    """A source's scheme and secrets, made ready by `verifier`."""

    header_names: Mapping[bytes, str]
    keys: Sequence[_Key] = field(repr=False)
    read: Callable[[dict[bytes, bytes], bytes], "_Signed | Refused"]
    well_formed: Callable[[bytes], object]
    keeps_headers: bool
    replay_window: int

    def verify(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: float) -> Authenticated | Refused:
        """The verdict on a delivery received at `now` (Unix seconds). Never raises.

        `headers` as ASGI gives them, names in lower case; `body` is the raw bytes. A timestamp exactly as far from now
        as the replay window is long is accepted.
        """
        found = [header for header in headers if header[0] in self.header_names]
        values = dict(found)
        if len(found) != len(self.header_names) or len(values) != len(found):
            return self._refuse_headers(values)
        joined = b"".join(values.values())
        if len(joined) > MAX_HEADER or joined.translate(None, _PRINTABLE):
            return Refused("malformed_signature", "a signature header is too long or not printable ASCII")
        claim = self.read(values, body)
        if isinstance(claim, Refused):
            return claim
        message, signatures, sent_at = claim
        active = [key for key in self.keys if key.start <= now < key.end]
        for key in active:
            if key.fits(message, signatures):
                break
        else:
            return self._refuse_signatures(signatures, any_active=bool(active))
        if sent_at is not None:
            if now - sent_at > self.replay_window:
                return Refused("stale", f"the timestamp is more than {self.replay_window} s in the past")
            if sent_at - now > self.replay_window:
                return Refused("future", f"the timestamp is more than {self.replay_window} s in the future")
        kept = [(name, values[raw].decode()) for raw, name in self.header_names.items()] if self.keeps_headers else ()
        return Authenticated(key.secret_id, key.scheme, tuple(kept))

    def _refuse_headers(self, values: dict[bytes, bytes]) -> Refused:
        missing = [name for raw, name in self.header_names.items() if raw not in values]
        if missing:
            return Refused("missing_signature", f"without the header {', '.join(missing)}")
        return Refused("malformed_signature", "a signature header is given twice")

    def _refuse_signatures(self, signatures: Sequence[bytes], *, any_active: bool) -> Refused:
        if not any_active:
            return Refused("no_active_secret", "no secret of the source is active at this time")
        if not all(map(self.well_formed, signatures)):
            return Refused("malformed_signature", "a signature is not in the form of the scheme")
        return Refused("wrong_signature", "no signature fits the body under an active secret")


def verifier(scheme: Scheme, secrets: Sequence[Secret], replay_window: int) -> Verifier:
    """All that can be computed before the first delivery; `replay_window` is in seconds, both ways.

    Raises ValueError, naming the secret's id, for one that `check_secret` refuses or whose times have no zone.
    """
    names = _STANDARD_NAMES if isinstance(scheme, StandardWebhooks) else [scheme.header]
    return Verifier(
        header_names={name.encode(): name for name in names},
        keys=tuple(_prepared(scheme, secret) for secret in secrets),
        read=_reader(scheme),
        well_formed=_well_formed(scheme),
        keeps_headers=not isinstance(scheme, Token),
        replay_window=replay_window,
    )


# What is signed, from the headers

_STANDARD_NAMES = ["webhook-id", "webhook-timestamp", "webhook-signature"]
_PRINTABLE = bytes(range(0x20, 0x7F))
_MALFORMED_TIME = Refused("malformed_signature", "the timestamp is not a whole number of seconds in ASCII digits")
_TOO_MANY = Refused("malformed_signature", f"more than {MAX_SIGNATURES} signatures")


def _reader(scheme: Scheme) -> Callable[[dict[bytes, bytes], bytes], _Signed | Refused]:
    match scheme:
        case StandardWebhooks():
            return _read_standard
        case TimestampedHmac():
            return partial(_read_timestamped, scheme.header.encode())
        case Hmac():
            return partial(_read_hmac, scheme, scheme.header.encode(), scheme.prefix.encode())
        case Token():
            header = scheme.header.encode()
            return lambda values, _body: _Signed(b"", [values[header]], None)


def _read_standard(values: dict[bytes, bytes], body: bytes) -> _Signed | Refused:
    message_id, timestamp = values[b"webhook-id"], values[b"webhook-timestamp"]
    sent_at = _unix_time(timestamp)
    if sent_at is None:
        return _MALFORMED_TIME
    if not message_id:
        return Refused("malformed_signature", "webhook-id is empty")
    signatures = values[b"webhook-signature"].split(b" ")
    if len(signatures) > MAX_SIGNATURES:
        return _TOO_MANY
    return _Signed(b"%b.%b.%b" % (message_id, timestamp, body), signatures, sent_at)


def _read_timestamped(header: bytes, values: dict[bytes, bytes], body: bytes) -> _Signed | Refused:
    timestamps: list[bytes] = []
    signatures: list[bytes] = []
    for element in values[header].split(b","):
        name, _, value = element.partition(b"=")
        if name == b"v1":
            signatures.append(value)
        elif name == b"t":
            timestamps.append(value)
        elif not (name and value):
            return Refused("malformed_signature", "the header is not a list of name=value, separated by commas")
    sent_at = _unix_time(timestamps[0]) if len(timestamps) == 1 else None
    if sent_at is None:
        return _MALFORMED_TIME
    if not signatures:
        return Refused("malformed_signature", "the header has no v1 signature")
    if len(signatures) > MAX_SIGNATURES:
        return _TOO_MANY
    return _Signed(b"%b.%b" % (timestamps[0], body), signatures, sent_at)


def _read_hmac(
    scheme: Hmac, header: bytes, prefix: bytes, values: dict[bytes, bytes], body: bytes
) -> _Signed | Refused:
    value = values[header]
    if not value.startswith(prefix):
        return Refused("malformed_signature", f"the signature does not begin with {scheme.prefix}")
    signature = value[len(prefix) :]
    if scheme.encoding == "hex":
        signature = signature.lower()
    return _Signed(without_whitespace(body) if scheme.strip_whitespace else body, [signature], None)


def _unix_time(digits: bytes) -> int | None:
    """The number, if it is written in its one way: bytes.isdigit knows ASCII digits only."""
    if digits.isdigit() and len(digits) <= 11 and (digits[0] != 0x30 or len(digits) == 1):
        return int(digits)
    return None


# A string that never ends is taken to the end of the body: were it passed over, each quote in it would be tried as the
# beginning of another, in quadratic time.
_STRING = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))', re.DOTALL)


def without_whitespace(body: bytes) -> bytes:
    """The body without the spaces, tabs and line ends outside of its JSON strings; nothing else is touched."""
    if b"\\" in body:
        pieces, quote = _STRING.split(body), b""
    else:  # every quote begins or ends a string
        pieces, quote = body.split(b'"'), b'"'
    outside = b'"'.join(pieces[::2])  # no piece outside of strings has a quote in it, so all can be cleaned at once
    pieces[::2] = outside.translate(None, b" \t\r\n").split(b'"')
    return quote.join(pieces)


def _well_formed(scheme: Scheme) -> Callable[[bytes], object]:
    match scheme:
        case StandardWebhooks():  # entries of versions we do not know are passed over
            pattern = rb"v1,[A-Za-z0-9+/]{43}=|v1a,[A-Za-z0-9+/]{86}==|(?!v1a?,)[^,]+,.+"
        case Hmac(encoding="base64"):
            pattern = rb"[A-Za-z0-9+/]{43}="
        case TimestampedHmac() | Hmac():
            pattern = rb"[0-9a-f]{64}"
        case Token():
            pattern = rb".*"
    return re.compile(pattern).fullmatch


# What it must fit, from the secrets


def _prepared(scheme: Scheme, secret: Secret) -> _Key:
    for moment in (secret.not_before, secret.not_after):
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"secret {secret.id}: its times must have a zone")
    try:
        name, fits = _proof(scheme, secret.value)
    except ValueError as error:
        raise ValueError(f"secret {secret.id}: {error}") from None
    start = float("-inf") if secret.not_before is None else secret.not_before.timestamp()
    end = float("inf") if secret.not_after is None else secret.not_after.timestamp()
    return _Key(secret.id, name, start, end, fits)


def _proof(scheme: Scheme, value: str) -> tuple[str, Callable[[bytes, Sequence[bytes]], bool]]:
    """The name under which a match is reported, and the match itself."""
    public = public_key(scheme, value)
    if public is not None:
        return f"{scheme.name}/v1a", _fits_public_key(public)
    key = secret_key(scheme, value)
    match scheme:
        case StandardWebhooks():
            return scheme.name, _fits_hmac(key, lambda mac: b"v1," + _to_base64(mac))
        case Hmac(encoding="base64"):
            return scheme.name, _fits_hmac(key, _to_base64)
        case TimestampedHmac() | Hmac():
            return scheme.name, _fits_hmac(key, binascii.hexlify)
        case Token():
            return scheme.name, lambda _message, signatures: hmac.compare_digest(key, signatures[0])


def _fits_hmac(key: bytes, spell: Callable[[bytes], bytes]) -> Callable[[bytes, Sequence[bytes]], bool]:
    mac = hmac_sha256(key)

    def fits(message: bytes, signatures: Sequence[bytes]) -> bool:
        expected = spell(mac(message))  # compared as it is spelled: another spelling of the same bytes does not fit
        found = False
        for signature in signatures:
            found |= hmac.compare_digest(expected, signature)
        return found

    return fits


def _fits_public_key(public: Ed25519PublicKey) -> Callable[[bytes, Sequence[bytes]], bool]:
    def fits(message: bytes, signatures: Sequence[bytes]) -> bool:
        for signature in signatures:
            if signature.startswith(b"v1a,"):
                try:
                    public.verify(from_base64(signature[4:].decode()), message)
                except (InvalidSignature, ValueError):
                    continue
                return True
        return False

    return fits


_to_base64 = partial(binascii.b2a_base64, newline=False)
