"""The pages of `events.parquet`, looked at before `pyarrow` unpacks any of them.

What a page unpacks to is said in the header right before it; what the file's end says of that, nobody compares. So
each header is read here, and a page that is larger than the rows that it can be about is refused. Else a few thousand
bytes would fill the memory. Where pages are is read here, too: of an end that makes no sense, `pyarrow` gives no error
to whoever asks it for that, but ends the process.

Follows the Parquet format's `parquet.thrift` (FileMetaData, PageHeader, Encoding), and Thrift's compact protocol.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypeAlias

from translog.errors import FormatError

__all__ = ["File", "check_pages"]

_PAGE = 1 << 21
_AT_ONCE = 1024  # values that a writer adds to a page before it looks at its size
_HEADER = 1 << 15
_MAGIC = b"PAR1"

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 3, 4, 5, 6, 8, 9, 12
_NESTING = 10

_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3
_ABOUT = {_DATA: (5, 2), _DICTIONARY: (7, 2), _DATA_2: (8, 4)}
"""By the type of a page: the field of its own header, and which field of that is the encoding."""

_ENCODINGS = {0, 2, 3, 8}
"""PLAIN, PLAIN_DICTIONARY, RLE and RLE_DICTIONARY, which give no more texts than there are bytes for."""

_Value: TypeAlias = "int | list[_Fields] | _Fields | None"
_Fields: TypeAlias = "dict[tuple[int, int], _Value]"
"""What a struct says, by a field's id and type: integers, structs, and lists of structs. None for all else."""


class File(Protocol):
    """What is read from."""

    @property
    def size(self) -> int:
        """Of all of it, in bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go there."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes; fewer only at its end."""
        ...


class _Column(NamedTuple):
    """The values of a column in a group of rows: where their pages are, and how many rows there are."""

    start: int
    end: int
    rows: int


class _Page(NamedTuple):
    """What a header says of its page, and how long it is itself."""

    type: int
    unpacked: int
    packed: int
    values: int
    encoding: int
    length: int


def check_pages(file: File, rows: int, longest: int) -> None:
    """Check that a file of so many rows has no page that is larger than these, with texts of at most `longest` bytes.

    Raises `FormatError`.
    """
    for column in _columns(_end(file, rows), rows):
        _check_column(file, column, longest)


# ---- where pages are ------------------------------------------------------------------------------------------------


def _end(file: File, rows: int) -> "_Fields":
    """What the file's end says of the file."""
    file.seek(max(0, file.size - 8))
    last = file.read(8)
    if len(last) != 8 or not last.endswith(_MAGIC):
        raise FormatError("it does not end as a Parquet file does")
    size = int.from_bytes(last[:4], "little")
    if size > (1 << 20) + 16 * rows or size > file.size - 8:
        raise FormatError(f"its end is too long for {rows} rows")
    file.seek(file.size - 8 - size)
    return _Reader(file.read(size)).struct(_NESTING)


def _columns(end: "_Fields", rows: int) -> Iterator[_Column]:
    """Each column of each group of rows; none of a group without rows, of which nothing is read."""
    counted = 0
    for group in _structs(end, 4):
        number = _number(group, 3)
        counted += number
        for chunk in _structs(group, 1):
            said = _struct(chunk, 3)
            if _number(said, 5) != number:
                raise FormatError("a column has not as many values as there are rows")
            if number == 0:
                continue
            start, first = _number(said, 9), said.get((11, _I64))
            if isinstance(first, int) and 0 < first < start:  # that of its dictionary; so does pyarrow decide
                start = first
            yield _Column(start, start + _number(said, 7), number)
    if counted != rows:
        raise FormatError(f"it has {counted} rows; there are {rows} events")


def _number(fields: "_Fields", id_: int, type_: int = _I64) -> int:
    found = fields.get((id_, type_))
    if not isinstance(found, int) or found < 0:
        raise FormatError("what it says of its pages is not complete")
    return found


def _struct(fields: "_Fields", id_: int) -> "_Fields":
    found = fields.get((id_, _STRUCT))
    if not isinstance(found, dict):
        raise FormatError("what it says of its pages is not complete")
    return found


def _structs(fields: "_Fields", id_: int) -> "list[_Fields]":
    found = fields.get((id_, _LIST))
    if not isinstance(found, list):
        raise FormatError("what it says of its pages is not complete")
    return found


# ---- pages ----------------------------------------------------------------------------------------------------------


def _check_column(file: File, column: _Column, longest: int) -> None:
    """The pages fill their place, and have a value for each row."""
    at, values = column.start, 0
    while at < column.end:
        file.seek(at)
        page = _page(file.read(min(_HEADER, column.end - at)))
        allowed = min(_PAGE + _AT_ONCE * (longest + 16), 1024 + page.values * (longest + 16))
        if page.values > column.rows or page.unpacked > allowed:
            raise FormatError(f"a page of {page.values} values and {page.unpacked} bytes is larger than its rows")
        if page.encoding not in _ENCODINGS:
            raise FormatError(f"a page has the encoding {page.encoding}, which is not read")
        if page.type == _DICTIONARY and at != column.start:
            raise FormatError("a column has two dictionaries")
        if page.type != _DICTIONARY:
            if page.values == 0:
                raise FormatError("a page has no values")
            values += page.values
        at += page.length + page.packed
    if at != column.end or values != column.rows:
        raise FormatError("its pages are not as its end says")


def _page(data: bytes) -> _Page:
    """The header that `data` begins with."""
    reader = _Reader(data)
    fields = reader.struct(_NESTING)
    type_ = _number(fields, 1, _I32)
    if type_ not in _ABOUT:
        raise FormatError(f"a page is of the type {type_}, which is not read")
    own, encoded = _ABOUT[type_]
    about = _struct(fields, own)
    return _Page(
        type=type_,
        unpacked=_number(fields, 2, _I32),
        packed=_number(fields, 3, _I32),
        values=_number(about, 1, _I32),
        encoding=_number(about, encoded, _I32),
        length=reader.at,
    )


class _Reader:
    """Reads Thrift's compact protocol, as far as it is used here."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, nesting: int) -> "_Fields":
        """The fields of a struct."""
        found: _Fields = {}
        ids = set[int]()
        id_ = 0
        while head := self._byte():
            id_ = id_ + (head >> 4) if head >> 4 else self._integer()
            if id_ in ids:
                raise FormatError("a header says something twice")
            ids.add(id_)
            found[id_, head & 15] = self._value(head & 15, nesting - 1)
        return found

    def _value(self, type_: int, nesting: int) -> _Value:
        if not nesting:
            raise FormatError("a header is nested too deep")
        if type_ == _STRUCT:
            return self.struct(nesting)
        if type_ in {_I16, _I32, _I64}:
            return self._integer()
        if type_ == _LIST:
            return self._list(nesting)
        if type_ == _BINARY:
            size = self._varint()
            self.at += size
        elif type_ == _BYTE:
            self._byte()
        elif type_ not in {_TRUE, _FALSE}:
            raise FormatError(f"a header has a value of the type {type_}, which is not read")
        return None

    def _list(self, nesting: int) -> "list[_Fields] | None":
        head = self._byte()
        size, type_ = head >> 4, head & 15
        if size == 15:
            size = self._varint()
        if type_ == _STRUCT:
            return [self.struct(nesting) for _ in range(size)]
        for _ in range(size):
            if type_ in {_TRUE, _FALSE}:
                self._byte()  # only in a list it is a value of its own
            else:
                self._value(type_, nesting - 1)
        return None

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise FormatError("a header is cut short, or too long")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise FormatError("a number in a header is too long")
        return value | byte << shift

    def _integer(self) -> int:
        """With its sign: zigzag."""
        value = self._varint()
        return value >> 1 ^ -(value & 1)
