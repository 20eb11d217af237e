"""The ceiling: a plain Litestar route that checks the signature, parses and reads like the receiver, and keeps nothing.

python bench/ceiling.py PORT SECRET
"""

import sys
import time
from typing import Any

from litestar import Litestar, Request, Response, get, post
from litestar.params import FromPath

from receiver import providers
from receiver.intake.signatures import Refused, Secret, StandardWebhooks, verifier
from receiver.server import listen, serve
from receiver.strictjson import parse


def main() -> None:
    """Serve on that port until it is stopped."""
    port, secret = sys.argv[1:]
    checks = verifier(StandardWebhooks(), [Secret("bench", secret)], 300)
    provider = providers.get("truthlocks")

    @get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @post("/webhooks/{source:str}", status_code=200)
    async def receive(request: Request[Any, Any, Any], source: FromPath[str]) -> Response[dict[str, str]]:
        body = await request.body()
        verdict = checks.verify(list(request.scope["headers"]), body, time.time())
        if isinstance(verdict, Refused):
            return Response({"status": "refused"}, status_code=401)
        provider.read(parse(body))
        return Response({"status": "read"})

    serve(Litestar([live, receive], openapi_config=None, logging_config=None), listen("127.0.0.1", int(port)), 10)


if __name__ == "__main__":
    main()
