"""A legal hold: what it covers is not erased, whoever asks, until somebody else than who placed it says so."""

import json
from pathlib import Path
from typing import Any

from tests.scenarios.service import Sender, Service, Site, leaves, revoked, until

RECEIPT = "3f0c1c5e-7a4b-4a68-9a3f-9c6f2b1d7e55"


class Person:
    """Somebody with an API key of their own."""

    def __init__(self, site: Site, owner: str) -> None:
        options = ("--scopes", "operate,audit", "--owner", owner, "--json")
        made = json.loads(site.tell("receiver", "key", "create", f"key of {owner}", *options))
        self.id: str = made["id"]
        self.key: str = made["key"]

    def ask(self, service: Service, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Ask for something; the status, and what was answered."""
        answer = service.client.post(path, json=body, headers={"authorization": f"Bearer {self.key}"})
        return answer.status_code, answer.json()

    def see(self, service: Service, path: str) -> dict[str, Any]:
        """What is there."""
        return service.get(path, self.key).json()


def test_a_hold_beats_an_erasure_until_somebody_else_releases_it(tmp_path: Path) -> None:
    """Over a power cut as well; then the request that was kept is done, and the log tells of all of it."""
    site = Site(tmp_path)
    sender, ann, bob = site.add_source(), Person(site, "Ann"), Person(site, "Bob")
    service = site.start()
    event = sender.deliver(service, revoked(RECEIPT))["event_id"]
    item = {"provider": "truthlocks", "type": "receipt", "id": RECEIPT}
    placed, hold = ann.ask(service, "/v1/holds", {"item": item, "reason": "lawsuit 7"})
    assert placed == 201

    status, refused = bob.ask(service, "/v1/erasures", {"item": item, "reason": "asked for"})
    assert (status, refused["code"]) == (409, "CONFLICT")
    assert (refused["details"]["reason"], refused["details"]["hold"]) == ("held", hold["id"])
    erasure = f"/v1/erasures/{refused['details']['erasure']}"
    service.kill()

    with site.serving() as service:
        assert ann.see(service, erasure)["state"] == "held"
        later = sender.deliver(service, revoked(RECEIPT, "2026-11-20T10:00:00Z"))["event_id"]
        release = f"/v1/holds/{hold['id']}/release"
        assert ann.ask(service, release, {"reason": "never mind"})[0] == 403
        assert not ann.see(service, f"/v1/events/{event}")["erased"]

        status, released = bob.ask(service, release, {"reason": "settled"})
        assert (status, released["state"], released["released_by"]) == (200, "released", bob.id)
        until(lambda: ann.see(service, erasure)["state"] == "completed")
        assert [ann.see(service, f"/v1/events/{one}")["erased"] for one in (event, later)] == [True, True]
        assert ann.see(service, f"/v1/holds/{hold['id']}")["item"] is None
        _tell_all_of_it(site, service, hold, [event, later], ann, bob)
    assert "nothing is wrong" in site.tell("receiver", "fsck").lower()
    assert not any(RECEIPT.encode() in file.read_bytes() for file in site.data.rglob("*") if file.is_file())


def _tell_all_of_it(
    site: Site, service: Service, hold: dict[str, Any], events: list[str], ann: Person, bob: Person
) -> None:
    """The log's entries of who had something kept, who released it, and what was erased then, in this order."""
    size = service.checkpoint_of(released_index(bob, service, hold) + 2, site.vkey()).size
    found = {leaf.kind: leaf for leaf in leaves(service.entries(size))}
    assert [kind for kind in found if kind in {"hold", "release", "erasure"}] == ["hold", "release", "erasure"]
    assert found["hold"].facts == {"by": ann.id, "hold": hold["id"], "state": "placed"}
    assert found["release"].facts == {"by": bob.id, "hold": hold["id"], "state": "released"}
    assert set(events) <= set(found["erasure"].facts["ids"])  # pyright: ignore[reportArgumentType]


def released_index(person: Person, service: Service, hold: dict[str, Any]) -> int:
    """The index of the entry that tells of a release."""
    return int(person.see(service, f"/v1/holds/{hold['id']}")["release_log_index"])


def test_retention_is_set_while_the_service_runs(tmp_path: Path) -> None:
    """What was received just now is not too old: the command says that nothing was erased, and nothing was."""
    site = Site(tmp_path)
    sender: Sender = site.add_source()
    auditor = Person(site, "Ann")
    with site.serving() as service:
        event = sender.deliver(service, revoked(RECEIPT))["event_id"]
        site.tell("receiver", "retention", "set", "--provider", "truthlocks", "--days", "1")
        assert json.loads(site.tell("receiver", "retention", "run", "--json"))["items"] == [
            {"provider": "truthlocks", "days": 1, "erased": 0, "held": 0}
        ]
        assert not auditor.see(service, f"/v1/events/{event}")["erased"]
