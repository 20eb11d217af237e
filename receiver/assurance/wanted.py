"""Whose entries of an issuer's log are kept: those of the tenants whose sources name it, by provider and account.

A log holds the acts of all that its issuer serves. What none of the tenants is concerned by is read past and nothing is
kept of it; so if more becomes wanted than was (another source names the log, or a source another account) the log has
to be read again from its beginning. What is wanted is kept with the log's state, as JSON, so that this is seen.

A source's account is what narrows it: one that has none, or is `exclusive`, wants every entry of its provider. An entry
without an account is every account's, for it may be that one's.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from receiver import providers
from receiver.documents import one_case
from receiver.events import Claim
from receiver.providers import Unfit
from receiver.records.issuer_logs import Naming

_EVERY = "*"
"""In place of an account: whatever it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that is to be kept, what it says, and for which tenants (their ids)."""

    index: int
    entry: bytes
    provider: str
    claim: Claim
    tenants: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry of a wanted provider that cannot be read, and why."""

    index: int
    why: str


@dataclass(frozen=True)
class Wanted:
    """Tenants (by id), providers, accounts. Nothing is in it twice: where all of a provider is, no account of it is."""

    of: frozenset[tuple[int, str, str]]

    @classmethod
    def by(cls, namings: Iterable[Naming]) -> Self:
        """What these sources want."""
        every = {(one.tenant_id, one.provider) for one in namings if one.exclusive or one.account is None}
        one_by_one = {
            (one.tenant_id, one.provider, one_case(one.account))
            for one in namings
            if one.account is not None and (one.tenant_id, one.provider) not in every
        }
        return cls(frozenset(one_by_one | {(tenant_id, provider, _EVERY) for tenant_id, provider in every}))

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `encode` wrote."""
        return cls(frozenset((tenant_id, provider, account) for tenant_id, provider, account in json.loads(text)))

    def encode(self) -> str:
        """It as JSON: the same text for the same."""
        return json.dumps(sorted(self.of))

    def covers(self, other: "Wanted") -> bool:
        """Whether all that the other wants is in this."""
        return all(one in self.of or (*one[:2], _EVERY) in self.of for one in other.of)

    def read(self, start: int, entries: Sequence[bytes]) -> tuple[list[Found], list[Unreadable]]:
        """What is to be kept of these entries, of which the first has the index `start`; and what cannot be read."""
        found: list[Found] = []
        unreadable: list[Unreadable] = []
        for index, entry in enumerate(entries, start):
            for provider in self._providers:
                claim = provider.entry(entry)
                if isinstance(claim, Unfit):
                    unreadable.append(Unreadable(index, claim.message))
                elif claim is not None and (tenants := self._tenants(provider.name, claim.account)):
                    found.append(Found(index, entry, provider.name, claim, tenants))
                if claim is not None:
                    break  # it is of one provider at most
        return found, unreadable

    @cached_property
    def _providers(self) -> list[providers.Provider]:
        return [providers.get(name) for name in sorted({provider for _, provider, _ in self.of})]

    @cached_property
    def _tenants_by(self) -> dict[tuple[str, str | None], frozenset[int]]:
        """Of each provider and account the tenants that named it; with None, all of the provider."""
        found: dict[tuple[str, str | None], set[int]] = defaultdict(set)
        for tenant_id, provider, account in self.of:
            found[provider, account].add(tenant_id)
            found[provider, None].add(tenant_id)
        return {key: frozenset(tenants) for key, tenants in found.items()}

    def _tenants(self, provider: str, account: str | None) -> tuple[int, ...]:
        """The tenants that want an entry of that provider and account."""
        asked = (None,) if account is None else (one_case(account), _EVERY)
        found = [self._tenants_by.get((provider, one), frozenset[int]()) for one in asked]
        return tuple(sorted(frozenset[int]().union(*found)))
