"""The service as tests meet it: the real application behind the real server, on a free loopback port, in a thread.

    with running(settings) as service:
        sender = service.add_source()
        answer = sender.post(revoked())

A `Sender` is the provider's end of a source: it signs as Standard Webhooks says, from the document and not from our
verifier. Where an HTTP library cannot send what a test needs, `Service.exchange` writes bytes to a socket.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import sqlalchemy as sa
import uvicorn

from receiver.app import create_app
from receiver.events import parse_time
from receiver.intake.endpoints import Endpoint
from receiver.intake.hotpath import HotPath
from receiver.intake.service import Intake
from receiver.metrics import Metrics
from receiver.publishing import Publisher
from receiver.records.apikeys import Uses, create_key, parse_scopes
from receiver.records.opening import Records, Tenant
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import deliveries
from receiver.server import listen, make_server
from receiver.settings import Settings, load
from tests.backups import begin
from translog.evidence import Leaf
from translog.store import entries

T = TypeVar("T")

ORIGIN = "example.com/rescind"
ACCOUNT = "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10"
REVOKED_AT = "2026-11-20T08:59:58Z"
PATIENCE = 60.0  # seconds until a test no longer waits for what must come

_names = itertools.count(1)


def receipt_id() -> str:
    """A receipt's id that no test had before."""
    return str(uuid.uuid4())


def revoked(receipt: str | None = None, **members: object) -> bytes:
    """The body of a `receipt.revoked`; `members` are added, or stand in for those of that name."""
    document = {
        "event_type": "receipt.revoked",
        "receipt_id": receipt or receipt_id(),
        "receipt_type": "payment_receipt",
        "tenant_id": ACCOUNT,
        "revoked_at": REVOKED_AT,
    }
    return json.dumps({**document, **members}).encode()


def standard_headers(secret: str, body: bytes, at: float | None = None) -> dict[str, str]:
    """The three headers of Standard Webhooks for this body, sent at that time or now, under a `whsec_` secret."""
    message_id, timestamp = f"msg_{uuid.uuid4().hex}", str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as bytes, which the HTTP library sends as they are."""
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


@dataclass(frozen=True, slots=True)
class Sender:
    """The provider's end of a source."""

    service: "Service"
    source_id: str
    secret: str

    @property
    def path(self) -> str:
        """Where it delivers to."""
        return f"/webhooks/{self.source_id}"

    def headers(self, body: bytes, at: float | None = None) -> dict[str, str]:
        """What it signs a body with."""
        return standard_headers(self.secret, body, at)

    def post(self, body: bytes, headers: Mapping[str, str] | None = None, at: float | None = None) -> httpx2.Response:
        """Deliver: signed, and with these headers added or replaced."""
        sent = {"content-type": "application/json", **self.headers(body, at), **(headers or {})}
        return self.service.client.post(self.path, content=body, headers=sent)

    def request(self, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """A delivery as bytes on the wire, after which the connection is closed."""
        sent = {"connection": "close", "content-length": str(len(body)), **self.headers(body), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        return f"POST {self.path} HTTP/1.1\r\nhost: rescind\r\n{lines}\r\n".encode() + body

    @property
    def endpoint(self) -> Endpoint:
        """The source as the running service knows it."""
        return next(one for one in self.service.intake.endpoints.all() if one.source.id == self.source_id)

    def counts(self) -> dict[str, int]:
        """What this process has counted for it since its last tally."""
        return {status: number for status, number in self.endpoint.counts.items() if number}

    def rows(self) -> list[sa.Row[Any]]:
        """What is kept of its deliveries, in the log's order."""
        with self.service.records.database.read() as tx:
            query = sa.select(deliveries).where(deliveries.c.source_id == self.source_id)
            return list(tx.execute(query.order_by(deliveries.c.log_index)).all())


class Service:
    """A running service, and what a test may ask of it."""

    def __init__(
        self, app: HotPath, server: uvicorn.Server, loop: asyncio.AbstractEventLoop, port: int, client: httpx2.Client
    ) -> None:
        self.port = port
        self.client = client
        self.records: Records = app.framework.state.records
        self.intake: Intake = app.framework.state.intake
        self.publisher: Publisher = app.framework.state.publisher
        self.uses: Uses = app.framework.state.uses
        self._metrics: Metrics = app.framework.state.metrics
        self._server = server
        self._loop = loop

    @property
    def tenant(self) -> Tenant:
        """The tenant `default`."""
        return self.records.tenant("default")

    def stop(self) -> None:
        """As SIGTERM does: what is under way is ended in order."""
        self._server.should_exit = True

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the service's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    # ---- settings -----------------------------------------------------------------------------------------------

    def add_source(
        self,
        tenant: str = "default",
        scheme: str = "standard-webhooks",
        options: Mapping[str, str | bool] | None = None,
        *,
        provider: str = "truthlocks",
        account: str | None = ACCOUNT,
        secret: str | None = None,
        test: bool = False,
    ) -> Sender:
        """A source as `receiver source add` makes it, known to the running service at once."""
        secret = secret or "whsec_" + base64.b64encode(os.urandom(32)).decode()
        new = NewSource(f"source-{next(_names)}", provider, scheme, options or {}, account, test=test)
        sender = Sender(self, add_source(self.records, self.records.ensure_tenant(tenant), new, secret), secret)
        self.refresh()
        return sender

    def refresh(self) -> None:
        """Have the service take over what has changed in its sources, without waiting for its next look."""
        self.on_loop(self.intake.endpoints.refresh())

    def key(self, scopes: str = "audit", tenant: str = "default") -> dict[str, str]:
        """A new API key, as the header that carries it."""
        name = f"key-{next(_names)}"
        _, key = create_key(self.records, self.records.ensure_tenant(tenant), name, parse_scopes(scopes))
        return {"authorization": f"Bearer {key}"}

    # ---- what there is ------------------------------------------------------------------------------------------

    def leaf(self, index: int, tenant: str = "default") -> Leaf:
        """An entry of a tenant's log, published or not yet."""
        return Leaf.parse(self.entry(index, tenant))

    def entry(self, index: int, tenant: str = "default") -> bytes:
        """The same, as its bytes."""
        log_id = self.records.tenant(tenant).log_id
        with self.records.database.read() as tx:
            query = sa.select(entries.c.data).where(entries.c.log_id == log_id, entries.c.index == index)
            return bytes(tx.execute(query).scalar_one())

    def leaf_time(self, index: int) -> float:
        """When an entry was logged, in Unix seconds."""
        return parse_time(self.leaf(index).logged_at).timestamp()

    def size(self, tenant: str = "default") -> int:
        """How many entries a tenant's log has."""
        return self.records.tenant(tenant).log.head().size

    def until_published(self, tenant: str = "default") -> int:
        """Wait until the newest checkpoint covers all there is now; how many entries that is."""
        size = self.size(tenant)
        until(lambda: self.records.tenant(tenant).log.published_size >= size)
        return size

    def metric(self, name: str, **labels: str) -> float:
        """A sample of what Prometheus is told; 0 if there is none yet."""
        return self._metrics.registry.get_sample_value(name, labels) or 0.0

    # ---- HTTP ---------------------------------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        """A connection of its own."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def exchange(self, data: bytes, *, body: bool = True) -> list["Reply"]:
        """Send bytes over a connection of its own; what comes back until the service closes it.

        Without `body` the answers are to HEAD: their content-length is that of a body which stays unsent.
        """
        with self.connect() as connection:
            connection.sendall(data)
            return replies(read_all(connection), body=body)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came over a socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def replies(data: bytes, *, body: bool = True) -> list[Reply]:
    """The answers in these bytes, each with a content-length."""
    found: list[Reply] = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers["content-length"]) if body else 0
        found.append(Reply(int(status.split(" ")[1]), headers, rest[:length]))
        data = rest[length:]
    return found


def until(true: Callable[[], object]) -> None:
    """Wait for something that must come about soon. Raises TimeoutError if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come about")
        time.sleep(0.005)


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Do something that often at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def settings_in(folder: Path, **given: Any) -> Settings:
    """Settings of a service that has all of its own in that folder, and publishes quickly."""
    settings = {"data": folder / "data", "guard": folder / "guard", "origin": ORIGIN, "publish_interval": 0.05}
    return load(**{**settings, **given})


@contextmanager
def running(settings: Settings) -> Generator[Service]:
    """The service on these settings, for as long as the block lasts."""
    begin(settings)
    records = Records.open(settings)
    try:
        app, listening = create_app(records), listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        server = make_server(app, records.settings.request_timeout)
        started: list[asyncio.AbstractEventLoop] = []

        def serve() -> None:
            with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                started.append(runner.get_loop())
                runner.run(server.serve(sockets=[listening]))

        thread = threading.Thread(target=serve, name="service")
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                yield Service(app, server, started[0], port, client)
        finally:
            server.should_exit = True
            thread.join(30)
        if thread.is_alive():
            raise TimeoutError("the service did not stop")
    finally:
        records.close()


def problem(answer: httpx2.Response | Reply) -> dict[str, Any]:
    """The members of an error answer (RFC 9457), after checking that it has the shape of all of them."""
    body = answer.json if isinstance(answer, Reply) else answer.json()
    status = answer.status if isinstance(answer, Reply) else answer.status_code
    assert answer.headers["content-type"] == "application/problem+json"
    assert sorted(body) == ["code", "detail", "details", "retry_after_ms", "status", "title", "type"]
    assert (body["type"], body["title"], body["status"]) == ("about:blank", HTTPStatus(status).phrase, status)
    assert body["detail"]
    wait = answer.headers.get("retry-after")
    assert body["retry_after_ms"] == (None if wait is None else int(wait) * 1000)
    return body
