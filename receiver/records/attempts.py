"""Calls that were passed on to a provider, and what became of each.

A call has an *intent*: a delivery of the kind `attempt`, durable before the provider is called. What the provider
answered is an event, or else an *answer*: a delivery of the same kind that says why there is none. Either way the row
of `attempts` names it, and is written in the same transaction. So after a crash at any line a call has an intent, and
an outcome or none: then nobody knows yet what became of it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from msgspec import Struct

from receiver.events import Item, Kind, format_time, parse_time
from receiver.providers import Operation, Provider
from receiver.records import keyed
from receiver.records.keeping import erased
from receiver.records.tables import attempts, deliveries
from receiver.strictjson import Json, NotJson, parse
from translog.errors import FormatError
from translog.evidence import Delivery, Leaf, Opening
from translog.store import entries

METHOD, PATH, STATUS = ":method", ":path", ":status"
"""Under these names a request's line and an answer's status are kept among the headers (RFC 9113 section 8.3)."""

FOLLOW_AFTER = timedelta(seconds=1)
"""How soon it is looked what has become of what is under way."""

DOUBT_AFTER = timedelta(minutes=15)
"""How soon a call is looked at again that had no effect by the provider's record: a clock may have been set, or the
record may be of a replica that lags behind."""

MAX_IDEMPOTENCY_KEY = 1024
"""Characters of an idempotency key, all printable ASCII. The relay takes nothing else for one."""


class Ended(StrEnum):
    """What became of a call. `NOT_DONE` and `QUARANTINED` give way to whatever is known later; the others stay."""

    RECORDED = "recorded"
    """An event tells of it."""
    DUPLICATE = "duplicate"
    """It was answered as an earlier call was: what told of that one tells of both."""
    MISMATCH = "mismatch"
    QUARANTINED = "quarantined"
    """The answer was a success, but not as it is documented."""
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    """Nothing of it has reached the provider."""
    REPEATED = "repeated"
    """It was made again under the same idempotency key, and what became of that is what became of it."""
    NOT_DONE = "not_done"
    """By the provider's own record it had no effect."""


_ALL = "all"
"""The extent of an erasure that takes the event as well (`receiver.records.keeping.erased`)."""

_GIVE_WAY = (Ended.NOT_DONE.value, Ended.QUARANTINED.value)


class Attempt(Struct, frozen=True):
    """A call that was passed on, as far as what is recorded of it needs to know."""

    id: str
    """Of its intent."""
    key_id: str
    """Of the API key that it was made with."""
    item: Item
    """What it is about."""
    path: Mapping[str, str]
    """The parameters in its path."""
    request: dict[str, Json]
    """The JSON it sent; empty if that was none."""
    called_at: datetime
    idempotency: bytes | None
    """`receiver.records.keyed.idempotency_key`; None if it had none."""
    upstream: str
    """The base URL that it goes to."""
    settle_at: datetime
    """Until then it may be under way, whatever is found elsewhere."""
    ended: Ended | None = None
    """Of an answer that is no event: what it says. Of an intent and of an event None."""
    first_id: str | None = None
    """Of such an answer: the delivery that told of the act already."""
    status: int | None = None
    """Of the upstream's answer, if there was one."""
    is_whole: bool = True
    """Whether what it asked is kept. Else that is erased, `path` and `request` are empty, and no answer can be read."""


def begin(tx: sa.Connection, source_id: str, attempt: Attempt) -> None:
    """Keep a new call, whose intent has its row."""
    tx.execute(
        sa.insert(attempts).values(
            id=attempt.id,
            source_id=source_id,
            key_id=attempt.key_id,
            upstream=attempt.upstream,
            settle_at=format_time(attempt.settle_at),
            idempotency=attempt.idempotency,
            next_at=format_time(attempt.settle_at),
            looks=0,
        )
    )


def end(tx: sa.Connection, attempt: Attempt, ended: Ended, outcome_id: str, now: str, *, follow: bool) -> None:
    """Note what became of a call: the delivery of that id tells of it. With `follow` it is asked after again.

    What was known before stays, unless it may give way; so one that was not done is asked after again as well. Calls of
    unknown outcome with the same idempotency key are looked at now: this one may have told what became of them.
    """
    columns = attempts.c
    this = sa.update(attempts).where(columns.id == attempt.id)
    after = FOLLOW_AFTER if follow else DOUBT_AFTER if ended is Ended.NOT_DONE else None
    looking = {"next_at": None if after is None else format_time(parse_time(now) + after), "looks": 0}
    if ended is Ended.RECORDED:  # what was followed may have ended with this event
        tx.execute(this.values(**looking))
    may_change = sa.or_(columns.outcome.is_(None), columns.outcome.in_(_GIVE_WAY))
    values = {"outcome": ended.value, "outcome_id": outcome_id, "status": attempt.status, "ended_at": now}
    tx.execute(this.where(may_change).values(**values, **looking))
    if attempt.idempotency is not None and ended in {Ended.RECORDED, Ended.DUPLICATE, Ended.MISMATCH}:
        others = sa.update(attempts).where(columns.idempotency == attempt.idempotency, columns.outcome.is_(None))
        tx.execute(others.values(next_at=now))


def ended(tx: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Those of the calls that have an outcome which does not give way."""
    wanted = list(ids)
    if not wanted:
        return set()
    query = sa.select(attempts.c.id).where(attempts.c.id.in_(wanted), attempts.c.outcome.not_in(_GIVE_WAY))
    return set(tx.execute(query).scalars())


def open_among(tx: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Those of the deliveries that are calls which are looked at yet, or of unknown outcome; and what tells of these.

    What such a call asked is needed for whatever will tell what became of it.
    """
    columns = attempts.c
    open_now = sa.or_(columns.outcome.is_(None), columns.next_at.is_not(None))
    return {
        its_id
        for column in (columns.id, columns.outcome_id)
        for its_id in tx.execute(sa.select(column).where(column.in_(ids), open_now)).scalars()
    }


_ATTEMPT: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.id,
        deliveries.c.headers,
        deliveries.c.body,
        deliveries.c.event_data,
        deliveries.c.event_salt,
        deliveries.c.delivery_salt,
        deliveries.c.received_at,
        entries.c.data.label("entry"),
        attempts.c.key_id,
        attempts.c.idempotency,
        attempts.c.upstream,
        attempts.c.settle_at,
    )
    .join_from(deliveries, attempts, attempts.c.id == deliveries.c.id)
    .join(entries, sa.and_(entries.c.log_id == deliveries.c.log_id, entries.c.index == deliveries.c.log_index))
    .where(deliveries.c.id == sa.bindparam("id"), deliveries.c.kind == Kind.ATTEMPT.value)
)


def load_attempt(tx: sa.Connection, provider: Provider, intent_id: str) -> Attempt | None:
    """A call by the id of its intent; None if there is none, it is erased, or it is not what was logged.

    Of one whose body alone is erased there is the rest: it is not whole.
    """
    row = _load(tx, intent_id)
    if row is None:
        return None
    path, request = ({}, {}) if row.body is None else asked(provider.operation, row.headers, bytes(row.body))
    return Attempt(
        id=row.id,
        key_id=row.key_id,
        item=_item(row),
        path=path,
        request=request,
        called_at=parse_time(row.received_at),
        idempotency=None if row.idempotency is None else bytes(row.idempotency),
        upstream=row.upstream,
        settle_at=parse_time(row.settle_at),
        is_whole=row.body is not None,
    )


def is_erased(tx: sa.Connection, intent_id: str) -> bool:
    """Whether all of a call is erased, not its body alone, so that nothing is to be kept of it any more."""
    its = sa.select(erased.c.entry_id).where(erased.c.entry_id == intent_id, erased.c.extent == _ALL)
    return tx.execute(its).first() is not None


def load_idempotency(
    tx: sa.Connection, provider: Provider, hash_key: bytes, source_id: str, intent_id: str
) -> bytes | None:
    """What `Attempt.idempotency` is of a call, from the request that is kept, whatever its row in `attempts` says.

    None if it had no idempotency key, if its body is erased, or if `load_attempt` gives none.
    """
    row = _load(tx, intent_id)
    if row is None or row.body is None:
        return None
    body = bytes(row.body)
    key = idempotency_key_of(provider.operation, json.loads(row.headers), body)
    return None if key is None else keyed.idempotency_key(hash_key, source_id, _item(row), key, request_json(body))


def _load(tx: sa.Connection, intent_id: str) -> sa.Row[Any] | None:
    row = tx.execute(_ATTEMPT, {"id": intent_id}).one_or_none()
    return None if row is None or not _is_as_logged(row) else row


def _item(row: sa.Row[Any]) -> Item:
    item: dict[str, str] = json.loads(row.event_data)["item"]
    return Item(item["type"], item["id"])


def _is_as_logged(row: sa.Row[Any]) -> bool:
    """Whether an intent's row opens its leaf: evidence is made of it, and rows can be changed.

    That of one whose body is erased opens the event alone.
    """
    of_delivery = (row.headers, row.body, row.delivery_salt)
    is_whole = None not in of_delivery
    if None in (row.event_data, row.event_salt) or not (is_whole or set(of_delivery) == {None}):
        return False
    try:
        leaf = Leaf.parse(bytes(row.entry))
        delivery = leaf.delivery
        if is_whole:
            headers = tuple((name, value) for name, value in json.loads(row.headers))
            request = Delivery(headers, bytes(row.body)).encode()
            delivery = Opening(request, bytes(row.delivery_salt)).commitment("delivery")
        event = Opening(bytes(row.event_data), bytes(row.event_salt)).commitment("event")
    except (FormatError, ValueError, TypeError):
        return False
    told = (leaf.id, leaf.event, leaf.delivery, leaf.facts.get("key"), leaf.facts.get("received_at"))
    return told == (row.id, event, delivery, row.key_id, row.received_at)


def asked(operation: Operation, headers: str, body: bytes) -> tuple[dict[str, str], dict[str, Json]]:
    """What a call asked, by its intent's row: the parameters in its path, and its JSON, empty if it had none."""
    kept: dict[str, Any] = dict(json.loads(headers))
    names, values = operation.path.split("/"), str(kept.get(PATH, "")).split("/")
    path = {name[1:-1]: unquote(value) for name, value in zip(names, values, strict=False) if name.startswith("{")}
    return path, request_json(body)


def idempotency_key_of(operation: Operation, headers: Iterable[tuple[str, str]], body: bytes) -> str | None:
    """The idempotency key that a call was made with, by what is kept of its request; None if it had none.

    What is in its place and is none (too long, not printable ASCII, empty) the relay did not take for one either.
    """
    key: object = None
    if operation.idempotency_header is not None:
        key = dict(headers).get(operation.idempotency_header.lower())
    elif operation.idempotency_member is not None:
        key = request_json(body).get(operation.idempotency_member)
    if isinstance(key, str) and 0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable():
        return key
    return None


def request_json(body: bytes) -> dict[str, Json]:
    """The JSON object that a request's body is; empty if it is none."""
    try:
        return parse(body)
    except NotJson:
        return {}
