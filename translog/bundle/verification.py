"""The verification of a bundle, from the ZIP to the last count.

The order is that of belief. First the ZIP's own structure, so that everybody sees the same files; then what the log's
key leads to: checkpoint, the export's own entry, the exports key, the manifest. Then every file against the manifest:
whoever changes a byte of a file is told so, whatever it was. And then everything again as if the holder of the exports
key could not be trusted: the leaves against the signed root, the lines against the leaves, what is counted against the
lines, all of it against the question that the log itself has recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from translog.bundle import chunks, entries, joining, parquet, proofs, rows, tallies
from translog.bundle.archive import Archive, Member, check_crc
from translog.bundle.chunks import CSV, EVENTS, Chunk, Context
from translog.bundle.counting import Totals
from translog.bundle.files import INDEXES, PER_FILE, check_files, check_question, payload_names
from translog.bundle.joining import Box, Fault, Where
from translog.bundle.later import LATER, Later, Logged, check_order, verify_later
from translog.bundle.leaves import Reader
from translog.bundle.lines import place_of
from translog.bundle.manifest import MANIFEST, MAX_SIZE, NOTE, Manifest, verify_note
from translog.bundle.proofs import Proven
from translog.bundle.reading import decoded, hashes, members, number
from translog.bundle.work import Side, Workers, check_chunk, hash_member
from translog.canonical import Value
from translog.checkpoint import Checkpoint
from translog.errors import BundleError
from translog.note import VerifyingKey
from translog.policy import Policy
from translog.succession import Predecessor, predecessors

__all__ = ["Verified", "verify"]

_LARGE = 1 << 25
"""Bytes of a bundle from which on it is worth starting processes."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a bundle shows.

    `manifest` is what it says, all of which was found to be so, but for the tenant's name and the software: these are
    the operator's word. `checkpoint` is the log's, and `signed` the note that it came in. `tallies` is the value of
    `tallies.json`. `parquet` says of `events.parquet` whether its values were compared: None if there is none.
    `predecessors` are logs that this one goes on for, if the range reaches back to where it began.
    """

    manifest: Manifest
    checkpoint: Checkpoint
    signed: bytes
    exports_key: VerifyingKey
    tallies: dict[str, Value]
    parquet: bool | None
    predecessors: tuple[Predecessor, ...]


def verify(path: Path, policy: Policy, processes: int = 1) -> Verified:
    """Verify the bundle in the file at `path`; the checkpoint in it is one that `policy` accepts.

    `processes` is how many may share the work on a large one; above 1 they are started afresh, so that the main module
    of the program must be one that can be imported. Raises `BundleError` for the first thing that is wrong, and
    `TranslogError` if the file cannot be read.
    """
    with Archive.open(path) as archive:
        proven = proofs.prove(archive, policy)
        manifest = _manifest(archive, proven)
        check_question(archive, manifest, proven)
        check_files(archive, manifest)
        context = Context(manifest.question, manifest.first, manifest.end, proven.checkpoint)
        is_large = sum(member.size for member in archive.members) >= _LARGE
        with Workers(archive, context, processes if is_large else 1) as workers:
            verified = _Verification(archive, policy, proven, manifest, context, workers).run()
        archive.check_unchanged()
        return verified


def _manifest(archive: Archive, proven: Proven) -> Manifest:
    data = archive.read(MANIFEST, MAX_SIZE)
    verify_note(archive.read(NOTE, MAX_SIZE), data, proven.key)
    return Manifest.parse(data)


class _Verification:
    """Everything after the manifest, whose signature holds and which answers the question that was asked."""

    def __init__(
        self,
        archive: Archive,
        policy: Policy,
        proven: Proven,
        manifest: Manifest,
        context: Context,
        workers: Workers,
    ) -> None:
        self.archive, self.policy, self.proven, self.manifest = archive, policy, proven, manifest
        self.context, self.workers = context, workers
        self.events = archive.member(EVENTS)
        self.payloads = [archive.member(one) for one in payload_names(manifest)]
        self.totals = Totals()

    def run(self) -> Verified:
        """All of it."""
        archive, manifest, totals = self.archive, self.manifest, self.totals
        cutting = self.workers.run(_cut_up, [(manifest.start, manifest.end, self.payloads)])
        self._check_hashes()
        if manifest.previous is not None:
            proofs.verify_previous(archive, self.policy, self.proven, manifest.previous)
        proof = self._range_proof()
        [cuts] = cutting
        for found in self.workers.run(check_chunk, cuts):
            totals.add(found)
        self._check_root(proof)
        if totals.leaf_error is not None:
            raise totals.leaf_error
        totals.check_range(manifest)
        if totals.error is not None:
            raise totals.error
        for member in self.payloads[:-1]:
            if totals.payload_lines[member.name] != PER_FILE:
                raise BundleError(member.name, f"all files of payloads but the last have {PER_FILE} lines")
        self._check_statements()
        self._check_csv(cuts)
        self._check_indexes()
        totals.check_counts(manifest)
        return Verified(
            manifest=manifest,
            checkpoint=self.proven.checkpoint,
            signed=self.proven.note,
            exports_key=self.proven.key,
            tallies=self._check_tallies(),
            parquet=self._check_parquet(),
            predecessors=() if manifest.start else predecessors(entries.leaves(archive, cuts[0].span)),
        )

    def _check_hashes(self) -> None:
        """Every file but the manifest and its note, from end to end."""
        others = [member for member in self.archive.members if member.name not in {MANIFEST, NOTE}]
        others.sort(key=lambda member: member.size, reverse=True)  # so that no process waits for the last one
        for member, sha256, crc in sorted(self.workers.run(hash_member, others), key=lambda one: one.member.start):
            check_crc(member, crc)
            stated = self.manifest.files[member.name]
            if member.size != stated.size:
                raise BundleError(member.name, f"it has {member.size} bytes; by the manifest {stated.size}")
            if sha256 != stated.sha256:
                raise BundleError(member.name, f"its SHA-256 is {sha256}, by the manifest {stated.sha256}")

    # ---- the range --------------------------------------------------------------------------------------------------

    def _range_proof(self) -> list[bytes]:
        place, manifest = entries.RANGE, self.manifest
        said = members(place, decoded(place, self.archive.read(place, proofs.MAX_PROOF)), "end", "hashes", "start")
        for name, index in (("start", manifest.start), ("end", manifest.end)):
            if number(f"{place} {name}", said[name]) != index:
                raise BundleError(
                    f"{place} {name}", f"it is not about the entries {manifest.start} to {manifest.end - 1}"
                )
        return hashes(f"{place} hashes", said["hashes"])

    def _check_root(self, proof: Sequence[bytes]) -> None:
        manifest, checkpoint = self.manifest, self.proven.checkpoint
        root = entries.root(self.totals.hashes, manifest.start, manifest.end, checkpoint.size, proof)
        if root != checkpoint.root:
            raise BundleError(
                entries.ENTRIES,
                f"with {entries.RANGE} its entries lead to the root {root.hex()}, and not to the one that the log has "
                f"signed, {checkpoint.root.hex()}: they are not the log's",
            )

    # ---- what leaves say of events ----------------------------------------------------------------------------------

    def _check_statements(self) -> None:
        """Cross-checks and erasures, wherever they are, against what the lines of events say."""
        archive, totals = self.archive, self.totals
        later = self._later()
        totals.boxes.add(later.boxes)
        beyond, last = list[int](), later.edges[-1]
        for entry, said in proofs.erasures(archive, self.policy, self.proven.checkpoint, Reader()):
            erasure = Logged(entry.index, proofs.erasure_name(entry.index), entry.leaf.logged_at.encode())
            check_order(last, erasure)
            beyond.append(entry.index)
            last = erasure
            for statement in said:
                totals.boxes.state(statement)
        faults = self.workers.run(_compare, totals.boxes.boxes())
        fault = min((one for one in faults if one is not None), default=None)
        if fault is not None:
            raise BundleError(self._place(fault), fault.what)
        for index in later.erasures:
            if index not in totals.erased_by:
                raise BundleError(place_of(archive, [archive.member(LATER)], index), "it erased none of these events")
        for index in beyond:
            if index not in totals.erased_by:
                raise BundleError(proofs.erasure_name(index), "it erased none of these events")

    def _later(self) -> Later:
        """What was logged after the range; time has not fallen between this, the range, and what else is proven."""
        proven, manifest = self.proven, self.manifest
        others = [
            Logged(entry.index, name, entry.leaf.logged_at.encode())
            for name, entry in ((proofs.KEY, proven.announcement), (proofs.ENTRY, proven.entry))
        ]
        first = entries.first_leaf(self.archive, self.archive.member(entries.ENTRIES))
        its = Logged(manifest.start, f"{entries.ENTRIES} entry {manifest.start}", Reader().read(first).logged_at)
        for each in others:
            if each.index < its.index:
                check_order(each, its)
        last = Logged(manifest.end - 1, "", self.totals.logged_at)
        return verify_later(self.workers, self.archive, last, others)

    def _place(self, fault: Fault) -> str:
        files = {Where.EVENT: [self.events], Where.PAYLOAD: self.payloads}
        return place_of(self.archive, files.get(fault.where, [self.archive.member(LATER)]), fault.index)

    # ---- what says nothing new --------------------------------------------------------------------------------------

    def _check_csv(self, cuts: Sequence[Chunk]) -> None:
        """The rows of a chunk are looked at one by one where they are not, or not only, in its piece of the file."""
        member = self.archive.member(CSV)
        at = member.start + len(rows.HEADER)
        if self.archive.piece(member.start, min(at, member.end)) != rows.HEADER:
            raise BundleError(f"{CSV} header", "it does not name the columns of a bundle")
        number = 0
        for part, chunk in zip(self.totals.parts, cuts, strict=True):
            if part.rows_are_right and chunk.rows.start == at:
                at, number = chunk.rows.end, number + part.events
                continue
            for index, row in chunks.written(self.archive, self.context, chunk):
                number += 1
                if self.archive.piece(at, min(at + len(row), member.end)) != row:
                    raise BundleError(
                        f"{CSV} row {number} (entry {index})", f"it is not what {EVENTS} says of the event"
                    )
                at += len(row)
        if at != member.end:
            raise BundleError(f"{CSV} row {number + 1}", f"there are {number} events, and no more rows")

    def _check_indexes(self) -> None:
        if self.manifest.question.is_subset:
            expected = b"[" + b",".join(self.totals.indexes) + b"]"
            member = self.archive.member(INDEXES)
            if member.size != len(expected) or self.archive.piece(member.start, member.end) != expected:
                raise BundleError(INDEXES, f"it does not list the indexes of the {self.totals.events} events")

    def _check_tallies(self) -> dict[str, Value]:
        question, totals = self.manifest.question, self.totals
        data = self.archive.read(tallies.NAME, tallies.MAX_SIZE)
        return tallies.check(data, totals.tallies, totals.occurred, question.since, question.until)

    def _check_parquet(self) -> bool | None:
        found = [member for member in self.archive.members if member.name == parquet.NAME]
        if not found:
            return None
        if not parquet.available():
            return False
        parquet.check(self.archive, found[0], self.events, self.totals.events)
        return True


def _cut_up(side: Side, what: tuple[int, int, Sequence[Member]]) -> list[Chunk]:
    """A task: cut all that is large into chunks."""
    return chunks.cut_up(side.archive, *what)


def _compare(side: Side, box: Box) -> Fault | None:
    """A task: compare the claims in a box with the statements."""
    return joining.compare(box, side.context.end)
