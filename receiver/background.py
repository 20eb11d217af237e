"""What goes on in the background of the service: again and again, or on a loop of its own.

every(0.5, endpoints.refresh)           a coroutine for the application's loop, which never ends by itself
Aside("following", following.run)       a coroutine on another loop, in a thread: what computes for long there keeps
no delivery waiting, as it would on the application's
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

THREADS = 6
"""Of the loop in a thread, for what waits for the database: few, for each may have one of its connections."""

_log = logging.getLogger(__name__)


async def every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do that work for ever; a failure is logged once, and the next turn tries again."""
    logged = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:  # noqa: BLE001  (a database out of reach now is back later)
            said = f"{type(error).__name__}: {error}"
            if said != logged:
                # A database may be away; for anything else it helps to know where it came from.
                _log.warning("%s", said, exc_info=None if isinstance(error, SQLAlchemyError) else error)
            logged = said
        else:
            logged = ""


class Aside:
    """Runs a coroutine on a loop and in a thread of its own, until `stop` cancels it."""

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._work = work
        self._thread = Thread(target=lambda: asyncio.run(self._main()), name=name)
        self._began: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def stop(self) -> None:
        """Cancel it, and wait until it has ended, with all that it left to threads."""
        loop, task = await asyncio.wrap_future(self._began)
        with contextlib.suppress(RuntimeError):  # it has ended by itself, and its loop is closed
            loop.call_soon_threadsafe(task.cancel)
        await asyncio.to_thread(self._thread.join)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(THREADS, self._name))
        task = loop.create_task(self._work())
        self._began.set_result((loop, task))
        with contextlib.suppress(asyncio.CancelledError):
            await task
