"""Whether appending stays flat: memory of the process, and the cost of the last thousand entries against the first.

    .venv/bin/python -m bench.append [--entries 100000] [--database URL]

Entries go through the real recorder, 64 at a time as from 64 connections. A thousand is timed as the median of five
thousands in a row, since one alone is at the mercy of the machine; a thousand before the first warms up.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from receiver.app import WAL_EVERY
from receiver.intake.endpoints import Endpoint
from receiver.intake.service import Intake, submission_of
from receiver.intake.signatures import Authenticated, StandardWebhooks, generate_secret
from receiver.intake.submission import Status, Submission
from receiver.metrics import Metrics
from receiver.records.opening import DEFAULT_TENANT, Records
from receiver.records.sources import NewSource, add_source
from receiver.settings import load

AT_ONCE = 64
THOUSAND = 1000
MEDIAN_OF = 5
FLAT = 1.3


async def main() -> int:
    """Append, measure and print; 1 if it does not stay flat."""
    options = argparse.ArgumentParser(description="Whether appending stays flat")
    options.add_argument("--entries", type=int, default=100_000)
    options.add_argument("--database", help="a PostgreSQL URL; SQLite in a temporary folder unless given")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="rescind-bench-") as folder:
        settings = load(data=Path(folder) / "data", guard=Path(folder) / "guard", database_url=given.database)
        records = Records.open(settings)
        new = NewSource(f"bench-{uuid.uuid4()}", "truthlocks", StandardWebhooks.name, {})
        source_id = add_source(records, records.tenant(DEFAULT_TENANT), new, generate_secret(StandardWebhooks()))
        intake = Intake(records, Metrics())
        endpoint = await intake.endpoints.get(source_id)
        if endpoint is None:
            raise SystemExit("the source that was just added is not there")
        intake.recorder.start()
        writing_back = asyncio.create_task(_write_back(records))
        try:
            return await _measure(intake, endpoint, given.entries)
        finally:
            writing_back.cancel()
            await intake.recorder.stop()
            records.close()


async def _measure(intake: Intake, endpoint: Endpoint, entries: int) -> int:
    process = psutil.Process()
    await _append(intake, _submissions(endpoint))
    memory: list[int] = []
    seconds: list[float] = []
    for done in range(0, entries, THOUSAND):
        ready = _submissions(endpoint)
        began = time.perf_counter()
        await _append(intake, ready)
        seconds.append(time.perf_counter() - began)
        if (done + THOUSAND) % max(THOUSAND, entries // 5) == 0:
            memory.append(process.memory_info().rss)
            print(f"{done + THOUSAND:>7} entries: {memory[-1] / 2**20:6.1f} MiB", flush=True)
    first = statistics.median(seconds[:MEDIAN_OF])
    last = statistics.median(seconds[-MEDIAN_OF:])
    grown = memory[-1] / memory[0]
    print(f"the first thousand {first * 1e3:.0f} ms, the last {last * 1e3:.0f} ms: ratio {last / first:.2f}")
    print(f"memory at the end against a fifth of the way, when the database's cache is full: ratio {grown:.2f}")
    return 0 if last / first <= FLAT and grown <= FLAT else 1


async def _write_back(records: Records) -> None:
    """As the service does, so that no append has to."""
    while True:
        await asyncio.sleep(WAL_EVERY)
        await asyncio.to_thread(records.database.checkpoint_wal)


async def _append(intake: Intake, submissions: Sequence[Submission]) -> None:
    waiting = iter(submissions)

    async def one_connection() -> None:
        for submission in waiting:
            outcome = await intake.recorder.record(submission)
            if outcome.status is not Status.RECORDED:
                raise SystemExit(f"not recorded but {outcome.status}")

    await asyncio.gather(*(one_connection() for _ in range(AT_ONCE)))


def _submissions(endpoint: Endpoint) -> list[Submission]:
    headers = (
        ("webhook-id", "msg_bench"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", "v1," + "A" * 44),
    )
    verdict = Authenticated(endpoint.source.secrets[0].id, StandardWebhooks.name, headers)
    made = [submission_of(endpoint, verdict, _body(), datetime.now(UTC)) for _ in range(THOUSAND)]
    return [submission for submission in made if submission is not None]


def _body() -> bytes:
    start = (
        f'{{"event_type":"receipt.revoked","receipt_id":"{uuid.uuid4()}","receipt_type":"payment_receipt",'
        '"tenant_id":"7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10","revoked_at":"2026-11-20T08:59:58Z","note":"'
    )
    return (start + "x" * (1022 - len(start)) + '"}').encode()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
