"""What those on call are told: alive, ready or why not, and numbers."""

from collections.abc import Generator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from receiver import publishing
from tests.receiver.service import Service, problem, revoked, running, settings_in, until

READY = {"status": "ok", "database": "ok", "log": "ok", "published": "ok", "guard": "ok", "issuer_logs": "ok"}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that keeps its metrics to those with a key."""
    with running(settings_in(tmp_path_factory.mktemp("closed"), public_metrics=False)) as service:
        yield service


def test_it_is_alive(service: Service) -> None:
    """The process answers."""
    answer = service.client.get("/health/live")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_ready(either_service: Service) -> None:
    """Every check is ok; nobody may cache that."""
    answer = either_service.client.get("/health/ready")

    assert (answer.status_code, answer.json(), answer.headers["cache-control"]) == (200, READY, "no-store")


def unready(service: Service) -> dict[str, str]:
    """What readiness says is wrong, and nothing else."""
    answer = service.client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"], answer.headers["cache-control"]) == (
        503,
        "not ready",
        "no-store",
    )
    return {name: said for name, said in answer.json().items() if said != "ok" and name != "status"}


def test_without_its_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, while it is away; and once an entry has been waiting for its checkpoint for too long, that as well."""
    monkeypatch.setattr(publishing, "UNPUBLISHED_FOR_TOO_LONG", 0.3)
    with running(settings_in(tmp_path)) as service:
        service.until_published()
        (tmp_path / "guard").rename(tmp_path / "away")
        absent = unready(service)
        (tmp_path / "guard").write_bytes(b"")
        sender = service.add_source()
        unreadable = unready(service)
        recorded = sender.post(revoked()).status_code
        until(lambda: "published" in unready(service))
        overdue = unready(service)
        (tmp_path / "guard").unlink()
        (tmp_path / "away").rename(tmp_path / "guard")
        until(lambda: service.client.get("/health/ready").json() == READY)

    assert absent == {"guard": f"default (not known to {tmp_path / 'guard'})"}
    assert list(unreadable) == ["guard"]
    assert "cannot be read" in unreadable["guard"]
    assert recorded == 200
    assert list(overdue) == ["published", "guard"]
    assert overdue["published"].startswith("entries unpublished for over 10 s: default (StoreError: the guard file")


def test_a_guard_that_was_tampered_with(tmp_path: Path) -> None:
    """A file that does not hold a checkpoint of the log is never taken for none."""
    with running(settings_in(tmp_path)) as service:
        service.until_published()
        (file,) = (tmp_path / "guard").glob("*.checkpoint")
        note = file.read_bytes()
        file.write_bytes(note.replace(b"\n", b" \n", 1))
        said = unready(service)
        file.write_bytes(note)

    assert "does not hold a checkpoint of example.com/rescind/log/default" in said["guard"]


def test_while_recording_is_halted(tmp_path: Path) -> None:
    """503 with the reason, which an operator may act on."""
    with running(settings_in(tmp_path)) as service:
        service.intake.recorder.halt("other entries stand where signed ones stood")
        said = unready(service)

    assert said == {"log": "other entries stand where signed ones stood"}


def test_when_the_database_is_away(tmp_path: Path) -> None:
    """503 with the kind of error, and nothing of the database's address or password."""
    with running(settings_in(tmp_path)) as service:
        pool = service.records.database.engine.pool
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "connect", refuse)
            said = unready(service)
        until(lambda: service.client.get("/health/ready").status_code == 200)

    assert said["database"] == "OperationalError"


def refuse() -> None:
    """A database that takes no connection."""
    raise OperationalError("connect", {}, Exception("password=hunter2 was refused"))


def test_metrics_count_what_became_of_deliveries(service: Service) -> None:
    """In Prometheus' own format, by provider and status; no source or item is named."""
    sender = service.add_source()
    body = revoked()
    for _ in range(2):
        sender.post(body)
    sender.post(body, headers={"webhook-id": "x"})
    size = service.until_published()
    until(lambda: service.metric("rescind_log_published_size", tenant="default") == size)

    answer = service.client.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["rescind_deliveries_total", "recorded", "truthlocks"] >= 1
    assert samples["rescind_deliveries_total", "duplicate", "truthlocks"] >= 1
    assert samples["rescind_deliveries_total", "refused:wrong_signature", "truthlocks"] >= 1
    assert samples["rescind_log_size", "default"] == samples["rescind_log_published_size", "default"] == size
    assert samples["rescind_batch_size_count",] >= 1
    assert samples["rescind_recording",] == 1
    assert samples["rescind_waiting",] == 0
    assert sender.source_id not in answer.text


@pytest.mark.parametrize("path", ["/health/ready", "/metrics", "/schema/openapi.json"])
def test_what_is_closed_needs_a_key(closed: Service, path: str) -> None:
    """With the scope `operate`; whether the process is alive is told to everybody."""
    assert closed.client.get(path).status_code == 401
    refused = closed.client.get(path, headers=closed.key("audit,admin"))
    assert (refused.status_code, problem(refused)["details"]) == (403, {"scope": "operate"})
    assert closed.client.get(path, headers=closed.key("operate")).status_code == 200
    assert closed.client.get("/health/live").status_code == 200
