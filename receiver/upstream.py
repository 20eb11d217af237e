"""A source's upstream, over HTTP: one request, and what is certain about it afterwards.

    Answer     it was answered, with whatever status
    NotSent    nothing of the request has reached the upstream, so nothing happened there
    Unknown    anything else: it may have been carried out, or may yet be

Calls that are passed on take something back, so a request is written at most once. Nothing here repeats one, follows a
redirect, or takes an answer for more than was said: only what failed before the first byte of the request is `NotSent`.
When in doubt it is `Unknown`, which can be settled later; a call that was carried out and told as never sent could not.

It is httpx's transport that is used, not its client, which would add headers of its own, keep cookies from one caller
for another, take credentials out of the URL in place of the caller's, and log the URL of every call.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import httpx2

from receiver.providers import Operation
from translog.fetching import trusted

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Names and values as they are on the wire, in order; a name in any case, and more than once."""

MAX_ANSWER = 262_144
"""Bytes of an answer's body."""

MAX_CONNECTIONS = 256
"""At once, to all upstreams together; whoever finds none free waits as long as it may take to connect."""

IDENTITY = (b"accept-encoding", b"identity")
"""Goes out with every request: an answer is kept as it was said, and read without decoding."""

REMOVED = b"[removed]"
"""What is kept in place of a credential that an answer repeats."""

SHORTEST_CREDENTIAL = 8
"""Bytes of a credential that is looked for in answers: a shorter one may be there by chance."""

# Those of RFC 9110 section 7.6.1, those of section 11.7 and the older one that say the same to a proxy; and the length,
# which whoever writes the body says.
_OF_ONE_CONNECTION = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)

# Every request has a connection of its own. One that is used again may be closed by the server just as a request is
# written to it: then nobody knows what became of that. (httpcore does not write it again; it takes another connection
# only as long as it has written nothing.) And what a server says beyond one answer would be read as the next one: that
# of another call. A handshake for each costs a few milliseconds, and neither can happen.
_ALONE = (b"connection", b"close")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the upstream said."""

    status: int
    """200 to 599."""
    headers: Headers = field(repr=False)
    """As they came, without those of one connection and without the body's length."""
    body: bytes = field(repr=False)
    """At most `MAX_ANSWER` bytes, in the encoding it came in: `Content-Encoding` is not undone."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing of the request has reached the upstream."""

    reason: Literal["unreachable", "busy", "not_http", "late"]
    """No connection (name, network, TLS) could be made; none was free; it is no request to that URL that could be
    written; or it was not tried, for it would have come too late."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request, or some of it, may have reached the upstream, and no whole answer came back."""

    reason: Literal["timeout", "broken", "answer_too_large"]


Result: TypeAlias = Answer | NotSent | Unknown


class Sendable(Protocol):
    """A request as it goes out."""

    @property
    def method(self) -> str:
        """`POST`."""
        ...

    @property
    def target(self) -> str:
        """Path and query, percent-encoded."""
        ...

    @property
    def headers(self) -> Headers:
        """All there are but `Host` and `Content-Length`."""
        ...

    @property
    def body(self) -> bytes:
        """What is sent; may be empty."""
        ...


class Upstream:
    """Sends requests to any upstream. Used on one loop."""

    def __init__(self, timeout: float) -> None:
        """`timeout` is how many seconds a request may take from end to end, whatever the upstream keeps sending."""
        self._timeout = timeout
        # A quarter for each of: to wait for a connection, to make one, to agree on its encryption. So the whole time
        # never runs out before the first byte, and what ends before it is told as not sent.
        self._timeouts = httpx2.Timeout(timeout, connect=timeout / 4, pool=timeout / 4).as_dict()
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS)
        self._transport = httpx2.AsyncHTTPTransport(trusted(), trust_env=False, limits=limits)
        # It writes an answer's headers into its debugging log, and cookies are among them.
        logging.getLogger("httpcore2").setLevel(logging.INFO)

    async def send(self, base_url: str, outgoing: Sendable) -> Result:
        """Pass a call on to the upstream at `base_url`, once. Raises nothing but CancelledError.

        Cancelled, it leaves open what became of the call, as `Unknown` does.
        """
        return await self._ask(outgoing.method, base_url, outgoing.target, outgoing.headers, outgoing.body)

    async def get(self, base_url: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> Result:
        """Ask that upstream for a record, by path and query, percent-encoded. Raises nothing but CancelledError."""
        return await self._ask("GET", base_url, target, (*headers, IDENTITY), b"")

    async def aclose(self) -> None:
        """Close all connections; a request that is under way ends."""
        await self._transport.aclose()

    async def _ask(self, method: str, base_url: str, target: str, headers: Headers, body: bytes) -> Result:
        try:
            url = _url(base_url, target)
        except (ValueError, httpx2.InvalidURL):
            return NotSent("not_http")
        sent = [*headers, _ALONE]
        request = httpx2.Request(method, url, headers=sent, content=body, extensions={"timeout": self._timeouts})
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            _log.warning("%s://%s cannot be reached: %s", url.scheme, url.netloc.decode(), error)
            return NotSent("unreachable")
        except httpx2.PoolTimeout:
            return NotSent("busy")
        except httpx2.LocalProtocolError:  # a header that is none: refused before anything is written
            return NotSent("not_http")
        except (TimeoutError, httpx2.TimeoutException):
            return Unknown("timeout")
        except Exception:  # noqa: BLE001  (whatever it was, the request may be there; its text may quote the answer)
            return Unknown("broken")

    async def _exchange(self, request: httpx2.Request) -> Answer | Unknown:
        response = await self._transport.handle_async_request(request)
        body = bytearray()
        async with aclosing(response), aclosing(response.aiter_raw()) as pieces:
            # What is no status of a final answer (RFC 9110 section 15): 101, after which it speaks something else, too.
            if not 200 <= response.status_code < 600:
                return Unknown("broken")
            async for piece in pieces:
                body += piece
                if len(body) > MAX_ANSWER:
                    return Unknown("answer_too_large")
        return Answer(response.status_code, end_to_end(response.headers.raw), bytes(body))


def _url(base_url: str, target: str) -> httpx2.URL:
    """The upstream's URL with the target behind its path. Raises ValueError or InvalidURL where that is none.

    With a query in it the target would be but a part of that query; credentials in it would be the operator's, where
    the caller's own belong.
    """
    base = httpx2.URL(base_url)
    if base.scheme not in {"http", "https"} or not base.host or base.userinfo or "?" in base_url or "#" in base_url:
        raise ValueError("a base URL is http or https, a host, and a path if need be")
    if base.port is not None and not 0 < base.port < 65536:
        raise ValueError("there is no such port")
    whole = base.raw_path.rstrip(b"/") + target.encode("ascii")
    url = base.copy_with(raw_path=whole)
    if url.raw_path != whole:
        raise ValueError("the target would be read as another")
    return url


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a request or an answer without those of one connection, and without the body's length."""
    given = tuple(headers)
    listed = b",".join(value for name, value in given if name.lower() == b"connection")
    dropped = _OF_ONE_CONNECTION | {option.strip().lower() for option in listed.split(b",")}
    return tuple(pair for pair in given if pair[0].lower() not in dropped)


def without(body: bytes, credentials: Iterable[bytes]) -> bytes:
    """An answer's body as it may be kept: where it repeats a credential, `REMOVED` stands in its place."""
    for credential in credentials:
        body = body.replace(credential, REMOVED)
    return body


def credentials_in(headers: Iterable[tuple[bytes, bytes]], operation: Operation) -> list[bytes]:
    """The values of those headers in which the provider's credentials are, the longest first."""
    names = {name.encode() for name in operation.credentials}
    values = [value for name, value in headers if name.lower() in names]
    parts = {part for value in values for part in (value, value.partition(b" ")[2].strip())}
    return sorted((part for part in parts if len(part) >= SHORTEST_CREDENTIAL), key=len, reverse=True)
