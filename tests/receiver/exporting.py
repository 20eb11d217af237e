"""A log with something of everything in it, and bundles of it, made as they are when somebody asks for one.

    filled = fill(records)                                  events, and all else that a log has
    path = bundle(records, tmp_path)                        of all of it, on the basis `logged`
    path = bundle(records, tmp_path, basis="received", providers=("scrip",), since=…, until=…)
    members(path)["manifest.json"]

Deliveries are written as everywhere in tests (`tests.receiver.submissions`, `tests.receiver.claims`), so that each
batch is logged at a moment of its own. `received_at` is `RECEIVED_AT` unless a time is given: long before anything is
logged, as it would be of what was read again out of quarantine.
"""

import itertools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from msgspec import structs

from receiver.events import Effect, Item, Kind, format_time, new_id
from receiver.exports.building import build
from receiver.exports.jobs import Job, Query
from receiver.intake.batch import write_batch
from receiver.intake.submission import Outcome
from receiver.records import keeping
from receiver.records.apikeys import Scope, create_key
from receiver.records.attempts import Attempt
from receiver.records.findings import Finding, keep
from receiver.records.journal import Changing, change
from receiver.records.opening import Records, Tenant
from receiver.records.tables import deliveries, findings
from receiver.relay import entries
from receiver.relay.calls import prepare
from receiver.relay.entries import Party
from tests.receiver.claims import ORGANIZATION, Issuer, check, deliver, new_source, reversed_
from tests.receiver.operations import EXAMPLES
from tests.receiver.service import ACCOUNT, revoked
from tests.receiver.submissions import RECEIVED_AT, Source
from translog.canonical import Value
from translog.evidence import Leaf
from translog.note import SigningKey
from translog.store import entries as log_entries

BEGINNING = "2000-01-01T00:00:00.000000Z"
READ_AT = format_time(RECEIVED_AT + timedelta(days=2))
GONE = ("event_data", "event_salt", "headers", "body", "delivery_salt")

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Filled:
    """What a log was filled with: its tenant, the sources, and the ids of the events in it."""

    records: Records
    tenant: Tenant
    truthlocks: Source
    scrip: Source
    test: Source
    issuer: Issuer
    events: tuple[str, ...]
    """In the log's order, tests left out."""
    tests: tuple[str, ...]


def fill(records: Records, tenant: str = "default") -> Filled:
    """Events of two providers and of a test source, and at least one leaf of every kind that intake writes.

    Among the events are: one that breaks a rule, texts that a spreadsheet would take for formulas or that must be
    quoted, a refused call, and some with the cross-check `confirmed`, `contradicted`, `absent`, or none at all. There
    is a gap of the issuer's, a mismatch, a quarantined delivery, and tallies whose counts reconcile.
    """
    issuer = Issuer(records)
    truthlocks = new_source(records, "truthlocks", ACCOUNT, tenant)
    scrip = issuer.source("scrip", ORGANIZATION, tenant)
    test = new_source(records, "truthlocks", ACCOUNT, tenant, test=True)
    its_tenant = truthlocks.endpoint.tenant
    number = next(_numbers)
    told: list[Outcome] = []
    told += deliver(truthlocks, revoked(f"r{number}"), revoked("=1+1", note="x"), at=_at(0))
    deliver(truthlocks, revoked(f"r{number}", note="another"), b"{", at=_at(1))
    tests = deliver(test, revoked(), revoked(), at=_at(2))
    told += deliver(scrip, reversed_(f"a{number}", f"v{number}", "5.00"), at=_at(3))
    told += deliver(scrip, reversed_(f"b{number}", f"w{number}", "-20.00", reason='=cmd|"/c calc"!A1,\r\nä'), at=_at(4))
    told += deliver(scrip, reversed_(f"c{number}", f"x{number}", "1.00", reason='He said "no", twice'), at=_at(5))
    told += [_refused(records, truthlocks)]
    told += deliver(truthlocks, revoked(f"r{number}", event_type="receipt.revoked", revoked_at="2026-11-21T00:00:00Z"))
    for item, operation, amount in ((f"a{number}", f"v{number}", "5.00"), (f"b{number}", f"w{number}", "21.00")):
        issuer.says("scrip", Effect.REVERSED, Item("redemption", item), operation=operation, amount=amount)
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "unannounced"), account=ORGANIZATION, operation="nobody")
    issuer.read_at(READ_AT, RECEIVED_AT)
    check(records)
    with change(records.database, its_tenant.log) as changing:
        for source in (truthlocks, scrip):
            _tally(changing, source.endpoint.source.id, incomplete=source is scrip)
    events = tuple(dict.fromkeys(one.id for one in told if one.status == "recorded"))
    return Filled(records, its_tenant, truthlocks, scrip, test, issuer, events, tuple(one.id for one in tests))


def _at(minutes: int) -> datetime:
    return RECEIVED_AT + timedelta(minutes=minutes)


def _refused(records: Records, source: Source) -> Outcome:
    """A call that the provider refused: its intent, and its answer."""
    endpoint = source.endpoint
    party, example = Party(endpoint.source, endpoint.tenant, endpoint.provider), EXAMPLES[endpoint.source.provider]
    key_id, _ = create_key(records, endpoint.tenant, f"caller-{new_id()}", frozenset({Scope.OPERATE}))
    outgoing = prepare(endpoint.provider.operation, example.path, [], b"{}")
    assert outgoing is not None
    attempt = Attempt(
        id=new_id(),
        key_id=key_id,
        item=outgoing.item,
        path=outgoing.parameters,
        request=outgoing.request,
        called_at=RECEIVED_AT,
        idempotency=None,
        upstream="",
        settle_at=RECEIVED_AT,
    )
    write_batch(records.database, [entries.intent(party, attempt, outgoing.kept, outgoing.body, RECEIVED_AT)])
    submission = entries.refusal(party, structs.replace(attempt, status=409), b'{"code":"NO"}', RECEIVED_AT)
    return write_batch(records.database, [submission])[0]


def _tally(changing: Changing, source_id: str, *, incomplete: bool) -> None:
    changing.tell(
        Kind.TALLY,
        {
            "counts": {
                "deliveries": 9,
                "duplicate": 1,
                "ignored": 2,
                "mismatch": 1,
                "quarantined": 1,
                "recorded": 3,
                "refused": {"wrong_signature": 1},
            },
            "from": "2026-11-20T08:59:59.000000Z",
            "incomplete": incomplete,
            "process": new_id(),
            "source": source_id,
            "until": changing.now,
        },
    )


# ---- what is asked for ----------------------------------------------------------------------------------------------


def job(
    records: Records,
    *,
    tenant: str = "default",
    since: str = BEGINNING,
    until: str | None = None,
    basis: str = "logged",
    providers: tuple[str, ...] | None = None,
    tests: bool = False,
    parquet: bool = False,
    by: str = "command",
    previous: bytes | None = None,
) -> Job:
    """Ask for an export: its key announced if there is none yet, its entry appended, a checkpoint published."""
    its_tenant = records.tenant(tenant)
    log = its_tenant.log
    with change(records.database, log) as changing:
        _announce(records, changing, its_tenant)
        query = Query(since, until or changing.now, basis, providers, tests, parquet)
        facts: dict[str, Value] = {
            "basis": basis,
            "by": by,
            "parquet": parquet,
            "providers": None if providers is None else list(providers),
            "since": query.since,
            "tests": tests,
            "until": query.until,
        }
        index = changing.head.size + len(changing.leaves)
        leaf = Leaf(Kind.EXPORT, new_id(), changing.now, facts, None, None)
        changing.leaves.append(leaf)
    log.publish()
    note = log.published.note
    return Job(leaf.id, its_tenant.id, its_tenant.log_id, index, by, leaf.logged_at, query, note, previous)


def _announce(records: Records, changing: Changing, tenant: Tenant) -> None:
    columns = keeping.export_keys.c
    if changing.tx.execute(sa.select(columns.vkey).where(columns.log_id == tenant.log_id)).first() is not None:
        return
    key = SigningKey.generate(f"{tenant.log.origin}/exports")
    vkey = str(key.verifying_key())
    sealed = records.vault.seal(f"exports/{tenant.log_id}", str(key).encode())
    row = {"log_id": tenant.log_id, "log_index": changing.head.size, "vkey": vkey, "private_key": sealed}
    changing.tx.execute(sa.insert(keeping.export_keys).values(row))
    facts = {"action": "announced", "by": "command", "id": new_id(), "purpose": "exports", "vkey": vkey}
    changing.tell(Kind.KEY, dict(facts))


def bundle(records: Records, folder: Path, **asked: object) -> Path:
    """Ask for an export, and make its file in that folder; see `job` for what may be asked."""
    return make(records, job(records, **asked), folder)  # pyright: ignore[reportArgumentType]


def make(records: Records, job: Job, folder: Path) -> Path:
    """Make the file of an export, one more each time."""
    path = folder / f"{next(_numbers)}.zip"
    build(records, job, path)
    return path


def members(path: Path) -> dict[str, bytes]:
    """What the bundle holds, by name, in its order."""
    with zipfile.ZipFile(path) as archive:
        return {one.filename: archive.read(one) for one in archive.infolist()}


# ---- what comes later -----------------------------------------------------------------------------------------------


def erase(
    records: Records, ids: Sequence[str], *, extent: str = "all", tenant: str = "default", publish: bool = True
) -> int:
    """Take these entries' openings away, as an erasure does; the index of its entry."""
    its_tenant = records.tenant(tenant)
    erasure_id = new_id()
    told: dict[str, Value] = {"ids": [*sorted(ids)], "claims": 0, "target": "event"}
    facts: dict[str, Value] = {"by": "command", "erasure": erasure_id, **told}
    gone = GONE if extent == "all" else GONE[2:]
    with change(records.database, its_tenant.log) as changing:
        tx = changing.tx
        asked = {"asked_by": "command", "asked_at": changing.now, "state": "completed", "erased": len(ids)}
        row = {"id": erasure_id, "tenant_id": its_tenant.id, "target": "event", **asked}
        tx.execute(sa.insert(keeping.erasures).values(row))
        kept = keep(changing, its_tenant, Finding(Kind.ERASURE, extent, facts, {"reason": "asked for"}))
        for table in (deliveries, findings):
            nothing: Mapping[str, None] = dict.fromkeys(gone)
            tx.execute(sa.update(table).where(table.c.id.in_(ids)).values(**nothing))
        if extent == "all":
            tx.execute(sa.update(deliveries).where(deliveries.c.id.in_(ids)).values(occurred_at=None))
        of_it = {"log_id": its_tenant.log_id, "log_index": kept.log_index, "erasure_id": erasure_id, "extent": extent}
        tx.execute(sa.insert(keeping.erased), [{"entry_id": one, **of_it} for one in ids])
    if publish:
        its_tenant.log.publish()
    return kept.log_index


def leaves(records: Records, tenant: str = "default") -> Iterator[tuple[int, Leaf]]:
    """Every leaf of a tenant's log, with its index."""
    query = sa.select(log_entries.c.index, log_entries.c.data).order_by(log_entries.c.index)
    with records.database.read() as tx:
        rows = tx.execute(query.where(log_entries.c.log_id == records.tenant(tenant).log_id)).all()
    return ((index, Leaf.parse(bytes(data))) for index, data in rows)
