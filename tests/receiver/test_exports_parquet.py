"""`events.parquet`: the same rows, with their types, in pieces of one size, and the same bytes however they came."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.exports.parquet import COLUMNS, ROW_GROUP, ParquetWriter, Row, available

pyarrow: Any = pytest.importorskip("pyarrow")
parquet: Any = pytest.importorskip("pyarrow.parquet")

BOOLEANS = {"test", "erased"}


def row(index: int) -> Row:
    """One that differs from its neighbours, with nulls."""
    values: dict[str, str | int | bool | None] = {name: f"{name} {index % 7}" for name in COLUMNS}
    values |= {"index": index, "test": (None, False, True)[index % 3], "erased": index % 5 == 0}
    values |= {"amount": None if index % 2 else "-1.50", "reason": "=1+1 ✓ \0\n"}
    return tuple(values.values())


def batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """The rows, that many at a time."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def written(path: Path, rows: Sequence[Row], size: int) -> bytes:
    """The file of these rows, handed over that many at a time."""
    writer = ParquetWriter(path)
    for batch in batches(rows, size):
        writer.rows(batch)
    writer.close()
    return path.read_bytes()


def read(path: Path) -> list[tuple[Any, ...]]:
    """Its rows, as another program has them."""
    return [tuple(one.values()) for one in parquet.read_table(path).to_pylist()]


def of(name: str) -> st.SearchStrategy[str | int | bool | None]:
    """Whatever a column may hold."""
    if name == "index":
        return st.integers(0, 2**53)
    return st.none() | (st.booleans() if name in BOOLEANS else st.text(st.characters(codec="utf-8"), max_size=4))


@given(rows=st.lists(st.tuples(*map(of, COLUMNS)), max_size=5), size=st.integers(1, 5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Row], size: int) -> None:
    """Value by value: no text is changed, and null is not the empty text."""
    path = tmp_path_factory.mktemp("written") / "events.parquet"
    written(path, rows, size)

    assert rows == read(path)


def test_its_columns_are_those_of_the_document() -> None:
    """And so those of `events.csv`."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "export-format.md").read_text()
    [columns] = [
        block for block in page.partition("\n## events.csv\n")[2].split("\n\n") if block.startswith("    index ")
    ]

    assert tuple(columns.split()) == COLUMNS


def test_its_columns_have_types(tmp_path: Path) -> None:
    """Those of Parquet itself, also where there is no row to tell them by."""
    written(tmp_path / "empty.parquet", [], 1)

    schema = parquet.read_schema(tmp_path / "empty.parquet")

    assert list(COLUMNS) == schema.names
    assert schema.metadata is None
    types = {name: "int64" if name == "index" else "bool" if name in BOOLEANS else "string" for name in COLUMNS}
    assert types == {field.name: str(field.type) for field in schema}
    assert read(tmp_path / "empty.parquet") == []


def test_the_bytes_follow_from_the_rows(tmp_path: Path) -> None:
    """However many are handed over at a time, they are written in pieces of one size."""
    rows = [row(index) for index in range(ROW_GROUP + 10)]

    whole = written(tmp_path / "whole", rows, len(rows))

    for size in (1_000, 4_096, ROW_GROUP - 1, ROW_GROUP):
        assert whole == written(tmp_path / "other", rows, size)
    about = parquet.read_metadata(tmp_path / "whole")
    assert [about.row_group(at).num_rows for at in range(about.num_row_groups)] == [ROW_GROUP, 10]
    assert rows == read(tmp_path / "whole")


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """By one piece, also after a batch of several."""
    writer = ParquetWriter(tmp_path / "events.parquet")
    writer.rows([row(index) for index in range(2 * ROW_GROUP + 10)])

    assert writer.waiting == 10
    writer.close()


@pytest.mark.parametrize(
    "values", [{"index": "1"}, {"test": "true"}, {"provider": 1}], ids=["a text", "another text", "a number"]
)
def test_a_value_of_another_type_is_refused(tmp_path: Path, values: dict[str, str | int]) -> None:
    """Instead of being made into one that fits."""
    writer = ParquetWriter(tmp_path / "events.parquet")
    wrong = tuple((dict(zip(COLUMNS, row(1), strict=True)) | values).values())

    with pytest.raises((pyarrow.ArrowInvalid, pyarrow.ArrowTypeError)):
        writer.rows([wrong])


def test_a_row_has_all_its_columns(tmp_path: Path) -> None:
    """A short one is refused; so is one that is shorter than the others."""
    writer = ParquetWriter(tmp_path / "events.parquet")

    for rows in ([row(1)[:-1]], [row(1), row(2)[:-1]]):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            writer.rows(rows)


def test_it_is_imported_when_it_is_used() -> None:
    """A receiver without the extra has all but this file."""
    program = "import sys; sys.modules['pyarrow'] = None; import receiver.exports.parquet as it; print(it.available())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert available()
    assert (done.stdout, done.stderr) == ("False\n", "")
