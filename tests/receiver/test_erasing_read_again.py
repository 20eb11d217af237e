"""What was read again out of quarantine and was there already: it is erased, and held, with what it is the same as."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from click.testing import CliRunner, Result

from receiver.cli import cli
from receiver.erasure.aging import run
from receiver.erasure.due import Due
from receiver.erasure.requests import HeldError, begin, resume, run_held
from receiver.erasure.retention import set_days
from receiver.erasure.selecting import Target, Wanted
from receiver.intake.reprocessing import NotReprocessableError, reprocess
from receiver.intake.submission import Outcome, Status
from receiver.records.engine import Database
from receiver.records.keeping import erasures
from receiver.records.migrations import steps, upgrade
from receiver.records.opening import Records
from receiver.records.tables import reprocessed
from tests.receiver.erasing import erase, faults_of, opening, traces
from tests.receiver.holding import acting, covered, delivered, hold, kept_of, release
from tests.receiver.open_calls import new_caller
from tests.receiver.operations import EXAMPLES
from tests.receiver.service import ACCOUNT, revoked
from tests.receiver.submissions import Source, new_sources
from tests.receiver.test_reprocessing import again, keep, quarantined, set_source

ITEM = {"provider": "truthlocks", "type": "receipt", "id": "secret-a"}
BODY, DIFFERS = revoked("secret-a"), revoked("secret-a", note="differs")
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def source(records: Records) -> Source:
    """A source of the tenant `default`, with an account."""
    return new_sources(records, "default", account=ACCOUNT)[0]


def same_as(records: Records) -> dict[str, str | None]:
    """What each delivery that was read again is noted to be the same as."""
    with records.database.read() as tx:
        rows = tx.execute(sa.select(reprocessed.c.quarantine_id, reprocessed.c.same_id)).all()
    return {row.quarantine_id: row.same_id for row in rows}


def states(records: Records) -> list[tuple[str, str]]:
    """The requests to erase, oldest first: who asked, and how far they are."""
    with records.database.read() as tx:
        rows = tx.execute(sa.select(erasures.c.asked_by, erasures.c.state).order_by(erasures.c.id)).all()
    return [(row.asked_by, row.state) for row in rows]


def read_again(source: Source) -> tuple[str, str, str, str]:
    """An event, a mismatch of it, and a copy of either that was in quarantine until now; their ids."""
    copies = [keep(source, BODY), keep(source, DIFFERS)]
    event, _ = source.write(BODY, DIFFERS)
    mismatch = source.rows()[-1].id
    assert [one and one.status for one in (again(source, copy) for copy in copies)] == ["duplicate", "mismatch"]
    return event.id, mismatch, copies[0].id, copies[1].id


# ---- erased with it -------------------------------------------------------------------------------------------------


def test_it_is_noted_what_it_is_the_same_as(records: Records, source: Source) -> None:
    """The event, and not the one that a mismatch differs from; and all of it goes with the item."""
    event, mismatch, of_event, of_mismatch = read_again(source)

    assert same_as(records) == {of_event: event, of_mismatch: mismatch}
    assert faults_of(records) == []
    assert erase(records, item=ITEM).erased == 4
    assert (traces(records, "secret-a"), faults_of(records)) == ([], [])


@ONE_DATABASE
@pytest.mark.parametrize("asked", [0, 1, 2, 3])
def test_a_copy_goes_with_what_it_repeats(records: Records, source: Source, asked: int) -> None:
    """And what it repeats with the copy; with a mismatch alone the event stays."""
    ids = read_again(source)
    _, mismatch, _, of_mismatch = ids
    goes = set(ids) if asked in {0, 2} else {mismatch, of_mismatch}

    assert erase(records, event_id=ids[asked]).erased == len(goes)
    assert opening(records) & set(ids) == set(ids) - goes
    assert faults_of(records) == []


@ONE_DATABASE
def test_what_is_not_understood_any_more_stays_the_same(records: Records, source: Source) -> None:
    """Its data is in what was there, however it is read by the settings of now."""
    copy = keep(source, BODY)
    source.write(BODY)
    first = again(source, copy)
    set_source(source, account="another account")

    assert again(source, copy) == first
    assert erase(records, item=ITEM).erased == 2
    assert traces(records, "secret-a") == []


@ONE_DATABASE
def test_a_call_that_was_answered_with_an_event_once_more(records: Records) -> None:
    """That answer was in quarantine. With its call it goes, and the event stays; with the event all of it goes."""
    for with_event in (False, True):
        caller = new_caller(records, "truthlocks")
        first, second = caller.begin(), caller.begin()
        event, copy = caller.answered(first), quarantined(caller, second)
        outcome = reprocess(records, caller.party.tenant, copy.id)
        assert outcome is not None
        assert (outcome.status, outcome.id, same_as(records)[copy.id]) == (Status.DUPLICATE, event.id, event.id)
        mine = {first.id, event.id, second.id, copy.id, caller.told()[-1].id}

        erase(records, event_id=event.id if with_event else second.id)
        assert opening(records) & mine == (set() if with_event else {first.id, event.id})
    assert faults_of(records) == []


@ONE_DATABASE
def test_all_answers_to_a_call_go_with_it(records: Records) -> None:
    """Also one that came when it was known what became of the call, and differs from what another call did."""
    caller = new_caller(records, "truthlocks")
    first, second = caller.begin(), caller.begin()
    answer = EXAMPLES["truthlocks"].answer
    event, mismatch, late = (
        caller.answered(call, {**answer, "x": number}) for number, call in enumerate((first, second, second))
    )
    assert [one.status for one in (event, mismatch, late)] == ["recorded", "mismatch", "mismatch"]
    rows = {row.log_index: row.id for row in caller.told()}

    assert erase(records, event_id=second.id).erased == 3
    assert opening(records) >= {first.id, event.id}
    assert not opening(records) & {second.id, rows[mismatch.log_index], rows[late.log_index]}


# ---- erased before it -----------------------------------------------------------------------------------------------


def read_late(source: Source) -> Outcome:
    """A copy in quarantine that is read again when what it is the same as is erased, by one who says so."""
    copy = keep(source, BODY)
    source.write(BODY)
    assert erase(source.records, item=ITEM).erased == 1
    outcome = reprocess(source.records, source.endpoint.tenant, copy.id, "the key")
    assert outcome is not None
    assert outcome.status == Status.DUPLICATE
    return copy


def test_what_is_the_same_as_what_is_erased_is_erased(records: Records, source: Source) -> None:
    """In the background, as if whoever had it read again had asked for that; then there is nothing left to read."""
    copy = read_late(source)
    assert again(source, copy) is not None
    assert (states(records), faults_of(records)) == ([("command", "completed"), ("the key", "running")], [])

    resume(records, source.endpoint.tenant)
    assert states(records)[1:] == [("the key", "completed")]
    assert (traces(records, "secret-a"), faults_of(records)) == ([], [])
    with pytest.raises(NotReprocessableError, match="is erased"):
        again(source, copy)


@ONE_DATABASE
def test_it_is_found_by_what_is_erased(records: Records, source: Source) -> None:
    """Whoever asks for the same again need not wait for the background."""
    read_late(source)

    assert erase(records, item=ITEM).erased == 1
    assert traces(records, "secret-a") == []
    resume(records, source.endpoint.tenant)
    assert states(records)[1:] == [("the key", "completed"), ("command", "completed")]


@ONE_DATABASE
def test_what_came_since_is_not_erased_with_it(records: Records, source: Source) -> None:
    """A mismatch of what was erased is new, and nobody has asked for its erasure."""
    copy = read_late(source)
    source.write(DIFFERS)
    mismatch = source.rows()[-1].id

    resume(records, source.endpoint.tenant)
    assert opening(records) & {copy.id, mismatch} == {mismatch}
    assert erase(records, item=ITEM).erased == 1


# ---- all of them at once --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Clock:
    """Time that passes only for whoever sleeps, a second each."""

    slept: int = 0

    def monotonic(self) -> float:
        """Seconds since it began."""
        return float(self.slept)

    def sleep(self, _seconds: float) -> None:
        """Let one pass."""
        self.slept += 1


@ONE_DATABASE
def test_whoever_reads_is_waited_for_once(records: Records, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a turn, for all requests of all tenants; what they erase is gone, and they are completed together later."""
    clock, due = Clock(), Due(records)
    monkeypatch.setattr("receiver.erasure.requests.time", clock)
    monkeypatch.setattr("receiver.records.engine.TRUNCATING_MS", 0)
    [other] = new_sources(records, "other", account=ACCOUNT)
    for of in (source, other):
        for event in of.write(revoked("secret-b"), revoked("secret-c")):
            begin(records, of.endpoint.tenant, Target.EVENT, Wanted(event_id=event.id), "asked for")
    with records.database.read() as tx:
        tx.execute(sa.select(erasures.c.id)).all()
        due.turn()
        assert (clock.slept, {state for _, state in states(records)}) == (3, {"running"})
        assert opening(records).isdisjoint(row.id for of in (source, other) for row in of.rows())
        due.turn()
        assert clock.slept == 6
    due.turn()
    assert (clock.slept, {state for _, state in states(records)}) == (6, {"completed"})


def by_command(records: Records, *arguments: str) -> Result:
    """`receiver quarantine reprocess`, on these records."""
    settings = records.settings
    environment = {"RESCIND_DATABASE_URL": settings.url, "RESCIND_GUARD": str(settings.guard)}
    command = ["quarantine", "reprocess", *arguments, "--data", str(settings.data)]
    return CliRunner().invoke(cli, command, env=environment)


@ONE_DATABASE
def test_a_command_erases_what_it_has_read(records: Records, source: Source) -> None:
    """And nothing that somebody else has asked for."""
    copy = keep(source, BODY)
    [_, theirs] = source.write(BODY, revoked("r2"))
    erase(records, item=ITEM)
    begin(records, source.endpoint.tenant, Target.EVENT, Wanted(event_id=theirs.id), "asked for", "their key")

    assert by_command(records, "--all").exit_code == 0
    assert states(records)[1:] == [("their key", "running"), ("command", "completed")]
    assert opening(records) & {copy.id, theirs.id} == {theirs.id}


@ONE_DATABASE
def test_a_command_that_cannot_erase_what_it_has_read(
    records: Records, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what became of it all the same, and that this is left to be done: by whom, and how."""
    copy = keep(source, BODY)
    source.write(BODY)
    erase(records, item=ITEM)

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system", "a file")

    with monkeypatch.context() as patch:
        patch.setattr("receiver.erasure.requests.clear_up", fail)
        result = by_command(records, copy.id, "--json")
    assert json.loads(result.stdout)["counts"] == {"duplicate": 1}
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Copies of what is erased are left: a running service erases them, or call this with their ids.",
        "Error: a file: Read-only file system",
    ]
    assert states(records)[1:] == [("command", "running")]
    assert "is erased: there is nothing left to read" in by_command(records, copy.id).stderr
    assert states(records)[1:] == [("command", "completed")]


# ---- held with it ---------------------------------------------------------------------------------------------------


@ONE_DATABASE
def test_a_hold_covers_copies(records: Records, source: Source) -> None:
    """Of a held item's event and its mismatches: neither by its id nor by its age is one erased."""
    ids = read_again(source)
    hold(records, acting(records, "Ann"), item=ITEM)

    assert kept_of(records, *ids) == set(ids)
    for one in ids:
        assert covered(records, one) is not None
        with pytest.raises(HeldError):
            erase(records, event_id=one)


@ONE_DATABASE
def test_retention_passes_over_held_copies(records: Records, source: Source) -> None:
    """And erases them as everything else when the hold is released."""
    tenant, ann, bob = source.endpoint.tenant, acting(records, "Ann"), acting(records, "Bob")
    copy = keep(source, BODY, at=datetime.now(UTC) - timedelta(days=100))
    delivered(source, BODY, days_ago=100)
    again(source, copy)
    placed = hold(records, ann, item=ITEM)
    set_days(records, tenant, "truthlocks", 30)

    assert [(one.erased, one.held) for one in run(records, tenant)] == [(0, 2)]
    release(records, placed, bob)
    assert [(one.erased, one.held) for one in run(records, tenant)] == [(2, 0)]


@ONE_DATABASE
def test_a_copy_of_what_is_erased_may_be_held(records: Records, source: Source) -> None:
    """It stays until the hold is released."""
    placed = hold(records, acting(records, "Ann"), item={**ITEM, "id": "other"})
    copy = read_late(source)
    bob, tenant = acting(records, "Bob"), source.endpoint.tenant
    of_source = hold(records, acting(records, "Cid"), source=source.endpoint.source.id)
    release(records, placed, bob)

    resume(records, tenant)
    assert (states(records)[1:], copy.id in opening(records)) == ([("the key", "held")], True)
    release(records, of_source, bob)
    run_held(records, tenant)
    assert (states(records)[1:], traces(records, "secret-a")) == ([("the key", "completed")], [])


# ---- earlier versions -----------------------------------------------------------------------------------------------


def test_what_an_earlier_version_noted(sqlite_url: str, connect: Callable[[str], Database]) -> None:
    """Where it did not note what a delivery is the same as, that is pending again; the other notes stay."""
    database = connect(sqlite_url)
    with database.write() as tx:
        command.upgrade(steps.config(tx), "0004")
    file = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))  # where nothing asks for what they refer to
    notes = [("a", "recorded", "e"), ("b", "duplicate", None), ("c", "mismatch", "m"), ("d", "mismatch", None)]
    file.executemany(
        "INSERT INTO reprocessed (quarantine_id, at, status, row_id) VALUES (?, 'then', ?, ?)",
        [*notes, ("f", "ignored", None)],
    )
    file.commit()
    file.close()
    upgrade(database)

    with database.read() as tx:
        assert sorted(tx.execute(sa.select(reprocessed.c.quarantine_id)).scalars()) == ["a", "c", "f"]
