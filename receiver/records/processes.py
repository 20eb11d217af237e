"""The services that run on this database: one row each, so that a death without notice is seen, and a life as well.

A process notes its start, every few seconds that it is alive, and its end in order. One that is gone without having
noted it leaves counts that are incomplete; one that is alive must not have its logs changed under it.
"""

import os
import socket
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from receiver.events import format_time, parse_time
from receiver.records.tables import processes

DEAD_AFTER = timedelta(seconds=60)
"""A process on another machine that has not shown itself for so long is taken for dead."""


def process_began(tx: sa.Connection, process_id: str) -> None:
    """Note that this process has begun to serve."""
    now = _now()
    tx.execute(
        sa.insert(processes).values(
            id=process_id, host=socket.gethostname(), pid=os.getpid(), started_at=now, seen_at=now
        )
    )


def process_lives(tx: sa.Connection, process_id: str) -> None:
    """Note that this process is alive, even if it was silent for so long that another one took it for dead."""
    alive = {"seen_at": _now(), "stopped_at": None}
    tx.execute(sa.update(processes).where(processes.c.id == process_id).values(alive))


def process_ended(tx: sa.Connection, process_id: str) -> None:
    """Note that this process has ended in order."""
    tx.execute(sa.update(processes).where(processes.c.id == process_id).values(stopped_at=_now()))


def bury_the_dead(tx: sa.Connection, process_id: str) -> bool:
    """Note the end of other processes that are gone without having noted it; whether there were any."""
    dead = [row_id for row_id, _, alive in _unended(tx) if not alive and row_id != process_id]
    if dead:
        tx.execute(sa.update(processes).where(processes.c.id.in_(dead)).values(stopped_at=_now()))
    return bool(dead)


def running(tx: sa.Connection) -> list[str]:
    """The other processes that serve now, each as `host, process 4711`."""
    return [name for _, name, alive in _unended(tx) if alive]


def _unended(tx: sa.Connection) -> list[tuple[str, str, bool]]:
    """The processes that have not noted their end: id, name, and whether they are alive."""
    rows = tx.execute(sa.select(processes).where(processes.c.stopped_at.is_(None))).all()
    now = datetime.now(UTC)
    return [
        (row.id, f"{row.host}, process {row.pid}", _is_alive(row.host, row.pid, parse_time(row.seen_at), now))
        for row in rows
    ]


def _is_alive(host: str, pid: int, seen_at: datetime, now: datetime) -> bool:
    if now - seen_at > DEAD_AFTER:
        return False
    # On this machine there is no need to wait: a pid that is ours, or nobody's, is not the other process.
    return host != socket.gethostname() or (pid != os.getpid() and _runs(pid))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> str:
    return format_time(datetime.now(UTC))
