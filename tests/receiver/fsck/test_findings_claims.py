"""Issuers' logs: how far they were followed, the entries that are kept of them, and what was told of gaps and forks."""

import pytest

from tests.receiver.fsck.calls import Filled
from tests.receiver.fsck.found import ENTRIES, kept


def damage(found: Filled, entry: str, change: str) -> None:
    """Change the row of one of the issuer's entries."""
    found.damage(f'UPDATE claims SET {change} WHERE issuer_log_id = [issuer] AND "index" = {ENTRIES[entry]}')


def other(column: str, log: str, index: int) -> str:
    """What the row of another entry has."""
    return f'(SELECT {column} FROM claims WHERE issuer_log_id = [{log}] AND "index" = {index})'


def of_claims(found: Filled) -> list[str]:
    """What is said of entries that are kept."""
    return [line for line in found.found() if line.startswith("records: entry ")]


# ---- an entry and its proof -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "change", "problem"),
    [
        ("confirmed", "entry = CAST(replace(entry, '10.00', '10.01') AS BLOB)", "its proof has another entry with it"),
        ("gap", "entry = CAST(replace(entry, '30.00', '31.00') AS BLOB)", "its proof has another entry with it"),
        ("confirmed", f"proof = {other('proof', 'issuer', 1)}", "its proof is of entry 1"),
        ("confirmed", f"proof = {other('proof', 'forked', 0)}", "its proof has another entry with it"),
        ("confirmed", "proof = NULL", "cannot be verified without proof"),
        ("confirmed", "entry = NULL", "cannot be verified without entry"),
        ("confirmed", "entry = NULL, proof = NULL", "the entry is erased, and no erasure entry counts it"),
        (
            "confirmed",
            "proof = x'00'",
            "its proof cannot be read: tlog-proof: no empty line between the proof and its checkpoint",
        ),
        ("confirmed", "provider = 'truthlocks'", "it is not read as an act of truthlocks"),
        ("confirmed", "provider = 'nobody'", "provider is 'nobody', which this version does not know"),
        ("confirmed", "item_key = zeroblob(16)", "item_key is not what its entry gives"),
        ("confirmed", "operation_key = zeroblob(16)", "operation_key is not what its entry gives"),
        ("confirmed", "operation_key = NULL", "operation_key is not what its entry gives"),
        ("reopened", "operation_key = zeroblob(16)", "operation_key is not what its entry gives"),
        ("confirmed", "source_id = [source]", "source_id is '[source]', and no finding tells of a gap"),
        ("gap", "source_id = [asked]", "source_id is '[asked]', and a finding tells of a gap of [source]"),
        ("gap", "gap_id = NULL", "gap_id is None, and the first finding that tells of the gap is '[gap_gap]'"),
        (
            "gap",
            "gap_id = [late_told]",
            "gap_id is '[late_told]', and the first finding that tells of the gap is '[gap_gap]'",
        ),
        ("confirmed", "gap_id = [gap_gap]", "gap_id is '[gap_gap]', and no finding tells of a gap"),
        (
            "announced",
            "announced = 0",
            "announced is False, and [announced_gap1], the last finding, says that it is announced",
        ),
        ("reopened", "announced = 1", "announced is True, and [reopened_gap2], the last finding, says that it is open"),
    ],
)
def test_an_entry_that_is_not_as_it_was(found: Filled, entry: str, change: str, problem: str) -> None:
    """It is the entry that its proof is of, found by what it says, and a gap or none as was told."""
    damage(found, entry, change)
    assert of_claims(found) == [f"{kept(entry)}: {problem}"]


def test_an_entry_of_another_log(found: Filled) -> None:
    """With a proof that holds, but under a key that is not this log's."""
    damage(found, "confirmed", f"entry = {other('entry', 'forked', 0)}, proof = {other('proof', 'forked', 0)}")
    proof, reading = of_claims(found)
    assert proof.startswith(
        f"{kept('confirmed')}: its proof does not verify: note: no signature by a key that was given; "
    )
    assert reading == f"{kept('confirmed')}: it is not read as an act of scrip"


def test_a_proof_that_leads_elsewhere(found: Filled) -> None:
    """Its hashes lead to the root that the issuer signed, or it is none."""
    at = "instr(proof, char(10) || 'index 0' || char(10)) + 9"
    damage(found, "confirmed", f"proof = CAST(substr(proof, 1, {at}) || 'A' || substr(proof, {at} + 2) AS BLOB)")
    [line] = found.found()
    assert line.startswith(f"{kept('confirmed')}: its proof does not verify: ")


def test_an_entry_that_was_moved(found: Filled) -> None:
    """To another place in the log, beyond its end, or to another tenant: what names it misses it."""
    moved = "records: entry {} of the issuer log [issuer], kept for tenant {}"
    damage(found, "confirmed", '"index" = 99')
    assert found.found() == [
        "finding [confirmed_told]: entry 0 of the issuer log [issuer], which it names, is not kept",
        f"{moved.format(99, 1)}: is beyond the log's last verified checkpoint, which has 8",
        f"{moved.format(99, 1)}: its proof is of entry 0",
    ]
    damage(found, "contradicted", "tenant_id = 2")
    assert found.found()[1:2] + found.found()[-2:] == [
        "finding [contradicted_told]: entry 1 of the issuer log [issuer], which it names, is not kept",
        f"{moved.format(1, 2)}: item_key is not what its entry gives",
        f"{moved.format(1, 2)}: operation_key is not what its entry gives",
    ]


def test_an_entry_that_is_gone(found: Filled) -> None:
    """What was found by it misses it, in the log of each tenant."""
    found.damage("DELETE FROM claims WHERE issuer_log_id = [issuer]")
    lines = [line.removeprefix("example.com/rescind/log/other: ") for line in found.found()]
    is_not_kept = "of the issuer log [issuer], which it names, is not kept"
    indexes = {"confirmed_told": 0, "gap_gap": 2, "late_told1": 6, "announced_gap1": 3, "others_gap": 5}
    for name, index in indexes.items():
        assert f"finding [{name}]: entry {index} {is_not_kept}" in lines


def test_a_log_that_is_not_there(found: Filled) -> None:
    """All that names it misses it."""
    found.damage("DELETE FROM issuer_logs WHERE id = [issuer]")
    lines = found.found()
    assert f"{kept('gap')}: there is no such issuer log" in lines
    assert "records: check of [pending]: the issuer log [issuer] is not there" in lines
    assert "finding [absent_told]: the issuer log [issuer] is not there" in lines


def test_what_hides_a_gap(found: Filled) -> None:
    """Nothing announces an entry of whose item and operation there is no event."""
    nothing = "announced is True, and there is no event of its item or operation"
    damage(found, "gap", "announced = 1")
    assert sorted(found.found()) == [
        f"{kept('gap')}: announced is True, and [gap_gap], the last finding, says that it is open",
        f"{kept('gap')}: {nothing}",
    ]
    damage(found, "gap", "announced = 0")
    found.damage('UPDATE claims SET announced = 1 WHERE issuer_log_id = [forked] AND "index" = 3')
    assert found.found() == [f"records: entry 3 of the issuer log [forked], kept for tenant 1: {nothing}"]


@pytest.mark.parametrize("state", ["confirmed", "absent"])
def test_what_announces_it_by_its_operation_alone(found: Filled, state: str) -> None:
    """An event of another item that names its operation, and is to be checked, suffices."""
    key = other("operation_key", "forked", 3)
    found.damage(f"UPDATE checks SET operation_key = {key} WHERE event_id = [{state}]")
    found.damage('UPDATE claims SET announced = 1 WHERE issuer_log_id = [forked] AND "index" = 3')
    assert found.found() == [f"records: check of [{state}]: operation_key is not what its event gives"]


def test_gaps_that_were_told_of_and_are_not_kept(found: Filled) -> None:
    """The first that tells of a gap must be there, and the last says what it is now."""
    found.damage("DELETE FROM findings WHERE id IN ([announced_gap], [reopened_gap2])")
    first, last = "the first finding that tells of the gap", "the last finding"
    assert [line for line in found.found() if not line.startswith("entry")] == [
        f"{kept('announced')}: gap_id is '[announced_gap]', and {first} is '[announced_gap1]'",
        f"{kept('reopened')}: announced is False, and [reopened_gap1], {last}, says that it is announced",
    ]


def test_when_an_entry_is_judged_is_nobodys_word(found: Filled) -> None:
    """When it was seen, and when it is due, no entry says."""
    damage(found, "confirmed", "seen_at = '2030', due_at = '2031'")
    assert found.found() == []


# ---- the logs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "change", "problem"),
    [
        ("issuer", "size = 7", "size is 7, its state's 8"),
        ("issuer", "size = 9", "size is 9, its state's 8"),
        ("issuer", "next_index = 7", "next_index is 7, its state's 8"),
        (
            "issuer",
            "state = CAST(replace(state, 'size 8', 'size 08') AS BLOB)",
            "how far it was followed cannot be relied on: state size: '08' is not a decimal",
        ),
        (
            "issuer",
            "state = (SELECT state FROM issuer_logs WHERE id = [forked])",
            "how far it was followed cannot be relied on: note: no signature by a key that was given; it is signed by ",
        ),
        ("issuer", "policy = 'quorum none' || char(10)", "its policy cannot be read: policy: no log key was given"),
        ("forked", "forked_at = NULL", "fork is given, and forked_at is not"),
        ("forked", "fork = NULL", "forked_at is given, and fork is not"),
        ("forked", "fork = x'00'", "the evidence that it has forked proves nothing: fork: 1 paragraphs"),
        (
            "issuer",
            "fork = (SELECT fork FROM issuer_logs WHERE id = [forked]), forked_at = '2026'",
            "the evidence that it has forked proves nothing: note: no signature by a key that was given",
        ),
    ],
)
def test_a_log_whose_row_is_not_borne_out(found: Filled, log: str, change: str, problem: str) -> None:
    """How far it was followed is what its last checkpoint says, signed as its policy asks; a fork is proven."""
    found.damage(f"UPDATE issuer_logs SET {change} WHERE id = [{log}]")
    assert found.found()[0].startswith(f"records: issuer log [{log}]: {problem}")


def test_a_log_of_other_keys(found: Filled) -> None:
    """Nothing that was verified is verified by them: neither the checkpoint nor any entry."""
    found.damage("UPDATE issuer_logs SET origin = 'another' WHERE id = [issuer]")
    lines = found.found()
    assert len(lines) == 9
    assert {line.partition(": policy: ")[2] for line in lines} == {
        "a checkpoint of 'issuer.example/log/2', not of 'another'"
    }


def test_what_nobody_signed(found: Filled) -> None:
    """When a log was asked, what was wrong with it, and who follows it, no entry says."""
    found.damage("UPDATE issuer_logs SET complete_at = '2030', fetched_at = '2030', failure = 'x', holder = 'y'")
    assert found.found() == []


def test_a_fork_that_a_tenant_was_not_told_of_yet(found: Filled) -> None:
    """It is noted, and is nothing wrong: the service tells of it as soon as it runs."""
    found.damage("UPDATE sources SET issuer_log_id = [forked] WHERE id = [other_source]")
    report = found.copy.report()
    assert (report.findings, report.remarks) == (
        (),
        (f"records: the issuer log {found.ids['forked']} has forked, and no entry of tenant other tells so yet",),
    )
    found.damage("UPDATE sources SET enabled = 0 WHERE id = [other_source]")
    assert found.copy.report().remarks == ()


# ---- subscriptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        ("UPDATE subscriptions SET next_index = 999", "stands beyond its log of {size}: next_index is 999"),
        (
            "UPDATE subscriptions SET replay_next = 3, replay_end = 999",
            "stands beyond its log of {size}: replay_end is 999",
        ),
        ("UPDATE subscriptions SET log_id = 2", "goes through log 2, which is no log of its tenant"),
        (
            "UPDATE outbox SET log_index = log_index + 1000",
            "has to pass on {messages} entries that are not there",
        ),
    ],
)
def test_where_a_subscription_stands(found: Filled, change: str, remark: str) -> None:
    """If it is at no place of its tenant's log that is noted; nothing that is logged is lost by it."""
    numbers = {
        "size": found.copy.one("SELECT size FROM logs WHERE id = 1"),
        "messages": found.copy.one("SELECT count(*) FROM outbox"),
    }
    found.damage(change)
    report = found.copy.report()
    assert report.findings == ()
    assert report.remarks == (f"records: the subscription {found.ids['subscription']} {remark.format(**numbers)}",)
    assert numbers["messages"] > 0
