"""Exports, erasures, holds and retention; and whom deliveries name."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_IS_UNDER_WAY = sa.text("state IN ('pending', 'processing')")
_UNDER_WAY: dict[str, Any] = {"sqlite_where": _IS_UNDER_WAY, "postgresql_where": _IS_UNDER_WAY}
_IS_OPEN = sa.text("state IN ('held', 'running')")
_OPEN: dict[str, Any] = {"sqlite_where": _IS_OPEN, "postgresql_where": _IS_OPEN}
_IS_HELD = sa.text("released_at IS NULL")
_HELD: dict[str, Any] = {"sqlite_where": _IS_HELD, "postgresql_where": _IS_HELD}
_IS_GAP = sa.text("kind = 'gap'")
_GAP: dict[str, Any] = {"sqlite_where": _IS_GAP, "postgresql_where": _IS_GAP}


def upgrade() -> None:
    """Add the tables of what is given out, what is erased, and what must be kept."""
    op.create_table(
        "export_keys",
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("vkey", sa.Text(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.PrimaryKeyConstraint("log_id"),
    )
    op.create_table(
        "persons_read",
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.PrimaryKeyConstraint("log_id"),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("item_key", sa.LargeBinary(), nullable=True),
        sa.Column("person_key", sa.LargeBinary(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("erased", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("erasures_open", "erasures", ["tenant_id", "state"], unique=False, **_OPEN)
    op.create_table(
        "exports",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.Column("until", sa.Text(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("providers", sa.Text(), nullable=True),
        sa.Column("tests", sa.Boolean(), nullable=False),
        sa.Column("parquet", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("previous_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("checkpoint", sa.LargeBinary(), nullable=True),
        sa.Column("start", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("completed_at", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.Text(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("held_until", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.ForeignKeyConstraint(["previous_id"], ["exports.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("log_id", "log_index"),
    )
    op.create_index("exports_under_way", "exports", ["state"], unique=False, **_UNDER_WAY)
    op.create_table(
        "retention",
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("set_at", sa.Text(), nullable=False),
        sa.Column("passed_at", sa.Text(), nullable=True),
        sa.Column("passed_until", sa.Text(), nullable=True),
        sa.Column("passed_log_id", sa.Integer(), nullable=True),
        sa.Column("passed_size", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["passed_log_id"], ["logs.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("tenant_id", "provider"),
    )
    op.create_table(
        "erased",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("erasure_id", sa.Text(), nullable=False),
        sa.Column("extent", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["erasure_id"], ["erasures.id"]),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.PrimaryKeyConstraint("entry_id", "log_id", "log_index"),
    )
    op.create_index("ix_erased_erasure_id", "erased", ["erasure_id"], unique=False)
    op.create_table(
        "erased_claims",
        sa.Column("issuer_log_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("erasure_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["erasure_id"], ["erasures.id"]),
        sa.ForeignKeyConstraint(["issuer_log_id"], ["issuer_logs.id"]),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("issuer_log_id", "tenant_id", "index"),
    )
    op.create_index("erased_claims_by_entry", "erased_claims", ["log_id", "log_index"], unique=False)
    op.create_index("ix_erased_claims_erasure_id", "erased_claims", ["erasure_id"], unique=False)
    op.create_table(
        "given_out",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("given_to", sa.Text(), nullable=False),
        sa.Column("export_id", sa.Text(), nullable=True),
        sa.Column("entry_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_given_out_entry_id", "given_out", ["entry_id"], unique=False)
    op.create_index("ix_given_out_export_id", "given_out", ["export_id"], unique=False)
    op.create_table(
        "holds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("item_key", sa.LargeBinary(), nullable=True),
        sa.Column("person_key", sa.LargeBinary(), nullable=True),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("since", sa.Text(), nullable=True),
        sa.Column("until", sa.Text(), nullable=True),
        sa.Column("placed_by", sa.Text(), nullable=False),
        sa.Column("placed_at", sa.Text(), nullable=False),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.Column("released_at", sa.Text(), nullable=True),
        sa.Column("release_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["placed_by"], ["api_keys.id"]),
        sa.ForeignKeyConstraint(["released_by"], ["api_keys.id"]),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("holds_in_force", "holds", ["tenant_id"], unique=False, **_HELD)
    op.create_table(
        "persons",
        sa.Column("person_key", sa.LargeBinary(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"]),
        sa.PrimaryKeyConstraint("person_key", "delivery_id"),
    )
    op.create_index("findings_of_gaps", "findings", ["issuer_log_id", "issuer_index"], unique=False, **_GAP)
    op.add_column("reprocessed", sa.Column("same_id", sa.Text(), nullable=True))
    op.create_index("ix_reprocessed_same_id", "reprocessed", ["same_id"], unique=False)
    # What these are the same as was not noted, so no erasure would find them: they are pending again, to be read anew.
    op.execute("DELETE FROM reprocessed WHERE status IN ('duplicate', 'mismatch') AND row_id IS NULL")
