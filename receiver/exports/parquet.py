"""`events.parquet`: the rows of `events.csv` for databases, with types, and without what keeps formulas off.

    if available():
        writer = ParquetWriter(path)
        writer.rows(batch)            any number of times, in the order of the events
        writer.close()

It needs `pyarrow`, the extra `parquet`, which is imported when the first file is written and not before. Rows are
gathered column by column and written 65,536 at a time, however they are handed over, so that memory is bounded and the
same rows give the same bytes. Another version of `pyarrow` may write them otherwise: it says which it is in the file.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

COLUMNS = (
    "index",
    "id",
    "logged_at",
    "received_at",
    "kind",
    "provider",
    "source",
    "event",
    "effect",
    "via",
    "scheme",
    "item_type",
    "item_id",
    "account",
    "operation",
    "occurred_at",
    "extent",
    "amount",
    "quantity",
    "reason",
    "breaches",
    "cross_check",
    "test",
    "erased",
)
"""As in `events.csv`: `index` is an integer, `test` and `erased` are booleans, all others texts; any may be null."""

ROW_GROUP = 65_536
"""Rows that are held, and written together."""

Row = Sequence[str | int | bool | None]
"""A value for each of `COLUMNS`, None for null."""


def available() -> bool:
    """Whether `pyarrow` is installed."""
    return find_spec("pyarrow") is not None


class ParquetWriter:
    """Writes the file at `path`, which is made, or emptied, at once. Durable only once the caller has synced it.

    Raises ImportError without `pyarrow`, and OSError as writing does. A file that was not closed is no Parquet file.
    """

    def __init__(self, path: Path) -> None:
        pa: Any = import_module("pyarrow")  # by name: it has no types to check
        parquet: Any = import_module("pyarrow.parquet")
        types = {"index": pa.int64(), "test": pa.bool_(), "erased": pa.bool_()}
        self._pa = pa
        self._schema: Any = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        # Without the schema that only Arrow understands: the types are those of Parquet.
        self._writer: Any = parquet.ParquetWriter(path, self._schema, compression="zstd", store_schema=False)
        self._waiting: list[Any] = []
        self.waiting = 0
        """Rows that are held."""

    def rows(self, batch: Sequence[Row]) -> None:
        """Add these rows, in their order. A value of another type raises pyarrow's ArrowInvalid or ArrowTypeError."""
        if not batch:
            return
        columns = zip(*batch, strict=True)
        arrays = [self._pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._waiting.append(self._pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self.waiting += len(batch)
        if self.waiting >= ROW_GROUP:
            self._write(self.waiting - self.waiting % ROW_GROUP)

    def close(self) -> None:
        """Write what is waiting, and the end of the file. Nothing can be added any more."""
        if self.waiting:
            self._write(self.waiting)
        self._writer.close()

    def _write(self, number: int) -> None:
        """That many of the waiting rows, as one piece: else how they came would show in the pages of the file."""
        table = self._pa.Table.from_batches(self._waiting).combine_chunks()
        self._writer.write_table(table.slice(0, number).combine_chunks(), row_group_size=ROW_GROUP)
        self.waiting -= number
        self._waiting = table.slice(number).to_batches() if self.waiting else []
