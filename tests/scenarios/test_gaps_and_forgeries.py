"""What was never delivered, and what was delivered and never happened: the issuer's log tells of both.

A notice that an issuer withheld is a gap: its log has the act, and no delivery announced it. A notice that somebody
forged, with the secret of the source, is authenticated like any other; but the issuer's log has no such act.
"""

import base64
import json
from collections.abc import Generator
from typing import Any

import pytest

from receiver.events import parse_time
from receiver.sandbox import truthlocks
from tests.receiver.five import FIVE
from tests.scenarios.callers import BADGES, Things, of_badge, of_receipt
from tests.scenarios.pairing import GRACE, Pair, Told, paired
from tests.scenarios.service import revoked, until


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """Sandbox and receiver."""
    with paired(tmp_path_factory.mktemp("gaps")) as pair:
        yield pair


@pytest.fixture
def receipt(pair: Pair) -> str:
    """A receipt just minted."""
    return Things.made(pair.sandbox.url, 2).receipts[0]


@pytest.fixture
def gap(pair: Pair, receipt: str) -> dict[str, Any]:
    """What became of a receipt whose revocation was not delivered."""
    pair.misbehave("withhold/truthlocks")
    pair.call(of_receipt(receipt, relayed=False, key=receipt))
    return pair.gap(receipt)


def resent(gap: dict[str, Any]) -> bytes:
    """The notice that was withheld, as the issuer would send it after all: of the time that its log has."""
    return revoked(gap["item"]["id"], revoked_at=gap["occurred_at"])


def test_what_was_withheld_is_a_gap(pair: Pair, receipt: str, gap: dict[str, Any]) -> None:
    """After the grace period it is listed, with what the issuer's log says; nothing is known of the receipt itself."""
    index: int = gap["issuer_index"]
    entry = pair.issued()[index]
    assert json.loads(base64.b64decode(gap["entry"])) == entry
    assert (gap["state"], gap["source"], gap["provider"]) == ("open", pair.sources["truthlocks"], "truthlocks")
    assert (gap["item"], gap["effect"], gap["account"]) == (entry["item"], "revoked", truthlocks.ACCOUNT)
    assert gap["item"] == {"type": "receipt", "id": receipt}
    waited = parse_time(gap["logged_at"]) - parse_time(gap["seen_at"])
    assert waited.total_seconds() >= GRACE
    assert pair.ask(f"/v1/gaps/{gap['id']}") == gap
    assert pair.item("truthlocks", f"receipt/{receipt}")["state"] == "no_record"


def test_the_evidence_of_a_gap(pair: Pair, gap: dict[str, Any]) -> None:
    """It shows the issuer's entry, and brings the issuer's own proof: whoever has both keys can verify it offline."""
    file = pair.evidence(gap["id"])

    verified = pair.verify(file, "--issuer-key", pair.sandbox.vkey)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert gap["item"]["id"] in verified.stdout
    assert pair.verify(file, "--issuer-key", pair.vkey).returncode == 1


def test_delivered_later_it_is_announced(pair: Pair, gap: dict[str, Any]) -> None:
    """It is no gap any more, and listed as one that was; both are told in our log, and the event is confirmed."""
    event_id = pair.deliver("truthlocks", resent(gap))["event_id"]

    until(lambda: pair.ask(f"/v1/gaps/{gap['id']}")["state"] == "announced")
    assert gap["id"] not in [one["id"] for one in pair.listed("/v1/gaps")]
    assert gap["id"] in [one["id"] for one in pair.listed("/v1/gaps", announced="true")]
    assert pair.becomes(event_id, "confirmed")["cross_check"]["issuer_index"] == gap["issuer_index"]
    until(lambda: gap["id"] in [leaf.facts["gap"] for leaf in pair.told("gap")])
    told = [leaf for leaf in pair.told("gap") if gap["id"] in (leaf.id, leaf.facts["gap"])]
    assert [(leaf.facts["state"], leaf.facts["gap"]) for leaf in told] == [("open", None), ("announced", gap["id"])]


@pytest.mark.parametrize(
    ("provider", "state"),
    [("truthlocks", "taken_back"), ("thanx", "pending"), ("capillary", "taken_back"), ("scrip", "partly")],
)
def test_a_forged_notice_is_absent(provider: str, state: str, pair: Pair) -> None:
    """The stolen secret lets it in, and it is recorded; but after the grace period the issuer's log has no such act."""
    party = FIVE[provider]
    forged = pair.deliver(provider, party.body())
    assert forged["status"] == "recorded"

    event = pair.becomes(forged["event_id"], "absent")
    check = event["cross_check"]
    assert (check["by"], check["issuer_index"], check["late"]) == ("issuer_log", None, False)
    assert (parse_time(check["since"]) - parse_time(event["received_at"])).total_seconds() >= GRACE
    assert event in pair.events(cross_check="absent", provider=provider)
    item = pair.item(provider, f"{party.item_type}/{event['item']['id']}")
    assert (item["state"], item["events"]) == (state, [event])


def test_an_act_that_is_told_otherwise_is_contradicted(pair: Pair, receipt: str) -> None:
    """A forgery of what was done, of another time: the true notice is confirmed, and the item is disputed."""
    pair.call(of_receipt(receipt, relayed=False, key=receipt))
    true = pair.event(Told("truthlocks", receipt, "webhook", "revoked"))
    forged = pair.deliver("truthlocks", revoked(receipt, revoked_at="2026-01-01T00:00:00Z"))

    check = pair.becomes(forged["event_id"], "contradicted")["cross_check"]
    confirmed = pair.becomes(true["id"], "confirmed")["cross_check"]
    index: int = confirmed["issuer_index"]
    entry = pair.issued()[index]
    assert check["issuer_index"] == index
    assert check["differences"] == [{"field": "at", "event": "2026-01-01T00:00:00.000000Z", "issuer": entry["at"]}]
    assert [event["id"] for event in pair.events(cross_check="contradicted")] == [forged["event_id"]]
    item = pair.item("truthlocks", f"receipt/{receipt}")
    assert (item["state"], item["since"]) == ("disputed", check["since"])


def test_what_was_absent_is_confirmed_late(pair: Pair) -> None:
    """Told before it was done, it is absent; once the issuer's log has it, it is confirmed, and both are in our log."""
    badge = BADGES[0]
    early = pair.deliver("capillary", FIVE["capillary"].body(badge))["event_id"]
    pair.becomes(early, "absent")
    pair.call(of_badge(badge, relayed=False))

    assert pair.becomes(early, "confirmed")["cross_check"]["late"] is True

    def told() -> list[tuple[object, object, object]]:
        entries = [leaf.facts for leaf in pair.told("cross_check") if leaf.facts["first"] == early]
        return [(facts["was"], facts["state"], facts["late"]) for facts in entries]

    until(lambda: told() == [("pending", "absent", False), ("absent", "confirmed", True)])


def test_our_log_has_each_once(pair: Pair) -> None:
    """Of every gap one entry says that it is open; whoever looks again finds it told."""
    opened = [leaf for leaf in pair.told("gap") if leaf.facts["state"] == "open"]
    assert sorted(leaf.id for leaf in opened) == sorted(
        one["id"] for one in [*pair.listed("/v1/gaps"), *pair.listed("/v1/gaps", announced="true")]
    )


def test_nothing_is_wrong_afterwards(pair: Pair) -> None:
    """Every entry, tile, checkpoint and row is in order, and so is all that was found out."""
    assert "nothing is wrong" in pair.site.tell("receiver", "fsck")
