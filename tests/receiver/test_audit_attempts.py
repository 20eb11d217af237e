"""`/v1/attempts`: the calls that were passed on, what became of each, and what can be done where nobody knows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver.audit.attempted import MARGIN, OUTCOMES, given_up
from receiver.events import format_time
from receiver.records.attempts import Attempt, Ended
from receiver.records.tables import attempts, credentials, deliveries, sources
from receiver.relay.entries import SETTLE_MARGIN
from tests.receiver.operations import EXAMPLES, RECEIPT
from tests.receiver.passed_on import Calls
from tests.receiver.service import Sender, Service, problem, receipt_id
from translog.merkle import leaf_hash

NOBODY = "0198a1b2-0000-7000-8000-000000000000"
OPERATION = "POST /v1/receipts/{id}/revoke"
KEY = "5b2d1c80-7c35-4a0e-8a1f-0a4d7d2f6e11"


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


@pytest.fixture
def ask(either_service: Service, either_sender: Sender, key: dict[str, str]) -> "Ask":
    """Questions about one source, put with it."""
    return Ask(either_service, either_sender, key)


class Ask:
    """Questions to `/v1/attempts` about one source, and the calls that are made of it."""

    def __init__(self, service: Service, sender: Sender, key: dict[str, str]) -> None:
        self.service = service
        self.sender = sender
        self.key = key
        self.calls = Calls(service, sender)

    def answer(self, **query: str | int) -> httpx2.Response:
        """The answer to a list."""
        return self.service.client.get("/v1/attempts", params=query, headers=self.key)

    def items(self, **query: str | int) -> list[dict[str, Any]]:
        """The calls of the source."""
        answer = self.answer(source=self.sender.source_id, **query)
        assert answer.status_code == 200, answer.text
        assert sorted(answer.json()) == ["items", "next_cursor"]
        return answer.json()["items"]

    def ids(self, **query: str | int) -> list[str]:
        """Their ids."""
        return [item["id"] for item in self.items(**query)]

    def one(self, attempt: Attempt) -> dict[str, Any]:
        """One of them."""
        answer = self.service.client.get(f"/v1/attempts/{attempt.id}", headers=self.key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def row(self, delivery_id: str) -> sa.Row[Any]:
        """What is kept of a delivery."""
        return next(row for row in self.sender.rows() if row.id == delivery_id)

    def change(self, statement: sa.Update | sa.Insert) -> None:
        """Change what is kept."""
        with self.service.records.database.write() as tx:
            tx.execute(statement)


def long_ago() -> datetime:
    """When a call was made of which nobody is waiting for the answer any more."""
    return datetime.now(UTC) - timedelta(hours=1)


# ---- one of them --------------------------------------------------------------------------------------------------


def test_a_call_in_full(ask: Ask) -> None:
    """Before its answer and after it, in the list and by its id alike."""
    attempt = ask.calls.begin(headers={"Idempotency-Key": KEY})
    row = ask.row(attempt.id)
    begun = {
        "id": attempt.id,
        "source": ask.sender.source_id,
        "provider": "truthlocks",
        "operation": OPERATION,
        "item": {"type": "receipt", "id": RECEIPT},
        "key": ask.calls.key_id,
        "started_at": format_time(attempt.called_at),
        "logged_at": row.logged_at,
        "log_index": row.log_index,
        "leaf_hash": leaf_hash(ask.service.entry(row.log_index)).hex(),
        "outcome": "in_progress",
        "outcome_id": None,
        "outcome_log_index": None,
        "status": None,
        "ended_at": None,
        "idempotency_key": KEY,
        "test": False,
        "note": None,
        "erased": False,
    }
    assert ask.items() == [begun]
    assert ask.one(attempt) == begun

    event = ask.calls.answered(attempt)

    told = ask.row(event.id)
    ended = {
        **begun,
        "outcome": "recorded",
        "outcome_id": event.id,
        "outcome_log_index": event.log_index,
        "status": 200,
        "ended_at": told.logged_at,
    }
    assert ask.items() == [ended]
    assert ask.one(attempt) == ended


def refused(ask: Ask, attempt: Attempt) -> None:
    """The provider says no."""
    ask.calls.refused(attempt, 409)


def duplicate(ask: Ask, attempt: Attempt) -> None:
    """It is answered as a call before it."""
    ask.calls.answered(ask.calls.begin(), {**EXAMPLES["truthlocks"].answer, "note": "the same"})
    ask.calls.answered(attempt, {**EXAMPLES["truthlocks"].answer, "note": "the same"})


def mismatch(ask: Ask, attempt: Attempt) -> None:
    """It is answered otherwise than a call before it, but about the same."""
    ask.calls.answered(ask.calls.begin())
    ask.calls.answered(attempt, {**EXAMPLES["truthlocks"].answer, "note": "another"})


ENDS: dict[str, tuple[Callable[[Ask, Attempt], object], int | None, str]] = {
    "recorded": (lambda ask, attempt: ask.calls.answered(attempt), 200, "revocation"),
    "duplicate": (duplicate, 200, "attempt"),
    "mismatch": (mismatch, 200, "mismatch"),
    "quarantined": (lambda ask, attempt: ask.calls.answered(attempt, {"status": "melted"}), 200, "quarantine"),
    "refused": (refused, 409, "attempt"),
    "not_sent": (lambda ask, attempt: ask.calls.not_sent(attempt), None, "attempt"),
    "repeated": (lambda ask, attempt: ask.calls.repeated(attempt, attempt.id), None, "attempt"),
    "not_done": (
        lambda ask, attempt: ask.calls.looked_up(attempt, {"receipt_id": RECEIPT, "status": "active"}),
        None,
        "attempt",
    ),
}


def test_every_end_is_tried_here() -> None:
    """Each that there is, and of what has no end both."""
    assert list(ENDS) == [one.value for one in Ended]
    assert ("in_progress", "unknown", *ENDS) == OUTCOMES


@pytest.mark.parametrize("outcome", ENDS)
def test_what_became_of_it(ask: Ask, outcome: str) -> None:
    """Its outcome, and the delivery that tells of it, when, at which index, and with which status."""
    end, status, kind = ENDS[outcome]
    attempt = ask.calls.begin(at=long_ago())

    end(ask, attempt)

    found = ask.one(attempt)
    told = ask.row(found["outcome_id"])
    assert (found["outcome"], found["status"], found["note"]) == (outcome, status, None)
    assert (told.kind, told.log_index) == (kind, found["outcome_log_index"])
    assert found["ended_at"] == told.logged_at
    assert attempt.id in ask.ids(outcome=outcome)
    assert ask.ids(outcome="unknown") == []


def test_an_answer_that_is_read_again(ask: Ask) -> None:
    """What was in quarantine is an event now: that one tells of the call."""
    attempt = ask.calls.begin()
    ask.calls.answered(attempt, {"status": "melted"})
    assert ask.one(attempt)["outcome"] == "quarantined"

    event = ask.calls.answered(attempt)

    found = ask.one(attempt)
    assert (found["outcome"], found["outcome_id"]) == ("recorded", event.id)


# ---- of which nobody knows what became --------------------------------------------------------------------------


def test_in_progress_and_unknown(ask: Ask) -> None:
    """It is in progress while the relay may wait for the answer or be recording it, and of unknown outcome after."""
    timeout = ask.service.records.settings.relay_timeout
    patience = timedelta(seconds=timeout) + SETTLE_MARGIN
    early = ask.calls.begin(at=datetime.now(UTC) - patience - timedelta(seconds=1))
    late = ask.calls.begin(at=datetime.now(UTC) - patience + timedelta(seconds=600))

    assert (ask.one(early)["outcome"], ask.one(late)["outcome"]) == ("unknown", "in_progress")
    assert (ask.ids(outcome="unknown"), ask.ids(outcome="in_progress")) == ([early.id], [late.id])
    assert (ask.one(early)["note"] is None, ask.one(late)["note"]) == (False, None)


def test_what_is_unknown_is_what_is_due() -> None:
    """The moment from which a call is called so is that from which on its outcome is looked for."""
    begun = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)

    assert MARGIN == SETTLE_MARGIN
    assert given_up(30.0, begun + timedelta(seconds=30) + SETTLE_MARGIN) == format_time(begun)
    moments = {"before": -1, "then": 0}
    for name, microseconds in moments.items():
        late = given_up(30.0, begun + timedelta(seconds=30, microseconds=microseconds) + SETTLE_MARGIN)
        assert (format_time(begun) > late) is (name == "before")


AGAIN = "; or repeat the call with the same idempotency key"
NOTES: dict[str, tuple[str, dict[str, Any], str]] = {
    "nothing is set": (
        "thanx",
        {"upstream": None, "credential": False},
        "the source has no upstream whose record could be asked: receiver source set --upstream",
    ),
    "no credential": ("thanx", {"credential": False}, "set a read-only credential: receiver source credential"),
    "no credential, but a key": (
        "truthlocks",
        {"credential": False},
        f"set a read-only credential: receiver source credential{AGAIN}",
    ),
    "all is set": ("thanx", {}, "the provider's record is asked with the source's credential"),
    "all is set, and a key": ("scrip", {}, f"the provider's record is asked with the source's credential{AGAIN}"),
    "made elsewhere": (
        "truthlocks",
        {"called": "http://127.0.0.1:19"},
        f"it was made to another upstream, http://127.0.0.1:19: its record is not asked{AGAIN}",
    ),
    "asked in vain": (
        "thanx",
        {"next_at": None},
        "the provider's record is asked no more: receiver relay settle asks it once again",
    ),
    "disabled": (
        "scrip",
        {"enabled": False},
        "the source is disabled, so the provider's record is not asked: receiver source enable",
    ),
    "no record, no key": (
        "capillary",
        {},
        "the provider has neither a record to ask nor an idempotency key: it stays unknown, look there yourself",
    ),
    "the same": (
        "voucherify",
        {"credential": False},
        "the provider has neither a record to ask nor an idempotency key: it stays unknown, look there yourself",
    ),
    "no record, but a key": (
        "capillary",
        {"idempotency": b"0" * 16},
        "the provider has no record to ask; repeat the call with the same idempotency key",
    ),
    "erased": (
        "truthlocks",
        {"event_data": None},
        "what it asked for is erased, so the provider's record cannot be asked: it stays unknown",
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_will_or_can_be_done(either_service: Service, key: dict[str, str], case: str) -> None:
    """A note says it, by the provider and by what the source has."""
    provider, given, note = NOTES[case]
    has: dict[str, Any] = {"upstream": "http://127.0.0.1:9", "credential": True, "enabled": True, **given}
    sender = either_service.add_source(provider=provider, account=None)
    ask = Ask(either_service, sender, key)
    attempt = ask.calls.begin(at=long_ago())
    its_source = sa.update(sources).where(sources.c.id == sender.source_id)
    ask.change(its_source.values(upstream=has["upstream"], enabled=has["enabled"]))
    if has["credential"]:
        now = format_time(datetime.now(UTC))
        ask.change(sa.insert(credentials).values(source_id=sender.source_id, value=b"sealed", created_at=now))
    its_call = sa.update(attempts).where(attempts.c.id == attempt.id)
    ask.change(its_call.values(upstream=has.get("called", "http://127.0.0.1:9")))
    for table, name in ((attempts, "next_at"), (attempts, "idempotency"), (deliveries, "event_data")):
        if name in has:
            ask.change(sa.update(table).where(table.c.id == attempt.id).values({name: has[name]}))

    assert (ask.one(attempt)["outcome"], ask.one(attempt)["note"]) == ("unknown", note)


def test_a_provider_that_this_version_does_not_know(ask: Ask) -> None:
    """The call is shown all the same, and that nothing can be found out."""
    attempt = ask.calls.begin(at=long_ago())
    name = "receiver.audit.attempted.providers.names"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name, lambda: ["thanx"])
        found = ask.one(attempt)

    assert found["operation"] == OPERATION
    assert found["note"] == "this version does not know the provider: it stays unknown, look there yourself"


# ---- what was asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "headers", "request_json", "idempotency_key"),
    [
        ("truthlocks", {"idempotency-key": KEY}, {}, KEY),
        ("truthlocks", {"IDEMPOTENCY-KEY": "not a UUID"}, {}, "not a UUID"),
        ("truthlocks", {"idempotency-key": "n\xf6"}, {}, None),
        ("scrip", {}, {"idempotency_key": "reverse-12345"}, "reverse-12345"),
        ("scrip", {}, {"idempotency_key": "reverse-é"}, None),
        ("scrip", {}, {"idempotency_key": 5}, None),
        ("scrip", {"idempotency-key": KEY}, {"idempotency_key": None}, None),
        ("thanx", {"idempotency-key": KEY}, {"idempotency_key": KEY}, None),
    ],
)
def test_the_idempotency_key_in_the_clear(
    either_service: Service,
    key: dict[str, str],
    provider: str,
    headers: dict[str, str],
    request_json: dict[str, Any],
    idempotency_key: str | None,
) -> None:
    """As the call had it, where its provider has one, and it can be repeated with it."""
    ask = Ask(either_service, either_service.add_source(provider=provider, account=None), key)

    attempt = ask.calls.begin(request=request_json, headers=headers)

    assert ask.one(attempt)["idempotency_key"] == idempotency_key


@pytest.mark.parametrize("provider", ["truthlocks", "scrip"])
def test_an_idempotency_key_that_was_made_here(either_service: Service, key: dict[str, str], provider: str) -> None:
    """It is the one that the provider was sent."""
    ask = Ask(either_service, either_service.add_source(provider=provider, account=None), key)

    attempt = ask.calls.begin(request={"reason": "x"})

    shown = ask.one(attempt)["idempotency_key"]
    asked = {"reason": "x"} if provider == "truthlocks" else {"reason": "x", "idempotency_key": shown}
    again = ask.calls.outgoing(request=asked, headers={"Idempotency-Key": shown})
    assert ask.calls.idempotency(again) == attempt.idempotency


def test_a_call_that_is_erased(ask: Ask) -> None:
    """What it asked is null, and what became of it is not."""
    attempt = ask.calls.begin(headers={"Idempotency-Key": KEY})
    event = ask.calls.refused(attempt)
    gone = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    ask.change(sa.update(deliveries).where(deliveries.c.id == attempt.id).values(**gone))

    found = ask.one(attempt)

    assert (found["item"], found["idempotency_key"], found["erased"]) == (None, None, True)
    assert (found["outcome"], found["outcome_id"], found["operation"]) == ("refused", event.id, OPERATION)
    assert ask.ids(item=f"receipt:{RECEIPT}") == [attempt.id]


# ---- lists --------------------------------------------------------------------------------------------------------


def test_newest_first_and_page_by_page(ask: Ask) -> None:
    """Without a gap or a double, whatever is called meanwhile."""
    ids = [ask.calls.begin().id for _ in range(5)]
    found: list[str] = []
    query: dict[str, str | int] = {"limit": 2, "source": ask.sender.source_id}
    for size in (2, 2, 1):
        page = ask.answer(**query).json()
        assert len(page["items"]) == size
        found += [item["id"] for item in page["items"]]
        ask.calls.begin()
        query["cursor"] = page["next_cursor"]

    assert found == ids[::-1]
    assert page["next_cursor"] is None


def test_filters(either_service: Service, key: dict[str, str]) -> None:
    """Each by itself and together; `since` is inclusive, `until` is not."""
    one, other = (Ask(either_service, either_service.add_source(test=test), key) for test in (False, True))
    scrip = Ask(either_service, either_service.add_source(provider="scrip", account=None), key)
    noon, receipt = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC), receipt_id()
    first = one.calls.begin({"id": receipt}, at=noon)
    second = one.calls.begin({"id": receipt.upper()}, at=noon + timedelta(seconds=1))
    third = other.calls.begin({"id": receipt}, at=noon)
    fourth = scrip.calls.begin({"id": receipt}, at=noon)
    one.calls.refused(second)

    def ids(**query: str) -> list[str]:
        period = {"since": "2026-11-20T12:00:00Z", "until": "2026-11-20T12:00:02Z", "item": f"receipt:{receipt}"}
        answer = one.answer(**{**period, **query})
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    assert ids() == [third.id, second.id, first.id]
    assert ids(item=f"redemption:{receipt}") == [fourth.id]
    assert ids(item=f"redemption:{receipt}", provider="scrip") == [fourth.id]
    assert ids(provider="scrip") == []
    assert ids(source=one.sender.source_id) == [second.id, first.id]
    assert ids(source=other.sender.endpoint.source.name) == [third.id]
    assert ids(key=one.calls.key_id) == [second.id, first.id]
    assert ids(key=NOBODY) == []
    assert ids(outcome="refused") == [second.id]
    assert ids(outcome="unknown") == [third.id, first.id]
    assert ids(outcome="in_progress") == []
    assert (ids(test="true"), ids(test="false")) == ([third.id], [second.id, first.id])
    assert ids(since="2026-11-20T12:00:00.000001Z") == [second.id]
    assert ids(until="2026-11-20T12:00:01Z") == [third.id, first.id]
    assert ids(outcome="unknown", test="false", until="2026-11-20T12:00:01Z") == [first.id]


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ({"outcome": "melted"}, "outcome"),
        ({"provider": "nobody"}, "provider"),
        ({"item": "x"}, "item"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-11-20"}, "until"),
        ({"test": "yes"}, "test"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "MC4w"}, "cursor"),
        ({"cursor": "0198A1B2-0000-7000-8000-000000000000"}, "cursor"),
        ({"limit": "1.0"}, "limit"),
        ({"key": "\0"}, "key"),
        ({"effect": "refused"}, "effect"),
    ],
)
def test_what_is_not_understood(ask: Ask, query: dict[str, str], member: str) -> None:
    """400 that names it."""
    answer = ask.answer(**query)

    assert answer.status_code == 400
    assert list(problem(answer)["details"]) == [member]


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_has_its_limits(ask: Ask, limit: int) -> None:
    """1 to 1000."""
    assert ask.answer(limit=limit).status_code == 400


def test_whose_calls_they_are(ask: Ask) -> None:
    """One's own tenant's alone, with the scope `audit`."""
    attempt = ask.calls.begin()
    theirs = ask.service.key(tenant="elsewhere")
    path = f"/v1/attempts/{attempt.id}"

    assert ask.service.client.get("/v1/attempts", headers=theirs).json() == {"items": [], "next_cursor": None}
    for headers, status in ((theirs, 404), (ask.service.key("operate,admin,export"), 403), ({}, 401)):
        answer = ask.service.client.get(path, headers=headers)
        assert (answer.status_code, problem(answer)["status"]) == (status, status)


def test_what_is_no_call(ask: Ask) -> None:
    """404: not one's answer either, nor an event."""
    event = ask.calls.refused(ask.calls.begin())

    for one in (event.id, NOBODY, "x", "%00", "%ff", "a" * 5000):
        answer = ask.service.client.get(f"/v1/attempts/{one}", headers=ask.key)
        assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")


def test_a_long_request_is_shown_as_well(either_service: Service, key: dict[str, str]) -> None:
    """By its key alone, however long it was."""
    ask = Ask(either_service, either_service.add_source(provider="scrip", account=None), key)
    for number in range(3):
        ask.calls.begin(request={"reason": "x" * 200_000, "idempotency_key": f"k-{number}"})

    assert [item["idempotency_key"] for item in ask.items()] == ["k-2", "k-1", "k-0"]
