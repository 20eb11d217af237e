"""What the provider's own record makes of an event, and what is kept of that; on both databases."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from receiver.events import CrossCheck, Item
from receiver.records.opening import Records
from receiver.records.tables import deliveries
from receiver.strictjson import Json
from tests.receiver.asked import LONG_AGO, MISSING, Checked, answer, new_checked, showing
from tests.receiver.service import ACCOUNT
from translog.evidence import Opening

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
OTHER = "0c9d8e7f-1111-4a53-9a3b-0f0a3f6f1f10"


def receipt(item: str, **members: Json) -> dict[str, Json]:
    """The record of a revoked receipt, as the delivery tells of it."""
    record: dict[str, Json] = {
        "receipt_id": item,
        "receipt_type": "payment_receipt",
        "status": "revoked",
        "revoked_at": "2026-11-20T08:59:58Z",
        "tenant_id": ACCOUNT,
        "subject": "a@example.com",
    }
    return {**record, **members}


def job(item: str, state: str = "revoking", **members: Json) -> dict[str, Json]:
    """The record of an issuance job."""
    return {"issuance_job": {"id": item, "state": state, "success_count": 1, **members}}


def reversals(checked: Checked, event_id: str, item: str, **members: Json) -> dict[str, Json]:
    """The list of a redemption's reversals: the one that the event tells of."""
    operation = json.loads(delivered(checked, event_id).event_data)["operation"]
    reversal: dict[str, Json] = {
        "id": operation,
        "redemption_id": item,
        "amount": "500.00",
        "quantity": 1,
        "created_at": "2024-01-15T10:30:00Z",
    }
    return {"data": [{**reversal, **members}], "pagination": {"has_more": False}}


def delivered(checked: Checked, event_id: str) -> Any:
    """The event's row."""
    with checked.records.database.read() as tx:
        return tx.execute(sa.select(deliveries).where(deliveries.c.id == event_id)).one()


@pytest.fixture
def receipts(records: Records) -> Checked:
    """A source of receipts."""
    return new_checked(records, "truthlocks")


@pytest.fixture
def item() -> str:
    """The id of a receipt that no delivery told of."""
    return str(uuid4())


# ---- confirmed ------------------------------------------------------------------------------------------------------


def test_a_record_that_says_the_same(receipts: Checked, item: str) -> None:
    """It is confirmed, and the entry that says so has both sides: the event, and the answer with the request's line."""
    event_id = receipts.tell(item)
    look = receipts.look(event_id, showing(receipt(item)))
    (told,) = receipts.told(event_id)
    leaf = receipts.leaf(told)

    assert (look.outcome, look.looked.state) == ("confirmed", CrossCheck.CONFIRMED)
    assert look.looked.item == Item("receipt", item)
    assert receipts.state(event_id) == ("confirmed", "provider_record")
    assert receipts.check(event_id).due_at is None
    assert leaf.facts == {
        "by": "provider_record",
        "first": event_id,
        "late": False,
        "provider": "truthlocks",
        "source": receipts.source_id,
        "state": "confirmed",
        "was": "pending",
    }
    assert json.loads(told.headers) == [
        [":method", "GET"],
        [":path", f"/v1/receipts/{item}"],
        [":status", "200"],
    ]
    assert json.loads(told.body) == receipt(item)
    assert receipts.data(event_id)["differences"] == []
    assert leaf.event == Opening(bytes(told.event_data), bytes(told.event_salt)).commitment("event")
    assert receipts.wrong() == []


def test_what_is_asked_with(receipts: Checked, item: str) -> None:
    """The documented GET, with the credential, and nothing of a caller's."""
    event_id = receipts.tell(item)
    look = receipts.look(event_id, showing(receipt(item)))
    _, *lines = look.came[0].partition(b"\r\n\r\n")[0].split(b"\r\n")

    assert look.asked == [f"GET /v1/receipts/{item} HTTP/1.1", f"GET /v1/receipts/{item}/proof-bundle HTTP/1.1"]
    assert lines[0].startswith(b"Host: 127.0.0.1:")
    assert lines[1:] == [b"x-api-key: tl_test_sandbox", b"accept-encoding: identity", b"connection: close"]


def test_a_job_of_which_the_rewards_are_revoked_by_now(records: Records) -> None:
    """It was begun, and the record says that it is done: that is the same act."""
    jobs = new_checked(records, "thanx")
    event_id = jobs.tell("job_1")
    look = jobs.look(event_id, showing(job("job_1", "revoked")))

    assert look.outcome == "confirmed"
    assert look.asked == ["GET /partner/issuance_jobs/job_1?merchant_id=k2lye10h32l5wzo HTTP/1.1"]
    assert b"\r\nAccept-Version: v4.0\r\n" in look.came[0]
    assert "bundle" not in jobs.data(event_id)


def test_a_reversal_among_the_redemptions(records: Records, item: str) -> None:
    """Amounts are compared as numbers, and times within two seconds."""
    redemptions = new_checked(records, "scrip")
    event_id = redemptions.tell(item)
    record = reversals(redemptions, event_id, item, amount="500", created_at="2024-01-15T10:30:02Z")
    look = redemptions.look(event_id, showing(record))

    assert look.outcome == "confirmed"
    assert look.asked == [f"GET /v1/redemptions/{item}/reversals?limit=200 HTTP/1.1"]


def test_what_a_record_does_not_say_is_not_compared(receipts: Checked, item: str) -> None:
    """The documented one names no time of the revocation, and no tenant."""
    event_id = receipts.tell(item)
    look = receipts.look(event_id, showing(receipt(item, revoked_at=None, tenant_id=None)))

    assert look.outcome == "confirmed"


# ---- contradicted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "field", "event", "issuer"),
    [
        ({"tenant_id": OTHER}, "account", ACCOUNT, OTHER),
        ({"revoked_at": "2026-11-20T09:00:01Z"}, "at", "2026-11-20T08:59:58.000000Z", "2026-11-20T09:00:01.000000Z"),
    ],
)
def test_a_record_that_differs(
    receipts: Checked, item: str, members: dict[str, Json], field: str, event: str, issuer: str
) -> None:
    """It contradicts at once, within the grace period too, and what differs is named."""
    event_id = receipts.tell(item)
    look = receipts.look(event_id, showing(receipt(item, **members)))

    assert (look.outcome, look.looked.said) == ("contradicted", f"the provider's record says otherwise: {field}")
    assert receipts.state(event_id) == ("contradicted", "provider_record")
    assert receipts.data(event_id)["differences"] == [{"event": event, "field": field, "issuer": issuer}]
    assert json.loads(receipts.told(event_id)[0].body) == receipt(item, **members)
    assert receipts.check(event_id).due_at is None


def test_several_fields_that_differ(records: Records, item: str) -> None:
    """All of them are named."""
    redemptions = new_checked(records, "scrip")
    event_id = redemptions.tell(item)
    record = reversals(redemptions, event_id, item, amount="499.99", quantity=2)
    redemptions.look(event_id, showing(record))

    assert [one["field"] for one in redemptions.data(event_id)["differences"]] == ["amount", "quantity"]


def test_a_record_that_denies_it_may_lag(receipts: Checked, item: str) -> None:
    """As long as the grace period lasts, the event is pending and asked about again; after that it is contradicted."""
    event_id = receipts.tell(item)
    active = showing(receipt(item, status="active", revoked_at=None))
    before = datetime.now(UTC)

    assert receipts.look(event_id, active).outcome == "denied"
    assert receipts.state(event_id) == ("pending", None)
    assert receipts.told(event_id) == []
    assert MINUTE <= (receipts.due_in(event_id, before) or DAY) < 2 * MINUTE

    receipts.grace_is_over(event_id)
    look = receipts.look(event_id, active)

    assert look.outcome == "contradicted"
    assert look.looked.said == "the provider's record denies it: the receipt is active, not revoked"
    assert receipts.data(event_id)["differences"] == [
        {"event": "revoked", "field": "effect", "issuer": "the receipt is active, not revoked"}
    ]


def test_a_job_that_is_said_to_be_done_and_is_only_begun(records: Records) -> None:
    """It may be done in a moment; so that it is not is held against the event after the grace period only."""
    jobs = new_checked(records, "thanx")
    data = {"issuance_job": {"id": "job_1", "state": "revoked", "success_count": 1}}
    event_id = jobs.tell("job_1", type="issuance_job.revoked", data=data)

    assert jobs.look(event_id, showing(job("job_1"))).outcome == "denied"
    jobs.grace_is_over(event_id)
    assert jobs.look(event_id, showing(job("job_1"))).outcome == "contradicted"
    assert jobs.data(event_id)["differences"] == [
        {"event": "revoked", "field": "effect", "issuer": "the act is only revoking"}
    ]


def test_a_redemption_without_that_reversal(records: Records, item: str) -> None:
    """Its list is complete, and does not hold it."""
    redemptions = new_checked(records, "scrip")
    event_id = redemptions.tell(item, ago=LONG_AGO)
    look = redemptions.look(event_id, showing({"data": [], "pagination": {"has_more": False}}))

    assert look.outcome == "contradicted"
    assert redemptions.data(event_id)["differences"] == [
        {"event": "reversed", "field": "effect", "issuer": "none of the redemption's reversals (0) has that id"}
    ]


# ---- absent ---------------------------------------------------------------------------------------------------------


def test_a_record_that_is_not_there(receipts: Checked, item: str) -> None:
    """Pending while there is time; then absent: a notice of what the provider does not know."""
    event_id = receipts.tell(item)

    assert receipts.look(event_id, showing(MISSING)).outcome == "not_found"
    assert receipts.state(event_id) == ("pending", None)

    receipts.grace_is_over(event_id)

    assert receipts.look(event_id, showing(MISSING)).outcome == "absent"
    assert receipts.state(event_id) == ("absent", "provider_record")
    (told,) = receipts.told(event_id)
    assert [value for name, value in json.loads(told.headers) if name == ":status"] == ["404"]
    assert json.loads(told.body) == {"code": "NOT_FOUND"}
    assert receipts.wrong() == []


@pytest.mark.parametrize("shown", ["missing", "active"])
def test_what_was_not_there_is_looked_at_once_more(receipts: Checked, item: str, shown: str) -> None:
    """Six hours later, and then never again."""
    event_id = receipts.tell(item, ago=LONG_AGO)
    behave = showing(MISSING if shown == "missing" else receipt(item, status="active", revoked_at=None))
    before = datetime.now(UTC)

    receipts.look(event_id, behave)
    assert 6 * HOUR <= (receipts.due_in(event_id, before) or DAY) < 6 * HOUR + MINUTE

    receipts.look(event_id, behave)
    assert receipts.due_in(event_id, before) is None
    assert len(receipts.told(event_id)) == 1


def test_what_is_there_after_all(receipts: Checked, item: str) -> None:
    """The later look confirms it, and says that it comes late."""
    event_id = receipts.tell(item, ago=LONG_AGO)
    receipts.look(event_id, showing(MISSING))
    receipts.look(event_id, showing(receipt(item)))

    assert receipts.states(event_id) == ["absent", "confirmed"]
    assert [receipts.leaf(row).facts["late"] for row in receipts.told(event_id)] == [False, True]
    assert (receipts.check(event_id).late, receipts.check(event_id).due_at) == (True, None)


def test_a_later_look_that_fails_is_made_up_for(receipts: Checked, item: str) -> None:
    """What is known stays, and it is due again before long."""
    event_id = receipts.tell(item, ago=LONG_AGO)
    receipts.look(event_id, showing(MISSING))
    before = datetime.now(UTC)
    receipts.look(event_id, showing(answer({}, "503 Service Unavailable")))

    assert receipts.state(event_id) == ("absent", "provider_record")
    assert 2 * MINUTE <= (receipts.due_in(event_id, before) or DAY) < 3 * MINUTE


# ---- nothing to ask -------------------------------------------------------------------------------------------------


def test_what_no_record_is_documented_of(receipts: Checked, item: str) -> None:
    """There is nothing to check an attestation against, which is told; nobody is asked."""
    members: dict[str, Any] = {"event_type": "attestation.revoked", "attestation_id": item, "receipt_id": None}
    event_id = receipts.tell(item, **members)
    look = receipts.look(event_id, showing(receipt(item)))

    assert (look.outcome, look.came) == ("none", [])
    assert receipts.state(event_id) == ("none", None)
    assert (receipts.states(event_id), receipts.check(event_id).due_at) == (["none"], None)
    assert receipts.told(event_id)[0].body is None


def test_a_job_whose_merchant_only_the_source_names(records: Records) -> None:
    """The source's account is asked for; without any there is no record that could tell."""
    named = new_checked(records, "thanx", account="mer_2")
    event_id = named.tell("job_1", request=None)
    look = named.look(event_id, showing(job("job_1")))

    assert (look.outcome, look.asked) == (
        "confirmed",
        ["GET /partner/issuance_jobs/job_1?merchant_id=mer_2 HTTP/1.1"],
    )

    unnamed = new_checked(records, "thanx")
    assert unnamed.look(unnamed.tell("job_1", request=None), showing(job("job_1"))).outcome == "none"


@pytest.mark.parametrize("odd", ["..", ".", "a/../../b", "a%2fb", "a?b=c", "a#b", "a;b", "a\\b", "a\tb"])
def test_an_id_that_is_more_than_a_name_is_not_asked_for(receipts: Checked, odd: str) -> None:
    """It would be another request than the documented one. The event stays pending, and that is told."""
    event_id = receipts.tell("unused", receipt_id=odd)
    look = receipts.look(event_id, showing(MISSING))

    assert (look.outcome, look.came, receipts.state(event_id)) == ("not_asked", [], ("pending", None))


def test_an_id_of_other_letters_is_asked_for(receipts: Checked) -> None:
    """Percent-encoded."""
    event_id = receipts.tell("unused", receipt_id="é 1")

    assert receipts.look(event_id, showing(MISSING)).asked == ["GET /v1/receipts/%C3%A9%201 HTTP/1.1"]


# ---- the bundle -----------------------------------------------------------------------------------------------------


def test_a_bundle_is_kept_beside_the_record(receipts: Checked, item: str) -> None:
    """Byte for byte, in the entry that tells of the confirmation."""
    event_id = receipts.tell(item)
    proof: dict[str, Json] = {"receipt": {"receipt_id": item}, "transparency_log": None}
    receipts.look(event_id, showing(receipt(item), proof))
    bundle = receipts.data(event_id)["bundle"]

    assert json.loads(base64.b64decode(bundle["answer"])) == proof
    assert (bundle["result"], bundle["status"], bundle["path"]) == (
        "unreadable",
        200,
        f"/v1/receipts/{item}/proof-bundle",
    )
    assert json.loads(receipts.told(event_id)[0].body) == receipt(item)
