"""What a bundle's chunks come to, and the manifest's numbers held against it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from translog.bundle import tallies
from translog.bundle.entries import Hashes
from translog.bundle.joining import Boxes
from translog.bundle.manifest import COUNTED, EXCLUDED, MANIFEST, Manifest
from translog.bundle.sums import Found
from translog.bundle.tallies import Tally
from translog.canonical import Value, encode
from translog.errors import BundleError

__all__ = ["Part", "Totals"]


class Part(NamedTuple):
    """What of a chunk is looked at once more, when all are there: its number of events, and as in `Found`."""

    events: int
    rows_are_right: bool


@dataclass(slots=True)
class Totals:
    """What all chunks show together. The first fault among the leaves and the first among the lines are kept."""

    leaf_error: BundleError | None = None
    error: BundleError | None = None
    hashes: list[Hashes] = field(default_factory=list[Hashes])
    parts: list[Part] = field(default_factory=list[Part])
    before: int = 0
    beyond: int | None = None
    logged_at: bytes = b""
    events: int = 0
    erased: int = 0
    late: int = 0
    exclusions: Counter[str] = field(default_factory=Counter[str])
    counted: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter[str]() for name in COUNTED})
    occurred: Counter[str] = field(default_factory=Counter[str])
    tallies: list[Tally] = field(default_factory=list[Tally])
    boxes: Boxes = field(default_factory=Boxes)
    erased_by: set[int] = field(default_factory=set[int])
    payload_lines: Counter[str] = field(default_factory=Counter[str])
    indexes: list[bytes] = field(default_factory=list[bytes])

    def add(self, found: Found) -> None:
        """One chunk more; they come in order."""
        self.hashes.append(found.hashes)
        self.leaf_error = self.leaf_error or found.leaf_error
        self.error = self.error or found.error
        if self.leaf_error is not None:
            return
        self.before += found.before
        self.beyond = found.beyond if self.beyond is None else self.beyond
        self.logged_at = found.logged_at
        if self.error is not None:
            return
        self._add_lines(found)
        try:
            self.tallies += [tallies.read(index, facts) for index, facts in found.tallies]
        except BundleError as error:
            self.leaf_error = error

    def _add_lines(self, found: Found) -> None:
        self.parts.append(Part(found.events, found.rows_are_right))
        self.events += found.events
        self.erased += found.erased
        self.late += found.late
        self.exclusions.update(found.exclusions)
        self.occurred.update(found.occurred)
        for name in COUNTED:
            self.counted[name].update(found.counted[name])
        self.boxes.add(found.boxes)
        self.erased_by |= found.erased_by
        self.payload_lines.update(found.payload_lines)
        if found.indexes:
            self.indexes.append(found.indexes)

    def check_range(self, manifest: Manifest) -> None:
        """Check that the leaves reach from the last before the period to the first after it. Raises `BundleError`."""
        place = f"{MANIFEST} range"
        first = manifest.start + self.before
        if first != manifest.first:
            raise BundleError(
                f"{place}.first",
                f"it is {manifest.first}, but of the entries here the first of the period, or after it, is {first}: "
                "others may be left out before it",
            )
        if manifest.question.basis == "logged" and self.beyond != manifest.end - 1:
            what = "none was logged after the period" if self.beyond is None else f"the first after it is {self.beyond}"
            raise BundleError(f"{place}.end", f"the last entry is {manifest.end - 1}, but {what}")

    def check_counts(self, manifest: Manifest) -> None:
        """Compare the manifest's numbers. Raises `BundleError`."""
        entries = manifest.end - manifest.start
        numbers = {"entries": entries, "erased": self.erased, "events": self.events, "late": self.late}
        found: dict[str, Value] = {**numbers, **{name: _as_value(self.counted[name]) for name in COUNTED}}
        for name in (*COUNTED, *numbers):
            _compare(f"{MANIFEST} counts.{name}", manifest.counts[name], found[name])
        for reason in EXCLUDED:
            _compare(f"{MANIFEST} exclusions.{reason}", manifest.exclusions[reason], self.exclusions[reason])


def _as_value(counter: Counter[str]) -> dict[str, Value]:
    return {name: counter[name] for name in sorted(counter) if counter[name]}


def _compare(place: str, said: Value, found: Value) -> None:
    if encode(said) != encode(found):
        raise BundleError(place, f"it is {encode(said).decode()[:200]}; counted are {encode(found).decode()[:200]}")
