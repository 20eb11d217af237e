"""What is erased while a bundle is being made, found out by the log itself.

    watch = Watch(records, tenant_id)          before the first row is read
    …
    watch.touches(job.log_id, start, end)      once the file is written: then it must be made again

An erasure is an entry of the log and names what it took, in the transaction that took it. So whatever was erased since
stands in the entries since: few to look through, whichever log of the tenant they are in. A row that was read after its
erasure had nothing to give any more, so what was read whole was whole at the beginning, and is named here if it is not
now. What is erased after this has looked finds a file, and it is for whoever erases to see to that.
"""

import sqlalchemy as sa

from receiver.events import Kind
from receiver.exports.leaves import read_facts, read_leaf
from receiver.records.opening import Records
from receiver.records.tables import deliveries, log_keys
from translog.store import entries, logs

_ERASURE = b'"kind":"erasure"'
_AT_ONCE = 1024


class Watch:
    """Looks at a tenant's logs from their sizes of now on."""

    def __init__(self, records: Records, tenant_id: int) -> None:
        self._database = records.database
        self._tenant_id = tenant_id
        self._from = self._sizes()

    def touches(self, log_id: int, start: int, end: int) -> bool:
        """Whether something of that log's entries [start, end) was erased since.

        Raises SQLAlchemy's errors for a database that fails.
        """
        erased: set[str] = set()
        for one, size in self._sizes().items():
            for first in range(self._from.get(one, 0), size, _AT_ONCE):
                erased |= self._erased(one, first, min(first + _AT_ONCE, size))
        ids = sorted(erased)
        return any(self._has(ids[at : at + _AT_ONCE], log_id, start, end) for at in range(0, len(ids), _AT_ONCE))

    def _sizes(self) -> dict[int, int]:
        query = sa.select(logs.c.id, logs.c.size).join_from(logs, log_keys, log_keys.c.log_id == logs.c.id)
        with self._database.read() as tx:
            return dict(tx.execute(query.where(log_keys.c.tenant_id == self._tenant_id)).all())

    def _erased(self, log_id: int, start: int, end: int) -> set[str]:
        columns = entries.c
        query = sa.select(columns.data).where(columns.log_id == log_id, columns.index >= start, columns.index < end)
        with self._database.read() as tx:
            found = [bytes(data) for data in tx.execute(query).scalars() if _ERASURE in bytes(data)]
        leaves = [leaf for leaf in map(read_leaf, found) if leaf.kind == Kind.ERASURE]
        return {its_id for leaf in leaves for its_id in read_facts(leaf.facts).get("ids", ())}

    def _has(self, ids: list[str], log_id: int, start: int, end: int) -> bool:
        columns = deliveries.c
        here = (columns.log_id == log_id, columns.log_index >= start, columns.log_index < end)
        with self._database.read() as tx:
            return tx.execute(sa.select(columns.id).where(columns.id.in_(ids), *here).limit(1)).first() is not None
