"""`receiver fsck` on exports: each with its entry, and the key that they are signed with."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.events import Kind, format_time, new_id
from receiver.exports import leases
from receiver.exports.building import Built
from receiver.exports.jobs import Query, ask, settle
from receiver.fsck import fsck
from receiver.records.journal import change
from receiver.records.keeping import export_keys, exports
from receiver.records.opening import Records
from translog.note import SigningKey

QUERY = Query(
    "2026-07-01T00:00:00.000000Z", "2026-10-01T00:00:00.000000Z", "logged", ("scrip",), tests=False, parquet=False
)
NOW = datetime.now(UTC)


@pytest.fixture
def export_id(records: Records) -> str:
    """The second of two exports that were completed."""
    made: list[str] = []
    tenant = records.tenant("default")
    for _ in range(2):
        made.append(ask(records, tenant, QUERY))
        tenant.log.publish()
        with records.database.write() as tx:
            job = settle(tx, made[-1])
            assert leases.take(tx, job.id, "one", NOW)
            built = Built(size=7, sha256=bytes(32), start=0, end=1, events=0)
            assert leases.complete(tx, job.id, "one", built, NOW, timedelta(days=1))
    return made[-1]


def faults(records: Records) -> list[str]:
    """What is wrong, with its place."""
    return [f"{finding.place}: {finding.problem}" for finding in fsck(records).findings]


def damage(records: Records, table: sa.Table, **values: Any) -> None:
    """Change the last row of a table."""
    key = next(iter(table.primary_key))
    with records.database.write() as tx:
        last = tx.execute(sa.select(sa.func.max(key))).scalar_one()
        tx.execute(sa.update(table).where(key == last).values(values))


def test_exports_that_are_whole(records: Records, export_id: str) -> None:
    """Nothing is wrong with them."""
    assert faults(records) == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"basis": "occurred"}, "basis is 'occurred', and its entry says 'logged'"),
        ({"providers": None}, "providers is None, and its entry says ['scrip']"),
        ({"providers": "scrip,thanx"}, "providers is ['scrip', 'thanx'], and its entry says ['scrip']"),
        ({"since": "2026-08-01T00:00:00.000000Z"}, "since is '2026-08-01"),
        ({"until": "2026-08-01T00:00:00.000000Z"}, "until is '2026-08-01"),
        ({"tests": True}, "tests is True, and its entry says False"),
        ({"parquet": True}, "parquet is True, and its entry says False"),
        ({"asked_by": "somebody"}, "by is 'somebody', and its entry says 'command'"),
        ({"created_at": "2026-08-01T00:00:00.000000Z"}, "created_at is '2026-08-01"),
        ({"log_index": 0}, "entry 0 does not ask for it"),
        ({"log_index": 999}, "entry 999 does not ask for it"),
        ({"state": "lost"}, "state is 'lost', which this version does not know"),
        ({"sha256": None}, "is completed, and sha256 is not told"),
        ({"start": 9, "end": 3}, "reaches from 9 to 3"),
        ({"end": 10**6}, "reaches from 0 to 1000000"),
        ({"start": 1, "end": 2}, "start and end are 1 and 2, and by the log its file holds the entries from 0 to 0:"),
        ({"end": 0}, "start and end are 0 and 0, and by the log"),
        ({"start": None}, "start and end are None and 1, and by the log"),
        ({"expires_at": "2999-01-01T00:00:00.000000Z"}, "expires_at is '2999-01-01T00:00:00.000000Z', and it was"),
        ({"expires_at": "2000-01-01T00:00:00.000000Z"}, "expires_at is '2000-01-01T00:00:00.000000Z', and it was"),
        ({"expires_at": "later"}, "expires_at is 'later', and it was"),
        ({"checkpoint": b"nothing"}, "its checkpoint: "),
    ],
)
def test_a_row_that_says_something_else(records: Records, export_id: str, values: dict[str, Any], problem: str) -> None:
    """What, and what its entry says."""
    damage(records, exports, **values)

    found = [one for one in faults(records) if one.startswith(f"export {export_id}: {problem}")]

    assert len(found) == 1, faults(records)


def test_a_checkpoint_that_does_not_cover_it(records: Records, export_id: str) -> None:
    """Such as that of the export before."""
    with records.database.write() as tx:
        first = tx.execute(sa.select(exports.c.checkpoint).order_by(exports.c.id)).scalars().first()
    damage(records, exports, checkpoint=first)

    assert [one for one in faults(records) if "does not cover its entry" in one] != []


def test_a_row_that_is_gone(records: Records, export_id: str) -> None:
    """Its entry still asks for it."""
    with records.database.write() as tx:
        tx.execute(sa.delete(exports).where(exports.c.id == export_id))

    assert faults(records) == [f"export {export_id}: is not there, though an entry asks for it"]


def test_an_export_of_another_tenant(records: Records, export_id: str) -> None:
    """Its log would be given out to strangers."""
    other = records.ensure_tenant("other")
    damage(records, exports, tenant_id=other.id)

    assert f"export {export_id}: is of a log of another tenant" in faults(records)


def test_an_export_before_it_that_came_later(records: Records, export_id: str) -> None:
    """There is no way back from it."""
    damage(records, exports, previous_id=export_id)

    assert faults(records) == [
        f"export {export_id}: the export before it, {export_id}, is of another log or came later"
    ]


def test_an_export_before_it_that_is_not_the_newest(records: Records, export_id: str) -> None:
    """Its file proves less than it could; one that was just completed then may not have been seen."""
    damage(records, exports, previous_id=None)
    with records.database.write() as tx:
        first = tx.execute(sa.select(sa.func.min(exports.c.id))).scalar_one()
    assert faults(completed(records, first, datetime.now(UTC))) == []
    completed(records, first, NOW - timedelta(hours=1))

    said = "is newer, and was completed when it was asked for"
    assert faults(records) == [f"export {export_id}: the export before it is None; {first} {said}"]


def completed(records: Records, export_id: str, at: datetime) -> Records:
    """The same, where that export was completed then."""
    its = sa.update(exports).where(exports.c.id == export_id)
    with records.database.write() as tx:
        tx.execute(its.values(completed_at=format_time(at), expires_at=format_time(at)))
    return records


def test_an_export_before_it_that_was_never_completed(records: Records, export_id: str) -> None:
    """There was no file that anybody could compare."""
    with records.database.write() as tx:
        first = tx.execute(sa.select(sa.func.min(exports.c.id))).scalar_one()
        tx.execute(sa.update(exports).where(exports.c.id == first).values(state="failed", completed_at=None))

    assert faults(records) == [f"export {export_id}: the export before it, {first}, was never completed"]


# ---- the key --------------------------------------------------------------------------------------------------------


def another_name(records: Records) -> dict[str, Any]:
    """A key that opens, and is called as the log's own is."""
    return sealed(records, SigningKey.generate(records.tenant("default").log.origin))


def another_key(records: Records) -> dict[str, Any]:
    """A key that opens, and is not the one that was announced."""
    return sealed(records, SigningKey.generate(f"{records.tenant('default').log.origin}/exports"))


def another_private_key(records: Records) -> dict[str, Any]:
    """A private key that opens, beside the vkey that was announced."""
    return {"private_key": another_key(records)["private_key"]}


def no_private_key(_: Records) -> dict[str, Any]:
    """What does not open."""
    return {"private_key": b"nothing"}


def another_entry(_: Records) -> dict[str, Any]:
    """An entry that is no key's."""
    return {"log_index": 0}


def no_vkey(_: Records) -> dict[str, Any]:
    """What is no key."""
    return {"vkey": "no key"}


def sealed(records: Records, key: SigningKey) -> dict[str, Any]:
    """The columns of a key."""
    private = records.vault.seal(f"exports/{records.tenant('default').log_id}", str(key).encode())
    return {"vkey": str(key.verifying_key()), "private_key": private}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (no_private_key, "does not open with this data key"),
        (another_private_key, "and its private key is that of"),
        (another_entry, "entry 0 does not announce it"),
        (no_vkey, "no key"),
        (another_key, "announces another one"),
        (another_name, "is that of "),
    ],
)
def test_a_key_that_is_not_as_announced(
    records: Records, export_id: str, values: Callable[[Records], dict[str, Any]], problem: str
) -> None:
    """Its bundles would not verify."""
    damage(records, export_keys, **values(records))

    found = [one for one in faults(records) if one.startswith("exports key of log ")]

    assert [one for one in found if problem in one] != [], found


def test_a_key_that_is_gone(records: Records, export_id: str) -> None:
    """The next export would announce another one."""
    with records.database.write() as tx:
        tx.execute(sa.delete(export_keys))

    assert [one for one in faults(records) if one.endswith("is not there, though an entry announces it")] != []


def test_what_was_told_of_nothing(records: Records, export_id: str) -> None:
    """An entry that asks for an export, and one that announces a key, without a row."""
    with change(records.database, records.tenant("default").log) as changing:
        its_id = new_id()
        changing.tell(Kind.EXPORT, {}, its_id)
        changing.tell(
            Kind.KEY, {"action": "announced", "by": "command", "id": its_id, "purpose": "exports", "vkey": ""}
        )

    assert [one.split(" ")[:2] for one in faults(records)] == [["export", f"{its_id}:"], ["exports", "key"]]
