"""`/v1/attempts`: the calls that were passed on, and what became of each."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from receiver import parameters, problems, providers
from receiver.access import needs
from receiver.audit.attempted import OUTCOMES, Wanted, find_attempt, find_attempts, given_up
from receiver.audit.shapes import AttemptList, AttemptShape
from receiver.parameters import DEFAULT_LIMIT, MAX_LIMIT, query
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant


class AttemptsController(Controller):
    """Needs a key with the scope `audit`; sees its tenant's calls and no others."""

    path = "/v1"
    tags = ("relay",)
    guards = (needs(Scope.AUDIT), parameters.only_known)
    security = ({"key": []},)

    @get(
        "/attempts",
        operation_id="listAttempts",
        summary="Calls that were passed on, newest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_attempts(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        source: Annotated[str | None, query("its id or name", pattern=parameters.TEXT)] = None,
        provider: Annotated[str | None, query(enum=providers.names())] = None,
        outcome: Annotated[str | None, query(enum=[*OUTCOMES])] = None,
        item: Annotated[str | None, query("type:id", pattern=parameters.ITEM)] = None,
        key: Annotated[str | None, query("the id of an API key", pattern=parameters.TEXT)] = None,
        since: Annotated[str | None, query("RFC 3339, inclusive, of the start", format="date-time")] = None,
        until: Annotated[str | None, query("RFC 3339, exclusive, of the start", format="date-time")] = None,
        test: Annotated[str | None, query("of test sources, or of others", enum=[*parameters.FLAGS])] = None,
        cursor: Annotated[str | None, query("the next_cursor of an earlier answer")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> AttemptList:
        wanted = Wanted(
            source=parameters.text("source", source),
            provider=parameters.choice("provider", provider, providers.names()),
            outcome=parameters.choice("outcome", outcome, OUTCOMES),
            item=parameters.item(item),
            key=parameters.text("key", key),
            since=parameters.moment("since", since),
            until=parameters.moment("until", until),
            test=parameters.flag("test", test),
            before=parameters.id_cursor(cursor),
        )
        return await asyncio.to_thread(_list, request.app.state.records, tenant, wanted, limit)

    @get(
        "/attempts/{attempt_id:str}",
        operation_id="getAttempt",
        summary="One call that was passed on",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_attempt(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], attempt_id: FromPath[str]
    ) -> AttemptShape:
        found = None
        if parameters.readable(attempt_id):
            found = await asyncio.to_thread(_get, request.app.state.records, tenant, attempt_id)
        if found is None:
            raise Problem(404, f"There is no call {attempt_id[:64]!a} that was passed on")
        return found


def _list(records: Records, tenant: Tenant, wanted: Wanted, limit: int) -> AttemptList:
    late = given_up(records.settings.relay_timeout, datetime.now(UTC))
    with records.database.read() as tx:
        found, last = find_attempts(tx, tenant, wanted, limit, late)
    return AttemptList(found, last)


def _get(records: Records, tenant: Tenant, attempt_id: str) -> AttemptShape | None:
    late = given_up(records.settings.relay_timeout, datetime.now(UTC))
    with records.database.read() as tx:
        return find_attempt(tx, tenant, attempt_id, late)
