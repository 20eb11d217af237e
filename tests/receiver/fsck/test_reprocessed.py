"""Deliveries that were read again out of quarantine: what is noted of it, what was written, and what its entry says."""

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver.intake.reprocessing import reprocess
from tests.receiver.fsck.copies import Copy
from tests.receiver.service import receipt_id, revoked, running, settings_in

QUARANTINED = range(2, 7)  # the indexes of what is delivered, and then of what is written when four are read again
EVENT, MISMATCH = 8, 9


@pytest.fixture(scope="module")
def read_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of a service in which one of every fate was reprocessed, and one still waits."""
    folder = tmp_path_factory.mktemp("read-again")
    with running(settings_in(folder)) as service, pytest.MonkeyPatch.context() as patch:
        patch.setattr("receiver.providers.truthlocks._IGNORED", frozenset[str]())
        sender = service.add_source()
        first, second = receipt_id(), receipt_id()
        kept = [
            sender.post(body).json()["quarantine_id"]
            for body in (
                revoked(first, tenant_id="another"),
                revoked(first, tenant_id="another", note="differs"),
                revoked(second, tenant_id="another"),
                b'{"event_type":"receipt.created"}',
                b"{",
            )
        ]
        with service.records.database.write() as tx:
            tx.execute(sa.text("UPDATE sources SET account = 'another'"))
        service.refresh()
        sender.post(revoked(second, tenant_id="another"))
        patch.undo()
        statuses = [reprocess(service.records, service.tenant, one) for one in kept]
        assert [one and one.status for one in statuses] == ["recorded", "mismatch", "duplicate", None, "quarantined"]
        service.until_published()
    return folder


@pytest.fixture
def copy(read_again: Path, tmp_path: Path) -> Copy:
    """A copy of it."""
    shutil.copytree(read_again, tmp_path / "copy")
    return Copy(settings_in(tmp_path / "copy"))


def of(copy: Copy, index: int) -> str:
    """The id of the delivery with that entry."""
    return str(copy.one(f"SELECT id FROM deliveries WHERE log_index = {index}"))


def place(copy: Copy, index: int) -> str:
    """How the check names what is noted of that quarantined delivery."""
    return f"records: reprocessed {of(copy, index)}"


def test_it_is_clean(copy: Copy) -> None:
    """As the service left it."""
    assert copy.found() == []
    assert copy.one("SELECT count(*) FROM reprocessed") == 4


@pytest.mark.parametrize("index", [EVENT, MISMATCH])
def test_an_entry_that_nothing_is_noted_of(copy: Copy, index: int) -> None:
    """What an entry says that it was, must be noted of that very delivery."""
    quarantine = of(copy, index - len(QUARANTINED) - 1)
    copy.damage("DELETE FROM reprocessed WHERE quarantine_id = ?", quarantine)
    assert f"{copy.row(index)}: reprocessed is None, the entry's fact '{quarantine}'" in copy.found()


def test_what_is_noted_and_no_entry_says(copy: Copy) -> None:
    """An event that came by itself is not that of a delivery which was read again."""
    other, duplicate = of(copy, 7), QUARANTINED[2]
    copy.damage("UPDATE reprocessed SET row_id = ? WHERE quarantine_id = ?", other, of(copy, duplicate))
    found = copy.found()
    assert found[0] == f"{copy.row(7)}: the entry has no fact reprocessed"
    assert f"{place(copy, duplicate)}: status is 'duplicate', and a revocation was written for it" in found


@pytest.mark.parametrize(
    ("index", "change", "problem"),
    [
        (2, "status = 'ignored'", "status is 'ignored', and a revocation was written for it"),
        (2, "status = 'mismatch'", "status is 'mismatch', and a revocation was written for it"),
        (3, "status = 'recorded'", "status is 'recorded', and a mismatch was written for it"),
        (4, "status = 'recorded', same_id = NULL", "status is 'recorded', and no delivery was written for it"),
        (5, "status = 'melted'", "status is 'melted', which this version does not know"),
        (4, "row_id = 'gone', same_id = NULL", "the delivery gone that was written for it is not there"),
        (4, "same_id = NULL", "status is 'duplicate', and it is not said of what: reprocess it again"),
        (4, "same_id = 'gone'", "the delivery gone that it is the same as is not there"),
        (4, "status = 'mismatch'", "status is 'mismatch', and it is said to be the same as a revocation"),
        (3, "same_id = row_id", "status is 'mismatch', and it is said to be the same as a mismatch"),
    ],
)
def test_what_is_noted_must_be_so(copy: Copy, index: int, change: str, problem: str) -> None:
    """The status must be that of what was written, and what was written must be there."""
    copy.damage(f"UPDATE reprocessed SET {change} WHERE quarantine_id = ?", of(copy, index))
    assert copy.found() == [f"{place(copy, index)}: {problem}"]


def test_the_same_of_another_source(copy: Copy) -> None:
    """What came to one source repeats nothing that came to another."""
    copy.damage("UPDATE deliveries SET source_id = 'another' WHERE log_index = 7")
    event = of(copy, 7)
    assert f"{place(copy, 4)}: the delivery {event} that it is the same as came to another source" in copy.found()


def test_when_it_was(copy: Copy) -> None:
    """What was written has the time that is noted."""
    copy.damage("UPDATE reprocessed SET at = '2026' WHERE status = 'recorded'")
    logged_at = copy.one(f"SELECT logged_at FROM deliveries WHERE log_index = {EVENT}")
    assert copy.found() == [
        f"{place(copy, 2)}: at is '2026', and what was written for it was logged at '{logged_at}'",
    ]


def test_what_was_never_in_quarantine(copy: Copy) -> None:
    """Only a quarantined delivery of these records is read again."""
    event = of(copy, 7)
    copy.damage("UPDATE reprocessed SET quarantine_id = ? WHERE status = 'ignored'", event)
    assert f"records: reprocessed {event}: the delivery is a revocation, which is not read again" in copy.found()
    copy.damage("UPDATE reprocessed SET quarantine_id = 'gone' WHERE status = 'ignored'")
    assert copy.found() == ["records: reprocessed gone: there is no such delivery"]


@pytest.mark.parametrize("column", ["received_at", "body", "headers", "test", "scheme"])
def test_another_delivery_than_the_quarantined_one(copy: Copy, column: str) -> None:
    """What was written is what came then, in everything that the sender or the time gave it."""
    value = {"test": 1, "body": b"{}", "headers": "[]"}.get(column, "2026-11-20T09:00:00.000000Z")
    copy.damage(f"UPDATE deliveries SET {column} = ? WHERE log_index = ?", value, EVENT)
    assert f"{place(copy, 2)}: {column} is not that of the delivery that was written for it" in copy.found()


def test_the_secret_that_authenticated_it(copy: Copy) -> None:
    """It is one that the source has or had; that it is not is said once."""
    secret = copy.one("SELECT id FROM secrets")
    copy.damage("DELETE FROM secrets")

    assert copy.found() == [f"{copy.row(2)}: the entry's fact secret is '{secret}', which is no secret of its source"]
