"""Files of exports are read once before they are given out, and again when they are not the same any more."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from receiver.exports import checked
from receiver.exports.checked import Checked
from receiver.records.giving import remove

SHA256 = hashlib.sha256(b"as it was made").digest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of an export."""
    path = tmp_path / "x.zip"
    path.write_bytes(b"as it was made")
    return path


def looked(one: Checked, path: Path) -> bool:
    """Whether the file is whole, once it was looked at."""
    asyncio.run(one.look(path))
    with path.open("rb") as opened:
        return one.has(opened, SHA256)


def test_a_file_that_is_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found to be, however many pieces it is read in; and what was not looked at is nothing."""
    one = Checked()
    with file.open("rb") as opened:
        assert not one.has(opened, SHA256)
    monkeypatch.setattr(checked, "PIECE", 3)
    assert looked(one, file)


def test_it_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as its number, its time and its size are the same."""
    one = Checked()
    assert looked(one, file)
    monkeypatch.setattr(checked, "_take", None)
    assert looked(one, file)


@pytest.mark.parametrize("data", [b"as it was MADE", b"as it was", b""])
def test_it_is_not_what_was_written(file: Path, data: bytes) -> None:
    """Whatever it is now, at whatever time it was written, and though it was read before."""
    one = Checked()
    assert looked(one, file)
    before = file.stat().st_mtime_ns
    file.write_bytes(data)
    os.utime(file, ns=(before + 1, before + 1))
    assert not looked(one, file)


def test_another_file_in_its_place(file: Path, tmp_path: Path) -> None:
    """With the same size and time."""
    one = Checked()
    assert looked(one, file)
    told = file.stat()
    other = tmp_path / "other"
    other.write_bytes(b"as it was MADE")
    os.utime(other, ns=(told.st_atime_ns, told.st_mtime_ns))
    other.replace(file)
    assert not looked(one, file)


def test_a_file_that_is_gone(file: Path) -> None:
    """Whoever opens it finds out."""
    file.unlink()
    asyncio.run(Checked().look(file))


def test_only_so_many_are_remembered(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were read last."""
    monkeypatch.setattr(checked, "REMEMBERED", 1)
    one, other = Checked(), tmp_path / "other"
    other.write_bytes(b"as it was made")
    assert looked(one, file)
    assert looked(one, other)
    with file.open("rb") as opened:
        assert not one.has(opened, SHA256)


def test_a_folder_of_exports_that_is_a_file(file: Path) -> None:
    """There is nothing in it to remove."""
    remove(file / "x.part")
    assert file.is_file()
