"""The state of an item, from its events: a pure function, so that an auditor can work it out again from an export.

An event tells of an *act*: one cancellation, one reversal. The same act may be told several times, as a webhook and by
the operator's own systems; its operation's id says that it is the same, and it counts once. An act that names none
stands alone.

How much of an item there is in all, its total, is the amount or quantity of its newest context without an effect. What
was taken back by parts is taken back once their sum reaches that.

    redeemed for 500.00, reversed by 200.00           partly: 200.00
    … and by 300.00                                   taken_back: 500.00, since the second reversal
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from receiver.amounts import format_amount, parse_amount, total
from receiver.audit.shapes import EventShape
from receiver.events import Effect, Extent


def state_of(events: Sequence[EventShape], unit: str | None = None) -> tuple[str, str | None]:
    """The state of an item with those events, in the log's order, and since when it is in it.

    `taken_back`, `partly`, `pending`, `not_taken_back`, `disputed`, `no_record` or `erased`. Breaches and mismatches
    never change it. "Since" is when the event that brought the state about occurred, or was received where the
    provider gives no time. `unit` is the member of the details that says what amounts are counted in, if there is one.
    """
    if not events:
        return "no_record", None
    known = [event for event in events if not event.erased]
    if not known:
        return "erased", None
    for event in known:
        if event.cross_check.state == "contradicted":
            return "disputed", event.cross_check.since
    taking = _taking_back(known)
    if taking:
        whole = [_moment(event) for event in taking if event.extent == Extent.FULL]
        completed = _completed(known, taking, unit)
        if completed is not None:
            whole.append(completed)
        return ("taken_back", min(whole)) if whole else ("partly", min(map(_moment, taking)))
    still_open, concluded = _under_way(known)
    if still_open:
        return "pending", min(still_open)
    others = [_moment(event) for event in known if event.effect is not None]
    if others:
        return "not_taken_back", concluded or min(others)
    return "no_record", None  # context alone says nothing of what became of the item


@dataclass(frozen=True, slots=True)
class Reversed:
    """How much of an item was taken back in all, as plain decimals: in amounts, and in quantities."""

    amount: str | None
    quantity: str | None


def reversed_in_all(events: Sequence[EventShape], unit: str | None = None) -> Reversed:
    """The exact sums of the amounts and of the quantities taken back, each act counted once.

    What is no plain decimal is left out. None for a sum of which no part is known, and for both if the acts are of
    different units, which have no sum. `unit` is as for `state_of`.
    """
    taking = _taking_back(events)
    if len(_units(taking, unit)) > 1:
        return Reversed(None, None)
    acts = _acts(taking)
    return Reversed(_sum(act.amount for act in acts), _sum(act.quantity for act in acts))


@dataclass(frozen=True, slots=True)
class _Act:
    """One act that takes back, however often it was told: when, and how much, as far as that is known."""

    moment: str
    amount: Decimal | None
    quantity: Decimal | None


def _acts(taking: Iterable[EventShape]) -> list[_Act]:
    """Each act once, in the order of time; told of more than once, it counts as it was told last."""
    told: dict[str, list[EventShape]] = {}
    for event in taking:
        told.setdefault(event.operation or event.id, []).append(event)
    acts = [
        _Act(
            min(map(_moment, tellings)),
            _taken(event.amount for event in reversed(tellings)),
            _taken(event.quantity for event in reversed(tellings)),
        )
        for tellings in told.values()
    ]
    return sorted(acts, key=lambda act: act.moment)


def _taking_back(events: Iterable[EventShape]) -> list[EventShape]:
    return [event for event in events if event.effect is not None and Effect(event.effect).takes_back]


def _completed(known: Sequence[EventShape], taking: Sequence[EventShape], unit: str | None) -> str | None:
    """Since when the sum of the parts reaches the total; None if it does not, or one of the two is unknown.

    Amounts decide. Where they cannot tell, for the total or a part has none, quantities do.
    """
    units = _units(taking, unit)
    if len(units) > 1:
        return None
    totals = [event for event in reversed(known) if event.effect is None]
    if units:  # one that names no unit is not of another
        totals = [event for event in totals if _units([event], unit) <= units]
    amount = _first_number(event.amount for event in totals)
    quantity = _first_number(event.quantity for event in totals)
    acts = _acts(taking)
    since = _reached([(act.moment, act.amount) for act in acts], amount)
    amounts_tell = amount is not None and all(act.amount is not None for act in acts)
    if since is not None or amounts_tell:
        return since
    return _reached([(act.moment, act.quantity) for act in acts], quantity)


def _reached(parts: Iterable[tuple[str, Decimal | None]], whole: Decimal | None) -> str | None:
    """The moment of the part with which the sum came to the whole and stayed there; None if it does not reach it."""
    since: str | None = None
    so_far = Decimal(0)
    for moment, part in parts:
        if whole is None or part is None:
            continue
        so_far = total((so_far, part))
        if so_far < whole:
            since = None
        elif since is None:
            since = moment
    return since


def _under_way(known: Iterable[EventShape]) -> tuple[list[str], str | None]:
    """When each act began that is still open, and when the last one that is not was concluded.

    An act is concluded by an event of the same operation which says that it came to nothing, even if that was told
    first; or by any later one which says that the item is in force again.
    """
    still_open: dict[str, str] = {}
    over: set[str] = set()
    concluded: str | None = None
    for event in known:
        effect = None if event.effect is None else Effect(event.effect)
        act = event.operation or event.id
        if effect is None:
            continue
        if effect.under_way:
            if act in over:
                continue
            still_open[act] = min(_moment(event), still_open.get(act, _moment(event)))
        elif effect is Effect.ACTIVATED and still_open:
            still_open.clear()
            concluded = _moment(event)
        elif effect in {Effect.REJECTED, Effect.REFUSED}:
            over.add(act)
            if still_open.pop(act, None) is not None:
                concluded = _moment(event)
    return list(still_open.values()), concluded


def _sum(parts: Iterable[Decimal | None]) -> str | None:
    """The exact sum of those that are known; None if none is."""
    known = [part for part in parts if part is not None]
    return format_amount(total(known)) if known else None


def _units(events: Iterable[EventShape], unit: str | None) -> set[str]:
    """What amounts are counted in, of those events that name it."""
    named = [] if unit is None else [event.details.get(unit) for event in events]
    return {str(name) for name in named if name is not None}


def _first_number(texts: Iterable[str | None]) -> Decimal | None:
    """The first that is a plain decimal."""
    for text in texts:
        if text is not None and (number := parse_amount(text)) is not None:
            return number
    return None


def _taken(texts: Iterable[str | None]) -> Decimal | None:
    """How much an act took back. What is below 0 takes nothing back, and undoes nothing that others did."""
    number = _first_number(texts)
    return None if number is None else max(number, Decimal(0))


def _moment(event: EventShape) -> str:
    return event.occurred_at or event.received_at
