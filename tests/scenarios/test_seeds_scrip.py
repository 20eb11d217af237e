"""Scrip's documented operation on a real sandbox: as its page has it, in parts up to the whole, and refused.

`test_seeds.py` has the others, and holds this page's request against the page too.
"""

import json
from decimal import Decimal
from typing import Any

import pytest

from receiver.documents import is_uuid
from receiver.sandbox.scrip import DONATION, GIFT_CARD, MILES, ORGANIZATION, POINTS
from tests.scenarios.seeds import SCRIP, Answer, differences, needs_curl
from tests.scenarios.stage import Stage, is_now

pytestmark = needs_curl

RAW = "550e8400-e29b-41d4-a716-446655440001"
UNITS = "550e8400-e29b-41d4-a716-446655440011"
LOTS = "550e8400-e29b-41d4-a716-446655440012"
DONATED = "550e8400-e29b-41d4-a716-446655440013"
HEADERS = {"X-API-Key": "scrip_sandbox"}
BODY = SCRIP.request[SCRIP.request.index("--data '") + len("--data '") : SCRIP.request.rindex("'")]


def reverse(stage: Stage, redemption: str = RAW, **members: object) -> Answer:
    """Type in the page's request with another body, and for another redemption if one is given."""
    changes = [(BODY, json.dumps({"reason": "Returned", **members}))]
    if redemption != RAW:
        changes.append((RAW, redemption))
    return stage.send(SCRIP, *changes)


def redemption_of(stage: Stage, redemption: str) -> dict[str, Any]:
    """What is answered of it."""
    return stage.read(f"/v1/redemptions/{redemption}", **HEADERS)


def reversals_of(stage: Stage, redemption: str) -> list[dict[str, Any]]:
    """Those of it, as they are listed."""
    return stage.read(f"/v1/redemptions/{redemption}/reversals", **HEADERS)["data"]


def refusal(answer: Answer) -> tuple[int, str]:
    """Its status and its code; it has the documented members."""
    assert set(answer.body) == {"code", "message"}
    return answer.status, answer.body["code"]


def test_a_redemption_is_reversed_logged_and_told_of(stage: Stage) -> None:
    """By the amount that the page asks for; the quantity that it asks for too does not fit, and is ignored."""
    answer = stage.send(SCRIP)
    reversal = answer.body
    [entry] = stage.logged()
    delivered = stage.delivered(reversal["id"])

    asked = {"amount": "500.00", "quantity": None, "reason": "Customer refund request", "redemption_id": RAW}
    made = {name: reversal[name] for name in ("created_at", "id", "journal_entry_id")}
    assert (answer.status, reversal) == (201, {**asked, **made})
    assert is_now(reversal["created_at"])
    assert is_uuid(reversal["id"])
    assert is_uuid(reversal["journal_entry_id"])
    assert entry == {
        "account": ORGANIZATION,
        "amount": "500.00",
        "at": entry["at"],
        "effect": "reversed",
        "event": "REDEMPTION_REVERSE",
        "item": {"id": RAW, "type": "redemption"},
        "operation": reversal["id"],
        "provider": "scrip",
        "quantity": None,
    }
    assert (delivered["type"], delivered["data"]) == ("redemption.reversed", reversal)
    assert delivered.keys() == {"id", "type", "api_version", "created_at", "organization_id", "data"}


def test_the_same_key_gets_the_first_record(stage: Stage) -> None:
    """With 200; with another payload it is a conflict. Only the first is a reversal."""
    first, again = stage.send(SCRIP), stage.send(SCRIP)
    others = [stage.send(SCRIP, change) for change in (('"500.00"', '"400.00"'), ("Customer", "Another"))]

    assert [first, again] == [Answer(201, first.body), Answer(200, first.body)]
    assert [refusal(other) for other in others] == [(409, "idempotency_conflict")] * 2
    assert len(stage.logged()) == 1
    assert reversals_of(stage, RAW) == [first.body]


@pytest.mark.parametrize("redemption", [RAW, LOTS, DONATED])
def test_parts_come_to_no_more_than_the_redemption(redemption: str, stage: Stage) -> None:
    """Each is taken off what is left; above that it is 422, and with neither member it is all of it."""
    whole = Decimal(redemption_of(stage, redemption)["amount"])
    parts = [reverse(stage, redemption, amount="100.00"), reverse(stage, redemption, amount="49.99")]
    partly = redemption_of(stage, redemption)
    beyond = reverse(stage, redemption, amount=str(whole - Decimal("149.98")))
    parts.append(reverse(stage, redemption))
    fully = redemption_of(stage, redemption)

    assert [part.status for part in parts] == [201] * 3
    assert [differences(SCRIP.answer, part.body, frozenset({"quantity"})) for part in parts] == [[]] * 3
    assert (partly["status"], partly["reversed_amount"]) == ("PARTIALLY_REVERSED", "149.99")
    assert refusal(beyond) == (422, "unprocessable")
    assert Decimal(parts[2].body["amount"]) == whole - Decimal("149.99")
    assert (fully["status"], fully["reversed_amount"]) == ("FULLY_REVERSED", fully["amount"])
    assert refusal(reverse(stage, redemption, amount="0.01")) == (422, "unprocessable")
    assert refusal(reverse(stage, redemption)) == (422, "unprocessable")
    assert reversals_of(stage, redemption) == [part.body for part in parts]
    assert len(stage.logged()) == 3


def test_units_come_back_and_so_does_the_reward(stage: Stage) -> None:
    """Units are credited at their cost; the reward that was out of stock is active again with the first of them."""
    before = stage.thing("scrip", "reward", GIFT_CARD)
    first = stage.send(SCRIP, (RAW, UNITS))
    between = stage.thing("scrip", "reward", GIFT_CARD)
    beyond = reverse(stage, UNITS, quantity=3)
    rest = reverse(stage, UNITS)

    assert (before["status"], before["redeemed_count"]) == ("OUT_OF_STOCK", before["max_total"])
    assert (first.status, first.body["quantity"], first.body["amount"]) == (201, 1, "500.00")
    assert differences(SCRIP.answer, first.body) == []
    assert (between["status"], between["redeemed_count"]) == ("ACTIVE", before["redeemed_count"] - 1)
    assert refusal(beyond) == (422, "unprocessable")
    assert (rest.status, rest.body["quantity"], rest.body["amount"]) == (201, 2, "1000.00")
    assert refusal(reverse(stage, UNITS)) == (422, "unprocessable")
    assert [entry["quantity"] for entry in stage.logged()] == ["1", "2"]
    redemption = redemption_of(stage, UNITS)
    assert (redemption["status"], redemption["reversed_quantity"]) == ("FULLY_REVERSED", 3)


def test_lots_come_back_last_in_first_out(stage: Stage) -> None:
    """Three were consumed, of 100, 200 and 300; 350 fill the last of them and begin the one before it."""
    consumed = [lot["id"] for lot in stage.thing("scrip", "consumed", LOTS)["lots"]]
    assert reverse(stage, LOTS, amount="350.00").status == 201

    lots = [stage.thing("scrip", "lot", lot) for lot in consumed]
    assert [lot["amount"] for lot in lots] == ["100.00", "200.00", "300.00"]
    assert [lot["remaining"] for lot in lots] == ["0.00", "50.00", "300.00"]
    assert [lot["status"] for lot in lots] == ["CONSUMED", "AVAILABLE", "AVAILABLE"]


@pytest.mark.parametrize(("redemption", "asset"), [(RAW, POINTS), (UNITS, POINTS), (LOTS, MILES), (DONATED, POINTS)])
def test_what_a_reversal_credits_is_debited_elsewhere(redemption: str, asset: str, stage: Stage) -> None:
    """In the journal entry that it names."""
    reversal = reverse(stage, redemption).body
    postings = stage.thing("scrip", "journal_entry", reversal["journal_entry_id"])["postings"]
    moved = [Decimal(posting["amount"]) for posting in postings]

    assert {posting["asset_id"] for posting in postings} == {asset}
    assert sum(amount for amount in moved if amount > 0) == Decimal(reversal["amount"])
    assert sum(moved) == 0


def test_a_reward_without_units_goes_by_amount(stage: Stage) -> None:
    """AMOUNT_BASED: the quantity does not fit."""
    assert stage.thing("scrip", "reward", DONATION)["redemption_type"] == "AMOUNT_BASED"

    answer = reverse(stage, DONATED, amount="50.00", quantity=7)

    assert (answer.status, answer.body["amount"], answer.body["quantity"]) == (201, "50.00", None)


@pytest.mark.parametrize("reason", ["x", "x" * 500])
def test_a_reason_may_have_that_many_characters(reason: str, stage: Stage) -> None:
    """One at least, 500 at most."""
    assert reverse(stage, reason=reason).body["reason"] == reason


@pytest.mark.parametrize(
    "members",
    [
        {"reason": ""},
        {"reason": "x" * 501},
        {"reason": None},
        {"reason": 1},
        {"amount": 500},
        {"amount": "5e2"},
        {"amount": "0.00"},
        {"amount": "-1.00"},
        {"quantity": "1"},
        {"quantity": 1.5},
        {"idempotency_key": 1},
    ],
    ids=str,
)
def test_a_request_that_is_not_as_documented_is_400(members: dict[str, Any], stage: Stage) -> None:
    """And nothing is reversed."""
    assert refusal(reverse(stage, **members)) == (400, "invalid_request")
    assert stage.logged() == []


@pytest.mark.parametrize(
    ("status", "code", "change"),
    [
        (401, "unauthorized", ("--header 'X-API-Key: scrip_sandbox'", "")),
        (401, "unauthorized", ("scrip_sandbox", "scrip_other")),
        (404, "not_found", (RAW, "550e8400-e29b-41d4-a716-446655440099")),
        (404, "not_found", (RAW, "1")),
        (400, "invalid_request", ('"reason": "Customer refund request",', "")),
        (422, "unprocessable", ('"500.00"', '"1000.01"')),
        (405, "method_not_allowed", ("POST", "PUT")),
    ],
)
def test_every_refusal_has_a_code_and_a_message(status: int, code: str, change: tuple[str, str], stage: Stage) -> None:
    """And the redemption is as it was."""
    assert refusal(stage.send(SCRIP, change)) == (status, code)
    assert redemption_of(stage, RAW)["status"] == "COMPLETED"
    assert stage.logged() == []
