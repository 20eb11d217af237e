"""What `tallies.json` says, against a slow re-reading of `docs/export-format.md` that looks at every minute."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from receiver.events import format_time
from receiver.exports.tallies import Tallies
from translog.canonical import Value, decode

BEGAN = datetime(2026, 6, 30, 22, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SPAN = 6 * 60
"""Minutes that random times are taken from: the last two hours of a month, and four of the next."""

NUMBERS = ("duplicate", "ignored", "mismatch", "quarantined", "recorded")


TIMES = [format_time(BEGAN + minute * MINUTE) for minute in range(SPAN + 1)]


def at(minute: int) -> str:
    """A time, by how many minutes it is after the beginning of all of them."""
    return TIMES[minute]


def facts(start: int, end: int, *, source: str = "one", incomplete: bool = False, **counts: int) -> dict[str, Value]:
    """Those of a tally's leaf; a name that is no term of the equation is a reason to refuse."""
    terms: dict[str, Value] = {name: counts.get(name, 0) for name in NUMBERS}
    refused: dict[str, Value] = {name: number for name, number in counts.items() if name not in NUMBERS}
    return {
        "counts": {**terms, "deliveries": sum(counts.values()), "refused": refused},
        "from": at(start),
        "incomplete": incomplete,
        "process": "p",
        "source": source,
        "until": at(end),
    }


def told(since: str, until: str, leaves: Sequence[dict[str, Value]]) -> Any:
    """The value, as whoever reads the file has it."""
    tallies = Tallies(since, until)
    for leaf in leaves:
        tallies.tally(leaf)
    assert decode(tallies.encode()) == tallies.value()
    return json.loads(tallies.encode())


def gaps(since: int, until: int, *leaves: dict[str, Value]) -> list[tuple[str, str]]:
    """Those of the one source, as they are told."""
    return [(one["from"], one["until"]) for one in told(at(since), at(until), leaves)["gaps"]]


# ---- the slow re-reading -------------------------------------------------------------------------------------------


def slow_days(since: str, until: str, leaves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`days`, each day and source looked for in all of the tallies."""
    inside = [leaf for leaf in leaves if since <= leaf["until"] < until]
    days: list[dict[str, Any]] = []
    for day, source in sorted({(leaf["until"][:10], leaf["source"]) for leaf in inside}):
        mine = [leaf for leaf in inside if leaf["until"].startswith(day) and leaf["source"] == source]
        reasons = {reason for leaf in mine for reason in leaf["counts"]["refused"]}
        days.append(
            {
                "day": day,
                "deliveries": sum(leaf["counts"]["deliveries"] for leaf in mine),
                **{name: sum(leaf["counts"][name] for leaf in mine) for name in NUMBERS},
                "incomplete": any(leaf["incomplete"] for leaf in mine),
                "refused": {
                    reason: sum(leaf["counts"]["refused"].get(reason, 0) for leaf in mine) for reason in reasons
                },
                "source": source,
            }
        )
    return days


def slow_gaps(since: str, until: str, leaves: Sequence[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """`gaps`, every minute of every hour looked for in all of the tallies."""
    for source in sorted({leaf["source"] for leaf in leaves}):
        mine = [leaf for leaf in leaves if leaf["source"] == source]
        whole = [leaf for leaf in mine if not leaf["incomplete"]]
        first = mine[0]["from"]
        run: dict[str, str] | None = None
        for hour in range(0, SPAN, 60):
            minutes = [at(one) for one in range(hour, hour + 60)]
            minutes = [one for one in minutes if since <= one < until and first <= one]
            if all(any(leaf["from"] <= one < leaf["until"] for leaf in whole) for one in minutes):
                if run is not None:
                    yield run
                run = None
                continue
            end = min(at(hour + 60), until)
            run = {"from": max(at(hour), since, first), "source": source, "until": end} if run is None else run
            run["until"] = end
        if run is not None:
            yield run


MINUTES = st.integers(0, SPAN)
COUNTS = st.dictionaries(st.sampled_from([*NUMBERS, "wrong_signature", "too_large"]), st.integers(0, 3))


@st.composite
def in_any_order(draw: st.DrawFn) -> list[dict[str, Value]]:
    """Tallies such as no receiver writes: overlapping, ending before they begin, of two sources."""
    sources = draw(st.lists(st.sampled_from(["one", "two"]), max_size=8))
    return [a_tally(draw, draw(MINUTES), draw(MINUTES), source) for source in sources]


@st.composite
def following_one_another(draw: st.DrawFn) -> list[dict[str, Value]]:
    """The tallies of one source as a receiver writes them: each begins where the last one ended."""
    times = sorted(draw(st.lists(MINUTES, min_size=2, max_size=12)))
    return [a_tally(draw, start, end, "one") for start, end in pairwise(times)]


def a_tally(draw: st.DrawFn, start: int, end: int, source: str) -> dict[str, Value]:
    """One of that source and time, with whatever counts."""
    incomplete = draw(st.sampled_from([False, False, True]))
    return facts(start, end, source=source, incomplete=incomplete, **draw(COUNTS))


@given(MINUTES, MINUTES, in_any_order() | following_one_another())
@example(0, SPAN, [])
@example(60, 60, [facts(0, 120)])
def test_it_says_what_the_slow_reading_says(one: int, other: int, leaves: list[dict[str, Value]]) -> None:
    """Of any tallies, also such as no receiver writes, and any period."""
    since, until = at(min(one, other)), at(max(one, other))

    value = told(since, until, leaves)

    assert slow_days(since, until, leaves) == value["days"]
    assert list(slow_gaps(since, until, leaves)) == value["gaps"]


@given(in_any_order())
def test_every_day_adds_up(leaves: list[dict[str, Value]]) -> None:
    """Deliveries are what became of them, summed."""
    for day in told(at(0), at(SPAN), leaves)["days"]:
        assert day["deliveries"] == sum(day[name] for name in NUMBERS) + sum(day["refused"].values())


@given(st.lists(st.none() | MINUTES), MINUTES, MINUTES)
def test_the_cut_off_counts_every_event_once(occurred: list[int | None], one: int, other: int) -> None:
    """Before, inside, after, or saying nothing."""
    since, until = min(one, other), max(one, other)
    tallies = Tallies(at(since), at(until))
    for minute in occurred:
        tallies.event(None if minute is None else at(minute))

    said = [minute for minute in occurred if minute is not None]
    expected = {
        "after": sum(minute >= until for minute in said),
        "before": sum(minute < since for minute in said),
        "inside": sum(since <= minute < until for minute in said),
        "undated": len(occurred) - len(said),
    }
    cut_off = json.loads(tallies.encode())["cut_off"]
    assert cut_off == {"events": expected, "outside": {"logged_after": 0, "logged_before": 0}}


# ---- the edges, one by one -----------------------------------------------------------------------------------------


def test_nothing_came_and_nobody_counted() -> None:
    """An empty period still has its file, byte for byte."""
    assert Tallies(at(0), at(60)).encode() == (
        b'{"cut_off":{"events":{"after":0,"before":0,"inside":0,"undated":0},"outside":{"logged_after":0,"logged_before":0}},'
        b'"days":[],"gaps":[]}'
    )


def test_what_is_outside_is_kept_as_it_is_given() -> None:
    """Before the range, and after it."""
    tallies = Tallies(at(0), at(60))
    tallies.outside(3, 5)

    assert json.loads(tallies.encode())["cut_off"]["outside"] == {"logged_after": 5, "logged_before": 3}


def test_a_tally_is_of_the_day_that_it_ends_on() -> None:
    """Though most of it was the day before; and one that ends with the period is of the next."""
    leaves = [facts(0, 120, recorded=2), facts(120, 180, recorded=4), facts(180, 240, recorded=8)]

    days = told(at(60), at(240), leaves)["days"]

    assert [(day["day"], day["recorded"]) for day in days] == [("2026-07-01", 6)]


def test_a_covered_hour_may_be_covered_by_several() -> None:
    """In whatever order they come."""
    assert gaps(0, 60, facts(0, 20), facts(20, 40), facts(40, 60)) == []
    assert gaps(0, 60, facts(0, 10), facts(40, 60), facts(10, 45)) == []
    assert gaps(0, 120, facts(0, 120), facts(30, 60)) == []


def test_a_minute_that_is_missing_makes_its_hour_a_gap() -> None:
    """The whole of it, and no other."""
    assert gaps(0, 240, facts(0, 89), facts(90, 240)) == [(at(60), at(120))]


def test_a_microsecond_that_is_missing_does() -> None:
    """No minute is looked at instead."""
    leaf = facts(0, 90)
    leaf["until"] = format_time(BEGAN + 90 * MINUTE - timedelta(microseconds=1))

    assert gaps(0, 180, leaf, facts(90, 180)) == [(at(60), at(120))]


def test_hours_that_touch_are_one_gap() -> None:
    """And hours that do not are two."""
    assert gaps(0, 360, facts(0, 50), facts(70, 190), facts(310, 360)) == [(at(0), at(120)), (at(180), at(360))]


def test_a_gap_is_cut_to_the_period() -> None:
    """At both ends."""
    assert gaps(30, 100, facts(0, 10)) == [(at(30), at(100))]
    assert gaps(30, 100, facts(0, 10), facts(40, 95)) == [(at(30), at(100))]
    assert gaps(30, 150, facts(0, 10), facts(40, 130)) == [(at(30), at(60)), (at(120), at(150))]


def test_a_source_is_missed_from_where_it_was_first_counted() -> None:
    """Before, it was not there; nor is what a later tally says of the time before that one of the first's."""
    assert gaps(0, 240, facts(130, 240)) == []
    assert gaps(0, 240, facts(130, 140), facts(150, 240)) == [(at(130), at(180))]
    assert gaps(0, 60, facts(60, 120)) == []


def test_an_incomplete_tally_is_summed_and_covers_nothing() -> None:
    """Also where it is the first one."""
    leaves = [facts(0, 90, incomplete=True, recorded=7), facts(90, 180)]

    value = told(at(0), at(180), leaves)

    assert [(day["recorded"], day["incomplete"]) for day in value["days"] if day["recorded"]] == [(7, True)]
    assert [{"from": at(0), "source": "one", "until": at(120)}] == value["gaps"]


def test_one_that_covers_it_as_well_makes_up_for_it() -> None:
    """Two receivers count side by side."""
    assert gaps(0, 120, facts(0, 120, incomplete=True), facts(0, 120)) == []


def test_the_last_hour_there_is_can_be_a_gap() -> None:
    """It has no next one."""
    since, until = "9999-12-31T22:00:00.000000Z", "9999-12-31T23:59:59.999999Z"

    value = told(since, until, [facts(0, 60)])

    assert [{"from": since, "source": "one", "until": until}] == value["gaps"]


def test_a_period_from_the_beginning_of_time_is_no_work() -> None:
    """Hours are not gone through one by one."""
    assert [
        {"from": at(0), "source": "one", "until": "9999-12-31T00:00:00.000000Z"},
    ] == told("0001-01-01T00:00:00.000000Z", "9999-12-31T00:00:00.000000Z", [facts(0, 30)])["gaps"]


def test_a_source_that_no_tally_names_is_not_missed() -> None:
    """Only what was counted once can be found not to be counted: here nobody ever listened, and nothing says so."""
    value = told(at(0), at(120), [])

    assert (value["gaps"], value["days"]) == ([], [])
