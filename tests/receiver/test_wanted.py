"""Whose entries of a log are kept: what sources want together, and what is found for whom."""

import json

from hypothesis import given
from hypothesis import strategies as st

from receiver.assurance.wanted import Reading, Wanted
from receiver.records.issuer_logs import Naming
from tests.receiver.issuing import ACCOUNT, OTHER, entry

ACCOUNTS = st.sampled_from([ACCOUNT, OTHER, None])


def naming(
    tenant_id: int = 1, provider: str = "truthlocks", account: str | None = ACCOUNT, *, exclusive: bool = False
) -> Naming:
    """A source that names the log."""
    return Naming("s", tenant_id, provider, account, exclusive=exclusive, grace=60, follow_every=10, starts_at=None)


NAMINGS = st.lists(
    st.builds(naming, st.integers(1, 3), st.sampled_from(["truthlocks", "scrip"]), ACCOUNTS, exclusive=st.booleans()),
    max_size=5,
)


def test_what_is_wanted_is_written_in_one_way() -> None:
    """Whatever the order of the sources; what is wanted of every account is not said of one as well."""
    sources = [naming(2), naming(), naming(), naming(account=OTHER), naming(2, account=None), naming(3, "scrip")]

    written = Wanted.by(sources).encode()

    assert json.loads(written) == [
        [1, "truthlocks", OTHER],
        [1, "truthlocks", ACCOUNT],
        [2, "truthlocks", "*"],
        [3, "scrip", ACCOUNT],
    ]
    assert Wanted.by(sources[::-1]).encode() == written
    assert Wanted.parse(written) == Wanted.by(sources)


@given(NAMINGS, NAMINGS)
def test_more_is_wanted_if_an_entry_can_be_found_that_was_not(some: list[Naming], others: list[Naming]) -> None:
    """What covers another finds all that it finds."""
    one, other = Wanted.by(some), Wanted.by(others)
    accounts = (ACCOUNT, OTHER, "somebody else's", None)
    entries = [entry(account, provider) for provider in ("truthlocks", "scrip") for account in accounts]

    def found(wanted: Wanted) -> set[tuple[int, int]]:
        return {(one.index, tenant) for one in wanted.read(0, entries)[0] for tenant in one.tenants}

    assert one.covers(other) == (found(other) <= found(one))


# ---- what it is read for --------------------------------------------------------------------------------------------


@given(NAMINGS, NAMINGS, NAMINGS)
def test_what_a_log_is_read_for_is_noted(some: list[Naming], others: list[Naming], third: list[Naming]) -> None:
    """Written and read it is the same; and as long as the log is read again, nothing changes it but its end."""
    one, other = Wanted.by(some), Wanted.by(others)
    settled = Reading(one, one).settle(other)

    assert Reading.parse(settled.encode()) == settled
    assert settled.now == other
    assert settled.is_again == (not one.covers(other))
    assert settled.end() == Reading(other, other)
    if settled.is_again:
        assert settled.settle(Wanted.by(third)) == settled


@given(NAMINGS, NAMINGS, NAMINGS)
def test_what_is_kept_for_a_source_that_stays_is_still_kept(
    some: list[Naming], others: list[Naming], stays: list[Naming]
) -> None:
    """Whatever else is wanted now; and nothing is taken for kept that was not, or that is kept no more."""
    before, after, its = Wanted.by(some), Wanted.by(others), Wanted.by(stays)

    kept = Reading(before, before).settle(after).kept

    assert kept.covers(its) == (before.covers(its) and after.covers(its))


def test_a_log_that_was_never_read_is_kept_for_nobody() -> None:
    """As its row begins."""
    assert Reading.parse("[]") == Reading(Wanted.by([]), Wanted.by([]))


# ---- what is found --------------------------------------------------------------------------------------------------


@given(NAMINGS, ACCOUNTS, st.sampled_from(["truthlocks", "scrip", "thanx"]))
def test_an_entry_is_found_for_whom_it_may_concern(some: list[Naming], account: str | None, provider: str) -> None:
    """The accounts are equal, or one of the two has none, or the source is exclusive."""
    concerned = {
        one.tenant_id
        for one in some
        if one.provider == provider and (one.exclusive or None in {account, one.account} or account == one.account)
    }
    data = entry(account, provider)

    found, unreadable = Wanted.by(some).read(7, [b"no entry", data])

    assert [(one.index, one.entry, one.provider, one.tenants) for one in found] == (
        [(8, data, provider, tuple(sorted(concerned)))] if concerned else []
    )
    assert unreadable == []


def test_what_cannot_be_read_is_told_of_wanted_providers() -> None:
    """An entry of another one is none of our business, whatever it is."""
    entries = [entry(effect="vanished"), entry(provider="scrip", effect="vanished"), entry(provider="thanx", item=7)]

    found, unreadable = Wanted.by([naming(), naming(provider="thanx")]).read(40, entries)

    assert found == []
    assert [one.index for one in unreadable] == [40, 42]
    assert all(one.why for one in unreadable)
