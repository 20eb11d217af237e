"""The tables of what is given out, what is erased, and what must be kept, beside those of `receiver.records.tables`.

An export is a file that follows from the log as it was when it was asked for. An erasure takes openings away (the data
and salts that a leaf's commitments open to), and leaves the leaves; a hold keeps them from being taken. Who is named
by a delivery is found by keyed hashes, as items are: none of these tables holds anything personal in the clear.
"""

import sqlalchemy as sa

from receiver.records.tables import metadata

# The key that a log's exports are signed with, made at its first export and announced by an entry of that log.
export_keys = sa.Table(
    "export_keys",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("log_index", sa.BigInteger, nullable=False),  # of the entry that announces it
    sa.Column("vkey", sa.Text, nullable=False),
    sa.Column("private_key", sa.LargeBinary, nullable=False),  # sealed
)

IS_UNDER_WAY = sa.text("state IN ('pending', 'processing')")  # in a query, this finds the index

# What was asked to be exported. Each has an entry of the log, of the same id; all that it holds follows from the log
# as it was then, so that its file can be made again.
exports = sa.Table(
    "exports",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # uuid7, also the leaf's id
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False),
    sa.Column("log_index", sa.BigInteger, nullable=False),
    sa.Column("asked_by", sa.Text, nullable=False),  # the API key's id, or `command`
    sa.Column("since", sa.Text, nullable=False),
    sa.Column("until", sa.Text, nullable=False),
    sa.Column("basis", sa.Text, nullable=False),  # logged, received or occurred
    sa.Column("providers", sa.Text),  # separated by commas, sorted; None: all
    sa.Column("tests", sa.Boolean, nullable=False),
    sa.Column("parquet", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),  # when its entry was logged
    sa.Column("previous_id", sa.Text, sa.ForeignKey("exports.id")),  # the last one before it of which there was a file
    sa.Column("state", sa.Text, nullable=False),  # pending, processing, completed or failed
    sa.Column("progress", sa.Integer, nullable=False),  # percent
    sa.Column("error", sa.Text),
    sa.Column("checkpoint", sa.LargeBinary),  # the signed note that covers it; None until there was one
    sa.Column("start", sa.BigInteger),  # of the range of entries that it holds; None until that is known
    sa.Column("end", sa.BigInteger),
    sa.Column("size", sa.BigInteger),  # of the file; None while there is none
    sa.Column("sha256", sa.LargeBinary),
    sa.Column("completed_at", sa.Text),
    sa.Column("expires_at", sa.Text),
    # Who makes its file now, and until when that counts: it saves work, and nothing rests on it.
    sa.Column("holder", sa.Text),
    sa.Column("held_until", sa.Text),  # without a holder: not to be tried again before
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    sa.UniqueConstraint("log_id", "log_index"),
    sa.Index("exports_under_way", "state", sqlite_where=IS_UNDER_WAY, postgresql_where=IS_UNDER_WAY),
)

# Who was given what: an export's file, or the evidence of an entry.
given_out = sa.Table(
    "given_out",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # uuid7
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("given_to", sa.Text, nullable=False),  # the API key's id, or `command`
    sa.Column("export_id", sa.Text, sa.ForeignKey("exports.id"), index=True),
    sa.Column("entry_id", sa.Text, index=True),  # of `deliveries` or `findings`
)

_IS_OPEN_ERASURE = sa.text("state IN ('held', 'running')")

# What was asked to be erased. Each has one entry of the log, or more, once it has run.
erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # uuid7
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("target", sa.Text, nullable=False),  # event, item, person or retention
    sa.Column("event_id", sa.Text),
    sa.Column("item_key", sa.LargeBinary),
    sa.Column("person_key", sa.LargeBinary),
    sa.Column("reason", sa.Text),  # None once it has run: it is kept beside its entries
    sa.Column("asked_by", sa.Text, nullable=False),  # the API key's id, `command` or `retention`
    sa.Column("asked_at", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # held, running or completed
    sa.Column("erased", sa.BigInteger, nullable=False),  # entries whose openings are gone
    sa.Column("completed_at", sa.Text),
    sa.Index("erasures_open", "tenant_id", "state", sqlite_where=_IS_OPEN_ERASURE, postgresql_where=_IS_OPEN_ERASURE),
)

# Which entry of kind `erasure` names which entry as erased.
erased = sa.Table(
    "erased",
    metadata,
    sa.Column("entry_id", sa.Text, primary_key=True),  # of `deliveries` or `findings`
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("log_index", sa.BigInteger, primary_key=True, autoincrement=False),  # of the erasure
    sa.Column("erasure_id", sa.Text, sa.ForeignKey("erasures.id"), nullable=False, index=True),
    sa.Column("extent", sa.Text, nullable=False),  # all, or delivery: the body and its headers only
)

# Which entry of kind `erasure` counts which entry of an issuer's log (`claims`) as erased.
erased_claims = sa.Table(
    "erased_claims",
    metadata,
    sa.Column("issuer_log_id", sa.Text, sa.ForeignKey("issuer_logs.id"), primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False),
    sa.Column("log_index", sa.BigInteger, nullable=False),  # of the erasure
    sa.Column("erasure_id", sa.Text, sa.ForeignKey("erasures.id"), nullable=False, index=True),
    sa.Index("erased_claims_by_entry", "log_id", "log_index"),
)

# Whom deliveries name, by keyed hashes.
persons = sa.Table(
    "persons",
    metadata,
    sa.Column("person_key", sa.LargeBinary, primary_key=True),
    sa.Column("delivery_id", sa.Text, sa.ForeignKey("deliveries.id"), primary_key=True),
)

# How far each log's deliveries have been gone through for the persons that they name.
persons_read = sa.Table(
    "persons_read",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("next_index", sa.BigInteger, nullable=False),
)

_IS_HELD = sa.text("released_at IS NULL")

# What must not be erased: each was placed, and is released, by an entry of the log.
holds = sa.Table(
    "holds",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # uuid7, also the leaf's id
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    # One of these says what is held; a period is both of the last two, by `received_at`.
    sa.Column("item_key", sa.LargeBinary),
    sa.Column("person_key", sa.LargeBinary),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id")),
    sa.Column("provider", sa.Text),
    sa.Column("since", sa.Text),
    sa.Column("until", sa.Text),
    sa.Column("placed_by", sa.Text, sa.ForeignKey("api_keys.id"), nullable=False),
    sa.Column("placed_at", sa.Text, nullable=False),
    sa.Column("released_by", sa.Text, sa.ForeignKey("api_keys.id")),
    sa.Column("released_at", sa.Text),
    sa.Column("release_id", sa.Text),  # of the entry that tells of it
    sa.Index("holds_in_force", "tenant_id", sqlite_where=_IS_HELD, postgresql_where=_IS_HELD),
)

# How long bodies are kept, for each provider; for ever where there is no row.
retention = sa.Table(
    "retention",
    metadata,
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("days", sa.Integer, nullable=False),
    sa.Column("set_at", sa.Text, nullable=False),
    # The last pass over all that was too old, since this was set: when it began, up to when what it went through was
    # received, and the log's size then. What is older and still there is held, or came later.
    sa.Column("passed_at", sa.Text),
    sa.Column("passed_until", sa.Text),
    sa.Column("passed_log_id", sa.Integer, sa.ForeignKey("logs.id")),
    sa.Column("passed_size", sa.BigInteger),
)

__all__ = [
    "IS_UNDER_WAY",
    "erased",
    "erased_claims",
    "erasures",
    "export_keys",
    "exports",
    "given_out",
    "holds",
    "metadata",
    "persons",
    "persons_read",
    "retention",
]
