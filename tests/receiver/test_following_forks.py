"""A log that forks is told of once, and believed no more; receivers that share a log keep each entry once."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.assurance import progress
from receiver.assurance.progress import Place
from receiver.events import Kind, format_time
from receiver.fsck import fsck
from receiver.records.opening import Records
from receiver.records.processes import process_began
from receiver.records.tables import findings
from tests.receiver.issuing import (
    OTHER,
    POLICY,
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
from tests.translog.misbehaving import Simulated, serving, status
from translog.canonical import decode
from translog.evidence import Leaf, Opening
from translog.follower import Read, State
from translog.fork import Fork
from translog.merkle import leaf_hash
from translog.store import entries

OTHERS = "00000000-0000-7000-8000-000000000002"


def other_history(log: Simulated, size: int) -> Simulated:
    """A log of that size with another third entry."""
    some = [*log.entries[:2], entry(), *log.entries[3:], *(entry() for _ in range(size))]
    return log_of(*some[:size])


def look_again(records: Records, *processes: str) -> None:
    """Follow what is there, due or not."""
    due(records)
    follow(records, *processes)


def forks_told(records: Records, tenant: str = "default") -> list[sa.Row[Any]]:
    """The findings of a tenant's log that tell of a fork."""
    log_id = records.tenant(tenant).log_id
    query = sa.select(findings).where(findings.c.log_id == log_id, findings.c.kind == Kind.FORK.value)
    with records.database.read() as tx:
        return list(tx.execute(query).all())


# ---- forks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [300, 299, 301, 700], ids=["equal", "smaller", "larger", "much larger"])
def test_a_fork_is_kept_and_told_to_every_tenant_once(
    records: Records, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With evidence that anybody can verify; what was read before stays, and nothing is read any more."""
    log = log_of(*(entry() for _ in range(300)))
    with serving(log) as server:
        log_id = name_log(records, add(records), server)
        name_log(records, add(records), server)
        name_log(records, add(records, "other", account=OTHER), server)
        follow(records)
        before = row(records, log_id)
        if size < log.size:  # of a tree that is gone nothing could be shown
            server.checkpoint = other_history(log, size).checkpoint()
        else:
            server.log = other_history(log, size)
        began = datetime.now(UTC)
        with caplog.at_level(logging.CRITICAL, "receiver.assurance"):
            look_again(records, PROCESS, OTHERS)
        asked = len(server.asked)
        for _ in range(2):
            look_again(records, PROCESS, OTHERS)

    found = row(records, log_id)
    smaller, larger = Fork.parse(found.fork).verify(POLICY)
    assert sorted((smaller.size, larger.size)) == sorted((300, size))
    assert progress_of(found) == progress_of(before)
    assert (found.failure, found.failing_since, found.holder) == (None, None, None)
    assert began.strftime("%Y-%m-%dT%H") <= found.forked_at
    assert indexes(records) == list(range(300))
    assert len(server.asked) == asked, "it is followed no more"
    assert [one.getMessage()[:46] for one in caplog.records] == ["the log issuer.example/log has FORKED: it sign"]
    for tenant in ("default", "other"):
        (told,) = forks_told(records, tenant)
        assert (told.state, told.issuer_log_id, told.source_id, told.body) == ("forked", log_id, None, found.fork)
        assert decode(told.event_data) == {
            "issuer_log": "issuer.example/log",
            "larger": {"root": larger.root.hex(), "size": larger.size},
            "smaller": {"root": smaller.root.hex(), "size": smaller.size},
            "url": server.url,
        }
        leaf = leaf_of(records, told)
        assert (leaf.kind, leaf.id, leaf.facts) == ("fork", told.id, {"issuer_log": log_id, "state": "forked"})
        assert leaf.event == Opening(told.event_data, told.event_salt).commitment("event")


def progress_of(found: sa.Row[Any]) -> tuple[object, ...]:
    """How far a log was followed."""
    believed = replace(State.parse(found.state), unproven=None)
    return believed, found.size, found.next_index, found.fetched_at, found.complete_at


def leaf_of(records: Records, told: sa.Row[Any]) -> Leaf:
    """The entry of a finding."""
    query = sa.select(entries.c.data).where(entries.c.log_id == told.log_id, entries.c.index == told.log_index)
    with records.database.read() as tx:
        return Leaf.parse(bytes(tx.execute(query).scalar_one()))


def test_a_fork_whose_tiles_are_withheld(records: Records) -> None:
    """Its checkpoint is kept, once, and is no progress; the honest one of the same size shows the fork."""
    log = log_of(*(entry() for _ in range(300)))
    grown = log_of(*log.entries, *(entry() for _ in range(100)))
    other = other_history(grown, 400).checkpoint()
    with serving(log) as server:
        log_id = name_log(records, add(records), server)
        follow(records)
        before = row(records, log_id)
        server.checkpoint = other
        server.when("tile/", status(404))
        look_again(records)
        withheld = row(records, log_id)
        look_again(records)
        still = row(records, log_id)
        server.well()
        server.log, server.checkpoint = grown, None
        look_again(records)

    assert (progress_of(withheld), progress_of(still)) == (progress_of(before), progress_of(before))
    assert State.parse(withheld.state).unproven == other
    assert (still.state, still.failing_since) == (withheld.state, withheld.failing_since)
    smaller, larger = Fork.parse(row(records, log_id).fork).verify(POLICY)
    assert (smaller.size, larger.size) == (400, 400)


def test_a_tenant_that_names_a_forked_log_later_is_told(local: Records) -> None:
    """It is not followed for it either."""
    log = log_of(entry(), entry(), entry())
    with serving(log) as server:
        name_log(local, add(local), server)
        follow(local)
        server.log = other_history(log, 4)
        look_again(local)
        look_again(local)
        local.ensure_tenant("later")
        log_id = name_log(local, add(local, "later"), server)
        asked = len(server.asked)
        look_again(local)
        look_again(local)

    assert (len(forks_told(local)), len(forks_told(local, "later"))) == (1, 1)
    assert (len(server.asked), indexes(local, "later")) == (asked, [])
    assert row(local, log_id).next_index == 3


def test_what_fsck_says_of_a_fork(local: Records) -> None:
    """Nothing is wrong with our own log."""
    log = log_of(entry(), entry(), entry())
    with serving(log) as server:
        name_log(local, add(local), server)
        follow(local)
        server.log = other_history(log, 3)
        look_again(local)
        look_again(local)

    assert len(forks_told(local)) == 1
    assert fsck(local).findings == ()


# ---- several receivers ----------------------------------------------------------------------------------------------


def test_two_that_look_at_once_follow_it_once(records: Records) -> None:
    """The one that holds it reads it; the other one leaves it alone."""
    with serving(log_of(*(entry() for _ in range(600)))) as server:
        log_id = name_log(records, add(records), server)
        with records.database.write() as tx:
            for process in (PROCESS, OTHERS):
                process_began(tx, process)
        follow(records, PROCESS, OTHERS)

    assert server.asked.count("checkpoint") == 1
    assert indexes(records) == list(range(600))
    assert row(records, log_id).next_index == 600


def test_two_that_read_the_same_keep_it_once(records: Records) -> None:
    """Nothing rests on who holds it: without that, both read it, and one of them is too late."""
    with serving(log_of(*(entry() for _ in range(600)))) as server:
        log_id = name_log(records, add(records), server)
        follow(records, PROCESS, OTHERS)  # neither is known to run, so neither holds anything

    assert indexes(records) == list(range(600))
    assert (row(records, log_id).next_index, row(records, log_id).failure) == (600, None)


@pytest.mark.parametrize("moved", ["state", "next_index", "wanted", "fork"])
def test_progress_is_noted_only_from_where_the_log_is(records: Records, moved: str) -> None:
    """Whoever began elsewhere, or for other sources, changes nothing: neither what is read nor what is complete."""
    log = log_of(entry(), entry())
    with serving(log_of(log.entries[0])) as server:
        log_id = name_log(records, add(records), server)
        follow(records)
    now = datetime.now(UTC)
    with records.database.write() as tx:
        (track,) = progress.tracks(tx, PROCESS, now)
        place = progress.place_of(tx, log_id)
        assert place is not None
        if moved == "fork":
            heads = log.checkpoint(1), log_of(entry()).checkpoint()
            assert progress.freeze(tx, log_id, Fork(*heads, log_of(entry()).root(), ()), now)
    begun = {
        "state": Place(State().encode(), place.next_index, place.wanted),
        "next_index": Place(place.state, 0, place.wanted),
        "wanted": Place(place.state, place.next_index, "[]"),
    }.get(moved, place)
    before = row(records, log_id)
    frontier = State.parse(place.state).frontier()
    frontier.append(leaf_hash(log.entries[1]))
    read = Read(1, [log.entries[1]], State(log.checkpoint(), 2, tuple(frontier.peaks)))
    with records.database.write() as tx:
        assert progress.advance(tx, track, begun, read, 0, now) is None
        assert not progress.complete(tx, track, begun, now)

    assert row(records, log_id) == before


def test_an_earlier_look_makes_nothing_older(records: Records) -> None:
    """Of two rounds that end at the same place, the one that began later counts."""
    with serving(log_of(entry())) as server:
        log_id = name_log(records, add(records), server)
        follow(records)
    now = datetime.now(UTC)
    with records.database.write() as tx:
        (track,) = progress.tracks(tx, PROCESS, now)
        place = progress.place_of(tx, log_id)
        assert place is not None
        for asked_at in (now, now - timedelta(hours=1)):
            assert progress.complete(tx, track, place, asked_at)

    assert (row(records, log_id).complete_at, row(records, log_id).fetched_at) == (format_time(now),) * 2
