"""A log that misbehaves: nothing false is kept, nothing moves back, and what is wrong is noted and tried again."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from receiver.assurance import progress
from receiver.assurance.following import Following
from receiver.events import parse_time
from receiver.records.opening import Records
from tests.receiver.issuing import (
    PROCESS,
    add,
    due,
    entry,
    follow,
    indexes,
    log_of,
    name_log,
    row,
)
from tests.translog.misbehaving import (
    Answering,
    Server,
    Simulated,
    bomb,
    breaking_off,
    changed,
    flipped,
    garbage,
    of_width,
    serving,
    shortened,
    status,
    swapped,
)
from translog.follower import State
from translog.note import SigningKey

FIRST, GROWN = 300, 700


def look_again(records: Records, *processes: str) -> None:
    """Follow what is there, due or not."""
    due(records)
    follow(records, *processes)


# ---- what does not verify -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "fault"),
    [
        ("checkpoint", status(404)),
        ("checkpoint", status(302, b"location: http://127.0.0.1/elsewhere")),
        ("checkpoint", changed(flipped)),
        ("checkpoint", changed(shortened)),
        ("checkpoint", garbage),
        ("checkpoint", changed(lambda _: log_of(entry()).checkpoint(None, SigningKey.generate("issuer.example/log")))),
        ("checkpoint", changed(lambda _: Simulated((), SigningKey.generate("another.example/log")).checkpoint())),
        ("tile/0", changed(flipped)),
        ("tile/0", changed(of_width(1))),
        ("tile/0", status(403)),
        ("tile/entries", changed(flipped)),
        ("tile/entries", changed(shortened)),
        ("tile/entries/001", changed(swapped(50, 60))),
        ("tile/entries/002", breaking_off),
        ("tile/entries", bomb),
    ],
)
def test_nothing_is_believed_that_does_not_verify(local: Records, prefix: str, fault: Answering) -> None:
    """No entry is read, and it is noted since when and why it fails; well again, it is gone on with from there.

    A checkpoint whose growth was proven stays, so that the log cannot take it back.
    """
    log = log_of(*(entry() for _ in range(GROWN)))
    with serving(log_of(*log.entries[:FIRST])) as server:
        log_id = name_log(local, add(local), server)
        follow(local)
        before = row(local, log_id)
        server.log = log
        server.when(prefix, fault)
        began = datetime.now(UTC)
        look_again(local)
        failed = row(local, log_id)
        look_again(local)
        still = row(local, log_id)
        server.well()
        look_again(local)

    well = row(local, log_id)
    grown = prefix.startswith("tile/entries")
    for seen in (failed, still):
        assert (seen.size, seen.next_index) == (GROWN if grown else FIRST, FIRST)
        assert State.parse(seen.state).note == (log.checkpoint() if grown else State.parse(before.state).note)
        assert State.parse(seen.state).peaks == State.parse(before.state).peaks
        assert (seen.fetched_at > before.fetched_at) == grown
        assert (seen.complete_at, seen.fork) == (before.complete_at, None)
        assert seen.failure
        assert parse_time(seen.next_at) > began
    assert began < parse_time(failed.failing_since)
    assert still.failing_since == failed.failing_since
    assert (well.size, well.next_index, well.failing_since, well.failure) == (GROWN, GROWN, None, None)
    assert indexes(local) == list(range(GROWN))


def test_what_was_read_before_it_failed_stays(local: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is chunk by chunk; what is there is the honest log's beginning, and the rest follows."""
    monkeypatch.setattr("translog.follower.MAX_BUNDLES", 1)
    with serving(log_of(*(entry() for _ in range(GROWN)))) as server:
        log_id = name_log(local, add(local), server)
        server.when("tile/entries/002", status(404))
        follow(local)
        halfway = row(local, log_id)
        found = indexes(local)
        server.well()
        look_again(local)

    assert (halfway.next_index, halfway.size, halfway.complete_at) == (512, GROWN, None)
    assert "tile/entries/002 is not there" in halfway.failure
    assert found == list(range(512))
    assert indexes(local) == list(range(GROWN))


def test_a_failure_is_logged_once_and_so_is_its_end(local: Records, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried."""
    caplog.set_level(logging.INFO, "receiver.assurance")

    async def main(server: Server) -> None:
        following = Following(local, PROCESS)
        try:
            for broken in (True, True, False, False):
                if not broken:
                    server.well()
                due(local)
                await asyncio.gather(*await following.look())
        finally:
            await following.close()

    with serving(log_of(entry())) as server:
        name_log(local, add(local), server)
        server.when("checkpoint", status(404))
        asyncio.run(main(server))

    said = [one.getMessage() for one in caplog.records if one.name.startswith("receiver")]
    assert len(said) == 2
    assert "cannot be followed: " in said[0]
    assert "checkpoint is not there (status 404)" in said[0]
    assert said[1].endswith(" is followed again")


def test_an_older_checkpoint_is_no_progress(local: Records) -> None:
    """It contradicts nothing, so nothing moves; what is complete is so as of the last one that was not old."""
    log = log_of(*(entry() for _ in range(GROWN)))
    with serving(log) as server:
        log_id = name_log(local, add(local), server)
        follow(local)
        before = row(local, log_id)
        server.checkpoint = log.checkpoint(FIRST)
        look_again(local)
        old = row(local, log_id)
        server.checkpoint = None
        look_again(local)

    assert replace(State.parse(old.state), unproven=None) == State.parse(before.state)
    assert (old.size, old.next_index) == (GROWN, GROWN)
    assert (old.fetched_at, old.complete_at, old.fork) == (before.fetched_at, before.complete_at, None)
    assert old.failure == "it gives an old checkpoint, of 300 entries; the newest was of 700"
    assert parse_time(old.next_at) - parse_time(old.failing_since) <= timedelta(seconds=10)
    assert row(local, log_id).failure is None
    assert row(local, log_id).complete_at > before.complete_at


def test_one_log_that_does_not_answer_holds_up_no_other(local: Records) -> None:
    """The turns of others begin and end while it is waited for."""
    with serving(log_of(entry())) as slow, serving(log_of(entry(), entry())) as quick:

        async def silently(_honest: bytes | None, _say: object) -> None:
            await asyncio.Event().wait()

        slow.when("checkpoint", silently)
        name_log(local, add(local), slow)
        log_id = name_log(local, add(local), quick)

        async def main() -> int:
            following = Following(local, PROCESS)
            try:
                tasks = await following.look()
                done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                assert len(done) == 1
                assert not await following.look(), "it is not begun a second time"
                return len(waiting)
            finally:
                await following.close()

        assert asyncio.run(main()) == 1

    assert row(local, log_id).next_index == 2


def test_while_the_database_is_away_nothing_is_said_of_the_log(local: Records) -> None:
    """It is no fault of the log's, and the next look finds it as it was."""
    with serving(log_of(entry())) as server:
        log_id = name_log(local, add(local), server)

        async def main() -> None:
            following = Following(local, PROCESS)
            try:
                with pytest.MonkeyPatch.context() as patch:
                    tasks = await following.look()
                    patch.setattr(progress, "advance", away)
                    await asyncio.gather(*tasks)
                middle = row(local, log_id)
                assert (middle.next_index, middle.failure) == (0, None)
                await asyncio.gather(*await following.look())
            finally:
                await following.close()

        asyncio.run(main())

    assert (row(local, log_id).next_index, indexes(local)) == (1, [0])


def away(*_: object) -> None:
    """A database that has gone."""
    raise OperationalError("UPDATE", {}, Exception("the connection is lost"))
