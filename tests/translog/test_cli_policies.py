"""`--policy`, `--key` and `--origin`: whose signatures the command relies on; and `translog inspect` of policies."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.translog.command import VKEY, Run, words
from tests.translog.policies import signer
from tests.translog.samples import EVIDENCE, KEY, LEAF, Log, evidence_file
from translog.note import Kind, Note
from translog.policy import Policy

A, B = signer("a.example"), signer("b.example", Kind.ML_DSA_44)
NOVEMBER_20 = 1_795_165_200

WITNESSED = (
    f"# both of ours\nlog {VKEY} https://example.com/log/acme/\nwitness A {A.verifying_key()}\n"
    f"witness B {B.verifying_key()}\ngroup ours all A B\nquorum ours\n"
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy that asks for two witnesses."""
    path = tmp_path / "policy"
    path.write_text(WITNESSED)
    return path


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Evidence whose checkpoint nobody cosigned."""
    path = tmp_path / "evidence.tlog-proof"
    path.write_bytes(evidence_file(EVIDENCE))
    return path


def cosigned() -> bytes:
    """Evidence whose checkpoint both witnesses cosigned, one of them without a time."""
    log = Log(LEAF.encode())
    signed = Note.parse(log.checkpoint())
    cosignatures = (A.sign(signed.text, NOVEMBER_20), B.sign(signed.text))
    checkpoint = Note(signed.text, (*signed.signatures, *cosignatures)).encode()
    return replace(log.proof(), checkpoint=checkpoint, extra=EVIDENCE.encode()).encode()


class TestVerify:
    """`translog verify --policy`"""

    def test_a_policy_without_witnesses(self, run: Run, policy: Path, evidence: Path) -> None:
        """A policy that names the log alone says what its key says."""
        policy.write_text(f"log {VKEY}\nquorum none\n")
        assert run("verify", str(evidence), "--policy", str(policy)) == run("verify", str(evidence), "--key", VKEY)

    def test_witnesses_cosigned(self, run: Run, policy: Path, evidence: Path) -> None:
        """The witnesses are named, with the time that they state, and what they do and do not show is said."""
        evidence.write_bytes(cosigned())
        code, output, _ = run("verify", str(evidence), "--policy", str(policy))
        assert code == 0
        assert "cosigned by a.example (A), 2026-11-20T09:00:00Z cosigned by b.example (B) index 2" in words(output)
        shown, not_shown = words(output).split("What this does not show:")
        assert "The witnesses that the policy asks for cosigned that checkpoint." in shown
        assert "That they are independent of the operator is for whoever wrote the policy to know." in not_shown
        assert "Without witnesses" not in output

    def test_witnesses_are_missing(self, run: Run, policy: Path, evidence: Path) -> None:
        """Without the quorum nothing is shown."""
        code, output, errors = run("verify", str(evidence), "--policy", str(policy))
        assert (code, output) == (1, "")
        assert "the quorum lacks" in errors
        assert "NOT VERIFIED" in errors

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (f"log {VKEY}\n", "no quorum line"),
            ("quorum none\n", "no log key was given"),
            (f"log {VKEY}\nquorum w\n", "policy, line 2: "),
        ],
    )
    def test_a_file_that_is_no_policy(self, run: Run, policy: Path, evidence: Path, text: str, reason: str) -> None:
        """A policy that cannot be read shows nothing, and the line at fault is named."""
        policy.write_text(text)
        code, output, errors = run("verify", str(evidence), "--policy", str(policy))
        assert (code, output) == (1, "")
        assert reason in errors

    def test_a_policy_that_is_not_there(self, run: Run, policy: Path, evidence: Path) -> None:
        """So does one that is missing."""
        policy.unlink()
        code, output, errors = run("verify", str(evidence), "--policy", str(policy))
        assert (code, output) == (1, "")
        assert f"cannot read {policy}: No such file" in errors

    def test_another_origin(self, run: Run, policy: Path, evidence: Path) -> None:
        """`--origin` names the only origin that is accepted, whatever the key's name is."""
        policy.write_text(f"log {VKEY}\nquorum none\n")
        for given in (("--key", VKEY), ("--policy", str(policy))):
            assert run("verify", str(evidence), *given, "--origin", KEY.name)[0] == 0
            code, output, errors = run("verify", str(evidence), *given, "--origin", "example.com/other")
            assert (code, output) == (1, "")
            assert "not of 'example.com/other'" in errors

    def test_called_wrongly(self, run: Run, policy: Path, evidence: Path) -> None:
        """A key and a policy at once, neither of them, or an origin that no checkpoint has: exit code 2."""
        for arguments in (
            ("--key", VKEY, "--policy", str(policy)),
            (),
            ("--origin", KEY.name),
            ("--key", VKEY, "--origin", ""),
            ("--key", VKEY, "--origin", "a\nb"),
        ):
            code, output, errors = run("verify", str(evidence), *arguments)
            assert (code, output) == (2, "")
            assert "usage: translog" in errors


class TestInspect:
    """`translog inspect` of a policy file."""

    def test_a_policy(self, run: Run, policy: Path) -> None:
        """Its lines in their canonical spelling, with the types of the keys."""
        code, output, _ = run("inspect", str(policy))
        assert code == 0
        assert output.startswith("A policy. Nothing was verified")
        for said in (
            f"log {VKEY} https://example.com/log/acme/ type 01, Ed25519",
            f"witness A {A.verifying_key()} type 04, Ed25519 cosignature, of a witness",
            "type 06, ML-DSA-44 cosignature",
            "group ours all A B",
            "quorum ours",
        ):
            assert said in words(output)

    def test_of_one_line(self, run: Run, policy: Path) -> None:
        """A file of one line that begins like a policy's is read as a policy, not as a key."""
        policy.write_text(f"log {VKEY}\n")
        code, _, errors = run("inspect", str(policy))
        assert (code, "no quorum line" in errors) == (1, True)

    def test_names_are_octets(self, run: Run, policy: Path) -> None:
        """A name that is no text, or hostile text, is shown escaped."""
        witness = str(A.verifying_key()).encode()
        policy.write_bytes(b"log %s\nwitness \xff\xe2\x80\xae %s\nquorum \xff\xe2\x80\xae\n" % (VKEY.encode(), witness))
        assert Policy.parse(policy.read_bytes()).quorum == b"\xff\xe2\x80\xae"
        code, output, _ = run("inspect", str(policy))
        assert code == 0
        assert "quorum \\u{dcff}\\u{202e}" in words(output)
        assert all(line.isprintable() for line in output.split("\n"))
