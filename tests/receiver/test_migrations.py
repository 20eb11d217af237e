"""`receiver.records.migrations`: the schema's history leads to the schema that the code means, wholly or not at all."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from receiver.records.engine import Database
from receiver.records.keeping import metadata
from receiver.records.migrations import SchemaError, has_schema, must_be_newest, steps, upgrade, versions

NEWEST = "0005"

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade():
    op.create_table("half_done", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute(sa.insert(sa.table("settings", sa.column("name"), sa.column("value"))).values(name="half", value="done"))
    op.execute("SELECT * FROM what_is_not_there")
"""


def schema(database: Database) -> dict[str, Any]:
    """All that a database says of its tables: columns, keys, references, unique constraints and indexes."""
    with database.read() as tx:
        inspector = sa.inspect(tx)
        return {
            table: {
                "columns": [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
                "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
                "references": sorted(map(str, inspector.get_foreign_keys(table))),
                "unique": sorted(map(str, inspector.get_unique_constraints(table))),
                "indexes": sorted(map(_index, inspector.get_indexes(table))),
                "options": inspector.get_table_options(table),
            }
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }


def _index(index: Any) -> str:
    # The condition of a partial index is an object that equals no other.
    return str({**index, "dialect_options": {name: str(value) for name, value in index["dialect_options"].items()}})


def revision(database: Database) -> str | None:
    """The revision that a database says it is at."""
    with database.read() as tx:
        return MigrationContext.configure(tx).get_current_revision()


def test_the_history_leads_to_the_metadata(database: Database) -> None:
    """Alembic finds no difference between a migrated database and the tables in the code."""
    with database.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    assert revision(database) == NEWEST


def test_the_history_makes_what_the_metadata_would(database: Database) -> None:
    """A migrated database is in every detail as one made from the code at once, keys and table options included."""
    migrated = schema(database)
    with database.write() as tx:
        tx.exec_driver_sql("DROP TABLE alembic_version")
        metadata.drop_all(tx)
        metadata.create_all(tx)
    assert migrated == schema(database)
    assert set(migrated) == set(metadata.tables)


def test_short_rows_are_kept_in_their_key(sqlite_database: Database) -> None:
    """On SQLite the log's entries are a table without row ids."""
    with sqlite_database.read() as tx:
        made = tx.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'log_entries'").scalar_one()
    assert str(made).rstrip().endswith("WITHOUT ROWID")


def test_upgrading_again_changes_nothing(database: Database) -> None:
    """A database at the newest schema stays as it is, with what is in it."""
    with database.write() as tx:
        tx.exec_driver_sql("INSERT INTO settings VALUES ('kept', 'yes')")
    before = schema(database)
    upgrade(database)
    upgrade(database)
    assert schema(database) == before
    with database.read() as tx:
        assert tx.exec_driver_sql("SELECT * FROM settings").all() == [("kept", "yes")]


def _let_the_next_version_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a version whose migration fails after its second statement."""
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "v0006_fails.py").write_text(SECOND)
    ours, configured = versions.__path__[0], steps.config

    def config(tx: sa.Connection) -> Config:
        config = configured(tx)
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{ours}\n{folder}")
        return config

    monkeypatch.setattr(steps, "config", config)
    monkeypatch.setattr(versions, "__path__", [ours, str(folder)])


def test_a_failing_migration_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that fails undoes what it had done, tables and rows, and the database stays usable as it was."""
    _let_the_next_version_fail(tmp_path, monkeypatch)
    before = schema(database)
    for _ in range(2):
        with pytest.raises(DBAPIError, match="what_is_not_there"):
            upgrade(database)
        assert schema(database) == before
        assert revision(database) == NEWEST
        with database.read() as tx:
            assert tx.exec_driver_sql("SELECT * FROM settings").all() == []


def test_a_failing_first_start_leaves_nothing(
    database_url: str, connect: Callable[[str], Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several migrations in a row all are kept, or none: a first start that fails leaves an empty database."""
    _let_the_next_version_fail(tmp_path, monkeypatch)
    database = connect(database_url)
    with pytest.raises(DBAPIError, match="what_is_not_there"):
        upgrade(database)
    with database.read() as tx:
        assert sa.inspect(tx).get_table_names() == []


def test_a_newer_schema_is_refused(database: Database) -> None:
    """A database that a newer version has used is left alone, with a sentence that says what to do."""
    with database.write() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = schema(database)
    with pytest.raises(SchemaError, match=r"at schema 9999.* newer Rescind\. Install that one"):
        upgrade(database)
    with pytest.raises(SchemaError, match=f"at schema 9999, this version's is {NEWEST}"):
        must_be_newest(database)
    assert schema(database) == before
    assert revision(database) == "9999"


def test_whoever_only_reads_is_told_to_migrate(database_url: str, connect: Callable[[str], Database]) -> None:
    """An empty database is none to read from, and is not changed by asking; a migrated one is."""
    database = connect(database_url)
    assert not has_schema(database)
    with pytest.raises(SchemaError, match=f"at schema None, this version's is {NEWEST}: run `receiver migrate`"):
        must_be_newest(database)
    with database.read() as tx:
        assert sa.inspect(tx).get_table_names() == []
    upgrade(database)
    must_be_newest(database)
    assert has_schema(database)


def test_first_starts_at_once(database_url: str, connect: Callable[[str], Database]) -> None:
    """Threads that all find an empty database leave one schema, and none of them fails."""
    together = threading.Barrier(4)

    def start(database: Database) -> str | None:
        together.wait()
        upgrade(database)
        return revision(database)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, [connect(database_url) for _ in range(4)])) == [NEWEST] * 4


def test_first_starts_of_processes_at_once(database_url: str, connect: Callable[[str], Database]) -> None:
    """So do processes, which have nothing in common but the database."""
    program = (
        "import sys; from receiver.records import engine, migrations as m; m.upgrade(engine.Database(sys.argv[1]))"
    )
    starts = [subprocess.Popen([sys.executable, "-c", program, database_url]) for _ in range(2)]
    assert [start.wait(60) for start in starts] == [0, 0]
    assert revision(connect(database_url)) == NEWEST
