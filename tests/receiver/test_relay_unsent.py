"""The upstream over HTTP: only what certainly was not sent is told so, nothing is sent twice, and no secret is told."""

import asyncio
import datetime as dt
import logging
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from receiver import upstream as module
from receiver.upstream import MAX_ANSWER, NotSent, Result, Unknown
from tests.receiver.upstreams import (
    SOON,
    Behaviour,
    Connection,
    There,
    answer,
    answering,
    ask,
    outgoing,
    silence,
    speaking,
    using,
)

# ---- what was not sent ----------------------------------------------------------------------------------------------


def send_to(url: str) -> Result:
    """What is known after one call to that URL."""

    async def main() -> Result:
        async with using() as upstream:
            return await upstream.send(url, outgoing())

    return asyncio.run(main())


def test_nobody_there_gets_nothing() -> None:
    """A port that is closed, a name that is none."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # not listening: refused
        assert send_to(f"http://127.0.0.1:{free.getsockname()[1]}") == NotSent("unreachable")
    assert send_to("http://nobody.invalid") == NotSent("unreachable")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1",
        "ftp://127.0.0.1",
        "http://",
        "http:///path",
        "http://[::1",
        "http://256.1.1.1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://127.0.0.1:x",
        "http://u:p@127.0.0.1",
        "http://127.0.0.1/?",
        "http://127.0.0.1/?a=b",
        "http://127.0.0.1/#",
        "http://127.0.0.1/\r\nx: y",
    ],
)
def test_what_is_no_base_url_gets_nothing(url: str) -> None:
    """Nothing could stand behind it, or it would not stand where it belongs."""
    assert send_to(url) == NotSent("not_http")


@pytest.mark.parametrize("target", ["/v1/../admin", "/v1/a\r\nx-injected: 1", "/v1/a b", "/v1/a#b", "/v1/\xe9"])
def test_a_target_goes_out_as_it_is_or_not_at_all(target: str) -> None:
    """Whoever made it."""
    result, came = ask(silence, replace(outgoing(), target=target))

    assert (result, came) == (NotSent("not_http"), [])


@pytest.mark.parametrize(
    "header",
    [(b"x", b"a\r\nx-injected: 1"), (b"x", b"a\n"), (b"x\r\ny", b"a"), (b"", b"a"), (b"x y", b"a"), (b"x", b"\0")],
)
def test_a_header_that_is_none_does_not_go_out(header: tuple[bytes, bytes]) -> None:
    """Nor does the request; a line end in it would make a header of the caller's choice of it, or a request."""
    result, came = ask(silence, replace(outgoing(), headers=(header,)))

    assert result == NotSent("not_http")
    assert b"".join(came) == b""


def test_tls_is_not_spoken_with_what_does_not_speak_it() -> None:
    """It gets a greeting, and not a byte of the request."""

    async def main() -> tuple[Result, Result, list[bytes]]:
        async def rude(connection: Connection) -> None:
            connection.came.append(await connection.reader.read(65536))
            await connection.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with speaking(rude) as there, using() as upstream:
            first = await upstream.send(there.url.replace("http:", "https:"), outgoing())
        async with speaking(silence) as still, using(SOON) as upstream:
            second = await upstream.send(still.url.replace("http:", "https:"), outgoing())
        return first, second, there.came + still.came

    first, second, came = asyncio.run(main())
    assert (first, second) == (NotSent("unreachable"), NotSent("unreachable"))
    assert came
    assert all(greeting[:1] == b"\x16" and b"POST" not in greeting for greeting in came)


def test_a_certificate_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    """The caller's credentials would be anybody's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    valid = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    named = valid.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = named.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    kind, unencrypted = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = tmp_path / "both.pem"
    file.write_bytes(certificate + key.private_bytes(serialization.Encoding.PEM, kind, unencrypted))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(file)

    async def main() -> tuple[Result, There]:
        async with speaking(silence, tls) as there, using() as upstream:
            return await upstream.send(f"https://localhost:{there.port}", outgoing()), there

    result, there = asyncio.run(main())
    assert result == NotSent("unreachable")
    assert b"".join(there.came) == b""


def test_with_all_connections_in_use_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for one longer than for any."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    first_came, second_told = asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> None:
        await connection.request()
        first_came.set()
        await second_told.wait()
        await connection.say(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def main() -> tuple[Result, Result, There]:
        async with speaking(hold) as there, using(4 * SOON) as upstream:
            first = asyncio.create_task(upstream.send(there.url, outgoing()))
            await first_came.wait()
            second = await upstream.send(there.url, outgoing())
            second_told.set()
            return await first, second, there

    first, second, there = asyncio.run(main())
    assert (first, second) == (answer(204), NotSent("busy"))
    assert len(there.came) == 1


def test_whatever_became_of_a_call_its_connection_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only one there is serves one call after the other."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    large = answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_ANSWER + 1))
    fine = answering(b"HTTP/1.1 204 No Content\r\n\r\n")
    came = asyncio.Event()

    async def wait(connection: Connection) -> None:
        await connection.request()
        came.set()
        await connection.reader.read()

    async def main() -> list[Result]:
        results: list[Result] = []
        async with using(SOON) as upstream:
            for behave in (large, answering(), answering(b"garbage\r\n\r\n"), silence, fine):
                async with speaking(behave) as there:
                    results.append(await upstream.send(there.url, outgoing()))
            async with speaking(wait) as there:
                call = asyncio.create_task(upstream.send(there.url, outgoing()))
                await came.wait()
                call.cancel()
                await asyncio.wait([call])
            async with speaking(fine) as there:
                results.append(await upstream.send(there.url, outgoing()))
        return results

    broken, done = Unknown("broken"), answer(204)
    assert asyncio.run(main()) == [Unknown("answer_too_large"), broken, broken, Unknown("timeout"), done, done]


# ---- one connection for each ----------------------------------------------------------------------------------------

SAID = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}"


def call_thrice(behave: Behaviour) -> tuple[list[Result], There]:
    """What is known of three calls, one after the other."""

    async def main() -> tuple[list[Result], There]:
        async with speaking(behave) as there, using() as upstream:
            return [await upstream.send(there.url, outgoing()) for _ in range(3)], there

    return asyncio.run(main())


async def hold_open(connection: Connection) -> None:
    """Answer all that comes, as long as it comes."""
    while True:
        await connection.request()
        await connection.say(SAID)


async def close_at_once(connection: Connection) -> None:
    """Promise to stay, and go."""
    await connection.request()
    await connection.say(SAID)


async def close_under_the_next(connection: Connection) -> None:
    """Stay until another request is there, and go without an answer to it."""
    await connection.request()
    await connection.say(SAID)
    await connection.request()


async def reset(connection: Connection) -> None:
    """Go without a farewell."""
    await connection.request()
    await connection.say(SAID)
    connection.writer.transport.abort()


@pytest.mark.parametrize("behave", [hold_open, close_at_once, close_under_the_next, reset])
def test_no_call_pays_for_the_end_of_anothers_connection(behave: Behaviour) -> None:
    """However a server treats one that could be used again: it is not."""
    results, there = call_thrice(behave)

    assert results == [answer(200, body=b"{}")] * 3
    assert (there.connections, len(there.came)) == (3, 3)


def test_a_request_is_made_once_whatever_becomes_of_it() -> None:
    """Neither on the same connection nor on another: it may have been carried out."""
    results, there = call_thrice(answering())

    assert results == [Unknown("broken")] * 3
    assert (there.connections, len(there.came)) == (3, 3)


def test_what_follows_an_answer_is_not_the_next_calls() -> None:
    """A server that says more than it was asked for says it to nobody."""
    results, _ = call_thrice(answering(SAID + b"HTTP/1.1 409 Conflict\r\ncontent-length: 6\r\n\r\nforged"))

    assert results == [answer(200, body=b"{}")] * 3


# ---- secrets --------------------------------------------------------------------------------------------------------


def test_nothing_of_a_call_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither what went out nor what came back, however much else is logged."""
    caplog.set_level(logging.DEBUG)
    call = outgoing((b"authorization", b"S3CRET"), body=b'{"reason":"S3CRET"}')
    said = b"HTTP/1.1 200 OK\r\nset-cookie: S3CRET\r\ncontent-length: 6\r\n\r\nS3CRET"

    async def main() -> list[Result]:
        async with speaking(answering(said)) as there, using() as upstream:
            fine = await upstream.send(there.url, call)
        async with speaking(answering(b"S3CRET\r\n\r\n")) as there, using() as upstream:
            broken = await upstream.send(there.url, call)
            return [fine, broken, await upstream.send("http://nobody.invalid", call)]

    results = asyncio.run(main())
    assert results[1:] == [Unknown("broken"), NotSent("unreachable")]
    assert "S3CRET" not in caplog.text
    assert "S3CRET" not in repr([call, *results])


def test_why_nobody_was_there_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With the host, for whoever is to look after it, and without the path."""
    send_to("http://nobody.invalid/secret")

    [message] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert message.startswith("http://nobody.invalid cannot be reached: ")
    assert "secret" not in message
