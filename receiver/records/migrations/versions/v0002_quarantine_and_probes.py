"""Quarantined deliveries can be read again, and the scheme of a source can be probed for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an index and three tables."""
    op.create_index(
        "deliveries_in_quarantine",
        "deliveries",
        ["log_id", "log_index"],
        unique=False,
        sqlite_where=sa.text("kind = 'quarantine'"),
        postgresql_where=sa.text("kind = 'quarantine'"),
    )
    op.create_table(
        "reprocessed",
        sa.Column("quarantine_id", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("row_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["quarantine_id"], ["deliveries.id"]),
        sa.PrimaryKeyConstraint("quarantine_id"),
        sa.UniqueConstraint("row_id"),
    )
    op.create_table(
        "probes",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("until", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.PrimaryKeyConstraint("source_id"),
    )
    op.create_table(
        "held",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("delivery", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_held_source_id"), "held", ["source_id"], unique=False)
