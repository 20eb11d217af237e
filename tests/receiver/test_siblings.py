"""One log under several names: a fork between them is seen, and is the fork of all of them."""

import asyncio
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from receiver.assurance.following import Following
from receiver.events import format_time
from receiver.fsck import fsck
from receiver.records.issuer_logs import settle
from receiver.records.opening import Records
from receiver.records.tables import issuer_logs, sources
from tests.receiver.issuing import LOG_KEY, POLICY, PROCESS, add, due, entry, follow, indexes, log_of, name_log, row
from tests.receiver.test_following_forks import forks_told, look_again, other_history
from tests.translog.misbehaving import Server, Simulated, serving, status
from translog.fork import Fork
from translog.note import SigningKey
from translog.policy import Policy

IMPOSTOR = SigningKey.generate(LOG_KEY.name)
"""Another key that calls itself the same."""


@pytest.fixture
def log() -> Simulated:
    """A log of 300 entries."""
    return log_of(*(entry() for _ in range(300)))


def name(records: Records, server: Server, policy: Policy = POLICY, tenant: str = "default") -> tuple[str, str]:
    """A new source that names a server's log under that policy; the ids of both."""
    source_id = add(records, tenant)
    with records.database.write() as tx:
        log_id = settle(tx, server.url, policy.text, None, format_time(datetime.now(UTC)))
        tx.execute(sa.update(sources).where(sources.c.id == source_id).values(issuer_log_id=log_id))
    return source_id, log_id


def leave(records: Records, source_id: str) -> None:
    """Have a source name no log any more."""
    with records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == source_id).values(issuer_log_id=None))


def forked(records: Records, *log_ids: str) -> list[bool]:
    """Which of these have forked."""
    return [row(records, log_id).forked_at is not None for log_id in log_ids]


@pytest.mark.parametrize("size", [300, 299, 301, 700], ids=["equal", "smaller", "larger", "much larger"])
def test_two_histories_under_two_urls_are_a_fork(records: Records, log: Simulated, size: int) -> None:
    """Both logs are frozen with it, whoever names them is told, and nothing of the second one is believed."""
    with serving(log) as one, serving(other_history(log, size)) as two:
        first = name_log(records, add(records), one)
        follow(records)
        second = name_log(records, add(records, "other"), two)
        for _ in range(3):
            look_again(records)

    evidence = {row(records, log_id).fork for log_id in (first, second)}
    smaller, larger = Fork.parse(evidence.pop() or b"").verify(POLICY)
    assert evidence == set()
    assert (smaller.size, larger.size) == (min(300, size), max(300, size))
    assert smaller.root != log_of(*log.entries[: smaller.size]).root() or size >= 300
    assert smaller.root != larger.root  # of two of one size, which is told first depends on who came first
    assert (len(forks_told(records)), len(forks_told(records, "other"))) == (1, 1)
    if size >= 300:
        assert indexes(records, "other") == []
    assert fsck(records).findings == ()


def test_a_log_that_is_left_counts(local: Records, log: Simulated) -> None:
    """What it showed is remembered: the next URL has to continue it."""
    with serving(log) as one, serving(other_history(log, 700)) as two:
        source_id, first = name(local, one)
        follow(local)
        leave(local, source_id)
        second = name_log(local, source_id, two)
        due(local)
        follow(local)

    assert forked(local, first, second) == [True, True]
    assert row(local, second).next_index == 0


def test_after_a_fork_another_url_is_no_other_log(local: Records, log: Simulated) -> None:
    """It is frozen as soon as its first checkpoint is verified: no entry of it is kept."""
    with serving(log) as one, serving(log) as two:
        source_id, first = name(local, one)
        follow(local)
        one.log = two.log = other_history(log, 301)
        look_again(local)
        look_again(local)
        assert forked(local, first) == [True]
        known = indexes(local)
        second = name_log(local, source_id, two)
        for _ in range(3):
            look_again(local)

    assert forked(local, second) == [True]
    assert row(local, second).fork == row(local, first).fork
    assert two.asked.count("checkpoint") == 1, "it is followed no more"
    assert indexes(local) == known
    assert {one.issuer_log_id for one in forks_told(local)} == {first, second}


def test_a_fork_freezes_the_siblings_with_it(local: Records, log: Simulated) -> None:
    """The other one shows nothing wrong, and has another policy with the same key in it."""
    both = Policy.of(LOG_KEY.verifying_key(), IMPOSTOR.verifying_key())
    with serving(log) as one, serving(log) as two:
        _, first = name(local, one)
        _, second = name(local, two, both)
        follow(local)
        one.log = other_history(log, 301)
        with local.database.write() as tx:
            tx.execute(sa.update(issuer_logs).where(issuer_logs.c.id == first).values(next_at=None))
        follow(local)

    assert forked(local, first, second) == [True, True]
    assert row(local, second).fork == row(local, first).fork


def test_who_has_another_key_is_no_sibling(local: Records, log: Simulated) -> None:
    """Anybody may make a key of that name, and name a log: neither its checkpoints nor its forks count for others."""
    both = Policy.of(LOG_KEY.verifying_key(), IMPOSTOR.verifying_key())
    with serving(log) as one, serving(Simulated(other_history(log, 300).entries, IMPOSTOR)) as two, serving(log) as own:
        _, first = name(local, one)
        _, second = name(local, two, Policy.of(IMPOSTOR.verifying_key()), "other")
        _, third = name(local, own, both, "other")
        follow(local)
        look_again(local)
        before = forked(local, first, second)
        two.log = Simulated((*log.entries[:5], *two.log.entries[:5]), IMPOSTOR)
        two.checkpoint = two.log.checkpoint(10)
        look_again(local)

    assert before == [False, False]
    assert forked(local, first, third) == [False, True], "the third believes both keys, which signed two histories"
    assert row(local, first).next_index == 300


def test_what_was_compared_is_not_compared_again(local: Records, log: Simulated) -> None:
    """A smaller one is compared once, by hashes of the larger one's tiles; then there is nothing to ask."""
    asked: list[list[str]] = []

    async def look_on(server: Server) -> None:
        following = Following(local, PROCESS)
        try:
            for _ in range(3):
                due(local)
                server.asked.clear()
                await asyncio.gather(*await following.look())
                asked.append(list(server.asked))
        finally:
            await following.close()

    with serving(log) as one, serving(log_of(*log.entries[:200])) as two:
        _, first = name(local, one)
        follow(local)
        _, second = name(local, two)
        follow(local)
        asyncio.run(look_on(one))

    assert forked(local, first, second) == [False, False]
    assert [row(local, log_id).next_index for log_id in (first, second)] == [300, 200]
    assert asked[0][0] == "checkpoint"
    assert [path[:7] for path in asked[0][1:]] == ["tile/0/"]
    assert asked[1:] == [["checkpoint"]] * 2


def test_what_cannot_be_compared_is_not_believed(local: Records, log: Simulated) -> None:
    """A log that keeps back the hashes that would show a fork is failing, until it shows them."""
    with serving(log_of(*log.entries[:200])) as two, serving(other_history(log, 300)) as one:
        name_log(local, add(local), two)
        follow(local)
        first = name_log(local, add(local), one)
        one.when("tile/0/", status(404))
        follow(local)
        failing = row(local, first)
        one.well()
        look_again(local)

    assert (failing.complete_at, failing.next_index, failing.forked_at) == (None, 0, None)
    assert failing.failure is not None
    assert forked(local, first) == [True]
