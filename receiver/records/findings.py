"""Findings: what was found out about an event, a source or an issuer's log, each an entry of the log.

with change(database, tenant.log) as changing:
    changing.tx.execute(…)
    keep(changing, tenant, Finding(Kind.GAP, …))

A finding is written under the log's lock, with whatever else changes with it. Its leaf holds public facts and, like an
event's, two commitments: `event` to what was found, `delivery` to the bytes that it was found in (the record that a
provider answered with, an entry of an issuer's log, a fork's evidence). What they open to is in the row beside it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from receiver import encoding
from receiver.events import Effect, Kind, new_id
from receiver.records.journal import Changing
from receiver.records.opening import Tenant
from receiver.records.tables import deliveries, findings
from translog.canonical import SALT_SIZE, Value
from translog.evidence import Delivery, Leaf, Opening

_INSERT = sa.insert(findings)  # made once: under the lock, putting it together costs more than running it


IS_CHECKED = sa.and_(
    deliveries.c.kind == Kind.REVOCATION.value,
    deliveries.c.effect.is_not(None),
    deliveries.c.effect != Effect.REFUSED.value,
    deliveries.c.event_data.is_not(None),
)
"""The rows of `deliveries` that are events which can be checked: no context, no refusal, and nothing erased."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be told. `kind` is `CROSS_CHECK`, `GAP`, `FORK` or `SILENCE`; `state` what it says, in a word."""

    kind: Kind
    state: str
    facts: Mapping[str, Value]
    """Public for ever, besides `state`: nothing personal, and nothing that leads to an item."""
    data: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """What was found, in canonical JSON's values: committed to as `event`."""
    delivery: Delivery | None = None
    """The bytes that it was found in: committed to as `delivery`."""
    source_id: str | None = None
    event_id: str | None = None
    issuer_log_id: str | None = None
    issuer_index: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a finding is: the id and the index of its entry, and when that is logged."""

    id: str
    log_index: int
    logged_at: str


def keep(changing: Changing, tenant: Tenant, finding: Finding, entry_id: str | None = None) -> Kept:
    """Add a finding to a change under the lock of the tenant's log: its leaf and its row.

    Its id is a new one, unless it has to be one that is named elsewhere.
    """
    its_id, index = entry_id or new_id(), changing.head.size + len(changing.leaves)
    event = Opening(encoding.canonical(dict(finding.data)), os.urandom(SALT_SIZE))
    delivery = finding.delivery
    opened = None if delivery is None else Opening(delivery.encode(), os.urandom(SALT_SIZE))
    changing.leaves.append(
        Leaf(
            kind=finding.kind,
            id=its_id,
            logged_at=changing.now,
            facts={**finding.facts, "state": finding.state},
            event=event.commitment("event"),
            delivery=None if opened is None else opened.commitment("delivery"),
        )
    )
    changing.tx.execute(
        _INSERT,
        {
            "id": its_id,
            "log_id": tenant.log_id,
            "log_index": index,
            "kind": finding.kind.value,
            "state": finding.state,
            "source_id": finding.source_id,
            "event_id": finding.event_id,
            "issuer_log_id": finding.issuer_log_id,
            "issuer_index": finding.issuer_index,
            "logged_at": changing.now,
            "event_data": event.data,
            "event_salt": event.salt,
            "headers": None if delivery is None else json.dumps(delivery.headers),
            "body": None if delivery is None else delivery.body,
            "delivery_salt": None if opened is None else opened.salt,
        },
    )
    return Kept(its_id, index, changing.now)
