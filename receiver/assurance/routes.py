"""`/v1/subscriptions`: which of the log's entries go to which of the operator's own systems.

A secret goes in, and out once where it was made here: in the answer to the request that had it made. Changes are told
in the log with the id of the key that asked for them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from litestar import Controller, HttpMethod, Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from receiver import problems
from receiver.access import needs
from receiver.assurance import subscribing
from receiver.assurance.subscribing import (
    Listed,
    NameTakenError,
    NoSuchSubscriptionError,
    Replay,
    Resubscribe,
    Subscribe,
    SubscriptionError,
)
from receiver.bodies import no_parameters, read_body, takes
from receiver.problems import Problem
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.opening import Records, Tenant
from translog.errors import StoreError

T = TypeVar("T")

RETRY_AFTER = 5  # seconds


@dataclass(frozen=True, slots=True)
class SubscriptionList:
    """Every subscription of a tenant, oldest first."""

    items: list[Listed]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedSubscription(Listed):
    """A subscription as it is after a change, and what there is to warn of."""

    warnings: list[str]


@dataclass(frozen=True, slots=True)
class AddedSubscription(ChangedSubscription):
    """A new subscription, with its secret if that was made here."""

    secret: str | None = field(repr=False)


class SubscriptionsController(Controller):
    """Needs a key with the scope `admin`; sees and changes its tenant's subscriptions and no others."""

    path = "/v1"
    tags = ("subscriptions",)
    guards = (needs(Scope.ADMIN), no_parameters)
    security = ({"key": []},)

    @get(
        "/subscriptions",
        operation_id="listSubscriptions",
        summary="Every subscription, oldest first",
        responses=problems.responses(400, 401, 403, 503),
    )
    async def list_subscriptions(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]
    ) -> SubscriptionList:
        return SubscriptionList(await asyncio.to_thread(subscribing.list_all, request.app.state.records, tenant))

    @get(
        "/subscriptions/{subscription_id:str}",
        operation_id="getSubscription",
        summary="One subscription",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def get_subscription(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], subscription_id: FromPath[str]
    ) -> Listed:
        return await _done(request, lambda records, _: subscribing.get(records, tenant, subscription_id))

    @post(
        "/subscriptions",
        status_code=201,
        operation_id="addSubscription",
        operation_class=takes(Subscribe),
        summary="Add a subscription",
        description="It begins at the log's end unless an index is given. Without a secret one is made, and given in "
        "this answer alone.",
        responses=problems.responses(400, 401, 403, 409, 413, 503),
    )
    async def add_subscription(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant]
    ) -> AddedSubscription:
        asked = await read_body(request, Subscribe)
        added = await _done(request, lambda records, by: subscribing.subscribe(records, tenant, asked, by))
        return AddedSubscription(**_members(added.subscription), warnings=added.warnings, secret=added.secret)

    @patch(
        "/subscriptions/{subscription_id:str}",
        operation_id="changeSubscription",
        operation_class=takes(Resubscribe),
        summary="Change a subscription",
        description="What is left out stays as it is. With another URL or secret, or enabled again, what is waiting is "
        "sent at once.",
        responses=problems.responses(400, 401, 403, 404, 413, 503),
    )
    async def change_subscription(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], subscription_id: FromPath[str]
    ) -> ChangedSubscription:
        asked = await read_body(request, Resubscribe)
        if asked == Resubscribe():
            names = ", ".join(each.name for each in fields(Resubscribe))
            raise Problem(400, f"The body has nothing to change; it may have {names}")
        changed, warnings = await _done(
            request, lambda records, by: subscribing.resubscribe(records, tenant, subscription_id, asked, by)
        )
        return ChangedSubscription(**_members(changed), warnings=warnings)

    @delete(
        "/subscriptions/{subscription_id:str}",
        status_code=200,
        operation_id="removeSubscription",
        summary="Remove a subscription",
        description="With all that waits to be sent. The answer is how it was.",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def remove_subscription(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], subscription_id: FromPath[str]
    ) -> Listed:
        def remove(records: Records, by: str) -> Listed:
            listed = subscribing.get(records, tenant, subscription_id)
            subscribing.unsubscribe(records, tenant, subscription_id, by)
            return listed

        return await _done(request, remove)

    @post(
        "/subscriptions/{subscription_id:str}/replay",
        status_code=200,
        operation_id="replaySubscription",
        operation_class=takes(Replay),
        summary="Pass entries on once more",
        description="From and to these indexes, of those that were passed on so far: also what was given up.",
        responses=problems.responses(400, 401, 403, 404, 413, 503),
    )
    async def replay(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], subscription_id: FromPath[str]
    ) -> Listed:
        asked = await read_body(request, Replay)
        return await _done(request, lambda records, _: subscribing.replay(records, tenant, subscription_id, asked))


async def _done(request: Request[Any, Any, Any], work: Callable[[Records, str], T]) -> T:
    """What comes of that, done with the records and the id of the key; in a thread, for it waits for locks and names.

    Raises Problem for what it refuses.
    """
    key: ApiKey = request.state.api_key
    if request.method != HttpMethod.GET and request.app.state.intake.recorder.refusal is not None:
        raise _halted()
    try:
        return await asyncio.to_thread(work, request.app.state.records, key.id)
    except SubscriptionError as error:
        raise Problem(400, str(error), details={error.member: str(error)}) from error
    except NoSuchSubscriptionError as error:
        raise Problem(404, str(error)) from error
    except NameTakenError as error:
        raise Problem(409, str(error)) from error
    except StoreError as error:
        raise _halted() from error


def _halted() -> Problem:
    why = "Nothing was changed: recording has stopped; /health/ready says why"
    return Problem(503, why, retry_after=RETRY_AFTER)


def _members(listed: Listed) -> dict[str, Any]:
    return {each.name: getattr(listed, each.name) for each in fields(Listed)}
