"""Verify an export bundle of Rescind, offline and without Rescind.

    python verify.py BUNDLE.zip --key VKEY        VKEY: the log's key, or a file with it; of several, any one

It takes Python 3.11 or later and `cryptography`. Exit status 0: all of it holds, and what that shows is said; 1: the
first file, line or entry that is wrong is named; 2: called wrongly, or this machine could not finish.

**A verifier that comes with the evidence proves nothing by itself.** Compare its SHA-256 with the one in the project's
docs/verify.md, or use `translog verify`, which is other code. **The key must come from somewhere else**, too.

What is checked is laid down in docs/export-format.md. Read this file from top to bottom: first the small tools (JSON,
base64, the ZIP, signed notes, the tree), then what is checked of a piece of the log, and in the end `Verifier`, which
does it all in the order in which one thing carries the next:

    the ZIP                      everybody who reads it sees the same files
    proof/checkpoint             signed by the log, whose key was given
    proof/…key, proof/entry      entries of that log: the exports key, and what was asked for
    manifest.json                signed by that key; answers that question; names every file with its SHA-256
    entries.bin                  with proof/range.json gives the root that the log has signed
    events.jsonl, payloads/      open what these entries commit to, of all events of the period and no others
    all that is counted          worked out once more, and compared

Nothing is extracted. Nothing is read into memory before its size was looked at.
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
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache, partial
from importlib import import_module, util
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SCHEMA = "rescind-export/v1"
MANIFEST, NOTE = "manifest.json", "manifest.json.note"
EVENTS, CSV, PARQUET, ENTRIES = "events.jsonl", "events.csv", "events.parquet", "entries.bin"
CHECKPOINT, RANGE, LATER = "proof/checkpoint", "proof/range.json", "proof/later.jsonl"
ENTRY_PROOF, KEY_PROOF = "proof/entry.tlog-proof", "proof/exports-key.tlog-proof"
PREVIOUS, CONSISTENCY, INDEXES = "proof/previous-checkpoint", "proof/consistency.json", "proof/indexes.json"
TALLIES = "tallies.json"
FOR_PEOPLE = ("REPORT.html", "README.txt", "verify.py")
ERASURE = re.compile("proof/erasures/(0|[1-9][0-9]{0,17})[.]tlog-proof")

COLUMNS = (
    *("index", "id", "logged_at", "received_at", "kind", "provider", "source", "event", "effect", "via", "scheme"),
    *("item_type", "item_id", "account", "operation", "occurred_at", "extent", "amount", "quantity", "reason"),
    *("breaches", "cross_check", "test", "erased"),
)
EVENT_TEXTS = ("account", "operation", "occurred_at", "extent", "amount", "quantity", "reason")
STATES = ("confirmed", "contradicted", "absent", "pending", "none")  # of a cross-check
OUTCOMES = ("duplicate", "ignored", "mismatch", "quarantined", "recorded")  # of a delivery, in a tally
EXCLUDED = {"quarantine": "quarantined", "mismatch": "mismatches"}
PER_FILE = 100_000  # payloads in a file

# How much is read at most. What is larger is refused before it is read.
SMALL = 1 << 21  # bytes of a file that is read whole
MAX_MANIFEST = 1 << 25
MAX_DIRECTORY, MAX_MEMBERS = 1 << 24, 100_000  # of the ZIP
MAX_LINE = 1 << 24
MAX_ENTRY = 65_535
MAX_NOTE, MAX_SIGNATURES = 1_000_000, 100
MAX_NESTING = 64  # arrays and objects within one another
MAX_INTEGER = 2**53 - 1  # what every reader of JSON keeps exactly
BLOCK = 1 << 20  # bytes that are read at once

CHUNK = 4096  # entries that are checked together: a power of two, so that they are one subtree of the log
MANY = 20_000  # entries from which on several processes share the work
MOST_PROCESSES = 8


class Wrong(Exception):  # noqa: N818  (it is the verdict)
    """What is wrong: the place (a file, a line or an entry of it, a member), and why."""


class Refused(Exception):  # noqa: N818
    """Why something is not what it must be. Whoever reads it knows the place, and makes it `Wrong`."""


class Unable(Exception):  # noqa: N818
    """Why it cannot be told here whether the bundle is right."""


Result = TypeVar("Result")


def at(place: str, read: Callable[..., Result], *arguments: Any) -> Result:
    """What `read` gives. If it refuses, that is wrong at this place."""
    try:
        return read(*arguments)
    except Refused as error:
        raise Wrong(place, str(error)) from None


def need(place: str, holds: object, why: str) -> None:
    """Go on only if that holds."""
    if not holds:
        raise Wrong(place, why)


# ---- JSON and base64: what is hashed or signed has one spelling, and no other is taken ------------------------------


def read_integer(text: str) -> int:
    """Of JSON. The length is looked at first: it takes long to read very many digits."""
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise Refused(f"the number {text[:40]} is too large")
    return int(text)


def refuse_number(text: str) -> None:
    """Of JSON: what is no integer."""
    raise Refused(f"the number {text[:40]} is no integer")


READ_JSON = json.JSONDecoder(parse_int=read_integer, parse_float=refuse_number, parse_constant=refuse_number)
WRITE_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)


def canonical(data: bytes) -> Any:
    """The value of canonical JSON: written again, it gives the same bytes."""
    try:
        value = READ_JSON.decode(data.decode())
        written = WRITE_JSON.encode(value).encode()
    except RecursionError:
        raise Refused(f"it is JSON nested deeper than {MAX_NESTING} levels") from None
    except ValueError:  # of JSON, or of UTF-8
        raise Refused("it is no JSON") from None
    if written != data:
        raise Refused("it is JSON, but not in its one canonical spelling")
    if not data.isascii() or data.count(b"{") + data.count(b"[") > MAX_NESTING:  # else there is nothing to find
        check_names_and_nesting(value)
    return value


def check_names_and_nesting(value: Any) -> None:
    """Refuse names of members that are not ASCII, and too many levels. Goes through the value level by level."""
    containers, depth = containers_of([value]), 0
    while containers:
        depth += 1
        if depth > MAX_NESTING:
            raise Refused(f"it is JSON nested deeper than {MAX_NESTING} levels")
        inner: list[Any] = []
        for one in containers:
            if isinstance(one, dict) and not all(name.isascii() for name in one):
                raise Refused("it is JSON with a member whose name is not ASCII")
            inner += containers_of(one.values() if isinstance(one, dict) else one)
        containers = inner


def containers_of(values: Any) -> list[Any]:
    """The objects and arrays among these values."""
    return [one for one in values if isinstance(one, (dict, list))]


def shown(value: Any) -> str:
    """A value as it is written in messages: not too long."""
    text = WRITE_JSON.encode(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def members(value: Any, *names: str) -> dict[str, Any]:
    """An object with exactly these members; with any, if none are given."""
    if not isinstance(value, dict):
        raise Refused(f"it is {shown(value)}, and no object")
    found: dict[str, Any] = value
    if names and found.keys() != set(names):
        raise Refused(f"its members are {', '.join(sorted(found))[:200]}; they must be {', '.join(sorted(names))}")
    return found


def array(value: Any) -> list[Any]:
    """A list of anything."""
    if not isinstance(value, list):
        raise Refused(f"it is {shown(value)}, and no array")
    found: list[Any] = value
    return found


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise Refused(f"it is {shown(value)}, and no text")
    return value


def text_or_null(value: Any) -> str | None:
    """A string, or nothing."""
    return None if value is None else text(value)


def boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Refused(f"it is {shown(value)}, and not true or false")
    return value


def number(value: Any) -> int:
    """An integer from 0 on. (For Python `True` is an integer; for us it is not.)"""
    if type(value) is not int or value < 0:
        raise Refused(f"it is {shown(value)}, and no number from 0 on")
    return value


@lru_cache(1024)
def is_time(found: str) -> bool:
    """Whether it is a moment as bundles write it, of a day that there is."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z", found):
        return False
    try:
        datetime.fromisoformat(found)
    except ValueError:
        return False
    return True


def time(value: Any) -> str:
    """A moment in UTC. As all are written alike, they compare as texts."""
    if not is_time(text(value)):
        raise Refused(f"it is {shown(value)}, and no time like 2026-07-01T00:00:00.000000Z")
    return value


def unbase64(encoded: str | bytes, size: int | None = None) -> bytes:
    """The bytes of canonical base64; so many, if that is told."""
    try:
        data = binascii.a2b_base64(encoded)
        written = binascii.b2a_base64(data, newline=False)
    except ValueError:
        data = written = b""
    if written != (encoded.encode() if isinstance(encoded, str) else encoded):
        raise Refused("there is something in the place of base64, or base64 in another spelling")
    if size not in {None, len(data)}:
        raise Refused(f"there are {len(data)} bytes in base64 where {size} must be")
    return data


BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def check_base64(encoded: bytes) -> None:
    """Refuse what is not canonical base64. It goes by groups of four letters; only the last one leaves a choice."""
    if len(encoded) % 4 or encoded[:-4].translate(None, BASE64):
        raise Refused("its body is not base64")
    unbase64(encoded[-4:])


def sha256(*parts: bytes) -> bytes:
    """Of all of it together."""
    return hashlib.sha256(b"".join(parts)).digest()


# ---- the ZIP: members stored, one after another ---------------------------------------------------------------------
#
# Every header has one spelling. So each is written again from the few things that it says (name, time, CRC-32, size,
# place), and must be what is there. Then nothing is left in which two readers could see different files.

FULL = 0xFFFFFFFF  # stands for a number that needs 64 bits, which is in a field of its own then
ZIP_ENTRY = struct.Struct("<4s4HL3L5H2L")
ZIP_END = struct.Struct("<4s4H2LH")
ZIP64_END = struct.Struct("<4sQ2H2L4Q")
ZIP64_LOCATOR = struct.Struct("<4sLQL")
NAME = re.compile(rb"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")


class Member(NamedTuple):
    """A file of the bundle: where its bytes are in the ZIP, and their CRC-32."""

    name: str
    start: int
    size: int
    crc: int

    @property
    def end(self) -> int:
        return self.start + self.size


class Header(NamedTuple):
    """What the ZIP says of a member, twice: before it and in the directory. `time` is in the 32 bits of MS-DOS."""

    name: bytes
    time: int
    crc: int
    size: int
    offset: int

    def local(self) -> bytes:
        """What must stand before the member."""
        wide = wide_field([self.size, self.size] if self.size >= FULL else [])
        return b"PK\3\4" + self._common(wide) + self.name + wide

    def central(self) -> bytes:
        """What must stand in the directory."""
        numbers = [self.size, self.size] if self.size >= FULL else []
        if self.offset >= FULL:
            numbers.append(self.offset)
        wide = wide_field(numbers)
        made_by_unix = struct.pack("<2B", 45 if wide else 20, 3)
        plain_file = struct.pack("<3H2L", 0, 0, 0, 0o100644 << 16, min(self.offset, FULL))
        return b"PK\1\2" + made_by_unix + self._common(wide) + plain_file + self.name + wide

    def _common(self, wide: bytes) -> bytes:
        version, size = 45 if wide else 20, min(self.size, FULL)
        return struct.pack("<3H4L2H", version, 0, 0, self.time, self.crc, size, size, len(self.name), len(wide))


def wide_field(numbers: Sequence[int]) -> bytes:
    """The field that holds the numbers that need 64 bits."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def read_header(directory: bytes, position: int) -> tuple[Header, int]:
    """The header at that position of the directory, and the position after it."""
    need("ZIP", directory[position:].startswith(b"PK\1\2", 0, 4), "its directory is damaged")
    need("ZIP", len(directory) - position >= ZIP_ENTRY.size, "its directory is cut short")
    fields = ZIP_ENTRY.unpack_from(directory, position)
    _, _, _, flags, method, moment, crc, _, size, name_size, wide_size, _, _, _, _, offset = fields
    name_at = position + ZIP_ENTRY.size
    wide_at = name_at + name_size
    end = wide_at + wide_size
    name = directory[name_at:wide_at]
    is_name = NAME.fullmatch(name) and b".." not in name and len(name) < 256
    need("ZIP", is_name, f"{shown(name.decode(errors='replace'))} is no name of a file of a bundle")
    place = name.decode()
    need(place, not flags & 1, "it is encrypted, which nothing in a bundle is")
    need(place, not method, "it is packed, which nothing in a bundle is: verify the file as it was downloaded")
    wide = [one for (one,) in struct.iter_unpack("<Q", directory[wide_at + 4 : end])] if wide_size % 8 == 4 else []
    if size == FULL and len(wide) >= 2:
        size, wide = wide[0], wide[2:]
    if offset == FULL and wide:
        offset = wide[0]
    header = Header(name, moment, crc, size, offset)
    need(place, header.central() == directory[position:end], "what the directory says of it is not as in a bundle")
    return header, end


def zip_end(count: int, size: int, start: int) -> bytes:
    """What must follow a directory of so many members and bytes, which begins there."""
    wide = b""
    if count >= 0xFFFF or start >= FULL:
        wide = ZIP64_END.pack(b"PK\6\6", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, start)
        wide += ZIP64_LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    short = min(count, 0xFFFF)
    return wide + ZIP_END.pack(b"PK\5\6", 0, 0, short, short, size, min(start, FULL), 0)


def read_directory(file: BinaryIO, file_size: int) -> tuple[bytes, int, int]:
    """The bytes of the directory, where it begins, and how many members it says there are."""
    whole = ZIP64_END.size + ZIP64_LOCATOR.size + ZIP_END.size
    tail = read_at(file, max(0, file_size - whole), min(whole, file_size))
    is_end = len(tail) >= ZIP_END.size and tail[-ZIP_END.size :].startswith(b"PK\5\6")
    need("ZIP", is_end, "it does not end as a ZIP does: is it whole, as it was downloaded?")
    _, _, _, _, count, size, start, _ = ZIP_END.unpack(tail[-ZIP_END.size :])
    if count == 0xFFFF or start == FULL:
        need("ZIP", len(tail) == whole, "its end is cut short")
        *_, count, size, start = ZIP64_END.unpack(tail[: ZIP64_END.size])
    need("ZIP", size <= MAX_DIRECTORY and count <= MAX_MEMBERS, "it has more files than a bundle can have")
    end = zip_end(count, size, start)
    need("ZIP", start + size + len(end) == file_size and tail.endswith(end), "its end is not as in a bundle")
    return read_at(file, start, size), start, count


def read_at(file: BinaryIO, start: int, size: int) -> bytes:
    """The bytes at that place, all of them."""
    file.seek(start)
    data = file.read(size)
    need("ZIP", len(data) == size, "it is shorter than it says, or was cut while it was read")
    return data


@dataclass(frozen=True)
class Bundle:
    """A ZIP of which everything was checked but what is in its members."""

    path: Path
    members: Mapping[str, Member]
    time: int
    state: tuple[int, int]
    """Size and time of the file, to notice if it changes."""

    def read(self, name: str, limit: int = SMALL) -> bytes:
        """A whole file of the bundle, if it is not larger than that."""
        need(name, name in self.members, "it is not in the bundle")
        member = self.members[name]
        need(name, member.size <= limit, f"it has {member.size} bytes, more than such a file can have")
        with self.path.open("rb") as file:
            data = read_at(file, member.start, member.size)
        need(name, zlib.crc32(data) == member.crc, "its CRC-32 is not that in the ZIP: it was changed or damaged")
        return data

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """That piece of the ZIP, a block at a time."""
        with self.path.open("rb") as file:
            for position in range(start, end, BLOCK):
                yield read_at(file, position, min(BLOCK, end - position))

    def sha256(self, start: int, end: int) -> str:
        """Of that piece of the ZIP, in hex."""
        digest = hashlib.sha256()
        for block in self.blocks(start, end):
            digest.update(block)
        return digest.hexdigest()

    def both_sums(self, member: Member) -> tuple[str, int]:
        """SHA-256, in hex, and CRC-32 of a member."""
        digest, crc = hashlib.sha256(), 0
        for block in self.blocks(member.start, member.end):
            digest.update(block)
            crc = zlib.crc32(block, crc)
        return digest.hexdigest(), crc


def open_bundle(path: Path) -> Bundle:
    """The members of a ZIP, after all that is around them was compared."""
    status = path.stat()
    found, offset, position, moment = dict[str, Member](), 0, 0, -1
    with path.open("rb") as file:
        directory, start, count = read_directory(file, status.st_size)
        for _ in range(count):
            header, position = read_header(directory, position)
            name, local = header.name.decode(), header.local()
            need(name, name not in found, "it is in the ZIP twice")
            need(name, header.offset == offset, "it does not begin where the file before it ends")
            need(name, moment in {-1, header.time}, "it has another time than the files before it")
            need(name, read_at(file, offset, len(local)) == local, "the header before it differs from the directory")
            found[name] = Member(name, offset + len(local), header.size, header.crc)
            offset, moment = found[name].end, header.time
    need("ZIP", (offset, position) == (start, len(directory)), "there are bytes in it that belong to no file")
    return Bundle(path, found, moment, (status.st_size, status.st_mtime_ns))


# ---- signed notes and checkpoints (C2SP) ----------------------------------------------------------------------------


class Key(NamedTuple):
    """A key that verifies: its name, its id, and 32 bytes of Ed25519."""

    name: str
    id: bytes
    public: bytes


class Checkpoint(NamedTuple):
    """What a log signs: its origin, how many entries it has, and the hash that stands for all of them."""

    origin: str
    size: int
    root: bytes


def parse_key(vkey: str) -> Key:
    """The key of a vkey, `<name>+<id>+<base64>`. The id follows from name and key, so that slips are noticed."""
    parts = vkey.strip().split("+", 2)
    if len(parts) < 3 or vkey.startswith("PRIVATE+KEY+"):
        raise Refused("it is no vkey, <name>+<id>+<base64>; or a private key, which is to be kept secret")
    name, number_, encoded = parts
    public = unbase64(encoded, 33)
    id_ = sha256(name.encode(), b"\n", public)[:4]
    if name.split() != [name] or public[0] != 1 or id_.hex() != number_:
        raise Refused("it is no vkey of a key of Ed25519, or one with a slip in it")
    check_point(public[1:])
    return Key(name, id_, public[1:])


def check_point(public: bytes) -> None:
    """Refuse what is no public key, and the few points for which anybody can make signatures (RFC 8032, 5.1.3).

    A point is written as its y (and a sign). It is on the curve if (y^2 - 1) / (d y^2 + 1) is a square. Eight of all
    points have a small order; these are their y.
    """
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    y = int.from_bytes(public, "little") & (2**255 - 1)
    of_order_8 = int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    )
    is_on_curve = pow((y * y - 1) * (d * y * y + 1), (p - 1) // 2, p) == 1
    if y >= p or y in {0, 1, p - 1, of_order_8, p - of_order_8} or not is_on_curve:
        raise Refused("it is no sound key of Ed25519")


class Note(NamedTuple):
    """A signed note: which of the keys signed it, the lines of its text, and how many signatures it has."""

    signer: Key
    lines: list[str]
    signatures: int


def open_note(data: bytes, keys: Sequence[Key]) -> Note:
    """A note that one of the keys signed. Every signature by one of them must verify; others are not looked at."""
    try:
        whole = data.decode()
    except ValueError:
        raise Refused("it is no signed note: it is not UTF-8") from None
    body, empty_line, below = whole.rpartition("\n\n")
    lines = below.split("\n", MAX_SIGNATURES + 1)
    if not empty_line or lines.pop() or re.search("[\0-\t\x0b-\x1f]", whole):
        raise Refused("it is no signed note, a text and below it some signatures")
    if len(data) > MAX_NOTE or len(lines) > MAX_SIGNATURES:
        raise Refused(f"it has more than {MAX_NOTE} bytes or {MAX_SIGNATURES} signatures")
    signers: list[Key] = []
    for line in lines:
        match = re.fullmatch(r"\u2014 ([^\s+]+) (\S+)", line)
        blob = unbase64(match[2]) if match else b""
        if match is None or len(blob) < 5:
            raise Refused(f"{shown(line)} is no signature")
        for key in keys:
            if (key.name, key.id) == (match[1], blob[:4]):
                check_signature(key, blob[4:], f"{body}\n".encode())
                signers.append(key)
    if not signers:
        known = ", ".join(f"{key.name}+{key.id.hex()}" for key in keys)
        raise Refused(f"it is not signed by {known}, the key that it should be signed by")
    return Note(signers[0], body.split("\n"), len(lines))


def check_signature(key: Key, signature: bytes, signed: bytes) -> None:
    """Refuse a signature that was not made over that with the key."""
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed)
    except InvalidSignature:
        raise Refused(f"the signature of {key.name} does not verify: it was changed after it was signed") from None


def open_checkpoint(data: bytes, keys: Sequence[Key]) -> Checkpoint:
    """The checkpoint in a note that a log signed."""
    note = open_note(data, keys)
    if len(note.lines) < 3 or note.lines[0] != note.signer.name or not all(note.lines[3:]):
        raise Refused("it is signed, but it is no checkpoint of that log")
    return Checkpoint(note.lines[0], number(canonical(note.lines[1].encode())), unbase64(note.lines[2], 32))


# ---- the tree of all entries (RFC 6962) -----------------------------------------------------------------------------
#
# A tree of more than one leaf has two halves; left is the largest power of two below the number of leaves. The hash of
# a tree is that of both halves' hashes; of one leaf, that of the entry. A *span* [low, high) is a half of a half of …
# the whole. A proof is the hashes of some spans in an order that everybody knows; so it needs no names for them.

Span: TypeAlias = tuple[int, int]


def leaf_hash(entry: bytes) -> bytes:
    """Of a tree of one leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Of a tree of two halves."""
    return hashlib.sha256(b"\1" + left + right).digest()


def middle_of(low: int, high: int) -> int:
    """Where the right half of a span begins."""
    return low + (1 << (high - low - 1).bit_length() - 1)


def outside(low: int, high: int, start: int, end: int) -> list[Span]:
    """The spans that make up what of [low, high) is not in [start, end), from left to right: those of a range proof."""
    if start <= low and high <= end:
        return []
    if high <= start or end <= low:
        return [(low, high)]
    middle = middle_of(low, high)
    return outside(low, middle, start, end) + outside(middle, high, start, end)


def beside(low: int, high: int, start: int, end: int) -> list[Span]:
    """The spans beside the way from the span [start, end) up to [low, high): those of an inclusion proof."""
    if (low, high) == (start, end):
        return []
    middle = middle_of(low, high)
    if end <= middle:
        return [*beside(low, middle, start, end), (middle, high)]
    return [*beside(middle, high, start, end), (low, middle)]


def root_of(low: int, high: int, nodes: Mapping[Span, bytes]) -> bytes:
    """The hash of a span, from those of its parts."""
    if (low, high) in nodes:
        return nodes[low, high]
    middle = middle_of(low, high)
    return node_hash(root_of(low, middle, nodes), root_of(middle, high, nodes))


def proven(spans: Sequence[Span], hashes: Sequence[Any]) -> dict[Span, bytes]:
    """The hashes of a proof, in base64, by the spans that they are of."""
    if len(hashes) != len(spans):
        raise Refused(f"there are {len(hashes)} hashes; a proof of this has {len(spans)}")
    return {span: unbase64(text(one), 32) for span, one in zip(spans, hashes, strict=True)}


def check_included(entry: bytes, index: int, log: Checkpoint, hashes: Sequence[Any]) -> None:
    """Refuse a proof that does not lead from this entry at that index to the log's root (section 2.1.1)."""
    if not 0 <= index < log.size:
        raise Refused(f"the log has no entry {index}: it has {log.size}")
    nodes = proven(beside(0, log.size, index, index + 1), hashes)
    nodes[index, index + 1] = leaf_hash(entry)
    if root_of(0, log.size, nodes) != log.root:
        raise Refused(f"its proof does not lead from this entry, as entry {index}, to the root that the log has signed")


def check_consistent(old: Checkpoint, new: Checkpoint, hashes: Sequence[Any]) -> None:
    """Refuse a proof that does not show the old tree to be the beginning of the new one (section 2.1.2).

    The last whole subtree of the old tree is one of the new tree as well. With what is beside it, it gives the new
    root; and with what of that is within the old tree, the old root.
    """
    if not 0 < old.size <= new.size:
        raise Refused(f"a log of {old.size} entries cannot have become one of {new.size}")
    start = old.size - (old.size & -old.size)
    last_whole = (start, old.size)
    spans: list[Span] = []
    if old.size < new.size:
        spans = beside(0, new.size, *last_whole)
        if start > 0:
            spans = [last_whole, *spans]
    nodes = proven(spans, hashes)
    if last_whole not in nodes:  # then the old tree is one whole subtree; or both are the same
        nodes[0, old.size] = old.root
    if root_of(0, old.size, nodes) != old.root or root_of(0, new.size, nodes) != new.root:
        raise Refused("it does not show that the log has only grown: the roots do not follow from its hashes")


# ---- entries of the log ---------------------------------------------------------------------------------------------

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
IDENTITY = re.compile(UUID)
COMMITMENT = '(?:"([0-9a-f]{64})"|null)'
LEAF = re.compile(
    rf'{{"delivery":{COMMITMENT},"event":{COMMITMENT},"facts":({{.*}}),"id":"({UUID})",'
    r'"kind":"([a-z]+(?:_[a-z]+)*)","logged_at":"([0-9T:.Z-]{27})","v":1}',
    re.DOTALL,
)
RECEIVED, RECEIVED_AT = '"received_at":"', re.compile('"received_at":"([0-9T:.Z-]{27})"')
ELSEWHERE = "*"


class Leaf(NamedTuple):
    """An entry of the log: its commitments, in hex, and what it says openly.

    `facts` is JSON. Most entries have the same facts as others but for when they were received. So that they need be
    read only once, that time is taken out of the JSON, where `ELSEWHERE` is in its place, and is in `received_at`.
    """

    delivery: str | None
    event: str | None
    facts: str
    received_at: str | None
    id: str
    kind: str
    logged_at: str

    def all_facts(self) -> dict[str, Any]:
        """What the facts say."""
        said = facts_of(self.facts)
        return said if self.received_at is None else {**said, "received_at": self.received_at}

    def is_event(self) -> bool:
        """Whether something happened to an item: a notice of it, or an answer that had an effect."""
        if self.kind == "attempt":
            return facts_of(self.facts).get("effect") is not None
        return self.kind in {"revocation", "context"}


def facts_of(facts: str) -> dict[str, Any]:
    """What facts say; those that are not very long are remembered."""
    return remembered_facts(facts) if len(facts) <= 1024 else members(canonical(facts.encode()))


@lru_cache(4096)
def remembered_facts(facts: str) -> dict[str, Any]:
    """What facts say."""
    return members(canonical(facts.encode()))


def read_leaf(entry: bytes) -> Leaf:
    """What an entry says, if it is spelled as it must be."""
    try:
        match = LEAF.fullmatch(entry.decode())
    except ValueError:
        match = None
    if match is None or not is_time(match[6]) or len(entry) > MAX_ENTRY:
        raise Refused("it is no leaf as docs/log-format.md has it")
    delivery, event, facts, id_, kind, logged_at = match.groups()
    if facts.count(RECEIVED) == 1 and (received := RECEIVED_AT.search(facts)):
        shared = facts[: received.start(1)] + ELSEWHERE + facts[received.end(1) :]
        if facts_of(shared).get("received_at") == ELSEWHERE:  # else it is the member of another object
            return Leaf(delivery, event, shared, received[1], id_, kind, logged_at)
    facts_of(facts)
    return Leaf(delivery, event, facts, None, id_, kind, logged_at)


def identity(value: Any) -> str:
    """The id of an entry."""
    if not IDENTITY.fullmatch(text(value)):
        raise Refused(f"{shown(value)} is no id of an entry")
    return value


class Statement(NamedTuple):
    """What the entry at `index` says of the one with that id: a state of its cross-check, or what of it was erased."""

    id: str
    index: int
    state: str | None
    erased: str | None
    """`all`, or `delivery`."""


def statements(leaf: Leaf, index: int) -> list[Statement]:
    """What a leaf says of other entries."""
    if leaf.kind == "cross_check":
        facts = leaf.all_facts()
        if facts.get("state") not in STATES:
            raise Refused(f"{shown(facts.get('state'))} is no state of a cross-check")
        return [Statement(identity(facts.get("first")), index, facts["state"], None)]
    if leaf.kind == "erasure":
        facts = leaf.all_facts()
        if facts.get("state") not in {"all", "delivery"}:
            raise Refused(f"{shown(facts.get('state'))} is nothing that an erasure takes away")
        return [Statement(identity(one), index, None, facts["state"]) for one in array(facts.get("ids"))]
    return []


@dataclass
class Statements:
    """What is said of entries, by their id; entries that say so come in their order."""

    told: dict[str, int] = field(default_factory=dict[str, int])
    """The last cross-check: five times its index, plus the number of its state. (There may be millions.)"""
    gone: dict[str, list[tuple[int, str]]] = field(default_factory=dict[str, list[tuple[int, str]]])
    """The erasures: their index, and what they took away."""

    def add(self, said: Statement) -> None:
        """One more."""
        if said.state is not None:
            self.told[said.id] = said.index * len(STATES) + STATES.index(said.state)
        if said.erased is not None:
            self.gone.setdefault(said.id, []).append((said.index, said.erased))

    def standing(self, id_: str) -> tuple[str | None, int | None]:
        """State and index of the last cross-check."""
        told = self.told.get(id_)
        return (None, None) if told is None else (STATES[told % len(STATES)], told // len(STATES))

    def erasures(self, id_: str, *, wholly: bool) -> list[int]:
        """The erasures that took the delivery away; or `wholly`, the event as well."""
        return [index for index, what in self.gone.get(id_, ()) if what == "all" or not wholly]


class Tally(NamedTuple):
    """What came from a source in some time, by what became of it."""

    source: str
    start: str
    end: str
    is_incomplete: bool
    numbers: dict[str, int]
    refused: dict[str, int]


def read_tally(facts: dict[str, Any]) -> Tally:
    """A tally, whose numbers add up."""
    said = members(facts, "counts", "from", "incomplete", "process", "source", "until")
    counts = members(said["counts"], *OUTCOMES, "deliveries", "refused")
    numbers = {name: number(counts[name]) for name in (*OUTCOMES, "deliveries")}
    refused = {name: number(one) for name, one in members(counts["refused"]).items()}
    parts = sum(numbers[name] for name in OUTCOMES) + sum(refused.values())
    if numbers["deliveries"] != parts:
        raise Refused(f"it counts {numbers['deliveries']} deliveries, and tells what became of {parts}")
    source, start, end = text(said["source"]), time(said["from"]), time(said["until"])
    return Tally(source, start, end, boolean(said["incomplete"]), numbers, refused)


# ---- what events say, and events.csv --------------------------------------------------------------------------------


def cell(value: str | None) -> str:
    """A text as RFC 4180 has it, and none that a spreadsheet takes for a formula."""
    if not value:
        return ""
    if value[0] in "=+-@\t\r":
        value = f"'{value}"
    if "," in value or '"' in value or "\r" in value or "\n" in value:
        value = '"' + value.replace('"', '""') + '"'
    return value


def flag(value: bool | None) -> str:
    """True, false or nothing."""
    return "" if value is None else str(value).lower()


class EventFacts(NamedTuple):
    """What the facts of an event say; and cells of events.csv: `provider` to `scheme`, `breaches`, `test`."""

    provider: str
    effect: str | None
    breaches: frozenset[str]
    is_test: bool
    received_at: str | None
    origin: str
    breaches_cell: str
    test_cell: str


@lru_cache(4096)
def event_facts(facts: str) -> EventFacts:
    """What the facts of an event say."""
    said = facts_of(facts)
    origin = [text_or_null(said.get(name)) for name in COLUMNS[5:11]]
    test = None if said.get("test") is None else boolean(said["test"])
    breaches = [] if said.get("breaches") is None else [text(code) for code in array(said["breaches"])]
    return EventFacts(
        provider=text(said.get("provider")),
        effect=text_or_null(said.get("effect")),
        breaches=frozenset(breaches),
        is_test=test is True,
        received_at=text_or_null(said.get("received_at")),
        origin=",".join(map(cell, origin)),
        breaches_cell=cell(" ".join(breaches)),
        test_cell=flag(test),
    )


class Told(NamedTuple):
    """What an event's own data say: when it occurred; and the cells `item_type` to `reason` of events.csv."""

    occurred_at: str | None
    cells: str


ERASED = Told(None, "," * 8)


def read_event(data: bytes) -> Told:
    """What the data say that an event's leaf commits to."""
    said = members(canonical(data))
    item: dict[str, Any] = {} if said.get("item") is None else members(said["item"], "id", "type")
    texts = [text_or_null(item.get(name)) for name in ("type", "id")]
    texts += [text_or_null(said.get(name)) for name in EVENT_TEXTS]
    return Told(said.get("occurred_at"), ",".join(map(cell, texts)))


def check_delivery(data: bytes) -> None:
    """Refuse what is not canonical JSON of a delivery: its body in base64, and headers. The body is the larger part."""
    head, middle = b'{"body":"', b'","headers":'
    body, found, rest = data.removeprefix(head).partition(middle)
    if not data.startswith(head) or not found or not rest.endswith(b"}"):
        raise Refused("it is no delivery, which has a body and headers")
    check_base64(body)
    for name, value in members(canonical(rest[:-1])).items():
        if not name or name != name.lower():
            raise Refused(f"the name of the header {shown(name)} is not in lower case")
        text(value)


INNER, OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def commitment(salt: bytes, label: bytes, data: bytes) -> str:
    """HMAC-SHA256 (RFC 2104): only who has both data and salt can show that this is what was committed to."""
    key = salt.ljust(64, b"\0")
    inside = hashlib.sha256(key.translate(INNER) + b"rescind/commitment/v1\n" + label + b"\n" + data).digest()
    return hashlib.sha256(key.translate(OUTER) + inside).hexdigest()


# ---- lines, of a file or of several that are one after another ------------------------------------------------------


class Piece(NamedTuple):
    """Some lines of a file: where they begin and end in the ZIP."""

    member: Member
    start: int
    end: int


class Lines:
    """The lines of some pieces, without their newlines. It knows which line is the current one."""

    def __init__(self, bundle: Bundle, pieces: Sequence[Piece], name: str) -> None:
        self.bundle, self.pieces, self.name = bundle, pieces, name
        self.current = 0
        self.counts = [0] * len(pieces)

    def __iter__(self) -> Iterator[bytes]:
        with self.bundle.path.open("rb") as file:
            for number_, (_, position, end) in enumerate(self.pieces):
                self.current = number_
                file.seek(position)
                while position < end:
                    line = file.readline(min(MAX_LINE, end - position))
                    self.counts[self.current] += 1
                    if not line.endswith(b"\n"):  # and only then work out which line it is
                        raise Wrong(self.place(), "it does not end in a newline, or is too long")
                    position += len(line)
                    yield line[:-1]

    def place(self, index: int | None = None, *, after: int = 0) -> str:
        """The name of the current line, or of one after it; that of the entry at that index, if it is told."""
        name, line = self.name, after
        if self.pieces:
            (name, begin, *_), start, _ = self.pieces[self.current]
            line += self.counts[self.current] + sum(one.count(b"\n") for one in self.bundle.blocks(begin, start))
        return f"{name} line {line}" + ("" if index is None else f" (entry {index})")


STATED = re.compile(rb',"index":(0|[1-9][0-9]{0,15}),"')


def stated_index(line: bytes) -> int | None:
    """Which entry a line of events or payloads says that it is of. What is before that in it may hold anything."""
    match = STATED.match(line, max(0, line.rfind(b',"index":')))
    return None if match is None else int(match[1])


def find_line(file: BinaryIO, member: Member, index: int) -> int:
    """Where the first line begins that is of this entry or a later one.

    Lines are in the order of the entries; so it is found by halving. If they are not, this is some place, and whoever
    reads the lines from there on finds out: they are compared one by one.
    """

    def line_start(position: int) -> int:
        """Of the first line that begins there or after it."""
        if position == member.start:
            return position
        file.seek(position - 1)
        return min(position - 1 + len(file.readline(MAX_LINE)), member.end)

    def stated(position: int) -> int:
        start = line_start(position)
        if start == member.end:
            return MAX_INTEGER
        file.seek(start)
        return stated_index(file.readline(min(MAX_LINE, member.end - start))) or 0

    return line_start(member.start + bisect_left(range(member.start, member.end), index, key=stated))


# ---- a chunk: some thousand entries, and the lines about them -------------------------------------------------------
#
# A large bundle is checked in chunks, so that several processes can share the work, and each holds little in memory.
# Each chunk is looked at twice: first the entries alone, which may say something of any event; then the events.


class Chunk(NamedTuple):
    """The entries [low, high), which are in the ZIP from that place on."""

    low: int
    high: int
    place: int


@dataclass(frozen=True)
class Question:
    """What was asked for, as the log has recorded it; and the range of the entries that are here."""

    basis: str
    since: str
    until: str
    providers: frozenset[str] | None
    tests: bool
    start: int
    first: int
    end: int

    def is_subset(self) -> bool:
        """Whether the answer cannot show that it has every event of the period."""
        return self.providers is not None or self.basis == "occurred"

    def when(self, moment: str | None) -> str:
        """Where in time something is."""
        if moment is None:
            return "undated"
        if moment < self.since:
            return "before"
        return "inside" if moment < self.until else "after"

    def why_not(self, leaf: Leaf) -> str | None:
        """Why a leaf from `first` on is not among the events; None if it is, and "" if it is nothing that came.

        On the basis `occurred` None says only that it can be: the rest is in its own data.
        """
        if self.basis == "logged" and leaf.logged_at >= self.until:
            return ""
        if not leaf.is_event():
            return EXCLUDED.get(leaf.kind, "")
        facts = event_facts(leaf.facts)
        if facts.is_test and not self.tests:
            return "tests"
        if self.providers is not None and facts.provider not in self.providers:
            return "other_providers"
        if self.basis == "occurred":
            return None
        moment = leaf.logged_at if self.basis == "logged" else received_at(leaf)
        return None if self.when(moment) == "inside" else "outside"


def received_at(leaf: Leaf) -> str | None:
    """When an event was received."""
    return event_facts(leaf.facts).received_at if leaf.received_at is None else leaf.received_at


@dataclass(frozen=True)
class Task:
    """What it takes to check any chunk. It is sent to the other processes."""

    bundle: Bundle
    question: Question
    said: Statements

    def entries(self, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
        """The entries of a chunk, with their indexes."""
        with self.bundle.path.open("rb") as file:
            file.seek(chunk.place)
            for index in range(chunk.low, chunk.high):
                size = int.from_bytes(file.read(2), "big")
                entry = file.read(size)
                need(ENTRIES, len(entry) == size, "it ends within an entry")
                yield index, entry


class Surveyed(NamedTuple):
    """What the entries of a chunk show by themselves."""

    chunk: Chunk
    nodes: dict[Span, bytes]
    """Hashes that make up the chunk's part of the tree."""
    fault: tuple[str, str] | None
    """The first entry that is wrong, and why; what follows goes as far as that."""
    first_logged: str
    last_logged: str
    before: int
    """How many were logged before the period."""
    beyond: int | None
    """The first that was logged when it was over."""
    said: list[Statement]
    tallies: list[Tally]


def survey(task: Task, chunk: Chunk) -> Surveyed:
    """Look at the entries of a chunk alone."""
    question = task.question
    hashes: list[bytes] = []
    times: list[str] = []
    said: list[Statement] = []
    tallies: list[Tally] = []
    fault: tuple[str, str] | None = None
    for index, entry in task.entries(chunk):
        hashes.append(leaf_hash(entry))
        if fault is not None:
            continue
        try:
            leaf = read_leaf(entry)
            if times and leaf.logged_at < times[-1]:
                raise Refused(f"it was logged at {leaf.logged_at}, before the one that it follows")
            if leaf.kind == "tally":
                tallies.append(read_tally(leaf.all_facts()))
            said += statements(leaf, index)
            if index >= question.first:
                question.why_not(leaf)
            times.append(leaf.logged_at)
        except Refused as error:
            fault = f"{ENTRIES} entry {index}", str(error)
    if len(hashes) == CHUNK:
        while len(hashes) > 1:
            hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
        nodes = {(chunk.low, chunk.high): hashes[0]}
    else:
        nodes = {(chunk.low + number, chunk.low + number + 1): one for number, one in enumerate(hashes)}
    before = bisect_left(times, question.since)
    over = bisect_left(times, question.until)
    beyond = chunk.low + over if over < len(times) else None
    first, last = (times[0], times[-1]) if times else ("", "")
    return Surveyed(chunk, nodes, fault, first, last, before, beyond, said, tallies)


class Kind(NamedTuple):
    """What is counted of an event."""

    provider: str
    effect: str
    cross_check: str
    breaches: frozenset[str]
    occurred: str
    is_late: bool
    is_erased: bool


class Checked(NamedTuple):
    """What the events of a chunk come to."""

    chunk: Chunk
    kinds: Counter[Kind]
    reasons: Counter[str]
    """Why others are not among the events."""
    indexes: list[int]
    named: set[int]
    """Entries from the range's end on that the lines name."""
    payloads: dict[str, int]
    """By its name, how many lines of a file."""
    csv: tuple[int, str]
    """How long the chunk's part of events.csv is, and its SHA-256."""


def check_events(task: Task, chunk: Chunk) -> Checked:
    """Compare the lines about the entries of a chunk with these."""
    return EventCheck(task, chunk).run()


class EventCheck:
    """The entries of a chunk, and beside them the lines of its events and of their payloads."""

    def __init__(self, task: Task, chunk: Chunk) -> None:
        self.task, self.chunk, self.question, self.said = task, chunk, task.question, task.said
        folder = [one for one in task.bundle.members.values() if one.name.startswith("payloads/")]
        self.lines = Lines(task.bundle, self._pieces([task.bundle.members[EVENTS]]), EVENTS)
        self.payloads = Lines(task.bundle, self._pieces(folder), "payloads/000000.jsonl")
        self.kinds, self.reasons = Counter[Kind](), Counter[str]()
        self.indexes: list[int] = []
        self.named: set[int] = set()
        self.rows: list[str] = []

    def _pieces(self, files: Sequence[Member]) -> list[Piece]:
        """The lines that are about this chunk, so that those of all chunks together are all lines."""
        found: list[Piece] = []
        question, chunk = self.question, self.chunk
        with self.task.bundle.path.open("rb") as file:
            for member in files:
                start = member.start if chunk.low == question.start else find_line(file, member, chunk.low)
                end = member.end if chunk.high == question.end else find_line(file, member, chunk.high)
                need(member.name, start <= end, "its lines are not in the order of the entries")
                if start < end or len(files) == 1:
                    found.append(Piece(member, start, end))
        return found

    def run(self) -> Checked:
        """All of it."""
        each_line, each_payload = iter(self.lines), iter(self.payloads)
        line = next(each_line, None)
        for index, entry in self.task.entries(self.chunk):
            if index < self.question.first:
                continue
            leaf = read_leaf(entry)
            reason = self.question.why_not(leaf)
            if reason is None and self.question.basis == "occurred" and (line is None or stated_index(line) != index):
                self._check_left_out(index, leaf)
                reason = "outside"
            if reason is not None:
                self.reasons[reason] += 1
                continue
            if line is None:
                raise Wrong(self.lines.place(index, after=1), "the line of this event is not there: it was left out")
            try:
                told, erased_by = self._event(index, entry, leaf, line)
            except Refused as error:
                raise Wrong(self.lines.place(index), str(error)) from None
            payload = next(each_payload, None)
            if payload is None:
                raise Wrong(self.payloads.place(index, after=1), "the line of this event is not there")
            try:
                delivery_erased_by = self._payload(index, leaf, payload)
            except Refused as error:
                raise Wrong(self.payloads.place(index), str(error)) from None
            self._count(index, leaf, told, erased_by, delivery_erased_by)
            line = next(each_line, None)
        if line is not None:
            raise Wrong(self.lines.place(stated_index(line)), "it is of no event that belongs here")
        if (payload := next(each_payload, None)) is not None:
            raise Wrong(self.payloads.place(stated_index(payload)), "it is of no event that belongs here")
        rows = "".join(self.rows).encode()
        counts = {
            piece.member.name: count for piece, count in zip(self.payloads.pieces, self.payloads.counts, strict=True)
        }
        csv = len(rows), hashlib.sha256(rows).hexdigest()
        return Checked(self.chunk, self.kinds, self.reasons, self.indexes, self.named, counts, csv)

    def _check_left_out(self, index: int, leaf: Leaf) -> None:
        """On the basis `occurred`, an event may be outside of the period; unless nobody can say when it was."""
        erasures = self.said.erasures(leaf.id, wholly=True)
        why = "it was erased, so that nobody can say when it occurred, and must be here; it was left out"
        need(f"{EVENTS} (entry {index})", not erasures, why)

    def _event(self, index: int, entry: bytes, leaf: Leaf, line: bytes) -> tuple[Told, int | None]:
        """What a line of events.jsonl tells, and the erasure that it names."""
        state, told_by = self.said.standing(leaf.id)
        erasures = self.said.erasures(leaf.id, wholly=True)
        stands = b'"stands":{"cross_check":null,"entry":null}}'
        if state is not None:
            stands = b'"stands":{"cross_check":"%b","entry":%d}}' % (state.encode(), told_by)
        middle = b',"index":%d,"leaf":%b,"salt":' % (index, entry)
        for by in erasures:
            if line == b'{"erased":true,"erased_by":%d,"event":null%bnull,%b' % (by, middle, stands):
                return ERASED, by
        # All but the event's data has a known length. So the line is taken apart, and must be what its parts make up.
        head, end = b'{"erased":false,"erased_by":null,"event":', b'",' + stands
        salt_at = len(line) - len(end) - 44
        data = line[len(head) : max(salt_at - 1 - len(middle), 0)]
        salt = line[max(salt_at, 0) : max(salt_at, 0) + 44]
        if erasures or line != head + data + middle + b'"' + salt + end:
            raise Refused(self._why_not_the_line(line, index, erasures, entry, stands))
        if commitment(unbase64(salt, 32), b"event", data) != leaf.event:
            raise Refused("its event and salt do not give what its entry commits to: it was changed")
        told = read_event(data)
        if self.question.basis == "occurred" and self.question.when(told.occurred_at) != "inside":
            raise Refused("it did not occur in the period")
        return told, None

    def _payload(self, index: int, leaf: Leaf, line: bytes) -> int | None:
        """Compare a line of payloads; the erasure that it names."""
        erasures = self.said.erasures(leaf.id, wholly=False)
        for by in erasures:
            if line == b'{"delivery":null,"erased_by":%d,"index":%d,"salt":null}' % (by, index):
                return by
        head, middle, end = b'{"delivery":', b',"erased_by":null,"index":%d,"salt":"' % index, b'"}'
        salt_at = len(line) - len(end) - 44
        data = line[len(head) : max(salt_at - len(middle), 0)]
        salt = line[max(salt_at, 0) : max(salt_at, 0) + 44]
        if erasures or line != head + data + middle + salt + end:
            raise Refused(self._why_not_the_line(line, index, erasures))
        if commitment(unbase64(salt, 32), b"delivery", data) != leaf.delivery:
            raise Refused("its delivery and salt do not give what its entry commits to: it was changed")
        check_delivery(data)
        return None

    def _why_not_the_line(
        self, line: bytes, index: int, erasures: Sequence[int], entry: bytes = b"", stands: bytes = b""
    ) -> str:
        """In words, what is wrong with a line that is not the one that there can be."""
        stated = stated_index(line)
        if stated is None:
            return "it is no line of an event"
        if stated != index:
            return f"the line of entry {index} belongs here, and it is of entry {stated}: left out, added or swapped"
        names_erasure = b'"erased_by":null,"' not in line
        if erasures and not names_erasure:
            return f"entry {index} was erased by entry {erasures[0]}, and its text is here"
        if erasures:
            return f"it names another erasure than entry {erasures[0]}, which erased it, or is spelled otherwise"
        if names_erasure:
            return f"it says that entry {index} was erased, and no entry here says so"
        if entry not in line:
            return f"its leaf is not entry {index} of {ENTRIES}"
        if not line.endswith(stands):
            return f"how it stands is not what the log says last of it: {stands[9:-1].decode()}"
        return "it has another spelling, or other members, than such a line has"

    def _count(self, index: int, leaf: Leaf, told: Told, erased_by: int | None, delivery_erased_by: int | None) -> None:
        question, facts = self.question, event_facts(leaf.facts)
        state, told_by = self.said.standing(leaf.id)
        self.named.update(
            one for one in (told_by, erased_by, delivery_erased_by) if one is not None and one >= question.end
        )
        self.indexes.append(index)
        is_erased = erased_by is not None
        kind = Kind(
            provider=facts.provider,
            effect=facts.effect or "none",
            cross_check=state or "untold",
            breaches=facts.breaches,
            occurred=question.when(told.occurred_at),
            is_late=question.basis != "logged" and leaf.logged_at >= question.until,
            is_erased=is_erased,
        )
        self.kinds[kind] += 1
        self.rows.append(
            f"{index},{leaf.id},{leaf.logged_at},{cell(received_at(leaf))},{leaf.kind},{facts.origin},{told.cells},"
            f"{facts.breaches_cell},{state or ''},{facts.test_cell},{flag(is_erased)}\r\n"
        )


# ---- several processes ----------------------------------------------------------------------------------------------

tasks: list[Task] = []  # in a process that helps: the task that it was started for


def take_up(task: Task) -> None:
    """In a process that helps: begin."""
    tasks[:] = [task]


def each_chunk(check: Callable[[Task, Chunk], Result], task: Task, chunks: Sequence[Chunk]) -> Iterator[Result]:
    """What the check gives for each chunk, in order; what is wrong first is raised first. Large bundles are shared."""
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    if chunks[-1].high - chunks[0].low < MANY or processes == 1:
        for chunk in chunks:
            yield check(task, chunk)
        return
    with ProcessPoolExecutor(processes, initializer=take_up, initargs=(task,)) as pool:
        yield from pool.map(partial(help_with, check), chunks)


def help_with(check: Callable[[Task, Chunk], Result], chunk: Chunk) -> Result:
    """In a process that helps: check a chunk."""
    return judged(partial(check, tasks[-1], chunk), f"{ENTRIES} entries {chunk.low} to {chunk.high - 1}")


def judged(check: Callable[[], Result], place: str = "ZIP") -> Result:
    """What the check gives. Whatever else is in the way of it is a verdict as well, or the reason why there is none."""
    try:
        return check()
    except (Wrong, Unable):
        raise
    except Refused as error:
        raise Wrong(place, str(error)) from None
    except MemoryError:
        raise Unable("it takes more memory than there is here") from None
    except BrokenExecutor:
        raise Unable("a process that helped was ended from outside, perhaps as there was not enough memory") from None
    except OSError as error:
        raise Unable(f"the file cannot be read: {error.strerror or 'the disk gave an error'}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise Wrong(place, "something in it is of another form than docs/export-format.md lays down") from None


# ---- the whole bundle -----------------------------------------------------------------------------------------------


class Proven(NamedTuple):
    """An entry that a tlog-proof proves, under a checkpoint that is in it as well."""

    index: int
    leaf: Leaf
    note: bytes
    log: Checkpoint


def compare(place: str, said: Any, true: Any, levels: int = 0) -> None:
    """That what is said there is so. If not, of objects and arrays the first member that is not is named."""
    if levels and isinstance(said, dict) and isinstance(true, dict):
        its: dict[str, Any] = said
        for name in sorted({*its, *true}):
            dot = "." if " " in place else " "
            need(f"{place}{dot}{name}", name in its and name in true, "it is missing, or there is no such member")
            compare(f"{place}{dot}{name}", its[name], true[name], levels - 1)
    elif levels and isinstance(said, list) and isinstance(true, list):
        for position, (one, other) in enumerate(zip_longest(said, true)):
            compare(f"{place}[{position}]", one, other)
    else:  # as text, for to Python True equals 1
        same = WRITE_JSON.encode(said) == WRITE_JSON.encode(true)
        need(place, same, f"it says {shown(said)}, and it is {shown(true)}")


class Verifier:
    """What is known of a bundle on the way through it. `check` does it all, and gives what is to be told."""

    def __init__(self, path: Path, keys: Sequence[Key]) -> None:
        self.keys, self.bundle = keys, open_bundle(path)

    def check(self) -> list[str]:
        """All of it, in the order in which one thing carries the next."""
        self.note = self.bundle.read(CHECKPOINT)
        self.log = at(CHECKPOINT, open_checkpoint, self.note, self.keys)
        self.exports_key = self.check_exports_key()
        self.entry = self.check_export_entry()
        self.manifest = self.check_manifest()
        self.question = self.check_question()
        self.check_names()
        self.check_sums()
        self.check_previous()
        self.task = Task(self.bundle, self.question, Statements())
        chunks = self.cut_entries()
        tallies = self.check_entries(chunks)
        later = self.check_later()
        checked = list(each_chunk(check_events, self.task, chunks))
        self.check_payload_files(checked)
        named = set[int]().union(*(one.named for one in checked))
        for index, place in later.items():
            need(place, index in named, "it says nothing of an event of the bundle")
        self.check_csv(checked)
        self.check_indexes(checked)
        kinds, reasons = Counter[Kind](), Counter[str]()
        for one in checked:
            kinds += one.kinds
            reasons += one.reasons
        self.check_counts(kinds, reasons)
        self.check_tallies(tallies, kinds)
        parquet = self.check_parquet()
        state = self.bundle.path.stat()
        is_same = (state.st_size, state.st_mtime_ns) == self.bundle.state
        need("ZIP", is_same, "the file was changed while it was verified: verify it again")
        return self.words(parquet)

    # ---- from the log's key to the manifest --------------------------------------------------------------------------

    def proof(self, name: str, kind: str) -> Proven:
        """The entry of that kind that a tlog-proof (C2SP) proves."""
        head, _, note = self.bundle.read(name).partition(b"\n\n")
        log = at(name, open_checkpoint, note, self.keys)
        return at(name, read_proof, head, note, log, kind)

    def check_exports_key(self) -> Key:
        """The key that the log announces for its exports."""
        proven = self.proof(KEY_PROOF, "key")
        need(KEY_PROOF, proven.note == self.note, f"its checkpoint is not that of {CHECKPOINT}")
        facts = at(KEY_PROOF, members, proven.leaf.all_facts(), "action", "by", "id", "purpose", "vkey")
        is_announced = (facts["action"], facts["purpose"]) == ("announced", "exports")
        need(KEY_PROOF, is_announced, "its entry announces no key for exports")
        key = at(KEY_PROOF, parse_key, at(KEY_PROOF, text, facts["vkey"]))
        name = f"{self.log.origin}/exports"
        need(KEY_PROOF, key.name == name, f"the key that it announces is not called {name}")
        return key

    def check_export_entry(self) -> Proven:
        """The entry that says what was asked for."""
        proven = self.proof(ENTRY_PROOF, "export")
        need(ENTRY_PROOF, proven.note == self.note, f"its checkpoint is not that of {CHECKPOINT}")
        names = ("basis", "by", "parquet", "providers", "since", "tests", "until")
        facts = at(ENTRY_PROOF, members, proven.leaf.all_facts(), *names)
        need(ENTRY_PROOF, facts["basis"] in {"logged", "received", "occurred"}, "its basis is not known")
        at(ENTRY_PROOF, text, facts["by"])
        for name in ("since", "until"):
            at(ENTRY_PROOF, time, facts[name])
        for name in ("parquet", "tests"):
            at(ENTRY_PROOF, boolean, facts[name])
        if facts["providers"] is not None:
            providers = [at(ENTRY_PROOF, text, one) for one in at(ENTRY_PROOF, array, facts["providers"])]
            is_sorted = providers == sorted({*providers}) != []
            need("manifest.json query.providers", is_sorted, "they are not in order, each once")
        return proven

    def check_manifest(self) -> dict[str, Any]:
        """Its signature; and that it answers the question that the log has recorded."""
        data = self.bundle.read(MANIFEST, MAX_MANIFEST)
        note = at(NOTE, open_note, self.bundle.read(NOTE), [self.exports_key])
        is_note = note.signatures == 1 and len(note.lines) == 3 and note.lines[0] == SCHEMA
        need(NOTE, is_note, "it is not the note of a manifest, with one signature")
        need(MANIFEST, note.lines[2] == sha256(data).hex(), "it is not what its note was signed for")
        said = at(MANIFEST, members, at(MANIFEST, canonical, data))
        compare("manifest.json schema", said.get("schema"), SCHEMA)
        names = "asked counts exclusions export files log period population previous query range schema software tenant"
        at(MANIFEST, members, said, *names.split())
        leaf, asked = self.entry.leaf, self.entry.leaf.all_facts()
        is_subset = asked["providers"] is not None or asked["basis"] == "occurred"
        true: dict[str, Any] = {
            "export": leaf.id,
            "log": {"origin": self.log.origin, "root": self.log.root.hex(), "size": self.log.size},
            "asked": {"at": leaf.logged_at, "by": asked["by"]},
            "period": {name: asked[name] for name in ("basis", "since", "until")},
            "query": {name: asked[name] for name in ("providers", "tests")},
            "population": "subset" if is_subset else "complete",
        }
        for name, value in true.items():
            compare(f"manifest.json {name}", said[name], value, 1)
        need(NOTE, note.lines[1] == leaf.id, "it was signed for another export")
        for name in ("tenant", "software"):  # nothing says whether these are true
            at(f"manifest.json {name}", text, said[name])
        return said

    def check_question(self) -> Question:
        """The period, and the range of entries that the bundle is to have."""
        asked, index = self.entry.leaf.all_facts(), self.entry.index
        place = "manifest.json range"
        range_ = at(place, members, self.manifest["range"], "end", "entry", "first", "start")
        for name in range_:
            at(f"{place}.{name}", number, range_[name])
        start, first, end = range_["start"], range_["first"], range_["end"]
        compare(f"{place}.entry", range_["entry"], index)
        compare(f"{place}.start", start, max(first - 1, 0))
        if asked["basis"] != "logged":
            compare(f"{place}.end", end, index + 1)
        need(f"{place}.end", first < end <= index + 1, f"it is not after {first}, and at most {index + 1}")
        need("manifest.json period", asked["since"] < asked["until"], "it ends before it begins")
        is_over = asked["until"] <= self.entry.leaf.logged_at
        need("manifest.json period.until", is_over, "it was not over when the export was asked for")
        moment = datetime.fromisoformat(self.entry.leaf.logged_at)
        day = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
        clock = moment.hour << 11 | moment.minute << 5 | moment.second // 2
        need("ZIP", self.bundle.time == day << 16 | clock, "the time of its files is not that of the export's entry")
        return Question(
            basis=asked["basis"],
            since=asked["since"],
            until=asked["until"],
            providers=None if asked["providers"] is None else frozenset(asked["providers"]),
            tests=asked["tests"],
            start=start,
            first=first,
            end=end,
        )

    # ---- the files --------------------------------------------------------------------------------------------------

    def wanted_names(self) -> list[str]:
        """The files that must be there, in order. Only the erasures that came later are known by their names alone."""
        place, question = "manifest.json counts.events", self.question
        counts = at("manifest.json counts", members, self.manifest["counts"])
        events = at(place, number, counts.get("events"))
        need(place, events <= question.end - question.start, "these are more than the entries")
        erasures = [int(match[1]) for match in map(ERASURE.fullmatch, self.bundle.members) if match]
        names = [MANIFEST, NOTE, EVENTS, CSV]
        if self.entry.leaf.all_facts()["parquet"]:
            names.append(PARQUET)
        names += [f"payloads/{part:06d}.jsonl" for part in range(-(-events // PER_FILE))]
        names += [ENTRIES, CHECKPOINT, RANGE, ENTRY_PROOF, KEY_PROOF, LATER]
        names += [f"proof/erasures/{index}.tlog-proof" for index in sorted(erasures)]
        if self.manifest["previous"] is not None:
            names += [PREVIOUS, CONSISTENCY]
        if question.is_subset():
            names.append(INDEXES)
        return [*names, TALLIES, *FOR_PEOPLE]

    def check_names(self) -> None:
        """Exactly the files that must be there, and the manifest names them all."""
        wanted, found = self.wanted_names(), list(self.bundle.members)
        all_wanted = frozenset(wanted)
        for want, name in zip_longest(wanted, found):
            if name is not None and name not in all_wanted:
                raise Wrong(name, "such a file is not in a bundle like this")
            need(want or name, want == name, "it is not in the bundle, or not in its place there")
        listed = at("manifest.json files", members, self.manifest["files"])
        for name in sorted(listed.keys() ^ set(found[2:])):
            raise Wrong(f"manifest.json files.{name}", "it names a file that it must not name, or not one that it must")

    def check_sums(self) -> None:
        """Every file has the size and the SHA-256 that the manifest says."""
        files = [one for one in self.bundle.members.values() if one.name not in {MANIFEST, NOTE}]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for member, (digest, crc) in zip(files, threads.map(self.bundle.both_sums, files), strict=True):
                need(member.name, crc == member.crc, "its CRC-32 is not that in the ZIP: it was changed or damaged")
                said = at(f"manifest.json files.{member.name}", members, self.manifest["files"][member.name])
                true = {"sha256": digest, "size": member.size}
                same = WRITE_JSON.encode(said) == WRITE_JSON.encode(true)
                need(member.name, same, f"by the manifest it is {shown(said)}, and it is {shown(true)}")

    def small_json(self, name: str) -> Any:
        """The value of a small file of canonical JSON."""
        return at(name, canonical, self.bundle.read(name))

    def check_previous(self) -> None:
        """The checkpoint of the export before this one is the beginning of the same log."""
        if self.manifest["previous"] is None:
            return
        old = at(PREVIOUS, open_checkpoint, self.bundle.read(PREVIOUS), self.keys)
        need(PREVIOUS, old.origin == self.log.origin, "it is of another log")
        compare("manifest.json previous", self.manifest["previous"], {"root": old.root.hex(), "size": old.size})
        said = at(CONSISTENCY, members, self.small_json(CONSISTENCY), "hashes", "new_size", "old_size")
        compare(f"{CONSISTENCY} new_size", said["new_size"], self.log.size)
        compare(f"{CONSISTENCY} old_size", said["old_size"], old.size)
        hashes = at(f"{CONSISTENCY} hashes", array, said["hashes"])
        at(CONSISTENCY, check_consistent, old, self.log, hashes)

    # ---- the entries ------------------------------------------------------------------------------------------------

    def cut_entries(self) -> list[Chunk]:
        """Where in the ZIP the entries are. Each stands after its length, 16 bits."""
        question, member = self.question, self.bundle.members[ENTRIES]
        chunks: list[Chunk] = []
        low, low_place, place = question.start, member.start, member.start
        with self.bundle.path.open("rb") as file:
            file.seek(member.start)
            for index in range(question.start, question.end):
                need(f"{ENTRIES} entry {index}", place + 2 <= member.end, "it is not there")
                size = int.from_bytes(file.read(2), "big")
                file.seek(size, os.SEEK_CUR)
                place += 2 + size
                need(ENTRIES, place <= member.end, "it ends within an entry")
                if (index + 1) % CHUNK == 0 or index + 1 == question.end:
                    chunks.append(Chunk(low, index + 1, low_place))
                    low, low_place = index + 1, place
        need(ENTRIES, place == member.end, "it goes on after the range")
        return chunks

    def check_entries(self, chunks: Sequence[Chunk]) -> list[Tally]:
        """The entries are the log's; they reach from before the period until after it. Gives the tallies."""
        question = self.question
        said = at(RANGE, members, self.small_json(RANGE), "end", "hashes", "start")
        compare(f"{RANGE} start", said["start"], question.start)
        compare(f"{RANGE} end", said["end"], question.end)
        spans = outside(0, self.log.size, question.start, question.end)
        nodes = at(f"{RANGE} hashes", proven, spans, at(f"{RANGE} hashes", array, said["hashes"]))
        fault: tuple[str, str] | None = None
        tallies: list[Tally] = []
        before, beyond, last = 0, None, ""
        for one in each_chunk(survey, self.task, chunks):
            nodes.update(one.nodes)
            if fault is None and one.first_logged < last and one.fault is None:
                fault = f"{ENTRIES} entry {one.chunk.low}", f"it was logged before the one that it follows, at {last}"
            fault = fault or one.fault
            last = one.last_logged
            before += one.before
            beyond = one.beyond if beyond is None else beyond
            tallies += one.tallies
            for statement in one.said:
                self.task.said.add(statement)
        is_root = root_of(0, self.log.size, nodes) == self.log.root
        need(ENTRIES, is_root, f"with {RANGE} its entries do not lead to the root that the log has signed")
        if fault is not None:
            raise Wrong(*fault)
        first = question.start + before
        compare("manifest.json range.first", question.first, first)
        if question.basis == "logged":
            why = f"the first entry that was logged when the period was over is {beyond or 'not here'}"
            need("manifest.json range.end", beyond == question.end - 1, why)
        self.last_logged = last
        return tallies

    def check_later(self) -> dict[int, str]:
        """Entries from the range's end on that say something of its events: their places, by their indexes."""
        found = dict[int, str]()
        logged = [(self.question.end - 1, self.last_logged, ENTRIES)]
        if self.entry.index >= self.question.end:
            logged.append((self.entry.index, self.entry.leaf.logged_at, ENTRY_PROOF))
        member, before = self.bundle.members[LATER], self.question.end - 1
        lines = Lines(self.bundle, [Piece(member, member.start, member.end)], LATER)
        for line in lines:
            place = lines.place()
            need(place, len(line) <= SMALL, "it is longer than such a line can be")
            said = at(place, members, at(place, canonical, line), "entry", "index", "proof")
            index = at(place, number, said["index"])
            place = f"{place} (entry {index})"
            need(place, index > before, f"it does not come after entry {before}")
            entry, before = at(place, unbase64, at(place, text, said["entry"])), index
            at(place, check_included, entry, index, self.log, at(place, array, said["proof"]))
            leaf = at(place, read_leaf, entry)
            self.heed(place, index, leaf)
            found[index] = place
            logged.append((index, leaf.logged_at, place))
        for name in filter(ERASURE.fullmatch, self.bundle.members):
            proven = self.proof(name, "erasure")
            is_named_so = name == f"proof/erasures/{proven.index}.tlog-proof"
            need(name, is_named_so and proven.index >= self.log.size, "it proves another entry than its name says")
            need(name, proven.log.origin == self.log.origin, "it is of another log")
            self.heed(name, proven.index, proven.leaf)
            found[proven.index] = name
            logged.append((proven.index, proven.leaf.logged_at, name))
        logged.sort()
        for (_, earlier, _), (_, moment, place) in pairwise(logged):
            need(place, moment >= earlier, f"its entry was logged at {moment}, and one before it at {earlier}")
        return found

    def heed(self, place: str, index: int, leaf: Leaf) -> None:
        """Keep what a leaf says of other entries."""
        said = at(place, statements, leaf, index)
        need(place, said, "it is neither a cross-check nor an erasure of anything")
        for one in said:
            self.task.said.add(one)

    # ---- the events -------------------------------------------------------------------------------------------------

    def check_payload_files(self, checked: Sequence[Checked]) -> None:
        """All files of payloads but the last have as many lines as a file can have."""
        lines = Counter[str]()
        for one in checked:
            lines.update(one.payloads)
        names = [name for name in self.bundle.members if name.startswith("payloads/")]
        for name in names[:-1]:
            need(name, lines[name] == PER_FILE, f"it has {lines[name]} lines; all but the last have {PER_FILE}")

    def check_csv(self, checked: Sequence[Checked]) -> None:
        """events.csv has the rows that follow from the events, whose lengths and SHA-256 are known by chunks."""
        member, header = self.bundle.members[CSV], ",".join(COLUMNS).encode() + b"\r\n"
        place, rows = member.start + len(header), 0
        found = b"".join(self.bundle.blocks(member.start, min(place, member.end)))
        need(f"{CSV} header", found == header, "it does not name the columns of a bundle")
        for one in checked:
            size, digest = one.csv
            if self.bundle.sha256(place, min(place + size, member.end)) != digest:
                self.name_row(one.chunk, place, rows)
            place += size
            rows += len(one.indexes)
        need(f"{CSV} row {rows + 1}", place == member.end, "it is of no event")

    def name_row(self, chunk: Chunk, place: int, rows: int) -> None:
        """Find the row of a chunk that is not what it must be; the first one begins at that place."""
        check, end = EventCheck(self.task, chunk), self.bundle.members[CSV].end
        indexes = check.run().indexes
        for index, row in zip(indexes, check.rows, strict=True):
            rows += 1
            true = row.encode()
            found = b"".join(self.bundle.blocks(place, min(place + len(true), end)))
            need(f"{CSV} row {rows} (entry {index})", found == true, f"it is not what {EVENTS} says of the event")
            place += len(true)

    def check_indexes(self, checked: Sequence[Checked]) -> None:
        """Of a subset: the indexes of its events."""
        if self.question.is_subset():
            true = WRITE_JSON.encode([index for one in checked for index in one.indexes]).encode()
            member = self.bundle.members[INDEXES]
            is_so = member.size == len(true) and self.bundle.sha256(member.start, member.end) == sha256(true).hex()
            need(INDEXES, is_so, "they are not the indexes of the events")

    def check_counts(self, kinds: Counter[Kind], reasons: Counter[str]) -> None:
        """The numbers in the manifest."""
        by: dict[str, Counter[str]] = {name: Counter() for name in ("breach", "cross_check", "effect", "provider")}
        late = erased = 0
        for kind, count in kinds.items():
            by["cross_check"][kind.cross_check] += count
            by["effect"][kind.effect] += count
            by["provider"][kind.provider] += count
            for code in kind.breaches:
                by["breach"][code] += count
            late += count if kind.is_late else 0
            erased += count if kind.is_erased else 0
        true: dict[str, Any] = {f"by_{name}": dict(counter) for name, counter in by.items()}
        true |= {"entries": self.question.end - self.question.start, "erased": erased}
        true |= {"events": kinds.total(), "late": late}
        compare("manifest.json counts", self.manifest["counts"], true, 1)
        names = ("mismatches", "other_providers", "outside", "quarantined", "tests")
        true = {name: reasons[name] for name in names}
        compare("manifest.json exclusions", self.manifest["exclusions"], true, 1)

    def check_tallies(self, tallies: Sequence[Tally], kinds: Counter[Kind]) -> None:
        """tallies.json, but for how many events elsewhere it says there are: that is the operator's word."""
        question = self.question
        occurred = Counter[str]()
        for kind, count in kinds.items():
            occurred[kind.occurred] += count
        true: dict[str, Any] = {
            "cut_off": {"events": {name: occurred[name] for name in ("after", "before", "inside", "undated")}},
            "days": days_of(tallies, question),
            "gaps": gaps_of(tallies, question),
        }
        most = 2 * len(WRITE_JSON.encode(true)) + SMALL
        said = at(TALLIES, members, at(TALLIES, canonical, self.bundle.read(TALLIES, most)), *true)
        place = f"{TALLIES} cut_off"
        cut_off = at(place, members, said["cut_off"], "events", "outside")
        elsewhere = at(f"{place}.outside", members, cut_off["outside"], "logged_after", "logged_before")
        for name, one in elsewhere.items():
            at(f"{place}.outside.{name}", number, one)
        true["cut_off"]["outside"] = elsewhere
        compare(TALLIES, said, true, 3)

    def check_parquet(self) -> str:
        """events.parquet has the same rows. Gives what was compared."""
        if PARQUET not in self.bundle.members:
            return "there is no events.parquet"
        if util.find_spec("pyarrow") is None:
            return "events.parquet only by its hash, for pyarrow is not installed"
        with Part(self.bundle, self.bundle.members[PARQUET]) as part:
            compare_parquet(self.bundle, part, self.manifest["counts"]["events"])
        return "events.parquet by value"

    # ---- the verdict ------------------------------------------------------------------------------------------------

    def words(self, parquet: str) -> list[str]:
        """What was found, and what it shows, for people."""
        asked, counts, previous = self.entry.leaf.all_facts(), self.manifest["counts"], self.manifest["previous"]
        is_complete = not self.question.is_subset()
        what = "all events of the period, complete and unchanged" if is_complete else "a SUBSET of events, unchanged"
        grown = f"grown from the {previous['size']} of the export before" if previous else "no export before"
        shows = "complete as to what Rescind recorded; complete as to what the provider did only where cross-checked"
        providers = "all" if asked["providers"] is None else ", ".join(asked["providers"])
        return [
            f"VERIFIED: {what}.\n",
            f"  log         {self.log.origin}",
            f"  checkpoint  {self.log.size} entries, {grown}",
            f"  root        {self.log.root.hex()}",
            f"  asked       by {asked['by']} at {self.entry.leaf.logged_at}, export {self.entry.leaf.id}",
            f"  period      {asked['since']} until before {asked['until']}, as {asked['basis']}",
            f"  providers   {providers}; tests {'too' if asked['tests'] else 'not'}",
            f"  events      {counts['events']}, of them {counts['late']} late arrivals and {counts['erased']} erased",
            f"  entries     {self.question.start} to {self.question.end - 1}",
            f"  compared    everything; {parquet}\n",
            f"What it shows: {shows if is_complete else 'what is here; it is not all that the log has of the period'}.",
            "The operator's word alone: the tenant's name, the software, what tallies.json says of events outside,",
            "and that no later cross-check stands among the entries that are not here. Cosignatures of witnesses",
            "were not looked at; `translog verify` does that. Without witnesses, two auditors could be shown two",
            "logs: compare the root.\n",
            "If this verifier came with the bundle, its verdict proves nothing by itself: compare its SHA-256 with",
            "that in the project's docs/verify.md, or use `translog verify`. The key must come from elsewhere, too.",
        ]


def read_proof(head: bytes, note: bytes, log: Checkpoint, kind: str) -> Proven:
    """What the lines of a tlog-proof prove that are above its checkpoint."""
    lines = head.decode("ascii", "replace").split("\n")
    is_proof = lines[0] == "c2sp.org/tlog-proof@v1" and len(lines) > 2
    if not (is_proof and lines[1].startswith("extra ") and lines[2].startswith("index ")):
        raise Refused("it is no tlog-proof with an entry")
    extra = members(canonical(unbase64(lines[1].removeprefix("extra "))), "delivery", "entry", "event", "issuer")
    if (extra["delivery"], extra["event"], extra["issuer"]) != (None, None, None):
        raise Refused("it opens something; in a bundle it opens nothing")
    entry, index = unbase64(text(extra["entry"])), number(canonical(lines[2].removeprefix("index ").encode()))
    check_included(entry, index, log, lines[3:])
    leaf = read_leaf(entry)
    if leaf.kind != kind:
        raise Refused(f"it proves an entry of kind {leaf.kind}; it is to prove one of kind {kind}")
    return Proven(index, leaf, note, log)


# ---- tallies.json ---------------------------------------------------------------------------------------------------


def days_of(tallies: Sequence[Tally], question: Question) -> list[dict[str, Any]]:
    """By day and source, the sums of the tallies that end in the period."""
    days = dict[tuple[str, str], dict[str, Any]]()
    for tally in tallies:
        if question.when(tally.end) != "inside":
            continue
        name = tally.end[:10], tally.source
        nothing = {"day": name[0], "source": name[1], "incomplete": False, "refused": {}}
        day = days.setdefault(name, nothing | dict.fromkeys(tally.numbers, 0))
        day["incomplete"] = day["incomplete"] or tally.is_incomplete
        for outcome, count in tally.numbers.items():
            day[outcome] += count
        for reason, count in tally.refused.items():
            day["refused"][reason] = day["refused"].get(reason, 0) + count
    return [days[name] for name in sorted(days)]


def gaps_of(tallies: Sequence[Tally], question: Question) -> list[dict[str, str]]:
    """By source and time, the whole hours of the period that no tallies cover, run together."""
    by_source = dict[str, list[Tally]]()
    for tally in tallies:
        by_source.setdefault(tally.source, []).append(tally)
    gaps: list[dict[str, str]] = []
    for source, its in sorted(by_source.items()):
        begin, end = max(question.since, its[0].start), question.until
        covered = sorted((one.start, one.end) for one in its if not one.is_incomplete and one.start < one.end)
        reached, runs = begin, list[list[str]]()
        for low, high in [*covered, (end, end)]:
            hole_end = min(low, end)
            if reached < hole_end:
                first, last = max(hour_of(reached), begin), min(next_hour(hole_end), end)
                if runs and runs[-1][1] >= first:
                    runs[-1][1] = last
                else:
                    runs.append([first, last])
            reached = max(reached, high)
        gaps += [{"from": first, "source": source, "until": last} for first, last in runs]
    return gaps


def hour_of(moment: str) -> str:
    """The full hour at that time, or before it."""
    return f"{moment[:13]}:00:00.000000Z"


def next_hour(moment: str) -> str:
    """The full hour at that time, or after it."""
    if moment == hour_of(moment):
        return moment
    return f"{datetime.fromisoformat(moment[:13] + ':00:00') + timedelta(hours=1):%Y-%m-%dT%H}:00:00.000000Z"


# ---- events.parquet, if pyarrow is there to read it -----------------------------------------------------------------


class Part(io.RawIOBase):
    """A member of the ZIP as a file of its own."""

    def __init__(self, bundle: Bundle, member: Member) -> None:
        super().__init__()
        self.file, self.member, self.position = bundle.path.open("rb"), member, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.member.size)[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self.member.size - self.position))
        buffer[:size] = read_at(self.file, self.member.start + self.position, size)
        self.position += size
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


MAX_FOOTER = 1 << 23
AT_ONCE = 1 << 25


def compare_parquet(bundle: Bundle, part: Part, events: int) -> None:
    """That events.parquet has a row for each line of events.jsonl, with types.

    A few bytes of it can stand for very many. So texts are left in their dictionaries until these were looked at: none
    can be longer than the longest line of events.jsonl. And only so many rows are taken at once as fit in memory.
    """
    member = bundle.members[EVENTS]
    longest = max((len(line) for line in Lines(bundle, [Piece(member, member.start, member.end)], EVENTS)), default=0)
    part.seek(max(0, part.member.size - 8))
    footer = int.from_bytes(part.read(8)[:4], "little")
    need(PARQUET, footer <= MAX_FOOTER, "what it says of itself is larger than it can be")
    try:
        parquet: Any = import_module("pyarrow.parquet")
        file: Any = parquet.ParquetFile(part)
        found = [(one.name, str(one.type)) for one in file.schema_arrow]
        types = {"index": "int64", "test": "bool", "erased": "bool"}
        need(PARQUET, found == [(name, types.get(name, "string")) for name in COLUMNS], "it has other columns")
        need(PARQUET, file.metadata.num_rows == events, f"it has {file.metadata.num_rows} rows for {events} events")
        check_column_sizes(file.metadata, member.size)
        texts = [name for name in COLUMNS if name not in types]
        file = parquet.ParquetFile(part, metadata=file.metadata, read_dictionary=texts)
        rows = rows_of(bundle)
        for batch in file.iter_batches(max(1, min(AT_ONCE // (longest + 1), 4096))):
            columns = [values_of(column, longest) for column in batch.columns]
            for row in zip(*columns, strict=True):
                place, true = next(rows)
                need(place, [*row] == true, f"it is not what {EVENTS} says of the event")
    except (Wrong, Unable, MemoryError):
        raise
    except Exception:  # noqa: BLE001  (pyarrow has errors of many kinds)
        raise Wrong(PARQUET, "pyarrow cannot read it") from None


def check_column_sizes(metadata: Any, limit: int) -> None:
    """Refuse columns that unpack to more than there is in events.jsonl, which has all of them in every line."""
    for number_ in range(metadata.num_row_groups):
        group = metadata.row_group(number_)
        for column in range(group.num_columns):
            size = group.column(column).total_uncompressed_size
            need(PARQUET, size <= limit + 16 * group.num_rows + 4096, f"a column of it unpacks to {size} bytes")


def values_of(column: Any, longest: int) -> list[Any]:
    """The values of a column of a batch."""
    if str(column.type).startswith("dictionary"):
        compute: Any = import_module("pyarrow.compute")
        most = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
        need(PARQUET, most <= longest, f"it has a text of {most} bytes; the longest line of {EVENTS} has {longest}")
        column = column.dictionary_decode()
    values: list[Any] = column.to_pylist()
    return values


def rows_of(bundle: Bundle) -> Iterator[tuple[str, list[Any]]]:
    """What each line of events.jsonl says, which was checked before; and the place of that row."""
    member = bundle.members[EVENTS]
    for count, line in enumerate(Lines(bundle, [Piece(member, member.start, member.end)], EVENTS), 1):
        said = json.loads(line)
        leaf, event = said["leaf"], said["event"] or {}
        facts, item = leaf["facts"], event.get("item") or {}
        breaches = facts.get("breaches")
        row = [said["index"], leaf["id"], leaf["logged_at"], facts.get("received_at"), leaf["kind"]]
        row += [facts.get(name) for name in COLUMNS[5:11]]
        row += [item.get("type"), item.get("id"), *(event.get(name) for name in EVENT_TEXTS)]
        row += [None if breaches is None else " ".join(breaches), said["stands"]["cross_check"]]
        yield f"{PARQUET} row {count} (entry {said['index']})", [*row, facts.get("test"), said["erased"]]


# ---- the command ----------------------------------------------------------------------------------------------------


def read_key(given: str) -> Key:
    """A vkey, or the one in the file of that name."""
    return parse_key(given if "+" in given else Path(given).read_text(encoding="utf-8"))


def printable(lines: Sequence[str]) -> str:
    """Lines in ASCII, with nothing that moves the cursor: else a bundle could bring a verdict of its own."""
    text_ = "\n".join(lines).encode("ascii", "backslashreplace").decode()
    return re.sub(r"[^\n -~]", lambda found: f"\\x{ord(found[0]):02x}", text_) + "\n"


def main() -> int:
    """Run the command; gives the exit status."""
    parser = argparse.ArgumentParser(description="Verify an export bundle of Rescind, offline.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE.zip", help="the file as it was downloaded")
    help_ = "the log's key, or a file with it; may be given several times"
    parser.add_argument("--key", action="append", required=True, metavar="VKEY", help=help_)
    given = parser.parse_args()
    try:
        keys = [read_key(key) for key in given.key]
        given.bundle.open("rb").close()
    except (OSError, ValueError, Refused) as error:
        parser.error(str(error))
    try:
        words = judged(lambda: Verifier(given.bundle, keys).check())
    except Wrong as wrong:
        sys.stderr.write(printable([f"NOT VERIFIED: {': '.join(wrong.args)}"]))
        return 1
    except Unable as unable:
        sys.stderr.write(
            printable([f"It could not be verified here: {unable}. Nothing is shown, neither for nor against it."])
        )
        return 2
    sys.stdout.write(printable(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
