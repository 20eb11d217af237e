"""Claims: what an event, and an entry of an issuer's log, say of one act, in the same words.

    claim_of(row.effect, row.event_data)         an event, by its row
    claim_in("acme", entry)                      an entry, as its provider's module reads it

Not all that is kept as an event says that something is, or is being, taken back. Context says nothing of the kind; that
the provider refused says that nothing happened, and an issuer logs what happened; and an erased event says nothing any
more. None of these is checked.
"""

from datetime import datetime

import msgspec
from msgspec import Struct

from receiver import providers
from receiver.events import Claim, Effect, Item, parse_time


class _Data(Struct):
    """Of `Event.data()`, what a claim is made of."""

    account: str | None
    amount: str | None
    item: Item
    occurred_at: str | None
    operation: str | None
    quantity: str | None


_decode = msgspec.json.Decoder(_Data).decode


def claim_of(effect: str | None, event_data: bytes | None) -> Claim | None:
    """What an event of kind `revocation` says, given its effect and `Event.data()`; None if it is never checked.

    Raises msgspec's DecodeError or ValueError for data that `Event.data()` did not make.
    """
    if effect is None or effect == Effect.REFUSED or event_data is None:
        return None
    data = _decode(bytes(event_data))
    return Claim(
        account=data.account,
        item=data.item,
        operation=data.operation,
        effect=Effect(effect),
        amount=data.amount,
        quantity=data.quantity,
        at=_moment(data.occurred_at),
    )


def claim_in(provider: str, entry: bytes | None) -> Claim | None:
    """What an entry of an issuer's log says that was kept for that provider.

    None if it is erased, or if the provider's module, as it is now, does not read it as an act any more.
    """
    claim = None if entry is None else providers.get(provider).entry(bytes(entry))
    return claim if isinstance(claim, Claim) else None


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)
