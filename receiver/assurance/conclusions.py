"""Conclusions: what was found out of an event, or of an entry that no event tells of, becomes an entry of our log.

    with change(database, tenant.log) as changing:
        check = load_check(changing.tx, event_id)
        conclude(changing, tenant, check, Verdict(CrossCheck.CONFIRMED), by="provider_record", delivery=record)

Only a change is told: another state, or another entry of the issuer's log. What is known of an event now is in its row
of `checks`; the log has how that came about. A pending from the beginning is no change, for nothing is known before it.
All of it is under the lock of the tenant's log, so whoever judges the same at the same time sees what was told.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from msgspec import Struct

from receiver.assurance.matching import Difference
from receiver.events import CrossCheck, Kind
from receiver.records.findings import Finding, Kept, keep
from receiver.records.journal import Changing
from receiver.records.opening import Tenant
from receiver.records.tables import checks, sources
from translog.canonical import Value
from translog.evidence import Delivery
from translog.merkle import leaf_hash

OPEN, ANNOUNCED = "open", "announced"
"""The states of a gap."""

Said: TypeAlias = Literal["issuer_log", "provider_record"]
"""Who said so: the issuer's log, or the provider's own record."""

_SAID = frozenset({CrossCheck.CONFIRMED, CrossCheck.CONTRADICTED})


class Check(Struct, frozen=True):
    """What is known of an event, as its row says. Times are as in the rows."""

    event_id: str
    source_id: str
    provider: str
    issuer_log_id: str | None
    """None: the provider's own record is asked."""
    state: CrossCheck
    late: bool
    """What is said of it was said only after it had been absent."""
    issuer_index: int | None
    grace_over_at: str
    due_at: str | None
    looks: int


class Verdict(Struct, frozen=True):
    """What is to be known of it from now on."""

    state: CrossCheck
    due_at: str | None = None
    """When it is to be judged, or asked about, again; None: not unless something new comes."""
    issuer_log: str | None = None
    """The origin of the issuer's log."""
    index: int | None = None
    """Of the entry there that says so."""
    entry: bytes | None = None
    """That entry."""
    differences: tuple[Difference, ...] = ()


class Gap(Struct, frozen=True):
    """An entry of an issuer's log that no event tells of, or none told of in time; and whose gap it is."""

    issuer_log_id: str
    issuer_log: str | None
    """Its origin."""
    index: int
    entry: bytes | None
    """None if it is erased. Then neither is it given with the gap, nor is it said which one it was."""
    provider: str
    source_id: str
    first_id: str | None
    """What told of the gap first; None if nothing did."""


# Made once, and given the columns to set with the row's id: making it costs more than running it.
_CHANGE = sa.update(checks).where(checks.c.event_id == sa.bindparam("id"))

_CHECKS: sa.Select[*tuple[Any, ...]] = sa.select(checks, sources.c.provider).join_from(checks, sources)


def load_check(tx: sa.Connection, event_id: str) -> Check | None:
    """What is known of that event; None if it was not taken up to be checked."""
    row = tx.execute(_CHECKS.where(checks.c.event_id == event_id)).one_or_none()
    return None if row is None else check_of(row)


def check_of(row: sa.Row[Any]) -> Check:
    """A row of `checks` with its source's `provider`, read."""
    return Check(
        event_id=row.event_id,
        source_id=row.source_id,
        provider=row.provider,
        issuer_log_id=row.issuer_log_id,
        state=CrossCheck(row.state),
        late=row.late,
        issuer_index=row.issuer_index,
        grace_over_at=row.grace_over_at,
        due_at=row.due_at,
        looks=row.looks,
    )


def conclude(
    changing: Changing,
    tenant: Tenant,
    check: Check,
    verdict: Verdict,
    *,
    by: Said | None,
    more: Mapping[str, Value] | None = None,
    delivery: Delivery | None = None,
) -> Kept | None:
    """Keep what is known of an event from now on, and tell of it if that is another thing; then where it was told.

    `check` was read under the lock. `by` is who said so, None of what nobody did (`PENDING`, `NONE`). `more` is added
    to what is committed to; `delivery` is what it was found in, of a provider's record.
    """
    if (verdict.state, verdict.index) == (check.state, check.issuer_index):
        if verdict.due_at != check.due_at:
            changing.tx.execute(_CHANGE, {"id": check.event_id, "due_at": verdict.due_at})
        return None
    late = verdict.state in _SAID and (check.late or check.state is CrossCheck.ABSENT)
    finding = Finding(
        kind=Kind.CROSS_CHECK,
        state=verdict.state.value,
        facts={
            "by": by,
            "first": check.event_id,
            "late": late,
            "provider": check.provider,
            "source": check.source_id,
            "was": check.state.value,
        },
        data={
            "differences": [difference.value() for difference in verdict.differences],
            "entry": None if verdict.entry is None else leaf_hash(verdict.entry).hex(),
            "issuer_index": verdict.index,
            "issuer_log": verdict.issuer_log,
            **(more or {}),
        },
        delivery=delivery,
        source_id=check.source_id,
        event_id=check.event_id,
        issuer_log_id=check.issuer_log_id,
        issuer_index=verdict.index,
    )
    kept = keep(changing, tenant, finding)
    known = {
        "state": verdict.state.value,
        "by": by,
        "late": late,
        "issuer_index": verdict.index,
        "finding_id": kept.id,
        "since": kept.logged_at,
        "due_at": verdict.due_at,
    }
    changing.tx.execute(_CHANGE, {"id": check.event_id, **known})
    return kept


def tell_gap(changing: Changing, tenant: Tenant, gap: Gap, state: str) -> Kept:
    """Tell that there is a gap (`OPEN`), or that it is none any more (`ANNOUNCED`); its row is the caller's to change.

    An open one has the issuer's entry with it.
    """
    entry = gap.entry
    return keep(
        changing,
        tenant,
        Finding(
            kind=Kind.GAP,
            state=state,
            facts={"gap": gap.first_id, "provider": gap.provider, "source": gap.source_id},
            data={
                "entry": None if entry is None else leaf_hash(entry).hex(),
                "issuer_index": None if entry is None else gap.index,
                "issuer_log": gap.issuer_log,
            },
            delivery=Delivery((), entry) if state == OPEN and entry is not None else None,
            source_id=gap.source_id,
            issuer_log_id=gap.issuer_log_id,
            issuer_index=gap.index,
        ),
    )
