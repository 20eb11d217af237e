"""Query parameters, read strictly: what is not understood is a 400 that names it, never silently another question."""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from litestar.connection import ASGIConnection
from litestar.constants import RESERVED_KWARGS
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import OpenAPIType
from litestar.params import HeaderParameter, QueryParameter
from litestar.typing import FieldDefinition

from receiver.documents import is_uuid
from receiver.events import Effect, Item, Via, format_time, parse_time
from receiver.problems import Problem

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
"""How many things a page of a list has."""

CROSS_CHECKS = ("pending", "confirmed", "contradicted", "absent", "none")
BASES = ("received", "occurred", "logged")
FLAGS = ("true", "false")
MAX_NUMBER = 2**63 - 1
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DETAIL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_PLACE = re.compile(r"(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})")

_READABLE = r"[^\u0000\uFFFD]"
TEXT = f"^{_READABLE}*$"
ITEM = rf"^[^:\u0000\uFFFD]+:{_READABLE}+$"
DETAIL = f"^{_DETAIL.pattern}:{_READABLE}*$"
CODE = f"^{_CODE.pattern}$"
HASH = "^[0-9a-fA-F]{64}$"
"""How these are written, for the schema."""


def query(description: str | None = None, **schema: Any) -> QueryParameter:
    """What the schema says of a parameter that may be left out, in words of JSON Schema: of a string, unless they say
    otherwise. Of itself the framework would say that it may be null, which nothing in a query can be.
    """
    extra: dict[str, Any] = {"one_of": None, "type": OpenAPIType.STRING, **schema}
    return QueryParameter(description=description, schema_extra=extra)


def header(name: str, description: str) -> HeaderParameter:
    """The same of a header."""
    extra: dict[str, Any] = {"one_of": None, "type": OpenAPIType.STRING}
    return HeaderParameter(name=name, description=description, schema_extra=extra)


def number(least: int, description: str | None = None) -> QueryParameter:
    """The same of a whole number, which is refused if it is out of range; the framework would round the limits."""
    extra = {"one_of": None, "type": OpenAPIType.INTEGER, "minimum": least, "maximum": MAX_NUMBER}
    return QueryParameter(description=description, ge=least, le=MAX_NUMBER, schema_extra=extra)


def invalid(name: str, value: str, expected: str) -> Problem:
    """The 400 for a parameter."""
    return Problem(400, f"{name} is {value[:80]!a}; it must be {expected}", details={name: expected})


async def only_known(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: each parameter of the query is one that the handler takes, given once, and none it needs is missing.

    An integer is written in plain digits: the framework would take `1.0` for 1.
    """
    fields = _of_the_query(connection, handler)
    seen: set[str] = set()
    for name, value in connection.query_params.multi_items():
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise Problem(
                400, f"There is no parameter {name[:80]!a} here; known: {known}", details={name[:80]: "unknown"}
            )
        if name in seen:
            raise invalid(name, value, "given once")
        if _is_integer(fields[name]) and not _INTEGER.fullmatch(value):
            raise invalid(name, value, "an integer")
        seen.add(name)
    for name in sorted(fields.keys() - seen):
        if fields[name].is_required:
            raise Problem(400, f"{name} is missing", details={name: "required"})


def _of_the_query(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> dict[str, FieldDefinition]:
    elsewhere = connection.path_params.keys() | RESERVED_KWARGS
    fields = handler.parsed_fn_signature.parameters
    return {name: field for name, field in fields.items() if name not in elsewhere and not field.is_di_field}


def _is_integer(field: FieldDefinition) -> bool:
    return int in {field.annotation, *(inner.annotation for inner in field.inner_types)}


def choice(name: str, value: str | None, among: Iterable[str]) -> str | None:
    """One of those, or None if it was not given."""
    known = list(among)
    if value is not None and value not in known:
        raise invalid(name, value, "one of " + ", ".join(known))
    return value


def readable(value: str) -> bool:
    """Whether a text can have been meant: neither NUL nor the sign that stands where something was not UTF-8."""
    return "\0" not in value and "\ufffd" not in value


def effect(value: str | None) -> str | None:
    """An effect."""
    return choice("effect", value, Effect)


def via(value: str | None) -> str | None:
    """A way in."""
    return choice("via", value, Via)


def code(name: str, value: str | None) -> str | None:
    """A code, as breaches have them."""
    if value is not None and not _CODE.fullmatch(value):
        raise invalid(name, value, "a code such as revoked_again")
    return value


def moment(name: str, value: str | None) -> str | None:
    """A time, as it stands in rows: UTC with six fraction digits."""
    if value is None:
        return None
    try:
        return format_time(parse_time(value))
    except ValueError:
        raise invalid(name, value, "an RFC 3339 time such as 2026-11-20T09:00:00Z (a plus sign is %2B)") from None


def item(value: str | None) -> Item | None:
    """An item written `type:id`."""
    if value is None:
        return None
    kind, colon, identifier = value.partition(":")
    if not (kind and colon and identifier) or not readable(value):
        raise invalid("item", value, "type:id, such as receipt:3f0c…")
    return Item(kind, identifier)


def flag(name: str, value: str | None) -> bool | None:
    """True or false, in these words, or None if it was not given."""
    chosen = choice(name, value, FLAGS)
    return None if chosen is None else chosen == "true"


def detail(value: str | None) -> tuple[str, str] | None:
    """A member of the details, written `name:value`."""
    if value is None:
        return None
    name, colon, text = value.partition(":")
    if not (colon and _DETAIL.fullmatch(name)) or not readable(text):
        raise invalid("detail", value, "name:value, such as receipt_type:payment_receipt")
    return name, text


def text(name: str, value: str | None) -> str | None:
    """Any text that a row can hold."""
    if value is not None and not readable(value):
        raise invalid(name, value, "text in UTF-8 without a NUL")
    return value


def event_id(value: str) -> str:
    """The id of an event. What cannot be one is 404, as any other that is not there."""
    if not _ID.fullmatch(value):
        raise no_event(value)
    return value


def no_event(value: str) -> Problem:
    """The 404 for an event."""
    return Problem(404, f"There is no event {value[:64]!a}")


def item_in(raw_path: bytes) -> tuple[str, Item]:
    """The provider and the item that `/v1/items/{provider}/{type}/{id}` names, as it is written there.

    From the raw path, for the framework takes `a//b` and `a/` for `a/b` and `a`, which may be other items.
    """
    written = raw_path.decode("latin-1").split("/", 5)
    try:
        provider, kind, identifier = (unquote(part, errors="strict") for part in written[3:])
    except ValueError:
        raise Problem(404, "The path must be /v1/items/{provider}/{type}/{id}, percent-encoded UTF-8") from None
    return provider, Item(text("type", kind) or "", text("id", identifier) or "")


def cursor(value: str | None) -> tuple[int, int] | None:
    """The place a `next_cursor` stands for."""
    if value is None:
        return None
    try:
        text = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    match = _PLACE.fullmatch(text)
    if match is None or make_cursor(text) != value:
        raise invalid("cursor", value, "the next_cursor of an earlier answer")
    return int(match[1]), int(match[2])


def id_cursor(value: str | None) -> str | None:
    """The id of the last one that was given, where that is the cursor: it is safe in a URL as it is."""
    if value is not None and (not is_uuid(value) or value != value.lower()):
        raise invalid("cursor", value, "the next_cursor of an earlier answer")
    return value


def make_cursor(place: str) -> str:
    """A cursor that is safe in a URL."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
