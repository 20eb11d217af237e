"""The fast spellings of the hot path, held to those that `translog` defines."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import encoding
from receiver.strictjson import parse, plain
from translog import canonical
from translog.canonical import Value
from translog.errors import FormatError
from translog.evidence import Delivery

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(max_codepoint=127))
values: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | texts | st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)
header_names = st.text(string.ascii_lowercase + string.digits + "-", min_size=1)


@given(values)
def test_canonical_json_is_that_of_translog(value: Value) -> None:
    """Whatever lies within canonical JSON is written with the same bytes."""
    assert encoding.canonical(value) == canonical.encode(value)


def test_every_character_is_escaped_as_translog_does() -> None:
    """Control characters, quotes, and the few others that JSON writers differ in."""
    value: Value = "".join(map(chr, (*range(0x100), 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0x1F600)))

    assert encoding.canonical(value) == canonical.encode(value)


@given(values)
def test_what_was_parsed_strictly_is_within_canonical_json(value: Value) -> None:
    """A document that `strictjson` let through, its numbers as text where they are not small, can be committed to."""
    if "\\u0000" in canonical.encode({"a": value}).decode():
        return  # strictjson refuses NUL
    document = plain(parse(canonical.encode({"a": value})))

    assert encoding.canonical(document) == canonical.encode(document) == canonical.encode({"a": value})


@given(st.dictionaries(header_names, texts), st.binary(max_size=200))
def test_a_delivery_is_committed_to_as_evidence_has_it(headers: dict[str, str], body: bytes) -> None:
    """The bytes under the label `delivery` are those of `translog.evidence.Delivery`, in any order of headers."""
    kept = tuple(headers.items())

    assert encoding.delivery_data(kept, body) == Delivery(kept, body).encode()


def test_member_names_that_are_not_ascii_are_refused() -> None:
    """Canonical JSON has none."""
    encoding.ascii_names({"a": 1, "b_2": 2})
    with pytest.raises(FormatError, match="not ASCII"):
        encoding.ascii_names({"a": 1, "ä": 2})
