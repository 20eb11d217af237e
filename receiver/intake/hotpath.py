"""The one hot path, in front of the framework.

A delivery needs neither routing nor content negotiation nor a response object, and these cost as much as all that is
done to keep it. So what is plainly a delivery goes straight to `Intake`; whatever is not, even a little, goes to the
framework, whose own route for it (`receiver.intake.routes`) answers the rest: other methods, other paths, the schema.
"""

import logging

from litestar import Litestar
from litestar.types import Receive, Scope, Send

from receiver.intake import answers
from receiver.intake.service import Intake
from receiver.problems import Problem

PREFIX = "/webhooks/"

_log = logging.getLogger(__name__)


class HotPath:
    """An ASGI application: deliveries to `intake`, everything else to the framework."""

    def __init__(self, framework: Litestar, intake: Intake) -> None:
        self.framework = framework
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            source = path[len(PREFIX) :]
            if path.startswith(PREFIX) and source and "/" not in source:
                try:
                    answer = await self._intake.receive(scope, receive, source)
                except Exception:  # noqa: BLE001  (the framework's handler of last resort, for this path)
                    _log.exception("a delivery to source %s failed", source)
                    answer = answers.problem(Problem(500, "This is a fault of ours, and it was logged"))
                await answer(scope, receive, send)
                return
        await self.framework(scope, receive, send)
