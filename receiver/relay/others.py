"""What else is known that tells of a call, or tells that an act is not its own: other calls, and the item's events.

A provider's record shows what was done to an item, and seldom by which call. So before an act is taken for a call's it
is held against what is known of the item:

    told of before the call was made         the act is not the call's
    the answer to another call               the act is that one's
    found in a record, for another call      it is that one's or this one's: nobody can tell

Rows of the database can be changed; what tells of another call is derived from what was logged.
"""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver.documents import one_case
from receiver.events import Kind, Via
from receiver.records.attempts import Attempt, Ended, load_idempotency
from receiver.records.keyed import item_key
from receiver.records.tables import attempts, deliveries
from receiver.relay.entries import Party

_TOLD = (Ended.RECORDED.value, Ended.DUPLICATE.value, Ended.MISMATCH.value)


@dataclass(frozen=True, slots=True)
class Acts:
    """Acts on a call's item that events tell of, as `Event.operation` names them, in one case."""

    of_others: frozenset[str]
    """They cannot be the call's."""
    in_doubt: frozenset[str]
    """They were found for other calls, and may be the call's all the same."""


def acts_beside(tx: sa.Connection, party: Party, attempt: Attempt) -> Acts:
    """The acts on a call's item that others than it have told of.

    Those are the item's events in the tenant, by whatever way and from whichever source; tests and others apart. What
    came by itself after the call was made may be the call's, and is in neither set.
    """
    key = item_key(party.tenant.hash_key, party.provider.name, attempt.item)
    of_others: set[str] = set()
    in_doubt: set[str] = set()
    for row in tx.execute(_EVENTS, {"key": key, "id": attempt.id}):
        operation: str | None = json.loads(row.event_data)["operation"]
        if operation is None:
            continue
        if row.before or (row.via == Via.RELAY and row.upstream == attempt.upstream):
            of_others.add(one_case(operation))
        elif row.via in {Via.RELAY, Via.POLL}:
            in_doubt.add(one_case(operation))
    return Acts(frozenset(of_others), frozenset(in_doubt))


def told_by_another(tx: sa.Connection, party: Party, attempt: Attempt) -> str | None:
    """The delivery that tells of another call with the same idempotency key, if one was answered as done.

    Both keys are those of the requests that were logged. At another upstream a key is another one.
    """

    def derived(call_id: str) -> bytes | None:
        return load_idempotency(tx, party.provider, party.tenant.hash_key, party.source.id, call_id)

    mine = derived(attempt.id)
    if mine is None:
        return None
    its = {"key": mine, "id": attempt.id, "source": party.source.id, "upstream": attempt.upstream}
    rows = tx.execute(_REPEATED, its).all()
    return next((row.outcome_id for row in rows if derived(row.id) == mine), None)


_intents = deliveries.alias("intents")

# An item is the group of its events, or stands apart from it. A tenant that had to begin its log anew has several.
_EVENTS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.via,
        deliveries.c.event_data,
        sa.or_(
            deliveries.c.log_id < _intents.c.log_id,
            sa.and_(deliveries.c.log_id == _intents.c.log_id, deliveries.c.log_index < _intents.c.log_index),
        ).label("before"),
        attempts.c.upstream,
    )
    .join_from(deliveries, _intents, _intents.c.id == sa.bindparam("id"))
    .join(attempts, attempts.c.outcome_id == deliveries.c.id, isouter=True)
    .where(
        sa.or_(
            sa.and_(deliveries.c.group_key == sa.bindparam("key"), deliveries.c.item_key == deliveries.c.group_key),
            sa.and_(deliveries.c.item_key == sa.bindparam("key"), deliveries.c.item_key != deliveries.c.group_key),
        ),
        deliveries.c.kind.in_((Kind.REVOCATION.value, Kind.CONTEXT.value)),
        deliveries.c.test == _intents.c.test,
        deliveries.c.event_data.is_not(None),
        sa.or_(attempts.c.id.is_(None), attempts.c.id != sa.bindparam("id")),
    )
)

_REPEATED: sa.Select[*tuple[Any, ...]] = (
    sa.select(attempts.c.id, attempts.c.outcome_id)
    .where(
        attempts.c.idempotency == sa.bindparam("key"),
        attempts.c.id != sa.bindparam("id"),
        attempts.c.source_id == sa.bindparam("source"),
        attempts.c.upstream == sa.bindparam("upstream"),
        attempts.c.outcome.in_(_TOLD),
    )
    .order_by(attempts.c.ended_at)
)
