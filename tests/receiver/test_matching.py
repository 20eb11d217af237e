"""Matching, rule by rule: what the entries of an issuer's log say of events."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from receiver.amounts import parse_amount
from receiver.assurance import matching
from receiver.assurance.matching import Difference, Entry, Matched, Told, differences, match
from receiver.events import Claim, CrossCheck, Effect, Item
from receiver.records.issuer_logs import may_be_gap

NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
ITEM = Item("redemption", "r1")
OURS, THEIRS = "org_1", "org_2"
UUID = "3f0c8f1e-7a51-4f0e-9f5d-0a6b3a1c2b3d"

CONFIRMED, CONTRADICTED = CrossCheck.CONFIRMED, CrossCheck.CONTRADICTED


def claim(effect: str = "reversed", **members: Any) -> Claim:
    """A claim about `ITEM` of that effect, that says no more than `members`."""
    nothing: dict[str, Any] = {"account": None, "item": ITEM, "operation": None, "amount": None, "quantity": None}
    said: dict[str, Any] = {**nothing, "at": None, "effect": Effect(effect), **members}
    return Claim(**said)


@dataclass(slots=True)
class World:
    """Events and entries, matched once they are all there."""

    events: list[Told] = field(default_factory=list[Told])
    entries: list[Entry] = field(default_factory=list[Entry])

    def event(
        self,
        name: str,
        effect: str = "reversed",
        *,
        account: str | None = OURS,
        exclusive: bool = False,
        way: str = "webhook",
        received: datetime = NOON,
        **members: Any,
    ) -> "World":
        """Add an event; `account` is whose it is, be it by its own word (among `members` too) or by its source's."""
        self.events.append(Told(name, claim(effect, **members), account, exclusive, way, received))
        return self

    def entry(self, effect: str = "reversed", **members: Any) -> "World":
        """Add the log's next entry."""
        self.entries.append(Entry(len(self.entries), claim(effect, **members)))
        return self

    @property
    def matched(self) -> Matched:
        """What is found."""
        return match(self.events, self.entries)

    @property
    def found(self) -> dict[str, tuple[str, int]]:
        """Of each event of which anything is, its state and the entry's index."""
        return {name: (one.state.value, one.index) for name, one in self.matched.standings.items()}

    def fields(self, name: str) -> list[str]:
        """The fields in which an event differs from the entry that contradicts it."""
        return [one.field for one in self.matched.standings[name].differences]

    @property
    def unannounced(self) -> list[int]:
        """The entries that no event announces."""
        return [one.index for one in self.entries if one.index not in self.matched.announced]


# ---- 1: accounts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whose", "named", "exclusive", "found"),
    [
        pytest.param(OURS, None, False, True, id="an entry without an account may be of any"),
        pytest.param(OURS, OURS, False, True, id="the same account"),
        pytest.param(OURS, THEIRS, False, False, id="another account"),
        pytest.param(None, None, False, True, id="neither names one"),
        pytest.param(None, OURS, False, False, id="an event that is of no known account"),
        pytest.param(None, OURS, True, True, id="an exclusive source's own"),
        pytest.param(UUID, UUID.upper(), False, True, id="a UUID in another case"),
    ],
)
@pytest.mark.parametrize("operation", ["v1", None], ids=["by operation", "by item"])
def test_whose_entries_are_looked_at(
    whose: str | None, named: str | None, exclusive: bool, found: bool, operation: str | None
) -> None:
    """Those without an account and those of the event's: of an exclusive source, all."""
    world = World().event("e", account=whose, exclusive=exclusive, operation=operation)
    world.entry(account=named, operation=operation)

    assert world.found == ({"e": ("confirmed", 0)} if found else {})
    assert world.unannounced == ([] if found else [0])


def test_an_exclusive_source_is_told_of_another_account() -> None:
    """Every entry is its own; so one of its operation that names another account contradicts it."""
    world = World(events=[Told("e", claim(account=OURS, operation="v1"), OURS, True, "webhook", NOON)])

    assert world.entry(account=THEIRS, operation="v1").found == {"e": ("contradicted", 0)}
    assert world.fields("e") == ["account"]


def test_without_an_operation_another_account_is_another_act() -> None:
    """Also of an exclusive source: nothing contradicts."""
    world = World(events=[Told("e", claim(account=OURS), OURS, True, "webhook", NOON)]).entry(account=THEIRS)

    assert world.found == {}


# ---- 2: the same operation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "entry", "differing"),
    [
        ({}, {}, []),
        ({"amount": "40.00"}, {}, []),
        ({}, {"amount": "40"}, []),
        ({"amount": "40.00"}, {"amount": "40"}, []),
        ({"amount": "40.00"}, {"amount": "40.01"}, ["amount"]),
        ({"amount": "0.1"}, {"amount": "0.10000000000000000000000000000000000001"}, ["amount"]),
        ({"amount": "forty"}, {"amount": "forty"}, []),
        ({"amount": "forty"}, {"amount": "40"}, ["amount"]),
        ({"quantity": "1"}, {"quantity": "1.0"}, []),
        ({"quantity": "1"}, {"quantity": "2"}, ["quantity"]),
        ({"at": NOON}, {"at": NOON + timedelta(seconds=2)}, []),
        ({"at": NOON}, {"at": NOON - timedelta(seconds=2, microseconds=1)}, ["at"]),
        ({"at": NOON}, {}, []),
        ({"item": Item("redemption", UUID)}, {"item": Item("redemption", UUID.upper())}, []),
        ({"item": Item("redemption", "r2")}, {}, ["item"]),
        ({"item": Item("order", "r1")}, {}, ["item"]),
        ({"amount": "1", "quantity": "1", "at": NOON}, {"amount": "2", "quantity": "2"}, ["amount", "quantity"]),
    ],
)
def test_the_same_operation_is_compared(event: dict[str, Any], entry: dict[str, Any], differing: list[str]) -> None:
    """In every field that both have, and all that differs is named."""
    world = World().event("e", operation="v1", **event).entry(operation="v1", **entry)

    assert world.found == {"e": ("contradicted" if differing else "confirmed", 0)}
    assert world.fields("e") == differing
    assert world.unannounced == ([0] if "item" in event and event["item"].type != ITEM.type else [])


def test_a_difference_has_what_both_say() -> None:
    """As they wrote it, and times as they are written in the log."""
    event = claim("revoked", amount="40.00", at=NOON, account=OURS)
    other = claim("rejected", amount="41", at=NOON + timedelta(hours=1), account=OURS)

    assert differences(event, other) == (
        Difference("amount", "40.00", "41"),
        Difference("effect", "revoked", "rejected"),
    )
    assert [one.value() for one in differences(event, claim("revoked", at=NOON + timedelta(hours=1)))] == [
        {"event": "2026-11-20T12:00:00.000000Z", "field": "at", "issuer": "2026-11-20T13:00:00.000000Z"}
    ]


def test_an_item_of_another_type_is_another_item() -> None:
    """Whoever has the secret cannot have an event confirmed, or a gap hidden, by an act on something else of its id."""
    told = World().event("other", "revoked", item=Item("attestation", UUID), operation=UUID)
    world = World(list(told.events)).entry("revoked", item=Item("receipt", UUID), operation=UUID)

    assert world.found == {"other": ("contradicted", 0)}
    assert world.matched.standings["other"].differences == (
        Difference("item", f"attestation:{UUID}", f"receipt:{UUID}"),
    )
    assert world.unannounced == [0]
    world.event("mine", "revoked", item=Item("receipt", UUID), way="relay")
    assert world.found == {"other": ("contradicted", 0), "mine": ("confirmed", 0)}
    assert world.unannounced == []
    for effect in ("revoking", "rejected"):
        assert World(told.events).entry(effect, item=Item("receipt", UUID), operation=UUID).unannounced == [0]


def test_an_entry_of_the_events_own_type_comes_first() -> None:
    """Beside it, one of the operation about another type of item contradicts nothing, and denies nothing."""
    other = Item("attestation", UUID)
    world = World().event("e", "revoked", operation=UUID).entry("revoked", item=other, operation=UUID)
    assert world.found == {"e": ("contradicted", 0)}

    world.entry("revoked", operation=UUID).entry("rejected", item=other, operation=UUID)
    assert world.found == {"e": ("confirmed", 1)}
    assert world.unannounced == [0, 2]
    unnamed = World().event("e", "revoked").entry("revoked", operation=UUID)
    assert unnamed.entry("rejected", item=other, operation=UUID).found == {"e": ("confirmed", 0)}
    two = World().event("e", "revoked", operation=UUID).event("f", "revoked", item=other, operation=UUID, way="poll")
    assert two.entry("revoked").found == {"e": ("confirmed", 0)}


def test_types_that_a_provider_names_one_act_by() -> None:
    """They stand for one another, whatever the ids, where the operation is the same; and others do not."""
    types = frozenset({"redemption", "order"})
    event = Told("e", claim(item=Item("order", "o1"), operation="v1"), OURS, False, "webhook", NOON, types)

    assert World([event]).entry(operation="v1").found == {"e": ("confirmed", 0)}
    assert World([event]).entry(operation="v1").unannounced == []
    assert World([event]).entry(item=Item("order", "o2"), operation="v1").fields("e") == ["item"]
    assert World([event]).entry(item=Item("receipt", "o1"), operation="v1").fields("e") == ["item"]
    assert differences(event.claim, claim(operation="v1")) == (Difference("item", "order:o1", "redemption:r1"),)
    assert differences(event.claim, claim(operation="v1"), types) == ()


def test_operations_are_told_apart() -> None:
    """Each act has its own entry, and one of which there is none is not there, whatever else is on the item."""
    world = World().event("a", operation="v1", amount="1").event("b", operation="v2", amount="2")
    world.event("c", operation="v4", amount="1")
    world.entry(operation="v2", amount="2").entry(operation="v1", amount="1").entry(operation="v3", amount="1")

    assert world.found == {"a": ("confirmed", 1), "b": ("confirmed", 0)}
    assert world.unannounced == [2]


def test_a_uuid_is_one_operation_in_either_case() -> None:
    """And others are two."""
    world = World().event("a", operation=UUID).event("b", operation="v")

    assert world.entry(operation=UUID.upper()).entry(operation="V").found == {"a": ("confirmed", 0)}


def test_one_entry_that_agrees_suffices() -> None:
    """An issuer that corrects what it logged logs it again; the event tells of both."""
    world = World().event("e", operation="v1", amount="2")
    world.entry(operation="v1", amount="1").entry(operation="v1", amount="2")

    assert world.found == {"e": ("confirmed", 1)}
    assert world.unannounced == []


# ---- 3 and 4: effects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "entries", "found"),
    [
        pytest.param("revoking", ["revoking"], ("confirmed", 0), id="begun and begun"),
        pytest.param("revoking", ["revoked"], ("confirmed", 0), id="begun, and done since"),
        pytest.param("revoking", ["revoked", "revoking"], ("confirmed", 1), id="its own effect comes first"),
        pytest.param("canceling", ["canceled"], ("confirmed", 0), id="begun, and done since, by another name"),
        pytest.param("revoked", ["revoking"], None, id="done is not there yet"),
        pytest.param("canceled", ["canceling"], None, id="nor by another name"),
        pytest.param("canceling", ["canceling", "rejected"], ("contradicted", 1), id="denied later"),
        pytest.param("canceled", ["canceled", "activated"], ("contradicted", 1), id="in force again later"),
        pytest.param("canceled", ["rejected"], ("contradicted", 0), id="denied, and nothing else"),
        pytest.param("canceled", ["rejected", "canceled"], ("confirmed", 1), id="denied before"),
        pytest.param("canceling", ["canceling", "rejected", "canceled"], ("confirmed", 0), id="denied in between"),
        pytest.param("rejected", ["canceling", "rejected"], ("confirmed", 1), id="what says no is confirmed by a no"),
        pytest.param("rejected", ["canceling"], None, id="what came of it is open"),
        pytest.param("rejected", ["canceling", "canceled"], ("contradicted", 1), id="it was done after all"),
        pytest.param("rejected", ["activated"], None, id="two that deny do not deny one another"),
        pytest.param("revoked", ["reversed"], ("contradicted", 0), id="another effect"),
        pytest.param("revoking", ["canceling"], ("contradicted", 0), id="another thing was begun"),
        pytest.param("revoked", ["refused"], None, id="a refusal says that nothing happened"),
        pytest.param("revoked", ["revoked", "refused"], ("confirmed", 0), id="and takes nothing back"),
    ],
)
def test_effects_of_one_operation(event: str, entries: list[str], found: tuple[str, int] | None) -> None:
    """What was begun may be there as done; the last word counts."""
    world = World().event("e", event, operation="t1")
    for effect in entries:
        world.entry(effect, operation="t1")

    assert world.found == ({} if found is None else {"e": found})
    if found is not None and found[0] == "contradicted":
        assert world.fields("e") == ["effect"]


def test_the_time_of_another_effect_is_not_compared() -> None:
    """That something was done is logged later than that it was begun."""
    world = World().event("e", "revoking", operation="t1", at=NOON)

    assert world.entry("revoked", operation="t1", at=NOON + timedelta(days=1)).found == {"e": ("confirmed", 0)}
    assert World(world.events).entry("revoking", operation="t1", at=NOON + timedelta(days=1)).fields("e") == ["at"]


# ---- 5 and 6: without an operation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("told", "said"), [("v1", None), (None, "v1"), (None, None)])
def test_without_an_operation_item_and_effect_tell(told: str | None, said: str | None) -> None:
    """Whichever of the two names none; what differs in anything else is another act, and contradicts nothing."""
    world = World().event("e", operation=told, amount="40", at=NOON)

    assert World(world.events).entry(operation=said).found == {"e": ("confirmed", 0)}
    assert World(world.events).entry(operation=said, amount="40.0").found == {"e": ("confirmed", 0)}
    assert World(world.events).entry(operation=said, at=NOON + timedelta(hours=1)).found == {"e": ("confirmed", 0)}
    assert World(world.events).entry(operation=said, amount="41").found == {}
    assert World(world.events).entry("revoked", operation=said).found == {}
    assert World(world.events).entry("rejected", operation=said).found == {}
    assert World(world.events).entry(operation=said, item=Item("redemption", "r2")).found == {}
    assert World(world.events).entry(operation=said, item=Item("order", "r1")).found == {}


def test_each_entry_serves_one_act() -> None:
    """Of two acts that look alike, the first in time; the other one is not there."""
    world = World().event("b", at=NOON + timedelta(hours=1), operation="v2").event("a", at=NOON, operation="v1")

    assert world.entry().found == {"a": ("confirmed", 0)}
    assert world.entry().found == {"a": ("confirmed", 0), "b": ("confirmed", 1)}


def test_the_same_amount_comes_first() -> None:
    """Then what names none, in the order of time."""
    world = World().event("a", operation="v1", amount="1").event("b", operation="v2", amount="2")
    world.event("c", operation="v3").entry().entry(amount="2").entry(amount="1")

    assert world.found == {"a": ("confirmed", 2), "b": ("confirmed", 1), "c": ("confirmed", 0)}


def test_the_same_time_comes_before_the_same_amount() -> None:
    """So of two equal amounts it is the suppressed delivery's entry that nobody announced."""
    world = World().event("second", operation="v2", amount="1", at=NOON + timedelta(hours=1))
    world.entry(amount="1", at=NOON).entry(amount="1", at=NOON + timedelta(hours=1))

    assert world.found == {"second": ("confirmed", 1)}
    assert world.unannounced == [0]


def test_one_act_makes_room_for_another() -> None:
    """An act that two entries can serve is not given the only one that can serve another."""
    world = World().event("a", operation="v1").event("b", operation="v2", amount="2")
    world.entry(amount="2").entry(amount="3")

    assert world.found == {"a": ("confirmed", 1), "b": ("confirmed", 0)}


def test_a_chain_of_acts_makes_room() -> None:
    """As many are served as can be."""
    world = World().event("a", operation="v1").event("b", operation="v2", amount="1")
    world.event("c", operation="v3", amount="1", quantity="1")
    world.entry(amount="1").entry(amount="1", quantity="2").entry(amount="9")

    assert world.found == {"a": ("confirmed", 2), "b": ("confirmed", 1), "c": ("confirmed", 0)}


def test_done_serves_what_was_begun() -> None:
    """After what was begun has served; and it serves the act that it is done by as well."""
    world = World().event("begun", "revoking").event("done", "revoked").entry("revoked", operation="t1")

    assert world.found == {"begun": ("confirmed", 0), "done": ("confirmed", 0)}
    assert world.entry("revoking").found == {"begun": ("confirmed", 1), "done": ("confirmed", 0)}


def test_what_was_begun_and_what_was_done_may_be_two_operations() -> None:
    """At the very end, and only where the log has no entry that the other operation was begun."""
    begun = World().event("e", "revoking", operation="job revoking", quantity="2")

    assert World(begun.events).entry("revoked", operation="job revoked").found == {"e": ("confirmed", 0)}
    assert World(begun.events).entry("revoked", operation="job revoked", quantity="3").found == {}
    assert World(begun.events).entry("revoked", operation="t").entry("revoking", operation="t").found == {}
    theirs = World(begun.events).entry("revoked", operation="t").entry("revoking", operation="t", account=THEIRS)
    assert theirs.found == {"e": ("confirmed", 0)}
    both = World(list(begun.events)).event("f", "revoking", operation="t").entry("revoked", operation="t")
    assert both.found == {"f": ("confirmed", 0)}
    done = World().event("e", "revoked", operation="job revoked").entry("revoking", operation="job revoking")
    assert done.found == {}


def test_a_later_denial_of_the_entry_that_serves() -> None:
    """The operation is the entry's then."""
    world = World().event("e", "canceling").entry("canceling", operation="t1").entry("rejected", operation="t1")

    assert world.found == {"e": ("contradicted", 1)}
    assert world.fields("e") == ["effect"]
    assert World(world.events).entry("canceling", operation="t1").entry("rejected", operation="t2").found == {
        "e": ("confirmed", 0)
    }


def test_an_entry_that_serves_by_operation_serves_no_other_act() -> None:
    """It is taken."""
    world = World().event("a", operation="v1").event("b", way="relay", amount="2").entry(operation="v1")

    assert world.found == {"a": ("confirmed", 0)}


def test_an_amount_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for every pair of an event and an entry: it may have many digits."""
    read: list[str] = []

    def parse(text: str) -> Decimal | None:
        read.append(text)
        return parse_amount(text)

    monkeypatch.setattr(matching, "parse_amount", parse)
    world, length = World(), 20
    for number in range(length):
        world.event(f"e{number}", amount=f"1.{'0' * (200 + number)}").entry(amount=f"1.{'0' * (230 + number)}")

    assert len(world.found) == length
    assert len(read) <= 2 * length


def test_may_be_gap() -> None:
    """That nothing was taken back was nobody's to announce."""
    silent = [effect.value for effect in Effect if not may_be_gap(claim(effect.value))]

    assert silent == ["refused", "activated"]
