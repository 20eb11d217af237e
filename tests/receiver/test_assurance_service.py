"""Assurance in the running service: logs are followed, events checked, and those on call told, without being asked."""

import asyncio
import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from receiver.assurance import service as module
from receiver.events import Kind
from receiver.records.tables import checks, findings, issuer_logs
from tests.receiver.issuing import LOG_KEY, OTHER, entry, kept, log_of, name_log, row
from tests.receiver.service import REVOKED_AT, Sender, Service, receipt_id, revoked, running, settings_in, until
from tests.translog.misbehaving import Say, Server, serving, status

ORIGIN = LOG_KEY.name
QUICKLY = {"grace": 1, "follow_every": 1}


def told_of(receipt: str) -> bytes:
    """The entry of a receipt's revocation that is delivered as `revoked(receipt)`."""
    return entry(item={"id": receipt, "type": "receipt"}, operation=receipt, at=REVOKED_AT)


def state_of(service: Service, event_id: str) -> str | None:
    """What is known of an event."""
    with service.records.database.read() as tx:
        return tx.execute(sa.select(checks.c.state).where(checks.c.event_id == event_id)).scalar_one_or_none()


def findings_of(service: Service, kind: Kind) -> list[str]:
    """The states of what was found of a kind, in order."""
    query = sa.select(findings.c.state).where(findings.c.kind == kind.value).order_by(findings.c.log_index)
    with service.records.database.read() as tx:
        return list(tx.execute(query).scalars())


def metrics(service: Service) -> dict[tuple[str, ...], float]:
    """What Prometheus is told, by name and labels."""
    text = service.client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def word(service: Service) -> str:
    """What readiness says of issuers' logs; it is ready all the same."""
    answer = service.client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    said: str = answer.json()["issuer_logs"]
    return said


def test_events_are_checked_as_they_come(either_service: Service) -> None:
    """One that is in the log is confirmed, one that is not is absent; an entry that was never delivered is a gap."""
    service = either_service
    confirmed, announced_late, never = receipt_id(), receipt_id(), receipt_id()
    with serving(log_of(told_of(confirmed), told_of(announced_late), told_of(never), entry(account=OTHER))) as server:
        sender = service.add_source()
        log_id = name_log(service.records, sender.source_id, server, issuer_log_from=0, **QUICKLY)
        until(lambda: row(service.records, log_id).complete_at)
        first = sender.post(revoked(confirmed)).json()["event_id"]
        forged = sender.post(revoked()).json()["event_id"]
        until(lambda: (state_of(service, first), state_of(service, forged)) == ("confirmed", "absent"))
        until(lambda: findings_of(service, Kind.GAP) == ["open", "open"])
        sender.post(revoked(announced_late))
        until(lambda: findings_of(service, Kind.GAP) == ["open", "open", "announced"])

        assert [one.place for one in kept(service.records) if one.issuer_log_id == log_id] == [0, 1, 2]
        until(lambda: metrics(service)["rescind_gaps_open", "default"] == 1)
        found = metrics(service)
        assert found["rescind_issuer_log_size", ORIGIN] == found["rescind_issuer_log_next_index", ORIGIN] == 4
        assert found["rescind_issuer_log_forked", ORIGIN] == found["rescind_issuer_log_stale_seconds", ORIGIN] == 0
        assert found["rescind_issuer_log_unreadable", ORIGIN] == 0
        assert (found["rescind_cross_checks", "confirmed"], found["rescind_cross_checks", "absent"]) == (2, 1)
        assert word(service) == "ok"
        name_log(service.records, sender.source_id, server, enabled=False)


def following(service: Service, server: Server, tenant: str = "default", **settings: object) -> tuple[Sender, str]:
    """A source that names a server's log, of which everything is read; the log's id."""
    sender = service.add_source(tenant)
    log_id = name_log(service.records, sender.source_id, server, issuer_log_from=0, **{**QUICKLY, **settings})
    until(lambda: row(service.records, log_id).complete_at)
    return sender, log_id


def test_a_forked_log_is_told_of_and_freezes_its_cross_checks(tmp_path: Path) -> None:
    """Deliveries are taken as before, and readiness is not what it changes; nothing of the log counts any more."""
    receipt = receipt_id()
    log = log_of(entry(), entry())
    with serving(log) as server, running(settings_in(tmp_path)) as service:
        sender, log_id = following(service, server)
        server.log = log_of(entry(), log.entries[1], told_of(receipt))
        until(lambda: findings_of(service, Kind.FORK) == ["forked"])
        event_id = sender.post(revoked(receipt)).json()["event_id"]
        until(lambda: state_of(service, event_id))
        until(lambda: word(service) == f"forked: {ORIGIN}")
        asked = len(server.asked)
        sender.post(revoked())
        until(lambda: metrics(service).get(("rescind_cross_checks", "pending")) == 2)

        found = metrics(service)
        assert (state_of(service, event_id), len(server.asked)) == ("pending", asked)
        assert (found["rescind_issuer_log_forked", ORIGIN], found["rescind_issuer_log_size", ORIGIN]) == (1, 2)
        assert found["rescind_issuer_log_stale_seconds", ORIGIN] == 0
        assert row(service.records, log_id).forked_at


def test_a_log_that_is_down_leaves_what_depends_on_it_pending(tmp_path: Path) -> None:
    """However long its grace has been over: it is said since when nothing is known, and why."""
    with serving(log_of(entry())) as server, running(settings_in(tmp_path)) as service:
        sender, log_id = following(service, server)
        server.when("checkpoint", status(404))
        until(lambda: row(service.records, log_id).failure)
        event_id = sender.post(revoked()).json()["event_id"]
        with service.records.database.write() as tx:
            tx.execute(sa.update(issuer_logs).values(complete_at="2026-11-20T09:00:00.000000Z"))
        stale = f"stale since 2026-11-20T09:00:00.000000Z: {ORIGIN} ({server.url}/checkpoint is not there (status 404))"
        until(lambda: word(service) == stale)
        until(lambda: state_of(service, event_id) == "pending")
        stale_for = metrics(service)["rescind_issuer_log_stale_seconds", ORIGIN]
        server.well()
        until(lambda: word(service) == "ok")
        until(lambda: state_of(service, event_id) == "absent")

        assert stale_for > 3600
        assert metrics(service)["rescind_issuer_log_stale_seconds", ORIGIN] == 0


def test_what_fails_in_one_part_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once and tried again; as soon as it can be done, it is."""
    tried: list[None] = []

    def away(*_: object) -> int:
        tried.append(None)
        raise OperationalError("SELECT", {}, Exception("the connection is lost"))

    caplog.set_level(logging.WARNING, "receiver")
    with serving(log_of(entry())) as server, running(settings_in(tmp_path)) as service:
        with monkeypatch.context() as patch:
            patch.setattr(module, "judge_due", away)
            sender, log_id = following(service, server, "alone")
            event_id = sender.post(revoked()).json()["event_id"]
            until(lambda: state_of(service, event_id) == "pending" and len(tried) > 2)
        until(lambda: state_of(service, event_id) == "absent")
        assert [one.place for one in kept(service.records, "alone") if one.issuer_log_id == log_id] == [0]

    said = [one.getMessage() for one in caplog.records]
    assert len([text for text in said if "events of tenant alone cannot be judged: OperationalError" in text]) == 1


def test_a_stop_waits_for_nobody_elses_server(tmp_path: Path) -> None:
    """What is under way is broken off: it is asked for once, and not again and again until it is given up."""

    async def silently(_honest: bytes | None, _say: Say) -> None:
        await asyncio.Event().wait()

    with serving(log_of(entry())) as server:
        server.when("checkpoint", silently)
        with running(settings_in(tmp_path)) as service:
            name_log(service.records, service.add_source().source_id, server)
            until(lambda: server.asked)

    assert server.asked == ["checkpoint"]


def test_two_services_on_one_database_log_each_finding_once(tmp_path: Path, postgresql_url: str) -> None:
    """Both follow, take up and judge, and are told by the log's lock what the other one has done."""
    receipts = [receipt_id() for _ in range(60)]
    settings = settings_in(tmp_path / "one", database_url=postgresql_url)
    with serving(log_of(*map(told_of, receipts[:50]))) as server, running(settings) as one:
        shared = {"database_url": postgresql_url, "data_key": one_key(tmp_path / "one")}
        with running(settings_in(tmp_path / "other", guard=tmp_path / "one" / "guard", **shared)) as other:
            sender, _ = following(one, server, grace=8)  # all are to be sent within it
            other.refresh()
            senders = [sender, Sender(other, sender.source_id, sender.secret)]
            for number, receipt in enumerate(receipts[10:]):
                assert senders[number % 2].post(revoked(receipt)).status_code == 200
            until(lambda: len(findings_of(one, Kind.CROSS_CHECK)) >= 50 and len(findings_of(one, Kind.GAP)) >= 10)

    assert sorted(findings_of(one, Kind.CROSS_CHECK)) == 10 * ["absent"] + 40 * ["confirmed"]
    assert findings_of(one, Kind.GAP) == 10 * ["open"]


def one_key(folder: Path) -> str:
    """The data key of an installation."""
    return (folder / "data" / "data.key").read_text().strip()
