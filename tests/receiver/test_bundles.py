"""Proof bundles: what is checked of them, what is not, and what is kept; roots compared over time."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from receiver import providers
from receiver.assurance.asking import BUNDLE_TRIES
from receiver.assurance.bundles import Result, Shown, examine
from receiver.events import Claim, Effect, Item
from receiver.metrics import Metrics
from receiver.providers import Bundle
from receiver.records.opening import Records
from receiver.records.tables import bundle_roots
from receiver.strictjson import Json
from tests.receiver.asked import Checked, answer, asking, new_checked, showing
from tests.receiver.test_asking import receipt
from tests.receiver.upstreams import speaking
from translog.merkle import leaf_hash, node_hash, root_from_leaves

LEAVES = [leaf_hash(b"%d" % number) for number in range(3)]
ROOT = root_from_leaves(LEAVES)
CLAIM = Claim(None, Item("receipt", "r"), "r", Effect.REVOKED, None, None, None)


def proof(item: str, **changes: Any) -> dict[str, Json]:
    """A bundle that proves the second of three entries; `changes` are members of its log, or of its checkpoint."""
    members: dict[str, Any] = {
        "log_id": "log_main",
        "leaf_index": 1,
        "leaf_hash": LEAVES[1].hex(),
        "inclusion_proof": [LEAVES[0].hex(), LEAVES[2].hex()],
    }
    checkpoint: dict[str, Any] = {"tree_size": 3, "root_hash": ROOT.hex(), "signature": "not checked"}
    for one in (members, checkpoint):
        one.update({name: value for name, value in changes.items() if name in one})
    return {"receipt": {"receipt_id": item}, "transparency_log": {**members, "checkpoint": checkpoint}}


def bundle_of() -> Bundle:
    """The one that is documented."""
    bundle = providers.get("truthlocks").bundle
    assert bundle is not None
    return bundle


def examined(shown: bytes, status: int | None = 200) -> tuple[Result, str | None]:
    """What a bundle is worth by itself."""
    found = examine(bundle_of(), CLAIM, Shown("/bundle", status, shown, "timeout" if status is None else ""))
    return found.result, found.said


def as_bytes(document: Mapping[str, Json]) -> bytes:
    """It as it is answered."""
    return json.dumps(dict(document)).encode()


# ---- one bundle -----------------------------------------------------------------------------------------------------


def test_a_path_that_leads_to_the_root() -> None:
    """From the leaf's hash; of any leaf, and of a log of one entry as well."""
    last: dict[str, Any] = {
        "leaf_index": 2,
        "leaf_hash": LEAVES[2].hex(),
        "inclusion_proof": [node_hash(*LEAVES[:2]).hex()],
    }
    alone: dict[str, Any] = {"leaf_index": 0, "tree_size": 1, "inclusion_proof": [], "root_hash": LEAVES[1].hex()}

    assert examined(as_bytes(proof("r"))) == (Result.PROVEN, None)
    assert examined(as_bytes(proof("r", **last))) == (Result.PROVEN, None)
    assert examined(as_bytes(proof("r", **alone))) == (Result.PROVEN, None)


FLIPPED = hashlib.sha256(b"another").hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"leaf_hash": FLIPPED},
        {"inclusion_proof": [FLIPPED, LEAVES[2].hex()]},
        {"inclusion_proof": [LEAVES[0].hex(), FLIPPED]},
        {"inclusion_proof": [LEAVES[0].hex()]},
        {"inclusion_proof": [LEAVES[0].hex(), LEAVES[2].hex(), FLIPPED]},
        {"root_hash": FLIPPED},
        {"leaf_index": 0},
        {"leaf_index": 2},
        {"leaf_index": 3},
        {"leaf_index": -1},
        {"tree_size": 2},
        {"tree_size": 0},
        {"tree_size": -3},
    ],
)
def test_a_path_that_leads_elsewhere(changes: dict[str, Any]) -> None:
    """Whatever of it is changed, it fails, and why is said."""
    result, said = examined(as_bytes(proof("r", **changes)))

    assert result is Result.FAILED
    assert said


@pytest.mark.parametrize(
    ("shown", "status", "expected"),
    [
        (b"", 404, (Result.NOT_THERE, "the answer is 404")),
        (b"", 403, (Result.UNAVAILABLE, "the answer is 403")),
        (b"{}", 302, (Result.UNAVAILABLE, "the answer is 302")),
        (b"", None, (Result.UNAVAILABLE, "there is no answer: timeout")),
        (as_bytes(proof("another")), 200, (Result.UNREADABLE, "receipt.receipt_id is not the one asked for")),
        (b"{}", 200, (Result.UNREADABLE, "receipt is missing")),
    ],
)
def test_what_is_no_bundle(shown: bytes, status: int | None, expected: tuple[Result, str]) -> None:
    """It is said what it is instead."""
    assert expected == examined(shown, status)
    assert examined(b"<html>")[0] is Result.UNREADABLE


# ---- beside a record ------------------------------------------------------------------------------------------------


@pytest.fixture
def receipts(records: Records) -> Checked:
    """A source of receipts."""
    return new_checked(records, "truthlocks")


def shown_with(checked: Checked, **changes: Any) -> dict[str, Any]:
    """What is kept of a bundle that comes with the record of an event: of the proof above, with such changes."""
    item = str(uuid4())
    event_id = checked.tell(item)
    look = checked.look(event_id, showing(receipt(item), proof(item, **changes)), patient=False)
    assert look.outcome == "confirmed"
    value: dict[str, Any] = checked.data(event_id)["bundle"]
    return value


def roots(checked: Checked) -> list[tuple[str, int, bytes]]:
    """The roots that are kept."""
    query = sa.select(bundle_roots).where(bundle_roots.c.source_id == checked.source_id)
    with checked.records.database.read() as tx:
        return [(row.log, row.size, bytes(row.root)) for row in tx.execute(query.order_by(bundle_roots.c.seen_at))]


def test_what_is_checked_and_what_is_not_is_said(receipts: Checked) -> None:
    """In so many words: the path is, and what nobody documents is not."""
    item = str(uuid4())
    event_id = receipts.tell(item)
    receipts.look(event_id, showing(receipt(item), proof(item)))
    kept = receipts.data(event_id)["bundle"]

    assert json.loads(base64.b64decode(kept.pop("answer"))) == proof(item)
    assert kept == {
        "checked": ["inclusion"],
        "index": 1,
        "leaf_hash": LEAVES[1].hex(),
        "log": "log_main",
        "not_checked": ["leaf_encoding", "checkpoint_signature"],
        "path": f"/v1/receipts/{item}/proof-bundle",
        "result": "proven",
        "root": ROOT.hex(),
        "said": None,
        "size": 3,
        "status": 200,
    }
    assert roots(receipts) == [("log_main", 3, ROOT)]
    assert receipts.wrong() == []


def test_the_same_root_again(receipts: Checked) -> None:
    """For the same size it is as it should be; another size, or another log, is another root's place."""
    one: dict[str, Any] = {"leaf_index": 0, "tree_size": 1, "inclusion_proof": [], "root_hash": LEAVES[1].hex()}
    results = [shown_with(receipts, **changes)["result"] for changes in ({}, {}, one, {**one, "log_id": "log_2"})]

    assert results == ["proven"] * 4
    assert roots(receipts) == [("log_main", 3, ROOT), ("log_main", 1, LEAVES[1]), ("log_2", 1, LEAVES[1])]


def test_another_root_for_the_same_size(receipts: Checked) -> None:
    """It is said, and from then on of both; the events are confirmed all the same, by the record."""
    leaves = [LEAVES[1], LEAVES[1], LEAVES[1]]
    path = [LEAVES[1].hex(), LEAVES[1].hex()]
    other: dict[str, Any] = {"inclusion_proof": path, "root_hash": root_from_leaves(leaves).hex()}
    assert shown_with(receipts)["result"] == "proven"

    second, third = shown_with(receipts, **other), shown_with(receipts)

    assert (second["result"], second["checked"]) == ("roots_differ", ["inclusion"])
    assert second["said"] == f"the root of the log's first 3 entries was {ROOT.hex()} before"
    assert third["said"] == f"the root of the log's first 3 entries was {root_from_leaves(leaves).hex()} before"
    assert roots(receipts) == [("log_main", 3, ROOT), ("log_main", 3, root_from_leaves(leaves))]


def test_roots_are_compared_for_each_source_by_itself(records: Records, receipts: Checked) -> None:
    """Two accounts may be shown two logs by the same name: of the test environment, say."""
    other = new_checked(records, "truthlocks")
    changes: dict[str, Any] = {"leaf_index": 0, "tree_size": 1, "inclusion_proof": []}

    assert shown_with(receipts, **changes, root_hash=LEAVES[1].hex())["result"] == "proven"
    assert shown_with(other, **changes, leaf_hash=LEAVES[0].hex(), root_hash=LEAVES[0].hex())["result"] == "proven"


def test_a_root_to_which_no_path_leads_is_not_kept(receipts: Checked) -> None:
    """It would be held against those that are proven."""
    assert shown_with(receipts, root_hash=FLIPPED)["result"] == "failed"
    assert roots(receipts) == []


@pytest.mark.parametrize("result", ["not_there", "unreadable"])
def test_where_there_is_no_proof_nothing_waits_for_it(receipts: Checked, result: str) -> None:
    """The event is confirmed by the record at once, and what became of the bundle is kept."""
    item = str(uuid4())
    event_id = receipts.tell(item)
    bundle = answer({}, "404 Not Found") if result == "not_there" else answer({"receipt": {}})
    assert receipts.look(event_id, showing(receipt(item), bundle)).outcome == "confirmed"
    kept = receipts.data(event_id)["bundle"]

    assert (kept["result"], kept["checked"], kept["root"]) == (result, [], None)
    assert kept["not_checked"] == ["leaf_encoding", "checkpoint_signature"]


@pytest.mark.parametrize("result", ["failed", "unavailable"])
def test_what_does_not_verify_is_asked_for_again(receipts: Checked, result: str) -> None:
    """So many looks the confirmation waits for it, and is counted each time; then it is told as it is."""
    item = str(uuid4())
    event_id = receipts.tell(item)
    bundle = proof(item, root_hash=FLIPPED) if result == "failed" else answer({}, "500 Internal Server Error")
    metrics = Metrics()

    async def look() -> list[str]:
        async with speaking(showing(receipt(item), bundle)) as there, asking(receipts.records, metrics) as asker:
            receipts.moves(there.url)
            outcomes: list[str] = []
            for _ in range(BUNDLE_TRIES):
                assert receipts.state(event_id)[0] == "pending"
                looked = await asker.look(event_id)
                assert looked is not None
                outcomes.append(looked.outcome)
            return outcomes

    assert asyncio.run(look()) == ["bundle"] * (BUNDLE_TRIES - 1) + ["confirmed"]
    assert receipts.data(event_id)["bundle"]["result"] == result
    assert counted(metrics.registry, result) == BUNDLE_TRIES


def test_a_bundle_that_verifies_at_last(receipts: Checked) -> None:
    """It is the one that is kept, and the only one that is told."""
    item = str(uuid4())
    event_id = receipts.tell(item)

    assert receipts.look(event_id, showing(receipt(item), proof(item, root_hash=FLIPPED))).outcome == "bundle"
    assert receipts.look(event_id, showing(receipt(item), proof(item))).outcome == "confirmed"
    assert receipts.data(event_id)["bundle"]["result"] == "proven"
    assert receipts.states(event_id) == ["confirmed"]


def test_what_is_not_confirmed_has_no_bundle(receipts: Checked) -> None:
    """It would prove nothing of an event that the record denies."""
    item = str(uuid4())
    event_id = receipts.tell(item)
    look = receipts.look(event_id, showing(receipt(item, tenant_id="another"), proof(item)))

    assert (look.outcome, len(look.came)) == ("contradicted", 1)
    assert "bundle" not in receipts.data(event_id)


def counted(registry: CollectorRegistry, result: str) -> float | None:
    """How many bundles came to that."""
    labels = {"provider": "truthlocks", "result": result}
    return registry.get_sample_value("rescind_proof_bundles_total", labels)
