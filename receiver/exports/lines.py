"""The lines of a bundle's files, put together from bytes that are canonical JSON already.

`docs/export-format.md` has each of them. Members are sorted there by hand: nothing is written again that a commitment
is over.
"""

import binascii
from collections.abc import Mapping
from typing import TypeAlias

from receiver import encoding
from receiver.exports.leaves import EventFacts, Leaf, Own, read_headers
from receiver.exports.rows import Stand

HEADER = (
    b"index,id,logged_at,received_at,kind,provider,source,event,effect,via,scheme,item_type,item_id,account,operation,"
    b"occurred_at,extent,amount,quantity,reason,breaches,cross_check,test,erased\r\n"
)
"""The first line of `events.csv`."""

Cells: TypeAlias = tuple[
    int, str, str, str, str, str, str, str | None, str | None, str | None, str | None, str | None, str | None,
    str | None, str | None, str | None, str | None, str | None, str | None, str | None, str | None, str | None,
    bool | None, bool,
]  # fmt: skip
"""The values of one row of `events.csv`, in the order of its columns; None for null."""

_About: TypeAlias = tuple[
    str | None, str | None, str | None, str | None, str | None, str | None, str | None, str | None, str | None
]  # fmt: skip
_ERASED: _About = (None, None, None, None, None, None, None, None, None)
_BOOLEANS: Mapping[bool | None, str] = {True: "true", False: "false", None: ""}
_FEW = 4096
_UNTOLD = b'{"cross_check":null,"entry":null}'

_base64 = binascii.b2a_base64


def event_line(
    index: int, leaf: bytes, opening: tuple[bytes, bytes] | None, erased_by: int | None, stand: Stand | None
) -> bytes:
    """A line of `events.jsonl`. `opening` is data and salt, or None once they are erased, by that entry."""
    stands = _UNTOLD if stand is None else b'{"cross_check":"%b","entry":%d}' % (stand.state.encode(), stand.entry)
    if opening is None:
        return b'{"erased":true,"erased_by":%d,"event":null,"index":%d,"leaf":%b,"salt":null,"stands":%b}\n' % (
            erased_by,
            index,
            leaf,
            stands,
        )
    data, salt = opening
    return b'{"erased":false,"erased_by":null,"event":%b,"index":%d,"leaf":%b,"salt":"%b","stands":%b}\n' % (
        data,
        index,
        leaf,
        _base64(salt, newline=False),
        stands,
    )


def payload_line(index: int, opening: tuple[bytes, bytes] | None, erased_by: int | None) -> bytes:
    """A line of the payloads. `opening` is the delivery's data and salt, or None once they are erased."""
    if opening is None:
        return b'{"delivery":null,"erased_by":%d,"index":%d,"salt":null}\n' % (erased_by, index)
    data, salt = opening
    return b'{"delivery":%b,"erased_by":null,"index":%d,"salt":"%b"}\n' % (data, index, _base64(salt, newline=False))


def delivery_data(headers: str, body: bytes) -> bytes:
    """What a leaf's `delivery` commits to, from a row's headers (JSON, pairs) and body."""
    return encoding.delivery_data(tuple(read_headers(headers)), body)


def cells(index: int, leaf: Leaf, facts: EventFacts, own: Own | None, stand: Stand | None) -> Cells:
    """The values of an event's row in `events.csv` and `events.parquet`; `own` is None once it is erased."""
    return (
        index,
        leaf.id,
        leaf.logged_at,
        facts.received_at,
        leaf.kind,
        facts.provider,
        facts.source,
        facts.event,
        facts.effect,
        facts.via,
        facts.scheme,
        *(_ERASED if own is None else _about(own)),
        None if facts.breaches is None else " ".join(facts.breaches),
        None if stand is None else stand.state,
        facts.test,
        own is None,
    )


def _about(own: Own) -> _About:
    return (
        own.item.type,
        own.item.id,
        own.account,
        own.operation,
        own.occurred_at,
        own.extent,
        own.amount,
        own.quantity,
        own.reason,
    )


def csv_line(row: Cells) -> str:
    """A row of `events.csv` (RFC 4180), its end included."""
    (
        index, id_, logged_at, received_at, kind, provider, source, event, effect, via, scheme, item_type, item_id,
        account, operation, occurred_at, extent, amount, quantity, reason, breaches, cross_check, test, erased,
    ) = row  # fmt: skip
    few = _written
    return (
        f"{index},{id_},{logged_at},{received_at},{few[kind]},{few[provider]},{few[source]},{few[event]},"
        f"{few[effect]},{few[via]},{few[scheme]},{few[item_type]},{_write(item_id)},{_write(account)},"
        f"{_write(operation)},{_write(occurred_at)},{few[extent]},{_write(amount)},{_write(quantity)},{_write(reason)},"
        f"{few[breaches]},{few[cross_check]},{_BOOLEANS[test]},{_BOOLEANS[erased]}\r\n"
    )


def _write(text: str | None) -> str:
    """A cell: quoted where it must be, and no formula."""
    if not text:
        return ""
    if text[0] in "=+-@\t\r":
        text = "'" + text
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


class _Written(dict[str | None, str]):
    """The cells of columns that have few different texts."""

    def __missing__(self, text: str | None) -> str:
        if len(self) >= _FEW:  # they are many after all
            self.clear()
        written = self[text] = _write(text)
        return written


_written = _Written()
