"""Plain lines, many at once: what most lines of `events.jsonl` and `payloads/` are.

A line is plain if it is without escapes, and of the members that all events and deliveries have, none of them erased.
One pattern then matches it from end to end and gives its parts, and takes a block of lines apart by one call, in a
third of the time of one call for each. What a pattern cannot tell is checked of the parts: that names are in order, and
base64 is canonical. A line that is not plain is not wrong: `single` reads it as it is.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Self, TypeAlias

from translog.bundle.leaves import CROSS_CHECKS

__all__ = [
    "EVENT",
    "NUMBER",
    "PAYLOAD",
    "Events",
    "Parts",
    "Payloads",
]

Parts: TypeAlias = tuple[bytes, ...]
"""What `EVENT` or `PAYLOAD` finds in a line: all of it, without the newline; then its parts, or nothing if it has them
not. A part is empty for null."""

NUMBER = rb"(?:0|[1-9][0-9]{0,15})"

_SALT = rb'[^"]{43}='
_SOME, _ANY, _SKIP = rb'(?:null|"([^"]+)")', rb'(?:null|"([^"]*)")', rb'(?:null|"[^"]*")'
_OPENED = (
    rb'\{"account":%(any)b,"amount":%(any)b,"details":(\{[^}]*\}),"extent":%(any)b,'
    rb'"item":(?:null|\{"id":%(any)b,"type":%(any)b\}),"occurred_at":%(some)b,"occurred_from":%(skip)b,'
    rb'"operation":%(any)b,"quantity":%(any)b,"reason":%(any)b\}'
) % {b"any": _ANY, b"some": _SOME, b"skip": _SKIP}
_STANDS = rb'\{"cross_check":(?:null,"entry":null|"(%b)","entry":(%b))\}' % ("|".join(CROSS_CHECKS).encode(), NUMBER)
EVENT = re.compile(
    rb'^(\{"erased":false,"erased_by":null,"event":(%b),"index":(%b),"leaf":(\{.*\}),"salt":"(%b)","stands":%b\}|.*)\n'
    % (_OPENED, NUMBER, _SALT, _STANDS),
    re.MULTILINE,
)
"""The line of an event; its parts are named in `Events`."""

_MEMBERS = rb'\{(?:"[^"]%b":%b(?:,(?=")|(?=\})))*\}'
_HEADERS = _MEMBERS % (b"+", rb'"[^"]*"')
PAYLOAD = re.compile(
    rb'^(\{"delivery":(\{"body":"([^"]*)","headers":(%b)\}),"erased_by":null,"index":(%b),"salt":"(%b)"\}|.*)\n'
    % (_HEADERS, NUMBER, _SALT),
    re.MULTILINE,
)
"""The line of a payload; its parts are named in `Payloads`."""

_FLAT = re.compile(_MEMBERS % (b"*", rb'(?:"[^"]*"|null|true|false|0|-?[1-9][0-9]{0,14})'))
_FLAT_NAME = re.compile(rb'[{,]"([^"]*)":')

_SIGNS = bytes(sign for sign in range(0x20, 0x100) if sign != ord("\\"))
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_END = re.compile(rb"|[A-Za-z0-9+/]{3}|[A-Za-z0-9+/][AEIMQUYcgkosw048]=|[AQgw]==")
"""The last three letters of canonical base64."""
_SALT_ENDS = b"AEIMQUYcgkosw048"


class Events(NamedTuple):
    """Lines of events that follow one another, by their parts."""

    line: Parts
    data: Parts
    account: Parts
    amount: Parts
    details: Parts
    extent: Parts
    item_id: Parts
    item_type: Parts
    occurred_at: Parts
    operation: Parts
    quantity: Parts
    reason: Parts
    stated: Parts
    leaf: Parts
    salt: Parts
    state: Parts
    entry: Parts

    @classmethod
    def of(cls, lines: Sequence[Parts]) -> Self:
        """Of what `EVENT` has found, at least once."""
        return cls._make(zip(*lines, strict=True))

    @property
    def are_plain(self) -> bool:
        """Whether all of them are."""
        return (
            all(self.stated)
            and _are_salts(self.salt)
            and _are_texts(self.data)
            and all(map(_is_flat, set(self.details)))
        )


class Payloads(NamedTuple):
    """Lines of payloads that follow one another, by their parts."""

    line: Parts
    delivery: Parts
    body: Parts
    headers: Parts
    stated: Parts
    salt: Parts

    @classmethod
    def of(cls, lines: Sequence[Parts]) -> Self:
        """Of what `PAYLOAD` has found, at least once."""
        return cls._make(zip(*lines, strict=True))

    @property
    def are_plain(self) -> bool:
        """Whether all of them are."""
        return (
            all(self.stated)
            and _are_salts(self.salt)
            and _are_texts(self.headers)
            and all(map(_are_headers, {tuple(headers.split(b'"')[1::4]) for headers in self.headers}))
            and _are_base64(self.body)
        )


def _are_texts(objects: Parts) -> bool:
    """Whether objects are UTF-8, without escapes and without what must be escaped."""
    every = b"".join(objects)
    try:
        every.decode()
    except UnicodeDecodeError:
        return False
    return not every.translate(None, _SIGNS)


def _are_salts(texts: Parts) -> bool:
    """Whether texts of 44 letters, the last of them `=`, are 32 bytes each in canonical base64."""
    every = b"".join(texts)
    return every.translate(None, _ALPHABET) == b"=" * len(texts) and not every[42::44].translate(None, _SALT_ENDS)


def _are_base64(texts: Parts) -> bool:
    """Whether texts are base64 in its canonical spelling."""
    ends = [text[-3:] for text in texts]
    return (
        {len(text) % 4 for text in texts} == {0}
        and all(map(_END.fullmatch, set(ends)))
        and b"".join(texts).translate(None, _ALPHABET) == b"".join(ends).translate(None, _ALPHABET)
    )


@lru_cache(maxsize=4096)
def _is_flat(data: bytes) -> bool:
    """Whether `data` is a JSON object in its canonical spelling: of plain texts, small integers and literals."""
    return _FLAT.fullmatch(data) is not None and _are_sorted(_FLAT_NAME.findall(data))


@lru_cache(maxsize=4096)
def _are_headers(names: Parts) -> bool:
    """Whether these are names of headers, in order."""
    return _are_sorted(names) and all(name == name.lower() for name in names)


def _are_sorted(names: Parts | list[bytes]) -> bool:
    """Whether these are names of members, in order."""
    return b"".join(names).isascii() and all(one < other for one, other in pairwise(names))
