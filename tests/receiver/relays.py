"""Calls made through a running service, as an operator's systems make them, and upstreams that a test has in its hand.

    with standing(saying(200, b'{"receipt_id":…}')) as there:
        operator = new_operator(service, "truthlocks", there.url)
        answer = operator.call()

What is called is the documented example of the provider's operation. `Gate` is an upstream that waits for a word of the
test's.

`python -m tests.receiver.relays DATA URL GUARD WHERE` is a service that dies there with the first call (`DEATHS`).
"""

import asyncio
import itertools
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from receiver import providers
from receiver.app import create_app
from receiver.events import Kind
from receiver.fsck import fsck
from receiver.intake.recorder import Recorder, Unavailable
from receiver.intake.submission import Outcome, Submission
from receiver.records.apikeys import create_key, parse_scopes
from receiver.records.credentials import set_credential
from receiver.records.engine import Database
from receiver.records.opening import Records
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import attempts, deliveries, sources
from receiver.server import listen, serve
from receiver.settings import Settings
from tests.receiver.open_calls import CREDENTIALS as READ_ONLY
from tests.receiver.open_calls import NOBODY
from tests.receiver.operations import EXAMPLES
from tests.receiver.passed_on import as_json
from tests.receiver.service import PATIENCE, Reply, Service
from tests.receiver.upstreams import Behaviour, Connection, There, speaking
from tests.sandbox.service import Sandbox
from tests.translog import faults

CREDENTIALS: dict[str, dict[str, str]] = {
    "truthlocks": {"x-api-key": "tl_test_sandbox"},
    "thanx": {"x-clientid": "sandbox-client", "authorization": "Bearer sandbox-token", "accept-version": "v4.0"},
    "capillary": {"authorization": "Basic c2FuZGJveDpzYW5kYm94"},
    "voucherify": {
        "authorization": "Bearer sandbox-token",
        "x-app-id": "sandbox-app",
        "x-app-token": "sandbox-app-token",
    },
    "scrip": {"x-api-key": "scrip_sandbox"},
}
"""What the sandbox takes from a caller, by provider."""

_POINTS = {
    "programId": "lprg_128f58429f4c4bf7b2",
    "memberId": "lmbr_128f962dbc8c4ba5dc",
    "cardId": "lcrd_128f962dbd8c4ba5df",
    "bucketId": "lcppb_12db4ebb0483a14091",
}
IN_SANDBOX = {name: example.path for name, example in EXAMPLES.items()} | {"voucherify": _POINTS}
"""The parameters of the paths of what the sandbox has ready for a call, by provider."""

_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever calls a provider through a source of the service."""

    service: Service
    provider: str
    source_id: str
    name: str
    """The source's."""
    key: str
    """What goes into `X-Rescind-Key`; unless other scopes are given, it may ask as well."""
    key_id: str
    tenant: str
    parameters: Mapping[str, str]
    """Of the path."""

    @property
    def target(self) -> str:
        """The path that is called, as the provider has it."""
        return providers.get(self.provider).operation.path.format(**self.parameters)

    @property
    def path(self) -> str:
        """The same, as it is called here."""
        return f"/relay/{self.source_id}{self.target}"

    @property
    def body(self) -> bytes:
        """What the documented example sends; nothing if that is nothing."""
        request = EXAMPLES[self.provider].request
        return as_json(request) if request else b""

    def call(
        self,
        *,
        path: str | None = None,
        body: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> httpx2.Response:
        """Call the operation: the documented example, but for what is given; `headers` are added or replaced."""
        sent = {"x-rescind-key": self.key, "content-type": "application/json", **CREDENTIALS[self.provider]}
        content = self.body if body is None else body if isinstance(body, bytes) else as_json(body)
        return self.service.client.request(
            method, self.path if path is None else path, content=content, headers={**sent, **(headers or {})}
        )

    def write(self, *lines: bytes, body: bytes | None = None, target: str | None = None, method: str = "POST") -> bytes:
        """The same as bytes on the wire, after which the connection is closed; `lines` are the headers besides."""
        content = self.body if body is None else body
        own = [b"host: rescind", b"connection: close", b"content-length: %d" % len(content)]
        own.append(b"x-rescind-key: " + self.key.encode())
        head = f"{method} {target or self.path} HTTP/1.1".encode()
        return b"\r\n".join([head, *own, *lines, b"", b""]) + content

    def exchange(
        self, *lines: bytes, body: bytes | None = None, target: str | None = None, method: str = "POST"
    ) -> Reply:
        """Send that, and what comes back."""
        (reply,) = self.service.exchange(self.write(*lines, body=body, target=target, method=method))
        return reply

    def change_source(self, **values: object) -> None:
        """Change the source's settings in its row: a call is made by what is there when it comes."""
        with self.service.records.database.write() as tx:
            tx.execute(sa.update(sources).where(sources.c.id == self.source_id).values(**values))

    def set_credential(self) -> None:
        """Let the provider be asked what became of calls: the sandbox, as its read-only credential is everybody's."""
        records = self.service.records
        set_credential(records, records.tenant(self.tenant), self.source_id, READ_ONLY[self.provider])

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def attempts(self) -> list[sa.Row[Any]]:
        """The calls made to the source, oldest first."""
        query = sa.select(attempts).where(attempts.c.source_id == self.source_id).order_by(attempts.c.id)
        with self.service.records.database.read() as tx:
            return list(tx.execute(query).all())

    def attempt(self) -> sa.Row[Any]:
        """The only one."""
        [attempt] = self.attempts()
        return attempt

    def rows(self) -> list[sa.Row[Any]]:
        """All deliveries of the source, intents among them, in the log's order."""
        query = sa.select(deliveries).where(deliveries.c.source_id == self.source_id)
        with self.service.records.database.read() as tx:
            return list(tx.execute(query.order_by(deliveries.c.log_index)).all())

    def told(self) -> list[sa.Row[Any]]:
        """Those of them that are no intents."""
        return [row for row in self.rows() if row.kind != Kind.ATTEMPT.value or row.reason is not None]

    def facts(self, row: sa.Row[Any]) -> dict[str, Any]:
        """Of a delivery's leaf."""
        return dict(self.service.leaf(row.log_index, self.tenant).facts)

    def told_of(self, attempt_id: str) -> dict[str, Any]:
        """What `/v1/attempts` tells of a call."""
        key = {"authorization": f"Bearer {self.key}"}
        response = self.service.client.get(f"/v1/attempts/{attempt_id}", headers=key)
        assert response.status_code == 200, response.text
        return response.json()

    def outcomes(self) -> list[str | None]:
        """What became of the calls, oldest first; None is unknown."""
        return [attempt.outcome for attempt in self.attempts()]

    def counted(self, outcome: str) -> float:
        """How many calls of its provider the service has counted as that."""
        return self.service.metric("rescind_relayed_total", provider=self.provider, outcome=outcome)


def new_operator(
    service: Service,
    provider: str = "truthlocks",
    upstream: str | None = NOBODY,
    *,
    tenant: str = "default",
    scopes: str = "operate,audit",
    account: str | None = None,
    test: bool = False,
    path: Mapping[str, str] | None = None,
    signed: tuple[str, Mapping[str, str | bool], str] | None = None,
) -> Operator:
    """A new source of that provider with that upstream, and a key to call it with.

    `path` is as `Operator.parameters`; `signed` the scheme of its deliveries with its options, and the secret.
    """
    name, of = f"calls-{next(_names)}", service.records.ensure_tenant(tenant)
    scheme, options, secret = signed or ("token", {"header": "x-signed"}, f"{name} has one that nobody delivers with")
    new = NewSource(name, provider, scheme, options, account, test=test, upstream=upstream)
    source_id = add_source(service.records, of, new, secret)
    key_id, key = create_key(service.records, of, name, parse_scopes(scopes))
    service.refresh()
    parameters = EXAMPLES[provider].path if path is None else path
    return Operator(service, provider, source_id, name, key, key_id, tenant, parameters)


def sandbox_operator(service: Service, provider: str, sandbox: Sandbox, tenant: str = "default") -> Operator:
    """A new source whose upstream is the sandbox, with everything in it as it was in the beginning."""
    assert sandbox.client.post("/sandbox/reset").status_code == 204
    url, path = str(sandbox.client.base_url), IN_SANDBOX[provider]
    return new_operator(service, provider, url, tenant=tenant, scopes="operate", path=path)


# ---- upstreams ------------------------------------------------------------------------------------------------------


@contextmanager
def standing(behave: Behaviour) -> Generator[There]:
    """An upstream on a loop of its own, for as long as the block lasts."""
    started: list[There] = []
    loop = asyncio.new_event_loop()
    over, begun = asyncio.Event(), threading.Event()

    async def stand() -> None:
        try:
            async with speaking(behave) as there:
                started.append(there)
                begun.set()
                await over.wait()
        finally:
            begun.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(stand(),), name="upstream")
    thread.start()
    try:
        begun.wait(PATIENCE)
        yield started[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(2 * PATIENCE)
        loop.close()


def answer(status: int, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """An answer as bytes on the wire."""
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body


def saying(status: int, body: bytes | Mapping[str, Any] = b"", headers: Sequence[tuple[str, str]] = ()) -> Behaviour:
    """An upstream that answers every request so."""
    said = answer(status, body if isinstance(body, bytes) else as_json(body), headers)

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.say(said)

    return behave


def succeeding(provider: str, **members: Any) -> Behaviour:
    """An upstream that gives the documented answer; `members` stand in for those of that name."""
    document = json.loads(as_json(EXAMPLES[provider].answer))
    return saying(min(providers.get(provider).operation.successes), {**document, **members})


@dataclass
class Gate:
    """An upstream that takes one request, and answers it once it is told to."""

    said: bytes
    came: threading.Event = field(default_factory=threading.Event)
    """The request is there."""
    go: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, connection: Connection) -> None:
        await connection.request()
        self.came.set()
        await asyncio.to_thread(self.go.wait, PATIENCE)
        await connection.say(self.said)


def doing(work: Callable[[], object], said: bytes) -> Behaviour:
    """An upstream that does something once a request is there, and says that then."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await asyncio.to_thread(work)
        await connection.say(said)

    return behave


# ---- the database ---------------------------------------------------------------------------------------------------


class Lock:
    """SQLite's write lock, held by somebody else from `hold` to `free`."""

    def __init__(self, data: Path) -> None:
        self._connection = sqlite3.connect(data / "rescind.db", isolation_level=None, check_same_thread=False)

    def hold(self) -> None:
        """Nobody else can write from now on."""
        self._connection.execute("BEGIN IMMEDIATE")

    def free(self) -> None:
        """They can again."""
        self._connection.execute("ROLLBACK")
        self._connection.close()


def out_of_reach() -> None:
    """The database does not answer any more."""
    raise OperationalError("statement", None, Exception("connection lost"))


@contextmanager
def without_acknowledgement(database: Database, statement: str) -> Generator[None]:
    """Within the block, the first transaction with such a statement is committed, and whoever did that is not told."""
    threads: list[int] = []
    commit = database.dialect.do_commit

    def do_commit(connection: Any) -> None:
        commit(connection)
        if threads == [threading.get_ident()]:
            threads.append(0)
            out_of_reach()

    with (
        faults.at(database, "after", statement, happens=lambda: threads.append(threading.get_ident())),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(database.dialect, "do_commit", do_commit)
        yield
    assert len(threads) == 2


def faults_found(service: Service) -> list[str]:
    """What is wrong with all that the service keeps."""
    return [str(finding) for finding in fsck(service.records).findings]


def header_lines(request: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a request on the wire, names in lower case."""
    head = request.partition(b"\r\n\r\n")[0]
    return [(name.lower(), value) for name, value in re.findall(rb"\r\n([^:]+): ([^\r]*)", head)]


def body_of(request: bytes) -> bytes:
    """The body of a request on the wire."""
    return request.partition(b"\r\n\r\n")[2]


# ---- dying ----------------------------------------------------------------------------------------------------------

DEATHS = ("intending", "intended", "answered", "writing", "written", "pending")
"""Where a service may die: with the intent half written; with it written, and nothing passed on; with the answer, and
nothing of it written; with that half written; with all of it written, and nothing given to the caller; with the answer
given, and not recorded."""

DIED = 9
"""The status that it dies with."""


@contextmanager
def mortal(settings: Settings, where: str) -> Generator[str]:
    """A service of that data in a process of its own, and its base URL. By the block's end it must have died there."""
    command = [sys.executable, "-m", __name__, str(settings.data), settings.url, str(settings.guard), where]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            assert process.wait(PATIENCE) == DIED
        finally:
            process.kill()


def die(data: str, url: str, guard: str, where: str) -> None:
    """Serve, and die there."""
    records = Records.open(Settings(data=Path(data), database_url=url, guard=Path(guard)))
    app, listening = create_app(records), listen("127.0.0.1", 0)
    recorder: Recorder = app.framework.state.intake.recorder
    record, away = recorder.record, threading.Event()

    async def recorded(submission: Submission) -> Outcome:
        told, attempt = submission.event, submission.attempt
        is_intent = told is not None and told.kind is Kind.ATTEMPT and attempt is not None and attempt.ended is None
        if where == "pending" and not is_intent and not away.is_set():
            away.set()
            raise Unavailable("the database is out of reach")
        if where in {"answered", "pending"} and not is_intent:
            os._exit(DIED)
        outcome = await record(submission)
        if where == ("intended" if is_intent else "written"):
            os._exit(DIED)
        return outcome

    recorder.record = recorded
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    statement = {"intending": "INSERT INTO attempts", "writing": "UPDATE attempts"}.get(where, "-")
    with faults.at(records.database, "after", statement, happens=lambda: os._exit(DIED)):
        serve(app, listening, PATIENCE)


if __name__ == "__main__":
    die(*sys.argv[1:])
