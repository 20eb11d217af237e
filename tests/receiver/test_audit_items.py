"""The state of an item over HTTP; every state from its events alone is in `test_item_states`."""

import json
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver import providers
from receiver.records.tables import deliveries, sources
from tests.receiver.service import Sender, Service, problem, receipt_id, revoked
from translog.policy import Policy


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


def ask(service: Service, key: dict[str, str], item: str, query: str = "") -> httpx2.Response:
    """Ask for an item, written as in the path."""
    return service.client.get(f"/v1/items/truthlocks/{item}{query}", headers=key)


def test_a_receipt_that_was_revoked(either_service: Service, either_sender: Sender, key: dict[str, str]) -> None:
    """Taken back, since the time its provider gives, with its events, as of the newest checkpoint."""
    receipt = receipt_id()
    event = either_sender.post(revoked(receipt)).json()
    size = either_service.until_published()

    answer = ask(either_service, key, f"receipt/{receipt}")

    members: dict[str, Any] = answer.json()
    assert answer.status_code == 200
    assert sorted(members) == ["as_of", "events", "item", "reversed_amount", "reversed_quantity", "since", "state"]
    assert members["item"] == {"type": "receipt", "id": receipt}
    assert (members["state"], members["since"]) == ("taken_back", "2026-11-20T08:59:58.000000Z")
    assert (members["reversed_amount"], members["reversed_quantity"]) == (None, None)
    assert [one["id"] for one in members["events"]] == [event["event_id"]]
    assert members["as_of"]["tree_size"] >= size
    checkpoint = Policy.of(either_service.tenant.log.verifying_key).open(members["as_of"]["checkpoint"].encode())
    assert checkpoint.size == members["as_of"]["tree_size"]


def test_nothing_is_known_of_it(either_service: Service, key: dict[str, str]) -> None:
    """200 `no_record` as of a checkpoint: it is an answer."""
    answer = ask(either_service, key, "receipt/never-seen")

    assert answer.status_code == 200
    assert answer.json() == {
        "item": {"type": "receipt", "id": "never-seen"},
        "state": "no_record",
        "since": None,
        "reversed_amount": None,
        "reversed_quantity": None,
        "as_of": answer.json()["as_of"],
        "events": [],
    }
    assert answer.json()["as_of"]["checkpoint"].startswith("example.com/rescind/log/default\n")


def test_neither_mismatch_nor_breach_changes_its_state(
    either_service: Service, either_sender: Sender, key: dict[str, str]
) -> None:
    """Revoked again, and told otherwise: it is taken back since the first time that is given."""
    receipt = receipt_id()
    either_sender.post(revoked(receipt, revoked_at="2026-11-20T10:00:00Z"))
    either_sender.post(revoked(receipt, revoked_at="2026-11-20T10:00:00Z", note="x"))
    either_sender.post(revoked(receipt, revoked_at="2026-11-20T09:00:00Z"))

    members = ask(either_service, key, f"receipt/{receipt}").json()

    assert (members["state"], members["since"]) == ("taken_back", "2026-11-20T09:00:00.000000Z")
    assert [len(one["mismatches"]) for one in members["events"]] == [1, 0]
    assert [[breach["code"] for breach in one["breaches"]] for one in members["events"]] == [[], ["revoked_again"]]


def test_context_alone_says_nothing_of_it(either_service: Service, either_sender: Sender, key: dict[str, str]) -> None:
    """No record of its having been taken back, and the notice that bears on it."""
    either_sender.post(b'{"event_type":"attestation.expired","attestation_id":"ctx"}')

    members = ask(either_service, key, "attestation/ctx").json()

    assert (members["state"], len(members["events"])) == ("no_record", 1)


def test_items_of_the_same_id_and_another_type_are_others(
    either_service: Service, either_sender: Sender, key: dict[str, str]
) -> None:
    """Type and id together name an item."""
    either_sender.post(b'{"event_type":"key.revoked","key_id":"same","revoked_at":"2026-11-20T09:00:00Z"}')

    states = {kind: ask(either_service, key, f"{kind}/same").json()["state"] for kind in ("key", "receipt", "Key")}

    assert states == {"key": "taken_back", "receipt": "no_record", "Key": "no_record"}


@pytest.mark.parametrize(
    ("receipt", "written"),
    [
        ("a/b", ["a/b", "a%2Fb"]),
        ("a//b", ["a//b", "a%2F%2Fb"]),
        ("a/", ["a/", "a%2F"]),
        ("/a", ["/a", "%2Fa"]),
        ("..", ["%2E%2E"]),
        ("a b", ["a%20b"]),
        ("a+b", ["a+b", "a%2Bb"]),
        ("a?b#c", ["a%3Fb%23c"]),
        ("a%2Fb", ["a%252Fb"]),
        ("é", ["%C3%A9"]),
    ],
)
def test_an_id_is_taken_as_it_is_written(
    either_service: Service, either_sender: Sender, key: dict[str, str], receipt: str, written: list[str]
) -> None:
    """However it looks in a path, it is that item and no other."""
    either_sender.post(revoked(receipt))

    for path in written:
        answer = ask_raw(either_service, key, path)
        assert (answer["item"]["id"], answer["state"]) == (receipt, "taken_back")


def ask_raw(service: Service, key: dict[str, str], path: str) -> dict[str, Any]:
    """Ask with the path exactly as written, which an HTTP library would tidy up."""
    lines = f"authorization: {key['authorization']}\r\nhost: x\r\nconnection: close\r\n"
    (reply,) = service.exchange(f"GET /v1/items/truthlocks/receipt/{path} HTTP/1.1\r\n{lines}\r\n".encode())
    return reply.json


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/items/nobody/receipt/x", 404),
        ("/v1/items/truthlocks/receipt", 404),
        ("/v1/items/truthlocks", 404),
        ("/v1/items/truthlocks/receipt/%ff", 404),
        ("/v1/items/truthlocks/receipt/%00", 400),
        ("/v1/items/truthlocks/%00/x", 400),
        ("/v1/items/truthlocks/receipt/x?source=%00", 400),
        ("/v1/items/truthlocks/receipt/x?account=%ff", 400),
        ("/v1/items/truthlocks/receipt/x?sauce=y", 400),
        ("/v1/items/truthlocks/receipt/x?provider=y", 400),
    ],
)
def test_what_names_no_item(either_service: Service, key: dict[str, str], path: str, status: int) -> None:
    """400 or 404, and no state of something else."""
    answer = either_service.client.get(path, headers=key)

    assert (answer.status_code, problem(answer)["status"]) == (status, status)


def test_one_id_in_two_accounts(either_service: Service, key: dict[str, str]) -> None:
    """409 that says by which parameters to tell them apart; by either, each has its own answer."""
    one, two = either_service.add_source(account="one"), either_service.add_source(account="two")
    receipt = receipt_id()
    one.post(revoked(receipt, tenant_id="one"))
    two.post(revoked(receipt, tenant_id="two", revoked_at="2026-11-20T07:00:00Z"))

    both = ask(either_service, key, f"receipt/{receipt}")

    assert (both.status_code, problem(both)["code"]) == (409, "CONFLICT")
    assert both.json()["details"] == {
        "source": ", ".join(sorted([one.source_id, two.source_id])),
        "account": "one, two",
    }
    assert "?source=" in both.json()["detail"]
    assert "?account=" in both.json()["detail"]
    for query in (f"?source={two.source_id}", "?account=two"):
        alone = ask(either_service, key, f"receipt/{receipt}", query).json()
        assert (alone["since"], len(alone["events"])) == ("2026-11-20T07:00:00.000000Z", 1)


def test_one_id_in_two_accounts_of_one_source(either_service: Service, key: dict[str, str]) -> None:
    """Naming the source is not enough; what names no account belongs to either."""
    sender, receipt = either_service.add_source(account=None), receipt_id()
    moments = {"one": "2026-11-20T09:00:00Z", "two": "2026-11-20T08:00:00Z", None: "2026-11-20T10:00:00Z"}
    for account, moment in moments.items():
        sender.post(revoked(receipt, tenant_id=account, revoked_at=moment))

    both = ask(either_service, key, f"receipt/{receipt}", f"?source={sender.source_id}")
    accounts = {
        name: ask(either_service, key, f"receipt/{receipt}", f"?account={name}&source={sender.source_id}").json()
        for name in ("one", "two", "three")
    }

    assert (both.status_code, both.json()["details"]) == (409, {"source": sender.source_id, "account": "one, two"})
    assert {name: (answer["since"][11:13], len(answer["events"])) for name, answer in accounts.items()} == {
        "one": ("09", 2),
        "two": ("08", 2),
        "three": ("10", 1),
    }


def test_a_test_says_nothing_of_an_item_that_is_real(either_service: Service, key: dict[str, str]) -> None:
    """It is left out, unless a test source is named, which has told nothing else of it."""
    live, test = either_service.add_source(), either_service.add_source(test=True)
    receipt, other = receipt_id(), receipt_id()
    test.post(revoked(receipt, revoked_at="2026-11-20T07:00:00Z"))
    test.post(revoked(other))
    live.post(revoked(receipt))

    def states(source: str = "") -> list[tuple[str, int]]:
        answers = [ask(either_service, key, f"receipt/{one}", source).json() for one in (receipt, other)]
        return [(answer["state"], len(answer["events"])) for answer in answers]

    assert states() == [("taken_back", 1), ("no_record", 0)]
    assert states(f"?source={live.source_id}") == [("taken_back", 1), ("no_record", 0)]
    assert states(f"?source={test.source_id}") == [("taken_back", 1), ("taken_back", 1)]
    with either_service.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == test.source_id).values(environment="live"))
    assert states(f"?source={test.source_id}") == [("no_record", 0), ("no_record", 0)]
    with either_service.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == live.source_id).values(environment="test"))
    assert states(f"?source={live.source_id}") == [("taken_back", 1), ("no_record", 0)]


def test_a_source_that_is_not_there_is_no_answer(either_service: Service, key: dict[str, str]) -> None:
    """404 that names it, be it a typo, empty, or another tenant's; never `no_record`."""
    ours, theirs = either_service.add_source(), either_service.add_source("elsewhere")

    for asked in (ours.source_id, ours.endpoint.source.name):
        assert ask(either_service, key, "receipt/never-seen", f"?source={asked}").json()["state"] == "no_record"
    wrong = [f"{ours.source_id}x", "Shop", "", theirs.source_id, theirs.endpoint.source.name]
    for asked in wrong:
        answer = ask(either_service, key, "receipt/never-seen", f"?source={asked}")
        assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")
        assert answer.json()["detail"] == f"There is no source {asked!r}"


@pytest.mark.parametrize("provider", providers.names())
def test_items_of_every_provider_are_asked_for_alike(
    either_service: Service, key: dict[str, str], provider: str
) -> None:
    """Of any type: what was never heard of has no record."""
    answer = either_service.client.get(f"/v1/items/{provider}/whatever/x", headers=key)

    assert (answer.status_code, answer.json()["state"]) == (200, "no_record")


def job(state: str) -> dict[str, Any]:
    """A declared job in that state, which issued twelve rewards."""
    data = {"id": "job-1", "state": state, "total_count": 15, "success_count": 12, "failure_count": 3}
    return {"type": f"issuance_job.{state}", "data": {"issuance_job": data}}


def badge(*, active: bool) -> dict[str, Any]:
    """A declared badge, still active or not."""
    return {"type": "badge.revoked", "data": {"earnedBadgeId": "b-1", "isActive": active}}


def cancellation(transaction: str, status: str) -> dict[str, Any]:
    """A declared cancellation of the same points."""
    data = {"id": transaction, "status": status, "details": {"points": {"total": 60}}}
    return {"type": "pending_points.canceled", "data": data, "request": {"bucket_id": "lcppb_1"}}


STORIES: dict[tuple[str, str], list[tuple[dict[str, Any], str, str | None]]] = {
    ("thanx", "issuance_job/job-1"): [(job("revoking"), "pending", None), (job("revoked"), "taken_back", "12")],
    ("capillary", "badge/b-1"): [
        (badge(active=True), "not_taken_back", None),
        (badge(active=False), "taken_back", None),
    ],
    ("voucherify", "pending_points/lcppb_1"): [
        (cancellation("lctx_1", "PENDING"), "pending", None),
        (cancellation("lctx_1", "REJECTED"), "not_taken_back", None),
        (cancellation("lctx_2", "PENDING"), "pending", None),
        (cancellation("lctx_2", "APPROVED"), "taken_back", "60"),
    ],
}


@pytest.mark.parametrize(("provider", "item"), STORIES)
def test_what_became_of_it_step_by_step(either_service: Service, key: dict[str, str], provider: str, item: str) -> None:
    """Each delivery brings the item into the state beside it, with how many were taken back by then."""
    sender = either_service.add_source(provider=provider, account=None)

    for delivery, state, quantity in STORIES[provider, item]:
        assert sender.post(json.dumps(delivery).encode()).json()["status"] == "recorded"
        answer = either_service.client.get(f"/v1/items/{provider}/{item}?source={sender.source_id}", headers=key)
        assert (answer.json()["state"], answer.json()["reversed_quantity"]) == (state, quantity)


def test_reversed_in_part_and_then_in_all(either_service: Service, key: dict[str, str]) -> None:
    """Of what was redeemed; how much is reversed so far, by amount or by units, and since when it is all of it."""
    sender = either_service.add_source(provider="scrip", account=None)
    by_amount, by_units = receipt_id(), receipt_id()

    def tell(redemption: str, kind: str, **data: object) -> None:
        document = {"id": receipt_id(), "type": kind, "data": {"redemption_id": redemption, "asset_id": "a", **data}}
        assert sender.post(json.dumps(document).encode()).json()["status"] == "recorded"

    def state(redemption: str) -> list[str | None]:
        answer = either_service.client.get(f"/v1/items/scrip/redemption/{redemption}", headers=key).json()
        return [answer[member] for member in ("state", "since", "reversed_amount", "reversed_quantity")]

    def reverse(redemption: str, hour: str, **part: object) -> list[str | None]:
        created_at = f"2026-11-20T{hour}:00:00Z"
        tell(redemption, "redemption.reversed", id=receipt_id(), reason="r", created_at=created_at, **part)
        return state(redemption)

    tell(by_amount, "redemption.completed", amount="500.00", quantity=None)
    assert state(by_amount) == ["no_record", None, None, None]
    assert reverse(by_amount, "09", amount="200.50") == ["partly", "2026-11-20T09:00:00.000000Z", "200.50", None]
    assert reverse(by_amount, "10", amount="299.5") == ["taken_back", "2026-11-20T10:00:00.000000Z", "500.00", None]

    tell(by_units, "redemption.completed", amount=None, quantity=3)
    assert reverse(by_units, "09", quantity=1) == ["partly", "2026-11-20T09:00:00.000000Z", None, "1"]
    assert reverse(by_units, "10", quantity=2) == ["taken_back", "2026-11-20T10:00:00.000000Z", None, "3"]


def test_an_item_whose_events_are_erased(either_service: Service, either_sender: Sender, key: dict[str, str]) -> None:
    """It can still be said to be erased, and no more: what was its own is null."""
    receipt = receipt_id()
    event = either_sender.post(revoked(receipt)).json()
    gone = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    with either_service.records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == event["event_id"]).values(**gone))

    members = ask(either_service, key, f"receipt/{receipt}").json()

    assert (members["state"], members["since"]) == ("erased", None)
    (shown,) = members["events"]
    assert shown["erased"] is True
    assert (shown["item"], shown["account"], shown["occurred_at"], shown["details"]) == (None, None, None, {})
    assert (shown["effect"], shown["log_index"]) == ("revoked", event["log_index"])
