"""The leaves of `entries.bin`, read as fast as they can be read for certain.

A leaf is canonical JSON of known shape, so one pattern finds its members, and what is between them is the facts. Many
leaves have the same facts but for one value of their own (when a delivery was received, or which event is meant). With
that taken out, what was read and checked once serves for all of them: putting a time or an id in the place of another
between two quotes makes no canonical JSON of what was none, nor the reverse; and where there is no object in the facts,
the name before the value is one of theirs. What they are is decided by `translog.canonical`, and so is what else may be
wrong with a leaf.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain, compress, groupby
from typing import NamedTuple, NoReturn, cast

from translog.bundle.rows import cell, cells, flag, text_bytes
from translog.canonical import Value, decode
from translog.errors import FormatError
from translog.evidence import MAX_LEAF_SIZE, Leaf

__all__ = ["CROSS_CHECKS", "EVENT_KINDS", "EventFacts", "Leaves", "Read", "Reader", "Shape", "identity", "joined"]

CROSS_CHECKS = ("confirmed", "contradicted", "absent", "pending", "none")
"""The states of a cross-check."""

EVENT_KINDS = frozenset({"revocation", "context"})
"""The kinds of leaves that are events whatever their facts say."""

_ID = rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z"
_LEAF = re.compile(
    rb'^(?:\{"delivery":(?:null|"(.{64})"),"event":(?:null|"(.{64})"),"facts":(\{.*\}),"id":"(.{36})",'
    rb'"kind":"([a-z]+(?:_[a-z]+)*)","logged_at":"(.{27})","v":1\}|.*)\n',
    re.MULTILINE,
)
"""A leaf and its newline, as far as its members are where they must be; or any other line, of which it finds nothing.

What hashes, ids and times are made of is looked at in many leaves at once, in a third of the time.
"""

_AT_ONCE = 256
_MOST_SHAPES = 4096

_IDENTITY, _MOMENT = re.compile(_ID.decode()), re.compile(_TIME)
_HEX = b"0123456789abcdef"
_DIGITS_AS_0, _HEX_AS_0 = (bytes.maketrans(digits, b"0" * len(digits)) for digits in (b"0123456789", _HEX))
_ID_OF_0, _TIME_OF_0 = b"00000000-0000-0000-0000-000000000000", b"0000-00-00T00:00:00.000000Z"
_OWN = {b"received_at": (_DIGITS_AS_0, _TIME_OF_0), b"first": (_HEX_AS_0, _ID_OF_0)}
"""Names of facts that may be a leaf's own, and what their values become if each digit becomes a 0."""


class EventFacts(NamedTuple):
    """What the facts of an event say, and the cells of `events.csv` that follow from them."""

    provider: str
    effect: str | None
    breaches: tuple[str, ...]
    is_test: bool
    received_at: bytes | None
    received: bytes
    """The cell `received_at`, unless that is a value of a leaf's own."""
    origin: bytes
    """The cells `kind` to `scheme`."""
    breached: bytes
    """The cell `breaches`."""
    test: bytes
    """The cell `test`."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A kind and facts, of one leaf or of all that differ only in a value of their own.

    `own` is the name of the fact whose value that is, empty if there is none; among the `facts` it has another value.
    `before` and `after` are what is around it.
    """

    kind: bytes
    facts: Mapping[str, Value]
    own: bytes
    before: bytes
    after: bytes

    def values(self, facts: Sequence[bytes]) -> Sequence[bytes] | None:
        """The values of their own that facts of several leaves have, in JSON; None unless all are of this shape."""
        before, after = self.before, self.after
        digits, form = _OWN.get(self.own, (None, b""))
        values = [one[len(before) : len(before) + len(form)] for one in facts]
        if [before + value + after for value in values] != [*facts]:
            return None
        return values if b"".join(values).translate(digits) == form * len(values) else None

    @cached_property
    def is_event(self) -> bool:
        """Whether it is of a kind, and has the facts, that make it an event."""
        return self.kind in _EVENTS or (self.kind == b"attempt" and self.facts.get("effect") is not None)

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
            received=cell(received_at),
            origin=self.kind + cells(texts.values()),
            breached=cell(" ".join(codes).encode()),
            test=flag(test),
        )


class Read(NamedTuple):
    """A leaf: its bytes and members; a commitment is empty for null.

    `value` is that of the fact which is its own among those of `shape`, and empty if none is.
    """

    data: bytes
    delivery: bytes
    event: bytes
    shape: Shape
    value: bytes
    id: bytes
    logged_at: bytes

    @property
    def kind(self) -> bytes:
        """Such as `revocation`."""
        return self.shape.kind

    def fact(self, name: str) -> Value:
        """One of its facts; None if it has none of that name."""
        return self.value.decode() if self.shape.own == name.encode() else self.shape.facts.get(name)

    @property
    def facts(self) -> dict[str, Value]:
        """All of them."""
        own: dict[str, Value] = {self.shape.own.decode(): self.value.decode()} if self.shape.own else {}
        return {**self.shape.facts, **own}

    @property
    def received_at(self) -> bytes | None:
        """Of an event: its fact of that name."""
        return self.value if self.shape.own == b"received_at" else self.shape.event.received_at


_EVENTS = frozenset(kind.encode() for kind in EVENT_KINDS)


class Leaves(NamedTuple):
    """Leaves that follow one another: each of what `Read` has, of all of them."""

    data: Sequence[bytes]
    delivery: Sequence[bytes]
    event: Sequence[bytes]
    shape: Sequence[Shape]
    value: Sequence[bytes]
    id: Sequence[bytes]
    logged_at: Sequence[bytes]

    def part(self, start: int, end: int | None = None) -> "Leaves":
        """Those from `start` up to `end` of them."""
        return self._make(column[start:end] for column in self)

    def these(self, which: Sequence[bool]) -> "Leaves":
        """Those for which that is true."""
        return self._make([*compress(column, which)] for column in self)

    def one(self, at: int) -> Read:
        """One of them."""
        return Read._make(column[at] for column in self)

    @property
    def received_at(self) -> Sequence[bytes | None]:
        """Of events of the same shape: their facts of that name."""
        shape = self.shape[0]
        return self.value if shape.own == b"received_at" else [shape.event.received_at] * len(self.shape)


def joined(parts: Sequence[Leaves]) -> Leaves:
    """All of the leaves of some parts."""
    columns = zip(*parts, strict=True) if parts else ((),) * len(Leaves._fields)
    return Leaves._make([*chain.from_iterable(column)] for column in columns)


class Reader:
    """Reads leaves, and remembers what it has read of their facts."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[bytes, ...], Shape] = {}

    def read(self, data: bytes) -> Read:
        """The leaf whose encoding is exactly `data`. Raises `FormatError` if there is none."""
        return self._read([data]).one(0) if len(data) <= MAX_LEAF_SIZE else _refuse(data)

    def read_all(self, entries: Sequence[bytes]) -> Iterator[Leaves]:
        """The leaves with these encodings, of a length that a leaf can have, some at a time.

        Raises `FormatError` for the first that is none, once those before it were given.
        """
        for start in range(0, len(entries), _AT_ONCE):
            some = entries[start : start + _AT_ONCE]
            try:
                leaves = [self._read(some)]
            except FormatError:
                leaves = (self._read([data]) for data in some)
            yield from leaves

    def _read(self, entries: Sequence[bytes]) -> Leaves:
        """Some leaves, if all are such."""
        found = _LEAF.findall(b"\n".join(entries) + b"\n")
        deliveries, events, facts, ids, kinds, times = zip(*found, strict=True)
        if (
            len(found) != len(entries)  # there is a newline in one of them
            or not all(facts)
            or b"".join(deliveries + events).translate(None, _HEX)
            or not _are_ids(ids)
            or not all(map(_is_time, set(times)))
        ):
            _refuse(entries[0])
        shapes: list[Shape] = []
        values: list[bytes] = []
        for kind, alike in groupby(kinds):
            at = len(shapes)
            each = self._taken_apart(kind, facts[at : at + len([*alike])])
            shapes += each[0]
            values += each[1]
        return Leaves(entries, deliveries, events, shapes, values, ids, times)

    def _taken_apart(self, kind: bytes, facts: Sequence[bytes]) -> tuple[Sequence[Shape], Sequence[bytes]]:
        """The shapes of leaves of a kind, and the values that they have of their own."""
        shape, _ = self._shape(kind, facts[0])
        values = shape.values(facts)
        if values is not None:
            return [shape] * len(facts), values
        shapes, each = zip(*[self._shape(kind, one) for one in facts], strict=True)
        return shapes, each

    def _shape(self, kind: bytes, facts: bytes) -> tuple[Shape, bytes]:
        """The shape of a leaf, and the value that it has of its own."""
        for own, (digits, form) in _OWN.items():
            name = b'"%b":"' % own
            before, there, rest = facts.partition(name)
            value, after = rest[: len(form)], rest[len(form) :]
            if there and value.translate(digits) == form and _is_own(before, after):
                return self._known(kind, own, before + name, after), value
        return self._known(kind, b"", facts, b""), b""

    def _known(self, kind: bytes, own: bytes, before: bytes, after: bytes) -> Shape:
        shape = self._shapes.get((kind, before, after))
        if shape is None:
            facts = decode(before + b"0" * bool(own) + after)
            if not isinstance(facts, dict):
                raise FormatError("leaf: its facts are no object")
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[kind, before, after] = Shape(kind, facts, own, before, after)
        return shape


def _is_own(before: bytes, after: bytes) -> bool:
    """Whether a text between these, which follows what looks like a name, is a fact and nothing else.

    So it is if no object, and no quote that ends no text, is before it.
    """
    return b"{" not in before[1:] and b"\\" not in before and after.startswith(b'"')


def _are_ids(texts: Sequence[bytes]) -> bool:
    """Whether texts of 36 letters are UUIDs of version 7."""
    every = b"".join(texts)
    return (
        every.translate(_HEX_AS_0) == _ID_OF_0 * len(texts)
        and every[14::36] == b"7" * len(texts)
        and not every[19::36].translate(None, b"89ab")
    )


def _is_time(text: bytes) -> bool:
    try:
        return bool(_MOMENT.fullmatch(text) and datetime.fromisoformat(text.decode()))
    except ValueError:
        return False


def _refuse(data: bytes) -> NoReturn:
    """Say what is wrong with a leaf."""
    Leaf.parse(data)
    raise FormatError("leaf: it is not of the form known here")


def identity(value: Value) -> bytes:
    """The 16 bytes of an entry's id. Raises `FormatError` if it is none."""
    if not isinstance(value, str) or not _IDENTITY.fullmatch(value):
        raise FormatError(f"{str(value)[:80]!a} is not the id of an entry")
    return bytes.fromhex(value.replace("-", ""))
