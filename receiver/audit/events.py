"""`/v1/events` and `/v1/items`: what was recorded, and what is the state of an item."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from receiver import parameters, problems, providers
from receiver.access import needs
from receiver.audit import queries
from receiver.audit.items import reversed_in_all, state_of
from receiver.audit.shapes import AsOf, EventList, EventShape, ItemShape, ItemState
from receiver.events import Effect, Item, Via, may_be_one_account
from receiver.parameters import DEFAULT_LIMIT, MAX_LIMIT, query
from receiver.problems import Problem
from receiver.records.apikeys import Scope
from receiver.records.opening import Records, Tenant


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
        provider: Annotated[str | None, query(enum=providers.names())] = None,
        source: Annotated[str | None, query("its id or name", pattern=parameters.TEXT)] = None,
        item: Annotated[str | None, query("type:id", pattern=parameters.ITEM)] = None,
        cross_check: Annotated[str | None, query(enum=[*parameters.CROSS_CHECKS])] = None,
        effect: Annotated[str | None, query(enum=[one.value for one in Effect])] = None,
        breach: Annotated[str | None, query("a breach's code", pattern=parameters.CODE)] = None,
        via: Annotated[str | None, query(enum=[one.value for one in Via])] = None,
        detail: Annotated[str | None, query("name:value, of the details", pattern=parameters.DETAIL)] = None,
        test: Annotated[str | None, query("of test sources, or of others", enum=[*parameters.FLAGS])] = None,
        since: Annotated[str | None, query("RFC 3339, inclusive", format="date-time")] = None,
        until: Annotated[str | None, query("RFC 3339, exclusive", format="date-time")] = None,
        basis: Annotated[str, query("what the times are of", enum=[*parameters.BASES])] = "logged",
        cursor: Annotated[str | None, query("the next_cursor of an earlier answer")] = None,
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
            test=parameters.flag("test", test),
            detail=parameters.detail(detail),
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
        description="An item that nothing was recorded about is `no_record` as of a checkpoint: an answer, no error. "
        "Where accounts have an item of that id each, `source` or `account` must say which is meant (409). Events of "
        "test sources say nothing of it, unless `source` names one. A `source` that the tenant does not have is 404.",
        responses=problems.responses(400, 401, 403, 404, 409, 503),
    )
    async def get_item(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        provider: FromPath[str],
        item_type: FromPath[str],
        item_id: FromPath[str],
        source: Annotated[str | None, query("its id or name", pattern=parameters.TEXT)] = None,
        account: Annotated[str | None, query("as the provider names it", pattern=parameters.TEXT)] = None,
    ) -> ItemState:
        provider, item = parameters.item_in(request.scope["raw_path"])
        if provider not in providers.names():
            raise Problem(404, f"There is no provider {provider[:64]!a}; known: {', '.join(providers.names())}")
        wanted_source, wanted_account = parameters.text("source", source), parameters.text("account", account)
        as_of = AsOf(tenant.log.published.size, tenant.log.published.note.decode())
        records: Records = request.app.state.records
        found = await asyncio.to_thread(_item, records, tenant, provider, item, wanted_source)
        events = [event for event in found if may_be_one_account(event.account, wanted_account)]
        _must_be_one_account(item, events)
        unit = providers.get(provider).unit
        state, since = state_of(events, unit)
        taken_back = reversed_in_all(events, unit)
        return ItemState(
            item=ItemShape(item.type, item.id),
            state=state,
            since=since,
            reversed_amount=taken_back.amount,
            reversed_quantity=taken_back.quantity,
            as_of=as_of,
            events=events,
        )


def _must_be_one_account(item: Item, events: Sequence[EventShape]) -> None:
    """Raises Problem 409 where events are of several accounts. One that names none may be of any."""
    accounts = sorted({event.account for event in events if event.account is not None})
    if len(accounts) > 1:
        raise Problem(
            409,
            f"{item.type} {item.id} is known in {len(accounts)} accounts; say which is meant: ?source= or ?account=",
            details={"source": ", ".join(sorted({event.source for event in events})), "account": ", ".join(accounts)},
        )


def _list(records: Records, tenant: Tenant, wanted: queries.Filter, limit: int) -> tuple[list[EventShape], str | None]:
    with records.database.read() as tx:
        return queries.find_events(tx, tenant, wanted, limit)


def _get(records: Records, tenant: Tenant, event_id: str) -> EventShape | None:
    with records.database.read() as tx:
        return queries.find_event(tx, tenant, event_id)


def _item(records: Records, tenant: Tenant, provider: str, item: Item, source: str | None) -> list[EventShape]:
    with records.database.read() as tx:
        if source is not None and not queries.has_source(tx, tenant, source):
            raise Problem(404, f"There is no source {source[:64]!a}")
        return queries.find_item(tx, tenant, provider, item, source)
