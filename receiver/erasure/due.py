"""What is due to be erased, in the background of the service.

    answers      that wait to be recorded, of calls that are erased: once no hold may cover them
    requests     that a crash, or the end of their turn, has left half done, or that wait for an answer
    held ones    once a hold is released that they waited for
    retention    what is too old: once at the start, and every hour

Each is done in changes that are whole by themselves, so a service that is stopped or killed goes on where it was; and
several receivers that do so at once find less to do. What fails keeps nothing else from being done.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Generator

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from receiver.erasure import aging
from receiver.erasure.erasing import drop_answers
from receiver.erasure.requests import Patience, resume, run_held
from receiver.records.keeping import holds
from receiver.records.opening import Records, Tenant
from translog.errors import StoreError

AGING_EVERY = 3600.0
"""Seconds from one look for what is too old to the next."""

_log = logging.getLogger(__name__)


class Due:
    """What is due of all tenants. `turn` does it, in a thread; `stop` has it end early."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._stopping = threading.Event()
        self._released: dict[int, int] = {}  # by tenant: how many holds were, when what is held was tried last
        self._aging_at: dict[int, float] = {}  # by tenant: when it is looked for what is too old
        self._has_erased = False
        self._said: set[str] = set()  # of which calls the answers cannot be removed

    def turn(self) -> None:
        """Do what is due now. If some of it fails, all else is done, and the first failure is raised then.

        What has failed is due again with the next turn.
        """
        failures: list[Exception] = []
        with self._going_on(failures):
            self._drop_answers()
        patience, is_stopping = Patience(), self._stopping.is_set
        for tenant in self._records.tenants:
            with self._going_on(failures):
                resume(self._records, tenant, is_stopping, patience)
            with self._going_on(failures):
                self._run_held(tenant, patience)
            with self._going_on(failures):
                self._age(tenant)
        if self._has_erased:
            self._has_erased = not self._records.database.truncate_wal()
        if failures:
            raise failures[0]

    def stop(self) -> None:
        """Have a turn that is under way end early. What is left is due when the service starts again."""
        self._stopping.set()

    @contextlib.contextmanager
    def _going_on(self, failures: list[Exception]) -> Generator[None]:
        """Note what fails, and go on with what comes next."""
        try:
            yield
        except (SQLAlchemyError, StoreError, OSError) as error:
            failures.append(error)
            self._has_erased = True  # some of it may be

    def _drop_answers(self) -> None:
        """Forget what is erased; of a file that cannot be removed it is said once, however often it is tried."""
        failed = drop_answers(self._records)
        for call in failed.keys() - self._said:
            _log.error("the answer to the erased call %s cannot be removed: %s", call, failed[call])
        self._said = set(failed)

    def _age(self, tenant: Tenant) -> None:
        if time.monotonic() >= self._aging_at.get(tenant.id, 0.0):
            aged = aging.run(self._records, tenant, self._stopping.is_set)
            self._has_erased |= any(one.erased for one in aged)
            self._aging_at[tenant.id] = time.monotonic() + AGING_EVERY

    def _run_held(self, tenant: Tenant, patience: Patience) -> None:
        """Try what is held if a hold was released since it was tried last: to find that it still is takes a while."""
        with self._records.database.read() as tx:
            mine = holds.c.tenant_id == tenant.id, holds.c.released_at.is_not(None)
            released: int = tx.execute(sa.select(sa.func.count()).where(*mine)).scalar_one()
        if self._released.get(tenant.id) != released:
            run_held(self._records, tenant, self._stopping.is_set, patience)
            self._released[tenant.id] = released
