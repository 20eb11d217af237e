"""Where the bars of a report's charts are: numbers in, coordinates out; the page draws them as SVG.

Events over time are drawn as one strip for all of them and one for each effect, above one another on the same axis of
time, each with a scale of its own: so they can be told apart in print and without colours, and a rare effect is not
lost beside a common one. The axis has days, or months, or years, whichever there are few enough of to be seen.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from receiver.events import Effect, parse_time
from receiver.exports.facts import NONE

WIDTH = 680.0
"""Of what is drawn upon, between the labels of the vertical scale and the right edge."""
HIGH, LOW = 130.0, 30.0
"""The heights of the strip of all events, and of those of an effect."""

ALL = "all events"
EFFECTS = (*(effect.value for effect in sorted(Effect, key=lambda effect: not effect.takes_back)), NONE)
"""In the order that they are shown in: first what takes something back."""

_DAYS, _MONTHS = 93, 120
_TICKS = 8
_WIDEST = 48.0
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Bar:
    """One day, month or year in which there was something: a rectangle, from the upper left."""

    x: str
    y: str
    width: str
    height: str
    when: str
    number: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a strip's scale, by how far down it is, and the number of events that it stands for."""

    y: str
    number: int


@dataclass(frozen=True, slots=True)
class Strip:
    """The events of one kind over time."""

    name: str
    total: int
    most: int
    """In one day, month or year."""
    height: float
    bars: Sequence[Bar]
    lines: Sequence[Line]
    """Of the scale, from 0 up."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A label below the strips: where the day, month or year begins that it names."""

    x: str
    when: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Strips above one another, all over the same time."""

    unit: str
    """`day`, `month` or `year`: what a bar stands for."""
    first: str
    last: str
    """The first and the last of them on the axis."""
    whole: bool
    """Whether they are all of the period; else they reach from the first with an event to the last."""
    strips: Sequence[Strip]
    ticks: Sequence[Tick]


def over_time(by_day: Mapping[str, Mapping[str, int]], since: str, until: str) -> Chart | None:
    """The chart of `Facts.by_day` over the period, None if there is nothing to draw."""
    with_events = [day for day, numbers in by_day.items() if any(numbers.values())]
    if not with_events:
        return None
    first, last = parse_time(since).date(), (parse_time(until) - _INSTANT).date()
    whole = (last - first).days < _DAYS
    if not whole:
        first, last = date.fromisoformat(min(with_events)), date.fromisoformat(max(with_events))
    unit, names = _axis(first, last)
    places = {when: place for place, when in enumerate(names)}
    numbers: dict[str, Counter[str]] = {name: Counter() for name in (ALL, *EFFECTS)}
    for day, effects in by_day.items():
        when = day[: len(names[0])]
        for name, number in effects.items():
            if number:
                numbers[name][when] += number
                numbers[ALL][when] += number
    step = WIDTH / len(places)
    every = math.ceil(len(places) / _TICKS)
    return Chart(
        unit=unit,
        first=names[0],
        last=names[-1],
        whole=whole,
        strips=[
            _strip(name, numbers[name], places, step, HIGH if name == ALL else LOW) for name in numbers if numbers[name]
        ],
        ticks=[Tick(_text(place * step), when) for when, place in places.items() if place % every == 0],
    )


def share(number: int, most: int, width: float) -> str:
    """How long a bar is for a number, if one for `most` has that width; a number above 0 can be seen."""
    return _text(max(width * number / most, 1.0) if number else 0.0)


def scale(most: int) -> list[int]:
    """The numbers of a scale up to `most` or just above: from 0, at most six, in steps of 1, 2 or 5 times 10^k."""
    steps = (digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5))
    step = next(step for step in steps if 5 * step >= most)
    return list(range(0, most + step, step))


def _strip(name: str, numbers: Counter[str], places: Mapping[str, int], step: float, height: float) -> Strip:
    most = max(numbers.values())
    top = scale(most)[-1] if name == ALL else most
    gap = min(step / 5, 4.0)
    bars = list[Bar]()
    for when, number in sorted(numbers.items()):
        high = max(height * number / top, 1.0)
        x = places[when] * step + gap / 2
        bars.append(Bar(_text(x), _text(height - high), _text(min(step - gap, _WIDEST)), _text(high), when, number))
    lines = [Line(_text(height - height * one / top), one) for one in scale(most)] if name == ALL else []
    return Strip(name, numbers.total(), most, height, bars, lines)


def _axis(first: date, last: date) -> tuple[str, list[str]]:
    """What a bar stands for, and each of them by name: as much of the date as tells it from the others."""
    if (last - first).days < _DAYS:
        days = range(first.toordinal(), last.toordinal() + 1)
        return "day", [date.fromordinal(day).isoformat() for day in days]
    months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    if len(months) <= _MONTHS:
        return "month", [f"{month // 12:04}-{month % 12 + 1:02}" for month in months]
    return "year", [f"{year:04}" for year in range(first.year, last.year + 1)]


def _text(number: float) -> str:
    """A coordinate, to a hundredth."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
