"""The sandbox as tests meet it: the real application behind the real server, on a free loopback port, in a thread.

    with running(folder) as sandbox:
        sandbox.client.post("/v1/…", json={…})
        sandbox.until(lambda: len(sandbox.entries()) == 2)

Its ledger notes what every issuer owes, and nobody is told: `owed` shows the bodies. Given `destinations`, it delivers.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from receiver import providers
from receiver.sandbox.app import create_sandbox
from receiver.sandbox.deliverer import Destination
from receiver.sandbox.ledger import Ledger
from receiver.server import listen, make_server
from tests.receiver.service import PATIENCE, until


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox, and what a test may ask of it."""

    client: httpx2.Client
    ledger: Ledger

    def entries(self) -> list[dict[str, Any]]:
        """Every entry of its log, read, oldest first; published or not yet."""
        store = self.ledger.log.store
        with store.transactions.read() as tx:
            size = store.head(tx).size
            return [json.loads(entry) for entry in store.entries(tx, 0, size)]

    def owed(self, provider: str) -> list[bytes]:
        """The bodies of the notices that an issuer owes, oldest first."""
        return [notice.body for notice in self.ledger.owed() if notice.provider == provider]

    def until(self, true: Callable[[], object]) -> None:
        """Wait for something that must come about soon. Raises TimeoutError if it does not."""
        until(true)


@contextmanager
def running(folder: Path, destinations: Mapping[str, Destination] | None = None) -> Generator[Sandbox]:
    """The sandbox of that folder, for as long as the block lasts."""
    told = frozenset(providers.names() if destinations is None else destinations)
    ledger = Ledger.open(folder, told)
    try:
        server = make_server(create_sandbox(ledger, destinations or {}), request_timeout=PATIENCE)
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]

        def serve() -> None:
            with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                runner.run(server.serve(sockets=[listening]))

        thread = threading.Thread(target=serve, name="sandbox")
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as client:
                yield Sandbox(client, ledger)
        finally:
            server.should_exit = True
            thread.join(30)
        if thread.is_alive():
            raise TimeoutError("the sandbox did not stop")
    finally:
        ledger.close()
