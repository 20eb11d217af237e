"""Scrip's books: whatever parts are reversed in whatever order, they balance, and nothing is lost, made or rounded.

The tests count in integers, in the smallest parts that an amount can have; the sandbox computes with decimals.
"""

from collections.abc import Generator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.amounts import parse_amount
from receiver.sandbox.ledger import Books, Ledger
from receiver.sandbox.scrip import ISSUER, MILES, POINTS, Asked, Refused, redeem, reverse

ONE = 10**18
LOTS = "550e8400-e29b-41d4-a716-446655440012"

amounts = st.integers(0, 29).flatmap(lambda zeros: st.integers(10**zeros, 10 ** (zeros + 1) - 1))
"""What is credited: of 1 to 30 digits, each as likely; more than a decimal computes with unless it is told to."""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ledger]:
    """The books, with the assets that there are; the tests put their own redemptions into them."""
    ledger = Ledger.open(tmp_path_factory.mktemp("sandbox"))
    with ledger.act("scrip") as act:
        ISSUER.put_fixtures(act)
    yield ledger
    ledger.close()


def written(parts: int) -> str:
    """An amount as it is sent."""
    return f"{parts // ONE}.{parts % ONE:018d}"


def counted(text: str) -> int:
    """An amount as it is counted."""
    assert parse_amount(text) is not None
    whole, _, fraction = text.lstrip("-").partition(".")
    return int(whole + fraction.ljust(18, "0")) * (-1 if text.startswith("-") else 1)


def thing(books: Books, kind: str, thing_id: str) -> dict[str, Any]:
    """Something that is in the books."""
    found = books.get(kind, thing_id)
    assert found is not None
    return found


def balance(books: Books, journal_entry_id: str) -> dict[str, int]:
    """What a journal entry adds to each that it names; by lot, where it goes to one. Its postings balance."""
    postings = thing(books, "journal_entry", journal_entry_id)["postings"]
    moved = [counted(posting["amount"]) for posting in postings]
    debits, credited = sum(-part for part in moved if part < 0), sum(part for part in moved if part > 0)

    assert len(postings) >= 2
    assert debits == credited > 0
    added: dict[str, int] = {}
    for posting, part in zip(postings, moved, strict=True):
        name = posting["entity_type"]
        if name == "PARTICIPANT" and posting["lot_id"] is not None:
            name = posting["lot_id"]
        added[name] = added.get(name, 0) + part
    return added


def ask(ledger: Ledger, redemption_id: str, left: int, wanted: int | None) -> int:
    """Ask for that much of what is left, or for all of it; how much was reversed."""
    asked = Asked("Returned", None if wanted is None else written(wanted))
    if left == 0 or (wanted is not None and wanted > left):
        with pytest.raises(Refused) as refused:
            reverse(ledger, redemption_id, asked)
        assert refused.value.status == 422
        return 0
    status, reversal = reverse(ledger, redemption_id, asked)
    assert (201, left if wanted is None else wanted) == (status, counted(reversal["amount"]))
    return counted(reversal["amount"])


def assert_reversed(books: Books, redemption_id: str, redeemed: int, taken_back: int) -> list[dict[str, Any]]:
    """Assert that the redemption tells how much of it was reversed, and that its reversals come to that; these."""
    redemption = thing(books, "redemption", redemption_id)
    reversals = [one for one in books.all("reversal") if one["redemption_id"] == redemption_id]
    status = "FULLY_REVERSED" if taken_back == redeemed else "PARTIALLY_REVERSED" if taken_back else "COMPLETED"

    assert (redeemed, taken_back) == (counted(redemption["amount"]), counted(redemption["reversed_amount"]))
    assert taken_back == sum(counted(one["amount"]) for one in reversals) <= redeemed
    assert status == redemption["status"]
    return reversals


def test_lots_come_back_last_in_first_out(ledger: Ledger) -> None:
    """A part may fill a lot and begin the one before it; the journal says what went to which."""
    seen: list[list[tuple[str, str]]] = []
    gone: list[list[int]] = []
    with ledger.read("scrip") as books:
        lot_ids = [one["id"] for one in thing(books, "consumed", LOTS)["lots"]]
    for amount in ("250.00", "100.00", None):
        _, reversal = reverse(ledger, LOTS, Asked("Returned", amount))
        with ledger.read("scrip") as books:
            lots = [thing(books, "lot", lot_id) for lot_id in lot_ids]
            moved = balance(books, reversal["journal_entry_id"])
        seen.append([(lot["remaining"], lot["status"]) for lot in lots])
        gone.append([moved.get(lot_id, 0) // ONE for lot_id in lot_ids])

    consumed, available = ("0.00", "CONSUMED"), "AVAILABLE"
    assert [
        [consumed, consumed, ("250.00", available)],
        [consumed, ("50.00", available), ("300.00", available)],
        [("100.00", available), ("200.00", available), ("300.00", available)],
    ] == seen
    assert gone == [[0, 0, 250], [0, 50, 50], [100, 150, 0]]


@settings(max_examples=40)
@given(data=st.data(), credited=st.lists(amounts, min_size=1, max_size=5), in_lots=st.booleans())
def test_any_parts_leave_the_books_in_balance(
    ledger: Ledger, data: st.DataObject, credited: list[int], in_lots: bool
) -> None:
    """Each part is exact, none goes beyond the redemption, and lots are filled again from the last one on."""
    redemption_id, left = str(uuid4()), sum(credited)
    with ledger.act("scrip") as act:
        redeem(act, redemption_id, MILES if in_lots else POINTS, [written(one) for one in credited])
    with ledger.read("scrip") as books:
        lot_ids = [one["id"] for one in thing(books, "consumed", redemption_id)["lots"]]
    assert len(lot_ids) == (len(credited) if in_lots else 0)

    for _ in range(data.draw(st.integers(1, 5))):
        most = st.integers(1, max(1, left))
        wanted = data.draw(st.none() | most | most.map(lambda part: part // 3 + 1) | st.just(left + 1))
        left -= ask(ledger, redemption_id, left, wanted)

    with ledger.read("scrip") as books:
        taken_back = sum(credited) - left
        reversals = assert_reversed(books, redemption_id, sum(credited), taken_back)
        moved = [balance(books, one["journal_entry_id"]) for one in reversals]
        assert [counted(one["amount"]) for one in reversals] == [-one["SYSTEM_REDEMPTION"] for one in moved]
        redeemed = balance(books, thing(books, "redemption", redemption_id)["journal_entry_id"])
        assert redeemed["SYSTEM_REDEMPTION"] == sum(credited)
        for lot_id, amount in reversed(list(zip(lot_ids, credited, strict=in_lots))):
            filled = min(amount, taken_back)
            taken_back -= filled
            lot = thing(books, "lot", lot_id)
            assert (amount, filled) == (counted(lot["amount"]), counted(lot["remaining"]))
            assert ("AVAILABLE" if filled else "CONSUMED") == lot["status"]
            assert (-amount, filled) == (redeemed[lot_id], sum(one.get(lot_id, 0) for one in moved))
        assert in_lots or taken_back == sum(one["PARTICIPANT"] for one in moved)


@settings(max_examples=25)
@given(
    data=st.data(),
    unit_cost=amounts,
    units=st.integers(1, 40),
    others=st.integers(0, 3),
    spare=st.integers(0, 2),
)
def test_any_units_are_credited_at_their_cost(
    ledger: Ledger, data: st.DataObject, unit_cost: int, units: int, others: int, spare: int
) -> None:
    """To the last digit; the reward's count goes down with them, and makes it ACTIVE if that is below what there is."""
    redemption_id, reward_id, left = str(uuid4()), str(uuid4()), units
    count = units + others
    reward = {
        "id": reward_id,
        "max_total": count - spare if spare < count else count,
        "name": "Voucher",
        "redeemed_count": count,
        "redemption_type": "UNIT_BASED",
        "status": "OUT_OF_STOCK",
        "unit_cost": written(unit_cost),
    }
    with ledger.act("scrip") as act:
        act.put("reward", reward_id, reward)
        redeem(act, redemption_id, POINTS, [written(unit_cost * units)], reward_id, units)

    for _ in range(data.draw(st.integers(1, 4))):
        wanted = data.draw(st.none() | st.integers(1, max(1, left) + 1))
        asked = Asked("Returned", amount="7", quantity=wanted)
        if left == 0 or (wanted or 0) > left:
            with pytest.raises(Refused) as refused:
                reverse(ledger, redemption_id, asked)
            assert refused.value.status == 422
        else:
            _, reversal = reverse(ledger, redemption_id, asked)
            assert (left if wanted is None else wanted) == reversal["quantity"]
            assert reversal["quantity"] * unit_cost == counted(reversal["amount"])
            left -= reversal["quantity"]

    with ledger.read("scrip") as books:
        taken_back = units - left
        reversals = assert_reversed(books, redemption_id, units * unit_cost, taken_back * unit_cost)
        assert taken_back == thing(books, "redemption", redemption_id)["reversed_quantity"]
        for one in reversals:
            cost = counted(one["amount"])
            assert {"SYSTEM_REDEMPTION": -cost, "PARTICIPANT": cost} == balance(books, one["journal_entry_id"])
        kept = thing(books, "reward", reward_id)
        assert count - taken_back == kept["redeemed_count"]
        assert ("ACTIVE" if kept["redeemed_count"] < reward["max_total"] else "OUT_OF_STOCK") == kept["status"]


def test_no_digit_of_thirty_is_lost(ledger: Ledger) -> None:
    """Not of a part, not of what is left, not of units at their cost."""
    raw, of_units, reward_id = str(uuid4()), str(uuid4()), str(uuid4())
    cost, three = "111111111111.111111111111111113", "333333333333.333333333333333339"
    reward = {"id": reward_id, "max_total": None, "name": "Voucher", "redeemed_count": 3, "status": "ACTIVE"}
    with ledger.act("scrip") as act:
        act.put("reward", reward_id, {**reward, "redemption_type": "UNIT_BASED", "unit_cost": cost})
        redeem(act, raw, POINTS, [three])
        redeem(act, of_units, POINTS, [three], reward_id, 3)

    parts = [reverse(ledger, raw, Asked("Returned", amount))[1]["amount"] for amount in ("0.000000000000000001", None)]
    _, two = reverse(ledger, of_units, Asked("Returned", quantity=2))
    assert parts == ["0.000000000000000001", "333333333333.333333333333333338"]
    assert two["amount"] == "222222222222.222222222222222226"
    with ledger.read("scrip") as books:
        assert (three, "FULLY_REVERSED") == tuple(
            thing(books, "redemption", raw)[name] for name in ("reversed_amount", "status")
        )


def test_every_entry_of_the_journal_balances(ledger: Ledger) -> None:
    """Those of the fixtures too: what was credited and redeemed is all at SYSTEM_REDEMPTION, and nobody owes any."""
    with ledger.read("scrip") as books:
        moved = [balance(books, entry["id"]) for entry in books.all("journal_entry")]

    sums = {name: sum(one.get(name, 0) for one in moved) for one in moved for name in one}
    assert sum(sums.values()) == 0
    assert sums.pop("SYSTEM_ISSUANCE") < 0
    assert all(amount >= 0 for amount in sums.values())


def test_books_that_name_what_they_do_not_have_are_not_used(ledger: Ledger) -> None:
    """A redemption of an asset that is not there cannot be made, and nothing of it is kept."""
    redemption_id = str(uuid4())
    with pytest.raises(LookupError, match="asset"), ledger.act("scrip") as act:
        redeem(act, redemption_id, str(uuid4()), ["1.00"])

    with ledger.read("scrip") as books:
        assert books.get("redemption", redemption_id) is None
