"""Facts of made-up exports, to see and test reports by: a quarter with something of everything, and one of nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from receiver.events import format_time
from receiver.exports.facts import NONE, UNTOLD, Counts, Facts, Listed, Range
from receiver.exports.jobs import Job, Query
from receiver.exports.tallies import Tallies
from translog.canonical import Value

EXPORT = "01a1f8b9-69f4-7e93-9abd-9eae38ede770"
ONE, OTHER = "01a1f8b9-0000-7000-8000-000000000001", "01a1f8b9-0000-7000-8000-000000000002"
SINCE, UNTIL = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
ASKED_AT = "2026-10-02T09:30:00.123456Z"
KEY = "log.example.com/rescind/log/default+c6bf07e5+AV/aUllDdmFyaW91cyBieXRlcyB0aGF0IGFyZSBubyBrZXk="


def query(**changes: Any) -> Query:
    """All of the quarter, as it was logged."""
    asked = Query(format_time(SINCE), format_time(UNTIL), "logged", None, tests=False, parquet=False)
    return replace(asked, **changes)


def job(asked: Query) -> Job:
    """Its job."""
    return Job(EXPORT, 1, 1, 9_000, "command", ASKED_AT, asked, b"", None)


def listed(*indexes: int) -> Listed:
    """These, all of them listed."""
    return Listed(len(indexes), list(indexes))


def by_day(first: date, number: int) -> dict[str, dict[str, int]]:
    """Events of that many days, with weekends, waves and some rare effects; a few days without any."""
    days: dict[str, dict[str, int]] = {}
    for day in range(number):
        when = first + timedelta(days=day)
        busy = 1 if when.weekday() > 4 else 4
        effects = {"revoked": busy * (5 + day * 7 % 11), "reversed": busy * (day * 5 % 7), "revoking": day % 4}
        effects |= {"refused": int(day % 17 == 3), NONE: int(day % 9 == 0)}
        if day % 29 != 7:
            days[when.isoformat()] = {name: many for name, many in sorted(effects.items()) if many}
    return days


def hourly(first: datetime, last: datetime, source: str, *, without: Iterable[int] = ()) -> list[dict[str, Value]]:
    """Tallies of a source for every hour; those of the numbers in `without` say that they are incomplete."""
    hours = int((last - first) / timedelta(hours=1))
    return [
        {
            "counts": {
                "deliveries": 8 + hour % 3,
                "duplicate": 1,
                "ignored": hour % 3,
                "mismatch": 0,
                "quarantined": 0,
                "recorded": 6,
                "refused": {"wrong_signature": 1},
            },
            "from": format_time(first + timedelta(hours=hour, minutes=31)),
            "incomplete": hour in without,
            "process": EXPORT,
            "source": source,
            "until": format_time(first + timedelta(hours=hour + 1, minutes=31)),
        }
        for hour in range(hours)
    ]


def tallies(asked: Query, leaves: Iterable[Mapping[str, Value]]) -> Mapping[str, Value]:
    """What they add up to."""
    told = Tallies(asked.since, asked.until)
    for leaf in leaves:
        told.tally(leaf)
    told.event(format_time(SINCE - timedelta(days=1)))
    told.event(None)
    told.outside(3, 2)
    return told.value()


def quarter(**changes: Any) -> Facts:
    """A quarter's facts, or what they are with these changes."""
    asked: Query = changes.pop("query", query())
    days = by_day(SINCE.date(), 92)
    by_effect: dict[str, int] = {}
    for effects in days.values():
        for name, many in effects.items():
            by_effect[name] = by_effect.get(name, 0) + many
    events = sum(by_effect.values())
    checked = {
        "absent": listed(77),
        "confirmed": Listed(events - 700, list(range(10, 110))),
        "contradicted": Listed(40, list(range(500, 540))),
        UNTOLD: Listed(659, list(range(600, 700))),
    }
    leaves = [
        *hourly(SINCE - timedelta(hours=1), UNTIL, ONE, without=[50, 51, 900]),
        *hourly(SINCE, UNTIL, OTHER),
    ]
    facts = Facts(
        job=job(asked),
        tenant="Acme Loyalty",
        origin="log.example.com/rescind/log/default",
        size=9_012,
        root=bytes(range(32)),
        log_key=KEY,
        exports_key=KEY.replace("default", "default/exports"),
        predecessors=(),
        previous=(4_000, bytes(reversed(range(32)))),
        software="rescind 0.1.0",
        complete=True,
        range=Range(start=4_001, first=4_002, end=9_000, entry=9_000),
        counts=Counts(
            events=events,
            late=0,
            erased=2,
            entries=4_999,
            by_breach={"reversed_too_much": 1, "taken_back_twice": 31},
            by_cross_check={state: its.number for state, its in checked.items()},
            by_effect=dict(sorted(by_effect.items())),
            by_provider={"scrip": events - 1_200, "truthlocks": 1_200},
        ),
        exclusions={"mismatches": 3, "other_providers": 0, "outside": 0, "quarantined": 12, "tests": 140},
        tallies=tallies(asked, leaves),
        by_day=days,
        sources={ONE: "scrip", OTHER: "truthlocks"},
        breaches={
            "reversed_too_much": listed(4_711),
            "taken_back_twice": Listed(31, list(range(4_100, 4_131))),
        },
        cross_checks=checked,
        late=listed(),
        erased=listed(4_020, 4_021),
        issuer_gaps={ONE: listed(5_000, 5_020, 5_300)},
    )
    return replace(facts, **changes)


def nothing(**changes: Any) -> Facts:
    """A period in which nothing came, of a log that had not begun."""
    asked: Query = changes.pop("query", query())
    facts = quarter(
        query=asked,
        previous=None,
        range=Range(start=0, first=0, end=1, entry=0),
        counts=Counts(0, 0, 0, 1, {}, {}, {}, {}),
        exclusions={"mismatches": 0, "other_providers": 0, "outside": 0, "quarantined": 0, "tests": 0},
        tallies=Tallies(asked.since, asked.until).value(),
        by_day={},
        sources={},
        breaches={},
        cross_checks={},
        erased=listed(),
        issuer_gaps={},
    )
    return replace(facts, **changes)
