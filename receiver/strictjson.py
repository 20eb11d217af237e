"""JSON as a delivery brings it: read strictly, with no number changed, and digested.

RFC 8259 leaves open what a reader makes of a member given twice, of numbers too large or too fine for a double, of half
a surrogate pair, of any depth of nesting; two readers may then see two documents in the same bytes. RFC 7493 (I-JSON)
names these traps, and `parse` refuses them all with one error, `NotJson`.

Numbers are the exception, for money is written in them: an integer that every reader keeps exactly (magnitude below
2^53) becomes an int, and every other number a `Number`, which is its literal and nothing else. `1.10` stays `1.10`.
"""

import json
import math
from collections.abc import Container
from decimal import Decimal
from hashlib import sha256
from typing import NoReturn, TypeAlias, cast, final

import msgspec

from translog.canonical import MAX_INTEGER, Value

MAX_DEPTH = 48
"""Objects and arrays within one another, the outermost counted: what fits into canonical JSON's 64 with room around."""

_WHITESPACE = " \t\r\n"


class NotJson(ValueError):  # noqa: N818 (it is the name of what a delivery is)
    """The bytes are not one strict JSON object; the message says why, without the content but for a name or number."""


@final
class Number:
    """A number that is not a small integer: its literal, as it was written. Not changed once made.

    Not a dataclass, for the encoder of `digest` would write one as an object.
    """

    __slots__ = ("_literal",)

    def __init__(self, literal: str) -> None:
        self._literal = literal

    @property
    def literal(self) -> str:
        return self._literal

    def decimal(self) -> Decimal:
        """The number itself, exact to the last digit written."""
        return Decimal(self._literal)

    def __eq__(self, other: object) -> bool:
        """Whether both are written alike: 1.0 and 1.00 differ."""
        return isinstance(other, Number) and other._literal == self._literal

    def __hash__(self) -> int:
        return hash(self._literal)

    def __repr__(self) -> str:
        return f"Number({self._literal!r})"


Json: TypeAlias = "bool | int | str | Number | list[Json] | dict[str, Json] | None"


def parse(raw: bytes) -> dict[str, Json]:
    """The object that `raw` is the JSON of, in UTF-8.

    Raises `NotJson`, and nothing else, for what is not UTF-8 (RFC 8259 section 8.1, a byte order mark included), not
    JSON or followed by something, not an object, nested deeper than `MAX_DEPTH`; for a member given twice in one
    object, NaN, an infinity or a number beyond a double's range (1e400); and for a string with a NUL, which no
    PostgreSQL text can hold, or a lone surrogate, which no UTF-8 can.
    """
    try:
        text = raw.decode().strip(_WHITESPACE)
        document, end = _decoder.raw_decode(text)
    except NotJson:
        raise
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        if raw.startswith(b"\xef\xbb\xbf"):
            raise NotJson("begins with a byte order mark") from None
        raise NotJson(f"not JSON: {error}") from None
    if end != len(text):
        raise NotJson(f"not JSON: something follows the value at character {end}")
    if not isinstance(document, dict):
        raise NotJson("the JSON is not an object")
    document = cast("dict[str, Json]", document)
    # No opening brackets, no depth; no escapes, no character that UTF-8 would not have shown: nothing to walk through.
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _refuse_depth(document)
    if "\\u" in text:
        _refuse_strings(document)
    return document


def digest(document: dict[str, Json], drop: Container[str] = ()) -> bytes:
    """SHA-256 (32 bytes) over the document's JSON with members sorted and number literals verbatim.

    `drop` names members of the top level to leave out: those that differ from one attempt at delivery to the next.
    Different documents, as `parse` gives them, have different JSON here: `1.0`, `1.00` and `"1.0"` are three, and no
    int is written like a `Number`.
    """
    if drop:
        document = {name: value for name, value in document.items() if name not in drop}
    return sha256(_encode(document)).digest()


def plain(value: Json) -> Value:
    """The same with every `Number` as the text of its literal: what canonical JSON can hold."""
    if isinstance(value, Number):
        return value.literal
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise NotJson(f"the member {name[:64]!r} is given twice")
            seen.add(name)
    return members


def _integer(literal: str) -> int | Number:
    # Longer than 2^53 can be written: not even tried, for reading a long row of digits takes quadratic time.
    if len(literal) <= 17 and literal != "-0":
        value = int(literal)
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return value
    return Number(literal)


def _fraction(literal: str) -> Number:
    # An exponent of four digits is an infinity, or nothing, to a double, and past any to Decimal.
    exponent = literal.lower().partition("e")[2]
    if len(exponent.lstrip("+-")) > 3 or math.isinf(float(literal)):
        raise NotJson(f"the number {literal[:64]} is beyond what a double can hold")
    return Number(literal)


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is no JSON number")


def _verbatim(value: object) -> msgspec.Raw:
    """What the encoder does not know by itself: a number that `parse` kept as its literal."""
    if isinstance(value, Number):
        return msgspec.Raw(value.literal)
    raise TypeError(f"a {type(value).__name__} is not of a parsed document")


def _refuse_depth(value: Json, levels: int = MAX_DEPTH) -> None:
    """Refuse what is nested deeper than `levels` more objects and arrays."""
    if isinstance(value, dict | list):
        if levels == 0:
            raise NotJson(f"nested deeper than {MAX_DEPTH} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_depth(inner, levels - 1)


def _refuse_strings(value: Json) -> None:
    """Refuse what holds a string, or a name, that could not be kept."""
    if isinstance(value, str):
        if "\0" in value:
            raise NotJson("a string holds a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise NotJson(f"a string holds the lone surrogate U+{ord(value[error.start]):04X}") from None
    elif isinstance(value, dict):
        for name, member in value.items():
            _refuse_strings(name)
            _refuse_strings(member)
    elif isinstance(value, list):
        for item in value:
            _refuse_strings(item)


_decoder = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)
_encode = msgspec.json.Encoder(enc_hook=_verbatim, order="sorted").encode
