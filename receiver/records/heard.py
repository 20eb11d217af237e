"""When each source was last heard of, since when it is expected to be, and since when anybody listens.

A delivery that was authenticated is a sign of life, whatever became of it; but only some leave a row. So each receiver
remembers when it heard of a source, and every few seconds notes here what is new. A receiver that is killed takes some
seconds of that with it, and what it had kept by then is in the rows.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from receiver.events import Via, format_time, parse_time
from receiver.records.tables import deliveries, heard, processes, reprocessed

OUTAGE = timedelta(minutes=5)
"""Whoever was away for longer has to listen anew before saying that nothing came. A shorter break, as between two
versions, is none: providers send again what was not taken."""

_NEWEST = 1000

_DELIVERED = (Via.WEBHOOK.value, Via.DECLARED.value)


def note_heard(tx: sa.Connection, sources: Mapping[str, str]) -> None:
    """Note when these sources, by their ids, delivered something authenticated; a time that is noted never falls."""
    insert = postgresql_insert if tx.dialect.name == "postgresql" else sqlite_insert
    for source_id, at in sorted(sources.items()):  # in one order, so that no two receivers wait for each other
        kept = insert(heard).values(source_id=source_id, at=at)
        newer = sa.or_(heard.c.at.is_(None), heard.c.at < at)
        tx.execute(kept.on_conflict_do_update(index_elements=["source_id"], set_={"at": at}, where=newer))


def note_expected(tx: sa.Connection, sources: Mapping[str, str | None]) -> None:
    """Note since when deliveries of these sources are expected; None: they are not."""
    insert = postgresql_insert if tx.dialect.name == "postgresql" else sqlite_insert
    for source_id, since in sorted(sources.items()):
        kept = insert(heard).values(source_id=source_id, expected_since=since)
        tx.execute(kept.on_conflict_do_update(index_elements=["source_id"], set_={"expected_since": since}))


def last_heard(tx: sa.Connection, log_id: int, source_id: str) -> str | None:
    """When the last authenticated delivery of a source came, as was noted or as its newest rows in that log say.

    What was relayed, or read from the provider's record, was asked for; what was read again out of quarantine came
    when it was quarantined.
    """
    noted = tx.execute(sa.select(heard.c.at).where(heard.c.source_id == source_id)).scalar_one_or_none()
    columns = deliveries.c
    newest = (
        sa.select(columns.id, columns.via, columns.received_at)
        .where(columns.source_id == source_id, columns.log_id == log_id)
        .order_by(columns.log_index.desc())
        .limit(_NEWEST)
        .subquery()
    )
    again = sa.exists().where(reprocessed.c.row_id == newest.c.id)
    kept = sa.select(sa.func.max(newest.c.received_at)).where(newest.c.via.in_(_DELIVERED), ~again)
    return max(noted or "", tx.execute(kept).scalar_one() or "") or None


def up_since(tx: sa.Connection, now: datetime, longest: timedelta) -> datetime:
    """Since when some receiver has run all the time, but for breaks of at most `OUTAGE`.

    `now` if none runs. How things were longer ago than `longest` is not looked at.
    """
    matters = format_time(now - longest - OUTAGE)
    ran = sa.select(processes.c.started_at, processes.c.seen_at).where(processes.c.seen_at >= matters)
    since = now
    for started_at, seen_at in tx.execute(ran.order_by(processes.c.seen_at.desc())):
        if since - parse_time(seen_at) > OUTAGE:
            break
        since = min(since, parse_time(started_at))
    return since


__all__ = ["OUTAGE", "last_heard", "note_expected", "note_heard", "up_since"]
