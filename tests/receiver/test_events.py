"""The vocabulary: times, identifiers, and the data that the log commits to."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver import events
from receiver.events import Effect, Event, Extent, Item, Kind, Past, format_time, new_id, parse_time
from receiver.strictjson import Number
from translog import canonical

EVENT = Event(
    kind=Kind.REVOCATION,
    type="receipt.revoked",
    item=Item("receipt", "3f0c"),
    effect=Effect.REVOKED,
    extent=Extent.FULL,
    account="7b1c",
    operation="3f0c",
    occurred_at=datetime(2026, 11, 20, 8, 59, 58, tzinfo=UTC),
    occurred_from="revoked_at",
    amount=None,
    quantity=None,
    reason=None,
    details={"receipt_type": "payment_receipt"},
)


def test_the_data_of_an_event_in_full() -> None:
    """The very bytes that the commitment `event` of an entry opens to."""
    assert EVENT.data() == (
        b'{"account":"7b1c","amount":null,"details":{"receipt_type":"payment_receipt"},"extent":"full",'
        b'"item":{"id":"3f0c","type":"receipt"},"occurred_at":"2026-11-20T08:59:58.000000Z",'
        b'"occurred_from":"revoked_at","operation":"3f0c","quantity":null,"reason":null}'
    )


def test_a_number_in_the_details_is_kept_as_its_literal() -> None:
    """So nothing is lost where canonical JSON has no place for it."""
    event = replace(EVENT, details={"rate": Number("1.10"), "parts": [Number("-0"), 7]})

    assert b'"details":{"parts":["-0",7],"rate":"1.10"}' in event.data()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.datetimes(timezones=st.just(UTC)))
def test_the_data_of_every_event_is_canonical(text: str, moment: datetime) -> None:
    """Whatever the strings, the data reads back as canonical JSON of the same members."""
    event = replace(EVENT, account=text, reason=text, item=Item("receipt", text), occurred_at=moment)

    data = canonical.decode(event.data())

    assert isinstance(data, dict)
    assert (text, text, {"id": text, "type": "receipt"}) == (data["account"], data["reason"], data["item"])
    assert format_time(moment) == data["occurred_at"]


def test_the_past_is_the_event_read_back() -> None:
    """A rule sees the same whether the earlier event comes from the records or from the same batch."""
    event = replace(EVENT, amount="500.00", quantity="1", details={"rate": Number("1.10")})

    received_at = datetime(2026, 11, 20, 9, 0, 0, 123456, tzinfo=UTC)
    past = Past.of(event.kind, event.type, event.effect, received_at, 17, event.data())

    assert Past.from_event(event, received_at, 17) == past
    assert past == Past(
        kind=Kind.REVOCATION,
        type="receipt.revoked",
        effect=Effect.REVOKED,
        received_at=datetime(2026, 11, 20, 9, 0, 0, 123456, tzinfo=UTC),
        log_index=17,
        extent=Extent.FULL,
        account=EVENT.account,
        operation="3f0c",
        occurred_at=datetime(2026, 11, 20, 8, 59, 58, tzinfo=UTC),
        amount="500.00",
        quantity="1",
        details={"rate": "1.10"},
    )


def test_the_past_may_have_no_time() -> None:
    """As an event may."""
    event = replace(EVENT, kind=Kind.CONTEXT, effect=None, occurred_at=None, occurred_from=None)

    received_at = datetime(2026, 11, 20, 9, tzinfo=UTC)

    assert Past.of(event.kind, event.type, event.effect, received_at, 0, event.data()).occurred_at is None


def test_events_are_frozen() -> None:
    """What was read does not change on its way."""
    with pytest.raises(AttributeError, match="immutable"):
        EVENT.type = "receipt.created"  # type: ignore[misc]


def test_which_effects_take_back() -> None:
    """Three do, two are under way, and the others deny it."""
    assert {effect for effect in Effect if effect.takes_back} == {"revoked", "canceled", "reversed"}
    assert {effect for effect in Effect if effect.under_way} == {"revoking", "canceling"}


@pytest.mark.parametrize(
    ("text", "formatted"),
    [
        ("2026-11-20T09:00:00Z", "2026-11-20T09:00:00.000000Z"),
        ("2026-11-20T09:00:00.1Z", "2026-11-20T09:00:00.100000Z"),
        ("2026-11-20T09:00:00.123456789Z", "2026-11-20T09:00:00.123456Z"),
        ("2026-11-20T09:00:00.999999999Z", "2026-11-20T09:00:00.999999Z"),
        ("2026-11-20T09:00:00.0000009+00:00", "2026-11-20T09:00:00.000000Z"),
        ("2026-11-20T09:00:00-00:00", "2026-11-20T09:00:00.000000Z"),
        ("2026-11-20T01:30:00.5+05:30", "2026-11-19T20:00:00.500000Z"),
        ("2026-12-31T23:59:59-23:59", "2027-01-01T23:58:59.000000Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_times_are_read_and_written_in_utc(text: str, formatted: str) -> None:
    """Any offset in, `Z` out; digits after the sixth are cut off, not rounded."""
    assert formatted == format_time(parse_time(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-20",
        "2026-11-20T09:00:00",
        "2026-11-20T09:00Z",
        "2026-11-20 09:00:00Z",
        "2026-11-20t09:00:00Z",
        "2026-11-20T09:00:00z",
        "20261120T090000Z",
        "2026-W47-5T09:00:00Z",
        "2026-324T09:00:00Z",
        "2026-11-20T09:00:00.Z",
        "2026-11-20T09:00:00,5Z",
        "2026-11-20T09:00:00.1234567890Z",
        "2026-11-20T09:00:00+0100",
        "2026-11-20T09:00:00+01",
        "2026-11-20T09:00:00+01:00:30",
        "2026-11-20T09:00:00+24:00",
        "2026-11-20T09:00:00-01:60",
        "2026-11-20T24:00:00Z",
        "2026-11-20T09:60:00Z",
        "2026-12-31T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "+2026-11-20T09:00:00Z",
        "2026-11-20T09:00:00Z ",
        "\n2026-11-20T09:00:00Z",
        "\uff12\uff10\uff12\uff16-11-20T09:00:00Z",
        "2026-11-20T09:00:0٣Z",
        "2026-11-20T09:00:00\ud800",
        "1795172325",
    ],
)
def test_what_is_not_a_time_with_a_zone_is_refused(text: str) -> None:
    """Everything that Python's own reader is more lenient about, and what no datetime can hold."""
    with pytest.raises(ValueError, match=r".") as refusal:
        parse_time(text)

    assert len(str(refusal.value)) < 200


@given(st.text(alphabet="0123456789-:T.Z+ ", max_size=40) | st.text(max_size=40))
def test_no_text_makes_another_error(text: str) -> None:
    """The answer is a moment in UTC or ValueError."""
    try:
        moment = parse_time(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)).filter(lambda moment: 1 < moment.year < 9999))
def test_a_time_survives_being_written(moment: datetime) -> None:
    """For any zone, to the microsecond, in 27 characters that sort as the moments do."""
    text = format_time(moment)

    # Compared in UTC: Python holds an hour that a zone skips or has twice for unequal to anything elsewhere.
    assert moment.astimezone(UTC) == parse_time(text)
    assert len(text) == 27


def test_a_time_without_a_zone_is_not_written() -> None:
    """It names no moment."""
    with pytest.raises(ValueError, match="has no zone"):
        format_time(datetime(2026, 11, 20))  # noqa: DTZ001 (that is the point)


def test_another_zone_is_brought_to_utc() -> None:
    """The moment is the same."""
    assert format_time(datetime(2026, 11, 20, 1, tzinfo=timezone(timedelta(hours=2)))) == "2026-11-19T23:00:00.000000Z"


def test_an_id_is_a_uuid_of_version_7_of_now() -> None:
    """RFC 9562: version and variant in their places, the time in the first 48 bits."""
    before = datetime.now(UTC)
    text = new_id()
    parsed = uuid.UUID(text)

    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs((parsed.int >> 80) - before.timestamp() * 1000) < 60_000


def many_ids(count: int) -> list[str]:
    """So many, one after the other."""
    return [new_id() for _ in range(count)]


def test_ids_are_in_order_in_all_threads() -> None:
    """Each thread's are strictly rising, and no two are alike."""
    with ThreadPoolExecutor(4) as pool:
        lots = list(pool.map(many_ids, [2000] * 4))

    assert all(lot == sorted(lot) for lot in lots)
    assert len({text for lot in lots for text in lot}) == 8000


def test_ids_rise_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """They count on from the last one, past the end of its millisecond if need be."""
    monkeypatch.setattr(events, "_last_tick", 0)
    clock = iter([2_000_000_999_999, 1_000_000_000_000, *[2_000_000_999_999] * 10])
    monkeypatch.setattr("receiver.events.time.time_ns", lambda: next(clock))

    ids = [new_id() for _ in range(12)]

    counted = ["0000001e-8480-7fff", *[f"0000001e-8481-7{count:03x}" for count in range(11)]]
    assert counted == [text[:18] for text in ids]
