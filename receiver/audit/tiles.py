"""A tenant's log as C2SP tlog-tiles serves it: checkpoint, hash tiles and entry bundles, under `/log/{tenant}/`.

What is at which path is `receiver.tiling`'s to say; here is who may read it, and that HEAD answers as GET does.
"""

from typing import Any

from litestar import Controller, Request, get, route
from litestar.enums import HttpMethod
from litestar.params import FromPath
from litestar.types import ASGIApp

from receiver import problems
from receiver.access import authorize
from receiver.answer import OrText
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant
from receiver.tiling import NotServedError, sent_path, serve_path
from translog.log import Log


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
        accepted = request.headers.get("accept-encoding", "")
        try:
            return await serve_path(log, sent_path(request, f"/log/{tenant_name}/"), accepted, visibility)
        except NotServedError as error:
            raise Problem(404, str(error)) from error

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
