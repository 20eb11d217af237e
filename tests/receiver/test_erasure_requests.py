"""Requests to erase: kept before anything is erased, done in changes that are whole, and gone on with after a crash."""

import itertools
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver.erasure import answers, erasing
from receiver.erasure.answers import NoSuchErasureError
from receiver.erasure.requests import (
    Ask,
    ErasureError,
    HeldError,
    NoSuchEventError,
    ask,
    resume,
    run_held,
)
from receiver.events import Effect, Item, format_time, new_id
from receiver.records.giving import give
from receiver.records.keeping import erasures, exports, given_out
from receiver.records.opening import Records, Tenant
from receiver.records.pending import Held, Pending
from receiver.records.tables import findings
from tests.receiver.claims import ORGANIZATION, Issuer, check, deliver, new_source, reversed_
from tests.receiver.erasing import REASON, erase, faults_of, gone, opening, told, traces
from tests.receiver.holding import acting, hold, release
from tests.receiver.open_calls import new_caller
from tests.receiver.service import ACCOUNT, revoked
from tests.receiver.submissions import RECEIVED_AT, Source
from tests.translog import faults
from tests.translog.faults import PowerCut
from translog.canonical import Value

JANE = "jane@example.com"
OVER = format_time(RECEIVED_AT + timedelta(days=2))
RECEIPT = {"provider": "truthlocks", "type": "receipt", "id": "r1"}

_numbers = itertools.count(100)


@pytest.fixture
def source(records: Records) -> Source:
    """A source with an account."""
    return new_source(records, "truthlocks", ACCOUNT)


def states(records: Records) -> list[str]:
    """Of all requests, oldest first."""
    with records.database.read() as tx:
        return list(tx.execute(sa.select(erasures.c.state).order_by(erasures.c.id)).scalars())


# ---- what can be asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        (Ask(reason="x"), "event_id"),
        (Ask(reason="x", event_id="e", person="email:a@b"), "person"),
        (Ask(reason=" ", event_id="e"), "reason"),
        (Ask(reason="x" * 1001, event_id="e"), "reason"),
        (Ask(reason="x\0", event_id="e"), "reason"),
        (Ask(reason="x", person=JANE), "person"),
        (Ask(reason="x", person=f"emial:{JANE}"), "person"),
        (Ask(reason="x", item={"provider": "truthlocks", "type": "receipt"}), "item"),
        (Ask(reason="x", item={**RECEIPT, "more": "x"}), "item"),
        (Ask(reason="x", item={**RECEIPT, "provider": JANE}), "item"),
        (Ask(reason="x", item={**RECEIPT, "id": ""}), "item"),
        (Ask(reason="x", item={**RECEIPT, "id": "\ud800"}), "item"),
    ],
)
def test_what_cannot_be_asked(records: Records, asked: Ask, member: str) -> None:
    """It is named, and nothing of it is repeated; no request is kept."""
    with pytest.raises(ErasureError) as refused:
        ask(records, records.tenant("default"), asked)
    assert refused.value.member == member
    assert JANE not in str(refused.value)
    assert states(records) == []


def test_an_event_that_is_not_there(records: Records, source: Source) -> None:
    """Neither is another tenant's, nor what is no id."""
    (event,) = deliver(source, revoked())
    other = records.ensure_tenant("other")
    for tenant, its_id in ((other, event.id), (source.endpoint.tenant, new_id()), (other, JANE)):
        with pytest.raises(NoSuchEventError) as refused:
            ask(records, tenant, Ask(reason="x", event_id=its_id))
        assert JANE not in str(refused.value)
    assert states(records) == []
    assert event.id in opening(records)


def test_another_tenants_item_and_person(records: Records, source: Source) -> None:
    """What is not its own is unknown to a tenant."""
    deliver(source, revoked("r1", subject=JANE))
    records.ensure_tenant("other")

    assert erase(records, "other", item=RECEIPT).erased == 0
    assert erase(records, "other", person=f"email:{JANE}").erased == 0
    assert erase(records, item=RECEIPT).erased == 1


# ---- large ones -----------------------------------------------------------------------------------------------------


def test_an_entry_names_a_thousand_at_most(records: Records, source: Source) -> None:
    """Of an event with more mismatches than that, these go first: so it is found until all of them are gone."""
    (event,) = deliver(source, revoked("r1"))
    deliver(source, *(revoked("r1", note=number) for number in range(2100)))
    answer = erase(records, event_id=event.id)

    assert answer.erased == 2101
    entries = [leaf for _, leaf in told(records)]
    assert [len(_ids(leaf.facts["ids"])) for leaf in entries] == [1000, 1000, 101]
    assert event.id in _ids(entries[-1].facts["ids"])
    assert not opening(records) & {row.id for row in source.rows()}
    assert faults_of(records) == []


def test_what_was_found_about_one_event_may_take_several(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before the event does."""
    monkeypatch.setattr(erasing, "MOST", 2)
    issuer = Issuer(records)
    (event,) = deliver(issuer.source("scrip", ORGANIZATION), reversed_("a", "act-a", "5.00"))
    issuer.read_at(OVER)
    check(records)  # absent
    item = Item("redemption", "a")
    for effect in (Effect.REVERSED, Effect.REJECTED):  # confirmed late, and then contradicted
        issuer.says("scrip", effect, item, operation="act-a", amount="5.00", account=ORGANIZATION)
        issuer.read_at(format_time(RECEIVED_AT.replace(day=23)))
        check(records)
    with records.database.read() as tx:
        about = set(tx.execute(sa.select(findings.c.id).where(findings.c.event_id == event.id)).scalars())
    assert len(about) == 3

    assert erase(records, event_id=event.id).erased == 4
    named_by = [_ids(leaf.facts["ids"]) for _, leaf in told(records)]
    assert list(map(len, named_by)) == [2, 2]
    assert event.id in named_by[-1]
    assert faults_of(records) == []


def test_a_turn_ends_and_is_gone_on_with(records: Records, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is answered while it is running; the rest is done in the background."""
    monkeypatch.setattr("receiver.erasure.requests.MOST", 2)
    monkeypatch.setattr(erasing, "MOST", 2)
    deliver(source, *(revoked(f"r{number}", subject=JANE) for number in range(7)))
    tenant = source.endpoint.tenant
    its_id = ask(records, tenant, Ask(reason=REASON, person=f"email:{JANE}"), seconds=0)

    assert (answers.load(records, tenant, its_id).erased, states(records)[0]) == (2, "running")
    assert faults_of(records) == []
    resume(records, tenant)
    answer = answers.load(records, tenant, its_id)
    assert (answer.erased, answer.state) == (7, "completed")
    assert traces(records, JANE) == []
    assert faults_of(records) == []


def _ids(value: Value) -> list[str]:
    assert isinstance(value, list)
    return [str(one) for one in value]


# ---- crashes --------------------------------------------------------------------------------------------------------


def _filled(records: Records) -> Source:
    """An item with everything, in a database of which nothing else is known."""
    issuer = Issuer(records)
    source = issuer.source("scrip", ORGANIZATION)
    deliver(source, reversed_("secret-a", "act-a", "5.00"), reversed_("secret-a", "act-b", "5.00"))
    deliver(source, reversed_("secret-a", "act-a", "6.00", email=JANE))
    for operation in ("act-a", "act-c"):
        item = Item("redemption", "secret-a")
        issuer.says("scrip", Effect.REVERSED, item, operation=operation, amount="5.00", account=ORGANIZATION)
    issuer.read_at(OVER)
    check(records)
    return source


@pytest.mark.parametrize(("moment", "statement"), [("after", ""), ("before", "COMMIT"), ("after", "COMMIT")])
def test_a_crash_at_any_statement(records: Records, source: Source, moment: faults.Moment, statement: str) -> None:
    """What is left is sound, a whole change was made or none, and what was asked is gone on with."""
    tenant, which, crashed = source.endpoint.tenant, 0, True
    while crashed:
        which += 1
        (event,) = deliver(source, revoked(f"secret-{which}", subject=JANE))
        deliver(source, revoked(f"secret-{which}", note="another"))
        before, asked_before = len(told(records)), len(states(records))
        try:
            with faults.at(records.database, moment, statement, which):
                erase(records, event_id=event.id)
            crashed = False
        except PowerCut:
            assert (len(told(records)) == before) == (event.id in opening(records))
            assert statement == "" or faults_of(records) == []  # else nothing of the change is there
        is_asked = len(states(records)) > asked_before
        resume(records, tenant)
        assert set(states(records)) <= {"completed"}
        assert (len(told(records)) == before + 1) == is_asked
        assert (event.id in opening(records)) == (not is_asked)
    assert which > (3 if statement else 30)
    assert faults_of(records) == []


def test_an_answer_that_a_crash_has_left(records: Records) -> None:
    """It waited to be recorded, and its call is erased by then: the request is not completed before it is gone."""
    caller = new_caller(records, "truthlocks")
    call, pending = caller.begin(), Pending.of(records)
    pending.put(Held(call.id, "default", caller.party.source.id, 200, b"{}", datetime.now(UTC)))
    with pytest.raises(PowerCut), faults.at(records.database, "after", "COMMIT", 5):
        erase(records, event_id=call.id)
    assert (gone(records, [call.id]), pending.calls(), states(records)) == (True, [call.id], ["running"])

    resume(records, caller.party.tenant)
    assert (pending.calls(), states(records)) == ([], ["completed"])


@pytest.mark.parametrize("which", [1, 2, 3, 4])
def test_a_process_that_dies(records: Records, which: int) -> None:
    """After so many commits; what it leaves is sound, and another goes on with it."""
    source = _filled(records)
    settings = records.settings
    asked = [str(settings.data), settings.url, str(settings.guard), str(which)]
    command = [sys.executable, "-m", "tests.receiver.erasing", *asked]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False, timeout=60).returncode == 9
    assert faults_of(records) == []

    records.tenant("default").log.refresh()
    resume(records, source.endpoint.tenant)
    assert states(records) == ["completed"]
    assert traces(records, "secret-a", "act-a", JANE) == []
    assert faults_of(records) == []


# ---- holds ----------------------------------------------------------------------------------------------------------


def test_what_is_held_is_kept_until_it_is_released(records: Records, source: Source) -> None:
    """Not a part of it is erased; the request waits, and is done then."""
    deliver(source, revoked("r1", subject=JANE), revoked("r2", subject=JANE))
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    placed = hold(records, ann, item=RECEIPT)
    tenant = source.endpoint.tenant
    with pytest.raises(HeldError) as refused:
        ask(records, tenant, Ask(reason=REASON, person=f"email:{JANE}"))
    assert refused.value.hold_id == placed.id
    assert refused.value.erasure_id == answers.find(records, tenant, None, 9)[0][0].id
    assert traces(records, JANE) == ["deliveries.body"]
    assert (states(records), told(records)) == (["held"], [])

    resume(records, tenant)
    run_held(records, tenant)
    assert states(records) == ["held"]
    release(records, placed, bob)
    run_held(records, tenant)
    assert states(records) == ["completed"]
    assert traces(records, JANE, REASON) == ["findings.event_data"]
    assert faults_of(records) == []


def test_a_held_item_of_which_nothing_is_left(records: Records, source: Source) -> None:
    """It is held all the same; and what was said of the hold goes with the item, once it is released."""
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    item = {**RECEIPT, "id": "secret-r9"}
    placed = hold(records, ann, item=item)
    with pytest.raises(HeldError):
        erase(records, item=item)
    release(records, placed, bob)
    run_held(records, source.endpoint.tenant)

    assert states(records) == ["completed"]
    assert traces(records, "secret-r9") == []
    assert faults_of(records) == []


# ---- what is answered -----------------------------------------------------------------------------------------------


def test_everything_that_gave_it_out_is_named(records: Records, source: Source) -> None:
    """Evidence of any of the rows, and exports that held an event of them, from before it was erased."""
    event, other = deliver(source, revoked("r1"), revoked("r2"))
    tenant = source.endpoint.tenant
    with records.database.write() as tx:
        for basis, providers, covers in (
            ("logged", None, True),
            ("received", "truthlocks", True),
            ("occurred", "scrip,truthlocks", True),
            ("logged", "scrip", False),
            ("received", None, False),
        ):
            its_id = new_id()
            since = "2000" if covers or providers else "2999"
            tx.execute(sa.insert(exports).values(_export(tenant, its_id, basis, providers, since)))
            give(tx, tenant, f"{basis} {providers} {covers}", export_id=its_id)
        give(tx, tenant, "somebody", entry_id=event.id)
        give(tx, tenant, "somebody else", entry_id=other.id)
    answer = erase(records, event_id=event.id)
    with records.database.write() as tx:
        give(tx, tenant, "too late", entry_id=event.id)

    assert [("somebody", event.id)] == [(one.given_to, one.event_id) for one in answer.evidence]
    given = ["logged None True", "received truthlocks True", "occurred scrip,truthlocks True"]
    assert given == [one.given_to for one in answer.exports]
    assert answer == answers.load(records, tenant, answer.id)
    with records.database.read() as tx:
        assert len(tx.execute(sa.select(given_out)).all()) == 8


def _export(tenant: Tenant, its_id: str, basis: str, providers: str | None, since: str) -> dict[str, object]:
    """An export that was completed, over the whole log."""
    asked = {"since": since, "until": "3000", "basis": basis, "providers": providers, "tests": False, "parquet": False}
    made = {"state": "completed", "progress": 100, "start": 0, "end": 100, "failures": 0, "expires_at": "3000"}
    place = {"tenant_id": tenant.id, "log_id": tenant.log_id, "log_index": next(_numbers)}
    return {"id": its_id, **place, **asked, **made, "asked_by": "command", "created_at": OVER}


def test_requests_are_listed_in_pages(records: Records, source: Source) -> None:
    """Newest first; another tenant's are not there."""
    tenant, other = source.endpoint.tenant, records.ensure_tenant("other")
    ids = [erase(records, item={**RECEIPT, "id": str(number)}).id for number in range(5)][::-1]
    first, last = answers.find(records, tenant, None, 3)
    second, end = answers.find(records, tenant, last, 3)

    assert ids == [one.id for one in (*first, *second)]
    assert end is None
    assert answers.find(records, other, None, 3) == ([], None)
    for its_id in (ids[0], "no id at all"):
        with pytest.raises(NoSuchErasureError):
            answers.load(records, other, its_id)


def test_what_erases_nothing_is_completed_at_once(records: Records, source: Source) -> None:
    """Whoever reads meanwhile: there is nothing that could be left on disk."""
    with records.database.read() as tx:
        tx.execute(sa.select(erasures.c.id)).all()
        deliver(source, revoked("r1"))
        assert erase(records, item={**RECEIPT, "id": "unknown"}).state == "completed"
        assert erase(records, person=f"email:{JANE}").state == "completed"


def test_whoever_reads_for_a_moment_is_waited_for(
    records: Records, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is gone once they have read is not left to be done later."""
    (event,) = deliver(source, revoked("r1"))
    with ExitStack() as reading:
        reading.enter_context(records.database.read()).execute(sa.select(erasures.c.id)).all()

        def sleep(_seconds: float) -> None:
            reading.close()

        monkeypatch.setattr("receiver.erasure.requests.time.sleep", sleep)
        assert erase(records, event_id=event.id).state == "completed"
    assert faults_of(records) == []


def test_a_request_is_completed_once_nothing_is_left_on_disk(
    records: Records, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite whoever still reads what was there before keeps it in the write-ahead log."""
    monkeypatch.setattr("receiver.erasure.requests.PATIENCE", 0.0)
    (event,) = deliver(source, revoked("r1"))
    tenant = source.endpoint.tenant
    with records.database.read() as tx:
        tx.execute(sa.select(erasures.c.id)).all()
        its_id = ask(records, tenant, Ask(reason=REASON, event_id=event.id))
        running = records.database.is_sqlite
        assert states(records) == ["running" if running else "completed"]
        assert gone(records, [event.id])
    resume(records, tenant)
    assert states(records) == ["completed"]
    assert answers.load(records, tenant, its_id).erased == 1
    assert faults_of(records) == []
