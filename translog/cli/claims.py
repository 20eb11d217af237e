"""What evidence shows, and what it does not: the sentences under a record that was verified.

They are meant to be quoted, so each says no more than was verified. Most of what is not shown follows from the record's
own facts: how it came, how it was authenticated, what it tells of.
"""

from collections.abc import Iterator, Mapping

from translog.canonical import Value
from translog.cli.telling import quoted, words
from translog.evidence import Leaf, Verified
from translog.issuer import Act, IssuerEntry
from translog.policy import Policy

__all__ = ["LOG_AND_KEY", "SEEN_BY_ALL", "SEEN_BY_WITNESSES", "not_shown", "shown", "witnessed"]

LOG_AND_KEY = (
    "Whose log this is. That rests on the key you gave: it must have come from the log's operator by other means than "
    "this file."
)
SEEN_BY_ALL = (
    "That this is the log everyone sees. Without witnesses an operator could show two auditors two logs, or "
    "backdate: compare the size and the root above with what others were given."
)

SEEN_BY_WITNESSES = (
    "That no other log was shown to others, if witnesses help in it. That they are independent of the operator is for "
    "whoever wrote the policy to know."
)

_HOW_IT_CAME = {
    "relay": "The operator made the call itself and recorded the answer: the provider signed nothing of it.",
    "poll": "The operator asked the provider and recorded the answer: the provider signed nothing of it.",
    "declared": "The notice was made by the operator's own systems, not by the provider.",
}

_UPSTREAM = "upstream"
"""The scheme of what nobody sent: the operator asked the provider, and was answered."""


def shown(verified: Verified, policy: Policy) -> Iterator[str]:
    """What the evidence shows, verified under `policy`."""
    checkpoint = verified.checkpoint
    opened = [name for name, shown in (("event", verified.event), ("delivery", verified.delivery)) if shown is not None]
    yield (
        f"The log {checkpoint.origin} signed a checkpoint of {checkpoint.size} entries, and this record is its entry "
        f"{verified.index}. It can no longer be changed, or left out of an export, without being found out."
    )
    if witnessed(policy):
        yield (
            "The witnesses that the policy asks for cosigned that checkpoint. A witness signs nothing of a log that "
            "does not continue what it signed before."
        )
    if opened:
        yield f"What is shown as {' and '.join(opened)} is, byte for byte, what the log committed to."
    if verified.issuer_checked is not None:
        yield from _vouched(verified.issuer_checked)


def witnessed(policy: Policy) -> bool:
    """Whether a policy asks for witnesses."""
    return policy.quorum != b"none"


def _vouched(issuer: IssuerEntry) -> Iterator[str]:
    says = "that is shown above as it is" if issuer.act is None else f"that says: {_said(issuer.act)}"
    yield (
        f"The issuer's log {issuer.checkpoint.origin} signed a checkpoint of {issuer.checkpoint.size} entries and has, "
        f"at index {issuer.index}, an entry {says}. The issuer itself stands for it."
    )
    if issuer.compared:
        *names, last = issuer.compared
        yield f"That entry and this record say the same as {', '.join(names)} and {last}."


def _said(act: Act) -> str:
    """A plain entry: its texts in quotes, so that none of them reads as what is said here."""
    parts = [f"{quoted(act.item_type)} {quoted(act.item_id)} of {quoted(act.provider)}", f"effect {quoted(act.effect)}"]
    for name, value in (
        ("event", act.event),
        ("amount", act.amount),
        ("quantity", act.quantity),
        ("operation", act.operation),
        ("account", act.account),
        ("at", act.at),
    ):
        if value is not None:
            parts.append(f"{name} {quoted(value)}")
    return ", ".join(parts)


def not_shown(verified: Verified, policy: Policy) -> Iterator[str]:
    """What might be taken for shown, and is not."""
    facts = verified.leaf.facts
    scheme, via = facts.get("scheme"), facts.get("via")
    if facts.get("test") is True:
        yield "That anything was taken back: this comes from a test source."
    yield from _no_event(verified.leaf)
    yield from _no_comparison(verified.leaf)
    if isinstance(scheme, str) and scheme.endswith("/v1a"):
        yield (
            f"That the provider signed the notice. The operator recorded that its signature ({scheme}) verified; "
            "that was not checked again here. With the delivery opened and the provider's public key anyone can."
        )
    elif isinstance(scheme, str) and scheme != _UPSTREAM:
        yield (
            f"Who made the notice. It was authenticated by a secret that provider and operator share ({scheme}): "
            "that convinces the operator alone, for whoever knows the secret can make such a notice."
        )
    if isinstance(via, str) and via in _HOW_IT_CAME:
        yield f"Who made the notice. {_HOW_IT_CAME[via]}"
    if "attempt" in facts:
        yield (
            f"What the call asked for. The operator recorded that as the attempt {words(facts['attempt'])}: the "
            "evidence of that id shows it, and when it was logged."
        )
    if via == "poll":
        yield "That it was this call that did it: the provider's record says what was done, and may not say by whom."
    if "reprocessed" in facts:
        yield (
            f"When the delivery came. The operator recorded that it had been in quarantine, as "
            f"{words(facts['reprocessed'])}, and was read again for this record. The evidence of that id shows when "
            "it was logged first."
        )
    for name in verified.withheld:
        yield f"The {name}: it is withheld. The log commits to it, and its owner can show it later."
    yield from _not_vouched(verified)
    yield SEEN_BY_WITNESSES if witnessed(policy) else SEEN_BY_ALL
    yield (
        "That nothing was left out before it was logged. Only the acknowledgement, the issuer's log and the "
        "provider's own records reveal that."
    )
    yield LOG_AND_KEY


def _not_vouched(verified: Verified) -> Iterator[str]:
    """What the issuer's proof does not show."""
    issuer = verified.issuer_checked
    if issuer is None:
        if verified.issuer is not None:
            yield "What the issuer's log says: its proof is attached, but was not checked."
        return
    if not {"item id", "operation"} & set(issuer.compared):
        why = "the event is withheld" if "event" in verified.withheld else "the record names no item"
        if issuer.act is None:
            why = "the entry is of a form that is not known here"
        what = "Their items were" if issuer.compared else "They were"
        yield f"That the issuer's entry is about this record. {what} not compared, for {why}: read the entry above."
    elif "item id" not in issuer.compared:
        yield (
            f"That the issuer's entry is about the same item. It names {_entry_item(issuer)}, the record "
            f"{_record_item(verified)}: only the operation is the same."
        )
    elif "operation" not in issuer.compared:
        yield (
            "That the issuer's entry is of this very act. Record and entry do not both name the operation, and another "
            "act on the same item could look the same."
        )
    yield "Whose log the issuer's is, and that everyone sees the same. That rests on the issuer's key you gave."


def _entry_item(issuer: IssuerEntry) -> str:
    return "no item" if issuer.act is None else f"{quoted(issuer.act.item_type)} {quoted(issuer.act.item_id)}"


def _record_item(verified: Verified) -> str:
    match (verified.event or {}).get("item"):
        case {"type": str(kind), "id": str(id_)}:
            return f"{quoted(kind)} {quoted(id_)}"
        case other:
            return quoted(words(other))


def _no_event(leaf: Leaf) -> Iterator[str]:
    """What is not shown by what was kept, and is no event."""
    if leaf.kind == "attempt":
        yield _of_a_call(leaf.facts)
        yield "Who says so, but for the operator: the provider signed nothing of it."
        return
    if leaf.kind == "mismatch":
        yield (
            f"That anything was taken back. The operator recorded that this delivery has other content than one of the "
            f"same notice before it, the event {words(leaf.facts.get('first'))}. What was recorded first stands."
        )
    elif leaf.kind == "quarantine":
        yield (
            f"That anything was taken back. The delivery was not taken for an event when it came "
            f"({words(leaf.facts.get('reason'))}), and was kept as it was."
        )
    else:
        return
    if "attempt" in leaf.facts:
        yield "Who made it. The operator asked the provider and recorded the answer: the provider signed nothing of it."
    elif "scheme" not in leaf.facts:
        yield "Who made the delivery, and how it was authenticated: a record of this kind does not say."


def _no_comparison(leaf: Leaf) -> Iterator[str]:
    """What is not shown by what the operator found when it compared, or waited."""
    facts = leaf.facts
    state = words(facts.get("state"))
    if leaf.kind == "cross_check":
        yield (
            f"That it is so. The operator compared the event {words(facts.get('first'))} with the issuer's log, or the "
            f"provider's own record, and recorded what it found: {state}. Only the issuer's own proof shows what the "
            "issuer's log has: the evidence of that event may carry it."
        )
    elif leaf.kind == "gap" and state == "announced":
        yield "That a delivery came. The operator recorded that an entry of the issuer's log was announced after all."
    elif leaf.kind == "gap":
        yield (
            "That something was kept from the operator. It recorded that no delivery had announced an entry of the "
            "issuer's log."
        )
    elif leaf.kind == "fork":
        yield (
            "That the issuer's log forked. The operator recorded that it holds evidence of it: that is a file of its "
            "own, which `translog verify` checks."
        )
    elif leaf.kind == "silence":
        yield "Why nothing came, or that nothing was sent. The operator recorded when it heard of the source last."


def _of_a_call(facts: Mapping[str, Value]) -> str:
    """What is not shown by the intent of a call that was passed on, or by an answer to it that is no event."""
    told = f"the record {words(facts.get('first'))}"
    match facts.get("outcome"):
        case None:
            return (
                "That anything was taken back, or that the provider was called at all. The operator recorded this "
                "before it made the call; what became of that is in another record."
            )
        case "refused":
            said = f"the provider refused the call, with the status {words(facts.get('status'))}"
        case "not_sent":
            said = "nothing of the call has reached the provider"
        case "not_done":
            said = "the call had no effect, by the provider's own record when it was asked"
        case "duplicate":
            said = f"the call was answered as an earlier one had been, of which {told} tells"
        case "repeated":
            said = f"the call was made again with the same idempotency key, and that {told} tells of both"
        case other:
            said = f"this became of the call: {words(other)}"
    return f"That this call took anything back. The operator recorded that {said}."
