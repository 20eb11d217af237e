"""The log as C2SP tlog-tiles serves it: checkpoint, hash tiles and entry bundles, under `/log/{tenant}/`.

Paths are canonical or they are 404: the framework would also match `tile//0`, so what is parsed is the raw path.
Nothing beyond the newest checkpoint is served. What is in memory is answered on the loop, the rest from a thread.
"""

import asyncio
import gzip
import re
from typing import Any, cast

from litestar import Controller, Request, get, route
from litestar.enums import HttpMethod
from litestar.params import FromPath
from litestar.types import ASGIApp

from receiver import problems
from receiver.access import authorize
from receiver.answer import Answer, OrText
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant
from translog.errors import FormatError
from translog.log import Log
from translog.tiles import Bundle, Tile, parse_path

_IMMUTABLE = "max-age=31536000, immutable"
_SECONDS = "max-age=1"
_NEVER = re.compile(r"q=0(\.0{0,3})?")


class TilesController(Controller):
    """A monitor's whole view of a log."""

    path = "/log"
    tags = ("log",)

    @get(
        "/{tenant_name:str}/{resource:path}",
        operation_id="readLog",
        operation_class=OrText,
        summary="Checkpoint, tile or entry bundle",
        description="C2SP tlog-tiles: `checkpoint`, `tile/<L>/<N>[.p/<W>]`, `tile/entries/<N>[.p/<W>]`.",
        media_type="application/octet-stream",
        responses=problems.responses(400, 401, 403, 404),
    )
    async def read(
        self, request: Request[Any, Any, Any], tenant_name: FromPath[str], resource: FromPath[str]
    ) -> ASGIApp:
        return await self._read(request, tenant_name)

    @route("/{tenant_name:str}/{resource:path}", http_method=[HttpMethod.HEAD], include_in_schema=False)
    async def read_head(
        self, request: Request[Any, Any, Any], tenant_name: FromPath[str], resource: FromPath[str]
    ) -> ASGIApp:
        return await self._read(request, tenant_name)

    async def _read(self, request: Request[Any, Any, Any], tenant_name: str) -> ASGIApp:
        records: Records = request.app.state.records
        log, visibility = await self._log(request, records, tenant_name)
        scope = request.scope
        path = scope["raw_path"].decode("latin-1").partition("?")[0].removeprefix(f"/log/{tenant_name}/")
        if path == "checkpoint":
            note = log.published.note
            return _answer(note, "text/plain; charset=utf-8", f"{visibility}, {_SECONDS}")
        try:
            wanted = parse_path(path)
        except FormatError as error:
            raise Problem(404, f"This is not a path of the log: {error}") from error
        data = await _tile(log, wanted) if isinstance(wanted, Tile) else await _bundle(log, wanted)
        if data is None:
            raise Problem(404, f"The log has no {path} at its published size, {log.published_size}")
        headers: list[tuple[str, str]] = []
        if isinstance(wanted, Bundle):
            headers.append(("vary", "accept-encoding"))
            if _takes_gzip(request.headers.get("accept-encoding", "")):
                data = await asyncio.to_thread(gzip.compress, data, 6, mtime=0)
                headers.append(("content-encoding", "gzip"))
        return _answer(data, "application/octet-stream", f"{visibility}, {_IMMUTABLE}", headers)

    async def _log(self, request: Request[Any, Any, Any], records: Records, name: str) -> tuple[Log, str]:
        if records.settings.public_log:
            return _known(records, name).log, "public"
        key = await authorize(request, Scope.AUDIT)
        if key.tenant != name:
            raise Problem(404, f"There is no log of a tenant {name!r}")
        return _known(records, name).log, "private"


def _known(records: Records, name: str) -> Tenant:
    for tenant in records.tenants:
        if tenant.name == name:
            return tenant
    raise Problem(404, f"There is no log of a tenant {name!r}")


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
