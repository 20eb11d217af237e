"""Taking up: every event that there is something to check against gets its row of `checks`, to be judged at once.

For each source it is kept how far its events are taken up (`taken_up`): up to which entry of which of its tenant's
logs. Nothing is missed by that: an entry's row is committed with it, in the order of the log. When what a source's
events are checked against is changed, the row is deleted in the same transaction; then all its events are taken up once
more, from the first one on.

    nothing is known of an event yet      it is checked against what there is now
    something is                          that stays; against the same log it is judged once more, by what applies now
    it is absent, or contradicted, by     it is pending again, and judged by the log that is named now: which is told.
    another log, or by a record           So a source that named a wrong log can be set right
    there is nothing to check against     what was not known yet will never be: `none`, which is told

An event also says that an entry of an issuer's log was announced, whatever the event itself is checked against. So
where a tenant's other sources name a log, events are gone through that nothing is checked of, for the gaps they end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from receiver import providers
from receiver.assurance.claims import claim_of
from receiver.assurance.conclusions import Verdict, check_of, conclude
from receiver.events import CrossCheck, format_time, parse_time
from receiver.records.findings import IS_CHECKED
from receiver.records.journal import Changing, change
from receiver.records.keyed import operation_key
from receiver.records.opening import Records, Tenant
from receiver.records.tables import checks, claims, credentials, deliveries, log_keys, sources, taken_up, tenants
from translog.store import logs

PIECE = 500
"""Events that are taken up in one transaction."""

PIECES = 20
"""Transactions after which a call returns: what is left is for the next one."""

WINDOW = 10_000
"""Entries of the log that are gone through at once: even where all of them are other sources'."""

WORTH_NOTING = 1_000
"""Other sources' entries that it is noted after to have gone past: to go past fewer again costs less than noting it."""

AT_ONCE = ""
"""Due now: it sorts before every time."""

_DENIED = frozenset({CrossCheck.ABSENT, CrossCheck.CONTRADICTED})
"""What was found of an event that another log may stand for. One that stood for it is not doubted by another."""


class ToCheck(Struct, frozen=True):
    """A source that has events to be taken up, or to be gone through."""

    source_id: str
    tenant_id: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Of which log of a tenant the entries are gone through, and from which index on."""

    log_id: int
    index: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """Events that are to be taken up, and the place after them."""

    begins_at: _Place | None
    """None: at the first entry of all."""
    ends_at: _Place
    rows: Sequence[sa.Row[Any]]

    @property
    def is_worth_noting(self) -> bool:
        """Whether there is anything in it, or much that it goes past."""
        began, ended = self.begins_at, self.ends_at
        passed = began is None or began.log_id != ended.log_id or ended.index - began.index >= WORTH_NOTING
        return bool(self.rows) or passed


@dataclass(frozen=True, slots=True)
class _Against:
    """What a source's events are checked against: an issuer's log, or (None) the provider's record, or nothing."""

    provider: str
    issuer_log_id: str | None
    record: bool
    grace: timedelta

    @property
    def is_something(self) -> bool:
        return self.issuer_log_id is not None or self.record


_SOURCES: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        sources.c.id,
        sources.c.tenant_id,
        sources.c.provider,
        sources.c.issuer_log_id,
        sources.c.upstream,
        sources.c.grace,
        credentials.c.source_id.is_not(None).label("has_credential"),
        tenants.c.log_id,
        logs.c.size,
        taken_up.c.log_id.label("taken_log_id"),
        taken_up.c.next_index,
    )
    .join_from(sources, tenants, tenants.c.id == sources.c.tenant_id)
    .join(logs, logs.c.id == tenants.c.log_id)
    .outerjoin(credentials, credentials.c.source_id == sources.c.id)
    .outerjoin(taken_up, taken_up.c.source_id == sources.c.id)
)


def sources_to_check(tx: sa.Connection) -> list[ToCheck]:
    """The sources of all tenants, enabled or not, whose logs have grown since their events were last taken up.

    Those that there is nothing to check against are among them where a source of the same tenant and provider names an
    issuer's log; and once, after that was changed.
    """
    rows = tx.execute(_SOURCES.order_by(sources.c.tenant_id, sources.c.created_at, sources.c.id)).all()
    followed = {(row.tenant_id, row.provider) for row in rows if row.issuer_log_id is not None}
    found: list[ToCheck] = []
    for row in rows:
        begins_anew = row.next_index is None
        has_grown = begins_anew or row.taken_log_id != row.log_id or row.next_index < row.size
        if has_grown and (begins_anew or _against(row).is_something or (row.tenant_id, row.provider) in followed):
            found.append(ToCheck(row.id, row.tenant_id))
    return found


def take_up(records: Records, tenant: Tenant, source: ToCheck) -> int:
    """Take up the events of a tenant's source that have come since the last time; how many these are.

    At most `PIECES` times `PIECE`: so many in one call are a sign that there are more.
    """
    taken = 0
    for _ in range(PIECES):
        with records.database.read() as tx:
            piece = _next_piece(tx, tenant, source.source_id)
        if not piece.is_worth_noting:
            break
        with change(records.database, tenant.log) as changing:
            number = _take(changing, tenant, source.source_id, piece)
        if number is None:
            break
        taken += number
    return taken


# ---- what is next ---------------------------------------------------------------------------------------------------


def _next_piece(tx: sa.Connection, tenant: Tenant, source_id: str) -> _Piece:
    """The next events of a source, `PIECE` of them or all there are."""
    began = _place(tx, source_id)
    place = began or _Place(0, 0)
    its_logs = sa.select(logs.c.id, logs.c.size).join(log_keys, log_keys.c.log_id == logs.c.id)
    its_logs = its_logs.where(log_keys.c.tenant_id == tenant.id, logs.c.id >= place.log_id)
    for log_id, size in tx.execute(its_logs.order_by(logs.c.id)).all():
        # After a recovery a tenant has several: each is gone through from its beginning.
        place = place if place.log_id == log_id else _Place(log_id, 0)
        while place.index < size:
            end = min(place.index + WINDOW, size)
            wanted = {"source": source_id, "log": log_id, "start": place.index, "end": end, "most": PIECE}
            rows = tx.execute(_EVENTS, wanted).all()
            place = _Place(log_id, rows[-1].log_index + 1 if len(rows) == PIECE else end)
            if rows:
                return _Piece(began, place, rows)
    return _Piece(began, place, ())


def _place(tx: sa.Connection, source_id: str) -> _Place | None:
    row = tx.execute(sa.select(taken_up).where(taken_up.c.source_id == source_id)).one_or_none()
    return None if row is None else _Place(row.log_id, row.next_index)


# Both ends of a range of indexes are given, for no index of the table has the source, the log and the place in it.
_EVENTS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.id,
        deliveries.c.log_index,
        deliveries.c.received_at,
        deliveries.c.effect,
        deliveries.c.event_data,
        deliveries.c.item_key,
    )
    .where(
        deliveries.c.source_id == sa.bindparam("source"),
        deliveries.c.log_id == sa.bindparam("log"),
        deliveries.c.log_index >= sa.bindparam("start"),
        deliveries.c.log_index < sa.bindparam("end"),
        IS_CHECKED,
    )
    .order_by(deliveries.c.log_index)
    .limit(sa.bindparam("most", type_=sa.Integer))
)


# ---- under the lock -------------------------------------------------------------------------------------------------


def _take(changing: Changing, tenant: Tenant, source_id: str, piece: _Piece) -> int | None:
    """Take up a piece; how many events that are. None if another receiver was faster, or the source was changed since.

    Where there is nothing to check against any more, it is about the events that are pending, at first.
    """
    tx = changing.tx
    if _place(tx, source_id) != piece.begins_at:
        return None
    against = _against(tx.execute(_SOURCES.where(sources.c.id == source_id)).one())
    begins_anew = piece.begins_at is None
    ends_at = piece.ends_at
    if against.is_something:
        if begins_anew:
            _judge_claims_again(tx, tenant, against)
        _take_events(changing, tenant, source_id, against, piece.rows)
    elif begins_anew:
        if number := _give_up(changing, tenant, source_id):
            return number  # there may be more: it begins anew once more
        ends_at = _Place(tenant.log_id, changing.head.size)
    _end_gaps(tx, piece.rows)
    values = {"log_id": ends_at.log_id, "next_index": ends_at.index}
    if begins_anew:
        tx.execute(sa.insert(taken_up).values(source_id=source_id, **values))
    else:
        tx.execute(sa.update(taken_up).where(taken_up.c.source_id == source_id).values(**values))
    return len(piece.rows)


def _against(row: sa.Row[Any]) -> _Against:
    has_record = providers.get(row.provider).record is not None
    return _Against(
        provider=row.provider,
        issuer_log_id=row.issuer_log_id,
        record=row.issuer_log_id is None and has_record and row.upstream is not None and row.has_credential,
        grace=timedelta(seconds=row.grace),
    )


def _take_events(
    changing: Changing, tenant: Tenant, source_id: str, against: _Against, rows: Sequence[sa.Row[Any]]
) -> None:
    tx = changing.tx
    ids = [row.id for row in rows]
    its = sa.select(checks, sources.c.provider).join_from(checks, sources).where(checks.c.event_id.in_(ids))
    known = {row.event_id: row for row in tx.execute(its)} if ids else {}
    new: list[Mapping[str, Any]] = []
    for row in rows:
        waiting = {
            "issuer_log_id": against.issuer_log_id,
            "grace_over_at": format_time(parse_time(row.received_at) + against.grace),
            "due_at": AT_ONCE,
            "looks": 0,
        }
        present = known.get(row.id)
        if present is None:
            new.append(
                {
                    "event_id": row.id,
                    "tenant_id": tenant.id,
                    "source_id": source_id,
                    "item_key": row.item_key,
                    "operation_key": _operation_key(tenant, against.provider, row),
                    "state": CrossCheck.PENDING.value,
                    "late": False,
                    **waiting,
                }
            )
            continue
        same_log = present.issuer_log_id == against.issuer_log_id
        by_log = against.issuer_log_id is not None
        begins_anew = present.state == CrossCheck.NONE or (by_log and not same_log and present.state in _DENIED)
        if begins_anew:
            conclude(changing, tenant, check_of(present), Verdict(CrossCheck.PENDING, AT_ONCE), by=None)
        its_row = sa.update(checks).where(checks.c.event_id == row.id)
        if begins_anew or present.state == CrossCheck.PENDING:
            tx.execute(its_row.values(**waiting))
        elif by_log and same_log:
            tx.execute(its_row.values(due_at=AT_ONCE))
    if new:
        tx.execute(sa.insert(checks), new)


def _operation_key(tenant: Tenant, provider: str, row: sa.Row[Any]) -> bytes | None:
    claim = claim_of(row.effect, row.event_data)
    if claim is None or claim.operation is None:
        return None
    return operation_key(tenant.hash_key, provider, claim.operation)


def _give_up(changing: Changing, tenant: Tenant, source_id: str) -> int:
    """Tell of events of a source that nothing will be known of, `PIECE` of them or all; how many."""
    waiting = sa.select(checks, sources.c.provider).join_from(checks, sources)
    waiting = waiting.where(
        checks.c.tenant_id == tenant.id, checks.c.state == CrossCheck.PENDING.value, checks.c.source_id == source_id
    )
    rows = changing.tx.execute(waiting.order_by(checks.c.event_id).limit(PIECE)).all()
    for row in rows:
        conclude(changing, tenant, check_of(row), Verdict(CrossCheck.NONE), by=None)
    return len(rows)


def _judge_claims_again(tx: sa.Connection, tenant: Tenant, against: _Against) -> None:
    """Whether an entry can be a gap, and when, is another question once the source has changed."""
    if against.issuer_log_id is not None:
        its = sa.update(claims).where(
            claims.c.issuer_log_id == against.issuer_log_id,
            claims.c.tenant_id == tenant.id,
            claims.c.provider == against.provider,
            claims.c.announced.is_(False),
            claims.c.gap_id.is_(None),
        )
        tx.execute(its.values(due_at=AT_ONCE))


def _end_gaps(tx: sa.Connection, rows: Sequence[sa.Row[Any]]) -> None:
    """Have the gaps judged once more that are about the items of these events."""
    items = list({bytes(row.item_key) for row in rows})
    if items:
        its = sa.update(claims).where(
            claims.c.item_key.in_(items), claims.c.announced.is_(False), claims.c.gap_id.is_not(None)
        )
        tx.execute(its.values(due_at=AT_ONCE))
