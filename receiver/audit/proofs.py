"""Proofs and evidence: made from tiles, waiting for the checkpoint where it is not published yet."""

import asyncio
import math
from typing import Annotated, Any

import sqlalchemy as sa
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from receiver import problems
from receiver.access import needs
from receiver.answer import OrText
from receiver.audit.kept import Kept, find_kept
from receiver.audit.shapes import ConsistencyProof, ErasedShape, EvidenceShape, InclusionProof, OpeningShape
from receiver.parameters import HASH, invalid, no_event, number, only_known, query
from receiver.parameters import event_id as checked_id
from receiver.problems import Problem
from receiver.publishing import Publisher
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.giving import give
from receiver.records.opening import Records, Tenant
from receiver.records.tables import deliveries, findings
from translog.canonical import to_base64
from translog.evidence import Delivery, Evidence, Opening
from translog.log import Log
from translog.merkle import HASH_SIZE
from translog.proof import TlogProof


class ProofsController(Controller):
    """Needs a key with the scope `audit`; proves entries of its tenant's log."""

    path = "/v1"
    tags = ("proofs",)
    guards = (needs(Scope.AUDIT), only_known)
    security = ({"key": []},)

    @get(
        "/log/proofs/inclusion",
        operation_id="proveInclusion",
        summary="That an entry is in the log",
        description="Of `index` or `leaf_hash`, in the tree of `size` or else of the newest checkpoint.",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def prove_inclusion(
        self,
        request: Request[Any, Any, Any],
        tenant: NamedDependency[Tenant],
        index: Annotated[int | None, number(0)] = None,
        leaf_hash: Annotated[str | None, query("64 hex digits", pattern=HASH)] = None,
        size: Annotated[int | None, number(1, "the newest unless given")] = None,
    ) -> InclusionProof:
        log = tenant.log
        if (index is None) == (leaf_hash is None):
            raise Problem(400, "Give either index or leaf_hash", details={"index": "or leaf_hash"})
        if size is not None:
            _must_be_published(log, size)
        if index is None:
            index = await asyncio.to_thread(log.find_leaf, _hash(leaf_hash or ""))
            if index is None:
                raise Problem(404, f"The log has no leaf with the hash {leaf_hash}")
        if size is not None and index >= size:
            raise Problem(404, f"Entry {index} is not in the tree of size {size}")
        if size is None:
            await _until_published(request.app.state.publisher, log, index)
        return await asyncio.to_thread(_inclusion, log, index, size or log.published.size)

    @get(
        "/log/proofs/consistency",
        operation_id="proveConsistency",
        summary="That the log has only grown",
        responses=problems.responses(400, 401, 403, 404, 503),
    )
    async def prove_consistency(
        self,
        tenant: NamedDependency[Tenant],
        old_size: Annotated[int, number(0)],
        new_size: Annotated[int | None, number(0, "the newest unless given")] = None,
    ) -> ConsistencyProof:
        log = tenant.log
        new_size = log.published.size if new_size is None else new_size
        _must_be_published(log, max(old_size, new_size))
        if old_size > new_size:
            raise invalid("old_size", str(old_size), f"at most new_size, {new_size}")
        return await asyncio.to_thread(_consistency, log, old_size, new_size)

    @get(
        "/events/{event_id:str}/evidence",
        operation_id="getEvidence",
        operation_class=OrText,
        summary="What proves an event, offline",
        description="A C2SP tlog-proof as text (`translog verify` reads it), or its members with `Accept: "
        "application/json`. The id may also be that of a mismatch, of a quarantined delivery, of a call that was "
        "passed on, of what tells of its outcome, or of a cross-check, a gap, a fork, a silence, an erasure, a hold or "
        "its release. What the issuer's log confirms comes with the issuer's own proof. Of what is erased nothing is "
        "opened; `erased_by`, or the header `X-Rescind-Erased-By`, names the entry that says so. It is noted who is "
        "given what opens an entry.",
        media_type="text/plain",
        responses={
            200: ResponseSpec(EvidenceShape, description="The evidence", generate_examples=False),
            **problems.responses(400, 401, 403, 404, 503),
        },
    )
    async def get_evidence(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], event_id: FromPath[str]
    ) -> Response[EvidenceShape] | Response[bytes]:
        records: Records = request.app.state.records
        kept = await asyncio.to_thread(_kept, records, tenant, checked_id(event_id))
        if kept is None:
            raise no_event(event_id)
        if kept.log_id == tenant.log_id:
            log = tenant.log
            await _until_published(request.app.state.publisher, log, kept.log_index)
        else:
            log = await asyncio.to_thread(records.log, kept.log_id)
            if kept.log_index >= log.published_size:
                raise Problem(404, f"{log.origin} was closed before it signed a checkpoint that covers this event")
        key: ApiKey = request.state.api_key
        kept = await asyncio.to_thread(_given, records, tenant, event_id, key.id)
        shape = await asyncio.to_thread(_evidence, log, kept)
        if request.accept.best_match(["text/plain", "application/json"], default="text/plain") == "application/json":
            return Response(shape, media_type="application/json")
        return Response(
            shape.tlog_proof.encode(),
            media_type="text/plain",
            headers={
                "content-disposition": f'attachment; filename="{event_id}.tlog-proof"',
                **({} if shape.erased_by is None else {"x-rescind-erased-by": shape.erased_by.id}),
            },
        )


async def _until_published(publisher: Publisher, log: Log, index: int) -> None:
    """Return once the checkpoint covers that entry. Raises Problem 404 if there is no such entry, 503 if it takes
    more than two intervals, and more than two seconds.
    """
    if index < log.published.size:
        return
    size = (await asyncio.to_thread(log.head)).size
    if index >= size:
        raise Problem(404, f"No entry has the index {index} yet; the log has {size}")
    if not await publisher.wait_for(log, index):
        wait = math.ceil(publisher.interval)
        raise Problem(503, f"Entry {index} is recorded, but no checkpoint covers it yet. Try again", retry_after=wait)


def _must_be_published(log: Log, size: int) -> None:
    if size > log.published.size:
        raise Problem(404, f"Size {size} is beyond the newest checkpoint, {log.published.size}")


def _hash(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != HASH_SIZE or found.hex() != text.lower():
        raise invalid("leaf_hash", text, "64 hex digits")
    return found


def _inclusion(log: Log, index: int, size: int) -> InclusionProof:
    proof, leaf, root = log.inclusion_proof(index, size)
    return InclusionProof(index, size, leaf.hex(), [one.hex() for one in proof], root.hex(), _note(log, size))


def _consistency(log: Log, old_size: int, new_size: int) -> ConsistencyProof:
    proof, old_root, new_root = log.consistency_proof(old_size, new_size)
    hashes = [one.hex() for one in proof]
    return ConsistencyProof(old_size, new_size, hashes, old_root.hex(), new_root.hex(), _note(log, new_size))


def _note(log: Log, size: int) -> str | None:
    note = log.checkpoint_of(size)
    return None if note is None else note.decode()


def _kept(records: Records, tenant: Tenant, event_id: str) -> Kept | None:
    with records.database.read() as tx:
        return find_kept(tx, tenant, event_id)


def _given(records: Records, tenant: Tenant, entry_id: str, given_to: str) -> Kept:
    """What is kept for the evidence, after it was noted who is given it, if it opens anything."""
    with records.database.write() as tx:
        # Locked against whoever erases it: of the two one comes first, and then the other knows.
        for table in (deliveries, findings):
            tx.execute(sa.select(table.c.id).where(table.c.id == entry_id).with_for_update(read=True))
        kept = find_kept(tx, tenant, entry_id)
        if kept is None:
            raise no_event(entry_id)
        if kept.event_data is not None or kept.body is not None or kept.issuer is not None:
            give(tx, tenant, given_to, entry_id=entry_id)
    return kept


def _evidence(log: Log, kept: Kept) -> EvidenceShape:
    published = log.published
    hashes, leaf, root = log.inclusion_proof(kept.log_index, published.size)
    entry = log.entry(kept.log_index)
    event = delivery = None
    if kept.event_data is not None and kept.event_salt is not None:
        event = Opening(kept.event_data, kept.event_salt)
    if kept.body is not None and kept.delivery_salt is not None:
        delivery = Opening(Delivery(kept.headers, kept.body).encode(), kept.delivery_salt)
    extra = Evidence(entry, event, delivery, kept.issuer).encode()
    file = TlogProof(kept.log_index, tuple(hashes), published.note, extra).encode()
    proof = InclusionProof(
        index=kept.log_index,
        tree_size=published.size,
        leaf_hash=leaf.hex(),
        proof=[one.hex() for one in hashes],
        root=root.hex(),
        checkpoint=published.note.decode(),
    )
    issuer = None if kept.issuer is None else to_base64(kept.issuer)
    by = kept.erased_by
    return EvidenceShape(
        proof=proof,
        entry=to_base64(entry),
        event=_opening(event),
        delivery=_opening(delivery),
        issuer=issuer,
        erased_by=None if by is None else ErasedShape(by.id, by.log_index, by.extent),
        tlog_proof=file.decode(),
    )


def _opening(opening: Opening | None) -> OpeningShape | None:
    return None if opening is None else OpeningShape(to_base64(opening.data), to_base64(opening.salt))
