"""What a check of the records came to: how much was looked at, and every fault, each in one line.

A database can be wrong in millions of places at once. The first 100 are listed, the others counted.
"""

from dataclasses import dataclass, field

MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault."""

    log: str
    """The log's origin; `records` for what belongs to no log."""
    place: str
    """The entry, tile, checkpoint or row: `entry 17`, `tile/0/000.p/18`, `row <id>`."""
    problem: str

    def __str__(self) -> str:
        return f"{self.log}: {self.place}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what was found."""

    logs: int
    entries: int
    tiles: int
    checkpoints: int
    deliveries: int
    findings: tuple[Finding, ...]
    """The first `MAX_LISTED` faults, in the order of the logs and their entries."""
    found: int
    """All faults, those that are not listed included."""
    remarks: tuple[str, ...]
    """What whoever looks into the faults, or relies on there being none, should know besides."""

    @property
    def summary(self) -> str:
        """What was looked at, in words."""
        numbers = (
            (self.logs, "log", "logs"),
            (self.entries, "entry", "entries"),
            (self.tiles, "tile", "tiles"),
            (self.checkpoints, "checkpoint", "checkpoints"),
            (self.deliveries, "delivery", "deliveries"),
        )
        return ", ".join(f"{number} {one if number == 1 else many}" for number, one, many in numbers)


@dataclass(slots=True)
class Draft:
    """A report in the making."""

    logs: int = 0
    entries: int = 0
    tiles: int = 0
    checkpoints: int = 0
    deliveries: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    remarks: list[str] = field(default_factory=list[str])

    def report(self) -> Report:
        """As it stands."""
        return Report(
            logs=self.logs,
            entries=self.entries,
            tiles=self.tiles,
            checkpoints=self.checkpoints,
            deliveries=self.deliveries,
            findings=tuple(self.findings),
            found=self.found,
            remarks=tuple(self.remarks),
        )


@dataclass(frozen=True, slots=True)
class Notes:
    """Where faults and remarks of one log are put down."""

    draft: Draft
    log: str

    def fault(self, place: str, problem: str) -> None:
        """Put a fault down, as `Finding` has it."""
        self.draft.found += 1
        if len(self.draft.findings) < MAX_LISTED:
            self.draft.findings.append(Finding(self.log, place, problem))

    def remark(self, text: str) -> None:
        """Put a remark down."""
        self.draft.remarks.append(f"{self.log}: {text}")
