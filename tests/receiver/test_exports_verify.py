"""The verifier that comes with a bundle: it needs nothing of the project, and says the same as the library."""

import ast
import hashlib
import os
import re
import struct
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import translog
from receiver.exports import verify
from receiver.exports.verify import Checkpoint, Refused, Verifier, Wrong, judged, parse_key
from tests.translog import reference
from tests.translog.bundles import make, packed
from tests.translog.exported import KEY, OTHER_KEY, VKEY, at, question, story
from tests.translog.tampering import TAMPERED, Tampered, good
from translog.bundle import BundleError
from translog.bundle import verify as library_verify
from translog.policy import Policy

SCRIPT = Path(verify.__file__)
POLICY = Policy.of(VKEY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the bundle is."""
    return tmp_path / "bundle.zip"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The script, started as an auditor does who has nothing else."""
    command = [sys.executable, "-I", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def wrong(path: Path, vkey: str = VKEY) -> str | None:
    """The place that it names; None if all is well."""
    try:
        judged(lambda: Verifier(path, [parse_key(vkey)]).check())
    except Wrong as found:
        return found.args[0]
    return None


def wrong_by_library(path: Path) -> str | None:
    """The place that `translog verify` names."""
    try:
        library_verify(path, POLICY)
    except BundleError as found:
        return found.place
    return None


# ---- alone ----------------------------------------------------------------------------------------------------------


def test_it_imports_the_standard_library_and_cryptography() -> None:
    """And `pyarrow` by its name, if that is there."""
    nodes = list(ast.walk(ast.parse(SCRIPT.read_bytes())))
    imported = [one.name for node in nodes if isinstance(node, ast.Import) for one in node.names]
    imported += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    by_name = [ast.unparse(node) for node in calls if ast.unparse(node.func) in {"import_module", "__import__"}]

    assert {one.split(".")[0] for one in imported} - set(sys.stdlib_module_names) == {"cryptography"}
    assert sorted(by_name) == ["import_module('pyarrow.compute')", "import_module('pyarrow.parquet')"]


def test_it_runs_without_the_project(path: Path) -> None:
    """Nothing of `receiver` or `translog` is loaded, though they are installed here."""
    path.write_bytes(good().zip())
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    code = f"import sys; sys.argv = {[str(SCRIPT), str(path), '--key', VKEY]!r}\n{code}"
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in found.stderr.split()}

    assert "cryptography" in loaded
    assert loaded & {"receiver", "translog", "msgspec", "sqlalchemy"} == set()


def test_its_hash_is_published() -> None:
    """In the documentation, with the command that gives it."""
    text = (Path(translog.__file__).parents[1] / "docs" / "verify.md").read_text()
    digest = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()

    assert re.findall(r"^ +([0-9a-f]{64}) {2}verify\.py$", text, re.MULTILINE) == [digest]
    assert "sha256sum verify.py" in text


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["logged", "received", "occurred"])
def test_what_is_whole(path: Path, basis: str) -> None:
    """It says what was asked and found, and that it proves nothing by itself."""
    path.write_bytes(good(basis).zip())
    found = run(path, "--key", VKEY)

    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(f"VERIFIED: {'a SUBSET' if basis == 'occurred' else 'all events of the period'}")
    assert f"{at(4)} until before {at(17)}, as {basis}" in found.stdout
    assert "its verdict proves nothing by itself" in found.stdout
    assert ("complete as to what the provider did only where cross-checked" in found.stdout) == (basis != "occurred")


def test_what_is_not(path: Path) -> None:
    """It names the place, in its first words, and prints nothing that could pass for a verdict."""
    path.write_bytes(next(one for one in TAMPERED if one.name == "a body changed, signed again").zip())
    found = run(path, "--key", VKEY)

    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("NOT VERIFIED: payloads/000000.jsonl line 1 (entry 4): ")


def test_keys(path: Path, tmp_path: Path) -> None:
    """Of several any one, also from a file; a bundle of a log that none is of is not verified."""
    path.write_bytes(good().zip())
    file = tmp_path / "log.vkey"
    file.write_text(f"{VKEY}\n")
    other = str(OTHER_KEY.verifying_key())

    assert run(path, "--key", other, "--key", file).returncode == 0
    assert run(path, "--key", other).stderr.startswith("NOT VERIFIED: proof/checkpoint: ")


def test_wrong_usage(path: Path, tmp_path: Path) -> None:
    """No key, a key that is none, the private key, a key's file or a bundle that is not there: 2, and why."""
    path.write_bytes(good().zip())
    broken = VKEY[:-4] + "AAA="
    missing = tmp_path / "missing"
    for arguments in ([path], [path, "--key", broken], [path, "--key", KEY], [path, "--key", missing]):
        found = run(*map(str, arguments))
        assert (found.returncode, found.stdout) == (2, "")
        assert "usage:" in found.stderr
    assert run(missing, "--key", VKEY).returncode == 2


def test_what_is_printed_cannot_move_the_cursor(path: Path) -> None:
    """What comes from the file is shown with its control characters escaped."""
    bundle = good()
    bundle.manifest["population"] = "complete\x1b[2K\rVERIFIED"
    path.write_bytes(bundle.seal().zip())
    found = run(path, "--key", VKEY)

    assert found.returncode == 1
    assert found.stderr.isascii()
    assert "\x1b" not in found.stderr


# ---- tampering ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tampered", TAMPERED, ids=lambda one: one.name)
def test_tampering_is_named_as_by_the_library(path: Path, tampered: Tampered) -> None:
    """Each in the same place."""
    path.write_bytes(tampered.zip())

    assert wrong(path) == tampered.place


NAMES = [*good().sealed, *good().files]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changes_at_random(path: Path, data: st.DataObject) -> None:
    """A byte changed, put in or taken out of any file, as it is or signed again: both name the same file."""
    bundle = good(data.draw(st.sampled_from(["logged", "occurred"])))
    names = sorted({*bundle.files} - {"README.txt", "REPORT.html", "verify.py"})
    name = data.draw(st.sampled_from(names))
    old = bundle.files[name]
    where = data.draw(st.integers(0, max(len(old) - 1, 0)))
    piece = bytes(data.draw(st.lists(st.integers(0, 255), max_size=2)))
    bundle.files[name] = old[:where] + piece + old[where + data.draw(st.integers(0, 1)) :]
    path.write_bytes((bundle.seal() if data.draw(st.booleans()) else bundle).zip())
    found, by_library = wrong(path), wrong_by_library(path)

    assert (found is None) == (bundle.files[name] == old)
    assert (found or "").partition(" ")[0] == (by_library or "").partition(" ")[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_of_the_zip_at_random(path: Path, data: st.DataObject) -> None:
    """A bit of any byte; and any shorter or longer file."""
    whole = good().zip()
    where = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes((whole[where] ^ 1 << data.draw(st.integers(0, 7)),))
    path.write_bytes(
        data.draw(
            st.sampled_from(
                [whole[:where] + flipped + whole[where + 1 :], whole[:where], whole + flipped, flipped + whole]
            )
        )
    )

    assert wrong(path) is not None
    assert wrong_by_library(path) is not None


def test_whoever_shares_the_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes find the same, and what comes first is named, whichever found what."""
    monkeypatch.setattr(verify, "MANY", 0)
    monkeypatch.setattr(verify, "CHUNK", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    for basis in ("logged", "received", "occurred"):
        path.write_bytes(good(basis).zip())
        assert wrong(path) is None
    bundle = good()
    lines = bundle.files["events.jsonl"].splitlines(keepends=True)
    for number in (5, 2, 4):
        lines[number] = lines[number].replace(b'"leaf"', b'"Leaf"')
        bundle.files["events.jsonl"] = b"".join(lines)
        path.write_bytes(bundle.seal().zip())
        assert wrong(path) == wrong_by_library(path)


# ---- the ZIP, and proofs --------------------------------------------------------------------------------------------


def test_zips_that_others_would_read(path: Path) -> None:
    """Packed, named twice, with something before or behind, or named like another place: none is a bundle."""
    files, moment = {**good().sealed, **good().files}, good().moment
    whole = good().zip()
    path.write_bytes(whole)
    assert wrong(path) is None
    for name in ("../manifest.json", "/manifest.json", "a\\b", "C:x", "ä", ""):
        path.write_bytes(packed({**files, name: b"x"}, moment))
        assert wrong(path) in {name, "ZIP", "zip"} or name in {"", "ä"}
        assert wrong(path) is not None
    twice = whole.replace(b"README.txt", b"verify.py\0")
    for data in (b"", whole[:-1], whole + b"\0", b"\0" + whole, twice):
        path.write_bytes(data)
        assert wrong(path) is not None


def test_a_member_of_more_than_four_gibibytes(path: Path) -> None:
    """Its size, and the place of the member after it, need 64 bits, in both of their headers as they do."""
    size, full, when = 2**32 + 5, 0xFFFFFFFF, struct.pack("<2H", 0, 46 << 9 | 7 << 5 | 1)
    field = struct.pack("<2H2Q", 1, 16, size, size)
    numbers = struct.pack("<L2L2H", 7, full, full, 5, 20)
    local = b"PK\3\4" + struct.pack("<3H", 45, 0, 0) + when + numbers + b"large" + field
    other = b"PK\3\4" + struct.pack("<3H", 20, 0, 0) + when + struct.pack("<3L2H", 0, 0, 0, 5, 0) + b"after"
    second, start = len(local) + size, len(local) + size + len(other)
    mode = struct.pack("<3HL", 0, 0, 0, 0o100644 << 16)
    central = b"PK\1\2" + struct.pack("<4H", 0x32D, 45, 0, 0) + when + numbers + mode + bytes(4) + b"large" + field
    central += b"PK\1\2" + struct.pack("<4H", 0x32D, 45, 0, 0) + when + struct.pack("<3L2H", 0, 0, 0, 5, 12) + mode
    central += b"\xff" * 4 + b"after" + struct.pack("<2HQ", 1, 8, second)
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x32D, 45, 0, 0, 2, 2, len(central), start)
    end += struct.pack("<4sLQL", b"PK\6\7", 0, start + len(central), 1)
    end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(central), full, 0)
    for changed in (central, central[:-1] + b"\1"):
        with path.open("wb") as file:  # with a hole: it takes no room
            file.write(local)
            file.seek(second)
            file.write(other + changed + end)
        if changed == central:
            assert [one.size for one in verify.open_bundle(path).members.values()] == [size, 0]
        else:
            with pytest.raises(Wrong):
                verify.open_bundle(path)


def test_proofs_of_all_small_trees() -> None:
    """Of every entry in every tree up to 40, of every older tree and of every range; and one hash changed in each."""
    for size in range(1, 41):
        entries = reference.numbered(size)
        log = Checkpoint("log", size, reference.mth(entries))
        for index in range(size):
            proof = [b64encode(one).decode() for one in reference.path(index, entries)]
            verify.check_included(entries[index], index, log, proof)
            with pytest.raises(Refused):
                verify.check_included(b"another", index, log, proof)
            old = Checkpoint("log", index + 1, reference.mth(entries[: index + 1]))
            proof = [b64encode(one).decode() for one in reference.proof(index + 1, entries)]
            verify.check_consistent(old, log, proof)
            for number in range(len(proof)):
                spoilt = [*proof[:number], b64encode(bytes(32)).decode(), *proof[number + 1 :]]
                with pytest.raises(Refused):
                    verify.check_consistent(old, log, spoilt)
            for end in range(index + 1, size + 1):
                hashes = [b64encode(one).decode() for one in reference.range_proof(index, end, entries)]
                nodes = verify.proven(verify.outside(0, size, index, end), hashes)
                nodes |= {(one, one + 1): verify.leaf_hash(entries[one]) for one in range(index, end)}
                assert verify.root_of(0, size, nodes) == log.root


def test_an_empty_period(path: Path) -> None:
    """Shows that there was nothing."""
    path.write_bytes(make(story(question("2026-07-01T12:02:10.000000Z", "2026-07-01T12:02:50.000000Z"))).zip())
    found = run(path, "--key", VKEY)

    assert (wrong_by_library(path), found.returncode) == (None, 0)
    assert "events      0, of them" in found.stdout


def test_columns_for_databases(path: Path) -> None:
    """Are compared by value where `pyarrow` is there to read them."""
    pytest.importorskip("pyarrow")
    bundle = make(story(question(parquet=True)))
    path.write_bytes(bundle.zip())
    assert "events.parquet by value" in run(path, "--key", VKEY).stdout

    bundle.files["events.parquet"] = make(story(question(basis="received", parquet=True))).files["events.parquet"]
    path.write_bytes(bundle.seal().zip())
    assert str(wrong(path)).startswith("events.parquet row ")
    assert wrong(path) == wrong_by_library(path)
