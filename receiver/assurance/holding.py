"""Who follows a log now: so that receivers which share a database do not all read the same log at the same time.

A receiver holds a log for as long as it reads, by a row that says so and until when. One that was killed holds nothing
once that time has run out, or as soon as its end is noted (`receiver.records.processes`), which the next start does.

It saves work, and nothing rests on it. Should two receivers read the same log all the same, for one of them slept too
long, then the log is read twice, and of two that would note the same progress one comes too late
(`receiver.assurance.progress`).
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from receiver.events import format_time
from receiver.records.tables import issuer_logs, processes

HELD_FOR = timedelta(seconds=60)
"""How long a log is held, unless that is renewed."""

RENEWED_EVERY = 20.0
"""Seconds between two renewals, two of which may fail."""


def is_free(holder: str, now: datetime) -> sa.ColumnElement[bool]:
    """Whether the process `holder` may take a log: nobody has it, or that one itself, or one that is gone."""
    running = sa.select(processes.c.id).where(processes.c.stopped_at.is_(None))
    return sa.or_(
        issuer_logs.c.holder.is_(None),
        issuer_logs.c.holder == holder,
        issuer_logs.c.held_until < format_time(now),
        issuer_logs.c.holder.not_in(running),
    )


def take(tx: sa.Connection, log_id: str, holder: str, now: datetime) -> bool:
    """Take a log for the process `holder`; False if another one has it, or it has forked."""
    its = sa.update(issuer_logs).where(
        issuer_logs.c.id == log_id, issuer_logs.c.forked_at.is_(None), is_free(holder, now)
    )
    return tx.execute(its.values(holder=holder, held_until=format_time(now + HELD_FOR))).rowcount == 1


def renew(tx: sa.Connection, log_id: str, holder: str, now: datetime) -> None:
    """Hold it on, unless another one has taken it since."""
    its = sa.update(issuer_logs).where(issuer_logs.c.id == log_id, issuer_logs.c.holder == holder)
    tx.execute(its.values(held_until=format_time(now + HELD_FOR)))


def let_go(tx: sa.Connection, log_id: str, holder: str, next_at: datetime) -> bool:
    """Hold it no more, and say when it is to be looked at again; False if another one has it."""
    its = sa.update(issuer_logs).where(issuer_logs.c.id == log_id, issuer_logs.c.holder == holder)
    return tx.execute(its.values(holder=None, held_until=None, next_at=format_time(next_at))).rowcount == 1
