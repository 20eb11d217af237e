"""The providers: one module each, holding everything known of it, found by being here.

A module of this package defines `PROVIDER`, a `Provider` of the module's own name; nothing else names it. It reads the
JSON of an authenticated delivery, and has no part in authenticating, keeping or answering it: neither the web framework
nor the database is imported here.

What a provider does not document is not known here either. Where only a guess could be made (how a signature is
computed, say), the source's configuration has to tell.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Literal, TypeAlias

from msgspec import Struct

from receiver.events import Breach, Event, Past, Via
from receiver.strictjson import Json

MAX_ID = 256
"""Characters of an id or an account."""

MAX_TYPE = 128
"""Characters of an event's type, which stands in the log's entry itself."""


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
class Provider:
    """A provider, as the rest of the receiver sees it."""

    name: str
    """The module's, and the one in settings and records."""
    title: str
    """For people."""
    account_name: str
    """What the provider calls its customer: the member that `Event.account` is taken from."""
    documented_scheme: str | None
    """The signature scheme its deliveries come with; None where the documents leave it open."""
    key_names_item: bool
    """A notice's delivery key determines its item: two notices about different items never share a key."""
    read: Callable[[dict[str, Json]], Reading]
    """Reads a parsed delivery; never raises."""
    check: Callable[[Event, datetime, int, Sequence[Past]], tuple[Breach, ...]]
    """The rules that an event breaks, given when it was received, the source's replay window in seconds, and the
    earlier events of its item, oldest first."""


class WrongShape(ValueError):  # noqa: N818 (it is the name of what a document has)
    """A member is not as documented; the message names it. For use within a provider's module."""


def text(document: dict[str, Json], name: str, limit: int = MAX_ID) -> str:
    """The member `name`: a string of 1 to `limit` characters. Raises `WrongShape` for anything else."""
    value = document.get(name)
    if type(value) is not str:
        raise WrongShape(f"{name} is missing" if value is None else f"{name} is not a string")
    if not 0 < len(value) <= limit:
        raise WrongShape(f"{name} has {len(value)} characters; it must have 1 to {limit}")
    return value


def optional_text(document: dict[str, Json], name: str, limit: int = MAX_ID) -> str | None:
    """As `text`, but None where the member is absent or null."""
    return None if document.get(name) is None else text(document, name, limit)


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
