"""The issuer's own proof: what the issuer itself says of the thing that a record is about.

A record says what the operator was told. An issuer that keeps a transparency log has an entry there for the same act;
with its inclusion proof, evidence shows what the issuer stands for, and not the operator's word alone. It comes along
as a tlog-proof (`translog.proof`) whose `extra` is the issuer's entry, verbatim.

That the entry is in the issuer's log, the proof shows. What the entry is about, only the entry itself says: one about
something else is in the log just as well, and proves nothing of the record. So a *plain entry* is read, and compared
with what the record's event was opened to:

    {"account":"7b1c","amount":null,"at":"2026-11-20T08:59:58.000000Z","effect":"revoked","event":"RECEIPT_REVOKE",
     "item":{"id":"3f0c","type":"receipt"},"operation":"3f0c","provider":"acme","quantity":null}

    provider, item, effect             always; `revoked` also fits a record of `revoking`, `canceled` one of `canceling`
    operation, account                 where record and entry both name one
    amount, quantity                   the same, as decimals

The same act may be told of as of another item: a transaction, and what that is about. So where the types of the two
items differ and both name an operation, the operation alone ties record and entry; that the items are the same is not
shown then. If the event is withheld, provider and effect are compared all the same: the leaf has them.

An id that is a UUID is the same in either case (RFC 9562 section 4). Entries of any other form are handed on as they
are, for a person to read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from translog.canonical import Value, decode
from translog.checkpoint import Checkpoint
from translog.errors import EvidenceError, FormatError
from translog.policy import Policy
from translog.proof import TlogProof
from translog.tiles import MAX_ENTRY_SIZE

__all__ = ["Act", "IssuerEntry", "vouched"]

_MEMBERS = frozenset({"account", "amount", "at", "effect", "event", "item", "operation", "provider", "quantity"})
_ITEM = frozenset({"id", "type"})

_DONE = {"revoking": "revoked", "canceling": "canceled"}
"""The effect of an act under way, and the one that it has once it is done."""

_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_LONGEST_AMOUNT = 256


@dataclass(frozen=True, slots=True)
class Act:
    """A plain entry: one act of the issuer, in words that are the same for all issuers. None where it says nothing."""

    provider: str
    effect: str
    item_type: str
    item_id: str
    event: str | None
    """What the issuer calls it."""
    at: str | None
    account: str | None
    operation: str | None
    """The id of this one act."""
    amount: str | None
    quantity: str | None

    @classmethod
    def parse(cls, entry: bytes) -> "Act":
        """The act whose plain entry is exactly `entry`; `FormatError` for an entry of any other form."""
        members = _object(decode(entry), "issuer's entry", _MEMBERS)
        item = _object(members["item"], "issuer's entry: item", _ITEM)
        return cls(
            provider=_text(members, "provider"),
            effect=_text(members, "effect"),
            item_type=_text(item, "type"),
            item_id=_text(item, "id"),
            event=_optional(members, "event"),
            at=_optional(members, "at"),
            account=_optional(members, "account"),
            operation=_optional(members, "operation"),
            amount=_optional(members, "amount"),
            quantity=_optional(members, "quantity"),
        )


@dataclass(frozen=True, slots=True)
class IssuerEntry:
    """What an issuer's proof shows: `entry` is entry `index` of the issuer's log of `checkpoint`.

    `act` is the entry, read; None if it is of another form. `compared` names what in it was found to be the same as in
    the record; it is empty if the two could not be compared. Unless the item's id or the operation is among it, whether
    the entry is about the record is for whoever reads it.
    """

    checkpoint: Checkpoint
    index: int
    entry: bytes
    act: Act | None
    compared: tuple[str, ...]


def vouched(data: bytes, policy: Policy, facts: Mapping[str, Value], event: Mapping[str, Value] | None) -> IssuerEntry:
    """Verify an issuer's proof for the record whose leaf has `facts` and whose event was opened to `event`, if it was.

    `policy` is of the issuer's log. Raises `FormatError` for what is no tlog-proof with its entry, or for one above
    65,535 bytes, which no log has; `SignatureError` and `ProofError` if it does not verify, and `EvidenceError`, which
    names the member, if the entry is about something else than the record.
    """
    proof = TlogProof.parse(data)
    if proof.extra is None:
        raise FormatError("issuer's proof: it has no extra line, so it does not say which entry it proves")
    if len(proof.extra) > MAX_ENTRY_SIZE:
        raise FormatError(f"issuer's proof: an entry of {len(proof.extra)} bytes; it has {MAX_ENTRY_SIZE} at most")
    checkpoint = proof.verify(proof.extra, policy)
    try:
        act = Act.parse(proof.extra)
    except FormatError:
        act = None
    compared = () if act is None else _compare(act, facts, event or {})
    return IssuerEntry(checkpoint, proof.index, proof.extra, act, compared)


def _compare(act: Act, facts: Mapping[str, Value], event: Mapping[str, Value]) -> tuple[str, ...]:
    """The names of the members that are the same; `EvidenceError` for the first that differs."""
    if "item" not in event and "effect" not in facts:  # a record of what is no event: nothing to hold the entry against
        return ()
    item = event.get("item")
    item = item if isinstance(item, dict) else {}
    pairs: list[tuple[str, Value, str | None, Callable[[str, str], bool]]] = [
        ("provider", facts.get("provider"), act.provider, str.__eq__)
    ]
    # The same act may be told of as of another item (a transaction, and what that is about): then its id tells.
    named = act.operation is not None and event.get("operation") is not None
    another_type = named and isinstance(item.get("type"), str) and item["type"] != act.item_type
    if "item" in event and not another_type:
        pairs.append(("item type", item.get("type"), act.item_type, str.__eq__))
        pairs.append(("item id", item.get("id"), act.item_id, _same_id))
    if "effect" in facts:  # a record of some other kind than an event's has none
        pairs.append(("effect", facts["effect"], act.effect, _same_effect))
    pairs += [
        (name, event[name], there, same)
        for name, there, same in (
            ("operation", act.operation, _same_id),
            ("account", act.account, _same_id),
            ("amount", act.amount, _same_amount),
            ("quantity", act.quantity, _same_amount),
        )
        if there is not None and event.get(name) is not None
    ]
    for name, here, there, same in pairs:
        if not isinstance(here, str) or there is None or not same(here, there):
            raise EvidenceError(
                f"evidence: the issuer's entry is about something else: its {name} is {_quoted(there)}, the record's "
                f"{_quoted(here)}"
            )
    return tuple(name for name, _, _, _ in pairs)


def _same_id(here: str, there: str) -> bool:
    return _one_case(here) == _one_case(there)


def _one_case(text: str) -> str:
    return text.lower() if _UUID.fullmatch(text) else text


def _same_effect(here: str, there: str) -> bool:
    return there in {here, _DONE.get(here)}


def _same_amount(here: str, there: str) -> bool:
    if all(len(text) <= _LONGEST_AMOUNT and _AMOUNT.fullmatch(text) for text in (here, there)):
        return Decimal(here) == Decimal(there)  # compared exactly, whatever the context's precision
    return here == there


def _object(value: Value, what: str, names: frozenset[str]) -> dict[str, Value]:
    if not isinstance(value, dict) or value.keys() != names:
        raise FormatError(f"{what}: expected an object with exactly the members {sorted(names)}")
    return value


def _optional(members: dict[str, Value], name: str) -> str | None:
    return None if members[name] is None else _text(members, name)


def _text(members: dict[str, Value], name: str) -> str:
    value = members[name]
    if not isinstance(value, str):
        raise FormatError(f"issuer's entry: {name!a} is not a string")
    return value


def _quoted(value: Value) -> str:
    return "missing" if value is None else f"{str(value)[:80]!a}"
