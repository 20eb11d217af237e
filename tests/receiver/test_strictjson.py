"""JSON read strictly: what is refused, and that nothing that is kept has changed."""

import json
from decimal import Decimal
from hashlib import sha256

import pydantic_core
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.strictjson import MAX_DEPTH, Json, NotJson, Number, digest, parse, plain

SMALL = 2**53 - 1

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-SMALL, SMALL) | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(names, values, max_size=5)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b" \n", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"a":1', "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":1.}', "not JSON"),
        (b'{"a":+1}', "not JSON"),
        (b'{"a":1_0}', "not JSON"),
        ('{"a":٣}'.encode(), "not JSON"),
        (b'{"a":"\n"}', "not JSON"),
        (b'{"a":"\\x41"}', "not JSON"),
        (b'{"a":"\\u 041"}', "not JSON"),
        (b'\x0b{"a":1}', "not JSON"),
        (b"{}x", "something follows the value at character 2"),
        (b"{}{}", "something follows the value at character 2"),
        (b"[]", "not an object"),
        (b'"a"', "not an object"),
        (b"null", "not an object"),
        (b"1", "not an object"),
        (b'\xef\xbb\xbf{"a":1}', "begins with a byte order mark"),
        (b'{"a":"\xff"}', "byte 6 is not UTF-8"),
        (b'{"a":"\xc0\x80"}', "byte 6 is not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "byte 6 is not UTF-8"),
        ("{}".encode("utf-16"), "byte 0 is not UTF-8"),
        (b'{"a":"\\ud800"}', "lone surrogate U+D800"),
        (b'{"\\uDC00x":1}', "lone surrogate U+DC00"),
        (b'{"a":[{"b":"\\ude00\\ud83d"}]}', "lone surrogate U+DE00"),
        (b'{"a":"x\\u0000"}', "a NUL character"),
        (b'{"a":{"\\u0000":1}}', "a NUL character"),
        (b'{"a":1,"a":1}', "the member 'a' is given twice"),
        (b'{"a":1,"\\u0061":2}', "the member 'a' is given twice"),
        (b'{"a":[{"b":{"c":1,"d":2,"c":3}}]}', "the member 'c' is given twice"),
        (b'{"a":NaN}', "NaN is no JSON number"),
        (b'{"a":Infinity}', "Infinity is no JSON number"),
        (b'{"a":[-Infinity]}', "-Infinity is no JSON number"),
        (b'{"a":1e400}', "beyond what a double can hold"),
        (b'{"a":-1E+400}', "beyond what a double can hold"),
        (b'{"a":1e-99999999999999999999}', "beyond what a double can hold"),
        (b'{"a":' + b"9" * 400 + b".0}", "beyond what a double can hold"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested deeper than 48 levels"),
        (b'{"a":' * 100_000, "nested deeper than 48 levels"),
        (b"[" * 262_144, "nested deeper than 48 levels"),
    ],
)
def test_refuses_what_readers_would_read_differently(raw: bytes, says: str) -> None:
    """Every kind of hostile JSON is one error that says what is wrong."""
    with pytest.raises(NotJson) as refusal:
        parse(raw)

    assert says in str(refusal.value)


AGREED: list[tuple[bytes, dict[str, Json]]] = [
    (b"{}", {}),
    (b' \t\r\n{ "a" : [ ] } \n', {"a": []}),
    ('{"é":"𝄞"}'.encode(), {"é": "𝄞"}),
    (b'{"a":"\\ud834\\udd1e \\\\u0000 \\/"}', {"a": "𝄞 \\u0000 /"}),
    (b'{"a":[true,false,null]}', {"a": [True, False, None]}),
    (b'{"a":{"a":{"a":1}}}', {"a": {"a": {"a": 1}}}),
    (b'{"a":"' + b"[{" * 100 + b'"}', {"a": "[{" * 100}),
    (b'{"a":[' + b"[]," * 99 + b"[]]}", {"a": [[] for _ in range(100)]}),
]


@pytest.mark.parametrize(("raw", "document"), AGREED)
def test_reads_what_all_readers_agree_on(raw: bytes, document: dict[str, Json]) -> None:
    """Whitespace, escapes, any script, and brackets that only look like nesting."""
    assert document == parse(raw)


def test_the_deepest_nesting_allowed() -> None:
    """An object and 47 arrays within it make 48 levels."""
    arrays = MAX_DEPTH - 1

    assert list(parse(b'{"a":' + b"[" * arrays + b"]" * arrays + b"}")) == ["a"]


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("0", 0),
        ("-7", -7),
        ("9007199254740991", 2**53 - 1),
        ("-9007199254740991", -(2**53) + 1),
        ("9007199254740992", Number("9007199254740992")),
        ("-9007199254740992", Number("-9007199254740992")),
        ("9" * 5000, Number("9" * 5000)),
        ("-0", Number("-0")),
        ("1.0", Number("1.0")),
        ("500.00", Number("500.00")),
        ("1e2", Number("1e2")),
        ("1E-999", Number("1E-999")),
    ],
)
def test_a_number_is_a_small_integer_or_its_literal(literal: str, value: Json) -> None:
    """Below 2^53 an int; all else is kept as it was written."""
    got = parse(f'{{"n":{literal}}}'.encode())["n"]

    assert value == got
    assert type(value) is type(got)


def test_a_number_knows_its_exact_value() -> None:
    """Nothing passes through a double."""
    assert Decimal("0.1000000000000000055511151231257827") == Number("0.1000000000000000055511151231257827").decimal()
    assert Decimal(10**20) == Number("1e20").decimal()


def test_numbers_are_values() -> None:
    """Equal and hashed by literal, equal to nothing else, and they cannot be changed."""
    assert Number("1.0") == Number("1.0")
    assert Number("1.0") not in {Number("1.00"), "1.0", 1.0}
    assert repr(Number("1.0")) == "Number('1.0')"
    with pytest.raises(AttributeError):
        Number("1.0").literal = "2.0"  # type: ignore[misc]


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"{" * 60)
def test_no_input_makes_another_error(raw: bytes) -> None:
    """Whatever the bytes, the answer is an object or `NotJson`."""
    try:
        document = parse(raw)
    except NotJson:
        return
    assert isinstance(document, dict)


@given(st.text(alphabet='{}[]:,"\\u0d8ac1e+-.9NaI\n tf', max_size=30).map(lambda text: '{"a":' + text + "}"))
def test_accepts_nothing_that_another_strict_reader_refuses(text: str) -> None:
    """A reader written in another language, strict about the grammar, is asked as well."""
    try:
        parse(text.encode())
    except NotJson:
        return
    pydantic_core.from_json(text, allow_inf_nan=False)


@given(documents)
def test_reads_back_what_was_written(document: dict[str, Json]) -> None:
    """With escapes or without, the same document comes back."""
    assert document == parse(json.dumps(document, ensure_ascii=False).encode())
    assert document == parse(json.dumps(document, ensure_ascii=True, indent=1).encode())


def test_a_digest_is_over_sorted_json_with_literals_verbatim() -> None:
    """The bytes that are hashed, spelled out once: duplicates are told by them for ever."""
    document = parse(b'{"b": [1.50, {"z": -0, "a": 1e2}], "\\u00e9": "\\u0001\\"", "a": 12345678901234567890}')

    expected = '{"a":12345678901234567890,"b":[1.50,{"a":1e2,"z":-0}],"é":"\\u0001\\""}'
    assert sha256(expected.encode()).digest() == digest(document)


@given(documents)
def test_a_digest_does_not_see_order_or_spelling(document: dict[str, Json]) -> None:
    """Members in another order, whitespace and escapes leave the digest as it is."""
    turned = dict(reversed(document.items()))

    assert digest(document) == digest(parse(json.dumps(turned, ensure_ascii=True, indent=2).encode()))


@given(documents, documents)
def test_different_documents_have_different_digests(one: dict[str, Json], other: dict[str, Json]) -> None:
    """Equal digests mean the same document, written the same but for order."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert same == (digest(one) == digest(other))


@given(numbers, numbers)
def test_the_digest_tells_every_literal_from_every_other(one: str, other: str) -> None:
    """Two numbers have one digest only if they are written alike."""
    digests = {digest(parse(f'{{"n":{literal}}}'.encode())) for literal in (one, other)}

    assert len({one, other}) == len(digests)


def test_a_number_is_not_a_string_or_an_object_to_the_digest() -> None:
    """1.0, "1.0", and what else might be mistaken for it."""
    looks = [b"1.0", b'"1.0"', b"[1.0]", b'{"literal":1.0}', b'{"literal":"1.0"}', b"1.00", b"1", b'"1"', b"true"]

    assert len(looks) == len({digest(parse(b'{"n":' + look + b"}")) for look in looks})


def test_members_that_change_per_attempt_can_be_left_out() -> None:
    """Only of the top level."""
    first = parse(b'{"attempt":1,"data":{"attempt":1}}')

    assert digest(first, {"attempt"}) == digest(parse(b'{"attempt":2,"data":{"attempt":1}}'), {"attempt"})
    assert digest(first, {"attempt"}) != digest(parse(b'{"attempt":1,"data":{"attempt":2}}'), {"attempt"})


def test_the_digest_is_of_parsed_documents_only() -> None:
    """What `parse` never gives is an error, not a digest of something like it."""
    with pytest.raises(TypeError, match="a complex is not of a parsed document"):
        digest({"a": 1j})  # type: ignore[dict-item]


def test_plain_spells_numbers_out() -> None:
    """What goes into canonical JSON has the literal's text in the place of the number."""
    document = parse(b'{"a":[1,1.10,{"b":-0}],"c":null}')

    assert plain(document) == {"a": [1, "1.10", {"b": "-0"}], "c": None}
