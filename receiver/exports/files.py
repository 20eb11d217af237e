"""Giving a file out over HTTP: whole, or the one range of bytes that is asked for (RFC 9110 section 14).

Several ranges at once, and other units than bytes, are not given: then the answer is the whole file, as it is if
`If-Range` names another content than this. The file is read in pieces, in threads, and no faster than it is taken.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import BinaryIO

from litestar.types import Receive, Scope, Send

PIECE = 256 * 1024
"""Bytes that are read at once."""

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class UnsatisfiableError(Exception):
    """None of the bytes that were asked for are in the file."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes [start, stop) of a file."""

    start: int
    stop: int


def part_of(wanted: str | None, if_range: str | None, etag: str, size: int) -> Part | None:
    """What of a file of `size` bytes the headers `Range` and `If-Range` ask for; None: all of it.

    Raises UnsatisfiableError. `etag` is the file's, with its quotes.
    """
    if wanted is None or (if_range is not None and if_range != etag):
        return None
    match = _RANGE.fullmatch(wanted)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:  # the last so many
        start, stop = max(0, size - int(last)), size
    elif last and int(last) < int(first):
        return None  # that is no range (section 14.1.2)
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if start >= stop:
        raise UnsatisfiableError
    return Part(start, stop)


class FileAnswer:
    """An ASGI application that sends an open file, or a part of it, and closes it. To HEAD the body stays unsent."""

    def __init__(self, file: BinaryIO, size: int, part: Part | None, headers: tuple[tuple[str, str], ...]) -> None:
        """`size` is the file's, `headers` are those of the answer besides its length and range."""
        self._file = file
        self._part = part or Part(0, size)
        self._status = 200 if part is None else 206
        length = self._part.stop - self._part.start
        its_own = [("accept-ranges", "bytes"), ("content-length", str(length))]
        if part is not None:
            its_own.append(("content-range", f"bytes {part.start}-{part.stop - 1}/{size}"))
        self._headers = [(name.encode(), value.encode()) for name, value in (*headers, *its_own)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
            left = self._part.stop - self._part.start
            if scope["type"] == "http" and scope["method"] == "HEAD":
                left = 0
            await asyncio.to_thread(self._file.seek, self._part.start)
            while left and not gone.done():
                piece = await asyncio.to_thread(self._file.read, min(PIECE, left))
                if not piece:
                    raise OSError("the file became shorter while it was given out")
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._file.close()


async def _gone(receive: Receive) -> None:
    """Return once nobody is there any more to take an answer: what is sent then goes nowhere."""
    while (await receive())["type"] != "http.disconnect":
        pass
