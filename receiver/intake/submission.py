"""What goes into the recorder and what comes out: a delivery to keep, and what became of it."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from receiver.events import Event, Via
from receiver.providers import Provider
from receiver.records.keyed import quarantine_key
from receiver.records.opening import Tenant


class Submission(Struct, frozen=True):
    """A delivery that is to be kept: an event that was understood, or (`event` None) one for quarantine, with why.

    The keys are keyed hashes of 16 bytes (`receiver.records.keyed`); `headers` are
    the signature's, never a static token; `event_data` is `event.data()`.
    """

    tenant: Tenant
    source_id: str
    provider: Provider
    test: bool
    replay_window: int
    via: Via
    scheme: str
    secret_id: str
    received_at: datetime
    headers: tuple[tuple[str, str], ...]
    body: bytes
    group_key: bytes
    dedupe_key: bytes
    content_key: bytes
    event: Event | None = None
    event_data: bytes | None = None
    item_key: bytes | None = None
    reason: str | None = None

    def quarantined(self, reason: str) -> "Submission":
        """The same delivery, to be kept whole for that reason, and not as an event."""
        key = quarantine_key(self.tenant.hash_key, self.source_id, self.body)
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
