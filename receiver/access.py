"""Who may ask: API keys, their scopes, and the tenant that comes from them and from nothing else.

@get(…, guards=[needs(Scope.AUDIT)])
async def handler(tenant: Tenant, …)
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from receiver.problems import Code, Problem
from receiver.records.apikeys import ApiKey, Scope, Uses, find_key
from receiver.records.opening import Records, Tenant

_BEARER = "bearer "

Guard: TypeAlias = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]


def needs(scope: Scope, *, header: str | None = None) -> Guard:
    """A guard: a valid key with that scope, else 401 or 403.

    The key is in that header alone, where `Authorization` is not ours; else it is a bearer's. A 401 says which.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if header is None:
            await authorize(connection, scope)
        else:
            await _authorize(connection, scope, _in(header, connection), _challenge(header))

    return guard


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], scope: Scope) -> ApiKey:
    """The key a request presents. Raises Problem 401 without a valid one, 403 without the scope."""
    return await _authorize(connection, scope, _bearer(connection), Problem.challenge)


def _bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    given = connection.headers.getall("authorization", [])
    if not given:
        raise Problem(401, "This needs an API key: Authorization: Bearer <key>. `receiver key create` makes one")
    if len(given) > 1 or not given[0].lower().startswith(_BEARER):
        raise Problem(401, "Authorization must be given once, as Bearer <key>", Code.AUTH_INVALID)
    return given[0][len(_BEARER) :].strip()


def _in(header: str, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    given, challenge = connection.headers.getall(header, []), _challenge(header)
    if not given:
        why = f"This needs an API key in the header {header}. `receiver key create` makes one"
        raise Problem(401, why, challenge=challenge)
    if len(given) > 1:
        raise Problem(401, f"The header {header} must be given once", Code.AUTH_INVALID, challenge=challenge)
    return given[0].strip()


def _challenge(header: str) -> str:
    """Says that a key in `Authorization` would not do: the scheme (RFC 9110 section 11.1) is named as the header is."""
    return f'{header.title()} realm="rescind"'


async def _authorize(
    connection: ASGIConnection[Any, Any, Any, Any], scope: Scope, presented: str, challenge: str
) -> ApiKey:
    records: Records = connection.app.state.records
    key = await asyncio.to_thread(find_key, records, presented, datetime.now(UTC))
    if key is None:
        raise Problem(401, "This API key is unknown, expired or revoked", Code.AUTH_INVALID, challenge=challenge)
    if scope not in key.scopes:
        raise Problem(403, f"This needs a key with the scope {scope}", details={"scope": scope})
    uses: Uses = connection.app.state.uses
    uses.add(key)
    connection.state.api_key = key
    return key


async def provide_tenant(request: Request[Any, Any, Any]) -> Tenant:
    """The tenant of the key that a guard has let through."""
    key: ApiKey = request.state.api_key
    records: Records = request.app.state.records
    tenant = records.tenant(key.tenant)
    if tenant.log.published_size == 0:  # another process made it a moment ago, and this one has not seen a checkpoint
        await asyncio.to_thread(tenant.log.refresh)
    return tenant
