"""Events are checked against issuers' logs and providers' records, and passed on to the operator's own systems."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_IS_OPEN = sa.text("due_at IS NOT NULL")
_DUE: dict[str, Any] = {"sqlite_where": _IS_OPEN, "postgresql_where": _IS_OPEN}
_IS_TO_ASK = sa.text("issuer_log_id IS NULL AND due_at IS NOT NULL")
_TO_ASK: dict[str, Any] = {"sqlite_where": _IS_TO_ASK, "postgresql_where": _IS_TO_ASK}
_IS_FORK = sa.text("kind = 'fork'")
_FORK: dict[str, Any] = {"sqlite_where": _IS_FORK, "postgresql_where": _IS_FORK}


def upgrade() -> None:
    """Add the columns of sources, and the tables of what is followed, found and passed on."""
    op.create_table(
        "issuer_logs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column("unreadable", sa.BigInteger(), nullable=False),
        sa.Column("fetched_at", sa.Text(), nullable=True),
        sa.Column("complete_at", sa.Text(), nullable=True),
        sa.Column("next_at", sa.Text(), nullable=True),
        sa.Column("failing_since", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("fork", sa.LargeBinary(), nullable=True),
        sa.Column("forked_at", sa.Text(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("held_until", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("identity"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("topics", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.Column("replay_next", sa.BigInteger(), nullable=True),
        sa.Column("replay_end", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "name"),
    )
    op.create_table(
        "bundle_roots",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.PrimaryKeyConstraint("source_id", "log", "size", "root"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subscription_id", "log_id", "log_index"),
    )
    op.create_index("outbox_due", "outbox", ["subscription_id", "due_at"], unique=False, **_DUE)
    op.create_table(
        "heard",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=True),
        sa.Column("expected_since", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.PrimaryKeyConstraint("source_id"),
    )
    op.create_table(
        "taken_up",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.PrimaryKeyConstraint("source_id"),
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("issuer_log_id", sa.Text(), nullable=True),
        sa.Column("issuer_index", sa.BigInteger(), nullable=True),
        sa.Column("logged_at", sa.Text(), nullable=False),
        sa.Column("event_data", sa.LargeBinary(), nullable=True),
        sa.Column("event_salt", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("delivery_salt", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["deliveries.id"]),
        sa.ForeignKeyConstraint(["issuer_log_id"], ["issuer_logs.id"]),
        sa.ForeignKeyConstraint(["log_id"], ["logs.id"]),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("log_id", "log_index"),
    )
    op.create_index(op.f("ix_findings_event_id"), "findings", ["event_id"], unique=False)
    op.create_index("findings_of_forks", "findings", ["issuer_log_id"], unique=False, **_FORK)
    op.create_table(
        "checks",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("issuer_log_id", sa.Text(), nullable=True),
        sa.Column("item_key", sa.LargeBinary(), nullable=False),
        sa.Column("operation_key", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("issuer_index", sa.BigInteger(), nullable=True),
        sa.Column("finding_id", sa.Text(), nullable=True),
        sa.Column("since", sa.Text(), nullable=True),
        sa.Column("grace_over_at", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Text(), nullable=True),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["deliveries.id"]),
        sa.ForeignKeyConstraint(["finding_id"], ["findings.id"]),
        sa.ForeignKeyConstraint(["issuer_log_id"], ["issuer_logs.id"]),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("checks_by_item", "checks", ["item_key"], unique=False)
    op.create_index("checks_by_operation", "checks", ["operation_key"], unique=False)
    op.create_index("checks_by_state", "checks", ["tenant_id", "state"], unique=False)
    op.create_index("checks_due", "checks", ["issuer_log_id", "due_at"], unique=False, **_DUE)
    op.create_index("checks_to_ask", "checks", ["source_id", "due_at"], unique=False, **_TO_ASK)
    op.create_table(
        "claims",
        sa.Column("issuer_log_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("item_key", sa.LargeBinary(), nullable=False),
        sa.Column("operation_key", sa.LargeBinary(), nullable=True),
        sa.Column("seen_at", sa.Text(), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.Text(), nullable=True),
        sa.Column("gap_id", sa.Text(), nullable=True),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("entry", sa.LargeBinary(), nullable=True),
        sa.Column("proof", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["gap_id"], ["findings.id"]),
        sa.ForeignKeyConstraint(["issuer_log_id"], ["issuer_logs.id"]),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("issuer_log_id", "tenant_id", "index"),
    )
    op.create_index("claims_by_item", "claims", ["item_key"], unique=False)
    op.create_index("claims_by_operation", "claims", ["operation_key"], unique=False)
    op.create_index("claims_due", "claims", ["issuer_log_id", "due_at"], unique=False, **_DUE)
    op.create_index("claims_of_gaps", "claims", ["gap_id"], unique=False)
    op.add_column("sources", sa.Column("issuer_log_id", sa.Text(), nullable=True))
    op.add_column("sources", sa.Column("issuer_log_from", sa.BigInteger(), nullable=True))
    op.add_column("sources", sa.Column("exclusive", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("sources", sa.Column("grace", sa.Integer(), server_default="86400", nullable=False))
    op.add_column("sources", sa.Column("follow_every", sa.Integer(), server_default="10", nullable=False))
    op.add_column("sources", sa.Column("expect_every", sa.Integer(), nullable=True))
    op.add_column("sources", sa.Column("silent_since", sa.Text(), nullable=True))
