"""Faults put into a database's transactions: at a statement, or at the commit, before it is done or after.

Before COMMIT is the write that was lost; after COMMIT, the write that happened but whose acknowledgement was lost.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import pytest
from sqlalchemy import event

from receiver.records.engine import Database

Moment = Literal["before", "after"]


class PowerCut(Exception):  # noqa: N818  (nobody erred)
    """The fault: nothing of ours and nothing of the database's."""


def power_cut() -> NoReturn:
    """Break off."""
    raise PowerCut


@contextmanager
def at(
    database: Database, moment: Moment, statement: str, which: int = 1, happens: Callable[[], None] = power_cut
) -> Generator[list[str]]:
    """Within the block, `happens` is called before or after one statement with that beginning (`COMMIT` too): the
    first, or as `which` says.

    Gives the list of those that came, so that a test cannot miss its fault for want of a match.
    """
    met: list[str] = []

    def happen(text: str) -> None:
        if text.startswith(statement):
            met.append(text)
            if len(met) == which:
                happens()

    if statement == "COMMIT":
        with pytest.MonkeyPatch.context() as patch:
            commit = database.dialect.do_commit

            def do_commit(connection: Any) -> None:
                if moment == "before":
                    happen("COMMIT")
                commit(connection)
                if moment == "after":
                    happen("COMMIT")

            patch.setattr(database.dialect, "do_commit", do_commit)
            yield met
        return

    def on_execute(_connection: Any, _cursor: Any, text: str, *_others: Any) -> None:
        happen(text)

    event.listen(database.engine, f"{moment}_cursor_execute", on_execute)
    try:
        yield met
    finally:
        event.remove(database.engine, f"{moment}_cursor_execute", on_execute)
