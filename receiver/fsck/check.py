"""Going through the logs of a database, each from its first entry to its last, in one reading transaction.

A tenant's live log must reach its guard. An earlier one, which a successor goes on for after a loss, cannot: it must be
as the successor's first entry says that it was left.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import sqlalchemy as sa

from receiver.fsck.attempts import check_attempts
from receiver.fsck.claims import check_kept_entries
from receiver.fsck.crosschecks import check_crosschecks
from receiver.fsck.erasures import Erasures, check_erasures
from receiver.fsck.exports import check_export_keys, check_exports
from receiver.fsck.findings import Findings
from receiver.fsck.holds import check_holds, check_retention
from receiver.fsck.issuers import Issuer, check_told_of_forks, read_issuers
from receiver.fsck.logs import LogRow, check_strays, read_logs, remark_on_subscriptions
from receiver.fsck.marks import (
    check_claims,
    check_closed,
    checkpoint_marks,
    guard_marks,
    published_marks,
    read_claims,
    read_guards,
)
from receiver.fsck.persons import check_persons
from receiver.fsck.report import Draft, Notes, Report
from receiver.fsck.reprocessed import check_reprocessed
from receiver.fsck.rows import Rows, SourceOf
from receiver.fsck.told import Told, check_secrets, check_told
from receiver.fsck.tree import Derivation, Mark
from receiver.records.loss import told_losses
from receiver.records.opening import Records
from receiver.records.tables import secrets, sources, tenants
from translog import store
from translog.tiles import TILE_WIDTH

Progress: TypeAlias = Callable[[str, int, int], None]
"""Is told a log's origin, how many of its entries have been checked, and how many there are."""


@dataclass(frozen=True, slots=True)
class Known:
    """What rows of all logs name."""

    sources: Mapping[str, SourceOf]
    issuers: Mapping[str, Issuer]


def fsck(records: Records, progress: Progress | None = None) -> Report:
    """Check all that these records hold (`Records.inspect` suffices), as it is at one moment. Nothing is written."""
    draft = Draft()
    # Before any row is read: a service that runs moves both on, the guard first.
    guards, claims = read_guards(records), read_claims(records, draft)
    with records.database.snapshot() as tx:
        logs = list(read_logs(tx, records, draft))
        losses = {loss.kept.origin: loss for log in logs for loss in told_losses(tx, log.id)}
        check_claims(tx, records, claims, draft)
        of_records = Notes(draft, "records")
        issuers: Mapping[str, Issuer] = {}
        with _going_on("issuer_logs", of_records):
            issuers = read_issuers(tx, of_records)
        known = Known(_sources(tx), issuers)
        told = Told()
        for log in logs:
            draft.logs += 1
            notes = Notes(draft, log.origin)
            try:
                marks = [Mark(log.size, log.root, "head"), *published_marks(tx, log, notes)]
                if log.live:
                    marks += guard_marks(log, guards, records, notes)
                else:
                    check_closed(log, losses.get(log.origin), guards, notes)
                _check_entries(tx, log, marks, known, told, notes, progress)
            except Exception as error:  # noqa: BLE001  (whatever a damaged database brings about: others follow)
                notes.fault("check", _not_ended(error))
                told.lose(log.tenant_id)
        _lose_what_is_gone(tx, logs, told)
        check_told(tx, told, of_records)
        check_secrets(tx, records, of_records)
        check_reprocessed(tx, of_records)
        check_attempts(tx, of_records)
        hash_keys = {log.tenant_id: log.hash_key for log in logs}
        with _going_on("checks", of_records):
            check_crosschecks(tx, hash_keys, of_records)
        with _going_on("claims", of_records):
            check_kept_entries(tx, issuers, hash_keys, of_records)
        with _going_on("erasures", of_records):
            check_erasures(tx, of_records)
        with _going_on("persons", of_records):
            check_persons(tx, hash_keys, of_records)
        with _going_on("holds", of_records):
            check_holds(tx, told, hash_keys, of_records)
        with _going_on("retention", of_records):
            check_retention(tx, told, of_records)
        with _going_on("exports", of_records):
            check_exports(tx, told, of_records)
            check_export_keys(tx, records, told, of_records)
        with _going_on("forks", of_records):
            check_told_of_forks(tx, issuers, of_records)
        with _going_on("subscriptions", of_records):
            remark_on_subscriptions(tx, of_records)
        check_strays(tx, of_records)
        for origin in sorted(losses.keys() - {log.origin for log in logs}):
            loss, notes = losses[origin], Notes(draft, "records")
            if loss.vkey is None:
                notes.remark(
                    f"{origin} is lost with all of its {loss.guard.size} signed entries, as its successor tells"
                )
            else:
                notes.fault("logs", f"{origin} is not there, though another log goes on for it")
    return draft.report()


@contextmanager
def _going_on(place: str, notes: Notes) -> Generator[None]:
    """Whatever a damaged database brings about in the block is a fault there, and others follow."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        notes.fault(place, _not_ended(error))


def _not_ended(error: Exception) -> str:
    return f"could not be ended: {type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _sources(tx: sa.Connection) -> dict[str, SourceOf]:
    of_source: dict[str, set[str]] = defaultdict(set)
    for secret_id, source_id in tx.execute(sa.select(secrets.c.id, secrets.c.source_id)):
        of_source[source_id].add(secret_id)
    rows = tx.execute(sa.select(sources.c.id, sources.c.tenant_id, sources.c.provider, sources.c.replay_window))
    return {row.id: SourceOf(*row[1:], secrets=frozenset(of_source[row.id])) for row in rows}


def _lose_what_is_gone(tx: sa.Connection, logs: Sequence[LogRow], told: Told) -> None:
    """Nobody can say what was told by a log that is not there; that it is not there is told elsewhere."""
    there = {log.origin for log in logs}
    lives = {log.tenant_id for log in logs if log.live}
    for tenant_id in tx.execute(sa.select(tenants.c.id)).scalars():
        if tenant_id not in lives:
            told.lose(tenant_id)
    for log in logs:
        if any(loss.kept.size and loss.kept.origin not in there for loss in told_losses(tx, log.id)):
            told.lose(log.tenant_id)


def _check_entries(
    tx: sa.Connection,
    log: LogRow,
    marks: Sequence[Mark],
    known: Known,
    told: Told,
    notes: Notes,
    progress: Progress | None,
) -> None:
    stated = heapq.merge(checkpoint_marks(tx, log, notes), sorted(marks, key=_size), key=_size)
    tree = Derivation(tx, log.id, log.size, stated, notes)
    rows = Rows(tx, log.id, log.tenant_id, log.hash_key, known.sources, told, notes)
    findings = Findings(tx, log.id, log.tenant_id, known.sources, known.issuers, notes)
    erasures = Erasures(tx, log.id, log.tenant_id, notes)
    reach = min(log.size, _reach(tx, log.id))
    for start in range(0, reach, TILE_WIDTH):
        bundle = list(_bundle(tx, log.id, start, min(start + TILE_WIDTH, reach)))
        _name_missing(start, bundle, notes)
        if not tree.lost:
            tree.add(start, bundle)
        leaves = rows.check(start, bundle)
        findings.check(start, bundle, leaves)
        erasures.check(start, leaves)
        if progress is not None:
            progress(log.origin, start + len(bundle), log.size)
    if reach < log.size:
        told.lose(log.tenant_id)
        notes.fault(f"entries {reach} to {log.size - 1}", "are missing")
        tree.lose(reach)
    tree.finish()
    rows.finish(log.size, log.logged_at)
    findings.finish(log.size)
    erasures.finish()
    _name_beyond(tx, log, notes)


def _size(mark: Mark) -> int:
    return mark.size


def _reach(tx: sa.Connection, log_id: int) -> int:
    """Where the last bundle ends that anything is kept of, whatever the head says: there is no use in looking on."""
    last_entry = sa.select(sa.func.max(store.entries.c.index)).where(store.entries.c.log_id == log_id)
    last_tile = sa.select(sa.func.max(store.tiles.c.index)).where(
        store.tiles.c.log_id == log_id, store.tiles.c.level == 0
    )
    entry = tx.execute(last_entry).scalar_one()
    tile = tx.execute(last_tile).scalar_one()
    bundles = 0 if entry is None else entry // TILE_WIDTH + 1
    return TILE_WIDTH * max(bundles, 0 if tile is None else tile + 1)


def _bundle(tx: sa.Connection, log_id: int, start: int, stop: int) -> Iterator[bytes | None]:
    columns = store.entries.c
    rows = tx.execute(
        sa.select(columns.index, columns.data).where(
            columns.log_id == log_id, columns.index >= start, columns.index < stop
        )
    )
    found = {index: bytes(data) for index, data in rows}
    return (found.get(index) for index in range(start, stop))


def _name_missing(start: int, bundle: Sequence[bytes | None], notes: Notes) -> None:
    for missing, run in groupby(enumerate(bundle, start), key=lambda placed: placed[1] is None):
        indexes = [index for index, _ in run]
        if not missing:
            notes.draft.entries += len(indexes)
        elif len(indexes) == 1:
            notes.fault(f"entry {indexes[0]}", "is missing")
        else:
            notes.fault(f"entries {indexes[0]} to {indexes[-1]}", "are missing")


def _name_beyond(tx: sa.Connection, log: LogRow, notes: Notes) -> None:
    columns = store.entries.c
    row = tx.execute(
        sa.select(sa.func.count().label("number"), sa.func.min(columns.index).label("first")).where(
            columns.log_id == log.id, sa.or_(columns.index < 0, columns.index >= log.size)
        )
    ).one()
    if row.number:
        notes.fault(f"entry {row.first}", f"is not within the head's size, {log.size} (with it {row.number} in all)")
