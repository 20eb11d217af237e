"""The `translog` command, as an auditor runs it."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.translog.command import VKEY, Run, words
from tests.translog.samples import DELIVERY, EVIDENCE, FACTS, KEY, LEAF, LEAF_ID, POLICY, STRANGER, Log, evidence_file
from translog import cli, note
from translog.canonical import Value, encode
from translog.evidence import Delivery, Evidence, Opening
from translog.note import Kind, SigningKey, VerifyingKey


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An evidence file that shows everything."""
    return write(tmp_path, evidence_file(EVIDENCE))


def write(folder: Path, data: bytes) -> Path:
    """A file of these bytes."""
    path = folder / f"{LEAF_ID}.tlog-proof"
    path.write_bytes(data)
    return path


class TestKeygen:
    """`translog keygen`"""

    def test_two_lines(self, run: Run) -> None:
        """The private key and the vkey that belongs to it, each on a line, and nothing else."""
        code, output, errors = run("keygen", "example.com/log/acme")
        private, public = output.splitlines()
        assert (code, errors) == (0, "")
        assert SigningKey.parse(private).verifying_key() == VerifyingKey.parse(public)
        assert VerifyingKey.parse(public).name == "example.com/log/acme"
        assert VerifyingKey.parse(public).kind is Kind.ED25519

    @pytest.mark.parametrize("name", ["", "a b", "a+b"])
    def test_names_that_cannot_be(self, run: Run, name: str) -> None:
        """A name no note can hold is a mistake in the call."""
        code, output, errors = run("keygen", name)
        assert (code, output) == (2, "")
        assert "a key's name is not empty and has no spaces and no plus" in errors


class TestVerify:
    """`translog verify`"""

    def test_what_is_shown(self, run: Run, file: Path) -> None:
        """A good file: exit code 0, and each thing it shows on a line of its own."""
        code, output, errors = run("verify", str(file), "--key", VKEY)
        assert (code, errors) == (0, "")
        lines = [" ".join(line.split()) for line in output.splitlines()]
        assert lines[0] == "VERIFIED: this record is in the log, unchanged."
        for line in (
            "log example.com/log/acme",
            "size 5",
            "index 2",
            f"record revocation {LEAF_ID}",
            "event receipt.revoked",
            "effect revoked",
            "provider acme",
            "source source-1",
            "scheme standard-webhooks",
            "breaches revoked_before",
            "received at 2026-11-20T09:00:00.120001Z",
            "logged at 2026-11-20T09:00:00.123456Z",
            "item receipt 3f0c",
            "account 7b1c",
            "occurred at 2026-11-20T08:59:58.000000Z",
            "webhook-id: msg_1",
            "issuer proof none",
        ):
            assert line in lines
        assert "opened: a body of 26 bytes, SHA-256 " + hashlib.sha256(DELIVERY.body).hexdigest() in words(output)
        assert "withheld" not in output

    def test_what_is_not_shown(self, run: Run, file: Path) -> None:
        """A shared secret convinces the operator alone, two logs are possible, and the key must come from elsewhere."""
        _, output, _ = run("verify", str(file), "--key", VKEY)
        said = words(output.partition("What this does not show:")[2])
        assert (
            "a secret that provider and operator share (standard-webhooks): that convinces the operator alone" in said
        )
        assert "Without witnesses an operator could show two auditors two logs, or backdate" in said
        assert "Only the acknowledgement, the issuer's log and the provider's own records reveal that" in said
        assert "it must have come from the log's operator by other means than this file" in said
        assert "signed by the provider" not in words(output)

    @pytest.mark.parametrize(
        ("facts", "sentence"),
        [
            ({"scheme": "hmac"}, "a secret that provider and operator share (hmac)"),
            ({"scheme": "token"}, "a secret that provider and operator share (token)"),
            (
                {"scheme": "standard-webhooks/v1a"},
                "its signature (standard-webhooks/v1a) verified; that was not checked again",
            ),
            ({"scheme": "upstream", "via": "relay"}, "The operator made the call itself and recorded the answer"),
            ({"scheme": "upstream", "via": "poll"}, "The operator asked the provider and recorded the answer"),
            ({"scheme": "upstream", "via": "poll"}, "That it was this call that did it"),
            ({"attempt": "intent-1"}, "recorded that as the attempt intent-1: the evidence of that id shows it"),
            ({"via": "declared"}, "made by the operator's own systems, not by the provider"),
            ({"test": True}, "this comes from a test source"),
        ],
    )
    def test_how_it_came(self, run: Run, tmp_path: Path, facts: dict[str, str | bool | None], sentence: str) -> None:
        """How the notice came decides what it proves, and a sentence says so."""
        leaf = replace(LEAF, facts={**FACTS, **facts})
        path = write(tmp_path, evidence_file(replace(EVIDENCE, entry=leaf.encode())))
        code, output, _ = run("verify", str(path), "--key", VKEY)
        assert code == 0
        assert sentence in words(output)

    def test_an_answer_is_no_signed_notice(self, run: Run, tmp_path: Path) -> None:
        """Nobody shares a secret about what the operator was answered, so none is spoken of."""
        for kind, via in (("revocation", {"via": "relay"}), ("revocation", {"via": "poll"}), ("quarantine", {})):
            leaf = replace(LEAF, kind=kind, facts={**FACTS, "scheme": "upstream", "attempt": "intent-1", **via})
            path = write(tmp_path, evidence_file(replace(EVIDENCE, entry=leaf.encode())))
            code, output, _ = run("verify", str(path), "--key", VKEY)
            assert code == 0
            assert "share (" not in words(output)
            assert "the provider signed nothing of it" in words(output)

    @pytest.mark.parametrize(
        ("facts", "said"),
        [
            ({"key": "key-1"}, ["API key key-1", "or that the provider was called at all"]),
            ({"outcome": "refused", "status": 422}, ["status 422", "refused the call, with the status 422."]),
            ({"outcome": "not_sent"}, ["nothing of the call has reached the provider"]),
            ({"outcome": "not_done"}, ["had no effect, by the provider's own record"]),
            ({"outcome": "duplicate", "first": "event-1"}, ["told by event-1", "of which the record event-1 tells"]),
            ({"outcome": "repeated", "first": "event-1"}, ["made again", "that the record event-1 tells of both"]),
            ({"outcome": "melted"}, ["this became of the call: melted"]),
        ],
    )
    def test_a_call_that_was_passed_on(
        self, run: Run, tmp_path: Path, facts: dict[str, Value], said: list[str]
    ) -> None:
        """Its intent, and an answer that is no event: neither takes anything back, and both are the operator's word."""
        told = {
            "event": "POST /v1/things/{id}/revoke",
            "provider": "acme",
            "source": "source-1",
            "test": False,
            **facts,
        }
        if "outcome" in facts:
            told["attempt"] = "intent-1"
            said = [*said, "attempt intent-1", "That this call took anything back.", "as the attempt intent-1"]
        leaf = replace(LEAF, kind="attempt", facts=told)
        path = write(tmp_path, evidence_file(replace(EVIDENCE, entry=leaf.encode())))
        code, output, _ = run("verify", str(path), "--key", VKEY)
        assert code == 0
        for text in (*said, f"record attempt {LEAF_ID}", "item receipt 3f0c", "the provider signed nothing of it"):
            assert text in words(output)
        assert "share (" not in words(output)

    def test_withheld(self, run: Run, tmp_path: Path) -> None:
        """Without the openings the record verifies, and item and delivery are said to be withheld."""
        code, output, _ = run("verify", str(write(tmp_path, evidence_file(Evidence(LEAF.encode())))), "--key", VKEY)
        assert code == 0
        assert "item withheld" in words(output)
        assert "delivery withheld" in words(output)
        assert "The event: it is withheld." in words(output)
        assert "byte for byte" not in output

    def test_a_record_without_item(self, run: Run, tmp_path: Path) -> None:
        """A record that commits to nothing has nothing withheld; its facts are shown whatever they are."""
        leaf = replace(LEAF, kind="tally", facts={"counts": {"recorded": 3}, "until": None}, event=None, delivery=None)
        code, output, _ = run("verify", str(write(tmp_path, evidence_file(Evidence(leaf.encode())))), "--key", VKEY)
        assert code == 0
        assert f"record tally {LEAF_ID}" in words(output)
        assert 'counts {"recorded":3} until none' in words(output)
        assert "item none: a record of this kind names no item" in words(output)
        assert "withheld" not in output

    @pytest.mark.parametrize(
        ("kind", "facts", "said"),
        [
            (
                "mismatch",
                {"first": "event-1"},
                ["first event event-1", "other content than one of the same notice before it, the event event-1."],
            ),
            (
                "quarantine",
                {"reason": "not_json"},
                ["reason not_json", "not taken for an event when it came (not_json)"],
            ),
        ],
    )
    def test_a_delivery_that_is_no_event(
        self, run: Run, tmp_path: Path, kind: str, facts: dict[str, str], said: list[str]
    ) -> None:
        """A mismatch or a quarantined delivery is shown as it came; that it takes nothing back is said."""
        told = {"provider": "acme", "received_at": "2026-11-20T09:00:00.120001Z", "source": "source-1", **facts}
        leaf = replace(LEAF, kind=kind, facts=told, event=None)
        path = write(tmp_path, evidence_file(Evidence(leaf.encode(), delivery=EVIDENCE.delivery)))
        code, output, _ = run("verify", str(path), "--key", VKEY)
        assert code == 0
        for text in (
            *said,
            f"record {kind} {LEAF_ID}",
            "item none: a record of this kind names no item",
            "opened: a body of 26 bytes",
            "That anything was taken back.",
            "Who made the delivery, and how it was authenticated: a record of this kind does not say.",
        ):
            assert text in words(output)
        assert "share (" not in words(output)

    @pytest.mark.parametrize(
        ("kind", "facts", "said"),
        [
            (
                "cross_check",
                {"by": "issuer_log", "first": "event-1", "late": False, "state": "confirmed", "was": "pending"},
                "compared the event event-1 with the issuer's log, or the provider's own record, and recorded",
            ),
            ("gap", {"state": "open"}, "It recorded that no delivery had announced an entry of the issuer's log."),
            ("gap", {"state": "announced"}, "recorded that an entry of the issuer's log was announced after all."),
            ("fork", {"issuer_log": "log-1", "state": "forked"}, "The operator recorded that it holds evidence of it"),
            ("silence", {"state": "began"}, "Why nothing came, or that nothing was sent."),
        ],
    )
    def test_what_the_operator_found(
        self, run: Run, tmp_path: Path, kind: str, facts: dict[str, Value], said: str
    ) -> None:
        """A comparison, a gap, a fork, a silence: the facts are shown, and what the operator's word does not show."""
        leaf = replace(LEAF, kind=kind, facts={**facts, "provider": "acme", "source": "source-1"}, delivery=None)
        opening = Opening(encode({"issuer_index": 7, "issuer_log": "log-1"}), bytes(32))
        leaf = replace(leaf, event=opening.commitment("event"))
        path = write(tmp_path, evidence_file(Evidence(leaf.encode(), opening)))
        code, output, _ = run("verify", str(path), "--key", VKEY)
        assert code == 0
        for text in (said, f"record {kind} {LEAF_ID}", "source source-1", "issuer index 7", "delivery none"):
            assert text in words(output)
        for name, value in facts.items():
            label = {"first": "first event", "issuer_log": "issuer log"}.get(name, name)
            assert f"{label} {'no' if value is False else value} " in words(output)
        assert "item" not in output.partition("What this shows:")[0]
        assert "share (" not in words(output)

    def test_a_delivery_that_was_read_again(self, run: Run, tmp_path: Path) -> None:
        """What came out of quarantine was logged when it was read again; where it stands from before is said."""
        leaf = replace(LEAF, facts={**FACTS, "reprocessed": "quarantined-1"})
        code, output, _ = run(
            "verify", str(write(tmp_path, evidence_file(replace(EVIDENCE, entry=leaf.encode())))), "--key", VKEY
        )
        assert code == 0
        assert "reprocessed quarantined-1" in words(output)
        assert "it had been in quarantine, as quarantined-1, and was read again for this record" in words(output)

    def test_the_issuers_proof_is_not_checked(self, run: Run, tmp_path: Path) -> None:
        """An issuer's proof that came along is said to be there, and not checked."""
        path = write(tmp_path, evidence_file(replace(EVIDENCE, issuer=b"anything")))
        code, output, _ = run("verify", str(path), "--key", VKEY)
        assert code == 0
        assert "attached; not checked: that takes the issuer's key" in words(output)
        assert "its proof is attached, but was not checked" in words(output)

    def test_any_of_several_keys(self, run: Run, file: Path) -> None:
        """`--key` can be repeated, and the log's own among them suffices."""
        other = str(STRANGER.verifying_key())
        assert run("verify", str(file), "--key", other, "--key", VKEY)[0] == 0

    def test_another_key(self, run: Run, file: Path) -> None:
        """Under another key nothing is shown: exit code 1, no output, and the reason."""
        code, output, errors = run("verify", str(file), "--key", str(STRANGER.verifying_key()))
        assert (code, output) == (1, "")
        assert "no signature by a key that was given; it is signed by example.com/log/acme" in errors
        assert errors.endswith("translog verify: NOT VERIFIED\n")

    def test_a_changed_file(self, run: Run, file: Path) -> None:
        """A file with one character of a hash changed does not verify."""
        lines = file.read_text().split("\n")
        lines[3] = ("A" if lines[3][0] != "A" else "B") + lines[3][1:]
        file.write_text("\n".join(lines))
        code, output, errors = run("verify", str(file), "--key", VKEY)
        assert (code, output) == (1, "")
        assert "NOT VERIFIED" in errors

    def test_a_proof_of_something_else(self, run: Run, tmp_path: Path) -> None:
        """A proof without extra data, and one of another kind of entry, are refused with the reason."""
        code, _, errors = run("verify", str(write(tmp_path, Log(b"x").proof().encode())), "--key", VKEY)
        assert (code, "has no extra line" in errors) == (1, True)
        code, _, errors = run("verify", str(write(tmp_path, evidence_file(Evidence(b"x")))), "--key", VKEY)
        assert (code, "is in the log, but it is no leaf" in errors) == (1, True)

    def test_called_wrongly(self, run: Run, file: Path) -> None:
        """Without a key, with one that is none, with one given twice, and without a file the exit code is 2."""
        for arguments in (
            ("verify", str(file)),
            ("verify", str(file), "--key", "example.com/log"),
            ("verify", str(file), "--key", VKEY, "--key", VKEY),
            ("verify", "--key", VKEY),
            ("verify", str(file), str(file), "--key", VKEY),
            ("prove",),
            (),
        ):
            code, output, errors = run(*arguments)
            assert (code, output) == (2, "")
            assert "usage: translog" in errors

    def test_nothing_in_a_file_reaches_the_terminal_raw(self, run: Run, tmp_path: Path) -> None:
        """Escape sequences, line breaks and text that runs backwards become code points, in names and in values."""
        hostile = "\x1b[2J\r\nVERIFIED\u202e\u2028\x9b\\u{41}"
        ascii_part = "\x1b]0;x\x07\n"
        event = Opening(encode({"item": {"id": hostile, "type": "receipt"}, ascii_part: hostile}), bytes(32))
        delivery = Opening(Delivery((("x" + ascii_part, hostile),), b"").encode(), bytes(32))
        leaf = replace(
            LEAF,
            facts={ascii_part: hostile, "breaches": [hostile]},
            event=event.commitment("event"),
            delivery=delivery.commitment("delivery"),
        )
        path = write(tmp_path, evidence_file(Evidence(leaf.encode(), event, delivery)))
        for arguments in (("verify", str(path), "--key", VKEY), ("inspect", str(path))):
            code, output, _ = run(*arguments)
            assert code == 0
            assert all(line.isprintable() for line in output.split("\n"))
            assert "\\u{1b}[2J\\u{d}\\u{a}VERIFIED\\u{202e}\\u{2028}\\u{9b}\\u{41}" in output
            assert "\\u{1b}]0;x\\u{7}\\u{a}" in output
        hostile_path = str(tmp_path / "\x1b[2J")
        assert run("inspect", hostile_path)[2].startswith("translog inspect: cannot read ")
        assert "\x1b" not in run("inspect", hostile_path)[2]


class TestFiles:
    """What cannot be read, or is nothing that is read here."""

    @pytest.mark.parametrize("command", [("inspect",), ("verify", "--key", VKEY)])
    def test_errors_are_sentences(self, run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
        """A missing file, a folder, a binary, an empty and an endless file: exit code 1 and one clear reason."""
        binary, empty, huge = tmp_path / "binary", tmp_path / "empty", tmp_path / "huge"
        binary.write_bytes(bytes(range(256)))
        empty.write_bytes(b"")
        with huge.open("wb") as sparse:
            sparse.truncate(cli.MAX_FILE_SIZE + 1)
        for path, reason in (
            (tmp_path / "missing", "No such file or directory"),
            (tmp_path, "Is a directory"),
            (binary, "tlog-proof"),
            (empty, "tlog-proof"),
            (huge, "is larger than 16 MiB"),
            (Path("\0"), "cannot read"),
        ):
            code, output, errors = run(*command, str(path))
            assert (code, output) == (1, "")
            assert reason in errors
            assert "Traceback" not in errors


class TestInspect:
    """`translog inspect`"""

    def test_evidence(self, run: Run, file: Path) -> None:
        """What the file says is shown, each signature as not verified, and that nothing was verified comes first."""
        code, output, _ = run("inspect", str(file))
        assert code == 0
        assert output.startswith("A tlog-proof. Nothing was verified: all of this is what the file says of itself.\n")
        for said in (
            "index 2",
            "hashes 3",
            "size 5",
            f"signed by example.com/log/acme+{KEY.key_id:08x}, 64 bytes, not verified",
            f"record revocation {LEAF_ID}",
            "issuer proof none",
        ):
            assert said in words(output)
        assert "VERIFIED:" not in output

    def test_a_forged_file_is_only_described(self, run: Run, tmp_path: Path) -> None:
        """A proof that does not verify is described like any other."""
        forged = replace(Log(LEAF.encode()).proof(), index=1, extra=Evidence(b"x").encode())
        code, output, _ = run("inspect", str(write(tmp_path, forged.encode())))
        assert code == 0
        assert "bytes that are no evidence known here" in output

    def test_a_checkpoint(self, run: Run, tmp_path: Path) -> None:
        """A signed checkpoint is shown as origin, size and root."""
        data = Log(b"x").checkpoint(KEY, STRANGER)
        code, output, _ = run("inspect", str(write(tmp_path, data)))
        assert code == 0
        assert output.startswith("A signed note. Nothing was verified")
        assert f"root {POLICY.open(data).root.hex()}" in words(output)
        assert output.count("not verified") == 2

    def test_another_note(self, run: Run, tmp_path: Path) -> None:
        """A note that is no checkpoint is shown with its text."""
        code, output, _ = run("inspect", str(write(tmp_path, note.sign("Hello.\n", KEY))))
        assert code == 0
        assert "7 bytes, not a checkpoint" in output
        assert "Hello." in output

    def test_keys(self, run: Run, tmp_path: Path) -> None:
        """Of a vkey name, ID and type are shown; of a private key the same, and never the secret."""
        code, output, _ = run("inspect", str(write(tmp_path, f"{VKEY}\n".encode())))
        assert (code, VKEY in output, "01, Ed25519" in output) == (0, True, True)
        code, output, _ = run("inspect", str(write(tmp_path, f"{KEY}\n{VKEY}\n".encode())))
        assert (code, VKEY in output) == (0, True)
        assert str(KEY).rsplit("+", 1)[1] not in output
        assert "keep it to yourself" in output


class TestInstalled:
    """The command as it is installed."""

    def test_python_m_translog(self, file: Path) -> None:
        """`python -m translog` is the command, and its exit code the program's."""
        command = [sys.executable, "-m", "translog", "verify", str(file), "--key"]
        good = subprocess.run([*command, VKEY], capture_output=True, text=True, check=False)
        assert (good.returncode, good.stderr) == (0, "")
        assert good.stdout.startswith("VERIFIED: ")
        bad = subprocess.run([*command, str(STRANGER.verifying_key())], capture_output=True, text=True, check=False)
        assert (bad.returncode, bad.stdout) == (1, "")

    def test_a_terminal_without_unicode(self, tmp_path: Path) -> None:
        """A name that the terminal cannot show does not end the report."""
        key = SigningKey("example.com/ü", Kind.ED25519, bytes(32))
        path = write(tmp_path, note.sign("Grüße\n", key))
        shown = subprocess.run(
            [sys.executable, "-m", "translog", "inspect", str(path)],
            capture_output=True,
            env={"PYTHONIOENCODING": "ascii"},
            check=True,
        )
        assert b"Gr\\xfc\\xdfe" in shown.stdout

    def test_the_base_install_suffices(self, file: Path) -> None:
        """Beside the standard library the command loads `translog` and `cryptography`, and what that itself needs."""
        program = (
            "import sys; before = set(sys.modules); from translog.cli import main; code = main(sys.argv[1:])\n"
            "loaded = {name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names\n"
            "print(*sorted(loaded), file=sys.stderr); raise SystemExit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "verify", str(file), "--key", VKEY],
            capture_output=True,
            text=True,
            check=True,
        )
        assert set(done.stderr.split()) <= {"translog", "cryptography", "_cffi_backend", "_openssl"}
