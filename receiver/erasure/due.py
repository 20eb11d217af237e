"""What is due to be erased, in the background of the service.

    requests     that a crash, or the end of their turn, has left half done
    held ones    once a hold is released that they waited for
    retention    what is too old: once at the start, and every hour

Each is done in changes that are whole by themselves, so a service that is stopped or killed goes on where it was; and
several receivers that do so at once find less to do.
"""

import threading
import time

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from receiver.erasure import aging
from receiver.erasure.requests import resume, run_held
from receiver.records.keeping import holds
from receiver.records.opening import Records, Tenant
from translog.errors import StoreError

AGING_EVERY = 3600.0
"""Seconds from one look for what is too old to the next."""


class Due:
    """What is due of all tenants. `turn` does it, in a thread; `stop` has it end early."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._stopping = threading.Event()
        self._released: dict[int, int] = {}  # by tenant: how many holds were, when what is held was tried last
        self._aging_at: dict[int, float] = {}  # by tenant: when it is looked for what is too old
        self._has_erased = False

    def turn(self) -> None:
        """Do what is due now. If that fails for a tenant, the others' is done, and the first failure is raised then.

        What has failed is due again with the next turn.
        """
        failures: list[Exception] = []
        for tenant in self._records.tenants:
            try:
                self._turn_of(tenant)
            except (SQLAlchemyError, StoreError, OSError) as error:
                failures.append(error)
                self._has_erased = True  # some of it may be
        if self._has_erased:
            self._has_erased = not self._records.database.truncate_wal()
        if failures:
            raise failures[0]

    def stop(self) -> None:
        """Have a turn that is under way end early. What is left is due when the service starts again."""
        self._stopping.set()

    def _turn_of(self, tenant: Tenant) -> None:
        resume(self._records, tenant, self._stopping.is_set)
        self._run_held(tenant)
        if time.monotonic() >= self._aging_at.get(tenant.id, 0.0):
            aged = aging.run(self._records, tenant, self._stopping.is_set)
            self._has_erased |= any(one.erased for one in aged)
            self._aging_at[tenant.id] = time.monotonic() + AGING_EVERY

    def _run_held(self, tenant: Tenant) -> None:
        """Try what is held if a hold was released since it was tried last: to find that it still is takes a while."""
        with self._records.database.read() as tx:
            mine = holds.c.tenant_id == tenant.id, holds.c.released_at.is_not(None)
            released: int = tx.execute(sa.select(sa.func.count()).where(*mine)).scalar_one()
        if self._released.get(tenant.id) != released:
            run_held(self._records, tenant, self._stopping.is_set)
            self._released[tenant.id] = released
