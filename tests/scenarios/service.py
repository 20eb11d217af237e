"""The whole thing as its users meet it: the real commands, the real server in a process of its own, real HTTP.

    site = Site(tmp_path)
    sender = site.add_source()
    with site.serving() as service:
        answer = sender.deliver(service, revoked())

A `Site` is an installation: a data folder and a guard. A `Sender` is the provider's end of a source, and signs as the
Standard Webhooks specification says.
"""

import base64
import hmac
import itertools
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from translog.checkpoint import Checkpoint
from translog.evidence import Leaf
from translog.policy import Policy
from translog.tiles import TILE_WIDTH, Bundle, decode_bundle, width_at

T = TypeVar("T")

BIN = Path(sys.executable).parent
ACCOUNT = "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10"
REVOKED_AT = "2026-11-20T08:59:58Z"
PATIENCE = 60.0  # seconds until a story no longer waits for what must come

_names = itertools.count(1)


def revoked(receipt: str | None = None, revoked_at: str = REVOKED_AT, **members: object) -> bytes:
    """The body of a `receipt.revoked`, of a new receipt unless one is named, with `members` besides."""
    document = {
        "event_type": "receipt.revoked",
        "receipt_id": receipt or str(uuid.uuid4()),
        "receipt_type": "payment_receipt",
        "tenant_id": ACCOUNT,
        "revoked_at": revoked_at,
    }
    return json.dumps({**document, **members}).encode()


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Do something that often at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def until(comes_about: Callable[[], bool]) -> None:
    """Wait for what must come about, such as a changed setting, which takes effect within a second."""
    deadline = time.monotonic() + PATIENCE
    while not comes_about():
        assert time.monotonic() < deadline, f"it has not come about within {PATIENCE} seconds"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Sender:
    """The provider's end of a source."""

    path: str
    secret: str

    def headers(self, body: bytes, at: float | None = None) -> dict[str, str]:
        """What a body is signed with, now or at another time."""
        message_id, timestamp = f"msg_{uuid.uuid4().hex}", str(int(time.time() if at is None else at))
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        mac = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
        return {
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
        }

    def post(self, service: "Service", body: bytes, headers: dict[str, str] | None = None) -> httpx2.Response:
        """Deliver, with these headers or else properly signed."""
        return service.client.post(self.path, content=body, headers=headers or self.headers(body))

    def deliver(self, service: "Service", body: bytes) -> dict[str, Any]:
        """Deliver what must be answered 200; the answer."""
        answer = self.post(service, body)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Service:
    """A running `receiver serve`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process = process
        self.url = url
        self.client = httpx2.Client(
            base_url=url,
            timeout=PATIENCE,
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=200),
        )

    def get(self, path: str, key: str | None = None) -> httpx2.Response:
        """What is at a path that there is, with that API key."""
        answer = self.client.get(path, headers={"authorization": f"Bearer {key}"} if key else {})
        assert answer.status_code == 200, answer.text
        return answer

    def checkpoint(self, vkey: str, tenant: str = "default") -> Checkpoint:
        """The newest checkpoint of a tenant's log, verified with its key."""
        return Policy.of(vkey).open(self.get(f"/log/{tenant}/checkpoint").content)

    def checkpoint_of(self, size: int, vkey: str) -> Checkpoint:
        """The first checkpoint that covers so many entries; it is waited for."""
        deadline = time.monotonic() + PATIENCE
        while (checkpoint := self.checkpoint(vkey)).size < size:
            assert time.monotonic() < deadline, f"no checkpoint covers {size} entries"
            time.sleep(0.05)
        return checkpoint

    def entries(self, size: int, tenant: str = "default") -> list[bytes]:
        """The first entries of a tenant's log, as a monitor reads them: in bundles (C2SP tlog-tiles)."""
        entries: list[bytes] = []
        while len(entries) < size:
            index = len(entries) // TILE_WIDTH
            path = Bundle(index, width_at(0, index, size)).path()
            entries += decode_bundle(self.get(f"/log/{tenant}/{path}").content)
        return entries

    def stop(self) -> int:
        """Ask it to stop (SIGTERM); its exit status."""
        self.client.close()
        self._process.terminate()
        return self._process.wait(PATIENCE)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self._process.kill()
        self._process.wait()
        self.client.close()

    @property
    def runs(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None


class Site:
    """An installation: a data folder, a guard, and the commands run on them, of another checkout if one is given.

    `settings` are more of the service's, by their variables.
    """

    def __init__(self, folder: Path, checkout: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.checkout = checkout
        self.settings = settings or {}
        self.data = folder / "data"
        self.guard = folder / "guard"
        self._log = folder / "service.log"

    def run(
        self, *command: str | Path, stdin: str | None = None, guard: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, `receiver …` or `translog …`, on this installation, and wait for its end."""
        return subprocess.run(
            [BIN / command[0], *command[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            env=self._environment(guard),
            timeout=60,
            check=False,
        )

    def tell(self, *command: str | Path) -> str:
        """Run a command that must succeed; what it prints."""
        done = self.run(*command)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def shell(self, script: str, folder: Path, **variables: str) -> str:
        """Run a script with bash in that folder, as somebody types it in who has the commands; what it prints.

        It must succeed, in each of its lines, and have nothing to say on standard error.
        """
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            capture_output=True,
            text=True,
            env=self._environment(None) | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | variables,
            timeout=300,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def add_source(self) -> Sender:
        """A source of `receiver source add`, with the secret that it makes."""
        options = ("--provider", "truthlocks", "--scheme", "standard-webhooks", "--account", ACCOUNT, "--json")
        made = json.loads(self.tell("receiver", "source", "add", f"source-{next(_names)}", *options))
        return Sender(made["webhook_path"], made["secret"])

    def key(self, scopes: str = "audit") -> str:
        """A new API key."""
        made = self.tell("receiver", "key", "create", f"key-{next(_names)}", "--scopes", scopes, "--json")
        return str(json.loads(made)["key"])

    def vkey(self) -> str:
        """The key that the log's checkpoints verify with."""
        return self.tell("receiver", "log-key").strip()

    def start(self, guard: Path | None = None, port: int = 0) -> Service:
        """Start the service, on a free port unless one is given; it answers when this returns."""
        with self._log.open("ab") as log:
            began = log.tell()
            process = subprocess.Popen(
                [BIN / "receiver", "serve", "--port", str(port)],
                stdout=log,
                stderr=log,
                env=self._environment(guard),
            )
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            told = self._log.read_bytes()[began:].decode()
            listening = re.search(r"listens on (http://\S+) ", told)
            if listening and "startup complete" in told:
                return Service(process, listening[1])
            time.sleep(0.02)
        process.kill()
        process.wait()
        raise AssertionError(f"the service did not start:\n{self._log.read_bytes()[began:].decode()}")

    @contextmanager
    def serving(self, guard: Path | None = None) -> Generator[Service]:
        """The service for as long as the block lasts, and then its end in order, unless the block ended it."""
        service = self.start(guard)
        try:
            yield service
        except BaseException:
            service.kill()
            raise
        if service.runs:
            assert service.stop() == 0

    def _environment(self, guard: Path | None) -> dict[str, str]:
        theirs = {name: value for name, value in os.environ.items() if not name.startswith("RESCIND_")}
        ours = {} if self.checkout is None else {"PYTHONPATH": str(self.checkout)}
        return {
            **theirs,
            **ours,
            "RESCIND_DATA": str(self.data),
            "RESCIND_GUARD": str(guard or self.guard),
            "RESCIND_PUBLISH_INTERVAL": "0.2",
            "XDG_STATE_HOME": str(self.folder / "state"),
            **self.settings,
        }


def leaves(entries: list[bytes]) -> list[Leaf]:
    """What entries say."""
    return [Leaf.parse(entry) for entry in entries]
