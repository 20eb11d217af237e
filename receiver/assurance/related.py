"""What has to be looked at together: events, and entries of one issuer's log, that share an item or an operation.

What is found of an event depends on the entries about it, and without operations on the other events about its item as
well; and those may lead to others again. So from what is due everything is read that hangs together with it: `Related`,
of which nothing else is needed to judge it (`Related.whole`).

Whoever may deliver, or log, can put any number of events or entries to one item. A transaction that holds the log's
lock must not take seconds for that, for deliveries wait for it. So an item, or operation, of which there are more than
`MOST` rows is a crowd: nothing is followed through it, and what is related by it is not whole. What is read of it for
those who are judged for themselves is read once in a transaction, and no more than that many rows.

What is kept under an item or operation is found by keyed hashes (`receiver.records.keyed`), here called keys: they are
of one tenant and one provider, and an item's are no operation's.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import sqlalchemy as sa

from receiver import providers
from receiver.assurance.claims import claim_in, claim_of
from receiver.assurance.conclusions import Check, check_of
from receiver.assurance.matching import Entry, Told
from receiver.events import CrossCheck, Effect, Kind, parse_time
from receiver.records.findings import IS_CHECKED
from receiver.records.issuer_logs import Naming, naming_of
from receiver.records.opening import Tenant
from receiver.records.tables import checks, claims, deliveries, sources

MOST = 256
"""Rows of one item or operation, events and entries together, that are looked at together; of both, twice as many."""

AT_ONCE = 1_000
"""Rows that are read, and that are judged, in one transaction, if there is more than one thing to judge in it."""

BLOCK = 4096
"""Bytes of entries that count as a row, where there are more of these than of rows."""

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
    effect: Effect
    """Which is known also of an erased one."""
    keys: tuple[bytes, ...]

    def may_tell_of(self, kept: "Kept") -> bool:
        """Whether it may tell of an entry, as far as can be seen where one of the two is erased.

        What names another operation tells of another act, unless one is what was begun, and the other that it is done.
        """
        (item, *operation), (its_item, *its_operation) = self.keys, kept.keys
        if operation and operation == its_operation:
            return True
        begun = self.effect.under_way or (kept.said is not None and kept.said.claim.effect.under_way)
        is_other_act = bool(operation) and bool(its_operation) and not begun
        return item == its_item and not is_other_act


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry that is kept, and what is known of it. `said` is None if it is erased, or cannot be read any more.

    Of one that is erased, and that nobody has told of, `source_id` is whose gap it may be, or of whose account it is.
    """

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


@dataclass(frozen=True, slots=True)
class Size:
    """How much is kept under a key, of all logs."""

    events: int = 0
    entries: int = 0
    octets: int = 0
    """Of the entries, if these are no more than `MOST`."""

    @property
    def rows(self) -> int:
        """As many as it counts for."""
        return max(self.events + self.entries, self.octets // BLOCK)

    @property
    def is_crowd(self) -> bool:
        """It is too much to be looked at together."""
        return self.rows > MOST


@dataclass(slots=True)
class Related:
    """What hangs together."""

    events: list[Event] = field(default_factory=list[Event])
    entries: list[Kept] = field(default_factory=list[Kept])
    whole: bool = True
    """Nothing else does."""

    @property
    def rows(self) -> int:
        """How many that are."""
        return len(self.events) + len(self.entries)

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
        self._sizes: dict[bytes, Size] = {}
        self._events_of: dict[bytes, tuple[list[Event], bool]] = {}
        self._entries_of: dict[bytes, tuple[list[Kept], bool]] = {}

    def affordable(self, due: Sequence[tuple[bytes, ...]]) -> int:
        """How many of these, which have those keys and come first, can be read in one transaction; one at least."""
        self._measure({key for keys in due for key in keys})
        counted: set[bytes] = set()
        rows = 0
        for number, keys in enumerate(due):
            rows += sum(min(self._sizes[key].rows, MOST + 1) for key in keys if key not in counted)
            if rows > AT_ONCE and number > 0:
                return number
            counted.update(keys)
        return len(due)

    def size(self, key: bytes) -> Size:
        """How much is kept under a key."""
        self._measure([key])
        return self._sizes[key]

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

    def events(self, keys: Collection[bytes]) -> Iterator[Event]:
        """The events with one of those keys.

        Those that are not to be judged by this log are among them by their item only, and no tests: they say nothing
        of what is real.
        """
        for query in _EVENTS_BY:
            yield from self._told(self._tx.execute(query, {"keys": list(keys)}))

    def events_of(self, key: bytes) -> tuple[list[Event], bool]:
        """The events with that key, and whether these are all; at most `MOST` are read. Read once."""
        if key not in self._events_of:
            rows: list[sa.Row[Any]] = []
            for query in _EVENTS_BY:
                rows += self._tx.execute(query.limit(MOST + 1 - len(rows)), {"keys": [key]})
            self._events_of[key] = list(self._told(rows[:MOST])), len(rows) <= MOST
        return self._events_of[key]

    def event(self, event_id: str) -> Event | None:
        """That event, if it is to be judged by this log."""
        row = self._tx.execute(_EVENTS.where(deliveries.c.id == event_id)).one_or_none()
        if row is None or row.issuer_log_id != self._log_id or row.state == CrossCheck.NONE:
            return None
        return self._event(row, judged=True)

    def entries(self, keys: Collection[bytes]) -> Iterator[Kept]:
        """The entries of the log with one of those keys."""
        for query in _ENTRIES_BY:
            for row in self._tx.execute(query, {"keys": list(keys)}):
                if row.issuer_log_id == self._log_id:
                    yield _kept(row)

    def entries_of(self, key: bytes) -> tuple[list[Kept], bool]:
        """The entries of the log with that key, and whether these are all: of too many none are read. Read once."""
        if key not in self._entries_of:
            size = self.size(key)
            is_all = Size(entries=size.entries, octets=size.octets).rows <= MOST
            self._entries_of[key] = list(self.entries([key])) if is_all else [], is_all
        return self._entries_of[key]

    def _within(self, keys: Collection[bytes], rows: int) -> set[bytes]:
        """Those of the keys that are no crowds, and have no more than that many rows together."""
        self._measure(keys)
        chosen: set[bytes] = set()
        for key in sorted(keys):
            size = self._sizes[key]
            if not size.is_crowd and size.rows <= rows:
                rows -= size.rows
                chosen.add(key)
        return chosen

    def entry(self, tenant: Tenant, index: int) -> Kept:
        """The tenant's entry of that index, which is there."""
        its = claims.c.issuer_log_id == self._log_id, claims.c.tenant_id == tenant.id, claims.c.index == index
        return _kept(self._tx.execute(_ENTRIES.where(*its)).one())

    def _measure(self, keys: Collection[bytes]) -> None:
        """Learn the sizes of these, where they are not known."""
        unknown = [key for key in keys if key not in self._sizes]
        if not unknown:
            return
        events, entries, octets = (Counter[bytes]() for _ in range(3))
        for counter, query in ((events, _EVENTS_COUNTED), (entries, _ENTRIES_COUNTED)):
            for key, number in self._tx.execute(query, {"keys": unknown}):
                counter[bytes(key)] += number
        if few := [key for key, number in entries.items() if number <= MOST]:
            for key, number in self._tx.execute(_ENTRIES_MEASURED, {"keys": few}):
                octets[bytes(key)] += number or 0  # nothing is left of what was erased
        self._sizes |= {key: Size(events[key], entries[key], octets[key]) for key in unknown}

    def _told(self, rows: Iterable[sa.Row[Any]]) -> Iterator[Event]:
        for row in rows:
            judged = row.issuer_log_id == self._log_id and row.state != CrossCheck.NONE
            if judged or not row.test:
                yield self._event(row, judged=judged)

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
                types=providers.get(row.provider).one_act,
            )
        keys = _keys(row.event_item_key, row.operation_key)
        return Event(row.id, told, check_of(row) if judged else None, Effect(row.effect), keys)


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
    for group in groups.values():
        group.whole &= group.rows <= 2 * MOST
    return [group for group in groups.values() if group.events or group.entries]


# ---- rows -----------------------------------------------------------------------------------------------------------


def _source(row: sa.Row[Any]) -> Source:
    return Source(naming_of(row), row.issuer_log_id, row.enabled)


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
_CountedBy: TypeAlias = tuple[sa.ColumnElement[Any], sa.ColumnElement[bool]]
_EVENTS_COUNTED_BY: tuple[_CountedBy, ...] = (
    (deliveries.c.group_key, deliveries.c.group_key.in_(_KEYS)),
    (deliveries.c.item_key, _APART),
    (checks.c.operation_key, checks.c.operation_key.in_(_KEYS)),
)
_ENTRIES_COUNTED_BY: tuple[_CountedBy, ...] = (
    (claims.c.item_key, claims.c.item_key.in_(_KEYS)),
    (claims.c.operation_key, claims.c.operation_key.in_(_KEYS)),
)


def _of_each(number: sa.ColumnElement[int], counted_by: Sequence[_CountedBy]) -> sa.CompoundSelect[bytes, int]:
    return sa.union_all(*(sa.select(key, number).where(condition).group_by(key) for key, condition in counted_by))


_EVENTS_COUNTED = _of_each(sa.func.count(), _EVENTS_COUNTED_BY)
_ENTRIES_COUNTED = _of_each(sa.func.count(), _ENTRIES_COUNTED_BY)
_ENTRIES_MEASURED = _of_each(sa.func.sum(sa.func.length(claims.c.entry)), _ENTRIES_COUNTED_BY)

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
    .where(
        deliveries.c.kind == Kind.REVOCATION.value,
        deliveries.c.effect != Effect.REFUSED.value,
        sa.or_(IS_CHECKED, deliveries.c.event_data.is_(None)),
    )
)
_EVENTS_BY = tuple(_EVENTS.where(one) for one in (_IN_GROUP, _APART, checks.c.operation_key.in_(_KEYS)))

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
_ENTRIES_BY = tuple(_ENTRIES.where(condition) for _, condition in _ENTRIES_COUNTED_BY)
