"""How long what a provider sent is kept: a number of days for each provider of a tenant, or for ever.

    set_days(records, tenant, provider, 90)      from now on, and what is there as well
    clear(records, tenant, provider)             what is there now stays

What is older is erased in the background (`receiver.erasure.aging`): the bodies of deliveries with their headers, so
that what was read out of them, and its proof, stays. Every change of it is an entry of the log, in one transaction with
its row, for it says what is lost later.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.events import Kind
from receiver.records.journal import change
from receiver.records.keeping import retention
from receiver.records.opening import Records, RecordsError, Tenant

SET, CLEARED = "retention_set", "retention_cleared"
"""The actions that entries of kind `tenant` tell of."""

MAX_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Rule:
    """For how many days what a provider sent is kept, from when it was received."""

    provider: str
    days: int
    set_at: str


def set_days(records: Records, tenant: Tenant, provider: str, days: int, by: str = "command") -> Rule:
    """Keep what that provider sent for so many days, from 1 on, and log that; nothing is done if it is so already.

    Raises RecordsError for a provider that is not known, and for a number that is out of range.
    """
    if provider not in providers.names():
        raise RecordsError(f"{provider[:64]!a} is no provider; there are {', '.join(providers.names())}")
    if not 1 <= days <= MAX_DAYS:
        raise RecordsError(f"the number of days must be from 1 to {MAX_DAYS}")
    with change(records.database, tenant.log) as changing:
        row = changing.tx.execute(sa.select(retention).where(*_of(tenant, provider))).one_or_none()
        if row is not None and row.days == days:
            return _rule(row)
        changing.tx.execute(sa.delete(retention).where(*_of(tenant, provider)))
        changing.tx.execute(
            sa.insert(retention).values(tenant_id=tenant.id, provider=provider, days=days, set_at=changing.now)
        )
        facts = {"action": SET, "by": by, "days": days, "id": tenant.name, "provider": provider}
        changing.tell(Kind.TENANT, facts)
        return Rule(provider, days, changing.now)


def clear(records: Records, tenant: Tenant, provider: str, by: str = "command") -> None:
    """Keep what that provider sent for ever, and log that. Raises RecordsError if that is so already."""
    with change(records.database, tenant.log) as changing:
        if changing.tx.execute(sa.delete(retention).where(*_of(tenant, provider))).rowcount == 0:
            raise RecordsError(f"tenant {tenant.name} keeps what {provider[:64]!a} sent for ever already")
        facts = {"action": CLEARED, "by": by, "days": None, "id": tenant.name, "provider": provider}
        changing.tell(Kind.TENANT, facts)


def rules(records: Records, tenant: Tenant) -> list[Rule]:
    """What is not kept for ever, by provider."""
    mine = sa.select(retention).where(retention.c.tenant_id == tenant.id).order_by(retention.c.provider)
    with records.database.read() as tx:
        return [_rule(row) for row in tx.execute(mine)]


def _of(tenant: Tenant, provider: str) -> tuple[sa.ColumnElement[bool], ...]:
    return retention.c.tenant_id == tenant.id, retention.c.provider == provider


def _rule(row: sa.Row[Any]) -> Rule:
    return Rule(row.provider, row.days, row.set_at)
