"""`events.parquet`, compared by value with the lines of `events.jsonl`, where `pyarrow` is installed.

What it is made of is for `pyarrow` to know, so its bytes cannot be written again and compared. It is read a batch of
rows at a time, and only after its hash was found to be the one that the manifest has, and its pages to be no larger
than what the lines can fill (`pages`). Without `pyarrow`, the hash is all that is checked of it.
"""

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from operator import itemgetter
from typing import Any

from translog.bundle.archive import Archive, Member
from translog.bundle.lines import Lines, Piece, lines_of
from translog.bundle.pages import check_pages
from translog.bundle.rows import COLUMNS
from translog.errors import BundleError, FormatError

__all__ = ["NAME", "available", "check"]

NAME = "events.parquet"
_BATCH = 1024
_BUFFER = 1 << 16
_CONTAINER = 4096


def available() -> bool:
    """Whether `pyarrow` is installed."""
    return find_spec("pyarrow") is not None


def check(archive: Archive, member: Member, events: Member, number: int) -> None:
    """Check that `member` has the columns and rows that the lines of `events` give, which are `number` lines, checked.

    Raises `BundleError` for the first row that differs, and ImportError without `pyarrow`.
    """
    pa: Any = import_module("pyarrow")  # by name: it has no types to check
    try:
        with open(archive.path, "rb") as whole:  # noqa: PTH123  pyarrow takes the file itself
            longest = max(map(len, _lines(archive, events)), default=0)
            _Checking(_Part(whole, member), number, longest).compare(_rows(archive, events))
    except (FormatError, pa.ArrowException, OSError, ValueError) as error:
        raise BundleError(NAME, f"it cannot be read: {error}") from None


class _Checking:
    """A file that is being compared, of so many rows, in which no text is longer than the `longest` line.

    A dictionary has each text once, however many rows have it. So texts are read with their dictionaries, and put in
    their rows only once none was found to be longer than a line.
    """

    def __init__(self, part: "_Part", number: int, longest: int) -> None:
        self.pa: Any = import_module("pyarrow")
        self.compute: Any = import_module("pyarrow.compute")
        open_file: Any = import_module("pyarrow.parquet").ParquetFile
        self.number, self.longest = number, longest
        types = {"index": self.pa.int64(), "test": self.pa.bool_(), "erased": self.pa.bool_()}
        check_pages(part, number, longest)
        file: Any = open_file(
            self.pa.PythonFile(part, mode="r"), thrift_container_size_limit=_CONTAINER + number // _CONTAINER
        )
        self._check_shape(file, self.pa.schema([(name, types.get(name, self.pa.string())) for name in COLUMNS]))
        self.file: Any = open_file(
            self.pa.PythonFile(part, mode="r"),
            metadata=file.metadata,
            read_dictionary=[name for name in COLUMNS if name not in types],
            buffer_size=_BUFFER,
            pre_buffer=False,
        )

    def _check_shape(self, file: Any, schema: Any) -> None:
        if file.schema_arrow.remove_metadata() != schema:
            raise BundleError(NAME, "its columns are not those of events.csv")
        if file.metadata.num_rows != self.number:
            raise BundleError(NAME, f"it has {file.metadata.num_rows} rows; there are {self.number} events")

    def compare(self, rows: Iterator[list[Any]]) -> None:
        """Compare all rows. Raises `BundleError` for the first that differs, and pyarrow's errors."""
        place = 0
        for batch in self.file.iter_batches(batch_size=_BATCH, use_threads=False):  # they would each keep memory
            expected = list(islice(rows, batch.num_rows))
            columns = zip(*expected, strict=True)
            wrong = [self._first_difference(*one) for one in zip(batch.columns, columns, COLUMNS, strict=True)]
            at, name = min(zip(wrong, COLUMNS, strict=True), key=itemgetter(0))
            if at < len(expected):
                raise BundleError(
                    f"{NAME} row {place + at + 1} (entry {expected[at][0]})", f"its {name} is not that of events.jsonl"
                )
            place += len(expected)
        if place != self.number:
            raise BundleError(NAME, f"it has {place} rows; there are {self.number} events")

    def _first_difference(self, its: Any, column: Sequence[Any], name: str) -> int:
        """The first row in which a column of a batch differs from what it must be; the number of rows if none does."""
        its.validate(full=True)
        if self.pa.types.is_dictionary(its.type):
            longest = self.compute.max(self.compute.binary_length(its.dictionary)).as_py()
            if longest is not None and longest > self.longest:
                raise BundleError(NAME, f"it has a text of {longest} bytes as {name}, longer than any line of an event")
            its = its.dictionary_decode()
        if its.equals(self.pa.array(column, its.type)):
            return len(column)
        return next(
            (at for at, (one, other) in enumerate(zip(its.to_pylist(), column, strict=True)) if one != other),
            len(column),
        )


class _Part:
    """A member of the archive as a file of its own, for reading."""

    def __init__(self, file: Any, member: Member) -> None:
        self._file, self._member, self._at = file, member, 0
        self.size = member.size
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


def _lines(archive: Archive, events: Member) -> Iterator[bytes]:
    return iter(Lines(archive, [Piece(events, events.start, events.end)], events.name, lines_of))


def _rows(archive: Archive, events: Member) -> Iterator[list[Any]]:
    """What each line says, by column."""
    for line in _lines(archive, events):
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
