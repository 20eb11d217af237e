"""What is read out of a leaf, and out of the data that an event's opening is, at the speed of a whole export.

Both are canonical JSON and stay as they are in a bundle, byte for byte. What is taken out of them here is only for the
columns of `events.csv`, for what is counted, and for the choice of events.
"""

from typing import Any

import msgspec

from receiver.events import Kind


class Leaf(msgspec.Struct):
    """A leaf, its facts still as they are."""

    id: str
    kind: str
    logged_at: str
    facts: msgspec.Raw
    event: str | None
    delivery: str | None


class EventFacts(msgspec.Struct):
    """The facts of an event's leaf, those of a refused call included, which are fewer."""

    provider: str
    source: str
    received_at: str
    event: str | None = None
    effect: str | None = None
    via: str | None = None
    scheme: str | None = None
    test: bool | None = None
    breaches: list[str] | None = None


class OwnItem(msgspec.Struct):
    """The item of an event."""

    id: str
    type: str


class Own(msgspec.Struct):
    """The event's own data."""

    account: str | None
    amount: str | None
    extent: str | None
    item: OwnItem
    occurred_at: str | None
    operation: str | None
    quantity: str | None
    reason: str | None


class SourceFacts(msgspec.Struct):
    """What the facts of any leaf say of the source that it concerns."""

    provider: str | None = None
    source: str | None = None
    state: str | None = None


read_leaf = msgspec.json.Decoder(Leaf).decode
read_event_facts = msgspec.json.Decoder(EventFacts).decode
read_own = msgspec.json.Decoder(Own).decode
read_source_facts = msgspec.json.Decoder(SourceFacts).decode
read_facts = msgspec.json.Decoder(dict[str, Any]).decode
read_headers = msgspec.json.Decoder(list[tuple[str, str]]).decode


def may_be_event(kind: str) -> bool:
    """Whether a leaf of that kind is an event, or is one if its facts have an effect."""
    return kind in _MAY_BE


def is_event(kind: str, effect: str | None) -> bool:
    """Whether a leaf of that kind, with that effect in its facts, is an event."""
    return kind in _EVENTS or (kind == Kind.ATTEMPT and effect is not None)


_EVENTS = frozenset({Kind.REVOCATION.value, Kind.CONTEXT.value})
_MAY_BE = _EVENTS | {Kind.ATTEMPT.value}
