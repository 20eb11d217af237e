"""What an auditor verifies offline who has the keys of two logs: the operator's, and the issuer's.

The evidence of a confirmed event carries the issuer's own proof. It convinces without the operator's word: that it is
of this event, and not of another one, is checked as well.
"""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from receiver.sandbox import voucherify
from tests.receiver.five import FIVE
from tests.scenarios.callers import (
    BADGES,
    LOTS,
    RAW,
    Call,
    Things,
    of_badge,
    of_bucket,
    of_job,
    of_receipt,
    of_redemption,
)
from tests.scenarios.pairing import Pair, Told, paired
from translog.evidence import Evidence
from translog.note import SigningKey
from translog.proof import TlogProof

EFFECTS = {
    "truthlocks": "revoked",
    "thanx": "revoking",
    "capillary": "revoked",
    "voucherify": "canceling",
    "scrip": "reversed",
}
"""What the answer to a call says of each, by provider."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """Sandbox and receiver."""
    with paired(tmp_path_factory.mktemp("evidence")) as pair:
        yield pair


@pytest.fixture(scope="module")
def files(pair: Pair) -> dict[str, Path]:
    """By provider, the evidence of a call that passed through the relay and was confirmed."""
    things = Things.made(pair.sandbox.url, 8)
    pair.completed(things.jobs[0])
    calls: list[Call] = [
        of_receipt(things.receipts[0], relayed=True),
        of_job(things.jobs[0], relayed=True),
        of_badge(BADGES[0], relayed=True),
        of_bucket(voucherify.PENDING, relayed=True),
        of_redemption(RAW, {"amount": "100.00"}, relayed=True),
    ]
    events = {call.provider: pair.call(call).headers["x-rescind-event"] for call in calls}
    for event_id in events.values():
        pair.becomes(event_id, "confirmed")
    return {provider: pair.evidence(event_id) for provider, event_id in events.items()}


def exchanged(file: Path, other: Path) -> Path:
    """The evidence of one event with the issuer's proof of another one."""
    proof, another = (TlogProof.parse(one.read_bytes()) for one in (file, other))
    issuer = Evidence.parse(another.extra or b"").issuer
    changed = replace(Evidence.parse(proof.extra or b""), issuer=issuer)
    target = file.with_name(f"{file.stem}-with-{other.stem}.tlog-proof")
    target.write_bytes(replace(proof, extra=changed.encode()).encode())
    return target


@pytest.mark.parametrize("provider", EFFECTS)
def test_both_logs_are_verified(provider: str, pair: Pair, files: dict[str, Path]) -> None:
    """With both keys it says so, and exits with 0; and it says who signed what."""
    said = pair.verify(files[provider], "--issuer-key", pair.sandbox.vkey)

    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("VERIFIED: this record is in the log, unchanged.\n")
    words = " ".join(said.stdout.split())
    assert f"effect {EFFECTS[provider]}" in words
    assert f"The issuer's log {pair.issuer} signed a checkpoint of" in words
    assert "The issuer itself stands for it." in words
    assert "That entry and this record say the same as provider, item type, item id, effect" in words


def test_with_our_key_alone(pair: Pair, files: dict[str, Path]) -> None:
    """The issuer's proof is there, and was not checked: that is said, and nothing is claimed by it."""
    said = pair.verify(files["scrip"])

    assert said.returncode == 0
    words = " ".join(said.stdout.split())
    assert "its proof is attached, but was not checked" in words
    assert "The issuer itself stands for it." not in words


def test_with_another_issuers_key(pair: Pair, files: dict[str, Path]) -> None:
    """Another log of that name, or any other log: it is not verified, and the exit status is 1."""
    for name in (pair.issuer, "issuer.example/log"):
        another = str(SigningKey.generate(name).verifying_key())
        refused = pair.verify(files["scrip"], "--issuer-key", another)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "NOT VERIFIED" in refused.stderr


@pytest.mark.parametrize("provider", EFFECTS)
def test_with_the_issuers_proof_of_another_event(provider: str, pair: Pair, files: dict[str, Path]) -> None:
    """It is a true proof of the issuer's log, and not of this event: whoever puts it in is found out."""
    other = next(name for name in EFFECTS if name != provider)
    file = exchanged(files[provider], files[other])

    refused = pair.verify(file, "--issuer-key", pair.sandbox.vkey)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "NOT VERIFIED" in refused.stderr


def test_with_the_issuers_proof_of_another_act_on_the_same_item(pair: Pair) -> None:
    """Two reversals of the same amount of one redemption are two acts: the one's proof is not the other's."""
    calls = [of_redemption(LOTS, {"amount": "10.00"}, relayed=True, reason=reason) for reason in ("one", "other")]
    events = [pair.call(call).headers["x-rescind-event"] for call in calls]
    for event_id in events:
        pair.becomes(event_id, "confirmed")
    file = exchanged(*map(pair.evidence, events))

    refused = pair.verify(file, "--issuer-key", pair.sandbox.vkey)
    assert refused.returncode == 1
    assert "operation" in refused.stderr


def test_of_what_the_issuer_does_not_confirm(pair: Pair) -> None:
    """An event that is absent has no proof of the issuer's: its record verifies, and no more is to be had."""
    forged = pair.deliver("scrip", FIVE["scrip"].body())["event_id"]
    pair.becomes(forged, "absent")
    file = pair.evidence(forged)

    assert pair.verify(file).returncode == 0
    refused = pair.verify(file, "--issuer-key", pair.sandbox.vkey)
    assert (refused.returncode, refused.stdout) == (1, "")


def test_of_a_contradiction(pair: Pair) -> None:
    """What contradicts an event is proved by the evidence of the cross-check: the issuer's own denial is in it."""
    pair.call(of_bucket(voucherify.REJECTED, relayed=False))
    canceling = pair.event(Told("voucherify", voucherify.REJECTED, "declared", "canceling"))
    finding = pair.becomes(canceling["id"], "contradicted")["cross_check"]["id"]

    said = pair.verify(pair.evidence(finding), "--issuer-key", pair.sandbox.vkey)
    assert (said.returncode, said.stderr) == (0, "")
    assert '"effect":"rejected"' in said.stdout
    assert pair.verify(pair.evidence(finding), "--issuer-key", pair.vkey).returncode == 1
    assert pair.verify(pair.evidence(canceling["id"]), "--issuer-key", pair.sandbox.vkey).returncode == 1
