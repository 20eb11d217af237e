"""The read-only credential of a source: what its provider is asked with, about calls that were passed on and events.

What became of a call may be known to the provider alone; and where no issuer's log can tell of an event, its own record
may. Where it has a record to be asked, the credential is the header, or the headers, that the question carries; the
callers' own are never kept. A source has one credential or none. It is kept encrypted under the data key, bound to its
source, is in no entry of the log, and is shown nowhere.

Setting or removing it is a change of the source: one transaction under its log's lock, with the entry that tells of it.
It is for the upstream that the source has then, and is removed with that (`receiver.records.sources.change_source`).
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import sqlalchemy as sa

from receiver.events import Kind, format_time
from receiver.records.journal import change
from receiver.records.opening import Records, Tenant
from receiver.records.sources import CREDENTIAL_REMOVED, get_source, remove_credential, take_up_again
from receiver.records.tables import attempts, credentials

MAX_CREDENTIAL = 8192
"""Bytes of the names and values of a credential's headers, together."""

SET, REMOVED = "credential", CREDENTIAL_REMOVED
"""What the log calls the two changes."""

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names, in lower case, and values; printable ASCII."""


def set_credential(
    records: Records,
    tenant: Tenant,
    source_id: str,
    headers: Sequence[tuple[str, str]] | None,
    by: str = "command",
) -> bool:
    """Give a source a credential, instead of the one it has, or with None remove that; and log it.

    False if there was none to remove: then nothing is changed. With a new one the provider can be asked again, so every
    call of the source whose outcome is unknown is due at once. Raises NoSuchSourceError.
    """
    get_source(records, tenant, source_id)  # a source is never removed: what is there now is there under the lock
    with change(records.database, tenant.log) as changing:
        tx = changing.tx
        if not remove_credential(tx, source_id) and headers is None:
            return False
        if headers is not None:
            value = records.vault.seal(_place(source_id), json.dumps(list(headers)).encode())
            tx.execute(sa.insert(credentials).values(source_id=source_id, value=value, created_at=changing.now))
            unknown = sa.update(attempts).where(attempts.c.source_id == source_id, attempts.c.outcome.is_(None))
            # By the clock that tells what is due: the log's time may stand ahead of it.
            tx.execute(unknown.values(next_at=format_time(datetime.now(UTC))))
        take_up_again(tx, source_id)  # with it, or without it, there is something else to ask
        action = REMOVED if headers is None else SET
        changing.tell(Kind.SOURCE, {"action": action, "by": by, "id": source_id})
    return True


def find_credential(records: Records, source_id: str) -> Headers | None:
    """A source's credential in the clear; None if it has none.

    Raises VaultError if it does not open with this data key, or was another source's.
    """
    with records.database.read() as tx:
        its = sa.select(credentials.c.value).where(credentials.c.source_id == source_id)
        sealed = tx.execute(its).scalar_one_or_none()
    return None if sealed is None else open_credential(records, source_id, bytes(sealed))


def open_credential(records: Records, source_id: str, sealed: bytes) -> Headers:
    """A source's credential in the clear, from its row: for who reads that together with where it may go.

    Raises VaultError as `find_credential` does.
    """
    opened: list[list[str]] = json.loads(records.vault.open(_place(source_id), sealed))
    return tuple((name, value) for name, value in opened)


def _place(source_id: str) -> str:
    return f"credential/{source_id}"
