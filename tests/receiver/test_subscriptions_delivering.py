"""`receiver.assurance.delivering`: receivers that run pass on what is subscribed to, to real endpoints on loopback."""

import asyncio
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook

from receiver.assurance import delivering, outbox
from receiver.assurance.addresses import networks
from receiver.assurance.delivering import AT_ONCE, OF_FAILING, OF_ONE, share
from receiver.assurance.outbox import Claimed, Due
from receiver.assurance.sending import Sender
from receiver.assurance.subscribing import Replay, Resubscribe, replay, resubscribe
from receiver.events import format_time
from receiver.metrics import Metrics
from receiver.records.opening import Records
from tests.receiver.service import revoked, running, settings_in, until
from tests.receiver.subscribers import (
    LOOPBACK,
    allow_loopback,
    indexes,
    listed,
    passing,
    passing_on,
    record,
    rows,
    source,
    subscribe,
    told,
)
from tests.receiver.upstreams import silence, speaking
from tests.sandbox.inbox import inbox


@pytest.fixture
def records(records: Records) -> Records:
    """Records whose subscriptions may call this machine."""
    return allow_loopback(records)


def make_due(records: Records) -> None:
    """What waits need not wait any longer: its time has come."""
    with records.database.write() as tx:
        waiting = outbox.outbox.c.due_at.is_not(None)
        tx.execute(sa.update(outbox.outbox).where(waiting).values(due_at="2026-01-01T00:00:00.000000Z"))


def counted(metrics: Metrics, outcome: str) -> float:
    """How many tries came to that."""
    return metrics.registry.get_sample_value("rescind_messages_total", {"outcome": outcome}) or 0.0


def waiting(metrics: Metrics) -> float | None:
    """How many messages wait, as was said last."""
    return metrics.registry.get_sample_value("rescind_messages_waiting")


# ---- what arrives ---------------------------------------------------------------------------------------------------


def test_what_is_subscribed_to_arrives(records: Records) -> None:
    """Each event once, and then nothing is left of it."""
    made, metrics = source(records), Metrics()
    with inbox() as there:
        subscribe(records, there.url, "recorded")
        ids = record(made, 20)
        passing(records, lambda: counted(metrics, "taken") == 20 and waiting(metrics) == 0, metrics=metrics)

    assert sorted(json.loads(one.body)["data"]["id"] for one in there.taken) == sorted(ids)
    assert sorted(one.id for one in there.taken) == sorted(f"msg_{one}" for one in ids)
    assert rows(records) == []


def test_what_is_recorded_while_it_runs_arrives(records: Records) -> None:
    """In pieces, as it comes."""
    made = source(records)
    with inbox() as there:
        subscribe(records, there.url, "recorded")
        recorded = 0

        def all_of_it() -> bool:
            nonlocal recorded
            if len(there.taken) == recorded < 5:
                record(made)
                recorded += 1
            return len(there.taken) == 5

        passing(records, all_of_it)


def test_two_receivers_send_each_message_once(records: Records) -> None:
    """On one database, with as many subscriptions as they like."""
    made = source(records)
    with inbox() as one, inbox() as other:
        for there in (one, other):
            subscribe(records, there.url, "recorded")
        record(made, 30)
        passing(records, lambda: not rows(records) and len(one.taken) >= 30 <= len(other.taken), receivers=2)

    assert (len(one.came), len(other.came)) == (30, 30)
    assert indexes(one.taken) == indexes(other.taken)


def test_what_is_not_taken_is_sent_again_under_the_same_id(records: Records) -> None:
    """Until it is taken: signed anew each time, and the same to the byte."""
    made, metrics = source(records), Metrics()
    with inbox() as there:
        there.answers = lambda delivery: 204 if there.count(delivery.id) >= 3 else 503
        added = subscribe(records, there.url, "recorded")
        record(made)

        def taken() -> object:
            if rows(records) and listed(records, added).failure:
                make_due(records)
            return counted(metrics, "taken") and not rows(records)

        passing(records, taken, metrics=metrics)

    assert len({one.id for one in there.came}) == len({one.body for one in there.came}) == 1
    assert len(there.came) >= 3
    assert counted(metrics, "taken") >= 1
    assert counted(metrics, "not_taken") >= 2


def test_the_last_failure_is_given_up_and_replayed(records: Records) -> None:
    """It stays, with its reason; replayed, it arrives under the id that it had."""
    made, metrics = source(records), Metrics()
    with inbox() as there:
        there.answers = lambda _: 500
        added = subscribe(records, there.url, "recorded")
        record(made)
        outbox.fill(records)
        with records.database.write() as tx:
            tx.execute(sa.update(outbox.outbox).values(tries=9))
        passing(records, lambda: counted(metrics, "given_up"), metrics=metrics)
        assert listed(records, added).failure == "answered 500"
        assert (counted(metrics, "given_up"), counted(metrics, "not_taken")) == (1, 0)

        there.answers = lambda _: 204
        (row,) = rows(records)
        replay(records, records.tenant("default"), added.subscription.id, Replay(from_index=row.log_index))
        passing(records, lambda: not rows(records) and there.taken)

    assert len({one.id for one in there.came}) == 1


def test_a_replay_sends_once_more_what_was_taken(records: Records) -> None:
    """From an index to another one, with the same ids, and what it is of the log is the same."""
    made = source(records)
    with inbox() as there:
        added = subscribe(records, there.url, "recorded")
        record(made, 6)
        passing(records, lambda: len(there.taken) == 6 and not rows(records))
        first, second = indexes(there.taken)[1:3]
        its_id = added.subscription.id
        replay(records, records.tenant("default"), its_id, Replay(from_index=first, to_index=second))
        passing(records, lambda: len(there.taken) == 8 and not rows(records))

    assert indexes(there.taken[6:]) == [first, second]
    assert {one.id for one in there.taken[6:]} < {one.id for one in there.taken[:6]}


def test_a_running_service_passes_on_what_is_delivered(tmp_path: Path) -> None:
    """What a provider sends, signed by it, arrives signed by us, with the id and index that the provider was told."""
    with inbox() as there, running(settings_in(tmp_path, subscription_networks=LOOPBACK)) as service:
        secret = subscribe(service.records, there.url, "recorded").secret or ""
        answer = service.add_source().post(revoked()).json()
        until(lambda: there.taken)

    (delivery,) = there.came
    data: dict[str, Any] = Webhook(secret).verify(delivery.body, dict(delivery.headers))["data"]
    assert (data["id"], data["log_index"]) == (answer["event_id"], answer["log_index"])
    assert data["leaf_hash"] == answer["leaf_hash"]


# ---- endpoints that do not answer -----------------------------------------------------------------------------------


def test_an_endpoint_that_is_gone_is_sent_to_no_more(records: Records) -> None:
    """410 disables it, and the log says so; enabled again, it gets what it did not take."""
    made, tenant = source(records), records.tenant("default")
    with inbox() as there:
        there.answers = lambda _: 410
        added = subscribe(records, there.url, "recorded")
        record(made)
        passing(records, lambda: not listed(records, added).enabled)
        assert [facts["by"] for facts in told(records)] == ["command", "endpoint"]
        assert (listed(records, added).waiting, listed(records, added).failure) == (1, "answered 410")

        came = len(there.came)
        there.answers = lambda _: 204
        with inbox() as other:
            subscribe(records, other.url, "recorded")
            record(made)
            passing(records, lambda: other.taken)
        assert len(there.came) == came
        resubscribe(records, tenant, added.subscription.id, Resubscribe(enabled=True))
        passing(records, lambda: len(there.taken) == 2 and not rows(records))


def test_a_dead_endpoint_holds_up_no_other(records: Records) -> None:
    """Nor do many: they never answer, and whoever does gets all of it meanwhile."""
    made = source(records)

    async def main() -> int:
        async with speaking(silence) as dead:
            for _ in range(2 * AT_ONCE):
                subscribe(records, dead.url, "recorded")
            with inbox() as there:
                subscribe(records, there.url, "recorded")
                record(made, 10)
                impatient = Sender(networks(LOOPBACK), timeout=0.5)
                await passing_on(records, lambda: len(there.taken) >= 10, senders=[impatient])
            return dead.connections

    assert asyncio.run(main()) >= AT_ONCE


def test_what_may_not_be_called_any_more_is_not_sent(records: Records) -> None:
    """It is looked at with each try; put back, what waits is sent."""
    made = source(records)
    with inbox() as there:
        added = subscribe(records, there.url, "recorded")
        record(made)
        records.settings.subscription_networks = ""
        passing(records, lambda: listed(records, added).failure)
        assert (listed(records, added).failure or "").startswith("not sent: its host has an address that is not public")
        assert there.came == []

        allow_loopback(records)
        make_due(records)
        passing(records, lambda: there.taken and not rows(records))


def test_what_was_being_sent_when_a_receiver_ended_is_sent_again(records: Records) -> None:
    """By whoever runs once the lease is over; nothing is lost, and nothing is thought taken."""
    made = source(records)

    async def main() -> None:
        async with speaking(silence) as there:
            added = subscribe(records, there.url, "recorded")
            record(made)
            await passing_on(records, lambda: there.connections)
            (row,) = rows(records)
            assert (row.tries, row.failure) == (1, None)
            assert row.due_at > format_time(datetime.now(UTC))
            assert listed(records, added).waiting == 1

    asyncio.run(main())


def test_a_database_that_is_away_is_waited_for(
    records: Records, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and when it is back what is due is sent, and what was sent is noted."""
    made, fill, looks = source(records), outbox.fill, count(1)

    def away_at_first(records: Records) -> bool:
        if next(looks) <= 3:
            raise OSError("away")
        return fill(records)

    monkeypatch.setattr(outbox, "fill", away_at_first)
    with inbox() as there, caplog.at_level(logging.WARNING):
        subscribe(records, there.url, "recorded")
        record(made)
        passing(records, lambda: there.taken and not rows(records))

    assert [record.message for record in caplog.records if "away" in record.message] == ["OSError: away"]


# ---- whose turn it is -----------------------------------------------------------------------------------------------


def due(*names: str) -> list[Due]:
    """These have something due, the first for longest."""
    return [Due(name, tenant_of(name), f"2026-01-{day:02}") for day, name in enumerate(names, 1)]


def tenant_of(name: str) -> int:
    """Of a name in capitals there are others of its tenant, which all of these have; else it is the only one."""
    return 0 if name.isupper() else ord(name)


def busy(*names: str) -> list[Claimed]:
    """These have each a message on its way."""
    return [Claimed(str(number), name, tenant_of(name), "", "", 1, b"", None) for number, name in enumerate(names)]


def test_a_place_for_each_before_a_second_for_one() -> None:
    """Up to the number of places, and to that of one subscription."""
    assert share(due("a"), (), (), {}) == {"a": OF_ONE}
    assert share(due("a", "b", "c"), (), (), {}) == {"a": 2, "b": 2, "c": 2}
    assert share(due(*"abcdef"), (), (), {}) == {"a": 2, "b": 2, "c": 1, "d": 1, "e": 1, "f": 1}
    assert share(due(*"abcdefghijk"), (), (), {}) == dict.fromkeys("abcdefgh", 1)
    assert share(due("a", "b"), busy(*"aabcc"), (), {}) == {"b": 1}
    assert share(due("a"), busy(*"bbccddee"), (), {}) == {}
    assert share([], (), (), {}) == {}


def test_a_tenant_has_half_of_the_places() -> None:
    """However many subscriptions it has, and whoever waits longer."""
    assert share(due(*"ABCDEF"), (), (), {}) == dict.fromkeys("ABCD", 1)
    assert share(due(*"ABCDEF", "a"), (), (), {}) == {**dict.fromkeys("ABCD", 1), "a": 2}
    assert share(due(*"ABC"), busy("X", "Y", "X"), (), {}) == {"A": 1}
    assert share(due("A", "a"), busy(*"WXYZ"), (), {}) == {"a": 2}


def test_who_does_not_answer_soon_is_as_one_that_fails(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what it is sent, but holds a place for long; until it is faster again."""
    made, failing = source(records), list[Collection[str]]()

    def seen(found: Sequence[Due], busy: Collection[Claimed], those: Collection[str], turns: Mapping[str, int]) -> Any:
        failing.append(those)
        return share(found, busy, those, turns)

    monkeypatch.setattr(delivering, "share", seen)
    with inbox() as there:
        its_id = subscribe(records, there.url, "recorded").subscription.id
        monkeypatch.setattr(delivering, "SOON", -1.0)

        def is_slow() -> bool:
            return bool(failing) and its_id in failing[-1]

        def faster_again() -> object:
            if delivering.SOON < 0 and is_slow():
                monkeypatch.setattr(delivering, "SOON", 60.0)
                record(made)
            return len(there.taken) == 2 and not is_slow()

        record(made)
        passing(records, faster_again)


def test_those_come_first_that_have_waited_longest_for_a_turn() -> None:
    """Of those that had none, whoever has had something due for longest."""
    turns = {"a": 3, "b": 1, "c": 2}

    assert list(share(due("a", "b", "c", "d"), busy(*"uvwxyz"), (), turns)) == ["d", "b"]
    assert list(share(due("a", "b", "c"), busy(*"tuvwxyz"), (), turns)) == ["b"]


def test_those_that_fail_have_half_of_the_places() -> None:
    """Of all, and of a tenant's; those that are slow, too. Whatever is free beyond that is for the others."""
    names = "abcdefghij"

    assert share(due(*names), (), names, {}) == dict.fromkeys(names[:OF_FAILING], 1)
    assert share(due(*names), busy(*"zzy"), {*names, "z"}, {}) == {"a": 1, "b": 1}
    assert share(due(*names, "k"), (), names, {}) == {**dict.fromkeys(names[:OF_FAILING], 1), "k": 2}
    assert share(due(*"ABCD"), (), "ABC", {}) == {"A": 1, "B": 1, "D": 2}
    assert share(due(*"ABCD"), busy(*"XY"), "XYABC", {}) == {"D": 2}
