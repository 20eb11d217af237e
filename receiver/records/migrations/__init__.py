"""The schema's history, and how a database is brought to its newest version.

    upgrade(database)             at first start and by `receiver migrate`
    must_be_newest(database)      for whoever only reads, and so cannot bring it there

A migration is one transaction on both databases: one that fails leaves nothing of itself, and several first starts
at once agree on who does the work. A version is the number in the name of its file; Alembic, which takes long to
import, is asked only where there is something to do.
"""

import pkgutil

import sqlalchemy as sa

from receiver.records.engine import Database
from receiver.records.migrations import versions

_VERSION = sa.table("alembic_version", sa.column("version_num", sa.Text))


class SchemaError(Exception):
    """A database whose schema this version of Rescind does not know."""


def upgrade(database: Database) -> None:
    """Bring the database to the newest schema. Raises SchemaError if it is already beyond it."""
    at = _version(database)
    if at == newest():
        return
    if at is not None and at > newest():
        raise SchemaError(
            f"the database is at schema {at}, which this version does not know: it was used by a newer Rescind. "
            "Install that one"
        )
    from receiver.records.migrations.steps import bring_up

    bring_up(database)


def must_be_newest(database: Database) -> None:
    """Refuse a database of another schema than the newest; nothing is written. Raises SchemaError."""
    at = _version(database)
    if at != newest():
        raise SchemaError(f"the database is at schema {at}, this version's is {newest()}: run `receiver migrate` first")


def has_schema(database: Database) -> bool:
    """Whether the database was ever brought to any schema."""
    return _version(database) is not None


def newest() -> str:
    """The newest version of the schema: four digits."""
    return max(module.name[1:5] for module in pkgutil.iter_modules(versions.__path__))


def _version(database: Database) -> str | None:
    with database.read() as tx:
        if not sa.inspect(tx).has_table(_VERSION.name):
            return None
        return tx.execute(sa.select(_VERSION.c.version_num)).scalar_one_or_none()
