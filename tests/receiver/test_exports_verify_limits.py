"""What a bundle can make its verifier do: no more than its size is worth, and never break down without a word."""

import io
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from receiver.exports import verify
from receiver.exports.verify import Bundle, Member, Part, Refused, Unable, Verifier, Wrong, canonical, judged, parse_key
from tests.receiver.test_exports_verify import SCRIPT, wrong_by_library
from tests.translog.bundles import COLUMNS, make, packed
from tests.translog.changes import good
from tests.translog.exported import VKEY, question, story
from tests.translog.tampering import TAMPERED
from translog.bundle import pages
from translog.errors import FormatError


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[bytes], tuple[str, str]]:
    """A function that gives the place at which both verifiers refuse a file, and why this one does."""

    def refusal(data: bytes) -> tuple[str, str]:
        path = tmp_path / "bundle.zip"
        path.write_bytes(data)
        with pytest.raises(Wrong) as caught:
            Verifier(path, [parse_key(VKEY)]).check()
        place, why = caught.value.args
        assert wrong_by_library(path) == place
        return place, why

    return refusal


Refusal = Callable[[bytes], tuple[str, str]]


def test_an_erased_text_that_is_here(refusal: Refusal) -> None:
    """Is told as what it is."""
    tampered = next(one for one in TAMPERED if one.name == "an erased event put back, signed again")
    assert refusal(tampered.zip()) == (
        "events.jsonl line 4 (entry 12)",
        "entry 12 was erased by entry 15, and its text is here",
    )


# ---- JSON -----------------------------------------------------------------------------------------------------------


def test_texts_of_any_length_and_letters() -> None:
    """Long ones that are not ASCII are read like others; and so are arrays in one another, as many as there may be."""
    for text in ("é" * 200_000, '\\"é' * 100_000):
        assert canonical(f'{{"a":"{text}"}}'.encode()) == {"a": text.replace('\\"', '"')}
    assert canonical(b"[" * 64 + b"]" * 64) is not None


@pytest.mark.parametrize(
    "data",
    [
        '{"é":1}'.encode(),
        '[{"a":"é","b":{"ü":1}}]'.encode(),
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1.0",
        b"1e3",
        b"-0",
        b"NaN",
        b"9007199254740992",
        b"9" * 100_000,
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a":1}{}',
        b'"\\u00e9"',
        b'"\\ud800"',
        b'"\xff"',
        b"",
    ],
    ids=range(21),
)
def test_json_that_is_none_of_ours(data: bytes) -> None:
    """Foreign names, deep nesting, numbers that not all readers keep, and every other spelling."""
    with pytest.raises(Refused):
        canonical(data)


EVENT = (
    b'{"account":"a,b","amount":null,"details":{"a":[1,"x"],"b":"}"},"extent":"","item":{"id":"=1","type":null},'
    b'"occurred_at":"2026","occurred_from":null,"operation":"o","quantity":"1","reason":"r"}'
)


@pytest.mark.parametrize("details", [b'{"a":[1,"x"],"b":"}"}', b'{"a":[1,"x"],"b":"+"}', b"{}", b'{"a":"\xc3\xa9"}'])
def test_events_that_are_plain_are_read_as_all_are(monkeypatch: pytest.MonkeyPatch, details: bytes) -> None:
    """What they say does not depend on whether one pattern finds all of it."""
    data = EVENT.replace(b'{"a":[1,"x"],"b":"}"}', details)
    found = verify.read_event(data)
    monkeypatch.setattr(verify, "PLAIN_EVENT", verify.re.compile("never"))

    assert found == verify.read_event(data) == ("2026", ',\'=1,"a,b",o,2026,,,1,r')


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"a":[1,"x"],"b":"}"}', b'{"b":1,"a":2}'),
        (b'{"a":[1,"x"],"b":"}"}', b'{"a":1,"a":1}'),
        (b'{"a":[1,"x"],"b":"}"}', b'{"a":1.0}'),
        (b'{"a":[1,"x"],"b":"}"}', b'{"a" :1}'),
        (b'{"a":[1,"x"],"b":"}"}', b'{"a"}'),
        (b'{"a":[1,"x"],"b":"}"}', b"{\xff}"),
        (b'"a,b"', b'"\\u0061"'),
        (b'"a,b"', b'"\xff"'),
        (b'"r"', b'"r" '),
        (b'"r"}', b'"r"}\n'),
        (b'"id":"=1","type":null', b'"type":null,"id":"=1"'),
    ],
)
def test_events_in_another_spelling(old: bytes, new: bytes) -> None:
    """Are refused, plain or not."""
    assert old in EVENT
    with pytest.raises(Refused):
        verify.read_event(EVENT.replace(old, new))


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        (b"{}", True),
        (b'{"a":"1","b-c":"x y"}', True),
        (b'{"a":"\\"","b":"\xc3\xa9"}', True),
        (b'{"b":"1","a":"2"}', False),
        (b'{"a":"1","a":"1"}', False),
        (b'{"A":"1"}', False),
        (b'{"":"1"}', False),
        (b'{"a":1}', False),
        (b'{"a":"1",}', False),
        (b'{"a":"1""b":"1"}', False),
        (b'{"a":"\xff"}', False),
    ],
)
def test_headers(headers: bytes, *, is_taken: bool) -> None:
    """Texts by names in lower case, in order, each once."""
    data = b'{"body":"","headers":%b}' % headers
    if is_taken:
        verify.check_delivery(data)
    else:
        with pytest.raises(Refused):
            verify.check_delivery(data)


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proof/checkpoint", "proof/entry.tlog-proof", "proof/exports-key.tlog-proof"])
def test_small_files_that_are_large(refusal: Refusal, name: str) -> None:
    """They are refused before they are read."""
    bundle = good()
    bundle.files[name] += b"AAAA\n" * 500_000
    place, why = refusal(bundle.zip())

    assert place == name
    assert "more than such a file can have" in why


@pytest.mark.parametrize(("more", "place"), [(99, "proof/exports-key.tlog-proof"), (100, "proof/checkpoint")])
def test_many_signatures(refusal: Refusal, more: int, place: str) -> None:
    """A note has a hundred at most; with as many, the checkpoint is another one than that of the proofs."""
    bundle = good()
    bundle.files["proof/checkpoint"] += "\N{EM DASH} example.com/witness AAAAAAAA\n".encode() * more

    assert refusal(bundle.zip())[0] == place


def test_many_files(refusal: Refusal) -> None:
    """They are compared by their names before any is read."""
    bundle = good()
    more = {f"proof/erasures/{index}.tlog-proof": b"" for index in range(100, 1100)}
    place, why = refusal(packed({**bundle.sealed, **bundle.files, **more}, bundle.moment))

    assert (place, why) == ("proof/erasures/100.tlog-proof", "it is not in the bundle, or not in its place there")


def test_a_line_without_an_end(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read further than a line can reach."""
    monkeypatch.setattr(verify, "MAX_LINE", 1 << 12)
    bundle = good()
    bundle.files["events.jsonl"] = b"x" * 5000

    assert refusal(bundle.seal().zip()) == ("events.jsonl line 1", "it does not end in a newline, or is too long")


# ---- columns --------------------------------------------------------------------------------------------------------


class Memory(io.BytesIO):
    """A file in memory, which knows how large it is."""

    @property
    def size(self) -> int:
        """Of all of it."""
        return len(self.getvalue())


def columns(*reasons: str | None, **how: Any) -> bytes:
    """A file with these texts as `reason`, all other columns being null; `how` is how pyarrow is to write it."""
    pa: Any = import_module("pyarrow")
    types = {"index": pa.int64(), "test": pa.bool_(), "erased": pa.bool_()}
    arrays = [pa.nulls(len(reasons), types.get(name, pa.string())) for name in COLUMNS]
    arrays[COLUMNS.index("reason")] = pa.array(reasons, pa.string())
    out = io.BytesIO()
    import_module("pyarrow.parquet").write_table(pa.table(arrays, names=COLUMNS), out, compression="zstd", **how)
    return out.getvalue()


def with_columns(data: bytes) -> bytes:
    """A bundle with that as its events.parquet."""
    bundle = make(story(question(parquet=True)))
    bundle.files["events.parquet"] = data
    return bundle.seal().zip()


BIG = ("x" * (1 << 20),) * 6


@pytest.mark.parametrize(
    ("reasons", "how", "why"),
    [
        (BIG, {}, "a page of 1 values and 1048580 bytes is larger than its rows can be"),
        (BIG, {"use_dictionary": False}, "a page of 6 values and "),
        (BIG, {"use_dictionary": False, "data_page_version": "2.0"}, "a page of 6 values and "),
        (("x" * 2000, *"abcde"), {}, "it has a text of 2000 bytes"),
        (("x",) * 6, {"use_dictionary": False, "column_encoding": {"reason": "DELTA_BYTE_ARRAY"}}, "a page is encoded"),
        (("x",) * 5, {}, "it has 5 rows for 6 events"),
        (("x",) * 7, {}, "it has 7 rows for 6 events"),
    ],
)
def test_columns_that_no_events_have(refusal: Refusal, reasons: tuple[str], how: dict[str, Any], why: str) -> None:
    """Are refused before they are unpacked, or before they are put in each row that has them."""
    pytest.importorskip("pyarrow")
    place, said = refusal(with_columns(columns(*reasons, **how)))

    assert place == "events.parquet"
    assert said.startswith(why)


@pytest.mark.parametrize(
    "how",
    [
        {"data_page_version": version, "use_dictionary": use, "row_group_size": 4}
        for version in ("1.0", "2.0")
        for use in (False, True)
    ],
    ids=str,
)
def test_pages_of_either_kind(tmp_path: Path, how: dict[str, Any]) -> None:
    """However pyarrow is asked to write the events' own texts, they are read."""
    pytest.importorskip("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    out = io.BytesIO()
    own = make(story(question(parquet=True))).files["events.parquet"]
    parquet.write_table(parquet.read_table(io.BytesIO(own)), out, **how)
    path = tmp_path / "bundle.zip"
    path.write_bytes(with_columns(out.getvalue()))

    assert "  compared    everything; events.parquet by value\n" in Verifier(path, [parse_key(VKEY)]).check()
    assert wrong_by_library(path) is None


def are_small(data: bytes, path: Path) -> bool:
    """Whether the pages of a file are as small as 6 rows with short texts, which both say alike."""
    path.write_bytes(data)
    is_small = True
    with Part(Bundle(path, {}, (0, 0)), Member("events.parquet", 0, len(data), 0, 0)) as part:
        try:
            verify.check_pages(part, 6, 100)
        except (Refused, Wrong, LookupError, TypeError):
            is_small = False
    if is_small:
        pages.check_pages(Memory(data), 6, 100)
    else:
        with pytest.raises(FormatError):
            pages.check_pages(Memory(data), 6, 100)
    return is_small


def test_bytes_of_columns(tmp_path: Path) -> None:
    """One is changed, or the file is cut: what is said of its pages is as before, or it is refused; by both alike."""
    pytest.importorskip("pyarrow")
    data, path = columns("one", None, "two", "one", "", "three"), tmp_path / "events.parquet"
    assert are_small(data, path)
    for at in range(0, len(data), 127):
        are_small(data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :], path)
        assert not are_small(data[:at], path)


@pytest.mark.parametrize(
    "end",
    [
        b"",
        b"\x00",
        b"\x19",
        b"\x49\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # so many structs
        b"\x19\xf3\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # so many bytes
        b"\x19\xf1\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # so often true
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a text of such a length
        b"\x16" + b"\xff" * 12,
        b"\x1c" * 2000,
        b"\x19\x19" * 2000,
        b"\x1b\x00",
        bytes(1 << 21),
    ],
    ids=range(12),
)
def test_an_end_that_makes_no_sense(tmp_path: Path, end: bytes) -> None:
    """It is read to where it makes none, whatever lengths it claims."""
    assert not are_small(b"PAR1" + end + len(end).to_bytes(4, "little") + b"PAR1", tmp_path / "events.parquet")


# ---- what is no verdict ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error"), BrokenProcessPool("gone")])
def test_what_this_machine_cannot_do(error: Exception) -> None:
    """Says nothing about the bundle."""

    def fail() -> None:
        raise error

    with pytest.raises(Unable):
        judged(fail)


# ---- several processes ----------------------------------------------------------------------------------------------


def test_processes_that_begin_with_nothing(tmp_path: Path) -> None:
    """All that they need is handed to them."""
    script, bundle = tmp_path / "verify.py", tmp_path / "bundle.zip"
    text, start = SCRIPT.read_text(), 'if __name__ == "__main__":\n'
    for old, new in (
        ("CHUNK = 4096", "CHUNK = 8"),
        ("MANY, MOST_PROCESSES = 20_000, 8", "MANY, MOST_PROCESSES = 0, 2"),
        (start, f'{start}    __import__("multiprocessing").set_start_method("spawn")\n'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    script.write_text(text)
    tampered = next(one for one in TAMPERED if one.name == "a payload left out, signed again")
    bundle.write_bytes(tampered.zip())
    command = [sys.executable, "-I", str(script), str(bundle), "--key", VKEY]
    found = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("NOT VERIFIED: payloads/000000.jsonl line 2 (entry 6): ")
