"""Leaves, and the rows of deliveries beside them."""

import pytest

from receiver.events import Kind, new_id
from receiver.records.opening import Records
from tests.receiver.fsck.copies import AGAIN, CONTEXT, FIRST, MISMATCH, QUARANTINE, Copy, append
from translog.evidence import Leaf


def test_a_time_that_falls(copy: Copy, open_copy: Records) -> None:
    """Entries whose times fall are named, though tree and checkpoints are all in order."""
    last = copy.one("SELECT logged_at FROM logs")
    early = "2020-01-01T00:00:00.000000Z"
    append(open_copy, [Leaf(Kind.KEY, new_id(), early, {}, None, None).encode()], early)
    assert copy.found() == [f"entry 268: was logged at {early}, before the one before it ({last})"]


def test_entries_that_are_no_leaves(copy: Copy, open_copy: Records) -> None:
    """What a log holds that is no leaf, or of no known kind, is named, though tree and checkpoints are in order."""
    last = copy.one("SELECT logged_at FROM logs")
    append(open_copy, [b"anything", Leaf("surprise", new_id(), last, {}, None, None).encode()])
    assert copy.found() == [
        "entry 268: cannot be read: canonical JSON: Expecting value: line 1 column 1 (char 0)",
        "entry 269: is of the kind 'surprise', which this version does not know",
    ]


def test_an_event_without_a_row(copy: Copy, open_copy: Records) -> None:
    """An entry that tells of a delivery must have its row, and the row of a delivery its entry."""
    last = copy.one("SELECT logged_at FROM logs")
    leaf = Leaf(Kind.REVOCATION, new_id(), last, {}, None, None)
    append(open_copy, [leaf.encode()])
    gone = copy.one(f"SELECT id FROM deliveries WHERE log_index = {AGAIN}")
    copy.damage("DELETE FROM deliveries WHERE log_index = ?", AGAIN)
    assert copy.found() == [
        f"entry {AGAIN}: is the revocation {gone}, which has no row",
        f"entry 268: is the revocation {leaf.id}, which has no row",
    ]


def test_rows_that_nothing_stands_for(copy: Copy) -> None:
    """A row beside an entry of settings, and one beyond the log."""
    for index in (0, 268):
        other = {"id": f"'extra-{index}'", "log_index": str(index), "dedupe_key": f"zeroblob({index + 1})"}
        values = ", ".join(other.get(name, name) for name in copy.columns("deliveries"))
        copy.damage(f"INSERT INTO deliveries SELECT {values} FROM deliveries WHERE log_index = ?", CONTEXT)

    assert copy.found() == [
        "row extra-0 (entry 0): stands beside a tenant, which has no row",
        "row extra-268 (entry 268): has no entry",
    ]
    assert copy.report().deliveries == 267


@pytest.mark.parametrize(
    ("index", "change", "problems"),
    [
        (FIRST, "kind = 'context'", ["kind is 'context', the entry's 'revocation'"]),
        (AGAIN, "id = 'another'", ["id is 'another', the entry's '{id}'"]),
        (
            FIRST,
            "logged_at = '2030-01-01T00:00:00.000000Z'",
            ["logged_at is '2030-01-01T00:00:00.000000Z', the entry's '{logged_at}'"],
        ),
        (
            FIRST,
            "received_at = '2030-01-01T00:00:00.000000Z'",
            ["received_at is '2030-01-01T00:00:00.000000Z', the entry's fact '{received_at}'"],
        ),
        (FIRST, "event = 'key.revoked'", ["event is 'key.revoked', the entry's fact 'receipt.revoked'"]),
        (FIRST, "effect = 'refused'", ["effect is 'refused', the entry's fact 'revoked'"]),
        (FIRST, "scheme = 'token'", ["scheme is 'token', the entry's fact 'standard-webhooks'"]),
        (FIRST, "test = 1", ["test is True, the entry's fact False"]),
        (FIRST, 'breaches = \'[["id_not_uuid", ""]]\'', ["breaches is ['id_not_uuid'], the entry's fact []"]),
        (AGAIN, "breaches = NULL", ["breaches is [], the entry's fact ['revoked_again']"]),
        (AGAIN, "breaches = 'no JSON'", ["breaches is 'no JSON', the entry's fact ['revoked_again']"]),
        (FIRST, "reason = 'not_json'", ["reason is given, which a revocation has not"]),
        (FIRST, "first_id = 'x'", ["first_id is given, which a revocation has not"]),
        (
            FIRST,
            "occurred_at = NULL",
            ["occurred_at is None, the event's '2026-11-20T08:59:58.000000Z'"],
        ),
        (QUARANTINE, "reason = 'not_json'", ["reason is 'not_json', the entry's fact 'wrong_shape'"]),
        (QUARANTINE, "via = 'poll'", ["via is 'poll', and the entry names no call that was passed on"]),
        (MISMATCH, "via = 'relay'", ["via is 'relay', and the entry names no call that was passed on"]),
        (MISMATCH, "scheme = 'upstream'", ["scheme is 'upstream', and the entry names no call that was passed on"]),
        (QUARANTINE, "event = 'receipt.revoked'", ["event is given, which a quarantine has not"]),
        (QUARANTINE, "event_data = x'00'", ["the event is given, and the entry does not commit to it"]),
        (
            FIRST,
            "event_salt = zeroblob(32)",
            ["event_data, event_salt do not give the event that the entry commits to"],
        ),
        (
            FIRST,
            "event_salt = x'00'",
            ["the event cannot be opened: opening: a salt is exactly 32 bytes, this one has 1"],
        ),
        (
            FIRST,
            "event_data = CAST(replace(event_data, '08:59', '09:59') AS BLOB)",
            ["event_data, event_salt do not give the event that the entry commits to"],
        ),
        (
            MISMATCH,
            "delivery_salt = zeroblob(32)",
            ["headers, body, delivery_salt do not give the delivery that the entry commits to"],
        ),
        (
            CONTEXT,
            "body = CAST(body || ' ' AS BLOB)",
            ["headers, body, delivery_salt do not give the delivery that the entry commits to"],
        ),
        (
            FIRST,
            "headers = replace(headers, 'msg_', 'msg-')",
            ["headers, body, delivery_salt do not give the delivery that the entry commits to"],
        ),
        (
            FIRST,
            "headers = '['",
            ["the delivery cannot be opened: Expecting value: line 1 column 2 (char 1)"],
        ),
        (FIRST, "event_salt = NULL", ["the event cannot be opened without event_salt"]),
        (FIRST, "headers = NULL, body = NULL", ["the delivery cannot be opened without headers and body"]),
        (
            FIRST,
            "event_data = NULL, event_salt = NULL, headers = NULL, body = NULL, delivery_salt = NULL",
            [
                "the event is erased, and no erasure entry names it",
                "the delivery is erased, and no erasure entry names it",
            ],
        ),
        (FIRST, "item_key = zeroblob(16)", ["item_key is not what its delivery gives"]),
        (FIRST, "item_key = NULL", ["item_key is not what its delivery gives"]),
        (AGAIN, "group_key = zeroblob(16)", ["group_key is not what its delivery gives"]),
        (AGAIN, "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        (CONTEXT, "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        (QUARANTINE, "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        (QUARANTINE, "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        (MISMATCH, "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        (MISMATCH, "group_key = zeroblob(16)", ["group_key is not what its delivery gives"]),
        (
            MISMATCH,
            "first_id = 'nobody'",
            [
                "first is 'nobody', the entry's fact '{first}'",
                "the event nobody that it differs from is not there",
            ],
        ),
    ],
)
def test_a_row_that_its_entry_does_not_bear_out(copy: Copy, index: int, change: str, problems: list[str]) -> None:
    """Whatever a row says that its entry does not, and whatever it holds that was not committed to, is named."""
    leaf = Leaf.parse(copy.entry(index))
    copy.damage(f"UPDATE deliveries SET {change} WHERE log_index = {index}")
    values = {"id": leaf.id, "logged_at": leaf.logged_at, **leaf.facts}
    assert copy.found() == [f"{copy.row(index)}: {problem.format(**values)}" for problem in problems]


def test_a_row_of_another_source(copy: Copy) -> None:
    """A source that is not there is told, and that the facts name another."""
    source = copy.one("SELECT id FROM sources")
    copy.damage("UPDATE deliveries SET source_id = 'nobody' WHERE log_index = ?", QUARANTINE)
    assert copy.found() == [
        f"{copy.row(QUARANTINE)}: the source nobody is not there",
        f"{copy.row(QUARANTINE)}: provider is None, the entry's fact 'truthlocks'",
        f"{copy.row(QUARANTINE)}: source is 'nobody', the entry's fact '{source}'",
    ]


def test_rows_of_another_tenant(copy: Copy, open_copy: Records) -> None:
    """A source of another tenant gives nobody's deliveries."""
    other = open_copy.ensure_tenant("other")
    copy.damage("UPDATE sources SET tenant_id = ?", other.id)
    report = copy.report()
    source = copy.one("SELECT id FROM sources")
    assert report.found == 265 + 2, "and that it is not where it was told of"
    assert len(report.findings) == 100
    assert {finding.problem for finding in report.findings} == {f"the source {source} is another tenant's"}
    assert report.logs == 2


def test_the_sentence_of_a_breach(copy: Copy) -> None:
    """A breach's code stands in the entry; its sentence follows from the item's earlier events."""
    copy.damage("UPDATE deliveries SET breaches = replace(breaches, 'final', 'fine') WHERE log_index = ?", AGAIN)
    sentence = "receipt revoked already, by entry 2 of the log; a revocation is"
    forged = f'[["revoked_again","{sentence} fine"]]'
    assert copy.found() == [f"{copy.row(AGAIN)}: breaches is '{forged}', the rules say ['{sentence} final']"]


def test_how_a_mismatch_came(copy: Copy) -> None:
    """The entry does not say it, but the provider does, of the delivery that was committed to."""
    copy.damage("UPDATE deliveries SET via = 'declared' WHERE log_index = ?", MISMATCH)
    assert copy.found() == [f"{copy.row(MISMATCH)}: via is 'declared', its delivery's 'webhook'"]
