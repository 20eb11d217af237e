"""Outages, the issuer's log's and our own: what cannot be known yet stays pending, and nothing false is said of it.

Absent and gaps rest on a checkpoint that was asked for after the grace period, with everything under it read. As long
as there is none, whoever's outage it is, nothing is called absent or a gap, however long ago the grace period was over.
"""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receiver.events import parse_time
from tests.sandbox.inbox import Inbox, inbox
from tests.scenarios.callers import Things, of_receipt
from tests.scenarios.pairing import Pair, Told, grace_goes_by, paired
from tests.scenarios.service import revoked, until


@pytest.fixture
def pair(tmp_path: Path) -> Generator[Pair]:
    """Sandbox and receiver."""
    with paired(tmp_path) as pair:
        yield pair


def receipts(pair: Pair) -> list[str]:
    """Receipts just minted, five of them."""
    return list(Things.made(pair.sandbox.url, 8).receipts)


def revoke(pair: Pair, receipt: str) -> str:
    """Have a receipt revoked, which is delivered; the event's id."""
    pair.call(of_receipt(receipt, relayed=False, key=receipt))
    return pair.event(Told("truthlocks", receipt, "webhook", "revoked"))["id"]


def test_a_log_that_is_down(pair: Pair) -> None:
    """Beyond the grace period everything is pending, and it is told why; once the log is up, all is found out."""
    with grace_goes_by(pair) as grace_is_over:
        first, second, third, *_ = receipts(pair)
        before = revoke(pair, first)
        pair.becomes(before, "confirmed")
        pair.is_read()
        pair.misbehave("log/down")
        until(lambda: pair.issuer_log()["state"] == "failing")
        true, forged = revoke(pair, second), pair.deliver("truthlocks", revoked())["event_id"]
        pair.misbehave("withhold/truthlocks")
        pair.call(of_receipt(third, relayed=False, key=third))
        grace_is_over()

        states = [pair.check(one)["state"] for one in (before, true, forged)]
        assert states == ["confirmed", "pending", "pending"]
        found = pair.issuer_log()
        assert (found["state"], "503" in found["failure"]) == ("failing", True)
        assert parse_time(found["complete_at"]) < parse_time(found["failing_since"])
        assert found["fork"] is None
        assert "failing since" in pair.site.tell("receiver", "issuer-log", "list")
        assert pair.listed("/v1/gaps") == []
        ready = pair.service.client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ok")

        pair.misbehave("log/up")
        check = pair.becomes(true, "confirmed")["cross_check"]
        assert check["late"] is False, "it was never said to be absent"
        pair.becomes(forged, "absent")
        assert pair.gap(third) == pair.only_gap()
        found = pair.issuer_log()
        assert (found["state"], found["failure"], found["failing_since"]) == ("current", None, None)


def test_our_own_service_is_down(tmp_path: Path) -> None:
    """What was not looked at while we were away is neither absent nor a gap: its time counts from when it could be."""
    grace = 6  # in which the service is up again, and deliveries come in
    with inbox() as there, paired(tmp_path, elsewhere={"truthlocks": there.url}, grace=grace) as pair:
        early, done, never = receipts(pair)[:3]
        pair.misbehave("log/down")
        until(lambda: pair.issuer_log()["state"] == "failing")
        pair.call(of_receipt(early, relayed=False, key=early))
        first = pass_on(pair, there, early)
        over = datetime.now(UTC) + timedelta(seconds=grace)

        def away() -> None:
            for receipt in (done, never):
                pair.call(of_receipt(receipt, relayed=False, key=receipt))
            pair.misbehave("log/up")
            until(lambda: datetime.now(UTC) > over)

        pair.restart(away)
        second = pass_on(pair, there, done)

        for event_id in (first, second):
            assert pair.becomes(event_id, "confirmed")["cross_check"]["late"] is False
        gap = pair.gap(never)
        assert gap == pair.only_gap()
        assert parse_time(gap["seen_at"]) > over
        until(lambda: len(pair.told("gap")) == 1)
        assert sorted(str(leaf.facts["first"]) for leaf in pair.told("cross_check")) == sorted([first, second])
        assert [leaf.facts["state"] for leaf in pair.told("cross_check")] == ["confirmed"] * 2


def pass_on(pair: Pair, there: Inbox, receipt: str) -> str:
    """Deliver the notice of a receipt that was revoked; the event's id."""

    def came() -> list[bytes]:
        return [body for body in there.bodies() if receipt.encode() in body]

    until(lambda: bool(came()))
    (body,) = came()
    return pair.deliver("truthlocks", body)["event_id"]
