"""`/v1/erasures`: by keys with the scope `operate`; and what every other answer says of what is erased."""

import logging
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from receiver.events import new_id
from receiver.records.apikeys import Scope, create_key
from receiver.records.pending import Held, Pending
from tests.receiver.holding import acting, hold, release
from tests.receiver.passed_on import Calls
from tests.receiver.service import Sender, Service, problem, receipt_id, revoked
from translog import evidence
from translog.policy import Policy
from translog.proof import TlogProof

JANE = "jane@example.com"


class Operator:
    """Somebody who may do everything."""

    def __init__(self, service: Service, owner: str = "Ann", tenant: str = "default") -> None:
        self.service = service
        of = service.records.ensure_tenant(tenant)
        self.id, key = create_key(service.records, of, f"{owner} {new_id()}", frozenset(Scope), owner)
        self.headers = {"authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Ask for something under `/v1`."""
        return self.service.client.request(method, f"/v1{path}", headers={**self.headers, **headers}, json=body)

    def get(self, path: str) -> dict[str, Any]:
        """Ask for what is there."""
        answer = self.ask("GET", path, accept="application/json")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def erase(self, **asked: Any) -> dict[str, Any]:
        """Erase what can be."""
        answer = self.ask("POST", "/erasures", {"reason": "they asked for it", **asked})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def ann(service: Service) -> Operator:
    """Who erases."""
    return Operator(service)


def item(name: str) -> dict[str, str]:
    """A receipt, as it is asked for."""
    return {"provider": "truthlocks", "type": "receipt", "id": name}


def test_an_event_is_erased(service: Service, sender: Sender, ann: Operator) -> None:
    """The answer says what became of it, and is given again to whoever asks for it later."""
    event = sender.post(revoked()).json()
    answer = ann.erase(event_id=event["event_id"])

    assert answer == {
        "id": answer["id"],
        "state": "completed",
        "target": "event",
        "erased": 1,
        "asked_at": answer["asked_at"],
        "completed_at": answer["completed_at"],
        "entries": [service.size() - 1],
        "exports": [],
        "evidence": [],
    }
    assert service.leaf(answer["entries"][0]).facts["by"] == ann.id
    assert answer == ann.get(f"/erasures/{answer['id']}")
    listed = {name: answer[name] for name in ("id", "state", "target", "erased", "asked_at", "completed_at")}
    assert listed == ann.get("/erasures?limit=1")["items"][0]
    assert ann.get(f"/erasures?cursor={answer['id']}&limit=1000")["next_cursor"] is None


def test_every_answer_says_that_it_is_erased(service: Service, sender: Sender, ann: Operator) -> None:
    """The event, its item, its evidence; and the entry that says so is proven like any other."""
    receipt = receipt_id()
    event = sender.post(revoked(receipt, subject=JANE)).json()
    mismatch = sender.post(revoked(receipt, note="x")).json()
    service.until_published()
    before = ann.get(f"/events/{event['event_id']}/evidence")
    answer = ann.erase(person=f"email:{JANE}")
    assert [(event["event_id"], ann.id)] == [(one["event_id"], one["given_to"]) for one in answer["evidence"]]

    shown = ann.get(f"/events/{event['event_id']}")
    assert shown["erased"] is True
    assert {shown[name] for name in ("item", "account", "operation", "occurred_at", "extent")} == {None}
    assert shown["mismatches"] == [{**shown["mismatches"][0], "log_index": mismatch["log_index"]}]
    assert ann.get(f"/items/truthlocks/receipt/{receipt}")["state"] == "erased"
    service.until_published()
    after = ann.get(f"/events/{event['event_id']}/evidence")
    assert (after["event"], after["delivery"], after["issuer"]) == (None, None, None)
    assert after["entry"] == before["entry"]
    assert after["erased_by"] == {**after["erased_by"], "log_index": answer["entries"][0], "extent": "all"}

    text = ann.ask("GET", f"/events/{event['event_id']}/evidence", accept="text/plain")
    assert text.headers["x-rescind-erased-by"] == after["erased_by"]["id"]
    policy = Policy.of(service.tenant.log.verifying_key)
    for its_id, opened in ((event["event_id"], False), (after["erased_by"]["id"], True)):
        shown = ann.ask("GET", f"/events/{its_id}/evidence", accept="text/plain")
        proof = TlogProof.parse(shown.content)
        told = evidence.Evidence.parse(proof.extra or b"")
        proof.verify(told.entry, policy)
        assert (told.event is not None) == opened
    assert ann.erase(event_id=event["event_id"])["erased"] == 0


def test_an_answer_that_waits(service: Service, sender: Sender, ann: Operator) -> None:
    """A hold may cover it, which nobody knows yet: its call is not erased now, and that is not said to be held."""
    records = service.records
    call, pending = Calls(service, sender).begin(), Pending.of(records)
    pending.put(Held(call.id, "default", sender.source_id, 200, b"{}", datetime.now(UTC)))
    placed = hold(records, acting(records, "Bob"), item=item("of another"))

    answer = problem(ann.ask("POST", "/erasures", {"reason": "x", "event_id": call.id}))
    assert (answer["status"], answer["code"]) == (409, "CONFLICT")
    erasure = answer["details"]["erasure"]
    assert answer["details"] == {"reason": "answer_waits", "erasure": erasure, "hold": placed.id}
    assert ann.get(f"/erasures/{erasure}")["state"] == "running"
    pending.drop(call.id)
    assert ann.erase(event_id=call.id)["state"] == "completed"
    release(records, placed, acting(records, "Cid"))


def test_what_is_not_there(ann: Operator, sender: Sender) -> None:
    """An event is 404; of an item, or a person, that nothing is kept of it is an answer."""
    for its_id in (new_id(), JANE, "", "\ufffd"):
        answer = ann.ask("POST", "/erasures", {"reason": "x", "event_id": its_id})
        assert problem(answer)["code"] == "NOT_FOUND"
        assert JANE not in answer.text
    assert ann.erase(item=item("never heard of"))["erased"] == 0
    assert ann.erase(person="customer_id:nobody")["erased"] == 0
    assert problem(ann.ask("GET", f"/erasures/{new_id()}"))["status"] == 404
    other = Operator(sender.service, tenant="other")
    mine = ann.erase(item=item("never heard of"))["id"]
    assert problem(other.ask("GET", f"/erasures/{mine}"))["status"] == 404
    assert other.get("/erasures")["items"] == []


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        ({"reason": "x"}, "event_id"),
        ({"event_id": "x"}, "reason"),
        ({"reason": "", "event_id": "x"}, "reason"),
        ({"reason": "x", "person": JANE}, "person"),
        ({"reason": "x", "person": f"mail:{JANE}"}, "person"),
        ({"reason": "x", "person": "email:a@b", "event_id": "x"}, "person"),
        ({"reason": "x", "item": {"provider": "truthlocks", "type": "receipt"}}, "item"),
        ({"reason": "x", "item": {**item("x"), "id": 1}}, "item"),
        ({"reason": "x", "item": "x"}, "item"),
        ({"reason": "x", "everything": True}, "everything"),
    ],
)
def test_what_cannot_be_asked(ann: Operator, asked: dict[str, Any], member: str) -> None:
    """400 that names the member, and nothing of whom it was about."""
    answer = ann.ask("POST", "/erasures", asked)
    assert (answer.status_code, [*problem(answer)["details"]]) == (400, [member])
    assert JANE not in answer.text


@pytest.mark.parametrize("path", ["/erasures", f"/erasures/{new_id()}"], ids=["all", "one"])
def test_other_scopes(service: Service, path: str) -> None:
    """None but `operate` will do."""
    key = service.key("audit,export,admin")
    answer = service.client.get(f"/v1{path}", headers=key)
    assert (answer.status_code, problem(answer)["details"]) == (403, {"scope": "operate"})
    answer = service.client.post("/v1/erasures", headers=key, json={"reason": "x", "event_id": "x"})
    assert answer.status_code == 403
    assert service.client.post("/v1/erasures", json={}).status_code == 401


def test_what_is_held(service: Service, sender: Sender, ann: Operator) -> None:
    """409 that names the hold and the request, which is done once another owner's key releases it."""
    receipt = receipt_id()
    sender.post(revoked(receipt, subject="held@example.com"))
    hold = ann.ask("POST", "/holds", {"reason": "lawsuit 7", "item": item(receipt)}).json()
    answer = ann.ask("POST", "/erasures", {"reason": "x", "person": "email:held@example.com"})

    assert (answer.status_code, problem(answer)["code"]) == (409, "CONFLICT")
    details = problem(answer)["details"]
    assert details == {"reason": "held", "erasure": details["erasure"], "hold": hold["id"]}
    assert ann.get(f"/erasures/{details['erasure']}")["state"] == "held"
    assert ann.get(f"/items/truthlocks/receipt/{receipt}")["state"] == "taken_back"
    bob = Operator(service, "Bob")
    assert bob.ask("POST", f"/holds/{hold['id']}/release", {"reason": "settled"}).status_code == 200
    assert ann.get(f"/erasures/{details['erasure']}")["state"] == "completed"
    assert ann.get(f"/items/truthlocks/receipt/{receipt}")["state"] == "erased"


def test_calls_and_quarantine_say_so(service: Service, sender: Sender, ann: Operator) -> None:
    """What was asked is null, and so are headers and body."""
    calls = Calls(service, sender)
    call = calls.begin()
    calls.refused(call)
    quarantined = sender.post(b'{"event_type":"receipt.unheard"}').json()["quarantine_id"]
    assert ann.erase(item=item(call.item.id))["erased"] == 2
    assert ann.erase(event_id=quarantined)["erased"] == 1

    shown = ann.get(f"/attempts/{call.id}")
    assert (shown["erased"], shown["item"], shown["idempotency_key"]) == (True, None, None)
    assert shown["outcome"] == "refused"
    shown = ann.get(f"/quarantine/{quarantined}")
    assert (shown["erased"], shown["headers"], shown["body"], shown["size"]) == (True, None, None, None)
    answer = ann.ask("POST", f"/quarantine/{quarantined}/reprocess")
    assert answer.status_code == 409


def test_a_replay_is_a_duplicate(sender: Sender, ann: Operator) -> None:
    """Answered with the first one's id and index; nothing is written."""
    body = revoked()
    event = sender.post(body).json()
    ann.erase(event_id=event["event_id"])
    again = sender.post(body).json()
    assert (again["status"], again["event_id"], again["log_index"]) == (
        "duplicate",
        event["event_id"],
        event["log_index"],
    )
    assert [row.body for row in sender.rows()] == [None]


def test_nobody_is_named_in_logs(sender: Sender, ann: Operator, caplog: pytest.LogCaptureFixture) -> None:
    """Neither who was erased nor why."""
    caplog.set_level(logging.DEBUG)
    sender.post(revoked(subject="logged@example.com"))
    ann.ask("POST", "/erasures", {"reason": "because of Jane", "person": "email:logged@example.com"})
    ann.ask("POST", "/erasures", {"reason": "because of Jane", "person": "logged@example.com"})
    assert "logged@example.com" not in caplog.text
    assert "because of Jane" not in caplog.text
