"""A quarantined delivery, read again: after its source's settings, or what we know of its provider, have changed.

    POST /v1/quarantine/{id}/reprocess

It goes the way of every other delivery (`Submission.read`, `batch.write_locked`), with its own bytes, headers, secret
and time of receipt, and with its source's settings of today; whether it still takes deliveries does not matter. Reading
it, judging it by the rules, its leaf, its row, and the note in `reprocessed` that this was done are one transaction
under the log's lock. A crash leaves all of that or nothing, and of two that do it at once the second finds it done.

The delivery was counted, and has an entry, from when it came. What is written now is no delivery of its own: its leaf
says in the fact `reprocessed` which one it is, and tallies leave its row out.

The answer to a call that was passed on is read again as what its operation documents, and the provider's record that
was asked about one as a record, by what the call's intent says it asked. What is written is the call's outcome then.

What is the same as something that is there has that one's data: the note says which it is, so that it is erased and
held with it. If that one is erased already, its own erasure is asked for with the note, and done in the background.
"""

import asyncio
import json
import logging
import re
from typing import Any, cast

import sqlalchemy as sa
from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec.structs import replace
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from receiver import problems, providers
from receiver.access import needs
from receiver.bodies import no_parameters
from receiver.events import Kind, Via, new_id, parse_time
from receiver.intake import answers
from receiver.intake.batch import MISMATCH_REASON, Written, write_locked
from receiver.intake.recorder import HALTED, UNRECORDABLE
from receiver.intake.routes import Acknowledgement
from receiver.intake.service import Intake
from receiver.intake.submission import NOT_JSON, Outcome, Status, Submission
from receiver.problems import Problem
from receiver.providers import Inquiry, NotDone, Unfit
from receiver.records.apikeys import ApiKey, Scope
from receiver.records.attempts import STATUS, Attempt, is_erased, load_attempt
from receiver.records.journal import logging_time
from receiver.records.keeping import erasures
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import deliveries, reprocessed, sources
from receiver.strictjson import NotJson, parse
from translog.errors import StoreError
from translog.evidence import Leaf
from translog.merkle import leaf_hash
from translog.store import Head, entries

IGNORED = "ignored"
"""The status of a delivery that turned out to bear on nothing we keep; the others are those of `Status`."""

_OUT_OF_REACH = (OperationalError, InterfaceError, InternalError)
_ID = re.compile("[0-9a-f-]{36}")
_log = logging.getLogger(__name__)


class NotQuarantinedError(RecordsError):
    """The tenant has no quarantined delivery of that id."""


class NotReprocessableError(RecordsError):
    """The quarantined delivery cannot be read again; the message says why."""


def reprocess(records: Records, tenant: Tenant, quarantine_id: str, by: str = "command") -> Outcome | None:
    """Read a quarantined delivery again; what became of it, durably: None if it bears on nothing we keep.

    One that is still not understood stays as it was, and is `quarantined` with the reason of now. Where something
    was written for it before, nothing is written again, and what became of it then is given; what was a duplicate,
    or bore on nothing, is read anew, for it may be understood by now. A duplicate that is not understood any more
    stays one. `by`, an API key's id or `command`, is who asks for its erasure if it is the same as what is erased.
    Raises NotQuarantinedError; NotReprocessableError if it, or the call that it is about, is erased, or its provider
    unknown to this version; StoreError if nothing may be written to the log any more; and SQLAlchemy's errors for a
    database out of reach.
    """
    written: Written | None = None
    with records.database.write() as tx:
        head = tenant.log.lock(tx)
        row = _find(tx, tenant, quarantine_id)
        if row.row_id is not None:
            return _what_it_was(tx, row)
        submission = _read(tx, tenant, row)
        if row.same_id is not None and (submission is None or submission.event is None):
            return _what_it_was(tx, row)  # its data is in what it was the same as, however it is read now
        if submission is not None:
            if submission.event is None:
                _forget(tx, row)
                return _still_quarantined(row, submission.reason)
            written = _write(tx, submission, head)
            if written is None:
                return _still_quarantined(row, UNRECORDABLE)
        outcome = None if written is None else written.outcomes[0]
        same_id = None if submission is None or outcome is None else _same(tx, submission, outcome)
        now = logging_time(head)
        _note(tx, tenant, row, outcome, same_id, now)
        if same_id is not None and same_id != row.same_id and is_erased(tx, same_id):
            _have_erased(tx, tenant, row.id, by, now)
    if written is not None:
        written.confirm()
    return outcome


# ---- what is there ---------------------------------------------------------------------------------------------------

_QUARANTINED: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.id,
        deliveries.c.log_index,
        deliveries.c.source_id,
        deliveries.c.via,
        deliveries.c.scheme,
        deliveries.c.test,
        deliveries.c.received_at,
        deliveries.c.headers,
        deliveries.c.body,
        sources.c.provider,
        sources.c.account,
        sources.c.replay_window,
        entries.c.data.label("entry"),
        reprocessed.c.at,
        reprocessed.c.status,
        reprocessed.c.row_id,
        reprocessed.c.same_id,
    )
    .join_from(deliveries, sources, sources.c.id == deliveries.c.source_id)
    .join(entries, sa.and_(entries.c.log_id == deliveries.c.log_id, entries.c.index == deliveries.c.log_index))
    .join(reprocessed, reprocessed.c.quarantine_id == deliveries.c.id, isouter=True)
    .where(
        deliveries.c.id == sa.bindparam("id"),
        deliveries.c.kind == Kind.QUARANTINE.value,
        sources.c.tenant_id == sa.bindparam("tenant"),
    )
)


def _find(tx: sa.Connection, tenant: Tenant, quarantine_id: str) -> sa.Row[Any]:
    row = None
    if _ID.fullmatch(quarantine_id):  # else it is not even text that a database need take
        row = tx.execute(_QUARANTINED, {"id": quarantine_id, "tenant": tenant.id}).one_or_none()
    if row is None:
        raise NotQuarantinedError(f"there is no quarantined delivery {quarantine_id[:64]!a}")
    return row


def _read(tx: sa.Connection, tenant: Tenant, row: sa.Row[Any]) -> Submission | None:
    if row.body is None:
        raise NotReprocessableError(f"the quarantined delivery {row.id} is erased: there is nothing left to read")
    try:
        provider = providers.get(row.provider)
    except ValueError as error:
        raise NotReprocessableError(f"the quarantined delivery {row.id} cannot be read: {error}") from error
    pairs: list[list[str]] = json.loads(row.headers)
    headers = tuple((name, value) for name, value in pairs)
    told = Leaf.parse(bytes(row.entry)).facts  # when it came: rows could have been changed since
    attempt = None
    if "attempt" in told:
        attempt = load_attempt(tx, provider, str(told["attempt"]))
        if attempt is None or not attempt.is_whole:
            raise NotReprocessableError(
                f"the quarantined answer {row.id} cannot be read: what was asked, the call {told['attempt']}, "
                "is erased, or is not what was logged"
            )
    unread = Submission(
        tenant=tenant,
        source_id=row.source_id,
        provider=provider,
        test=told.get("test", row.test) is True,
        replay_window=row.replay_window,
        scheme=str(told.get("scheme", row.scheme)),
        secret_id=None if told.get("secret") is None else str(told["secret"]),
        received_at=parse_time(row.received_at),
        headers=headers,
        body=bytes(row.body),
        quarantine_id=row.id,
    )
    if attempt is None:
        return unread.read(row.account)
    if row.via == Via.POLL:
        return _read_record(replace(unread, via=Via.POLL, attempt=attempt), attempt, row.account)
    answered = replace(attempt, status=int(dict(headers)[STATUS]))
    return replace(unread, via=Via.RELAY, attempt=answered).read(row.account)


def _read_record(unread: Submission, attempt: Attempt, account: str | None) -> Submission:
    """The provider's record, which was asked about a call, as what it is to be kept as."""
    lookup, cannot = unread.provider.operation.lookup, f"the quarantined record {unread.quarantine_id} cannot be read"
    if lookup is None:
        raise NotReprocessableError(f"{cannot}: its provider has none that this version knows")
    try:
        record = parse(unread.body)
    except NotJson:
        return unread.quarantined(NOT_JSON)
    # Nothing that is known is needed: when it came it was read as an event, with all that was known by then.
    reading = lookup.read(Inquiry(attempt.path, attempt.request, attempt.called_at, record, known=frozenset()))
    if isinstance(reading, NotDone):
        raise NotReprocessableError(f"{cannot} as an event: {reading.message}")
    return unread.quarantined(reading.reason) if isinstance(reading, Unfit) else unread.noticed(reading, account)


def _what_it_was(tx: sa.Connection, row: sa.Row[Any]) -> Outcome:
    """What became of it, by what was written for it, or else what it was the same as."""
    made = tx.execute(_MADE, {"id": row.same_id if row.row_id is None else row.row_id}).one()
    hashed = leaf_hash(bytes(made.entry))
    if row.status == Status.MISMATCH:
        return Outcome(Status.MISMATCH, made.first_id, made.log_index, hashed, MISMATCH_REASON, new=False)
    status = Status.DUPLICATE if row.row_id is None else Status.RECORDED
    return Outcome(status, made.id, made.log_index, hashed, None, new=False)


_MADE = (
    sa.select(deliveries.c.id, deliveries.c.first_id, deliveries.c.log_index, entries.c.data.label("entry"))
    .join_from(
        deliveries,
        entries,
        sa.and_(entries.c.log_id == deliveries.c.log_id, entries.c.index == deliveries.c.log_index),
    )
    .where(deliveries.c.id == sa.bindparam("id"))
)


def _still_quarantined(row: sa.Row[Any], reason: str | None) -> Outcome:
    return Outcome(Status.QUARANTINED, row.id, row.log_index, leaf_hash(bytes(row.entry)), reason, new=False)


# ---- what is written -------------------------------------------------------------------------------------------------


def _write(tx: sa.Connection, submission: Submission, head: Head) -> Written | None:
    """Write what was understood; None, with nothing of it left, if the database does not take it as an event."""
    try:
        with tx.begin_nested():
            return write_locked(tx, [submission], {submission.tenant.log_id: head})
    except (*_OUT_OF_REACH, StoreError):
        raise
    except Exception as error:  # noqa: BLE001  (as in the recorder: its data is more than the database takes)
        _log.error("the quarantined delivery %s cannot be recorded: %s", submission.quarantine_id, type(error).__name__)
        return None


def _same(tx: sa.Connection, submission: Submission, outcome: Outcome) -> str | None:
    """The delivery that was there with the same content; None if it was written now."""
    if outcome.new or outcome.status is not Status.MISMATCH:
        return None if outcome.new else outcome.id
    columns = deliveries.c
    its = columns.first_id == outcome.id, columns.kind == Kind.MISMATCH.value, columns.digest == submission.content_key
    found: str = tx.execute(sa.select(columns.id).where(*its)).scalar_one()
    return found


def _note(
    tx: sa.Connection, tenant: Tenant, row: sa.Row[Any], outcome: Outcome | None, same_id: str | None, now: str
) -> None:
    row_id, at = None, now
    if outcome is not None and outcome.new:
        columns = deliveries.c
        row_id, at = tx.execute(
            sa.select(columns.id, columns.logged_at).where(
                columns.log_id == tenant.log_id, columns.log_index == outcome.log_index
            )
        ).one()
    status = IGNORED if outcome is None else outcome.status.value
    if (status, same_id) != (row.status, row.same_id):
        _forget(tx, row)
        noted = {"quarantine_id": row.id, "at": at, "status": status, "row_id": row_id, "same_id": same_id}
        tx.execute(sa.insert(reprocessed).values(noted))


def _forget(tx: sa.Connection, row: sa.Row[Any]) -> None:
    """Take back what was noted before, where nothing was written for it: it is read otherwise now."""
    if row.status is not None:
        tx.execute(sa.delete(reprocessed).where(reprocessed.c.quarantine_id == row.id))


def _have_erased(tx: sa.Connection, tenant: Tenant, quarantine_id: str, by: str, now: str) -> None:
    """Ask for the erasure of a delivery that is the same as an erased one.

    As whoever asks for one: it is done in the background, as soon as no hold covers it (`receiver.erasure.requests`).
    """
    tx.execute(
        sa.insert(erasures).values(
            id=new_id(),
            tenant_id=tenant.id,
            target="event",
            event_id=quarantine_id,
            reason="it is the same as what was erased before it was read",
            asked_by=by,
            asked_at=now,
            state="running",
            erased=0,
        )
    )


# ---- by HTTP ---------------------------------------------------------------------------------------------------------


class ReprocessingController(Controller):
    """Needs a key with the scope `operate`; reaches its tenant's deliveries and no others."""

    path = "/v1"
    tags = ("quarantine",)
    guards = (needs(Scope.OPERATE), no_parameters)
    security = ({"key": []},)

    @post(
        "/quarantine/{quarantine_id:str}/reprocess",
        status_code=200,
        operation_id="reprocess",
        summary="Read a quarantined delivery again",
        description="By the settings that its source has now. Done again, it answers the same and changes nothing.",
        responses={
            200: ResponseSpec(Acknowledgement, description="What became of it, durably", generate_examples=False),
            **problems.responses(400, 401, 403, 404, 409, 503),
        },
    )
    async def reprocess_delivery(
        self, request: Request[Any, Any, Any], tenant: NamedDependency[Tenant], quarantine_id: FromPath[str]
    ) -> ASGIApp:
        intake: Intake = request.app.state.intake
        key: ApiKey = request.state.api_key
        if intake.recorder.refusal is not None:
            raise _halted()
        try:
            outcome = await asyncio.to_thread(reprocess, request.app.state.records, tenant, quarantine_id, key.id)
        except NotQuarantinedError as error:
            raise Problem(404, str(error)) from error
        except NotReprocessableError as error:
            raise Problem(409, str(error)) from error
        except StoreError as error:  # as when the recorder meets it
            intake.recorder.halt(str(error))
            raise _halted() from error
        return cast("ASGIApp", answers.IGNORED if outcome is None else answers.kept(outcome))


def _halted() -> Problem:
    return Problem(503, f"The delivery was not reprocessed: {HALTED}", retry_after=answers.RETRY_AFTER)
