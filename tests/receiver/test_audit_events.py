"""`/v1/events`: every filter, pages without gap or double, three clocks, and the shape of an event."""

import base64
import json
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver.encoding import canonical
from receiver.records.tables import deliveries
from tests.receiver.service import ACCOUNT, Sender, Service, problem, receipt_id, revoked
from translog.merkle import leaf_hash

NOWHERE: dict[str, Any] = {
    "state": "none",
    "id": None,
    "by": None,
    "since": None,
    "issuer_log": None,
    "issuer_index": None,
    "late": False,
    "differences": [],
}


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


@pytest.fixture
def ask(either_service: Service, key: dict[str, str]) -> "Ask":
    """Questions put with it."""
    return Ask(either_service, key)


class Ask:
    """Questions to `/v1/events`."""

    def __init__(self, service: Service, key: dict[str, str]) -> None:
        self.service = service
        self.key = key

    def answer(self, **query: str | int) -> httpx2.Response:
        """The answer to one."""
        return self.service.client.get("/v1/events", params=query, headers=self.key)

    def items(self, **query: str | int) -> list[dict[str, Any]]:
        """The events of one page."""
        answer = self.answer(**query)
        assert answer.status_code == 200, answer.text
        assert sorted(answer.json()) == ["items", "next_cursor"]
        return answer.json()["items"]

    def ids(self, **query: str | int) -> list[str]:
        """Their ids."""
        return [event["id"] for event in self.items(**query)]


def test_an_event_in_full(either_service: Service, either_sender: Sender, ask: Ask) -> None:
    """Every member, in the list and by its id alike."""
    receipt = receipt_id()
    first = either_sender.post(revoked(receipt)).json()
    second = either_sender.post(revoked(receipt, revoked_at="2026-11-20T10:59:58.5+01:00")).json()
    other = either_sender.post(revoked(receipt, note="other")).json()
    row, later, mismatch = either_sender.rows()

    newest, oldest = ask.items(source=either_sender.source_id)

    assert oldest == {
        "id": first["event_id"],
        "source": either_sender.source_id,
        "provider": "truthlocks",
        "event": "receipt.revoked",
        "item": {"type": "receipt", "id": receipt},
        "effect": "revoked",
        "extent": "full",
        "amount": None,
        "quantity": None,
        "reason": None,
        "via": "webhook",
        "scheme": "standard-webhooks",
        "test": False,
        "account": ACCOUNT,
        "operation": receipt,
        "occurred_at": "2026-11-20T08:59:58.000000Z",
        "received_at": row.received_at,
        "logged_at": row.logged_at,
        "log_index": first["log_index"],
        "leaf_hash": leaf_hash(either_service.entry(first["log_index"])).hex(),
        "cross_check": NOWHERE,
        "breaches": [],
        "mismatches": [
            {"id": mismatch.id, "received_at": mismatch.received_at, "log_index": other["log_index"]},
        ],
        "details": {"receipt_type": "payment_receipt"},
        "erased": False,
    }
    assert (newest["id"], newest["occurred_at"]) == (second["event_id"], "2026-11-20T09:59:58.500000Z")
    message = f"receipt revoked already, by entry {first['log_index']} of the log; a revocation is final"
    assert newest["breaches"] == [{"code": "revoked_again", "message": message}]
    assert newest["id"] == later.id
    for event in (newest, oldest):
        answer = either_service.client.get(f"/v1/events/{event['id']}", headers=ask.key)
        assert (answer.status_code, answer.json()) == (200, event)


def test_only_events_are_listed(either_sender: Sender, ask: Ask) -> None:
    """Neither quarantined deliveries nor mismatches, nor what was ignored."""
    receipt = receipt_id()
    for body in (revoked(receipt), revoked(receipt, note="x"), b"{", b'{"event_type":"receipt.created"}'):
        either_sender.post(body)
    either_sender.post(b'{"event_type":"attestation.expired","attestation_id":"a"}')

    assert [event["event"] for event in ask.items(source=either_sender.source_id)] == [
        "attestation.expired",
        "receipt.revoked",
    ]


@pytest.fixture(scope="module")
def story(either_service: Service, key: dict[str, str]) -> tuple[Ask, str, dict[str, str]]:
    """A source with four events: how to ask, the source's id, and the events' ids by name."""
    sender = either_service.add_source()
    receipt = receipt_id()
    bodies = {
        "first": revoked(receipt, revoked_at="2026-11-01T00:00:00Z"),
        "again": revoked(receipt, revoked_at="2026-11-02T00:00:00Z"),
        "odd": revoked("no-uuid", revoked_at="2026-11-03T00:00:00Z"),
        "context": b'{"event_type":"attestation.superseded","attestation_id":"a:1%"}',
    }
    ids = {name: sender.post(body).json()["event_id"] for name, body in bodies.items()}
    return Ask(either_service, key), sender.source_id, {**ids, "receipt": receipt}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["context", "odd", "again", "first"]),
        ({"provider": "truthlocks"}, ["context", "odd", "again", "first"]),
        ({"item": "receipt:{receipt}"}, ["again", "first"]),
        ({"item": "receipt:{receipt}", "provider": "truthlocks"}, ["again", "first"]),
        ({"item": "receipt:no-uuid"}, ["odd"]),
        ({"item": "attestation:a:1%"}, ["context"]),
        ({"item": "attestation:{receipt}"}, []),
        ({"item": "receipt:NO-UUID"}, []),
        ({"effect": "revoked"}, ["odd", "again", "first"]),
        ({"effect": "revoking"}, []),
        ({"breach": "revoked_again"}, ["again"]),
        ({"breach": "id_not_uuid"}, ["context", "odd"]),
        ({"breach": "id_not_uui"}, []),
        ({"breach": "id"}, []),
        ({"via": "webhook"}, ["context", "odd", "again", "first"]),
        ({"via": "relay"}, []),
        ({"cross_check": "none"}, ["context", "odd", "again", "first"]),
        ({"cross_check": "confirmed"}, []),
        ({"basis": "occurred", "since": "2026-11-02T00:00:00Z"}, ["odd", "again"]),
        ({"basis": "occurred", "until": "2026-11-02T00:00:00Z"}, ["first"]),
        (
            {"basis": "occurred", "since": "2026-11-01T01:00:00+01:00", "until": "2026-11-03T00:00:00Z"},
            ["again", "first"],
        ),
        ({"basis": "occurred", "since": "2026-11-03T00:00:00.000001Z"}, []),
        ({"effect": "revoked", "breach": "revoked_again", "item": "receipt:{receipt}"}, ["again"]),
        ({"since": "2000-01-01T00:00:00Z"}, ["context", "odd", "again", "first"]),
        ({"since": "2100-01-01T00:00:00Z"}, []),
        ({"until": "2000-01-01T00:00:00Z"}, []),
        ({"basis": "received", "since": "2000-01-01T00:00:00Z"}, ["context", "odd", "again", "first"]),
        ({"basis": "received", "until": "2000-01-01T00:00:00Z"}, []),
    ],
)
def test_filters(story: tuple[Ask, str, dict[str, str]], query: dict[str, str], expected: list[str]) -> None:
    """Each by itself and together; `since` is inclusive, `until` is not."""
    ask, source, ids = story
    filled = {name: value.format(**ids) for name, value in query.items()}

    assert ask.ids(source=source, **filled) == [ids[name] for name in expected]


def test_tests_are_marked_and_told_apart(either_service: Service, key: dict[str, str]) -> None:
    """They are listed like all events, unless only the ones or the others are asked for."""
    ask, item = Ask(either_service, key), f"receipt:{receipt_id()}"
    for test in (False, True):
        either_service.add_source(test=test).post(revoked(item.removeprefix("receipt:")))

    assert [event["test"] for event in ask.items(item=item)] == [True, False]
    assert [event["test"] for event in ask.items(item=item, test="true")] == [True]
    assert [event["test"] for event in ask.items(item=item, test="false")] == [False]


def test_events_are_found_by_a_member_of_their_details(either_sender: Sender, ask: Ask) -> None:
    """As a provider gave it, exactly."""
    ids = [
        either_sender.post(revoked(receipt_type=kind)).json()["event_id"]
        for kind in ("payment_receipt", "payment_receipt_2", "Payment_Receipt", None)
    ]

    def found(detail: str) -> list[str]:
        return ask.ids(source=either_sender.source_id, detail=detail)

    assert found("receipt_type:payment_receipt") == ids[:1]
    assert found("receipt_type:payment_receipt_2") == ids[1:2]
    assert found("receipt_type:payment") == []
    assert found("receipt_type:payment%") == []
    assert found("receipt_type:null") == []
    assert found("receipt:payment_receipt") == []


DETAILS = {
    "text": "a",
    "digits": "5",
    "number": 5,
    "below": -5,
    "most": 2**53 - 1,
    "yes": True,
    "no": False,
    "one": 1,
    "nothing": None,
    "empty": "",
    "list": ["a"],
    "object": {"inner": "a"},
    "dotted.name": "a:b",
    "dashed-name_": 'say "é😀"\\\n',
    "0": "zero",
}


@pytest.fixture(scope="module")
def detailed(either_service: Service, key: dict[str, str]) -> tuple[Ask, str, str]:
    """A source with an event of many details, and one that is erased: how to ask, the source's id, the event's id."""
    sender = either_service.add_source()
    event, gone = (sender.post(revoked()).json()["event_id"] for _ in range(2))
    data = {"item": {"type": "receipt", "id": "x"}, "details": DETAILS}
    with either_service.records.database.write() as tx:
        for event_id, kept in ((event, canonical(data)), (gone, None)):
            tx.execute(sa.update(deliveries).where(deliveries.c.id == event_id).values(event_data=kept))
    return Ask(either_service, key), sender.source_id, event


@pytest.mark.parametrize(
    ("detail", "fits"),
    [
        ("text:a", True),
        ("text:A", False),
        ("text:a ", False),
        ("text:", False),
        ("Text:a", False),
        ("digits:5", True),
        ("digits:05", False),
        ("number:5", True),
        ("number:5.0", False),
        ("number:05", False),
        ("below:-5", True),
        ("most:9007199254740991", True),
        ("yes:true", True),
        ("yes:1", False),
        ("no:false", True),
        ("no:0", False),
        ("one:1", True),
        ("one:true", False),
        ("nothing:null", False),
        ("nothing:", False),
        ("empty:", True),
        ('list:["a"]', False),
        ("list:a", False),
        ('object:{"inner":"a"}', False),
        ('object:{"inner": "a"}', False),
        ("object.inner:a", False),
        ("dotted.name:a:b", True),
        ('dashed-name_:say "é😀"\\\n', True),
        ("0:zero", True),
        ("1:a", False),
        ("absent:a", False),
    ],
)
def test_a_detail_is_a_string_an_integer_or_a_boolean(detailed: tuple[Ask, str, str], detail: str, fits: bool) -> None:
    """Written as it is, on either database alike; what holds others is not looked into."""
    ask, source, event = detailed

    assert ask.ids(source=source, detail=detail) == ([event] if fits else [])


def test_a_source_is_named_by_id_or_name(either_service: Service, story: tuple[Ask, str, dict[str, str]]) -> None:
    """Either gives the same."""
    ask, source, _ = story
    endpoint = next(one for one in either_service.intake.endpoints.all() if one.source.id == source)

    assert ask.ids(source=endpoint.source.name) == ask.ids(source=source)
    assert ask.ids(source="no such source") == []


@pytest.mark.parametrize("basis", ["logged", "received"])
def test_a_period_holds_exactly_what_is_in_it(story: tuple[Ask, str, dict[str, str]], basis: str) -> None:
    """From each event's own time to each other's, by the log's clock and by the time of arrival."""
    ask, source, _ = story
    events = list(reversed(ask.items(source=source)))
    times = [event[f"{basis}_at"] for event in events]

    for since in times:
        for until in times:
            expected = [event["id"] for event in events if since <= event[f"{basis}_at"] < until]
            assert ask.ids(source=source, basis=basis, since=since, until=until) == expected[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
def test_pages_have_no_gap_and_no_double(either_service: Service, key: dict[str, str], limit: int) -> None:
    """Also while new events come in: they are newer than the first page, so they are on none that follows."""
    sender, ask = either_service.add_source(), Ask(either_service, key)
    ids = [sender.post(revoked()).json()["event_id"] for _ in range(7)]

    seen: list[str] = []
    cursor: str | None = None
    for _ in range(20):
        query: dict[str, str | int] = {"source": sender.source_id, "limit": limit}
        page = ask.answer(**query, **({} if cursor is None else {"cursor": cursor})).json()
        seen += [event["id"] for event in page["items"]]
        assert len(page["items"]) <= limit
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert cursor.replace("-", "").replace("_", "").isalnum()
        sender.post(revoked())

    assert (seen, cursor) == (ids[::-1], None)


def test_fifty_to_a_page_unless_asked_otherwise(either_service: Service, key: dict[str, str]) -> None:
    """And the rest on the next."""
    sender, ask = either_service.add_source(), Ask(either_service, key)
    for _ in range(53):
        sender.post(revoked())

    first = ask.answer(source=sender.source_id).json()
    second = ask.answer(source=sender.source_id, cursor=first["next_cursor"]).json()

    assert (len(first["items"]), len(second["items"]), second["next_cursor"]) == (50, 3, None)


def test_a_last_page_that_is_full_has_no_next(story: tuple[Ask, str, dict[str, str]]) -> None:
    """A cursor is given only if there is more."""
    ask, source, _ = story

    assert ask.answer(source=source, limit=4).json()["next_cursor"] is None
    assert ask.answer(source=source, limit=3).json()["next_cursor"] is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("provider", "nobody"),
        ("provider", ""),
        ("source", "a\0b"),
        ("item", "receipt"),
        ("item", ":x"),
        ("item", "receipt:"),
        ("item", "receipt:\0"),
        ("cross_check", "maybe"),
        ("effect", "Revoked"),
        ("breach", "Revoked_Again"),
        ("breach", "%"),
        ("breach", 'x",'),
        ("via", "pigeon"),
        ("test", ""),
        ("test", "True"),
        ("test", "1"),
        ("detail", ""),
        ("detail", "receipt_type"),
        ("detail", ":x"),
        ("detail", 'a"b:x'),
        ("detail", "a'b:x"),
        ("detail", "a b:x"),
        ("detail", "a$b:x"),
        ("detail", "é:x"),
        ("detail", "x" * 65 + ":x"),
        ("detail", "x:\0"),
        ("since", "yesterday"),
        ("since", "2026-11-20"),
        ("since", "2026-11-20T09:00:00"),
        ("since", "0.5"),
        ("since", ""),
        ("until", "2026-11-20T09:00:00 01:00"),
        ("basis", "guessed"),
        ("limit", "0"),
        ("limit", "-1"),
        ("limit", "1001"),
        ("limit", "ten"),
        ("limit", "1_0"),
        ("limit", "1.0"),
        ("limit", "1e1"),
        ("limit", "+1"),
        ("limit", " 1"),
        ("limit", "01"),
        ("limit", "٣"),
        ("limit", ""),
        ("limit", "9" * 5000),
        ("cursor", ""),
        ("cursor", "x"),
        ("cursor", "é"),
        ("cursor", base64.urlsafe_b64encode(b"1.2").decode() + "="),
        ("cursor", base64.urlsafe_b64encode(b"1.02").decode().rstrip("=")),
        ("cursor", base64.urlsafe_b64encode(b"1.-2").decode().rstrip("=")),
        ("cursor", base64.urlsafe_b64encode(b"1").decode().rstrip("=")),
        ("cursor", base64.urlsafe_b64encode(b"1." + b"9" * 40).decode().rstrip("=")),
        ("cursor", "MS4z"[:-1]),
        ("cursors", "MS4z"),
        ("tenant", "default"),
        ("event_id", "x"),
    ],
)
def test_what_is_not_understood_is_no_other_question(ask: Ask, name: str, value: str) -> None:
    """400 that names the parameter."""
    answer = ask.answer(**{name: value})

    assert (answer.status_code, problem(answer)["code"]) == (400, "VALIDATION_ERROR")
    assert list(answer.json()["details"]) == [name]
    assert name in answer.json()["detail"]


def test_a_parameter_is_given_once(either_service: Service, key: dict[str, str]) -> None:
    """Which of two would count is no guess of ours."""
    answer = either_service.client.get("/v1/events?via=webhook&via=relay", headers=key)

    assert (answer.status_code, answer.json()["details"]) == (400, {"via": "given once"})


def test_a_cursor_of_ones_own_making_gives_nothing_away(either_service: Service, key: dict[str, str], ask: Ask) -> None:
    """One that names another tenant's log or a place that is not there gives at most the tenant's own events."""
    own = {event["id"] for event in ask.items(limit=1000)}
    theirs = either_service.add_source("their-tenant").post(revoked()).json()["event_id"]

    for place in (b"99999.99999", b"2.99999", b"0.0"):
        cursor = base64.urlsafe_b64encode(place).decode().rstrip("=")
        seen = set(ask.ids(cursor=cursor, limit=1000))
        assert seen <= own
        assert theirs not in seen


def test_ids_with_any_text_are_found(either_sender: Sender, ask: Ask) -> None:
    """As they were sent."""
    for receipt in ("é😀", "a%b", "a+b&c=d", "a:b", " ", "x" * 256, "\u202e"):
        event = either_sender.post(revoked(receipt)).json()
        found = ask.items(item=f"receipt:{receipt}", source=either_sender.source_id)
        assert [(one["id"], one["item"]["id"]) for one in found] == [(event["event_id"], receipt)]


def test_a_number_of_the_provider_is_shown_as_it_was_written(either_sender: Sender, ask: Ask) -> None:
    """What is not known of the provider stays in the raw body: the event shows its documented members only."""
    body = json.loads(revoked())
    either_sender.post(json.dumps({**body, "amount": 1.10, "receipt_type": None}).encode())

    (event,) = ask.items(source=either_sender.source_id)

    assert (event["details"], event["amount"]) == ({}, None)
