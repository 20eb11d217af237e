"""The parts of a bundle's verification: whatever is read fast is read as it would be slowly."""

import csv
import io
import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.translog import reference
from tests.translog.exported import at, data, facts, story, uuid
from translog import canonical, merkle
from translog.bundle import entries, openings, plain, rows, tallies
from translog.bundle.entries import Hashes, Span
from translog.bundle.joining import Boxes, Fault, Where, compare
from translog.bundle.leaves import Leaves, Reader
from translog.bundle.manifest import Question
from translog.bundle.single import Said
from translog.bundle.sums import Found, Sums
from translog.canonical import encode
from translog.errors import BundleError, FormatError
from translog.evidence import Delivery, Leaf, Opening

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "=1", "+", "-5,00", "@x", "\t", "\r", 'a"b', "a,b", "\n", "\\", "'=", "\x7f", "ü", '","v":1'],
)
optional = st.none() | texts


# ---- leaves ---------------------------------------------------------------------------------------------------------

LEAF = story().entries[4].leaf


@given(
    st.dictionaries(
        st.sampled_from(["a", "first", "received_at", "z"]),
        st.one_of(
            st.none(),
            texts,
            st.just(at(3)),
            st.just(uuid(3)),
            st.dictionaries(st.sampled_from(["first", "received_at"]), st.sampled_from([at(3), uuid(3), "*"])),
        ),
    ),
    st.booleans(),
)
def test_leaves_are_read_as_they_are(said: dict[str, Any], warm: bool) -> None:
    """Also by a reader that has seen facts like these before."""
    leaf = Leaf("cross_check", uuid(1), at(1), said, None, "ab" * 32)
    reader = Reader()
    if warm:
        for other in (at(4), uuid(4), "*"):
            swapped = {name: other if value in (at(3), uuid(3)) else value for name, value in said.items()}
            reader.read(Leaf("cross_check", uuid(2), at(1), swapped, None, None).encode())
    read = reader.read(leaf.encode())

    assert read.facts == said
    assert {name: read.fact(name) for name in said} == said
    assert (read.id, read.kind, read.logged_at) == (uuid(1).encode(), b"cross_check", at(1).encode())
    assert (read.event, read.delivery) == (b"", b"ab" * 32)


@pytest.mark.parametrize(
    "said",
    [
        {"a": {"received_at": at(3)}, "received_at": "0"},
        {"a": [{"first": uuid(3)}], "first": "*"},
        {'a"received_at': at(3), "received_at": "0"},
        {"first": uuid(3), "received_at": at(3)},
    ],
)
def test_what_only_looks_like_a_fact(said: dict[str, Any]) -> None:
    """Is not taken for one of that name."""
    read = Reader().read(Leaf("cross_check", uuid(1), at(1), said, None, None).encode())

    assert read.facts == said
    assert {name: read.fact(name) for name in said} == said


def test_the_first_of_many_that_is_none() -> None:
    """Is where it ends; all before it are read."""
    good = [LEAF.encode()] * 300
    given = Reader().read_all([*good, LEAF.encode() + b"\n", *good])
    read: list[bytes] = []

    with pytest.raises(FormatError):
        read.extend(one for leaves in given for one in leaves.data)
    assert read == good


def _leaf_faults() -> list[bytes]:
    good = LEAF.encode()
    return [
        b"",
        good + b" ",
        good[:-1],
        good.replace(b'"v":1', b'"v":2'),
        good.replace(b'"v":1', b'"v":1,"w":1'),
        good.replace(b'"kind":"revocation"', b'"kind":"Revocation"'),
        good.replace(b'"facts":{', b'"facts":{ '),
        good.replace(b'"facts":{', b'"facts":{"aa":1.0,'),
        good.replace(b'"facts":{', b'"facts":{"breaches":[],'),
        good.replace(b'"facts":{', b'"facts":{"aa":"\\u0041",'),
        good.replace(b'"facts":{', b'"facts":{"aa":"\xff",'),
        good.replace(LEAF.logged_at.encode(), b"2026-02-30T00:00:00.000000Z"),
        good.replace(b'"delivery":"', b'"delivery":"A'),
        good.replace(b'"facts":{', b'"facts":{"aa":"' + b"x" * 65_536 + b'",'),
    ]


@pytest.mark.parametrize("data", _leaf_faults(), ids=range(len(_leaf_faults())))
def test_what_is_no_leaf(data: bytes) -> None:
    """Is refused as everywhere."""
    reader = Reader()
    reader.read(LEAF.encode())

    with pytest.raises(FormatError):
        reader.read(data)
    with pytest.raises(FormatError):
        Leaf.parse(data)


# ---- openings -------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=4,
)
events = st.fixed_dictionaries(
    {
        **dict.fromkeys(("account", "amount", "extent", "occurred_at", "occurred_from"), optional),
        **dict.fromkeys(("operation", "quantity", "reason"), optional),
        "details": st.dictionaries(st.sampled_from(["a", "b", "extent", "index"]), values, max_size=3),
        "item": st.none() | st.fixed_dictionaries({"id": texts, "type": texts}),
    }
)


SALT_TEXT = canonical.to_base64(bytes(32)).encode()


QUESTION = Question("received", at(0), at(30), None, tests=False)


def plainly(event: bytes) -> openings.Told | None:
    """What is read of an event's data, if its line is taken for a plain one; all that it comes to is the same."""
    line = b'{"erased":false,"erased_by":null,"event":%b,"index":7,"leaf":{},"salt":"%b",' % (event, SALT_TEXT)
    line += b'"stands":{"cross_check":"absent","entry":9}}'
    found = plain.Events.of(plain.EVENT.findall(line + b"\n"))
    if len(found.line) != 1 or not found.are_plain:
        return None
    assert (found.line, found.data) == ((line,), (event,))
    told = openings.read_event(event)
    some, one = (Found(Span(7, 8, 0, 0, (0, 0)), Hashes(7, 8, [])) for _ in range(2))
    together, alone = Sums(some, QUESTION, 30), Sums(one, QUESTION, 30)
    leaf = Reader().read(LEAF.encode())
    together.add_plain([7], Leaves._make((member,) for member in leaf), found)
    alone.add(7, leaf, Said(told, None, b"absent", 9), None)
    together.finish()
    alone.finish()
    assert together.rows == alone.rows
    assert [*some.boxes.boxes()] == [*one.boxes.boxes()]
    assert (some.counted, some.occurred, some.events) == (one.counted, one.occurred, one.events)
    return told


def plainly_delivered(delivery: bytes) -> bool:
    """Whether a payload with it is taken for a plain one."""
    line = b'{"delivery":%b,"erased_by":null,"index":7,"salt":"%b"}' % (delivery, SALT_TEXT)
    found = plain.Payloads.of(plain.PAYLOAD.findall(line + b"\n"))
    if len(found.line) != 1 or not found.are_plain:
        return False
    assert (found.line, found.delivery) == ((line,), (delivery,))
    return True


@given(events)
def test_events_are_read_as_they_are(event: dict[str, Any]) -> None:
    """When it occurred, and the cells of the CSV file, as the standard library writes them; plain ones all the same."""
    told = openings.read_event(encode(event))
    item: dict[str, str] = event["item"] or {}
    names = ("account", "operation", "occurred_at", "extent", "amount", "quantity", "reason")
    said: list[str | None] = ["x", item.get("type"), item.get("id"), *(event[name] for name in names)]
    safe = [f"'{one}" if one and one[0] in "=+-@\t\r" else one for one in said]
    out = io.StringIO(newline="")
    csv.writer(out).writerow(safe)

    assert told[1] == out.getvalue().encode()[1:-2]
    assert told[0] == (None if event["occurred_at"] is None else event["occurred_at"].encode())
    assert plainly(encode(event)) in {None, told}


def test_most_events_are_plain() -> None:
    """Those of texts without escapes and of details that are texts, numbers and literals; so are most deliveries."""
    event = data("r1", amount="-5.00", details={"a": 1, "b": "x", "c": None, "d": True}, reason="a, b")

    assert plainly(encode(event)) == openings.read_event(encode(event))
    assert plainly(encode(data("r1"))) is not None
    assert plainly(encode(data("r1", details={"a": {"b": 1}}))) is None
    assert plainly(encode(data("r1", reason="ü"))) is not None
    assert plainly(encode(data("r1", reason='"'))) is None
    assert plainly(encode(data("r1", reason="ü")).replace(b"\xbc", b"")) is None
    assert plainly_delivered(Delivery((("webhook-id", "msg_1"), ("webhook-signature", "v1,c2ln")), b"{}").encode())


@given(events, st.data())
def test_another_spelling_of_an_event(event: dict[str, Any], draw: st.DataObject) -> None:
    """Is refused: a byte more, less or other is only taken if it is canonical itself."""
    whole = encode(event)
    place = draw.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + draw.draw(st.binary(max_size=2)) + whole[place + draw.draw(st.integers(0, 1)) :]
    try:
        told = openings.read_event(changed)
    except FormatError:
        told = None
    assert plainly(changed) in {None, told}


@pytest.mark.parametrize(
    "details",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":2}',
        b'{"a":01}',
        b'{"a":-0}',
        b'{"a":1.0}',
        b'{"a":9007199254740993}',
        b'{"a":1,}',
    ],
)
def test_details_that_are_not_canonical(details: bytes) -> None:
    """Are not taken for plain ones, and are refused."""
    changed = encode(data("r1")).replace(b'"details":{}', b'"details":' + details)

    assert plainly(changed) is None
    with pytest.raises(FormatError):
        openings.read_event(changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"account": 1},
        {"item": {"id": "x"}},
        {"item": {"id": "x", "type": None, "v": 1}},
        {"item": "x"},
        {"reason": ["x"]},
        {"occurred_at": True},
    ],
)
def test_events_of_another_shape(changed: dict[str, Any]) -> None:
    """What is no text where one must be is no event."""
    with pytest.raises(FormatError):
        openings.read_event(encode(data("x", **changed)))


names = st.text(st.characters(codec="ascii"), min_size=1, max_size=4).map(str.lower)


@given(st.dictionaries(names, texts, max_size=3), st.binary(max_size=8), st.data())
@settings(max_examples=300)
def test_another_spelling_of_a_delivery(headers: dict[str, str], body: bytes, draw: st.DataObject) -> None:
    """Is not taken for a plain one, unless it is a delivery itself."""
    whole = Delivery(tuple(headers.items()), body).encode()
    place = draw.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + draw.draw(st.binary(max_size=2)) + whole[place + draw.draw(st.integers(0, 1)) :]
    for one in (whole, changed):
        if plainly_delivered(one):
            openings.check_delivery(one)


@pytest.mark.parametrize(
    "changed",
    [
        b'{"body":"QQ==","headers":{"a":"1","a":"2"}}',
        b'{"body":"QQ==","headers":{"b":"1","a":"2"}}',
        b'{"body":"QR==","headers":{}}',
        b'{"body":"QUE=","headers":{},"z":1}',
        b'{"body":"QUF=","headers":{}}',
        b'{"body":"QQ=","headers":{}}',
        b'{"body":"====","headers":{}}',
        b'{"body":"Q===","headers":{}}',
        b'{"body":"Q=Q=","headers":{}}',
        b'{"body":"QUE!","headers":{}}',
        b'{"body":"","headers":{"A":"1"}}',
        b'{"body":"","headers":{"":"1"}}',
        b'{"body":"","headers":{"a":1}}',
        b'{"body":"","headers":{"a":"1",}}',
    ],
)
def test_deliveries_that_are_none(changed: bytes) -> None:
    """Or are not in their one spelling."""
    assert not plainly_delivered(changed)
    with pytest.raises(FormatError):
        openings.check_delivery(changed)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_commitments(salt: bytes, committed: bytes) -> None:
    """Are those of `translog.canonical`."""
    text = canonical.to_base64(salt).encode()

    for label, inner in (("event", openings.AS_EVENT), ("delivery", openings.AS_DELIVERY)):
        assert openings.committed(text, inner, committed).decode() == Opening(committed, salt).commitment(label)


@given(optional)
def test_a_cell(text: str | None) -> None:
    """Is what the standard library writes."""
    safe = f"'{text}" if text and text[0] in "=+-@\t\r" else text
    out = io.StringIO(newline="")
    csv.writer(out).writerow(["x", safe])

    assert b"x," + rows.cell(None if text is None else text.encode()) + b"\r\n" == out.getvalue().encode()


# ---- the tree -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 4, 8])
def test_the_root_of_every_range(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Of every tree up to 18, in chunks; one hash more or less, or another, is refused or leads elsewhere."""
    monkeypatch.setattr(entries, "CHUNK", chunk)
    leaves = reference.numbered(18)

    def read(nodes: Any) -> list[bytes]:
        return [reference.mth(leaves[node.index << node.level : (node.index + 1) << node.level]) for node in nodes]

    for size in range(1, 19):
        root = reference.mth(leaves[:size])
        for start in range(size):
            for end in range(start + 1, size + 1):
                hashes = [merkle.leaf_hash(one) for one in leaves[start:end]]
                edges = [start, *(at for at in range(start + 1, end) if at % chunk == 0), end]
                chunks = [
                    Hashes(low, high, [merkle.root_from_leaves(hashes[low - start : high - start])])
                    if high - low == chunk
                    else Hashes(low, high, hashes[low - start : high - start])
                    for low, high in pairwise(edges)
                ]
                proof = merkle.range_proof(start, end, size, read)
                assert entries.root(chunks, start, end, size, proof) == root
                with pytest.raises(BundleError, match="too many"):
                    entries.root(chunks, start, end, size, [*proof, bytes(32)])
                if proof:
                    assert entries.root(chunks, start, end, size, [bytes(32), *proof[1:]]) != root
                    with pytest.raises(BundleError, match="too few"):
                        entries.root(chunks, start, end, size, proof[1:])


# ---- what is said of events -----------------------------------------------------------------------------------------

ONE, OTHER = bytes(16), bytes(15) + b"\1"


def _compared(boxes: Boxes, end: int = 100) -> Fault | None:
    faults = [fault for box in boxes.boxes() if (fault := compare(box, end)) is not None]
    return min(faults, default=None)


def test_the_last_cross_check_counts() -> None:
    """Of several, in whatever order they come."""
    boxes = Boxes()
    for index, code in ((7, 0), (9, 1), (8, 2)):
        boxes.state((ONE, index, code))
    boxes.state((OTHER, 10, 3))
    boxes.claim(ONE, 5, 9, b"contradicted", None, None)

    assert _compared(boxes) is None


def test_the_first_fault_is_told() -> None:
    """By its index."""
    boxes = Boxes()
    boxes.claim(OTHER, 6, 9, b"confirmed", None, None)
    boxes.claim(ONE, 5, None, b"", 3, None)
    fault = _compared(boxes)

    assert fault is not None
    assert (fault.index, fault.where) == (5, Where.EVENT)


def test_what_is_late_must_be_of_an_event() -> None:
    """A cross-check beyond the range by which no event stands has no place in a bundle."""
    boxes = Boxes()
    boxes.state((ONE, 120, 0))
    boxes.state((ONE, 130, 1))
    boxes.claim(ONE, 5, 130, b"contradicted", None, None)

    assert _compared(boxes) == Fault(120, Where.LATER, "it says nothing of how an event of the bundle stands")


# ---- tallies --------------------------------------------------------------------------------------------------------


COUNTS = ("deliveries", "duplicate", "ignored", "mismatch", "quarantined", "recorded")


def _tally(start: float, until: float, source: str = "s", **others: Any) -> dict[str, Any]:
    counts: dict[str, Any] = dict.fromkeys(COUNTS, 0)
    said: dict[str, Any] = {"counts": {**counts, "refused": {}}, "from": at(start), "incomplete": False, "process": "p"}
    return {**said, "source": source, "until": at(until), **others}


@pytest.mark.parametrize(
    ("covered", "gaps"),
    [
        ([(0, 180)], []),
        ([(0, 60), (60, 120), (120, 180)], []),
        ([(0, 60), (61, 180)], [(60, 120)]),
        ([(0, 30), (150, 180)], [(0, 180)]),
        ([(30, 180)], []),
        ([(30, 60)], [(60, 180)]),
        ([(-60, 0)], [(0, 180)]),
        ([(0, 59), (121, 180)], [(0, 180)]),
        ([(0, 59), (59, 120)], [(120, 180)]),
        ([(170, 170)], [(170, 180)]),
        ([(200, 210)], []),
    ],
)
def test_hours_without_a_tally(covered: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> None:
    """Whole hours, cut to the period and to the beginning of the source's first tally."""
    said = [tallies.read(0, _tally(*one)) for one in covered]
    days: list[Any] = []
    if any(at(0) <= one.until < at(180) for one in said):
        sums: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        days = [{**sums, "day": at(0)[:10], "incomplete": False, "refused": {}, "source": "s"}]
    value = {
        "cut_off": {
            "events": dict.fromkeys(("after", "before", "inside", "undated"), 0),
            "outside": {"logged_after": 0, "logged_before": 0},
        },
        "days": days,
        "gaps": [{"from": at(start), "source": "s", "until": at(end)} for start, end in gaps],
    }

    assert json.loads(encode(value)) == tallies.check(encode(value), said, Counter(), at(0), at(180))


def test_a_tally_that_does_not_add_up() -> None:
    """Is refused at its entry."""
    facts_ = _tally(0, 60)
    facts_["counts"]["recorded"] = 1

    with pytest.raises(BundleError, match=r"^entries\.bin entry 7: it counts 0 deliveries, and what became of 1"):
        tallies.read(7, facts_)


@pytest.mark.parametrize("name", sorted(facts()))
def test_facts_that_are_no_events(name: str) -> None:
    """A provider that is no text, or breaches that are no codes: the facts of an event are read for certain."""
    read = Reader().read(Leaf("revocation", uuid(1), at(1), {**facts(), name: {"a": 1}}, None, None).encode())
    if name == "secret":  # the one that stands in no column
        assert read.shape.event.provider == "acme"
        return
    with pytest.raises(FormatError):
        _ = read.shape.event
