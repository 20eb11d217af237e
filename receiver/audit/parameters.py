"""Query parameters, read strictly: what is not understood is a 400 that names it, never silently another question."""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from receiver.events import Effect, Item, Via, format_time, parse_time
from receiver.problems import Problem

CROSS_CHECKS = ("pending", "confirmed", "contradicted", "absent", "none")
BASES = ("received", "occurred", "logged")
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOT_OF_THE_QUERY = {"self", "request", "tenant"}
_PLACE = re.compile(r"(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})")


def invalid(name: str, value: str, expected: str) -> Problem:
    """The 400 for a parameter."""
    return Problem(400, f"{name} is {value[:80]!a}; it must be {expected}", details={name: expected})


async def only_known(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: every parameter of the query is one that the handler takes, and is given once."""
    names = handler.parsed_fn_signature.parameters.keys() - connection.path_params.keys() - _NOT_OF_THE_QUERY
    seen: set[str] = set()
    for name, value in connection.query_params.multi_items():
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise Problem(
                400, f"There is no parameter {name[:80]!a} here; known: {known}", details={name[:80]: "unknown"}
            )
        if name in seen:
            raise invalid(name, value, "given once")
        seen.add(name)


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


def make_cursor(place: str) -> str:
    """A cursor that is safe in a URL."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
