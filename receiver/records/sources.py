"""Sources: who may deliver, how it is authenticated, and for which account.

A source keeps its id, its provider and its name; all else about it may change. Every change runs under its log's lock
(`change_source`), so of two at once the second sees what the first one did; and it is one transaction with the entries
that tell of it, which never hold a secret.

A secret enters by standard input, a file or a request, or is made here and shown once; it is kept encrypted, belongs to
one source only, and may overlap with others for a time, so that it can be rotated without losing a delivery.

A source may have an upstream as well: where the operator's own calls to the provider are passed on to. What its
provider is asked about these with is its credential (`receiver.records.credentials`), which goes nowhere but there: an
upstream of another origin (RFC 6454), or none, takes it away in the same transaction.

And a source may name its issuer's log (`receiver.records.issuer_logs`), which its events are checked against. What they
are checked against, and how, may change at any time: then all of them are taken up once more, from the first one on.
Only while a legal hold covers the source it names the log that it does: by that the log's entries are held as well.
"""

import hashlib
import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from receiver.events import Kind, format_time, new_id, parse_time
from receiver.records.issuer_logs import LOG_COLUMNS, Checking, ListedLog, checking_columns, checking_of, listed_log
from receiver.records.journal import change
from receiver.records.keeping import holds
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.secrets import (
    ListedSecret,
    StoredSecret,
    end_secrets,
    keep_secret,
    list_secrets,
    new_secret,
    open_secrets,
    secret_rows,
)
from receiver.records.tables import credentials, issuer_logs, taken_up
from receiver.records.tables import secrets as secrets_table
from receiver.records.tables import sources as sources_table
from receiver.records.tables import tenants as tenants_table

DEFAULT_REPLAY_WINDOW = 300

MAX_NAME = 256
"""Characters of a name."""

CREDENTIAL_REMOVED = "credential_removed"
"""What the log calls it that a credential is taken away."""

_ID = re.compile("[0-9a-f-]{36}")
_CHECKED_BY = ("account", "issuer_log_id", "issuer_log_from", "exclusive", "grace", "upstream")
"""The columns that say what events are checked against, and how."""

_PORTS = {"http": 80, "https": 443}


class NoSuchSourceError(RecordsError):
    """The tenant has no source of that id or name."""


class TakenError(RecordsError):
    """The name, or the secret, belongs to a source already."""


class HeldSourceError(RecordsError):
    """A legal hold covers the source, so that it must name the issuer's log that it does."""

    def __init__(self, hold_id: str) -> None:
        super().__init__(
            f"a hold covers the source, {hold_id}, and with it the entries of the issuer's log that it names: that log "
            "cannot be changed before the hold is released. Add another source for the new one"
        )
        self.hold_id = hold_id


@dataclass(frozen=True, slots=True)
class Source:
    """One sender of deliveries, as it is configured. `replay_window` is in seconds."""

    id: str
    tenant: str
    name: str
    provider: str
    scheme: str
    scheme_options: Mapping[str, str | bool]
    account: str | None
    replay_window: int
    test: bool
    rate_limit: int | None
    enabled: bool
    upstream: str | None
    checking: Checking
    secrets: tuple[StoredSecret, ...]


@dataclass(frozen=True, slots=True)
class ListedSource:
    """A source as lists show it: all that there is to know of it but what its secrets and its credential are.

    `credential_since` is when that was set, None if there is none.
    """

    id: str
    name: str
    provider: str
    scheme: str
    scheme_options: dict[str, str | bool]
    account: str | None
    environment: str
    enabled: bool
    replay_window: int
    rate_limit: int | None
    webhook_path: str
    upstream: str | None
    credential_since: str | None
    issuer_log: ListedLog | None
    issuer_log_from: int | None
    exclusive: bool
    grace: int
    follow_every: int
    expect_every: int | None
    created_at: str
    secrets: list[ListedSecret]


@dataclass(frozen=True, slots=True)
class NewSource:
    """What a source is made of; the rest is settled here."""

    name: str
    provider: str
    scheme: str
    scheme_options: Mapping[str, str | bool]
    account: str | None = None
    replay_window: int = DEFAULT_REPLAY_WINDOW
    test: bool = False
    rate_limit: int | None = None
    upstream: str | None = None
    checking: Checking = field(default_factory=Checking)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a source is to be from now on, and a new secret if it is to have one.

    The others then end `overlap` seconds from now, if they do not end earlier anyway.
    """

    source: Source
    secret: StoredSecret | None = None
    overlap: int = 0


def is_name(text: str) -> bool:
    """Whether a text can be a name: it can be printed, kept, and written in a URL's query."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and text == text.strip()


def is_id(text: str) -> bool:
    """Whether a text has the shape of a source's id, which no name may have: where both are taken, it is an id."""
    return _ID.fullmatch(text) is not None


def webhook_path(source_id: str) -> str:
    """Where deliveries to a source are sent."""
    return f"/webhooks/{source_id}"


# ---- changing -------------------------------------------------------------------------------------------------------


def add_source(records: Records, tenant: Tenant, new: NewSource, secret: str, by: str = "command") -> str:
    """Keep a new source with its first secret, and log it; the source's id.

    Raises TakenError if the name is taken, or the secret already belongs to a source.
    """
    source_id = new_id()
    with _unless_taken(tenant, new.name), change(records.database, tenant.log) as changing:
        changing.tx.execute(
            sa.insert(sources_table).values(
                id=source_id,
                tenant_id=tenant.id,
                name=new.name,
                provider=new.provider,
                enabled=True,
                created_at=changing.now,
                **_settings(changing.tx, new, changing.now),
            )
        )
        keep_secret(changing.tx, records, source_id, new_secret(secret), changing.now)
        changing.tell(Kind.SOURCE, {"action": "added", "by": by, "id": source_id})
    return source_id


def change_source(
    records: Records, tenant: Tenant, source_id: str, decide: Callable[[Source], Decision], by: str = "command"
) -> tuple[ListedSource, list[str]]:
    """Change a source as `decide` says, and log it; the source as it is then, and what the log was told of it.

    `decide` is given the source as it is, with the secrets that have not ended, and is asked under the log's lock: what
    it raises leaves everything as it was. Each kind of change that changes something is an entry: `changed`,
    `credential_removed`, `disabled` or `enabled`, `rotated`. Raises NoSuchSourceError; TakenError if the new secret
    belongs to a source, this one included; HeldSourceError.
    """
    with _unless_taken(tenant), change(records.database, tenant.log) as changing:
        tx, now = changing.tx, changing.now
        before = _find(tx, records, tenant, source_id, now)
        decision = decide(before)
        after = decision.source
        values, present = _settings(tx, after, now), _settings(tx, before, now)
        if present["issuer_log_id"] not in {None, values["issuer_log_id"]}:
            _must_not_be_held(tx, tenant, source_id)
        actions: list[str] = []
        if values != present:
            actions.append("changed")
        moved = before.upstream is not None and not _same_origin(before.upstream, after.upstream)
        if moved and remove_credential(tx, source_id):  # else the next look would send it to whoever is there now
            actions.append(CREDENTIAL_REMOVED)
        if after.enabled != before.enabled:
            actions.append("enabled" if after.enabled else "disabled")
        if actions:
            its = sa.update(sources_table).where(sources_table.c.id == source_id)
            tx.execute(its.values(enabled=after.enabled, **values))
        if after.enabled != before.enabled or any(values[name] != present[name] for name in _CHECKED_BY):
            take_up_again(tx, source_id)
        if decision.secret is not None:
            actions.append("rotated")
            # By the clock that secrets are judged by: the log's time may stand ahead of it.
            end = min(datetime.now(UTC), parse_time(now)) + timedelta(seconds=decision.overlap)
            end_secrets(tx, source_id, format_time(end))
            keep_secret(tx, records, source_id, decision.secret, now)
        for action in actions:
            changing.tell(Kind.SOURCE, {"action": action, "by": by, "id": source_id})
        (listed,) = _listed(tx, sources_table.c.id == source_id)
    return listed, actions


def remove_credential(tx: sa.Connection, source_id: str) -> bool:
    """Take a source's credential away, which is to be logged as `CREDENTIAL_REMOVED`; whether it had one."""
    return tx.execute(sa.delete(credentials).where(credentials.c.source_id == source_id)).rowcount > 0


def take_up_again(tx: sa.Connection, source_id: str) -> None:
    """Have all events of a source checked once more: against something else, or in another way."""
    tx.execute(sa.delete(taken_up).where(taken_up.c.source_id == source_id))


def _must_not_be_held(tx: sa.Connection, tenant: Tenant, source_id: str) -> None:
    """Raises HeldSourceError. Holds are placed and released under the log's lock as well."""
    in_force = sa.select(holds.c.id).where(holds.c.tenant_id == tenant.id, holds.c.released_at.is_(None))
    oldest = in_force.where(holds.c.source_id == source_id).order_by(holds.c.placed_at, holds.c.id).limit(1)
    hold_id = tx.execute(oldest).scalar_one_or_none()
    if hold_id is not None:
        raise HeldSourceError(hold_id)


def _same_origin(upstream: str, other: str | None) -> bool:
    return other is not None and _origin(upstream) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: whoever is at another one is somebody else."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _settings(tx: sa.Connection, source: NewSource | Source, now: str) -> dict[str, Any]:
    """The columns that may change, besides `enabled`. An issuer's log that is new is given its row."""
    return {
        "scheme": source.scheme,
        "scheme_options": json.dumps(dict(source.scheme_options), sort_keys=True),
        "account": source.account,
        "replay_window": source.replay_window,
        "environment": "test" if source.test else "live",
        "rate_limit": source.rate_limit,
        "upstream": source.upstream,
        **checking_columns(tx, source.checking, now),
    }


@contextmanager
def _unless_taken(tenant: Tenant, name: str = "") -> Generator[None]:
    try:
        yield
    except IntegrityError as error:
        if "fingerprint" in str(error.orig):
            raise TakenError("this secret already belongs to a source; a secret is one source's only") from error
        raise TakenError(f"tenant {tenant.name} already has a source named {name!r}") from error


# ---- reading --------------------------------------------------------------------------------------------------------


_NAMES_LOG = sources_table.c.issuer_log_id == issuer_logs.c.id
_SOURCES: sa.Select[*tuple[Any, ...]] = (
    sa.select(sources_table, tenants_table.c.name.label("tenant"), *LOG_COLUMNS)
    .join_from(sources_table, tenants_table)
    .outerjoin(issuer_logs, _NAMES_LOG)
)


def load_sources(records: Records) -> list[Source]:
    """Every source of every tenant, with its secrets in the clear.

    A secret that does not open with this data key is left out and logged: the other sources must go on.
    """
    with records.database.read() as tx:
        rows = tx.execute(_SOURCES).all()
        secrets = secret_rows(tx)
    return [_source(row, open_secrets(records, secrets.get(row.id, []))) for row in rows]


def list_sources(records: Records, tenant: Tenant) -> list[ListedSource]:
    """Every source of a tenant, oldest first."""
    with records.database.read() as tx:
        return _listed(tx, sources_table.c.tenant_id == tenant.id)


def get_source(records: Records, tenant: Tenant, source_id: str) -> ListedSource:
    """One source of a tenant. Raises NoSuchSourceError."""
    for source in list_sources(records, tenant):
        if source.id == source_id:
            return source
    raise _no_source(source_id)


def named_source(records: Records, tenant: Tenant, name: str) -> str:
    """The id of a tenant's source of that name. Raises NoSuchSourceError."""
    for source in list_sources(records, tenant):
        if source.name == name:
            return source.id
    raise NoSuchSourceError(f"tenant {tenant.name} has no source named {name!r}")


def relay_source(records: Records, tenant: Tenant, id_or_name: str) -> Source:
    """One source of a tenant, enabled or not, as the database has it now; without its secrets, which are not opened.

    Raises NoSuchSourceError.
    """
    column = sources_table.c.id if is_id(id_or_name) else sources_table.c.name
    with records.database.read() as tx:
        return _source(_row(tx, tenant, column, id_or_name), ())


def sources_version(records: Records) -> bytes:
    """A value that differs once any source or secret was changed; cheap to ask for often."""
    columns = (secrets_table.c.id, secrets_table.c.not_before, secrets_table.c.not_after)
    with records.database.read() as tx:
        rows = tx.execute(sa.select(sources_table).order_by(sources_table.c.id)).all()
        of_secrets = tx.execute(sa.select(*columns).order_by(secrets_table.c.id)).all()
    return hashlib.sha256(repr((rows, of_secrets)).encode()).digest()


def _find(tx: sa.Connection, records: Records, tenant: Tenant, source_id: str, now: str) -> Source:
    # Whoever follows the source's log writes to its row without the tenant's lock: not between this and the change.
    row = _row(tx, tenant, sources_table.c.id, source_id, for_update=True)
    not_ended = sa.or_(secrets_table.c.not_after.is_(None), secrets_table.c.not_after > now)
    secrets = secret_rows(tx, secrets_table.c.source_id == source_id, not_ended)
    return _source(row, open_secrets(records, secrets.get(source_id, [])))


def _row(
    tx: sa.Connection, tenant: Tenant, column: sa.ColumnElement[str], given: str, *, for_update: bool = False
) -> sa.Row[Any]:
    row = None
    if is_name(given):  # as an id is; else it is not even text that a database need take
        its = _SOURCES.where(column == given, sources_table.c.tenant_id == tenant.id)
        if for_update:
            its = its.with_for_update(of=sources_table, key_share=True)
        row = tx.execute(its).one_or_none()
    if row is None:
        raise _no_source(given)
    return row


def _listed(tx: sa.Connection, *where: sa.ColumnElement[bool]) -> list[ListedSource]:
    query = sa.select(sources_table, credentials.c.created_at.label("credential_since"), *LOG_COLUMNS)
    query = query.join_from(sources_table, credentials, isouter=True).outerjoin(issuer_logs, _NAMES_LOG).where(*where)
    ordered = query.order_by(sources_table.c.created_at, sources_table.c.id)
    rows: Sequence[sa.Row[Any]] = tx.execute(ordered).all()
    secrets = secret_rows(tx, secrets_table.c.source_id.in_(sa.select(sources_table.c.id).where(*where)))
    return [
        ListedSource(
            id=row.id,
            name=row.name,
            provider=row.provider,
            scheme=row.scheme,
            scheme_options=json.loads(row.scheme_options),
            account=row.account,
            environment=row.environment,
            enabled=row.enabled,
            replay_window=row.replay_window,
            rate_limit=row.rate_limit,
            webhook_path=webhook_path(row.id),
            upstream=row.upstream,
            credential_since=row.credential_since,
            issuer_log=listed_log(row),
            issuer_log_from=row.issuer_log_from,
            exclusive=row.exclusive,
            grace=row.grace,
            follow_every=row.follow_every,
            expect_every=row.expect_every,
            created_at=row.created_at,
            secrets=list_secrets(secrets.get(row.id, [])),
        )
        for row in rows
    ]


def _source(row: sa.Row[Any], secrets: tuple[StoredSecret, ...]) -> Source:
    return Source(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        provider=row.provider,
        scheme=row.scheme,
        scheme_options=json.loads(row.scheme_options),
        account=row.account,
        replay_window=row.replay_window,
        test=row.environment == "test",
        rate_limit=row.rate_limit,
        enabled=row.enabled,
        upstream=row.upstream,
        checking=checking_of(row),
        secrets=secrets,
    )


def _no_source(source_id: str) -> NoSuchSourceError:
    return NoSuchSourceError(f"there is no source {source_id[:64]!a}")


__all__ = [
    "CREDENTIAL_REMOVED",
    "DEFAULT_REPLAY_WINDOW",
    "MAX_NAME",
    "Decision",
    "HeldSourceError",
    "ListedSource",
    "NewSource",
    "NoSuchSourceError",
    "Source",
    "StoredSecret",
    "TakenError",
    "add_source",
    "change_source",
    "get_source",
    "is_name",
    "list_sources",
    "load_sources",
    "named_source",
    "relay_source",
    "remove_credential",
    "sources_version",
    "take_up_again",
    "webhook_path",
]
