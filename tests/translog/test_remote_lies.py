"""`translog.remote` and a server that misbehaves, in every way there is: what is said, and that nothing is believed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.translog.following import ATTEMPTS, Reader, asking, unmoved
from tests.translog.misbehaving import (
    Answering,
    Server,
    Simulated,
    bomb,
    breaking_off,
    changed,
    dripping,
    dripping_head,
    endless_gzip,
    endlessly,
    flipped,
    flipped_at_the_end,
    garbage,
    of_width,
    serving,
    shortened,
    silently,
    status,
    swapped,
    zeros,
)
from tests.translog.samples import POLICY, STRANGER
from translog import note
from translog.checkpoint import Checkpoint
from translog.errors import FetchError, FormatError, ProofError, SignatureError, TranslogError
from translog.follower import Behind, Current, Forked, Read
from translog.fork import Fork
from translog.policy import Policy
from translog.remote import RemoteLog

LOG = Simulated.of(1000)
READ = 300
"""What was read of it before anything goes wrong."""


def reader_of(server: Server, size: int = READ) -> Reader:
    """Who has read so much while all was well."""
    reader = Reader()
    server.checkpoint = LOG.checkpoint(size)
    assert reader.over_http(server) == Current()
    server.checkpoint = None
    server.asked.clear()
    return reader


def goes_on(reader: Reader, server: Server) -> None:
    """Once all is well again, the whole log is read."""
    server.well()
    server.log, server.checkpoint = LOG, None
    assert reader.over_http(server) == Current()
    assert tuple(reader.entries) == LOG.entries


# ---- forks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("at", [7, 255, 256, 299])
@pytest.mark.parametrize("size", [READ, READ + 1, 512, 1000])
def test_another_history_is_a_fork(size: int, at: int, cached: bool, tmp_path: Path) -> None:
    """Of equal size or larger: told with its evidence, and nothing moves. Tiles kept from before do not hide it."""
    options: dict[str, Any] = {"cache": tmp_path} if cached else {}
    with serving(LOG) as server:
        reader = reader_of(server)
        asking(server, lambda log: log.inclusion_proofs([7, 256, 700], LOG.checkpoint()), **options)
        server.log = LOG.forked(at, size)
        with unmoved(reader):
            step = reader.over_http(server, **options)
    assert isinstance(step, Forked)
    heads = Fork.parse(step.fork.encode()).verify(POLICY)
    assert [head.size for head in heads] == [READ, size]


def test_a_smaller_history_is_a_fork() -> None:
    """As long as the hashes of the larger one are there to prove it."""
    with serving(LOG) as server:
        reader = reader_of(server)
        server.checkpoint = LOG.forked(7).checkpoint(200)
        with unmoved(reader):
            step = reader.over_http(server)
    assert isinstance(step, Forked)
    assert [head.size for head in step.fork.verify(POLICY)] == [200, READ]


@pytest.mark.parametrize("log", [Simulated.of(200), LOG.forked(7, 200)])
def test_a_rollback(log: Simulated) -> None:
    """A log that was put back has no hashes of what it was, so nothing is proven; it is told, and nothing moves.

    Grown beyond where it was it is the same log, or a fork.
    """
    with serving(LOG) as server:
        reader = reader_of(server)
        server.log = log
        with unmoved(reader), pytest.raises(FetchError, match="a checkpoint of 200 entries, and showed one of 300"):
            reader.over_http(server)
        server.log = Simulated((*log.entries, *LOG.entries[200:]))
        if log.entries == LOG.entries[:200]:
            assert reader.over_http(server) == Current()
        else:
            with unmoved(reader):
                assert isinstance(reader.over_http(server), Forked)


def test_a_rollback_while_it_is_remembered() -> None:
    """Who has kept the hashes can prove it."""
    with serving(LOG) as server:
        state = reader_of(server, 1000).state

        async def rounds(log: RemoteLog) -> list[object]:
            told: list[object] = []
            server.checkpoint = LOG.checkpoint(200)
            told += [step async for step in log.follow(state) if not isinstance(step, Read)]
            server.log, server.checkpoint = Simulated.of(200), None
            told += [step async for step in log.follow(state) if not isinstance(step, Read)]
            server.log = LOG.forked(7, 200)
            told += [step async for step in log.follow(state) if not isinstance(step, Read)]
            return told

        first, second, third = asking(server, rounds)
    assert first == second == Behind(200)
    assert isinstance(third, Forked)
    third.fork.verify(POLICY)


# ---- what does not verify -----------------------------------------------------------------------------------------

FALSE: list[tuple[str, Answering, type[TranslogError], str]] = [
    ("checkpoint", changed(shortened), FormatError, "note"),
    ("checkpoint", changed(lambda data: data.replace(b"\n1000\n", b"\n1001\n")), SignatureError, "does not verify"),
    ("checkpoint", changed(lambda _: b"<html>It works!</html>"), FormatError, "note"),
    ("checkpoint", changed(lambda _: b""), FormatError, "note"),
    ("checkpoint", changed(lambda _: LOG.checkpoint(None, STRANGER)), SignatureError, "no signature by a key"),
    ("tile/0", changed(flipped), ProofError, "the tiles of example.com/log/acme do not fit its checkpoint"),
    ("tile/1", changed(zeros), ProofError, "the tiles of example.com/log/acme do not fit its checkpoint"),
    ("tile/0", changed(zeros), ProofError, "do not fit its checkpoint"),
    ("tile/0", changed(lambda data: data[32:] + data[:32]), ProofError, "do not fit its checkpoint"),
    ("tile/0", changed(shortened), FetchError, "bytes instead of"),
    ("tile/0", changed(of_width(1)), FetchError, "has 32 bytes instead of"),
    ("tile/0", changed(lambda _: b"garbage"), FetchError, "has 7 bytes instead of"),
    ("tile/1", changed(of_width(256)), FetchError, "has 8192 bytes instead of"),
    (
        "tile/entries",
        changed(flipped_at_the_end),
        ProofError,
        r"entries \[300, 1000\) are not those of",
    ),
    ("tile/entries", changed(swapped(100, 101)), ProofError, "are not those of"),
    ("tile/entries/003.p", changed(swapped(0, 1)), ProofError, "are not those of"),
    ("tile/entries", changed(shortened), FormatError, "tile/entries/001: entry 255 should have"),
    ("tile/entries", changed(lambda data: data[: len(data) // 2]), FormatError, "tile/entries/001"),
    ("tile/entries/003.p", changed(lambda data: data + b"\0\0"), FormatError, "has 233 entries instead of 232"),
    ("tile/entries", changed(lambda data: data + b"\0\0"), FormatError, "goes on for 2 bytes after its 256 entries"),
    ("tile/entries", changed(lambda _: b""), FormatError, "has 0 entries instead of 256"),
]


@pytest.mark.parametrize(("path", "answer", "error", "message"), FALSE)
def test_what_is_false_is_not_believed(path: str, answer: Answering, error: type[TranslogError], message: str) -> None:
    """It is an error, each time; no entry comes of it, and the state stays. What is true afterwards is believed."""
    with serving(LOG) as server:
        reader = reader_of(server)
        server.when(path, answer)
        entries = list(reader.entries)
        for _ in range(2):
            with pytest.raises(error, match=message):
                reader.over_http(server)
            assert reader.entries == entries
        goes_on(reader, server)


@pytest.mark.parametrize(("path", "answer", "error", "message"), FALSE)
def test_a_bad_copy_is_no_fault_of_the_log(
    path: str, answer: Answering, error: type[TranslogError], message: str
) -> None:
    """A tile or a bundle that does not verify is fetched once more, and nothing is told if that one does."""
    with serving(LOG) as server:
        reader = reader_of(server)
        server.when(path, answer, times=1)
        if error is FetchError or path == "checkpoint":
            with pytest.raises(error, match=message):
                reader.over_http(server)
        else:
            assert reader.over_http(server) == Current()
        goes_on(reader, server)


@pytest.mark.parametrize("spoil", [flipped, zeros, shortened])
def test_what_went_bad_in_the_folder_is_fetched_anew(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """A file that does not verify is replaced by one that does."""
    with serving(LOG) as server:
        reader = reader_of(server)
        reader.over_http(server, cache=tmp_path)
        files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        assert files
        for file, data in files.items():
            file.write_bytes(spoil(data))
        again = reader_of(server)
        assert again.over_http(server, cache=tmp_path) == Current()
        assert tuple(again.entries) == LOG.entries
        proofs = asking(server, lambda log: log.inclusion_proofs([256], LOG.checkpoint()), cache=tmp_path)
        assert len(proofs) == 1
        for file, data in files.items():
            assert file.read_bytes() == data


@pytest.mark.parametrize("answer", [changed(flipped_at_the_end), changed(zeros)])
def test_nothing_is_proven_by_false_tiles(answer: Answering) -> None:
    """Neither inclusion, nor where following may begin, nor some entries."""

    async def some(log: RemoteLog) -> None:
        async for _ in log.entries(300, 400, LOG.checkpoint()):
            raise AssertionError("nothing is read")

    with serving(LOG) as server:
        server.when("tile/", answer)
        with pytest.raises(ProofError):
            asking(server, lambda log: log.inclusion_proofs([300], LOG.checkpoint()))
        with pytest.raises(ProofError):
            asking(server, lambda log: log.state_at(300, LOG.checkpoint()))
        with pytest.raises(ProofError):
            asking(server, some)


def test_a_root_that_the_tree_has_not() -> None:
    """A log that signed what is not so is believed nothing, as long as it says that and when it says otherwise."""
    made_up = note.sign(Checkpoint(LOG.key.name, 900, bytes(32)).text, LOG.key)
    reader = Reader()
    with serving(LOG) as server:
        server.checkpoint = made_up
        for _ in range(2):
            with pytest.raises(ProofError):
                reader.over_http(server)
        assert (reader.entries, reader.state.note) == ([], made_up)
        server.checkpoint = None
        with unmoved(reader):
            assert isinstance(reader.over_http(server), Forked)


# ---- what does not come -------------------------------------------------------------------------------------------

SHORT_TIME = {"timeout": 0.3, "attempts": 1}

ABSENT: list[tuple[Answering, str, dict[str, Any]]] = [
    (endlessly, "is larger than", {}),
    (bomb, "is larger than", {}),
    (endless_gzip, "is larger than", {}),
    (dripping, "was not answered within 0.3 seconds", SHORT_TIME),
    (dripping_head, "was not answered within 0.3 seconds", SHORT_TIME),
    (silently, "was not answered within 0.3 seconds", SHORT_TIME),
    (status(500), "status 500", {}),
    (status(404), "status 404", {}),
    (status(302, b"location: https://elsewhere.example/"), "to 'https://elsewhere.example/'", {}),
    (garbage, "cannot be fetched", {}),
    (breaking_off, "cannot be fetched", {}),
    (status(200, b"content-encoding: br"), "in the encoding 'br'", {}),
    (status(200, b"content-encoding: gzip"), "not gzip", {}),
]


@pytest.mark.parametrize("path", ["checkpoint", "tile/0", "tile/entries"])
@pytest.mark.parametrize(("answer", "message", "options"), ABSENT)
def test_what_does_not_come_says_nothing_of_the_log(
    path: str, answer: Answering, message: str, options: dict[str, Any]
) -> None:
    """The server did not give what was asked for; no entry comes of it, and once it does all is read."""
    with serving(LOG) as server:
        reader = reader_of(server)
        server.when(path, answer)
        entries = list(reader.entries)
        with pytest.raises(FetchError, match=message):
            reader.over_http(server, **options)
        assert reader.entries == entries
        goes_on(reader, server)


@pytest.mark.parametrize("answer", [status(500), status(429), garbage, breaking_off])
@pytest.mark.parametrize("path", ["checkpoint", "tile/0", "tile/entries"])
def test_what_passes_is_not_even_told(path: str, answer: Answering) -> None:
    """It is well again before the last attempt."""
    with serving(LOG) as server:
        reader = reader_of(server)
        server.when(path, answer, times=ATTEMPTS - 1)
        assert reader.over_http(server) == Current()
        assert tuple(reader.entries) == LOG.entries


def test_a_log_that_stops_halfway() -> None:
    """What was proven before it did is kept, and the rest is read when it is back."""
    log = Simulated.of(20_000)
    reader = Reader()
    with serving(log) as server:
        server.when("tile/entries/07", status(503))
        with pytest.raises(FetchError):
            reader.over_http(server)
        assert tuple(reader.entries) == log.entries[: 64 * 256]
        server.well()
        assert reader.over_http(server) == Current()
        assert tuple(reader.entries) == log.entries


def test_a_log_of_another_policy() -> None:
    """Whose key is not known is nobody."""
    reader = Reader(Policy.of(STRANGER.verifying_key()))
    with serving(LOG) as server, pytest.raises(SignatureError):
        reader.over_http(server)
    assert reader.entries == []
