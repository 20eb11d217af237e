"""`tallies.json`, worked out once more from the leaves that it sums up.

Moments are microseconds here, so that hours can be counted; as texts they are what the leaves have.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from translog.bundle.entries import ENTRIES
from translog.bundle.reading import boolean, decoded, members, number, text, time
from translog.canonical import Value
from translog.errors import BundleError

__all__ = ["MAX_SIZE", "NAME", "Tally", "check", "read"]

NAME = "tallies.json"
MAX_SIZE = 1 << 28
"""Bytes of the file, the most that are read: hundreds of sources for years."""

_PARTS = ("duplicate", "ignored", "mismatch", "quarantined", "recorded")
_OCCURRED = ("after", "before", "inside", "undated")
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_HOUR = 3_600_000_000


class Tally(NamedTuple):
    """What a leaf of kind `tally` says."""

    source: str
    start: str
    until: str
    incomplete: bool
    counts: Counter[str]
    refused: Counter[str]


def read(index: int, facts: dict[str, Value]) -> Tally:
    """The tally with these facts, at that index. Raises `BundleError` if they are none, or do not add up."""
    place = f"{ENTRIES} entry {index}"
    said = members(place, facts, "counts", "from", "incomplete", "process", "source", "until")
    counts = members(place, said["counts"], *_PARTS, "deliveries", "refused")
    tally = Tally(
        source=text(place, said["source"]),
        start=time(place, said["from"]),
        until=time(place, said["until"]),
        incomplete=boolean(place, said["incomplete"]),
        counts=Counter({name: number(place, counts[name]) for name in (*_PARTS, "deliveries")}),
        refused=Counter({name: number(place, one) for name, one in members(place, counts["refused"]).items()}),
    )
    parts = sum(tally.counts[name] for name in _PARTS) + tally.refused.total()
    if tally.counts["deliveries"] != parts:
        raise BundleError(place, f"it counts {tally.counts['deliveries']} deliveries, and what became of {parts}")
    return tally


def check(data: bytes, tallies: Sequence[Tally], occurred: Counter[str], since: str, until: str) -> dict[str, Value]:
    """Compare `tallies.json` with these tallies of the range, and with when its events occurred; what it says.

    `occurred` are numbers of events that did so before, in and after the period [since, until), or say nothing of it.
    Raises `BundleError`.
    """
    said = members(NAME, decoded(NAME, data), "cut_off", "days", "gaps")
    days: list[Value] = [_as_value(day) for day in _days(tallies, since, until)]
    _compare(f"{NAME} days", said["days"], days)
    _compare(f"{NAME} gaps", said["gaps"], list(_gaps(tallies, since, until)))
    cut_off = members(f"{NAME} cut_off", said["cut_off"], "events", "outside")
    for name in _OCCURRED:
        found = members(f"{NAME} cut_off.events", cut_off["events"], *_OCCURRED)[name]
        if found != occurred[name] or isinstance(found, bool):
            raise BundleError(f"{NAME} cut_off.events.{name}", f"it is {found!a}; there are {occurred[name]}")
    outside = members(f"{NAME} cut_off.outside", cut_off["outside"], "logged_after", "logged_before")
    for name, one in outside.items():
        number(f"{NAME} cut_off.outside.{name}", one)
    return said


def _compare(place: str, said: Value, found: list[Value]) -> None:
    if said != found or str(said) != str(found):  # True equals 1
        rows = said if isinstance(said, list) else []
        at = next((i for i, (a, b) in enumerate(zip(rows, found, strict=False)) if a != b), min(len(rows), len(found)))
        raise BundleError(f"{place}[{at}]", "it is not what the tallies among the entries give")


# ---- days -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Day:
    """The tallies of a source that end on a day, summed."""

    day: str
    source: str
    incomplete: bool = False
    counts: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])


def _days(tallies: Sequence[Tally], since: str, until: str) -> list[_Day]:
    days: dict[tuple[str, str], _Day] = {}
    for tally in tallies:
        if since <= tally.until < until:
            place = tally.until[:10], tally.source
            day = days.setdefault(place, _Day(*place))
            day.incomplete = day.incomplete or tally.incomplete
            day.counts.update(tally.counts)
            day.refused.update(tally.refused)
    return [days[place] for place in sorted(days)]


def _as_value(day: _Day) -> Value:
    refused: dict[str, Value] = {name: day.refused[name] for name in sorted(day.refused)}
    sums: dict[str, Value] = {name: day.counts[name] for name in (*_PARTS, "deliveries")}
    said: dict[str, Value] = {"day": day.day, "incomplete": day.incomplete, "refused": refused, "source": day.source}
    return {name: both[name] for both in [{**said, **sums}] for name in sorted(both)}


# ---- gaps -----------------------------------------------------------------------------------------------------------


def _gaps(tallies: Sequence[Tally], since: str, until: str) -> Iterator[Value]:
    """By source and time, the hours of the period that are not covered, run together."""
    by_source: dict[str, list[Tally]] = {}
    for tally in tallies:
        by_source.setdefault(tally.source, []).append(tally)
    for source in sorted(by_source):
        start, end = _moment(max(since, by_source[source][0].start)), _moment(until)
        whole = [one for one in by_source[source] if not one.incomplete and one.start < one.until]
        covered = sorted((_moment(one.start), _moment(one.until)) for one in whole)
        for low, high in _run_together(_whole_hours(_holes(covered, start, end)), start, end):
            yield {"from": _text(low), "source": source, "until": _text(high)}


def _holes(covered: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """What of [start, end) no piece covers; the pieces rise."""
    for low, high in covered:
        if start < min(low, end):
            yield start, min(low, end)
        start = max(start, high)
    if start < end:
        yield start, end


def _whole_hours(holes: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for low, high in holes:
        yield low - low % _HOUR, high + -high % _HOUR


def _run_together(pieces: Iterator[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Pieces that touch as one, cut to [start, end)."""
    found: list[tuple[int, int]] = []
    for low, high in pieces:
        low, high = max(low, start), min(high, end)
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], high
        else:
            found.append((low, high))
    return found


def _moment(at: str) -> int:
    return (datetime.fromisoformat(at) - _BEGINNING) // timedelta(microseconds=1)


def _text(moment: int) -> str:
    return (_BEGINNING + timedelta(microseconds=moment)).isoformat(timespec="microseconds")[:26] + "Z"
