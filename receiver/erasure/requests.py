"""What was asked to be erased: kept as a request, done in as many changes as it takes, and answered.

    answer = ask(records, tenant, Ask(item={…}, reason="…"), by=key.id)
    resume(records, tenant)          what a crash, or the end of a turn, has left undone
    run_held(records, tenant)        what a hold kept from being done, once it is released

A request is a row of `erasures` before anything is erased, and is `running` until all of it is. Each change takes what
one entry can name, under the log's lock; in between deliveries come in. The last one looks once more under the lock, so
that nothing is left out which was recorded by then. Where a hold covers any of it nothing is erased: it is `held`, and
goes on when that is released. Whoever asks twice is answered twice: the second time there is nothing left to erase.

On SQLite what was erased is in the database's write-ahead log until that is truncated, which waits for whoever reads
what was there before. The request is not `completed` until then.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Meta

from receiver import providers
from receiver.documents import MAX_ID, MAX_TYPE, is_uuid
from receiver.erasure.erasing import MOST, Erased, Order, clear_up, drop_answers, erase, hold_of, hold_of_answers
from receiver.erasure.selecting import Selection, Target, Wanted, select
from receiver.events import Item, format_time, new_id
from receiver.records import keyed, persons
from receiver.records.journal import change
from receiver.records.keeping import erased_claims, erasures, holds
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import deliveries, log_keys

HELD, RUNNING, COMPLETED = "held", "running", "completed"
"""The states of a request."""

TURN = 20.0
"""Seconds after which a request is answered though it is still `running`: the rest is done in the background."""

MAX_REASON = 1000
"""Characters."""

PATIENCE, PAUSE = 3.0, 0.05
"""For how many seconds is tried to truncate the write-ahead log before the request is left for later, and how long
others may write in between."""

_ITEM = ("provider", "type", "id")
_TARGETS = ("event_id", "item", "person")
_IS_ITEM = Meta(
    extra_json_schema={
        "properties": {name: {"type": "string"} for name in _ITEM},
        "required": list(_ITEM),
        "additionalProperties": False,
    }
)


class ErasureError(RecordsError):
    """What was asked cannot be: `member` names what of it, the message says why, and repeats nothing of it."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


class NoSuchEventError(RecordsError):
    """The tenant has recorded nothing of that id."""


class HeldError(RecordsError):
    """A hold covers some of it, so nothing is erased: the request is kept, and goes on when the hold is released."""

    def __init__(self, erasure_id: str, hold_id: str) -> None:
        super().__init__(
            f"a hold covers some of what is to be erased, {hold_id}: nothing is erased before it is released. The "
            f"request is kept, {erasure_id}, and is done then"
        )
        self.erasure_id = erasure_id
        self.hold_id = hold_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is to be erased, which is exactly one of these, and why. The reason is kept: it should name nobody."""

    reason: str = field(repr=False)
    event_id: str | None = None
    """Of an event, a mismatch, a quarantined delivery, a call that was passed on, or what tells of one."""
    item: Annotated[dict[str, str], _IS_ITEM] | None = field(default=None, repr=False)
    person: str | None = field(default=None, repr=False)
    """Such as `email:…`."""


# ---- asking ---------------------------------------------------------------------------------------------------------


def ask(records: Records, tenant: Tenant, asked: Ask, by: str = "command", seconds: float | None = None) -> str:
    """Keep a request and do it, all of it or for so many seconds; its id. `by` is an API key's id, or `command`.

    Raises ErasureError, NoSuchEventError; HeldError once it is kept; SQLAlchemy's errors, and StoreError if nothing may
    be written to the log any more; OSError for a file that cannot be removed. What is erased by then stays so, and the
    rest of it is done later.
    """
    reason = asked.reason
    if not reason.strip() or len(reason) > MAX_REASON or not _can_be_kept(reason):
        raise ErasureError("reason", f"reason must be text of 1 to {MAX_REASON} characters, without a NUL")
    target, wanted = _wanted(tenant, asked)
    if wanted.event_id is not None:
        _must_be_there(records, tenant, wanted.event_id)
    erasure_id = begin(records, tenant, target, wanted, reason, by)
    over_at = float("inf") if seconds is None else time.monotonic() + seconds
    run(records, tenant, erasure_id, lambda: time.monotonic() >= over_at)
    return erasure_id


def begin(records: Records, tenant: Tenant, target: Target, wanted: Wanted, reason: str, by: str = "command") -> str:
    """Keep a request that is to be run; its id."""
    erasure_id = new_id()
    with records.database.write() as tx:
        tx.execute(
            sa.insert(erasures).values(
                id=erasure_id,
                tenant_id=tenant.id,
                target=target.value,
                event_id=wanted.event_id,
                item_key=wanted.item_key,
                person_key=wanted.person_key,
                reason=reason,
                asked_by=by,
                asked_at=format_time(datetime.now(UTC)),
                state=RUNNING,
                erased=0,
            )
        )
    return erasure_id


def _wanted(tenant: Tenant, asked: Ask) -> tuple[Target, Wanted]:
    given = [name for name in _TARGETS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise ErasureError(given[1] if given else "event_id", f"give exactly one of {', '.join(_TARGETS)}")
    if asked.event_id is not None:
        return Target.EVENT, Wanted(event_id=asked.event_id)
    if asked.item is not None:
        return Target.ITEM, Wanted(item_key=_item_key(tenant, asked.item))
    try:
        return Target.PERSON, Wanted(person_key=persons.key_of(tenant, persons.person(asked.person or "")))
    except ValueError as error:
        raise ErasureError("person", str(error)) from None


def _item_key(tenant: Tenant, item: Mapping[str, str]) -> bytes:
    if set(item) != set(_ITEM):
        raise ErasureError("item", f"item must have {', '.join(_ITEM)}, each a text, and nothing else")
    if item["provider"] not in providers.names():
        raise ErasureError("item", f"item.provider must be one of {', '.join(providers.names())}")
    for name, limit in (("type", MAX_TYPE), ("id", MAX_ID)):
        if not 0 < len(item[name]) <= limit or not _can_be_kept(item[name]):
            raise ErasureError("item", f"item.{name} must be a text of 1 to {limit} characters, without a NUL")
    return keyed.item_key(tenant.hash_key, item["provider"], Item(item["type"], item["id"]))


def _can_be_kept(text: str) -> bool:
    """Whether the database takes it: an argument of a command may hold what is no text."""
    return not any(one == "\0" or "\ud800" <= one <= "\udfff" for one in text)


def _must_be_there(records: Records, tenant: Tenant, event_id: str) -> None:
    its = sa.select(deliveries.c.id).join(log_keys, log_keys.c.log_id == deliveries.c.log_id)
    its = its.where(deliveries.c.id == event_id, log_keys.c.tenant_id == tenant.id)
    if is_uuid(event_id):
        with records.database.read() as tx:
            if tx.execute(its).first() is not None:
                return
    raise NoSuchEventError("there is no event of that id")


# ---- doing ----------------------------------------------------------------------------------------------------------


def run(records: Records, tenant: Tenant, erasure_id: str, is_over: Callable[[], bool] = lambda: False) -> None:
    """Do what is left of a request: all of it, unless it is over before that. Raises as `ask` does."""
    plan, checked = _prepare(records, tenant, erasure_id), False
    while plan is not None:
        plan = _step(records, tenant, erasure_id, plan, checked=checked)
        checked = True
        if is_over():
            return


def resume(records: Records, tenant: Tenant, is_over: Callable[[], bool] = lambda: False) -> None:
    """Go on with what is `running`: what a crash has left, or was not done within its turn.

    And with answers to calls that are erased, which wait to be recorded: those that a hold covered may go by now.
    """
    drop_answers(records)
    _run_all(records, tenant, RUNNING, is_over)


def run_held(records: Records, tenant: Tenant, is_over: Callable[[], bool] = lambda: False) -> None:
    """Do what was `held` and is not any more."""
    _run_all(records, tenant, HELD, is_over)


def complete(records: Records, erasure_id: str) -> bool:
    """Say that a request is done of which nothing is left; False if SQLite's write-ahead log may still have some.

    Raises as `ask` does.
    """
    drop_answers(records)  # which a crash may have left
    if _has_erased(records, erasure_id):
        over_at = time.monotonic() + PATIENCE
        while not records.database.truncate_wal():
            if time.monotonic() >= over_at:
                return False
            time.sleep(PAUSE)
    done = sa.update(erasures).where(erasures.c.id == erasure_id, erasures.c.state != COMPLETED)
    with records.database.write() as tx:
        tx.execute(done.values(state=COMPLETED, completed_at=format_time(datetime.now(UTC)), reason=None))
    return True


def _has_erased(records: Records, erasure_id: str) -> bool:
    """Whether a request has taken anything away."""
    counted = sa.select(erased_claims.c.index).where(erased_claims.c.erasure_id == erasure_id)
    with records.database.read() as tx:
        return bool(_row(tx, erasure_id).erased) or tx.execute(counted.limit(1)).first() is not None


def _run_all(records: Records, tenant: Tenant, state: str, is_over: Callable[[], bool]) -> None:
    query = sa.select(erasures.c.id).where(
        erasures.c.tenant_id == tenant.id,
        erasures.c.state == state,
        erasures.c.target != Target.RETENTION.value,  # which has its own way
    )
    with records.database.read() as tx:
        ids = tx.execute(query.order_by(erasures.c.id)).scalars().all()
    for erasure_id in ids:
        if is_over():
            return
        try:
            run(records, tenant, erasure_id, is_over)
        except HeldError:
            continue  # its state says so


def _prepare(records: Records, tenant: Tenant, erasure_id: str) -> Selection:
    """What is to be erased, as far as that can be seen without a lock."""
    with records.database.read() as tx:
        wanted = _of(_row(tx, erasure_id))
    if wanted.person_key is not None:
        persons.catch_up(records, tenant)
    with records.database.read() as tx:
        return select(tx, tenant, wanted)


def _step(records: Records, tenant: Tenant, erasure_id: str, plan: Selection, *, checked: bool) -> Selection | None:
    """One change; what is left after it, None if the request is done, or nothing more can be done for now.

    Unless it was `checked`, all that is planned is held against the holds, and not only what is erased now.
    """
    done, hold, is_last = Erased(), None, plan.size <= MOST
    with change(records.database, tenant.log) as changing:
        tx = changing.tx
        row = _row(tx, erasure_id)
        if row.state == COMPLETED:
            return None
        wanted, its_row = _of(row), sa.update(erasures).where(erasures.c.id == erasure_id)
        if is_last:  # under the lock nothing more comes
            if wanted.person_key is not None:
                persons.catch_up_locked(tx, tenant)
            plan = select(tx, tenant, wanted)
        now = plan.first(MOST)
        hold = _hold_of_that(tx, tenant, wanted) or hold_of_answers(records, tx, plan.ids, changing.now)
        hold = hold or (None if checked else hold_of(tx, tenant, plan))
        if hold is None:  # and none of what goes with what is taken now, whoever placed it meanwhile
            order = Order(erasure_id, Target(row.target), row.asked_by, row.reason)
            done = erase(changing, tenant, order, now.ids, now.entries, now.words)
            hold = done.hold
        tx.execute(its_row.values(state=RUNNING if hold is None else HELD))
        if hold is None:
            plan = select(tx, tenant, wanted) if is_last else plan.after(done.taken)
    clear_up(records, done)
    if hold is not None:
        raise HeldError(erasure_id, hold)
    if is_last and not plan.size:
        complete(records, erasure_id)  # where it cannot be said yet, it is when the request is gone on with
        return None
    return plan


def _hold_of_that(tx: sa.Connection, tenant: Tenant, wanted: Wanted) -> str | None:
    """The id of a hold of that very item or person, whatever is left of it."""
    very = [
        column == key
        for column, key in ((holds.c.item_key, wanted.item_key), (holds.c.person_key, wanted.person_key))
        if key is not None
    ]
    if not very:
        return None
    in_force = sa.select(holds.c.id).where(holds.c.tenant_id == tenant.id, holds.c.released_at.is_(None), *very)
    found: str | None = tx.execute(in_force.order_by(holds.c.id).limit(1)).scalar_one_or_none()
    return found


def _row(tx: sa.Connection, erasure_id: str) -> sa.Row[Any]:
    return tx.execute(sa.select(erasures).where(erasures.c.id == erasure_id)).one()


def _of(row: sa.Row[Any]) -> Wanted:
    item, person = (None if key is None else bytes(key) for key in (row.item_key, row.person_key))
    return Wanted(row.event_id, item, person)
