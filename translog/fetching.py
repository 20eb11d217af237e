"""A log's server, over HTTP: its checkpoint, tiles and entry bundles, none of it verified here (C2SP tlog-tiles).

The server may be broken, or worse. So whatever it sends is bounded: bytes of each resource, also of what gzip makes of
it, and the time of each request from end to end, however slowly it drips. A redirect is not followed, so that it is
always the named log that answers; no cookie is kept, and no proxy is taken from the environment. It is httpx's
transport that is used, not its client, which does all that.

What may pass is tried again, each time after a longer wait, or after what `Retry-After` asks for within bounds: no
answer, half an answer, and the statuses 408, 429 and 5xx. Any other answer is taken as it is.

A partial tile or bundle may be gone once the full one is there. That one is then fetched, and cut.

Full tiles never change, so they may be kept in a folder, for one log or many. Whoever finds that a tile does not verify
calls `forget`, or it would be found so for ever.
"""

import asyncio
import hashlib
import logging
import secrets
import ssl
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import httpx2
import stamina

from translog import note
from translog.errors import FetchError, FormatError
from translog.merkle import HASH_SIZE
from translog.tiles import MAX_ENTRY_SIZE, TILE_WIDTH, Bundle, Resource, Tile, decode_bundle, encode_bundle

__all__ = ["BUDGET", "CONNECTIONS", "Fetcher", "trusted"]

MAX_TILE = TILE_WIDTH * HASH_SIZE
MAX_BUNDLE = TILE_WIDTH * (2 + MAX_ENTRY_SIZE)
"""Bytes of the largest tile and the largest bundle there can be; of a checkpoint, `note.MAX_SIZE` are read."""

CONNECTIONS = 8
"""Requests at once."""

BUDGET = 2**25
"""Bytes of entry bundles after which no more are asked for at one time: 32 MiB."""

CACHED_TILES = 1024
"""Tiles in memory: 8 MiB."""

FIRST_WAIT, LONGEST_WAIT, JITTER = 0.2, 30.0, 0.2  # seconds

_IDLE = 60.0  # seconds for which an unused connection is kept


class Fetcher:
    """Fetches from one log's server. Used on one loop; `aclose` in the end."""

    def __init__(
        self,
        url: str,
        *,
        cache: Path | None = None,
        timeout: float = 10.0,
        attempts: int = 4,
        user_agent: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`url` is the log's prefix, `timeout` the seconds of each request, `headers` go with each of them.

        Raises `FormatError` unless `url` is http or https, a host, and a path if need be.
        """
        self.url = _checked(url)
        self.requests = 0
        """How many were sent, repeated ones included."""
        self._headers = {
            "user-agent": user_agent or f"translog/{version('rescind')}",
            "accept-encoding": "gzip, identity",
            **(headers or {}),
        }
        self._timeout = timeout
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=attempts, timeout=None, wait_initial=FIRST_WAIT, wait_max=LONGEST_WAIT, wait_jitter=JITTER
        ).on(_wait_before_another)
        # A transport for each connection: one for all would look at every connection for every request. The one that
        # was used last is taken first.
        limits = httpx2.Limits(max_connections=1, keepalive_expiry=_IDLE)
        self._transports = [httpx2.AsyncHTTPTransport(trusted(), limits=limits) for _ in range(CONNECTIONS)]
        self._free = self._transports.copy()
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._cache = _Cache(None if cache is None else cache / hashlib.sha256(self.url.encode()).hexdigest()[:16])
        # It writes headers into its debugging log, and those of one's own may be secret.
        logging.getLogger("httpcore2").setLevel(logging.INFO)
        self._largest = 0  # of what last had a budget: as much is expected of each that comes

    async def checkpoint(self) -> bytes:
        """Fetch the newest checkpoint. Raises `FetchError`."""
        return await self._retrying(self._request, "checkpoint", note.MAX_SIZE)

    async def fetch(self, resources: Iterable[Resource], budget: int | None = None) -> dict[Resource, bytes]:
        """Fetch these, some at once. Each tile has the bytes of its width; what a bundle holds is not looked at.

        With a `budget` in bytes, no more are asked for once it is used up: then the first few are given, at least one.
        Raises `FetchError`.
        """
        given: dict[Resource, bytes] = {}
        used, largest = 0, self._largest
        under_way: deque[tuple[Resource, asyncio.Task[bytes]]] = deque()
        ahead = iter(resources)

        def room() -> bool:
            if budget is None or not (given or under_way):
                return len(under_way) < CONNECTIONS
            return len(under_way) < CONNECTIONS and used + (len(under_way) + 1) * largest <= budget

        try:
            while True:
                while room() and (resource := next(ahead, None)) is not None:
                    under_way.append((resource, asyncio.create_task(self._get(resource))))
                if not under_way:
                    if budget is not None:
                        self._largest = max(map(len, given.values()), default=0)
                    return given
                resource, task = under_way[0]
                given[resource] = data = await task
                under_way.popleft()
                used, largest = used + len(data), max(largest, len(data))
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)

    def forget(self, resources: Iterable[Resource]) -> None:
        """Drop what did not verify, so that it is fetched anew. Bundles are never kept."""
        for resource in resources:
            if isinstance(resource, Tile):
                self._cache.drop(resource)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports:
            await transport.aclose()

    # ---- one resource -------------------------------------------------------------------------------------------

    async def _get(self, resource: Resource) -> bytes:
        if isinstance(resource, Bundle):
            return await self._download(resource)
        data = self._cache.recall(resource)
        if data is None:
            data = await asyncio.to_thread(self._cache.read, resource)
        if data is None:
            data = await self._download(resource)
            await asyncio.to_thread(self._cache.write, resource, data)
        self._cache.remember(resource, data)
        return data

    async def _download(self, resource: Resource) -> bytes:
        limit = MAX_BUNDLE if isinstance(resource, Bundle) else MAX_TILE
        try:
            data = await self._retrying(self._request, resource.path(), limit)
        except _GoneError:
            if resource.width == TILE_WIDTH:
                raise
            return _cut(await self._get(resource._replace(width=TILE_WIDTH)), resource)
        if isinstance(resource, Tile) and len(data) != resource.width * HASH_SIZE:
            raise FetchError(
                f"{self.url}/{resource.path()} has {len(data)} bytes instead of {resource.width * HASH_SIZE}"
            )
        return data

    async def _request(self, path: str, limit: int) -> bytes:
        """Ask once."""
        url = f"{self.url}/{path}"
        request = httpx2.Request("GET", url, headers=self._headers)
        async with self._turns:
            transport = self._free.pop()
            self.requests += 1
            try:
                async with asyncio.timeout(self._timeout):
                    response = await transport.handle_async_request(request)
                    async with aclosing(response):
                        _check_status(response, url)
                        return await _body(response, url, limit)
            except (TimeoutError, httpx2.TimeoutException):
                raise _PassingError(f"{url} was not answered within {self._timeout:g} seconds") from None
            except (httpx2.TransportError, OSError) as error:
                raise _PassingError(f"{url} cannot be fetched: {str(error) or type(error).__name__}") from error
            finally:
                self._free.append(transport)


class _PassingError(FetchError):
    """What may be otherwise the next time; `wait` is how many seconds the server asks for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class _GoneError(FetchError):
    """There is no such resource, or no more."""


def _wait_before_another(error: Exception) -> bool | float:
    """Whether to try again, or after how many seconds."""
    if not isinstance(error, _PassingError):
        return False
    return True if error.wait is None else error.wait


@cache
def trusted() -> ssl.SSLContext:
    """Whose certificates count, one for all: to read them takes longer than a request."""
    return httpx2.create_ssl_context(trust_env=False)


def _checked(url: str) -> str:
    """The URL without a slash at its end."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise FormatError(f"log URL: {url[:200]!r} is none: {error}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host or any(character.isspace() for character in url):
        raise FormatError(f"log URL: {url[:200]!r} is not http or https, a host, and a path if need be")
    if parsed.port is not None and not 0 < parsed.port < 2**16:
        raise FormatError(f"log URL: there is no port {parsed.port}")
    if parsed.userinfo:
        raise FormatError("log URL: a user name or a password does not belong in it")
    if "?" in url or "#" in url:
        raise FormatError(f"log URL: {url[:200]!r} ends in a query or a fragment; what is asked for is put behind it")
    return str(parsed).rstrip("/")


def _check_status(response: httpx2.Response, url: str) -> None:
    status = response.status_code
    if status == 200:
        return
    if 300 <= status < 400:
        location = response.headers.get("location", "")
        raise FetchError(
            f"{url} is redirected (status {status}) to {location[:200]!a}; that is not followed: give the log's own URL"
        )
    if status in {404, 410}:
        raise _GoneError(f"{url} is not there (status {status})")
    message = f"{url} was answered with status {status}"
    if status in {408, 429} or status >= 500:
        raise _PassingError(message, _retry_after(response.headers.get("retry-after")))
    raise FetchError(message)


def _retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After asks for, within bounds (RFC 9110 section 10.2.3); None if it asks for none."""
    if value is None:
        return None
    if value.isascii() and value.isdecimal():
        seconds = float(value)
    else:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = until.replace(tzinfo=until.tzinfo or UTC).timestamp() - time.time()
    return min(max(seconds, FIRST_WAIT), LONGEST_WAIT)


async def _body(response: httpx2.Response, url: str, limit: int) -> bytes:
    """The body of an answer, of at most `limit` bytes. Raises `FetchError`."""
    coding = response.headers.get("content-encoding", "").strip().lower() or "identity"
    if coding == "gzip":
        gzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    elif coding == "identity":
        gzip = None
    else:
        raise FetchError(f"{url} was answered in the encoding {coding[:80]!a}, which was not asked for")
    too_large = FetchError(f"{url} is larger than {limit} bytes, the most that it can have")
    most = limit if gzip is None else limit + limit // 64 + 1024  # nobody packs bytes into so many more
    received = size = 0
    body: list[bytes] = []
    async with aclosing(response.aiter_raw()) as pieces:
        async for piece in pieces:
            received += len(piece)
            if received > most:
                raise too_large
            try:
                body.append(piece if gzip is None else gzip.decompress(piece, limit + 1 - size))
            except zlib.error as error:
                raise FetchError(f"{url} was answered with what is not gzip: {error}") from None
            size += len(body[-1])
            if size > limit:
                raise too_large
    if gzip is not None and (not gzip.eof or gzip.unused_data):
        raise FetchError(f"{url} was answered with gzip that {'goes on behind its end' if gzip.eof else 'breaks off'}")
    return b"".join(body)


def _cut(full: bytes, resource: Resource) -> bytes:
    if isinstance(resource, Tile):
        return full[: resource.width * HASH_SIZE]
    try:
        return encode_bundle(decode_bundle(full)[: resource.width])
    except FormatError as error:
        raise FetchError(f"{resource._replace(width=TILE_WIDTH).path()}: {error}") from None


class _Cache:
    """Tiles that were fetched: the last ones used in memory, full ones in a folder if there is one.

    A tile is kept in its widest form, since narrower ones are the beginning of it. A file is there whole or not at
    all; one that is not as long as a full tile is as absent, and where none can be written it goes on without.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def recall(self, tile: Tile) -> bytes | None:
        """The tile, if it is in memory."""
        data = self._memory.get((tile.level, tile.index), b"")[: tile.width * HASH_SIZE]
        return data if len(data) == tile.width * HASH_SIZE else None

    def remember(self, tile: Tile, data: bytes) -> None:
        """Keep it in memory, as the one used last."""
        place = (tile.level, tile.index)
        self._memory[place] = max(self._memory.get(place, b""), data, key=len)
        self._memory.move_to_end(place)
        if len(self._memory) > CACHED_TILES:
            self._memory.popitem(last=False)

    def read(self, tile: Tile) -> bytes | None:
        """The tile, if its full form is a file."""
        if self._folder is None:
            return None
        try:
            data = self._file(self._folder, tile).read_bytes()
        except OSError:
            return None
        return data[: tile.width * HASH_SIZE] if len(data) == MAX_TILE else None

    def write(self, tile: Tile, data: bytes) -> None:
        """Make it a file, if it is full and there is a folder. A crash leaves at most a file that is never read."""
        if self._folder is None or tile.width != TILE_WIDTH:
            return
        file = self._file(self._folder, tile)
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        with suppress(OSError):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)

    def drop(self, tile: Tile) -> None:
        """Forget it, in all its forms."""
        self._memory.pop((tile.level, tile.index), None)
        if self._folder is not None:
            with suppress(OSError):
                self._file(self._folder, tile).unlink(missing_ok=True)

    @staticmethod
    def _file(folder: Path, tile: Tile) -> Path:
        return folder / tile._replace(width=TILE_WIDTH).path()
