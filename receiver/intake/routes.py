"""`POST /webhooks/{source}`: raw bytes, signature first, then everything else.

The one hot route. It reads the body itself and returns an ASGI answer, past Litestar's body parsing and response
building; refusals are returned, not raised. Nothing of a body is looked at before it is authenticated, and a 2xx goes
out only once what it tells of is durable.
"""

from litestar.types import Receive, Scope, Send

RETRY_AFTER = 5  # seconds, when we cannot keep a delivery now


class Answer:
    """An answer that is sent as it is."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        self._body = body
        self._headers = [*headers, (b"content-length", str(len(body)).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
