"""A redemption that is reversed in parts: each notice is found to be of its own entry in the issuer's log.

The notices are taken in by the test and delivered in an order of its choice, as they may well come. Two parts of the
same amount are told apart by their operations.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.inbox import Inbox, inbox
from tests.scenarios.callers import LOTS, OF_AMOUNT, RAW, UNITS, of_redemption
from tests.scenarios.pairing import Pair, paired
from tests.scenarios.service import until


@dataclass(frozen=True, slots=True)
class Post:
    """Sandbox and receiver, and between them the notices."""

    pair: Pair
    inbox: Inbox

    def reverse(self, redemption: str, *amounts: str | None) -> list[dict[str, Any]]:
        """Reverse these parts of a redemption, None being all that is left of it; the notice of each, in order."""
        parts = [{} if amount is None else {"amount": amount} for amount in amounts]
        calls = [
            of_redemption(redemption, part, relayed=False, key=f"{redemption} {number}")
            for number, part in enumerate(parts)
        ]
        ids = [self.pair.call(call).json()["id"] for call in calls]

        def came() -> dict[str, dict[str, Any]]:
            notices = [json.loads(body) for body in self.inbox.bodies()]
            return {notice["data"]["id"]: notice for notice in notices}

        until(lambda: came().keys() >= set(ids))
        return [came()[one] for one in ids]

    def deliver(self, notices: Sequence[dict[str, Any]]) -> list[str]:
        """Deliver notices in that order; the ids of their events."""
        return [self.pair.deliver("scrip", json.dumps(notice).encode())["event_id"] for notice in notices]

    def entries_of(self, events: Sequence[str]) -> list[dict[str, Any]]:
        """The entries by which these events are confirmed, once they are."""
        checks = [self.pair.becomes(event_id, "confirmed")["cross_check"] for event_id in events]
        issued = self.pair.issued()
        return [issued[check["issuer_index"]] for check in checks]


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Generator[Post]:
    """Everything, with a grace period in which the notices are delivered."""
    folder: Path = tmp_path_factory.mktemp("parts")
    with inbox() as there, paired(folder, elsewhere={"scrip": there.url}, grace=3600) as pair:
        yield Post(pair, there)


def matched(post: Post, notices: Sequence[dict[str, Any]], events: Sequence[str]) -> None:
    """Hold each event's entry against its notice: the act and the amount are the same."""
    found = [(entry["operation"], Decimal(entry["amount"])) for entry in post.entries_of(events)]
    assert found == [(notice["data"]["id"], Decimal(notice["data"]["amount"])) for notice in notices]


def test_a_part_and_its_completion(post: Post) -> None:
    """Each is confirmed by its own entry, and together they have taken the redemption back."""
    notices = post.reverse(RAW, "400.00", None)
    events = post.deliver(notices)

    matched(post, notices, events)
    item = post.pair.item("scrip", f"redemption/{RAW}")
    assert (item["state"], Decimal(item["reversed_amount"])) == ("partly", 1000)


def test_in_the_other_order_and_of_equal_amounts(post: Post) -> None:
    """Whichever comes first: the second half is not taken for the first, though both are of the same amount."""
    notices = post.reverse(LOTS, "250.00", "250.00", None)[::-1]
    events = post.deliver(notices)

    matched(post, notices, events)


def test_all_at_once_when_the_log_is_there_again(post: Post) -> None:
    """What was delivered while nothing could be read of the log is matched in the same way."""
    post.pair.misbehave("log/down")
    notices = post.reverse(OF_AMOUNT, "50.00", "50.00", "100.00", None)
    events = post.deliver([notices[1], notices[3], notices[0], notices[2]])
    assert {post.pair.check(event_id)["state"] for event_id in events} == {"pending"}
    post.pair.misbehave("log/up")

    matched(post, [notices[1], notices[3], notices[0], notices[2]], events)


def test_none_is_left_over(post: Post) -> None:
    """Each part announced its own entry: with the grace period over, what was never delivered is the only gap."""
    left = post.pair.call(of_redemption(UNITS, {"quantity": 1}, relayed=False, key="unit")).json()["id"]
    post.pair.change("scrip", grace=1)

    assert post.pair.gap(UNITS)["operation"] == left
    assert post.pair.only_gap()["operation"] == left
