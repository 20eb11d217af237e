"""A log's leaves, and the rows of `deliveries` beside them: each must say what the other says.

A leaf and its row are written in one transaction. The leaf is public and holds no more than facts and commitments; the
row holds what was committed to, and the columns that questions are answered from. Whatever an auditor is told from a
row must follow from the leaf, so everything in a row is compared with the leaf, opened against its commitments, or
derived again from what was opened.

A quarantined delivery that was read again has a row of `reprocessed` as well, and what was written for it then says so
in its leaf: these three must agree.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.events import Effect, Item, Kind, Past, may_be_one_account, parse_time
from receiver.fsck.report import Notes
from receiver.fsck.told import Told
from receiver.providers import Ignored, Notice, Reading
from receiver.records import keyed
from receiver.records.tables import deliveries, reprocessed, sources
from receiver.strictjson import NotJson, parse
from translog.canonical import Value, decode
from translog.errors import FormatError
from translog.evidence import Delivery, Leaf, Opening
from translog.store import entries

KEPT_IN_ROWS = frozenset({Kind.REVOCATION, Kind.CONTEXT, Kind.MISMATCH, Kind.QUARANTINE})
_KINDS = frozenset(Kind)
_EVENTS = frozenset({Kind.REVOCATION, Kind.CONTEXT})
# What became of a delivery that was reprocessed, and the kinds of the row that may have been written for it.
_STATUSES = {
    "recorded": _EVENTS,
    "mismatch": {Kind.MISMATCH},
    "duplicate": frozenset[Kind](),
    "ignored": frozenset[Kind](),
}
# What a delivery that is read again takes from when it came.
_TAKEN_OVER = ("source_id", "scheme", "test", "received_at", "headers", "body")
# The columns that a row of this kind leaves empty.
_EMPTY = {
    Kind.REVOCATION: ("reason", "first_id"),
    Kind.CONTEXT: ("reason", "first_id"),
    Kind.MISMATCH: ("event", "effect", "reason", "breaches", "occurred_at", "item_key"),
    Kind.QUARANTINE: ("event", "effect", "first_id", "breaches", "occurred_at", "item_key"),
}


@dataclass(frozen=True, slots=True)
class SourceOf:
    """What a row takes from its source."""

    tenant_id: int
    provider: str
    replay_window: int
    """In seconds."""
    secrets: frozenset[str]
    """The ids of all it ever had."""


class Rows:
    """One log's leaves and rows. `check` takes its entries in order, a bundle at a time; `finish` ends it."""

    def __init__(
        self,
        tx: sa.Connection,
        log_id: int,
        tenant_id: int | None,
        hash_key: bytes | None,
        sources: Mapping[str, SourceOf],
        told: Told,
        notes: Notes,
    ) -> None:
        """Without the tenant's `hash_key` (32 bytes) the keyed hashes are not checked."""
        self._tx = tx
        self._log_id = log_id
        self._tenant_id = tenant_id
        self._hash_key = hash_key
        self._sources = sources
        self._told = told
        self._notes = notes
        self._strange: set[str] = set()
        self._logged_at = ""  # of the last leaf that could be read
        self._last = -1

    def check(self, start: int, bundle: Sequence[bytes | None]) -> None:
        """Take the entries from `start` on, None where one is missing, with the rows that stand beside them."""
        rows = {row.log_index: row for row in self._rows(start, start + len(bundle))}
        for index, entry in enumerate(bundle, start):
            row = rows.get(index)
            leaf = None if entry is None else self._leaf(index, entry)
            if row is not None:
                self._notes.draft.deliveries += 1
            if leaf is None:
                self._told.lose(self._tenant_id)
            else:
                self._told.hear(self._tenant_id, leaf)
            if entry is None:
                if row is not None:
                    self._notes.fault(_place(row.id, row.log_index), "has no entry")
            elif leaf is not None:
                self._pair(index, leaf, row)

    def finish(self, size: int, logged_at: str) -> None:
        """Name the rows beyond the log's `size`, and compare the last entry's time with the head's."""
        if self._last == size - 1 and logged_at != self._logged_at:
            self._notes.fault("head", f"is of {logged_at}, the last entry of {self._logged_at}")
        columns = deliveries.c
        beyond = sa.select(columns.id, columns.log_index).where(
            columns.log_id == self._log_id, sa.or_(columns.log_index < 0, columns.log_index >= size)
        )
        for row in self._tx.execute(beyond.order_by(columns.log_index)):
            self._notes.draft.deliveries += 1
            self._notes.fault(_place(row.id, row.log_index), "has no entry")

    def _rows(self, start: int, stop: int) -> Sequence[sa.Row[Any]]:
        first, quarantine = deliveries.alias(), deliveries.alias()
        of_first = [first.c[name].label(f"first_{name}") for name in ("source_id", "group_key", "dedupe_key")]
        of_quarantine = [reprocessed.c.quarantine_id, entries.c.data.label("quarantine_entry")]
        return self._tx.execute(
            sa.select(deliveries, *of_first, *of_quarantine)
            .join_from(deliveries, first, first.c.id == deliveries.c.first_id, isouter=True)
            .join(reprocessed, reprocessed.c.row_id == deliveries.c.id, isouter=True)
            .join(quarantine, quarantine.c.id == reprocessed.c.quarantine_id, isouter=True)
            .join(
                entries,
                sa.and_(entries.c.log_id == quarantine.c.log_id, entries.c.index == quarantine.c.log_index),
                isouter=True,
            )
            .where(
                deliveries.c.log_id == self._log_id,
                deliveries.c.log_index >= start,
                deliveries.c.log_index < stop,
            )
        ).all()

    def _leaf(self, index: int, entry: bytes) -> Leaf | None:
        try:
            leaf = Leaf.parse(entry)
        except FormatError as error:
            self._notes.fault(f"entry {index}", f"cannot be read: {error}")
            return None
        if leaf.logged_at < self._logged_at:
            self._notes.fault(
                f"entry {index}", f"was logged at {leaf.logged_at}, before the one before it ({self._logged_at})"
            )
        self._logged_at, self._last = leaf.logged_at, index
        if leaf.kind not in _KINDS:
            self._notes.fault(f"entry {index}", f"is of the kind {leaf.kind!a}, which this version does not know")
        return leaf

    def _pair(self, index: int, leaf: Leaf, row: sa.Row[Any] | None) -> None:
        if leaf.kind not in KEPT_IN_ROWS:
            if row is not None:
                self._notes.fault(_place(row.id, row.log_index), f"stands beside a {leaf.kind}, which has no row")
            return
        if row is None:
            self._notes.fault(f"entry {index}", f"is the {leaf.kind} {leaf.id}, which has no row")
            return
        for problem in self._differences(leaf, row):
            self._notes.fault(_place(row.id, row.log_index), problem)

    # ---- one leaf, one row ------------------------------------------------------------------------------------------

    def _differences(self, leaf: Leaf, row: sa.Row[Any]) -> Iterator[str]:
        for name, logged in (("id", leaf.id), ("kind", leaf.kind), ("logged_at", leaf.logged_at)):
            kept = getattr(row, name)
            if kept != logged:
                yield f"{name} is {kept!a}, the entry's {logged!a}"
        source = self._sources.get(row.source_id)
        if source is None:
            yield f"the source {row.source_id} is not there"
        elif source.tenant_id != self._tenant_id:
            yield f"the source {row.source_id} is another tenant's"
        if row.kind != leaf.kind:
            return
        kind = Kind(leaf.kind)
        for name in _EMPTY[kind]:
            if getattr(row, name) is not None:
                yield f"{name} is given, which a {kind} has not"
        yield from _facts_differ(leaf, row, kind, None if source is None else source.provider)
        secret = leaf.facts.get("secret")
        if source is not None and isinstance(secret, str) and secret not in source.secrets | self._strange:
            self._strange.add(secret)  # all that it authenticated would say the same
            yield f"the entry's fact secret is {secret!a}, which is no secret of its source"
        event_data, event_problem = _EVENT.open(leaf.event, row)
        delivery_data, delivery_problem = _DELIVERY.open(leaf.delivery, row)
        yield from filter(None, (event_problem, delivery_problem))
        event = None if event_data is None else decode(event_data)
        if isinstance(event, dict) and row.occurred_at != event["occurred_at"]:
            yield f"occurred_at is {row.occurred_at!a}, the event's {event['occurred_at']!a}"
        body = None if delivery_data is None else Delivery.parse(delivery_data).body
        if source is not None and self._hash_key is not None:
            for name, expected in _keys(self._hash_key, source.provider, kind, row, event, body):
                kept = getattr(row, name)
                if kept is None or bytes(kept) != bytes(expected):
                    yield f"{name} is not what its delivery gives"
        if source is not None and kind is Kind.MISMATCH and body is not None:
            reading = _reading(source.provider, body)
            if isinstance(reading, Notice) and reading.via != row.via:
                yield f"via is {row.via!a}, its delivery's {str(reading.via)!a}"
        if source is not None and event is not None and body is not None and row.breaches is not None:
            yield from self._breaches_differ(source, row, body)
        if kind is Kind.MISMATCH and row.first_source_id != row.source_id:
            there = "is not there" if row.first_source_id is None else "is of another source"
            yield f"the event {row.first_id} that it differs from {there}"

    def _breaches_differ(self, source: SourceOf, row: sa.Row[Any], body: bytes) -> Iterator[str]:
        """What the rules say of an event, given the item's earlier ones. Its codes are facts, its sentences are not."""
        notice = _read(source.provider, row.via, body)
        if notice is None:
            return
        columns = deliveries.c
        earlier = (
            sa.select(
                columns.kind,
                columns.event,
                columns.effect,
                columns.received_at,
                columns.log_index,
                columns.event_data,
            )
            .where(
                # By the group where it names the item, else by the item: each has its index.
                columns.group_key == row.group_key
                if row.group_key == row.item_key
                else columns.item_key == row.item_key,
                columns.kind.in_((Kind.REVOCATION, Kind.CONTEXT)),
                columns.test == row.test,
                columns.event_data.is_not(None),
                sa.or_(
                    columns.log_id < row.log_id,
                    sa.and_(columns.log_id == row.log_id, columns.log_index < row.log_index),
                ),
            )
            .order_by(columns.log_id, columns.log_index)
        )
        try:
            past = [
                Past.of(
                    Kind(one.kind),
                    one.event,
                    one.effect and Effect(one.effect),
                    parse_time(one.received_at),
                    one.log_index,
                    bytes(one.event_data),
                )
                for one in self._tx.execute(earlier)
            ]
        except (ValueError, KeyError, TypeError):
            return  # an earlier event is damaged, which its own row tells
        provider, event = providers.get(source.provider), notice.event
        same = [one for one in past if may_be_one_account(one.account, event.account)]
        if provider.complete is not None:
            event = provider.complete(event, same)
        found = provider.check(event, parse_time(row.received_at), source.replay_window, same)
        sentences = [[breach.code, breach.message] for breach in found]
        # Where the codes differ an earlier event was changed or erased: that is told with its own row.
        if _codes(row.breaches) == [code for code, _ in sentences] and json.loads(row.breaches) != sentences:
            yield f"breaches is {row.breaches!a}, the rules say {[message for _, message in sentences]!a}"


def _place(row_id: str, index: int) -> str:
    return f"row {row_id} (entry {index})"


def _facts_differ(leaf: Leaf, row: sa.Row[Any], kind: Kind, provider: str | None) -> Iterator[str]:
    expected: dict[str, Value] = {"received_at": row.received_at, "source": row.source_id, "provider": provider}
    if kind is Kind.QUARANTINE:
        expected["reason"] = row.reason
        expected["scheme"] = row.scheme
        expected["test"] = row.test
        expected["secret"] = leaf.facts.get("secret", "")  # in the leaf alone
    elif kind is Kind.MISMATCH:
        expected["first"] = row.first_id
    else:
        expected["event"] = row.event
        expected["effect"] = row.effect
        expected["via"] = row.via
        expected["scheme"] = row.scheme
        expected["test"] = row.test
        expected["breaches"] = _codes(row.breaches)
        # Else it is in the leaf alone.
        expected["secret"] = _authenticated_by(row) if row.quarantine_id else leaf.facts.get("secret", "")
    if row.quarantine_id is not None or "reprocessed" in leaf.facts:
        expected["reprocessed"] = row.quarantine_id
    for name in sorted(expected.keys() | leaf.facts.keys()):
        if name not in leaf.facts:
            yield f"the entry has no fact {name}"
        elif name not in expected:
            yield f"the entry has the fact {name}, which a {kind} has not"
        elif leaf.facts[name] != expected[name]:
            yield f"{name} is {expected[name]!a}, the entry's fact {leaf.facts[name]!a}"


def _authenticated_by(row: sa.Row[Any]) -> Value:
    """The secret of a delivery that was read again, as the entry tells that was made when it came."""
    try:
        return Leaf.parse(bytes(row.quarantine_entry or b"")).facts.get("secret")
    except FormatError:  # which is told with that entry
        return None


def _codes(breaches: str | None) -> Value:
    try:
        return [code for code, _ in json.loads(breaches or "[]")]
    except (ValueError, TypeError):
        return breaches


def _delivery_data(row: sa.Row[Any]) -> bytes:
    headers: list[tuple[str, str]] = [(name, value) for name, value in json.loads(row.headers)]
    return Delivery(tuple(headers), bytes(row.body)).encode()


@dataclass(frozen=True, slots=True)
class _Part:
    """What a leaf commits to under one label: the columns that hold it, salt last, and how they become the data."""

    label: str
    columns: tuple[str, ...]
    data: Callable[[sa.Row[Any]], bytes]

    def open(self, committed: str | None, row: sa.Row[Any]) -> tuple[bytes | None, str | None]:
        """The data, if it is what was committed to; else what is wrong with it, if something is."""
        missing = [name for name in self.columns if getattr(row, name) is None]
        if committed is None:
            given = len(missing) < len(self.columns)
            return None, f"the {self.label} is given, and the entry does not commit to it" if given else None
        if len(missing) == len(self.columns):
            return None, f"the {self.label} is erased, and no erasure entry names it"
        if missing:
            return None, f"the {self.label} cannot be opened without {' and '.join(missing)}"
        try:
            data = self.data(row)
            found = Opening(data, bytes(getattr(row, self.columns[-1]))).commitment(self.label)
        except (ValueError, TypeError) as error:
            return None, f"the {self.label} cannot be opened: {error}"
        if found != committed:
            return None, f"{', '.join(self.columns)} do not give the {self.label} that the entry commits to"
        return data, None


_EVENT = _Part("event", ("event_data", "event_salt"), lambda row: bytes(row.event_data))
_DELIVERY = _Part("delivery", ("headers", "body", "delivery_salt"), _delivery_data)


def _keys(
    hash_key: bytes,
    provider: str,
    kind: Kind,
    row: sa.Row[Any],
    event: Value,
    body: bytes | None,
) -> Iterator[tuple[str, bytes]]:
    """The keyed hashes of a row, by column, as far as they follow from what was opened."""
    notice = None if body is None else _read(provider, row.via, body)
    if kind is Kind.QUARANTINE:
        if body is not None:
            key = keyed.quarantine_key(hash_key, row.source_id, body)
            yield from (("group_key", key), ("dedupe_key", key), ("digest", key))
        return
    if notice is not None:
        yield "digest", keyed.content_key(hash_key, notice.digest)
    if kind is Kind.MISMATCH:
        if row.first_source_id is not None:
            yield "group_key", bytes(row.first_group_key)
            yield "dedupe_key", keyed.mismatch_key(hash_key, bytes(row.first_dedupe_key), bytes(row.digest))
        return
    dedupe = bytes(row.dedupe_key)
    if notice is not None:
        dedupe = keyed.dedupe_key(hash_key, row.source_id, notice.via, notice.key)
        yield "dedupe_key", dedupe
    match event:
        case {"item": {"type": str(item_type), "id": str(item_id)}}:
            item = keyed.item_key(hash_key, provider, Item(item_type, item_id))
            yield "item_key", item
            yield "group_key", dedupe if row.group_key == dedupe else item  # which of the two, the provider says
        case _:
            pass


def _read(provider: str, via: str, body: bytes) -> Notice | None:
    """The notice in a body, if its provider reads it as one that came this way."""
    reading = _reading(provider, body)
    return reading if isinstance(reading, Notice) and reading.via == via else None


def _reading(provider: str, body: bytes) -> Reading | None:
    try:
        return providers.get(provider).read(parse(body))
    except (NotJson, ValueError):
        return None


def check_reprocessed(tx: sa.Connection, notes: Notes) -> None:
    """That what is said to be reprocessed was in quarantine, and that what was written for it is the same delivery.

    That the leaf of what was written agrees is told with its row.
    """
    for done in tx.execute(sa.select(reprocessed).order_by(reprocessed.c.quarantine_id)):
        for problem in _reprocessing_differs(tx, done):
            notes.fault(f"reprocessed {done.quarantine_id}", problem)


def _reprocessing_differs(tx: sa.Connection, done: sa.Row[Any]) -> Iterator[str]:
    quarantine, written = (
        tx.execute(sa.select(deliveries).where(deliveries.c.id == id_)).one_or_none()
        for id_ in (done.quarantine_id, done.row_id)
    )
    if quarantine is None:
        yield "there is no such delivery"
    elif quarantine.kind != Kind.QUARANTINE:
        yield f"the delivery is a {quarantine.kind}, which is not read again"
    kinds = _STATUSES.get(done.status)
    if kinds is None:
        yield f"status is {done.status!a}, which this version does not know"
    elif done.row_id is None:
        if done.status == "recorded":
            yield "status is 'recorded', and no delivery was written for it"
    elif written is None:
        yield f"the delivery {done.row_id} that was written for it is not there"
    elif written.kind not in kinds:
        yield f"status is {done.status!a}, and a {written.kind} was written for it"
    elif done.at != written.logged_at:
        yield f"at is {done.at!a}, and what was written for it was logged at {written.logged_at!a}"
    if quarantine is not None and done.row_id is None and quarantine.body is not None:
        provider = tx.execute(sa.select(sources.c.provider).where(sources.c.id == quarantine.source_id)).scalar_one()
        expected = {"ignored": Ignored, "duplicate": Notice}.get(done.status)
        if expected is not None and not isinstance(_reading(provider, bytes(quarantine.body)), expected):
            yield f"status is {done.status!a}, and it is not read as that: reprocess it again"
    if quarantine is not None and written is not None:
        for name in _TAKEN_OVER:
            before, after = getattr(quarantine, name), getattr(written, name)
            if before is not None and after is not None and before != after:  # either may be erased
                yield f"{name} is not that of the delivery that was written for it"
