"""Capillary: the answer in each way it comes, the two envelopes, each shape that is not documented, and the rules."""

from copy import deepcopy
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver import providers
from receiver.events import Effect, Event, Extent, Item, Kind, Past, Via
from receiver.providers import Call, Ignored, Notice, Unfit
from receiver.strictjson import Json, Number, digest
from translog.canonical import decode

CAPILLARY = providers.get("capillary")
META, BADGE = "653ddb33b3cda7078c7c68e9", "654cbea06bccde1274b6d3a2"
META_2, BADGE_2 = "653de84db3cda7078c7c68ed", "6659551c304b6e0b517b7bc7"
CUSTOMER, EMAIL = 62090013, "tom.sawyer@capillarytech.com"
RECEIVED = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)

# The documented request and answer, and the documented answer to a request with an email address.
REQUEST: dict[str, Json] = {"badgeMetaId": META, "customerId": CUSTOMER, "earnedBadgeId": BADGE}
REVOKED: dict[str, Json] = {"badgeMetaId": META, "customerId": CUSTOMER, "earnedBadgeId": BADGE, "isActive": False}
ANSWER: dict[str, Json] = {"data": REVOKED, "errors": [], "warnings": []}
BY_EMAIL: dict[str, Json] = {
    "badgeMetaId": META_2,
    "customerId": EMAIL,
    "earnedBadgeId": BADGE_2,
}
ANSWER_BY_EMAIL: dict[str, Json] = {**ANSWER, "data": {**BY_EMAIL, "customerId": CUSTOMER, "isActive": False}}
NOT_ACTIVE: list[Json] = [{"code": 814, "message": "Active earn instance is not present"}]
REFUSAL: dict[str, Json] = {"data": None, "errors": NOT_ACTIVE, "warnings": []}

DECLARED: dict[str, Json] = {"type": "badge.revoked", "data": ANSWER}
FLAT: dict[str, Json] = {
    "eventName": "badgeRevoked",
    "eventId": "72fe1900-a413-42d6-9582-f955474739aa",
    "orgId": 50933,
    "refId": "50933_651bb7bac983d041efbc78fc",
    "apiRequestId": "e4397e00-de8d-4a54-b86b-affe305406cb",
    "createdAt": 1696315322593,
    "data": REVOKED,
    "loyaltyEventId": None,
}
ATTRIBUTES: dict[str, Json] = {
    "createdAt": 1683874799971,
    "data": REVOKED,
    "eventName": "badge.revoked",
    "apiRequestId": "0c52fc98594959bf0d577218bf565798",
    "orgId": 150698,
}
NESTED: dict[str, Json] = {
    "eventId": "81b1f0ce-8119-4826-9cca-610bd31d4038",
    "eventType": "150698_badge.revoked",
    "consumerGroupId": None,
    "actionType": "START",
    "timeStamp": 1683874799984,
    "attributes": ATTRIBUTES,
}
IDS: dict[str, Json] = {"badgeMetaId": META, "customerId": "62090013"}


def notice(document: dict[str, Json]) -> Notice:
    """The notice that a document is read as."""
    reading = CAPILLARY.read(document)
    assert isinstance(reading, Notice)
    return reading


def call(answer: dict[str, Json], request: dict[str, Json] = REQUEST) -> Notice | Unfit:
    """What a successful call of the operation is read as."""
    return CAPILLARY.operation.read(Call({}, request, answer))


def breaches(event: Event, *history: Event) -> list[tuple[str, str]]:
    """The rules it breaks after these events, the first of which is entry 17 of the log, as they come from records."""
    past = [Past.of(one.kind, one.type, one.effect, RECEIVED, 17 + at, one.data()) for at, one in enumerate(history)]
    return [(breach.code, breach.message) for breach in CAPILLARY.check(event, RECEIVED, 300, past)]


def nested(**changes: Json) -> dict[str, Json]:
    """The nested event with other attributes; those changed to None are as good as absent."""
    return {**NESTED, "attributes": {**ATTRIBUTES, **changes}}


def without(document: dict[str, Json], *names: str) -> dict[str, Json]:
    """The document without these members."""
    return {name: value for name, value in document.items() if name not in names}


def an_event(type_name: str, account: str | None, details: dict[str, Json]) -> Event:
    """The revocation of the badge in the documented answer, told under that name."""
    return Event(
        kind=Kind.REVOCATION,
        type=type_name,
        item=Item("badge", BADGE),
        effect=Effect.REVOKED,
        extent=Extent.FULL,
        account=account,
        operation=BADGE,
        occurred_at=None,
        occurred_from=None,
        amount=None,
        quantity=None,
        reason=None,
        details=details,
    )


# ---- what it is read as -------------------------------------------------------------------------------------------


def test_what_is_said_of_the_provider() -> None:
    """Nothing is signed, so no scheme follows; and an event's id says nothing of the badge."""
    assert (CAPILLARY.title, CAPILLARY.account_name) == ("Capillary", "orgId")
    assert CAPILLARY.signing.scheme is None
    assert "--scheme token --header NAME" in CAPILLARY.signing.said
    assert not CAPILLARY.key_names_item


@pytest.mark.parametrize("data", [ANSWER, REVOKED])
def test_a_declared_revocation_in_full(data: dict[str, Json]) -> None:
    """The documented answer, or what is in it, in the plain envelope."""
    document: dict[str, Json] = {"type": "badge.revoked", "data": data}

    assert CAPILLARY.read(document) == Notice(
        event=an_event("badge.revoked", None, IDS),
        key=f"declared revoked {BADGE}",
        digest=digest(document),
        via=Via.DECLARED,
    )


def test_what_the_plain_envelope_adds() -> None:
    """The time of declaring is a detail, and the request names the account; neither makes it another notice."""
    request: dict[str, Json] = {**REQUEST, "orgId": 50933}

    reading = notice({**DECLARED, "created_at": "2026-11-20T10:00:00+01:00", "request": request})

    details: dict[str, Json] = {**IDS, "declared_at": "2026-11-20T09:00:00.000000Z"}
    assert an_event("badge.revoked", "50933", details) == reading.event
    assert (reading.key, reading.digest) == (notice(DECLARED).key, notice(DECLARED).digest)


def test_a_flat_event_in_full() -> None:
    """Every member of the documented envelope has its place."""
    details = {**IDS, **{name: FLAT[name] for name in ("eventId", "createdAt", "apiRequestId")}}

    assert CAPILLARY.read(FLAT) == Notice(
        event=an_event("badgeRevoked", "50933", details),
        key="event 72fe1900-a413-42d6-9582-f955474739aa",
        digest=digest(FLAT),
        via=Via.WEBHOOK,
    )


def test_a_nested_event_in_full() -> None:
    """The event is in its attributes; what is of the sending alone is no part of its content."""
    assert CAPILLARY.read(NESTED) == Notice(
        event=an_event(
            "badge.revoked",
            "150698",
            {
                **IDS,
                "eventId": "81b1f0ce-8119-4826-9cca-610bd31d4038",
                "timeStamp": 1683874799984,
                "createdAt": 1683874799971,
                "apiRequestId": "0c52fc98594959bf0d577218bf565798",
            },
        ),
        key="event 81b1f0ce-8119-4826-9cca-610bd31d4038",
        digest=digest({"eventId": NESTED["eventId"], "eventType": NESTED["eventType"], "attributes": ATTRIBUTES}),
        via=Via.WEBHOOK,
    )


@pytest.mark.parametrize(
    ("document", "account"),
    [
        (FLAT, "50933"),
        ({**FLAT, "orgId": "50933"}, "50933"),
        ({**FLAT, "orgId": 0}, "0"),
        (without(FLAT, "orgId"), None),
        ({**NESTED, "orgId": 150698}, "150698"),
        (nested(orgId=None), "150698"),
        ({**nested(orgId=None), "eventType": "acme_badge.revoked"}, None),
        ({**nested(orgId=None), "eventType": "٣_badge.revoked"}, None),
        ({**nested(orgId=None), "eventType": "badge.revoked"}, None),
        ({**nested(orgId=None), "eventType": "7_"}, None),
    ],
)
def test_whose_event_it_is(document: dict[str, Json], account: str | None) -> None:
    """The member that names the organization, or the number before the event's name; nothing is guessed."""
    assert account == notice(document).event.account


@pytest.mark.parametrize(
    ("event_type", "name"),
    [
        ("150698_badgeRevoked", "badgeRevoked"),
        ("acme_badge.revoked", "badge.revoked"),
        ("badgeRevoked", "badgeRevoked"),
    ],
)
def test_the_name_of_a_nested_event_may_be_in_its_type_alone(event_type: str, name: str) -> None:
    """Behind the organization, if one stands there."""
    assert name == notice({**nested(eventName=None), "eventType": event_type}).event.type


@pytest.mark.parametrize("data", [ANSWER, {"data": REVOKED}, {"data": REVOKED, "errors": None, "warnings": None}])
def test_an_event_may_bring_the_whole_answer(data: dict[str, Json]) -> None:
    """As well as what is in it."""
    assert notice(FLAT).event == notice({**FLAT, "data": data}).event
    assert notice(NESTED).event == notice(nested(data=data)).event


def test_what_differs_between_attempts_is_the_same_event() -> None:
    """What the sending brings along may change; what is told may not."""
    again: dict[str, Json] = {**NESTED, "timeStamp": 1683874805000, "actionType": "RETRY", "consumerGroupId": "g"}
    other = nested(data={**REVOKED, "isActive": True})
    traced: dict[str, Json] = {**FLAT, "traceAttributes": {"requestId": "1"}}

    assert (notice(NESTED).key, notice(NESTED).digest) == (notice(again).key, notice(again).digest)
    assert (notice(FLAT).key, notice(FLAT).digest) == (notice(traced).key, notice(traced).digest)
    assert notice(NESTED).key == notice(other).key
    assert notice(NESTED).digest != notice(other).digest
    assert notice(FLAT).key != notice({**FLAT, "eventId": "2"}).key


# ---- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "details"),
    [
        ({"data": {**REVOKED, "isActive": True}, "errors": [], "warnings": []}, IDS),
        ({**REVOKED, "isActive": True}, IDS),
        ({"data": REVOKED, "errors": NOT_ACTIVE, "warnings": []}, {**IDS, "errors": NOT_ACTIVE}),
        ({"data": {"earnedBadgeId": BADGE}, "errors": NOT_ACTIVE}, {"errors": NOT_ACTIVE}),
        ({"data": {"earnedBadgeId": BADGE}, "errors": ["no"], "warnings": [1]}, {"errors": ["no"], "warnings": [1]}),
    ],
)
def test_what_did_not_succeed_is_a_refusal(answer: dict[str, Json], details: dict[str, Json]) -> None:
    """The badge is still active, or there are errors; the errors and warnings are kept."""
    reading = notice({**DECLARED, "data": answer})
    event = reading.event

    assert (event.effect, event.extent, event.operation) == (Effect.REFUSED, Extent.UNKNOWN, BADGE)
    assert (event.details, reading.key) == (details, f"declared refused {BADGE}")
    assert notice({**FLAT, "data": answer}).event.effect is Effect.REFUSED


@pytest.mark.parametrize(
    "answer", [REFUSAL, {"errors": NOT_ACTIVE}, {"data": {}, "errors": NOT_ACTIVE, "warnings": None}]
)
def test_the_badge_of_a_refusal_may_be_in_the_request_alone(answer: dict[str, Json]) -> None:
    """Of which nothing else is kept: its customer can be an email address, and is not what was answered."""
    document: dict[str, Json] = {"type": "badge.revoked", "data": answer, "request": BY_EMAIL}

    event = notice(document).event

    assert (Effect.REFUSED, Item("badge", BADGE_2)) == (event.effect, event.item)
    assert event.details == {"errors": NOT_ACTIVE}
    missing = "data.data.earnedBadgeId is missing, and request.earnedBadgeId as well"
    assert Unfit("wrong_shape", missing) == CAPILLARY.read(without(document, "request"))


def test_warnings_do_not_make_a_refusal() -> None:
    """They are kept with the revocation."""
    event = notice({"type": "badge.revoked", "data": {**ANSWER, "warnings": [{"code": 1}]}}).event

    assert an_event("badge.revoked", None, {**IDS, "warnings": [{"code": 1}]}) == event


# ---- what is not kept, and what is not as documented --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["badgeEarned", "customerAdded", "pointsRedeemed", "CouponIssue", "revokeEarnedPromotion", "requestWorkflowEvent"],
)
def test_documented_events_of_other_things_are_ignored(name: str) -> None:
    """In either envelope, whatever else is in them."""
    assert Ignored(name) == CAPILLARY.read({"eventName": name})
    assert Ignored(name) == CAPILLARY.read({"eventType": f"150698_{name}", "attributes": {}})
    assert Ignored(name) == CAPILLARY.read({"eventType": "x", "attributes": {"eventName": name}})


@pytest.mark.parametrize("name", ["badgeRevoked ", "BadgeRevoked", "badge_revoked", "badgeExpired", "badgeearned", "_"])
def test_other_events_are_unknown(name: str) -> None:
    """Nothing is guessed from a name that looks familiar."""
    says = f"the event is {name!r}, which is not documented"

    assert Unfit("unknown_type", says) == CAPILLARY.read({**FLAT, "eventName": name})
    assert Unfit("unknown_type", says) == CAPILLARY.read(nested(eventName=name))


def test_a_plain_envelope_has_one_type() -> None:
    """The name that an organization may give an event of its own is none."""
    reading = CAPILLARY.read({**DECLARED, "type": "badgeRevoked"})

    assert reading == Unfit("unknown_type", "type is 'badgeRevoked'; in a plain envelope it is 'badge.revoked'")


TWO = "two organizations are named: orgId and eventType differ, or orgId stands there twice"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "eventName, eventType and type are missing: one of them names the event"),
        ({**FLAT, "eventName": "x" * 129}, "eventName has 129 characters; it must have 1 to 128"),
        ({**FLAT, "eventId": None}, "eventId is missing"),
        ({**FLAT, "eventId": 7}, "eventId is not a string"),
        ({**FLAT, "orgId": Number("5.0")}, "orgId is not a string"),
        ({**FLAT, "data": {**ANSWER, "data": None}}, "data.data is missing"),
        ({**FLAT, "data": REFUSAL}, "data.data.earnedBadgeId is missing, and request.earnedBadgeId as well"),
        ({**NESTED, "attributes": None}, "attributes is missing"),
        (nested(eventName={}), "attributes.eventName is not a string"),
        (nested(data=None), "attributes.data is missing"),
        ({**NESTED, "orgId": 7}, TWO),
        ({**NESTED, "eventType": "7_badge.revoked"}, TWO),
        ({**DECLARED, "request": {"orgId": {}}}, "request.orgId is not a string"),
        ({**DECLARED, "request": {"earnedBadgeId": 1}}, "request.earnedBadgeId is not a string"),
        ({**DECLARED, "request": BY_EMAIL}, "data.data.earnedBadgeId is not request.earnedBadgeId"),
    ],
)
def test_an_envelope_that_is_not_as_documented_is_unfit(document: dict[str, Json], says: str) -> None:
    """The member at fault is named."""
    assert Unfit("wrong_shape", says) == CAPILLARY.read(document)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"earnedBadgeId": None}, "earnedBadgeId is missing"),
        ({"earnedBadgeId": 7}, "earnedBadgeId is not a string"),
        ({"earnedBadgeId": ""}, "earnedBadgeId has 0 characters; it must have 1 to 256"),
        ({"isActive": None}, "isActive is missing"),
        ({"isActive": "false"}, "isActive is not true or false"),
        ({"badgeMetaId": 7}, "badgeMetaId is not a string"),
        ({"customerId": Number("6.2e7")}, "customerId is not a string"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_unfit(changes: dict[str, Json], says: str) -> None:
    """Wherever it stands."""
    inner: dict[str, Json] = {**REVOKED, **changes}

    assert Unfit("wrong_shape", f"data.{says}") == CAPILLARY.read({**FLAT, "data": inner})
    assert Unfit("wrong_shape", f"data.data.{says}") == CAPILLARY.read({**DECLARED, "data": {**ANSWER, "data": inner}})
    assert Unfit("wrong_shape", f"data.{says}") == call({**ANSWER, "data": inner})


@pytest.mark.parametrize("name", ["errors", "warnings"])
def test_errors_and_warnings_are_arrays(name: str) -> None:
    """Something else there would have to be guessed at."""
    assert Unfit("wrong_shape", f"{name} is not an array") == call({**ANSWER, name: {"code": 814}})


# ---- the operation ------------------------------------------------------------------------------------------------


def test_the_operation() -> None:
    """As it is documented: no parameters in the path, and nothing that makes a second call harmless."""
    operation = CAPILLARY.operation

    assert (operation.method, operation.path) == ("POST", "/api_gateway/v1/badges/customer/revokeEarn")
    assert (operation.successes, operation.credentials) == ({200}, ("authorization",))
    assert (operation.idempotency_header, operation.idempotency_member) == (None, None)


def test_the_documented_call_in_full() -> None:
    """Its answer says what a declared one says."""
    assert call(ANSWER) == replace(notice(DECLARED), digest=digest(ANSWER), via=Via.RELAY)


def test_a_call_with_an_email_address() -> None:
    """The customer is the number that was answered; the address is not kept."""
    reading = call(ANSWER_BY_EMAIL, BY_EMAIL)

    assert isinstance(reading, Notice)
    assert reading.event.item == Item("badge", BADGE_2)
    assert reading.event.details == {"badgeMetaId": META_2, "customerId": "62090013"}
    assert b"sawyer" not in reading.event.data()


def test_a_call_that_was_refused() -> None:
    """Error 814 comes with status 200: the call succeeded, the revocation did not."""
    reading = call(REFUSAL)
    assert isinstance(reading, Notice)
    assert (reading.event.effect, reading.event.item) == (Effect.REFUSED, Item("badge", BADGE))
    assert reading.event.details == {"errors": NOT_ACTIVE}
    assert reading.key == f"declared refused {BADGE} {digest(REFUSAL).hex()}"


def test_an_answer_about_another_badge_is_unfit() -> None:
    """It is not the answer to that call."""
    assert call(ANSWER, BY_EMAIL) == Unfit("wrong_shape", "data.earnedBadgeId is not request.earnedBadgeId")
    assert call({}, {}) == Unfit("wrong_shape", "earnedBadgeId is missing")


# ---- the rules ----------------------------------------------------------------------------------------------------


def test_the_same_revocation_told_in_several_ways_breaks_no_rule() -> None:
    """Nor does a customer's number that is written as text, or a refusal before or after."""
    relayed = call(ANSWER)
    assert isinstance(relayed, Notice)
    as_text = notice({**DECLARED, "data": {**REVOKED, "customerId": "62090013"}})
    told = [notice(FLAT).event, notice(DECLARED).event, relayed.event, as_text.event]
    refused = notice({**DECLARED, "data": {**REFUSAL, "data": {**REVOKED, "badgeMetaId": "m", "customerId": 1}}}).event

    for event in told:
        assert breaches(event) == []
        assert breaches(event, *told) == []
        assert breaches(event, refused) == []
        assert breaches(refused, event) == []


def test_another_event_of_the_same_revocation() -> None:
    """An event has one id, and a revoked badge cannot be revoked: the first entry that differs is named."""
    again = notice({**FLAT, "eventId": "2"}).event

    found = breaches(again, notice(DECLARED).event, notice(FLAT).event, notice(NESTED).event)

    assert found == [("revoked_again", "badge revoked already, by another event: entry 18 of the log")]


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [("badgeMetaId", META_2, "other_badge"), ("customerId", 62090014, "other_customer")],
)
def test_an_earned_badge_is_one_badges_and_of_one_customer(member: str, value: Json, code: str) -> None:
    """The sentence names neither customer; where one is not given, nothing differs."""
    other = notice({**DECLARED, "data": {**REVOKED, member: value}}).event
    silent = notice({**DECLARED, "data": {"earnedBadgeId": BADGE, "isActive": False}}).event

    says = f"{member} is not that of the same earned badge in entry 17 of the log"
    assert breaches(other, notice(FLAT).event) == [(code, says)]
    assert breaches(silent, notice(FLAT).event) == []
    assert breaches(other, silent) == []


def test_all_rules_at_once() -> None:
    """Each breach is told, in the order of the rules."""
    data: dict[str, Json] = {**REVOKED, "badgeMetaId": "m", "customerId": 1}

    found = breaches(notice({**FLAT, "eventId": "2", "data": data}).event, notice(FLAT).event)

    assert [code for code, _ in found] == ["revoked_again", "other_badge", "other_customer"]


# ---- whatever comes -----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just(Number("1.0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, *examples: dict[str, Json]) -> dict[str, Json]:
    """One of the examples with up to three of its members, at any depth, removed or replaced."""
    document = deepcopy(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 3))):
        inside, name = document, draw(st.sampled_from([*document, "data"]))
        while isinstance(deeper := inside.get(name), dict) and deeper and draw(st.booleans()):
            inside, name = deeper, draw(st.sampled_from(list(deeper)))
        if draw(st.booleans()):
            inside.pop(name, None)
        else:
            inside[name] = draw(json_values)
    return document


def fits(reading: object) -> None:
    """A notice can be kept and judged; nothing else than the three is read."""
    assert isinstance(reading, Notice | Ignored | Unfit)
    if isinstance(reading, Notice):
        event = reading.event
        assert decode(event.data())
        assert len(reading.digest) == 32
        past = Past.of(event.kind, event.type, event.effect, RECEIVED, 0, event.data())
        assert past == Past.from_event(event, RECEIVED, 0)
        assert all(code and said for code, said in breaches(event, event, notice(FLAT).event))


@given(mutated(DECLARED, {**DECLARED, "data": REFUSAL, "request": REQUEST}, FLAT, NESTED, {**FLAT, "data": ANSWER}))
def test_no_document_makes_it_raise(document: dict[str, Json]) -> None:
    """However a documented one is changed."""
    fits(CAPILLARY.read(document))


@given(mutated(ANSWER, REFUSAL, ANSWER_BY_EMAIL), mutated(REQUEST, BY_EMAIL))
def test_no_call_makes_it_raise(answer: dict[str, Json], request: dict[str, Json]) -> None:
    """Whatever was sent, and whatever was answered."""
    fits(call(answer, request))
