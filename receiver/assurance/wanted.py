"""Whose entries of an issuer's log are kept: those of the tenants whose sources name it, by provider and account.

A log holds the acts of all that its issuer serves. What none of the tenants is concerned by is read past and nothing is
kept of it; so if more becomes wanted than was (another source names the log, or a source another account) the log has
to be read again from its beginning. What it is read for is kept with its state, as JSON, so that this is seen.

Who has begun to read a log again goes on to its end (`Reading`): what else becomes wanted meanwhile waits for that, and
is read for together then. So a source that is changed, however often, never keeps the entries of others from being
read, and puts nothing in doubt that was read for these.

A source's account is what narrows it: one that has none, or is `exclusive`, wants every entry of its provider. An entry
without an account is every account's, for it may be that one's.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

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
        return cls.of_rows(json.loads(text))

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[Any]]) -> Self:
        """What `rows` gave."""
        return cls(frozenset((tenant_id, provider, account) for tenant_id, provider, account in rows))

    def rows(self) -> list[tuple[int, str, str]]:
        """It for JSON: in one order, whatever it was made of."""
        return sorted(self.of)

    def encode(self) -> str:
        """It as JSON: the same text for the same."""
        return json.dumps(self.rows())

    def __contains__(self, one: tuple[int, str, str]) -> bool:
        return one in self.of or (*one[:2], _EVERY) in self.of

    def covers(self, other: "Wanted") -> bool:
        """Whether all that the other wants is in this."""
        return all(one in self for one in other.of)

    def common(self, other: "Wanted") -> "Wanted":
        """What both want."""
        return Wanted(frozenset(one for one in self.of | other.of if one in self and one in other))

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


@dataclass(frozen=True)
class Reading:
    """What a log is read for.

    `kept` is whose entries are kept of all that was read when the log was last complete, so that an entry of theirs
    that is not there was not in it. `now` is whose entries are kept of what is read from where the log is now. The two
    are the same, but for a log that is being read again, from when it goes back to its beginning until it is complete.
    """

    kept: Wanted
    now: Wanted

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `encode` wrote."""
        if not text.startswith("{"):
            return cls(Wanted.parse(text), Wanted.parse(text))
        found = json.loads(text)
        return cls(Wanted.of_rows(found["kept"]), Wanted.of_rows(found["now"]))

    def encode(self) -> str:
        """It as JSON, the same text for the same: a list as `Wanted` has it, or two where they differ."""
        return json.dumps({"kept": self.kept.rows(), "now": self.now.rows()}) if self.is_again else self.now.encode()

    @property
    def is_again(self) -> bool:
        """Whether the log is being read again, or for the first time."""
        return self.kept != self.now

    def settle(self, wanted: Wanted) -> "Reading":
        """What a log is to be read for that is read for this, if that is wanted; if `is_again`, from its beginning.

        Nothing else than before, as long as it is being read again: not less either, for whoever reads it would have to
        begin anew with what is not noted yet.
        """
        return self if self.is_again else Reading(self.now.common(wanted), wanted)

    def end(self) -> "Reading":
        """What it is read for once it is complete."""
        return Reading(self.now, self.now)
