"""The whole check: what is clean, at every moment and on both databases, and that no fault hides or ends anything."""

import sqlalchemy as sa

from receiver.fsck import Report, fsck
from receiver.records.opening import Records
from receiver.settings import Settings
from tests.receiver.fsck.copies import CONTEXT, FIRST, MISMATCH, Copy, fill
from tests.receiver.service import at_once, revoked, running
from translog import store
from translog.evidence import Leaf


def test_what_a_service_left_is_clean(copy: Copy) -> None:
    """Everything was looked at, and nothing is wrong; nothing need be said besides."""
    report = copy.report()

    checkpoints = copy.one("SELECT count(*) FROM log_checkpoints")
    assert (report.findings, report.found, report.remarks) == ((), 0, ())
    assert (report.logs, report.entries, report.tiles) == (1, 268, 3)
    assert (report.checkpoints, report.deliveries) == (checkpoints, 265)
    assert report.summary == f"1 log, 268 entries, 3 tiles, {checkpoints} checkpoints, 265 deliveries"


def test_both_databases_are_checked(settings: Settings) -> None:
    """On SQLite and on PostgreSQL alike: clean, and then a fault in each part is found."""
    settings = settings.model_copy(update={"publish_interval": 0.05})
    fill(settings)
    records = Records.inspect(settings)
    try:
        clean = fsck(records)
        with records.database.write() as tx:
            for table, column, condition in (
                (store.tiles, "data", store.tiles.c.level == 1),
                (store.entries, "data", store.entries.c.index == 1),
                (store.published, "note", sa.true()),
            ):
                value = bytearray(tx.execute(sa.select(table.c[column]).where(condition)).scalar_one())
                value[0] ^= 1
                tx.execute(sa.update(table).where(condition).values({column: bytes(value)}))
            tx.execute(sa.text("UPDATE deliveries SET via = 'relay' WHERE log_index = 2"))
        damaged = fsck(records)
    finally:
        records.close()

    assert (clean.found, clean.remarks, clean.entries, clean.deliveries) == (0, (), 268, 265)
    assert [finding.place.partition(" (")[0] for finding in damaged.findings] == [
        "published checkpoint",
        "published checkpoint",
        "entry 1",
        "entry 1",
        f"row {Leaf.parse(_entry(settings, 2)).id}",
        "tile/1/000.p/1",
    ]


def _entry(settings: Settings, index: int) -> bytes:
    records = Records.inspect(settings)
    with records.database.read() as tx:
        entry = tx.execute(sa.select(store.entries.c.data).where(store.entries.c.index == index)).scalar_one()
    records.close()
    return bytes(entry)


def test_a_running_service_is_clean_at_every_moment(settings: Settings) -> None:
    """The check sees one moment, however much is recorded and published while it reads."""
    with running(settings) as service:
        sender = service.add_source()
        reports: list[Report] = []

        def work(worker: int) -> None:
            if worker:
                for _ in range(40):
                    sender.post(revoked()).raise_for_status()
                return
            records = Records.inspect(settings)
            reports.extend(fsck(records) for _ in range(8))
            records.close()

        at_once(5, work)

    assert [(report.findings, report.remarks) for report in reports] == [((), ())] * 8
    assert reports[-1].entries > reports[0].entries


def test_nothing_is_written(copy: Copy) -> None:
    """Not a byte of the data folder or the guard is another one after a check, of clean and of damaged records."""

    def everything() -> dict[str, bytes]:
        folder = copy.settings.data.parent
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    before = everything()
    copy.report()
    assert everything() == before
    copy.damage("UPDATE logs SET size = 1")
    before = everything()
    copy.report()
    assert everything() == before


def test_faults_are_bounded(copy: Copy) -> None:
    """The first hundred faults are listed in order, and all are counted."""
    copy.damage("UPDATE deliveries SET via = 'relay' WHERE kind <> 'mismatch'")
    report = copy.report()
    changed = [index for index in range(2, 267) if index != MISMATCH]
    assert report.found == len(changed) == 264
    assert [finding.place for finding in report.findings] == [copy.row(index) for index in changed[:100]]


def test_every_fault_at_once(copy: Copy) -> None:
    """No fault hides another: faults in every part are all found in one check."""
    copy.flip("log_tiles", "data", "level = 1")
    copy.flip("logs", "root", "id = 1")
    copy.damage("DELETE FROM deliveries WHERE log_index = ?", CONTEXT)
    copy.damage("UPDATE deliveries SET effect = 'refused' WHERE log_index = ?", FIRST)
    copy.flip("log_published", "root", "log_id = 1")
    places = [finding.partition(": ")[0] for finding in copy.found()]
    assert places == ["published checkpoint", copy.row(FIRST), f"entry {CONTEXT}", "head", "tile/1/000.p/1"]
