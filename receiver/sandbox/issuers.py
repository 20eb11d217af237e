"""The issuers of the sandbox: one module for each provider, found by the provider's name.

A module `receiver.sandbox.<provider>` defines `ISSUER`. Its routes are on the documented paths of the provider; they
read and change the provider's things through the `Ledger` that is in the application's state:

    ledger: Ledger = request.app.state.ledger
"""

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from litestar.types import ControllerRouterHandler

from receiver import providers
from receiver.events import Effect, Item, Via
from receiver.sandbox.ledger import Act, Step


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a call that none of an issuer's operations looked at, or could finish."""

    status: int
    code: str
    """A word for it: `not_found`, `method_not_allowed`, `too_large`, `invalid_request` or `internal_error`."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A call of the documented operation, to be played on a fresh sandbox, and what a receiver makes of it."""

    title: str
    """What is done, in a few words: `revoke a receipt`."""
    item: Item
    """What it is done to."""
    path: str
    headers: Mapping[str, str]
    """The documented ones, with the sandbox's credentials."""
    members: Mapping[str, Any] | None = None
    """Of the JSON that is sent; None if nothing is."""
    status: int
    """Of the answer."""
    told: Sequence[tuple[Via, Effect]]
    """The events that a receiver has of it in the end, how each comes and what it says: the call's own first, by
    `Via.RELAY`, if the call passes through the receiver."""
    state: str
    """What a receiver says of the item in the end, if it checks that against the log."""

    @property
    def relayed(self) -> bool:
        """Whether the call passes through the receiver; else the issuer is called directly."""
        return any(via is Via.RELAY for via, _ in self.told)

    @property
    def body(self) -> bytes:
        """What is sent."""
        return b"" if self.members is None else json.dumps(self.members).encode()


@dataclass(frozen=True, slots=True)
class Issuer:
    """The issuing side of one provider."""

    name: str
    """The provider's."""
    routes: Sequence[ControllerRouterHandler]
    """Its documented operations, on the paths they are documented at."""
    base: str
    """What all of these paths begin with."""
    error: Callable[[Fault], Mapping[str, Any]]
    """The body that a fault under that path is answered with: in the shape that the provider gives its errors."""
    put_fixtures: Callable[[Act], None]
    """Puts the things there that a fresh sandbox has."""
    go_on: Callable[[Act, Step], None]
    """Does what an act put off (`Act.later`): a job that is revoked in the background, say."""
    sign: Callable[[bytes, str, str, int], Mapping[str, str]]
    """The headers of a delivery: of that body, under that secret, with that id, sent at that time (Unix seconds)."""
    sends: bool
    """The provider documents a webhook for its operation. If not, what is delivered is the plain envelope."""
    account: str
    """Whose things these are, as the log names it: the provider's one customer."""
    receiver_options: Sequence[str] = field(default=())
    """What `receiver source add` is to be told, besides the provider, so that it takes these deliveries."""
    scenes: Sequence[Scene] = field(default=())
    """What `receiver demo` plays, each on what the ones before it left."""
    untold: Scene | None = None
    """One whose notice it has withheld, so that a receiver hears nothing of it."""
    spare: Scene | None = None
    """One that it leaves to whoever watches."""


@cache
def issuers() -> dict[str, Issuer]:
    """Every issuer there is, by its provider's name."""
    modules = (f"receiver.sandbox.{name}" for name in providers.names())
    found: list[Issuer] = [
        importlib.import_module(module).ISSUER for module in modules if importlib.util.find_spec(module) is not None
    ]
    return {issuer.name: issuer for issuer in found}
