"""What a provider's own record says became of a call, and where it is asked for."""

from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from receiver import providers
from receiver.events import Effect, Extent, Via
from receiver.providers import Call, Inquiry, Lookup, NotDone, Notice, Unfit
from receiver.sandbox import thanx
from receiver.strictjson import Json, Number, parse
from tests.receiver.operations import (
    CALLED_AT,
    EXAMPLES,
    JOB,
    JOB_REVOKING,
    MERCHANT,
    OTHER,
    REASON,
    RECEIPT,
    RECEIPT_REVOKED,
    REDEMPTION,
    REVERSAL,
    WITH_LOOKUP,
    listed,
)
from tests.sandbox.service import Sandbox, running

TRUTHLOCKS, THANX, SCRIP = map(providers.get, ("truthlocks", "thanx", "scrip"))


def lookup_of(name: str) -> Lookup:
    """The lookup of a provider that has one."""
    lookup = providers.get(name).operation.lookup
    assert lookup is not None
    return lookup


def inquiry(name: str, record: dict[str, Json], *known: str, **request: Json) -> Inquiry:
    """That record, asked for after the documented call, or after one that sent these members instead."""
    example = EXAMPLES[name]
    return Inquiry(example.path, request or example.request, CALLED_AT, record, frozenset(known))


def found(name: str, record: dict[str, Json], *known: str, **request: Json) -> Notice | NotDone | Unfit:
    """What it says of that call, if these acts are known not to be the call's."""
    return lookup_of(name).read(inquiry(name, record, *known, **request))


def answered(name: str) -> Notice:
    """The notice that the documented answer is."""
    example = EXAMPLES[name]
    reading = providers.get(name).operation.read(Call(example.path, example.request, example.answer))
    assert isinstance(reading, Notice)
    return reading


def unfit(message: str) -> Unfit:
    """What does not tell, and why."""
    return Unfit("wrong_shape", message)


def job(**changes: Json) -> dict[str, Json]:
    """The documented job with other members."""
    inner = JOB_REVOKING["issuance_job"]
    assert isinstance(inner, dict)
    return {"issuance_job": {**inner, **changes}}


def reversal(seconds: float = 1, **changes: Json) -> dict[str, Json]:
    """The reversal, made so long after the call, with other members."""
    made = (CALLED_AT + timedelta(seconds=seconds)).isoformat()
    return {**REVERSAL, "created_at": made, "id": f"reversal-{seconds}", **changes}


# ---- where to ask ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "request_", "target"),
    [
        ("truthlocks", {"reason": "?"}, "/v1/receipts/%2F%3Fa%3D%25%20%C3%A9%23"),
        (
            "thanx",
            {"merchant_id": "a&b=c é"},
            "/partner/issuance_jobs/%2F%3Fa%3D%25%20%C3%A9%23?merchant_id=a%26b%3Dc%20%C3%A9",
        ),
        ("thanx", {}, "/partner/issuance_jobs/%2F%3Fa%3D%25%20%C3%A9%23"),
        ("thanx", {"merchant_id": 7}, "/partner/issuance_jobs/%2F%3Fa%3D%25%20%C3%A9%23"),
        ("scrip", {}, "/v1/redemptions/%2F%3Fa%3D%25%20%C3%A9%23/reversals?limit=200"),
    ],
)
def test_whatever_a_parameter_holds_stays_in_its_place(name: str, request_: dict[str, Json], target: str) -> None:
    """Percent-encoded."""
    assert target == lookup_of(name).target({"id": "/?a=% é#"}, request_)


def test_what_is_sent_besides_the_credential() -> None:
    """The version, where it is documented; and those without a lookup have none."""
    assert lookup_of("thanx").headers == {"Accept-Version": "v4.0"}
    assert lookup_of("truthlocks").headers == lookup_of("scrip").headers == {}
    assert all(providers.get(name).operation.lookup is None for name in EXAMPLES.keys() - WITH_LOOKUP)


# ---- receipts -------------------------------------------------------------------------------------------------------


def test_a_revoked_receipt_is_the_webhooks_notice() -> None:
    """Under its key, and with its event; what the call gave as a reason is not in the record."""
    told = TRUTHLOCKS.read({"event_type": "receipt.revoked", **RECEIPT_REVOKED})
    shown = found("truthlocks", RECEIPT_REVOKED)

    assert isinstance(told, Notice)
    assert isinstance(shown, Notice)
    assert (shown.event, shown.key, shown.via) == (told.event, told.key, Via.POLL)
    assert shown.key == answered("truthlocks").key


def test_a_receipt_is_the_same_content_however_its_record_grows() -> None:
    """Its proof is of the newest checkpoint; what it says of the revocation is what counts."""
    shown = found("truthlocks", RECEIPT_REVOKED)
    later = found("truthlocks", {**RECEIPT_REVOKED, "transparency_log": {"leaf_index": 7, "tree_size": 99}})
    otherwise = found("truthlocks", {**RECEIPT_REVOKED, "tenant_id": OTHER})

    assert shown == later
    assert isinstance(shown, Notice)
    assert isinstance(otherwise, Notice)
    assert (shown.key, shown.digest != otherwise.digest) == (otherwise.key, True)


def test_a_revoked_receipt_without_a_time_is_revoked_all_the_same() -> None:
    """The documented record lists none."""
    shown = found("truthlocks", {"receipt_id": RECEIPT, "status": "revoked"})

    assert isinstance(shown, Notice)
    assert (shown.event.effect, shown.event.occurred_at, shown.event.occurred_from) == (Effect.REVOKED, None, None)
    assert shown.key == f"receipt.revoked - {RECEIPT}"


@pytest.mark.parametrize("status", ["active", "superseded", "redacted"])
def test_a_receipt_in_another_state_was_not_revoked(status: str) -> None:
    """So the call had no effect; unless the record says both."""
    record = {**RECEIPT_REVOKED, "status": status}

    assert found("truthlocks", {**record, "revoked_at": None}) == NotDone(f"the receipt is {status}, not revoked")
    assert found("truthlocks", record) == unfit(f"status is '{status}', but revoked_at is there")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"receipt_id": None}, "receipt_id is missing"),
        ({"receipt_id": OTHER}, "receipt_id is not the one asked for"),
        ({"status": None}, "status is missing"),
        ({"status": "Active"}, "status is 'Active'; it must be one of revoked, active, superseded, redacted"),
        ({"revoked_at": 7}, "revoked_at is not a string"),
        ({"tenant_id": 7}, "tenant_id is not a string"),
    ],
)
def test_a_receipts_record_that_does_not_tell(changes: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    assert unfit(says) == found("truthlocks", {**RECEIPT_REVOKED, **changes})


def test_a_uuid_is_the_same_in_either_case() -> None:
    """As it is in answers."""
    shown = found("truthlocks", {**RECEIPT_REVOKED, "receipt_id": RECEIPT.upper()})
    reversed_ = found("scrip", listed({**REVERSAL, "redemption_id": REDEMPTION.upper()}))

    assert isinstance(shown, Notice)
    assert isinstance(reversed_, Notice)


def test_a_receipt_that_was_revoked_by_another() -> None:
    """That is known of the act, or told by its time: a call that is later by more than a clock may be did not do it."""
    known = NotDone("the receipt was revoked before it, or by another call")
    past = NotDone("the receipt was revoked before it, at 2026-11-20T08:58:59.999999Z")

    for record in (RECEIPT_REVOKED, {**RECEIPT_REVOKED, "revoked_at": None, "receipt_id": RECEIPT.upper()}):
        assert found("truthlocks", record, RECEIPT) == known
        assert isinstance(found("truthlocks", record, OTHER), Notice)
    assert found("truthlocks", {**RECEIPT_REVOKED, "revoked_at": "2026-11-20T08:58:59.999999Z"}) == past
    assert isinstance(found("truthlocks", {**RECEIPT_REVOKED, "revoked_at": "2026-11-20T08:59:55Z"}), Notice)


# ---- issuance jobs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["revoking", "revoked"])
def test_a_job_under_way_or_done_is_the_answers_notice(state: str) -> None:
    """Of the state that it is in, and of the merchant whom the call named."""
    example = EXAMPLES["thanx"]
    told = THANX.operation.read(Call(example.path, example.request, job(state=state)))
    shown = found("thanx", job(state=state))

    assert isinstance(told, Notice)
    assert isinstance(shown, Notice)
    assert (shown.event, shown.key, shown.via) == (told.event, told.key, Via.POLL)
    assert (shown.event.effect, shown.event.account) == (state, MERCHANT)


def test_a_job_is_the_same_content_with_what_is_not_kept_of_it() -> None:
    """Counts are kept, a summary is not."""
    shown, more = found("thanx", job()), found("thanx", job(summary={"success_count": 1}))
    counted = found("thanx", job(failure_count=0))

    assert shown == more
    assert isinstance(shown, Notice)
    assert isinstance(counted, Notice)
    assert (shown.key, shown.digest != counted.digest) == (counted.key, True)


@pytest.mark.parametrize("state", ["pending", "processing", "completed", "failed"])
def test_a_job_in_another_state_was_not_revoked(state: str) -> None:
    """Nor is it about to be."""
    assert found("thanx", job(state=state)) == NotDone(f"the job is {state}, neither revoking nor revoked")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({}, "issuance_job is missing"),
        (job(id="job_other"), "issuance_job.id is not the one asked for"),
        (job(id=None), "issuance_job.id is missing"),
        (job(state=["revoked"]), "issuance_job.state is not a string"),
        (
            job(state="paused"),
            "issuance_job.state is 'paused': only a job that is 'revoking' or 'revoked' says that it is taken back",
        ),
        (job(success_count="1"), "issuance_job.success_count is not an integer below 2^53"),
        (
            job(merchant_id="mer_2"),
            f"request.merchant_id is '{MERCHANT}', issuance_job.merchant_id is 'mer_2': they name two merchants",
        ),
    ],
)
def test_a_jobs_record_that_does_not_tell(record: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    assert unfit(says) == found("thanx", record)


@pytest.mark.parametrize("state", ["revoking", "revoked"])
@pytest.mark.parametrize("known", [f"{JOB} revoking", f"{JOB} revoked"])
def test_a_job_that_another_call_began_to_revoke(state: str, known: str) -> None:
    """Its end is part of the same."""
    told = NotDone(f"the job is {state}, which was begun before it, or by another call")

    assert found("thanx", job(state=state), known) == told
    assert isinstance(found("thanx", job(state=state), "job_other revoked"), Notice)


# ---- reversals ------------------------------------------------------------------------------------------------------


def test_the_one_reversal_that_fits_is_the_deliverys_notice() -> None:
    """But for what the envelope tells. Whether it is of all there was is not for the request to say."""
    before = reversal(-3600)
    shown = found("scrip", listed(before, REVERSAL), reason=REASON)
    told = SCRIP.read({"type": "redemption.reversed", "data": REVERSAL})

    assert isinstance(told, Notice)
    assert isinstance(shown, Notice)
    assert (shown.key, shown.digest, shown.via) == (told.key, told.digest, Via.POLL)
    assert shown.event == msgspec.structs.replace(told.event, occurred_from="data[1].created_at")
    assert shown.event.extent is Extent.UNKNOWN


@pytest.mark.parametrize(
    ("listed_", "request_"),
    [
        (reversal(-5), {"reason": REASON}),
        (reversal(3600), {"reason": REASON}),
        (reversal(), {"reason": REASON, "amount": "500"}),
        (reversal(), {"reason": REASON, "amount": 500}),
        (reversal(), {"reason": REASON, "amount": Number("500.0")}),
        (reversal(), {"reason": REASON, "amount": "500.00", "quantity": 3}),
        (reversal(quantity=3), {"reason": REASON, "amount": "1.00", "quantity": 3}),
        (reversal(quantity=3), {"reason": REASON, "amount": "1.00"}),
        (reversal(quantity=0), {"reason": REASON, "amount": "500.00", "quantity": 1}),
        (reversal(amount=None), {"reason": REASON, "amount": "1.00"}),
        (reversal(reason=None), {"amount": "500.00"}),
        (reversal(-3600, idempotency_key="k", reason="?"), {"reason": REASON, "idempotency_key": "k"}),
        (reversal(idempotency_key="k"), {"reason": REASON}),
        (reversal(), {"reason": REASON, "idempotency_key": "k"}),
    ],
)
def test_a_reversal_that_is_the_calls(listed_: dict[str, Json], request_: dict[str, Json]) -> None:
    """By its key if that is shown; else by when, why, and how much of what it is counted in."""
    assert isinstance(found("scrip", listed(reversal(-60), listed_), **request_), Notice)


@pytest.mark.parametrize(
    ("listed_", "request_"),
    [
        (reversal(-5.000001), {"reason": REASON}),
        (reversal(), {"reason": "Another"}),
        (reversal(), {"reason": 7}),
        (reversal(), {"reason": REASON, "amount": "499.99"}),
        (reversal(quantity=3), {"reason": REASON, "amount": "500.00", "quantity": 2}),
        (reversal(idempotency_key="k"), {"reason": REASON, "idempotency_key": "l"}),
        (reversal(-60, amount=7), {"reason": REASON, "amount": "not compared"}),
    ],
)
def test_a_reversal_that_is_another_calls(listed_: dict[str, Json], request_: dict[str, Json]) -> None:
    """Then this one had no effect."""
    expected = NotDone("none of the redemption's reversals (2) is this call's")

    assert expected == found("scrip", listed(reversal(-60), listed_), **request_)


def test_a_reversal_that_is_known_is_not_the_calls() -> None:
    """Nor does it stand beside the one that is."""
    mine, other = reversal(1), reversal(2, id=OTHER.upper())

    assert found("scrip", listed(other), OTHER) == NotDone("none of the redemption's reversals (1) is this call's")
    assert found("scrip", listed(mine, other), OTHER) == found("scrip", listed(mine))


def test_where_there_is_no_reversal_the_call_had_no_effect() -> None:
    """Though nothing in such a record names the redemption."""
    assert found("scrip", listed()) == NotDone("none of the redemption's reversals (0) is this call's")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (listed(reversal(1), reversal(2)), "2 of the reversals may be this call's; which of them is cannot be told"),
        (
            listed(reversal(), more=True),
            "pagination.has_more is true: which of so many reversals is this call's cannot be told",
        ),
        ({"data": []}, "pagination is missing"),
        ({"data": [], "pagination": {}}, "pagination.has_more is missing"),
        ({"data": [], "pagination": {"has_more": 0}}, "pagination.has_more is not true or false"),
        ({"pagination": {"has_more": False}}, "data is missing"),
        ({**listed(), "data": {}}, "data is not an array"),
        (listed("x"), "data[0] is not an object"),
        (listed(reversal(-60), reversal(redemption_id=OTHER)), "data[1].redemption_id is not the one asked for"),
        (listed(reversal(redemption_id=None)), "data[0].redemption_id is missing"),
        (listed(reversal(created_at=None)), "data[0].created_at is missing"),
        (listed(reversal(amount="much")), "data[0].amount is no plain decimal such as 500.00"),
        (listed(reversal(id=None)), "data[0].id is missing"),
    ],
)
def test_a_list_of_reversals_that_does_not_tell(record: dict[str, Json], says: str) -> None:
    """Several that fit, a page that is not all of them, and what is not as documented."""
    assert unfit(says) == found("scrip", record)


def test_an_amount_that_is_none_cannot_be_compared() -> None:
    """A call with one was refused, most likely; but that is not what the record says."""
    told = found("scrip", listed(reversal()), reason=REASON, amount="all")

    assert told == unfit("request.amount is no plain decimal such as 500.00")


# ---- the issuing side -----------------------------------------------------------------------------------------------

CREDENTIALS: dict[str, Mapping[str, str]] = {
    "truthlocks": {"X-API-Key": "tl_test_sandbox", "Idempotency-Key": "9f1c2d3e-0000-4000-8000-000000000001"},
    "thanx": {"X-ClientId": "sandbox-client", "Authorization": "Bearer sandbox-token", "Accept-Version": "v4.0"},
    "scrip": {"X-API-Key": "scrip_sandbox"},
}


def ask(sandbox: Sandbox, name: str, called_at: datetime) -> Notice | NotDone | Unfit:
    """What the issuing side shows at the lookup's target, read."""
    example, lookup, operation = EXAMPLES[name], lookup_of(name), providers.get(name).operation
    credential = {key: value for key, value in CREDENTIALS[name].items() if key.lower() in operation.credentials}
    target = lookup.target(example.path, example.request)
    shown = sandbox.client.get(target, headers={**lookup.headers, **credential})
    assert shown.status_code == 200, shown.text
    return lookup.read(Inquiry(example.path, example.request, called_at, parse(shown.content), frozenset()))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """A running sandbox, for calls about different items; a job in it stays as it was when that was answered."""
    with pytest.MonkeyPatch.context() as patch, running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        patch.setattr(thanx, "DELAY", 3600)
        yield sandbox


@pytest.mark.parametrize("name", WITH_LOOKUP)
def test_the_issuing_side_shows_what_became_of_a_call(name: str, sandbox: Sandbox) -> None:
    """Before it, that nothing was done; after it, the event that its answer is."""
    example, operation = EXAMPLES[name], providers.get(name).operation
    called_at = datetime.now(UTC)
    assert isinstance(ask(sandbox, name, called_at), NotDone)

    path = operation.path.format(**example.path)
    answer = sandbox.client.request(operation.method, path, headers=CREDENTIALS[name], json=example.request)
    assert answer.status_code in operation.successes
    told = operation.read(Call(example.path, example.request, parse(answer.content)))
    assert isinstance(told, Notice)

    shown = ask(sandbox, name, called_at)
    assert isinstance(shown, Notice)
    assert (shown.key, shown.event.item, shown.event.operation) == (told.key, told.event.item, told.event.operation)
    assert (shown.event.occurred_at, shown.event.effect) == (told.event.occurred_at, told.event.effect)
