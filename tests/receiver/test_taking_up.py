"""Taking up: every event that can be checked gets its row, once, and again once its source has changed."""

import asyncio
import json
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.assurance import taking_up
from receiver.assurance.checking import sources_to_check, take_up
from receiver.assurance.taking_up import ToCheck
from receiver.events import Effect, Item, format_time
from receiver.fsck import fsck
from receiver.intake.endpoints import Endpoints
from receiver.metrics import Metrics
from receiver.records.credentials import set_credential
from receiver.records.engine import Database
from receiver.records.issuer_logs import Checking
from receiver.records.journal import Changing, change
from receiver.records.keyed import item_key, operation_key
from receiver.records.loss import Loss
from receiver.records.opening import Records
from receiver.records.recovery import recover
from receiver.records.tables import checks, taken_up
from tests.receiver.claims import (
    GRACE,
    ORGANIZATION,
    Issuer,
    changes,
    check,
    deliver,
    new_source,
    reconfigure,
    reversed_,
    state_of,
    told,
)
from tests.receiver.service import at_once
from tests.receiver.submissions import RECEIVED_AT, Source
from translog.checkpoint import Checkpoint
from translog.log import Log

GRACE_OVER = format_time(RECEIVED_AT + timedelta(seconds=GRACE))


@pytest.fixture
def issuer(records: Records) -> Issuer:
    """An issuer's log of which nothing is read yet."""
    return Issuer(records)


def to_check(records: Records) -> list[str]:
    """The ids of the sources that have something to be taken up."""
    with records.database.read() as tx:
        return [one.source_id for one in sources_to_check(tx)]


def take(source: Source) -> int:
    """Take up what there is of a source; how many events that were."""
    tenant = source.records.tenant("default")
    return take_up(source.records, tenant, ToCheck(source.endpoint.source.id, tenant.id))


def rows(records: Records) -> list[sa.Row[Any]]:
    """Every row of `checks`, in the order of their events."""
    with records.database.read() as tx:
        return list(tx.execute(sa.select(checks).order_by(checks.c.event_id)).all())


# ---- what is taken up -----------------------------------------------------------------------------------------------


def test_an_event_gets_its_row(issuer: Issuer) -> None:
    """With the keys that it is found by, due at once, and the end of its grace."""
    records = issuer.records
    source = issuer.source("scrip", ORGANIZATION)
    (event,) = deliver(source, reversed_("r1", "V1"))
    assert take(source) == 1

    hash_key = records.tenant("default").hash_key
    with records.database.read() as tx:
        row = dict(tx.execute(sa.select(checks)).mappings().one())
    assert row == {
        "event_id": event.id,
        "tenant_id": records.tenant("default").id,
        "source_id": source.endpoint.source.id,
        "issuer_log_id": issuer.id,
        "item_key": item_key(hash_key, "scrip", Item("redemption", "r1")),
        "operation_key": operation_key(hash_key, "scrip", "V1"),
        "state": "pending",
        "by": None,
        "late": False,
        "issuer_index": None,
        "finding_id": None,
        "since": None,
        "grace_over_at": GRACE_OVER,
        "due_at": "",
        "looks": 0,
    }


def test_what_takes_nothing_back_is_not_taken_up(issuer: Issuer) -> None:
    """Context, refusals, mismatches and what is in quarantine."""
    source = issuer.source("capillary", "1")
    badge = {"badgeMetaId": "m", "customerId": 1, "earnedBadgeId": "b1", "isActive": True}
    refused = {"type": "badge.revoked", "data": {"data": badge}}
    context = json.loads(reversed_("r1", "v1"))
    context = {**context, "type": "redemption.completed"}
    scrip = issuer.source("scrip", ORGANIZATION)
    deliver(source, json.dumps(refused).encode(), b"{")
    deliver(scrip, json.dumps(context).encode(), reversed_("r1", "v1"), reversed_("r1", "v1", "2"))

    assert (take(source), take(scrip)) == (0, 1)
    assert [row.source_id for row in rows(issuer.records)] == [scrip.endpoint.source.id]


def test_everything_is_taken_up_once(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, whatever lies between; what is too much for one call is for the next."""
    monkeypatch.setattr(taking_up, "PIECE", 2)
    monkeypatch.setattr(taking_up, "PIECES", 2)
    monkeypatch.setattr(taking_up, "WINDOW", 3)
    mine, other = issuer.source("scrip", ORGANIZATION), issuer.source("scrip", ORGANIZATION)
    ids = [one.id for one in deliver(mine, *(reversed_("r1", f"v{number}") for number in range(5)))]
    deliver(other, *(reversed_("r1", f"v{number}") for number in range(9)))
    ids += [one.id for one in deliver(mine, reversed_("r2", "v"))]

    taken = [take(mine) for _ in range(4)]

    assert sum(taken) == len(ids)
    assert taken[-1] == 0
    assert [row.event_id for row in rows(issuer.records)] == ids


def test_two_receivers_take_up_everything_once(issuer: Issuer) -> None:
    """Whoever comes second finds it taken up."""
    source = issuer.source("scrip", ORGANIZATION)
    ids = [one.id for one in deliver(source, *(reversed_("r1", f"v{number}") for number in range(20)))]

    at_once(4, lambda _: take(source))

    assert [row.event_id for row in rows(issuer.records)] == ids


def test_where_nothing_came_nothing_is_written(issuer: Issuer) -> None:
    """A look that finds nothing new leaves everything as it is."""
    source, other = issuer.source("scrip", ORGANIZATION), new_source(issuer.records, "scrip", None)
    deliver(source, reversed_("r1", "v1"))
    check(issuer.records)
    assert to_check(issuer.records) == []

    deliver(other, b"{")
    with issuer.records.database.read() as tx:
        before = tx.execute(sa.select(taken_up)).all()
    assert (take(source), take(other)) == (0, 0)
    with issuer.records.database.read() as tx:
        assert tx.execute(sa.select(taken_up)).all() == before


def test_a_piece_that_was_read_before_a_change_is_not_taken(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source may be checked against something else by then."""
    source = issuer.source("scrip", ORGANIZATION)
    check(issuer.records)
    deliver(source, reversed_("r1", "v1"))

    def changed_before(database: Database, log: Log) -> AbstractContextManager[Changing]:
        monkeypatch.undo()
        reconfigure(source, issuer.checking(grace=1))
        return change(database, log)

    monkeypatch.setattr(taking_up, "change", changed_before)
    assert (take(source), rows(issuer.records)) == (0, [])
    assert take(source) == 1

    (row,) = rows(issuer.records)
    assert row.grace_over_at == format_time(RECEIVED_AT + timedelta(seconds=1))


# ---- what there is to check against ---------------------------------------------------------------------------------


def test_sources_with_nothing_to_check_against(records: Records) -> None:
    """Are looked at once: then it is known that nothing of theirs is pending."""
    sources = [
        new_source(records, "scrip", None),
        new_source(records, "scrip", None, upstream="https://example.com"),  # without a credential
        new_source(records, "capillary", None, upstream="https://example.com"),  # which documents no record
    ]
    tenant = records.tenant("default")
    set_credential(records, tenant, sources[2].endpoint.source.id, [("x", "y")])
    for source in sources:
        deliver(source, reversed_("r1", "v1"))
    assert len(to_check(records)) == 3
    check(records)

    assert rows(records) == []
    deliver(sources[0], reversed_("r1", "v2"))
    assert to_check(records) == []


def test_the_providers_record_is_second_best(records: Records, issuer: Issuer) -> None:
    """A source with an upstream and a credential has its events checked against that, if it names no log."""
    source = new_source(records, "scrip", ORGANIZATION, upstream="https://example.com")
    set_credential(records, records.tenant("default"), source.endpoint.source.id, [("x", "y")])
    deliver(source, reversed_("r1", "v1"))
    check(records)
    assert [(row.issuer_log_id, row.due_at) for row in rows(records)] == [(None, "")]

    reconfigure(source, issuer.checking(), upstream="https://example.com")
    check(records)
    assert [(row.issuer_log_id, row.due_at) for row in rows(records)] == [(issuer.id, GRACE_OVER)]


def test_what_is_pending_goes_on_by_what_there_is_now(issuer: Issuer) -> None:
    """Another log, and another grace; disabled or not."""
    another = Issuer(issuer.records)
    source = issuer.source("scrip", ORGANIZATION)
    (event,) = deliver(source, reversed_("r1", "v1"))
    check(issuer.records)
    reconfigure(source, another.checking(grace=1), enabled=False)
    check(issuer.records)

    (row,) = rows(issuer.records)
    assert (row.issuer_log_id, row.grace_over_at) == (another.id, format_time(RECEIVED_AT + timedelta(seconds=1)))
    another.says("scrip", Effect.REVERSED, Item("redemption", "r1"), operation="v1")
    reconfigure(source, another.checking(grace=1))
    another.read_at(None)
    check(issuer.records)
    assert state_of(issuer.records, event.id) == "confirmed"


def test_a_verdict_stays(issuer: Issuer) -> None:
    """Where the log that it was found by is still the one, it is judged by what applies now."""
    source = issuer.source("scrip", ORGANIZATION)
    confirmed, absent = deliver(source, reversed_("r1", "v1"), reversed_("r1", "v2"))
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r1"), operation="v1")
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r1"), account="another", operation="v2")
    issuer.read_at(GRACE_OVER)
    check(issuer.records)
    reconfigure(source, issuer.checking(grace=1))
    check(issuer.records)
    assert [row.state for row in rows(issuer.records)] == ["confirmed", "absent"]

    reconfigure(source, issuer.checking(exclusive=True))
    issuer.read_at(GRACE_OVER)
    check(issuer.records)
    assert [state_of(issuer.records, one.id) for one in (confirmed, absent)] == ["confirmed", "contradicted"]
    assert changes(source)[2:] == ["absent contradicted"]


def test_another_log_may_stand_for_what_the_first_did_not(issuer: Issuer) -> None:
    """What was confirmed stays so; what was absent or contradicted is pending by the new log, as told, and judged."""
    another = Issuer(issuer.records)
    source = issuer.source("scrip", ORGANIZATION)
    outcomes = deliver(source, *(reversed_("r1", f"v{number}") for number in range(3)))
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r1"), operation="v0")
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r2"), operation="v1")
    issuer.read_at(GRACE_OVER)
    check(issuer.records)
    assert [state_of(issuer.records, one.id) for one in outcomes] == ["confirmed", "contradicted", "absent"]

    for number in range(3):
        another.says("scrip", Effect.REVERSED, Item("redemption", "r1"), operation=f"v{number}")
    reconfigure(source, Checking())
    check(issuer.records)
    assert [state_of(issuer.records, one.id) for one in outcomes] == ["confirmed", "contradicted", "absent"]
    reconfigure(source, another.checking())
    check(issuer.records)
    assert [(row.state, row.issuer_log_id, row.late) for row in rows(issuer.records)] == [
        ("confirmed", issuer.id, False),
        ("pending", another.id, False),
        ("pending", another.id, False),
    ]
    assert changes(source)[3:] == ["contradicted pending", "absent pending"]
    assert [one.facts["by"] for one in told(source)[3:]] == [None, None]
    assert fsck(issuer.records).findings == ()

    another.read_at(None)
    check(issuer.records)
    assert [state_of(issuer.records, one.id) for one in outcomes] == ["confirmed"] * 3
    assert {row.late for row in rows(issuer.records)} == {False}
    assert fsck(issuer.records).findings == ()


def test_what_is_left_without_anything_is_none(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is told, of what was pending; and if there is something again, it is pending again."""
    monkeypatch.setattr(taking_up, "PIECE", 2)
    source = issuer.source("scrip", ORGANIZATION)
    outcomes = deliver(source, *(reversed_("r1", f"v{number}") for number in range(5)))
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r1"), operation="v0")
    issuer.read_at(None)
    check(issuer.records)
    reconfigure(source, Checking())
    check(issuer.records)

    assert [state_of(issuer.records, one.id) for one in outcomes] == ["confirmed", *["none"] * 4]
    assert changes(source)[1:] == ["pending none"] * 4
    assert {(one.facts["by"], one.facts["late"]) for one in told(source)[1:]} == {(None, False)}
    assert to_check(issuer.records) == []

    reconfigure(source, issuer.checking())
    issuer.read_at(GRACE_OVER)
    check(issuer.records)
    assert changes(source)[5:] == ["none pending"] * 4 + ["pending absent"] * 4


def test_what_is_none_is_not_judged(issuer: Issuer) -> None:
    """An entry that comes late for it is not announced by nobody, though: its event was told."""
    source, watching = issuer.source("scrip", ORGANIZATION), issuer.source("scrip", ORGANIZATION)
    (event,) = deliver(source, reversed_("r1", "v1"))
    check(issuer.records)
    reconfigure(source, Checking())
    check(issuer.records)
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "r1"), account=ORGANIZATION, operation="v1")
    issuer.read_at(GRACE_OVER)
    check(issuer.records)

    assert state_of(issuer.records, event.id) == "none"
    assert told(watching, "gap") == []


# ---- a tenant with several logs -------------------------------------------------------------------------------------


def recovered(source: Source) -> Source:
    """The same source, after its tenant's log was closed and a successor begun."""
    records = source.records
    tenant = records.tenant("default")
    head = tenant.log.head()
    kept = Checkpoint(tenant.log.origin, head.size, head.root)
    recover(records, "default", [Loss(str(tenant.log.verifying_key), kept, kept, intact=True)])
    endpoints = Endpoints(records, Metrics())
    asyncio.run(endpoints.refresh())
    its_id = source.endpoint.source.id
    return Source(records, next(one for one in endpoints.all() if one.source.id == its_id))


@pytest.mark.parametrize("before", [False, True], ids=["not taken up before", "taken up before"])
def test_events_of_all_logs_are_taken_up(issuer: Issuer, before: bool) -> None:
    """Each log from its first entry on: what was recorded in a log that was closed since is not forgotten."""
    source = issuer.source("scrip", ORGANIZATION)
    outcomes = deliver(source, reversed_("r1", "v1"), reversed_("r1", "v2"))
    if before:
        check(issuer.records)
    successor = recovered(source)
    outcomes += deliver(successor, reversed_("r1", "v3"))
    check(issuer.records)
    outcomes += deliver(successor, reversed_("r1", "v4"))
    check(issuer.records)

    assert [row.event_id for row in rows(issuer.records)] == [one.id for one in outcomes]
    for reversal in ("v1", "v4"):
        issuer.says("scrip", Effect.REVERSED, Item("redemption", "r1"), operation=reversal)
    issuer.read_at(None)
    check(issuer.records)
    assert [row.state for row in rows(issuer.records)] == ["confirmed", "pending", "pending", "confirmed"]
    assert changes(successor) == ["pending confirmed"] * 2
