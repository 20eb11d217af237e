"""What a bundle says of itself in numbers: what its manifest counts and its report shows.

Nothing in here is personal, and nothing leads to an item: words and codes that stand in leaves, indexes, and counts.
Where a list could be as long as the export, its head is here with the number of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from receiver.exports.jobs import Job
from translog.canonical import Value
from translog.succession import Predecessor

LISTED = 100
"""The most indexes that are listed of anything."""

NONE = "none"
"""The effect of an event that has none, among the counted."""

UNTOLD = "untold"
"""What is counted for an event of which no cross-check is told."""


@dataclass(slots=True)
class Listed:
    """How many there are, and the indexes of the first `LISTED` of them, rising."""

    number: int = 0
    indexes: list[int] = field(default_factory=list[int])

    def add(self, index: int) -> None:
        """One more, with an index above all before it."""
        self.number += 1
        if len(self.indexes) < LISTED:
            self.indexes.append(index)


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of events: those of a period that were asked for; as in the manifest, keys sorted and no zeros."""

    events: int
    late: int
    erased: int
    entries: int
    """Leaves in the range."""
    by_breach: Mapping[str, int]
    by_cross_check: Mapping[str, int]
    """`UNTOLD` for those of which none is told."""
    by_effect: Mapping[str, int]
    """`NONE` for those without one."""
    by_provider: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Range:
    """The leaves that a bundle holds, [start, end), and the two that matter in it."""

    start: int
    first: int
    """The first leaf that was logged at or after the period's beginning."""
    end: int
    entry: int
    """The export's own."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a report needs. Times are texts as `receiver.events.format_time` writes them."""

    job: Job
    """What was asked for, when (`created_at`) and by whom."""
    tenant: str
    """Its name."""
    origin: str
    """Of the log."""
    size: int
    """Of the checkpoint: leaves."""
    root: bytes
    """Of the checkpoint, 32 bytes."""
    log_key: str
    """The log's vkey."""
    exports_key: str
    """The vkey that the manifest's note is signed by."""
    predecessors: Sequence[Predecessor]
    """Logs that this one goes on for, if the range reaches back to where it began."""
    previous: tuple[int, bytes] | None
    """Size and root of the checkpoint of the export before this one."""
    software: str
    """`rescind` and its version."""
    complete: bool
    """Complete; else a subset."""
    range: Range
    counts: Counts
    exclusions: Mapping[str, int]
    """By the five reasons, zeros included."""
    tallies: Mapping[str, Value]
    """The value of `tallies.json`: `days`, `gaps`, `cut_off`."""
    by_day: Mapping[str, Mapping[str, int]]
    """Events by day (UTC, `2026-07-01`) of the time that the basis names, then by effect (`NONE`); rising.

    Those that give no such time are left out: on the basis `occurred` the erased ones.
    """
    sources: Mapping[str, str]
    """The provider of each source that a leaf of the range names with its provider, by the source's id."""
    breaches: Mapping[str, Listed]
    """The events that break a rule, by its code."""
    cross_checks: Mapping[str, Listed]
    """The events by the state of their cross-check, `UNTOLD` included."""
    late: Listed
    """The late arrivals."""
    erased: Listed
    """The erased events."""
    issuer_gaps: Mapping[str, Listed]
    """Leaves of kind `gap` and state `open` from `first` on, by source: the leaves' indexes."""
