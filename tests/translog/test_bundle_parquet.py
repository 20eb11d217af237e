"""`events.parquet` from somebody who wants more memory of a verifier than the file has bytes, or another reading of it.

A page unpacks to what its own header says. So the header is what is looked at, before anything is unpacked.
"""

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.translog.bundles import COLUMNS, Bundle, make
from tests.translog.exported import VKEY, at, question, story
from translog.bundle import BundleError, Verified, verify
from translog.bundle.pages import check_pages
from translog.errors import FormatError
from translog.policy import Policy

pytest.importorskip("pyarrow")

BIG = "x" * (1 << 20)
REASON = COLUMNS.index("reason")


class Memory(io.BytesIO):
    """A file in memory, which knows how large it is."""

    @property
    def size(self) -> int:
        """Of all of it."""
        return len(self.getvalue())


def table(column: Sequence[str | None], *, text: str = "string", **how: Any) -> bytes:
    """A file with these texts as `reason`, all other columns being null; `how` is how pyarrow is to write it."""
    pa: Any = import_module("pyarrow")
    types = {"index": pa.int64(), "test": pa.bool_(), "erased": pa.bool_()}
    arrays = [pa.nulls(len(column), types.get(name, pa.string())) for name in COLUMNS]
    arrays[REASON] = pa.array(column, getattr(pa, text)())
    out = io.BytesIO()
    import_module("pyarrow.parquet").write_table(pa.table(arrays, names=COLUMNS), out, compression="zstd", **how)
    return out.getvalue()


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], str]:
    """A function that gives why a bundle with that file is refused."""

    def refused(data: bytes) -> str:
        bundle = make(story(question(parquet=True)))
        bundle.files["events.parquet"] = data
        path = tmp_path / "bundle.zip"
        path.write_bytes(bundle.seal().zip())
        with pytest.raises(BundleError) as caught:
            verify(path, Policy.of(VKEY))
        assert caught.value.place == "events.parquet"
        return str(caught.value)

    return refused


Refused = Callable[[bytes], str]


@pytest.mark.parametrize(
    ("column", "how", "why"),
    [
        ([BIG] * 6, {}, "a page of 1 values and 1048580 bytes is larger than its rows"),
        ([BIG] * 6, {"use_dictionary": False}, "a page of 6 values and "),
        ([BIG] * 6, {"use_dictionary": False, "data_page_version": "2.0"}, "a page of 6 values and "),
        (["x" * 2000, "", "", "", "", ""], {"use_dictionary": False}, "it has a text of 2000 bytes as reason"),
        (["x" * 2000, "", "", "", "", ""], {}, "it has a text of 2000 bytes as reason"),
        *(
            (["x"] * 6, {"use_dictionary": False, "column_encoding": {"reason": encoding}}, "a page has the encoding ")
            for encoding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
        ),
    ],
)
def test_texts_that_no_event_has(refused: Refused, column: Sequence[str], how: dict[str, Any], why: str) -> None:
    """Are refused before they are unpacked, or before they are put in each row that has them."""
    assert f"events.parquet: {why}" in refused(table(column, **how)).replace("it cannot be read: ", "")


def test_a_type_that_only_some_readers_know(refused: Refused) -> None:
    """A text is of the type string, for those who read Arrow's schema too."""
    assert refused(table(["x"] * 6, text="large_string")).endswith("its columns are not those of events.csv")


@pytest.mark.parametrize("number", [5, 7])
def test_another_number_of_rows(refused: Refused, number: int) -> None:
    """One less, one more."""
    assert refused(table(["x"] * number)).endswith(f"it has {number} rows; there are 6 events")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [False, True])
def test_pages_of_either_kind(tmp_path: Path, version: str, *, use_dictionary: bool) -> None:
    """However pyarrow is asked to write the events' own texts, they are read."""
    bundle: Bundle = make(story(question(parquet=True)))
    parquet: Any = import_module("pyarrow.parquet")
    out = io.BytesIO()
    whole = parquet.read_table(io.BytesIO(bundle.files["events.parquet"]))
    parquet.write_table(whole, out, data_page_version=version, use_dictionary=use_dictionary, row_group_size=4)
    bundle.files["events.parquet"] = out.getvalue()
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle.seal().zip())

    verified: Verified = verify(path, Policy.of(VKEY))
    assert verified.parquet is True


def test_no_events(tmp_path: Path) -> None:
    """There is no page then."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(make(story(question(at(16.2), at(16.8), parquet=True))).zip())

    assert verify(path, Policy.of(VKEY)).parquet is True


def test_bytes_of_a_file() -> None:
    """Where one is changed, the pages are as small as before, or the file is refused; one that is cut is refused."""
    data = table(["one", None, "two", "one", "", "three"])
    check_pages(Memory(data), 6, 100)
    for at_ in range(0, len(data), 19):
        with suppress(FormatError):
            check_pages(Memory(data[:at_] + bytes((data[at_] ^ 1 << at_ % 8,)) + data[at_ + 1 :]), 6, 100)
        with pytest.raises(FormatError):
            check_pages(Memory(data[:at_]), 6, 100)


@pytest.mark.parametrize(
    "end",
    [
        b"",
        b"\x00",
        b"\x19",
        b"\x49\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # so many structs
        b"\x19\xf3\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # so many bytes
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a text of such a length
        b"\x16" + b"\xff" * 12,
        b"\x1c" * 2000,
        b"\x19\x19" * 2000,
        b"\x1b\x00",
    ],
)
def test_an_end_that_makes_no_sense(end: bytes) -> None:
    """It is read to where it makes none, whatever lengths it claims."""
    with pytest.raises(FormatError):
        check_pages(Memory(b"PAR1" + end + len(end).to_bytes(4, "little") + b"PAR1"), 6, 100)


def test_an_end_that_is_too_long() -> None:
    """Of a few rows it is not many mebibytes."""
    end = bytes(1 << 21)
    with pytest.raises(FormatError, match="its end is too long for 6 rows"):
        check_pages(Memory(b"PAR1" + end + len(end).to_bytes(4, "little") + b"PAR1"), 6, 100)
