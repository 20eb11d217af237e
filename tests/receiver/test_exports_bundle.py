"""A bundle, read again by the words of its specification: on both databases, for every basis, and after an erasure."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.events import format_time
from receiver.exports.building import build
from receiver.records.opening import Records
from receiver.records.tables import deliveries
from tests.receiver.claims import deliver
from tests.receiver.exporting import BEGINNING, Filled, bundle, fill, job, leaves, make
from tests.receiver.rereading import Bundle
from tests.receiver.service import revoked
from tests.receiver.submissions import RECEIVED_AT

NOTHING = {"mismatches": 0, "other_providers": 0, "outside": 0, "quarantined": 0, "tests": 0}


@pytest.fixture
def filled(records: Records) -> Filled:
    """A log with something of everything."""
    return fill(records)


def ids(bundle: Bundle) -> list[str]:
    """The ids of the events in it."""
    return [bundle.leaf(index).id for index in bundle.indexes]


# ---- what is in it --------------------------------------------------------------------------------------------------


def test_everything(filled: Filled, tmp_path: Path) -> None:
    """All events of the log but the tests, with what opens them; what is left out is counted by its reason."""
    path = tmp_path / "one.zip"
    asked = job(filled.records)
    built = build(filled.records, asked, path)
    found = Bundle(path, filled)

    assert tuple(ids(found)) == filled.events
    assert found.manifest["exclusions"] == {**NOTHING, "mismatches": 1, "quarantined": 1, "tests": 2}
    assert found.manifest["population"] == "complete"
    assert found.manifest["query"] == {"providers": None, "tests": False}
    assert found.manifest["asked"] == {"at": asked.created_at, "by": "command"}
    # The key's announcement, right before the export's entry, has its moment already: that is where the period ends.
    end = asked.log_index
    assert found.manifest["range"] == {"end": end, "entry": asked.log_index, "first": 0, "start": 0}
    assert found.manifest["previous"] is None
    assert (found.manifest["schema"], found.manifest["tenant"]) == ("rescind-export/v1", "default")
    assert (built.events, built.start, built.end) == (len(filled.events), 0, end)
    assert (built.size, path.stat().st_mode & 0o777) == (path.stat().st_size, 0o600)
    assert [path.name for path in tmp_path.iterdir()].count("one.zip") == 1
    assert "proof/indexes.json" not in found.files
    assert "proof/consistency.json" not in found.files


def test_what_came_is_in_the_payloads(filled: Filled, tmp_path: Path) -> None:
    """Each body and its headers as they were received."""
    found = Bundle(bundle(filled.records, tmp_path), filled)
    with filled.records.database.read() as tx:
        rows = {row.log_index: row for row in tx.execute(sa.select(deliveries))}

    for index, payload in zip(found.indexes, found.payloads, strict=True):
        row, delivery = rows[index], payload["delivery"]
        assert found.body(payload) == row.body
        assert delivery["headers"] == dict(json.loads(row.headers))


def test_the_table(filled: Filled, tmp_path: Path) -> None:
    """It has what the leaves and the events say; no text in it is a formula, and what must be quoted is."""
    found = Bundle(bundle(filled.records, tmp_path), filled)
    rows = found.table()

    for row, event in zip(rows, found.events, strict=True):
        leaf, own, facts = found.leaf(event["index"]), event["event"], found.leaf(event["index"]).facts
        public = ("received_at", "provider", "source", "event", "effect", "via", "scheme")
        names = ("account", "operation", "occurred_at", "extent", "amount", "quantity", "reason")
        expected: dict[str, Any] = {
            "index": str(event["index"]),
            "id": leaf.id,
            "logged_at": leaf.logged_at,
            "kind": leaf.kind,
            **{name: facts.get(name) for name in public},
            "item_type": own["item"]["type"],
            "item_id": own["item"]["id"],
            **{name: own[name] for name in names},
            "breaches": " ".join(map(str, facts.get("breaches", []))),  # pyright: ignore[reportArgumentType, reportUnknownArgumentType]
            "cross_check": event["stands"]["cross_check"],
            "test": "false",
            "erased": "false",
        }
        assert row == {name: _unformulated(value) for name, value in expected.items()}
    assert {row["item_id"] for row in rows} > {"'=1+1"}
    assert {row["amount"] for row in rows} == {"", "5.00", "'-20.00", "1.00"}
    assert '"\'=cmd|""/c calc""!A1,\r\n\u00e4"' in found.files["events.csv"].decode()


def _unformulated(text: str | None) -> str:
    return "" if text is None else "'" + text if text[:1] in {"=", "+", "-", "@"} else text


def test_where_cross_checks_stand(filled: Filled, tmp_path: Path) -> None:
    """The last one before the checkpoint's end, in the range or later; and none is made up."""
    records = filled.records
    found = Bundle(bundle(records, tmp_path), filled)
    checks = [(index, leaf) for index, leaf in leaves(records) if leaf.kind == "cross_check"]
    told = {leaf.facts["first"]: (leaf.facts["state"], index) for index, leaf in checks}
    stands = [(one["stands"]["cross_check"], one["stands"]["entry"]) for one in found.events]
    assert stands == [told.get(one, (None, None)) for one in filled.events]
    assert {"confirmed", "contradicted", None} <= {state for state, _ in stands}
    assert found.files["proof/later.jsonl"] == b""

    first, leaf = checks[0]
    early = Bundle(bundle(records, tmp_path, until=leaf.logged_at), filled)
    assert [(one["stands"]["cross_check"], one["stands"]["entry"]) for one in early.events] == stands
    assert early.range["end"] == first + 1
    assert [one["index"] for one in early.later()] == sorted(index for _, index in told.values() if index > first)


def test_tallies_and_report(filled: Filled, tmp_path: Path) -> None:
    """The tallies of the range are summed, and the report says what the manifest says."""
    found = Bundle(bundle(filled.records, tmp_path), filled)
    tallies = json.loads(found.files["tallies.json"])

    assert [day["deliveries"] for day in tallies["days"]] == [9, 9]
    assert {day["source"]: day["incomplete"] for day in tallies["days"]} == {
        filled.truthlocks.endpoint.source.id: False,
        filled.scrip.endpoint.source.id: True,
    }
    assert sum(tallies["cut_off"]["events"].values()) == len(filled.events)
    page = found.files["REPORT.html"].decode()
    assert found.manifest["export"] in page
    assert filled.tenant.log.origin in page
    assert b"verify.py" in found.files["README.txt"]


# ---- what was asked for ---------------------------------------------------------------------------------------------


def test_an_empty_period(filled: Filled, tmp_path: Path) -> None:
    """It shows that there was nothing: no line in any file, and the leaves beside the period."""
    for since, until in (
        (BEGINNING, "2000-01-02T00:00:00.000000Z"),
        (format_time(RECEIVED_AT - timedelta(days=900)), format_time(RECEIVED_AT - timedelta(days=800))),
    ):
        found = Bundle(bundle(filled.records, tmp_path, since=since, until=until), filled)
        assert found.range == {"start": 0, "first": 0, "end": 1, "entry": found.range["entry"]}
        assert (found.files["events.jsonl"], found.events, found.payloads, found.table()) == (b"", [], [], [])
        assert found.of("payloads/") == []
        assert found.manifest["exclusions"] == NOTHING
    _, last = list(leaves(filled.records))[-1]
    asked = job(filled.records, since=format_time_after(last.logged_at), until=format_time_after(last.logged_at, 2))
    found = Bundle(make(filled.records, asked, tmp_path), filled)
    assert found.range == {
        "start": asked.log_index - 1,
        "first": asked.log_index,
        "end": asked.log_index + 1,
        "entry": asked.log_index,
    }
    assert found.events == []


def format_time_after(moment: str, microseconds: int = 1) -> str:
    """So much later."""
    return format_time(datetime.fromisoformat(moment) + timedelta(microseconds=microseconds))


def test_every_period_of_a_log(filled: Filled, tmp_path: Path) -> None:
    """Whether it begins or ends at, right before or right after a leaf: exactly its events, and the leaves beside."""
    log = list(leaves(filled.records))
    events = {leaf.id: leaf.logged_at for _, leaf in log if leaf.id in filled.events}
    moments = sorted({leaf.logged_at for _, leaf in log})
    edges = sorted({format_time_after(moment, offset) for moment in moments[3::3] for offset in (-1, 0, 1)})
    for since, until in zip(edges, edges[4:], strict=False):
        found = Bundle(bundle(filled.records, tmp_path, since=since, until=until), filled)
        assert ids(found) == [its_id for its_id, at in events.items() if since <= at < until]
        times = [leaf.logged_at for _, leaf in leaves(filled.records)]
        assert all(at < since for at in times[: found.range["first"]])
        assert since <= times[found.range["first"]]
        assert times[found.range["end"] - 1] >= until
        assert all(at < until for at in times[: found.range["end"] - 1])


def test_a_filter_makes_a_subset(filled: Filled, tmp_path: Path) -> None:
    """Of the providers named; the others are counted, and the indexes of its events are listed."""
    found = Bundle(bundle(filled.records, tmp_path, providers=("scrip",)), filled)

    assert found.manifest["population"] == "subset"
    assert found.manifest["counts"]["by_provider"] == {"scrip": 3}
    assert found.manifest["exclusions"] == {
        **NOTHING,
        "mismatches": 1,
        "quarantined": 1,
        "tests": 2,
        "other_providers": 4,
    }
    assert json.loads(found.files["proof/indexes.json"]) == found.indexes
    nothing = Bundle(bundle(filled.records, tmp_path, providers=("thanx",)), filled)
    assert (nothing.events, nothing.files["proof/indexes.json"]) == ([], b"[]")


def test_tests_are_among_them_if_they_are_asked_for(filled: Filled, tmp_path: Path) -> None:
    """Then none is left out for being one."""
    found = Bundle(bundle(filled.records, tmp_path, tests=True), filled)

    assert set(ids(found)) == {*filled.events, *filled.tests}
    assert found.manifest["exclusions"]["tests"] == 0
    assert [row["test"] for row in found.table()].count("true") == len(filled.tests)


def test_late_arrivals(filled: Filled, tmp_path: Path) -> None:
    """On the basis `received` what was received in the period and logged after it comes last, up to the export."""
    since, until = format_time(RECEIVED_AT - timedelta(days=1)), format_time(RECEIVED_AT + timedelta(minutes=4))
    deliver(filled.truthlocks, revoked(), at=RECEIVED_AT - timedelta(hours=1))
    asked = job(filled.records, basis="received", since=since, until=until)
    found = Bundle(make(filled.records, asked, tmp_path), filled)

    log = dict(leaves(filled.records))
    expected = [
        index
        for index, leaf in log.items()
        if (leaf.kind in {"revocation", "context"} or leaf.facts.get("effect"))
        and since <= str(leaf.facts["received_at"]) < until
        and not leaf.facts["test"]
    ]
    assert found.indexes == expected
    assert found.manifest["counts"]["late"] == sum(log[index].logged_at >= until for index in expected) > 0
    assert found.range["end"] == asked.log_index + 1
    assert found.manifest["exclusions"]["outside"] == 2
    assert found.manifest["population"] == "complete"


def test_by_when_they_occurred(filled: Filled, tmp_path: Path) -> None:
    """On the basis `occurred` it is a subset: what says another time is outside, and so is what says none."""
    found = Bundle(bundle(filled.records, tmp_path, basis="occurred", until="2026-11-20T09:00:00.000000Z"), filled)
    assert found.manifest["population"] == "subset"
    assert {event["event"]["occurred_at"] for event in found.events} == {"2026-11-20T08:59:58.000000Z"}
    assert found.manifest["exclusions"]["outside"] == 2  # the refused call, and one of the next day
    assert json.loads(found.files["tallies.json"])["cut_off"]["events"]["inside"] == len(found.events)


def test_events_that_the_edges_cut_off(filled: Filled, tmp_path: Path) -> None:
    """Those logged before and after the period that say they occurred in it are counted, though they are not here."""
    since, until = "2026-11-20T00:00:00.000000Z", "2026-11-20T10:00:00.000000Z"
    found = Bundle(bundle(filled.records, tmp_path, since=since, until=until), filled)

    assert found.events == []
    outside = json.loads(found.files["tallies.json"])["cut_off"]["outside"]
    assert outside == {"logged_after": len(filled.events) - 2, "logged_before": 0}
    log = list(leaves(filled.records))
    after = format_time_after(log[-1][1].logged_at)
    found = Bundle(
        bundle(filled.records, tmp_path, since=after, until=format_time_after(after), basis="received"), filled
    )
    assert json.loads(found.files["tallies.json"])["cut_off"]["outside"] == {"logged_after": 0, "logged_before": 0}


def test_the_export_before(filled: Filled, tmp_path: Path) -> None:
    """The log is shown to have only grown since its checkpoint."""
    first = job(filled.records)
    deliver(filled.truthlocks, revoked())
    found = Bundle(make(filled.records, job(filled.records, previous=first.checkpoint), tmp_path), filled)

    before = found.policy.open(first.checkpoint)
    assert found.files["proof/previous-checkpoint"] == first.checkpoint
    assert found.manifest["previous"] == {"root": before.root.hex(), "size": before.size}
    found.check_consistency()
