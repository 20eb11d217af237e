"""API keys: what opens `/v1`. Kept as hashes; each has an owner, scopes, an expiry and a last use, and one tenant."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from receiver.events import Kind, format_time, new_id
from receiver.records.journal import change
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import api_keys, tenants

PREFIX = "rk_"


class Scope(StrEnum):
    """What a key may do."""

    AUDIT = "audit"
    EXPORT = "export"
    OPERATE = "operate"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that was presented and is valid now."""

    id: str
    tenant: str
    owner: str
    scopes: frozenset[str]


def parse_scopes(text: str) -> frozenset[Scope]:
    """Scopes separated by commas. Raises RecordsError naming the one that is none."""
    scopes: set[Scope] = set()
    for name in text.split(","):
        try:
            scopes.add(Scope(name.strip()))
        except ValueError:
            known = ", ".join(Scope)
            raise RecordsError(f"{name.strip()!r} is not a scope; there are {known}") from None
    return frozenset(scopes)


def create_key(
    records: Records,
    tenant: Tenant,
    name: str,
    scopes: frozenset[Scope],
    owner: str | None = None,
    expires_at: datetime | None = None,
    by: str = "command",
) -> tuple[str, str]:
    """Make a key and log that it was made; its id, and the key itself, which is shown this once.

    Raises RecordsError if the tenant already has a key of that name.
    """
    key_id, key = new_id(), PREFIX + secrets.token_urlsafe(32)
    try:
        with change(records.database, tenant.log) as changing:
            changing.tx.execute(
                sa.insert(api_keys).values(
                    id=key_id,
                    tenant_id=tenant.id,
                    name=name,
                    owner=owner or name,
                    scopes=",".join(sorted(scopes)),
                    hash=_hash(key),
                    created_at=changing.now,
                    expires_at=None if expires_at is None else format_time(expires_at),
                )
            )
            changing.tell(Kind.KEY, {"action": "created", "by": by, "id": key_id})
    except IntegrityError as error:
        raise RecordsError(f"tenant {tenant.name} already has a key named {name!r}") from error
    return key_id, key


def find_key(records: Records, presented: str, now: datetime) -> ApiKey | None:
    """The valid key with that text, or None."""
    with records.database.read() as tx:
        row = tx.execute(
            sa.select(api_keys, tenants.c.name.label("tenant"))
            .join_from(api_keys, tenants)
            .where(api_keys.c.hash == _hash(presented))
        ).one_or_none()
    if row is None or row.revoked_at is not None:
        return None
    if row.expires_at is not None and row.expires_at <= format_time(now):
        return None
    return ApiKey(row.id, row.tenant, row.owner, frozenset(row.scopes.split(",")))


class Uses:
    """When keys were last used, kept in memory and noted now and then: nobody who reads waits for a write."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._last: dict[str, str] = {}

    def add(self, key: ApiKey) -> None:
        """The key is used now."""
        self._last[key.id] = format_time(datetime.now(UTC))

    def note(self) -> None:
        """Write down what was added since; what cannot be written is left for the next time."""
        last, self._last = self._last, {}
        if not last:
            return
        try:
            with self._records.database.write() as tx:
                for key_id, used_at in last.items():
                    tx.execute(sa.update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=used_at))
        except SQLAlchemyError:
            self._last = last | self._last
            raise


def revoke_key(records: Records, tenant: Tenant, name: str, by: str = "command") -> None:
    """Make a key invalid at once, and log it. Raises RecordsError if the tenant has no such key in use."""
    with change(records.database, tenant.log) as changing:
        revoked = changing.tx.execute(
            sa.update(api_keys)
            .where(api_keys.c.tenant_id == tenant.id, api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
            .values(revoked_at=format_time(datetime.now(UTC)))
            .returning(api_keys.c.id)
        ).scalar_one_or_none()
        if revoked is None:
            raise RecordsError(f"tenant {tenant.name} has no key named {name!r} that is in use")
        changing.tell(Kind.KEY, {"action": "revoked", "by": by, "id": revoked})


def list_keys(records: Records, tenant: Tenant) -> list[dict[str, str | None]]:
    """Every key of a tenant, oldest first, without what would let anybody use it."""
    columns = ("id", "name", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    with records.database.read() as tx:
        rows = tx.execute(
            sa.select(*(api_keys.c[name] for name in columns))
            .where(api_keys.c.tenant_id == tenant.id)
            .order_by(api_keys.c.created_at)
        ).all()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _hash(key: str) -> bytes:
    # A key has 256 random bits: there is nothing to guess, so a slow hash would only slow us.
    return hashlib.sha256(key.encode()).digest()
