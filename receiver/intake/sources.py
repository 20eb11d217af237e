"""`/v1/sources`: who may deliver, and how it is authenticated.

A secret goes in, and out once where it was made here: in the answer to the request that had it made. Nothing else here
shows one, and nothing a credential. Changes are told in the log with the id of the key that asked for them, and taken
over by every receiver within a second.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from litestar import Controller, Request, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from receiver import problems
from receiver.access import needs
from receiver.bodies import no_parameters, read_body, takes
from receiver.intake.answers import RETRY_AFTER
from receiver.intake.issuing import warn_of_fork
from receiver.intake.recorder import HALTED
from receiver.intake.service import Intake
from receiver.intake.sourcing import (
    Addition,
    Changes,
    Credential,
    Rotated,
    Rotation,
    SettingError,
    UnusableError,
    change,
    give_credential,
    rotate,
    settle,
    take_credential,
)
from receiver.problems import Problem
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.opening import Records, Tenant
from receiver.records.sources import (
    HeldSourceError,
    ListedSource,
    NoSuchSourceError,
    TakenError,
    add_source,
    get_source,
    list_sources,
)
from translog.errors import StoreError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SourceList:
    """Every source of a tenant, oldest first."""

    items: list[ListedSource]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedSource(ListedSource):
    """A source as it is after a change, and what there is to warn of."""

    warnings: list[str]


@dataclass(frozen=True, slots=True)
class AddedSource(ChangedSource):
    """A new source, with its secret if that was made here."""

    secret: str | None = field(repr=False)


class SourcesController(Controller):
    """Needs a key with the scope `admin`; sees and changes its tenant's sources and no others."""

    path = "/v1"
    tags = ("sources",)
    guards = (needs(Scope.ADMIN), no_parameters)
    security = ({"key": []},)

    @get(
        "/sources",
        operation_id="listSources",
        summary="Every source, oldest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_sources(self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]) -> SourceList:
        return SourceList(await asyncio.to_thread(list_sources, request.app.state.records, tenant))

    @get(
        "/sources/{source_id:str}",
        operation_id="getSource",
        summary="One source",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_source(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], source_id: FromPath[str]
    ) -> ListedSource:
        try:
            return await asyncio.to_thread(get_source, request.app.state.records, tenant, source_id)
        except NoSuchSourceError as error:
            raise Problem(404, str(error)) from error

    @post(
        "/sources",
        status_code=201,
        operation_id="addSource",
        operation_class=takes(Addition),
        summary="Add a source",
        description="Without a secret one is made, and given in this answer alone.",
        responses=problems.responses(400, 401, 403, 409, 413, 503),
    )
    async def add_source(self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]) -> AddedSource:
        asked = await read_body(request, Addition)
        return await _changed(request, lambda records, by: _add(records, tenant, asked, by))

    @patch(
        "/sources/{source_id:str}",
        operation_id="changeSource",
        operation_class=takes(Changes, {"replay_window": 600}),
        summary="Change a source",
        description="What is left out stays as it is. A new secret ends the others at once.",
        responses=problems.responses(400, 401, 403, 404, 409, 413, 503),
    )
    async def change_source(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], source_id: FromPath[str]
    ) -> ChangedSource:
        asked = await read_body(request, Changes)
        if asked == Changes():
            raise Problem(400, "The body has nothing to change; it may have " + ", ".join(_names(Changes)))
        return await _changed(
            request, lambda records, by: ChangedSource(**_members(*change(records, tenant, source_id, asked, by)))
        )

    @post(
        "/sources/{source_id:str}/secrets",
        status_code=201,
        operation_id="rotateSecret",
        operation_class=takes(Rotation),
        summary="Give a source a new secret",
        description="The others stay valid beside it for a time, a day unless given. Without a secret one is made, and "
        "given in this answer alone.",
        responses=problems.responses(400, 401, 403, 404, 409, 413, 503),
    )
    async def rotate_secret(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], source_id: FromPath[str]
    ) -> Rotated:
        asked = await read_body(request, Rotation)
        return await _changed(request, lambda records, by: rotate(records, tenant, source_id, asked, by))

    @put(
        "/sources/{source_id:str}/credential",
        operation_id="setCredential",
        operation_class=takes(Credential),
        summary="Give a source a read-only credential",
        description="With it the provider's record is asked what became of calls that were passed on. It takes the "
        "place of the one before.",
        responses=problems.responses(400, 401, 403, 404, 409, 413, 503),
    )
    async def set_credential(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], source_id: FromPath[str]
    ) -> ChangedSource:
        asked = await read_body(request, Credential)
        headers = list(asked.headers.items())
        return await _changed(
            request,
            lambda records, by: ChangedSource(**_members(give_credential(records, tenant, source_id, headers, by), [])),
        )

    @delete(
        "/sources/{source_id:str}/credential",
        status_code=200,
        operation_id="removeCredential",
        summary="Take a source's credential away",
        description="Where there is none, nothing is changed.",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def remove_credential(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], source_id: FromPath[str]
    ) -> ChangedSource:
        return await _changed(
            request,
            lambda records, by: ChangedSource(**_members(take_credential(records, tenant, source_id, by)[0], [])),
        )


async def _changed(request: Request[Any, Any, Any], work: Callable[[Records, str], T]) -> T:
    """What comes of that change, made with the records and by the id of the key; in a thread, for it waits for a lock.

    Raises Problem for what it refuses.
    """
    key: ApiKey = request.state.api_key
    intake: Intake = request.app.state.intake
    if intake.recorder.refusal is not None:
        raise _halted()
    try:
        return await asyncio.to_thread(work, request.app.state.records, key.id)
    except SettingError as error:
        raise Problem(400, str(error), details={error.member: str(error)}) from error
    except NoSuchSourceError as error:
        raise Problem(404, str(error)) from error
    except HeldSourceError as error:
        raise Problem(409, str(error), details={"reason": "held", "hold": error.hold_id}) from error
    except (TakenError, UnusableError) as error:
        raise Problem(409, str(error)) from error
    except StoreError as error:  # as when the recorder meets it
        intake.recorder.halt(str(error))
        raise _halted() from error


def _add(records: Records, tenant: Tenant, asked: Addition, by: str) -> AddedSource:
    settled = settle(asked)
    warnings = settled.warnings + warn_of_fork(records, settled.new.checking.log)
    source_id = add_source(records, tenant, settled.new, settled.secret, by)
    source = get_source(records, tenant, source_id)
    return AddedSource(**_members(source, warnings), secret=None if asked.secret else settled.secret)


def _halted() -> Problem:
    return Problem(503, f"Nothing was changed: {HALTED}", retry_after=RETRY_AFTER)


def _members(source: ListedSource, warnings: list[str]) -> dict[str, Any]:
    return {"warnings": warnings, **{name: getattr(source, name) for name in _names(ListedSource)}}


def _names(kind: type[Any]) -> list[str]:
    return [each.name for each in fields(kind)]
