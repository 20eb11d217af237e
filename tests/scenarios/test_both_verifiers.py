"""What the receiver writes, both verifiers find whole: the library's, and the one file that comes with the bundle.

They are two readings of one document, and the writer is a third. So where all three agree, whatever is asked for, the
document is understood; and where somebody tampered, both name the same place.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from receiver.exports.parquet import available
from receiver.records.opening import Records
from tests.receiver.exporting import BEGINNING, Filled, bundle, erase, fill, job, leaves, make
from translog.bundle import BundleError, Verified, verify
from translog.policy import Policy


@pytest.fixture
def filled(records: Records) -> Filled:
    """A log with something of everything in it."""
    return fill(records)


def both(path: Path, vkey: str, folder: Path) -> tuple[Verified | str, str]:
    """What each verifier says of a bundle: the place that is wrong, if one is."""
    try:
        found: Verified | str = verify(path, Policy.of(vkey))
    except BundleError as error:
        found = error.place
    with zipfile.ZipFile(path) as archive:
        script = folder / "verify.py"
        script.write_bytes(archive.read("verify.py"))
    command = [sys.executable, "-I", str(script), str(path), "--key", vkey]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == (0 if isinstance(found, Verified) else 1), run.stderr or found
    return found, run.stdout if run.returncode == 0 else run.stderr


def whole(path: Path, filled: Filled, folder: Path) -> Verified:
    """What a bundle shows that both find whole."""
    found, _ = both(path, str(filled.tenant.log.verifying_key), folder)
    assert isinstance(found, Verified)
    return found


def edges(records: Records) -> list[str]:
    """Times at which periods can begin and end: those of some leaves, early, midway and late."""
    times = [leaf.logged_at for _, leaf in leaves(records)]
    return [times[0], times[len(times) // 3], times[2 * len(times) // 3], times[-1]]


@pytest.mark.parametrize("basis", ["logged", "received", "occurred"])
@pytest.mark.parametrize("asked", [{}, {"providers": ("scrip",)}, {"tests": True}], ids=["all", "some", "tests"])
def test_whatever_is_asked_for(filled: Filled, tmp_path: Path, basis: str, asked: dict[str, Any]) -> None:
    """On each basis, of all providers or one, with tests or without."""
    found = whole(bundle(filled.records, tmp_path, basis=basis, **asked), filled, tmp_path)

    assert found.manifest.question.basis == basis
    assert found.manifest.population == ("subset" if basis == "occurred" or "providers" in asked else "complete")


def test_every_part_of_the_log(filled: Filled, tmp_path: Path) -> None:
    """Periods that begin and end anywhere; also one in which there was nothing."""
    times = edges(filled.records)
    for since in (BEGINNING, *times[:-1]):
        for until in times:
            if since < until:
                whole(bundle(filled.records, tmp_path, since=since, until=until), filled, tmp_path)
    empty = bundle(filled.records, tmp_path, since="1999-01-01T00:00:00.000000Z", until=BEGINNING)

    assert whole(empty, filled, tmp_path).manifest.counts["events"] == 0


@pytest.mark.parametrize("extent", ["all", "delivery"])
def test_what_was_erased(filled: Filled, tmp_path: Path, extent: str) -> None:
    """Within the range, after it, and after the checkpoint that the bundle has."""
    records = filled.records
    before = job(records)
    until = before.query.until
    erase(records, filled.events[:1], extent=extent)
    after = job(records, until=until)
    whole(make(records, after, tmp_path), filled, tmp_path)
    erase(records, filled.events[1:3], extent=extent)

    for asked in (before, after, job(records), job(records, until=until, basis="received")):
        whole(make(records, asked, tmp_path), filled, tmp_path)


def test_after_an_earlier_export(filled: Filled, tmp_path: Path) -> None:
    """The log is shown to have only grown since."""
    earlier = job(filled.records)
    erase(filled.records, filled.events[:1])
    found = whole(bundle(filled.records, tmp_path, previous=earlier.checkpoint), filled, tmp_path)

    assert found.manifest.previous is not None


@pytest.mark.skipif(not available(), reason="pyarrow is not installed")
def test_with_a_parquet_file(filled: Filled, tmp_path: Path) -> None:
    """Which is compared by value."""
    assert whole(bundle(filled.records, tmp_path, parquet=True), filled, tmp_path).parquet is True


def test_a_byte_of_any_file(filled: Filled, tmp_path: Path) -> None:
    """Both name the file."""
    path = bundle(filled.records, tmp_path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        infos = [one for one in archive.infolist() if one.file_size]
        places = {one.filename: one.header_offset + 30 + len(one.filename) for one in infos}
        sizes = {one.filename: one.file_size for one in infos}
    vkey = str(filled.tenant.log.verifying_key)
    script = tmp_path / "apart"
    script.mkdir()
    for name, start in places.items():
        if name == "verify.py":  # it would not be the same verifier any more
            continue
        at = start + sizes[name] // 2
        path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        found, said = both(path, vkey, script)

        assert found == name
        assert re.match(rf"NOT VERIFIED: {re.escape(name)}[ :]", said), said


def test_the_verifier_is_the_one_of_this_project(filled: Filled, tmp_path: Path) -> None:
    """Byte for byte the file that is kept here, whose hash can be looked up."""
    with zipfile.ZipFile(bundle(filled.records, tmp_path)) as archive:
        inside = archive.read("verify.py")
    kept = Path(__file__).parents[2] / "receiver" / "exports" / "verify.py"

    assert hashlib.sha256(inside).hexdigest() == hashlib.sha256(kept.read_bytes()).hexdigest()
