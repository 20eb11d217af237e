"""The issuers' logs that sources name: what was verified of each, held against the keys that its sources gave.

How far a log was followed, and whether it has forked, decides what may be said of events. None of it is an entry of
ours, but all of it rests on signatures of the issuer's: the last checkpoint must satisfy the log's policy, the sizes be
those of the state, and a fork be proven by its evidence. What a log was asked for when, and what is wrong with it now,
nobody signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.events import Kind
from receiver.fsck.report import Notes
from receiver.records.issuer_logs import LogIdentity
from receiver.records.tables import findings, issuer_logs, log_keys, sources, tenants
from translog.checkpoint import Checkpoint
from translog.errors import TranslogError
from translog.follower import State
from translog.fork import Fork
from translog.policy import Policy


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer's log, as far as what is kept of it can be relied on; what cannot be is None, and told of."""

    id: str
    url: str
    policy: Policy | None
    """Whose signatures count."""
    origin: str | None
    """Of its last verified checkpoint."""
    size: int | None
    """The same; 0 before the first."""
    fork: bytes | None
    """The evidence as it is kept, verified or not."""


def read_issuers(tx: sa.Connection, notes: Notes) -> dict[str, Issuer]:
    """Every issuer's log by its id, whatever is wrong with it being noted."""
    rows = tx.execute(sa.select(issuer_logs).order_by(issuer_logs.c.id))
    return {row.id: _issuer(row, notes) for row in rows}


def check_told_of_forks(tx: sa.Connection, issuers: Mapping[str, Issuer], notes: Notes) -> None:
    """Name the tenants with a source that names a log which has forked, where none of their entries tells of that yet.

    The service tells of it within seconds, but of sources that are enabled only.
    """
    forked = [issuer.id for issuer in issuers.values() if issuer.fork is not None]
    naming = (
        sa.select(sources.c.issuer_log_id, sources.c.tenant_id, tenants.c.name)
        .join_from(sources, tenants, tenants.c.id == sources.c.tenant_id)
        .where(sources.c.enabled, sources.c.issuer_log_id.in_(forked))
        .distinct()
        .order_by(sources.c.issuer_log_id, sources.c.tenant_id)
    )
    told = (
        sa.select(findings.c.issuer_log_id, log_keys.c.tenant_id)
        .join_from(findings, log_keys, log_keys.c.log_id == findings.c.log_id)
        .where(findings.c.kind == Kind.FORK.value)
    )
    known = {(log_id, tenant_id) for log_id, tenant_id in tx.execute(told)} if forked else set[tuple[str, int]]()
    for log_id, tenant_id, name in tx.execute(naming) if forked else ():
        if (log_id, tenant_id) not in known:
            notes.remark(f"the issuer log {log_id} has forked, and no entry of tenant {name} tells so yet")


def _issuer(row: sa.Row[Any], notes: Notes) -> Issuer:
    place = f"issuer log {row.id}"
    try:
        policy = LogIdentity(row.url, row.policy, row.origin or None).trust()
    except (TranslogError, ValueError) as error:
        notes.fault(place, f"its policy cannot be read: {error}")
        return Issuer(row.id, row.url, None, None, None, _bytes(row.fork))
    origin, size = _followed(row, policy, place, notes)
    if (row.fork is None) != (row.forked_at is None):
        given, missing = ("forked_at", "fork") if row.fork is None else ("fork", "forked_at")
        notes.fault(place, f"{given} is given, and {missing} is not")
    if row.fork is not None:
        try:
            Fork.parse(bytes(row.fork)).verify(policy)
        except TranslogError as error:
            notes.fault(place, f"the evidence that it has forked proves nothing: {error}")
    return Issuer(row.id, row.url, policy, origin, size, _bytes(row.fork))


def _followed(row: sa.Row[Any], policy: Policy, place: str, notes: Notes) -> tuple[str | None, int | None]:
    """The origin and the size of the last verified checkpoint."""
    try:
        state = State.parse(bytes(row.state))
        checkpoint = None if state.note is None else policy.open(state.note)
    except TranslogError as error:
        notes.fault(place, f"how far it was followed cannot be relied on: {error}")
        return None, None
    size = _size(checkpoint)
    for name, stated in (("size", size), ("next_index", state.size)):
        kept = getattr(row, name)
        if kept != stated:
            notes.fault(place, f"{name} is {kept!a}, its state's {stated}")
    return None if checkpoint is None else checkpoint.origin, size


def _size(checkpoint: Checkpoint | None) -> int:
    return 0 if checkpoint is None else checkpoint.size


def _bytes(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)
