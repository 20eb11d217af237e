"""Calls that were passed on: their intents, the rows that tell what became of them, and the table `attempts`.

The table is what is asked about calls, and no entry holds it as it is. But all of it that tells something follows from
the entries: an intent's leaf says who called, the leaves with the fact `attempt` what became of that call, in their
order. The outcome is what was told first; but that a call was not done, or that its answer was not understood, is told
until there is more to tell. And that one was answered as another was, or is the same by its idempotency key, follows
from what both asked. Not checked is when a call is looked after next, how often it was, and which upstream it went to.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.documents import one_case
from receiver.events import Item, Kind, parse_time
from receiver.fsck.readings import DELIVERY, EVENT, Asked, call_told_of, leaf_of
from receiver.fsck.report import Notes
from receiver.providers import Operation
from receiver.records import keyed
from receiver.records.attempts import PATH, STATUS, Ended, asked, idempotency_key_of, request_json
from receiver.records.tables import attempts, deliveries
from translog.canonical import Value, decode
from translog.evidence import Delivery, Leaf
from translog.store import entries

_PAGE = 256

# What becomes of a call by the kind of the delivery that tells; one of its own kind says itself which it is.
_ENDED: dict[str, str] = {
    Kind.REVOCATION: Ended.RECORDED.value,
    Kind.CONTEXT: Ended.RECORDED.value,
    Kind.MISMATCH: Ended.MISMATCH.value,
    Kind.QUARANTINE: Ended.QUARANTINED.value,
}
_OPEN = frozenset({Ended.NOT_DONE.value, Ended.QUARANTINED.value})
# What the delivery says that an answer of this kind names as the first.
_FIRST: dict[str, frozenset[str]] = {
    Ended.DUPLICATE.value: frozenset({Ended.RECORDED.value, Ended.MISMATCH.value}),
    Ended.REPEATED.value: frozenset({Ended.RECORDED.value, Ended.MISMATCH.value, Ended.DUPLICATE.value}),
}


def is_intent(leaf: Leaf) -> bool:
    """Whether a leaf is of a call that is about to be passed on."""
    return leaf.kind == Kind.ATTEMPT and call_told_of(leaf) is None


def item_of(event: Value) -> Item | None:
    """What an event's own data, decoded, is about."""
    match event:
        case {"item": {"type": str(item_type), "id": str(item_id)}}:
            return Item(item_type, item_id)
        case _:
            return None


# ---- an intent ------------------------------------------------------------------------------------------------------


def check_intent(
    leaf: Leaf, row: sa.Row[Any], hash_key: bytes | None, item: Item | None, delivery: Delivery | None
) -> Iterator[str]:
    """What is wrong with an intent's row in `attempts`, as far as its own leaf and what was opened can tell.

    The key that it was made with is a fact, and compared as such.
    """
    if row.attempt_id is None:
        yield "it has no row in attempts"
        return
    operation = _operation(leaf)
    if operation is None or hash_key is None or item is None or delivery is None:
        return
    expected = _idempotency(hash_key, row.source_id, operation, item, delivery)
    if (None if row.idempotency is None else bytes(row.idempotency)) != expected:
        yield "idempotency is not what its delivery gives"


def _operation(leaf: Leaf) -> Operation | None:
    """What a call is of; None if this version does not know its provider."""
    try:
        return providers.get(str(leaf.facts.get("provider"))).operation
    except ValueError:
        return None


def _idempotency(hash_key: bytes, source_id: str, operation: Operation, item: Item, delivery: Delivery) -> bytes | None:
    """What a call that was sent so shares with those that are one with it; None if it has no idempotency key."""
    key = idempotency_key_of(operation, delivery.headers, delivery.body)
    if key is None:
        return None
    return keyed.idempotency_key(hash_key, source_id, item, key, request_json(delivery.body))


# ---- what tells of a call -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Intent:
    """What is kept under the id of a call, and what `attempts` has of it."""

    leaf: Leaf | None
    """None if its entry cannot be read, which is told with that."""
    asked: Asked | None
    """None if it is erased or damaged."""
    item: Item | None
    delivery: Delivery | None
    """The same."""
    row: sa.Row[Any]


def _entry_of(rows: sa.FromClause, of_entry: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(of_entry.c.log_id == rows.c.log_id, of_entry.c.index == rows.c.log_index)


_outcomes = deliveries.alias("outcomes")
_entries_of_outcomes = entries.alias("entries_of_outcomes")

_INTENTS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.id,
        deliveries.c.log_id,
        deliveries.c.log_index,
        deliveries.c.headers,
        deliveries.c.body,
        deliveries.c.delivery_salt,
        deliveries.c.event_data,
        deliveries.c.event_salt,
        entries.c.data.label("entry"),
        attempts.c.id.label("attempt_id"),
        attempts.c.outcome,
        _outcomes.c.id.label("outcome_id"),
        _outcomes.c.log_id.label("outcome_log_id"),
        _outcomes.c.log_index.label("outcome_log_index"),
        _outcomes.c.kind.label("outcome_kind"),
        _outcomes.c.reason.label("outcome_reason"),
    )
    .join_from(deliveries, entries, _entry_of(deliveries, entries), isouter=True)
    .join(attempts, attempts.c.id == deliveries.c.id, isouter=True)
    .join(_outcomes, _outcomes.c.id == attempts.c.outcome_id, isouter=True)
    .where(deliveries.c.id.in_(sa.bindparam("ids", expanding=True)))
)


def read_intents(tx: sa.Connection, ids: Iterable[str]) -> dict[str, Intent]:
    """What is kept under these ids of calls, by id."""
    wanted = list(ids)
    rows = tx.execute(_INTENTS, {"ids": wanted}).all() if wanted else ()
    found: dict[str, Intent] = {}
    for row in rows:
        leaf = leaf_of(row.entry)
        if leaf is None:
            found[row.id] = Intent(None, None, None, None, row)
            continue
        data, _ = DELIVERY.open(leaf.delivery, row)
        delivery = None if data is None else Delivery.parse(data)
        found[row.id] = Intent(leaf, None if delivery is None else _asked(leaf, row), _item(leaf, row), delivery, row)
    return found


def _item(leaf: Leaf, row: sa.Row[Any]) -> Item | None:
    """What the event is about that a leaf commits to; None if there is none, or it is erased or damaged."""
    data, _ = EVENT.open(leaf.event, row)
    return None if data is None else item_of(decode(data))


def _asked(leaf: Leaf, row: sa.Row[Any]) -> Asked | None:
    operation = _operation(leaf)
    if operation is None:
        return None
    try:
        called_at = parse_time(str(leaf.facts.get("received_at")))
    except ValueError:
        return None
    return Asked(*asked(operation, row.headers, bytes(row.body)), called_at)


def check_telling(leaf: Leaf, row: sa.Row[Any], intent: Intent | None) -> Iterator[str]:
    """What is wrong with a delivery that tells what became of a call: with what it names, and what the call's row says.

    `intent` is what is kept under the id that its leaf names.
    """
    call_id = call_told_of(leaf)
    if intent is None:
        yield f"the call {call_id} that it tells of is not there"
        return
    if intent.leaf is None:
        return
    place, of_intent = (row.log_id, row.log_index), (intent.row.log_id, intent.row.log_index)
    if not is_intent(intent.leaf):
        yield f"it tells of {call_id}, which is no call"
    elif intent.leaf.facts.get("source") != leaf.facts.get("source"):
        yield f"the call {call_id} that it tells of is another source's"
    elif of_intent >= place:
        yield f"the call {call_id} that it tells of was logged after it"
    elif intent.row.attempt_id is not None:
        if intent.row.outcome is None:
            yield f"it tells of the call {call_id}, which has no outcome in attempts"
        elif intent.row.outcome_id not in {None, leaf.id}:
            of_outcome = (intent.row.outcome_log_id, intent.row.outcome_log_index)
            before = _ended(leaf) if place < of_outcome else _ended_by(intent.row)
            if (before in _OPEN) != (place < of_outcome):
                yield f"it tells what became of the call {call_id}, in attempts that is {intent.row.outcome_id}"


def _ended(leaf: Leaf) -> str | None:
    """What a leaf says that became of the call it tells of."""
    if leaf.kind != Kind.ATTEMPT:
        return _ENDED.get(leaf.kind)
    outcome = leaf.facts.get("outcome")
    return outcome if isinstance(outcome, str) else None


def _ended_by(row: sa.Row[Any]) -> str | None:
    return row.outcome_reason if row.outcome_kind == Kind.ATTEMPT else _ENDED.get(row.outcome_kind)


# ---- what told of it already ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class First:
    """What is kept under an id that an answer names: the delivery that told of the act already."""

    leaf: Leaf
    item: Item | None
    """Of its event; None if it is none, or is erased or damaged."""


_FIRSTS: sa.Select[*tuple[Any, ...]] = (
    sa.select(deliveries.c.id, deliveries.c.event_data, deliveries.c.event_salt, entries.c.data.label("entry"))
    .join_from(deliveries, entries, _entry_of(deliveries, entries))
    .where(deliveries.c.id.in_(sa.bindparam("ids", expanding=True)))
)


def first_named(leaf: Leaf) -> str | None:
    """The id of the delivery that an answer names as the first; None if it names none."""
    first = leaf.facts.get("first") if leaf.kind == Kind.ATTEMPT else None
    return first if isinstance(first, str) else None


def read_firsts(tx: sa.Connection, ids: Iterable[str]) -> dict[str, First]:
    """What is kept under these ids, by id; what cannot be read, which is told with its entry, is left out."""
    wanted = list(ids)
    rows = tx.execute(_FIRSTS, {"ids": wanted}).all() if wanted else ()
    leaves = ((row, leaf_of(row.entry)) for row in rows)
    return {row.id: First(leaf, _item(leaf, row)) for row, leaf in leaves if leaf is not None}


def check_first(
    leaf: Leaf, intent: Intent, first: First | None, of_first: Intent | None, hash_key: bytes | None
) -> Iterator[str]:
    """What is wrong with an answer that says that the act was told of already: that one was told of, and the same.

    `intent` is of its own call, `of_first` of the call that the first tells of. That the first is there, and of the
    same source, is told with the answer's row.
    """
    may_say, first_id = _FIRST.get(_ended(leaf) or ""), first_named(leaf)
    if leaf.kind != Kind.ATTEMPT or may_say is None:
        return
    if first_id is None:
        yield "it names no delivery that told of the act already"
    elif first is not None and (call_told_of(first.leaf) is None or _ended(first.leaf) not in may_say):
        yield f"the delivery {first_id} that told of it tells of no act that a call came to"
    elif first is not None and _ended(leaf) == Ended.DUPLICATE:
        item = first.item if of_first is None or first.item is not None else of_first.item
        if item is not None and intent.item is not None and not _same_item(item, intent.item):
            yield f"the delivery {first_id} that told of it is about another item"
    elif of_first is not None and _is_repeated(intent, of_first, hash_key) is False:
        yield f"the call {of_first.row.id} that {first_id} tells of is another one by its idempotency key"


def _same_item(one: Item, other: Item) -> bool:
    return (one.type, one_case(one.id)) == (other.type, one_case(other.id))


def _is_repeated(intent: Intent, other: Intent, hash_key: bytes | None) -> bool | None:
    """Whether two calls are one by what they sent; None if that cannot be said."""
    if intent.row.id == other.row.id:
        return False
    keys: list[bytes | None] = []
    for one in (intent, other):
        operation = None if one.leaf is None else _operation(one.leaf)
        if one.leaf is None or operation is None or hash_key is None or one.item is None or one.delivery is None:
            return None
        keys.append(_idempotency(hash_key, str(one.leaf.facts.get("source")), operation, one.item, one.delivery))
    return keys[0] is not None and keys[0] == keys[1]


# ---- the table ------------------------------------------------------------------------------------------------------

_ROWS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        attempts,
        deliveries.c.kind.label("intent_kind"),
        entries.c.data.label("intent_entry"),
        _outcomes.c.id.label("told_id"),
        _outcomes.c.headers,
        _entries_of_outcomes.c.data.label("told_entry"),
    )
    .join_from(attempts, deliveries, deliveries.c.id == attempts.c.id, isouter=True)
    .join(entries, _entry_of(deliveries, entries), isouter=True)
    .join(_outcomes, _outcomes.c.id == attempts.c.outcome_id, isouter=True)
    .join(_entries_of_outcomes, _entry_of(_outcomes, _entries_of_outcomes), isouter=True)
    .where(attempts.c.id > sa.bindparam("after"))
    .order_by(attempts.c.id)
    .limit(_PAGE)
)


def check_attempts(tx: sa.Connection, notes: Notes) -> None:
    """That every row is a call's, and has the outcome that a delivery tells.

    That every call has its row, and the key that it was made with, is told with the intent's; that what tells of a call
    is its outcome there, with what tells.
    """
    after = ""
    while rows := tx.execute(_ROWS, {"after": after}).all():
        for row in rows:
            for problem in (*_not_the_intents(row), *_not_the_outcomes(row)):
                notes.fault(f"attempt {row.id}", problem)
        after = rows[-1].id


def _not_the_intents(row: sa.Row[Any]) -> Iterator[str]:
    leaf = leaf_of(row.intent_entry)
    if row.intent_kind is None:
        yield "there is no such delivery"
    elif leaf is not None and not is_intent(leaf):
        yield f"the {leaf.kind} of this id is no call's intent"
    elif leaf is not None and row.source_id != leaf.facts.get("source"):
        yield f"source_id is {row.source_id!a}, its intent's {leaf.facts.get('source')!a}"


def _not_the_outcomes(row: sa.Row[Any]) -> Iterator[str]:
    if row.outcome is None:
        for name in ("outcome_id", "status", "ended_at"):
            if getattr(row, name) is not None:
                yield f"{name} is given, and there is no outcome"
        return
    if row.told_id is None:
        yield f"the delivery {row.outcome_id} that tells its outcome is not there"
        return
    leaf = leaf_of(row.told_entry)
    if leaf is None:
        return
    if call_told_of(leaf) != row.id:
        yield f"the delivery {row.outcome_id} that tells its outcome tells nothing of it"
        return
    told: list[tuple[str, Value]] = [("outcome", _ended(leaf)), ("ended_at", leaf.logged_at), *_status(leaf, row)]
    for name, value in told:
        kept = getattr(row, name)
        if kept != value:
            yield f"{name} is {kept!a}, and {row.outcome_id} tells {value!a}"


def _status(leaf: Leaf, row: sa.Row[Any]) -> Iterator[tuple[str, Value]]:
    """The status of the answer, if that can be told: an erased one's cannot, and what was looked up later is none."""
    if leaf.kind == Kind.ATTEMPT:
        yield "status", leaf.facts.get("status")
        return
    try:
        headers: dict[str, Any] = dict(json.loads(row.headers))
        yield "status", None if PATH in headers else int(headers[STATUS])
    except (ValueError, TypeError, KeyError):
        return
