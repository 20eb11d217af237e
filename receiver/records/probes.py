"""Probes: for a while, a few deliveries that a source refused are held, so that the scheme they are signed by can be
found.

Whoever knows a source's path can have a delivery held, so there is little to be had from it: at most `MAX_HELD` for a
probe, whatever the number of receivers; encrypted, and read by nobody but the command that began the probe. The row in
`probes` is the lock. Nothing is held without it, and it goes in one transaction with all that was held, at the latest
once its time has run out: a command that was killed leaves both for the next `sweep`. `until` tells a probe from the
source's next one.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import sqlalchemy as sa
from msgspec import Struct, msgpack
from sqlalchemy.exc import IntegrityError

from receiver.events import format_time, new_id, parse_time
from receiver.records.opening import Records, RecordsError
from receiver.records.tables import held, probes

MAX_HELD = 20
"""Deliveries held for one probe."""

MAX_HEADERS = 64 * 1024
"""Bytes of a delivery's headers that are held; those beyond are left out."""


class Delivery(Struct, frozen=True):
    """A delivery as it came: when (Unix seconds), its headers as ASGI gives them, its body."""

    received_at: float
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def begin_probe(records: Records, source_id: str, seconds: int) -> datetime:
    """Have the source's refused deliveries held for so long; until when.

    Raises RecordsError if a probe of this source is on.
    """
    sweep_probes(records)
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    try:
        with records.database.write() as tx:
            tx.execute(sa.insert(probes).values(source_id=source_id, until=format_time(until)))
    except IntegrityError as error:
        other = load_probes(records).get(source_id)
        end = "" if other is None else f", until {format_time(other)}"
        raise RecordsError(f"this source is being probed already{end}; one probe of a source at a time") from error
    return until


def end_probe(records: Records, source_id: str, until: datetime) -> None:
    """Delete the probe that was begun until then, with all that was held for it. A later one is left alone."""
    with records.database.write() as tx:
        its = sa.delete(probes).where(probes.c.source_id == source_id, probes.c.until == format_time(until))
        if tx.execute(its.returning(probes.c.source_id)).first() is not None:
            tx.execute(sa.delete(held).where(held.c.source_id == source_id))


def sweep_probes(records: Records) -> None:
    """Delete every probe whose time has run out, with all that was held for it. Writes only if there is one."""
    over = sa.select(probes.c.source_id).where(probes.c.until <= format_time(datetime.now(UTC)))
    with records.database.read() as tx:
        if tx.execute(over).first() is None:
            return
    with records.database.write() as tx:
        # Locked in one order, for others may sweep at the same time.
        ids = tx.execute(over.order_by(probes.c.source_id).with_for_update()).scalars().all()
        tx.execute(sa.delete(held).where(held.c.source_id.in_(ids)))
        tx.execute(sa.delete(probes).where(probes.c.source_id.in_(ids)))


def load_probes(records: Records) -> dict[str, datetime]:
    """Until when each source is probed, by the source's id; those whose time has run out may still be among them."""
    with records.database.read() as tx:
        rows = tx.execute(sa.select(probes)).all()
    return {row.source_id: parse_time(row.until) for row in rows}


def hold(records: Records, source_id: str, delivery: Delivery) -> bool:
    """Hold a delivery for the source's probe; False if nothing more is held for it: it is full, over or gone."""
    kept = Delivery(delivery.received_at, _as_many_as_fit(delivery.headers), delivery.body)
    held_id = new_id()
    sealed = records.vault.seal(_place(held_id), msgpack.encode(kept))
    with records.database.write() as tx:
        # On PostgreSQL the lock stands alone: only the next statement sees what others held before it was had.
        lock = sa.select(probes.c.until).where(probes.c.source_id == source_id).with_for_update()
        until = tx.execute(lock).scalar_one_or_none()
        if until is None or until <= format_time(datetime.now(UTC)):
            return False
        count = tx.execute(
            sa.select(sa.func.count()).select_from(held).where(held.c.source_id == source_id)
        ).scalar_one()
        if count >= MAX_HELD:
            return False
        tx.execute(sa.insert(held).values(id=held_id, source_id=source_id, delivery=sealed))
    return True


def held_deliveries(records: Records, source_id: str, but: Collection[str] = ()) -> dict[str, Delivery]:
    """What is held for the source's probe, by id, without those whose ids are named.

    Raises VaultError for one that was held under another data key.
    """
    query = sa.select(held).where(held.c.source_id == source_id, held.c.id.not_in(but)).order_by(held.c.id)
    with records.database.read() as tx:
        rows = tx.execute(query).all()
    return {row.id: msgpack.decode(records.vault.open(_place(row.id), row.delivery), type=Delivery) for row in rows}


def _as_many_as_fit(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    sizes = accumulate(len(name) + len(value) for name, value in headers)
    return tuple(header for header, size in zip(headers, sizes, strict=True) if size <= MAX_HEADERS)


def _place(held_id: str) -> str:
    return f"held/{held_id}"
