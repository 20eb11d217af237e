"""The registry, and what every provider's module has to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import providers
from receiver.intake.schemes import scheme_from_options
from receiver.providers import Ignored, Notice, Unfit, WrongShape, optional_text, text
from receiver.strictjson import Json, Number

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just(Number("1.0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_providers_are_found_by_being_there() -> None:
    """Each module of the package, under its own name."""
    assert "truthlocks" in providers.names()
    assert providers.names() == sorted(providers.names())
    assert all(providers.get(name).name == name for name in providers.names())


def test_an_unknown_provider_is_named_with_those_known() -> None:
    """The message helps who mistyped it."""
    with pytest.raises(ValueError, match=r"there is no provider 'truthlock'; known: .*truthlocks"):
        providers.get("truthlock")


def test_a_documented_scheme_is_one_that_exists() -> None:
    """Where a provider's documents name a scheme, a source can be configured with it."""
    for name in providers.names():
        scheme = providers.get(name).documented_scheme
        if scheme is not None:
            options = {} if scheme == "standard-webhooks" else {"header": "x-signature"}
            assert scheme_from_options(scheme, options).name == scheme


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_no_document_makes_a_provider_raise(document: dict[str, Json]) -> None:
    """Whatever the JSON, it is read as one of the three."""
    for name in providers.names():
        assert isinstance(providers.get(name).read(document), Notice | Ignored | Unfit)


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
        text({"id": value}, "id")

    assert says == str(wrong.value)


def test_a_member_that_may_be_absent() -> None:
    """Absent and null are None; what is there must be as documented."""
    assert optional_text({}, "id") is None
    assert optional_text({"id": None}, "id") is None
    assert optional_text({"id": "x" * 256}, "id") == "x" * 256
    with pytest.raises(WrongShape, match="id is not a string"):
        optional_text({"id": 0}, "id")
    with pytest.raises(WrongShape, match="must have 1 to 4"):
        optional_text({"id": "12345"}, "id", 4)
