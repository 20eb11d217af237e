"""Answers that cannot be recorded when they come: the caller gets them all the same, and they are recorded later.

Until then they are in a file each, and survive whatever becomes of the service.
"""

import dataclasses
import errno
import logging
import os
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

import receiver.records.engine
from receiver.events import new_id
from receiver.intake.submission import Outcome, Submission
from receiver.records.opening import Records
from receiver.records.pending import FOLDER, Held, Pending
from receiver.records.tables import deliveries
from receiver.settings import Settings
from tests.postgres import Cluster
from tests.receiver.operations import EXAMPLES
from tests.receiver.passed_on import as_json
from tests.receiver.relays import (
    CREDENTIALS,
    Lock,
    Operator,
    answer,
    doing,
    faults_found,
    mortal,
    new_operator,
    out_of_reach,
    saying,
    standing,
    without_acknowledgement,
)
from tests.receiver.service import PATIENCE, Service, problem, running, settings_in, until
from tests.receiver.upstreams import Connection
from tests.translog import faults

DONE = as_json(EXAMPLES["truthlocks"].answer)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service on SQLite that waits a fifth of a second for another process that writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiver.records.engine, "BUSY_TIMEOUT_MS", 200)
        with running(settings_in(tmp_path_factory.mktemp("impatient"))) as service:
            yield service


def files(settings: Settings) -> list[Path]:
    """What waits to be recorded."""
    return sorted((settings.data / FOLDER).glob("*"))


def must_be_pending(operator: Operator, response: httpx2.Response) -> str:
    """The answer says that it is not recorded yet, and is not; the attempt's id."""
    assert response.headers["x-rescind-recorded"] == "pending"
    assert not {"x-rescind-event", "x-rescind-log-index"} & set(response.headers)
    attempt_id = response.headers["x-rescind-attempt"]
    assert operator.told_of(attempt_id)["outcome"] == "in_progress"
    return attempt_id


# ---- later ----------------------------------------------------------------------------------------------------------

ANSWERS = {
    "recorded": (200, DONE),
    "refused": (409, b'{"code":"CONFLICT"}'),
    "quarantined": (200, b"no JSON"),
}
"""What becomes of an answer, with that status and body."""


@pytest.mark.parametrize("outcome", ANSWERS)
def test_an_answer_is_recorded_once_the_database_can_be_written(service: Service, outcome: str) -> None:
    """The caller has the provider's answer meanwhile, byte for byte: told of a failure, it would only call again."""
    status, body = ANSWERS[outcome]
    settings, lock = service.records.settings, Lock(service.records.settings.data)
    headers = [("set-cookie", "a=1"), ("x-request-id", "r"), ("set-cookie", "b=2")]
    with standing(doing(lock.hold, answer(status, body, headers))) as there:
        operator = new_operator(service, "truthlocks", there.url)
        pending = operator.counted("pending")
        response = operator.call()
        attempt_id = must_be_pending(operator, response)
        [file] = files(settings)
        kept, modes = file.read_bytes(), (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777)
        waiting = service.metric("rescind_relay_pending")
        lock.free()
        until(lambda: operator.outcomes() == [outcome])
        until(lambda: files(settings) == [])

    assert (response.status_code, response.content) == (status, body)
    assert response.headers.multi_items()[:3] == headers
    assert (file.name, modes, waiting) == (f"{attempt_id}.answer", (0o600, 0o700), 1)
    assert body not in kept
    assert EXAMPLES["truthlocks"].path["id"].encode() not in kept
    [told] = operator.told()
    assert (told.body, operator.attempt().status) == (body, status)
    assert told.received_at < told.logged_at
    until(lambda: service.metric("rescind_relay_pending") == 0)
    assert operator.counted("pending") == pending + 1
    assert faults_found(service) == []


def test_that_nothing_was_sent_is_recorded_later_as_well(service: Service) -> None:
    """The caller is told that nothing was done, and that it is not recorded yet."""
    lock = Lock(service.records.settings.data)

    async def refuse(connection: Connection) -> None:
        await connection.reader.read(65536)
        lock.hold()
        await connection.say(b"no TLS here")

    with standing(refuse) as there:
        operator = new_operator(service, "truthlocks", there.url.replace("http:", "https:"))
        response = operator.call()
        must_be_pending(operator, response)
        lock.free()
        until(lambda: operator.outcomes() == ["not_sent"])

    assert (response.status_code, problem(response)["details"]["reason"]) == (502, "unreachable")


def test_an_answer_without_a_body_is_recorded_later_as_well(service: Service) -> None:
    """It is in a file like any other."""
    lock = Lock(service.records.settings.data)
    with standing(doing(lock.hold, answer(403))) as there:
        operator = new_operator(service, "truthlocks", there.url)
        must_be_pending(operator, operator.call())
        lock.free()
        until(lambda: operator.outcomes() == ["refused"])

    assert operator.told()[0].body == b""


@pytest.mark.parametrize(
    ("moment", "statement", "which"), [("before", "INSERT INTO deliveries", 2), ("after", "UPDATE attempts", 1)]
)
@pytest.mark.parametrize("outcome", ANSWERS)
def test_an_answer_that_is_half_written_is_written_again(
    either_service: Service, outcome: str, moment: faults.Moment, statement: str, which: int
) -> None:
    """Nothing of the half is left: one entry tells of the call."""
    with standing(saying(*ANSWERS[outcome])) as there:
        operator = new_operator(either_service, "truthlocks", there.url)
        with faults.at(either_service.records.database, moment, statement, which, out_of_reach):
            response = operator.call()
        until(lambda: operator.outcomes() == [outcome])

    assert (response.status_code, response.headers["x-rescind-recorded"]) == (ANSWERS[outcome][0], "pending")
    assert len(operator.told()) == 1
    assert faults_found(either_service) == []


@pytest.mark.parametrize("outcome", ANSWERS)
def test_an_answer_that_was_written_after_all_is_not_written_again(either_service: Service, outcome: str) -> None:
    """The commit was done and its acknowledgement lost: the second time it is found, and nothing is added."""
    database, settings = either_service.records.database, either_service.records.settings
    with standing(saying(*ANSWERS[outcome])) as there, without_acknowledgement(database, "UPDATE attempts"):
        operator = new_operator(either_service, "truthlocks", there.url)
        response = operator.call()
        until(lambda: files(settings) == [])

    assert response.headers["x-rescind-recorded"] == "pending"
    assert operator.outcomes() == [outcome]
    assert len(operator.told()) == 1
    assert faults_found(either_service) == []


def test_with_postgresql_away_the_caller_has_the_answer(postgresql: Cluster, tmp_path: Path) -> None:
    """It went away between the intent and the answer; once it is back, the answer is recorded."""
    name = postgresql.create_database()

    def go_away() -> None:
        postgresql.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    settings = settings_in(tmp_path, database_url=postgresql.url(name))
    with running(settings) as service, standing(doing(go_away, answer(200, DONE))) as there:
        operator = new_operator(service, "truthlocks", there.url)
        response = operator.call()
        kept = len(files(settings))
        postgresql.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        until(lambda: operator.outcomes() == ["recorded"])
        found = faults_found(service)
    postgresql.drop_database(name)

    assert (response.status_code, response.content, kept) == (200, DONE, 1)
    assert (response.headers["x-rescind-recorded"], found) == ("pending", [])


# ---- by the next one ------------------------------------------------------------------------------------------------


def test_an_answer_that_the_service_can_no_longer_record_is_recorded_by_the_next(settings: Settings) -> None:
    """Recording was stopped between the intent and the answer, and the service was stopped in order then."""
    running_now: list[Service] = []

    def halt() -> None:
        running_now[0].intake.recorder.halt("the database was replaced while it was in use")

    with standing(doing(halt, answer(200, DONE))) as there:
        with running(settings) as service:
            running_now.append(service)
            operator = new_operator(service, "truthlocks", there.url)
            must_be_pending(operator, operator.call())
        kept = len(files(settings))
        with running(settings) as service:
            operator = dataclasses.replace(operator, service=service)
            until(lambda: operator.outcomes() == ["recorded"])
            until(lambda: files(settings) == [])
            assert faults_found(service) == []

    assert (kept, len(there.came)) == (1, 1)


@pytest.mark.parametrize("outcome", ANSWERS)
def test_an_answer_survives_a_service_that_dies(settings: Settings, outcome: str) -> None:
    """It was durable before the caller had it, and is recorded by the next service."""
    with standing(saying(*ANSWERS[outcome])) as there:
        with running(settings) as service:
            operator = new_operator(service, "truthlocks", there.url)
        sent = {"x-rescind-key": operator.key, **CREDENTIALS["truthlocks"]}
        with mortal(settings, "pending") as url:
            response = httpx2.post(url + operator.path, content=operator.body, headers=sent, timeout=PATIENCE)
        kept = len(files(settings))
        with running(settings) as service:
            operator = dataclasses.replace(operator, service=service)
            until(lambda: operator.outcomes() == [outcome])
            until(lambda: files(settings) == [])
            assert faults_found(service) == []

    assert (response.content, response.headers["x-rescind-recorded"], kept) == (ANSWERS[outcome][1], "pending", 1)
    assert len(there.came) == 1


# ---- what goes wrong with what is held ------------------------------------------------------------------------------


def test_without_a_file_an_answer_is_kept_in_memory(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full: the caller has the answer all the same, and it is recorded if the service lives."""
    lock = Lock(service.records.settings.data)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with standing(doing(lock.hold, answer(200, DONE))) as there:
        operator = new_operator(service, "truthlocks", there.url)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            response = operator.call()
        must_be_pending(operator, response)
        [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
        lock.free()
        until(lambda: operator.outcomes() == ["recorded"])

    assert (response.content, said.endswith(os.strerror(errno.ENOSPC))) == (DONE, True)
    assert "is kept in memory only" in said


def test_whatever_goes_wrong_the_caller_has_the_answer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody thought of it."""
    record, failed = service.intake.recorder.record, list[Submission]()

    async def fail_once(submission: Submission) -> Outcome:
        if there.came and not failed:
            failed.append(submission)
            raise RuntimeError("a fault of ours")
        return await record(submission)

    monkeypatch.setattr(service.intake.recorder, "record", fail_once)
    with standing(saying(200, DONE)) as there:
        operator = new_operator(service, "truthlocks", there.url)
        response = operator.call()
        until(lambda: operator.outcomes() == ["recorded"])

    assert (response.status_code, response.content, len(failed)) == (200, DONE, 1)
    assert response.headers["x-rescind-recorded"] == "pending"


def test_an_answer_that_the_database_does_not_take_as_an_event(either_service: Service) -> None:
    """It is in quarantine, whole, and that is the call's outcome."""
    with standing(saying(200, DONE)) as there:
        operator = new_operator(either_service, "truthlocks", there.url)
        with faults.at(either_service.records.database, "before", "INSERT INTO deliveries", 2):
            response = operator.call()

    [told] = operator.told()
    assert (told.kind, told.reason, told.body) == ("quarantine", "unrecordable", DONE)
    assert (response.content, response.headers["x-rescind-event"]) == (DONE, told.id)
    assert operator.outcomes() == ["quarantined"]


def hold(operator: Operator, settings: Settings, status: int = 409) -> str:
    """Have a call made of which the answer is unknown, and then an answer to it in its file, by hand; the attempt."""
    operator.call()
    attempt_id = operator.attempts()[-1].id
    held = Held(attempt_id, "default", operator.source_id, status, b"{}", datetime.now(UTC))
    records = Records.inspect(settings)
    Pending(settings.data / FOLDER, records.vault).put(held)
    records.close()
    return attempt_id


def test_a_file_that_cannot_be_read_stays_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Flipped, cut, renamed or another's: it is told to the log, and is in nobody's way."""
    settings = settings_in(tmp_path)
    with standing(saying(500)) as there, running(settings) as service:
        operator = new_operator(service, "truthlocks", there.url)
        ids = [hold(operator, settings) for _ in range(4)]
    folder = settings.data / FOLDER
    good, flipped, cut, renamed = (folder / f"{attempt_id}.answer" for attempt_id in ids)
    flipped.write_bytes(flipped.read_bytes()[:-1] + bytes([flipped.read_bytes()[-1] ^ 1]))
    cut.write_bytes(b"")
    renamed.rename(folder / f"{new_id()}.answer")
    (folder / "half.new").write_bytes(b"of one that was being written")
    left = {path for path in files(settings) if path != good and path.suffix == ".answer"}
    with running(settings) as service:
        operator = dataclasses.replace(operator, service=service)
        until(lambda: operator.outcomes() == ["refused", None, None, None])
        until(lambda: not good.exists())

    assert set(files(settings)) == left
    assert len([record for record in caplog.records if "cannot be read, so it is not recorded" in record.message]) == 3


def test_one_that_cannot_be_recorded_is_in_nobodys_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its source is of a provider that this version does not know, or its intent is erased: the others are recorded.

    All are tried again and again, and each is told to the log once.
    """
    settings, insert = settings_in(tmp_path), "INSERT INTO deliveries"
    gone = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    with standing(saying(500)) as there, running(settings) as service:
        foreign, erased, good = (new_operator(service, "truthlocks", there.url) for _ in range(3))
        ids = [hold(operator, settings) for operator in (foreign, erased, good)]
        foreign.change_source(provider="unheard of")
        with service.records.database.write() as tx:
            tx.execute(sa.update(deliveries).where(deliveries.c.id == ids[1]).values(**gone))
    with (
        running(settings) as service,
        faults.at(service.records.database, "before", insert, 1, out_of_reach) as met,
        faults.at(service.records.database, "before", insert, 1, out_of_reach),
    ):
        good = dataclasses.replace(good, service=service)
        until(lambda: good.outcomes() == ["refused"])
        until(lambda: len(files(settings)) == 2)
    told = [record.getMessage() for record in caplog.records if "is not recorded yet" in record.getMessage()]

    assert len(met) == 3
    assert sorted(message.split()[5] for message in told) == sorted(ids)


def test_what_is_recorded_already_is_forgotten(tmp_path: Path) -> None:
    """The service died after it was recorded, and before its file was removed: nothing is added."""
    settings = settings_in(tmp_path)
    with standing(saying(409, b"{}")) as there, running(settings) as service:
        operator = new_operator(service, "truthlocks", there.url)
        hold(operator, settings)
        rows = operator.rows()
    with running(settings) as service:
        operator = dataclasses.replace(operator, service=service)
        until(lambda: files(settings) == [])
        assert operator.rows() == rows
        assert faults_found(service) == []
