"""`REPORT.html`: a bundle for people. One page that can be read, printed and kept, and that asks for nothing.

It has no script, no picture and no address in it: its charts are drawn as SVG, its style stands in its head, and it
forbids whatever opens it to fetch anything. What comes from outside (a tenant's name, a reason, a code) is escaped
wherever it is put. Nothing in it is personal, and nothing leads to an item: it shows what `Facts` hold, counts and
codes and indexes. The same facts give the same bytes.

Here the facts are brought into the order that the page has them in, lists cut to a length that can be read; the words
are in `report.html`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import cast

from jinja2 import Environment, StrictUndefined, Template

from receiver.events import Effect
from receiver.exports import charts
from receiver.exports.facts import NONE, Facts, Listed
from receiver.exports.tallies import COUNTED
from translog.canonical import Value

ROWS = 120
"""The most lines that a table of the page has, besides its sums."""

TERMS = ("recorded", "duplicate", "mismatch", "ignored", "quarantined", "refused")
"""What a delivery can become, in the order of the equation."""

STATES = ("confirmed", "contradicted", "absent", "pending", "none", "untold")
"""Of cross-checks, in the order that they are shown in."""

_INDEXES = 24


@dataclass(frozen=True, slots=True)
class Sums:
    """A line of the reconciliation: of a day, a month, or all of the period."""

    when: str
    deliveries: int
    terms: Mapping[str, int]
    incomplete: bool

    @property
    def adds_up(self) -> bool:
        """Whether deliveries are what became of them."""
        return self.deliveries == sum(self.terms.values())


@dataclass(frozen=True, slots=True)
class Counted:
    """What came by one source: in all, and day by day or month by month."""

    source: str
    total: Sums
    rows: Sequence[Sums]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The equation by source and time."""

    unit: str | None
    """`day` or `month`; None if only each source's sums are shown."""
    sources: Sequence[Counted]
    left_out: int
    """Sources that are not shown."""
    total: Sums
    """Of all sources."""
    refused: Sequence[tuple[str, int]]
    """By reason, of all sources."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Hours of a source that no tally covers."""

    source: str
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class EffectRow:
    """How many events say an effect, and what that says of the item: `taken back`, `under way`, `not taken back`, or
    nothing.
    """

    name: str
    number: int
    says: str
    bar: str
    """How long its bar is, of 100."""


def report(facts: Facts) -> bytes:
    """The page, in UTF-8."""
    tallies = facts.tallies
    page = _template().render(
        facts=facts,
        job=facts.job,
        query=facts.job.query,
        effects=_effects(facts.counts.by_effect),
        chart=charts.over_time(facts.by_day, facts.job.query.since, facts.job.query.until),
        width=charts.WIDTH,
        reconciled=_reconciled(cast("list[dict[str, Value]]", tallies["days"])),
        gaps=_gaps(cast("list[dict[str, str]]", tallies["gaps"])),
        cut_off=tallies["cut_off"],
        states=[(state, facts.cross_checks[state]) for state in STATES if state in facts.cross_checks],
        breaches=sorted(facts.breaches.items()),
        issuer_gaps=sorted(facts.issuer_gaps.items()),
        excluded=sum(facts.exclusions.values()),
        terms=TERMS,
        rows=ROWS,
    )
    return page.encode()


def number(value: int) -> str:
    """`1,000,000`."""
    return f"{value:,}"


def moment(text: str) -> str:
    """`2026-07-01 00:00 UTC`, with seconds only where there are any, and their fractions likewise."""
    for none in (".000000Z", ":00"):
        text = text.removesuffix(none)
    return text.removesuffix("Z").replace("T", " ") + " UTC"


def indexes(listed: Listed) -> str:
    """The first of them, and how many more there are."""
    shown = listed.indexes[:_INDEXES]
    more = listed.number - len(shown)
    return ", ".join(map(str, shown)) + (f" and {number(more)} more" if more else "")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update({"number": number, "moment": moment, "indexes": indexes})  # pyright: ignore[reportCallIssue, reportArgumentType]
    return environment.from_string(files("receiver.exports").joinpath("report.html").read_text("utf-8"))


def _effects(by_effect: Mapping[str, int]) -> list[EffectRow]:
    most = max(by_effect.values(), default=0)
    shown = [(name, by_effect[name]) for name in charts.EFFECTS if name in by_effect]
    return [EffectRow(name, times, _says(name), charts.share(times, most, 100)) for name, times in shown]


def _says(effect: str) -> str:
    if effect == NONE:
        return "nothing of whether it is taken back"
    if Effect(effect).takes_back:
        return "taken back"
    return "under way" if Effect(effect).under_way else "not taken back"


def _gaps(gaps: Iterable[Mapping[str, str]]) -> list[Gap]:
    return [Gap(one["source"], one["from"], one["until"]) for one in gaps]


# ---- the reconciliation --------------------------------------------------------------------------------------------


def _reconciled(days: Sequence[Mapping[str, Value]]) -> Reconciled:
    """Day by day, or month by month if that is too long, or the sources' sums if that is, too."""
    by_source = {
        source: list(its) for source, its in groupby(sorted(days, key=_source_and_day), key=lambda day: day["source"])
    }
    unit, rows = None, dict[Value, list[Sums]]()
    for name, length in (("day", 10), ("month", 7)):
        found = {source: _by(length, its) for source, its in by_source.items()}
        if sum(map(len, found.values())) <= ROWS:
            unit, rows = name, found
            break
    sources = [
        Counted(cast("str", source), _sums("in all", its), rows.get(source, [])) for source, its in by_source.items()
    ]
    refused = Counter[str]()
    for day in days:
        refused.update(cast("dict[str, int]", day["refused"]))
    return Reconciled(unit, sources[:ROWS], max(len(sources) - ROWS, 0), _sums("all", days), sorted(refused.items()))


def _source_and_day(day: Mapping[str, Value]) -> tuple[str, str]:
    return cast("str", day["source"]), cast("str", day["day"])


def _by(length: int, days: Sequence[Mapping[str, Value]]) -> list[Sums]:
    """One source's days, those together that begin with the same so many characters."""
    runs = groupby(days, key=lambda day: cast("str", day["day"])[:length])
    return [_sums(when, list(its)) for when, its in runs]


def _sums(when: str, days: Sequence[Mapping[str, Value]]) -> Sums:
    sums = {name: sum(cast("int", day[name]) for day in days) for name in COUNTED}
    sums["refused"] = sum(sum(cast("dict[str, int]", day["refused"]).values()) for day in days)
    return Sums(
        when=when,
        deliveries=sums["deliveries"],
        terms={name: sums[name] for name in TERMS},
        incomplete=any(day["incomplete"] for day in days),
    )
