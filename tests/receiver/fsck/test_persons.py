"""Whom deliveries name, as `receiver fsck` finds it to be in the index: no more and no less."""

import pytest
import sqlalchemy as sa

from receiver.fsck import fsck
from receiver.records.keeping import persons, persons_read
from receiver.records.keyed import person_key
from receiver.records.opening import Records
from receiver.records.persons import catch_up
from receiver.records.tables import deliveries
from tests.receiver.claims import ORGANIZATION, deliver, new_source, reversed_
from tests.receiver.fsck.copies import Copy
from tests.receiver.submissions import Source


@pytest.fixture
def source(records: Records) -> Source:
    """A source with two deliveries, one that names somebody and one that names nobody, both gone through."""
    source = new_source(records, "scrip", ORGANIZATION)
    deliver(source, reversed_("a", "v", "1", participant_id="jane"), reversed_("b", "w", "1"))
    catch_up(records, records.tenant("default"))
    return source


def found(source: Source) -> list[str]:
    """What is wrong, without whose records it is of; the rows by what they name."""
    rows = {f"row {row.id} (entry {row.log_index})": row.log_index for row in source.rows()}
    lines = [str(one).removeprefix("records: ") for one in fsck(source.records).findings]
    told = [line for line in lines if "person" in line]
    for place, index in rows.items():
        told = [line.replace(place, f"entry {index}") for line in told]
    return told


def change(source: Source, *statements: sa.Executable) -> None:
    """Change the database as no part of the service would."""
    with source.records.database.write() as tx:
        for statement in statements:
            tx.execute(statement)


def key(source: Source, name: str) -> bytes:
    """What a participant is found by."""
    return person_key(source.endpoint.tenant.hash_key, "customer_id", name)


def test_an_index_in_order(source: Source) -> None:
    """Nor is it a fault that a log was not gone through to its end, or never."""
    assert found(source) == []
    deliver(source, reversed_("c", "x", "1", participant_id="jane"))
    assert found(source) == []

    change(source, sa.delete(persons), sa.delete(persons_read))
    assert found(source) == []


def test_a_delivery_that_is_not_found_by_whom_it_names(source: Source) -> None:
    """Somebody hid it, or the log was said to be gone through when it was not."""
    named, _ = source.rows()
    change(source, sa.delete(persons))

    assert [f"entry {named.log_index}: names 1 persons, and is not found by 1 of them"] == found(source)


def test_a_delivery_that_is_found_by_whom_it_does_not_name(source: Source) -> None:
    """An erasure of that person would take it."""
    _, nobody = source.rows()
    change(source, sa.insert(persons).values(person_key=key(source, "john"), delivery_id=nobody.id))
    assert [f"entry {nobody.log_index}: is found by 1 persons whom it does not name"] == found(source)

    change(source, sa.update(deliveries).where(deliveries.c.id == nobody.id).values(body=None))
    assert found(source) == []  # whom it named can no longer be told


def test_what_is_erased_names_nobody(source: Source) -> None:
    """A keyed hash would still say who it was."""
    named, _ = source.rows()
    gone = {"event_data": None, "event_salt": None, "headers": None, "body": None, "delivery_salt": None}
    change(source, sa.update(deliveries).where(deliveries.c.id == named.id).values(gone))

    assert f"entry {named.log_index}: is erased, and 1 rows of persons still say whom it named" in found(source)


@pytest.mark.parametrize("index", [-1, 1000])
def test_a_log_that_is_gone_through_beyond_its_end(source: Source, index: int) -> None:
    """Or before its beginning: what is left of it may be missed."""
    change(source, sa.update(persons_read).values(next_index=index))
    size = source.endpoint.tenant.log.head().size

    log = source.log_id
    assert [f"persons_read: log {log} has {size} entries, and {index} are gone through"] == found(source)


def test_rows_of_what_is_not_there(copy: Copy) -> None:
    """Where the database did not keep the references itself."""
    assert copy.found() == []
    copy.damage("INSERT INTO persons VALUES (?, 'gone')", bytes(16))
    copy.damage("INSERT INTO persons_read VALUES (77, 0)")

    problems = [str(one) for one in copy.report().findings]
    assert problems == [
        "records: persons_read: log 77 is not there",
        "records: persons: 1 rows name deliveries that are not there",
    ]
