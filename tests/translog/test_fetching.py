"""`translog.fetching`: what a server may send, and for how long; what is asked again, and what is kept."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import stamina

from tests.translog.following import ATTEMPTS
from tests.translog.misbehaving import (
    Answering,
    Server,
    Simulated,
    bomb,
    breaking_off,
    changed,
    compressed,
    dripping,
    dripping_head,
    endless_gzip,
    endlessly,
    garbage,
    of_width,
    serving,
    silently,
    status,
)
from translog import fetching
from translog.errors import FetchError, FormatError
from translog.fetching import CONNECTIONS, Fetcher
from translog.tiles import Bundle, Resource, Tile

T = TypeVar("T")

LOG = Simulated.of(700)
FULL, PARTIAL = Tile(0, 1, 256), Tile(0, 2, 188)
BUNDLES = [Bundle(0, 256), Bundle(1, 256), Bundle(2, 188)]
GZIPPED = gzip.compress(b"something", mtime=0)
TOO_LATE = 0.3  # seconds after which what drips or is silent is given up


def asking(url: str, ask: Callable[[Fetcher], Awaitable[T]], **options: Any) -> T:
    """What comes of asking a server, where another attempt is made at once."""

    async def main() -> T:
        fetcher = Fetcher(url, **options)
        try:
            return await ask(fetcher)
        finally:
            await fetcher.aclose()

    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        return asyncio.run(main())


def fetched(server: Server, *wanted: Resource, **options: Any) -> dict[Resource, bytes]:
    """These, from that server."""
    return asking(server.url, lambda fetcher: fetcher.fetch(wanted), **options)


# ---- what is asked, and how ---------------------------------------------------------------------------------------


def test_what_there_is_comes_as_it_is() -> None:
    """Checkpoint, tiles and bundles, each asked for once, by a client that says who it is."""
    with serving(LOG) as server:
        assert asking(server.url, lambda fetcher: fetcher.checkpoint()) == LOG.checkpoint()
        assert fetched(server, FULL, PARTIAL, *BUNDLES) == LOG.resources([FULL, PARTIAL, *BUNDLES])
        expected = ["checkpoint", *(one.path() for one in [FULL, PARTIAL, *BUNDLES])]
        assert sorted(server.asked) == sorted(expected)
        for head in server.heads:
            assert b"\r\nuser-agent: translog/" in head.lower()
            assert b"\r\naccept-encoding: gzip, identity\r\n" in head.lower()
            assert b"cookie" not in head.lower()


def test_headers_of_ones_own_go_with_each_request() -> None:
    """And the name by which a client calls itself."""
    with serving(LOG) as server:
        fetched(server, FULL, user_agent="monitor/1", headers={"authorization": "Bearer key"})
    assert b"\r\nuser-agent: monitor/1\r\n" in server.heads[0]
    assert b"\r\nauthorization: Bearer key\r\n" in server.heads[0]


def test_a_slash_at_the_end_of_the_url_makes_no_difference() -> None:
    """The path is put behind one slash."""
    with serving(LOG) as server:
        assert asking(f"{server.url}/", lambda fetcher: fetcher.checkpoint()) == LOG.checkpoint()


def test_connections_are_few_and_used_again() -> None:
    """However many are asked for at once."""
    log = Simulated.of(256 * 100)
    wanted = [Bundle(index, 256) for index in range(100)]
    with serving(log) as server:
        assert list(fetched(server, *wanted).items()) == list(log.resources(wanted).items())
        assert len(server.asked) == 100
        assert server.connections <= CONNECTIONS


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/log",
        "ftp://example.com/log",
        "file:///etc/passwd",
        "http://",
        "http:///log",
        "https://user@example.com/log",
        "https://user:password@example.com/log",
        "https://example.com/log?key=1",
        "https://example.com/log#top",
        "https://example.com:port/log",
        "https://example.com:99999/log",
        "https://exa mple.com/log",
    ],
)
def test_what_is_no_url_of_a_log(url: str) -> None:
    """It has a scheme of the web and a host, nothing secret, and an end to which paths can be added."""
    with pytest.raises(FormatError, match="log URL") as caught:
        Fetcher(url)
    assert "password" not in str(caught.value).replace("a password does", "")


def test_a_server_that_is_not_there() -> None:
    """It is out of reach; that may pass, so it is tried again."""
    with serving(LOG) as server:
        url = server.url
    with pytest.raises(FetchError, match="cannot be fetched"):
        asking(url, lambda fetcher: fetcher.checkpoint())


# ---- statuses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "attempts"),
    [(code, 1) for code in (201, 204, 206, 304, 400, 401, 403, 404, 410, 418)]
    + [(code, ATTEMPTS) for code in (408, 429, 500, 502, 503, 504, 599)],
)
def test_another_status_is_an_error(code: int, attempts: int) -> None:
    """One that may pass is asked for again, some times; any other is final."""
    with serving(LOG) as server:
        server.when("tile/0/001", status(code, body=b"" if code in {204, 304} else b"no"))
        with pytest.raises(FetchError, match=f"tile/0/001 .*status {code}"):
            fetched(server, FULL)
        assert server.asked == ["tile/0/001"] * attempts


@pytest.mark.parametrize("fault", [status(500), status(503, b"retry-after: 7"), status(429), breaking_off, garbage])
def test_what_passes_has_passed(fault: Answering) -> None:
    """Once the server is well again, it is as if nothing had been."""
    with serving(LOG) as server:
        server.when("tile/0/001", fault, times=2)
        assert fetched(server, FULL) == LOG.resources([FULL])
        assert server.asked == ["tile/0/001"] * 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", fetching.FIRST_WAIT),
        ("7", 7.0),
        ("100000000000000000000", fetching.LONGEST_WAIT),
        ("9" * 5000, fetching.LONGEST_WAIT),
        ("Fri, 31 Dec 1999 23:59:59 GMT", fetching.FIRST_WAIT),
        ("Fri, 31 Dec 9999 23:59:59 GMT", fetching.LONGEST_WAIT),
        ("-7", None),
        ("7.5", None),
        ("soon", None),
        ("\u0667", None),
        ("Fri, 31 Dec 99999999999 23:59:59 GMT", None),
    ],
)
def test_how_long_to_wait(value: str | None, seconds: float | None) -> None:
    """As long as the server asks for, in seconds or until a time, within bounds; as usual if it says nothing."""
    assert fetching._retry_after(value) == seconds  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(code: int) -> None:
    """It is told where to."""
    with serving(LOG) as elsewhere, serving(LOG) as server:
        server.when("tile/", status(code, b"location: " + elsewhere.url.encode() + b"/tile/0/001"))
        with pytest.raises(FetchError, match=rf"status {code}\) to '{elsewhere.url}/tile/0/001'; that is not followed"):
            fetched(server, FULL)
        assert elsewhere.asked == []
        assert len(server.asked) == 1


# ---- bounds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [dripping, dripping_head, silently])
@pytest.mark.parametrize("wanted", [FULL, BUNDLES[0]])
def test_a_request_has_an_end(fault: Answering, wanted: Resource) -> None:
    """However slowly something comes, or whether nothing does."""
    with serving(LOG) as server:
        server.when("tile/", fault)
        with pytest.raises(FetchError, match=f"was not answered within {TOO_LATE} seconds"):
            fetched(server, wanted, timeout=TOO_LATE, attempts=1)


@pytest.mark.parametrize("fault", [endlessly, bomb, endless_gzip])
@pytest.mark.parametrize(("wanted", "most"), [(FULL, 8192), (PARTIAL, 8192), (BUNDLES[0], 256 * 65_537)])
def test_an_answer_has_an_end(fault: Answering, wanted: Resource, most: int) -> None:
    """What is larger than it can be is not taken: not as it comes, nor as what gzip makes of it."""
    with serving(LOG) as server:
        server.when("", fault)
        with pytest.raises(FetchError, match=f"is larger than {most} bytes"):
            fetched(server, wanted)
        with pytest.raises(FetchError, match="checkpoint is larger than 1000000 bytes"):
            asking(server.url, lambda fetcher: fetcher.checkpoint())
        assert server.asked == [wanted.path(), "checkpoint"]


def test_the_largest_bundle_is_taken() -> None:
    """256 entries of 65,535 bytes, as they are and by gzip."""
    log = Simulated((bytes(65_535),) * 256)
    for answer in (None, compressed):
        with serving(log) as server:
            if answer is not None:
                server.when("tile/", answer)
            assert fetched(server, Bundle(0, 256)) == log.resources([Bundle(0, 256)])


@pytest.mark.parametrize("width", [1, 187, 189, 256])
def test_a_tile_of_another_width_is_refused(width: int) -> None:
    """It has 32 bytes for each of its hashes."""
    with serving(LOG) as server:
        server.when("tile/", changed(of_width(width)))
        with pytest.raises(FetchError, match=rf"tile/0/002\.p/188 has {width * 32} bytes instead of {188 * 32}"):
            fetched(server, PARTIAL)


@pytest.mark.parametrize(
    "fault", [dripping, silently, endlessly, bomb, breaking_off, garbage, status(404), status(500)]
)
def test_what_failed_leaves_no_trace(fault: Answering) -> None:
    """Its connection is free again, however many requests failed, and the next ones are answered."""

    async def ask(fetcher: Fetcher) -> None:
        server.when("tile/", fault)
        failed = await asyncio.gather(*(fetcher.fetch([FULL]) for _ in range(2 * CONNECTIONS)), return_exceptions=True)
        assert {type(one) for one in failed} <= set(FetchError.__subclasses__()) | {FetchError}
        server.well()
        assert await fetcher.fetch([FULL, PARTIAL, *BUNDLES]) == LOG.resources([FULL, PARTIAL, *BUNDLES])

    with serving(LOG) as server:
        asking(server.url, ask, timeout=TOO_LATE, attempts=1)


def test_what_is_given_up_leaves_no_trace() -> None:
    """Neither a request that goes on nor a connection that is taken."""

    async def ask(fetcher: Fetcher) -> None:
        server.when("tile/", silently)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(TOO_LATE):
                    await fetcher.fetch(BUNDLES)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        server.well()
        assert await fetcher.fetch(BUNDLES) == LOG.resources(BUNDLES)

    with serving(LOG) as server:
        asking(server.url, ask)


# ---- gzip ---------------------------------------------------------------------------------------------------------


def test_gzip_is_undone() -> None:
    """Of bundles and of anything else, whatever case its name is in."""
    gzipped = changed(gzip.compress, b"Content-Encoding: GZip")
    for answer in (compressed, gzipped):
        with serving(LOG) as server:
            server.when("", answer)
            assert fetched(server, FULL, *BUNDLES) == LOG.resources([FULL, *BUNDLES])
            assert asking(server.url, lambda fetcher: fetcher.checkpoint()) == LOG.checkpoint()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"this is none", "is not gzip"),
        (GZIPPED[:-1], "breaks off"),
        (b"", "breaks off"),
        (GZIPPED + b"x", "goes on behind its end"),
        (GZIPPED * 2, "goes on behind its end"),
        (GZIPPED[:-8] + bytes(8), "is not gzip"),
    ],
    ids=["other", "cut", "empty", "longer", "twice", "another checksum"],
)
def test_gzip_that_is_none(said: bytes, message: str) -> None:
    """It is one whole stream, and nothing else."""
    with serving(LOG) as server:
        server.when("tile/", status(200, b"content-encoding: gzip", body=said))
        with pytest.raises(FetchError, match=message):
            fetched(server, FULL)


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_encoding_was_not_asked_for(coding: str) -> None:
    """It is refused by name."""
    with serving(LOG) as server:
        server.when("tile/", changed(lambda data: data, f"content-encoding: {coding}".encode()))
        with pytest.raises(FetchError, match=f"in the encoding '{coding}', which was not asked for"):
            fetched(server, FULL)


# ---- partial, and gone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [404, 410])
def test_what_is_partial_no_more_is_cut(code: int) -> None:
    """The full tile or bundle is fetched in its place."""
    grown = Simulated.of(1024)
    with serving(grown) as server:
        for path in ("tile/0/002.p", "tile/entries/002.p"):
            server.when(path, status(code))
        assert fetched(server, PARTIAL, BUNDLES[2]) == LOG.resources([PARTIAL, BUNDLES[2]])
        assert len(server.asked) == 4
        server.when("tile/entries/002", changed(lambda data: data[:-1]))
        server.when("tile/entries/002.p", status(code))
        with pytest.raises(FetchError, match="tile/entries/002: entry 255 should have"):
            fetched(server, BUNDLES[2])


def test_what_is_not_there_at_all() -> None:
    """Neither partial nor full."""
    with serving(LOG) as server:
        with pytest.raises(FetchError, match=r"tile/0/007 is not there \(status 404\)"):
            fetched(server, Tile(0, 7, 3))
        assert server.asked == ["tile/0/007.p/3", "tile/0/007"]


# ---- a budget -----------------------------------------------------------------------------------------------------


def test_no_more_than_a_budget() -> None:
    """The first few are given, in order, and the rest is not asked for; one is given in any case."""
    log = Simulated(tuple(bytes([index % 256]) * 1000 for index in range(256 * 20)))
    wanted = [Bundle(index, 256) for index in range(20)]
    size = 256 * 1002

    async def first_few(fetcher: Fetcher) -> list[int]:
        counts: list[int] = []
        for budget in (1, size, 3 * size, 3 * size + 1, 20 * size):
            given = await fetcher.fetch(wanted, budget)
            assert list(given.items()) == list(log.resources(wanted[: len(given)]).items())
            counts.append(len(given))
        return counts

    with serving(log) as server:
        first, *others = asking(server.url, first_few)
        assert 1 <= first <= CONNECTIONS, "how large they are it learns from the first"
        assert others == [1, 3, 3, 20]
        assert len(server.asked) <= CONNECTIONS + 1 + 3 + 3 + 20


# ---- what is kept -------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    """All files in it."""
    return [file for file in folder.rglob("*") if file.is_file()]


def test_full_tiles_are_kept(tmp_path: Path) -> None:
    """In the folder given, for another time; partial ones and bundles are not."""
    with serving(LOG) as server:
        for _ in range(2):
            assert fetched(server, FULL, PARTIAL, BUNDLES[0], cache=tmp_path)[FULL] == LOG.resource(FULL)
        assert sorted(server.asked) == sorted([FULL.path(), *[PARTIAL.path(), BUNDLES[0].path()] * 2])
    assert [file.read_bytes() for file in files(tmp_path)] == [LOG.resource(FULL)]
    assert files(tmp_path)[0].as_posix().endswith("/tile/0/001")


def test_logs_share_a_folder(tmp_path: Path) -> None:
    """Each has its own place in it."""
    other = LOG.forked(300)
    with serving(LOG) as server, serving(other) as another:
        for _ in range(2):
            assert fetched(server, FULL, cache=tmp_path) == LOG.resources([FULL])
            assert fetched(another, FULL, cache=tmp_path) == other.resources([FULL])
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("content", [b"", b"short", bytes(8191), bytes(8193)])
def test_a_file_of_another_length_is_as_absent(tmp_path: Path, content: bytes) -> None:
    """As a crash or a full disk may leave it; it is made again."""
    with serving(LOG) as server:
        fetched(server, FULL, cache=tmp_path)
        files(tmp_path)[0].write_bytes(content)
        assert fetched(server, FULL, cache=tmp_path) == LOG.resources([FULL])
        assert files(tmp_path)[0].read_bytes() == LOG.resource(FULL)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It goes on without."""
    cache = tmp_path / "cache"
    cache.write_bytes(b"a file, not a folder")
    with serving(LOG) as server:
        for _ in range(2):
            assert fetched(server, FULL, cache=cache) == LOG.resources([FULL])
        assert server.asked == [FULL.path()] * 2


def test_a_full_tile_serves_for_its_beginning(tmp_path: Path) -> None:
    """The tile at an earlier size is cut from it, from memory or folder, without asking."""
    with serving(LOG) as server:

        async def ask(fetcher: Fetcher) -> None:
            for wanted in (FULL, FULL, FULL._replace(width=7)):
                assert await fetcher.fetch([wanted]) == LOG.resources([wanted])

        asking(server.url, ask, cache=tmp_path)
        assert fetched(server, FULL._replace(width=9), cache=tmp_path) == LOG.resources([FULL._replace(width=9)])
        assert server.asked == [FULL.path()]


def test_what_is_forgotten_is_fetched_anew(tmp_path: Path) -> None:
    """From memory and folder, in all its widths."""
    with serving(LOG.forked(300)) as server:

        async def ask(fetcher: Fetcher) -> None:
            await fetcher.fetch([FULL, PARTIAL])
            server.log = LOG
            assert await fetcher.fetch([FULL]) != LOG.resources([FULL])
            fetcher.forget([FULL._replace(width=3), PARTIAL, BUNDLES[0]])
            assert await fetcher.fetch([FULL, PARTIAL]) == LOG.resources([FULL, PARTIAL])
            assert fetcher.requests == 4

        asking(server.url, ask, cache=tmp_path)
        assert fetched(server, FULL, cache=tmp_path) == LOG.resources([FULL])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiles that were used last are kept."""
    monkeypatch.setattr(fetching, "CACHED_TILES", 2)
    first, second, third = (Tile(0, index, 188) for index in range(3))
    with serving(LOG) as server:

        async def ask(fetcher: Fetcher) -> None:
            for wanted in (first, second, first, third, first, second):
                await fetcher.fetch([wanted])

        asking(server.url, ask)
        assert server.asked == [first.path(), second.path(), third.path(), second.path()]
