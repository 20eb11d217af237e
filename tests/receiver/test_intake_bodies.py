"""Bodies and headers that no honest sender sends, all authenticated: each is kept or named, and none is a 500."""

import gzip
import json
import random
from typing import Any

import pytest

from receiver.strictjson import MAX_DEPTH
from tests.receiver.service import Sender, Service, encoded, receipt_id, revoked

ID = "3f0c2f6e-8a43-4a52-9d8f-0a6f6c1f2b3d"


def nested(levels: int) -> bytes:
    """A revocation with a member that many arrays deep."""
    return revoked(ID)[:-1] + b',"x":' + b"[" * levels + b"]" * levels + b"}"


def with_member(json_text: bytes) -> bytes:
    """A revocation with one more member, whose value is this."""
    return revoked(ID)[:-1] + b',"x":' + json_text + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        revoked(ID)[:-1],
        revoked(ID)[: len(revoked(ID)) // 2],
        revoked(ID) + b"}",
        revoked(ID) + revoked(ID),
        revoked(ID) + b"\0",
        b" ",
        b"null",
        b"true",
        b'"receipt.revoked"',
        b"17",
        b"[]",
        b"[" + revoked(ID) + b"]",
        b"event_type=receipt.revoked",
        b"<event/>",
        b"\xef\xbb\xbf" + revoked(ID),
        revoked(ID).decode().encode("utf-16"),
        revoked("r\u00e9").replace(rb"\u00e9", b"\xe9"),
        revoked(ID).replace(b"payment", b"\xff"),
        revoked(ID).replace(b"payment", b"\xed\xa0\x80"),
        revoked(ID).replace(b"payment", b"\xc0\x80"),
        revoked(ID).replace(b"payment", b"\0"),
        revoked(ID).replace(b"payment", rb"\u0000"),
        revoked(ID).replace(b"payment", rb"\ud800"),
        revoked(ID).replace(b"payment", rb"\udc00\ud800"),
        revoked(ID).replace(b"payment", b"\n"),
        revoked(ID).replace(b"payment", rb"\x41"),
        with_member(b"NaN"),
        with_member(b"Infinity"),
        with_member(b"-Infinity"),
        with_member(b"1e400"),
        with_member(b"1e99999999999999999999"),
        with_member(b"01"),
        with_member(b"0x1"),
        with_member(b"1_0"),
        with_member(b'1,"x":1'),
        with_member(b'{"a":1,"a":2}'),
        with_member(rb'1,"\u0078":1'),
        with_member(b"1,"),
        with_member(b"1 // why not"),
        with_member(rb'"\ud83d"'),
        with_member(rb'{"\ud83d":1}'),
        with_member(rb'{"\u0000":1}'),
        nested(MAX_DEPTH),
        nested(100_000),
        b'{"a":' * 50_000,
        gzip.compress(revoked(ID)),
    ],
)
def test_what_is_no_strict_json_is_quarantined(service: Service, sender: Sender, body: bytes) -> None:
    """200 `not_json`, and every byte is kept as it came."""
    answer = sender.post(body)

    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "quarantined", "not_json")
    assert [row.body for row in sender.rows()] == [body]


@pytest.mark.parametrize("value", [None, True, 7, 1.5, [], {}, "", "x" * 257, [ID], {"id": ID}])
@pytest.mark.parametrize("member", ["event_type", "receipt_id", "receipt_type", "tenant_id", "revoked_at"])
def test_members_of_another_type_are_of_the_wrong_shape(sender: Sender, member: str, value: object) -> None:
    """200 `quarantined`, unless the member may be absent and is null."""
    answer = sender.post(revoked(ID, **{member: value}))

    optional = value is None and member in {"receipt_type", "tenant_id"}
    assert (answer.status_code, answer.json().get("reason")) == (200, None if optional else "wrong_shape")
    assert [row.kind for row in sender.rows()] == ["revocation" if optional else "quarantine"]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-20",
        "2026-11-20T08:59:58",
        "2026-11-20 08:59:58Z",
        "2026-11-20T08:59:60Z",
        "2026-11-20T24:00:00Z",
        "2026-13-20T08:59:58Z",
        "0000-11-20T08:59:58Z",
        "2026-11-20T08:59:58.1234567890Z",
        "२०२६-11-20T08:59:58Z",
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00+01:00",
    ],
)
def test_times_that_name_no_moment_are_of_the_wrong_shape(sender: Sender, moment: str) -> None:
    """200 `quarantined`: a time is never guessed."""
    assert sender.post(revoked(ID, revoked_at=moment)).json()["reason"] == "wrong_shape"


@pytest.mark.parametrize(
    "value",
    [
        b"9007199254740993",
        b"9223372036854775808",
        b"1" + b"0" * 5000,
        b"1.10",
        b"-0",
        b"1e-400",
        b"0.1e308",
        rb'"\ud83d\ude00"',
        '"\u202e\u0085\u2028 é 😀"'.encode(),
        b'"' + b"x" * 200_000 + b'"',
        b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1),
        b"[" + b"{}," * 20_000 + b"{}]",
    ],
)
def test_members_nobody_knows_may_hold_anything(either_sender: Sender, value: bytes) -> None:
    """200 `recorded`: strict JSON of any kind stays in the raw body, and the same again is a duplicate."""
    body = with_member(value)

    assert [either_sender.post(body).json()["status"] for _ in range(2)] == ["recorded", "duplicate"]
    assert either_sender.rows()[0].body == body


@pytest.mark.parametrize(
    "receipt",
    [
        "x" * 256,
        "a\u0085b",
        "'; DROP TABLE deliveries; --",
        "%00",
        "é😀",
        "../../etc/passwd",
        " ",
        "a\nb",
        "ID:x",
        "\u202e",
    ],
)
def test_ids_may_be_any_text(either_sender: Sender, receipt: str) -> None:
    """They are recorded as they are, with the breach of not being a UUID, and found again."""
    answer = either_sender.post(revoked(receipt))

    assert answer.json()["status"] == "recorded"
    (row,) = either_sender.rows()
    assert json.loads(row.event_data)["item"]["id"] == receipt
    assert [code for code, _ in json.loads(row.breaches)] == ["id_not_uuid"]


def test_a_number_is_compared_as_it_is_written(sender: Sender) -> None:
    """1.0 and 1.00 are other content: money is written in them."""
    statuses = [sender.post(with_member(value)).json()["status"] for value in (b"1.0", b"1.00", b"1.0")]

    assert statuses == ["recorded", "mismatch", "duplicate"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": ""},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "\xff"},
        {"content-encoding": "gzip"},
        {"accept": "text/html"},
        {"accept": "\xe9,,;q=x"},
        {"cookie": "a=b; =; \xff"},
        {"authorization": "Basic \xff"},
        {"x-forwarded-for": "\xff, ::1, 1.2.3.4:5"},
        {"x-forwarded-proto": "gopher"},
        {"x-request-id": "x" * 8000},
        {"user-agent": ""},
        {"host": "nowhere.example:99999"},
        {"origin": "https://elsewhere.example", "sec-fetch-mode": "cors"},
        {"te": "trailers"},
        {"range": "bytes=0-1"},
        {"if-none-match": "*"},
    ],
)
def test_other_headers_change_nothing(service: Service, sender: Sender, headers: dict[str, str]) -> None:
    """Only the signature's matter: the delivery is recorded, with none but these kept."""
    body = revoked()
    raw = encoded({**sender.headers(body), **headers})

    answer = service.client.post(sender.path, content=body, headers=raw)

    assert (answer.status_code, answer.json()["status"]) == (200, "recorded")
    assert [name for name, _ in json.loads(sender.rows()[0].headers)] == [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]


def test_the_query_and_a_trailing_slash_change_nothing(service: Service, sender: Sender) -> None:
    """Senders add both."""
    for path in (f"{sender.path}?a=b&a=%ff&%00", f"{sender.path}/"):
        body = revoked()
        answer = service.client.post(path, content=body, headers=sender.headers(body))
        assert (answer.status_code, answer.json()["status"]) == (200, "recorded")


def test_no_mutation_of_a_body_is_an_error(sender: Sender) -> None:
    """Hundreds of bodies with bytes changed, cut or doubled at random: every answer is a 200 with a status."""
    chance = random.Random(20261120)
    statuses: set[str] = set()
    for _ in range(300):
        body = bytearray(revoked(receipt_id()))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(body))
            match chance.randrange(4):
                case 0:
                    body[at] = chance.randrange(256)
                case 1:
                    del body[at : at + chance.randint(1, 9)]
                case 2:
                    body[at:at] = bytes(chance.choices(b'{}[]",:\\u0\x00\xff', k=chance.randint(1, 5)))
                case _:
                    body[at:at] = body[at : at + 20]
            body = body or bytearray(b"x")
        answer: Any = sender.post(bytes(body)).json()
        statuses.add(answer["status"])

    assert statuses <= {"recorded", "quarantined", "ignored"}
    assert {"recorded", "quarantined"} <= statuses
