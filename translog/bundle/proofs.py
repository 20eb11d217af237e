"""The small files under `proof/`: from the log's key to the checkpoint, and from that to all else that is believed.

The checkpoint is the log's because a policy, which comes from outside, accepts it. It covers the export's own entry,
which says what was asked for, and the entry that announces the key by which the manifest is signed. The checkpoint of
the export before this one is the log's too, and the beginning of the same tree. Erasures that came later are proven by
later checkpoints, each with the erasure that it covers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from translog import evidence, merkle
from translog.bundle.archive import Archive
from translog.bundle.joining import Statement, statements
from translog.bundle.leaves import Reader
from translog.bundle.reading import decoded, hashes, members, number
from translog.canonical import Value, decimal
from translog.checkpoint import Checkpoint
from translog.errors import BundleError, TranslogError
from translog.evidence import Evidence, Leaf
from translog.note import Kind, VerifyingKey
from translog.policy import Policy
from translog.proof import TlogProof

__all__ = [
    "CHECKPOINT",
    "CONSISTENCY",
    "ENTRY",
    "KEY",
    "MAX_PROOF",
    "PREVIOUS",
    "Proven",
    "erasure_name",
    "erasure_of",
    "erasures",
    "prove",
    "verify_previous",
]

CHECKPOINT, PREVIOUS, CONSISTENCY = "proof/checkpoint", "proof/previous-checkpoint", "proof/consistency.json"
ENTRY, KEY = "proof/entry.tlog-proof", "proof/exports-key.tlog-proof"
_ERASURES, _PROOF = "proof/erasures/", ".tlog-proof"

MAX_PROOF = 1 << 21
"""Bytes of a file that is read here, the most: two notes, an entry and its proof."""


class Placed(NamedTuple):
    """A leaf, and its index in the log."""

    leaf: Leaf
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  nobody searches an entry with tuple.index


@dataclass(frozen=True, slots=True)
class Proven:
    """What the log's key leads to: the checkpoint's note and what it says, the export's entry, the exports key.

    `announcement` is the entry that announces that key.
    """

    note: bytes
    checkpoint: Checkpoint
    entry: Placed
    announcement: Placed
    key: VerifyingKey


def prove(archive: Archive, policy: Policy) -> Proven:
    """Verify the checkpoint under `policy`, and by it the export's entry and the announcement of the exports key.

    Raises `BundleError` for whatever does not hold.
    """
    signed = archive.read(CHECKPOINT, MAX_PROOF)
    try:
        checkpoint = policy.open(signed)
    except TranslogError as error:
        raise BundleError(CHECKPOINT, str(error)) from None
    announced = _entry(archive, KEY, policy, signed, "key")
    entry = _entry(archive, ENTRY, policy, signed, "export")
    key = _announced(announced.leaf.facts, f"{checkpoint.origin}/exports")
    return Proven(signed, checkpoint, entry, announced, key)


def _entry(archive: Archive, name: str, policy: Policy, signed: bytes | None, kind: str) -> Placed:
    """The leaf of that kind in a tlog-proof with the checkpoint `signed`, if that is given, and nothing opened."""
    data = archive.read(name, MAX_PROOF)
    try:
        proof = TlogProof.parse(data)
        if signed is not None and proof.checkpoint != signed:
            raise BundleError(name, f"its checkpoint is not that of {CHECKPOINT}")
        leaf = evidence.verify(data, policy).leaf
        if leaf.kind != kind or proof.extra != Evidence(leaf.encode()).encode():
            raise BundleError(name, f"it proves a {leaf.kind}; it is to prove a leaf of kind {kind}, nothing opened")
    except BundleError:
        raise
    except TranslogError as error:
        raise BundleError(name, str(error)) from None
    return Placed(leaf, proof.index)


def _announced(facts: dict[str, Value], called: str) -> VerifyingKey:
    """The exports key that an entry announces."""
    match facts:
        case {"action": "announced", "by": str(), "id": str(), "purpose": "exports", "vkey": str(vkey), **rest} if (
            not rest
        ):
            pass
        case _:
            raise BundleError(KEY, "its entry announces no key for exports")
    try:
        key = VerifyingKey.parse(vkey)
    except TranslogError as error:
        raise BundleError(KEY, str(error)) from None
    if key.name != called or key.kind is not Kind.ED25519:
        raise BundleError(KEY, f"the key that it announces is not {called!a}, or none of Ed25519")
    return key


def verify_previous(archive: Archive, policy: Policy, proven: Proven, stated: tuple[int, bytes]) -> None:
    """Check that the previous checkpoint is the log's, as `stated`, and the beginning of the tree. `BundleError`."""
    try:
        # What witnesses had cosigned then is not asked: it is the beginning of what they have cosigned now.
        previous = policy.open_log(archive.read(PREVIOUS, MAX_PROOF))
        if previous.origin != proven.checkpoint.origin:
            raise BundleError(PREVIOUS, f"it is of {previous.origin!a}, another log")
    except BundleError:
        raise
    except TranslogError as error:
        raise BundleError(PREVIOUS, str(error)) from None
    if (previous.size, previous.root) != stated:
        raise BundleError("manifest.json previous", f"it is not size and root of {PREVIOUS}")
    value = decoded(CONSISTENCY, archive.read(CONSISTENCY, MAX_PROOF))
    proof = members(CONSISTENCY, value, "hashes", "new_size", "old_size")
    new = proven.checkpoint
    for name, size in (("old_size", previous.size), ("new_size", new.size)):
        place = f"{CONSISTENCY} {name}"
        if number(place, proof[name]) != size:
            raise BundleError(place, f"it is not about the trees of {previous.size} and {new.size} leaves")
    found = hashes(f"{CONSISTENCY} hashes", proof["hashes"])
    try:
        merkle.verify_consistency(previous.size, previous.root, new.size, new.root, found)
    except TranslogError as error:
        raise BundleError(CONSISTENCY, f"the log did not only grow since: {error}") from None


# ---- what is said of events elsewhere -------------------------------------------------------------------------------


def erasure_of(name: str) -> int | None:
    """The index of the erasure that a file of this name proves; None if it is no such file's name."""
    if not (name.startswith(_ERASURES) and name.endswith(_PROOF)):
        return None
    try:
        return decimal(name.removeprefix(_ERASURES).removesuffix(_PROOF))
    except TranslogError:
        return None


def erasure_name(index: int) -> str:
    """The file that proves the erasure at that index."""
    return f"{_ERASURES}{index}{_PROOF}"


def erasures(
    archive: Archive, policy: Policy, checkpoint: Checkpoint, reader: Reader
) -> Iterator[tuple[Placed, list[Statement]]]:
    """Verify the erasures that the checkpoint does not cover; each, and what it says. Raises `BundleError`."""
    for member in archive.members:
        index = erasure_of(member.name)
        if index is None:
            continue
        entry = _entry(archive, member.name, policy, None, "erasure")
        later = TlogProof.parse(archive.read(member.name, MAX_PROOF)).unverified_checkpoint()  # it is verified by now
        if later.origin != checkpoint.origin or entry.index != index or index < checkpoint.size:
            raise BundleError(member.name, f"it is not about entry {index} after {checkpoint.size} of this log")
        try:
            yield entry, statements(reader.read(entry.leaf.encode()), index)
        except TranslogError as error:
            raise BundleError(member.name, str(error)) from None
