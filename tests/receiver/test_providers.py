"""The registry, and what every provider's module has to be."""

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import providers
from receiver.documents import WrongShape, plain_entry
from receiver.events import Claim, Effect, Item
from receiver.intake.schemes import scheme_from_options
from receiver.providers import Call, Denied, Ignored, Inclusion, Inquiry, NotDone, Notice, Unfit
from receiver.strictjson import Json, Number
from translog.canonical import Value, encode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just(Number("1.0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

PLAIN: dict[str, Value] = {
    "account": None,
    "amount": None,
    "at": None,
    "effect": "revoked",
    "event": None,
    "item": {"id": "1", "type": "thing"},
    "operation": None,
    "provider": "ours",
    "quantity": None,
}
"""A plain entry that says no more than it has to."""

claims = st.builds(
    Claim,
    account=st.none() | st.text(max_size=5),
    item=st.builds(Item, st.sampled_from(["receipt", "issuance_job", "redemption", "stamp"]), st.text(max_size=5)),
    operation=st.none() | st.text(max_size=5),
    effect=st.sampled_from(Effect),
    amount=st.none() | st.just("1.00"),
    quantity=st.none() | st.just("1"),
    at=st.none(),
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
        signing = providers.get(name).signing
        assert signing.said
        if signing.scheme is not None:
            assert scheme_from_options(signing.scheme, signing.options).name == signing.scheme


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_no_document_makes_a_provider_raise(document: dict[str, Json]) -> None:
    """Whatever the JSON, it is read as one of the three."""
    for name in providers.names():
        assert isinstance(providers.get(name).read(document), Notice | Ignored | Unfit)


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4), st.text(min_size=1, max_size=5))
def test_no_call_makes_a_provider_raise(document: dict[str, Json], parameter: str) -> None:
    """Whatever it sent, was answered and is shown by the record; where to ask is a path, whatever is in it."""
    for name in providers.names():
        operation = providers.get(name).operation
        path = dict.fromkeys(re.findall(r"{(\w+)}", operation.path), parameter)
        assert isinstance(operation.item(path, document), Item | None)
        assert isinstance(operation.read(Call(path, document, document)), Notice | Unfit)
        if operation.lookup is not None:
            inquiry = Inquiry(path, document, datetime.now(UTC), document, frozenset({parameter}))
            assert isinstance(operation.lookup.read(inquiry), Notice | NotDone | Unfit)
            assert re.fullmatch(r"/[\w.~/?=&%-]+", operation.lookup.target(path, document), re.ASCII)


def test_a_lookup_sends_no_credential_of_its_own() -> None:
    """That is the operator's to give."""
    for name in providers.names():
        operation = providers.get(name).operation
        if operation.lookup is not None:
            assert not {header.lower() for header in operation.lookup.headers} & set(operation.credentials)


def test_a_plain_entry_is_an_act_of_its_provider_and_nothing_to_the_others() -> None:
    """As long as no entry of the provider's own is documented; one that is not as it must be is told of."""
    for name in providers.names():
        entry = encode({**PLAIN, "provider": name})
        read = {other: providers.get(other).entry(entry) for other in providers.names()}

        act = Claim(None, Item("thing", "1"), None, Effect.REVOKED, None, None, None)
        assert {other: act if other == name else None for other in providers.names()} == read
        said = providers.get(name).entry(encode({**PLAIN, "provider": name, "effect": "lost"}))
        assert isinstance(said, Unfit)
        assert said.message.startswith("effect is 'lost'; it must be one of activated")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (json.dumps(PLAIN).encode(), "canonical JSON: members must be sorted"),
        (encode(PLAIN) + b"\n", "canonical JSON: members must be sorted"),
        (encode({**PLAIN, "more": None}), "issuer's entry: expected an object with exactly the members"),
        (encode({name: value for name, value in PLAIN.items() if name != "at"}), "issuer's entry: expected an object"),
        (encode({**PLAIN, "item": {"id": "1", "more": "", "type": "thing"}}), "issuer's entry: item: expected an obj"),
        (encode({**PLAIN, "amount": 40}), "issuer's entry: 'amount' is not a string"),
        (encode({**PLAIN, "amount": "4" * 257}), "amount has 257 characters; it must have 1 to 256"),
        (encode({**PLAIN, "quantity": ""}), "quantity has 0 characters; it must have 1 to 256"),
        (encode({**PLAIN, "operation": "v" * 257}), "operation has 257 characters; it must have 1 to 256"),
        (encode({**PLAIN, "item": {"id": "1" * 257, "type": "thing"}}), "item.id has 257 characters"),
        (encode({**PLAIN, "at": "today"}), "at: 'today' is not an RFC 3339 time"),
        (encode({**PLAIN, "operation": "a\0"}), "it has a NUL"),
        (encode({**PLAIN, "effect": "x" * 9000}), f"effect is '{'x' * 80}'; it must be one of activated"),
        (json.dumps({**PLAIN, "é" * 9000: None}).encode(), "canonical JSON: the member name"),
    ],
)
def test_a_plain_entry_has_one_spelling(entry: bytes, says: str) -> None:
    """The one that `translog verify` reads as well: in any other it is told of, in a few words, and nothing is read."""
    with pytest.raises(WrongShape) as wrong:
        plain_entry("ours", entry)

    assert str(wrong.value).startswith(says)
    assert len(str(wrong.value)) <= 300
    assert plain_entry("theirs", entry) is None


@pytest.mark.parametrize("entry", [b"", b"{", b"[]", b'"ours"', b"\xff", encode({"provider": ["ours"]}), b"{}"])
def test_what_is_no_plain_entry_of_anybody(entry: bytes) -> None:
    """A log may hold anything."""
    assert plain_entry("ours", entry) is None


@given(st.binary(max_size=20) | st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_no_entry_of_a_log_makes_a_provider_raise(entry: bytes | dict[str, Json]) -> None:
    """Anybody's log may hold anything; what names the provider, too."""
    for name in providers.names():
        data = entry if isinstance(entry, bytes) else json.dumps({**entry, "provider": name}, default=str).encode()
        assert isinstance(providers.get(name).entry(data), Claim | Unfit | None)


@given(claims, st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_no_record_makes_a_provider_raise(claim: Claim, document: dict[str, Json]) -> None:
    """Whatever it holds; and where to ask for it is a path, whatever is in the claim."""
    for name in providers.names():
        provider = providers.get(name)
        for asked in (provider.record, provider.bundle):
            if asked is not None:
                assert isinstance(asked.read(claim, document), Claim | Denied | Unfit | Inclusion)
                assert re.fullmatch(r"/[\w.~/?=&%-]+", asked.target(claim) or "/none", re.ASCII)


def test_whom_a_provider_names_is_said_in_one_form() -> None:
    """A member's name, or that and the name of what it stands in; each with kinds, none of them twice."""
    for name in providers.names():
        for member, kinds in providers.get(name).persons.items():
            assert re.fullmatch(r"(?:\w+\.)?\w+", member, re.ASCII)
            assert 0 < len(kinds) == len(set(kinds))
