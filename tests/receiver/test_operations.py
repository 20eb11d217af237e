"""What a call of a provider's operation is about, and that no answer and no record is ever taken for another item's."""

import copy
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import providers
from receiver.documents import one_case
from receiver.events import Item, Via
from receiver.providers import Call, Inquiry, NotDone, Notice, Unfit
from receiver.strictjson import Json, Number
from tests.receiver.operations import CALLED_AT, EXAMPLES, OTHER, WITH_LOOKUP, Example

# ---- what a call is about -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_call_is_about_the_item_of_its_event(name: str) -> None:
    """Known before it is answered; and the operation has a name."""
    example, operation = EXAMPLES[name], providers.get(name).operation
    answered = operation.read(Call(example.path, example.request, example.answer))

    assert isinstance(answered, Notice)
    assert example.item == operation.item(example.path, example.request) == answered.event.item
    assert operation.name == f"POST {operation.path}"


@pytest.mark.parametrize(("name", "example"), EXAMPLES.items())
def test_a_call_that_does_not_say_is_about_nothing_known(name: str, example: Example) -> None:
    """Neither path nor request names one."""
    assert providers.get(name).operation.item({}, {}) is None
    assert set(re.findall(r"{(\w+)}", providers.get(name).operation.path)) == set(example.path)


@pytest.mark.parametrize("badge", [None, 7, "", "x" * 257, ["b"], Number("1.0")])
def test_a_badge_that_is_none_is_not_known(badge: Json) -> None:
    """What the event could not name either."""
    assert providers.get("capillary").operation.item({}, {"earnedBadgeId": badge}) is None


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("truthlocks", {"receipt_id": OTHER, "status": "revoked"}, "receipt_id is not the one in the path"),
        ("thanx", {"issuance_job": {"id": "job_2"}}, "issuance_job.id is not the one in the path"),
        ("capillary", {"data": {"earnedBadgeId": "b2"}}, "data.earnedBadgeId is not request.earnedBadgeId"),
        ("scrip", {"redemption_id": OTHER}, "redemption_id is not the one in the path"),
    ],
)
def test_an_answer_about_another_item_is_no_answer_to_the_call(name: str, answer: dict[str, Json], says: str) -> None:
    """It would be evidence about the wrong thing."""
    example = EXAMPLES[name]
    told = providers.get(name).operation.read(Call(example.path, example.request, answer))

    assert told == Unfit("wrong_shape", says)


@pytest.mark.parametrize(
    ("member", "there"), [("program_id", "programId"), ("member_id", "memberId"), ("card_id", "cardId")]
)
def test_a_transaction_of_another_card_is_no_answer_to_the_call(member: str, there: str) -> None:
    """It cannot cancel the points of the bucket in the path."""
    example = EXAMPLES["voucherify"]
    told = providers.get("voucherify").operation.read(Call({**example.path, there: "other"}, {}, example.answer))

    assert told == Unfit("wrong_shape", f"the request's {member} is not the transaction's")


# ---- whatever there is ----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text("ab/é\u0085", max_size=5)
    | st.sampled_from([Number("1.0"), Number("1e300"), "revoked", "active", "x" * 300, "2026-11-20T09:00:00Z", OTHER]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "é"]), inner, max_size=3),
    max_leaves=5,
)


def members_of(value: object) -> list[tuple[Any, Any]]:
    """Every place in a document, at any depth: the object or array, and the name or index in it."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = [(value, name) for name in value]  # pyright: ignore[reportUnknownVariableType]
    elif isinstance(value, list):
        inner = [(value, index) for index in range(len(value))]  # pyright: ignore[reportUnknownArgumentType]
    return inner + [place for holder, name in inner for place in members_of(holder[name])]


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Json]) -> dict[str, Json]:
    """The document with up to three of its members, at any depth, left out or replaced."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        if places := members_of(document):
            holder, name = draw(st.sampled_from(places))
            if draw(st.booleans()):
                holder[name] = draw(json_values)
            else:
                del holder[name]
    return document


@st.composite
def changed(draw: st.DrawFn, name: str) -> Example:
    """The documented call with its request, its answer and its record changed."""
    example = EXAMPLES[name]
    record = None if example.record is None else draw(mutated(example.record))
    return replace(example, request=draw(mutated(example.request)), answer=draw(mutated(example.answer)), record=record)


def see_through(reading: object, item: Item | None) -> None:
    """A notice can be recorded, and is about what the call is about."""
    if isinstance(reading, Notice):
        assert (len(reading.digest), bool(reading.event.data()), "\0" in reading.key) == (32, True, False)
        about = reading.event.item
        assert item is None or (about.type, one_case(about.id)) == (item.type, one_case(item.id))


@pytest.mark.parametrize("name", EXAMPLES)
@given(data=st.data())
def test_no_answer_makes_it_raise_or_is_about_something_else(name: str, data: st.DataObject) -> None:
    """However the documented call and its answer are changed."""
    example, operation = data.draw(changed(name)), providers.get(name).operation
    item = operation.item(example.path, example.request)
    reading = operation.read(Call(example.path, example.request, example.answer))

    assert isinstance(reading, Notice | Unfit)
    see_through(reading, item)


@pytest.mark.parametrize("name", WITH_LOOKUP)
@given(data=st.data())
def test_no_record_makes_it_raise_or_is_about_something_else(name: str, data: st.DataObject) -> None:
    """However the documented call and the record are changed."""
    example = data.draw(changed(name))
    assert example.record is not None
    lookup = providers.get(name).operation.lookup
    assert lookup is not None
    reading = lookup.read(Inquiry(example.path, example.request, CALLED_AT, example.record, frozenset()))

    assert isinstance(reading, Notice | NotDone | Unfit)
    assert not isinstance(reading, Notice) or reading.via is Via.POLL
    see_through(reading, example.item)
    assert lookup.target(example.path, example.request).isascii()
