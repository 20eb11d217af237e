"""The sandbox's log under `/log`, as C2SP tlog-tiles serves it: to anybody, since nothing in it is real.

Its vkey, which verifies the checkpoint, is printed by `receiver sandbox-log-key`.
"""

from typing import Any

from litestar import Controller, Request, get, route
from litestar.enums import HttpMethod
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.params import FromPath
from litestar.types import ASGIApp

from receiver.sandbox.ledger import Ledger
from receiver.tiling import NotServedError, sent_path, serve_path


class LogController(Controller):
    """Checkpoint, tiles and entry bundles."""

    path = "/log"

    @get("/{resource:path}", media_type="application/octet-stream")
    async def read(self, request: Request[Any, Any, Any], resource: FromPath[str]) -> ASGIApp:
        return await _read(request)

    @route("/{resource:path}", http_method=[HttpMethod.HEAD])
    async def read_head(self, request: Request[Any, Any, Any], resource: FromPath[str]) -> ASGIApp:
        return await _read(request)


async def _read(request: Request[Any, Any, Any]) -> ASGIApp:
    ledger: Ledger = request.app.state.ledger
    if ledger.log_is_down:
        raise ServiceUnavailableException("The log is down, as it was told to be")
    accepted = request.headers.get("accept-encoding", "")
    try:
        return await serve_path(ledger.log, sent_path(request, "/log/"), accepted, "public")
    except NotServedError as error:
        raise NotFoundException(str(error)) from error
