"""The lines of a bundle's files: what Python's own writers make of the same values."""

import base64
import csv
import io
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from receiver.exports import lines
from receiver.exports.leaves import EventFacts, Leaf, Own, read_event_facts, read_leaf, read_own
from receiver.exports.lines import Cells, cells, csv_line, delivery_data, event_line, payload_line
from receiver.exports.rows import Stand
from translog.canonical import decode, encode
from translog.evidence import Delivery

SALT = bytes(range(32))
FORMULAS = ("=", "+", "-", "@", "\t", "\r")

texts = st.none() | st.text(st.sampled_from("a=+-@\t\r\n,\"' \u00e4;"), max_size=5) | st.text(max_size=8)
words = st.sampled_from(["webhook", "a_word"])


@given(st.tuples(st.integers(0, 2**53), *[words] * 6, *[texts] * 15, st.none() | st.booleans(), st.booleans()))
def test_a_row_of_the_table(row: Cells) -> None:
    """It is what `csv` writes of it, once no text is a formula; and whoever reads it gets that back."""
    line = csv_line(row)

    harmless = [_harmless(value) for value in row]
    text = io.StringIO(newline="")
    csv.writer(text).writerow(harmless)
    assert line == text.getvalue()
    assert next(csv.reader(io.StringIO(line, newline=""), strict=True)) == harmless


def _harmless(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return "'" + text if text.startswith(FORMULAS) else text


def test_few_texts_are_remembered() -> None:
    """However many come after all, memory is bounded."""
    row = (1, *["w"] * 6, *[None] * 15, None, False)
    for number in range(20_000):
        changed: Any = (*row[:9], f"via {number}", *row[10:])
        assert f",via {number}," in csv_line(changed)
    assert len(lines._written) <= 4096  # pyright: ignore[reportPrivateUsage]


def test_the_header_names_the_cells() -> None:
    """As many as a row has, the first and the last three in their places."""
    names = lines.HEADER.decode().removesuffix("\r\n").split(",")
    line = csv_line((1, *["w"] * 6, *[None] * 15, True, False)).split(",")  # pyright: ignore[reportArgumentType]
    assert len(names) == len(line) == 24
    assert [names[0], *names[-2:]] == ["index", "test", "erased"]


def leaf(**facts: Any) -> bytes:
    """A leaf with these facts."""
    return encode(
        {
            "delivery": "d" * 64,
            "event": "e" * 64,
            "facts": {"provider": "scrip", "received_at": "r", "source": "s", **facts},
            "id": "its id",
            "kind": "revocation",
            "logged_at": "l",
            "v": 1,
        }
    )


def read(data: bytes) -> tuple[Leaf, EventFacts]:
    """Its members."""
    found = read_leaf(data)
    return found, read_event_facts(found.facts)


OWN = {
    "account": "an account",
    "amount": "1.00",
    "details": {"b": 1, "a": [True, None]},
    "extent": "full",
    "item": {"id": "its id", "type": "receipt"},
    "occurred_at": "o",
    "occurred_from": None,
    "operation": "op",
    "quantity": "2",
    "reason": '\u00e4 "quoted"',
}


def test_a_line_of_events() -> None:
    """Canonical JSON, with the leaf and the event's data in it byte for byte."""
    data, own = leaf(effect="revoked"), encode(OWN)
    line = event_line(7, data, (own, SALT), None, Stand("confirmed", 9))

    assert decode(line[:-1]) == {
        "erased": False,
        "erased_by": None,
        "event": OWN,
        "index": 7,
        "leaf": json.loads(data),
        "salt": base64.b64encode(SALT).decode(),
        "stands": {"cross_check": "confirmed", "entry": 9},
    }
    assert b'"event":' + own + b',"index":7,"leaf":' + data + b',"salt":' in line
    assert line.endswith(b"}\n")
    told = decode(event_line(7, data, None, 12, None)[:-1])
    assert isinstance(told, dict)
    assert (told["erased"], told["erased_by"], told["event"], told["salt"]) == (True, 12, None, None)
    assert told["stands"] == {"cross_check": None, "entry": None}


@given(st.dictionaries(st.from_regex("[a-z:-]{1,9}", fullmatch=True), st.text(max_size=20)), st.binary())
def test_a_line_of_payloads(headers: dict[str, str], body: bytes) -> None:
    """Canonical JSON, with what the leaf commits to in it byte for byte."""
    opened = delivery_data(json.dumps(list(headers.items())), body)

    assert opened == Delivery(tuple(headers.items()), body).encode()
    line = payload_line(7, (opened, SALT), None)
    salt = base64.b64encode(SALT).decode()
    assert decode(line[:-1]) == {"delivery": decode(opened), "erased_by": None, "index": 7, "salt": salt}
    assert decode(payload_line(7, None, 3)[:-1]) == {"delivery": None, "erased_by": 3, "index": 7, "salt": None}


def test_the_cells_of_an_event() -> None:
    """From the leaf, and from the event's own data; a refused call's leaf has fewer facts."""
    data = leaf(event="e", effect="revoked", via="webhook", scheme="hmac", test=True, breaches=["a", "b"], secret=None)
    own: Own = read_own(encode(OWN))
    assert cells(7, *read(data), own, Stand("absent", 9)) == (
        *(7, "its id", "l", "r", "revocation", "scrip", "s", "e", "revoked", "webhook", "hmac", "receipt", "its id"),
        *("an account", "op", "o", "full", "1.00", "2", '\u00e4 "quoted"', "a b", "absent", True, False),
    )
    assert cells(7, *read(leaf(breaches=[])), None, None) == (
        *(7, "its id", "l", "r", "revocation", "scrip", "s", None, None, None, None),
        *(None, None, None, None, None, None, None, None, None, "", None, None, True),
    )
