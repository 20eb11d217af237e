"""Where the bars of a report's charts are: each as high as its number, in its place, and none lost."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.events import Effect, format_time
from receiver.exports.charts import ALL, EFFECTS, HIGH, WIDTH, Chart, over_time, scale, share
from receiver.exports.facts import NONE


def chart_of(by_day: dict[str, dict[str, int]], since: str, until: str) -> Chart:
    """The one that there must be, over a period of whole days, the second one without."""
    chart = over_time(by_day, *(format_time(datetime.fromisoformat(day).replace(tzinfo=UTC)) for day in (since, until)))
    assert chart is not None
    return chart


EFFECT = st.dictionaries(st.sampled_from(EFFECTS), st.integers(0, 10**6), max_size=3)
DAYS = st.dates(date(2020, 1, 1), date(2029, 12, 31)).map(date.isoformat)


@given(st.dictionaries(DAYS, EFFECT, max_size=20))
def test_every_event_is_drawn_once(by_day: dict[str, dict[str, int]]) -> None:
    """In the strip of all, and in that of its effect; none sticks out, and they follow one another."""
    numbers = [number for effects in by_day.values() for number in effects.values()]
    if not any(numbers):
        assert over_time(by_day, "2020-01-01T00:00:00.000000Z", "2030-01-01T00:00:00.000000Z") is None
        return

    chart = chart_of(by_day, "2020-01-01", "2030-01-01")

    assert chart.strips[0].name == ALL
    for strip in chart.strips:
        expected = sum(numbers) if strip.name == ALL else sum(one.get(strip.name, 0) for one in by_day.values())
        assert expected == strip.total == sum(bar.number for bar in strip.bars)
        assert strip.most == max(bar.number for bar in strip.bars)
        places = [(float(bar.x), float(bar.x) + float(bar.width)) for bar in strip.bars]
        assert sorted(places) == places
        assert places[0][0] >= 0
        assert places[-1][1] <= WIDTH + 0.02
        for bar in strip.bars:
            assert float(bar.y) >= -0.01
            assert float(bar.y) + float(bar.height) == pytest.approx(strip.height, abs=0.02)  # pyright: ignore[reportUnknownMemberType]
    assert sum(numbers) == sum(strip.total for strip in chart.strips[1:])


@given(st.integers(1, 10**12))
def test_a_scale_can_be_read(most: int) -> None:
    """A few round steps, from 0 to the most or just above it."""
    steps = scale(most)

    assert steps[0] == 0
    assert 2 <= len(steps) <= 6
    assert steps[-2] < most <= steps[-1]
    assert str(steps[1]).rstrip("0") in {"1", "2", "5"}


def test_the_axis_is_the_period_if_that_can_be_seen() -> None:
    """Also on its days without events."""
    chart = chart_of({"2026-07-02": {"revoked": 2}, "2026-07-03": {"revoked": 4}}, "2026-07-01", "2026-07-05")

    assert (chart.unit, chart.first, chart.last, chart.whole) == ("day", "2026-07-01", "2026-07-04", True)
    assert [tick.when for tick in chart.ticks] == ["2026-07-01", "2026-07-02", "2026-07-03", "2026-07-04"]
    [everything, revoked] = chart.strips
    assert [(bar.when, bar.number) for bar in everything.bars] == [("2026-07-02", 2), ("2026-07-03", 4)]
    assert [str(HIGH / 2).removesuffix(".0"), str(HIGH).removesuffix(".0")] == [bar.height for bar in everything.bars]
    assert revoked.name == "revoked"


def test_a_day_that_the_period_ends_in_is_on_the_axis() -> None:
    """And one that it ends with is not."""
    by_day = {"2026-07-01": {"revoked": 1}}
    since = "2026-07-01T08:00:00.000000Z"

    lasts = [
        over_time(by_day, since, until) for until in ("2026-07-03T00:00:00.000000Z", "2026-07-03T00:00:00.000001Z")
    ]

    assert [chart.last for chart in lasts if chart is not None] == ["2026-07-02", "2026-07-03"]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (92, ("day", "2026-01-01", "2026-04-03")),
        (93, ("month", "2026-01", "2026-04")),
        (5_000, ("year", "2026", "2039")),
    ],
)
def test_a_longer_time_is_drawn_by_month_or_year(days: int, expected: tuple[str, str, str]) -> None:
    """From the first with an event to the last."""
    last = (date(2026, 1, 1) + timedelta(days=days)).isoformat()
    chart = chart_of({"2026-01-01": {"revoked": 1}, last: {"revoked": 1}}, "0001-01-01", "9999-12-31")

    assert expected == (chart.unit, chart.first, chart.last)
    assert not chart.whole
    assert chart.strips[0].total == 2


def test_there_are_few_labels() -> None:
    """However many bars."""
    chart = chart_of({"0001-01-01": {"revoked": 1}, "9998-01-01": {"revoked": 1}}, "0001-01-01", "9999-01-01")

    assert len(chart.ticks) <= 8


def test_what_takes_something_back_comes_first() -> None:
    """And what says nothing last."""
    assert list(EFFECTS[:3]) == [Effect.REVOKED, Effect.CANCELED, Effect.REVERSED]
    assert EFFECTS[-1] == NONE
    assert {*Effect, NONE} == set(EFFECTS)


def test_a_rare_effect_can_be_seen() -> None:
    """One of a million is still there; none is not."""
    assert [share(number, 10**6, 100) for number in (10**6, 500_000, 1, 0)] == ["100", "50", "1", "0"]
