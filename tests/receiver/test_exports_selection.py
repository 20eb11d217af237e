"""Which leaves a bundle holds, and which of the events among them: held to the words of the specification."""

import itertools
from collections.abc import Sequence

import pytest

from receiver.events import format_time
from receiver.exports.facts import Range
from receiver.exports.jobs import Query
from receiver.exports.leaves import EventFacts, Own, OwnItem
from receiver.exports.selection import Judge, is_complete, range_of
from tests.receiver.submissions import RECEIVED_AT

BASES = ("logged", "received", "occurred")
SINCE, INSIDE, UNTIL = "2026-11-20T00:00:00.000000Z", format_time(RECEIVED_AT), "2026-11-21T00:00:00.000000Z"
BEFORE, LAST = "2026-11-19T23:59:59.999999Z", "2026-11-20T23:59:59.999999Z"


def query(
    basis: str = "logged",
    since: str = SINCE,
    until: str = UNTIL,
    *,
    providers: tuple[str, ...] | None = None,
    tests: bool = False,
) -> Query:
    """What is asked for."""
    return Query(since, until, basis, providers, tests, parquet=False)


def read_again(asked: Query, times: Sequence[str]) -> Range:
    """The range as the specification puts it, of a log whose last leaf is the export's entry."""
    entry = len(times) - 1
    at_or_after_since = [index for index in range(entry) if times[index] >= asked.since]
    at_or_after_until = [index for index in range(entry) if times[index] >= asked.until]
    a = at_or_after_since[0] if at_or_after_since else entry
    b = at_or_after_until[0] + 1 if at_or_after_until else entry + 1
    return Range(start=0 if a == 0 else a - 1, first=a, end=b if asked.basis == "logged" else entry + 1, entry=entry)


@pytest.mark.parametrize("basis", BASES)
def test_the_range_of_every_small_log_and_period(basis: str) -> None:
    """Every log of up to five leaves at four moments, and every period that begins or ends at, before or after one."""
    moments = "1357"
    edges = "02468" + moments
    for size in range(5):
        for times in itertools.combinations_with_replacement(moments, size):
            for since, until in itertools.product(edges, repeat=2):
                if since < until:
                    log = [*times, "9"]
                    asked = query(basis, since, until)
                    assert range_of(asked, size, log.__getitem__) == read_again(asked, log), (log, since, until)


def test_the_export_entry_may_share_its_moment_with_the_end() -> None:
    """An export that is asked for at the moment that its period ends at is not inside, and is the one that shows it."""
    asked = query(since="1", until="3")
    assert range_of(asked, 1, ["2", "3"].__getitem__) == Range(start=0, first=0, end=2, entry=1)


def test_few_leaves_are_looked_at() -> None:
    """Of a million, forty."""
    looked: list[int] = []

    def logged_at(index: int) -> str:
        looked.append(index)
        return f"{index:07}"

    assert range_of(query(since="0250000", until="0750000"), 1_000_000, logged_at) == Range(
        start=249_999, first=250_000, end=750_001, entry=1_000_000
    )
    assert len(looked) <= 40


def test_what_is_complete() -> None:
    """Everything but what names providers, and what rests on the events' own times."""
    for basis, providers in itertools.product(BASES, (None, ("scrip",))):
        assert is_complete(query(basis, providers=providers)) == (basis != "occurred" and providers is None)


# ---- events ---------------------------------------------------------------------------------------------------------


def own(occurred_at: str | None) -> Own:
    """An event's own data that gives that time."""
    return Own(None, None, "full", OwnItem("a", "receipt"), occurred_at, None, None, None)


def why_not(
    asked: Query,
    *,
    logged_at: str = INSIDE,
    received_at: str = INSIDE,
    data: Own | None = None,
    test: bool | None = False,
) -> str | None:
    """Why that event is left out."""
    judge = Judge(asked)
    facts = EventFacts("scrip", "source", received_at, test=test)
    return judge.why_not(facts, data, judge.moment(logged_at, facts, data))


@pytest.mark.parametrize(
    ("moment", "reason"), [(BEFORE, "outside"), (SINCE, None), (INSIDE, None), (LAST, None), (UNTIL, "outside")]
)
def test_the_time_that_counts(moment: str, reason: str | None) -> None:
    """Each basis has its own, whatever the other two are; the period begins with its first moment."""
    far = "2027-01-01T00:00:00.000000Z"
    assert why_not(query("logged"), logged_at=moment, received_at=far, data=own(far)) == reason
    assert why_not(query("received"), logged_at=far, received_at=moment, data=own(far)) == reason
    assert why_not(query("occurred"), logged_at=far, received_at=far, data=own(moment)) == reason


def test_an_event_that_says_no_time() -> None:
    """On the basis `occurred` it is outside, unless that is because it was erased."""
    assert why_not(query("occurred"), data=own(None)) == "outside"
    assert why_not(query("occurred"), data=None) is None
    assert why_not(query("received"), data=None) is None


def test_the_first_reason_counts() -> None:
    """A test of another provider that is outside is a test."""
    asked = query("received", providers=("thanx",))
    assert why_not(asked, received_at=BEFORE, test=True) == "tests"
    assert why_not(asked, received_at=BEFORE, test=None) == "other_providers"
    assert why_not(query("received", providers=("scrip", "thanx")), received_at=BEFORE) == "outside"
    assert why_not(query("received", tests=True), test=True) is None


def test_late_arrivals_and_what_is_left_out() -> None:
    """On the basis `logged` what comes after the period is neither; on the others it is both."""
    for basis in BASES:
        judge = Judge(query(basis))
        assert [judge.is_late(moment) for moment in (LAST, UNTIL)] == [False, True]
        assert [judge.is_excluded(moment) for moment in (LAST, UNTIL)] == [True, basis != "logged"]
