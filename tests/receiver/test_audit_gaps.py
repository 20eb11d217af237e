"""`/v1/gaps`: what issuers' logs hold of a tenant's accounts, and nobody announced in time."""

import base64
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from receiver.events import Effect, Item, format_time, new_id
from tests.receiver.claims import GRACE, ORGANIZATION, Issuer, check, deliver, reversed_
from tests.receiver.service import Service, problem, until
from tests.receiver.submissions import RECEIVED_AT, Source
from translog import evidence
from translog.merkle import leaf_hash
from translog.policy import Policy
from translog.proof import TlogProof

LATER = format_time(RECEIVED_AT + timedelta(seconds=2 * GRACE))
AT = RECEIVED_AT - timedelta(seconds=2)


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


@pytest.fixture
def issuer(either_service: Service) -> Issuer:
    """An issuer's log of its own."""
    return Issuer(either_service.records)


def ask(service: Service, key: dict[str, str], source: Source | None = None, **parameters: Any) -> httpx2.Response:
    """List gaps, of one source if it is given."""
    asked = parameters if source is None else {"source": source.endpoint.source.id, **parameters}
    return service.client.get("/v1/gaps", params=asked, headers=key)


def gaps(service: Service, key: dict[str, str], source: Source, number: int, **parameters: Any) -> list[dict[str, Any]]:
    """The gaps of a source, once there are so many."""
    check(service.records)
    until(lambda: len(ask(service, key, source, **parameters).json()["items"]) == number)
    return ask(service, key, source, **parameters).json()["items"]


def redemption(issuer: Issuer, number: int = 1) -> str:
    """What is reversed."""
    return f"{number} of {issuer.origin}"


def says(issuer: Issuer, number: int = 1, account: str | None = ORGANIZATION) -> int:
    """Have the issuer's log tell of a reversal that no other log tells of; the index."""
    item, amount = Item("redemption", redemption(issuer, number)), f"{number}.00"
    return issuer.says(
        "scrip", Effect.REVERSED, item, account=account, operation=f"{item.id} reversed", amount=amount, at=AT
    )


def test_a_gap_in_full(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """It says which entry of which log it is, what that says, and where it was logged."""
    source = issuer.source("scrip", ORGANIZATION)
    index = says(issuer)
    issuer.read_at(LATER)

    (gap,) = gaps(either_service, key, source, 1)

    leaf = either_service.leaf(gap["log_index"])
    assert (leaf.kind, leaf.id, leaf.logged_at) == ("gap", gap["id"], gap["logged_at"])
    assert gap == {
        "id": leaf.id,
        "state": "open",
        "source": source.endpoint.source.id,
        "provider": "scrip",
        "issuer_log": issuer.origin,
        "issuer_index": index,
        "entry": base64.b64encode(issuer.entries[index]).decode(),
        "item": {"type": "redemption", "id": redemption(issuer)},
        "effect": "reversed",
        "account": ORGANIZATION,
        "operation": f"{redemption(issuer)} reversed",
        "amount": "1.00",
        "quantity": None,
        "occurred_at": format_time(AT),
        "seen_at": format_time(RECEIVED_AT),
        "logged_at": leaf.logged_at,
        "log_index": gap["log_index"],
        "leaf_hash": leaf_hash(either_service.entry(gap["log_index"])).hex(),
        "erased": False,
    }
    assert either_service.client.get(f"/v1/gaps/{leaf.id}", headers=key).json() == gap


def test_evidence_of_a_gap(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """It shows the issuer's entry, and brings the issuer's own proof of it."""
    source = issuer.source("scrip", ORGANIZATION)
    index = says(issuer)
    issuer.read_at(LATER)
    (gap,) = gaps(either_service, key, source, 1)

    file = either_service.client.get(f"/v1/events/{gap['id']}/evidence", headers=key).content

    verified = evidence.verify(file, Policy.of(str(either_service.tenant.log.verifying_key)))
    assert verified.delivery is not None
    assert verified.delivery.body == issuer.entries[index]
    proof = TlogProof.parse(verified.issuer or b"")
    assert proof.verify(issuer.entries[index], issuer.identity.trust()).origin == issuer.origin


def test_announced(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """What is announced after all is listed apart, and is the same gap."""
    source = issuer.source("scrip", ORGANIZATION)
    says(issuer)
    issuer.read_at(LATER)
    (before,) = gaps(either_service, key, source, 1)

    deliver(source, reversed_(redemption(issuer), f"{redemption(issuer)} reversed", "1.00"))

    (after,) = gaps(either_service, key, source, 1, announced="true")
    assert after == {**before, "state": "announced"}
    assert ask(either_service, key, source).json()["items"] == []


def test_not_before_the_grace_period_is_over(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """An entry that is still awaited is no gap."""
    source = issuer.source("scrip", ORGANIZATION)
    says(issuer)
    issuer.read_at(format_time(RECEIVED_AT + timedelta(seconds=GRACE - 1)))
    check(either_service.records)

    assert ask(either_service, key, source).json() == {"items": [], "next_cursor": None}


def test_pages(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """Newest first, a page at a time, each gap once."""
    source = issuer.source("scrip", ORGANIZATION)
    for number in range(1, 8):
        says(issuer, number)
    issuer.read_at(LATER)
    every = [gap["id"] for gap in gaps(either_service, key, source, 7)]

    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = ask(either_service, key, source, limit=3, **({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) <= 3
        found += [gap["id"] for gap in page["items"]]
        cursor = page["next_cursor"]

    assert found == every == sorted(every, reverse=True)


def test_another_customers_entries_are_no_gaps(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """Of a log that many share, only the entries of the source's account are its own."""
    source = issuer.source("scrip", ORGANIZATION)
    says(issuer, 1, account="6f3d9a52-1f0b-4b52-8a0e-0d9f3a1c2b3e")
    says(issuer, 2, account=None)
    mine = says(issuer, 3)
    issuer.read_at(LATER)

    (gap,) = gaps(either_service, key, source, 1)

    assert gap["issuer_index"] == mine


def test_another_tenants_are_not_seen(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """Two tenants may name one log: each sees its own source's gaps."""
    tenant = f"other-{new_id()[-8:]}"
    other = issuer.source("scrip", ORGANIZATION, tenant)
    says(issuer)
    issuer.read_at(LATER)
    theirs = either_service.key(tenant=tenant)
    (gap,) = gaps(either_service, theirs, other, 1)

    assert ask(either_service, key, other).json()["items"] == []
    assert problem(either_service.client.get(f"/v1/gaps/{gap['id']}", headers=key))["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("announced", "maybe"),
        ("provider", "nobody"),
        ("cursor", "1"),
        ("limit", "0"),
        ("limit", "1001"),
        ("since", "yesterday"),
        ("colour", "red"),
    ],
)
def test_bad_parameters(either_service: Service, key: dict[str, str], name: str, value: str) -> None:
    """What cannot be asked is named."""
    answer = either_service.client.get("/v1/gaps", params={name: value}, headers=key)

    assert answer.status_code == 400
    assert name in str(problem(answer)["details"]) + problem(answer)["detail"]


@pytest.mark.parametrize("gap_id", ["x", "3f0c2f6e-8a43-4a52-9d8f-0a6f6c1f2b3d", "%00"])
def test_no_such_gap(either_service: Service, key: dict[str, str], gap_id: str) -> None:
    """Of a gap that is not there nothing is said."""
    assert either_service.client.get(f"/v1/gaps/{gap_id}", headers=key).status_code == 404


def test_who_may_ask(either_service: Service) -> None:
    """It takes a key with the scope `audit`."""
    assert either_service.client.get("/v1/gaps").status_code == 401
    assert ask(either_service, either_service.key("operate")).status_code == 403


def test_periods(either_service: Service, key: dict[str, str], issuer: Issuer) -> None:
    """A gap is in the period in which it was logged."""
    source = issuer.source("scrip", ORGANIZATION)
    says(issuer)
    issuer.read_at(LATER)
    (gap,) = gaps(either_service, key, source, 1)
    at = gap["logged_at"]

    assert len(ask(either_service, key, source, since=at).json()["items"]) == 1
    assert ask(either_service, key, source, until=at).json()["items"] == []
