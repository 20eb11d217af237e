"""A load driver for machines without `wrk`: keep-alive connections that each send the next request of a file.

    python -m bench.driver REQUESTS PORT CONNECTIONS SECONDS

The file is sent over and over; with no SECONDS (0), once. Prints one line of JSON: rate, percentiles in milliseconds,
answers that were not 200, and how much of its core the driver itself used. Near 1, it is the driver that was measured.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import BinaryIO, cast

import uvloop

from bench.signed import RECORD


class Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next."""

    def __init__(self, requests: BinaryIO, taken: list[float], failed: list[bytes], until: float | None) -> None:
        self._requests = requests
        self._taken = taken
        self._failed = failed
        self._until = until
        self._sent = 0.0
        self._received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length):
            return
        self._taken.append(time.perf_counter() - self._sent)
        if not head.startswith(b"HTTP/1.1 200"):
            self._failed.append(head)
        self._received = b""
        if self._until is None or time.perf_counter() < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        request = self._requests.read(RECORD)
        if len(request) < RECORD:
            if self._until is None:
                self._transport.close()
                return
            self._requests.seek(0)
            request = self._requests.read(RECORD)
        self._sent = time.perf_counter()
        self._transport.write(request)


async def main(file: Path, port: int, connections: int, seconds: int) -> None:
    """Drive the load and print what came of it."""
    taken: list[float] = []
    failed: list[bytes] = []
    with file.open("rb") as requests:
        began, used = time.perf_counter(), time.process_time()
        until = began + seconds if seconds else None
        loop = asyncio.get_running_loop()
        open_ones = [
            (await loop.create_connection(lambda: Connection(requests, taken, failed, until), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        await asyncio.gather(*(connection.done for connection in open_ones))
        wall, used = time.perf_counter() - began, time.process_time() - used
    taken.sort()
    parts = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    percentiles = {name: taken[int(len(taken) * part)] * 1e3 for name, part in parts.items()}
    print(json.dumps({"rate": len(taken) / wall, **percentiles, "failed": len(failed), "driver": used / wall}))


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:5])))
