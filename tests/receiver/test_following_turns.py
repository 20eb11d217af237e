"""Whose turn it is to be followed, when it is the next time, and who holds a log meanwhile."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.assurance import holding, progress
from receiver.assurance.following import (
    AT_ONCE,
    FAILING_AT_ONCE,
    FIRST_WAIT,
    LONGEST_WAIT,
    OF_ONE_TENANT,
    Following,
    after_failure,
    choose,
    is_due,
)
from receiver.assurance.progress import Track
from receiver.events import format_time
from receiver.records.engine import Database
from receiver.records.issuer_logs import IssuerLog, Naming
from receiver.records.opening import Records
from receiver.records.processes import process_began, process_ended
from tests.receiver.issuing import POLICY, PROCESS, add, entry, follow, log_of, name_log, row
from tests.translog.misbehaving import Say, serving
from translog.remote import RemoteLog

NOW = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
OTHERS = "00000000-0000-7000-8000-000000000002"
A_SECOND = timedelta(seconds=1)


def naming(tenant_id: int = 1, follow_every: int = 10) -> Naming:
    """A source that names a log."""
    return Naming("s", tenant_id, "truthlocks", "a", exclusive=False, grace=60, follow_every=follow_every, starts_at=0)


def track(
    number: int = 0,
    tenants: Iterable[int] = (1,),
    *,
    every: int = 10,
    next_at: datetime | None = NOW,
    failing_for: timedelta | None = None,
    free: bool = True,
) -> Track:
    """A log, as a look finds it."""
    return Track(
        log=IssuerLog("https://issuer.example/log", POLICY.text, None, id=str(number)),
        namings=tuple(naming(tenant_id, every) for tenant_id in tenants),
        wanted="[]",
        size=0,
        next_index=0,
        unreadable=0,
        origin=None,
        created_at=NOW - timedelta(days=9),
        fetched_at=None,
        complete_at=None,
        next_at=next_at,
        failing_since=None if failing_for is None else NOW - failing_for,
        failure=None if failing_for is None else "it is broken",
        forked_at=None,
        free=free,
    )


# ---- turns ----------------------------------------------------------------------------------------------------------


def test_who_has_waited_longest_comes_first() -> None:
    """Those that were never looked at before all others."""
    waiting = [track(number, [number], next_at=NOW - number * A_SECOND) for number in range(20)]
    waiting.append(track(20, [20], next_at=None))

    chosen = choose(waiting, {}, NOW)

    assert [one.log.id for one in chosen] == ["20", "19", "18", "17", "16", "15", "14", "13"]


def test_a_tenant_has_its_share() -> None:
    """However many of its logs are due; a log of several tenants takes a place of each, and needs room with one."""
    mine = [track(number, [1], next_at=NOW - A_SECOND) for number in range(6)]
    ours = track(6, [1, 2])
    theirs = [track(7 + number, [2]) for number in range(6)]

    chosen = choose([*mine, ours, *theirs], {}, NOW)

    assert [one.log.id for one in chosen] == ["0", "1", "2", "3", "6", "7", "8", "9"]


def test_those_that_fail_have_half_of_the_places() -> None:
    """So that many that are dead do not keep those that live from being followed."""
    dead = [track(number, [number], next_at=NOW - A_SECOND, failing_for=A_SECOND) for number in range(9)]
    alive = [track(9 + number, [9 + number]) for number in range(3)]

    assert [one.log.id for one in choose([*dead, *alive], {}, NOW)] == ["0", "1", "2", "3", "9", "10", "11"]
    assert choose([*dead, *alive], {one.log.id: one for one in dead[:4]}, NOW) == alive


def test_who_is_followed_already_is_left_alone() -> None:
    """By this process or by another one; and what is not due, too."""
    busy, held, later = track(0), track(1, free=False), track(2, next_at=NOW + A_SECOND)

    assert choose([busy, held, later], {"0": busy}, NOW) == []


TRACKS = st.lists(
    st.tuples(
        st.sets(st.integers(0, 3), min_size=1, max_size=3),
        st.integers(-5, 5),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@given(TRACKS)
def test_the_bounds_hold_whoever_is_due(drawn: list[tuple[set[int], int, bool, bool, bool]]) -> None:
    """No more at once, no more that fail, no tenant with more than its share but by another's; and none twice."""
    tracks = [
        track(number, tenants, next_at=NOW + at * A_SECOND, failing_for=A_SECOND if fails else None, free=free)
        for number, (tenants, at, fails, free, _) in enumerate(drawn)
    ]
    begun = choose([one for one, (*_, first) in zip(tracks, drawn, strict=True) if first], {}, NOW)
    busy = {one.log.id: one for one in begun}

    chosen = choose(tracks, busy, NOW)

    both = [*begun, *chosen]
    assert len({one.log.id for one in both}) == len(both) <= AT_ONCE
    assert sum(one.failing_since is not None for one in both) <= FAILING_AT_ONCE
    for tenant_id in range(4):
        alone = [one for one in both if one.tenants == frozenset({tenant_id})]
        assert len(alone) <= OF_ONE_TENANT
    assert all(one.free and is_due(one, NOW) for one in both)


# ---- when -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "failing_for", "wait"),
    [
        (10, None, FIRST_WAIT),
        (1, None, A_SECOND),
        (3600, None, FIRST_WAIT),
        (10, 15 * A_SECOND, 15 * A_SECOND),
        (1, 2 * A_SECOND, 2 * A_SECOND),
        (10, timedelta(minutes=4), timedelta(minutes=4)),
        (10, timedelta(days=3), LONGEST_WAIT),
        (3600, timedelta(minutes=50), timedelta(minutes=50)),
        (3600, timedelta(days=3), timedelta(hours=1)),
    ],
)
def test_after_a_failure_it_is_waited_as_long_again(every: int, failing_for: timedelta | None, wait: timedelta) -> None:
    """At most 5 minutes, or as long as it is waited anyway."""
    assert after_failure(track(every=every, failing_for=failing_for), NOW) == NOW + wait


def test_a_time_that_cannot_be_is_now() -> None:
    """Set under other settings, or by a clock that stood ahead: nobody waits for longer than the settings say."""
    assert is_due(track(next_at=NOW + 11 * A_SECOND), NOW)
    assert not is_due(track(next_at=NOW + 10 * A_SECOND), NOW)
    assert not is_due(track(next_at=NOW + LONGEST_WAIT, failing_for=A_SECOND), NOW)
    assert is_due(track(next_at=NOW + LONGEST_WAIT + A_SECOND, failing_for=A_SECOND), NOW)
    assert not is_due(replace(track(), forked_at=NOW), NOW)


@pytest.mark.parametrize(
    ("known", "since"),
    [
        ({"complete_at": NOW - timedelta(seconds=60)}, None),
        ({"complete_at": NOW - timedelta(seconds=61)}, timedelta(seconds=61)),
        ({"complete_at": NOW - timedelta(seconds=61), "fetched_at": NOW}, timedelta(seconds=61)),
        ({"complete_at": None, "fetched_at": NOW}, None),
        ({"complete_at": None, "fetched_at": NOW, "failing_since": NOW - timedelta(hours=2)}, timedelta(hours=2)),
        ({"complete_at": None, "fetched_at": None}, timedelta(days=9)),
    ],
)
def test_since_when_a_log_is_stale(known: dict[str, datetime | None], since: timedelta | None) -> None:
    """Since a look came to its end; or if none ever did, since it fails: the first reading may take long."""
    assert replace(track(every=10), **known).stale_since(NOW) == (None if since is None else NOW - since)


def test_what_is_looked_at_seldom_is_stale_later() -> None:
    """After five times as long as it is waited between two looks."""
    seldom = replace(track(every=60), complete_at=NOW - timedelta(seconds=300))

    assert seldom.stale_since(NOW) is None
    assert seldom.stale_since(NOW + A_SECOND) == seldom.complete_at


# ---- who holds it ---------------------------------------------------------------------------------------------------


@pytest.fixture
def log_id(records: Records) -> str:
    """A log that a source names, while two processes run."""
    with records.database.write() as tx:
        process_began(tx, PROCESS)
        process_began(tx, OTHERS)
    return name_log(records, add(records), "http://127.0.0.1:1/log")


def took(database: Database, log_id: str, holder: str, at: datetime) -> bool:
    """Whether that process gets it then."""
    with database.write() as tx:
        return holding.take(tx, log_id, holder, at)


def test_a_log_is_held_by_one(records: Records, log_id: str) -> None:
    """Until it lets go; only the holder can."""
    database = records.database
    assert took(database, log_id, PROCESS, NOW)
    assert not took(database, log_id, OTHERS, NOW)
    assert took(database, log_id, PROCESS, NOW), "who has it has it"
    with database.write() as tx:
        assert not holding.let_go(tx, log_id, OTHERS, NOW)
        assert holding.let_go(tx, log_id, PROCESS, NOW + A_SECOND)
    assert row(records, log_id).next_at == "2026-11-20T09:00:01.000000Z"
    assert took(database, log_id, OTHERS, NOW)


def test_what_is_not_renewed_runs_out(records: Records, log_id: str) -> None:
    """So a receiver that was killed keeps nothing; one that comes back after that renews nothing."""
    database = records.database
    assert took(database, log_id, PROCESS, NOW)
    with database.write() as tx:
        holding.renew(tx, log_id, PROCESS, NOW + holding.HELD_FOR)
    assert not took(database, log_id, OTHERS, NOW + holding.HELD_FOR)
    assert took(database, log_id, OTHERS, NOW + 2 * holding.HELD_FOR + A_SECOND)
    with database.write() as tx:
        holding.renew(tx, log_id, PROCESS, NOW + timedelta(days=1))
        assert not holding.let_go(tx, log_id, PROCESS, NOW)
    assert row(records, log_id).holder == OTHERS


def test_who_has_ended_holds_nothing(records: Records, log_id: str) -> None:
    """Nobody has to wait for what it held."""
    assert took(records.database, log_id, PROCESS, NOW)
    with records.database.write() as tx:
        process_ended(tx, PROCESS)
    assert took(records.database, log_id, OTHERS, NOW)


def test_a_failure_is_noted_as_text_of_some_length(records: Records, log_id: str) -> None:
    """What a server says may be in it, whatever that is; since when, only the first one says."""
    for at, why in ((NOW, "first"), (NOW + A_SECOND, "second: \0\ud800 é\n" + "x" * 10_000)):
        assert took(records.database, log_id, PROCESS, at)
        with records.database.write() as tx:
            progress.fail(tx, log_id, PROCESS, why, at, at + A_SECOND)

    noted = row(records, log_id)
    assert noted.failure == "second: \ufffd\ufffd é\ufffd" + "x" * 987
    assert (noted.failing_since, noted.next_at) == (format_time(NOW), format_time(NOW + 2 * A_SECOND))


def test_what_another_one_holds_is_not_looked_at(records: Records, log_id: str) -> None:
    """As long as that lives."""
    assert took(records.database, log_id, OTHERS, datetime.now(UTC))
    follow(records)
    left_alone = row(records, log_id)
    with records.database.write() as tx:
        process_ended(tx, OTHERS)
    follow(records)

    assert (left_alone.holder, left_alone.failure) == (OTHERS, None)
    assert (row(records, log_id).holder, row(records, log_id).failure is None) == (None, False)


def test_while_it_is_followed_it_is_held(local: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that is renewed for as long as the turn lasts."""
    monkeypatch.setattr(holding, "RENEWED_EVERY", 0.02)
    held: list[tuple[str | None, str | None]] = []

    with serving(log_of(entry())) as server:

        async def at_length(honest: bytes | None, say: Say) -> None:
            held.append((row(local, log_id).holder, row(local, log_id).held_until))
            await asyncio.sleep(0.3)
            held.append((row(local, log_id).holder, row(local, log_id).held_until))
            await server.answer("checkpoint", say)

        log_id = name_log(local, add(local), server)
        server.when("checkpoint", at_length, times=1)
        follow(local)

    (before, begun), (after, renewed) = held
    assert (before, after) == (PROCESS, PROCESS)
    assert begun is not None
    assert renewed is not None
    assert begun < renewed
    assert row(local, log_id).holder is None


def test_a_turn_ends_in_time_and_is_gone_on_with(local: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long to read gives way to others after each chunk; it is due again at once."""
    monkeypatch.setattr("receiver.assurance.rounds.LASTS", 0)
    monkeypatch.setattr("translog.follower.MAX_BUNDLES", 1)
    with serving(log_of(*(entry() for _ in range(600)))) as server:
        log_id = name_log(local, add(local), server)
        places: list[int] = []
        for _ in range(5):
            follow(local)
            places.append(row(local, log_id).next_index)

    assert places == [0, 256, 512, 600, 600]
    assert row(local, log_id).complete_at is not None


def test_connections_are_closed_with_what_they_are_for(local: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those to a log that no source names any more at the next look, not at the end of all."""
    closed: list[RemoteLog] = []
    aclose = RemoteLog.aclose

    async def noted(remote: RemoteLog) -> None:
        closed.append(remote)
        await aclose(remote)

    monkeypatch.setattr(RemoteLog, "aclose", noted)
    with serving(log_of(entry())) as server:
        source_id = add(local)
        name_log(local, source_id, server)

        async def main() -> list[int]:
            one = Following(local, PROCESS)
            await asyncio.gather(*await one.look())
            await one.look()
            counts = [len(closed)]
            name_log(local, source_id, server, enabled=False)
            await one.look()
            counts.append(len(closed))
            await one.close()
            return [*counts, len(closed)]

        assert asyncio.run(main()) == [0, 1, 1]
