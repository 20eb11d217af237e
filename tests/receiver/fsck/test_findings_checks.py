"""What is known of events: the table `checks`, held against the events and against what was found out of them."""

import pytest

from tests.receiver.fsck.calls import Filled


@pytest.mark.parametrize(
    ("event", "change", "problem"),
    [
        ("absent", "state = 'confirmed'", "state is 'confirmed', and [absent_told] tells 'absent'"),
        ("contradicted", "state = 'pending'", "state is 'pending', and [contradicted_told] tells 'contradicted'"),
        ("denied", "state = 'confirmed'", "state is 'confirmed', and [denied_told] tells 'contradicted'"),
        ("none", "state = 'confirmed'", "state is 'confirmed', and [none_told] tells 'none'"),
        ("again", "state = 'absent'", "state is 'absent', and [again_told1] tells 'pending'"),
        ("pending", "state = 'confirmed'", "state is 'confirmed', and nothing was found out of it yet"),
        ("confirmed", "by = 'provider_record'", "by is 'provider_record', and [confirmed_told] tells 'issuer_log'"),
        ("recorded", "by = 'issuer_log'", "by is 'issuer_log', and [recorded_told] tells 'provider_record'"),
        ("pending", "by = 'issuer_log'", "by is 'issuer_log', and nothing was found out of it yet"),
        ("late", "late = 0", "late is False, and [late_told1] tells True"),
        ("confirmed", "late = 1", "late is True, and [confirmed_told] tells False"),
        ("pending", "since = '2026'", "since is '2026', and nothing was found out of it yet"),
        ("confirmed", "issuer_index = 1", "issuer_index is 1, and [confirmed_told] tells 0"),
        ("absent", "issuer_index = 1", "issuer_index is 1, and [absent_told] tells None"),
        ("pending", "issuer_index = 1", "issuer_index is 1, and nothing was found out of it yet"),
        (
            "confirmed",
            "issuer_log_id = [forked]",
            "issuer_log_id is '[forked]', and [confirmed_told] tells '[issuer]'",
        ),
        ("absent", "issuer_log_id = NULL", "issuer_log_id is None, and [absent_told] tells '[issuer]'"),
        ("pending", "issuer_log_id = 'x'", "the issuer log x is not there"),
        (
            "late",
            "finding_id = [late_told]",
            "finding_id is '[late_told]', and of the findings about it the last one is '[late_told1]'",
        ),
        (
            "late",
            "finding_id = NULL, state = 'pending', by = NULL, late = 0, since = NULL, issuer_index = NULL",
            "finding_id is None, and of the findings about it the last one is '[late_told1]'",
        ),
        (
            "pending",
            "finding_id = [confirmed_told], state = 'confirmed'",
            "finding_id is '[confirmed_told]', and of the findings about it there is none",
        ),
        ("confirmed", "item_key = zeroblob(16)", "item_key is not its event's"),
        ("confirmed", "operation_key = zeroblob(16)", "operation_key is not what its event gives"),
        ("recorded", "operation_key = NULL", "operation_key is not what its event gives"),
        ("confirmed", "source_id = [asked]", "source_id is '[asked]', its event's '[source]'"),
        ("confirmed", "tenant_id = 2", "tenant_id is 2, its event's 1"),
    ],
)
def test_a_row_that_says_otherwise(found: Filled, event: str, change: str, problem: str) -> None:
    """What is known of an event is what was found out last, of the very event."""
    found.damage(f"UPDATE checks SET {change} WHERE event_id = [{event}]")
    assert found.found() == [f"records: check of [{event}]: {problem}"]


def test_since_when_it_is_known(found: Filled) -> None:
    """Since that was logged."""
    told = found.copy.one(f"SELECT logged_at FROM findings WHERE id = '{found.ids['confirmed_told']}'")
    found.damage("UPDATE checks SET since = '2026' WHERE event_id = [confirmed]")
    assert found.found() == [f"records: check of [confirmed]: since is '2026', and [confirmed_told] tells '{told}'"]


def test_a_finding_that_is_gone(found: Filled) -> None:
    """It is missed by its entry, and by what is known of the event."""
    found.damage("DELETE FROM findings WHERE id IN ([late_told1], [confirmed_told])")
    about = "and of the findings about it"
    assert found.found() == [
        "entry [confirmed_told]: is the cross_check [confirmed_told], which has no row",
        "entry [late_told1]: is the cross_check [late_told1], which has no row",
        f"records: check of [confirmed]: finding_id is '[confirmed_told]', {about} there is none",
        f"records: check of [late]: finding_id is '[late_told1]', {about} the last one is '[late_told]'",
    ]


@pytest.mark.parametrize(
    ("event", "problems"),
    [
        ("pending", ["records: row [pending]: was taken up to be checked, and is not in checks"]),
        (
            "confirmed",
            [
                "finding [confirmed_told]: the event [confirmed] that it is of has no row in checks",
                "records: row [confirmed]: was taken up to be checked, and is not in checks",
            ],
        ),
        ("recorded", ["finding [recorded_told]: the event [recorded] that it is of has no row in checks"]),
    ],
)
def test_a_row_that_is_gone(found: Filled, event: str, problems: list[str]) -> None:
    """It is missed by what was found out of the event; and by that its source's events were taken up."""
    found.damage(f"DELETE FROM checks WHERE event_id = [{event}]")
    assert found.found() == problems


def test_events_that_were_not_taken_up_yet(found: Filled) -> None:
    """They have no row, and that is nothing wrong."""
    found.damage("DELETE FROM checks WHERE event_id = [pending]")
    found.damage("DELETE FROM taken_up WHERE source_id = [source]")
    assert found.found() == []


def test_a_row_of_no_event(found: Filled) -> None:
    """It is of a delivery that is there, and one that is checked at all; and the event that it was of misses it."""
    missed = "records: row [pending]: was taken up to be checked, and is not in checks"
    found.damage("UPDATE checks SET event_id = 'nobody' WHERE event_id = [pending]")
    assert found.found() == ["records: check of nobody: there is no such event", missed]
    found.damage("UPDATE checks SET event_id = [quarantined] WHERE event_id = 'nobody'")
    assert found.found() == [
        "records: check of [quarantined]: what is of this id is never checked",
        "records: check of [quarantined]: item_key is not its event's",
        missed,
    ]


def test_an_event_that_is_damaged(found: Filled) -> None:
    """That is told with its own row, and not once more."""
    found.damage("UPDATE deliveries SET event_data = CAST('{}' AS BLOB) WHERE id = [confirmed]")
    assert found.found() == [
        "row [confirmed]: event_data, event_salt do not give the event that the entry commits to",
    ]


def test_when_an_event_is_judged_is_nobodys_word(found: Filled) -> None:
    """When it is due, how often it was looked at, and when its grace period is over, no entry says."""
    found.damage("UPDATE checks SET due_at = NULL, looks = 7, grace_over_at = '2030' WHERE event_id = [pending]")
    assert found.found() == []


def test_what_cannot_be_read_ends_nothing(found: Filled) -> None:
    """Where a table holds what no part of the service writes, that is a fault, and the others are checked."""
    found.damage("UPDATE checks SET item_key = 'text' WHERE event_id = [confirmed]")
    found.damage("UPDATE claims SET proof = 'text' WHERE issuer_log_id = [issuer]")
    found.damage("UPDATE issuer_logs SET next_index = 7 WHERE id = [issuer]")
    assert found.found() == [
        "records: issuer log [issuer]: next_index is 7, its state's 8",
        "records: checks: could not be ended: TypeError: string argument without an encoding",
        "records: claims: could not be ended: TypeError: string argument without an encoding",
    ]
