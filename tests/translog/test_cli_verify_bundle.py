"""`translog verify` of an export bundle, as an auditor runs it."""

import os
from pathlib import Path

import pytest

from tests.translog.bundles import make
from tests.translog.command import Run, words
from tests.translog.exported import ORIGIN, VKEY, at, question, story
from tests.translog.tampering import RESIGNED, Tampered
from translog.canonical import Value
from translog.note import SigningKey


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


def written(folder: Path, asked: dict[str, Value] | None = None) -> str:
    """A bundle that answers that question."""
    path = folder / "export.zip"
    path.write_bytes(make(story(asked)).zip())
    return str(path)


def test_what_is_shown(run: Run, tmp_path: Path) -> None:
    """Exit code 0, and each thing on a line of its own."""
    code, output, errors = run("verify", written(tmp_path), "--key", VKEY)
    lines = [" ".join(line.split()) for line in output.splitlines()]

    assert (code, errors) == (0, "")
    assert lines[0] == (
        "VERIFIED: this export is complete and unchanged: it has every event of its period that the log has, test "
        "sources left out."
    )
    for line in (
        f"log {ORIGIN}",
        "size 23",
        f"asked {at(20)}, by command; entry 20 of the log",
        f"period {at(4)} up to, and without, {at(17)}",
        "basis when an event was logged",
        "providers all",
        "population complete",
        "entries 3 to 17, 15 in all",
        "events 6",
        "erased 2, of which only the entry is left",
        "of provider acme 3, globex 2, initech 1",
        "cross-check confirmed 1, contradicted 1, untold 4",
        "not in it mismatches 1, quarantined 1, tests 1",
        "deliveries 6, by the tallies of the period",
    ):
        assert line in lines


def test_what_it_shows_and_what_not(run: Run, tmp_path: Path) -> None:
    """In sentences to be quoted."""
    _, output, _ = run("verify", written(tmp_path), "--key", VKEY)
    shown, _, not_shown = words(output).partition("What this does not show:")

    assert "Every event that was logged in the period is here: 6 in all. None was left out, added or changed." in shown
    assert "The log has only grown since the export before this one, whose checkpoint had 12 entries." in shown
    assert (
        "complete as to what Rescind recorded; complete as to what the provider did only where cross-checked"
        in not_shown
    )
    assert "What the log says of these events from entry 18 on, but for what the bundle names" in not_shown
    assert "Without witnesses an operator could show two auditors two logs, or backdate" in not_shown
    assert "it must have come from the log's operator by other means than this file" in not_shown


def test_nothing_happened(run: Run, tmp_path: Path) -> None:
    """A period without an event is an answer as well."""
    code, output, _ = run("verify", written(tmp_path, question(at(16.2), at(16.8))), "--key", VKEY)

    assert code == 0
    assert output.startswith("VERIFIED: this export is complete and unchanged: the log has no event of its period")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (question(providers=["acme"]), "Anything of other providers than acme."),
        (question(basis="occurred"), "That the events which are not here occurred at another time."),
    ],
)
def test_a_subset(run: Run, tmp_path: Path, asked: dict[str, Value], said: str) -> None:
    """Is called one in the first line, and what it cannot show is said."""
    code, output, _ = run("verify", written(tmp_path, asked), "--key", VKEY)

    assert code == 0
    assert output.startswith("VERIFIED: this export is unchanged. It is a subset:")
    assert said in words(output.partition("What this does not show:")[2])
    assert "complete and unchanged" not in output


def test_late_arrivals(run: Run, tmp_path: Path) -> None:
    """Are counted where there can be any."""
    _, output, _ = run("verify", written(tmp_path, question(basis="received")), "--key", VKEY)

    assert "late arrivals 1, logged after the period" in words(output)


def test_tests(run: Run, tmp_path: Path) -> None:
    """That they are left out is said, unless they are not."""
    _, without, _ = run("verify", written(tmp_path), "--key", VKEY)
    _, with_them, _ = run("verify", written(tmp_path, question(tests=True)), "--key", VKEY)

    assert "What test sources were sent" in without
    assert "What test sources were sent" not in with_them
    assert "test sources left out" not in with_them


@pytest.mark.parametrize("tampered", RESIGNED[::9], ids=lambda one: one.name)
def test_what_is_wrong(run: Run, tmp_path: Path, tampered: Tampered) -> None:
    """Exit code 1, and the place first."""
    path = tmp_path / "export.zip"
    path.write_bytes(tampered.zip())
    code, output, errors = run("verify", str(path), "--key", VKEY)

    assert (code, output) == (1, "")
    assert errors.startswith(f"translog verify: {tampered.place}: ")
    assert errors.endswith("translog verify: NOT VERIFIED\n")


def test_another_log(run: Run, tmp_path: Path) -> None:
    """A key of another log verifies nothing."""
    stranger = SigningKey.generate(ORIGIN).verifying_key()
    code, _, errors = run("verify", written(tmp_path), "--key", str(stranger))

    assert code == 1
    assert "proof/checkpoint: note: no signature by a key that was given" in errors


def test_a_policy(run: Run, tmp_path: Path) -> None:
    """A policy file takes the place of the key."""
    policy = tmp_path / "policy"
    policy.write_text(f"log {VKEY}\nquorum none\n")

    assert run("verify", written(tmp_path), "--policy", str(policy))[0] == 0


def test_a_key_of_the_issuers(run: Run, tmp_path: Path) -> None:
    """There is nothing of an issuer's to verify in a bundle."""
    code, _, errors = run("verify", written(tmp_path), "--key", VKEY, "--issuer-key", VKEY)

    assert code == 1
    assert "an export bundle has no proofs of an issuer's own" in errors


def test_a_pipe(run: Run, tmp_path: Path) -> None:
    """A bundle cannot be read from one, and that is said."""
    data = Path(written(tmp_path)).read_bytes()
    out, into = os.pipe()
    try:
        os.write(into, data[:30_000])
    finally:
        os.close(into)
    try:
        code, _, errors = run("verify", f"/dev/fd/{out}", "--key", VKEY)
    finally:
        os.close(out)

    assert code == 1
    assert "is a ZIP. If it is an export bundle, `translog verify` reads it, from a file and not from a pipe" in errors


def test_inspect(run: Run, tmp_path: Path) -> None:
    """`translog inspect` says who reads it."""
    code, _, errors = run("inspect", written(tmp_path))

    assert code == 1
    assert "is a ZIP. If it is an export bundle, `translog verify` reads it" in errors
