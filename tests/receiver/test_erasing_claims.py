"""Entries of issuers' logs and erasures: what is owed stays owed, what is held stays, and what goes is told."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.erasure import erasing
from receiver.erasure.requests import Ask, HeldError, ask, run_held
from receiver.events import Effect, Item, format_time
from receiver.exports import verify as verifier
from receiver.records.issuer_logs import Checking
from receiver.records.keeping import erased_claims
from receiver.records.opening import Records
from receiver.records.sources import HeldSourceError
from receiver.records.tables import claims
from tests.receiver.claims import (
    GRACE,
    ORGANIZATION,
    Issuer,
    changes,
    check,
    deliver,
    kept,
    new_source,
    reconfigure,
    reversed_,
    state_of,
)
from tests.receiver.claims import told as found
from tests.receiver.erasing import REASON, erase, faults_of, told, traces
from tests.receiver.exporting import bundle
from tests.receiver.holding import acting, hold, release
from tests.receiver.submissions import RECEIVED_AT, Source
from translog.bundle import verify
from translog.policy import Policy

BEFORE, OVER, LATER = (format_time(RECEIVED_AT + timedelta(seconds=GRACE * number)) for number in (0, 2, 4))
OTHER = "another-account"
ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def issuer(records: Records) -> Issuer:
    """An issuer's log."""
    return Issuer(records)


@pytest.fixture
def source(issuer: Issuer) -> Source:
    """A source that names it."""
    return issuer.source("scrip", ORGANIZATION)


def redemption(name: str) -> dict[str, str]:
    """An item, as it is asked for."""
    return {"provider": "scrip", "type": "redemption", "id": name}


def says(issuer: Issuer, item: str, operation: str | None, effect: Effect = Effect.REVERSED, **more: Any) -> int:
    """The issuer logs that; its index."""
    its: dict[str, Any] = {"operation": operation, "account": ORGANIZATION, **more}
    return issuer.says("scrip", effect, Item("redemption", item), **its)


def gaps(source: Source) -> list[tuple[str, Any, Any]]:
    """What was told of gaps: what became of each, the index of the entry that the row names, and what it opens to."""
    return [(one.facts["state"], one.row.issuer_index, one.data["issuer_index"]) for one in found(source, "gap")]


# ---- what is owed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("judged", [False, True])
def test_an_entry_that_is_erased_before_it_is_a_gap_becomes_one(
    records: Records, issuer: Issuer, source: Source, *, judged: bool
) -> None:
    """In its time: with nothing of what it said, and not even where it is. The erasure is told by itself."""
    says(issuer, "secret-a", "act-a")
    issuer.read_at(BEFORE)
    if judged:
        check(records)
    done = erase(records, item=redemption("secret-a"))

    assert (done.state, done.erased, len(done.entries)) == ("completed", 0, 1)
    [(index, leaf)] = told(records)
    assert [index] == done.entries
    assert (leaf.facts["ids"], leaf.facts["claims"], leaf.facts["erasure"]) == ([], 1, done.id)
    assert traces(records, "secret-a", "act-a") == []
    assert faults_of(records) == []
    check(records)
    assert gaps(source) == []

    issuer.read_at(OVER)
    check(records)
    assert gaps(source) == [("open", 0, None)]
    [gap] = found(source, "gap")
    assert (gap.body, gap.data["entry"], gap.row.source_id) == (None, None, source.endpoint.source.id)
    assert (kept(records, 0).gap_id, kept(records, 0).due_at) == (gap.row.id, None)
    assert faults_of(records) == []


def test_whom_it_does_not_concern_it_is_no_gap_of(records: Records, issuer: Issuer, source: Source) -> None:
    """Nor is what would be none if it were not erased."""
    issuer.source("scrip", OTHER)
    issuer.source("scrip", None)
    says(issuer, "a", "act-a", account=None)
    says(issuer, "a", "act-b", account="a third one")
    says(issuer, "a", "act-c", Effect.ACTIVATED)
    says(issuer, "a", "act-d", account=OTHER)
    issuer.read_at(BEFORE)
    check(records)
    erase(records, item=redemption("a"))
    issuer.read_at(OVER)
    check(records)

    assert [(one.row.source_id == source.endpoint.source.id, one.row.issuer_index) for one in found(source, "gap")] == [
        (False, 3)
    ]
    assert faults_of(records) == []


def test_it_waits_for_its_source(records: Records, issuer: Issuer, source: Source) -> None:
    """Nobody hides a gap by disabling the source while the entry is erased."""
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    reconfigure(source, issuer.checking(), enabled=False)
    check(records)
    erase(records, item=redemption("a"))
    issuer.read_at(OVER)
    check(records)
    assert gaps(source) == []

    reconfigure(source, issuer.checking())
    check(records)
    assert gaps(source) == [("open", 0, None)]
    assert faults_of(records) == []


@ONE_DATABASE
@pytest.mark.parametrize(("when", "to"), [("before", "elsewhere"), ("after", "elsewhere"), ("after", "disabled")])
def test_it_is_the_gap_of_whoever_takes_the_sources_place(
    records: Records, issuer: Issuer, source: Source, when: str, to: str
) -> None:
    """Before the erasure or after it, in the grace period; a source of another account is nobody's successor."""
    stranger = issuer.source("scrip", OTHER)
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    check(records)
    if when == "after":
        erase(records, item=redemption("a"))
    reconfigure(source, issuer.checking() if to == "disabled" else Checking(), enabled=to != "disabled")
    check(records)
    if when == "before":
        erase(records, item=redemption("a"))
    issuer.read_at(OVER)
    check(records)
    assert gaps(stranger) == []

    successor = issuer.source("scrip", ORGANIZATION)
    check(records)
    assert [(one.facts["state"], one.facts["source"]) for one in found(source, "gap")] == [
        ("open", successor.endpoint.source.id)
    ]
    assert faults_of(records) == []
    deliver(successor, reversed_("a", "act-a", "5.00"))
    check(records)
    assert [state for state, *_ in gaps(source)] == ["open", "announced"]
    assert faults_of(records) == []


@ONE_DATABASE
@pytest.mark.parametrize("account", [None, ORGANIZATION])
def test_whoever_takes_the_place_of_an_exclusive_source_owes_all_of_it(
    records: Records, issuer: Issuer, account: str | None
) -> None:
    """The entry's account nobody knows any more; another provider's it is not, nor one's that begins behind it."""
    first = issuer.source("scrip", None, exclusive=True)
    says(issuer, "a", "act-a", account=account)
    issuer.read_at(BEFORE)
    erase(records, item=redemption("a"))
    reconfigure(first, Checking(), enabled=False)
    issuer.source("thanx", None, exclusive=True)
    issuer.source("scrip", ORGANIZATION, starts_at=1)
    issuer.read_at(OVER)
    check(records)
    assert gaps(first) == []

    successor = issuer.source("scrip", ORGANIZATION)
    check(records)
    assert [one.facts["source"] for one in found(first, "gap")] == [successor.endpoint.source.id]
    assert faults_of(records) == []


def test_of_several_sources_the_longest_grace_counts(records: Records, issuer: Issuer, source: Source) -> None:
    """As it does of an entry that is not erased."""
    patient = issuer.source("scrip", ORGANIZATION, grace=3 * GRACE)
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    erase(records, item=redemption("a"))
    issuer.read_at(OVER)
    check(records)
    assert gaps(source) == []

    issuer.read_at(LATER)
    check(records)
    assert [one.row.source_id for one in found(source, "gap")] == [patient.endpoint.source.id]
    assert faults_of(records) == []


def test_an_event_that_comes_later_is_judged_to_an_end(records: Records, issuer: Issuer, source: Source) -> None:
    """What would confirm it is erased: so nothing is known of it, and the entry is announced."""
    says(issuer, "a", "act-a", amount="5.00")
    issuer.read_at(BEFORE)
    erase(records, item=redemption("a"))
    (event,) = deliver(source, reversed_("a", "act-a", "5.00"))
    check(records)
    assert state_of(records, event.id) == "pending"
    issuer.read_at(OVER)
    check(records)

    assert (state_of(records, event.id), changes(source)) == ("none", ["pending none"])
    assert gaps(source) == []
    assert kept(records, 0).announced
    assert faults_of(records) == []


def test_an_event_of_another_act_announces_nothing(records: Records, issuer: Issuer, source: Source) -> None:
    """The entry is still a gap, however the event ends; one that comes after that ends it."""
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    erase(records, item=redemption("a"))
    (other,) = deliver(source, reversed_("a", "act-b", "5.00"))
    issuer.read_at(OVER)
    check(records)
    assert gaps(source) == [("open", 0, None)]
    assert state_of(records, other.id) == "none"

    deliver(source, reversed_("a", "act-a", "5.00"), at=RECEIVED_AT + timedelta(days=1))
    issuer.read_at(LATER)
    check(records)
    assert gaps(source) == [("open", 0, None), ("announced", 0, None)]
    assert faults_of(records) == []


def test_what_is_erased_with_the_event_that_told_of_it_is_no_gap(
    records: Records, issuer: Issuer, source: Source
) -> None:
    """Though neither was judged by then; what another act owed is one."""
    deliver(source, reversed_("a", "act-a", "5.00"))
    says(issuer, "a", "act-a")
    says(issuer, "a", "act-b")
    check(records)
    issuer.read_at(BEFORE)
    erase(records, item=redemption("a"))
    issuer.read_at(OVER)
    check(records)

    assert gaps(source) == [("open", 1, None)]
    assert faults_of(records) == []


def test_an_event_that_is_erased_hides_no_other_acts_gap(records: Records, issuer: Issuer, source: Source) -> None:
    """The entry is kept, since another event of the item is; it is told of as if nothing had been erased."""
    gone, _ = deliver(source, reversed_("a", "act-a", "5.00"), reversed_("a", "act-b", "5.00"))
    check(records)
    says(issuer, "a", "act-c")
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    erase(records, event_id=gone.id)
    issuer.read_at(OVER)
    check(records)

    assert gaps(source) == [("open", 0, 0)]
    assert faults_of(records) == []


def test_what_is_erased_already_is_not_counted_again(records: Records, issuer: Issuer, source: Source) -> None:
    """An item's last event goes after the entries about it did: there is nothing left of these."""
    (event,) = deliver(source, reversed_("b", "act-b", "5.00"))
    says(issuer, "a", "act-a")
    says(issuer, "b", "act-b")
    issuer.read_at(BEFORE)
    check(records)
    assert erase(records, item=redemption("a")).erased == 0
    size = len(source.leaves())
    assert erase(records, item=redemption("a")).entries == []
    assert len(source.leaves()) == size
    assert erase(records, event_id=event.id).erased == 2

    assert [leaf.facts["claims"] for _, leaf in told(records)] == [1, 1]
    with records.database.read() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(erased_claims)).scalar_one() == 2
    assert faults_of(records) == []


def test_bundles_with_an_erasure_that_names_nothing_verify(
    records: Records, issuer: Issuer, source: Source, tmp_path: Path
) -> None:
    """It says nothing of any event; the gap that was told of an entry that is gone is an entry like others."""
    deliver(source, reversed_("b", "act-b", "5.00"))
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    erase(records, item=redemption("a"))
    issuer.read_at(OVER)
    check(records)
    assert [leaf.facts["ids"] for _, leaf in told(records)] == [[]]
    assert gaps(source) == [("open", 0, None)]
    path, key = bundle(records, tmp_path), source.endpoint.tenant.log.verifying_key

    assert verify(path, Policy.of(key)).signed == source.endpoint.tenant.log.published.note
    script = [sys.executable, "-I", verifier.__file__, str(path), "--key", str(key)]
    assert subprocess.run(script, check=False, capture_output=True).returncode == 0


# ---- what is held ---------------------------------------------------------------------------------------------------

PERIOD = {"since": "2026-11-20T00:00:00Z", "until": "2026-11-21T00:00:00Z"}


@pytest.mark.parametrize(
    "covers",
    [{"item": redemption("a")}, {"provider": "scrip"}, {"source": "its"}, {"source": "other"}, {"period": PERIOD}],
)
def test_a_hold_covers_an_entry_that_nothing_tells_of(
    records: Records, issuer: Issuer, source: Source, covers: dict[str, Any]
) -> None:
    """By its item, its provider, when it was seen, and any source that names its log. It goes once that is released."""
    other = issuer.source("scrip", OTHER)
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    named = {"its": source, "other": other}
    its = {"source": named[covers["source"]].endpoint.source.id} if "source" in covers else covers
    placed = hold(records, ann, **its)
    with pytest.raises(HeldError) as refused:
        erase(records, item=redemption("a"))
    assert refused.value.hold_id == placed.id
    assert kept(records, 0).entry is not None
    assert told(records) == []

    release(records, placed, bob)
    run_held(records, source.endpoint.tenant)
    assert kept(records, 0).entry is None
    assert faults_of(records) == []


@pytest.mark.parametrize(
    "covers",
    [
        {"provider": "truthlocks"},
        {"source": True},
        {"item": redemption("b")},
        {"period": {"since": "2020-01-01T00:00:00Z", "until": "2021-01-01T00:00:00Z"}},
    ],
)
def test_other_holds_do_not(records: Records, issuer: Issuer, source: Source, covers: dict[str, Any]) -> None:
    """What they are about has nothing to do with it."""
    elsewhere = new_source(records, "scrip", ORGANIZATION)
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    asked = {"source": elsewhere.endpoint.source.id} if "source" in covers else covers
    hold(records, acting(records, "Ann"), **asked)

    assert erase(records, item=redemption("a")).state == "completed"
    assert kept(records, 0).entry is None
    assert source.endpoint.tenant.id == kept(records, 0).tenant_id
    assert faults_of(records) == []


@ONE_DATABASE
def test_a_source_that_is_held_goes_on_naming_its_log(records: Records, issuer: Issuer, source: Source) -> None:
    """Or its entries would be held no longer; anything else of it may change, and that as well after the release."""
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    placed = hold(records, ann, source=source.endpoint.source.id)
    size = len(source.leaves())
    for checking in (Checking(), Issuer(records).checking()):
        with pytest.raises(HeldSourceError, match="cannot be changed before the hold is released") as refused:
            reconfigure(source, checking)
        assert refused.value.hold_id == placed.id
    assert len(source.leaves()) == size
    reconfigure(source, issuer.checking(grace=2 * GRACE), enabled=False)
    with pytest.raises(HeldError):
        erase(records, item=redemption("a"))

    release(records, placed, bob)
    reconfigure(source, Checking())
    assert faults_of(records) == []


@ONE_DATABASE
def test_a_source_that_is_held_may_be_given_a_log(records: Records, issuer: Issuer) -> None:
    """What names none yet lets nothing go by that. Another source's hold is none of it."""
    source, other = new_source(records, "scrip", ORGANIZATION), issuer.source("scrip", ORGANIZATION)
    hold(records, acting(records, "Ann"), source=source.endpoint.source.id)
    reconfigure(other, Checking())
    reconfigure(source, issuer.checking())
    says(issuer, "a", "act-a")
    issuer.read_at(BEFORE)

    with pytest.raises(HeldError):
        erase(records, item=redemption("a"))
    assert faults_of(records) == []


@pytest.mark.parametrize("by", ["source", "period"])
@pytest.mark.parametrize("which", ["event", "person"])
def test_what_goes_with_an_event_is_held_as_well(
    records: Records, issuer: Issuer, source: Source, by: str, which: str
) -> None:
    """A gap of another source's account, of the same item: it goes with the item's last event, unless it is held."""
    other = issuer.source("scrip", OTHER)
    (event,) = deliver(source, reversed_("a", "act-a", "5.00", participant_id="jane"))
    says(issuer, "a", "act-a", amount="5.00")
    says(issuer, "a", "act-b", account=OTHER)
    issuer.read_at(OVER)
    check(records)
    [gap] = found(source, "gap")
    assert gap.row.source_id == other.endpoint.source.id
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    covers: dict[str, Any] = {"source": other.endpoint.source.id}
    if by == "period":
        covers = {"period": {"since": gap.row.logged_at, "until": "2999-01-01T00:00:00Z"}}
    placed = hold(records, ann, **covers)
    asked = {"event_id": event.id} if which == "event" else {"person": "customer_id:jane"}
    with pytest.raises(HeldError) as refused:
        erase(records, **asked)

    assert refused.value.hold_id == placed.id
    assert (kept(records, 0).entry is None, kept(records, 1).entry is None) == (False, False)
    assert len(found(source, "gap")) == 1
    assert faults_of(records) == []
    release(records, placed, bob)
    run_held(records, source.endpoint.tenant)
    assert kept(records, 1).entry is None
    assert faults_of(records) == []


def test_what_a_later_step_would_take_is_looked_at_first(
    records: Records, issuer: Issuer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is erased if anything is held, in however many entries it would be told."""
    monkeypatch.setattr(erasing, "MOST", 2)
    monkeypatch.setattr("receiver.erasure.requests.MOST", 2)
    other = issuer.source("scrip", OTHER)
    names = [f"r{number}" for number in range(5)]
    deliver(source, *(reversed_(name, f"act-{name}", "5.00", participant_id="jane") for name in names))
    says(issuer, names[-1], "act-z", account=OTHER)
    issuer.read_at(BEFORE)
    hold(records, acting(records, "Ann"), source=other.endpoint.source.id)

    with pytest.raises(HeldError):
        ask(records, source.endpoint.tenant, Ask(reason=REASON, person="customer_id:jane"))
    assert told(records) == []
    with records.database.read() as tx:
        assert tx.execute(sa.select(claims.c.entry)).scalar_one() is not None
    assert faults_of(records) == []
