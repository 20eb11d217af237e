"""Every state of an item, from its events alone."""

from dataclasses import replace

import pytest

from receiver.audit.items import Reversed, reversed_in_all, state_of
from receiver.audit.shapes import BreachShape, CrossCheckShape, EventShape, ItemShape, MismatchShape

EVENT = EventShape(
    id="e",
    source="s",
    provider="p",
    event="t",
    item=ItemShape("i", "1"),
    effect="revoked",
    extent="full",
    amount=None,
    quantity=None,
    reason=None,
    via="webhook",
    scheme="token",
    test=False,
    account=None,
    operation=None,
    occurred_at="2026-11-20T09:00:00.000000Z",
    received_at="2026-11-20T09:00:01.000000Z",
    logged_at="2026-11-20T09:00:02.000000Z",
    log_index=0,
    leaf_hash="",
    cross_check=CrossCheckShape(),
    breaches=[],
    mismatches=[],
    details={},
    erased=False,
)
AT = "2026-11-20T{:02}:00:00.000000Z"


def told(*events: EventShape) -> list[EventShape]:
    """These events in this order, an hour apart from midnight on, each with an id of its own."""
    return [replace(event, id=str(hour), occurred_at=AT.format(hour)) for hour, event in enumerate(events)]


def act(effect: str, operation: str | None = None) -> EventShape:
    """An event of that effect, and of that act."""
    return replace(EVENT, effect=effect, operation=operation)


def part(
    operation: str | None = None, amount: str | None = None, quantity: str | None = None, unit: str | None = None
) -> EventShape:
    """An act that takes back so much."""
    details = {} if unit is None else {"unit": unit}
    event = replace(EVENT, effect="reversed", extent="partial", operation=operation)
    return replace(event, amount=amount, quantity=quantity, details=details)


def whole(amount: str | None = None, quantity: str | None = None, unit: str | None = None) -> EventShape:
    """Context that says how much there is in all."""
    return replace(part(None, amount, quantity, unit), effect=None, extent="unknown")


@pytest.mark.parametrize(
    ("effects", "extent", "state", "hour"),
    [
        (["revoked"], "full", "taken_back", 0),
        (["canceled"], "full", "taken_back", 0),
        (["reversed"], "full", "taken_back", 0),
        (["reversed"], "partial", "partly", 0),
        (["reversed"], "unknown", "partly", 0),
        (["reversed", "reversed"], "partial", "partly", 0),
        (["revoking"], "full", "pending", 0),
        (["canceling"], "full", "pending", 0),
        (["revoking", "revoked"], "full", "taken_back", 1),
        (["revoked", "revoking"], "full", "taken_back", 0),
        (["refused"], "full", "not_taken_back", 0),
        (["rejected"], "full", "not_taken_back", 0),
        (["activated"], "full", "not_taken_back", 0),
        (["revoking", "refused"], "full", "pending", 0),
        (["refused", "revoking"], "full", "pending", 1),
        (["refused", "revoked"], "full", "taken_back", 1),
    ],
)
def test_the_state_follows_from_the_effects(effects: list[str], extent: str, state: str, hour: int) -> None:
    """What takes back outweighs what is under way, and that outweighs what does not take back."""
    events = told(*(replace(act(effect), extent=extent) for effect in effects))

    assert state_of(events) == (state, AT.format(hour))


@pytest.mark.parametrize(
    ("acts", "state", "hour"),
    [
        ("canceling:1 rejected:1", "not_taken_back", 1),
        ("canceling:1 refused:1", "not_taken_back", 1),
        ("canceling:1 rejected:1 canceling:2", "pending", 2),
        ("canceling:1 rejected:1 canceling:2 rejected:2", "not_taken_back", 3),
        ("canceling:1 canceling:2 rejected:2", "pending", 0),
        ("canceling:1 canceling:2 rejected:1", "pending", 1),
        ("canceling:1 canceling:1 rejected:1", "not_taken_back", 2),
        ("canceling:1 rejected:2", "pending", 0),
        ("rejected:1 canceling:1", "not_taken_back", 0),
        ("canceling:1 canceling:1", "pending", 0),
        ("refused activated", "not_taken_back", 0),
        ("refused:1 canceling:2 rejected:2", "not_taken_back", 2),
        ("canceling:1 rejected:1 refused:2", "not_taken_back", 1),
        ("canceling:1 canceling:2 activated", "not_taken_back", 2),
        ("canceling activated", "not_taken_back", 1),
        ("canceling activated refused", "not_taken_back", 1),
        ("activated canceling:1", "pending", 1),
        ("canceling:1 canceled:1", "taken_back", 1),
        ("canceling:1 rejected:1 canceled:2", "taken_back", 2),
        ("canceled:1 rejected:1", "taken_back", 0),
        ("canceled:1 activated", "taken_back", 0),
    ],
)
def test_what_is_under_way_is_concluded(acts: str, state: str, hour: int) -> None:
    """By a later word of the same act that it came to nothing, or by one that the item is in force again."""
    events = told(*(act(*one.split(":")) for one in acts.split()))

    assert state_of(events) == (state, AT.format(hour))


@pytest.mark.parametrize(
    ("events", "state", "hour", "amount"),
    [
        ([whole("500"), part("a", "200")], "partly", 1, "200"),
        ([whole("500"), part("a", "200"), part("b", "300.00")], "taken_back", 2, "500.00"),
        ([whole("500.00"), part("a", "500")], "taken_back", 1, "500"),
        ([whole("500"), part("a", "499.999999999999999999999999999999999")], "partly", 1, "499." + "9" * 33),
        ([whole("500"), part("a", "300"), part("b", "300"), part("c", "1")], "taken_back", 2, "601"),
        ([part("a", "200"), part("b", "300"), whole("500")], "taken_back", 1, "500"),
        ([part("a", "200"), part("b", "300")], "partly", 0, "500"),
        ([whole("500"), part("a", "250"), part("a", "250")], "partly", 1, "250"),
        ([whole("500"), part(None, "250"), part(None, "250")], "taken_back", 2, "500"),
        ([whole("500"), part("a", "250"), part("a", "500")], "taken_back", 1, "500"),
        ([whole("500"), part("a", None), part("a", "500")], "taken_back", 1, "500"),
        ([whole("500"), whole("900"), part("a", "500")], "partly", 2, "500"),
        ([whole("900"), whole("500"), part("a", "500")], "taken_back", 2, "500"),
        ([whole("500"), whole(), part("a", "500")], "taken_back", 2, "500"),
        ([whole("500"), part("a", "500"), part("b", "-1")], "taken_back", 1, "500"),
        ([whole("500"), part("a", "-1"), part("b", "500")], "taken_back", 2, "500"),
        ([whole("500"), replace(part("a", "200"), extent="full"), part("b", "300")], "taken_back", 1, "500"),
        ([whole("500"), part("a", "300"), replace(part("b", "200"), effect="refused")], "partly", 1, "300"),
        ([whole("5e2"), part("a", "500")], "partly", 1, "500"),
        ([whole("500"), part("a", "5e2")], "partly", 1, None),
        ([whole(None, "3"), part("a", None, "1"), part("b", None, "2")], "taken_back", 2, None),
        ([whole(None, "3"), part("a", None, "1"), part("b", None, "1")], "partly", 1, None),
        ([whole(None, "3"), part("a", None, "1"), part("a", None, "3")], "taken_back", 1, None),
        ([whole("500", "2"), part("a", "200", "1"), part("b", "200", "1")], "partly", 1, "400"),
        ([whole("500", "2"), part("a", None, "1"), part("b", "200", "1")], "taken_back", 2, "200"),
        ([whole("500", "2"), part("a", "500", "1")], "taken_back", 1, "500"),
        ([whole("500", None), part("a", None, "1")], "partly", 1, None),
        ([whole(None, "2"), part("a", "500", "2")], "taken_back", 1, "500"),
    ],
)
def test_parts_take_back_all_once_their_sum_is_the_total(
    events: list[EventShape], state: str, hour: int, amount: str | None
) -> None:
    """Each act once, as it was told last; amounts decide, and quantities where amounts cannot."""
    found = told(*events)

    assert (*state_of(found), reversed_in_all(found).amount) == (state, AT.format(hour), amount)


@pytest.mark.parametrize(
    ("events", "state", "hour", "amount"),
    [
        ([whole("500", unit="x"), part("a", "200", unit="x"), part("b", "300", unit="x")], "taken_back", 2, "500"),
        ([whole("500", unit="x"), part("a", "250", unit="x"), part("b", "250", unit="y")], "partly", 1, None),
        ([whole("1", "1", "x"), part("a", "1", "1", "x"), part("b", "1", "1", "y")], "partly", 1, None),
        (
            [part("a", "250", unit="x"), part("b", "250", unit="y"), replace(part("c", "1"), extent="full")],
            "taken_back",
            2,
            None,
        ),
        ([whole("500", unit="y"), part("a", "500", unit="x")], "partly", 1, "500"),
        ([whole("500", unit="x"), whole("1", unit="y"), part("a", "400", unit="x")], "partly", 2, "400"),
        ([whole("500", unit="x"), part("a", "250", unit="x"), part("b", "250")], "taken_back", 2, "500"),
        ([whole("500", unit="x"), part("a", "250"), part("b", "250")], "taken_back", 2, "500"),
        ([whole("500"), part("a", "250", unit="x"), part("b", "250", unit="x")], "taken_back", 2, "500"),
        (
            [whole("500", unit="y"), replace(part("a", "500", unit="y"), effect="refused"), part("b", "1", unit="x")],
            "partly",
            2,
            "1",
        ),
    ],
)
def test_amounts_of_different_units_are_never_added(
    events: list[EventShape], state: str, hour: int, amount: str | None
) -> None:
    """Then there is no sum, and only what is full takes all back; what names no unit is not of another."""
    found = told(*events)

    assert (*state_of(found, "unit"), reversed_in_all(found, "unit").amount) == (state, AT.format(hour), amount)


def test_parts_are_added_in_the_order_of_time() -> None:
    """Whichever was told first: it is the latest that completes the sum."""
    late, early, early_again = told(part("late", "300"), part("early", "200"), part("early", "200"))
    events = [
        whole("500"),
        replace(late, occurred_at=AT.format(8)),
        replace(early, occurred_at=AT.format(7)),
        replace(early_again, occurred_at=AT.format(9)),
    ]

    assert state_of(events) == ("taken_back", AT.format(8))


def test_without_events_there_is_no_record() -> None:
    """Nor since when. Neither is there of context alone."""
    assert state_of([]) == ("no_record", None)
    assert state_of(told(whole("500"))) == ("no_record", None)


def test_contradicted_it_is_disputed() -> None:
    """Whatever its effects say, since it was contradicted."""
    check = CrossCheckShape(state="contradicted", by="issuer_log", since=AT.format(5))

    assert state_of([*told(act("revoked")), replace(EVENT, cross_check=check)]) == ("disputed", AT.format(5))


def test_an_erased_event_says_nothing() -> None:
    """It is passed over, unless all are erased."""
    gone = replace(EVENT, erased=True, occurred_at=None)

    assert state_of([gone]) == ("erased", None)
    assert state_of([gone, *told(act("revoking"))]) == ("pending", AT.format(0))


def test_where_no_time_is_given_it_is_that_of_receipt() -> None:
    """Since is never empty for what happened."""
    assert state_of([replace(EVENT, occurred_at=None)]) == ("taken_back", "2026-11-20T09:00:01.000000Z")


def test_breaches_and_mismatches_are_not_looked_at() -> None:
    """What was said stays said, however oddly."""
    odd = replace(EVENT, breaches=[BreachShape("code", "message")], mismatches=[MismatchShape("m", "", 1)])

    assert state_of([odd]) == state_of([EVENT])


def test_amounts_are_added_exactly() -> None:
    """As decimals, to the last digit; what is no plain decimal is not."""
    events = told(
        part("a", "0.10"), part("b", "0.20"), part(None, "1" + "0" * 30), part(None, "0.000000000000000000001")
    )

    odd = [part("c", None), part("d", "a lot"), part("e", "1e30")]
    assert reversed_in_all(events[:2]).amount == "0.30"
    assert reversed_in_all(events).amount == "1000000000000000000000000000000.300000000000000000001"
    assert reversed_in_all([*events[:2], *odd]).amount == "0.30"
    assert reversed_in_all([EVENT]) == Reversed(None, None)


@pytest.mark.parametrize(
    ("events", "amount", "quantity"),
    [
        ([part("a", None, "1"), part("b", None, "2")], None, "3"),
        ([part("a", None, "2"), part("a", None, "2")], None, "2"),
        ([part("a", None, "2"), part("a", None, "3")], None, "3"),
        ([part("a", None, "2"), part("a", None, None)], None, "2"),
        ([part(None, None, "2"), part(None, None, "2")], None, "4"),
        ([part("a", "400", "2"), part("b", "100.50", None)], "500.50", "2"),
        ([part("a", None, "many"), part("b", None, "2")], None, "2"),
        ([part("a", None, "many"), part("b", None, "2e3")], None, None),
        ([part("a", None, "0.1"), part("b", None, "0.20")], None, "0.30"),
        ([part("a", None, "0")], None, "0"),
        ([part("a", None, "9007199254740993"), part("b", None, "1")], None, "9007199254740994"),
        ([whole("500", "3")], None, None),
        ([replace(part("a", None, "3"), effect="revoking")], None, None),
        (
            [replace(part("a", None, "3"), effect="revoking"), replace(part("b", None, "2"), effect="revoked")],
            None,
            "2",
        ),
        ([part("a", None, "3"), replace(part("b", None, "2"), effect="rejected")], None, "3"),
        ([whole("9", "9", "y"), part("a", "1", "2", "x"), part("b", None, "3")], "1", "5"),
        ([part("a", "1", "2", "x"), part("b", "1", "2", "y")], None, None),
        ([part("a", None, "2", "x"), part("b", None, "2", "y")], None, None),
    ],
)
def test_quantities_are_added_as_amounts_are(
    events: list[EventShape], amount: str | None, quantity: str | None
) -> None:
    """Each act that takes back once, as it was told last; null where none is known, or their units differ."""
    assert reversed_in_all(told(*events), "unit") == Reversed(amount, quantity)
