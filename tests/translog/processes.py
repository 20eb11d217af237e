"""What the tests of the log run in processes of their own.

`python -m tests.translog.processes die URL GUARD before|after STATEMENT WHICH` appends two batches and publishes each;
the second time it is killed at a statement (see `faults.at`), and exits with 9.

`python -m tests.translog.processes write URL GUARD NAME BATCHES` appends that many batches under its name and publishes
now and then.

`python -m tests.translog.processes guard FOLDER START STOP STEP` advances a guard to these sizes, in order.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from receiver.records.engine import Database
from tests.translog import faults, reference
from tests.translog.logs import advance, append, note_of_size, open_log
from tests.translog.samples import KEY
from translog.guard import Guard

FIRST, SECOND = reference.numbered(300), tuple(b"second %d" % place for place in range(300))


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Run one of the above."""
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2])


def die(url: str, folder: str, moment: str, statement: str, which: str) -> None:
    """Append, publish, and die the second time."""
    database = Database(url)
    log = open_log(database, Guard(Path(folder)))
    append(log, FIRST)
    log.publish()
    with faults.at(database, cast("faults.Moment", moment), statement, int(which), lambda: os._exit(9)):
        append(log, SECOND)
        log.publish()


def write(url: str, folder: str, name: str, batches: str) -> None:
    """Append batches of one to nine entries; publish after every fifth."""
    database = Database(url)
    log = open_log(database, Guard(Path(folder)))
    for batch in range(int(batches)):
        append(log, batch_of(name, batch))
        if batch % 5 == 4:
            log.publish()
    database.dispose()


def batch_of(name: str, batch: int) -> list[bytes]:
    """The entries of a writer's batch."""
    return [b"%s %d %d" % (name.encode(), batch, place) for place in range(batch % 9 + 1)]


def guard(folder: str, first: str, stop: str, step: str) -> None:
    """Advance a guard."""
    for size in range(int(first), int(stop), int(step)):
        advance(Guard(Path(folder)), KEY.verifying_key(), note_of_size(size))


def main(arguments: Sequence[str]) -> None:
    """Run what was asked for."""
    {"die": die, "write": write, "guard": guard}[arguments[0]](*arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
