"""Deliveries per second through the real server, as a ratio to a ceiling measured in the same run.

    .venv/bin/python -m bench.ingest [--seconds 6] [--connections 16,64,256] [--database URL] [--driver wrk|ours]

The ceiling is a plain Litestar `@post` route on the same server, with the same signature check, parsing and reading,
that keeps nothing. Load comes from another process, over keep-alive connections, as distinct signed bodies of 1 KiB:
from `wrk` where there is one, else from `bench/driver.py`, whose own use of its core is printed, so that a driver
that is the bottleneck shows.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bench.signed import RECORD, write_requests

PYTHON = sys.executable
RECEIVER = Path(PYTHON).with_name("receiver")
HERE = Path(__file__).parent
MOST_PER_SECOND = 25_000  # requests made ready for each second of a run


@dataclass(frozen=True)
class Measured:
    """One run: deliveries per second, percentiles in milliseconds, answers that were not 200, the driver's core."""

    rate: float
    p50: float
    p99: float
    p999: float
    failed: int
    driver: float | None


def main() -> int:
    """Measure and print a table; 1 if a delivery was not answered 200."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options.add_argument("--seconds", type=int, default=6)
    options.add_argument("--connections", default="16,64,256")
    options.add_argument("--database", help="a PostgreSQL URL; SQLite in a temporary folder unless given")
    options.add_argument("--driver", choices=["wrk", "ours"], default="wrk" if shutil.which("wrk") else "ours")
    given = options.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="rescind-bench-") as folder:
        work = Path(folder)
        environment = os.environ | {"RESCIND_GUARD": str(work / "guard"), "RESCIND_DATA": str(work / "data")}
        if given.database:
            environment["RESCIND_DATABASE_URL"] = given.database
        source = json.loads(
            subprocess.check_output(
                [
                    RECEIVER,
                    *("source", "add", f"bench-{os.getpid()}", "--provider", "truthlocks"),
                    *("--scheme", "standard-webhooks", "--json"),
                ],
                env=environment,
            )
        )
        ceiling = start([PYTHON, "-m", "bench.ceiling", "8097", source["secret"]], environment)
        receiver = start([RECEIVER, "serve", "--port", "8098"], environment)
        try:
            until_live("http://127.0.0.1:8097/health/live")
            until_live("http://127.0.0.1:8098/health/live")
            print(f"driver: {given.driver}; {given.seconds} s a run; bodies of 1 KiB, each its own; HMAC checked")
            print(f"{'':>4} {'':>8} {'per s':>8} {'p50':>7} {'p99':>7} {'p99.9':>7}  ratio  p99 x")
            for connections in (int(one) for one in given.connections.split(",")):
                requests = work / "requests"
                write_requests(requests, given.seconds * MOST_PER_SECOND, source["webhook_path"], source["secret"])
                top = measure(given.driver, requests, 8097, connections, given.seconds)
                real = measure(given.driver, requests, 8098, connections, given.seconds)
                failed += real.failed + top.failed
                _show(connections, "ceiling", top, "")
                ratios = f"{real.rate / top.rate:6.2f} {real.p99 / top.p99:6.1f}"
                _show(connections, "receiver", real, ratios)
        finally:
            for server in (ceiling, receiver):
                server.terminate()
                server.wait()
    return 1 if failed else 0


def _show(connections: int, name: str, measured: Measured, ratios: str) -> None:
    driver = "" if measured.driver is None else f"  (driver at {measured.driver:.0%} of its core)"
    failed = f"  {measured.failed} NOT 200" if measured.failed else ""
    print(
        f"{connections:>4} {name:>8} {measured.rate:8.0f} {measured.p50:7.2f} {measured.p99:7.2f} {measured.p999:7.2f}"
        f" {ratios}{driver}{failed}",
        flush=True,
    )


def start(command: list[str | Path], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a server, whose standard error is left out."""
    return subprocess.Popen([*map(str, command)], env=environment, stderr=subprocess.DEVNULL)


def until_live(url: str) -> None:
    """Wait until that URL is answered, for ten seconds at most."""
    for _ in range(100):
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def measure(driver: str, requests: Path, port: int, connections: int, seconds: int) -> Measured:
    """Drive those requests at a port of the loopback; with `ours` and no seconds, each of them once."""
    if driver == "ours":
        command = [PYTHON, "-m", "bench.driver", str(requests), str(port), str(connections), str(seconds)]
    else:
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        command += ["-s", str(HERE / "wrk.lua"), f"http://127.0.0.1:{port}", "--", str(requests), str(RECORD)]
    printed = subprocess.check_output(command, text=True)
    found = json.loads(printed.strip().splitlines()[-1])
    return Measured(found["rate"], found["p50"], found["p99"], found["p999"], found["failed"], found.get("driver"))


if __name__ == "__main__":
    sys.exit(main())
