"""Probes: deliveries that a source refused are held for a while, few of them, encrypted, and deleted with the probe."""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
import sqlalchemy as sa

import receiver.intake.service
from receiver.events import format_time
from receiver.intake.endpoints import Probe
from receiver.records.opening import Records, RecordsError
from receiver.records.probes import (
    MAX_HEADERS,
    MAX_HELD,
    Delivery,
    begin_probe,
    end_probe,
    held_deliveries,
    hold,
    load_probes,
    sweep_probes,
)
from receiver.records.sources import NewSource, add_source
from receiver.records.tables import held, probes
from receiver.records.vault import VaultError
from receiver.settings import Settings
from tests.receiver.service import Sender, Service, at_once, encoded, problem, revoked, until

DELIVERY = Delivery(1_795_165_200.5, ((b"x-sig", b"\xffsigned"), (b"x-sig", b"twice")), b"\x00 not\nread {")
WRONG = {"webhook-signature": "v1,AAAA"}


@pytest.fixture
def source_id(records: Records) -> str:
    """A source of the tenant `default`."""
    return another_source(records, "shop")


def another_source(records: Records, name: str) -> str:
    """One more."""
    new = NewSource(name, "truthlocks", "token", {"header": "x-token"})
    return add_source(records, records.tenant("default"), new, f"the secret of {name}")


def runs_out(records: Records, source_id: str, ago: timedelta = timedelta(seconds=1)) -> None:
    """Have the time of the source's probe be over, since then."""
    moment = format_time(datetime.now(UTC) - ago)
    with records.database.write() as tx:
        tx.execute(sa.update(probes).where(probes.c.source_id == source_id).values(until=moment))


def rows(records: Records, source_id: str) -> tuple[int, int]:
    """How many rows of probes and of held deliveries there are for the source."""
    with records.database.read() as tx:
        counts = [
            tx.execute(sa.select(sa.func.count()).select_from(table).where(table.c.source_id == source_id)).scalar_one()
            for table in (probes, held)
        ]
    return counts[0], counts[1]


# ---- the records --------------------------------------------------------------------------------------------------


def test_what_is_held_comes_back_byte_for_byte(records: Records, source_id: str) -> None:
    """For this source's probe, and without those that are known already."""
    other = another_source(records, "other")
    begin_probe(records, source_id, 60)

    assert hold(records, source_id, DELIVERY)
    (first,) = held_deliveries(records, source_id).items()
    assert hold(records, source_id, Delivery(0.0, (), b""))

    assert first[1] == DELIVERY
    assert list(held_deliveries(records, source_id).values()) == [DELIVERY, Delivery(0.0, (), b"")]
    assert list(held_deliveries(records, source_id, but={first[0]}).values()) == [Delivery(0.0, (), b"")]
    assert held_deliveries(records, other) == {}


def test_it_is_held_encrypted(records: Records, source_id: str) -> None:
    """Under the data key, and for its own row: moved to another, it does not open."""
    begin_probe(records, source_id, 60)
    hold(records, source_id, DELIVERY)

    with records.database.read() as tx:
        stored = bytes(tx.execute(sa.select(held.c.delivery)).scalar_one())
    assert not [part for part in (b"x-sig", b"signed", b"twice", b"not", b"read") if part in stored]
    with records.database.write() as tx:
        tx.execute(sa.update(held).values(id="another"))
    with pytest.raises(VaultError, match="held/another does not open with this data key"):
        held_deliveries(records, source_id)


def test_without_a_probe_nothing_is_held(records: Records, source_id: str) -> None:
    """Nor for another source, nor once its time is over, nor after its end."""
    assert not hold(records, source_id, DELIVERY)
    end = begin_probe(records, source_id, 60)
    assert not hold(records, another_source(records, "other"), DELIVERY)
    end_probe(records, source_id, end)
    assert not hold(records, source_id, DELIVERY)
    begin_probe(records, source_id, 60)
    runs_out(records, source_id)
    assert not hold(records, source_id, DELIVERY)
    assert rows(records, source_id) == (1, 0)


def test_at_most_twenty_are_held_by_all_receivers_together(
    records: Records, settings: Settings, source_id: str
) -> None:
    """However many come at once."""
    begin_probe(records, source_id, 60)
    second = Records.open(settings)

    done = at_once(8, lambda number: [hold((records, second)[number % 2], source_id, DELIVERY) for _ in range(4)])

    second.close()
    assert MAX_HELD == 20
    assert sum(map(sum, done)) == 20
    assert rows(records, source_id) == (1, 20)
    assert not hold(records, source_id, DELIVERY)


def test_headers_beyond_the_limit_are_left_out(records: Records, source_id: str) -> None:
    """Those that fit are held whole."""
    begin_probe(records, source_id, 60)
    fits = ((b"x-first", b"1"), (b"x-long", b"y" * (MAX_HEADERS - 14)))
    hold(records, source_id, Delivery(0.0, (*fits, (b"z", b"")), b""))

    (kept,) = held_deliveries(records, source_id).values()
    assert kept.headers == fits


def test_the_end_deletes_all_of_it(records: Records, source_id: str) -> None:
    """And nothing of another source's; ended again, nothing happens."""
    other = another_source(records, "other")
    end = begin_probe(records, source_id, 60)
    begin_probe(records, other, 60)
    for one in (source_id, other):
        hold(records, one, DELIVERY)

    for _ in range(2):
        end_probe(records, source_id, end)

    assert (rows(records, source_id), rows(records, other)) == ((0, 0), (1, 1))


def test_a_later_probe_is_left_alone(records: Records, source_id: str) -> None:
    """By the end of an earlier one whose time was over when the later one began."""
    begin_probe(records, source_id, 60)
    hold(records, source_id, DELIVERY)
    runs_out(records, source_id)
    later = begin_probe(records, source_id, 60)
    assert rows(records, source_id) == (1, 0)
    hold(records, source_id, DELIVERY)

    end_probe(records, source_id, later - timedelta(seconds=30))

    assert rows(records, source_id) == (1, 1)


def test_one_probe_of_a_source_at_a_time(records: Records, source_id: str) -> None:
    """The second is refused and says until when; the first goes on. Another source can be probed meanwhile."""
    end = begin_probe(records, source_id, 3600)

    with pytest.raises(RecordsError, match=f"is being probed already, until {format_time(end)}; one probe of a source"):
        begin_probe(records, source_id, 7200)

    other = another_source(records, "other")
    others = begin_probe(records, other, 60)
    assert load_probes(records) == {source_id: end, other: others}
    assert timedelta(seconds=3590) < end - datetime.now(UTC) <= timedelta(seconds=3600)


def test_what_has_run_out_is_swept(records: Records, source_id: str) -> None:
    """Probe and all that was held; one that is on is not."""
    other = another_source(records, "other")
    for one in (source_id, other):
        begin_probe(records, one, 60)
        hold(records, one, DELIVERY)
    runs_out(records, source_id)

    at_once(4, lambda _: sweep_probes(records))

    assert (rows(records, source_id), rows(records, other)) == ((0, 0), (1, 1))


# ---- the service --------------------------------------------------------------------------------------------------


@pytest.fixture
def probed(service: Service, sender: Sender) -> Generator[Sender]:
    """A source that is being probed, which the service knows."""
    end = begin_probe(service.records, sender.source_id, 3600)
    service.refresh()
    yield sender
    end_probe(service.records, sender.source_id, end)
    service.refresh()


def refused(sender: Sender, body: bytes = b"{ not read", **headers: str) -> httpx2.Response:
    """A delivery that is not authentic."""
    answer = sender.post(body, headers={**WRONG, **headers})
    assert answer.status_code == 401
    return answer


def test_a_refused_delivery_is_held(service: Service, probed: Sender) -> None:
    """Whole, with every header it came with, and counted as ever; nothing of it is in the log."""
    size = service.size()
    body = bytes(range(256))

    answer = refused(probed, body, **{"X-Provider-Signature": "ab" * 32})

    (kept,) = held_deliveries(service.records, probed.source_id).values()
    assert kept.body == body
    assert dict(kept.headers)[b"x-provider-signature"] == b"ab" * 32
    assert dict(kept.headers)[b"webhook-signature"] == b"v1,AAAA"
    assert dict(kept.headers)[b"host"] == f"127.0.0.1:{service.port}".encode()
    assert problem(answer)["details"] == {"reason": "malformed_signature"}
    assert (probed.counts(), probed.rows(), service.size()) == ({"refused:malformed_signature": 1}, [], size)


def test_its_answer_is_the_same_as_ever(service: Service, probed: Sender) -> None:
    """To the byte: nobody learns that a probe is on."""
    other = service.add_source()

    one, two = refused(probed), refused(other)

    assert (one.content, list(one.headers.multi_items())) == (two.content, list(two.headers.multi_items()))
    assert (rows(service.records, probed.source_id), rows(service.records, other.source_id)) == ((1, 1), (0, 0))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [({}, "missing_signature"), (WRONG, "malformed_signature"), ({"webhook-id": "other"}, "wrong_signature")],
)
def test_whatever_it_was_refused_for(service: Service, probed: Sender, headers: dict[str, str], reason: str) -> None:
    """As long as it was not authentic."""
    body = revoked()
    signed = {**probed.headers(body), **headers} if headers else {}

    answer = service.client.post(probed.path, content=body, headers=encoded(signed))

    assert problem(answer)["details"] == {"reason": reason}
    assert len(held_deliveries(service.records, probed.source_id)) == 1


def test_what_is_authentic_is_not_held(service: Service, probed: Sender) -> None:
    """Neither what is recorded nor what was signed too long ago: its scheme is known."""
    assert probed.post(revoked()).json()["status"] == "recorded"
    assert problem(probed.post(revoked(), at=1_795_165_200))["details"] == {"reason": "stale"}

    assert held_deliveries(service.records, probed.source_id) == {}


def test_once_twenty_are_held_refusals_need_no_database(
    service: Service, probed: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while it is away."""
    monkeypatch.setattr(receiver.intake.service, "HOLDING", 3600)
    at_once(8, lambda _: [refused(probed) for _ in range(4)])
    assert rows(service.records, probed.source_id) == (1, 20)

    with service.records.database.write():
        refused(probed)

    assert probed.counts() == {"refused:malformed_signature": 33}


def test_a_probe_that_is_full_is_asked_no_more(service: Service, probed: Sender) -> None:
    """Though others filled it."""
    for _ in range(20):
        hold(service.records, probed.source_id, DELIVERY)

    refused(probed)

    assert probed.endpoint.probe is not None
    assert probed.endpoint.probe.left == 0
    assert rows(service.records, probed.source_id) == (1, 20)


def test_a_delivery_that_cannot_be_held(
    service: Service, probed: Sender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Is answered as ever while the database is away, and said with nothing of its content."""
    monkeypatch.setattr(receiver.intake.service, "HOLDING", 0.05)

    with service.records.database.write():
        answer = refused(probed, b"private", **{"x-private": "private"})

    assert problem(answer)["details"] == {"reason": "malformed_signature"}
    said = f"a refusal of source {probed.source_id} is not held for its probe: TimeoutError"
    messages = [record.getMessage() for record in caplog.records if record.name == "receiver.intake.service"]
    assert messages == [said]


def test_a_probe_whose_time_is_over_takes_no_more() -> None:
    """Before it is swept, too, and without a look at the database."""
    probe = Probe(datetime.now(UTC))
    end = probe.until.timestamp()

    assert [probe.takes(end), probe.takes(end + 1), probe.takes(end - 1)] == [False, False, True]
    assert probe.left == 19


def test_a_change_of_the_source_does_not_begin_the_count_anew(service: Service, probed: Sender) -> None:
    """The probe goes on; the next one has a count of its own."""
    refused(probed)
    add_source(service.records, service.tenant, NewSource("any", "truthlocks", "token", {"header": "x"}), "any secret")
    service.refresh()

    assert probed.endpoint.probe is not None
    assert probed.endpoint.probe.left == 19
    end_probe(service.records, probed.source_id, probed.endpoint.probe.until)
    end = begin_probe(service.records, probed.source_id, 60)
    service.refresh()
    assert probed.endpoint.probe is not None
    assert (probed.endpoint.probe.until, probed.endpoint.probe.left) == (end, 20)
    end_probe(service.records, probed.source_id, end)


def test_a_running_service_learns_of_a_probe_and_of_its_end(either_service: Service, either_sender: Sender) -> None:
    """By itself, as of everything that another process changes; from then on nothing more is held."""
    end = begin_probe(either_service.records, either_sender.source_id, 3600)
    until(lambda: either_sender.endpoint.probe is not None)
    refused(either_sender)
    assert rows(either_service.records, either_sender.source_id) == (1, 1)

    end_probe(either_service.records, either_sender.source_id, end)
    until(lambda: either_sender.endpoint.probe is None)
    refused(either_sender)
    assert rows(either_service.records, either_sender.source_id) == (0, 0)


def test_a_running_service_sweeps_what_a_killed_command_left(either_service: Service, either_sender: Sender) -> None:
    """Once its time is over."""
    begin_probe(either_service.records, either_sender.source_id, 3600)
    either_service.refresh()
    refused(either_sender)
    assert rows(either_service.records, either_sender.source_id) == (1, 1)

    runs_out(either_service.records, either_sender.source_id)

    until(lambda: rows(either_service.records, either_sender.source_id) == (0, 0))
