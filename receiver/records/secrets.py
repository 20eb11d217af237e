"""The secrets of sources: kept encrypted, each one source's only, and each for a time.

What cannot be read from the database can be compared in it: a fingerprint under a key of its own makes two rows of one
secret impossible, in all tenants. An ended secret keeps its row. Entries of the log name it, and it never comes back.
"""

import hmac
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from receiver.events import new_id, parse_time
from receiver.records.opening import Records
from receiver.records.tables import secrets
from receiver.records.vault import VaultError

MAX_SECRET = 4096
"""Bytes of a secret's text."""

_WHSEC = "whsec_"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret in the clear, and when it may be used."""

    id: str
    value: str = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class ListedSecret:
    """A secret as lists show it: by its id and times, never by its value."""

    id: str
    created_at: str
    not_before: str | None
    not_after: str | None


def new_secret(value: str) -> StoredSecret:
    """A secret with an id of its own, valid until it is ended."""
    return StoredSecret(new_id(), value, None, None)


def keep_secret(tx: sa.Connection, records: Records, source_id: str, secret: StoredSecret, now: str) -> None:
    """Keep a new secret.

    Raises SQLAlchemy's IntegrityError, which names the column `fingerprint`, if it belongs to a source already.
    """
    tx.execute(
        sa.insert(secrets).values(
            id=secret.id,
            source_id=source_id,
            value=records.vault.seal(f"secret/{secret.id}", secret.value.encode()),
            fingerprint=_fingerprint(records, secret.value),
            created_at=now,
        )
    )


def end_secrets(tx: sa.Connection, source_id: str, end: str) -> None:
    """Let every secret of a source end then, but those that end earlier anyway."""
    ends_later = sa.or_(secrets.c.not_after.is_(None), secrets.c.not_after > end)
    tx.execute(sa.update(secrets).where(secrets.c.source_id == source_id, ends_later).values(not_after=end))


def secret_rows(tx: sa.Connection, *where: sa.ColumnElement[bool]) -> dict[str, list[sa.Row[Any]]]:
    """The rows of secrets, oldest first, by the source's id."""
    found: dict[str, list[sa.Row[Any]]] = {}
    for row in tx.execute(sa.select(secrets).where(*where).order_by(secrets.c.created_at, secrets.c.id)):
        found.setdefault(row.source_id, []).append(row)
    return found


def open_secrets(records: Records, rows: Iterable[sa.Row[Any]]) -> tuple[StoredSecret, ...]:
    """These secrets in the clear. One that does not open with this data key is left out and logged."""
    opened: list[StoredSecret] = []
    for row in rows:
        try:
            value = records.vault.open(f"secret/{row.id}", row.value).decode()
        except VaultError as error:
            _log.error("source %s: %s", row.source_id, error)
            continue
        opened.append(StoredSecret(row.id, value, _time(row.not_before), _time(row.not_after)))
    return tuple(opened)


def list_secrets(rows: Iterable[sa.Row[Any]]) -> list[ListedSecret]:
    """These secrets as lists show them."""
    return [ListedSecret(row.id, row.created_at, row.not_before, row.not_after) for row in rows]


def _fingerprint(records: Records, value: str) -> bytes:
    """What two equal secrets share, without the database giving them away. `whsec_` is no part of a secret."""
    return hmac.digest(records.vault.derive("secret-fingerprint"), value.removeprefix(_WHSEC).encode(), "sha256")


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text).astimezone(UTC)
