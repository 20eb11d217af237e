"""Reading quarantined deliveries again: the usual way, once, with what they came with."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from receiver.fsck import fsck
from receiver.intake.batch import write_batch
from receiver.intake.reprocessing import NotQuarantinedError, NotReprocessableError, reprocess
from receiver.intake.submission import Outcome, Status
from receiver.records.attempts import Attempt
from receiver.records.opening import Records
from receiver.records.tables import deliveries, reprocessed
from receiver.relay import entries
from receiver.settings import Settings
from tests.receiver.open_calls import Caller, as_json, new_caller, record_of, saying
from tests.receiver.operations import EXAMPLES
from tests.receiver.service import ACCOUNT, at_once, revoked
from tests.receiver.sites import local_site, lose
from tests.receiver.submissions import RECEIVED_AT, Source, altered, new_sources
from tests.translog import faults
from translog.canonical import decode
from translog.errors import LogRegressed
from translog.evidence import Delivery, Opening
from translog.merkle import leaf_hash
from translog.store import logs

OTHER = "another account"
CREATED = b'{"event_type":"receipt.created"}'
GONE = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))


@pytest.fixture
def source(records: Records) -> Source:
    """A source of the tenant `default`, with an account."""
    return new_sources(records, "default", account=ACCOUNT)[0]


def set_source(source: Source, **values: object) -> None:
    """Change its settings, as a command does."""
    change = ", ".join(f"{name} = :{name}" for name in values)
    with source.records.database.write() as tx:
        statement = sa.text(f"UPDATE sources SET {change} WHERE id = :source")
        tx.execute(statement, {**values, "source": source.endpoint.source.id})


def keep(source: Source, body: bytes, reason: str = "unknown_type", at: datetime = RECEIVED_AT) -> Outcome:
    """Keep a delivery in quarantine, as a version did that knew less."""
    unread = altered(source.submission(b"{", at), body=body)
    [outcome] = write_batch(source.records.database, [unread.quarantined(reason)])
    assert (outcome.status, outcome.reason) == (Status.QUARANTINED, reason)
    return outcome


def again(source: Source, quarantined: Outcome) -> Outcome | None:
    """Read it again."""
    return reprocess(source.records, source.endpoint.tenant, quarantined.id)


def noted(source: Source) -> list[tuple[str, str, str | None]]:
    """What is noted of deliveries that were reprocessed: which, what became of it, and the row written for it."""
    columns = reprocessed.c
    with source.records.database.read() as tx:
        rows = tx.execute(sa.select(columns.quarantine_id, columns.status, columns.row_id).order_by(columns.at)).all()
    return [(row.quarantine_id, row.status, row.row_id) for row in rows]


def wrong(source: Source) -> Sequence[str]:
    """What `receiver fsck` finds."""
    return [str(finding) for finding in fsck(source.records).findings]


# ---- what becomes of it -------------------------------------------------------------------------------------------


def test_it_becomes_an_event(source: Source) -> None:
    """Recorded with what it came with, at the log's end, and its entry says which quarantined delivery it is."""
    body = revoked("a", tenant_id=OTHER)
    [kept] = source.write(body)
    assert kept.reason == "other_account"
    [newer] = source.write(revoked("b"))
    set_source(source, account=OTHER)

    outcome = again(source, kept)

    quarantine, _, row = source.rows()
    leaf = source.leaves()[-1]
    assert outcome == Outcome(
        Status.RECORDED, row.id, newer.log_index + 1, leaf_hash(leaf.encode()), reason=None, new=True
    )
    assert leaf.facts == {
        "breaches": ["id_not_uuid"],
        "effect": "revoked",
        "event": "receipt.revoked",
        "provider": "truthlocks",
        "received_at": "2026-11-20T09:00:00.000000Z",
        "reprocessed": kept.id,
        "scheme": "token",
        "secret": source.endpoint.source.secrets[0].id,
        "source": source.endpoint.source.id,
        "test": False,
        "via": "webhook",
    }
    assert (leaf.id, leaf.kind, leaf.logged_at) == (row.id, "revocation", row.logged_at)
    assert leaf.logged_at > quarantine.logged_at
    same = ("source_id", "via", "scheme", "test", "received_at", "headers", "body")
    assert [getattr(row, name) for name in same] == [getattr(quarantine, name) for name in same]
    assert leaf.delivery == Opening(Delivery((("x-signed", "so"),), body).encode(), row.delivery_salt).commitment(
        "delivery"
    )
    event: Any = decode(row.event_data)
    assert (event["account"], event["item"]["id"]) == (OTHER, "a")
    assert noted(source) == [(kept.id, "recorded", row.id)]
    assert wrong(source) == []


def test_a_notice_that_is_known_already(source: Source) -> None:
    """A duplicate of the event that was recorded meanwhile; nothing but that is noted."""
    kept = keep(source, revoked("a"))
    [event] = source.write(revoked("a"))
    size = len(source.leaves())

    assert again(source, kept) == altered(event, status=Status.DUPLICATE, new=False)

    assert (noted(source), len(source.leaves())) == ([(kept.id, "duplicate", None)], size)
    assert wrong(source) == []


def test_a_notice_that_is_known_with_other_content(source: Source) -> None:
    """A mismatch, kept once for each content, with an entry that says where it comes from."""
    first, second = keep(source, revoked("a", note="x")), keep(source, revoked("a", note="y"))
    event, mismatch = source.write(revoked("a"), revoked("a", note="y"))

    outcomes = [again(source, first), again(source, second)]

    row, leaf = source.rows()[-1], source.leaves()[-1]
    written = Outcome(
        Status.MISMATCH, event.id, row.log_index, leaf_hash(leaf.encode()), reason="content_differs", new=True
    )
    assert outcomes == [written, altered(mismatch, new=False)]
    assert (leaf.kind, leaf.facts) == (
        "mismatch",
        {
            "first": event.id,
            "provider": "truthlocks",
            "received_at": "2026-11-20T09:00:00.000000Z",
            "reprocessed": first.id,
            "source": source.endpoint.source.id,
        },
    )
    assert noted(source) == [(first.id, "mismatch", row.id), (second.id, "mismatch", None)]
    assert wrong(source) == []


def test_what_bears_on_nothing(source: Source) -> None:
    """Ignored; that is noted, and nothing else written."""
    kept = keep(source, CREATED)
    size = len(source.leaves())

    assert again(source, kept) is None

    assert (noted(source), len(source.leaves())) == ([(kept.id, "ignored", None)], size)
    assert wrong(source) == []


def test_what_is_still_not_understood(source: Source) -> None:
    """It stays as it was, and the answer says why now; once it is understood, it can still be reprocessed."""
    kept = keep(source, revoked("a", tenant_id=OTHER), "wrong_shape")
    size = len(source.leaves())

    outcomes = [again(source, kept) for _ in range(2)]

    assert outcomes == [altered(kept, reason="other_account", new=False)] * 2
    assert (noted(source), len(source.leaves()), source.rows()[0].reason) == ([], size, "wrong_shape")
    set_source(source, account=None)
    outcome = again(source, kept)
    assert outcome is not None
    assert outcome.status == Status.RECORDED


def test_what_comes_again_afterwards(source: Source) -> None:
    """The same bytes from the provider are a duplicate of what was recorded for the first ones."""
    kept = keep(source, revoked("a"))
    outcome = again(source, kept)
    assert outcome is not None

    assert source.write(revoked("a")) == [altered(outcome, status=Status.DUPLICATE, new=False)]


# ---- how it is judged ---------------------------------------------------------------------------------------------


def test_rules_see_what_was_logged_before(source: Source) -> None:
    """What was recorded of the item meanwhile too, though it was received later: in either order there are two."""
    kept = keep(source, revoked("a", revoked_at="2026-11-20T08:00:00Z"))
    source.write(revoked("a", revoked_at="2026-11-20T08:00:01Z"))

    again(source, kept)

    assert source.leaves()[-1].facts["breaches"] == ["id_not_uuid", "revoked_again"]
    assert wrong(source) == []


@pytest.mark.parametrize(("window", "breaches"), [(300, ["occurred_in_future"]), (7200, [])])
def test_rules_go_by_the_time_of_receipt(source: Source, window: int, breaches: list[str]) -> None:
    """What lay in the future when it came still does, by the source's window of today."""
    received_at = datetime(2026, 11, 1, tzinfo=UTC)
    later = received_at + timedelta(hours=1)
    receipt = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"
    kept = keep(source, revoked(receipt, revoked_at=later.isoformat()), at=received_at)
    set_source(source, replay_window=window)

    again(source, kept)

    assert source.leaves()[-1].facts["breaches"] == breaches


def test_it_is_a_test_if_its_source_was_one_then(source: Source) -> None:
    """Whatever its source is today."""
    [kept] = write_batch(
        source.records.database, [altered(source.submission(revoked("a")), test=True).quarantined("wrong_shape")]
    )

    again(source, kept)

    assert (source.rows()[-1].test, source.leaves()[-1].facts["test"]) == (True, True)
    assert wrong(source) == []


def test_a_disabled_source(source: Source) -> None:
    """It takes no deliveries, and what it took can be read again."""
    kept = keep(source, revoked("a"))
    set_source(source, enabled=False)

    outcome = again(source, kept)

    assert outcome is not None
    assert outcome.status == Status.RECORDED


def test_how_it_was_authenticated_is_what_its_entry_says(source: Source) -> None:
    """And not what a row says since: whoever changes that makes no signature out of a token."""
    kept = keep(source, revoked("a"))
    with source.records.database.write() as tx:
        tx.execute(sa.update(deliveries).values(scheme="standard-webhooks/v1a", test=True))

    again(source, kept)

    quarantined, event = source.leaves()[-2:]
    told = ("scheme", "secret", "test")
    assert [event.facts[name] for name in told] == [quarantined.facts[name] for name in told]
    assert (event.facts["scheme"], event.facts["test"]) == ("token", False)


@pytest.mark.parametrize("status", ["ignored", "duplicate"])
def test_what_is_only_said_to_be_done_is_read_anew(source: Source, status: str) -> None:
    """Where nothing was written for it, a later version may understand it; and fsck says that this one does."""
    kept = keep(source, revoked("a"))
    said = {"quarantine_id": kept.id, "at": "2026-11-20T09:00:00.000000Z", "status": status}
    with source.records.database.write() as tx:
        tx.execute(sa.insert(reprocessed).values(**said))
    told = {"ignored": "it is not read as that", "duplicate": "it is not said of what"}[status]
    assert wrong(source) == [f"records: reprocessed {kept.id}: status is '{status}', and {told}: reprocess it again"]

    outcome = again(source, kept)

    assert outcome is not None
    assert outcome.status == Status.RECORDED
    assert wrong(source) == []


# ---- once ---------------------------------------------------------------------------------------------------------


def test_a_second_time(source: Source) -> None:
    """Whatever became of it, it is told again, and nothing is written."""
    bodies = [revoked("a"), revoked("b"), revoked("c", note="x"), revoked("d", note="x"), CREATED]
    kept = [keep(source, body) for body in bodies]
    source.write(revoked("b"), revoked("c"), revoked("d"), revoked("d", note="x"))
    first = [again(source, one) for one in kept]
    notes, leaves = noted(source), source.leaves()

    second = [again(source, one) for one in kept]

    assert [one and one.status for one in first] == ["recorded", "duplicate", "mismatch", "mismatch", None]
    assert second == [one and altered(one, new=False) for one in first]
    assert (noted(source), source.leaves()) == (notes, leaves)


def test_several_at_once(source: Source, settings: Settings) -> None:
    """In this process and in another: one event, and all are told of it."""
    kept = keep(source, revoked("a"))
    neighbour = Records.open(settings)

    def work(number: int) -> Outcome | None:
        records = neighbour if number % 2 else source.records
        return reprocess(records, records.tenant("default"), kept.id)

    outcomes = at_once(8, work)
    neighbour.close()

    assert [row.kind for row in source.rows()] == ["quarantine", "revocation"]
    assert sorted(one.new for one in outcomes if one is not None) == [False] * 7 + [True]
    assert {one.id for one in outcomes if one is not None} == {source.rows()[1].id}
    assert len(noted(source)) == 1
    assert wrong(source) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_whose_outcome_is_unknown(source: Source, moment: faults.Moment) -> None:
    """All of it was written, or nothing; the next attempt finds out which."""
    kept = keep(source, revoked("a"))

    def connection_lost() -> None:
        raise OperationalError("COMMIT", {}, Exception("the connection was lost"))

    with (
        faults.at(source.records.database, moment, "COMMIT", happens=connection_lost),
        pytest.raises(OperationalError),
    ):
        again(source, kept)

    there = 1 if moment == "after" else 0
    assert (len(noted(source)), len(source.rows())) == (there, 1 + there)
    outcome = again(source, kept)
    assert outcome is not None
    assert (outcome.status, outcome.new) == (Status.RECORDED, not there)
    assert wrong(source) == []


# ---- what came of calls -------------------------------------------------------------------------------------------


def quarantined(caller: Caller, attempt: Attempt) -> Outcome:
    """Keep the documented answer to a call in quarantine, as a version did that knew less."""
    operation = caller.party.provider.operation
    answer = as_json(EXAMPLES[caller.party.provider.name].answer)
    told = altered(attempt, status=min(operation.successes))
    return caller.write(entries.answer(caller.party, told, answer, RECEIVED_AT).quarantined("wrong_shape"))


@pytest.mark.parametrize("provider", EXAMPLES)
def test_an_answer(records: Records, provider: str) -> None:
    """It is read as its operation documents it, by what its call asked; and is the call's outcome then."""
    caller = new_caller(records, provider)
    attempt = caller.begin()
    kept = quarantined(caller, attempt)
    assert (caller.call(attempt).outcome, caller.call(attempt).outcome_id) == ("quarantined", kept.id)

    outcome = reprocess(records, caller.party.tenant, kept.id)

    event = caller.told()[-1]
    facts, call = caller.facts(event), caller.call(attempt)
    assert outcome is not None
    assert (outcome.status, outcome.id, event.kind, event.via) == (Status.RECORDED, event.id, "revocation", "relay")
    assert (facts["attempt"], facts["reprocessed"], facts["secret"]) == (attempt.id, kept.id, None)
    assert (facts["via"], facts["scheme"]) == ("relay", "upstream")
    status = min(caller.party.provider.operation.successes)
    assert (call.outcome, call.outcome_id, call.status) == ("recorded", event.id, status)
    assert (call.next_at is not None) == (provider == "thanx"), "what is under way, and can be asked about, is followed"
    assert caller.wrong() == []


def test_a_record_that_was_asked_about_a_call(records: Records) -> None:
    """It is read as one, and came by `poll`."""
    caller = new_caller(records, "truthlocks")
    caller.set_source(account=OTHER)
    attempt = caller.begin()
    quarantine_id = caller.settle_by(attempt, saying(record_of("truthlocks", revoked_at=None))).settled.outcome_id
    assert quarantine_id is not None
    caller.set_source(account=ACCOUNT)

    outcome = reprocess(records, caller.party.tenant, quarantine_id)

    event = caller.told()[-1]
    assert outcome is not None
    assert (outcome.id, event.via, caller.facts(event)["reprocessed"]) == (event.id, "poll", quarantine_id)
    assert (caller.call(attempt).outcome, caller.call(attempt).outcome_id) == ("recorded", event.id)
    assert caller.wrong() == []


def test_an_answer_whose_call_is_erased(records: Records) -> None:
    """What was asked is needed to read it."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    kept = quarantined(caller, attempt)
    with records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == attempt.id).values(**GONE))

    with pytest.raises(NotReprocessableError, match=f"the call {attempt.id}, is erased"):
        reprocess(records, caller.party.tenant, kept.id)


# ---- what cannot be -----------------------------------------------------------------------------------------------


def test_what_is_not_in_quarantine(source: Source) -> None:
    """Neither an event, nor what another tenant has, nor anything that is no id."""
    [event] = source.write(revoked("a"))
    kept = keep(source, revoked("b"))
    other = source.records.ensure_tenant("other")

    for tenant, wanted in (
        (source.endpoint.tenant, event.id),
        (other, kept.id),
        *((source.endpoint.tenant, text) for text in ("", "x", "\0", "\ud800", "0198a1b2-0000-7000-8000-000000000000")),
    ):
        with pytest.raises(NotQuarantinedError, match="there is no quarantined delivery"):
            reprocess(source.records, tenant, wanted)


def test_what_is_erased(source: Source) -> None:
    """There is nothing to read any more; what became of one before is still told where that is noted."""
    unread, recorded, duplicate = (keep(source, revoked(name)) for name in ("a", "b", "c"))
    source.write(revoked("c"))
    event = again(source, recorded)
    again(source, duplicate)
    with source.records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.kind == "quarantine").values(**GONE))

    with pytest.raises(NotReprocessableError, match=f"{unread.id} is erased"):
        again(source, unread)
    with pytest.raises(NotReprocessableError, match=f"{duplicate.id} is erased"):
        again(source, duplicate)
    assert event is not None
    assert again(source, recorded) == altered(event, new=False)


def test_a_provider_that_is_not_known(source: Source) -> None:
    """A database may come from a version that knew more."""
    kept = keep(source, revoked("a"))
    set_source(source, provider="acme")

    with pytest.raises(NotReprocessableError, match="cannot be read: there is no provider 'acme'"):
        again(source, kept)


def test_what_the_database_does_not_take(source: Source) -> None:
    """It stays in quarantine as `unrecordable`, with no trace of the attempt, and the log goes on."""
    kept = keep(source, revoked("a"))
    with source.records.database.write() as tx:
        tx.execute(
            sa.text(
                "CREATE TRIGGER no BEFORE INSERT ON deliveries WHEN NEW.kind = 'revocation' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
                if source.records.database.is_sqlite
                else "ALTER TABLE deliveries ADD CONSTRAINT no CHECK (kind <> 'revocation')"
            )
        )

    assert again(source, kept) == altered(kept, reason="unrecordable", new=False)

    assert noted(source) == []
    assert keep(source, b"{").log_index == kept.log_index + 1
    assert wrong(source) == []


def test_a_log_that_regressed_is_not_written_to(source: Source) -> None:
    """Whoever has seen more refuses to go on from less."""
    kept = keep(source, revoked("a"))
    with source.records.database.write() as tx:
        tx.execute(sa.update(logs).where(logs.c.id == source.log_id).values(size=1))

    with pytest.raises(LogRegressed):
        again(source, kept)

    assert noted(source) == []


def test_what_a_closed_log_holds(tmp_path: Path) -> None:
    """After a recovery it is read again into the log that goes on."""
    site = local_site(tmp_path)
    site.deliver(revoked("a", tenant_id=OTHER))
    lose(site)
    site.recover()
    with site.opened(check=True) as (records, tenant):
        with records.database.write() as tx:
            tx.execute(sa.text("UPDATE sources SET account = NULL"))
            kept = tx.execute(sa.select(deliveries.c.id).where(deliveries.c.kind == "quarantine")).scalar_one()

        outcome = reprocess(records, tenant, kept)

    assert outcome is not None
    leaf = site.leaf(tenant.log_id, outcome.log_index)
    assert (leaf.kind, leaf.facts["reprocessed"]) == ("revocation", kept)
    assert site.check().findings == ()
