"""What the files of exports hold: whether they are still what was written, before they are given out.

    await checked.look(path)                    read it, unless that was done
    checked.has(file, sha256)                   whether what was read is that

A file is given out under the hash that its row has. A disk that returns other bytes, or whoever writes into the folder,
would make that a lie, which each reader would have to find out for themselves. So a file is read from end to end once
before its first byte goes out, and again when it is another one by its number, its time or its size. That is remembered
by this process alone.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeAlias

PIECE = 8 * 1024 * 1024
"""Bytes that are read at once: between two pieces whoever waits for this can stop."""

REMEMBERED = 1000
"""Files, the most recently read."""

_State: TypeAlias = tuple[int, int, int, int]
"""By which a file is known: the disk's number and its own, when it was written to (nanoseconds), and its size."""


class Checked:
    """The files that were read, and their SHA-256."""

    def __init__(self) -> None:
        self._found: dict[_State, bytes] = {}
        self._reading = asyncio.Lock()

    async def look(self, path: Path) -> None:
        """Read that file, if it is there and was not read as it is now; one at a time. Raises OSError."""
        async with self._reading:
            try:
                file = await asyncio.to_thread(path.open, "rb")
            except FileNotFoundError:
                return
            with file:
                state = _state(file)
                if state in self._found:
                    return
                sha256 = hashlib.sha256()
                while await asyncio.to_thread(_take, file, sha256.update):
                    pass
                if _state(file) == state:  # else nobody knows what was read
                    self._remember(state, sha256.digest())

    def has(self, file: BinaryIO, sha256: bytes) -> bool:
        """Whether an open file was read as it is now, and has that hash."""
        return self._found.get(_state(file)) == sha256

    def _remember(self, state: _State, sha256: bytes) -> None:
        self._found[state] = sha256
        while len(self._found) > REMEMBERED:
            del self._found[next(iter(self._found))]


def _take(file: BinaryIO, update: Callable[[bytes], None]) -> bool:
    piece = file.read(PIECE)
    update(piece)
    return bool(piece)


def _state(file: BinaryIO) -> _State:
    told = os.fstat(file.fileno())
    return told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size
