"""The shapes of answers: hashes are lower-case hex, bytes base64, times as they are logged."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ItemShape:
    """What was issued, in the provider's terms."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class DifferenceShape:
    """A member that the event and the issuer tell differently; null is what one of them does not have."""

    field: str
    event: str | None
    issuer: str | None


@dataclass(frozen=True, slots=True)
class CrossCheckShape:
    """What the issuer's log (its origin), or the provider's own record, says of an event.

    `none` where there is nothing to check against; `since` is when the state was logged, and `id` that of the entry
    which tells of it, both null while it is the first one. `late`: it was found only after it was told to be absent.
    """

    state: str = "none"
    id: str | None = None
    by: str | None = None
    since: str | None = None
    issuer_log: str | None = None
    issuer_index: int | None = None
    late: bool = False
    differences: list[DifferenceShape] = field(default_factory=list[DifferenceShape])


@dataclass(frozen=True, slots=True)
class BreachShape:
    """A rule of the provider that an event broke."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class MismatchShape:
    """A later delivery of the same notice with other content."""

    id: str
    received_at: str
    log_index: int


@dataclass(frozen=True, slots=True)
class EventShape:
    """One recorded event. Once it is erased, what was its own data is null."""

    id: str
    source: str
    provider: str
    event: str
    item: ItemShape | None
    effect: str | None
    extent: str | None
    amount: str | None
    quantity: str | None
    reason: str | None
    via: str
    scheme: str
    test: bool
    account: str | None
    operation: str | None
    occurred_at: str | None
    received_at: str
    logged_at: str
    log_index: int
    leaf_hash: str
    cross_check: CrossCheckShape
    breaches: list[BreachShape]
    mismatches: list[MismatchShape]
    details: dict[str, Any]
    erased: bool


@dataclass(frozen=True, slots=True)
class EventList:
    """A page of events, newest first."""

    items: list[EventShape]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class AsOf:
    """The checkpoint an answer stands on: the newest."""

    tree_size: int
    checkpoint: str


@dataclass(frozen=True, slots=True)
class ItemState:
    """What is known of an item, and since when; events oldest first."""

    item: ItemShape
    state: str
    since: str | None
    reversed_amount: str | None
    reversed_quantity: str | None
    as_of: AsOf
    events: list[EventShape] = field(default_factory=list[EventShape])


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """RFC 6962 section 2.1.1. `checkpoint` is the note of exactly `tree_size`, null if none was signed."""

    index: int
    tree_size: int
    leaf_hash: str
    proof: list[str]
    root: str
    checkpoint: str | None


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """RFC 6962 section 2.1.2. `checkpoint` is the note of exactly `new_size`, null if none was signed."""

    old_size: int
    new_size: int
    proof: list[str]
    old_root: str
    new_root: str
    checkpoint: str | None


@dataclass(frozen=True, slots=True)
class OpeningShape:
    """Committed data and its salt, both base64."""

    data: str
    salt: str


@dataclass(frozen=True, slots=True)
class ErasedShape:
    """The entry that tells of an erasure, whose evidence proves it: of `all`, or of the `delivery` only."""

    id: str
    log_index: int
    extent: str


@dataclass(frozen=True, slots=True)
class EvidenceShape:
    """The members of an evidence file, for those who would rather not parse it; `tlog_proof` is the file.

    What is erased is null, and `erased_by` names the entry that says so.
    """

    proof: InclusionProof
    entry: str
    event: OpeningShape | None
    delivery: OpeningShape | None
    issuer: str | None
    erased_by: ErasedShape | None
    tlog_proof: str


@dataclass(frozen=True, slots=True)
class ReprocessedShape:
    """What became of a quarantined delivery that was read again: `recorded`, `duplicate`, `mismatch` or `ignored`.

    `event_id` is that of the event recorded, of a mismatch the first one's; null where nothing was written.
    """

    at: str
    status: str
    event_id: str | None


@dataclass(frozen=True, slots=True)
class QuarantinedShape:
    """An authentic delivery, or an answer to a call, that was not understood when it came. `size` is of its body."""

    id: str
    source: str
    provider: str
    reason: str
    scheme: str
    test: bool
    received_at: str
    logged_at: str
    log_index: int
    leaf_hash: str
    size: int | None
    reprocessed: ReprocessedShape | None
    erased: bool


@dataclass(frozen=True, slots=True)
class QuarantinedList:
    """A page of quarantined deliveries, newest first."""

    items: list[QuarantinedShape]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class QuarantinedDelivery(QuarantinedShape):
    """The same with the delivery itself: the headers that authenticated it, an answer's status, the body in base64."""

    headers: dict[str, str] | None
    body: str | None


@dataclass(frozen=True, slots=True)
class GapShape:
    """An entry of an issuer's log that no delivery announced in time. `entry` is that entry, in base64.

    Once it is erased, that is null, and so is where it is in that log. What it says of an act follows; `seen_at` is
    when it was read. The log's index and leaf are of our own entry.
    """

    id: str
    state: str
    source: str
    provider: str
    issuer_log: str
    issuer_index: int | None
    entry: str | None
    item: ItemShape | None
    effect: str | None
    account: str | None
    operation: str | None
    amount: str | None
    quantity: str | None
    occurred_at: str | None
    seen_at: str
    logged_at: str
    log_index: int
    leaf_hash: str
    erased: bool


@dataclass(frozen=True, slots=True)
class GapList:
    """A page of gaps, newest first."""

    items: list[GapShape]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class CheckpointShape:
    """The head of a log that somebody signed."""

    size: int
    root: str


@dataclass(frozen=True, slots=True)
class ForkShape:
    """Two checkpoints of one log that cannot both be true, and when they were seen."""

    at: str
    smaller: CheckpointShape
    larger: CheckpointShape


@dataclass(frozen=True, slots=True)
class NamedShape:
    """A source that names a log: from which entry on what was not announced is a gap, and how often it is to be read.

    `starts_at` is null until that is known; `follow_every` is in seconds.
    """

    id: str
    name: str
    starts_at: int | None
    follow_every: int


@dataclass(frozen=True, slots=True)
class IssuerLogShape:
    """An issuer's log, and how it stands: `forked`, `failing`, `stale`, `reading` or `current`.

    `checkpoint` is the last verified one, with its `size` and `root`; entries before `next_index` are read;
    `complete_at` is when a checkpoint was asked for of which every entry is read; `unreadable` are entries of a known
    provider that could not be read.
    """

    id: str
    url: str
    origin: str | None
    policy: str
    state: str
    size: int | None
    root: str | None
    checkpoint: str | None
    next_index: int
    unreadable: int
    fetched_at: str | None
    complete_at: str | None
    failing_since: str | None
    failure: str | None
    fork: ForkShape | None
    sources: list[NamedShape]


@dataclass(frozen=True, slots=True)
class IssuerLogList:
    """The logs that a tenant's sources name, oldest first."""

    items: list[IssuerLogShape]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class AttemptShape:
    """A call that was passed on, and what became of it.

    `id`, `logged_at`, `log_index` and `leaf_hash` are of its intent, `started_at` is when that was made, and `key` is
    the API key's. `outcome_id` is the delivery that tells of the outcome; `status` is of the upstream's answer. Once it
    is erased, item and idempotency key are null.
    """

    id: str
    source: str
    provider: str
    operation: str
    item: ItemShape | None
    key: str
    started_at: str
    logged_at: str
    log_index: int
    leaf_hash: str
    outcome: str
    outcome_id: str | None
    outcome_log_index: int | None
    status: int | None
    ended_at: str | None
    idempotency_key: str | None
    test: bool
    note: str | None
    erased: bool


@dataclass(frozen=True, slots=True)
class AttemptList:
    """A page of calls, newest first."""

    items: list[AttemptShape]
    next_cursor: str | None
