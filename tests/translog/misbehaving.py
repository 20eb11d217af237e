"""A log behind a real HTTP server on loopback, and whatever such a server may do wrong.

with serving(Simulated(entries)) as server:
    server.when("tile/0/", changed(lambda data: data[::-1]))       # every tile of level 0, until told otherwise
    server.when("checkpoint", status(503), times=2)                # the first two answers, then well again
    server.log = server.log.forked(7)                              # from now on, another history

What is asked for is in `server.asked`. Every answer is honest unless a fault is on.
"""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

from tests.translog import reference
from tests.translog.samples import KEY
from translog import merkle, note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError
from translog.merkle import HASH_SIZE
from translog.note import SigningKey
from translog.tiles import (
    TILE_WIDTH,
    Bundle,
    Resource,
    Tile,
    decode_bundle,
    encode_bundle,
    hash_reader,
    parse_path,
    width_at,
)

PREFIX = "/log"
PATIENCE = 30.0  # seconds for what must happen


@dataclass(frozen=True)
class Simulated:
    """A log of these entries, all of it in memory. Its key's name is its origin."""

    entries: tuple[bytes, ...]
    key: SigningKey = KEY

    @classmethod
    def of(cls, size: int) -> "Simulated":
        """The log of `reference.numbered` entries."""
        return cls(reference.numbered(size))

    @property
    def size(self) -> int:
        """How many entries it has."""
        return len(self.entries)

    @cached_property
    def rows(self) -> list[bytes]:
        """For each level of tiles all its hashes."""
        hashes = [merkle.leaf_hash(entry) for entry in self.entries]
        rows: list[bytes] = []
        while hashes:
            rows.append(b"".join(hashes))
            whole = len(hashes) - len(hashes) % TILE_WIDTH
            hashes = [merkle.root_from_leaves(hashes[at : at + TILE_WIDTH]) for at in range(0, whole, TILE_WIDTH)]
        return rows

    def root(self, size: int | None = None) -> bytes:
        """The root over all entries, or over the first `size`."""

        def read(wanted: Sequence[Tile]) -> list[bytes]:
            return list(self.resources(wanted).values())

        return merkle.tree_root(self.size if size is None else size, hash_reader(self.size, read))

    def checkpoint(self, size: int | None = None, *keys: SigningKey) -> bytes:
        """The checkpoint of that size, or of all, signed by the log's key unless others are given."""
        size = self.size if size is None else size
        return note.sign(Checkpoint(self.key.name, size, self.root(size)).text, *(keys or (self.key,)))

    def forked(self, at: int, size: int | None = None) -> "Simulated":
        """The log as it would be with another entry at `at`, and of another size if one is given."""
        entries = reference.numbered(self.size if size is None else size)
        return replace(self, entries=(*entries[:at], b"another entry", *entries[at + 1 :]))

    def resource(self, wanted: Resource) -> bytes | None:
        """A tile or a bundle of any width that the log has reached."""
        if wanted.width > width_at(wanted.level if isinstance(wanted, Tile) else 0, wanted.index, self.size):
            return None
        start = wanted.index * TILE_WIDTH
        if isinstance(wanted, Bundle):
            return encode_bundle(self.entries[start : start + wanted.width])
        return self.rows[wanted.level][start * HASH_SIZE :][: wanted.width * HASH_SIZE]

    def resources(self, wanted: Iterable[Resource]) -> dict[Resource, bytes]:
        """These, of which it must have each."""
        found = {one: self.resource(one) for one in wanted}
        return {one: data for one, data in found.items() if data is not None}


Say = Callable[[bytes], Awaitable[None]]
Answering = Callable[[bytes | None, Say], Awaitable[None]]
"""Answers one request, given what an honest log has there (None: nothing) and how bytes are sent.

The connection is kept open for another one, unless `ConnectionError` is raised.
"""


@dataclass
class Server:
    """A running server. All of it can be changed at any time, from any thread."""

    log: Simulated
    checkpoint: bytes | None = None
    """Given instead of the log's newest."""
    port: int = 0
    asked: list[str] = field(default_factory=list[str])
    """The paths below the prefix, in order."""
    heads: list[bytes] = field(default_factory=list[bytes])
    """The heads of these requests, as they came."""
    handlers: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    """One for each connection there was."""
    _faults: list[tuple[str, Answering, list[None] | None]] = field(
        default_factory=list[tuple[str, Answering, list[None] | None]]
    )

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self.handlers)

    @property
    def url(self) -> str:
        """The log's prefix."""
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def when(self, prefix: str, answering: Answering, times: int | None = None) -> None:
        """Answer what begins with `prefix` so; so many times only, or until `well`. The last told comes first."""
        self._faults.insert(0, (prefix, answering, None if times is None else [None] * times))

    def well(self) -> None:
        """No faults any more."""
        self._faults.clear()

    async def answer(self, path: str, say: Say) -> None:
        """Answer a request for a path below the prefix."""
        honest = self._honest(path)
        for prefix, answering, left in self._faults:
            if path.startswith(prefix) and left != []:
                if left is not None:
                    left.pop()
                await answering(honest, say)
                return
        await honestly(honest, say)

    def _honest(self, path: str) -> bytes | None:
        if path == "checkpoint":
            return self.checkpoint or self.log.checkpoint()
        try:
            return self.log.resource(parse_path(path))
        except FormatError:
            return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""

        async def say(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        task = asyncio.current_task()
        assert task is not None
        self.handlers.append(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                assert method == "GET"
                assert target.startswith(f"{PREFIX}/")
                path = target.removeprefix(f"{PREFIX}/")
                self.asked.append(path)
                self.heads.append(head)
                await self.answer(path, say)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one side or the other has ended it
        finally:
            writer.close()


@contextmanager
def serving(log: Simulated) -> Generator[Server]:
    """A server of that log, in a thread of its own."""
    server = Server(log)
    running = threading.Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        running.set()
        async with listening:
            await stopped.wait()
        for handler in server.handlers:
            handler.cancel()
        await asyncio.gather(*server.handlers, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert running.wait(PATIENCE)
    try:
        yield server
    finally:
        stop[0]()
        thread.join(PATIENCE)
        assert not thread.is_alive()


# ---- answers ------------------------------------------------------------------------------------------------------


async def honestly(honest: bytes | None, say: Say) -> None:
    """What there is, or 404."""
    await say(_response(404, b"there is nothing") if honest is None else _response(200, honest))


async def compressed(honest: bytes | None, say: Say) -> None:
    """What there is, by gzip."""
    assert honest is not None
    await say(_response(200, gzip.compress(honest), b"content-encoding: gzip\r\n"))


async def silently(honest: bytes | None, say: Say) -> None:
    """Nothing, ever."""
    await asyncio.Event().wait()


async def dripping(honest: bytes | None, say: Say) -> None:
    """What there is, a byte at a time, and slowly."""
    assert honest is not None
    await _drip(_response(200, honest), say)


async def dripping_head(honest: bytes | None, say: Say) -> None:
    """Headers without end, slowly."""
    await say(b"HTTP/1.1 200 OK\r\n")
    while True:
        await _drip(b"x-header: value\r\n", say)


async def endlessly(honest: bytes | None, say: Say) -> None:
    """A body without end, as fast as it is taken."""
    await say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    async for piece in _pieces():
        await say(b"%x\r\n%s\r\n" % (len(piece), piece))


async def breaking_off(honest: bytes | None, say: Say) -> None:
    """The first half of the body that was announced."""
    assert honest is not None
    await say(_response(200, honest)[: -len(honest) // 2])
    raise ConnectionError


async def garbage(honest: bytes | None, say: Say) -> None:
    """What is no HTTP."""
    await say(b"\x15\x03\x01\x00\x02\x02\x16 what is this\r\n\r\n")
    raise ConnectionError


async def bomb(honest: bytes | None, say: Say) -> None:
    """64 MiB of zeros in 64 KiB of gzip."""
    await say(_response(200, _bomb(), b"content-encoding: gzip\r\n"))


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(2**26))


async def endless_gzip(honest: bytes | None, say: Say) -> None:
    """Gzip without end of which nothing comes out: empty members of a deflate stream."""
    await say(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n")
    await say(b"a\r\n" + gzip.compress(b"")[:10] + b"\r\n")
    piece = b"\x00\x00\x00\xff\xff" * 1000  # stored blocks of no bytes
    while True:
        await say(b"%x\r\n%s\r\n" % (len(piece), piece))


def status(code: int, *headers: bytes, body: bytes = b"no") -> Answering:
    """An answer of that status, with header lines."""

    async def answering(honest: bytes | None, say: Say) -> None:
        await say(_response(code, body, b"".join(header + b"\r\n" for header in headers)))

    return answering


def changed(change: Callable[[bytes], bytes], *headers: bytes) -> Answering:
    """What there is, changed on its way."""

    async def answering(honest: bytes | None, say: Say) -> None:
        assert honest is not None
        await say(_response(200, change(honest), b"".join(header + b"\r\n" for header in headers)))

    return answering


def _response(code: int, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Said\r\n%scontent-length: %d\r\n\r\n%s" % (code, headers, len(body), body)


async def _drip(data: bytes, say: Say) -> None:
    for at in range(len(data)):
        await say(data[at : at + 1])
        await asyncio.sleep(0.01)


async def _pieces() -> AsyncIterator[bytes]:
    while True:
        yield bytes(2**16)


# ---- changes ------------------------------------------------------------------------------------------------------


def flipped(data: bytes) -> bytes:
    """One bit is another, in the middle."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def flipped_at_the_end(data: bytes) -> bytes:
    """One bit is another, in the last byte: of a bundle, in an entry."""
    return data[:-1] + bytes([data[-1] ^ 1])


def zeros(data: bytes) -> bytes:
    """As long, and nothing in it."""
    return bytes(len(data))


def swapped(first: int, second: int) -> Callable[[bytes], bytes]:
    """Of a bundle, two entries are in one another's place."""

    def change(data: bytes) -> bytes:
        entries = decode_bundle(data)
        entries[first], entries[second] = entries[second], entries[first]
        return encode_bundle(entries)

    return change


def shortened(data: bytes) -> bytes:
    """The last byte is missing."""
    return data[:-1]


def of_width(width: int) -> Callable[[bytes], bytes]:
    """Of a tile, the first so many hashes, or zeros behind them."""
    return lambda data: data[: width * HASH_SIZE].ljust(width * HASH_SIZE, b"\0")
