"""Which files a bundle has, and whether its manifest answers the question that the log has recorded."""

from translog.bundle import entries, parquet, proofs, tallies
from translog.bundle.archive import MAX_MEMBERS, Archive
from translog.bundle.chunks import CSV, EVENTS, PAYLOADS
from translog.bundle.later import LATER
from translog.bundle.manifest import MANIFEST, NOTE, Manifest
from translog.bundle.proofs import Proven
from translog.bundle.reading import number
from translog.canonical import Value, encode
from translog.errors import BundleError

__all__ = ["INDEXES", "PER_FILE", "check_files", "check_question", "payload_names"]

INDEXES = "proof/indexes.json"
PER_FILE = 100_000
"""Lines of a file of payloads."""

_FOR_PEOPLE = ("REPORT.html", "README.txt", "verify.py")


def check_question(archive: Archive, manifest: Manifest, proven: Proven) -> None:
    """Compare what the manifest says with the checkpoint, and with the facts of the export's own entry.

    Raises `BundleError` for what differs.
    """
    checkpoint, question, facts = proven.checkpoint, manifest.question, proven.entry.leaf.facts
    leaf, has_parquet = proven.entry.leaf, any(member.name == parquet.NAME for member in archive.members)
    providers: Value = None if question.providers is None else [*question.providers]
    said: dict[str, tuple[Value, Value]] = {
        "export": (manifest.export, leaf.id),
        "log.origin": (manifest.origin, checkpoint.origin),
        "log.size": (manifest.size, checkpoint.size),
        "log.root": (manifest.root.hex(), checkpoint.root.hex()),
        "asked.at": (manifest.asked_at, leaf.logged_at),
        "asked.by": (manifest.asked_by, facts.get("by")),
        "period.basis": (question.basis, facts.get("basis")),
        "period.since": (question.since, facts.get("since")),
        "period.until": (question.until, facts.get("until")),
        "query.providers": (providers, facts.get("providers")),
        "query.tests": (question.tests, facts.get("tests")),
        "range.entry": (manifest.entry, proven.entry.index),
    }
    for name, (stated, logged) in said.items():
        if encode(stated) != encode(logged):
            raise BundleError(f"{MANIFEST} {name}", f"it is {_short(stated)}; by the log it is {_short(logged)}")
    if facts.keys() != {"basis", "by", "parquet", "providers", "since", "tests", "until"}:
        raise BundleError(proofs.ENTRY, "its facts are not those of an export")
    if facts["parquet"] is not has_parquet:
        raise BundleError(
            parquet.NAME, "it is not in the bundle" if facts["parquet"] is True else "it was not asked for"
        )
    _check_period(manifest, leaf.logged_at)
    _check_time(archive, leaf.logged_at)


def _check_period(manifest: Manifest, logged_at: str) -> None:
    """The period is over, and the population is what it can be called."""
    question, place = manifest.question, f"{MANIFEST} range"
    if question.until > logged_at:
        raise BundleError(f"{MANIFEST} period.until", "it was not over when the export was asked for")
    expected = "subset" if question.is_subset else "complete"
    if manifest.population != expected:
        raise BundleError(f"{MANIFEST} population", f"an answer to this question is called {expected}")
    if manifest.start != max(manifest.first - 1, 0):
        raise BundleError(f"{place}.start", f"it is {manifest.start}; one before the first entry, {manifest.first}")
    if not manifest.first < manifest.end <= manifest.entry + 1 <= manifest.size:
        raise BundleError(f"{place}.end", f"it is {manifest.end}: not between the first entry and the export's own")
    if question.basis != "logged" and manifest.end != manifest.entry + 1:
        raise BundleError(f"{place}.end", f"on the basis {question.basis} the range ends with the export's own entry")


def _check_time(archive: Archive, logged_at: str) -> None:
    parts = [int(logged_at[start:end]) for start, end in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))]
    parts[5] -= parts[5] % 2
    if archive.time != tuple(parts):
        raise BundleError("ZIP", f"the time of its files is not that of the export's entry, {logged_at}")


def check_files(archive: Archive, manifest: Manifest) -> None:
    """Check that the bundle has exactly the files that it must have, in order, and the manifest names them.

    Raises `BundleError`.
    """
    names = [member.name for member in archive.members]
    expected = _expected(names, manifest)
    known = set(expected)
    for wanted, name in zip(expected, names, strict=False):
        if wanted != name:
            if name not in known:
                raise BundleError(name, "such a file is not in a bundle like this")
            raise BundleError(wanted, "it is not in the bundle, or not in its place")
    for wanted in expected[len(names) :]:
        raise BundleError(wanted, "it is not in the bundle")
    for name in names[len(expected) :]:
        raise BundleError(name, "such a file is not in a bundle like this")
    for name in sorted(manifest.files.keys() ^ set(names[2:])):
        place = f"{MANIFEST} files.{name}"
        raise BundleError(
            place, "it is not in the bundle" if name in manifest.files else "the manifest does not name it"
        )


def _expected(names: list[str], manifest: Manifest) -> list[str]:
    """The files in order; which erasures are proven, only their names say."""
    after = sorted(index for index in map(proofs.erasure_of, names) if index is not None)
    previous = (proofs.PREVIOUS, proofs.CONSISTENCY) if manifest.previous is not None else ()
    return [
        *(MANIFEST, NOTE, EVENTS, CSV),
        *([parquet.NAME] if parquet.NAME in names else []),
        *payload_names(manifest),
        *(entries.ENTRIES, proofs.CHECKPOINT, entries.RANGE, proofs.ENTRY, proofs.KEY, LATER),
        *map(proofs.erasure_name, after),
        *previous,
        *([INDEXES] if manifest.question.is_subset else []),
        *(tallies.NAME, *_FOR_PEOPLE),
    ]


def payload_names(manifest: Manifest) -> list[str]:
    """The files that the payloads are in, if there are as many events as the manifest says."""
    place = f"{MANIFEST} counts.events"
    events = number(place, manifest.counts["events"])
    if events > manifest.end - manifest.start or events > MAX_MEMBERS * PER_FILE:
        raise BundleError(place, f"it is {events}, more than the entries")
    return [PAYLOADS.format(one) for one in range(-(-events // PER_FILE))]


def _short(value: Value) -> str:
    return encode(value).decode()[:100]
