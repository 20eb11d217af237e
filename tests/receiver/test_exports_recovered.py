"""Exports after a loss: of the successor, which say that there was a log before it; and of the closed log."""

import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from receiver.events import format_time
from receiver.records.engine import Database
from receiver.records.opening import Records
from tests.backups import Backup
from tests.receiver.commands import Commands
from tests.receiver.erasing import erase
from tests.receiver.exporting import Filled, fill
from translog.policy import Policy

EVERYTHING = ("--since", "2000-01-01")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What is there after a loss: the commands, what the closed log held, and the export that was made of it."""

    commands: Commands
    sentence: str
    event_id: str
    export_id: str
    file: Path
    log_key: str

    def export(self, *arguments: str, out: str) -> tuple[Path, str]:
        """Make one; its file, and what was said on standard error."""
        path = self.commands.folder / out
        result = self.commands.run("export", *arguments, "--out", str(path))
        assert result.exit_code == 0, result.output
        return path, result.stderr

    def opened(self) -> Records:
        """The records."""
        return self.commands.records()


def now() -> str:
    """The end of a period that everything until now is in."""
    return format_time(datetime.now(UTC))


@pytest.fixture
def recovered(tmp_path: Path) -> Recovered:
    """A log that was lost in part, and its successor, which has something of everything as well."""
    commands = Commands(tmp_path)
    filled = filling(commands)
    file = tmp_path / "closed.zip"
    made = commands.json("export", *EVERYTHING, "--until", now(), "--out", str(file))
    log_key = commands.ok("log-key").strip()
    records = commands.records()
    url, origin = records.settings.url, records.tenant("default").log.origin
    records.close()
    backup = Backup.take(Database(url))
    commands.ok("export", *EVERYTHING, "--until", now(), "--out", str(tmp_path / "lost.zip"))
    records = commands.records()
    size = records.tenant("default").log.published.size
    records.close()
    backup.put_back()
    commands.ok("recover", "--yes")
    filling(commands)
    sentence = f"This log succeeds {origin}, which held {size} signed entries: what that one holds is not here."
    return Recovered(commands, sentence, filled.events[0], made["id"], file, log_key)


def filling(commands: Commands) -> Filled:
    """Have something recorded, and published."""
    records = commands.records()
    filled = fill(records)
    records.tenant("default").log.publish()
    records.close()
    return filled


def test_whoever_asks_is_told_that_there_was_a_log_before(recovered: Recovered) -> None:
    """By a warning, by the report, and by whoever verifies the file."""
    out, said = recovered.export(*EVERYTHING, "--until", now(), out="all.zip")

    assert said == f"warning: {recovered.sentence}\n"
    with zipfile.ZipFile(out) as bundle:
        report = bundle.read("REPORT.html").decode()
        readme = " ".join(bundle.read("README.txt").decode().split())
    assert report.count(recovered.sentence) == 2
    assert "A log that succeeds another one, which was closed after a loss, says so in its first entry" in readme


def test_a_period_that_does_not_reach_back_so_far(recovered: Recovered) -> None:
    """Nothing is missing of that, so nothing is said."""
    since = now()
    filling(recovered.commands)
    out, said = recovered.export("--since", since, "--until", now(), out="later.zip")

    assert said == ""
    with zipfile.ZipFile(out) as bundle:
        assert "This log succeeds" not in bundle.read("REPORT.html").decode()


def test_a_log_that_succeeds_no_other(tmp_path: Path) -> None:
    """There is nothing to say of it, however early the period begins."""
    commands = Commands(tmp_path)
    filling(commands)
    result = commands.run("export", *EVERYTHING, "--until", now(), "--out", str(tmp_path / "x.zip"))
    assert (result.exit_code, result.stderr) == (0, "")


def test_an_export_of_the_closed_log_is_made_again(recovered: Recovered) -> None:
    """The same, to the byte; it verifies with that log's key."""
    again, said = recovered.export("--job", recovered.export_id, out="again.zip")

    assert again.read_bytes() == recovered.file.read_bytes()
    assert said == ""
    assert recovered.log_key != recovered.commands.ok("log-key").strip()
    with zipfile.ZipFile(again) as bundle:
        assert Policy.of(recovered.log_key).open(bundle.read("proof/checkpoint")).size > 0


def test_what_the_successor_erases_of_the_closed_log(recovered: Recovered) -> None:
    """No bundle of the closed log can say by which entry that was erased, so none that holds it is made any more."""
    records = recovered.opened()
    answer = erase(records, event_id=recovered.event_id)
    records.close()
    assert recovered.export_id in [one.id for one in answer.exports]

    again = str(recovered.commands.folder / "again.zip")
    said = recovered.commands.refused("export", "--job", recovered.export_id, "--out", again)

    assert "If another log has succeeded it since, that one does, and no bundle of this one can" in said
    assert not Path(again).exists()
