"""What has to be looked at together: events, and entries of one issuer's log, that share an item or an operation.

What is found of an event depends on the entries about it, and without operations on the other events about its item as
well; and those may lead to others again. So from what is due everything is read that hangs together with it: `Related`,
of which nothing else is needed to judge it (`Related.whole`).

Whoever may deliver, or log, can put any number of events or entries to one item. A transaction that holds the log's
lock must not take minutes for that. So of an item, or operation, of which there are more than `MOST` rows, none are
read, and what is related by it is not whole.

What is kept under an item or operation is found by keyed hashes (`receiver.records.keyed`), here called keys: they are
of one tenant and one provider, and an item's are no operation's.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from receiver.assurance.claims import IS_CHECKED, claim_in, claim_of
from receiver.assurance.conclusions import Check, check_of
from receiver.assurance.matching import Entry, Told
from receiver.events import CrossCheck, Kind, parse_time
from receiver.records.issuer_logs import Naming
from receiver.records.opening import Tenant
from receiver.records.tables import checks, claims, deliveries, sources

MOST = 256
"""Rows of one item or operation, events and entries together, that are looked at together."""

AT_ONCE = 4_000
"""Rows that are read in one transaction, if there is more than one thing to judge in it."""

ROUNDS = 4
"""How far is gone from item to operation to item. Nobody's acts hang together any further."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source, as it is configured."""

    naming: Naming
    issuer_log_id: str | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class Event:
    """An event: what it tells, None if that is erased; and what is known of it, if it is to be judged."""

    id: str
    told: Told | None
    check: Check | None
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry that is kept, and what is known of it. `said` is None if it is erased, or cannot be read any more."""

    index: int
    provider: str
    said: Entry | None
    entry: bytes | None
    seen_at: str
    announced: bool
    due_at: str | None
    gap_id: str | None
    source_id: str | None
    keys: tuple[bytes, ...]


@dataclass(slots=True)
class Related:
    """What hangs together."""

    events: list[Event] = field(default_factory=list[Event])
    entries: list[Kept] = field(default_factory=list[Kept])
    whole: bool = True
    """Nothing else does."""

    @property
    def is_readable(self) -> bool:
        """Nothing of it is erased: what is not found is not there."""
        return all(event.told is not None for event in self.events) and all(
            one.said is not None for one in self.entries
        )

    @property
    def told(self) -> list[Told]:
        """What the events tell."""
        return [event.told for event in self.events if event.told is not None]

    @property
    def said(self) -> list[Entry]:
        """What the entries say."""
        return [one.said for one in self.entries if one.said is not None]


def load_sources(tx: sa.Connection, tenant: Tenant) -> dict[str, Source]:
    """The sources of a tenant, by their ids, oldest first."""
    its = sa.select(sources).where(sources.c.tenant_id == tenant.id).order_by(sources.c.created_at, sources.c.id)
    return {row.id: _source(row) for row in tx.execute(its)}


class Reader:
    """Reads what is related, of one issuer's log, for one transaction."""

    def __init__(self, tx: sa.Connection, log_id: str, known: Mapping[str, Source]) -> None:
        """`known` are the tenant's sources."""
        self._tx = tx
        self._log_id = log_id
        self._sources = known

    def affordable(self, due: Sequence[tuple[bytes, ...]]) -> int:
        """How many of these, which have those keys and come first, can be judged in one transaction; one at least."""
        sizes = self._sizes({key for keys in due for key in keys})
        counted: set[bytes] = set()
        rows = 0
        for number, keys in enumerate(due):
            rows += sum(sizes[key] for key in keys if key not in counted and sizes[key] <= MOST)
            if rows > AT_ONCE and number > 0:
                return number
            counted.update(keys)
        return len(due)

    def related(self, due: Iterable[tuple[bytes, ...]]) -> list[Related]:
        """All that hangs together with what has those keys. Of what is not whole some rows may be missing."""
        events: dict[str, Event] = {}
        entries: dict[int, Kept] = {}
        read: set[bytes] = set()
        left_out: set[bytes] = set()
        wanted = {key for keys in due for key in keys}
        for _ in range(ROUNDS):
            chosen = self._within(wanted, 2 * AT_ONCE - len(events) - len(entries))
            left_out |= wanted - chosen
            if not chosen:
                break
            read |= chosen
            events |= {event.id: event for event in self.events(chosen)}
            entries |= {kept.index: kept for kept in self.entries(chosen)}
            there = {key for one in (*events.values(), *entries.values()) for key in one.keys}
            wanted = there - read - left_out
        left_out |= wanted - read
        return _grouped(events.values(), entries.values(), left_out)

    def events(self, keys: Collection[bytes], most: int | None = None) -> Iterator[Event]:
        """The events with one of those keys: at most so many of each way in which they are looked up, if that is said.

        Those that are not to be judged by this log are among them by their item only, and no tests: they say nothing
        of what is real.
        """
        wanted = {"keys": list(keys)}
        for query in (_EVENTS_BY_GROUP, _EVENTS_BY_ITEM, _EVENTS_BY_OPERATION):
            for row in self._tx.execute(query if most is None else query.limit(most), wanted):
                judged = row.issuer_log_id == self._log_id and row.state != CrossCheck.NONE
                if judged or not row.test:
                    yield self._event(row, judged=judged)

    def event(self, event_id: str) -> Event | None:
        """That event, if it is to be judged by this log."""
        row = self._tx.execute(_EVENTS.where(deliveries.c.id == event_id)).one_or_none()
        if row is None or row.issuer_log_id != self._log_id or row.state == CrossCheck.NONE:
            return None
        return self._event(row, judged=True)

    def entries(self, keys: Collection[bytes], most: int | None = None) -> Iterator[Kept]:
        """The entries of the log with one of those keys, as `events`."""
        wanted = {"keys": list(keys)}
        for query in (_ENTRIES_BY_ITEM, _ENTRIES_BY_OPERATION):
            for row in self._tx.execute(query if most is None else query.limit(most), wanted):
                if row.issuer_log_id == self._log_id:
                    yield _kept(row)

    def _within(self, keys: Collection[bytes], rows: int) -> set[bytes]:
        """Those of the keys that have no more than `MOST` rows each, and that many together."""
        sizes = self._sizes(keys)
        chosen: set[bytes] = set()
        for key in sorted(keys):
            if sizes[key] <= min(MOST, rows):
                rows -= sizes[key]
                chosen.add(key)
        return chosen

    def entry(self, tenant: Tenant, index: int) -> Kept:
        """The tenant's entry of that index, which is there."""
        its = claims.c.issuer_log_id == self._log_id, claims.c.tenant_id == tenant.id, claims.c.index == index
        return _kept(self._tx.execute(_ENTRIES.where(*its)).one())

    def _sizes(self, keys: Collection[bytes]) -> Counter[bytes]:
        sizes = Counter[bytes]()
        if keys:
            for key, number in self._tx.execute(_SIZES, {"keys": list(keys)}):
                sizes[bytes(key)] += number
        return sizes

    def _event(self, row: sa.Row[Any], *, judged: bool) -> Event:
        claim = claim_of(row.effect, row.event_data)
        source = self._sources[row.source_id]
        told = None
        if claim is not None:
            account = claim.account or source.naming.account
            names_log = source.issuer_log_id == self._log_id
            told = Told(
                id=row.id,
                claim=claim,
                account=account,
                # What is not judged says at most that something was announced: of whom it is need not be known.
                exclusive=(names_log and source.naming.exclusive) or (not judged and account is None),
                way=f"{row.source_id} {row.via}",
                received_at=parse_time(row.received_at),
            )
        keys = _keys(row.event_item_key, row.operation_key)
        return Event(row.id, told, check_of(row) if judged else None, keys)


def _grouped(events: Iterable[Event], entries: Iterable[Kept], left_out: Collection[bytes]) -> list[Related]:
    """Rows in groups that share no key with one another; not whole where one of their keys is among `left_out`.

    The groups are in the order of their first events, which is that in which these were recorded, and so are these.
    """
    leader: dict[bytes, bytes] = {}

    def find(key: bytes) -> bytes:
        while (above := leader.setdefault(key, key)) != key:
            leader[key] = leader[above]
            key = above
        return key

    events, entries = sorted(events, key=lambda event: event.id), sorted(entries, key=lambda kept: kept.index)
    for one in (*events, *entries):
        for key in one.keys[1:]:
            leader[find(key)] = find(one.keys[0])
    groups: dict[bytes, Related] = defaultdict(Related)
    for event in events:
        groups[find(event.keys[0])].events.append(event)
    for kept in entries:
        groups[find(kept.keys[0])].entries.append(kept)
    for key in left_out:
        groups[find(key)].whole = False
    return [group for group in groups.values() if group.events or group.entries]


# ---- rows -----------------------------------------------------------------------------------------------------------


def _source(row: sa.Row[Any]) -> Source:
    naming = Naming(
        source_id=row.id,
        tenant_id=row.tenant_id,
        provider=row.provider,
        account=row.account,
        exclusive=row.exclusive,
        grace=row.grace,
        follow_every=row.follow_every,
        starts_at=row.issuer_log_from,
    )
    return Source(naming, row.issuer_log_id, row.enabled)


def _kept(row: sa.Row[Any]) -> Kept:
    claim = claim_in(row.provider, row.entry)
    return Kept(
        index=row.place,
        provider=row.provider,
        said=None if claim is None else Entry(row.place, claim),
        entry=None if row.entry is None else bytes(row.entry),
        seen_at=row.seen_at,
        announced=row.announced,
        due_at=row.due_at,
        gap_id=row.gap_id,
        source_id=row.source_id,
        keys=_keys(row.item_key, row.operation_key),
    )


def _keys(item: bytes, operation: bytes | None) -> tuple[bytes, ...]:
    return (bytes(item),) if operation is None else (bytes(item), bytes(operation))


_KEYS: sa.BindParameter[Any] = sa.bindparam("keys", expanding=True)
_IN_GROUP = sa.and_(deliveries.c.group_key.in_(_KEYS), deliveries.c.item_key == deliveries.c.group_key)
_APART = sa.and_(deliveries.c.item_key.in_(_KEYS), deliveries.c.item_key != deliveries.c.group_key)
"""Either the item is the group, or it stands apart from it: each has its index (`receiver.records.tables`)."""

# By keys alone: they are one tenant's, and whatever else was asked for might be looked up in another index.
_SIZES: sa.CompoundSelect[bytes, int] = sa.union_all(
    *(
        sa.select(column, sa.func.count()).where(condition).group_by(column)
        for column, condition in (
            (deliveries.c.group_key, deliveries.c.group_key.in_(_KEYS)),
            (deliveries.c.item_key, _APART),
            (checks.c.operation_key, checks.c.operation_key.in_(_KEYS)),
            (claims.c.item_key, claims.c.item_key.in_(_KEYS)),
            (claims.c.operation_key, claims.c.operation_key.in_(_KEYS)),
        )
    )
)

_EVENTS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.id,
        deliveries.c.source_id,
        deliveries.c.via,
        deliveries.c.effect,
        deliveries.c.event_data,
        deliveries.c.received_at,
        deliveries.c.test,
        deliveries.c.item_key.label("event_item_key"),
        checks.c.event_id,
        checks.c.issuer_log_id,
        checks.c.operation_key,
        checks.c.state,
        checks.c.late,
        checks.c.issuer_index,
        checks.c.grace_over_at,
        checks.c.due_at,
        checks.c.looks,
        sources.c.provider,
    )
    .join_from(deliveries, sources, sources.c.id == deliveries.c.source_id)
    .outerjoin(checks, checks.c.event_id == deliveries.c.id)
    .where(deliveries.c.kind == Kind.REVOCATION.value, sa.or_(IS_CHECKED, deliveries.c.event_data.is_(None)))
)
_EVENTS_BY_GROUP = _EVENTS.where(_IN_GROUP)
_EVENTS_BY_ITEM = _EVENTS.where(_APART)
_EVENTS_BY_OPERATION = _EVENTS.where(checks.c.operation_key.in_(_KEYS))

_ENTRIES: sa.Select[*tuple[Any, ...]] = sa.select(
    claims.c.issuer_log_id,
    claims.c.index.label("place"),  # a row has a method of the column's name
    claims.c.provider,
    claims.c.item_key,
    claims.c.operation_key,
    claims.c.seen_at,
    claims.c.announced,
    claims.c.due_at,
    claims.c.gap_id,
    claims.c.source_id,
    claims.c.entry,
)
_ENTRIES_BY_ITEM = _ENTRIES.where(claims.c.item_key.in_(_KEYS))
_ENTRIES_BY_OPERATION = _ENTRIES.where(claims.c.operation_key.in_(_KEYS))
