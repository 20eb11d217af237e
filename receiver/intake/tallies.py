"""Tallies: hourly, and at start and stop, each source's deliveries are counted into the log itself.

    deliveries = recorded + duplicate + mismatch + ignored + quarantined + refused

so that counts reconcile, and an hour in which nothing came is told from an hour in which nobody listened. What left a
row is counted from rows, by their place in the log, so that nothing a killed process wrote is missed or counted
twice; what left none is counted in memory and lost with the process. So a start that finds a process without its
stop says `incomplete` of the time before it. A quarantined delivery that was read again is the one that was counted
when it came, so the row that was written for it then is left out. What came of the operator's own calls is no delivery.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from receiver.events import Kind, Via, format_time, new_id
from receiver.intake.endpoints import Endpoint, Endpoints
from receiver.records.heard import note_heard
from receiver.records.journal import Changing, change
from receiver.records.opening import Records, Tenant
from receiver.records.processes import bury_the_dead, process_began, process_ended, process_lives
from receiver.records.tables import deliveries, log_keys, reprocessed, sources, tallied
from translog.canonical import Value
from translog.errors import TranslogError

_log = logging.getLogger(__name__)

INTERVAL = 3600.0
HEARTBEAT = 5.0

_FROM_ROWS = {
    Kind.REVOCATION: "recorded",
    Kind.CONTEXT: "recorded",
    Kind.MISMATCH: "mismatch",
    Kind.QUARANTINE: "quarantined",
}
_DELIVERED = (Via.WEBHOOK.value, Via.DECLARED.value)
_REFUSED = "refused:"


class Tallies:
    """One process's part in the counting."""

    def __init__(self, records: Records, endpoints: Endpoints) -> None:
        self._records = records
        self._endpoints = endpoints
        self.process_id = new_id()

    async def start(self) -> None:
        """Count what earlier processes left uncounted, and say if one of them did not stop in order."""
        incomplete = await asyncio.to_thread(self._begin)
        await self.write(incomplete=incomplete)

    async def run(self) -> None:
        """Tally every hour, and show every few seconds that this process is alive."""
        loop = asyncio.get_running_loop()
        due = loop.time() + INTERVAL
        while True:
            await asyncio.sleep(HEARTBEAT)
            try:
                await self._show_alive()
                if loop.time() >= due:
                    await self.write(incomplete=await asyncio.to_thread(self._bury_the_dead))
                    due += INTERVAL
            except SQLAlchemyError as error:
                _log.warning("the database is out of reach: %s", type(error).__name__)

    async def stop(self) -> None:
        """The last tally of this process, and its end."""
        await self.write(incomplete=False)
        try:
            await asyncio.to_thread(self._end, self._endpoints.take_heard())
        except SQLAlchemyError as error:  # then the next start says `incomplete`, as after a kill
            _log.error("the end of this process is not noted: %s", type(error).__name__)

    async def write(self, *, incomplete: bool) -> None:
        """Append a tally of every source. What fails is counted into the next one."""
        for tenant in self._records.tenants:
            mine = [endpoint for endpoint in self._endpoints.all() if endpoint.tenant.id == tenant.id]
            taken = [(endpoint, Counter(endpoint.counts)) for endpoint in mine]
            if not mine:
                continue
            try:
                await asyncio.to_thread(self._write, tenant, taken, incomplete)
            except (SQLAlchemyError, TranslogError) as error:
                _log.error("the tally of tenant %s is put off: %s", tenant.name, type(error).__name__)
                continue
            for endpoint, counts in taken:
                endpoint.counts.subtract(counts)

    def _write(self, tenant: Tenant, taken: Sequence[tuple[Endpoint, Counter[str]]], incomplete: bool) -> None:
        with change(self._records.database, tenant.log) as changing:
            for endpoint, counts in taken:
                source_id = endpoint.source.id
                began, from_index = self._tallied_until(changing.tx, tenant, source_id, changing.now)
                rows = Counter[str]()
                for log_id, index in from_index.items():
                    rows += _count_rows(changing.tx, source_id, log_id, index)
                changing.tell(
                    Kind.TALLY,
                    {
                        "counts": _equation(rows, counts),
                        "from": began,
                        "incomplete": incomplete,
                        "process": self.process_id,
                        "source": source_id,
                        "until": changing.now,
                    },
                )
                _keep_until(changing, tenant, source_id)

    def _tallied_until(self, tx: sa.Connection, tenant: Tenant, source_id: str, now: str) -> tuple[str, dict[int, int]]:
        """Since when, and from which index of which log on, the source's rows are not counted yet."""
        row = tx.execute(sa.select(tallied).where(tallied.c.source_id == source_id)).one_or_none()
        if row is None:
            created = tx.execute(sa.select(sources.c.created_at).where(sources.c.id == source_id)).scalar_one_or_none()
            until, last, index = created or now, 0, 0
        else:
            until, last, index = row.until, row.log_id, row.next_index
        # After a recovery the rest of the log before this one is still to be counted.
        uncounted = sa.select(log_keys.c.log_id).where(log_keys.c.tenant_id == tenant.id, log_keys.c.log_id >= last)
        return until, {log_id: index if log_id == last else 0 for log_id in tx.execute(uncounted).scalars()}

    # ---- processes ----------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        with self._records.database.write() as tx:
            incomplete = bury_the_dead(tx, self.process_id)
            process_began(tx, self.process_id)
        return incomplete

    async def _show_alive(self) -> None:
        """Note that this process lives, and which sources it has heard of since it last did."""
        heard = self._endpoints.take_heard()
        try:
            await asyncio.to_thread(self._live, heard)
        except SQLAlchemyError:
            self._endpoints.put_heard(heard)
            raise

    def _live(self, heard: Mapping[str, float]) -> None:
        with self._records.database.write() as tx:
            process_lives(tx, self.process_id)
            note_heard(tx, _times(heard))

    def _end(self, heard: Mapping[str, float]) -> None:
        with self._records.database.write() as tx:
            note_heard(tx, _times(heard))
            process_ended(tx, self.process_id)

    def _bury_the_dead(self) -> bool:
        with self._records.database.write() as tx:
            return bury_the_dead(tx, self.process_id)


def _times(heard: Mapping[str, float]) -> dict[str, str]:
    return {source_id: format_time(datetime.fromtimestamp(at, UTC)) for source_id, at in heard.items()}


def _count_rows(tx: sa.Connection, source_id: str, log_id: int, start: int) -> Counter[str]:
    rows = tx.execute(
        sa.select(deliveries.c.kind, sa.func.count())
        .where(
            deliveries.c.source_id == source_id,
            deliveries.c.log_id == log_id,
            deliveries.c.log_index >= start,
            deliveries.c.via.in_(_DELIVERED),
            ~sa.exists().where(reprocessed.c.row_id == deliveries.c.id),
        )
        .group_by(deliveries.c.kind)
    )
    counts = Counter[str]()
    for kind, number in rows:
        counts[_FROM_ROWS[Kind(kind)]] += number
    return counts


def _equation(rows: Counter[str], counts: Counter[str]) -> dict[str, Value]:
    refused: dict[str, Value] = {
        name.removeprefix(_REFUSED): number
        for name, number in sorted(counts.items())
        if name.startswith(_REFUSED) and number
    }
    terms = {
        "duplicate": counts["duplicate"],
        "ignored": counts["ignored"],
        "mismatch": rows["mismatch"],
        "quarantined": rows["quarantined"],
        "recorded": rows["recorded"],
    }
    total = sum(terms.values()) + sum(number for number in refused.values() if isinstance(number, int))
    return {**terms, "deliveries": total, "refused": refused}


def _keep_until(changing: Changing, tenant: Tenant, source_id: str) -> None:
    values = {"log_id": tenant.log_id, "next_index": changing.head.size, "until": changing.now}
    moved = changing.tx.execute(sa.update(tallied).where(tallied.c.source_id == source_id).values(**values))
    if moved.rowcount == 0:
        changing.tx.execute(sa.insert(tallied).values(source_id=source_id, **values))
