"""Voucherify: each documented type, each shape that is not, the ways a transaction comes in, and the rules."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver import providers
from receiver.events import Effect, Event, Extent, Item, Kind, Past, Via
from receiver.intake.signatures import Authenticated, Refused, Secret, scheme_from_options, verifier
from receiver.providers import Call, Ignored, Notice, Unfit
from receiver.strictjson import Json, Number, digest, parse
from translog.canonical import decode

VOUCHERIFY = providers.get("voucherify")
RECEIVED = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)

CANCELED = "voucher.loyalty_card.pending_points.canceled"
ACTIVATED = "voucher.loyalty_card.pending_points.activated"
UPDATED = "voucher.loyalty_card.pending_points.updated"
ADDED = "voucher.loyalty_card.pending_points.added"

# The documented example of the webhook's data, and of the operation's answer, to the letter.
DATA = parse(b"""
{"customer":{"id":"cust_KiZa6C6R30sgqqpU76o6B7u0","name":"Alex Doe","email":null,"source_id":"4lx-d03","metadata":{},
"object":"customer"},"campaign":{"id":"camp_E14SFSXh2JueXgZ0wFarf3jU","name":"Loyalty program",
"campaign_type":"LOYALTY_PROGRAM","type":"AUTO_UPDATE","is_referral_code":false,"voucher":{"type":"LOYALTY_CARD",
"discount":null,"gift":null,"loyalty_card":{"points":0},"redemption":{"quantity":null,"redeemed_quantity":0},
"code_config":{"pattern":"########","length":8,"charset":"0123456789","prefix":"","postfix":""}},"auto_join":false,
"join_once":true,"active":true,"category_id":null,"category":null,"metadata":{},"start_date":null,
"expiration_date":null,"description":null,"created_at":"2025-01-07T12:44:10.211Z","object":"campaign"},
"voucher":{"id":"v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v","code":"67028386","loyalty_card":{"points":23,"balance":23,
"pending_points":23},"type":"LOYALTY_CARD","campaign":"Loyalty program","campaign_id":"camp_E14SFSXh2JueXgZ0wFarf3jU",
"is_referral_code":false,"holder_id":"cust_KiZa6C6R30sgqqpU76o6B7u0","category_id":null,"active":true,
"created_at":"2025-01-07T12:44:11.371Z","updated_at":"2025-01-08T14:10:48.300Z","redemption":{"quantity":null,
"redeemed_quantity":0,"redeemed_points":0},"start_date":null,"expiration_date":null,"metadata":{},"object":"voucher"},
"voucher_pending_points_balance":{"points":-23,"total":23,"object":"balance","related_object":{"type":"voucher",
"id":"v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v"},"operation_type":"MANUAL"},"order":{"id":"ord_0ff3476ebb49a3901d",
"source_id":null,"status":"PAID","customer_id":"cust_KiZa6C6R30sgqqpU76o6B7u0","referrer_id":null,"amount":500,
"total_amount":500,"items":[{"id":"ordli_0ff3476ebac9a3901b","object":"order_item",
"product_id":"prod_0fc35dfeabcdefeb80","quantity":1,"amount":500,"price":500,"subtotal_amount":500},
{"id":"ordli_0ff3476ebac9a3901c","object":"order_item","product_id":"prod_5h1pp1ng","quantity":1,"amount":0,"price":0,
"subtotal_amount":0}],"metadata":{"card":["Other"],"region":"US","currency":"USD"},
"created_at":"2025-01-08T13:50:17.318Z","object":"order"},"redemption":null,
"pending_points":{"id":"lopp_0ff49105b988dd5c8f","voucher_id":"v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v",
"campaign_id":"camp_E14SFSXh2JueXgZ0wFarf3jU","customer_id":"cust_KiZa6C6R30sgqqpU76o6B7u0",
"order_id":"ord_0ff3476ebb49a3901d","points":23,"activates_at":"2025-01-09",
"details":{"event":{"id":"evcus_0ff3476ebf89a39027","type":"customer.order.paid","group_id":"v-0ff3476eb50dfac446",
"entity_id":"cust_KiZa6C6R30sgqqpU76o6B7u0","created_at":"2025-01-08T13:50:17.319Z","category":"EFFECT",
"event_source":{"channel":"USER_PORTAL","user":{"id":"user_ypzfEcSAphSONMGJRlj6trzXKsh7FGX7"}}},
"earning_rule":{"id":"ern_vjzc7A2IHoCUbl5lyO6kyJQM","source":{"banner":"Here come your loyalty points"}},
"order":{"id":"ord_0ff3476ebb49a3901d","source_id":null}},"created_at":"2025-01-08T13:50:17.680Z"}}
""")
ANSWER = parse(b"""
{"transaction":{"id":"lctx_12d7941860abf9e87f","card_id":"lcrd_128f962dbd8c4ba5df",
"program_id":"lprg_128f58429f4c4bf7b2","member_id":"lmbr_128f962dbc8c4ba5dc",
"card_definition_id":"lcdef_128f495f720c4bec8c","card_type":"INDIVIDUAL","type":"PENDING_POINTS_CANCELED",
"details":{"reason":"Manual points cancellation","rejection":null,"metadata":{},"points":{"total":60,
"date":"2026-08-16","type":"PERIOD_BASED"}},"status":"PENDING","created_at":"2026-08-06T14:01:13.346Z",
"updated_at":null,"object":"card_transaction"},"status":"TRANSACTION_CREATED",
"message":"Points cancellation transaction created"}
""")

POINTS = "lopp_0ff49105b988dd5c8f"
TRANSACTION = "lctx_12d7941860abf9e87f"
BUCKET = "lcppb_12db4ebb0483a1409"
CARD = parse(b"""
{"program_id":"lprg_128f58429f4c4bf7b2","member_id":"lmbr_128f962dbc8c4ba5dc","card_id":"lcrd_128f962dbd8c4ba5df",
"card_definition_id":"lcdef_128f495f720c4bec8c","card_type":"INDIVIDUAL","points_date":"2026-08-16",
"points_type":"PERIOD_BASED","status":"PENDING"}
""")
REQUEST = {name: CARD[name] for name in ("program_id", "member_id", "card_id")} | {"bucket_id": BUCKET}
PATH = {f"{name.removesuffix('_id')}Id": str(value) for name, value in REQUEST.items()}
ENVELOPE = parse(b"""
{"id":"whs_0e16e42bc6e0c65b57","project_id":"proj_5T4Rpl4T1nuM","created_at":"2025-01-08T14:10:49.001Z",
"source":{"id":"wh_j56Vfy47Vx9YOX7QYD1fzHnc","object":"webhook","target_url":"https://example.com/"},
"event":{"id":"evvou_0ff49105e1c8dd5c95","created_at":"2025-01-08T14:10:48.345Z","group_id":"v-0ff4910580cfac5c81",
"entity_id":"v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v","event_source":{"channel":"USER_PORTAL","user":{"id":"user_1"}}}}
""")


def put(document: dict[str, Any], path: str, value: Json = None) -> dict[str, Json]:
    """A copy with that member, `data.pending_points.id`, replaced; None leaves it out."""
    name, _, inner = path.partition(".")
    if inner:
        value = put(document[name], inner, value)
    return {other: document[other] for other in document if other != name} | ({} if value is None else {name: value})


def envelope(name: str = CANCELED) -> dict[str, Json]:
    """What the webhook delivers around the documented data."""
    return put({**ENVELOPE, "type": name, "data": DATA}, "event.type", name)


def distribution(event_type: str, name: Json) -> dict[str, Json]:
    """What a distribution delivers, in which `type` is whatever its maker called it."""
    return put(put(envelope(event_type), "source.object", "distribution"), "type", name)


def declared(path: str | None = None, value: Json = None, **more: Json) -> dict[str, Json]:
    """The documented answer in the plain envelope; one member of the answer changed."""
    answer = ANSWER if path is None else put(ANSWER, path, value)
    return {"type": "pending_points.canceled", "data": answer, "request": REQUEST, **more}


def workflow(status: str = "APPROVED") -> dict[str, Json]:
    """What a workflow's callout delivers of the documented transaction."""
    transaction = put(ANSWER, "transaction.status", status)["transaction"]
    return put(put(envelope("PENDING_POINTS_CANCELED"), "data", {"transaction": transaction}), "event.id", TRANSACTION)


def notice(document: dict[str, Json]) -> Notice:
    """The notice that a document is read as."""
    reading = VOUCHERIFY.read(document)
    assert isinstance(reading, Notice), reading
    return reading


def wrong(document: dict[str, Json]) -> str:
    """What is wrong with the shape of a document."""
    reading = VOUCHERIFY.read(document)
    assert isinstance(reading, Unfit)
    assert reading.reason == "wrong_shape"
    return reading.message


def codes(event: Event, *history: Event, received_at: datetime = RECEIVED) -> list[str]:
    """The codes of the rules that it breaks after those events."""
    past = [Past.from_event(one, RECEIVED, index) for index, one in enumerate(history)]
    return [breach.code for breach in VOUCHERIFY.check(event, received_at, 300, past)]


DETAILS = parse(b"""
{"campaign_id":"camp_E14SFSXh2JueXgZ0wFarf3jU","voucher_id":"v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v",
"customer_id":"cust_KiZa6C6R30sgqqpU76o6B7u0","order_id":"ord_0ff3476ebb49a3901d","activates_at":"2025-01-09",
"operation_type":"MANUAL","balance_points":-23,"balance_total":23}
""")
EVENT = Event(
    kind=Kind.REVOCATION,
    type=CANCELED,
    item=Item("pending_points", POINTS),
    effect=Effect.CANCELED,
    extent=Extent.FULL,
    account="proj_5T4Rpl4T1nuM",
    operation=POINTS,
    occurred_at=datetime(2025, 1, 8, 14, 10, 48, 345000, tzinfo=UTC),
    occurred_from="event.created_at",
    amount=None,
    quantity="23",
    reason=None,
    details={**DETAILS, "event_id": "evvou_0ff49105e1c8dd5c95", "group_id": "v-0ff4910580cfac5c81"},
)
V1 = {name: notice(envelope(name)).event for name in (CANCELED, ACTIVATED, UPDATED, f"customer.{CANCELED}")}
STATUSES = ("PENDING", "PROCESSING", "APPROVED", "REJECTED")
BY_STATUS = {status: notice(declared("transaction.status", status)).event for status in STATUSES}


def test_the_documented_cancellation_in_full() -> None:
    """Each member worth keeping has its place, and no person's name is among them."""
    expected = Notice(EVENT, "event evvou_0ff49105e1c8dd5c95", digest({"type": CANCELED, "data": DATA}), Via.WEBHOOK)

    assert expected == notice(envelope())
    assert b"Alex" not in EVENT.data()


def test_the_documented_data_alone_in_full() -> None:
    """It names no type, time, project or event, but as many points were taken off as there were."""
    event = replace(EVENT, account=None, occurred_at=None, occurred_from=None, details={**DETAILS, "form": "bare"})

    assert Notice(event, f"bare {POINTS}", digest(DATA), Via.WEBHOOK) == notice(DATA)


@pytest.mark.parametrize("whose", ["", "customer."])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (CANCELED, (Kind.REVOCATION, Effect.CANCELED, Extent.FULL, POINTS)),
        (ACTIVATED, (Kind.CONTEXT, Effect.ACTIVATED, Extent.UNKNOWN, None)),
        (UPDATED, (Kind.CONTEXT, None, Extent.UNKNOWN, None)),
    ],
)
def test_each_type_that_is_kept(whose: str, name: str, expected: tuple[object, ...]) -> None:
    """And its twin of the customer's, which tells of the same item and act."""
    event = notice(envelope(f"{whose}{name}")).event

    assert expected == (event.kind, event.effect, event.extent, event.operation)
    assert (f"{whose}{name}", Item("pending_points", POINTS), "23") == (event.type, event.item, event.quantity)


@pytest.mark.parametrize("name", ["Points gone!", "pending_points.canceled", "voucher.created", None])
def test_a_distribution_is_told_by_its_event(name: Json) -> None:
    """Its type is but a name that someone gave it, and is not kept; without the event, there is nothing else."""
    assert notice(distribution(f"customer.{CANCELED}", name)) == notice(envelope(f"customer.{CANCELED}"))
    assert notice(put(distribution(ADDED, CANCELED), "event.type")).event.type == CANCELED


@pytest.mark.parametrize("name", [ADDED, f"customer.{ADDED}", "manual_distribution_schedule", "POINTS_EARNED"])
def test_types_that_bear_on_nothing_are_ignored(name: str) -> None:
    """Documented, whatever else is in them."""
    assert Ignored(name) == VOUCHERIFY.read({"type": name, "data": 7})
    for family in ("business_validation_rule", "campaign", "customer", "publication", "redemption", "vl", "voucher"):
        assert Ignored(f"{family}.created") == VOUCHERIFY.read({"type": f"{family}.created"})


@pytest.mark.parametrize("name", [f"{ADDED}x", f"customer.{ADDED}x", "PENDING_POINTS", "voucher", "webhook.test"])
def test_other_types_are_unknown(name: str) -> None:
    """No family of types is ignored so far that pending points could be lost in it."""
    assert Unfit("unknown_type", f"the type is {name!r}, which is not documented") == VOUCHERIFY.read(envelope(name))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("type", 7, "type is not a string"),
        ("data", None, "data is missing"),
        ("data.pending_points", 7, "data.pending_points is not an object"),
        ("data.pending_points.id", None, "data.pending_points.id is missing"),
        ("data.pending_points.points", None, "data.pending_points.points is missing"),
        ("data.pending_points.points", "23", "data.pending_points.points is not an integer below 2^53"),
        ("data.voucher_pending_points_balance", [], "data.voucher_pending_points_balance is not an object"),
        ("project_id", 7, "project_id is not a string"),
        ("event.created_at", "now", "event.created_at: 'now' is not an RFC 3339 time with a zone"),
    ],
)
def test_what_is_not_of_the_documented_shape_is_unfit(path: str, value: Json, says: str) -> None:
    """The member and what is wrong with it."""
    assert wrong(put(envelope(), path, value)).startswith(says)


def test_what_may_be_absent() -> None:
    """The event's id and time are made up for by the sending's; the number by nothing, and only of context."""
    without = notice(put(envelope(), "event"))
    assert (without.key, without.event.details) == ("event whs_0e16e42bc6e0c65b57", DETAILS)
    assert without.event.occurred_from == "created_at"
    assert without.event.occurred_at == datetime(2025, 1, 8, 14, 10, 49, 1000, tzinfo=UTC)

    timeless = notice(put(put(envelope(), "event.created_at"), "created_at")).event
    assert (timeless.occurred_at, timeless.occurred_from) == (None, None)
    assert notice(put(envelope(UPDATED), "data.pending_points.points")).event.quantity is None
    assert wrong(put(put(envelope(), "event"), "id")) == "id is missing"


@pytest.mark.parametrize("path", ["id", "created_at", "source.id", "event.event_source", "project_id"])
def test_another_attempt_has_the_same_content(path: str) -> None:
    """The sending may be new each time; what is told, and of which event, is not."""
    again = notice(put(envelope(), path, "2025-01-08T20:00:00Z"))

    assert (notice(envelope()).key, notice(envelope()).digest) == (again.key, again.digest)
    assert notice(put(envelope(), "data.voucher.code", "x")).digest != again.digest


@pytest.mark.parametrize(
    ("there", "added"), [(24, -23), (-23, -23), (None, -23), (23, 23), (23, -22), (23, -24), (23, "-23"), (0, 0)]
)
def test_data_alone_is_not_guessed_at(there: Json, added: Json) -> None:
    """What may be an update, an addition or an activation is kept aside, with what to do about it."""
    numbers = put(put(DATA, "pending_points.points", there), "voucher_pending_points_balance.points", added)
    others = [put(DATA, name, {}) for name in ("pending_points", "balance", "transaction")]
    for document in ({}, numbers, put(DATA, "voucher_pending_points_balance"), *others):
        assert re.fullmatch("type is missing: the data alone .*; have the whole envelope sent", wrong(document))


def test_the_documented_answer_declared_in_full() -> None:
    """With the request, the item is the bucket of points; the operation is the transaction."""
    assert notice(declared(created_at="2026-08-06T16:01:14+02:00")) == Notice(
        event=replace(
            EVENT,
            type="pending_points.canceled",
            item=Item("pending_points", BUCKET),
            effect=Effect.CANCELING,
            account=None,
            operation=TRANSACTION,
            occurred_at=datetime(2026, 8, 6, 14, 1, 13, 346000, tzinfo=UTC),
            occurred_from="transaction.created_at",
            quantity="60",
            reason="Manual points cancellation",
            details={**CARD, "declared_at": "2026-08-06T14:01:14.000000Z"},
        ),
        key=f"transaction PENDING {TRANSACTION}",
        digest=digest({"type": "pending_points.canceled", "data": ANSWER, "request": {"bucket_id": BUCKET}}),
        via=Via.DECLARED,
    )


@pytest.mark.parametrize(
    ("status", "effect", "extent", "at"),
    [
        ("PENDING", Effect.CANCELING, Extent.FULL, "created_at"),
        ("PROCESSING", Effect.CANCELING, Extent.FULL, "created_at"),
        ("APPROVED", Effect.CANCELED, Extent.FULL, "updated_at"),
        ("REJECTED", Effect.REJECTED, Extent.UNKNOWN, "updated_at"),
    ],
)
def test_each_status_of_a_transaction(status: str, effect: Effect, extent: Extent, at: str) -> None:
    """A notice of its own each; the outcome's time is the update's, and is not guessed where that is null."""
    when: dict[str, Json] = {"id": "lctx_1", "status": status, at: "2026-08-06T14:02:00Z"}
    reading = notice(declared("transaction", when))
    event, without = reading.event, notice(declared("transaction", {**when, at: None})).event

    assert (effect, extent, f"transaction {status} lctx_1") == (event.effect, event.extent, reading.key)
    assert (datetime(2026, 8, 6, 14, 2, tzinfo=UTC), f"transaction.{at}") == (event.occurred_at, event.occurred_from)
    assert (without.occurred_at, without.occurred_from, without.quantity) == (None, None, None)


def test_what_else_a_transaction_may_tell() -> None:
    """All that the documented schema has is kept, but for metadata, which may be about anyone."""
    details = parse(b'{"rejection":{"reason":"r","details":"d"},"result":{},"reward_id":"w","bucket":{"id":"b"}}')
    points = parse(b'{"expiration_date":"2027-08-20","expiration_type":"ROLLING_EXPIRATION"}')
    told: dict[str, Json] = {**details, "metadata": {"name": "Alex"}, "points": points}

    assert notice(declared("transaction.details", told)).event.details == {
        **{name: value for name, value in CARD.items() if not name.startswith("points_")},
        **details,
        **points,
    }


def test_the_transaction_alone_may_be_declared() -> None:
    """As it is read later, without the answer around it; without the bucket, it is the item itself."""
    inner = notice({"type": "pending_points.canceled", "data": ANSWER["transaction"]})

    assert inner.key == notice(declared()).key
    assert (inner.event.item, inner.event.operation) == (Item("card_transaction", TRANSACTION), TRANSACTION)
    assert notice(declared(request={"card_id": "lcrd_128f962dbd8c4ba5df"})).event == inner.event
    assert not VOUCHERIFY.key_names_item


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("transaction.id", None, "data.transaction.id is missing"),
        ("transaction", None, "data.id is missing"),
        ("transaction.type", "POINTS_EARNED", "data.transaction.type is 'POINTS_EARNED'; of a cancellation it is "),
        ("transaction.status", "approved", "data.transaction.status is 'approved'; it must be one of PENDING, "),
        ("transaction", {"id": "lctx_1", "card_id": 7, "status": "PENDING"}, "data.transaction.card_id is not a str"),
        ("transaction.details.points", 60, "data.transaction.details.points is not an object"),
        ("transaction.details.points.total", "60", "data.transaction.details.points.total is not a number"),
        ("transaction.details.reason", "x" * 4097, "data.transaction.details.reason has 4097 characters"),
        ("transaction.created_at", 7, "data.transaction.created_at is not a string"),
    ],
)
def test_a_declaration_of_another_shape_is_unfit(path: str, value: Json, says: str) -> None:
    """The member and what is wrong with it."""
    assert wrong(declared(path, value)).startswith(says)
    assert wrong(declared(request={"bucket_id": 7})) == "request.bucket_id is not a string"


def test_a_transaction_just_created_is_pending() -> None:
    """If the answer says so around it, or says nothing, as in the reference; no other word stands in for the status."""
    assert notice(declared("transaction.status")).event == notice(declared()).event
    assert notice(put(declared("status"), "data.transaction.status")).event == notice(declared()).event
    assert wrong(put(declared("status", "DONE"), "data.transaction.status")) == "data.transaction.status is missing"


def test_a_workflow_tells_of_the_transaction() -> None:
    """Its project is known then, and its bucket is not; the statuses of one transaction share the event's id."""
    approved, event = notice(workflow()), notice(workflow()).event

    assert (approved.key, approved.via) == (f"transaction APPROVED {TRANSACTION}", Via.WEBHOOK)
    assert notice(workflow("REJECTED")).key == f"transaction REJECTED {TRANSACTION}"
    assert (event.account, event.type) == ("proj_5T4Rpl4T1nuM", "PENDING_POINTS_CANCELED")
    assert (event.item, event.effect) == (Item("card_transaction", TRANSACTION), Effect.CANCELED)
    assert notice(put(workflow(), "id", "whs_2")).digest == approved.digest


def test_the_documented_answer_of_the_operation() -> None:
    """The path names the bucket; else it is what a declaration says, under the same key."""
    reading = VOUCHERIFY.operation.read(Call(PATH, {}, ANSWER))

    told = notice(declared())
    assert reading == Notice(told.event, told.key, told.digest, Via.RELAY)
    assert VOUCHERIFY.operation.read(Call(PATH, {}, {"message": "done"})) == Unfit("wrong_shape", "id is missing")
    assert all(f"{{{name}}}" in VOUCHERIFY.operation.path for name in PATH)


def test_what_breaks_no_rule() -> None:
    """A cancellation told again, by the twin, alone or by each status; points that are updated, then activated."""
    assert codes(V1[CANCELED], V1[UPDATED], V1[f"customer.{CANCELED}"], notice(DATA).event, V1[CANCELED]) == []
    assert codes(V1[ACTIVATED], V1[UPDATED], V1[ACTIVATED]) == []
    assert codes(V1[UPDATED], V1[CANCELED], V1[ACTIVATED]) == []
    under_way = [BY_STATUS["PENDING"], BY_STATUS["PROCESSING"]]
    for end in (BY_STATUS["APPROVED"], BY_STATUS["REJECTED"]):
        assert [codes(event, *under_way, end) for event in (*under_way, end)] == [[], [], []]


@pytest.mark.parametrize(("total", "differs"), [(60, 0), (Number("60.0"), 0), (None, 0), (61, 1), (Number("60.5"), 1)])
def test_one_cancellation_has_one_quantity(total: Json, differs: int) -> None:
    """Compared as numbers, and not with another act's, or with a rejection, which cancels nothing."""
    event = notice(declared("transaction.details.points.total", total)).event

    assert ["quantity_differs"] * differs == codes(event, BY_STATUS["APPROVED"])
    assert codes(event, notice(declared("transaction.id", "lctx_2")).event, BY_STATUS["REJECTED"]) == []
    assert codes(replace(event, effect=Effect.REJECTED), BY_STATUS["PENDING"]) == []


@pytest.mark.parametrize("points", [1, 0, -1])
def test_points_that_are_canceled_were_there(points: int) -> None:
    """Of an update, any number is told."""
    expected = [] if points > 0 else ["quantity_not_positive"]

    assert expected == codes(notice(put(envelope(), "data.pending_points.points", points)).event)
    assert expected == codes(notice(declared("transaction.details.points.total", points)).event)
    assert codes(notice(put(envelope(UPDATED), "data.pending_points.points", points)).event) == []


@pytest.mark.parametrize("name", ["program_id", "member_id", "card_id"])
def test_the_request_names_what_the_transaction_does(name: str) -> None:
    """Where both name it; the message says which and what."""
    event = notice(declared(request={**REQUEST, name: "other_1"})).event

    assert codes(event) == ["request_contradicts_answer"]
    [breach] = VOUCHERIFY.check(event, RECEIVED, 300, [])
    assert breach.message == f"the request's {name} is not the transaction's"
    assert codes(notice(declared(f"transaction.{name}", None, request={**REQUEST, name: "other_1"})).event) == []


@pytest.mark.parametrize(("ahead", "expected"), [(0, []), (300, []), (301, ["occurred_in_future"])])
def test_canceled_in_the_future(ahead: int, expected: list[str]) -> None:
    """Beyond the replay window only; of every event that has a time, with the member that it is from."""
    for event in (V1[CANCELED], V1[UPDATED], BY_STATUS["PENDING"]):
        assert event.occurred_at is not None
        assert expected == codes(event, received_at=event.occurred_at - timedelta(seconds=ahead))
    [breach] = VOUCHERIFY.check(BY_STATUS["PENDING"], datetime(2026, 1, 1, tzinfo=UTC), 300, [])
    assert breach.message.startswith("transaction.created_at is 2026-08-06T14:01:13.346000Z, later than")


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (b'{"a":1}', "a17d2ac229d1ebbb5f10e839c7985c4818e5986eab297f7e5979196d4d7d3ed2"),
        (b'{\n  "a": 1\r\n}\t', "a17d2ac229d1ebbb5f10e839c7985c4818e5986eab297f7e5979196d4d7d3ed2"),
        (b'{\n  "a\\"b": 1\n}', "f7cf97814a03146abedb9793f56e1dec34f618f82d10395310d053f749483ffb"),
        (b'{ "a b" : "\\" c \\\\" }', "0d442d948fc0acce7afc53a7410dd9ffea73bf605eea4e0fc793a9b1717f01ab"),
    ],
)
def test_the_documented_signature(body: bytes, signature: str) -> None:
    """The documented vectors, with and without whitespace; and one of our own, where strings hold some."""
    signing = VOUCHERIFY.signing
    scheme = scheme_from_options(str(signing.scheme), signing.options)
    one = verifier(scheme, [Secret("s1", "secretKey")], 300)

    assert isinstance(one.verify([(b"x-voucherify-signature", signature.encode())], body, 0), Authenticated)
    assert isinstance(one.verify([(b"x-voucherify-signature", signature.encode())], body + b"1", 0), Refused)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5) | st.just(Number("1.0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
words = st.sampled_from(["PENDING", "APPROVED", "REJECTED", "distribution", CANCELED, ACTIVATED, UPDATED])
WEBHOOKS = (envelope(), envelope(ACTIVATED), DATA, declared(), workflow(), distribution(CANCELED, "x"))


def paths(document: dict[str, Json]) -> list[str]:
    """Those of its members, at any depth."""
    inner = {name: paths(value) for name, value in document.items() if isinstance(value, dict)}
    return [*document, *(f"{name}.{path}" for name in inner for path in inner[name])]


@st.composite
def mutated(draw: st.DrawFn, *examples: dict[str, Json]) -> dict[str, Json]:
    """One of the examples with some of its members left out or replaced by some JSON."""
    document = draw(st.sampled_from(examples))
    chosen = draw(st.lists(st.sampled_from(paths(document)), max_size=3, unique=True))
    for path in sorted(chosen, key=len, reverse=True):  # inner ones first, as long as there is something around them
        document = put(document, path, draw(json_values | words))
    return document


def see_through(reading: object) -> None:
    """What the recorder does with a notice: it encodes the event, and judges it before and after others."""
    if isinstance(reading, Notice):
        event = reading.event
        assert isinstance(decode(event.data()), dict)
        assert len(reading.digest) == 32
        again = Past.of(event.kind, event.type, event.effect, RECEIVED, 0, event.data())
        assert again == Past.from_event(event, RECEIVED, 0)
        for history in ([], [event], [event, *V1.values()]):
            found = codes(event, *history)
            assert len(found) == len(set(found))
    else:
        assert isinstance(reading, Ignored | Unfit)


@given(mutated(*WEBHOOKS), mutated(ANSWER), st.dictionaries(st.sampled_from(sorted(PATH)), st.text(max_size=5)))
def test_nothing_makes_it_raise(document: dict[str, Json], answer: dict[str, Json], path: dict[str, str]) -> None:
    """However far from the documented examples; and whatever is a notice can be recorded."""
    see_through(VOUCHERIFY.read(document))
    see_through(VOUCHERIFY.operation.read(Call(path, {}, answer)))
