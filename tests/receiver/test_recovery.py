"""After a loss: the log that its guard refuses is closed, and a successor says what is missing."""

import re
import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from receiver.cli import cli
from receiver.fsck import Report, fsck
from receiver.records.engine import Database
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.recovery import Loss, find_loss, recover
from receiver.records.tables import deliveries, log_keys, processes, tenants
from receiver.settings import Settings
from tests.backups import Backup
from tests.receiver.service import ORIGIN, Sender, Service, receipt_id, revoked, running
from tests.translog.faults import PowerCut, at
from translog.checkpoint import Checkpoint
from translog.errors import LogDamaged, LogRegressed, StoreError
from translog.evidence import Leaf, verify
from translog.merkle import EMPTY_ROOT
from translog.policy import Policy
from translog.store import entries, logs, published

LOG = f"{ORIGIN}/log/default"


@dataclass(slots=True)
class Site:
    """An installation over its life: a service that is started and stopped, copies taken and put back."""

    settings: Settings
    sources: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @contextmanager
    def serving(self) -> Generator[tuple[Service, Sender]]:
        """The service, and a source that is always the same one."""
        with running(self.settings) as service:
            if not self.sources:
                made = service.add_source()
                self.sources.append((made.source_id, made.secret))
            yield service, Sender(service, *self.sources[0])

    def deliver(self, *bodies: bytes) -> list[dict[str, Any]]:
        """Start the service, deliver, wait for the checkpoint, stop it; the answers."""
        with self.serving() as (service, sender):
            answers = [sender.post(body).json() for body in bodies]
            service.until_published()
        return answers

    def backup(self) -> Backup:
        """Take a copy of the database."""
        return Backup.take(Database(self.settings.url))

    def put_back_what_is_now(self, between: Callable[[], object]) -> None:
        """Take a copy while the service runs, as a backup program does; after `between`, put it back."""
        file = self.settings.data / "rescind.db"
        copy = file.with_name("copy.db")
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        between()
        copy.replace(file)

    @contextmanager
    def opened(self, *, check: bool = False) -> Generator[tuple[Records, Tenant]]:
        """The records, as the command opens them."""
        records = Records.open(self.settings, check=check)
        try:
            yield records, records.tenant("default")
        finally:
            records.close()

    def recover(self) -> Loss:
        """What `receiver recover` does once it was confirmed."""
        with self.opened() as (records, tenant):
            loss = find_loss(records, tenant)
            assert loss is not None
            recover(records, tenant, loss)
        return loss

    def check(self) -> Report:
        """What `receiver fsck` finds."""
        records = Records.inspect(self.settings)
        try:
            return fsck(records)
        finally:
            records.close()

    def rows(self, query: sa.Select[*tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """What the database holds."""
        database = Database(self.settings.url)
        with database.read() as tx:
            found = [tuple(row) for row in tx.execute(query)]
        database.dispose()
        return found

    def execute(self, statement: sa.Update | sa.Delete | sa.Insert) -> None:
        """Change it as no part of the service would."""
        database = Database(self.settings.url)
        with database.write() as tx:
            tx.execute(statement)
        database.dispose()

    def head(self, log_id: int) -> tuple[int, bytes]:
        """Size and root of a log."""
        [(size, root)] = self.rows(sa.select(logs.c.size, logs.c.root).where(logs.c.id == log_id))
        return size, bytes(root)

    def leaf(self, log_id: int, index: int) -> Leaf:
        """An entry of a log."""
        query = sa.select(entries.c.data).where(entries.c.log_id == log_id, entries.c.index == index)
        [(data,)] = self.rows(query)
        return Leaf.parse(bytes(data))


@pytest.fixture
def site(settings: Settings) -> Site:
    """An installation on either database, with nothing in it yet."""
    return Site(settings.model_copy(update={"publish_interval": 0.05}))


@pytest.fixture
def local(tmp_path: Path) -> Site:
    """The same on SQLite, for what does not depend on the database."""
    return Site(Settings(data=tmp_path / "data", guard=tmp_path / "guard", origin=ORIGIN, publish_interval=0.05))


def lose(site: Site) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keep one delivery, take a copy, keep two more, and put the copy back; the first's and the second's answers."""
    [kept] = site.deliver(revoked())
    backup = site.backup()
    lost, _ = site.deliver(revoked(), revoked())
    backup.put_back()
    return kept, lost


def regrow(site: Site, tmp_path: Path) -> None:
    """The same, and then the copy grows beyond where it was, under a guard that knows nothing of it."""
    lose(site)
    Site(site.settings.model_copy(update={"guard": tmp_path / "other guard"}), site.sources).deliver(
        *(revoked() for _ in range(6))
    )


# ---- whether there is a loss ----------------------------------------------------------------------------------------


def test_a_log_that_reaches_its_guard_has_lost_nothing(site: Site) -> None:
    """There is nothing to recover from, neither with a guard that is reached nor with none."""
    site.deliver(revoked())
    with site.opened() as (records, tenant):
        assert find_loss(records, tenant) is None
    shutil.rmtree(site.settings.guard)
    with site.opened() as (records, tenant):
        assert find_loss(records, tenant) is None


def test_a_copy_put_back_is_refused_and_its_loss_is_known(site: Site) -> None:
    """The log is refused with a message that names the command, which finds how many entries are missing."""
    [kept] = site.deliver(revoked())
    size, root = site.head(1)
    backup = site.backup()
    site.deliver(revoked(), revoked())
    lost_size, lost_root = site.head(1)
    backup.put_back()

    with pytest.raises(LogRegressed, match="`receiver recover`"):
        Records.open(site.settings)
    with site.opened() as (records, tenant):
        loss = find_loss(records, tenant)
        vkey = str(tenant.log.verifying_key)
    assert loss is not None
    assert loss == Loss(vkey, Checkpoint(LOG, lost_size, lost_root), Checkpoint(LOG, size, root))
    assert loss.missing == lost_size - size == 4, "two deliveries, and the tallies of a start and a stop"
    assert kept["log_index"] < size


def test_a_log_that_has_grown_again(local: Site, tmp_path: Path) -> None:
    """Other entries stand where signed ones stood, so nobody can say how many are missing."""
    regrow(local, tmp_path)
    with pytest.raises(LogRegressed, match="other entries stand where signed ones stood"):
        Records.open(local.settings)
    loss = local.recover()
    assert loss.kept.size > loss.guard.size
    assert loss.missing is None
    assert local.leaf(2, 0).facts["predecessor"] == loss.facts()
    assert local.check().found == 0


def test_a_damaged_copy_is_not_recovered_from(local: Site) -> None:
    """Entries that do not give the head are a matter for another copy, or for `receiver fsck`, first."""
    lose(local)
    local.execute(sa.update(entries).where(entries.c.index == 1).values(data=b"{}"))
    with local.opened() as (records, tenant), pytest.raises(LogDamaged, match="`receiver fsck` lists what is wrong"):
        find_loss(records, tenant)


# ---- the successor --------------------------------------------------------------------------------------------------


def test_a_successor_begins_by_telling_of_the_loss(site: Site) -> None:
    """It has an origin and a key of its own, and its first entry names the old log, its guard, and what is left."""
    lose(site)
    [(first_vkey,)] = site.rows(sa.select(log_keys.c.vkey))
    kept_size, kept_root = site.head(1)
    loss = site.recover()

    assert site.leaf(2, 0).kind == "tenant"
    assert site.leaf(2, 0).facts == {
        "action": "recovered",
        "by": "command",
        "id": "default",
        "predecessor": {
            "origin": LOG,
            "vkey": first_vkey,
            "guard": {"size": loss.guard.size, "root": loss.guard.root.hex()},
            "kept": {"size": kept_size, "root": kept_root.hex()},
            "missing": 4,
        },
    }
    [(origin, vkey)] = site.rows(
        sa.select(logs.c.origin, log_keys.c.vkey).join_from(logs, log_keys).where(logs.c.id == 2)
    )
    assert origin == f"{LOG}/2"
    assert vkey.startswith(f"{LOG}/2+")
    assert vkey.rpartition("+")[2] != first_vkey.rpartition("+")[2]
    assert site.rows(sa.select(tenants.c.log_id)) == [(2,)]
    assert site.rows(sa.select(published.c.size).where(published.c.log_id == 2)) == [(1,)]


def test_everything_goes_on_with_the_successor(site: Site) -> None:
    """What is kept is known and proved as before, what was lost can be delivered again, and a check finds no fault."""
    body, lost = revoked(), revoked()
    [kept] = site.deliver(body)
    backup = site.backup()
    [gone] = site.deliver(lost)
    backup.put_back()
    loss = site.recover()
    size, root = site.head(1)

    again, new = site.deliver(body, lost)
    assert again == {**kept, "status": "duplicate"}
    assert new["status"] == "recorded"
    assert new["event_id"] != gone["event_id"]
    with site.serving() as (service, _):
        key = service.key()
        listed = service.client.get("/v1/events", headers=key).json()["items"]
        old = service.client.get(f"/v1/events/{kept['event_id']}/evidence", headers=key).content
        fresh = service.client.get(f"/v1/events/{new['event_id']}/evidence", headers=key).content
        vkey = str(service.tenant.log.verifying_key)

    assert [event["id"] for event in listed] == [new["event_id"], kept["event_id"]]
    assert verify(old, Policy.of(loss.vkey)).index == kept["log_index"]
    assert verify(fresh, Policy.of(vkey)).index == new["log_index"]
    assert (size, root) == site.head(1), "the closed log does not grow"
    report = site.check()
    assert report.findings == ()
    assert report.logs == 2
    assert report.remarks == (
        f"{LOG}: was recovered from: of {loss.guard.size} signed entries {size} are here, {loss.missing} are missing",
    )


def test_an_event_that_the_closed_log_never_signed(local: Site) -> None:
    """There is no evidence for it, and the answer says why instead of asking to wait."""
    local.settings.publish_interval = 60
    with ExitStack() as running_service:
        service, sender = running_service.enter_context(local.serving())
        kept = sender.post(revoked()).json()
        assert service.tenant.log.published_size <= kept["log_index"]
        local.put_back_what_is_now(between=running_service.close)
    local.recover()

    with local.serving() as (service, _):
        answer = service.client.get(f"/v1/events/{kept['event_id']}/evidence", headers=service.key())
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"{LOG} was closed before it signed a checkpoint that covers this event"


def test_the_closed_log_neither_grows_nor_signs(site: Site) -> None:
    """Its private key is gone, and what opens it again can only read."""
    lose(site)
    site.recover()
    assert site.rows(sa.select(sa.func.length(log_keys.c.private_key)).where(log_keys.c.log_id == 1)) == [(0,)]
    with site.opened(check=True) as (records, tenant):
        closed = records.log(1)
        assert (closed.origin, tenant.log.origin) == (LOG, f"{LOG}/2")
        with records.database.write() as tx, pytest.raises(StoreError, match="is closed"):
            closed.lock(tx)
        with pytest.raises(StoreError, match="is closed"):
            closed.publish()
        assert closed.entry(0)


def test_what_was_not_tallied_is_tallied_by_the_successor(local: Site) -> None:
    """The rows that the closed log kept after its last tally are counted into the first one of its successor."""
    with ExitStack() as running_service:
        _, sender = running_service.enter_context(local.serving())
        for _ in range(3):
            sender.post(revoked())
        local.put_back_what_is_now(between=running_service.close)
    local.recover()
    local.deliver()

    first = local.leaf(2, 1)
    assert first.kind == "tally"
    counts = first.facts["counts"]
    assert isinstance(counts, dict)
    assert (counts["recorded"], counts["deliveries"]) == (3, 3)
    assert first.facts["incomplete"] is True


# ---- more than once, and not at all ---------------------------------------------------------------------------------


def test_a_second_loss_begins_a_third_log(local: Site) -> None:
    """Numbers count on, and each successor tells of the one before it."""
    lose(local)
    local.recover()
    backup = local.backup()
    local.deliver(revoked())
    backup.put_back()
    loss = local.recover()
    assert loss.kept.origin == f"{LOG}/2"
    with local.opened(check=True) as (_, tenant):
        assert tenant.log.origin == f"{LOG}/3"
    assert local.check().found == 0


def test_no_origin_is_used_twice(local: Site) -> None:
    """A copy from before a recovery does not know of that successor, but the guard does."""
    [_] = local.deliver(revoked())
    backup = local.backup()
    local.deliver(revoked())
    backup.put_back()
    local.recover()
    local.deliver(revoked())
    backup.put_back()
    local.recover()
    with local.opened(check=True) as (_, tenant):
        assert tenant.log.origin == f"{LOG}/3"


def test_a_service_that_runs_must_be_stopped_first(local: Site) -> None:
    """It would go on with the log that is closed."""
    lose(local)
    local.execute(
        sa.insert(processes).values(
            id="1",
            host="elsewhere",
            pid=4711,
            started_at="2026-01-01T00:00:00.000000Z",
            seen_at="2100-01-01T00:00:00.000000Z",
        )
    )
    with local.opened() as (records, tenant):
        loss = find_loss(records, tenant)
        assert loss is not None
        with pytest.raises(RecordsError, match=re.escape("(elsewhere, process 4711): stop it first")):
            recover(records, tenant, loss)
    assert local.rows(sa.select(logs.c.origin)) == [(LOG,)]


def test_two_recoveries_at_once_begin_one_successor(site: Site) -> None:
    """The slower one is told that the log has changed, and leaves nothing."""
    lose(site)
    with site.opened() as (records, tenant), site.opened() as (others, same):
        loss = find_loss(records, tenant)
        assert loss is not None
        recover(records, tenant, loss)
        with pytest.raises(RecordsError, match="has changed while it was looked at"):
            recover(others, same, loss)
    assert site.rows(sa.select(logs.c.origin).order_by(logs.c.id)) == [(LOG,), (f"{LOG}/2",)]


@pytest.mark.parametrize(("moment", "left"), [("before", [LOG]), ("after", [LOG, f"{LOG}/2"])])
def test_a_crash_leaves_the_log_or_its_successor(site: Site, moment: Any, left: list[str]) -> None:
    """Never anything between: before the commit nothing has happened, after it the successor is whole and goes on."""
    lose(site)
    with site.opened() as (records, tenant):
        loss = find_loss(records, tenant)
        assert loss is not None
        with at(records.database, moment, "COMMIT", happens=_cut), pytest.raises(PowerCut):
            recover(records, tenant, loss)
    assert [origin for (origin,) in site.rows(sa.select(logs.c.origin).order_by(logs.c.id))] == left
    if moment == "before":
        site.recover()
    site.settings.require_guard = True
    [answer] = site.deliver(revoked())
    assert answer["status"] == "recorded"
    assert site.check().findings == ()


def _cut() -> None:
    raise PowerCut


# ---- what a check says of it ----------------------------------------------------------------------------------------


def test_a_check_holds_a_closed_log_to_what_its_successor_says(local: Site) -> None:
    """It must not have changed since, no key of it may be left, and its guard must be the one that is told of."""
    lose(local)
    loss = local.recover()
    [guard] = [file for file in local.settings.guard.glob("*.checkpoint") if f"{LOG}\n" in file.read_text()]
    size, root = local.head(1)
    local.execute(sa.update(log_keys).where(log_keys.c.log_id == 1).values(private_key=b"key"))
    local.execute(sa.update(logs).where(logs.c.id == 1).values(root=EMPTY_ROOT))
    guard.write_text("nothing")

    findings = [str(finding) for finding in local.check().findings]
    assert findings[:2] == [
        f"{LOG}: private key: is still there, though this log must not sign any more",
        f"{LOG}: head: has root {EMPTY_ROOT.hex()} at size {size}; it was closed with root {root.hex()} at size {size}",
    ]
    assert findings[2].startswith(f"{LOG}: guard: the guard file {guard} does not hold a checkpoint of {LOG}: ")
    assert findings[3] == f"{LOG}: head: has root {EMPTY_ROOT.hex()} at size {size}, the entries give {root.hex()}"
    assert len(findings) == 4
    assert loss.kept.root == root


def test_a_check_wants_a_successor_to_tell_of_each_closed_log(local: Site) -> None:
    """A tenant that was moved to another log without a word is a fault."""
    local.deliver(revoked())
    with local.opened() as (records, _):
        other = records.ensure_tenant("other")
    local.execute(sa.update(log_keys).where(log_keys.c.log_id == other.log_id).values(tenant_id=1))
    findings = [str(finding) for finding in local.check().findings]
    assert findings == [
        f"{ORIGIN}/log/other: private key: is still there, though this log must not sign any more",
        f"{ORIGIN}/log/other: log: is not its tenant's log any more, and no successor's first entry tells why",
        "records: tenant other: has no log of its own",
    ]


# ---- the command ----------------------------------------------------------------------------------------------------


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
