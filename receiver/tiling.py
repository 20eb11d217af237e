"""A log as C2SP tlog-tiles serves it: checkpoint, hash tiles and entry bundles, for whoever has a `Log` to serve.

    GET <prefix>/checkpoint
    GET <prefix>/tile/<L>/<N>[.p/<W>]
    GET <prefix>/tile/entries/<N>[.p/<W>]

Paths are canonical or there is nothing there. The framework would also match `tile//0`, so what is given here must
come from the path as it was sent (`sent_path`). Nothing beyond the newest checkpoint is served. What is in memory is
answered on the loop, the rest from a thread.
"""

import asyncio
import gzip
import re
from typing import Any, cast

from litestar import Request
from litestar.types import ASGIApp

from receiver.answer import Answer
from translog.errors import FormatError
from translog.log import Log
from translog.tiles import Bundle, Tile, parse_path

_IMMUTABLE = "max-age=31536000, immutable"
_SECONDS = "max-age=1"
_NEVER = re.compile(r"q=0(\.0{0,3})?")


class NotServedError(Exception):
    """The log has nothing at that path; the message says why."""


def sent_path(request: Request[Any, Any, Any], prefix: str) -> str:
    """The path of a request as it was sent, without the prefix that it begins with."""
    return request.scope["raw_path"].decode("latin-1").partition("?")[0].removeprefix(prefix)


async def serve_path(log: Log, path: str, accepted: str, visibility: str) -> ASGIApp:
    """The answer to a GET or HEAD of a path below the log's prefix.

    `accepted` is the request's Accept-Encoding: bundles are compressed for whoever takes gzip. `visibility` is
    `public` or `private`, for caches. Raises NotServedError, and NotPublished before the first checkpoint.
    """
    if path == "checkpoint":
        return _answer(log.published.note, "text/plain; charset=utf-8", f"{visibility}, {_SECONDS}")
    try:
        wanted = parse_path(path)
    except FormatError as error:
        raise NotServedError(f"This is not a path of the log: {error}") from error
    data = await _tile(log, wanted) if isinstance(wanted, Tile) else await _bundle(log, wanted)
    if data is None:
        raise NotServedError(f"The log has no {path} at its published size, {log.published_size}")
    headers: list[tuple[str, str]] = []
    if isinstance(wanted, Bundle):
        headers.append(("vary", "accept-encoding"))
        if _takes_gzip(accepted):
            data = await asyncio.to_thread(gzip.compress, data, 6, mtime=0)
            headers.append(("content-encoding", "gzip"))
    return _answer(data, "application/octet-stream", f"{visibility}, {_IMMUTABLE}", headers)


async def _tile(log: Log, tile: Tile) -> bytes | None:
    cached = log.cached_tile(tile) if log.covers(tile) else None
    return cached if cached is not None else await asyncio.to_thread(log.tile, tile)


async def _bundle(log: Log, bundle: Bundle) -> bytes | None:
    return await asyncio.to_thread(log.bundle, bundle)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding asks for gzip: by its name, or else as any coding (RFC 9110 section 12.5.3)."""
    wanted: dict[str, bool] = {}
    for one in accepted.lower().split(","):
        coding, _, weight = one.partition(";")
        wanted[coding.strip()] = not _NEVER.fullmatch(weight.replace(" ", ""))
    return wanted.get("gzip", wanted.get("*", False))


def _answer(data: bytes, content_type: str, cache: str, more: list[tuple[str, str]] | None = None) -> ASGIApp:
    headers = [("content-type", content_type), ("cache-control", cache), *(more or [])]
    return cast("ASGIApp", Answer(200, data, tuple((name.encode(), value.encode()) for name, value in headers)))
