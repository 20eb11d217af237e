"""Capillary as the issuing side: the documented requests, each refusal, and what the receiver reads of it all."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver import providers
from receiver.events import Effect, Event, Extent, Item, Via
from receiver.providers import Call, Notice
from receiver.sandbox.capillary import ISSUER
from receiver.strictjson import parse
from tests.receiver.service import at_once, settings_in
from tests.receiver.service import running as running_receiver
from tests.sandbox.service import Sandbox

CAPILLARY = providers.get("capillary")
PAGE = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "capillary-revoke-issued-badge.txt"

PATH = "/api_gateway/v1/badges/customer/revokeEarn"
BEARER = {"Authorization": "Bearer sandbox-token"}
BASIC = {"Authorization": f"Basic {base64.b64encode(b'sandbox:sandbox').decode()}"}

META, BADGE = "653ddb33b3cda7078c7c68e9", "654cbea06bccde1274b6d3a2"
META_2, BADGE_2 = "653de84db3cda7078c7c68ed", "6659551c304b6e0b517b7bc7"
CUSTOMER, EMAIL = 62090013, "tom.sawyer@capillarytech.com"

# The requests and answers of the page, letter for letter.
BY_NUMBER = """\
{
  "badgeMetaId": "653ddb33b3cda7078c7c68e9",
  "customerId": 62090013,
  "earnedBadgeId": "654cbea06bccde1274b6d3a2"
}
"""
BY_EMAIL = """\
{
  "badgeMetaId": "653de84db3cda7078c7c68ed",
  "customerId": "tom.sawyer@capillarytech.com",
  "earnedBadgeId": "6659551c304b6e0b517b7bc7"
}
"""
REVOKED = """\
{
    "data": {
        "badgeMetaId": "653ddb33b3cda7078c7c68e9",
        "customerId": 62090013,
        "earnedBadgeId": "654cbea06bccde1274b6d3a2",
        "isActive": false
    },
    "errors": [],
    "warnings": []
}
"""
REVOKED_2 = """\
{
    "data": {
        "badgeMetaId": "653de84db3cda7078c7c68ed",
        "customerId": 62090013,
        "earnedBadgeId": "6659551c304b6e0b517b7bc7",
        "isActive": false
    },
    "errors": [],
    "warnings": []
}
"""
EMAIL_HEADER = {"X-CAP-CUSTOMER-IDENTIFIER": "email"}

NOT_EARNED = "Active earn instance is not present"
NOT_ACTIVE = {"data": None, "errors": [{"code": 814, "message": NOT_EARNED}], "warnings": []}
REQUEST: dict[str, Any] = json.loads(BY_NUMBER)


def call(sandbox: Sandbox, body: str | bytes, headers: dict[str, str] | None = None) -> httpx2.Response:
    """Call the operation with credentials, and more headers."""
    return sandbox.client.post(PATH, content=body, headers={**BEARER, **(headers or {})})


def revoke(sandbox: Sandbox, headers: dict[str, str] | None = None, **members: object) -> httpx2.Response:
    """Ask for the first badge, with other members than the documented request."""
    return call(sandbox, json.dumps({**REQUEST, **members}), headers)


def assert_refused(answer: httpx2.Response, status: int) -> None:
    """Assert that nothing was found fault with but in the three members, and that a message says what it was."""
    assert status == answer.status_code
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert {"data", "errors", "warnings"} == body.keys()
    assert (body["data"], body["warnings"]) == (None, [])
    (error,) = body["errors"]
    assert {"code", "message"} == error.keys()
    assert error["code"] == status
    assert error["message"]


def assert_untouched(sandbox: Sandbox) -> None:
    """Assert that nothing was told, and that the badge can be revoked still."""
    assert [] == sandbox.entries() == sandbox.owed("capillary")
    assert json.loads(REVOKED) == call(sandbox, BY_NUMBER).json()


# ---- what is documented -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not PAGE.is_file(), reason=f"the provider's page is not on this machine (looked for {PAGE})")
def test_the_requests_are_those_of_the_page() -> None:
    """Path, method, header, both requests and both answers stand there as they stand here."""
    page = PAGE.read_text()

    assert re.findall(r"^```json[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL) == [
        BY_NUMBER,
        BY_EMAIL,
        REVOKED,
        REVOKED_2,
    ]
    rows = {cell[0].strip(): cell[1].strip() for cell in re.findall(r"^\|([^|]+)\|([^|]+)\|$", page, re.MULTILINE)}
    assert (rows["URI"].replace("\\", ""), rows["HTTP method"]) == (PATH, "POST")
    assert "X-CAP-CUSTOMER-IDENTIFIER: email" in page
    assert rows["814"] == f"{NOT_EARNED}."


@pytest.mark.parametrize(
    ("request_", "headers", "answer"),
    [(BY_NUMBER, {}, REVOKED), (BY_EMAIL, EMAIL_HEADER, REVOKED_2)],
    ids=["by number", "by email"],
)
def test_a_documented_request_gets_its_answer(
    sandbox: Sandbox, request_: str, headers: dict[str, str], answer: str
) -> None:
    """The fixtures are ready for both, and the customer is answered as the number either way."""
    got = call(sandbox, request_, headers)

    assert got.status_code == 200
    assert got.headers["content-type"] == "application/json"
    assert json.loads(answer) == got.json()


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [
        ("email", EMAIL),
        ("mobile", "15555550100"),
        ("mobile", 15555550100),
        ("externalId", "EXT-62090013"),
        ("cardNumber", "CARD-62090013"),
        (None, "62090013"),
    ],
)
def test_the_customer_is_named_by_any_identifier(sandbox: Sandbox, kind: str | None, identifier: str | int) -> None:
    """By one of the four kinds that the header may say, or, as the members are documented, by the number as text."""
    got = revoke(sandbox, {} if kind is None else {"x-cap-customer-identifier": kind}, customerId=identifier)

    assert json.loads(REVOKED) == got.json()


@pytest.mark.parametrize("headers", [BEARER, BASIC, {"Authorization": "bearer sandbox-token"}])
def test_basic_and_bearer_are_taken(sandbox: Sandbox, headers: dict[str, str]) -> None:
    """Either is enough; how the scheme's name is written is the caller's affair."""
    assert json.loads(REVOKED) == sandbox.client.post(PATH, content=BY_NUMBER, headers=headers).json()


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_a_call_without_credentials_is_refused(sandbox: Sandbox) -> None:
    """Whatever is asked, readable or not; the badge stays as it was."""
    wrong = [
        "",
        "Bearer",
        "Bearer another-token",
        "Basic sandbox-token",
        f"Basic {base64.b64encode(b'sandbox:another').decode()}",
        f"Bearer {base64.b64encode(b'sandbox:sandbox').decode()}",
        "sandbox-token",
    ]

    for headers in ({}, {"X-API-Key": "sandbox-token"}, *({"Authorization": value} for value in wrong)):
        for body in (BY_NUMBER, "{"):
            answer = sandbox.client.post(PATH, content=body, headers=headers)
            assert_refused(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Basic ")
    assert_untouched(sandbox)


def test_a_badge_that_is_not_actively_earned_is_no_failure_of_the_call(sandbox: Sandbox) -> None:
    """Unknown, another badge's or another customer's: 200 with error 814, and the badge stays as it was."""
    asked: list[tuple[dict[str, str], dict[str, object]]] = [
        ({}, {"earnedBadgeId": "654cbea06bccde1274b6d3a3"}),
        ({}, {"badgeMetaId": META_2}),
        ({}, {"earnedBadgeId": BADGE_2}),
        ({}, {"customerId": 62090014}),
        ({}, {"customerId": "062090013"}),
        ({}, {"customerId": EMAIL}),
        (EMAIL_HEADER, {"customerId": CUSTOMER}),
        (EMAIL_HEADER, {"customerId": "becky.thatcher@capillarytech.com"}),
        (EMAIL_HEADER, {"customerId": "15555550100"}),
        (EMAIL_HEADER, {"customerId": BADGE}),
    ]

    for headers, members in asked:
        answer = revoke(sandbox, headers, **members)
        assert (answer.status_code, answer.json()) == (200, NOT_ACTIVE)
    assert_untouched(sandbox)


def test_a_badge_is_revoked_once(sandbox: Sandbox) -> None:
    """The second call gets error 814, and leaves neither an entry nor a notice."""
    call(sandbox, BY_NUMBER)
    again = call(sandbox, BY_NUMBER)

    assert (again.status_code, again.json()) == (200, NOT_ACTIVE)
    assert (len(sandbox.entries()), len(sandbox.owed("capillary"))) == (1, 1)


def test_of_calls_at_the_same_time_one_revokes(sandbox: Sandbox) -> None:
    """All others find the badge revoked."""
    answers = at_once(8, lambda _: call(sandbox, BY_NUMBER).json())

    assert sorted(answers, key=str) == sorted([json.loads(REVOKED), *[NOT_ACTIVE] * 7], key=str)
    assert (len(sandbox.entries()), len(sandbox.owed("capillary"))) == (1, 1)


NOT_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"badge"',
    b"\xff",
    b"[" * 5000,
    b'{"earnedBadgeId": 1e400}',
    b'{"earnedBadgeId": "a", "earnedBadgeId": "b"}',
    b'{"earnedBadgeId": "\\ud800"}',
    b'{"earnedBadgeId": "\\u0000"}',
]


def test_a_request_that_is_not_json_is_refused(sandbox: Sandbox) -> None:
    """Nor an object, or nothing that every reader takes for the same; the badge stays as it was."""
    for body in NOT_JSON:
        assert_refused(call(sandbox, body), 400)
    assert_untouched(sandbox)


@pytest.mark.parametrize("name", REQUEST)
def test_a_member_that_is_missing_or_of_the_wrong_type_is_refused(sandbox: Sandbox, name: str) -> None:
    """By name; the badge stays as it was."""
    without = {other: value for other, value in REQUEST.items() if other != name}
    wrong: list[object] = [None, "", [], {}, True, 1.5, 2**53, "x" * 257]
    if name != "customerId":
        wrong.append(7)  # which a customer's id may be

    for members in (without, *({**REQUEST, name: value} for value in wrong)):
        answer = call(sandbox, json.dumps(members))
        assert_refused(answer, 400)
        assert name in answer.json()["errors"][0]["message"]
    assert_untouched(sandbox)


def test_an_identifier_of_another_kind_is_refused(sandbox: Sandbox) -> None:
    """The header knows four, as they are written; what the sandbox calls its own things is none of them."""
    for kind in ("", "Email", "phone", "customerId", "badge"):
        answer = revoke(sandbox, {"X-CAP-CUSTOMER-IDENTIFIER": kind}, customerId=EMAIL)
        assert_refused(answer, 400)
        assert "email, mobile, externalId, cardNumber" in answer.json()["errors"][0]["message"]
    assert_untouched(sandbox)


def test_a_request_that_is_too_large_is_refused(sandbox: Sandbox) -> None:
    """In the same shape as everything else."""
    assert_refused(call(sandbox, b" " * 11_000_000), 413)
    assert_untouched(sandbox)


# ---- what is told -------------------------------------------------------------------------------------------------


def event_of(notice: object) -> Event:
    """The event of what must be a notice."""
    assert isinstance(notice, Notice)
    return notice.event


def test_a_revocation_is_in_the_log(sandbox: Sandbox) -> None:
    """In the words that are the same for all issuers, with the id that the receiver takes for the operation."""
    call(sandbox, BY_EMAIL, EMAIL_HEADER)

    (entry,) = sandbox.entries()
    assert entry == {
        "account": "50933",
        "amount": None,
        "at": entry["at"],
        "effect": "revoked",
        "event": "BADGE_REVOKE",
        "item": {"id": BADGE_2, "type": "badge"},
        "operation": BADGE_2,
        "provider": "capillary",
        "quantity": None,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["at"])


def test_the_notice_is_the_plain_envelope_around_the_answer(sandbox: Sandbox) -> None:
    """With the organization and the badge that was asked for, and without the identifier of the customer."""
    call(sandbox, BY_EMAIL, EMAIL_HEADER)

    (body,) = sandbox.owed("capillary")
    assert json.loads(body) == {
        "type": "badge.revoked",
        "created_at": sandbox.entries()[0]["at"],
        "data": json.loads(REVOKED_2),
        "request": {"orgId": 50933, "earnedBadgeId": BADGE_2},
    }


def test_the_receiver_reads_the_notice_as_what_the_log_says(sandbox: Sandbox) -> None:
    """Account, item, operation and effect of the event are those of the entry."""
    call(sandbox, BY_NUMBER)
    (body,), (entry,) = sandbox.owed("capillary"), sandbox.entries()

    notice = CAPILLARY.read(parse(body))

    event = event_of(notice)
    assert isinstance(notice, Notice)
    assert notice.via is Via.DECLARED
    assert (event.effect, event.extent) == (Effect.REVOKED, Extent.FULL)
    assert Item("badge", BADGE) == event.item
    assert {"badgeMetaId": META, "customerId": "62090013"}.items() <= event.details.items()
    assert entry["account"] == event.account
    assert entry["item"] == {"id": event.item.id, "type": event.item.type}
    assert entry["operation"] == event.operation
    assert entry["effect"] == event.effect
    assert (entry["amount"], entry["quantity"]) == (event.amount, event.quantity)


def test_the_receiver_reads_the_answers_as_the_same_operation(sandbox: Sandbox) -> None:
    """Passed on, the first call is the revocation of the badge in the log, and the second one its refusal."""
    operation = CAPILLARY.operation
    events = [
        event_of(operation.read(Call({}, parse(BY_EMAIL.encode()), parse(answer.content))))
        for answer in (call(sandbox, BY_EMAIL, EMAIL_HEADER), call(sandbox, BY_EMAIL, EMAIL_HEADER))
        if answer.status_code in operation.successes
    ]

    assert [event.effect for event in events] == [Effect.REVOKED, Effect.REFUSED]
    assert {sandbox.entries()[0]["operation"]} == {event.operation for event in events}
    assert EMAIL not in str(events)
    assert (operation.method, operation.path) == ("POST", PATH)


def test_a_source_that_is_set_up_as_told_records_the_delivery(sandbox: Sandbox, tmp_path: Path) -> None:
    """The secret is the token in the header; with another one the delivery is refused."""
    call(sandbox, BY_NUMBER)
    (body,) = sandbox.owed("capillary")
    scheme_option, scheme, header_option, header = ISSUER.receiver_options
    assert (scheme_option, header_option, ISSUER.sends) == ("--scheme", "--header", False)

    with running_receiver(settings_in(tmp_path)) as receiver:
        secret = "a token of at least some length"
        source = receiver.add_source(
            scheme=scheme, options={"header": header}, provider="capillary", account="50933", secret=secret
        )
        answers = [
            receiver.client.post(source.path, content=body, headers=ISSUER.sign(body, one, "id", 1))
            for one in ("another token", secret, secret)
        ]

    assert [answer.status_code for answer in answers] == [401, 200, 200]
    assert [answer.json()["status"] for answer in answers[1:]] == ["recorded", "duplicate"]


def test_after_a_reset_the_badges_can_be_revoked_again(sandbox: Sandbox) -> None:
    """The log goes on: it then has both revocations."""
    call(sandbox, BY_NUMBER)
    sandbox.client.post("/sandbox/reset")

    assert json.loads(REVOKED) == call(sandbox, BY_NUMBER).json()
    assert [entry["operation"] for entry in sandbox.entries()] == [BADGE, BADGE]
