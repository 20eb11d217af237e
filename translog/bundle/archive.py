"""A bundle's ZIP, read without trusting it.

    with Archive.open(path) as archive:
        [member.name for member in archive.members]
        archive.read("manifest.json", limit=1_000_000)

Nothing is unpacked and nothing is searched for: every member is stored, so it is a piece of the file, and the pieces
with their headers fill it from the first byte to the last. The end is read first, at its one place; it bounds the
central directory, which is read whole; and from what that says of each member both of its headers are written again,
and must be the bytes that are there. So no two readers can see two archives in one file: there are no gaps, overlaps,
prefixes, comments, second names, hidden sizes or attributes to disagree about. What a member holds is read in pieces,
by whoever needs it, and never beyond the member.

Follows PKWARE's APPNOTE 6.3.10 (sections 4.3 to 4.5), of which `docs/export-format.md` leaves one spelling.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Self

from translog.errors import BundleError, TranslogError

__all__ = ["BLOCK", "MAX_MEMBERS", "Archive", "Member"]

MAX_MEMBERS = 100_000
"""The most members that are looked at."""

BLOCK = 1 << 20
"""Bytes that are read at once."""

_MAX_DIRECTORY = 1 << 24
_MAX_NAME = 255
_NAME = re.compile(rb"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_PLACE = "ZIP"

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
_PLAIN, _ZIP64 = 20, 45  # versions 2.0 and 4.5
_UNIX = 3 << 8
_MODE = 0o100644 << 16


class Member(NamedTuple):
    """A file of the bundle: where its bytes are in the ZIP, and their CRC-32."""

    name: str
    start: int
    size: int
    crc: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Archive:
    """An open ZIP of which everything but the members' bytes has been checked.

    `time` is the one that all members have, as (year, month, day, hour, minute, second), the second even.
    """

    path: Path
    members: tuple[Member, ...]
    time: tuple[int, ...]
    _named: Mapping[str, Member]
    _file: IO[bytes]
    _state: tuple[int, ...]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file at `path` and check its structure.

        Raises `TranslogError` if it cannot be read, and `BundleError` unless it is a ZIP as a bundle is.
        """
        try:
            file = path.open("rb", buffering=0)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise TranslogError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
        try:
            members, time = _members(file, os.fstat(file.fileno()).st_size)
            return cls(path, members, time, {member.name: member for member in members}, file, _state_of(file))
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def member(self, name: str) -> Member:
        """The one of that name. Raises `BundleError` if there is none."""
        if name not in self._named:
            raise BundleError(name, "it is not in the bundle")
        return self._named[name]

    def read(self, name: str, limit: int) -> bytes:
        """A whole member, whose CRC-32 is compared. Raises `BundleError` if it is larger than `limit` or damaged."""
        member = self.member(name)
        if member.size > limit:
            raise BundleError(name, f"{member.size} bytes; at most {limit} are read")
        data = self.piece(member.start, member.end)
        check_crc(member, zlib.crc32(data))
        return data

    def piece(self, start: int, end: int) -> bytes:
        """The bytes [start, end) of the file. Raises `BundleError` if they are no longer there."""
        data = _read(self._file, start, end - start)
        if len(data) != end - start:
            raise BundleError(_PLACE, "it was cut short while it was read")
        return data

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) of the file, at most `BLOCK` at a time."""
        for at in range(start, end, BLOCK):
            yield self.piece(at, min(at + BLOCK, end))

    def check_unchanged(self, state: tuple[int, ...] | None = None) -> None:
        """Raise `BundleError` if the file is not the one, or no longer as, it was when it was opened.

        `state` is that of the same archive as another process opened it.
        """
        if _state_of(self._file) != self._state or state not in {None, self._state}:
            raise BundleError(_PLACE, "the file was changed while it was verified; verify it again")

    @property
    def state(self) -> tuple[int, ...]:
        """What tells this file, as it is, from any other."""
        return self._state


def check_crc(member: Member, crc: int) -> None:
    """Raise `BundleError` unless that is the member's CRC-32."""
    if crc != member.crc:
        raise BundleError(
            member.name, f"its CRC-32 is {crc:08x}, not {member.crc:08x} as the ZIP says: it was changed or damaged"
        )


def _state_of(file: IO[bytes]) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read(file: IO[bytes], start: int, size: int) -> bytes:
    """Up to `size` bytes from `start`: fewer only at the file's end."""
    try:
        file.seek(start)
        data = file.read(size)
        while len(data) < size and (more := file.read(size - len(data))):
            data += more
    except OSError as error:
        raise TranslogError(f"the bundle cannot be read: {error.strerror}") from None
    return data


# ---- the end, and what it bounds ------------------------------------------------------------------------------------


class _Directory(NamedTuple):
    """The central directory: its members' number, and where it is."""

    number: int
    size: int
    start: int


def _members(file: IO[bytes], size: int) -> tuple[tuple[Member, ...], tuple[int, ...]]:
    directory = _directory(file, size)
    data = _read(file, directory.start, directory.size)
    if len(data) != directory.size:
        raise BundleError(_PLACE, "its central directory is not where its end says")
    members: list[Member] = []
    names: set[str] = set()
    at = expected = 0
    time = None
    for _ in range(directory.number):
        header = _Header.parse(data, at)
        if header.start + header.size > directory.start:  # also before anything is looked for at such a place
            raise BundleError(header.name.decode(), "it goes on where the ZIP's central directory is")
        member = _check(header, file, expected, time)
        if member.name in names:
            raise BundleError(member.name, "the ZIP holds it twice")
        at += header.length
        expected, time = member.end, header.time
        names.add(member.name)
        members.append(member)
    if at != directory.size or expected != directory.start:
        raise BundleError(_PLACE, "there are bytes in it that belong to no file")
    if time is None:
        raise BundleError(_PLACE, "it is empty")
    return tuple(members), _moment(time)


def _directory(file: IO[bytes], size: int) -> _Directory:
    """Read the end of the file, and compare it with the only one that there can be for such a directory."""
    if size < _END.size:
        raise BundleError(_PLACE, "the file is too short to be a bundle")
    tail_start = max(0, size - _END.size - _LOCATOR.size - _END_64.size)
    tail = _read(file, tail_start, size - tail_start)
    if len(tail) != size - tail_start or tail[-_END.size :][:4] != b"PK\5\6":
        raise BundleError(_PLACE, "the file does not end as a bundle does: it was cut short, or something was added")
    _, _, _, _, number, length, start, _ = _END.unpack(tail[-_END.size :])
    if number == _FULL_16 or _FULL_32 in {length, start}:
        if len(tail) < _END.size + _LOCATOR.size + _END_64.size:
            raise BundleError(_PLACE, "its end is not complete")
        *_, number, length, start = _END_64.unpack(tail[: _END_64.size])
    if number > MAX_MEMBERS or length > _MAX_DIRECTORY:
        raise BundleError(_PLACE, f"{number} files, {length} bytes of names; a bundle has at most {MAX_MEMBERS} files")
    end = _end(_Directory(number, length, start))
    if start + length + len(end) != size or not tail.endswith(end):
        raise BundleError(_PLACE, "its end is not as that of a bundle")
    return _Directory(number, length, start)


def _end(directory: _Directory) -> bytes:
    """All that follows a central directory."""
    number, length, start = directory
    short = min(number, _FULL_16), min(length, _FULL_32), min(start, _FULL_32)
    end = _END.pack(b"PK\5\6", 0, 0, short[0], *short, 0)
    if short[0] == _FULL_16 or _FULL_32 in short[1:]:
        record = _END_64.pack(b"PK\6\6", 44, _UNIX | _ZIP64, _ZIP64, 0, 0, number, number, length, start)
        end = record + _LOCATOR.pack(b"PK\6\7", 0, start + length, 1) + end
    return end


# ---- members --------------------------------------------------------------------------------------------------------


class _Header(NamedTuple):
    """What the central directory says of a member, and how many bytes it says it in; `time` is of 32 bits."""

    name: bytes
    time: int
    crc: int
    size: int
    start: int
    length: int

    @classmethod
    def parse(cls, data: bytes, at: int) -> Self:
        """The entry of the central directory `data` that begins at `at`, exactly as it is written."""
        if len(data) - at < _CENTRAL.size:
            raise BundleError(_PLACE, "its central directory is cut short")
        fields = _CENTRAL.unpack_from(data, at)
        if fields[0] != b"PK\1\2":
            raise BundleError(_PLACE, "its central directory is damaged")
        _, _, _, flags, method, clock, day, crc, packed, size, name_size, extra_size, *_, start = fields
        name = data[at + _CENTRAL.size : at + _CENTRAL.size + name_size]
        if len(name) > _MAX_NAME or not _NAME.fullmatch(name) or b".." in name:
            raise BundleError(_PLACE, f"{name[:80]!a} is no name of a file of a bundle")
        place = name.decode()
        if flags & 1:
            raise BundleError(place, "it is encrypted; nothing in a bundle is")
        if method:
            raise BundleError(
                place,
                f"it is packed (method {method}); in a bundle everything is stored as it is: was it packed again? "
                "Verify the file as it was downloaded",
            )
        extra_at = at + _CENTRAL.size + name_size
        size, start = _with_zip64(place, data[extra_at : extra_at + extra_size], size, packed, start)
        header = cls(name, clock | day << 16, crc, size, start, _CENTRAL.size + name_size + extra_size)
        if header.central() != data[at : at + header.length]:
            raise BundleError(place, "what the ZIP's central directory says of it is not as in a bundle")
        return header

    def central(self) -> bytes:
        """The central directory's entry of such a member."""
        sizes = [self.size, self.size] if self.size >= _FULL_32 else []
        extra = _extra([*sizes, *([self.start] if self.start >= _FULL_32 else [])])
        version, size = _ZIP64 if extra else _PLAIN, min(self.size, _FULL_32)
        clock, day = self.time & _FULL_16, self.time >> 16
        numbers = (_UNIX | version, version, 0, 0, clock, day, self.crc, size, size, len(self.name), len(extra))
        return _CENTRAL.pack(b"PK\1\2", *numbers, 0, 0, 0, _MODE, min(self.start, _FULL_32)) + self.name + extra

    def local(self) -> bytes:
        """The header before the bytes of such a member."""
        extra = _extra([self.size, self.size] if self.size >= _FULL_32 else [])
        version, size = _ZIP64 if extra else _PLAIN, min(self.size, _FULL_32)
        clock, day = self.time & _FULL_16, self.time >> 16
        numbers = (version, 0, 0, clock, day, self.crc, size, size, len(self.name), len(extra))
        return _LOCAL.pack(b"PK\3\4", *numbers) + self.name + extra


def _with_zip64(place: str, extra: bytes, size: int, packed: int, start: int) -> tuple[int, int]:
    """The size and the place of a member, from its ZIP64 field where there is one."""
    needed = (2 if size == _FULL_32 else 0) + (start == _FULL_32)
    if size != packed or len(extra) != (4 + 8 * needed if needed else 0):
        raise BundleError(place, "its size, or another field that the ZIP has of it, is not as in a bundle")
    if needed:
        numbers = list(struct.unpack(f"<{needed}Q", extra[4:]))
        if start == _FULL_32:
            start = numbers.pop()
        if numbers:
            size = numbers[0]
    return size, start


def _extra(numbers: list[int]) -> bytes:
    """The ZIP64 field that holds these."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def _check(header: _Header, file: IO[bytes], expected: int, time: int | None) -> Member:
    """Compare a member's own header with the one that it must have, at the place where it must be."""
    place = header.name.decode()
    if header.start != expected:
        raise BundleError(place, "it does not begin where the file before it ends")
    if time not in {None, header.time}:
        raise BundleError(place, "it has another time than the files before it")
    local = header.local()
    if _read(file, header.start, len(local)) != local:
        raise BundleError(place, "the header before it does not agree with the ZIP's central directory")
    return Member(place, header.start + len(local), header.size, header.crc)


def _moment(time: int) -> tuple[int, ...]:
    """MS-DOS's date and time."""
    day, clock = time >> 16, time & _FULL_16
    return (day >> 9) + 1980, day >> 5 & 15, day & 31, clock >> 11, clock >> 5 & 63, (clock & 31) * 2
