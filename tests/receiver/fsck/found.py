"""Records of all that can be found out of events, issuers' logs and sources, made by those who find it out.

`ids["late"]` is the event that was confirmed late, `ids["late_told"]` the finding that told of it first; later ones end
in a number. The rest is named likewise; `ids["announced_gap"]` is what told first that the issuer's entry of that name
(`ENTRIES`) is a gap, `issuer` and `forked` are issuers' logs.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from receiver.assurance.outbox import fill
from receiver.assurance.silence import Silence
from receiver.assurance.taking_up import ToCheck, take_up
from receiver.events import Effect, Item, Kind, format_time
from receiver.records.opening import Records
from receiver.records.tables import findings, processes, sources, taken_up
from receiver.settings import Settings
from tests.receiver import issuing
from tests.receiver.asked import LONG_AGO, Checked, new_checked, showing
from tests.receiver.claims import GRACE, ORGANIZATION, Issuer, check, deliver, new_source, reversed_
from tests.receiver.service import receipt_id
from tests.receiver.submissions import RECEIVED_AT, Source
from tests.receiver.subscribers import allow_loopback, subscribe
from tests.receiver.test_asking import receipt
from tests.receiver.test_bundles import proof
from tests.translog.misbehaving import serving

OTHER = "the account of another tenant"
OVER = RECEIVED_AT + timedelta(seconds=2 * GRACE)
"""When the grace of most events is over."""

ENTRIES = {"confirmed": 0, "contradicted": 1, "gap": 2, "announced": 3, "reopened": 4, "others": 5, "late": 6}
"""The entries of the issuer's log that are about these."""


@dataclass(slots=True)
class _Filler:
    """What is made, whose ids it keeps under names."""

    records: Records
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def deliver(self, source: Source, name: str, amount: str, at: datetime = RECEIVED_AT) -> None:
        """An event of a source, about an item and an act of that name."""
        (outcome,) = deliver(source, reversed_(f"item {name}", f"act {name}", amount), at=at)
        self.ids[name] = outcome.id

    def name_findings(self) -> None:
        """Give every finding the name of what it is about."""
        about = {id_: name for name, id_ in self.ids.items()}
        of_gaps = {index: f"{name}_gap" for name, index in ENTRIES.items()}
        with self.records.database.read() as tx:
            rows = tx.execute(sa.select(findings).order_by(findings.c.log_id, findings.c.log_index)).all()
        for row in rows:
            of_event = row.event_id or row.source_id or row.issuer_log_id
            name = of_gaps[row.issuer_index] if row.kind == Kind.GAP else f"{about[of_event]}_told"
            number = sum(other.startswith(name) for other in self.ids)
            self.ids[f"{name}{number or ''}"] = row.id


def fill_found(settings: Settings) -> dict[str, str]:
    """Find out all that there is; the ids of what was written."""
    records = Records.open(settings)
    filler = _Filler(records)
    try:
        _fork(filler)
        _by_issuers_log(filler)
        _by_record(filler)
        _silence(filler)
        filler.name_findings()
        added = subscribe(allow_loopback(records), "http://127.0.0.1:9/", "recorded", "gap", from_index=0)
        filler.ids["subscription"] = added.subscription.id
        while fill(records):
            pass
    finally:
        records.close()
    return filler.ids


def _fork(filler: _Filler) -> None:
    """A log that is followed, and then shows two histories."""
    records, log = filler.records, issuing.log_of(*(issuing.entry() for _ in range(5)))
    with serving(log) as server:
        filler.ids["forked"] = issuing.name_log(records, issuing.add(records), server)
        issuing.follow(records)
        server.log = issuing.log_of(issuing.entry(), *log.entries[1:], issuing.entry())
        issuing.due(records)
        issuing.follow(records)
        issuing.follow(records)  # which tells of it


def _by_issuers_log(filler: _Filler) -> None:
    """Events of every state, and gaps: by an issuer's log that is read three times."""
    records, ids = filler.records, filler.ids
    issuer = Issuer(records)
    source = issuer.source("scrip", ORGANIZATION)
    other = issuer.source("scrip", OTHER, "other")
    ids |= {"issuer": issuer.id, "source": source.endpoint.source.id, "other_source": other.endpoint.source.id}

    def says(name: str, amount: str, account: str = ORGANIZATION, *, named: bool = True) -> None:
        operation = f"act {name}" if named else None
        item = Item("redemption", f"item {name}")
        issuer.says("scrip", Effect.REVERSED, item, account=account, operation=operation, amount=amount)

    says("confirmed", "10.00")
    says("contradicted", "21.00")
    says("gap", "30.00")
    says("announced", "40.00")
    says("reopened", "50.00", named=False)
    says("others", "60.00", OTHER)
    for name, amount in (("confirmed", "10.00"), ("contradicted", "20.00"), ("absent", "70.00"), ("late", "80.00")):
        filler.deliver(source, name, amount)
    filler.deliver(source, "pending", "90.00", OVER)
    deliver(source, b"{}")
    ids["quarantined"] = source.rows()[-1].id
    issuer.read_at(format_time(OVER))
    check(records)
    filler.deliver(source, "announced", "40.00", OVER)
    filler.deliver(source, "reopened", "50.00", OVER)
    says("late", "80.00")
    issuer.read_at(format_time(OVER))
    check(records)
    says("reopened", "50.00")
    issuer.read_at(format_time(OVER))
    check(records)


def _by_record(filler: _Filler) -> None:
    """Events that the provider's own record was asked about, and such as there is nothing to check against any more."""
    records, ids = filler.records, filler.ids
    asked = new_checked(records, "truthlocks")
    ids["asked"] = asked.source_id
    yes, no, away, back = (receipt_id() for _ in range(4))
    ids["recorded"] = asked.tell(yes)
    asked.look(ids["recorded"], showing(receipt(yes), proof(yes)))
    ids["denied"] = asked.tell(no, ago=LONG_AGO)
    asked.look(ids["denied"], showing(receipt(no, status="active", revoked_at=None)))
    gone, come_back = new_checked(records, "truthlocks"), new_checked(records, "truthlocks")
    ids["none"] = gone.tell(away)
    _moved(gone, None)
    ids["again"] = come_back.tell(back)
    _moved(come_back, None)
    _moved(come_back, "https://provider.example")


def _moved(checked: Checked, upstream: str | None) -> None:
    """The source is changed to that upstream, and its events are taken up again."""
    checked.moves(upstream)
    with checked.records.database.write() as tx:
        tx.execute(sa.delete(taken_up).where(taken_up.c.source_id == checked.source_id))
    take_up(checked.records, checked.tenant, ToCheck(checked.source_id, checked.tenant.id))


def _silence(filler: _Filler) -> None:
    """A source that falls silent, and one that is heard of again."""
    records, began = filler.records, datetime.now(UTC)
    silent, heard = (new_source(records, "scrip", ORGANIZATION) for _ in range(2))
    filler.ids |= {"silent": silent.endpoint.source.id, "heard": heard.endpoint.source.id}
    running: dict[str, Any] = {"host": "h", "pid": 1, "started_at": format_time(began), "seen_at": format_time(began)}
    with records.database.write() as tx:
        tx.execute(sa.insert(processes).values(id="process", **running))
        its = sa.update(sources).where(sources.c.id.in_([filler.ids["silent"], filler.ids["heard"]]))
        tx.execute(its.values(expect_every=1))
    silence = Silence(records)
    silence.watch(began)
    silence.watch(began + timedelta(seconds=10))
    deliver(heard, reversed_("heard", "heard"), at=began + timedelta(seconds=20))
    silence.watch(began + timedelta(seconds=21))


def kept(name: str) -> str:
    """How the check names the issuer's entry about that, which is kept for the first tenant."""
    return f"records: entry {ENTRIES[name]} of the issuer log [issuer], kept for tenant 1"
