"""`translog.canonical`: one spelling for each value, and commitments over it."""

import hashlib
import hmac
import json
from enum import Enum, StrEnum

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from translog import canonical
from translog.errors import FormatError

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(max_codepoint=127))
integers = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
values = st.recursive(
    st.none() | st.booleans() | integers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5),
    max_leaves=25,
)


class Effect(StrEnum):
    """An enumeration of strings, as programs have them."""

    REVOKED = "revoked"


class Plain(Enum):
    """An enumeration that is no string."""

    REVOKED = "revoked"


@given(values)
def test_is_rfc_8785(value: canonical.Value) -> None:
    """Within the subset the bytes are those of another implementation of RFC 8785, and lead back to the value."""
    data = canonical.encode(value)
    assert rfc8785.dumps(value) == data  # pyright: ignore[reportArgumentType]
    assert canonical.decode(data) == value


@given(values, st.data())
def test_any_other_spelling_is_refused(value: canonical.Value, data: st.DataObject) -> None:
    """JSON that means the same, written by Python's own defaults in any other way, is not canonical."""
    indent, ensure_ascii = data.draw(st.sampled_from([None, 0, 2])), data.draw(st.booleans())
    spelled = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii).encode()
    if spelled != canonical.encode(value):
        with pytest.raises(FormatError):
            canonical.decode(spelled)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"null"),
        (True, b"true"),
        (-0, b"0"),
        (2**53 - 1, b"9007199254740991"),
        (-(2**53) + 1, b"-9007199254740991"),
        ("é\u2028😀", b'"\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80"'),
        ('\x00\x1f\x7f\b\f\n\r\t"\\/', b'"\\u0000\\u001f\x7f\\b\\f\\n\\r\\t\\"\\\\/"'),
        ({"b": [], "a": {}, "B": [1, [2]], "": 0}, b'{"":0,"B":[1,[2]],"a":{},"b":[]}'),
        ({"effect": Effect.REVOKED}, b'{"effect":"revoked"}'),
        ({Effect.REVOKED: 1}, b'{"revoked":1}'),
    ],
)
def test_spelling(value: object, data: bytes) -> None:
    """Members are sorted, nothing is escaped that need not be, and enumerations of strings are their strings."""
    assert canonical.encode(value) == data
    assert canonical.decode(data) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.0, "no place for a float"),
        (float("nan"), "no place for a float"),
        ([float("inf")], "no place for a float"),
        (2**53, "integer of 2\\^53 or more"),
        (-(2**53), "integer of 2\\^53 or more"),
        ({"a": {"b": [2**53]}}, "integer of 2\\^53 or more"),
        ({"é": 1}, "member name 'é' is not an ASCII string"),
        ({1: 1}, "member name 1 is not an ASCII string"),
        ({None: 1}, "member name None is not an ASCII string"),
        ({True: 1}, "member name True is not an ASCII string"),
        (("a",), "no place for a tuple"),
        (b"a", "no place for a bytes"),
        ({"a"}, "no place for a set"),
        (Plain.REVOKED, "no place for a Plain"),
        ("\ud800", "lone surrogate U\\+D800"),
        (["a\udfff"], "lone surrogate U\\+DFFF"),
    ],
)
def test_outside_the_subset(value: object, reason: str) -> None:
    """What canonical JSON has no place for is refused by name, instead of being written in some way."""
    with pytest.raises(FormatError, match=reason):
        canonical.encode(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" null",
        b"null\n",
        b"\xef\xbb\xbfnull",
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}{}',
        b'{"a":1,}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\\u001F"',
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\x01"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        "null".encode("utf-16"),
        b'{"\xc3\xa9":1}',
        b"-0",
        b"01",
        b"+1",
        b"1.0",
        b"1e3",
        b"1E400",
        b"NaN",
        b"Infinity",
        b"9007199254740992",
        b"9" * 5000,
        b"'a'",
        b"True",
        "\u0661".encode(),
    ],
)
def test_not_canonical(data: bytes) -> None:
    """Each trap of a lenient reader, from duplicate members to UTF-16, gives one clean error."""
    with pytest.raises(FormatError, match="canonical JSON"):
        canonical.decode(data)


def test_nesting_is_bounded() -> None:
    """64 levels pass both ways; 65, a million, and a value that contains itself are refused."""
    deepest = b"[" * 64 + b"]" * 64
    assert canonical.encode(canonical.decode(deepest)) == deepest
    for depth in (65, 1_000_000):
        with pytest.raises(FormatError, match="nested deeper than 64 levels"):
            canonical.decode(b"[" * depth + b"]" * depth)
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(FormatError, match="nested deeper than 64 levels"):
        canonical.encode(loop)


def test_the_error_says_where() -> None:
    """The first byte that differs from the canonical spelling is named."""
    with pytest.raises(FormatError, match="differs from byte 5 on"):
        canonical.decode(b'{"a": 1}')


def test_commitment_formula() -> None:
    """A commitment is HMAC-SHA256 over prefix, label and data, under the salt."""
    salt = bytes(range(32))
    message = b"rescind/commitment/v1\nevent\n{}"
    assert canonical.commitment(salt, "event", b"{}") == hmac.new(salt, message, hashlib.sha256).hexdigest()
    assert (
        canonical.commitment(salt, "event", b"{}") == "0a3fc7c5dab8020eadd2be60ee4b8a624bfe020c200671f531af3b8025bb34c5"
    )


def test_commitments_differ_by_each_input() -> None:
    """Another salt, label or byte of data gives another commitment."""
    salt, other = bytes(32), b"\x01" + bytes(31)
    seen = {
        canonical.commitment(salt, "event", b"data"),
        canonical.commitment(other, "event", b"data"),
        canonical.commitment(salt, "delivery", b"data"),
        canonical.commitment(salt, "event", b"datb"),
    }
    assert len(seen) == 4


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_salts_are_32_bytes(size: int) -> None:
    """A salt of any other length is refused: a short one would let the data be guessed."""
    with pytest.raises(FormatError, match=f"exactly 32 bytes, this one has {size}"):
        canonical.commitment(bytes(size), "event", b"")


@pytest.mark.parametrize("label", ["", "event\n", "ev\nent", "é", "a b"])
def test_labels_are_words(label: str) -> None:
    """A label that could run into the data is refused."""
    with pytest.raises(FormatError, match="not an ASCII identifier"):
        canonical.commitment(bytes(32), label, b"")


@given(st.binary())
def test_base64_both_ways(data: bytes) -> None:
    """Whatever is written in base64 is read back."""
    assert canonical.from_base64(canonical.to_base64(data)) == data


@pytest.mark.parametrize(
    "text",
    ["YQ", "YQ=", "YR==", "YQ===", "YQ==\n", " YQ==", "Y\nQ==", "_-==", "YQ==YQ==", "é", "====", "YWI-", "\ud800"],
)
def test_base64_that_is_not_canonical(text: str) -> None:
    """Missing padding, unused bits, whitespace and the URL alphabet are refused."""
    with pytest.raises(FormatError, match=r"the thing: .* is not canonical standard base64"):
        canonical.from_base64(text, "the thing")


@given(st.integers(0, 2**63 - 1))
def test_decimals_both_ways(number: int) -> None:
    """Whatever number is written is read back."""
    assert canonical.decimal(str(number)) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "01", "00", "1_0", " 7", "7 ", "7\n", "\u0663", "\u00b2", "1.0", "0x1", "9" * 5000]
)
def test_decimals_that_are_not_canonical(text: str) -> None:
    """What Python's `int` reads and the formats do not have is refused, and long digits cost no time."""
    with pytest.raises(FormatError, match="the thing: "):
        canonical.decimal(text, "the thing")


def test_decimals_are_bounded() -> None:
    """The limit itself passes, one more does not."""
    assert canonical.decimal("9223372036854775807") == 2**63 - 1
    with pytest.raises(FormatError, match="size: 9223372036854775808 is above 9223372036854775807"):
        canonical.decimal("9223372036854775808", "size")


@given(st.binary(max_size=200), st.binary(max_size=300))
@example(b"k" * 64, b"")
@example(b"k" * 65, b"")
def test_the_prepared_hmac_is_the_standard_one(key: bytes, message: bytes) -> None:
    """For keys shorter than a block, of a block, and longer; more than once."""
    mac = canonical.hmac_sha256(key)

    assert hmac.digest(key, message, "sha256") == mac(message)
    assert hmac.digest(key, message, "sha256") == mac(message)
