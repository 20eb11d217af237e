"""Taking openings away, and telling of it: some of what a request asks for, in one change under the log's lock.

    with change(records.database, tenant.log) as changing:
            done = erase(changing, tenant, order, ids)
    clear_up(records, done)

What is erased stays in the log, as leaves that nobody can open any more. In its rows all is NULL that an opening is
made of: data, headers, body and salts, the time that the provider gave, the sentences of breaches (their codes are
facts). Keyed hashes stay: a replay is still known, and stores nothing. So in one transaction:

    the entry         of kind `erasure`, whose facts name the rows, 1,000 at most; why is only committed to
    the rows          of deliveries, of what was found about them, and of issuers' entries that tell of the same
    `erased`          which entry names which row; `erased_claims`: which counts which issuer's entry
    around them       whom they name, what a probe holds of their sources, when they are to be looked at again
    exports           that hold any of it are made again without it

What is still due of an issuer's entry stays due, by its keyed hashes: whose gap it may be is noted with it, so that
it is told as one in its time, though nobody can say any more what it said.

If a hold covers anything of what would go, nothing goes: that is looked at last, when it is known what all that is.

A crash leaves all of that or nothing. What is in files (exports, answers that wait to be recorded) is removed after the
commit; a service that starts removes what a crash has left of these.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.erasure.holds import any_in_force, first_hold, may_cover_unread
from receiver.erasure.selecting import (
    Claim,
    Extent,
    Selection,
    Target,
    claims_with,
    found_about,
    gaps_of,
    kept_of,
    opens,
    parts,
    words_about,
)
from receiver.events import Claim as Said
from receiver.events import Kind, format_time, parse_time
from receiver.records import persons
from receiver.records.attempts import is_erased
from receiver.records.findings import Finding, Kept, keep
from receiver.records.giving import remove_files, withdraw
from receiver.records.issuer_logs import concerned, may_be_gap, naming_of
from receiver.records.journal import Changing
from receiver.records.keeping import erased, erased_claims, erasures
from receiver.records.opening import Records, Tenant
from receiver.records.pending import Pending
from receiver.records.tables import attempts, checks, claims, deliveries, findings, held, sources

MOST = 1000
"""Rows that one entry names."""

_PROBED = timedelta(days=1)
"""No probe lasts longer."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request as its entries tell of it, and how much it takes."""

    id: str
    """Of its row in `erasures`."""
    target: Target
    by: str
    """An API key's id, `command` or `retention`."""
    reason: str = field(repr=False)
    extent: Extent = Extent.ALL


@dataclass(frozen=True, slots=True)
class Erased:
    """What a change has erased, and what is to be cleared up after its commit."""

    rows: int = 0
    """How many its entry names."""
    taken: int = 0
    """How many of the first that were given are dealt with."""
    exports: tuple[str, ...] = ()
    """The ids of those whose files are out of date."""
    hold: str | None = None
    """The id of one that covers something of it: then nothing was erased."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What goes at once: ids of `deliveries`, of `findings`, and entries of issuers' logs."""

    deliveries: Sequence[str]
    findings: Sequence[str]
    claims: Sequence[sa.Row[Any]]
    """Their rows as they are before."""
    given: int
    """How many of those that were given these are."""

    @property
    def rows(self) -> int:
        """How many rows that are which an entry names."""
        return len(self.deliveries) + len(self.findings)


def erase(
    changing: Changing,
    tenant: Tenant,
    order: Order,
    ids: Sequence[str],
    entries: Sequence[Claim] = (),
    words: Sequence[str] = (),
) -> Erased:
    """Erase the first of these, which are as in a `Selection`: as much as one entry can name, and of one sort.

    With deliveries goes what was found about them; with the last one about an item what is kept about that of issuers'
    logs, and in words of its holds. What is erased to that extent already is passed over, and if nothing else is left
    there is no entry. Whoever erases less than all has looked for holds before.
    """
    tx = changing.tx
    given = Selection(ids, entries, words).first(MOST)
    taken = _taken(tx, tenant, order.extent, given)
    hold = _hold(tx, tenant, given.ids, taken) if order.extent is Extent.ALL else None
    if hold is not None:
        return Erased(hold=hold)
    if taken.rows or taken.claims:
        kept = _tell(changing, tenant, order, taken)
        _note(tx, tenant, order, kept, taken)
    _clear(changing, tenant, order.extent, taken)
    exports = withdraw(tx, tenant, _places(tx, taken.deliveries)) if taken.deliveries else []
    if taken.rows:
        counted = sa.update(erasures).where(erasures.c.id == order.id)
        tx.execute(counted.values(erased=erasures.c.erased + taken.rows))
    return Erased(taken.rows, taken.given, tuple(exports))


def hold_of(tx: sa.Connection, tenant: Tenant, plan: Selection) -> str | None:
    """The id of a hold in force that covers anything of what goes if all of a plan is erased; `tx` as for `erase`."""
    if not any_in_force(tx, tenant):
        return None
    given = Selection(plan.ids), Selection((), plan.entries)
    found = (_hold(tx, tenant, one.ids, _all(tx, tenant, Extent.ALL, one)) for one in given if one.size)
    return next((hold for hold in found if hold is not None), None)


def hold_of_answers(records: Records, tx: sa.Connection, ids: Sequence[str], now: str) -> str | None:
    """The id of a hold in force that may cover an answer which waits to be recorded, to a call among these; else None.

    What it says nobody knows before it is recorded; then it is covered, or not, like everything else.
    """
    waiting = set(Pending.of(records).calls()).intersection(ids)
    return next((hold for hold in _holds_of_answers(tx, sorted(waiting), now).values()), None)


def clear_up(records: Records, done: Erased) -> None:
    """Remove what is in files of what was erased: only after the commit. Raises OSError for those of exports."""
    remove_files(records.settings, done.exports)
    drop_answers(records)  # what fails of that is met again before the request is completed


def drop_answers(records: Records) -> dict[str, OSError]:
    """Forget the answers that wait to be recorded and whose calls are erased; there are few of these, if any.

    One that came in the meantime, or to another receiver than the one that erased its call, may be covered by a hold:
    that is forgotten once the hold is released. Gives the calls whose answers cannot be removed, each with why.
    """
    failed: dict[str, OSError] = {}
    pending = Pending.of(records)
    if waiting := pending.calls():
        with records.database.read() as tx:
            gone = [call for call in waiting if is_erased(tx, call)]
            kept = _holds_of_answers(tx, gone, format_time(datetime.now(UTC)))
        for call in gone:
            if call not in kept:
                try:
                    pending.drop(call)
                except OSError as error:  # one that cannot be removed keeps no other from it
                    failed[call] = error
    return failed


def _holds_of_answers(tx: sa.Connection, calls: Sequence[str], now: str) -> dict[str, str]:
    """Those of the calls whose answers a hold may cover if they have come by now, each with the oldest hold's id."""
    found: dict[str, str] = {}
    for some in parts(calls):
        query = sa.select(deliveries.c.id, deliveries.c.source_id, deliveries.c.received_at)
        for call in tx.execute(query.where(deliveries.c.id.in_(some)).order_by(deliveries.c.id)):
            held_sources = may_cover_unread(tx, [call.source_id], call.received_at, now)
            found.update((call.id, hold) for hold in held_sources.values())
    return found


# ---- what goes ------------------------------------------------------------------------------------------------------


def _all(tx: sa.Connection, tenant: Tenant, extent: Extent, given: Selection) -> _Taken:
    """All that goes with what is given, and is there."""
    found = {*found_about(tx, given.ids, extent), *given.words}
    goes: set[Claim] = set(given.entries)
    if extent is Extent.ALL:
        with_them, emptied = claims_with(tx, tenant, given.ids)
        goes |= with_them
        found.update(gaps_of(tx, tenant, goes), words_about(tx, tenant, emptied))
    return _Taken(_open(tx, given.ids, extent), sorted(found), kept_of(tx, tenant, goes), given.size)


def _hold(tx: sa.Connection, tenant: Tenant, ids: Sequence[str], taken: _Taken) -> str | None:
    """The id of a hold that covers any of these deliveries, or of what goes with them."""
    named = [(row.issuer_log_id, row.place) for row in taken.claims]
    return first_hold(tx, tenant, [*ids, *taken.findings], named)


def _taken(tx: sa.Connection, tenant: Tenant, extent: Extent, given: Selection) -> _Taken:
    """As much of it as one entry can name: half of it, and half of that, until it is."""
    while True:
        taken = _all(tx, tenant, extent, given)
        if taken.rows <= MOST:
            return taken
        if given.size == 1:  # so much was found about one: that goes first
            return _Taken((), taken.findings[:MOST], (), 0)
        given = given.first((given.size + 1) // 2)


def _open(tx: sa.Connection, ids: Sequence[str], extent: Extent) -> list[str]:
    return [
        its_id
        for some in parts(ids)
        for its_id in tx.execute(
            sa.select(deliveries.c.id).where(deliveries.c.id.in_(some), opens(deliveries, extent))
        ).scalars()
    ]


def _places(tx: sa.Connection, ids: Sequence[str]) -> list[tuple[int, int]]:
    """Where these deliveries are: their logs, and their indexes there."""
    columns = deliveries.c
    query = sa.select(columns.log_id, columns.log_index)
    return [(log_id, index) for some in parts(ids) for log_id, index in tx.execute(query.where(columns.id.in_(some)))]


# ---- what is told ---------------------------------------------------------------------------------------------------


def _tell(changing: Changing, tenant: Tenant, order: Order, taken: _Taken) -> Kept:
    ids = sorted((*taken.deliveries, *taken.findings))
    finding = Finding(
        kind=Kind.ERASURE,
        state=order.extent.value,
        facts={
            "by": order.by,
            "claims": len(taken.claims),
            "erasure": order.id,
            "ids": list(ids),
            "target": order.target.value,
        },
        data={"reason": order.reason},
    )
    return keep(changing, tenant, finding)


def _note(tx: sa.Connection, tenant: Tenant, order: Order, kept: Kept, taken: _Taken) -> None:
    its = {"log_id": tenant.log_id, "log_index": kept.log_index, "erasure_id": order.id}
    rows = [{"entry_id": one, **its, "extent": order.extent.value} for one in (*taken.deliveries, *taken.findings)]
    counted = [
        {"issuer_log_id": row.issuer_log_id, "tenant_id": tenant.id, "index": row.place, **its} for row in taken.claims
    ]
    for table, values in ((erased, rows), (erased_claims, counted)):
        if values:
            tx.execute(sa.insert(table), values)


# ---- what is cleared ------------------------------------------------------------------------------------------------

_DELIVERY: dict[str, None] = {"headers": None, "body": None, "delivery_salt": None}
_EVENT: dict[str, None] = {"event_data": None, "event_salt": None}


def _clear(changing: Changing, tenant: Tenant, extent: Extent, taken: _Taken) -> None:
    tx = changing.tx
    is_all = extent is Extent.ALL
    gone = {**_DELIVERY, **_EVENT} if is_all else _DELIVERY
    for some in parts(taken.findings):
        tx.execute(sa.update(findings).where(findings.c.id.in_(some)).values(gone))
    for some in parts(taken.deliveries):
        its = sa.update(deliveries).where(deliveries.c.id.in_(some))
        tx.execute(its.values({**gone, "occurred_at": None} if is_all else gone))
        if is_all:
            _clear_around(changing, some)
    if is_all:
        _clear_claims(tx, tenant, taken.claims)


def _clear_around(changing: Changing, ids: Sequence[str]) -> None:
    """What else a row has that is made of its data, and what would be looked for with it."""
    tx = changing.tx
    columns = deliveries.c
    told = tx.execute(sa.select(columns.id, columns.breaches).where(columns.id.in_(ids), columns.breaches.is_not(None)))
    codes = [{"this": row.id, "codes": without_sentences(row.breaches)} for row in told]
    if codes:
        its = sa.update(deliveries).where(columns.id == sa.bindparam("this"))
        tx.execute(its.values(breaches=sa.bindparam("codes")), codes)
    tx.execute(sa.update(checks).where(checks.c.event_id.in_(ids)).values(due_at=None))
    tx.execute(sa.update(attempts).where(attempts.c.id.in_(ids)).values(next_at=None))
    theirs = tx.execute(sa.select(columns.source_id).where(columns.id.in_(ids)).distinct()).scalars().all()
    # What a probe holds nobody has read: not whom it names, and not what it is about.
    kept = may_cover_unread(tx, theirs, format_time(parse_time(changing.now) - _PROBED), changing.now)
    tx.execute(sa.delete(held).where(held.c.source_id.in_([its_id for its_id in theirs if its_id not in kept])))
    persons.forget(tx, ids)


def without_sentences(breaches: str) -> str:
    """A row's breaches as they are once it is erased: their codes, which are facts, and no words."""
    return json.dumps([[code, ""] for code, _ in json.loads(breaches)], separators=(",", ":"))


_CLAIM = (
    sa.update(claims)
    .where(
        claims.c.issuer_log_id == sa.bindparam("log"),
        claims.c.index == sa.bindparam("place"),
        claims.c.tenant_id == sa.bindparam("tenant"),
    )
    .values(entry=None, proof=None, source_id=sa.bindparam("whose"))
)


def _clear_claims(tx: sa.Connection, tenant: Tenant, taken: Sequence[sa.Row[Any]]) -> None:
    """The rows stay: what is read of the log once more finds them, and leaves them as they are."""
    if not taken:
        return
    rows = tx.execute(sa.select(sources).where(sources.c.tenant_id == tenant.id)).all()
    tx.execute(
        _CLAIM,
        [
            {"log": row.issuer_log_id, "place": row.place, "tenant": tenant.id, "whose": _whose_gap(row, rows)}
            for row in taken
        ],
    )


def _whose_gap(row: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> str | None:
    """The source whose gap an entry is or may be one day: of several one that it would be now, with the longest grace.

    By its account another one is found if this is replaced. So where none names the log just now that it concerns, it
    is one of the account all the same.

    That something is under way is told as no gap any more: its end, whichever act that is, may have announced it.
    """
    said = providers.get(row.provider).entry(bytes(row.entry))
    if row.gap_id is not None or row.announced:
        whose: str | None = row.source_id
        return whose
    if not isinstance(said, Said) or not may_be_gap(said) or said.effect.under_way:
        return None
    names_it = {one.id for one in rows if one.issuer_log_id == row.issuer_log_id}
    now = {one.id for one in rows if one.id in names_it and one.enabled}
    namings = [replace(naming_of(one), exclusive=one.exclusive and one.id in names_it) for one in rows]
    ranked = [
        (
            one.source_id in now and one.starts_at is not None and one.starts_at <= row.place,
            one.source_id in names_it,
            one.grace,
            one.source_id,
        )
        for one in concerned(namings, row.provider, said.account)
    ]
    return max(ranked)[-1] if ranked else None
