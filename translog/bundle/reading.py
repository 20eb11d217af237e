"""What is read out of a bundle's small files: canonical JSON of exactly the members that the format names.

Each function takes the place that is told if it is not so: a file, or a file and the way to a member of it.
"""

import re
from datetime import datetime
from typing import cast

from translog.canonical import Value, decode, from_base64
from translog.errors import BundleError, FormatError
from translog.merkle import HASH_SIZE, MAX_SIZE

__all__ = ["array", "boolean", "decoded", "digest", "hashes", "member", "members", "name", "number", "text", "time"]

_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z")
_DIGEST = re.compile("[0-9a-f]{64}")


def decoded(place: str, data: bytes) -> Value:
    """The value whose canonical JSON is `data`."""
    try:
        return decode(data)
    except FormatError as error:
        raise BundleError(place, str(error)) from None


def members(place: str, value: Value, *names: str) -> dict[str, Value]:
    """An object with exactly the members of these names; any, if none is given."""
    if not isinstance(value, dict):
        raise BundleError(place, "it is no JSON object")
    if names and value.keys() != set(names):
        odd = sorted(value.keys() ^ set(names))
        raise BundleError(place, f"its members are not {', '.join(sorted(names))}: {odd[0]!a} is amiss")
    return value


def member(place: str, value: Value, name: str) -> Value:
    """One member of an object that may have others."""
    found = members(place, value)
    if name not in found:
        raise BundleError(place, f"it has no {name!a}")
    return found[name]


def name(place: str, value: Value, *allowed: str) -> str:
    """One of these texts."""
    if not isinstance(value, str) or value not in allowed:
        raise BundleError(place, f"it is {_said(value)}, not {' or '.join(allowed)}")
    return value


def text(place: str, value: Value) -> str:
    """A text."""
    if not isinstance(value, str):
        raise BundleError(place, f"it is {_said(value)}, no text")
    return value


def number(place: str, value: Value) -> int:
    """An integer from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SIZE:
        raise BundleError(place, f"it is {_said(value)}, no number from 0 on")
    return value


def boolean(place: str, value: Value) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise BundleError(place, f"it is {_said(value)}, not true or false")
    return value


def array(place: str, value: Value) -> list[Value]:
    """An array."""
    if not isinstance(value, list):
        raise BundleError(place, f"it is {_said(value)}, no array")
    return value


def time(place: str, value: Value) -> str:
    """A time in UTC with six fraction digits and `Z`."""
    found = text(place, value)
    try:
        if _TIME.fullmatch(found):
            datetime.fromisoformat(found)
            return found
    except ValueError:
        pass
    raise BundleError(place, f"{found[:80]!a} is no time like 2026-07-01T00:00:00.000000Z")


def digest(place: str, value: Value) -> bytes:
    """32 bytes, in hex."""
    found = text(place, value)
    if not _DIGEST.fullmatch(found):
        raise BundleError(place, f"{found[:80]!a} is not 64 hex digits")
    return bytes.fromhex(found)


def hashes(place: str, value: Value) -> list[bytes]:
    """An array of 32-byte hashes, in base64."""
    try:
        found = [from_base64(text(place, one)) for one in array(place, value)]
    except FormatError as error:
        raise BundleError(place, str(error)) from None
    if any(len(one) != HASH_SIZE for one in found):
        raise BundleError(place, f"a hash in it has not {HASH_SIZE} bytes")
    return found


def _said(value: Value) -> str:
    """A value that was not expected, for a message."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    return ascii(cast("object", value))[:80]
