"""What goes on in the background: again and again whatever fails, and on a loop of its own until it is stopped."""

import asyncio
import logging
import threading

import pytest
from sqlalchemy.exc import OperationalError

from receiver.background import Aside, every


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    """What was logged, and whether it was told where it came from."""
    return [(one.getMessage().split("\n")[0], bool(one.exc_info)) for one in caplog.records]


def test_what_fails_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Until it is another failure, or it went well in between; of a database only what it says."""
    away = OperationalError("SELECT", {}, Exception("the connection is lost"))
    outcomes = [away, away, None, away, ValueError("another"), ValueError("another"), None]

    async def main() -> None:
        done = asyncio.Event()

        async def work() -> None:
            if len(outcomes) == 1:
                done.set()
            outcome = outcomes.pop(0) if len(outcomes) > 1 else None
            if outcome is not None:
                raise outcome

        task = asyncio.create_task(every(0, work))
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.WARNING, "receiver.background"):
        asyncio.run(main())

    lost = "OperationalError: (builtins.Exception) the connection is lost"
    assert warnings(caplog) == [(lost, False), (lost, False), ("ValueError: another", True)]


def test_what_is_aside_runs_elsewhere_until_it_is_stopped() -> None:
    """In a thread with a loop of its own; a stop cancels it, and waits for what it has in threads."""
    ran: list[str] = []
    begun = threading.Event()

    async def work() -> None:
        ran.append(threading.current_thread().name)
        try:
            begun.set()
            await asyncio.to_thread(slow)
        finally:
            ran.append("cancelled")

    def slow() -> None:
        stopping.wait(10)
        ran.append("done")

    stopping = threading.Event()

    async def main() -> None:
        aside = Aside("elsewhere", work)
        aside.start()
        await asyncio.to_thread(begun.wait, 10)
        asyncio.get_running_loop().call_later(0.05, stopping.set)
        await aside.stop()

    asyncio.run(main())

    assert ran == ["elsewhere", "cancelled", "done"]


def test_what_has_ended_by_itself_can_be_stopped() -> None:
    """There is nothing to wait for then."""
    ended = threading.Event()

    async def work() -> None:
        ended.set()

    async def main() -> None:
        aside = Aside("brief", work)
        aside.start()
        await asyncio.to_thread(ended.wait, 10)
        await asyncio.sleep(0.05)
        await aside.stop()

    asyncio.run(main())

    assert ended.is_set()
