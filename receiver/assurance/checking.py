"""Checking: what is due is judged by what the issuer's log says, and what has changed is told in our log.

    for source in sources_to_check(tx):            its new events get their rows of `checks`
        take_up(records, tenant, source)
    while judge_due(records, tenant):              rows of `checks` and of `claims` whose time has come
        ...

A row says when it is due (`due_at`): at once, when it is new; or once a checkpoint of the issuer's log was asked for at
that time or later and every entry under it is read (`issuer_logs.complete_at`). So an outage, ours or the log's, puts
off what depends on the end of a grace period, and nothing else; and a log that has forked is asked nothing any more.

    event    confirmed or contradicted as soon as an entry says so; else pending, and absent once its grace is over
    entry    announced as soon as an event tells of it; else, if it concerns a source, a gap once its grace is over,
             counted from when it was seen; of several sources the longest

It is judged under the lock of the tenant's log, from what is in the rows then (`receiver.assurance.judging`), by rules
that know neither time nor order (`receiver.assurance.matching`). So whoever comes second finds it judged, and what
comes later changes what follows from it, each change an entry of our log: an event that was absent may be confirmed, a
confirmed one be contradicted, and a gap be announced. An absent event stays so until something is found, also while a
log is read again from its beginning.

What was erased says nothing any more. So where anything is, nothing new is called absent: what is pending ends as
`none`, for it cannot be known. An entry that is erased is owed all the same, and a gap in its time, unless an event may
tell of it by its keyed hashes; and so is one that no erased event may tell of. And of an item, or operation, with too
many rows each event and each entry is judged for itself: by its operation, and by there being nothing at all. What that
does not decide stays as it is, and is looked at again later.
"""

from typing import Any

import sqlalchemy as sa

from receiver.assurance.judging import Due, IssuerLog, Judging
from receiver.assurance.related import load_sources
from receiver.assurance.taking_up import ToCheck, sources_to_check, take_up
from receiver.records.journal import change
from receiver.records.opening import Records, Tenant
from receiver.records.tables import checks, claims, issuer_logs

__all__ = ["A_TURN", "ToCheck", "judge_due", "sources_to_check", "take_up"]

A_TURN = 200
"""Rows that are judged in one transaction."""


def judge_due(records: Records, tenant: Tenant, most: int = A_TURN) -> int:
    """Judge what is due of a tenant, that of the first logs first; how many rows were: 0 if none is due any more.

    One transaction. Raises SQLAlchemy's errors and translog's StoreError; then nothing of it is kept.
    """
    with records.database.read() as tx:
        if not _logs(tx, tenant):
            return 0
    dealt = 0
    with change(records.database, tenant.log) as changing:
        known = load_sources(changing.tx, tenant)
        for log in _logs(changing.tx, tenant):
            if dealt < most:
                due = _due(changing.tx, tenant, log, most - dealt)
                dealt += Judging(changing, tenant, log, known).judge(due)
    return dealt


# ---- what is due ----------------------------------------------------------------------------------------------------


_BY = sa.func.coalesce(issuer_logs.c.complete_at, "")
_LOGS: sa.Select[*tuple[Any, ...]] = (
    sa.select(issuer_logs.c.id, issuer_logs.c.complete_at, issuer_logs.c.state, issuer_logs.c.wanted)
    .where(
        issuer_logs.c.forked_at.is_(None),
        sa.or_(
            *(
                sa.exists().where(
                    table.c.issuer_log_id == issuer_logs.c.id,
                    table.c.due_at <= _BY,
                    table.c.tenant_id == sa.bindparam("tenant"),
                )
                for table in (checks, claims)
            )
        ),
    )
    .order_by(issuer_logs.c.created_at, issuer_logs.c.id)
)


def _logs(tx: sa.Connection, tenant: Tenant) -> list[IssuerLog]:
    """The logs by which anything of a tenant is due."""
    rows = tx.execute(_LOGS, {"tenant": tenant.id}).all()
    return [IssuerLog(row.id, row.complete_at, bytes(row.state), row.wanted) for row in rows]


def _due(tx: sa.Connection, tenant: Tenant, log: IssuerLog, most: int) -> list[Due]:
    """What is due by a log, longest due first; of events and entries that are due as long, in turn."""
    found: list[tuple[str, int, Due]] = []
    for table, place in ((checks, checks.c.event_id), (claims, claims.c.index)):
        query = sa.select(table.c.due_at, table.c.item_key, table.c.operation_key, place.label("place")).where(
            table.c.issuer_log_id == log.id, table.c.due_at <= (log.complete_at or ""), table.c.tenant_id == tenant.id
        )
        for number, row in enumerate(tx.execute(query.order_by(table.c.due_at).limit(most))):
            keys = tuple(bytes(key) for key in (row.item_key, row.operation_key) if key is not None)
            its_own = {"event_id": row.place} if table is checks else {"index": row.place}
            found.append((row.due_at, number, Due(row.due_at, keys, **its_own)))
    return [due for *_, due in sorted(found, key=lambda one: one[:2])][:most]
