"""One batch in one transaction: what is known is found, the rest judged and written, as if they had come one by one."""

import itertools
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from receiver.events import format_time, new_id
from receiver.intake.batch import write_batch
from receiver.intake.submission import Outcome, Status
from receiver.records.opening import Records
from receiver.records.tables import deliveries
from tests.receiver.service import revoked
from tests.receiver.submissions import RECEIVED_AT, Source, altered, new_sources
from translog.errors import LogRegressed
from translog.merkle import leaf_hash
from translog.store import entries, logs

_tenants = (f"tenant-{number}" for number in itertools.count(1))


@pytest.fixture
def source(records: Records) -> Source:
    """A source of the tenant `default`."""
    return new_sources(records, "default")[0]


def statuses(outcomes: Sequence[Outcome]) -> list[tuple[str, bool]]:
    """What became of each, and whether anything was written for it."""
    return [(outcome.status.value, outcome.new) for outcome in outcomes]


def test_a_batch_of_everything(source: Source) -> None:
    """Each outcome names the entry that tells of it, at the index and with the leaf hash that it has."""
    outcomes = source.write(revoked("a"), b"{", revoked("b"), revoked("a", note="x"), b'{"event_type":"?"}')

    assert statuses(outcomes) == [
        ("recorded", True),
        ("quarantined", True),
        ("recorded", True),
        ("mismatch", True),
        ("quarantined", True),
    ]
    rows, leaves = source.rows(), source.leaves()
    first = outcomes[0].log_index
    assert [outcome.log_index for outcome in outcomes] == list(range(first, first + 5))
    assert [row.log_index for row in rows] == list(range(first, first + 5))
    assert [outcome.leaf_hash for outcome in outcomes] == [leaf_hash(leaf.encode()) for leaf in leaves[first:]]
    assert [leaf.id for leaf in leaves[first:]] == [row.id for row in rows]
    assert [outcome.id for outcome in outcomes] == [rows[0].id, rows[1].id, rows[2].id, rows[0].id, rows[4].id]
    assert [outcome.reason for outcome in outcomes] == [None, "not_json", None, "content_differs", "unknown_type"]
    assert {row.logged_at for row in rows} == {leaf.logged_at for leaf in leaves[first:]}
    assert rows[0].received_at == "2026-11-20T09:00:00.000000Z"


def test_duplicates_within_a_batch(source: Source) -> None:
    """Written once; all name the first, and only one of them is new."""
    outcomes = source.write(*[revoked("a")] * 3, b"{", b"{", *[revoked("a")] * 2)

    assert statuses(outcomes) == [
        ("recorded", True),
        ("duplicate", False),
        ("duplicate", False),
        ("quarantined", True),
        ("quarantined", False),
        ("duplicate", False),
        ("duplicate", False),
    ]
    assert len(source.rows()) == 2
    assert len({(outcome.id, outcome.log_index, outcome.leaf_hash) for outcome in outcomes}) == 2


def test_mismatches_within_a_batch(source: Source) -> None:
    """Of one that is in it, and of one another; each different content is kept once."""
    bodies = [revoked("a"), revoked("a", n=1), revoked("a", n=2), revoked("a", n=1), revoked("a")]
    outcomes = source.write(*bodies)

    assert statuses(outcomes) == [
        ("recorded", True),
        ("mismatch", True),
        ("mismatch", True),
        ("mismatch", False),
        ("duplicate", False),
    ]
    assert {outcome.id for outcome in outcomes} == {source.rows()[0].id}
    assert outcomes[3] == altered(outcomes[1], new=False)
    assert [(row.kind, row.first_id) for row in source.rows()] == [
        ("revocation", None),
        ("mismatch", outcomes[0].id),
        ("mismatch", outcomes[0].id),
    ]


def test_what_earlier_batches_wrote_is_known(source: Source) -> None:
    """Event, mismatch and quarantine alike, with the outcome that they had."""
    bodies = [revoked("a"), revoked("a", n=1), b"{"]
    first = source.write(*bodies)

    again = source.write(*reversed(bodies))

    expected = [altered(outcome, new=False) for outcome in reversed(first)]
    assert again == [*expected[:2], altered(expected[2], status=Status.DUPLICATE)]
    assert len(source.rows()) == 3


def test_rules_see_earlier_events_of_the_same_batch(source: Source) -> None:
    """As they see those of earlier batches, in order; of other items they see nothing."""
    times = ["2026-11-20T08:00:00Z", "2026-11-20T08:00:01Z", "2026-11-20T08:00:02Z"]
    first, *_ = source.write(revoked("a", revoked_at=times[0]), revoked("b", revoked_at=times[1]))
    source.write(
        revoked("a", revoked_at=times[1]), revoked("a", revoked_at=times[2]), revoked("b", revoked_at=times[1])
    )

    breaches = [leaf.facts["breaches"] for leaf in source.leaves() if leaf.kind == "revocation"]
    assert breaches == [
        ["id_not_uuid"],
        ["id_not_uuid"],
        ["id_not_uuid", "revoked_again"],
        ["id_not_uuid", "revoked_again"],
    ]
    again = [row.breaches for row in source.rows() if row.breaches and "revoked_again" in row.breaches]
    assert all(f"by entry {first.log_index} of the log" in text for text in again)


def test_rules_see_events_of_other_sources_of_the_tenant(records: Records) -> None:
    """An item is taken back once, by whichever source that was told; another tenant's events are not seen."""
    one, two, elsewhere = new_sources(records, "default", "default", "elsewhere")
    one.write(revoked("a", revoked_at="2026-11-20T08:00:00Z"))
    batch = [source.submission(revoked("a", revoked_at="2026-11-20T08:00:01Z")) for source in (two, elsewhere)]
    write_batch(records.database, batch)

    assert [leaf.facts["breaches"] for leaf in two.leaves()[-1:]] == [["id_not_uuid", "revoked_again"]]
    assert [leaf.facts["breaches"] for leaf in elsewhere.leaves()[-1:]] == [["id_not_uuid"]]


def test_several_tenants_in_one_batch(records: Records) -> None:
    """Each gets its own in its own log, densely, in the order in which they came; the answers are in that order too."""
    sources = new_sources(records, "a", "b", "c")
    sizes = [len(source.leaves()) for source in sources]
    order = [0, 2, 1, 1, 0, 2, 2, 0]
    batch = [sources[which].submission(revoked(f"r{place}")) for place, which in enumerate(order)]

    outcomes = write_batch(records.database, batch)

    for which, source in enumerate(sources):
        mine = [outcome for outcome, at in zip(outcomes, order, strict=True) if at == which]
        assert [outcome.log_index for outcome in mine] == list(range(sizes[which], sizes[which] + len(mine)))
        assert [row.id for row in source.rows()] == [outcome.id for outcome in mine]
        assert [leaf.id for leaf in source.leaves()[sizes[which] :]] == [outcome.id for outcome in mine]


def test_the_same_notice_to_two_tenants_is_two_events(records: Records) -> None:
    """Tenants share nothing, not even a key to tell duplicates by."""
    one, two = new_sources(records, "one", "two")
    body = revoked("a")

    outcomes = write_batch(records.database, [one.submission(body), two.submission(body)])

    assert statuses(outcomes) == [("recorded", True), ("recorded", True)]
    assert one.rows()[0].dedupe_key != two.rows()[0].dedupe_key
    assert one.rows()[0].digest != two.rows()[0].digest
    assert one.rows()[0].item_key != two.rows()[0].item_key


def test_an_empty_history_after_erasure(source: Source) -> None:
    """An erased event no longer says anything to a rule, and its replay still brings nothing back."""
    first, second = revoked("a", revoked_at="2026-11-20T08:00:00Z"), revoked("a", revoked_at="2026-11-20T08:00:01Z")
    source.write(first)
    gone = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    with source.records.database.write() as tx:
        tx.execute(sa.update(deliveries).values(**gone))

    assert statuses(source.write(first, second)) == [("duplicate", False), ("recorded", True)]
    assert [leaf.facts["breaches"] for leaf in source.leaves()[-1:]] == [["id_not_uuid"]]
    assert source.rows()[0].body is None


def test_a_batch_that_fails_leaves_nothing(source: Source) -> None:
    """No row, no entry, no hole; the next one goes on as if it had not been."""
    poisoned = altered(source.submission(revoked("p")), source_id=new_id())  # of a source that is not there
    size = len(source.leaves())

    with pytest.raises((IntegrityError, sqlite3.IntegrityError)):
        write_batch(source.records.database, [source.submission(revoked("a")), poisoned])

    assert (source.rows(), len(source.leaves())) == ([], size)
    assert [outcome.log_index for outcome in source.write(revoked("a"))] == [size]


def test_a_log_that_regressed_is_not_written_to(source: Source) -> None:
    """Whoever has seen more refuses to go on from less."""
    source.write(revoked("a"), revoked("b"))
    with source.records.database.write() as tx:
        tx.execute(sa.update(logs).where(logs.c.id == source.log_id).values(size=1))
    with source.records.database.read() as tx:
        count = sa.select(sa.func.count()).select_from(entries).where(entries.c.log_id == source.log_id)
        before = tx.execute(count).scalar_one()

    with pytest.raises(LogRegressed):
        source.write(revoked("c"))

    with source.records.database.read() as tx:
        assert tx.execute(count).scalar_one() == before
    assert [row.kind for row in source.rows()] == ["revocation", "revocation"]


def test_times_in_the_log_never_fall(source: Source) -> None:
    """Where the clock stands behind the last entry, the new one has the last one's time."""
    ahead = "2999-01-01T00:00:00.000000Z"
    with source.records.database.write() as tx:
        tx.execute(sa.update(logs).where(logs.c.id == source.log_id).values(logged_at=ahead))

    source.write(revoked("a"))

    assert source.leaves()[-1].logged_at == ahead


def test_nothing_is_logged_before_it_was_received(source: Source) -> None:
    """Where the clock was set back meanwhile, a batch has the time of what was received last; so has the next one."""
    at, last = RECEIVED_AT.replace(year=2999), RECEIVED_AT.replace(year=2999, second=1)
    write_batch(source.records.database, [source.submission(revoked("a"), last), source.submission(revoked("b"), at)])
    source.write(revoked("c"))

    assert [leaf.logged_at for leaf in source.leaves()[-3:]] == [format_time(last)] * 3
    assert [row.received_at for row in source.rows()] == [format_time(one) for one in (last, at, RECEIVED_AT)]


def test_five_hundred_at_once(source: Source) -> None:
    """The largest batch, over the edge of a tile."""
    outcomes = source.write(*(revoked(f"r{number}") for number in range(512)))

    assert statuses(outcomes) == [("recorded", True)] * 512
    assert [row.id for row in source.rows()] == [outcome.id for outcome in outcomes]
    assert len(source.leaves()) == outcomes[-1].log_index + 1


# ---- split as you like --------------------------------------------------------------------------------------------


class Notice(NamedTuple):
    """A delivery of few possible ones, so that many are alike."""

    item: str
    hour: int
    note: int

    def body(self) -> bytes:
        """As it is sent."""
        if self.item == "?":
            return b"{" * (1 + self.note)
        return revoked(self.item, revoked_at=f"2026-11-20T0{self.hour}:00:00Z", note=self.note)


def told(source: Source, outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    """All that does not differ by chance: outcomes, rows and leaves, ids replaced by the indexes of their rows."""
    rows = source.rows()
    places: dict[str | None, int] = {row.id: row.log_index for row in rows}
    leaves = {leaf.id: leaf for leaf in source.leaves()}
    return [
        *((one.status, places[one.id], one.log_index, one.reason, one.new) for one in outcomes),
        *((row.kind, row.log_index, row.event, row.effect, row.reason, row.body, row.breaches) for row in rows),
        *((row.event_data, row.received_at, places.get(row.first_id), leaves[row.id].kind) for row in rows),
    ]


@given(
    notices=st.lists(
        st.builds(Notice, st.sampled_from(["a", "b", "?"]), st.integers(0, 1), st.integers(0, 1)),
        min_size=1,
        max_size=12,
    ),
    cuts=st.sets(st.integers(1, 11)),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_they_are_split_it_is_the_same(records: Records, notices: list[Notice], cuts: set[int]) -> None:
    """Any deliveries in any batches give the same outcomes, rows and leaves as one by one."""
    alone, together = new_sources(records, next(_tenants), next(_tenants))
    places = [0, *sorted(cut for cut in cuts if cut < len(notices)), len(notices)]

    one_by_one = [outcome for notice in notices for outcome in alone.write(notice.body())]
    in_batches = [
        outcome
        for start, end in itertools.pairwise(places)
        for outcome in together.write(*(notice.body() for notice in notices[start:end]))
    ]

    assert told(together, in_batches) == told(alone, one_by_one)
    assert RECEIVED_AT.isoformat()[:19] == together.rows()[0].received_at[:19]
