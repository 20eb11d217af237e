"""Spellings of which there is exactly one: canonical JSON, base64 and decimals, and the commitments made over them.

What is hashed or signed must have one spelling only, or two parties can hold "the same" record under different
hashes. So every reader here ends alike: what was read is written again, and if that does not give back the input, the
input is refused. That one comparison covers the whitespace, padding, signs and underscores, duplicate members,
escapes that are not needed and foreign digits that Python's own readers let through.

**Canonical JSON** is the subset of RFC 8785 (JCS) that needs no number formatting: null, booleans, strings, integers
below 2^53 in magnitude, arrays, and objects with ASCII member names. Within it, members sorted by code point and
Python's compact output are byte for byte what RFC 8785 prescribes.

**A commitment** lets a public log fix data it must not show. It is HMAC-SHA256 (RFC 2104) under a salt of 32 random
bytes kept beside the data: whoever holds both can show that this is what was committed to; once both are erased, the
commitment says nothing, not even to someone who guesses the data.
"""

import base64
import binascii
import json
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import TypeAlias, cast

from translog.errors import FormatError

__all__ = [
    "MAX_INTEGER",
    "MAX_NESTING",
    "SALT_SIZE",
    "Value",
    "commitment",
    "decimal",
    "decode",
    "encode",
    "from_base64",
    "hmac_sha256",
    "to_base64",
]

Value: TypeAlias = "bool | int | str | list[Value] | dict[str, Value] | None"

MAX_INTEGER = 2**53 - 1
"""The largest magnitude that every JSON reader keeps exactly (RFC 8785 section 3.2.2.3, RFC 7493 section 2.2)."""

MAX_NESTING = 64
"""Arrays and objects within one another, the outermost counted."""

SALT_SIZE = 32

_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))

# The nesting is bounded before this runs, so its own search for cycles would only cost time.
_write = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode

_PLAIN = frozenset({str, bool, type(None)})


def encode(value: object) -> bytes:
    """The canonical JSON of `value`, in UTF-8.

    Takes None, bool, int, str, list and dict (str and int also as enumerations of these). Raises `FormatError` for
    whatever lies outside the subset: a float, an integer of 2^53 or more, a member name that is not an ASCII string,
    a lone surrogate, a tuple or another type, and nesting deeper than `MAX_NESTING`.
    """
    if type(value) not in _PLAIN:
        _check(value, MAX_NESTING)
    try:
        return _write(value).encode()
    except UnicodeEncodeError as error:
        raise FormatError(
            f"canonical JSON: a string holds the lone surrogate U+{ord(error.object[error.start]):04X}"
        ) from None


def decode(data: bytes) -> Value:
    """The value whose canonical JSON is exactly `data`.

    Raises `FormatError` for anything else, including JSON of the same meaning in another spelling.
    """
    try:
        value = cast("Value", json.loads(data.decode()))
    except UnicodeDecodeError as error:
        raise FormatError(f"canonical JSON: byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise FormatError(f"canonical JSON: nested deeper than {MAX_NESTING} levels") from None
    except ValueError as error:  # json.JSONDecodeError, or a number with more digits than Python will read
        raise FormatError(f"canonical JSON: {error}") from None
    again = encode(value)
    if again != data:
        at = next((i for i, (a, b) in enumerate(zip(data, again, strict=False)) if a != b), min(len(data), len(again)))
        raise FormatError(
            "canonical JSON: members must be sorted and given once, without whitespace or needless escapes and digits; "
            f"the canonical spelling differs from byte {at} on"
        )
    return value


def commitment(salt: bytes, label: str, data: bytes) -> str:
    """The commitment to `data` under `salt`: HMAC-SHA256, as 64 lowercase hex digits.

    The message is the line `rescind/commitment/v1`, the line `label`, and the data. `salt` is exactly 32 bytes, random
    and used once; `label` says what the data is (`event`, `delivery`), so that data of one kind is never shown as
    another. Raises `FormatError` for a salt of another length or a label that is not an ASCII identifier.
    """
    if len(salt) != SALT_SIZE:
        raise FormatError(f"commitment: a salt is exactly {SALT_SIZE} bytes, this one has {len(salt)}")
    return hmac_sha256(salt)(_commitment_prefix(label) + data).hex()


def hmac_sha256(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA256 (RFC 2104) under `key`, with both padded keys hashed beforehand (its section 4).

    Takes the message, gives 32 bytes; may be called by several threads at once. Twice as fast as `hmac.digest`, which
    also lets other threads in for every message, however short.
    """
    if len(key) > 64:
        key = sha256(key).digest()
    padded = key.ljust(64, b"\0")
    inner, outer = sha256(padded.translate(_INNER_PAD)), sha256(padded.translate(_OUTER_PAD))

    def mac(message: bytes) -> bytes:
        inside, outside = inner.copy(), outer.copy()
        inside.update(message)
        outside.update(inside.digest())
        return outside.digest()

    return mac


@cache
def _commitment_prefix(label: str) -> bytes:
    if not (label.isascii() and label.isidentifier()):
        raise FormatError(f"commitment: the label {label!r} is not an ASCII identifier")
    return b"rescind/commitment/v1\n%b\n" % label.encode()


def to_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, what: str = "base64") -> bytes:
    """The bytes whose standard, padded base64 (RFC 4648 section 4) is exactly `text`.

    `what` names the thing in the message of the `FormatError` raised for anything else, unused bits that are not zero
    included.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or to_base64(data) != text:
        raise FormatError(f"{what}: {_shortened(text)} is not canonical standard base64")
    return data


def decimal(text: str, what: str = "number", limit: int = 2**63 - 1) -> int:
    """The integer from 0 to `limit` whose ASCII decimal, without leading zeros, is exactly `text`.

    `what` names the thing in the message of the `FormatError` raised for anything else.
    """
    # The length is looked at first: reading a long row of digits takes quadratic time.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(limit))) or str(value := int(text)) != text:
        raise FormatError(f"{what}: {_shortened(text)} is not a decimal number without sign or leading zeros")
    if value > limit:
        raise FormatError(f"{what}: {text} is above {limit}")
    return value


def _check(value: object, levels: int) -> None:
    """Refuse what lies outside the subset; `levels` is how many arrays and objects may still be opened."""
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        for name in members:
            if not isinstance(name, str) or not name.isascii():
                raise FormatError(f"canonical JSON: the member name {name!r} is not an ASCII string")
        inner = members.values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise FormatError(
                "canonical JSON: an integer of 2^53 or more is not kept exactly by every reader; write it as a string"
            )
        return
    elif isinstance(value, str):
        return
    else:
        raise FormatError(f"canonical JSON has no place for a {type(value).__name__}; write it as a string")
    if levels == 0:
        raise FormatError(f"canonical JSON: nested deeper than {MAX_NESTING} levels")
    for item in inner:
        if type(item) not in _PLAIN:
            _check(item, levels - 1)


def _shortened(text: str) -> str:
    """`text` as a literal that is safe to print, and cut where it is long."""
    return ascii(text) if len(text) <= 80 else f"{text[:77]!a}… ({len(text)} characters)"
