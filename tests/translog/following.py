"""Following for tests: the state machine fed by hand from a log in memory, and rounds over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import stamina

from tests.translog.misbehaving import Server, Simulated
from tests.translog.samples import POLICY
from translog.follower import Behind, Current, Fetch, Follower, Forked, Read, State, Step
from translog.policy import Policy
from translog.remote import RemoteLog
from translog.tiles import Bundle, Resource

T = TypeVar("T")

Told = Current | Behind | Forked
"""What ends a round."""

Choose = Callable[[int], int]
"""Of so many bundles that were asked for, how many are given: at least one."""

ATTEMPTS = 3
"""At most, for each request."""


def all_of(count: int) -> int:
    """As many as were asked for."""
    return count


def asked(step: Fetch, choose: Choose = all_of) -> tuple[Resource, ...]:
    """Of bundles the first few, of tiles all."""
    count = len(step.resources)
    return step.resources[: choose(count) if isinstance(step.resources[0], Bundle) else count]


@dataclass
class Reader:
    """Who follows, and keeps what it is told: entries, and the state as bytes, always together."""

    policy: Policy = POLICY
    kept: bytes = field(default_factory=State().encode)
    entries: list[bytes] = field(default_factory=list[bytes])

    @property
    def state(self) -> State:
        """The state as it was kept."""
        return State.parse(self.kept)

    def follower(self) -> Follower:
        """As after a start: nothing is known but what was kept."""
        return Follower(self.policy, self.state)

    def keep(self, read: Read) -> None:
        """Keep what was read, which continues what is there."""
        assert read.start == len(self.entries)
        self.entries += read.entries
        self.kept = read.state.encode()
        assert self.state == read.state
        assert read.state.size == len(self.entries)

    def feed(self, follower: Follower, step: Step, log: Simulated, choose: Choose = all_of) -> Told:
        """Give the follower what it asks for, out of that log, until it tells the end."""
        while True:
            match step:
                case Fetch():
                    step = follower.give(log.resources(asked(step, choose)))
                case Read():
                    assert follower.state is step.state
                    self.keep(step)
                    step = follower.go_on()
                case _:
                    return step

    def round(self, log: Simulated, note: bytes | None = None, choose: Choose = all_of) -> Told:
        """Follow by hand: that checkpoint, or the log's newest, and all that it covers."""
        follower = self.follower()
        return self.feed(follower, follower.offer(log.checkpoint() if note is None else note), log, choose)

    def over_http(self, server: Server, **options: Any) -> Told:
        """Follow over HTTP, one round. What came before an error is kept."""

        async def one_round(log: RemoteLog) -> Told:
            async with aclosing(log.follow(self.state)) as steps:
                async for step in steps:
                    match step:
                        case Read():
                            self.keep(step)
                        case _:
                            return step
            raise AssertionError("a round has an end")

        return asking(server, one_round, self.policy, **options)


def asking(server: Server, ask: Callable[[RemoteLog], Awaitable[T]], policy: Policy = POLICY, **options: Any) -> T:
    """What comes of asking a log over HTTP, where another attempt is made at once."""

    async def main() -> T:
        async with RemoteLog(server.url, policy, **options) as log:
            return await ask(log)

    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        return asyncio.run(main())


@contextmanager
def unmoved(reader: Reader) -> Generator[None]:
    """Nothing is read in the meantime, and what was believed stays what it is; a checkpoint may be kept as unproven."""
    before = (believed(reader.state), list(reader.entries))
    yield
    assert (believed(reader.state), reader.entries) == before


def believed(state: State) -> State:
    """The state without the unproven checkpoint."""
    return replace(state, unproven=None)


def begun(following: Follower, note: bytes) -> Fetch:
    """Offer a checkpoint, have it kept, and give what is to be fetched to compare it."""
    step = following.offer(note)
    if isinstance(step, Read):
        assert (step.entries, step.state.unproven) == ([], note)
        step = following.go_on()
    assert isinstance(step, Fetch)
    return step
