"""What goes into the recorder and what comes out: a delivery to keep, and what became of it.

A delivery is read in one place, here, whether it has just come or is taken out of quarantine to be read again. The
answer to a call that was passed on is read here as well, as what its operation documents.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from receiver.events import Effect, Event, Extent, Kind, Via
from receiver.providers import Call, Ignored, Notice, Provider, Reading, Unfit
from receiver.records import keyed
from receiver.records.attempts import Attempt, Ended
from receiver.records.opening import Tenant
from receiver.strictjson import Json, NotJson, parse

NOT_JSON = "not_json"
OTHER_ACCOUNT = "other_account"


class Submission(Struct, frozen=True):
    """A delivery that is to be kept: an event that was understood, or (`event` None) one for quarantine, with why.

    The keys are keyed hashes of 16 bytes (`receiver.records.keyed`), empty until it is read; `secret_id` is None where
    it is not told; `headers` are the signature's, never a static token; `event_data` is `event.data()`;
    `quarantine_id` is that of the quarantined delivery which it is, read again; `attempt` is the call that was passed
    on, if it is that call's intent, or says what became of it.
    """

    tenant: Tenant
    source_id: str
    provider: Provider
    test: bool
    replay_window: int
    scheme: str
    secret_id: str | None
    received_at: datetime
    headers: tuple[tuple[str, str], ...]
    body: bytes
    quarantine_id: str | None = None
    attempt: Attempt | None = None
    via: Via = Via.WEBHOOK
    group_key: bytes = b""
    dedupe_key: bytes = b""
    content_key: bytes = b""
    event: Event | None = None
    event_data: bytes | None = None
    item_key: bytes | None = None
    reason: str | None = None

    def read(self, account: str | None) -> "Submission | None":
        """What this delivery is to be kept as, by its body; None if its type bears on nothing we keep.

        `account` is its source's: of another one, it is for quarantine.
        """
        try:
            reading = self._reading(parse(self.body))
        except NotJson:
            return self.quarantined(NOT_JSON)
        if isinstance(reading, Ignored):
            return None
        if isinstance(reading, Unfit):
            return self.quarantined(reading.reason)
        return self.noticed(reading, account)

    def noticed(self, notice: Notice, account: str | None) -> "Submission":
        """The same delivery, to be kept as that notice; in quarantine if that is another account's."""
        event = notice.event
        if account is not None and event.account is not None and event.account != account:
            return self.quarantined(OTHER_ACCOUNT)
        hash_key = self.tenant.hash_key
        dedupe = keyed.dedupe_key(hash_key, self.source_id, notice.via, notice.key)
        item = keyed.item_key(hash_key, self.provider.name, event.item)
        return replace(
            self,
            via=notice.via,
            group_key=item if self.provider.key_names_item else dedupe,
            dedupe_key=dedupe,
            content_key=keyed.content_key(hash_key, notice.digest),
            event=event,
            event_data=event.data(),
            item_key=item,
        )

    def _reading(self, document: dict[str, Json]) -> Reading:
        if self.attempt is None:
            return self.provider.read(document)
        if not self.attempt.is_whole:
            return Unfit("wrong_shape", "what was asked is erased, so what was answered cannot be read")
        return self.provider.operation.read(Call(self.attempt.path, self.attempt.request, document))

    def quarantined(self, reason: str) -> "Submission":
        """The same delivery, to be kept whole for that reason, and not as an event."""
        hash_key, attempt = self.tenant.hash_key, self.attempt
        if attempt is None:
            key = keyed.quarantine_key(hash_key, self.source_id, self.body)
        else:
            key = keyed.unread_key(hash_key, attempt.id, self.body)
        return replace(
            self,
            group_key=key,
            dedupe_key=key,
            content_key=key,
            event=None,
            event_data=None,
            item_key=None,
            reason=reason,
        )

    def intended(self) -> "Submission":
        """The request of a call that is about to be passed on, to be kept as its intent. Needs the `attempt`."""
        attempt = self._passed_on()
        return _of_attempt(self, attempt, None, keyed.intent_key(self.tenant.hash_key, attempt.id))

    def answered(self, ended: Ended, *, effect: Effect | None = None, first_id: str | None = None) -> "Submission":
        """An answer that is no event, to be kept as what it says of its `attempt`.

        `first_id` is that of the delivery that told of the act already.
        """
        attempt = replace(self._passed_on(), ended=ended, first_id=first_id)
        return _of_attempt(self, attempt, effect, keyed.answer_key(self.tenant.hash_key, attempt.id, ended))

    def _passed_on(self) -> Attempt:
        if self.attempt is None:
            raise AssertionError("only a call that was passed on has an intent and answers")
        return self.attempt


def _of_attempt(submission: Submission, attempt: Attempt, effect: Effect | None, key: bytes) -> Submission:
    provider = submission.provider
    event = Event(
        kind=Kind.ATTEMPT,
        type=provider.operation.name,
        item=attempt.item,
        effect=effect,
        extent=Extent.UNKNOWN,
        account=None,
        operation=None,
        occurred_at=None,
        occurred_from=None,
        amount=None,
        quantity=None,
        reason=None,
        details={} if attempt.status is None else {"status": attempt.status},
    )
    return replace(
        submission,
        attempt=attempt,
        quarantine_id=None,
        group_key=key,
        dedupe_key=key,
        content_key=key,
        event=event,
        event_data=event.data(),
        item_key=keyed.item_key(submission.tenant.hash_key, provider.name, attempt.item),
        reason=None,
    )


class Status(StrEnum):
    """What became of a delivery that was kept, or was kept before."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    MISMATCH = "mismatch"
    QUARANTINED = "quarantined"


class Outcome(Struct, frozen=True):
    """What became of a delivery, durably.

    `id` is the event's, of a mismatch the first event's, of a quarantined delivery the quarantine's; `log_index` and
    `leaf_hash` (32 bytes) are of the entry that tells of it. `new` is False where nothing was written, because this
    very content had been kept before.
    """

    status: Status
    id: str
    log_index: int
    leaf_hash: bytes
    reason: str | None
    new: bool
