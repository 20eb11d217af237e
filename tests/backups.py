"""Copies of a whole database, taken and put back as an operator would: its file, or a database beside it."""

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from receiver.records.engine import Database
from receiver.records.migrations import upgrade
from receiver.records.vault import data_key_in
from receiver.settings import Settings
from tests.postgres import Cluster


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a database: the path of a file, or the name of a database in the same cluster."""

    database: Database
    copy: str

    @classmethod
    def take(cls, database: Database) -> Self:
        """Copy the database as it is now. Its connections are closed, and opened again by whoever needs one."""
        database.dispose()
        if database.is_sqlite:
            file = _file(database)
            copy = file.with_name(f"{file.name}.copy{len(list(file.parent.glob('*.copy*')))}")
            assert not file.with_name(f"{file.name}-wal").exists(), "the last connection writes the WAL back"
            shutil.copy(file, copy)
            return cls(database, str(copy))
        return cls(database, _cluster(database).create_database(template=str(database.url.database)))

    def put_back(self) -> None:
        """Put the copy where the database is. It stays usable."""
        self.database.dispose()
        if self.database.is_sqlite:
            shutil.copy(self.copy, _file(self.database))
            return
        cluster, name = _cluster(self.database), str(self.database.url.database)
        cluster.drop_database(name)
        cluster.create_database(name, template=self.copy)


def _file(database: Database) -> Path:
    return Path(str(database.url.database))


def _cluster(database: Database) -> Cluster:
    return Cluster(Path(str(database.url.query["host"])))


def begin(settings: Settings) -> None:
    """Make the data folder of a first start, on SQLite with its schema: to migrate takes far longer."""
    file = settings.data / "rescind.db"
    if settings.data.exists() or settings.url != f"sqlite:///{file}":
        return
    settings.data.mkdir(mode=0o700, parents=True)
    shutil.copy(_schema(), file)
    data_key_in(settings.data, make=True)


@cache
def _schema() -> Path:
    """An SQLite database with the schema and nothing in it, until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="rescind-schema-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = Database(f"sqlite:///{folder / 'rescind.db'}")
    upgrade(database)
    database.dispose()
    return folder / "rescind.db"
