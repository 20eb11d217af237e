"""The issuers of the sandbox: one module for each provider, found by the provider's name.

A module `receiver.sandbox.<provider>` defines `ISSUER`. Its routes are on the documented paths of the provider; they
read and change the provider's things through the `Ledger` that is in the application's state:

    ledger: Ledger = request.app.state.ledger
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from litestar.types import ControllerRouterHandler

from receiver import providers
from receiver.sandbox.ledger import Act, Step


@dataclass(frozen=True, slots=True)
class Issuer:
    """The issuing side of one provider."""

    name: str
    """The provider's."""
    routes: Sequence[ControllerRouterHandler]
    """Its documented operations, on the paths they are documented at."""
    put_fixtures: Callable[[Act], None]
    """Puts the things there that a fresh sandbox has."""
    go_on: Callable[[Act, Step], None]
    """Does what an act put off (`Act.later`): a job that is revoked in the background, say."""
    sign: Callable[[bytes, str, str, int], Mapping[str, str]]
    """The headers of a delivery: of that body, under that secret, with that id, sent at that time (Unix seconds)."""
    sends: bool
    """The provider documents a webhook for its operation. If not, what is delivered is the plain envelope."""
    receiver_options: Sequence[str] = field(default=())
    """What `receiver source add` is to be told, besides the provider, so that it takes these deliveries."""


@cache
def issuers() -> dict[str, Issuer]:
    """Every issuer there is, by its provider's name."""
    modules = (f"receiver.sandbox.{name}" for name in providers.names())
    found: list[Issuer] = [
        importlib.import_module(module).ISSUER for module in modules if importlib.util.find_spec(module) is not None
    ]
    return {issuer.name: issuer for issuer in found}
