"""One round of following a log: what is new in it is read, and what is wanted of that is kept, with its proofs.

The checkpoint is fetched and verified, and proven to continue the last one; the entries behind those that were read are
fetched and proven to be in it (`translog.remote`). The providers' modules say what each is about. Of those that are
wanted the inclusion is proven, and verified once more as whoever is given that proof will verify it.

A round ends when everything is read, or when its time is over; when it finds that another receiver has moved the log
on; or by an error, which says what is wrong. Whatever ends it: what was kept before stays, and is not read again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from receiver.assurance import progress
from receiver.assurance.progress import Place, Proven, Track
from receiver.assurance.siblings import Siblings, freeze
from receiver.assurance.wanted import Found, Reading, Unreadable
from receiver.records.engine import Database
from receiver.records.opening import Tenant
from translog.follower import Behind, Current, Forked, Read, State
from translog.fork import Fork
from translog.policy import Policy
from translog.proof import TlogProof
from translog.remote import RemoteLog

T = TypeVar("T")

LASTS = 30.0
"""Seconds after which a round is broken off, at its next progress."""

PIECE = 256
"""Entries that are read, or proven and kept in one transaction, before others have their turn."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A log's server, with the connections to it, whose signatures count, and what its siblings are known to show."""

    remote: RemoteLog
    policy: Policy
    siblings: Siblings


@dataclass(frozen=True, slots=True)
class Ended:
    """A round is over: when the next one is to be, and what was wrong, if anything was."""

    next_at: datetime
    failure: str | None = None


async def write(database: Database, work: Callable[[sa.Connection], T]) -> T:
    """What that gives in a write transaction, in a thread."""

    def in_transaction() -> T:
        with database.write() as tx:
            return work(tx)

    return await asyncio.to_thread(in_transaction)


class Round:
    """One round, of one log."""

    def __init__(
        self,
        database: Database,
        track: Track,
        place: Place,
        server: Server,
        tenants: Mapping[int, Tenant],
        asked_at: datetime,
    ) -> None:
        """`place` is where the log is, `tenants` are those that name it, by id. The round began at `asked_at`."""
        self._database = database
        self._track = track
        self._place = place
        self._wanted = Reading.parse(place.wanted).now
        self._server = server
        self._tenants = tenants
        self._asked_at = asked_at
        self._unreadable = 0
        self._first_unreadable: Unreadable | None = None

    async def run(self) -> Ended:
        """Go through with it. Raises translog's errors: the log is as it was after the last progress."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LASTS
        try:
            async with aclosing(self._server.remote.follow(State.parse(self._place.state))) as steps:
                async for step in steps:
                    if not isinstance(step, Forked) and (fork := await self._fork_elsewhere()) is not None:
                        step = Forked(fork)
                    if not isinstance(step, Read):
                        return await self._end(step)
                    if not await self._keep(step) or loop.time() > until:
                        break
            return Ended(datetime.now(UTC))
        finally:
            self._tell_of_unreadable()

    async def _end(self, step: Current | Behind | Forked) -> Ended:
        in_time = max(datetime.now(UTC), self._asked_at + self._track.every)
        match step:
            case Current():
                complete = partial(progress.complete, track=self._track, place=self._place, asked_at=self._asked_at)
                await write(self._database, complete)
                return Ended(in_time)
            case Behind(size):
                newest = self._track.size
                return Ended(in_time, f"it gives an old checkpoint, of {size} entries; the newest was of {newest}")
            case Forked(fork):
                await self._freeze(fork)
                return Ended(in_time)

    async def _fork_elsewhere(self) -> Fork | None:
        """What shows that the log has forked, by the last checkpoint that was kept and those of its siblings."""
        return await self._server.siblings.fork(self._database, State.parse(self._place.state))

    async def _freeze(self, fork: Fork) -> None:
        """Keep the evidence, for ever. Raises ProofError if it is none."""
        smaller, larger = fork.verify(self._server.policy)
        now = datetime.now(UTC)
        log_id = self._track.log.id
        if await write(self._database, lambda tx: freeze(tx, log_id, fork, now)):
            _log.critical(
                "the log %s has FORKED: it signed two trees, of %d and of %d entries, that cannot both be its own; the "
                "evidence is kept, and nothing more of this log is believed",
                larger.origin,
                smaller.size,
                larger.size,
            )

    # ---- entries ------------------------------------------------------------------------------------------------

    async def _keep(self, read: Read) -> bool:
        """Keep what is wanted of these entries, and note that they are read; False if somebody else did."""
        found, unreadable = await self._find(read)
        pieces = [found[at : at + PIECE] for at in range(0, len(found), PIECE)] or [[]]
        for piece in pieces[:-1]:
            proven = await self._prove(piece, read)
            await write(self._database, partial(self._keep_piece, proven=proven))
        proven = await self._prove(pieces[-1], read)

        def advance(tx: sa.Connection) -> Place | None:
            place = progress.advance(tx, self._track, self._place, read, len(unreadable), self._asked_at)
            if place is not None:
                self._keep_piece(tx, proven)
            return place

        place = await write(self._database, advance)
        if place is None:
            return False
        self._place = place
        self._unreadable += len(unreadable)
        if self._first_unreadable is None and unreadable:
            self._first_unreadable = unreadable[0]
        return True

    async def _find(self, read: Read) -> tuple[list[Found], list[Unreadable]]:
        found: list[Found] = []
        unreadable: list[Unreadable] = []
        for at in range(0, len(read.entries), PIECE):
            some, unfit = self._wanted.read(read.start + at, read.entries[at : at + PIECE])
            found += some
            unreadable += unfit
            await asyncio.sleep(0)
        return found, unreadable

    async def _prove(self, found: Sequence[Found], read: Read) -> list[Proven]:
        if not found:
            return []
        note = read.note
        indexes = [one.index for one in found]
        proven: list[Proven] = []
        for one, hashes in zip(found, await self._server.remote.inclusion_proofs(indexes, note), strict=True):
            proof = TlogProof(one.index, hashes, note, extra=one.entry)
            proof.verify(one.entry, self._server.policy)
            proven.append(Proven(one, proof.encode()))
        return proven

    def _keep_piece(self, tx: sa.Connection, proven: Sequence[Proven]) -> None:
        progress.keep_some(tx, self._track.log.id, proven, self._tenants, datetime.now(UTC))

    def _tell_of_unreadable(self) -> None:
        first = self._first_unreadable
        if first is not None:
            told = "%d entries of the log %s are of a provider that sources name, and cannot be read; the first, %d: %s"
            _log.warning(told, self._unreadable, self._track.name, first.index, first.why)
