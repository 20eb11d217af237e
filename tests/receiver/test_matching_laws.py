"""Matching: what one act is, what is announced, and what holds whatever was told and logged."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.assurance.matching import Entry, Told, differences, match, stands_for
from receiver.events import Claim, CrossCheck, Effect, Item
from tests.receiver.test_matching import NOON, OURS, THEIRS, World, claim

ITEMS = [Item("badge", "b1"), Item("badge", "b2")]
WAYS = ["webhook", "relay", "poll"]


# ---- 7: acts ------------------------------------------------------------------------------------------------------


def test_one_operation_is_one_act() -> None:
    """Webhook, its resend and relay have the same entry, one without an operation included; another act has its own."""
    world = World().event("webhook", operation="v1", amount="1").event("relay", operation="v1", way="relay", amount="1")
    world.event("resent", operation="v1", amount="1").event("other", operation="v2", amount="1")

    assert sorted(world.entry().found) == ["other"]
    assert sorted(world.entry().found) == ["other", "relay", "resent", "webhook"]
    assert [index for _, (_, index) in sorted(world.found.items())] == [0, 1, 1, 1]
    assert world.unannounced == []


def test_each_way_tells_of_an_act_once() -> None:
    """Without operations: what came twice by the same way is two acts, and by two ways one."""
    world = World().event("a", amount="1").event("b", amount="1", received=NOON + timedelta(minutes=1))
    world.event("c", amount="1", way="relay", received=NOON + timedelta(minutes=2))

    assert world.entry(operation="v1").found == {"a": ("confirmed", 0), "c": ("confirmed", 0)}
    assert world.entry(operation="v2").found == {
        "a": ("confirmed", 0),
        "b": ("confirmed", 1),
        "c": ("confirmed", 0),
    }


@pytest.mark.parametrize(
    "differing",
    [{"amount": "2"}, {"quantity": "2"}, {"at": NOON + timedelta(hours=1)}, {"item": ITEMS[0]}, {"account": THEIRS}],
    ids=["amount", "quantity", "time", "item", "account"],
)
def test_what_differs_is_another_act(differing: dict[str, object]) -> None:
    """By whichever way it came."""
    world = World().event("a", amount="1", quantity="1", at=NOON)
    said: dict[str, Any] = {"amount": "1", "quantity": "1", "at": NOON, **differing}
    event = claim(**said)
    world.events.append(Told("b", event, event.account or OURS, False, "relay", NOON))

    assert world.entry().entry().found.get("a") == ("confirmed", 0)
    assert world.found.get("b") != ("confirmed", 0)


def test_an_event_without_an_operation_is_of_an_act_with_one() -> None:
    """It has what the act has, though the entry serves no other act; and what contradicts the one contradicts both."""
    told = World().event("webhook", operation="v1", amount="1").event("relay", way="relay", amount="1")

    assert World(told.events).entry(operation="v1").found == {"webhook": ("confirmed", 0), "relay": ("confirmed", 0)}
    assert World(told.events).entry(operation="v1", amount="2").found == {
        "webhook": ("contradicted", 0),
        "relay": ("contradicted", 0),
    }
    assert World(told.events).entry(operation="v2").found == {}


def test_accounts_are_told_apart() -> None:
    """Two accounts' events of one operation are two acts, where ids are each account's own."""
    world = World().event("ours", operation="j1", account=OURS).event("theirs", operation="j1", account=THEIRS)

    assert world.entry(account=THEIRS).found == {"theirs": ("confirmed", 0)}
    assert world.entry(account=OURS).found == {"theirs": ("confirmed", 0), "ours": ("confirmed", 1)}


# ---- 8: what is announced -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "entries", "unannounced"),
    [
        pytest.param("revoked", ["revoking", "revoked"], [], id="done announces what was begun"),
        pytest.param("revoking", ["revoking", "revoked"], [1], id="begun does not announce what was done"),
        pytest.param("revoking", ["revoked"], [], id="unless it is confirmed by it"),
        pytest.param("canceling", ["canceling", "rejected"], [], id="that it was denied contradicts it"),
        pytest.param("rejected", ["canceling", "rejected"], [], id="a no announces what was begun"),
        pytest.param("revoked", ["revoked", "revoked"], [], id="an act that was logged twice"),
        pytest.param("canceled", ["rejected", "canceled"], [], id="one that came to nothing at first"),
        pytest.param("revoked", ["reversed"], [], id="what it is contradicted by"),
        pytest.param("revoked", ["reversed", "revoked"], [0], id="another thing that was taken back"),
    ],
)
def test_what_an_event_of_the_operation_announces(event: str, entries: list[str], unannounced: list[int]) -> None:
    """All but what was taken back, which is to be told of itself."""
    world = World().event("e", event, operation="t1")
    for effect in entries:
        world.entry(effect, operation="t1")

    assert world.unannounced == unannounced


@pytest.mark.parametrize(
    ("effect", "told", "said", "announced"),
    [
        ("canceled", "t1", "t2", True),  # done on that item, by whichever operation
        ("rejected", "t1", "t2", False),
        ("canceling", "t1", "t2", False),
        ("rejected", None, "t2", True),
        ("rejected", "t1", None, True),
        ("rejected", None, None, True),
    ],
)
def test_what_was_begun_is_announced_by_its_item(
    effect: str, told: str | None, said: str | None, announced: bool
) -> None:
    """If it is said to be done, or where no operation tells the two apart."""
    world = World().event("e", effect, operation=told).entry("canceling", operation=said)

    assert world.unannounced == ([] if announced else [0])
    world.events = [replace(world.events[0], account=THEIRS)]
    world.entries = [Entry(0, replace(world.entries[0].claim, account=OURS))]
    assert world.unannounced == [0]


# ---- laws ---------------------------------------------------------------------------------------------------------


ids = st.sampled_from(["v1", "v2", "v3"])
moments = st.integers(0, 3).map(lambda hours: NOON + timedelta(hours=hours))


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    """Any claim, of few items, operations, amounts and times, so that many are alike."""
    return Claim(
        account=draw(st.sampled_from([None, OURS, THEIRS])),
        item=draw(st.sampled_from(ITEMS)),
        operation=draw(st.none() | ids),
        effect=draw(st.sampled_from(Effect)),
        amount=draw(st.sampled_from([None, "1", "1.0", "2"])),
        quantity=draw(st.sampled_from([None, "1"])),
        at=draw(st.none() | moments),
    )


@st.composite
def tellings(draw: st.DrawFn, *, exclusive: bool = True) -> list[Told]:
    """Any events; none that is a refusal, which is never checked."""
    said = draw(st.lists(claims().filter(lambda one: one.effect is not Effect.REFUSED), max_size=6))
    return [
        Told(
            id=f"e{number}",
            claim=one,
            account=one.account or draw(st.sampled_from([None, OURS])),
            exclusive=exclusive and draw(st.booleans()),
            way=draw(st.sampled_from(WAYS)),
            received_at=draw(moments),
        )
        for number, one in enumerate(said)
    ]


logged = st.lists(claims(), max_size=6).map(lambda said: [Entry(index, one) for index, one in enumerate(said)])


@settings(deadline=None)
@given(tellings(), logged, st.data())
def test_the_order_in_which_they_came_is_nothing(events: list[Told], entries: list[Entry], data: st.DataObject) -> None:
    """Of events and of entries alike."""
    shuffled = data.draw(st.permutations(events)), data.draw(st.permutations(entries))

    assert match(*shuffled) == match(events, entries)


@settings(deadline=None)
@given(tellings(exclusive=False), logged, st.lists(claims(), max_size=4))
def test_other_accounts_change_nothing(events: list[Told], entries: list[Entry], others: list[Claim]) -> None:
    """Wherever their entries are in the log, unless the source is exclusive."""
    apart = [Entry(2 * entry.index, entry.claim) for entry in entries]
    theirs = [Entry(2 * number + 1, replace(one, account="org_3")) for number, one in enumerate(others)]

    assert match(events, apart + theirs) == match(events, apart)


@settings(deadline=None)
@given(tellings(), logged)
def test_what_is_found_is_so(events: list[Told], entries: list[Entry]) -> None:
    """By its operation an event is confirmed only by what agrees; otherwise by one with its item; or it is contradicted
    by what differs in what is named.
    """
    for event in events:
        standing = match(events, entries).standings.get(event.id)
        if standing is None:
            continue
        entry = entries[standing.index].claim
        differing = differences(event.claim, entry)
        if standing.alone:
            assert entry.operation == event.claim.operation is not None
            assert standing.differences == differing
            assert standing.state is (CrossCheck.CONTRADICTED if differing else CrossCheck.CONFIRMED)
        elif standing.state is CrossCheck.CONFIRMED:
            assert {one.field for one in differing} <= {"at"}
            assert entry.item == event.claim.item
            assert stands_for(entry.effect, event.claim.effect)
        else:
            assert differing == standing.differences != ()


@settings(deadline=None)
@given(tellings(), logged)
def test_each_entry_serves_one_act(events: list[Told], entries: list[Entry]) -> None:
    """Those of an effect that have the same entry are of one operation at most, and tell of it once by each way."""
    served: dict[tuple[int, Effect], list[Told]] = defaultdict(list)
    standings = match(events, entries).standings
    for event in events:
        standing = standings.get(event.id)
        if standing is not None and standing.state is CrossCheck.CONFIRMED:
            served[standing.index, event.claim.effect].append(event)
    for act in served.values():
        assert len({event.claim.operation for event in act} - {None}) <= 1
        unnamed = [event.way for event in act if event.claim.operation is None]
        assert len(unnamed) == len(set(unnamed))


amounts = st.lists(st.sampled_from([None, "1", "2"]), max_size=4)


@settings(deadline=None)
@given(amounts, amounts, amounts, amounts)
def test_as_many_acts_are_served_as_can_be(
    told: list[str | None], told_units: list[str | None], said: list[str | None], said_units: list[str | None]
) -> None:
    """Found by trying every way to give the entries away."""
    mine, theirs = list(zip(told, told_units, strict=False)), list(zip(said, said_units, strict=False))
    world = World()
    for number, (amount, quantity) in enumerate(mine):
        world.event(f"e{number}", operation=f"v{number}", amount=amount, quantity=quantity)
    for amount, quantity in theirs:
        world.entry(amount=amount, quantity=quantity)

    def fits(one: tuple[str | None, str | None], other: tuple[str | None, str | None]) -> bool:
        return all(None in pair or len(set(pair)) == 1 for pair in zip(one, other, strict=True))

    places = [*range(len(theirs)), *(None for _ in mine)]
    tried = set(itertools.permutations(places, len(mine)))
    most = max(
        sum(place is not None and fits(one, theirs[place]) for one, place in zip(mine, given_away, strict=True))
        for given_away in tried
    )
    assert len(world.found) == most


# ---- honest worlds --------------------------------------------------------------------------------------------------


CHAINS = [["revoked"], ["reversed"], ["revoking", "revoked"], ["canceling", "canceled"]]


@dataclass(frozen=True, slots=True)
class Act:
    """What an issuer did, step by step, and the ways by which each step was told."""

    operation: str
    item: Item
    steps: tuple[tuple[str, datetime, frozenset[str]], ...]
    amount: str
    quantity: str


@st.composite
def acts(draw: st.DrawFn, *, items: int) -> list[Act]:
    """Acts on so many items at most, no two at the same time."""
    found: list[Act] = []
    chains = draw(st.lists(st.sampled_from(CHAINS), max_size=4))
    ways = st.frozensets(st.sampled_from(WAYS), min_size=1)
    for number, chain in enumerate(chains):
        steps = tuple((step, NOON + timedelta(hours=2 * number + at), draw(ways)) for at, step in enumerate(chain))
        item = Item("badge", f"b{number % items}")
        amount, quantity = draw(st.sampled_from(["1", "2"])), draw(st.sampled_from(["1", "2"]))
        found.append(Act(f"v{number}", item, steps, amount, quantity))
    return found


def said_of(act: Act, at: datetime, dropped: frozenset[str]) -> dict[str, Any]:
    """What a claim about a step of an act says, but for what is dropped."""
    said = {"item": act.item, "operation": act.operation, "amount": act.amount, "quantity": act.quantity, "at": at}
    return {name: value for name, value in said.items() if name not in dropped}


def announce(world: World, act: Act, drop: Callable[[], frozenset[str]]) -> None:
    """Tell of each step of an act by each of its ways, without what `drop` says."""
    for step, at, ways in act.steps:
        for way in sorted(ways):
            world.event(f"{act.operation} {step} {way}", step, way=way, **said_of(act, at, drop()))


def log_all(world: World, done: Sequence[Act], drop: Callable[[], frozenset[str]]) -> None:
    """Log each step of all acts in the order of time, without what `drop` says."""
    steps = [(at, step, act) for act in done for step, at, _ in act.steps]
    for at, step, act in sorted(steps, key=lambda one: one[0]):
        dropped = drop()
        account = None if "account" in dropped else OURS
        world.entry(step, account=account, **said_of(act, at, dropped))


optional = st.frozensets(st.sampled_from(["amount", "quantity", "at", "account"]))


@pytest.mark.parametrize("nameless", ["nobody", "the log", "the events"])
@settings(deadline=None)
@given(acts(items=2), st.data())
def test_an_honest_world_confirms_everything(nameless: str, done: list[Act], data: st.DataObject) -> None:
    """Whatever each side leaves out, and if one of them knows no operations; and everything is announced."""
    always, nothing = frozenset({"operation"}), frozenset[str]()
    world = World()
    for act in done:
        if nameless == "the events":  # then what came by several ways is the same only if it says the same
            same = data.draw(st.frozensets(st.sampled_from(["amount", "quantity"]))) | always
            announce(world, act, lambda same=same: same)
        else:
            announce(world, act, lambda: data.draw(optional))
    log_all(world, done, lambda: data.draw(optional) | (always if nameless == "the log" else nothing))

    assert {name: state for name, (state, _) in world.found.items()} == {one.id: "confirmed" for one in world.events}
    assert world.unannounced == []


@settings(deadline=None)
@given(acts(items=9), st.data())
def test_what_is_not_announced_is_found(done: list[Act], data: st.DataObject) -> None:
    """Without the deliveries of one act, its entries are left, and no others."""
    suppressed = data.draw(st.sampled_from([*done, None]))
    world = World()
    for act in done:
        if act is not suppressed:
            announce(world, act, lambda: data.draw(optional))
    log_all(world, done, lambda: data.draw(optional))

    theirs = [one.index for one in world.entries if suppressed and one.claim.operation == suppressed.operation]
    assert world.unannounced == theirs


@settings(deadline=None)
@given(acts(items=2), st.data())
def test_what_was_forged_is_not_confirmed(done: list[Act], data: st.DataObject) -> None:
    """An operation that the issuer knows nothing of, by an item and amount that it knows; all others are confirmed."""
    world = World()
    for act in done:
        announce(world, act, lambda: data.draw(optional))
    log_all(world, done, lambda: data.draw(optional))
    step = data.draw(st.sampled_from(["revoked", "reversed", "canceled"]))
    world.event("forged", step, operation="forged", amount="1", item=Item("badge", "b0"))

    assert set(world.found) == {event.id for event in world.events} - {"forged"}
