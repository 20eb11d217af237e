"""What the entries tell of tenants, sources, API keys and subscriptions, and the rows that these have.

What they tell of holds and retention is compared in `receiver.fsck.holds`, what of exports in `receiver.fsck.exports`.

A change of settings and the entry that tells of it are one transaction. So whatever has a row was told of, whatever was
told of has a row, but for a subscription that was said to be removed; a key that was said to be revoked must be, and a
source or a subscription be disabled or not, and a source have a credential or none, and be silent or not, as was said
last. What a row says beyond that (a name, a scheme, scopes, a URL) stands in no entry and is not checked; what is
sealed must open with the data key.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from receiver.erasure.retention import CLEARED as RETENTION_CLEARED
from receiver.erasure.retention import SET as RETENTION_SET
from receiver.events import Kind
from receiver.fsck.report import Notes
from receiver.records.credentials import REMOVED, SET
from receiver.records.opening import Records
from receiver.records.tables import api_keys, credentials, secrets, sources, subscriptions, tenants
from receiver.records.vault import VaultError
from translog.canonical import Value
from translog.evidence import Leaf

_TOLD = frozenset({Kind.TENANT, Kind.SOURCE, Kind.KEY})
_ENABLED = {"enabled": True, "disabled": False}
_CREDENTIAL = {SET: True, REMOVED: False}
_SUBSCRIPTION = {
    "subscription_added": True,
    "subscription_enabled": True,
    "subscription_disabled": False,
    "subscription_removed": None,
}
_RETENTION = frozenset({RETENTION_SET, RETENTION_CLEARED})


@dataclass(slots=True)
class ToldHold:
    """What entries tell of a hold: of either the entry's id, who did it, and when."""

    placed: tuple[str, str, str] | None = None
    released: tuple[str, str, str] | None = None


class Told:
    """What was told by the logs of each tenant, as they go by: `hear` takes their leaves in order."""

    def __init__(self) -> None:
        self._actions: dict[tuple[int | None, str], dict[str, set[str]]] = defaultdict(dict)
        self._enabled: dict[tuple[int | None, str], bool] = {}
        self._credential: dict[tuple[int | None, str], bool] = {}
        self._silent: dict[tuple[int | None, str], str] = {}
        self._subscriptions: dict[int | None, dict[str, bool | None]] = defaultdict(dict)
        self._holds: dict[int | None, dict[str, ToldHold]] = defaultdict(dict)
        self._retention: dict[int | None, dict[str, tuple[Value, str]]] = defaultdict(dict)
        self._exports: dict[int | None, set[str]] = defaultdict(set)
        self._announced: dict[int | None, set[str]] = defaultdict(set)
        self.incomplete: set[int | None] = set()
        """Tenants of whose entries one cannot be read: nobody can say what it told."""

    def hear(self, tenant_id: int | None, leaf: Leaf) -> None:
        """Note what a leaf tells, if it is of these kinds."""
        match leaf.facts:
            case _ if leaf.kind == Kind.EXPORT:
                self._exports[tenant_id].add(leaf.id)
            case {"action": "announced"} if leaf.kind == Kind.KEY:  # of no API key
                self._announced[tenant_id].add(leaf.id)
            case {"id": str(subject), "action": str(action)} if leaf.kind in _TOLD:
                self._actions[tenant_id, leaf.kind].setdefault(subject, set()).add(action)
                if leaf.kind == Kind.SOURCE and action in _ENABLED:
                    self._enabled[tenant_id, subject] = _ENABLED[action]
                if leaf.kind == Kind.SOURCE and action in _CREDENTIAL:
                    self._credential[tenant_id, subject] = _CREDENTIAL[action]
                subscription = leaf.facts.get("subscription")
                if leaf.kind == Kind.TENANT and isinstance(subscription, str) and action in _SUBSCRIPTION:
                    self._subscriptions[tenant_id][subscription] = _SUBSCRIPTION[action]
                provider = leaf.facts.get("provider")
                if leaf.kind == Kind.TENANT and isinstance(provider, str) and action in _RETENTION:
                    self._retention[tenant_id][provider] = (leaf.facts.get("days"), leaf.logged_at)
            case {"source": str(source), "state": "began", "since": str(since)} if leaf.kind == Kind.SILENCE:
                self._silent[tenant_id, source] = since
            case {"source": str(source), "state": "ended"} if leaf.kind == Kind.SILENCE:
                self._silent.pop((tenant_id, source), None)
            case {"hold": str(hold), "by": str(by)} if leaf.kind in {Kind.HOLD, Kind.RELEASE}:
                told = self._holds[tenant_id].setdefault(hold, ToldHold())
                if leaf.kind == Kind.HOLD:
                    told.placed = (leaf.id, by, leaf.logged_at)
                else:
                    told.released = (leaf.id, by, leaf.logged_at)
            case _:
                pass

    def lose(self, tenant_id: int | None) -> None:
        """Note that an entry of that tenant cannot be read."""
        self.incomplete.add(tenant_id)

    def of(self, tenant_id: int, kind: Kind) -> dict[str, set[str]]:
        """All that was told of these, by id: what was done."""
        return self._actions.get((tenant_id, kind), {})

    def is_enabled(self, tenant_id: int, source_id: str) -> bool:
        """Whether that source takes deliveries, by what was told of it last."""
        return self._enabled.get((tenant_id, source_id), True)

    def has_credential(self, tenant_id: int, source_id: str) -> bool:
        """Whether that source has a credential, by what was told of it last."""
        return self._credential.get((tenant_id, source_id), False)

    def silent_since(self, tenant_id: int, source_id: str) -> str | None:
        """Since when that source is silent, by what was told of it last; None if it is not."""
        return self._silent.get((tenant_id, source_id))

    def subscriptions(self, tenant_id: int) -> dict[str, bool]:
        """The subscriptions that are there by what was told, and whether each is enabled by what was told last."""
        told = self._subscriptions.get(tenant_id, {})
        return {its_id: enabled for its_id, enabled in told.items() if enabled is not None}

    def holds(self, tenant_id: int) -> Mapping[str, "ToldHold"]:
        """The holds that were told of, by id."""
        return self._holds.get(tenant_id, {})

    def retention(self, tenant_id: int) -> dict[str, tuple[Value, str]]:
        """For how many days bodies are kept, by provider, and since when that is so, by what was told last."""
        told = self._retention.get(tenant_id, {})
        return {provider: (days, at) for provider, (days, at) in told.items() if days is not None}

    def exports(self, tenant_id: int) -> frozenset[str]:
        """The ids of the entries that ask for exports."""
        return frozenset(self._exports.get(tenant_id, ()))

    def announced(self, tenant_id: int) -> frozenset[str]:
        """The ids of the entries that announce a key which exports are signed with."""
        return frozenset(self._announced.get(tenant_id, ()))


def check_told(tx: sa.Connection, told: Told, notes: Notes) -> None:
    """Compare what was told with the rows, both ways."""
    for tenant in tx.execute(sa.select(tenants.c.id, tenants.c.name).order_by(tenants.c.id)):
        if tenant.id in told.incomplete:
            continue  # what is wrong with its entries is said already
        _compare(Kind.TENANT, told.of(tenant.id, Kind.TENANT), [tenant.name], notes)
        has_credential = credentials.c.source_id.is_not(None).label("has_credential")
        columns = (sources.c.id, sources.c.enabled, sources.c.silent_since, has_credential)
        every = sa.select(*columns).join_from(sources, credentials, isouter=True)
        mine = {row.id: row for row in tx.execute(every.where(sources.c.tenant_id == tenant.id))}
        of_sources = told.of(tenant.id, Kind.SOURCE)
        _compare(Kind.SOURCE, of_sources, mine, notes)
        for source_id in sorted(mine.keys() & of_sources.keys()):
            row = mine[source_id]
            if row.enabled != told.is_enabled(tenant.id, source_id):
                state = "is enabled" if row.enabled else "is disabled"
                notes.fault(f"source {source_id}", f"{state}, and the entries say otherwise")
            if row.has_credential != told.has_credential(tenant.id, source_id):
                state = "has a credential" if row.has_credential else "has no credential"
                notes.fault(f"source {source_id}", f"{state}, and the entries say otherwise")
            if row.silent_since != told.silent_since(tenant.id, source_id):
                state = "is not silent" if row.silent_since is None else f"is silent since {row.silent_since!a}"
                notes.fault(f"source {source_id}", f"{state}, and the entries say otherwise")
        keys = sa.select(api_keys.c.id, api_keys.c.revoked_at).where(api_keys.c.tenant_id == tenant.id)
        revoked = {row.id: row.revoked_at is not None for row in tx.execute(keys)}
        of_keys = told.of(tenant.id, Kind.KEY)
        _compare(Kind.KEY, of_keys, revoked, notes)
        for key_id in sorted(revoked.keys() & of_keys.keys()):
            if revoked[key_id] != ("revoked" in of_keys[key_id]):
                problem = "is revoked, and no entry tells of that" if revoked[key_id] else "is not revoked, as was told"
                notes.fault(f"key {key_id}", problem)
        _compare_subscriptions(tx, tenant.id, told.subscriptions(tenant.id), notes)


def _compare_subscriptions(tx: sa.Connection, tenant_id: int, told: dict[str, bool], notes: Notes) -> None:
    columns = sa.select(subscriptions.c.id, subscriptions.c.enabled)
    mine = {row.id: row.enabled for row in tx.execute(columns.where(subscriptions.c.tenant_id == tenant_id))}
    _compare("subscription", told, mine, notes)
    for its_id in sorted(mine.keys() & told.keys()):
        if mine[its_id] != told[its_id]:
            state = "is enabled" if mine[its_id] else "is disabled"
            notes.fault(f"subscription {its_id}", f"{state}, and the entries say otherwise")


def _compare(kind: str, told: Iterable[str], there: Iterable[str], notes: Notes) -> None:
    rows, named = set(there), set(told)
    for subject in sorted(rows - named):
        notes.fault(f"{kind} {subject}", "is there, and no entry tells of it")
    for subject in sorted(named - rows):
        notes.fault(f"{kind} {subject}", "is not there, though an entry tells of it")


def check_secrets(tx: sa.Connection, records: Records, notes: Notes) -> None:
    """That every secret and every credential opens with the data key and is of a source, and subscriptions' open."""
    known = sa.select(sources.c.id)
    columns = (secrets.c.id, secrets.c.value, secrets.c.source_id, secrets.c.source_id.in_(known).label("known"))
    for row in tx.execute(sa.select(*columns).order_by(secrets.c.id)):
        if not row.known:
            notes.fault(f"secret {row.id}", f"is of the source {row.source_id}, which is not there")
        _must_open(records, f"secret/{row.id}", bytes(row.value), f"secret {row.id}", notes)
    columns = (credentials.c.value, credentials.c.source_id, credentials.c.source_id.in_(known).label("known"))
    for row in tx.execute(sa.select(*columns).order_by(credentials.c.source_id)):
        subject = f"credential of {row.source_id}"
        if not row.known:
            notes.fault(subject, "its source is not there")
        _must_open(records, f"credential/{row.source_id}", bytes(row.value), subject, notes)
    for its_id, sealed in tx.execute(
        sa.select(subscriptions.c.id, subscriptions.c.secret).order_by(subscriptions.c.id)
    ):
        _must_open(records, f"subscription/{its_id}", bytes(sealed), f"subscription {its_id}", notes)


def _must_open(records: Records, place: str, sealed: bytes, subject: str, notes: Notes) -> None:
    try:
        records.vault.open(place, sealed)
    except VaultError as error:
        notes.fault(subject, str(error))
