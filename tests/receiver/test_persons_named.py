"""Whom a document names: what each provider documents, at any depth, in one spelling."""

import json
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import providers
from receiver.documents import Person, PersonKind, persons_in
from receiver.records.keyed import person_key
from receiver.records.persons import named_by, person
from receiver.strictjson import Json, NotJson, parse
from tests.receiver import test_capillary, test_scrip, test_thanx, test_voucherify
from tests.receiver.operations import EXAMPLES

HASH_KEY = bytes(32)
EMAIL, MOBILE, EXTERNAL_ID, CARD_NUMBER, CUSTOMER_ID = PersonKind
CONTACT = {"email": [EMAIL], "phone": [MOBILE], "customer.id": [CUSTOMER_ID], "id": [EXTERNAL_ID]}


LOOSE = (
    b'{"email":"jane@example.com","email":"jane@example.com"}',
    b'{"email":"john@example.com","email":"jane@example.com"}',
    b'{"customer":{"email":"jane@example.com"},"customer":7}',
    b'[{"email":"jane@example.com"}]',
    b'{} {"email":"jane@example.com"}',
    b'{"email":"jane@example.com"} and so on',
    b'{"sum":1}, {"email":"Jane@example.com"}, and so on',
    b'\xef\xbb\xbf{"email":"jane@example.com"}',
    '{"email":"jane@example.com"}'.encode("utf-16"),
    b'{"name":"\\u0000","email":"jane@example.com"}',
    b'{"name":"\xff","email":"jane@example.com"}',
    b'{"name":"\\ud800","email":"jane@example.com"}',
    b'{"sum":1e400,"n":NaN,"email":"jane@example.com"}',
    b'{"name":"\n","e\\u006dail":"jane@example.com"}',
    b'{"email":"jane@example.com","sum":',
    b'{"sum":01,"email" : "jane\\u0040example.com"}',
    b'{"name":"not closed,\n"email":"jane@example.com"}',
    b'{"a":' * 60 + b'{"email":"jane@example.com"}' + b"}" * 60,
    b'{"a":' * 5000 + b'{"email":"jane@example.com"}' + b"}" * 5000,
)
"""Bodies that name her, each of which is refused for another reason."""


def named(provider: str, document: Json) -> set[str]:
    """Whom a document of a provider names: `email:jane@example.com` and so on."""
    return spelled(document, providers.get(provider).persons)


def spelled(document: Json, members: Any) -> set[str]:
    """The same by a table of members."""
    return {f"{one.kind}:{one.value}" for one in persons_in(document, members)}


# ---- where ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {"email": "jane@example.com"},
        {"data": {"user": {"email": "jane@example.com"}}},
        {"type": "x", "request": [{"a": None}, [{"email": "jane@example.com"}]]},
        {"email": ["jane@example.com", None]},
        {"email": {"email": "jane@example.com"}},
    ],
)
def test_a_member_names_wherever_it_stands(document: Json) -> None:
    """In the documented place or another, in arrays, or as an array."""
    assert {"email:jane@example.com"} == spelled(document, CONTACT)


def test_the_longer_name_goes_before_the_shorter() -> None:
    """An array is no part of the name."""
    document: Json = {"id": "1", "customer": [{"id": "2"}, {"order": {"id": "3"}}], "customers": {"id": "4"}}

    assert {"external_id:1", "customer_id:2", "external_id:3", "external_id:4"} == spelled(document, CONTACT)


@pytest.mark.parametrize("value", [None, True, False, "", "  ", {}, [], [[]], {"other": "jane@example.com"}])
def test_what_is_no_identifier_names_nobody(value: Json) -> None:
    """Preferences by email are often told by a member of that name."""
    assert spelled({"email": value}, CONTACT) == set()


def test_a_number_is_its_literal() -> None:
    """However large or fine it is."""
    document = parse(b'{"id":[62090013,15555550100123456789,1.50,1e5,-0]}')

    expected = {f"external_id:{text}" for text in ("62090013", "15555550100123456789", "1.50", "1e5", "-0")}
    assert expected == spelled(document, CONTACT)


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        (62090013, {CUSTOMER_ID}),
        ("62090013", {CUSTOMER_ID, MOBILE, EXTERNAL_ID, CARD_NUMBER}),
        ("tom.sawyer@example.com", {EMAIL, EXTERNAL_ID}),
        ("+1 (415) 555-1234", {CUSTOMER_ID, MOBILE, EXTERNAL_ID, CARD_NUMBER}),
        ("EXT-62090013", {CUSTOMER_ID, EXTERNAL_ID, CARD_NUMBER}),
        ("1234", {CUSTOMER_ID, EXTERNAL_ID, CARD_NUMBER}),
    ],
)
def test_a_member_of_several_kinds(value: Json, kinds: set[PersonKind]) -> None:
    """A number is of the first kind; a text of each that it has the form of."""
    members = {"customerId": (CUSTOMER_ID, EMAIL, MOBILE, EXTERNAL_ID, CARD_NUMBER)}

    assert kinds == {one.kind for one in persons_in({"customerId": value}, members)}


# ---- spelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("email:\tJane@Example.COM ", "jane@example.com"),
        ("mobile:+1 (415) 555-1234", "+14155551234"),
        ("mobile:(+62) 823-9609", "+628239609"),
        ("mobile:001 415+555", "001415555"),
        ("mobile:\u0661\u0662\uff13", "123"),
        ("external_id: User 7:b ", "User 7:b"),
        ("card_number:0042", "0042"),
        ("external_id:Jose\u0301", "Jos\u00e9"),
        ("email:Jose\u0301@stra\u00dfe.de", "jos\u00e9@strasse.de"),
        ("customer_id:550E8400-E29B-41D4-A716-446655440002", "550e8400-e29b-41d4-a716-446655440002"),
    ],
)
def test_a_person_as_it_is_asked_for(text: str, expected: str) -> None:
    """In the spelling that it is compared in."""
    assert expected == person(text).value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "jane@example.com",
        "Email:jane@example.com",
        "phone:1",
        "email:",
        "email: ",
        "mobile:none",
        "mobile:+",
        "email:\0",
        "email:\udc80",
    ],
)
def test_what_names_no_person(text: str) -> None:
    """The kinds are told, and nothing of what was given."""
    with pytest.raises(ValueError, match="KIND is one of email, mobile, external_id, card_number, customer_id") as told:
        person(text)

    assert "jane" not in str(told.value)


def test_nobody_is_named_by_a_repr() -> None:
    """For it may get into a log."""
    assert "jane" not in repr(person("email:jane@example.com"))


@given(st.sampled_from(PersonKind), st.text())
def test_a_spelling_is_spelled_as_it_is(kind: PersonKind, text: str) -> None:
    """What is canonical stays so, with space around it or not."""
    found = Person.of(kind, text)

    if found is not None:
        assert found == Person.of(kind, found.value) == Person.of(kind, f" {found.value}\n")


@given(st.from_regex(r"\+?[0-9]{1,15}", fullmatch=True), st.text(alphabet=" ()-./abc", max_size=3))
def test_a_phone_number_is_its_digits(number: str, between: str) -> None:
    """Whatever is written between them."""
    assert Person(MOBILE, number) == Person.of(MOBILE, between + between.join(number) + between)


@given(st.emails(), st.booleans())
def test_an_address_is_one_in_any_case(address: str, upper: bool) -> None:
    """Of ASCII, as nearly all are."""
    assert Person.of(EMAIL, address) == Person.of(EMAIL, address.upper() if upper else address.title())


@given(st.sampled_from(PersonKind), st.text(), st.sampled_from(["NFC", "NFD"]))
def test_a_person_is_one_however_its_characters_are_composed(kind: PersonKind, text: str, form: Any) -> None:
    """Of what Unicode holds to be the same, some write the one and some the other."""
    assert Person.of(kind, text) == Person.of(kind, normalize(form, text))


def _documents() -> st.SearchStrategy[Any]:
    names = st.sampled_from(["email", "phone", "customer", "id", "other"])
    values = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a@b", "7", "\u00e4", " "])
    return st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@given(st.dictionaries(st.sampled_from(["email", "customer", "x"]), _documents(), max_size=3), st.booleans())
def test_what_is_looked_for_is_found_however_it_is_written(document: dict[str, Any], ascii_only: bool) -> None:
    """Bodies that cannot name anybody are not read: that takes no name away, be it written with escapes."""
    voucherify = providers.get("voucherify").persons
    body = json.dumps(document, ensure_ascii=ascii_only)
    expected = len(set(persons_in(parse(body.encode()), voucherify)))

    assert expected == len(named_by(HASH_KEY, "voucherify", None, body.encode()))
    escaped = body.replace('"email"', '"\\u0065mail"').replace('"customer"', '"custome\\u0072"')
    assert expected == len(named_by(HASH_KEY, "voucherify", None, escaped.encode()))


# ---- who is named by whom -------------------------------------------------------------------------------------------


def test_a_customer_of_capillary() -> None:
    """The number in an answer; in a request whatever it may be, for what that is, is not kept."""
    assert {"customer_id:62090013"} == named("capillary", test_capillary.ANSWER)
    assert {"customer_id:62090013"} == named("capillary", test_capillary.REQUEST)
    by_email = {"email:tom.sawyer@capillarytech.com", "external_id:tom.sawyer@capillarytech.com"}
    assert by_email == named("capillary", test_capillary.BY_EMAIL)


def test_an_event_of_capillary_about_a_customer() -> None:
    """As documented; the store that it was told by has an `externalId` as well."""
    document: Json = {
        "eventName": "customerAdded",
        "orgId": 150698,
        "data": {
            "enteredBy": {"store": {"externalId": "MOTHERCARERPM"}},
            "customerIdentifiers": {
                "customerId": 164875382,
                "instore": {"mobile": "6282396092287", "email": "R@example.com", "externalId": "226682932023"},
            },
        },
        "card_number": 4711,
    }

    expected = {"customer_id:164875382", "mobile:6282396092287", "email:r@example.com", "external_id:226682932023"}
    assert expected | {"card_number:4711"} == named("capillary", document)


def test_a_participant_of_scrip() -> None:
    """By the redemption, and by nothing of a reversal."""
    completed = test_scrip.redemption(participant_id="550E8400-e29b-41d4-a716-446655440002")

    assert {"customer_id:550e8400-e29b-41d4-a716-446655440002"} == named("scrip", completed)
    assert named("scrip", test_scrip.reversal()) == set()
    assert {"external_id:user_123"} == named("scrip", {"data": {"external_id": "user_123"}})


def test_a_user_of_thanx() -> None:
    """By a failure; and by what nothing is kept of, should it be quarantined."""
    assert {"mobile:+14155551234"} == named("thanx", test_thanx.BATCH)
    assert {"email:jane@example.com"} == named("thanx", {"failures": [{"user_identifier": "Jane@example.com"}]})
    assert named("thanx", test_thanx.DECLARED) == set()
    told = {name: named("thanx", document) for name, document in test_thanx.IGNORED.items()}
    assert told == {
        "reward.issued": {"customer_id:usr_def456"},
        "purchase": {"customer_id:675c038cfc5f43591718936c18080855", "email:example@thanx.com"},
        "communication_setting": {"customer_id:woeruijsfwer"},
        "sms_subscription": {"customer_id:woeruijsfwer", "mobile:+14157582345", "email:example@thanx.com"},
    }


def test_a_subject_of_truthlocks() -> None:
    """By a receipt's record, and by none of the webhooks."""
    example = EXAMPLES["truthlocks"]

    assert {"email:a@example.com", "external_id:a@example.com"} == named("truthlocks", example.record)
    assert {"external_id:user-7"} == named("truthlocks", {"payload": {"recipient": "user-7"}})
    assert named("truthlocks", [example.request, example.answer]) == set()


def test_a_customer_of_voucherify() -> None:
    """By the webhook in full, wherever it names the customer, and the card; an order's source is no person's."""
    order: Json = {"source_id": "order-1", "referrer": {"id": "cust_r", "email": "R@x.de"}}

    assert named("voucherify", {**test_voucherify.DATA, "order": order}) == {
        "customer_id:cust_KiZa6C6R30sgqqpU76o6B7u0",
        "external_id:4lx-d03",
        "card_number:67028386",
        "customer_id:cust_r",
        "email:r@x.de",
    }


def test_a_member_of_voucherify() -> None:
    """By the answer; and by the path of the call, which has no body."""
    answer = EXAMPLES["voucherify"].answer
    assert {"customer_id:lmbr_1", "card_number:lcrd_1"} == named("voucherify", answer)

    path = providers.get("voucherify").operation.path.format(**EXAMPLES["voucherify"].path)
    line = json.dumps([[":method", "POST"], [":path", path]])
    by_answer = named_by(HASH_KEY, "voucherify", None, json.dumps(answer).encode())
    assert by_answer == named_by(HASH_KEY, "voucherify", line, b"")
    assert named_by(HASH_KEY, "voucherify", json.dumps([["x-signed", "so"]]), b"") == set()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"email=a@b.c", b"<email>a@b.c</email>", b'{"email":"a@b', b'{"email":"\\ud800"}']
)
def test_what_has_no_member_that_can_be_made_out_names_nobody(body: bytes) -> None:
    """Nor does it raise anything; nor what is of a provider that there is no more."""
    assert named_by(HASH_KEY, "voucherify", None, body) == set()
    assert named_by(HASH_KEY, "nobody", None, b'{"email":"a@b.c"}') == set()


@pytest.mark.parametrize("body", LOOSE)
def test_what_is_no_strict_json_names_somebody_all_the_same(body: bytes) -> None:
    """It is in quarantine, and kept: whoever it names can ask for it."""
    with pytest.raises(NotJson):
        parse(body)

    assert person_key(HASH_KEY, "email", "jane@example.com") in named_by(HASH_KEY, "voucherify", None, body)


def test_a_member_of_nobody_knows_what_is_of_every_kind() -> None:
    """`id` is a customer's in a customer, and nobody's elsewhere: of what is only searched for, that is not known."""
    customer = person_key(HASH_KEY, "customer_id", "c1")

    assert named_by(HASH_KEY, "voucherify", None, b'[{"id":"c1"}]') == set()
    assert {customer} == named_by(HASH_KEY, "voucherify", None, b'[{"customer":{"id":"c1"}}]')
    assert {customer} == named_by(HASH_KEY, "voucherify", None, b'[{"id":"c1"},')


@pytest.mark.parametrize("provider", providers.names())
def test_a_provider_says_in_its_docs_whom_it_names(provider: str) -> None:
    """Each member in its page, by its last name."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "providers" / f"{provider}.md").read_text()

    for member in providers.get(provider).persons:
        assert f"`{member.rpartition('.')[2]}`" in page
