"""Exports as jobs: what is asked for is logged and kept, held by one process at a time, and withdrawn if need be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.events import Kind, format_time, new_id
from receiver.exports import leases
from receiver.exports.building import Built
from receiver.exports.jobs import (
    ExportError,
    NoSuchExportError,
    Query,
    UncoveredError,
    ask,
    find,
    find_all,
    query_of,
    settle,
)
from receiver.fsck import fsck
from receiver.records.giving import withdraw
from receiver.records.journal import change
from receiver.records.keeping import export_keys, exports
from receiver.records.opening import Records, Tenant
from receiver.records.processes import process_began, process_ended
from receiver.records.tables import tenants
from translog.checkpoint import Checkpoint
from translog.evidence import Leaf
from translog.merkle import EMPTY_ROOT
from translog.note import Note, SigningKey
from translog.store import create_log, entries

SINCE, UNTIL = "2026-07-01T00:00:00.000000Z", "2026-10-01T00:00:00.000000Z"
QUERY = Query(SINCE, UNTIL, "logged", None, tests=False, parquet=False)
NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
BUILT = Built(size=7, sha256=bytes(32), start=0, end=2, events=0)


@pytest.fixture
def tenant(records: Records) -> Tenant:
    """The tenant `default`."""
    return records.tenant("default")


def row(records: Records, export_id: str) -> sa.Row[Any]:
    """An export's row."""
    with records.database.read() as tx:
        return tx.execute(sa.select(exports).where(exports.c.id == export_id)).one()


def leaf(records: Records, tenant: Tenant, index: int) -> Leaf:
    """An entry of the tenant's log."""
    query = sa.select(entries.c.data).where(entries.c.log_id == tenant.log_id, entries.c.index == index)
    with records.database.read() as tx:
        return Leaf.parse(bytes(tx.execute(query).scalar_one()))


def taken(records: Records, export_id: str, holder: str = "one", now: datetime = NOW) -> bool:
    """Take an export."""
    with records.database.write() as tx:
        return leases.take(tx, export_id, holder, now)


def completed(records: Records, export_id: str, holder: str = "one", built: Built = BUILT) -> bool:
    """Complete it, to be kept for a week from now on."""
    with records.database.write() as tx:
        return leases.complete(tx, export_id, holder, built, datetime.now(UTC), timedelta(days=7))


def waiting(records: Records, now: datetime = NOW) -> list[str]:
    """The exports that nobody makes."""
    with records.database.read() as tx:
        return leases.waiting(tx, now)


# ---- asking ---------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_is_an_entry_of_the_log(records: Records, tenant: Tenant) -> None:
    """Of the row's id, with all that was asked, and who did."""
    export_id = ask(records, tenant, replace(QUERY, providers=("scrip", "thanx"), basis="received"), by="a key's id")

    kept = row(records, export_id)
    told = leaf(records, tenant, kept.log_index)
    assert (told.kind, told.id, told.logged_at) == (Kind.EXPORT, export_id, kept.created_at)
    assert told.facts == {
        "basis": "received",
        "by": "a key's id",
        "parquet": False,
        "providers": ["scrip", "thanx"],
        "since": SINCE,
        "tests": False,
        "until": UNTIL,
    }
    assert (told.event, told.delivery) == (None, None)
    assert (kept.state, kept.progress, kept.checkpoint, kept.previous_id) == ("pending", 0, None, None)


def test_the_key_of_exports_is_announced_once(records: Records, tenant: Tenant) -> None:
    """By the entry before the first export's; another tenant's log has another key."""
    first, second = ask(records, tenant, QUERY), ask(records, tenant, QUERY)
    ask(records, records.ensure_tenant("other"), QUERY)

    with records.database.read() as tx:
        keys = tx.execute(sa.select(export_keys).order_by(export_keys.c.log_id)).all()
    assert len({key.vkey for key in keys}) == 2
    key = keys[0]
    announced = leaf(records, tenant, key.log_index)
    assert (key.log_index + 1, key.log_index + 2) == (row(records, first).log_index, row(records, second).log_index)
    assert announced.kind == Kind.KEY
    assert announced.facts == {
        "action": "announced",
        "by": "command",
        "id": announced.id,
        "purpose": "exports",
        "vkey": key.vkey,
    }
    private = SigningKey.parse(records.vault.open(f"exports/{tenant.log_id}", bytes(key.private_key)).decode())
    assert str(private.verifying_key()) == key.vkey
    assert private.name == f"{tenant.log.origin}/exports"


@pytest.mark.parametrize(
    ("member", "given"),
    [
        ("since", {"since": "2026-07-01"}),
        ("since", {"since": "2026-07-01T00:00:00"}),
        ("until", {"until": "tomorrow"}),
        ("basis", {"basis": "received_at"}),
        ("providers", {"of": []}),
        ("providers", {"of": ["nobody"]}),
    ],
)
def test_what_cannot_be_asked_for(member: str, given: dict[str, Any]) -> None:
    """Each is refused by name."""
    asked: dict[str, Any] = {"since": SINCE, "until": UNTIL, "tests": False, "parquet": False, **given}

    with pytest.raises(ExportError, match=member.removesuffix("s")) as refused:
        query_of(**asked)

    assert refused.value.member == member


def test_times_and_names_have_one_spelling() -> None:
    """So what is logged is the same however it was asked for."""
    query = query_of(
        "2026-07-01T02:00:00+02:00", "2026-10-01T00:00:00Z", of=["thanx", "scrip", "thanx"], tests=True, parquet=False
    )

    assert query == Query(SINCE, UNTIL, "logged", ("scrip", "thanx"), tests=True, parquet=False)


def test_a_period_must_be_over(records: Records, tenant: Tenant) -> None:
    """Else what it holds would not follow from the log: nothing is logged."""
    size = tenant.log.head().size
    soon = format_time(datetime.now(UTC) + timedelta(minutes=5))

    for query in (replace(QUERY, until=soon), replace(QUERY, since=UNTIL)):
        with pytest.raises(ExportError, match="until") as refused:
            ask(records, tenant, query)
        assert refused.value.member == "until"
    assert tenant.log.head().size == size


def test_exports_are_listed_newest_first(records: Records, tenant: Tenant) -> None:
    """By pages; those of other tenants are not there."""
    ids = [ask(records, tenant, QUERY) for _ in range(3)]
    theirs = ask(records, records.ensure_tenant("other"), QUERY)

    with records.database.read() as tx:
        first, last = find_all(tx, tenant, 2)
        assert ([one.id for one in first], last) == ([ids[2], ids[1]], ids[1])
        rest, last = find_all(tx, tenant, 2, last)
        assert ([one.id for one in rest], last) == ([ids[0]], None)
        with pytest.raises(NoSuchExportError):
            find(tx, tenant, theirs)


# ---- what its file is made from -------------------------------------------------------------------------------------


def test_the_first_checkpoint_that_covers_it_is_kept(records: Records, tenant: Tenant) -> None:
    """However late it is settled, and whatever was published since: the same job, the same bytes."""
    export_id = ask(records, tenant, QUERY)
    with records.database.write() as tx, pytest.raises(UncoveredError, match="yet"):
        settle(tx, export_id)
    tenant.log.publish()
    size = tenant.log.published_size
    records.ensure_tenant("other")
    ask(records, tenant, QUERY)
    tenant.log.publish()

    with records.database.write() as tx:
        job = settle(tx, export_id)

    assert Checkpoint.parse(Note.parse(job.checkpoint).text).size == size
    assert tenant.log.published_size > size
    assert job.query == QUERY
    with records.database.write() as tx:
        assert settle(tx, export_id) == job


def test_an_export_of_a_closed_log_that_nothing_covers(records: Records, tenant: Tenant) -> None:
    """A log that a successor goes on for signs nothing any more: the export fails for good, and says what to do."""
    export_id = ask(records, tenant, QUERY)
    with records.database.write() as tx:
        key = SigningKey.generate(f"{tenant.log.origin}-2")
        log_id = create_log(tx, key.name, EMPTY_ROOT)
        records.begin_log(tx, tenant.id, log_id, key, [{"action": "created", "by": "command", "id": tenant.name}])
        tx.execute(sa.update(tenants).where(tenants.c.id == tenant.id).values(log_id=log_id))

    with records.database.write() as tx, pytest.raises(UncoveredError, match="ask anew") as error:
        settle(tx, export_id)

    assert error.value.for_good


def test_the_export_before_it_is_the_last_that_was_completed(records: Records, tenant: Tenant) -> None:
    """As it stands when it is asked for: what is completed later changes nothing; of the same log alone."""
    first, second = ask(records, tenant, QUERY), ask(records, tenant, QUERY)
    other = records.ensure_tenant("other")
    theirs = ask(records, other, QUERY)
    for log in (tenant.log, other.log):
        log.publish()
    for export_id in (first, theirs):
        with records.database.write() as tx:
            settle(tx, export_id)
        assert taken(records, export_id)
        assert completed(records, export_id)
    third = ask(records, tenant, QUERY)
    assert taken(records, second)
    assert completed(records, second)
    tenant.log.publish()

    with records.database.write() as tx:
        assert settle(tx, third).previous == settle(tx, first).checkpoint
        assert settle(tx, first).previous is None
    assert row(records, third).previous_id == first


# ---- who makes it ---------------------------------------------------------------------------------------------------


def test_one_process_makes_it_at_a_time(records: Records, tenant: Tenant) -> None:
    """Until that one has not shown itself for a minute."""
    export_id = ask(records, tenant, QUERY)
    assert waiting(records) == [export_id]
    assert taken(records, export_id, "one")
    assert not taken(records, export_id, "two")
    assert waiting(records) == []

    with records.database.write() as tx:
        assert leases.note_progress(tx, export_id, "one", 40, NOW + timedelta(seconds=50))
    assert not taken(records, export_id, "two", NOW + timedelta(seconds=100))
    assert row(records, export_id).progress == 40

    assert taken(records, export_id, "two", NOW + timedelta(seconds=111))
    with records.database.write() as tx:
        assert not leases.note_progress(tx, export_id, "one", 50, NOW)
    assert not completed(records, export_id, "one")
    assert completed(records, export_id, "two")


def test_a_process_that_has_ended_holds_nothing(records: Records, tenant: Tenant) -> None:
    """As soon as its end is noted, whoever does so."""
    export_id, process_id = ask(records, tenant, QUERY), new_id()
    with records.database.write() as tx:
        process_began(tx, process_id)
    assert taken(records, export_id, process_id)
    assert waiting(records) == []

    with records.database.write() as tx:
        process_ended(tx, process_id)

    assert taken(records, export_id, "another")


def test_what_is_left_is_for_whoever_comes_next(records: Records, tenant: Tenant) -> None:
    """From a time on."""
    export_id = ask(records, tenant, QUERY)
    assert taken(records, export_id)
    with records.database.write() as tx:
        assert leases.let_go(tx, export_id, "one", NOW + timedelta(seconds=5))

    assert (row(records, export_id).state, row(records, export_id).holder) == ("pending", None)
    assert not taken(records, export_id, now=NOW + timedelta(seconds=4))
    assert taken(records, export_id, now=NOW + timedelta(seconds=6))


def test_after_three_failures_it_has_failed(records: Records, tenant: Tenant) -> None:
    """With the reason for whoever asked; one that is for good is enough."""
    thrice, once = ask(records, tenant, QUERY), ask(records, tenant, QUERY)
    states: list[str] = []
    for number in range(3):
        now = NOW + timedelta(minutes=number)
        assert taken(records, thrice, now=now)
        with records.database.write() as tx:
            assert leases.fail(tx, thrice, "one", f"failure {number}", now)
        states.append(row(records, thrice).state)
    assert taken(records, once)
    with records.database.write() as tx:
        assert leases.fail(tx, once, "one", "for good", NOW, for_good=True)

    assert states == ["pending", "pending", "failed"]
    assert [row(records, one).error for one in (thrice, once)] == ["failure 2", "for good"]
    assert row(records, once).state == "failed"
    assert waiting(records, NOW + timedelta(days=1)) == []


def test_what_is_completed_is_told_with_its_file(records: Records, tenant: Tenant) -> None:
    """And only then."""
    export_id = ask(records, tenant, QUERY)
    with records.database.read() as tx:
        before = find(tx, tenant, export_id)
    assert taken(records, export_id)
    assert completed(records, export_id)

    with records.database.read() as tx:
        after = find(tx, tenant, export_id)
    assert (before.state, before.size, before.sha256, before.completed_at, before.expires_at) == (
        "pending",
        *4 * (None,),
    )
    assert (after.state, after.size, after.sha256) == ("completed", 7, 64 * "0")
    assert after.expires_at is not None
    assert after.completed_at is not None
    assert (row(records, export_id).start, row(records, export_id).end) == (0, 2)


# ---- what is erased -------------------------------------------------------------------------------------------------


def withdrawn(records: Records, tenant: Tenant, *indexes: int) -> list[str]:
    """Withdraw what holds one of these entries, as an erasure does."""
    with change(records.database, tenant.log) as changing:
        return withdraw(changing.tx, tenant, [(tenant.log_id, index) for index in indexes])


def test_what_holds_an_erased_entry_is_made_again(records: Records, tenant: Tenant) -> None:
    """Those whose range has it, from its first leaf on and before its end."""
    export_id = [ask(records, tenant, QUERY) for _ in range(6)][-1]
    index = row(records, export_id).log_index
    assert taken(records, export_id)
    assert completed(records, export_id, built=replace(BUILT, start=2, end=index))

    assert withdrawn(records, tenant, 0, 1, index, index + 1) == []
    for at in (2, index - 1):
        assert withdrawn(records, tenant, 0, at) == [export_id]
        kept = row(records, export_id)
        assert (kept.state, kept.size, kept.sha256, kept.progress) == ("pending", None, None, 0)
        assert taken(records, export_id)
        assert completed(records, export_id, built=replace(BUILT, start=2, end=index))


def test_what_is_made_meanwhile_is_not_completed(records: Records, tenant: Tenant) -> None:
    """It may hold what was erased: as long as its range is not known, anything before its own entry."""
    export_id = ask(records, tenant, QUERY)
    assert withdrawn(records, tenant, 0) == []
    assert taken(records, export_id)

    assert withdrawn(records, tenant, row(records, export_id).log_index + 1) == []
    assert withdrawn(records, tenant, 0) == [export_id]

    assert not completed(records, export_id)
    with records.database.write() as tx:
        assert not leases.note_progress(tx, export_id, "one", 99, NOW)
        assert not leases.let_go(tx, export_id, "one", NOW)
        assert not leases.fail(tx, export_id, "one", "it is gone", NOW)
    assert waiting(records) == [export_id]


def test_what_has_expired_or_failed_is_not_made_again(records: Records, tenant: Tenant) -> None:
    """The one is named, since its file may still be there; of the other there is none."""
    expired, failed = ask(records, tenant, QUERY), ask(records, tenant, QUERY)
    assert taken(records, expired)
    with records.database.write() as tx:
        assert leases.complete(tx, expired, "one", BUILT, datetime.now(UTC), timedelta(0))
    assert taken(records, failed)
    with records.database.write() as tx:
        assert leases.fail(tx, failed, "one", "no", NOW, for_good=True)

    assert withdrawn(records, tenant, 0) == [expired]
    assert [row(records, one).state for one in (expired, failed)] == ["completed", "failed"]


def test_another_log_of_the_same_index_is_not_meant(records: Records, tenant: Tenant) -> None:
    """Nor another tenant's exports."""
    other = records.ensure_tenant("other")
    export_id = ask(records, other, QUERY)
    assert taken(records, export_id)
    assert completed(records, export_id)

    assert withdrawn(records, tenant, 0, 1) == []
    with change(records.database, tenant.log) as changing:
        assert withdraw(changing.tx, tenant, [(other.log_id, 0)]) == []
    assert row(records, export_id).state == "completed"


def test_nothing_of_it_is_wrong(records: Records, tenant: Tenant) -> None:
    """In every state, by `receiver fsck`."""
    ids = [ask(records, tenant, QUERY) for _ in range(4)]
    tenant.log.publish()
    for export_id in ids[1:]:
        with records.database.write() as tx:
            settle(tx, export_id)
        assert taken(records, export_id)
    assert completed(records, ids[2], built=replace(BUILT, end=1))  # nothing was logged in its period
    with records.database.write() as tx:
        assert leases.fail(tx, ids[3], "one", "no", NOW, for_good=True)

    assert [str(finding) for finding in fsck(records).findings] == []
