"""Where there is no issuer's log: the provider's own record is asked, and what it says is named as such.

Truthlocks, Thanx and Scrip document a GET that tells; each of their sources has a read-only credential and names no
log. The sandbox is asked over HTTP as the provider would be.
"""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receiver.events import parse_time
from receiver.sandbox.voucherify import PENDING
from tests.receiver.five import FIVE
from tests.receiver.open_calls import CREDENTIALS
from tests.scenarios.callers import (
    BADGES,
    LOTS,
    RAW,
    Call,
    Things,
    of_badge,
    of_bucket,
    of_job,
    of_receipt,
    of_redemption,
)
from tests.scenarios.pairing import GRACE, Pair, Told, paired
from tests.scenarios.service import Site, until
from translog import evidence
from translog.evidence import Verified
from translog.policy import Policy

ASKED = tuple(CREDENTIALS)
"""The providers that can be asked."""


@dataclass(frozen=True, slots=True)
class Records:
    """Sandbox and receiver, without any log between them; things to take back, and the events of what was."""

    pair: Pair
    things: Things
    events: Mapping[str, str]
    """By provider, of something that was done: told by webhook, or declared."""

    def evidence_of(self, event_id: str) -> Verified:
        """What proves the last change of an event, verified: with what was asked and answered."""
        finding: str = self.pair.check(event_id)["id"]
        return evidence.verify(self.pair.evidence(finding).read_bytes(), Policy.of(self.pair.vkey))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Generator[Records]:
    """The installation, with something done of each that can be asked about."""
    with paired(tmp_path_factory.mktemp("records"), issuer_log=None, issuer_log_from=None) as pair:
        for provider in ASKED:
            pair.give_credential(provider)
        things = Things.made(pair.sandbox.url, 16)
        for job in things.jobs:
            pair.completed(job)
        receipt, job = things.receipts[0], things.jobs[0]
        calls: list[Call] = [
            of_receipt(receipt, relayed=False, key=receipt),
            of_job(job, relayed=False),
            of_redemption(RAW, {"amount": "300.00"}, relayed=False, key="300"),
        ]
        for call in calls:
            pair.call(call)
        told = [
            Told("truthlocks", receipt, "webhook", "revoked"),
            Told("thanx", job, "declared", "revoked"),
            Told("scrip", RAW, "webhook", "reversed"),
        ]
        yield Records(pair, things, {one.provider: pair.event(one)["id"] for one in told})


@pytest.mark.parametrize("provider", ASKED)
def test_what_was_done_is_confirmed_by_the_record(provider: str, records: Records) -> None:
    """It says by what, for it is less than a log's word; what was asked and answered is kept with it."""
    event_id = records.events[provider]
    check = records.pair.becomes(event_id, "confirmed")["cross_check"]
    assert (check["by"], check["issuer_log"], check["issuer_index"]) == ("provider_record", None, None)

    found = records.evidence_of(event_id)
    assert (found.leaf.facts["by"], found.leaf.facts["state"]) == ("provider_record", "confirmed")
    assert found.delivery is not None
    asked, answer = dict(found.delivery.headers), found.delivery.body.decode()
    assert (asked[":method"], asked[":status"]) == ("GET", "200")
    assert records.pair.ask(f"/v1/events/{event_id}")["item"]["id"] in asked[":path"]
    for _, value in CREDENTIALS[provider]:
        assert value not in json.dumps(asked) + answer


@pytest.mark.parametrize("provider", ASKED)
def test_a_forgery_of_what_was_never_there_is_absent(provider: str, records: Records) -> None:
    """The provider knows of no such thing: pending within the grace period, for a record may lag, and then absent."""
    forged = records.pair.deliver(provider, FIVE[provider].body())["event_id"]

    event = records.pair.becomes(forged, "absent")
    check = event["cross_check"]
    assert (check["by"], check["late"]) == ("provider_record", False)
    assert (parse_time(check["since"]) - parse_time(event["received_at"])).total_seconds() >= GRACE


@pytest.mark.parametrize("provider", ASKED)
def test_a_forgery_of_what_was_never_done_is_contradicted(provider: str, records: Records) -> None:
    """The thing is there, and by the provider's word nothing of it was taken back; the grace period is waited for."""
    there = {"truthlocks": records.things.receipts[1], "thanx": records.things.jobs[1], "scrip": LOTS}[provider]
    forged = records.pair.deliver(provider, FIVE[provider].body(there))["event_id"]

    event = records.pair.becomes(forged, "contradicted")
    check = event["cross_check"]
    (difference,) = check["differences"]
    assert (difference["field"], difference["event"]) == ("effect", event["effect"])
    assert (parse_time(check["since"]) - parse_time(event["received_at"])).total_seconds() >= GRACE
    assert event in records.pair.events(cross_check="contradicted")
    assert records.pair.item(provider, f"{event['item']['type']}/{there}")["state"] == "disputed"


def test_another_amount_is_contradicted_at_once(records: Records) -> None:
    """Of an act that there is, told with another amount: it need not be waited for."""
    pair = records.pair
    pair.misbehave("withhold/scrip")
    done = pair.call(of_redemption(RAW, {"amount": "100.00"}, relayed=False, key="100")).json()
    forged = json.loads(FIVE["scrip"].body(RAW))
    forged["data"] |= {"id": done["id"], "amount": "1.00", "created_at": done["created_at"]}
    event_id = pair.deliver("scrip", json.dumps(forged).encode())["event_id"]

    check = pair.becomes(event_id, "contradicted")["cross_check"]
    assert {one["field"]: (one["event"], one["issuer"]) for one in check["differences"]}["amount"] == ("1.00", "100.00")
    assert {"amount"} <= {one["field"] for one in check["differences"]} <= {"amount", "quantity"}


def test_nothing_can_be_asked_of_the_others(records: Records) -> None:
    """Neither log nor record: their events are as authentic as ever, and nothing more is said of them."""
    calls = [of_badge(BADGES[0], relayed=True), of_bucket(PENDING, relayed=True)]
    for call in calls:
        event_id = records.pair.call(call).headers["x-rescind-event"]
        assert records.pair.check(event_id)["state"] == "none"


def test_nothing_is_wrong_afterwards(records: Records) -> None:
    """Every entry, tile, checkpoint and row is in order, and so is what was found out."""
    assert "nothing is wrong" in records.pair.site.tell("receiver", "fsck")


def test_reconcile(tmp_path: Path) -> None:
    """By command, without a service: every event is asked about that nothing is known of yet, whenever it is due."""
    with paired(tmp_path, issuer_log=None, issuer_log_from=None) as pair:
        receipt, untouched = Things.made(pair.sandbox.url, 4).receipts[:2]
        pair.call(of_receipt(receipt, relayed=False, key=receipt))
        true = pair.event(Told("truthlocks", receipt, "webhook", "revoked"))["id"]
        forged = pair.deliver("truthlocks", FIVE["truthlocks"].body(untouched))["event_id"]
        assert {pair.check(one)["state"] for one in (true, forged)} == {"none"}, "there is no credential to ask with"
        over = parse_time(pair.ask(f"/v1/events/{forged}")["received_at"]) + timedelta(seconds=GRACE)
        pair.restart(lambda: _reconciled(pair.site, tmp_path, over, true, forged))

        assert [pair.check(one)["state"] for one in (true, forged)] == ["confirmed", "contradicted"]
        again = pair.site.tell("receiver", "reconcile")
        assert "No event was asked about." in again, "beside a service, which has asked by itself what there was"
        assert [event["id"] for event in pair.events(cross_check="contradicted")] == [forged]


def _reconciled(site: Site, folder: Path, over: datetime, true: str, forged: str) -> None:
    before = site.tell("receiver", "reconcile", "--source", "truthlocks")
    assert "it has no read-only credential: receiver source credential" in before
    file = folder / "headers.txt"
    file.write_text("".join(f"{name}: {value}\n" for name, value in CREDENTIALS["truthlocks"]))
    site.tell("receiver", "source", "credential", "truthlocks", "--file", file)
    until(lambda: datetime.now(UTC) > over)

    done = site.run("receiver", "reconcile", "--json")
    assert (done.returncode, done.stderr) == (1, ""), "something is contradicted"
    said = json.loads(done.stdout)
    assert {one["event_id"]: one["state"] for one in said["items"]} == {true: "confirmed", forged: "contradicted"}
    assert said["counts"] == {"confirmed": 1, "contradicted": 1}
    not_asked = {one["source"]: one["detail"] for one in said["not_asked"]}
    assert not_asked.keys() == {"thanx", "capillary", "voucherify", "scrip"}
    assert not_asked["capillary"] == "not asked: the provider documents no record to ask"
