"""What following an issuer's log leaves in the database: each entry that concerns a tenant, once, and how far it is."""

import gc
import itertools
import logging
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from receiver.assurance import rounds
from receiver.assurance.wanted import Reading, Unreadable
from receiver.events import parse_time
from receiver.records.keyed import item_key, operation_key
from receiver.records.opening import Records
from receiver.records.tables import claims, sources
from tests.receiver.issuing import (
    ACCOUNT,
    OTHER,
    POLICY,
    add,
    due,
    entry,
    follow,
    indexes,
    kept,
    log_of,
    name_log,
    read_entry,
    row,
)
from tests.translog.faults import Moment, at
from tests.translog.misbehaving import Say, serving
from translog.follower import State
from translog.proof import TlogProof
from translog.tiles import TILE_WIDTH


def starts_at(records: Records, source_id: str) -> int | None:
    """From which entry on a source's gaps are."""
    with records.database.read() as tx:
        return tx.execute(sa.select(sources.c.issuer_log_from).where(sources.c.id == source_id)).scalar_one()


# ---- what is kept ---------------------------------------------------------------------------------------------------


def test_what_concerns_a_source_is_kept_with_its_proof(records: Records) -> None:
    """Of its provider and account, or of no account; under the tenant's keys, and with what anybody can verify."""
    mine, nobodys = entry(), entry(account=None, operation=None)
    log = log_of(entry(account=OTHER), mine, b"something else", entry(provider="scrip"), nobodys, b"{}")
    with serving(log) as server:
        before = datetime.now(UTC)
        name_log(records, add(records), server)
        follow(records)

    rows, hash_key = kept(records), records.tenant("default").hash_key
    assert [(one.place, one.provider, one.announced, one.due_at) for one in rows] == [
        (1, "truthlocks", False, ""),
        (4, "truthlocks", False, ""),
    ]
    for one, data in zip(rows, (mine, nobodys), strict=True):
        proof, claim = TlogProof.parse(one.proof), read_entry(data)
        assert (one.entry, proof.extra, proof.index) == (data, data, one.place)
        assert proof.verify(data, POLICY).size == log.size
        assert one.item_key == item_key(hash_key, "truthlocks", claim.item)
        assert parse_time(one.seen_at) > before
    assert rows[0].operation_key == operation_key(hash_key, "truthlocks", str(read_entry(mine).operation))
    assert rows[1].operation_key is None


def test_how_far_a_log_was_followed_is_kept(records: Records) -> None:
    """Its verified checkpoint, the first entry that is not read, and when that was asked for; nobody holds it then."""
    log = log_of(*(entry() for _ in range(300)))
    with serving(log) as server:
        log_id = name_log(records, add(records), server)
        before = datetime.now(UTC)
        follow(records)

    found = row(records, log_id)
    state = State.parse(found.state)
    assert (state.note, state.size) == (log.checkpoint(), 300)
    assert (found.size, found.next_index, found.unreadable) == (300, 300, 0)
    assert (found.failing_since, found.failure, found.fork, found.holder, found.held_until) == (None,) * 5
    assert before < parse_time(found.fetched_at) == parse_time(found.complete_at) < datetime.now(UTC)
    assert (parse_time(found.next_at) - parse_time(found.fetched_at)).total_seconds() == 10


def test_what_is_new_is_read_and_nothing_twice(records: Records) -> None:
    """The next round asks for the few tiles that prove the growth, and for the bundle that has what is new."""
    entries = [entry() for _ in range(600)]
    with serving(log_of(*entries[:599])) as server:
        log_id = name_log(records, add(records), server)
        follow(records)
        first = row(records, log_id)
        server.log, asked = log_of(*entries), len(server.asked)
        due(records)
        follow(records)
        fetched = server.asked[asked:]

    found = row(records, log_id)
    assert indexes(records) == list(range(600))
    assert [path for path in fetched if "entries" in path] == ["tile/entries/002.p/88"]
    assert (found.size, found.next_index) == (600, 600)
    assert found.complete_at > first.complete_at


def test_an_unchanged_log_is_complete_again(local: Records) -> None:
    """A checkpoint that says nothing new counts: nothing was missing when it was asked for."""
    with serving(log_of(entry())) as server:
        log_id = name_log(local, add(local), server)
        follow(local)
        first = row(local, log_id)
        due(local)
        follow(local)

    assert row(local, log_id).complete_at > first.complete_at
    assert row(local, log_id).state == first.state


def test_an_empty_log_is_complete(local: Records) -> None:
    """There is nothing to read in it, and gaps start at its first entry."""
    with serving(log_of()) as server:
        source_id = add(local)
        log_id = name_log(local, source_id, server)
        follow(local)

    assert (row(local, log_id).size, row(local, log_id).next_index) == (0, 0)
    assert row(local, log_id).complete_at is not None
    assert starts_at(local, source_id) == 0


def test_a_log_is_followed_when_it_is_due(local: Records) -> None:
    """As often as the most impatient of its sources has it, and not before."""
    with serving(log_of(entry())) as server:
        name_log(local, add(local), server, follow_every=60)
        log_id = name_log(local, add(local), server, follow_every=20)
        follow(local)
        follow(local)

    found = row(local, log_id)
    assert server.asked.count("checkpoint") == 1
    assert (parse_time(found.next_at) - parse_time(found.fetched_at)).total_seconds() == 20


def test_a_disabled_source_has_nothing_followed(local: Records) -> None:
    """Its log is left alone until it is enabled again."""
    with serving(log_of(entry())) as server:
        name_log(local, add(local), server, enabled=False)
        follow(local)

    assert (server.asked, indexes(local)) == ([], [])


def test_an_entry_that_cannot_be_read_is_counted(local: Records, caplog: pytest.LogCaptureFixture) -> None:
    """It is of a wanted provider and not as it has to be: told once a round, and passed by."""
    broken = entry(effect="vanished")
    with serving(log_of(entry(), broken, broken, entry(provider="scrip", effect="vanished"))) as server:
        log_id = name_log(local, add(local), server)
        with caplog.at_level(logging.WARNING, "receiver.assurance"):
            follow(local)

    assert (row(local, log_id).unreadable, row(local, log_id).next_index, indexes(local)) == (2, 4, [0])
    told = [one.getMessage() for one in caplog.records if one.name.startswith("receiver")]
    assert len(told) == 1
    assert told[0].startswith("2 entries of the log ")
    assert "the first, 1: effect is 'vanished'" in told[0]


def test_of_entries_that_cannot_be_read_only_the_first_is_held(local: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: a log may hold millions of them."""
    monkeypatch.setattr("translog.follower.MAX_BUNDLES", 1)
    held: list[int] = []
    before = sum(isinstance(one, Unreadable) for one in gc.get_objects())
    with serving(log_of(*(entry(effect="vanished") for _ in range(600)))) as server:

        async def count(_honest: bytes | None, say: Say) -> None:
            held.append(sum(isinstance(one, Unreadable) for one in gc.get_objects()) - before)
            await server.answer("tile/entries/002.p/88", say)

        server.when("tile/entries/002.p/88", count, times=1)
        log_id = name_log(local, add(local), server)
        follow(local)

    assert held[0] in {1, 1 + TILE_WIDTH}  # those of the last bundle may be about to go
    assert row(local, log_id).unreadable == 600


# ---- whose ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"exclusive": True}, {"account": None}], ids=["exclusive", "no account"])
def test_a_source_may_want_every_account(local: Records, settings: dict[str, object]) -> None:
    """All of its provider, if the log is its own, or it does not say which account it is."""
    with serving(log_of(entry(), entry(account=OTHER), entry(account=None), entry(provider="scrip"))) as server:
        name_log(local, add(local), server, **settings)
        follow(local)

    assert indexes(local) == [0, 1, 2]


def test_a_log_that_several_tenants_name_is_followed_once(records: Records) -> None:
    """Each keeps what concerns it, under its own keys."""
    records.ensure_tenant("other")
    with serving(log_of(entry(), entry(account=OTHER), entry(account=None))) as server:
        one = name_log(records, add(records), server)
        other = name_log(records, add(records, "other", account=OTHER), server)
        name_log(records, add(records, "other", provider="scrip"), server)
        follow(records)

    assert one == other
    assert (indexes(records), indexes(records, "other")) == ([0, 2], [1, 2])
    assert kept(records)[1].item_key != kept(records, "other")[1].item_key
    assert server.asked.count("checkpoint") == 1


def test_an_account_is_the_same_in_any_case(local: Records) -> None:
    """A UUID is; what is kept is only what may matter, so rather more than less."""
    with serving(log_of(entry(account=ACCOUNT.upper()))) as server:
        name_log(local, add(local), server)
        follow(local)

    assert indexes(local) == [0]


def test_when_more_is_wanted_the_log_is_read_again(records: Records) -> None:
    """Another source's entries are found where they were passed by; what was kept stays as it was, erased or not."""
    with serving(log_of(entry(), entry(account=OTHER), entry())) as server:
        first = add(records)
        log_id = name_log(records, first, server)
        follow(records)
        begin = row(records, log_id)
        with records.database.write() as tx:
            tx.execute(sa.update(claims).where(claims.c.index == 0).values(entry=None, proof=None, announced=True))
        source_id = add(records, account=OTHER)
        name_log(records, source_id, server)
        follow(records)

    rows, found = kept(records), row(records, log_id)
    assert [(one.place, one.announced, one.entry is None) for one in rows] == [
        (0, True, True),
        (1, False, False),
        (2, False, False),
    ]
    assert (found.next_index, State.parse(found.state).note) == (3, State.parse(begin.state).note)
    assert found.complete_at > begin.complete_at
    assert (starts_at(records, first), starts_at(records, source_id)) == (3, 3)


def test_until_it_is_read_again_it_is_complete_for_those_it_was_read_for(local: Records) -> None:
    """As of when it was, for the others' entries; nothing is kept of it yet for the one that is new."""
    with serving(log_of(entry(), entry(account=OTHER))) as server:
        log_id = name_log(local, add(local), server)
        follow(local)
        begin = row(local, log_id)
    name_log(local, add(local, account=OTHER), server)
    with serving(log_of()) as another:
        assert another.url != server.url
        follow(local)  # nobody is there any more

    found = row(local, log_id)
    assert (found.complete_at, found.next_index, found.size) == (begin.complete_at, 0, 2)
    assert Reading.parse(found.wanted).kept == Reading.parse(begin.wanted).now
    assert State.parse(found.state).note == State.parse(begin.state).note
    assert "cannot be fetched" in found.failure


def test_who_changes_a_source_again_and_again_stops_nothing(local: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is being read again is read to its end, whatever is wanted meanwhile; that has its turn after it."""
    monkeypatch.setattr("receiver.assurance.rounds.LASTS", 0)
    monkeypatch.setattr("translog.follower.MAX_BUNDLES", 1)
    with serving(log_of(*(entry(account=f"account-{number % 9}") for number in range(600)))) as server:
        name_log(local, add(local), server)
        other = add(local, account=OTHER)
        log_id = name_log(local, other, server)
        places: list[int] = []
        for number in range(13):
            name_log(local, other, server, account=f"account-{number % 9}")
            follow(local)
            places.append(row(local, log_id).next_index)

    assert [before for before, after in itertools.pairwise(places) if after < before] == [600, 600]
    assert indexes(local) == [index for index in range(600) if index % 9 in {0, 5}]


def test_when_less_is_wanted_nothing_is_read_again(local: Records) -> None:
    """It is only noted; and wanted again it is read again, for entries may have been passed by in between."""
    entries = [entry(), entry(account=OTHER)]
    with serving(log_of(*entries)) as server:
        name_log(local, add(local), server)
        source_id = add(local, account=OTHER)
        log_id = name_log(local, source_id, server)
        follow(local)
        begin = row(local, log_id)
        name_log(local, source_id, server, enabled=False)
        follow(local)
        less = row(local, log_id)
        server.log = log_of(*entries, entry(account=OTHER))
        due(local)
        follow(local)
        passed_by = indexes(local)
        name_log(local, source_id, server, enabled=True)
        follow(local)

    assert less.wanted != begin.wanted
    assert (less.complete_at, less.next_index) == (begin.complete_at, 2)
    assert (passed_by, indexes(local)) == ([0, 1], [0, 1, 2])


# ---- where gaps start -----------------------------------------------------------------------------------------------


def test_gaps_start_at_the_first_checkpoint_if_nothing_else_is_known(records: Records) -> None:
    """The log could not be asked when the source was added; where it is known, it stays."""
    unknown, known = add(records), add(records)
    entries = [entry() for _ in range(5)]
    with serving(log_of(*entries)) as server:
        name_log(records, unknown, server)
        name_log(records, known, server, issuer_log_from=2)
        follow(records)
        first = starts_at(records, unknown), starts_at(records, known)
        server.log = log_of(*entries, entry())
        due(records)
        follow(records)

    assert first == (5, 2)
    assert (starts_at(records, unknown), starts_at(records, known)) == (5, 2)


def test_a_log_that_cannot_be_had_tells_nothing_of_that(local: Records) -> None:
    """The source's gaps still start nowhere, and will when there is a verified checkpoint."""
    source_id = add(local)
    name_log(local, source_id, "http://127.0.0.1:1/log")
    follow(local)

    assert starts_at(local, source_id) is None


# ---- crashes --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone: nothing it has under way goes on, and nothing is noted of that."""


def kill() -> None:
    """Be gone."""
    raise Killed


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_commit_it_goes_on_without_gap_or_double(
    records: Records, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wanted, held, kept in pieces, read, complete, let go: what was lost is read again, and nothing is there twice."""
    monkeypatch.setattr(rounds, "PIECE", 100)
    source_id, concerned = add(records), [index for index in range(600) if index % 3]
    log = log_of(*(entry() if index % 3 else entry(account=OTHER) for index in range(600)))
    kills = 0
    while True:
        with serving(log) as server:  # each time at another address, so that it is another log
            log_id = name_log(records, source_id, server)
            with at(records.database, moment, "COMMIT", kills + 1, kill) as met, suppress(Killed):
                follow(records)
            if len(met) <= kills:
                break
            kills += 1
            follow(records)
            due(records)
            follow(records)
        assert [one.place for one in kept(records) if one.issuer_log_id == log_id] == concerned
        found = row(records, log_id)
        assert (found.next_index, found.size, found.failure) == (600, 600, None)
        assert found.complete_at is not None
    assert kills > 4
