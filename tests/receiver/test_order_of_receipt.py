"""Rules that go by an order go by that of receipt: what was read again out of quarantine is logged late."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from receiver import providers
from receiver.events import Event, Past, new_id
from receiver.fsck import fsck
from receiver.intake.batch import write_batch
from receiver.intake.endpoints import Endpoints
from receiver.intake.reprocessing import reprocess
from receiver.intake.submission import Status
from receiver.metrics import Metrics
from receiver.providers import Notice
from receiver.records.opening import Records
from receiver.records.sources import NewSource, add_source
from receiver.strictjson import parse
from tests.receiver.submissions import Source, altered
from translog.canonical import Value

EARLY = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
LATE = EARLY + timedelta(microseconds=1)


def batch(state: str) -> bytes:
    """A job that is done."""
    data = {"issuance_job_id": "job_1", "state": state}
    return json.dumps({"event": "reward_batch.completed", "timestamp": "2026-11-20T08:00:00Z", "data": data}).encode()


def job(state: str) -> bytes:
    """A job that is being taken back, or is."""
    return json.dumps({"type": f"issuance_job.{state}", "data": {"id": "job_1", "state": state}}).encode()


def points(what: str) -> bytes:
    """What happened to some pending points."""
    name = f"voucher.loyalty_card.pending_points.{what}"
    data = {"pending_points": {"id": "lopp_1", "points": 23}}
    return json.dumps({"type": name, "id": f"whs_{what}", "data": data}).encode()


JOBS = {
    "completed": batch("completed"),
    "failed": batch("failed"),
    "revoking": job("revoking"),
    "revoked": job("revoked"),
}
POINTS = {what: points(what) for what in ("canceled", "activated", "updated")}


def event(provider: str, body: bytes) -> Event:
    """The event that a body is read as."""
    reading = providers.get(provider).read(parse(body))
    assert isinstance(reading, Notice)
    return reading.event


def said(provider: str, body: bytes, received_at: datetime, *history: tuple[bytes, datetime]) -> list[tuple[str, str]]:
    """The rules that it breaks after those, the first of which is entry 17 of the log."""
    past = [Past.from_event(event(provider, one), at, 17 + place) for place, (one, at) in enumerate(history)]
    found = providers.get(provider).check(event(provider, body), received_at, 300, past)
    return [(breach.code, breach.message) for breach in found]


# ---- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "state"), list(itertools.product(JOBS, JOBS)))
def test_a_job_moves_on_or_stays_but_never_goes_back(before: str, state: str) -> None:
    """Any state may not have been told, or be told again; whichever of the two was logged first, it is the same."""
    may_follow = {
        "completed": ["completed", "revoking", "revoked"],
        "failed": ["failed", "revoking", "revoked"],
        "revoking": ["revoking", "revoked"],
        "revoked": ["revoked"],
    }
    expected = [] if state in may_follow[before] else ["illegal_transition"]

    assert [code for code, _ in said("thanx", JOBS[state], LATE, (JOBS[before], EARLY))] == expected
    assert [code for code, _ in said("thanx", JOBS[before], EARLY, (JOBS[state], LATE))] == expected
    assert [code for code, _ in said("thanx", JOBS[state], EARLY, (JOBS[before], EARLY))] == expected


def test_a_job_that_is_told_of_from_end_to_end() -> None:
    """What came in order breaks nothing, in whatever order it was logged."""
    received = {one: EARLY + timedelta(seconds=place) for place, one in enumerate(("completed", "revoking", "revoked"))}

    for *history, last in itertools.permutations(received):
        assert said("thanx", JOBS[last], received[last], *((JOBS[one], received[one]) for one in history)) == []


def test_an_illegal_transition_names_the_first_entry_that_contradicts_it() -> None:
    """And both states, in the order in which they were received."""
    revoked = (JOBS["revoked"], EARLY)
    [(_, late)] = said("thanx", JOBS["revoking"], LATE, (JOBS["completed"], EARLY), revoked, revoked)
    [(_, early)] = said("thanx", JOBS["revoked"], EARLY, (JOBS["completed"], EARLY), (JOBS["revoking"], LATE))

    assert late == "a job cannot be revoking after it was revoked, as entry 18 of the log says it was"
    assert early == "a job cannot be revoking, as entry 18 of the log says it was later, after it was revoked"


@pytest.mark.parametrize(
    ("last", "last_at", "first", "first_at", "expected"),
    [
        ("activated", LATE, "canceled", EARLY, "activated_after_cancellation: the points were canceled already"),
        ("activated", EARLY, "canceled", EARLY, "activated_after_cancellation: the points were canceled already"),
        ("activated", EARLY, "canceled", LATE, "canceled_after_activation: the points were canceled later"),
        ("canceled", LATE, "activated", EARLY, "canceled_after_activation: the points were activated already"),
        ("canceled", EARLY, "activated", EARLY, "canceled_after_activation: the points were activated already"),
        ("canceled", EARLY, "activated", LATE, "activated_after_cancellation: the points were activated later"),
    ],
)
def test_points_are_either_canceled_or_activated(
    last: str, last_at: datetime, first: str, first_at: datetime, expected: str
) -> None:
    """The breach says which came second; of what was received at once, that which was logged second."""
    [(code, message)] = said("voucherify", POINTS[last], last_at, (POINTS["updated"], EARLY), (POINTS[first], first_at))

    only_pending = "; only pending ones can be canceled" if code == "canceled_after_activation" else ""
    assert f"{code}: {message}" == f"{expected}, by entry 18 of the log{only_pending}"


def test_points_may_be_updated_before_and_after() -> None:
    """That excludes nothing."""
    for body in POINTS.values():
        assert said("voucherify", body, EARLY, (POINTS["updated"], EARLY), (POINTS["updated"], LATE)) == []
        assert said("voucherify", POINTS["updated"], EARLY, (body, EARLY), (body, LATE)) == []


# ---- read again -----------------------------------------------------------------------------------------------------


def source_of(records: Records, provider: str) -> Source:
    """A source of that provider, of the tenant `default`."""
    new = NewSource(new_id(), provider, "token", {"header": "x-signed"}, None)
    source_id = add_source(records, records.ensure_tenant("default"), new, new_id())
    endpoints = Endpoints(records, Metrics())
    asyncio.run(endpoints.refresh())
    return Source(records, next(one for one in endpoints.all() if one.source.id == source_id))


def read_later(source: Source, body: bytes, meanwhile: bytes) -> None:
    """Keep a delivery in quarantine, as a version did that knew less; record one received after it; read it again."""
    unread = altered(source.submission(b"{", EARLY), body=body).quarantined("unknown_type")
    [kept] = write_batch(source.records.database, [unread])
    write_batch(source.records.database, [source.submission(meanwhile, LATE)])
    outcome = reprocess(source.records, source.endpoint.tenant, kept.id)
    assert outcome is not None
    assert outcome.status is Status.RECORDED


def breaches(source: Source) -> list[Value]:
    """Those of each event, in the log's order; `receiver fsck` finds the same rules broken."""
    assert fsck(source.records).findings == ()
    return [leaf.facts["breaches"] for leaf in source.leaves() if "breaches" in leaf.facts]


@pytest.mark.parametrize(
    ("provider", "first", "later", "expected"),
    [
        ("thanx", "revoking", "revoked", []),
        ("thanx", "completed", "revoked", []),
        ("thanx", "revoked", "revoking", ["illegal_transition"]),
        ("voucherify", "canceled", "activated", ["activated_after_cancellation"]),
        ("voucherify", "activated", "canceled", ["canceled_after_activation"]),
    ],
)
def test_what_is_read_again_is_judged_by_when_it_came(
    records: Records, provider: str, first: str, later: str, expected: list[str]
) -> None:
    """Before what was logged meanwhile; a breach of the two is that of the one received later."""
    source, bodies = source_of(records, provider), JOBS | POINTS

    read_later(source, bodies[first], bodies[later])

    assert breaches(source) == [[], expected]


def test_what_comes_after_what_was_read_again(records: Records) -> None:
    """It sees all that was logged, each with the time of its receipt."""
    source = source_of(records, "thanx")
    read_later(source, JOBS["revoking"], JOBS["revoked"])

    write_batch(records.database, [source.submission(JOBS["completed"], LATE)])

    assert breaches(source) == [[], [], ["illegal_transition"]]
    assert "as entry" in source.rows()[-1].breaches


def test_the_order_of_receipt_within_a_batch(records: Records) -> None:
    """Two that were recorded together may have been received the other way around."""
    source = source_of(records, "thanx")

    write_batch(
        records.database, [source.submission(JOBS["revoked"], LATE), source.submission(JOBS["revoking"], EARLY)]
    )

    assert breaches(source) == [[], []]
