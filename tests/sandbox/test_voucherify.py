"""Voucherify as the issuing side: the documented call, what becomes of the transaction, what is told, every error."""

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from receiver import providers
from receiver.events import Effect, Event, Extent, Item, Kind, Past, Via
from receiver.intake.signatures import Authenticated, Secret, scheme_from_options, verifier
from receiver.providers import Call, Notice
from receiver.sandbox.ledger import Step
from receiver.sandbox.voucherify import (
    ACTIVATED,
    EXPIRED_PROGRAM,
    HERE,
    INACTIVE_MEMBER,
    INACTIVE_PROGRAM,
    ISSUER,
    LOCKED,
    NO_PENDING_POINTS,
    OVERDUE,
    PENDING,
    PROJECT_ID,
    REJECTED,
    Place,
    put_bucket,
)
from receiver.strictjson import parse
from tests.receiver.service import at_once
from tests.sandbox.service import Sandbox

VOUCHERIFY = providers.get("voucherify")

DOCUMENTS = Path(__file__).resolve().parents[3] / "shared"
PAGE = DOCUMENTS / "seeds" / "voucherify-cancel-pending-points.txt"
REFERENCE = DOCUMENTS / "providers" / "voucherify-v2-cancel.openapi.json"

REQUEST = """\
curl --request POST \\
--url https://api.voucherify.io/v2/loyalties/programs/{programId}/members/{memberId}/cards/{cardId}/pending-points/\
{bucketId}/cancel \\
--header 'Authorization: Bearer <token>' \\
--header 'X-App-Id: <api-key>' \\
--header 'X-App-Token: <api-key>'"""
ANSWER = """\
{
"message": "<string>",
"transaction": {
"id": "<string>",
"card_id": "<string>",
"program_id": "<string>",
"member_id": "<string>",
"card_definition_id": "<string>",
"card_type": "<string>",
"details": {
"reason": "<string>",
"metadata": {},
"rejection": {
"reason": "<string>",
"details": "<string>"
},
"points": {
"total": 123,
"expiration_date": "2023-12-25",
"expiration_type": "<string>",
"date": "2023-12-25",
"type": "<string>"
},
"result": {},
"reward_id": "<string>",
"bucket": {}
},
"created_at": "2023-11-07T05:31:56Z",
"updated_at": "2023-11-07T05:31:56Z"
}
}"""
"""What the page has, verbatim."""

EXAMPLE = """\
{"transaction":{"id":"lctx_12d7941860abf9e87f","card_id":"lcrd_128f962dbd8c4ba5df",
"program_id":"lprg_128f58429f4c4bf7b2","member_id":"lmbr_128f962dbc8c4ba5dc",
"card_definition_id":"lcdef_128f495f720c4bec8c","card_type":"INDIVIDUAL","type":"PENDING_POINTS_CANCELED",
"details":{"reason":"Manual points cancellation","rejection":null,"metadata":{},"points":{"total":60,
"date":"2026-08-16","type":"PERIOD_BASED"}},"status":"PENDING","created_at":"2026-08-06T14:01:13.346Z",
"updated_at":null,"object":"card_transaction"},"status":"TRANSACTION_CREATED",
"message":"Points cancellation transaction created"}
"""
"""The documented example of the operation's description."""

HEADERS = {"Authorization": "Bearer sandbox-token", "X-App-Id": "sandbox-app", "X-App-Token": "sandbox-app-token"}
ITS_OWN = {"id", "created_at", "date"}
"""Members of the example's transaction that are another transaction's."""
NOTHING_TO_SAY = {"rejection", "reward_id", "updated_at"}
"""Members that are null while the transaction is pending; the documented example has two of them, and both null."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def url(bucket_id: str = PENDING, place: Place = HERE) -> str:
    """The path of a bucket's cancellation, made from what the receiver knows of the operation."""
    return VOUCHERIFY.operation.path.format(**names(bucket_id, place))


def names(bucket_id: str, place: Place = HERE) -> dict[str, str]:
    """The parameters of that path."""
    return {"programId": place.program, "memberId": place.member, "cardId": place.card, "bucketId": bucket_id}


def cancel(sandbox: Sandbox, bucket_id: str = PENDING, place: Place = HERE) -> httpx2.Response:
    """The answer to a cancellation."""
    return sandbox.client.post(url(bucket_id, place), headers=HEADERS)


def ended(sandbox: Sandbox, bucket_id: str = PENDING) -> list[dict[str, Any]]:
    """The two entries of a cancellation, once it has come to its end; each without the time."""
    cancel(sandbox, bucket_id)
    sandbox.until(lambda: len(sandbox.entries()) == 2)
    return [{name: value for name, value in entry.items() if name != "at"} for entry in sandbox.entries()]


def entry_of(event: Event) -> dict[str, Any]:
    """What an entry of the sandbox's log has of that event, but for when it was."""
    return {
        "account": PROJECT_ID,
        "amount": event.amount,
        "effect": event.effect,
        "event": "PENDING_POINTS_CANCEL",
        "item": {"id": event.item.id, "type": event.item.type},
        "operation": event.operation,
        "provider": "voucherify",
        "quantity": event.quantity,
    }


def told(sandbox: Sandbox) -> list[Notice]:
    """What the receiver reads of all that is owed."""
    readings = [VOUCHERIFY.read(parse(body)) for body in sandbox.owed("voucherify")]
    return [reading for reading in readings if isinstance(reading, Notice)]


def refused(answer: httpx2.Response, status: int, key: str) -> dict[str, Any]:
    """The rest of an error that has that status and key, a request's id, and the documented shape."""
    assert (status, "application/json") == (answer.status_code, answer.headers["content-type"])
    error: dict[str, Any] = answer.json()
    assert (status, key) == (error.pop("code"), error.pop("key"))
    assert re.fullmatch("v-[0-9a-f]{18}", error.pop("request_id"))
    return error


def missing(documented: dict[str, Any], answer: dict[str, Any], path: str = "") -> list[str]:
    """The documented members that an answer has not, or not of the documented kind; null where there is nothing."""
    wrong: list[str] = []
    for name, value in documented.items():
        if name in NOTHING_TO_SAY:
            wrong += [] if answer.get(name, "") is None else [path + name]
        elif type(answer.get(name)) is not type(value):
            wrong.append(path + name)
        elif isinstance(value, dict):
            wrong += missing(value, answer[name], f"{path}{name}.")  # pyright: ignore[reportUnknownArgumentType]
    return wrong


# ---- the documented call --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not PAGE.exists(), reason=f"the page is not on this machine (looked for {PAGE})")
def test_the_request_and_the_answer_are_the_pages() -> None:
    """Both stand there just as they are tried here."""
    page = PAGE.read_text()

    assert REQUEST + ANSWER in page


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"the description is not on this machine (looked for {REFERENCE})")
def test_the_example_is_the_documented_one() -> None:
    """It stands in the operation's description just as it is held against here."""
    content = json.loads(REFERENCE.read_text())["post"]["responses"]["200"]["content"]["application/json"]
    [example] = content["examples"].values()

    assert example["value"] == json.loads(EXAMPLE)


def test_the_documented_request_has_the_documented_answer(sandbox: Sandbox) -> None:
    """With the host replaced, and ids and credentials filled in: 200, and every member of page and example."""
    line = REQUEST.replace("<token>", "sandbox-token").replace("Id: <api-key>", "Id: sandbox-app")
    line = line.replace("<api-key>", "sandbox-app-token").replace("\\\n", "")
    for name, value in names(PENDING).items():
        line = line.replace(f"{{{name}}}", value)
    command, _request, method, _url, address, *options = shlex.split(line)
    headers = dict(option.split(": ") for option in options[1::2])
    assert (command, options[::2], headers) == ("curl", ["--header"] * 3, HEADERS)

    answer = sandbox.client.request(method, urlsplit(address).path, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    assert missing(json.loads(ANSWER), document) == []
    assert missing(json.loads(EXAMPLE), document) == []
    assert (
        document["status"],
        document["message"],
    ) == ("TRANSACTION_CREATED", "Points cancellation transaction created")


def test_the_answer_says_what_the_documented_example_says(sandbox: Sandbox) -> None:
    """It is of the same card and points; only its id and its times are its own, and the day is yet to come."""
    example = json.loads(EXAMPLE)["transaction"]
    transaction = cancel(sandbox).json()["transaction"]
    details, expected = transaction["details"], example["details"]

    assert {name for name in example if transaction[name] != example[name]} == {"id", "created_at", "details"}
    assert {name for name in expected if details[name] != expected[name]} == {"points"}
    assert {name for name in expected["points"] if details["points"][name] != expected["points"][name]} == {"date"}
    assert re.fullmatch("lctx_[0-9a-f]{18}", transaction["id"])
    assert TIME.fullmatch(transaction["created_at"])
    assert f"{datetime.now(UTC):%Y-%m-%d}" < details["points"]["date"] < details["points"]["expiration_date"]


def test_a_body_is_not_looked_at(sandbox: Sandbox) -> None:
    """None is documented: whatever is sent, the points are canceled."""
    assert sandbox.client.post(url(), headers=HEADERS, content=b'{"a":').status_code == 200


# ---- what becomes of it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bucket_id", "status", "effect"),
    [(PENDING, "APPROVED", "canceled"), (REJECTED, "REJECTED", "rejected")],
)
def test_a_transaction_comes_to_its_end_in_the_background(
    sandbox: Sandbox, bucket_id: str, status: str, effect: str
) -> None:
    """Its beginning and its end are two entries of one operation, and what is told of both is one envelope each."""
    first, second = ended(sandbox, bucket_id)
    begun, end = (json.loads(body) for body in sandbox.owed("voucherify"))
    pending, transaction = begun["data"]["transaction"], end["data"]

    assert ("canceling", effect) == (first["effect"], second["effect"])
    assert {**first, "effect": effect} == second
    assert begun["request"] == end["request"] == REQUESTED | {"bucket_id": bucket_id}
    assert {name for name in pending if transaction[name] != pending[name]} - {"details"} == {"status", "updated_at"}
    assert status == transaction["status"]
    assert TIME.fullmatch(transaction["updated_at"])
    assert (transaction["details"] == pending["details"]) == (status == "APPROVED")


REQUESTED = {"program_id": HERE.program, "member_id": HERE.member, "card_id": HERE.card}


def test_a_rejection_says_why_and_leaves_the_points(sandbox: Sandbox) -> None:
    """As documented, with a reason and details; the bucket is pending again, so that the call can be made again."""
    ended(sandbox, REJECTED)
    rejection = json.loads(sandbox.owed("voucherify")[1])["data"]["details"]["rejection"]

    assert {"reason": str, "details": str} == {name: type(value) for name, value in rejection.items()}
    assert cancel(sandbox, REJECTED).status_code == 200


def test_canceled_points_cannot_be_canceled_again(sandbox: Sandbox) -> None:
    """Neither while the transaction is under way nor once it has come to its end."""
    assert cancel(sandbox).status_code == 200
    refused(cancel(sandbox), 423, "invalid_pending_points_bucket_status")
    sandbox.until(lambda: len(sandbox.entries()) == 2)

    refused(cancel(sandbox), 423, "invalid_pending_points_bucket_status")


def test_of_many_calls_at_the_same_time_one_succeeds(sandbox: Sandbox) -> None:
    """The others find the bucket canceled, and only one transaction is in the log."""
    statuses = at_once(6, lambda _: cancel(sandbox).status_code)

    assert [200, *[423] * 5] == sorted(statuses)
    assert len({entry["operation"] for entry in sandbox.entries()}) == 1


def test_any_number_of_buckets_can_be_put_on_a_card(sandbox: Sandbox) -> None:
    """Each of them is canceled by a transaction of its own."""
    bucket_ids = [f"lcppb_{index:018x}" for index in range(5)]
    with sandbox.ledger.act("voucherify") as act:
        for bucket_id in bucket_ids:
            put_bucket(act, bucket_id, HERE.card)

    for bucket_id in bucket_ids:
        assert cancel(sandbox, bucket_id).status_code == 200
    sandbox.until(lambda: len(sandbox.entries()) == 10)

    canceled = [entry["item"]["id"] for entry in sandbox.entries() if entry["effect"] == "canceled"]
    assert bucket_ids == sorted(canceled)


def test_a_step_taken_twice_is_taken_once(sandbox: Sandbox) -> None:
    """A transaction that has come to its end stays as it is, and one that is not there any more is left alone."""
    first, second = ended(sandbox)

    with sandbox.ledger.act("voucherify") as act:
        ISSUER.go_on(act, Step("s1", "voucherify", "card_transaction", first["operation"]))
        ISSUER.go_on(act, Step("s2", "voucherify", "card_transaction", "lctx_0"))

    assert [first["effect"], second["effect"]] == [entry["effect"] for entry in sandbox.entries()]
    assert len(sandbox.owed("voucherify")) == 2


def test_a_reset_puts_the_points_back(sandbox: Sandbox) -> None:
    """They can be canceled anew, and the log goes on."""
    ended(sandbox)
    assert sandbox.client.post("/sandbox/reset").status_code == 204

    assert cancel(sandbox).status_code == 200
    assert [entry["effect"] for entry in sandbox.entries()][:3] == ["canceling", "canceled", "canceling"]


# ---- what the receiver makes of it ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("bucket_id", "effect"), [(PENDING, Effect.CANCELED), (REJECTED, Effect.REJECTED)])
def test_what_is_told_is_read_as_what_is_logged(sandbox: Sandbox, bucket_id: str, effect: Effect) -> None:
    """Two notices of one cancellation of that bucket's 60 points, which break no rule, and match the log's entries."""
    entries = ended(sandbox, bucket_id)
    begun, end = told(sandbox)

    assert (begun.via, end.via) == (Via.DECLARED, Via.DECLARED)
    assert (begun.event.kind, begun.event.effect, begun.event.extent) == (
        Kind.REVOCATION,
        Effect.CANCELING,
        Extent.FULL,
    )
    assert (Item("pending_points", bucket_id), effect, "60") == (end.event.item, end.event.effect, end.event.quantity)
    assert entries == [entry_of(begun.event), entry_of(end.event)]
    assert begun.key != end.key
    assert end.event.occurred_from == "transaction.updated_at"
    past: list[Past] = []
    for index, one in enumerate((begun, end)):
        assert VOUCHERIFY.check(one.event, datetime.now(UTC), 300, past) == ()
        past.append(Past.from_event(one.event, datetime.now(UTC), index))


def test_the_answer_is_read_as_what_is_told(sandbox: Sandbox) -> None:
    """A call that is passed on and the notice of its beginning are the same act."""
    answer = cancel(sandbox)
    reading = VOUCHERIFY.operation.read(Call(names(PENDING), {}, parse(answer.content)))
    [notice] = told(sandbox)[:1]

    assert isinstance(reading, Notice)
    assert answer.status_code in VOUCHERIFY.operation.successes
    assert (notice.key, notice.event.item, notice.event.operation) == (
        reading.key,
        reading.event.item,
        reading.event.operation,
    )
    assert (notice.event.occurred_at, notice.event.quantity) == (reading.event.occurred_at, reading.event.quantity)


def test_a_delivery_is_signed_as_documented(sandbox: Sandbox) -> None:
    """The receiver takes it by the documented scheme, which the source need not be told."""
    cancel(sandbox)
    [body] = sandbox.owed("voucherify")[:1]
    headers = ISSUER.sign(body, "secretKey", "id", 0)
    scheme = scheme_from_options(str(VOUCHERIFY.signing.scheme), VOUCHERIFY.signing.options)
    sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    assert headers["content-type"] == "application/json"
    assert isinstance(verifier(scheme, [Secret("s1", "secretKey")], 300).verify(sent, body, 0), Authenticated)
    assert (ISSUER.receiver_options, ISSUER.sends) == ((), False)


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (b'{"a":1}', "a17d2ac229d1ebbb5f10e839c7985c4818e5986eab297f7e5979196d4d7d3ed2"),
        (b'{\n  "a": 1\r\n}\t', "a17d2ac229d1ebbb5f10e839c7985c4818e5986eab297f7e5979196d4d7d3ed2"),
        (b'{\n  "a\\"b": 1\n}', "f7cf97814a03146abedb9793f56e1dec34f618f82d10395310d053f749483ffb"),
        (b'{ "a b" : "\\" c \\\\" }', "0d442d948fc0acce7afc53a7410dd9ffea73bf605eea4e0fc793a9b1717f01ab"),
    ],
)
def test_the_signature_leaves_out_whitespace(body: bytes, signature: str) -> None:
    """Outside of strings only; the first vector is a documented one."""
    assert signature == ISSUER.sign(body, "secretKey", "id", 0)["x-voucherify-signature"]


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("value", [None, "wrong", ""])
def test_all_three_credentials_are_needed(sandbox: Sandbox, header: str, value: str | None) -> None:
    """One that is missing or wrong is a 401, whatever is asked for."""
    headers = {name: given for name, given in HEADERS.items() if name != header}
    headers |= {} if value is None else {header: value}

    for path in (url(), url("lcppb_0")):
        error = refused(sandbox.client.post(path, headers=headers), 401, "unauthorized")
        assert {"message", "details"} == error.keys()
    assert sandbox.entries() == []


@pytest.mark.parametrize(
    ("kind", "thing_id", "place", "bucket_id"),
    [
        ("program", "lprg_0", Place("lprg_0", HERE.member, HERE.card), PENDING),
        ("member", "lmbr_0", Place(HERE.program, "lmbr_0", HERE.card), PENDING),
        ("member", HERE.member, Place(INACTIVE_PROGRAM.program, HERE.member, HERE.card), PENDING),
        ("card", "lcrd_0", Place(HERE.program, HERE.member, "lcrd_0"), PENDING),
        ("card", HERE.card, Place(HERE.program, INACTIVE_MEMBER.member, HERE.card), PENDING),
        ("card_pending_points_bucket", "lcppb_0", HERE, "lcppb_0"),
        ("card_pending_points_bucket", PENDING, NO_PENDING_POINTS, PENDING),
        ("card_pending_points_bucket", "\0", HERE, "%00"),
        ("card_pending_points_bucket", "\N{GRINNING FACE}", HERE, "%F0%9F%98%80"),
        ("card_pending_points_bucket", "x" * 3000, HERE, "x" * 3000),
    ],
)
def test_what_is_not_there_is_named(sandbox: Sandbox, kind: str, thing_id: str, place: Place, bucket_id: str) -> None:
    """404 with the kind and id of the outermost thing that is not there, or is another one's."""
    assert refused(cancel(sandbox, bucket_id, place), 404, "not_found") == {
        "message": "Resource not found",
        "details": f"Cannot find {kind} with id {thing_id}",
        "resource_id": thing_id,
        "resource_type": kind,
    }
    assert sandbox.entries() == []


def test_the_documented_error_of_a_bucket_that_is_not_pending(sandbox: Sandbox) -> None:
    """423, in the documented words."""
    assert refused(cancel(sandbox, ACTIVATED), 423, "invalid_pending_points_bucket_status") == {
        "message": "Invalid pending points bucket status",
        "details": "Pending points bucket must be in PENDING status in order to be canceled",
    }


@pytest.mark.parametrize(
    ("place", "bucket_id", "key"),
    [
        (INACTIVE_PROGRAM, LOCKED[INACTIVE_PROGRAM], "program_not_active"),
        (EXPIRED_PROGRAM, LOCKED[EXPIRED_PROGRAM], "program_expired"),
        (INACTIVE_MEMBER, LOCKED[INACTIVE_MEMBER], "member_not_active"),
        (NO_PENDING_POINTS, LOCKED[NO_PENDING_POINTS], "pending_points_disabled"),
        (HERE, OVERDUE, "invalid_pending_points_activation_date"),
    ],
)
def test_what_is_locked_is_not_canceled(sandbox: Sandbox, place: Place, bucket_id: str, key: str) -> None:
    """423 for each of the documented reasons; nothing is logged, and nothing is told."""
    error = refused(cancel(sandbox, bucket_id, place), 423, key)

    assert {"message", "details"} == error.keys()
    assert (sandbox.entries(), sandbox.owed("voucherify")) == ([], [])


def test_points_are_pending_until_the_day_they_are_activated(sandbox: Sandbox) -> None:
    """On that day itself its date is no longer in the future."""
    with sandbox.ledger.act("voucherify") as act:
        put_bucket(act, "lcppb_a", HERE.card, date=f"{act.now:%Y-%m-%d}")

    refused(cancel(sandbox, "lcppb_a"), 423, "invalid_pending_points_activation_date")
