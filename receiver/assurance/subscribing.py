"""Subscriptions: which of the log's entries go to which of the operator's own systems.

A subscription is a URL, the topics that are passed on to it, the secret that they are signed with, and a place in the
tenant's log: how far that was gone through. It is made at the log's end, or further back. What there is to pass on of
the entries from there on is put into its outbox (`receiver.assurance.outbox`), so each of them is passed on in the end,
if the receiver is killed on the way as well.

Where data goes to is a setting of the tenant, so every change of it is an entry of the log, with the subscription's id,
and never its URL or its secret. Changes run under the log's lock, and then have the subscription's row locked.
"""

import secrets as randomness
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.exc import IntegrityError

from receiver.assurance import addresses
from receiver.assurance.addresses import AddressError, NoAddressError, Resolve, in_time
from receiver.events import Kind, format_time, new_id
from receiver.records.journal import Changing, change
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.sources import MAX_NAME, is_name
from receiver.records.tables import outbox, subscriptions
from translog.canonical import from_base64

TopicName: TypeAlias = Literal["recorded", "cross_check", "gap", "fork", "quarantined", "mismatch", "silence"]
Index: TypeAlias = Annotated[int, Meta(ge=0)]


KINDS: Mapping[str, tuple[Kind, ...]] = {
    "recorded": (Kind.REVOCATION, Kind.CONTEXT),
    "cross_check": (Kind.CROSS_CHECK,),
    "gap": (Kind.GAP,),
    "fork": (Kind.FORK,),
    "quarantined": (Kind.QUARANTINE,),
    "mismatch": (Kind.MISMATCH,),
    "silence": (Kind.SILENCE,),
}
"""What can be subscribed to: each topic is some kinds of entries of the log."""

TOPIC_OF = {kind: topic for topic, kinds in KINDS.items() for kind in kinds}
"""The topic of each kind of entry that has one."""

_PREFIX = "whsec_"
_SECRET_SIZES = range(24, 65)  # bytes, as Standard Webhooks has them


class SubscriptionError(RecordsError):
    """What was asked cannot be: `member` names what of it, the message says why."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


class NoSuchSubscriptionError(RecordsError):
    """The tenant has no subscription of that id or name."""


class NameTakenError(RecordsError):
    """The tenant has a subscription of that name already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """A new subscription. Without an index it begins at the log's end; without a secret one is made."""

    name: str
    url: str
    on: Annotated[list[TopicName], Meta(min_length=1)]
    from_index: Index | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resubscribe:
    """What is to be different; what is left out stays as it is."""

    url: str | UnsetType = UNSET
    on: Annotated[list[TopicName], Meta(min_length=1)] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    secret: str | UnsetType = field(default=UNSET, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The first and the last index of what is to be passed on once more; without a last one, all that was so far."""

    from_index: Index
    to_index: Index | None = None


@dataclass(frozen=True, slots=True)
class Replaying:
    """What is still to be passed on once more: the first index of it, and the last."""

    next_index: int
    to_index: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A subscription as lists show it: all that there is to know of it but its secret.

    `next_index` is how far the log was gone through. `waiting` and `given_up` are numbers of messages, and `failure`
    says why the first of those was not taken, by the log's order.
    """

    id: str
    name: str
    url: str
    on: list[str]
    enabled: bool
    created_at: str
    next_index: int
    waiting: int
    given_up: int
    failure: str | None
    replay: Replaying | None


@dataclass(frozen=True, slots=True)
class Added:
    """A new subscription, its secret if that was made here, and what to warn of."""

    subscription: Listed
    secret: str | None = field(repr=False)
    warnings: list[str]


# ---- changing -------------------------------------------------------------------------------------------------------


def subscribe(
    records: Records,
    tenant: Tenant,
    asked: Subscribe,
    by: str = "command",
    resolve: Resolve = addresses.resolve,
) -> Added:
    """Keep a new subscription, and log it. Waits for the resolver, for some seconds at most.

    Raises SubscriptionError; NameTakenError.
    """
    if not is_name(asked.name):
        raise SubscriptionError("name", f"name must be 1 to {MAX_NAME} printable characters, without spaces around it")
    secret = _PREFIX + b64encode(randomness.token_bytes(32)).decode() if asked.secret is None else asked.secret
    signing_key(secret)
    warnings = _check_url(records, asked.url, resolve)
    its_id = new_id()
    try:
        with change(records.database, tenant.log) as changing:
            size = changing.head.size
            if asked.from_index is not None and asked.from_index > size:
                raise SubscriptionError("from_index", f"the log has {size} entries; {asked.from_index} is beyond them")
            changing.tx.execute(
                sa.insert(subscriptions).values(
                    id=its_id,
                    tenant_id=tenant.id,
                    name=asked.name,
                    url=asked.url,
                    topics=_topics(asked.on),
                    secret=_seal(records, its_id, secret),
                    enabled=True,
                    created_at=changing.now,
                    log_id=tenant.log_id,
                    next_index=size if asked.from_index is None else asked.from_index,
                )
            )
            _tell(changing, tenant, its_id, "added", by)
    except IntegrityError as error:
        raise NameTakenError(f"tenant {tenant.name} already has a subscription named {asked.name!r}") from error
    return Added(get(records, tenant, its_id), secret if asked.secret is None else None, warnings)


def resubscribe(
    records: Records,
    tenant: Tenant,
    subscription_id: str,
    asked: Resubscribe,
    by: str = "command",
    resolve: Resolve = addresses.resolve,
) -> tuple[Listed, list[str]]:
    """Change a subscription, and log it; the subscription as it is then, and what to warn of.

    With another URL or secret, or enabled again, what is waiting is due at once. Raises SubscriptionError;
    NoSuchSubscriptionError.
    """
    values: dict[str, Any] = {}
    warnings: list[str] = []
    if asked.url is not UNSET:
        warnings = _check_url(records, asked.url, resolve)
        values["url"] = asked.url
    if asked.on is not UNSET:
        values["topics"] = _topics(asked.on)
    if asked.secret is not UNSET:
        signing_key(asked.secret)
        values["secret"] = _seal(records, subscription_id, asked.secret)
    with change(records.database, tenant.log) as changing:
        before = _locked(changing.tx, tenant, subscription_id)
        if values.keys() & {"secret"} or any(values[name] != getattr(before, name) for name in values):
            _tell(changing, tenant, subscription_id, "changed", by)
        if asked.enabled is not UNSET and asked.enabled != before.enabled:
            values["enabled"] = asked.enabled
            _tell(changing, tenant, subscription_id, "enabled" if asked.enabled else "disabled", by)
        if values:
            changing.tx.execute(sa.update(subscriptions).where(subscriptions.c.id == before.id).values(**values))
            _make_due(changing.tx, before.id)
    return get(records, tenant, subscription_id), warnings


def unsubscribe(records: Records, tenant: Tenant, subscription_id: str, by: str = "command") -> None:
    """Remove a subscription with all that waits in its outbox, and log it. Raises NoSuchSubscriptionError."""
    with change(records.database, tenant.log) as changing:
        row = _locked(changing.tx, tenant, subscription_id)
        changing.tx.execute(sa.delete(outbox).where(outbox.c.subscription_id == row.id))
        changing.tx.execute(sa.delete(subscriptions).where(subscriptions.c.id == row.id))
        _tell(changing, tenant, row.id, "removed", by)


def disable_gone(records: Records, tenant: Tenant, subscription_id: str, url: str) -> bool:
    """Disable a subscription whose endpoint at that URL said that it is gone, and log it; whether it was enabled.

    Nothing is done if it was changed or removed meanwhile.
    """
    with change(records.database, tenant.log) as changing:
        its = sa.update(subscriptions).where(
            subscriptions.c.id == subscription_id, subscriptions.c.url == url, subscriptions.c.enabled
        )
        ended = changing.tx.execute(its.values(enabled=False)).rowcount == 1
        if ended:
            _tell(changing, tenant, subscription_id, "disabled", "endpoint")
    return ended


def replay(records: Records, tenant: Tenant, subscription_id: str, asked: Replay) -> Listed:
    """Have entries passed on once more, from and to these indexes; the subscription as it is then.

    What was not passed on so far will be anyway. If a replay is under way already, this one is joined with it: what
    lies between the two is passed on once more as well. Raises SubscriptionError; NoSuchSubscriptionError.
    """
    first, last = asked.from_index, asked.to_index
    if last is not None and last < first:
        raise SubscriptionError("to_index", "to_index must not be below from_index")
    with records.database.write() as tx:
        row = _locked(tx, tenant, subscription_id)
        end = _next_index(row, tenant) if last is None else min(last + 1, _next_index(row, tenant))
        if first >= end:
            so_far = f"the entries below {_next_index(row, tenant)} were passed on so far"
            raise SubscriptionError("from_index", f"{so_far}; {first} is not among them")
        if row.replay_next is not None:
            first, end = min(first, row.replay_next), max(end, row.replay_end)
        its = sa.update(subscriptions).where(subscriptions.c.id == row.id)
        tx.execute(its.values(replay_next=first, replay_end=end))
    return get(records, tenant, subscription_id)


# ---- reading --------------------------------------------------------------------------------------------------------


def list_all(records: Records, tenant: Tenant) -> list[Listed]:
    """Every subscription of a tenant, oldest first."""
    with records.database.read() as tx:
        rows = tx.execute(_SUBSCRIPTIONS, {"tenant": tenant.id}).all()
        return [_listed(tx, tenant, row) for row in rows]


def get(records: Records, tenant: Tenant, subscription_id: str) -> Listed:
    """One subscription of a tenant. Raises NoSuchSubscriptionError."""
    for one in list_all(records, tenant):
        if one.id == subscription_id:
            return one
    raise _no_subscription(subscription_id)


def named(records: Records, tenant: Tenant, name: str) -> Listed:
    """The tenant's subscription of that name. Raises NoSuchSubscriptionError."""
    for one in list_all(records, tenant):
        if one.name == name:
            return one
    raise NoSuchSubscriptionError(f"tenant {tenant.name} has no subscription named {name!r}")


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: base64 of 24 to 64, behind `whsec_`. Raises SubscriptionError, which does not show it."""
    try:
        key = from_base64(secret.removeprefix(_PREFIX))
    except ValueError:
        key = b""
    if len(key) not in _SECRET_SIZES:
        raise SubscriptionError(
            "secret", f"the secret must be {_PREFIX} and base64 of {_SECRET_SIZES[0]} to {_SECRET_SIZES[-1]} bytes"
        )
    return key


def open_key(records: Records, subscription_id: str, sealed: bytes) -> bytes:
    """The key that a subscription's messages are signed with. Raises VaultError if it does not open."""
    return signing_key(records.vault.open(_place(subscription_id), sealed).decode())


_SUBSCRIPTIONS = (
    sa.select(subscriptions)
    .where(subscriptions.c.tenant_id == sa.bindparam("tenant"))
    .order_by(subscriptions.c.created_at, subscriptions.c.id)
)


def _listed(tx: sa.Connection, tenant: Tenant, row: sa.Row[Any]) -> Listed:
    mine = outbox.c.subscription_id == row.id
    counts = sa.select(sa.func.count(outbox.c.due_at), sa.func.count()).where(mine)
    waiting, every = tx.execute(counts).one()
    failed = sa.select(outbox.c.failure).where(mine, outbox.c.failure.is_not(None))
    first = failed.order_by(outbox.c.log_id, outbox.c.log_index).limit(1)
    return Listed(
        id=row.id,
        name=row.name,
        url=row.url,
        on=row.topics.split(","),
        enabled=row.enabled,
        created_at=row.created_at,
        next_index=_next_index(row, tenant),
        waiting=waiting,
        given_up=every - waiting,
        failure=tx.execute(first).scalar_one_or_none(),
        replay=None if row.replay_next is None else Replaying(row.replay_next, row.replay_end - 1),
    )


def _next_index(row: sa.Row[Any], tenant: Tenant) -> int:
    """How far the tenant's log was gone through: not at all, as long as there is one before it to go through."""
    return row.next_index if row.log_id == tenant.log_id else 0


def _locked(tx: sa.Connection, tenant: Tenant, subscription_id: str) -> sa.Row[Any]:
    row = None
    if is_name(subscription_id):  # as an id is; else it is not even text that a database need take
        its = sa.select(subscriptions).where(
            subscriptions.c.id == subscription_id, subscriptions.c.tenant_id == tenant.id
        )
        row = tx.execute(its.with_for_update()).one_or_none()
    if row is None:
        raise _no_subscription(subscription_id)
    return row


def _make_due(tx: sa.Connection, subscription_id: str) -> None:
    waiting = sa.and_(outbox.c.subscription_id == subscription_id, outbox.c.due_at.is_not(None))
    tx.execute(sa.update(outbox).where(waiting).values(due_at=format_time(datetime.now(UTC))))


def _tell(changing: Changing, tenant: Tenant, subscription_id: str, action: str, by: str) -> None:
    facts = {"action": f"subscription_{action}", "by": by, "id": tenant.name, "subscription": subscription_id}
    changing.tell(Kind.TENANT, facts)


def _check_url(records: Records, url: str, resolve: Resolve) -> list[str]:
    """What to warn of before messages are sent there. Raises SubscriptionError."""
    warnings: list[str] = []
    try:
        endpoint = addresses.parse(url)
        addresses.permitted(endpoint, addresses.networks(records.settings.subscription_networks), in_time(resolve))
    except NoAddressError:
        warnings.append("the host of the URL has no address now; it is looked for again with each message")
    except AddressError as error:
        raise SubscriptionError("url", str(error)) from error
    if not url.lower().startswith("https:"):
        warnings.append("the URL is http://: what is passed on travels there unencrypted")
    return warnings


def _topics(on: list[TopicName]) -> str:
    return ",".join(topic for topic in KINDS if topic in on)


def _seal(records: Records, subscription_id: str, secret: str) -> bytes:
    return records.vault.seal(_place(subscription_id), secret.encode())


def _place(subscription_id: str) -> str:
    return f"subscription/{subscription_id}"


def _no_subscription(subscription_id: str) -> NoSuchSubscriptionError:
    return NoSuchSubscriptionError(f"there is no subscription {subscription_id[:64]!a}")
