"""Scrip: reversals and redemptions, how much of one the other is, the operation, and the rules."""

import copy
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver import providers
from receiver.events import Effect, Event, Extent, Item, Kind, Past, Via
from receiver.providers import Call, Ignored, Notice, Unfit
from receiver.strictjson import Json, Number, digest, parse
from translog.canonical import decode

SCRIP = providers.get("scrip")
REVERSAL = "550e8400-e29b-41d4-a716-446655440000"
REDEMPTION = "550e8400-e29b-41d4-a716-446655440001"
OTHER = "550e8400-e29b-41d4-a716-44665544ffff"
ORGANIZATION = "3d6f0a4e-5b1c-4f6e-9a0d-2f7e8c9b1a55"
POINTS = "550e8400-e29b-41d4-a716-446655440003"
AT = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
RECEIVED = datetime(2024, 1, 15, 10, 30, 2, tzinfo=UTC)

ANSWER = parse(b"""
{"amount": "500.00", "created_at": "2024-01-15T10:30:00Z", "id": "550e8400-e29b-41d4-a716-446655440000",
 "journal_entry_id": "550e8400-e29b-41d4-a716-446655440002", "quantity": 1, "reason": "Customer refund request",
 "redemption_id": "550e8400-e29b-41d4-a716-446655440001"}
""")
REQUEST = parse(b"""
{"reason": "Customer refund request", "amount": "500.00", "idempotency_key": "reverse-12345", "quantity": 1}
""")
REDEEMED = parse(b"""
{"amount": "1000.00", "asset_id": "550e8400-e29b-41d4-a716-446655440003", "created_at": "2024-01-15T10:30:00Z",
 "description": "Redeemed: Gift Card", "id": "550e8400-e29b-41d4-a716-446655440001",
 "journal_entry_id": "550e8400-e29b-41d4-a716-446655440005", "participant_id": "550e8400-e29b-41d4-a716-446655440002",
 "program_id": "550e8400-e29b-41d4-a716-446655440001", "quantity": 2, "reversed_amount": "0.00",
 "reversed_quantity": 0, "reward_id": "550e8400-e29b-41d4-a716-446655440004", "status": "COMPLETED",
 "unit_cost": "500.00", "updated_at": "2024-01-15T10:30:00Z"}
""")
ENVELOPE = parse(b"""
{"id": "f47ac10b-58cc-4372-a567-0e02b2c3d479", "api_version": "2026-03-01", "created_at": "2024-01-15T10:30:01Z",
 "organization_id": "3d6f0a4e-5b1c-4f6e-9a0d-2f7e8c9b1a55"}
""")
"""The documented examples, with ids that fit one another, and the envelope, which is documented member by member."""

FROM_ENVELOPE = {"api_version": ENVELOPE["api_version"], "webhook_event_id": ENVELOPE["id"]}
IGNORED = [
    *("balance.credited", "balance.debited", "balance.expired", "balance.held", "balance.released"),
    *("event.completed", "event.failed", "participant.created", "participant.tier_changed"),
    *("program.burned", "program.funded", "transfer.completed"),
]


def enveloped(name: str, data: dict[str, Json]) -> dict[str, Json]:
    """The documented envelope, with that in it."""
    return {**ENVELOPE, "type": name, "data": data}


def reversal(**changes: Json) -> dict[str, Json]:
    """The documented reversal, delivered, with other members in its data."""
    return enveloped("redemption.reversed", {**ANSWER, **changes})


def redemption(**changes: Json) -> dict[str, Json]:
    """The documented redemption, delivered, with other members in its data."""
    return enveloped("redemption.completed", {**REDEEMED, **changes})


def notice(document: dict[str, Json]) -> Notice:
    """The notice that a document is read as."""
    reading = SCRIP.read(document)
    assert isinstance(reading, Notice)
    return reading


def reversed_event(**changes: Json) -> Event:
    """The event of such a reversal."""
    return notice(reversal(**changes)).event


def redeemed_event(**changes: Json) -> Event:
    """The event of such a redemption."""
    return notice(redemption(**changes)).event


def completed(event: Event, *history: Event) -> Event:
    """The event with what those before it add."""
    assert SCRIP.complete is not None
    return SCRIP.complete(event, [Past.from_event(earlier, RECEIVED, index) for index, earlier in enumerate(history)])


def breaches(event: Event, *history: Event) -> dict[str, str]:
    """What is said of each rule that it breaks after those events, by its code."""
    past = [Past.from_event(earlier, RECEIVED, index) for index, earlier in enumerate(history)]
    return {breach.code: breach.message for breach in SCRIP.check(event, RECEIVED, 300, past)}


def test_what_is_said_of_the_provider() -> None:
    """Its account is the organization, its amounts are of assets, and its signature's scheme is not documented."""
    assert SCRIP.title == "Scrip"
    assert SCRIP.account_name == "organization_id"
    assert SCRIP.unit == "asset_id"
    assert SCRIP.signing.scheme is None
    assert not SCRIP.key_names_item  # a reversal's id says nothing of the redemption's
    assert SCRIP.operation.successes == {200, 201}
    assert SCRIP.operation.idempotency_member == "idempotency_key"


def test_a_reversal_in_full() -> None:
    """Every member of the documented reversal has its place; how much of the redemption it is, it does not tell."""
    assert SCRIP.read(reversal()) == Notice(
        event=Event(
            kind=Kind.REVOCATION,
            type="redemption.reversed",
            item=Item("redemption", REDEMPTION),
            effect=Effect.REVERSED,
            extent=Extent.UNKNOWN,
            account=ORGANIZATION,
            operation=REVERSAL,
            occurred_at=AT,
            occurred_from="data.created_at",
            amount="500.00",
            quantity="1",
            reason="Customer refund request",
            details={"journal_entry_id": "550e8400-e29b-41d4-a716-446655440002", **FROM_ENVELOPE},
        ),
        key=f"redemption.reversed {REVERSAL}",
        digest=digest(ANSWER),
        via=Via.WEBHOOK,
    )


def test_a_redemption_in_full() -> None:
    """It tells how much there is to take back; its description is free text and stays in the body."""
    told = notice(redemption())
    left_out = {"amount", "quantity", "description", "id", "updated_at"}

    expected = replace(
        notice(reversal()).event,
        kind=Kind.CONTEXT,
        type="redemption.completed",
        effect=None,
        operation=None,
        reason=None,
        occurred_at=None,
        occurred_from=None,
        amount="1000.00",
        quantity="2",
        details={name: value for name, value in REDEEMED.items() if name not in left_out} | FROM_ENVELOPE,
    )
    assert Notice(expected, f"redemption.completed {REDEMPTION}", digest(REDEEMED), Via.WEBHOOK) == told


def test_the_least_a_delivery_can_be() -> None:
    """The ids alone: what is not given, or null, is not there."""
    least: dict[str, Json] = {"id": REVERSAL, "redemption_id": REDEMPTION, "amount": None, "reason": None}
    event = notice({"type": "redemption.reversed", "data": least}).event
    assert (event.account, event.occurred_at, event.occurred_from) == (None, None, None)
    assert (event.amount, event.quantity, event.reason, event.details) == (None, None, None, {})

    event = notice({"type": "redemption.completed", "data": {"id": REDEMPTION}}).event
    assert (event.amount, event.quantity, event.details) == (None, None, {})


def test_a_redemption_may_be_named_by_either_id() -> None:
    """`redemption_id` first: beside it, `id` may be of something else."""
    both = notice(redemption(redemption_id=OTHER))

    assert both.event.item == Item("redemption", OTHER)
    assert both.key == f"redemption.completed {OTHER}"


@pytest.mark.parametrize("amount", ["500.00", "500", "0500.000", "-1", "1e3", "", "twelve", "\N{FULLWIDTH DIGIT NINE}"])
def test_amounts_are_kept_as_they_were_written(amount: str) -> None:
    """Whatever they say."""
    assert amount == reversed_event(amount=amount).amount
    assert amount == redeemed_event(amount=amount).amount


@pytest.mark.parametrize("name", IGNORED)
def test_other_documented_types_bear_on_nothing(name: str) -> None:
    """Whatever is in them."""
    assert Ignored(name) == SCRIP.read(enveloped(name, {}))
    assert Ignored(name) == SCRIP.read({"type": name})


@pytest.mark.parametrize(
    "name", ["redemption.created", "redemption.reversed ", "Redemption.Reversed", "balance", "transfer.reversed"]
)
def test_other_types_are_unknown(name: str) -> None:
    """Nothing is guessed from a name that looks familiar."""
    assert Unfit("unknown_type", f"type is {name!r}, which is not documented") == SCRIP.read(enveloped(name, ANSWER))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "type is missing"),
        ({**reversal(), "data": None}, "data is missing"),
        ({**redemption(), "data": [REDEEMED]}, "data is not an object"),
        ({**reversal(), "organization_id": 7}, "organization_id is not a string"),
        ({**redemption(), "organization_id": ""}, "organization_id has 0 characters; it must have 1 to 256"),
        (reversal(id=None), "data.id is missing"),
        (reversal(redemption_id=None), "data.redemption_id is missing"),
        (reversal(redemption_id="x" * 257), "data.redemption_id has 257 characters; it must have 1 to 256"),
        (redemption(id=None), "neither data.redemption_id nor data.id is there"),
        (reversal(amount=500), "data.amount is not a string"),
        (redemption(amount=Number("500.00")), "data.amount is not a string"),
        (reversal(amount="1" * 257), "data.amount has 257 characters; it may have at most 256"),
        (reversal(quantity="1"), "data.quantity is not an integer below 2^53"),
        (redemption(quantity=Number("1.0")), "data.quantity is not an integer below 2^53"),
        (reversal(quantity=True), "data.quantity is not an integer below 2^53"),
        (reversal(reason={}), "data.reason is not a string"),
        (reversal(reason="x" * 4097), "data.reason has 4097 characters; it may have at most 4096"),
        (reversal(asset_id=7), "data.asset_id is not a string"),
        (
            reversal(created_at="today"),
            "data.created_at: 'today' is not an RFC 3339 time with a zone, such as 2026-11-20T09:00:00Z",
        ),
    ],
)
def test_what_is_not_of_the_documented_shape_is_unfit(document: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    assert Unfit("wrong_shape", says) == SCRIP.read(document)


def test_a_resent_delivery_is_the_same_notice() -> None:
    """What is around the data is no part of the content."""
    again = notice({**reversal(), "id": OTHER, "created_at": None, "api_version": "2027-01-01"})

    assert (again.key, again.digest) == (notice(reversal()).key, notice(reversal()).digest)


def test_the_same_reversal_with_another_amount_is_a_mismatch() -> None:
    """The same key with another digest, even if both are worth the same; other notices have other keys."""
    first, mismatch, other = (notice(reversal(**each)) for each in ({}, {"amount": "500.0"}, {"id": OTHER}))

    assert mismatch.key == first.key
    assert first.key not in {other.key, notice(redemption(id=REVERSAL)).key}
    assert mismatch.digest != first.digest


@pytest.mark.parametrize(
    ("told", "whole", "expected"),
    [
        ({}, {}, Extent.PARTIAL),
        ({"amount": "1000"}, {}, Extent.FULL),
        ({"amount": "1000.000"}, {}, Extent.FULL),
        ({"amount": "999.999999999999999999"}, {}, Extent.PARTIAL),
        ({"amount": "1000.01"}, {}, Extent.FULL),
        ({"amount": "1000", "quantity": 1}, {}, Extent.FULL),
        ({"amount": "10", "quantity": 2}, {}, Extent.PARTIAL),
        ({"amount": None, "quantity": 2}, {}, Extent.FULL),
        ({"amount": None, "quantity": 1}, {}, Extent.PARTIAL),
        ({"amount": "1,000", "quantity": 2}, {}, Extent.FULL),
        ({"quantity": 2}, {"amount": None}, Extent.FULL),
        ({"quantity": 3}, {"amount": "1e3"}, Extent.FULL),
        ({"quantity": None}, {"amount": None}, Extent.UNKNOWN),
        ({"amount": None}, {"quantity": None}, Extent.UNKNOWN),
        ({"amount": None, "quantity": None}, {}, Extent.UNKNOWN),
        ({"asset_id": POINTS}, {}, Extent.PARTIAL),
        ({"asset_id": OTHER}, {}, Extent.UNKNOWN),
        ({"asset_id": OTHER}, {"asset_id": None}, Extent.PARTIAL),
    ],
)
def test_how_much_of_a_redemption_is_reversed(told: dict[str, Json], whole: dict[str, Json], expected: Extent) -> None:
    """By amount, and where amounts do not tell, by quantity; never of another asset."""
    event = completed(reversed_event(**told), redeemed_event(**whole))

    assert expected is event.extent
    assert event == completed(event, redeemed_event(**whole))


def test_without_the_redemption_the_extent_stays_unknown() -> None:
    """Other reversals do not tell it; and the redemption itself is the total."""
    assert completed(reversed_event()).extent is Extent.UNKNOWN
    assert completed(reversed_event(), reversed_event(id=OTHER)).extent is Extent.UNKNOWN
    assert completed(redeemed_event(), redeemed_event(), reversed_event()) == redeemed_event()


def test_the_newest_redemption_of_the_asset_tells() -> None:
    """It may be told of twice; of another asset, it is passed over."""
    first, newest = redeemed_event(), redeemed_event(amount="500.00")

    assert completed(reversed_event(), first, newest, reversed_event(id=OTHER)).extent is Extent.FULL
    assert completed(reversed_event(asset_id=POINTS), first, redeemed_event(asset_id=OTHER)).extent is Extent.PARTIAL


def answered(answer: dict[str, Json], request: dict[str, Json] = REQUEST, path: str = REDEMPTION) -> Notice | Unfit:
    """What that answer to that call is read as."""
    return SCRIP.operation.read(Call({"id": path}, request, answer))


def test_the_documented_answer_is_the_same_reversal() -> None:
    """Under the same key and with the same content as its delivery, but for what the envelope tells."""
    told, answer = notice(reversal()), answered(ANSWER)

    assert isinstance(answer, Notice)
    assert answer.via is Via.RELAY
    assert (answer.key, answer.digest) == (told.key, told.digest)
    assert (answer.event.account, answer.event.occurred_from) == (None, "created_at")
    assert answer.event.details == {"journal_entry_id": ANSWER["journal_entry_id"]}
    from_envelope = {"account": ORGANIZATION, "occurred_from": "data.created_at", "details": told.event.details}
    assert replace(answer.event, **from_envelope) == told.event


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (REQUEST, Extent.UNKNOWN),
        ({"reason": "Refund"}, Extent.FULL),
        ({"reason": "Refund", "amount": None, "quantity": None}, Extent.FULL),
        ({"reason": "Refund", "amount": "500.00"}, Extent.UNKNOWN),
        ({"reason": "Refund", "quantity": 1}, Extent.UNKNOWN),
        ({}, Extent.UNKNOWN),
    ],
)
def test_a_call_that_names_no_part_reverses_all(request_: dict[str, Json], expected: Extent) -> None:
    """It is documented so; a request that is not there says nothing. What was redeemed does not change it."""
    answer = answered(ANSWER, request_)

    assert isinstance(answer, Notice)
    assert expected is answer.event.extent
    assert (completed(answer.event, redeemed_event()).extent is Extent.FULL) is (expected is Extent.FULL)


def test_an_answer_about_another_redemption_is_unfit() -> None:
    """The path says which it has to be; the case of a UUID's digits is of no account."""
    mine = "550e8400-e29b-41d4-a716-44665544000a"

    assert Unfit("wrong_shape", "redemption_id is not the one in the path") == answered(ANSWER, path=OTHER)
    assert Unfit("wrong_shape", "redemption_id is missing") == answered({**ANSWER, "redemption_id": None})
    assert Unfit("wrong_shape", "id is missing") == answered({**ANSWER, "id": None})
    assert isinstance(answered({**ANSWER, "redemption_id": mine}, path=mine.upper()), Notice)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"reason": "\xfc" * 500}, []),
        ({"reason": None}, ["reason_length"]),
        ({"reason": ""}, ["reason_length"]),
        ({"reason": "x" * 501}, ["reason_length"]),
        ({"amount": None}, []),
        ({"amount": None, "quantity": None}, []),
        ({"amount": ""}, ["amount_malformed"]),
        ({"amount": "1e3"}, ["amount_malformed"]),
        ({"amount": "0.00"}, ["amount_not_positive"]),
        ({"amount": "0.000000000000000001"}, []),
        ({"amount": "123456789012.123456789012345678"}, []),
        ({"amount": "1" * 31}, ["amount_too_precise"]),
        ({"amount": "-0.0000000000000000001"}, ["amount_not_positive", "amount_too_precise"]),
        ({"quantity": 0}, ["quantity_not_positive"]),
        ({"id": REVERSAL.upper()}, []),
        ({"id": "rev_1"}, ["id_not_uuid"]),
        ({"redemption_id": f"{REDEMPTION}\n"}, ["id_not_uuid"]),
        ({"redemption_id": "\N{ARABIC-INDIC DIGIT THREE}" + REDEMPTION[1:]}, ["id_not_uuid"]),
    ],
)
def test_the_rules_for_a_reversal(changes: dict[str, Json], expected: list[str]) -> None:
    """What breaks one is kept as it is."""
    assert expected == list(breaches(reversed_event(**changes)))


def test_all_rules_at_once() -> None:
    """Each breach is told once, in the order of the rules, and says what is wrong."""
    wrong: dict[str, Json] = {"id": "1", "redemption_id": "2", "created_at": "2024-01-16T00:00:00Z", "quantity": -1}
    event = reversed_event(**wrong, reason="x" * 501, amount="1234567890123." + "0" * 19)
    said = [
        "data.created_at is 2024-01-16T00:00:00.000000Z, later than the delivery by more than the replay window",
        "the redemption's id is not a UUID; the reversal's id is not a UUID",
        "the reason has 501 characters; it has to have 1 to 500",
        "amount has 13 digits before the point and 19 behind it; 18 of 30 may be behind",
        "quantity is -1; it has to be above 0",
        "the amount reversed in all is 1234567890123.0000000000000000000, above the 1000.00 redeemed",
    ]

    assert said == list(breaches(event, redeemed_event()).values())


def test_the_rules_for_a_redemption() -> None:
    """Those about ids and amounts; it needs neither a reason nor an amount."""
    assert breaches(redeemed_event(amount=None, quantity=None)) == {}
    assert list(breaches(redeemed_event(id="r1", amount="many"))) == ["id_not_uuid", "amount_malformed"]
    assert list(breaches(redeemed_event(amount="0", quantity=0))) == ["amount_not_positive", "quantity_not_positive"]


@pytest.mark.parametrize(("ahead", "expected"), [(0, []), (300, []), (301, ["occurred_in_future"])])
def test_reversed_in_the_future(ahead: int, expected: list[str]) -> None:
    """Beyond the replay window only, which is how far clocks may differ."""
    assert expected == list(breaches(reversed_event(created_at=(RECEIVED + timedelta(seconds=ahead)).isoformat())))


def test_reversals_may_come_to_the_redemption_and_no_more() -> None:
    """The sum is exact; the message gives both."""
    before = redeemed_event(), reversed_event(id=OTHER, amount="999.999999999999999999", quantity=None)
    said = "the amount reversed in all is 1000.000000000000000001, above the 1000.00 redeemed"

    assert breaches(reversed_event(amount="0.000000000000000001"), *before) == {}
    assert breaches(reversed_event(amount="0.000000000000000002"), *before) == {"reversed_above_redemption": said}


@pytest.mark.parametrize(
    ("now", "earlier", "redeemed", "broken"),
    [
        ({"amount": "1000.01"}, None, {}, True),  # alone
        ({"amount": "600"}, {"id": REVERSAL, "amount": "600"}, {}, False),  # the same act, told twice
        ({"amount": "1001"}, {"id": REVERSAL, "amount": "1"}, {}, True),  # told twice, and now with more
        ({"amount": "600"}, {"amount": "600"}, {}, True),
        ({"amount": "600"}, {"amount": "6OO"}, {}, False),
        ({"amount": "600"}, {"amount": None, "quantity": 1}, {}, False),
        ({"amount": None, "quantity": 2}, {"amount": "1", "quantity": 1}, {}, True),
        ({"amount": None, "quantity": 1}, {"amount": "1", "quantity": 1}, {}, False),
        ({"amount": "600", "asset_id": OTHER}, {"amount": "600", "asset_id": OTHER}, {}, False),
        ({"amount": "600", "asset_id": POINTS}, {"amount": "600", "asset_id": OTHER}, {}, False),
        ({"amount": "600"}, {"amount": "600", "asset_id": OTHER}, {}, False),
        ({"amount": "600"}, {"amount": "600", "asset_id": POINTS}, {"asset_id": None}, True),
        ({"amount": "600", "asset_id": POINTS}, {"amount": "600"}, {}, True),
        ({"amount": "600"}, {"amount": "600"}, {"amount": "lots"}, False),
    ],
)
def test_reversed_above_the_redemption(
    now: dict[str, Json], earlier: dict[str, Json] | None, redeemed: dict[str, Json], broken: bool
) -> None:
    """Each act counts once, in the redemption's own asset, as far as amounts and quantities are known."""
    history = [redeemed_event(**redeemed)]
    if earlier is not None:
        history.append(reversed_event(**{"id": OTHER, "quantity": None, **earlier}))

    assert broken is ("reversed_above_redemption" in breaches(reversed_event(**{"quantity": None, **now}), *history))


def test_reversals_whose_assets_differ_have_no_sum() -> None:
    """Where the redemption does not say which of them is its own."""
    of_two = [reversed_event(id=OTHER, asset_id=OTHER, amount="600"), reversed_event(asset_id=POINTS, amount="600")]

    assert breaches(redeemed_event(asset_id=None), *of_two) == {}
    assert "reversed_above_redemption" not in breaches(redeemed_event(amount="600"), *of_two)


def test_a_redemption_told_late_is_held_against_its_reversals() -> None:
    """Both measures are told."""
    earlier = [reversed_event(amount="600", quantity=1), reversed_event(id=OTHER, amount="600", quantity=2)]
    said = "the amount reversed in all is 1200, above the 1000.00 redeemed; "
    said += "the quantity reversed in all is 3, above the 2 redeemed"

    assert breaches(redeemed_event(), *earlier) == {"reversed_above_redemption": said}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5) | st.just(Number("1.0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
amounts = st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,20})?", fullmatch=True)


@st.composite
def mutated(draw: st.DrawFn, *examples: dict[str, Json]) -> dict[str, Json]:
    """One of the examples with some of its members, or of its data's, left out or replaced by some JSON."""
    document = copy.deepcopy(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 3))):
        data = document.get("data")
        place = data if isinstance(data, dict) and data and draw(st.booleans()) else document
        if place:
            name = draw(st.sampled_from(sorted(place)))
            if draw(st.booleans()):
                place[name] = draw(json_values | amounts)
            else:
                del place[name]
    return document


def see_through(reading: object) -> None:
    """What the recorder does with a notice: it completes, judges and encodes the event, alone and after others."""
    if not isinstance(reading, Notice):
        assert isinstance(reading, Ignored | Unfit)
        return
    for history in ([], [reading.event], [redeemed_event(), reversed_event(id=OTHER)]):
        event = completed(reading.event, *history)
        assert isinstance(decode(event.data()), dict)
        past = Past.of(event.kind, event.type, event.effect, RECEIVED, 0, event.data())
        assert past == Past.from_event(event, RECEIVED, 0)
        assert isinstance(breaches(event, *history), dict)


@given(mutated(reversal(), redemption(), enveloped(IGNORED[0], {})))
def test_no_delivery_makes_it_raise(document: dict[str, Json]) -> None:
    """However far from the documented examples; and whatever is a notice can be recorded."""
    see_through(SCRIP.read(document))


@given(mutated(ANSWER), mutated(REQUEST))
def test_no_answer_makes_it_raise(answer: dict[str, Json], request: dict[str, Json]) -> None:
    """Nor a request."""
    see_through(answered(answer, request))
