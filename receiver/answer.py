"""An answer that goes out as it is, past the framework's own building of responses."""

from litestar.types import Receive, Scope, Send


class Answer:
    """An ASGI application that sends one answer: status, headers, body. To HEAD the body stays unsent."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._status = status
        self._body = body
        self._headers = [*headers, (b"content-length", str(len(body)).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        body = b"" if scope["type"] == "http" and scope["method"] == "HEAD" else self._body
        await send({"type": "http.response.body", "body": body, "more_body": False})
