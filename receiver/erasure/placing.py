"""Legal holds: placed and released, each by an entry of the log, and listed.

    listed = place(records, tenant, Place(item={…}, reason="…"), key)
    listed = release(records, tenant, listed.id, "…", another_key)

Whoever places a hold cannot lift it alone: the key that releases it must have another owner. Both are entries whose
facts are the hold's id and the key's; what is held, and why, is only committed to there, and kept beside it. Of a
person not even that: it is found by a keyed hash. The entry and the hold's row are one transaction under the log's
lock, under which erasures run as well: whatever is erased after it is not what it covers.

A hold's words go with the item or the person that they are about, which the hold prevents as long as it is in force:
`words_of` says which rows they are in.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from unicodedata import category, normalize

import sqlalchemy as sa
from msgspec import Meta

from receiver import providers
from receiver.documents import MAX_ID, MAX_TYPE, is_uuid
from receiver.events import Item, Kind, format_time, new_id, parse_time
from receiver.records import keyed, persons
from receiver.records.apikeys import ApiKey
from receiver.records.findings import Finding, keep
from receiver.records.journal import change
from receiver.records.keeping import holds
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import api_keys, findings, sources
from translog.canonical import Value

IN_FORCE, RELEASED = "in_force", "released"
PLACED = "placed"
"""What the entry of a hold says, in a word; that of its release says `RELEASED`."""

TARGETS = ("item", "source", "provider", "person", "period")

MAX_REASON = 1000
"""Characters."""

# Unicode's Default_Ignorable_Code_Point, and the four others of which there is nothing to see: U+2800, U+FFFC, U+16FE4
# and U+1D159.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\ufffc\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)

_ITEM = ("provider", "type", "id")
_PERIOD = ("since", "until")


class HoldError(RecordsError):
    """What was asked cannot be: `member` names what of it, the message says why."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


class NoSuchHoldError(RecordsError):
    """The tenant has no hold of that id."""


class ReleasedError(RecordsError):
    """The hold is released already."""


class SameOwnerError(RecordsError):
    """The key that was to release the hold belongs to whoever placed it."""


def _members(names: tuple[str, ...]) -> Meta:
    """A schema's words for an object of exactly these strings."""
    return Meta(
        extra_json_schema={
            "properties": {name: {"type": "string"} for name in names},
            "required": list(names),
            "additionalProperties": False,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A new hold: what it is to cover, which is exactly one of these, and why."""

    reason: str = field(repr=False)
    item: Annotated[dict[str, str], _members(_ITEM)] | None = None
    source: str | None = None
    """Its id or its name."""
    provider: str | None = None
    person: str | None = field(default=None, repr=False)
    """Such as `email:…`."""
    period: Annotated[dict[str, str], _members(_PERIOD)] | None = None
    """When deliveries were received, RFC 3339: `since` inclusive, `until` exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Why a hold is not needed any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold as lists show it. Of what it covers only the member that `target` names is given, of a person none.

    Words that are erased, with the item or the person that they are about, are null.
    """

    id: str
    state: str
    target: str
    item: dict[str, str] | None
    source: str | None
    """Its id."""
    provider: str | None
    period: dict[str, str] | None
    reason: str | None
    placed_by: str
    """The key's id."""
    placed_at: str
    log_index: int
    released_by: str | None
    released_at: str | None
    release_reason: str | None
    release_log_index: int | None


# ---- changing -------------------------------------------------------------------------------------------------------


def place(records: Records, tenant: Tenant, asked: Place, by: ApiKey) -> Hold:
    """Keep a new hold, and log it; the hold. What is recorded later is covered like what is there.

    Raises HoldError.
    """
    reason = _reason(asked.reason)
    if asked.person is not None:
        persons.catch_up(records, tenant)  # so that the first erasure need not, under the log's lock
    its_id = new_id()
    with change(records.database, tenant.log) as changing:
        columns, words = _covered_by(changing.tx, tenant, asked)
        facts: dict[str, Value] = {"by": by.id, "hold": its_id}
        keep(changing, tenant, Finding(Kind.HOLD, PLACED, facts, {"covers": words, "reason": reason}), its_id)
        changing.tx.execute(
            sa.insert(holds).values(id=its_id, tenant_id=tenant.id, placed_by=by.id, placed_at=changing.now, **columns)
        )
    return get(records, tenant, its_id)


def release(records: Records, tenant: Tenant, hold_id: str, reason: str, by: ApiKey) -> Hold:
    """Lift a hold, and log it; the hold as it is then. What it held back is run by `receiver.erasure.requests`.

    Raises HoldError for the reason; NoSuchHoldError; ReleasedError; SameOwnerError.
    """
    why = _reason(reason)
    with change(records.database, tenant.log) as changing:
        query = sa.select(holds, api_keys.c.owner).join_from(holds, api_keys, api_keys.c.id == holds.c.placed_by)
        row = changing.tx.execute(query.where(*_named(tenant, hold_id))).one_or_none()
        if row is None:
            raise _no_hold(hold_id)
        if row.released_at is not None:
            raise ReleasedError(f"the hold {row.id} was released already, at {row.released_at}")
        if one_owner(row.owner, by.owner):
            raise SameOwnerError(
                f"the hold {row.id} was placed with a key of the same owner; it takes a key of somebody else to "
                "release it"
            )
        facts: dict[str, Value] = {"by": by.id, "hold": row.id}
        kept = keep(changing, tenant, Finding(Kind.RELEASE, RELEASED, facts, {"reason": why}))
        changing.tx.execute(
            sa.update(holds)
            .where(holds.c.id == row.id)
            .values(released_by=by.id, released_at=changing.now, release_id=kept.id)
        )
    return get(records, tenant, row.id)


def one_owner(one: str, other: str) -> bool:
    """Whether two keys have the same owner, however it is spelled: by NFKC, whatever the case and the spaces, and by
    what can be seen of it.
    """
    return _spelled(one) == _spelled(other)


def unseen(text: str) -> str:
    """The characters of a text that nobody sees, such as a joiner of no width or a variation selector."""
    return "".join(char for char in text if category(char) == "Cf" or _UNSEEN.fullmatch(char))


def _spelled(owner: str) -> str:
    """One spelling of all that look the same: what is not seen is left out, and then keeps nothing from composing."""
    seen = owner.translate(dict.fromkeys(map(ord, unseen(owner))))
    without_spaces = "".join(normalize("NFKC", seen).split())
    return normalize("NFKC", normalize("NFKC", without_spaces).casefold())


def _reason(text: str) -> str:
    if not text.strip() or len(text) > MAX_REASON or not _can_be_kept(text):
        raise HoldError("reason", f"reason must be text of 1 to {MAX_REASON} characters, without a NUL")
    return text


def _covered_by(tx: sa.Connection, tenant: Tenant, asked: Place) -> tuple[dict[str, Any], dict[str, Value]]:
    """The columns of what is asked to be held, and its words: what is committed to."""
    given = [name for name in TARGETS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise HoldError("reason" if not given else given[1], f"give exactly one of {', '.join(TARGETS)}")
    if asked.item is not None:
        provider, item = _item(asked.item)
        return {"item_key": keyed.item_key(tenant.hash_key, provider, item)}, {"item": dict(asked.item)}
    if asked.source is not None:
        source_id, name = _source(tx, tenant, asked.source)
        return {"source_id": source_id}, {"source": name}
    if asked.provider is not None:
        return {"provider": _provider("provider", asked.provider)}, {"provider": asked.provider}
    if asked.person is not None:
        return {"person_key": _person_key(tenant, asked.person)}, {"person": True}
    period = _period(asked.period or {})
    return period, {"period": dict(period)}


def _item(item: Mapping[str, str]) -> tuple[str, Item]:
    must_be = f"item must have {', '.join(_ITEM)}, each a text, and nothing else"
    if sorted(item) != sorted(_ITEM):
        raise HoldError("item", must_be)
    for name, limit in (("type", MAX_TYPE), ("id", MAX_ID)):
        if not 0 < len(item[name]) <= limit or not _can_be_kept(item[name]):
            raise HoldError("item", f"item.{name} must be a text of 1 to {limit} characters, without a NUL")
    return _provider("item", item["provider"]), Item(item["type"], item["id"])


def _provider(member: str, name: str) -> str:
    if name not in providers.names():
        raise HoldError(member, f"the provider must be one of {', '.join(providers.names())}")
    return name


def _source(tx: sa.Connection, tenant: Tenant, named: str) -> tuple[str, str]:
    row = None
    if _can_be_kept(named):
        mine = sa.select(sources.c.id, sources.c.name).where(sources.c.tenant_id == tenant.id)
        row = tx.execute(mine.where(sa.or_(sources.c.id == named, sources.c.name == named))).first()
    if row is None:
        raise HoldError("source", f"there is no source {named[:64]!a}")
    return row.id, row.name


def _person_key(tenant: Tenant, text: str) -> bytes:
    try:
        return persons.key_of(tenant, persons.person(text))
    except ValueError as error:
        raise HoldError("person", str(error)) from None


def _period(period: Mapping[str, str]) -> dict[str, str]:
    try:
        since, until = (format_time(parse_time(period[name])) for name in _PERIOD)
    except (KeyError, ValueError):
        since = until = ""
    if sorted(period) != sorted(_PERIOD) or since >= until:
        raise HoldError("period", "period must have since and until, RFC 3339, the first before the second")
    return {"since": since, "until": until}


def _can_be_kept(text: str) -> bool:
    """Whether the database takes it: an argument of a command may hold what is no text."""
    return not any(one == "\0" or "\ud800" <= one <= "\udfff" for one in text)


# ---- reading --------------------------------------------------------------------------------------------------------


def get(records: Records, tenant: Tenant, hold_id: str) -> Hold:
    """One hold of a tenant. Raises NoSuchHoldError."""
    with records.database.read() as tx:
        row = tx.execute(_HOLDS.where(*_named(tenant, hold_id))).one_or_none()
    if row is None:
        raise _no_hold(hold_id)
    return _hold(row)


def find(
    records: Records, tenant: Tenant, released: bool | None, before: str | None, limit: int | None
) -> tuple[list[Hold], str | None]:
    """A tenant's holds, newest first: those that are released or not, or all, beyond the id `before`; and the id of
    the last one, if there are more. Without a limit all of them.
    """
    query = _HOLDS.where(holds.c.tenant_id == tenant.id).order_by(holds.c.id.desc())
    if released is not None:
        query = query.where(holds.c.released_at.is_not(None) if released else holds.c.released_at.is_(None))
    if before is not None:
        query = query.where(holds.c.id < before)
    if limit is not None:
        query = query.limit(limit + 1)
    with records.database.read() as tx:
        rows = tx.execute(query).all()
    more = limit is not None and len(rows) > limit
    return [_hold(row) for row in rows[:limit]], rows[limit - 1].id if limit is not None and more else None


def words_of(tx: sa.Connection, tenant: Tenant, keys: Collection[bytes]) -> list[str]:
    """The ids of the rows of `findings` that say in words what was held, or why, of these items or persons.

    They are to be erased together with these, whose keyed hashes `keys` are; those of a hold in force are not.
    """
    about = sa.or_(holds.c.item_key.in_(keys), holds.c.person_key.in_(keys))
    mine = sa.select(holds.c.id, holds.c.release_id).where(holds.c.tenant_id == tenant.id, about)
    return sorted(its_id for row in tx.execute(mine.where(holds.c.released_at.is_not(None))) for its_id in row)


_placed = findings.alias("placed")
_released = findings.alias("released")
_HOLDS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        holds,
        _placed.c.log_index,
        _placed.c.event_data.label("words"),
        _released.c.log_index.label("release_log_index"),
        _released.c.event_data.label("release_words"),
    )
    .join_from(holds, _placed, _placed.c.id == holds.c.id)
    .join(_released, _released.c.id == holds.c.release_id, isouter=True)
)


def target_of(row: sa.Row[Any]) -> str:
    """What kind of thing a row of `holds` covers: one of `TARGETS`."""
    columns = {"item_key": "item", "person_key": "person", "source_id": "source", "provider": "provider"}
    return next((target for name, target in columns.items() if getattr(row, name) is not None), "period")


def _hold(row: sa.Row[Any]) -> Hold:
    words: dict[str, Any] = {} if row.words is None else json.loads(row.words)
    release: dict[str, Any] = {} if row.release_words is None else json.loads(row.release_words)
    target = target_of(row)
    return Hold(
        id=row.id,
        state=IN_FORCE if row.released_at is None else RELEASED,
        target=target,
        item=words["covers"]["item"] if words and target == "item" else None,
        source=row.source_id,
        provider=row.provider,
        period={"since": row.since, "until": row.until} if target == "period" else None,
        reason=words.get("reason"),
        placed_by=row.placed_by,
        placed_at=row.placed_at,
        log_index=row.log_index,
        released_by=row.released_by,
        released_at=row.released_at,
        release_reason=release.get("reason"),
        release_log_index=row.release_log_index,
    )


def _named(tenant: Tenant, hold_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    """That tenant's hold of that id; what is no id is not even text that a database need take."""
    if not is_uuid(hold_id):
        raise _no_hold(hold_id)
    return holds.c.id == hold_id, holds.c.tenant_id == tenant.id


def _no_hold(hold_id: str) -> NoSuchHoldError:
    return NoSuchHoldError(f"there is no hold {hold_id[:64]!a}")
