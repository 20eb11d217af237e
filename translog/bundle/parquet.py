"""`events.parquet`, compared by value with the lines of `events.jsonl`, where `pyarrow` is installed.

What it is made of is for `pyarrow` to know, so its bytes cannot be written again and compared. It is read a batch of
rows at a time, and only after its hash was found to be the one that the manifest has. Without `pyarrow`, that is all
that is checked of it.
"""

import json
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import Any

from translog.bundle.archive import Archive, Member
from translog.bundle.lines import Lines, Piece
from translog.bundle.rows import COLUMNS
from translog.errors import BundleError

__all__ = ["NAME", "available", "check"]

NAME = "events.parquet"
_BATCH = 4096
_MAX_GROUP = 1 << 30


def available() -> bool:
    """Whether `pyarrow` is installed."""
    return find_spec("pyarrow") is not None


def check(archive: Archive, member: Member, events: Member, number: int) -> None:
    """Check that `member` has the columns and rows that the lines of `events` give, which are `number` lines, checked.

    Raises `BundleError` for the first row that differs, and ImportError without `pyarrow`.
    """
    pa: Any = import_module("pyarrow")  # by name: it has no types to check
    open_file: Any = import_module("pyarrow.parquet").ParquetFile
    types = {"index": pa.int64(), "test": pa.bool_(), "erased": pa.bool_()}
    schema: Any = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    try:
        with open(archive.path, "rb") as whole:  # noqa: PTH123  pyarrow takes the file itself
            file: Any = open_file(pa.PythonFile(_Part(whole, member), mode="r"))
            _check_shape(file, schema, number)
            rows = _rows(archive, events)
            place = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                expected = list(islice(rows, batch.num_rows))
                columns = zip(*expected, strict=True)
                for name, its, column in zip(COLUMNS, batch.columns, columns, strict=True):
                    if not its.equals(pa.array(column, schema.field(name).type)):
                        at = next(
                            i
                            for i, (one, other) in enumerate(zip(its.to_pylist(), column, strict=True))
                            if one != other
                        )
                        place += at
                        raise BundleError(
                            f"{NAME} row {place + 1} (entry {expected[at][0]})",
                            f"its {name} is not that of events.jsonl",
                        )
                place += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BundleError(NAME, f"it cannot be read: {error}") from None


def _check_shape(file: Any, schema: Any, number: int) -> None:
    found: Any = file.schema_arrow
    if found.remove_metadata() != schema:
        raise BundleError(NAME, "its columns are not those of events.csv")
    if file.metadata.num_rows != number:
        raise BundleError(NAME, f"it has {file.metadata.num_rows} rows; there are {number} events")
    for group in range(file.metadata.num_row_groups):
        if file.metadata.row_group(group).total_byte_size > _MAX_GROUP:
            raise BundleError(NAME, f"its row group {group} is too large to be read")


class _Part:
    """A member of the archive as a file of its own, for reading."""

    def __init__(self, file: Any, member: Member) -> None:
        self._file, self._member, self._at = file, member, 0
        self.closed = False

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._member.size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._member.size - self._at)
        self._file.seek(self._member.start + self._at)
        data: bytes = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def close(self) -> None:
        self.closed = True


def _rows(archive: Archive, events: Member) -> Iterator[list[Any]]:
    """What each line says, by column."""
    for line in Lines(archive, [Piece(events, events.start, events.end)], events.name):
        said: dict[str, Any] = json.loads(line)
        leaf: dict[str, Any] = said["leaf"]
        facts: dict[str, Any] = leaf["facts"]
        event: dict[str, Any] = said["event"] or {}
        item: dict[str, Any] = event.get("item") or {}
        breaches = facts.get("breaches")
        yield [
            *(said["index"], leaf["id"], leaf["logged_at"], facts.get("received_at"), leaf["kind"]),
            *(facts.get(name) for name in COLUMNS[5:11]),
            *(item.get("type"), item.get("id")),
            *(event.get(name) for name in COLUMNS[13:20]),
            *(None if breaches is None else " ".join(breaches), said["stands"]["cross_check"]),
            *(facts.get("test"), said["erased"]),
        ]
