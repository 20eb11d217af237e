"""What the entries tell of tenants, sources and API keys, and the rows that these have.

A change of settings and the entry that tells of it are one transaction. So whatever has a row was told of, whatever was
told of has a row; a key that was said to be revoked must be, and a source be disabled or not, and have a credential or
none, as was said last. What a row says beyond that (a name, a scheme, scopes) stands in no entry and is not checked;
what is sealed must open with the data key.
"""

from collections import defaultdict
from collections.abc import Iterable

import sqlalchemy as sa

from receiver.events import Kind
from receiver.fsck.report import Notes
from receiver.records.credentials import REMOVED, SET
from receiver.records.opening import Records
from receiver.records.tables import api_keys, credentials, secrets, sources, tenants
from receiver.records.vault import VaultError
from translog.evidence import Leaf

_TOLD = frozenset({Kind.TENANT, Kind.SOURCE, Kind.KEY})
_ENABLED = {"enabled": True, "disabled": False}
_CREDENTIAL = {SET: True, REMOVED: False}


class Told:
    """What was told by the logs of each tenant, as they go by: `hear` takes their leaves in order."""

    def __init__(self) -> None:
        self._actions: dict[tuple[int | None, str], dict[str, set[str]]] = defaultdict(dict)
        self._enabled: dict[tuple[int | None, str], bool] = {}
        self._credential: dict[tuple[int | None, str], bool] = {}
        self.incomplete: set[int | None] = set()
        """Tenants of whose entries one cannot be read: nobody can say what it told."""

    def hear(self, tenant_id: int | None, leaf: Leaf) -> None:
        """Note what a leaf tells, if it is of these kinds."""
        match leaf.facts:
            case {"id": str(subject), "action": str(action)} if leaf.kind in _TOLD:
                self._actions[tenant_id, leaf.kind].setdefault(subject, set()).add(action)
                if leaf.kind == Kind.SOURCE and action in _ENABLED:
                    self._enabled[tenant_id, subject] = _ENABLED[action]
                if leaf.kind == Kind.SOURCE and action in _CREDENTIAL:
                    self._credential[tenant_id, subject] = _CREDENTIAL[action]
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


def check_told(tx: sa.Connection, told: Told, notes: Notes) -> None:
    """Compare what was told with the rows, both ways."""
    for tenant in tx.execute(sa.select(tenants.c.id, tenants.c.name).order_by(tenants.c.id)):
        if tenant.id in told.incomplete:
            continue  # what is wrong with its entries is said already
        _compare(Kind.TENANT, told.of(tenant.id, Kind.TENANT), [tenant.name], notes)
        columns = (sources.c.id, sources.c.enabled, credentials.c.source_id.is_not(None).label("has_credential"))
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
        keys = sa.select(api_keys.c.id, api_keys.c.revoked_at).where(api_keys.c.tenant_id == tenant.id)
        revoked = {row.id: row.revoked_at is not None for row in tx.execute(keys)}
        of_keys = told.of(tenant.id, Kind.KEY)
        _compare(Kind.KEY, of_keys, revoked, notes)
        for key_id in sorted(revoked.keys() & of_keys.keys()):
            if revoked[key_id] != ("revoked" in of_keys[key_id]):
                problem = "is revoked, and no entry tells of that" if revoked[key_id] else "is not revoked, as was told"
                notes.fault(f"key {key_id}", problem)


def _compare(kind: Kind, told: dict[str, set[str]], there: Iterable[str], notes: Notes) -> None:
    rows = set(there)
    for subject in sorted(rows - told.keys()):
        notes.fault(f"{kind} {subject}", "is there, and no entry tells of it")
    for subject in sorted(told.keys() - rows):
        notes.fault(f"{kind} {subject}", "is not there, though an entry tells of it")


def check_secrets(tx: sa.Connection, records: Records, notes: Notes) -> None:
    """That every secret and every credential opens with the data key, and is of a source."""
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


def _must_open(records: Records, place: str, sealed: bytes, subject: str, notes: Notes) -> None:
    try:
        records.vault.open(place, sealed)
    except VaultError as error:
        notes.fault(subject, str(error))
