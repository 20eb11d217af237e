"""Records that a service filled, and copies of them to damage: in one place each, behind the service's back."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from receiver.fsck import Report, fsck
from receiver.records.opening import Records
from receiver.settings import Settings
from tests.receiver.service import ORIGIN, at_once, receipt_id, revoked, running

LOG = f"{ORIGIN}/log/default"
FIRST, MISMATCH, QUARANTINE, CONTEXT, AGAIN = range(2, 7)  # the indexes of what `fill` delivers, and then
MANY = 260


def fill(settings: Settings) -> None:
    """Let a service receive one delivery of every kind, and then enough to fill a tile: 268 entries in all."""
    with running(settings) as service:
        sender = service.add_source()
        receipt = receipt_id()
        for body in (
            revoked(receipt),
            revoked(receipt, note="differs"),
            b"{}",
            revoked(event_type="attestation.expired", attestation_id="a-1", revoked_at=None),
            revoked(receipt, revoked_at="2026-11-20T10:00:00Z"),
            revoked(receipt),
        ):
            assert sender.post(body).status_code == 200
            service.until_published()
        at_once(20, lambda _: [sender.post(revoked()).raise_for_status() for _ in range(MANY // 20)])
        service.until_published()


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the filled records."""

    settings: Settings

    def damage(self, statement: str, *values: object) -> None:
        """Change the database as no part of the service would."""
        with closing(self._connect()) as connection:
            changed = connection.execute(statement, values)
            assert changed.rowcount > 0, "the damage must hit something"
            connection.commit()

    def flip(self, table: str, column: str, where: str, byte: int = 0) -> None:
        """Flip a bit of a value that is bytes."""
        data = bytearray(self.one(f"SELECT {column} FROM {table} WHERE {where}"))
        data[byte] ^= 1
        self.damage(f"UPDATE {table} SET {column} = ? WHERE {where}", bytes(data))

    def one(self, query: str) -> Any:
        """The one value of a query."""
        with closing(self._connect()) as connection:
            (value,) = connection.execute(query).fetchone()
        return value

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        with closing(self._connect()) as connection:
            return [str(name) for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]

    def entry(self, index: int) -> bytes:
        """An entry of the log."""
        return bytes(self.one(f'SELECT data FROM log_entries WHERE "index" = {index}'))

    def row(self, index: int) -> str:
        """How the check names the row of an entry."""
        return f"row {self.one(f'SELECT id FROM deliveries WHERE log_index = {index}')} (entry {index})"

    def report(self) -> Report:
        """What the check gives."""
        records = Records.inspect(self.settings)
        try:
            return fsck(records)
        finally:
            records.close()

    def found(self) -> list[str]:
        """The lines that the check gives, without the log's name."""
        report = self.report()
        assert report.found == len(report.findings)
        return [str(finding).removeprefix(f"{LOG}: ") for finding in report.findings]

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.settings.data / "rescind.db")


def append(records: Records, entries: Sequence[bytes], logged_at: str | None = None) -> None:
    """Append entries to the log as they are, everything derived from them included, and publish."""
    log = records.tenant("default").log
    with records.database.write() as tx:
        head = log.lock(tx)
        head = log.append(tx, entries, logged_at or head.logged_at).head
    log.confirm(head)
    log.publish()
