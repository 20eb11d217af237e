"""The tasks of a verification, done by several processes for a large bundle and by this one for a small.

    with Workers(archive, context, processes) as workers:
        for found in workers.run(check_chunk, chunks):

Each process opens the file for itself, makes sure that it is the same, and remembers what it has read of leaves' facts
from task to task. Tasks are begun in their order and their results come in it, so that what is wrong first is told
first, whoever found it. Only so many are under way, or wait to be looked at: what is in memory is bounded.
"""

import gc
import hashlib
import multiprocessing
import signal
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from translog.bundle import chunks
from translog.bundle.archive import Archive, Member
from translog.bundle.chunks import Chunk, Context
from translog.bundle.leaves import Reader
from translog.bundle.sums import Found
from translog.errors import TranslogError

__all__ = ["Hashed", "Side", "Workers", "check_chunk", "hash_member"]

_AHEAD = 32
"""Tasks that may be under way or waiting to be looked at, for each process."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Side(NamedTuple):
    """What every task is given besides its own: the open file, what is asked, and a memory of leaves' facts."""

    archive: Archive
    context: Context
    reader: Reader


class Hashed(NamedTuple):
    """A member, read from end to end: its SHA-256 in hex, and its CRC-32."""

    member: Member
    sha256: str
    crc: int


def hash_member(side: Side, member: Member) -> Hashed:
    """A task: read all of a member."""
    sha256, crc = hashlib.sha256(), 0
    for block in side.archive.blocks(member.start, member.end):
        sha256.update(block)
        crc = zlib.crc32(block, crc)
    return Hashed(member, sha256.hexdigest(), crc)


def check_chunk(side: Side, chunk: Chunk) -> Found:
    """A task: check a chunk."""
    return chunks.check(side.archive, side.context, chunk, side.reader)


class Workers:
    """Processes that do tasks, or only this one."""

    def __init__(self, archive: Archive, context: Context, processes: int) -> None:
        self._side = Side(archive, context, Reader())
        self._ahead = _AHEAD * processes
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            # Not forked: whoever calls this may have threads, and a copy of their locks would never be released.
            self._pool = ProcessPoolExecutor(
                processes,
                multiprocessing.get_context("spawn"),
                _begin,
                (archive.path.resolve(), archive.state, context),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, task: Callable[[Side, _In], _Out], inputs: Iterable[_In]) -> Iterator[_Out]:
        """What the task gives for each input, in order. Raises what it raises, once that is its turn.

        Other processes begin at once, whenever the results are asked for.
        """
        if self._pool is None:
            return (task(self._side, one) for one in inputs)
        begun = (self._pool.submit(_do, task, one) for one in inputs)
        with _whole():
            return _results(deque(islice(begun, self._ahead)), begun)


def _results(waiting: deque[Future[_Out]], others: Iterator[Future[_Out]]) -> Iterator[_Out]:
    """The results of tasks that have begun; for each that is there, one of the others begins."""
    while waiting:
        with _whole():
            result = waiting.popleft().result()
            waiting.extend(islice(others, 1))
        yield result


@contextmanager
def _whole() -> Generator[None]:
    """Without one of its processes, nothing more comes from the others."""
    try:
        yield
    except BrokenProcessPool:
        raise TranslogError(
            "a process that verifies was ended from outside; there may be too little memory: verify again"
        ) from None


_side: Side | None = None


def _begin(path: Path, state: tuple[int, ...], context: Context) -> None:
    """What a process does first."""
    global _side  # noqa: PLW0603  a process has one bundle to work on
    gc.disable()  # nothing here makes cycles, and looking for some takes a tenth of the time
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started this
    _side = Side(_opened(path, state), context, Reader())


def _opened(path: Path, state: tuple[int, ...]) -> Archive:
    archive = Archive.open(path)
    archive.check_unchanged(state)
    return archive


def _do(task: Callable[[Side, _In], _Out], one: _In) -> _Out:
    assert _side is not None  # noqa: S101  `_begin` has run
    return task(_side, one)
