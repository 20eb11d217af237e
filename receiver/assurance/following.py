"""Following issuers' logs: which ones there are, and whose turn it is.

    look    every half second: note what is wanted of each log that an enabled source names, begin the turns of those
            whose time has come, and tell of forks
    turn    hold the log (`receiver.assurance.holding`), go through a round (`receiver.assurance.rounds`), and note what
            was wrong, and when the next turn is to be

Issuers' servers may be slow, or not answer at all. So a few logs are followed at the same time, of those that failed
the last time fewer, of one tenant no more than its share; and those that have waited longest come first.

What does not verify, or cannot be had, is a failure: it is noted with its reason, and tried again after as long as it
has been failing, 5 minutes at most. A checkpoint older than the last is no progress, and contradicts nothing: it is
noted likewise, and looked at again in its time. A fork ends it: the evidence is kept, every tenant that names the log
is told, and it is followed no more.

All of this is for a loop of its own (`receiver.background.Aside`): a chunk of entries takes long to hash and to read.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError

from receiver.assurance import holding, progress
from receiver.assurance.progress import Place, Track
from receiver.assurance.rounds import Ended, Round, Server, write
from receiver.assurance.siblings import Siblings
from receiver.background import every
from receiver.records.issuer_logs import IssuerLog
from receiver.records.opening import Records, Tenant
from translog.errors import TranslogError
from translog.remote import RemoteLog

EVERY = 0.5
"""Seconds between two looks."""

AT_ONCE = 8
"""Logs that are followed at the same time."""

FAILING_AT_ONCE = 4
"""Of these at most so many that failed the last time."""

OF_ONE_TENANT = 4
"""And at most so many of one tenant. One that several tenants name counts for each, and needs room with one of them."""

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(minutes=5)
"""After a failure. The first is shorter, and the longest longer, for a log that is looked at more, or less, often."""

ATTEMPTS = 3
"""How often a request is made within a turn."""

CACHE = "issuer-logs"
"""The folder, in the data folder, of the tiles that were fetched: each log has one of its id. It may be removed."""

_AWAY = (OperationalError, InterfaceError, InternalError)
_BEGINNING = datetime.min.replace(tzinfo=UTC)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A log that is being followed."""

    track: Track
    task: asyncio.Task[None]


class Following:
    """Follows all logs. Everything in here is for one loop, but that `tracks` may be read from anywhere."""

    def __init__(self, records: Records, process_id: str) -> None:
        """`process_id` is this process's in `receiver.records.processes`."""
        self._records = records
        self._process_id = process_id
        self._turns: dict[str, _Turn] = {}
        self._servers: dict[str, Server] = {}
        self._told: set[tuple[str, int]] = set()  # of forks, by the ids of log and tenant
        self._said: dict[str, str] = {}  # by a log's id, what was said last of its failing
        self.tracks: Sequence[Track] = ()
        """As of the last look."""

    async def run(self) -> None:
        """Follow for ever; cancelled, it closes what it opened."""
        try:
            await every(EVERY, self.look)
        finally:
            await self.close()

    async def close(self) -> None:
        """End the turns under way, and close all connections. What was read and not kept will be read again."""
        tasks = [turn.task for turn in self._turns.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close(list(self._servers))

    async def look(self) -> Sequence[asyncio.Task[None]]:
        """See what there is to do, and begin the turns whose time has come: these."""
        now = datetime.now(UTC)  # before the sources are read: what is complete as of now has all that they want
        self.tracks = await asyncio.to_thread(self._settled, now)
        busy = {turn.track.log.id: turn.track for turn in self._turns.values()}
        begun = [self._begin(track, now) for track in choose(self.tracks, busy, now)]
        await self._tell_of_forks()
        named = {track.log.id for track in self.tracks if track.forked_at is None}
        await self._close(self._servers.keys() - named - self._turns.keys())
        return begun

    def _settled(self, now: datetime) -> list[Track]:
        """The logs there are, after it was noted what they are to be read for."""
        database, mine = self._records.database, self._process_id
        with database.read() as tx:
            found = progress.tracks(tx, mine, now)
        changed = [one for one in found if one.forked_at is None and not one.is_settled]
        for track in changed:
            try:
                with database.write() as tx:
                    progress.settle_wanted(tx, track)
            except TranslogError as error:
                self._say(track, str(error))
        if changed:
            with database.read() as tx:
                found = progress.tracks(tx, mine, now)
        return found

    # ---- a turn -------------------------------------------------------------------------------------------------

    def _begin(self, track: Track, now: datetime) -> asyncio.Task[None]:
        task = asyncio.create_task(self._follow(track, now))
        self._turns[track.log.id] = _Turn(track, task)
        task.add_done_callback(lambda _: self._turns.pop(track.log.id))
        return task

    async def _follow(self, track: Track, asked_at: datetime) -> None:
        """Hold a log and go through a round, which begins at `asked_at`: before its checkpoint is asked for."""
        log_id, database = track.log.id, self._records.database
        try:
            place = await write(database, partial(self._take, track=track))
            if place is None:
                return
            renewing = asyncio.create_task(every(holding.RENEWED_EVERY, partial(self._renew, log_id)))
            try:
                tenants = await self._tenants(track)
                ended = await Round(database, track, place, self._server(track.log), tenants, asked_at).run()
            except _AWAY:
                raise
            except Exception as error:  # noqa: BLE001  (whatever it is, no other log is to suffer from it)
                said = str(error) if isinstance(error, TranslogError) else f"{type(error).__name__}: {error}"
                ended = Ended(after_failure(track, datetime.now(UTC)), said)
            finally:
                renewing.cancel()
            await write(database, partial(self._end, log_id=log_id, ended=ended))
            self._say(track, ended.failure)
        except SQLAlchemyError as error:  # it stays this process's for a while, and is tried again at the next look
            self._say(track, f"the database is out of reach: {type(error).__name__}")

    def _take(self, tx: sa.Connection, track: Track) -> Place | None:
        """Where the log is, if it is to be followed by this process, and still wanted as it was."""
        if not holding.take(tx, track.log.id, self._process_id, datetime.now(UTC)):
            return None
        place = progress.place_of(tx, track.log.id)
        return None if place is None or place.wanted != track.wanted else place

    async def _renew(self, log_id: str) -> None:
        now = datetime.now(UTC)
        await write(self._records.database, lambda tx: holding.renew(tx, log_id, self._process_id, now))

    def _end(self, tx: sa.Connection, log_id: str, ended: Ended) -> None:
        if ended.failure is None:
            holding.let_go(tx, log_id, self._process_id, ended.next_at)
        else:
            progress.fail(tx, log_id, self._process_id, ended.failure, datetime.now(UTC), ended.next_at)

    def _server(self, log: IssuerLog) -> Server:
        if log.id not in self._servers:
            policy = log.trust()
            folder = self._records.settings.data / CACHE / log.id
            remote = RemoteLog(log.url, policy, cache=folder, attempts=ATTEMPTS)
            self._servers[log.id] = Server(remote, policy, Siblings(log.id, remote, policy))
        return self._servers[log.id]

    async def _tenants(self, track: Track) -> Mapping[int, Tenant]:
        """Those that name the log, by id."""
        known = {tenant.id: tenant for tenant in self._records.tenants}
        if not track.tenants <= known.keys():  # another process has made one
            await asyncio.to_thread(self._records.reload)
            known = {tenant.id: tenant for tenant in self._records.tenants}
        return known

    # ---- what becomes of logs -----------------------------------------------------------------------------------

    async def _tell_of_forks(self) -> None:
        """Log for each tenant that a log which it names has forked: once, whoever finds it first."""
        for track in self.tracks:
            if track.forked_at is None:
                continue
            tenants = await self._tenants(track)
            for tenant_id in track.tenants:
                if (track.log.id, tenant_id) in self._told:
                    continue
                try:
                    await asyncio.to_thread(progress.tell_of_fork, self._records, tenants[tenant_id], track.log)
                except (TranslogError, SQLAlchemyError) as error:
                    self._say(track, f"its fork cannot be logged: {type(error).__name__}: {error}")
                else:
                    self._told.add((track.log.id, tenant_id))

    async def _close(self, log_ids: Collection[str]) -> None:
        for log_id in log_ids:
            await self._servers.pop(log_id).remote.aclose()

    def _say(self, track: Track, failure: str | None) -> None:
        """Log what is wrong with a log, once; and that it is well again."""
        said = self._said.get(track.log.id)
        if failure == said:
            return
        if failure is None:
            del self._said[track.log.id]
            _log.info("the log %s is followed again", track.name)
        else:
            self._said[track.log.id] = failure
            _log.warning("the log %s cannot be followed: %s", track.name, failure)


def choose(tracks: Sequence[Track], busy: Mapping[str, Track], now: datetime) -> list[Track]:
    """Those whose turn begins now, besides those that have theirs, by id."""
    failing = sum(one.failing_since is not None for one in busy.values())
    of_tenant = Counter(tenant_id for one in busy.values() for tenant_id in one.tenants)
    chosen: list[Track] = []
    waiting = [one for one in tracks if one.free and one.log.id not in busy and is_due(one, now)]
    for one in sorted(waiting, key=lambda one: one.next_at or _BEGINNING):
        fails = one.failing_since is not None
        room = any(of_tenant[tenant_id] < OF_ONE_TENANT for tenant_id in one.tenants)
        if len(busy) + len(chosen) < AT_ONCE and room and not (fails and failing >= FAILING_AT_ONCE):
            chosen.append(one)
            failing += fails
            of_tenant.update(one.tenants)
    return chosen


def is_due(track: Track, now: datetime) -> bool:
    """Whether a log is to be looked at: it is time, or it would be longer than it can be by its settings."""
    if track.forked_at is not None:
        return False
    most = track.every if track.failing_since is None else max(LONGEST_WAIT, track.every)
    return track.next_at is None or track.next_at <= now or track.next_at > now + most


def after_failure(track: Track, now: datetime) -> datetime:
    """When to try again a log that has just failed: after as long as it has been failing, within bounds."""
    failing_for = now - (track.failing_since or now)
    return now + min(max(failing_for, min(FIRST_WAIT, track.every)), max(LONGEST_WAIT, track.every))


__all__ = ["Following", "after_failure", "choose", "is_due"]
