"""The story the demo tells: what a receiver makes of a provider's deliveries, and what an auditor can make of those.

Every step is held to exactly what it must come to; the first that differs raises DemoError and ends the demo.
"""

import json
import shlex
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import shorten
from typing import Any

import httpx2

from receiver.demo.service import DemoError, Service
from receiver.demo.telling import Teller
from receiver.events import format_time
from receiver.sandbox import issuer
from translog import cli, evidence
from translog.errors import TranslogError
from translog.evidence import Evidence, Leaf, Opening
from translog.merkle import leaf_hash
from translog.policy import Policy
from translog.proof import TlogProof

FIRST = 3
"""Where the first delivery stands in the log: entries 0 to 2 tell of the tenant, the source and the key."""

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Setting:
    """What the demo's receiver was set up with: where deliveries go, and what an auditor is given."""

    webhook: str
    secret: str
    key: str
    vkey: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a delivery: its status, and the members of its body."""

    status: int
    body: dict[str, Any]

    @property
    def gist(self) -> str:
        """Such as `200 recorded, entry 3` or `401 wrong_signature`."""
        what = self.body["status"] if self.status == 200 else self.body["details"].get("reason", self.body["code"])
        return f"{self.status} {what}" + (f", entry {self.body['log_index']}" if "log_index" in self.body else "")


@dataclass(frozen=True, slots=True)
class Told:
    """What the deliveries of the story leave behind: a receipt's first notice and its answer, and one never heard."""

    receipt: issuer.Receipt
    body: bytes
    revoked_at: datetime
    answer: Answer
    unheard: issuer.Receipt


def must_be(what: str, found: object, expected: object) -> None:
    """Raise DemoError, naming both, unless they are equal."""
    if found != expected:
        raise DemoError(f"{what}: {found!r}, where it must be {expected!r}")


def tell(teller: Teller, service: Service, *, goes_on: bool) -> None:
    """The whole story, told by `teller` while it happens, and at its end where to look, if the service goes on.

    Raises DemoError where something does not come out as it must.
    """
    teller.title(
        "Rescind: a notice that something was taken back, from its delivery to its proof",
        f"All of it happens now, in {service.folder}.",
        f"Only {issuer.TITLE} is made up: this command plays it, and signs as it chooses to.",
    )
    setting = set_up(teller, service)
    # No proxy of the user's stands between this process and a service on its own loopback.
    with httpx2.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        told = deliver(teller, client, setting)
        audit(teller, client, setting, told)
        file = prove(teller, client, setting, told, service.folder)
    if goes_on:
        show_where(teller, service, setting, told, file)


def set_up(teller: Teller, service: Service) -> Setting:
    """A source that may deliver, and a key for an auditor; both made with the commands an operator uses."""
    teller.chapter("1. A receiver, with a transparency log of its own")
    teller.ran("receiver serve")
    teller.done(f"it listens on {service.url}")
    add = ("source", "add", "shop", *issuer.SOURCE_OPTIONS)
    teller.ran(shlex.join(("receiver", *add)))
    with teller.waiting("adding a source"):
        source = json.loads(service.command(*add, "--json"))
    teller.done(f"{issuer.TITLE} may deliver to {source['webhook_path']}")
    create = ("key", "create", "auditor", "--scopes", "audit")
    teller.ran(shlex.join(("receiver", *create)))
    with teller.waiting("making a key"):
        key = json.loads(service.command(*create, "--json"))
    teller.done("an auditor may ask with this key, and change nothing")
    teller.ran("receiver log-key")
    with teller.waiting("asking for the log's key"):
        vkey = service.command("log-key").strip()
    teller.done("the log's vkey: what all of its proofs are verified with")
    return Setting(service.url + source["webhook_path"], source["secret"], key["key"], vkey)


def deliver(teller: Teller, client: httpx2.Client, setting: Setting) -> Told:
    """Deliveries of every kind, and what each is answered."""
    teller.chapter(f"2. Deliveries of {issuer.EVENT}, each signed and sent over HTTP")
    first, second, third, unheard = (issuer.issue() for _ in range(4))
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=10)
    body = issuer.revocation(first, at)
    differing = issuer.revocation(replace(first, type="refund_receipt"), at)
    again = issuer.revocation(first, at + timedelta(seconds=5))
    unheard_of = issuer.revocation(unheard, at)

    def send(what: str, sent: bytes, expected: str, note: str = "", *, forged: bool = False, age: int = 0) -> Answer:
        secret = "whsec_a-guess" if forged else setting.secret
        headers = issuer.signed(sent, secret, int(time.time()) - age)
        response = client.post(setting.webhook, content=sent, headers=headers)
        answer = Answer(response.status_code, response.json())
        must_be(what, answer.gist, expected)
        teller.done(what, answer.gist, note)
        return answer

    answer = send(f"{_short(first)} is revoked", body, f"200 recorded, entry {FIRST}", "durably")
    send(f"{_short(second)} is revoked", issuer.revocation(second, at), f"200 recorded, entry {FIRST + 1}")
    send(f"{_short(third)} is revoked", issuer.revocation(third, at), f"200 recorded, entry {FIRST + 2}")
    duplicate = send("the first delivery, once more", body, f"200 duplicate, entry {FIRST}", "told twice")
    must_be("the event it is a duplicate of", duplicate.body["event_id"], answer.body["event_id"])
    send(f"{_short(unheard)}, forged", unheard_of, "401 wrong_signature", "nothing kept", forged=True)
    send(f"{_short(unheard)}, signed an hour ago", unheard_of, "401 stale", "nothing kept", age=HOUR)
    mismatch = send("the first notice, with other content", differing, f"200 mismatch, entry {FIRST + 3}", "both kept")
    must_be("the event it differs from", mismatch.body["event_id"], answer.body["event_id"])
    send(f"{_short(first)} is revoked again", again, f"200 recorded, entry {FIRST + 4}", "and a breach")
    return Told(first, body, at, answer, unheard)


def audit(teller: Teller, client: httpx2.Client, setting: Setting, told: Told) -> None:
    """What an auditor is told of two receipts."""
    teller.chapter("3. An auditor asks: was it taken back, and since when?")
    item = _ask(client, setting, item_path(told.receipt))
    since = format_time(told.revoked_at)
    must_be("the receipt's state", (item["state"], item["since"]), ("taken_back", since))
    teller.done(_short(told.receipt), f"taken_back since {told.revoked_at:%H:%M:%S} UTC")
    notice, again = item["events"]
    must_be("the mismatches of its first event", [one["log_index"] for one in notice["mismatches"]], [FIRST + 3])
    teller.done("  its first notice, told in two ways", f"mismatch, entry {FIRST + 3}")
    must_be("the breaches of its second event", [one["code"] for one in again["breaches"]], ["revoked_again"])
    teller.done("  its second notice, against the rules", "breach revoked_again")
    unheard = _ask(client, setting, item_path(told.unheard))
    must_be("the state of the receipt in the forgery", (unheard["state"], len(unheard["events"])), ("no_record", 0))
    teller.done(_short(told.unheard), "no_record: an answer, not an error")


def prove(teller: Teller, client: httpx2.Client, setting: Setting, told: Told, folder: Path) -> Path:
    """The evidence of the first event, verified offline; copies that were tampered with are not. The file's path."""
    teller.chapter("4. The proof, verified offline with nothing but the log's vkey")
    event_id = told.answer.body["event_id"]
    with teller.waiting("waiting for a signed checkpoint that covers it"):
        response = client.get(evidence_path(event_id), headers=_bearer(setting))
    must_be("the status of the evidence", response.status_code, 200)
    data = response.content
    path = folder / "evidence.tlog-proof"
    path.write_bytes(data)
    teller.done(f"the evidence of entry {FIRST}: {path.name}, {len(data)} bytes")

    teller.ran(f'translog verify {path.name} --key "$VKEY"')
    verified = evidence.verify(data, Policy.of(setting.vkey))
    must_be("the entry proved", (verified.index, verified.leaf.id), (FIRST, event_id))
    must_be("the leaf hash proved", leaf_hash(verified.leaf.encode()).hex(), told.answer.body["leaf_hash"])
    must_be("the delivery proved", verified.delivery and verified.delivery.body, told.body)
    teller.done(cli.verify(data, [setting.vkey]).partition("\n")[0])
    teller.done("the leaf hash is the one acknowledged, the delivery what was sent")
    for what, suffix, tampered in (
        ("a copy that names another receipt", "other-receipt", _renamed(data, told)),
        ("a copy that is set back by a day", "backdated", _backdated(data)),
    ):
        (folder / f"{suffix}.tlog-proof").write_bytes(tampered)
        refusal = _refusal(tampered, setting.vkey)
        teller.done(what, "NOT VERIFIED")
        teller.say(f"  {refusal}")
    return path


def item_path(receipt: issuer.Receipt) -> str:
    """Where the state of a receipt is asked for."""
    return f"/v1/items/{issuer.NAME}/{receipt.item_type}/{receipt.id}"


def evidence_path(event_id: str) -> str:
    """Where the evidence of an event is."""
    return f"/v1/events/{event_id}/evidence"


def show_where(teller: Teller, service: Service, setting: Setting, told: Told, file: Path) -> None:
    """Where to look while the demo's receiver goes on."""
    teller.chapter("5. It is yours until Ctrl-C. In another terminal:")
    asking = f'curl -sH "Authorization: Bearer $KEY" {service.url}'
    translog = Path(sys.executable).with_name("translog")
    teller.offer("The auditor's key, and the log's:", f"KEY={setting.key}", f"VKEY={setting.vkey}")
    teller.offer("What was recorded, newest first:", f"{asking}/v1/events")
    teller.offer("The state of the first receipt:", asking + item_path(told.receipt))
    teller.offer("Its evidence:", asking + evidence_path(told.answer.body["event_id"]))
    teller.offer("What that shows, and what it does not:", f'{translog} verify {file} --key "$VKEY"')
    teller.offer("The log's newest checkpoint:", f"curl -s {service.url}/log/default/checkpoint")
    teller.offer("All its files, until this ends:", f"ls {service.folder} {service.data}")


def _ask(client: httpx2.Client, setting: Setting, path: str) -> dict[str, Any]:
    response = client.get(path, headers=_bearer(setting))
    must_be(f"the status of {path}", response.status_code, 200)
    return response.json()


def _short(receipt: issuer.Receipt) -> str:
    return f"{receipt.item_type} {receipt.id[:8]}"


def _bearer(setting: Setting) -> dict[str, str]:
    return {"authorization": f"Bearer {setting.key}"}


def _refusal(data: bytes, vkey: str) -> str:
    """Why a copy does not verify, in short; DemoError if it does."""
    try:
        cli.verify(data, [vkey])
    except TranslogError as error:
        return shorten(str(error), 74, placeholder=" ...")
    raise DemoError("a copy that was tampered with is said to be verified")


def _renamed(data: bytes, told: Told) -> bytes:
    """The evidence with another receipt's id in the event that is shown."""
    proof = TlogProof.parse(data)
    shown = Evidence.parse(proof.extra or b"")
    if shown.event is None:
        raise DemoError("the evidence does not show the event")
    changed = shown.event.data.replace(told.receipt.id.encode(), told.unheard.id.encode())
    return replace(proof, extra=replace(shown, event=Opening(changed, shown.event.salt)).encode()).encode()


def _backdated(data: bytes) -> bytes:
    """The evidence with the entry itself logged a day earlier."""
    proof = TlogProof.parse(data)
    shown = Evidence.parse(proof.extra or b"")
    leaf = Leaf.parse(shown.entry)
    earlier = datetime.fromisoformat(leaf.logged_at) - timedelta(days=1)
    entry = replace(leaf, logged_at=format_time(earlier)).encode()
    return replace(proof, extra=replace(shown, entry=entry).encode()).encode()
