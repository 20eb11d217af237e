"""`receiver.assurance.sending`: one message over HTTP, to an address that was checked, and what is taken for taken."""

import asyncio
import datetime as dt
import hmac
import json
import re
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks.webhooks import Webhook

from receiver.assurance import sending
from receiver.assurance.addresses import SETTING, Resolve, resolve
from receiver.assurance.messages import Message
from receiver.assurance.sending import MOST_READ, Result, Sender
from tests.receiver.upstreams import PATIENCE, SOON, Behaviour, Connection, There, answering, silence, speaking
from tests.vectors import VECTORS, needs_vectors

KEY = bytes(range(32))
SECRET = "whsec_" + b64encode(KEY).decode()
MESSAGE = Message("msg_01a1fe51-7d6c-7a1b-9a40-6a5f0c1de7b2", b'{"type":"test"}')
LOOPBACK = [ip_network("127.0.0.0/8")]
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def sender(
    *, resolver: Resolve = resolve, tls: ssl.SSLContext | None = None, timeout: float = PATIENCE, allowed: bool = True
) -> Sender:
    """A sender that may call this machine."""
    return Sender(LOOPBACK if allowed else [], resolve=resolver, tls=tls, timeout=timeout)


def send(
    behave: Behaviour,
    url: str = "http://127.0.0.1:{port}/hook?for=us",
    *,
    resolver: Resolve = resolve,
    server: ssl.SSLContext | None = None,
    trust: ssl.SSLContext | None = None,
    timeout: float = PATIENCE,
    allowed: bool = True,
) -> tuple[Result, There]:
    """What comes of one message to such an endpoint, and what came there."""

    async def main() -> tuple[Result, There]:
        async with speaking(behave, server) as there:
            with_it = sender(resolver=resolver, tls=trust, timeout=timeout, allowed=allowed)
            try:
                return await with_it.send(url.format(port=there.port), MESSAGE, KEY), there
            finally:
                await with_it.aclose()

    return asyncio.run(main())


def told(behave: Behaviour, timeout: float = PATIENCE) -> Result:
    """What comes of one message to such an endpoint."""
    return send(behave, timeout=timeout)[0]


# ---- what goes out --------------------------------------------------------------------------------------------------


def test_a_message_goes_out_signed() -> None:
    """As Standard Webhooks says; nothing but that is in its headers."""
    result, there = send(answering(NO_CONTENT))
    head, _, body = there.came[0].partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}

    assert result == Result(None, 204)
    assert (line, body) == ("POST /hook?for=us HTTP/1.1", MESSAGE.body)
    assert headers["host"] == f"127.0.0.1:{there.port}"
    assert re.fullmatch(r"Rescind/[0-9.]+\S*", headers["user-agent"])
    assert headers["webhook-id"] == MESSAGE.id
    signed = f"{MESSAGE.id}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + b64encode(hmac.digest(KEY, signed, "sha256")).decode()
    assert Webhook(SECRET).verify(body, headers) == {"type": "test"}
    assert headers.keys() == {
        *("host", "accept-encoding", "connection", "content-type", "content-length", "user-agent"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    }


@needs_vectors
def test_the_published_vector_is_signed_so() -> None:
    """The fixed vector of Standard Webhooks gives its signature."""
    vector: dict[str, Any] = json.loads((VECTORS / "standard-webhooks/fixed_vectors.json").read_text())["symmetric_v1"]
    message = Message(vector["msg_id"], vector["payload"].encode())
    at = dt.datetime.fromtimestamp(vector["timestamp"], dt.UTC)

    signed = sending.headers(message, b64decode(vector["secret"].removeprefix("whsec_")), at)

    assert signed["webhook-signature"] == vector["signature"]
    assert signed["webhook-timestamp"] == str(vector["timestamp"])


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be sent to, and would resolve the name themselves."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert told(answering(NO_CONTENT)) == Result(None, 204)


# ---- what is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_takes_a_message(status: int) -> None:
    """And the body of the answer does not matter."""
    assert told(answering(b"HTTP/1.1 %d So\r\ncontent-length: 2\r\n\r\nno" % status)) == Result(None, status)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 429, 500, 503, 599])
def test_other_answers_do_not(status: int) -> None:
    """The status is what is said of it; 410 says that there is nobody any more."""
    result = told(answering(b"HTTP/1.1 %d So\r\ncontent-length: 0\r\n\r\n" % status))

    assert result == Result(f"answered {status}", status)
    assert result.gone is (status == 410)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    """Wherever they lead to: here to the endpoint itself, which gets one request."""
    said = b"HTTP/1.1 %d So\r\nlocation: /taken\r\ncontent-length: 0\r\n\r\n" % status
    result, there = send(answering(said))

    assert result == Result(f"redirect: answered {status}, and redirects are not followed", status)
    assert len(there.came) == 1


def test_the_status_counts_whatever_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is broken, endless, or never comes does not make it less taken; no more than some of it is read."""
    monkeypatch.setattr(sending, "FINISHING", 0.05)

    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(4 * MOST_READ // 1024):
            await connection.say(b"400\r\n" + b"x" * 1024 + b"\r\n")
        await connection.reader.read()

    async def missing(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await connection.reader.read()

    assert told(endless) == Result(None, 200)
    assert told(missing) == Result(None, 200)
    assert told(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbroken")) == Result(None, 200)


def test_what_is_no_answer() -> None:
    """Silence, what drips, what closes, what is not HTTP, and what switches to something else."""

    async def dripping(connection: Connection) -> None:
        await connection.request()
        for _ in range(1000):
            await connection.say(b"HTTP/1.1 200 OK\r\nx: "[:1])
            await asyncio.sleep(0.01)

    timeout = Result("timeout: not answered within 1 s")
    assert told(silence, SOON) == timeout
    assert told(dripping, SOON) == timeout
    for said in (
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 101 So\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ):
        result = told(answering(said))
        assert result.failure is not None
        assert result.failure.startswith(("broken: ", "answered 101"))


def test_an_endpoint_that_is_not_there() -> None:
    """Nothing listens at that port."""

    async def main() -> Result:
        async with speaking(silence) as there:
            port = there.port
        with_it = sender()
        return await with_it.send(f"http://127.0.0.1:{port}/", MESSAGE, KEY)

    assert asyncio.run(main()) == Result("unreachable: no connection could be made")


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", timedelta(seconds=120)),
        ("0", timedelta()),
        ("9" * 5000, timedelta(seconds=10**9)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", timedelta()),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_how_long_an_endpoint_asks_to_be_left_alone(header: str, wait: timedelta | None) -> None:
    """In seconds or until a time, with 429 and 503 and no other status."""
    said = b"HTTP/1.1 %d So\r\nretry-after: " + header.encode() + b"\r\ncontent-length: 0\r\n\r\n"

    assert told(answering(said % 429)) == Result("answered 429", 429, wait)
    assert told(answering(said % 503)) == Result("answered 503", 503, wait)
    assert told(answering(said % 500)) == Result("answered 500", 500)


def test_a_time_to_come() -> None:
    """An HTTP date is as good as a number of seconds."""
    until = format_datetime(dt.datetime.now(dt.UTC) + timedelta(hours=2), usegmt=True)
    said = f"HTTP/1.1 503 So\r\nretry-after: {until}\r\ncontent-length: 0\r\n\r\n".encode()
    wait = told(answering(said)).retry_after

    assert wait is not None
    assert timedelta(hours=1, minutes=59) < wait <= timedelta(hours=2)


# ---- where it goes --------------------------------------------------------------------------------------------------


def resolving(*answers: Sequence[str]) -> tuple[Resolve, list[str]]:
    """A resolver that gives each of these in turn, the last one for ever; and the names it was asked for."""
    asked: list[str] = []

    def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


def test_this_machine_is_not_called_unless_it_is_allowed() -> None:
    """Nothing comes there, and no connection is made."""
    result, there = send(silence, allowed=False)

    assert result.failure is not None
    assert result.failure.startswith("not sent: its host has an address that is not public")
    assert SETTING in result.failure
    assert there.connections == 0


def test_a_name_is_resolved_once_and_what_was_checked_is_called() -> None:
    """A name that has another address a moment later leads nowhere else: it is not asked again."""
    rebinding, asked = resolving(["127.0.0.1"], ["169.254.169.254"])
    result, there = send(answering(NO_CONTENT), "http://hooks.example.com:{port}/", resolver=rebinding)

    assert (result, asked) == (Result(None, 204), ["hooks.example.com"])
    assert f"Host: hooks.example.com:{there.port}\r\n".encode() in there.came[0].replace(b"host:", b"Host:")


def test_the_next_address_is_tried_where_one_cannot_be_connected_to() -> None:
    """Of those that were all checked."""
    several, _ = resolving(["127.0.0.2", "127.0.0.1"])
    refused, _ = resolving(["127.0.0.1", "10.0.0.1"])

    assert send(answering(NO_CONTENT), "http://h:{port}/", resolver=several)[0] == Result(None, 204)
    result, there = send(silence, "http://h:{port}/", resolver=refused)
    assert (result.status, there.connections) == (None, 0)


def test_a_resolver_that_does_not_come_back_holds_up_nothing() -> None:
    """The try is over in time, and the loop ends without it."""
    at_last = threading.Event()

    def stuck(_host: str, _port: int) -> Sequence[str]:
        at_last.wait()
        return []

    try:
        result, _ = send(silence, "http://h:{port}/", resolver=stuck, timeout=SOON)
    finally:
        at_last.set()
    assert result == Result("timeout: not answered within 1 s")


@pytest.mark.parametrize("url", ["ftp://h/", "https://u@h/", "nonsense"])
def test_a_url_that_cannot_be_called(url: str) -> None:
    """As one that an earlier version let through: it is a failure like others."""
    result, _ = send(silence, url)

    assert result.failure is not None
    assert result.failure.startswith("not sent: the URL must be")


# ---- whose certificate ----------------------------------------------------------------------------------------------


def authority(folder: Path, *names: x509.GeneralName) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's certificate for these names, and who trusts nobody but it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    kind, unencrypted = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = folder / "both.pem"
    file.write_bytes(certificate + key.private_bytes(serialization.Encoding.PEM, kind, unencrypted))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=certificate.decode())


def test_the_certificate_must_be_the_names(tmp_path: Path) -> None:
    """The connection goes to an address, and the certificate is asked for, and checked, by the host's name."""
    server, trust = authority(tmp_path, x509.DNSName("hooks.example.com"))
    here, _ = resolving(["127.0.0.1"])
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)

    good, _ = send(
        answering(NO_CONTENT), "https://hooks.example.com:{port}/", resolver=here, server=server, trust=trust
    )
    other, there = send(silence, "https://other.example.com:{port}/", resolver=here, server=server, trust=trust)

    assert good == Result(None, 204)
    assert asked == ["hooks.example.com", "other.example.com"]
    assert other.failure is not None
    assert other.failure.startswith("tls: its certificate is not accepted: Hostname mismatch")
    assert b"".join(there.came) == b""


def test_an_address_needs_a_certificate_of_its_own(tmp_path: Path) -> None:
    """A certificate for a name is none for the address that the name has."""
    server, trust = authority(tmp_path, x509.DNSName("hooks.example.com"))
    result, there = send(silence, "https://127.0.0.1:{port}/", server=server, trust=trust)

    assert result.failure is not None
    assert result.failure.startswith("tls: its certificate is not accepted: IP address mismatch")
    assert b"".join(there.came) == b""


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    """By whomever this machine trusts, without the one who made it."""
    server, _ = authority(tmp_path, x509.DNSName("localhost"))
    result, there = send(silence, "https://localhost:{port}/", server=server)

    assert result.failure is not None
    assert result.failure.startswith("tls: its certificate is not accepted: self-signed certificate")
    assert b"".join(there.came) == b""
