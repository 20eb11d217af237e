"""Sources and their secrets: who may deliver, how it is authenticated, and for which account.

A secret enters by standard input or a file, or is made here and shown once; it is kept encrypted, belongs to one
source only, and may overlap with others for a time, so that it can be rotated without losing a delivery.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from receiver.events import Kind, new_id, parse_time
from receiver.records.journal import change
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import secrets as secrets_table
from receiver.records.tables import sources as sources_table
from receiver.records.tables import tenants as tenants_table
from receiver.records.vault import VaultError

DEFAULT_REPLAY_WINDOW = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret in the clear, and when it may be used."""

    id: str
    value: str = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None


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
    secrets: tuple[StoredSecret, ...]


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


def add_source(records: Records, tenant: Tenant, new: NewSource, secret: str, by: str = "command") -> str:
    """Keep a new source with its first secret, and log it; the source's id.

    Raises RecordsError if the name is taken, or the secret already belongs to a source.
    """
    source_id, secret_id = new_id(), new_id()
    try:
        with change(records.database, tenant.log) as changing:
            changing.tx.execute(
                sa.insert(sources_table).values(
                    id=source_id,
                    tenant_id=tenant.id,
                    name=new.name,
                    provider=new.provider,
                    scheme=new.scheme,
                    scheme_options=json.dumps(dict(new.scheme_options), sort_keys=True),
                    account=new.account,
                    replay_window=new.replay_window,
                    environment="test" if new.test else "live",
                    rate_limit=new.rate_limit,
                    enabled=True,
                    created_at=changing.now,
                )
            )
            changing.tx.execute(
                sa.insert(secrets_table).values(
                    id=secret_id,
                    source_id=source_id,
                    value=records.vault.seal(f"secret/{secret_id}", secret.encode()),
                    fingerprint=_fingerprint(records, secret),
                    created_at=changing.now,
                )
            )
            changing.tell(Kind.SOURCE, {"action": "added", "by": by, "id": source_id})
    except IntegrityError as error:
        if "fingerprint" in str(error.orig):
            raise RecordsError("this secret already belongs to a source; a secret is one source's only") from error
        raise RecordsError(f"tenant {tenant.name} already has a source named {new.name!r}") from error
    return source_id


def load_sources(records: Records) -> list[Source]:
    """Every source of every tenant, with its secrets in the clear.

    A secret that does not open with this data key is left out and logged: the other sources must go on.
    """
    with records.database.read() as tx:
        rows = tx.execute(
            sa.select(sources_table, tenants_table.c.name.label("tenant")).join_from(sources_table, tenants_table)
        ).all()
        secret_rows = tx.execute(sa.select(secrets_table).order_by(secrets_table.c.created_at)).all()
    secrets: dict[str, list[StoredSecret]] = {}
    for row in secret_rows:
        try:
            value = records.vault.open(f"secret/{row.id}", row.value).decode()
        except VaultError as error:
            _log.error("source %s: %s", row.source_id, error)
            continue
        secrets.setdefault(row.source_id, []).append(
            StoredSecret(row.id, value, _time(row.not_before), _time(row.not_after))
        )
    return [
        Source(
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
            secrets=tuple(secrets.get(row.id, [])),
        )
        for row in rows
    ]


def sources_version(records: Records) -> bytes:
    """A value that differs once any source or secret was changed; cheap to ask for often."""
    with records.database.read() as tx:
        rows = tx.execute(
            sa.select(sources_table.c.id, sources_table.c.enabled, sources_table.c.rate_limit, sources_table.c.scheme)
            .add_columns(sources_table.c.scheme_options, sources_table.c.account, sources_table.c.replay_window)
            .order_by(sources_table.c.id)
        ).all()
        secret_rows = tx.execute(
            sa.select(secrets_table.c.id, secrets_table.c.not_before, secrets_table.c.not_after).order_by(
                secrets_table.c.id
            )
        ).all()
    return hashlib.sha256(repr((rows, secret_rows)).encode()).digest()


def _fingerprint(records: Records, secret: str) -> bytes:
    """What two equal secrets share, without the database giving them away. `whsec_` is no part of a secret."""
    secret = secret.removeprefix("whsec_")
    return hmac.digest(records.vault.derive("secret-fingerprint"), secret.encode(), "sha256")


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text).astimezone(UTC)


__all__ = [
    "DEFAULT_REPLAY_WINDOW",
    "NewSource",
    "Source",
    "StoredSecret",
    "add_source",
    "load_sources",
    "sources_version",
]
