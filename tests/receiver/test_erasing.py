"""What an erasure takes: everything that repeats what is to be gone, wherever it is, and nothing else."""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import structs

from receiver.erasure.requests import HeldError
from receiver.events import Effect, Item, format_time
from receiver.intake.reprocessing import NotReprocessableError, reprocess
from receiver.records.attempts import is_erased, load_attempt
from receiver.records.opening import Records
from receiver.records.pending import Held, Pending
from receiver.records.probes import begin_probe
from receiver.records.tables import attempts, checks, claims, deliveries, findings, held
from receiver.relay import entries
from tests.receiver.asked import LONG_AGO, answer, new_checked, showing
from tests.receiver.claims import ORGANIZATION, Issuer, check, deliver, kept, known, new_source, reversed_, state_of
from tests.receiver.erasing import REASON, erase, faults_of, gone, opening, told, traces
from tests.receiver.holding import acting, hold
from tests.receiver.open_calls import Caller, as_json, new_caller, record_of
from tests.receiver.service import ACCOUNT, revoked
from tests.receiver.submissions import RECEIVED_AT, Source
from tests.receiver.test_asking import receipt
from tests.receiver.test_reprocessing import keep
from tests.receiver.upstreams import Connection
from translog.canonical import commitment

JANE = "jane@example.com"
OVER = format_time(RECEIVED_AT + timedelta(days=2))


@pytest.fixture
def source(records: Records) -> Source:
    """A source with an account."""
    return new_source(records, "truthlocks", ACCOUNT)


def redemption(name: str) -> dict[str, str]:
    """An item, as it is asked for."""
    return {"provider": "scrip", "type": "redemption", "id": name}


def says(issuer: Issuer, item: str, operation: str | None, amount: str | None = None) -> None:
    """The issuer logs that this was reversed."""
    named = Item("redemption", item)
    issuer.says("scrip", Effect.REVERSED, named, operation=operation, amount=amount, account=ORGANIZATION)


# ---- an event, an item, a person ------------------------------------------------------------------------------------


def test_an_event_goes_with_what_differs_from_it(records: Records, source: Source) -> None:
    """Its mismatches repeat it; another event tells of itself."""
    first, second = deliver(source, revoked("secret-r1"), revoked("secret-r2"))
    deliver(source, revoked("secret-r1", note="again"), revoked("secret-r1", note="once more"))
    done = erase(records, event_id=first.id)

    assert (done.erased, done.state, done.target) == (3, "completed", "event")
    assert {second.id} == opening(records) & {row.id for row in source.rows()}
    assert traces(records, "secret-r1") == []
    assert traces(records, "secret-r2") == ["deliveries.body", "deliveries.event_data"]
    assert faults_of(records) == []


def test_a_mismatch_can_go_alone(records: Records, source: Source) -> None:
    """The event that it differs from stays."""
    deliver(source, revoked("r1"))
    deliver(source, revoked("r1", note=JANE))
    event, mismatch = (row.id for row in source.rows())

    assert erase(records, event_id=mismatch).erased == 1
    assert {event} == opening(records) & {event, mismatch}
    assert traces(records, JANE) == []
    assert faults_of(records) == []


def test_an_item_goes_from_everywhere(records: Records) -> None:
    """Its events, what was found out about them, and what is kept of the issuer's log."""
    issuer = Issuer(records)
    source = issuer.source("scrip", ORGANIZATION)
    deliver(source, reversed_("secret-a", "act-a", "5.00"), reversed_("other-b", "act-b", "1.00"))
    deliver(source, reversed_("secret-a", "act-a", "6.00"), reversed_("secret-a", "act-c", "7.00"))
    says(issuer, "secret-a", "act-a")
    says(issuer, "secret-a", "act-d")
    says(issuer, "other-b", "act-b")
    issuer.read_at(OVER)
    check(records)
    done = erase(records, item=redemption("secret-a"))

    assert done.erased == 6  # two events and a mismatch, one found confirmed and one absent, and a gap
    assert traces(records, "secret-a", "act-a", "act-c", "act-d") == []
    assert {"claims.entry", "deliveries.body"} < set(traces(records, "other-b"))
    assert faults_of(records) == []


def test_a_person_goes_with_all_that_names_them(records: Records, source: Source) -> None:
    """And with what repeats that, though it may not name them; others stay."""
    deliver(source, revoked("r1", subject=JANE), revoked("r2", subject="john@example.com"), revoked("r3"))
    deliver(source, revoked("r1", subject="hidden"))
    done = erase(records, person=f"email:{JANE.upper()}")

    assert (done.erased, done.target) == (2, "person")
    assert traces(records, JANE, "hidden") == []
    assert traces(records, "john@example.com") == ["deliveries.body"]
    assert faults_of(records) == []
    assert erase(records, person=f"email:{JANE}").erased == 0


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_in_quarantine_goes_with_what_was_read_out_of_it(records: Records, source: Source, which: int) -> None:
    """Whichever of the two is asked for; and then it cannot be read any more."""
    quarantined = keep(source, revoked("secret-q"))
    written = reprocess(records, source.endpoint.tenant, quarantined.id)
    assert written is not None

    pair = [quarantined.id, written.id]
    assert erase(records, event_id=pair[which]).erased == 2
    assert gone(records, pair)
    assert traces(records, "secret-q") == []
    assert faults_of(records) == []


def test_what_is_in_quarantine_and_erased_is_read_no_more(records: Records, source: Source) -> None:
    """There is nothing left to read; and the same bytes, come again, are known."""
    quarantined = keep(source, b'{"event_type":"receipt.unheard","email":"jane@example.com"}')
    assert erase(records, event_id=quarantined.id).erased == 1

    with pytest.raises(NotReprocessableError, match="is erased"):
        reprocess(records, source.endpoint.tenant, quarantined.id)
    [again] = source.write(b'{"event_type":"receipt.unheard","email":"jane@example.com"}')
    assert (again.id, again.new) == (quarantined.id, False)
    assert traces(records, JANE) == []
    assert faults_of(records) == []


# ---- calls that were passed on --------------------------------------------------------------------------------------


def test_a_call_goes_with_what_became_of_it(records: Records) -> None:
    """Its request, an answer that was not understood, and what the provider's record said later."""
    caller = new_caller(records, "thanx")
    call = caller.begin()
    odd = caller.answered(call, {"odd": "odd answer"})
    reading = caller.write(entries.not_done(caller.party, call, "/x", b'{"odd":"odd record"}', datetime.now(UTC)))
    event = caller.answered(call)
    ids = [call.id, odd.id, reading.id, event.id]

    assert erase(records, event_id=event.id).erased == len(set(ids))
    assert gone(records, ids)
    assert traces(records, "odd answer", "odd record") == []
    assert faults_of(records) == []


def test_a_call_that_was_answered_as_another_goes_with_that(records: Records) -> None:
    """It names the same act. Asked for by itself, it leaves what told of the act first."""
    caller = new_caller(records, "scrip")
    first, second = caller.begin(key="k1"), caller.begin(key="k2")
    event = caller.answered(first)
    assert caller.answered(second).id == event.id
    everything = {row.id for row in _rows(records)}

    assert erase(records, event_id=second.id).erased == 2
    assert {first.id, event.id} == everything & opening(records)
    assert erase(records, event_id=event.id).erased == 2
    assert not everything & opening(records)
    assert faults_of(records) == []


def test_an_open_call_that_is_erased_is_looked_after_no_more(records: Records) -> None:
    """Nobody knows what to ask; and an answer that waited to be recorded waits no more."""
    caller = new_caller(records, "truthlocks")
    call = caller.begin(due=True)
    pending = Pending.of(records)
    pending.put(Held(call.id, "default", caller.party.source.id, 200, b'{"secret":1}', datetime.now(UTC)))
    item = call.item
    assert erase(records, item={"provider": "truthlocks", "type": item.type, "id": item.id}).erased == 1

    assert list(pending.all()) == []
    assert caller.call(call).next_at is None
    assert "erased" in caller.settle(call).said
    with records.database.read() as tx:
        assert is_erased(tx, call.id)
        assert load_attempt(tx, caller.party.provider, call.id) is None
    assert faults_of(records) == []


def _rows(records: Records) -> list[sa.Row[tuple[str]]]:
    with records.database.read() as tx:
        return list(tx.execute(sa.select(deliveries.c.id)).all())


# ---- issuers' logs --------------------------------------------------------------------------------------------------


def test_an_entry_that_confirms_another_event_stays(records: Records) -> None:
    """Two ways told of one act: as long as one of them is kept, so is what confirms it."""
    issuer = Issuer(records)
    one, other = issuer.source("scrip", ORGANIZATION), issuer.source("scrip", ORGANIZATION)
    (first,), (second,) = (deliver(each, reversed_("a", "act-a", "5.00")) for each in (one, other))
    says(issuer, "a", "act-a")
    issuer.read_at(OVER)
    check(records)
    assert [state_of(records, its_id) for its_id in (first.id, second.id)] == ["confirmed"] * 2

    assert erase(records, event_id=first.id).erased == 2
    assert kept(records, 0).entry is not None
    assert faults_of(records) == []
    assert erase(records, event_id=second.id).erased == 2
    assert (kept(records, 0).entry, kept(records, 0).proof) == (None, None)
    assert faults_of(records) == []


def test_a_gap_that_nobody_told_of_goes_by_its_item(records: Records) -> None:
    """There is no delivery at all; and an entry that is no gap yet is told to be gone as well."""
    issuer = Issuer(records)
    issuer.source("scrip", ORGANIZATION)
    says(issuer, "secret-a", "act-a")
    issuer.read_at(OVER)
    check(records)
    says(issuer, "secret-b", "act-b")
    issuer.read_at(None)

    assert erase(records, item=redemption("secret-a")).erased == 1
    assert erase(records, item=redemption("secret-b")).erased == 0
    assert traces(records, "secret-a", "secret-b") == []
    assert [leaf.facts["claims"] for _, leaf in told(records)] == [1, 1]
    assert faults_of(records) == []


def test_what_is_read_again_does_not_come_back(records: Records) -> None:
    """The log is followed from its beginning once more; and nothing is judged anew by what is gone."""
    issuer = Issuer(records)
    source = issuer.source("scrip", ORGANIZATION)
    confirmed, absent = deliver(source, reversed_("a", "act-a", "5.00"), reversed_("b", "act-b", "5.00"))
    says(issuer, "a", "act-a")
    issuer.read_at(OVER)
    check(records)
    for each in (confirmed, absent):
        erase(records, event_id=each.id)
    before = len(source.leaves())
    says(issuer, "b", "act-b")
    issuer.read_at(OVER)
    with records.database.write() as tx:  # as after a change of the source
        tx.execute(sa.text("DELETE FROM taken_up"))
        tx.execute(sa.update(claims).values(due_at=""))
        tx.execute(sa.update(checks).values(due_at=""))
    check(records)

    assert kept(records, 0).entry is None
    assert (state_of(records, confirmed.id), state_of(records, absent.id)) == ("confirmed", "absent")
    assert len(source.leaves()) == before
    assert faults_of(records) == []


# ---- what comes afterwards ------------------------------------------------------------------------------------------


def test_a_replay_brings_nothing_back(records: Records, source: Source) -> None:
    """It is known by its keyed hashes. What differs is new, and kept as that; asked again, it goes too."""
    body = revoked("secret-r1", subject=JANE)
    (first,) = deliver(source, body)
    erase(records, event_id=first.id)
    [again] = source.write(body)

    assert (again.status, again.id, again.new) == ("duplicate", first.id, False)
    assert traces(records, "secret-r1", JANE) == []
    [changed] = source.write(revoked("secret-r1", subject="john@example.com"))
    assert (changed.status, changed.id) == ("mismatch", first.id)
    assert faults_of(records) == []
    assert erase(records, event_id=first.id).erased == 1
    assert traces(records, "secret-r1") == []
    assert faults_of(records) == []


def test_what_a_breach_said_goes_and_its_code_stays(records: Records) -> None:
    """The sentence may quote what is gone; the code is a fact of the entry."""
    source = new_source(records, "scrip", ORGANIZATION)
    (event,) = deliver(source, reversed_("a", "not a uuid", "-20.00"))
    [before] = [row.breaches for row in source.rows()]
    erase(records, event_id=event.id)
    [after] = [row.breaches for row in source.rows()]

    assert [code for code, _ in json.loads(before)] == [code for code, _ in json.loads(after)]
    assert {""} == {sentence for _, sentence in json.loads(after)}
    assert traces(records, "-20.00") == []
    assert faults_of(records) == []


def probed(records: Records, *sources: Source) -> None:
    """Something is held for a probe of each of these."""
    for source in sources:
        its_id = source.endpoint.source.id
        begin_probe(records, its_id, 60)
        with records.database.write() as tx:
            tx.execute(sa.insert(held).values(id=its_id, source_id=its_id, delivery=b"sealed"))


def still_held(records: Records, *sources: Source) -> list[bool]:
    """Whether anything is held for a probe of each of these."""
    with records.database.read() as tx:
        there = tx.execute(sa.select(held.c.source_id)).scalars().all()
    return [source.endpoint.source.id in there for source in sources]


def test_what_a_probe_holds_of_the_source_goes(records: Records, source: Source) -> None:
    """It is sealed, and nobody knows whom it names. Another source's stays, and all of it if nothing is erased."""
    other = new_source(records, "truthlocks", ACCOUNT)
    (event, _) = deliver(source, revoked(), revoked(subject=JANE))
    probed(records, source, other)
    erase(records, person="email:nobody@example.com")
    erase(records, item=redemption("unknown"))
    assert still_held(records, source, other) == [True, True]

    erase(records, event_id=event.id)
    assert still_held(records, source, other) == [False, True]
    probed(records, new := new_source(records, "truthlocks", ACCOUNT))
    erase(records, person=f"email:{JANE}")
    assert still_held(records, new, other) == [True, True]
    assert faults_of(records) == []


@pytest.mark.parametrize(
    ("covers", "kept_there"),
    [
        ({"source": True}, [False, True]),
        ({"provider": "truthlocks"}, [True, True]),
        ({"provider": "thanx"}, [False, False]),
        ({"item": {"provider": "thanx", "type": "job", "id": "j"}}, [True, True]),
        ({"person": "email:john@example.com"}, [True, True]),
        ({"period": {"since": "2026-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}}, [True, True]),
        ({"period": {"since": "2020-01-01T00:00:00Z", "until": "2021-01-01T00:00:00Z"}}, [False, False]),
    ],
)
def test_what_a_probe_holds_of_what_a_hold_covers_stays(
    records: Records, source: Source, covers: dict[str, Any], kept_there: list[bool]
) -> None:
    """It cannot be seen whether it is what must be kept."""
    other = new_source(records, "truthlocks", ACCOUNT)
    at = datetime(2025, 1, 1, tzinfo=UTC)
    ids = [deliver(each, revoked(), at=at)[0].id for each in (source, other)]
    probed(records, source, other)
    asked = {"source": other.endpoint.source.id} if "source" in covers else covers
    hold(records, acting(records, "Ann"), **asked)
    for its_id in ids:
        with suppress(HeldError):
            erase(records, event_id=its_id)

    assert still_held(records, source, other) == kept_there
    assert faults_of(records) == []


def test_what_was_to_be_done_about_it_is_not(records: Records) -> None:
    """A check that waits for the end of its grace is not due any more."""
    issuer = Issuer(records)
    (event,) = deliver(issuer.source("scrip", ORGANIZATION), reversed_("a", "act-a", "5.00"))
    issuer.read_at(format_time(RECEIVED_AT))
    check(records)
    row = known(records, event.id)
    assert row is not None
    assert row.due_at is not None
    erase(records, event_id=event.id)

    row = known(records, event.id)
    assert row is not None
    assert (row.state, row.due_at) == ("pending", None)
    assert faults_of(records) == []


def test_what_a_provider_answers_meanwhile_is_not_kept(records: Records) -> None:
    """Its record of an event that is erased while it is asked would bring it back."""
    checked = new_checked(records, "truthlocks")
    event_id = checked.tell("secret-r1", ago=LONG_AGO)

    async def behave(connection: Connection) -> None:
        await connection.request()
        await asyncio.to_thread(erase, records, event_id=event_id)
        await connection.say(answer(receipt("secret-r1", subject=JANE)))

    assert checked.look(event_id, behave).outcome == "overtaken"
    assert traces(records, "secret-r1", JANE) == []
    again = checked.look(event_id, showing(receipt("secret-r1")))
    assert (again.outcome, again.came) == ("not_asked", [])
    assert faults_of(records) == []


def test_whom_only_the_providers_record_names(records: Records) -> None:
    """The event goes that it was asked about."""
    checked = new_checked(records, "truthlocks")
    event_id = checked.tell("secret-r1")
    checked.look(event_id, showing(receipt("secret-r1", subject=JANE)))
    assert traces(records, JANE) == ["findings.body"]

    assert erase(records, person=f"email:{JANE}").erased == 2
    assert traces(records, JANE, "secret-r1") == []
    assert faults_of(records) == []


# ---- what is told ---------------------------------------------------------------------------------------------------


def test_the_entry_names_rows_and_nothing_else(records: Records, source: Source) -> None:
    """Sorted ids, who asked and what for; why is only committed to, and kept beside it."""
    (event,) = deliver(source, revoked("r1"))
    deliver(source, revoked("r1", note="x"))
    done = erase(records, event_id=event.id, by="a key")
    [(index, leaf)] = told(records)

    facts = {"by": "a key", "claims": 0, "erasure": done.id, "ids": sorted(row.id for row in source.rows())}
    assert leaf.facts == {**facts, "state": "all", "target": "event"}
    assert [index] == done.entries
    with records.database.read() as tx:
        row = tx.execute(sa.select(findings).where(findings.c.id == leaf.id)).one()
    assert json.loads(row.event_data) == {"reason": REASON}
    assert leaf.event == commitment(bytes(row.event_salt), "event", bytes(row.event_data))
    assert leaf.delivery is None


def test_what_is_erased_twice_is_told_once(records: Records, source: Source) -> None:
    """And what nobody knows is no error."""
    (event,) = deliver(source, revoked("r1"))
    erase(records, event_id=event.id)
    size = len(source.leaves())
    for done in (
        erase(records, event_id=event.id),
        erase(records, item=redemption("unknown")),
        erase(records, person="email:nobody@example.com"),
    ):
        assert (done.erased, done.entries, done.state) == (0, [], "completed")
    assert len(source.leaves()) == size
    assert faults_of(records) == []


def test_a_call_of_a_person_by_the_record_alone(records: Records) -> None:
    """What the provider's record says of a call goes with the person whom only that names."""
    caller: Caller = new_caller(records, "truthlocks")
    call = caller.begin()
    document = as_json(record_of("truthlocks", subject=JANE))
    told_by = structs.replace(call)
    quarantined = caller.write(entries.not_done(caller.party, told_by, "/v1/receipts/x", document, datetime.now(UTC)))
    assert erase(records, person=f"email:{JANE}").erased == 2
    assert gone(records, [call.id, quarantined.id])
    assert traces(records, JANE) == []
    with records.database.read() as tx:
        assert tx.execute(sa.select(attempts.c.outcome)).scalar_one() == "not_done"
    assert faults_of(records) == []
