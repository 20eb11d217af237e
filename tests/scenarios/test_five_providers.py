"""All five providers, each through a source of its own: what they deliver, what is asked about it, what is changed.

Every documented example goes in as it is documented. The chapters share one installation and one service; each brings
what it needs, so that it can also be read, and run, alone.
"""

import json
import uuid
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.receiver.five import FIVE, PARTIES, Party
from tests.scenarios.examples import (
    CUSTOMER,
    CUSTOMER_EMAIL,
    EXAMPLES,
    POINTS_DATA,
    POINTS_EVENT,
    POINTS_REFERENCE,
    POINTS_WEBHOOK,
    REDEMPTION_WEBHOOK,
    Example,
    needs,
)
from tests.scenarios.service import Sender, Service, Site, leaves, until

CUSTOMER_ID = "cust_KiZa6C6R30sgqqpU76o6B7u0"

# Where a provider documents how it signs, its name says it. Where it does not, one is chosen here.
SCHEMES = {
    "truthlocks": ("--scheme", "timestamped-hmac", "--header", "X-Truthlocks-Signature"),
    "thanx": (),
    "capillary": ("--scheme", "token", "--header", "X-Webhook-Token"),
    "voucherify": (),
    "scrip": ("--scheme", "standard-webhooks"),
}
GIVE_THE_SECRET_OUT = {"thanx", "voucherify", "scrip"}


@dataclass(frozen=True, slots=True)
class PartySender(Sender):
    """A provider's end of a source, which signs as that provider does."""

    name: str
    party: Party

    def headers(self, body: bytes, at: float | None = None) -> dict[str, str]:
        """What a body is signed with."""
        return self.party.sign(self.secret, body, at)

    def told(self, service: Service, body: bytes) -> dict[str, Any]:
        """Deliver what is a notice, for the first time or again; the answer."""
        answer = self.deliver(service, body)
        assert answer["status"] in {"recorded", "duplicate"}, answer
        return answer

    def told_example(self, service: Service, example: Example) -> dict[str, Any]:
        """The same with a documented example, and first with what comes before it."""
        if example.before is not None:
            self.told(service, example.before)
        return self.told(service, example.body)

    def takes(self, service: Service, body: bytes) -> bool:
        """Whether a delivery is let in."""
        return self.post(service, body).status_code == 200


def settle(site: Site, *command: str) -> str:
    """Run a command that must succeed, be it with a warning: a secret of 64 hex digits may not be meant as base64."""
    done = site.run(*command)
    assert done.returncode == 0, done
    return done.stdout


def secret_file(site: Site, secret: str) -> str:
    """A secret as a provider gave it out, in a file."""
    file = site.folder / f"{uuid.uuid4()}.secret"
    file.write_text(f"{secret}\n")
    return str(file)


def add_source(site: Site, party: Party, name: str) -> PartySender:
    """Add a source of that provider for its account, as its page says."""
    command = ["receiver", "source", "add", name, "--provider", party.provider, *SCHEMES[party.provider]]
    given = party.new_secret() if party.provider in GIVE_THE_SECRET_OUT else None
    if given is not None:
        command += ["--secret-file", secret_file(site, given)]
    made = json.loads(settle(site, *command, "--account", party.account, "--json"))
    return PartySender(made["webhook_path"], given or made["secret"], name, party)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An installation."""
    return Site(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def senders(site: Site) -> dict[str, PartySender]:
    """A source of each provider, by the provider's name."""
    return {party.provider: add_source(site, party, party.provider) for party in PARTIES}


@pytest.fixture(scope="module")
def key(site: Site) -> str:
    """The auditor's key."""
    return site.key()


@pytest.fixture(scope="module")
def service(site: Site, senders: dict[str, PartySender], key: str) -> Generator[Service]:
    """The service."""
    with site.serving() as service:
        yield service


def item(service: Service, key: str, provider: str, path: str) -> dict[str, Any]:
    """What is said of an item."""
    return service.get(f"/v1/items/{provider}/{path}", key).json()


def entry(told: dict[str, Any]) -> tuple[int, str]:
    """Where an event stands in the log, as an acknowledgement or an event says it."""
    return told["log_index"], told["leaf_hash"]


def when(event: dict[str, Any]) -> str:
    """When it happened, as far as anyone knows."""
    return event["occurred_at"] or event["received_at"]


# ---- every documented example goes in, and comes out as its event ----------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_documented_example(example: Example, senders: dict[str, PartySender], service: Service, key: str) -> None:
    """It is recorded as its event, known when it comes again, and with other content a mismatch that alters nothing."""
    sender = senders[example.provider]
    recorded = sender.told_example(service, example)
    event = service.get(f"/v1/events/{recorded['event_id']}", key).json()
    assert {name: event[name] for name in example.event} == example.event
    assert entry(event) == entry(recorded)

    answer = item(service, key, example.provider, example.item)
    assert answer["state"] == example.state
    assert (answer["reversed_amount"], answer["reversed_quantity"]) == (
        example.reversed_amount,
        example.reversed_quantity,
    )
    assert (answer["since"], answer["events"][-1]) == (when(event), event)

    assert sender.deliver(service, example.body) == {**recorded, "status": "duplicate"}
    mismatch = sender.deliver(service, example.altered_body)
    assert (mismatch["status"], mismatch["event_id"]) == ("mismatch", recorded["event_id"])
    after = item(service, key, example.provider, example.item)
    told = after["events"][-1].pop("mismatches")
    assert mismatch["log_index"] in [one["log_index"] for one in told]
    assert {**after["events"][-1], "mismatches": []} == event
    assert (after["state"], after["since"]) == (answer["state"], answer["since"])


@needs(POINTS_DATA)
def test_the_documented_data_of_canceled_points(senders: dict[str, PartySender], service: Service, key: str) -> None:
    """In the webhook's envelope and alone they are two notices of one act, which took the points back."""
    sender = senders["voucherify"]
    data = POINTS_DATA.read_bytes()
    told = [sender.told(service, body) for body in (POINTS_WEBHOOK % data, data)]
    answer = item(service, key, "voucherify", "pending_points/lopp_0ff49105b988dd5c8f")
    in_envelope, alone = answer["events"]

    assert [entry(event) for event in answer["events"]] == [entry(one) for one in told]
    assert [{name: event[name] for name in POINTS_EVENT} for event in answer["events"]] == [POINTS_EVENT] * 2
    assert (in_envelope["account"], in_envelope["occurred_at"]) == ("proj_5T4Rpl4T1nuM", "2025-01-08T14:10:48.345000Z")
    assert (alone["account"], alone["occurred_at"]) == (None, None)
    assert (answer["state"], answer["since"]) == ("taken_back", in_envelope["occurred_at"])
    for body in (POINTS_WEBHOOK % data, data):
        assert sender.deliver(service, body)["status"] == "duplicate"
        assert sender.deliver(service, body.replace(b"Alex Doe", b"Alex Roe"))["status"] == "mismatch"


@needs(POINTS_REFERENCE)
def test_an_answer_that_is_documented_without_a_status(
    senders: dict[str, PartySender], service: Service, key: str
) -> None:
    """What it answers is a transaction just created, which is under way, whatever its ids are."""
    text = POINTS_REFERENCE.read_text()
    answer = text[text.index('{\n"message"') : text.index("Cancel pending points")]
    body = b'{"type": "pending_points.canceled", "data": %b}' % answer.encode()
    kept = senders["voucherify"].deliver(service, body)
    event = service.get(f"/v1/events/{kept['event_id']}", key).json()
    assert (kept["status"], event["effect"]) == ("recorded", "canceling")
    assert event["item"] == {"type": "card_transaction", "id": "<string>"}
    assert (event["quantity"], event["occurred_at"]) == ("123", "2023-11-07T05:31:56.000000Z")


@pytest.mark.parametrize(
    "example",
    [pytest.param(example, marks=needs(example.document), id=example.name) for example in EXAMPLES],
)
def test_an_example_is_what_is_documented(example: Example) -> None:
    """Word for word as the provider writes it, but for how it is broken into lines; and so it is delivered."""
    assert "".join(example.text.split()) in "".join(example.document.read_text().split())
    if "<" not in example.text:
        assert example.text.encode() in example.body


# ---- what becomes of an item -----------------------------------------------------------------------------------------

JOB, BADGE, REDEMPTION = f"job_{uuid.uuid4().hex}", uuid.uuid4().hex, str(uuid.uuid4())


def job(state: str) -> bytes:
    """An issuance job, declared in that state."""
    declared = json.loads(FIVE["thanx"].body(JOB))
    declared["data"]["issuance_job"]["state"] = state
    return json.dumps({**declared, "type": f"issuance_job.{state}"}).encode()


def transaction(bucket: str, status: str) -> bytes:
    """The documented cancellation of such a bucket of points, declared in that status."""
    [documented] = [example for example in EXAMPLES if example.provider == "voucherify"]
    declared = json.loads(documented.body)
    declared["request"]["bucket_id"] = bucket
    declared["data"]["transaction"] |= {"id": bucket.replace("lcppb", "lctx"), "status": status}
    if status != "PENDING":
        declared["data"]["transaction"]["updated_at"] = "2026-08-06T14:02:00.000Z"
    return json.dumps(declared).encode()


def redemption(name: str, **data: object) -> bytes:
    """A delivery about the redemption."""
    return REDEMPTION_WEBHOOK % (name.encode(), json.dumps(data).encode())


def reversal(amount: str, created_at: str) -> bytes:
    """A part of the redemption, reversed."""
    return redemption(
        "reversed",
        id=str(uuid.uuid4()),
        redemption_id=REDEMPTION,
        amount=amount,
        reason="Customer refund request",
        created_at=created_at,
    )


NOT_ACTIVE = {"data": None, "errors": [{"code": 814, "message": "Active earn instance is not present"}], "warnings": []}

STORIES = {
    "a redemption reversed in two parts": (
        f"scrip/redemption/{REDEMPTION}",
        [
            (redemption("completed", id=REDEMPTION, amount="500.00"), "no_record", None, None),
            (reversal("199.90", "2026-11-20T09:00:00Z"), "partly", "199.90", None),
            (reversal("300.10", "2026-11-20T09:30:00Z"), "taken_back", "500.00", None),
        ],
    ),
    "a job revoking, then revoked": (
        f"thanx/issuance_job/{JOB}",
        [(job("revoking"), "pending", None, None), (job("revoked"), "taken_back", None, "1")],
    ),
    "a cancellation approved": (
        "voucherify/pending_points/lcppb_a1",
        [
            (transaction("lcppb_a1", "PENDING"), "pending", None, None),
            (transaction("lcppb_a1", "APPROVED"), "taken_back", None, "60"),
        ],
    ),
    "a cancellation rejected": (
        "voucherify/pending_points/lcppb_b2",
        [
            (transaction("lcppb_b2", "PENDING"), "pending", None, None),
            (transaction("lcppb_b2", "REJECTED"), "not_taken_back", None, None),
        ],
    ),
    "a badge that was not active (814)": (
        f"capillary/badge/{BADGE}",
        [
            (
                json.dumps({"type": "badge.revoked", "data": NOT_ACTIVE, "request": {"earnedBadgeId": BADGE}}).encode(),
                "not_taken_back",
                None,
                None,
            )
        ],
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_what_becomes_of_an_item(name: str, senders: dict[str, PartySender], service: Service, key: str) -> None:
    """With each notice its state is what that notice made of it, since then, with every event and its place so far."""
    path, notices = STORIES[name]
    provider, path = path.split("/", 1)
    assert item(service, key, provider, path)["state"] == "no_record"
    told: list[tuple[int, str]] = []
    for body, state, amount, quantity in notices:
        told.append(entry(senders[provider].deliver(service, body)))
        answer = item(service, key, provider, path)
        assert (answer["state"], answer["reversed_amount"], answer["reversed_quantity"]) == (state, amount, quantity)
        assert [entry(event) for event in answer["events"]] == told
        assert answer["since"] == (None if state == "no_record" else when(answer["events"][-1]))
        assert [event["breaches"] for event in answer["events"]] == [[]] * len(told)
    assert [senders[provider].deliver(service, body)["status"] for body, *_ in notices] == ["duplicate"] * len(told)


# ---- what the operator changes ---------------------------------------------------------------------------------------


def of_account(party: Party, account: str) -> bytes:
    """A delivery of that provider that names another account."""
    named: dict[str, dict[str, Any]] = {
        "truthlocks": {"tenant_id": account},
        "thanx": {"request": {"merchant_id": account}},
        "capillary": {"request": {"orgId": account}},
        "voucherify": {"project_id": account},
        "scrip": {"organization_id": account},
    }
    return json.dumps({**party.document(party.new_item()), **named[party.provider]}).encode()


@pytest.mark.parametrize("party", PARTIES, ids=lambda party: party.provider)
def test_what_another_account_sent_is_brought_in_later(party: Party, site: Site, service: Service, key: str) -> None:
    """It waits in quarantine; once the source is that account's, it is read again, as received when it came."""
    sender = add_source(site, party, f"{party.provider} moved")
    body = of_account(party, "another-account")
    until(lambda: sender.takes(service, body))
    kept = sender.deliver(service, body)
    assert (kept["status"], kept["reason"]) == ("quarantined", "other_account")
    [waiting] = service.get(f"/v1/quarantine?source={sender.name}", key).json()["items"]
    assert waiting["id"] == kept["quarantine_id"]

    site.tell("receiver", "source", "set", sender.name, "--account", "another-account")
    [done] = json.loads(site.tell("receiver", "quarantine", "reprocess", "--source", sender.name, "--json"))["items"]
    assert (done["id"], done["status"]) == (waiting["id"], "recorded")

    event = service.get(f"/v1/events/{done['event_id']}", key).json()
    assert (event["event"], event["account"]) == (party.event, "another-account")
    assert event["received_at"] == waiting["received_at"]
    assert event["logged_at"] > waiting["logged_at"]
    assert entry(event) == entry(done)
    assert service.get(f"/v1/quarantine?source={sender.name}", key).json()["items"] == []
    again = {"status": "duplicate", **{name: done[name] for name in ("event_id", "log_index", "leaf_hash")}}
    until(lambda: sender.deliver(service, body) == again)


@pytest.mark.parametrize("provider", FIVE)
def test_a_secret_is_rotated(provider: str, site: Site, senders: dict[str, PartySender], service: Service) -> None:
    """For a while the old one and the new one are both good."""
    old = senders[provider]
    given = old.party.new_secret()
    settle(site, "receiver", "source", "rotate", old.name, "--secret-file", secret_file(site, given))
    new = replace(old, secret=given)
    until(lambda: new.takes(service, new.party.body()))
    assert [one.deliver(service, one.party.body())["status"] for one in (old, new)] == ["recorded", "recorded"]


def test_a_source_is_disabled_for_a_while(site: Site, senders: dict[str, PartySender], service: Service) -> None:
    """Meanwhile it is as if it were not there; then it is as before."""
    sender = senders["scrip"]
    body = sender.party.body()
    site.tell("receiver", "source", "disable", sender.name)
    until(lambda: sender.post(service, sender.party.body()).status_code == 404)
    refused = sender.post(service, body)
    assert (refused.status_code, refused.json()["code"]) == (404, "NOT_FOUND")

    site.tell("receiver", "source", "enable", sender.name)
    until(lambda: sender.takes(service, sender.party.body()))
    assert sender.deliver(service, body)["status"] == "recorded"


# ---- what is left of it ----------------------------------------------------------------------------------------------


def test_the_log_names_no_customer_and_no_item(
    site: Site, senders: dict[str, PartySender], service: Service, key: str
) -> None:
    """What was delivered names them, the entries of the log do not."""
    customers = senders["voucherify"].party.body()
    told = [senders[example.provider].told_example(service, example) for example in EXAMPLES]
    told.append(senders["voucherify"].told(service, customers))
    size = service.checkpoint_of(max(one["log_index"] for one in told) + 1, site.vkey()).size
    log = service.entries(size)
    assert {one["event_id"] for one in told} <= {leaf.id for leaf in leaves(log)}

    personal = [CUSTOMER, CUSTOMER_EMAIL, CUSTOMER_ID]
    delivered = b"".join((*(example.body for example in EXAMPLES), customers)).decode()
    assert [name for name in personal if name not in delivered] == []
    named = {example.event["item"]["id"] for example in EXAMPLES} | {party.account for party in PARTIES}
    named -= {FIVE["capillary"].account}  # five digits, which a hash may well have
    everything = b"\n".join(log).decode()
    assert [name for name in (*personal, *named) if name in everything] == []


@pytest.mark.parametrize("provider", FIVE)
def test_the_evidence_is_verified(
    provider: str, site: Site, senders: dict[str, PartySender], service: Service, key: str, tmp_path: Path
) -> None:
    """By the auditor, who has the log's key and needs nothing of the service."""
    example = next(one for one in EXAMPLES if one.provider == provider)
    event_id = senders[provider].told_example(service, example)["event_id"]
    file = tmp_path / f"{event_id}.tlog-proof"
    file.write_bytes(service.get(f"/v1/events/{event_id}/evidence", key).content)
    said = site.tell("translog", "verify", file, "--key", site.vkey())
    assert "VERIFIED: this record is in the log, unchanged." in said
    assert example.event["item"]["id"] in said


@pytest.mark.usefixtures("service")
def test_nothing_is_wrong_afterwards(site: Site) -> None:
    """Every entry, tile, checkpoint and row is in order, as is every source with what the log tells of it."""
    assert "nothing is wrong" in site.tell("receiver", "fsck")
