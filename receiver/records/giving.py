"""What is given out of the records, to whom, and what of it can still be taken back.

    with records.database.write() as tx:
        give(tx, tenant, key.id, export_id=…)          before the first byte goes out

Whoever is given data has a row that says so, of before it was given: an erasure names them all. Rows of what is read to
be given are locked first, so of an erasure and a giving at the same time one comes before the other: either the erasure
finds the row of `given_out`, if it looks after it has changed the others, or there is nothing left to give.

The files of exports are copies, and are made again without what was erased. They are named after their content:

    <export_folder>/<id>-<the first 16 hex digits of its SHA-256>.zip

so a file of before an erasure is none of the export any more, whichever host it is on, as soon as the export's row says
otherwise. As long as one is made, it is in a folder of its own beside them: `<id>-<16 hex digits>.part`.

`withdraw` makes the rows say so, in the erasure's own transaction; `remove_files` is for after its commit. What a crash
leaves between the two, each service's own sweeping removes.
"""

import contextlib
import shutil
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from receiver.events import format_time, new_id
from receiver.records.keeping import exports, given_out
from receiver.records.opening import Tenant
from receiver.settings import Settings
from translog.guard import fsync_folder

PENDING, PROCESSING, COMPLETED, FAILED = "pending", "processing", "completed", "failed"
"""The states of an export."""


def give(
    tx: sa.Connection, tenant: Tenant, given_to: str, *, export_id: str | None = None, entry_id: str | None = None
) -> None:
    """Note that an export's file, or what opens an entry, is given to an API key's id, or to `command`."""
    tx.execute(
        sa.insert(given_out).values(
            id=new_id(),
            tenant_id=tenant.id,
            at=format_time(datetime.now(UTC)),
            given_to=given_to,
            export_id=export_id,
            entry_id=entry_id,
        )
    )


def file_of(settings: Settings, export_id: str, sha256: bytes) -> Path:
    """Where the file of an export is, if it has that hash."""
    return settings.export_folder / f"{export_id}-{sha256.hex()[:16]}.zip"


def withdraw(tx: sa.Connection, tenant: Tenant, places: Iterable[tuple[int, int]]) -> list[str]:
    """Have the exports made again that hold one of these entries, each a log's id and an index; their ids.

    For a change under the lock of the tenant's log, with what takes the entries' openings away. A file that is being
    made now is not completed then. Those that have expired are only named, for their files may still be there.
    """
    indexes: dict[int, list[int]] = defaultdict(list)
    for log_id, index in sorted(places):
        indexes[log_id].append(index)
    mine = exports.c.tenant_id == tenant.id, exports.c.log_id.in_(list(indexes)), exports.c.state != FAILED
    # Locked, those that nobody makes yet as well: none is begun before this is committed.
    rows = tx.execute(sa.select(exports).where(*mine).order_by(exports.c.id).with_for_update(key_share=True)).all()
    now = format_time(datetime.now(UTC))
    holding: list[str] = []
    again: list[str] = []
    for row in rows:
        # Until it is known, it may be any range up to its own entry.
        start, end = (0, row.log_index + 1) if row.start is None or row.end is None else (row.start, row.end)
        of_log = indexes[row.log_id]
        place = bisect_left(of_log, start)
        if row.state == PENDING or place == len(of_log) or of_log[place] >= end:
            continue
        holding.append(row.id)
        if row.state == PROCESSING or row.expires_at > now:
            again.append(row.id)
    if again:
        anew = {"state": PENDING, "progress": 0, "size": None, "sha256": None, "holder": None, "held_until": None}
        tx.execute(sa.update(exports).where(exports.c.id.in_(again)).values(anew))
    return holding


def remove_files(settings: Settings, export_ids: Iterable[str]) -> None:
    """Remove the files of these exports, those that are being made included; on this host, and durably."""
    ids = set(export_ids)
    if ids and settings.export_folder.is_dir():
        for file in settings.export_folder.iterdir():
            if file.name[:36] in ids:
                remove(file)
        fsync_folder(settings.export_folder)


def remove(path: Path) -> None:
    """Remove a file of an export, or a folder in which one is made; it may be gone already, or never have been."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the folder of exports may be a file
            path.unlink()


__all__ = ["COMPLETED", "FAILED", "PENDING", "PROCESSING", "file_of", "give", "remove", "remove_files", "withdraw"]
