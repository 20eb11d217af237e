"""Calls that may pass: exactly the documented operation, and each goes out as its caller made it."""

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver import providers
from receiver.events import Item
from receiver.providers import Operation
from receiver.relay.calls import IDENTITY, MAX_KEPT, MAX_PARAMETER, Outgoing, find, parameters_of, prepare
from receiver.strictjson import Number, parse

RECEIPT = providers.get("truthlocks").operation
JOB = providers.get("thanx").operation
BADGE = providers.get("capillary").operation
BUCKET = providers.get("voucherify").operation
REDEMPTION = providers.get("scrip").operation
OPERATIONS = [RECEIPT, JOB, BADGE, BUCKET, REDEMPTION]

ID = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"
KEY = "9b2d6f0e-1111-4222-8333-444455556666"
OURS = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\?#%;"), min_size=1, max_size=MAX_PARAMETER).filter(
    lambda text: text.isprintable() and text not in {".", ".."}
)


def path_of(operation: Operation, value: str) -> str:
    """Its path with that, as it is, for every parameter."""
    return re.sub(r"\{\w+\}", lambda _: value, operation.path)


def found(segment: str) -> dict[str, str] | None:
    """What is found in the path of a receipt's revocation with that where the id belongs."""
    return find(RECEIPT, "POST", f"/v1/receipts/{segment}/revoke", "")


def prepared(
    operation: Operation, parameters: Mapping[str, str], headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> Outgoing:
    """A call that says what it is about, as it goes out."""
    outgoing = prepare(operation, parameters, headers, body)
    assert outgoing is not None
    return outgoing


def sent(operation: Operation, *headers: tuple[bytes, bytes], body: bytes = b'{"earnedBadgeId":"e1"}') -> Outgoing:
    """A call with these as it goes out."""
    return prepared(operation, dict.fromkeys(re.findall(r"\{(\w+)\}", operation.path), ID), headers, body)


def without_idempotency(outgoing: Outgoing) -> list[tuple[bytes, bytes]]:
    """The headers that go out besides a key of ours."""
    return [pair for pair in outgoing.headers if pair[0] != b"Idempotency-Key"]


# ---- which calls are the operation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.title)
def test_the_documented_operation_is_found(operation: Operation) -> None:
    """With its parameters, whatever their number; Capillary's path has none."""
    names = re.findall(r"\{(\w+)\}", operation.path)

    assert find(operation, "POST", path_of(operation, ID), "") == dict.fromkeys(names, ID)


def test_each_parameter_is_found_under_its_name() -> None:
    """In a path with four of them."""
    path = "/v2/loyalties/programs/lprg_1/members/lmbr_2/cards/lcrd_3/pending-points/lcppb_4/cancel"

    expected = {"programId": "lprg_1", "memberId": "lmbr_2", "cardId": "lcrd_3", "bucketId": "lcppb_4"}
    assert find(BUCKET, "POST", path, "") == expected


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "post", "POST ", ""])
def test_another_method_is_another_call(method: str) -> None:
    """Methods have a case."""
    assert find(RECEIPT, method, path_of(RECEIPT, ID), "") is None


def test_no_operation_has_a_query() -> None:
    """So a call with one is none of them."""
    assert find(RECEIPT, "POST", path_of(RECEIPT, ID), "dry_run=true") is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        f"v1/receipts/{ID}/revoke",
        f"/v1/receipts/{ID}",
        f"/v1/receipts/{ID}/revoke/",
        f"/v1/receipts/{ID}//revoke",
        f"//v1/receipts/{ID}/revoke",
        f"/v1//receipts/{ID}/revoke",
        f"/v1/./receipts/{ID}/revoke",
        f"/v1/x/../receipts/{ID}/revoke",
        "/v1/receipts//revoke",
        f"/v1/receipts/{ID}/proof-bundle",
        f"/V1/receipts/{ID}/revoke",
        f"/v1/receipts/{ID}/Revoke",
        f"/v1/%72eceipts/{ID}/revoke",
        f"/v1/receipts/{ID}/revoke;v=1",
        f"/v1;a=b/receipts/{ID}/revoke",
        f"/v1/receipts%2F{ID}/revoke",
        f"/v1/receipts/{ID}/revoke?x=1",
        f"/v1/receipts/{ID}/revoke#x",
        f"/v1/receipts/{ID}/revoke%20",
        f"/v1/receipts/{ID}/revoke\r\nx-injected: 1",
        f"http://other/v1/receipts/{ID}/revoke",
        f"/v1/redemptions/{ID}/reverse",
    ],
)
def test_another_path_is_another_call(path: str) -> None:
    """Even where some server would take it for the same: this is no open proxy."""
    assert find(RECEIPT, "POST", path, "") is None


@pytest.mark.parametrize(
    "segment",
    [
        ".",
        "..",
        "%2e",
        "%2E%2e",
        ".%2e",
        "a%2fb",
        "a%2Fb",
        "a%5Cb",
        "a\\b",
        "a%3Fb",
        "a%23b",
        "a%25b",
        "a%252fb",
        "a;b=c",
        "a%3Bb",
        "a%",
        "a%2",
        "a%zz",
        "a%0D%0Ax-injected:1",
        "a\r\nb",
        "a%00",
        "a%0A",
        "a%7F",
        "a b",
        'a"b',
        "a<b",
        "a{b}",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        "a%E2%80%AEb",  # right-to-left override
        "a%EF%BB%BF",  # byte order mark
        "a%ED%A0%80",  # half a surrogate pair
        "a%C0%AF",  # a slash in too many bytes
        "a%FF",
        "a\xff",
        "",
        "a" * (MAX_PARAMETER + 1),
        "%61" * (MAX_PARAMETER + 1),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_parameter(segment: str) -> None:
    """Encoded or not."""
    assert found(segment) is None


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        ("a", "a"),
        ("a.b", "a.b"),
        ("...", "..."),
        ("%61", "a"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("a:b@c,d=e!$&'()*~", "a:b@c,d=e!$&'()*~"),
        ("%C3%A9", "\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("%F0%9F%8E%81" * MAX_PARAMETER, "\N{WRAPPED PRESENT}" * MAX_PARAMETER),
        ("a" * MAX_PARAMETER, "a" * MAX_PARAMETER),
    ],
)
def test_any_other_name_is_decoded_once(segment: str, value: str) -> None:
    """Its length is counted in characters, and a plus is a plus."""
    assert found(segment) == {"id": value}


@given(st.text(max_size=20) | st.text(alphabet="abc/%.;25eEfF+ ", max_size=20) | NAMES.map(quote))
@example("%2525")
def test_what_is_found_goes_out_as_what_was_found(segment: str) -> None:
    """The path is built anew, and reads as the same again."""
    parameters = found(segment)
    if parameters is None:
        return

    target = prepared(RECEIPT, parameters, (), b"").target
    assert parameters_of(RECEIPT, target) == parameters
    assert re.fullmatch(r"/v1/receipts/([A-Za-z0-9._~-]|%[0-9A-F]{2})+/revoke", target)


@given(st.lists(NAMES, min_size=4, max_size=4))
def test_a_kept_path_gives_its_parameters_back(values: list[str]) -> None:
    """So that what a call was about can be told from what is kept of it."""
    parameters = dict(zip(["programId", "memberId", "cardId", "bucketId"], values, strict=True))

    kept = dict(prepared(BUCKET, parameters, (), b"").kept)
    assert parameters_of(BUCKET, kept[":path"]) == parameters


def test_the_path_that_goes_out_is_built_from_the_parameters() -> None:
    """Nothing but unreserved characters goes out as it is."""
    outgoing = prepared(RECEIPT, {"id": "a b+c:d@é~\r\n"}, (), b"{}")

    assert outgoing.target == "/v1/receipts/a%20b%2Bc%3Ad%40%C3%A9~%0D%0A/revoke"


# ---- headers --------------------------------------------------------------------------------------------------------


def test_headers_go_out_as_they_came() -> None:
    """In their order, in their case, as often as they came; credentials and cookies too."""
    headers = [
        (b"Authorization", b"Bearer t"),
        (b"X-Two", b"1"),
        (b"cookie", b"a=b"),
        (b"x-two", b"2"),
        (b"X-TWO", b"1"),
        (b"user-agent", b"curl/8"),
        (b"x-latin", b"\xe9"),
        (b"x-empty", b""),
        (b"content-type", b"application/json"),
    ]

    assert sent(JOB, *headers).headers == (*headers, IDENTITY)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Expect",
        "connection",
        "Keep-Alive",
        "proxy-authenticate",
        "Proxy-Authorization",
        "proxy-connection",
        "TE",
        "trailer",
        "Transfer-Encoding",
        "upgrade",
        "X-Rescind-Key",
        "accept-encoding",
    ],
)
def test_what_is_of_one_connection_or_ours_stays_here(name: str) -> None:
    """In any case, and as often as it came."""
    headers = [(name.encode(), b"gzip"), (b"x-a", b"1"), (name.upper().encode(), b"br")]

    assert sent(JOB, *headers).headers == ((b"x-a", b"1"), IDENTITY)


def test_what_the_connection_header_lists_stays_here() -> None:
    """However it is written, over several headers."""
    listed = [(b"Connection", b"close, X-Hop ,,"), (b"connection", b"x-other")]
    headers = [*listed, (b"x-hop", b"1"), (b"X-Other", b"2"), (b"x-kept", b"3")]

    assert sent(JOB, *headers).headers == ((b"x-kept", b"3"), IDENTITY)


def test_space_around_a_value_is_not_part_of_it() -> None:
    """A server may hand it over, and no request may be made of it."""
    assert sent(JOB, (b"x-a", b" a\tb \t")).headers == ((b"x-a", b"a\tb"), IDENTITY)


# ---- idempotency ----------------------------------------------------------------------------------------------------


def test_an_idempotency_header_is_added_where_the_provider_has_one() -> None:
    """A new UUID for each call, under the name that is documented."""
    first, second = sent(RECEIPT), sent(RECEIPT)

    assert first.idempotency_key is not None
    assert OURS.fullmatch(first.idempotency_key)
    assert (b"Idempotency-Key", first.idempotency_key.encode()) in first.headers
    assert first.made_key
    assert first.body == second.body == b'{"earnedBadgeId":"e1"}'
    assert second.idempotency_key not in {None, first.idempotency_key}


@pytest.mark.parametrize("value", [KEY, "not a UUID", KEY.upper()])
def test_the_callers_own_idempotency_header_goes_out(value: str) -> None:
    """In the right form or not: that is the provider's to say."""
    outgoing = sent(RECEIPT, (b"idempotency-KEY", value.encode()))

    assert outgoing.headers == ((b"idempotency-KEY", value.encode()), IDENTITY)
    assert (outgoing.idempotency_key, outgoing.made_key) == (value, False)


@pytest.mark.parametrize("value", [b"", b"\xe9", b"a\x01", b"k" * (MAX_KEPT + 1)])
def test_what_is_no_key_goes_out_and_is_taken_for_none(value: bytes) -> None:
    """Nothing is added beside it, and two calls that have it do not count as one repeated."""
    outgoing = sent(RECEIPT, (b"idempotency-key", value))

    assert outgoing.headers == ((b"idempotency-key", value), IDENTITY)
    assert (outgoing.idempotency_key, outgoing.made_key) == (None, False)


def test_a_repeated_idempotency_header_is_one_value() -> None:
    """As HTTP reads it."""
    assert sent(RECEIPT, (b"idempotency-key", b"a"), (b"Idempotency-Key", b"b")).idempotency_key == "a, b"


def test_a_key_that_does_not_go_out_is_none() -> None:
    """One that the caller calls the connection's own is replaced."""
    outgoing = sent(RECEIPT, (b"connection", b"idempotency-key"), (b"idempotency-key", KEY.encode()))

    assert outgoing.made_key
    assert without_idempotency(outgoing) == [IDENTITY]


@pytest.mark.parametrize("operation", [JOB, BADGE, BUCKET], ids=lambda operation: operation.title)
def test_nothing_is_added_where_the_provider_has_nothing(operation: Operation) -> None:
    """Neither to headers nor to the body."""
    body = b'{"idempotency_key":1,"earnedBadgeId":"e1"}'
    outgoing = sent(operation, body=body)

    assert (outgoing.headers, outgoing.body) == ((IDENTITY,), body)
    assert (outgoing.idempotency_key, outgoing.made_key) == (None, False)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"idempotency_key":"%b"}'),
        (b" \r\n\t{ \n} \n", b' \r\n\t{"idempotency_key":"%b" \n} \n'),
        (b'{"amount":"10.00"}', b'{"idempotency_key":"%b","amount":"10.00"}'),
        (b'{ "a" :{"idempotency_key":1e0}}', b'{"idempotency_key":"%b", "a" :{"idempotency_key":1e0}}'),
    ],
)  # fmt: skip
def test_an_idempotency_member_is_put_first(body: bytes, expected: bytes) -> None:
    """No other byte of the body is touched."""
    outgoing = sent(REDEMPTION, body=body)

    assert outgoing.idempotency_key is not None
    assert outgoing.body == expected % outgoing.idempotency_key.encode()
    assert OURS.fullmatch(outgoing.idempotency_key)
    assert outgoing.headers == (IDENTITY,)
    assert outgoing.made_key


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=4),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.text(alphabet=" \t\r\n", max_size=3),
)
def test_whatever_the_object_it_has_the_member_and_its_own(
    members: dict[str, object], indent: int | None, ascii_only: bool, space: str
) -> None:
    """Read again it is what it was, and the key; the bytes that were there are still there."""
    body = (space + json.dumps(members, indent=indent, ensure_ascii=ascii_only) + space).encode()
    try:
        before = parse(body)
    except ValueError:  # a NUL, say: then it goes out as it is
        assert sent(REDEMPTION, body=body).body == body
        return

    outgoing = sent(REDEMPTION, body=body)
    assert parse(outgoing.body) == outgoing.request == {"idempotency_key": outgoing.idempotency_key, **before}
    at = outgoing.body.index(b"{") + 1
    assert (outgoing.body[:at], outgoing.body[at + len(outgoing.body) - len(body) :]) == (body[:at], body[at:])


@pytest.mark.parametrize("value", [KEY, "", 7, None, ["a"]])
def test_the_callers_own_idempotency_member_goes_out(value: object) -> None:
    """Whatever it is; only a text is a key."""
    body = json.dumps({"amount": "1", "idempotency_key": value}).encode()
    outgoing = sent(REDEMPTION, body=body)

    assert (outgoing.body, outgoing.made_key) == (body, False)
    assert outgoing.idempotency_key == (KEY if value == KEY else None)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"a"', b"{", b"{}{}", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b"\xff", b"amount=1"]
)
def test_a_body_that_is_no_json_object_goes_out_as_it_is(body: bytes) -> None:
    """Without a key, for there is nowhere to put one."""
    outgoing = sent(REDEMPTION, body=body)

    assert (outgoing.body, outgoing.request) == (body, {})
    assert (outgoing.idempotency_key, outgoing.made_key) == (None, False)


# ---- what is known and kept of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "body", "item"),
    [
        (RECEIPT, b"", Item("receipt", ID)),
        (JOB, b'{"merchant_id":"m"}', Item("issuance_job", ID)),
        (BADGE, b'{"earnedBadgeId":"e1","customerId":"c"}', Item("badge", "e1")),
        (BUCKET, b"", Item("pending_points", ID)),
        (REDEMPTION, b"{}", Item("redemption", ID)),
    ],
)
def test_it_knows_what_it_is_about(operation: Operation, body: bytes, item: Item) -> None:
    """By the path or by the request, as the provider's module says."""
    assert sent(operation, body=body).item == item


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"earnedBadgeId":7}', b'{"earnedBadgeId":""}'])
def test_a_call_about_nothing_does_not_go_out(body: bytes) -> None:
    """Nothing could be recorded of it."""
    assert prepare(BADGE, {}, (), body) is None


def test_the_request_is_what_goes_out() -> None:
    """Its numbers as they were written."""
    outgoing = sent(REDEMPTION, body=b'{"quantity":1.10,"idempotency_key":"k"}')

    assert outgoing.request == {"quantity": Number("1.10"), "idempotency_key": "k"}


def test_what_is_kept_of_a_request_holds_no_credential() -> None:
    """Its line, its idempotency key and its content type, each once and in lower case."""
    secrets = [(b"Authorization", b"Bearer t"), (b"x-api-key", b"s"), (b"cookie", b"c"), (b"x-other", b"o")]
    headers = [*secrets, (b"Content-Type", b"application/json"), (b"Idempotency-KEY", KEY.encode())]

    assert dict(sent(RECEIPT, *headers).kept) == {
        ":method": "POST",
        ":path": f"/v1/receipts/{ID}/revoke",
        "idempotency-key": KEY,
        "content-type": "application/json",
    }
    assert [name for name, _ in sent(JOB, *headers).kept] == [":method", ":path", "content-type"]


def test_a_key_of_ours_is_kept() -> None:
    """As a header, or with the body that it was put into."""
    outgoing = sent(RECEIPT)

    assert ("idempotency-key", outgoing.idempotency_key) in outgoing.kept


@pytest.mark.parametrize("value", ["\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), b"a\tb", b"a" * (MAX_KEPT + 1)])
def test_a_value_that_cannot_be_kept_goes_out_all_the_same(value: bytes) -> None:
    """It is left out of what is kept."""
    outgoing = sent(JOB, (b"content-type", value))

    assert (b"content-type", value) in outgoing.headers
    assert [name for name, _ in outgoing.kept] == [":method", ":path"]


def test_a_path_is_kept_however_long() -> None:
    """It is all that says what the call was about."""
    name = "\N{WRAPPED PRESENT}" * MAX_PARAMETER
    kept = dict(prepared(RECEIPT, {"id": name}, (), b"").kept)

    assert kept[":path"] == f"/v1/receipts/{quote(name)}/revoke"


def test_its_repr_shows_no_secret() -> None:
    """It may end up in a log."""
    shown = repr(sent(REDEMPTION, (b"x-api-key", b"S3CRET"), body=b'{"reason":"S3CRET","idempotency_key":"S3CRET"}'))

    assert "S3CRET" not in shown
    assert ID in shown
