r"""`translog follow`: the entries of a log as they come, each proven, as lines of JSON.

    {"index":3,"leaf_hash":"9cd8…","entry":"eyJh…","text":"{\"account\":…"}

`entry` is base64; `text` is there if the entry is UTF-8 that can be shown: printable characters, tabs and newlines.

One round after another: fetch the checkpoint, read what is new (`translog.remote`), write it, keep the state
(`translog.cli.keeping`), wait. What fails in a round is said, and tried again in the next: a server that is down, or
gives what does not verify, has not forked. A fork ends it for good.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import stamina.instrumentation

from translog.canonical import to_base64
from translog.cli.keeping import Kept, LinesFile, Sink, StateFile, UnwrittenError
from translog.cli.telling import UsageError, drop_output, printable
from translog.errors import FormatError, TranslogError
from translog.follower import Behind, Current, Follower, Forked, Read, State
from translog.fork import Fork
from translog.merkle import leaf_hash
from translog.policy import Policy
from translog.remote import RemoteLog

__all__ = ["FORKED", "Following", "follow"]

FORKED = 2
"""The exit code once the log has forked."""

_INTERRUPTED = 128 + signal.SIGINT  # as a shell says it


@dataclass(frozen=True, slots=True)
class Following:
    """What to follow, and how."""

    url: str
    policy: Policy
    state: Path
    out: Path | None
    """None: lines go to standard output."""
    every: float | None
    """Seconds from one round to the next; None for a single one."""
    start: int
    """Index of the first entry to read, while nothing was followed yet."""


def follow(following: Following) -> int:
    """Follow a log until it forks, until SIGINT or SIGTERM, or for one round; gives the exit code.

    0 after the round or SIGTERM, 130 after SIGINT, 1 if the round failed or the lines cannot be written, 2 for a fork.
    Raises `UsageError` for a URL that is none, and for an `out` that is the state; `TranslogError` for files that
    cannot be used.
    """
    try:
        log = RemoteLog(following.url, following.policy)
    except FormatError as error:
        raise UsageError(str(error)) from None
    file = StateFile(following.state)
    if following.out is not None and file.owns(following.out):
        raise UsageError(f"--out: {following.out} belongs to the state")
    stamina.instrumentation.set_on_retry_hooks(())  # they write where the lines go; what fails for good is told here
    with _Signals() as signals, file.locked():
        kept = file.load() or Kept(State())
        if kept.fork is not None:
            return _forked(file, kept.fork)
        Follower(following.policy, kept.log)  # raises if the log that is kept is none of the policy's
        if kept.out is not None:
            LinesFile.leave(kept.out, following.out)
        with _sink(following.out, kept, signals) as sink:
            run = _Run(following, log, file, sink)
            try:
                # From here on the state knows how long the file of lines is, or a crash could leave some twice.
                run.keep(kept.log)
                return asyncio.run(signals.guarded(run))
            except UnwrittenError as error:
                print(f"translog follow: {printable(str(error))}", file=sys.stderr)
                return 1
    return signals.code


def _sink(out: Path | None, kept: Kept, signals: "_Signals") -> AbstractContextManager[Sink]:
    return nullcontext(_StandardOutput(signals)) if out is None else LinesFile.open(out, kept.out)


class _Run:
    """One run: rounds, and what is kept after each chunk."""

    def __init__(self, following: Following, log: RemoteLog, file: StateFile, sink: Sink) -> None:
        self._following = following
        self._log = log
        self._file = file
        self._sink = sink
        self._state = State()
        self._said = ""

    def keep(self, state: State, fork: Fork | None = None) -> None:
        """Keep how far the log was followed, and how long the file of lines is."""
        self._file.save(Kept(state, fork, self._sink.written))
        self._state = state

    async def rounds(self) -> int:
        """Go round until the end; gives the exit code."""
        every = self._following.every
        async with self._log:
            while True:
                try:
                    fork = await self._round()
                except TranslogError as error:
                    self._say(str(error))
                    code = 1
                else:
                    if fork is not None:
                        return _forked(self._file, fork)
                    code = 0
                if every is None:
                    return code
                await asyncio.sleep(every)

    async def _round(self) -> Fork | None:
        """Write what is new. The evidence, if the log has forked."""
        if self._following.start and not self._state.size:
            # Of one checkpoint after another it is known, too, while they are waited for, that the log only grew.
            fork = await self._read(entries=False)
            if fork is not None:
                return fork
            await self._begin()
        return await self._read()

    async def _read(self, *, entries: bool = True) -> Fork | None:
        async with aclosing(self._log.follow(self._state, entries=entries)) as steps:
            async for step in steps:
                match step:
                    case Read():
                        self._sink.write(_lines(step))
                        self.keep(step.state)
                    case Behind(size):
                        self._say(f"the server shows an older checkpoint, of {size} entries; nothing is new in that")
                        return None
                    case Forked(fork):
                        try:
                            self.keep(self._state, fork)
                        except UnwrittenError as error:  # it is told all the same
                            self._say(str(error))
                        return fork
                    case Current():
                        if entries:
                            self._said = ""
        return None

    async def _begin(self) -> None:
        """Leave out the entries before the first that was asked for."""
        start, state = self._following.start, self._state
        checkpoint = state.unverified_checkpoint()
        if state.note is None or checkpoint is None:
            raise TranslogError("the log has no checkpoint as yet that the policy accepts")
        if start > checkpoint.size:
            raise TranslogError(f"the log has {checkpoint.size} entries as yet, and the first to be read is {start}")
        self.keep(replace(await self._log.state_at(start, state.note), unproven=state.unproven))

    def _say(self, message: str) -> None:
        """Tell what went wrong, once as long as it is the same."""
        if message != self._said:
            print(f"translog follow: {printable(message)}", file=sys.stderr, flush=True)
            self._said = message


def _lines(read: Read) -> Iterator[bytes]:
    for index, entry in enumerate(read.entries, read.start):
        line: dict[str, int | str] = {"index": index, "leaf_hash": leaf_hash(entry).hex(), "entry": to_base64(entry)}
        if (text := _text(entry)) is not None:
            line["text"] = text
        yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text(entry: bytes) -> str | None:
    """The entry, if it is text that can be shown."""
    try:
        text = entry.decode()
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").replace("\t", "").isprintable() else None


def _forked(file: StateFile, fork: Fork) -> int:
    """Tell of a fork that the state holds, with its evidence beside it."""
    smaller, larger = fork.unverified_heads()
    where = f"the evidence is in {file.fork}, for `translog verify`"
    try:
        file.save_fork(fork)
    except UnwrittenError as error:
        where = f"the evidence is not beside the state: {error}"
    print(
        f"translog follow: FORKED: the log {printable(smaller.origin)} signed two checkpoints that cannot both be of "
        f"one log, of {smaller.size} and of {larger.size} entries; {printable(where)}",
        file=sys.stderr,
    )
    return FORKED


class _StoppedError(BaseException):
    """A signal came where there is no task to cancel, or where it would have to wait."""


class _Signals:
    """A context that SIGINT and SIGTERM end: between two chunks, or within a write if that waits for its reader."""

    def __init__(self) -> None:
        self.code = 0
        """The exit code after the signal that came."""
        self.writing = False
        """Whether lines are being written to where somebody has to read them."""
        self._task: asyncio.Task[int] | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._came) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        return isinstance(error, _StoppedError | asyncio.CancelledError)

    async def guarded(self, run: _Run) -> int:
        """All rounds of a run."""
        self._task = asyncio.current_task()
        return await run.rounds()

    def _came(self, number: int, frame: FrameType | None) -> None:
        self.code = _INTERRUPTED if number == signal.SIGINT else 0
        if self._task is None or self.writing:
            raise _StoppedError
        if not self._task.done():
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)


class _StandardOutput:
    """Lines on standard output. What becomes of them there is not known."""

    written = None

    def __init__(self, signals: _Signals) -> None:
        self._signals = signals

    def write(self, lines: Iterable[bytes]) -> None:
        """Write lines, which takes as long as whoever reads them likes."""
        self._signals.writing = True
        try:
            sys.stdout.buffer.writelines(lines)
            sys.stdout.buffer.flush()
        except (OSError, _StoppedError) as error:
            drop_output()
            if isinstance(error, _StoppedError):
                raise
            raise UnwrittenError(f"nobody takes the lines: {error.strerror}") from None
        finally:
            self._signals.writing = False
