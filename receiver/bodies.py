"""The JSON that a request brings, read strictly: what is not understood is a 400 that names it.

    @post(…, operation_class=takes(Addition))
    async def handler(request: Request, …) -> …:
        asked = await read_body(request, Addition)

The framework would read a body into a parameter by itself, and answers a document that is nested too deep, or not
UTF-8, as if that were a fault of ours. So a handler reads its body here, by the reader that deliveries go through, into
a frozen dataclass; a member that this has not is refused, for it may have been meant.

A body may hold a secret: no message repeats a string.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Operation

from receiver.problems import Problem
from receiver.records.opening import Records
from receiver.strictjson import NotJson, Number, parse

T = TypeVar("T")

# As msgspec says what is wrong, and where: "Expected `int` >= 1 - at `$.replay_window`".
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_NAME = re.compile(r"\$\.(\w+)")


async def read_body(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """The body of a request as a `kind`, whose fields are its members.

    Raises Problem 400 for what is no JSON object, and for a member that is unknown, missing, or not as its type says;
    413 if it is larger than a delivery may be.
    """
    try:
        document = parse(await read_raw(request))
    except NotJson as error:
        raise Problem(400, f"The body cannot be read: {error}") from error
    known: list[str] = list(_schema(kind)["properties"])
    for name in document:
        if name not in known:
            raise Problem(
                400,
                f"There is no member {name[:80]!a} here; known: {', '.join(known)}",
                details={name[:80]: "unknown"},
            )
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise _not_as_its_type(kind, document, str(error)) from None


async def read_raw(request: Request[Any, Any, Any]) -> bytes:
    """The body of a request as it came. Raises Problem 413 if it is larger than a delivery may be."""
    try:
        return await request.body()
    except RequestEntityTooLarge as error:
        records: Records = request.app.state.records
        raise Problem(413, f"The body of a request is at most {records.settings.max_body} bytes") from error


def takes(kind: type[Any], example: Mapping[str, Any] | None = None) -> type[Operation]:
    """What a handler's schema says of a body that is read as a `kind`: its `operation_class`."""
    media: dict[str, Any] = {"schema": {**_schema(kind), "additionalProperties": False}}
    if example is not None:
        media["example"] = example
    content = {"application/json": media}

    @dataclass
    class _Taking(Operation):
        def to_schema(self) -> dict[str, Any]:
            return {**super().to_schema(), "requestBody": {"required": True, "content": content}}

    return _Taking


async def no_parameters(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: nothing is asked in the query of what takes nothing there."""
    for name in connection.query_params:
        raise Problem(400, f"There is no parameter {name[:80]!a} here; known: none", details={name[:80]: "unknown"})


def _not_as_its_type(kind: type[Any], document: Mapping[str, object], message: str) -> Problem:
    if missing := _MISSING.fullmatch(message):
        return Problem(400, f"{missing[1]} is missing", details={missing[1]: "required"})
    said, _, place = message.rpartition(" - at ")
    member: str = _NAME.findall(place)[0]
    its: dict[str, Any] = _schema(kind)["properties"][member]
    choices: list[str] = its.get("enum", [])
    of_items: list[str] = its.get("items", {}).get("enum", [])
    if choices:
        expected = f"one of {', '.join(choices)}"
    elif of_items:
        expected = f"an array of some of {', '.join(of_items)}"
    else:
        expected = said.replace("`", "").removeprefix("Expected ").replace(", got Number", _of_number(document[member]))
    return Problem(400, f"{member} must be {expected}", details={member: expected})


def _of_number(value: object) -> str:
    """What is wrong with a number that is not read as one: it is too large, or not written as a whole one."""
    is_whole = not isinstance(value, Number) or value.literal.lstrip("-").isdecimal()
    return " below 2^53" if is_whole else ", written without a fraction or an exponent"


def _schema(kind: type[Any]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components((kind,))
    return components[kind.__name__]
