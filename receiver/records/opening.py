"""Opening the records: database, data key, guard and every tenant's log, checked before anything is written.

    records = Records.open(settings)           # makes the data folder, the schema and the tenant `default` at first use
    tenant = records.tenant("default")
    with records.database.write() as tx: …

A database that was put back from a copy, or regrown, is refused here (`Log.check`); so is one that knows nothing of a
log which the guard knows, since it was put back from a copy older than that log.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from receiver.events import Kind, format_time, new_id
from receiver.records import tables
from receiver.records.engine import Database
from receiver.records.journal import logging_time
from receiver.records.loss import lost_logs, tenant_of
from receiver.records.migrations import has_schema, must_be_newest, upgrade
from receiver.records.vault import KEY_SIZE, Vault, VaultError, data_key_in, parse_data_key
from receiver.settings import Settings
from translog import note
from translog.canonical import Value
from translog.checkpoint import Checkpoint
from translog.errors import StoreError
from translog.evidence import Leaf
from translog.guard import Guard
from translog.log import Log
from translog.merkle import EMPTY_ROOT
from translog.note import SigningKey, VerifyingKey
from translog.store import SqlStore, create_log

DEFAULT_TENANT = "default"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_BASE = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*")


class RecordsError(Exception):
    """The records cannot be opened or used as asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant: its log, and the key of its keyed hashes (32 bytes)."""

    id: int
    name: str
    log_id: int
    log: Log
    hash_key: bytes


class Records:
    """What is open: the database, the vault, the guard and the tenants."""

    def __init__(self, settings: Settings, database: Database, vault: Vault, guard: Guard) -> None:
        self.settings = settings
        self.database = database
        self.vault = vault
        self.guard = guard
        self._tenants: dict[str, Tenant] = {}
        self._unguarded: set[str] = set()

    @classmethod
    def open(cls, settings: Settings, *, check: bool = True) -> "Records":
        """Open them, making what is not there yet. With `check`, each log is held to its guard.

        Raises RecordsError, VaultError, translog's StoreError, or SQLAlchemy's errors for a database out of reach.
        """
        records = cls._begin(settings)
        try:
            records._prepare(check=check)  # noqa: SLF001 (its own)
        except BaseException:
            records.close()
            raise
        return records

    @classmethod
    def inspect(cls, settings: Settings) -> "Records":
        """Open what is there, and make, migrate, check and write nothing: for whoever looks into what is damaged.

        No tenant is known to it, since what is sealed may not open. Raises RecordsError if there is nothing,
        SchemaError for another version's database, and else as `open`.
        """
        must_exist(settings)
        records = cls._begin(settings, make_key=False)
        try:
            must_be_newest(records.database)
        except BaseException:
            records.close()
            raise
        return records

    def _prepare(self, *, check: bool) -> None:
        self.database.must_be_durable()
        upgrade(self.database)
        self._settle_origin()
        self.reload()
        if check:
            for tenant in self.tenants:
                if not self.must_be_guarded(tenant):
                    self._unguarded.add(tenant.name)  # the check below leaves a guard
                tenant.log.check()
        lost = self.lost_logs()
        if check and lost:
            raise self._lost(lost)
        if not lost:
            self.ensure_tenant(DEFAULT_TENANT)

    @classmethod
    def _begin(cls, settings: Settings, *, make_key: bool = True) -> "Records":
        if settings.origin is not None and not _BASE.fullmatch(settings.origin):
            raise RecordsError(
                f"the origin {settings.origin!r} must be host/path, without a scheme or a trailing slash"
            )
        try:
            settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            database = Database(settings.url)
        except (OSError, ValueError) as error:
            raise RecordsError(f"the data folder {settings.data} cannot be used: {error}") from error
        try:
            if settings.data_key is not None:
                key = parse_data_key(settings.data_key.get_secret_value())
            else:
                # Never make a second key for a database that holds values under a first one.
                key = data_key_in(settings.data, make=make_key and not has_schema(database))
        except BaseException:
            database.dispose()
            raise
        return cls(settings, database, Vault(key), Guard(settings.guard))

    def close(self) -> None:
        """Close the database."""
        self.database.dispose()

    # ---- tenants ------------------------------------------------------------------------------------------------

    @property
    def tenants(self) -> tuple[Tenant, ...]:
        """Every tenant known to this process, by id."""
        return tuple(sorted(self._tenants.values(), key=lambda tenant: tenant.id))

    def tenant(self, name: str) -> Tenant:
        """That tenant. Raises RecordsError if there is none of that name."""
        if not self.has_tenant(name):
            known = ", ".join(sorted(self._tenants)) or "none"
            raise RecordsError(f"there is no tenant {name!r}; known: {known}")
        return self._tenants[name]

    def has_tenant(self, name: str) -> bool:
        """Whether there is a tenant of that name."""
        if name not in self._tenants:
            self.reload()
        return name in self._tenants

    def reload(self) -> None:
        """Learn of tenants, and of successor logs, that other processes made."""
        query = sa.select(
            tables.tenants.c.id,
            tables.tenants.c.name,
            tables.tenants.c.log_id,
            tables.tenants.c.hash_key,
            tables.log_keys.c.private_key,
        ).join_from(tables.tenants, tables.log_keys, tables.log_keys.c.log_id == tables.tenants.c.log_id)
        with self.database.read() as tx:
            rows = tx.execute(query).all()
        for row in rows:
            known = self._tenants.get(row.name)
            if known is None or known.log_id != row.log_id:
                self._tenants[row.name] = Tenant(
                    id=row.id,
                    name=row.name,
                    log_id=row.log_id,
                    log=self._log(row.log_id, row.private_key),
                    hash_key=self.vault.open(f"tenant/{row.name}", row.hash_key),
                )

    def ensure_tenant(self, name: str, by: str = "command") -> Tenant:
        """That tenant, made with its own log if it is new; size 0 is published at once.

        Raises RecordsError for a name that cannot be one, and if the guard knows a log of that tenant already.
        """
        self.reload()
        if name in self._tenants:
            return self._tenants[name]
        if not _NAME.fullmatch(name):
            raise RecordsError(f"the tenant name {name!r} must be lower-case letters, digits and hyphens, at most 63")
        lost = {claim: log for claim, log in self.lost_logs().items() if self.owner(log) == name}
        if lost:
            raise self._lost(lost)
        try:
            with self.database.write() as tx:
                key = SigningKey.generate(f"{self.base_origin(tx)}/log/{name}")
                log_id = create_log(tx, key.name, EMPTY_ROOT)
                tenant_id = self.insert_tenant(tx, name, log_id)
                self.begin_log(tx, tenant_id, log_id, key, [{"action": "created", "by": by, "id": name}])
        except IntegrityError:
            return self.tenant(name)  # another process made it at the same moment
        tenant = self.tenant(name)
        tenant.log.publish()
        return tenant

    def insert_tenant(self, tx: sa.Connection, name: str, log_id: int) -> int:
        """Keep a new tenant, with a key of its own for keyed hashes; its id."""
        return tx.execute(
            sa.insert(tables.tenants)
            .values(
                name=name,
                log_id=log_id,
                hash_key=self.vault.seal(f"tenant/{name}", secrets.token_bytes(KEY_SIZE)),
                created_at=format_time(datetime.now(UTC)),
            )
            .returning(tables.tenants.c.id)
        ).scalar_one()

    def begin_log(
        self,
        tx: sa.Connection,
        tenant_id: int,
        log_id: int,
        key: SigningKey,
        firsts: Sequence[Mapping[str, Value]],
        not_before: str = "",
    ) -> None:
        """Keep a new log's key, sealed, and append its first leaves, of kind `tenant`, not dated before `not_before`.

        The guard is told of size 0 before the commit: a log that has entries and no guard may be refused at the next
        start.
        """
        tx.execute(
            sa.insert(tables.log_keys).values(
                log_id=log_id,
                tenant_id=tenant_id,
                vkey=str(key.verifying_key()),
                private_key=self.vault.seal(f"log/{log_id}", str(key).encode()),
            )
        )
        log = Log(key.name, key, SqlStore(self.database, self.database.dialect, log_id), self.guard)
        now = max(logging_time(log.lock(tx)), not_before)
        leaves = [Leaf(Kind.TENANT, new_id(), now, dict(facts), None, None) for facts in firsts]
        log.append(tx, [leaf.encode() for leaf in leaves], now)
        with self.guard.hold(log.verifying_key) as held:
            held.advance(note.sign(Checkpoint(log.origin, 0, EMPTY_ROOT).text, key))

    def log(self, log_id: int) -> Log:
        """Any log; a tenant's earlier one is closed. Raises StoreError if it is not there."""
        for tenant in self._tenants.values():
            if tenant.log_id == log_id:
                return tenant.log
        with self.database.read() as tx:
            vkey = tx.execute(
                sa.select(tables.log_keys.c.vkey).where(tables.log_keys.c.log_id == log_id)
            ).scalar_one_or_none()
        if vkey is None:
            raise StoreError(f"log {log_id} is not in the database")
        key = VerifyingKey.parse(vkey)
        # A guard holds a log back from signing; this one cannot, and its guard may be of another tree than its rows.
        log = Log(key.name, key, SqlStore(self.database, self.database.dialect, log_id), None)
        log.refresh()
        return log

    def _log(self, log_id: int, sealed: bytes) -> Log:
        key = SigningKey.parse(self.vault.open(f"log/{log_id}", sealed).decode())
        store = SqlStore(self.database, self.database.dialect, log_id)
        return Log(key.name, key, store, self.guard)

    # ---- the first opening --------------------------------------------------------------------------------------

    def base_origin(self, tx: sa.Connection) -> str:
        """The base of every log's origin, as it was settled at first use."""
        return str(
            tx.execute(sa.select(tables.settings.c.value).where(tables.settings.c.name == "origin")).scalar_one()
        )

    def _settle_origin(self) -> None:
        wanted = self.settings.origin
        try:
            with self.database.write() as tx:
                known = tx.execute(
                    sa.select(tables.settings.c.value).where(tables.settings.c.name == "origin")
                ).scalar_one_or_none()
                if known is None:
                    known = wanted or f"rescind.invalid/{secrets.token_hex(8)}"
                    tx.execute(sa.insert(tables.settings).values(name="origin", value=known))
        except IntegrityError:  # another first start settled it at the same moment
            return self._settle_origin()
        if wanted is not None and wanted != known:
            raise RecordsError(
                f"the origin of these logs is {known} and never changes; {wanted} was asked for. Leave it out"
            )
        return None

    def owner(self, log: Checkpoint) -> str | None:
        """The name of the tenant to whom a log of this base belongs, by its origin."""
        with self.database.read() as tx:
            return tenant_of(log.origin, self.base_origin(tx))

    def lost_logs(self) -> dict[str, Checkpoint]:
        """What the guard has of this base's logs that the database knows nothing of, by the name of its claim."""
        with self.database.read() as tx:
            base = self.base_origin(tx)
        claims = self.guard.claims(f"{base}/log/")
        with self.database.read() as tx:
            return lost_logs(tx, base, claims)

    def _lost(self, lost: Mapping[str, Checkpoint]) -> RecordsError:
        claim, log = next(iter(lost.items()))
        return RecordsError(
            f"the guard has a checkpoint of {log.size} entries of {log.origin}, a log that this database knows nothing "
            "of: it was put back from a copy that is older than the log, or was made anew. Put the newest copy in "
            f"place; if there is none, `receiver recover --tenant {self.owner(log)}` begins a successor log that says "
            f"what is missing. If that log was given up for good, move {self.guard.folder / claim}.checkpoint away"
        )

    def must_be_guarded(self, tenant: Tenant) -> bool:
        """Whether the guard knew this tenant's log at opening. Raises RecordsError if it must and does not."""
        if tenant.name in self._unguarded:
            return False
        if self.guard.read(tenant.log.verifying_key) is not None or tenant.log.head().size == 0:
            return True
        if self.settings.require_guard:
            raise RecordsError(
                f"the log of tenant {tenant.name} is not empty and the guard {self.guard.folder} knows nothing of it. "
                "Put the guard folder back, or unset RESCIND_REQUIRE_GUARD to go on without it"
            )
        return False


def must_exist(settings: Settings) -> None:
    """Refuse settings that name no records yet, for what makes no sense on new ones. Raises RecordsError."""
    if not settings.data.is_dir():
        raise RecordsError(f"there is no data folder {settings.data}; name it with --data, or RESCIND_DATA")
    file = Path(settings.url.removeprefix("sqlite:///"))
    if settings.url.startswith("sqlite:") and not file.is_file():
        raise RecordsError(f"there is no database {file}; put it back from a copy, or name another folder with --data")


__all__ = ["DEFAULT_TENANT", "Records", "RecordsError", "Tenant", "VaultError", "must_exist"]
