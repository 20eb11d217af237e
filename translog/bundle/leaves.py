"""The leaves of `entries.bin`, read as fast as they can be read for certain.

A leaf is canonical JSON of known shape, so one pattern finds its members, and what is between them is the facts. Many
leaves have the same facts but for one value of their own (when a delivery was received, or which event is meant). With
that taken out, what was read and checked once serves for all of them: putting a time or an id in the place of another
between two quotes makes no canonical JSON of what was none, nor the reverse. Whatever does not look like this is read
by `translog.canonical`, which decides what is right.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, cast

from translog.bundle.rows import cell, cells, flag, text_bytes
from translog.canonical import Value, decode
from translog.errors import FormatError
from translog.evidence import MAX_LEAF_SIZE, Leaf

__all__ = ["CROSS_CHECKS", "EVENT_KINDS", "EventFacts", "Read", "Reader", "Shape", "identity"]

CROSS_CHECKS = ("confirmed", "contradicted", "absent", "pending", "none")
"""The states of a cross-check."""

EVENT_KINDS = frozenset({"revocation", "context"})
"""The kinds of leaves that are events whatever their facts say."""

_ID = rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z"
_LEAF = re.compile(
    rb'\{"delivery":(?:null|"([0-9a-f]{64})"),"event":(?:null|"([0-9a-f]{64})"),"facts":(\{.*\}),"id":"(%b)",'
    rb'"kind":"([a-z]+(?:_[a-z]+)*)","logged_at":"(%b)","v":1\}' % (_ID, _TIME),
    re.DOTALL,
)
_OWN = re.compile(rb'"(first|received_at)":"(%b|%b)"' % (_ID, _TIME))
_OWN_NAMES = (b'"received_at":"', b'"first":"')
_IDENTITY = re.compile(_ID.decode())
_PLACEHOLDER = "*"
_MOST_SHAPES = 4096


class EventFacts(NamedTuple):
    """What the facts of an event say, and the cells of `events.csv` that follow from them."""

    provider: str
    effect: str | None
    breaches: tuple[str, ...]
    is_test: bool
    received_at: bytes | None
    origin: bytes
    """The cells `provider` to `scheme`, each after a comma."""
    breached: bytes
    """The cell `breaches`."""
    test: bytes
    """The cell `test`."""


@dataclass(frozen=True, eq=False)
class Shape:
    """Facts, of one leaf or of all that differ only in a value of their own; a placeholder stands for that."""

    facts: Mapping[str, Value]

    @cached_property
    def held(self) -> frozenset[bytes]:
        """The names of facts in whose place is the placeholder."""
        return frozenset(name.encode() for name, value in self.facts.items() if value == _PLACEHOLDER)

    @cached_property
    def event(self) -> EventFacts:
        """The facts as those of an event. Raises `FormatError` if they are none."""
        texts = {
            name: text_bytes(self.facts.get(name), name)
            for name in ("provider", "source", "event", "effect", "via", "scheme", "received_at")
        }
        provider, effect = self.facts.get("provider"), self.facts.get("effect")
        breaches, test = self.facts.get("breaches"), self.facts.get("test")
        if not isinstance(provider, str):
            raise FormatError("its facts name no provider, as those of an event do")
        if breaches is not None and not (isinstance(breaches, list) and all(isinstance(one, str) for one in breaches)):
            raise FormatError("its breaches are no codes")
        if not isinstance(test, bool | None):
            raise FormatError("its fact test is not true or false")
        codes = tuple(cast("list[str]", breaches or []))
        received_at = texts.pop("received_at")
        return EventFacts(
            provider=provider,
            effect=cast("str | None", effect),
            breaches=codes,
            is_test=test is True,
            received_at=received_at,
            origin=cells(texts.values()),
            breached=cell(" ".join(codes).encode()),
            test=flag(test),
        )


class Read(NamedTuple):
    """A leaf: its bytes and members. `own` names the fact that is its own among those of `shape`, if one is."""

    data: bytes
    delivery: bytes | None
    event: bytes | None
    shape: Shape
    own: bytes | None
    value: bytes
    id: bytes
    kind: bytes
    logged_at: bytes

    def fact(self, name: str) -> Value:
        """One of its facts; None if it has none of that name."""
        return self.value.decode() if self.own == name.encode() else self.shape.facts.get(name)

    @property
    def facts(self) -> dict[str, Value]:
        """All of them."""
        own: dict[str, Value] = {} if self.own is None else {self.own.decode(): self.value.decode()}
        return {**self.shape.facts, **own}

    @property
    def received_at(self) -> bytes | None:
        """Of an event: its fact of that name."""
        return self.value if self.own == b"received_at" else self.shape.event.received_at

    @property
    def is_event(self) -> bool:
        """Whether it is of a kind, and has the facts, that make it one."""
        kind = self.kind
        return kind in _EVENTS or (kind == b"attempt" and self.shape.facts.get("effect") is not None)


_EVENTS = frozenset(kind.encode() for kind in EVENT_KINDS)


class Reader:
    """Reads leaves, and remembers what it has read of their facts."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, Shape] = {}
        self._time = b""  # the last one that was found to be one; those of a batch are the same

    def read(self, data: bytes) -> Read:
        """The leaf whose encoding is exactly `data`. Raises `FormatError` if there is none."""
        match = _LEAF.fullmatch(data)
        if match is None or len(data) > MAX_LEAF_SIZE:
            Leaf.parse(data)  # says what is wrong
            raise FormatError("leaf: it is not of the form known here")
        delivery, event, facts, id_, kind, logged_at = match.groups()
        if logged_at != self._time:
            try:
                datetime.fromisoformat(logged_at.decode())
            except ValueError as error:
                raise FormatError(f"leaf: logged_at {logged_at.decode()} is no time: {error}") from None
            self._time = logged_at
        for name in _OWN_NAMES:
            own = _OWN.match(facts, at) if (at := facts.find(name)) >= 0 else None
            if own is not None:
                start, end = own.span(2)
                shape = self._shape(facts[:start] + b"*" + facts[end:])
                if own[1] in shape.held:  # else it is inside another fact
                    return Read(data, delivery, event, shape, own[1], own[2], id_, kind, logged_at)
        return Read(data, delivery, event, self._shape(facts), None, b"", id_, kind, logged_at)

    def _shape(self, facts: bytes) -> Shape:
        shape = self._shapes.get(facts)
        if shape is None:
            value = decode(facts)
            if not isinstance(value, dict):
                raise FormatError("leaf: its facts are no object")
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[facts] = Shape(value)
        return shape


def identity(value: Value) -> bytes:
    """The 16 bytes of an entry's id. Raises `FormatError` if it is none."""
    if not isinstance(value, str) or not _IDENTITY.fullmatch(value):
        raise FormatError(f"{str(value)[:80]!a} is not the id of an entry")
    return bytes.fromhex(value.replace("-", ""))
