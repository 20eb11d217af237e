"""Holds and retention for tests: who places a hold, what it covers, and deliveries of long ago.

ann, bob = acting(records, "Ann"), acting(records, "Bob")        keys of two owners
held = hold(records, ann, source="shop")
assert covered(records, row.id) == held.id
release(records, held, bob)
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver.erasure import placing
from receiver.erasure.holds import first_hold, held_among
from receiver.erasure.placing import Hold, Place
from receiver.events import new_id
from receiver.fsck import fsck
from receiver.intake.batch import write_batch
from receiver.intake.submission import Outcome
from receiver.records.apikeys import ApiKey, Scope, create_key, find_key
from receiver.records.journal import change
from receiver.records.opening import Records
from receiver.records.tables import deliveries, findings
from tests.receiver.submissions import Source
from translog.evidence import Leaf
from translog.store import entries

OPERATE = frozenset({Scope.OPERATE})


def acting(records: Records, owner: str, tenant: str = "default") -> ApiKey:
    """A new key of that owner with the scope `operate`."""
    _, text = create_key(records, records.ensure_tenant(tenant), new_id(), OPERATE, owner)
    key = find_key(records, text, datetime.now(UTC))
    assert key is not None
    return key


def hold(records: Records, by: ApiKey, reason: str = "lawsuit 7", **covers: Any) -> Hold:
    """Place a hold; `covers` is what it covers, as it is asked for."""
    return placing.place(records, records.tenant(by.tenant), Place(reason=reason, **covers), by)


def release(records: Records, held: Hold, by: ApiKey, reason: str = "settled") -> Hold:
    """Release a hold."""
    return placing.release(records, records.tenant(by.tenant), held.id, reason, by)


def covered(records: Records, *ids: str, tenant: str = "default") -> str | None:
    """The hold that covers one of these rows, judged as an erasure does; and that every way of asking says the same."""
    of = records.tenant(tenant)
    with change(records.database, of.log) as changing:
        found = first_hold(changing.tx, of, ids)
        among = held_among(changing.tx, of, ids)
    assert (found is None) == (not among)
    return found


def kept_of(records: Records, *ids: str, tenant: str = "default") -> set[str]:
    """Those of the rows that are covered by a hold."""
    of = records.tenant(tenant)
    with change(records.database, of.log) as changing:
        return held_among(changing.tx, of, ids)


def delivered(source: Source, *bodies: bytes, days_ago: float = 0) -> list[Outcome]:
    """Deliver these so many days before now."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    return write_batch(source.records.database, [source.submission(body, at) for body in bodies])


def last_leaf(records: Records, tenant: str = "default") -> Leaf:
    """The last entry of a tenant's log."""
    log_id = records.tenant(tenant).log_id
    query = sa.select(entries.c.data).where(entries.c.log_id == log_id).order_by(entries.c.index.desc()).limit(1)
    with records.database.read() as tx:
        return Leaf.parse(bytes(tx.execute(query).scalar_one()))


def row_of(records: Records, its_id: str) -> sa.Row[Any]:
    """A row of `deliveries`, or else of `findings`."""
    with records.database.read() as tx:
        row = tx.execute(sa.select(deliveries).where(deliveries.c.id == its_id)).one_or_none()
        return row or tx.execute(sa.select(findings).where(findings.c.id == its_id)).one()


def wrong(records: Records) -> list[str]:
    """What `receiver fsck` finds."""
    return [str(finding) for finding in fsck(records).findings]
