"""A bundle's verification by several processes: the same answers, the same first fault, and memory that is bounded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.translog.bundles import Bundle, make
from tests.translog.exported import ORIGIN, VKEY, at, question, story
from tests.translog.tampering import RESIGNED, Tampered, good
from translog.bundle import BundleError, Verified, verify
from translog.bundle.archive import Archive
from translog.bundle.chunks import Context
from translog.bundle.manifest import Question
from translog.bundle.work import Side, Workers
from translog.checkpoint import Checkpoint
from translog.errors import TranslogError
from translog.policy import Policy

POLICY = Policy.of(VKEY)
ROOT = Path(__file__).parents[2]
CONTEXT = Context(Question("logged", at(4), at(17), None, tests=False), 4, 18, Checkpoint(ORIGIN, 23, bytes(32)))
WHOLE = ("an event left out", "a body changed", "an erased body put back", "a cell changed", "a gap hidden")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the bundle is."""
    return tmp_path / "bundle.zip"


@pytest.fixture
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """However small a bundle is, it is worth processes of its own."""
    monkeypatch.setattr("translog.bundle.verification._LARGE", 0)


def of(bundle: Bundle, path: Path, processes: int) -> Verified:
    """What is shown of it, by so many."""
    path.write_bytes(bundle.zip())
    return verify(path, POLICY, processes)


@pytest.mark.parametrize("size", [1, 700])
@pytest.mark.parametrize("basis", ["logged", "occurred"])
def test_lines_are_read_in_blocks(path: Path, monkeypatch: pytest.MonkeyPatch, size: int, basis: str) -> None:
    """Of any size, in which there is no whole line, or one, or some of which one is to be read by itself."""
    bundle = make(story(question(basis=basis)))
    whole = of(bundle, path, 1)
    monkeypatch.setattr("translog.bundle.lines._BLOCK", size)

    assert of(bundle, path, 1) == whole
    for tampered in RESIGNED:
        if tampered.name.startswith(WHOLE):
            path.write_bytes(tampered.zip())
            with pytest.raises(BundleError) as caught:
                verify(path, POLICY)
            assert caught.value.place == tampered.place


@pytest.mark.usefixtures("_shared")
def test_several_processes_find_the_same(path: Path) -> None:
    """As one alone."""
    bundle = make(story())

    assert of(bundle, path, 2) == of(bundle, path, 1)


@pytest.mark.usefixtures("_shared")
@pytest.mark.parametrize("tampered", [one for one in RESIGNED if one.name.startswith(WHOLE)], ids=lambda one: one.name)
def test_several_processes_find_the_same_fault(path: Path, tampered: Tampered) -> None:
    """And name its place, which comes from the process that has found it."""
    path.write_bytes(tampered.zip())

    with pytest.raises(BundleError) as caught:
        verify(path, POLICY, 2)
    assert caught.value.place == tampered.place


def _end(side: Side, number: int) -> int:
    if number:
        os._exit(number)
    return number


def _number(side: Side, number: int) -> int:
    return number * number


def _fail(side: Side, number: int) -> int:
    if number == 70:
        raise BundleError("here", "it is wrong")
    return number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(path: Path, processes: int) -> None:
    """Also if there are many more tasks than may wait."""
    path.write_bytes(good().zip())
    with Archive.open(path) as archive, Workers(archive, CONTEXT, processes) as workers:
        assert list(workers.run(_number, range(200))) == [number * number for number in range(200)]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_fault_is_raised_in_its_turn(path: Path, processes: int) -> None:
    """After what came before it."""
    path.write_bytes(good().zip())
    seen: list[int] = []
    with (
        Archive.open(path) as archive,
        Workers(archive, CONTEXT, processes) as workers,
        pytest.raises(BundleError, match=r"^here: it is wrong$"),
    ):
        seen.extend(workers.run(_fail, range(200)))
    assert seen == list(range(70))


def test_a_process_that_is_killed(path: Path) -> None:
    """Is no fault of the bundle, and is told as what it is."""
    path.write_bytes(good().zip())
    with (
        Archive.open(path) as archive,
        Workers(archive, CONTEXT, 2) as workers,
        pytest.raises(TranslogError, match="a process that verifies was ended from outside") as caught,
    ):
        list(workers.run(_end, [0, 9, 0]))
    assert not isinstance(caught.value, BundleError)


def test_a_file_that_was_put_in_its_place(path: Path) -> None:
    """What another process opens must be the same file: else its findings would be of another."""
    path.write_bytes(good().zip())
    with Archive.open(path) as archive:
        state = archive.state
        path.unlink()
        path.write_bytes(good().zip())
        with Archive.open(path) as other, pytest.raises(BundleError, match=r"^ZIP: the file was changed"):
            other.check_unchanged(state)


def test_nothing_but_the_base_install_is_needed(path: Path) -> None:
    """A bundle is verified with the standard library and `cryptography`; `pyarrow` is not even looked at."""
    path.write_bytes(good().zip())
    script = (
        "import sys; from pathlib import Path; from translog.bundle import verify; from translog.policy import Policy\n"
        "verify(Path(sys.argv[1]), Policy.of(sys.argv[2]))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(path), VKEY], check=True, capture_output=True, text=True, cwd=ROOT
    )
    others = {name for name in run.stdout.split() if not name.startswith("_")}

    assert others - {"translog", "cryptography", "cffi"} == set()
