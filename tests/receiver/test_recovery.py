"""After a loss: the log that its guard refuses is closed, and a successor says what is missing."""

import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.records.loss import Loss
from receiver.records.opening import Records, RecordsError
from receiver.records.recovery import find_loss, recover
from receiver.records.tables import deliveries, log_keys, processes, tallied, tenants
from receiver.settings import Settings
from tests.receiver.service import ORIGIN, revoked
from tests.receiver.sites import LOG, Site, local_site, lose, regrow
from tests.translog.faults import PowerCut, at
from translog.checkpoint import Checkpoint
from translog.errors import LogDamaged, LogRegressed, StoreError
from translog.evidence import verify
from translog.guard import Guard
from translog.merkle import EMPTY_ROOT
from translog.policy import Policy
from translog.store import checkpoints, entries, logs, published, tiles


@pytest.fixture
def site(settings: Settings) -> Site:
    """An installation on either database, with nothing in it yet."""
    return Site(settings.model_copy(update={"publish_interval": 0.05}))


@pytest.fixture
def local(tmp_path: Path) -> Site:
    """The same on SQLite, for what does not depend on the database."""
    return local_site(tmp_path)


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
    assert loss.vkey is not None
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
    lost = next(log for log in _claims(local).values() if log.origin == f"{LOG}/2")
    local.recover()
    with local.opened(check=True) as (_, tenant):
        assert tenant.log.origin == f"{LOG}/3"
    assert local.leaf(2, 1).facts["predecessor"] == Loss.whole(lost).facts()
    report = local.check()
    assert report.findings == ()
    assert report.remarks[-1] == (
        f"records: {LOG}/2 is lost with all of its {lost.size} signed entries, as its successor tells"
    )


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
            recover(records, tenant.name, [loss])
    assert local.rows(sa.select(logs.c.origin)) == [(LOG,)]


def test_two_recoveries_at_once_begin_one_successor(site: Site) -> None:
    """The slower one is told that the log has changed, and leaves nothing."""
    lose(site)
    with site.opened() as (records, tenant), site.opened() as (others, same):
        loss = find_loss(records, tenant)
        assert loss is not None
        recover(records, tenant.name, [loss])
        with pytest.raises(RecordsError, match="has changed while it was looked at"):
            recover(others, same.name, [loss])
    assert site.rows(sa.select(logs.c.origin).order_by(logs.c.id)) == [(LOG,), (f"{LOG}/2",)]


@pytest.mark.parametrize(("moment", "left"), [("before", [LOG]), ("after", [LOG, f"{LOG}/2"])])
def test_a_crash_leaves_the_log_or_its_successor(site: Site, moment: Any, left: list[str]) -> None:
    """Never anything between: before the commit nothing has happened, after it the successor is whole and goes on."""
    lose(site)
    with site.opened() as (records, tenant):
        loss = find_loss(records, tenant)
        assert loss is not None
        with at(records.database, moment, "COMMIT", happens=_cut), pytest.raises(PowerCut):
            recover(records, tenant.name, [loss])
    assert [origin for (origin,) in site.rows(sa.select(logs.c.origin).order_by(logs.c.id))] == left
    if moment == "before":
        site.recover()
    site.settings.require_guard = True
    [answer] = site.deliver(revoked())
    assert answer["status"] == "recorded"
    assert site.check().findings == ()


def _claims(site: Site) -> dict[str, Checkpoint]:
    return Guard(site.settings.guard).claims(ORIGIN)


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
        "records: tenant other: is not there, though an entry tells of it",
        "records: tenant other: has no log of its own",
    ]


def test_a_check_misses_a_closed_log_that_was_removed(local: Site) -> None:
    """A log that another goes on for must be there, even if nothing of it is."""
    lose(local)
    local.recover()
    for table in (entries, tiles, published, checkpoints, log_keys, deliveries, tallied):
        local.execute(sa.delete(table).where(table.c.log_id == 1))
    local.execute(sa.delete(logs).where(logs.c.id == 1))
    findings = [str(finding) for finding in local.check().findings]
    assert findings == [f"records: logs: {LOG} is not there, though another log goes on for it"]
