"""What is counted of a bundle's events while they go by, for the manifest and for the report."""

from collections import Counter
from collections.abc import Mapping

from receiver.exports.facts import NONE, UNTOLD, Counts, Listed
from receiver.exports.leaves import EventFacts
from receiver.exports.selection import REASONS


class Counting:
    """Counts events and what is left out, in the log's order."""

    def __init__(self) -> None:
        self.events = 0
        self.by_effect = Counter[str]()
        self.by_provider = Counter[str]()
        self.by_day = Counter[tuple[str, str]]()
        self.exclusions = Counter[str](dict.fromkeys(REASONS, 0))
        self.breaches: dict[str, Listed] = {}
        self.cross_checks: dict[str, Listed] = {}
        self.late = Listed()
        self.erased = Listed()
        self.issuer_gaps: dict[str, Listed] = {}
        self.sources: dict[str, str] = {}

    def event(self, index: int, facts: EventFacts, state: str | None, moment: str | None) -> None:
        """One more event, the state of its cross-check, and its time on the basis that was asked for."""
        effect = facts.effect or NONE
        self.events += 1
        self.by_effect[effect] += 1
        self.by_provider[facts.provider] += 1
        self.sources[facts.source] = facts.provider
        _list(self.cross_checks, state or UNTOLD, index)
        if moment is not None:
            self.by_day[moment[:10], effect] += 1
        for code in facts.breaches or ():
            _list(self.breaches, code, index)

    def gap(self, source: str, index: int) -> None:
        """One more entry of an issuer that nobody announced."""
        _list(self.issuer_gaps, source, index)

    def counts(self, entries: int) -> Counts:
        """The numbers of the manifest, for a range of so many leaves."""
        return Counts(
            events=self.events,
            late=self.late.number,
            erased=self.erased.number,
            entries=entries,
            by_breach={code: self.breaches[code].number for code in sorted(self.breaches)},
            by_cross_check={state: self.cross_checks[state].number for state in sorted(self.cross_checks)},
            by_effect=dict(sorted(self.by_effect.items())),
            by_provider=dict(sorted(self.by_provider.items())),
        )

    def days(self) -> Mapping[str, Mapping[str, int]]:
        """Events by day and effect, both rising."""
        days: dict[str, dict[str, int]] = {}
        for (day, effect), number in sorted(self.by_day.items()):
            days.setdefault(day, {})[effect] = number
        return days


def _list(lists: dict[str, Listed], name: str, index: int) -> None:
    listed = lists.get(name)
    if listed is None:
        listed = lists[name] = Listed()
    listed.add(index)
