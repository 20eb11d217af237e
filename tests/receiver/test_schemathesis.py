"""The service held against its schema: schemathesis asks all that `/schema` says can be asked, and what it rules out.

It runs as a command, in a process of its own, against the running service: every constraint at its edges and beyond
them, values at random, and one call with what another one answered. All of it is derived from the schema alone, so
each run is the same. Ids of what is there are given to it, or it would see nothing but 404s; and a token that one of
the sources takes, so that it can deliver.
"""

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis

from receiver.events import Effect, Item
from tests.receiver.claims import ORGANIZATION, Issuer, check, forked
from tests.receiver.erasing import erase
from tests.receiver.exported import exported
from tests.receiver.five import FIVE, PARTIES, PartySender
from tests.receiver.holding import acting, hold
from tests.receiver.passed_on import Calls
from tests.receiver.service import Service, running, settings_in
from tests.receiver.subscribers import subscribe

EXAMPLES = 12  # at random, for each operation

NOT_ALL_IN_THE_SCHEMA = {
    "listEvents": "a cursor is what an earlier answer gave",
    "listQuarantine": "the same",
    "listAttempts": "the same",
    "listGaps": "the same",
    "proveInclusion": "of index and leaf_hash exactly one has to be given",
    "proveConsistency": "old_size is at most new_size",
    "addSource": "which options and secrets there are depends on the scheme, and that on the provider",
    "changeSource": "the same, and something has to be changed",
    "rotateSecret": "the same",
    "setCredential": "which headers carry credentials depends on the provider",
    "addSubscription": "which URLs may be called depends on the operator, a secret is base64, and an index in the log",
    "changeSubscription": "the same, and something has to be changed",
    "replaySubscription": "what was passed on so far depends on the log",
    "listExports": "a cursor is what an earlier answer gave",
    "askForExport": "a period ends after it begins, and not after now",
    "listErasures": "a cursor is what an earlier answer gave",
    "erase": "exactly one thing is erased, whose provider or kind has to be known, and a reason is not blank",
    "listHolds": "a cursor is what an earlier answer gave",
    "placeHold": "exactly one thing is held, which has to be known, and a reason is not blank",
    "releaseHold": "a reason is not blank, and a hold is released once",
}
"""Operations that refuse what the schema would let through, each with the rule that it has no words for. Of these alone
it is not checked that whatever is valid by the schema is accepted. Every other check is made of all of them."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that lets one address be refused as often as it takes, and whose subscriptions may call here."""
    given = {"refusals_per_minute": 1_000_000, "subscription_networks": "127.0.0.1"}
    with running(settings_in(tmp_path_factory.mktemp("patient"), **given)) as service:
        yield service


@pytest.fixture
def senders(service: Service) -> dict[str, PartySender]:
    """A source of each of the five, by its name."""
    return {party.provider: party.add_to(service) for party in PARTIES}


@pytest.fixture(scope="module")
def schema(service: Service) -> dict[str, Any]:
    """The document."""
    return service.client.get("/schema/openapi.json").json()


UNUSED = "http://127.0.0.1:9/"
"""Where nothing listens."""

RELAYED = "POST /relay/{source}/{path}"
"""What it answers is the provider's, and at made-up paths it is 404."""


def names(schema: dict[str, Any], *, closed: bool) -> set[str]:
    """The operations as schemathesis calls them; with `closed`, those that need a key."""
    return {
        f"{method.upper()} {path}"
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if not closed or operation.get("security")
    } - {RELAYED}


def what_is_there(service: Service, senders: dict[str, PartySender]) -> dict[str, list[str]]:
    """For each parameter, values that lead to something, and one that leads to nothing."""
    changing = [service.add_source().source_id for _ in range(3)]
    items = {name: sender.party.new_item() for name, sender in senders.items()}
    events = [sender.post(sender.party.body(items[name])).json()["event_id"] for name, sender in senders.items()]
    quarantined = [sender.post(b'{"type":"unheard.of"}').json()["quarantine_id"] for sender in senders.values()]
    calls = Calls(service, senders["scrip"])
    attempts = [calls.begin().id, calls.begin().id]
    refused = calls.refused(calls.begin()).id
    # Many: each is removed in a while.
    subscriptions = [subscribe(service.records, UNUSED, "fork").subscription.id for _ in range(60)]
    ann = acting(service.records, "Ann")
    holds = [hold(service.records, ann, provider="capillary").id for _ in range(60)]
    erasure = erase(service.records, item={"provider": "thanx", "type": "job", "id": "unknown"}).id
    export = exported(service)
    issuer = Issuer(service.records)
    issuer.source("scrip", ORGANIZATION)
    issuer.says("scrip", Effect.REVERSED, Item("redemption", issuer.origin), account=ORGANIZATION)
    issuer.read_at("2027-01-01T00:00:00.000000Z")
    check(service.records)
    gap = service.client.get("/v1/gaps", headers=service.key("audit")).json()["items"][0]["id"]
    forked(service.records, issuer)
    service.until_published()
    page = service.client.get("/v1/events", params={"limit": 1}, headers=service.key("audit")).json()
    return {
        "path.source": [senders["capillary"].source_id, senders["scrip"].source_id, "nobody"],
        "path.source_id": [*changing, "nobody"],
        "path.event_id": [*events, quarantined[0], refused, "nothing"],
        "path.attempt_id": [*attempts, refused, "nothing"],
        "path.gap_id": [gap, "nothing"],
        "path.log_id": [issuer.id, "nothing"],
        "path.quarantine_id": [*quarantined, events[0], "nothing"],
        "path.subscription_id": [*subscriptions, "nobody"],
        "path.hold_id": [*holds, "nothing"],
        "path.erasure_id": [erasure, "nothing"],
        "path.export_id": [export, "nothing"],
        "path.provider": ["capillary", "capillary", "nobody"],
        "path.item_type": [FIVE["capillary"].item_type],
        "path.item_id": [items["capillary"], "nothing"],
        "path.tenant_name": ["default", "default", "nobody"],
        "path.resource": ["checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1", "nothing"],
        "query.source": [senders["scrip"].source_id, "nobody"],
        "query.cursor": [page["next_cursor"], attempts[1]],
        "body.name": ["one", "another"],
        "body.url": [UNUSED],
        "body.reason": ["asked for"],
        "body.person": ["email:jane@example.com"],
        "body.since": ["2026-07-01T00:00:00Z"],
        "body.until": ["2026-10-01T00:00:00Z"],
        "body.provider": ["thanx", "voucherify"],  # their schemes are documented, and need not be given
    }


def configuration(headers: dict[str, str], values: dict[str, list[str]]) -> str:
    """The command's configuration, in TOML, of which JSON's strings and arrays are a part."""
    lines = [f"headers.{name} = {json.dumps(value)}" for name, value in headers.items()]
    for number, (parameter, one_of) in enumerate(values.items()):
        lines.append(f"dictionaries.d{number}.values = {json.dumps(one_of)}")
        lines.append(f'parameters."{parameter}" = {{ dictionary = "d{number}", probability = 1.0 }}')
    lines.append("[[operations]]")
    lines.append(f"include-operation-id = {json.dumps(list(NOT_ALL_IN_THE_SCHEMA))}")
    lines.append("checks.positive_data_acceptance.enabled = false")
    return "\n".join(lines)


def run(
    service: Service, folder: Path, headers: dict[str, str], values: dict[str, list[str]], *more: str
) -> dict[str, Any]:
    """Run the command in that folder, with all of its checks but the ones named above; its report.

    Fails with what it printed if it found anything.
    """
    (folder / "schemathesis.toml").write_text(configuration(headers, values))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{service.port}/schema/openapi.json"),
            *("--generation-deterministic", "--seed=1", f"--max-examples={EXAMPLES}", "--continue-on-failure"),
            *("--no-color", "--report=json", "--report-json-path=report.json"),
            *more,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "report.json").read_text())


def test_every_answer_is_in_the_schema(
    service: Service, senders: dict[str, PartySender], schema: dict[str, Any], tmp_path: Path
) -> None:
    """No 500, and nothing that the schema does not say, whatever is asked with a key of all scopes; and each operation
    has also done what it is there for.
    """
    key = service.key("audit,export,operate,admin")["authorization"]
    headers = {"Authorization": key, "X-Webhook-Token": senders["capillary"].secret}

    report = run(service, tmp_path, headers, what_is_there(service, senders))

    assert (report["complete"], report["operations"]["errored"]) == (True, 0)
    rates = report["valid_rates"]
    accepted = {name for name, phases in rates.items() if any(one["accepted"] for one in phases.values())}
    assert accepted - {RELAYED} == names(schema, closed=False)


def test_nothing_is_given_out_without_a_key(
    service: Service, senders: dict[str, PartySender], schema: dict[str, Any], tmp_path: Path
) -> None:
    """The same, and 401 for whatever is asked of what needs one; by questions that would be good ones with a key."""
    report = run(service, tmp_path, {}, what_is_there(service, senders), "--mode=positive")

    assert (report["complete"], report["operations"]["errored"]) == (True, 0)
    assert set(report["warnings"]["missing_auth"]) - {RELAYED} == names(schema, closed=True)


def test_what_generated_deliveries_do_not_reach_is_in_the_schema(
    service: Service, senders: dict[str, PartySender], schema: dict[str, Any]
) -> None:
    """A delivery that is recorded, and what else there is then: nothing made up from the schema alone comes so far."""
    api: Any = schemathesis.openapi.from_dict(schema)
    sender, key = senders["thanx"], service.key("audit,admin,operate")
    item = sender.party.new_item()

    def told(method: str, path: str, answer: httpx2.Response) -> dict[str, Any]:
        assert str(answer.status_code) in schema["paths"][path][method.lower()]["responses"]
        api[path][method].validate_response(answer)
        return answer.json()

    def delivered(body: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        return told("POST", "/webhooks/{source}", sender.post(body, headers))

    recorded, duplicate = delivered(sender.party.body(item)), delivered(sender.party.body(item))
    mismatch, quarantined = delivered(sender.party.body(item, more=1)), delivered(b'{"type":"unheard.of"}')
    ignored = delivered(b'{"event":"reward.issued"}')
    statuses = [answer["status"] for answer in (recorded, duplicate, mismatch, quarantined, ignored)]
    assert statuses == ["recorded", "duplicate", "mismatch", "quarantined", "ignored"]
    assert delivered(b"x", {"x-thanx-signature": "0"})["status"] == 401
    assert delivered(b"x" * 262_145)["status"] == 413

    place = {
        "event_id": recorded["event_id"],
        "quarantine_id": quarantined["quarantine_id"],
        "source_id": sender.source_id,
        "provider": "thanx",
        "item_type": sender.party.item_type,
        "item_id": item,
    }

    def asked(method: str, path: str, headers: dict[str, str] | None = None, **sent: Any) -> dict[str, Any]:
        answer = service.client.request(method, path.format(**place), headers={**key, **(headers or {})}, **sent)
        return told(method, path, answer)

    assert asked("GET", "/v1/events/{event_id}")["mismatches"]
    assert asked("GET", "/v1/events/{event_id}/evidence", {"accept": "application/json"})["proof"]
    assert asked("GET", "/v1/items/{provider}/{item_type}/{item_id}")["state"] == "pending"
    assert asked("POST", "/v1/quarantine/{quarantine_id}/reprocess")["status"] == "quarantined"
    assert asked("GET", "/v1/quarantine/{quarantine_id}")["body"]
    assert asked("POST", "/v1/sources/{source_id}/secrets", json={})["secret"]
    assert asked("PATCH", "/v1/sources/{source_id}", json={"enabled": False})["enabled"] is False
