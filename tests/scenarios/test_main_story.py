"""The whole story, from an empty folder to a proof that an auditor verifies offline."""

from dataclasses import replace
from pathlib import Path

from tests.scenarios.service import Site, leaves, revoked
from translog.evidence import Delivery, Evidence
from translog.merkle import verify_consistency
from translog.proof import TlogProof

RECEIPT = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"


def test_from_an_empty_folder_to_a_proof(tmp_path: Path) -> None:
    """Install, receive, prove, verify offline, stop, start again, and prove that the log has only grown."""
    site = Site(tmp_path)

    # The operator makes the folder, a source and a key, and gives the log's key to the auditor by a way of its own.
    assert "is ready." in site.tell("receiver", "init")
    sender, key, vkey = site.add_source(), site.key(), site.vkey()

    with site.serving() as service:
        # The provider delivers: once, again, forged, from an hour ago, and with another content.
        body = revoked(RECEIPT)
        recorded = sender.deliver(service, body)
        duplicate = sender.deliver(service, body)
        forged = sender.post(service, revoked(), sender.headers(revoked()))
        stale = sender.post(service, body, sender.headers(body, at=1_700_000_000))
        mismatch = sender.deliver(service, revoked(RECEIPT, note="this was not there before"))
        assert recorded["status"] == "recorded"
        assert duplicate == {**recorded, "status": "duplicate"}
        assert (forged.status_code, forged.json()["details"]) == (401, {"reason": "wrong_signature"})
        assert (stale.status_code, stale.json()["details"]) == (401, {"reason": "stale"})
        assert (mismatch["status"], mismatch["event_id"]) == ("mismatch", recorded["event_id"])

        # The auditor asks: was it taken back, and how do I know?
        item = service.get(f"/v1/items/truthlocks/receipt/{RECEIPT}", key).json()
        assert item["state"] == "taken_back"
        assert [event["id"] for event in item["events"]] == [recorded["event_id"]]
        proof = tmp_path / "event.tlog-proof"
        proof.write_bytes(service.get(f"/v1/events/{recorded['event_id']}/evidence", key).content)
        before = service.checkpoint_of(mismatch["log_index"] + 1, vkey)
        assert service.stop() == 0

    # Nobody needs to run for this any more.
    verified = site.run("translog", "verify", proof, "--key", vkey)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert RECEIPT in verified.stdout
    tampered = tmp_path / "tampered.tlog-proof"
    tampered.write_bytes(with_another_body(proof.read_bytes()))
    assert site.run("translog", "verify", tampered, "--key", vkey).returncode == 1
    flipped = bytearray(proof.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    tampered.write_bytes(flipped)
    assert site.run("translog", "verify", tampered, "--key", vkey).returncode == 1

    # Started again, the log has grown by the tallies of the stop and the start, and by nothing else.
    with site.serving() as service:
        after = service.checkpoint_of(before.size + 2, vkey)
        stop, start = leaves(service.entries(after.size))[before.size :]
        answer = service.get(f"/v1/log/proofs/consistency?old_size={before.size}&new_size={after.size}", key).json()

    hashes = [bytes.fromhex(one) for one in answer["proof"]]
    verify_consistency(before.size, before.root, after.size, after.root, hashes)
    assert (stop.kind, start.kind) == ("tally", "tally")
    assert stop.facts["counts"] == {
        "deliveries": 5,
        "duplicate": 1,
        "ignored": 0,
        "mismatch": 1,
        "quarantined": 0,
        "recorded": 1,
        "refused": {"stale": 1, "wrong_signature": 1},
    }
    assert stop.facts["incomplete"] is False
    assert start.facts["incomplete"] is False
    assert "nothing is wrong" in site.tell("receiver", "fsck")


def with_another_body(proof: bytes) -> bytes:
    """The evidence with one letter of the delivered body changed, and everything else as it was."""
    told = TlogProof.parse(proof)
    assert told.extra is not None
    evidence = Evidence.parse(told.extra)
    assert evidence.delivery is not None
    delivery = Delivery.parse(evidence.delivery.data)
    changed = replace(delivery, body=delivery.body.replace(b"payment", b"Payment"))
    forged = replace(evidence, delivery=replace(evidence.delivery, data=changed.encode()))
    return replace(told, extra=forged.encode()).encode()
