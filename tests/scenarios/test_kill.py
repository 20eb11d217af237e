"""Killed in the middle of a load of deliveries, again and again: what was acknowledged is there.

A sender takes 200 for "kept for ever", and tries again after anything else. So after every kill each delivery that was
answered 200 stands at the index it was told, and at the end every notice that was ever sent is in the log once.
"""

import threading
from pathlib import Path
from typing import Any

import httpx2

from receiver.events import Kind
from receiver.fsck import fsck
from receiver.records.opening import Records
from receiver.settings import Settings
from tests.scenarios.service import Sender, Service, Site, leaves, revoked
from translog.merkle import leaf_hash

KILLS = 6
SENDERS = 8
LOADED = 60  # answers in a round before the kill


class Load:
    """Several senders that deliver as fast as they are answered, until nobody answers any more."""

    def __init__(self, service: Service, sender: Sender, again: list[bytes]) -> None:
        """`again` is what earlier rounds had no answer for."""
        self.answered: list[dict[str, Any]] = []
        self.unanswered: list[bytes] = []
        self._service = service
        self._sender = sender
        self._again = again
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]

    def kill_in_the_middle(self) -> None:
        """Send, and kill the service while it is at work."""
        for thread in self._threads:
            thread.start()
        assert self._enough.wait(20)
        self._service.kill()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while True:
            try:
                body = self._again.pop()
            except IndexError:
                body = revoked()
            try:
                answer = self._sender.post(self._service, body)
            except (httpx2.TransportError, RuntimeError):  # nobody is there, or the client was closed
                self.unanswered.append(body)
                return
            assert answer.status_code == 200, answer.text
            self.answered.append(answer.json())
            if len(self.answered) >= LOADED:
                self._enough.set()


def test_what_was_acknowledged_survives_every_kill(tmp_path: Path) -> None:
    """Nothing acknowledged is lost or moved, nothing is half done, and the tallies own up to each kill."""
    site = Site(tmp_path)
    sender = site.add_source()
    vkey = site.vkey()
    acknowledged: list[dict[str, Any]] = []
    unanswered: list[bytes] = []

    for _ in range(KILLS):
        service = site.start()
        _all_there(service, vkey, acknowledged)
        load = Load(service, sender, unanswered)
        load.kill_in_the_middle()
        acknowledged += load.answered
        unanswered += load.unanswered
        _nothing_is_wrong(site)

    with site.serving() as service:
        _all_there(service, vkey, acknowledged)
        acknowledged += [sender.deliver(service, body) for body in unanswered]
        _all_there(service, vkey, acknowledged)

    with site.serving() as service:
        size = service.checkpoint(vkey).size
        log = leaves(service.entries(size))
    events = [leaf.id for leaf in log if leaf.kind == Kind.REVOCATION]
    tallies = [leaf.facts for leaf in log if leaf.kind == Kind.TALLY]
    recorded = [facts["counts"]["recorded"] for facts in tallies if isinstance(facts["counts"], dict)]
    assert sorted(events) == sorted({answer["event_id"] for answer in acknowledged}), "every notice, and once"
    assert sum(count for count in recorded if isinstance(count, int)) == len(events)
    # One at each start, and one at each stop in order: a start says of the time before it whether it ended in order.
    assert [facts["incomplete"] for facts in tallies] == [False] + KILLS * [True] + [False, False]
    assert "nothing is wrong" in site.tell("receiver", "fsck")


def _all_there(service: Service, vkey: str, acknowledged: list[dict[str, Any]]) -> None:
    """Every acknowledged delivery is in the log, under a signed checkpoint, at its index with its leaf hash."""
    size = 1 + max((answer["log_index"] for answer in acknowledged), default=-1)
    hashes = [leaf_hash(entry).hex() for entry in service.entries(service.checkpoint_of(size, vkey).size)]
    assert [hashes[answer["log_index"]] for answer in acknowledged] == [answer["leaf_hash"] for answer in acknowledged]


def _nothing_is_wrong(site: Site) -> None:
    """As `receiver fsck` on what the kill left, before any service comes near it."""
    records = Records.inspect(Settings(data=site.data, guard=site.guard))
    try:
        report = fsck(records)
    finally:
        records.close()
    assert (report.findings, report.remarks) == ((), ())
