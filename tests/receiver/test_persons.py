"""The index of whom deliveries name: everything that is kept, caught up with whatever happens meanwhile."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.events import CrossCheck, Kind
from receiver.fsck import fsck
from receiver.records import persons as index
from receiver.records.findings import Finding, keep
from receiver.records.journal import change
from receiver.records.keeping import persons, persons_read
from receiver.records.opening import Records
from receiver.records.persons import (
    catch_up,
    catch_up_all,
    catch_up_locked,
    deliveries_of,
    forget,
    key_of,
    person,
)
from receiver.records.tables import deliveries
from receiver.settings import Settings
from tests.receiver.claims import ORGANIZATION, deliver, new_source, reversed_
from tests.receiver.erasing import erase as erase_person
from tests.receiver.erasing import traces
from tests.receiver.five import FIVE, PARTIES
from tests.receiver.open_calls import new_caller
from tests.receiver.operations import EXAMPLES
from tests.receiver.service import ACCOUNT, running, settings_in, until
from tests.receiver.submissions import Source
from tests.receiver.test_persons_named import LOOSE
from translog.evidence import Delivery
from translog.store import logs

JANE = "customer_id:jane"
RECEIPT = {"event_type": "receipt.revoked", "receipt_id": "r1", "revoked_at": "2026-11-20T08:59:58Z"}


def found(records: Records, text: str = JANE, tenant: str = "default") -> list[str]:
    """The deliveries that name a person, as far as is caught up."""
    of = records.tenant(tenant)
    with records.database.read() as tx:
        return deliveries_of(tx, of, key_of(of, person(text)))


def caught_up(records: Records, text: str = JANE, tenant: str = "default") -> list[str]:
    """The same after catching up."""
    catch_up(records, records.tenant(tenant))
    return found(records, text, tenant)


def read(records: Records, tenant: str = "default") -> int:
    """How far the tenant's log is gone through."""
    with records.database.read() as tx:
        query = sa.select(persons_read.c.next_index).where(persons_read.c.log_id == records.tenant(tenant).log_id)
        return tx.execute(query).scalar_one_or_none() or 0


def faults(records: Records) -> list[str]:
    """What a check of the records finds."""
    return [str(one) for one in fsck(records).findings]


def scrip(records: Records, tenant: str = "default") -> Source:
    """A source whose deliveries may name participants."""
    return new_source(records, "scrip", ORGANIZATION, tenant)


def redeemed(name: str, participant: str = "jane") -> bytes:
    """The body of a `redemption.reversed` that names a participant."""
    return reversed_(name, f"reversal of {name}", "1", participant_id=participant)


# ---- what is found --------------------------------------------------------------------------------------------------


def test_a_delivery_is_found_by_whom_it_names(records: Records) -> None:
    """All of them, in the log's order, and none but those."""
    source = scrip(records)
    first, _, third = deliver(source, redeemed("a"), redeemed("b", "john"), redeemed("c"))
    assert [first.id, third.id] == caught_up(records)
    assert caught_up(records, "external_id:jane") == []

    (fourth,) = deliver(source, redeemed("d"))
    assert [first.id, third.id] == found(records)
    assert [first.id, third.id, fourth.id] == caught_up(records)
    assert faults(records) == []


@pytest.mark.parametrize("party", PARTIES, ids=lambda party: party.provider)
def test_deliveries_of_every_provider(records: Records, party: Any) -> None:
    """Plain ones, in the documented shape, each with the member that names somebody added where it may stand."""
    member = {
        "truthlocks": {"payload": {"subject": "jane@example.com"}},
        "thanx": {"failures": [{"user_identifier": "Jane@Example.com"}]},
        "capillary": {"request": {"orgId": 50933, "customerId": "jane@example.com"}},
        "voucherify": {"customer": {"email": " jane@example.com"}},
        "scrip": {"email": "JANE@example.com"},
    }[party.provider]
    source = new_source(records, party.provider, party.account)
    (event, other) = deliver(source, party.body(**member), party.body())

    assert event.status == other.status == "recorded"
    assert [event.id] == caught_up(records, "email:jane@example.com")


def test_what_was_not_understood_is_found_as_well(records: Records) -> None:
    """And what differs from the first of its notice, and tests."""
    source, test = scrip(records), new_source(records, "scrip", ORGANIZATION, test=True)
    bodies = (redeemed("a"), redeemed("a")[:-1] + b',"note":1}', b'{"type":"no","deep":[{"participant_id":"jane"}]}')
    changed = reversed_("a", "reversal of a", "2", participant_id="jane")
    told = [*deliver(source, *bodies, changed), *deliver(test, redeemed("t"))]

    with records.database.read() as tx:
        rows = tx.execute(sa.select(deliveries.c.id, deliveries.c.kind).order_by(deliveries.c.log_index)).all()
    assert [row.id for row in rows] == caught_up(records)
    assert [row.kind for row in rows] == ["revocation", "quarantine", "mismatch", "revocation"]
    assert [one.status for one in told] == ["recorded", "duplicate", "quarantined", "mismatch", "recorded"]


def test_calls_that_were_passed_on_are_found(records: Records) -> None:
    """By the request, by the answer, and by the path of a call without a body."""
    capillary, voucherify = new_caller(records, "capillary"), new_caller(records, "voucherify")
    asked = {**EXAMPLES["capillary"].request, "customerId": "jane@example.com"}
    call = capillary.begin(request=asked)
    event = capillary.answered(call)
    cancel = voucherify.begin()
    refused = voucherify.refused(cancel)

    assert [call.id] == caught_up(records, "email:jane@example.com")
    assert [event.id] == found(records, "customer_id:62090013")
    assert [cancel.id] == found(records, "customer_id:lmbr_1") == found(records, "card_number:lcrd_1")
    assert refused.status == "recorded"
    assert faults(records) == []


def test_whom_a_record_names_its_event_names(records: Records) -> None:
    """What the provider's own record said is kept beside an event that says nothing of it."""
    source = new_source(records, "truthlocks", None)
    (event,) = deliver(source, json.dumps(RECEIPT).encode())
    assert caught_up(records, "email:jane@example.com") == []

    told(records, source, event.id, b'{"subject":"jane@example.com"}')
    assert [event.id] == caught_up(records, "email:jane@example.com")
    assert [one for one in faults(records) if "person" in one] == []


def told(records: Records, source: Source, event_id: str, body: bytes) -> None:
    """A cross-check by the provider's record."""
    tenant = source.endpoint.tenant
    finding = Finding(
        Kind.CROSS_CHECK,
        CrossCheck.PENDING.value,
        facts={
            "by": None,
            "first": event_id,
            "late": False,
            "provider": source.endpoint.source.provider,
            "source": source.endpoint.source.id,
            "was": "none",
        },
        delivery=Delivery((), body),
        source_id=source.endpoint.source.id,
        event_id=event_id,
    )
    with change(records.database, tenant.log) as changing:
        keep(changing, tenant, finding)


def test_tenants_do_not_see_one_another(records: Records) -> None:
    """The same person has another key with each."""
    (mine,), (yours,) = (deliver(scrip(records, tenant), redeemed("a")) for tenant in ("default", "acme"))

    assert [mine.id] == caught_up(records)
    assert [yours.id] == caught_up(records, tenant="acme")
    keys = {key_of(tenant, person(JANE)) for tenant in records.tenants}
    assert len(keys) == 2
    with records.database.read() as tx:
        assert deliveries_of(tx, records.tenant("default"), key_of(records.tenant("acme"), person(JANE))) == []


def test_nothing_of_a_person_is_in_the_index(records: Records) -> None:
    """It holds keyed hashes of 16 bytes, and ids."""
    deliver(scrip(records), redeemed("a"))
    assert caught_up(records)

    with records.database.read() as tx:
        (row,) = tx.execute(sa.select(persons)).all()
    assert (len(row.person_key), len(row.delivery_id)) == (16, 36)
    assert b"jane" not in row.person_key


# ---- catching up ----------------------------------------------------------------------------------------------------


def test_a_turn_ends_after_so_many_pieces(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is for the next one; and nothing is gone through twice."""
    monkeypatch.setattr(index, "PIECE", 2)
    monkeypatch.setattr(index, "PIECES", 2)
    tenant = records.tenant("default")
    deliver(scrip(records), *(redeemed(str(number)) for number in range(9)))
    size = tenant.log.head().size
    assert size > 8

    catch_up(records, tenant, 1)
    assert read(records) == 2
    catch_up_all(records)
    assert read(records) == 6
    catch_up(records, tenant)
    assert (read(records), len(found(records))) == (size, 9)


def test_closed_logs_are_gone_through_too(records: Records) -> None:
    """A tenant whose log was begun again after a loss has several."""
    source = scrip(records)
    (event,) = deliver(source, redeemed("a"))
    tenant = records.tenant("default")
    with records.database.write() as tx:  # another log of the tenant, that is empty
        row = dict(tx.execute(sa.select(logs).where(logs.c.id == tenant.log_id)).mappings().one())
        made = {**row, "id": row["id"] + 1000, "origin": "example.com/other", "size": 0}
        tx.execute(sa.insert(logs).values(made))
        tx.execute(sa.text("INSERT INTO log_keys SELECT :id, tenant_id, vkey, private_key FROM log_keys"), made)

    assert [event.id] == caught_up(records)


@pytest.mark.parametrize("at", ["_named", "_lock", "_write"])
def test_a_crash_leaves_no_gap(records: Records, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """At whichever line: it is caught up with by the next."""
    monkeypatch.setattr(index, "PIECE", 2)
    events = deliver(scrip(records), *(redeemed(str(number)) for number in range(5)))
    real: Callable[..., Any] = getattr(index, at)
    calls = 0

    def dies(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = real(*arguments)
        if calls == 4:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(index, at, dies)
        with pytest.raises(KeyboardInterrupt):
            catch_up(records, records.tenant("default"))
    assert faults(records) == []

    assert [event.id for event in events] == caught_up(records)
    assert faults(records) == []


def test_who_comes_second_to_a_piece_leaves_it(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another receiver may catch up at the same time, and be faster."""
    events = deliver(scrip(records), *(redeemed(str(number)) for number in range(3)))
    real, tenant = index._named, records.tenant("default")  # pyright: ignore[reportPrivateUsage]
    inside: list[int] = []

    def overtaken(*arguments: Any) -> Any:
        named = real(*arguments)
        if not inside:
            inside.append(1)
            catch_up(records, tenant)
            inside.append(read(records))
        return named

    monkeypatch.setattr(index, "_named", overtaken)
    catch_up(records, tenant)

    assert inside[1] == tenant.log.head().size == read(records)
    assert [event.id for event in events] == found(records)


def test_what_is_erased_meanwhile_is_not_kept(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the reading of a delivery and the writing of whom it names."""
    gone, stays = deliver(scrip(records), redeemed("a"), redeemed("b"))
    real, tenant = index._named, records.tenant("default")  # pyright: ignore[reportPrivateUsage]

    def erased(*arguments: Any) -> Any:
        named = real(*arguments)
        erase(records, gone.id)
        return named

    with monkeypatch.context() as patch:
        patch.setattr(index, "_named", erased)
        catch_up(records, tenant)

    assert [stays.id] == found(records)


def erase(records: Records, its_id: str, *columns: str) -> None:
    """Take these columns of a delivery away, or all that names anybody, which then goes from the index as well."""
    gone = dict.fromkeys(columns or ("event_data", "headers", "body"))
    with records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == its_id).values(gone))
        if not columns:
            forget(tx, [its_id])


@pytest.mark.parametrize("body", LOOSE)
def test_a_person_is_erased_of_what_is_no_strict_json(records: Records, body: bytes) -> None:
    """It is kept in quarantine; `fsck` finds the same persons in it."""
    [kept] = deliver(new_source(records, "voucherify", ACCOUNT), body)
    assert kept.status == "quarantined"
    assert [kept.id] == caught_up(records, "email:jane@example.com")
    assert faults(records) == []

    assert erase_person(records, person="email:jane@example.com").erased == 1
    assert traces(records, "jane", "Jane") == []
    assert faults(records) == []


def test_whom_an_erased_delivery_named_is_not_found_by_it(records: Records) -> None:
    """Nor once it is gone through again; ids of what names nobody are passed over."""
    gone, stays = deliver(scrip(records), redeemed("a"), redeemed("b"))
    assert [gone.id, stays.id] == caught_up(records)

    erase(records, gone.id)
    assert [stays.id] == found(records)
    with records.database.write() as tx:
        forget(tx, [])
        forget(tx, ["nobody"])
        tx.execute(sa.update(persons_read).values(next_index=0))
    assert [stays.id] == caught_up(records)


def test_without_its_body_an_event_is_found_by_its_data(records: Records) -> None:
    """Of a delivery whose body alone is erased, that is what is left of whom it named."""
    (event,) = deliver(scrip(records), redeemed("a"))
    erase(records, event.id, "headers", "body", "delivery_salt")

    assert [event.id] == caught_up(records)


def test_under_the_lock_nothing_is_missed(records: Records) -> None:
    """What was recorded after the last turn is found, also by who sees only what is committed; once each."""
    source, tenant = scrip(records), records.tenant("default")
    (before,) = deliver(source, redeemed("a"))
    catch_up(records, tenant)
    (after,) = deliver(source, redeemed("b"))

    with change(records.database, tenant.log) as changing:
        catch_up_locked(changing.tx, tenant)
        assert [before.id, after.id] == deliveries_of(changing.tx, tenant, key_of(tenant, person(JANE)))
        catch_up_locked(changing.tx, tenant)
    assert (read(records), found(records)) == (tenant.log.head().size, [before.id, after.id])


def test_under_the_lock_from_the_beginning(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant whose log was never gone through, in more than one piece."""
    monkeypatch.setattr(index, "PIECE", 2)
    events = deliver(scrip(records), *(redeemed(str(number)) for number in range(5)))
    tenant = records.tenant("default")

    with change(records.database, tenant.log) as changing:
        catch_up_locked(changing.tx, tenant)
    assert [event.id for event in events] == found(records)


def test_who_has_the_log_locked_and_who_catches_up_do_not_wait_for_one_another(
    postgresql_url: str, tmp_path: Path
) -> None:
    """On PostgreSQL a row that refers to the log waits for its lock: so that comes first."""
    records = Records.open(Settings(data=tmp_path / "d", database_url=postgresql_url, guard=tmp_path / "g"))
    try:
        events = deliver(scrip(records), redeemed("a"))
        tenant = records.tenant("default")
        with ThreadPoolExecutor(1) as pool:
            with change(records.database, tenant.log) as changing:
                other = pool.submit(catch_up, records, tenant)
                until_waiting(records)
                catch_up_locked(changing.tx, tenant)
            other.result(timeout=30)
        assert [event.id for event in events] == found(records)
    finally:
        records.close()


def until_waiting(records: Records) -> None:
    """Until somebody waits for a lock."""
    query = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    for _ in range(100_000):
        with records.database.read() as tx:
            if tx.execute(query).scalar_one():
                return
    raise AssertionError("nobody waits")


def test_a_period_without_deliveries_is_gone_through(records: Records) -> None:
    """Other entries of the log name nobody."""
    assert caught_up(records) == []
    assert read(records) == records.tenant("default").log.head().size > 0


def test_a_running_service_catches_up_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, without anybody asking."""
    monkeypatch.setattr("receiver.app.PERSONS_EVERY", 0.01)
    with running(settings_in(tmp_path)) as service:
        sender = FIVE["scrip"].add_to(service)
        event_id = sender.post(sender.party.body(email="jane@example.com")).json()["event_id"]

        until(lambda: found(service.records, "email:jane@example.com") == [event_id])
