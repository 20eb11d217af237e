"""Erasures: what their entries name is gone and nothing else is, as far as that can be seen afterwards.

An opening that is not there proves nothing: somebody may have taken it away. What was erased is named by an entry of
kind `erasure`, which is in the log for ever, with how much of it was. So every such entry is held against what it names
(`erased` says the same, for questions to be answered from), and every opening that is not there against `erased`.

An entry of an issuer's log that is kept has no entry of ours, so none names it: how many went is what is told, and
`erased_claims` has as many of each erasure. Whether these are gone is told with them (`receiver.fsck.claims`).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa

from receiver.erasure.erasing import MOST, without_sentences
from receiver.erasure.requests import COMPLETED, HELD, RUNNING
from receiver.erasure.selecting import Extent, Target, opens, parts
from receiver.events import Kind
from receiver.fsck.readings import leaf_of
from receiver.fsck.report import Notes
from receiver.records.keeping import erased, erased_claims, erasures
from receiver.records.tables import deliveries, findings, log_keys
from translog.evidence import Leaf
from translog.store import entries

_PAGE = 512
_STATES = frozenset({HELD, RUNNING, COMPLETED})
_TARGETS = frozenset(Target)


def read_extents(tx: sa.Connection, ids: Iterable[str]) -> dict[str, frozenset[Extent]]:
    """How much of these rows of `deliveries` or `findings` is said to be erased; those of which nothing is are left
    out.
    """
    found: dict[str, frozenset[Extent]] = {}
    for some in parts(list(ids)):
        query = sa.select(erased.c.entry_id, erased.c.extent).where(erased.c.entry_id.in_(some))
        for its_id, extent in tx.execute(query):
            known = {Extent(extent)} if extent in set(Extent) else set[Extent]()
            found[its_id] = found.get(its_id, frozenset()) | known
    return found


class Erasures:
    """One log's entries of this kind. `check` takes its leaves in order, `finish` ends it."""

    def __init__(self, tx: sa.Connection, log_id: int, tenant_id: int | None, notes: Notes) -> None:
        self._tx = tx
        self._log_id = log_id
        self._tenant_id = tenant_id
        self._notes = notes
        self._named = 0
        self._counted = 0

    def check(self, start: int, leaves: Sequence[Leaf | None]) -> None:
        """Take the leaves from `start` on, None where one cannot be read, which is told with its entry."""
        for index, leaf in enumerate(leaves, start):
            if leaf is not None and leaf.kind == Kind.ERASURE:
                for problem in self._differences(index, leaf):
                    self._notes.fault(f"entry {index}", problem)

    def finish(self) -> None:
        """Name what is said to be erased, and no entry of this log names."""
        its = sa.select(sa.func.count()).select_from(erased).where(erased.c.log_id == self._log_id)
        if self._tx.execute(its).scalar_one() != self._named:
            for its_id, index in self._unnamed():
                self._notes.fault(f"erased {its_id}", f"no erasure at entry {index} names it")
        of_claims = sa.select(sa.func.count()).select_from(erased_claims).where(erased_claims.c.log_id == self._log_id)
        if (number := self._tx.execute(of_claims).scalar_one()) != self._counted:
            told = f"and its erasures have {self._counted} of them"
            self._notes.fault(f"erased_claims of log {self._log_id}", f"has {number} entries of issuers' logs, {told}")

    # ---- one entry --------------------------------------------------------------------------------------------------

    def _differences(self, index: int, leaf: Leaf) -> Iterator[str]:
        ids, extent, number = _named_by(leaf), leaf.facts.get("state"), leaf.facts.get("claims")
        its = sa.select(sa.func.count()).where(
            erased_claims.c.log_id == self._log_id,
            erased_claims.c.log_index == index,
            erased_claims.c.erasure_id == leaf.facts.get("erasure"),
        )
        counted: int = self._tx.execute(its).scalar_one()
        self._counted += counted
        if number != counted:
            yield f"claims is {number!a}, and erased_claims has {counted}"
        if not (0 if counted else 1) <= len(ids) <= MOST or list(ids) != sorted(set(ids)):
            yield f"ids are not 1 to {MOST} in their order"
            return
        if extent not in set(Extent):
            yield f"state is {extent!a}, which this version does not know"
            return
        yield from self._not_as_asked(leaf)
        said = self._said(index, ids)
        self._named += len(said)
        for its_id in ids:
            if its_id not in said:
                yield f"it names {its_id}, and erased does not say so"
            elif said[its_id] != (leaf.facts.get("erasure"), extent):
                yield f"it names {its_id}, of which erased says otherwise"
        there: set[str] = set()
        for row in self._rows(ids, Extent(str(extent))):
            there.add(row.id)
            if row.tenant_id != self._tenant_id:
                yield f"it names {row.id}, which is another tenant's"
            elif (row.log_id, row.log_index) >= (self._log_id, index):
                yield f"it names {row.id}, which was logged after it"
            if row.opens:
                yield f"it names {row.id}, and what that opens to is still there"
        yield from (f"it names {its_id}, which is not there" for its_id in ids if its_id not in there)
        if extent == Extent.ALL:
            yield from (f"it names {its_id}, and {what} is still there" for its_id, what in self._left_over(ids))

    def _not_as_asked(self, leaf: Leaf) -> Iterator[str]:
        """What is wrong with the request that an entry names."""
        asked = leaf.facts.get("erasure")
        its = sa.select(erasures.c.tenant_id, erasures.c.target, erasures.c.asked_by).where(erasures.c.id == asked)
        row = self._tx.execute(its).one_or_none() if isinstance(asked, str) else None
        if row is None:
            yield f"the request {asked!a} that it names is not there"
            return
        for name, kept in (("target", row.target), ("by", row.asked_by)):
            if leaf.facts.get(name) != kept:
                yield f"{name} is {kept!a}, the entry's fact {leaf.facts.get(name)!a}"
        if row.tenant_id != self._tenant_id:
            yield f"the request {asked} that it names is another tenant's"

    def _said(self, index: int, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        columns = erased.c
        query = sa.select(columns.entry_id, columns.erasure_id, columns.extent).where(
            columns.log_id == self._log_id, columns.log_index == index
        )
        rows = chain.from_iterable(self._tx.execute(query.where(columns.entry_id.in_(some))) for some in parts(ids))
        return {row.entry_id: (row.erasure_id, row.extent) for row in rows}

    def _rows(self, ids: Sequence[str], extent: Extent) -> Iterator[sa.Row[Any]]:
        for table in (deliveries, findings):
            columns = table.c
            its_own = (columns.id, columns.log_id, columns.log_index, opens(table, extent).label("opens"))
            query: sa.Select[*tuple[Any, ...]] = sa.select(*its_own, log_keys.c.tenant_id).join_from(
                table, log_keys, log_keys.c.log_id == columns.log_id, isouter=True
            )
            for some in parts(ids):
                yield from self._tx.execute(query.where(columns.id.in_(some)))

    def _left_over(self, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
        """What of its data a row has besides what opens its leaf."""
        columns = deliveries.c
        for some in parts(ids):
            query = sa.select(columns.id, columns.occurred_at, columns.breaches).where(columns.id.in_(some))
            for row in self._tx.execute(query):
                if row.occurred_at is not None:
                    yield row.id, "occurred_at"
                if row.breaches is not None and not _is_without_sentences(row.breaches):
                    yield row.id, "what breaches say"

    # ---- what no entry names ----------------------------------------------------------------------------------------

    def _unnamed(self) -> Iterator[tuple[str, int]]:
        columns = erased.c
        query = (
            sa.select(columns.entry_id, columns.log_index, entries.c.data)
            .join_from(
                erased,
                entries,
                sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index),
                isouter=True,
            )
            .where(columns.log_id == self._log_id)
            .order_by(columns.log_index, columns.entry_id)
        )
        named: tuple[int, frozenset[str]] = (-1, frozenset())
        for its_id, index, entry in self._tx.execute(query, execution_options={"yield_per": _PAGE}):
            if named[0] != index:
                leaf = leaf_of(entry)
                is_erasure = leaf is not None and leaf.kind == Kind.ERASURE
                named = index, frozenset(_named_by(leaf)) if leaf is not None and is_erasure else frozenset()
            if its_id not in named[1]:
                yield its_id, index


def _named_by(leaf: Leaf) -> list[str]:
    ids = leaf.facts.get("ids")
    return [one for one in ids if isinstance(one, str)] if isinstance(ids, list) else []


def _is_without_sentences(breaches: str) -> bool:
    try:
        return json.loads(without_sentences(breaches)) == json.loads(breaches)
    except (ValueError, TypeError):
        return False


# ---- the tables -----------------------------------------------------------------------------------------------------


def check_erasures(tx: sa.Connection, notes: Notes) -> None:
    """That every request is in a state that there is, and has erased as much as it says."""
    counted = (
        sa.select(erased.c.erasure_id, sa.func.count().label("number"))
        .group_by(erased.c.erasure_id)
        .subquery("counted")
    )
    query = sa.select(erasures, sa.func.coalesce(counted.c.number, 0).label("number")).join_from(
        erasures, counted, counted.c.erasure_id == erasures.c.id, isouter=True
    )
    for row in tx.execute(query.order_by(erasures.c.id), execution_options={"yield_per": _PAGE}):
        for problem in _not_as_it_says(row):
            notes.fault(f"erasure {row.id}", problem)


def _not_as_it_says(row: sa.Row[Any]) -> Iterator[str]:
    if row.state not in _STATES:
        yield f"state is {row.state!a}, which this version does not know"
    if row.target not in _TARGETS:
        yield f"target is {row.target!a}, which this version does not know"
    if row.erased != row.number:
        yield f"erased is {row.erased}, and erased has {row.number} of it"
    if (row.state == COMPLETED) != (row.completed_at is not None):
        yield f"it is {row.state}, and completed_at is {row.completed_at!a}"
    if row.state == COMPLETED and row.reason is not None:
        yield "it is completed, and its reason is still there"
