"""What legal holds keep from being erased.

    hold_id = first_hold(tx, tenant, ids, named)    one that covers any of these, or None: then they may be erased
    kept = held_among(tx, tenant, ids)              which of them are covered

A hold is a rule: a row's item, person, source or provider, or when it was received. It is judged by when something is
to be erased, under the log's lock, so it covers what is recorded after it was placed as well. How holds are placed and
released is in `receiver.erasure.placing`; that runs under the same lock.

What belongs together is kept together: a mismatch and the event that it differs from, a quarantined delivery and what
was read out of it or has its content, a call and all that tells of it, and what was found out about any of these. If a
hold covers one of them, it covers all.

Entries of issuers' logs (`claims`) are covered by their items, by the persons that they name, by when they were first
seen, and by every source of the provider that names their log, whatever account it has: what cannot be told apart for
certain is kept. A source names the log that it does for as long as it is held (`receiver.records.sources`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.erasure.selecting import answers_to
from receiver.events import Via
from receiver.records import persons
from receiver.records.keeping import holds
from receiver.records.keeping import persons as persons_table
from receiver.records.opening import Tenant
from receiver.records.tables import attempts, claims, deliveries, findings, reprocessed, sources
from translog.evidence import Leaf
from translog.store import entries

_AT_ONCE = 500
"""Rows that are asked for in one statement."""

_OF_CALLS = (Via.RELAY.value, Via.POLL.value)


def first_hold(
    tx: sa.Connection, tenant: Tenant, ids: Sequence[str], named: Sequence[tuple[str, int]] = ()
) -> str | None:
    """The id of the oldest hold in force that covers one of these rows of `deliveries` or `findings`, if one does; or
    one of the entries of issuers' logs that are named by the logs' ids and their indexes there.

    `tx` writes, under the lock of the tenant's log: what nobody has gone through for persons yet is gone through now.
    """
    rules = _Rules.in_force(tx, tenant)
    ranks = [rank for rank, _ in _covered(tx, tenant, rules, ids).values()]
    if rules.ids:
        ranks += [rank for trait in _of_entries(tx, tenant, rules, named) for rank in rules.ranks(trait)]
    return rules.ids[min(ranks)] if ranks else None


def held_among(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> set[str]:
    """Which of these rows are covered by a hold in force; `tx` as for `first_hold`."""
    return set(_covered(tx, tenant, _Rules.in_force(tx, tenant), ids))


def any_in_force(tx: sa.Connection, tenant: Tenant) -> bool:
    """Whether the tenant has a hold that is not released."""
    mine = sa.select(holds.c.id).where(holds.c.tenant_id == tenant.id, holds.c.released_at.is_(None))
    return tx.execute(mine.limit(1)).first() is not None


def may_cover_unread(tx: sa.Connection, source_ids: Iterable[str], since: str, until: str) -> dict[str, str]:
    """Those of these sources of which a hold in force may cover what came from one time to the other and nobody has
    read, each with the id of the oldest: of that source, its provider or a time in between, or of any item or person.
    """
    columns = holds.c
    may_cover = sa.or_(
        columns.item_key.is_not(None),
        columns.person_key.is_not(None),
        columns.source_id == sources.c.id,
        columns.provider == sources.c.provider,
        sa.and_(columns.since <= until, columns.until > since),
    )
    query = (
        sa.select(sources.c.id, columns.id.label("hold_id"))
        .join_from(sources, holds, columns.tenant_id == sources.c.tenant_id)
        .where(sources.c.id.in_(list(source_ids)), columns.released_at.is_(None), may_cover)
    )
    found: dict[str, str] = {}
    for row in tx.execute(query.order_by(columns.placed_at, columns.id)):
        found.setdefault(row.id, row.hold_id)
    return found


@dataclass(slots=True)
class _Trait:
    """What a row can be held by: its source, its provider, its item, its persons, each by its kind; and its time."""

    at: str
    keys: set[tuple[str, bytes | str]]


class _Rules:
    """The holds in force, so that a row is held against all of them at once; a rank is by when they were placed."""

    def __init__(self, rows: Sequence[sa.Row[Any]]) -> None:
        self.ids = [str(row.id) for row in rows]
        self.persons: set[bytes] = set()
        self._by_key: dict[tuple[str, bytes | str], int] = {}
        self._periods: list[tuple[str, str, int]] = []
        for rank, row in enumerate(rows):
            if row.item_key is not None:
                self._by_key.setdefault(("item", bytes(row.item_key)), rank)
            elif row.person_key is not None:
                self.persons.add(bytes(row.person_key))
                self._by_key.setdefault(("person", bytes(row.person_key)), rank)
            elif row.source_id is not None:
                self._by_key.setdefault(("source", row.source_id), rank)
            elif row.provider is not None:
                self._by_key.setdefault(("provider", row.provider), rank)
            else:
                self._periods.append((row.since, row.until, rank))

    @classmethod
    def in_force(cls, tx: sa.Connection, tenant: Tenant) -> "_Rules":
        mine = sa.select(holds).where(holds.c.tenant_id == tenant.id, holds.c.released_at.is_(None))
        return cls(tx.execute(mine.order_by(holds.c.placed_at, holds.c.id)).all())

    def ranks(self, trait: _Trait) -> Iterator[int]:
        """Of the rules that cover it, each kind's oldest."""
        for key in trait.keys:
            if key in self._by_key:
                yield self._by_key[key]
        for since, until, rank in self._periods:
            if since <= trait.at < until:
                yield rank


def _covered(tx: sa.Connection, tenant: Tenant, rules: _Rules, ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Those of the rows that are covered, each with the rank and the id of the oldest hold that does."""
    found: dict[str, tuple[int, str]] = {}
    if not rules.ids:
        return found
    if rules.persons:
        persons.catch_up_locked(tx, tenant)
    for some in _parts(ids):
        belonging = _belonging(tx, tenant, some)
        traits = _traits(tx, tenant, rules, belonging)
        for its_id in some:
            mine = (traits[one] for one in belonging[its_id] if one in traits)
            ranks = [rank for trait in mine for rank in rules.ranks(trait)]
            if ranks:
                found[its_id] = (min(ranks), rules.ids[min(ranks)])
    return found


# ---- what belongs together ------------------------------------------------------------------------------------------


def _belonging(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> dict[str, set[str]]:
    """For each of these rows, and all that belong to one of them, all that belong together with it, itself included."""
    together = {its_id: {its_id} for its_id in ids}
    new = set(ids)
    while new:
        links = [link for some in _parts(sorted(new)) for link in _links(tx, tenant, some)]
        new = {its_id for link in links for its_id in link} - together.keys()
        together.update({its_id: {its_id} for its_id in new})
        for one, other in links:
            if together[one] is not together[other]:
                joined = together[one] | together[other]
                together.update(dict.fromkeys(joined, joined))
    return together


def _links(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of rows that belong together, of which one is among these."""
    columns = deliveries.c
    for query in (
        _pairs(columns.id, columns.first_id, ids),
        _pairs(reprocessed.c.quarantine_id, reprocessed.c.row_id, ids),
        _pairs(reprocessed.c.quarantine_id, reprocessed.c.same_id, ids),
        _pairs(attempts.c.id, attempts.c.outcome_id, ids),
        sa.select(findings.c.id, findings.c.event_id).where(findings.c.id.in_(ids), findings.c.event_id.is_not(None)),
    ):
        yield from ((one, other) for one, other in tx.execute(query))
    its_entry = sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index)
    telling = sa.select(columns.id, entries.c.data).join_from(deliveries, entries, its_entry)
    for its_id, entry in tx.execute(telling.where(columns.id.in_(ids), columns.via.in_(_OF_CALLS))):
        # Of several answers one is its call's outcome: which call the others are about stands in their leaves alone.
        call_id = Leaf.parse(bytes(entry)).facts.get("attempt")
        if isinstance(call_id, str):
            yield its_id, call_id
    calls = tx.execute(sa.select(attempts.c.id).where(attempts.c.id.in_(ids))).scalars().all()
    yield from answers_to(tx, tenant, calls)


def _pairs(one: sa.Column[Any], other: sa.Column[Any], ids: Sequence[str]) -> sa.CompoundSelect[Any, Any]:
    pairs = sa.select(one, other).where(other.is_not(None))  # of either end, for either has its index
    return pairs.where(one.in_(ids)).union_all(pairs.where(other.in_(ids)))


def _traits(tx: sa.Connection, tenant: Tenant, rules: _Rules, ids: Iterable[str]) -> dict[str, _Trait]:
    traits: dict[str, _Trait] = {}
    for some in _parts(sorted(ids)):
        for row in (*tx.execute(_of_deliveries(some)), *tx.execute(_of_gaps(tenant, some))):
            trait = _Trait(row.at, {("source", row.source_id), ("provider", row.provider)})
            if row.item_key is not None:
                trait.keys.add(("item", bytes(row.item_key)))
            traits[row.id] = trait
        if rules.persons:
            columns = persons_table.c
            named = sa.select(columns.delivery_id, columns.person_key).where(
                columns.delivery_id.in_(some), columns.person_key.in_(rules.persons)
            )
            for delivery_id, key in tx.execute(named):
                traits[delivery_id].keys.add(("person", bytes(key)))
    return traits


def _of_deliveries(ids: Sequence[str]) -> sa.Select[Any, Any, Any, Any, Any]:
    columns = deliveries.c
    return (
        sa.select(columns.id, columns.source_id, sources.c.provider, columns.received_at.label("at"), columns.item_key)
        .join_from(deliveries, sources, sources.c.id == columns.source_id)
        .where(columns.id.in_(ids))
    )


def _of_gaps(tenant: Tenant, ids: Sequence[str]) -> sa.Select[Any, Any, Any, Any, Any]:
    """What was found out about no event: by the entry of the issuer's log that it is about, and when it was logged."""
    columns = findings.c
    its_claim = sa.and_(
        claims.c.issuer_log_id == columns.issuer_log_id,
        claims.c.index == columns.issuer_index,
        claims.c.tenant_id == tenant.id,
    )
    return (
        sa.select(columns.id, columns.source_id, sources.c.provider, columns.logged_at.label("at"), claims.c.item_key)
        .join_from(findings, sources, sources.c.id == columns.source_id)
        .join(claims, its_claim, isouter=True)
        .where(columns.id.in_(ids), columns.event_id.is_(None))
    )


def _of_entries(tx: sa.Connection, tenant: Tenant, rules: _Rules, named: Sequence[tuple[str, int]]) -> Iterator[_Trait]:
    """What these entries of issuers' logs can be held by."""
    mine = sa.select(sources.c.id, sources.c.issuer_log_id, sources.c.provider).where(sources.c.tenant_id == tenant.id)
    naming = tx.execute(mine.where(sources.c.issuer_log_id.is_not(None))).all()
    for log_id in sorted({log_id for log_id, _ in named}):
        indexes = sorted(index for one, index in named if one == log_id)
        for start in range(0, len(indexes), _AT_ONCE):
            its = claims.c.issuer_log_id == log_id, claims.c.index.in_(indexes[start : start + _AT_ONCE])
            for row in tx.execute(sa.select(claims).where(claims.c.tenant_id == tenant.id, *its)):
                trait = _Trait(row.seen_at, {("provider", row.provider), ("item", bytes(row.item_key))})
                theirs = [one.id for one in naming if (one.issuer_log_id, one.provider) == (log_id, row.provider)]
                trait.keys |= {("source", its_id) for its_id in (*theirs, row.source_id) if its_id is not None}
                if rules.persons and row.entry is not None:
                    persons_named = persons.named_by(tenant.hash_key, row.provider, None, bytes(row.entry))
                    trait.keys |= {("person", key) for key in persons_named}
                yield trait


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
