"""Calls that are open: of unknown outcome, for no answer was recorded; or *followed*, for what they began goes on.

What became of a call of unknown outcome is found out in this order:

    another call    with its idempotency key was answered as done: that answer tells of both
    the record      the provider's documented GET (`receiver.providers.Lookup`), asked with the source's read-only
                    credential, says that it was done, or that it had no effect

Only the upstream that the call was made to is asked. That it had no effect is believed only of a record that was asked
for when the call could no longer be under way; and even then it is looked at twice more, for it gives way to an event.

What has begun is followed by the same GET, until the record says that it has ended. No call is made again.

Several receivers, and the command beside them, may look at the same call. In the background the one looks that puts the
next look off; if it dies then, the call is due again at that time. What two of them record of one call, or one of them
while the answer comes in, is told apart by its keys under the log's lock (`receiver.intake.batch`): the same is kept
once, and something else is kept beside it, but changes no outcome that is final.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

import sqlalchemy as sa

from receiver import providers
from receiver.events import Effect
from receiver.intake.submission import Outcome, Status, Submission
from receiver.providers import Inquiry, Lookup, NotDone, Notice, Unfit
from receiver.records.attempts import Attempt, Ended, load_attempt
from receiver.records.credentials import find_credential
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.sources import relay_source
from receiver.records.tables import attempts, deliveries, sources, tenants
from receiver.records.vault import VaultError
from receiver.relay import entries
from receiver.relay.due import Due, Turn, claim, is_followed, turns
from receiver.relay.entries import Party
from receiver.relay.others import acts_beside, told_by_another
from receiver.strictjson import Json, NotJson, parse
from receiver.turns import TURN, Turns, Warnings
from receiver.upstream import Answer, Upstream, credentials_in, without

Record: TypeAlias = Callable[[Submission], Awaitable[Outcome]]

_OK = 200
_ID = re.compile("[0-9a-f-]{36}")
_IN_WORDS = {
    Ended.RECORDED: "an event tells of it",
    Ended.DUPLICATE: "it is what an event told of already",
    Ended.MISMATCH: "it differs from what an event told of it already",
    Ended.QUARANTINED: "what was said of it is in quarantine",
    Ended.REFUSED: "the provider refused it",
    Ended.NOT_SENT: "nothing of it has reached the provider",
    Ended.REPEATED: "it was made again with its idempotency key, and answered then",
    Ended.NOT_DONE: "by the provider's record it had no effect",
}

_ONE_OF_TWO = "the act that it shows was found for another call: one of the two did it, and nobody can tell which"

_log = logging.getLogger(__name__)


class NoSuchAttemptError(RecordsError):
    """There is no call of that id."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is known of a call after a look."""

    id: str
    """Of its intent."""
    outcome: Ended | None
    """None: unknown."""
    outcome_id: str | None
    """Of the delivery that tells of it."""
    under_way: bool
    """What it began had not ended, as far as is known."""
    said: str
    """What became of it, or why it is open, in words for whoever runs the service; never a credential."""
    failed: bool = False
    """It is open because the provider's record cannot be asked, or does not tell."""

    @property
    def is_open(self) -> bool:
        """Whether a later look may find out more."""
        return self.outcome is None or self.under_way


@dataclass(frozen=True, slots=True)
class _Case:
    """A call that is open."""

    party: Party
    attempt: Attempt
    outcome: Ended | None
    """None: unknown. `NOT_DONE`: it is in doubt. Else it is followed."""
    outcome_id: str | None
    first_id: str | None
    """Of a delivery that tells what became of another call with its idempotency key."""

    @property
    def followed(self) -> bool:
        """Whether it is its end that is asked for."""
        return is_followed(self.outcome)

    def open(self, said: str, *, failed: bool = False) -> Settled:
        """It stays as it is, for that reason."""
        return Settled(self.attempt.id, self.outcome, self.outcome_id, self.followed, said, failed=failed)


@dataclass(frozen=True, slots=True)
class _Question:
    """What the provider's record of a call is asked with."""

    lookup: Lookup
    upstream: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)


class Settler:
    """Settles and follows calls. Used on one loop; the database is asked in threads."""

    def __init__(self, records: Records, upstream: Upstream, record: Record) -> None:
        """`record` keeps a submission; it returns once that is durable, and raises if nothing is known to be kept."""
        self._records = records
        self._upstream = upstream
        self._record = record
        self._warnings = Warnings(_log, "what became of calls{} is not found out")

    async def run(self) -> None:
        """Look at what is due, for ever. What fails is logged once, and tried again later."""
        await Turns(self._begun, self._look_at, self._warnings).run()

    async def settle(self, attempt_id: str) -> Settled:
        """Look at one call now, whether it is due or not, and record what is found out.

        Raises NoSuchAttemptError, what `record` raises, and SQLAlchemy's errors for a database out of reach.
        """
        case = await asyncio.to_thread(self._case, attempt_id)
        if isinstance(case, Settled):
            return case
        if case.first_id is not None:
            return await self._keep(case, entries.repeated(case.party, case.attempt, case.first_id, datetime.now(UTC)))
        question = await asyncio.to_thread(self._question, case)
        return question if isinstance(question, Settled) else await self._ask(case, question)

    # ---- what is due ------------------------------------------------------------------------------------------------

    def _begun(self, busy: Mapping[str, int], last: Mapping[str, int]) -> list[Turn]:
        with self._records.database.read() as tx:
            return turns(tx, datetime.now(UTC), busy, last)

    async def _look_at(self, turn: Turn) -> None:
        loop = asyncio.get_running_loop()
        over = loop.time() + TURN
        for one in turn.calls:
            if loop.time() >= over:  # the others are due as they were
                return
            try:
                if not await asyncio.to_thread(self._claim, one):
                    continue
                settled = await self.settle(one.id)
            except Exception as error:  # noqa: BLE001  (of this one, which is due again later; the others are now)
                self._warnings.warn(turn.source_id, f"{type(error).__name__}: {error}")
                continue
            if settled.failed:
                self._warnings.warn(turn.source_id, settled.said)
            else:
                self._warnings.went_well(turn.source_id)

    def _claim(self, due: Due) -> bool:
        with self._records.database.write() as tx:
            return claim(tx, due, datetime.now(UTC))

    # ---- what there is to settle ------------------------------------------------------------------------------------

    def _case(self, attempt_id: str) -> _Case | Settled:
        with self._records.database.read() as tx:
            row = _row(tx, attempt_id)
        outcome = None if row.outcome is None else Ended(row.outcome)
        if is_followed(outcome) and row.next_at is None and not _is_under_way(row.effect):
            return _as_it_is(row)
        said = "what it asked for is erased, or is not what was logged, so the provider's record cannot be asked"
        try:
            provider = providers.get(row.provider)
        except ValueError as error:
            said = str(error)
        else:
            tenant = self._records.tenant(row.tenant)
            party = Party(relay_source(self._records, tenant, row.source_id), tenant, provider)
            with self._records.database.read() as tx:
                attempt = load_attempt(tx, provider, attempt_id)
                first_id = None
                if attempt is not None and attempt.is_whole and not is_followed(outcome):
                    first_id = told_by_another(tx, party, attempt)
            if attempt is not None and attempt.is_whole:
                return _Case(party, attempt, outcome, row.outcome_id, first_id)
        return Settled(row.id, outcome, row.outcome_id, is_followed(outcome), said)

    def _question(self, case: _Case) -> _Question | Settled:
        """What to ask, or what is missing for that."""
        source, lookup, attempt = case.party.source, case.party.provider.operation.lookup, case.attempt
        if lookup is None and attempt.idempotency is None:
            none = "the provider has neither a record to ask nor an idempotency key"
            return case.open(f"{none}: it stays unknown, look there yourself")
        if lookup is None:
            return case.open("the provider has no record to ask; repeat the call with the same idempotency key")
        if not source.enabled:
            return case.open(f"source {source.name} is disabled: receiver source enable")
        if source.upstream is None:
            return case.open(f"source {source.name} has no upstream: receiver source set --upstream")
        if source.upstream != attempt.upstream:  # what it knows of the item need not be what the other one did
            return case.open(f"it was made to another upstream, {attempt.upstream}: its record is not asked")
        try:
            credential = find_credential(self._records, source.id)
        except VaultError as error:
            return case.open(str(error), failed=True)
        if credential is None:
            return case.open(f"source {source.name} has no read-only credential: receiver source credential")
        headers = tuple((name.encode(), value.encode()) for name, value in (*lookup.headers.items(), *credential))
        return _Question(lookup, source.upstream, lookup.target(attempt.path, attempt.request), headers)

    # ---- asking, and recording --------------------------------------------------------------------------------------

    async def _ask(self, case: _Case, question: _Question) -> Settled:
        party, attempt, target = case.party, case.attempt, question.target
        asked_at = datetime.now(UTC)
        said = await self._upstream.get(question.upstream, target, question.headers)
        if not isinstance(said, Answer):
            return case.open(f"the provider's record cannot be asked: {said.reason}", failed=True)
        if said.status != _OK:
            return case.open(f"the provider's record cannot be read: the answer is {said.status}", failed=True)
        body = without(said.body, credentials_in(question.headers, party.provider.operation))
        try:
            record = parse(body)
        except NotJson as error:
            return case.open(f"the provider's record cannot be read: {error}", failed=True)
        reading = await asyncio.to_thread(self._reading, case, question.lookup, record)
        if isinstance(reading, Unfit):
            return case.open(f"the provider's record does not tell: {reading.message}", failed=True)
        now = datetime.now(UTC)
        if isinstance(reading, Notice):
            if case.followed and _is_under_way(reading.event.effect):
                return case.open("by the provider's record it has not ended yet")
            return await self._keep(case, entries.recorded_there(party, attempt, reading, target, body, now))
        if case.followed:
            return case.open(f"the provider's record denies it: {reading.message}", failed=True)
        # By the time of asking: what the record did not hold then may be in it by the time of the answer.
        if asked_at <= attempt.settle_at:
            return case.open(f"the call may still be under way, though {reading.message}")
        if case.outcome is Ended.NOT_DONE:  # and is so still
            return await asyncio.to_thread(self._as_it_is, case)
        return await self._keep(case, entries.not_done(party, attempt, target, body, now))

    def _reading(self, case: _Case, lookup: Lookup, record: dict[str, Json]) -> Notice | NotDone | Unfit:
        """What a record says of a call, given what else is known by now."""
        attempt = case.attempt
        inquiry = Inquiry(attempt.path, attempt.request, attempt.called_at, record, known=frozenset())
        if case.followed:  # what it came to is known, and only whether that has ended is asked
            return lookup.read(inquiry)
        with self._records.database.read() as tx:
            acts = acts_beside(tx, case.party, attempt)
        reading = lookup.read(replace(inquiry, known=acts.of_others))
        if isinstance(reading, Notice) and acts.in_doubt:
            without = lookup.read(replace(inquiry, known=acts.of_others | acts.in_doubt))
            if not isinstance(without, Notice):
                return Unfit("wrong_shape", _ONE_OF_TWO)
        return reading

    async def _keep(self, case: _Case, submission: Submission) -> Settled:
        """Record it, unless what became of the call was recorded meanwhile; what is known of the call then."""
        as_it_is = await asyncio.to_thread(self._as_it_is, case)
        if as_it_is.outcome is not case.outcome:
            return as_it_is
        kept = await self._record(submission)
        if not case.followed:
            return await asyncio.to_thread(self._as_it_is, case)
        if kept.status is not Status.RECORDED:  # an event about this call would have ended it
            await asyncio.to_thread(self._follow_no_more, case)
        said = f"what it began has ended: {kept.status} {kept.id}, entry {kept.log_index}"
        return Settled(case.attempt.id, case.outcome, case.outcome_id, under_way=False, said=said)

    def _as_it_is(self, case: _Case) -> Settled:
        with self._records.database.read() as tx:
            return _as_it_is(_row(tx, case.attempt.id))

    def _follow_no_more(self, case: _Case) -> None:
        its = sa.update(attempts).where(attempts.c.id == case.attempt.id, attempts.c.outcome.is_not(None))
        with self._records.database.write() as tx:
            tx.execute(its.values(next_at=None))


# ---- what is there ---------------------------------------------------------------------------------------------------


def open_attempts(records: Records, tenant: Tenant, source_id: str | None = None) -> list[str]:
    """The ids of a tenant's calls that are of unknown outcome or followed, of one source or of all, oldest first."""
    followed = sa.and_(attempts.c.outcome != Ended.NOT_DONE.value, attempts.c.next_at.is_not(None))
    query = _OF_TENANT.where(sa.or_(attempts.c.outcome.is_(None), followed))
    if source_id is not None:
        query = query.where(attempts.c.source_id == source_id)
    with records.database.read() as tx:
        return list(tx.execute(query, {"tenant": tenant.id}).scalars())


def must_be_attempts(records: Records, tenant: Tenant, ids: Sequence[str]) -> None:
    """Raises NoSuchAttemptError if one of these is not the id of a call of the tenant's."""
    query = _OF_TENANT.where(attempts.c.id.in_([one for one in ids if _ID.fullmatch(one)]))
    with records.database.read() as tx:
        found = set(tx.execute(query, {"tenant": tenant.id}).scalars())
    for one in ids:
        if one not in found:
            raise _no_attempt(one)


_OF_TENANT = (
    sa.select(attempts.c.id)
    .join_from(attempts, sources, sources.c.id == attempts.c.source_id)
    .where(sources.c.tenant_id == sa.bindparam("tenant"))
    .order_by(attempts.c.id)
)

_ROW: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        attempts.c.id,
        attempts.c.source_id,
        attempts.c.outcome,
        attempts.c.outcome_id,
        attempts.c.next_at,
        sources.c.provider,
        tenants.c.name.label("tenant"),
        deliveries.c.effect,
        deliveries.c.log_index,
    )
    .join_from(attempts, sources, sources.c.id == attempts.c.source_id)
    .join(tenants, tenants.c.id == sources.c.tenant_id)
    .join(deliveries, deliveries.c.id == attempts.c.outcome_id, isouter=True)
    .where(attempts.c.id == sa.bindparam("id"))
)


def _row(tx: sa.Connection, attempt_id: str) -> sa.Row[Any]:
    """A call, with the effect and the place of the delivery that tells what became of it."""
    row = None
    if _ID.fullmatch(attempt_id):  # else it is not even text that a database need take
        row = tx.execute(_ROW, {"id": attempt_id}).one_or_none()
    if row is None:
        raise _no_attempt(attempt_id)
    return row


def _no_attempt(attempt_id: str) -> NoSuchAttemptError:
    return NoSuchAttemptError(f"there is no call {attempt_id[:64]!a}")


def _as_it_is(row: sa.Row[Any]) -> Settled:
    if row.outcome is None:
        return Settled(row.id, None, None, under_way=False, said="what became of it is not known")
    outcome = Ended(row.outcome)
    under_way = is_followed(outcome) and row.next_at is not None
    said = "it has begun, and is followed" if under_way else _IN_WORDS[outcome]
    said = f"{said}: {row.outcome_id}, entry {row.log_index}"
    return Settled(row.id, outcome, row.outcome_id, under_way, said)


def _is_under_way(effect: str | None) -> bool:
    return effect is not None and Effect(effect).under_way
