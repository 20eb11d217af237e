"""Changes of settings, each in one transaction with the log entry that tells of it.

with change(database, tenant.log) as changing:
    changing.tx.execute(…)
    changing.tell(Kind.SOURCE, {"action": "disabled", "by": "command", "id": source_id})
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from receiver.events import Kind, format_time, new_id
from translog.canonical import Value
from translog.evidence import Leaf
from translog.log import Log
from translog.store import Head, Transactions


@dataclass(slots=True)
class Changing:
    """A change under way: its transaction, the log's locked head, its time, and the leaves to append at its end."""

    tx: sa.Connection
    head: Head
    now: str
    leaves: list[Leaf] = field(default_factory=list[Leaf])

    def tell(self, kind: Kind, facts: Mapping[str, Value], entry_id: str | None = None) -> int:
        """Add a leaf without commitments to what this change logs; its index. `facts` are public for ever.

        So there is nothing personal in them. Its id is a new one, unless it has to be one that is named elsewhere.
        """
        self.leaves.append(Leaf(kind, entry_id or new_id(), self.now, dict(facts), None, None))
        return self.head.size + len(self.leaves) - 1


def logging_time(head: Head, received_at: str = "") -> str:
    """The time to log an entry at: now, or the last entry's if the clock stands behind it, so that it never falls.

    Nor is anything logged before it was received: `received_at` is the latest time at which something of this entry
    was, if it was received.
    """
    # What was received has waited for seconds, and its time is what this clock read then. So a clock that is wrong
    # pushes the log's time no further by it than by `now`; only one that was set back in between makes a difference.
    return max(format_time(datetime.now(UTC)), head.logged_at, received_at)


@contextmanager
def change(transactions: Transactions, log: Log) -> Generator[Changing]:
    """One write transaction under the log's lock; what was told is appended when the block is left normally."""
    with transactions.write() as tx:
        head = log.lock(tx)
        changing = Changing(tx, head, logging_time(head))
        yield changing
        if changing.leaves:
            head = log.append(tx, [leaf.encode() for leaf in changing.leaves], changing.now).head
    log.confirm(head)
