"""What those on call are told of it: whether each issuer's log is followed, and what was found out, in numbers.

    rescind_issuer_log_forked{log}            1 once it has forked
    rescind_issuer_log_stale_seconds{log}     since when no look came to its end, if that is too long; else 0
    rescind_issuer_log_size{log}              entries of its newest verified checkpoint
    rescind_issuer_log_next_index{log}        the first that is not read yet
    rescind_issuer_log_unreadable{log}        entries of a wanted provider that could not be read
    rescind_cross_checks{state}               events by what is known of them now
    rescind_gaps_open{tenant}                 entries that no delivery told of

They are all made when they are asked for: a log that is followed no more is not among them, and one that is stale
becomes so by the time that passes. The last two are counted now and then, by `count`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from receiver.assurance.progress import Track
from receiver.events import CrossCheck, format_time
from receiver.records.opening import Records
from receiver.records.tables import checks, claims

COUNTED_EVERY = 5.0
"""Seconds between two counts; more where counting takes more than a hundredth of that."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """The rows there were."""

    cross_checks: Mapping[str, int] = field(default_factory=dict[str, int])
    gaps: Mapping[int, int] = field(default_factory=dict[int, int])
    """By a tenant's id."""


class Alerts(Collector):
    """Metrics and the word for `/health/ready`, of the logs that `tracks` gives. May be asked by any thread."""

    def __init__(self, records: Records, tracks: Callable[[], Sequence[Track]]) -> None:
        self._records = records
        self._tracks = tracks
        self._counted = _Counted()
        self._count_at = 0.0  # by the monotonic clock

    def word(self) -> str:
        """`ok`, or which logs have forked or are stale, since when and why."""
        now = datetime.now(UTC)
        named = _named(self._tracks())
        forked = [name for name, track in named if track.forked_at is not None]
        said = [f"forked: {', '.join(forked)}"] if forked else []
        for name, track in named:
            since = _stale_since(track, now)
            if since is not None:
                why = f" ({track.failure})" if track.failure else ""
                said.append(f"stale since {format_time(since)}: {name}{why}")
        return "; ".join(said) or "ok"

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As prometheus_client asks for them."""
        now = datetime.now(UTC)
        named = _named(self._tracks())

        def of_logs(name: str, what: str, value: Callable[[Track], float]) -> GaugeMetricFamily:
            family = GaugeMetricFamily(f"rescind_issuer_log_{name}", what, labels=("log",))
            for label, track in named:
                family.add_metric((label,), value(track))
            return family

        yield of_logs("forked", "1 once an issuer's log has forked.", lambda track: track.forked_at is not None)
        yield of_logs(
            "stale_seconds",
            "How long no look has come to the end of an issuer's log, if that is too long; else 0.",
            lambda track: 0.0 if (since := _stale_since(track, now)) is None else (now - since).total_seconds(),
        )
        yield of_logs("size", "Entries of an issuer's log, by its newest checkpoint.", lambda track: track.size)
        yield of_logs("next_index", "The first entry that is not read yet.", lambda track: track.next_index)
        yield of_logs("unreadable", "Entries that could not be read.", lambda track: track.unreadable)
        yield from self._counts()

    def _counts(self) -> Iterator[GaugeMetricFamily]:
        counted = self._counted
        states = GaugeMetricFamily("rescind_cross_checks", "Events by their cross-check.", labels=("state",))
        for state in CrossCheck:
            states.add_metric((state.value,), counted.cross_checks.get(state.value, 0))
        yield states
        gaps = GaugeMetricFamily("rescind_gaps_open", "Entries that no delivery told of.", labels=("tenant",))
        for tenant in self._records.tenants:
            gaps.add_metric((tenant.name,), counted.gaps.get(tenant.id, 0))
        yield gaps

    def count(self) -> None:
        """Count rows, if it is time for that. Waits for the database."""
        began = time.monotonic()
        if began < self._count_at:
            return
        with self._records.database.read() as tx:
            self._counted = _Counted(
                cross_checks={row.state: row.number for row in tx.execute(_CROSS_CHECKS)},
                gaps={row.tenant_id: row.number for row in tx.execute(_GAPS)},
            )
        now = time.monotonic()
        self._count_at = now + max(COUNTED_EVERY, 100 * (now - began))


def _named(tracks: Sequence[Track]) -> list[tuple[str, Track]]:
    """Each log with a name of its own: two that call themselves the same have their ids behind that."""
    times = Counter(track.name for track in tracks)
    return [(track.name if times[track.name] == 1 else f"{track.name} {track.log.id}", track) for track in tracks]


def _stale_since(track: Track, now: datetime) -> datetime | None:
    return None if track.forked_at is not None else track.stale_since(now)


_NUMBER = sa.func.count().label("number")
_CROSS_CHECKS: sa.Select[*tuple[Any, ...]] = sa.select(checks.c.state, _NUMBER).group_by(checks.c.state)
# An open gap has an id, which its index finds: any id sorts behind nothing.
_GAPS: sa.Select[*tuple[Any, ...]] = (
    sa.select(claims.c.tenant_id, _NUMBER)
    .where(claims.c.gap_id > "", claims.c.announced.is_(False))
    .group_by(claims.c.tenant_id)
)
