"""What happens is passed on to the operator's own systems: each event, each verdict, each alert, and again on request.

They are small receivers of Standard Webhooks on this machine, which the operator has allowed to be called, and verify
what comes with the library of that specification.
"""

import base64
import json
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.sandbox.inbox import Delivery, Inbox, inbox
from tests.scenarios.callers import Things, of_receipt
from tests.scenarios.pairing import Pair, Told, paired
from tests.scenarios.service import Site, revoked, until

ALERTS = "cross_check,gap,fork"


@dataclass(frozen=True, slots=True)
class System:
    """A system of the operator's, and what it was told."""

    name: str
    secret: str
    inbox: Inbox

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What came, each message once, in the log's order; every delivery of each verified."""
        found = {delivery.id: self._read(delivery) for delivery in self.inbox.taken}
        return sorted(found.values(), key=lambda message: message["data"]["log_index"])

    def of(self, topic: str) -> list[dict[str, Any]]:
        """The data of the messages of a topic."""
        return [message["data"] for message in self.messages if message["type"] == topic]

    def _read(self, delivery: Delivery) -> dict[str, Any]:
        message: dict[str, Any] = Webhook(self.secret).verify(delivery.body, dict(delivery.headers))
        assert delivery.id == f"msg_{message['data']['id']}"
        return message


@dataclass(frozen=True, slots=True)
class Story:
    """What was done, and who was told."""

    pair: Pair
    everything: System
    alerts: System
    true: str
    forged: str
    """Both are events."""
    withheld: str
    """A receipt."""

    def is_told(self, system: System) -> bool:
        """Whether a system was told of what came about in the end."""
        verdicts = verdicts_in(system)
        gaps = [gap["id"] for gap in system.of("gap")]
        missing = self.pair.gap(self.withheld)["id"] not in gaps
        return verdicts == {self.true: "confirmed", self.forged: "absent"} and not missing and bool(system.of("fork"))


def verdicts_in(system: System) -> dict[str, str]:
    """By event, what a system was told of it last."""
    return {data["event_id"]: data["state"] for data in system.of("cross_check")}


def subscribe(pair: Pair, there: Inbox, name: str, topics: str) -> System:
    """Have those topics passed on, from the log's beginning on."""
    made = pair.site.run(
        "receiver", "subscription", "add", name, "--url", there.url, "--on", topics, "--from", "0", "--json"
    )
    assert made.returncode == 0, made
    return System(name, json.loads(made.stdout)["secret"], there)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Generator[Story]:
    """One event that is confirmed, one that is absent, a gap, and in the end a fork."""
    allowed = {"RESCIND_SUBSCRIPTION_NETWORKS": "127.0.0.0/8"}
    with inbox() as one, inbox() as other, paired(tmp_path_factory.mktemp("passed"), allowed) as pair:
        everything = subscribe(pair, one, "everything", f"recorded,{ALERTS},quarantined")
        alerts = subscribe(pair, other, "alerts", ALERTS)
        first, second, third, *_ = Things.made(pair.sandbox.url, 8).receipts
        pair.call(of_receipt(first, relayed=False, key=first))
        true = pair.event(Told("truthlocks", first, "webhook", "revoked"))["id"]
        pair.becomes(true, "confirmed")
        forged = pair.deliver("truthlocks", revoked(second))["event_id"]
        assert pair.deliver("truthlocks", b'{"event_type": "receipt.lost"}')["status"] == "quarantined"
        pair.misbehave("withhold/truthlocks")
        pair.call(of_receipt(third, relayed=False, key=third))
        pair.becomes(forged, "absent")
        pair.gap(third)
        pair.is_read()
        pair.misbehave("log/fork")
        story = Story(pair, everything, alerts, true, forged, third)
        until(lambda: all(map(story.is_told, (everything, alerts))))
        yield story


def test_events_are_passed_on_with_the_delivery_as_it_came(story: Story) -> None:
    """Raw body, the event's id and its place in the log: whoever gets it can ask for the evidence."""
    told = {data["id"]: data for data in story.everything.of("recorded") if data["kind"] == "revocation"}
    assert told.keys() == {story.true, story.forged}
    for event_id, data in told.items():
        event = story.pair.ask(f"/v1/events/{event_id}")
        same = ("log_index", "leaf_hash", "item", "effect", "via", "received_at", "account", "operation")
        assert {name: data[name] for name in same} == {name: event[name] for name in same}
        body = json.loads(base64.b64decode(data["delivery"]["body"]))
        assert body["receipt_id"] == event["item"]["id"]
        assert "webhook-signature" in data["delivery"]["headers"]
    (quarantined,) = story.everything.of("quarantined")
    assert quarantined["reason"] == "unknown_type"


def test_verdicts_and_gaps_are_passed_on(story: Story) -> None:
    """To whoever asked for them, and nothing else."""
    assert {message["type"] for message in story.alerts.messages} == {"cross_check", "gap", "fork"}
    assert verdicts_in(story.alerts) == {story.true: "confirmed", story.forged: "absent"}
    gap = next(one for one in story.alerts.of("gap") if one["id"] == story.pair.gap(story.withheld)["id"])
    assert json.loads(base64.b64decode(gap["issuer_entry"]))["item"]["id"] == story.withheld


def test_a_fork_is_passed_on_with_what_proves_it(story: Story, tmp_path: Path) -> None:
    """What came in the message is a file that anybody can verify who has the key of the issuer's log."""
    (fork,) = story.alerts.of("fork")
    file = tmp_path / "passed-on.fork"
    file.write_bytes(base64.b64decode(fork["evidence"]))

    said = story.pair.site.tell("translog", "verify", file, "--key", story.pair.sandbox.vkey)
    assert said.startswith(f"FORKED: the log {fork['issuer_log']} ")


def test_it_is_passed_on_again_from_any_index(story: Story) -> None:
    """The same messages under the same ids, so that doubles are told; what is before that index is not sent again."""
    before = Counter(delivery.id for delivery in story.everything.inbox.taken)
    (fork,) = story.everything.of("fork")
    start = next(data["log_index"] for data in story.everything.of("recorded") if data["id"] == story.forged)
    since = [f"msg_{one['data']['id']}" for one in story.everything.messages if one["data"]["log_index"] >= start]
    story.pair.site.tell("receiver", "subscription", "replay", "everything", "--from", str(start))

    def again() -> Counter[str]:
        return Counter(delivery.id for delivery in story.everything.inbox.taken) - before

    until(lambda: again() == Counter(since))
    assert f"msg_{fork['id']}" in since
    assert f"msg_{story.true}" not in since
    assert story.alerts.inbox.count(f"msg_{fork['id']}") == 1, "the other system is told nothing twice"


def test_nowhere_else(tmp_path: Path) -> None:
    """An address in the operator's own network is not called unless the operator allows it: the setting is named."""
    site = Site(tmp_path / "receiver")
    site.folder.mkdir()
    command = ("subscription", "add", "inside", "--url", "http://127.0.0.1:9/", "--on", "recorded")
    refused = site.run("receiver", *command)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "RESCIND_SUBSCRIPTION_NETWORKS" in refused.stderr


def test_nothing_is_wrong_afterwards(story: Story) -> None:
    """Every entry, tile, checkpoint and row is in order, and so is what waits to be passed on."""
    assert "nothing is wrong" in story.pair.site.tell("receiver", "fsck")
