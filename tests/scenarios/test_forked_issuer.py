"""An issuer's log that shows two histories: it is caught, and anybody can be shown what proves it.

The sandbox exchanges the last entry of its log, and signs that. From then on nothing of this log counts: what was found
before stays, and what comes after stays pending. Deliveries are taken as before.
"""

import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.scenarios.callers import Things, of_receipt
from tests.scenarios.pairing import Pair, Told, grace_goes_by, paired
from tests.scenarios.service import revoked, until
from translog.fork import Fork
from translog.note import SigningKey


@dataclass(frozen=True, slots=True)
class Forked:
    """Sandbox and receiver after the fork, and the events of before and after."""

    pair: Pair
    before: str
    """Confirmed, by the entry that is not in the other history."""
    after: str
    """Of something that was done after it, and is in the log that is shown now."""
    forged: str
    withheld: str
    """A receipt that was revoked after it, of which nobody was told."""


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Generator[Forked]:
    """The whole story; it ends when everything could have been judged that came after the fork."""
    with paired(tmp_path_factory.mktemp("forked")) as pair, grace_goes_by(pair) as grace_is_over:
        first, second, third, *_ = Things.made(pair.sandbox.url, 8).receipts
        pair.call(of_receipt(first, relayed=False, key=first))
        before = pair.event(Told("truthlocks", first, "webhook", "revoked"))["id"]
        pair.becomes(before, "confirmed")
        pair.is_read()

        exchanged = pair.misbehave("log/fork")["exchanged"]
        assert exchanged == pair.check(before)["issuer_index"]
        until(lambda: pair.issuer_log()["state"] == "forked")

        pair.call(of_receipt(second, relayed=False, key=second))
        after = pair.event(Told("truthlocks", second, "webhook", "revoked"))["id"]
        forged = pair.deliver("truthlocks", revoked())["event_id"]
        pair.misbehave("withhold/truthlocks")
        pair.call(of_receipt(third, relayed=False, key=third))
        grace_is_over()
        yield Forked(pair, before, after, forged, third)


def test_its_cross_checks_are_frozen(forked: Forked) -> None:
    """What was confirmed stays so; nothing is confirmed, absent or a gap by what a log that lies says."""
    pair = forked.pair
    assert len(pair.issued()) == 3
    states = [pair.check(one)["state"] for one in (forked.before, forked.after, forked.forged)]
    assert states == ["confirmed", "pending", "pending"]
    assert pair.listed("/v1/gaps") == []
    assert pair.issuer_log()["next_index"] == 1, "it is followed no more"


def test_who_asks_is_told(forked: Forked) -> None:
    """Over HTTP and by command: that it has forked, when that was seen, and which two trees it signed."""
    found = forked.pair.issuer_log()
    fork = found["fork"]
    assert (found["state"], found["origin"]) == ("forked", forked.pair.issuer)
    assert (fork["smaller"]["size"], fork["larger"]["size"]) == (1, 1)
    assert fork["smaller"]["root"] != fork["larger"]["root"]

    said = forked.pair.site.tell("receiver", "issuer-log", "list")
    assert f"{forked.pair.issuer}  forked" in said
    assert f"receiver issuer-log evidence {found['id']} --out FILE" in said
    (listed, _) = json.loads(forked.pair.site.tell("receiver", "issuer-log", "list", "--json"))["items"]
    assert (listed["id"], listed["state"], listed["fork"]) == (found["id"], "forked", fork)


def test_who_is_on_call_is_told(forked: Forked) -> None:
    """By a metric, and by what readiness says: that is no reason to take no deliveries, so it is ready."""
    answer = forked.pair.service.client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert answer.json()["issuer_logs"] == f"forked: {forked.pair.issuer}"
    families = text_string_to_metric_families(forked.pair.service.client.get("/metrics").text)
    of_logs = {
        (sample.name, sample.labels["log"]): sample.value
        for family in families
        for sample in family.samples
        if "log" in sample.labels
    }
    assert of_logs["rescind_issuer_log_forked", forked.pair.issuer] == 1
    assert sum(value for (name, _), value in of_logs.items() if name == "rescind_issuer_log_forked") == 1


def test_the_evidence_convinces_anybody(forked: Forked, tmp_path: Path) -> None:
    """Whoever has the key of the issuer's log verifies it offline; by another key, or damaged, it shows nothing."""
    site, log_id = forked.pair.site, forked.pair.issuer_log()["id"]
    file = tmp_path / "issuer.fork"
    site.tell("receiver", "issuer-log", "evidence", log_id, "--out", file)

    said = site.tell("translog", "verify", file, "--key", forked.pair.sandbox.vkey)
    assert said.startswith(
        f"FORKED: the log {forked.pair.issuer} signed two checkpoints that cannot both be of one log."
    )
    another = str(SigningKey.generate(forked.pair.issuer).verifying_key())
    for key in (another, forked.pair.vkey):
        refused = site.run("translog", "verify", file, "--key", key)
        assert (refused.returncode, refused.stdout) == (1, "")
    served = forked.pair.service.get(f"/v1/issuer-logs/{log_id}/fork", forked.pair.key)
    assert served.content == file.read_bytes()
    fork = Fork.parse(served.content)
    same = tmp_path / "same.fork"
    same.write_bytes(replace(fork, larger=fork.smaller).encode())
    refused = site.run("translog", "verify", same, "--key", forked.pair.sandbox.vkey)
    assert (refused.returncode, refused.stdout) == (1, "")


def told_of(forked: Forked) -> list[dict[str, Any]]:
    """The forks that our log tells of."""
    return [dict(leaf.facts) | {"id": leaf.id} for leaf in forked.pair.told("fork")]


def test_our_log_tells_of_it_once(forked: Forked) -> None:
    """With the evidence in what the entry commits to."""
    log_id = forked.pair.issuer_log()["id"]
    (told,) = told_of(forked)
    assert (told["issuer_log"], told["state"]) == (log_id, "forked")

    said = forked.pair.verify(forked.pair.evidence(told["id"]))
    assert (said.returncode, said.stderr) == (0, "")
    assert forked.pair.issuer in said.stdout


def test_whoever_names_it_now_is_told_as_well(forked: Forked) -> None:
    """Another tenant's source names it after that: it is forked for them from the beginning, and their log says so."""
    pair = forked.pair
    site = pair.site
    log = pair.issuer_log()
    added = site.run(
        *("receiver", "source", "add", "late", "--provider", "truthlocks", "--scheme", "standard-webhooks"),
        *("--tenant", "late", "--exclusive", "--issuer-log-url", log["url"], "--issuer-log-key", pair.sandbox.vkey),
        *("--issuer-log-from", "0"),
    )
    assert added.returncode == 0, added
    assert f"the log {pair.issuer} has forked" in added.stderr
    key = json.loads(site.tell("receiver", "key", "create", "late", "--scopes", "audit", "--tenant", "late", "--json"))
    (seen,) = pair.service.get("/v1/issuer-logs", key["key"]).json()["items"]
    assert (seen["id"], seen["state"]) == (log["id"], "forked")
    vkey = site.tell("receiver", "log-key", "--tenant", "late").strip()

    def told() -> list[str]:
        size = pair.service.checkpoint(vkey, "late").size
        return [json.loads(one)["kind"] for one in pair.service.entries(size, "late")]

    until(lambda: told().count("fork") == 1)


def test_nothing_is_wrong_afterwards(forked: Forked) -> None:
    """Every entry, tile, checkpoint and row of ours is in order."""
    assert "nothing is wrong" in forked.pair.site.tell("receiver", "fsck")


def test_after_a_restart_it_is_forked_still(forked: Forked) -> None:
    """It is told no second time, and nothing of it is believed again."""
    pair = forked.pair
    pair.restart()
    until(lambda: pair.service.client.get("/health/ready").json()["issuer_logs"] == f"forked: {pair.issuer}")
    assert pair.issuer_log()["state"] == "forked"
    assert [told["issuer_log"] for told in told_of(forked)] == [pair.issuer_log()["id"]]
    assert pair.check(forked.after)["state"] == "pending"
