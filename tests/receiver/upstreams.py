r"""Upstreams as tests meet them: sockets on loopback that speak as badly as a test has it.

async with speaking(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as there, using() as upstream:
result = await upstream.send(there.url, outgoing())
"""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from receiver import providers
from receiver.relay.calls import Headers, Outgoing, prepare
from receiver.upstream import Answer, Result, Upstream

ID = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"
TARGET = f"/v1/receipts/{ID}/revoke"
PATIENCE = 10.0  # seconds for what must be answered
SOON = 1.0  # seconds for what never is


@dataclass
class Connection:
    """One connection to an upstream, and the bytes of the requests that came on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    came: list[bytes]

    async def request(self) -> bytes:
        """The next request, whole."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        self.came.append(head + body)
        return head + body

    async def say(self, *pieces: bytes) -> None:
        """Write these."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def close(self) -> None:
        """End it, and wait until the other side can see that."""
        self.writer.close()
        await self.writer.wait_closed()


@dataclass
class There:
    """A running upstream."""

    port: int
    came: list[bytes] = field(default_factory=list[bytes])
    """The requests, in order."""
    connections: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


Behaviour = Callable[[Connection], Awaitable[None]]


@asynccontextmanager
async def speaking(behave: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncGenerator[There]:
    """An upstream that deals so with each connection, and closes it then. In the end none may be open."""
    there = There(0)
    handlers: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        there.connections += 1
        try:
            await behave(Connection(reader, writer, there.came))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has gone
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    there.port = server.sockets[0].getsockname()[1]
    async with server:
        yield there
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*filter(None, handlers))


def answering(*pieces: bytes) -> Behaviour:
    """Read one request, say that, close."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.say(*pieces)

    return behave


async def silence(connection: Connection) -> None:
    """Take whatever comes, and say nothing until the other side is gone."""
    connection.came.append(await connection.reader.read())


def outgoing(*headers: tuple[bytes, bytes], body: bytes = b'{"reason":"r"}') -> Outgoing:
    """A call as it goes out, with an idempotency key of its own."""
    operation = providers.get("truthlocks").operation
    made = prepare(operation, {"id": ID}, ((b"idempotency-key", b"k"), *headers), body)
    assert made is not None
    return made


def ask(behave: Behaviour, call: Outgoing | None = None, patience: float = PATIENCE) -> tuple[Result, list[bytes]]:
    """What is known after one call to such an upstream, and the requests that came there."""

    async def main() -> tuple[Result, list[bytes]]:
        async with speaking(behave) as there, using(patience) as upstream:
            return await upstream.send(there.url, call or outgoing()), there.came

    return asyncio.run(main())


@asynccontextmanager
async def using(patience: float = PATIENCE) -> AsyncGenerator[Upstream]:
    """An upstream's client, closed in the end."""
    upstream = Upstream(patience)
    try:
        yield upstream
    finally:
        await upstream.aclose()


def told(behave: Behaviour, patience: float = PATIENCE) -> Result:
    """What is known after one call to such an upstream."""
    return ask(behave, patience=patience)[0]


def answer(status: int, headers: Headers = (), body: bytes = b"") -> Answer:
    """An answer that came whole."""
    return Answer(status, headers, body)
