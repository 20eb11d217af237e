"""`receiver reconcile`: events are checked against the providers' own records now, beside a service and without one."""

import signal
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from receiver.events import format_time
from receiver.records.credentials import set_credential
from receiver.records.opening import Records
from tests.receiver.asked import LONG_AGO, Checked, new_checked
from tests.receiver.commands import Commands
from tests.receiver.open_calls import NOBODY, base_of, done_at
from tests.receiver.operations import JOB, MERCHANT, RECEIPT, REDEMPTION
from tests.receiver.service import running as serving
from tests.receiver.service import settings_in
from tests.sandbox.process import Process, started
from tests.sandbox.service import Sandbox, running

KEY = "9f1c2d3e-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Place:
    """Commands on a data folder, what is in it, and the providers; no service."""

    commands: Commands
    records: Records
    sandbox: Sandbox

    def checked(self, provider: str, tenant: str = "default") -> Checked:
        """A new source whose provider is the sandbox."""
        return new_checked(self.records, provider, tenant=tenant, upstream=base_of(self.sandbox))

    def revoke(self) -> str:
        """Have the receipt of the sandbox revoked, and give when."""
        done_at(self.sandbox, "truthlocks", f"/v1/receipts/{RECEIPT}/revoke", {"reason": "r"}, KEY)
        shown = self.sandbox.client.get(f"/v1/receipts/{RECEIPT}", headers={"x-api-key": "tl_test_sandbox"})
        return str(shown.json()["revoked_at"])

    def reconcile(self, *arguments: str, status: int = 0) -> list[str]:
        """Run the command, which must end so; the lines that it printed."""
        result = self.commands.run("reconcile", *arguments)
        assert (result.exit_code, result.stderr) == (status, ""), result.output
        return result.stdout.splitlines()


@pytest.fixture(scope="module")
def issuers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """The providers: a running sandbox, shared by the tests of the module."""
    with running(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def place(tmp_path: Path, issuers: Sandbox) -> Generator[Place]:
    """Records with no events yet, and providers where nothing was done yet."""
    assert issuers.client.post("/sandbox/reset").status_code == 204
    commands = Commands(tmp_path)
    commands.ok("init")
    with closing(commands.records()) as records:
        yield Place(commands, records, issuers)


def test_what_became_of_each(place: Place) -> None:
    """A line for each event, then how many of each; the status tells that there is something to look into."""
    receipts = place.checked("truthlocks")
    revoked_at = place.revoke()
    events = [
        receipts.deliver(RECEIPT, revoked_at=revoked_at),
        receipts.deliver(RECEIPT, revoked_at="2026-11-20T08:59:58Z"),
        receipts.deliver(str(uuid4())),
        receipts.deliver(forged := str(uuid4()), ago=LONG_AGO),
    ]
    name = place.commands.json("source", "list")["items"][0]["name"]

    lines = place.reconcile(status=1)

    assert [line.split()[:4] for line in lines[:4]] == [
        [events[0], "confirmed", name, f"receipt:{RECEIPT}"],
        [events[1], "contradicted", name, f"receipt:{RECEIPT}"],
        [events[2], "pending", name, lines[2].split()[3]],
        [events[3], "absent", name, f"receipt:{forged}"],
    ]
    assert lines[1].endswith("the provider's record says otherwise: at")
    assert lines[2].endswith("the provider's record is not there: the answer is 404")
    assert lines[4:] == ["4 asked about: 1 absent, 1 confirmed, 1 contradicted, 1 pending."]
    assert [receipts.state(one)[0] for one in events] == ["confirmed", "contradicted", "pending", "absent"]
    assert "nothing is wrong" in place.commands.ok("fsck")


def test_what_is_known_is_not_asked_again(place: Place) -> None:
    """And what is pending is, whatever it is due at, or if it was given up."""
    receipts = place.checked("truthlocks")
    event_id, later, given_up = (receipts.tell(str(uuid4())) for _ in range(3))
    place.reconcile()
    receipts.set_check(event_id, state="confirmed", due_at=None)
    receipts.set_check(later, due_at=format_time(datetime.now(UTC) + timedelta(days=1)))
    receipts.set_check(given_up, due_at=None)

    assert [line.split()[0] for line in place.reconcile()] == [later, given_up, "2"]


def test_three_providers(place: Place) -> None:
    """What was done there is confirmed by each one's own record."""
    place.revoke()
    done_at(place.sandbox, "thanx", f"/partner/issuance_jobs/{JOB}/revoke", {"merchant_id": MERCHANT})
    done_at(place.sandbox, "scrip", f"/v1/redemptions/{REDEMPTION}/reverse", {"reason": "r", "amount": "40.00"})
    sources = [place.checked(name) for name in ("truthlocks", "thanx", "scrip")]
    for source in sources:
        (body,) = place.sandbox.owed(source.provider)[-1:]
        source.deliver_body(body)

    assert place.reconcile()[-1] == "3 asked about: 3 confirmed."


def test_the_proof_bundle_is_kept(place: Place) -> None:
    """Its path is checked; what nobody documents is said not to be."""
    receipts = place.checked("truthlocks")
    event_id = receipts.deliver(RECEIPT, revoked_at=place.revoke())
    (line, _) = place.reconcile()
    bundle = receipts.data(event_id)["bundle"]

    assert line.endswith("the provider's record says the same; its proof bundle is proven")
    assert (bundle["checked"], bundle["not_checked"]) == (["inclusion"], ["leaf_encoding", "checkpoint_signature"])
    log = place.sandbox.ledger.log
    _, leaf_hash, root = log.inclusion_proof(bundle["index"], bundle["size"])
    assert (bundle["log"], bundle["leaf_hash"], bundle["root"]) == (log.origin, leaf_hash.hex(), root.hex())


def test_as_json(place: Place) -> None:
    """One object, in words that programs know."""
    receipts = place.checked("truthlocks")
    event_id = receipts.deliver(RECEIPT, revoked_at=place.revoke())
    name = place.commands.json("source", "list")["items"][0]["name"]

    assert place.commands.json("reconcile") == {
        "items": [
            {
                "event_id": event_id,
                "source": name,
                "item": {"type": "receipt", "id": RECEIPT},
                "state": "confirmed",
                "outcome": "confirmed",
                "detail": "the provider's record says the same; its proof bundle is proven",
            }
        ],
        "counts": {"confirmed": 1},
        "not_asked": [],
    }


def test_what_cannot_be_asked(place: Place) -> None:
    """It is said of each source, and why; that is nothing wrong with an event."""
    bare, off, no_upstream = (place.checked("truthlocks") for _ in range(3))
    set_credential(place.records, bare.tenant, bare.source_id, None)
    off.set_source(enabled=False)
    no_upstream.moves(None)
    place.commands.ok("source", "add", "badges", "--provider", "capillary", "--scheme", "token", "--header", "x-token")
    names = [one["name"] for one in place.commands.json("source", "list")["items"]]
    for one in (bare, off, no_upstream):
        one.deliver(str(uuid4()))

    assert place.reconcile() == [
        f"Source {names[0]}: not asked: it has no read-only credential: receiver source credential",
        f"Source {names[1]}: not asked: it is disabled: receiver source enable",
        f"Source {names[2]}: not asked: it has no upstream: receiver source set --upstream",
        "Source badges: not asked: the provider documents no record to ask",
        "No event was asked about.",
    ]


def test_an_upstream_that_nobody_is_at(place: Place) -> None:
    """After three failures in a row it is asked no more; another source's is."""
    gone, well = place.checked("truthlocks"), place.checked("truthlocks")
    gone.moves(NOBODY)
    for _ in range(5):
        gone.deliver(str(uuid4()))
    event_id = well.deliver(RECEIPT, revoked_at=place.revoke())
    names = [one["name"] for one in place.commands.json("source", "list")["items"]]

    lines = place.reconcile()

    assert [line.split()[1] for line in lines[:4]] == ["pending", "pending", "pending", "confirmed"]
    assert lines[3].startswith(event_id)
    why = "the provider's record cannot be asked: unreachable"
    assert lines[4:] == [
        f"Source {names[0]}: not asked about the others: {why}",
        "4 asked about: 1 confirmed, 3 pending.",
    ]


def test_some_of_them(place: Place) -> None:
    """Of one source, by name or id; and of one tenant."""
    first, second, others = place.checked("truthlocks"), place.checked("truthlocks"), place.checked("scrip", "other")
    events = [one.deliver(str(uuid4())) for one in (first, second, others)]
    name = place.commands.json("source", "list")["items"][0]["name"]

    assert [line.split()[0] for line in place.reconcile("--source", name)] == [events[0], "1"]
    assert [line.split()[0] for line in place.reconcile("--source", second.source_id)] == [events[1], "1"]
    assert [line.split()[0] for line in place.reconcile("--tenant", "other")] == [events[2], "1"]
    assert "there is no source 'nobody'" in place.commands.refused("reconcile", "--source", "nobody")


def test_beside_a_service(tmp_path: Path, issuers: Sandbox) -> None:
    """Whoever comes first tells it, once; and the records are sound."""
    assert issuers.client.post("/sandbox/reset").status_code == 204
    commands = Commands(tmp_path)
    with serving(settings_in(tmp_path)) as service:
        place = Place(commands, service.records, issuers)
        receipts = place.checked("truthlocks")
        revoked_at = place.revoke()
        events = [receipts.deliver(RECEIPT, revoked_at=revoked_at)]
        events += [receipts.deliver(str(uuid4()), ago=LONG_AGO) for _ in range(5)]
        assert commands.run("reconcile").exit_code in {0, 1}  # 0 where the service was faster
        place.sandbox.until(lambda: all(receipts.state(one)[0] != "pending" for one in events))

        assert [receipts.states(one) for one in events] == [["confirmed"], *[["absent"]] * 5]
    assert "nothing is wrong" in commands.ok("fsck")


def test_a_sandbox_of_its_own(tmp_path: Path) -> None:
    """The providers in a process of their own: while that is away nothing is said, and then all is as before."""
    commands = Commands(tmp_path)
    commands.ok("init")
    with started(tmp_path) as sandbox, closing(commands.records()) as records:
        receipts = new_checked(records, "truthlocks", upstream=sandbox.url)
        event_id = receipts.deliver(RECEIPT, revoked_at=revoked_in(sandbox))
        sandbox.end(signal.SIGKILL)
        assert commands.ok("reconcile").splitlines()[-1] == "1 asked about: 1 pending."

        with started(tmp_path) as again:
            receipts.moves(again.url)
            assert commands.ok("reconcile").splitlines()[-1] == "1 asked about: 1 confirmed."
        assert receipts.states(event_id) == ["confirmed"]


def revoked_in(sandbox: Process) -> str:
    """Have its receipt revoked; when it was."""
    headers = {"x-api-key": "tl_test_sandbox", "idempotency-key": KEY}
    answer = sandbox.client.post(f"/v1/receipts/{RECEIPT}/revoke", json={"reason": "r"}, headers=headers)
    return str(answer.json()["revoked_at"])
