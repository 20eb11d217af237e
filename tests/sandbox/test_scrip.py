"""Scrip as the issuing side: the documented request, parts and what is left, every refusal, and the books behind it."""

import json
import shlex
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from receiver import providers
from receiver.documents import is_uuid
from receiver.events import Effect, Event, Extent, Item, parse_time
from receiver.intake.signatures import Authenticated, Secret, scheme_from_options, verifier
from receiver.providers import Call, Notice
from receiver.sandbox.scrip import API_KEY, DONATION, GIFT_CARD, ISSUER, ORGANIZATION, POINTS, redeem
from receiver.strictjson import parse
from tests.receiver.service import at_once
from tests.sandbox.service import Sandbox, running

SCRIP = providers.get("scrip")

PAGE = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "scrip-reverse-redemption.txt"

REQUEST = """\
curl --request POST \\
  --url https://api.scrip.dev/v1/redemptions/{id}/reverse \\
  --header 'Content-Type: application/json' \\
  --header 'X-API-Key: <api-key>' \\
  --data '
{
  "reason": "Customer refund request",
  "amount": "500.00",
  "idempotency_key": "reverse-12345",
  "quantity": 1
}
'
"""
ANSWER = """\
{
  "amount": "500.00",
  "created_at": "2024-01-15T10:30:00Z",
  "id": "550e8400-e29b-41d4-a716-446655440000",
  "journal_entry_id": "550e8400-e29b-41d4-a716-446655440002",
  "quantity": 1,
  "reason": "Customer refund request",
  "redemption_id": "550e8400-e29b-41d4-a716-446655440001"
}
"""
"""What the page has, verbatim."""

RAW = "550e8400-e29b-41d4-a716-446655440001"
UNITS = "550e8400-e29b-41d4-a716-446655440011"
LOTS = "550e8400-e29b-41d4-a716-446655440012"
DONATED = "550e8400-e29b-41d4-a716-446655440013"
UNKNOWN = "550e8400-e29b-41d4-a716-44665544ffff"

HEADERS = {"X-API-Key": API_KEY}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """A running sandbox in which nothing is done: for what it refuses."""
    with running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


def seed(redemption_id: str) -> dict[str, Any]:
    """The documented request with its placeholders filled in, taken apart as a shell would; without the host."""
    words = shlex.split(REQUEST.replace("\\\n", " ").replace("{id}", redemption_id).replace("<api-key>", API_KEY))
    options = list(zip(words[1::2], words[2::2], strict=True))
    given = dict(options)
    headers = dict(header.split(": ", 1) for option, header in options if option == "--header")
    path = urlsplit(given["--url"]).path
    return {"method": given["--request"], "url": path, "headers": headers, "content": given["--data"]}


def ask(sandbox: Sandbox, redemption_id: str = RAW, **members: object) -> httpx2.Response:
    """Ask for a reversal, with a reason unless another is given."""
    content = json.dumps({"reason": "Returned", **members})
    return sandbox.client.post(f"/v1/redemptions/{redemption_id}/reverse", headers=HEADERS, content=content)


def read(sandbox: Sandbox, path: str, **query: str | int) -> dict[str, Any]:
    """What is answered at a path below the redemptions."""
    answer = sandbox.client.get(f"/v1/redemptions/{path}", headers=HEADERS, params=query)
    assert answer.status_code == 200
    return answer.json()


def assert_refused(answer: httpx2.Response, status: int, code: str) -> None:
    """Assert that it is the documented error, and says something."""
    assert (status, code) == (answer.status_code, answer.json()["code"])
    assert {"code", "message"} == answer.json().keys()
    assert answer.json()["message"]


def assert_untouched(sandbox: Sandbox) -> None:
    """Assert that nothing was reversed, logged or told."""
    assert [] == sandbox.entries() == sandbox.owed("scrip")
    assert {"COMPLETED"} == {read(sandbox, one)["status"] for one in (RAW, UNITS, LOTS, DONATED)}


def reward_of(sandbox: Sandbox) -> tuple[int, str]:
    """How often the gift card counts as redeemed, and its status."""
    with sandbox.ledger.read("scrip") as books:
        reward = books.get("reward", GIFT_CARD)
    assert reward is not None
    return reward["redeemed_count"], reward["status"]


def event_told(body: bytes) -> Notice:
    """What the receiver reads a delivered body as."""
    reading = SCRIP.read(parse(body))
    assert isinstance(reading, Notice), body
    return reading


def event_answered(answer: httpx2.Response) -> Notice:
    """What the receiver reads as the act that an answered request was."""
    path = {"id": answer.url.path.split("/")[3]}
    reading = SCRIP.operation.read(Call(path, parse(answer.request.content), parse(answer.content)))
    assert isinstance(reading, Notice), answer.content
    return reading


def entry_of(event: Event) -> dict[str, Any]:
    """What the sandbox's log has to say of an act, but for when it was."""
    return {
        "account": event.account,
        "amount": event.amount,
        "effect": event.effect,
        "event": "REDEMPTION_REVERSE",
        "item": {"id": event.item.id, "type": event.item.type},
        "operation": event.operation,
        "provider": "scrip",
        "quantity": event.quantity,
    }


# ---- what is documented -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not PAGE.is_file(), reason=f"the provider's page is not on this machine (looked for {PAGE})")
def test_the_request_is_that_of_the_page() -> None:
    """It stands there as it stands here, and so does its answer."""
    assert REQUEST + ANSWER in PAGE.read_text()


@pytest.mark.parametrize(("redemption_id", "quantity"), [(RAW, None), (UNITS, 1), (LOTS, None), (DONATED, None)])
def test_the_documented_request_gets_the_documented_answer(
    sandbox: Sandbox, redemption_id: str, quantity: int | None
) -> None:
    """Of amount and quantity the one that does not fit the redemption is as if it were not there."""
    if redemption_id == DONATED:
        with sandbox.ledger.act("scrip") as act:
            redeem(act, redemption_id, POINTS, ["600.00"], DONATION)

    answer = sandbox.client.request(**seed(redemption_id))
    reversal = answer.json()

    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(ANSWER).keys() == reversal.keys()
    assert ("500.00", quantity) == (reversal["amount"], reversal["quantity"])
    assert ("Customer refund request", redemption_id) == (reversal["reason"], reversal["redemption_id"])
    assert is_uuid(reversal["id"])
    assert is_uuid(reversal["journal_entry_id"])
    assert abs(datetime.now(UTC) - parse_time(reversal["created_at"])).total_seconds() < 60


@pytest.mark.parametrize(
    ("redemption_id", "amount", "units", "unit_cost"),
    [(RAW, "1000.00", None, None), (UNITS, "1500.00", 3, "500.00"), (LOTS, "600.00", None, None)],
)
def test_a_redemption_is_as_documented(
    untouched: Sandbox, redemption_id: str, amount: str, units: int | None, unit_cost: str | None
) -> None:
    """Every documented member, null where it does not apply, and nothing reversed yet."""
    redemption = read(untouched, redemption_id)

    assert {
        *("amount", "asset_id", "created_at", "description", "id", "journal_entry_id", "participant_id", "program_id"),
        *("quantity", "reversed_amount", "reversed_quantity", "reward_id", "status", "unit_cost", "updated_at"),
    } == redemption.keys()
    assert (redemption_id, amount, "0.00", "COMPLETED") == tuple(
        redemption[name] for name in ("id", "amount", "reversed_amount", "status")
    )
    assert (units, unit_cost) == (redemption["quantity"], redemption["unit_cost"])
    assert (None if units is None else 0) == redemption["reversed_quantity"]
    assert (units is None) == (redemption["reward_id"] is None)


@pytest.mark.parametrize("redemption_id", [RAW, UNITS, LOTS, DONATED])
def test_neither_amount_nor_quantity_is_all_that_is_left(sandbox: Sandbox, redemption_id: str) -> None:
    """After a part, the rest; then there is nothing to reverse any more, and 422 says so."""
    redemption = read(sandbox, redemption_id)
    first = ask(sandbox, redemption_id, amount="100.50", quantity=1).json()
    partly = read(sandbox, redemption_id)
    rest = ask(sandbox, redemption_id)
    fully = read(sandbox, redemption_id)

    assert ("PARTIALLY_REVERSED", first["amount"]) == (partly["status"], partly["reversed_amount"])
    assert first["quantity"] == partly["reversed_quantity"]
    assert rest.status_code == 201
    assert ("FULLY_REVERSED", redemption["amount"]) == (fully["status"], fully["reversed_amount"])
    assert redemption["quantity"] == fully["reversed_quantity"]
    assert redemption["created_at"] < partly["updated_at"] < fully["updated_at"]
    assert_refused(ask(sandbox, redemption_id), 422, "unprocessable")
    assert_refused(ask(sandbox, redemption_id, amount="0.01", quantity=1), 422, "unprocessable")
    assert [first, rest.json()] == read(sandbox, f"{redemption_id}/reversals")["data"]


def test_reversals_are_listed_in_order_a_page_at_a_time(sandbox: Sandbox) -> None:
    """The cursor of a page leads to the next one, and the last page has none."""
    assert read(sandbox, f"{RAW}/reversals") == {"data": [], "pagination": {"has_more": False, "next_cursor": None}}
    reversals = [ask(sandbox, amount=amount).json() for amount in ("1.00", "2.00", "3.00")]
    ask(sandbox, LOTS)

    first = read(sandbox, f"{RAW}/reversals", limit=2)
    second = read(sandbox, f"{RAW}/reversals", limit=2, cursor=first["pagination"]["next_cursor"])

    assert reversals[:2] == first["data"]
    assert first["pagination"]["has_more"]
    assert {"data": reversals[2:], "pagination": {"has_more": False, "next_cursor": None}} == second
    assert reversals == read(sandbox, f"{RAW}/reversals", limit=1000)["data"]


def test_a_reward_that_was_out_of_stock_is_active_again(sandbox: Sandbox) -> None:
    """A unit that comes back brings its count below the most there may be."""
    before = reward_of(sandbox)
    assert ask(sandbox, UNITS, quantity=2).json()["amount"] == "1000.00"
    after = reward_of(sandbox)
    ask(sandbox, UNITS)

    assert [before, after, reward_of(sandbox)] == [(10, "OUT_OF_STOCK"), (8, "ACTIVE"), (7, "ACTIVE")]


# ---- the same again -------------------------------------------------------------------------------------------------


def test_the_same_key_and_payload_get_the_first_record(sandbox: Sandbox) -> None:
    """However it is spelled, and though nothing is left by then; it is told once."""
    first = ask(sandbox, amount="500.00", idempotency_key="k1")
    ask(sandbox)
    again = [ask(sandbox, amount=amount, idempotency_key="k1") for amount in ("500.00", "500", "0500.000")]

    assert first.status_code == 201
    assert [(200, first.json())] * 3 == [(answer.status_code, answer.json()) for answer in again]
    assert len(sandbox.entries()) == len(sandbox.owed("scrip")) == 2


@pytest.mark.parametrize(
    "other",
    [{"amount": "500.01"}, {"amount": None}, {"quantity": 1}, {"reason": "Another"}, {"redemption_id": LOTS}],
    ids=lambda other: next(iter(other)),
)
def test_the_same_key_with_another_payload_is_a_conflict(sandbox: Sandbox, other: dict[str, Any]) -> None:
    """Of another redemption of the program too; nothing more is reversed."""
    asked = {"redemption_id": RAW, "amount": "500.00", "idempotency_key": "k1"}
    assert ask(sandbox, **asked).status_code == 201

    assert_refused(ask(sandbox, **{**asked, **other}), 409, "idempotency_conflict")
    assert len(sandbox.entries()) == 1


def test_a_key_whose_request_was_refused_is_free(sandbox: Sandbox) -> None:
    """Only what was done is remembered."""
    assert ask(sandbox, amount="1000.01", idempotency_key="k1").status_code == 422
    assert ask(sandbox, amount="1000.00", idempotency_key="k1").status_code == 201


def test_at_once_no_more_is_reversed_than_there_is(sandbox: Sandbox) -> None:
    """Of eight who want 300 of 1000 three get it, and of eight who share a key, one reverses and all are told of it."""
    wanted = at_once(8, lambda _: ask(sandbox, amount="300").status_code)
    shared = at_once(8, lambda _: ask(sandbox, LOTS, amount="1", idempotency_key="k1"))

    assert sorted(wanted) == [201] * 3 + [422] * 5
    assert sorted(answer.status_code for answer in shared) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in shared}) == 1
    assert tuple(read(sandbox, one)["reversed_amount"] for one in (RAW, LOTS)) == ("900.00", "1.00")


def test_a_reset_gives_everything_back(sandbox: Sandbox) -> None:
    """The redemptions are whole again and the keys free, and what was logged stays logged."""
    ask(sandbox, idempotency_key="k1")
    ask(sandbox, UNITS)
    assert sandbox.client.post("/sandbox/reset").status_code < 300

    assert {"COMPLETED"} == {read(sandbox, one)["status"] for one in (RAW, UNITS, LOTS, DONATED)}
    assert reward_of(sandbox) == (10, "OUT_OF_STOCK")
    assert ask(sandbox, amount="1", idempotency_key="k1").status_code == 201
    assert len(sandbox.entries()) == 3


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "scrip_other"}, {"Authorization": "Basic scrip_sandbox"}])
@pytest.mark.parametrize(("method", "path"), [("POST", "/reverse"), ("GET", ""), ("GET", "/reversals")])
def test_without_the_key_nothing_is_said(untouched: Sandbox, headers: dict[str, str], method: str, path: str) -> None:
    """Not even whether the redemption is there."""
    for redemption_id in (RAW, UNKNOWN):
        answer = untouched.client.request(method, f"/v1/redemptions/{redemption_id}{path}", headers=headers)
        assert_refused(answer, 401, "unauthorized")
    assert_untouched(untouched)


def test_the_key_may_be_a_bearer_token(untouched: Sandbox) -> None:
    """As documented for every operation."""
    answer = untouched.client.get(f"/v1/redemptions/{RAW}", headers={"Authorization": f"Bearer {API_KEY}"})

    assert answer.status_code == 200


@pytest.mark.parametrize("redemption_id", [UNKNOWN, "1", "550e8400", "%00", "%ff", f"{RAW}0"])
def test_an_unknown_redemption_is_not_found(untouched: Sandbox, redemption_id: str) -> None:
    """Whether it has the form of an id or not."""
    for path in ("", "/reversals"):
        answer = untouched.client.get(f"/v1/redemptions/{redemption_id}{path}", headers=HEADERS)
        assert_refused(answer, 404, "not_found")
    assert_refused(ask(untouched, redemption_id), 404, "not_found")
    assert_untouched(untouched)


def test_an_id_may_be_written_in_upper_case(sandbox: Sandbox) -> None:
    """It is answered in lower case, and the receiver takes it for the same."""
    answer = ask(sandbox, RAW.upper(), amount="1")

    assert answer.json()["redemption_id"] == RAW
    assert event_answered(answer).event.item.id == RAW


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b'{"reason": "a", "reason": "b"}', b'{"reason": "\\ud800"}'),
        *(b"[" * 5000, b'{"reason": "a", "quantity": 1e400}', b'{"reason": NaN}'),
        *(b"{}", b'{"reason": ""}', b'{"reason": 1}', b'{"reason": null}', b'{"reason": "%b"}' % (b"a" * 501)),
        *(b'{"reason": "a", "amount": %b}' % amount for amount in (b"500", b"500.00", b"true", b"[]", b'""')),
        *(b'{"reason": "a", "quantity": %b}' % units for units in (b'"1"', b"1.0", b"true", b"9007199254740992")),
        *(b'{"reason": "a", "idempotency_key": %b}' % key for key in (b"1", b'""', b"{}")),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_is_not_as_documented_is_refused(untouched: Sandbox, body: bytes) -> None:
    """JSON that is none, and members that are missing, of another type or of another length."""
    for redemption_id in (RAW, UNITS):
        answer = untouched.client.post(f"/v1/redemptions/{redemption_id}/reverse", headers=HEADERS, content=body)
        assert_refused(answer, 400, "invalid_request")
    assert_untouched(untouched)


def test_a_body_that_is_too_large_is_refused(untouched: Sandbox) -> None:
    """In the shape of every other error."""
    body = b'{"reason": "a"}' + b" " * 10_000_000

    answer = untouched.client.post(f"/v1/redemptions/{RAW}/reverse", headers=HEADERS, content=body)
    assert_refused(answer, 413, "too_large")


@pytest.mark.parametrize(
    "amount", ["0", "0.00", "-1", "-0.5", "1e2", "+5", " 5", "5 ", ".5", "5.", "1_0", "٣", "NaN", "Infinity", "0x10"]
)
def test_what_is_no_amount_is_refused(untouched: Sandbox, amount: str) -> None:
    """A plain decimal above zero, or nothing is reversed."""
    assert_refused(ask(untouched, amount=amount), 400, "invalid_request")
    assert_untouched(untouched)


@pytest.mark.parametrize("amount", ["0.0000000000000000010", "1.0000000000000000000"])
def test_an_amount_may_be_no_finer_than_its_asset(sandbox: Sandbox, amount: str) -> None:
    """Eighteen digits behind the point, zeros included."""
    assert_refused(ask(sandbox, amount=amount), 400, "invalid_scale")
    assert ask(sandbox, amount=amount[:-1]).status_code == 201


@pytest.mark.parametrize(
    ("redemption_id", "most", "more"),
    [
        (RAW, {"amount": "1000.00"}, {"amount": "1000.000000000000000001"}),
        (LOTS, {"amount": "600"}, {"amount": "9" * 256}),
        (UNITS, {"quantity": 3}, {"quantity": 4}),
        (UNITS, {"quantity": 3}, {"quantity": 2**53 - 1}),
    ],
)
def test_no_more_can_be_reversed_than_was_redeemed(
    sandbox: Sandbox, redemption_id: str, most: dict[str, Any], more: dict[str, Any]
) -> None:
    """By the smallest part more it is refused, and nothing is changed; all of it can be."""
    assert_refused(ask(sandbox, redemption_id, **more), 422, "unprocessable")
    assert_untouched(sandbox)
    assert ask(sandbox, redemption_id, **most).status_code == 201


@pytest.mark.parametrize("quantity", [0, -1])
def test_a_quantity_is_above_zero(untouched: Sandbox, quantity: int) -> None:
    """Where units are reversed."""
    assert_refused(ask(untouched, UNITS, quantity=quantity), 400, "invalid_request")
    assert_untouched(untouched)


@pytest.mark.parametrize(
    ("redemption_id", "part", "amount"),
    [
        (RAW, {"amount": "1.5", "quantity": 0}, "1.5"),
        (UNITS, {"amount": "NaN", "quantity": 1}, "500.00"),
        (RAW, {"quantity": 1}, "1000.00"),
        (UNITS, {"amount": "1"}, "1500.00"),
    ],
)
def test_a_member_that_does_not_fit_is_as_if_it_were_not_there(
    sandbox: Sandbox, redemption_id: str, part: dict[str, Any], amount: str
) -> None:
    """Its value is not judged, and alone it is no part: then all that is left is reversed."""
    assert amount == ask(sandbox, redemption_id, **part).json()["amount"]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "-1"}, {"limit": "٣"}, {"limit": ""}, {"cursor": "x"}])
def test_a_page_that_cannot_be_is_refused(untouched: Sandbox, query: dict[str, str]) -> None:
    """A limit is an integer of at least 1, a cursor one that was answered."""
    answer = untouched.client.get(f"/v1/redemptions/{RAW}/reversals", headers=HEADERS, params=query)

    assert_refused(answer, 400, "invalid_request")


# ---- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("redemption_id", "part", "amount", "quantity"),
    [(RAW, {"amount": "12.340"}, "12.340", None), (UNITS, {"quantity": 2}, "1000.00", "2"), (LOTS, {}, "600.00", None)],
)
def test_log_delivery_and_answer_tell_of_the_same_act(
    sandbox: Sandbox, redemption_id: str, part: dict[str, Any], amount: str, quantity: str | None
) -> None:
    """The receiver reads the same notice in both, which breaks no rule, and the log's entry says what that says."""
    answer = ask(sandbox, redemption_id, **part)
    (body,), (entry,) = sandbox.owed("scrip"), sandbox.entries()
    told, answered = event_told(body), event_answered(answer)

    assert (told.key, told.digest) == (answered.key, answered.digest)
    assert (Item("redemption", redemption_id), Effect.REVERSED) == (told.event.item, told.event.effect)
    assert (amount, quantity, ORGANIZATION) == (told.event.amount, told.event.quantity, told.event.account)
    assert told.event.operation == answer.json()["id"]
    assert (Extent.UNKNOWN if part else Extent.FULL) == answered.event.extent
    assert SCRIP.check(told.event, datetime.now(UTC), 300, ()) == ()
    assert {**entry_of(told.event), "at": answer.json()["created_at"]} == entry


def test_what_is_delivered_has_the_documented_envelope(sandbox: Sandbox) -> None:
    """Around the reversal as it was answered."""
    reversal = ask(sandbox).json()
    envelope = json.loads(sandbox.owed("scrip")[0])

    assert is_uuid(envelope.pop("id"))
    assert {
        "type": "redemption.reversed",
        "api_version": "2026-03-01",
        "created_at": reversal["created_at"],
        "organization_id": ORGANIZATION,
        "data": reversal,
    } == envelope


def test_a_source_made_as_advised_takes_what_is_signed() -> None:
    """Under a secret as Scrip hands them out."""
    secret, body = f"whsec_{'0123456789abcdef' * 4}", b'{"type": "redemption.reversed"}'
    headers = ISSUER.sign(body, secret, "msg_1", 1_700_000_000)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scheme = scheme_from_options(ISSUER.receiver_options[1], {})

    assert headers["content-type"] == "application/json"
    verdict = verifier(scheme, [Secret("s1", secret)], 300).verify(raw, body, 1_700_000_000)
    assert isinstance(verdict, Authenticated)
    assert (ISSUER.sends, ISSUER.receiver_options[0]) == (True, "--scheme")
