"""Sandbox and receiver together, in processes of their own: each provider is a source, which names the sandbox's log.

    with paired(tmp_path) as pair:
        pair.call(of_receipt(receipt, relayed=False))
        event = pair.event(Event("truthlocks", receipt, "webhook", "revoked"))
        pair.becomes(event["id"], "confirmed")

The grace period is short and the log is looked at often, so that everything that needs time to come about comes soon.
Whatever has to come about is waited for.
"""

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx2

from receiver import providers
from receiver.sandbox.issuers import issuers
from receiver.sandbox.ledger import Ledger
from tests.receiver.issuing import LOG_KEY, OTHER, entry, log_of
from tests.receiver.open_calls import CREDENTIALS
from tests.sandbox.monitor import read_log
from tests.sandbox.process import DATA, Process, started
from tests.scenarios.callers import Call
from tests.scenarios.killing import LOOPBACK, SCHEMES, SECRETS, free_port
from tests.scenarios.service import Sender, Service, Site, leaves, revoked, until
from tests.translog.misbehaving import serving
from translog.evidence import Leaf

ACCOUNTS = {name: issuer.account for name, issuer in issuers().items()}
"""Whose things the sandbox has, as its log names them."""

GRACE, FOLLOW_EVERY = 2, 1  # seconds


@dataclass(frozen=True, slots=True)
class Told:
    """How an event is known before its id is."""

    provider: str
    item: str
    via: str
    effect: str

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Told":
        """The same of an event as it is answered."""
        return cls(event["provider"], event["item"]["id"], event["via"], event["effect"])


@dataclass
class Pair:
    """Both, and what a story asks of them."""

    site: Site
    sandbox: Process
    service: Service
    ledger: Ledger
    """The sandbox's database, from another process."""
    key: str
    """An API key that may do everything."""
    vkey: str
    """Of the receiver's log."""
    sources: Mapping[str, str]
    """By provider, the ids."""

    @property
    def issuer(self) -> str:
        """The origin of the sandbox's log."""
        return self.sandbox.vkey.partition("+")[0]

    # ---- what is done -----------------------------------------------------------------------------------------------

    def call(self, call: Call) -> httpx2.Response:
        """Make a call that must succeed: at the sandbox, or through the relay."""
        headers, body = call.request()
        if call.relayed:
            path = f"/relay/{call.provider}{call.path}"
            answer = self.service.client.post(path, content=body, headers={**headers, "x-rescind-key": self.key})
        else:
            answer = self.sandbox.client.post(call.path, content=body, headers=headers)
        assert answer.is_success, answer.text
        return answer

    def misbehave(self, what: str) -> Any:
        """Have the sandbox do that: `log/fork`, `log/down`, `log/up`, `withhold/scrip`; what it answers, or None."""
        answer = self.sandbox.client.post(f"/sandbox/{what}")
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def completed(self, job: str) -> None:
        """Wait until an issuance job is there to be revoked."""

        def is_completed() -> bool:
            with self.ledger.read("thanx") as books:
                found = books.get("issuance_job", job)
            return found is not None and found["job"]["state"] == "completed"

        until(is_completed)

    def deliver(self, provider: str, body: bytes) -> dict[str, Any]:
        """Deliver as that provider, or as whoever has stolen its secret; the answer, which is 200."""
        headers = issuers()[provider].sign(body, SECRETS[provider], f"msg_{uuid.uuid4().hex}", int(time.time()))
        path = f"/webhooks/{self.sources[provider]}"
        answer = self.service.client.post(path, content=body, headers=dict(headers))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, provider: str, **members: Any) -> dict[str, Any]:
        """Change the settings of a provider's source; the source."""
        answer = self.service.client.patch(f"/v1/sources/{self.sources[provider]}", json=members, headers=self.bearer)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def give_credential(self, provider: str) -> None:
        """Let the receiver ask a provider for its own record."""
        path = f"/v1/sources/{self.sources[provider]}/credential"
        given = self.service.client.put(path, json={"headers": dict(CREDENTIALS[provider])}, headers=self.bearer)
        assert given.status_code == 200, given.text

    def restart(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Stop the service, and start it again where it was; `meanwhile` is done while it is away."""
        port = int(self.service.url.rpartition(":")[2])
        assert self.service.stop() == 0
        meanwhile()
        self.service = self.site.start(port=port)

    # ---- what is known ----------------------------------------------------------------------------------------------

    @property
    def bearer(self) -> dict[str, str]:
        """What a request with the key has."""
        return {"authorization": f"Bearer {self.key}"}

    def ask(self, path: str, **asked: Any) -> Any:
        """What is at a path that there is."""
        answer = self.service.client.get(path, params=asked, headers=self.bearer)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listed(self, path: str, **asked: Any) -> list[dict[str, Any]]:
        """All items of a list, which are few."""
        found = self.ask(path, limit=1000, **asked)
        assert found["next_cursor"] is None
        return found["items"]

    def events(self, **asked: str) -> list[dict[str, Any]]:
        """The events that are found so, oldest first."""
        return self.listed("/v1/events", **asked)[::-1]

    def event(self, told: Told) -> dict[str, Any]:
        """The one event that is told so, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events(provider=told.provider) if Told.of(event) == told]

        until(lambda: bool(found()))
        (event,) = found()
        return event

    def becomes(self, event_id: str, state: str) -> dict[str, Any]:
        """Wait until the cross-check of an event is in that state; the event then."""
        until(lambda: self.check(event_id)["state"] == state)
        return self.ask(f"/v1/events/{event_id}")

    def check(self, event_id: str) -> dict[str, Any]:
        """The cross-check of an event."""
        return self.ask(f"/v1/events/{event_id}")["cross_check"]

    def item(self, provider: str, path: str) -> dict[str, Any]:
        """What is said of an item, by its type and id."""
        return self.ask(f"/v1/items/{provider}/{path}")

    def gap(self, item: str) -> dict[str, Any]:
        """The gap about an item, once it is one."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.listed("/v1/gaps") if one["item"]["id"] == item]

        until(lambda: bool(found()))
        (gap,) = found()
        return gap

    def only_gap(self) -> dict[str, Any]:
        """The one gap that is left, once there is one and no other."""
        until(lambda: len(self.listed("/v1/gaps")) == 1)
        (gap,) = self.listed("/v1/gaps")
        return gap

    def issuer_log(self) -> dict[str, Any]:
        """The sandbox's log, as it is followed."""
        return self.ask("/v1/issuer-logs")["items"][0]

    def is_read(self) -> None:
        """Wait until everything is read that is in the sandbox's log now."""
        size = len(self.issued())
        until(lambda: self.issuer_log()["next_index"] >= size)

    def issued(self) -> list[dict[str, Any]]:
        """What the sandbox's log says, oldest first, each entry proved to be in it."""
        return [json.loads(entry) for entry in read_log(self.sandbox.client, self.sandbox.vkey)]

    def told(self, kind: str) -> list[Leaf]:
        """The entries of that kind in the receiver's own log, as far as it is published."""
        checkpoint = self.service.checkpoint(self.vkey)
        return [leaf for leaf in leaves(self.service.entries(checkpoint.size)) if leaf.kind == kind]

    # ---- what is proved ---------------------------------------------------------------------------------------------

    def evidence(self, its_id: str) -> Path:
        """The evidence of an event, a finding or a gap, as a file."""
        file = self.site.folder / f"{its_id}.tlog-proof"
        file.write_bytes(self.service.get(f"/v1/events/{its_id}/evidence", self.key).content)
        return file

    def verify(self, file: Path, *options: str) -> CompletedProcess[str]:
        """`translog verify` of a file, with the key of the receiver's log."""
        return self.site.run("translog", "verify", file, "--key", self.vkey, *options)


@contextmanager
def paired(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
    **source: Any,
) -> Generator[Pair]:
    """Both of them, in that folder; `settings` are more of the service's, `source` more of every source's.

    What is None there is not asked for. `elsewhere` are the URLs of those providers whose notices do not go to the
    receiver. Of the sandbox's log everything from its first entry on may be a gap, since nothing was done before.
    """
    site = Site(folder / "receiver", settings=settings)
    site.folder.mkdir()
    key, vkey = site.key("audit,operate,admin"), site.vkey()
    ledger = Ledger.open(folder / DATA, frozenset(providers.names()))
    port = free_port()
    log = {"url": f"{LOOPBACK}:{port}/log", "key": [str(ledger.log.verifying_key)]}
    asked = {"issuer_log": log, "issuer_log_from": 0, "grace": GRACE, "follow_every": FOLLOW_EVERY, **source}
    service = site.start()
    try:
        sources = {name: add_source(service, key, name, port, asked) for name in providers.names()}
        urls = {name: f"{service.url}/webhooks/{source_id}" for name, source_id in sources.items()}
        with started(folder, "--port", str(port), *_delivering(folder, {**urls, **(elsewhere or {})})) as sandbox:
            pair = Pair(site, sandbox, service, ledger, key, vkey, sources)
            try:
                yield pair
                assert pair.service.stop() == 0
            finally:
                service = pair.service
    finally:
        service.kill()
        ledger.close()


def add_source(service: Service, key: str, provider: str, port: int, asked: Mapping[str, Any]) -> str:
    """A source of a provider for the sandbox at that port, named as it, with the secret of `SECRETS`; its id."""
    members = {
        "name": provider,
        "provider": provider,
        "secret": SECRETS[provider],
        "account": ACCOUNTS[provider],
        "upstream": f"{LOOPBACK}:{port}",
        **SCHEMES[provider],
        **{name: value for name, value in asked.items() if value is not None},
    }
    bearer = {"authorization": f"Bearer {key}"}
    added = service.client.post("/v1/sources", json=members, headers=bearer)
    assert added.status_code == 201, added.text
    source_id: str = added.json()["id"]
    return source_id


@contextmanager
def grace_goes_by(pair: Pair) -> Generator[Callable[[], None]]:
    """A call that returns once the grace period of all that came before it is over, and was judged where it can be.

    That is told by another issuer's log, which is well: of a notice that it does not know, and which came last.
    """
    with serving(log_of(entry())) as server:
        log = {"url": server.url, "key": [str(LOG_KEY.verifying_key())]}
        members = {"name": "elsewhere", "provider": "truthlocks", "scheme": "standard-webhooks", "account": OTHER}
        asked = {**members, "issuer_log": log, "grace": GRACE, "follow_every": FOLLOW_EVERY}
        added = pair.service.client.post("/v1/sources", json=asked, headers=pair.bearer)
        assert added.status_code == 201, added.text
        sender = Sender(added.json()["webhook_path"], added.json()["secret"])

        def wait() -> None:
            unknown = sender.deliver(pair.service, revoked(tenant_id=OTHER))
            pair.becomes(unknown["event_id"], "absent")

        yield wait


def _delivering(folder: Path, urls: Mapping[str, str]) -> Iterator[str]:
    """The sandbox's options to have each provider deliver there."""
    for provider, url in urls.items():
        secret = folder / f"{provider}.secret"
        secret.write_text(SECRETS[provider])
        yield from ("--deliver", f"{provider}={url}", "--deliver-secret", f"{provider}={secret}")
