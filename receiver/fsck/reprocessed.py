"""The table `reprocessed`: what became of quarantined deliveries that were read again.

A note of it stands in no entry. But what was written for such a delivery says in its own leaf which one it was, and
must be the same delivery; and where nothing was written, the delivery is still there to be read once more. What was
there with the same content is named by the note, for they are erased and held together.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from receiver.events import Kind
from receiver.fsck.attempts import read_intents
from receiver.fsck.readings import DELIVERY, call_told_of, read
from receiver.fsck.report import Notes
from receiver.providers import Ignored, Notice
from receiver.records.tables import deliveries, reprocessed
from translog.errors import FormatError
from translog.evidence import Delivery, Leaf
from translog.store import entries

# What became of a delivery that was reprocessed, and the kinds of the row that may have been written for it.
_STATUSES = {
    "recorded": frozenset({Kind.REVOCATION, Kind.CONTEXT}),
    "mismatch": frozenset({Kind.MISMATCH}),
    "duplicate": frozenset[Kind](),
    "ignored": frozenset[Kind](),
}
# What it was the same as, if nothing was written for it.
_SAME = {"duplicate": frozenset({Kind.REVOCATION, Kind.CONTEXT}), "mismatch": frozenset({Kind.MISMATCH})}
# What a delivery that is read again takes from when it came.
_TAKEN_OVER = ("source_id", "scheme", "test", "received_at", "headers", "body")


def check_reprocessed(tx: sa.Connection, notes: Notes) -> None:
    """That what is said to be reprocessed was in quarantine, and that what was written for it is the same delivery.

    That the leaf of what was written agrees is told with its row.
    """
    for done in tx.execute(sa.select(reprocessed).order_by(reprocessed.c.quarantine_id)):
        for problem in _differences(tx, done):
            notes.fault(f"reprocessed {done.quarantine_id}", problem)


def _differences(tx: sa.Connection, done: sa.Row[Any]) -> Iterator[str]:
    quarantine, written, same = (
        tx.execute(sa.select(deliveries).where(deliveries.c.id == id_)).one_or_none()
        for id_ in (done.quarantine_id, done.row_id, done.same_id)
    )
    if quarantine is None:
        yield "there is no such delivery"
    elif quarantine.kind != Kind.QUARANTINE:
        yield f"the delivery is a {quarantine.kind}, which is not read again"
    kinds = _STATUSES.get(done.status)
    if kinds is None:
        yield f"status is {done.status!a}, which this version does not know"
    elif done.row_id is None:
        if done.status == "recorded":
            yield "status is 'recorded', and no delivery was written for it"
    elif written is None:
        yield f"the delivery {done.row_id} that was written for it is not there"
    elif written.kind not in kinds:
        yield f"status is {done.status!a}, and a {written.kind} was written for it"
    elif done.at != written.logged_at:
        yield f"at is {done.at!a}, and what was written for it was logged at {written.logged_at!a}"
    if kinds is not None:
        yield from _not_the_same(done, quarantine, same)
    if quarantine is not None and done.row_id is None and quarantine.body is not None:
        expected = {"ignored": Ignored, "duplicate": Notice}.get(done.status)
        if expected is not None and not _is_read_as(tx, quarantine, expected):
            yield f"status is {done.status!a}, and it is not read as that: reprocess it again"
    if quarantine is not None and written is not None:
        for name in _TAKEN_OVER:
            before, after = getattr(quarantine, name), getattr(written, name)
            if before is not None and after is not None and before != after:  # either may be erased
                yield f"{name} is not that of the delivery that was written for it"


def _not_the_same(done: sa.Row[Any], quarantine: sa.Row[Any] | None, same: sa.Row[Any] | None) -> Iterator[str]:
    """What is wrong with what a delivery is said to be the same as."""
    kinds = _SAME.get(done.status, frozenset[Kind]()) if done.row_id is None else frozenset[Kind]()
    if done.same_id is None:
        if kinds:
            yield f"status is {done.status!a}, and it is not said of what: reprocess it again"
    elif same is None:
        yield f"the delivery {done.same_id} that it is the same as is not there"
    elif same.kind not in kinds:
        yield f"status is {done.status!a}, and it is said to be the same as a {same.kind}"
    elif quarantine is not None and same.source_id != quarantine.source_id:
        yield f"the delivery {done.same_id} that it is the same as came to another source"


def _is_read_as(tx: sa.Connection, quarantine: sa.Row[Any], expected: type[Ignored | Notice]) -> bool:
    """Whether it is. Of a delivery that cannot be opened, or a call whose intent cannot, that is told with its row."""
    columns = entries.c
    entry = tx.execute(
        sa.select(columns.data).where(columns.log_id == quarantine.log_id, columns.index == quarantine.log_index)
    ).scalar_one_or_none()
    try:
        leaf = Leaf.parse(bytes(entry or b""))
    except FormatError:
        return True
    data, _ = DELIVERY.open(leaf.delivery, quarantine)
    call_id, asked = call_told_of(leaf), None
    if call_id is not None:
        intent = read_intents(tx, [call_id]).get(call_id)
        asked = None if intent is None else intent.asked
    if data is None or (call_id is not None and asked is None):
        return True
    return isinstance(read(str(leaf.facts.get("provider")), leaf, Delivery.parse(data), asked), expected)
