"""`manifest.json`: what a bundle says it is, and its note, by which the log's exports key stands for that.

Reading it believes nothing: what it says of the period, the query and the counts is compared elsewhere with what the
log itself says, and with what the files hold.
"""

import hashlib
import re
from dataclasses import dataclass

from translog.bundle.reading import array, boolean, decoded, digest, members, name, number, text, time
from translog.canonical import Value
from translog.errors import BundleError, FormatError, SignatureError
from translog.note import Note, VerifyingKey

__all__ = [
    "COUNTED",
    "EXCLUDED",
    "MANIFEST",
    "MAX_SIZE",
    "NOTE",
    "SCHEMA",
    "File",
    "Manifest",
    "Question",
    "verify_note",
]

MANIFEST, NOTE = "manifest.json", "manifest.json.note"
SCHEMA = "rescind-export/v1"
MAX_SIZE = 1 << 25
"""Bytes of the manifest, the most that are read."""

_SOFTWARE = re.compile("rescind [0-9][0-9A-Za-z.+-]{0,63}")

COUNTED = ("by_breach", "by_cross_check", "by_effect", "by_provider")
EXCLUDED = ("mismatches", "other_providers", "outside", "quarantined", "tests")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for. `providers` are sorted, None for all."""

    basis: str
    since: str
    until: str
    providers: tuple[str, ...] | None
    tests: bool

    @property
    def is_subset(self) -> bool:
        """Whether the answer cannot show that it has everything of the period."""
        return self.providers is not None or self.basis == "occurred"


@dataclass(frozen=True, slots=True)
class File:
    """What the manifest says of a file: its SHA-256 in hex, and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What it says, member by member."""

    export: str
    tenant: str
    origin: str
    size: int
    root: bytes
    asked_at: str
    asked_by: str
    question: Question
    population: str
    start: int
    first: int
    end: int
    entry: int
    counts: dict[str, Value]
    exclusions: dict[str, int]
    previous: tuple[int, bytes] | None
    files: dict[str, File]
    software: str

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """The manifest whose encoding is exactly `data`. Raises `BundleError` for anything else."""
        value = decoded(MANIFEST, data)
        names = (
            *("asked", "counts", "exclusions", "export", "files", "log", "period", "population"),
            *("previous", "query", "range", "schema", "software", "tenant"),
        )
        if isinstance(value, dict) and value.get("schema") != SCHEMA:
            raise BundleError(f"{MANIFEST} schema", f"it is not {SCHEMA}; a newer translog may know it")
        all_ = members(MANIFEST, value, *names)
        log = members(f"{MANIFEST} log", all_["log"], "origin", "root", "size")
        asked = members(f"{MANIFEST} asked", all_["asked"], "at", "by")
        range_ = members(f"{MANIFEST} range", all_["range"], "end", "entry", "first", "start")
        numbers = {one: number(f"{MANIFEST} range.{one}", range_[one]) for one in range_}
        return cls(
            export=text(f"{MANIFEST} export", all_["export"]),
            tenant=text(f"{MANIFEST} tenant", all_["tenant"]),
            origin=text(f"{MANIFEST} log.origin", log["origin"]),
            size=number(f"{MANIFEST} log.size", log["size"]),
            root=digest(f"{MANIFEST} log.root", log["root"]),
            asked_at=time(f"{MANIFEST} asked.at", asked["at"]),
            asked_by=text(f"{MANIFEST} asked.by", asked["by"]),
            question=_question(all_["period"], all_["query"]),
            population=name(f"{MANIFEST} population", all_["population"], "complete", "subset"),
            start=numbers["start"],
            first=numbers["first"],
            end=numbers["end"],
            entry=numbers["entry"],
            counts=members(f"{MANIFEST} counts", all_["counts"], *COUNTED, "entries", "erased", "events", "late"),
            exclusions=_exclusions(all_["exclusions"]),
            previous=_previous(all_["previous"]),
            files=_files(all_["files"]),
            software=_software(all_["software"]),
        )


def _question(period: Value, query: Value) -> Question:
    when = members(f"{MANIFEST} period", period, "basis", "since", "until")
    what = members(f"{MANIFEST} query", query, "providers", "tests")
    place = f"{MANIFEST} query.providers"
    named = None if what["providers"] is None else tuple(text(place, one) for one in array(place, what["providers"]))
    if named is not None and (not named or list(named) != sorted(set(named))):
        raise BundleError(place, "the providers are not sorted and named once each")
    question = Question(
        basis=name(f"{MANIFEST} period.basis", when["basis"], "logged", "received", "occurred"),
        since=time(f"{MANIFEST} period.since", when["since"]),
        until=time(f"{MANIFEST} period.until", when["until"]),
        providers=named,
        tests=boolean(f"{MANIFEST} query.tests", what["tests"]),
    )
    if question.since >= question.until:
        raise BundleError(f"{MANIFEST} period", "it ends before it begins")
    return question


def _software(value: Value) -> str:
    place = f"{MANIFEST} software"
    found = text(place, value)
    if not _SOFTWARE.fullmatch(found):
        raise BundleError(place, f"it is {found[:80]!a}, not rescind and a version")
    return found


def _exclusions(value: Value) -> dict[str, int]:
    found = members(f"{MANIFEST} exclusions", value, *EXCLUDED)
    return {reason: number(f"{MANIFEST} exclusions.{reason}", found[reason]) for reason in EXCLUDED}


def _previous(value: Value) -> tuple[int, bytes] | None:
    if value is None:
        return None
    place = f"{MANIFEST} previous"
    found = members(place, value, "root", "size")
    return number(f"{place}.size", found["size"]), digest(f"{place}.root", found["root"])


def _files(value: Value) -> dict[str, File]:
    files: dict[str, File] = {}
    for called, said in members(f"{MANIFEST} files", value).items():
        place = f"{MANIFEST} files.{called}"
        both = members(place, said, "sha256", "size")
        files[called] = File(digest(place, both["sha256"]).hex(), number(place, both["size"]))
    return files


def verify_note(data: bytes, manifest: bytes, key: VerifyingKey) -> None:
    """Check that `data` is the note of the bytes `manifest`, by the exports key. Raises `BundleError`."""
    try:
        note = Note.parse(data)
        if len(note.signatures) != 1:
            raise BundleError(NOTE, f"{len(note.signatures)} signatures; it has exactly one")
        signature = note.signatures[0]
        if (signature.name, signature.key_id) != (key.name, key.key_id):
            raise BundleError(NOTE, f"it is signed by {signature.name!a}, not by the log's exports key {key}")
        key.verify(note.text, signature)
    except (FormatError, SignatureError) as error:
        raise BundleError(NOTE, str(error)) from None
    lines = note.text.split("\n")
    if len(lines) != 4 or lines[0] != SCHEMA:
        raise BundleError(NOTE, f"it is no note of a manifest: {lines[0][:80]!a}")
    if lines[2] != hashlib.sha256(manifest).hexdigest():
        raise BundleError(MANIFEST, f"its SHA-256 is not the one that its note is signed for, {lines[2][:64]!a}")
    if lines[1] != Manifest.parse(manifest).export:
        raise BundleError(NOTE, "it is signed for another export than its manifest says")
