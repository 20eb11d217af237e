"""Exporting: events per second of a whole bundle, as a ratio to plain JSONL of the same rows in the same run.

    .venv/bin/python -m bench.export [--events 1000000] [--checked 0.1] [--data FOLDER] [--database URL] [--keep FILE]

A log is filled through the real recorder's own batches: distinct deliveries of 1 KiB, of which that share has a
cross-check. With --data it is kept there, and used again by the next run. Then, each in a process of its own:

    plain      SELECT of the same columns, `json.dumps` of a dict with the bytes in base64, one line for each event
    export     the whole bundle: events, CSV, payloads, entries, proofs, tallies, report; hashed, and every opening
               and the range proof checked

Both are on disk (fsync) when the time is taken, and both read a database that is in the system's cache.
"""

import argparse
import asyncio
import base64
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from receiver.events import Kind, format_time
from receiver.exports.building import build
from receiver.exports.jobs import Job, Query, ask, settle
from receiver.exports.jobs import load as load_job
from receiver.intake.batch import write_batch
from receiver.intake.endpoints import Endpoint, Endpoints
from receiver.intake.service import submission_of
from receiver.intake.signatures import Authenticated, StandardWebhooks, generate_secret
from receiver.intake.submission import Submission
from receiver.metrics import Metrics
from receiver.records.findings import Finding, keep
from receiver.records.journal import change
from receiver.records.opening import DEFAULT_TENANT, Records
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import deliveries
from receiver.settings import Settings, load
from translog.store import entries

BATCH = 512
BODY = 1024
ROWS_AT_ONCE = 1000
ENOUGH = 0.5
ENOUGH_MEMORY = 300  # MB
BEGINNING = "2000-01-01T00:00:00.000000Z"


def main() -> int:
    """Fill, measure both and print; 1 if the ratio is too low, or too much memory was taken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--checked", type=float, default=0.1, help="share of the events with a cross-check")
    options.add_argument("--data", type=Path, help="fill this folder, or use what it was filled with")
    options.add_argument("--database", help="a PostgreSQL URL; SQLite in the folder unless given")
    options.add_argument("--keep", type=Path, help="leave the bundle there, and print the log's key")
    options.add_argument("--measure", choices=["plain", "export"], help=argparse.SUPPRESS)
    options.add_argument("--id", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure is not None:
        _measure(given.measure, given.data, given.database, given.keep, given.id)
        return 0
    with tempfile.TemporaryDirectory(prefix="rescind-bench-") as folder:
        data: Path = given.data or Path(folder) / "data"
        records = Records.open(_settings(data, given.database))
        _fill(records, given.events, given.checked)
        export_id, key = _ask(records)
        records.close()
        common = ["--data", str(data), *([] if given.database is None else ["--database", given.database])]
        plain = _run("plain", export_id, Path(folder) / "plain.jsonl", common)
        bundle: Path = given.keep or Path(folder) / "bundle.zip"
        export = _run("export", export_id, bundle, common)
    print(f"{'':>8} {'events':>9} {'seconds':>8} {'events/s':>9} {'MB':>7} {'peak MB':>8} {'CPU s':>7}")
    for name, found in (("plain", plain), ("export", export)):
        print(
            f"{name:>8} {found['events']:>9} {found['seconds']:8.2f} {found['events'] / found['seconds']:9,.0f} "
            f"{found['size'] / 1e6:7.0f} {found['memory']:8.0f} {found['cpu']:7.1f}"
        )
    ratio, of_cpu = (plain[what] / export[what] for what in ("seconds", "cpu"))
    print(f"ratio {ratio:.2f} (at least {ENOUGH}), of CPU {of_cpu:.2f}; at most {ENOUGH_MEMORY} MB")
    if given.keep:
        print(f"{given.keep}, --key {key}")
    return 0 if ratio >= ENOUGH and export["memory"] < ENOUGH_MEMORY else 1


def _settings(data: Path, database: str | None) -> Settings:
    return load(data=data, guard=data / "guard", database_url=database)


# ---- what is exported -----------------------------------------------------------------------------------------------


def _fill(records: Records, events: int, checked: float) -> None:
    """Record so many events, and cross-checks of that share of them; nothing if they are there."""
    tenant = records.tenant(DEFAULT_TENANT)
    with records.database.read() as tx:
        there: int = tx.execute(sa.select(sa.func.count()).select_from(deliveries)).scalar_one()
    if there:
        print(f"{there} events are there")
        return
    new = NewSource(f"bench-{uuid.uuid4()}", "truthlocks", StandardWebhooks.name, {})
    source_id = add_source(records, tenant, new, generate_secret(StandardWebhooks()))
    endpoint = asyncio.run(Endpoints(records, Metrics()).get(source_id))
    if endpoint is None:
        raise SystemExit("the source that was just added is not there")
    began, every = time.perf_counter(), round(1 / checked) if checked else 0
    for start in range(0, events, BATCH):
        told = write_batch(records.database, _submissions(endpoint, min(BATCH, events - start)))
        if every:
            _check(records, source_id, [one.id for at, one in enumerate(told, start) if at % every == 0])
        if start % (BATCH * 100) == 0:
            records.database.checkpoint_wal()
    tenant.log.publish()
    print(f"{events} events were recorded in {time.perf_counter() - began:.0f} s")


def _submissions(endpoint: Endpoint, number: int) -> list[Submission]:
    made: list[Submission] = []
    for _ in range(number):
        receipt = uuid.uuid4()
        headers = (
            ("webhook-id", f"msg_{receipt.hex}"),
            ("webhook-timestamp", "1795251600"),
            ("webhook-signature", "v1," + base64.b64encode(receipt.bytes * 2).decode()),
        )
        start = (
            f'{{"event_type":"receipt.revoked","receipt_id":"{receipt}","receipt_type":"payment_receipt",'
            '"tenant_id":"7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10","revoked_at":"2026-11-20T08:59:58Z","note":"'
        )
        body = (start + "x" * (BODY - len(start) - 2) + '"}').encode()
        verdict = Authenticated(endpoint.source.secrets[0].id, StandardWebhooks.name, headers)
        submission = submission_of(endpoint, verdict, body, datetime.now(UTC))
        if submission is not None:
            made.append(submission)
    return made


def _check(records: Records, source_id: str, event_ids: Sequence[str]) -> None:
    tenant = records.tenant(DEFAULT_TENANT)
    with change(records.database, tenant.log) as changing:
        for event_id in event_ids:
            facts = {"by": "issuer_log", "first": event_id, "late": False, "provider": "truthlocks"}
            found = {"differences": None, "entry": None, "issuer_index": 1, "issuer_log": "issuer.example/log"}
            finding = Finding(
                Kind.CROSS_CHECK,
                "confirmed",
                {**facts, "source": source_id, "was": "pending"},
                found,
                source_id=source_id,
                event_id=event_id,
            )
            keep(changing, tenant, finding)


def _ask(records: Records) -> tuple[str, str]:
    """Ask for an export of everything; its id, and the log's key."""
    tenant = records.tenant(DEFAULT_TENANT)
    query = Query(BEGINNING, format_time(datetime.now(UTC)), "logged", None, tests=False, parquet=False)
    export_id = ask(records, tenant, query)
    tenant.log.publish()
    with records.database.write() as tx:
        settle(tx, export_id)
    records.database.checkpoint_wal()
    return export_id, str(tenant.log.verifying_key)


# ---- what is measured -----------------------------------------------------------------------------------------------


def _run(what: str, export_id: str, out: Path, common: list[str]) -> dict[str, float]:
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.export", "--measure", what, "--id", export_id, "--keep", str(out), *common]
    return json.loads(subprocess.check_output(command))


def _measure(what: str, data: Path, database: str | None, out: Path, export_id: str) -> None:
    records = Records.open(_settings(data, database), check=False)
    with records.database.read() as tx:
        job = load_job(tx, export_id)
    began, used = time.perf_counter(), time.process_time()
    events = build(records, job, out).events if what == "export" else _plain(records, job, out)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    found = {"events": events, "seconds": seconds, "size": out.stat().st_size, "memory": memory, "cpu": cpu}
    print(json.dumps(found))
    records.close()


def _plain(records: Records, job: Job, out: Path) -> int:
    """Write the rows down as anybody would who needs no proof of them."""
    columns = deliveries.c
    here = sa.and_(entries.c.log_id == columns.log_id, entries.c.index == columns.log_index)
    query = (
        sa.select(
            entries.c.index,
            entries.c.data,
            columns.event_data,
            columns.event_salt,
            columns.headers,
            columns.body,
            columns.delivery_salt,
        )
        .join_from(deliveries, entries, here)
        .where(columns.log_id == job.log_id)
        .order_by(columns.log_index)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    number = 0
    with records.database.read() as tx, out.open("w") as file:
        for row in tx.execute(query).mappings():
            written = {
                name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
                for name, value in row.items()
            }
            file.write(json.dumps(written) + "\n")
            number += 1
        file.flush()
        os.fsync(file.fileno())
    return number


if __name__ == "__main__":
    sys.exit(main())
