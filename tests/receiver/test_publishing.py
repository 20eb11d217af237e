"""The publisher: what it signs, who waits for it, and what it says when it cannot."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver import publishing
from receiver.events import Kind
from receiver.metrics import Metrics
from receiver.publishing import Publisher
from receiver.records.journal import change
from receiver.records.opening import Records
from receiver.settings import Settings
from tests.receiver.service import Service, revoked, running, settings_in, until
from translog.log import Log
from translog.store import logs

INTERVAL = 0.1


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings that publish ten times a second."""
    return settings.model_copy(update={"publish_interval": INTERVAL})


def log_one(records: Records, tenant: str = "default") -> int:
    """Log an entry; its index."""
    with change(records.database, records.ensure_tenant(tenant).log) as changing:
        changing.tell(Kind.TENANT, {"action": "counted", "by": "test", "id": "x"})
        return changing.head.size


def log_of(records: Records) -> Log:
    """The log of the tenant `default`."""
    return records.tenant("default").log


def with_publisher(records: Records, play: Callable[[Publisher, list[str]], Awaitable[None]]) -> None:
    """Play something on a loop with a publisher, and the list of what it halts recording for."""

    async def main() -> None:
        halted: list[str] = []
        await play(Publisher(records, Metrics(), halted.append), halted)

    asyncio.run(main())


def test_it_publishes_every_log_that_has_grown(records: Records) -> None:
    """Of each tenant; one without anything new is left as it is."""
    first, second = log_one(records), log_one(records, "second")

    async def play(publisher: Publisher, halted: list[str]) -> None:
        await publisher.publish()
        assert log_of(records).published_size == first + 1
        assert records.tenant("second").log.published_size == second + 1
        note = log_of(records).published.note
        await publisher.publish()
        assert log_of(records).published.note == note
        assert (publisher.failures, publisher.overdue(), halted) == ({}, [], [])

    with_publisher(records, play)


def test_it_goes_on_publishing(records: Records) -> None:
    """Once an interval, what has come since."""

    async def play(publisher: Publisher, _: list[str]) -> None:
        running = asyncio.create_task(publisher.run())
        for number in range(3):
            index = await asyncio.to_thread(log_one, records)
            async with asyncio.timeout(10):
                while not await publisher.wait_for(log_of(records), index):
                    pass
            assert log_of(records).published_size == index + 1, number
        running.cancel()

    with_publisher(records, play)


def test_many_may_wait_for_it(records: Records) -> None:
    """For different entries; one checkpoint lets all of them go on."""

    async def play(publisher: Publisher, _: list[str]) -> None:
        publisher.interval = 60.0
        indexes = [log_one(records) for _ in range(20)]
        waiting = [asyncio.create_task(publisher.wait_for(log_of(records), index)) for index in indexes]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await publisher.publish()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [True] * 20

    with_publisher(records, play)


def test_what_is_published_is_not_waited_for(records: Records) -> None:
    """Not a moment."""

    async def play(publisher: Publisher, _: list[str]) -> None:
        index = log_one(records)
        await publisher.publish()
        assert await asyncio.wait_for(publisher.wait_for(log_of(records), index), INTERVAL)

    with_publisher(records, play)


def test_it_is_waited_for_two_seconds(records: Records) -> None:
    """And no longer, where two intervals are less."""

    async def play(publisher: Publisher, _: list[str]) -> None:
        index = log_one(records)
        began = time.monotonic()
        assert not await publisher.wait_for(log_of(records), index)
        assert 2 <= time.monotonic() - began < 20

    with_publisher(records, play)


def test_another_receivers_checkpoint_is_picked_up(records: Records, settings: Settings) -> None:
    """It does not matter which of them signs."""
    other = Records.open(settings)

    async def play(publisher: Publisher, _: list[str]) -> None:
        index = log_one(records)
        other.tenant("default").log.publish()
        assert log_of(records).published_size <= index
        await publisher.publish()
        assert log_of(records).published.note == other.tenant("default").log.published.note

    try:
        with_publisher(records, play)
    finally:
        other.close()


def test_without_its_guard_nothing_is_published(
    records: Records, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, halts nothing, and goes on by itself once the guard is back."""
    monkeypatch.setattr(publishing, "UNPUBLISHED_FOR_TOO_LONG", 0.0)
    away = settings.guard.with_name("away")

    async def play(publisher: Publisher, halted: list[str]) -> None:
        await publisher.publish()
        before = log_of(records).published_size
        index = log_one(records)
        settings.guard.rename(away)
        settings.guard.write_bytes(b"")
        for _ in range(2):
            await publisher.publish()
        assert log_of(records).published_size == before
        assert publisher.overdue() == ["default"]
        assert "guard" in publisher.failures["default"]
        settings.guard.unlink()
        away.rename(settings.guard)
        await publisher.publish()
        assert log_of(records).published_size == index + 1
        assert (publisher.failures, publisher.overdue(), halted) == ({}, [], [])

    with_publisher(records, play)


def test_a_failure_that_is_over_is_forgotten(
    records: Records, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing was waiting to be published: no entry is overdue then."""
    monkeypatch.setattr(publishing, "UNPUBLISHED_FOR_TOO_LONG", 0.0)
    away = settings.guard.with_name("away")

    async def play(publisher: Publisher, _: list[str]) -> None:
        await publisher.publish()
        settings.guard.rename(away)
        settings.guard.write_bytes(b"")
        await publisher.publish()
        settings.guard.unlink()
        away.rename(settings.guard)
        await publisher.publish()
        assert (publisher.failures, publisher.overdue()) == ({}, [])

    with_publisher(records, play)


def test_an_idle_log_is_looked_at_now_and_then(
    records: Records, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it stands as it did it is passed over; what its guard says is asked again after a while."""
    monkeypatch.setattr(publishing, "LOOKED_AGAIN", 60.0)

    async def play(publisher: Publisher, halted: list[str]) -> None:
        for _ in range(3):
            await publisher.publish()
        settings.guard.rename(settings.guard.with_name("away"))
        settings.guard.write_bytes(b"")
        await publisher.publish()
        assert publisher.failures == {}
        monkeypatch.setattr(publishing, "LOOKED_AGAIN", 0.0)
        await publisher.publish()
        assert "guard" in publisher.failures["default"]
        assert halted == []

    with_publisher(records, play)


def test_a_database_out_of_reach_is_no_reason_to_halt(records: Records) -> None:
    """The next second may do better."""

    async def play(publisher: Publisher, halted: list[str]) -> None:
        await publisher.publish()
        index = log_one(records)
        rename(records, "log_published", "away")
        await publisher.publish()
        assert (list(publisher.failures), halted) == (["default"], [])
        rename(records, "away", "log_published")
        await publisher.publish()
        assert log_of(records).published_size == index + 1
        assert publisher.failures == {}

    with_publisher(records, play)


def rename(records: Records, old: str, new: str) -> None:
    """Rename a table: for what uses it, the database is out of order."""
    with records.database.write() as tx:
        tx.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))


def test_a_log_that_regressed_halts_recording(records: Records) -> None:
    """With the reason, and nothing is signed any more."""

    async def play(publisher: Publisher, halted: list[str]) -> None:
        for _ in range(3):
            log_one(records)
        for _ in range(3):  # the last one passes it over
            await publisher.publish()
        note = log_of(records).published.note
        with records.database.write() as tx:
            tx.execute(sa.update(logs).values(size=1))
        await publisher.publish()
        assert len(halted) == 1
        assert "but its guard has a checkpoint of" in halted[0]
        assert log_of(records).published.note == note

    with_publisher(records, play)


def test_a_damaged_log_halts_recording(records: Records) -> None:
    """An entry that does not give the root of its head is never signed for."""

    async def play(publisher: Publisher, halted: list[str]) -> None:
        await publisher.publish()
        index = log_one(records)
        with records.database.write() as tx:
            tx.execute(sa.text('UPDATE log_entries SET data = :data WHERE "index" = :at'), {"data": b"x", "at": index})
        await publisher.publish()
        assert len(halted) == 1
        assert "receiver fsck" in halted[0]
        assert log_of(records).published_size == index

    with_publisher(records, play)


# ---- in the service -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that tests may put back: the last of these."""
    with running(settings_in(tmp_path_factory.mktemp("put-back"))) as service:
        yield service


def test_a_database_put_back_under_a_running_service(service: Service) -> None:
    """Within an interval nothing is acknowledged any more, and readiness says why and what to do."""
    sender = service.add_source()
    for _ in range(3):
        assert sender.post(revoked()).status_code == 200
    service.until_published()
    with service.records.database.write() as tx:
        tx.execute(sa.update(logs).values(size=2))

    until(lambda: service.client.get("/health/ready").status_code == 503)

    answer, ready = sender.post(revoked()), service.client.get("/health/ready").json()
    assert answer.status_code == 503
    assert "receiver recover" in ready["log"]
    assert "/health/ready says why" in answer.json()["detail"]
    assert service.metric("rescind_recording") == 0
    assert service.metric("rescind_publish_failures_total", tenant="default") >= 1
    assert service.client.get("/log/default/checkpoint").status_code == 200


def test_its_last_checkpoint_covers_everything(tmp_path: Path) -> None:
    """A service that stops in order publishes what it has recorded, its own last tally included."""
    settings = settings_in(tmp_path, publish_interval=60)
    with running(settings) as service:
        service.add_source().post(revoked())
        assert service.tenant.log.published_size < service.size()
    records = Records.open(settings)
    sizes = records.tenant("default").log.published_size, records.tenant("default").log.head().size
    records.close()

    assert sizes[0] == sizes[1]
