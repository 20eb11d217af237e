"""An installation over its life: its service started and stopped, its database copied and put back."""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from receiver.fsck import Report, fsck
from receiver.records.engine import Database
from receiver.records.loss import Loss
from receiver.records.opening import Records, Tenant
from receiver.records.recovery import find_losses, recover
from receiver.settings import Settings
from tests.backups import Backup
from tests.receiver.service import ORIGIN, Sender, Service, revoked, running
from translog.evidence import Leaf
from translog.store import entries, logs

LOG = f"{ORIGIN}/log/default"


@dataclass(slots=True)
class Site:
    """An installation over its life: a service that is started and stopped, copies taken and put back."""

    settings: Settings
    sources: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @contextmanager
    def serving(self) -> Generator[tuple[Service, Sender]]:
        """The service, and a source that is always the same one."""
        with running(self.settings) as service:
            if not self.sources:
                made = service.add_source()
                self.sources.append((made.source_id, made.secret))
            yield service, Sender(service, *self.sources[0])

    def deliver(self, *bodies: bytes) -> list[dict[str, Any]]:
        """Start the service, deliver, wait for the checkpoint, stop it; the answers."""
        with self.serving() as (service, sender):
            answers = [sender.post(body).json() for body in bodies]
            service.until_published()
        return answers

    def backup(self) -> Backup:
        """Take a copy of the database."""
        return Backup.take(Database(self.settings.url))

    def put_back_what_is_now(self, between: Callable[[], object]) -> None:
        """Take a copy while the service runs, as a backup program does; after `between`, put it back."""
        file = self.settings.data / "rescind.db"
        copy = file.with_name("copy.db")
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        between()
        copy.replace(file)

    @contextmanager
    def opened(self, *, check: bool = False) -> Generator[tuple[Records, Tenant]]:
        """The records, as the command opens them."""
        records = Records.open(self.settings, check=check)
        try:
            yield records, records.tenant("default")
        finally:
            records.close()

    def recover(self) -> Loss:
        """What `receiver recover` does once it was confirmed."""
        with self.opened() as (records, tenant):
            losses = find_losses(records, tenant.name)
            recover(records, tenant.name, losses)
        return losses[0]

    def check(self) -> Report:
        """What `receiver fsck` finds."""
        records = Records.inspect(self.settings)
        try:
            return fsck(records)
        finally:
            records.close()

    def rows(self, query: sa.Select[*tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """What the database holds."""
        database = Database(self.settings.url)
        with database.read() as tx:
            found = [tuple(row) for row in tx.execute(query)]
        database.dispose()
        return found

    def execute(self, statement: sa.Update | sa.Delete | sa.Insert) -> None:
        """Change it as no part of the service would."""
        database = Database(self.settings.url)
        with database.write() as tx:
            tx.execute(statement)
        database.dispose()

    def head(self, log_id: int) -> tuple[int, bytes]:
        """Size and root of a log."""
        [(size, root)] = self.rows(sa.select(logs.c.size, logs.c.root).where(logs.c.id == log_id))
        return size, bytes(root)

    def leaf(self, log_id: int, index: int) -> Leaf:
        """An entry of a log."""
        query = sa.select(entries.c.data).where(entries.c.log_id == log_id, entries.c.index == index)
        [(data,)] = self.rows(query)
        return Leaf.parse(bytes(data))


def local_site(folder: Path) -> Site:
    """An installation on SQLite, with nothing in it yet."""
    return Site(Settings(data=folder / "data", guard=folder / "guard", origin=ORIGIN, publish_interval=0.05))


def lose(site: Site) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keep one delivery, take a copy, keep two more, and put the copy back; the first's and the second's answers."""
    [kept] = site.deliver(revoked())
    backup = site.backup()
    lost, _ = site.deliver(revoked(), revoked())
    backup.put_back()
    return kept, lost


def regrow(site: Site, tmp_path: Path) -> None:
    """The same, and then the copy grows beyond where it was, under a guard that knows nothing of it."""
    lose(site)
    Site(site.settings.model_copy(update={"guard": tmp_path / "other guard"}), site.sources).deliver(
        *(revoked() for _ in range(6))
    )
