"""`translog verify --issuer-key`: what the issuer itself stands for, and what its proof does not show."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.translog.command import VKEY, Run, words
from tests.translog.issuers import FORGER, ISSUER, ISSUER_VKEY, issuer_proof, plain, vouched_for
from tests.translog.samples import EVIDENCE, KEY, evidence_file
from translog.canonical import Value

BY_ITS_KEY = ("--key", VKEY, "--issuer-key", ISSUER_VKEY)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> "Folder":
    """Where files are written."""
    return Folder(tmp_path)


class Folder:
    """A folder of files, which each has its path for an answer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, data: bytes, name: str = "evidence.tlog-proof") -> str:
        """A file of these bytes."""
        path = self.path / name
        path.write_bytes(data)
        return str(path)


def parts(output: str) -> tuple[str, str, str]:
    """The tables, what is shown, and what is not."""
    tables, shown = output.split("What this shows:")
    shown, not_shown = shown.split("What this does not show:")
    return words(tables), words(shown), words(not_shown)


def test_an_entry_about_the_record(run: Run, folder: Folder) -> None:
    """The issuer's log, the place and the entry are shown, what it says, and what it has in common with the record."""
    code, output, errors = run("verify", folder.file(vouched_for(plain())), *BY_ITS_KEY)
    assert (code, errors) == (0, "")
    tables, shown, not_shown = parts(output)
    assert "issuer proof verified: entry 1 of 3 of issuer.example/log issuer root " in tables
    assert f"issuer entry {plain().decode()}" in tables
    assert (
        "The issuer's log issuer.example/log signed a checkpoint of 3 entries and has, at index 1, an entry that says: "
        '"receipt" "3f0c" of "acme", effect "revoked", event "RECEIPT_REVOKE", operation "3f0c", account "7b1c", at '
        '"2026-11-20T08:59:58.000000Z". The issuer itself stands for it.'
    ) in shown
    assert "say the same as provider, item type, item id, effect, operation and account." in shown
    assert "Whose log the issuer's is, and that everyone sees the same. That rests on the issuer's key" in not_shown
    assert "not checked" not in output
    assert "That the issuer's entry is" not in not_shown


def test_an_entry_of_another_act(run: Run, folder: Folder) -> None:
    """An entry that differs is no proof of this record: nothing is shown, and the member is named."""
    code, output, errors = run("verify", folder.file(vouched_for(plain(effect="rejected"))), *BY_ITS_KEY)
    assert (code, output) == (1, "")
    assert "the issuer's entry is about something else: its effect is 'rejected', the record's 'revoked'" in errors
    assert errors.endswith("translog verify: NOT VERIFIED\n")


def test_the_operation_is_not_named(run: Run, folder: Folder) -> None:
    """Without the operation on both sides, another act on the same item could look the same, and that is said."""
    code, output, _ = run("verify", folder.file(vouched_for(plain(operation=None))), *BY_ITS_KEY)
    assert code == 0
    assert "That the issuer's entry is of this very act." in parts(output)[2]


@pytest.mark.parametrize(
    ("entry", "withheld", "why"),
    [
        (b"a certificate", False, "the entry is of a form that is not known here"),
        (b"a certificate", True, "the entry is of a form that is not known here"),
    ],
)
def test_what_cannot_be_compared(run: Run, folder: Folder, entry: bytes, withheld: bool, why: str) -> None:
    """The entry is in the issuer's log, and shown; whether it is about this record is left to the reader."""
    file = folder.file(vouched_for(entry, replace(EVIDENCE, event=None) if withheld else EVIDENCE))
    code, output, _ = run("verify", file, *BY_ITS_KEY)
    assert code == 0
    tables, shown, not_shown = parts(output)
    assert f"issuer entry {entry.decode()}" in tables
    assert "at index 1, an entry that " in shown
    assert "say the same" not in shown
    assert f"That the issuer's entry is about this record. They were not compared, for {why}" in not_shown


def test_the_event_is_withheld(run: Run, folder: Folder) -> None:
    """Then provider and effect, which the record's entry has itself, are compared all the same, and no more is said."""
    withheld = replace(EVIDENCE, event=None)
    other: Value = {"id": "another", "type": "badge"}
    code, output, _ = run("verify", folder.file(vouched_for(plain(item=other), withheld)), *BY_ITS_KEY)
    assert code == 0
    _, shown, not_shown = parts(output)
    assert "That entry and this record say the same as provider and effect." in shown
    assert "is about this record. Their items were not compared, for the event is withheld: read the entry" in not_shown
    for wrong in (plain(provider="other"), plain(effect="rejected")):
        code, output, errors = run("verify", folder.file(vouched_for(wrong, withheld)), *BY_ITS_KEY)
        assert (code, output) == (1, "")
        assert "the issuer's entry is about something else: its " in errors


def test_only_the_operation_is_the_same(run: Run, folder: Folder) -> None:
    """An entry of another kind of item is tied to the record by its operation alone: both items are named."""
    code, output, _ = run("verify", folder.file(vouched_for(plain(item={"id": "9", "type": "badge"}))), *BY_ITS_KEY)
    assert code == 0
    assert (
        'That the issuer\'s entry is about the same item. It names "badge" "9", the record "receipt" "3f0c": only the '
        "operation is the same."
    ) in parts(output)[2]


def test_no_words_of_an_entry_read_as_ours(run: Run, folder: Folder) -> None:
    """Its texts are in quotes, which they cannot end, and only the beginning of a long one is said."""
    event = 'X". The issuer itself stands for it.\n\nVERIFIED: all of it \\'
    code, output, _ = run("verify", folder.file(vouched_for(plain(event=event, at="A" * 60_000))), *BY_ITS_KEY)
    assert code == 0
    shown = parts(output)[1]
    assert r'event "X\". The issuer itself stands for it.\u{a}\u{a}VERIFIED: all of it \\", operation "3f0c"' in shown
    assert f'at"{"A" * 100}…"(60000charactersinall).' in shown.replace(" ", "")
    assert "\nVERIFIED: all of it" not in output


def test_without_a_proof(run: Run, folder: Folder) -> None:
    """If the issuer's key is given, there must be a proof of the issuer's own."""
    code, output, errors = run("verify", folder.file(evidence_file(EVIDENCE)), *BY_ITS_KEY)
    assert (code, output) == (1, "")
    assert "no proof of the issuer's own came with it" in errors
    assert "NOT VERIFIED" in errors


def test_without_a_key(run: Run, folder: Folder) -> None:
    """If it is not given, the proof is said to be there and not checked, also if it is about something else."""
    code, output, _ = run("verify", folder.file(vouched_for(plain(provider="other"))), "--key", VKEY)
    assert code == 0
    tables, shown, not_shown = parts(output)
    assert "issuer proof attached; not checked: that takes the issuer's key" in tables
    assert "issuer" not in shown
    assert "What the issuer's log says: its proof is attached, but was not checked." in not_shown


def test_a_forged_proof(run: Run, folder: Folder) -> None:
    """A proof under another key of the issuer's name fails, and so does one from another log."""
    for key in (FORGER, KEY):
        file = folder.file(evidence_file(replace(EVIDENCE, issuer=issuer_proof(plain(), key))))
        code, output, errors = run("verify", file, *BY_ITS_KEY)
        assert (code, output) == (1, "")
        assert "the issuer's proof does not hold: " in errors


def test_a_policy_and_an_origin(run: Run, folder: Folder) -> None:
    """The issuer's log can be given by a policy file, and by another origin than its key's name."""
    file = folder.file(vouched_for(plain()))
    policy = folder.file(f"log {ISSUER_VKEY}\nquorum none\n".encode(), "policy")
    assert run("verify", file, "--key", VKEY, "--issuer-policy", policy)[0] == 0
    origin = ("--issuer-origin", "another.example/log")
    code, output, errors = run("verify", file, "--key", VKEY, "--issuer-policy", policy, *origin)
    assert (code, output) == (1, "")
    assert "not of 'another.example/log'" in errors
    assert run("verify", file, *BY_ITS_KEY, *origin)[0] == 1
    assert run("verify", file, *BY_ITS_KEY, "--issuer-origin", ISSUER.name)[0] == 0


def test_called_wrongly(run: Run, folder: Folder) -> None:
    """A key that is none, one given twice, two ways at once, and an origin of nothing are mistakes in the call."""
    file = folder.file(vouched_for(plain()))
    for arguments, said in (
        (("--issuer-key", "issuer.example"), "--issuer-key: vkey: "),
        (("--issuer-key", ISSUER_VKEY, "--issuer-key", ISSUER_VKEY), "give each key once"),
        (("--issuer-key", ISSUER_VKEY, "--issuer-policy", "policy"), "not allowed with argument"),
        (("--issuer-origin", "another.example/log"), "says nothing without --issuer-key or --issuer-policy"),
    ):
        code, output, errors = run("verify", file, "--key", VKEY, *arguments)
        assert (code, output) == (2, "")
        assert said in errors


def test_nothing_of_an_entry_reaches_the_terminal_raw(run: Run, folder: Folder) -> None:
    """Control characters are escaped, what is no text is shown in hex, and neither fills the screen."""
    for entry, said in (
        (b"\x1b[2J\r\nVERIFIED", "\\u{1b}[2J\\u{d}\\u{a}VERIFIED"),
        (b"\xff\x00", "2 bytes that are no text, in hex: ff00"),
        (b"\xff" * 5000, "5000 bytes that are no text, in hex: " + "ff" * 500 + "…"),
        (b"x" * 5000, "x" * 1000 + "… (5000 bytes in all)"),
    ):
        file = folder.file(vouched_for(entry))
        for arguments in (("verify", file, *BY_ITS_KEY), ("inspect", file)):
            code, output, _ = run(*arguments)
            assert code == 0
            assert all(line.isprintable() for line in output.split("\n"))
            assert said in output
            assert len(output) < 10_000


def test_a_hostile_plain_entry(run: Run, folder: Folder) -> None:
    """What a plain entry says is escaped in the sentence that repeats it."""
    entry = plain(account="\x1b[2J\nVERIFIED")
    code, output, _ = run("verify", folder.file(vouched_for(entry, replace(EVIDENCE, event=None))), *BY_ITS_KEY)
    assert code == 0
    assert 'account "\\u{1b}[2J\\u{a}VERIFIED"' in parts(output)[1]
    assert all(line.isprintable() for line in output.split("\n"))


def test_inspect_shows_where_it_is_from(run: Run, folder: Folder) -> None:
    """`translog inspect` says what the issuer's proof claims, and that it was not checked."""
    code, output, _ = run("inspect", folder.file(vouched_for(plain())))
    assert code == 0
    assert "bytes, not checked issuer log issuer.example/log, index 1 of 3 issuer entry {" in words(output)
    code, output, _ = run("inspect", folder.file(evidence_file(replace(EVIDENCE, issuer=b"anything"))))
    assert (code, "issuer proof 8 bytes, not checked" in words(output)) == (0, True)
