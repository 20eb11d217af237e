"""The ZIP file of a bundle: stored, without gaps, the same bytes each time, and ZIP64 where numbers ask for it."""

import errno
import hashlib
import struct
import threading
import zipfile
import zlib
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.exports.archive import BLOCK, Archive, Member, Pen, Spool

MOMENT = datetime(2026, 11, 20, 9, 30, 59, 999999, tzinfo=UTC)
LARGE = 2**32 - 1


@pytest.fixture
def pen() -> Generator[Pen]:
    """Whoever writes."""
    with Pen() as pen:
        yield pen


def written(path: Path, members: Mapping[str, Member], pen: Pen) -> tuple[int, bytes]:
    """An archive of these members; what `close` gives."""
    with path.open("wb") as file:
        archive = Archive(file, MOMENT, pen)
        for name, member in members.items():
            archive.add(name, member)
        return archive.close()


# ---- the file -------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_another_reader_finds_what_was_written(tmp_path: Path, contents: list[bytes]) -> None:
    """Python's own `zipfile` reads every member, in order, checks its CRC, and sees that it is stored."""
    path, names = tmp_path / "one.zip", [f"folder/{number}.bin" for number in range(len(contents))]
    with Pen() as pen:
        size, sha256 = written(path, dict(zip(names, map(Member.of, contents), strict=True)), pen)

    data = path.read_bytes()
    assert (size, sha256) == (len(data), hashlib.sha256(data).digest())
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
        assert [archive.read(info) for info in infos] == contents
    assert [info.filename for info in infos] == names
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert {info.date_time for info in infos} == {(2026, 11, 20, 9, 30, 58)}
    assert {(info.flag_bits, info.extra, info.comment, info.internal_attr) for info in infos} == {(0, b"", b"", 0)}
    assert {(info.create_system, info.create_version, info.extract_version) for info in infos} == {(3, 20, 20)}
    assert {info.external_attr for info in infos} == {0o100644 << 16}


def test_the_bytes(tmp_path: Path, pen: Pen) -> None:
    """Local header and content for each member, the directory, its end; nothing before, between or after."""
    path, data = tmp_path / "one.zip", b"what it holds"
    written(path, {"a.txt": Member.of(data), "b": Member.of(b"")}, pen)

    clock, day = 9 << 11 | 30 << 5 | 29, 46 << 9 | 11 << 5 | 20
    first = struct.pack("<HHHHLLLHH", 0, 0, clock, day, zlib.crc32(data), 13, 13, 5, 0)
    second = struct.pack("<HHHHLLLHH", 0, 0, clock, day, 0, 0, 0, 1, 0)
    version = struct.pack("<H", 20)
    local = b"PK\3\4" + version + first + b"a.txt" + data + b"PK\3\4" + version + second + b"b"
    made = struct.pack("<H", 3 << 8 | 20)
    start = len(local) - 31
    directory = (
        b"PK\1\2" + made + version + first + struct.pack("<HHHLL", 0, 0, 0, 0o100644 << 16, 0) + b"a.txt"
        + b"PK\1\2" + made + version + second + struct.pack("<HHHLL", 0, 0, 0, 0o100644 << 16, start) + b"b"
    )  # fmt: skip
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 2, 2, len(directory), len(local), 0)
    assert path.read_bytes() == local + directory + end


class Endless:
    """A file that counts the bytes which it is given, and keeps the small pieces."""

    def __init__(self) -> None:
        self.size = 0
        self.pieces: dict[int, bytes] = {}

    def write(self, data: bytes) -> int:
        if len(data) < 1000:
            self.pieces[self.size] = data
        self.size += len(data)
        return len(data)


class Zeros(Member):
    """A member of many zeros that are nowhere."""

    def block(self, at: int) -> bytes:
        return bytes(min(BLOCK * 64, self.size - at))


def test_zip64_where_a_number_needs_it(pen: Pen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of 2^32 - 1 bytes has its sizes in an extra field, what is after it its offset, and so has the end."""
    monkeypatch.setattr("receiver.exports.archive.hashlib.sha256", _NoHash)  # the hash of 4 GiB is not what this is of
    file = Endless()
    archive = Archive(file, MOMENT, pen)  # pyright: ignore[reportArgumentType]
    archive.add("below", Zeros(LARGE - 1, b"", 7, b""))
    archive.add("large", Zeros(LARGE, b"", 8, b""))
    archive.add("after", Member(2, b"", 9, b"ab"))
    size, _ = archive.close()

    pieces = [data for _, data in sorted(file.pieces.items())]
    assert size == file.size
    below, large, after, _, in_below, in_large, in_after, end, locator, last = pieces
    offsets = [0, len(below) + LARGE - 1, len(below) + LARGE - 1 + len(large) + LARGE]
    sizes = struct.pack("<2H2Q", 1, 16, LARGE, LARGE)
    assert (below[4:6], below[18:26], below[28:30]) == (b"\x14\0", struct.pack("<2L", LARGE - 1, LARGE - 1), b"\0\0")
    assert (large[4:6], large[18:26], large[-20:]) == (b"\x2d\0", b"\xff" * 8, sizes)
    assert (after[4:6], after[18:26], after[28:30]) == (b"\x14\0", struct.pack("<2L", 2, 2), b"\0\0")
    assert (in_below[4:8], in_below[30:32]) == (b"\x14\3\x14\0", b"\0\0")
    assert (in_large[4:8], in_large[42:46]) == (b"\x2d\3\x2d\0", b"\xff" * 4)
    assert in_large[-28:] == struct.pack("<2H3Q", 1, 24, LARGE, LARGE, offsets[1])
    assert in_after[20:28] + in_after[42:46] == struct.pack("<2L", 2, 2) + b"\xff" * 4
    assert in_after[-12:] == struct.pack("<2HQ", 1, 8, offsets[2])
    start = offsets[2] + len(after) + 2
    length = len(in_below) + len(in_large) + len(in_after)
    assert end == b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 3 << 8 | 45, 45, 0, 0, 3, 3, length, start)
    assert locator == b"PK\6\7" + struct.pack("<LQL", 0, start + length, 1)
    assert last == b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 3, 3, length, LARGE, 0)


class _NoHash:
    def update(self, data: bytes) -> None:
        """Of nothing."""

    def digest(self) -> bytes:
        return b""


def test_many_members(tmp_path: Path, pen: Pen) -> None:
    """Of 65,535 members the number is in the ZIP64 end; another reader counts them all."""
    path, empty = tmp_path / "many.zip", Member.of(b"")
    written(path, {f"{number}": empty for number in range(0xFFFF)}, pen)

    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == 0xFFFF
    assert b"PK\6\6" in path.read_bytes()[-200:]


# ---- what waits in files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[0], [1], [BLOCK], [BLOCK - 1, 2], [3 * BLOCK + 5, 0, 7], [10] * 50])
def test_members_of_one_spool(tmp_path: Path, pen: Pen, sizes: list[int]) -> None:
    """Each is what was written since the cut before, with its hash and CRC, however it was handed over."""
    contents = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    with Spool(tmp_path, pen) as spool:
        members: list[Member] = []
        for content in contents:
            for at in range(0, len(content), BLOCK // 3):
                spool.write(content[at : at + BLOCK // 3])
            members.append(spool.cut())
        assert list(tmp_path.iterdir()) == []
        path = tmp_path / "one.zip"
        written(path, {str(number): member for number, member in enumerate(members)}, pen)

    assert [(one.size, one.sha256, one.crc32) for one in members] == [
        (len(content), hashlib.sha256(content).digest(), zlib.crc32(content)) for content in contents
    ]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [archive.read(info) for info in archive.infolist()] == contents


def test_a_member_of_a_whole_file(tmp_path: Path) -> None:
    """It is all that the file holds."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * (BLOCK + 1))
    with path.open("rb") as file:
        member = Member.of_file(file)
        assert member.block(0) + member.block(BLOCK) == b"x" * (BLOCK + 1)
    assert (member.size, member.sha256) == (BLOCK + 1, hashlib.sha256(path.read_bytes()).digest())


def test_what_goes_wrong_is_raised(tmp_path: Path, pen: Pen) -> None:
    """A disk that is full is told of at the next turn, and at the end at the latest; nothing is written after it."""
    done: list[str] = []

    def fail() -> None:
        raise OSError(errno.ENOSPC, "full")

    pen.do(fail)
    with pytest.raises(OSError, match="full"):
        pen.wait()
    with Spool(tmp_path, pen) as spool:
        spool.write(b"x")
        with pytest.raises(OSError, match="full"):
            spool.cut()
    with pytest.raises(OSError, match="full"):
        pen.do(lambda: done.append("more"))
    assert done == []


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    """A member whose file has fewer bytes than it should is not written as something shorter."""
    path = tmp_path / "file"
    path.write_bytes(b"four")
    with path.open("rb") as file:
        member = Member(5, b"", 0, file)
        assert member.block(0) == b"four"
        with pytest.raises(OSError, match="1 bytes too early"):
            member.block(4)


def test_the_thread_ends(tmp_path: Path) -> None:
    """With the block, whatever is still waiting to be written."""
    before = threading.active_count()
    with Pen() as pen, Spool(tmp_path, pen) as spool:
        spool.write(b"x")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
