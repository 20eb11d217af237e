"""By which scheme a delivery is signed, found by trying: for senders that do not document it.

A delivery shows much of its scheme: a signature looks like one, and what stands before it in its header is its prefix.
The rest is tried. Every candidate goes through the verifier that deliveries go through, so what fits here is what will
be let in, and a delivery of anyone who does not hold the secret fits nothing.

Candidates are made strongest first: one that signs a time before one that signs the body alone, and that before a
token. Of two spellings of one key the simpler one stands.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

from receiver.intake.schemes import (
    Encoding,
    Hmac,
    KeyForm,
    Scheme,
    Secret,
    StandardWebhooks,
    TimestampedHmac,
    Token,
    scheme_from_options,
    secret_key,
)
from receiver.intake.signatures import Refused, verifier, without_whitespace

_STRONGEST_FIRST: tuple[type[Scheme], ...] = (StandardWebhooks, TimestampedHmac, Hmac, Token)

MAX_HEADERS = 32
"""Headers that are tried in each way, so that a stranger's delivery does not take minutes."""

_STANDARD = {"webhook-id", "webhook-timestamp", "webhook-signature"}
_TIMED = re.compile(r"(?=(?:.*,)?t=[0-9])(?=(?:.*,)?v1=)")
_SIGNATURES: dict[Encoding, tuple[int, re.Pattern[str]]] = {
    "hex": (64, re.compile(r"[0-9a-fA-F]{64}")),
    "base64": (44, re.compile(r"[A-Za-z0-9+/]{43}=")),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """A scheme under which a delivery is authentic."""

    scheme: Scheme
    timely: bool
    """The time that it signs, if it signs one, lay within the replay window."""
    shows_whitespace: bool
    """The body has whitespace outside of its JSON strings, so that it can be told whether a signature is over it."""


def fits(
    headers: Sequence[tuple[bytes, bytes]], body: bytes, secrets: Sequence[Secret], replay_window: int, now: float
) -> list[Fit]:
    """The schemes under which a delivery received at `now` (Unix seconds) is authentic, strongest first.

    `headers` as ASGI gives them, names in lower case; `body` is the raw bytes. Only secrets that are active at `now`
    count. None if nobody who holds one of them made it, or by no scheme that is known here.
    """
    stripped = without_whitespace(body)
    shows_whitespace = stripped != body
    found: dict[Scheme, Fit] = {}
    for name, options in _candidates(headers, {secret.value for secret in secrets}):
        strips = (False, True) if name == Hmac.name and shows_whitespace else (False,)
        for secret, strip in product(secrets, strips):
            try:
                scheme = scheme_from_options(name, options)
                if not _is_simplest(scheme, secret.value):
                    continue
                # Stripped once: it takes longer than all the rest.
                verdict = verifier(scheme, [secret], replay_window).verify(headers, stripped if strip else body, now)
            except ValueError:  # the secret is none under this scheme, or no scheme can name this header
                continue
            refused = verdict.reason if isinstance(verdict, Refused) else None
            if refused in {None, "stale", "future"}:  # these two are said of what is authentic
                fitting = replace(scheme, strip_whitespace=True) if strip and isinstance(scheme, Hmac) else scheme
                found[fitting] = Fit(fitting, refused is None, shows_whitespace)
    return list(found.values())


def strongest(found: Iterable[Fit]) -> Fit | None:
    """The first of those whose scheme guarantees most; None of none."""
    return min(found, key=lambda fit: _STRONGEST_FIRST.index(type(fit.scheme)), default=None)


def _is_simplest(scheme: Scheme, secret: str) -> bool:
    """Whether no simpler key form makes the same key of the secret."""
    if not isinstance(scheme, Hmac) or scheme.key_form != "text-without-whsec":
        return True
    return secret_key(scheme, secret) != secret.encode()


def _candidates(
    headers: Sequence[tuple[bytes, bytes]], tokens: Collection[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names and options of all schemes that these headers do not rule out; `tokens` are the secrets' texts."""
    texts = {name.decode(): value.decode() for name, value in headers if name.isascii() and value.isascii()}
    if texts.keys() >= _STANDARD:
        yield StandardWebhooks.name, {}
    timed = [name for name, value in texts.items() if _TIMED.match(value)]
    for name in timed[:MAX_HEADERS]:
        yield TimestampedHmac.name, {"header": name}
    # A time is no prefix: the next delivery has another one.
    with_time = frozenset(timed)
    plain = [{"header": name, **read} for name in texts if name not in with_time for read in _signatures(texts[name])]
    for options, key_form in product(plain[:MAX_HEADERS], get_args(KeyForm)):
        yield Hmac.name, {**options, "key_form": key_form}
    for name in [name for name, value in texts.items() if value in tokens][:MAX_HEADERS]:
        yield Token.name, {"header": name}


def _signatures(value: str) -> Iterator[Mapping[str, Any]]:
    """Prefix and encoding of what may be a signature of 32 bytes at the end of a header's value."""
    for encoding, (length, shape) in _SIGNATURES.items():
        if shape.fullmatch(value[-length:]):
            yield {"prefix": value[:-length], "encoding": encoding}
