r"""What `translog follow` keeps: how far it has come, and the lines it wrote. Neither gap nor double, wherever it ends.

    FILE           the state: canonical JSON, replaced as a whole
    FILE.lock      locked while somebody follows with that state (flock: a process that dies lets go)
    FILE.fork      the evidence, once the log has forked; a copy of what the state holds from then on

    {"fork":null,"log":"translog-state@v1\nsize 5\n…","out":{"length":1432,"path":"/var/log/acme.jsonl"},"v":1}

Lines are on disk before the state says that they were written. So whatever is behind `length` in the file of lines was
written by a run that did not get to say so, and is taken away, also where the lines go elsewhere from then on: its
entries come again. On standard output nothing can be taken back: there the last chunk may come twice after a crash.
"""

import fcntl
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from translog.canonical import Value, decode, encode
from translog.errors import FormatError, TranslogError
from translog.follower import State
from translog.fork import Fork
from translog.guard import fsync_folder

__all__ = ["Kept", "LinesFile", "Sink", "StateFile", "UnwrittenError", "Written"]

_VERSION = 1


class UnwrittenError(Exception):
    """Lines or a state could not be written. The run is over: only the next one can put right what is left of them."""


@dataclass(frozen=True, slots=True)
class Written:
    """The file of lines: its path without symbolic links, and how many bytes of it are written for good."""

    path: str
    length: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What the state file holds. `fork` is final: with it, nothing is followed any more."""

    log: State
    fork: Fork | None = None
    out: Written | None = None

    @classmethod
    def parse(cls, data: bytes) -> "Kept":
        """What is kept in a file whose content is exactly `data`. Raises `FormatError` for anything else."""
        match decode(data):
            case {"fork": str() | None as fork, "log": str(log), "out": out, "v": int(version), **rest} if not rest:
                if version != _VERSION:
                    raise FormatError(f"version {version} is not known here, only {_VERSION}")
                state = State.parse(log.encode())
                kept = cls(state, None if fork is None else Fork.parse(fork.encode()), _written(out))
            case _:
                raise FormatError("it is JSON, but has not the members fork, log, out and v")
        if kept.encode() != data:  # which takes true for 1
            raise FormatError("its numbers are none")
        return kept

    def encode(self) -> bytes:
        """The content of the file."""
        out = None if self.out is None else {"length": self.out.length, "path": self.out.path}
        fork = None if self.fork is None else self.fork.encode().decode()
        return encode({"fork": fork, "log": self.log.encode().decode(), "out": out, "v": _VERSION})


def _written(out: Value) -> Written | None:
    match out:
        case None:
            return None
        case {"length": int(length), "path": str(path), **rest} if not rest and length >= 0:
            return Written(path, int(length))
        case _:
            raise FormatError("out has not the members length and path")


class StateFile:
    """The state file at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # or it would take the place of a link
        self.fork = self._beside("fork")

    def owns(self, path: Path) -> bool:
        """Whether a path leads to the state, or to a file beside it, by whatever name."""
        own = (self.path, self.fork, self._beside("lock"), self._beside("new"))
        return path.resolve() in own or any(_same_file(path, one) for one in own)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep all others from following with this state. Raises `TranslogError` if somebody does, or none can."""
        lock = self._beside("lock")
        try:
            file = lock.open("ab")
        except OSError as error:
            raise TranslogError(f"cannot write {lock}: {error.strerror}") from None
        with file:
            _lock(file, f"somebody else follows with the state {self.path}")
            yield

    def load(self) -> Kept | None:
        """What is kept; None if there is no such file. Raises `TranslogError` if it cannot be read, or is none."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TranslogError(f"cannot read {self.path}: {error.strerror}") from None
        try:
            return Kept.parse(data)
        except FormatError as error:
            raise FormatError(f"{self.path} is no state of `translog follow`: {error}") from error

    def save(self, kept: Kept) -> None:
        """Keep that. When this returns it is durable. Raises `UnwrittenError`."""
        self._replace(self.path, kept.encode())

    def save_fork(self, fork: Fork) -> None:
        """Have the evidence beside the state, for whoever is to be shown it. Raises `UnwrittenError`."""
        self._replace(self.fork, fork.encode())

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _replace(self, path: Path, data: bytes) -> None:
        # A crash before the rename leaves the old file, which is still true.
        fresh = self._beside("new")
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            fsync_folder(path.parent)
        except OSError as error:
            raise UnwrittenError(f"cannot write {path}: {error.strerror}") from None


class Sink(Protocol):
    """Where lines go."""

    def write(self, lines: Iterable[bytes]) -> None:
        """Write lines, each with its newline; when this returns they are where they belong. Raises `UnwrittenError`."""
        ...

    @property
    def written(self) -> Written | None:
        """What the state has to say of it."""
        ...


class LinesFile:
    """Lines at the end of a file. When `write` returns they are durable."""

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path, kept: Written | None) -> Generator["LinesFile"]:
        """Open the file at `path`, made if it is new, and take away what `kept` does not know of.

        Another file than the one of `kept` gets the new lines behind what it has. Raises `TranslogError` if somebody
        else writes it, if it is no regular file, or if lines are missing from it.
        """
        path = path.resolve()
        name = _name(path)
        written = kept.length if kept is not None and kept.path == name else None
        try:
            if path.exists() and not path.is_file():
                raise TranslogError(f"{path} is no file; for a pipe, leave out --out and take standard output")
            if written and not path.exists():
                raise _missing(path, 0, written)
            path.touch()
            file = path.open("r+b")
        except OSError as error:
            raise TranslogError(f"cannot write {path}: {error.strerror}") from None
        try:
            _lock(file, f"somebody else writes {path}")
            length = file.seek(0, os.SEEK_END)
            if written is not None:
                if length < written:
                    raise _missing(path, length, written)
                file.truncate(written)
                file.seek(written)
            fsync_folder(path.parent)
            yield cls(file, name)
        finally:
            with suppress(OSError):  # what could not be written before cannot be now, and counts for nothing
                file.close()

    @staticmethod
    def leave(kept: Written, path: Path | None) -> None:
        """Take away what `kept` does not know of, before its file is left for the one at `path`, or standard output.

        Those entries come again, in the other. A file that is gone, or shorter, stays as it is. Raises `TranslogError`
        if somebody else writes it.
        """
        left = Path(kept.path)
        if (path is not None and _name(path.resolve()) == kept.path) or not left.is_file():
            return
        try:
            with left.open("r+b") as file:
                _lock(file, f"somebody else writes {left}")
                if file.seek(0, os.SEEK_END) > kept.length:
                    file.truncate(kept.length)
                    os.fsync(file.fileno())
        except OSError as error:
            raise TranslogError(f"cannot write {left}: {error.strerror}") from None

    def write(self, lines: Iterable[bytes]) -> None:
        """Write lines, durably. Raises `UnwrittenError`; what is left of them then, the next `open` takes away."""
        try:
            self._file.writelines(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UnwrittenError(f"cannot write {self._path}: {error.strerror}") from None

    @property
    def written(self) -> Written:
        """The file as it is now."""
        return Written(self._path, self._file.tell())


def _name(path: Path) -> str:
    """A path as the state has it."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _same_file(path: Path, other: Path) -> bool:
    """Whether both are there, and one file: there are hard links."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def _missing(path: Path, length: int, written: int) -> TranslogError:
    return TranslogError(
        f"{path} has {length} bytes, and {written} were written: lines are missing. Put it back, or name another "
        "--out, which will go on where this one ended"
    )


def _lock(file: IO[bytes], taken: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TranslogError(taken) from None
    except OSError as error:
        raise TranslogError(f"cannot lock {file.name}: {error.strerror}") from None
