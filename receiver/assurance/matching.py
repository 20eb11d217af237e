"""Matching: what the entries of an issuer's log say of events. Pure: the same claims give the same, in any order.

Given are the events and the entries of one provider that share an item or an operation, of one tenant and one log. What
is found of an event is a `Standing`: `confirmed` or `contradicted`, and by which entry; none if there is nothing of it.
Time has no part in it: that nothing is there *yet* is for others to say.

 1. Accounts. An entry is looked at for an event if it names no account, or the one that the event is of: the one that
    it names, or else its source's. Where the source is exclusive, every entry is looked at. No other entry is.
 2. The same operation is the same act. An entry of the event's operation and effect is compared with it, in every field
    that both have: item, account, amount and quantity as numbers, times within 2 seconds. If nothing differs, it is
    confirmed; else contradicted, with all that differs. Of several such entries one that agrees suffices. Items of
    types that the provider names one act by (`Told.types`) do not differ, whatever their ids; those of other types
    always do. An entry about an item of such another type is looked at only where there is none of the event's own.
 3. What was begun may be there as done: an entry `revoked` stands for an event `revoking`, and `canceled` for
    `canceling`, if there is none of its own effect. Its time is then not the event's, and is not compared. It is not so
    the other way round: of what is said to be done, an entry that it was begun says nothing yet.
 4. The last word counts. An entry `rejected` or `activated` of the event's operation contradicts every event but those
    that say the same, unless an entry that stands for the event comes after it. An entry of any other effect
    contradicts as well, where none stands for the event. But one `refused` says that nothing happened, and one that
    says what was begun leaves open what came of it: these contradict nothing, but that one thing and not another was
    begun.
 5. Where an event or an entry names no operation, they are one act if account, item and effect are the same, and amount
    and quantity wherever both have them. Each entry serves one act of an effect: first those that agree in everything,
    times included; then those with the same amount and quantity; then the others; each in the order of time. Rule 3
    holds here, after all that; and of the operation that the entry names, if it does, rule 4. Nothing else contradicts:
    what differs is another act. An act that an entry fits in some of its events only is served last, and in those.
 6. What was begun and what was done may be two operations to an issuer. So at the very end rule 3 holds for two that
    differ, as rule 5 has it, but for an operation of which there is an entry that it was begun.
 7. Events of one act: those of one operation and effect, on items of one type, or of such types, whichever way each
    came by. Events without an operation are of one act if item, effect, amount and quantity are the same, no two times
    differ, and each came another way (another source, or by webhook, relay or poll): by the same way each act is told
    once. Such an event may be of an act whose other events name their operation. All events of an act have the entry
    that serves it.
 8. An entry is announced if an event was confirmed or contradicted by it; by an event of its operation and effect; and,
    unless it says that something was taken back, by any event of its operation. By none of these, though, if that is
    about an item of another type that the provider does not name the act by: it says nothing of this item. One that
    says what was begun is also announced by an event of its account and item which says that it is done; or by any,
    where one of the two names no operation.

Identifiers are compared in one case (`receiver.documents.one_case`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct

from receiver.amounts import parse_amount
from receiver.documents import one_case
from receiver.events import Claim, CrossCheck, Effect, Item, format_time
from translog.canonical import Value

NEAR = timedelta(seconds=2)
"""Times that are no further apart are the same: a clock is read once for the answer and once for the log."""

_DONE = {Effect.REVOKING: Effect.REVOKED, Effect.CANCELING: Effect.CANCELED}
_DENIES = frozenset({Effect.REJECTED, Effect.ACTIVATED})


class Told(Struct, frozen=True):
    """An event."""

    id: str
    claim: Claim
    account: str | None
    """Whose it is: the one that it names, or else its source's; None if neither does."""
    exclusive: bool
    """Every entry of the log is its source's own."""
    way: str
    """How it came: by which source, and via what. The same way tells of each act once."""
    received_at: datetime
    types: frozenset[str] = frozenset()
    """The types of items that its provider names one act by, now one and now another; the same of all events."""


class Entry(Struct, frozen=True):
    """An entry of the issuer's log."""

    index: int
    claim: Claim


class Difference(Struct, frozen=True):
    """A field in which an event differs from what the issuer says of the same act."""

    field: str
    """As in `Claim`."""
    event: str | None
    issuer: str | None

    def value(self) -> Value:
        """It as canonical JSON's value."""
        return {"event": self.event, "field": self.field, "issuer": self.issuer}


class Standing(Struct, frozen=True):
    """What is found of an event."""

    state: CrossCheck
    """`CONFIRMED` or `CONTRADICTED`."""
    index: int
    """Of the entry that says so."""
    differences: tuple[Difference, ...] = ()
    """By name; none if it is confirmed."""
    alone: bool = True
    """By its operation: so it is, whatever other events there are."""


@dataclass(frozen=True, slots=True)
class Matched:
    """What is found of all events, by their ids, and the indexes of the entries that are announced."""

    standings: Mapping[str, Standing]
    announced: frozenset[int]


def differences(event: Claim, other: Claim, types: frozenset[str] = frozenset()) -> tuple[Difference, ...]:
    """In what an event differs from a claim of the same act, of what both say: by the names of the fields.

    `types` are those of items that one act may be named by. Items of other types differ, and are given as `type:id`.
    """
    found: list[Difference] = []
    if not _same_id(event.account, other.account):
        found.append(Difference("account", event.account, other.account))
    if not _same_number(event.amount, other.amount):
        found.append(Difference("amount", event.amount, other.amount))
    if event.effect is other.effect and not _near(event.at, other.at):
        found.append(Difference("at", _written(event.at), _written(other.at)))
    if not stands_for(other.effect, event.effect):
        found.append(Difference("effect", event.effect.value, other.effect.value))
    if not _same_act(event.item, other.item, types):
        found.append(Difference("item", _with_type(event.item), _with_type(other.item)))
    elif event.item.type == other.item.type and not _same_id(event.item.id, other.item.id):
        found.append(Difference("item", event.item.id, other.item.id))
    if not _same_number(event.quantity, other.quantity):
        found.append(Difference("quantity", event.quantity, other.quantity))
    return tuple(found)


def stands_for(said: Effect, event: Effect) -> bool:
    """Whether what has the effect `said` satisfies an event of that effect: it is the same, or done what was begun."""
    return said is event or said is _DONE.get(event)


def match(events: Iterable[Told], entries: Iterable[Entry]) -> Matched:
    """What the entries say of the events, by the rules above. Ids and indexes must not repeat."""
    told, said = sorted(events, key=_when), sorted(entries, key=lambda entry: entry.index)
    by_operation, by_index = _by_operation(said), {entry.index: entry for entry in said}
    standings: dict[str, Standing] = {}
    for event in told:
        standing = _of_operation(event, by_operation.get(_operation(event.claim), ()))
        if standing is not None:
            standings[event.id] = standing
    used = {(event.claim.effect, entry.index) for event, entry in _told_of(told, standings, by_index)}
    left: dict[Effect, list[_Act]] = defaultdict(list)
    for act in _acts(told):
        served = next((standings[event.id] for event in act if event.id in standings), None)
        if served is None:
            left[act[0].claim.effect].append(act)
        else:
            unnamed = [event for event in act if event.claim.operation is None]
            standings |= {event.id: _likewise(event, served, by_index[served.index]) for event in unnamed}
    for effect, acts in left.items():
        free = [one for one in said if stands_for(one.claim.effect, effect) and (effect, one.index) not in used]
        begun = [one for one in said if one.claim.effect is effect]
        for act, entry in _paired(acts, free, begun):
            fitting = [event for event in act if _rank(event, entry) < _UNFIT]
            standings |= {event.id: _served(event, entry, by_operation) for event in fitting}
    judged = {entry.index for _, entry in _told_of(told, standings, by_index)}
    return Matched(standings, _announced(told, said) | judged)


# ---- by operation ---------------------------------------------------------------------------------------------------


def _of_operation(event: Told, entries: Sequence[Entry]) -> Standing | None:
    """Rules 2 to 4, given the entries of the event's operation by index."""
    effect = event.claim.effect
    concerning = [entry for entry in entries if _concerns(event, entry)]
    own = [entry for entry in concerning if _may_tell(event, entry)] or concerning
    standing = [entry for entry in own if stands_for(entry.claim.effect, effect)]
    if (denial := _denial(effect, own, standing)) is not None:
        return _compared(event, denial)
    if standing:
        its_own = [entry for entry in standing if entry.claim.effect is effect]
        compared = [_compared(event, entry) for entry in its_own or standing]
        return next((one for one in compared if one.state is CrossCheck.CONFIRMED), compared[0])
    others = [entry for entry in own if _excludes(entry.claim.effect, effect)]
    return _compared(event, others[-1]) if others else None


def _denial(effect: Effect, own: Sequence[Entry], standing: Sequence[Entry]) -> Entry | None:
    """The last entry that denies the effect, if none that stands for it comes after."""
    if effect in _DENIES:
        return None
    last = next((entry for entry in reversed(own) if entry.claim.effect in _DENIES), None)
    return last if last is not None and all(entry.index < last.index for entry in standing) else None


def _excludes(said: Effect, event: Effect) -> bool:
    """Whether an act of which the one is said cannot be the other, which it does not stand for."""
    if said is Effect.REFUSED or (said in _DENIES and event in _DENIES):
        return False
    return event.under_way or not said.under_way


def _compared(event: Told, entry: Entry, *, alone: bool = True) -> Standing:
    differing = differences(event.claim, entry.claim, event.types)
    state = CrossCheck.CONTRADICTED if differing else CrossCheck.CONFIRMED
    return Standing(state, entry.index, differing, alone)


# ---- without an operation -------------------------------------------------------------------------------------------


_Act: TypeAlias = list[Told]
"""The events of one act, in the order of time."""

_EXACT_AND_NEAR, _EXACT, _FITTING, _DONE_SINCE, _DONE_APART, _IN_PART, _UNFIT = range(7)
"""How well an entry serves an act: the best first. `_IN_PART`: some of its events, and others it does not fit."""


def _acts(told: Sequence[Told]) -> list[_Act]:
    """The acts that events tell of, in the order of time; the events come in that order."""
    named: dict[tuple[str, Effect, str | None], list[Told]] = defaultdict(list)
    for event in told:
        if (operation := _operation(event.claim)) is not None:
            its_type = event.claim.item.type
            named[operation, event.claim.effect, None if its_type in event.types else its_type].append(event)
    acts = sorted((act for of_one in named.values() for act in _by_account(of_one)), key=lambda act: _when(act[0]))
    at: dict[tuple[str, str, Effect], list[_Act]] = defaultdict(list)
    for act in acts:
        for item in dict.fromkeys(_item(event.claim) for event in act):
            at[*item, act[0].claim.effect].append(act)
    for event in told:
        if _operation(event.claim) is None:
            there = at[*_item(event.claim), event.claim.effect]
            its_act = next((act for act in there if _may_join(event, act)), None)
            if its_act is None:
                there.append([event])
                acts.append(there[-1])
            else:
                its_act.append(event)
    return sorted(acts, key=lambda act: _when(act[0]))


def _by_account(events: Sequence[Told]) -> Iterator[_Act]:
    """The events of one operation and effect; apart, if they are known to be of different accounts."""
    accounts = {_one_case(event.account) for event in events}
    if len(accounts - {None}) <= 1:
        yield list(events)
        return
    for account in accounts:
        yield [event for event in events if _one_case(event.account) == account]


def _may_join(event: Told, act: _Act) -> bool:
    """Whether an event without an operation is of that act, on the same item and of the same effect."""
    claim = event.claim
    return all(
        event.way != other.way
        and _same_id(event.account, other.account)
        and _number(claim.amount) == _number(other.claim.amount)
        and _number(claim.quantity) == _number(other.claim.quantity)
        and _near(claim.at, other.claim.at)
        for other in act
    )


def _paired(acts: Sequence[_Act], entries: Sequence[Entry], begun: Sequence[Entry]) -> Iterator[tuple[_Act, Entry]]:
    """The entry that serves each act, as many of them as can be served; both come in the order of time.

    Rank by rank, acts are given what is free, or what another act can give up for something else that is good enough.
    `begun` are the entries that say no more than the acts do themselves.
    """
    ranks: list[list[tuple[int, bool, int]]] = []
    for act in acts:
        its = frozenset(_operation(one.claim) for one in begun if any(_concerns(event, one) for event in act))
        ranked = ((_best(act, entry, its), entry, place) for place, entry in enumerate(entries))
        # One that names the account is the act's rather than another's.
        ranks.append([(rank, entry.claim.account is None, place) for rank, entry, place in ranked if rank < _UNFIT])
    holder: dict[int, int] = {}  # by the place of an entry, that of the act which it serves
    given: dict[int, int] = {}  # the other way round
    for worst in range(_UNFIT):
        good = [[place for rank, _, place in sorted(of_act) if rank <= worst] for of_act in ranks]
        for place in range(len(acts)):
            if place not in given:
                _give(place, good, holder, given)
    for place in sorted(given):
        yield acts[place], entries[given[place]]


def _give(act: int, good: Sequence[Sequence[int]], holder: dict[int, int], given: dict[int, int]) -> None:
    """Give an act an entry, if need be one that others make room for: an augmenting path in a bipartite graph."""
    asking = [act]
    asked_by: dict[int, int] = {}
    for one in asking:  # it grows meanwhile
        for entry in good[one]:
            if entry in asked_by:
                continue
            asked_by[entry] = one
            if entry in holder:
                asking.append(holder[entry])
                continue
            freed: int | None = entry
            while freed is not None:
                taker = asked_by[freed]
                holder[freed], given[taker], freed = taker, freed, given.get(taker)
            return


def _best(act: _Act, entry: Entry, begun: frozenset[str | None]) -> int:
    """How well the entry serves the act: as well as it fits any of its events, if it fits all of them.

    `begun` are the operations that were begun, by entries that the act is looked at for.
    """
    ranks = [_rank(event, entry) for event in act]
    rank, its = min(ranks), _operation(entry.claim)
    named = {_operation(event.claim) for event in act} - {None}
    if its is not None and named:
        rank = _DONE_APART if rank == _DONE_SINCE and its not in named | begun else _UNFIT
    return _IN_PART if rank < _UNFIT and max(ranks) == _UNFIT else rank


def _rank(event: Told, entry: Entry) -> int:
    """How well an entry fits an event, not looking at operations."""
    mine, its = event.claim, entry.claim
    if _item(mine) != _item(its) or not _concerns(event, entry) or not _same_id(mine.account, its.account):
        return _UNFIT
    if not (_same_number(mine.amount, its.amount) and _same_number(mine.quantity, its.quantity)):
        return _UNFIT
    if mine.effect is not its.effect:
        return _DONE_SINCE
    alike = (mine.amount is None) == (its.amount is None) and (mine.quantity is None) == (its.quantity is None)
    if not alike:
        return _FITTING
    return _EXACT_AND_NEAR if _near(mine.at, its.at) else _EXACT


def _likewise(event: Told, served: Standing, entry: Entry) -> Standing:
    """The standing of an event without an operation, given that of its act by its operation, and by which entry."""
    if served.state is CrossCheck.CONFIRMED:
        return Standing(served.state, served.index, alone=False)
    return _compared(event, entry, alone=False)


def _served(event: Told, entry: Entry, by_operation: Mapping[str | None, Sequence[Entry]]) -> Standing:
    """The standing of an event that an entry serves: confirmed, unless that entry's operation was denied later."""
    of_operation = by_operation.get(_operation(entry.claim), ())
    of_act = [one for one in of_operation if _concerns(event, one) and _may_tell(event, one)]
    standing = [one for one in of_act if stands_for(one.claim.effect, event.claim.effect)]
    denial = _denial(event.claim.effect, of_act, standing)
    if denial is not None:
        return _compared(event, denial, alone=False)
    return Standing(CrossCheck.CONFIRMED, entry.index, alone=False)


# ---- what is announced ----------------------------------------------------------------------------------------------


def _announced(told: Sequence[Told], said: Sequence[Entry]) -> frozenset[int]:
    """Rule 8, but for what was confirmed or contradicted."""
    announced: set[int] = set()
    of_operation: dict[str | None, list[Told]] = defaultdict(list)
    of_item: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for event in told:
        of_operation[_operation(event.claim)].append(event)
        of_item[_item(event.claim)].append(event)
    for entry in said:
        operation, effect = _operation(entry.claim), entry.claim.effect
        named = () if operation is None else of_operation[operation]
        of_act = [one for one in named if _concerns(one, entry) and _may_tell(one, entry)]
        if any(one.claim.effect is effect or not effect.takes_back for one in of_act):
            announced.add(entry.index)
        if effect.under_way:
            there = [one for one in of_item[_item(entry.claim)] if _concerns(one, entry)]
            if any(None in (operation, one.claim.operation) or one.claim.effect is _DONE[effect] for one in there):
                announced.add(entry.index)
    return frozenset(announced)


# ---- what is the same -----------------------------------------------------------------------------------------------


def _concerns(event: Told, entry: Entry) -> bool:
    """Rule 1."""
    named = entry.claim.account
    return event.exclusive or named is None or (event.account is not None and _same_id(event.account, named))


def _told_of(
    told: Iterable[Told], standings: Mapping[str, Standing], by_index: Mapping[int, Entry]
) -> Iterator[tuple[Told, Entry]]:
    """Events, each with the entry that it was judged by, if the one can be of the act of the other."""
    for event in told:
        if event.id in standings and _may_tell(event, entry := by_index[standings[event.id].index]):
            yield event, entry


def _may_tell(event: Told, entry: Entry) -> bool:
    """Whether the one can be of the act of the other, by the types of their items."""
    return _same_act(event.claim.item, entry.claim.item, event.types)


def _same_act(one: Item, other: Item, types: frozenset[str]) -> bool:
    return one.type == other.type or (one.type in types and other.type in types)


def _by_operation(entries: Iterable[Entry]) -> dict[str | None, list[Entry]]:
    found: dict[str | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.claim.operation is not None:
            found[_operation(entry.claim)].append(entry)
    return found


def _when(event: Told) -> tuple[datetime, datetime, str]:
    return event.claim.at or event.received_at, event.received_at, event.id


def _operation(claim: Claim) -> str | None:
    return _one_case(claim.operation)


def _item(claim: Claim) -> tuple[str, str]:
    item: Item = claim.item
    return item.type, one_case(item.id)


def _with_type(item: Item) -> str:
    return f"{item.type}:{item.id}"


def _one_case(text: str | None) -> str | None:
    return None if text is None else one_case(text)


def _same_id(one: str | None, other: str | None) -> bool:
    """Whether both are the same, or one of them is not said."""
    return one is None or other is None or one_case(one) == one_case(other)


@lru_cache(maxsize=1024)  # more than there is in one matching: where every act is held against every entry
def _number(text: str | None) -> Decimal | str | None:
    """The number that is written; the text itself where that is no plain decimal."""
    number = None if text is None else parse_amount(text)
    return text if number is None else number


def _same_number(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other or _number(one) == _number(other)


def _near(one: datetime | None, other: datetime | None) -> bool:
    return one is None or other is None or abs(one - other) <= NEAR


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
