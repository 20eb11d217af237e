"""503: what cannot be kept now is not acknowledged, and what was acknowledged is there."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

import receiver.records.engine
from receiver.records.opening import Records
from tests.postgres import Cluster, find_binaries, running_cluster
from tests.receiver.service import (
    Sender,
    Service,
    problem,
    read_all,
    replies,
    revoked,
    running,
    settings_in,
    until,
)
from translog.merkle import leaf_hash

QUEUE = 4

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process_writes(database: Path) -> Generator[None]:
    """Another process holds SQLite's write lock for as long as the block lasts."""
    command = [sys.executable, "-c", _HOLD, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


def stop(cluster: Cluster) -> list[bytes]:
    """Stop the PostgreSQL server, which cuts every connection; the command that it was started with."""
    pid_file = cluster.folder / "data" / "postmaster.pid"
    pid = int(pid_file.read_text().split()[0])
    command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    os.kill(pid, signal.SIGINT)
    until(lambda: not pid_file.exists())
    return command


@contextmanager
def started_again(cluster: Cluster, command: list[bytes]) -> Generator[None]:
    """The server is back, for as long as the block lasts."""
    user = (cluster.folder / "data").stat().st_uid
    as_user: dict[str, Any] = {"user": user, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(command, cwd=cluster.folder, stderr=subprocess.DEVNULL, **as_user) as server:
        try:
            until(lambda: answers(cluster))
            yield
        finally:
            server.send_signal(signal.SIGQUIT)


def answers(cluster: Cluster) -> bool:
    """Whether the server takes connections."""
    try:
        cluster.execute("SELECT 1")
    except Exception:  # noqa: BLE001 (whatever it is, it does not)
        return False
    return True


def must_be_unavailable(answer: httpx2.Response) -> None:
    """A 503 that says when to try again."""
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    members = problem(answer)
    assert members["code"] == "SERVICE_UNAVAILABLE"
    assert "Send it again" in members["detail"]


def test_when_the_queue_is_full(tmp_path: Path) -> None:
    """The next delivery is answered 503 at once; those in the queue are kept once the database is free."""
    with running(settings_in(tmp_path, queue=QUEUE)) as service, ThreadPoolExecutor(QUEUE + 1) as pool:
        sender = service.add_source()
        with service.records.database.write():
            first = pool.submit(sender.post, revoked())
            until(lambda: service.metric("rescind_batch_size_count") == 1)  # it is being written, out of the queue
            waiting = [pool.submit(sender.post, revoked()) for _ in range(QUEUE)]
            until(lambda: service.metric("rescind_waiting") == QUEUE)
            turned_away = [sender.post(revoked()) for _ in range(3)]
        kept = [future.result() for future in (first, *waiting)]
        rows = sender.rows()
        counted = sender.counts(), service.metric("rescind_unavailable_total")

    for answer in turned_away:
        must_be_unavailable(answer)
    assert [answer.json()["status"] for answer in kept] == ["recorded"] * (QUEUE + 1)
    assert sorted(row.id for row in rows) == sorted(answer.json()["event_id"] for answer in kept)
    assert counted == ({"recorded": QUEUE + 1}, 3)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service on SQLite that waits a fifth of a second for another process that writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiver.records.engine, "BUSY_TIMEOUT_MS", 200)
        with running(settings_in(tmp_path_factory.mktemp("impatient"))) as service:
            yield service


def test_when_another_process_holds_the_database(service: Service, sender: Sender) -> None:
    """503, and nothing was kept: even a duplicate is only told once the first can be found again."""
    known, new = revoked(), revoked()
    assert sender.post(known).json()["status"] == "recorded"

    with another_process_writes(service.records.settings.data / "rescind.db"):
        away = [sender.post(body) for body in (known, new, b"{")]

    for answer in away:
        must_be_unavailable(answer)
    assert len(sender.rows()) == 1
    statuses = [sender.post(body).json()["status"] for body in (known, new, b"{")]
    assert statuses == ["duplicate", "recorded", "quarantined"]
    assert sender.counts() == {"recorded": 2, "duplicate": 1, "quarantined": 1}


def test_refusals_need_no_database(service: Service, sender: Sender) -> None:
    """401, 404, 413 and `ignored` are given while it is away, and are told to nobody but the tally."""
    with another_process_writes(service.records.settings.data / "rescind.db"):
        statuses = [
            sender.post(revoked(), headers={"webhook-id": "other"}).status_code,
            service.client.post("/webhooks/nobody").status_code,
            sender.post(b"x" * 300_000).status_code,
            sender.post(b'{"event_type":"receipt.created"}').status_code,
        ]

    assert statuses == [401, 404, 413, 200]


def test_what_was_kept_can_be_read_all_the_while(service: Service, sender: Sender) -> None:
    """Also with a key whose use cannot be noted now."""
    sender.post(revoked())
    service.until_published()
    key = service.key()

    with another_process_writes(service.records.settings.data / "rescind.db"):
        events = service.client.get(f"/v1/events?source={sender.source_id}", headers=key)
        checkpoint = service.client.get("/log/default/checkpoint")

    assert (events.status_code, len(events.json()["items"])) == (200, 1)
    assert checkpoint.status_code == 200


def test_when_postgresql_is_stopped(tmp_path: Path) -> None:
    """503 while it is away, from the first delivery on; once it is back, everything acknowledged is there."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("there is no PostgreSQL: install the extra `test`, or Debian's package `postgresql`")
    with ExitStack() as servers:
        cluster = servers.enter_context(running_cluster(binaries))
        url = cluster.url(cluster.create_database())
        with running(settings_in(tmp_path, database_url=url)) as service:
            sender = service.add_source()
            before = [sender.post(revoked()) for _ in range(3)]
            command = stop(cluster)
            away = [sender.post(revoked()) for _ in range(3)]
            unknown = service.client.post("/webhooks/nobody")
            unready = service.client.get("/health/ready")
            unread = service.client.get("/v1/events", headers={"authorization": "Bearer rk_x"})
            servers.enter_context(started_again(cluster, command))
            until(lambda: service.client.get("/health/ready").status_code == 200)
            after = sender.post(revoked())
            kept = {row.id for row in sender.rows()}

    for answer in (*away, unknown):
        must_be_unavailable(answer)
    assert (unready.status_code, unready.json()["database"]) == (503, "OperationalError")
    assert (unread.status_code, problem(unread)["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert {answer.json()["event_id"] for answer in (*before, after)} == kept
    assert len(kept) == 4


def test_nothing_is_acknowledged_after_the_log_regressed(tmp_path: Path) -> None:
    """Recording stops for good once the database is not the one it was, and readiness says so."""
    with running(settings_in(tmp_path)) as service:
        sender = service.add_source()
        assert sender.post(revoked()).status_code == 200
        service.intake.recorder.halt("the database was replaced while it was in use")
        answer = sender.post(revoked())
        ready = service.client.get("/health/ready")
        recording = service.metric("rescind_recording")
        rows = sender.rows()

    must_be_unavailable(answer)
    assert "/health/ready says why" in answer.json()["detail"]
    assert (ready.status_code, ready.json()["log"]) == (503, "the database was replaced while it was in use")
    assert (len(rows), recording) == (1, 0)


def test_what_is_under_way_when_the_service_stops_is_kept(tmp_path: Path) -> None:
    """A delivery that came before SIGTERM gets its answer, and what that says is so."""
    settings = settings_in(tmp_path)
    with running(settings) as service:
        sender = service.add_source()
        with service.connect() as connection:
            with service.records.database.write():
                connection.sendall(sender.request(revoked()))
                until(lambda: service.metric("rescind_batch_size_count") == 1)
                service.stop()
            (reply,) = replies(read_all(connection))
    records = Records.open(settings)
    entry = records.tenant("default").log.entry(reply.json["log_index"])
    records.close()

    assert (reply.status, reply.json["status"]) == (200, "recorded")
    assert leaf_hash(entry).hex() == reply.json["leaf_hash"]
