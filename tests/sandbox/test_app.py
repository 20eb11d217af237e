"""The sandbox as a whole: what belongs to no issuer alone."""

import gzip
import json
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver import providers
from receiver.sandbox import app, ledger
from receiver.sandbox.issuers import issuers
from receiver.sandbox.ledger import Act, Entry, Ledger, Step
from tests.sandbox.monitor import must_continue, read_checkpoint, read_log
from tests.sandbox.service import Sandbox, running
from translog.tiles import decode_bundle

JOB = "/partner/issuance_jobs/job_xyz789"
HEADERS = {"X-ClientId": "sandbox-client", "Accept-Version": "v4.0", "Authorization": "Bearer sandbox-token"}
MERCHANT = {"merchant_id": "k2lye10h32l5wzo"}


def vkey(sandbox: Sandbox) -> str:
    """The key of its log."""
    return str(sandbox.ledger.log.verifying_key)


def revoke(sandbox: Sandbox) -> httpx2.Response:
    """An act that is told twice: at once, and when it is done a moment later."""
    return sandbox.client.post(f"{JOB}/revoke", headers=HEADERS, json=MERCHANT)


def state(sandbox: Sandbox) -> str:
    """Where that act stands."""
    return sandbox.client.get(JOB, headers=HEADERS, params=MERCHANT).json()["issuance_job"]["state"]


def tell(told: Ledger, count: int, provider: str = "capillary") -> None:
    """Log that many entries, as one act."""
    with told.act(provider) as act:
        for number in range(count):
            act.tell(
                Entry(
                    account=None,
                    amount=None,
                    effect="revoked",
                    event="BADGE_REVOKE",
                    item_type="badge",
                    item_id=f"badge {number}",
                    operation=str(number),
                    quantity=None,
                )
            )


def things(kept: Ledger) -> Counter[tuple[str, str]]:
    """How many there are, by provider and kind."""
    table = ledger._things  # pyright: ignore[reportPrivateUsage]
    with kept._database.read() as tx:  # pyright: ignore[reportPrivateUsage]
        return Counter((row.provider, row.kind) for row in tx.execute(sa.select(table)))


def published(sandbox: Sandbox, size: int) -> None:
    """Wait for the checkpoint that covers so many entries."""
    sandbox.until(lambda: read_checkpoint(sandbox.client, vkey(sandbox)).size >= size)


# ---- what is there ------------------------------------------------------------------------------------------------


def test_every_provider_has_an_issuer() -> None:
    """Found by its name, and of that name."""
    assert list(issuers()) == providers.names()
    assert {name: issuer.name for name, issuer in issuers().items()} == {name: name for name in providers.names()}


def test_every_issuer_has_fixtures(sandbox: Sandbox) -> None:
    """A fresh sandbox has things of each, and nothing was done yet."""
    assert {provider for provider, _ in things(sandbox.ledger)} == set(providers.names())
    assert sandbox.entries() == []
    assert sandbox.ledger.owed() == []


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1", "/v1/nothing", "/log", "/sandbox", "/schema"])
def test_what_is_not_there_is_404(path: str, sandbox: Sandbox) -> None:
    """In JSON."""
    answer = sandbox.client.get(path)

    assert (answer.status_code, answer.json()) == (404, {"message": "There is nothing at this path"})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("method", "path"), [("GET", "/sandbox/reset"), ("DELETE", JOB), ("POST", "/log/checkpoint")])
def test_another_method_is_405(method: str, path: str, sandbox: Sandbox) -> None:
    """And says which there are."""
    answer = sandbox.client.request(method, path)

    assert (answer.status_code, answer.json()) == (405, {"message": "This path does not take this method"})
    assert {"POST"} if path == "/sandbox/reset" else {"GET"} <= set(answer.headers["allow"].split(", "))


def test_a_fault_of_the_sandbox_is_500(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """In JSON, and without what it was."""

    def fail(_: str) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(sandbox.ledger, "act", fail)
    answer = sandbox.client.post("/sandbox/reset")

    assert (
        answer.status_code,
        answer.json(),
    ) == (500, {"message": "This is a fault of the sandbox, and it was logged"})


# ---- reset, and starting again ------------------------------------------------------------------------------------


def test_reset_puts_the_fixtures_back(sandbox: Sandbox) -> None:
    """And takes away whatever else there is; no credential is asked for."""
    fixtures = things(sandbox.ledger)
    for provider in providers.names():
        with sandbox.ledger.act(provider) as act:
            act.put("oddity", "one", {})
    revoke(sandbox)
    sandbox.until(lambda: state(sandbox) == "revoked")

    answer = sandbox.client.post("/sandbox/reset")

    assert (answer.status_code, answer.content) == (204, b"")
    assert things(sandbox.ledger) == fixtures
    assert state(sandbox) == "completed"
    assert revoke(sandbox).status_code == 202


def test_reset_takes_back_what_was_put_off(sandbox: Sandbox) -> None:
    """What an act left to be done is not done to the fixtures."""
    revoke(sandbox)
    sandbox.client.post("/sandbox/reset")
    with sandbox.ledger.act("thanx") as act:
        assert act.tx.execute(sa.text("SELECT count(*) FROM steps")).scalar_one() == 0

    assert state(sandbox) == "completed"


def test_the_log_goes_on_after_a_reset(sandbox: Sandbox) -> None:
    """What was in it stays, and what is done next comes after."""
    revoke(sandbox)
    sandbox.until(lambda: state(sandbox) == "revoked")
    published(sandbox, 2)
    before, earlier = read_log(sandbox.client, vkey(sandbox)), read_checkpoint(sandbox.client, vkey(sandbox))

    sandbox.client.post("/sandbox/reset")
    revoke(sandbox)
    published(sandbox, 3)

    assert read_log(sandbox.client, vkey(sandbox))[:2] == before
    assert must_continue(sandbox.client, vkey(sandbox), earlier).size >= 3


def test_fixtures_are_put_on_the_first_start_only(tmp_path: Path) -> None:
    """The next one finds things as they were left, and the log's key as it was."""
    with running(tmp_path) as sandbox:
        first = vkey(sandbox)
        revoke(sandbox)
        sandbox.until(lambda: state(sandbox) == "revoked")
    with running(tmp_path) as sandbox:
        assert state(sandbox) == "revoked"
        assert vkey(sandbox) == first
        assert len(sandbox.entries()) == 2


def test_what_was_put_off_is_done_by_the_next_start(tmp_path: Path) -> None:
    """It is in the database until it was done."""
    with running(tmp_path) as sandbox:
        revoke(sandbox)
    with running(tmp_path) as sandbox:
        sandbox.until(lambda: state(sandbox) == "revoked")

        assert [entry["effect"] for entry in sandbox.entries()] == ["revoking", "revoked"]


# ---- the background -----------------------------------------------------------------------------------------------


@contextmanager
def opened(folder: Path) -> Generator[Ledger]:
    """A ledger without a running sandbox."""
    kept = Ledger.open(folder)
    yield kept
    kept.close()


def test_what_cannot_be_done_keeps_nothing_else_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays due, as it was; the rest is done, and signed for."""

    def go_on(act: Act, step: Step) -> None:
        tell_of = Entry(
            account=None, amount=None, effect="revoked", event="BADGE_REVOKE", item_type="badge", item_id=step.thing,
            operation=step.thing, quantity=None,
        )  # fmt: skip
        act.tell(tell_of)
        if step.thing == "bad":
            raise ValueError("this cannot be done")

    known = issuers()["capillary"]
    fake = type(known)(known.name, known.routes, known.put_fixtures, go_on, known.sign, known.sends)
    monkeypatch.setattr(app, "issuers", lambda: {"capillary": fake})
    with opened(tmp_path) as kept:
        with kept.act("capillary") as act:
            for thing in ("good", "bad", "better"):
                act.later("step", thing, 0)

        failures = app.go_on(kept)

        assert [str(failure) for failure in failures] == ["this cannot be done"]
        assert [step.thing for step in kept.due()] == ["bad"]
        assert kept.log.published_size == 2


def test_what_is_not_due_waits(tmp_path: Path) -> None:
    """Until its time has come."""
    with opened(tmp_path) as kept:
        with kept.act("thanx") as act:
            act.later("revoking", "job_xyz789", 3600)

        assert kept.due() == []


# ---- the log ------------------------------------------------------------------------------------------------------


def test_what_was_done_is_proved_by_the_log(sandbox: Sandbox) -> None:
    """By its tiles and the checkpoint alone, which is there soon after."""
    revoke(sandbox)
    sandbox.until(lambda: state(sandbox) == "revoked")
    published(sandbox, 2)

    entries: list[dict[str, Any]] = [json.loads(entry) for entry in read_log(sandbox.client, vkey(sandbox))]

    assert [(entry["event"], entry["effect"]) for entry in entries] == [
        ("ISSUANCE_JOB_REVOKE", "revoking"),
        ("ISSUANCE_JOB_REVOKE", "revoked"),
    ]
    assert entries == sandbox.entries()


def test_a_log_of_several_tiles(sandbox: Sandbox) -> None:
    """Full ones and partial ones, of entries and of hashes."""
    tell(sandbox.ledger, 600)
    earlier = read_checkpoint(sandbox.client, vkey(sandbox))
    published(sandbox, 600)

    assert [json.loads(entry) for entry in read_log(sandbox.client, vkey(sandbox))] == sandbox.entries()
    assert must_continue(sandbox.client, vkey(sandbox), earlier).size == 600


def test_the_log_of_a_fresh_sandbox_has_a_checkpoint(sandbox: Sandbox) -> None:
    """Of no entries; its origin is the log's own."""
    answer = sandbox.client.get("/log/checkpoint")

    assert (answer.headers["content-type"], answer.headers["cache-control"]) == (
        "text/plain; charset=utf-8",
        "public, max-age=1",
    )
    checkpoint = read_checkpoint(sandbox.client, vkey(sandbox))
    assert (checkpoint.size, checkpoint.origin) == (0, vkey(sandbox).partition("+")[0])


@pytest.mark.parametrize("path", ["tile/0/1", "tile/0//000.p/1", "tile/0/000.p/1/", "tile/9/000", "nothing"])
def test_a_path_that_the_log_has_not_is_404(path: str, sandbox: Sandbox) -> None:
    """One that is not canonical included, which the framework would match."""
    tell(sandbox.ledger, 1)
    published(sandbox, 1)
    answer = sandbox.client.get(f"/log/{path}")

    assert (answer.status_code, list(answer.json())) == (404, ["message"])


def test_a_tile_to_head_and_a_bundle_compressed(sandbox: Sandbox) -> None:
    """As a monitor may ask for them."""
    tell(sandbox.ledger, 1)
    published(sandbox, 1)
    head = sandbox.client.head("/log/tile/0/000.p/1")
    with sandbox.client.stream("GET", "/log/tile/entries/000.p/1", headers={"accept-encoding": "gzip"}) as bundle:
        packed = b"".join(bundle.iter_raw())

    assert (head.status_code, head.headers["content-length"], head.content) == (200, "32", b"")
    assert bundle.headers["content-encoding"] == "gzip"
    assert [json.loads(entry) for entry in decode_bundle(gzip.decompress(packed))] == sandbox.entries()
