"""Issuers' transparency logs: which ones there are, and the sources that name each.

A source may name the log that its issuer keeps: by the URL, by the policy that its checkpoints must satisfy, and by
their origin where that is not the name of the log's keys. These three are the log's identity. Whoever names the same
three, for a source of whichever tenant, names the same log: it has one row here, and is followed once. Another URL, key
or origin is another log, of which nothing is known yet. What a source says of its log, and of how its events are
checked against that or against what else there is, is its `Checking`.

A row is made when a source first names its log, and is never removed, for what was found out names it. How far a log
was followed, and what became of that, is kept in its row by whoever follows it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from receiver.documents import one_case
from receiver.events import Claim, Effect, new_id
from receiver.records.tables import issuer_logs, sources
from translog.follower import State
from translog.policy import Policy

DEFAULT_GRACE = 86_400
DEFAULT_FOLLOW_EVERY = 10


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """What makes a log this one. `policy` is the text of a C2SP tlog-policy file, as `translog.policy` writes it.

    `origin` is None where the checkpoints have the name of the log's keys.
    """

    url: str
    policy: str
    origin: str | None

    def trust(self) -> Policy:
        """Whose signatures make a checkpoint of this log one to rely on."""
        return Policy.parse(self.policy.encode(), self.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerLog(LogIdentity):
    """A log that has a row, with the id of that."""

    id: str


@dataclass(frozen=True, slots=True)
class Checking:
    """What a source's events are checked against, and what of it is watched. Lengths of time are in seconds.

    `starts_at` is the first index of the issuer's log that may be a gap, None if that is not known; with `exclusive`,
    every entry of the source's provider in that log is the source's own.
    """

    log: LogIdentity | None = None
    starts_at: int | None = None
    exclusive: bool = False
    grace: int = DEFAULT_GRACE
    follow_every: int = DEFAULT_FOLLOW_EVERY
    expect_every: int | None = None


@dataclass(frozen=True, slots=True)
class ListedLog:
    """A log as lists of sources show it."""

    id: str
    url: str
    origin: str | None


@dataclass(frozen=True, slots=True)
class Naming:
    """A source that names a log, as it is configured. `grace` and `follow_every` are in seconds.

    From the entry at `starts_at` on, what no delivery announced is a gap; None until that is known.
    """

    source_id: str
    tenant_id: int
    provider: str
    account: str | None
    exclusive: bool
    grace: int
    follow_every: int
    starts_at: int | None


@dataclass(frozen=True, slots=True)
class Followed:
    """A log to follow, and for which sources: one at least, of one tenant or of several."""

    log: IssuerLog
    namings: tuple[Naming, ...]


def settle(tx: sa.Connection, url: str, policy: str, origin: str | None, now: str) -> str:
    """The id of the log of that identity, which is given a row if it has none yet.

    Of two transactions that name a new one at once, the second waits for the first, and is given its row.
    """
    identity = _identity(url, policy, origin)
    found = sa.select(issuer_logs.c.id).where(issuer_logs.c.identity == identity)
    present: str | None = tx.execute(found).scalar_one_or_none()
    if present is not None:
        return present
    insert = postgresql_insert if tx.dialect.name == "postgresql" else sqlite_insert
    new = insert(issuer_logs).values(
        id=new_id(),
        url=url,
        policy=policy,
        origin=origin or "",
        identity=identity,
        created_at=now,
        state=State().encode(),
        size=0,
        next_index=0,
        wanted="[]",
        unreadable=0,
    )
    tx.execute(new.on_conflict_do_nothing())
    return tx.execute(found).scalar_one()


def followed(tx: sa.Connection) -> list[Followed]:
    """Every log that a source names which is enabled, oldest first, with all the enabled ones that do."""
    query = (
        sa.select(
            issuer_logs.c.url,
            issuer_logs.c.policy,
            issuer_logs.c.origin,
            sources.c.issuer_log_id,
            sources.c.id,
            sources.c.tenant_id,
            sources.c.provider,
            sources.c.account,
            sources.c.exclusive,
            sources.c.grace,
            sources.c.follow_every,
            sources.c.issuer_log_from,
        )
        .join_from(sources, issuer_logs, sources.c.issuer_log_id == issuer_logs.c.id)
        .where(sources.c.enabled)
        .order_by(issuer_logs.c.created_at, issuer_logs.c.id, sources.c.created_at, sources.c.id)
    )
    namings: dict[IssuerLog, list[Naming]] = {}
    for row in tx.execute(query):
        log = IssuerLog(row.url, row.policy, row.origin or None, id=row.issuer_log_id)
        namings.setdefault(log, []).append(naming_of(row))
    return [Followed(log, tuple(its)) for log, its in namings.items()]


def naming_of(row: sa.Row[*tuple[Any, ...]]) -> Naming:
    """A row of `sources`, as what it says of the log that it names."""
    return Naming(
        source_id=row.id,
        tenant_id=row.tenant_id,
        provider=row.provider,
        account=row.account,
        exclusive=row.exclusive,
        grace=row.grace,
        follow_every=row.follow_every,
        starts_at=row.issuer_log_from,
    )


# ---- whom an entry concerns -----------------------------------------------------------------------------------------

_NEVER_GAPS = frozenset({Effect.REFUSED, Effect.ACTIVATED})


def may_be_gap(entry: Claim) -> bool:
    """Whether an entry that nobody announced is a gap. That nothing was taken back is no news that was owed."""
    return entry.effect not in _NEVER_GAPS


def concerned(namings: Iterable[Naming], provider: str, account: str | None) -> list[Naming]:
    """Those of the sources that name a log which one of its entries, of that provider and account, concerns.

    If nobody announces it, the gap is theirs.
    """
    return [one for one in namings if one.provider == provider and (one.exclusive or _is_account(account, one.account))]


def _is_account(one: str | None, other: str | None) -> bool:
    """Whether both are named, and the same."""
    return one is not None and other is not None and one_case(one) == one_case(other)


# ---- of a source's row ----------------------------------------------------------------------------------------------

LOG_COLUMNS = (
    issuer_logs.c.url.label("log_url"),
    issuer_logs.c.policy.label("log_policy"),
    issuer_logs.c.origin.label("log_origin"),
)
"""What to select of `issuer_logs` beside a row of `sources`."""


def checking_columns(tx: sa.Connection, checking: Checking, now: str) -> dict[str, Any]:
    """A source's columns for how it is checked. A log that is new is given its row."""
    log = checking.log
    return {
        "issuer_log_id": None if log is None else settle(tx, log.url, log.policy, log.origin, now),
        "issuer_log_from": checking.starts_at,
        "exclusive": checking.exclusive,
        "grace": checking.grace,
        "follow_every": checking.follow_every,
        "expect_every": checking.expect_every,
    }


def checking_of(row: sa.Row[Any]) -> Checking:
    """How a source is checked, of its row with `LOG_COLUMNS`."""
    named = row.issuer_log_id is not None
    return Checking(
        log=LogIdentity(row.log_url, row.log_policy, row.log_origin or None) if named else None,
        starts_at=row.issuer_log_from,
        exclusive=row.exclusive,
        grace=row.grace,
        follow_every=row.follow_every,
        expect_every=row.expect_every,
    )


def listed_log(row: sa.Row[Any]) -> ListedLog | None:
    """The log that a source names, of its row with `LOG_COLUMNS`."""
    if row.issuer_log_id is None:
        return None
    return ListedLog(row.issuer_log_id, row.log_url, row.log_origin or None)


def _identity(url: str, policy: str, origin: str | None) -> bytes:
    """A hash of the three: together they may be longer than a database takes into an index."""
    return hashlib.sha256(json.dumps([url, policy, origin or ""]).encode()).digest()


__all__ = [
    "DEFAULT_FOLLOW_EVERY",
    "DEFAULT_GRACE",
    "LOG_COLUMNS",
    "Checking",
    "Followed",
    "IssuerLog",
    "ListedLog",
    "LogIdentity",
    "Naming",
    "checking_columns",
    "checking_of",
    "followed",
    "listed_log",
    "settle",
]
