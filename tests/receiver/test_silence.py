"""`receiver.assurance.silence`: a source that falls silent is told of once, and so is its end."""

from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from receiver.assurance.silence import Silence
from receiver.events import format_time, new_id
from receiver.intake import tallies
from receiver.intake.batch import write_batch
from receiver.intake.endpoints import Endpoints
from receiver.metrics import Metrics
from receiver.records.engine import Database
from receiver.records.heard import OUTAGE, note_heard, up_since
from receiver.records.opening import Records
from receiver.records.tables import deliveries, heard, processes, sources
from tests.receiver.service import Sender, Service, at_once, receipt_id, revoked, running, settings_in, until
from tests.receiver.submissions import Source, new_sources
from translog.evidence import Leaf

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
BEGINNING = datetime(2026, 11, 20, 9, tzinfo=UTC)


@dataclass
class World:
    """A receiver that has run since the beginning, a source of which something is expected every day, and a clock."""

    records: Records
    source: Source
    now: datetime = BEGINNING
    process: str = field(default_factory=new_id)

    @property
    def source_id(self) -> str:
        """The source's."""
        return self.source.endpoint.source.id

    def watch(self, *passed: timedelta) -> None:
        """Look after so much time has passed, while the receiver ran; once for each.

        A clock that leaps over hours is an outage to whoever looked before, so it is another one who looks.
        """
        for one in passed or (timedelta(),):
            self.now += one
            self.run(self.now)
            Silence(self.records).watch(self.now)

    def run(self, until: datetime, since: datetime = BEGINNING, process: str | None = None) -> None:
        """Have a receiver run from then to then."""
        name = process or self.process
        row = {"host": "h", "pid": 1, "started_at": format_time(since), "seen_at": format_time(until)}
        with self.records.database.write() as tx:
            if tx.execute(sa.update(processes).where(processes.c.id == name).values(**row)).rowcount == 0:
                tx.execute(sa.insert(processes).values(id=name, **row))

    def hear(self, source_id: str | None = None) -> None:
        """A delivery that leaves no row comes now, and is noted."""
        with self.records.database.write() as tx:
            note_heard(tx, {source_id or self.source_id: format_time(self.now)})

    def keep(self, body: bytes) -> None:
        """A delivery comes now, and is kept; it is not noted."""
        write_batch(self.records.database, [self.source.submission(body, self.now)])

    def set(self, **changes: Any) -> None:
        """Change the source."""
        with self.records.database.write() as tx:
            tx.execute(sa.update(sources).where(sources.c.id == self.source_id).values(**changes))

    def told(self) -> list[tuple[str, str]]:
        """What the log tells of silence: its state, and since when."""
        return [(str(leaf.facts["state"]), str(leaf.facts["since"])) for leaf in self.leaves()]

    def leaves(self) -> list[Leaf]:
        """The entries that tell of it."""
        return [leaf for leaf in self.source.leaves() if leaf.kind == "silence"]

    def silent_since(self) -> str | None:
        """What the source's row says."""
        with self.records.database.read() as tx:
            return tx.execute(sa.select(sources.c.silent_since).where(sources.c.id == self.source_id)).scalar_one()


@pytest.fixture
def world(records: Records) -> World:
    """Just begun: it was looked once, so the source is expected since then."""
    (source,) = new_sources(records, "default")
    world = World(records, source)
    world.set(expect_every=86_400)
    world.watch()
    return world


def moment(passed: timedelta) -> str:
    """So long after the beginning."""
    return format_time(BEGINNING + passed)


# ---- beginning and end ----------------------------------------------------------------------------------------------


def test_it_begins_once_and_ends_once(world: World) -> None:
    """After more than what is expected, however often one looks; with the next delivery."""
    world.watch(DAY)
    assert world.told() == []
    world.watch(timedelta(seconds=1), HOUR, DAY)
    assert world.told() == [("began", moment(timedelta()))]
    assert world.silent_since() == moment(timedelta())
    world.hear()
    world.watch(timedelta(seconds=5), HOUR)
    assert world.told() == [("began", moment(timedelta())), ("ended", moment(timedelta()))]
    assert world.silent_since() is None


def test_what_is_told(world: World) -> None:
    """Provider, source, state and since when; nothing else that is kept with it."""
    world.watch(2 * DAY)
    (leaf,) = world.leaves()

    assert leaf.facts == {
        "provider": "truthlocks",
        "since": moment(timedelta()),
        "source": world.source_id,
        "state": "began",
    }
    assert (leaf.event is not None, leaf.delivery) == (True, None)


def test_it_can_begin_again(world: World) -> None:
    """Each time since the last delivery before it."""
    world.watch(DAY + HOUR)
    world.hear()
    last = moment(DAY + HOUR)
    world.watch(HOUR, DAY)

    assert world.told() == [("began", moment(timedelta())), ("ended", moment(timedelta())), ("began", last)]


def test_deliveries_in_time_are_no_silence(world: World) -> None:
    """However close to the end of it."""
    for _ in range(5):
        world.watch(DAY - timedelta(seconds=1))
        world.hear()
    assert world.told() == []


def test_a_delivery_that_was_kept_but_not_noted_counts(world: World) -> None:
    """A receiver that was killed has not noted it; its row says when it came."""
    world.now += DAY
    world.keep(revoked(receipt_id()))
    world.watch(DAY)
    assert world.told() == []
    world.watch(HOUR)
    assert world.told() == [("began", moment(DAY))]
    world.keep(b"not even json")
    world.watch(timedelta(seconds=5))
    assert world.told()[1:] == [("ended", moment(DAY))]


def test_what_was_asked_for_or_read_again_does_not_count(world: World) -> None:
    """An answer to the operator's own call is no delivery."""
    world.now += DAY
    world.keep(revoked(receipt_id()))
    with world.records.database.write() as tx:
        tx.execute(sa.update(deliveries).values(via="relay"))
    world.watch(HOUR)

    assert world.told() == [("began", moment(timedelta()))]


# ---- what is expected -----------------------------------------------------------------------------------------------


def test_only_what_is_expected_can_be_silent(world: World) -> None:
    """A source without it, or a disabled one, may be quiet for ever."""
    world.set(expect_every=None)
    world.watch(3 * DAY)
    world.set(expect_every=86_400, enabled=False)
    world.watch(3 * DAY)
    assert world.told() == []


def test_it_is_expected_from_when_it_is_seen_to_be(world: World) -> None:
    """After it was enabled, or given its time, it has that time; what was before is not held against it."""
    world.set(enabled=False)
    world.watch(5 * DAY)
    world.set(enabled=True)
    world.watch(HOUR, DAY)
    assert world.told() == []
    world.watch(HOUR)
    assert world.told() == [("began", moment(5 * DAY + HOUR))]


@pytest.mark.parametrize("changes", [{"enabled": False}, {"expect_every": None}])
def test_a_source_that_is_not_expected_any_more_is_not_silent(world: World, changes: dict[str, Any]) -> None:
    """So each beginning has its end."""
    world.watch(2 * DAY)
    world.set(**changes)
    world.watch(timedelta(seconds=5), DAY)

    assert [state for state, _ in world.told()] == ["began", "ended"]
    assert world.silent_since() is None


def test_a_longer_time_is_waited_for(world: World) -> None:
    """What is expected may change; it does not begin anew with that."""
    world.set(expect_every=3 * 86_400)
    world.watch(2 * DAY)
    assert world.told() == []
    world.set(expect_every=3600)
    world.watch(timedelta(seconds=1))
    assert len(world.told()) == 1


def test_sources_are_silent_each_for_itself(world: World) -> None:
    """Of several, also of several tenants, each in its tenant's log."""
    others = new_sources(world.records, "default", "another")
    with world.records.database.write() as tx:
        tx.execute(sa.update(sources).values(expect_every=86_400))
    world.watch(HOUR)
    world.now += DAY
    world.hear()
    world.watch(HOUR)

    told = [leaf.facts["source"] for leaf in world.leaves()]
    theirs = [leaf.facts["source"] for leaf in others[1].leaves() if leaf.kind == "silence"]
    assert (told, theirs) == ([others[0].endpoint.source.id], [others[1].endpoint.source.id])


# ---- our own outage -------------------------------------------------------------------------------------------------


def test_an_outage_of_ours_is_no_silence_of_theirs(world: World) -> None:
    """A receiver that comes up after one waits as long as for a new source."""
    world.watch(HOUR)
    back = BEGINNING + 3 * DAY
    for later, number in ((timedelta(), 0), (DAY, 0), (DAY + timedelta(seconds=1), 1)):
        world.run(back + later, back, "another")
        Silence(world.records).watch(back + later)
        assert len(world.told()) == number


def test_short_breaks_do_not_count(world: World) -> None:
    """A version that is installed every hour changes nothing: the service was up all the time but for these."""
    for hour in range(26):
        began = BEGINNING + hour * HOUR + (OUTAGE if hour else timedelta())
        world.run(BEGINNING + (hour + 1) * HOUR, began, f"process {hour}")
        Silence(world.records).watch(BEGINNING + (hour + 1) * HOUR)

    assert world.told() == [("began", moment(timedelta()))]


def test_any_receiver_keeps_the_service_up(world: World) -> None:
    """One that runs on while another one comes and goes."""
    world.run(BEGINNING + 20 * HOUR, BEGINNING, "first")
    world.run(BEGINNING + 30 * HOUR, BEGINNING + 10 * HOUR, "second")
    with world.records.database.read() as tx:
        assert up_since(tx, BEGINNING + 30 * HOUR, 2 * DAY) == BEGINNING
        assert up_since(tx, BEGINNING + 40 * HOUR, 2 * DAY) == BEGINNING + 40 * HOUR, "nobody runs now"
    Silence(world.records).watch(BEGINNING + 30 * HOUR)
    assert len(world.told()) == 1


def test_a_database_that_was_away_is_an_outage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be kept meanwhile: whoever comes back to it waits anew, though its process ran on."""
    world.set(expect_every=600)
    silence, minute = Silence(world.records), timedelta(minutes=1)
    silence.watch(BEGINNING)
    with monkeypatch.context() as patch:
        patch.setattr(world.records, "database", Database("sqlite:////nowhere/at/all.db"))
        with pytest.raises(OperationalError):
            silence.watch(BEGINNING + 5 * minute)
    for passed in (11, 16, 21):
        world.run(BEGINNING + passed * minute)
        silence.watch(BEGINNING + passed * minute)
        assert world.told() == []
    silence.watch(BEGINNING + 22 * minute)
    assert len(world.told()) == 1


def test_two_receivers_tell_it_once(world: World) -> None:
    """Whoever is first has the lock; the other one finds it told."""
    world.now += 2 * DAY
    world.run(world.now)
    at_once(4, lambda _: Silence(world.records).watch(world.now))
    assert len(world.told()) == 1
    world.hear()
    at_once(4, lambda _: Silence(world.records).watch(world.now + HOUR))
    assert [state for state, _ in world.told()] == ["began", "ended"]


# ---- what is heard --------------------------------------------------------------------------------------------------


def last_heard(service: Service, sender: Sender) -> str:
    """When the service noted that it heard of a source last."""
    with service.records.database.read() as tx:
        its = sa.select(heard.c.at).where(heard.c.source_id == sender.source_id)
        return tx.execute(its).scalar_one_or_none() or ""


def test_whatever_is_authentic_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what leaves no row; what is not signed is no sign of life."""
    monkeypatch.setattr(tallies, "HEARTBEAT", 0.02)
    with running(settings_in(tmp_path)) as service:
        sender, forger = service.add_source(), service.add_source()
        assert forger.post(revoked(), {"webhook-signature": "v1,x"}).status_code == 401
        before, body, ignored = "", revoked(), b'{"event_type":"receipt.created"}'
        for sent, status in ((body, "recorded"), (body, "duplicate"), (ignored, "ignored"), (b"{", "quarantined")):
            assert sender.post(sent).json()["status"] == status
            until(lambda: last_heard(service, sender) > before)  # noqa: B023  (it is called before the next turn)
            before = last_heard(service, sender)
        assert before == sender.rows()[-1].received_at
        assert last_heard(service, forger) == ""


def test_what_was_heard_is_noted_at_the_end(tmp_path: Path) -> None:
    """A service that ends in order leaves nothing of it behind."""
    with running(settings_in(tmp_path)) as service:
        sender = service.add_source()
        sender.post(revoked())
        (row,) = sender.rows()
    with closing(Records.open(service.records.settings)) as records, records.database.read() as tx:
        assert tx.execute(sa.select(heard.c.at)).scalars().all() == [row.received_at]


def test_what_could_not_be_noted_is_noted_later(records: Records) -> None:
    """With what was heard since; a time that is noted never falls."""
    (source,) = new_sources(records, "default")
    its_id, endpoints = source.endpoint.source.id, Endpoints(records, Metrics())
    endpoints.hear(its_id, 100.0)
    taken = endpoints.take_heard()
    endpoints.put_heard(taken)
    endpoints.hear(its_id, 200.0)
    endpoints.put_heard({its_id: 150.0})
    assert endpoints.take_heard() == {its_id: 200.0}
    assert endpoints.take_heard() == {}
    with records.database.write() as tx:
        note_heard(tx, {its_id: moment(HOUR)})
        note_heard(tx, {its_id: moment(timedelta())})
        assert tx.execute(sa.select(heard.c.at)).scalar_one() == moment(HOUR)
