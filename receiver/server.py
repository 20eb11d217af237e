"""The HTTP server: uvicorn, told to be quick, and not to wait for ever for a request's headers."""

import asyncio
import signal
import socket

import uvicorn
from litestar import Litestar
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.problems import CONTENT_TYPE, Problem

HEADERS_TIMEOUT = 10.0  # seconds from a connection's or a request's first byte to the end of its headers
MAX_HEADERS = 64 * 1024
GRACE = 10  # seconds for what is under way when the service is stopped


class BoundedHeaders(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the size of the headers and on the time they may take.

    Without it a connection that never ends its headers stays open, and 8 MB of them are taken.
    """

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_headers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADERS and not self.transport.is_closing():
            self._refuse(Problem(431, f"The headers of a request are at most {MAX_HEADERS} bytes"))

    def on_message_begin(self) -> None:
        self._begin_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_headers()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "This is not an HTTP request that can be read"))

    def _begin_headers(self) -> None:
        self._in_headers = True
        self._header_bytes = 0
        if self._timer is None:
            self._timer = self.loop.call_later(HEADERS_TIMEOUT, self._too_slow)

    def _end_headers(self) -> None:
        self._in_headers = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._refuse(Problem(408, f"The headers did not arrive within {HEADERS_TIMEOUT:g} seconds"))

    def _refuse(self, problem: Problem) -> None:
        body = problem.body
        head = (
            f"HTTP/1.1 {problem.status} \r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening


def _leave_to_uvicorn(number: int, frame: object) -> None:
    """Uvicorn raises the signal again once it has stopped; without a handler that would kill us with it."""


def serve(app: Litestar, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; what is under way is ended in order, then this returns."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedHeaders,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_to_uvicorn)
    uvicorn.Server(config).run(sockets=[listening])
