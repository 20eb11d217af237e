"""A log's leaves, and the rows of `deliveries` beside them: each must say what the other says.

A leaf and its row are written in one transaction. The leaf is public and holds no more than facts and commitments; the
row holds what was committed to, and the columns that questions are answered from. Whatever an auditor is told from a
row must follow from the leaf, so everything in a row is compared with the leaf, opened against its commitments, or
derived again from what was opened.

A quarantined delivery that was read again has a row of `reprocessed` as well, and what was written for it then says so
in its leaf: these three must agree. What tells of a call that was passed on names that call's intent in its leaf, and
the intent has a row of `attempts`: these must agree with one another (`receiver.fsck.attempts`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.erasure.selecting import Extent
from receiver.events import Effect, Kind, Past, Via, may_be_one_account, parse_time
from receiver.fsck.attempts import (
    First,
    Intent,
    check_first,
    check_intent,
    check_telling,
    first_named,
    is_intent,
    item_of,
    read_firsts,
    read_intents,
)
from receiver.fsck.erasures import read_extents
from receiver.fsck.readings import DELIVERY, EVENT, call_told_of, came_by, facts_differ, read
from receiver.fsck.report import Notes
from receiver.fsck.told import Told
from receiver.providers import NotDone, Notice, Reading
from receiver.records import keyed
from receiver.records.tables import attempts, deliveries, reprocessed
from receiver.relay.entries import SCHEME
from translog.canonical import Value, decode
from translog.errors import FormatError
from translog.evidence import Delivery, Leaf
from translog.store import entries

KEPT_IN_ROWS = frozenset({Kind.REVOCATION, Kind.CONTEXT, Kind.MISMATCH, Kind.QUARANTINE, Kind.ATTEMPT})
_KINDS = frozenset(Kind)
_OF_CALLS = {"via": frozenset({Via.RELAY, Via.POLL}), "scheme": frozenset({SCHEME})}
# The columns that a row of this kind leaves empty.
_EMPTY = {
    Kind.REVOCATION: ("reason", "first_id"),
    Kind.CONTEXT: ("reason", "first_id"),
    Kind.MISMATCH: ("event", "effect", "reason", "breaches", "occurred_at", "item_key"),
    Kind.QUARANTINE: ("event", "effect", "first_id", "breaches", "occurred_at", "item_key"),
    Kind.ATTEMPT: ("breaches",),
}
_EMPTY_OF_INTENTS = ("effect", "reason", "first_id")


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
        self._intents: Mapping[str, Intent] = {}  # of the calls that this bundle, or a first of it, tells of
        self._firsts: Mapping[str, First] = {}  # what answers of this bundle name
        self._erased: Mapping[str, frozenset[Extent]] = {}  # what is said to be erased of this bundle's rows
        self._strange: set[str] = set()
        self._logged_at = ""  # of the last leaf that could be read
        self._last = -1

    def check(self, start: int, bundle: Sequence[bytes | None]) -> list[Leaf | None]:
        """Take the entries from `start` on, None where one is missing, with the rows that stand beside them.

        Gives their leaves, None where there is none that can be read.
        """
        rows = {row.log_index: row for row in self._rows(start, start + len(bundle))}
        self._erased = read_extents(self._tx, [row.id for row in rows.values()])
        parsed = [None if entry is None else _parse(entry) for entry in bundle]
        leaves = [leaf for leaf in parsed if isinstance(leaf, Leaf)]
        self._firsts = read_firsts(self._tx, {first for leaf in leaves if (first := first_named(leaf)) is not None})
        self._intents = read_intents(self._tx, _calls_told_of([*leaves, *(one.leaf for one in self._firsts.values())]))
        read_leaves: list[Leaf | None] = []
        for index, (entry, found) in enumerate(zip(bundle, parsed, strict=True), start):
            row = rows.get(index)
            leaf = None if found is None else self._leaf(index, found)
            read_leaves.append(leaf)
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
        return read_leaves

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
        of_attempt = [attempts.c.id.label("attempt_id"), attempts.c.key_id, attempts.c.idempotency]
        return self._tx.execute(
            sa.select(deliveries, *of_first, *of_quarantine, *of_attempt)
            .join_from(deliveries, first, first.c.id == deliveries.c.first_id, isouter=True)
            .join(reprocessed, reprocessed.c.row_id == deliveries.c.id, isouter=True)
            .join(quarantine, quarantine.c.id == reprocessed.c.quarantine_id, isouter=True)
            .join(
                entries,
                sa.and_(entries.c.log_id == quarantine.c.log_id, entries.c.index == quarantine.c.log_index),
                isouter=True,
            )
            .join(attempts, attempts.c.id == deliveries.c.id, isouter=True)
            .where(
                deliveries.c.log_id == self._log_id,
                deliveries.c.log_index >= start,
                deliveries.c.log_index < stop,
            )
        ).all()

    def _leaf(self, index: int, leaf: Leaf | FormatError) -> Leaf | None:
        if isinstance(leaf, FormatError):
            self._notes.fault(f"entry {index}", f"cannot be read: {leaf}")
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
        kind, call_id = Kind(leaf.kind), call_told_of(leaf)
        intent = None if call_id is None else self._intents.get(call_id)
        for name in (*_EMPTY[kind], *(_EMPTY_OF_INTENTS if is_intent(leaf) else ())):
            if getattr(row, name) is not None:
                yield f"{name} is given, which {_called(leaf)} has not"
        yield from _facts_differ(leaf, row, kind, None if source is None else source.provider)
        secret = leaf.facts.get("secret")
        if source is not None and isinstance(secret, str) and secret not in source.secrets | self._strange:
            self._strange.add(secret)  # all that it authenticated would say the same
            yield f"the entry's fact secret is {secret!a}, which is no secret of its source"
        erased = self._erased.get(row.id, frozenset())
        event_data, event_problem = EVENT.open(leaf.event, row, is_erased=Extent.ALL in erased)
        delivery_data, delivery_problem = DELIVERY.open(leaf.delivery, row, is_erased=bool(erased))
        yield from filter(None, (event_problem, delivery_problem))
        event = None if event_data is None else decode(event_data)
        if isinstance(event, dict) and row.occurred_at != event["occurred_at"]:
            yield f"occurred_at is {row.occurred_at!a}, the event's {event['occurred_at']!a}"
        delivery = None if delivery_data is None else Delivery.parse(delivery_data)
        reading = None
        if source is not None and delivery is not None and kind is not Kind.ATTEMPT:
            reading = read(source.provider, leaf, delivery, None if intent is None else intent.asked)
        yield from _came_differently(leaf, row, delivery, reading)
        notice = reading if isinstance(reading, Notice) and reading.via == row.via else None
        if source is not None and self._hash_key is not None:
            for name, expected in _keys(self._hash_key, source.provider, leaf, row, event, delivery, notice):
                kept = getattr(row, name)
                if kept is None or bytes(kept) != bytes(expected):
                    yield f"{name} is not what its delivery gives"
        if source is not None and event is not None and notice is not None and row.breaches is not None:
            yield from self._breaches_differ(source, row, notice)
        if (first := _first(leaf, row)) is not None and row.first_source_id != row.source_id:
            there = "is not there" if row.first_source_id is None else "is of another source"
            yield f"{first} {there}"
        if is_intent(leaf):
            yield from check_intent(leaf, row, self._hash_key, item_of(event), delivery)
        elif call_id is not None:
            yield from check_telling(leaf, row, intent)
            if intent is not None:
                yield from check_first(leaf, intent, *self._first_of(leaf), self._hash_key)

    def _first_of(self, leaf: Leaf) -> tuple[First | None, Intent | None]:
        """What an answer names that told of it already, and the call that this tells of."""
        first = self._firsts.get(first_named(leaf) or "")
        return first, None if first is None else self._intents.get(call_told_of(first.leaf) or "")

    def _breaches_differ(self, source: SourceOf, row: sa.Row[Any], notice: Notice) -> Iterator[str]:
        """What the rules say of an event, given the item's earlier ones. Its codes are facts, its sentences are not."""
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
                sa.or_(
                    columns.log_id < row.log_id,
                    sa.and_(columns.log_id == row.log_id, columns.log_index < row.log_index),
                ),
            )
            .order_by(columns.log_id, columns.log_index)
        )
        known = self._tx.execute(earlier).all()
        if any(one.event_data is None for one in known):
            return  # what the rules said then may have come of what is erased now
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
                for one in known
            ]
        except (ValueError, KeyError, TypeError):
            return  # an earlier event is damaged, which its own row tells
        provider, event = providers.get(source.provider), notice.event
        same = [one for one in past if may_be_one_account(one.account, event.account)]
        if provider.complete is not None:
            event = provider.complete(event, same)
        found = provider.check(event, parse_time(row.received_at), source.replay_window, same)
        sentences = [[breach.code, breach.message] for breach in found]
        # Where the codes differ an earlier event was changed: that is told with its own row.
        if _codes(row.breaches) == [code for code, _ in sentences] and json.loads(row.breaches) != sentences:
            yield f"breaches is {row.breaches!a}, the rules say {[message for _, message in sentences]!a}"


def _place(row_id: str, index: int) -> str:
    return f"row {row_id} (entry {index})"


def _first(leaf: Leaf, row: sa.Row[Any]) -> str | None:
    """What a row is that this one names as the first, if this is one that names it."""
    if leaf.kind == Kind.MISMATCH:
        return f"the event {row.first_id} that it differs from"
    if leaf.kind == Kind.ATTEMPT and row.first_id is not None and not is_intent(leaf):
        return f"the delivery {row.first_id} that told of it"
    return None


def _called(leaf: Leaf) -> str:
    """What a row of that leaf is called, by its article."""
    if leaf.kind == Kind.ATTEMPT:
        return "an intent" if is_intent(leaf) else "an answer"
    return f"a {leaf.kind}"


def _facts_differ(leaf: Leaf, row: sa.Row[Any], kind: Kind, provider: str | None) -> Iterator[str]:
    expected: dict[str, Value] = {"received_at": row.received_at, "source": row.source_id, "provider": provider}
    # What no column holds: how it was authenticated, and the call that it tells of. What is read again takes both from
    # the entry that was made when it came; else they are in this leaf alone.
    alone = leaf.facts if row.quarantine_id is None else _facts_of_quarantine(row)
    if kind is Kind.ATTEMPT:
        expected["event"] = row.event
        expected["test"] = row.test
        if is_intent(leaf):
            expected["key"] = row.key_id if row.attempt_id is not None else leaf.facts.get("key")
        else:
            expected["effect"] = row.effect
            expected["first"] = row.first_id
            expected["outcome"] = row.reason
            expected["status"] = leaf.facts.get("status")
    elif kind is Kind.QUARANTINE:
        expected["reason"] = row.reason
        expected["scheme"] = row.scheme
        expected["test"] = row.test
        expected["secret"] = alone.get("secret")
    elif kind is Kind.MISMATCH:
        expected["first"] = row.first_id
    else:
        expected["event"] = row.event
        expected["effect"] = row.effect
        expected["via"] = row.via
        expected["scheme"] = row.scheme
        expected["test"] = row.test
        expected["breaches"] = _codes(row.breaches)
        expected["secret"] = alone.get("secret")
    if "attempt" in alone:
        expected["attempt"] = alone["attempt"]
        if "secret" in expected:
            expected["secret"] = None
    if row.quarantine_id is not None or "reprocessed" in leaf.facts:
        expected["reprocessed"] = row.quarantine_id
    yield from facts_differ(leaf, expected, _called(leaf))


def _facts_of_quarantine(row: sa.Row[Any]) -> Mapping[str, Value]:
    """What was told of a delivery that was read again, when it came."""
    try:
        return Leaf.parse(bytes(row.quarantine_entry or b"")).facts
    except FormatError:  # which is told with that entry
        return {}


def _came_differently(
    leaf: Leaf, row: sa.Row[Any], delivery: Delivery | None, reading: Reading | NotDone | None
) -> Iterator[str]:
    """What is wrong with how a row says that it came. Where the entry says it, it was compared with that already."""
    said = {name: leaf.facts.get(name, getattr(row, name)) for name in _OF_CALLS}
    if leaf.kind != Kind.ATTEMPT and call_told_of(leaf) is None:
        wrong = [name for name, of_calls in _OF_CALLS.items() if said[name] in of_calls]
        yield from (f"{name} is {said[name]!a}, and the entry names no call that was passed on" for name in wrong)
        if leaf.kind == Kind.MISMATCH and not wrong and isinstance(reading, Notice) and reading.via != row.via:
            yield f"via is {row.via!a}, its delivery's {str(reading.via)!a}"
        return
    via = Via.RELAY if is_intent(leaf) else None if delivery is None else came_by(delivery)
    if via is not None and said["via"] != via:
        yield f"via is {said['via']!a}, its delivery's {str(via)!a}"
    if said["scheme"] != SCHEME:
        yield f"scheme is {said['scheme']!a}, of a call that was passed on it is {SCHEME!a}"


def _codes(breaches: str | None) -> Value:
    try:
        return [code for code, _ in json.loads(breaches or "[]")]
    except (ValueError, TypeError):
        return breaches


def _keys(
    hash_key: bytes,
    provider: str,
    leaf: Leaf,
    row: sa.Row[Any],
    event: Value,
    delivery: Delivery | None,
    notice: Notice | None,
) -> Iterator[tuple[str, bytes]]:
    """The keyed hashes of a row, by column, as far as they follow from what was opened."""
    item = item_of(event)
    item_key = None if item is None else keyed.item_key(hash_key, provider, item)
    if item_key is not None:
        yield "item_key", item_key
    alone = _alone(hash_key, leaf, row, delivery)
    if alone is not None:
        yield from ((name, alone) for name in ("group_key", "dedupe_key", "digest"))
    if leaf.kind in {Kind.QUARANTINE, Kind.ATTEMPT}:
        return
    if notice is not None:
        yield "digest", keyed.content_key(hash_key, notice.digest)
    if leaf.kind == Kind.MISMATCH:
        if row.first_source_id is not None:
            yield "group_key", bytes(row.first_group_key)
            yield "dedupe_key", keyed.mismatch_key(hash_key, bytes(row.first_dedupe_key), bytes(row.digest))
        return
    dedupe = bytes(row.dedupe_key)
    if notice is not None:
        dedupe = keyed.dedupe_key(hash_key, row.source_id, notice.via, notice.key)
        yield "dedupe_key", dedupe
    if item_key is not None:
        yield "group_key", dedupe if row.group_key == dedupe else item_key  # which of the two, the provider says


def _alone(hash_key: bytes, leaf: Leaf, row: sa.Row[Any], delivery: Delivery | None) -> bytes | None:
    """The one key that a row has where no other notice can share a part of it."""
    if leaf.kind == Kind.ATTEMPT:
        call_id = call_told_of(leaf)
        if call_id is None:
            return keyed.intent_key(hash_key, leaf.id)
        return keyed.answer_key(hash_key, call_id, str(leaf.facts.get("outcome")))
    if leaf.kind == Kind.QUARANTINE and delivery is not None:
        call_id = call_told_of(leaf)
        if call_id is not None:
            return keyed.unread_key(hash_key, call_id, delivery.body)
        return keyed.quarantine_key(hash_key, row.source_id, delivery.body)
    return None


def _parse(entry: bytes) -> Leaf | FormatError:
    try:
        return Leaf.parse(entry)
    except FormatError as error:
        return error


def _calls_told_of(leaves: Sequence[Leaf]) -> set[str]:
    calls = {call_told_of(leaf) for leaf in leaves}
    return {call_id for call_id in calls if call_id is not None}
