"""Issuers' logs that sources name, and the follower of them, without a service.

with serving(log_of(entry(), entry(account=OTHER))) as server:
name_log(records, add(records), server)
follow(records)
assert indexes(records) == [0]
"""

import asyncio
import base64
import itertools
import json
import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from receiver.assurance.following import Following
from receiver.documents import plain_entry
from receiver.events import Claim, format_time
from receiver.records.issuer_logs import settle
from receiver.records.opening import Records
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import claims, issuer_logs, sources
from tests.translog.misbehaving import Server, Simulated
from translog.note import SigningKey
from translog.policy import Policy

ACCOUNT = "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10"
OTHER = "0c9d8e7f-1111-4a53-9a3b-0f0a3f6f1f10"
LOG_KEY = SigningKey.generate("issuer.example/log")
POLICY = Policy.of(LOG_KEY.verifying_key())
PROCESS = "00000000-0000-7000-8000-000000000001"

_names = itertools.count(1)


def entry(account: str | None = ACCOUNT, provider: str = "truthlocks", **members: object) -> bytes:
    """A plain entry of a receipt's revocation, of a receipt that is in no other unless `item` is given."""
    document = {
        "account": account,
        "amount": None,
        "at": "2026-11-20T08:59:58.000000Z",
        "effect": "revoked",
        "event": "RECEIPT_REVOKE",
        "item": {"id": str(uuid.uuid4()), "type": "receipt"},
        "operation": str(uuid.uuid4()),
        "provider": provider,
        "quantity": None,
        **members,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def read_entry(data: bytes) -> Claim:
    """What such an entry says."""
    claim = plain_entry("truthlocks", data)
    assert claim is not None
    return claim


def log_of(*entries: bytes) -> Simulated:
    """A log of these entries."""
    return Simulated(tuple(entries), LOG_KEY)


def add(records: Records, tenant: str = "default", provider: str = "truthlocks", account: str | None = ACCOUNT) -> str:
    """A new source, which names no log; its id."""
    secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    new = NewSource(f"source-{next(_names)}", provider, "standard-webhooks", {}, account)
    return add_source(records, records.ensure_tenant(tenant), new, secret)


def name_log(records: Records, source_id: str, server: Server | str, **settings: object) -> str:
    """Have a source name the log of a server, or at a URL, with more of the source's columns; the log's id."""
    url = server if isinstance(server, str) else server.url
    with records.database.write() as tx:
        log_id = settle(tx, url, POLICY.text, None, format_time(datetime.now(UTC)))
        its = sa.update(sources).where(sources.c.id == source_id)
        tx.execute(its.values(issuer_log_id=log_id, **settings))
    return log_id


def follow(records: Records, *processes: str) -> None:
    """One look of each of these processes, at the same time, and the turns that it begins; of one if none is named."""

    async def main() -> None:
        following = [Following(records, process) for process in processes or (PROCESS,)]
        try:
            looks = await asyncio.gather(*(one.look() for one in following))
            await asyncio.gather(*itertools.chain(*looks))
        finally:
            for one in following:
                await one.close()

    asyncio.run(main())


def due(records: Records) -> None:
    """Have it that every log is due again."""
    with records.database.write() as tx:
        tx.execute(sa.update(issuer_logs).values(next_at=None))


def row(records: Records, log_id: str) -> sa.Row[Any]:
    """What is known of a log."""
    with records.database.read() as tx:
        return tx.execute(sa.select(issuer_logs).where(issuer_logs.c.id == log_id)).one()


def kept(records: Records, tenant: str = "default") -> Sequence[sa.Row[Any]]:
    """The entries that are kept for a tenant, in order; each with its index as `place`."""
    query = sa.select(claims, claims.c.index.label("place")).where(claims.c.tenant_id == records.tenant(tenant).id)
    with records.database.read() as tx:
        return tx.execute(query.order_by(claims.c.issuer_log_id, claims.c.index)).all()


def indexes(records: Records, tenant: str = "default") -> list[int]:
    """Which entries these are, of one log."""
    return [one.place for one in kept(records, tenant)]
