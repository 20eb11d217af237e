"""`/relay/{source}/{path}`: the provider's own operation, at its own path, called through here.

Only the base URL of the caller differs. The key for it travels in `X-Rescind-Key`, for `Authorization` is the
provider's, and is checked before anything else of the request is looked at. What is not exactly the operation of the
source's provider is answered 404: this is no open proxy.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

from litestar import Request
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import FromPath
from litestar.types import ASGIApp

from receiver import problems
from receiver.access import needs
from receiver.bodies import read_raw
from receiver.problems import Problem
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.opening import Tenant
from receiver.records.sources import NoSuchSourceError
from receiver.relay.answers import find_party
from receiver.relay.calls import KEY_HEADER, find, prepare
from receiver.relay.entries import Party
from receiver.relay.service import Relay

_SENT = re.compile("/relay/([^/]+)(/.*)")
"""A path as it came: the source, and the rest, which is the provider's."""


async def _pass_on(
    request: Request[Any, Any, Any],
    tenant: NamedDependency[Tenant],
    source: FromPath[str],  # noqa: ARG001  (what the schema tells of)
    path: FromPath[str],  # noqa: ARG001
) -> ASGIApp:
    # As it was sent: decoded, a slash within a parameter could not be told from one between two.
    sent = _SENT.fullmatch(request.scope["raw_path"].decode("ascii"))
    if sent is None:
        raise Problem(404, "There is nothing at this path. It begins with /relay/, a source, and a slash")
    party = await asyncio.to_thread(_party, request, tenant, unquote(sent[1]))
    operation = party.provider.operation
    parameters = find(operation, request.method, sent[2], request.scope["query_string"].decode("latin-1"))
    if parameters is None:
        raise Problem(404, f"Of this source's provider {operation.name} is passed on, and nothing else")
    outgoing = prepare(operation, parameters, request.scope["headers"], await read_raw(request))
    if outgoing is None:
        raise Problem(400, f"The body does not say what is to be taken back, as {operation.title} documents it")
    relay: Relay = request.app.state.relay
    key: ApiKey = request.state.api_key
    return cast("ASGIApp", await relay.pass_on(party, key.id, outgoing))


def _party(request: Request[Any, Any, Any], tenant: Tenant, named: str) -> Party:
    try:
        party = find_party(request.app.state.records, tenant, named)
    except NoSuchSourceError as error:
        raise Problem(404, str(error)) from error
    if not party.source.enabled:
        raise Problem(404, f"The source {party.source.name!a} is disabled, so nothing is passed on for it")
    if party.source.upstream is None:
        raise Problem(
            404,
            f"The source {party.source.name!a} has no upstream to pass calls on to: receiver source set NAME "
            "--upstream BASE_URL gives it one",
        )
    return party


_PATH = "/relay/{source:str}/{path:path}"
_GUARD = needs(Scope.OPERATE, header=KEY_HEADER)


@dataclass
class _Relayed(Operation):
    """The body is the provider's business; it is read only to know what the call is about."""

    def __post_init__(self) -> None:
        anything = Schema(description="As the provider documents it.")
        self.request_body = RequestBody(content={"application/json": OpenAPIMediaType(schema=anything)})


def relay_routes() -> list[HTTPRouteHandler]:
    """The route, and beside it what answers other methods as it does what is not the operation."""
    passing = HTTPRouteHandler(
        _PATH,
        http_method="POST",
        status_code=200,
        operation_id="relay",
        operation_class=_Relayed,
        summary="Pass a call on to the provider, and record it",
        description="The documented operation of the source's provider, with the caller's own headers and body; the "
        "answer is the provider's, whatever its status. The key is in `X-Rescind-Key`, and needs the scope `operate`.",
        tags=["relay"],
        guards=[_GUARD],
        security=[{"relay_key": []}],
        responses=problems.responses(400, 401, 403, 404, 408, 413, 429, 502, 503, 504),
    )
    others = HTTPRouteHandler(
        _PATH,
        http_method=["GET", "PUT", "PATCH", "DELETE"],
        status_code=200,
        guards=[_GUARD],
        include_in_schema=False,
    )
    return [passing(_pass_on), others(_pass_on)]
