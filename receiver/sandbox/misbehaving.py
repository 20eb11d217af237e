"""Misbehaviour, on purpose: so that it can be seen what a receiver makes of it.

    POST /sandbox/log/fork                  the log shows another history: its last entry is exchanged, and signed for
    POST /sandbox/log/down, …/log/up        the log answers 503, or as it should again
    POST /sandbox/withhold/<provider>       the provider's next notice is never delivered; `?notices=3`: so many

That the log is down, and what is withheld, is forgotten when the sandbox ends. A fork is for good.
"""

import asyncio
from typing import Annotated, Any

from litestar import Controller, Request, post
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath, QueryParameter

from receiver.sandbox.issuers import issuers
from receiver.sandbox.ledger import Ledger


class MisbehavingController(Controller):
    """For whoever tries a receiver out."""

    path = "/sandbox"

    @post("/log/fork", status_code=200)
    async def fork(self, request: Request[Any, Any, Any]) -> dict[str, int]:
        index = await asyncio.to_thread(_ledger(request).fork)
        if index is None:
            raise ClientException("The log has no entry yet; take something back first", status_code=409)
        return {"exchanged": index}

    @post("/log/down", status_code=204)
    async def take_down(self, request: Request[Any, Any, Any]) -> None:
        _ledger(request).log_is_down = True

    @post("/log/up", status_code=204)
    async def bring_up(self, request: Request[Any, Any, Any]) -> None:
        _ledger(request).log_is_down = False

    @post("/withhold/{provider:str}", status_code=204)
    async def withhold(
        self,
        request: Request[Any, Any, Any],
        provider: FromPath[str],
        notices: Annotated[int, QueryParameter(ge=0, le=1000)] = 1,
    ) -> None:
        if provider not in issuers():
            raise NotFoundException(f"There is no provider {provider[:64]!a}; known: {', '.join(issuers())}")
        _ledger(request).withhold(provider, notices)


def _ledger(request: Request[Any, Any, Any]) -> Ledger:
    ledger: Ledger = request.app.state.ledger
    return ledger
