"""The vocabulary: what a provider said happened, in one shape for all providers.

A provider's module reads a delivery into an `Event`: who (account), what (item), which act (operation), what became
of it (effect), how much of it (extent, amount, quantity), when, why. Everything after it (rules, records, cross-checks,
exports) knows these words and no provider's.

Times are UTC with six fraction digits wherever they are written (RFC 3339), so that they sort as text; identifiers are
UUIDs of version 7 (RFC 9562 section 5.7), so that they sort by time.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from threading import Lock
from typing import Any, Self

from msgspec import Struct

from receiver import encoding
from receiver.strictjson import Json, plain
from translog.canonical import Value


class Kind(StrEnum):
    """What an entry of the log records."""

    REVOCATION = "revocation"
    """A notice that something issued is, or is being, taken back, or that this was refused or undone."""
    CONTEXT = "context"
    """A documented notice that takes nothing back but bears on one that does."""
    MISMATCH = "mismatch"
    QUARANTINE = "quarantine"
    ATTEMPT = "attempt"
    CROSS_CHECK = "cross_check"
    GAP = "gap"
    FORK = "fork"
    SILENCE = "silence"
    ERASURE = "erasure"
    HOLD = "hold"
    RELEASE = "release"
    EXPORT = "export"
    SOURCE = "source"
    KEY = "key"
    TENANT = "tenant"
    TALLY = "tally"


class Effect(StrEnum):
    """What became of the item."""

    REVOKING = "revoking"
    REVOKED = "revoked"
    CANCELING = "canceling"
    CANCELED = "canceled"
    REVERSED = "reversed"
    REFUSED = "refused"
    REJECTED = "rejected"
    ACTIVATED = "activated"

    @property
    def takes_back(self) -> bool:
        """The item is taken back now."""
        return self in _TAKES_BACK

    @property
    def under_way(self) -> bool:
        """Taking it back has begun, and its outcome is open."""
        return self in _UNDER_WAY


_TAKES_BACK = frozenset({Effect.REVOKED, Effect.CANCELED, Effect.REVERSED})
_UNDER_WAY = frozenset({Effect.REVOKING, Effect.CANCELING})


class Via(StrEnum):
    """How an event came to us."""

    WEBHOOK = "webhook"
    RELAY = "relay"
    POLL = "poll"
    DECLARED = "declared"
    """In our plain envelope, made by the operator's own systems."""


class Extent(StrEnum):
    """How much of the item an event speaks of."""

    FULL = "full"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


class CrossCheck(StrEnum):
    """What the issuer's own log, or the provider's own record, says of an event."""

    PENDING = "pending"
    """Nothing yet, and there is still time."""
    CONFIRMED = "confirmed"
    """It holds it."""
    CONTRADICTED = "contradicted"
    """It says otherwise of the same act, or denies it later."""
    ABSENT = "absent"
    """The grace period is over, and it is not there."""
    NONE = "none"
    """There is nothing to check against."""


class Item(Struct, frozen=True):
    """The thing that was issued, in the provider's own terms (`receipt`, and its id)."""

    type: str
    id: str


class Claim(Struct, frozen=True):
    """One act, as somebody says it was: what an event and an entry of the issuer's log are compared by.

    What is not said is None.
    """

    account: str | None
    item: Item
    operation: str | None
    effect: Effect
    amount: str | None
    """A decimal, as it was written."""
    quantity: str | None
    at: datetime | None
    """In UTC."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule of the provider that an event breaks: its code, and a sentence about this event."""

    code: str
    message: str


class Event(Struct, frozen=True):
    """One notice, read. What the provider does not give is None; it is never guessed."""

    kind: Kind
    """`REVOCATION` or `CONTEXT`."""
    type: str
    """The provider's name for it (`receipt.revoked`)."""
    item: Item
    effect: Effect | None
    """None where none of the effects is said: for context."""
    extent: Extent
    account: str | None
    """The provider's customer that it concerns (tenant, merchant, organization)."""
    operation: str | None
    """The id of one act at the issuer."""
    occurred_at: datetime | None
    """In UTC."""
    occurred_from: str | None
    """The member that `occurred_at` is taken from."""
    amount: str | None
    """A decimal, as it was written: how much was taken back. Of context: how much of the item there is in all."""
    quantity: str | None
    """The same in whole units."""
    reason: str | None
    details: Mapping[str, Json]
    """The provider's own members worth keeping; ASCII names."""

    def data(self) -> bytes:
        """The canonical JSON of the event's own data: what the log's entry commits to under the label `event`.

        A `Number` in the details becomes the text of its literal. Raises `translog.errors.FormatError` if a string or
        name is outside canonical JSON, which no string of a parsed document is.
        """
        encoding.ascii_names(self.details)
        return encoding.canonical(
            {
                "account": self.account,
                "amount": self.amount,
                "details": {name: plain(value) for name, value in self.details.items()},
                "extent": self.extent,
                "item": {"id": self.item.id, "type": self.item.type},
                "occurred_at": None if self.occurred_at is None else format_time(self.occurred_at),
                "occurred_from": self.occurred_from,
                "operation": self.operation,
                "quantity": self.quantity,
                "reason": self.reason,
            }
        )


class Past(Struct, frozen=True):
    """What a rule sees of an event of the same item that was logged earlier.

    Logged earlier is not received earlier: what was read again out of quarantine is logged late.
    """

    kind: Kind
    type: str
    effect: Effect | None
    received_at: datetime
    """In UTC."""
    log_index: int
    """Of its entry, from 0."""
    extent: Extent
    account: str | None
    operation: str | None
    occurred_at: datetime | None
    amount: str | None
    quantity: str | None
    details: Mapping[str, Value]

    @classmethod
    def from_event(cls, event: Event, received_at: datetime, log_index: int) -> Self:
        """The same as `of` gives from the event's data, without reading it again."""
        return cls(
            kind=event.kind,
            type=event.type,
            effect=event.effect,
            received_at=received_at,
            log_index=log_index,
            extent=event.extent,
            account=event.account,
            operation=event.operation,
            occurred_at=event.occurred_at,
            amount=event.amount,
            quantity=event.quantity,
            details={name: plain(value) for name, value in event.details.items()},
        )

    @classmethod
    def of(
        cls,
        kind: Kind,
        type: str,  # noqa: A002 (as in Event)
        effect: Effect | None,
        received_at: datetime,
        log_index: int,
        data: bytes,
    ) -> Self:
        """The event of that kind, type, effect, time of receipt and entry whose `Event.data()` was `data`.

        Raises ValueError (or KeyError) for data that `Event.data()` did not make.
        """
        members: dict[str, Any] = json.loads(data)
        occurred_at: str | None = members["occurred_at"]
        return cls(
            kind=kind,
            type=type,
            effect=effect,
            received_at=received_at,
            log_index=log_index,
            extent=Extent(members["extent"]),
            account=members["account"],
            operation=members["operation"],
            occurred_at=None if occurred_at is None else parse_time(occurred_at),
            amount=members["amount"],
            quantity=members["quantity"],
            details=members["details"],
        )


def may_be_one_account(one: str | None, other: str | None) -> bool:
    """Whether both can be the same account: one that is not named is not another."""
    return one is None or other is None or one == other


def format_time(moment: datetime) -> str:
    """`2026-11-20T09:00:00.123456Z`: RFC 3339 in UTC, always with six fraction digits.

    Takes an aware datetime of any zone; raises ValueError for a naive one, which names no moment.
    """
    if moment.tzinfo is not UTC:
        if moment.tzinfo is None:
            raise ValueError(f"the time {moment.isoformat()} has no zone; give it one (datetime.UTC)")
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


# Every shape an RFC 3339 time can have, digits as 0: one look-up refuses what fromisoformat would let through.
_DIGITS_AS_0 = bytes.maketrans(b"123456789", b"000000000")
_SHAPES = frozenset(
    f"0000-00-00T00:00:00{fraction}{zone}".encode()
    for fraction in ("", *("." + "0" * digits for digits in range(1, 10)))
    for zone in ("Z", "+00:00", "-00:00")
)


def parse_time(text: str) -> datetime:
    """The moment in UTC that `text` names (RFC 3339 section 5.6), fraction digits after the sixth cut off.

    `T` and `Z` in upper case, a zone (`Z` or an offset) and at most nine fraction digits; raises ValueError for all
    else, the leap second (`:60`) and times outside of the years 1 to 9999 included: a datetime cannot hold them.
    """
    if text.encode().translate(_DIGITS_AS_0) not in _SHAPES:
        raise ValueError(f"{text[:64]!a} is not an RFC 3339 time with a zone, such as 2026-11-20T09:00:00Z")
    if text[11:13] > "23":  # newer Pythons read 24:00 as the next day's 00:00
        raise ValueError(f"{text!a} has an hour above 23")
    if text[-1] != "Z" and (text[-5:-3] > "23" or text[-2:] > "59"):
        raise ValueError(f"{text!a} has an offset above 23:59")
    try:
        moment = datetime.fromisoformat(text)
        return moment if text[-1] == "Z" else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!a} is not a time: {error}") from None


_last_tick = 0
_tick_lock = Lock()


def new_id() -> str:
    """A new UUID of version 7, as text; within a process, each sorts after the one before it. Thread-safe.

    48 bits of milliseconds, 12 bits of their fraction (RFC 9562 section 6.2, method 3), 62 random bits. Where the clock
    stands still or is set back, the fraction counts on from the last one, over into the milliseconds if need be.
    """
    return next(new_ids(1))


def new_ids(most: int) -> Iterator[str]:
    """Up to that many new ids. The system is asked for randomness once: asking lets other threads in, every time."""
    randomness = os.urandom(8 * most)
    for at in range(0, len(randomness), 8):
        tick = _next_tick()
        milliseconds, fraction = tick >> 12, tick & 0xFFF
        random = int.from_bytes(randomness[at : at + 8], "big")
        variant_and_random = 0x8000 | random >> 48 & 0x3FFF
        yield (
            f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{fraction:03x}"
            f"-{variant_and_random:04x}-{random & 0xFFFF_FFFF_FFFF:012x}"
        )


def _next_tick() -> int:
    """The time in 4096ths of a millisecond, or one more than the last one given."""
    global _last_tick  # noqa: PLW0603 (the one thing that must be shared for ids to be in order)
    tick = time.time_ns() * 4096 // 1_000_000
    with _tick_lock:
        if tick <= _last_tick:
            tick = _last_tick + 1
        _last_tick = tick
    return tick
