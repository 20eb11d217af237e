"""Retention: what is too old is erased, as far as its body goes, and nothing else is."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.erasure import aging, erasing
from receiver.erasure.aging import Aged, run
from receiver.erasure.due import Due
from receiver.erasure.erasing import Erased
from receiver.erasure.retention import clear, rules, set_days
from receiver.events import CrossCheck, Kind, format_time, parse_time
from receiver.intake.reprocessing import reprocess
from receiver.records.findings import Finding, keep
from receiver.records.journal import change
from receiver.records.keeping import erased, erasures, retention
from receiver.records.opening import Records, RecordsError
from receiver.records.tables import deliveries, findings
from tests.receiver.claims import ORGANIZATION, new_source, reversed_
from tests.receiver.holding import acting, delivered, hold, last_leaf, release, row_of, wrong
from tests.receiver.service import ACCOUNT, at_once, revoked
from tests.receiver.submissions import Source, new_sources
from tests.translog import faults
from tests.translog.faults import PowerCut
from translog.evidence import Delivery

PROVIDER = "truthlocks"


@pytest.fixture
def source(records: Records) -> Source:
    """A source of the tenant `default`."""
    return new_sources(records, "default", account=ACCOUNT)[0]


def age(records: Records, days: int = 30) -> Aged:
    """Have the provider's bodies kept for so many days, and erase what is older; what that came to."""
    tenant = records.tenant("default")
    set_days(records, tenant, PROVIDER, days)
    [aged] = run(records, tenant)
    return aged


def again(records: Records) -> Aged:
    """Erase what is too old by now."""
    [aged] = run(records, records.tenant("default"))
    return aged


def is_whole(records: Records, its_id: str) -> bool:
    """Whether a row still has what a delivery is made of: all of it or nothing."""
    row = row_of(records, its_id)
    there = [column is not None for column in (row.headers, row.body, row.delivery_salt)]
    assert all(there) or not any(there)
    assert row.event_data is not None or getattr(row, "kind", "") in {"quarantine", "mismatch"}
    return all(there)


def passed(records: Records) -> sa.Row[Any]:
    """How far the last pass went."""
    with records.database.read() as tx:
        return tx.execute(sa.select(retention)).one()


# ---- setting --------------------------------------------------------------------------------------------------------


def test_each_change_is_told(records: Records) -> None:
    """Once: what is as it is asked to be changes nothing."""
    tenant = records.tenant("default")
    rule = set_days(records, tenant, PROVIDER, 30)
    leaf = last_leaf(records)

    assert (leaf.kind, leaf.logged_at) == (Kind.TENANT, rule.set_at)
    assert leaf.facts == {
        "action": "retention_set",
        "by": "command",
        "days": 30,
        "id": "default",
        "provider": PROVIDER,
    }
    size = tenant.log.head().size
    assert set_days(records, tenant, PROVIDER, 30) == rule
    assert tenant.log.head().size == size
    assert rules(records, tenant) == [rule]
    later = set_days(records, tenant, PROVIDER, 31, "key")
    assert [later] == rules(records, tenant)
    assert wrong(records) == []
    clear(records, tenant, PROVIDER)
    assert last_leaf(records).facts == {
        "action": "retention_cleared",
        "by": "command",
        "days": None,
        "id": "default",
        "provider": PROVIDER,
    }
    assert rules(records, tenant) == []
    assert wrong(records) == []
    with pytest.raises(RecordsError, match="for ever already"):
        clear(records, tenant, PROVIDER)


@pytest.mark.parametrize(("provider", "days"), [("nobody", 1), (PROVIDER, 0), (PROVIDER, 36_501)])
def test_what_cannot_be_set_is_refused(records: Records, provider: str, days: int) -> None:
    """A provider that is not known, and a number of days that is none."""
    with pytest.raises(RecordsError):
        set_days(records, records.tenant("default"), provider, days)


# ---- what goes ------------------------------------------------------------------------------------------------------


def test_bodies_of_every_kind_go_once_they_are_too_old(records: Records, source: Source) -> None:
    """An event, its mismatch, and what could not be understood; what is younger, or another provider's, stays."""
    [event] = delivered(source, revoked("r1"), days_ago=31)
    [mismatch, quarantined] = delivered(source, revoked("r1", note="differs"), b"{}", days_ago=30.5)
    [young] = delivered(source, revoked("r2"), days_ago=29)
    [other] = delivered(new_source(records, "scrip", ORGANIZATION), reversed_("a", "b", "1"), days_ago=31)
    mismatch_id = source.rows()[1].id
    aged = age(records)

    assert aged == Aged(PROVIDER, 30, erased=3, held=0)
    assert mismatch.id == event.id
    gone = [event.id, mismatch_id, quarantined.id]
    assert [is_whole(records, one) for one in (*gone, young.id, other.id)] == [False, False, False, True, True]
    leaf = last_leaf(records)
    with records.database.read() as tx:
        request = tx.execute(sa.select(erasures)).one()
        named = tx.execute(sa.select(erased.c.entry_id, erased.c.extent)).all()
    assert leaf.kind == Kind.ERASURE
    assert leaf.facts == {
        "by": "retention",
        "claims": 0,
        "erasure": request.id,
        "ids": sorted(gone),
        "state": "delivery",
        "target": "retention",
    }
    assert json.loads(row_of(records, leaf.id).event_data) == {"reason": "retention of 30 days"}
    assert (request.target, request.asked_by, request.state, request.erased) == (
        "retention",
        "retention",
        "completed",
        3,
    )
    assert sorted(named) == [(one, "delivery") for one in sorted(gone)]
    assert wrong(records) == []


def test_nothing_is_done_twice(records: Records, source: Source) -> None:
    """A second pass finds nothing, tells nothing, and begins where the first one ended."""
    delivered(source, revoked("r1"), days_ago=31)
    age(records)
    size = records.tenant("default").log.head().size
    until = passed(records).passed_until

    assert again(records) == Aged(PROVIDER, 30, 0, 0)
    assert records.tenant("default").log.head().size == size
    assert passed(records).passed_until > until
    with records.database.read() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(erasures)).scalar_one() == 1


def test_more_than_one_entry_may_name(records: Records, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has as many entries as it takes, and one row that counts them all."""
    monkeypatch.setattr(aging, "BATCH", 2)
    outcomes = delivered(source, *(revoked(f"r{number}") for number in range(5)), days_ago=31)

    assert age(records).erased == 5
    with records.database.read() as tx:
        assert tx.execute(sa.select(erasures.c.erased)).scalar_one() == 5
        indexes = tx.execute(sa.select(erased.c.log_index).distinct()).scalars().all()
    assert len(indexes) == 3
    assert not any(is_whole(records, one.id) for one in outcomes)
    assert wrong(records) == []


def test_what_was_found_out_goes_with_its_delivery(records: Records, source: Source) -> None:
    """A provider's record about an event that is too old: also one that is asked for later."""
    [event] = delivered(source, revoked("r1"), days_ago=31)

    def find() -> str:
        tenant = records.tenant("default")
        with change(records.database, tenant.log) as changing:
            kept = keep(
                changing,
                tenant,
                Finding(
                    Kind.CROSS_CHECK,
                    CrossCheck.CONFIRMED.value,
                    {},
                    {},
                    Delivery((), b"a record"),
                    source.endpoint.source.id,
                    event.id,
                ),
            )
        return kept.id

    first = find()
    assert age(records).erased == 2
    second = find()
    assert (is_whole(records, first), is_whole(records, second)) == (False, True)
    assert again(records).erased == 1
    assert not is_whole(records, second)


def test_what_came_late_goes_as_well(records: Records, source: Source) -> None:
    """Recorded after the pass that went through the time at which it was received."""
    age(records)
    [late] = delivered(source, revoked("r1"), days_ago=40)

    assert again(records).erased == 1
    assert not is_whole(records, late.id)


def test_what_is_read_again_takes_its_time_along(records: Records, source: Source) -> None:
    """It was received when it was: what is written for it goes when that is too old."""
    [quarantined] = delivered(source, revoked("r1", tenant_id="another"), days_ago=31)
    held = hold(records, acting(records, "Ann"), source=source.endpoint.source.id)
    assert age(records) == Aged(PROVIDER, 30, 0, 1)
    with records.database.write() as tx:
        tx.execute(sa.text("UPDATE sources SET account = 'another'"))
    written = reprocess(records, records.tenant("default"), quarantined.id)
    assert written is not None
    assert again(records).held == 1  # it came late; the other one was passed over already
    release(records, held, acting(records, "Bob"))

    assert again(records) == Aged(PROVIDER, 30, 2, 0)
    assert not is_whole(records, written.id)
    assert wrong(records) == []


# ---- what stays -----------------------------------------------------------------------------------------------------


def test_a_hold_beats_retention(records: Records, source: Source) -> None:
    """What it covers stays, and goes once it is released, though a pass was over it before."""
    kept, goes = delivered(source, revoked("r1"), revoked("r2"), days_ago=31)
    held = hold(records, acting(records, "Ann"), item={"provider": PROVIDER, "type": "receipt", "id": "r1"})

    assert age(records) == Aged(PROVIDER, 30, erased=1, held=1)
    assert (is_whole(records, kept.id), is_whole(records, goes.id)) == (True, False)
    assert again(records) == Aged(PROVIDER, 30, 0, 0)  # it was passed over already
    release(records, held, acting(records, "Bob"))
    assert again(records) == Aged(PROVIDER, 30, 1, 0)
    assert not is_whole(records, kept.id)
    assert wrong(records) == []


def test_a_hold_released_during_a_pass_is_noticed(
    records: Records, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That pass does not count as one: the next begins anew."""
    monkeypatch.setattr(aging, "BATCH", 1)
    [kept] = delivered(source, revoked("r1"), days_ago=32)
    delivered(source, revoked("r2"), days_ago=31)
    period = _second(row_of(records, kept.id).received_at)
    held, bob = hold(records, acting(records, "Ann"), period=period), acting(records, "Bob")
    seen: list[bool] = []

    def clear_up(its_records: Records, done: Erased) -> None:
        erasing.clear_up(its_records, done)
        if done.rows and not seen:
            seen.append(True)
            release(records, held, bob)

    monkeypatch.setattr(aging, "clear_up", clear_up)
    assert age(records).held == 1
    assert seen == [True]
    assert passed(records).passed_at is None
    assert again(records).erased == 1
    assert not is_whole(records, kept.id)


def _second(moment: str) -> dict[str, str]:
    """The period of a second that begins then."""
    return {"since": moment, "until": format_time(parse_time(moment) + timedelta(seconds=1))}


def test_what_is_no_longer_asked_for_is_not_done(records: Records, source: Source) -> None:
    """Cleared while a pass is under way, retention erases no more of it."""
    outcomes = delivered(source, revoked("r1"), revoked("r2"), days_ago=31)
    tenant = records.tenant("default")
    set_days(records, tenant, PROVIDER, 30)
    [rule] = rules(records, tenant)
    clear(records, tenant, PROVIDER)
    set_days(records, tenant, PROVIDER, 60)

    aged = aging._run(records, tenant, rule, lambda: False)  # pyright: ignore[reportPrivateUsage]
    assert aged.erased == 0
    assert all(is_whole(records, one.id) for one in outcomes)
    assert passed(records).passed_at is None


def test_a_replay_brings_nothing_back(records: Records, source: Source) -> None:
    """The same delivery again is known, and stores nothing."""
    body = revoked("r1")
    [event] = delivered(source, body, days_ago=31)
    age(records)
    [repeated] = delivered(source, body)

    assert (repeated.id, repeated.new) == (event.id, False)
    assert not is_whole(records, event.id)


# ---- at the same time, and cut off ----------------------------------------------------------------------------------


def test_several_receivers_erase_each_once(records: Records, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds what is left by then."""
    monkeypatch.setattr(aging, "BATCH", 3)
    delivered(source, *(revoked(f"r{number}") for number in range(20)), days_ago=31)
    tenant = records.tenant("default")
    set_days(records, tenant, PROVIDER, 30)
    together = threading.Barrier(4)

    def both(_: int) -> int:
        together.wait()
        return sum(one.erased for one in run(records, tenant))

    assert sum(at_once(4, both)) == 20
    with records.database.read() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(erased)).scalar_one() == 20
        assert tx.execute(sa.select(sa.func.sum(erasures.c.erased))).scalar_one() == 20
    assert wrong(records) == []


@pytest.mark.parametrize(
    "statement", ["INSERT INTO erasures", "INSERT INTO erased", "UPDATE deliveries", "INSERT INTO log_entries"]
)
def test_a_batch_that_was_cut_off_erased_nothing(records: Records, source: Source, statement: str) -> None:
    """The next run does it."""
    [event] = delivered(source, revoked("r1"), days_ago=31)
    set_days(records, records.tenant("default"), PROVIDER, 30)
    with faults.at(records.database, "after", statement) as met, pytest.raises(PowerCut):
        again(records)

    assert met
    assert is_whole(records, event.id)
    assert wrong(records) == []
    assert again(records).erased == 1
    assert wrong(records) == []


def test_a_run_that_is_stopped_is_gone_on_with(
    records: Records, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between batches; what was erased by then is told."""
    monkeypatch.setattr(aging, "BATCH", 1)
    delivered(source, revoked("r1"), revoked("r2"), days_ago=31)
    tenant = records.tenant("default")
    set_days(records, tenant, PROVIDER, 30)
    asked: list[bool] = []

    def after_one() -> bool:
        with records.database.read() as tx:
            asked.append(tx.execute(sa.select(sa.func.count()).select_from(erased)).scalar_one() > 0)
        return asked[-1]

    [aged] = run(records, tenant, after_one)
    assert aged.erased == 1
    assert wrong(records) == []
    assert again(records).erased == 1


def test_what_is_due_is_done_in_the_background(records: Records, source: Source) -> None:
    """Of every tenant; a service that is stopping begins nothing."""
    [event] = delivered(source, revoked("r1"), days_ago=31)
    set_days(records, records.tenant("default"), PROVIDER, 30)
    stopped = Due(records)
    stopped.stop()
    stopped.turn()
    assert is_whole(records, event.id)

    Due(records).turn()
    assert not is_whole(records, event.id)
    with records.database.read() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(deliveries)).scalar_one() == 1
        assert tx.execute(sa.select(sa.func.count()).select_from(findings)).scalar_one() == 1
    assert wrong(records) == []


def test_what_fails_for_one_tenant_is_done_for_others(records: Records, source: Source) -> None:
    """And told; it is due again."""
    [other] = new_sources(records, "another")
    ids = [delivered(one, revoked("r1"), days_ago=31)[0].id for one in (source, other)]
    for name in ("default", "another"):
        set_days(records, records.tenant(name), PROVIDER, 30)

    def fail() -> None:
        raise OSError("the disk")

    due = Due(records)
    with (
        faults.at(records.database, "before", "INSERT INTO erasures", happens=fail),
        pytest.raises(OSError, match="disk"),
    ):
        due.turn()
    assert [is_whole(records, one) for one in ids] == [True, False]
    due.turn()
    assert [is_whole(records, one) for one in ids] == [False, False]
    assert wrong(records) == []
