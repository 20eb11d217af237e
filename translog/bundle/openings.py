"""What leaves commit to, as `events.jsonl` and `payloads/` show it: opened, and read for certain.

An opening is data and a salt that give the leaf's commitment. That binds the data, byte for byte; what remains is that
its bytes are the one spelling of what they say, so that nobody reads another thing in them. Most are plain: ASCII,
without escapes, of the shape that all events and deliveries have. These are recognised by a pattern that no other
spelling fits. All others are read by `translog.canonical`, which decides what is right.
"""

import binascii
import re
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import TypeAlias

from translog.bundle.rows import cells, is_plain, text_bytes
from translog.canonical import Value, decode
from translog.errors import FormatError
from translog.evidence import Delivery

__all__ = ["AS_DELIVERY", "AS_EVENT", "NOTHING", "SALT", "Told", "check_delivery", "committed", "read_event"]

SALT = rb"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
"""A pattern of 32 bytes in canonical base64."""

_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_REST = b"\x5c" * 32
AS_EVENT, AS_DELIVERY = (b"\x36" * 32 + b"rescind/commitment/v1\n%b\n" % label for label in (b"event", b"delivery"))
"""What stands between salt and data inside of a commitment, by its label."""

_TEXT = rb'"[^"\\\x00-\x1f]*"'
_OR_NULL = rb'(?:null|"([^"\\\x00-\x1f]*)")'
_EVENT = re.compile(
    rb'\{"account":%(t)b,"amount":%(t)b,"details":(\{[^{}\x00-\x1f]*\}),"extent":%(t)b,'
    rb'"item":(?:null|\{"id":%(t)b,"type":%(t)b\}),"occurred_at":%(t)b,"occurred_from":%(t)b,"operation":%(t)b,'
    rb'"quantity":%(t)b,"reason":%(t)b\}' % {b"t": _OR_NULL}
)
_FLAT = re.compile(
    rb'\{(?:"[^"\\\x00-\x1f]*":(?:%(t)b|null|true|false|0|-?[1-9][0-9]{0,14})(?:,(?=")|(?=\})))*\}' % {b"t": _TEXT}
)
_FLAT_NAME = re.compile(rb'[{,]"([^"]*)":')
_TEXTS = re.compile(rb'\{(?:"[^"\\A-Z\x00-\x1f]+":%(t)b(?:,(?=")|(?=\})))*\}' % {b"t": _TEXT})

_BODY, _HEADERS = b'{"body":"', b'","headers":{'
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LAST = {number: {_ALPHABET[at : at + 1] for at in range(0, 64, 4**number)} for number in (1, 2)}
"""By the number of `=` after it: what the last letter can be."""

_MEMBERS = ("account", "operation", "occurred_at", "extent", "amount", "quantity", "reason")


Told: TypeAlias = tuple[bytes | None, bytes]
"""What an event tells: when it occurred, and the cells `item_type` to `reason`, each after a comma."""

NOTHING: Told = None, cells([None] * 9)
"""What an erased event tells."""


def committed(text: bytes, inner: bytes, data: bytes) -> bytes:
    """The commitment to `data` under the salt whose canonical base64 is `text`: 64 hex digits.

    `inner` is `AS_EVENT` or `AS_DELIVERY`. As `translog.canonical.commitment`; but a salt is half a block of HMAC, so
    that what pads it can be put together with the label beforehand (RFC 2104 section 2), in a third of the time.
    """
    salt = binascii.a2b_base64(text)
    inside = sha256(salt.translate(_INNER) + inner + data).digest()
    return sha256(salt.translate(_OUTER) + _REST + inside).hexdigest().encode()


def read_event(data: bytes) -> Told:
    """What an event's own data say. Raises `FormatError` unless they are canonical JSON of an event's members."""
    match = _EVENT.fullmatch(data) if data.isascii() else None
    if match is None or not _is_flat(match[3]):
        return _read_event(decode(data))
    account, amount, _, extent, id_, type_, occurred_at, _, operation, quantity, reason = match.groups(b"")
    texts = (type_, id_, account, operation, occurred_at, extent, amount, quantity, reason)
    written = b",%b,%b,%b,%b,%b,%b,%b,%b,%b" % texts
    return match[7], written if is_plain(written, len(texts)) else cells(texts)


def _read_event(value: Value) -> Told:
    if not isinstance(value, dict):
        raise FormatError("it is no JSON object")
    match value.get("item"):
        case None:
            item: list[bytes | None] = [None, None]
        case {"id": id_, "type": type_, **rest} if not rest:
            item = [text_bytes(type_, "item's type"), text_bytes(id_, "item's id")]
        case _:
            raise FormatError("its item has not the members id and type")
    texts = [text_bytes(value.get(name), name) for name in _MEMBERS]
    return texts[2], cells([*item, *texts])


@lru_cache(maxsize=4096)
def _is_flat(data: bytes) -> bool:
    """Whether ASCII `data` is a plain JSON object in its canonical spelling: texts, small integers and literals."""
    return _FLAT.fullmatch(data) is not None and _is_sorted(tuple(_FLAT_NAME.findall(data)))


def check_delivery(data: bytes) -> None:
    """Raise `FormatError` unless `data` are canonical JSON of a delivery."""
    end = data.find(b'"', len(_BODY))
    start = end + len(_HEADERS) - 1  # of the headers, if there are any
    if not (
        data.startswith(_BODY)
        and data.startswith(_HEADERS, end)
        and data.endswith(b"}")
        and data.isascii()
        and _is_base64(data[len(_BODY) : end])
        and _TEXTS.fullmatch(data, start, len(data) - 1)
        and _is_sorted(tuple(data[start:].split(b'"')[1::4]))
    ):
        Delivery.parse(data)


def _is_base64(text: bytes) -> bool:
    """Whether it is canonical: only letters of the alphabet, padded, and the bits that are left over zero."""
    bare = text.rstrip(b"=")
    padding = len(text) - len(bare)
    return (
        len(text) % 4 == 0
        and (padding == 0 or (padding <= 2 and bare[-1:] in _LAST[padding]))
        and not bare.translate(None, _ALPHABET)
    )


@lru_cache(maxsize=4096)
def _is_sorted(names: tuple[bytes, ...]) -> bool:
    return all(one < other for one, other in pairwise(names))
