"""The sandbox as a whole: what belongs to no issuer alone."""

import gzip
import json
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, cast

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

POINTS = (
    "/v2/loyalties/programs/lprg_128f58429f4c4bf7b2/members/lmbr_128f962dbc8c4ba5dc"
    "/cards/lcrd_128f962dbd8c4ba5df/pending-points/lcppb_12db4ebb0483a14091/cancel"
)
TOKEN = {"Authorization": "Bearer sandbox-token"}
KEY = {"Idempotency-Key": "5b0e1f9c-0d3f-4d5c-8a55-0c7d1f2e3a4b"}

ACTS: dict[str, tuple[str, dict[str, str]]] = {
    "capillary": ("/api_gateway/v1/badges/customer/revokeEarn", TOKEN),
    "scrip": ("/v1/redemptions/550e8400-e29b-41d4-a716-446655440001/reverse", {"X-API-Key": "scrip_sandbox"}),
    "thanx": (f"{JOB}/revoke", HEADERS),
    "truthlocks": ("/v1/receipts/3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01/revoke", TOKEN | KEY),
    "voucherify": (POINTS, TOKEN | {"X-App-Id": "sandbox-app", "X-App-Token": "sandbox-app-token"}),
}
"""Each provider's operation: its path, and the headers that it needs."""
BODY = {"badgeMetaId": "1", "customerId": "2", "earnedBadgeId": "3", "reason": "a test", **MERCHANT}
"""What serves each of them."""
SHAPES = {
    "capillary": {"data": NoneType, "errors": [{"code": int, "message": str}], "warnings": []},
    "scrip": {"code": str, "message": str},
    "thanx": {"error": {"code": str, "message": str}},
    "truthlocks": {"code": str, "message": str, "http_status": int},
    "voucherify": {"code": int, "key": str, "message": str, "details": str, "request_id": str},
}
"""How each documents its errors."""


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


@pytest.mark.parametrize(("method", "path", "other"), [("GET", "/sandbox/reset", "POST"), ("POST", "/log/x", "GET")])
def test_another_method_is_405(method: str, path: str, other: str, sandbox: Sandbox) -> None:
    """And says which there are."""
    answer = sandbox.client.request(method, path)

    assert (answer.status_code, answer.json()) == (405, {"message": "This path does not take this method"})
    assert other in answer.headers["allow"].split(", ")


def shape_of(document: Any) -> Any:
    """The names of members, and what type their values are of."""
    if isinstance(document, dict):
        return {name: shape_of(value) for name, value in cast("dict[str, Any]", document).items()}
    if isinstance(document, list):
        return [shape_of(one) for one in cast("list[Any]", document)]
    return type(cast("object", document))


@pytest.mark.parametrize("provider", providers.names())
def test_every_error_under_an_issuers_path_is_in_its_shape(
    provider: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path or a method that is not there, a body that is too large, and a fault of the sandbox's own."""
    path, headers = ACTS[provider]
    elsewhere = f"{issuers()[provider].base}/no/such/path"
    answers = [sandbox.client.post(elsewhere, headers=headers), sandbox.client.delete(path, headers=headers)]
    if provider != "voucherify":  # whose operation has no body to look at
        answers.append(sandbox.client.post(path, headers=headers, content=b" " * 11_000_000))
    monkeypatch.setattr(sandbox.ledger, "act", None)
    answers.append(sandbox.client.post(path, headers=headers, json=BODY))

    assert [answer.status_code for answer in answers] == [404, 405, *([413] * (len(answers) - 3)), 500]
    assert [shape_of(answer.json()) for answer in answers] == [SHAPES[provider]] * len(answers)
    assert "POST" in answers[1].headers["allow"]


@pytest.mark.parametrize("path", ["/v1/receiptsx", "/v1/redemption", "/partner/"])
def test_what_only_begins_like_an_issuers_path_is_not_its(path: str, sandbox: Sandbox) -> None:
    """It is as any other path that is not there."""
    assert sandbox.client.get(path).json() == {"message": "There is nothing at this path"}


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
    monkeypatch.setattr(app, "issuers", lambda: {"capillary": replace(known, go_on=go_on)})
    with opened(tmp_path) as kept:
        with kept.act("capillary") as act:
            for thing in ("good", "bad", "better"):
                act.later("step", thing, 0)

        failures = app.go_on(kept)

        assert [str(failure) for failure in failures] == ["this cannot be done"]
        assert [step.thing for step in kept.due()] == ["bad"]
        assert kept.log.published_size == 2


def test_a_step_that_a_reset_forgot_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if it was seen to be due before: the job that is revoked anew has its own time."""
    with opened(tmp_path) as kept:
        app.put_fixtures(kept, anew=True)
        with kept.act("thanx") as act:
            act.later("revoking", "job_xyz789", 0)
        [seen] = kept.due()
        app.put_fixtures(kept, anew=True)
        with kept.act("thanx") as act:
            job = act.get("issuance_job", "job_xyz789") or {}
            act.put("issuance_job", "job_xyz789", {**job, "job": {**job["job"], "state": "revoking"}})
        monkeypatch.setattr(kept, "due", lambda: [seen])

        assert app.go_on(kept) == []
        with kept.read("thanx") as books:
            after = books.get("issuance_job", "job_xyz789") or {}
        assert after["job"]["state"] == "revoking"


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
