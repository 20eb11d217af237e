"""Taking a database from one version of the schema to the next, by Alembic."""

from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from receiver.records.engine import Database

_LOCK = 0x7265_7363  # "resc": the advisory lock that first starts on one PostgreSQL queue at


def bring_up(database: Database) -> None:
    """Take every step that the database has not taken yet, in one transaction; none if another start took them."""
    with database.write() as tx:
        if not database.is_sqlite:
            tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        command.upgrade(config(tx), "head")


def config(tx: sa.Connection) -> Config:
    """Where the steps are, and the transaction that they are taken in."""
    found = Config()
    found.set_main_option("script_location", "receiver.records:migrations")
    attributes: dict[str, Any] = found.attributes
    attributes["connection"] = tx
    return found
