"""`REPORT.html`: what it says, that it asks for nothing, and that nothing in it is taken for markup."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from html.parser import HTMLParser
from itertools import chain, pairwise

import pytest

from receiver.exports.facts import UNTOLD, Counts, Facts, Listed
from receiver.exports.report import ROWS, TERMS, indexes, moment, report
from tests.receiver.reported import ONE, OTHER, SINCE, UNTIL, hourly, job, listed, nothing, quarter, query, tallies
from translog.canonical import Value

ALONE = {"meta", "br"}
"""Elements that have no end."""


@dataclass(eq=False)
class Element:
    """One of a page, with the text in it."""

    name: str
    attributes: dict[str, str]
    parents: tuple["Element", ...]
    text: str = ""

    def has(self, one: "Element") -> bool:
        """Whether that one is in it."""
        return self in one.parents


@dataclass
class Page(HTMLParser):
    """A page, taken apart; one whose elements do not nest cannot be."""

    source: str
    elements: list[Element] = field(default_factory=list[Element])

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Element(tag, {name: value or "" for name, value in attrs}, tuple(self.open))
        self.elements.append(found)
        if tag not in ALONE:
            self.open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        for one in self.open:
            one.text += data

    def all(self, *names: str, of: Element | None = None) -> list[Element]:
        """The elements of these names, in all of it or in one of them."""
        return [one for one in self.elements if one.name in names and (of is None or of.has(one))]

    def table(self, caption: str) -> list[list[str]]:
        """The cells of each row, its head left out, of the table whose caption begins so; none if there is none."""
        tables = [one.parents[-1] for one in self.all("caption") if one.text.startswith(caption)]
        [heads] = [self.all("thead", of=table) for table in tables] or [[]]
        rows = [row for table in tables for row in self.all("tr", of=table) if row.parents[-1] not in heads]
        return [[" ".join(cell.text.split()) for cell in self.all("th", "td", of=row)] for row in rows]

    @property
    def text(self) -> str:
        """All that can be read, in one line."""
        return " ".join(self.all("body")[0].text.split())


@cache
def parsed(data: bytes) -> Page:
    """A page, taken apart once."""
    return Page(data.decode())


def page(facts: Facts) -> Page:
    """The report on these facts."""
    return parsed(report(facts))


QUARTER = quarter()
SUBSET = replace(
    quarter(query=query(basis="occurred", providers=("scrip", "thanx"), tests=True)),
    complete=False,
    late=Listed(140, list(range(8_000, 8_100))),
)
RECEIVED = quarter(query=query(basis="received"), late=listed(8_990))
PAGES = [QUARTER, SUBSET, RECEIVED, nothing(), nothing(query=query(basis="occurred", tests=True), complete=False)]
of_each = pytest.mark.parametrize("facts", PAGES, ids=["complete", "subset", "received", "empty", "empty subset"])


# ---- what it says --------------------------------------------------------------------------------------------------


def test_it_says_in_big_words_whether_this_is_all() -> None:
    """In its title, and first of all; never both."""
    for facts, says, not_this in ((QUARTER, "COMPLETE", "SUBSET"), (SUBSET, "SUBSET", "COMPLETE")):
        told = page(facts)
        assert [says] == [one.text for one in told.all("strong", of=told.all("section")[0])]
        assert not_this not in told.text
        assert says.lower() in told.all("title")[0].text


@of_each
def test_it_says_what_it_does_not_show(facts: Facts) -> None:
    """In the words that are used everywhere."""
    text = page(facts).text

    assert "complete as to what Rescind recorded; complete as to what the provider did only where cross-checked" in text
    assert "Without witnesses an operator could still show two auditors two logs, or backdate." in text
    assert "An operator could leave out a delivery before it is logged" in text


@of_each
def test_it_says_what_was_asked(facts: Facts) -> None:
    """By whom, when, of which log, and up to where."""
    text = page(facts).text

    for said in (facts.tenant, facts.job.id, facts.origin, facts.log_key, facts.root.hex(), facts.software):
        assert said in text
    assert "from 2026-07-01 00:00 UTC up to, and without, 2026-10-01 00:00 UTC" in text
    assert "2026-10-02 09:30:00.123456 UTC" in text
    assert "the command line" in text
    assert (facts.job.query.providers is None) or "scrip, thanx" in text


def test_it_says_which_key_asked() -> None:
    """By its id: its name may be a person's."""
    assert f"the API key {ONE}" in page(quarter(job=replace(job(query()), asked_by=ONE))).text


def test_its_numbers_are_the_facts() -> None:
    """Those of the events, by everything that they are counted by."""
    facts = QUARTER
    cells = [one.text for one in page(facts).all("td")]
    counts = facts.counts

    for numbers in (counts.by_breach, counts.by_cross_check, counts.by_effect, counts.by_provider, facts.exclusions):
        for number in numbers.values():
            assert f"{number:,}" in cells
    assert cells.count(f"{counts.entries:,}") == 1


def test_every_entry_of_the_range_is_accounted_for() -> None:
    """As an event, as left out for a reason, or as something else; these add up."""
    facts = QUARTER

    numbers = [int(row[-1].replace(",", "")) for row in page(facts).table("Entries by what they are")]

    assert len(numbers) == 8
    assert sum(numbers[:-1]) == numbers[-1] == facts.range.end - facts.range.start


def test_an_empty_period_is_an_answer() -> None:
    """It says that nothing came, and that nobody is shown to have listened."""
    text = page(nothing()).text

    assert "There is no event that Rescind logged in this period" in text
    assert "Nothing here shows that anybody listened." in text
    assert page(nothing()).all("svg") == []


def test_what_is_late_is_said_of_the_basis() -> None:
    """On `logged` there is nothing late; on the others it is counted, with indexes."""
    assert "On the basis logged there are none" in page(QUARTER).text
    assert "1 event was received in the period and logged only after it" in page(RECEIVED).text
    assert "140 events were said to have occurred in the period" in page(SUBSET).text
    assert "None: no event that was received" in page(quarter(query=query(basis="received"))).text


def test_what_is_listed_is_cut() -> None:
    """The first of them, and how many more."""
    assert indexes(listed(3, 1_000)) == "3, 1000"
    assert indexes(Listed(1_024, list(range(100)))).endswith("22, 23 and 1,000 more")
    assert indexes(listed()) == ""


def test_times_are_as_short_as_they_are_exact() -> None:
    """Seconds only where there are any."""
    assert [moment(f"2026-07-01T00:00:{seconds}Z") for seconds in ("00.000000", "01.000000", "00.000001")] == [
        "2026-07-01 00:00 UTC",
        "2026-07-01 00:00:01 UTC",
        "2026-07-01 00:00:00.000001 UTC",
    ]


# ---- the reconciliation --------------------------------------------------------------------------------------------


def reconciled(facts: Facts) -> list[list[str]]:
    """The lines of the table: of each, when it was, and its numbers."""
    return page(facts).table("Deliveries by source")


def of_days(number: int, *sources: str) -> Facts:
    """Facts of that many days, with a tally of each source in every hour."""
    leaves = [leaf for source in sources for leaf in hourly(SINCE, SINCE + timedelta(days=number), source)]
    asked = query(until=f"{SINCE + timedelta(days=number):%Y-%m-%dT%H:%M:%S.%fZ}")
    return quarter(query=asked, tallies=tallies(asked, leaves), by_day={})


def test_each_line_adds_up() -> None:
    """Day by day, month by month, and in all."""
    for facts in (of_days(3, ONE), quarter(), of_days(2, *map(str, range(200)))):
        rows = [[int(cell.replace(",", "")) for cell in row[1:]] for row in reconciled(facts) if len(row) > 1]

        assert rows
        for deliveries, *terms in rows:
            assert len(terms) == len(TERMS)
            assert sum(terms) == deliveries


def test_days_are_shown_if_they_are_few() -> None:
    """Below the source that they are of, with its sum."""
    rows = reconciled(of_days(3, ONE))

    assert [f"{ONE} (scrip)", "2026-07-01", "2026-07-02", "2026-07-03", "in all"] == [row[0] for row in rows]
    assert "by source and day" in page(of_days(3, ONE)).text


def test_else_months_are() -> None:
    """And it says that the file has each day."""
    rows = [row[0] for row in reconciled(QUARTER)]

    assert [f"{ONE} (scrip)", "2026-07 *", "2026-08 *", "2026-09", "in all *"] == rows[:5]
    assert [f"{OTHER} (truthlocks)", "2026-07", "2026-08", "2026-09", "in all", "all *"] == rows[5:]
    assert "Days are summed up to months here; tallies.json has each of them." in page(QUARTER).text


def test_else_each_sources_sum_is() -> None:
    """As many as can be read; the last line counts those that are left out, too."""
    facts = of_days(1, *(f"source {number:03}" for number in range(ROWS + 30)))
    rows = reconciled(facts)

    assert "30 more sources are left out here" in page(facts).text
    assert len(rows) == 2 * ROWS + 1
    one, total = (int(rows[at][1].replace(",", "")) for at in (1, -1))
    assert (ROWS + 30) * one == total


def test_a_line_that_does_not_add_up_says_so() -> None:
    """Though the file would not verify then."""
    [day, *_] = _objects(QUARTER.tallies["days"])
    rows = reconciled(quarter(tallies={**QUARTER.tallies, "days": [{**day, "duplicate": 100}]}))

    assert [row[-1] for row in rows if len(row) > 1] == ["does not add up"] * 2
    assert "does not add up" not in page(QUARTER).text


def test_hours_without_a_tally_are_named() -> None:
    """The first of them, if they are many; one that ends with the period is marked."""
    assert [
        [f"{ONE} (scrip)"],
        ["2026-07-03 01:00 UTC", "2026-07-03 04:00 UTC", ""],
        ["2026-08-07 11:00 UTC", "2026-08-07 13:00 UTC", ""],
    ] == page(QUARTER).table("Hours that no tally")
    stopped = quarter(tallies=tallies(query(), hourly(SINCE, SINCE + timedelta(days=1), ONE)))
    [[_], (start, end, mark)] = page(stopped).table("Hours that no tally")
    assert (start, end, "end" in mark) == ("2026-07-02 00:00 UTC", "2026-10-01 00:00 UTC", True)

    hours = hourly(SINCE, UNTIL, ONE, without=range(0, 2_000, 4))
    told = page(quarter(tallies=tallies(query(), hours)))
    assert len(told.table("Hours that no tally")) == ROWS + 1
    assert f"the first {ROWS} of 500; tallies.json has all" in told.text


def test_refusals_are_summed_by_reason() -> None:
    """Of all sources."""
    assert page(QUARTER).table("Refused deliveries by reason") == [["wrong_signature", "4,415"]]


# ---- what it is ----------------------------------------------------------------------------------------------------


@of_each
def test_the_same_facts_give_the_same_bytes(facts: Facts) -> None:
    """And there are not many of them."""
    assert report(facts) == report(replace(facts))
    assert len(report(facts)) < 100_000


def test_it_stays_short_however_long_the_period() -> None:
    """Ten years, with two gaps in every day of a quarter of each."""
    asked = query(since="2016-10-01T00:00:00.000000Z")
    years = [hourly(SINCE.replace(year=year), UNTIL.replace(year=year), ONE)[::12] for year in range(2016, 2026)]

    assert len(report(quarter(query=asked, tallies=tallies(asked, chain.from_iterable(years))))) < 100_000


@of_each
def test_it_asks_for_nothing(facts: Facts) -> None:
    """No script, no address but within itself, nothing that loads; and nothing may be loaded."""
    told = page(facts)

    loading = {"script", "img", "link", "iframe", "object", "form", "image"}
    assert loading.isdisjoint(one.name for one in told.elements)
    assert all(one.attributes["href"].startswith("#") for one in told.all("a"))
    names = {name for one in told.elements for name in one.attributes}
    assert names.isdisjoint({"src", "srcset", "data", "style", "xlink:href", "action"})
    assert not [name for name in names if name.startswith("on")]
    [style] = told.all("style")
    assert re.search(r"url\(|@import|expression", style.text) is None
    policy = [one.attributes["content"] for one in told.all("meta") if "http-equiv" in one.attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


@of_each
def test_everybody_can_read_it(facts: Facts) -> None:
    """Its language is named, tables have captions and heads that say of what, charts a description, links an end."""
    told = page(facts)

    assert told.all("html")[0].attributes["lang"] == "en"
    ids = [one.attributes["id"] for one in told.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert {one.attributes["href"] for one in told.all("a")} <= {f"#{its}" for its in ids}
    for table in told.all("table"):
        assert [bool(one.text.strip()) for one in told.all("caption", of=table)] == [True]
    assert all(one.attributes["scope"] in {"row", "col", "rowgroup"} for one in told.all("th"))
    for svg in told.all("svg"):
        hidden = any(one.attributes.get("aria-hidden") == "true" for one in svg.parents)
        assert hidden or (svg.attributes["role"], svg.attributes["aria-labelledby"] in ids) == ("img", True)
    levels = [int(one.name[1]) for one in told.all("h1", "h2", "h3")]
    assert levels[:1] == [1]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


HOSTILE = """</title></style></svg><script>alert(1)</script><b id='x' onclick="y">&amp;&lt;{{ 7 * 7 }}{% raw %}"""


def test_what_comes_from_outside_is_never_markup() -> None:
    """Wherever it is put: it is read as it was given."""
    facts = quarter(query=query(providers=(HOSTILE,)))
    days: list[Value] = [{**day, "source": HOSTILE, "refused": {HOSTILE: 1}} for day in _objects(facts.tallies["days"])]
    gaps: list[Value] = [{**gap, "source": HOSTILE} for gap in _objects(facts.tallies["gaps"])]
    facts = replace(
        facts,
        job=replace(facts.job, id=HOSTILE, asked_by=HOSTILE),
        tenant=HOSTILE,
        origin=HOSTILE,
        log_key=HOSTILE,
        software=HOSTILE,
        complete=False,
        counts=replace(facts.counts, by_provider={HOSTILE: 1}),
        tallies={**facts.tallies, "days": days, "gaps": gaps},
        sources={HOSTILE: HOSTILE},
        breaches={HOSTILE: listed(1)},
        issuer_gaps={HOSTILE: listed(1)},
    )

    told = page(facts)

    plain = Counter(one.name for one in page(replace(QUARTER, complete=False)).elements)
    assert {one.name for one in told.elements} <= plain.keys()
    assert told.all("b") == []
    assert told.text.count(HOSTILE) >= 16
    assert HOSTILE in told.all("title")[0].text


def test_nothing_leads_to_an_item() -> None:
    """The facts have no place for it: what they hold in texts is of a closed list."""
    texts = {name for name, kind in Facts.__annotations__.items() if kind is str}

    assert {"tenant", "origin", "log_key", "exports_key", "software"} == texts
    assert Counts.__annotations__.keys() == {
        "events", "late", "erased", "entries", "by_breach", "by_cross_check", "by_effect", "by_provider"
    }  # fmt: skip
    assert UNTOLD in QUARTER.counts.by_cross_check


def _objects(value: Value) -> Sequence[dict[str, Value]]:
    assert isinstance(value, list)
    return [one for one in value if isinstance(one, dict)]
