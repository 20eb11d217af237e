"""`/v1/holds`: by keys with the scope `operate`, each for its own tenant; and what a hold holds back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver.erasure import aging
from receiver.erasure.retention import set_days
from receiver.events import format_time, new_id
from receiver.fsck import fsck
from receiver.records.apikeys import Scope, create_key
from receiver.records.keeping import holds
from tests.receiver.service import Service, problem, revoked, until

ITEM = {"provider": "truthlocks", "type": "receipt", "id": "r1"}


class Caller:
    """Somebody with a key."""

    def __init__(self, service: Service, owner: str, tenant: str = "default") -> None:
        self.service = service
        name = f"{owner}'s {new_id()}"
        of = service.records.ensure_tenant(tenant)
        self.id, key = create_key(service.records, of, name, frozenset({Scope.OPERATE}), owner)
        self.headers = {"authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        """Ask for something under `/v1`."""
        return self.service.client.request(method, f"/v1{path}", headers=self.headers, json=body)

    def place(self, **covers: Any) -> dict[str, Any]:
        """Place a hold that must be taken."""
        answer = self.ask("POST", "/holds", {"reason": "lawsuit 7", **covers})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def release(self, hold: dict[str, Any]) -> httpx2.Response:
        """Release a hold."""
        return self.ask("POST", f"/holds/{hold['id']}/release", {"reason": "settled"})


@pytest.fixture
def ann(service: Service) -> Caller:
    """Who places holds."""
    return Caller(service, "Ann")


@pytest.fixture
def bob(service: Service) -> Caller:
    """Who releases them."""
    return Caller(service, "Bob")


def test_one_is_placed_and_found(service: Service, ann: Caller, bob: Caller) -> None:
    """The answer is all that there is to know of it; everybody of the tenant who may operate sees it."""
    item = {**ITEM, "id": "placed"}
    placed = ann.place(item=item)

    assert placed == {
        "id": placed["id"],
        "state": "in_force",
        "target": "item",
        "item": item,
        "source": None,
        "provider": None,
        "period": None,
        "reason": "lawsuit 7",
        "placed_by": ann.id,
        "placed_at": service.leaf(placed["log_index"]).logged_at,
        "log_index": placed["log_index"],
        "released_by": None,
        "released_at": None,
        "release_reason": None,
        "release_log_index": None,
    }
    assert service.leaf(placed["log_index"]).facts == {"by": ann.id, "hold": placed["id"], "state": "placed"}
    assert bob.ask("GET", f"/holds/{placed['id']}").json() == placed
    assert bob.ask("GET", "/holds?released=false&limit=1").json()["items"] == [placed]


@pytest.mark.parametrize(
    ("covers", "target"),
    [
        ({"provider": "scrip"}, "provider"),
        ({"person": "email:Jane@Example.com"}, "person"),
        ({"period": {"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}}, "period"),
    ],
)
def test_whatever_can_be_held(ann: Caller, bob: Caller, covers: dict[str, Any], target: str) -> None:
    """A person is repeated in no answer."""
    placed = ann.place(**covers)

    assert placed["target"] == target
    assert "example" not in str(placed).lower()
    assert bob.release(placed).status_code == 200


def test_it_is_released_with_the_key_of_somebody_else(ann: Caller, bob: Caller) -> None:
    """Whoever placed it is refused, with any key; afterwards it is released for good."""
    placed = ann.place(item=ITEM)
    refused = Caller(ann.service, " ANN").release(placed)
    assert (refused.status_code, problem(refused)["code"]) == (403, "PERMISSION_DENIED")
    assert "somebody else" in problem(refused)["detail"]

    released = bob.release(placed)
    assert (released.status_code, released.json()["state"], released.json()["released_by"]) == (
        200,
        "released",
        bob.id,
    )
    assert bob.ask("GET", f"/holds/{placed['id']}").json() == released.json()
    twice = bob.release(placed)
    assert (twice.status_code, problem(twice)["code"], problem(twice)["details"]) == (
        409,
        "CONFLICT",
        {"reason": "released"},
    )


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        ({}, "reason"),
        ({"reason": "why"}, "reason"),
        ({"reason": "why", "item": ITEM, "provider": "thanx"}, "provider"),
        ({"reason": "why", "item": "r1"}, "item"),
        ({"reason": "why", "item": {**ITEM, "id": 7}}, "item"),
        ({"reason": "why", "item": {"id": "r1"}}, "item"),
        ({"reason": "why", "source": "nobody"}, "source"),
        ({"reason": "why", "provider": "nobody"}, "provider"),
        ({"reason": "why", "person": "jane"}, "person"),
        ({"reason": "why", "period": {"since": "2020"}}, "period"),
        ({"reason": 7, "provider": "thanx"}, "reason"),
        ({"reason": "why", "everything": True}, "everything"),
    ],
)
def test_what_is_not_understood(ann: Caller, asked: dict[str, Any], member: str) -> None:
    """400 that names the member."""
    answer = ann.ask("POST", "/holds", asked)

    assert (answer.status_code, problem(answer)["code"]) == (400, "VALIDATION_ERROR")
    assert problem(answer)["details"].keys() == {member}


def test_it_is_the_tenants_own(service: Service, ann: Caller) -> None:
    """Another's key finds none; nor is anything found under what is no id."""
    placed = ann.place(item={**ITEM, "id": "mine"})
    eve = Caller(service, "Eve", "another")

    assert eve.ask("GET", "/holds").json() == {"items": [], "next_cursor": None}
    for answer in (
        eve.ask("GET", f"/holds/{placed['id']}"),
        eve.release(placed),
        ann.ask("GET", "/holds/nothing"),
        ann.ask("GET", "/holds/%00"),
    ):
        assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("scopes", ["audit", "export", "admin"])
def test_it_needs_the_scope_operate(service: Service, scopes: str) -> None:
    """To see holds as well as to place and release them."""
    headers = service.key(scopes)

    for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("POST", "/x/release")):
        answer = service.client.request(method, f"/v1/holds{path}", headers=headers)
        assert (answer.status_code, problem(answer)["details"]) == (403, {"scope": "operate"})


def test_a_list_is_read_page_by_page(ann: Caller) -> None:
    """Newest first; what is no parameter of it is refused."""
    placed = [ann.place(item={**ITEM, "id": f"page {number}"}) for number in range(3)]
    first = ann.ask("GET", "/holds?limit=2").json()
    second = ann.ask("GET", f"/holds?limit=1&cursor={first['next_cursor']}").json()

    assert [*first["items"], *second["items"]] == placed[::-1]
    assert ann.ask("GET", "/holds?released=over").status_code == 400
    assert ann.ask("GET", "/holds?of=me").status_code == 400
    assert ann.ask("GET", "/holds?cursor=x").status_code == 400


def test_a_hold_beats_an_erasure_which_runs_once_it_is_released(either_service: Service) -> None:
    """409, and nothing is erased; the request is kept, and completed by the time that the release is answered."""
    service = either_service
    sender, ann, bob = service.add_source(), Caller(service, "Ann"), Caller(service, "Bob")
    event = sender.post(revoked("held")).json()["event_id"]
    placed = ann.place(source=sender.source_id)

    refused = ann.ask("POST", "/erasures", {"event_id": event, "reason": "asked for"})
    assert (refused.status_code, problem(refused)["code"]) == (409, "CONFLICT")
    details = problem(refused)["details"]
    assert details == {"reason": "held", "erasure": details["erasure"], "hold": placed["id"]}
    assert ann.ask("GET", f"/erasures/{details['erasure']}").json()["state"] == "held"
    assert sender.rows()[0].body is not None

    assert bob.release(placed).status_code == 200
    until(lambda: ann.ask("GET", f"/erasures/{details['erasure']}").json()["state"] == "completed")
    assert (sender.rows()[0].body, sender.rows()[0].event_data) == (None, None)
    with service.records.database.read() as tx:
        assert tx.execute(sa.select(holds.c.released_at).where(holds.c.id == placed["id"])).scalar_one() is not None
    assert [str(one) for one in fsck(service.records).findings] == []


def test_a_hold_beats_retention(either_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too old goes, and what is held stays, until the hold is released."""
    service = either_service
    sender, tenant = service.add_source("aged"), service.records.tenant("aged")
    for receipt in ("held", "not held"):
        assert sender.post(revoked(receipt)).json()["status"] == "recorded"
    ann, bob = Caller(service, "Ann", "aged"), Caller(service, "Bob", "aged")
    placed = ann.place(item={**ITEM, "id": "held"})
    set_days(service.records, tenant, "truthlocks", 1)
    tomorrow = format_time(datetime.now(UTC) + timedelta(days=1))
    monkeypatch.setattr(aging, "_days_ago", {1: tomorrow}.__getitem__)

    assert [(one.erased, one.held) for one in aging.run(service.records, tenant)] == [(1, 1)]
    assert [row.body is None for row in sender.rows()] == [False, True]
    assert bob.release(placed).status_code == 200
    assert [(one.erased, one.held) for one in aging.run(service.records, tenant)] == [(1, 0)]
    assert [(row.body, row.event_data is None) for row in sender.rows()] == [(None, False), (None, False)]
    [one, other] = ann.ask("GET", "/erasures").json()["items"]
    assert [(one[name], other[name]) for name in ("target", "state", "erased")] == [
        ("retention", "retention"),
        ("completed", "completed"),
        (1, 1),
    ]
    assert [str(one) for one in fsck(service.records).findings] == []
