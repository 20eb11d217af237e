"""`receiver export`: a bundle made by a command, the same one that the service makes, and made once more."""

import hashlib
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.events import Kind
from receiver.exports import leases
from receiver.exports.building import build_into
from receiver.fsck import fsck
from receiver.records.giving import withdraw
from receiver.records.journal import change
from receiver.records.keeping import exports, given_out
from receiver.records.opening import Records
from tests.receiver.commands import Commands
from tests.receiver.erasing import erase
from tests.receiver.exporting import fill, leaves
from translog.checkpoint import Checkpoint
from translog.note import Note

command = import_module("receiver.cli.export")  # whose name the command itself has in its package

PERIOD = ("--since", "2026-01-01", "--until", "2026-10-01")


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder that something was recorded in."""
    commands = Commands(tmp_path)
    records = commands.records()
    fill(records)
    records.close()
    return commands


def rows(records: Records, table: sa.Table = exports) -> list[sa.Row[Any]]:
    """Rows of a table, by id."""
    with records.database.read() as tx:
        return list(tx.execute(sa.select(table).order_by(table.c.id)).all())


def now(commands: Commands) -> str:
    """The end of a period that everything is in."""
    records = commands.records()
    try:
        return records.tenant("default").log.head().logged_at
    finally:
        records.close()


def test_a_bundle_is_written(commands: Commands, tmp_path: Path) -> None:
    """With no service about: the command publishes the checkpoint itself. What it prints can be checked."""
    out = tmp_path / "bundle.zip"

    made = commands.json("export", "--since", "2000-01-01", "--until", now(commands), "--out", str(out))

    data = out.read_bytes()
    assert (made["file"], made["size"]) == (str(out), len(data))
    assert made["sha256"] == hashlib.sha256(data).hexdigest()
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        assert bundle.read("events.jsonl").count(b"\n") == made["events"] > 0
    assert [one.name for one in tmp_path.iterdir() if "bundle" in one.name] == ["bundle.zip"]
    records = commands.records()
    [row], [given] = rows(records), rows(records, given_out)
    assert (row.id, row.asked_by, row.state, row.sha256.hex()) == (made["id"], "command", "completed", made["sha256"])
    assert row.expires_at == row.completed_at
    assert (given.export_id, given.given_to) == (row.id, "command")
    asked = [leaf for _, leaf in leaves(records) if leaf.kind == Kind.EXPORT]
    assert [(leaf.id, leaf.facts["by"]) for leaf in asked] == [(row.id, "command")]
    assert Checkpoint.parse(Note.parse(bytes(row.checkpoint)).text).size == row.log_index + 1
    assert [finding for finding in fsck(records).findings if "export" in finding.place] == []
    records.close()


def test_in_words(commands: Commands, tmp_path: Path) -> None:
    """What it is, where, and how to verify it."""
    out = tmp_path / "a bundle.zip"
    told = commands.ok("export", *PERIOD, "--out", str(out))

    assert hashlib.sha256(out.read_bytes()).hexdigest() in told
    vkey = commands.ok("log-key").strip()
    assert f"translog verify '{out}' --key {vkey}" in told


def test_the_same_bytes_once_more(commands: Commands, tmp_path: Path) -> None:
    """By its id, whatever was recorded and published since."""
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    made = commands.json("export", *PERIOD, "--basis", "received", "--tests", "--out", str(first))
    records = commands.records()
    fill(records)
    records.close()
    commands.ok("export", *PERIOD, "--out", str(tmp_path / "another.zip"))

    again = commands.json("export", "--job", made["id"], "--out", str(second))

    assert again == {**made, "file": str(second)}
    assert second.read_bytes() == first.read_bytes()
    records = commands.records()
    assert [one.export_id for one in rows(records, given_out)].count(made["id"]) == 2
    records.close()


def test_the_export_before_it_is_proved_to_be_continued(commands: Commands, tmp_path: Path) -> None:
    """From the second one on."""
    for number in range(2):
        commands.ok("export", *PERIOD, "--out", str(tmp_path / f"{number}.zip"))

    held = [zipfile.ZipFile(tmp_path / f"{number}.zip").namelist() for number in range(2)]

    assert ["proof/previous-checkpoint" in names for names in held] == [False, True]


def test_what_was_asked_for_is_in_the_entry(commands: Commands, tmp_path: Path) -> None:
    """A date is its first moment in UTC; providers are sorted, and each there once."""
    options = ("--provider", "scrip", "--provider", "capillary", "--provider", "scrip")
    commands.ok("export", *PERIOD, *options, "--basis", "occurred", "--out", str(tmp_path / "x.zip"))

    records = commands.records()
    [asked] = [leaf for _, leaf in leaves(records) if leaf.kind == Kind.EXPORT]
    records.close()
    assert asked.facts == {
        "basis": "occurred",
        "by": "command",
        "parquet": False,
        "providers": ["capillary", "scrip"],
        "since": "2026-01-01T00:00:00.000000Z",
        "tests": False,
        "until": "2026-10-01T00:00:00.000000Z",
    }


def test_a_file_that_is_there_stays(commands: Commands, tmp_path: Path) -> None:
    """Unless it is to be written over; nothing is logged."""
    out = tmp_path / "bundle.zip"
    out.write_text("precious")
    size = len(list_leaves(commands))

    assert "--force" in commands.refused("export", *PERIOD, "--out", str(out))
    assert (out.read_text(), len(list_leaves(commands))) == ("precious", size)
    commands.ok("export", *PERIOD, "--out", str(out), "--force")
    assert zipfile.is_zipfile(out)


def list_leaves(commands: Commands) -> list[Any]:
    """What the log has."""
    records = commands.records()
    try:
        return list(leaves(records))
    finally:
        records.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "2026-01-01", "--until", "2999-01-01"), "after now"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), "after since"),
        (("--since", "yesterday", "--until", "2026-01-01"), "since is 'yesterday'"),
        (("--since", "2026-02-31", "--until", "2026-03-01"), "since is '2026-02-31"),
        (("--job", "0198a1b2-0000-7000-8000-000000000000"), "there is no export"),
    ],
)
def test_what_cannot_be_exported(commands: Commands, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """A sentence, no file and no entry."""
    size = len(list_leaves(commands))

    assert said in commands.refused("export", *options, "--out", str(tmp_path / "x.zip"))
    assert len(list_leaves(commands)) == size
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--since", "2026-01-01"),
        (),
        ("--job", "x", "--tests"),
        ("--job", "x", *PERIOD),
        ("--job", "x", "--basis", "received"),
    ],
)
def test_how_it_is_not_called(commands: Commands, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Exit status 2."""
    commands.refused("export", *options, "--out", str(tmp_path / "x.zip"), status=2)


def test_a_folder_that_is_not_there(commands: Commands, tmp_path: Path) -> None:
    """It is not made, and nothing is logged."""
    size = len(list_leaves(commands))

    assert "no folder" in commands.refused("export", *PERIOD, "--out", str(tmp_path / "none" / "x.zip"))
    assert len(list_leaves(commands)) == size


def test_another_tenants_export_is_not_made(commands: Commands, tmp_path: Path) -> None:
    """Its id is known to nobody else."""
    made = commands.json("export", *PERIOD, "--out", str(tmp_path / "x.zip"))
    records = commands.records()
    records.ensure_tenant("other")
    records.close()

    told = commands.refused("export", "--job", made["id"], "--tenant", "other", "--out", str(tmp_path / "y.zip"))

    assert "there is no export" in told


def test_one_that_does_not_end_can_be_made(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how, and leaves nothing behind but its entry."""
    monkeypatch.setattr(command, "build_into", _fail)
    assert "No space left" in commands.refused("export", *PERIOD, "--out", str(tmp_path / "x.zip"))
    monkeypatch.undo()
    records = commands.records()
    [row] = rows(records)
    records.close()
    assert (row.state, f"receiver export --job {row.id}" in row.error) == ("failed", True)
    assert [one.name for one in tmp_path.iterdir() if "x.zip" in one.name] == []

    assert commands.json("export", "--job", row.id, "--out", str(tmp_path / "x.zip"))["id"] == row.id


@pytest.mark.parametrize("is_known", [True, False])
def test_an_erasure_names_one_that_was_only_made_again(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """By the range of its file; and if that is not known, since a crash came between, by where its own entry is."""
    period, out = ("--since", "2000-01-01", "--until", now(commands)), tmp_path / "x.zip"
    monkeypatch.setattr(command, "build_into", _fail)
    commands.refused("export", *period, "--out", str(out))
    monkeypatch.undo()
    records = commands.records()
    [failed] = rows(records)
    commands.ok("export", "--job", failed.id, "--out", str(out))

    [made] = rows(records)
    assert (failed.start, failed.end, made.state) == (None, None, "failed")
    assert 0 <= made.start < made.end <= made.log_index + 1
    if not is_known:
        with records.database.write() as tx:
            tx.execute(sa.update(exports).values(start=None, end=None))
    with zipfile.ZipFile(out) as bundle:
        event_id = json.loads(bundle.read("events.jsonl").splitlines()[0])["leaf"]["id"]
    records.tenant("default").log.refresh()
    answer = erase(records, event_id=event_id)
    records.close()
    assert [one.id for one in answer.exports] == [made.id, made.id]  # given to whom it failed for, too


def _fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_was_erased_meanwhile_does_not_get_out(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is thrown away, though it is whole; and made once more, as the sentence says."""

    def erase_then_build(records: Records, job: Any, *to: Any) -> Any:
        built = build_into(records, job, *to)
        tenant = records.tenant("default")
        with change(records.database, tenant.log) as changing:
            assert withdraw(changing.tx, tenant, [(job.log_id, built.start)]) == [job.id]
        return built

    monkeypatch.setattr(command, "build_into", erase_then_build)
    told = commands.refused("export", *PERIOD, "--out", str(tmp_path / "x.zip"))
    monkeypatch.undo()

    assert not (tmp_path / "x.zip").exists()
    [export_id] = re.findall(r"--job (\S+)", told)
    commands.ok("export", "--job", export_id, "--out", str(tmp_path / "x.zip"))


def test_a_service_leaves_it_to_the_command(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as that runs: it is held, and what it says of its progress holds it on."""
    seen: list[list[str]] = []

    def look_then_build(records: Records, job: Any, file: Any, folder: Path, progress: Any) -> Any:
        progress(1, 4)
        with records.database.read() as tx:
            seen.append(leases.waiting(tx, datetime.now(UTC)))
        [row] = rows(records)
        seen.append([row.state, str(row.progress), row.holder.split(" ")[0]])
        return build_into(records, job, file, folder, progress)

    monkeypatch.setattr(command, "build_into", look_then_build)
    monkeypatch.setattr(command, "_NOTED_EVERY", 0.0)
    commands.ok("export", *PERIOD, "--out", str(tmp_path / "x.zip"))

    assert seen == [[], ["processing", "25", "command"]]


def test_a_terminal_is_shown_how_far_it_is(commands: Commands, tmp_path: Path) -> None:
    """On standard error, and nowhere else."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [
            *(Path(sys.executable).parent / "receiver", "export", *PERIOD),
            *("--out", tmp_path / "x.zip", "--data", commands.data),
        ],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, **commands.environment, "TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    while select.select([main], [], [], 30)[0]:
        try:
            piece = os.read(main, 65536)
        except OSError:  # nobody has the terminal open any more
            break
        shown += piece
    printed, _ = process.communicate(timeout=30)
    os.close(main)

    assert process.returncode == 0
    assert b"Export" in shown
    assert b"translog verify" in printed
    assert b"\x1b" not in printed
