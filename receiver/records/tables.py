"""The receiver's tables, beside the log's own (`translog.store`), in one metadata.

The hot table is `deliveries`: one row for every delivery that is kept, whatever became of it, written in the
transaction that appends its leaf. Indexes with random keys are what writing costs most, so it carries one: a delivery
is found by its group, which is its item where the provider's delivery key names the item, and the notice itself where
it does not (then the item has an index of its own, of such rows only). All others grow at their right edge. The keys
are HMACs under the tenant's own key, so they may outlive an erasure: a replay brings nothing back, and an erased item
can still be said to be erased.
"""

import sqlalchemy as sa

from translog.store import metadata

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False, unique=True),
    sa.Column("hash_key", sa.LargeBinary, nullable=False),  # sealed; keys dedupe_key, item_key, digest
    sa.Column("created_at", sa.Text, nullable=False),
)

# One row a log: a tenant whose log was begun again after a loss has several, of which `tenants.log_id` is the live one.
log_keys = sa.Table(
    "log_keys",
    metadata,
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("vkey", sa.Text, nullable=False),
    sa.Column("private_key", sa.LargeBinary, nullable=False),  # sealed
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

# The issuers' transparency logs that sources name: one row a log, however many sources of whichever tenant name it.
issuer_logs = sa.Table(
    "issuer_logs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),  # C2SP tlog-policy, as `translog.policy` writes it
    sa.Column("origin", sa.Text, nullable=False),  # where it differs from the keys' name; else empty
    sa.Column("identity", sa.LargeBinary, nullable=False, unique=True),  # of these three, which no index has room for
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),  # `translog.follower.State`: what is verified and read
    sa.Column("size", sa.BigInteger, nullable=False),  # of the last verified checkpoint
    sa.Column("next_index", sa.BigInteger, nullable=False),  # the first entry that is not read yet
    sa.Column("wanted", sa.Text, nullable=False),  # JSON: whose entries are kept, of those that are read
    sa.Column("unreadable", sa.BigInteger, nullable=False),  # entries of a known provider that could not be read
    sa.Column("fetched_at", sa.Text),  # when its last verified checkpoint was asked for
    sa.Column("complete_at", sa.Text),  # when one was asked for of which every entry is read
    sa.Column("next_at", sa.Text),  # when it is to be looked at again; None: at once
    sa.Column("failing_since", sa.Text),
    sa.Column("failure", sa.Text),
    sa.Column("fork", sa.LargeBinary),  # `translog.fork.Fork`, once it has forked
    sa.Column("forked_at", sa.Text),
    # Who looks at it now, and until when that counts: it saves work, and nothing rests on it.
    sa.Column("holder", sa.Text),
    sa.Column("held_until", sa.Text),
)

sources = sa.Table(
    "sources",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("scheme", sa.Text, nullable=False),
    sa.Column("scheme_options", sa.Text, nullable=False),  # JSON
    sa.Column("account", sa.Text),
    sa.Column("replay_window", sa.Integer, nullable=False),  # seconds
    sa.Column("environment", sa.Text, nullable=False),  # live or test
    sa.Column("rate_limit", sa.Integer),  # deliveries a minute; none unless set
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("upstream", sa.Text),  # where the relay passes calls on to
    sa.Column("issuer_log_id", sa.Text),  # of `issuer_logs`; SQLite adds no references to a table that is there
    sa.Column("issuer_log_from", sa.BigInteger),  # entries from here on may be gaps; None until that is known
    sa.Column("exclusive", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("grace", sa.Integer, nullable=False, server_default="86400"),  # seconds
    sa.Column("follow_every", sa.Integer, nullable=False, server_default="10"),  # seconds
    sa.Column("expect_every", sa.Integer),  # seconds
    sa.Column("silent_since", sa.Text),  # since when it was told to be silent; None while it is not
    sa.UniqueConstraint("tenant_id", "name"),
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), nullable=False, index=True),
    sa.Column("value", sa.LargeBinary, nullable=False),  # sealed
    sa.Column("fingerprint", sa.LargeBinary, nullable=False, unique=True),  # a secret belongs to one source only
    sa.Column("not_before", sa.Text),
    sa.Column("not_after", sa.Text),
    sa.Column("created_at", sa.Text, nullable=False),
)

# What a source's provider is asked with about the operator's own calls: one for each source, read-only there.
credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),  # sealed
    sa.Column("created_at", sa.Text, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # separated by commas
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),  # SHA-256 of the key's text
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Text),
    sa.Column("revoked_at", sa.Text),
    sa.Column("last_used_at", sa.Text),
    sa.UniqueConstraint("tenant_id", "name"),
)

_APART = sa.text("item_key <> group_key")
_HAS_FIRST = sa.text("first_id IS NOT NULL")
_IN_QUARANTINE = sa.text("kind = 'quarantine'")
_IS_DUE = sa.text("next_at IS NOT NULL")
_REPEATABLE = sa.text("idempotency IS NOT NULL")

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # uuid7, also the leaf's id
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False),
    sa.Column("log_index", sa.BigInteger, nullable=False),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # revocation, context, mismatch, quarantine or attempt
    sa.Column("via", sa.Text, nullable=False),
    sa.Column("scheme", sa.Text, nullable=False),
    sa.Column("event", sa.Text),  # the provider's event type; of an attempt its operation
    sa.Column("effect", sa.Text),
    sa.Column("reason", sa.Text),  # why it is in quarantine; what became of an attempt
    sa.Column("first_id", sa.Text),  # of a mismatch: the event whose key it has; of an attempt: what told of it
    sa.Column("breaches", sa.Text),  # JSON, [[code, message], …]
    sa.Column("test", sa.Boolean, nullable=False),
    sa.Column("received_at", sa.Text, nullable=False),
    sa.Column("logged_at", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.Text),
    sa.Column("group_key", sa.LargeBinary, nullable=False),
    sa.Column("dedupe_key", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("item_key", sa.LargeBinary),
    # What an erasure takes away, all of it nullable:
    sa.Column("event_data", sa.LargeBinary),  # canonical JSON
    sa.Column("event_salt", sa.LargeBinary),
    sa.Column("headers", sa.Text),  # JSON, the signature's headers
    sa.Column("body", sa.LargeBinary),  # as received
    sa.Column("delivery_salt", sa.LargeBinary),
    sa.UniqueConstraint("log_id", "log_index"),
    sa.UniqueConstraint("group_key", "dedupe_key"),
    sa.Index("deliveries_by_item", "item_key", sqlite_where=_APART, postgresql_where=_APART),
    sa.Index("deliveries_by_source", "source_id", "log_index"),
    sa.Index("deliveries_by_received", "log_id", "received_at"),
    # Few rows have a first_id; only they are in this one.
    sa.Index("deliveries_by_first", "first_id", sqlite_where=_HAS_FIRST, postgresql_where=_HAS_FIRST),
    sa.Index(
        "deliveries_in_quarantine",
        "log_id",
        "log_index",
        sqlite_where=_IN_QUARANTINE,
        postgresql_where=_IN_QUARANTINE,
    ),
)

# What became of quarantined deliveries that were read again.
reprocessed = sa.Table(
    "reprocessed",
    metadata,
    sa.Column("quarantine_id", sa.Text, sa.ForeignKey("deliveries.id"), primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # recorded, duplicate, mismatch or ignored
    sa.Column("row_id", sa.Text, unique=True),  # the delivery that was written for it, if one was
    sa.Column("same_id", sa.Text, index=True),  # else the one that was there, with the same content, if one was
)

# The calls that were passed on, and what became of each. Its intent is the delivery of the same id.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.Text, sa.ForeignKey("deliveries.id"), primary_key=True),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), nullable=False),
    sa.Column("key_id", sa.Text, sa.ForeignKey("api_keys.id"), nullable=False),
    sa.Column("upstream", sa.Text, nullable=False),  # the base URL it went to
    sa.Column("settle_at", sa.Text, nullable=False),  # before that it may still be under way
    sa.Column("idempotency", sa.LargeBinary),  # keyed hash of the source, the item, the idempotency key and the request
    sa.Column("outcome", sa.Text),  # None as long as it is not known
    sa.Column("outcome_id", sa.Text, sa.ForeignKey("deliveries.id"), index=True),  # the delivery that tells
    sa.Column("status", sa.Integer),  # of the upstream's answer, if there was one
    sa.Column("ended_at", sa.Text),
    sa.Column("next_at", sa.Text),  # when the provider's record is to be asked
    sa.Column("looks", sa.Integer, nullable=False),  # how often it was
    sa.Index("attempts_due", "next_at", sqlite_where=_IS_DUE, postgresql_where=_IS_DUE),
    sa.Index("attempts_by_idempotency", "idempotency", sqlite_where=_REPEATABLE, postgresql_where=_REPEATABLE),
)

# Sources whose refused deliveries are held for a while, so that the scheme they are signed by can be found.
probes = sa.Table(
    "probes",
    metadata,
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("until", sa.Text, nullable=False),
)

held = sa.Table(
    "held",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), nullable=False, index=True),
    sa.Column("delivery", sa.LargeBinary, nullable=False),  # sealed
)

# One row a running service: a start that finds one without its end says that the tallies before it are incomplete.
processes = sa.Table(
    "processes",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("seen_at", sa.Text, nullable=False),
    sa.Column("stopped_at", sa.Text),
)

# When each source was last heard of, and since when it is expected to be.
heard = sa.Table(
    "heard",
    metadata,
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("at", sa.Text),  # its last authenticated delivery, whatever became of it
    sa.Column("expected_since", sa.Text),  # None while it is not
)

# How far each source's kept deliveries have been counted, and since when.
tallied = sa.Table(
    "tallied",
    metadata,
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False),
    sa.Column("next_index", sa.BigInteger, nullable=False),
    sa.Column("until", sa.Text, nullable=False),
)

# How far each source's events have been taken up to be cross-checked.
taken_up = sa.Table(
    "taken_up",
    metadata,
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False),
    sa.Column("next_index", sa.BigInteger, nullable=False),
)

_IS_OPEN = sa.text("due_at IS NOT NULL")
_IS_TO_ASK = sa.text("issuer_log_id IS NULL AND due_at IS NOT NULL")
IS_FORK = sa.text("kind = 'fork'")  # in a query, this finds the index, which a parameter may not
IS_GAP = sa.text("kind = 'gap'")

# One row an event that there is something to check against: what is known of it now.
checks = sa.Table(
    "checks",
    metadata,
    sa.Column("event_id", sa.Text, sa.ForeignKey("deliveries.id"), primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), nullable=False),
    sa.Column("issuer_log_id", sa.Text, sa.ForeignKey("issuer_logs.id")),  # None: the provider's own record
    sa.Column("item_key", sa.LargeBinary, nullable=False),
    sa.Column("operation_key", sa.LargeBinary),
    sa.Column("state", sa.Text, nullable=False),  # pending, confirmed, contradicted or absent
    sa.Column("by", sa.Text),  # issuer_log or provider_record; None while pending from the beginning
    sa.Column("late", sa.Boolean, nullable=False),
    sa.Column("issuer_index", sa.BigInteger),
    sa.Column("finding_id", sa.Text, sa.ForeignKey("findings.id")),  # the entry that told of this state, if one did
    sa.Column("since", sa.Text),  # when that was logged
    sa.Column("grace_over_at", sa.Text, nullable=False),
    sa.Column("due_at", sa.Text),  # when it is to be judged, or asked about, again
    sa.Column("looks", sa.Integer, nullable=False),
    sa.Index("checks_by_item", "item_key"),
    sa.Index("checks_by_operation", "operation_key"),
    sa.Index("checks_by_state", "tenant_id", "state"),
    sa.Index("checks_due", "issuer_log_id", "due_at", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
    sa.Index("checks_to_ask", "source_id", "due_at", sqlite_where=_IS_TO_ASK, postgresql_where=_IS_TO_ASK),
)

# The entries of issuers' logs that concern a tenant's sources, each with what proves that it is there.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("issuer_log_id", sa.Text, sa.ForeignKey("issuer_logs.id"), primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("item_key", sa.LargeBinary, nullable=False),
    sa.Column("operation_key", sa.LargeBinary),
    sa.Column("seen_at", sa.Text, nullable=False),
    sa.Column("announced", sa.Boolean, nullable=False),  # an event tells of it
    sa.Column("due_at", sa.Text),  # when it is a gap, unless it is announced by then; None if it cannot be one
    sa.Column("gap_id", sa.Text, sa.ForeignKey("findings.id")),  # the entry of our log that told of the gap
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id")),  # whose gap it is
    # What an erasure takes away:
    sa.Column("entry", sa.LargeBinary),
    sa.Column("proof", sa.LargeBinary),  # a tlog-proof whose extra is the entry
    sa.Index("claims_by_item", "item_key"),
    sa.Index("claims_by_operation", "operation_key"),
    sa.Index("claims_due", "issuer_log_id", "due_at", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
    sa.Index("claims_of_gaps", "gap_id"),
)

# What was found out and logged: cross-checks, gaps, forks and silences; and what was erased, held and released, with
# why. Each has an entry of the log.
findings = sa.Table(
    "findings",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # uuid7, also the leaf's id
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False),
    sa.Column("log_index", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id")),
    sa.Column("event_id", sa.Text, sa.ForeignKey("deliveries.id"), index=True),
    sa.Column("issuer_log_id", sa.Text, sa.ForeignKey("issuer_logs.id")),
    sa.Column("issuer_index", sa.BigInteger),
    sa.Column("logged_at", sa.Text, nullable=False),
    # What an erasure takes away:
    sa.Column("event_data", sa.LargeBinary),  # canonical JSON
    sa.Column("event_salt", sa.LargeBinary),
    sa.Column("headers", sa.Text),  # JSON; of a provider's record the request's and the answer's lines
    sa.Column("body", sa.LargeBinary),  # the record, the issuer's entry, or the fork
    sa.Column("delivery_salt", sa.LargeBinary),
    sa.UniqueConstraint("log_id", "log_index"),
    sa.Index("findings_of_forks", "issuer_log_id", sqlite_where=IS_FORK, postgresql_where=IS_FORK),
    sa.Index("findings_of_gaps", "issuer_log_id", "issuer_index", sqlite_where=IS_GAP, postgresql_where=IS_GAP),
)

# The roots that proof bundles named, of logs that cannot be read: the same size must always have the same one.
bundle_roots = sa.Table(
    "bundle_roots",
    metadata,
    sa.Column("source_id", sa.Text, sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("log", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("root", sa.LargeBinary, primary_key=True),
    sa.Column("seen_at", sa.Text, nullable=False),
)

# The operator's own systems, to which events and alerts are passed on, and how far the log was gone through for each.
subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant_id", sa.Integer, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("topics", sa.Text, nullable=False),  # separated by commas
    sa.Column("secret", sa.LargeBinary, nullable=False),  # sealed
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("log_id", sa.Integer, sa.ForeignKey("logs.id"), nullable=False),
    sa.Column("next_index", sa.BigInteger, nullable=False),
    sa.Column("replay_next", sa.BigInteger),  # of that log, from here to `replay_end` is passed on once more
    sa.Column("replay_end", sa.BigInteger),
    sa.UniqueConstraint("tenant_id", "name"),
)

# What is to be passed on, until it is taken.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("subscription_id", sa.Text, sa.ForeignKey("subscriptions.id"), nullable=False),
    # Of `logs`; but a reference would have whoever records wait for whoever fills this.
    sa.Column("log_id", sa.Integer, nullable=False),
    sa.Column("log_index", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Text),  # None: given up
    sa.Column("failure", sa.Text),
    sa.UniqueConstraint("subscription_id", "log_id", "log_index"),
    sa.Index("outbox_due", "subscription_id", "due_at", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
)

__all__ = [
    "api_keys",
    "attempts",
    "bundle_roots",
    "checks",
    "claims",
    "credentials",
    "deliveries",
    "findings",
    "heard",
    "held",
    "issuer_logs",
    "log_keys",
    "metadata",
    "outbox",
    "probes",
    "processes",
    "reprocessed",
    "secrets",
    "settings",
    "sources",
    "subscriptions",
    "taken_up",
    "tallied",
    "tenants",
]
