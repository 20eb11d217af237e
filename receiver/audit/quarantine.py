"""`/v1/quarantine`: authentic deliveries that were not understood when they came, and what became of them since."""

import asyncio
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from receiver import parameters, problems, providers
from receiver.access import needs
from receiver.audit.quarantined import REASONS, Wanted, find_delivery, find_quarantined
from receiver.audit.shapes import QuarantinedDelivery, QuarantinedList
from receiver.parameters import DEFAULT_LIMIT, FLAGS, MAX_LIMIT, query
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant


class QuarantineController(Controller):
    """Needs a key with the scope `audit`; sees its tenant's deliveries and no others."""

    path = "/v1"
    tags = ("quarantine",)
    guards = (needs(Scope.AUDIT), parameters.only_known)
    security = ({"key": []},)

    @get(
        "/quarantine",
        operation_id="listQuarantine",
        summary="Quarantined deliveries, newest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_quarantine(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        source: Annotated[str | None, query("its id or name", pattern=parameters.TEXT)] = None,
        provider: Annotated[str | None, query(enum=providers.names())] = None,
        reason: Annotated[str | None, query(enum=[*REASONS])] = None,
        since: Annotated[str | None, query("RFC 3339, inclusive, of receipt", format="date-time")] = None,
        until: Annotated[str | None, query("RFC 3339, exclusive, of receipt", format="date-time")] = None,
        reprocessed: Annotated[str, query("whether those that were read again since", enum=[*FLAGS])] = "false",
        cursor: Annotated[str | None, query("the next_cursor of an earlier answer")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> QuarantinedList:
        wanted = Wanted(
            source=parameters.text("source", source),
            provider=parameters.choice("provider", provider, providers.names()),
            reason=parameters.choice("reason", reason, REASONS),
            reprocessed=parameters.flag("reprocessed", reprocessed),
            since=parameters.moment("since", since),
            until=parameters.moment("until", until),
            before=parameters.cursor(cursor),
        )
        return await asyncio.to_thread(_list, request.app.state.records, tenant, wanted, limit)

    @get(
        "/quarantine/{quarantine_id:str}",
        operation_id="getQuarantined",
        summary="One quarantined delivery, with its headers and body",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_quarantined(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], quarantine_id: FromPath[str]
    ) -> QuarantinedDelivery:
        found = None
        if parameters.readable(quarantine_id):
            found = await asyncio.to_thread(_get, request.app.state.records, tenant, quarantine_id)
        if found is None:
            raise Problem(404, f"There is no quarantined delivery {quarantine_id[:64]!a}")
        return found


def _list(records: Records, tenant: Tenant, wanted: Wanted, limit: int) -> QuarantinedList:
    with records.database.read() as tx:
        found, last = find_quarantined(tx, tenant, wanted, limit)
    return QuarantinedList(found, None if last is None else parameters.make_cursor(f"{last[0]}.{last[1]}"))


def _get(records: Records, tenant: Tenant, quarantine_id: str) -> QuarantinedDelivery | None:
    with records.database.read() as tx:
        return find_delivery(tx, tenant, quarantine_id)
