"""Verify an export bundle of Rescind, offline and without Rescind.

    python verify.py BUNDLE.zip --key VKEY        VKEY: the log's key, or a file with it; of several, any one

It takes Python 3.11 or later and `cryptography`. Exit status 0: all of it holds, and what that shows is said; 1: the
first file, line or entry that is wrong is named; 2: called wrongly.

**A verifier that comes with the evidence proves nothing by itself.** Compare its SHA-256 with the one in the project's
docs/verify.md, or use `translog verify`, which is other code. **The key must come from somewhere else**, too.

What is checked is laid down in docs/export-format.md, in the order in which one thing carries the next: the ZIP; the
checkpoint, signed by the log; the entries that announce the exports key and the export; the manifest, signed by that
key; each file, by its hash; the entries, which give the signed root; the events, which give what their entries commit
to; what is counted. Nothing is extracted, and no size is believed that was not compared.
"""

import argparse
import binascii
import hashlib
import io
import json
import os
import re
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from datetime import datetime, timedelta
from functools import lru_cache, partial
from importlib import import_module, util
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FILES = """
manifest.json manifest.json.note events.jsonl events.csv events.parquet? payloads/* entries.bin proof/checkpoint
proof/range.json proof/entry.tlog-proof proof/exports-key.tlog-proof proof/later.jsonl proof/erasures/*
proof/previous-checkpoint? proof/consistency.json? proof/indexes.json? tallies.json REPORT.html README.txt verify.py
"""
COLUMNS = re.findall(
    "[a-z_]+",
    """index id logged_at received_at kind provider source event effect via scheme item_type item_id account operation
    occurred_at extent amount quantity reason breaches cross_check test erased""",
)
ASKED = {"basis", "by", "parquet", "providers", "since", "tests", "until"}
COUNTED = {"deliveries", "duplicate", "ignored", "mismatch", "quarantined", "recorded"}
REASONS = ("mismatches", "other_providers", "outside", "quarantined", "tests")
STATES = ("absent", "confirmed", "contradicted", "none", "pending")  # of a cross-check
TIME, HOUR = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), ":00:00.000000Z"
BLOCK, MANY = 2048, 20_000  # entries that are one node of the tree; from how many on all processors share the work
PER_FILE, AT_ONCE = 100_000, 1 << 26  # payloads to a file; bytes that are read at once
FULL = 0xFFFFFFFF  # what needs 64 bits in a ZIP
INNER, OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))  # of HMAC
LEAF = re.compile(
    rb'\{"delivery":(?:"([0-9a-f]{64})"|null),"event":(?:"([0-9a-f]{64})"|null),"facts":(\{.*\}),'
    rb'"id":"([0-9a-f-]{36})","kind":"([a-z_]+)","logged_at":"([0-9T:.Z-]{27})","v":1\}'
)
RECEIVED = re.compile(rb'"received_at":"([0-9T:.Z-]{27})"')
FORMULA = frozenset("=+-@\t\r")
END = ("", b"")  # of lines
Span: TypeAlias = tuple[int, int]
Key: TypeAlias = tuple[str, bytes, bytes]
Checkpoint: TypeAlias = tuple[str, int, bytes]

_place = [""]  # what is being read: if it is not as it must be, this is named


class Wrong(Exception):  # noqa: N818  (it is the verdict)
    """What is wrong, and where: a file, a line or an entry of it, or a member."""


def need(place: str, holds: object = True, why: str = "") -> None:
    """Go on to that place, if it is so."""
    _place[0] = place
    if not holds:
        raise Wrong(place, why)


# ---- JSON and base64: what is hashed or signed has one spelling, and no other is taken ------------------------------


def _refuse(what: str) -> Any:
    raise ValueError(f"{what[:80]!a} is out of place")


def _integer(text: str) -> int:
    return int(text) if len(text) < 18 and abs(int(text)) < 1 << 53 else _refuse(text)


_FOREIGN = re.compile(rb'"(?:[^"\\]|\\.)*[\x80-\xff](?:[^"\\]|\\.)*":')  # a member whose name is not ASCII
_read_json = json.JSONDecoder(parse_int=_integer, parse_float=_refuse, parse_constant=_refuse).decode
_write_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False).encode


def canonical(text: bytes) -> Any:
    """The value of canonical JSON: written again, it gives the same bytes."""
    value = _read_json(text.decode())
    is_so = _write_json(value).encode() == text and (text.isascii() or not _FOREIGN.search(text))
    return value if is_so else _refuse("JSON that is not canonical")


_canonical = lru_cache(4096)(canonical)


def read_leaf(entry: bytes) -> dict[str, Any]:
    """What a leaf says. Its facts are mostly those of another, but for when it was received: these are read once."""
    delivery, event, facts, id_, kind, when = (LEAF.fullmatch(entry) or _refuse("an entry that is no leaf")).groups()
    if time := RECEIVED.search(facts):
        said = _canonical(facts[: time.start(1)] + facts[time.end(1) :])
        said = {**said, "received_at": time[1].decode()} if said["received_at"] == "" else _refuse("two times")
    else:
        said = canonical(facts)
    leaf = {"facts": said, "id": id_.decode(), "kind": kind.decode(), "logged_at": when.decode()}
    return {**leaf, "delivery": delivery and delivery.decode(), "event": event and event.decode()}


def unbase64(text: str, size: int | None = None) -> bytes:
    """The bytes of canonical base64; so many, if that is told."""
    data = binascii.a2b_base64(text)
    is_so = binascii.b2a_base64(data, newline=False) == text.encode() and size in {None, len(data)}
    return data if is_so else _refuse(text)


def sha256(*parts: bytes) -> bytes:
    """Of all of it together."""
    return hashlib.sha256(b"".join(parts)).digest()


# ---- the ZIP: members stored, one after another; every header has one spelling, and so is written again -------------


def header(info: zipfile.ZipInfo, offset: int | None) -> bytes:
    """The header before a member; with its offset, the one in the central directory."""
    name, size, short = info.orig_filename.encode(), info.file_size, min(info.file_size, FULL)
    wide = [size, size] * (size >= FULL) + ([offset] if offset is not None and offset >= FULL else [])
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    year, month, day, hour, minute, second = info.date_time
    when = ((year - 1980) << 9 | month << 5 | day) << 16 | hour << 11 | minute << 5 | second // 2
    version = 45 if wide else 20
    both = struct.pack("<3H4L2H", version, 0, 0, when, info.CRC, short, short, len(name), len(extra))
    if offset is None:
        return b"PK\3\4" + both + name + extra
    attributes = struct.pack("<3H2L", 0, 0, 0, 0o100644 << 16, min(offset, FULL))  # a plain file, as Unix has it
    return struct.pack("<4s2B", b"PK\1\2", version, 3) + both + attributes + name + extra


def zip_end(number: int, size: int, start: int) -> bytes:
    """What follows a central directory of so many members and bytes, which begins there."""
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 3 << 8 | 45, 45, 0, 0, number, number, size, start)
    wide += struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
    short = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[min(number, 0xFFFF)] * 2, min(size, FULL), min(start, FULL), 0)
    return wide * (number >= 0xFFFF or start >= FULL) + short


def open_zip(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members, after all that is around them was compared."""
    found, offset, directory = dict[str, zipfile.ZipInfo](), 0, b""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 98))
        tail = file.read().rjust(98)
        (size,) = struct.unpack("<Q", tail[40:48] if tail[56:60] == b"PK\6\7" else tail[-10:-6] + bytes(4))
        need("ZIP", tail[-22:-18] == b"PK\5\6" and size <= AT_ONCE, "it has no end: is it whole, as it was downloaded?")
        for info in zipfile.ZipFile(file).infolist():
            name, local = info.orig_filename, header(info, None)
            need(name, re.fullmatch("[A-Za-z0-9._/-]+", name) and name not in found, "it is no name, or there twice")
            need(name, not info.compress_type, "it is packed: verify the file as it was downloaded")
            file.seek(offset)
            need(name, file.read(len(local)) == local, "its header in the ZIP is not as it must be")
            found[name], directory, offset = (
                info,
                directory + header(info, offset),
                offset + len(local) + info.file_size,
            )
        file.seek(offset)
        end = directory + zip_end(len(found), len(directory), offset)
        need("ZIP", file.read(len(end) + 1) == end, "its directory and its end are not as they must be")
    return found


def check_names(found: Sequence[str]) -> None:
    """All files are there that must be, in their order; those of a folder by their numbers."""
    wanted = list[str]()
    for word in FILES.split():
        its = [name for name in found if name == word.rstrip("?") or (word[-1] == "*" and name.startswith(word[:-1]))]
        need(word, its or word[-1] in "?*", "it is not in the bundle")
        wanted += sorted(its, key=lambda name: (len(name), name))
    for want, name in zip_longest(wanted, found):
        need(want if name in wanted else name, want == name, "it is no file of a bundle, or not in its place there")


# ---- signed notes and checkpoints (C2SP), and the tree (RFC 6962) ---------------------------------------------------


def parse_key(text: str) -> Key:
    """A vkey's name, its id, which follows from name and key, and the Ed25519 key."""
    name, number, encoded = text.strip().split("+", 2)
    public = unbase64(encoded, 33)
    id_ = sha256(name.encode(), b"\n", public)[:4]
    return (name, id_, public[1:]) if (name.split(), public[0], number) == ([name], 1, id_.hex()) else _refuse(text)


def open_note(data: bytes, keys: Sequence[Key]) -> tuple[str, list[str], int]:
    """Which of the keys signed a note, the lines of its text, and the number of signatures."""
    text, _, below = data.decode().rpartition("\n\n")
    if below[-1:] != "\n" or re.search("[\0-\t\x0b-\x1f]", data.decode()):
        _refuse("a text that is no signed note")
    lines = [re.fullmatch(r"— ([^\s+]+) (\S+)", line) or _refuse(line) for line in below[:-1].split("\n")]
    for name, id_, public in keys:
        for signature in [unbase64(line[2]) for line in lines if line[1] == name]:
            if signature[:4] == id_:
                Ed25519PublicKey.from_public_bytes(public).verify(signature[4:], f"{text}\n".encode())
                return name, text.split("\n"), len(lines)
    return _refuse(f"a note of none of the keys {', '.join(key[0] for key in keys)}, as they are known here,")


def open_checkpoint(data: bytes, keys: Sequence[Key]) -> Checkpoint:
    """What a log signs: its origin, how many leaves it has, and the one hash that stands for them."""
    name, (origin, size, root, *others), _ = open_note(data, keys)
    is_so = origin == name and all(others) and re.fullmatch("[0-9]{1,16}", size)
    return (origin, canonical(size.encode()), unbase64(root, 32)) if is_so else _refuse("a note that is no checkpoint")


def _half(low: int, high: int) -> int:
    return low + (1 << (high - low - 1).bit_length() - 1)  # left of it, the largest power of two that leaves some


def outside(low: int, high: int, start: int, end: int) -> list[Span]:
    """The largest subtrees of the leaves `[low, high)` that are outside of `[start, end)`, from left to right."""
    if high <= start or end <= low or (start <= low and high <= end):
        return [] if start <= low and high <= end else [(low, high)]
    half = _half(low, high)
    return outside(low, half, start, end) + outside(half, high, start, end)


def beside(low: int, high: int, start: int, end: int) -> list[Span]:
    """The same for one subtree `[start, end)`, as they are met on the way from it up to the root."""
    half = _half(low, high) if (low, high) != (start, end) else 0
    if half >= end:
        return [*beside(low, half, start, end), (half, high)]
    return [*beside(half, high, start, end), (low, half)] if half else []


def root_of(low: int, high: int, nodes: Mapping[Span, bytes]) -> bytes:
    """The hash of a subtree, from those of its parts. A proof is nothing but such hashes, in a fixed order."""
    if (low, high) in nodes:
        return nodes[low, high]
    half = _half(low, high)
    return sha256(b"\1", root_of(low, half, nodes), root_of(half, high, nodes))


def proven(spans: Sequence[Span], hashes: Sequence[str]) -> dict[Span, bytes]:
    """The hashes of a proof, each where it belongs in the tree."""
    return dict(zip(spans, [unbase64(one, 32) for one in hashes], strict=True))


def is_included(leaf: bytes, index: int, log: Checkpoint, hashes: Sequence[str]) -> bool:
    """Whether this leaf is the log's at that index (RFC 6962 section 2.1.1)."""
    if type(index) is not int or not 0 <= index < log[1]:
        return False
    nodes = proven(beside(0, log[1], index, index + 1), hashes) | {(index, index + 1): sha256(b"\0", leaf)}
    return root_of(0, log[1], nodes) == log[2]


def is_consistent(old: Checkpoint, new: Checkpoint, hashes: Sequence[str]) -> bool:
    """Whether the old tree is the beginning of the new one: both roots follow from the same hashes (section 2.1.2)."""
    (origin, size, root), start = old, old[1] - (old[1] & -old[1])  # where its last whole subtree begins
    spans = [(start, size)] * (start > 0) + beside(0, new[1], start, size) if size < new[1] else []
    nodes = proven(spans, hashes) | ({} if start and spans else {(0, size): root})
    is_so = origin == new[0] and 0 < size <= new[1]
    return is_so and root_of(0, size, nodes) == root and root_of(0, new[1], nodes) == new[2]


# ---- the entries, and the events that they commit to ----------------------------------------------------------------


def opening(line: bytes, head: bytes, label: bytes, middle: bytes, end: bytes, commits: str) -> Any:
    """What a line shows between head and middle, which with the salt that follows gives what its entry commits to.

    The commitment is HMAC-SHA256 (RFC 2104): only who has the data and its salt can show what was committed to.
    """
    shown, _, rest = line[len(head) :].rpartition(middle)
    if line != head + shown + middle + rest[:44] + end:
        _refuse("a line that is not this event's (changed, added, or another left out)")
    salt = unbase64(rest[:44].decode(), 32).ljust(64, b"\0")
    inner = sha256(salt.translate(INNER), b"rescind/commitment/v1\n", label, b"\n", shown)
    is_so = sha256(salt.translate(OUTER), inner).hex() == commits
    return canonical(shown) if is_so else _refuse("data that the event's entry does not commit to")


def erasure(line: bytes, head: bytes, end: bytes, erasures: Sequence[int]) -> int | None:
    """Which erasure the line names in place of what it took away; None if nothing was erased."""
    found = [by for by in erasures if line == head % by + end]
    return found[0] if found else _refuse(f"a line of what entry {erasures[0]} erased") if erasures else None


def row_of(index: int, leaf: Any, event: Any, state: str | None, *, erased: bool) -> list[Any]:
    """What events.csv and events.parquet say of an event, by `COLUMNS`."""
    fact, its, breaches = leaf["facts"].get, event.get, leaf["facts"].get("breaches")
    item: Any = its("item") or {}
    row = [index, leaf["id"], leaf["logged_at"], fact("received_at"), leaf["kind"], fact("provider"), fact("source")]
    row += [fact("event"), fact("effect"), fact("via"), fact("scheme"), item.get("type"), item.get("id")]
    row += [its("account"), its("operation"), its("occurred_at"), its("extent"), its("amount"), its("quantity")]
    return [*row, its("reason"), None if breaches is None else " ".join(breaches), state, fact("test"), erased]


def csv_line(row: Sequence[Any]) -> bytes:
    """A line as RFC 4180 has it, and no text in it that a spreadsheet takes for a formula."""
    words = ["" if one is None else one if isinstance(one, str) else str(one).lower() for one in row]
    words = [f"'{word}" if word[:1] in FORMULA else word for word in words]
    line = ",".join(words)
    if line.count(",") >= len(words) or '"' in line or "\r" in line or "\n" in line:
        line = ",".join('"' + word.replace('"', '""') + '"' if set(word) & set(',"\r\n') else word for word in words)
    return f"{line}\r\n".encode()


class Verifier:
    """What is known of a bundle on the way through it."""

    def __init__(self, path: Path, keys: Sequence[Key]) -> None:
        self.path, self.keys, self.members, self.asked = path, keys, open_zip(path), dict[str, Any]()
        self.told, self.gone = dict[str, int](), dict[str, dict[int, str]]()  # by event: cross-checks and erasures
        self.start = self.first = self.end = 0

    def stream(self, name: str) -> Any:
        raw: Any = zipfile.ZipFile(self.path).open(name)  # noqa: SIM115  (whoever reads it holds it)
        return io.BufferedReader(raw, 1 << 20)

    def read(self, name: str) -> bytes:
        need(name, self.members[name].file_size <= AT_ONCE, "it is larger than it can be")
        return self.stream(name).read()

    def sum(self, name: str) -> str:
        return hashlib.file_digest(self.stream(name), "sha256").hexdigest()

    def lines(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """The lines of a file, or of those of a folder, without their newlines, each with its place."""
        for name in [name for name in self.members if name.startswith(folder)]:
            for number, line in enumerate(iter(partial(self.stream(name).readline, AT_ONCE), b""), 1):
                if line[-1:] != b"\n":
                    raise Wrong(f"{name} line {number}", "it does not end in a newline")
                yield f"{name} line {number}", line[:-1]

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """The entries of the range, each of which stands after its length."""
        stream = self.stream("entries.bin")
        for index in range(self.start, self.end):
            size = int.from_bytes(length := stream.read(2), "big")
            entry = stream.read(size)
            need(f"entries.bin entry {index}", length, "it is not there")
            if len(length) + len(entry) != 2 + size:
                raise Wrong("entries.bin", "it ends within an entry")
            yield index, entry
        need("entries.bin", not stream.read(1), "it goes on after the range")

    def proof(self, name: str) -> tuple[int, bytes, Any, bytes, Checkpoint]:
        """An entry that a tlog-proof (C2SP) proves: index, bytes, value; its checkpoint, as it stands and as read."""
        head, _, note = self.read(name).partition(b"\n\n")
        title, extra, index, *hashes = head.decode().split("\n")
        shown, checkpoint = canonical(unbase64(extra[6:])), open_checkpoint(note, self.keys)
        closed = {"delivery": None, "entry": shown["entry"], "event": None, "issuer": None}
        is_proof = (title, extra[:6], index[:6]) == ("c2sp.org/tlog-proof@v1", "extra ", "index ")
        entry, position = unbase64(shown["entry"]), canonical(index[6:].encode())
        need(
            name, is_proof and shown == closed and is_included(entry, position, checkpoint, hashes), "it proves nothing"
        )
        return position, entry, canonical(entry), note, checkpoint

    def heed(self, index: int, entry: bytes) -> None:
        """Keep what an entry says of earlier events: how one stands by a cross-check, or that openings were erased."""
        if b',"kind":"cross_check",' in entry or b',"kind":"erasure",' in entry:
            kind, facts = (leaf := canonical(entry))["kind"], leaf["facts"]
            if kind == "cross_check":
                self.told[facts["first"]] = index * len(STATES) + STATES.index(facts["state"])
            for id_ in facts["ids"] if kind == "erasure" else ():
                self.gone.setdefault(id_, {})[index] = {"all": "all", "delivery": "delivery"}[facts["state"]]

    def survey(self, hashes: Sequence[str], log: Checkpoint) -> None:
        """The entries are the log's; they are those of the period; and what they say of earlier ones is kept."""
        nodes, block = proven(outside(0, log[1], self.start, self.end), hashes), dict[Span, bytes]()
        for index, entry in self.entries():
            block[index, index + 1] = sha256(b"\0", entry)
            if (index + 1) % BLOCK == 0 or index + 1 == self.end:
                low = index + 1 - BLOCK
                nodes |= {(low, index + 1): root_of(low, index + 1, block)} if len(block) == BLOCK else block
                block = {}
        need("entries.bin", root_of(0, log[1], nodes) == log[2], "with proof/range.json it does not give the root")
        since, until, is_logged, before = self.asked["since"], self.asked["until"], self.asked["basis"] == "logged", ""
        for index, entry in self.entries():
            when, place = entry[-35:-8].decode(), _place[0]
            need(place, entry[-49:-35] == b',"logged_at":"' and entry[-8:] == b'","v":1}', "it is no leaf")
            need(place, when >= before, f"it was logged at {when}, before the one that it follows")
            before = when
            self.heed(index, entry)
            is_so = (when >= since) == (index >= self.first)
            need("manifest.json range.first", is_so, f"entry {index} was logged at {when}")
            is_so = not is_logged or (when >= until) == (index == self.end - 1)
            need("manifest.json range.end", is_so, f"entry {index} was logged at {when}")

    def why_not(self, leaf: Any) -> str | None:
        """Why a leaf is not among the events, as far as it tells by itself; empty if it is nothing that came."""
        kind, facts, asked = leaf["kind"], leaf["facts"], self.asked
        if kind not in {"revocation", "context"} and not (kind == "attempt" and facts.get("effect") is not None):
            return {"mismatch": "mismatches", "quarantine": "quarantined"}.get(kind, "")
        if facts.get("test") and not asked["tests"]:
            return "tests"
        if asked["providers"] is not None and facts["provider"] not in asked["providers"]:
            return "other_providers"
        time = leaf["logged_at"] if asked["basis"] == "logged" else facts["received_at"]
        return None if asked["basis"] == "occurred" or asked["since"] <= time < asked["until"] else "outside"

    def part(self, which: int, of: int) -> tuple[Any, ...]:
        """The entries, and the lines, payloads and rows of the events among them, side by side.

        Each of so many processes goes through all of it, and checks its share of the blocks. Gives how many
        events are alike, why others are not among them, the tallies, the events' indexes, and which entries they name.
        """
        since, until, basis, number = self.asked["since"], self.asked["until"], self.asked["basis"], 0
        kinds, reasons, tallies = Counter[tuple[Any, ...]](), Counter[str | None](), list[Any]()
        named, indexes = set[int | None](), list[int]()
        lines, payloads, csv = self.lines("events.jsonl"), self.lines("payloads/"), self.stream("events.csv")
        need(
            "events.csv header", csv.readline(AT_ONCE) == csv_line(COLUMNS), "it does not name the columns of a bundle"
        )
        ahead = next(lines, END)
        for index, entry in self.entries():
            tail = b',"index":%d,"leaf":%b,"salt":' % (index, entry)
            is_mine, has_line = index // BLOCK % of == which, tail in ahead[1]
            leaf = read_leaf(entry) if is_mine else {}
            if is_mine:
                if leaf["kind"] == "tally":
                    tallies.append((index, leaf["facts"]))
                is_over = basis == "logged" and leaf["logged_at"] >= until
                reason = "" if index < self.first or is_over else self.why_not(leaf)
                if reason is None and basis == "occurred" and not has_line:
                    reason = "outside"  # as only its own data says, which is not here
                reasons[reason] += 1
                has_line = reason is None
            if not has_line:
                continue
            line, ahead, (body_at, body), row = ahead[1], next(lines, END), next(payloads, END), csv.readline(AT_ONCE)
            while row.count(b'"') % 2:  # a newline within quotes
                row += csv.readline(AT_ONCE) or b'"'
            number += 1
            if not is_mine:
                continue
            need(f"events.jsonl line {number} (entry {index})")
            facts, id_, event, erasures = leaf["facts"], leaf["id"], dict[str, Any](), self.gone.get(leaf["id"], {})
            by, code = divmod(self.told.get(id_, -1), len(STATES))
            by, state = (by, STATES[code]) if by >= 0 else (None, None)
            stands = f'"cross_check":"{state}","entry":{by}' if state else '"cross_check":null,"entry":null'
            stands = b'"stands":{%b}}' % stands.encode()
            wholly = [one for one, extent in erasures.items() if extent == "all"]
            gone_by = erasure(line, b'{"erased":true,"erased_by":%d,"event":null', tail + b"null," + stands, wholly)
            if gone_by is None:
                head = b'{"erased":false,"erased_by":null,"event":'
                event = opening(line, head, b"event", tail + b'"', b'",' + stands, leaf["event"])
            time = event.get("occurred_at")
            when = "undated" if time is None else "before" if time < since else "inside" if time < until else "after"
            need(_place[0], basis != "occurred" or gone_by or when == "inside", "it did not occur in the period")
            place = f"payloads/{(number - 1) // PER_FILE:06d}.jsonl line {(number - 1) % PER_FILE + 1}"
            need(
                min(place, body_at)[:21], body_at in {"", place}, f"all of payloads but the last have {PER_FILE} lines"
            )
            need(f"{place} (entry {index})")
            middle = b',"index":%d,"salt":' % index
            body_by = erasure(body, b'{"delivery":null,"erased_by":%d', middle + b"null}", [*erasures])
            if body_by is None:
                middle = b',"erased_by":null' + middle + b'"'
                came = opening(body, b'{"delivery":', b"delivery", middle, b'"}', leaf["delivery"])
                is_so = came.keys() == {"body", "headers"} and isinstance(came["headers"], dict)
                need(_place[0], is_so, "it is no delivery")
                unbase64(came["body"])
            its = csv_line(row_of(index, leaf, event, state, erased=gone_by is not None))
            need(
                f"events.csv row {number} (entry {index})", row == its, "it is not what events.jsonl says of the event"
            )
            indexes.append(index)
            named |= {by, gone_by, body_by}
            effect, breaches = facts.get("effect") or "none", facts.get("breaches") or ()
            is_late, is_erased = leaf["logged_at"] >= until, gone_by is not None
            kinds[effect, facts["provider"], state or "untold", when, is_late, is_erased, *breaches] += 1
        for place, line in chain([ahead] if ahead != END else [], payloads):
            its = re.search(rb'"index":(0|[1-9][0-9]{0,15}),"(?:leaf|salt)":', line)
            raise Wrong(f"{place} (entry {int(its[1])})" if its else place, "it is of no event that belongs here")
        need(f"events.csv row {number + 1}", not csv.read(1), "it is of no event")
        return kinds, reasons, tallies, indexes, named

    def tallies(self, found: Sequence[tuple[int, Any]]) -> dict[str, Any]:
        """By day and source what came, by the tallies that end in the period; and the hours that none covers."""
        since, until, days = self.asked["since"], self.asked["until"], dict[tuple[str, str], Any]()
        sources, gaps = dict[str, list[Any]](), list[dict[str, str]]()
        for index, facts in found:
            need(f"entries.bin entry {index}")
            source, begin, end = facts["source"], facts["from"], facts["until"]
            numbers = {name: number for name, number in facts["counts"].items() if name != "refused"}
            refused = Counter[str](facts["counts"]["refused"])
            is_so = TIME.fullmatch(begin) and TIME.fullmatch(end) and numbers.keys() == COUNTED
            is_so = is_so and 2 * numbers["deliveries"] == sum(numbers.values()) + refused.total()
            need(_place[0], is_so, "its counts do not add up")
            sources.setdefault(source, [begin]).append(("", "") if facts["incomplete"] else (begin, end))
            if since <= end < until:
                day = days.setdefault((end[:10], source), {"day": end[:10], "source": source})
                day |= {name: day.get(name, 0) + number for name, number in numbers.items()}
                day["incomplete"] = day.get("incomplete", False) or facts["incomplete"]
                day["refused"] = day.get("refused", Counter()) + refused
        for source, (begin, *covered) in sorted(sources.items()):
            first = reached = max(since, begin)
            for low, high in [*sorted(covered), (until, until)]:
                if reached < (hole := min(low, until)):  # of what is not covered, the whole hours
                    hour = datetime.fromisoformat(hole[:13] + ":00:00") + timedelta(hours=hole[13:] != HOUR)
                    start, end = max(reached[:13] + HOUR, first), min(f"{hour:%Y-%m-%dT%H}{HOUR}", until)
                    if gaps and gaps[-1]["source"] == source and gaps[-1]["until"] >= start:
                        start = gaps.pop()["from"]
                    gaps.append({"from": start, "source": source, "until": end})
                reached = max(reached, high)
        return {"days": [days[place] for place in sorted(days)], "gaps": gaps}

    def parquet(self, number: int) -> None:
        """That events.parquet has the same rows as events.csv, and types."""
        need("events.parquet")
        file = import_module("pyarrow.parquet").ParquetFile(self.stream("events.parquet"))
        schema = [(one.name, str(one.type)) for one in file.schema_arrow]
        types = {"index": "int64", "test": "bool", "erased": "bool"}
        is_so = schema == [(name, types.get(name, "string")) for name in COLUMNS] and file.metadata.num_rows == number
        need("events.parquet", is_so, "it has other columns than events.csv, or not so many rows")
        rows = (row for batch in file.iter_batches(4096) for row in zip(*batch.to_pydict().values(), strict=True))
        for count, (row, (_, line)) in enumerate(zip(rows, self.lines("events.jsonl"), strict=True), 1):
            its = json.loads(line)
            event: Any = its["event"] or {}
            true = row_of(its["index"], its["leaf"], event, its["stands"]["cross_check"], erased=its["erased"])
            place = f"events.parquet row {count} (entry {its['index']})"
            need(place, [*row] == true, "it is not what events.jsonl says of the event")

    def same(self, said: Any, true: Any, place: str, levels: int = 0) -> None:
        """That what is said there is so; else the first member of it that is not so is named."""
        kinds: set[Any] = {type(said), type(true)}
        if kinds == {dict} and levels:
            for name in sorted({*said, *true}):
                self.same(said.get(name), true.get(name), f"{place}{'.' if ' ' in place else ' '}{name}", levels - 1)
        pairs: Any = zip_longest(said, true) if kinds == {list} else ()
        for number, (one, other) in enumerate(pairs):
            self.same(one, other, f"{place}[{number}]")
        text, right = _write_json(said), _write_json(true)
        need(place, text == right, f"it says {text[:99]}, and it is {right[:99]}")

    def manifest(self, log: Checkpoint, note: bytes, sums: dict[str, Any]) -> Any:
        """What is in the bundle, signed by the key that the log announces; of the export that the log has recorded."""
        _, _, announced, its_note, _ = self.proof(name := "proof/exports-key.tlog-proof")
        facts, key = announced["facts"], parse_key(announced["facts"]["vkey"])
        is_so = (announced["kind"], facts["action"], facts["purpose"]) == ("key", "announced", "exports")
        need(
            name,
            is_so and its_note == note and key[0] == f"{log[0]}/exports",
            "it announces no exports key of this log",
        )
        index, _, export, its_note, _ = self.proof(name := "proof/entry.tlog-proof")
        asked = self.asked = export["facts"]
        is_so = its_note == note and export["kind"] == "export" and asked.keys() == ASKED
        need(name, is_so and asked["basis"] in {"logged", "received", "occurred"}, "it is no entry of an export")
        _, signed, number = open_note(self.read(name := "manifest.json.note"), [key])
        need(name, number == 1 and len(signed) == 3 and signed[0] == "rescind-export/v1", "it is no note of a manifest")
        data = self.read("manifest.json")
        need("manifest.json", signed[2] == sha256(data).hex(), "it is not what its note was signed for")
        said = canonical(data)
        self.start, self.first, self.end = (said["range"][name] for name in ("start", "first", "end"))
        is_subset = asked["providers"] is not None or asked["basis"] == "occurred"
        end = self.end if asked["basis"] == "logged" else index + 1
        true: dict[str, Any] = {
            "schema": "rescind-export/v1",
            "export": export["id"],
            "asked": {"at": export["logged_at"], "by": asked["by"]},
            "log": {"origin": log[0], "root": log[2].hex(), "size": log[1]},
            "period": {name: asked[name] for name in ("basis", "since", "until")},
            "query": {name: asked[name] for name in ("providers", "tests")},
            "population": "subset" if is_subset else "complete",
            "range": {"end": end, "entry": index, "first": self.first, "start": max(self.first - 1, 0)},
        }
        for name, value in true.items():
            self.same(said[name], value, f"manifest.json {name}", 1)
        need("manifest.json.note", signed[1] == export["id"], "it was signed for another export")
        is_so = TIME.fullmatch(asked["since"]) and TIME.fullmatch(asked["until"]) and asked["since"] < asked["until"]
        need(
            "manifest.json period.until",
            is_so and asked["until"] <= export["logged_at"],
            "it was not over at that time",
        )
        is_so = {type(self.first), type(self.end)} == {int} and 0 <= self.first < self.end <= index + 1 <= log[1]
        need("manifest.json range.end", is_so, "there is no such range")
        providers: list[str] = asked["providers"] or []
        need("manifest.json query.providers", providers == sorted({*providers}), "they are not in order, each once")
        others = {"tenant", "counts", "exclusions", "previous", "files", "software"}
        is_so = said.keys() == true.keys() | others and isinstance(said["tenant"], str)
        need("manifest.json", is_so and said["software"][:8] == "rescind ", "its members are not those of a manifest")
        moment = datetime.fromisoformat(export["logged_at"][:19])
        times = {(*moment.timetuple()[:5], moment.second & ~1)}
        need("ZIP", {info.date_time for info in self.members.values()} == times, "its time is not that of the export")
        wanted = {f"payloads/{number:06d}.jsonl" for number in range(-(-said["counts"]["events"] // PER_FILE))}
        wanted |= {"events.parquet"} if asked["parquet"] else set()
        wanted |= {"proof/indexes.json"} if is_subset else set()
        wanted |= set() if said["previous"] is None else {"proof/previous-checkpoint", "proof/consistency.json"}
        always = {*FILES.split()} | {name for name in sums if name.startswith("proof/erasures/")}
        for name in [name for name in {**sums, **said["files"]} if not name.startswith("manifest.json")]:
            need(name, name in always | wanted, "it should not be there")
            need(name, said["files"].get(name) == sums.get(name), "its SHA-256 is not that in manifest.json")
        for name in sorted(wanted):
            need(name, name in self.members, "it is not in the bundle")
        return said

    def check(self) -> list[str]:
        """All of it, in the order in which one thing carries the next. Gives what is to be told."""
        check_names([*self.members])
        sums = dict[str, Any]()
        with futures.ThreadPoolExecutor() as threads:
            each = threads.map(self.sum, self.members)
            for name, info in self.members.items():
                need(name)
                sums[name] = {"sha256": next(each), "size": info.file_size}
        note = self.read("proof/checkpoint")
        log = open_checkpoint(note, self.keys)
        manifest = self.manifest(log, note, sums)
        if manifest["previous"] is not None:
            old = open_checkpoint(self.read("proof/previous-checkpoint"), self.keys)
            self.same(manifest["previous"], {"root": old[2].hex(), "size": old[1]}, "manifest.json previous")
            grown = canonical(self.read(name := "proof/consistency.json"))
            self.same(grown, {"hashes": grown["hashes"], "new_size": log[1], "old_size": old[1]}, name)
            need(name, is_consistent(old, log, grown["hashes"]), "it does not show that the log has only grown")
        given = canonical(self.read(name := "proof/range.json"))
        self.same(given, {"end": self.end, "hashes": given["hashes"], "start": self.start}, name)
        need("proof/range.json hashes")
        self.survey(given["hashes"], log)
        later, before = dict[int, str](), self.end - 1
        for place, line in self.lines("proof/later.jsonl"):
            need(place)
            index, entry = (its := canonical(line))["index"], unbase64(its["entry"])
            need(name := f"{place} (entry {index})", its.keys() == {"entry", "index", "proof"})
            need(name, index > before, "it is not in order")
            need(name, is_included(entry, index, log, its["proof"]), "it does not prove its entry")
            self.heed(index, entry)
            later[index], before = name, index
        for name in [name for name in self.members if name.startswith("proof/erasures/")]:
            index, entry, leaf, _, its_log = self.proof(name)
            is_so = leaf["kind"] == "erasure" and name == f"proof/erasures/{index}.tlog-proof" and log[1] <= index
            need(name, is_so and its_log[0] == log[0], "it is no later erasure of this log")
            self.heed(index, entry)
            later[index] = name
        kinds, reasons, tallies, indexes, named = self.parts()
        for index, place in later.items():
            need(place, index in named, "it says nothing of an event of the bundle")
        if "proof/indexes.json" in self.members:
            text, its = self.stream("proof/indexes.json"), _write_json(indexes).encode()
            need("proof/indexes.json", text.read(len(its) + 1) == its, "they are not the indexes of the events")
        true: dict[str, Any] = {"entries": self.end - self.start, "events": len(indexes)}
        for place, name in enumerate(("by_effect", "by_provider", "by_cross_check", "occurred", "late", "erased")):
            true[name] = Counter[Any]()
            for kind, number in kinds.items():
                true[name][kind[place]] += number
        true |= {"late": true["late"][True], "erased": true["erased"][True], "by_breach": Counter[str]()}
        for kind, number in kinds.items():
            true["by_breach"].update(dict.fromkeys(kind[6:], number))
        occurred = {name: true["occurred"][name] for name in ("after", "before", "inside", "undated")}
        del true["occurred"]
        self.same(manifest["counts"], true, "manifest.json counts", 1)
        true = {name: reasons[name] for name in REASONS}
        self.same(manifest["exclusions"], true, "manifest.json exclusions", 1)
        said, true = canonical(self.read("tallies.json")), self.tallies(tallies)
        need("tallies.json cut_off.outside")  # of what is not here, only the operator can say how much it is
        apart = {
            name: abs(_integer(str(said["cut_off"]["outside"][name]))) for name in ("logged_after", "logged_before")
        }
        self.same(said, {"cut_off": {"events": occurred, "outside": apart}, **true}, "tallies.json", 3)
        return self.words(manifest, log)

    def parts(self) -> tuple[Counter[Any], Counter[Any], list[Any], list[int], set[int]]:
        """What all parts give together; in a large bundle they are shared among the processors."""
        number = (os.cpu_count() or 1) if self.end - self.start >= MANY else 1
        _verifiers.append(self)
        try:
            if number == 1:
                found = [_part(0, 1)]
            else:
                with futures.ProcessPoolExecutor(number, initializer=_verifiers.append, initargs=(self,)) as pool:
                    found = [*pool.map(_part, range(number), [number] * number)]
        except (Wrong, futures.BrokenExecutor):
            found = [_part(0, 1)]  # one after another, so that what comes first is named
        kinds, reasons = sum((one[0] for one in found), Counter[Any]()), sum((one[1] for one in found), Counter[Any]())
        tallies, indexes = (sorted(chain.from_iterable(one[at] for one in found)) for at in (2, 3))
        return kinds, reasons, tallies, indexes, set[int]().union(*(one[4] for one in found))

    def words(self, manifest: Any, log: Checkpoint) -> list[str]:
        """What was found, and what it shows, for people."""
        asked, counts, previous = self.asked, manifest["counts"], manifest["previous"]
        is_complete, parquet = manifest["population"] == "complete", "there is no events.parquet"
        if "events.parquet" in self.members:
            parquet = "events.parquet only by its hash, for pyarrow is not installed"
            if util.find_spec("pyarrow"):
                self.parquet(counts["events"])
                parquet = "events.parquet by value"
        what = "all events of the period, complete and unchanged" if is_complete else "a SUBSET of events, unchanged"
        grown = f"grown from the {previous['size']} of the export before" if previous else "no export before"
        shown = "complete as to what Rescind recorded; complete as to what the provider did only where cross-checked"
        return [
            f"VERIFIED: {what}.\n",
            f"  log         {log[0]}",
            f"  checkpoint  {log[1]} entries, {grown}",
            f"  root        {log[2].hex()}",
            f"  asked       by {asked['by']} at {manifest['asked']['at']}, export {manifest['export']}",
            f"  period      {asked['since']} until before {asked['until']}, as {asked['basis']}",
            f"  providers   {', '.join(asked['providers'] or ['all'])}; tests {'too' if asked['tests'] else 'not'}",
            f"  events      {counts['events']}, of them {counts['late']} late arrivals and {counts['erased']} erased",
            f"  entries     {self.start} to {self.end - 1}",
            f"  compared    everything; {parquet}\n",
            f"What it shows: {shown if is_complete else 'what is here; it is not all that the log has of the period'}.",
            "The operator's word alone: the tenant's name, the software, what tallies.json says of events outside,",
            "and that no later cross-check stands among the entries that are not here. Cosignatures of witnesses",
            "were not looked at; `translog verify` does that. Without witnesses, two auditors could be shown two",
            "logs: compare the root.\n",
            "If this verifier came with the bundle, its verdict proves nothing by itself: compare its SHA-256 with",
            "that in the project's docs/verify.md, or use `translog verify`. The key must come from elsewhere, too.",
        ]


_verifiers: list[Verifier] = []  # in each process, the one that it works for


def _part(which: int, of: int) -> tuple[Any, ...]:
    return judged(lambda: _verifiers[-1].part(which, of))


def judged(check: Callable[[], Any]) -> Any:
    """What the check gives. Whatever cannot be read as what it must be is wrong at the place that is being read."""
    try:
        return check()
    except Wrong:
        raise
    except InvalidSignature:
        raise Wrong(_place[0], "its signature does not verify: it was changed") from None
    except Exception as error:  # noqa: BLE001  (whatever is wrong with a file, it ends in this verdict)
        raise Wrong(_place[0], f"it is not as docs/export-format.md has it: {error}") from None


def main() -> int:
    """Run the command; gives the exit status."""
    parser = argparse.ArgumentParser(description="Verify an export bundle of Rescind, offline.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE.zip", help="the file as it was downloaded")
    parser.add_argument(
        "--key", action="append", required=True, metavar="VKEY", help="the log's key, or a file with it"
    )
    given = parser.parse_args()
    try:
        keys = [parse_key(key if "+" in key else Path(key).read_text()) for key in given.key]
        given.bundle.open("rb").close()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        words, status = judged(lambda: Verifier(given.bundle, keys).check()), 0
    except Wrong as wrong:
        words, status = [f"NOT VERIFIED: {': '.join(wrong.args)}"], 1
    text = "\n".join(words).encode("ascii", "backslashreplace").decode() + "\n"  # and nothing that moves the cursor
    (sys.stderr if status else sys.stdout).write(re.sub(r"[^\n -~]", lambda one: f"\\x{ord(one[0]):02x}", text))
    return status


if __name__ == "__main__":
    sys.exit(main())
