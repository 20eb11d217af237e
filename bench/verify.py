"""Verifying: entries per second of an export bundle, by `translog verify` and by the `verify.py` that is in it.

    .venv/bin/python -m bench.export --keep FILE                     makes a bundle, and prints the log's key
    .venv/bin/python -m bench.verify FILE --key VKEY [--rounds 3]    verifies it

Each run is a command of its own, as an auditor starts it: everything is checked, and what it takes to start Python is
in the time. The file is read once before, so that the disk is not what is measured. Memory is the peak of the largest
of its processes.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple, cast

ENOUGH = 100_000
"""Entries per second."""


class Run(NamedTuple):
    """What a command took: seconds, seconds of processors, and MB of its largest process."""

    seconds: float
    cpu: float
    memory: float


def main() -> int:
    """Run both and print; 1 if `translog verify` is not fast enough."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("bundle", type=Path)
    options.add_argument("--key", required=True)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with zipfile.ZipFile(given.bundle) as archive, tempfile.TemporaryDirectory() as folder:
        manifest = json.loads(archive.read("manifest.json"))
        script = archive.extract("verify.py", folder)
        entries = cast("int", manifest["counts"]["entries"])
        with given.bundle.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        commands = {
            "translog verify": [sys.executable, "-m", "translog", "verify", str(given.bundle), "--key", given.key],
            "verify.py": [sys.executable, script, str(given.bundle), "--key", given.key],
        }
        events, size = manifest["counts"]["events"], given.bundle.stat().st_size / 1e6
        print(f"{entries} entries, {events} events, {size:,.0f} MB; {os.cpu_count()} processors")
        print(f"{'':>16} {'seconds':>8} {'entries/s':>10} {'CPU s':>7} {'peak MB':>8}")
        fastest: dict[str, float] = {}
        for _ in range(given.rounds):
            for name, command in commands.items():
                run = _run(command)
                fastest[name] = max(fastest.get(name, 0), entries / run.seconds)
                print(
                    f"{name:>16} {run.seconds:8.2f} {entries / run.seconds:10,.0f} {run.cpu:7.1f} {run.memory:8.0f}",
                    flush=True,
                )
    print(f"at least {ENOUGH:,} entries per second")
    return 0 if fastest["translog verify"] >= ENOUGH else 1


def _run(command: list[str]) -> Run:
    """Run a command in a process that does nothing else, so that what it and its children took is known."""
    code = (
        "import resource,subprocess,sys;"
        "subprocess.run(sys.argv[1:],check=True,stdout=subprocess.DEVNULL);"
        "used=resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime+used.ru_stime,used.ru_maxrss)"
    )
    began = time.perf_counter()
    cpu, memory = subprocess.check_output([sys.executable, "-c", code, *command], text=True).split()
    return Run(time.perf_counter() - began, float(cpu), float(memory) * 1024 / 1e6)


if __name__ == "__main__":
    sys.exit(main())
