"""Which leaves a bundle holds, and which of the events among them it is about.

`logged_at` never falls from leaf to leaf. So a period's first leaf, and the first one after it, are found by halving:
some twenty single entries are read of a log of a million, by their key. (Other kinds of leaves have no column with
their time; a leaf's own is the one that counts anyway.) `docs/export-format.md` has the rules.
"""

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from receiver.exports.facts import Range
from receiver.exports.jobs import Job, Query
from receiver.exports.leaves import EventFacts, Own
from translog.errors import LogDamaged
from translog.store import entries

QUARANTINED, MISMATCHES = "quarantined", "mismatches"
TESTS, OTHER_PROVIDERS, OUTSIDE = "tests", "other_providers", "outside"
REASONS = (QUARANTINED, MISMATCHES, TESTS, OTHER_PROVIDERS, OUTSIDE)
"""Why something of the range is not among the events."""

LOGGED, RECEIVED, OCCURRED = "logged", "received", "occurred"


class _Timed(msgspec.Struct):
    logged_at: str


_decode = msgspec.json.Decoder(_Timed).decode


def find_range(tx: sa.Connection, job: Job) -> Range:
    """The leaves that the job's bundle holds. Raises LogDamaged if an entry that is looked at is missing."""
    return range_in(tx, job.log_id, job.query, job.log_index)


def range_in(tx: sa.Connection, log_id: int, query: Query, entry: int) -> Range:
    """The same for an export whose own entry is that one of that log."""
    return range_of(query, entry, _times(tx, log_id))


def find_after(tx: sa.Connection, job: Job) -> int:
    """The first leaf that was logged after the period: the export's own entry if there is none before."""
    return _first_at(job.query.until, job.log_index, _times(tx, job.log_id))


def _times(tx: sa.Connection, log_id: int) -> Callable[[int], str]:
    def logged_at(index: int) -> str:
        data = tx.execute(
            sa.select(entries.c.data).where(entries.c.log_id == log_id, entries.c.index == index)
        ).scalar_one_or_none()
        if data is None:
            raise LogDamaged(f"entry {index} of log {log_id} is missing; `receiver fsck` lists what is wrong")
        return _decode(data).logged_at

    return logged_at


def range_of(query: Query, entry: int, logged_at: Callable[[int], str]) -> Range:
    """The same for an export whose own entry is that one, from the times of the leaves before it."""
    first = _first_at(query.since, entry, logged_at)
    after = _first_at(query.until, entry, logged_at)
    end = (after if query.basis == LOGGED else entry) + 1
    return Range(start=max(first - 1, 0), first=first, end=end, entry=entry)


def _first_at(moment: str, most: int, logged_at: Callable[[int], str]) -> int:
    """The first index below `most` whose leaf was logged at or after that moment; `most` if there is none."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if logged_at(middle) >= moment:
            high = middle
        else:
            low = middle + 1
    return low


def is_complete(query: Query) -> bool:
    """Whether a bundle of this query shows that no event of the period is missing; else it is a subset."""
    return query.providers is None and query.basis != OCCURRED


class Judge:
    """Decides about events by a query."""

    def __init__(self, query: Query) -> None:
        self._since, self._until = query.since, query.until
        self._basis, self._tests = query.basis, query.tests
        self._providers = None if query.providers is None else frozenset(query.providers)

    def moment(self, logged_at: str, facts: EventFacts, own: Own | None) -> str | None:
        """The event's time on the query's basis; None if it says none, or (`own` None) no longer does."""
        if self._basis == LOGGED:
            return logged_at
        if self._basis == RECEIVED:
            return facts.received_at
        return None if own is None else own.occurred_at

    def why_not(self, facts: EventFacts, own: Own | None, moment: str | None) -> str | None:
        """Why an event from the period's first leaf on, of that moment, is not in the bundle; None if it is."""
        if facts.test and not self._tests:
            return TESTS
        if self._providers is not None and facts.provider not in self._providers:
            return OTHER_PROVIDERS
        if moment is None:
            # Once it is erased, nobody can say that it occurred outside.
            return None if own is None else OUTSIDE
        return None if self._since <= moment < self._until else OUTSIDE

    def is_late(self, logged_at: str) -> bool:
        """Whether what was logged then came after the period."""
        return logged_at >= self._until

    def is_excluded(self, logged_at: str) -> bool:
        """Whether what was logged then, and is not in the bundle, is to be counted as left out of it."""
        return self._basis != LOGGED or logged_at < self._until
