"""`translog verify`: does a file of evidence hold, and what does it show. Offline, and two kinds of file here.

The evidence of a record is a tlog-proof (`translog.evidence`); where the issuer's own proof came along, and it is said
whose log that is of, it is verified too. The evidence of a fork is two checkpoints (`translog.fork`). The third kind,
export bundles, is told of in `translog.cli.bundles`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from translog import evidence, fork, note
from translog.cli.claims import LOG_AND_KEY, not_shown, shown, witnessed
from translog.cli.telling import checkpoint_rows, label, leaf_rows, paragraphs, printable, shortened, table, words
from translog.errors import FormatError
from translog.evidence import Verified
from translog.fork import Fork, Heads
from translog.policy import Policy
from translog.proof import TlogProof

__all__ = ["cosigners", "verify"]


def verify(data: bytes, policy: Policy, issuer_policy: Policy | None = None) -> str:
    """What the evidence in `data` shows under `policy`, and what not; the issuer's proof under `issuer_policy`.

    Raises as `evidence.verify` does, or as `Fork.verify` for the evidence of a fork.
    """
    if not data.startswith(fork.HEADER.encode()):
        return _record(data, policy, evidence.verify(data, policy, issuer_policy))
    if issuer_policy is not None:
        raise FormatError(
            "a fork's evidence has no issuer's proof in it: whichever log it is of, give that one's key by --key"
        )
    found = Fork.parse(data)
    return _fork(found, found.verify(policy), policy)


# ---- a record -----------------------------------------------------------------------------------------------------


def _record(data: bytes, policy: Policy, verified: Verified) -> str:
    signed = TlogProof.parse(data).checkpoint
    return "\n".join(
        (
            "VERIFIED: this record is in the log, unchanged.",
            "",
            "The log:",
            table((*checkpoint_rows(verified.checkpoint), *cosigners(signed, policy), ("index", str(verified.index)))),
            "The record, as it was logged:",
            table(leaf_rows(verified.leaf)),
            "What came with it:",
            table((*_event_rows(verified), *_delivery_rows(verified), *_issuer_rows(verified))),
            "",
            "What this shows:",
            paragraphs(shown(verified, policy)),
            "",
            "What this does not show:",
            paragraphs(not_shown(verified, policy)),
        )
    )


def cosigners(signed: bytes, policy: Policy) -> Iterator[tuple[str, str]]:
    """The witnesses of the policy whose cosignatures of a checkpoint verify, and when each saw it."""
    if not witnessed(policy):
        return
    keys = {(witness.key.name, witness.key.key_id): witness for witness in policy.witnesses}
    for signature in note.open(signed, dict.fromkeys((*policy.logs, *(one.key for one in keys.values())))).signatures:
        if witness := keys.get((signature.name, signature.key_id)):
            when = f", {_time(signature.timestamp)}" if signature.timestamp else ""
            yield "cosigned by", f"{witness.key.name} ({witness.name.decode(errors='surrogateescape')}){when}"


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"POSIX time {seconds}"


def _event_rows(verified: Verified) -> Iterator[tuple[str, str]]:
    if verified.event is None:
        state = "withheld" if "event" in verified.withheld else "none: a record of this kind names no item"
        yield "item", state
        return
    members = dict(verified.event)
    match members.pop("item", None):
        case None:  # what was compared, for instance, and not what happened to an item
            pass
        case {"type": str(kind), "id": str(id_), **rest} if not rest:
            yield "item", f"{kind} {id_}"
        case other:
            yield "item", words(other)
    for name in sorted(members):
        yield label(name), words(members[name])


def _delivery_rows(verified: Verified) -> Iterator[tuple[str, str]]:
    if verified.delivery is None:
        yield "delivery", "withheld" if "delivery" in verified.withheld else "none"
        return
    body = verified.delivery.body
    yield "delivery", f"opened: a body of {len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}"
    for name, value in verified.delivery.headers:
        yield "", f"{name}: {value}"


def _issuer_rows(verified: Verified) -> Iterator[tuple[str, str]]:
    issuer = verified.issuer_checked
    if issuer is None:
        state = "none" if verified.issuer is None else "attached; not checked: that takes the issuer's key"
        yield "issuer proof", state
        return
    checkpoint = issuer.checkpoint
    yield "issuer proof", f"verified: entry {issuer.index} of {checkpoint.size} of {checkpoint.origin}"
    yield "issuer root", checkpoint.root.hex()
    yield "issuer entry", shortened(issuer.entry)


# ---- a fork -------------------------------------------------------------------------------------------------------


def _fork(found: Fork, heads: Heads, policy: Policy) -> str:
    smaller, larger = heads
    return "\n".join(
        (
            f"FORKED: the log {printable(smaller.origin)} signed two checkpoints that cannot both be of one log.",
            "",
            "One checkpoint:",
            table((*checkpoint_rows(smaller), *_signers(found.smaller, policy))),
            "The other:",
            table((*checkpoint_rows(larger), *_signers(found.larger, policy))),
            "",
            "What this shows:",
            paragraphs(_fork_shown(found, heads, policy)),
            "",
            "What this does not show:",
            paragraphs(_fork_not_shown(found, policy)),
        )
    )


def _signers(signed: bytes, policy: Policy) -> Iterable[tuple[str, str]]:
    """Everyone who signed a checkpoint, and whose signatures were verified: those of the log."""
    verified = _verified(signed, policy)
    for signature in dict.fromkeys(note.Note.parse(signed).signatures):
        checked = "verified" if signature in verified else "not checked"
        yield "signed by", f"{signature.name}+{signature.key_id:08x}, {checked}"


def _verified(signed: bytes, policy: Policy) -> set[note.Signature]:
    """The signatures of a checkpoint by keys of the log."""
    return set(note.open(signed, policy.logs).signatures)


def _keys(signed: bytes, policy: Policy) -> set[str]:
    """The names and IDs of the keys of the log that signed a checkpoint."""
    return {f"{one.name}+{one.key_id:08x}" for one in _verified(signed, policy)}


def _fork_shown(found: Fork, heads: Heads, policy: Policy) -> Iterator[str]:
    smaller, larger = heads
    if smaller.size == larger.size:
        yield (
            f"Both are of {smaller.size} entries, and have different roots: there are two logs of that size, and at "
            "least one entry is another in one than in the other."
        )
    else:
        yield (
            f"The first {smaller.size} entries of the larger one have the root {found.root.hex()}, as the hashes in "
            "this file show, and not the smaller one's. So entries were changed, or left out, in between."
        )
    one, other = _keys(found.smaller, policy), _keys(found.larger, policy)
    never = "a log that only ever adds entries never comes to two such checkpoints."
    if both := sorted(one & other):
        yield f"The holder of the key {both[0]} signed both: nobody else can make such signatures, and {never}"
    else:
        yield (
            f"No one key signed both: the one is signed by {', '.join(sorted(one))}, the other by "
            f"{', '.join(sorted(other))}. If all of these are the log's, its holders signed both, and {never}"
        )


def _fork_not_shown(found: Fork, policy: Policy) -> Iterator[str]:
    if not _keys(found.smaller, policy) & _keys(found.larger, policy):
        yield "That these keys are all the log's: you say so, who gave them. If one is not, this shows nothing."
    yield "Which of the two is true, which entries differ, and who was shown which."
    yield "Who used the key: its owner, or somebody who took it."
    yield LOG_AND_KEY
