"""`receiver relay settle`: what is open is looked at now, beside a running service."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.records.credentials import set_credential
from tests.receiver.commands import Commands
from tests.receiver.open_calls import Caller, base_of, done_at, new_caller
from tests.receiver.operations import JOB, MERCHANT, OTHER, RECEIPT
from tests.receiver.service import Service, revoked, settings_in
from tests.receiver.service import running as serving
from tests.sandbox.service import Sandbox, running


@dataclass(frozen=True, slots=True)
class Place:
    """A running service, the providers of its sources, and commands on its data folder."""

    commands: Commands
    service: Service
    sandbox: Sandbox

    def caller(self, provider: str, tenant: str = "default") -> Caller:
        """A new source that has all that it takes to settle its calls."""
        return new_caller(self.service.records, provider, base_of(self.sandbox), tenant)

    def settle(self, *arguments: str, status: int = 0) -> list[str]:
        """Run the command, which must end so; the lines that it printed."""
        result = self.commands.run("relay", "settle", *arguments)
        assert (result.exit_code, result.stderr) == (status, "")
        return result.stdout.splitlines()


@pytest.fixture(scope="module")
def issuers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """The providers: a running sandbox, shared by the tests of the module."""
    with running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def place(tmp_path: Path, issuers: Sandbox) -> Generator[Place]:
    """A service with no calls yet, and providers where nothing was done yet."""
    assert issuers.client.post("/sandbox/reset").status_code == 204
    with serving(settings_in(tmp_path)) as service:
        yield Place(Commands(tmp_path), service, issuers)


def test_what_is_open(place: Place) -> None:
    """One line each, oldest call first, with what became of it or why it stays open; then how many of each."""
    truthlocks, other, capillary = (place.caller(name) for name in ("truthlocks", "truthlocks", "capillary"))
    set_credential(other.records, other.party.tenant, other.party.source.id, None)
    done, not_done = truthlocks.begin(), other.begin()
    known, unknown = truthlocks.begin(), capillary.begin(key="k")
    truthlocks.refused(known)
    done_at(place.sandbox, "truthlocks", f"/v1/receipts/{RECEIPT}/revoke", {"reason": "r"}, OTHER)

    lines = place.settle(status=1)

    event = truthlocks.told()[-1]
    name = other.party.source.name
    assert lines == [
        f"{done.id}  recorded  an event tells of it: {event.id}, entry {event.log_index}",
        f"{not_done.id}  unknown  source {name} has no read-only credential: receiver source credential",
        f"{unknown.id}  unknown  the provider has no record to ask; repeat the call with the same idempotency key",
        "3 looked at: 1 recorded, 2 unknown.",
    ]


def test_what_goes_on(place: Place) -> None:
    """It is open until its end is recorded, by whomever."""
    caller = place.caller("thanx")
    hung = new_caller(place.service.records, "thanx")
    begun = hung.begin()
    hung.answered(begun)
    attempt = caller.begin()
    done_at(place.sandbox, "thanx", f"/partner/issuance_jobs/{JOB}/revoke", {"merchant_id": MERCHANT})
    caller.answered(attempt)
    place.sandbox.until(lambda: caller.call(attempt).next_at is None)  # the service follows it as well

    assert place.settle(status=1) == [
        f"{begun.id}  under_way  the provider's record cannot be asked: unreachable",
        "1 looked at: 1 under_way.",
    ]
    end = caller.told()[-1]
    assert (end.effect, end.via) == ("revoked", "poll")
    assert place.settle(attempt.id) == [
        f"{attempt.id}  recorded  what it began has ended: duplicate {end.id}, entry {end.log_index}",
        "1 looked at: 1 recorded.",
    ]


def test_as_json(place: Place) -> None:
    """One object, in words that programs know."""
    caller = place.caller("truthlocks")
    old, new = caller.begin(), caller.begin(ago=timedelta(0))

    result = place.commands.run("relay", "settle", "--json")

    assert result.exit_code == 1
    [row] = caller.told()
    assert place.commands.json("relay", "settle", old.id) == {
        "items": [
            {
                "id": old.id,
                "outcome": "not_done",
                "outcome_id": row.id,
                "under_way": False,
                "detail": f"by the provider's record it had no effect: {row.id}, entry {row.log_index}",
            }
        ],
        "counts": {"not_done": 1},
    }
    assert f'"id": "{new.id}", "outcome": "in_progress", "outcome_id": null, "under_way": false' in result.stdout
    assert result.stdout.endswith('"counts": {"not_done": 1, "in_progress": 1}}\n')


def test_what_may_still_be_under_way(place: Place) -> None:
    """It is called as the list calls it: in progress, not unknown; and it is open."""
    attempt = place.caller("truthlocks").begin(ago=timedelta(0))

    line, summary = place.settle(status=1)

    [listed] = place.commands.json("relay", "list")["items"]
    assert [attempt.id, listed["outcome"]] == line.split()[:2] == [listed["id"], "in_progress"]
    assert summary == "1 looked at: 1 in_progress."


def test_some_of_them(place: Place) -> None:
    """By source, name or id; or by their own ids, in the order given."""
    first, second = place.caller("truthlocks"), place.caller("truthlocks")
    calls = [first.begin(), first.begin(), second.begin()]

    assert [line.split()[0] for line in place.settle("--source", second.party.source.name)] == [calls[2].id, "1"]
    assert [line.split()[0] for line in place.settle(calls[1].id, calls[0].id)] == [calls[1].id, calls[0].id, "2"]
    assert place.settle("--source", first.party.source.id) == ["No call is open."]


def test_of_another_tenant(place: Place) -> None:
    """Its calls are its own."""
    caller = place.caller("truthlocks", "other")
    attempt = caller.begin()

    assert place.settle() == ["No call is open."]
    assert "there is no call" in place.commands.refused("relay", "settle", attempt.id)
    assert place.settle("--tenant", "other")[-1] == "1 looked at: 1 not_done."


def test_what_cannot_be_asked(place: Place) -> None:
    """It is said, and nothing is looked at."""
    caller = place.caller("truthlocks")
    attempt = caller.begin()

    assert "give ids or --source, not both" in place.commands.refused("relay", "settle", "x", "--source", "y", status=2)
    assert f"there is no call '{OTHER}'" in place.commands.refused("relay", "settle", attempt.id, OTHER)
    assert "there is no source 'nobody'" in place.commands.refused("relay", "settle", "--source", "nobody")
    assert caller.call(attempt).outcome is None


def test_beside_a_service(place: Place) -> None:
    """Which goes on from what the command has recorded, and whose records are sound."""
    caller, sender = place.caller("truthlocks"), place.service.add_source()
    sender.post(revoked())
    caller.begin()
    place.settle()

    assert sender.post(revoked()).json()["log_index"] == caller.told()[-1].log_index + 1
    assert "nothing is wrong" in place.commands.ok("fsck")
