"""Whose turn it is to be looked at, and when a call is looked at for the last time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from receiver.events import format_time, parse_time
from receiver.records.attempts import Ended
from receiver.records.opening import Records
from receiver.relay.due import Turn, turns
from receiver.turns import AT_ONCE, OF_ONE_TENANT
from tests.receiver.open_calls import Caller, hanging, looking, new_caller, record_of, saying, until
from tests.receiver.upstreams import speaking

ACTIVE = record_of("truthlocks", status="active", revoked_at=None)


def begun(records: Records, busy: list[Caller], last: dict[str, int] | None = None) -> list[Turn]:
    """The turns that begin now, beside these."""
    with records.database.read() as tx:
        of = {caller.party.source.id: caller.party.tenant.id for caller in busy}
        return turns(tx, datetime.now(UTC), of, last or {})


def callers(records: Records, tenant: str, number: int) -> list[Caller]:
    """So many sources of a tenant, each with two calls that are due."""
    made = [new_caller(records, "truthlocks", tenant=tenant) for _ in range(number)]
    for caller in made:
        caller.begin(due=True)
        caller.begin(due=True)
    return made


def ids(made: list[Caller]) -> list[str]:
    """Of their sources."""
    return [caller.party.source.id for caller in made]


def test_a_tenants_share(records: Records) -> None:
    """However many of its sources wait, and for however long, others have theirs; a source has one turn at a time."""
    many, few = callers(records, "default", OF_ONE_TENANT + 2), callers(records, "other", 2)

    first = begun(records, [])

    assert [turn.source_id for turn in first] == ids(many[:OF_ONE_TENANT] + few)
    assert [len(turn.calls) for turn in first] == [2] * len(first)
    assert [turn.source_id for turn in begun(records, many[1 : OF_ONE_TENANT + 1])] == ids(few)
    assert [turn.source_id for turn in begun(records, [*many[:1], *few])] == ids(many[1:OF_ONE_TENANT])


def test_all_shares_together(records: Records) -> None:
    """So many sources are asked at once and no more."""
    made = [callers(records, f"tenant-{number}", OF_ONE_TENANT) for number in range(AT_ONCE // OF_ONE_TENANT + 1)]

    assert len(begun(records, [])) == AT_ONCE
    assert begun(records, [caller for some in made[:-1] for caller in some]) == []


def test_those_come_first_whose_turn_was_longest_ago(records: Records) -> None:
    """So that sources which are never done with theirs have one like all others, and no more."""
    made = callers(records, "default", OF_ONE_TENANT + 1)
    last = {source_id: number for number, source_id in enumerate(ids(made[:-1]), 1)}

    assert [turn.source_id for turn in begun(records, [], last)] == ids(made[-1:] + made[: OF_ONE_TENANT - 1])


def test_a_tenant_whose_upstreams_do_not_answer(records: Records) -> None:
    """However many sources it has, another tenant's calls are looked at."""
    well = new_caller(records, "truthlocks", tenant="other")
    hung = [new_caller(records, "truthlocks") for _ in range(AT_ONCE + 1)]

    async def look() -> int:
        async with speaking(hanging) as nobody, speaking(saying(ACTIVE)) as there:
            well.moves(there.url)
            for caller in hung:
                caller.moves(nobody.url)
                caller.begin(due=True)
            async with looking(well):
                await until(lambda: len(nobody.came) >= OF_ONE_TENANT)
                prompt = well.begin(due=True)
                await until(lambda: well.call(prompt).outcome)
                return len(nobody.came)

    assert asyncio.run(look()) == OF_ONE_TENANT


def test_a_call_that_was_not_done_is_looked_at_twice_more(records: Records) -> None:
    """15 minutes later, and 6 hours after that; if it is so still, nothing is recorded."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin(due=True)

    async def look() -> list[timedelta | None]:
        after: list[timedelta | None] = []
        async with speaking(saying(ACTIVE)) as there:
            caller.moves(there.url)
            for looks in range(3):
                before = datetime.now(UTC)
                caller.set_call(attempt, next_at=format_time(before))
                async with looking(caller):
                    await until(lambda looks=looks: len(there.came) > looks and caller.call(attempt).outcome)
                    await until(lambda looks=looks: caller.call(attempt).looks == looks)
                next_at = caller.call(attempt).next_at
                after.append(None if next_at is None else parse_time(next_at) - before)
        return after

    first, second, third = asyncio.run(look())

    assert first is not None
    assert second is not None
    assert timedelta(minutes=15) <= first < timedelta(minutes=16)
    assert timedelta(hours=6) <= second < timedelta(hours=6, minutes=1)
    assert third is None
    assert (caller.call(attempt).outcome, len(caller.told())) == (Ended.NOT_DONE, 1)
    assert caller.wrong() == []


@pytest.mark.parametrize("looks", [0, 1])
def test_a_call_that_was_done_after_all(records: Records, looks: int) -> None:
    """A later look finds the event, and it is looked at no more."""
    caller = new_caller(records, "truthlocks")
    attempt = caller.begin()
    caller.settle_by(attempt, saying(ACTIVE))

    async def look() -> None:
        async with speaking(saying(record_of("truthlocks", revoked_at=None))) as there:
            caller.moves(there.url)
            caller.set_call(attempt, looks=looks, next_at=format_time(datetime.now(UTC)))
            async with looking(caller):
                await until(lambda: caller.call(attempt).outcome == Ended.RECORDED)

    asyncio.run(look())

    assert caller.call(attempt).next_at is None
    assert caller.wrong() == []
