"""Verify an export bundle of Rescind, offline and without Rescind.

    python verify.py BUNDLE.zip --key VKEY        VKEY: the log's key, or a file with it; of several, any one

It takes Python 3.11 or later and `cryptography`. Exit status 0: all of it holds, and what that shows is said; 1: the
first file, line or entry that is wrong is named; 2: called wrongly, or this machine could not finish.

**A verifier that comes with the evidence proves nothing by itself.** Compare its SHA-256 with the one in the project's
docs/verify.md, or use `translog verify`, which is other code. **The key must come from somewhere else**, too.

What is checked is laid down in docs/export-format.md. To read this file, begin at `Verifier.check`, far below: it does
everything in the order in which one thing carries the next. What it needs for that stands above it.

    the ZIP                      everybody who reads it sees the same files
    proof/checkpoint             signed by the log, whose key was given
    two other proofs             entries of that log: its exports key, and what was asked for
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
from heapq import merge
from importlib import import_module, util
from itertools import chain, pairwise, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeVar, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SCHEMA = "rescind-export/v1"
MANIFEST, NOTE, TALLIES = "manifest.json", "manifest.json.note", "tallies.json"
EVENTS, CSV, PARQUET, ENTRIES = "events.jsonl", "events.csv", "events.parquet", "entries.bin"
CHECKPOINT, RANGE, LATER, INDEXES = "proof/checkpoint", "proof/range.json", "proof/later.jsonl", "proof/indexes.json"
ENTRY_PROOF, KEY_PROOF = "proof/entry.tlog-proof", "proof/exports-key.tlog-proof"
PREVIOUS, CONSISTENCY = "proof/previous-checkpoint", "proof/consistency.json"
ERASURE = re.compile("proof/erasures/(0|[1-9][0-9]{0,17})[.]tlog-proof")

COLUMNS = (
    *("index", "id", "logged_at", "received_at", "kind", "provider", "source", "event", "effect", "via", "scheme"),
    *("item_type", "item_id", "account", "operation", "occurred_at", "extent", "amount", "quantity", "reason"),
    *("breaches", "cross_check", "test", "erased"),
)
OF_FACTS, OF_EVENT = COLUMNS[5:11], COLUMNS[13:20]  # `provider` to `scheme`, `account` to `reason`
STATES = ("confirmed", "contradicted", "absent", "pending", "none")  # of a cross-check
OUTCOMES = ("duplicate", "ignored", "mismatch", "quarantined", "recorded")  # of a delivery, in a tally
PER_FILE = 100_000  # payloads in a file

# What is larger than this is refused before it is read.
SMALL, MAX_MANIFEST, MAX_LINE, MAX_ENTRY = 1 << 21, 1 << 25, 1 << 24, 65_535  # bytes
MAX_DIRECTORY, MAX_MEMBERS = 1 << 24, 100_000  # of the ZIP
MAX_NOTE, MAX_SIGNATURES = 1_000_000, 100
MAX_NESTING = 64  # arrays and objects within one another
MAX_INTEGER = 2**53 - 1  # what every reader of JSON keeps exactly

BLOCK, BUFFER = 1 << 20, 1 << 16  # bytes that are read at once; of lines and entries, which are taken one by one
CHUNK = 4096  # entries that are checked together: a power of two, so that they are one subtree of the log
MANY, MOST_PROCESSES = 20_000, 8  # entries from which on several processes share the work, and how many do

Result = TypeVar("Result")
Span: TypeAlias = tuple[int, int]


class Wrong(Exception):  # noqa: N818  (it is the verdict)
    """What is wrong: the place (a file, a line or an entry of it, a member), and why."""


class Refused(Exception):  # noqa: N818
    """Why something is not what it must be. Who knows the place makes it `Wrong`."""


class Unable(Exception):  # noqa: N818
    """Why nothing can be told here about the bundle."""


def need(holds: object, why: str, place: str | None = None) -> None:
    """Go on only if that holds. The place need be told only where it is another than all around."""
    if not holds:
        raise Refused(why) if place is None else Wrong(place, why)


# ---- JSON and base64: what is hashed or signed has one spelling, and no other is taken ------------------------------


def read_integer(text: str) -> int:
    """Of JSON. The length is looked at first: it takes long to read very many digits."""
    need(len(text) < 18 and abs(int(text)) <= MAX_INTEGER, f"the number {text[:40]} is too large")
    return int(text)


def refuse_number(text: str) -> None:
    """Of JSON: what is no integer."""
    raise Refused(f"the number {text[:40]} is no integer")


READ_JSON = json.JSONDecoder(parse_int=read_integer, parse_float=refuse_number, parse_constant=refuse_number)
WRITE_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)


def canonical(data: bytes) -> Any:
    """The value of canonical JSON: written again, it gives the same bytes."""
    try:
        text = data.decode()
        value, _ = READ_JSON.raw_decode(text)  # whatever may stand behind the value will be missing when it is written
        written = WRITE_JSON.encode(value)
    except RecursionError:
        raise Refused(f"it is JSON nested deeper than {MAX_NESTING} levels") from None
    except ValueError:  # of JSON, or of UTF-8
        raise Refused("it is no JSON") from None
    need(written == text, "it is JSON, but not in its one canonical spelling")
    if not data.isascii() or data.count(b"{") + data.count(b"[") > MAX_NESTING:  # else there is nothing to find
        check_names_and_nesting(value)
    return value


def check_names_and_nesting(value: Any) -> None:
    """Refuse names of members that are not ASCII, and too many levels. Goes through the value level by level."""
    containers, levels = containers_of([value]), 0
    while containers:
        levels += 1
        need(levels <= MAX_NESTING, f"it is JSON nested deeper than {MAX_NESTING} levels")
        inner: list[Any] = []
        for one in containers:
            if isinstance(one, dict):
                its = cast("dict[str, Any]", one)
                need(all(name.isascii() for name in its), "it is JSON with a member whose name is not ASCII")
                one = its.values()
            inner += containers_of(one)
        containers = inner


def containers_of(values: Any) -> list[Any]:
    """The objects and arrays among these values."""
    return [one for one in values if isinstance(one, (dict, list))]


def shown(value: Any) -> str:
    """A value as it is written in messages: not too long."""
    text = WRITE_JSON.encode(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


@lru_cache(1024)
def is_time(text: str) -> bool:
    """Whether it is a moment as bundles write it, of a day that there is. As texts, these are in their order."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return re.fullmatch(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}[.][0-9]{6}Z", text) is not None


TIME, NULL, ANYTHING = "a time like 2026-07-01T00:00:00.000000Z", "null", "anything"
SIMPLE: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a number from 0 on", lambda value: type(value) is int and value >= 0),  # `True` is no number here
    TIME: (TIME, lambda value: isinstance(value, str) and is_time(value)),
    NULL: (NULL, lambda value: value is None),
    ANYTHING: (ANYTHING, lambda _: True),
}


def check_form(value: Any, form: Any, place: str | None = None) -> Any:
    """The value, if it is of that form; what is not is named, if the place is known.

    A form is one of `SIMPLE`, an object with the form of each member, an array with that of all of them, or a tuple of
    a simple form and another, of which the value has one.
    """
    if isinstance(form, dict):
        its = cast("dict[str, Any]", form)
        names = ", ".join(sorted(its))
        said = cast("dict[str, Any]", value if isinstance(value, dict) else {})
        need(said.keys() == its.keys(), f"it is no object with the members {names}", place)
        for name, its_form in its.items():
            check_form(said[name], its_form, place and f"{place}{'.' if ' ' in place else ' '}{name}")
    elif isinstance(form, list):
        need(isinstance(value, list), f"it is {shown(value)}, and no array", place)
        for one in cast("list[Any]", value):
            check_form(one, form[0], place)
    elif isinstance(form, tuple):
        first, second = cast("tuple[Any, Any]", form)
        if not SIMPLE[first][1](value):
            check_form(value, second, place)
    else:
        called, fits = SIMPLE[form]
        need(fits(value), f"it is {shown(value)}, and not {called}", place)
    return cast("Any", value)


def compare(place: str, said: Any, true: Any, levels: int = 0) -> None:
    """That what is said there is so. If not, of objects and arrays the first member that is not is named."""
    kinds: set[Any] = {type(said), type(true)}
    if levels and kinds == {dict}:
        for name in sorted({*said, *true}):
            compare(f"{place}{'.' if ' ' in place else ' '}{name}", said.get(name), true.get(name), levels - 1)
    elif levels and kinds == {list}:
        for position, (one, other) in enumerate(zip_longest(*cast("list[list[Any]]", [said, true]))):
            compare(f"{place}[{position}]", one, other)
    is_so = WRITE_JSON.encode(said) == WRITE_JSON.encode(true)  # as text, for to Python True equals 1
    need(is_so, f"it says {shown(said)}, and it is {shown(true)}", place)


def unbase64(encoded: str | bytes, size: int | None = None) -> bytes:
    """The bytes of canonical base64; so many, if that is told."""
    try:
        data = binascii.a2b_base64(encoded)
        written = binascii.b2a_base64(data, newline=False)
    except ValueError:
        raise Refused("there is something else in the place of base64") from None
    is_same = written == (encoded.encode() if isinstance(encoded, str) else encoded)
    need(is_same, "there is base64 in another spelling than the canonical one")
    if size is not None and size != len(data):
        raise Refused(f"there are {len(data)} bytes in base64 where {size} must be")
    return data


BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def check_base64(encoded: bytes) -> None:
    """Refuse what is not canonical base64. It goes by groups of four letters; only the last one leaves a choice."""
    need(len(encoded) % 4 == 0 and not encoded[:-4].translate(None, BASE64), "its body is not base64")
    unbase64(encoded[-4:])


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
    """A file of the bundle: where its bytes are in the ZIP, their CRC-32, and the time, as MS-DOS has it."""

    name: str
    start: int
    end: int
    crc: int
    time: int

    @property
    def size(self) -> int:
        return self.end - self.start


def header(name: bytes, moment: int, crc: int, size: int, offset: int | None = None) -> bytes:
    """What must stand before a member; or with its offset, what must stand in the directory."""
    numbers = [size, size] if size >= FULL else []
    if offset is not None and offset >= FULL:
        numbers.append(offset)
    wide = struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
    version, short = 45 if wide else 20, min(size, FULL)
    both = struct.pack("<3H4L2H", version, 0, 0, moment, crc, short, short, len(name), len(wide))
    if offset is None:
        return b"PK\3\4" + both + name + wide
    plain_file = struct.pack("<3H2L", 0, 0, 0, 0o100644 << 16, min(offset, FULL))
    return b"PK\1\2" + struct.pack("<2B", version, 3) + both + plain_file + name + wide


def zip_end(count: int, size: int, start: int) -> bytes:
    """What must follow a directory of so many members and bytes, which begins there."""
    wide = b""
    if count >= 0xFFFF or start >= FULL:
        wide = ZIP64_END.pack(b"PK\6\6", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, start)
        wide += ZIP64_LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    short = min(count, 0xFFFF)
    return wide + ZIP_END.pack(b"PK\5\6", 0, 0, short, short, size, min(start, FULL), 0)


def read_at(file: BinaryIO, start: int, size: int) -> bytes:
    """The bytes at that place, all of them."""
    is_there = start + size <= os.fstat(file.fileno()).st_size
    need(is_there, "it is shorter than it says, or was cut while it was read", "ZIP")
    file.seek(start)
    data = file.read(size)
    need(len(data) == size, "it is shorter than it says, or was cut while it was read", "ZIP")
    return data


def read_directory(file: BinaryIO, file_size: int) -> tuple[bytes, int, int]:
    """The bytes of the directory, where it begins, and how many members it says there are."""
    whole = ZIP64_END.size + ZIP64_LOCATOR.size + ZIP_END.size
    tail = read_at(file, max(0, file_size - whole), min(whole, file_size))
    is_end = len(tail) >= ZIP_END.size and tail[-ZIP_END.size :].startswith(b"PK\5\6")
    need(is_end, "it does not end as a ZIP does: is it whole, as it was downloaded?", "ZIP")
    _, _, _, _, count, size, start, _ = ZIP_END.unpack(tail[-ZIP_END.size :])
    if (count == 0xFFFF or start == FULL) and len(tail) == whole:
        *_, count, size, start = ZIP64_END.unpack(tail[: ZIP64_END.size])
    need(size <= MAX_DIRECTORY and count <= MAX_MEMBERS, "it has more files than a bundle can have", "ZIP")
    end = zip_end(count, size, start)
    need(start + size + len(end) == file_size and tail.endswith(end), "its end is not as in a bundle", "ZIP")
    return read_at(file, start, size), start, count


def read_header(directory: bytes, at: int, file: BinaryIO) -> tuple[Member, int]:
    """The member that the directory names at that position, and the position after it."""
    need(
        directory[at : at + 4] == b"PK\1\2" and len(directory) - at >= ZIP_ENTRY.size, "its directory is damaged", "ZIP"
    )
    _, _, _, flags, method, moment, crc, _, size, *lengths, offset = ZIP_ENTRY.unpack_from(directory, at)
    wide_at = at + ZIP_ENTRY.size + lengths[0]
    end = wide_at + lengths[1]
    name = directory[at + ZIP_ENTRY.size : wide_at]
    is_name = NAME.fullmatch(name) and b".." not in name and len(name) < 256
    need(is_name, f"{shown(name.decode(errors='replace'))} is no name of a file of a bundle", "ZIP")
    place = name.decode()
    need(not flags & 1, "it is encrypted, which nothing in a bundle is", place)
    need(not method, "it is packed, which nothing in a bundle is: verify the file as it was downloaded", place)
    wide = [one for (one,) in struct.iter_unpack("<Q", directory[wide_at + 4 : end])] if lengths[1] % 8 == 4 else []
    if size == FULL and len(wide) >= 2:
        size, wide = wide[0], wide[2:]
    if offset == FULL and wide:
        offset = wide[0]
    is_so = header(name, moment, crc, size, offset) == directory[at:end]
    need(is_so, "what the directory says of it is not as in a bundle", place)
    local = header(name, moment, crc, size)
    need(read_at(file, offset, len(local)) == local, "the header before it differs from the directory", place)
    start = offset + len(local)
    return Member(place, start, start + size, crc, moment), end


@dataclass(frozen=True)
class Bundle:
    """A ZIP of which everything was checked but what is in its members; and its size and time, should it change."""

    path: Path
    members: Mapping[str, Member]
    state: tuple[int, int]

    def read(self, name: str, limit: int = SMALL) -> bytes:
        """A whole file of the bundle, if it is not larger than that."""
        need(name in self.members, "it is not in the bundle", name)
        member = self.members[name]
        need(member.size <= limit, f"it has {member.size} bytes, more than such a file can have", name)
        data = b"".join(self.blocks(member.start, member.end))
        need(zlib.crc32(data) == member.crc, "its CRC-32 is not that in the ZIP: it was changed or damaged", name)
        return data

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """That piece of the ZIP, a block at a time."""
        with self.path.open("rb") as file:
            for position in range(start, end, BLOCK):
                yield read_at(file, position, min(BLOCK, end - position))

    def sums(self, start: int, end: int) -> tuple[str, int]:
        """SHA-256, in hex, and CRC-32 of that piece of the ZIP."""
        digest, crc = hashlib.sha256(), 0
        for block in self.blocks(start, end):
            digest.update(block)
            crc = zlib.crc32(block, crc)
        return digest.hexdigest(), crc

    def holds(self, start: int, end: int, text: bytes) -> bool:
        """Whether that piece of the ZIP is this."""
        return end - start == len(text) and b"".join(self.blocks(start, end)) == text


def state_of(path: Path) -> tuple[int, int]:
    """Size and time of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def open_bundle(path: Path) -> Bundle:
    """The members of a ZIP, after all that is around them was compared."""
    state, found, offset, position, moment = state_of(path), dict[str, Member](), 0, 0, None
    with path.open("rb") as file:
        directory, start, count = read_directory(file, state[0])
        for _ in range(count):
            member, position = read_header(directory, position, file)
            name = member.name
            need(name not in found, "it is in the ZIP twice", name)
            begin = member.start - len(header(name.encode(), member.time, member.crc, member.size))
            need(begin == offset, "it does not begin where the file before it ends", name)
            need(moment in {None, member.time}, "it has another time than the files before it", name)
            found[name], offset, moment = member, member.end, member.time
    need((offset, position) == (start, len(directory)), "there are bytes in it that belong to no file", "ZIP")
    return Bundle(path, found, state)


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
    name, _, rest = vkey.strip().partition("+")
    number, _, encoded = rest.partition("+")
    public = unbase64(encoded)
    id_ = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    is_key = name.split() == [name] and id_.hex() == number and len(public) == 33 and public[0] == 1
    need(is_key, "it is no vkey of a key of Ed25519, <name>+<id>+<base64>, or there is a slip in it")
    check_point(public[1:])
    return Key(name, id_, public[1:])


def check_point(public: bytes) -> None:
    """Refuse what is no public key, and the few points for which anybody can make signatures (RFC 8032, 5.1.3).

    A point is written as its y, with a sign. It is on the curve if (y^2 - 1) / (d y^2 + 1) is a square. Eight of all
    points have a small order; these are their y.
    """
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    y = int.from_bytes(public, "little") & (2**255 - 1)
    of_order_8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    is_on_curve = pow((y * y - 1) * (d * y * y + 1), (p - 1) // 2, p) == 1
    is_small = y in {0, 1, p - 1, of_order_8, p - of_order_8}
    need(y < p and is_on_curve and not is_small, "it is no sound key of Ed25519")


def open_note(data: bytes, keys: Sequence[Key]) -> tuple[Key, list[str], int]:
    """Which of the keys signed a note, its lines, and how many signatures it has: those by the keys all verify."""
    need(len(data) <= MAX_NOTE, f"it has more than {MAX_NOTE} bytes")
    whole = data.decode(errors="replace")
    body, empty_line, below = whole.rpartition("\n\n")
    lines = below.split("\n", MAX_SIGNATURES)
    is_note = empty_line and lines.pop() == "" and whole.encode() == data and not re.search("[\0-\t\x0b-\x1f]", whole)
    need(is_note, f"it is no signed note, a text and below it up to {MAX_SIGNATURES} signatures")
    signers: list[Key] = []
    for line in lines:
        match = re.fullmatch("\N{EM DASH} ([^\\s+]+) ([^\\s]{8,})", line)
        if match is None:
            raise Refused(f"{shown(line)} is no signature")
        blob = unbase64(match[2])
        for key in keys:
            if (key.name, key.id) == (match[1], blob[:4]):
                check_signature(key, blob[4:], f"{body}\n".encode())
                signers.append(key)
    known = ", ".join(f"{key.name}+{key.id.hex()}" for key in keys)
    need(signers, f"it is not signed by {known}, as it must be")
    return signers[0], body.split("\n"), len(lines)


def check_signature(key: Key, signature: bytes, signed: bytes) -> None:
    """Refuse a signature that was not made over that with the key."""
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed)
    except InvalidSignature:
        raise Refused(f"the signature of {key.name} does not verify: it was changed after it was signed") from None


def open_checkpoint(data: bytes, keys: Sequence[Key]) -> Checkpoint:
    """The checkpoint in a note that a log signed."""
    signer, lines, _ = open_note(data, keys)
    is_checkpoint = len(lines) >= 3 and lines[0] == signer.name and all(lines[3:])
    need(is_checkpoint, "it is signed, but it is no checkpoint of that log")
    return Checkpoint(lines[0], check_form(canonical(lines[1].encode()), int), unbase64(lines[2], 32))


# ---- the tree of all entries (RFC 6962) -----------------------------------------------------------------------------
#
# A tree of more than one leaf has two halves; left is the largest power of two below the number of leaves. The hash of
# a tree is that of both halves' hashes; of one leaf, that of the entry. A *span* [low, high) is a half of a half ... of
# the whole. A proof is the hashes of some spans in an order that everybody knows; so it need not name them.


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


def proven(spans: Sequence[Span], hashes: Sequence[str]) -> dict[Span, bytes]:
    """The hashes of a proof, in base64, by the spans that they are of."""
    need(len(hashes) == len(spans), f"there are {len(hashes)} hashes; a proof of this has {len(spans)}")
    return {span: unbase64(one, 32) for span, one in zip(spans, hashes, strict=True)}


def check_included(entry: bytes, index: int, log: Checkpoint, hashes: Sequence[str]) -> None:
    """Refuse a proof that does not lead from this entry at that index to the log's root (section 2.1.1)."""
    need(0 <= index < log.size, f"the log has no entry {index}: it has {log.size}")
    nodes = proven(beside(0, log.size, index, index + 1), hashes)
    nodes[index, index + 1] = leaf_hash(entry)
    need(
        root_of(0, log.size, nodes) == log.root,
        f"its proof does not lead from it, as entry {index}, to the signed root",
    )


def check_consistent(old: Checkpoint, new: Checkpoint, hashes: Sequence[str]) -> None:
    """Refuse a proof that does not show the old tree to be the beginning of the new one (section 2.1.2).

    The last whole subtree of the old tree is one of the new tree as well. With what is beside it, it gives the new
    root; and with what of that is within the old tree, the old root.
    """
    need(0 < old.size <= new.size, f"a log of {old.size} entries cannot have become one of {new.size}")
    start = old.size - (old.size & -old.size)
    spans: list[Span] = []
    if old.size < new.size:
        spans = beside(0, new.size, start, old.size)
        if start > 0:
            spans.insert(0, (start, old.size))
    nodes = proven(spans, hashes)
    if not spans or start == 0:  # the old tree is the new one, or the last whole subtree: its hash is known
        nodes[0, old.size] = old.root
    is_so = root_of(0, old.size, nodes) == old.root and root_of(0, new.size, nodes) == new.root
    need(is_so, "it does not show that the log has only grown: the roots do not follow from its hashes")


# ---- entries of the log ---------------------------------------------------------------------------------------------

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
COMMITMENT = '(?:"([0-9a-f]{64})"|null)'
LEAF = re.compile(
    rf'{{"delivery":{COMMITMENT},"event":{COMMITMENT},"facts":({{.*}}),"id":"({UUID})",'
    r'"kind":"([a-z]+(?:_[a-z]+)*)","logged_at":"([0-9T:.Z-]{27})","v":1}',
    re.DOTALL,
)
RECEIVED = re.compile('"received_at":"([0-9T:.Z-]{27})"')
TALLY: dict[str, Any] = {
    "counts": {**dict.fromkeys((*OUTCOMES, "deliveries"), int), "refused": ANYTHING},
    "from": TIME,
    "incomplete": bool,
    "process": ANYTHING,
    "source": str,
    "until": TIME,
}


class Leaf(NamedTuple):
    """An entry of the log: its commitments, in hex, and what it says openly.

    `facts` is JSON. Most entries have the same facts as others but for when they were received. So that they need be
    read only once, that time is taken out of the JSON, where `*` is in its place, and is in `received_at`.
    """

    delivery: str | None
    event: str | None
    facts: str
    received_at: str | None
    id: str
    kind: str
    logged_at: str


def read_leaf(entry: bytes) -> Leaf:
    """What an entry says, if it is spelled as it must be."""
    match = LEAF.fullmatch(entry.decode(errors="replace"))
    if match is None or not is_time(match[6]) or len(entry) > MAX_ENTRY:
        raise Refused("it is no leaf as docs/log-format.md has it")
    delivery, event, facts, id_, kind, logged_at = match.groups()
    received = RECEIVED.search(facts)
    if received is not None and facts.count('"received_at":"') == 1:
        shared = facts[: received.start(1)] + "*" + facts[received.end(1) :]
        if facts_of(shared).get("received_at") == "*":  # else it is the member of another object
            return Leaf(delivery, event, shared, received[1], id_, kind, logged_at)
    facts_of(facts)
    return Leaf(delivery, event, facts, None, id_, kind, logged_at)


def remembering(read: Callable[[str], Result]) -> Callable[[str], Result]:
    """Read a text as before, but remember for some thousand texts that are not long what was read."""
    remembered = lru_cache(4096)(read)
    return lambda text: remembered(text) if len(text) <= 1024 else read(text)


@remembering
def facts_of(facts: str) -> dict[str, Any]:
    """What facts say, or the details of an event."""
    return canonical(facts.encode())


def is_event(leaf: Leaf) -> bool:
    """Whether something happened to an item: a notice of it, or an answer that had an effect."""
    if leaf.kind == "attempt":
        return facts_of(leaf.facts).get("effect") is not None
    return leaf.kind in {"revocation", "context"}


def predecessor(leaf: Leaf) -> str | None:
    """The log that this one succeeds after a loss, and what it held, in words; None if the leaf tells of none."""
    match facts_of(leaf.facts):
        case {"action": "recovered", "predecessor": {"origin": str(origin), "guard": {"size": int(size)}}} if (
            leaf.kind == "tenant" and type(size) is int and size >= 0  # `True` is no number here
        ):
            return f"{origin}, which held {'1 signed entry' if size == 1 else f'{size} signed entries'}"
        case _:
            return None


Statement: TypeAlias = tuple[str, int, str]
"""The id of an entry; the index of a later one, and what that says of it: one of `STATES`, or what of it was erased."""


def statements(leaf: Leaf, index: int) -> list[Statement]:
    """What the leaf at that index says of others."""
    if leaf.kind not in {"cross_check", "erasure"}:
        return []
    facts = facts_of(leaf.facts)
    ids: Any = [facts.get("first")] if leaf.kind == "cross_check" else facts.get("ids")
    known = STATES if leaf.kind == "cross_check" else ("all", "delivery")
    what: Any = facts.get("state")
    need(what in known, f"its state is {shown(what)}, and must be one of {', '.join(known)}")
    for id_ in check_form(ids, [str]):
        need(re.fullmatch(UUID, id_), f"{shown(id_)} is no id of an entry")
    return [(id_, index, what) for id_ in ids]


@dataclass
class Statements:
    """What is said of entries, by their id. Those that say so are added in their order.

    There may be millions. So of cross-checks only the last is kept, as one number: five times its index, and the
    number of its state. Of erasures, the index and what it took away.
    """

    told: dict[str, int] = field(default_factory=dict[str, int])
    gone: dict[str, list[tuple[int, str]]] = field(default_factory=dict[str, list[tuple[int, str]]])

    def add(self, said: Sequence[Statement]) -> None:
        for id_, index, what in said:
            if what in STATES:
                self.told[id_] = index * len(STATES) + STATES.index(what)
            else:
                self.gone.setdefault(id_, []).append((index, what))

    def standing(self, id_: str) -> tuple[str | None, int | None]:
        """State and index of the last cross-check."""
        told = self.told.get(id_)
        return (None, None) if told is None else (STATES[told % len(STATES)], told // len(STATES))

    def erasures(self, id_: str, *, wholly: bool) -> list[int]:
        """The erasures that took the delivery away; or `wholly`, the event as well."""
        return [index for index, what in self.gone.get(id_, ()) if what == "all" or not wholly]


def read_tally(facts: dict[str, Any]) -> dict[str, Any]:
    """What a tally says, whose numbers add up."""
    check_form(facts, TALLY)
    counts: dict[str, Any] = facts["counts"]
    need(isinstance(counts["refused"], dict), "what it refused is no object")
    numbers = [check_form(one, int) for one in counts["refused"].values()]
    parts = sum(numbers) + sum(counts[name] for name in OUTCOMES)
    need(
        counts["deliveries"] == parts, f"it counts {counts['deliveries']} deliveries, and tells what became of {parts}"
    )
    return facts


# ---- what events say, and events.csv --------------------------------------------------------------------------------


def cell(value: Any) -> str:
    """A text, or null, as RFC 4180 has it, and none that a spreadsheet takes for a formula."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise Refused(f"it says {shown(value)} where a text must be")
    if value[0] in "=+-@\t\r":
        value = f"'{value}"
    if "," in value or '"' in value or "\r" in value or "\n" in value:
        value = '"' + value.replace('"', '""') + '"'
    return value


def flag(*, value: bool | None) -> str:
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


@remembering
def event_facts(facts: str) -> EventFacts:
    """What the facts of an event say."""
    said = facts_of(facts)
    texts, breaches, test = [said.get(name) for name in OF_FACTS], said.get("breaches"), said.get("test")
    form = [(NULL, [str]), (NULL, bool), str, (NULL, str)]
    for value, its_form in zip((breaches, test, said.get("provider"), said.get("received_at")), form, strict=True):
        check_form(value, its_form)
    return EventFacts(
        provider=said["provider"],
        effect=said.get("effect"),
        breaches=frozenset(breaches or ()),
        is_test=test is True,
        received_at=said.get("received_at"),
        origin=",".join(map(cell, texts)),
        breaches_cell=cell(" ".join(breaches or ())),
        test_cell=flag(value=test),
    )


def received_at(leaf: Leaf) -> str | None:
    """When an event was received."""
    return event_facts(leaf.facts).received_at if leaf.received_at is None else leaf.received_at


ERASED = (None, "," * 8)
TEXT = r'(?:"([ !#-\[\]-~]*)"|null)'  # a text that is plain: of printable ASCII, nothing in it escaped
PLAIN_EVENT = re.compile(
    rf'{{"account":{TEXT},"amount":{TEXT},"details":({{[ -z|~]*}}),"extent":{TEXT},'
    rf'"item":(?:{{"id":{TEXT},"type":{TEXT}}}|null),"occurred_at":{TEXT},"occurred_from":{TEXT},'
    rf'"operation":{TEXT},"quantity":{TEXT},"reason":{TEXT}}}'
)
"""Most events. What it matches is canonical if the details are: names are in order, and texts have one spelling."""
PLAIN_HEADERS = re.compile(rb'{"[a-z0-9-]+":"[ !#-\[\]-~]*"(?:,"[a-z0-9-]+":"[ !#-\[\]-~]*")*}')
"""Most headers. What it matches is canonical if the names are in order."""


def read_event(data: bytes) -> tuple[str | None, str]:
    """What an event's own data say: when it occurred; and the cells `item_type` to `reason` of events.csv."""
    plain = PLAIN_EVENT.fullmatch(data.decode(errors="replace"))
    if plain is not None:
        account, amount, details, extent, id_, type_, occurred_at, _, operation, quantity, reason = plain.groups()
        facts_of(details)
        texts = [type_, id_, account, operation, occurred_at, extent, amount, quantity, reason]
        return occurred_at, ",".join(map(cell, texts))
    need(data.startswith(b"{"), "it is no object")
    said = canonical(data)
    item: dict[str, Any] = said.get("item") if isinstance(said.get("item"), dict) else {}
    is_item = said.get("item") is None or item.keys() == {"id", "type"}
    need(is_item, "its item is no object with the members id and type")
    texts = [item.get("type"), item.get("id"), *map(said.get, OF_EVENT)]
    return said.get("occurred_at"), ",".join(map(cell, texts))


def check_delivery(data: bytes) -> None:
    """Refuse what is not canonical JSON of a delivery: its body in base64, and headers. The body is the larger part."""
    head, middle = b'{"body":"', b'","headers":'
    body, found, rest = data.removeprefix(head).partition(middle)
    is_delivery = data.startswith(head) and found and rest[:1] == b"{" and rest.endswith(b"}}")
    need(is_delivery, "it is no delivery, which has a body and headers")
    check_base64(body)
    headers = rest[:-1]
    if PLAIN_HEADERS.fullmatch(headers) is not None:
        names = headers.split(b'"')[1::4]
        if names == sorted({*names}):
            return
    for name, value in canonical(headers).items():
        need(name and name == name.lower(), "the name of a header is not in lower case")
        need(isinstance(value, str), "the value of a header is no text")


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

    def __init__(self, bundle: Bundle, name: str, pieces: Sequence[Piece] | None = None) -> None:
        member = bundle.members.get(name)
        whole = [] if member is None else [Piece(member, member.start, member.end)]
        self.bundle, self.name, self.pieces = bundle, name, whole if pieces is None else pieces
        self.current, self.counts = 0, [0] * len(self.pieces)

    def __iter__(self) -> Iterator[bytes]:
        with self.bundle.path.open("rb", BUFFER) as file:
            for number, (_, position, end) in enumerate(self.pieces):
                self.current = number
                file.seek(position)
                while position < end:
                    line = file.readline(min(MAX_LINE, end - position))
                    self.counts[number] += 1
                    if not line.endswith(b"\n"):  # only now is it worth knowing which line it is
                        raise Wrong(self.place(), "it does not end in a newline, or is too long")
                    position += len(line)
                    yield line[:-1]

    def place(self, index: int | None = None, *, after: int = 0) -> str:
        """The name of the current line, or of one after it; that of the entry at that index, if it is told."""
        name, line = self.name, after
        if self.pieces:
            member, start, _ = self.pieces[self.current]
            name = member.name
            line += self.counts[self.current] + sum(one.count(b"\n") for one in self.bundle.blocks(member.start, start))
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
    providers: Sequence[str] | None
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
        if not is_event(leaf):
            return {"quarantine": "quarantined", "mismatch": "mismatches"}.get(leaf.kind, "")
        facts = event_facts(leaf.facts)
        if facts.is_test and not self.tests:
            return "tests"
        if self.providers is not None and facts.provider not in self.providers:
            return "other_providers"
        if self.basis == "occurred":
            return None
        moment = leaf.logged_at if self.basis == "logged" else received_at(leaf)
        return None if self.when(moment) == "inside" else "outside"


@dataclass(frozen=True)
class Task:
    """What it takes to check any chunk. It is sent to the other processes."""

    bundle: Bundle
    question: Question
    said: Statements

    def entries(self, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
        """The entries of a chunk, with their indexes."""
        with self.bundle.path.open("rb", BUFFER) as file:
            file.seek(chunk.place)
            for index in range(chunk.low, chunk.high):
                size = int.from_bytes(file.read(2), "big")
                yield index, file.read(size)


@dataclass
class Surveyed:
    """What the entries of a chunk show by themselves."""

    chunk: Chunk
    nodes: dict[Span, bytes] = field(default_factory=dict[Span, bytes])  # its part of the tree
    fault: tuple[str, str] | None = None  # the first entry that is wrong, and why; nothing after it is looked at
    times: tuple[str, str] = "", ""  # when the first and the last were logged
    before: int = 0  # how many were logged before the period
    beyond: int | None = None  # the first that was logged when it was over
    said: list[Statement] = field(default_factory=list[Statement])
    tallies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def survey(task: Task, chunk: Chunk) -> Surveyed:
    """Look at the entries of a chunk alone."""
    found, hashes, times = Surveyed(chunk), list[bytes](), list[str]()
    for index, entry in task.entries(chunk):
        hashes.append(leaf_hash(entry))
        if found.fault is not None:
            continue
        try:
            leaf = read_leaf(entry)
            if times and leaf.logged_at < times[-1]:
                raise Refused(f"it was logged at {leaf.logged_at}, before the one that it follows")
            if leaf.kind == "tally":
                found.tallies.append(read_tally(facts_of(leaf.facts)))
            found.said += statements(leaf, index)
            if index >= task.question.first:
                task.question.why_not(leaf)  # to know that it can be told
            times.append(leaf.logged_at)
        except Refused as error:
            found.fault = f"{ENTRIES} entry {index}", str(error)
    if len(hashes) == CHUNK:
        while len(hashes) > 1:
            hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
        found.nodes = {(chunk.low, chunk.high): hashes[0]}
    else:
        found.nodes = {(index, index + 1): one for index, one in enumerate(hashes, chunk.low)}
    if times:
        found.times = times[0], times[-1]
        found.before, over = bisect_left(times, task.question.since), bisect_left(times, task.question.until)
        found.beyond = chunk.low + over if over < len(times) else None
    return found


class Kind(NamedTuple):
    """What is counted of an event."""

    provider: str
    effect: str
    cross_check: str
    breaches: frozenset[str]
    occurred: str
    is_late: bool
    is_erased: bool


@dataclass
class Checked:
    """What the events of a chunk come to."""

    chunk: Chunk
    kinds: Counter[Kind] = field(default_factory=Counter[Kind])
    reasons: Counter[str] = field(default_factory=Counter[str])  # why others are not among the events
    indexes: list[int] = field(default_factory=list[int])
    named: set[int] = field(default_factory=set[int])  # entries from the range's end on that the lines name
    payloads: dict[str, int] = field(default_factory=dict[str, int])  # how many lines of which file
    csv: tuple[int, str] = 0, ""  # how long its part of events.csv is, and its SHA-256


def check_events(task: Task, chunk: Chunk) -> Checked:
    """Compare the lines about the entries of a chunk with these."""
    return EventCheck(task, chunk).run()


class EventCheck:
    """The entries of a chunk, and beside them the lines of its events and of their payloads."""

    def __init__(self, task: Task, chunk: Chunk) -> None:
        self.task, self.question, self.said = task, task.question, task.said
        self.found, self.rows = Checked(chunk), list[str]()
        payloads = [one for one in task.bundle.members.values() if one.name.startswith("payloads/")]
        self.lines = Lines(task.bundle, EVENTS, self.pieces([task.bundle.members[EVENTS]]))
        self.payloads = Lines(task.bundle, "payloads/000000.jsonl", self.pieces(payloads))

    def pieces(self, files: Sequence[Member]) -> list[Piece]:
        """The lines that are about this chunk, so that those of all chunks together are all lines."""
        found, chunk = list[Piece](), self.found.chunk
        with self.task.bundle.path.open("rb") as file:
            for member in files:
                start = member.start if chunk.low == self.question.start else find_line(file, member, chunk.low)
                end = member.end if chunk.high == self.question.end else find_line(file, member, chunk.high)
                need(start <= end, "its lines are not in the order of the entries", member.name)
                found.append(Piece(member, start, end))
        return [one for one in found if one.start < one.end] or found[:1]

    def run(self) -> Checked:
        """All of it."""
        found, each_line, each_payload = self.found, iter(self.lines), iter(self.payloads)
        line = next(each_line, None)
        for index, entry in self.task.entries(found.chunk):
            if index < self.question.first:
                continue
            leaf = read_leaf(entry)
            reason = self.question.why_not(leaf)
            if reason is None and self.question.basis == "occurred" and (line is None or stated_index(line) != index):
                erasures = self.said.erasures(leaf.id, wholly=True)
                why = "it was erased, so that nobody can say when it occurred, and must be here; it was left out"
                need(not erasures, why, f"{EVENTS} (entry {index})")
                reason = "outside"
            if reason is not None:
                found.reasons[reason] += 1
                continue
            if line is None:
                raise Wrong(self.lines.place(index, after=1), "the line of this event is not there: it was left out")
            try:
                occurred_at, cells, erased_by = self.check_line(index, entry, leaf, line)
            except Refused as error:
                raise Wrong(self.lines.place(index), str(error)) from None
            payload = next(each_payload, None)
            if payload is None:
                raise Wrong(self.payloads.place(index, after=1), "the line of this event is not there: it was left out")
            try:
                delivery_erased_by = self.check_payload(index, leaf, payload)
            except Refused as error:
                raise Wrong(self.payloads.place(index), str(error)) from None
            self.count(index, leaf, occurred_at, cells, erased_by, delivery_erased_by)
            line = next(each_line, None)
        if line is not None:
            raise Wrong(self.lines.place(stated_index(line)), "it is of no event that belongs here")
        payload = next(each_payload, None)
        if payload is not None:
            raise Wrong(self.payloads.place(stated_index(payload)), "it is of no event that belongs here")
        for (member, _, _), count in zip(self.payloads.pieces, self.payloads.counts, strict=True):
            found.payloads[member.name] = count
        rows = "".join(self.rows).encode()
        found.csv = len(rows), hashlib.sha256(rows).hexdigest()
        return found

    def check_line(self, index: int, entry: bytes, leaf: Leaf, line: bytes) -> tuple[str | None, str, int | None]:
        """Compare a line of events.jsonl. Gives what the event's data say, and the erasure that the line names."""
        state, told_by = self.said.standing(leaf.id)
        erasures = self.said.erasures(leaf.id, wholly=True)
        stands = b'"stands":{"cross_check":null,"entry":null}}'
        if state is not None:
            stands = b'"stands":{"cross_check":"%b","entry":%d}}' % (state.encode(), told_by)
        middle = b',"index":%d,"leaf":%b,"salt":' % (index, entry)
        for by in erasures:
            if line == b'{"erased":true,"erased_by":%d,"event":null%bnull,%b' % (by, middle, stands):
                return *ERASED, by
        # All but the event's data has a known length. So the line is taken apart, and must be what its parts make up.
        head, middle, end = b'{"erased":false,"erased_by":null,"event":', middle + b'"', b'",' + stands
        data, salt = taken_apart(line, head, middle, end)
        if erasures or line != head + data + middle + salt + end:
            raise Refused(why_not_the_line(line, index, erasures, entry, stands))
        is_so = commitment(unbase64(salt, 32), b"event", data) == leaf.event
        need(is_so, "its event and salt do not give what its entry commits to: it was changed")
        occurred_at, cells = read_event(data)
        if self.question.basis == "occurred":
            need(self.question.when(occurred_at) == "inside", "it did not occur in the period")
        return occurred_at, cells, None

    def check_payload(self, index: int, leaf: Leaf, line: bytes) -> int | None:
        """Compare a line of payloads. Gives the erasure that it names."""
        erasures = self.said.erasures(leaf.id, wholly=False)
        for by in erasures:
            if line == b'{"delivery":null,"erased_by":%d,"index":%d,"salt":null}' % (by, index):
                return by
        head, middle, end = b'{"delivery":', b',"erased_by":null,"index":%d,"salt":"' % index, b'"}'
        data, salt = taken_apart(line, head, middle, end)
        if erasures or line != head + data + middle + salt + end:
            raise Refused(why_not_the_line(line, index, erasures))
        is_so = commitment(unbase64(salt, 32), b"delivery", data) == leaf.delivery
        need(is_so, "its delivery and salt do not give what its entry commits to: it was changed")
        check_delivery(data)
        return None

    def count(
        self, index: int, leaf: Leaf, occurred_at: str | None, cells: str, erased_by: int | None, gone_by: int | None
    ) -> None:
        """Count an event, and write its row of events.csv."""
        question, found, facts = self.question, self.found, event_facts(leaf.facts)
        state, told_by = self.said.standing(leaf.id)
        found.indexes.append(index)
        found.named.update(one for one in (told_by, erased_by, gone_by) if one is not None and one >= question.end)
        is_late = question.basis != "logged" and leaf.logged_at >= question.until
        effect, occurred, is_erased = facts.effect or "none", question.when(occurred_at), erased_by is not None
        found.kinds[Kind(facts.provider, effect, state or "untold", facts.breaches, occurred, is_late, is_erased)] += 1
        self.rows.append(
            f"{index},{leaf.id},{leaf.logged_at},{cell(received_at(leaf))},{leaf.kind},{facts.origin},{cells},"
            f"{facts.breaches_cell},{state or ''},{facts.test_cell},{flag(value=is_erased)}\r\n"
        )


def taken_apart(line: bytes, head: bytes, middle: bytes, end: bytes) -> tuple[bytes, bytes]:
    """The data after the head, and after the middle the salt, of 44 letters; anything, if the line is too short."""
    salt_at = max(len(line) - len(end) - 44, 0)
    return line[len(head) : max(salt_at - len(middle), 0)], line[salt_at : salt_at + 44]


def why_not_the_line(line: bytes, index: int, erasures: Sequence[int], entry: bytes = b"", stands: bytes = b"") -> str:
    """In words, what is wrong with a line that is not the one that there can be."""
    stated, says_erased = stated_index(line), b'"erased_by":null,"' not in line
    if stated is None:
        return "it is no line of an event"
    if stated != index:
        return f"the line of entry {index} belongs here, and it is of entry {stated}: left out, added or swapped"
    if erasures and not says_erased:
        return f"entry {index} was erased by entry {erasures[0]}, and its text is here"
    if erasures:
        return f"it names another erasure than entry {erasures[0]}, which erased it, or is spelled otherwise"
    if says_erased:
        return f"it says that entry {index} was erased, and no entry here says so"
    if entry not in line:
        return f"its leaf is not entry {index} of {ENTRIES}"
    if not line.endswith(stands):
        return f"how it stands is not what the log says last of it: {stands.decode()[9:-1]}"
    return "it has another spelling, or other members, than such a line has"


# ---- several processes ----------------------------------------------------------------------------------------------

tasks: list[Task] = []  # in a process that helps: the task that it was started for


def take_up(task: Task) -> None:
    """In a process that helps: begin."""
    tasks[:] = [task]


def help_with(check: Callable[[Task, Chunk], Result], chunk: Chunk) -> Result:
    """In a process that helps: check a chunk."""
    return judged(partial(check, tasks[0], chunk), f"{ENTRIES} entries {chunk.low} to {chunk.high - 1}")


def each_chunk(check: Callable[[Task, Chunk], Result], task: Task, chunks: Sequence[Chunk]) -> Iterator[Result]:
    """What the check gives for each chunk, in order; what is wrong first is raised first. Large bundles are shared."""
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    if chunks[-1].high - chunks[0].low < MANY or processes == 1:
        for chunk in chunks:
            yield check(task, chunk)
        return
    with ProcessPoolExecutor(processes, initializer=take_up, initargs=(task,)) as pool:
        yield from pool.map(partial(help_with, check), chunks)


def judged(check: Callable[[], Result], place: str = "ZIP") -> Result:
    """What the check gives. Whatever else is in the way of it is a verdict as well, or the reason why there is none."""
    try:
        return check()
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

EXPORT: dict[str, Any] = {
    "basis": str,
    "by": str,
    "parquet": bool,
    "providers": (NULL, [str]),
    "since": TIME,
    "tests": bool,
    "until": TIME,
}
EXPORTS_KEY = dict.fromkeys(("action", "by", "id", "purpose", "vkey"), str)
MANIFEST_FORM: dict[str, Any] = {
    "asked": {"at": TIME, "by": str},
    "counts": {
        **dict.fromkeys(("by_breach", "by_cross_check", "by_effect", "by_provider"), ANYTHING),
        **dict.fromkeys(("entries", "erased", "events", "late"), int),
    },
    "exclusions": dict.fromkeys(("mismatches", "other_providers", "outside", "quarantined", "tests"), int),
    "export": str,
    "files": ANYTHING,
    "log": {"origin": str, "root": str, "size": int},
    "period": {"basis": str, "since": TIME, "until": TIME},
    "population": str,
    "previous": ANYTHING,
    "query": {"providers": (NULL, [str]), "tests": bool},
    "range": {"end": int, "entry": int, "first": int, "start": int},
    "schema": str,
    "software": str,
    "tenant": str,
}
TALLIES_FORM: dict[str, Any] = {
    "cut_off": {
        "events": dict.fromkeys(("after", "before", "inside", "undated"), int),
        "outside": {"logged_after": int, "logged_before": int},
    },
    "days": [ANYTHING],
    "gaps": [ANYTHING],
}


class Proven(NamedTuple):
    """An entry that a tlog-proof proves, with what its facts say; and the checkpoint in it, as a note and as read."""

    at: int
    leaf: Leaf
    facts: dict[str, Any]
    note: bytes
    log: Checkpoint


class Logged(NamedTuple):
    """When an entry was logged, and where it says so."""

    at: int
    moment: str
    place: str


class Verifier:
    """What is known of a bundle on the way through it. What is refused is wrong at `place`, where it looks."""

    def __init__(self, path: Path, keys: Sequence[Key]) -> None:
        self.path, self.keys, self.place = path, keys, "ZIP"

    def check(self) -> list[str]:
        """All of it, in the order in which one thing carries the next. Gives what is to be told."""
        try:
            return judged(self.check_all, "ZIP")
        except Wrong as wrong:
            raise (Wrong(self.place, wrong.args[1]) if wrong.args[0] == "ZIP" else wrong) from None

    def check_all(self) -> list[str]:
        """The steps."""
        self.bundle = open_bundle(self.path)
        self.note = self.read(CHECKPOINT)
        self.log = open_checkpoint(self.note, self.keys)
        self.announced, self.exports_key = self.check_exports_key()
        self.entry = self.check_export_entry()
        self.asked = self.entry.facts
        self.manifest = self.check_manifest()
        self.question = self.check_range()
        self.check_names()
        self.check_sums()
        if self.manifest["previous"] is not None:
            self.check_previous()
        self.task = Task(self.bundle, self.question, Statements())
        chunks = self.cut_entries()
        tallies = self.check_entries(chunks)
        predecessors = self.predecessors(chunks[0])
        kinds, reasons = self.check_all_events(chunks)
        self.check_counts(kinds, reasons)
        self.check_tallies(tallies, kinds)
        parquet = self.check_parquet()
        need(state_of(self.path) == self.bundle.state, "it was changed while it was verified: verify it again", "ZIP")
        return self.words(parquet, predecessors)

    def read(self, name: str, limit: int = SMALL) -> bytes:
        """A small file, at which we look from now on."""
        self.place = name
        return self.bundle.read(name, limit)

    # ---- from the log's key to the manifest -------------------------------------------------------------------------

    def check_proof(self, name: str, kind: str) -> Proven:
        """The entry of that kind that a tlog-proof (C2SP) proves, which opens nothing."""
        head, _, note = self.read(name).partition(b"\n\n")
        log = open_checkpoint(note, self.keys)
        title, extra, index_, *hashes = [*head.decode(errors="replace").split("\n"), "", ""]
        is_proof = (title, extra[:6], index_[:6]) == ("c2sp.org/tlog-proof@v1", "extra ", "index ")
        need(is_proof, "it is no tlog-proof of an entry")
        shows = {"delivery": NULL, "entry": str, "event": NULL, "issuer": NULL}
        entry = unbase64(check_form(canonical(unbase64(extra[6:])), shows)["entry"])
        index = check_form(canonical(index_[6:].encode()), int)
        check_included(entry, index, log, hashes[:-2])
        leaf = read_leaf(entry)
        need(leaf.kind == kind, f"it proves an entry of kind {leaf.kind}; it is to prove one of kind {kind}")
        return Proven(index, leaf, facts_of(leaf.facts), note, log)

    def check_exports_key(self) -> tuple[Proven, Key]:
        """The entry in which the log announces a key for its exports, and that key."""
        proven = self.check_proof(KEY_PROOF, "key")
        facts = check_form(proven.facts, EXPORTS_KEY)
        need(proven.note == self.note, f"its checkpoint is not that of {CHECKPOINT}")
        is_announced = (facts["action"], facts["purpose"]) == ("announced", "exports")
        need(is_announced, "its entry announces no key for exports")
        key = parse_key(facts["vkey"])
        need(key.name == f"{self.log.origin}/exports", "the key that it announces is called otherwise")
        return proven, key

    def check_export_entry(self) -> Proven:
        """The entry that says what was asked for."""
        proven = self.check_proof(ENTRY_PROOF, "export")
        check_form(proven.facts, EXPORT)
        need(proven.note == self.note, f"its checkpoint is not that of {CHECKPOINT}")
        need(proven.facts["basis"] in {"logged", "received", "occurred"}, "its basis is not known")
        return proven

    def check_manifest(self) -> dict[str, Any]:
        """Its signature; and that it answers the question that the log has recorded."""
        data = self.bundle.read(MANIFEST, MAX_MANIFEST)
        _, lines, signatures = open_note(self.read(NOTE), [self.exports_key])
        is_note = signatures == 1 and len(lines) == 3 and lines[0] == SCHEMA
        need(is_note, "it is not the note of a manifest, with one signature")
        self.place = MANIFEST
        need(lines[2] == hashlib.sha256(data).hexdigest(), "it is not what its note was signed for")
        said = check_form(canonical(data), MANIFEST_FORM, MANIFEST)
        leaf, asked, log = self.entry.leaf, self.asked, self.log
        is_subset = asked["providers"] is not None or asked["basis"] == "occurred"
        true: dict[str, Any] = {
            "schema": SCHEMA,
            "export": leaf.id,
            "log": {"origin": log.origin, "root": log.root.hex(), "size": log.size},
            "asked": {"at": leaf.logged_at, "by": asked["by"]},
            "period": {name: asked[name] for name in ("basis", "since", "until")},
            "query": {name: asked[name] for name in ("providers", "tests")},
            "population": "subset" if is_subset else "complete",
        }
        for name, value in true.items():
            compare(f"manifest.json {name}", said[name], value, 1)
        is_ours = re.fullmatch("rescind [0-9][0-9A-Za-z.+-]{0,63}", said["software"])
        need(is_ours, "it is not rescind and a version", "manifest.json software")
        need(lines[1] == leaf.id, "it was signed for another export", NOTE)
        providers: Any = asked["providers"]
        is_sorted = providers is None or providers == sorted({*providers}) != []
        need(is_sorted, "they are not in order, each once", "manifest.json query.providers")
        need(asked["since"] < asked["until"], "it ends before it begins", "manifest.json period")
        is_over = asked["until"] <= leaf.logged_at
        need(is_over, "it was not over when the export was asked for", "manifest.json period.until")
        return said

    def check_range(self) -> Question:
        """The range of entries that the bundle must have; and that its files have the time of the export."""
        place, asked, range_, index = "manifest.json range", self.asked, self.manifest["range"], self.entry.at
        start, first, end = range_["start"], range_["first"], range_["end"]
        compare(f"{place}.entry", range_["entry"], index)
        compare(f"{place}.start", start, max(first - 1, 0))
        if asked["basis"] != "logged":
            compare(f"{place}.end", end, index + 1)
        need(first < end <= index + 1, f"it is not after {first} and at most {index + 1}", f"{place}.end")
        moment = datetime.fromisoformat(self.entry.leaf.logged_at)
        day = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
        time = day << 16 | moment.hour << 11 | moment.minute << 5 | moment.second // 2
        is_so = self.bundle.members[MANIFEST].time == time
        need(is_so, "the time of its files is not that of the export's entry", "ZIP")
        queried = asked["basis"], asked["since"], asked["until"], asked["providers"], asked["tests"]
        return Question(*queried, start, first, end)

    # ---- the files --------------------------------------------------------------------------------------------------

    def wanted_names(self) -> list[str]:
        """The files that must be there, in order. Only the erasures that came later are known by their names alone."""
        events, question = self.manifest["counts"]["events"], self.question
        is_possible = events <= question.end - question.start
        need(is_possible, "these are more than the entries", "manifest.json counts.events")
        erasures = [int(match[1]) for match in map(ERASURE.fullmatch, self.bundle.members) if match]
        names = [MANIFEST, NOTE, EVENTS, CSV, *([PARQUET] if self.asked["parquet"] else [])]
        names += [f"payloads/{part:06d}.jsonl" for part in range(-(-events // PER_FILE))]
        names += [ENTRIES, CHECKPOINT, RANGE, ENTRY_PROOF, KEY_PROOF, LATER]
        names += [f"proof/erasures/{index}.tlog-proof" for index in sorted(erasures)]
        names += [] if self.manifest["previous"] is None else [PREVIOUS, CONSISTENCY]
        names += [INDEXES] if question.is_subset() else []
        return [*names, TALLIES, "REPORT.html", "README.txt", "verify.py"]

    def check_names(self) -> None:
        """Exactly the files that must be there are, in their order, and the manifest names them all."""
        wanted, found = self.wanted_names(), list(self.bundle.members)
        all_wanted = frozenset(wanted)
        for want, name in zip_longest(wanted, found):
            if name is not None and name not in all_wanted:
                raise Wrong(name, "such a file is not in a bundle like this")
            need(want == name, "it is not in the bundle, or not in its place there", want or name)
        for name in {**dict.fromkeys(found[2:]), **self.manifest["files"]}:
            is_named = name in self.manifest["files"] and name in found[2:]
            need(
                is_named, "it must be named exactly if it is there and not the manifest", f"manifest.json files.{name}"
            )

    def check_sums(self) -> None:
        """Every file has the CRC-32, the size and the SHA-256 that it must have."""
        files = [one for one in self.bundle.members.values() if one.name not in {MANIFEST, NOTE}]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            sums = threads.map(self.bundle.sums, [one.start for one in files], [one.end for one in files])
            for member, (digest, crc) in zip(files, sums, strict=True):
                need(crc == member.crc, "its CRC-32 is not that in the ZIP: it was changed or damaged", member.name)
                compare(member.name, self.manifest["files"][member.name], {"sha256": digest, "size": member.size})

    def check_previous(self) -> None:
        """The checkpoint of the export before this one is the beginning of the same log."""
        old = open_checkpoint(self.read(PREVIOUS), self.keys)
        need(old.origin == self.log.origin, "it is of another log")
        compare("manifest.json previous", self.manifest["previous"], {"root": old.root.hex(), "size": old.size})
        form = {"hashes": [str], "new_size": int, "old_size": int}
        said = check_form(canonical(self.read(CONSISTENCY)), form, CONSISTENCY)
        sizes = {"new_size": self.log.size, "old_size": old.size}
        compare(CONSISTENCY, {name: said[name] for name in sizes}, sizes)
        check_consistent(old, self.log, said["hashes"])

    # ---- the entries ------------------------------------------------------------------------------------------------

    def cut_entries(self) -> list[Chunk]:
        """Where in the ZIP the entries are. Each stands after its length, 16 bits."""
        self.place, question, member = ENTRIES, self.question, self.bundle.members[ENTRIES]
        chunks, low, low_place, place = list[Chunk](), question.start, member.start, member.start
        with self.path.open("rb") as file:
            file.seek(place)
            for index in range(question.start, question.end):
                if place + 2 > member.end:
                    raise Wrong(f"{ENTRIES} entry {index}", "it is not there")
                size = int.from_bytes(file.read(2), "big")
                file.seek(size, os.SEEK_CUR)
                place += 2 + size
                if place > member.end:
                    raise Wrong(f"{ENTRIES} entry {index}", "the file ends within it")
                if (index + 1) % CHUNK == 0 or index + 1 == question.end:
                    chunks.append(Chunk(low, index + 1, low_place))
                    low, low_place = index + 1, place
        need(place == member.end, "it ends within an entry, or goes on after the range")
        return chunks

    def check_entries(self, chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
        """The entries are the log's; they reach from before the period until after it. Gives the tallies."""
        question = self.question
        form = {"end": int, "hashes": [str], "start": int}
        said = check_form(canonical(self.read(RANGE)), form, RANGE)
        self.place = f"{RANGE} hashes"
        compare(RANGE, [said["start"], said["end"]], [question.start, question.end])
        nodes = proven(outside(0, self.log.size, question.start, question.end), said["hashes"])
        fault, tallies, before, beyond, first, last = None, list[dict[str, Any]](), 0, None, "", ""
        for one in each_chunk(survey, self.task, chunks):
            nodes.update(one.nodes)
            falls = one.fault is None and one.times[0] < last
            falling = f"{ENTRIES} entry {one.chunk.low}", f"it was logged before the one that it follows, at {last}"
            fault = fault or one.fault or (falling if falls else None)
            first, last, before = first or one.times[0], one.times[1], before + one.before
            beyond = one.beyond if beyond is None else beyond
            tallies += one.tallies
            self.task.said.add(one.said)
        is_root = root_of(0, self.log.size, nodes) == self.log.root
        need(is_root, f"with {RANGE} its entries do not lead to the root that the log has signed", ENTRIES)
        if fault is not None:
            raise Wrong(*fault)
        compare("manifest.json range.first", question.first, question.start + before)
        if question.basis == "logged":
            why = f"the first entry that was logged when the period was over is {beyond or 'not here'}"
            need(beyond == question.end - 1, why, "manifest.json range.end")
        self.edges = [
            Logged(question.start, first, f"{ENTRIES} entry {question.start}"),
            Logged(question.end - 1, last, ENTRIES),
        ]
        return tallies

    def predecessors(self, chunk: Chunk) -> list[str]:
        """Logs that this one succeeds: its first entries tell of them, one each, up to the first that tells of none."""
        told = list[str]()
        for _, entry in self.task.entries(chunk) if self.question.start == 0 else ():
            one = predecessor(read_leaf(entry))
            if one is None:
                break
            told.append(one)
        return told

    def check_later(self) -> list[int]:
        """Time falls nowhere, in the range or outside. Gives the entries outside that say something of its events."""
        outside_ = [
            Logged(one.at, one.leaf.logged_at, place)
            for place, one in ((KEY_PROOF, self.announced), (ENTRY_PROOF, self.entry))
            if not self.question.start <= one.at < self.question.end
        ]
        found = list[int]()
        each = chain(merge(sorted([*outside_, *self.edges]), self.later_lines(found)), self.later_erasures(found))
        for before, one in pairwise(each):
            why = f"its entry was logged at {one.moment}, and one before it at {before.moment}"
            need(before.moment <= one.moment, why, one.place)
        return found

    def later_lines(self, found: list[int]) -> Iterator[Logged]:
        """Entries from the range's end on, up to the checkpoint."""
        lines, before = Lines(self.bundle, LATER), self.question.end - 1
        for number, line in enumerate(lines, 1):
            self.place = f"{LATER} line {number}"
            need(len(line) <= SMALL, "it is longer than such a line can be")
            said = check_form(canonical(line), {"entry": str, "index": int, "proof": [str]})
            entry, index = unbase64(said["entry"]), said["index"]
            self.place = self.place_of_later(number, index)
            need(index > before, f"it does not come after entry {before}")
            check_included(entry, index, self.log, said["proof"])
            leaf, before = read_leaf(entry), index
            self.heed(leaf, index)
            found.append(index)
            yield Logged(index, leaf.logged_at, self.place)

    def later_erasures(self, found: list[int]) -> Iterator[Logged]:
        """Entries that the checkpoint does not cover. Their files are in order."""
        for name in filter(ERASURE.fullmatch, self.bundle.members):
            proven_ = self.check_proof(name, "erasure")
            index = proven_.at
            is_so = name == f"proof/erasures/{index}.tlog-proof" and index >= self.log.size
            need(is_so and proven_.log.origin == self.log.origin, "it proves another entry than its name says")
            self.heed(proven_.leaf, index)
            found.append(index)
            yield Logged(index, proven_.leaf.logged_at, name)

    def place_of_later(self, number: int, index: int) -> str:
        """Where an entry from the range's end on is shown, by its number among these and its index."""
        if index >= self.log.size:
            return f"proof/erasures/{index}.tlog-proof"
        return f"{LATER} line {number} (entry {index})"

    def heed(self, leaf: Leaf, index: int) -> None:
        """Keep what a leaf says of others."""
        said = statements(leaf, index)
        need(said, "it is neither a cross-check nor an erasure of anything")
        self.task.said.add(said)

    # ---- the events, and what is counted of them --------------------------------------------------------------------

    def check_all_events(self, chunks: Sequence[Chunk]) -> tuple[Counter[Kind], Counter[str]]:
        """Their lines and rows. Gives how many there are of each kind, and why others are not among them."""
        later = self.check_later()
        checked = list(each_chunk(check_events, self.task, chunks))
        self.check_lines(checked, later)
        self.check_csv(checked)
        kinds, reasons = Counter[Kind](), Counter[str]()
        for one in checked:
            kinds.update(one.kinds)
            reasons.update(one.reasons)
        return kinds, reasons

    def check_lines(self, checked: Sequence[Checked], later: Sequence[int]) -> None:
        """What all chunks show together: full files of payloads, entries that say nothing of an event, the indexes."""
        lines = Counter[str]()
        for one in checked:
            lines.update(one.payloads)
        payloads = [name for name in self.bundle.members if name.startswith("payloads/")]
        for name in payloads[:-1]:
            need(lines[name] == PER_FILE, f"it has {lines[name]} lines; all but the last have {PER_FILE}", name)
        named = set[int]().union(*(one.named for one in checked))
        for number, index in enumerate(later, 1):
            if index not in named:
                raise Wrong(self.place_of_later(number, index), "it says nothing of an event of the bundle")
        if self.question.is_subset():
            true = WRITE_JSON.encode([index for one in checked for index in one.indexes]).encode()
            member = self.bundle.members[INDEXES]
            need(self.bundle.holds(member.start, member.end, true), "they are not the indexes of the events", INDEXES)

    def check_csv(self, checked: Sequence[Checked]) -> None:
        """events.csv has the rows that follow from the events, whose lengths and SHA-256 are known by chunks."""
        member, header_ = self.bundle.members[CSV], ",".join(COLUMNS).encode() + b"\r\n"
        place, number = member.start + len(header_), 0
        is_header = self.bundle.holds(member.start, min(place, member.end), header_)
        need(is_header, "it does not name the columns of a bundle", f"{CSV} header")
        for one in checked:
            size, digest = one.csv
            if self.bundle.sums(place, min(place + size, member.end))[0] != digest:
                self.name_row(one.chunk, place, number)
            place, number = place + size, number + len(one.indexes)
        need(place == member.end, "it is of no event", f"{CSV} row {number + 1}")

    def name_row(self, chunk: Chunk, place: int, number: int) -> None:
        """Find the row of a chunk that is not what it must be; the first one begins at that place."""
        check, end = EventCheck(self.task, chunk), self.bundle.members[CSV].end
        for index, row in zip(check.run().indexes, check.rows, strict=True):
            true, number = row.encode(), number + 1
            is_so = self.bundle.holds(place, min(place + len(true), end), true)
            need(is_so, f"it is not what {EVENTS} says of the event", f"{CSV} row {number} (entry {index})")
            place += len(true)

    def check_counts(self, kinds: Counter[Kind], reasons: Counter[str]) -> None:
        """The numbers in the manifest."""
        by: dict[str, Counter[str]] = {name: Counter() for name in ("breach", "cross_check", "effect", "provider")}
        for kind, count in kinds.items():
            for name, value in (
                ("cross_check", kind.cross_check),
                ("effect", kind.effect),
                ("provider", kind.provider),
            ):
                by[name][value] += count
            for code in kind.breaches:
                by["breach"][code] += count
        true: dict[str, Any] = {f"by_{name}": dict(counter) for name, counter in by.items()}
        true["entries"] = self.question.end - self.question.start
        true["erased"] = sum(count for kind, count in kinds.items() if kind.is_erased)
        true["events"] = kinds.total()
        true["late"] = sum(count for kind, count in kinds.items() if kind.is_late)
        compare("manifest.json counts", self.manifest["counts"], true, 1)
        excluded = {name: reasons[name] for name in MANIFEST_FORM["exclusions"]}
        compare("manifest.json exclusions", self.manifest["exclusions"], excluded, 1)

    def check_tallies(self, tallies: Sequence[dict[str, Any]], kinds: Counter[Kind]) -> None:
        """tallies.json, but for how many events elsewhere it says there are: that is the operator's word."""
        occurred = dict.fromkeys(TALLIES_FORM["cut_off"]["events"], 0)
        for kind, count in kinds.items():
            occurred[kind.occurred] += count
        days, gaps = days_of(tallies, self.question), gaps_of(tallies, self.question)
        most = 2 * len(WRITE_JSON.encode([days, gaps])) + SMALL
        said = check_form(canonical(self.read(TALLIES, most)), TALLIES_FORM, TALLIES)
        cut_off = {"events": occurred, "outside": said["cut_off"]["outside"]}
        compare(TALLIES, said, {"cut_off": cut_off, "days": days, "gaps": gaps}, 3)

    def check_parquet(self) -> str:
        """events.parquet has the same rows. Gives what was compared."""
        if PARQUET not in self.bundle.members:
            return "there is no events.parquet"
        if util.find_spec("pyarrow") is None:
            return "events.parquet only by its hash, for pyarrow is not installed"
        self.place = PARQUET
        compare_parquet(self.bundle, self.manifest["counts"]["events"])
        return "events.parquet by value"

    def words(self, parquet: str, predecessors: Sequence[str]) -> list[str]:
        """What was found, and what it shows, for people."""
        asked, counts, previous = self.asked, self.manifest["counts"], self.manifest["previous"]
        is_complete, leaf, question = not self.question.is_subset(), self.entry.leaf, self.question
        what = "all events of the period, complete and unchanged" if is_complete else "a SUBSET of events, unchanged"
        grown = f"grown from the {previous['size']} of the export before" if previous else "no export before"
        shows = "complete as to what Rescind recorded; complete as to what the provider did only where cross-checked"
        return [
            f"VERIFIED: {what}.\n",
            f"  log         {self.log.origin}",
            f"  checkpoint  {self.log.size} entries, {grown}",
            f"  root        {self.log.root.hex()}",
            f"  asked       by {asked['by']} at {leaf.logged_at}, export {leaf.id}",
            f"  period      {asked['since']} until before {asked['until']}, as {asked['basis']}",
            f"  providers   {', '.join(asked['providers'] or ['all'])}; tests {'too' if asked['tests'] else 'not'}",
            f"  events      {counts['events']}, of them {counts['late']} late arrivals and {counts['erased']} erased",
            f"  entries     {question.start} to {question.end - 1}",
            f"  compared    everything; {parquet}\n",
            f"What it shows: {shows if is_complete else 'what is here; it is not all that the log has of the period'}.",
            *(f"This log succeeds {one}: what that one holds is not here." for one in predecessors),
            "The operator's word alone: the tenant's name, the software, what tallies.json says of events outside,",
            "and that no later cross-check stands among the entries that are not here. Cosignatures of witnesses",
            "were not looked at; `translog verify` does that. Without witnesses, two auditors could be shown two",
            "logs: compare the root.\n",
            "If this verifier came with the bundle, its verdict proves nothing by itself: compare its SHA-256 with",
            "that in the project's docs/verify.md, or use `translog verify`. The key must come from elsewhere, too.",
        ]


# ---- tallies.json ---------------------------------------------------------------------------------------------------


def days_of(tallies: Sequence[dict[str, Any]], question: Question) -> list[dict[str, Any]]:
    """By day and source, the sums of the tallies that end in the period."""
    days = dict[tuple[str, str], dict[str, Any]]()
    for tally in tallies:
        if question.when(tally["until"]) != "inside":
            continue
        name = tally["until"][:10], tally["source"]
        day = days.setdefault(name, {"day": name[0], "source": name[1], "incomplete": False, "refused": Counter[str]()})
        day["incomplete"] = day["incomplete"] or tally["incomplete"]
        for outcome in (*OUTCOMES, "deliveries"):
            day[outcome] = day.get(outcome, 0) + tally["counts"][outcome]
        day["refused"].update(tally["counts"]["refused"])
    return [days[name] for name in sorted(days)]


def gaps_of(tallies: Sequence[dict[str, Any]], question: Question) -> list[dict[str, str]]:
    """By source and time, the whole hours of the period that no tallies cover, run together."""
    by_source, gaps = dict[str, list[dict[str, Any]]](), list[dict[str, str]]()
    for tally in tallies:
        by_source.setdefault(tally["source"], []).append(tally)
    for source, its in sorted(by_source.items()):
        begin, end, runs = max(question.since, its[0]["from"]), question.until, list[list[str]]()
        covered = sorted((one["from"], one["until"]) for one in its if not one["incomplete"])
        reached = begin
        for low, high in [*covered, (end, end)]:
            hole_end = min(low, end)
            if reached < hole_end and low <= high:
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
    return hour_of((datetime.fromisoformat(moment[:13] + ":00:00") + timedelta(hours=1)).isoformat())


# ---- events.parquet, if pyarrow is there to read it -----------------------------------------------------------------
#
# The file consists of pages, each after a header that says what the page unpacks to. What the file's end says of that,
# nobody compares, and of an end that makes no sense pyarrow may give no error but end the process. So the end and all
# headers are read here first: a page that is larger than its rows can be is refused before it is unpacked. They are
# structs in Thrift's compact protocol; the numbers of their fields are those in the format's parquet.thrift.

MAX_PAGE, MAX_HEADER, MAX_BATCH = 1 << 21, 1 << 15, 1 << 25  # bytes; of a batch: of texts that are taken at once
PAGE_STEP = 1024  # texts that writers add to a page before they look at its size again
I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12  # types of Thrift
ABOUT_PAGE = {0: (5, 2), 2: (7, 2), 3: (8, 4)}  # by a page's type: the field about it, and there that of the encoding
DICTIONARY, ENCODINGS = 2, {0, 2, 3, 8}  # plain, with a dictionary, or in runs: none makes many texts of a few bytes


class Part(io.RawIOBase):
    """A member of the ZIP as a file of its own."""

    def __init__(self, bundle: Bundle, member: Member) -> None:
        super().__init__()
        self.file, self.member, self.position = bundle.path.open("rb"), member, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.member.size)[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self.member.size - self.position))
        buffer[:size] = read_at(self.file, self.member.start + self.position, size) if size else b""
        self.position += size
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


class Thrift:
    """Reads a struct: by number and type of a field an integer, a struct, or a list; None for what is not needed."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        need(self.at < len(self.data), "a header in it is cut short, or too long")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """Seven bits in a byte, the lowest first."""
        value = shift = 0
        while (byte := self.byte()) >= 128:
            value, shift = value | (byte & 127) << shift, shift + 7
            need(shift < 64, "a number in a header is too long")
        return value | byte << shift

    def struct(self, levels: int = 10) -> dict[tuple[int, int], Any]:
        found, seen, field_id = dict[tuple[int, int], Any](), set[int](), 0
        while head := self.byte():
            field_id = field_id + (head >> 4) if head >> 4 else self.signed()
            need(field_id not in seen and levels > 1, "a header says something twice, or is nested too deep")
            seen.add(field_id)
            found[field_id, head & 15] = self.value(head & 15, levels - 1)
        return found

    def value(self, type_: int, levels: int) -> Any:
        if type_ == STRUCT:
            return self.struct(levels)
        if type_ == LIST:
            head = self.byte()
            size = head >> 4 if head < 0xF0 else self.number()
            need(size <= len(self.data) - self.at and levels > 1, "a list in a header is too long, or nested too deep")
            return [self.byte() if head & 15 in {1, 2} else self.value(head & 15, levels - 1) for _ in range(size)]
        if type_ == BINARY:
            size = self.number()
            self.at += size
        elif type_ == 3:
            self.byte()
        elif 4 <= type_ <= I64:
            return self.signed()
        else:
            need(type_ in {1, 2}, "a header has a value of a type that is not read")  # true and false have no bytes
        return None

    def signed(self) -> int:
        """A number, with its sign as the lowest bit."""
        value = self.number()
        return value >> 1 ^ -(value & 1)


def check_pages(file: Part, rows: int, longest: int) -> None:
    """Refuse a file that has a page larger than its rows can be, with texts of at most that length."""
    size = file.member.size
    file.seek(max(0, size - 8))
    last = file.read(8)
    footer = int.from_bytes(last[:4], "little")
    is_end = last[4:] == b"PAR1" and footer <= min(size - 8, (1 << 20) + 16 * rows)
    need(is_end, "it does not end as such a file does, or its end is too long")
    file.seek(size - 8 - footer)
    counted = 0
    for group in Thrift(file.read(footer)).struct()[4, LIST]:
        group_rows = group[3, I64]
        for column in group[1, LIST]:
            about = column[3, STRUCT]
            need(group_rows == about[5, I64] >= 0, "a column has not as many values as there are rows")
            if group_rows:
                first, dictionary = about[9, I64], about.get((11, I64), 0)
                start = dictionary if 0 < dictionary < first else first  # so does pyarrow decide
                check_column(file, start, start + about[7, I64], group_rows, longest)
        counted += group_rows
    need(counted == rows, f"it has {counted} rows for {rows} events")


def check_column(file: Part, at: int, end: int, rows: int, longest: int) -> None:
    """The pages fill this place, and have a value for each row; only the first can be a dictionary."""
    need(at >= 0, "its end says nothing of where its pages are")
    values, is_first = 0, True
    while at < end:
        file.seek(at)
        reader = Thrift(file.read(min(MAX_HEADER, end - at)))
        page = reader.struct()
        type_, unpacked, packed = (page[field, I32] for field in (1, 2, 3))
        need(type_ in ABOUT_PAGE and (type_ != DICTIONARY or is_first), "a page is of a type that is not read there")
        field, encoding = ABOUT_PAGE[type_]
        count = page[field, STRUCT][1, I32]
        need(page[field, STRUCT][encoding, I32] in ENCODINGS, "a page is encoded in a way that is not read")
        most = min(MAX_PAGE + PAGE_STEP * (longest + 16), 1024 + count * (longest + 16))
        is_possible = 0 <= count <= rows and 0 <= unpacked <= most and packed >= 0
        need(is_possible, f"a page of {count} values and {unpacked} bytes is larger than its rows can be")
        need(count > 0 or type_ == DICTIONARY, "a page has no values")
        values += 0 if type_ == DICTIONARY else count
        at, is_first = at + reader.at + packed, False
    need(at == end and values == rows, "its pages are not as its end says")


def compare_parquet(bundle: Bundle, events: int) -> None:
    """That events.parquet has a row for each line of events.jsonl, with types.

    A text may stand in very many rows, and only once in the file. So texts are left in their dictionaries until these
    were looked at: none can be longer than the longest line of events.jsonl. And few rows are taken at once.
    """
    longest = max(map(len, Lines(bundle, EVENTS)), default=0)
    at_once, containers = max(1, min(MAX_BATCH // (longest + 1), 1024)), 4096 + events // 4096
    with Part(bundle, bundle.members[PARQUET]) as part:
        try:
            check_pages(part, events, longest)
            parquet: Any = import_module("pyarrow.parquet")
            file: Any = parquet.ParquetFile(part, thrift_container_size_limit=containers)
            check_columns(file, events)
            how: dict[str, Any] = {"read_dictionary": [*COLUMNS[1:22]], "buffer_size": BUFFER, "pre_buffer": False}
            file = parquet.ParquetFile(part, metadata=file.metadata, **how)
            rows = rows_of(bundle)
            for batch in file.iter_batches(at_once, use_threads=False):  # each thread would keep memory of its own
                for row in zip(*[values_of(column, longest) for column in batch.columns], strict=True):
                    place, true = next(rows)
                    need([*row] == true, f"it is not what {EVENTS} says of the event", place)
            need(next(rows, None) is None, f"it has fewer rows than {events}")
        except Refused as refused:
            raise Wrong(PARQUET, str(refused)) from None
        except (Wrong, MemoryError):
            raise
        except Exception:  # noqa: BLE001  (pyarrow has errors of many kinds)
            raise Wrong(PARQUET, "it cannot be read") from None


def check_columns(file: Any, events: int) -> None:
    """Refuse columns of other types, and another number of rows."""
    types = {"index": "int64", "test": "bool", "erased": "bool"}
    found = [(one.name, str(one.type), one.nullable) for one in file.schema_arrow]
    need(found == [(name, types.get(name, "string"), True) for name in COLUMNS], "it has other columns")
    need(file.metadata.num_rows == events, f"it has {file.metadata.num_rows} rows for {events} events")


def values_of(column: Any, longest: int) -> list[Any]:
    """The values of a column of a batch."""
    column.validate(full=True)
    if str(column.type).startswith("dictionary"):
        compute: Any = import_module("pyarrow.compute")
        most = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
        need(most <= longest, f"it has a text of {most} bytes; no line of {EVENTS} has so many")
        column = column.dictionary_decode()
    return column.to_pylist()


def rows_of(bundle: Bundle) -> Iterator[tuple[str, list[Any]]]:
    """What each line of events.jsonl says, which was checked before; and the place of that row."""
    for count, line in enumerate(Lines(bundle, EVENTS), 1):
        said: Any = json.loads(line)
        leaf: Any = said["leaf"]
        event: dict[str, Any] = said["event"] or {}
        item: dict[str, Any] = event.get("item") or {}
        facts, breaches = leaf["facts"], leaf["facts"].get("breaches")
        row = [said["index"], leaf["id"], leaf["logged_at"], facts.get("received_at"), leaf["kind"]]
        row += [*map(facts.get, OF_FACTS), item.get("type"), item.get("id"), *map(event.get, OF_EVENT)]
        row += [None if breaches is None else " ".join(breaches), said["stands"]["cross_check"]]
        yield f"{PARQUET} row {count} (entry {said['index']})", [*row, facts.get("test"), said["erased"]]


# ---- the command ----------------------------------------------------------------------------------------------------


def read_key(given: str) -> Key:
    """A vkey, or the one in the file of that name."""
    return parse_key(given if "+" in given else Path(given).read_text(encoding="utf-8"))


def printable(text: str) -> str:
    """A text in ASCII, with nothing that moves the cursor: else a bundle could bring a verdict of its own."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return re.sub(r"[^\n -~]", lambda found: f"\\x{ord(found[0]):02x}", plain) + "\n"


def main() -> int:
    """Run the command; gives the exit status."""
    parser = argparse.ArgumentParser(description="Verify an export bundle of Rescind, offline.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE.zip", help="the file as it was downloaded")
    about_key = "the log's key, or a file with it; may be given several times"
    parser.add_argument("--key", action="append", required=True, metavar="VKEY", help=about_key)
    given = parser.parse_args()
    try:
        keys = [read_key(key) for key in given.key]
        given.bundle.open("rb").close()
    except (OSError, ValueError, Refused) as error:
        parser.error(str(error))
    try:
        words = Verifier(given.bundle, keys).check()
    except Wrong as wrong:
        sys.stderr.write(printable(f"NOT VERIFIED: {': '.join(wrong.args)}"))
        return 1
    except Unable as unable:
        sys.stderr.write(printable(f"It could not be verified here, and nothing is said for or against it: {unable}"))
        return 2
    sys.stdout.write(printable("\n".join(words)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
