"""What became of a request to erase, and to whom its data had been given before.

The entries that name what was erased are in `erased`, those that count issuers' entries in `erased_claims`; who was
given an export's file, or the evidence of an entry, is in `given_out`. An export counts that was given out before the
request was completed, and among whose events one is that was erased then: by what it was asked for, and the range of
entries that it holds. On the basis `occurred` nobody can say any more when an erased event occurred, so there the range
alone decides: rather one too many is named than one too few.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.documents import is_uuid
from receiver.events import Kind
from receiver.records.keeping import erased, erased_claims, erasures, exports, given_out
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import deliveries, sources

_EVENTS = (Kind.REVOCATION.value, Kind.CONTEXT.value)


class NoSuchErasureError(RecordsError):
    """The tenant has no request of that id."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A request to erase: `held`, `running` or `completed`; `erased` are the entries that cannot be opened any more."""

    id: str
    state: str
    target: str
    erased: int
    asked_at: str
    completed_at: str | None


@dataclass(frozen=True, slots=True)
class ExportGiven:
    """The file of an export was given to that API key, or to `command`."""

    id: str
    at: str
    given_to: str


@dataclass(frozen=True, slots=True)
class EvidenceGiven:
    """The evidence of an entry was: an event's, or what is kept beside it."""

    event_id: str
    at: str
    given_to: str


@dataclass(frozen=True, slots=True)
class Answer(Listed):
    """The same with the indexes of the entries that tell of it, and who had been given what they name."""

    entries: list[int]
    exports: list[ExportGiven]
    evidence: list[EvidenceGiven]


def load(records: Records, tenant: Tenant, erasure_id: str) -> Answer:
    """What became of a request. Raises NoSuchErasureError."""
    its = sa.select(erasures).where(erasures.c.id == erasure_id, erasures.c.tenant_id == tenant.id)
    with records.database.read() as tx:
        row = tx.execute(its).one_or_none() if is_uuid(erasure_id) else None
        if row is None:
            raise NoSuchErasureError(f"there is no erasure {erasure_id[:64]!a}")
        its_id = {"erasure": row.id}
        return Answer(
            id=row.id,
            state=row.state,
            target=row.target,
            erased=row.erased,
            asked_at=row.asked_at,
            completed_at=row.completed_at,
            entries=[index for _, index in tx.execute(_ENTRIES, its_id)],
            exports=[ExportGiven(*one) for one in tx.execute(_GIVEN_EXPORTS, its_id)],
            evidence=[EvidenceGiven(*one) for one in tx.execute(_GIVEN_EVIDENCE, its_id)],
        )


def find(records: Records, tenant: Tenant, before: str | None, limit: int) -> tuple[list[Listed], str | None]:
    """A tenant's requests, newest first, beyond the id `before`; and the id of the last one, if there are more."""
    columns = (
        erasures.c.id,
        erasures.c.state,
        erasures.c.target,
        erasures.c.erased,
        erasures.c.asked_at,
        erasures.c.completed_at,
    )
    query = sa.select(*columns).where(erasures.c.tenant_id == tenant.id).order_by(erasures.c.id.desc())
    if before is not None:
        query = query.where(erasures.c.id < before)
    with records.database.read() as tx:
        found = [Listed(*row) for row in tx.execute(query.limit(limit + 1))]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


_ENTRIES = sa.union(
    *(
        sa.select(table.c.log_id, table.c.log_index).where(table.c.erasure_id == sa.bindparam("erasure"))
        for table in (erased, erased_claims)
    )
).order_by("log_id", "log_index")

# What was given out once it was erased did not hold it; until the request is completed that may be either way.
_IS_BEFORE = sa.and_(
    erasures.c.id == sa.bindparam("erasure"),
    sa.or_(erasures.c.completed_at.is_(None), given_out.c.at <= erasures.c.completed_at),
)

_GIVEN_EVIDENCE: sa.Select[*tuple[Any, ...]] = (
    sa.select(given_out.c.entry_id, given_out.c.at, given_out.c.given_to)
    .join_from(given_out, erasures, _IS_BEFORE)
    .where(
        given_out.c.entry_id.in_(sa.select(erased.c.entry_id).where(erased.c.erasure_id == sa.bindparam("erasure"))),
    )
    .order_by(given_out.c.at, given_out.c.id)
)

_PROVIDERS = sa.literal(",") + exports.c.providers + sa.literal(",")


def _is_inside(column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return sa.and_(column >= exports.c.since, column < exports.c.until)


_HELD_IT = (
    sa.select(sa.literal(1))
    .select_from(
        erased.join(deliveries, deliveries.c.id == erased.c.entry_id).join(
            sources, sources.c.id == deliveries.c.source_id
        )
    )
    .where(
        erased.c.erasure_id == sa.bindparam("erasure"),
        deliveries.c.log_id == exports.c.log_id,
        # Until its range is known, it may be any up to its own entry.
        deliveries.c.log_index >= sa.func.coalesce(exports.c.start, 0),
        deliveries.c.log_index < sa.func.coalesce(exports.c.end, exports.c.log_index + 1),
        sa.or_(
            deliveries.c.kind.in_(_EVENTS),
            sa.and_(deliveries.c.kind == Kind.ATTEMPT.value, deliveries.c.effect.is_not(None)),
        ),
        sa.or_(exports.c.tests, sa.not_(deliveries.c.test)),
        sa.or_(exports.c.providers.is_(None), _PROVIDERS.contains(sa.literal(",") + sources.c.provider + ",")),
        sa.case(
            (exports.c.basis == "logged", _is_inside(deliveries.c.logged_at)),
            (exports.c.basis == "received", _is_inside(deliveries.c.received_at)),
            else_=sa.true(),
        ),
    )
    .correlate(exports)
    .exists()
)

_GIVEN_EXPORTS: sa.Select[*tuple[Any, ...]] = (
    sa.select(given_out.c.export_id, given_out.c.at, given_out.c.given_to)
    .join_from(given_out, exports, exports.c.id == given_out.c.export_id)
    .join(erasures, _IS_BEFORE)
    .where(exports.c.tenant_id == erasures.c.tenant_id, _HELD_IT)
    .order_by(given_out.c.at, given_out.c.id)
)
