"""The recorder: whatever waits is written together, nobody pays for a neighbour, and what fails is not acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

import receiver.records.engine
from receiver.events import new_id
from receiver.intake import recorder as module
from receiver.intake.recorder import MAX_BATCH, Recorder, Unavailable
from receiver.intake.submission import Outcome, Submission
from receiver.metrics import Metrics
from receiver.records.opening import Records
from tests.receiver.service import revoked
from tests.receiver.submissions import Source, altered, held, new_sources
from tests.translog import faults
from translog.store import logs


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that are opened from here on wait for a lock for a fifth of a second."""
    monkeypatch.setattr(receiver.records.engine, "BUSY_TIMEOUT_MS", 200)
    monkeypatch.setattr(receiver.records.engine, "LOCK_TIMEOUT_MS", 200)


@pytest.fixture
def source(records: Records) -> Source:
    """A source of the tenant `default`."""
    return new_sources(records, "default")[0]


class Played:
    """A recorder on a running loop, and what a test asks of it."""

    def __init__(self, recorder: Recorder, metrics: Metrics) -> None:
        self.recorder = recorder
        self._metrics = metrics

    def metric(self, name: str) -> float:
        """What Prometheus is told."""
        return self._metrics.registry.get_sample_value(name) or 0.0

    def record(self, *submissions: Submission) -> list[asyncio.Task[Outcome]]:
        """Hand these over, in order."""
        return [asyncio.create_task(self.recorder.record(submission)) for submission in submissions]

    async def outcomes(self, *submissions: Submission) -> list[str]:
        """What becomes of these, handed over together: a status, or why they are not kept."""
        results = await asyncio.gather(*self.record(*submissions), return_exceptions=True)
        return [one.status.value if isinstance(one, Outcome) else str(one) for one in results]

    async def until(self, name: str, value: float) -> None:
        """Wait until a metric has that value."""
        async with asyncio.timeout(10):
            while self.metric(name) != value:  # noqa: ASYNC110  (a metric has no event)
                await asyncio.sleep(0.002)


def play(records: Records, story: Callable[[Played], Awaitable[None]], queue: int = 4096) -> None:
    """Play something with a recorder, which is stopped at the end."""

    async def main() -> None:
        metrics = Metrics()
        recorder = Recorder(records, queue, metrics)
        recorder.start()
        try:
            await story(Played(recorder, metrics))
        finally:
            await recorder.stop()

    asyncio.run(main())


def bodies(source: Source, count: int) -> list[Submission]:
    """So many different deliveries."""
    return [source.submission(revoked(f"r{number}")) for number in range(count)]


def test_what_waits_is_written_together(records: Records, source: Source) -> None:
    """While one batch is being written the next one gathers; each gets its own answer."""

    async def story(played: Played) -> None:
        with held(records, source.log_id):
            first = played.record(source.submission(revoked("first")))
            await played.until("rescind_batch_size_count", 1)
            waiting = played.record(*bodies(source, 10))
            await played.until("rescind_waiting", 10)
        outcomes = [await task for task in (*first, *waiting)]
        assert [outcome.log_index for outcome in outcomes] == list(range(2, 13))
        assert (played.metric("rescind_batch_size_count"), played.metric("rescind_batch_size_sum")) == (2, 11)

    play(records, story)
    assert [row.log_index for row in source.rows()] == list(range(2, 13))


def test_a_batch_has_its_limit(records: Records, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait; and nothing is left behind."""
    monkeypatch.setattr(module, "MAX_BATCH", 8)

    async def story(played: Played) -> None:
        assert await played.outcomes(*bodies(source, 50)) == ["recorded"] * 50
        assert played.metric("rescind_batch_size_count") >= 50 / 8
        assert played.metric("rescind_batch_size_sum") == 50

    play(records, story)
    assert MAX_BATCH == 512
    assert len(source.rows()) == 50


@pytest.mark.parametrize("poison", ["surrogate", "nul", "no source"])
def test_a_poisoned_delivery_costs_no_other(records: Records, source: Source, poison: str) -> None:
    """The others of its batch are recorded; it is kept in quarantine as bytes, or told to be kept nowhere."""
    submission = source.submission(revoked("poisoned"))
    assert submission.event is not None
    match poison:
        case "surrogate":
            submission = altered(submission, event=altered(submission.event, type="receipt.\ud800"))
            expected = "quarantined"
        case "nul":
            submission = altered(submission, event=altered(submission.event, type="receipt.\0"))
            expected = "recorded" if records.database.is_sqlite else "quarantined"  # SQLite keeps it
        case _:
            submission = altered(submission, source_id=new_id())
            expected = "this delivery cannot be kept"
    batch = bodies(source, 6)
    batch[3:3] = [submission]

    async def story(played: Played) -> None:
        with held(records, source.log_id):
            gate = played.record(source.submission(revoked("gate")))
            await played.until("rescind_batch_size_count", 1)
            waiting = played.record(*batch)
            await played.until("rescind_waiting", 7)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert (await gate[0]).status == "recorded"
        told = [one.status.value if isinstance(one, Outcome) else str(one) for one in results]
        assert told == ["recorded"] * 3 + [expected] + ["recorded"] * 3
        if expected == "quarantined":
            assert isinstance(results[3], Outcome)
            assert results[3].reason == "unrecordable"

    play(records, story)
    kept = [row.body for row in source.rows()]
    assert [one.body in kept for one in batch] == [True] * 3 + [expected != "this delivery cannot be kept"] + [True] * 3
    if expected == "quarantined":
        assert [(row.kind, row.reason) for row in source.rows() if row.body == submission.body] == [
            ("quarantine", "unrecordable")
        ]
    source.leaves()


@pytest.mark.usefixtures("impatient")
def test_a_database_out_of_reach(records: Records, source: Source) -> None:
    """Unavailable for all that wait, and nothing of them is kept; the next one is, once it is back."""

    async def story(played: Played) -> None:
        with held(records, source.log_id):
            assert set(await played.outcomes(*bodies(source, 5))) == {"the database is out of reach"}
        assert source.rows() == []
        assert played.recorder.refusal is None
        assert await played.outcomes(*bodies(source, 5)) == ["recorded"] * 5

    play(records, story)
    assert len(source.rows()) == 5


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_whose_outcome_is_unknown(records: Records, source: Source, moment: faults.Moment) -> None:
    """Unavailable; and what the sender's next attempt is told is true: duplicate if it was kept, else recorded."""

    def connection_lost() -> None:
        raise OperationalError("COMMIT", {}, Exception("the connection was lost"))

    async def story(played: Played) -> None:
        with faults.at(records.database, moment, "COMMIT", happens=connection_lost) as met:
            assert await played.outcomes(*bodies(source, 1)) == ["the database is out of reach"]
        assert met
        kept = len(source.rows())
        assert kept == (1 if moment == "after" else 0)
        again = await played.outcomes(*bodies(source, 2))
        assert again == ["duplicate" if kept else "recorded", "recorded"]

    play(records, story)
    assert [row.log_index for row in source.rows()] == [2, 3]
    source.leaves()


def test_a_log_that_regressed_stops_it_for_good(records: Records, source: Source) -> None:
    """Nothing more is written, whatever the database looks like afterwards."""

    def resize(change: int) -> None:
        with records.database.write() as tx:
            tx.execute(sa.update(logs).where(logs.c.id == source.log_id).values(size=logs.c.size + change))

    async def story(played: Played) -> None:
        assert await played.outcomes(*bodies(source, 3)) == ["recorded"] * 3
        resize(-2)
        refused = await played.outcomes(source.submission(revoked("a")), source.submission(revoked("b")))
        assert set(refused) == {"recording has stopped; /health/ready says why"}
        assert "the database was replaced while it was in use" in (played.recorder.refusal or "")
        assert played.metric("rescind_recording") == 0
        resize(2)
        assert await played.outcomes(source.submission(revoked("c"))) == [refused[0]]

    play(records, story)
    assert len(source.rows()) == 3


def test_what_waits_when_it_is_halted_is_not_written(records: Records, source: Source) -> None:
    """The publisher may find out while a batch gathers."""

    async def story(played: Played) -> None:
        with held(records, source.log_id):
            first = played.record(source.submission(revoked("first")))
            await played.until("rescind_batch_size_count", 1)
            waiting = played.record(*bodies(source, 3))
            await played.until("rescind_waiting", 3)
            played.recorder.halt("the log was forked")
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in results)
        await asyncio.gather(*first, return_exceptions=True)
        assert played.recorder.refusal == "the log was forked"

    play(records, story)
    assert {row.body for row in source.rows()} <= {revoked("first")}


def test_the_queue_is_bounded(records: Records, source: Source) -> None:
    """One too many is turned away at once; those in the queue are not the worse for it."""

    async def story(played: Played) -> None:
        with held(records, source.log_id):
            first = played.record(source.submission(revoked("first")))
            await played.until("rescind_batch_size_count", 1)
            waiting = played.record(*bodies(source, 3))
            await played.until("rescind_waiting", 3)
            with pytest.raises(Unavailable, match="too many deliveries are waiting"):
                await played.recorder.record(source.submission(revoked("too many")))
        outcomes = await asyncio.gather(*first, *waiting)
        assert [outcome.status.value for outcome in outcomes] == ["recorded"] * 4

    play(records, story, queue=3)
    assert len(source.rows()) == 4


def test_a_sender_that_does_not_wait(records: Records, source: Source) -> None:
    """What it delivered is kept, and its neighbours get their answers."""

    async def story(played: Played) -> None:
        with held(records, source.log_id):
            first = played.record(source.submission(revoked("first")))
            await played.until("rescind_batch_size_count", 1)
            waiting = played.record(*bodies(source, 3))
            await played.until("rescind_waiting", 3)
            waiting[1].cancel()
        outcomes = await asyncio.gather(*first, *waiting, return_exceptions=True)
        assert isinstance(outcomes[2], asyncio.CancelledError)
        assert [one.status.value for one in outcomes if isinstance(one, Outcome)] == ["recorded"] * 3
        assert await played.outcomes(*bodies(source, 3)) == ["duplicate"] * 3

    play(records, story)
    assert len(source.rows()) == 4


def test_stopping_writes_what_waits(records: Records, source: Source) -> None:
    """All of it is kept and answered; what comes later is turned away."""

    async def story(played: Played) -> None:
        with held(records, source.log_id):
            first = played.record(source.submission(revoked("first")))
            await played.until("rescind_batch_size_count", 1)
            waiting = played.record(*bodies(source, 5))
            await played.until("rescind_waiting", 5)
            stopping = asyncio.create_task(played.recorder.stop())
            await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await played.recorder.record(source.submission(revoked("late")))
        await stopping
        outcomes = await asyncio.gather(*first, *waiting)
        assert [outcome.status.value for outcome in outcomes] == ["recorded"] * 6

    async def main() -> None:
        metrics = Metrics()
        recorder = Recorder(records, 100, metrics)
        recorder.start()
        await story(Played(recorder, metrics))

    asyncio.run(main())
    assert len(source.rows()) == 6


def test_stopping_what_was_never_started(records: Records) -> None:
    """It ends; a start that failed may get there."""

    async def main() -> None:
        await Recorder(records, 1, Metrics()).stop()

    asyncio.run(main())
