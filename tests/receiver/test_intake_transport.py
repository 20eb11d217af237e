"""What comes over the wire and is no good delivery, or no HTTP: slow, endless, cut off, garbage. Over raw sockets."""

import contextlib
import socket
import time
from collections.abc import Generator

import pytest

from receiver.server import MAX_HEADERS
from tests.receiver.service import (
    Sender,
    Service,
    at_once,
    problem,
    read_all,
    replies,
    revoked,
    running,
    settings_in,
    until,
)

TIMEOUT = 0.3  # seconds that a request may take to arrive, instead of ten; the service looks once a second
CHUNKED = {"transfer-encoding": "chunked"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that does not wait long."""
    with running(settings_in(tmp_path_factory.mktemp("impatient"), request_timeout=TIMEOUT)) as service:
        yield service


def head(sender: Sender, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The head of a delivery, with the length of its body left to the headers."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**sender.headers(body), **headers}.items())
    return f"POST {sender.path} HTTP/1.1\r\nhost: rescind\r\n{lines}\r\n".encode()


def chunks(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def still_serves(service: Service) -> bool:
    """Whether it goes on as if nothing had been."""
    return service.client.get("/health/live").status_code == 200 and service.add_source().post(revoked()).is_success


def test_a_body_in_chunks(service: Service, sender: Sender) -> None:
    """Its pieces are put together before the signature is looked at."""
    body = revoked()

    (reply,) = service.exchange(head(sender, {**CHUNKED, "connection": "close"}, body) + chunks(body[:10], body[10:]))

    assert (reply.status, reply.json["status"]) == (200, "recorded")
    assert sender.rows()[0].body == body


def test_a_body_that_is_declared_too_large(service: Service, sender: Sender) -> None:
    """413, before the sender has sent more than is allowed, and the connection is closed."""
    with service.connect() as connection:
        connection.sendall(head(sender, {"content-length": "10000000"}) + b"x" * 262_145)
        (reply,) = replies(read_all(connection))

    assert (reply.status, problem(reply)["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert (sender.rows(), sender.counts()) == ([], {"refused:too_large": 1})


def test_a_body_without_end(service: Service, sender: Sender) -> None:
    """Chunk upon chunk: 413 as soon as it is too large, long before the sender would be done."""
    sent = 0
    with service.connect() as connection:
        connection.sendall(head(sender, CHUNKED))
        try:
            while True:
                connection.sendall(chunks(b"x" * 4096).removesuffix(b"0\r\n\r\n"))
                sent += 4096
        except OSError:
            pass  # closed on us

    assert sent < 16 * 1024 * 1024
    until(lambda: sender.counts() == {"refused:too_large": 1})
    assert sender.rows() == []


def test_a_body_that_does_not_come(service: Service, sender: Sender) -> None:
    """408 once the time is over, and the connection is closed."""
    (reply,) = service.exchange(head(sender, {"content-length": "10"}) + b"12345")

    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert problem(reply)["detail"] == "The request did not arrive within 0.3 seconds"
    until(lambda: sender.counts() == {"refused:incomplete": 1})
    assert sender.rows() == []


def test_a_request_that_comes_in_drops(service: Service, sender: Sender) -> None:
    """408 as well, in its headers or in its body: the time is for all of it, so that nobody holds a connection."""
    for beginning in (f"POST {sender.path} HTTP/1.1\r\na:".encode(), head(sender, {"content-length": "1000"})):
        with service.connect() as connection:
            connection.sendall(beginning)
            with contextlib.suppress(OSError):  # once it is closed on us
                for _ in range(200):
                    connection.sendall(b"x")
                    time.sleep(0.01)
            (reply,) = replies(read_all(connection))

        assert reply.status == 408
    until(lambda: sender.counts() == {"refused:incomplete": 1})


def test_headers_that_do_not_come(service: Service, sender: Sender) -> None:
    """408, for a connection on which nothing comes, and for one that stops in the middle of its headers."""
    beginnings = [b"", b"P", f"POST {sender.path} HTTP/1.1\r\nhost: resc".encode()]

    for replied in at_once(3, lambda which: service.exchange(beginnings[which])):
        (reply,) = replied
        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert problem(reply)["detail"] == "The request did not arrive within 0.3 seconds"


def test_a_second_request_has_the_same_time(service: Service, sender: Sender) -> None:
    """A connection may wait between requests, but not within the next one's headers."""
    with service.connect() as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: rescind\r\n\r\n")
        first = connection.recv(65536)
        time.sleep(2 * TIMEOUT)
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: resc")
        (second,) = replies(read_all(connection))

    assert replies(first)[0].status == 200
    assert second.status == 408


def test_headers_without_end(service: Service) -> None:
    """431 above 64 KiB, and the connection is closed."""
    with service.connect() as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: rescind\r\n")
        time.sleep(0.3)  # it is read by itself
        connection.sendall(b"a: " + b"b" * (MAX_HEADERS - 2))
        (reply,) = replies(read_all(connection))

    assert (reply.status, reply.headers["connection"]) == (431, "close")
    assert problem(reply)["detail"] == "The headers of a request are at most 65536 bytes"


def test_too_many_headers_at_once(sender: Sender) -> None:
    """431 as well where they came with the request's first bytes; a large body beside small headers is none."""
    body = revoked(padding="x" * (3 * MAX_HEADERS))
    large = sender.request(revoked(), {"a": "b" * MAX_HEADERS})

    assert [reply.status for reply in sender.service.exchange(large)] == [431]
    assert [reply.status for reply in sender.service.exchange(sender.request(body))] == [200]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # TLS
        b"hello\r\n\r\n",
        b"\0" * 64,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: rescind\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: rescind\r\n\r\n",
        b"POST /webhooks/x HTTP/1.1\r\nhost: rescind\r\ncontent-length: -1\r\n\r\n",
        b"POST /webhooks/x HTTP/1.1\r\nhost: rescind\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"POST /webhooks/x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /webhooks/x HTTP/1.1\r\nhost: rescind\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /webhooks/x HTTP/1.1\r\nhost: rescind\r\nbad header: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http(service: Service, garbage: bytes) -> None:
    """400 as a problem, and the connection is closed; the next one is served as ever."""
    reply = service.exchange(garbage)[-1]

    assert reply.status == 400
    assert problem(reply)["detail"] == "This is not an HTTP request that can be read"
    assert still_serves(service)


def test_requests_sent_without_waiting_are_answered_in_order(service: Service, sender: Sender) -> None:
    """Pipelined: three deliveries and a forged one in one packet, each with its own answer."""
    one, two = revoked(), revoked()
    keep = {"connection": "keep-alive"}
    requests = [
        sender.request(one, keep),
        sender.request(two, keep),
        sender.request(b"{}", {**keep, "webhook-signature": "v1,x"}),
        sender.request(one),
    ]

    answers = service.exchange(b"".join(requests))

    assert [reply.status for reply in answers] == [200, 200, 401, 200]
    assert [reply.json.get("status") for reply in answers] == ["recorded", "recorded", 401, "duplicate"]
    assert [row.body for row in sender.rows()] == [one, two]


def test_garbage_after_a_request(service: Service, sender: Sender) -> None:
    """What was delivered before it is kept."""
    body = revoked()
    service.exchange(sender.request(body, {"connection": "keep-alive"}) + b"\0\0garbage\r\n\r\n")

    until(sender.rows)
    assert sender.rows()[0].body == body


def test_a_sender_that_waits_to_be_asked_for_its_body(service: Service, sender: Sender) -> None:
    """`Expect: 100-continue` is answered, and then the body is taken."""
    body = revoked()
    with service.connect() as connection:
        connection.sendall(
            head(sender, {"content-length": str(len(body)), "expect": "100-continue", "connection": "close"}, body)
        )
        go_on = connection.recv(65536)
        connection.sendall(body)
        (reply,) = replies(read_all(connection))

    assert go_on == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.json["status"] == "recorded"


def test_a_sender_that_goes_away_in_its_body(service: Service, sender: Sender) -> None:
    """Nothing is kept but a count."""
    with service.connect() as connection:
        connection.sendall(head(sender, {"content-length": "100"}) + b"12345")
        time.sleep(0.05)

    until(lambda: sender.counts() == {"refused:incomplete": 1})
    assert sender.rows() == []


def test_a_sender_that_goes_away_before_its_answer(service: Service, sender: Sender) -> None:
    """What it delivered is kept all the same; when it tries again, that is a duplicate."""
    body = revoked()
    with service.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no goodbye
        connection.sendall(sender.request(body))

    until(sender.rows)
    assert sender.post(body).json()["status"] == "duplicate"
    until(lambda: sender.counts() == {"recorded": 1, "duplicate": 1})


def test_half_a_connection(service: Service, sender: Sender) -> None:
    """A sender that shuts its side down is taken to be gone: it may get no answer, but what it delivered is kept."""
    with service.connect() as connection:
        connection.sendall(sender.request(revoked()))
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)

    until(sender.rows)


def test_trailers_without_end(service: Service, sender: Sender) -> None:
    """They are bounded like headers, on every path, so that nobody fills the memory before having to be authentic."""
    sent = 0
    with service.connect() as connection:
        connection.sendall(b"POST /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
        try:
            while sent < 64 * 1024 * 1024:
                connection.sendall(b"".join(b"a%d: b\r\n" % number for number in range(1000)))
                sent += 8000
        except OSError:
            pass  # closed on us

    assert sent < 16 * 1024 * 1024
    assert still_serves(service)


def test_a_signature_in_a_trailer(service: Service, sender: Sender) -> None:
    """A trailer is no header: it neither authenticates a delivery nor stands against one that is authentic."""
    body = revoked()
    chunked = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    lines = "".join(f"{name}: {value}\r\n" for name, value in sender.headers(body).items()).encode()
    start = f"POST {sender.path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n".encode()

    (late,) = service.exchange(start + b"\r\n" + chunked + lines + b"\r\n")
    (genuine,) = service.exchange(start + lines + b"\r\n" + chunked + b"webhook-signature: v1,junk\r\n\r\n")

    assert (late.status, genuine.status) == (401, 200)


def test_an_upgrade_or_a_tunnel(service: Service, sender: Sender) -> None:
    """Refused before anything else is looked at: its body could not be told from another protocol."""
    body = revoked()
    upgrade = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "content-length": str(len(body))}

    (reply,) = service.exchange(head(sender, upgrade, body) + body)

    (tunnel,) = service.exchange(b"CONNECT rescind:80 HTTP/1.1\r\nhost: rescind\r\n\r\n")

    assert (reply.status, reply.headers["connection"], reply.headers["cache-control"]) == (400, "close", "no-store")
    assert tunnel.status == 400
    assert (sender.rows(), sender.counts()) == ([], {})
