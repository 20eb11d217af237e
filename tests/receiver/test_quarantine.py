"""`/v1/quarantine`: what is there, and reading it again by HTTP."""

import base64
import sqlite3
from collections.abc import Generator
from contextlib import closing
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

import receiver.records.engine
from receiver.audit.quarantined import REASONS
from receiver.intake.recorder import UNRECORDABLE
from receiver.intake.submission import NOT_JSON, OTHER_ACCOUNT
from receiver.records.keeping import erasures
from receiver.records.tables import deliveries
from tests.receiver.service import Sender, Service, at_once, problem, receipt_id, revoked, running, settings_in
from translog.merkle import leaf_hash
from translog.store import logs

NOBODY = "0198a1b2-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scopes `audit` and `operate`."""
    return either_service.key("audit,operate")


@pytest.fixture
def ask(either_service: Service, either_sender: Sender, key: dict[str, str]) -> "Ask":
    """Questions about one source, put with it."""
    return Ask(either_service, either_sender, key)


class Ask:
    """Questions to `/v1/quarantine` about one source."""

    def __init__(self, service: Service, sender: Sender, key: dict[str, str]) -> None:
        self.service = service
        self.sender = sender
        self.key = key

    def answer(self, **query: str | int) -> httpx2.Response:
        """The answer to a list."""
        return self.service.client.get("/v1/quarantine", params=query, headers=self.key)

    def items(self, **query: str | int) -> list[dict[str, Any]]:
        """What is in quarantine of the source."""
        answer = self.answer(source=self.sender.source_id, **query)
        assert answer.status_code == 200, answer.text
        assert sorted(answer.json()) == ["items", "next_cursor"]
        return answer.json()["items"]

    def ids(self, **query: str | int) -> list[str]:
        """Their ids."""
        return [item["id"] for item in self.items(**query)]

    def quarantined(self, body: bytes) -> str:
        """Deliver what is not understood; its id."""
        answer = self.sender.post(body).json()
        assert answer["status"] == "quarantined"
        return answer["quarantine_id"]

    def one(self, quarantine_id: str) -> httpx2.Response:
        """The answer about one."""
        return self.service.client.get(f"/v1/quarantine/{quarantine_id}", headers=self.key)

    def reprocess(self, quarantine_id: str) -> httpx2.Response:
        """The answer when it is read again."""
        return self.service.client.post(f"/v1/quarantine/{quarantine_id}/reprocess", headers=self.key)

    def set_account(self, account: str | None) -> None:
        """Change the source's account."""
        with self.service.records.database.write() as tx:
            statement = sa.text("UPDATE sources SET account = :account WHERE id = :id")
            tx.execute(statement, {"account": account, "id": self.sender.source_id})


# ---- what is there ------------------------------------------------------------------------------------------------


def test_a_quarantined_delivery_in_full(ask: Ask) -> None:
    """In the list without what was delivered, by its id with it."""
    body = revoked(tenant_id="another")
    headers = ask.sender.headers(body)
    answer = ask.sender.post(body, headers=headers).json()
    [row] = ask.sender.rows()
    expected = {
        "id": answer["quarantine_id"],
        "source": ask.sender.source_id,
        "provider": "truthlocks",
        "reason": "other_account",
        "scheme": "standard-webhooks",
        "test": False,
        "received_at": row.received_at,
        "logged_at": row.logged_at,
        "log_index": answer["log_index"],
        "leaf_hash": answer["leaf_hash"],
        "size": len(body),
        "reprocessed": None,
        "erased": False,
    }

    assert ask.items() == [expected]
    assert ask.one(row.id).json() == {**expected, "headers": headers, "body": base64.b64encode(body).decode()}


def test_nothing_else_is_there(ask: Ask) -> None:
    """Neither events nor mismatches, nor what was ignored."""
    receipt = receipt_id()
    for body in (revoked(receipt), revoked(receipt, note="x"), b'{"event_type":"receipt.created"}'):
        ask.sender.post(body)

    assert ask.items() == []
    for row in ask.sender.rows():
        assert ask.one(row.id).status_code == 404


def test_newest_first_and_page_by_page(ask: Ask) -> None:
    """Without a gap or a double, whatever is delivered meanwhile."""
    ids = [ask.quarantined(b"{" * number) for number in range(1, 6)]
    found: list[str] = []
    query: dict[str, str | int] = {"limit": 2, "source": ask.sender.source_id}
    for size in (2, 2, 1):
        page = ask.answer(**query).json()
        assert len(page["items"]) == size
        found += [item["id"] for item in page["items"]]
        ask.quarantined(b"[" * len(found))
        query["cursor"] = page["next_cursor"]

    assert found == ids[::-1]
    assert page["next_cursor"] is None


def test_filters(either_service: Service, ask: Ask) -> None:
    """By source (id or name), provider, reason and time of receipt; together they narrow down."""
    first, second = ask.quarantined(b"{"), ask.quarantined(b"{}")
    other = Ask(either_service, either_service.add_source(), ask.key).quarantined(b"{")
    early, late = (row.received_at for row in ask.sender.rows())

    assert ask.ids() == [second, first]
    everything = [item["id"] for item in ask.answer().json()["items"]]
    assert everything[:3] == [other, second, first]
    named = ask.answer(source=ask.sender.endpoint.source.name).json()["items"]
    assert [item["id"] for item in named] == [second, first]
    assert ask.answer(source="nobody").json()["items"] == []
    assert ask.ids(provider="truthlocks") == [second, first]
    assert ask.ids(reason="not_json") == [first]
    assert ask.ids(reason="unknown_type") == []
    assert ask.ids(since=late) == [second]
    assert ask.ids(until=late) == [first]
    assert ask.ids(since=early, until=late, reason="wrong_shape") == []


def test_every_reason_can_be_asked_for(ask: Ask) -> None:
    """All that intake and providers give."""
    assert {NOT_JSON, OTHER_ACCOUNT, UNRECORDABLE, "wrong_shape", "unknown_type"} == set(REASONS)
    for reason in REASONS:
        assert ask.answer(reason=reason).status_code == 200


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("reason=melted", "reason"),
        ("reprocessed=open", "reprocessed"),
        ("reprocessed=true&reprocessed=true", "reprocessed"),
        ("provider=nobody", "provider"),
        ("since=yesterday", "since"),
        ("until=2026", "until"),
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("limit=1&limit=2", "limit"),
        ("source=%00", "source"),
        ("kind=quarantine", "kind"),
        ("reprocessed=false&kind=quarantine", "kind"),
    ],
)
def test_what_is_not_understood(either_service: Service, key: dict[str, str], query: str, named: str) -> None:
    """400 that names the parameter."""
    answer = either_service.client.get(f"/v1/quarantine?{query}", headers=key)

    assert (answer.status_code, problem(answer)["code"]) == (400, "VALIDATION_ERROR")
    assert list(answer.json()["details"]) == [named]


def test_reprocessing_takes_no_parameters(either_service: Service, key: dict[str, str]) -> None:
    """400: what is meant by one cannot be known, so nothing is done."""
    answer = either_service.client.post(f"/v1/quarantine/{NOBODY}/reprocess?reason=not_json", headers=key)

    assert (answer.status_code, problem(answer)["details"]) == (400, {"reason": "unknown"})


def test_an_erased_delivery(ask: Ask) -> None:
    """It is still listed, and said to be erased; what it was is gone, and it cannot be read again."""
    quarantine_id = ask.quarantined(b"{")
    with ask.service.records.database.write() as tx:
        gone = dict.fromkeys(("headers", "body", "delivery_salt"))
        tx.execute(sa.update(deliveries).where(deliveries.c.id == quarantine_id).values(**gone))

    [item] = ask.items()
    one = ask.one(quarantine_id).json()
    answer = ask.reprocess(quarantine_id)

    assert (item["id"], item["size"], item["erased"]) == (quarantine_id, None, True)
    assert (one["headers"], one["body"], one["erased"]) == (None, None, True)
    assert (answer.status_code, problem(answer)["code"]) == (409, "CONFLICT")
    assert "is erased" in answer.json()["detail"]


@pytest.mark.parametrize("quarantine_id", [NOBODY, "x", "%00", "%ff", "a" * 5000, "..%2F..", "'--"])
def test_there_is_none(either_service: Service, key: dict[str, str], quarantine_id: str) -> None:
    """404, whatever it is that was asked for."""
    path = f"/v1/quarantine/{quarantine_id}"
    for answer in (
        either_service.client.get(path, headers=key),
        either_service.client.post(f"{path}/reprocess", headers=key),
    ):
        assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")


# ---- reading it again ---------------------------------------------------------------------------------------------


def test_an_event_after_all(ask: Ask) -> None:
    """The answer is that to a delivery; it is pending no more, and found as an event with proof."""
    body = revoked(tenant_id="another")
    quarantine_id = ask.quarantined(body)
    still = ask.reprocess(quarantine_id)
    ask.set_account("another")

    answer = ask.reprocess(quarantine_id)

    quarantine, row = ask.sender.rows()
    assert still.json() == {
        "status": "quarantined",
        "quarantine_id": quarantine_id,
        "log_index": quarantine.log_index,
        "leaf_hash": leaf_hash(ask.service.entry(quarantine.log_index)).hex(),
        "reason": "other_account",
    }
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "status": "recorded",
        "event_id": row.id,
        "log_index": row.log_index,
        "leaf_hash": leaf_hash(ask.service.entry(row.log_index)).hex(),
    }
    assert ask.reprocess(quarantine_id).json() == answer.json()
    assert (ask.ids(), ask.ids(reprocessed="false")) == ([], [])
    [item] = ask.items(reprocessed="true")
    assert (item["id"], item["reprocessed"]["status"], item["reprocessed"]["event_id"]) == (
        quarantine_id,
        "recorded",
        row.id,
    )
    assert item["reprocessed"]["at"] == row.logged_at
    assert ask.one(quarantine_id).json()["reprocessed"] == item["reprocessed"]
    event = ask.service.client.get(f"/v1/events/{row.id}", headers=ask.key).json()
    assert (event["received_at"], event["account"]) == (quarantine.received_at, "another")
    assert ask.service.client.get(f"/v1/events/{row.id}/evidence", headers=ask.key).status_code == 200


def test_duplicate_and_mismatch(ask: Ask) -> None:
    """Both name the event that is there already; only of the mismatch something was written."""
    receipt = receipt_id()
    same, differs = (ask.quarantined(revoked(receipt, tenant_id="another", note=note)) for note in ("a", "b"))
    ask.set_account("another")
    ask.service.refresh()
    event = ask.sender.post(revoked(receipt, tenant_id="another", note="a")).json()

    duplicate, mismatch = ask.reprocess(same).json(), ask.reprocess(differs).json()

    assert duplicate == {**event, "status": "duplicate"}
    row = ask.sender.rows()[-1]
    assert (row.kind, row.first_id) == ("mismatch", event["event_id"])
    assert mismatch == {
        "status": "mismatch",
        "event_id": event["event_id"],
        "log_index": row.log_index,
        "leaf_hash": leaf_hash(ask.service.entry(row.log_index)).hex(),
        "reason": "content_differs",
    }
    done = [(item["id"], item["reprocessed"]) for item in ask.items(reprocessed="true")]
    assert [(one, became["status"], became["event_id"]) for one, became in done] == [
        (differs, "mismatch", event["event_id"]),
        (same, "duplicate", None),
    ]
    shown = ask.service.client.get(f"/v1/events/{event['event_id']}", headers=ask.key).json()["mismatches"]
    assert [one["id"] for one in shown] == [row.id]


def test_a_duplicate_of_what_is_erased(ask: Ask) -> None:
    """Whoever has it read again asks for its erasure."""
    body = revoked(receipt_id(), tenant_id="another")
    quarantine_id = ask.quarantined(body)
    ask.set_account("another")
    ask.service.refresh()
    asked = {"event_id": ask.sender.post(body).json()["event_id"], "reason": "they asked for it"}
    erased = ask.service.client.post("/v1/erasures", json=asked, headers=ask.key).json()

    assert ask.reprocess(quarantine_id).json()["status"] == "duplicate"
    with ask.service.records.database.read() as tx:
        rows = {row.id: row for row in tx.execute(sa.select(erasures))}
    [of_copy] = [row for row in rows.values() if row.event_id == quarantine_id]
    assert of_copy.asked_by == rows[erased["id"]].asked_by


def test_what_bears_on_nothing(ask: Ask) -> None:
    """Ignored, once the provider's module knows the type."""
    body = b'{"event_type":"receipt.created"}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("receiver.providers.truthlocks._IGNORED", frozenset[str]())
        quarantine_id = ask.quarantined(body)

    answers = [ask.reprocess(quarantine_id) for _ in range(2)]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"status": "ignored"})] * 2
    [item] = ask.items(reprocessed="true")
    assert (item["reprocessed"]["status"], item["reprocessed"]["event_id"]) == ("ignored", None)


def test_many_at_once(ask: Ask) -> None:
    """While deliveries come in: one event, and the same answer to all."""
    quarantine_id = ask.quarantined(revoked(tenant_id="another"))
    ask.set_account(None)

    def work(number: int) -> httpx2.Response:
        return ask.sender.post(revoked()) if number % 2 else ask.reprocess(quarantine_id)

    answers = at_once(16, work)

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers[::2]}) == 1
    assert [row.kind for row in ask.sender.rows()].count("revocation") == 9


def test_a_tenant_reaches_its_own_only(either_service: Service, ask: Ask) -> None:
    """Another tenant's is answered as one that does not exist, whatever header asks for it."""
    quarantine_id = ask.quarantined(b"{")
    key = {**either_service.key("audit,operate", "elsewhere"), "x-tenant-id": "default"}
    other = Ask(either_service, ask.sender, key)

    assert other.answer().json()["items"] == []
    for there, nowhere in (
        (other.one(quarantine_id), other.one(NOBODY)),
        (other.reprocess(quarantine_id), other.reprocess(NOBODY)),
    ):
        assert (there.status_code, there.text.replace(quarantine_id, NOBODY)) == (404, nowhere.text)
    assert ask.ids() == [quarantine_id]


@pytest.mark.parametrize(
    ("method", "path", "scope", "others"),
    [
        ("GET", "/v1/quarantine", "audit", "export,operate,admin"),
        ("GET", f"/v1/quarantine/{NOBODY}", "audit", "export,operate,admin"),
        ("POST", f"/v1/quarantine/{NOBODY}/reprocess", "operate", "audit,export,admin"),
    ],
)
def test_the_scope_that_is_needed(service: Service, method: str, path: str, scope: str, others: str) -> None:
    """To read it is an auditor's, to reprocess an operator's."""
    without = service.client.request(method, path)
    wrong = service.client.request(method, path, headers=service.key(others))
    right = service.client.request(method, path, headers=service.key(scope))

    assert (without.status_code, problem(without)["code"]) == (401, "AUTH_REQUIRED")
    assert (wrong.status_code, problem(wrong)["details"]) == (403, {"scope": scope})
    assert right.status_code in {200, 404}


# ---- when nothing can be written ----------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Generator[Ask]:
    """A source of a service that a test may break, which waits for a lock for a fifth of a second."""
    monkeypatch.setattr(receiver.records.engine, "BUSY_TIMEOUT_MS", 200)
    with running(settings_in(tmp_path_factory.mktemp("alone"))) as service:
        yield Ask(service, service.add_source(account="another"), service.key("audit,operate"))


def test_the_database_is_away(alone: Ask) -> None:
    """503 while something else writes to it; then it is as if nothing had been asked."""
    quarantine_id = alone.quarantined(revoked())
    alone.set_account(None)
    with closing(sqlite3.connect(alone.service.records.settings.data / "rescind.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = alone.reprocess(quarantine_id)
        other.execute("ROLLBACK")

    assert (answer.status_code, problem(answer)["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert alone.reprocess(quarantine_id).json()["status"] == "recorded"


def test_recording_has_stopped(alone: Ask) -> None:
    """503: not even what would write nothing is tried any more."""
    quarantine_id = alone.quarantined(b"{")
    alone.service.intake.recorder.halt("a test")

    answer = alone.reprocess(quarantine_id)

    assert (answer.status_code, problem(answer)["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert "recording has stopped" in answer.json()["detail"]


def test_a_log_that_regressed_stops_recording(alone: Ask) -> None:
    """503, and from then on for deliveries as well."""
    quarantine_id = alone.quarantined(b"{")
    with alone.service.records.database.write() as tx:
        tx.execute(sa.update(logs).values(size=1))

    answer = alone.reprocess(quarantine_id)

    assert (answer.status_code, problem(answer)["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert alone.service.intake.recorder.refusal is not None
    assert alone.sender.post(revoked()).status_code == 503
