"""Providers that cannot be asked, or do not tell; looks that overtake one another; and the asker in the background."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from receiver.assurance import asking as module
from receiver.assurance.due import GIVE_UP_AFTER
from receiver.events import format_time
from receiver.metrics import Metrics
from receiver.records.credentials import set_credential
from receiver.records.opening import Records
from receiver.turns import OF_ONE_TENANT
from tests.receiver import service
from tests.receiver.asked import (
    LONG_AGO,
    MISSING,
    Checked,
    answer,
    asking,
    asking_in_background,
    choosing,
    new_checked,
    showing,
)
from tests.receiver.open_calls import NOBODY, hanging
from tests.receiver.test_asking import DAY, HOUR, MINUTE, receipt
from tests.receiver.upstreams import Connection, answering, speaking

BROKEN = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"


@pytest.fixture
def receipts(records: Records) -> Checked:
    """A source of receipts."""
    return new_checked(records, "truthlocks")


@pytest.fixture
def item() -> str:
    """The id of a receipt that no delivery told of."""
    return str(uuid4())


async def until(true: Callable[[], object]) -> None:
    """Wait for something that must come about soon."""
    await asyncio.to_thread(service.until, true)


# ---- providers that do not tell -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "outcome", "why"),
    [
        (answer({}, "401 Unauthorized"), "refused", "the answer is 401"),
        (answer({}, "403 Forbidden"), "refused", "the answer is 403"),
        (answer({}, "429 Too Many Requests"), "refused", "the answer is 429"),
        (answer({}, "500 Internal Server Error"), "failed", "the answer is 500"),
        (answer({}, "400 Bad Request"), "failed", "the answer is 400"),
        (answer({}, "204 No Content"), "failed", "the answer is 204"),
        (b"HTTP/1.1 302 Found\r\nlocation: /v1/elsewhere\r\ncontent-length: 0\r\n\r\n", "failed", "the answer is 302"),
        (BROKEN, "unreachable", "the provider's record cannot be asked: broken"),
        (b"garbage\r\n\r\n", "unreachable", "the provider's record cannot be asked: broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "unreadable", "the provider's record cannot be read: "),
        (answer({"receipt_id": "another"}), "unreadable", "receipt_id is not the one asked for"),
        (answer({}), "unreadable", "the provider's record does not tell: receipt_id is missing"),
    ],
)
def test_an_answer_that_does_not_tell(receipts: Checked, item: str, said: bytes, outcome: str, why: str) -> None:
    """After the grace period too the event stays pending, and it is asked about again in a minute."""
    event_id = receipts.tell(item, ago=LONG_AGO)
    before = datetime.now(UTC)
    look = receipts.look(event_id, answering(said))

    assert (look.outcome, len(look.came)) == (outcome, 1)
    assert why in look.looked.said
    assert receipts.state(event_id) == ("pending", None)
    assert receipts.told(event_id) == []
    assert MINUTE <= (receipts.due_in(event_id, before) or DAY) < 2 * MINUTE


def test_nobody_is_there(receipts: Checked, item: str) -> None:
    """The same."""
    event_id = receipts.tell(item, ago=LONG_AGO)

    async def look() -> str:
        async with asking(receipts.records) as asker:
            looked = await asker.look(event_id)
            assert looked is not None
            return looked.said

    assert asyncio.run(look()) == "the provider's record cannot be asked: unreachable"
    assert receipts.state(event_id) == ("pending", None)


def test_the_waits_grow(receipts: Checked, item: str) -> None:
    """1, 2, 4 … minutes, at most an hour; and the end of the grace period is not slept through."""
    event_id = receipts.tell(item)
    waits: list[int] = []
    for _ in range(8):
        before = datetime.now(UTC)
        receipts.look(event_id, showing(MISSING))
        waits.append(round((receipts.due_in(event_id, before) or DAY) / MINUTE))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]

    soon = datetime.now(UTC) + timedelta(minutes=5)
    receipts.set_check(event_id, grace_over_at=format_time(soon))
    receipts.look(event_id, showing(MISSING))
    assert receipts.check(event_id).due_at == format_time(soon)


def test_nothing_is_given_up_before_thirty_days(receipts: Checked, item: str) -> None:
    """By the number of looks, so that what is taken up late has as many; nor within the grace period."""
    event_id = receipts.tell(item, ago=LONG_AGO)
    failing = showing(answer({}, "503 Service Unavailable"))
    waits = [min(2**looks, 60) for looks in range(GIVE_UP_AFTER)]
    assert 30 * DAY <= sum(waits) * MINUTE < 31 * DAY

    receipts.set_check(event_id, looks=GIVE_UP_AFTER - 1)
    receipts.look(event_id, failing)
    assert receipts.check(event_id).due_at is not None

    receipts.set_check(event_id, grace_over_at=format_time(datetime.now(UTC) + HOUR))
    receipts.look(event_id, failing)
    assert receipts.check(event_id).due_at is not None

    receipts.grace_is_over(event_id)
    receipts.look(event_id, failing)
    assert (receipts.check(event_id).due_at, receipts.state(event_id)) == (None, ("pending", None))
    assert receipts.look(event_id, showing(receipt(item))).outcome == "confirmed"


def test_what_an_answer_repeats_of_the_credential_is_not_kept(receipts: Checked, item: str) -> None:
    """Whoever is shown the evidence is not shown how to ask."""
    secret = "a-secret-of-some-length"
    set_credential(receipts.records, receipts.tenant, receipts.source_id, [("x-api-key", secret)])
    event_id = receipts.tell(item)
    look = receipts.look(event_id, showing(receipt(item, subject=f"key {secret}"), answer({"key": secret})))

    assert secret.encode() in look.came[0]
    assert json.loads(receipts.told(event_id)[0].body)["subject"] == "key [removed]"
    assert secret.encode() not in bytes(receipts.told(event_id)[0].event_data)


@pytest.mark.parametrize(("missing", "why"), [("upstream", "has no upstream"), ("credential", "has no read-only cred")])
def test_something_is_missing_to_ask(receipts: Checked, item: str, missing: str, why: str) -> None:
    """Nobody is asked, and what to do is said."""
    event_id = receipts.tell(item)
    if missing == "upstream":
        receipts.moves(None)
    else:
        set_credential(receipts.records, receipts.tenant, receipts.source_id, None)

    async def look() -> tuple[str, str]:
        async with asking(receipts.records) as asker:
            looked = await asker.look(event_id)
            assert looked is not None
            return looked.outcome, looked.said

    outcome, said = asyncio.run(look())

    assert outcome == "not_asked"
    assert why in said


# ---- at the same time -----------------------------------------------------------------------------------------------


def test_a_source_that_is_changed_while_its_provider_answers(receipts: Checked, item: str) -> None:
    """What another upstream said than the one it has now is nothing that counts."""
    event_id = receipts.tell(item, ago=LONG_AGO)

    async def behave(connection: Connection) -> None:
        await connection.request()
        await asyncio.to_thread(receipts.moves, NOBODY)
        await connection.say(MISSING)

    assert receipts.look(event_id, behave).outcome == "overtaken"
    assert receipts.state(event_id) == ("pending", None)


def test_a_look_that_is_overtaken_by_another(receipts: Checked, item: str) -> None:
    """Of an older answer and a newer one only the newer counts, whichever comes last."""
    event_id = receipts.tell(item, ago=LONG_AGO)

    async def look() -> tuple[str, str]:
        go_on = asyncio.Event()
        asked = asyncio.Event()

        async def slowly(connection: Connection) -> None:
            await connection.request()
            if not asked.is_set():
                asked.set()
                await go_on.wait()
                await connection.say(MISSING)
            else:
                await connection.say(answer(receipt(item)))

        async with speaking(slowly) as there, asking(receipts.records) as asker:
            receipts.moves(there.url)
            older = asyncio.create_task(asker.look(event_id, patient=False))
            await asked.wait()
            newer = await asker.look(event_id, patient=False)
            go_on.set()
            found = [await older, newer]
            assert found[0] is not None
            assert found[1] is not None
            return found[0].outcome, found[1].outcome

    assert asyncio.run(look()) == ("overtaken", "confirmed")
    assert receipts.states(event_id) == ["confirmed"]


def test_many_looks_at_once_tell_it_once(receipts: Checked, item: str) -> None:
    """As many receivers as there are."""
    event_id = receipts.tell(item)

    async def look() -> list[str]:
        async with speaking(showing(receipt(item))) as there, asking(receipts.records) as asker:
            receipts.moves(there.url)
            looks = await asyncio.gather(*(asker.look(event_id, patient=False) for _ in range(8)))
            return [looked.outcome for looked in looks if looked is not None]

    outcomes = asyncio.run(look())

    assert len(outcomes) == 8
    assert set(outcomes) <= {"confirmed", "overtaken"}
    assert receipts.states(event_id) == ["confirmed"]
    assert receipts.wrong() == []


def test_a_look_that_is_cut_off(receipts: Checked, item: str) -> None:
    """Whoever asked is gone: the event is as it was, and is asked about again in a minute."""
    event_id = receipts.tell(item)
    before = datetime.now(UTC)

    async def look() -> None:
        async with speaking(hanging) as there:
            receipts.moves(there.url)
            async with asking(receipts.records) as asker:
                task = asyncio.create_task(asker.look(event_id))
                await until(lambda: there.came)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    asyncio.run(look())

    assert (receipts.state(event_id), receipts.told(event_id)) == (("pending", None), [])
    assert MINUTE <= (receipts.due_in(event_id, before) or DAY) < 2 * MINUTE
    assert receipts.look(event_id, showing(receipt(item))).outcome == "confirmed"


# ---- in the background ----------------------------------------------------------------------------------------------


def test_what_is_due_is_asked_about(receipts: Checked) -> None:
    """Every event once, as soon as it is taken up; what is not due is left."""
    items = [str(uuid4()) for _ in range(5)]
    events = [receipts.tell(one) for one in items]
    receipts.set_check(events[0], due_at=format_time(datetime.now(UTC) + HOUR))

    async def look() -> int:
        async with speaking(choosing(lambda target: answer(receipt(target.split("/")[3])))) as there:
            receipts.moves(there.url)
            async with asking_in_background(receipts.records):
                await until(lambda: all(receipts.state(one)[0] == "confirmed" for one in events[1:]))
            return len(there.came)

    assert asyncio.run(look()) == 2 * 4
    assert receipts.state(events[0]) == ("pending", None)


def test_who_is_not_asked(records: Records, item: str) -> None:
    """A source that is disabled, or has nothing to ask with; nor is one whose events an issuer's log tells of."""
    off, bare, logged, well = (new_checked(records, "truthlocks") for _ in range(4))
    events = [one.tell(item) for one in (off, bare, logged, well)]

    async def look() -> list[str]:
        async with speaking(showing(receipt(item))) as there:
            for one in (off, bare, logged, well):
                one.moves(there.url)
            off.set_source(enabled=False)
            bare.moves(None)
            logged.set_source(issuer_log_id="another")
            async with asking_in_background(records):
                await until(lambda: well.state(events[3])[0] == "confirmed")
            return [one.state(event)[0] for one, event in zip((off, bare, logged), events, strict=False)]

    assert asyncio.run(look()) == ["pending"] * 3


def test_an_upstream_that_fails_is_left_alone_for_a_while(receipts: Checked, caplog: pytest.LogCaptureFixture) -> None:
    """However many events are due, it is asked seldom, and that is logged once and counted; then all goes on."""
    items = [str(uuid4()) for _ in range(20)]
    events = [receipts.tell(one) for one in items]
    metrics = Metrics()

    async def look() -> int:
        well = asyncio.Event()

        def choose(target: str) -> bytes:
            return answer(receipt(target.split("/")[3])) if well.is_set() else answer({}, "403 Forbidden")

        async with speaking(choosing(choose)) as there:
            receipts.moves(there.url)
            async with asking_in_background(receipts.records, metrics):
                await until(lambda: len(there.came) >= 2)
                refused = len(there.came)
                well.set()
                await until(lambda: sum(receipts.state(one)[0] == "confirmed" for one in events) >= 17)
            return refused

    with caplog.at_level(logging.WARNING, module.__name__):
        refused = asyncio.run(look())

    labels = {"provider": "truthlocks", "outcome": "refused"}
    counted = metrics.registry.get_sample_value("rescind_record_asks_total", labels)
    assert counted is not None
    assert refused <= counted <= 3
    of = f"what the provider's own record says of events to source {receipts.source_id} is not found out"
    logged = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert logged == [f"{of}: the provider's record cannot be read: the answer is 403"]


def test_a_tenant_whose_providers_do_not_answer(records: Records, item: str) -> None:
    """However many sources it has, another tenant's events are asked about."""
    well = new_checked(records, "truthlocks", tenant="other")
    hung = [new_checked(records, "truthlocks") for _ in range(OF_ONE_TENANT + 2)]
    for one in hung:
        one.tell(item)

    async def look() -> int:
        async with speaking(hanging) as nobody, speaking(showing(receipt(item))) as there:
            for one in hung:
                one.moves(nobody.url)
            well.moves(there.url)
            async with asking_in_background(records):
                await until(lambda: len(nobody.came) >= OF_ONE_TENANT)
                prompt = await asyncio.to_thread(well.tell, item)
                await until(lambda: well.state(prompt)[0] == "confirmed")
                return len(nobody.came)

    assert asyncio.run(look()) == OF_ONE_TENANT


def test_one_event_that_cannot_be_read_holds_up_no_other(receipts: Checked) -> None:
    """Its record is not as it is documented; the others' are."""
    items = [str(uuid4()) for _ in range(3)]
    events = [receipts.tell(one) for one in items]

    async def look() -> None:
        def choose(target: str) -> bytes:
            return answer({} if items[0] in target else receipt(target.split("/")[3]))

        async with speaking(choosing(choose)) as there:
            receipts.moves(there.url)
            async with asking_in_background(receipts.records):
                await until(lambda: all(receipts.state(one)[0] == "confirmed" for one in events[1:]))

    asyncio.run(look())

    assert receipts.state(events[0]) == ("pending", None)
