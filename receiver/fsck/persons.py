"""Whom deliveries name, as they are found by it: each name that is documented, and no other.

A row of `persons` follows from a delivery, or from what was found out about it, and from the tenant's key. Nobody may
be hidden from a question about them, or found where they are not; and of what is erased nothing may say any more who
was in it. How far the deliveries have been gone through is no promise: what is left of a log is gone through before it
is asked.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from receiver.fsck.report import Notes
from receiver.records.keeping import erased, persons, persons_read
from receiver.records.persons import named_by
from receiver.records.tables import deliveries, findings, log_keys, sources
from translog.store import logs

_PAGE = 256


def check_persons(tx: sa.Connection, hash_keys: Mapping[int | None, bytes | None], notes: Notes) -> None:
    """Compare the index with what every delivery says; `hash_keys` are the tenants', by id.

    Of a tenant whose key does not open, nothing can be compared.
    """
    read = _read(tx, notes)
    for log_id, tenant_id in tx.execute(sa.select(log_keys.c.log_id, log_keys.c.tenant_id)).all():
        hash_key = hash_keys.get(tenant_id)
        if hash_key is not None:
            for page in _pages(tx, log_id):
                _check_page(tx, page, hash_key, read, notes)
    is_there = sa.exists().where(deliveries.c.id == persons.c.delivery_id)
    if number := tx.execute(sa.select(sa.func.count()).select_from(persons).where(~is_there)).scalar_one():
        notes.fault("persons", f"{number} rows name deliveries that are not there")


def _read(tx: sa.Connection, notes: Notes) -> dict[int, int]:
    """How far each log has been gone through; that must be a place in it."""
    query = sa.select(persons_read, logs.c.size).order_by(persons_read.c.log_id)
    read: dict[int, int] = {}
    for row in tx.execute(query.join_from(persons_read, logs, logs.c.id == persons_read.c.log_id, isouter=True)):
        if row.size is None:
            notes.fault("persons_read", f"log {row.log_id} is not there")
        elif not 0 <= row.next_index <= row.size:
            notes.fault(
                "persons_read", f"log {row.log_id} has {row.size} entries, and {row.next_index} are gone through"
            )
        read[row.log_id] = row.next_index
    return read


def _check_page(
    tx: sa.Connection, page: Sequence[sa.Row[Any]], hash_key: bytes, read: Mapping[int, int], notes: Notes
) -> None:
    ids = [row.id for row in page]
    kept: defaultdict[str, set[bytes]] = defaultdict(set)
    for row in tx.execute(sa.select(persons).where(persons.c.delivery_id.in_(ids))):
        kept[row.delivery_id].add(bytes(row.person_key))
    about: defaultdict[str, list[sa.Row[Any]]] = defaultdict(list)
    for row in tx.execute(_FINDINGS.where(findings.c.event_id.in_(ids))):
        about[row.event_id].append(row)
    for row in page:
        for problem in _differences(row, about[row.id], kept[row.id], hash_key, read):
            notes.fault(f"row {row.id} (entry {row.log_index})", problem)


def _differences(
    row: sa.Row[Any], about: Sequence[sa.Row[Any]], kept: set[bytes], hash_key: bytes, read: Mapping[int, int]
) -> Iterator[str]:
    """What is wrong with how a delivery is found by whom it names."""
    if row.body is None and row.event_data is None:
        if kept:
            yield f"is erased, and {len(kept)} rows of persons still say whom it named"
        return
    named: set[bytes] = set()
    due: set[bytes] = set()
    for said, headers in ((row, row.headers), *((finding, None) for finding in about)):
        if said.body is not None:
            keys = named_by(hash_key, row.provider, headers, bytes(said.body))
            named |= keys
            if said.log_index < read.get(said.log_id, 0):
                due |= keys
    if due - kept:
        yield f"names {len(due)} persons, and is not found by {len(due - kept)} of them"
    is_whole = row.body is not None and not any(finding.is_erased for finding in about)
    if is_whole and kept - named:
        yield f"is found by {len(kept - named)} persons whom it does not name"


# ---- rows -----------------------------------------------------------------------------------------------------------

_FINDINGS: sa.Select[*tuple[Any, ...]] = sa.select(
    findings.c.event_id,
    findings.c.log_id,
    findings.c.log_index,
    findings.c.body,
    sa.exists().where(erased.c.entry_id == findings.c.id).label("is_erased"),
)
_DELIVERIES: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.id,
        deliveries.c.log_id,
        deliveries.c.log_index,
        deliveries.c.headers,
        deliveries.c.body,
        deliveries.c.event_data,
        sources.c.provider,
    )
    .join_from(deliveries, sources, sources.c.id == deliveries.c.source_id)
    .where(deliveries.c.log_id == sa.bindparam("log"), deliveries.c.log_index > sa.bindparam("after"))
    .order_by(deliveries.c.log_index)
    .limit(_PAGE)
)


def _pages(tx: sa.Connection, log_id: int) -> Iterator[Sequence[sa.Row[Any]]]:
    after = -1 << 62
    while page := tx.execute(_DELIVERIES, {"log": log_id, "after": after}).all():
        yield page
        after = page[-1].log_index
