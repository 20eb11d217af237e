"""Gaps: entries of an issuer's log that concern a source, and that no event told of in time."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from receiver.events import Effect, Item, format_time
from receiver.records.opening import Records
from receiver.records.tables import claims, issuer_logs
from tests.receiver.claims import (
    GRACE,
    ORGANIZATION,
    Issuer,
    check,
    deliver,
    kept,
    new_source,
    reconfigure,
    reversed_,
    told,
)
from tests.receiver.submissions import RECEIVED_AT, Source
from translog.merkle import leaf_hash

REDEMPTION = Item("redemption", "r1")
SEEN_AT = RECEIVED_AT + timedelta(minutes=10)
GRACE_OVER = format_time(SEEN_AT + timedelta(seconds=GRACE))
TOO_EARLY = format_time(SEEN_AT + timedelta(seconds=GRACE) - timedelta(microseconds=1))


@pytest.fixture
def issuer(records: Records) -> Issuer:
    """An issuer's log of which nothing is read yet."""
    return Issuer(records)


@pytest.fixture
def source(issuer: Issuer) -> Source:
    """A source that names it."""
    return issuer.source("scrip", ORGANIZATION)


def reverses(
    issuer: Issuer,
    reversal: str | None = "v1",
    account: str | None = ORGANIZATION,
    amount: str | None = None,
) -> int:
    """Log a reversal of the redemption; the entry's index."""
    return issuer.says("scrip", Effect.REVERSED, REDEMPTION, account=account, operation=reversal, amount=amount)


def judge(issuer: Issuer, asked_at: str | None = GRACE_OVER) -> None:
    """Have all of the log read that is there, as of that time, and judge what follows."""
    issuer.read_at(asked_at, SEEN_AT)
    check(issuer.records)


def gaps(source: Source) -> list[tuple[str, int]]:
    """What is told of gaps: the state, and the entry's index."""
    return [(one.facts["state"], one.data["issuer_index"]) for one in told(source, "gap")]


# ---- when an entry is a gap -----------------------------------------------------------------------------------------


def test_an_entry_that_nobody_announced_is_a_gap_in_the_end(issuer: Issuer, source: Source) -> None:
    """Once a checkpoint was asked for after its grace, counted from when it was seen; our log has the entry itself."""
    index = reverses(issuer)
    for asked_at in (None, TOO_EARLY):
        judge(issuer, asked_at)
        assert gaps(source) == []
        assert (kept(source.records, index).announced, kept(source.records, index).due_at) == (False, GRACE_OVER)
    judge(issuer)

    (finding,) = told(source, "gap")
    assert finding.facts == {
        "gap": None,
        "provider": "scrip",
        "source": source.endpoint.source.id,
        "state": "open",
    }
    assert finding.data == {
        "entry": leaf_hash(issuer.entries[index]).hex(),
        "issuer_index": index,
        "issuer_log": issuer.origin,
    }
    assert finding.body == issuer.entries[index]
    assert (finding.row.source_id, finding.row.event_id) == (source.endpoint.source.id, None)
    assert (finding.row.issuer_log_id, finding.row.issuer_index) == (issuer.id, index)
    row = kept(source.records, index)
    assert (row.gap_id, row.source_id, row.due_at) == (finding.row.id, source.endpoint.source.id, None)


def test_an_announced_entry_is_none(issuer: Issuer, source: Source) -> None:
    """Neither before its grace is over nor after that; and there is nothing to wait for."""
    deliver(source, reversed_("r1", "v1"))
    index = reverses(issuer)
    judge(issuer, None)
    judge(issuer)

    assert (kept(source.records, index).announced, kept(source.records, index).due_at) == (True, None)
    assert gaps(source) == []


def test_a_gap_may_be_announced_late(issuer: Issuer, source: Source) -> None:
    """Then that is told as well, and names what told of the gap."""
    index = reverses(issuer)
    judge(issuer)
    deliver(source, reversed_("r1", "v1"))
    check(source.records)
    judge(issuer)

    opened, announced = told(source, "gap")
    assert announced.facts == {**opened.facts, "gap": opened.row.id, "state": "announced"}
    assert (announced.data, announced.body) == (opened.data, None)
    row = kept(source.records, index)
    assert (row.announced, row.gap_id, row.due_at) == (True, opened.row.id, None)


def test_what_announced_an_entry_may_turn_out_to_tell_of_another(issuer: Issuer, source: Source) -> None:
    """Without operations: the entry of the very amount may come late. What was a gap then is one again, at once."""
    first, second = reverses(issuer, None), reverses(issuer, None, amount="40")
    later = issuer.entries.pop()
    judge(issuer)
    deliver(source, reversed_("r1", "v1", "40"))
    check(source.records)
    assert gaps(source) == [("open", first), ("announced", first)]

    issuer.entries.append(later)
    judge(issuer)

    assert gaps(source) == [("open", first), ("announced", first), ("open", first)]
    assert told(source, "gap")[-1].facts["gap"] == told(source, "gap")[0].row.id
    assert [kept(source.records, index).announced for index in (first, second)] == [False, True]


def test_an_entry_that_is_none_yet_starts_to_wait_again(issuer: Issuer, source: Source) -> None:
    """The same before it was ever told to be a gap."""
    deliver(source, reversed_("r1", "v1", "40"))
    first = reverses(issuer, None)
    judge(issuer, None)
    assert kept(source.records, first).announced
    reverses(issuer, None, amount="40")
    judge(issuer, None)

    assert (kept(source.records, first).announced, kept(source.records, first).due_at) == (False, GRACE_OVER)
    judge(issuer)
    assert gaps(source) == [("open", first)]


def test_a_log_that_has_forked_has_no_gaps(issuer: Issuer, source: Source) -> None:
    """What it says is not believed."""
    reverses(issuer)
    issuer.read_at(GRACE_OVER, SEEN_AT)
    with source.records.database.write() as tx:
        tx.execute(sa.update(issuer_logs).values(forked_at=GRACE_OVER, fork=b"evidence"))
    check(source.records)

    assert gaps(source) == []


@pytest.mark.parametrize("effect", sorted(Effect))
def test_of_which_effects_entries_are_gaps(issuer: Issuer, source: Source, effect: Effect) -> None:
    """What was taken back, was begun or came to nothing; but not what never was about taking back."""
    issuer.says("scrip", effect, REDEMPTION, account=ORGANIZATION, operation="v1")
    judge(issuer)

    assert gaps(source) == ([] if effect in {Effect.REFUSED, Effect.ACTIVATED} else [("open", 0)])


def test_what_was_begun_is_announced_by_what_was_done(records: Records, issuer: Issuer) -> None:
    """Though these are two operations: so it is with jobs."""
    source = issuer.source("scrip", ORGANIZATION)
    deliver(source, reversed_("r1", "v1"))
    begun = issuer.says("scrip", Effect.REVOKING, REDEMPTION, account=ORGANIZATION, operation="v1")
    judge(issuer)

    assert kept(records, begun).announced


# ---- whom an entry concerns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "exclusive", "named", "is_gap"),
    [
        pytest.param(ORGANIZATION, False, ORGANIZATION, True, id="its own"),
        pytest.param(ORGANIZATION, False, ORGANIZATION.upper(), True, id="its own, in another case"),
        pytest.param(ORGANIZATION, False, "another", False, id="another customer's"),
        pytest.param(ORGANIZATION, False, None, False, id="nobody's"),
        pytest.param(ORGANIZATION, True, "another", True, id="another account of an exclusive source"),
        pytest.param(ORGANIZATION, True, None, True, id="nobody's, of an exclusive source"),
        pytest.param(None, True, "another", True, id="any, of an exclusive source without an account"),
        pytest.param(None, False, ORGANIZATION, False, id="any, of a source without an account"),
        pytest.param(None, False, None, False, id="nobody's, of a source without an account"),
    ],
)
def test_whose_entries_are_gaps(
    issuer: Issuer, account: str | None, exclusive: bool, named: str | None, is_gap: bool
) -> None:
    """Those of the source's account, and all of an exclusive source's; never what another customer did."""
    source = issuer.source("scrip", account, exclusive=exclusive)
    reverses(issuer, account=named)
    judge(issuer)

    assert gaps(source) == ([("open", 0)] if is_gap else [])


def test_other_providers_entries_are_no_gaps(issuer: Issuer) -> None:
    """Several may share a log, and an account's name."""
    source = issuer.source("scrip", "1", exclusive=True)
    issuer.says("capillary", Effect.REVOKED, Item("badge", "b1"), account="1", operation="b1")
    judge(issuer)

    assert gaps(source) == []


@pytest.mark.parametrize(("starts_at", "expected"), [(0, [0, 1, 2]), (1, [1, 2]), (3, []), (None, [])])
def test_gaps_start_where_they_are_said_to(issuer: Issuer, starts_at: int | None, expected: list[int]) -> None:
    """At that entry; nowhere, as long as it is not known where."""
    source = issuer.source("scrip", ORGANIZATION, starts_at=starts_at)
    for reversal in ("v0", "v1", "v2"):
        reverses(issuer, reversal)
    judge(issuer)

    assert sorted(gaps(source)) == [("open", index) for index in expected]


def test_a_disabled_source_has_no_gaps(issuer: Issuer, source: Source) -> None:
    """Nothing is delivered to it."""
    reverses(issuer)
    judge(issuer, None)
    reconfigure(source, issuer.checking(), enabled=False)
    judge(issuer)

    assert (gaps(source), kept(source.records, 0).due_at) == ([], None)


def test_of_several_sources_the_longest_grace_counts(issuer: Issuer, source: Source) -> None:
    """Each of them may be who is told; and the gap is the first one's."""
    issuer.source("scrip", ORGANIZATION, grace=3 * GRACE)
    reverses(issuer)
    judge(issuer)
    assert gaps(source) == []

    judge(issuer, format_time(SEEN_AT + timedelta(seconds=3 * GRACE)))
    (finding,) = told(source, "gap")
    assert finding.facts["source"] == source.endpoint.source.id


# ---- who announces --------------------------------------------------------------------------------------------------


def test_any_source_of_the_tenant_announces(issuer: Issuer, source: Source) -> None:
    """Also one that names no log; but no other tenant's, and no test, which says nothing of what is real."""
    records = source.records
    relaying = new_source(records, "scrip", None)
    testing = new_source(records, "scrip", None, test=True)
    elsewhere = new_source(records, "scrip", None, "elsewhere")
    for reversal in ("v0", "v1", "v2"):
        issuer.says("scrip", Effect.REVERSED, Item("redemption", reversal), account=ORGANIZATION, operation=reversal)
    for number, other in enumerate((relaying, testing, elsewhere)):
        deliver(other, reversed_(f"v{number}", f"v{number}"))
    judge(issuer)

    assert gaps(source) == [("open", 1), ("open", 2)]


def test_a_source_that_is_not_checked_ends_a_gap(issuer: Issuer, source: Source) -> None:
    """Its events are gone through for that."""
    records = source.records
    other = new_source(records, "scrip", None)
    reverses(issuer)
    judge(issuer)
    assert gaps(source) == [("open", 0)]

    deliver(other, reversed_("r1", "v1"))
    check(records)

    assert gaps(source) == [("open", 0), ("announced", 0)]


def test_where_gaps_start_can_be_changed(issuer: Issuer) -> None:
    """What was not announced before is one then, if its time has come."""
    source = issuer.source("scrip", ORGANIZATION, starts_at=1)
    reverses(issuer, "v0")
    judge(issuer)
    assert gaps(source) == []

    reconfigure(source, issuer.checking(starts_at=0))
    check(source.records)

    assert gaps(source) == [("open", 0)]


def test_an_entry_that_is_erased_is_no_gap(issuer: Issuer, source: Source) -> None:
    """Nobody can say any more whose it would be, unless that was noted as it was erased."""
    reverses(issuer)
    issuer.read_at(GRACE_OVER, SEEN_AT)
    with source.records.database.write() as tx:
        tx.execute(sa.update(claims).values(entry=None, proof=None))
    check(source.records)

    assert (gaps(source), kept(source.records, 0).due_at) == ([], None)
