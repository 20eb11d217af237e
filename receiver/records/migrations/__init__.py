"""The schema's history, and how a database is brought to its newest version.

    upgrade(database)             at first start and by `receiver migrate`
    must_be_newest(database)      for whoever only reads, and so cannot bring it there

A migration is one transaction on both databases: one that fails leaves nothing of itself, and several first starts
at once agree on who does the work.
"""

from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from receiver.records.engine import Database

_LOCK = 0x7265_7363  # "resc": the advisory lock that first starts on one PostgreSQL queue at


class SchemaError(Exception):
    """A database whose schema this version of Rescind does not know."""


def upgrade(database: Database) -> None:
    """Bring the database to the newest schema. Raises SchemaError if it is already beyond it."""
    with database.write() as tx:
        if not database.is_sqlite:
            tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = _config(tx)
        at = MigrationContext.configure(tx).get_current_revision()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if at is not None and at not in known:
            raise SchemaError(
                f"the database is at schema {at}, which this version does not know: it was used by a newer Rescind. "
                "Install that one"
            )
        command.upgrade(config, "head")


def must_be_newest(database: Database) -> None:
    """Refuse a database of another schema than the newest; nothing is written. Raises SchemaError."""
    with database.read() as tx:
        at = MigrationContext.configure(tx).get_current_revision()
        newest = ScriptDirectory.from_config(_config(tx)).get_current_head()
    if at != newest:
        raise SchemaError(f"the database is at schema {at}, this version's is {newest}: run `receiver migrate` first")


def has_schema(database: Database) -> bool:
    """Whether the database was ever brought to any schema."""
    with database.read() as tx:
        return MigrationContext.configure(tx).get_current_revision() is not None


def _config(tx: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "receiver.records:migrations")
    attributes: dict[str, Any] = config.attributes
    attributes["connection"] = tx
    return config
