"""Whom deliveries name: an index of keyed hashes, which catches up with the logs in the background.

    catch_up(records, tenant)                   goes through what has been logged since; waits for nobody for long
    with change(…) as changing:
        catch_up_locked(changing.tx, tenant)    under the log's lock, nothing more comes: now the index is complete
        deliveries_of(changing.tx, tenant, key_of(tenant, person("email:jane@example.com")))

The recorder writes nothing of it: `persons_read` says how far each log has been gone through, and moves in the same
transaction that writes what was found there, so a crash leaves neither a gap nor a row too many. What a delivery's
body is looked for is what its provider documents (`Provider.persons`). Whom a provider's record names that was kept as
a finding about an event, that event names as well: erased with it, it has to be found with it.

A row tells that somebody was named, so it goes when its delivery is erased (`forget`). Between reading a delivery and
writing its rows that may have happened: both are done by whoever has locked the row of `persons_read`.

What is no strict JSON, and is in quarantine for that, is read as far as it can be (`receiver.loosejson`): it names
somebody all the same. Nobody is named by what is only encoded in a document.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from receiver import loosejson, providers
from receiver.documents import Person, PersonKind, persons_in
from receiver.providers import Provider
from receiver.records.attempts import METHOD, asked
from receiver.records.keeping import persons, persons_read
from receiver.records.keyed import person_key
from receiver.records.opening import Records, Tenant
from receiver.records.tables import deliveries, findings, log_keys, sources
from receiver.strictjson import NotJson, parse
from translog.store import logs

PIECE = 256
"""Entries of a log that are gone through in one transaction: each may have a body of 256 KiB."""

PIECES = 40
"""Transactions after which a turn in the background ends: what is left is for the next one."""

_Named: TypeAlias = set[tuple[bytes, str]]
"""Keys of persons, and the ids of the deliveries that name them."""


def person(text: str) -> Person:
    """The person that `KIND:VALUE` names, as `email:jane@example.com` does.

    Raises ValueError, which names the kinds and not the value, if it is of another form.
    """
    kind, _, value = text.partition(":")
    try:
        found = Person.of(PersonKind(kind), value)
        value.encode()  # a command's argument may hold what is no text
    except ValueError:
        found = None
    if found is None or "\0" in value:
        raise ValueError(f"a person is KIND:VALUE, where KIND is one of {', '.join(PersonKind)}")
    return found


def key_of(tenant: Tenant, named: Person) -> bytes:
    """What the tenant's deliveries are found by that name that person: 16 bytes."""
    return person_key(tenant.hash_key, named.kind, named.value)


def catch_up_all(records: Records) -> None:
    """A turn in the background: go on with the logs of every tenant, not necessarily to their ends."""
    for tenant in records.tenants:
        catch_up(records, tenant, PIECES)


def catch_up(records: Records, tenant: Tenant, pieces: int | None = None) -> None:
    """Go through what was logged since the last time: all of it, or that many pieces; closed logs too.

    Several may do so at once: who comes second to a piece leaves it to the first. Raises SQLAlchemy's errors; what was
    done until then stays.
    """
    with records.database.read() as tx:
        log_ids = _logs_of(tx, tenant)
    for log_id in log_ids:
        while pieces is None or pieces > 0:
            with records.database.read() as tx:
                start, end = _next_piece(tx, log_id)
                named = _named(tx, tenant, log_id, start, end)
            if start == end:
                break
            with records.database.write() as tx:
                if _lock(tx, [log_id])[log_id] == start:
                    _write(tx, named, log_id, end)
            pieces = None if pieces is None else pieces - 1


def catch_up_locked(tx: sa.Connection, tenant: Tenant) -> None:
    """Go through all that is left, in a transaction that has the lock of the tenant's log, of what it committed before.

    Who has called `catch_up` just before has hardly anything left. Until the transaction ends no other catches up.
    """
    log_ids = _logs_of(tx, tenant)
    _lock(tx, log_ids)
    for log_id in log_ids:
        start, end = _next_piece(tx, log_id)
        while start < end:
            _write(tx, _named(tx, tenant, log_id, start, end), log_id, end)
            start, end = _next_piece(tx, log_id)


def deliveries_of(tx: sa.Connection, tenant: Tenant, key: bytes) -> list[str]:
    """The ids of the tenant's deliveries that name the person with that key, oldest first, as far as is caught up."""
    query = (
        sa.select(deliveries.c.id)
        .join_from(persons, deliveries, deliveries.c.id == persons.c.delivery_id)
        .join(log_keys, log_keys.c.log_id == deliveries.c.log_id)
        .where(persons.c.person_key == key, log_keys.c.tenant_id == tenant.id)
        .order_by(deliveries.c.log_id, deliveries.c.log_index)
    )
    return list(tx.execute(query).scalars())


def forget(tx: sa.Connection, ids: Sequence[str]) -> None:
    """Have nobody found by these deliveries any more, which are erased in the same transaction, before or after.

    Other ids are passed over. As many as one entry of kind `erasure` names are no problem for any database.
    """
    if not ids:
        return
    log_ids = tx.execute(sa.select(deliveries.c.log_id).where(deliveries.c.id.in_(ids)).distinct()).scalars()
    _lock(tx, sorted(log_ids))
    tx.execute(sa.delete(persons).where(persons.c.delivery_id.in_(ids)))


def named_by(hash_key: bytes, provider: str, headers: str | None, body: bytes) -> set[bytes]:
    """The keys of the persons whom a delivery names, or what else a provider said, by its headers' JSON and its body.

    Of headers those count that hold the request's line: the path of a call may name somebody. Nobody is named by what
    this version cannot read, or of a provider that it does not know.
    """
    try:
        known = providers.get(provider)
    except ValueError:
        return set()
    return {person_key(hash_key, one.kind, one.value) for one in _persons(known, headers, body)}


# ---- what names them ------------------------------------------------------------------------------------------------


def _persons(provider: Provider, headers: str | None, body: bytes) -> Iterator[Person]:
    if not provider.persons:
        return
    if headers is not None and f'"{METHOD}"' in headers:
        path, _ = asked(provider.operation, headers, b"")
        yield from persons_in(dict(path), provider.persons)
    if _mentions(provider.name).search(body) is None and not loosejson.is_wide(body):
        return
    try:
        yield from persons_in(parse(body), provider.persons)
    except NotJson:
        loose = loosejson.read(body)
        found = (persons_in(loose.values, provider.persons), persons_in(loose.members, _anywhere(provider.name)))
        yield from (one for one in chain(*found) if loosejson.is_text(one.value))


@cache
def _mentions(provider: str) -> re.Pattern[bytes]:
    """What is found in every body that names somebody: a member's name, or an escape, which may be part of one.

    To look for it takes a hundredth of the time that it takes to read the JSON.
    """
    names = {name.rpartition(".")[2] for name in providers.get(provider).persons}
    return re.compile(rb'\\u|"(?:' + b"|".join(sorted(re.escape(name).encode() for name in names)) + rb')"')


@cache
def _anywhere(provider: str) -> dict[str, Sequence[PersonKind]]:
    """What a member is called that may name somebody, whatever it is in, with all the kinds that it may be of then."""
    kinds: dict[str, dict[PersonKind, None]] = {}
    for name, its in providers.get(provider).persons.items():
        kinds.setdefault(name.rpartition(".")[2], {}).update(dict.fromkeys(its))
    return {name: tuple(its) for name, its in kinds.items()}


# ---- rows -----------------------------------------------------------------------------------------------------------

_IS_KEPT = sa.or_(deliveries.c.body.is_not(None), deliveries.c.event_data.is_not(None))

# What is left of a delivery whose body is erased alone is the event's own data, which may name somebody too.
_DELIVERIES: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.id,
        deliveries.c.headers,
        sa.func.coalesce(deliveries.c.body, deliveries.c.event_data).label("body"),
        sources.c.provider,
    )
    .join_from(deliveries, sources, sources.c.id == deliveries.c.source_id)
    .where(
        deliveries.c.log_id == sa.bindparam("log"),
        deliveries.c.log_index >= sa.bindparam("start"),
        deliveries.c.log_index < sa.bindparam("end"),
        _IS_KEPT,
    )
)
_FINDINGS: sa.Select[*tuple[Any, ...]] = (
    sa.select(findings.c.event_id.label("id"), sa.null().label("headers"), findings.c.body, sources.c.provider)
    .join_from(findings, deliveries, deliveries.c.id == findings.c.event_id)
    .join(sources, sources.c.id == deliveries.c.source_id)
    .where(
        findings.c.log_id == sa.bindparam("log"),
        findings.c.log_index >= sa.bindparam("start"),
        findings.c.log_index < sa.bindparam("end"),
        findings.c.body.is_not(None),
    )
)


def _logs_of(tx: sa.Connection, tenant: Tenant) -> list[int]:
    """The tenant's logs, closed ones too, in the order in which they are locked."""
    query = sa.select(log_keys.c.log_id).where(log_keys.c.tenant_id == tenant.id)
    return list(tx.execute(query.order_by(log_keys.c.log_id)).scalars())


def _next_piece(tx: sa.Connection, log_id: int) -> tuple[int, int]:
    """The range of entries to be gone through next; empty at the log's end."""
    size, start = tx.execute(
        sa.select(logs.c.size, sa.func.coalesce(persons_read.c.next_index, 0))
        .join_from(logs, persons_read, persons_read.c.log_id == logs.c.id, isouter=True)
        .where(logs.c.id == log_id)
    ).one()
    return start, min(start + PIECE, size)


def _named(tx: sa.Connection, tenant: Tenant, log_id: int, start: int, end: int) -> _Named:
    """Who is named by what in that range of a log, which may have been erased by the time that this is written."""
    place = {"log": log_id, "start": start, "end": end}
    return {
        (key, row.id)
        for query in (_DELIVERIES, _FINDINGS)
        for row in tx.execute(query, place)
        for key in named_by(tenant.hash_key, row.provider, row.headers, bytes(row.body))
    }


def _lock(tx: sa.Connection, log_ids: Iterable[int]) -> dict[int, int]:
    """Have nobody else catch up with these logs until the transaction ends; how far each is gone through."""
    wanted = set(log_ids)
    query = sa.select(persons_read).where(persons_read.c.log_id.in_(wanted)).order_by(persons_read.c.log_id)
    read = {row.log_id: row.next_index for row in tx.execute(query.with_for_update())}
    if read.keys() == wanted:
        return read
    # A row refers to its log: that is locked first, or this and who has the log's lock could wait for one another.
    missing = sorted(wanted - read.keys())
    tx.execute(sa.select(logs.c.id).where(logs.c.id.in_(missing)).order_by(logs.c.id).with_for_update(key_share=True))
    tx.execute(_insert(tx, persons_read), [{"log_id": log_id, "next_index": 0} for log_id in missing])
    return {row.log_id: row.next_index for row in tx.execute(query.with_for_update())}


def _write(tx: sa.Connection, named: _Named, log_id: int, end: int) -> None:
    """Keep who is named by what is not erased, and that the log is gone through to there. It is locked."""
    ids = {delivery_id for _, delivery_id in named}
    if ids:
        there = set(tx.execute(sa.select(deliveries.c.id).where(deliveries.c.id.in_(ids), _IS_KEPT)).scalars())
        rows = [{"person_key": key, "delivery_id": id_} for key, id_ in sorted(named) if id_ in there]
        if rows:
            tx.execute(_insert(tx, persons), rows)
    tx.execute(sa.update(persons_read).where(persons_read.c.log_id == log_id).values(next_index=end))


def _insert(tx: sa.Connection, table: sa.Table) -> sa.Insert:
    """An insert that leaves what is there as it is."""
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()


__all__ = [
    "Person",
    "PersonKind",
    "catch_up",
    "catch_up_all",
    "catch_up_locked",
    "deliveries_of",
    "forget",
    "key_of",
    "named_by",
    "person",
]
