"""Inclusion and consistency proofs over HTTP, each verified as its reader would."""

import time
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from tests.receiver.service import Service, problem, revoked, running, settings_in
from translog import merkle
from translog.policy import Policy

INCLUSION = "/v1/log/proofs/inclusion"
CONSISTENCY = "/v1/log/proofs/consistency"


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


@pytest.fixture(scope="module")
def grown(either_service: Service) -> Service:
    """A service whose log has a handful of entries, all of them published."""
    sender = either_service.add_source()
    for _ in range(11):
        sender.post(revoked())
    either_service.until_published()
    return either_service


def proved(answer: httpx2.Response) -> dict[str, Any]:
    """An inclusion proof's members, after verifying that it proves what it says."""
    assert answer.status_code == 200, answer.text
    members = answer.json()
    assert sorted(members) == ["checkpoint", "index", "leaf_hash", "proof", "root", "tree_size"]
    hashes = [bytes.fromhex(one) for one in members["proof"]]
    leaf, root = bytes.fromhex(members["leaf_hash"]), bytes.fromhex(members["root"])
    merkle.verify_inclusion(leaf, members["index"], members["tree_size"], hashes, root)
    return members


def signed(service: Service, members: dict[str, Any], size: int, root: str) -> bool:
    """Whether a proof comes with a checkpoint; if so, it is signed and of exactly that size and root."""
    if members["checkpoint"] is None:
        return False
    checkpoint = Policy.of(service.tenant.log.verifying_key).open(members["checkpoint"].encode())
    assert (checkpoint.size, checkpoint.root.hex()) == (size, root)
    return True


def test_every_entry_is_proved(grown: Service, key: dict[str, str]) -> None:
    """By its index, in the tree of the newest checkpoint, which comes along."""
    size = grown.until_published()

    for index in range(size):
        members = proved(grown.client.get(INCLUSION, params={"index": index}, headers=key))
        assert (members["index"], members["tree_size"]) == (index, size)
        assert members["leaf_hash"] == merkle.leaf_hash(grown.entry(index)).hex()
        assert signed(grown, members, size, members["root"])


def test_an_entry_is_found_by_its_leaf_hash(grown: Service, key: dict[str, str]) -> None:
    """In hex of either case."""
    leaf_hash = merkle.leaf_hash(grown.entry(3)).hex()

    for written in (leaf_hash, leaf_hash.upper()):
        members = proved(grown.client.get(INCLUSION, params={"leaf_hash": written}, headers=key))
        assert (members["index"], members["leaf_hash"]) == (3, leaf_hash)


def test_every_size_is_proved(grown: Service, key: dict[str, str]) -> None:
    """Also those that no checkpoint was signed for; each root is that of the entries."""
    newest = grown.until_published()
    hashes = [merkle.leaf_hash(grown.entry(index)) for index in range(newest)]

    for size in range(1, newest + 1):
        for index in {0, size // 2, size - 1}:
            members = proved(grown.client.get(INCLUSION, params={"index": index, "size": size}, headers=key))
            assert (members["tree_size"], members["root"]) == (size, merkle.root_from_leaves(hashes[:size]).hex())
            assert signed(grown, members, size, members["root"]) or size < newest


def test_what_was_just_delivered_is_proved(grown: Service, key: dict[str, str]) -> None:
    """The question waits for the checkpoint that covers it."""
    event = grown.add_source().post(revoked()).json()

    members = proved(grown.client.get(INCLUSION, params={"index": event["log_index"]}, headers=key))

    assert members["tree_size"] > event["log_index"]
    assert members["leaf_hash"] == event["leaf_hash"]


def test_what_was_just_delivered_is_found_by_its_leaf_hash(grown: Service, key: dict[str, str]) -> None:
    """Before it is published as after."""
    event = grown.add_source().post(revoked()).json()

    members = proved(grown.client.get(INCLUSION, params={"leaf_hash": event["leaf_hash"]}, headers=key))

    assert members["index"] == event["log_index"]


def test_two_sizes_are_consistent(grown: Service, key: dict[str, str]) -> None:
    """Every older tree is the beginning of every newer one, from none to all."""
    newest = grown.until_published()
    hashes = [merkle.leaf_hash(grown.entry(index)) for index in range(newest)]

    for old in range(newest + 1):
        for new in {old, min(old + 1, newest), newest}:
            answer = grown.client.get(CONSISTENCY, params={"old_size": old, "new_size": new}, headers=key)
            members = answer.json()
            assert sorted(members) == ["checkpoint", "new_root", "new_size", "old_root", "old_size", "proof"]
            old_root, new_root = merkle.root_from_leaves(hashes[:old]), merkle.root_from_leaves(hashes[:new])
            assert (members["old_size"], members["old_root"]) == (old, old_root.hex())
            assert (members["new_size"], members["new_root"]) == (new, new_root.hex())
            proof = [bytes.fromhex(one) for one in members["proof"]]
            merkle.verify_consistency(old, old_root, new, new_root, proof)
            assert signed(grown, members, new, members["new_root"]) or new < newest


def test_the_newest_size_need_not_be_named(grown: Service, key: dict[str, str]) -> None:
    """It is that of the newest checkpoint."""
    newest = grown.until_published()

    members = grown.client.get(CONSISTENCY, params={"old_size": 1}, headers=key).json()

    assert (members["new_size"], signed(grown, members, newest, members["new_root"])) == (newest, True)


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        (INCLUSION, "", "index"),
        (INCLUSION, "index=1&leaf_hash=" + "0" * 64, "index"),
        (INCLUSION, "index=-1", "index"),
        (INCLUSION, "index=one", "index"),
        (INCLUSION, "index=1_0", "index"),
        (INCLUSION, "index=%201", "index"),
        (INCLUSION, "index=%D9%A3", "index"),
        (INCLUSION, "index=01", "index"),
        (INCLUSION, "index=", "index"),
        (INCLUSION, "index=9223372036854775808", "index"),
        (INCLUSION, "index=" + "9" * 400, "index"),
        (INCLUSION, "index=1&index=2", "index"),
        (INCLUSION, "index=1&size=0", "size"),
        (INCLUSION, "index=1&size=-1", "size"),
        (INCLUSION, "index=1&sise=2", "sise"),
        (INCLUSION, "index=1&tenant=other", "tenant"),
        (INCLUSION, "leaf_hash=", "leaf_hash"),
        (INCLUSION, "leaf_hash=" + "0" * 63, "leaf_hash"),
        (INCLUSION, "leaf_hash=" + "0" * 66, "leaf_hash"),
        (INCLUSION, "leaf_hash=" + "g" * 64, "leaf_hash"),
        (INCLUSION, "leaf_hash=" + "0%20" * 32, "leaf_hash"),
        (CONSISTENCY, "", "old_size"),
        (CONSISTENCY, "new_size=1", "old_size"),
        (CONSISTENCY, "old_size=-1", "old_size"),
        (CONSISTENCY, "old_size=1&new_size=x", "new_size"),
        (CONSISTENCY, "old_size=2&new_size=1", "old_size"),
    ],
)
def test_parameters_that_cannot_be(grown: Service, key: dict[str, str], path: str, query: str, named: str) -> None:
    """400 that names the one at fault: never an answer to another question."""
    answer = grown.client.get(f"{path}?{query}", headers=key)

    assert (answer.status_code, problem(answer)["code"]) == (400, "VALIDATION_ERROR")
    assert named in answer.json()["detail"]
    assert list(answer.json()["details"]) == ([] if "Missing required" in answer.json()["detail"] else [named])


def test_what_is_not_there(grown: Service, key: dict[str, str]) -> None:
    """404: an index beyond the log or the size asked for, a size beyond the newest checkpoint, an unknown hash."""
    newest = grown.until_published()

    for path, query in [
        (INCLUSION, {"index": newest}),
        (INCLUSION, {"index": 2**63 - 1}),
        (INCLUSION, {"index": 3, "size": 3}),
        (INCLUSION, {"index": 0, "size": newest + 1}),
        (INCLUSION, {"leaf_hash": "0" * 64}),
        (CONSISTENCY, {"old_size": newest + 1}),
        (CONSISTENCY, {"old_size": 0, "new_size": 2**63 - 1}),
    ]:
        answer = grown.client.get(path, params=query, headers=key)
        assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")


# ---- waiting for the checkpoint -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that publishes every second, as by default."""
    with running(settings_in(tmp_path_factory.mktemp("slow"), publish_interval=1)) as service:
        yield service


def test_it_waits_for_the_checkpoint_and_no_longer(slow: Service) -> None:
    """Of ten entries logged together, all are proved as soon as one checkpoint covers them."""
    headers, sender = slow.key(), slow.add_source()
    events = [sender.post(revoked()).json() for _ in range(10)]
    before = slow.tenant.log.published_size
    assert before <= events[-1]["log_index"]

    began = time.monotonic()
    for event in events:
        members = proved(slow.client.get(INCLUSION, params={"index": event["log_index"]}, headers=headers))
        assert members["tree_size"] > events[-1]["log_index"]

    assert time.monotonic() - began < 4


def test_it_does_not_wait_for_what_is_not_there(slow: Service) -> None:
    """404 at once."""
    headers = slow.key()
    began = time.monotonic()
    answer = slow.client.get(INCLUSION, params={"index": slow.size() + 5}, headers=headers)

    assert answer.status_code == 404
    assert time.monotonic() - began < 1


def test_it_does_not_wait_for_ever(tmp_path_factory: pytest.TempPathFactory) -> None:
    """503 after two seconds if nothing is published, that says when to ask again; then it is proved."""
    folder = tmp_path_factory.mktemp("stuck")
    with running(settings_in(folder)) as service:
        headers, sender = service.key(), service.add_source()
        service.until_published()
        (folder / "guard").rename(folder / "away")
        (folder / "guard").write_bytes(b"")  # nothing can be published without its guard
        index = sender.post(revoked()).json()["log_index"]
        held = service.client.get(INCLUSION, params={"index": index}, headers=headers)
        older = service.client.get(INCLUSION, params={"index": 0}, headers=headers)
        (folder / "guard").unlink()
        (folder / "away").rename(folder / "guard")
        service.until_published()
        let_go = service.client.get(INCLUSION, params={"index": index}, headers=headers)

    assert (held.status_code, held.headers["retry-after"]) == (503, "1")
    assert problem(held)["detail"] == f"Entry {index} is recorded, but no checkpoint covers it yet. Try again"
    proved(older)
    assert proved(let_go)["index"] == index


def test_a_proof_is_of_the_log_of_the_keys_tenant(grown: Service) -> None:
    """Whatever index is asked for."""
    other = grown.key(tenant="elsewhere")
    grown.until_published("elsewhere")

    members = proved(grown.client.get(INCLUSION, params={"index": 0}, headers=other))

    assert "/log/elsewhere\n" in members["checkpoint"]
    assert grown.client.get(INCLUSION, params={"index": 5}, headers=other).status_code == 404
