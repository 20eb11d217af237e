"""Events are judged by what the issuer's log says, as soon as it says anything, and each change is told in our log."""

import json
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.assurance.checking import judge_due
from receiver.assurance.claims import claim_of
from receiver.assurance.wanted import Reading, Wanted
from receiver.events import Effect, Item, format_time
from receiver.records.opening import Records
from receiver.records.tables import issuer_logs
from tests.receiver.claims import (
    GRACE,
    ORGANIZATION,
    Issuer,
    changes,
    check,
    deliver,
    known,
    new_source,
    reconfigure,
    reversed_,
    state_of,
    told,
)
from tests.receiver.five import FIVE
from tests.receiver.service import ACCOUNT, receipt_id, revoked
from tests.receiver.submissions import RECEIVED_AT, Source
from translog.merkle import leaf_hash

REDEMPTION = Item("redemption", "r1")
JUST_NOW = format_time(RECEIVED_AT)
GRACE_OVER = format_time(RECEIVED_AT + timedelta(seconds=GRACE))
TOO_EARLY = format_time(RECEIVED_AT + timedelta(seconds=GRACE) - timedelta(microseconds=1))


@pytest.fixture
def issuer(records: Records) -> Issuer:
    """An issuer's log of which nothing is read yet."""
    return Issuer(records)


@pytest.fixture
def source(issuer: Issuer) -> Source:
    """A source that names it."""
    return issuer.source("scrip", ORGANIZATION)


def reverses(issuer: Issuer, reversal: str = "v1", amount: str | None = "40.00") -> int:
    """Log a reversal of the redemption; the entry's index."""
    return issuer.says("scrip", Effect.REVERSED, REDEMPTION, account=ORGANIZATION, operation=reversal, amount=amount)


def transaction(status: str, bucket: str | None = "lcppb_1") -> bytes:
    """The card transaction that cancels pending points, in that status, as the operator's own systems declare it."""
    data: dict[str, Any] = {
        "id": "lctx_1",
        "type": "PENDING_POINTS_CANCELED",
        "status": status,
        "details": {"points": {"total": 60}},
        "created_at": "2026-11-20T08:59:58Z",
        "updated_at": None if status == "PENDING" else "2026-11-20T08:59:59Z",
    }
    request = None if bucket is None else {"bucket_id": bucket}
    return json.dumps({"type": "pending_points.canceled", "data": data, "request": request}).encode()


def cancels(issuer: Issuer, *effects: Effect) -> None:
    """Log what became of that transaction, one after the other."""
    for effect in effects:
        item = Item("pending_points", "lcppb_1")
        issuer.says("voucherify", effect, item, account="proj_1", operation="lctx_1", quantity="60")


# ---- what becomes of an event ---------------------------------------------------------------------------------------


def test_an_event_is_pending_at_first(issuer: Issuer, source: Source) -> None:
    """Nothing is known of it yet; and that is nothing to tell."""
    (event,) = deliver(source, reversed_("r1", "v1"))
    check(source.records)

    row = known(source.records, event.id)
    assert row is not None
    assert (row.state, row.by, row.issuer_log_id, row.issuer_index) == ("pending", None, issuer.id, None)
    assert (row.grace_over_at, row.due_at, row.late) == (GRACE_OVER, GRACE_OVER, False)
    assert told(source) == []


def test_an_event_is_confirmed_at_once(issuer: Issuer, source: Source) -> None:
    """By the entry of its operation; our log says so, with all that there is to know of it."""
    (event,) = deliver(source, reversed_("r1", "v1", "40.00"))
    reverses(issuer, "v0")
    index = reverses(issuer, amount="40")
    issuer.read_at(None)
    check(source.records)

    (finding,) = told(source)
    assert finding.facts == {
        "by": "issuer_log",
        "first": event.id,
        "late": False,
        "provider": "scrip",
        "source": source.endpoint.source.id,
        "state": "confirmed",
        "was": "pending",
    }
    assert finding.data == {
        "differences": [],
        "entry": leaf_hash(issuer.entries[index]).hex(),
        "issuer_index": index,
        "issuer_log": issuer.origin,
    }
    assert (finding.row.event_id, finding.row.issuer_log_id, finding.row.issuer_index) == (event.id, issuer.id, index)
    row = known(source.records, event.id)
    assert row is not None
    assert (row.state, row.by, row.issuer_index, row.due_at) == ("confirmed", "issuer_log", index, None)
    assert (row.finding_id, row.since) == (finding.row.id, finding.row.logged_at)


def test_an_event_is_contradicted_at_once(issuer: Issuer, source: Source) -> None:
    """Every field that differs is named, with what either side says."""
    (event,) = deliver(source, reversed_("r1", "v1", "40.00", quantity=2))
    issuer.says(
        "scrip",
        Effect.REVERSED,
        Item("redemption", "r2"),
        account=ORGANIZATION,
        operation="v1",
        amount="60",
        quantity="2",
        at=RECEIVED_AT + timedelta(seconds=1),
    )
    issuer.read_at(None)
    check(source.records)

    assert state_of(source.records, event.id) == "contradicted"
    assert told(source)[0].data["differences"] == [
        {"event": "40.00", "field": "amount", "issuer": "60"},
        {"event": "2026-11-20T08:59:58.000000Z", "field": "at", "issuer": "2026-11-20T09:00:01.000000Z"},
        {"event": "r1", "field": "item", "issuer": "r2"},
    ]


@pytest.mark.parametrize("provider", sorted(FIVE))
def test_events_of_every_provider_are_confirmed(records: Records, provider: str) -> None:
    """By an entry that says of the act what the event says."""
    party, issuer = FIVE[provider], Issuer(records)
    source = issuer.source(provider, party.account)
    (event,) = deliver(source, party.body())
    row = source.rows()[0]
    claim = claim_of(row.effect, row.event_data)
    assert claim is not None
    issuer.says(
        provider,
        claim.effect,
        claim.item,
        account=party.account,
        operation=claim.operation,
        amount=claim.amount,
        quantity=claim.quantity,
        at=claim.at,
    )
    issuer.read_at(None)
    check(records)

    assert state_of(records, event.id) == "confirmed"
    assert [entry.facts["state"] for entry in told(source, "gap")] == []


def test_parts_have_entries_of_their_own(issuer: Issuer, source: Source) -> None:
    """A partial reversal and the one that completes it, in whichever order the issuer logged them."""
    first, second = deliver(source, reversed_("r1", "v1", "40.00"), reversed_("r1", "v2", "60.00"))
    reverses(issuer, "v2", "60.00")
    reverses(issuer, "v1", "40.00")
    issuer.read_at(None)
    check(source.records)

    rows = [known(source.records, one.id) for one in (first, second)]
    assert [(row.state, row.issuer_index) for row in rows if row is not None] == [("confirmed", 1), ("confirmed", 0)]


def test_one_operation_may_be_of_two_items(records: Records, issuer: Issuer) -> None:
    """The issuer names the bucket; who told of the transaction only named that."""
    source = issuer.source("voucherify", "proj_1")
    (event,) = deliver(source, transaction("PENDING", bucket=None))
    cancels(issuer, Effect.CANCELING)
    issuer.read_at(None)
    check(records)

    assert state_of(records, event.id) == "confirmed"


def test_the_same_id_may_be_two_items(records: Records, issuer: Issuer) -> None:
    """That an attestation was revoked tells nothing of the receipt of its id: that is a gap all the same."""
    source, id_ = issuer.source("truthlocks", ACCOUNT), receipt_id()
    (event,) = deliver(source, revoked(event_type="attestation.revoked", attestation_id=id_))
    issuer.says("truthlocks", Effect.REVOKED, Item("receipt", id_), account=ACCOUNT, operation=id_)
    issuer.read_at(GRACE_OVER)
    check(records)

    assert state_of(records, event.id) == "contradicted"
    assert [one.facts["state"] for one in told(source, "gap")] == ["open"]


# ---- time -----------------------------------------------------------------------------------------------------------


def test_an_event_is_absent_once_its_grace_is_over(issuer: Issuer, source: Source) -> None:
    """That is, if a checkpoint was asked for after that of which everything is read."""
    (event,) = deliver(source, reversed_("r1", "v1"))
    for asked_at in (None, JUST_NOW, TOO_EARLY):
        issuer.read_at(asked_at)
        check(source.records)
        assert state_of(source.records, event.id) == "pending"
    issuer.read_at(GRACE_OVER)
    check(source.records)

    (finding,) = told(source)
    assert (finding.facts["by"], finding.facts["state"], finding.facts["was"]) == ("issuer_log", "absent", "pending")
    assert finding.data == {"differences": [], "entry": None, "issuer_index": None, "issuer_log": issuer.origin}
    row = known(source.records, event.id)
    assert row is not None
    assert (row.state, row.due_at) == ("absent", None)


@pytest.mark.parametrize(("amount", "state"), [("40.00", "confirmed"), ("41.00", "contradicted")])
def test_what_was_absent_may_come_late(issuer: Issuer, source: Source, amount: str, state: str) -> None:
    """Then it is said that it came late."""
    (event,) = deliver(source, reversed_("r1", "v1", "40.00"))
    issuer.read_at(GRACE_OVER)
    check(source.records)
    reverses(issuer, amount=amount)
    issuer.read_at(GRACE_OVER)
    check(source.records)

    assert changes(source) == ["pending absent", f"absent {state}"]
    assert [one.facts["late"] for one in told(source)] == [False, True]
    row = known(source.records, event.id)
    assert row is not None
    assert (row.state, row.late) == (state, True)


def test_what_is_confirmed_may_be_denied_later(records: Records, issuer: Issuer) -> None:
    """A cancellation that was rejected: the event contradicts it; one that tells of the rejection does not."""
    source = issuer.source("voucherify", "proj_1")
    begun, rejected = deliver(source, transaction("PENDING"), transaction("REJECTED"))
    cancels(issuer, Effect.CANCELING)
    issuer.read_at(None)
    check(records)
    assert (state_of(records, begun.id), state_of(records, rejected.id)) == ("confirmed", "pending")

    cancels(issuer, Effect.REJECTED)
    issuer.read_at(None)
    check(records)

    assert (state_of(records, begun.id), state_of(records, rejected.id)) == ("contradicted", "confirmed")
    denied = next(one for one in told(source) if one.facts["was"] == "confirmed")
    assert denied.data["differences"] == [{"event": "canceling", "field": "effect", "issuer": "rejected"}]
    assert denied.data["issuer_index"] == 1


def test_another_entry_is_told_of_as_well(records: Records, issuer: Issuer) -> None:
    """What was begun is confirmed by its own entry, once that is there; until then by what was done."""
    source = issuer.source("voucherify", "proj_1")
    (begun,) = deliver(source, transaction("PENDING"))
    cancels(issuer, Effect.CANCELED, Effect.CANCELING)
    kept = issuer.entries.pop()
    issuer.read_at(None)
    check(records)
    issuer.entries.append(kept)
    issuer.read_at(None)
    check(records)

    assert changes(source) == ["pending confirmed", "confirmed confirmed"]
    assert [one.data["issuer_index"] for one in told(source)] == [0, 1]
    assert state_of(records, begun.id) == "confirmed"


def test_nothing_is_told_twice(issuer: Issuer, source: Source) -> None:
    """Not by judging it again, and not by reading the log again from its beginning."""
    confirmed, absent = deliver(source, reversed_("r1", "v1"), reversed_("r2", "v2"))
    reverses(issuer, amount=None)
    reverses(issuer, "v3")
    issuer.read_at(GRACE_OVER)
    check(source.records)
    before = len(source.leaves())
    assert (state_of(source.records, absent.id), len(told(source, "gap"))) == ("absent", 1)

    for asked_at in (None, JUST_NOW, GRACE_OVER, format_time(RECEIVED_AT + timedelta(days=9))):
        issuer.read_at(asked_at)
        with source.records.database.write() as tx:
            tx.execute(sa.text("UPDATE checks SET due_at = ''"))
            tx.execute(sa.text("UPDATE claims SET due_at = ''"))
        check(source.records)

    assert len(source.leaves()) == before
    assert (state_of(source.records, confirmed.id), state_of(source.records, absent.id)) == ("confirmed", "absent")


# ---- whose log, and who reads it ------------------------------------------------------------------------------------


def test_a_log_that_has_forked_is_asked_nothing(issuer: Issuer, source: Source) -> None:
    """Whatever it says, and however late it is."""
    (event,) = deliver(source, reversed_("r1", "v1"))
    reverses(issuer)
    issuer.read_at(GRACE_OVER)
    with source.records.database.write() as tx:
        tx.execute(sa.update(issuer_logs).values(forked_at=JUST_NOW, fork=b"evidence"))
    check(source.records)

    assert state_of(source.records, event.id) == "pending"
    assert told(source) == []


def test_nothing_is_absent_from_what_is_not_read_for_its_source(issuer: Issuer, source: Source) -> None:
    """A source whose entries were not wanted until now has to wait until the log was read for it."""
    issuer.read_at(GRACE_OVER)
    other = issuer.source("scrip", "another")
    (event,) = deliver(other, reversed_("r1", "v1").replace(ORGANIZATION.encode(), b"another"))
    check(source.records)
    assert state_of(source.records, event.id) == "pending"

    issuer.says("scrip", Effect.REVERSED, REDEMPTION, account="another", operation="v1")
    issuer.read_at(GRACE_OVER)
    check(source.records)
    assert state_of(source.records, event.id) == "confirmed"


def test_what_was_read_for_a_source_stays_so_while_the_log_is_read_again(issuer: Issuer, source: Source) -> None:
    """For another source, which has to wait for that; whoever changes his is no way to keep others' from being told."""
    other = issuer.source("scrip", "another")
    (event,) = deliver(source, reversed_("r1", "v1"))
    (its,) = deliver(other, reversed_("r1", "v2").replace(ORGANIZATION.encode(), b"another"))
    issuer.read_at(GRACE_OVER)
    with source.records.database.write() as tx:
        wanted = Reading.parse(tx.execute(sa.select(issuer_logs.c.wanted)).scalar_one()).now
        mine = Wanted(frozenset(one for one in wanted.of if one[2] != "another"))
        tx.execute(sa.update(issuer_logs).values(wanted=Reading(mine, wanted).encode(), next_index=0))
    check(source.records)

    assert (state_of(source.records, event.id), state_of(source.records, its.id)) == ("absent", "pending")


def test_a_disabled_source_has_nothing_absent(issuer: Issuer, source: Source) -> None:
    """Its log is not followed for it any more; but what is there is there."""
    missing, there = deliver(source, reversed_("r1", "v0"), reversed_("r1", "v1"))
    reverses(issuer, amount=None)
    issuer.read_at(JUST_NOW)
    reconfigure(source, issuer.checking(), enabled=False)
    issuer.read_at(GRACE_OVER)
    check(source.records)

    assert (state_of(source.records, missing.id), state_of(source.records, there.id)) == ("pending", "confirmed")


def test_tenants_are_judged_apart(records: Records, issuer: Issuer) -> None:
    """Both name the same log; each has its own accounts' entries, and its own log to be told in."""
    ours, theirs = issuer.source("scrip", ORGANIZATION), issuer.source("scrip", ORGANIZATION, "elsewhere")
    (event,) = deliver(ours, reversed_("r1", "v1"))
    reverses(issuer)
    issuer.read_at(GRACE_OVER)
    check(records)

    assert state_of(records, event.id) == "confirmed"
    assert changes(ours) == ["pending confirmed"]
    assert (changes(theirs), [one.facts["state"] for one in told(theirs, "gap")]) == ([], ["open"])


def test_an_event_is_of_its_sources_account(issuer: Issuer, source: Source) -> None:
    """If it names none itself, as what was relayed does not."""
    body = json.loads(reversed_("r1", "v1"))
    del body["organization_id"]
    (event,) = deliver(source, json.dumps(body).encode())
    reverses(issuer, amount=None)
    issuer.read_at(None)
    check(source.records)

    assert state_of(source.records, event.id) == "confirmed"


def test_test_events_are_checked_as_well(records: Records, issuer: Issuer) -> None:
    """A test source may name a test log, and is told the same."""
    source = issuer.source("scrip", ORGANIZATION, test=True)
    (event,) = deliver(source, reversed_("r1", "v1"))
    reverses(issuer, amount=None)
    issuer.read_at(None)
    check(records)

    assert state_of(records, event.id) == "confirmed"


def test_a_source_without_an_account_is_confirmed_by_its_events_accounts(records: Records, issuer: Issuer) -> None:
    """An entry of the account that the event names, or of none, and no other."""
    source = issuer.source("scrip", None)
    one, two = deliver(source, reversed_("r1", "v1"), reversed_("r1", "v2"))
    reverses(issuer, amount=None)
    issuer.says("scrip", Effect.REVERSED, REDEMPTION, account="another", operation="v2")
    issuer.read_at(GRACE_OVER)
    check(records)

    assert (state_of(records, one.id), state_of(records, two.id)) == ("confirmed", "absent")
    assert told(source, "gap") == []


def test_there_is_nothing_to_do_for_nobody(records: Records) -> None:
    """Without anything due the log is not even locked."""
    new_source(records, "scrip", None)

    assert judge_due(records, records.tenant("default")) == 0


# ---- in whichever order --------------------------------------------------------------------------------------------


def test_the_order_in_which_it_comes_is_nothing(records: Records) -> None:
    """Events before their entries or after them, and with or without operations: what is known in the end is one."""
    bodies = [reversed_(f"r{at % 3}", f"v{at}", ("40", "50", None)[at % 3]) for at in range(9)]
    bodies.append(transaction("PENDING"))
    outcomes: list[list[tuple[str, int | None]]] = []
    for seed in range(6):
        order = random.Random(seed)
        issuer = Issuer(records)
        tenant = f"tenant-{seed}"
        sources = [issuer.source("scrip", ORGANIZATION, tenant), issuer.source("voucherify", "proj_1", tenant)]
        events: dict[int, str] = {}
        waiting = list(range(len(bodies)))
        order.shuffle(waiting)

        def tell(number: int, events: dict[int, str] = events, sources: Sequence[Source] = sources) -> None:
            received = RECEIVED_AT + timedelta(seconds=number)
            (one,) = deliver(sources[number == len(bodies) - 1], bodies[number], at=received)
            events[number] = one.id

        for at in range(7):
            operation = None if at % 2 else f"v{at}"
            item = Item("redemption", f"r{at % 3}")
            issuer.says("scrip", Effect.REVERSED, item, operation=operation, amount=("40", None, "50")[at % 3])
            cancels(issuer, *[(Effect.CANCELING, Effect.REJECTED)[at % 2]][: at < 2])
            issuer.read_at(None)
            for _ in range(order.randrange(3)):
                if waiting and seed:
                    tell(waiting.pop())
            if order.random() < 0.5:
                check(records)
        for number in waiting:
            tell(number)
        issuer.read_at(format_time(RECEIVED_AT + timedelta(days=1)))
        check(records)
        rows = [known(records, events[number]) for number in range(len(bodies))]
        outcomes.append([(row.state, row.issuer_index) for row in rows if row is not None])

    assert outcomes == [outcomes[0]] * 6
    assert {state for state, _ in outcomes[0]} == {"confirmed", "contradicted", "absent"}
