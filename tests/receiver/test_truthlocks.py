"""Truthlocks: each documented type, each shape that is not, and the rules."""

from datetime import UTC, datetime, timedelta

import pytest

from receiver import providers
from receiver.events import Effect, Event, Extent, Item, Kind, Past, Via
from receiver.providers import Ignored, Notice, Unfit
from receiver.strictjson import Json, digest

TRUTHLOCKS = providers.get("truthlocks")
ID = "3f0c2f6e-8a43-4a52-9d8f-0a6f6c1f2b3d"
TENANT = "7b1c9f6e-8a43-4a52-9d8f-0a6f6c1f2b3d"
KEY = "5a1c2f6e-8a43-4a52-9d8f-0a6f6c1f2b3d"
AT = datetime(2026, 11, 20, 8, 59, 58, tzinfo=UTC)
RECEIVED = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
REVOKED: dict[str, Json] = {
    "event_type": "receipt.revoked",
    "receipt_id": ID,
    "receipt_type": "payment_receipt",
    "tenant_id": TENANT,
    "revoked_at": "2026-11-20T08:59:58Z",
}


def notice(document: dict[str, Json]) -> Notice:
    """The notice that a document is read as."""
    reading = TRUTHLOCKS.read(document)
    assert isinstance(reading, Notice)
    return reading


def codes(event: Event, *history: Past, window: int = 300) -> list[str]:
    """The codes of the rules it breaks, received at nine."""
    return [breach.code for breach in TRUTHLOCKS.check(event, RECEIVED, window, history)]


def test_what_is_said_of_the_provider() -> None:
    """Its account is the tenant, and its signature's scheme is not documented."""
    assert TRUTHLOCKS.title == "Truthlocks"
    assert TRUTHLOCKS.account_name == "tenant_id"
    assert TRUTHLOCKS.signing.scheme is None


def test_a_revoked_receipt_in_full() -> None:
    """Every member of the documented event has its place."""
    reading = TRUTHLOCKS.read(REVOKED)

    assert reading == Notice(
        event=Event(
            kind=Kind.REVOCATION,
            type="receipt.revoked",
            item=Item("receipt", ID),
            effect=Effect.REVOKED,
            extent=Extent.FULL,
            account=TENANT,
            operation=ID,
            occurred_at=AT,
            occurred_from="revoked_at",
            amount=None,
            quantity=None,
            reason=None,
            details={"receipt_type": "payment_receipt"},
        ),
        key=f"receipt.revoked 2026-11-20T08:59:58.000000Z {ID}",
        digest=digest(REVOKED),
        via=Via.WEBHOOK,
    )


@pytest.mark.parametrize(
    ("event_type", "item", "takes_back"),
    [
        ("receipt.revoked", "receipt", True),
        ("attestation.revoked", "attestation", True),
        ("key.revoked", "key", True),
        ("key.compromised", "key", True),
        ("attestation.superseded", "attestation", False),
        ("attestation.expired", "attestation", False),
    ],
)
def test_each_type_that_is_kept(event_type: str, item: str, takes_back: bool) -> None:
    """The item comes from the type's name; context has no effect, extent or operation of its own."""
    event = notice({"event_type": event_type, f"{item}_id": ID, "revoked_at": "2026-11-20T08:59:58Z"}).event

    expected = (
        (Kind.REVOCATION, Effect.REVOKED, Extent.FULL, ID) if takes_back else (Kind.CONTEXT, None, Extent.UNKNOWN, None)
    )
    assert expected == (event.kind, event.effect, event.extent, event.operation)
    assert (event_type, Item(item, ID), AT, "revoked_at") == (
        event.type,
        event.item,
        event.occurred_at,
        event.occurred_from,
    )


@pytest.mark.parametrize(
    "event_type",
    [
        "receipt.created",
        "attestation.created",
        "key.created",
        "key.rotated",
        "webhook.test",
        "issuer.suspended",
        "verification.completed",
        "team.member.invited",
        "billing.invoice.paid",
    ],
)
def test_types_that_bear_on_nothing_are_ignored(event_type: str) -> None:
    """Documented, whatever else is in them."""
    assert Ignored(event_type) == TRUTHLOCKS.read({"event_type": event_type})


def test_the_test_delivery_is_known_without_a_type() -> None:
    """Its documented body has no member for it; with anything more, it is some other document."""
    assert TRUTHLOCKS.read({"source": "test-delivery", "status": "ok"}) == Ignored("webhook.test")
    assert isinstance(TRUTHLOCKS.read({"source": "test-delivery", "status": "ok", "x": 1}), Unfit)


@pytest.mark.parametrize(
    "event_type", ["receipt.redacted", "receipt.revoked ", "Receipt.Revoked", "issuer", "billing", "x.issuer.y"]
)
def test_other_types_are_unknown(event_type: str) -> None:
    """Nothing is guessed from a name that looks familiar."""
    reading = TRUTHLOCKS.read({**REVOKED, "event_type": event_type})

    assert Unfit("unknown_type", f"event_type is {event_type!r}, which is not documented") == reading


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"event_type": None}, "event_type is missing"),
        ({"event_type": 7}, "event_type is not a string"),
        ({"event_type": "x" * 129}, "event_type has 129 characters; it must have 1 to 128"),
        ({"receipt_id": None}, "receipt_id is missing"),
        ({"receipt_id": 7}, "receipt_id is not a string"),
        ({"receipt_id": ""}, "receipt_id has 0 characters; it must have 1 to 256"),
        ({"receipt_id": "x" * 257}, "receipt_id has 257 characters; it must have 1 to 256"),
        ({"receipt_type": []}, "receipt_type is not a string"),
        ({"tenant_id": {}}, "tenant_id is not a string"),
        ({"tenant_id": "x" * 257}, "tenant_id has 257 characters; it must have 1 to 256"),
        ({"revoked_at": None}, "revoked_at is missing"),
        ({"revoked_at": 1795172398}, "revoked_at is not a string"),
        (
            {"revoked_at": "yesterday"},
            "revoked_at: 'yesterday' is not an RFC 3339 time with a zone, such as 2026-11-20T09:00:00Z",
        ),
        (
            {"revoked_at": "2026-11-20T08:59:58"},
            "revoked_at: '2026-11-20T08:59:58' is not an RFC 3339 time with a zone, such as 2026-11-20T09:00:00Z",
        ),
        (
            {"revoked_at": "2026-02-30T00:00:00Z"},
            "revoked_at: '2026-02-30T00:00:00Z' is not a time: day is out of range for month",
        ),
    ],
)
def test_what_is_not_of_the_documented_shape_is_unfit(changes: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    assert Unfit("wrong_shape", says) == TRUTHLOCKS.read({**REVOKED, **changes})


def test_a_sibling_needs_its_own_id() -> None:
    """Another item's id does not do."""
    reading = TRUTHLOCKS.read({**REVOKED, "event_type": "key.revoked"})

    assert reading == Unfit("wrong_shape", "key_id is missing")


def test_what_may_be_absent() -> None:
    """A receipt's type and tenant; and of what is not a revocation, the time."""
    event = notice({"event_type": "receipt.revoked", "receipt_id": ID, "revoked_at": "2026-11-20T08:59:58Z"}).event
    assert (event.account, event.details) == (None, {})

    reading = notice({"event_type": "key.compromised", "key_id": KEY})
    assert (reading.event.occurred_at, reading.event.occurred_from) == (None, None)
    assert reading.key == f"key.compromised - {KEY}"


def test_members_that_are_not_known_are_in_the_digest_alone() -> None:
    """They stay in the body; but that they differ is seen."""
    more = notice({**REVOKED, "note": "private"})

    assert more.event == notice(REVOKED).event
    assert more.digest != notice(REVOKED).digest


def test_the_key_is_of_the_moment_not_of_its_spelling() -> None:
    """The same time with an offset is the same notice, and a mismatch of content; another time is another notice."""
    same = notice({**REVOKED, "revoked_at": "2026-11-20T09:59:58.000+01:00"})
    other = notice({**REVOKED, "revoked_at": "2026-11-20T08:59:59Z"})

    assert same.key == notice(REVOKED).key
    assert same.digest != notice(REVOKED).digest
    assert other.key != notice(REVOKED).key


def test_a_fine_revocation_breaks_no_rule() -> None:
    """Neither the first one nor its repetition."""
    event = notice(REVOKED).event

    assert codes(event) == []
    assert codes(event, Past.from_event(event, RECEIVED, 0)) == []


def test_revoked_again_at_another_time() -> None:
    """Revocation is final, so a second one names the entry of the first."""
    first = notice(REVOKED).event
    again = notice({**REVOKED, "revoked_at": "2026-11-20T08:59:58.000001Z"}).event

    history = [Past.from_event(first, RECEIVED, 17), Past.from_event(again, RECEIVED, 18)]
    breaches = TRUTHLOCKS.check(again, RECEIVED, 300, history)

    assert [breach.code for breach in breaches] == ["revoked_again"]
    assert breaches[0].message == "receipt revoked already, by entry 17 of the log; a revocation is final"


def test_a_compromised_key_may_be_revoked() -> None:
    """Different types are no contradiction, nor are times of which one is not given."""
    compromised = notice({"event_type": "key.compromised", "key_id": KEY}).event
    dated = notice({"event_type": "key.compromised", "key_id": KEY, "revoked_at": "2026-11-20T08:00:00Z"}).event
    revoked = notice({"event_type": "key.revoked", "key_id": KEY, "revoked_at": "2026-11-20T08:59:58Z"}).event

    assert codes(revoked, Past.from_event(compromised, RECEIVED, 0), Past.from_event(dated, RECEIVED, 1)) == []
    assert codes(dated, Past.from_event(compromised, RECEIVED, 0)) == []


def test_context_is_never_a_second_revocation() -> None:
    """It takes nothing back."""
    expired = {"event_type": "attestation.expired", "attestation_id": KEY}
    first = notice({**expired, "revoked_at": "2026-11-20T08:00:00Z"}).event
    second = notice({**expired, "revoked_at": "2026-11-20T08:30:00Z"}).event

    assert codes(second, Past.from_event(first, RECEIVED, 0)) == []


@pytest.mark.parametrize(("ahead", "expected"), [(0, []), (300, []), (301, ["occurred_in_future"])])
def test_revoked_in_the_future(ahead: int, expected: list[str]) -> None:
    """Beyond the replay window only, which is how far clocks may differ."""
    moment = (RECEIVED + timedelta(seconds=ahead)).isoformat()

    assert expected == codes(notice({**REVOKED, "revoked_at": moment}).event)


@pytest.mark.parametrize(
    ("receipt_id", "expected"),
    [
        (ID, []),
        (ID.upper(), []),
        (ID[:-1], ["id_not_uuid"]),
        (f"{{{ID}}}", ["id_not_uuid"]),
        (ID.replace("-", ""), ["id_not_uuid"]),
        (ID.replace("3", "g", 1), ["id_not_uuid"]),
        (ID.replace("3", "٣", 1), ["id_not_uuid"]),
        (f"urn:uuid:{ID}", ["id_not_uuid"]),
        ("receipt\n1", ["id_not_uuid"]),
    ],
)
def test_a_receipt_id_that_is_not_a_uuid(receipt_id: str, expected: list[str]) -> None:
    """It is kept, with the breach."""
    event = notice({**REVOKED, "receipt_id": receipt_id}).event

    assert receipt_id == event.item.id
    assert expected == codes(event)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"event_type": "key.compromised", "key_id": "k1"}, "key_id is not a UUID"),
        ({"event_type": "attestation.expired", "attestation_id": "a1"}, "attestation_id is not a UUID"),
        ({**REVOKED, "tenant_id": "acme"}, "tenant_id is not a UUID"),
        ({**REVOKED, "receipt_id": "r1", "tenant_id": "t1"}, "receipt_id is not a UUID; tenant_id is not a UUID"),
    ],
)
def test_other_ids_that_are_no_uuids(document: dict[str, Json], says: str) -> None:
    """The account's, and those of the siblings, which have the same shape; one breach names them all."""
    (breach,) = TRUTHLOCKS.check(notice(document).event, RECEIVED, 300, ())

    assert (breach.code, breach.message) == ("id_not_uuid", says)


def test_a_uuid_is_the_same_in_either_case() -> None:
    """It is kept as it came, and is no other notice."""
    upper = notice({**REVOKED, "receipt_id": ID.upper()})

    assert (upper.event.item.id, upper.key) == (ID.upper(), notice(REVOKED).key)


def test_all_rules_at_once() -> None:
    """Each breach is told, in the order of the rules."""
    first = notice({**REVOKED, "receipt_id": "r1"}).event
    bad = notice({**REVOKED, "receipt_id": "r1", "revoked_at": "2026-11-21T00:00:00Z"}).event

    assert codes(bad, Past.from_event(first, RECEIVED, 0)) == ["occurred_in_future", "id_not_uuid", "revoked_again"]
