"""Small bundles, built by the words of `docs/export-format.md` and by nothing of the receiver.

    bundle = make(story())
    bundle.files["events.jsonl"] = …          anything may be changed,
    bundle.seal()                             counted and signed again by whoever has the exports key,
    bundle.zip()                              and packed

Everything is worked out slowly and plainly from the log's entries, so that a verifier is tried against another reading
of the same words.
"""

import copy
import csv
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any, cast

from tests.translog import exported
from tests.translog.exported import EXPORTS_KEY, SIZE, Entry, Log
from translog import merkle, note
from translog.canonical import Value, encode, to_base64
from translog.evidence import Leaf
from translog.note import SigningKey

COLUMNS = (
    *("index", "id", "logged_at", "received_at", "kind", "provider", "source"),
    *("event", "effect", "via", "scheme", "item_type", "item_id"),
    *("account", "operation", "occurred_at", "extent", "amount", "quantity", "reason"),
    *("breaches", "cross_check", "test", "erased"),
)
EXCLUDED = ("mismatches", "other_providers", "outside", "quarantined", "tests")
PER_FILE = 100_000
EARLIER = 12
"""The size of the previous export's checkpoint."""

Row = dict[str, Value]


@dataclass
class Bundle:
    """The files of a bundle by name, in order, and what its manifest says besides the files."""

    files: dict[str, bytes]
    manifest: dict[str, Value]
    moment: datetime
    """Which all members have as their time."""
    key: SigningKey = EXPORTS_KEY
    sealed: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """The manifest and its note."""

    def seal(self) -> "Bundle":
        """Write the manifest of the files as they are now, and sign it."""
        listed: dict[str, Value] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in self.files.items()
        }
        return self.sign(encode({**self.manifest, "files": listed}))

    def sign(self, manifest: bytes) -> "Bundle":
        """Take that for the manifest, and sign it."""
        text = f"rescind-export/v1\n{self.manifest['export']}\n{hashlib.sha256(manifest).hexdigest()}\n"
        self.sealed = {"manifest.json": manifest, "manifest.json.note": note.sign(text, self.key)}
        return self

    def zip(self) -> bytes:
        """The file."""
        return packed({**self.sealed, **self.files}, self.moment)

    def copy(self) -> "Bundle":
        """Another one, that can be changed."""
        return copy.deepcopy(self)


def packed(files: dict[str, bytes], moment: datetime) -> bytes:
    """A ZIP as the format has it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name, moment.timetuple()[:6])
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data)
    return out.getvalue()


def make(
    log: Log,
    entry: int = exported.ENTRY,
    size: int = SIZE,
    *,
    earlier: int | None = EARLIER,
    key: int = 2,
    left_out: Sequence[int] = (),
) -> Bundle:
    """The bundle that answers the export entry at that index, with the checkpoint of that size.

    `earlier` is the size of the previous export's checkpoint, None if there was none; `key` the index of the entry
    that announces the exports key. `left_out` are events that are counted as if they were outside the period.
    """
    making = _Making(log, entry, size, earlier, key)
    making.exclusions["outside"] += len(left_out)
    making.events = [index for index in making.events if index not in left_out]
    return making.bundle().seal()


class _Making:
    """The steps, each of which says what follows from those before it."""

    def __init__(self, log: Log, entry: int, size: int, earlier: int | None, key: int) -> None:
        self.log, self.entry, self.size, self.earlier, self.key = log, entry, size, earlier, key
        asked = log.entries[entry].leaf
        self.at, self.id = asked.logged_at, asked.id
        self.asked = cast("dict[str, Any]", asked.facts)
        self.since, self.until, self.basis = self.asked["since"], self.asked["until"], self.asked["basis"]
        self.leaves = log.leaves(0, len(log.entries))
        times = [leaf.logged_at for leaf in self.leaves[: entry + 1]]
        self.first = next((i for i, time in enumerate(times) if time >= self.since), entry)
        beyond = 1 + next((i for i, time in enumerate(times) if time >= self.until), entry)
        self.start = max(self.first - 1, 0)
        self.end = beyond if self.basis == "logged" else entry + 1
        self.exclusions: dict[str, int] = dict.fromkeys(EXCLUDED, 0)
        self.named: set[int] = set()  # the entries that events refer to
        self.events = [index for index in range(self.first, self.end) if self._is_wanted(index)]

    # ---- which events -----------------------------------------------------------------------------------------------

    def _is_wanted(self, index: int) -> bool:
        leaf = self.leaves[index]
        reason = self._reason(index, leaf)
        if reason is not None and (self.basis != "logged" or leaf.logged_at < self.until) and reason != "no event":
            self.exclusions[reason] += 1
        return reason is None

    def _reason(self, index: int, leaf: Leaf) -> str | None:
        """Why it is not among the events."""
        if leaf.kind in {"quarantine", "mismatch"}:
            return {"quarantine": "quarantined", "mismatch": "mismatches"}[leaf.kind]
        if leaf.kind not in {"revocation", "context"} and not (leaf.kind == "attempt" and leaf.facts.get("effect")):
            return "no event"
        if leaf.facts.get("test") and not self.asked["tests"]:
            return "tests"
        if self.asked["providers"] is not None and leaf.facts["provider"] not in self.asked["providers"]:
            return "other_providers"
        return None if self._is_inside(index, leaf) else "outside"

    def _is_inside(self, index: int, leaf: Leaf) -> bool:
        if self.basis == "occurred":
            erased = self._erased(index, "all") is not None
            return erased or self._is_in_period(self._event(index).get("occurred_at"))
        return self._is_in_period(leaf.logged_at if self.basis == "logged" else leaf.facts.get("received_at"))

    def _is_in_period(self, time: object) -> bool:
        return isinstance(time, str) and self.since <= time < self.until

    def _event(self, index: int) -> Row:
        opening = self.log.entries[index].event
        return {} if opening is None else json.loads(opening.data)

    def _erased(self, index: int, *states: str) -> int | None:
        """The index of the first erasure that took an opening of that entry away."""
        its_id = self.leaves[index].id
        for at_, leaf in enumerate(self.leaves):
            if (
                leaf.kind == "erasure"
                and leaf.facts["state"] in states
                and its_id in cast("list[str]", leaf.facts["ids"])
            ):
                self.named.add(at_)
                return at_
        return None

    def _stands(self, index: int) -> dict[str, Value]:
        its_id, stands = self.leaves[index].id, dict[str, Value](cross_check=None, entry=None)
        for at_, leaf in enumerate(self.leaves[: self.size]):
            if leaf.kind == "cross_check" and leaf.facts["first"] == its_id:
                stands = {"cross_check": leaf.facts["state"], "entry": at_}
        if isinstance(told := stands["entry"], int):
            self.named.add(told)
        return stands

    # ---- files ------------------------------------------------------------------------------------------------------

    def bundle(self) -> Bundle:
        """Not sealed yet."""
        rows = [self._line(index) for index in self.events]
        payloads = [self._payload(index) for index in self.events]
        files = {"events.jsonl": _lines(rows), "events.csv": _csv(rows)}
        if self.asked["parquet"]:
            files["events.parquet"] = parquet(rows)
        for number, start in enumerate(range(0, len(payloads), PER_FILE)):
            files[f"payloads/{number:06d}.jsonl"] = _lines(payloads[start : start + PER_FILE])
        files |= self._proofs()
        if self._is_subset():
            files["proof/indexes.json"] = encode([*self.events])
        files["tallies.json"] = encode(self._tallies(rows))
        files |= {"REPORT.html": b"<!doctype html>", "README.txt": b"Read me.\n", "verify.py": b"raise SystemExit(1)\n"}
        moment = datetime.fromisoformat(self.at)
        return Bundle(files, self._manifest(rows), moment)

    def _line(self, index: int) -> Row:
        entry, erased_by = self.log.entries[index], self._erased(index, "all")
        opening = None if erased_by is not None else entry.event
        return {
            "erased": erased_by is not None,
            "erased_by": erased_by,
            "event": None if opening is None else json.loads(opening.data),
            "index": index,
            "leaf": json.loads(entry.data),
            "salt": None if opening is None else to_base64(opening.salt),
            "stands": self._stands(index),
        }

    def _payload(self, index: int) -> Row:
        erased_by = self._erased(index, "all", "delivery")
        opening = None if erased_by is not None else self.log.entries[index].delivery
        return {
            "delivery": None if opening is None else json.loads(opening.data),
            "erased_by": erased_by,
            "index": index,
            "salt": None if opening is None else to_base64(opening.salt),
        }

    def _proofs(self) -> dict[str, bytes]:
        log, read, size = self.log, self.log.read, self.size
        later = sorted(index for index in self.named if self.end <= index < size)
        after = sorted(index for index in self.named if index >= size)
        files = {
            "entries.bin": entries_bin(log.entries[self.start : self.end]),
            "proof/checkpoint": log.checkpoint(size),
            "proof/range.json": encode(
                {
                    "end": self.end,
                    "hashes": [to_base64(one) for one in merkle.range_proof(self.start, self.end, size, read)],
                    "start": self.start,
                }
            ),
            "proof/entry.tlog-proof": log.evidence(self.entry, size),
            "proof/exports-key.tlog-proof": log.evidence(self.key, size),
            "proof/later.jsonl": _lines([later_line(log, index, size) for index in later]),
        }
        for index in after:
            files[f"proof/erasures/{index}.tlog-proof"] = log.evidence(index, len(log.entries))
        if self.earlier is not None:
            hashes = [to_base64(one) for one in merkle.consistency_proof(self.earlier, size, read)]
            files["proof/previous-checkpoint"] = log.checkpoint(self.earlier)
            files["proof/consistency.json"] = encode({"hashes": [*hashes], "new_size": size, "old_size": self.earlier})
        return files

    def _is_subset(self) -> bool:
        return self.asked["providers"] is not None or self.basis == "occurred"

    # ---- counted ----------------------------------------------------------------------------------------------------

    def _manifest(self, rows: list[Row]) -> dict[str, Value]:
        log, asked = self.log, self.asked
        previous = None if self.earlier is None else {"root": log.root(self.earlier).hex(), "size": self.earlier}
        return {
            "schema": "rescind-export/v1",
            "export": self.id,
            "tenant": "acme",
            "log": {"origin": log.key.name, "root": log.root(self.size).hex(), "size": self.size},
            "asked": {"at": self.at, "by": asked["by"]},
            "period": {"basis": self.basis, "since": self.since, "until": self.until},
            "query": {"providers": asked["providers"], "tests": asked["tests"]},
            "population": "subset" if self._is_subset() else "complete",
            "range": {"end": self.end, "entry": self.entry, "first": self.first, "start": self.start},
            "counts": self._counts(rows),
            "exclusions": {**self.exclusions},
            "previous": cast("Value", previous),
            "software": "rescind 0.6",
        }

    def _counts(self, rows: list[Row]) -> dict[str, Value]:
        leaves = [self.leaves[cast("int", row["index"])] for row in rows]
        stands = [cast("Row", row["stands"])["cross_check"] for row in rows]
        breaches = [code for leaf in leaves for code in cast("list[str]", leaf.facts.get("breaches", []))]
        return {
            "by_breach": _counted(breaches),
            "by_cross_check": _counted("untold" if one is None else one for one in stands),
            "by_effect": _counted(leaf.facts["effect"] or "none" for leaf in leaves),
            "by_provider": _counted(leaf.facts["provider"] for leaf in leaves),
            "entries": self.end - self.start,
            "erased": sum(row["erased"] is True for row in rows),
            "events": len(rows),
            "late": 0 if self.basis == "logged" else sum(leaf.logged_at >= self.until for leaf in leaves),
        }

    def _tallies(self, rows: list[Row]) -> dict[str, Value]:
        tallies = [leaf.facts for leaf in self.leaves[self.start : self.end] if leaf.kind == "tally"]
        return {"cut_off": self._cut_off(rows), "days": self._days(tallies), "gaps": self._gaps(tallies)}

    def _cut_off(self, rows: list[Row]) -> Value:
        events: dict[str, Value] = {"after": 0, "before": 0, "inside": 0, "undated": 0}
        for row in rows:
            time = cast("Row", row["event"] or {}).get("occurred_at")
            place = "undated"
            if isinstance(time, str):
                place = "before" if time < self.since else "inside" if time < self.until else "after"
            events[place] = cast("int", events[place]) + 1
        return {"events": events, "outside": {"logged_after": 1, "logged_before": 0}}

    def _days(self, tallies: list[dict[str, Value]]) -> list[Value]:
        days: dict[tuple[str, str], Row] = {}
        for facts in tallies:
            until, source = cast("str", facts["until"]), cast("str", facts["source"])
            if not self._is_in_period(until):
                continue
            day = days.setdefault((until[:10], source), {"day": until[:10], "incomplete": False, "source": source})
            day["incomplete"] = bool(day["incomplete"] or facts["incomplete"])
            for name, number in cast("dict[str, Any]", facts["counts"]).items():
                if name == "refused":
                    day[name] = _counted(Counter(cast("Any", day.get(name, {}))) + Counter(number))
                else:
                    day[name] = cast("int", day.get(name, 0)) + number
        return [days[place] for place in sorted(days)]

    def _gaps(self, tallies: list[dict[str, Value]]) -> list[Value]:
        """Minute by minute."""
        gaps: list[Value] = []
        for source in sorted({cast("str", facts["source"]) for facts in tallies}):
            its = [
                (cast("str", one["from"]), cast("str", one["until"]), one) for one in tallies if one["source"] == source
            ]
            lower = max(self.since, its[0][0])
            covered = [(start, end) for start, end, one in its if not one["incomplete"]]
            hour, empty = datetime.fromisoformat(lower).replace(minute=0, second=0, microsecond=0), list[list[str]]()
            while _text(hour) < self.until:
                start, end = max(_text(hour), lower), min(_text(hour + timedelta(hours=1)), self.until)
                edges = [start, *(edge for piece in covered for edge in piece if start < edge < end)]
                if not all(any(a <= edge < b for a, b in covered) for edge in edges):
                    if empty and empty[-1][1] == start:
                        empty[-1][1] = end
                    else:
                        empty.append([start, end])
                hour += timedelta(hours=1)
            gaps.extend({"from": start, "source": source, "until": end} for start, end in empty)
        return gaps


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def _counted(names: Any) -> dict[str, Value]:
    counter: Counter[str] = Counter(names)
    return {name: number for name, number in sorted(counter.items()) if number}


def _lines(rows: list[Row]) -> bytes:
    return b"".join(encode(row) + b"\n" for row in rows)


def later_line(log: Log, index: int, size: int) -> Row:
    """A line of `proof/later.jsonl`."""
    hashes = merkle.inclusion_proof(index, size, log.read)
    return {
        "entry": to_base64(log.entries[index].data),
        "index": index,
        "proof": [to_base64(one) for one in hashes],
    }


def entries_bin(entries: list[Entry]) -> bytes:
    """These entries, each after its length."""
    return b"".join(len(entry.data).to_bytes(2, "big") + entry.data for entry in entries)


def cells(row: Row) -> list[str | int | bool | None]:
    """What a line of `events.jsonl` says, by `COLUMNS`."""
    leaf, event = cast("dict[str, Any]", row["leaf"]), cast("dict[str, Any]", row["event"] or {})
    facts: dict[str, Any] = leaf["facts"]
    item: dict[str, Any] = event.get("item") or {}
    breaches = facts.get("breaches")
    said: dict[str, Any] = {
        **{name: event.get(name) for name in COLUMNS[13:20]},
        **{name: facts.get(name) for name in ("received_at", "provider", "source", "event", "effect", "via", "scheme")},
        **{name: leaf[name] for name in ("id", "logged_at", "kind")},
        "index": row["index"],
        "item_type": item.get("type"),
        "item_id": item.get("id"),
        "breaches": None if breaches is None else " ".join(breaches),
        "cross_check": cast("Row", row["stands"])["cross_check"],
        "test": facts.get("test"),
        "erased": row["erased"],
    }
    return [said[name] for name in COLUMNS]


def _csv(rows: list[Row]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in cells(row)])
    return out.getvalue().encode()


def _cell(value: str | int | bool | None) -> str | int | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def parquet(rows: list[Row]) -> bytes:
    """The same in columns."""
    pa: Any = import_module("pyarrow")  # by name: it has no types to check
    write: Any = import_module("pyarrow.parquet").write_table
    types = {"index": pa.int64(), "test": pa.bool_(), "erased": pa.bool_()}
    columns = zip(*map(cells, rows), strict=True) if rows else [()] * len(COLUMNS)
    arrays = [pa.array(column, types.get(name, pa.string())) for name, column in zip(COLUMNS, columns, strict=True)]
    out = io.BytesIO()
    write(pa.table(arrays, names=COLUMNS), out)
    return out.getvalue()
