"""The state of an item, from its events: a pure function, so that an auditor can work it out again from an export."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation, localcontext

from receiver.audit.shapes import EventShape
from receiver.events import Effect, Extent

_DIGITS = 100  # more than any sum of amounts has: nothing is rounded


def state_of(events: Sequence[EventShape]) -> tuple[str, str | None]:
    """The state of an item with those events, oldest first, and since when it is in it.

    `taken_back`, `partly`, `pending`, `not_taken_back`, `disputed`, `no_record` or `erased`. Breaches and mismatches
    never change it. "Since" is when the event that brought the state about occurred, or was received where the
    provider gives no time.
    """
    if not events:
        return "no_record", None
    known = [event for event in events if not event.erased]
    if not known:
        return "erased", None
    for event in known:
        if event.cross_check.state == "contradicted":
            return "disputed", event.cross_check.since
    effects = [(Effect(event.effect), event) for event in known if event.effect is not None]
    taking = [event for effect, event in effects if effect.takes_back]
    whole = [event for event in taking if event.extent == Extent.FULL]
    under_way = [event for effect, event in effects if effect.under_way]
    others = [event for effect, event in effects if not effect.takes_back and not effect.under_way]
    for state, bringing in (
        ("taken_back", whole),
        ("partly", taking),
        ("pending", under_way),
        ("not_taken_back", others),
    ):
        if bringing:
            return state, min(_moment(event) for event in bringing)
    return "no_record", None  # context alone says nothing of what became of the item


def reversed_amount(events: Sequence[EventShape]) -> str | None:
    """The sum of what was taken back, each act counted once however often it was told; None if no amount is known."""
    amounts: dict[str, Decimal] = {}
    for event in events:
        if event.amount is None or event.effect is None or not Effect(event.effect).takes_back:
            continue
        try:
            amounts[event.operation or event.id] = Decimal(event.amount)
        except InvalidOperation:
            continue
    with localcontext(prec=_DIGITS):
        return format(sum(amounts.values(), Decimal(0)), "f") if amounts else None


def _moment(event: EventShape) -> str:
    return event.occurred_at or event.received_at
