"""What some leaves say of events, compared with what the events' lines say of it: cross-checks and erasures.

A *statement* is a leaf that names an event: a cross-check, or an erasure. A *claim* is what the two lines of an event
say: how it stands by which entry, by which entries it was erased; or that it is left out, for it is said to have
occurred outside the period, which nobody can say once it was erased. Both come chunk by chunk, in the order of the log,
and are far apart there. So each is written down in a few bytes under the event's id, sorted into boxes by a part of
that, and each box is then compared by itself: memory is bounded by the bytes, and boxes by several processes.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

from translog.bundle.leaves import CROSS_CHECKS, Read, identity
from translog.errors import FormatError

__all__ = ["STATES", "Box", "Boxes", "Fault", "Where", "compare", "identities", "statements"]

STATES = {state.encode(): code for code, state in enumerate(CROSS_CHECKS)}
"""A number for each state of a cross-check."""

_BOXES = 32
_CLAIM, _SILENT = struct.Struct(">16sQQQQB"), struct.Struct(">16sQ")
_STATEMENT = struct.Struct(">16sQB")
_NONE, _NO_STATE, _LEFT_OUT = 2**64 - 1, 255, 252
_UNTOLD = _NONE, _NO_STATE
_ERASED = {"all": 254, "delivery": 253}

Statement = tuple[bytes, int, int]


class Where(IntEnum):
    """In which line something is wrong."""

    EVENT = 0
    PAYLOAD = 1
    LATER = 2


class Fault(NamedTuple):
    """What is wrong with the event, or in `proof/later.jsonl` with the entry, at that index."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  nobody searches a fault with tuple.index
    where: Where
    what: str


class Box(NamedTuple):
    """Some events' claims, the indexes of those of which the lines say nothing, and the statements; by their ids."""

    claims: bytes
    silent: bytes
    statements: bytes


class Boxes:
    """Claims and statements, each in the box of its event."""

    def __init__(self) -> None:
        self.claims, self.silent, self.statements = (defaultdict[int, bytearray](bytearray) for _ in Box._fields)

    def claim(
        self, id_: bytes, index: int, entry: int | None, state: bytes, erased_by: int | None, gone: int | None
    ) -> None:
        """What the lines of an event say: by which entry it stands how, and by which its openings were erased.

        `state` is one of `STATES`, empty without an `entry`; `erased_by` is its own line's, and `gone` its payload's.
        """
        code, told = (_NO_STATE, _NONE) if entry is None else (STATES[state], entry)
        by, its = _NONE if erased_by is None else erased_by, _NONE if gone is None else gone
        self.claims[id_[-1] % _BOXES] += _CLAIM.pack(id_, index, told, by, its, code)

    def claim_plain(
        self, ids: Sequence[bytes], indexes: Sequence[int], states: Sequence[bytes], entries: Sequence[bytes]
    ) -> None:
        """What the lines of events say of which none is erased; `states` and `entries` are empty for nothing."""
        silent, pack = self.silent, _SILENT.pack
        for id_, index, state, entry in zip(ids, indexes, states, entries, strict=True):
            if state:
                self.claim(id_, index, int(entry), state, None, None)
            else:
                silent[id_[-1] % _BOXES] += pack(id_, index)

    def leave_out(self, id_: bytes, index: int) -> None:
        """That an event has no lines, since it did not occur in the period."""
        self.claims[id_[-1] % _BOXES] += _CLAIM.pack(id_, index, _NONE, _NONE, _NONE, _LEFT_OUT)

    def state(self, statement: Statement) -> None:
        """What a leaf says of an event."""
        self.statements[statement[0][-1] % _BOXES] += _STATEMENT.pack(*statement)

    def add(self, other: "Boxes") -> None:
        """All that is in others."""
        for mine, its in zip(self.kinds, other.kinds, strict=True):
            for number, data in its.items():
                mine[number] += data

    def boxes(self) -> Iterator[Box]:
        """What is in each box; it is taken out."""
        for number in sorted(set[int]().union(*self.kinds)):
            yield Box(*(bytes(each.pop(number, b"")) for each in self.kinds))

    @property
    def kinds(self) -> Sequence[defaultdict[int, bytearray]]:
        """What of a `Box` is in the boxes, each by their numbers."""
        return self.claims, self.silent, self.statements


def identities(texts: Sequence[bytes]) -> list[bytes]:
    """The 16 bytes of each of these ids, which are known to be such."""
    joined = bytes.fromhex(b"".join(texts).replace(b"-", b"").decode())
    return [joined[at : at + 16] for at in range(0, len(joined), 16)]


def statements(leaf: Read, index: int) -> list[Statement]:
    """What the leaf at that index says of events. Raises `FormatError` if it is one that should, and does not."""
    if leaf.kind == b"cross_check":
        state = leaf.fact("state")
        if state not in CROSS_CHECKS:
            raise FormatError(f"its state {state!a} is not that of a cross-check")
        return [(identity(leaf.fact("first")), index, CROSS_CHECKS.index(str(state)))]
    if leaf.kind == b"erasure":
        extent, ids = leaf.fact("state"), leaf.fact("ids")
        if not isinstance(extent, str) or extent not in _ERASED or not isinstance(ids, list):
            raise FormatError("its facts are not those of an erasure")
        return [(identity(one), index, _ERASED[extent]) for one in ids]
    return []


def compare(box: Box, end: int) -> Fault | None:
    """Compare the claims in a box with the statements; what is wrong first, by index, if anything is.

    `end` is that of the range: a cross-check from there on is to be one by which an event stands.
    """
    told: dict[bytes, tuple[int, int]] = {}
    erased: dict[bytes, dict[int, int]] = {}
    late: set[int] = set()
    for id_, index, code in _STATEMENT.iter_unpack(box.statements):
        if code > len(CROSS_CHECKS):
            erased.setdefault(id_, {})[index] = code
            continue
        if index >= end:
            late.add(index)
        if index > told.get(id_, _UNTOLD)[0] or id_ not in told:
            told[id_] = index, code
    silent = (
        (id_, index, _NONE, _NONE, _NONE, _NO_STATE)
        for id_, index in _SILENT.iter_unpack(box.silent)
        if id_ in told or id_ in erased
    )
    faults: list[Fault] = []
    for id_, index, entry, erased_by, gone, state in chain(_CLAIM.iter_unpack(box.claims), silent):
        if state == _LEFT_OUT:
            if _ERASED["all"] in erased.get(id_, {}).values():
                what = "it was erased, so nobody can say that it is outside, and it is left out"
                faults.append(Fault(index, Where.EVENT, what))
            continue
        stands = told.get(id_, _UNTOLD)
        late.discard(entry)
        if stands != (entry, state):
            what = f"by this line {_stands(entry, state)}; by the log {_stands(*stands)}"
            faults.append(Fault(index, Where.EVENT, what))
        elif id_ in erased or erased_by != _NONE or gone != _NONE:
            faults += _amiss(index, erased_by, gone, erased.get(id_, {}))
    faults += [Fault(index, Where.LATER, "it says nothing of how an event of the bundle stands") for index in late]
    return min(faults, default=None)


def _amiss(index: int, erased_by: int, gone: int, erasures: dict[int, int]) -> Iterator[Fault]:
    """What is wrong with what an event's lines say of its erasure."""
    for where, by in ((Where.EVENT, erased_by), (Where.PAYLOAD, gone)):
        named = sorted(one for one, code in erasures.items() if where is Where.PAYLOAD or code == _ERASED["all"])
        if by == _NONE and named:
            yield Fault(index, where, f"entry {named[0]} says that this was erased, and here it is")
        elif by != _NONE and by not in named:
            yield Fault(index, where, f"it is said to be erased by entry {by}, which is not here, or does not say so")


def _stands(entry: int, state: int) -> str:
    return "no cross-check is told" if state == _NO_STATE else f"it is {CROSS_CHECKS[state]}, as entry {entry} says"
