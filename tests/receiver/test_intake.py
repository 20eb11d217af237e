"""What a delivery gets that is authenticated: answer, row, leaf and tally, on both databases."""

import hashlib
import json
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.records.tables import sources
from tests.receiver.service import ACCOUNT, REVOKED_AT, Sender, Service, at_once, receipt_id, revoked
from translog.evidence import Delivery, Opening
from translog.merkle import leaf_hash


def acknowledged(sender: Sender, body: bytes, **sent: Any) -> dict[str, Any]:
    """Deliver; the answer's members, after checking that it is a 200 in JSON."""
    answer = sender.post(body, **sent)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def test_a_new_delivery_is_recorded(either_service: Service, either_sender: Sender) -> None:
    """200 `recorded`; a row with all of it, a leaf with the facts and both commitments, and a count."""
    receipt = receipt_id()
    body = revoked(receipt)
    headers = either_sender.headers(body)

    answer = acknowledged(either_sender, body, headers=headers)

    assert sorted(answer) == ["event_id", "leaf_hash", "log_index", "status"]
    assert answer["status"] == "recorded"
    (row,) = either_sender.rows()
    assert (row.id, row.log_index, row.kind) == (answer["event_id"], answer["log_index"], "revocation")
    assert (row.event, row.effect, row.via, row.scheme) == (
        "receipt.revoked",
        "revoked",
        "webhook",
        "standard-webhooks",
    )
    assert (row.body, dict(json.loads(row.headers))) == (body, headers)
    assert (row.reason, row.first_id, row.breaches, row.test) == (None, None, None, False)
    assert row.occurred_at == "2026-11-20T08:59:58.000000Z"
    leaf = either_service.leaf(row.log_index)
    assert answer["leaf_hash"] == leaf_hash(either_service.entry(row.log_index)).hex()
    assert (leaf.kind, leaf.id, leaf.logged_at) == ("revocation", row.id, row.logged_at)
    assert leaf.facts == {
        "breaches": [],
        "effect": "revoked",
        "event": "receipt.revoked",
        "provider": "truthlocks",
        "received_at": row.received_at,
        "scheme": "standard-webhooks",
        "secret": either_sender.endpoint.source.secrets[0].id,
        "source": either_sender.source_id,
        "test": False,
        "via": "webhook",
    }
    assert leaf.event == Opening(row.event_data, row.event_salt).commitment("event")
    delivery = Delivery(tuple(headers.items()), body).encode()
    assert leaf.delivery == Opening(delivery, row.delivery_salt).commitment("delivery")
    assert json.loads(row.event_data) == {
        "account": ACCOUNT,
        "amount": None,
        "details": {"receipt_type": "payment_receipt"},
        "extent": "full",
        "item": {"id": receipt, "type": "receipt"},
        "occurred_at": "2026-11-20T08:59:58.000000Z",
        "occurred_from": "revoked_at",
        "operation": receipt,
        "quantity": None,
        "reason": None,
    }
    assert either_sender.counts() == {"recorded": 1}


def test_the_same_again_is_a_duplicate(either_sender: Sender) -> None:
    """200 with the first one's id, index and leaf hash; nothing is written."""
    body = revoked()
    first = acknowledged(either_sender, body)

    again = acknowledged(either_sender, body, at=either_sender.service.leaf_time(first["log_index"]) - 60)

    assert again == {**first, "status": "duplicate"}
    assert len(either_sender.rows()) == 1
    assert either_sender.counts() == {"recorded": 1, "duplicate": 1}


def test_what_the_same_content_is(either_sender: Sender) -> None:
    """Order of members, whitespace and escapes make no other content."""
    document = json.loads(revoked())
    first = acknowledged(either_sender, json.dumps(document).encode())

    other = json.dumps(dict(reversed(document.items())), indent=2).replace("payment", r"\u0070ayment").encode()

    assert acknowledged(either_sender, other) == {**first, "status": "duplicate"}


def test_other_content_under_the_same_key_is_a_mismatch(either_service: Service, either_sender: Sender) -> None:
    """200 `mismatch` with the first event's id and its own entry; both are kept, and the first is as it was."""
    receipt = receipt_id()
    first = acknowledged(either_sender, revoked(receipt))
    body = revoked(receipt, note="changed")

    answer = acknowledged(either_sender, body)

    before, row = either_sender.rows()
    assert answer == {
        "status": "mismatch",
        "event_id": first["event_id"],
        "log_index": row.log_index,
        "leaf_hash": leaf_hash(either_service.entry(row.log_index)).hex(),
        "reason": "content_differs",
    }
    assert (before.id, before.kind) == (first["event_id"], "revocation")
    assert (row.kind, row.first_id, row.body) == ("mismatch", first["event_id"], body)
    assert (row.event, row.event_data, row.event_salt, row.item_key) == (None, None, None, None)
    leaf = either_service.leaf(row.log_index)
    assert (leaf.kind, leaf.id, leaf.event) == ("mismatch", row.id, None)
    assert leaf.facts == {
        "first": first["event_id"],
        "provider": "truthlocks",
        "received_at": row.received_at,
        "source": either_sender.source_id,
    }
    delivery = Delivery(tuple(json.loads(row.headers)), body).encode()
    assert leaf.delivery == Opening(delivery, row.delivery_salt).commitment("delivery")
    assert either_sender.counts() == {"recorded": 1, "mismatch": 1}


def test_the_same_mismatch_again_is_answered_as_before(either_sender: Sender) -> None:
    """It is tallied as a duplicate; another mismatch is one of its own, and the first is still the first."""
    receipt = receipt_id()
    first = acknowledged(either_sender, revoked(receipt))
    one = acknowledged(either_sender, revoked(receipt, note="one"))
    two = acknowledged(either_sender, revoked(receipt, note="two"))

    assert acknowledged(either_sender, revoked(receipt, note="one")) == one
    assert acknowledged(either_sender, revoked(receipt, note="two")) == two
    assert acknowledged(either_sender, revoked(receipt)) == {**first, "status": "duplicate"}
    assert [row.kind for row in either_sender.rows()] == ["revocation", "mismatch", "mismatch"]
    assert {one["event_id"], two["event_id"]} == {first["event_id"]}
    assert either_sender.counts() == {"recorded": 1, "mismatch": 2, "duplicate": 3}


@pytest.mark.parametrize(
    "body",
    [
        b'{"event_type":"receipt.created"}',
        b'{"event_type":"team.member_added"}',
        b'{"status":"ok","source":"test-delivery"}',
    ],
)
def test_a_type_that_bears_on_nothing_we_keep_is_ignored(either_service: Service, body: bytes) -> None:
    """200 `ignored` and a count; no row, no leaf, no body."""
    sender = either_service.add_source()
    size = either_service.size()

    assert acknowledged(sender, body) == {"status": "ignored"}
    assert (sender.rows(), either_service.size()) == ([], size)
    assert sender.counts() == {"ignored": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not_json"),
        (b"", "not_json"),
        (b"{}", "wrong_shape"),
        (revoked("r", revoked_at="yesterday"), "wrong_shape"),
        (b'{"event_type":"receipt.melted"}', "unknown_type"),
        (revoked("r", tenant_id="another"), "other_account"),
    ],
)
def test_what_is_not_as_documented_is_quarantined(either_service: Service, body: bytes, reason: str) -> None:
    """200 `quarantined` with the reason; the whole delivery is kept, and again it is answered as before."""
    sender = either_service.add_source()
    headers = sender.headers(body)

    answer = acknowledged(sender, body, headers=headers)

    (row,) = sender.rows()
    assert answer == {
        "status": "quarantined",
        "quarantine_id": row.id,
        "log_index": row.log_index,
        "leaf_hash": leaf_hash(either_service.entry(row.log_index)).hex(),
        "reason": reason,
    }
    assert (row.kind, row.reason, row.body) == ("quarantine", reason, body)
    assert dict(json.loads(row.headers)) == headers
    assert (row.event, row.effect, row.event_data, row.item_key) == (None, None, None, None)
    leaf = either_service.leaf(row.log_index)
    assert (leaf.kind, leaf.id, leaf.event) == ("quarantine", row.id, None)
    assert leaf.facts == {
        "provider": "truthlocks",
        "reason": reason,
        "received_at": row.received_at,
        "scheme": "standard-webhooks",
        "secret": sender.endpoint.source.secrets[0].id,
        "source": sender.source_id,
        "test": False,
    }
    delivery = Delivery(tuple(headers.items()), body).encode()
    assert leaf.delivery == Opening(delivery, row.delivery_salt).commitment("delivery")
    assert acknowledged(sender, body) == answer
    assert sender.counts() == {"quarantined": 1, "duplicate": 1}
    assert len(sender.rows()) == 1


def test_an_account_that_is_absent_is_not_another_account(either_sender: Sender) -> None:
    """A delivery that names none is recorded."""
    body = json.dumps({"event_type": "key.revoked", "key_id": "k1", "revoked_at": REVOKED_AT}).encode()

    assert acknowledged(either_sender, body)["status"] == "recorded"


def test_a_source_without_an_account_takes_any(either_service: Service) -> None:
    """No account is another one then."""
    sender = either_service.add_source(account=None)

    assert acknowledged(sender, revoked(tenant_id="one"))["status"] == "recorded"
    assert acknowledged(sender, revoked(tenant_id="two"))["status"] == "recorded"


def test_a_breach_is_recorded_with_its_event(either_service: Service, either_sender: Sender) -> None:
    """Taken back twice: both are events, the second says by which entry it was taken back before."""
    receipt = receipt_id()
    first = acknowledged(either_sender, revoked(receipt))

    second = acknowledged(either_sender, revoked(receipt, revoked_at="2026-11-20T09:10:00Z"))

    assert second["status"] == "recorded"
    row = either_sender.rows()[1]
    message = f"receipt revoked already, by entry {first['log_index']} of the log; a revocation is final"
    assert json.loads(row.breaches) == [["revoked_again", message]]
    assert either_service.leaf(row.log_index).facts["breaches"] == ["revoked_again"]


def test_a_notice_of_context_is_recorded(either_service: Service, either_sender: Sender) -> None:
    """It has a leaf of its own kind and no effect."""
    answer = acknowledged(either_sender, b'{"event_type":"attestation.expired","attestation_id":"a1"}')

    (row,) = either_sender.rows()
    assert answer["status"] == "recorded"
    assert (row.kind, row.effect) == ("context", None)
    assert either_service.leaf(row.log_index).facts["effect"] is None


def test_a_test_source_says_so(either_service: Service) -> None:
    """In the row and in the leaf's facts, where no erasure reaches."""
    sender = either_service.add_source(test=True)

    answer = acknowledged(sender, revoked())

    assert sender.rows()[0].test is True
    assert either_service.leaf(answer["log_index"]).facts["test"] is True


def test_two_sources_do_not_share_notices(either_service: Service) -> None:
    """The same body to two sources is two events; the second breaks no rule, for it is the same act."""
    body = revoked()
    one, two = either_service.add_source(), either_service.add_source()

    answers = [acknowledged(sender, body) for sender in (one, two)]

    assert [answer["status"] for answer in answers] == ["recorded", "recorded"]
    assert [row.breaches for row in (*one.rows(), *two.rows())] == [None, None]


def test_tenants_have_logs_of_their_own(either_service: Service) -> None:
    """A delivery to a source of another tenant leaves nothing in the first one's log."""
    size = either_service.size()
    sender = either_service.add_source("other-tenant")

    answer = acknowledged(sender, revoked())

    assert either_service.size() == size
    assert either_service.leaf(answer["log_index"], "other-tenant").id == answer["event_id"]


def test_many_at_once_are_one_event(either_sender: Sender) -> None:
    """All answers name it, and only one of them says `recorded`."""
    body = revoked()

    answers = at_once(16, lambda _: acknowledged(either_sender, body))

    assert len(either_sender.rows()) == 1
    assert sorted(answer.pop("status") for answer in answers) == ["duplicate"] * 15 + ["recorded"]
    assert all(answer == answers[0] for answer in answers)
    assert either_sender.counts() == {"recorded": 1, "duplicate": 15}


def test_many_different_ones_at_once_are_all_recorded(either_sender: Sender) -> None:
    """Each at an index of its own, under the leaf hash that it was answered with."""
    answers = at_once(16, lambda _: acknowledged(either_sender, revoked()))

    rows = either_sender.rows()
    assert sorted(answer["log_index"] for answer in answers) == [row.log_index for row in rows]
    assert sorted(answer["event_id"] for answer in answers) == [row.id for row in rows]
    hashes = {answer["log_index"]: answer["leaf_hash"] for answer in answers}
    assert [hashes[row.log_index] for row in rows] == [
        hashlib.sha256(b"\0" + either_sender.service.entry(row.log_index)).hexdigest() for row in rows
    ]


def test_a_disabled_source_is_unknown(either_service: Service, either_sender: Sender) -> None:
    """404 for a delivery that is authentic, once it is disabled; what was kept stays."""
    body = revoked()
    acknowledged(either_sender, body)
    with either_service.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == either_sender.source_id).values(enabled=False))
    either_service.refresh()

    assert either_sender.post(body).status_code == 404
    assert len(either_sender.rows()) == 1
