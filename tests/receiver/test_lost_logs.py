"""Logs that the guard knows and the database does not: a copy from before they were made is refused, and recovered."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver.events import Kind
from receiver.records.journal import change
from receiver.records.loss import Loss
from receiver.records.opening import Records, RecordsError
from receiver.records.recovery import find_losses, recover
from receiver.records.tables import tenants
from receiver.settings import Settings
from tests.receiver.service import ORIGIN, revoked
from tests.receiver.sites import LOG, Site, local_site, lose
from translog import note
from translog.checkpoint import Checkpoint
from translog.errors import StoreError
from translog.guard import Guard
from translog.merkle import EMPTY_ROOT
from translog.note import SigningKey


@pytest.fixture
def site(settings: Settings) -> Site:
    """An installation on either database, with nothing in it yet."""
    return Site(settings.model_copy(update={"publish_interval": 0.05}))


@pytest.fixture
def local(tmp_path: Path) -> Site:
    """The same on SQLite, for what does not depend on the database."""
    return local_site(tmp_path)


def _claims(site: Site) -> dict[str, Checkpoint]:
    return Guard(site.settings.guard).claims(ORIGIN)


def _lose_a_tenant(site: Site) -> Checkpoint:
    """Make a tenant whose log signs its first entry, and put back a copy from before that; what was signed."""
    site.deliver(revoked())
    backup = site.backup()
    with site.opened(check=True) as (records, _):
        log = records.ensure_tenant("acme").log
        signed = log.publish()
    backup.put_back()
    assert signed is not None
    return signed


def test_a_copy_from_before_a_tenant_is_refused(site: Site) -> None:
    """Else its log would be made again with another key, and nobody would know of the first: whoever asks is told."""
    lost = _lose_a_tenant(site)
    refusal = (
        rf"the guard has a checkpoint of 1 entries of {ORIGIN}/log/acme, a log that this database knows nothing of: "
        r".*receiver recover --tenant acme.*\.checkpoint away"
    )
    with pytest.raises(RecordsError, match=refusal):
        Records.open(site.settings)
    with site.opened() as (records, _):
        with pytest.raises(RecordsError, match=refusal):
            records.ensure_tenant("acme")
        assert records.ensure_tenant("another").log.origin == f"{ORIGIN}/log/another"
    [name] = [name for name, claim in _claims(site).items() if claim == lost]
    [finding] = site.check().findings
    assert str(finding) == (
        f"records: guard: {name}.checkpoint is of 1 entries of {ORIGIN}/log/acme, a log that is not here: the database "
        "was put back from a copy. Put the newest copy in place; if there is none, see `receiver recover`"
    )


def test_a_tenant_that_is_lost_is_made_again(site: Site) -> None:
    """With a successor log, whose first entry says that all is missing; then nothing is refused any more."""
    lost = _lose_a_tenant(site)
    with site.opened() as (records, _):
        losses = find_losses(records, "acme")
        assert losses == (Loss.whole(lost),)
        assert find_losses(records, "default") == ()
        successor = recover(records, "acme", losses)
        assert successor.log.origin == f"{ORIGIN}/log/acme/2"
    assert site.leaf(2, 0).facts == {
        "action": "recovered",
        "by": "command",
        "id": "acme",
        "predecessor": {
            "origin": f"{ORIGIN}/log/acme",
            "vkey": None,
            "guard": {"size": 1, "root": lost.root.hex()},
            "kept": {"size": 0, "root": EMPTY_ROOT.hex()},
            "missing": 1,
        },
    }
    with site.opened(check=True) as (records, _):
        assert records.tenant("acme").log.published_size == 1
    report = site.check()
    assert report.findings == ()
    assert report.remarks == (
        f"records: {ORIGIN}/log/acme is lost with all of its 1 signed entries, as its successor tells",
    )


def test_a_lost_log_that_signs_on(local: Site) -> None:
    """A second copy that goes on signing for a log that was given up is noticed: its guard says more than was told."""
    local.deliver(revoked())
    backup = local.backup()
    with local.opened(check=True) as (records, _):
        log = records.ensure_tenant("acme").log
        log.publish()
    newer = local.backup()
    backup.put_back()
    with local.opened() as (records, _):
        recover(records, "acme", find_losses(records, "acme"))
    recovered = local.backup()
    newer.put_back()
    with local.opened() as (records, _):
        acme = records.tenant("acme")
        with change(records.database, acme.log) as changing:
            changing.tell(Kind.TENANT, {"action": "another"})
        acme.log.publish()
    recovered.put_back()
    with pytest.raises(RecordsError, match=f"2 entries of {ORIGIN}/log/acme, a log that this database knows nothing"):
        Records.open(local.settings)


def test_a_successor_that_is_lost(local: Site) -> None:
    """A whole copy from before a recovery: its log is closed though intact, and one successor tells of both."""
    lose(local)
    before = local.backup()
    guard = {file: file.read_bytes() for file in local.settings.guard.glob("*.checkpoint")}
    loss = local.recover()
    [name] = [name for name, claim in _claims(local).items() if claim.origin == f"{LOG}/2"]
    before.put_back()
    for file in guard:
        file.unlink()  # as if the log had never signed more than it holds
    with local.opened() as (records, tenant):
        losses = find_losses(records, "default")
        assert [(one.kept.origin, one.intact, one.missing) for one in losses] == [
            (LOG, True, 0),
            (f"{LOG}/2", False, _claims(local)[name].size),
        ]
        assert losses[0].kept == loss.kept
        recover(records, tenant.name, losses)
    with local.opened(check=True) as (_, tenant):
        assert tenant.log.origin == f"{LOG}/3"
    assert [local.leaf(2, index).facts["predecessor"] for index in (0, 1)] == [one.facts() for one in losses]
    assert local.check().findings == ()


def test_what_the_guard_knows_of_others(local: Site) -> None:
    """Logs of other bases are somebody else's, and one that signed no entry has lost none."""
    local.deliver(revoked())
    guard = Guard(local.settings.guard)
    for origin, size in (("example.com/other/log/default", 7), (f"{ORIGIN}/log/default", 0), (f"{ORIGIN}/logs/a", 7)):
        key = SigningKey.generate(origin)
        with guard.hold(key.verifying_key()) as held:
            held.advance(note.sign(Checkpoint(origin, size, EMPTY_ROOT).text, key))
    with local.opened(check=True):
        assert local.check().findings == ()


def test_a_database_made_anew_is_refused(local: Site) -> None:
    """With the same origin and guard it would begin a second log of the same name; recovering begins a successor."""
    local.deliver(revoked())
    (local.settings.data / "rescind.db").unlink()
    with pytest.raises(RecordsError, match=f"entries of {LOG}, a log that this database knows nothing of"):
        Records.open(local.settings)
    records = Records.open(local.settings, check=False)
    assert records.tenants == ()
    recover(records, "default", find_losses(records, "default"))
    records.close()
    with local.opened(check=True) as (_, tenant):
        assert tenant.log.origin == f"{LOG}/2"
    assert local.check().findings == ()


def test_two_recoveries_of_a_lost_tenant(local: Site) -> None:
    """The slower one finds the tenant there, and leaves nothing."""
    _lose_a_tenant(local)
    with local.opened() as (records, _), local.opened() as (others, _):
        losses = find_losses(records, "acme")
        recover(records, "acme", losses)
        with pytest.raises(RecordsError, match="has changed while it was looked at"):
            recover(others, "acme", losses)
    assert len(local.rows(sa.select(tenants.c.name))) == 2


def test_a_claim_that_cannot_be_read(local: Site) -> None:
    """A damaged guard file of this base is never taken for absent, whichever log it is of."""
    local.deliver(revoked())
    (local.settings.guard / "damaged.checkpoint").write_text(f"{ORIGIN}/log/acme\n7\n")
    with pytest.raises(StoreError, match=r"cannot be read as a checkpoint: .* Put it back from a copy"):
        Records.open(local.settings)
