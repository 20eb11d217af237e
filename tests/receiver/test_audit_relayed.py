"""Calls that were passed on, among the events: refusals, answers and records, beside what webhooks tell of the same."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from receiver.audit.shapes import CrossCheckShape
from receiver.events import format_time
from tests.receiver.five import FIVE
from tests.receiver.operations import BADGE, BUCKET, JOB, MERCHANT, REASON, RECEIPT
from tests.receiver.passed_on import Calls, as_json
from tests.receiver.service import Sender, Service, receipt_id, revoked
from translog import cli, evidence
from translog.merkle import leaf_hash
from translog.policy import Policy

OPERATION = "POST /v1/receipts/{id}/revoke"


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


@pytest.fixture
def ask(either_service: Service, either_sender: Sender, key: dict[str, str]) -> "Ask":
    """Questions about a source that had no delivery yet, and calls of it."""
    return Ask(either_service, either_sender, key)


class Ask:
    """Questions about what one source has told, and the calls that are made of it."""

    def __init__(self, service: Service, sender: Sender, key: dict[str, str]) -> None:
        self.service = service
        self.sender = sender
        self.key = key
        self.calls = Calls(service, sender)

    def get(self, path: str, **query: str | int) -> Any:
        """The answer to a question that has one."""
        answer = self.service.client.get(path, params=query, headers=self.key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, **query: str | int) -> list[str]:
        """The ids of the source's events."""
        return [event["id"] for event in self.get("/v1/events", source=self.sender.source_id, **query)["items"]]

    def item(self, item_id: str | None = None) -> dict[str, Any]:
        """What is known of an item by this source; the example's unless its id is given."""
        item, provider = self.calls.example.item, self.calls.party.provider.name
        path = f"/v1/items/{provider}/{item.type}/{item_id or item.id}"
        return self.get(path, source=self.sender.source_id)

    def state(self, item_id: str | None = None) -> tuple[str, str | None, str | None, int]:
        """Its state, how much of it was taken back, and how many events there are."""
        shown = self.item(item_id)
        return shown["state"], shown["reversed_amount"], shown["reversed_quantity"], len(shown["events"])


def asking(service: Service, key: dict[str, str], provider: str) -> Ask:
    """Questions about a new source of that provider, which signs as it does."""
    return Ask(service, FIVE[provider].add_to(service), key)


# ---- refused calls ----------------------------------------------------------------------------------------------


def test_a_refused_call_in_full(ask: Ask) -> None:
    """It is an event, named by the operation; in the list and by its id alike."""
    attempt = ask.calls.begin()
    refusal = ask.calls.refused(attempt, 409)
    row = ask.sender.rows()[-1]

    expected: dict[str, Any] = {
        "id": refusal.id,
        "source": ask.sender.source_id,
        "provider": "truthlocks",
        "event": OPERATION,
        "item": {"type": "receipt", "id": RECEIPT},
        "effect": "refused",
        "extent": "unknown",
        "amount": None,
        "quantity": None,
        "reason": None,
        "via": "relay",
        "scheme": "upstream",
        "test": False,
        "account": None,
        "operation": None,
        "occurred_at": None,
        "received_at": row.received_at,
        "logged_at": row.logged_at,
        "log_index": refusal.log_index,
        "leaf_hash": leaf_hash(ask.service.entry(refusal.log_index)).hex(),
        "cross_check": asdict(CrossCheckShape()),
        "breaches": [],
        "mismatches": [],
        "details": {"status": 409},
        "erased": False,
    }
    assert ask.get("/v1/events", source=ask.sender.source_id)["items"] == [expected]
    assert ask.get(f"/v1/events/{refusal.id}") == expected


def test_no_other_row_of_a_call_is_an_event(ask: Ask) -> None:
    """Neither an intent, nor an answer that says nothing of the item."""
    attempts = [ask.calls.begin() for _ in range(5)]
    event = ask.calls.answered(attempts[0])
    ask.calls.answered(attempts[1])  # a duplicate
    ask.calls.not_sent(attempts[2])
    ask.calls.repeated(attempts[3], event.id)
    ask.calls.looked_up(attempts[4], {"receipt_id": RECEIPT, "status": "active"})

    assert ask.ids() == [event.id]
    assert [one["id"] for one in ask.item()["events"]] == [event.id]
    for row in ask.sender.rows():
        status = 200 if row.id == event.id else 404
        assert ask.service.client.get(f"/v1/events/{row.id}", headers=ask.key).status_code == status


@pytest.fixture(scope="module")
def story(either_service: Service, key: dict[str, str]) -> tuple[Ask, dict[str, str]]:
    """A source with one event by each way in, and a refused call: how to ask, and the events' ids by name."""
    ask = Ask(either_service, either_service.add_source(), key)
    told = revoked(RECEIPT, revoked_at="2026-11-20T09:00:01Z", tenant_id=None)
    ids = {
        "webhook": ask.sender.post(told).json()["event_id"],
        "refused": ask.calls.refused(ask.calls.begin({"id": "x"})).id,
        "relay": ask.calls.answered(ask.calls.begin()).id,
        "poll": ask.calls.looked_up(ask.calls.begin()).id,
    }
    return ask, ids


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["poll", "relay", "refused", "webhook"]),
        ({"via": "webhook"}, ["webhook"]),
        ({"via": "relay"}, ["relay", "refused"]),
        ({"via": "poll"}, ["poll"]),
        ({"via": "declared"}, []),
        ({"effect": "refused"}, ["refused"]),
        ({"effect": "revoked"}, ["poll", "relay", "webhook"]),
        ({"effect": "refused", "via": "relay"}, ["refused"]),
        ({"effect": "refused", "via": "webhook"}, []),
        ({"provider": "truthlocks", "effect": "refused"}, ["refused"]),
        ({"item": "receipt:x"}, ["refused"]),
        ({"item": "receipt:x", "provider": "truthlocks"}, ["refused"]),
        ({"item": f"receipt:{RECEIPT.upper()}"}, ["poll", "relay", "webhook"]),
        ({"detail": "status:422"}, ["refused"]),
        ({"detail": "status:42"}, []),
        ({"breach": "revoked_again"}, []),
        ({"cross_check": "none"}, ["poll", "relay", "refused", "webhook"]),
        ({"cross_check": "confirmed"}, []),
        ({"test": "false"}, ["poll", "relay", "refused", "webhook"]),
        ({"test": "true"}, []),
        ({"since": "2000-01-01T00:00:00Z", "effect": "refused"}, ["refused"]),
        ({"until": "2000-01-01T00:00:00Z"}, []),
        ({"basis": "received", "since": "2000-01-01T00:00:00Z", "effect": "refused"}, ["refused"]),
        ({"basis": "occurred", "since": "2000-01-01T00:00:00Z"}, ["poll", "relay", "webhook"]),
    ],
)
def test_filters(story: tuple[Ask, dict[str, str]], query: dict[str, str], expected: list[str]) -> None:
    """Each tells the truth of refused calls, of answers and of records."""
    ask, ids = story

    assert ask.ids(**query) == [ids[name] for name in expected]


def test_page_by_page(story: tuple[Ask, dict[str, str]]) -> None:
    """A refused call has its place among the others, and the rows between them have none."""
    ask, ids = story
    found: list[str] = []
    query: dict[str, str | int] = {"limit": 1, "source": ask.sender.source_id}
    page: dict[str, Any] = {}
    for _ in range(4):
        page = ask.get("/v1/events", **query)
        found += [event["id"] for event in page["items"]]
        query["cursor"] = page["next_cursor"]

    assert found == [ids[name] for name in ("poll", "relay", "refused", "webhook")]
    assert page["next_cursor"] is None


def test_periods_are_found_by_the_times_of_the_log(ask: Ask) -> None:
    """A refused call is in the period in which it was logged, which begins with it or ends before it."""
    refusals = [ask.calls.refused(ask.calls.begin()) for _ in range(3)]
    times = {row.id: row.logged_at for row in ask.sender.rows()}
    first, second, third = (refusal.id for refusal in refusals)

    assert ask.ids(since=times[second], until=times[third]) == [second]
    assert ask.ids(until=times[second]) == [first]


# ---- states -------------------------------------------------------------------------------------------------------


def test_only_refused(ask: Ask) -> None:
    """An item that was not taken back, since the first refusal was received."""
    for status in (403, 409):
        ask.calls.refused(ask.calls.begin(), status)

    first = ask.sender.rows()[1]
    assert ask.state() == ("not_taken_back", None, None, 2)
    assert ask.item()["since"] == first.received_at


def test_begun_and_not_known_how_it_ended(ask: Ask) -> None:
    """Nothing was recorded that says what became of the item: neither by an intent, nor by what never arrived."""
    ask.calls.begin()
    ask.calls.not_sent(ask.calls.begin())

    assert ask.state() == ("no_record", None, None, 0)


def test_a_refusal_changes_nothing_that_was_done(ask: Ask) -> None:
    """What was taken back stays so, since when it was; whether the refusal was before it or after."""
    ask.calls.refused(ask.calls.begin(), 403)
    ask.calls.answered(ask.calls.begin())
    before = ask.item()

    ask.calls.refused(ask.calls.begin(), 409)

    after = ask.item()
    assert (before["state"], before["since"]) == ("taken_back", "2026-11-20T09:00:01.000000Z")
    assert (after["state"], after["since"], len(after["events"])) == (before["state"], before["since"], 3)


@pytest.mark.parametrize("provider", ["thanx", "voucherify"])
def test_a_refusal_changes_nothing_that_is_under_way(
    either_service: Service, key: dict[str, str], provider: str
) -> None:
    """What is pending stays so: the one that was refused is another call than the one that began it."""
    ask = asking(either_service, key, provider)
    ask.calls.answered(ask.calls.begin())
    before = ask.item()

    ask.calls.refused(ask.calls.begin(), 422)

    after = ask.item()
    assert (before["state"], after["state"]) == ("pending", "pending")
    assert (after["since"], len(after["events"])) == (before["since"], 2)


def test_a_refusal_changes_nothing_that_was_done_in_part(either_service: Service, key: dict[str, str]) -> None:
    """Neither how much was reversed, nor since when."""
    ask = asking(either_service, key, "scrip")
    ask.calls.answered(ask.calls.begin())
    before = ask.item()

    ask.calls.refused(ask.calls.begin(), 422)

    after = ask.item()
    assert (before["state"], before["reversed_amount"]) == ("partly", "500.00")
    assert {**after, "events": 0, "as_of": 0} == {**before, "events": 0, "as_of": 0}


# ---- one act, told twice --------------------------------------------------------------------------------------------


def test_a_receipt(either_service: Service, key: dict[str, str]) -> None:
    """Revoked by the call, and told by the webhook: one item with two events, and no rule is broken."""
    ask = asking(either_service, key, "truthlocks")
    answer = ask.calls.answered(ask.calls.begin())
    webhook = ask.sender.post(revoked(RECEIPT, revoked_at="2026-11-20T09:00:01Z")).json()

    shown = ask.item()

    assert (shown["state"], shown["since"]) == ("taken_back", "2026-11-20T09:00:01.000000Z")
    assert [(one["id"], one["via"]) for one in shown["events"]] == [
        (answer.id, "relay"),
        (webhook["event_id"], "webhook"),
    ]
    assert {one["operation"] for one in shown["events"]} == {RECEIPT}
    assert [one["breaches"] for one in shown["events"]] == [[], []]


def test_a_job(either_service: Service, key: dict[str, str]) -> None:
    """Begun and ended, each told by the relay or the record and by the operator's own systems: one reward, once."""
    ask = asking(either_service, key, "thanx")
    attempt = ask.calls.begin()
    revoking: dict[str, Any] = json.loads(as_json(ask.calls.example.answer))
    revoked_ = {"issuance_job": {**revoking["issuance_job"], "state": "revoked"}}

    def declare(job: dict[str, Any]) -> None:
        state = job["issuance_job"]["state"]
        document = {"type": f"issuance_job.{state}", "data": job, "request": {"merchant_id": MERCHANT}}
        assert ask.sender.post(json.dumps(document).encode()).json()["status"] == "recorded"

    ask.calls.answered(attempt)
    declare(revoking)
    assert ask.state(JOB) == ("pending", None, None, 2)
    ask.calls.looked_up(attempt, revoked_)
    assert ask.state(JOB) == ("taken_back", None, "1", 3)
    declare(revoked_)
    assert ask.state(JOB) == ("taken_back", None, "1", 4)
    assert [one["via"] for one in ask.item()["events"]] == ["relay", "declared", "poll", "declared"]
    assert [one["breaches"] for one in ask.item()["events"]] == [[], [], [], []]


def test_a_badge(either_service: Service, key: dict[str, str]) -> None:
    """Told by the answer and by an event notification: two events of one operation."""
    ask = asking(either_service, key, "capillary")
    ask.calls.answered(ask.calls.begin())
    badge: dict[str, Any] = json.loads(as_json(ask.calls.example.answer))["data"]
    document = {"eventName": "badgeRevoked", "eventId": "e-1", "orgId": 50933, "data": badge}
    assert ask.sender.post(json.dumps(document).encode()).json()["status"] == "recorded"

    assert ask.state(BADGE) == ("taken_back", None, None, 2)
    assert {one["operation"] for one in ask.item()["events"]} == {BADGE}
    assert [one["breaches"] for one in ask.item()["events"]] == [[], []]


def test_pending_points(either_service: Service, key: dict[str, str]) -> None:
    """Begun by the call, told again by the operator, and approved: sixty points, once."""
    ask = asking(either_service, key, "voucherify")
    answer: dict[str, Any] = json.loads(as_json(ask.calls.example.answer))

    def approved(status: str) -> dict[str, Any]:
        return {**answer, "transaction": {**answer["transaction"], "status": status}}

    def declare(document: dict[str, Any]) -> None:
        told = {"type": "pending_points.canceled", "data": document, "request": {"bucket_id": BUCKET}}
        assert ask.sender.post(json.dumps(told).encode()).json()["status"] == "recorded"

    ask.calls.answered(ask.calls.begin(), answer)
    declare(answer)
    assert ask.state(BUCKET) == ("pending", None, None, 2)
    declare(approved("APPROVED"))
    ask.calls.answered(ask.calls.begin(), approved("APPROVED"))
    assert ask.state(BUCKET) == ("taken_back", None, "60", 4)
    assert {one["operation"] for one in ask.item()["events"]} == {"lctx_1"}
    assert [one["breaches"] for one in ask.item()["events"]] == [[], [], [], []]


def test_a_redemption(either_service: Service, key: dict[str, str]) -> None:
    """Reversed in two parts, each told by an answer, by a webhook and by the record: each amount counts once."""
    ask = asking(either_service, key, "scrip")
    redemption = receipt_id()

    def told(kind: str, data: dict[str, Any]) -> None:
        envelope = {**FIVE["scrip"].document(redemption), "id": receipt_id(), "type": kind, "data": data}
        assert ask.sender.post(json.dumps(envelope).encode()).json()["status"] == "recorded"

    def reverse(amount: str) -> None:
        asked = {"reason": REASON, "amount": amount}
        attempt = ask.calls.begin({"id": redemption}, asked)
        reversal = {
            "id": receipt_id(),
            "redemption_id": redemption,
            "amount": amount,
            "quantity": None,
            "reason": REASON,
            "created_at": format_time(attempt.called_at),
        }
        ask.calls.answered(attempt, reversal)
        told("redemption.reversed", reversal)
        record = {"data": [reversal], "pagination": {"has_more": False, "next_cursor": None}}
        ask.calls.looked_up(ask.calls.begin({"id": redemption}, asked), record)

    told("redemption.completed", {"id": redemption, "amount": "500.00", "quantity": None})
    reverse("200.50")
    assert ask.state(redemption) == ("partly", "200.50", None, 4)
    reverse("299.50")
    assert ask.state(redemption) == ("taken_back", "500.00", None, 7)
    events = ask.item(redemption)["events"][1:]
    assert [one["via"] for one in events] == ["relay", "webhook", "poll"] * 2
    assert [one["breaches"] for one in events] == [[]] * 6
    assert len({one["operation"] for one in events}) == 2


# ---- evidence -----------------------------------------------------------------------------------------------------


def test_evidence_of_every_row_of_a_call(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An intent shows what was asked, an answer what was said; the command reads both, and claims nothing of either."""
    vkey = str(ask.service.tenant.log.verifying_key)
    attempt, again = ask.calls.begin(headers={"Authorization": "Bearer secret-token"}), ask.calls.begin()
    refusal = ask.calls.refused(attempt, 409)
    ask.calls.not_sent(again)
    answers = {
        refusal.id: "refused the call, with the status 409",
        attempt.id: "or that the provider was called at all",
    }

    for row in ask.sender.rows():
        answer = ask.service.client.get(f"/v1/events/{row.id}/evidence", headers=ask.key)
        verified = evidence.verify(answer.content, Policy.of(vkey))
        assert (verified.leaf.id, verified.leaf.kind, verified.withheld) == (row.id, "attempt", ())
        assert verified.event is not None
        assert verified.delivery is not None
        assert (verified.event["item"], verified.delivery.body) == ({"type": "receipt", "id": RECEIPT}, row.body)
        (tmp_path / "evidence").write_bytes(answer.content)
        assert cli.main(["verify", str(tmp_path / "evidence"), "--key", vkey]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert f"record attempt {row.id} event {OPERATION}" in printed
        assert answers.get(row.id, "") in printed
        assert "secret-token" not in answer.text
        assert "share (" not in printed


def test_evidence_of_what_an_answer_or_a_record_told(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the attempt, whose own evidence shows what was asked; and nobody shared a secret."""
    vkey = str(ask.service.tenant.log.verifying_key)
    attempt, later = ask.calls.begin(), ask.calls.begin()
    events = {ask.calls.answered(attempt).id: attempt, ask.calls.looked_up(later).id: later}
    said = ["The operator made the call itself", "The operator asked the provider"]

    for (event_id, its_attempt), sentence in zip(events.items(), said, strict=True):
        answer = ask.service.client.get(f"/v1/events/{event_id}/evidence", headers=ask.key)
        (tmp_path / "evidence").write_bytes(answer.content)
        assert cli.main(["verify", str(tmp_path / "evidence"), "--key", vkey]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert f"recorded that as the attempt {its_attempt.id}" in printed
        assert sentence in printed
        assert "share (" not in printed
