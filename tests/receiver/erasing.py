"""Erasures for tests: asked for and done, and everything looked through afterwards.

answer = erase(records, item=…, reason=…)          done, and what became of it
assert traces(records, "jane@example.com") == []    in no column of any table
assert faults_of(records) == []                     and what is left is sound
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from receiver.erasure import answers, erasing, requests
from receiver.erasure.answers import Answer
from receiver.erasure.requests import Ask, ask
from receiver.fsck import fsck
from receiver.records.keeping import erased, metadata
from receiver.records.opening import Records
from receiver.records.tables import deliveries, findings
from receiver.settings import Settings
from tests.translog import faults
from translog.evidence import Leaf
from translog.store import entries

OPENINGS = ("event_data", "event_salt", "headers", "body", "delivery_salt")
REASON = "they asked for it"


def erase(records: Records, tenant: str = "default", by: str = "command", **asked: object) -> Answer:
    """Have that erased, all of it; what became of it."""
    its_tenant, members = records.tenant(tenant), {"reason": REASON, **asked}
    return answers.load(records, its_tenant, ask(records, its_tenant, Ask(**members), by))  # pyright: ignore[reportArgumentType]


def traces(records: Records, *texts: str) -> list[str]:
    """The columns of all tables, `table.column`, that hold one of these texts, or a part of what it was."""
    wanted = [text.encode() for text in texts]
    found: set[str] = set()
    with records.database.read() as tx:
        for table in metadata.sorted_tables:
            for row in tx.execute(sa.select(table)):
                for column, value in zip(table.columns, row, strict=True):
                    held = value if isinstance(value, bytes) else str(value).encode()
                    if any(text in held for text in wanted):
                        found.add(f"{table.name}.{column.name}")
    return sorted(found)


def faults_of(records: Records) -> list[str]:
    """What `fsck` finds wrong, with a service's eyes: as it is now."""
    looking = Records.inspect(records.settings)
    try:
        return [str(finding) for finding in fsck(looking).findings]
    finally:
        looking.close()


def opening(records: Records) -> set[str]:
    """The ids of the rows that have anything left which opens them."""
    with records.database.read() as tx:
        return {
            its_id
            for table in (deliveries, findings)
            for its_id in tx.execute(
                sa.select(table.c.id).where(sa.or_(*(table.c[name].is_not(None) for name in OPENINGS)))
            ).scalars()
        }


def gone(records: Records, ids: Sequence[str]) -> bool:
    """Whether none of these rows opens, and whatever else of their data is gone; nothing in between is."""
    left = opening(records) & set(ids)
    with records.database.read() as tx:
        rows = tx.execute(sa.select(deliveries).where(deliveries.c.id.in_(ids))).all()
    assert left in (set(), set(ids))
    return not left and all(row.occurred_at is None for row in rows)


def told(records: Records, tenant: str = "default") -> list[tuple[int, Leaf]]:
    """The entries of a tenant's log that tell of erasures, with their indexes."""
    query = sa.select(entries.c.index, entries.c.data).where(entries.c.log_id == records.tenant(tenant).log_id)
    with records.database.read() as tx:
        rows = tx.execute(query.order_by(entries.c.index)).all()
    leaves = [(index, Leaf.parse(bytes(data))) for index, data in rows]
    return [(index, leaf) for index, leaf in leaves if leaf.kind == "erasure"]


def named(records: Records) -> set[str]:
    """The rows that `erased` says are erased."""
    with records.database.read() as tx:
        return set(tx.execute(sa.select(erased.c.entry_id)).scalars())


def die(data: str, url: str, guard: str, which: str) -> None:
    """Erase an item, and die after so many commits."""
    records = Records.open(Settings(data=Path(data), database_url=url, guard=Path(guard)))
    erasing.MOST = requests.MOST = 2
    with faults.at(records.database, "after", "COMMIT", int(which) + 1, lambda: os._exit(9)):
        records.tenant("default").log.refresh()
        erase(records, item={"provider": "scrip", "type": "redemption", "id": "secret-a"})


if __name__ == "__main__":
    die(*sys.argv[1:])
