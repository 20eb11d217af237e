"""The ZIP file that a bundle is, and the files that its members wait in until they are all known.

    with Pen() as pen, Spool(folder, pen) as spool:
        spool.write(…)                                 any number of times
        member = spool.cut()                           what was written since the last cut: size, SHA-256, CRC-32
        archive = Archive(file, moment, pen)
        archive.add("events.jsonl", member)
        size, sha256 = archive.close()

The first member of a bundle has the hashes of all others. So these are written down first, in files without a name,
which are gone once this process is, however it ends; and then copied. Every member is *stored*: there is nothing to
unpack, and the same members give the same bytes, whatever wrote them. Sizes are known before a member begins, so that
no data descriptor is needed. Hashing and writing are done by a second thread: neither needs the interpreter.

Follows PKWARE's APPNOTE 6.3.10: sections 4.3.7 (local headers), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end),
4.5.3 (ZIP64). What that leaves open, `docs/export-format.md` settles.
"""

import hashlib
import os
import queue
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

BLOCK = 1 << 20
"""Bytes that are hashed and written together."""

_BLOCKS_WAITING = 8
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF
_VERSION, _VERSION_ZIP64 = 20, 45
_UNIX = 3 << 8
_MODE = 0o100644 << 16
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END_ZIP64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_ZIP64 = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")


class Pen:
    """A thread that does one thing after another, a few of them behind whoever asks for them."""

    def __init__(self) -> None:
        self._asked = queue.Queue[Callable[[], object] | None](_BLOCKS_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="export-pen", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.put(None)
        self._thread.join()

    def do(self, what: Callable[[], object]) -> None:
        """Have this done, in its turn. Raises what an earlier one raised; nothing is done any more after that."""
        if self._error is not None:
            raise self._error
        self._asked.put(what)

    def wait(self) -> None:
        """Return once all that was asked for is done. Raises what one of it raised."""
        self._asked.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (what := self._asked.get()) is not None:
            try:
                if self._error is None:
                    what()
            except BaseException as error:  # noqa: BLE001  (it is raised where it was asked for)
                self._error = error
            finally:
                self._asked.task_done()


@dataclass(frozen=True, slots=True)
class Member:
    """What a member of the archive holds: bytes in memory, or a piece of a file that begins at `offset`."""

    size: int
    sha256: bytes
    crc32: int
    held: bytes | BinaryIO
    offset: int = 0

    @classmethod
    def of(cls, data: bytes) -> "Member":
        """A member that is kept in memory."""
        return cls(len(data), hashlib.sha256(data).digest(), zlib.crc32(data), data)

    @classmethod
    def of_file(cls, file: BinaryIO) -> "Member":
        """A member that is all of a file."""
        size, sha256, crc32 = 0, hashlib.sha256(), 0
        while block := os.pread(file.fileno(), BLOCK, size):
            sha256.update(block)
            crc32 = zlib.crc32(block, crc32)
            size += len(block)
        return cls(size, sha256.digest(), crc32, file)

    def block(self, at: int) -> bytes:
        """Up to `BLOCK` bytes from there on. Raises OSError if the file has fewer than it should."""
        if isinstance(self.held, bytes):
            return self.held[at : at + BLOCK]
        found = os.pread(self.held.fileno(), min(BLOCK, self.size - at), self.offset + at)
        if not found:
            raise OSError(f"a temporary file ends {self.size - at} bytes too early")
        return found


class Spool:
    """A file without a name in `folder`, which members are written to, one after another."""

    def __init__(self, folder: Path, pen: Pen) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  (closed by `close`)
        self._pen = pen
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._offset = 0
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _begin(self) -> None:
        self._sha256 = hashlib.sha256()
        self._crc32 = 0
        self._size = 0

    def write(self, data: bytes) -> None:
        """Add these bytes to the member that is being written. Raises OSError as writing does, at the latest later."""
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size >= BLOCK:
            self._flush()

    def cut(self) -> Member:
        """The member that ends here; the next one begins."""
        self._flush()
        self._pen.wait()
        member = Member(self._size, self._sha256.digest(), self._crc32, self._file, self._offset)
        self._offset += self._size
        self._begin()
        return member

    def _flush(self) -> None:
        block, self._waiting, self._waiting_size = b"".join(self._waiting), [], 0
        self._pen.do(lambda: self._put(block))

    def _put(self, block: bytes) -> None:
        self._sha256.update(block)
        self._crc32 = zlib.crc32(block, self._crc32)
        self._size += len(block)
        left = memoryview(block)
        while left:
            left = left[os.write(self._file.fileno(), left) :]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the central directory says of a member."""

    name: bytes
    member: Member
    offset: int


class Archive:
    """Writes the archive to an empty file; each member gets that time, to two seconds, in UTC."""

    def __init__(self, file: BinaryIO, moment: datetime, pen: Pen) -> None:
        self._file = file
        self._pen = pen
        self._time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
        self._date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
        self._entries: list[_Entry] = []
        self._sha256 = hashlib.sha256()
        self._size = 0

    def add(self, name: str, member: Member) -> None:
        """Add a member under a name in ASCII. Raises OSError as writing does."""
        entry = _Entry(name.encode("ascii"), member, self._size)
        self._entries.append(entry)
        self._write(self._local(entry))
        at = 0
        while at < member.size:
            block = member.block(at)
            self._write(block)
            at += len(block)

    def close(self) -> tuple[int, bytes]:
        """Write the central directory; the size of the whole file, and its SHA-256."""
        start, entries = self._size, self._entries
        for entry in entries:
            self._write(self._central(entry))
        size = self._size - start
        if len(entries) >= _FULL_16 or start >= _FULL_32 or size >= _FULL_32:
            end, versions = self._size, (_UNIX | _VERSION_ZIP64, _VERSION_ZIP64)
            self._write(
                _END_ZIP64.pack(
                    b"PK\6\6", _END_ZIP64.size - 12, *versions, 0, 0, len(entries), len(entries), size, start
                )
            )
            self._write(_LOCATOR_ZIP64.pack(b"PK\6\7", 0, end, 1))
        number = min(len(entries), _FULL_16)
        self._write(_END.pack(b"PK\5\6", 0, 0, number, number, min(size, _FULL_32), min(start, _FULL_32), 0))
        self._pen.wait()
        return self._size, self._sha256.digest()

    def _local(self, entry: _Entry) -> bytes:
        size = entry.member.size
        extra = b"" if size < _FULL_32 else struct.pack("<2H2Q", 1, 16, size, size)
        return (
            _LOCAL.pack(
                b"PK\3\4",
                _VERSION_ZIP64 if extra else _VERSION,
                0,
                0,
                self._time,
                self._date,
                entry.member.crc32,
                min(size, _FULL_32),
                min(size, _FULL_32),
                len(entry.name),
                len(extra),
            )
            + entry.name
            + extra
        )

    def _central(self, entry: _Entry) -> bytes:
        size = entry.member.size
        large = [value for value in (size, size, entry.offset) if value >= _FULL_32]
        extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        version = _VERSION_ZIP64 if extra else _VERSION
        return (
            _CENTRAL.pack(
                b"PK\1\2",
                _UNIX | version,
                version,
                0,
                0,
                self._time,
                self._date,
                entry.member.crc32,
                min(size, _FULL_32),
                min(size, _FULL_32),
                len(entry.name),
                len(extra),
                0,
                0,
                0,
                _MODE,
                min(entry.offset, _FULL_32),
            )
            + entry.name
            + extra
        )

    def _write(self, data: bytes) -> None:
        self._size += len(data)
        self._pen.do(lambda: self._sha256.update(data))
        self._file.write(data)
