"""The state of an item: over HTTP, and every state from its events alone."""

from dataclasses import replace
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver.audit.items import reversed_amount, state_of
from receiver.audit.shapes import CrossCheckShape, EventShape, ItemShape
from receiver.records.tables import deliveries
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
    assert sorted(members) == ["as_of", "events", "item", "reversed_amount", "since", "state"]
    assert members["item"] == {"type": "receipt", "id": receipt}
    assert (members["state"], members["since"]) == ("taken_back", "2026-11-20T08:59:58.000000Z")
    assert members["reversed_amount"] is None
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
        ("/v1/items/truthlocks/receipt/x?sauce=y", 400),
        ("/v1/items/truthlocks/receipt/x?provider=y", 400),
    ],
)
def test_what_names_no_item(either_service: Service, key: dict[str, str], path: str, status: int) -> None:
    """400 or 404, and no state of something else."""
    answer = either_service.client.get(path, headers=key)

    assert (answer.status_code, problem(answer)["status"]) == (status, status)


def test_one_id_in_two_accounts(either_service: Service, key: dict[str, str]) -> None:
    """409 that says to name the source; then each has its own answer."""
    one, two = either_service.add_source(account="one"), either_service.add_source(account="two")
    receipt = receipt_id()
    one.post(revoked(receipt, tenant_id="one"))
    two.post(revoked(receipt, tenant_id="two", revoked_at="2026-11-20T07:00:00Z"))

    both = ask(either_service, key, f"receipt/{receipt}")
    alone = ask(either_service, key, f"receipt/{receipt}", f"?source={two.source_id}").json()

    assert (both.status_code, problem(both)["code"]) == (409, "CONFLICT")
    assert both.json()["details"] == {"source": ", ".join(sorted([one.source_id, two.source_id]))}
    assert (alone["since"], len(alone["events"])) == ("2026-11-20T07:00:00.000000Z", 1)


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


# ---- every state, from events alone -------------------------------------------------------------------------------

EVENT = EventShape(
    id="e",
    source="s",
    provider="p",
    event="t",
    item=ItemShape("i", "1"),
    effect="revoked",
    extent="full",
    amount=None,
    quantity=None,
    reason=None,
    via="webhook",
    scheme="token",
    account=None,
    operation=None,
    occurred_at="2026-11-20T09:00:00.000000Z",
    received_at="2026-11-20T09:00:01.000000Z",
    logged_at="2026-11-20T09:00:02.000000Z",
    log_index=0,
    leaf_hash="",
    cross_check=CrossCheckShape(),
    breaches=[],
    mismatches=[],
    details={},
    erased=False,
)
AT = "2026-11-20T{}:00:00.000000Z"


def told(*effects: str, extent: str = "full") -> list[EventShape]:
    """Events with these effects, an hour apart."""
    return [
        replace(EVENT, id=str(hour), effect=effect, extent=extent, occurred_at=AT.format(f"{hour:02}"))
        for hour, effect in enumerate(effects)
    ]


@pytest.mark.parametrize(
    ("effects", "extent", "state", "hour"),
    [
        (["revoked"], "full", "taken_back", "00"),
        (["canceled"], "full", "taken_back", "00"),
        (["reversed"], "full", "taken_back", "00"),
        (["reversed"], "partial", "partly", "00"),
        (["reversed"], "unknown", "partly", "00"),
        (["reversed", "reversed"], "partial", "partly", "00"),
        (["revoking"], "full", "pending", "00"),
        (["canceling"], "full", "pending", "00"),
        (["revoking", "revoked"], "full", "taken_back", "01"),
        (["revoked", "revoking"], "full", "taken_back", "00"),
        (["refused"], "full", "not_taken_back", "00"),
        (["rejected"], "full", "not_taken_back", "00"),
        (["activated"], "full", "not_taken_back", "00"),
        (["revoking", "refused"], "full", "pending", "00"),
        (["refused", "revoking"], "full", "pending", "01"),
        (["refused", "revoked"], "full", "taken_back", "01"),
    ],
)
def test_the_state_follows_from_the_effects(effects: list[str], extent: str, state: str, hour: str) -> None:
    """What takes back outweighs what is under way, and that outweighs what does not take back."""
    assert state_of(told(*effects, extent=extent)) == (state, AT.format(hour))


def test_without_events_there_is_no_record() -> None:
    """Nor since when."""
    assert state_of([]) == ("no_record", None)


def test_contradicted_it_is_disputed() -> None:
    """Whatever its effects say, since it was contradicted."""
    check = CrossCheckShape("contradicted", "log", AT.format("05"))

    assert state_of([*told("revoked"), replace(EVENT, cross_check=check)]) == ("disputed", AT.format("05"))


def test_an_erased_event_says_nothing() -> None:
    """It is passed over, unless all are erased."""
    gone = replace(EVENT, erased=True, occurred_at=None)

    assert state_of([gone]) == ("erased", None)
    assert state_of([gone, *told("revoking")]) == ("pending", AT.format("00"))


def test_where_no_time_is_given_it_is_that_of_receipt() -> None:
    """Since is never empty for what happened."""
    assert state_of([replace(EVENT, occurred_at=None)]) == ("taken_back", "2026-11-20T09:00:01.000000Z")


def test_amounts_are_added_exactly() -> None:
    """As decimals, each act once however often it is told; refused ones are not."""
    first = replace(EVENT, effect="reversed", operation="op-1", amount="0.10")
    events = [
        first,
        replace(first, id="again"),
        replace(first, id="x", operation="op-2", amount="0.20"),
        replace(first, id="y", operation=None, amount="1e30"),
        replace(first, id="z", operation=None, amount="0.000000000000000000001"),
        replace(first, id="r", operation="op-3", effect="refused", amount="5"),
        replace(first, id="n", operation="op-4", amount=None),
        replace(first, id="u", operation="op-5", amount="a lot"),
    ]

    assert reversed_amount(events[:3]) == "0.30"
    assert reversed_amount(events) == "1000000000000000000000000000000.300000000000000000001"
    assert reversed_amount([EVENT]) is None
