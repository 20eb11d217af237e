"""A sandbox and its receivers in processes of their own, which are killed at random and started again.

    with standing(folder, [Site(folder / "receiver")]) as stand:
        …
        kill_at_random(stand, rng, kills, callers.have_begun)

Each stays at its address, whichever process is there, so that whoever calls it need not be told. The sandbox delivers
all that it does to sources of the receivers, and the sources' upstream is the sandbox: an act that came through the
relay is told twice.
"""

import base64
import random
import secrets
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from receiver import providers
from receiver.sandbox.ledger import Ledger
from tests.receiver.relays import CREDENTIALS
from tests.sandbox.process import DATA, Process, started
from tests.scenarios.service import Service, Site, until

LOOPBACK = "http://127.0.0.1"
MOST_DELAY = 0.03  # seconds from a moment that is chosen to the kill
MOST_AWAY = 0.2  # seconds from the kill to the next start

SECRETS = {
    "truthlocks": "whsec_" + base64.b64encode(b"truthlocks" * 3).decode(),
    "thanx": "a secret of thanx that signs",
    "capillary": "a token of capillary that is sent",
    "voucherify": "a secret of voucherify that signs",
    "scrip": "whsec_" + base64.b64encode(b"scrip" * 6).decode(),
}
SCHEMES: dict[str, dict[str, Any]] = {
    "truthlocks": {"scheme": "standard-webhooks"},
    "thanx": {},
    "capillary": {"scheme": "token", "scheme_options": {"header": "X-Rescind-Token"}},
    "voucherify": {},
    "scrip": {"scheme": "standard-webhooks"},
}
"""As the sandbox signs, where the provider's name does not say it."""


class Stand:
    """The processes, and what there is between them."""

    def __init__(self, folder: Path, sites: Sequence[Site]) -> None:
        self.folder = folder
        self.sites = sites
        self.key = sites[0].key("audit,operate,admin")
        self.vkey = sites[0].vkey()
        self.receivers: list[Service] = []
        self._ports = [free_port() for _ in sites]
        self._sandbox_port = free_port()
        self._run = ExitStack()
        self._options: list[str] = []
        self.sources: dict[str, str] = {}
        """The ids of the sources, by provider."""

    @property
    def sandbox_url(self) -> str:
        return f"{LOOPBACK}:{self._sandbox_port}"

    @property
    def relays(self) -> list[dict[str, str]]:
        """Of each receiver: by provider, where its calls are passed on."""
        return [{name: f"{LOOPBACK}:{port}/relay/{name}" for name in self.sources} for port in self._ports]

    @property
    def victims(self) -> list[tuple[int, ...]]:
        """Who may be killed at once, by number: the sandbox (0) and each receiver, alone; and all of them."""
        numbers = range(len(self.sites) + 1)
        return [*((number,) for number in numbers), tuple(numbers)]

    def begin(self) -> None:
        """Start everything for the first time, with the sources that it takes."""
        for number in range(1, len(self.sites) + 1):
            self.start(number)
        for number, provider in enumerate(providers.names()):
            secret = self.folder / f"{provider}.secret"
            secret.write_text(SECRETS[provider])
            self.sources[provider] = self._add_source(provider)
            # Each receiver gets what some providers deliver; it does not matter which.
            url = f"{LOOPBACK}:{self._ports[number % len(self._ports)]}/webhooks/{self.sources[provider]}"
            self._options += ["--deliver", f"{provider}={url}", "--deliver-secret", f"{provider}={secret}"]
        self.start(0)

    def start(self, number: int) -> None:
        """Start the sandbox (0) or that receiver, which does not run; it answers when this returns."""
        if number == 0:
            port = str(self._sandbox_port)
            self.sandbox: Process = self._run.enter_context(started(self.folder, "--port", port, *self._options))
        else:
            service = self.sites[number - 1].start(port=self._ports[number - 1])
            self.receivers[number - 1 : number] = [service]

    def kill(self, number: int) -> None:
        """End the sandbox (0) or that receiver as a power cut would."""
        if number == 0:
            self._run.close()
        else:
            self.receivers[number - 1].kill()

    def end(self) -> None:
        """End everything that runs."""
        self._run.close()
        for service in self.receivers:
            service.kill()

    def ledger(self) -> Ledger:
        """The sandbox's database, from another process; to be closed."""
        return Ledger.open(self.folder / DATA, frozenset(providers.names()))

    def _add_source(self, provider: str) -> str:
        client, headers = self.receivers[0].client, {"authorization": f"Bearer {self.key}"}
        asked = {"name": provider, "provider": provider, "secret": SECRETS[provider], "upstream": self.sandbox_url}
        added = client.post("/v1/sources", json={**asked, **SCHEMES[provider]}, headers=headers)
        assert added.status_code == 201, added.text
        source_id: str = added.json()["id"]
        if providers.get(provider).operation.lookup is not None:
            credential = {name: value for name, value in CREDENTIALS[provider].items() if name != "accept-version"}
            path = f"/v1/sources/{source_id}/credential"
            given = client.put(path, json={"headers": credential}, headers=headers)
            assert given.status_code == 200, given.text
        return source_id


@contextmanager
def standing(folder: Path, sites: Sequence[Site]) -> Generator[Stand]:
    """A sandbox in that folder, and a receiver of each site; those of several sites share a database and its key."""
    stand = Stand(folder, sites)
    try:
        stand.begin()
        yield stand
    finally:
        stand.end()


def kill_at_random(stand: Stand, rng: random.Random, calls: int, kills: int, begun: Callable[[int], None]) -> None:
    """Kill and start again, that often, whoever it is, while so many calls are made; `begun` waits for that many."""
    for mark in sorted(rng.sample(range(1, calls * 19 // 20), kills)):
        begun(mark)
        time.sleep(rng.uniform(0, MOST_DELAY))
        victims = rng.choice(stand.victims)
        for number in victims:
            stand.kill(number)
        time.sleep(rng.uniform(0, MOST_AWAY))
        for number in victims:
            stand.start(number)


def everything_is_told(stand: Stand, jobs: Sequence[str]) -> None:
    """Wait until the sandbox has done what it put off, and owes nobody a notice."""
    ledger = stand.ledger()

    def is_over() -> bool:
        with ledger.read("thanx") as books:
            states = {(books.get("issuance_job", job) or {})["job"]["state"] for job in jobs}
        with ledger.read("voucherify") as books:
            statuses = {one["transaction"]["status"] for one in books.all("card_transaction")}
        return not states & {"pending", "processing", "revoking"} and "PENDING" not in statuses and not ledger.owed()

    try:
        until(is_over)
    finally:
        ledger.close()


def free_port() -> int:
    """A port that nobody listens on, below those that connections get.

    Else who calls a server that is away could come to call itself.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
