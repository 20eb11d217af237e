"""Tallies: what was counted is in the log, the sum is right, and a gap in the counting is said."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.events import new_id
from receiver.intake import tallies as module
from receiver.intake.endpoints import Endpoint, Endpoints
from receiver.intake.reprocessing import reprocess
from receiver.intake.tallies import Tallies
from receiver.metrics import Metrics
from receiver.records.opening import Records
from receiver.records.processes import bury_the_dead, process_lives
from receiver.records.processes import running as process_list
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import processes
from receiver.settings import Settings
from tests.receiver.service import Sender, Service, receipt_id, revoked, running, settings_in
from tests.receiver.submissions import held
from translog.canonical import Value
from translog.evidence import Leaf
from translog.store import entries

NOTHING: dict[str, Value] = {
    "deliveries": 0,
    "duplicate": 0,
    "ignored": 0,
    "mismatch": 0,
    "quarantined": 0,
    "recorded": 0,
    "refused": {},
}


def new_source(records: Records, tenant: str = "default") -> str:
    """A source; its id."""
    name = new_id()
    return add_source(
        records, records.ensure_tenant(tenant), NewSource(name, "truthlocks", "token", {"header": "x"}), name
    )


def tallied(records: Records, source_id: str, tenant: str = "default") -> list[dict[str, Any]]:
    """The facts of every tally of a source, oldest first."""
    with records.database.read() as tx:
        query = sa.select(entries.c.data).where(entries.c.log_id == records.tenant(tenant).log_id)
        rows = tx.execute(query.order_by(entries.c.index)).scalars().all()
    leaves = [Leaf.parse(bytes(row)) for row in rows]
    return [leaf.facts for leaf in leaves if leaf.kind == "tally" and leaf.facts["source"] == source_id]


def counts(records: Records, source_id: str) -> list[dict[str, Value]]:
    """The counts of every tally of a source, those that are not 0."""
    return [
        {name: number for name, number in facts["counts"].items() if number} for facts in tallied(records, source_id)
    ]


def play(records: Records, story: Callable[[Tallies, Callable[[str], Endpoint]], Awaitable[None]]) -> None:
    """Play something on a loop with a process's tallies, and its endpoints by id."""

    async def main() -> None:
        endpoints = Endpoints(records, Metrics())
        await endpoints.refresh()

        def endpoint(source_id: str) -> Endpoint:
            return next(one for one in endpoints.all() if one.source.id == source_id)

        await story(Tallies(records, endpoints), endpoint)

    asyncio.run(main())


# ---- through the service ------------------------------------------------------------------------------------------


def deliver_everything(sender: Sender) -> dict[str, Value]:
    """One delivery of every fate, and some twice; what a tally says of them."""
    receipt = receipt_id()
    for body in (
        revoked(receipt),  # recorded
        revoked(receipt),  # duplicate
        revoked(receipt, note="x"),  # mismatch
        revoked(receipt, note="x"),  # duplicate
        b'{"event_type":"receipt.created"}',  # ignored
        b"{",  # quarantined
        b"{",  # duplicate
        b'{"event_type":"attestation.expired","attestation_id":"a"}',  # recorded
        b"x" * 300_000,  # refused: too_large
    ):
        sender.post(body)
    sender.post(revoked(), headers={"webhook-signature": "v1,x"})
    sender.post(revoked(), headers={"webhook-id": "another"})
    sender.post(revoked(), at=1)
    return {
        "deliveries": 12,
        "duplicate": 3,
        "ignored": 1,
        "mismatch": 1,
        "quarantined": 1,
        "recorded": 2,
        "refused": {"malformed_signature": 1, "stale": 1, "too_large": 1, "wrong_signature": 1},
    }


def test_the_sum_is_right(either_service: Service, either_sender: Sender) -> None:
    """A delivery is recorded, duplicate, mismatch, ignored, quarantined or refused, and counted as it was answered."""
    records = either_service.records
    expected = deliver_everything(either_sender)
    tallies = Tallies(records, either_service.intake.endpoints)

    either_service.on_loop(tallies.write(incomplete=False))

    (facts,) = tallied(records, either_sender.source_id)
    assert sorted(facts) == ["counts", "from", "incomplete", "process", "source", "until"]
    assert facts["counts"] == expected
    assert (facts["incomplete"], facts["process"]) == (False, tallies.process_id)
    assert facts["from"] < facts["until"]
    terms = [number for name, number in facts["counts"].items() if name not in {"deliveries", "refused"}]
    assert facts["counts"]["deliveries"] == sum(terms) + sum(facts["counts"]["refused"].values())
    assert either_sender.counts() == {}


def test_each_tally_begins_where_the_last_one_ended(either_service: Service, either_sender: Sender) -> None:
    """Nothing is counted twice; an hour in which nothing came is counted as such."""
    tallies = Tallies(either_service.records, either_service.intake.endpoints)
    for delivered in (2, 0, 1):
        for _ in range(delivered):
            either_sender.post(revoked())
        either_service.on_loop(tallies.write(incomplete=False))

    told = tallied(either_service.records, either_sender.source_id)

    assert [facts["counts"]["recorded"] for facts in told] == [2, 0, 1]
    assert [facts["counts"]["deliveries"] for facts in told] == [2, 0, 1]
    assert [facts["from"] for facts in told][1:] == [facts["until"] for facts in told][:-1]
    assert told[1]["counts"] == NOTHING


@pytest.mark.parametrize("before", [False, True], ids=["in one tally", "tallied in between"])
def test_what_is_read_again_was_counted_already(either_service: Service, before: bool) -> None:
    """A quarantined delivery stays one delivery; the entries that say `reprocessed` are in no count."""
    records, sender = either_service.records, either_service.add_source()
    tallies = Tallies(records, either_service.intake.endpoints)
    receipt = receipt_id()
    kept = [
        sender.post(revoked(receipt, tenant_id="another", note=note)).json()["quarantine_id"] for note in ("a", "b")
    ]
    if before:
        either_service.on_loop(tallies.write(incomplete=False))
    with records.database.write() as tx:
        tx.execute(sa.text("UPDATE sources SET account = NULL WHERE id = :id"), {"id": sender.source_id})
    statuses = [reprocess(records, either_service.tenant, one) for one in kept]
    sender.post(revoked())
    either_service.on_loop(tallies.write(incomplete=False))

    assert [one.status for one in statuses if one is not None] == ["recorded", "mismatch"]
    told = counts(records, sender.source_id)
    both = [{"deliveries": 2, "quarantined": 2}, {"deliveries": 1, "recorded": 1}]
    assert told == (both if before else [{"deliveries": 3, "quarantined": 2, "recorded": 1}])
    leaves = [either_service.leaf(row.log_index) for row in sender.rows()]
    assert [leaf.kind for leaf in leaves if "reprocessed" not in leaf.facts] == ["quarantine"] * 2 + ["revocation"]


def test_a_service_tallies_at_its_start_and_stop(tmp_path: Path) -> None:
    """Every source, and what it counted in between; the next one goes on from there."""
    settings = settings_in(tmp_path)
    with running(settings) as service:
        sender = service.add_source()
        expected = deliver_everything(sender)
    with running(settings) as service:
        sender_again = Sender(service, sender.source_id, sender.secret)
        sender_again.post(revoked())
    records = Records.open(settings)
    told = tallied(records, sender.source_id)
    records.close()

    stop, start, last = told
    assert [facts["counts"] for facts in told] == [expected, NOTHING, {**NOTHING, "deliveries": 1, "recorded": 1}]
    assert [facts["incomplete"] for facts in told] == [False, False, False]
    assert (stop["until"], start["until"]) == (start["from"], last["from"])
    assert stop["process"] != start["process"] == last["process"]


# ---- processes ----------------------------------------------------------------------------------------------------


def test_a_start_after_an_end_in_order(records: Records) -> None:
    """Nothing is missing, and it does not say so."""
    source_id = new_source(records)

    async def story(tallies: Tallies, _: Callable[[str], Endpoint]) -> None:
        await tallies.start()
        await tallies.stop()

    play(records, story)
    play(records, story)

    assert [facts["incomplete"] for facts in tallied(records, source_id)] == [False] * 4


def test_a_start_that_finds_no_end(records: Records) -> None:
    """A process that was killed took its counts with it: the next start says so, once."""
    source_id = new_source(records)

    async def killed(tallies: Tallies, endpoint: Callable[[str], Endpoint]) -> None:
        await tallies.start()
        endpoint(source_id).count("duplicate")

    async def orderly(tallies: Tallies, _: Callable[[str], Endpoint]) -> None:
        await tallies.start()
        await tallies.stop()

    play(records, killed)
    play(records, orderly)
    play(records, orderly)

    assert [facts["incomplete"] for facts in tallied(records, source_id)] == [False, True, False, False, False]
    assert counts(records, source_id) == [{}] * 5


_BEGIN = """
import asyncio, sys
from pathlib import Path
from receiver.intake.endpoints import Endpoints
from receiver.intake.tallies import Tallies
from receiver.metrics import Metrics
from receiver.records.opening import Records
from receiver.settings import Settings

async def main():
    records = Records.open(Settings(data=Path(sys.argv[1]), database_url=sys.argv[2], guard=Path(sys.argv[3])))
    endpoints = Endpoints(records, Metrics())
    await endpoints.refresh()
    await Tallies(records, endpoints).start()
    print("began", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@pytest.fixture
def neighbour(records: Records, settings: Settings) -> Generator[subprocess.Popen[str]]:
    """Another process that serves the same database."""
    command = [sys.executable, "-c", _BEGIN, str(settings.data), settings.url, str(settings.guard)]
    new_source(records)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "began\n"
        yield process
        process.kill()


def test_another_process_that_is_alive_is_not_missing(records: Records, neighbour: subprocess.Popen[str]) -> None:
    """Two may serve at once; a start beside another one is no gap, and an end of it in disorder is one."""
    source_id = new_source(records)

    async def story(tallies: Tallies, _: Callable[[str], Endpoint]) -> None:
        await tallies.start()
        await tallies.stop()

    play(records, story)
    neighbour.kill()
    neighbour.wait()
    play(records, story)

    assert [facts["incomplete"] for facts in tallied(records, source_id)] == [False, False, True, False]


def test_a_process_on_another_machine_is_given_a_minute(records: Records) -> None:
    """Whether it runs cannot be asked; it shows itself every few seconds, or is dead."""
    source_id = new_source(records)
    with records.database.write() as tx:
        tx.execute(
            sa.insert(processes),
            [
                {"id": new_id(), "host": "elsewhere", "pid": os.getpid(), "started_at": at, "seen_at": at}
                for at in ("2026-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z")
            ],
        )

    async def story(tallies: Tallies, _: Callable[[str], Endpoint]) -> None:
        await tallies.start()

    play(records, story)

    assert [facts["incomplete"] for facts in tallied(records, source_id)] == [True]
    with records.database.read() as tx:
        unended = tx.execute(sa.select(processes.c.seen_at).where(processes.c.stopped_at.is_(None))).scalars().all()
    assert "2999-01-01T00:00:00.000000Z" in unended
    assert "2026-01-01T00:00:00.000000Z" not in unended


def test_a_process_that_was_taken_for_dead(records: Records) -> None:
    """It was silent for a minute, and another one's start noted its end: once it shows itself, it runs again."""
    at = "2026-01-01T00:00:00.000000Z"
    with records.database.write() as tx:
        tx.execute(sa.insert(processes).values(id="1", host="elsewhere", pid=4711, started_at=at, seen_at=at))
        assert bury_the_dead(tx, "2")
        assert process_list(tx) == []
        process_lives(tx, "1")
        assert process_list(tx) == ["elsewhere, process 4711"]


def test_two_processes_count_each_row_once(records: Records, settings: Settings) -> None:
    """Whichever of them tallies: what left a row is counted from rows, the rest by who answered it."""
    with running(settings) as service:
        sender = service.add_source()
        for _ in range(3):
            sender.post(revoked())

        async def story(tallies: Tallies, endpoint: Callable[[str], Endpoint]) -> None:
            endpoint(sender.source_id).count("ignored")
            await tallies.write(incomplete=False)
            sender.post(revoked())

        play(records, story)
    told = counts(records, sender.source_id)

    assert told == [
        {"deliveries": 4, "ignored": 1, "recorded": 3},
        {"deliveries": 1, "recorded": 1},
    ]


# ---- going on and failing -----------------------------------------------------------------------------------------


def test_it_tallies_every_hour(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """And shows every few seconds that it is alive."""
    monkeypatch.setattr(module, "HEARTBEAT", 0.02)
    monkeypatch.setattr(module, "INTERVAL", 0.05)
    source_id = new_source(records)

    async def story(tallies: Tallies, _: Callable[[str], Endpoint]) -> None:
        await tallies.start()
        task = asyncio.create_task(tallies.run())
        await until(lambda: len(tallied(records, source_id)) >= 3)
        task.cancel()
        with records.database.read() as tx:
            started, seen = tx.execute(
                sa.select(processes.c.started_at, processes.c.seen_at).where(processes.c.id == tallies.process_id)
            ).one()
        assert started < seen

    play(records, story)


async def until(true: Callable[[], object]) -> None:
    """Wait on the loop for something that must come about soon."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  (it is asked of the database, which has no event)
            await asyncio.sleep(0.01)


def rename(records: Records, old: str, new: str) -> None:
    """Rename a table: for what uses it, the database is out of order."""
    with records.database.write() as tx:
        tx.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))


def test_a_tally_that_fails_is_put_off(records: Records) -> None:
    """Nothing of it is lost or counted twice: the next one has it all."""
    source_id = new_source(records)

    async def story(tallies: Tallies, endpoint: Callable[[str], Endpoint]) -> None:
        await tallies.start()
        endpoint(source_id).count("ignored")
        rename(records, "tallied", "away")
        await tallies.write(incomplete=False)
        endpoint(source_id).count("refused:stale")
        rename(records, "away", "tallied")
        await tallies.stop()

    play(records, story)

    assert counts(records, source_id) == [{}, {"deliveries": 2, "ignored": 1, "refused": {"stale": 1}}]


def test_what_is_counted_while_a_tally_is_written(records: Records) -> None:
    """It is in the next one."""
    source_id = new_source(records)

    async def story(tallies: Tallies, endpoint: Callable[[str], Endpoint]) -> None:
        endpoint(source_id).count("ignored")
        with held(records, records.tenant("default").log_id):
            writing = asyncio.create_task(tallies.write(incomplete=False))
            await asyncio.sleep(0.05)
            endpoint(source_id).count("refused:stale")
        await writing
        await tallies.write(incomplete=False)

    play(records, story)

    assert counts(records, source_id) == [
        {"deliveries": 1, "ignored": 1},
        {"deliveries": 1, "refused": {"stale": 1}},
    ]


def test_it_goes_on_after_the_database_was_away(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that fails is not the last one."""
    monkeypatch.setattr(module, "HEARTBEAT", 0.02)
    monkeypatch.setattr(module, "INTERVAL", 0.05)
    source_id = new_source(records)

    async def story(tallies: Tallies, _: Callable[[str], Endpoint]) -> None:
        await tallies.start()
        task = asyncio.create_task(tallies.run())
        rename(records, "processes", "away")
        await asyncio.sleep(0.1)
        rename(records, "away", "processes")
        before = len(tallied(records, source_id))
        await until(lambda: len(tallied(records, source_id)) > before)
        assert not task.done()
        task.cancel()

    play(records, story)


def test_one_tenant_that_fails_costs_no_other(records: Records) -> None:
    """Each tenant's tally is a transaction of its own, in its own log."""
    first, second = new_source(records), new_source(records, "second")
    broken = records.tenant("default").log_id

    async def story(tallies: Tallies, endpoint: Callable[[str], Endpoint]) -> None:
        endpoint(first).count("ignored")
        endpoint(second).count("ignored")
        with records.database.write() as tx:
            tx.execute(sa.text("UPDATE logs SET size = size - 1 WHERE id = :id"), {"id": broken})
        await tallies.write(incomplete=False)

    play(records, story)

    assert tallied(records, first) == []
    assert [facts["counts"]["ignored"] for facts in tallied(records, second, "second")] == [1]


def test_counts_outlive_a_change_of_the_source(either_service: Service, either_sender: Sender) -> None:
    """What was counted before its settings were changed is in the same tally as what came after."""
    records = either_service.records
    either_sender.post(b'{"event_type":"receipt.created"}')
    with records.database.write() as tx:
        tx.execute(sa.text("UPDATE sources SET account = NULL WHERE id = :id"), {"id": either_sender.source_id})
    either_service.refresh()
    assert either_sender.endpoint.source.account is None
    either_sender.post(b'{"event_type":"receipt.created"}')

    either_service.on_loop(Tallies(records, either_service.intake.endpoints).write(incomplete=False))

    assert counts(records, either_sender.source_id) == [{"deliveries": 2, "ignored": 2}]


def test_a_disabled_source_is_tallied(records: Records) -> None:
    """That it got nothing is part of the count."""
    source_id = new_source(records)
    with records.database.write() as tx:
        tx.execute(sa.text("UPDATE sources SET enabled = :no WHERE id = :id"), {"no": False, "id": source_id})

    async def story(tallies: Tallies, _: Callable[[str], Endpoint]) -> None:
        await tallies.start()

    play(records, story)

    assert [facts["counts"] for facts in tallied(records, source_id)] == [NOTHING]
