"""What a bundle says beside its lines: times that fall nowhere, numbers that are numbers, and what was erased."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.translog.bundles import Bundle, make
from tests.translog.exported import ENTRY, VKEY, Log, at, question, story
from translog.bundle import BundleError, Verified, verify
from translog.bundle.lines import stated_index
from translog.canonical import decode, encode
from translog.policy import Policy


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Bundle], str]:
    """A function that gives the place at which a bundle is refused."""

    def refused(bundle: Bundle) -> str:
        path = tmp_path / "bundle.zip"
        path.write_bytes(bundle.zip())
        with pytest.raises(BundleError) as caught:
            verify(path, Policy.of(VKEY))
        return caught.value.place

    return refused


Refused = Callable[[Bundle], str]


def logged_at(index: int, minutes: float, asked: dict[str, Any] | None = None) -> Log:
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
def test_times_fall_nowhere(refused: Refused, index: int, minutes: float, asked: dict[str, Any], place: str) -> None:
    """Not between the key's entry and the range, in what comes later, at the export's own entry, nor after all that."""
    assert refused(make(logged_at(index, minutes, asked), size=24 if index == 23 else 23)) == place


def test_a_key_that_is_announced_later(refused: Refused, tmp_path: Path) -> None:
    """It has its place in the order of time, too, between what comes before it and the export."""

    def bundle(minutes: float) -> Bundle:
        log = story(question(until=at(10)))
        announced = log.entries[2].leaf
        log.entries[19].data = replace(announced, id=log.entries[19].leaf.id, logged_at=at(minutes)).encode()
        return make(log, key=19)

    assert refused(bundle(17)) == "proof/exports-key.tlog-proof"
    assert refused(bundle(20.5)) == "proof/entry.tlog-proof"
    path = tmp_path / "good.zip"
    path.write_bytes(bundle(19).zip())
    verified: Verified = verify(path, Policy.of(VKEY))
    assert verified.manifest.entry == ENTRY


@pytest.mark.parametrize(("basis", "place"), [("logged", "line 4 (entry 12)"), ("received", "line 3 (entry 12)")])
def test_an_event_that_is_left_out_on_another_basis(refused: Refused, basis: str, place: str) -> None:
    """Its line is missed, erased or not."""
    assert refused(make(story(question(basis=basis)), left_out=[12])) == f"events.jsonl {place}"


@pytest.mark.parametrize("index", [4, 13])
def test_an_event_that_is_not_erased_may_be_outside(tmp_path: Path, index: int) -> None:
    """On the basis `occurred`, it is the operator's word that it is; also where only its body was erased."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(make(story(question(at(3), at(17), basis="occurred")), left_out=[index]).zip())

    assert verify(path, Policy.of(VKEY)).manifest.exclusions["outside"] > 0


def test_a_size_that_is_no_number(refused: Refused) -> None:
    """False is no 0 in a manifest, either."""
    bundle = make(story(question(at(-100), at(-50))))
    said: Any = decode(bundle.sealed["manifest.json"])
    assert said["files"]["proof/later.jsonl"]["size"] == 0
    said["files"]["proof/later.jsonl"]["size"] = False

    assert refused(bundle.sign(encode(said))) == "manifest.json files.proof/later.jsonl"


@pytest.mark.parametrize(
    ("line", "index"),
    [
        (b'{"index":7}', 7),
        (b'{"index":0}', 0),
        *(
            (b'{"index":%b}' % text, None)
            for text in (
                b"1e999",
                b"-1e999",
                b"NaN",
                b"Infinity",
                b"7.0",
                b"true",
                b'"7"',
                b"[7]",
                b"null",
                b"9" * 5000,
            )
        ),
        *((text, None) for text in (b"", b"[]", b"7", b'"index"', b"{}", b"[" * 100_000, b"\xff\xfe", b"\xff", b"{")),
    ],
)
def test_the_index_that_a_line_states(line: bytes, index: int | None) -> None:
    """Only an integer is one; whatever the bytes are, nothing is raised."""
    assert stated_index(line) == index
