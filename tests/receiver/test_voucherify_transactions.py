"""Voucherify: what tells two tellings of one transaction apart, and what becomes of points only once."""

import json
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from receiver import providers
from receiver.events import Event, Item, Past
from receiver.fsck import fsck
from receiver.providers import Call, Notice
from receiver.strictjson import Json
from tests.receiver.five import FIVE
from tests.receiver.service import Service

VOUCHERIFY = providers.get("voucherify")
RECEIVED = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
CANCELED = "voucher.loyalty_card.pending_points.canceled"
LEGACY: dict[str, Json] = {
    "pending_points": {"id": "lopp_1", "points": 23},
    "voucher_pending_points_balance": {"points": -23},
}


def answer(status: str = "APPROVED", transaction: str = "lctx_1") -> dict[str, Json]:
    """An answer with a transaction in that status."""
    return {"transaction": {"id": transaction, "status": status}}


def declared(told: dict[str, Json], bucket: str | None = "lcppb_1", **request: Json) -> dict[str, Json]:
    """It, in the plain envelope, with the bucket that its request named, if it named one."""
    named = request if bucket is None else {**request, "bucket_id": bucket}
    return {"type": "pending_points.canceled", "data": told, "request": named}


def told_by_webhook(name: str, transaction: dict[str, Json] | None = None) -> dict[str, Json]:
    """What a webhook tells of the points of an older program; or a workflow, of a transaction."""
    data = LEGACY if transaction is None else transaction
    return {"id": "whs_1", "type": name, "project_id": "proj_1", "data": data}


def notice(document: dict[str, Json]) -> Notice:
    """The notice that a document is read as."""
    reading = VOUCHERIFY.read(document)
    assert isinstance(reading, Notice), reading
    return reading


def relayed(told: dict[str, Json], bucket: str = "lcppb_1") -> Notice:
    """The notice that the answer of a call is, which named that bucket in its path."""
    reading = VOUCHERIFY.operation.read(Call({"bucketId": bucket}, {}, told))
    assert isinstance(reading, Notice)
    return reading


def said(event: Event, *history: Event) -> list[tuple[str, str]]:
    """The rules that it breaks after those, the first of which is entry 17 of the log."""
    past = [Past.from_event(one, RECEIVED, 17 + place) for place, one in enumerate(history)]
    return [(breach.code, breach.message) for breach in VOUCHERIFY.check(event, RECEIVED, 300, past)]


# ---- the bucket -----------------------------------------------------------------------------------------------------


def test_the_bucket_is_part_of_the_content() -> None:
    """Another one, or none where one was named, makes another content under the same key."""
    readings = [notice(declared(answer(), bucket)) for bucket in ("lcppb_1", "lcppb_2", None)]

    assert [reading.event.item for reading in readings] == [
        Item("pending_points", "lcppb_1"),
        Item("pending_points", "lcppb_2"),
        Item("card_transaction", "lctx_1"),
    ]
    assert len({reading.key for reading in readings}) == 1
    assert len({reading.digest for reading in readings}) == 3


def test_the_rest_of_the_request_is_no_part_of_it() -> None:
    """Nor is when it was declared: the same was told."""
    plain = declared(answer())

    for again in (
        declared(answer(), card_id="lcrd_1", note="second attempt"),
        {**plain, "created_at": "2026-11-20T09:00:00Z"},
    ):
        assert (notice(again).key, notice(again).digest) == (notice(plain).key, notice(plain).digest)
    bare = {name: value for name, value in plain.items() if name != "request"}
    assert notice(bare).digest == notice(declared(answer(), None, card_id="lcrd_1")).digest
    assert notice({**plain, "more": 1}).digest != notice(plain).digest


def test_the_bucket_of_a_path_is_part_of_the_content() -> None:
    """As that of a request is."""
    assert relayed(answer()).digest == notice(declared(answer())).digest
    assert relayed(answer()).key == relayed(answer(), "lcppb_2").key
    assert relayed(answer()).digest != relayed(answer(), "lcppb_2").digest


def test_another_bucket_is_a_mismatch(service: Service) -> None:
    """It is kept and answered as one, never passed over; a true duplicate stays one."""
    sender = FIVE["voucherify"].add_to(service)

    answers = [
        sender.post(json.dumps(declared(answer(), bucket)).encode()).json()
        for bucket in ("lcppb_1", "lcppb_2", None, "lcppb_1")
    ]

    assert [told["status"] for told in answers] == ["recorded", "mismatch", "mismatch", "duplicate"]
    assert [row.kind for row in sender.rows()] == ["revocation", "mismatch", "mismatch"]
    assert fsck(service.records).findings == ()


# ---- once -----------------------------------------------------------------------------------------------------------


def test_points_are_canceled_once() -> None:
    """By one operation: that of another one names the entry of the first."""
    first, second = notice(declared(answer())).event, notice(declared(answer(transaction="lctx_2"))).event
    under_way, rejected = (notice(declared(answer(status, "lctx_2"))).event for status in ("PROCESSING", "REJECTED"))

    expected = (
        "canceled_again",
        "the points are canceled by another operation than that of entry 18 of the log; they can be canceled once",
    )
    assert said(second, under_way, first, first) == [expected]
    assert said(first, rejected, second) == [expected]


def test_what_is_not_canceled_again() -> None:
    """What is under way, was rejected, or has no operation to tell it by; another attempt may follow a rejection."""
    canceled = notice(declared(answer())).event
    for status in ("PENDING", "PROCESSING", "REJECTED"):
        other = notice(declared(answer(status, "lctx_2"))).event
        assert said(canceled, other) == said(other, canceled) == []
    unnamed = replace(canceled, operation=None)
    assert said(canceled, unnamed) == said(unnamed, canceled) == said(unnamed, unnamed) == []


def test_one_cancellation_told_in_every_way() -> None:
    """The twin, the data alone, a workflow, a call, a declaration: each tells of the same operation."""
    legacy = [notice(told_by_webhook(name)).event for name in (CANCELED, f"customer.{CANCELED}")]
    legacy.append(notice(LEGACY).event)
    bucket = [notice(declared(answer())).event, relayed(answer()).event]
    unnamed = [
        notice(told_by_webhook("PENDING_POINTS_CANCELED", answer())).event,
        notice(declared(answer(), None)).event,
    ]

    for tellings in (legacy, bucket, unnamed):
        assert len({telling.item for telling in tellings}) == 1
        assert [said(telling, *tellings) for telling in tellings] == [[]] * len(tellings)


@pytest.mark.parametrize(
    ("status", "before", "message"),
    [
        ("REJECTED", "APPROVED", "the transaction is told to be rejected here and canceled by entry 18 of the log"),
        ("APPROVED", "REJECTED", "the transaction is told to be canceled here and rejected by entry 18 of the log"),
    ],
)
def test_a_transaction_has_one_outcome(status: str, before: str, message: str) -> None:
    """Whichever was told first, and in whichever way."""
    for bucket in ("lcppb_1", None):
        under_way, first, second = (notice(declared(answer(one), bucket)).event for one in ("PENDING", before, status))
        assert said(second, under_way, first) == [("outcome_contradicted", f"{message}; it has one outcome")]
    workflow = notice(told_by_webhook("PENDING_POINTS_CANCELED", answer(status))).event
    [(code, _)] = said(workflow, notice(declared(answer(before), None)).event)
    assert code == "outcome_contradicted"
