"""What a bundle shows beside its lines, as both verifiers say it: times that fall nowhere, a log before this one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receiver.exports.verify import Verifier, parse_key
from tests.receiver.test_exports_verify import POLICY, wrong, wrong_by_library
from tests.translog.bundles import Bundle, make
from tests.translog.exported import EXPORTS_KEY, VKEY, Log, at, data, facts, question, story
from translog.bundle import verify as library_verify
from translog.canonical import Value


def refused(bundle: Bundle, folder: Path) -> str | None:
    """The place at which both refuse it; None if neither does."""
    path = folder / "bundle.zip"
    path.write_bytes(bundle.zip())
    place = wrong(path)
    assert wrong_by_library(path) == place
    return place


# ---- time -----------------------------------------------------------------------------------------------------------


def logged_at(index: int, minutes: float, asked: dict[str, Value]) -> Log:
    """The log with an entry that was logged then."""
    log = story(asked)
    log.entries[index].data = replace(log.entries[index].leaf, logged_at=at(minutes)).encode()
    return log


@pytest.mark.parametrize(
    ("index", "minutes", "asked", "place"),
    [
        (2, 3.5, question(), "entries.bin entry 3"),
        (18, 16.5, question(), "proof/later.jsonl line 1 (entry 18)"),
        (18, 20.5, question(), "proof/entry.tlog-proof"),
        (21, 19.5, question(basis="received"), "proof/later.jsonl line 1 (entry 21)"),
        (23, 20.5, question(), "proof/later.jsonl line 3 (entry 23)"),
        (24, 19.5, question(), "proof/erasures/24.tlog-proof"),
        (20, 16.9, question(until=at(16.8)), "proof/entry.tlog-proof"),
    ],
)
def test_times_fall_nowhere(tmp_path: Path, index: int, minutes: float, asked: dict[str, Value], place: str) -> None:
    """Not between the key's entry and the range, in what comes later, at the export's own entry, nor after all that."""
    log = logged_at(index, minutes, asked)

    assert refused(make(log, size=24 if index == 23 else 23), tmp_path) == place


@pytest.mark.parametrize(
    ("minutes", "place"), [(19, None), (17, "proof/exports-key.tlog-proof"), (20.5, "proof/entry.tlog-proof")]
)
def test_a_key_that_is_announced_later(tmp_path: Path, minutes: float, place: str | None) -> None:
    """It has its place in the order of time, too, between what comes before it and the export."""
    log = story(question(until=at(10)))
    announced = log.entries[2].leaf
    log.entries[19].data = replace(announced, id=log.entries[19].leaf.id, logged_at=at(minutes)).encode()

    assert refused(make(log, key=19), tmp_path) == place


# ---- the log before this one ----------------------------------------------------------------------------------------


def recovered(origin: Value = "old", size: Value = 20, **others: Value) -> dict[str, Value]:
    """The facts of an entry that tells of a log before this one."""
    return {"action": "recovered", "id": "acme", "predecessor": {"guard": {"size": size}, "origin": origin}, **others}


def succeeding(told: list[tuple[str, dict[str, Value]]], since: str, path: Path) -> Path:
    """A bundle of a log that begins with these entries, from then on."""
    log = Log()
    for kind, its in told:
        log.add(kind, its)
    announced = {"action": "announced", "by": "command", "id": "exports", "purpose": "exports"}
    key = log.add("key", {**announced, "vkey": str(EXPORTS_KEY.verifying_key())})
    log.add("revocation", facts(), event=data("one"), body=b"{}")
    entry = log.add("export", question(since, at(len(log.entries) - 0.5)))
    path.write_bytes(make(log, entry, entry + 1, earlier=None, key=key).zip())
    return path


def sentences(path: Path) -> tuple[list[str], list[str]]:
    """What the script says of logs before this one, and what the library does."""
    said = Verifier(path, [parse_key(VKEY)]).check()
    before = library_verify(path, POLICY).predecessors
    return [one for one in said if "succeeds" in one], [one.sentence for one in before]


@pytest.mark.parametrize(("since", "is_said"), [(at(-1), True), (at(0.5), True), (at(1.5), False)])
def test_it_is_told_where_the_period_reaches_back_so_far(tmp_path: Path, since: str, *, is_said: bool) -> None:
    """Of each log that this one succeeds, how many entries it held, and that they are not here."""
    told = [("tenant", recovered("one", 1)), ("tenant", recovered("two")), ("source", recovered("three"))]
    script, library = sentences(succeeding([*told, ("tenant", recovered("four"))], since, tmp_path / "bundle.zip"))

    assert script == library
    assert script == is_said * [
        "This log succeeds one, which held 1 signed entry: what that one holds is not here.",
        "This log succeeds two, which held 20 signed entries: what that one holds is not here.",
    ]


@pytest.mark.parametrize(
    ("kind", "its"),
    [
        ("tenant", {"action": "created", "by": "command", "id": "recovered"}),
        ("source", recovered()),
        ("tenant", recovered(predecessor=None)),
        ("tenant", recovered(origin=1)),
        ("tenant", recovered(size=-1)),
        ("tenant", recovered(size=True)),
        ("tenant", recovered(size="20")),
    ],
)
def test_what_tells_of_none(tmp_path: Path, kind: str, its: dict[str, Any]) -> None:
    """Another kind, another action, or what is no log of so many entries."""
    assert sentences(succeeding([(kind, its)], at(0), tmp_path / "bundle.zip")) == ([], [])
