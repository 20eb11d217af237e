"""What a row holds, opened against what its leaf commits to, and read again as it was when it was recorded.

A delivery that came is read by its provider alone. One that tells of a call that was passed on, as the fact `attempt`
of its leaf says, is an answer of the provider's operation, or what the provider's own record said later; either is read
beside what the call asked.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.events import Via
from receiver.providers import Call, Inquiry, NotDone, Reading
from receiver.records.attempts import PATH
from receiver.strictjson import Json, NotJson, parse
from translog.canonical import Value
from translog.errors import FormatError
from translog.evidence import Delivery, Leaf, Opening


@dataclass(frozen=True, slots=True)
class Part:
    """What a leaf commits to under one label: the columns that hold it, salt last, and how they become the data."""

    label: str
    columns: tuple[str, ...]
    data: Callable[[sa.Row[Any]], bytes]

    def open(
        self, committed: str | None, row: sa.Row[Any], *, is_erased: bool = False
    ) -> tuple[bytes | None, str | None]:
        """The data, if it is what was committed to; else what is wrong with it, if something is.

        That nothing of it is there is right if it is said to be erased (`receiver.fsck.erasures`).
        """
        missing = [name for name in self.columns if getattr(row, name) is None]
        if committed is None:
            given = len(missing) < len(self.columns)
            return None, f"the {self.label} is given, and the entry does not commit to it" if given else None
        if len(missing) == len(self.columns):
            return None, None if is_erased else f"the {self.label} is erased, and no erasure entry names it"
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


def _delivery_data(row: sa.Row[Any]) -> bytes:
    headers: list[tuple[str, str]] = [(name, value) for name, value in json.loads(row.headers)]
    return Delivery(tuple(headers), bytes(row.body)).encode()


EVENT = Part("event", ("event_data", "event_salt"), lambda row: bytes(row.event_data))
DELIVERY = Part("delivery", ("headers", "body", "delivery_salt"), _delivery_data)


def leaf_of(entry: bytes | None) -> Leaf | None:
    """The leaf that an entry is; None if it is missing or cannot be read, which is told with it."""
    try:
        return None if entry is None else Leaf.parse(bytes(entry))
    except FormatError:
        return None


def facts_differ(leaf: Leaf, expected: Mapping[str, Value], called: str) -> Iterator[str]:
    """In what a leaf's facts are not those `expected`, all of them and no others, of what is `called` so."""
    for name in sorted(expected.keys() | leaf.facts.keys()):
        if name not in leaf.facts:
            yield f"the entry has no fact {name}"
        elif name not in expected:
            yield f"the entry has the fact {name}, which {called} has not"
        elif leaf.facts[name] != expected[name]:
            yield f"{name} is {expected[name]!a}, the entry's fact {leaf.facts[name]!a}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asked that was passed on, by its intent."""

    path: Mapping[str, str]
    """The parameters in its path."""
    request: dict[str, Json]
    called_at: datetime


def call_told_of(leaf: Leaf) -> str | None:
    """The id of the call that a leaf tells the outcome of; None if it tells of none."""
    attempt = leaf.facts.get("attempt")
    return attempt if isinstance(attempt, str) else None


def came_by(delivery: Delivery) -> Via:
    """How a delivery came that tells of a call: the provider's record was asked for at a path, an answer has none."""
    return Via.POLL if PATH in dict(delivery.headers) else Via.RELAY


def read(provider: str, leaf: Leaf, delivery: Delivery, asked: Asked | None) -> Reading | NotDone | None:
    """What a delivery is read as. `asked` is needed where its leaf tells of a call.

    None if it cannot be read: it is no JSON, this version does not know its provider, or what was asked is missing.
    """
    try:
        known, document = providers.get(provider), parse(delivery.body)
    except (NotJson, ValueError):
        return None
    if call_told_of(leaf) is None:
        return known.read(document)
    if asked is None:
        return None
    operation = known.operation
    if came_by(delivery) is Via.RELAY:
        return operation.read(Call(asked.path, asked.request, document))
    if operation.lookup is None:
        return None
    # Without what was known then, a record that was clear may not be so any more; then it cannot be read again here.
    return operation.lookup.read(Inquiry(asked.path, asked.request, asked.called_at, document, known=frozenset()))
