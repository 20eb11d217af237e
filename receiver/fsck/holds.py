"""Holds and retention: what the entries tell of them, and the rows by which it is judged what may be erased.

A hold's row, the entry that placed it and the one that released it are each written with the other. So a row that is
gone, or says that the hold covers something else, or is released, would let something be erased that must be kept: all
of it is derived again, from the entries and from the words that these commit to, as long as those are not erased. For
how long a provider's bodies are kept must be as was told last.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from receiver.erasure.placing import one_owner, target_of
from receiver.events import Item
from receiver.fsck.report import Notes
from receiver.fsck.told import Told, ToldHold
from receiver.records import keyed
from receiver.records.keeping import holds, retention
from receiver.records.tables import api_keys, findings, sources, tenants

_COLUMNS = ("item_key", "person_key", "source_id", "provider", "since", "until")
_UNKNOWN = b"?"
_COLUMNS_OF = {"item": 1, "person": 1, "source": 1, "provider": 1, "period": 2}


def check_holds(tx: sa.Connection, told: Told, hash_keys: Mapping[int | None, bytes | None], notes: Notes) -> None:
    """Compare every hold with what was told of it, both ways, and with its words.

    `hash_keys` are the tenants' (32 bytes); without one the keyed hashes are not checked.
    """
    rows = {row.id: row for row in tx.execute(_HOLDS)}
    for tenant_id in tx.execute(sa.select(tenants.c.id).order_by(tenants.c.id)).scalars():
        mine = {its_id: row for its_id, row in rows.items() if row.tenant_id == tenant_id}
        complete = tenant_id not in told.incomplete  # else what is wrong with its entries is said already
        of_tenant = told.holds(tenant_id)
        for its_id in sorted(of_tenant.keys() - mine.keys() if complete else ()):
            notes.fault(f"hold {its_id}", "is not there, though an entry tells of it")
        for its_id, row in sorted(mine.items()):
            problems = [*_differences(row, of_tenant.get(its_id, ToldHold()))] if complete else []
            for problem in (*problems, *_strange(row, hash_keys.get(tenant_id))):
                notes.fault(f"hold {its_id}", problem)


def check_retention(tx: sa.Connection, told: Told, notes: Notes) -> None:
    """Compare for how long bodies are kept with what was told of it last."""
    for tenant in tx.execute(sa.select(tenants.c.id, tenants.c.name).order_by(tenants.c.id)):
        if tenant.id in told.incomplete:
            continue
        mine = sa.select(retention.c.provider, retention.c.days, retention.c.set_at)
        rows = {
            provider: (days, at) for provider, days, at in tx.execute(mine.where(retention.c.tenant_id == tenant.id))
        }
        of_tenant = told.retention(tenant.id)
        for provider in sorted(rows.keys() | of_tenant.keys()):
            place = f"retention of {provider} by tenant {tenant.name}"
            if provider not in of_tenant:
                notes.fault(place, "is there, and no entry tells of it")
            elif provider not in rows:
                notes.fault(place, "is not there, though an entry tells of it")
            elif rows[provider] != of_tenant[provider]:
                (days, at), (said, since) = rows[provider], of_tenant[provider]
                notes.fault(place, f"is {days} days since {at!a}, and the entries say {said} since {since!a}")


def _differences(row: sa.Row[Any], told: ToldHold) -> Iterator[str]:
    """In what a row is not as the entries tell."""
    if told.placed is None:
        yield "is there, and no entry tells of it"
    elif (row.id, row.placed_by, row.placed_at) != told.placed:
        yield f"was placed by {row.placed_by!a} at {row.placed_at!a}, and the entries say otherwise"
    release = row.release_id, row.released_by, row.released_at
    if told.released is None and release != (None, None, None):
        yield "is released, and no entry tells of that"
    elif told.released is not None and row.released_at is None:
        yield "is not released, as was told"
    elif told.released is not None and release != told.released:
        yield f"was released by {row.released_by!a} at {row.released_at!a}, and the entries say otherwise"


def _strange(row: sa.Row[Any], hash_key: bytes | None) -> Iterator[str]:
    """What is wrong with a row by itself, and with what it covers by its words."""
    target = target_of(row)
    if sum(getattr(row, name) is not None for name in _COLUMNS) != _COLUMNS_OF[target]:
        yield "covers other than one item, person, source, provider or period"
    if target == "source" and row.source_tenant_id != row.tenant_id:
        yield f"the source {row.source_id} is not there, or another tenant's"
    if row.placing_tenant_id != row.tenant_id:
        yield f"the key {row.placed_by} that it was placed with is not there, or another tenant's"
    if row.released_by is not None:
        if row.releasing_tenant_id != row.tenant_id:
            yield f"the key {row.released_by} that it was released with is not there, or another tenant's"
        elif row.placing_owner is not None and one_owner(row.placing_owner, row.releasing_owner):
            yield "was placed and released with keys of one owner"
    if row.words is None:
        return
    try:
        told = _told_by(json.loads(row.words)["covers"], target, hash_key)
    except (ValueError, KeyError, TypeError):
        told = None  # of another kind, or words that nobody committed to
    if told is None or told != _kept_by(row, target, hash_key):
        yield "covers something else than its entry commits to"


def _told_by(covers: dict[str, Any], target: str, hash_key: bytes | None) -> Any:
    """What a hold covers by its words, as `_kept_by` gives it."""
    its = covers[target]
    if target == "item":
        item = Item(its["type"], its["id"])
        return _UNKNOWN if hash_key is None else keyed.item_key(hash_key, its["provider"], item)
    return [its["since"], its["until"]] if target == "period" else its


def _kept_by(row: sa.Row[Any], target: str, hash_key: bytes | None) -> Any:
    match target:
        case "item":
            return _UNKNOWN if hash_key is None else row.item_key
        case "person":
            # Whom, no words say: of the keyed hash it can be seen only whether it is one.
            return isinstance(row.person_key, bytes) and len(row.person_key) == keyed.SIZE
        case "source":
            return row.source_name
        case "provider":
            return row.provider
        case _:
            return [row.since, row.until]


_placing = api_keys.alias("placing")
_releasing = api_keys.alias("releasing")
_HOLDS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        holds,
        findings.c.event_data.label("words"),
        sources.c.name.label("source_name"),
        sources.c.tenant_id.label("source_tenant_id"),
        _placing.c.tenant_id.label("placing_tenant_id"),
        _placing.c.owner.label("placing_owner"),
        _releasing.c.tenant_id.label("releasing_tenant_id"),
        _releasing.c.owner.label("releasing_owner"),
    )
    .join_from(holds, findings, findings.c.id == holds.c.id, isouter=True)
    .join(sources, sources.c.id == holds.c.source_id, isouter=True)
    .join(_placing, _placing.c.id == holds.c.placed_by, isouter=True)
    .join(_releasing, _releasing.c.id == holds.c.released_by, isouter=True)
    .order_by(holds.c.id)
)
