"""All five operations, called directly and through the relay: each event is found in the sandbox's own log.

The sandbox does it, logs it and delivers it; the receiver records it, follows the log, and says of each event by which
entry it is confirmed. What the issuer took back later is contradicted.
"""

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from receiver.sandbox import voucherify
from tests.postgres import Cluster
from tests.scenarios.callers import (
    BADGES,
    LOTS,
    OF_AMOUNT,
    Call,
    Things,
    of_badge,
    of_bucket,
    of_job,
    of_receipt,
    of_redemption,
)
from tests.scenarios.pairing import Pair, Told, paired
from tests.scenarios.service import until

BUCKET, KEPT = voucherify.PENDING, voucherify.REJECTED
"""The one that is canceled, and the one whose cancellation is rejected."""


def told(call: Call) -> list[Told]:
    """The events that come of a call."""
    direct = {
        "truthlocks": [("webhook", "revoked")],
        "thanx": [("declared", "revoking"), ("declared", "revoked")],
        "capillary": [("declared", "revoked")],
        "voucherify": [("declared", "canceling"), ("declared", "rejected" if call.item == KEPT else "canceled")],
        "scrip": [("webhook", "reversed")],
    }
    ways = direct[call.provider]
    if call.relayed:
        ways = [("relay", ways[0][1]), *ways]
    return [Told(call.provider, call.item, via, effect) for via, effect in ways]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """Sandbox and receiver, the receiver on a database of either kind."""
    settings: dict[str, str] = {}
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgresql")
        settings["RESCIND_DATABASE_URL"] = cluster.url(cluster.create_database())
    with paired(tmp_path_factory.mktemp("checked"), settings) as pair:
        yield pair


@pytest.fixture(scope="module")
def calls(pair: Pair) -> list[Call]:
    """One of each operation by both ways, and all that comes of them; none is about the item of another."""
    things = Things.made(pair.sandbox.url, 16)
    (receipt, another_receipt), (job, another_job) = things.receipts[:2], things.jobs
    for one in things.jobs:
        pair.completed(one)
    made = [
        of_receipt(receipt, relayed=False, key=receipt),
        of_receipt(another_receipt, relayed=True),
        of_job(job, relayed=False),
        of_job(another_job, relayed=True),
        of_badge(BADGES[0], relayed=False),
        of_badge(BADGES[1], relayed=True),
        of_bucket(BUCKET, relayed=True),
        of_bucket(KEPT, relayed=False),
        of_redemption(OF_AMOUNT, {"amount": "50.00"}, relayed=False, key="50"),
        of_redemption(LOTS, {"amount": "300.00"}, relayed=True, key="300"),
    ]
    for call in made:
        pair.call(call)
    expected = Counter(one for call in made for one in told(call))

    def is_told() -> bool:
        return Counter(Told.of(event) for event in pair.events() if event["effect"]) == expected

    until(is_told)
    return made


@pytest.fixture(scope="module")
def settled(pair: Pair, calls: list[Call]) -> list[dict[str, Any]]:
    """All these events, oldest first, once each was found in the log."""

    def is_settled() -> bool:
        return all(event["cross_check"]["state"] in {"confirmed", "contradicted"} for event in effects(pair))

    until(is_settled)
    assert {event["item"]["id"] for event in effects(pair)} == {call.item for call in calls}
    return effects(pair)


def effects(pair: Pair) -> list[dict[str, Any]]:
    """The events that say that something is taken back, or is not after all; oldest first."""
    return [event for event in pair.events() if event["effect"]]


def test_every_event_is_confirmed_by_the_entry_of_its_own_act(pair: Pair, settled: list[dict[str, Any]]) -> None:
    """By webhook, declared and by relay: what tells of one act has one entry, of its operation and effect."""
    issued = pair.issued()
    honest = [event for event in settled if event["item"]["id"] != KEPT]
    assert Counter(event["via"] for event in honest) == {"relay": 5, "webhook": 4, "declared": 8}
    for event in honest:
        check = event["cross_check"]
        assert (check["state"], check["by"], check["differences"]) == ("confirmed", "issuer_log", [])
        assert check["issuer_log"] == pair.issuer
        same = ("provider", "item", "operation", "effect", "amount", "quantity")
        index: int = check["issuer_index"]
        entry = issued[index]
        assert {name: entry[name] for name in same if event[name] is not None} == {
            name: event[name] for name in same if event[name] is not None
        }
    by_act = {(event["operation"], event["effect"], event["cross_check"]["issuer_index"]) for event in honest}
    assert len(by_act) == len({index for *_, index in by_act}) == 12


@pytest.mark.usefixtures("settled")
def test_a_cancellation_that_is_rejected_later_is_contradicted(pair: Pair) -> None:
    """The log denied it in the end: the item is disputed, and what says the same as the log is confirmed."""
    canceling, rejected = [pair.event(Told("voucherify", KEPT, "declared", one)) for one in ("canceling", "rejected")]
    issued = pair.issued()
    denial = rejected["cross_check"]["issuer_index"]

    assert (rejected["cross_check"]["state"], issued[denial]["effect"]) == ("confirmed", "rejected")
    check = pair.becomes(canceling["id"], "contradicted")["cross_check"]
    assert check["issuer_index"] == denial
    assert check["differences"] == [{"field": "effect", "event": "canceling", "issuer": "rejected"}]
    item = pair.item("voucherify", f"pending_points/{KEPT}")
    assert (item["state"], item["since"]) == ("disputed", check["since"])
    assert [event["id"] for event in pair.events(cross_check="contradicted")] == [canceling["id"]]


def test_each_change_is_one_entry_of_our_log(pair: Pair, settled: list[dict[str, Any]]) -> None:
    """The last one of an event says what is known of it; of two that are told of one event no two say the same."""
    states = {event["id"]: event["cross_check"]["state"] for event in settled}
    until(lambda: {event_id: told[-1] for event_id, told in changes(pair).items()} == states)
    for told_of in changes(pair).values():
        assert len(set(told_of)) == len(told_of)


def changes(pair: Pair) -> dict[str, list[str]]:
    """By event, the states that our log tells of, in order."""
    found: dict[str, list[str]] = {}
    for leaf in pair.told("cross_check"):
        found.setdefault(str(leaf.facts["first"]), []).append(str(leaf.facts["state"]))
    return found


@pytest.mark.usefixtures("settled")
def test_none_of_them_is_a_gap(pair: Pair) -> None:
    """Every entry was announced. The only gap is of a later one, whose notice is withheld to see that gaps are."""
    pair.misbehave("withhold/scrip")
    withheld = pair.call(of_redemption(OF_AMOUNT, {"amount": "20.00"}, relayed=False, key="20")).json()

    gap = pair.gap(OF_AMOUNT)
    assert pair.only_gap() == gap
    assert (gap["operation"], gap["issuer_index"]) == (withheld["id"], len(pair.issued()) - 1)


@pytest.mark.usefixtures("settled")
def test_nothing_is_wrong_afterwards(pair: Pair) -> None:
    """While the service still runs, every entry, tile, checkpoint and row is in order."""
    assert "nothing is wrong" in pair.site.tell("receiver", "fsck")
