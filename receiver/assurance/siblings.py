"""A log and its siblings (`receiver.records.siblings`): what was seen of one, held against what is seen of the other.

Two URLs may show two histories under one key. Each is consistent in itself, and whoever follows only one sees nothing
wrong; but here the checkpoints of both are at hand. So before anything is believed under a checkpoint, and again at the
end of a round, it is compared with the last ones of its siblings:

    as many entries     at once: another root is a fork
    fewer               by hashes from the log's own tiles
    more                not now: by the round of the sibling, or once this log has as many

What was found to be its beginning stays so, for a log only continues: it is not compared again. A log whose hashes
cannot be had, or do not fit, cannot be compared, which is a failure like any other of it.

A fork, however it was found, is the fork of every log that its evidence is against under that log's own policy: all
these are frozen with it in one transaction, and one that has its first checkpoint later is as soon as that is verified.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import sqlalchemy as sa

from receiver.assurance import progress
from receiver.records.engine import Database
from receiver.records.siblings import known_fork, proven_against, shown_elsewhere
from translog.checkpoint import Checkpoint
from translog.errors import SignatureError
from translog.follower import State
from translog.fork import Fork
from translog.policy import Policy
from translog.remote import RemoteLog


class Siblings:
    """The siblings of one log, and which of their checkpoints were compared with its own."""

    def __init__(self, log_id: str, remote: RemoteLog, policy: Policy) -> None:
        """`remote` is the log's server, `policy` whose signatures count for it."""
        self._log_id = log_id
        self._remote = remote
        self._policy = policy
        self._settled: frozenset[bytes] = frozenset()

    async def fork(self, database: Database, state: State) -> Fork | None:
        """What proves that the log has forked, if its siblings show that; `state` is as it was kept last.

        Raises translog's errors if that cannot be told.
        """
        own = state.unverified_checkpoint()
        if own is None:
            return None
        known, shown = await asyncio.to_thread(self._read, database, own.origin)
        if known is not None:
            return known
        self._settled &= shown
        for note in shown - self._settled:
            other = self._signed(note)
            if other is not None and other.size > own.size:
                continue
            fork = None if other is None else await self._remote.compare(state, note)
            if fork is not None:
                return fork
            self._settled |= {note}
        return None

    def _read(self, database: Database, origin: str) -> tuple[Fork | None, set[bytes]]:
        with database.read() as tx:
            return known_fork(tx, self._policy, origin), shown_elsewhere(tx, self._log_id, origin)

    def _signed(self, note: bytes) -> Checkpoint | None:
        """The checkpoint, if the log has signed it: under that origin another key may be somebody else's."""
        with suppress(SignatureError):
            return self._policy.open_log(note)
        return None


def freeze(tx: sa.Connection, log_id: str, fork: Fork, now: datetime) -> Sequence[str]:
    """Note that a log has forked, and with it its siblings; the ids of those of which that is new.

    The evidence was verified for the log itself.
    """
    ids = sorted({log_id, *proven_against(tx, fork)})  # in one order everywhere: no two wait for one another
    return [one for one in ids if progress.freeze(tx, one, fork, now)]


__all__ = ["Siblings", "freeze"]
