"""The documented operations on a real sandbox: the request as its page has it, the answer, and every refusal.

Scrip's, which takes back in parts, has a file of its own beside this one.
"""

from uuid import uuid4

import pytest

from receiver.sandbox.capillary import IDENTIFIERS
from receiver.sandbox.voucherify import (
    EXPIRED_PROGRAM,
    INACTIVE_MEMBER,
    INACTIVE_PROGRAM,
    LOCKED,
    NO_PENDING_POINTS,
    OVERDUE,
    Place,
)
from tests.scenarios.seeds import (
    CAPILLARY,
    CAPILLARY_BY_EMAIL,
    ENVELOPE,
    NOT_EARNED,
    NOT_YET,
    NOTICE,
    PAGES,
    SCRIP,
    SEEDS,
    THANX,
    TRUTHLOCKS,
    VOUCHERIFY,
    Answer,
    Seed,
    differences,
    needs_curl,
    needs_pages,
    squeezed,
)
from tests.scenarios.service import ACCOUNT, until
from tests.scenarios.stage import Stage, is_now

pytestmark = needs_curl

RECEIPT = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"
KEY = "5b0e1f9c-0d3f-4d5c-8a55-0c7d1f2e3a4b"
MINT = '{"receipt_type": "payment_receipt", "issuer_id": "i", "subject": "s", "payload": {}, "kid": "k"}'
TENANT_HEADERS = {"X-API-Key": "tl_test_sandbox"}
JOB = "job_xyz789"
THANX_HEADERS = {"X-ClientId": "sandbox-client", "Accept-Version": "v4.0", "Authorization": "Bearer sandbox-token"}
MERCHANT = {"merchant_id": "k2lye10h32l5wzo"}
BUCKET = "lcppb_12db4ebb0483a14091"


# ---- the pages ------------------------------------------------------------------------------------------------------


@needs_pages
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.page.partition("-")[0])
def test_the_requests_are_those_of_the_pages(seed: Seed) -> None:
    """And so are the answers: all of it stands there."""
    page = squeezed((PAGES / seed.page).read_text())

    assert [text for text in seed.on_page() if squeezed(text) not in page] == []


@pytest.mark.parametrize(
    ("seed", "status", "nulls"),
    [
        (TRUTHLOCKS, 200, frozenset[str]()),
        (THANX, 202, frozenset[str]()),
        (CAPILLARY, 200, frozenset[str]()),
        (CAPILLARY_BY_EMAIL, 200, frozenset[str]()),
        (VOUCHERIFY, 200, NOT_YET),
        (SCRIP, 201, frozenset({"quantity"})),  # the redemption is not of units
    ],
    ids=["truthlocks", "thanx", "capillary", "capillary by email", "voucherify", "scrip"],
)
def test_the_documented_request_gets_the_documented_answer(
    seed: Seed, status: int, nulls: frozenset[str], stage: Stage
) -> None:
    """Its status, and every member of it, of its type."""
    answer = stage.send(seed)

    assert (answer.status, differences(seed.answer, answer.body, nulls)) == (status, [])
    assert stage.logged() != []


# ---- Truthlocks -----------------------------------------------------------------------------------------------------


def test_a_receipt_is_revoked_logged_and_told_of(stage: Stage) -> None:
    """For the tenant of the credentials, whatever `X-Tenant-ID` says."""
    headers = {**TENANT_HEADERS, "Idempotency-Key": str(uuid4())}
    receipt = stage.sandbox.client.post("/v1/receipts", headers=headers, content=MINT).json()["receipt_id"]
    answer = stage.send(TRUTHLOCKS, (RECEIPT, receipt), ("-X POST", f"-X POST -H 'X-Tenant-ID: {uuid4()}'"))
    record = stage.read(f"/v1/receipts/{receipt}", **TENANT_HEADERS)
    [entry] = stage.logged()

    assert (answer.body["receipt_id"], answer.body["status"]) == (receipt, "revoked")
    assert is_now(answer.body["revoked_at"])
    assert (record["tenant_id"], record["status"]) == (ACCOUNT, "revoked")
    assert entry == {
        "account": ACCOUNT,
        "amount": None,
        "at": entry["at"],
        "effect": "revoked",
        "event": "RECEIPT_REVOKE",
        "item": {"id": receipt, "type": "receipt"},
        "operation": receipt,
        "provider": "truthlocks",
        "quantity": None,
    }
    told = {"receipt_id": receipt, "tenant_id": ACCOUNT, "revoked_at": answer.body["revoked_at"]}
    assert stage.delivered(receipt) == {**NOTICE, **told}


@pytest.mark.parametrize(
    "change",
    [
        ("-H 'X-API-Key: tl_test_sandbox'", "-H 'Authorization: Bearer sandbox-token'"),
        ('{"reason": "Paid back"}', "{}"),
        ('-d \'{"reason": "Paid back"}\'', ""),
    ],
    ids=["bearer", "no reason", "no body"],
)
def test_what_the_sdk_leaves_out_may_be_left_out(change: tuple[str, str], stage: Stage) -> None:
    """The reason and even the body; and a token serves as well as a key."""
    assert stage.send(TRUTHLOCKS, change).status == 200


@pytest.mark.parametrize(
    ("status", "code", "change"),
    [
        (401, "AUTH_REQUIRED", ("-H 'X-API-Key: tl_test_sandbox'", "")),
        (401, "AUTH_INVALID", ("tl_test_sandbox", "tl_test_other")),
        (400, "VALIDATION_ERROR", (f"-H 'Idempotency-Key: {KEY}'", "")),
        (400, "VALIDATION_ERROR", (KEY, "reverse-12345")),
        (400, "VALIDATION_ERROR", ('"Paid back"', "5")),
        (400, "VALIDATION_ERROR", ('"Paid back"', "")),
        (404, "NOT_FOUND", (RECEIPT, "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a02")),
        (405, "VALIDATION_ERROR", ("-X POST", "-X PUT")),
    ],
)
def test_every_refusal_is_an_error_envelope(status: int, code: str, change: tuple[str, str], stage: Stage) -> None:
    """With its code; and nothing is revoked."""
    answer = stage.send(TRUTHLOCKS, change)

    assert differences(ENVELOPE, answer.body) == []
    assert (answer.status, answer.body["http_status"], answer.body["code"]) == (status, status, code)
    assert stage.read(f"/v1/receipts/{RECEIPT}", **TENANT_HEADERS)["status"] == "active"
    assert stage.logged() == []


def test_a_receipt_is_revoked_once(stage: Stage) -> None:
    """The same key and body get the first answer again; another body, or another key, is a conflict."""
    first = stage.send(TRUTHLOCKS)
    again = stage.send(TRUTHLOCKS)
    refused = [stage.send(TRUTHLOCKS, change) for change in (("Paid back", "Lost"), (KEY, str(uuid4())))]

    assert (again, again.status) == (first, 200)
    assert [(one.status, one.body["http_status"], one.body["code"]) for one in refused] == [(409, 409, "CONFLICT")] * 2
    assert len(stage.logged()) == 1


# ---- Thanx ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("job", "rewards"), [(JOB, "1"), ("job_failed1", "0")])
def test_a_job_is_revoking_and_then_revoked(job: str, rewards: str, stage: Stage) -> None:
    """Whether it was completed or failed; each of the two states is in the log."""
    path, merchant = f"/partner/issuance_jobs/{job}?merchant_id={MERCHANT['merchant_id']}", MERCHANT["merchant_id"]
    answer = stage.send(THANX) if job == JOB else stage.send(THANX, (JOB, job))
    until(lambda: stage.read(path, **THANX_HEADERS)["issuance_job"]["state"] == "revoked")

    assert (answer.status, answer.body["issuance_job"]["state"]) == (202, "revoking")
    assert answer.body == THANX.answer or job != JOB
    assert stage.effects() == [("ISSUANCE_JOB_REVOKE", "revoking"), ("ISSUANCE_JOB_REVOKE", "revoked")]
    for entry, state in zip(stage.logged(), ("revoking", "revoked"), strict=True):
        assert (entry["account"], entry["operation"], entry["quantity"]) == (merchant, f"{job} {state}", rewards)


@pytest.mark.parametrize("state", ["pending", "processing", "revoking", "revoked"])
def test_a_job_in_any_other_state_is_422(state: str, stage: Stage) -> None:
    """And stays as it is."""
    with stage.ledger.act("thanx") as act:
        kept = act.get("issuance_job", JOB) or {}
        act.put("issuance_job", JOB, {**kept, "job": {**kept["job"], "state": state}})

    answer = stage.send(THANX)

    assert (answer.status, list(answer.body)) == (422, ["error"])
    assert state in answer.body["error"]["message"]
    assert stage.thing("thanx", "issuance_job", JOB)["job"]["state"] == state
    assert stage.logged() == []


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (401, ("-H 'X-ClientId: sandbox-client'", "")),
        (400, ("-H 'Accept-Version: v4.0'", "")),
        (401, ("-H 'Authorization: Bearer sandbox-token'", "")),
        (403, ("Bearer sandbox-token", "Bearer sandbox-token-read")),  # without the scope rewards.issue
        (400, ('"merchant_id": "k2lye10h32l5wzo"', "")),
        (404, ("k2lye10h32l5wzo", "another")),
        (404, (JOB, "job_xyz780")),
        (422, (JOB, "job_pending1")),
    ],
)
def test_what_thanx_requires_is_required(status: int, change: tuple[str, str], stage: Stage) -> None:
    """The three headers, the scope, the merchant, and a job of that merchant's that is done."""
    answer = stage.send(THANX, change)

    assert (answer.status, set(answer.body["error"])) == (status, {"code", "message"})
    assert stage.logged() == []


# ---- Capillary ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [CAPILLARY, CAPILLARY_BY_EMAIL])
def test_a_badge_is_revoked_once(seed: Seed, stage: Stage) -> None:
    """The answer is the page's to the letter; asked again, the badge is not earned any more, and that is a 200."""
    answers = [stage.send(seed), stage.send(seed)]
    [entry] = stage.logged()

    assert answers == [Answer(200, seed.answer), not_earned()]
    earned = seed.answer["data"]["earnedBadgeId"]
    assert (entry["event"], entry["effect"], entry["operation"]) == ("BADGE_REVOKE", "revoked", earned)


def not_earned() -> Answer:
    """The documented error: in an answer that is none for HTTP, and has all members that every answer has."""
    code, message = NOT_EARNED
    return Answer(200, {"data": None, "errors": [{"code": code, "message": message}], "warnings": []})


@pytest.mark.parametrize("kind", ["email", "mobile", "externalId", "cardNumber"])
def test_the_header_says_what_the_customer_is_named_by(kind: str, stage: Stage) -> None:
    """The answer has the number, whatever it was; an identifier of another kind is nobody's."""
    by = (("IDENTIFIER: email", f"IDENTIFIER: {kind}"), ("tom.sawyer@capillarytech.com", IDENTIFIERS[kind]))
    other = IDENTIFIERS["mobile" if kind == "email" else "email"]

    assert stage.send(CAPILLARY_BY_EMAIL, by[0], ("tom.sawyer@capillarytech.com", other)) == not_earned()
    assert stage.send(CAPILLARY_BY_EMAIL, *by) == Answer(200, CAPILLARY_BY_EMAIL.answer)


def test_capillary_takes_a_token_too(stage: Stage) -> None:
    """OAuth instead of Basic; and the number as a string, as its table has it."""
    changes = (("-u sandbox:sandbox", "-H 'Authorization: Bearer sandbox-token'"), (": 62090013", ': "62090013"'))

    assert stage.send(CAPILLARY, *changes) == Answer(200, CAPILLARY.answer)


@pytest.mark.parametrize(
    "change",
    [
        ("653ddb33b3cda7078c7c68e9", "653de84db3cda7078c7c68ed"),
        ("62090013", "62090014"),
        ("654cbea06bccde1274b6d3a2", "654cbea06bccde1274b6d3a3"),
        ("654cbea06bccde1274b6d3a2", "6659551c304b6e0b517b7bc7"),
    ],
    ids=["another badge", "another customer", "never earned", "earned as another badge"],
)
def test_what_is_not_actively_earned_is_814(change: tuple[str, str], stage: Stage) -> None:
    """With status 200, and nothing is revoked."""
    assert stage.send(CAPILLARY, change) == not_earned()
    assert stage.logged() == []


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (401, ("-u sandbox:sandbox", "")),
        (401, ("sandbox:sandbox", "sandbox:other")),
        (400, ("62090013,", "62090013")),
        (400, ('"customerId": 62090013,', "")),
        (400, ("-X POST", "-X POST -H 'X-CAP-CUSTOMER-IDENTIFIER: nickname'")),
        (405, ("-X POST", "-X DELETE")),
    ],
)
def test_every_answer_of_capillary_has_the_three_members(status: int, change: tuple[str, str], stage: Stage) -> None:
    """Refusals too."""
    answer = stage.send(CAPILLARY, change)

    assert (answer.status, answer.body["data"], answer.body["warnings"]) == (status, None, [])
    assert [one["code"] for one in answer.body["errors"]] == [status]
    assert stage.logged() == []


# ---- Voucherify -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bucket", "end"), [(BUCKET, "canceled"), ("lcppb_12db4ebb0483a14093", "rejected")])
def test_pending_points_are_canceled_in_the_background(bucket: str, end: str, stage: Stage) -> None:
    """The transaction is of the ids of the path, `PENDING` at first, and in the log at its beginning and at its end."""
    answer = stage.send(VOUCHERIFY) if bucket == BUCKET else stage.send(VOUCHERIFY, (BUCKET, bucket))
    transaction = answer.body["transaction"]
    until(lambda: len(stage.logged()) == 2)

    ids = ("lprg_128f58429f4c4bf7b2", "lmbr_128f962dbc8c4ba5dc", "lcrd_128f962dbd8c4ba5df")
    assert tuple(transaction[name] for name in ("program_id", "member_id", "card_id")) == ids
    assert (transaction["type"], transaction["status"]) == ("PENDING_POINTS_CANCELED", "PENDING")
    assert transaction["id"].startswith("lctx_")
    assert is_now(transaction["created_at"])
    assert transaction["details"]["points"]["total"] == 60
    assert transaction["details"]["points"]["date"] > transaction["created_at"]
    assert stage.effects() == [("PENDING_POINTS_CANCEL", "canceling"), ("PENDING_POINTS_CANCEL", end)]
    for entry in stage.logged():
        assert (entry["item"]["id"], entry["operation"], entry["quantity"]) == (bucket, transaction["id"], "60")
    kept = stage.thing("voucherify", "card_transaction", transaction["id"])["transaction"]
    assert kept["status"] == {"canceled": "APPROVED", "rejected": "REJECTED"}[end]


@pytest.mark.parametrize(
    ("kind", "thing"),
    [
        ("program", "lprg_128f58429f4c4bf7b2"),
        ("member", "lmbr_128f962dbc8c4ba5dc"),
        ("card", "lcrd_128f962dbd8c4ba5df"),
        ("card_pending_points_bucket", BUCKET),
    ],
)
def test_what_is_not_there_is_named(kind: str, thing: str, stage: Stage) -> None:
    """By 404, with its kind and its id."""
    answer = stage.send(VOUCHERIFY, (thing, f"{thing}00"))

    named = {"resource_id": f"{thing}00", "resource_type": kind, "details": f"Cannot find {kind} with id {thing}00"}
    documented = {"code": 404, "key": "not_found", "message": "Resource not found", **named}
    assert (answer.status, answer.body) == (404, {**documented, "request_id": answer.body["request_id"]})
    assert stage.logged() == []


@pytest.mark.parametrize(
    ("place", "bucket", "key"),
    [
        (None, "lcppb_12db4ebb0483a14092", "invalid_pending_points_bucket_status"),
        (None, OVERDUE, "invalid_pending_points_activation_date"),
        (INACTIVE_PROGRAM, LOCKED[INACTIVE_PROGRAM], "program_not_active"),
        (EXPIRED_PROGRAM, LOCKED[EXPIRED_PROGRAM], "program_expired"),
        (INACTIVE_MEMBER, LOCKED[INACTIVE_MEMBER], "member_not_active"),
        (NO_PENDING_POINTS, LOCKED[NO_PENDING_POINTS], "pending_points_disabled"),
    ],
)
def test_what_is_locked_is_423(place: Place | None, bucket: str, key: str, stage: Stage) -> None:
    """For each of the documented reasons; the points stay pending."""
    changes = [(BUCKET, bucket)]
    if place is not None:
        changes.append(("lprg_128f58429f4c4bf7b2", place.program))
        changes.append(("lmbr_128f962dbc8c4ba5dc", place.member))
        changes.append(("lcrd_128f962dbd8c4ba5df", place.card))
    answer = stage.send(VOUCHERIFY, *changes)

    assert (answer.status, answer.body["code"], answer.body["key"]) == (423, 423, key)
    assert set(answer.body) == {"code", "key", "message", "details", "request_id"}
    assert stage.logged() == []


def test_points_are_canceled_once(stage: Stage) -> None:
    """The bucket is pending no more from the first answer on."""
    first, second = stage.send(VOUCHERIFY), stage.send(VOUCHERIFY)

    assert (first.status, second.status) == (200, 423)
    assert second.body["key"] == "invalid_pending_points_bucket_status"


@pytest.mark.parametrize("header", ["Authorization: Bearer sandbox-token", "Id: sandbox-app'", "App-Token: sandbox"])
def test_voucherify_needs_all_three_headers(header: str, stage: Stage) -> None:
    """Without one it is 401."""
    answer = stage.send(VOUCHERIFY, (header, header.replace("sandbox", "other")))

    assert (answer.status, answer.body["code"]) == (401, 401)
    assert stage.logged() == []
