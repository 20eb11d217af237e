"""The HTTP server: uvicorn, told to be quick, and not to wait for ever for a request's headers."""

import asyncio
import signal
import socket
from http import HTTPStatus
from typing import cast

import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.problems import CONTENT_TYPE, Problem

MAX_HEADERS = 64 * 1024
GRACE = 10  # seconds for what is under way when the service is stopped

_TOO_MANY_HEADERS = Problem(431, f"The headers of a request are at most {MAX_HEADERS} bytes")


class BoundedRequests(HttpToolsProtocol):
    """uvicorn's protocol with bounds on what a request may send besides its body, and on the time it may take.

    Without them a connection that never ends its headers or trailers stays open, and its memory grows as long as it
    sends. Trailers are not headers here: they come after all that could be decided by them. An upgrade is refused,
    since the parser would take the body for the other protocol's. The time is looked at once a second for all
    connections: a timer for each request would cost a twentieth of its time.
    """

    _awaited_since: float | None = None  # on the loop's clock, while a request, or its first byte, is outstanding
    _in_headers = True
    _besides = 0  # bytes since headers, a piece of body, or a whole request were complete
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._awaited_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        self._besides += len(data)
        super().data_received(data)
        if self._besides > MAX_HEADERS:
            self._refuse(_TOO_MANY_HEADERS)

    def on_message_begin(self) -> None:
        self._awaited_since = self.loop.time()
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        # What came with them may be body already: only their own sizes tell.
        if self._besides > MAX_HEADERS and sum(len(name) + len(value) for name, value in self.headers) > MAX_HEADERS:
            self._refuse(_TOO_MANY_HEADERS)
            return
        self._besides = 0
        if self.parser is not None and self.parser.should_upgrade():
            self._refuse(Problem(400, "This speaks HTTP/1.1 only, without upgrades or tunnels"))
            return
        super().on_headers_complete()
        self.headers = []  # the request has its own by now; what follows would be trailers

    def on_body(self, body: bytes) -> None:
        self._besides = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._awaited_since = None
        self._besides = 0
        if not self._refused:
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """It was answered, and is nothing to fill the log with."""

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "This is not an HTTP request that can be read"))

    def refuse_if_slow(self, limit: float) -> None:
        """End the connection if a request on it has been arriving for longer than `limit` seconds."""
        since = self._awaited_since
        if since is None or self.loop.time() - since <= limit:
            return
        if not self._in_headers and self.cycle.response_started:
            self.transport.close()  # it was answered without its body
        else:
            self._refuse(Problem(408, f"The request did not arrive within {limit:g} seconds"))

    def _refuse(self, problem: Problem) -> None:
        self._refused = True
        if self.transport.is_closing():
            return
        body = problem.body
        headers = {"content-type": CONTENT_TYPE, "content-length": str(len(body)), "connection": "close"}
        lines = [f"{name}: {value}" for name, value in (headers | problem.headers).items()]
        head = "\r\n".join([f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}", *lines, "", ""])
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


def make_server(app: ASGIApp, request_timeout: float) -> uvicorn.Server:
    """uvicorn, configured. `request_timeout` is how many seconds a request's headers and body may take to arrive;
    it is looked at once a second.
    """

    async def refuse_slow() -> None:
        for connection in cast("list[object]", list(server.server_state.connections)):
            if isinstance(connection, BoundedRequests):
                connection.refuse_if_slow(request_timeout)

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=BoundedRequests,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE,
            callback_notify=refuse_slow,
            timeout_notify=0,
        )
    )
    return server


def serve(app: ASGIApp, listening: socket.socket, request_timeout: float) -> None:
    """Serve until SIGTERM or SIGINT; what is under way is ended in order, then this returns."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_to_uvicorn)
    make_server(app, request_timeout).run(sockets=[listening])


def _leave_to_uvicorn(number: int, frame: object) -> None:
    """Uvicorn raises the signal again once it has stopped; without a handler that would kill us with it."""
