"""`translog verify` of a fork's evidence, and what `translog inspect` says of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.translog.command import VKEY, Run, words
from tests.translog.issuers import ISSUER_VKEY
from tests.translog.misbehaving import Simulated
from tests.translog.samples import KEY, ORIGIN, STRANGER
from translog import merkle
from translog.fork import Fork
from translog.note import Kind, SigningKey
from translog.tiles import hash_reader

HONEST = Simulated.of(5)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the evidence is."""
    return tmp_path / "evidence.fork"


def fork_of(other: Simulated, honest: Simulated = HONEST) -> Fork:
    """The evidence that a log signed what is honest, and then another history that is as large or larger."""
    read = hash_reader(other.size, lambda wanted: list(other.resources(wanted).values()))
    proof = merkle.consistency_proof(honest.size, other.size, read)
    return Fork(honest.checkpoint(), other.checkpoint(), other.root(honest.size), tuple(proof))


def test_a_log_that_regrew(run: Run, path: Path) -> None:
    """Both checkpoints are shown, with sizes, roots and who signed; what it shows and what not. Exit code 0."""
    other = HONEST.forked(2, size=8)
    path.write_bytes(fork_of(other).encode())
    code, output, errors = run("verify", str(path), "--key", VKEY)
    assert (code, errors) == (0, "")
    assert output.startswith(f"FORKED: the log {ORIGIN} signed two checkpoints that cannot both be of one log.\n")
    signed = f"signed by {ORIGIN}+{KEY.key_id:08x}, verified"
    assert f"One checkpoint: log {ORIGIN} size 5 root {HONEST.root().hex()} {signed}" in words(output)
    assert f"The other: log {ORIGIN} size 8 root {other.root().hex()} {signed}" in words(output)
    shown, not_shown = words(output).split("What this shows:")[1].split("What this does not show:")
    assert f"The first 5 entries of the larger one have the root {other.root(5).hex()}" in shown
    assert f"The holder of the key {ORIGIN}+{KEY.key_id:08x} signed both" in shown
    assert "Which of the two is true, which entries differ, and who was shown which." in not_shown
    assert "Who used the key" in not_shown
    assert "That rests on the key you gave" in not_shown


def test_two_of_one_size(run: Run, path: Path) -> None:
    """Two checkpoints of one size with different roots are a fork by themselves."""
    path.write_bytes(fork_of(HONEST.forked(4)).encode())
    code, output, _ = run("verify", str(path), "--key", VKEY)
    assert code == 0
    assert "Both are of 5 entries, and have different roots" in words(output)


def test_who_else_signed(run: Run, path: Path) -> None:
    """Other signatures are named, and not taken for verified."""
    fork = replace(fork_of(HONEST.forked(4)), smaller=HONEST.checkpoint(None, KEY, STRANGER))
    path.write_bytes(fork.encode())
    code, output, _ = run("verify", str(path), "--key", VKEY)
    assert code == 0
    assert words(output).count("verified") == 2
    assert f"signed by {STRANGER.name}+{STRANGER.key_id:08x}, not checked" in words(output)


def test_no_one_key_signed_both(run: Run, path: Path) -> None:
    """Of several keys under one origin it is said which signed which, and that all of them have to be the log's."""
    other = SigningKey(ORIGIN, Kind.ED25519, bytes(32))
    path.write_bytes(replace(fork_of(HONEST.forked(4)), larger=HONEST.forked(4).checkpoint(None, other)).encode())
    code, output, _ = run("verify", str(path), "--key", VKEY, "--key", str(other.verifying_key()))
    assert code == 0
    shown, not_shown = words(output).split("What this shows:")[1].split("What this does not show:")
    first, second = (f"{ORIGIN}+{key.key_id:08x}" for key in (KEY, other))
    assert f"No one key signed both: the one is signed by {first}, the other by {second}." in shown
    assert "The holder of" not in shown
    assert (
        "That these keys are all the log's: you say so, who gave them. If one is not, this shows nothing." in not_shown
    )


@pytest.mark.parametrize(
    ("fork", "reason"),
    [
        (fork_of(Simulated.of(8)), "are consistent"),
        (fork_of(Simulated.of(5)), "are consistent"),
        (replace(fork_of(HONEST.forked(2, size=8)), root=bytes(32)), "leads to the root"),
        (replace(fork_of(HONEST.forked(2, size=8)), proof=()), "hashes"),
        (fork_of(replace(HONEST.forked(2), key=STRANGER)), "no signature by a key that was given"),
    ],
)
def test_no_fork(run: Run, path: Path, fork: Fork, reason: str) -> None:
    """What does not prove a fork: exit code 1, no output, and why."""
    path.write_bytes(fork.encode())
    code, output, errors = run("verify", str(path), "--key", VKEY)
    assert (code, output) == (1, "")
    assert reason in errors
    assert errors.endswith("translog verify: NOT VERIFIED\n")


def test_another_key(run: Run, path: Path) -> None:
    """A fork of one log is none of another."""
    path.write_bytes(fork_of(HONEST.forked(2)).encode())
    code, output, errors = run("verify", str(path), "--key", ISSUER_VKEY)
    assert (code, output) == (1, "")
    assert "NOT VERIFIED" in errors


def test_there_is_no_issuers_proof_in_it(run: Run, path: Path) -> None:
    """The log's own key is given by `--key`, whoever's log it is."""
    path.write_bytes(fork_of(HONEST.forked(2)).encode())
    code, output, errors = run("verify", str(path), "--key", VKEY, "--issuer-key", ISSUER_VKEY)
    assert (code, output) == (1, "")
    assert "a fork's evidence has no issuer's proof in it" in errors


def test_inspect(run: Run, path: Path) -> None:
    """`translog inspect` describes it, a file that proves nothing too, and says that nothing was verified."""
    for fork in (fork_of(HONEST.forked(2, size=8)), fork_of(Simulated.of(8))):
        path.write_bytes(fork.encode())
        code, output, _ = run("inspect", str(path))
        assert code == 0
        assert output.startswith("Evidence that a log forked. Nothing was verified")
        assert f"size 5 root {HONEST.root().hex()} signed by {ORIGIN}+{KEY.key_id:08x}, 64 bytes, not" in words(output)
        assert "size 8 " in words(output)
        assert f"other root {fork.root.hex()}" in words(output)


def test_what_is_not_canonical(run: Run, path: Path) -> None:
    """A file that begins like one and is none is refused, to verify and to inspect."""
    path.write_bytes(fork_of(HONEST.forked(2)).encode() + b"\n")
    for arguments in (("verify", str(path), "--key", VKEY), ("inspect", str(path))):
        code, output, errors = run(*arguments)
        assert (code, output) == (1, "")
        assert errors.startswith(f"translog {arguments[0]}: ")
