"""Documents read member by member: each kind of member, each sentence about one that is not so, the envelope."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.documents import Envelope, Members, WrongShape
from receiver.encoding import canonical
from receiver.strictjson import Json, Number, digest, parse, plain
from translog.canonical import decode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just(Number("1.0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "id is missing"),
        (7, "id is not a string"),
        (Number("7.0"), "id is not a string"),
        (True, "id is not a string"),
        ([], "id is not a string"),
        ({}, "id is not a string"),
        ("", "id has 0 characters; it must have 1 to 256"),
        ("x" * 257, "id has 257 characters; it must have 1 to 256"),
    ],
)
def test_a_member_that_is_not_a_bounded_string_is_named(value: Json, says: str) -> None:
    """Its name and what is wrong with it; of null and absent alike, that it is missing."""
    with pytest.raises(WrongShape) as wrong:
        Members({"id": value}).text("id")

    assert says == str(wrong.value)


def test_a_member_that_may_be_absent() -> None:
    """Absent and null are None; what is there must be as documented."""
    assert Members({}).optional_text("id") is None
    assert Members({"id": None}).optional_text("id") is None
    assert Members({"id": "x" * 256}).optional_text("id") == "x" * 256
    with pytest.raises(WrongShape, match="id is not a string"):
        Members({"id": 0}).optional_text("id")
    with pytest.raises(WrongShape, match="must have 1 to 4"):
        Members({"id": "12345"}).optional_text("id", 4)


def test_a_path_stands_before_the_name() -> None:
    """So that the sentence says where to look."""
    members = Members({"data": {"job": {"id": 7}}}).inside("data").inside("job")

    with pytest.raises(WrongShape, match=r"^data\.job\.id is not a string$"):
        members.text("id")


def test_an_id_may_be_a_number() -> None:
    """Of a string and an integer alike comes text, and of nothing else."""
    assert Members({"id": 62090013}).identifier("id") == "62090013"
    assert Members({"id": "62090013"}).identifier("id") == "62090013"
    assert Members({}).optional_identifier("id") is None
    wrong: list[Json] = [True, Number("1.0"), [], {}]
    for value in wrong:
        with pytest.raises(WrongShape, match="id is not a string"):
            Members({"id": value}).identifier("id")


def test_integers_booleans_times_objects_and_arrays() -> None:
    """Each is of its own kind, and only that: true is no integer, and 1 is not true."""
    members = Members(
        {"n": 3, "b": False, "t": "2026-11-20T09:00:00+01:00", "o": {"a": 1}, "l": [1], "x": Number("1.5"), "z": None}
    )

    assert (members.integer("n"), members.boolean("b")) == (3, False)
    assert members.moment("t") == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert members.inside("o").integer("a") == 1
    assert (members.items("l"), members.items("z"), members.items("absent")) == ([1], [], [])
    assert members.optional_integer("z") is None
    assert members.optional_moment("absent") is None
    assert members.optional_inside("z") is None
    for wrong, says in (
        (lambda: members.integer("b"), "b is not an integer"),
        (lambda: members.integer("x"), "x is not an integer"),
        (lambda: members.integer("z"), "z is missing"),
        (lambda: members.boolean("n"), "n is not true or false"),
        (lambda: members.moment("n"), "n is not a string"),
        (lambda: Members({"t": "soon"}).moment("t"), "t: 'soon' is not an RFC 3339 time"),
        (lambda: members.inside("l"), "l is not an object"),
        (lambda: members.items("o"), "o is not an array"),
    ):
        with pytest.raises(WrongShape, match=says):
            wrong()


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values))
def test_what_is_kept_fits_canonical_json(document: dict[str, Json]) -> None:
    """Whatever is in a document; and what is absent or null is left out."""
    kept = {name: plain(value) for name, value in Members(document).kept("a", "b").items()}

    assert kept.keys() == {name for name in ("a", "b") if document.get(name) is not None}
    assert decode(canonical(kept)) == kept


def test_an_object_with_foreign_names_is_kept_as_its_text() -> None:
    """Canonical JSON has ASCII names only."""
    kept = Members({"a": {"é": [1, Number("1.50")]}, "b": {"e": 1}}).kept("a", "b", "c")

    assert kept == {"a": '{"é":[1,"1.50"]}', "b": {"e": 1}}


ENVELOPE = b'{"type":"x.revoked","created_at":"2026-11-20T09:00:00Z","data":{"id":"1"},"request":{"q":2},"more":true}'


def test_a_plain_envelope() -> None:
    """Its parts, each under its path; what else is in it stays in the body."""
    document = parse(ENVELOPE)
    envelope = Envelope.open(document)

    assert (envelope.type, envelope.declared_at) == ("x.revoked", datetime(2026, 11, 20, 9, tzinfo=UTC))
    assert (envelope.data.document, envelope.data.path) == ({"id": "1"}, "data.")
    assert envelope.request is not None
    assert (envelope.request.document, envelope.request.path) == ({"q": 2}, "request.")


def test_the_envelope_is_no_part_of_the_content() -> None:
    """Declared again at another time, with or without the request, it is the same; with other data it is not."""
    document = parse(ENVELOPE)
    same = {**document, "created_at": None, "request": None}
    without = {name: value for name, value in document.items() if name not in {"created_at", "request"}}
    other = json.loads(ENVELOPE) | {"data": {"id": "2"}}

    assert Envelope.open(document).digest == Envelope.open(without).digest == digest(without)
    assert Envelope.open(same).digest == Envelope.open(without).digest
    assert Envelope.open(other).digest != Envelope.open(without).digest


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": None}, "type is missing"),
        ({"data": None}, "data is missing"),
        ({"data": []}, "data is not an object"),
        ({"request": "x"}, "request is not an object"),
        ({"created_at": "now"}, "created_at: 'now' is not an RFC 3339 time"),
    ],
)
def test_what_is_no_plain_envelope(changes: dict[str, Json], says: str) -> None:
    """The member at fault is named."""
    with pytest.raises(WrongShape, match=says):
        Envelope.open({**parse(ENVELOPE), **changes})
