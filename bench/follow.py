"""Following a log from nothing: entries verified per second, memory, and what one new entry costs.

    .venv/bin/python -m bench.follow [--entries 1000000] [--sizes 1000,10000,100000,1000000]

The log is served over HTTP on the loopback by another process, from memory. Every entry is fetched, hashed and proven
under the signed checkpoint by the real follower. The pass to compare with is plain SHA-256 over the same bytes in the
same run, chunk by chunk, without a tree, a proof or a network. Then for each size a log of that size, already followed,
gains one entry, and the requests are counted that it takes to have it proven: with the checkpoint's own, and nothing
cached.
"""

import argparse
import asyncio
import hashlib
import resource
import subprocess
import sys
import time
import urllib.request

from bench.tiled import KEY
from translog.errors import TranslogError
from translog.follower import Current, Read, State
from translog.policy import Policy
from translog.remote import RemoteLog

PORT = 8094
POLICY = Policy.of(KEY.verifying_key())
ENOUGH_PER_SECOND = 100_000
ENOUGH_MEMORY = 300  # MiB
PATIENCE = 120  # seconds until the log is made


def main() -> int:
    """Measure and print; 1 if it is too slow, takes too much memory, or too many requests."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options.add_argument("--entries", type=int, default=1_000_000)
    options.add_argument("--sizes", default="1000,10000,100000,1000000", help="of the logs that gain one entry")
    given = options.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    command = [sys.executable, "-m", "bench.tiled", str(max(given.entries, *sizes) + 1), str(PORT)]
    with subprocess.Popen(command) as server:
        try:
            _until_made()
            fast = asyncio.run(_from_nothing(given.entries))
            few = asyncio.run(_one_more(sizes))
        finally:
            server.terminate()
    return 0 if fast and few else 1


def _until_made() -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{_url(1)}/checkpoint", timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the log does not answer")


def _url(size: int) -> str:
    return f"http://127.0.0.1:{PORT}/{size}"


async def _from_nothing(size: int) -> bool:
    """Follow the whole log. The plain pass is done between its chunks, and its time is taken out."""
    plain = hashlib.sha256()
    hashing = aside = 0.0
    count = volume = 0
    began, used = time.perf_counter(), time.process_time()
    async with RemoteLog(_url(size), POLICY) as log:
        async for step in log.follow(State()):
            if not isinstance(step, Read):
                continue
            stopped = time.perf_counter()
            count += len(step.entries)
            joined = b"".join(step.entries)
            volume += len(joined)
            before = time.perf_counter()
            plain.update(joined)
            hashing += time.perf_counter() - before
            del joined
            aside += time.perf_counter() - stopped
        taken = time.perf_counter() - began - aside
        core = (time.process_time() - used - aside) / taken
        requests = log.requests
    if count != size:
        raise SystemExit(f"{count} entries were read instead of {size}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = count / taken
    print(f"{count} entries of {volume / count:.0f} bytes from nothing: {taken:.2f} s, {rate:,.0f} entries per second")
    print(f"{requests} requests; the follower had {core:.0%} of a core; its peak memory is {memory:.0f} MiB")
    print(
        f"plain SHA-256 over the same {volume / 1e6:.0f} MB: {hashing:.3f} s; following takes {taken / hashing:.1f} x"
    )
    return rate >= ENOUGH_PER_SECOND and memory <= ENOUGH_MEMORY


async def _one_more(sizes: list[int]) -> bool:
    """Count the requests for one new entry. Each level of tiles may cost two, checkpoint and bundle one each."""
    few = True
    for size in sizes:
        async with RemoteLog(_url(size), POLICY) as log:
            state = await log.state_at(size, await log.checkpoint())
        async with RemoteLog(_url(size + 1), POLICY) as log:
            steps = [step async for step in log.follow(state)]
            requests = log.requests
        match steps:
            case [Read(_, []), Read(_, []), Read(start, [_]), Current()] if start == size:
                pass
            case _:
                raise TranslogError(f"one new entry was not read behind {size}")
        levels = -(-size.bit_length() // 8)
        few = few and requests <= 2 + 2 * levels
        print(f"one new entry behind {size:>9}: {requests} requests ({levels} levels of tiles)")
    return few


if __name__ == "__main__":
    sys.exit(main())
