"""What a provider's own record says of the act that an event tells of, where it is asked for, and its proof bundle."""

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from receiver import providers
from receiver.events import Claim, Effect, Event, Item
from receiver.providers import Bundle, Call, Denied, Inclusion, Notice, Record, Unfit
from receiver.sandbox import thanx
from receiver.strictjson import Json, parse
from tests.receiver.operations import (
    EXAMPLES,
    JOB,
    MERCHANT,
    OTHER,
    RECEIPT,
    RECEIPT_REVOKED,
    REDEMPTION,
    REVERSAL,
    TENANT,
    WITH_LOOKUP,
    listed,
)
from tests.receiver.test_lookups import CREDENTIALS, job, unfit
from tests.sandbox.service import Sandbox, running

AT = datetime(2026, 11, 20, 9, 0, 1, tzinfo=UTC)

RECEIPT_CLAIM = Claim(
    account=TENANT,
    item=Item("receipt", RECEIPT),
    operation=RECEIPT,
    effect=Effect.REVOKED,
    amount=None,
    quantity=None,
    at=AT,
)
JOB_CLAIM = Claim(
    account=MERCHANT,
    item=Item("issuance_job", JOB),
    operation=f"{JOB} revoking",
    effect=Effect.REVOKING,
    amount=None,
    quantity="1",
    at=None,
)
REVERSAL_CLAIM = Claim(
    account="550e8400-e29b-41d4-a716-446655440009",
    item=Item("redemption", REDEMPTION),
    operation=str(REVERSAL["id"]),
    effect=Effect.REVERSED,
    amount="500.00",
    quantity=None,
    at=AT,
)
CLAIMS = {"truthlocks": RECEIPT_CLAIM, "thanx": JOB_CLAIM, "scrip": REVERSAL_CLAIM}
"""What the documented examples say was done."""

HASHES = [bytes([number]) * 32 for number in range(4)]


def record_of(name: str) -> Record:
    """The record of a provider that documents one."""
    record = providers.get(name).record
    assert record is not None
    return record


def bundle_of(name: str = "truthlocks") -> Bundle:
    """The proof bundle of a provider that documents one."""
    bundle = providers.get(name).bundle
    assert bundle is not None
    return bundle


def shown(name: str, record: dict[str, Json], claim: Claim | None = None) -> Claim | Denied | Unfit:
    """What the record says of what the provider's example did, or of that claim."""
    return record_of(name).read(claim or CLAIMS[name], record)


# ---- where to ask ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("truthlocks", "/v1/receipts/%2F%3Fa%3D%25%20%C3%A9%23"),
        ("thanx", "/partner/issuance_jobs/%2F%3Fa%3D%25%20%C3%A9%23?merchant_id=a%26b%3Dc"),
        ("scrip", "/v1/redemptions/%2F%3Fa%3D%25%20%C3%A9%23/reversals?limit=200"),
    ],
)
def test_whatever_an_id_holds_stays_in_its_place(name: str, target: str) -> None:
    """Percent-encoded: it came in a delivery, and may be anything."""
    claim = CLAIMS[name]
    odd = replace(claim, account="a&b=c", item=Item(claim.item.type, "/?a=% é#"))

    assert target == record_of(name).target(odd)


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("truthlocks", replace(RECEIPT_CLAIM, item=Item("attestation", RECEIPT))),
        ("truthlocks", replace(RECEIPT_CLAIM, item=Item("key", RECEIPT))),
        ("thanx", replace(JOB_CLAIM, item=Item("batch", JOB))),
        ("thanx", replace(JOB_CLAIM, account=None)),
        ("scrip", replace(REVERSAL_CLAIM, item=Item("reward", REDEMPTION))),
        ("scrip", replace(REVERSAL_CLAIM, operation=None)),
    ],
)
def test_what_no_record_is_documented_for_is_not_asked_for(name: str, claim: Claim) -> None:
    """Another thing, a job without its merchant, a reversal without its id."""
    assert record_of(name).target(claim) is None


def test_what_is_sent_besides_the_credential() -> None:
    """The version, where it is documented; and of those that document no record there is none."""
    assert record_of("thanx").headers == {"Accept-Version": "v4.0"}
    assert record_of("truthlocks").headers == record_of("scrip").headers == bundle_of().headers == {}
    assert {name for name in providers.names() if providers.get(name).record is None} == EXAMPLES.keys() - WITH_LOOKUP
    assert [name for name in providers.names() if providers.get(name).bundle is not None] == ["truthlocks"]


# ---- receipts -------------------------------------------------------------------------------------------------------


def test_a_revoked_receipt_says_when_and_whose_if_it_does() -> None:
    """What it does not say it leaves open."""
    assert shown("truthlocks", RECEIPT_REVOKED) == RECEIPT_CLAIM

    bare: dict[str, Json] = {"receipt_id": RECEIPT.upper(), "status": "revoked"}
    assert shown("truthlocks", bare) == replace(RECEIPT_CLAIM, account=None, at=None)


def test_a_receipt_of_another_tenant_or_time_says_so() -> None:
    """It is what the record says that is handed over, and never what the event said."""
    other = {**RECEIPT_REVOKED, "tenant_id": OTHER, "revoked_at": "2026-11-20T10:00:01Z"}

    assert shown("truthlocks", other) == replace(RECEIPT_CLAIM, account=OTHER, at=AT.replace(hour=10))


@pytest.mark.parametrize("status", ["active", "superseded", "redacted"])
def test_a_receipt_in_another_state_denies_it(status: str) -> None:
    """In a clause that names the state."""
    record = {**RECEIPT_REVOKED, "status": status, "revoked_at": None}

    assert shown("truthlocks", record) == Denied(f"the receipt is {status}, not revoked")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"receipt_id": None}, "receipt_id is missing"),
        ({"receipt_id": OTHER}, "receipt_id is not the one asked for"),
        ({"status": "Revoked"}, "status is 'Revoked'; it must be one of revoked, active, superseded, redacted"),
        ({"status": "active"}, "status is 'active', but revoked_at is there"),
        ({"revoked_at": "yesterday"}, "revoked_at: 'yesterday' is not an RFC 3339 time with a zone"),
        ({"tenant_id": 7}, "tenant_id is not a string"),
    ],
)
def test_a_receipts_record_that_does_not_tell(changes: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    told = shown("truthlocks", {**RECEIPT_REVOKED, **changes})

    assert isinstance(told, Unfit)
    assert told.message.startswith(says)


# ---- issuance jobs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["revoking", "revoked"])
def test_a_job_says_how_far_it_is_and_how_many_rewards(state: str) -> None:
    """As an event of it does; the merchant only where the job names one."""
    expected = replace(JOB_CLAIM, account=None, effect=Effect(state))

    assert shown("thanx", job(state=state)) == expected
    assert shown("thanx", job(state=state, merchant_id="mer_2", success_count=7)) == replace(
        expected, account="mer_2", quantity="7"
    )
    assert shown("thanx", job(state=state, success_count=None)) == replace(expected, quantity=None)


@pytest.mark.parametrize("state", ["pending", "processing", "completed", "failed"])
def test_a_job_in_another_state_denies_it(state: str) -> None:
    """In a clause that names the state."""
    assert shown("thanx", job(state=state)) == Denied(f"the job is {state}, neither revoking nor revoked")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({}, "issuance_job is missing"),
        (job(id="job_other"), "issuance_job.id is not the one asked for"),
        (
            job(state="paused"),
            "issuance_job.state is 'paused': only a job that is 'revoking' or 'revoked' says that it is taken back",
        ),
        (job(success_count="1"), "issuance_job.success_count is not an integer below 2^53"),
    ],
)
def test_a_jobs_record_that_does_not_tell(record: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    assert unfit(says) == shown("thanx", record)


# ---- reversals ------------------------------------------------------------------------------------------------------


def reversal(**changes: Json) -> dict[str, Json]:
    """The documented reversal with other members."""
    return {**REVERSAL, **changes}


def test_the_reversal_of_that_id_says_how_much_and_when() -> None:
    """Wherever in the list it stands, on a page that is not all of it too; a UUID is the same in either case."""
    other = reversal(id=OTHER, amount="1.00")
    expected = replace(REVERSAL_CLAIM, account=None)

    assert shown("scrip", listed(other, REVERSAL)) == expected
    assert shown("scrip", listed(REVERSAL, other, more=True)) == expected
    assert shown("scrip", listed(reversal(id=str(REVERSAL["id"]).upper()))) == expected
    assert shown("scrip", listed(reversal(amount="1.00", quantity=3, created_at="2026-11-20T10:00:01Z"))) == replace(
        expected, amount="1.00", quantity="3", at=AT.replace(hour=10)
    )


def test_a_complete_list_without_it_denies_it() -> None:
    """An empty one as well."""
    assert shown("scrip", listed()) == Denied("none of the redemption's reversals (0) has that id")
    assert shown("scrip", listed(reversal(id=OTHER))) == Denied("none of the redemption's reversals (1) has that id")


@pytest.mark.parametrize(("number", "more"), [(1, True), (200, False), (200, True)])
def test_a_page_that_may_not_be_all_does_not_tell(*, number: int, more: bool) -> None:
    """Whether it says so, or is only full."""
    page = [reversal(id=f"{OTHER[:-4]}{index:04x}") for index in range(1, number + 1)]

    assert shown("scrip", listed(*page, more=more)) == unfit(
        "the reversal is not on the first page of the list, which says nothing of the others"
    )


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"pagination": {"has_more": False}}, "data is missing"),
        ({"data": []}, "pagination is missing"),
        (listed("x"), "data[0] is not an object"),
        (listed(reversal(redemption_id=OTHER)), "data[0].redemption_id is not the one asked for"),
        (listed(reversal(id=None)), "data[0].id is missing"),
        (listed(REVERSAL, REVERSAL), f"2 of the reversals have the id '{REVERSAL['id']}'"),
        (listed(reversal(amount=500)), "data[0].amount is not a string"),
    ],
)
def test_a_list_of_reversals_that_does_not_tell(record: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    assert unfit(says) == shown("scrip", record)


# ---- proof bundles --------------------------------------------------------------------------------------------------


def bundle(**changes: Any) -> dict[str, Json]:
    """A proof bundle as it is documented; a dotted name changes a member of the transparency log, or its checkpoint."""
    log: dict[str, Any] = {
        "log_id": "log_main",
        "leaf_index": 2,
        "leaf_hash": HASHES[0].hex(),
        "inclusion_proof": [HASHES[1].hex(), HASHES[2].hex()],
    }
    checkpoint = {"tree_size": 4, "root_hash": HASHES[3].hex(), "timestamp": "?", "signature": "?", "sig_kid": "?"}
    for members in (log, checkpoint):
        members.update({name: value for name, value in changes.items() if name in members})
    log["checkpoint"] = changes.get("checkpoint", checkpoint)
    receipt: dict[str, Json] = {"receipt_id": changes.get("receipt_id", RECEIPT)}
    return {"receipt": receipt, "transparency_log": changes.get("transparency_log", log)}


def test_where_a_bundle_is_asked_for() -> None:
    """Behind the receipt's record, and of nothing else."""
    assert bundle_of().target(RECEIPT_CLAIM) == f"/v1/receipts/{RECEIPT}/proof-bundle"
    assert bundle_of().target(replace(RECEIPT_CLAIM, item=Item("key", RECEIPT))) is None
    assert bundle_of().unchecked == ("leaf_encoding", "checkpoint_signature")


@pytest.mark.parametrize(("before", "upper"), [("", False), ("", True), ("sha256:", False)])
def test_a_bundles_proof_in_each_documented_spelling(before: str, *, upper: bool) -> None:
    """Hex, and hex behind the name of the hash."""
    leaf, *path, root = [before + (one.hex().upper() if upper else one.hex()) for one in HASHES]
    shown = bundle_of().read(RECEIPT_CLAIM, bundle(leaf_hash=leaf, inclusion_proof=path, root_hash=root))

    assert shown == Inclusion("log_main", 2, HASHES[0], (HASHES[1], HASHES[2]), 4, HASHES[3])


def test_the_bundle_of_a_log_of_one_entry() -> None:
    """Its path is empty."""
    shown = bundle_of().read(RECEIPT_CLAIM, bundle(leaf_index=0, inclusion_proof=[], tree_size=1))

    assert shown == Inclusion("log_main", 0, HASHES[0], (), 1, HASHES[3])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"receipt_id": OTHER}, "receipt.receipt_id is not the one asked for"),
        ({"transparency_log": None}, "transparency_log is missing"),
        ({"checkpoint": None}, "transparency_log.checkpoint is missing"),
        ({"leaf_index": None}, "transparency_log.leaf_index is missing"),
        ({"leaf_index": True}, "transparency_log.leaf_index is not an integer below 2^53"),
        ({"tree_size": "4"}, "transparency_log.checkpoint.tree_size is not an integer below 2^53"),
        ({"leaf_hash": HASHES[0].hex()[1:]}, "transparency_log.leaf_hash is not a SHA-256 hash in hex"),
        ({"leaf_hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, "transparency_log.leaf_hash is not a SHA-"),
        ({"root_hash": f" {HASHES[0].hex()}"}, "transparency_log.checkpoint.root_hash is not a SHA-256 hash in hex"),
        ({"root_hash": f"{HASHES[0].hex()}\n"}, "transparency_log.checkpoint.root_hash is not a SHA-256 hash in hex"),
        ({"inclusion_proof": None}, "transparency_log.inclusion_proof is not an array"),
        ({"inclusion_proof": [7]}, "transparency_log.inclusion_proof[0] is not a SHA-256 hash in hex"),
        ({"inclusion_proof": ["00" * 32] * 65}, "transparency_log.inclusion_proof has 65 hashes; it may have at most"),
    ],
)
def test_a_bundle_that_cannot_be_read(changes: dict[str, Any], says: str) -> None:
    """The member and what is wrong with it; a hash in base64 is none, since that is documented nowhere."""
    told = bundle_of().read(RECEIPT_CLAIM, bundle(**changes))

    assert isinstance(told, Unfit)
    assert told.message.startswith(says)


# ---- the issuing side -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """A running sandbox; a job in it stays `revoking`."""
    with pytest.MonkeyPatch.context() as patch, running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        patch.setattr(thanx, "DELAY", 3600)
        yield sandbox


def asked(sandbox: Sandbox, name: str, target: str | None, headers: Mapping[str, str]) -> dict[str, Json]:
    """What the issuing side shows there."""
    assert target is not None
    answer = sandbox.client.get(target, headers={**headers, **CREDENTIALS[name]})
    assert answer.status_code == 200, answer.text
    return parse(answer.content)


@pytest.mark.parametrize("name", WITH_LOOKUP)
def test_the_issuing_side_shows_what_an_event_tells(name: str, sandbox: Sandbox) -> None:
    """Before the call its record denies it, and then it says the same as the event that the answer is."""
    record, operation, example = record_of(name), providers.get(name).operation, EXAMPLES[name]
    before = CLAIMS[name]
    assert isinstance(shown(name, asked(sandbox, name, record.target(before), record.headers)), Denied)

    path = operation.path.format(**example.path)
    answer = sandbox.client.request(operation.method, path, headers=CREDENTIALS[name], json=example.request)
    notice = operation.read(Call(example.path, example.request, parse(answer.content)))
    assert isinstance(notice, Notice)
    told = claimed(notice.event)
    said = shown(name, asked(sandbox, name, record.target(told), record.headers), told)

    assert isinstance(said, Claim)
    assert replace(said, account=None, at=None) == replace(told, account=None, at=None)
    assert said.at == told.at


def test_the_bundle_of_the_issuing_side(sandbox: Sandbox) -> None:
    """Before the revocation it proves nothing, and then that there is an entry."""
    minted = sandbox.client.post(
        "/v1/receipts",
        headers={**CREDENTIALS["truthlocks"], "Idempotency-Key": OTHER},
        json={"receipt_type": "t", "issuer_id": "i", "subject": "s", "payload": {}, "kid": "k"},
    )
    claim = replace(RECEIPT_CLAIM, item=Item("receipt", minted.json()["receipt_id"]))
    target = bundle_of().target(claim)
    before = bundle_of().read(claim, asked(sandbox, "truthlocks", target, {}))
    sandbox.client.post(
        f"/v1/receipts/{claim.item.id}/revoke",
        headers={**CREDENTIALS["truthlocks"], "Idempotency-Key": claim.item.id},
        json={"reason": "r"},
    )
    after = bundle_of().read(claim, asked(sandbox, "truthlocks", target, {}))

    assert before == unfit("transparency_log.checkpoint is missing")
    assert isinstance(after, Inclusion)
    assert after.log == sandbox.ledger.log.origin


def claimed(event: Event) -> Claim:
    """What an event claims."""
    assert event.effect is not None
    account = event.account or CLAIMS_ACCOUNT.get(event.item.type)
    return Claim(account, event.item, event.operation, event.effect, event.amount, event.quantity, event.occurred_at)


CLAIMS_ACCOUNT = {"issuance_job": MERCHANT}
"""Whom the source is for, where an event does not name it."""
