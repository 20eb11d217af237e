"""What is no strict JSON, read for what it may say all the same: whom a body names that could not be understood.

`receiver.strictjson` refuses what two readers may read as two documents. For one question every reading counts: is
somebody named there? So here is read whatever any reader might:

    {"email":"a","email":"b"}        a member given twice has both values
    [{…}]  {…} {…}  {…} and so on    a value of any sort, several of them, something behind them
    a byte order mark, UTF-16        decoded; what is no text in it stands for nothing
    {"email":"a","sum":              of what no reader takes for JSON: what looks like a member with a text or a number

It is never used for what is recorded. All of it takes time that is linear in the size of the body.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from receiver.strictjson import Json, Number

MAX_LEVELS = 100
"""Objects and arrays within one another. What is nested deeper is searched for what looks like members."""

_LIKE_A_MEMBER = re.compile(
    r'"((?:[^"\\]|\\.){0,64}+)"\s{0,64}+:\s{0,64}+'
    r'(?="((?:[^"\\]|\\.){0,1024}+)"|(-?+[0-9][0-9.eE+-]{0,63}+))',
    re.DOTALL,
)
"""A text is found up to 1024 characters long, far more than any identifier has: so each place is looked at for no
longer than that, whatever is written there. A value may be where the next member begins: it is not passed over."""

_WHITESPACE = re.compile(r"[\x00-\x20\x85\xa0\ufeff\u2028\u2029]*")


@dataclass(frozen=True, slots=True)
class Loose:
    """What a body may say."""

    values: list[Json]
    """The JSON that it is, begins with, or is a row of. Each member's value is in an array, with all that it has."""
    members: list[Json]
    """Of what follows, an object for each that looks like a member; of which object it is one is not known."""


def read(raw: bytes) -> Loose:
    """Read a body of any kind. Raises nothing."""
    text = raw.decode(json.detect_encoding(raw), "replace")
    values: list[Json] = []
    place = _after_space(text, 0)
    while place < len(text):
        try:
            value, end = _decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        if _is_deeper(value, 2 * MAX_LEVELS):  # each member's array counts
            break
        values.append(value)
        place = _after_space(text, end)
    return Loose(values, list(_members_like(text[place:])))


def is_wide(raw: bytes) -> bool:
    """Whether a body may be in UTF-16 or UTF-32, so that no search for bytes finds anything in it."""
    return b"\0" in raw[:4]


def is_text(value: str) -> bool:
    """Whether a string that was read so is text that somebody can ask for: half a surrogate pair is none, nor a NUL."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _after_space(text: str, place: int) -> int:
    found = _WHITESPACE.match(text, place)
    return place if found is None else found.end()


def _members_like(text: str) -> Iterator[Json]:
    for found in _LIKE_A_MEMBER.finditer(text):
        name, value, number = found.groups()
        yield {_unescaped(name): Number(number) if value is None else _unescaped(value)}


def _unescaped(literal: str) -> str:
    """What is between the quotes of a string; as it is written where its escapes are none."""
    try:
        return str(_decoder.decode(f'"{literal}"'))
    except ValueError:
        return literal


def _is_deeper(value: Json, levels: int) -> bool:
    """Whether it is nested deeper than that; itself it goes no deeper."""
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(inner, levels - 1) for inner in inside)


def _with_all(pairs: list[tuple[str, Json]]) -> Json:
    members: dict[str, list[Json]] = {}
    for name, value in pairs:
        members.setdefault(name, []).append(value)
    return cast("dict[str, Json]", members)


def _nothing(_name: str) -> None:
    """NaN and the infinities, which name nobody."""


_decoder = json.JSONDecoder(
    object_pairs_hook=_with_all, parse_int=Number, parse_float=Number, parse_constant=_nothing, strict=False
)
