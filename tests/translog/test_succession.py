"""A log that goes on for another one: what its first entries tell, and what whoever verifies a bundle of it is told."""

from pathlib import Path

import pytest

from tests.translog.bundles import make
from tests.translog.command import Run, words
from tests.translog.exported import EXPORTS_KEY, VKEY, Log, at, data, facts, question
from translog.canonical import Value
from translog.succession import Predecessor, predecessors

HASH = "00" * 32


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


def recovered(origin: Value = "example.com/log/acme", size: Value = 20, **others: Value) -> dict[str, Value]:
    """The facts of an entry that tells of a log before this one."""
    before: dict[str, Value] = {
        "guard": {"root": HASH, "size": size},
        "kept": {"root": HASH, "size": 15},
        "missing": 5,
        "origin": origin,
        "vkey": None,
    }
    return {"action": "recovered", "by": "command", "id": "acme", "predecessor": before, **others}


def told(*entries: tuple[str, dict[str, Value]]) -> list[Predecessor]:
    """What entries of these kinds, with these facts, tell."""
    log = Log()
    for kind, its in entries:
        log.add(kind, its)
    return list(predecessors(entry.data for entry in log.entries))


def test_the_first_entries_tell() -> None:
    """Each of one log, up to the first that does not."""
    first, second = ("tenant", recovered("one", 20)), ("tenant", recovered("two", 0))
    other: tuple[str, dict[str, Value]] = ("source", {"action": "added", "by": "command", "id": "shop"})

    assert told(first, second, other, first) == [("one", 20), ("two", 0)]
    assert told(other, first) == []
    assert told() == []


@pytest.mark.parametrize(
    ("kind", "its"),
    [
        ("tenant", {"action": "created", "by": "command", "id": "acme"}),
        ("tenant", {"action": "created", "by": "command", "id": "recovered"}),
        ("source", recovered()),
        ("tenant", recovered(predecessor=None)),
        ("tenant", recovered(origin=1)),
        ("tenant", recovered(size=-1)),
        ("tenant", recovered(size=True)),
        ("tenant", recovered(size="20")),
    ],
)
def test_what_tells_of_none(kind: str, its: dict[str, Value]) -> None:
    """Another kind, another action, or what is no log of so many entries."""
    assert told((kind, its)) == []


def test_the_sentence() -> None:
    """How many entries, and that they are elsewhere."""
    assert Predecessor("old", 1).sentence == (
        "This log succeeds old, which held 1 signed entry: what that one holds is not here."
    )
    assert "which held 20 signed entries: " in Predecessor("old", 20).sentence


@pytest.mark.parametrize(("since", "is_said"), [(at(0), True), (at(1.5), False)])
def test_it_is_said_where_the_period_reaches_back_so_far(run: Run, tmp_path: Path, since: str, is_said: bool) -> None:
    """By `translog verify`, among what the bundle does not show; what could write to a terminal cannot."""
    log = Log()
    log.add("tenant", recovered("old\x1b[2J", 7))
    announced = {"action": "announced", "by": "command", "id": "exports", "purpose": "exports"}
    log.add("key", {**announced, "vkey": str(EXPORTS_KEY.verifying_key())})
    log.add("revocation", facts(), event=data("one"), body=b"{}")
    log.add("export", question(since, at(2.5)))
    path = tmp_path / "export.zip"
    path.write_bytes(make(log, 3, 4, earlier=None, key=1).zip())

    code, output, errors = run("verify", str(path), "--key", VKEY)

    assert (code, errors) == (0, "")
    sentence = r"This log succeeds old\u{1b}[2J, which held 7 signed entries: what that one holds is not here."
    assert (sentence in words(output.partition("What this does not show:")[2])) is is_said
