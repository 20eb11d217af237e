"""The upstream over HTTP: a call goes out as it was prepared, and what was answered comes back as it was said."""

import asyncio
import gzip
import re
from dataclasses import replace

import pytest

from receiver.upstream import MAX_ANSWER, Result, Unknown
from tests.receiver.upstreams import (
    PATIENCE,
    SOON,
    TARGET,
    Behaviour,
    Connection,
    answer,
    answering,
    ask,
    outgoing,
    silence,
    speaking,
    told,
    using,
)

# ---- what goes out --------------------------------------------------------------------------------------------------


def test_the_request_goes_out_as_it_was_prepared() -> None:
    """With `Host`, `Content-Length` and `Connection`, and not one header of the client's own."""
    call = outgoing((b"X-Two", b"1"), (b"cookie", b"a=b"), (b"X-TWO", b"2"), (b"x-latin", b"\xe9"))
    result, [request] = ask(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), call)
    line, host, *lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")

    assert result == answer(200, body=b"{}")
    assert line == f"POST {TARGET} HTTP/1.1".encode()
    assert host.startswith(b"Host: 127.0.0.1:")
    assert lines == [
        b"idempotency-key: k",
        b"X-Two: 1",
        b"cookie: a=b",
        b"X-TWO: 2",
        b"x-latin: \xe9",
        b"accept-encoding: identity",
        b"connection: close",
        b"Content-Length: 14",
    ]
    assert request.endswith(b'\r\n\r\n{"reason":"r"}')


def test_an_empty_body_says_so() -> None:
    """A POST without a length would be refused by some."""
    _, [request] = ask(answering(b"HTTP/1.1 204 No Content\r\n\r\n"), outgoing(body=b""))

    assert b"\r\nContent-Length: 0\r\n" in request


@pytest.mark.parametrize(("path", "before"), [("", ""), ("/", ""), ("/base", "/base"), ("/a%20b/c/", "/a%20b/c")])
def test_the_target_follows_the_base_urls_path(path: str, before: str) -> None:
    """As it is: nothing in it is decoded or encoded again."""
    call = replace(outgoing(), target="/v1/receipts/a%20b%2Bc%3Ad%40%C3%A9~%25/revoke")

    async def main() -> list[bytes]:
        behave = answering(b"HTTP/1.1 204 No Content\r\n\r\n")
        async with speaking(behave) as there, using() as upstream:
            await upstream.send(there.url + path, call)
            return there.came

    [request] = asyncio.run(main())
    assert request.startswith(f"POST {before}{call.target} HTTP/1.1\r\n".encode())


def test_a_record_is_asked_for_with_the_headers_given() -> None:
    """By path and query, without a body."""

    async def main() -> tuple[Result, list[bytes]]:
        behave = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        async with speaking(behave) as there, using() as upstream:
            target = "/v1/jobs/a%20b?merchant_id=m%26n"
            return await upstream.get(f"{there.url}/base/", target, [(b"Authorization", b"Bearer t")]), there.came

    result, [request] = asyncio.run(main())
    assert result == answer(200, body=b"{}")
    assert re.fullmatch(
        rb"GET /base/v1/jobs/a%20b\?merchant_id=m%26n HTTP/1.1\r\nHost: 127.0.0.1:\d+\r\n"
        rb"Authorization: Bearer t\r\naccept-encoding: identity\r\nconnection: close\r\n\r\n",
        request,
    )


# ---- what was answered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 202, 301, 302, 307, 400, 404, 409, 422, 500, 503, 599])
def test_whatever_was_answered_is_the_answer(status: int) -> None:
    """A redirect, too: it is not followed."""
    location = b"location: /elsewhere\r\n" if 300 <= status < 400 else b""
    said = b"HTTP/1.1 %d So\r\n%bcontent-length: 1\r\n\r\nx" % (status, location)
    result, came = ask(answering(said))

    assert result == answer(status, ((b"location", b"/elsewhere"),) if location else (), b"x")
    assert len(came) == 1


def test_its_headers_come_back_as_they_came() -> None:
    """In their order, in their case, as often as they came; without those of the connection and without the length."""
    result = told(
        answering(
            b"HTTP/1.1 200 OK\r\nServer: s\r\nSet-Cookie: a=1\r\nConnection: close, X-Hop\r\nset-cookie: b=2\r\n"
            b"Keep-Alive: timeout=5\r\nContent-Length: 2\r\nX-Hop: 1\r\nDate: now\r\nTrailer: x\r\nX-Empty:\r\n"
            b"X-Latin: \xe9\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\n\r\n{}"
        )
    )

    kept = (b"Server", b"s"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"Date", b"now")
    assert result == answer(200, (*kept, (b"X-Empty", b""), (b"X-Latin", b"\xe9")), b"{}")


def test_a_body_is_not_decoded() -> None:
    """What was compressed in spite of the request stays so, and says so."""
    body = gzip.compress(b"{}" * 100)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)

    assert told(answering(head, body)) == answer(200, ((b"content-encoding", b"gzip"),), body)


def test_a_body_in_chunks_is_put_together() -> None:
    """How it was cut belonged to the connection."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = head + b'3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\nx-trailer: 1\r\n\r\n'

    assert told(answering(said)) == answer(200, body=b'{"a":1}')


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n{}"])
def test_a_body_may_end_with_the_connection(said: bytes) -> None:
    """Where no length is given."""
    assert told(answering(said)) == answer(200, body=b"{}")


def test_an_answer_may_have_no_body() -> None:
    """204."""
    assert told(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) == answer(204)


def test_what_is_said_before_the_answer_is_none() -> None:
    """However many 1xx there are."""
    before = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"

    assert told(answering(before, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")) == answer(200, body=b"{}")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_has_its_limit(chunked: bool) -> None:
    """To the byte; above it nothing is kept of it."""

    def said(size: int) -> Behaviour:
        if chunked:
            head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            return answering(head, b"%x\r\n" % size, b"x" * size, b"\r\n0\r\n\r\n")
        return answering(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size, b"x" * size)

    assert told(said(MAX_ANSWER)) == answer(200, body=b"x" * MAX_ANSWER)
    assert told(said(MAX_ANSWER + 1)) == Unknown("answer_too_large")


def test_an_answer_without_an_end_is_cut() -> None:
    """And its connection closed: else it would go on."""
    ended = asyncio.Event()

    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                await connection.say(b"x" * 65536)
        except ConnectionError:
            ended.set()

    async def main() -> Result:
        async with speaking(endless) as there, using() as upstream:
            result = await upstream.send(there.url, outgoing())
            await asyncio.wait_for(ended.wait(), PATIENCE)
            return result

    assert asyncio.run(main()) == Unknown("answer_too_large")


# ---- what is not known ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n{}",
        b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"garbage\r\n\r\n" * 10,
    ],
)
def test_no_whole_answer_leaves_it_unknown(said: bytes) -> None:
    """Closed before, within or after something that is none; and the request was made once."""
    result, came = ask(answering(said))

    assert result == Unknown("broken")
    assert len(came) == 1


def test_a_connection_closed_amid_the_request_leaves_it_unknown() -> None:
    """Some of it was there."""

    async def half(connection: Connection) -> None:
        await connection.reader.readexactly(10)

    assert told(half) == Unknown("broken")


async def slow_headers(connection: Connection) -> None:
    """A byte of them now and then."""
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        await connection.say(b"a")
        await asyncio.sleep(0.05)


async def slow_body(connection: Connection) -> None:
    """A byte of it now and then."""
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
    while True:
        await connection.say(b"a")
        await asyncio.sleep(0.05)


async def ever_hopeful(connection: Connection) -> None:
    """Always about to answer."""
    await connection.request()
    while True:
        await connection.say(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("behave", [silence, slow_headers, slow_body, ever_hopeful])
def test_what_takes_too_long_leaves_it_unknown(behave: Behaviour) -> None:
    """However busily it is answered meanwhile."""
    assert told(behave, patience=SOON) == Unknown("timeout")


def test_a_caller_who_goes_away_leaves_no_connection_behind() -> None:
    """Cancelled amid a call, it closes the connection."""
    came, ended = asyncio.Event(), asyncio.Event()

    async def wait(connection: Connection) -> None:
        await connection.request()
        came.set()
        assert await connection.reader.read() == b""
        ended.set()

    async def main() -> None:
        async with speaking(wait) as there, using() as upstream:
            call = asyncio.create_task(upstream.send(there.url, outgoing()))
            await asyncio.wait_for(came.wait(), PATIENCE)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(ended.wait(), PATIENCE)

    asyncio.run(main())
