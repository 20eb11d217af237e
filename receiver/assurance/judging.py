"""Judging: what follows for what is due of one tenant and one issuer's log, in one transaction under our log's lock.

From what is due everything is read that shares an item or an operation with it (`receiver.assurance.related`), and all
of that is judged: what is new of an entry changes what is known of events, and the other way round. Where there is too
much of it, what is due is judged for itself.

Deliveries wait for the lock. So no more is judged in a transaction than takes a fraction of a second: what is left is
still due.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeAlias

import sqlalchemy as sa
from msgspec.structs import replace

from receiver.assurance.conclusions import ANNOUNCED, OPEN, Check, Gap, Verdict, conclude, tell_gap
from receiver.assurance.matching import Standing, match
from receiver.assurance.related import MOST, Event, Kept, Reader, Related, Source
from receiver.assurance.taking_up import AT_ONCE
from receiver.assurance.wanted import Reading, Wanted
from receiver.documents import one_case
from receiver.events import CrossCheck, format_time, parse_time
from receiver.records.issuer_logs import Naming, concerned, may_be_gap
from receiver.records.journal import Changing
from receiver.records.opening import Tenant
from receiver.records.tables import checks, claims
from translog.follower import State

SOON, LATER = timedelta(seconds=5), timedelta(hours=1)
"""After which it is looked again at what cannot be judged now: what is about to change, and what nobody is changing."""

ROWS, PAIRS = 1_000, MOST * MOST
"""Rows that are judged, and pairs of rows that are compared, in one transaction, if there is more than one thing to
judge in it."""

A_ROW = 8
"""As many rows does one cost that is judged for itself; and as many pairs each that it is compared with, for of these
everything is looked at anew."""

_log = logging.getLogger(__name__)


# Made once, and given the columns to set with the row's place: making it costs more than running it.
_CHANGE = sa.update(claims).where(
    claims.c.issuer_log_id == sa.bindparam("log"),
    claims.c.tenant_id == sa.bindparam("tenant"),
    claims.c.index == sa.bindparam("place"),
)


@dataclass(frozen=True)
class IssuerLog:
    """An issuer's log that has not forked, as it was before anything else was read: what is read then is no older."""

    id: str
    complete_at: str | None
    state: bytes
    wanted: str

    @cached_property
    def origin(self) -> str | None:
        """Its name, by its last verified checkpoint; None before the first."""
        checkpoint = State.parse(self.state).unverified_checkpoint()  # it was verified before it was kept
        return None if checkpoint is None else checkpoint.origin

    @cached_property
    def read_for(self) -> Wanted:
        """Whose entries are kept of all that was read by `complete_at`."""
        return Reading.parse(self.wanted).kept


_Place: TypeAlias = tuple[str | None, int | None]
"""Which row: an event's id, or an entry's index."""


@dataclass(frozen=True, slots=True)
class Due:
    """A row that is due: an event, or (`index`) an entry."""

    due_at: str
    keys: tuple[bytes, ...]
    event_id: str | None = None
    index: int | None = None

    @property
    def place(self) -> _Place:
        """Which row it is."""
        return self.event_id, self.index


class Judging:
    """What is judged of one tenant by one log in one transaction."""

    def __init__(self, changing: Changing, tenant: Tenant, log: IssuerLog, known: Mapping[str, Source]) -> None:
        self._changing = changing
        self._tenant = tenant
        self._log = log
        self._sources = known
        self._reader = Reader(changing.tx, log.id, known)
        self._undecided = 0
        self._woken: set[bytes] = set()

    def judge(self, due: Sequence[Due]) -> int:
        """Judge what is due, as much of it as a transaction may; how many that is."""
        due = due[: self._reader.affordable([one.keys for one in due])]
        whole = [group for group in self._reader.related([one.keys for one in due]) if group.whole]
        group_of: dict[_Place, Related] = {}
        for group in whole:
            group_of |= dict.fromkeys([(event.id, None) for event in group.events], group)
            group_of |= dict.fromkeys([(None, kept.index) for kept in group.entries], group)
        due = due[: self._affordable(due, group_of)]
        begun = {id(group_of[one.place]) for one in due if one.place in group_of}
        for group in whole:
            if id(group) in begun:
                self._judge_together(group)
        for one in due:
            if one.place not in group_of:
                if one.event_id is not None:
                    self._judge_event(one.event_id)
                elif one.index is not None:
                    self._judge_entry(one.index, is_new=one.due_at == AT_ONCE)
        if self._undecided:
            _log.warning(
                "%d events and entries of the log %s are of items with more than %d others each, and are not decided "
                "by their operations: they stay as they are, and are looked at again in an hour",
                self._undecided,
                self._log.origin or self._log.id,
                MOST,
            )
        return len(due)

    def _affordable(self, due: Sequence[Due], group_of: Mapping[_Place, Related]) -> int:
        """How many of what is due, the first of it, can be judged in one transaction; one at least."""
        begun: set[int] = set()
        rows = pairs = 0
        for number, one in enumerate(due):
            if (group := group_of.get(one.place)) is None:
                rows, pairs = rows + A_ROW, pairs + self._compared(one)
            elif id(group) not in begun:
                begun.add(id(group))
                rows, pairs = rows + group.rows, pairs + group.rows * group.rows
            if number > 0 and (rows > ROWS or pairs > PAIRS):
                return number
        return len(due)

    def _compared(self, one: Due) -> int:
        """How many pairs are compared to judge that for itself: an event with entries, or an entry with events.

        Events without an operation are compared with one another as well.
        """
        if one.index is None:
            return A_ROW * sum(len(self._reader.entries_of(key)[0]) for key in one.keys)
        found = [self._reader.events_of(key) for key in one.keys]
        told = [event.told for events, _ in found for event in events if event.told is not None]
        unnamed = [one for one in told if one.claim.operation is None] if all(whole for _, whole in found) else []
        return len(told) * (A_ROW + len(unnamed))

    def _judge_together(self, group: Related) -> None:
        matched = match(group.told, group.said)
        entries = {kept.index: kept for kept in group.entries}
        for event in group.events:
            if event.check is not None:
                standing = matched.standings.get(event.id)
                self._conclude(event.check, self._verdict(event, standing, entries, readable=group.is_readable))
        for kept in group.entries:
            if kept.said is not None:
                told = not any(event.told is None and event.may_tell_of(kept) for event in group.events)
                self._settle(kept, announced=kept.index in matched.announced, readable=told)
            elif kept.due_at is not None:
                self._settle_unread(kept, group.events)

    # ---- events -----------------------------------------------------------------------------------------------------

    def _verdict(
        self, event: Event, standing: Standing | None, entries: Mapping[int, Kept], *, readable: bool
    ) -> Verdict:
        check = event.check
        if check is None:
            raise AssertionError("only what is to be judged is judged")
        if standing is not None:
            return Verdict(
                state=standing.state,
                issuer_log=self._log.origin,
                index=standing.index,
                entry=entries[standing.index].entry,
                differences=standing.differences,
            )
        as_before = Verdict(check.state, index=check.issuer_index)
        if event.told is None or check.state is CrossCheck.ABSENT:
            return as_before
        if not readable:
            return as_before if check.state is not CrossCheck.PENDING else self._unknown(check)
        read_for_it = self._is_read_for(check.source_id)
        if not read_for_it and check.state is not CrossCheck.PENDING:
            return as_before
        if not self._has_come(check.grace_over_at):
            return Verdict(CrossCheck.PENDING, check.grace_over_at, self._log.origin)
        if not read_for_it:  # its entries may still be on their way
            return replace(as_before, due_at=self._put_off(SOON if self._is_followed_for(check.source_id) else LATER))
        return Verdict(CrossCheck.ABSENT, issuer_log=self._log.origin)

    def _unknown(self, check: Check) -> Verdict:
        """What it would be checked by may be erased: if nothing else comes in time, nothing will ever be known."""
        if not self._has_come(check.grace_over_at):
            return Verdict(CrossCheck.PENDING, check.grace_over_at, self._log.origin)
        return Verdict(CrossCheck.NONE)

    def _conclude(self, check: Check, verdict: Verdict) -> None:
        by = None if verdict.state in {CrossCheck.PENDING, CrossCheck.NONE} else "issuer_log"
        conclude(self._changing, self._tenant, check, verdict, by=by)

    def _is_followed_for(self, source_id: str) -> bool:
        """Whether the log is followed for a source, or is about to be."""
        source = self._sources[source_id]
        return source.enabled and source.issuer_log_id == self._log.id

    def _is_read_for(self, source_id: str) -> bool:
        """Whether the entries that concern a source are kept of all that was read of the log when it was complete."""
        wanted = Wanted.by([self._sources[source_id].naming])
        return self._is_followed_for(source_id) and self._log.read_for.covers(wanted)

    def _has_come(self, moment: str) -> bool:
        """Whether a checkpoint was asked for at that time or later of which everything is read."""
        return self._log.complete_at is not None and moment <= self._log.complete_at

    def _put_off(self, wait: timedelta) -> str:
        """When something is to be looked at again that is due now: later than that, whoever's clock it is by."""
        now = format_time(datetime.now(UTC))
        return format_time(parse_time(max(now, self._log.complete_at or "")) + wait)

    # ---- entries ----------------------------------------------------------------------------------------------------

    def _settle(self, kept: Kept, *, announced: bool, readable: bool) -> None:
        """Note whether an entry is announced, and tell of it if it is a gap now, or was one."""
        if announced:
            if kept.gap_id is not None and not kept.announced:
                self._tell(kept, ANNOUNCED, kept.source_id)
            if not kept.announced or kept.due_at is not None:
                self._update(kept, announced=True, due_at=None)
        elif not readable:
            self._update(kept, due_at=None)
        elif kept.gap_id is not None:
            if kept.announced:  # what was taken to tell of it tells of another entry
                self._tell(kept, OPEN, kept.source_id)
            self._update(kept, announced=False, due_at=None)
        else:
            self._wait(kept)

    def _settle_unread(self, kept: Kept, events: Iterable[Event]) -> None:
        """Settle an entry that is erased, by what its keys say: it is owed all the same.

        Of one that cannot be read any more, and is not erased, nothing is said.
        """
        if kept.entry is not None or kept.source_id is None:
            self._update(kept, due_at=None)
        else:
            announced = kept.announced or any(event.may_tell_of(kept) for event in events)
            self._settle(kept, announced=announced, readable=True)

    def _wait(self, kept: Kept) -> None:
        """An entry is not announced: it is a gap once its time has come, if it concerns anybody."""
        owing = self._concerned(kept)
        if not owing:
            self._update(kept, announced=False, due_at=None)
            return
        grace = timedelta(seconds=max(one.grace for one in owing))
        over_at = format_time(parse_time(kept.seen_at) + grace)
        if not self._has_come(over_at):
            self._update(kept, announced=False, due_at=over_at)
            return
        source_id = owing[0].source_id
        gap_id = self._tell(kept, OPEN, source_id)
        self._update(kept, announced=False, due_at=None, gap_id=gap_id, source_id=source_id)

    def _concerned(self, kept: Kept) -> list[Naming]:
        """The sources that an entry concerns, so that one of their deliveries should have told of it."""
        namings = [
            source.naming
            for source in self._sources.values()
            if source.enabled
            and source.issuer_log_id == self._log.id
            and source.naming.starts_at is not None
            and source.naming.starts_at <= kept.index
        ]
        if kept.said is None:
            return self._concerned_instead(kept, namings)
        claim = kept.said.claim
        return concerned(namings, kept.provider, claim.account) if may_be_gap(claim) else []

    def _concerned_instead(self, kept: Kept, namings: Sequence[Naming]) -> list[Naming]:
        """Of these sources those that an entry concerns which is erased: by the one that was noted when it was.

        Where that is not among them any more, whoever took its place owes the notice: of its account, which is the
        entry's. If it is exclusive, or was, for it has no account, the entry may be of any.
        """
        noted = None if kept.source_id is None else self._sources[kept.source_id].naming
        if noted is None:
            return []
        if its_own := [one for one in namings if one.source_id == noted.source_id]:
            return its_own
        if noted.exclusive or noted.account is None:
            return [one for one in namings if one.provider == kept.provider]
        return concerned(namings, kept.provider, noted.account)

    def _tell(self, kept: Kept, state: str, source_id: str | None) -> str:
        if source_id is None:
            raise AssertionError("a gap is somebody's")
        gap = Gap(
            issuer_log_id=self._log.id,
            issuer_log=self._log.origin,
            index=kept.index,
            entry=kept.entry,
            provider=kept.provider,
            source_id=source_id,
            first_id=kept.gap_id,
        )
        return tell_gap(self._changing, self._tenant, gap, state).id

    def _update(self, kept: Kept, **values: Any) -> None:
        before = {"announced": kept.announced, "due_at": kept.due_at, "gap_id": kept.gap_id}
        if any(before.get(name) != value for name, value in values.items()):
            place = {"log": self._log.id, "tenant": self._tenant.id, "place": kept.index}
            self._changing.tx.execute(_CHANGE, {**place, **values})

    # ---- for themselves ---------------------------------------------------------------------------------------------

    def _judge_event(self, event_id: str) -> None:
        """Judge an event for itself: others about its item are too many to be read.

        If the entries about the item are too many as well, those of its operation are looked at alone.
        """
        event = self._reader.event(event_id)
        if event is None or event.check is None:
            its_row = sa.update(checks).where(checks.c.event_id == event_id)
            self._changing.tx.execute(its_row.values(due_at=None))
            return
        of_item, *of_operation = (self._reader.entries_of(key) for key in event.keys)
        are_all, of_act_are_all = of_item[1], all(whole for _, whole in of_operation)
        entries = {kept.index: kept for found, _ in (of_item, *of_operation) for kept in found}
        said = [kept.said for kept in entries.values() if kept.said is not None]
        told = [] if event.told is None else [event.told]
        standing = match(told, said).standings.get(event.id)
        # Other events could only take what there is away: nothing found is nothing. What its operation says is said.
        if of_act_are_all and (are_all if standing is None else standing.alone):
            readable = event.told is not None and len(said) == len(entries)
            verdict = self._verdict(event, standing, entries, readable=readable)
        else:
            self._undecided += 1
            again = self._put_off(LATER) if event.check.state is CrossCheck.PENDING else None
            verdict = Verdict(event.check.state, again, index=event.check.issuer_index)
        self._conclude(event.check, verdict)

    def _judge_entry(self, index: int, *, is_new: bool) -> None:
        """Judge an entry for itself: other entries about its item, or events, are too many to be read."""
        kept = self._reader.entry(self._tenant, index)
        found = [self._reader.events_of(key) for key in kept.keys]
        events = {event.id: event for some, _ in found for event in some}
        if kept.said is None:
            # Of more events than are read, one may tell of it.
            told_of = any(event.may_tell_of(kept) for event in events.values())
            if told_of or kept.source_id is None or all(whole for _, whole in found):
                self._settle_unread(kept, events.values())
            else:
                self._undecided += 1
                self._update(kept, due_at=self._put_off(LATER))
            return
        if is_new and kept.gap_id is None:
            self._wake(kept)
        told = [event.told for event in events.values() if event.told is not None]
        operation = kept.said.claim.operation
        of_act = [one for one in told if operation and one_case(one.claim.operation or "") == one_case(operation)]
        # Other entries could only take events away: one that tells of nothing here tells of nothing.
        if index in match(of_act, [kept.said]).announced:
            self._settle(kept, announced=True, readable=True)
        elif all(whole for _, whole in found) and index not in match(told, [kept.said]).announced:
            erased = [event for event in events.values() if event.told is None]
            self._settle(kept, announced=False, readable=not any(event.may_tell_of(kept) for event in erased))
        else:
            self._undecided += 1
            self._update(kept, due_at=self._put_off(LATER))

    def _wake(self, kept: Kept) -> None:
        """Have the events judged that a new entry may be about, once in a transaction: all that there is, is seen then.

        Of an item with a crowd these are those of its operation: the others' are not decided by what is about the item.
        Nothing is decided by the entries of an operation either, once these are too many.
        """
        item, *operation = kept.keys
        new = {item, *operation} - self._woken
        self._woken |= new
        its_own = sa.and_(checks.c.operation_key.in_(operation), checks.c.state != CrossCheck.NONE.value)
        unknown = checks.c.state.in_([CrossCheck.PENDING.value, CrossCheck.ABSENT.value])
        about: list[sa.ColumnElement[bool]] = []
        if any(key in new and self._reader.entries_of(key)[1] for key in operation):
            about.append(its_own)
        if item in new and not self._reader.size(item).is_crowd:
            about.append(sa.and_(checks.c.item_key == item, unknown))
        for one in about:
            its_rows = sa.update(checks).where(one, checks.c.issuer_log_id == self._log.id)
            self._changing.tx.execute(its_rows.values(due_at=AT_ONCE))
