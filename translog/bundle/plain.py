"""Plain lines, many at once: what most lines of `events.jsonl` and `payloads/` are.

A line is plain if it is ASCII, without escapes, and of the members that all events and deliveries have, none erased.
One pattern then matches it from end to end, and gives its parts; and a block of lines that all match is taken apart by
one call, in a third of the time of one call for each. What a pattern cannot tell is checked of the parts: that names
are in order, and base64 is canonical. A line that is not plain is not wrong: `openings` reads it as it is.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

from translog.bundle.rows import cells, is_plain

__all__ = ["EVENT", "NUMBER", "PAYLOAD", "SALT", "STANDS", "Parts", "deliver", "delivery_of", "line_of", "tell"]

Parts: TypeAlias = tuple[bytes, ...]
"""What a pattern finds in a plain line, from which the line can be written again; empty for null."""

SALT = rb"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
"""A pattern of 32 bytes in canonical base64."""

NUMBER = rb"(?:0|[1-9][0-9]{0,15})"
STANDS = rb'"stands":\{"cross_check":(?:null|"([a-z]+)"),"entry":(?:null|(%b))\}\}' % NUMBER
"""A pattern of the end of an event's line, with the state and the entry."""

_SOME, _ANY = rb'(?:null|"([^"\\\x00-\x1f]+)")', rb'(?:null|"([^"\\\x00-\x1f]*)")'
_DATA = (
    rb'\{"account":%(any)b,"amount":%(any)b,"details":(\{[^{}\x00-\x1f]*\}),"extent":%(any)b,'
    rb'"item":(?:null|\{"id":%(any)b,"type":%(any)b\}),"occurred_at":%(some)b,"occurred_from":%(skip)b,'
    rb'"operation":%(any)b,"quantity":%(any)b,"reason":%(any)b\}'
) % {b"any": _ANY, b"some": _SOME, b"skip": _ANY.replace(b"([", b"(?:[")}
EVENT = re.compile(
    rb'^\{"erased":false,"erased_by":null,"event":(%b),"index":(%b),"leaf":(\{.*\}),"salt":"(%b)",%b\n'
    % (_DATA, NUMBER, SALT, STANDS),
    re.MULTILINE,
)
"""Of an event: its data, account, amount, details, extent, item's id and type, occurred_at, operation, quantity and
reason; and index, leaf, salt, state and entry."""

_TEXT = rb'"[^"\\\x00-\x1f]*"'
_HEADERS = rb'\{(?:"[^"\\\x00-\x1f]+":%b(?:,(?=")|(?=\})))*\}' % _TEXT
PAYLOAD = re.compile(
    rb'^\{"delivery":\{"body":"([^"]*)","headers":(%b)\},"erased_by":null,"index":(%b),"salt":"(%b)"\}\n'
    % (_HEADERS, NUMBER, SALT),
    re.MULTILINE,
)
"""Of a payload: its body, headers, index and salt."""

_FLAT = re.compile(
    rb'\{(?:"[^"\\\x00-\x1f]*":(?:%(t)b|null|true|false|0|-?[1-9][0-9]{0,14})(?:,(?=")|(?=\})))*\}' % {b"t": _TEXT}
)
_FLAT_NAME = re.compile(rb'[{,]"([^"]*)":')

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LAST = {number: {_ALPHABET[at : at + 1] for at in range(0, 64, 4**number)} for number in (1, 2)}
"""By the number of `=` after it: what the last letter can be."""


def line_of(parts: Parts) -> bytes:
    """The line that these are the parts of, without its newline."""
    if len(parts) == PAYLOAD.groups:
        body, headers, index, salt = parts
        return b'{"delivery":%b,"erased_by":null,"index":%b,"salt":"%b"}' % (delivery_of(body, headers), index, salt)
    data, *_, index, leaf, salt, state, entry = parts
    told = b'"%b"' % state if state else b"null"
    stands = b'"stands":{"cross_check":%b,"entry":%b}' % (told, entry or b"null")
    shown = b'{"erased":false,"erased_by":null,"event":%b,"index":%b,"leaf":%b,"salt":"%b",' % (data, index, leaf, salt)
    return shown + stands + b"}"


def delivery_of(body: bytes, headers: bytes) -> bytes:
    """The delivery with this body, in base64, and these headers: what is committed to."""
    return b'{"body":"%b","headers":%b}' % (body, headers)


def tell(parts: Parts) -> tuple[bytes | None, bytes] | None:
    """What a plain event tells, as `openings.read_event` gives it; None if its details are not plain."""
    _, account, amount, details, extent, id_, type_, occurred_at, operation, quantity, reason, *_ = parts
    if not _is_flat(details):
        return None
    texts = (type_, id_, account, operation, occurred_at, extent, amount, quantity, reason)
    written = b",%b,%b,%b,%b,%b,%b,%b,%b,%b" % texts
    return occurred_at or None, written if is_plain(written, len(texts)) else cells(texts)


def deliver(body: bytes, headers: bytes) -> bool:
    """Whether the body of a plain payload is canonical base64, and its headers are in order, and in lower case."""
    bare = body.rstrip(b"=")
    padding = len(body) - len(bare)
    return (
        len(body) % 4 == 0
        and (padding == 0 or (padding <= 2 and bare[-1:] in _LAST[padding]))
        and not bare.translate(None, _ALPHABET)
        and _are_headers(tuple(headers.split(b'"')[1::4]))
    )


@lru_cache(maxsize=4096)
def _is_flat(data: bytes) -> bool:
    """Whether ASCII `data` is a JSON object in its canonical spelling: of plain texts, small integers and literals."""
    return _FLAT.fullmatch(data) is not None and _are_sorted(_FLAT_NAME.findall(data))


@lru_cache(maxsize=4096)
def _are_headers(names: Parts) -> bool:
    return _are_sorted(names) and all(name == name.lower() for name in names)


def _are_sorted(names: Parts | list[bytes]) -> bool:
    return all(one < other for one, other in pairwise(names))
