"""Calls that were passed on: the table `attempts`, held against the intents and against what tells of the calls."""

import pytest
import sqlalchemy as sa

from receiver.fsck import fsck
from receiver.records.opening import Records
from receiver.records.tables import attempts, deliveries
from receiver.settings import Settings
from tests.receiver.fsck.calls import Filled, fill_calls

LATER = "'2030-01-01T00:00:00.000000Z'"


def ended(outcome: str, told: str, status: str = "NULL") -> str:
    """What sets a call's row to that outcome, in all that belongs to it."""
    at = f"(SELECT logged_at FROM deliveries WHERE id = {told})"
    return f"SET outcome = '{outcome}', outcome_id = {told}, status = {status}, ended_at = {at}"


UNKNOWN = "SET outcome = NULL, outcome_id = NULL, status = NULL, ended_at = NULL"


def test_calls_of_every_fate_are_clean(calls: Filled) -> None:
    """Whatever became of a call, at once or later, once or in several tellings: as the service left it."""
    assert calls.found() == []
    outcomes = {
        "recorded": 9,
        "duplicate": 3,
        "mismatch": 1,
        "quarantined": 1,
        "refused": 1,
        "not_sent": 1,
        "repeated": 1,
        "not_done": 1,
    }
    for outcome, number in outcomes.items():
        assert calls.copy.one(f"SELECT count(*) FROM attempts WHERE outcome = '{outcome}'") == number
    assert calls.copy.one("SELECT count(*) FROM attempts") == sum(outcomes.values()) + 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("SET outcome = 'recorded'", "outcome is 'recorded', and [refused_told] tells 'refused'"),
        ("SET outcome = 'melted'", "outcome is 'melted', and [refused_told] tells 'refused'"),
        ("SET status = 200", "status is 200, and [refused_told] tells 409"),
        ("SET status = NULL", "status is None, and [refused_told] tells 409"),
        ("SET outcome_id = 'nobody'", "the delivery nobody that tells its outcome is not there"),
        ("SET outcome_id = NULL", "the delivery None that tells its outcome is not there"),
        (
            ended("recorded", "[done_told]", "200"),
            "the delivery [done_told] that tells its outcome tells nothing of it",
        ),
        (ended("refused", "[done]"), "the delivery [done] that tells its outcome tells nothing of it"),
        ("SET source_id = [other_source]", "source_id is '[other_source]', its intent's '[source]'"),
    ],
)
def test_a_row_that_says_otherwise(calls: Filled, change: str, problem: str) -> None:
    """What a call's row says must be what its intent and the delivery that it names say."""
    calls.damage(f"UPDATE attempts {change} WHERE id = [refused]")
    assert calls.found() == [f"records: attempt [refused]: {problem}"]


@pytest.mark.parametrize(
    ("call", "change", "problem"),
    [
        ("not_sent", "SET status = 502", "status is 502, and [not_sent_told] tells None"),
        ("done", "SET status = 201", "status is 201, and [done_told] tells 200"),
        ("differs", "SET status = NULL", "status is None, and [differs_told] tells 200"),
        ("strange", "SET outcome = 'refused'", "outcome is 'refused', and [strange_told] tells 'quarantined'"),
        ("differs", "SET outcome = 'recorded'", "outcome is 'recorded', and [differs_told] tells 'mismatch'"),
        ("again", "SET outcome = 'recorded'", "outcome is 'recorded', and [again_told] tells 'duplicate'"),
        ("found", "SET status = 200", "status is 200, and [found_told] tells None"),
        ("answer", "SET status = NULL", "status is None, and [answer_told] tells 200"),
        ("unknown", "SET status = 500", "status is given, and there is no outcome"),
        ("unknown", f"SET ended_at = {LATER}", "ended_at is given, and there is no outcome"),
        ("unknown", "SET outcome = 'not_done'", "the delivery None that tells its outcome is not there"),
        (
            "unknown",
            ended("not_done", "[not_done_told]"),
            "the delivery [not_done_told] that tells its outcome tells nothing of it",
        ),
    ],
)
def test_other_outcomes_that_are_said_otherwise(calls: Filled, call: str, change: str, problem: str) -> None:
    """Whatever kind of delivery tells of a call, and where none does."""
    calls.damage(f"UPDATE attempts {change} WHERE id = [{call}]")
    assert calls.found() == [f"records: attempt [{call}]: {problem}"]


def test_when_it_ended(calls: Filled) -> None:
    """It is when that was logged which tells of it."""
    told = calls.copy.one(f"SELECT logged_at FROM deliveries WHERE id = '{calls.ids['refused_told']}'")
    calls.damage(f"UPDATE attempts SET ended_at = {LATER} WHERE id = [refused]")
    assert calls.found() == [
        f"records: attempt [refused]: ended_at is {LATER}, and [refused_told] tells '{told}'",
    ]


@pytest.mark.parametrize(
    "call",
    ["done", "again", "differs", "strange", "refused", "not_sent", "repeated", "not_done", "found_too", "record"],
)
def test_an_outcome_that_is_taken_away(calls: Filled, call: str) -> None:
    """A call of unknown outcome is one that no delivery tells of."""
    tellings = {"record": ["record_kept", "record_told"]}.get(call, [f"{call}_told"])
    calls.damage(f"UPDATE attempts {UNKNOWN} WHERE id = [{call}]")
    assert calls.found() == [
        f"row [{told}]: it tells of the call [{call}], which has no outcome in attempts" for told in tellings
    ]


@pytest.mark.parametrize(
    ("call", "change", "named", "said"),
    [
        ("found", ended("refused", "[found_told1]", "409"), ["found_told"], "found_told1"),
        ("job", ended("recorded", "[job_told1]"), ["job_told"], "job_told1"),
        ("late", ended("not_done", "[late_told]"), ["late_told1", "late_told2"], "late_told"),
        ("late", ended("quarantined", "[late_told1]", "200"), ["late_told2"], "late_told1"),
        ("answer", ended("quarantined", "[answer_kept]", "200"), ["answer_told"], "answer_kept"),
        ("record", ended("quarantined", "[record_kept]"), ["record_told"], "record_kept"),
    ],
)
def test_an_outcome_that_is_another_telling(calls: Filled, call: str, change: str, named: list[str], said: str) -> None:
    """Where several deliveries tell of a call, it is the first; one that left it open gives way to the next."""
    calls.damage(f"UPDATE attempts {change} WHERE id = [{call}]")
    assert calls.found() == [
        f"row [{told}]: it tells what became of the call [{call}], in attempts that is [{said}]" for told in named
    ]


def test_a_row_that_is_gone(calls: Filled) -> None:
    """Every intent has its row, of a known outcome or not."""
    calls.damage("DELETE FROM attempts WHERE id IN ([refused], [unknown])")
    assert calls.found() == [f"row [{call}]: it has no row in attempts" for call in ("refused", "unknown")]


def test_a_row_under_another_id(calls: Filled) -> None:
    """It is nobody's, and the intent has none."""
    calls.damage("UPDATE attempts SET id = 'nobody' WHERE id = [refused]")
    assert calls.found() == [
        "row [refused]: it has no row in attempts",
        "records: attempt nobody: there is no such delivery",
        "records: attempt nobody: the delivery [refused_told] that tells its outcome tells nothing of it",
    ]


@pytest.mark.parametrize("delivery", ["refused_told", "done_told", "differs_told", "strange_told"])
def test_a_row_of_what_is_no_call(calls: Filled, delivery: str) -> None:
    """Only an intent has one."""
    columns, values = "id, source_id, key_id, upstream, settle_at, looks", f"[{delivery}], [source], [key], '', '', 0"
    calls.damage(f"INSERT INTO attempts ({columns}) VALUES ({values})")
    kind = calls.copy.one(f"SELECT kind FROM deliveries WHERE id = '{calls.ids[delivery]}'")
    assert calls.found() == [f"records: attempt [{delivery}]: the {kind} of this id is no call's intent"]


def test_the_key_that_a_call_was_made_with(calls: Filled) -> None:
    """It stands in the intent's entry."""
    calls.damage("UPDATE attempts SET key_id = [other_key] WHERE id = [unknown]")
    assert calls.found() == ["row [unknown]: key is '[other_key]', the entry's fact '[key]'"]


@pytest.mark.parametrize("call", ["done", "redemption"])
@pytest.mark.parametrize("value", ["NULL", "zeroblob(16)"])
def test_the_idempotency_key_of_a_call(calls: Filled, call: str, value: str) -> None:
    """Which calls were one and the same follows from what was sent, in a header or in the body."""
    calls.damage(f"UPDATE attempts SET idempotency = {value} WHERE id = [{call}]")
    assert calls.found() == [f"row [{call}]: idempotency is not what its delivery gives"]


def test_calls_without_an_idempotency_key(calls: Filled) -> None:
    """Where the provider has none, no two calls are one."""
    calls.damage("UPDATE attempts SET idempotency = zeroblob(16) WHERE id = [job]")
    assert calls.found() == ["row [job]: idempotency is not what its delivery gives"]


def test_an_intent_that_is_gone(calls: Filled) -> None:
    """It is named in its entry, by all that tells of the call, and by the call's row."""
    calls.damage("DELETE FROM deliveries WHERE id = [found]")
    assert calls.found() == [
        "entry [found]: is the attempt [found], which has no row",
        "row [found_told]: the call [found] that it tells of is not there",
        "row [found_told1]: the call [found] that it tells of is not there",
        "records: attempt [found]: there is no such delivery",
    ]


@pytest.mark.parametrize(
    ("call", "kind"),
    [("refused", "attempt"), ("strange", "quarantine"), ("differs", "mismatch"), ("breach", "revocation")],
)
def test_what_tells_of_a_call_is_gone(calls: Filled, call: str, kind: str) -> None:
    """It is named in its entry and by the call's row."""
    calls.damage(f"DELETE FROM deliveries WHERE id = [{call}_told]")
    assert calls.found() == [
        f"entry [{call}_told]: is the {kind} [{call}_told], which has no row",
        f"records: attempt [{call}]: the delivery [{call}_told] that tells its outcome is not there",
    ]


def test_entries_that_are_gone(calls: Filled) -> None:
    """Where an entry is missing, nothing is said of the call but that."""
    for name in ("refused", "done_told"):
        index = calls.copy.one(f"SELECT log_index FROM deliveries WHERE id = '{calls.ids[name]}'")
        calls.copy.damage('DELETE FROM log_entries WHERE "index" = ?', index)
    assert {line.partition(": ")[2] for line in calls.found()} == {"is missing", "has no entry"}


def test_when_a_call_is_looked_after_is_nobodys_word(calls: Filled) -> None:
    """When it is asked after next or for the first time, how often it was, and at which upstream, no entry says."""
    changes = f"next_at = NULL, looks = 7, settle_at = {LATER}, upstream = 'https://another'"
    calls.damage(f"UPDATE attempts SET {changes} WHERE id = [unknown]")
    assert calls.found() == []


def test_both_databases(settings: Settings) -> None:
    """On SQLite and on PostgreSQL alike: clean, and then each kind of damage is found."""
    settings = settings.model_copy(update={"publish_interval": 0.05})
    ids = fill_calls(settings)
    records = Records.inspect(settings)
    rows = sa.update(attempts)
    answers = sa.update(deliveries)
    try:
        clean = fsck(records)
        with records.database.write() as tx:
            for statement, name in (
                (rows.values(outcome=None), "done"),
                (rows.values(outcome="recorded"), "refused"),
                (rows.values(outcome_id=ids["done_told"]), "strange"),
                (rows.values(key_id=ids["other_key"]), "differs"),
                (rows.values(idempotency=None), "breach"),
                (rows.values(source_id=ids["other_source"]), "not_sent"),
                (sa.delete(attempts), "not_done"),
                (answers.values(reason="not_done"), "repeated_told"),
                (answers.values(digest=bytes(16)), "found_told"),
            ):
                tx.execute(statement.where(statement.table.c.id == ids[name]))
        damaged = fsck(records)
    finally:
        records.close()

    assert (clean.findings, clean.remarks) == ((), ())
    names = {id_: name for name, id_ in ids.items()}
    places = [finding.place.partition(" (")[0].split(" ") for finding in damaged.findings]
    assert [(kind, names[id_]) for kind, id_ in places] == [
        ("row", "done_told"),
        ("row", "differs"),
        ("row", "breach"),
        ("row", "repeated_told"),
        ("row", "not_done"),
        ("row", "found_told"),
        *[("attempt", "done")] * 3,
        ("attempt", "strange"),
        ("attempt", "refused"),
        ("attempt", "not_sent"),
    ]
