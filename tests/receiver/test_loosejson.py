"""What is no strict JSON, read for what it may say: every reading of it, and nothing that takes long."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.loosejson import MAX_LEVELS, is_text, is_wide, read
from receiver.strictjson import Json, Number
from tests.receiver.test_strictjson import documents


def bare(value: Json) -> Any:
    """A value as it was before every member's values were put into an array, where each has one."""
    if isinstance(value, dict):
        return {name: bare(its[0]) for name, its in value.items() if isinstance(its, list)}
    if isinstance(value, list):
        return [bare(item) for item in value]
    return int(value.literal) if isinstance(value, Number) else value


@given(st.lists(documents, max_size=3), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_what_is_json_says_what_it_says(several: list[dict[str, Any]], encoding: str) -> None:
    """However many values there are in a row, and however these are encoded."""
    body = "\n".join(json.dumps(one, ensure_ascii=False) for one in several).encode(encoding)
    loose = read(body)

    assert loose.values == [] or bare(loose.values) == several
    assert (len(loose.values), loose.members) == (len(several), [])


@given(st.binary(max_size=300) | st.text('"\\:{}[]a1, \ud800').map(lambda text: text.encode(errors="surrogatepass")))
def test_nothing_is_raised(body: bytes) -> None:
    """Whatever it is; and what it says is said again."""
    assert read(body) == read(body)


def test_a_member_has_every_value_that_it_is_given() -> None:
    """In their order."""
    assert read(b'{"a":1,"b":"x","a":["y"],"a":null}').values == [{"a": [Number("1"), ["y"], None], "b": ["x"]}]


def test_what_looks_like_a_member() -> None:
    """Behind what can be read; escapes are read, where they are any."""
    loose = read(b'{"a":1} "b":"\\u0041" : "c" :-1.50, "d":["x"], "e":"\\q", "f":"open')

    assert loose.values == [{"a": [Number("1")]}, "b"]
    assert loose.members == [{"A": "c"}, {"c": Number("-1.50")}, {"e": "\\q"}]


@pytest.mark.parametrize("levels", [MAX_LEVELS, MAX_LEVELS + 1, 100_000])
def test_what_is_nested_too_deep_is_searched(levels: int) -> None:
    """At a depth that does not hang on how deep the reader is itself."""
    loose = read(b'{"a":' * (levels - 1) + b'{"b":"x"}' + b"}" * (levels - 1))

    assert (levels <= MAX_LEVELS) == (loose.members == [])
    assert (levels > MAX_LEVELS) == (loose.values == [])
    assert levels <= MAX_LEVELS or loose.members == [{"b": "x"}]


@pytest.mark.parametrize(
    ("body", "expected"), [(b"{}", False), (b"{\0}\0", True), (b"\xff\xfe{\0", True), (b"", False)]
)
def test_what_is_written_in_wide_characters(body: bytes, expected: bool) -> None:
    """Or may be: nothing rests on it but that it is read."""
    assert expected == is_wide(body)


@pytest.mark.parametrize(("text", "expected"), [("jos\u00e9", True), ("\ud800", False), ("a\0", False), ("", True)])
def test_what_somebody_can_ask_for(text: str, expected: bool) -> None:
    """What no database takes for text, nobody can."""
    assert expected == is_text(text)
