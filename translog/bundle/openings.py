"""What leaves commit to, as `events.jsonl` and `payloads/` show it: opened, and read for certain.

An opening is data and a salt that give the leaf's commitment. That binds the data, byte for byte; what remains is that
its bytes are the one spelling of what they say, so that nobody reads another thing in them. `translog.canonical`
decides that. Most lines are plain, and are recognised many at once (`translog.bundle.plain`).
"""

import binascii
from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias

from translog.bundle.rows import cells, text_bytes
from translog.canonical import decode
from translog.errors import FormatError
from translog.evidence import Delivery

__all__ = ["AS_DELIVERY", "AS_EVENT", "NOTHING", "Told", "check_delivery", "commitments", "committed", "read_event"]

_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_REST = b"\x5c" * 32
AS_EVENT, AS_DELIVERY = (b"\x36" * 32 + b"rescind/commitment/v1\n%b\n" % label for label in (b"event", b"delivery"))
"""What stands between salt and data inside of a commitment, by its label."""

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
    return commitments([text], inner, [data])


def commitments(texts: Iterable[bytes], inner: bytes, data: Iterable[bytes]) -> bytes:
    """The commitments to each of some `data`, as `committed`, one after another."""
    salts = map(binascii.a2b_base64, texts)
    digests = [
        sha256(salt.translate(_OUTER) + _REST + sha256(salt.translate(_INNER) + inner + one).digest()).digest()
        for salt, one in zip(salts, data, strict=True)
    ]
    return b"".join(digests).hex().encode()


def read_event(data: bytes) -> Told:
    """What an event's own data say. Raises `FormatError` unless they are canonical JSON of an event's members."""
    value = decode(data)
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


def check_delivery(data: bytes) -> None:
    """Raise `FormatError` unless `data` are canonical JSON of a delivery."""
    Delivery.parse(data)
