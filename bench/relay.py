"""What it costs to call through the relay: revocations at the sandbox, directly and passed on, as ratios in one run.

    .venv/bin/python -m bench.relay [--connections 1,16,64] [--calls 150,400,400] [--rounds 3] [--database URL]

Sandbox and receiver are the real commands, each in a process of its own, as is the load: keep-alive connections that
each revoke one receipt after the other. Every receipt was minted before and is revoked once. Rounds alternate, a direct
one and one passed on; what is shown of each is the median of its rounds. No webhook is sent.

A call that is passed on waits for two commits of the receiver's besides the sandbox's own, its intent's and its
answer's, and for a connection of its own to the sandbox.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import httpx2

from bench.ingest import RECEIVER, Measured, measure, start, until_live
from bench.signed import BODY, RECORD
from receiver.sandbox.truthlocks import API_KEY

SANDBOX_PORT, RECEIVER_PORT = 8095, 8096
SANDBOX = f"http://127.0.0.1:{SANDBOX_PORT}"
MINTS_AT_ONCE = 8


@dataclass(frozen=True)
class Way:
    """One of the two ways to call: the port, what the path begins with, and the headers that it takes besides."""

    name: str
    port: int
    path: str
    headers: str


def main() -> int:
    """Measure and print a table; 1 if a call was not answered 200."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options.add_argument("--connections", default="1,16,64")
    options.add_argument("--calls", default="150,400,400", help="in each round, by number of connections")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--database", help="a PostgreSQL URL; SQLite in a temporary folder unless given")
    given = options.parse_args()
    runs = [*zip(map(int, given.connections.split(",")), map(int, given.calls.split(",")), strict=True)]
    with tempfile.TemporaryDirectory(prefix="rescind-bench-") as folder:
        work = Path(folder)
        environment = os.environ | {"RESCIND_GUARD": str(work / "guard"), "RESCIND_DATA": str(work / "data")}
        if given.database:
            environment["RESCIND_DATABASE_URL"] = given.database
        ways = [Way("direct", SANDBOX_PORT, "", ""), _relay(environment)]
        sandbox = start([RECEIVER, "sandbox", "--port", str(SANDBOX_PORT), "--data", work / "sandbox"], environment)
        receiver = start([RECEIVER, "serve", "--port", str(RECEIVER_PORT)], environment)
        try:
            until_live(f"{SANDBOX}/log/checkpoint")
            until_live(f"http://127.0.0.1:{RECEIVER_PORT}/health/live")
            return _compare(work / "requests", ways, runs, given.rounds)
        finally:
            for server in (sandbox, receiver):
                server.terminate()
                server.wait()


def _relay(environment: dict[str, str]) -> Way:
    """The way through the relay, with a source and a key made for it."""
    name = f"bench-{os.getpid()}"
    source = ("source", "add", name, "--provider", "truthlocks", "--scheme", "standard-webhooks", "--upstream", SANDBOX)
    subprocess.check_call([RECEIVER, *source], env=environment, stdout=subprocess.DEVNULL)
    made = subprocess.check_output([RECEIVER, "key", "create", name, "--scopes", "operate", "--json"], env=environment)
    key: str = json.loads(made)["key"]
    return Way("relay", RECEIVER_PORT, f"/relay/{name}", f"X-Rescind-Key: {key}\r\n")


def _compare(file: Path, ways: Sequence[Way], runs: Sequence[tuple[int, int]], rounds: int) -> int:
    print(f"calls of 1 KiB that revoke a receipt each; the median of {rounds} rounds of each way", flush=True)
    receipts = iter(_minted(rounds * len(ways) * sum(calls for _, calls in runs)))
    print(f"{'':>4} {'':>7} {'per s':>7} {'p50':>7} {'p99':>7}  ratio  p50 x  p99 x")
    failed = 0
    for connections, calls in runs:
        measured: dict[str, list[Measured]] = {way.name: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                _write_requests(file, way, islice(receipts, calls))
                measured[way.name].append(measure("ours", file, way.port, connections, 0))
        failed += sum(one.failed for its in measured.values() for one in its)
        direct, relay = (_median(measured[way.name]) for way in ways)
        ratios = f"{relay[0] / direct[0]:6.2f} {relay[1] / direct[1]:6.1f} {relay[2] / direct[2]:6.1f}"
        for name, (rate, p50, p99), told in (("direct", direct, ""), ("relay", relay, ratios)):
            print(f"{connections:>4} {name:>7} {rate:7.0f} {p50:7.1f} {p99:7.1f} {told}", flush=True)
    if failed:
        print(f"{failed} CALLS WERE NOT ANSWERED 200")
    return 1 if failed else 0


def _median(rounds: Sequence[Measured]) -> tuple[float, float, float]:
    """Of the rounds: calls per second, and percentiles in milliseconds."""
    rate, p50, p99 = ([getattr(one, name) for one in rounds] for name in ("rate", "p50", "p99"))
    return statistics.median(rate), statistics.median(p50), statistics.median(p99)


def _minted(number: int) -> list[str]:
    """The ids of so many new receipts."""
    limits = httpx2.Limits(max_connections=MINTS_AT_ONCE)
    with httpx2.Client(base_url=SANDBOX, headers={"x-api-key": API_KEY}, trust_env=False, limits=limits) as client:
        members = {"receipt_type": "payment_receipt", "issuer_id": "bench", "kid": "bench", "subject": "bench"}

        def mint(_: int) -> str:
            key = {"idempotency-key": str(uuid.uuid4())}
            minted = client.post("/v1/receipts", json={**members, "payload": {}}, headers=key)
            return minted.raise_for_status().json()["receipt_id"]

        with ThreadPoolExecutor(MINTS_AT_ONCE) as pool:
            return list(pool.map(mint, range(number)))


def _write_requests(file: Path, way: Way, receipts: Iterable[str]) -> None:
    """Write a request for each receipt, of RECORD bytes, its headers filled up to that."""
    reason = b"x" * (BODY - len(b'{"reason":""}'))
    body = b'{"reason":"' + reason + b'"}'
    with file.open("wb") as out:
        for receipt in receipts:
            head = (
                f"POST {way.path}/v1/receipts/{receipt}/revoke HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Content-Length: {BODY}\r\nIdempotency-Key: {uuid.uuid4()}\r\nX-API-Key: {API_KEY}\r\n"
                f"{way.headers}X-Fill: "
            ).encode()
            out.write(head + b"x" * (RECORD - BODY - len(head) - 4) + b"\r\n\r\n" + body)


if __name__ == "__main__":
    sys.exit(main())
