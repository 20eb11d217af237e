"""The ZIP of a bundle, read without trusting it: whatever two readers could understand differently is refused."""

import io
import struct
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.translog.bundles import packed
from translog.bundle import archive
from translog.bundle.archive import Archive
from translog.errors import BundleError, TranslogError

MOMENT = datetime(2026, 7, 1, 12, 20, 31, tzinfo=UTC)
FILES = {"manifest.json": b"{}", "payloads/000000.jsonl": b"one\ntwo\n", "empty": b""}

LOCAL, CENTRAL, END = 30, 46, 22  # bytes of each header without what varies


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Archive]:
    """A function that opens a file of these bytes as a bundle's archive."""

    def read(data: bytes) -> Archive:
        path = tmp_path / "bundle.zip"
        path.write_bytes(data)
        with Archive.open(path) as opened:
            return opened

    return read


Read = Callable[[bytes], Archive]


def directory_of(data: bytes) -> int:
    """Where the central directory begins."""
    return int(struct.unpack("<L", data[-6:-2])[0])


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The file with other bytes there."""
    return data[:at] + new + data[at + len(new) :]


def test_what_is_in_it(tmp_path: Path) -> None:
    """Names, sizes, CRCs and contents in order, and the time, as other readers have them."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(packed(FILES, MOMENT))
    with Archive.open(path) as opened, zipfile.ZipFile(path) as other:
        infos = other.infolist()
        assert [member.name for member in opened.members] == list(FILES)
        assert [(member.size, member.crc) for member in opened.members] == [(one.file_size, one.CRC) for one in infos]
        assert [opened.read(name, 100) for name in FILES] == list(FILES.values())
        assert opened.time == infos[0].date_time == (2026, 7, 1, 12, 20, 30)


def test_a_member_is_bounded(tmp_path: Path) -> None:
    """One that is larger than whoever reads it expects is not read."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(packed(FILES, MOMENT))
    with Archive.open(path) as opened, pytest.raises(BundleError, match=r"^payloads/000000\.jsonl: 8 bytes; at most 7"):
        opened.read("payloads/000000.jsonl", 7)


def test_a_member_that_is_damaged(tmp_path: Path) -> None:
    """Its CRC-32 tells."""
    data = packed(FILES, MOMENT)
    path = tmp_path / "bundle.zip"
    path.write_bytes(data.replace(b"one\ntwo", b"one\nten"))
    with Archive.open(path) as opened, pytest.raises(BundleError, match=r"^payloads/000000\.jsonl: its CRC-32 is"):
        opened.read("payloads/000000.jsonl", 8)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../up", "a/../b", "a//b", "a/", "C:\\x", "a\\b", "a b", "ä", "", "a\0b", "x" * 256, "./a\n"],
)
def test_names_that_lead_elsewhere(read: Read, name: str) -> None:
    """A name is a path inside of a folder and nothing else."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as other:
        member = zipfile.ZipInfo("x", MOMENT.timetuple()[:6])
        member.external_attr = 0o100644 << 16
        member.filename = name
        other.writestr(member, b"data")

    with pytest.raises(BundleError, match=r"^ZIP: .* is no name of a file of a bundle"):
        read(out.getvalue())


def test_a_name_twice(read: Read) -> None:
    """Readers differ in which of two they take."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as other:
        for name in ("a.txt", "b.txt"):
            member = zipfile.ZipInfo(name, MOMENT.timetuple()[:6])
            member.external_attr = 0o100644 << 16
            other.writestr(member, b"data")

    with pytest.raises(BundleError, match=r"^a\.txt: the ZIP holds it twice"):
        read(out.getvalue().replace(b"b.txt", b"a.txt"))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_is_packed(read: Read, method: int) -> None:
    """However small it is, it is never unpacked: a bundle that somebody packed again is to be fetched once more."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as other:
        other.writestr("manifest.json", bytes(50_000_000))

    with pytest.raises(BundleError, match=r"^manifest\.json: it is packed .* Verify the file as it was downloaded"):
        read(out.getvalue())


@pytest.mark.parametrize(
    ("offset", "new", "what"),
    [
        (4, b"\x14\x00", "central directory"),  # made by MS-DOS
        (6, b"\x2d\x00", "central directory"),  # version 4.5 without need
        (8, b"\x01\x00", "encrypted"),
        (8, b"\x08\x00", "central directory"),  # a data descriptor
        (8, b"\x00\x08", "central directory"),  # names in UTF-8
        (12, b"\x00\x00", "does not agree"),  # another time than before the member
        (16, b"\x00\x00\x00\x00", "does not agree"),  # another CRC
        (20, b"\x09\x00\x00\x00", "its size"),
        (24, b"\xff\xff\xff\xff", "its size"),
        (32, b"\x01\x00", "central directory"),  # a comment, which the next entry's bytes would be
        (34, b"\x01\x00", "central directory"),  # another disk
        (36, b"\x01\x00", "central directory"),  # internal attributes
        (38, struct.pack("<L", 0o120777 << 16), "central directory"),  # a symbolic link
        (38, struct.pack("<L", 0o104755 << 16), "central directory"),  # a program
        (42, b"\x01\x00\x00\x00", "does not begin where"),
    ],
)
def test_what_the_directory_may_not_say(read: Read, offset: int, new: bytes, what: str) -> None:
    """Of its first member."""
    data = packed(FILES, MOMENT)

    with pytest.raises(BundleError, match=what) as caught:
        read(patched(data, directory_of(data) + offset, new))
    assert caught.value.place == "manifest.json"


@pytest.mark.parametrize("offset", range(LOCAL + len("manifest.json")))
def test_headers_must_agree(read: Read, offset: int) -> None:
    """The one before a member says the same as the central directory, byte for byte."""
    data = packed(FILES, MOMENT)

    with pytest.raises(BundleError, match=r"^manifest\.json: the header before it does not agree"):
        read(patched(data, offset, bytes((data[offset] ^ 1,))))


def test_members_that_overlap(read: Read) -> None:
    """Two names for the same bytes, by which a small file can seem large."""
    data = packed(FILES, MOMENT)
    start = directory_of(data)
    second = start + CENTRAL + len("manifest.json")

    with pytest.raises(BundleError, match=r"^payloads/000000\.jsonl: it does not begin where the file before it ends"):
        read(patched(data, second + 42, b"\0\0\0\0"))


@pytest.mark.parametrize("at", ["start", "member", "directory", "end", "after"])
def test_bytes_that_belong_to_nothing(read: Read, at: str) -> None:
    """Neither before, between nor behind the members is there room for anything."""
    data = packed(FILES, MOMENT)
    start = directory_of(data)
    first_end = LOCAL + len("manifest.json") + 2
    place = {"start": 0, "member": first_end, "directory": start, "end": len(data) - END, "after": len(data)}[at]

    with pytest.raises(BundleError):
        read(data[:place] + b"?" + data[place:])
    if at in {"member", "directory"}:  # the end may say where the directory is now
        moved = data[:place] + b"?" + data[place:]
        with pytest.raises(BundleError):
            read(patched(moved, len(moved) - 6, struct.pack("<L", start + 1)))


def test_a_comment(read: Read) -> None:
    """Which may hold another archive."""
    data = packed(FILES, MOMENT)

    with pytest.raises(BundleError, match=r"^ZIP: the file does not end as a bundle does"):
        read(data[:-2] + b"\x05\x00hello")
    whole = packed(FILES, MOMENT)
    with pytest.raises(BundleError, match=r"^ZIP: "):
        read(data[:-2] + struct.pack("<H", len(whole)) + whole)


@pytest.mark.parametrize("number", [0, 1, 2, 4, 0xFFFE])
def test_a_number_of_members_that_is_not_so(read: Read, number: int) -> None:
    """More or fewer than there are."""
    data = packed(FILES, MOMENT)

    with pytest.raises(BundleError):
        read(data[: -END + 8] + struct.pack("<HH", number, number) + data[-END + 12 :])


@pytest.mark.parametrize(("number", "length"), [(2**60, 100), (3, 2**60), (archive.MAX_MEMBERS + 1, 100)])
def test_huge_numbers(read: Read, number: int, length: int) -> None:
    """Are refused before anything is read that they say the size of."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x32D, 45, 0, 0, number, number, length, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, length, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)

    with pytest.raises(BundleError, match=r"^ZIP: .* a bundle has at most"):
        read(bytes(200) + record + locator + end)


@pytest.mark.parametrize("size", [2**32 - 1, 2**63, 2**64 - 100])
def test_a_member_beyond_the_file(read: Read, size: int) -> None:
    """Nothing is looked for behind a member that is said to be larger than the file."""
    headers: list[bytes] = []
    body = b""
    for name, its_size, start in ((b"a", size, 0), (b"b", 0, LOCAL + 21 + size)):
        large = its_size >= 2**32 - 1
        numbers = [*([its_size, its_size] if large else []), *([start] if start >= 2**32 - 1 else [])]
        extra = struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
        local = struct.pack("<2H", 1, 16) + struct.pack("<2Q", its_size, its_size) if large else b""
        short, version = min(its_size, 2**32 - 1), 45 if extra else 20
        fields = (0, 0, 0, 33, 0, short, short, 1)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 45 if local else 20, *fields, len(local)) + name + local
        central = (3 << 8 | version, version, *fields, len(extra), 0, 0, 0, 0o100644 << 16, min(start, 2**32 - 1))
        headers.append(struct.pack("<4s6H3L5H2L", b"PK\1\2", *central) + name + extra)
    directory = b"".join(headers)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), len(body), 0)

    with pytest.raises(BundleError, match=r"^a: it goes on where the ZIP's central directory is"):
        read(body + directory + end)


def test_zip64_without_need(read: Read) -> None:
    """The longer form of what fits the shorter one is refused, in the directory as at the end."""
    data = packed(FILES, MOMENT)
    start = directory_of(data)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x32D, 45, 0, 0, 3, 3, len(data) - END - start, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(data) - END, 1)
    with pytest.raises(BundleError, match=r"^ZIP: its end is not as that of a bundle"):
        read(data[:-END] + record + locator + data[-END:])

    short = data[:-END] + record + locator + data[-END:][:8] + b"\xff" * 12 + b"\0\0"
    with pytest.raises(BundleError, match=r"^ZIP: its end is not as that of a bundle"):
        read(short)

    extra = struct.pack("<2H2Q", 1, 16, 2, 2)
    name = start + CENTRAL + len("manifest.json")
    longer = data[:name] + extra + data[name:]
    longer = patched(patched(longer, start + 30, b"\x14\0"), start + 20, b"\xff" * 8)
    longer = patched(longer, len(longer) - 10, struct.pack("<L", len(data) - END - start + len(extra)))
    with pytest.raises(BundleError, match=r"^manifest\.json: what the ZIP's central directory says of it is not"):
        read(longer)


def test_a_member_of_more_than_four_gibibytes(tmp_path: Path) -> None:
    """Its size, the place of the member after it, and that of the directory need 64 bits, and are read."""
    size, name, after, crc = 2**32 + 5, b"large", b"after", 0x12345678
    full, mode = 0xFFFFFFFF, 0o100644 << 16
    when = (MOMENT.hour << 11 | MOMENT.minute << 5 | MOMENT.second // 2, (2026 - 1980) << 9 | 7 << 5 | 1)
    field = struct.pack("<2H2Q", 1, 16, size, size)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, *when, crc, full, full, 5, 20) + name + field
    second = len(local) + size
    other = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, *when, 0, 0, 0, 5, 0) + after
    start = second + len(other)
    central = struct.pack("<4s6H3L5H2L", b"PK\1\2", 0x32D, 45, 0, 0, *when, crc, full, full, 5, 20, 0, 0, 0, mode, 0)
    central += name + field
    numbers = (0x32D, 45, 0, 0, *when, 0, 0, 0, 5, 12, 0, 0, 0, mode, full)
    central += struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers) + after + struct.pack("<2HQ", 1, 8, second)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x32D, 45, 0, 0, 2, 2, len(central), start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(central), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(central), full, 0)
    path = tmp_path / "large.zip"
    with path.open("wb") as file:  # with a hole: it takes no room
        file.write(local)
        file.seek(second)
        file.write(other + central + record + locator + end)

    with zipfile.ZipFile(path) as another:
        assert [one.file_size for one in another.infolist()] == [size, 0]
    with Archive.open(path) as opened:
        assert [(one.name, one.start, one.size) for one in opened.members] == [
            ("large", len(local), size),
            ("after", start, 0),
        ]
    path.unlink()


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"PK\5\6" + bytes(18), bytes(1000), b"PK\3\4" + bytes(1000)])
def test_what_is_no_archive(read: Read, data: bytes) -> None:
    """Too short, empty, or something else."""
    with pytest.raises(BundleError, match=r"^ZIP: "):
        read(data)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A folder is no file."""
    with pytest.raises(TranslogError, match=r"^cannot read "):
        Archive.open(tmp_path)
