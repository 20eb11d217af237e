"""Thanx as the issuing side: the documented call, the states of a job, what is told and logged of them, every error."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from receiver import providers
from receiver.events import Effect, Event, Item, Kind, Past
from receiver.intake.signatures import Authenticated, Secret, scheme_from_options, verifier
from receiver.providers import Call, Notice
from receiver.sandbox.ledger import Step
from receiver.sandbox.thanx import ISSUER, MERCHANT, TOKEN, TOKEN_READ
from receiver.strictjson import parse
from tests.receiver.service import at_once
from tests.sandbox.service import Sandbox

THANX = providers.get("thanx")

PAGE = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "thanx-revoke-issuance-job.txt"

REQUEST = """\
  curl https://api.thanxsandbox.com/partner/issuance_jobs/job_xyz789/revoke \\
    -X POST \\
    -H 'X-ClientId: {client_id}' \\
    -H 'Accept-Version: v4.0' \\
    -H 'Content-Type: application/json' \\
    -H 'Authorization: Bearer {access_token}' \\
    -d '{
      "merchant_id": "k2lye10h32l5wzo"
    }'
"""
ANSWER = """\
  {
    "issuance_job": {
      "id": "job_xyz789",
      "campaign_id": "camp_abc123",
      "variant_id": "var_treat1",
      "state": "revoking",
      "total_count": 2,
      "processed_count": 2,
      "success_count": 1,
      "failure_count": 1,
      "progress_percent": 100,
      "created_at": "2025-06-15T10:30:00Z",
      "started_at": "2025-06-15T10:30:05Z",
      "completed_at": "2025-06-15T10:30:15Z"
    }
  }
"""
"""What the page has, verbatim."""

HEADERS = {"X-ClientId": "sandbox-client", "Accept-Version": "v4.0", "Authorization": f"Bearer {TOKEN}"}
JOBS = "/partner/issuance_jobs"
JOB = f"{JOBS}/job_xyz789"
REVOKE = f"{JOB}/revoke"
REVOKING: dict[str, Any] = json.loads(ANSWER)

EMAIL = {"type": "email", "value": "jane.smith@example.com"}
PHONE = {"type": "phone", "value": "+14155551234"}
BATCH: dict[str, Any] = {
    "merchant_id": MERCHANT,
    "campaign_id": "camp_abc123",
    "variant_id": "var_treat1",
    "identifiers": [EMAIL, PHONE],
}


def revoke(sandbox: Sandbox, job_id: str = "job_xyz789") -> httpx2.Response:
    """The documented call, of a job of that merchant."""
    return sandbox.client.post(f"{JOBS}/{job_id}/revoke", headers=HEADERS, json={"merchant_id": MERCHANT})


def show(sandbox: Sandbox, job_id: str = "job_xyz789") -> dict[str, Any]:
    """A job as it is now."""
    answer = sandbox.client.get(f"{JOBS}/{job_id}", headers=HEADERS, params={"merchant_id": MERCHANT})
    assert answer.status_code == 200
    return answer.json()["issuance_job"]


def reach(sandbox: Sandbox, state: str, job_id: str = "job_xyz789") -> dict[str, Any]:
    """The job, once it is in that state."""
    sandbox.until(lambda: show(sandbox, job_id)["state"] == state)
    return show(sandbox, job_id)


def issue(sandbox: Sandbox, *identifiers: dict[str, str]) -> str:
    """A new job that issues to those; its id."""
    answer = sandbox.client.post(JOBS, headers=HEADERS, json={**BATCH, "identifiers": identifiers})
    assert answer.status_code == 202
    return answer.json()["issuance_job"]["id"]


def delivered(sandbox: Sandbox) -> list[Event]:
    """The events that a receiver makes of what is owed to it."""
    events: list[Event] = []
    for body in sandbox.owed("thanx"):
        reading = THANX.read(parse(body))
        assert isinstance(reading, Notice), body
        events.append(reading.event)
    return events


def told(event: Event) -> dict[str, Any]:
    """What an entry of the sandbox's log has of that event, but for when it was."""
    return {
        "account": event.account,
        "amount": event.amount,
        "effect": event.effect,
        "event": "ISSUANCE_JOB_REVOKE",
        "item": {"id": event.item.id, "type": event.item.type},
        "operation": event.operation,
        "provider": "thanx",
        "quantity": event.quantity,
    }


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    """The message of an error, which has that status, that code and the shape of them all."""
    assert (status, "application/json") == (answer.status_code, answer.headers["content-type"])
    document = answer.json()
    assert {"error": {"code": code, "message": document["error"]["message"]}} == document
    return document["error"]["message"]


# ---- the documented call --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not PAGE.exists(), reason=f"the page is not on this machine (looked for {PAGE})")
def test_the_request_and_the_answer_are_the_pages() -> None:
    """Both stand there just as they are tried here."""
    page = PAGE.read_text()

    assert REQUEST in page
    assert ANSWER in page


def test_the_documented_request_has_the_documented_answer(sandbox: Sandbox) -> None:
    """With the host replaced and the credentials filled in: 202 and the whole body of the page's example."""
    line = REQUEST.replace("{client_id}", "sandbox-client").replace("{access_token}", "sandbox-token")
    command, url, _x, method, *options = shlex.split(line.replace("\\\n", ""))
    headers = dict(value.split(": ") for flag, value in zip(options[::2], options[1::2], strict=True) if flag == "-H")
    assert (command, method, options[-2]) == ("curl", "POST", "-d")

    answer = sandbox.client.request(method, urlsplit(url).path, headers=headers, content=options[-1])

    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/json")
    assert answer.json() == json.loads(ANSWER)


def test_a_job_is_revoked_in_the_background(sandbox: Sandbox) -> None:
    """Without being asked again it is `revoked`, and nothing else of it has changed."""
    revoke(sandbox)

    assert {**REVOKING["issuance_job"], "state": "revoked"} == reach(sandbox, "revoked")


def test_a_job_that_failed_can_be_revoked(sandbox: Sandbox) -> None:
    """It took nothing back, for nothing was issued."""
    assert revoke(sandbox, "job_failed1").json()["issuance_job"]["state"] == "revoking"
    reach(sandbox, "revoked", "job_failed1")

    assert [entry["quantity"] for entry in sandbox.entries()] == ["0", "0"]


def test_of_two_revocations_at_once_one_is_refused(sandbox: Sandbox) -> None:
    """Whichever comes first begins it."""
    answers = at_once(2, lambda _: revoke(sandbox).status_code)
    reach(sandbox, "revoked")

    assert sorted(answers) == [202, 422]
    assert [entry["effect"] for entry in sandbox.entries()] == ["revoking", "revoked"]


# ---- what is told and logged ----------------------------------------------------------------------------------------


def test_the_receiver_reads_the_answer_and_both_notices_as_what_was_logged(sandbox: Sandbox) -> None:
    """The entry of each state has the words of the event, so that they can be matched; and no rule is broken."""
    answer = revoke(sandbox)
    reach(sandbox, "revoked")
    assert THANX.operation is not None
    relayed = THANX.operation.read(Call({"id": "job_xyz789"}, {"merchant_id": MERCHANT}, parse(answer.content)))
    assert isinstance(relayed, Notice)
    revoking, revoked = delivered(sandbox)

    assert [revoking.effect, revoked.effect] == [Effect.REVOKING, Effect.REVOKED]
    assert [told(revoking), told(revoked)] == [
        {name: value for name, value in entry.items() if name != "at"} for entry in sandbox.entries()
    ]
    assert told(relayed.event) == told(revoking)
    assert (Item("issuance_job", "job_xyz789"), MERCHANT, "1") == (revoked.item, revoked.account, revoked.quantity)
    past = [Past.from_event(revoking, datetime.now(UTC), 0)]
    assert () == THANX.check(revoking, datetime.now(UTC), 300, []) == THANX.check(revoked, datetime.now(UTC), 300, past)


def test_a_notice_is_the_plain_envelope_around_the_documented_answer(sandbox: Sandbox) -> None:
    """With the request's merchant, whom the answer does not name."""
    revoke(sandbox)
    notice = json.loads(sandbox.owed("thanx")[0])

    assert {
        "type": "issuance_job.revoking",
        "created_at": notice["created_at"],
        "data": REVOKING,
        "request": {"merchant_id": MERCHANT},
    } == notice


def test_fixtures_are_told_to_nobody(sandbox: Sandbox) -> None:
    """They were always there: nothing is logged of them, and nothing delivered."""
    assert show(sandbox, "job_xyz789")["state"] == "completed"
    assert (sandbox.entries(), sandbox.owed("thanx")) == ([], [])


def test_a_step_that_comes_twice_is_taken_once(sandbox: Sandbox) -> None:
    """A job that has moved on stays as it is, and so does one that is not there."""
    revoke(sandbox)
    reach(sandbox, "revoked")
    before = sandbox.entries()

    for job_id, state in (("job_xyz789", "revoking"), ("job_xyz789", "pending"), ("job_gone", "revoking")):
        with sandbox.ledger.act("thanx") as act:
            ISSUER.go_on(act, Step("s1", "thanx", state, job_id))

    assert before == sandbox.entries()
    assert show(sandbox)["state"] == "revoked"


def test_a_delivery_is_signed_as_documented() -> None:
    """The scheme that the receiver takes from the provider verifies it; it needs no option of its own."""
    body = b'{"event": "reward_batch.completed"}'
    assert THANX.signing.scheme is not None
    scheme = scheme_from_options(THANX.signing.scheme, THANX.signing.options)
    headers = ISSUER.sign(body, "kept between us", "n1", 1_763_715_600)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    assert {"content-type", "X-Thanx-Signature"} == headers.keys()
    assert isinstance(verifier(scheme, [Secret("s1", "kept between us")], 300).verify(raw, body, 0), Authenticated)
    assert (ISSUER.sends, ISSUER.receiver_options) == (False, ())


# ---- issuing --------------------------------------------------------------------------------------------------------


def test_a_new_job_is_pending(sandbox: Sandbox) -> None:
    """The documented answer to issuing: nothing is processed, and the times to come are null."""
    answer = sandbox.client.post(JOBS, headers=HEADERS, json=BATCH)
    job = answer.json()["issuance_job"]

    assert answer.status_code == 202
    assert job == {
        "id": job["id"],
        "campaign_id": "camp_abc123",
        "variant_id": "var_treat1",
        "state": "pending",
        "total_count": 2,
        "processed_count": 0,
        "success_count": 0,
        "failure_count": 0,
        "progress_percent": 0,
        "created_at": job["created_at"],
        "started_at": None,
        "completed_at": None,
    }


def test_a_job_is_processed_and_completed_in_the_background(sandbox: Sandbox) -> None:
    """It ends with counts, times that follow one another, and the documented summary of whom nothing was issued to."""
    job_id = issue(sandbox, EMAIL, PHONE)
    started = reach(sandbox, "processing", job_id)
    job = reach(sandbox, "completed", job_id)

    assert started["started_at"] is not None
    assert (
        job["total_count"],
        job["processed_count"],
        job["success_count"],
        job["failure_count"],
        job["progress_percent"],
    ) == (2, 2, 1, 1, 100)
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]
    assert job["summary"] == {
        "success_count": 1,
        "failure_count": 1,
        "failures": [{"identifier_index": 1, "identifier_type": "phone", "error": "User not found"}],
    }


def test_a_job_that_is_begun_is_processing(sandbox: Sandbox) -> None:
    """With the time at which that was; nothing of it is processed yet."""
    before = show(sandbox, "job_pending1")
    with sandbox.ledger.act("thanx") as act:
        ISSUER.go_on(act, Step("s1", "thanx", "pending", "job_pending1"))
        kept = act.get("issuance_job", "job_pending1")

    assert kept is not None
    assert before["started_at"] is None
    assert {**before, "state": "processing", "started_at": f"{act.now:%Y-%m-%dT%H:%M:%SZ}"} == kept["job"]


def test_a_summary_without_failures_names_none(sandbox: Sandbox) -> None:
    """The array is there only if an issuance failed."""
    job = reach(sandbox, "completed", issue(sandbox, EMAIL))

    assert job["summary"] == {"success_count": 1, "failure_count": 0}


def test_a_job_that_issues_nothing_fails(sandbox: Sandbox) -> None:
    """It is `failed`, has no summary, and can be revoked like one that is completed."""
    job_id = issue(sandbox, PHONE)

    assert "summary" not in reach(sandbox, "failed", job_id)
    assert revoke(sandbox, job_id).status_code == 202


def test_a_job_that_is_done_is_told_by_the_documented_webhook(sandbox: Sandbox) -> None:
    """It is context to the receiver; then the job is revoked, and no rule is broken. It is no entry of the log."""
    job_id = issue(sandbox, EMAIL, PHONE)
    reach(sandbox, "completed", job_id)
    [body] = sandbox.owed("thanx")
    batch = json.loads(body)
    assert sandbox.entries() == []
    revoke(sandbox, job_id)
    done, revoking, *_ = delivered(sandbox)

    assert batch == {
        "event": "reward_batch.completed",
        "timestamp": batch["timestamp"],
        "data": {
            "issuance_job_id": job_id,
            "merchant_id": MERCHANT,
            "state": "completed",
            "total_count": 2,
            "issued_count": 1,
            "failed_count": 1,
            "failures": [{"user_identifier": "+14155551234", "reason": "User not found"}],
        },
    }
    assert (Kind.CONTEXT, Item("issuance_job", job_id), MERCHANT) == (done.kind, done.item, done.account)
    now = datetime.now(UTC)
    assert THANX.check(done, now, 300, []) == ()
    assert THANX.check(revoking, now, 300, [Past.from_event(done, now, 0)]) == ()


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "processing", "revoking", "revoked"])
def test_a_job_in_another_state_cannot_be_revoked(sandbox: Sandbox, state: str) -> None:
    """As documented it is 422, and nothing is changed, logged or told."""
    with sandbox.ledger.act("thanx") as act:
        kept = act.get("issuance_job", "job_xyz789")
        assert kept is not None
        act.put("issuance_job", "job_xyz789", {**kept, "job": {**kept["job"], "state": state}})
    before = show(sandbox)

    assert f"An issuance job that is {state} cannot be revoked" == refused(revoke(sandbox), 422, "BAD_REQUEST")
    assert before == show(sandbox)
    assert (sandbox.entries(), sandbox.owed("thanx")) == ([], [])


def test_a_job_is_revoked_once(sandbox: Sandbox) -> None:
    """A second time is 422, whether the first is still under way or done."""
    revoke(sandbox)
    refused(revoke(sandbox), 422, "BAD_REQUEST")
    reach(sandbox, "revoked")
    refused(revoke(sandbox), 422, "BAD_REQUEST")

    assert [entry["effect"] for entry in sandbox.entries()] == ["revoking", "revoked"]


def test_the_job_that_stays_pending_cannot_be_revoked(sandbox: Sandbox) -> None:
    """It is a fixture for that."""
    assert "pending" in refused(revoke(sandbox, "job_pending1"), 422, "BAD_REQUEST")


CALLS = [("POST", JOBS, BATCH), ("GET", f"{JOB}?merchant_id={MERCHANT}", None), ("POST", REVOKE, BATCH)]
WRONG_HEADERS = [
    ({"Authorization": None}, 401, "AUTHENTICATION_GENERIC"),
    ({"Authorization": "Bearer"}, 401, "AUTHENTICATION_GENERIC"),
    ({"Authorization": "Bearer another"}, 401, "AUTHENTICATION_GENERIC"),
    ({"Authorization": f"Basic {TOKEN}"}, 401, "AUTHENTICATION_GENERIC"),
    ({"X-ClientId": None}, 401, "AUTHENTICATION_GENERIC"),
    ({"X-ClientId": "another"}, 401, "AUTHENTICATION_GENERIC"),
    ({"Authorization": f"Bearer {TOKEN_READ}"}, 403, "FORBIDDEN"),
    ({"Accept-Version": None}, 400, "BAD_REQUEST"),
    ({"Accept-Version": "v3.0"}, 400, "BAD_REQUEST"),
]


def test_each_call_needs_the_three_headers_and_the_scope(sandbox: Sandbox) -> None:
    """Without one of them, or with another value, nothing is done."""
    for changed, status, code in WRONG_HEADERS:
        headers = {name: value for name, value in {**HEADERS, **changed}.items() if value is not None}
        for method, path, body in CALLS:
            refused(sandbox.client.request(method, path, headers=headers, json=body), status, code)

    assert show(sandbox)["state"] == "completed"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{JOBS}/job_unknown/revoke", {"merchant_id": MERCHANT}),
        (f"{JOBS}/%00%ff/revoke", {"merchant_id": MERCHANT}),
        (REVOKE, {"merchant_id": "another"}),
        (JOBS, {**BATCH, "merchant_id": "another"}),
    ],
)
def test_what_is_not_there_is_404(sandbox: Sandbox, path: str, body: dict[str, Any]) -> None:
    """A job of another merchant is not told from one that does not exist."""
    refused(sandbox.client.post(path, headers=HEADERS, json=body), 404, "RESOURCE_NOT_FOUND")


def test_a_job_is_shown_to_its_merchant_alone(sandbox: Sandbox) -> None:
    """Who asks has to say which merchant for."""
    assert refused(sandbox.client.get(JOB, headers=HEADERS), 400, "BAD_REQUEST") == "merchant_id is missing"
    for path in (f"{JOB}?merchant_id=another", f"{JOBS}/job_unknown?merchant_id={MERCHANT}"):
        refused(sandbox.client.get(path, headers=HEADERS), 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"merchant_id": "a", "merchant_id": "b"}', b"\xff", b"[" * 5000])
def test_a_body_that_is_no_json_object_is_400(sandbox: Sandbox, body: bytes) -> None:
    """Whatever is wrong with it."""
    for path in (JOBS, REVOKE):
        message = refused(sandbox.client.post(path, headers=HEADERS, content=body), 400, "BAD_REQUEST")
        assert message.startswith("The body cannot be read: ")


@pytest.mark.parametrize("merchant", [None, "", 17, ["k2lye10h32l5wzo"], "m" * 257])
def test_a_merchant_is_a_text_and_required(sandbox: Sandbox, merchant: object) -> None:
    """The message names the member."""
    for path in (JOBS, REVOKE):
        answer = sandbox.client.post(path, headers=HEADERS, json={**BATCH, "merchant_id": merchant})
        assert refused(answer, 400, "BAD_REQUEST").startswith("merchant_id ")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"campaign_id": None}, "campaign_id is missing"),
        ({"variant_id": 1}, "variant_id is not a string"),
        ({"identifiers": None}, "identifiers has 0 items; it must have 1 to 10000"),
        ({"identifiers": "all"}, "identifiers is not an array"),
        ({"identifiers": [EMAIL] * 10_001}, "identifiers has 10001 items; it must have 1 to 10000"),
        ({"identifiers": ["jane"]}, "identifiers[0] is not an object"),
        ({"identifiers": [EMAIL, {"value": "jane"}]}, "identifiers[1].type is missing"),
        ({"identifiers": [{**EMAIL, "type": "name"}]}, "identifiers[0].type is neither 'email' nor 'phone'"),
        ({"identifiers": [{**EMAIL, "value": 3}]}, "identifiers[0].value is not a string"),
    ],
)
def test_issuing_needs_documented_members(sandbox: Sandbox, changed: dict[str, Any], said: str) -> None:
    """Each of them, of its type; the message names the one that is not."""
    answer = sandbox.client.post(JOBS, headers=HEADERS, json={**BATCH, **changed})

    assert said == refused(answer, 400, "BAD_REQUEST")
