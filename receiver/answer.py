"""An answer that goes out as it is, past the framework's own building of responses, and what the schema says of it."""

from dataclasses import dataclass
from typing import Any

from litestar.openapi.spec import Operation
from litestar.types import Receive, Scope, Send


class Answer:
    """An ASGI application that sends one answer: status, headers, body. To HEAD the body stays unsent."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._status = status
        self._body = body
        # RFC 9110 section 8.6: an answer that cannot have a body has no length of one either.
        length = [] if status in {204, 304} else [(b"content-length", str(len(body)).encode())]
        self._headers = [*headers, *length]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        body = b"" if scope["type"] == "http" and scope["method"] == "HEAD" else self._body
        await send({"type": "http.response.body", "body": body, "more_body": False})


@dataclass
class OrText(Operation):
    """An operation whose answer may be plain text as well: of each answer the framework knows one type only."""

    def to_schema(self) -> dict[str, Any]:
        schema = super().to_schema()
        schema["responses"]["200"]["content"]["text/plain"] = {"schema": {"type": "string"}}
        return schema
