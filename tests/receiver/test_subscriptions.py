"""`receiver.assurance.subscribing`: what is subscribed to, changed, removed and replayed, and what the log is told."""

import itertools
import threading
from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import partial

import pytest
import sqlalchemy as sa

from receiver.assurance import addresses, outbox, subscribing
from receiver.assurance.addresses import SETTING
from receiver.assurance.subscribing import (
    KINDS,
    NameTakenError,
    NoSuchSubscriptionError,
    Replay,
    Replaying,
    Resubscribe,
    Subscribe,
    SubscriptionError,
    disable_gone,
    replay,
    resubscribe,
    signing_key,
    unsubscribe,
)
from receiver.events import Kind
from receiver.records.opening import Records
from receiver.records.tables import subscriptions
from tests.receiver.subscribers import allow_loopback, listed, record, rows, source, subscribe, told

URL = "http://127.0.0.1:9/hook?token=quiet"
SECRET = "whsec_" + b64encode(bytes(range(24))).decode()


@pytest.fixture
def records(records: Records) -> Records:
    """Records whose subscriptions may call this machine."""
    return allow_loopback(records)


# ---- adding ---------------------------------------------------------------------------------------------------------


def test_a_subscription_begins_at_the_logs_end(records: Records) -> None:
    """With what was asked for, a secret of 32 random bytes, and nothing to send."""
    record(source(records), 2)
    size = records.tenant("default").log.head().size
    added = subscribe(records, URL, "gap", "recorded", "gap", name="alerts")

    assert added.secret is not None
    assert added.secret.startswith("whsec_")
    assert len(b64decode(added.secret.removeprefix("whsec_"), validate=True)) == 32
    one = added.subscription
    assert (one.name, one.url, one.on, one.enabled, one.next_index) == ("alerts", URL, ["recorded", "gap"], True, size)
    assert (one.waiting, one.given_up, one.failure, one.replay) == (0, 0, None, None)
    assert added.warnings == ["the URL is http://: what is passed on travels there unencrypted"]
    assert listed(records, added) == one


def test_it_may_begin_further_back(records: Records) -> None:
    """From the first entry on, or with the next one; not beyond that."""
    record(source(records))
    size = records.tenant("default").log.head().size

    assert subscribe(records, URL, "gap", from_index=0).subscription.next_index == 0
    assert subscribe(records, URL, "gap", from_index=size + 1).subscription.next_index == size + 1
    with pytest.raises(SubscriptionError, match=f"the log has {size + 2} entries") as raised:
        subscribe(records, URL, "gap", from_index=size + 3)
    assert raised.value.member == "from_index"


def test_a_secret_that_is_given_is_not_given_back(records: Records) -> None:
    """It is kept sealed, bound to its subscription."""
    added = subscribe(records, URL, "gap", secret=SECRET)

    assert added.secret is None
    with records.database.read() as tx:
        sealed = bytes(tx.execute(sa.select(subscriptions.c.secret)).scalar_one())
    assert b64decode(SECRET.removeprefix("whsec_")) not in sealed
    assert subscribing.open_key(records, added.subscription.id, sealed) == bytes(range(24))
    assert SECRET not in repr(added) + repr(Subscribe(name="n", url=URL, on=["gap"], secret=SECRET))


@pytest.mark.parametrize("size", [24, 64])
def test_secrets_that_can_be(size: int) -> None:
    """Base64 of 24 to 64 bytes, behind `whsec_` or not."""
    text = b64encode(bytes(size)).decode()

    assert signing_key("whsec_" + text) == signing_key(text) == bytes(size)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_x",
        "whsec_" + b64encode(bytes(23)).decode(),
        "whsec_" + b64encode(bytes(65)).decode(),
        "whpk_" + "A" * 44,
    ],
)
def test_secrets_that_cannot(secret: str) -> None:
    """With a sentence that does not show them."""
    with pytest.raises(SubscriptionError, match="base64 of 24 to 64 bytes") as raised:
        signing_key(secret)
    assert raised.value.member == "secret"
    assert len(secret) < 7 or secret not in str(raised.value)


def test_what_cannot_be_added(records: Records) -> None:
    """A name that is none or is taken, a secret that is none, a URL that is none: nothing is kept, and nothing told."""
    subscribe(records, URL, "gap", name="alerts")
    before = told(records)

    with pytest.raises(NameTakenError, match="already has a subscription named 'alerts'"):
        subscribe(records, URL, "gap", name="alerts")
    for member, asked in (("name", {"name": " x"}), ("secret", {"secret": "short"}), ("url", {"url": "ftp://h/"})):
        with pytest.raises(SubscriptionError) as raised:
            subscribe(records, **{"url": URL, **asked})
        assert raised.value.member == member
    assert told(records) == before
    assert subscribe(records, URL, "gap", name="alerts", tenant="another").subscription.name == "alerts"


def test_addresses_are_looked_at_before_anything_is_kept(records: Records) -> None:
    """What may not be called is refused, and the setting that would allow it is named; a name without an address may
    have one later.
    """

    def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise OSError

    def inside(_host: str, _port: int) -> Sequence[str]:
        return ["93.184.215.14", "10.0.0.1"]

    tenant, asked = records.tenant("default"), Subscribe(name="n", url="https://hooks.example.com/", on=["gap"])
    with pytest.raises(SubscriptionError, match=SETTING) as raised:
        subscribing.subscribe(records, tenant, asked, resolve=inside)
    assert raised.value.member == "url"
    added = subscribing.subscribe(records, tenant, asked, resolve=nowhere)
    assert added.warnings == ["the host of the URL has no address now; it is looked for again with each message"]
    with pytest.raises(SubscriptionError, match=SETTING):
        resubscribe(records, tenant, added.subscription.id, Resubscribe(url="https://other.example/"), resolve=inside)
    assert listed(records, added).url == "https://hooks.example.com/"


def test_a_resolver_is_not_waited_for_for_long(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as if there were no address now; and however many of them hang, they are few threads that do."""
    at_last, asked = threading.Event(), itertools.count()
    monkeypatch.setattr(subscribing, "in_time", partial(addresses.in_time, seconds=0.01))

    def stuck(_host: str, _port: int) -> Sequence[str]:
        next(asked)
        at_last.wait()
        return []

    try:
        for number in range(20):
            wanted = Subscribe(name=f"n{number}", url="https://hooks.example.com/", on=["gap"])
            added = subscribing.subscribe(records, records.tenant("default"), wanted, resolve=stuck)
            assert [one.partition(";")[0] for one in added.warnings] == ["the host of the URL has no address now"]
        assert next(asked) == 8
    finally:
        at_last.set()


# ---- changing -------------------------------------------------------------------------------------------------------


def test_every_change_is_told_in_the_log(records: Records) -> None:
    """Who did what to which, without URL and secret; what changes nothing is not told."""
    tenant = records.tenant("default")
    added = subscribe(records, URL, "gap", "fork", name="alerts")
    its_id = added.subscription.id
    for asked in (
        Resubscribe(url=URL, on=["fork", "gap"], enabled=True),
        Resubscribe(on=["gap"]),
        Resubscribe(secret=SECRET, enabled=False),
        Resubscribe(enabled=False),
        Resubscribe(enabled=True),
    ):
        resubscribe(records, tenant, its_id, asked, by="a key")
    unsubscribe(records, tenant, its_id, by="a key")

    assert [(facts["action"], facts["by"]) for facts in told(records)] == [
        ("subscription_added", "command"),
        ("subscription_changed", "a key"),
        ("subscription_changed", "a key"),
        ("subscription_disabled", "a key"),
        ("subscription_enabled", "a key"),
        ("subscription_removed", "a key"),
    ]
    assert all((facts["id"], facts["subscription"]) == ("default", its_id) for facts in told(records))
    assert all(facts.keys() == {"action", "by", "id", "subscription"} for facts in told(records))


def test_what_is_changed(records: Records) -> None:
    """URL, topics, secret, and whether it is enabled, each for itself."""
    tenant = records.tenant("default")
    added = subscribe(records, URL, "gap")
    changed, warnings = resubscribe(
        records, tenant, added.subscription.id, Resubscribe(url="http://127.0.0.1:8/", on=["silence"], enabled=False)
    )

    assert (changed.url, changed.on, changed.enabled) == ("http://127.0.0.1:8/", ["silence"], False)
    assert warnings == ["the URL is http://: what is passed on travels there unencrypted"]
    assert changed == listed(records, added)
    resubscribe(records, tenant, added.subscription.id, Resubscribe(secret=SECRET))
    with records.database.read() as tx:
        sealed = bytes(tx.execute(sa.select(subscriptions.c.secret)).scalar_one())
    assert subscribing.open_key(records, added.subscription.id, sealed) == bytes(range(24))


def test_what_waits_is_due_once_something_is_mended(records: Records) -> None:
    """After another URL or secret, or enabled again; what was given up stays so until it is replayed."""
    tenant = records.tenant("default")
    made, added = source(records), subscribe(records, URL, "recorded")
    record(made, 2)
    outbox.fill(records)
    with records.database.write() as tx:
        first, second = [row.id for row in rows(records)]
        tx.execute(sa.update(outbox.outbox).values(due_at="2999-01-01T00:00:00.000000Z", failure="timeout"))
        tx.execute(sa.update(outbox.outbox).where(outbox.outbox.c.id == second).values(due_at=None))
    assert (listed(records, added).waiting, listed(records, added).given_up) == (1, 1)
    assert listed(records, added).failure == "timeout"
    for asked in (Resubscribe(url="http://127.0.0.1:8/"), Resubscribe(secret=SECRET), Resubscribe(enabled=False)):
        resubscribe(records, tenant, added.subscription.id, asked)
        assert [row.due_at is not None and row.due_at < "2999" for row in rows(records)] == [True, False]
    assert first == rows(records)[0].id


def test_with_a_subscription_goes_all_that_waits(records: Records) -> None:
    """And nothing of another's."""
    made, gone, stays = source(records), subscribe(records, URL, "recorded"), subscribe(records, URL, "recorded")
    record(made)
    outbox.fill(records)
    unsubscribe(records, records.tenant("default"), gone.subscription.id)

    assert [row.subscription_id for row in rows(records)] == [stays.subscription.id]
    with pytest.raises(NoSuchSubscriptionError):
        listed(records, gone)


def test_another_tenants_is_not_there(records: Records) -> None:
    """Not to be read, changed, removed or replayed; nor is a text that can be no id."""
    mine = subscribe(records, URL, "gap").subscription.id
    other = records.ensure_tenant("another")

    for its_id in (mine, "nobody", "", "\x00", "\ud800"):
        with pytest.raises(NoSuchSubscriptionError):
            subscribing.get(records, other, its_id)
        with pytest.raises(NoSuchSubscriptionError):
            resubscribe(records, other, its_id, Resubscribe(enabled=False))
        with pytest.raises(NoSuchSubscriptionError):
            unsubscribe(records, other, its_id)
        with pytest.raises(NoSuchSubscriptionError):
            replay(records, other, its_id, Replay(from_index=0))
    assert subscribing.list_all(records, other) == []


def test_an_endpoint_that_is_gone_disables_its_subscription_once(records: Records) -> None:
    """It is told once; not of another URL, which was given meanwhile, nor of one that was removed."""
    tenant = records.tenant("default")
    its_id = subscribe(records, URL, "gap").subscription.id

    assert disable_gone(records, tenant, its_id, "http://127.0.0.1:8/") is False
    assert disable_gone(records, tenant, its_id, URL) is True
    assert disable_gone(records, tenant, its_id, URL) is False
    assert [(facts["action"], facts["by"]) for facts in told(records)][1:] == [("subscription_disabled", "endpoint")]
    unsubscribe(records, tenant, its_id)
    assert disable_gone(records, tenant, its_id, URL) is False


# ---- replaying ------------------------------------------------------------------------------------------------------


def test_what_can_be_replayed(records: Records) -> None:
    """What was passed on so far, from and to an index of it; a second replay is joined with the first."""
    tenant = records.tenant("default")
    its_id = subscribe(records, URL, "gap", from_index=0).subscription.id
    with pytest.raises(SubscriptionError, match="the entries below 0 were passed on so far; 0 is not among them"):
        replay(records, tenant, its_id, Replay(from_index=0))
    with records.database.write() as tx:
        tx.execute(sa.update(subscriptions).values(next_index=100))

    def replayed(first: int, last: int | None = None) -> Replaying | None:
        return replay(records, tenant, its_id, Replay(from_index=first, to_index=last)).replay

    assert replayed(40, 49) == Replaying(40, 49)
    assert replayed(45, 59) == Replaying(40, 59)
    assert replayed(10, 10) == Replaying(10, 59)
    assert replayed(99, 1000) == Replaying(10, 99)
    assert replayed(0) == Replaying(0, 99)
    for first, last, member in ((100, None, "from_index"), (2**53 - 1, None, "from_index"), (9, 8, "to_index")):
        with pytest.raises(SubscriptionError) as raised:
            replayed(first, last)
        assert raised.value.member == member


def test_each_topic_is_of_kinds_that_no_other_is_of() -> None:
    """And what tells of settings or of the log itself is of none."""
    kinds = [kind for topic in KINDS.values() for kind in topic]

    assert len(kinds) == len(set(kinds))
    assert set(Kind) - set(kinds) == {
        *(Kind.ATTEMPT, Kind.ERASURE, Kind.HOLD, Kind.RELEASE, Kind.EXPORT),
        *(Kind.SOURCE, Kind.KEY, Kind.TENANT, Kind.TALLY),
    }
