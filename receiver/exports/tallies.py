"""What `tallies.json` says: what came, by source and day; when nobody counted; and what the period's edges cut off.

    tallies = Tallies(since, until)
    tallies.tally(facts)          the facts of each leaf of kind `tally` in the range, in the log's order
    tallies.event(occurred_at)    each event of the bundle; None if it says no time, or was erased
    tallies.outside(before, after)
    tallies.encode()

The leaves count deliveries at times that no clock's hour ends at, and each says from when until when it counted. So
the sums of a day are of those that end on it, and an hour is covered if its every moment lies in one of them. One that
says `incomplete` is summed but covers nothing: what was counted in memory then is lost. All of it is stated in
`docs/export-format.md`, and nothing here reads a clock, a file or a database.

Times are texts of one form, which compare as the moments do; so hours are found in them without arithmetic, and what is
held grows with the days, the sources and the holes between tallies, not with how long a period is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

from receiver.events import format_time, parse_time
from translog.canonical import Value, encode

COUNTED = ("deliveries", "duplicate", "ignored", "mismatch", "quarantined", "recorded")
"""The members of a tally's `counts` that are numbers; `refused` is an object of them."""

_ON_THE_HOUR = ":00:00.000000Z"
_HOUR = timedelta(hours=1)


@dataclass(slots=True)
class _Day:
    """The sums of one source's tallies that end on one day."""

    counts: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    incomplete: bool = False


@dataclass(slots=True)
class _Source:
    """Since when a source is counted, and the times that its tallies cover, run together where they touch."""

    began: str
    covered: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def cover(self, start: str, end: str) -> None:
        """Add a tally's time. They mostly follow one another, so what is kept is a handful of pieces."""
        if start >= end:
            return
        if self.covered and self.covered[-1][0] <= start <= self.covered[-1][1]:
            first, last = self.covered.pop()
            start, end = first, max(last, end)
        self.covered.append((start, end))

    def holes(self, start: str, end: str) -> Iterator[tuple[str, str]]:
        """What of `[start, end)` is not covered, in order."""
        for first, last in sorted(self.covered):
            if first >= end:
                break
            if start < first:
                yield start, first
            start = max(start, last)
        if start < end:
            yield start, end


class Tallies:
    """The tallies of the period `[since, until)`, both as `receiver.events.format_time` writes them."""

    def __init__(self, since: str, until: str) -> None:
        self._since = since
        self._until = until
        self._days: dict[tuple[str, str], _Day] = {}
        self._sources: dict[str, _Source] = {}
        self._occurred = {"after": 0, "before": 0, "inside": 0, "undated": 0}
        self._outside = (0, 0)

    def tally(self, facts: Mapping[str, Value]) -> None:
        """Take in the facts of the next leaf of kind `tally`, whatever its time."""
        source_id, start, end = cast("str", facts["source"]), cast("str", facts["from"]), cast("str", facts["until"])
        incomplete = bool(facts["incomplete"])
        source = self._sources.setdefault(source_id, _Source(began=start))
        if not incomplete:
            source.cover(start, end)
        if self._since <= end < self._until:
            counts = cast("dict[str, Value]", facts["counts"])
            day = self._days.setdefault((end[:10], source_id), _Day())
            for name in COUNTED:
                day.counts[name] += cast("int", counts[name])
            day.refused.update(cast("dict[str, int]", counts["refused"]))
            day.incomplete |= incomplete

    def event(self, occurred_at: str | None) -> None:
        """Count one of the bundle's events by when it says it occurred."""
        if occurred_at is None:
            self._occurred["undated"] += 1
        elif occurred_at < self._since:
            self._occurred["before"] += 1
        elif occurred_at < self._until:
            self._occurred["inside"] += 1
        else:
            self._occurred["after"] += 1

    def outside(self, before: int, after: int) -> None:
        """Say how many events that are not here say they occurred inside: logged before the range, and after it."""
        self._outside = (before, after)

    def value(self) -> dict[str, Value]:
        """What `tallies.json` holds, as values; the same whenever it is asked."""
        before, after = self._outside
        return {
            "cut_off": {
                "events": dict[str, Value](self._occurred),
                "outside": {"logged_after": after, "logged_before": before},
            },
            "days": [_day(day, source, self._days[day, source]) for day, source in sorted(self._days)],
            "gaps": [
                {"from": start, "source": source, "until": end}
                for source in sorted(self._sources)
                for start, end in self._gaps(self._sources[source])
            ],
        }

    def encode(self) -> bytes:
        """`tallies.json`: canonical JSON, without a newline at the end."""
        return encode(self.value())

    def _gaps(self, source: _Source) -> list[tuple[str, str]]:
        """The hours not covered from end to end, run together, cut to the period and to where counting began."""
        start, gaps = max(self._since, source.began), list[tuple[str, str]]()
        for first, last in source.holes(start, self._until):
            first, last = max(_hour_of(first), start), self._end_of_hour(last)
            if gaps and first <= gaps[-1][1]:
                first = gaps.pop()[0]
            gaps.append((first, last))
        return gaps

    def _end_of_hour(self, moment: str) -> str:
        """The full hour at or after a moment that is not after the period, or the period's end if that is sooner."""
        hour = _hour_of(moment)
        if hour == moment:
            return moment
        if hour == _hour_of(self._until):
            return self._until
        return format_time(parse_time(hour) + _HOUR)


def _hour_of(moment: str) -> str:
    """When its hour began."""
    return moment[:13] + _ON_THE_HOUR


def _day(day: str, source: str, sums: _Day) -> Value:
    return {
        "day": day,
        **{name: sums.counts[name] for name in COUNTED},
        "incomplete": sums.incomplete,
        "refused": dict[str, Value](sums.refused),
        "source": source,
    }
