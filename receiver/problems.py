"""Error answers: RFC 9457 `application/problem+json`, with the codes of the field.

    {"type","title","status","detail","code","details","retry_after_ms"}

`code` is a word of an enumeration that the providers' own clients already know.
"""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

from litestar.openapi.datastructures import ResponseSpec

CONTENT_TYPE = "application/problem+json"


class Code(StrEnum):
    """What went wrong, for machines."""

    AUTH_REQUIRED = "AUTH_REQUIRED"
    AUTH_INVALID = "AUTH_INVALID"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    TENANT_IDENTITY_UNVERIFIED = "TENANT_IDENTITY_UNVERIFIED"
    NOT_FOUND = "NOT_FOUND"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    CONFLICT = "CONFLICT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


STATUS: dict[Code, int] = {
    Code.AUTH_REQUIRED: 401,
    Code.AUTH_INVALID: 401,
    Code.PERMISSION_DENIED: 403,
    Code.TENANT_IDENTITY_UNVERIFIED: 403,
    Code.NOT_FOUND: 404,
    Code.VALIDATION_ERROR: 400,
    Code.CONFLICT: 409,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.RATE_LIMIT_EXCEEDED: 429,
    Code.QUOTA_EXCEEDED: 429,
    Code.SERVICE_UNAVAILABLE: 503,
    Code.INTERNAL_ERROR: 500,
}
"""The status that goes with each code; of several codes with the same one, the first is meant where none is named."""

_CODES = {status: code for code, status in reversed(STATUS.items())}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818
    """An error answer: may be raised by a handler, or sent as it is. `retry_after` is in seconds."""

    status: int
    detail: str
    code: Code | None = None
    details: dict[str, str] = field(default_factory=dict[str, str])
    retry_after: int | None = None
    challenge: str = 'Bearer realm="rescind"'  # of a 401: how to authenticate

    @property
    def body(self) -> bytes:
        """The JSON."""
        code = self.code or _CODES.get(self.status) or default_code(self.status)
        return json.dumps(
            {
                "type": "about:blank",
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
                "code": code,
                "details": self.details,
                "retry_after_ms": None if self.retry_after is None else self.retry_after * 1000,
            }
        ).encode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to it, `content-type` apart."""
        headers = {"cache-control": "no-store"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = self.challenge
        return headers


@dataclass(frozen=True, slots=True)
class ProblemBody:
    """The members of an error answer, for the schema."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    details: dict[str, str]
    retry_after_ms: int | None


def responses(*statuses: int) -> dict[int, ResponseSpec]:
    """What a handler's schema says of its error answers."""
    return {
        status: ResponseSpec(
            ProblemBody, description=HTTPStatus(status).phrase, media_type=CONTENT_TYPE, generate_examples=False
        )
        for status in statuses
    }


def default_code(status: int) -> Code:
    """The code of a status that has none of its own."""
    return Code.VALIDATION_ERROR if status < HTTPStatus.INTERNAL_SERVER_ERROR else Code.INTERNAL_ERROR
