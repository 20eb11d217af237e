"""One issuer's log with the acts of many customers: each sees what concerns it, and nothing else is a gap of its own.

Of the sandbox's log a second customer's entries are made by the test, as the issuer would. Several tenants of one
receiver name that log, each for its own account, or for all that is in it. It is followed once.
"""

import json
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from receiver.sandbox.ledger import Entry
from tests.scenarios.pairing import ACCOUNTS, FOLLOW_EVERY, GRACE, Pair, paired
from tests.scenarios.service import Sender, revoked, until

OURS = ACCOUNTS["truthlocks"]
THEIRS = "0c9d8e7f-1111-4a53-9a3b-0f0a3f6f1f10"


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant of the receiver with one source, which names the log."""

    pair: Pair
    name: str
    key: str
    source: Mapping[str, Any]

    def ask(self, path: str, **asked: Any) -> list[dict[str, Any]]:
        """The items of a list, as this tenant sees it."""
        headers = {"authorization": f"Bearer {self.key}"}
        answer = self.pair.service.client.get(path, params=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    @property
    def gaps(self) -> set[str]:
        """The items of its gaps."""
        return {gap["item"]["id"] for gap in self.ask("/v1/gaps")}

    @property
    def log(self) -> dict[str, Any]:
        """The log, as this tenant sees it."""
        (found,) = self.ask("/v1/issuer-logs")
        return found

    def deliver(self, **members: Any) -> str:
        """Have its provider deliver that a receipt was revoked; the event's id."""
        sender = Sender(self.source["webhook_path"], self.source["secret"])
        return sender.deliver(self.pair.service, revoked(**members))["event_id"]

    def state(self, event_id: str) -> str:
        """What is known of an event."""
        (found,) = [event for event in self.ask("/v1/events") if event["id"] == event_id]
        return found["cross_check"]["state"]


def join(pair: Pair, name: str, **members: Any) -> Customer:
    """A new tenant, whose source names the log; `members` are the source's."""
    made = pair.site.tell("receiver", "key", "create", name, "--scopes", "audit,admin", "--tenant", name, "--json")
    key: str = json.loads(made)["key"]
    log = {"url": f"{pair.sandbox.url}/log", "key": [pair.sandbox.vkey]}
    asked = {
        "name": name,
        "provider": "truthlocks",
        "scheme": "standard-webhooks",
        "issuer_log": log,
        "issuer_log_from": 0,
        "grace": GRACE,
        "follow_every": FOLLOW_EVERY,
        **members,
    }
    bearer = {"authorization": f"Bearer {key}"}
    until(lambda: pair.service.client.get("/v1/sources", headers=bearer).status_code == 200)
    added = pair.service.client.post("/v1/sources", json=asked, headers=bearer)
    assert added.status_code == 201, added.text
    return Customer(pair, name, key, added.json())


def log_act(pair: Pair, account: str | None, receipt: str) -> None:
    """Have the issuer log that a receipt of that account was revoked, and tell nobody."""
    with pair.ledger.act("truthlocks") as act:
        act.tell(
            Entry(
                account=account,
                amount=None,
                effect="revoked",
                event="RECEIPT_REVOKE",
                item_type="receipt",
                item_id=receipt,
                operation=receipt,
                quantity=None,
            )
        )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """Sandbox and receiver, whose own sources have a tenant to themselves."""
    with paired(tmp_path_factory.mktemp("whose")) as pair:
        yield pair


@pytest.fixture(scope="module")
def customers(pair: Pair) -> dict[str, Customer]:
    """Ours, theirs, one that has the whole log to itself, and one that says neither; before anything is logged."""
    return {
        "ours": join(pair, "ours", account=OURS),
        "theirs": join(pair, "theirs", account=THEIRS),
        "all": join(pair, "all", exclusive=True),
        "unsaid": join(pair, "unsaid"),
    }


@dataclass(frozen=True)
class Acts:
    """What the issuer logged of each, and told nobody of: receipts."""

    ours: str = field(default_factory=lambda: str(uuid.uuid4()))
    theirs: str = field(default_factory=lambda: str(uuid.uuid4()))
    nobodys: str = field(default_factory=lambda: str(uuid.uuid4()))


@pytest.fixture(scope="module")
def acts(pair: Pair, customers: dict[str, Customer]) -> Acts:
    """One act of each, all of them gaps of whom they concern by now."""
    acts = Acts()
    log_act(pair, None, acts.nobodys)
    log_act(pair, THEIRS, acts.theirs)
    log_act(pair, OURS, acts.ours)
    until(lambda: customers["all"].gaps == {acts.ours, acts.theirs, acts.nobodys})
    return acts


def test_another_customers_entries_are_no_gaps_of_ours(customers: dict[str, Customer], acts: Acts) -> None:
    """Of one log each has its own account's gaps; what names no account is nobody's, unless the log is exclusive."""
    until(lambda: customers["ours"].gaps == {acts.ours})
    until(lambda: customers["theirs"].gaps == {acts.theirs})
    assert customers["unsaid"].gaps == set()


def test_it_is_followed_once(customers: dict[str, Customer], acts: Acts) -> None:
    """For all of them together; each sees its own source there, and none of the others'."""
    logs = {name: customer.log for name, customer in customers.items()}
    assert len({log["id"] for log in logs.values()}) == 1
    assert {name: [one["name"] for one in log["sources"]] for name, log in logs.items()} == {
        name: [name] for name in customers
    }
    gaps = {name: [gap["id"] for gap in customer.ask("/v1/gaps")] for name, customer in customers.items()}
    assert {name: len(ids) for name, ids in gaps.items()} == {"ours": 1, "theirs": 1, "all": 3, "unsaid": 0}
    asked = {"authorization": f"Bearer {customers['ours'].key}"}
    for gap_id in gaps["theirs"] + gaps["all"]:
        assert customers["ours"].pair.service.client.get(f"/v1/gaps/{gap_id}", headers=asked).status_code == 404
    assert acts.theirs not in json.dumps(customers["ours"].ask("/v1/gaps"))


def test_an_entry_without_an_account_may_confirm(pair: Pair, customers: dict[str, Customer], acts: Acts) -> None:
    """Whoever was told of it finds it there; that it is theirs it does not say, so it was no gap of theirs."""
    at = next(one["at"] for one in pair.issued() if one["item"]["id"] == acts.nobodys)
    for name in ("ours", "unsaid"):
        event_id = customers[name].deliver(receipt=acts.nobodys, revoked_at=at)
        until(lambda name=name, event_id=event_id: customers[name].state(event_id) == "confirmed")


def test_another_customers_entry_confirms_nothing_of_ours(
    pair: Pair, customers: dict[str, Customer], acts: Acts
) -> None:
    """Told as an act of our account it is absent, though the log has that act: of another customer."""
    at = next(one["at"] for one in pair.issued() if one["item"]["id"] == acts.theirs)
    forged = customers["ours"].deliver(receipt=acts.theirs, revoked_at=at)
    true = customers["theirs"].deliver(receipt=acts.theirs, revoked_at=at, tenant_id=THEIRS)

    until(lambda: customers["ours"].state(forged) == "absent")
    until(lambda: customers["theirs"].state(true) == "confirmed")
    until(lambda: customers["theirs"].gaps == set())


def test_who_joins_later(pair: Pair, acts: Acts) -> None:
    """Gaps begin where the log stood then, unless an earlier entry is named; then it is read again for that source."""
    late = join(pair, "late", account=THEIRS)
    new = join(pair, "new", account=THEIRS, issuer_log_from=len(pair.issued()))
    only = str(uuid.uuid4())
    log_act(pair, THEIRS, only)

    until(lambda: late.gaps == {acts.theirs, only})
    until(lambda: new.gaps == {only})


def test_a_delivery_is_of_the_tenant_that_got_it(pair: Pair, customers: dict[str, Customer]) -> None:
    """What was delivered to one tenant announces nothing to another: that one was to be told as well."""
    receipt = str(uuid.uuid4())
    log_act(pair, OURS, receipt)
    until(lambda: any(one["item"]["id"] == receipt for one in pair.issued()))
    at = next(one["at"] for one in pair.issued() if one["item"]["id"] == receipt)
    event_id = customers["ours"].deliver(receipt=receipt, revoked_at=at)

    until(lambda: customers["ours"].state(event_id) == "confirmed")
    until(lambda: receipt in customers["all"].gaps)
    assert receipt not in customers["ours"].gaps


@pytest.mark.usefixtures("acts")
def test_nothing_is_wrong_afterwards(pair: Pair) -> None:
    """Every tenant's log is in order, with all that was found out for it."""
    assert "nothing is wrong" in pair.site.tell("receiver", "fsck")
