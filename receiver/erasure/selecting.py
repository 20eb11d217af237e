"""What an erasure takes: all that repeats what is to be gone, found by keyed hashes and by what names one another.

    selection = select(tx, tenant, Wanted(item_key=…))      deliveries, in the order in which they are to be erased
    found = found_about(tx, ids, extent)                    findings about some of these that still open
    named, emptied = claims_with(tx, tenant, ids)           entries of issuers' logs that tell of the same

A delivery is never alone. Its mismatches have nearly the same body, a quarantined one is what was read out of it, a
call that was passed on has its request and its answer, and what the provider's record said is in a cross-check. All
these are found from columns that outlive an erasure: keyed hashes, ids of other rows, the facts of leaves. So what is
half done is found once more from where it began: whatever was found by something else is erased before that is.

Who is erased with an event is not always whoever it names: the event that a mismatch differs from, or that a call was
answered with once more, tells of itself, and stays unless it is asked for.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import sqlalchemy as sa

from receiver.erasure.placing import words_of
from receiver.events import Kind, Via
from receiver.records import persons
from receiver.records.keeping import holds
from receiver.records.opening import Tenant
from receiver.records.tables import IS_GAP, attempts, checks, claims, deliveries, findings, log_keys, reprocessed
from translog.errors import FormatError
from translog.evidence import Leaf
from translog.store import entries

AT_ONCE = 500
"""Rows that are asked for in one statement."""

Claim: TypeAlias = tuple[str, int]
"""An entry of an issuer's log: the log's id, and its index there."""

_OF_CALLS = (Via.RELAY.value, Via.POLL.value)


class Target(StrEnum):
    """What was asked to be erased."""

    EVENT = "event"
    ITEM = "item"
    PERSON = "person"
    RETENTION = "retention"
    """What is older than it is to be kept."""


class Extent(StrEnum):
    """How much of an entry is erased."""

    ALL = "all"
    DELIVERY = "delivery"
    """The body and its headers only."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be erased: one of these. Keys are keyed hashes (`receiver.records.keyed`)."""

    event_id: str | None = None
    """The id of any row of `deliveries`."""
    item_key: bytes | None = None
    person_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What is still to be erased; whatever goes with a delivery anyway need not be in it."""

    ids: Sequence[str] = ()
    """Of deliveries, in the order in which they are to be erased."""
    entries: Sequence[Claim] = ()
    """Entries of issuers' logs that no delivery tells of."""
    words: Sequence[str] = ()
    """The ids of findings that are about no delivery."""

    @property
    def size(self) -> int:
        """How many things that are."""
        return len(self.ids) + len(self.entries) + len(self.words)

    def first(self, most: int) -> "Selection":
        """The first of it, all of one sort."""
        if self.ids:
            return Selection(self.ids[:most])
        return Selection((), self.entries[:most]) if self.entries else Selection((), (), self.words[:most])

    def after(self, taken: int) -> "Selection":
        """What is left without so many of the first."""
        if self.ids:
            return Selection(self.ids[taken:], self.entries, self.words)
        if self.entries:
            return Selection((), self.entries[taken:], self.words)
        return Selection((), (), self.words[taken:])


def select(tx: sa.Connection, tenant: Tenant, wanted: Wanted) -> Selection:
    """All that is still to be erased of what is wanted, and goes with it."""
    ids = still_open(tx, related(tx, tenant, roots(tx, tenant, wanted)), Extent.ALL)
    entries = [] if wanted.item_key is None else still_kept(tx, tenant, [wanted.item_key])
    keys = [key for key in (wanted.item_key, wanted.person_key) if key is not None]
    return Selection(ids, entries, words_about(tx, tenant, keys))


def words_about(tx: sa.Connection, tenant: Tenant, keys: Collection[bytes]) -> list[str]:
    """The findings that say in words which of these items or persons were held, and why, and still open."""
    ids = words_of(tx, tenant, keys) if keys else []
    query = sa.select(findings.c.id).where(findings.c.id.in_(ids), opens(findings, Extent.ALL))
    return list(tx.execute(query.order_by(findings.c.id)).scalars()) if ids else []


def roots(tx: sa.Connection, tenant: Tenant, wanted: Wanted) -> list[str]:
    """The deliveries that are asked for, erased or not, in the log's order; of a person those that still are."""
    if wanted.event_id is not None:
        return [wanted.event_id]
    if wanted.person_key is not None:
        return persons.deliveries_of(tx, tenant, wanted.person_key)
    columns = deliveries.c
    its = sa.select(columns.id).where(_about([wanted.item_key or b""])).order_by(columns.log_id, columns.log_index)
    return list(tx.execute(its).scalars())


def related(tx: sa.Connection, tenant: Tenant, ids: Iterable[str]) -> list[str]:
    """These deliveries, and all that repeat what they hold: what was found by others comes before these."""
    rounds = [list(dict.fromkeys(ids))]
    known = set(rounds[0])
    while rounds[-1]:
        found = dict.fromkeys(one for one in _beside(tx, tenant, rounds[-1]) if one not in known)
        known.update(found)
        rounds.append(list(found))
    return [its_id for found in reversed(rounds) for its_id in found]


def still_open(tx: sa.Connection, ids: Sequence[str], extent: Extent) -> list[str]:
    """Those of the deliveries, in this order, that still open, or about which something was found that does."""
    there: set[str] = set()
    for some in parts(ids):
        there.update(
            tx.execute(sa.select(deliveries.c.id).where(deliveries.c.id.in_(some), opens(deliveries, extent))).scalars()
        )
        about = sa.select(findings.c.event_id).where(findings.c.event_id.in_(some), opens(findings, extent))
        there.update(tx.execute(about).scalars())
    return [its_id for its_id in ids if its_id in there]


def opens(table: sa.FromClause, extent: Extent) -> sa.ColumnElement[bool]:
    """Whether a row of `deliveries` or `findings` has anything that an erasure of that extent takes."""
    of_delivery = (table.c.headers, table.c.body, table.c.delivery_salt)
    of_event = (table.c.event_data, table.c.event_salt) if extent is Extent.ALL else ()
    return sa.or_(*(column.is_not(None) for column in (*of_delivery, *of_event)))


def found_about(tx: sa.Connection, ids: Sequence[str], extent: Extent) -> list[str]:
    """The findings about these deliveries that still open."""
    columns = findings.c
    about = [sa.select(columns.id).where(columns.event_id.in_(some), opens(findings, extent)) for some in parts(ids)]
    return [its_id for query in about for its_id in tx.execute(query).scalars()]


def parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """These, as many at a time as are asked for in one statement."""
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))


# ---- deliveries -----------------------------------------------------------------------------------------------------


def _about(items: Collection[bytes], table: sa.FromClause = deliveries) -> sa.ColumnElement[bool]:
    """Either the item is the group, or it stands apart from it: each has its index (`receiver.records.tables`)."""
    columns = table.c
    grouped = sa.and_(columns.group_key.in_(items), columns.item_key == columns.group_key)
    return sa.or_(grouped, sa.and_(columns.item_key.in_(items), columns.item_key != columns.group_key))


def _beside(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> Iterator[str]:
    """What repeats what one of these deliveries holds; each may come more than once."""
    calls: list[str] = []
    for some in parts(ids):
        for one, other in (
            (deliveries.c.first_id, deliveries.c.id),  # mismatches, and answers that told of the same act
            (reprocessed.c.quarantine_id, reprocessed.c.row_id),
            (reprocessed.c.row_id, reprocessed.c.quarantine_id),
            (reprocessed.c.same_id, reprocessed.c.quarantine_id),
            (attempts.c.id, attempts.c.outcome_id),
        ):
            yield from tx.execute(sa.select(other).where(one.in_(some), other.is_not(None))).scalars()
        yield from tx.execute(_there_already(some)).scalars()
        yield from (call for _, call in _calls_told_of(tx, deliveries.c.id.in_(some)))
        calls += tx.execute(sa.select(attempts.c.id).where(attempts.c.id.in_(some))).scalars()
    yield from (its_id for its_id, _ in answers_to(tx, tenant, calls))


def _there_already(ids: Sequence[str]) -> sa.Select[str]:
    """What was there with the same content when these were read again out of quarantine.

    What is erased of it leads nowhere any more: what differs from it came later. And an event that a call was answered
    with once more stays, whether that answer was in quarantine or not.
    """
    there, again = deliveries.alias(), deliveries.alias()
    return (
        sa.select(there.c.id)
        .join_from(reprocessed, there, there.c.id == reprocessed.c.same_id)
        .join(again, again.c.id == reprocessed.c.quarantine_id)
        .where(reprocessed.c.quarantine_id.in_(ids), again.c.via.not_in(_OF_CALLS), opens(there, Extent.ALL))
    )


def _calls_told_of(tx: sa.Connection, which: sa.ColumnElement[bool]) -> Iterator[tuple[str, str]]:
    """Of those deliveries that tell of a call: their ids, and the calls' ids, which stand in their leaves alone."""
    columns = deliveries.c
    its_entry = sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index)
    query = sa.select(columns.id, entries.c.data).join_from(deliveries, entries, its_entry)
    for its_id, entry in tx.execute(query.where(which, columns.via.in_(_OF_CALLS))):
        try:
            call = Leaf.parse(bytes(entry)).facts.get("attempt")
        except FormatError:  # a damaged entry tells nothing; `fsck` tells of it
            continue
        if isinstance(call, str):
            yield its_id, call


def answers_to(tx: sa.Connection, tenant: Tenant, calls: Sequence[str]) -> Iterator[tuple[str, str]]:
    """All that tells what became of these calls, each with the call's id; it may come more than once.

    It is about their items, or differs from what is, or is in quarantine.
    """
    columns, first = deliveries.c, deliveries.alias()
    wanted = set(calls)
    sources: set[str] = set()
    for some in parts(calls):
        intents = tx.execute(sa.select(columns.item_key, columns.source_id).where(columns.id.in_(some))).all()
        sources.update(row.source_id for row in intents)
        items = {bytes(row.item_key) for row in intents if row.item_key is not None}
        differs = columns.first_id.in_(sa.select(first.c.id).where(_about(items, first)))
        for which in (_about(items), differs):
            yield from (told for told in _calls_told_of(tx, which) if told[1] in wanted)
    if sources:
        # A literal, for only then is the index of these rows used.
        is_quarantined = columns.kind == sa.literal_column(f"'{Kind.QUARANTINE}'")
        its = sa.and_(is_quarantined, columns.log_id.in_(_logs_of(tenant)), columns.source_id.in_(sources))
        yield from (told for told in _calls_told_of(tx, its) if told[1] in wanted)


def _logs_of(tenant: Tenant) -> sa.Select[int]:
    return sa.select(log_keys.c.log_id).where(log_keys.c.tenant_id == tenant.id)


# ---- entries of issuers' logs ---------------------------------------------------------------------------------------


def claims_with(tx: sa.Connection, tenant: Tenant, ids: Sequence[str]) -> tuple[set[Claim], set[bytes]]:
    """The entries of issuers' logs that go with these deliveries, and the items of which nothing else is left.

    They are those by which the deliveries were checked, if no other event that is left is checked by them; and all that
    are about those items. `ids` are no more than one entry of the log names.
    """
    emptied = _emptied(tx, ids)
    named = _named(tx, ids)
    named -= _named_by_others(tx, tenant, named, ids)
    return named | claims_of(tx, tenant, emptied), emptied


def claims_of(tx: sa.Connection, tenant: Tenant, items: Collection[bytes]) -> set[Claim]:
    """The entries that are kept of issuers' logs about these items."""
    query = sa.select(claims.c.issuer_log_id, claims.c.index.label("place")).where(
        claims.c.item_key.in_(list(items)), claims.c.tenant_id == tenant.id
    )
    return {(row.issuer_log_id, row.place) for row in tx.execute(query)} if items else set()


def still_kept(tx: sa.Connection, tenant: Tenant, items: Collection[bytes]) -> list[Claim]:
    """Those of the entries about these items that are not erased yet, or of which a gap tells that is not."""
    found = sorted(claims_of(tx, tenant, items))
    whole = sa.select(claims.c.issuer_log_id, claims.c.index.label("place")).where(
        claims.c.item_key.in_(list(items)), claims.c.tenant_id == tenant.id, claims.c.entry.is_not(None)
    )
    there = {(row.issuer_log_id, row.place) for row in tx.execute(whole)} if found else set[Claim]()
    there |= {claim for _, claim in _gaps(tx, tenant, found)}
    return [claim for claim in found if claim in there]


def kept_of(tx: sa.Connection, tenant: Tenant, named: Iterable[Claim]) -> list[sa.Row[Any]]:
    """The rows of `claims` of those of these entries that are not erased, each with its index as `place`."""
    found: list[sa.Row[Any]] = []
    columns, wanted = claims.c, sorted(named)
    for log_id in sorted({log_id for log_id, _ in wanted}):
        indexes = [index for one, index in wanted if one == log_id]
        for start in range(0, len(indexes), AT_ONCE):
            query = sa.select(claims, columns.index.label("place")).where(
                columns.issuer_log_id == log_id,
                columns.index.in_(indexes[start : start + AT_ONCE]),
                columns.tenant_id == tenant.id,
                columns.entry.is_not(None),
            )
            found += tx.execute(query.order_by(columns.index))
    return found


def gaps_of(tx: sa.Connection, tenant: Tenant, named: Iterable[Claim]) -> list[str]:
    """The findings that tell of these entries as gaps, and still open."""
    return sorted(its_id for its_id, _ in _gaps(tx, tenant, sorted(named)))


def _gaps(tx: sa.Connection, tenant: Tenant, named: Sequence[Claim]) -> Iterator[tuple[str, Claim]]:
    columns = findings.c
    wanted = set(named)
    for start in range(0, len(named), AT_ONCE):
        some = named[start : start + AT_ONCE]
        query = sa.select(columns.id, columns.issuer_log_id, columns.issuer_index).where(
            IS_GAP,
            columns.issuer_log_id.in_({log_id for log_id, _ in some}),
            columns.issuer_index.in_({index for _, index in some}),
            columns.log_id.in_(_logs_of(tenant)),
            opens(findings, Extent.ALL),
        )
        for its_id, log_id, index in tx.execute(query):
            if (log_id, index) in wanted:
                yield its_id, (log_id, index)


def _emptied(tx: sa.Connection, ids: Sequence[str]) -> set[bytes]:
    """The items of these deliveries of which no other is left that opens, of those that more is kept about."""
    columns = deliveries.c
    items: set[bytes] = set()
    for some in parts(ids):
        its = columns.id.in_(some)
        for table in (claims, holds):
            more = sa.select(table.c.item_key).where(table.c.item_key.in_(sa.select(columns.item_key).where(its)))
            items.update(bytes(key) for key in tx.execute(more.distinct()).scalars())
    mine = set(ids)

    def is_left(item: bytes) -> bool:
        # Of one more than there are here, one is another.
        others = sa.select(columns.id).where(_about([item]), columns.event_data.is_not(None)).limit(len(ids) + 1)
        return any(its_id not in mine for its_id in tx.execute(others).scalars())

    return {item for item in items if not is_left(item)}


def _named(tx: sa.Connection, ids: Sequence[str]) -> set[Claim]:
    """The entries that these events are, or were, checked by."""
    named: set[Claim] = set()
    for some in parts(ids):
        for table in (checks, findings):
            columns = table.c
            query = sa.select(columns.issuer_log_id, columns.issuer_index).where(
                columns.event_id.in_(some), columns.issuer_log_id.is_not(None), columns.issuer_index.is_not(None)
            )
            named.update((log_id, index) for log_id, index in tx.execute(query))
    return named


def _named_by_others(tx: sa.Connection, tenant: Tenant, named: Collection[Claim], ids: Sequence[str]) -> set[Claim]:
    """Those of the entries by which other events that are left are checked: these are of the item, or the operation."""
    mine, others = set(ids), set[Claim]()
    for log_id, index in named:
        its = sa.select(claims.c.item_key, claims.c.operation_key).where(
            claims.c.issuer_log_id == log_id, claims.c.index == index, claims.c.tenant_id == tenant.id
        )
        row: Any = tx.execute(its).one_or_none()
        if row is None:
            continue
        about = [checks.c.item_key == row.item_key]
        if row.operation_key is not None:
            about.append(checks.c.operation_key == row.operation_key)
        query = (
            sa.select(checks.c.event_id)
            .join_from(checks, deliveries, deliveries.c.id == checks.c.event_id)
            .where(
                sa.or_(*about),
                checks.c.issuer_log_id == log_id,
                checks.c.issuer_index == index,
                deliveries.c.event_data.is_not(None),
            )
        )
        if any(its_id not in mine for its_id in tx.execute(query).scalars()):
            others.add((log_id, index))
    return others
