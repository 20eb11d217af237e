"""What is passed on of an entry, and how it is signed.

A message is what Standard Webhooks (spec/standard-webhooks.md) calls one: JSON with `type`, `timestamp` and `data`, and
the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. Its type is the topic, its timestamp when the
entry was logged. Its id is made of the entry's, so it is the same at every try and in every replay, and whoever has
taken it already can tell; the timestamp in the header is that of the try, and is signed with the rest.

The data are the entry's own facts, what is kept beside it, and the delivery as it came. They are read when the message
is sent, so what was erased in the meantime is not passed on: it is null, and `erased` is true.
"""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from receiver.assurance.subscribing import TOPIC_OF
from receiver.events import Kind, format_time
from receiver.records.tables import deliveries, findings
from translog.canonical import to_base64
from translog.merkle import leaf_hash
from translog.store import entries

_OF_DELIVERIES = frozenset({Kind.REVOCATION, Kind.CONTEXT, Kind.MISMATCH, Kind.QUARANTINE})


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: `id` as in the header, `body` as it is signed."""

    id: str
    body: bytes = field(repr=False)


def headers(message: Message, key: bytes, now: datetime) -> dict[str, str]:
    """The three headers that authenticate a message which is sent now."""
    timestamp = str(int(now.timestamp()))
    signed = b"%b.%b.%b" % (message.id.encode(), timestamp.encode(), message.body)
    return {
        "webhook-id": message.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{to_base64(hmac.digest(key, signed, 'sha256'))}",
    }


def trial(tenant: str, subscription_id: str, its_id: str, now: datetime) -> Message:
    """A message of the type `test`: of no entry, to find out whether it is taken."""
    return _message(its_id, "test", format_time(now), {"subscription": subscription_id, "tenant": tenant})


def of_entry(tx: sa.Connection, tenant: str, log_id: int, log_index: int) -> Message:
    """The message about an entry of a tenant's log. Raises LookupError if it is not there, or has no topic."""
    at = sa.and_(entries.c.log_id == log_id, entries.c.index == log_index)
    found = tx.execute(sa.select(entries.c.data).where(at)).scalar_one_or_none()
    if found is None:
        raise LookupError(f"entry {log_index} is not in the database")
    entry = bytes(found)
    leaf: dict[str, Any] = json.loads(entry)
    kind = leaf["kind"]
    table = deliveries if kind in _OF_DELIVERIES else findings
    row = tx.execute(sa.select(table).where(table.c.log_id == log_id, table.c.log_index == log_index)).one_or_none()
    if row is None or kind not in TOPIC_OF:
        raise LookupError(f"there is nothing to pass on of entry {log_index}")
    data = {
        "id": leaf["id"],
        "log_index": log_index,
        "leaf_hash": leaf_hash(entry).hex(),
        "tenant": tenant,
        "kind": kind,
        **_SHAPES[TOPIC_OF[Kind(kind)]](row, leaf["facts"], _opened(row)),
    }
    return _message(leaf["id"], TOPIC_OF[Kind(kind)], leaf["logged_at"], data)


def _message(its_id: str, topic: str, timestamp: str, data: Mapping[str, Any]) -> Message:
    return Message(f"msg_{its_id}", msgspec.json.encode({"type": topic, "timestamp": timestamp, "data": data}))


def _recorded(row: sa.Row[Any], facts: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": facts["source"],
        "provider": facts["provider"],
        "event": facts["event"],
        "effect": facts["effect"],
        "item": event.get("item"),
        "account": event.get("account"),
        "operation": event.get("operation"),
        "amount": event.get("amount"),
        "quantity": event.get("quantity"),
        "extent": event.get("extent"),
        "occurred_at": event.get("occurred_at"),
        "received_at": facts["received_at"],
        "breaches": [{"code": code, "message": message} for code, message in json.loads(row.breaches or "[]")],
        "via": facts["via"],
        "scheme": facts["scheme"],
        "test": facts["test"],
        "delivery": _delivery(row),
        "erased": row.event_data is None,
    }


def _quarantined(row: sa.Row[Any], facts: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    return _as_it_came(row, facts, {"reason": facts["reason"]})


def _mismatch(row: sa.Row[Any], facts: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    return _as_it_came(row, facts, {"event_id": facts["first"]})


def _as_it_came(row: sa.Row[Any], facts: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": facts["source"],
        "provider": facts["provider"],
        **told,
        "received_at": facts["received_at"],
        "via": row.via,
        "scheme": row.scheme,
        "test": row.test,
        "delivery": _delivery(row),
        "erased": row.body is None,
    }


def _cross_check(row: sa.Row[Any], facts: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": facts["source"],
        "provider": facts["provider"],
        "event_id": facts["first"],
        "state": facts["state"],
        "was": facts["was"],
        "by": facts["by"],
        "late": facts["late"],
        "differences": found.get("differences"),
        "issuer_log": found.get("issuer_log"),
        "issuer_index": found.get("issuer_index"),
        "issuer_leaf_hash": found.get("entry"),
        "bundle": found.get("bundle"),
        "erased": row.event_data is None,
    }


def _gap(row: sa.Row[Any], facts: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": facts["source"],
        "provider": facts["provider"],
        "state": facts["state"],
        "gap": facts["gap"],
        "issuer_log": found.get("issuer_log"),
        "issuer_index": found.get("issuer_index"),
        "issuer_leaf_hash": found.get("entry"),
        "issuer_entry": None if row.body is None else to_base64(bytes(row.body)),
        "erased": row.event_data is None,
    }


def _fork(row: sa.Row[Any], facts: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": facts["state"],
        "issuer_log_id": facts["issuer_log"],
        "issuer_log": found.get("issuer_log"),
        "url": found.get("url"),
        "smaller": found.get("smaller"),
        "larger": found.get("larger"),
        "evidence": None if row.body is None else to_base64(bytes(row.body)),
        "erased": row.event_data is None,
    }


def _silence(row: sa.Row[Any], facts: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": facts["source"],
        "provider": facts["provider"],
        "state": facts["state"],
        "since": facts["since"],
        "erased": row.event_data is None,
    }


_SHAPES = {
    "recorded": _recorded,
    "cross_check": _cross_check,
    "gap": _gap,
    "fork": _fork,
    "quarantined": _quarantined,
    "mismatch": _mismatch,
    "silence": _silence,
}


def _opened(row: sa.Row[Any]) -> dict[str, Any]:
    return {} if row.event_data is None else json.loads(row.event_data)


def _delivery(row: sa.Row[Any]) -> dict[str, Any] | None:
    if row.body is None:
        return None
    return {"body": to_base64(bytes(row.body)), "headers": dict(json.loads(row.headers or "[]"))}
