"""Turns: work for many sources goes on at the same time, and those whose upstream is slow hold up no others.

A source has one turn at a time and works through what is due in it, one thing after the other. A tenant has its share
of all turns and no more, and those come first that have not had one for the longest time.

    turns = Turns(begun, take, warnings)
    await turns.run()        for ever

`begun` finds what may begin now, mostly by `first_come`; `take` is one turn.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

EVERY = 0.5
"""Seconds between two looks at what is due: what was begun is often over in a second or two."""

TURN = 5.0
"""Seconds after which a source's turn is over, and those that wait for one have theirs first: it is enough for what
answers, and of what does not answer one thing is asked for at a time."""

AT_ONCE = 16
"""Sources that are asked at the same time; of each, one thing after the other. So none is asked for more at a time than
by one patient caller."""

OF_ONE_TENANT = 4
"""Of these at most so many are one tenant's: upstreams that do not answer hold up nothing of the others'."""


class Turn(Protocol):
    """What a source's turn is about, or will be."""

    @property
    def source_id(self) -> str:
        """Whose turn it is."""
        ...

    @property
    def tenant_id(self) -> int:
        """Whose source that is."""
        ...


T = TypeVar("T", bound=Turn)

Begun: TypeAlias = Callable[[Mapping[str, int], Mapping[str, int]], list[T]]
"""What begins now, given the sources whose turn it is already, with the ids of their tenants, and which turn of all was
each one's last. Called in a thread."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A source for which something is due, since `since` (a time as it is written)."""

    source_id: str
    tenant_id: int
    since: str


def first_come(waiting: Iterable[Waiting], busy: Mapping[str, int], last: Mapping[str, int]) -> list[Waiting]:
    """Those whose turn begins now.

    `busy` are the sources whose turn it is already, with the ids of their tenants. Of the others those come first that
    have not had one for the longest time, by `last`: a number for each source that had one, higher for a later one.
    """
    of_tenant = Counter(busy.values())
    free = [one for one in waiting if one.source_id not in busy]
    found: list[Waiting] = []
    for one in sorted(free, key=lambda one: (last.get(one.source_id, 0), one.since)):
        if len(busy) + len(found) < AT_ONCE and of_tenant[one.tenant_id] < OF_ONE_TENANT:
            of_tenant[one.tenant_id] += 1
            found.append(one)
    return found


class Warnings:
    """What goes wrong, each logged once for a source, until it has gone well with that again."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """`what` is not done, in words, with braces for whose: `what became of calls{} is not found out`."""
        self._log = log
        self._what = what
        self._said: dict[str, set[str]] = {}

    def warn(self, source_id: str, said: str) -> None:
        """Log it, unless that was. Without a source it is about all of them."""
        known = self._said.setdefault(source_id, set())
        if said not in known:
            known.add(said)
            what = self._what.format(f" to source {source_id}" if source_id else "")
            self._log.warning("%s: %s", what, said)

    def went_well(self, source_id: str) -> None:
        """What goes wrong from now on is logged again."""
        self._said.pop(source_id, None)


@dataclass(frozen=True, slots=True)
class _Busy:
    """A source whose turn it is."""

    tenant_id: int
    task: asyncio.Task[None]


class Turns(Generic[T]):
    """Gives sources their turns. Used on one loop."""

    def __init__(self, begun: Begun[T], take: Callable[[T], Awaitable[None]], warnings: Warnings) -> None:
        """`take` is one turn, and ends by itself after about `TURN` seconds."""
        self._begun = begun
        self._take = take
        self._warnings = warnings
        self._last: dict[str, int] = {}  # by source: which turn of all was its last

    async def run(self) -> None:
        """Begin what is due, for ever. What fails is logged once, and tried again later; cancelled, all turns end."""
        busy: dict[str, _Busy] = {}
        try:
            while True:
                await asyncio.sleep(EVERY)
                busy = {source_id: one for source_id, one in busy.items() if not one.task.done()}
                tenants_of = {source_id: one.tenant_id for source_id, one in busy.items()}
                try:
                    begun = await asyncio.to_thread(self._begun, tenants_of, dict(self._last))
                except Exception as error:  # noqa: BLE001  (a database out of reach now is back later)
                    self._warnings.warn("", f"{type(error).__name__}: {error}")
                    continue
                self._warnings.went_well("")
                for turn in begun:
                    self._last[turn.source_id] = max(self._last.values(), default=0) + 1
                    busy[turn.source_id] = _Busy(turn.tenant_id, asyncio.create_task(self._one(turn)))
        finally:
            for one in busy.values():
                one.task.cancel()
            await asyncio.gather(*(one.task for one in busy.values()), return_exceptions=True)

    async def _one(self, turn: T) -> None:
        try:
            await self._take(turn)
        except Exception as error:  # noqa: BLE001  (of this one's; what is due in it is due again later)
            self._warnings.warn(turn.source_id, f"{type(error).__name__}: {error}")
