"""Where a sandbox delivers to in tests: a real HTTP server on loopback that keeps what comes, and answers as told.

with inbox() as there:
there.answers = lambda delivery: 503 if there.count(delivery.id) == 1 else 204
…
until(lambda: there.taken)
"""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came once: header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Its id, of a delivery that is signed as Standard Webhooks says."""
        return self.headers["webhook-id"]


@dataclass
class Inbox:
    """What came, and what is said to it."""

    url: str
    answers: Callable[[Delivery], int] = lambda _: 204
    """The status for a delivery that has just come, and is among those that did."""
    location: str = ""
    came: list[Delivery] = field(default_factory=list[Delivery])
    taken: list[Delivery] = field(default_factory=list[Delivery])
    """Those that were answered with a 2xx."""

    def count(self, message_id: str) -> int:
        """How often the delivery of that id came."""
        return sum(delivery.id == message_id for delivery in self.came)

    def bodies(self) -> list[bytes]:
        """What was taken, each body once, sorted: deliveries come in any order, and may come twice."""
        return sorted({delivery.body for delivery in self.taken})


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    inbox: Inbox


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        """Keep it, then answer."""
        inbox = self.server.inbox
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        delivery = Delivery(self.path, headers, body)
        inbox.came.append(delivery)
        status = inbox.answers(delivery)
        if 200 <= status < 300:
            inbox.taken.append(delivery)
        self.send_response(status)
        if inbox.location:
            self.send_header("location", inbox.location)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (named so by the library)
        """Nothing: tests look at what came."""


@contextmanager
def inbox(port: int = 0) -> Generator[Inbox]:
    """An inbox, on that port or a free one, for as long as the block lasts."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.inbox = Inbox(f"http://127.0.0.1:{server.server_port}/webhooks/here")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="inbox")
    thread.start()
    try:
        yield server.inbox
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
