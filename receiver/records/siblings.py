"""Logs that are one log: the same issuer's, named by another URL, or by other keys or witnesses beside the same key.

Each of these has a row of its own in `issuer_logs`, and is followed by itself. But what a log's key signs, it signs for
all of them. So what was seen of one counts for the others: its checkpoints are to continue theirs, and evidence that it
has forked is evidence against each whose own policy says so. Nothing else makes siblings, for anybody may name a log:
a checkpoint counts only where it has the log's origin and a signature by a key that its policy has, and evidence only
where it is proven under that policy.
"""

from contextlib import suppress

import sqlalchemy as sa

from receiver.records.issuer_logs import LogIdentity
from receiver.records.tables import issuer_logs
from translog.errors import FormatError, TranslogError
from translog.follower import State
from translog.fork import Fork
from translog.policy import Policy


def shown_elsewhere(tx: sa.Connection, log_id: str, origin: str) -> set[bytes]:
    """The newest checkpoints, verbatim, that other rows have of a log with that origin: by which key, is not looked at.

    Also those that a row keeps as unproven.
    """
    rows = tx.execute(sa.select(issuer_logs.c.state).where(issuer_logs.c.id != log_id)).scalars()
    found: set[bytes | None] = set()
    for row in rows:
        if _names(row, origin):
            with suppress(FormatError):  # of no other log's concern; who follows that one will say so
                state = State.parse(bytes(row))
                found |= {state.note, state.unproven}
    return {note for note in found if note is not None}


def known_fork(tx: sa.Connection, trust: Policy, origin: str | None = None) -> Fork | None:
    """The oldest evidence there is, with whichever row, that a log of this policy has forked.

    Of the one with that origin, if it is given.
    """
    query = sa.select(issuer_logs.c.fork).where(issuer_logs.c.forked_at.is_not(None))
    for evidence in tx.execute(query.order_by(issuer_logs.c.forked_at, issuer_logs.c.id)).scalars():
        with suppress(TranslogError):  # against another log, or broken
            fork = Fork.parse(bytes(evidence))
            if origin in {None, fork.verify(trust).larger.origin}:
                return fork
    return None


def proven_against(tx: sa.Connection, fork: Fork) -> list[str]:
    """The ids of the logs, in their order, that evidence is against and that are not known to have forked."""
    columns = issuer_logs.c
    query = sa.select(columns.id, columns.url, columns.policy, columns.origin, columns.state)
    origin = fork.unverified_heads().larger.origin
    found: list[str] = []
    for row in tx.execute(query.where(columns.forked_at.is_(None)).order_by(columns.id)):
        if _names(row.state, origin):
            with suppress(TranslogError):
                fork.verify(LogIdentity(row.url, row.policy, row.origin or None).trust())
                found.append(row.id)
    return found


def _names(state: bytes, origin: str) -> bool:
    """Whether the last checkpoint of a state as it is kept has that origin, which is its first line."""
    return f"\n\n{origin}\n".encode() in bytes(state)
