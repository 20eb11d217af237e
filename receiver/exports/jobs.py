"""What is asked to be exported: its entry of the log, its row, and what its file is made from.

    export_id = ask(records, tenant, query, by=key.id)
    …                                              a checkpoint that covers the entry is published
    with records.database.write() as tx:
        job = settle(tx, export_id)                all that the file follows from
    build(records, job, out)                       the same bytes each time (`receiver.exports.building`)

The entry, and the row of the same id, are written in one transaction under the log's lock; so is the key that the log's
exports are signed with, at the first one, with an entry that announces it. Which checkpoint it is, and which export was
the one before, is settled once and kept in the row: a file that is made again is the same as the first, except for what
was erased since. Who makes it, and how far that is, is `receiver.exports.leases`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

import sqlalchemy as sa

from receiver import providers
from receiver.events import Kind, format_time, new_id, parse_time
from receiver.records.giving import COMPLETED, PENDING, PROCESSING, remove_files, withdraw
from receiver.records.journal import Changing, change
from receiver.records.keeping import export_keys, exports
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import tenants
from translog.canonical import Value
from translog.note import SigningKey
from translog.store import checkpoints

Basis: TypeAlias = Literal["logged", "received", "occurred"]
BASES: Sequence[str] = get_args(Basis)

PURPOSE = "exports"
"""What the entry that announces the key says that it is for; and the last part of the key's name."""


class ExportError(RecordsError):
    """What was asked cannot be exported: `member` names what of it, the message says why."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


class NoSuchExportError(RecordsError):
    """The tenant has no export of that id."""


class UncoveredError(RecordsError):
    """No checkpoint covers an export's entry; `for_good`, none will."""

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for."""

    since: str
    """The period begins then; as `receiver.events.format_time` writes it, as all times here are."""
    until: str
    """And ends before that."""
    basis: str
    """What the times are of: `logged`, `received` or `occurred`."""
    providers: tuple[str, ...] | None
    """Sorted; None: all."""
    tests: bool
    """Whether test sources' events are among them."""
    parquet: bool
    """Whether the bundle is to hold `events.parquet` as well."""


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `exports`, with all that its file follows from."""

    id: str
    tenant_id: int
    log_id: int
    log_index: int
    """Of the export's own entry."""
    asked_by: str
    """An API key's id, or `command`."""
    created_at: str
    """When its entry was logged."""
    query: Query
    checkpoint: bytes
    """The signed note of the log that covers the entry."""
    previous: bytes | None
    """The same of the export before it of the same log, if that was completed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An export as lists show it.

    `state` is `pending`, `processing`, `completed` or `failed`, for the reason that is `error`. `completed_at` to
    `sha256` (of the file, in hex; `size` in bytes) are null unless it is completed. From `expires_at` on there is no
    file of it any more.
    """

    id: str
    state: str
    progress_percent: int
    error: str | None
    since: str
    until: str
    basis: str
    providers: list[str] | None
    tests: bool
    parquet: bool
    asked_by: str
    log_index: int
    created_at: str
    completed_at: str | None
    expires_at: str | None
    size: int | None
    sha256: str | None


# ---- asking ---------------------------------------------------------------------------------------------------------


def query_of(
    since: str, until: str, basis: str = "logged", of: Sequence[str] | None = None, *, tests: bool, parquet: bool
) -> Query:
    """What is asked for, from texts: RFC 3339 times, and names of providers, None for all. Raises ExportError."""
    if basis not in BASES:
        raise ExportError("basis", f"basis is {basis[:80]!a}; it must be one of {', '.join(BASES)}")
    if of is not None:
        if not of:
            raise ExportError("providers", "providers is empty; name at least one, or leave it out for all")
        for name in of:
            if name not in providers.names():
                known = ", ".join(providers.names())
                raise ExportError("providers", f"there is no provider {name[:80]!a}; known: {known}")
    named = None if of is None else tuple(sorted(set(of)))
    return Query(_moment("since", since), _moment("until", until), basis, named, tests, parquet)


def _moment(member: str, text: str) -> str:
    try:
        return format_time(parse_time(text))
    except ValueError:
        expected = "an RFC 3339 time such as 2026-07-01T00:00:00Z"
        raise ExportError(member, f"{member} is {text[:80]!a}; it must be {expected}") from None


def ask(
    records: Records, tenant: Tenant, query: Query, by: str = "command", lease: tuple[str, str] | None = None
) -> str:
    """Log what is asked for, and keep it; the export's id. With a `lease` (`receiver.exports.leases`), who makes it.

    Raises ExportError for a period that is none, or is not over, and for a Parquet file where none can be written.
    """
    if query.since >= query.until:
        raise ExportError("until", f"until is {query.until}; it must be after since, {query.since}")
    _must_be_over(query, format_time(datetime.now(UTC)))
    if query.parquet and not _writes_parquet():
        raise ExportError("parquet", "this needs the extra `parquet`: pip install 'rescind[parquet]'")
    export_id = new_id()
    holder, held_until = (None, None) if lease is None else lease
    with change(records.database, tenant.log) as changing:
        _must_be_over(query, changing.now)  # again: the entry itself must not be dated before the period's end
        _announce_key(records, tenant, changing, by)
        named: list[Value] | None = None if query.providers is None else list(query.providers)
        index = changing.tell(
            Kind.EXPORT,
            {
                "basis": query.basis,
                "by": by,
                "parquet": query.parquet,
                "providers": named,
                "since": query.since,
                "tests": query.tests,
                "until": query.until,
            },
            export_id,
        )
        changing.tx.execute(
            sa.insert(exports).values(
                id=export_id,
                tenant_id=tenant.id,
                log_id=tenant.log_id,
                log_index=index,
                asked_by=by,
                since=query.since,
                until=query.until,
                basis=query.basis,
                providers=None if query.providers is None else ",".join(query.providers),
                tests=query.tests,
                parquet=query.parquet,
                created_at=changing.now,
                previous_id=_previous(changing.tx, tenant),
                state=PENDING if lease is None else PROCESSING,
                progress=0,
                holder=holder,
                held_until=held_until,
                failures=0,
            )
        )
    return export_id


def _must_be_over(query: Query, now: str) -> None:
    if query.until > now:
        raise ExportError("until", f"until is {query.until}; it must not be after now, {now}")


def _writes_parquet() -> bool:
    from receiver.exports.parquet import available

    return available()


def _announce_key(records: Records, tenant: Tenant, changing: Changing, by: str) -> None:
    """Make the key of the log's exports, and log it, if there is none yet."""
    tx, log_id = changing.tx, tenant.log_id
    if tx.execute(sa.select(export_keys.c.log_id).where(export_keys.c.log_id == log_id)).first() is not None:
        return
    key, its_id = SigningKey.generate(f"{tenant.log.origin}/{PURPOSE}"), new_id()
    vkey = str(key.verifying_key())
    facts = {"action": "announced", "by": by, "id": its_id, "purpose": PURPOSE, "vkey": vkey}
    index = changing.tell(Kind.KEY, dict(facts), its_id)
    sealed = records.vault.seal(key_place(log_id), str(key).encode())
    tx.execute(sa.insert(export_keys).values(log_id=log_id, log_index=index, vkey=vkey, private_key=sealed))


def key_place(log_id: int) -> str:
    """What the sealed key of a log's exports is bound to (`receiver.records.vault`)."""
    return f"exports/{log_id}"


def _previous(tx: sa.Connection, tenant: Tenant) -> str | None:
    done = exports.c.log_id == tenant.log_id, exports.c.completed_at.is_not(None)
    newest = sa.select(exports.c.id).where(*done).order_by(exports.c.log_index.desc()).limit(1)
    return tx.execute(newest).scalar_one_or_none()


# ---- what its file is made from -------------------------------------------------------------------------------------


def settle(tx: sa.Connection, export_id: str) -> Job:
    """What an export is made from. Its checkpoint is settled now, in a writing transaction, unless it was before.

    It is the first one that covers its entry. Raises UncoveredError if there is none yet; NoSuchExportError.
    """
    row = tx.execute(sa.select(exports).where(exports.c.id == export_id)).one_or_none()
    if row is None:
        raise NoSuchExportError(f"there is no export {export_id[:64]!a}")
    if row.checkpoint is None:
        covering = checkpoints.c.log_id == row.log_id, checkpoints.c.size > row.log_index
        first = sa.select(checkpoints.c.note).where(*covering).order_by(checkpoints.c.size).limit(1)
        note = tx.execute(first).scalar_one_or_none()
        if note is None:
            lives = sa.select(tenants.c.id).where(tenants.c.log_id == row.log_id)
            if tx.execute(lives).first() is None:
                raise UncoveredError("its log was closed before it signed a checkpoint of it; ask anew", for_good=True)
            raise UncoveredError(f"no checkpoint covers entry {row.log_index}, which asks for this export, yet")
        unsettled = sa.update(exports).where(exports.c.id == export_id, exports.c.checkpoint.is_(None))
        tx.execute(unsettled.values(checkpoint=note))
    return load(tx, export_id)


def load(tx: sa.Connection, export_id: str) -> Job:
    """The same, of an export whose checkpoint is settled."""
    before = exports.alias()
    query = sa.select(exports, before.c.checkpoint.label("previous"))
    query = query.join_from(exports, before, before.c.id == exports.c.previous_id, isouter=True)
    row = tx.execute(query.where(exports.c.id == export_id)).one()
    return Job(
        id=row.id,
        tenant_id=row.tenant_id,
        log_id=row.log_id,
        log_index=row.log_index,
        asked_by=row.asked_by,
        created_at=row.created_at,
        query=Query(row.since, row.until, row.basis, _split(row.providers), row.tests, row.parquet),
        checkpoint=bytes(row.checkpoint),
        previous=None if row.previous is None else bytes(row.previous),
    )


def _split(names: str | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names.split(","))


# ---- reading --------------------------------------------------------------------------------------------------------


def find(tx: sa.Connection, tenant: Tenant, export_id: str) -> Listed:
    """One export of a tenant. Raises NoSuchExportError."""
    row = tx.execute(_of(tenant).where(exports.c.id == export_id)).one_or_none()
    if row is None:
        raise NoSuchExportError(f"there is no export {export_id[:64]!a}")
    return _listed(row)


def find_all(
    tx: sa.Connection, tenant: Tenant, limit: int, before: str | None = None
) -> tuple[list[Listed], str | None]:
    """The newest exports of a tenant, asked for before that of an id, and the id of the last one if there are more."""
    query = _of(tenant).order_by(exports.c.id.desc()).limit(limit + 1)
    rows = tx.execute(query if before is None else query.where(exports.c.id < before)).all()
    return [_listed(row) for row in rows[:limit]], rows[limit - 1].id if len(rows) > limit else None


def _of(tenant: Tenant) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(exports).where(exports.c.tenant_id == tenant.id)


def _listed(row: sa.Row[Any]) -> Listed:
    named = _split(row.providers)
    done = row.state == COMPLETED
    return Listed(
        id=row.id,
        state=row.state,
        progress_percent=row.progress,
        error=row.error,
        since=row.since,
        until=row.until,
        basis=row.basis,
        providers=None if named is None else list(named),
        tests=row.tests,
        parquet=row.parquet,
        asked_by=row.asked_by,
        log_index=row.log_index,
        created_at=row.created_at,
        completed_at=row.completed_at if done else None,
        expires_at=row.expires_at if done else None,
        size=row.size if done else None,
        sha256=row.sha256.hex() if done else None,
    )


__all__ = [
    "BASES",
    "Basis",
    "ExportError",
    "Job",
    "Listed",
    "NoSuchExportError",
    "Query",
    "UncoveredError",
    "ask",
    "find",
    "find_all",
    "load",
    "query_of",
    "remove_files",
    "settle",
    "withdraw",
]
