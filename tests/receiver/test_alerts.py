"""What those on call are told of issuers' logs: a word for readiness, and numbers, by a name that is each log's own."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from receiver.assurance.alerts import Alerts
from receiver.assurance.progress import Track
from receiver.records.issuer_logs import IssuerLog, Naming
from receiver.records.opening import Records
from tests.receiver.issuing import POLICY


def track(number: int, origin: str | None, complete_at: datetime | None = None) -> Track:
    """A log that was complete then, or is now."""
    complete_at = complete_at or datetime.now(UTC)
    return Track(
        log=IssuerLog(f"https://issuer.example/{number}", POLICY.text, None, id=f"id{number}"),
        namings=(Naming("s", 1, "truthlocks", None, exclusive=False, grace=60, follow_every=10, starts_at=0),),
        wanted="[]",
        size=7,
        next_index=5,
        unreadable=3,
        origin=origin,
        created_at=complete_at,
        fetched_at=complete_at,
        complete_at=complete_at,
        next_at=None,
        failing_since=None,
        failure=None,
        forked_at=None,
        free=True,
    )


def samples(alerts: Alerts) -> dict[tuple[str, ...], float]:
    """What Prometheus is told of logs, by the metric's last word and the log's name."""
    registry = CollectorRegistry()
    registry.register(alerts)
    return {
        (sample.name.removeprefix("rescind_issuer_log_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name.startswith("rescind_issuer_log_")
    }


def test_nothing_is_wrong_where_nothing_is_followed(local: Records) -> None:
    """And nothing is counted."""
    alerts = Alerts(local, lambda: ())

    assert (alerts.word(), samples(alerts)) == ("ok", {})


def test_what_is_wrong_is_said_of_each_log(local: Records) -> None:
    """A fork first; of a stale log since when, and why if that is known."""
    old = datetime.now(UTC) - timedelta(hours=1)
    forked = replace(track(0, "a.example/log", old), forked_at=old)
    failing = replace(track(1, "b.example/log", old), failing_since=old, failure="it is broken")
    tracks = [failing, track(2, "c.example/log"), forked, track(3, None, old)]
    alerts = Alerts(local, lambda: tracks)

    since = old.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert alerts.word() == (
        f"forked: a.example/log; stale since {since}: b.example/log (it is broken); "
        f"stale since {since}: https://issuer.example/3"
    )
    found = samples(alerts)
    stale = {name: value for (what, name), value in found.items() if what == "stale_seconds"}
    assert stale["a.example/log"] == stale["c.example/log"] == 0
    assert stale["b.example/log"] >= 3600
    assert [found["forked", name] for name in ("a.example/log", "b.example/log")] == [1, 0]
    assert [found[what, "c.example/log"] for what in ("size", "next_index", "unreadable")] == [7, 5, 3]


def test_logs_that_call_themselves_the_same_are_told_apart(local: Records) -> None:
    """By their ids: a mirror is at another URL, or has another policy. What is gone is told of no more."""
    tracks: Sequence[Track] = [track(0, "a.example/log"), track(1, "a.example/log"), track(2, "b.example/log")]
    alerts = Alerts(local, lambda: tracks)

    both = {name for what, name in samples(alerts) if what == "size"}
    tracks = tracks[1:]
    after = {name for what, name in samples(alerts) if what == "size"}

    assert both == {"a.example/log id0", "a.example/log id1", "b.example/log"}
    assert after == {"a.example/log", "b.example/log"}
