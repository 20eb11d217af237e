"""One try of one message over HTTP, and what came of it.

Taken is a message that is answered 2xx, and no other. A redirect is not followed, for the address that it names was not
checked, and nothing that is answered decides where messages go. The answer's body says nothing that is needed: some of
it is read, so that the other side gets rid of it, and none is kept.

Each message has a connection of its own, to an address that was checked for it (`receiver.assurance.addresses`): a
connection that was made for one host must not serve another one that has the same address, for the certificate was
checked for the first. Proxies that the environment names are not used: they would be sent to, and would resolve.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from threading import Thread

import httpx2

from receiver.assurance import addresses
from receiver.assurance.addresses import AddressError, Endpoint, Network, Resolve
from receiver.assurance.messages import Message, headers
from translog.fetching import trusted

TIMEOUT = 15.0
"""Seconds within which a try must be answered, whatever the other side does."""

FINISHING = 1.0
"""Seconds that an answer's body may take."""

CONNECT = 5.0
"""Seconds that making one connection may take, where a host has several addresses."""

MOST_READ = 65_536
"""Bytes of an answer's body."""

_ABOUT = {
    "accept-encoding": "identity",
    "connection": "close",
    "content-type": "application/json",
    "user-agent": f"Rescind/{version('rescind')}",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a try. `failure` is None if the message was taken."""

    failure: str | None
    status: int | None = None
    """Of the answer, if there was one."""
    retry_after: timedelta | None = None
    """How long the endpoint, with 429 or 503, asked to be left alone."""

    @property
    def gone(self) -> bool:
        """Whether the endpoint says that it does not want to be sent to any more (Standard Webhooks)."""
        return self.status == 410


class Sender:
    """Sends messages. Used on one loop; `aclose` ends what is under way."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        resolve: Resolve = addresses.resolve,
        tls: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """`allowed` are networks that may be called besides public addresses; `tls` says whose certificates count."""
        self._allowed = allowed
        self._resolve = resolve
        self._timeout = timeout
        # No connection is kept: the pool knows them by their address, and not by the name they were checked for.
        self._transport = httpx2.AsyncHTTPTransport(
            verify=trusted() if tls is None else tls,
            trust_env=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )
        logging.getLogger("httpcore2").setLevel(logging.INFO)

    async def send(self, url: str, message: Message, key: bytes) -> Result:
        """Try once, signed as of now. Raises nothing but CancelledError."""
        try:
            async with asyncio.timeout(self._timeout):
                endpoint = addresses.parse(url)
                response = await self._answer(endpoint, await self._permitted(endpoint), message, key)
        except AddressError as error:
            return Result(f"not sent: {error}")
        except (TimeoutError, httpx2.TimeoutException):
            return Result(f"timeout: not answered within {self._timeout:.0f} s")
        except httpx2.ConnectError as error:
            return Result(_unreachable(error))
        except Exception as error:  # noqa: BLE001  (whatever it was, the message was not taken; its text may quote the answer)
            return Result(f"broken: {type(error).__name__}")
        # The status says it all: what comes after it may be late, broken or endless.
        with contextlib.suppress(httpx2.HTTPError, TimeoutError):
            async with asyncio.timeout(FINISHING), aclosing(response):
                await _read_some(response)
        return _result(response)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def _permitted(self, endpoint: Endpoint) -> list[str]:
        """The endpoint's addresses, all of which may be called. Raises AddressError.

        A resolver may take its time, and cannot be interrupted: its thread is one that nobody waits for at the end.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def settle(answer: list[str] | Exception) -> None:
            if found.done():
                return
            if isinstance(answer, Exception):
                found.set_exception(answer)
            else:
                found.set_result(answer)

        def look() -> None:
            try:
                answer = addresses.permitted(endpoint, self._allowed, self._resolve)
            except Exception as error:  # noqa: BLE001  (it is raised where the answer is waited for)
                answer = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, answer)

        Thread(target=look, name="resolver", daemon=True).start()
        return await found

    async def _answer(self, endpoint: Endpoint, at: Sequence[str], message: Message, key: bytes) -> httpx2.Response:
        """What the first of these addresses that can be connected to answers; its body is still to come."""
        for address in at[:-1]:
            with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._post(endpoint, address, message, key)
        return await self._post(endpoint, at[-1], message, key)

    async def _post(self, endpoint: Endpoint, address: str, message: Message, key: bytes) -> httpx2.Response:
        request = httpx2.Request(
            "POST",
            endpoint.at(address),
            headers={"host": endpoint.authority, **_ABOUT, **headers(message, key, datetime.now(UTC))},
            content=message.body,
            extensions={
                "sni_hostname": endpoint.name,
                "timeout": httpx2.Timeout(self._timeout, connect=CONNECT).as_dict(),
            },
        )
        return await self._transport.handle_async_request(request)


def _result(response: httpx2.Response) -> Result:
    status = response.status_code
    if response.is_success:
        return Result(None, status)
    if 300 <= status < 400:
        return Result(f"redirect: answered {status}, and redirects are not followed", status)
    return Result(f"answered {status}", status, _retry_after(response))


async def _read_some(response: httpx2.Response) -> None:
    read = 0
    async with aclosing(response.aiter_raw()) as pieces:
        async for piece in pieces:
            read += len(piece)
            if read >= MOST_READ:
                return


def _retry_after(response: httpx2.Response) -> timedelta | None:
    """What the endpoint asks for (RFC 9110 section 10.2.3): a number of seconds, or a time."""
    text = response.headers.get("retry-after", "")
    if response.status_code not in {429, 503} or not text:
        return None
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text) if len(text) < 10 else 10**9)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC), timedelta())


def _unreachable(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"tls: its certificate is not accepted: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return "tls: no encrypted connection could be agreed on"
        error = error.__cause__ or error.__context__
    return "unreachable: no connection could be made"
