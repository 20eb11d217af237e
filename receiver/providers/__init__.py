"""The providers: one module each, holding everything known of it, found by being here.

A module of this package defines `PROVIDER`, a `Provider` of the module's own name; nothing else names it. It reads the
JSON of an authenticated delivery, and has no part in authenticating, keeping or answering it: neither the web framework
nor the database is imported here. What such a module is made of is in `receiver.documents`.

What a provider does not document is not known here either. Where only a guess could be made (how a signature is
computed, say), the source's configuration has to tell.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Literal, TypeAlias

from msgspec import Struct

from receiver.documents import PersonKind, WrongShape, plain_entry
from receiver.events import Breach, Claim, Event, Item, Past, Via, format_time
from receiver.strictjson import Json


class Notice(Struct, frozen=True):
    """A delivery that is a notice worth keeping."""

    event: Event
    key: str
    """What makes two deliveries the same notice, without a NUL."""
    digest: bytes
    """32 bytes: what makes the content of two deliveries the same."""
    via: Via


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery of a documented type that bears on nothing we keep."""

    type: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """A delivery that is not as the provider documents it: quarantined, never dropped."""

    reason: Literal["wrong_shape", "unknown_type"]
    message: str
    """Names the member at fault."""


Reading: TypeAlias = Notice | Ignored | Unfit


@dataclass(frozen=True, slots=True)
class Signing:
    """How the provider's deliveries are authenticated, as far as it documents that."""

    said: str
    """What is documented, and what is not: a sentence for whoever has to choose a scheme."""
    scheme: str | None = None
    """The scheme (`receiver.intake.schemes`) that follows from it; None where the source has to say."""
    options: Mapping[str, str | bool] = field(default_factory=dict[str, str | bool])
    """The scheme's options."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a provider's operation that succeeded: its path's parameters, the JSON it sent, and the answer's."""

    path: Mapping[str, str]
    request: dict[str, Json]
    """Empty where none was sent."""
    answer: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The provider's own record, asked for what became of a call."""

    path: Mapping[str, str]
    """The parameters of the call's path."""
    request: dict[str, Json]
    """The JSON it sent; empty where none was sent."""
    called_at: datetime
    """When it was made, by our clock, in UTC."""
    record: dict[str, Json]
    """The JSON that the provider answered with, 200, at the lookup's target."""
    known: frozenset[str]
    """Acts on the item that cannot be this call's, as `Event.operation` names them, in the case of `one_case`: told of
    before the call was made, or by the answer to another call."""


@dataclass(frozen=True, slots=True)
class NotDone:
    """By the provider's own record, as it was when it was read, the call had no effect."""

    message: str
    """What the record says instead: a clause, without any member that could name a person."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """The provider's documented GET that shows what became of an operation."""

    target: Callable[[Mapping[str, str], dict[str, Json]], str]
    """Path and query for a call's path parameters, all of them, and the JSON it sent; percent-encoded."""
    read: Callable[[Inquiry], Notice | NotDone | Unfit]
    """What a record says of the call; never raises.

    A `Notice` (via `Via.POLL`) is of what was done to the item. Few records name the call that did it, so it may have
    been another one; but where the record shows only acts that cannot be the call's, by `Inquiry.known` or by their
    time, that is `NotDone`. `Unfit` where the record is another item's, is not as documented, or does not tell: the
    call's outcome is then as unknown as before.
    """
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """To send besides the credential."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The provider's documented operation that takes an item back: what may be passed on, and what its answer says."""

    title: str
    method: str
    path: str
    """With a name in braces for each parameter: `/v1/receipts/{id}/revoke`."""
    successes: frozenset[int]
    """The statuses of answers that say it was done, or begun."""
    credentials: tuple[str, ...]
    """Headers, in lower case, that carry the caller's credentials, and so are never kept."""
    item: Callable[[Mapping[str, str], dict[str, Json]], Item | None]
    """What a call is about, by its path's parameters and the JSON it sent: the item of its event. None if they do not
    say; never raises."""
    read: Callable[[Call], Notice | Unfit]
    """The event that a successful call is; never raises. An answer about another item than the call's is `Unfit`."""
    idempotency_header: str | None = None
    """Header with a UUID, of which a second call does nothing a first one did not."""
    idempotency_member: str | None = None
    """The same as a member of the request's JSON."""
    lookup: Lookup | None = None
    """None where no documented GET shows what became of a call."""

    @property
    def name(self) -> str:
        """`POST /v1/receipts/{id}/revoke`: what records and logs call it."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Denied:
    """The provider's own record says otherwise, as it was when it was read: the act is not in it."""

    message: str
    """What it says instead: a clause, without any member that could name a person."""


@dataclass(frozen=True, slots=True)
class Record:
    """The provider's documented GET that shows an item as it is, to check an event against."""

    target: Callable[[Claim], str | None]
    """Path and query for the act that an event tells of, percent-encoded; None where it is on no such item."""
    read: Callable[[Claim, dict[str, Json]], Claim | Denied | Unfit]
    """What the record, answered 200, says of that act; never raises.

    A `Claim` is of the same act: what it leaves None the record does not say. `Unfit` where the record is another
    item's, is not as documented, or does not tell.
    """
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """To send besides the credential."""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """What a provider's proof bundle says of its log, in hashes of 32 bytes: that `leaf_hash` is at `index`."""

    log: str
    """The log's name, as the provider gives it."""
    index: int
    leaf_hash: bytes
    hashes: tuple[bytes, ...]
    """From the leaf's sibling upwards (RFC 6962 section 2.1.1)."""
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """The provider's documented GET of a proof that an item is in its log, where that log cannot be read itself."""

    target: Callable[[Claim], str | None]
    """As of a `Record`."""
    read: Callable[[Claim, dict[str, Json]], Inclusion | Unfit]
    """The proof in an answer, 200; never raises."""
    unchecked: tuple[str, ...]
    """What of it cannot be checked, since the provider does not document how: `leaf_encoding` and the like."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """To send besides the credential."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, as the rest of the receiver sees it."""

    name: str
    """The module's, and the one in settings and records."""
    title: str
    """For people."""
    account_name: str
    """What the provider calls its customer: the member that `Event.account` is taken from."""
    signing: Signing
    key_names_item: bool
    """A notice's delivery key determines its item: two notices about different items never share a key."""
    read: Callable[[dict[str, Json]], Reading]
    """Reads a parsed delivery; never raises."""
    check: Callable[[Event, datetime, int, Sequence[Past]], tuple[Breach, ...]]
    """The rules that an event breaks, given when it was received, the source's replay window in seconds, and the
    other events of its item so far, in the log's order."""
    operation: Operation
    entry: Callable[[bytes], Claim | Unfit | None]
    """The act that an entry of an issuer's log tells of; None if it is of another provider, or no act that takes
    something back; `Unfit` if it is one of this provider's that cannot be read. Never raises."""
    record: Record | None = None
    """None where no documented GET shows an item as it is."""
    bundle: Bundle | None = None
    one_act: frozenset[str] = frozenset()
    """Types of items that one act is told of by, now one and now another, by the same operation: an entry about the one
    may stand for an event about the other. Of all other types, items of two types are never one act's."""
    complete: Callable[[Event, Sequence[Past]], Event] | None = None
    """Adds to an event what only the earlier events of its item can tell, before it is checked and recorded."""
    unit: str | None = None
    """The member of the details that says what amounts are counted in: those of different units are never added."""
    persons: Mapping[str, Sequence[PersonKind]] = field(default_factory=dict[str, Sequence[PersonKind]])
    """The members that name people, as far as it documents any, with the kinds of identifier that each may be: in
    deliveries, in requests and answers, in its records, and among the parameters of the operation's path. As
    `receiver.documents.persons_in` takes them."""


def occurred_in_future(event: Event, received_at: datetime, replay_window: int) -> list[Breach]:
    """The breach of an event that occurred later than its delivery came, by more than the replay window (seconds)."""
    at = event.occurred_at
    if at is None or at - received_at <= timedelta(seconds=replay_window):
        return []
    told = f"{event.occurred_from} is {format_time(at)}, later than the delivery by more than the replay window"
    return [Breach("occurred_in_future", told)]


def read_plain_entry(provider: str, data: bytes) -> Claim | Unfit | None:
    """`Provider.entry` of a provider that documents no entry of its log: the plain entry is what is read."""
    try:
        return plain_entry(provider, data)
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))


def names() -> list[str]:
    """The names of all providers, sorted."""
    return sorted(_providers())


def get(name: str) -> Provider:
    """The provider of that name. Raises ValueError, naming those there are, where there is none."""
    provider = _providers().get(name)
    if provider is None:
        raise ValueError(f"there is no provider {name!r}; known: {', '.join(names())}")
    return provider


@cache
def _providers() -> dict[str, Provider]:
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found: list[Provider] = [module.PROVIDER for module in modules]
    return {provider.name: provider for provider in found}
