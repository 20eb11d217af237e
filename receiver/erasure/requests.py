"""What was asked to be erased: kept as a request, done in as many changes as it takes, and answered.

    answer = ask(records, tenant, Ask(item={…}, reason="…"), by=key.id)
    resume(records, tenant)          what a crash, or the end of a turn, has left undone
    run_held(records, tenant)        what a hold kept from being done, once it is released

A request is a row of `erasures` before anything is erased, and is `running` until all of it is. Each change takes what
one entry can name, under the log's lock; in between deliveries come in. The last one looks once more under the lock, so
that nothing is left out which was recorded by then. Where a hold covers any of it nothing is erased: it is `held`, and
goes on when that is released. Where an answer to one of its calls waits to be recorded, and a hold may cover that once
it can be read, nothing is erased either; but it stays `running`, and is tried again and again: nobody knows yet whether
it is held. Whoever asks twice is answered twice: the second time there is nothing left to erase.

On SQLite what was erased is in the database's write-ahead log until that is truncated, which waits for whoever reads
what was there before. The request is not `completed` until then. Requests that are run together are completed together.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Meta

from receiver import providers
from receiver.documents import MAX_ID, MAX_TYPE, is_uuid
from receiver.erasure.erasing import MOST, Erased, Order, clear_up, drop_answers, erase, hold_of, hold_of_answers
from receiver.erasure.selecting import Selection, Target, Wanted, parts, select
from receiver.events import Item, format_time, new_id
from receiver.records import keyed, persons
from receiver.records.engine import Database
from receiver.records.journal import change
from receiver.records.keeping import erased, erased_claims, erasures, holds
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import deliveries, log_keys

HELD, RUNNING, COMPLETED = "held", "running", "completed"
"""The states of a request."""

TURN = 20.0
"""Seconds after which a request is answered though it is still `running`: the rest is done in the background."""

MAX_REASON = 1000
"""Characters."""

PATIENCE, PAUSE = 3.0, 0.05
"""For how many seconds is tried to truncate the write-ahead log before requests are left for later, and how long others
may write in between."""

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

    reason = "held"
    """In a word."""
    _message = (
        "a hold covers some of what is to be erased, {hold}: nothing is erased before it is released. The request is "
        "kept, {erasure}, and is done then"
    )

    def __init__(self, erasure_id: str, hold_id: str) -> None:
        super().__init__(self._message.format(erasure=erasure_id, hold=hold_id))
        self.erasure_id = erasure_id
        self.hold_id = hold_id


class AnswerWaitsError(HeldError):
    """An answer waits to be recorded that a hold may cover: the request is kept, and is tried again until that is."""

    reason = "answer_waits"
    _message = (
        "the answer to a call that is to be erased waits to be recorded, and the hold {hold} may cover it: nothing is "
        "erased before that is known. The request is kept, {erasure}, and a running service tries it again within "
        "seconds"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is to be erased, which is exactly one of these, and why. The reason is kept: it should name nobody."""

    reason: str = field(repr=False)
    event_id: str | None = None
    """Of an event, a mismatch, a quarantined delivery, a call that was passed on, or what tells of one."""
    item: Annotated[dict[str, str], _IS_ITEM] | None = field(default=None, repr=False)
    person: str | None = field(default=None, repr=False)
    """Such as `email:…`."""


class Patience:
    """With whoever reads what SQLite's write-ahead log had before: `PATIENCE` seconds, and once they are over, none."""

    def __init__(self) -> None:
        self._seconds = PATIENCE

    def truncates(self, database: Database) -> bool:
        """Truncate the log as soon as that can be; False if that takes too long."""
        over_at = time.monotonic() + self._seconds
        while not database.truncate_wal():
            if time.monotonic() >= over_at:
                self._seconds = 0.0
                return False
            time.sleep(PAUSE)
        return True


# ---- asking ---------------------------------------------------------------------------------------------------------


def ask(records: Records, tenant: Tenant, asked: Ask, by: str = "command", seconds: float | None = None) -> str:
    """Keep a request and do it, all of it or for so many seconds; its id. `by` is an API key's id, or `command`.

    Raises ErasureError, NoSuchEventError; HeldError, or AnswerWaitsError, once it is kept; SQLAlchemy's errors, and
    StoreError if nothing may be written to the log any more; OSError for a file that cannot be removed. What is erased
    by then stays so, and the rest of it is done later.
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
    if _erase_rest(records, tenant, erasure_id, is_over):
        _complete(records, [erasure_id], Patience())


def resume(
    records: Records,
    tenant: Tenant,
    is_over: Callable[[], bool] = lambda: False,
    patience: Patience | None = None,
    event_ids: Collection[str] | None = None,
) -> None:
    """Go on with what is `running`: what a crash has left, was not done within its turn, or waits for an answer.

    With all of it, or only with what was asked of these events by their ids. Raises as `ask` does, but for what is held
    or waits: its state says so. What is done by then is completed.
    """
    _run_all(records, tenant, _in_state(records, tenant, RUNNING, event_ids), is_over, patience or Patience())


def run_held(
    records: Records,
    tenant: Tenant,
    is_over: Callable[[], bool] = lambda: False,
    patience: Patience | None = None,
) -> None:
    """Do what was `held` and is not any more. Raises as `resume` does."""
    _run_all(records, tenant, _in_state(records, tenant, HELD), is_over, patience or Patience())


def _in_state(records: Records, tenant: Tenant, state: str, event_ids: Collection[str] | None = None) -> Sequence[str]:
    """The ids of a tenant's requests in that state, oldest first: all, or what was asked of these events."""
    query = sa.select(erasures.c.id, erasures.c.event_id).where(
        erasures.c.tenant_id == tenant.id,
        erasures.c.state == state,
        erasures.c.target != Target.RETENTION.value,  # which has its own way
    )
    with records.database.read() as tx:
        rows = tx.execute(query.order_by(erasures.c.id)).all()
    return [row.id for row in rows if event_ids is None or row.event_id in event_ids]


def _run_all(
    records: Records, tenant: Tenant, erasure_ids: Sequence[str], is_over: Callable[[], bool], patience: Patience
) -> None:
    """Run these requests, and complete them together: whoever still reads what was there is waited for once."""
    ended: list[str] = []
    try:
        for erasure_id in erasure_ids:
            if is_over():
                break
            with contextlib.suppress(HeldError):  # its state says so
                if _erase_rest(records, tenant, erasure_id, is_over):
                    ended.append(erasure_id)
    finally:
        _complete(records, ended, patience)


def _erase_rest(records: Records, tenant: Tenant, erasure_id: str, is_over: Callable[[], bool]) -> bool:
    """Take away what is left of a request, unless it is over before that; whether nothing is left."""
    plan, checked = _prepare(records, tenant, erasure_id), False
    while plan is not None:
        plan = _step(records, tenant, erasure_id, plan, checked=checked)
        checked = True
        if plan is not None and is_over():
            return False
    return True


def _complete(records: Records, erasure_ids: Sequence[str], patience: Patience) -> None:
    """Say that requests are done of which nothing is left, and nothing is in SQLite's write-ahead log any more.

    Raises as `ask` does. One that has erased a call whose answer cannot be forgotten is not done; the others are.
    """
    if not erasure_ids:
        return
    failed = drop_answers(records)  # which a crash may have left
    with records.database.read() as tx:
        stuck = _that_erased(tx, sorted(failed))
        on_disk = _that_took_away(tx, erasure_ids)
    if on_disk and patience.truncates(records.database):
        on_disk = set[str]()
    done = sa.update(erasures).where(erasures.c.state != COMPLETED)
    with records.database.write() as tx:
        for some in parts([one for one in erasure_ids if one not in stuck and one not in on_disk]):
            its = done.where(erasures.c.id.in_(some))
            tx.execute(its.values(state=COMPLETED, completed_at=format_time(datetime.now(UTC)), reason=None))
    for one in erasure_ids:
        if one in stuck:
            raise failed[stuck[one]]


def _that_erased(tx: sa.Connection, calls: Sequence[str]) -> dict[str, str]:
    """The requests that have erased some of these calls, each with one that it has."""
    query = sa.select(erased.c.erasure_id, erased.c.entry_id)
    return {
        row.erasure_id: row.entry_id
        for some in parts(calls)
        for row in tx.execute(query.where(erased.c.entry_id.in_(some)))
    }


def _that_took_away(tx: sa.Connection, erasure_ids: Sequence[str]) -> set[str]:
    """Those of the requests that have taken anything away."""
    counted = sa.exists().where(erased_claims.c.erasure_id == erasures.c.id)
    query = sa.select(erasures.c.id).where(sa.or_(erasures.c.erased > 0, counted))
    return {one for some in parts(erasure_ids) for one in tx.execute(query.where(erasures.c.id.in_(some))).scalars()}


def _prepare(records: Records, tenant: Tenant, erasure_id: str) -> Selection:
    """What is to be erased, as far as that can be seen without a lock."""
    with records.database.read() as tx:
        wanted = _of(_row(tx, erasure_id))
    if wanted.person_key is not None:
        persons.catch_up(records, tenant)
    with records.database.read() as tx:
        return select(tx, tenant, wanted)


def _step(records: Records, tenant: Tenant, erasure_id: str, plan: Selection, *, checked: bool) -> Selection | None:
    """One change; what is left after it, None if that is nothing.

    Unless it was `checked`, all that is planned is held against the holds, and not only what is erased now.
    """
    done, hold, unread, is_last = Erased(), None, None, plan.size <= MOST
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
        hold = _hold_of_that(tx, tenant, wanted)
        if hold is None:  # before all is held against the holds, which takes longer: this is tried again and again
            unread = hold_of_answers(records, tx, plan.ids, changing.now)
        hold = hold or (None if unread or checked else hold_of(tx, tenant, plan))
        if not (hold or unread):  # and none of what goes with what is taken now, whoever placed it meanwhile
            order = Order(erasure_id, Target(row.target), row.asked_by, row.reason)
            done = erase(changing, tenant, order, now.ids, now.entries, now.words)
            hold = done.hold
        tx.execute(its_row.values(state=RUNNING if hold is None else HELD))
        if not (hold or unread):
            plan = select(tx, tenant, wanted) if is_last else plan.after(done.taken)
    clear_up(records, done)
    if hold is not None:
        raise HeldError(erasure_id, hold)
    if unread is not None:
        raise AnswerWaitsError(erasure_id, unread)
    return None if is_last and not plan.size else plan


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
