"""Proof bundles: what a provider shows to prove that an item is in its log, where that log cannot be read itself.

    checked       that the path in it leads from the leaf's hash to the root (RFC 6962 section 2.1.1); and that, of one
                  log and size, every bundle that a source was ever shown names the same root
    not checked   what the provider does not document, in its module's words (`receiver.providers.Bundle.unchecked`):
                  what the leaf says, and whose signature the root stands under

So a bundle proves no event, and changes no verdict: it is kept beside the record that does, byte for byte. Nor is it a
fork that two bundles name two roots for one size, for no signature was checked, and nobody can be held to either. It is
said, and counted, for somebody to look into.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import sqlalchemy as sa

from receiver.events import Claim
from receiver.providers import Bundle, Inclusion, Unfit
from receiver.records.tables import bundle_roots
from receiver.strictjson import NotJson, parse
from translog.canonical import Value, to_base64
from translog.errors import ProofError
from translog.merkle import verify_inclusion

_OK, _NOT_FOUND = 200, 404


class Result(StrEnum):
    """What became of a bundle."""

    PROVEN = "proven"
    """Its path leads to the root that it names."""
    FAILED = "failed"
    """It does not."""
    ROOTS_DIFFER = "roots_differ"
    """It does, but another root was named for the same size of the same log before."""
    UNREADABLE = "unreadable"
    """It is not as the provider documents it, or holds no proof."""
    NOT_THERE = "not_there"
    """The provider has none."""
    UNAVAILABLE = "unavailable"
    """It could not be had."""

    @property
    def may_pass(self) -> bool:
        """Whether another look may do better: what does not verify is asked for again."""
        return self in {Result.FAILED, Result.UNAVAILABLE}


@dataclass(frozen=True, slots=True)
class Shown:
    """What was answered, and to what: path and query, percent-encoded. Without a status there was no answer."""

    target: str
    status: int | None
    body: bytes
    why: str
    """Why there was no answer; empty if there was one."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A bundle that was looked at."""

    shown: Shown
    result: Result
    said: str | None
    """What is wrong, in a sentence; None if nothing is."""
    inclusion: Inclusion | None
    """None where it could not be read."""
    unchecked: tuple[str, ...]

    def value(self) -> Mapping[str, Value]:
        """What is kept of it in a finding: hashes in hex, the answer in base64."""
        inclusion = self.inclusion
        return {
            "answer": None if self.shown.status is None else to_base64(self.shown.body),
            "checked": [] if inclusion is None else ["inclusion"],
            "index": None if inclusion is None else inclusion.index,
            "leaf_hash": None if inclusion is None else inclusion.leaf_hash.hex(),
            "log": None if inclusion is None else inclusion.log,
            "not_checked": list(self.unchecked),
            "path": self.shown.target,
            "result": self.result.value,
            "root": None if inclusion is None else inclusion.root.hex(),
            "said": self.said,
            "size": None if inclusion is None else inclusion.size,
            "status": self.shown.status,
        }


def examine(bundle: Bundle, claim: Claim, shown: Shown) -> Examined:
    """What a bundle is worth by itself: `ROOTS_DIFFER` is for `compare` to find."""
    result, said, inclusion = _examine(bundle, claim, shown)
    return Examined(shown, result, said, inclusion, bundle.unchecked)


def _examine(bundle: Bundle, claim: Claim, shown: Shown) -> tuple[Result, str | None, Inclusion | None]:
    if shown.status is None:
        return Result.UNAVAILABLE, f"there is no answer: {shown.why}", None
    if shown.status == _NOT_FOUND:
        return Result.NOT_THERE, "the answer is 404", None
    if shown.status != _OK:
        return Result.UNAVAILABLE, f"the answer is {shown.status}", None
    try:
        inclusion = bundle.read(claim, parse(shown.body))
    except NotJson as error:
        return Result.UNREADABLE, str(error), None
    if isinstance(inclusion, Unfit):
        return Result.UNREADABLE, inclusion.message, None
    one = inclusion
    try:
        verify_inclusion(one.leaf_hash, one.index, one.size, one.hashes, one.root)
    except ProofError as error:
        return Result.FAILED, str(error), one
    return Result.PROVEN, None, one


def compare(tx: sa.Connection, source_id: str, examined: Examined, now: str) -> Examined:
    """Hold the root of a proven bundle against those that the source was shown before, and keep it with them.

    Under the lock of the tenant's log: of two that are shown two roots at once, one sees the other's. A root to which
    no path led is nobody's, and is not kept.
    """
    inclusion = examined.inclusion
    if examined.result is not Result.PROVEN or inclusion is None:
        return examined
    its = {"source_id": source_id, "log": inclusion.log, "size": inclusion.size}
    known = [bytes(root) for root in tx.execute(_ROOTS, its).scalars()]
    if inclusion.root not in known:
        tx.execute(sa.insert(bundle_roots).values(**its, root=inclusion.root, seen_at=now))
    if others := [root.hex() for root in known if root != inclusion.root]:
        said = f"the root of the log's first {inclusion.size} entries was {', '.join(others)} before"
        return replace(examined, result=Result.ROOTS_DIFFER, said=said)
    return examined


_ROOTS = (
    sa.select(bundle_roots.c.root)
    .where(
        bundle_roots.c.source_id == sa.bindparam("source_id"),
        bundle_roots.c.log == sa.bindparam("log"),
        bundle_roots.c.size == sa.bindparam("size"),
    )
    .order_by(bundle_roots.c.seen_at, bundle_roots.c.root)
)
