"""The provider's own record, asked about events that no issuer's log can tell of: second best, and named so.

Asked are the documented GETs of the provider's module (`receiver.providers.Record`, and its `Bundle`), at the source's
upstream and with its read-only credential, which goes nowhere else. What an answer means is told elsewhere
(`receiver.assurance.answers`).

Both sides are kept in the entry that tells of it: the event's, which it names, and what was answered, the request's
line with the status and the body. Where a proof bundle confirms it as well (`receiver.assurance.bundles`), that is kept
in the same entry, byte for byte, among what was found. A failure changes nothing: it is logged once and counted, and it
is asked again. So is what was found not to be there, once, a while later. No other verdict is looked at again, unless
what the source's events are checked against was changed.

Several receivers, and the command beside them, may ask at the same time. The one asks who puts the next look off; what
comes of it is kept under the log's lock, unless another look was begun, or the source was changed, since then.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from msgspec.structs import replace

from receiver import providers
from receiver.assurance.answers import Judged, Open, Outcome, judge
from receiver.assurance.bundles import Examined, Shown, compare, examine
from receiver.assurance.claims import claim_of
from receiver.assurance.conclusions import Verdict, conclude, load_check
from receiver.assurance.due import ONCE_MORE, Due, Turn, claim, find_due, turns
from receiver.events import Claim, CrossCheck, Item, format_time
from receiver.metrics import Metrics
from receiver.providers import Provider, Record
from receiver.records.attempts import METHOD, PATH, STATUS
from receiver.records.credentials import open_credential
from receiver.records.journal import Changing, change
from receiver.records.opening import Records, Tenant
from receiver.records.tables import checks, credentials, deliveries, sources, tenants
from receiver.records.vault import VaultError
from receiver.turns import TURN, Turns, Warnings
from receiver.upstream import Answer, Headers, Upstream, credentials_in, without
from translog.canonical import Value
from translog.evidence import Delivery

BUNDLE_TRIES = 5
"""Looks for which a confirmation waits, at most, for a proof bundle that does not verify or cannot be had."""

LONGEST_PAUSE = 60
"""Seconds for which a source is left alone whose upstream fails, after 1, 2, 4 …: very many events may be due."""

# What a server could take for more than a name in a path.
_NOT_IN_A_NAME = frozenset("/\\?#%;")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Looked:
    """A look at an event: what is known of it after that, and what came of it, in words without any credential."""

    event_id: str
    item: Item | None
    """What the event is about; None where that is not known any more, or was not looked at."""
    state: CrossCheck
    outcome: Outcome
    said: str


@dataclass(frozen=True, slots=True)
class _Case:
    """An event that is asked about, as it was when the look began."""

    due: Due
    tenant: Tenant
    source_id: str
    provider: Provider
    record: Record
    upstream: str
    claim: Claim
    """What the event says."""
    asked: Claim
    """The same; of the source's account where the event names none."""
    credential: Headers = field(repr=False)

    def as_it_is(self, outcome: Outcome, said: str) -> Looked:
        """It stays as it is, for that reason."""
        return Looked(self.due.event_id, self.claim.item, self.due.state, outcome, said)

    def headers(self, more: Mapping[str, str]) -> Headers:
        """What a question carries."""
        return (*((name.encode(), value.encode()) for name, value in more.items()), *self.credential)


class Asker:
    """Asks providers about events. Used on one loop; the database is asked in threads."""

    def __init__(self, records: Records, metrics: Metrics) -> None:
        self._records = records
        self._metrics = metrics
        self._upstream = Upstream(records.settings.relay_timeout)
        self._warnings = Warnings(_log, "what the provider's own record says of events{} is not found out")
        self._failures = Counter[str]()  # by source: in a row
        self._paused: dict[str, float] = {}  # by source: until when, by the monotonic clock
        self._tries = Counter[str]()  # by event: how often its bundle did not do

    async def run(self) -> None:
        """Ask about what is due, for ever. What fails is logged once, and tried again later."""
        try:
            await Turns(self._begun, self._take, self._warnings).run()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._upstream.aclose()

    async def look(self, event_id: str, *, patient: bool = True) -> Looked | None:
        """Ask about one event now, whether it is due or not, and keep what is found out.

        None if it was not taken up to be checked against the provider's record. Without patience, no verdict waits for
        a proof bundle. Raises SQLAlchemy's errors for a database out of reach.
        """
        due = await asyncio.to_thread(self._find, event_id)
        return None if due is None else await self._look(due, patient=patient)

    # ---- what is due ------------------------------------------------------------------------------------------------

    def _begun(self, busy: Mapping[str, int], last: Mapping[str, int]) -> list[Turn]:
        now = time.monotonic()
        paused = {source_id for source_id, until in self._paused.copy().items() if until > now}
        with self._records.database.read() as tx:
            return turns(tx, datetime.now(UTC), busy, last, paused)

    async def _take(self, turn: Turn) -> None:
        over = time.monotonic() + TURN
        for due in turn.checks:
            if time.monotonic() >= over:  # the others are due as they were
                return
            looked = await self._look(due, patient=True)
            if looked.outcome.failed:
                self._warnings.warn(turn.source_id, looked.said)
            if looked.outcome.is_upstreams:
                self._pause(turn.source_id)
                return
            self._failures.pop(turn.source_id, None)
            if not looked.outcome.failed:
                self._warnings.went_well(turn.source_id)

    def _pause(self, source_id: str) -> None:
        """Leave a source alone for a while: its upstream would say the same of the others."""
        self._failures[source_id] = min(self._failures[source_id] + 1, 16)
        pause = min(2 ** (self._failures[source_id] - 1), LONGEST_PAUSE)
        self._paused[source_id] = time.monotonic() + pause

    async def _look(self, due: Due, *, patient: bool) -> Looked:
        case = await asyncio.to_thread(self._case, due)
        looked = case if isinstance(case, Looked) else await self._ask(case, patient=patient)
        if isinstance(case, _Case):
            self._metrics.record_asks.labels(case.provider.name, looked.outcome.value).inc()
        return looked

    # ---- what there is to ask ---------------------------------------------------------------------------------------

    def _find(self, event_id: str) -> Due | None:
        with self._records.database.read() as tx:
            return find_due(tx, event_id)

    def _case(self, due: Due) -> _Case | Looked:
        """What to ask, now that the next look is put off; or why not."""
        with self._records.database.write() as tx:
            if not claim(tx, due, datetime.now(UTC)):
                return _overtaken(due)
            row = tx.execute(_ROW, {"event": due.event_id}).one()
        event = claim_of(row.effect, row.event_data)

        def not_asked(said: str) -> Looked:
            item = None if event is None else event.item
            return Looked(due.event_id, item, due.state, Outcome.NOT_ASKED, said)

        if event is None:
            return not_asked("the event is erased, so there is nothing to ask about")
        if row.upstream is None:
            return not_asked(f"source {row.name} has no upstream: receiver source set --upstream")
        if row.credential is None:
            return not_asked(f"source {row.name} has no read-only credential: receiver source credential")
        try:
            provider = providers.get(row.provider)
            credential = open_credential(self._records, row.source_id, bytes(row.credential))
        except (ValueError, VaultError) as error:
            return not_asked(str(error))
        if provider.record is None:
            return not_asked("the provider documents no record to ask")
        return _Case(
            due=due,
            tenant=self._records.tenant(row.tenant),
            source_id=row.source_id,
            provider=provider,
            record=provider.record,
            upstream=row.upstream,
            claim=event,
            asked=event if event.account is not None else replace(event, account=row.account),
            credential=tuple((name.encode(), value.encode()) for name, value in credential),
        )

    # ---- asking -----------------------------------------------------------------------------------------------------

    async def _ask(self, case: _Case, *, patient: bool) -> Looked:
        target = case.record.target(case.asked)
        if target is None:
            said = "the provider documents no record that could tell of it"
            return await asyncio.to_thread(self._keep, case, Judged(CrossCheck.NONE, said), None, None)
        if not _is_documented(target):
            return case.as_it_is(Outcome.NOT_ASKED, "its id cannot be a name in a path, so it is not asked for")
        over = datetime.now(UTC) >= case.due.grace_over_at
        shown = await self._get(case, target, case.record.headers)
        if shown.status is None:
            return case.as_it_is(Outcome.UNREACHABLE, f"the provider's record cannot be asked: {shown.why}")
        status, body = shown.status, shown.body
        judged = await asyncio.to_thread(judge, case.record, case.claim, case.asked, status, body, over=over)
        if isinstance(judged, Open):
            return case.as_it_is(judged.outcome, judged.said)
        examined = None
        if judged.state is CrossCheck.CONFIRMED:
            examined = await self._bundle(case)
            if examined is not None and patient and self._may_wait(case, examined):
                said = f"{judged.said}, but its proof bundle is {examined.result}: {examined.said}"
                return case.as_it_is(Outcome.BUNDLE, said)
        return await asyncio.to_thread(self._keep, case, judged, shown, examined)

    async def _get(self, case: _Case, target: str, headers: Mapping[str, str]) -> Shown:
        """Ask for that; what is answered is without what it repeats of the credential."""
        sent = case.headers(headers)
        said = await self._upstream.get(case.upstream, target, sent)
        if not isinstance(said, Answer):
            return Shown(target, None, b"", said.reason)
        return Shown(target, said.status, without(said.body, credentials_in(sent, case.provider.operation)), "")

    async def _bundle(self, case: _Case) -> Examined | None:
        """The provider's proof bundle; None if it documents none of such a thing."""
        bundle = case.provider.bundle
        target = None if bundle is None else bundle.target(case.asked)
        if bundle is None or target is None:
            return None
        shown = await self._get(case, target, bundle.headers)
        return await asyncio.to_thread(examine, bundle, case.asked, shown)

    def _may_wait(self, case: _Case, examined: Examined) -> bool:
        """Whether the verdict waits for another look at its bundle."""
        event_id = case.due.event_id
        if not examined.result.may_pass or self._tries[event_id] + 1 >= BUNDLE_TRIES:
            self._tries.pop(event_id, None)
            return False
        self._tries[event_id] += 1
        self._count(case, examined)
        return True

    def _count(self, case: _Case, examined: Examined) -> None:
        self._metrics.proof_bundles.labels(case.provider.name, examined.result.value).inc()

    # ---- keeping ----------------------------------------------------------------------------------------------------

    def _keep(self, case: _Case, judged: Judged, shown: Shown | None, examined: Examined | None) -> Looked:
        """Keep what was found out, under the log's lock; `shown` is the record that says it."""
        more: dict[str, Value] = {}
        with change(self._records.database, case.tenant.log) as changing:
            check = load_check(changing.tx, case.due.event_id)
            if check is None or check.looks != case.due.looks + 1 or not _is_still(changing, case):
                return _overtaken(case.due)
            if examined is not None:
                examined = compare(changing.tx, case.source_id, examined, changing.now)
                more["bundle"] = dict(examined.value())
            again = judged.gone and judged.state is not check.state
            verdict = Verdict(
                state=judged.state,
                due_at=format_time(datetime.now(UTC) + ONCE_MORE) if again else None,
                differences=judged.differences,
            )
            by = None if shown is None else "provider_record"
            delivery = None if shown is None else _delivery(shown)
            conclude(changing, case.tenant, check, verdict, by=by, more=more, delivery=delivery)
        said = judged.said
        if examined is not None:
            self._count(case, examined)
            said += f"; its proof bundle is {examined.result}" + (f": {examined.said}" if examined.said else "")
        return Looked(case.due.event_id, case.claim.item, judged.state, judged.outcome, said)


def _overtaken(due: Due) -> Looked:
    said = "another look was begun, or it was erased, or the source was changed: it is as that leaves it"
    return Looked(due.event_id, None, due.state, Outcome.OVERTAKEN, said)


def _is_still(changing: Changing, case: _Case) -> bool:
    """Whether the event is not erased, and its source's are still checked against the record that was asked."""
    row = changing.tx.execute(_AGAINST, {"event": case.due.event_id}).one()
    return (row.check_log, row.issuer_log_id, row.upstream, row.is_erased) == (None, None, case.upstream, False)


def _is_documented(target: str) -> bool:
    """Whether a target is what it looks like to any server: no part of its path is more than a name.

    Ids come from deliveries. One such as `..` would make it another GET than the documented one.
    """
    names = [unquote(part) for part in target.partition("?")[0].split("/")[1:]]
    return all(name.isprintable() and name not in {"", ".", ".."} and _NOT_IN_A_NAME.isdisjoint(name) for name in names)


def _delivery(shown: Shown) -> Delivery:
    """The request's line, the answer's status, and its body."""
    return Delivery(((METHOD, "GET"), (PATH, shown.target), (STATUS, str(shown.status))), shown.body)


# Where a credential may go is read with it, at one moment: with another upstream it is another one.
_ROW: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        deliveries.c.effect,
        deliveries.c.event_data,
        sources.c.id.label("source_id"),
        sources.c.name,
        sources.c.provider,
        sources.c.account,
        sources.c.upstream,
        credentials.c.value.label("credential"),
        tenants.c.name.label("tenant"),
    )
    .join_from(deliveries, sources, sources.c.id == deliveries.c.source_id)
    .join(tenants, tenants.c.id == sources.c.tenant_id)
    .join(credentials, credentials.c.source_id == sources.c.id, isouter=True)
    .where(deliveries.c.id == sa.bindparam("event"))
)

_AGAINST: sa.Select[*tuple[Any, ...]] = (
    sa.select(
        checks.c.issuer_log_id.label("check_log"),
        sources.c.issuer_log_id,
        sources.c.upstream,
        deliveries.c.event_data.is_(None).label("is_erased"),
    )
    .join_from(checks, sources, sources.c.id == checks.c.source_id)
    .join(deliveries, deliveries.c.id == checks.c.event_id)
    .where(checks.c.event_id == sa.bindparam("event"))
)
