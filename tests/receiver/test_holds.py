"""Legal holds: what they cover, what belongs to it, and who may release them."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.erasure.placing import (
    HoldError,
    NoSuchHoldError,
    ReleasedError,
    SameOwnerError,
    find,
    get,
    one_owner,
    words_of,
)
from receiver.erasure.requests import Ask, HeldError, ask, run_held
from receiver.events import Effect, Item, Kind
from receiver.intake.reprocessing import reprocess
from receiver.records import keyed
from receiver.records.keeping import erasures, holds
from receiver.records.opening import Records
from receiver.records.tables import attempts, findings
from tests.receiver.claims import ORGANIZATION, Issuer, check, deliver, new_source, reversed_
from tests.receiver.holding import acting, covered, hold, kept_of, last_leaf, release, row_of, wrong
from tests.receiver.open_calls import new_caller
from tests.receiver.service import ACCOUNT, receipt_id, revoked
from tests.receiver.submissions import Source, new_sources
from tests.translog import faults
from tests.translog.faults import PowerCut

ITEM = {"provider": "truthlocks", "type": "receipt", "id": "r1"}


@pytest.fixture
def source(records: Records) -> Source:
    """A source of the tenant `default`."""
    return new_sources(records, "default", account=ACCOUNT)[0]


def findings_about(records: Records, kind: Kind) -> list[str]:
    """The ids of all findings of a kind."""
    with records.database.read() as tx:
        return list(tx.execute(sa.select(findings.c.id).where(findings.c.kind == kind.value)).scalars())


# ---- placing --------------------------------------------------------------------------------------------------------


def test_a_hold_is_an_entry_that_says_who_and_not_what(records: Records) -> None:
    """Its facts are ids; what is held, and why, is committed to and kept beside it."""
    ann = acting(records, "Ann")
    placed = hold(records, ann, item=ITEM)
    leaf = last_leaf(records)

    assert (leaf.kind, leaf.id, leaf.delivery) == (Kind.HOLD, placed.id, None)
    assert leaf.facts == {"by": ann.id, "hold": placed.id, "state": "placed"}
    assert json.loads(row_of(records, placed.id).event_data) == {"covers": {"item": ITEM}, "reason": "lawsuit 7"}
    assert (placed.state, placed.target, placed.item, placed.reason) == ("in_force", "item", ITEM, "lawsuit 7")
    assert (placed.placed_by, placed.placed_at) == (ann.id, leaf.logged_at)
    assert get(records, records.tenant("default"), placed.id) == placed
    assert wrong(records) == []


def test_a_person_who_is_held_is_named_nowhere(records: Records) -> None:
    """What is committed to says that it is a person, and no more."""
    placed = hold(records, acting(records, "Ann"), person="email:jane@example.com")

    assert json.loads(row_of(records, placed.id).event_data)["covers"] == {"person": True}
    assert (placed.target, placed.item, placed.source, placed.provider, placed.period) == (
        "person",
        None,
        None,
        None,
        None,
    )
    assert wrong(records) == []


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        ({}, "reason"),
        ({"source": "shop", "provider": "truthlocks"}, "provider"),
        ({"source": "shop"}, "source"),
        ({"source": "\0"}, "source"),
        ({"source": "\udc80"}, "source"),
        ({"provider": "nobody"}, "provider"),
        ({"person": "jane"}, "person"),
        ({"item": {}}, "item"),
        ({"item": {**ITEM, "more": "x"}}, "item"),
        ({"item": {**ITEM, "provider": "nobody"}}, "item"),
        ({"item": {**ITEM, "id": ""}}, "item"),
        ({"item": {**ITEM, "id": "x" * 257}}, "item"),
        ({"item": {**ITEM, "type": "\0"}}, "item"),
        ({"period": {"since": "2026-01-01T00:00:00Z"}}, "period"),
        ({"period": {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}}, "period"),
        ({"period": {"since": "2026", "until": "2027"}}, "period"),
        ({"provider": "truthlocks", "reason": ""}, "reason"),
        ({"provider": "truthlocks", "reason": " "}, "reason"),
        ({"provider": "truthlocks", "reason": "x" * 1001}, "reason"),
        ({"provider": "truthlocks", "reason": "\0"}, "reason"),
    ],
)
def test_what_cannot_be_held_is_refused(records: Records, asked: dict[str, Any], member: str) -> None:
    """By the member that is wrong; nothing is logged."""
    ann = acting(records, "Ann")
    size = records.tenant("default").log.head().size

    with pytest.raises(HoldError) as refused:
        hold(records, ann, **asked)
    assert refused.value.member == member
    assert records.tenant("default").log.head().size == size


# ---- what it covers -------------------------------------------------------------------------------------------------


def test_a_hold_covers_what_is_there_and_what_comes(records: Records, source: Source) -> None:
    """Of the item, however its id is written, and of no other."""
    receipt = receipt_id()
    [before] = source.write(revoked(receipt.upper()))
    placed = hold(records, acting(records, "Ann"), item={**ITEM, "id": receipt})
    after, other = source.write(revoked(receipt, revoked_at="2026-11-20T10:00:00Z"), revoked())

    assert covered(records, before.id) == placed.id
    assert covered(records, other.id, after.id) == placed.id
    assert covered(records, other.id) is None
    assert kept_of(records, before.id, after.id, other.id) == {before.id, after.id}


@pytest.mark.parametrize("by_name", [True, False])
def test_a_source_is_held_by_its_name_or_its_id(records: Records, source: Source, by_name: bool) -> None:
    """All of it, what could not be understood as well."""
    [other] = new_sources(records, "default")
    event, unread = source.write(revoked("r1"), b"{}")
    [elsewhere] = other.write(revoked("r1"))
    its = source.endpoint.source
    placed = hold(records, acting(records, "Ann"), source=its.name if by_name else its.id)

    assert placed.source == its.id
    assert kept_of(records, event.id, unread.id, elsewhere.id) == {event.id, unread.id}
    assert wrong(records) == []


def test_a_provider_is_held(records: Records, source: Source) -> None:
    """All of its sources, and no other's."""
    [event] = source.write(revoked("r1"))
    [elsewhere] = deliver(new_source(records, "scrip", ORGANIZATION), reversed_("a", "b", "1"))
    hold(records, acting(records, "Ann"), provider="scrip")

    assert kept_of(records, event.id, elsewhere.id) == {elsewhere.id}


def test_a_person_is_held(records: Records) -> None:
    """In all that names the person, by then or later, though nobody has gone through it yet."""
    scrip = new_source(records, "scrip", ORGANIZATION)
    [before] = deliver(scrip, reversed_("a", "b", "1", participant_id="jane"))
    hold(records, acting(records, "Ann"), person="customer_id:jane")
    after, other = deliver(
        scrip, reversed_("c", "d", "1", participant_id="jane"), reversed_("e", "f", "1", participant_id="joe")
    )

    assert kept_of(records, before.id, after.id, other.id) == {before.id, after.id}


def test_a_period_is_held(records: Records, source: Source) -> None:
    """By when deliveries were received: from its beginning on, and before its end."""
    ids = [
        deliver(source, revoked(f"r{place}"), at=at)[0].id
        for place, at in enumerate(
            source.submission(b"{}").received_at.replace(hour=hour, microsecond=micro)
            for hour, micro in ((7, 999_999), (8, 0), (8, 1), (9, 0))
        )
    ]
    period = {"since": "2026-11-20T08:00:00Z", "until": "2026-11-20T10:00:00+01:00"}
    placed = hold(records, acting(records, "Ann"), period=period)

    assert placed.period == {"since": "2026-11-20T08:00:00.000000Z", "until": "2026-11-20T09:00:00.000000Z"}
    assert kept_of(records, *ids) == set(ids[1:3])
    assert wrong(records) == []


def test_what_belongs_to_it_is_held_with_it(records: Records, source: Source) -> None:
    """A mismatch of a held item's event, and the quarantined delivery that an event was read out of."""
    [first] = source.write(revoked("r1"))
    [unread] = source.write(revoked("r1", tenant_id="another", revoked_at="2026-11-20T11:00:00Z"))
    source.write(revoked("r1", note="differs"))
    mismatch = source.rows()[-1].id
    with records.database.write() as tx:
        tx.execute(sa.text("UPDATE sources SET account = 'another'"))
    outcome = reprocess(records, records.tenant("default"), unread.id)
    assert outcome is not None
    [other] = source.write(revoked("r2", tenant_id="another"))
    hold(records, acting(records, "Ann"), item=ITEM)

    ids = [first.id, unread.id, mismatch, outcome.id, other.id]
    assert kept_of(records, *ids) == set(ids[:-1])
    assert all(covered(records, one) is not None for one in ids[:-1])


def test_what_tells_of_a_call_is_held_with_it(records: Records) -> None:
    """Also an answer in quarantine, of which only its entry says to which call it is the answer."""
    caller = new_caller(records, "thanx")
    held, other = caller.begin(), caller.begin({"id": receipt_id()})
    answers = [caller.answered(attempt, {"what": "this"}).id for attempt in (held, other)]
    item = {"provider": "thanx", "type": held.item.type, "id": held.item.id}
    hold(records, acting(records, "Ann"), item=item)

    assert held.item != other.item
    assert kept_of(records, held.id, other.id, *answers) == {held.id, answers[0]}
    with records.database.write() as tx:
        tx.execute(sa.update(attempts).values(outcome_id=None))
    assert kept_of(records, *answers) == {answers[0]}


def test_all_answers_to_a_call_are_held_with_it(records: Records) -> None:
    """Also one that is not its outcome any more: it holds the call, and what became of that."""
    caller = new_caller(records, "truthlocks")
    call = caller.begin()
    odd = caller.answered(call, {"odd": 1, "subject": "jane@example.com"}).id
    event = caller.answered(call).id
    assert caller.call(call).outcome_id == event
    hold(records, acting(records, "Ann"), person="email:jane@example.com")

    assert kept_of(records, call.id) == {call.id}
    assert kept_of(records, event) == {event}
    assert kept_of(records, call.id, event, odd) == {call.id, event, odd}


def test_what_was_found_out_is_held_with_what_it_is_about(records: Records) -> None:
    """A cross-check with its event, and a gap with the item that the issuer's entry names."""
    issuer = Issuer(records)
    scrip = issuer.source("scrip", ORGANIZATION)
    deliver(scrip, reversed_("a", "v", "5.00"))
    for name, operation, amount in (("a", "v", "5.00"), ("unannounced", "nobody", "1.00")):
        item = Item("redemption", name)
        issuer.says("scrip", Effect.REVERSED, item, account=ORGANIZATION, operation=operation, amount=amount)
    issuer.read_at("2026-11-22T09:00:00.000000Z")
    check(records)
    [crosscheck], [gap] = findings_about(records, Kind.CROSS_CHECK), findings_about(records, Kind.GAP)
    ann = acting(records, "Ann")

    of_event = hold(records, ann, item={"provider": "scrip", "type": "redemption", "id": "a"})
    assert (covered(records, crosscheck), covered(records, gap)) == (of_event.id, None)
    of_gap = hold(records, ann, item={"provider": "scrip", "type": "redemption", "id": "unannounced"})
    assert covered(records, gap) == of_gap.id
    assert covered(records, of_event.id) is None  # what tells of a hold is covered by none


def test_the_oldest_hold_is_named(records: Records, source: Source) -> None:
    """Of several that cover something; released, it is the next one."""
    [event] = source.write(revoked("r1"))
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    first, second = hold(records, ann, provider="truthlocks"), hold(records, ann, item=ITEM)

    assert covered(records, event.id) == first.id
    release(records, first, bob)
    assert covered(records, event.id) == second.id


def test_a_hold_is_its_tenants(records: Records, source: Source) -> None:
    """It covers nothing of another tenant, whose key can neither see nor release it."""
    [other] = new_sources(records, "another")
    [elsewhere] = other.write(revoked("r1"))
    source.write(revoked("r1"))
    ann, eve = acting(records, "Ann"), acting(records, "Eve", "another")
    placed = hold(records, ann, item=ITEM)

    assert covered(records, elsewhere.id, tenant="another") is None
    assert find(records, records.tenant("another"), None, None, None) == ([], None)
    with pytest.raises(NoSuchHoldError):
        release(records, placed, eve)
    with pytest.raises(HoldError, match="there is no source"):
        hold(records, eve, source=source.endpoint.source.id)


# ---- releasing ------------------------------------------------------------------------------------------------------


def test_a_hold_is_released_by_somebody_else(records: Records, source: Source) -> None:
    """That is an entry of its own; nothing is covered any more."""
    [event] = source.write(revoked("r1"))
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    placed = hold(records, ann, item=ITEM)
    released = release(records, placed, bob)
    leaf = last_leaf(records)

    assert (leaf.kind, leaf.facts) == (Kind.RELEASE, {"by": bob.id, "hold": placed.id, "state": "released"})
    assert json.loads(row_of(records, leaf.id).event_data) == {"reason": "settled"}
    assert (released.state, released.released_by, released.release_reason) == ("released", bob.id, "settled")
    assert released.released_at == leaf.logged_at
    assert covered(records, event.id) is None
    assert wrong(records) == []


@pytest.mark.parametrize(
    "owner",
    [
        "Ann Lé",
        "ANN LÉ",
        " ann lé ",
        "Ann\u00a0\tLé",
        "Ann  Le\u0301",
        "AnnLé",
        "A n n Le \u0301",
        "\uff21nn Lé",
        "Ann L\u200bé",
        "Ann Le\u034f\u0301\ufe0f",
    ],
)
def test_whoever_placed_a_hold_cannot_release_it(records: Records, owner: str) -> None:
    """Not with another key either, however the owner's name is written."""
    placed = hold(records, acting(records, "Ann Lé"), item=ITEM)
    size = records.tenant("default").log.head().size

    with pytest.raises(SameOwnerError, match="a key of somebody else"):
        release(records, placed, acting(records, owner))
    assert get(records, records.tenant("default"), placed.id).state == "in_force"
    assert records.tenant("default").log.head().size == size + 1  # the key's own entry


def test_an_owner_is_what_is_seen() -> None:
    """What shows nothing is left out, wherever it stands; marks that are seen make another owner."""
    hidden = (
        0xAD,
        0x34F,
        0x61C,
        0x115F,
        0x1160,
        0x17B5,
        0x180B,
        0x200D,
        0x202E,
        0x2060,
        0x206F,
        0x2800,
        0x3164,
        0xFE00,
    )
    beyond = (
        0xFE00,
        0xFE0F,
        0xFEFF,
        0xFFA0,
        0xFFF8,
        0xFFFB,
        0xFFFC,
        0x16FE4,
        0x1BCA0,
        0x1D159,
        0x1D17A,
        0xE0000,
        0xE0100,
        0xE0FFF,
    )
    for code in (*hidden, *beyond):
        assert one_owner("José", f"{chr(code)}Jose{chr(code)}\u0301 {chr(code)}"), hex(code)
    for other in ("Ann.", "A\u0335nn", "\u0410nn", "Anna"):
        assert not one_owner("Ann", other)


def test_a_hold_is_released_once(records: Records) -> None:
    """Then it is not in force, and never was another."""
    placed, bob = hold(records, acting(records, "Ann"), item=ITEM), acting(records, "Bob")
    release(records, placed, bob)

    with pytest.raises(ReleasedError, match="released already"):
        release(records, placed, bob)
    for unknown in ("x", "0190b4c5-0000-7000-8000-000000000000", "\0"):
        with pytest.raises(NoSuchHoldError):
            get(records, records.tenant("default"), unknown)


def test_holds_are_listed_newest_first(records: Records) -> None:
    """By their state, and page by page."""
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    placed = [hold(records, ann, item={**ITEM, "id": name}).id for name in "abc"]
    tenant = records.tenant("default")
    release(records, get(records, tenant, placed[1]), bob)

    def ids(released: bool | None, before: str | None = None, limit: int | None = None) -> tuple[list[str], str | None]:
        found, more = find(records, tenant, released, before, limit)
        return [one.id for one in found], more

    newest = placed[::-1]
    assert ids(None) == (newest, None)
    assert ids(True) == ([placed[1]], None)
    assert ids(False, None, 1) == ([placed[2]], placed[2])
    assert ids(False, placed[2], 1) == ([placed[0]], None)


# ---- what it holds back ---------------------------------------------------------------------------------------------


def test_an_erasure_waits_for_the_hold(records: Records, source: Source) -> None:
    """Nothing is erased before it is released; then all is, the hold's own words with the item."""
    [event] = source.write(revoked("r1"))
    ann, bob = acting(records, "Ann"), acting(records, "Bob")
    placed, tenant = hold(records, ann, item=ITEM), records.tenant("default")

    with pytest.raises(HeldError) as held:
        ask(records, tenant, Ask(item=ITEM, reason="asked for"))
    assert held.value.hold_id == placed.id
    run_held(records, tenant)
    assert row_of(records, event.id).body is not None

    release(records, placed, bob)
    run_held(records, tenant)
    assert (row_of(records, event.id).body, row_of(records, event.id).event_data) == (None, None)
    with records.database.read() as tx:
        assert tx.execute(sa.select(erasures.c.state)).scalars().all() == ["completed"]
        key = keyed.item_key(tenant.hash_key, "truthlocks", Item("receipt", "r1"))
        words = words_of(tx, tenant, [key])
    assert [row_of(records, one).event_data for one in words] == [None, None]
    gone = get(records, tenant, placed.id)
    assert (gone.state, gone.item, gone.reason, gone.release_reason) == ("released", None, None, None)
    assert wrong(records) == []


def test_a_hold_in_force_keeps_its_words(records: Records) -> None:
    """Also where nothing of its item was recorded: an erasure of it waits."""
    placed, tenant = hold(records, acting(records, "Ann"), item=ITEM), records.tenant("default")

    with pytest.raises(HeldError):
        ask(records, tenant, Ask(item=ITEM, reason="asked for"))
    assert get(records, tenant, placed.id) == placed


# ---- crashes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["INSERT INTO findings", "INSERT INTO holds", "INSERT INTO log_entries"])
def test_a_hold_that_was_cut_off_was_never_placed(records: Records, source: Source, statement: str) -> None:
    """Of its row and its entry there are both or none."""
    [event] = source.write(revoked("r1"))
    ann = acting(records, "Ann")
    with faults.at(records.database, "after", statement) as met, pytest.raises(PowerCut):
        hold(records, ann, item=ITEM)

    assert met
    assert covered(records, event.id) is None
    assert wrong(records) == []


@pytest.mark.parametrize(("moment", "there"), [("before", False), ("after", True)])
def test_a_hold_is_there_once_it_is_committed(
    records: Records, source: Source, moment: faults.Moment, *, there: bool
) -> None:
    """Whoever asked may never learn of it."""
    [event] = source.write(revoked("r1"))
    ann = acting(records, "Ann")
    with faults.at(records.database, moment, "COMMIT") as met, pytest.raises(PowerCut):
        hold(records, ann, item=ITEM)

    assert met
    assert (covered(records, event.id) is not None) == there
    assert wrong(records) == []


@pytest.mark.parametrize("statement", ["INSERT INTO findings", "UPDATE holds", "INSERT INTO log_entries"])
def test_a_release_that_was_cut_off_released_nothing(records: Records, statement: str) -> None:
    """It can be asked for again."""
    placed, bob = hold(records, acting(records, "Ann"), item=ITEM), acting(records, "Bob")
    with faults.at(records.database, "after", statement) as met, pytest.raises(PowerCut):
        release(records, placed, bob)

    assert met
    with records.database.read() as tx:
        assert tx.execute(sa.select(holds.c.released_at)).scalar_one() is None
    assert wrong(records) == []
    assert release(records, placed, bob).state == "released"
    assert wrong(records) == []
