"""Run by Alembic for each command: the connection, already in its transaction, comes from `upgrade`."""

from alembic import context

from receiver.records.keeping import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
