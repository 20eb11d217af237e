"""What goes into the recorder and what comes out: a delivery to keep, and what became of it.

A delivery is read in one place, here, whether it has just come or is taken out of quarantine to be read again.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from receiver.events import Event, Via
from receiver.providers import Ignored, Provider, Unfit
from receiver.records import keyed
from receiver.records.opening import Tenant
from receiver.strictjson import NotJson, parse

NOT_JSON = "not_json"
OTHER_ACCOUNT = "other_account"


class Submission(Struct, frozen=True):
    """A delivery that is to be kept: an event that was understood, or (`event` None) one for quarantine, with why.

    The keys are keyed hashes of 16 bytes (`receiver.records.keyed`), empty until it is read; `secret_id` is None where
    it is not told; `headers` are the signature's, never a static token; `event_data` is `event.data()`;
    `quarantine_id` is that of the quarantined delivery which it is, read again.
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
            reading = self.provider.read(parse(self.body))
        except NotJson:
            return self.quarantined(NOT_JSON)
        if isinstance(reading, Ignored):
            return None
        if isinstance(reading, Unfit):
            return self.quarantined(reading.reason)
        event = reading.event
        if account is not None and event.account is not None and event.account != account:
            return self.quarantined(OTHER_ACCOUNT)
        hash_key = self.tenant.hash_key
        dedupe = keyed.dedupe_key(hash_key, self.source_id, reading.via, reading.key)
        item = keyed.item_key(hash_key, self.provider.name, event.item)
        return replace(
            self,
            via=reading.via,
            group_key=item if self.provider.key_names_item else dedupe,
            dedupe_key=dedupe,
            content_key=keyed.content_key(hash_key, reading.digest),
            event=event,
            event_data=event.data(),
            item_key=item,
        )

    def quarantined(self, reason: str) -> "Submission":
        """The same delivery, to be kept whole for that reason, and not as an event."""
        key = keyed.quarantine_key(self.tenant.hash_key, self.source_id, self.body)
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
