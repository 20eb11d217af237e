"""The entries of issuers' logs that are kept: each proven to be there, found by what it says, and told of as a gap.

An entry of an issuer's log is what an event is confirmed or contradicted by, so nobody may put one in, take one for
another, or hide one under another item. Its proof leads from it to a checkpoint that the issuer signed; what it is
found by follows from what its provider's module reads in it; and that it is a gap, or is none any more, was told by
findings, the first of which it names.

That an entry which is no gap was announced, no entry of ours says; but nothing announces it unless there is an event of
its item or its operation. When it is to be judged, and that it is kept at all before something is told of it, nothing
says.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from receiver import providers
from receiver.assurance.conclusions import ANNOUNCED, OPEN
from receiver.events import Claim, Kind
from receiver.fsck.issuers import Issuer
from receiver.fsck.report import Notes
from receiver.records import keyed
from receiver.records.keeping import erased_claims
from receiver.records.tables import checks, claims, deliveries, findings, log_keys
from translog import merkle
from translog.checkpoint import Checkpoint
from translog.errors import TranslogError
from translog.proof import TlogProof

_PAGE = 512
_CHECKPOINTS = 256
"""Verified checkpoints that are remembered: entries that follow one another were mostly proven under the same one."""


def check_kept_entries(
    tx: sa.Connection, issuers: Mapping[str, Issuer], hash_keys: Mapping[int | None, bytes | None], notes: Notes
) -> None:
    """Check every entry that is kept, and hold what was told of gaps against them, both ways.

    `hash_keys` are the tenants', by id; without one the keyed hashes are not checked.
    """
    for log_id, tenant_id in tx.execute(_KEPT_FOR).all():
        entries = _Entries(tx, issuers.get(log_id), hash_keys.get(tenant_id))
        for kept, told in _with_gaps(_claims(tx, log_id, tenant_id), _gaps(tx, log_id, tenant_id)):
            if kept is None:
                continue  # what tells of an entry that is not kept is named by itself
            for problem in (*entries.differences(kept), *_told_differently(kept, told)):
                notes.fault(f"entry {kept.place} of the issuer log {log_id}, kept for tenant {tenant_id}", problem)


class _Entries:
    """What is kept of one issuer's log for one tenant."""

    def __init__(self, tx: sa.Connection, issuer: Issuer | None, hash_key: bytes | None) -> None:
        self._tx = tx
        self._issuer = issuer
        self._hash_key = hash_key
        self._open: Callable[[bytes], Checkpoint] | None = None
        if issuer is not None and issuer.policy is not None:
            self._open = lru_cache(maxsize=_CHECKPOINTS)(issuer.policy.open)

    def differences(self, kept: sa.Row[Any]) -> Iterator[str]:
        """What is wrong with an entry, whatever was told of it."""
        if self._issuer is None:
            yield "there is no such issuer log"
        elif self._issuer.size is not None and kept.place >= self._issuer.size:
            yield f"is beyond the log's last verified checkpoint, which has {self._issuer.size}"
        missing = [name for name in ("entry", "proof") if getattr(kept, name) is None]
        if len(missing) > 1:
            if not kept.is_counted:
                yield "the entry is erased, and no erasure entry counts it"
        elif missing:
            yield f"cannot be verified without {missing[0]}"
        else:
            yield from self._unproven(kept, bytes(kept.entry), bytes(kept.proof))
        if kept.is_counted and len(missing) < 2:
            yield "an erasure entry counts it, and it is still there"
        if kept.entry is not None:
            yield from self._found_differently(kept, bytes(kept.entry))
        if kept.announced and not kept.is_told_of:
            yield "announced is True, and there is no event of its item or operation"

    def _unproven(self, kept: sa.Row[Any], entry: bytes, encoded: bytes) -> Iterator[str]:
        """Why the log has no such entry there, as far as its proof can tell."""
        if self._issuer is None or self._open is None:
            return
        try:
            proof = TlogProof.parse(encoded)
        except TranslogError as error:
            yield f"its proof cannot be read: {error}"
            return
        if proof.index != kept.place:
            yield f"its proof is of entry {proof.index}"
        elif proof.extra != entry:
            yield "its proof has another entry with it"
        else:
            try:
                checkpoint = self._open(proof.checkpoint)
                leaf_hash = merkle.leaf_hash(entry)
                merkle.verify_inclusion(leaf_hash, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
            except TranslogError as error:
                yield f"its proof does not verify: {error}"
                return
            if self._issuer.origin not in {None, checkpoint.origin}:
                yield f"its proof is of the log {checkpoint.origin}, and not of {self._issuer.origin}"

    def _found_differently(self, kept: sa.Row[Any], entry: bytes) -> Iterator[str]:
        """What is wrong with what an entry is found by."""
        try:
            claim = providers.get(kept.provider).entry(entry)
        except ValueError:
            yield f"provider is {kept.provider!a}, which this version does not know"
            return
        if not isinstance(claim, Claim):
            yield f"it is not read as an act of {kept.provider}"
        elif self._hash_key is not None:
            item = keyed.item_key(self._hash_key, kept.provider, claim.item)
            operation = claim.operation and keyed.operation_key(self._hash_key, kept.provider, claim.operation)
            for name, expected in (("item_key", item), ("operation_key", operation)):
                if _bytes(getattr(kept, name)) != expected:
                    yield f"{name} is not what its entry gives"


def _told_differently(kept: sa.Row[Any], told: Sequence[sa.Row[Any]]) -> Iterator[str]:
    """What was told of a gap, in the log's order, that the entry's row does not say."""
    if not told:
        # Of one that is erased it is kept whose gap it may become.
        for name in ("gap_id", "source_id") if kept.entry is not None else ("gap_id",):
            value = getattr(kept, name)
            if value is not None:
                yield f"{name} is {value!a}, and no finding tells of a gap"
        return
    first, last = told[0], told[-1]
    if kept.gap_id != first.id:
        yield f"gap_id is {kept.gap_id!a}, and the first finding that tells of the gap is {first.id!a}"
        return
    if first.state != OPEN:
        yield f"{first.id}, the first finding that tells of the gap, says that it is {first.state}"
    for other in sorted({one.source_id or "nobody" for one in told} - {kept.source_id}):
        yield f"source_id is {kept.source_id!a}, and a finding tells of a gap of {other}"
    if kept.announced != (last.state == ANNOUNCED):
        yield f"announced is {kept.announced!a}, and {last.id}, the last finding, says that it is {last.state}"


# ---- rows -----------------------------------------------------------------------------------------------------------

_KEPT_FOR = (
    sa.select(claims.c.issuer_log_id, claims.c.tenant_id)
    .distinct()
    .order_by(claims.c.issuer_log_id, claims.c.tenant_id)
)
_IS_TOLD_OF = sa.or_(
    # The item is an event's group, or stands apart from it: each has its index (`receiver.records.tables`).
    sa.exists().where(
        deliveries.c.group_key == claims.c.item_key,
        deliveries.c.item_key == deliveries.c.group_key,
        deliveries.c.kind == Kind.REVOCATION.value,
    ),
    sa.exists().where(
        deliveries.c.item_key == claims.c.item_key,
        deliveries.c.item_key != deliveries.c.group_key,
        deliveries.c.kind == Kind.REVOCATION.value,
    ),
    sa.exists().where(checks.c.operation_key == claims.c.operation_key),
)
_IS_COUNTED = sa.exists().where(
    erased_claims.c.issuer_log_id == claims.c.issuer_log_id,
    erased_claims.c.tenant_id == claims.c.tenant_id,
    erased_claims.c.index == claims.c.index,
)
_CLAIMS: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        claims,
        claims.c.index.label("place"),
        sa.and_(claims.c.announced, _IS_TOLD_OF).label("is_told_of"),
        _IS_COUNTED.label("is_counted"),
    )
    .where(
        claims.c.issuer_log_id == sa.bindparam("log"),
        claims.c.tenant_id == sa.bindparam("tenant"),
        claims.c.index > sa.bindparam("after"),
    )
    .order_by(claims.c.index)
    .limit(_PAGE)
)
_GAPS: sa.Select[*tuple[Any, ...]] = (
    sa.select(findings.c.id, findings.c.state, findings.c.source_id, findings.c.issuer_index.label("place"))
    .join_from(findings, log_keys, log_keys.c.log_id == findings.c.log_id)
    .where(
        findings.c.kind == Kind.GAP.value,
        findings.c.issuer_log_id == sa.bindparam("log"),
        findings.c.issuer_index.is_not(None),
        log_keys.c.tenant_id == sa.bindparam("tenant"),
    )
    .order_by(findings.c.issuer_index, findings.c.log_id, findings.c.log_index)
)


def _claims(tx: sa.Connection, log_id: str, tenant_id: int) -> Iterator[sa.Row[Any]]:
    after = -1 << 62
    while rows := tx.execute(_CLAIMS, {"log": log_id, "tenant": tenant_id, "after": after}).all():
        yield from rows
        after = rows[-1].place


def _gaps(tx: sa.Connection, log_id: str, tenant_id: int) -> Iterator[sa.Row[Any]]:
    """What was told of gaps, by the issuer's entries, of each in the order of the log; sorted once, and not held."""
    yield from tx.execute(_GAPS, {"log": log_id, "tenant": tenant_id}, execution_options={"yield_per": _PAGE})


def _with_gaps(
    kept: Iterator[sa.Row[Any]], gaps: Iterator[sa.Row[Any]]
) -> Iterator[tuple[sa.Row[Any] | None, list[sa.Row[Any]]]]:
    """The row of each entry, None where there is none, with what was told of a gap there."""
    both = heapq.merge(
        ((row.place, row, None) for row in kept), ((row.place, None, row) for row in gaps), key=itemgetter(0)
    )
    for _, rows in groupby(both, key=itemgetter(0)):
        found = list(rows)
        yield found[0][1], [gap for _, _, gap in found if gap is not None]


def _bytes(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)
