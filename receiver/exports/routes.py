"""`/v1/exports`: what is asked to be exported, how far it is, and its file.

A file is given out by parts, if they are asked for so (RFC 9110 section 14), straight from the disk. Before the first
byte of an answer goes out, it is noted who is given it; and it was read once, so that it is known to be as it was made
(`receiver.exports.checked`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import sqlalchemy as sa
from litestar import Controller, HttpMethod, Request, Response, get, post, route
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter
from litestar.types import ASGIApp

from receiver import parameters, problems
from receiver.access import needs
from receiver.answer import Answer
from receiver.bodies import read_body, takes
from receiver.events import format_time
from receiver.exports import jobs
from receiver.exports.checked import Checked
from receiver.exports.files import FileAnswer, UnsatisfiableError, part_of
from receiver.exports.jobs import Basis, ExportError, Listed, NoSuchExportError
from receiver.exports.leases import make_again
from receiver.parameters import DEFAULT_LIMIT, MAX_LIMIT, header, query
from receiver.problems import CONTENT_TYPE, Code, Problem
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.giving import COMPLETED, FAILED, file_of, give
from receiver.records.keeping import exports
from receiver.records.opening import Records, Tenant
from translog.errors import StoreError

T = TypeVar("T")

RETRY_AFTER = 5  # seconds

ZIP = "application/zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked for: the events of a period, of all providers or some, without tests unless they are asked for."""

    since: str
    until: str
    basis: Basis = "logged"
    providers: list[str] | None = None
    tests: bool = False
    parquet: bool = False


@dataclass(frozen=True, slots=True)
class ExportList:
    """A page of a tenant's exports, newest first."""

    items: list[Listed]
    next_cursor: str | None


class ExportsController(Controller):
    """Needs a key with the scope `export`; sees its tenant's exports and no others."""

    path = "/v1"
    tags = ("exports",)
    guards = (needs(Scope.EXPORT), parameters.only_known)
    security = ({"key": []},)

    @post(
        "/exports",
        status_code=202,
        operation_id="askForExport",
        operation_class=takes(Ask, {"since": "2026-07-01T00:00:00Z", "until": "2026-10-01T00:00:00Z"}),
        summary="Ask for an export",
        description="Of the events from `since` on and before `until`, which is not after now. It is made in the "
        "background: `state` tells, at the `Location` of the answer, when there is a file.",
        responses=problems.responses(400, 401, 403, 413, 503),
    )
    async def ask_for_export(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]
    ) -> Response[Listed]:
        asked = await read_body(request, Ask)
        if request.app.state.intake.recorder.refusal is not None:
            raise _halted()
        records: Records = request.app.state.records
        key: ApiKey = request.state.api_key
        try:
            listed = await asyncio.to_thread(_ask, records, tenant, asked, key.id)
        except ExportError as error:
            raise Problem(400, str(error), details={error.member: str(error)}) from error
        except StoreError as error:
            raise _halted() from error
        return Response(listed, status_code=202, headers={"location": f"/v1/exports/{listed.id}"})

    @get(
        "/exports",
        operation_id="listExports",
        summary="Exports, newest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_exports(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        cursor: Annotated[str | None, query("the next_cursor of an earlier answer")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> ExportList:
        before = parameters.id_cursor(cursor)
        return await asyncio.to_thread(_list, request.app.state.records, tenant, limit, before)

    @get(
        "/exports/{export_id:str}",
        operation_id="getExport",
        summary="How far an export is",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_export(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], export_id: FromPath[str]
    ) -> Listed:
        return await _in_thread(_find, request, tenant, export_id)

    @get(
        "/exports/{export_id:str}/download",
        operation_id="downloadExport",
        summary="The file of an export",
        description="Whole, or the one range of bytes that `Range` names. 409 as long as there is no file, 410 once it "
        "has expired. It is noted who is given it.",
        media_type=ZIP,
        responses={
            200: ResponseSpec(bytes, description="The file", generate_examples=False, media_type=ZIP),
            206: ResponseSpec(bytes, description="A part of it", generate_examples=False, media_type=ZIP),
            **problems.responses(400, 401, 403, 404, 409, 410, 416, 503),
        },
    )
    async def download_export(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        export_id: FromPath[str],
        wanted: Annotated[str | None, header("Range", "one range of bytes, such as `bytes=0-1023`")] = None,
        if_range: Annotated[str | None, header("If-Range", "the `ETag` of what that is to be a part of")] = None,
    ) -> ASGIApp:
        await _check(request, tenant, export_id)
        return await _in_thread(_download, request, tenant, export_id, wanted, if_range)

    @route(
        "/exports/{export_id:str}/download",
        http_method=[HttpMethod.HEAD],
        include_in_schema=False,
    )
    async def download_head(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], export_id: FromPath[str]
    ) -> ASGIApp:
        await _check(request, tenant, export_id)
        return await _in_thread(_download, request, tenant, export_id, None, None)  # RFC 9110 section 14.2


async def _check(request: Request[Any, Any, Any], tenant: Tenant, export_id: str) -> None:
    """Read the file that is asked for, unless that was done."""
    found = await _in_thread(_find, request, tenant, export_id)
    if _is_there(found):
        await request.app.state.checked.look(_path(request.app.state.records, found))


async def _in_thread(work: Callable[..., T], *asked: Any) -> T:
    """What comes of that. Raises Problem 404 if there is no such export."""
    try:
        return await asyncio.to_thread(work, *asked)
    except NoSuchExportError as error:
        raise Problem(404, str(error)) from error


def _ask(records: Records, tenant: Tenant, asked: Ask, by: str) -> Listed:
    of, chosen = asked.providers, {"tests": asked.tests, "parquet": asked.parquet}
    export_id = jobs.ask(records, tenant, jobs.query_of(asked.since, asked.until, asked.basis, of, **chosen), by)
    with records.database.read() as tx:
        return jobs.find(tx, tenant, export_id)


def _list(records: Records, tenant: Tenant, limit: int, before: str | None) -> ExportList:
    with records.database.read() as tx:
        return ExportList(*jobs.find_all(tx, tenant, limit, before))


def _find(request: Request[Any, Any, Any], tenant: Tenant, export_id: str) -> Listed:
    records: Records = request.app.state.records
    with records.database.read() as tx:
        found = _listed(tx, tenant, export_id)
    if _is_there(found) and not _path(records, found).is_file():
        with records.database.write() as tx:
            make_again(tx, export_id)
            found = _listed(tx, tenant, export_id)
    return found


def _listed(tx: sa.Connection, tenant: Tenant, export_id: str, *, locked: bool = False) -> Listed:
    """One export; `locked` against whoever erases something of it, who would have its file made again."""
    if not parameters.readable(export_id):
        raise NoSuchExportError(f"there is no export {export_id[:64]!a}")
    if locked:
        tx.execute(sa.select(exports.c.id).where(exports.c.id == export_id).with_for_update(read=True))
    return jobs.find(tx, tenant, export_id)


def _is_there(found: Listed) -> bool:
    """Whether its file ought to be there."""
    return found.expires_at is not None and found.expires_at > format_time(datetime.now(UTC))


def _path(records: Records, found: Listed) -> Path:
    return file_of(records.settings, found.id, bytes.fromhex(found.sha256 or ""))


def _download(
    request: Request[Any, Any, Any], tenant: Tenant, export_id: str, wanted: str | None, if_range: str | None
) -> ASGIApp:
    """The answer that gives the file out. That it does is noted, and durable, when this returns."""
    records: Records = request.app.state.records
    key: ApiKey = request.state.api_key
    try:
        with records.database.write() as tx:
            found = _listed(tx, tenant, export_id, locked=True)
            if found.state != COMPLETED:
                raise _no_file(found)
            if not _is_there(found):
                raise Problem(410, f"The file of this export expired at {found.expires_at}; ask anew", Code.NOT_FOUND)
            etag, size = f'"{found.sha256}"', found.size or 0
            try:
                part = part_of(wanted, if_range, etag, size)
            except UnsatisfiableError:
                return _unsatisfiable(size)
            if request.method == HttpMethod.GET:
                give(tx, tenant, key.id, export_id=export_id)
            file = _open(request.app.state.checked, _path(records, found), bytes.fromhex(found.sha256 or ""))
    except FileNotFoundError:
        with records.database.write() as tx:
            make_again(tx, export_id)
            found = _listed(tx, tenant, export_id)
        raise _no_file(found) from None
    headers = (
        ("content-type", ZIP),
        ("content-disposition", f'attachment; filename="export-{export_id}.zip"'),
        ("etag", etag),
        ("cache-control", "no-store"),
    )
    return FileAnswer(file, size, part, headers)


def _open(checked: Checked, path: Path, sha256: bytes) -> BinaryIO:
    """The file, if it is there and has that hash. Raises FileNotFoundError."""
    file = path.open("rb")
    if not checked.has(file, sha256):
        file.close()
        raise FileNotFoundError(f"{path} is not what was written")
    return file


def _no_file(found: Listed) -> Problem:
    why = "it could not be made: " + (found.error or "") if found.state == FAILED else "it is not made yet"
    return Problem(409, f"There is no file of this export: {why}", details={"state": found.state})


def _unsatisfiable(size: int) -> Answer:
    problem = Problem(416, f"The file has {size} bytes, and none of those that are asked for")
    headers = {"content-type": CONTENT_TYPE, "content-range": f"bytes */{size}", **problem.headers}
    return Answer(416, problem.body, tuple((name.encode(), value.encode()) for name, value in headers.items()))


def _halted() -> Problem:
    why = "Nothing was changed: recording has stopped; /health/ready says why"
    return Problem(503, why, retry_after=RETRY_AFTER)
