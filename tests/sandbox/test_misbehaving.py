"""`receiver.sandbox.misbehaving`: what is made to go wrong does, and nothing else."""

from pathlib import Path

import pytest

from tests.sandbox.service import Sandbox, running
from translog import note
from translog.checkpoint import Checkpoint
from translog.note import Note
from translog.tiles import decode_bundle

REVERSE = "/v1/redemptions/550e8400-e29b-41d4-a716-446655440001/reverse"
KEY = {"X-API-Key": "scrip_sandbox"}


def reverse(sandbox: Sandbox, amount: str) -> None:
    """Take back a part of the redemption."""
    answer = sandbox.client.post(REVERSE, headers=KEY, json={"reason": "a test", "amount": amount})
    assert answer.status_code == 201, answer.text


def signed(sandbox: Sandbox, size: int) -> Checkpoint:
    """The checkpoint of that size, once it is signed."""

    def newest() -> Checkpoint:
        data = sandbox.client.get("/log/checkpoint").content
        return Checkpoint.parse(note.open(data, [sandbox.ledger.log.verifying_key]).text)

    sandbox.until(lambda: newest().size == size)
    return newest()


def test_forked_log(tmp_path: Path) -> None:
    """A fork shows as many entries as before, all but the last as they were, and is signed by the same key."""
    with running(tmp_path) as sandbox:
        reverse(sandbox, "1.00")
        reverse(sandbox, "2.00")
        before, entries = signed(sandbox, 2), sandbox.entries()
        assert sandbox.client.post("/sandbox/log/fork").json() == {"exchanged": 1}
        after = signed(sandbox, 2)
        assert (after.origin, after.size) == (before.origin, before.size)
        assert after.root != before.root
        assert sandbox.entries()[0] == entries[0]
        assert sandbox.entries()[1]["item"]["id"] != entries[1]["item"]["id"]
        served = decode_bundle(sandbox.client.get("/log/tile/entries/000.p/2").content)
        assert len(served) == 2


def test_every_fork_shows(tmp_path: Path) -> None:
    """Whatever is signed in the background just then: what is shown afterwards is never the history of before."""
    with running(tmp_path) as sandbox:
        reverse(sandbox, "1.00")
        roots = {signed(sandbox, 1).root}
        for number in range(2, 52):
            assert sandbox.client.post("/sandbox/log/fork").json() == {"exchanged": 0}
            roots.add(signed(sandbox, 1).root)
            assert len(roots) == number


def test_forked_log_goes_on(tmp_path: Path) -> None:
    """A forked log grows, and is the forked one when the sandbox is started again."""
    with running(tmp_path) as sandbox:
        reverse(sandbox, "1.00")
        signed(sandbox, 1)
        sandbox.client.post("/sandbox/log/fork")
        reverse(sandbox, "2.00")
        forked, key = signed(sandbox, 2), str(sandbox.ledger.log.verifying_key)
    with running(tmp_path) as sandbox:
        assert signed(sandbox, 2) == forked
        assert str(sandbox.ledger.log.verifying_key) == key


def test_nothing_to_fork(tmp_path: Path) -> None:
    """An empty log has but one history."""
    with running(tmp_path) as sandbox:
        assert sandbox.client.post("/sandbox/log/fork").status_code == 409


def test_log_is_down(tmp_path: Path) -> None:
    """A log that is down answers 503 to everything under it, and is what it was once it is up again."""
    with running(tmp_path) as sandbox:
        before = sandbox.client.get("/log/checkpoint").content
        assert sandbox.client.post("/sandbox/log/down").status_code == 204
        assert sandbox.client.get("/log/checkpoint").status_code == 503
        assert sandbox.client.head("/log/checkpoint").status_code == 503
        reverse(sandbox, "1.00")
        assert sandbox.client.post("/sandbox/log/up").status_code == 204
        assert Note.parse(before)
        assert signed(sandbox, 1).size == 1


@pytest.mark.parametrize("notices", [1, 2])
def test_withheld(tmp_path: Path, notices: int) -> None:
    """So many of a provider's next notices are owed to nobody; the ones after them are, and all of them are logged."""
    with running(tmp_path) as sandbox:
        assert sandbox.client.post(f"/sandbox/withhold/scrip?notices={notices}").status_code == 204
        for _ in range(3):
            reverse(sandbox, "1.00")
        assert len(sandbox.owed("scrip")) == 3 - notices
        assert len(sandbox.entries()) == 3


@pytest.mark.parametrize(("path", "status"), [("nobody", 404), ("scrip?notices=-1", 400), ("scrip?notices=x", 400)])
def test_withheld_wrongly(tmp_path: Path, path: str, status: int) -> None:
    """A provider that there is not, and a number that is none, are refused."""
    with running(tmp_path) as sandbox:
        answer = sandbox.client.post(f"/sandbox/withhold/{path}")
        assert answer.status_code == status
        assert answer.json()["message"]
