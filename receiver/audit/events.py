"""`/v1/events` and `/v1/items`: what was recorded, and what is the state of an item."""

import asyncio
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from receiver import problems, providers
from receiver.access import needs
from receiver.audit import parameters, queries
from receiver.audit.items import reversed_amount, state_of
from receiver.audit.shapes import AsOf, EventList, EventShape, ItemShape, ItemState
from receiver.events import Item
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000


class EventsController(Controller):
    """Needs a key with the scope `audit`; sees its tenant's events and no others."""

    path = "/v1"
    tags = ("audit",)
    guards = (needs(Scope.AUDIT), parameters.only_known)
    security = ({"key": []},)

    @get(
        "/events",
        operation_id="listEvents",
        summary="Recorded events, newest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_events(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        provider: FromQuery[str | None] = None,
        source: FromQuery[str | None] = None,
        item: Annotated[str | None, QueryParameter(description="type:id")] = None,
        cross_check: FromQuery[str | None] = None,
        effect: FromQuery[str | None] = None,
        breach: FromQuery[str | None] = None,
        via: FromQuery[str | None] = None,
        since: Annotated[str | None, QueryParameter(description="RFC 3339, inclusive")] = None,
        until: Annotated[str | None, QueryParameter(description="RFC 3339, exclusive")] = None,
        basis: Annotated[str, QueryParameter(description="received, occurred or logged")] = "logged",
        cursor: FromQuery[str | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> EventList:
        wanted = queries.Filter(
            provider=parameters.choice("provider", provider, providers.names()),
            source=parameters.text("source", source),
            item=parameters.item(item),
            effect=parameters.effect(effect),
            breach=parameters.code("breach", breach),
            via=parameters.via(via),
            cross_check=parameters.choice("cross_check", cross_check, parameters.CROSS_CHECKS),
            since=parameters.moment("since", since),
            until=parameters.moment("until", until),
            basis=parameters.choice("basis", basis, parameters.BASES) or "logged",
            before=parameters.cursor(cursor),
        )
        events, last = await asyncio.to_thread(_list, request.app.state.records, tenant, wanted, limit)
        return EventList(events, None if last is None else parameters.make_cursor(last))

    @get(
        "/events/{event_id:str}",
        operation_id="getEvent",
        summary="One event",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_event(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], event_id: FromPath[str]
    ) -> EventShape:
        event = await asyncio.to_thread(_get, request.app.state.records, tenant, parameters.event_id(event_id))
        if event is None:
            raise parameters.no_event(event_id)
        return event

    @get(
        "/items/{provider:str}/{item_type:str}/{item_id:path}",
        operation_id="getItem",
        summary="What is the state of an item, since when, with what evidence",
        description="An item that nothing was recorded about is `no_record` as of a checkpoint: an answer, no error.",
        responses=problems.responses(400, 401, 403, 404, 409, 503),
    )
    async def get_item(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        provider: FromPath[str],
        item_type: FromPath[str],
        item_id: FromPath[str],
        source: FromQuery[str | None] = None,
    ) -> ItemState:
        provider, item = parameters.item_in(request.scope["raw_path"])
        if provider not in providers.names():
            raise Problem(404, f"There is no provider {provider[:64]!a}; known: {', '.join(providers.names())}")
        as_of = AsOf(tenant.log.published.size, tenant.log.published.note.decode())
        records: Records = request.app.state.records
        events = await asyncio.to_thread(_item, records, tenant, provider, item, parameters.text("source", source))
        accounts = {event.account for event in events if not event.erased and event.account is not None}
        if len(accounts) > 1:
            raise Problem(
                409,
                f"{item.type} {item.id} is known in {len(accounts)} accounts; say which source is meant: ?source=",
                details={"source": ", ".join(sorted({event.source for event in events}))},
            )
        state, since = state_of(events)
        return ItemState(ItemShape(item.type, item.id), state, since, reversed_amount(events), as_of, events)


def _list(records: Records, tenant: Tenant, wanted: queries.Filter, limit: int) -> tuple[list[EventShape], str | None]:
    with records.database.read() as tx:
        return queries.find_events(tx, tenant, wanted, limit)


def _get(records: Records, tenant: Tenant, event_id: str) -> EventShape | None:
    with records.database.read() as tx:
        return queries.find_event(tx, tenant, event_id)


def _item(records: Records, tenant: Tenant, provider: str, item: Item, source: str | None) -> list[EventShape]:
    with records.database.read() as tx:
        return queries.find_item(tx, tenant, provider, item, source)
