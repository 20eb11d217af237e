"""The calls that may pass, and each as it goes out: exactly the provider's documented operation, and what it needs.

    parameters = find(operation, method, path, query)           None: it is another call, and does not pass
    outgoing = prepare(operation, parameters, headers, body)    None: it does not say what it is about

What goes out is the caller's own call: its headers in their order, its body byte for byte, its credentials. Left out is
what belongs to one connection only (RFC 9110 section 7.6.1), and the key that the caller has of us. Added is what makes
it safe to repeat, where the provider has something of the kind and the caller sent none. The path is not the caller's
text but built anew from its parameters, so that no two readers of it can see two paths.

Nothing here reaches anything outside.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes
from uuid import uuid4

from receiver.events import Item
from receiver.providers import Operation
from receiver.records.attempts import METHOD, PATH
from receiver.strictjson import Json, NotJson, parse
from receiver.upstream import IDENTITY, Headers, credentials_in, end_to_end

MAX_PARAMETER = 256
"""Characters of a parameter in a path, decoded."""

MAX_KEPT = 1024
"""Bytes of a header's value that is kept."""

KEY_HEADER = "x-rescind-key"
"""What the caller's API key of this receiver comes in: it never goes out."""

_NOT_PASSED_ON = frozenset((b"host", b"expect", b"accept-encoding", KEY_HEADER.encode()))

# With these some servers take another method or path for the request's than it has: it would be another operation.
_OVERRIDES = frozenset(
    (
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
    )
)

# A path's segment (RFC 3986 section 3.3) without ";", behind which some servers see parameters of their own.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-Fa-f]{2})+")
_NOT_IN_PARAMETER = frozenset("/\\?#%;")
_PRINTABLE = re.compile(rb"[ -~]*")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A caller's call as it goes out. It holds the caller's credentials, which its repr does not show."""

    operation: Operation
    parameters: Mapping[str, str]
    """Of the path, decoded."""
    request: dict[str, Json] = field(repr=False)
    """The JSON object that the body is; empty if it is none."""
    target: str
    """The path, percent-encoded, beginning as the operation's does."""
    headers: Headers = field(repr=False)
    """All there are but `Host` and `Content-Length`."""
    body: bytes = field(repr=False)
    idempotency_key: str | None = field(repr=False)
    """None where the provider has none, or what the caller sent for it is none: empty, not text, too long."""
    made_key: bool
    """Whether the idempotency key was made here."""
    item: Item
    """What the call is about."""

    @property
    def method(self) -> str:
        """The operation's."""
        return self.operation.method

    @property
    def kept(self) -> tuple[tuple[str, str], ...]:
        """What is kept of the request besides its body: method, path, idempotency header and content type.

        Names are in lower case, each once. A header is kept if its value is printable ASCII of at most `MAX_KEPT`
        bytes. None of them can hold a credential.
        """
        kept = [(METHOD, self.operation.method), (PATH, self.target)]
        for name in (self.operation.idempotency_header, "content-type"):
            value = None if name is None else _text(_value(self.headers, name))
            if name is not None and value is not None:
                kept.append((name.lower(), value))
        return tuple(kept)

    @property
    def credentials(self) -> list[bytes]:
        """What of its headers must not be kept: the credentials, also without what says their kind (`Bearer`)."""
        return credentials_in(self.headers, self.operation)


def find(operation: Operation, method: str, path: str, query: str) -> dict[str, str] | None:
    """The parameters of a request's path, decoded, if the request is that operation; else None.

    `path` is as it came, percent-encoded, from where the operation's begins; `query` is what followed its `?`. No
    operation documents a query, so a request with one is another.
    """
    return None if method != operation.method or query else parameters_of(operation, path)


def parameters_of(operation: Operation, path: str) -> dict[str, str] | None:
    """The parameters in a percent-encoded path, decoded, if it is that operation's; else None.

    Every part that is no parameter must be there letter for letter. A parameter is 1 to `MAX_PARAMETER` printable
    characters in UTF-8, and nothing that a server could take for more than a name: no slash of either kind, no `?`,
    `#`, `%` or `;`, encoded or not, and not `.` or `..`.
    """
    wanted, given = operation.path.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    parameters: dict[str, str] = {}
    for part, segment in zip(wanted, given, strict=True):
        if not part.startswith("{"):
            if segment != part:
                return None
            continue
        value = _parameter(segment)
        if value is None:
            return None
        parameters[part[1:-1]] = value
    return parameters


def prepare(
    operation: Operation, parameters: Mapping[str, str], headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> Outgoing | None:
    """A caller's request as it goes out: its headers as they came, its body, and the parameters that `find` gave.

    None if neither path nor body says what it is about.

    An idempotency key (a UUID of version 4) is added where the operation has one and the caller sent none: as its
    header, or as its member, first in the body if that is one JSON object. One in a wrong form is the provider's to
    refuse, and goes out as it came.
    """
    # Space around a value is not part of it (RFC 9110 section 5.5); a server may hand it over, and no client sends it.
    given = [(name, value.strip(b" \t")) for name, value in end_to_end(headers)]
    passed = [pair for pair in given if _may_pass(pair[0].lower())]
    request = _json(body)
    name, member = operation.idempotency_header, operation.idempotency_member
    key: str | None = None
    made: str | None = None
    if name is not None:
        value = _value(passed, name)
        if value is None:
            made = str(uuid4())
            passed.append((name.encode(), made.encode()))
        key = made or _text(value)
    elif member is not None and request is not None:
        if member not in request:
            made = str(uuid4())
            body = _with_member(body, member, made, alone=not request)
            request = {member: made, **request}
        value = request[member]
        key = _text(value.encode()) if isinstance(value, str) else None
    item = operation.item(parameters, request or {})
    if item is None:
        return None
    return Outgoing(
        operation=operation,
        parameters=parameters,
        request=request or {},
        target=_target(operation, parameters),
        headers=(*passed, IDENTITY),
        body=body,
        idempotency_key=key or None,
        made_key=made is not None,
        item=item,
    )


def _may_pass(name: bytes) -> bool:
    # Many servers know no difference between "-" and "_" in a name.
    return name not in _NOT_PASSED_ON and name.replace(b"_", b"-") not in _OVERRIDES


def _parameter(segment: str) -> str | None:
    if _SEGMENT.fullmatch(segment) is None:
        return None
    try:
        value = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    is_name = len(value) <= MAX_PARAMETER and value.isprintable() and value not in {".", ".."}
    return value if is_name and _NOT_IN_PARAMETER.isdisjoint(value) else None


def _target(operation: Operation, parameters: Mapping[str, str]) -> str:
    parts = operation.path.split("/")
    # With nothing safe, all but the unreserved characters of RFC 3986 section 2.3 are encoded: no other has a meaning.
    return "/".join(quote(parameters[part[1:-1]], safe="") if part.startswith("{") else part for part in parts)


def _json(body: bytes) -> dict[str, Json] | None:
    try:
        return parse(body)
    except NotJson:
        return None


def _with_member(body: bytes, name: str, value: str, *, alone: bool) -> bytes:
    """A JSON object's text with one member more, the first, and every byte of its own as it was."""
    brace = body.index(b"{") + 1
    return body[:brace] + f'"{name}":"{value}"{"" if alone else ","}'.encode() + body[brace:]


def _value(headers: Iterable[tuple[bytes, bytes]], name: str) -> bytes | None:
    """A header's value; of one that is repeated, what that means: all of them, with commas (RFC 9110 section 5.3)."""
    values = [value for given, value in headers if given.lower() == name.lower().encode()]
    return b", ".join(values) if values else None


def _text(value: bytes | None) -> str | None:
    if value is None or len(value) > MAX_KEPT or _PRINTABLE.fullmatch(value) is None:
        return None
    return value.decode()
