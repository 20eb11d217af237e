"""`receiver fsck` and `receiver recover` as commands: what they say, what they ask, how they end."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from receiver.cli import cli
from receiver.records.tables import deliveries, log_keys
from receiver.settings import Settings
from tests.receiver.service import receipt_id, revoked
from tests.receiver.sites import LOG, Site, local_site, lose
from translog.store import logs


@pytest.fixture
def local(tmp_path: Path) -> Site:
    """The same on SQLite, for what does not depend on the database."""
    return local_site(tmp_path)


def run(site: Site, *arguments: str, answer: str | None = None) -> tuple[int, str]:
    """Run a command on the installation; its exit status and what it prints."""
    result = CliRunner().invoke(
        cli,
        [*arguments, "--data", str(site.settings.data)],
        input=answer,
        env={"RESCIND_GUARD": str(site.settings.guard)},
    )
    return result.exit_code, result.output


def test_the_command_explains_and_asks(local: Site) -> None:
    """It says what is missing and what will happen, and does nothing unless it is told yes."""
    lose(local)
    status, output = run(local, "recover", answer="n\n")
    assert status == 1
    assert f"The log {LOG} of tenant default is not what its guard says.\n" in output
    assert re.search("It holds [0-9]+ entries, and has signed [0-9]+: 4 are missing.\n", output)
    assert local.rows(sa.select(logs.c.origin)) == [(LOG,)]

    status, output = run(local, "recover", answer="y\n")
    assert status == 0
    vkeys = [vkey for (vkey,) in local.rows(sa.select(log_keys.c.vkey).order_by(log_keys.c.log_id.desc()))]
    assert f"Tenant default goes on in {LOG}/2." in output
    assert [line for line in output.splitlines() if line.startswith(f"{LOG}") and "+" in line] == vkeys

    status, output = run(local, "recover", "--yes")
    assert (status, output) == (
        0,
        "There is nothing to recover: the log of tenant default is all that its guard says.\n",
    )


def test_a_tenant_that_is_lost(local: Site) -> None:
    """The command refuses to go on without it, says so, and makes it again when it is told to."""
    local.deliver(revoked())
    backup = local.backup()
    with local.opened(check=True) as (records, _):
        records.ensure_tenant("acme").log.publish()
    backup.put_back()
    status, output = run(local, "log-key")
    assert status == 1
    assert "`receiver recover --tenant acme` begins a successor log" in output
    status, output = run(local, "recover", "--tenant", "nobody")
    assert (status, output) == (1, "Error: there is no tenant 'nobody'; known: default\n")

    status, output = run(local, "recover", "--tenant", "acme", answer="y\n")
    assert status == 0
    origin = LOG.replace("default", "acme")
    assert f"The log {origin} of tenant acme has signed 1 entries, says its guard." in output
    assert f"Tenant acme goes on in {origin}/2." in output
    assert "closed" not in output
    assert run(local, "log-key", "--tenant", "acme")[1].startswith(f"{origin}/2+")


def test_a_guard_inside_of_the_data_folder(tmp_path: Path) -> None:
    """It is warned of, as it is put back together with the database; one beside it is not."""
    inside = Site(Settings(data=tmp_path / "data", guard=tmp_path / "data" / "guard"))
    beside = Site(Settings(data=tmp_path / "data", guard=tmp_path / "data-guard"))
    assert "warning" not in run(beside, "init")[1]
    assert f"warning: the guard {tmp_path / 'data' / 'guard'} is inside of the data folder" in run(inside, "init")[1]


def test_the_commands_make_nothing(tmp_path: Path) -> None:
    """Neither `fsck` nor `recover` makes a data folder or a database: without one they end with a sentence."""
    nowhere = Site(Settings(data=tmp_path / "nowhere", guard=tmp_path / "guard"))
    empty = Site(Settings(data=tmp_path / "empty", guard=tmp_path / "guard"))
    (tmp_path / "empty").mkdir()
    for command in ("fsck", "recover"):
        status, output = run(nowhere, command)
        assert (status, output) == (
            1,
            f"Error: there is no data folder {tmp_path / 'nowhere'}; name it with --data, or RESCIND_DATA\n",
        )
        status, output = run(empty, command)
        assert status == 1
        assert output.startswith(f"Error: there is no database {tmp_path / 'empty' / 'rescind.db'}; ")
    assert [file.name for file in tmp_path.rglob("*")] == ["empty"]


def test_the_check_says_what_it_found(local: Site) -> None:
    """Exit status 0 and a line of what was looked at; 1, a line for each fault, and how many there are, otherwise."""
    local.deliver(revoked(receipt_id()))
    status, output = run(local, "fsck")
    assert status == 0
    assert re.fullmatch("Checked 1 log, 4 entries, 1 tile, [0-9]+ checkpoints, 1 delivery: nothing is wrong.\n", output)

    [(row_id,)] = local.rows(sa.select(deliveries.c.id))
    local.execute(sa.update(deliveries).values(effect="refused"))
    status, output = run(local, "fsck")
    assert status == 1
    finding, summary = output.splitlines()
    assert finding == f"{LOG}: row {row_id} (entry 2): effect is 'refused', the entry's fact 'revoked'"
    assert summary.endswith("1 delivery: 1 thing is wrong.")
