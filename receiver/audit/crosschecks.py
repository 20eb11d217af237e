"""What is known of an event by the issuer's own word: the columns, the conditions and the shape of it.

An event that was taken up to be checked has a row of `checks`. One that was not yet, since it has only just come, is
`pending` if its source has anything to check it against; whatever takes nothing back is never checked.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.audit.shapes import CrossCheckShape, DifferenceShape
from receiver.events import CrossCheck
from receiver.records.findings import IS_CHECKED
from receiver.records.opening import Tenant
from receiver.records.tables import checks, credentials, deliveries, findings, issuer_logs, sources
from translog.follower import State

_HAS_RECORD = [name for name in providers.names() if providers.get(name).record is not None]
_HAS_ANYTHING_TO_CHECK_AGAINST = sa.or_(
    sources.c.issuer_log_id.is_not(None),
    sa.and_(
        sources.c.upstream.is_not(None),
        sources.c.provider.in_(_HAS_RECORD),
        sa.exists().where(credentials.c.source_id == sources.c.id),
    ),
)
_WILL_BE = sa.and_(_HAS_ANYTHING_TO_CHECK_AGAINST, IS_CHECKED)
_STATE = sa.func.coalesce(checks.c.state, sa.case((_WILL_BE, CrossCheck.PENDING.value), else_=CrossCheck.NONE.value))

COLUMNS = (
    _STATE.label("check_state"),
    checks.c.finding_id.label("check_id"),
    checks.c.by.label("check_by"),
    checks.c.since.label("check_since"),
    checks.c.late.label("check_late"),
    checks.c.issuer_log_id.label("check_log"),
    checks.c.issuer_index.label("check_index"),
    # What was found may be long, and only this has what is shown of it.
    sa.case((checks.c.state == CrossCheck.CONTRADICTED.value, findings.c.event_data)).label("check_found"),
)
"""Of a query over deliveries and sources, to which `checks` and `findings` are joined where there are any."""


def conditions(tenant: Tenant, state: str) -> Iterable[sa.ColumnElement[bool]]:
    """What is true of the events in that state."""
    yield sa.literal(state) == _STATE
    if state not in {CrossCheck.PENDING, CrossCheck.NONE}:  # only these have events without a row, and they are many
        its = sa.select(checks.c.event_id).where(checks.c.tenant_id == tenant.id, checks.c.state == state)
        yield deliveries.c.id.in_(its)


def origins(tx: sa.Connection, rows: Sequence[sa.Row[Any]]) -> Mapping[str, str]:
    """By its id, the origin of each issuer's log that these rows were checked against."""
    wanted = {row.check_log for row in rows if row.check_log is not None}
    if not wanted:
        return {}
    query = sa.select(issuer_logs.c.id, issuer_logs.c.state, issuer_logs.c.url).where(issuer_logs.c.id.in_(wanted))
    return {row.id: origin_of(bytes(row.state)) or row.url for row in tx.execute(query)}


def origin_of(state: bytes) -> str | None:
    """The origin of a followed log, by its last verified checkpoint; None before the first."""
    checkpoint = State.parse(state).unverified_checkpoint()  # it was verified before it was kept
    return None if checkpoint is None else checkpoint.origin


def shape(row: sa.Row[Any], origins: Mapping[str, str]) -> CrossCheckShape:
    """A row's own. Of an erased event it is not said which entry of the issuer's log it was checked by."""
    index = None if row.event_data is None else row.check_index
    found: dict[str, Any] = {} if row.check_found is None else json.loads(row.check_found)
    told: list[dict[str, Any]] = found.get("differences", [])
    return CrossCheckShape(
        state=row.check_state,
        id=row.check_id,
        by=row.check_by,
        since=row.check_since,
        issuer_log=None if index is None else origins.get(row.check_log),
        issuer_index=index,
        late=bool(row.check_late),
        differences=[DifferenceShape(one["field"], one["event"], one["issuer"]) for one in told],
    )
