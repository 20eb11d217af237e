"""One act that is told twice: by the answer to the operator's own call, and by what the provider delivers.

Both are recorded, as two events of one item, and what was taken back counts once.
"""

import base64
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from receiver import providers
from receiver.sandbox.deliverer import Destination
from tests.receiver.operations import BADGE, BUCKET, JOB, RECEIPT, REDEMPTION
from tests.receiver.relays import IN_SANDBOX, Operator, faults_found, new_operator
from tests.receiver.service import Service, until
from tests.sandbox.service import running

Event = tuple[str, str]
"""How it came, and its effect."""


class Twice(NamedTuple):
    """An act that is told twice, and what becomes of its item."""

    item: str
    """`type/id`."""
    told: set[Event]
    state: str
    scheme: str
    """Of what the sandbox delivers."""
    options: Mapping[str, str | bool] = MappingProxyType({})
    amount: str | None = None
    quantity: str | None = None


ACTS = {
    "truthlocks": Twice(
        f"receipt/{RECEIPT}", {("relay", "revoked"), ("webhook", "revoked")}, "taken_back", "standard-webhooks"
    ),
    "thanx": Twice(
        f"issuance_job/{JOB}",
        {("relay", "revoking"), ("declared", "revoking"), ("declared", "revoked")},
        "taken_back",
        "hmac",
        {"header": "X-Thanx-Signature"},
        quantity="1",
    ),
    "capillary": Twice(
        f"badge/{BADGE}",
        {("relay", "revoked"), ("declared", "revoked")},
        "taken_back",
        "token",
        {"header": "X-Rescind-Token"},
    ),
    "voucherify": Twice(
        f"pending_points/{BUCKET}",
        {("relay", "canceling"), ("declared", "canceling"), ("declared", "canceled")},
        "taken_back",
        "hmac",
        {"header": "x-voucherify-signature", "strip_whitespace": True},
        quantity="60",
    ),
    "scrip": Twice(
        f"redemption/{REDEMPTION}",
        {("relay", "reversed"), ("webhook", "reversed")},
        "partly",
        "standard-webhooks",
        amount="500.00",
    ),
}
"""By provider: where it documents no webhook, what the operator's own systems declare."""


@pytest.fixture(scope="module")
def operators(either_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Operator]]:
    """Of each provider one source, which a sandbox delivers to, and which passes calls on to it."""
    operators: dict[str, Operator] = {}
    destinations: dict[str, Destination] = {}
    for number, (provider, act) in enumerate(ACTS.items()):
        secret = "whsec_" + base64.b64encode(bytes(range(number, number + 32))).decode()
        signed = (act.scheme, act.options, secret)
        operator = operators[provider] = new_operator(
            either_service, provider, path=IN_SANDBOX[provider], signed=signed
        )
        url = f"http://127.0.0.1:{either_service.port}/webhooks/{operator.source_id}"
        destinations[provider] = Destination(url, secret)
    with running(tmp_path_factory.mktemp("sandbox"), destinations) as sandbox:
        for operator in operators.values():
            operator.change_source(upstream=str(sandbox.client.base_url))
        yield operators


def item(operator: Operator, path: str) -> dict[str, Any]:
    """What is known of an item."""
    response = operator.service.client.get(
        f"/v1/items/{operator.provider}/{path}", headers={"authorization": f"Bearer {operator.key}"}
    )
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("provider", providers.names())
def test_an_act_that_is_told_twice_is_one_item(operators: dict[str, Operator], provider: str) -> None:
    """Shown together, each with how it came; and counted once."""
    operator, act = operators[provider], ACTS[provider]

    response = operator.call()
    until(lambda: len(item(operator, act.item)["events"]) >= len(act.told))

    assert response.status_code in providers.get(provider).operation.successes
    shown = item(operator, act.item)
    events = shown["events"]
    assert (shown["state"], len(events)) == (act.state, len(act.told))
    assert {(event["via"], event["effect"]) for event in events} == act.told
    assert (shown["state"], shown["reversed_amount"], shown["reversed_quantity"]) == (
        act.state,
        act.amount,
        act.quantity,
    )
    [relayed] = [event for event in events if event["via"] == "relay"]
    assert relayed["id"] == response.headers["x-rescind-event"]
    same = [event for event in events if event["effect"] == relayed["effect"]]
    assert len(same) == 2
    assert len({event["operation"] for event in same}) == 1
    assert [event["breaches"] for event in events] == [[]] * len(events)
    assert operator.outcomes() == ["recorded"]
    assert faults_found(operator.service) == []
