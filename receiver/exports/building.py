"""Building a bundle: everything that `docs/export-format.md` says is in one, out of a job and the records.

A job's file follows from its entry, its checkpoint and the log, whoever builds it, and whenever: the same job gives the
same bytes, unless something was erased in between, which is then missing from it and nothing else. (Another version of
this software may write another report, and is named in the manifest.)

Memory is bounded: the large files are written down as the rows go by (`receiver.exports.archive`), a few at a time
(`receiver.exports.rows`), and only indexes are held, eight bytes an event.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Self

import msgspec
import sqlalchemy as sa

from receiver.events import Kind, parse_time
from receiver.exports.archive import Archive, Member, Pen, Spool
from receiver.exports.facts import Facts, Range
from receiver.exports.gathering import Gathering, Spools
from receiver.exports.jobs import Job
from receiver.exports.manifest import exports_key, manifest, sign
from receiver.exports.parquet import ParquetWriter
from receiver.exports.proofs import Proofs
from receiver.exports.readme import README
from receiver.exports.report import report
from receiver.exports.rows import Reading
from receiver.exports.selection import OCCURRED, RECEIVED, find_after, find_range, is_complete
from receiver.exports.watching import Watch
from receiver.records.opening import Records, Tenant
from receiver.records.tables import deliveries, sources
from translog.canonical import encode
from translog.errors import LogDamaged, StoreError
from translog.log import Log
from translog.policy import Policy
from translog.succession import Predecessor, predecessors

_TRIES = 10
_COUNTED_AT_ONCE = 100_000
_WRITTEN_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Built:
    """What was built: the file's size and SHA-256, and the leaves [start, end) and the events that it holds."""

    size: int
    sha256: bytes
    start: int
    end: int
    events: int


def build(records: Records, job: Job, out: Path, progress: Callable[[int, int], None] | None = None) -> Built:
    """Write the job's bundle to `out`, a new file of mode 0600, durable when this returns; its folder is not synced.

    As `build_into`; left by an error there is no file. Raises FileExistsError as well.
    """
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        try:
            return build_into(records, job, file, out.parent, progress)
        except BaseException:
            out.unlink()
            raise


def build_into(
    records: Records, job: Job, file: BinaryIO, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Built:
    """Write the job's bundle to an empty file, durable when this returns. What is large waits in `folder`, unnamed.

    `progress` is told how many leaves of how many were read. What is erased meanwhile is not in the file: the log is
    looked at once the file is written, and if so it is made again. (Whoever gives it out must see to what is erased
    later; `receiver.records.giving` does.) Raises LogDamaged where the rows, the tiles and the checkpoint contradict
    one another, other StoreErrors as their messages say, and OSError and SQLAlchemy's errors for a disk or a database
    that fails.
    """
    tenant = next(one for one in records.tenants if one.id == job.tenant_id)
    for _ in range(_TRIES):
        watch = Watch(records, tenant.id)
        try:
            built = _Building(records, tenant, job, progress).write(file, folder)
            file.flush()
            os.fsync(file.fileno())
            touched = watch.touches(job.log_id, built.start, built.end)
        except msgspec.MsgspecError as error:
            raise LogDamaged(f"an entry of log {job.log_id}, or what opens it, cannot be read: {error}") from error
        if not touched:
            return built
        file.seek(0)
        file.truncate()
    raise StoreError(f"export {job.id} was begun {_TRIES} times, and something of it was erased each time; try later")


class _Building:
    """One try."""

    def __init__(self, records: Records, tenant: Tenant, job: Job, progress: Callable[[int, int], None] | None) -> None:
        self._records = records
        self._tenant = tenant
        self._job = job
        self._progress = progress
        self._log: Log = records.log(job.log_id)
        policy = Policy.of(self._log.verifying_key)
        self._checkpoint = policy.open(job.checkpoint)
        self._previous = None if job.previous is None else policy.open(job.previous)
        self._proofs = Proofs(self._log, job.log_id, job.checkpoint, self._checkpoint)

    def write(self, file: BinaryIO, folder: Path) -> Built:
        """Write the bundle to that file; what is large waits in files without a name in that folder."""
        job = self._job
        with self._records.database.read() as tx:
            range_ = find_range(tx, job)
        with ExitStack() as opened:
            pen = opened.enter_context(Pen())

            def spool() -> Spool:
                return opened.enter_context(Spool(folder, pen))

            spools = Spools(entries=spool(), events=spool(), csv=spool(), payloads=spool())
            table = opened.enter_context(_TableFile(folder)) if job.query.parquet else None
            gathering = Gathering(job, range_, spools, None if table is None else table.writer)
            self._gather(gathering, range_)
            gathering.tallies.outside(*self._cut_off(range_))
            key, key_index = exports_key(self._records, job.log_id)
            facts = self._facts(gathering, range_, str(key.verifying_key()))
            files = {
                "events.jsonl": spools.events.cut(),
                "events.csv": spools.csv.cut(),
                **({} if table is None else {"events.parquet": table.close()}),
                **{f"payloads/{number:06}.jsonl": member for number, member in enumerate(gathering.payloads)},
                "entries.bin": spools.entries.cut(),
                "proof/checkpoint": Member.of(job.checkpoint),
                "proof/range.json": Member.of(self._proofs.range(gathering.span)),
                "proof/entry.tlog-proof": Member.of(self._proofs.entry(job.log_index)),
                "proof/exports-key.tlog-proof": Member.of(self._proofs.entry(key_index)),
                **self._named(gathering, range_, spool()),
                **self._since_previous(),
                **({} if facts.complete else {"proof/indexes.json": _indexes(gathering.indexes, spool())}),
                "tallies.json": Member.of(encode(dict(facts.tallies))),
                "REPORT.html": Member.of(report(facts)),
                "README.txt": Member.of(README),
                "verify.py": Member.of(Path(__file__).with_name("verify.py").read_bytes()),
            }
            told = manifest(facts, files)
            archive = Archive(file, parse_time(job.created_at), pen)
            archive.add("manifest.json", Member.of(told))
            archive.add("manifest.json.note", Member.of(sign(job.id, told, key)))
            for name, member in files.items():
                archive.add(name, member)
            size, sha256 = archive.close()
        return Built(size, sha256, range_.start, range_.end, gathering.counting.events)

    def _gather(self, gathering: Gathering, range_: Range) -> None:
        job, total = self._job, range_.end - range_.start
        reading = Reading(self._records.database, job.log_id, self._checkpoint.size)
        done = 0
        for part in reading.parts(range_.start, range_.end):
            gathering.take(part)
            done += len(part.leaves)
            if self._progress is not None:
                self._progress(done, total)
        gathering.finish()

    def _named(self, gathering: Gathering, range_: Range, spool: Spool) -> dict[str, Member]:
        """What tells of the events from the range's end on: under the checkpoint, and beyond it."""
        size = self._checkpoint.size
        indexes = [index for index, _ in groupby(sorted(gathering.named))]
        for line in self._proofs.later([index for index in indexes if range_.end <= index < size]):
            spool.write(line)
        beyond = [index for index in indexes if index >= size]
        return {
            "proof/later.jsonl": spool.cut(),
            **{
                f"proof/erasures/{index}.tlog-proof": Member.of(self._proofs.beyond(index).entry(index))
                for index in beyond
            },
        }

    def _since_previous(self) -> dict[str, Member]:
        if self._previous is None or self._job.previous is None:
            return {}
        return {
            "proof/previous-checkpoint": Member.of(self._job.previous),
            "proof/consistency.json": Member.of(self._proofs.consistency(self._previous)),
        }

    # ---- what is said of it -----------------------------------------------------------------------------------------

    def _facts(self, gathering: Gathering, range_: Range, exports_key: str) -> Facts:
        job, counting, previous = self._job, gathering.counting, self._previous
        return Facts(
            job=job,
            tenant=self._tenant.name,
            origin=self._log.origin,
            size=self._checkpoint.size,
            root=self._checkpoint.root,
            log_key=str(self._log.verifying_key),
            exports_key=exports_key,
            predecessors=self._predecessors(range_),
            previous=None if previous is None else (previous.size, previous.root),
            software=f"rescind {version('rescind')}",
            complete=is_complete(job.query),
            range=range_,
            counts=counting.counts(range_.end - range_.start),
            exclusions=counting.exclusions,
            tallies=gathering.tallies.value(),
            by_day=counting.days(),
            sources=counting.sources,
            breaches=counting.breaches,
            cross_checks=counting.cross_checks,
            late=counting.late,
            erased=counting.erased,
            issuer_gaps=counting.issuer_gaps,
        )

    def _predecessors(self, range_: Range) -> tuple[Predecessor, ...]:
        if range_.start:
            return ()
        with self._records.database.read() as tx:
            return predecessors(self._log.store.entries(tx, 0, range_.end))

    def _cut_off(self, range_: Range) -> tuple[int, int]:
        """How many events that were asked for, and are not here, say they occurred inside: logged before, and after."""
        columns, query = deliveries.c, self._job.query
        told = [
            columns.occurred_at >= query.since,
            columns.occurred_at < query.until,
            sa.or_(
                columns.kind.in_([Kind.REVOCATION.value, Kind.CONTEXT.value]),
                sa.and_(columns.kind == Kind.ATTEMPT.value, columns.effect.is_not(None)),
            ),
        ]
        if not query.tests:
            told.append(sa.not_(columns.test))
        if query.providers is not None:
            its = sa.select(sources.c.id).where(sources.c.provider.in_(query.providers))
            told.append(columns.source_id.in_(its))
        before = self._count(0, range_.first, told)
        if query.basis == OCCURRED:
            return before, 0
        if query.basis == RECEIVED:
            told.append(sa.or_(columns.received_at < query.since, columns.received_at >= query.until))
        with self._records.database.read() as tx:
            after = find_after(tx, self._job)
        return before, self._count(after, range_.entry, told)

    def _count(self, start: int, end: int, conditions: list[sa.ColumnElement[bool]]) -> int:
        columns, total = deliveries.c, 0
        for first in range(start, end, _COUNTED_AT_ONCE):
            last = min(first + _COUNTED_AT_ONCE, end)
            here = (columns.log_id == self._job.log_id, columns.log_index >= first, columns.log_index < last)
            with self._records.database.read() as tx:
                total += tx.execute(sa.select(sa.func.count()).where(*here, *conditions)).scalar_one()
        return total


class _TableFile:
    """`events.parquet`, in a file without a name: pyarrow is given another name for it."""

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115  (closed when the block is left)
        self.writer = ParquetWriter(Path(f"/dev/fd/{self._file.fileno()}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> Member:
        """The whole file, as a member."""
        self.writer.close()
        return Member.of_file(self._file)


def _indexes(indexes: Sequence[int], spool: Spool) -> Member:
    """`proof/indexes.json`."""
    spool.write(b"[")
    for at in range(0, len(indexes), _WRITTEN_AT_ONCE):
        text = ",".join(map(str, indexes[at : at + _WRITTEN_AT_ONCE]))
        spool.write(("," + text if at else text).encode())
    spool.write(b"]")
    return spool.cut()
