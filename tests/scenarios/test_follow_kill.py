"""Killed again and again while an issuer's log is followed and events are judged: nothing is missed or told twice.

The log grows meanwhile, and deliveries come in, some before their entry is in the log and some long after. So what is
told of an event may change: what was absent is confirmed, and what was a gap is announced. Each change is one entry of
our log, and what is known in the end is what the log and the deliveries say, whoever was killed when.

Who is killed when, and what comes when, follows from a seed, which is printed. KILL_SEED=… plays the same again, as far
as clocks and threads let it.
"""

import base64
import json
import os
import random
import secrets
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import httpx2
import sqlalchemy as sa

from receiver.events import Kind
from receiver.records.engine import Database
from receiver.records.tables import checks, claims, findings, issuer_logs
from tests.receiver.issuing import LOG_KEY, OTHER, entry
from tests.scenarios.service import ACCOUNT, REVOKED_AT, Sender, Service, Site, leaves, revoked, until
from tests.translog.misbehaving import Server, Simulated, serving
from translog.policy import Policy
from translog.proof import TlogProof

ENTRIES = 1500
OURS = 400
"""Of these, the entries of our account."""

UNTOLD = 40
"""Of ours, those that no delivery tells of."""

FORGED = 30
"""Deliveries that no entry is about."""

SENDERS = 4
MOST_DELAY = 1.5  # seconds from a start to the next kill
POLICY = Policy.of(LOG_KEY.verifying_key())


@dataclass(frozen=True)
class Plan:
    """What the log will hold, and what is delivered."""

    log: Simulated
    told: Sequence[str]
    """The receipts that are in the log and delivered."""
    untold: Sequence[str]
    forged: Sequence[str]

    @classmethod
    def made(cls, rng: random.Random) -> "Plan":
        """Ours among other accounts', other providers', and what is no entry at all."""
        receipts = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(OURS + FORGED)]
        ours = [_entry_of(receipt) for receipt in receipts[:OURS]]
        others = [
            rng.choice([entry(account=OTHER), entry(provider="scrip"), b"something else", b"{}"])
            for _ in range(ENTRIES - OURS)
        ]
        entries = [*ours, *others]
        rng.shuffle(entries)
        log = Simulated(tuple(entries), LOG_KEY)
        return cls(log, receipts[UNTOLD:OURS], receipts[:UNTOLD], receipts[OURS:])

    def index(self, receipt: str) -> int:
        """Where the log has the entry of a receipt."""
        return self.log.entries.index(_entry_of(receipt))


def _entry_of(receipt: str) -> bytes:
    return entry(ACCOUNT, item={"id": receipt, "type": "receipt"}, operation=receipt, at=REVOKED_AT)


class Play:
    """The receivers, which are killed, the issuer's log, which grows, and the senders, who try again."""

    def __init__(self, sites: Sequence[Site], sender: Sender, server: Server, plan: Plan, rng: random.Random) -> None:
        self._sites = sites
        self._sender = sender
        self._server = server
        self._plan = plan
        self._rng = rng
        self._pauses = random.Random(rng.random())
        self.services: list[Service] = [site.start() for site in sites]
        self._left: SimpleQueue[str] = SimpleQueue()
        for receipt in rng.sample([*plan.told, *plan.forged], len(plan.told) + len(plan.forged)):
            self._left.put(receipt)
        self.events: dict[str, str] = {}
        """By receipt, the event that a delivery was answered with."""
        self._threads = [
            threading.Thread(target=self._grow),
            *(threading.Thread(target=self._send, args=(random.Random(rng.random()),)) for _ in range(SENDERS)),
        ]

    def play(self, kills: int) -> None:
        """Play it with that many kills, until everything is delivered and logged."""
        for thread in self._threads:
            thread.start()
        for _ in range(kills):
            time.sleep(self._rng.uniform(0, MOST_DELAY))
            number = self._rng.randrange(len(self.services))
            self.services[number].kill()
            self.services[number] = self._sites[number].start()
        for thread in self._threads:
            thread.join()

    def _grow(self) -> None:
        """As much as is delivered, by and large: so it is the entry that comes first, or the delivery."""
        whole = self._plan.log.entries
        expected = len(self._plan.told) + len(self._plan.forged)
        while self._server.log.size < len(whole):
            time.sleep(self._pauses.uniform(0, 0.5))
            share = len(self.events) / expected
            size = len(whole) if share == 1 else int(len(whole) * share * self._pauses.uniform(0.7, 1))
            self._server.log = Simulated(whole[: max(size, self._server.log.size)], LOG_KEY)

    def _send(self, rng: random.Random) -> None:
        while True:
            try:
                receipt = self._left.get_nowait()
            except Empty:
                return
            body = revoked(receipt)
            while receipt not in self.events:
                time.sleep(rng.uniform(0, 0.1))
                try:
                    answer = self._sender.post(rng.choice(self.services), body)
                except (httpx2.TransportError, RuntimeError):  # nobody is there, or the client was closed
                    continue
                if answer.status_code == 200:
                    self.events[receipt] = answer.json()["event_id"]


def test_a_receiver_that_is_killed_misses_nothing(tmp_path: Path) -> None:
    """Five kills, on SQLite."""
    _play([Site(tmp_path / "receiver")], f"sqlite:///{tmp_path / 'receiver' / 'data' / 'rescind.db'}", kills=5)


def test_two_that_share_the_work_miss_nothing(tmp_path: Path, postgresql_url: str) -> None:
    """The same of two receivers on one database: either may be killed at any time, and the other goes on."""
    shared = {
        "RESCIND_DATABASE_URL": postgresql_url,
        "RESCIND_DATA_KEY": base64.b64encode(os.urandom(32)).decode(),
    }
    _play([Site(tmp_path / name, settings=shared) for name in ("one", "other")], postgresql_url, kills=3)


def _play(sites: Sequence[Site], url: str, kills: int) -> None:
    seed = int(os.environ.get("KILL_SEED") or secrets.randbelow(1 << 32))
    print(f"KILL_SEED={seed}")  # noqa: T201  (shown with a failure)
    rng = random.Random(seed)
    for site in sites:
        site.folder.mkdir()
    plan = Plan.made(rng)
    with serving(Simulated(plan.log.entries[:300], LOG_KEY)) as server:
        sender = _add_source(sites[0], server)
        play = Play(sites, sender, server, plan, rng)
        database = Database(url)
        try:
            until(lambda: _is_complete(database))  # what was never looked at yet is not judged so soon
            play.play(kills)
            until(lambda: _is_over(database, plan))
            _every_entry_of_ours_is_kept_once(database, plan)
            _what_is_known_is_true(database, plan, play.events)
            _each_change_is_one_entry(database, play.services[0], sites[0].vkey())
            assert [service.stop() for service in play.services] == [0 for _ in sites]
        finally:
            database.dispose()
            for service in play.services:
                service.kill()
    for site in sites:
        assert "nothing is wrong" in site.tell("receiver", "fsck")


def _add_source(site: Site, server: Server) -> Sender:
    """A source that names the log, all of whose entries may be gaps, a second after they were seen."""
    own = ("--provider", "truthlocks", "--scheme", "standard-webhooks", "--account", ACCOUNT)
    log = ("--issuer-log-url", server.url, "--issuer-log-key", str(LOG_KEY.verifying_key()), "--issuer-log-from", "0")
    told = site.tell(
        "receiver", "source", "add", "issuer", *own, *log, "--grace", "1s", "--follow-every", "1s", "--json"
    )
    made = json.loads(told)
    return Sender(made["webhook_path"], made["secret"])


# ---- what there is afterwards ---------------------------------------------------------------------------------------


def _is_complete(database: Database) -> bool:
    """Whether a look has come to the end of the log."""
    with database.read() as tx:
        return tx.execute(sa.select(issuer_logs.c.complete_at)).scalar_one() is not None


def _is_over(database: Database, plan: Plan) -> bool:
    """Whether nothing is left to be found out: all is read, and judged as it will stay."""
    states = dict.fromkeys(("confirmed", "absent"), 0)
    with database.read() as tx:
        read = tx.execute(sa.select(issuer_logs.c.next_index)).scalar_one()
        for state, number in tx.execute(sa.select(checks.c.state, sa.func.count()).group_by(checks.c.state)):
            states[state] = number
        is_gap = sa.and_(claims.c.gap_id.is_not(None), claims.c.announced.is_(False))
        gaps = tx.execute(sa.select(sa.func.count()).where(is_gap)).scalar_one()
    return read == ENTRIES and states == {"confirmed": len(plan.told), "absent": FORGED} and gaps == UNTOLD


def _every_entry_of_ours_is_kept_once(database: Database, plan: Plan) -> None:
    """No gap and no double, each with its bytes and with a proof that verifies."""
    query = sa.select(claims.c.index.label("place"), claims.c.entry, claims.c.proof).order_by(claims.c.index)
    with database.read() as tx:
        rows = tx.execute(query).all()
    assert [row.place for row in rows] == sorted(map(plan.index, [*plan.told, *plan.untold]))
    for row in rows:
        assert row.entry == plan.log.entries[row.place]
        assert TlogProof.parse(bytes(row.proof)).verify(bytes(row.entry), POLICY).origin == LOG_KEY.name


def _what_is_known_is_true(database: Database, plan: Plan, events: Mapping[str, str]) -> None:
    """Each event is confirmed by its own entry or is absent; each entry is announced, or is a gap."""
    with database.read() as tx:
        known = {row.event_id: (row.state, row.issuer_index) for row in tx.execute(sa.select(checks))}
        open_gaps = sa.select(claims.c.index).where(claims.c.announced.is_(False))
        gaps = set(tx.execute(open_gaps).scalars())
    true = {events[receipt]: ("confirmed", plan.index(receipt)) for receipt in plan.told}
    assert known == true | {events[receipt]: ("absent", None) for receipt in plan.forged}
    assert gaps == set(map(plan.index, plan.untold))


def _each_change_is_one_entry(database: Database, service: Service, vkey: str) -> None:
    """What is told of an event or an entry goes on from what was told before, and ends with what is known."""
    with database.read() as tx:
        rows = tx.execute(sa.select(findings).order_by(findings.c.log_index)).all()
        known = {row.event_id: row.state for row in tx.execute(sa.select(checks))}
    log = leaves(service.entries(service.checkpoint_of(rows[-1].log_index + 1, vkey).size))
    kinds = (Kind.CROSS_CHECK, Kind.GAP)
    assert [leaf.id for leaf in log if leaf.kind in kinds] == [row.id for row in rows]

    said: dict[str, list[Any]] = defaultdict(list)
    told: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        leaf = log[int(row.log_index)]
        if row.kind == Kind.GAP:
            told[row.issuer_index].append(row.state)
        else:
            assert leaf.facts["first"] == row.event_id
            said[row.event_id].append((leaf.facts["was"], leaf.facts["state"], leaf.facts["late"]))
    confirmed = ([("pending", "confirmed", False)], [("pending", "absent", False), ("absent", "confirmed", True)])
    for event_id, state in known.items():
        assert said[event_id] in (confirmed if state == "confirmed" else ([("pending", "absent", False)],))
    assert said.keys() == known.keys()
    assert all(states in (["open"], ["open", "announced"]) for states in told.values())
    assert sum(states == ["open"] for states in told.values()) == UNTOLD
