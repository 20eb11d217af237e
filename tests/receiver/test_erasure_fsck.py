"""What `fsck` finds of erasures that are not as their entries say: half done, undone, or told by nobody."""

from collections.abc import Generator
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver.erasure.erasing import Order, erase
from receiver.erasure.requests import begin
from receiver.erasure.selecting import Extent, Target, Wanted
from receiver.events import Effect, Item, Kind, format_time
from receiver.records.findings import Finding, keep
from receiver.records.journal import change
from receiver.records.opening import Records
from receiver.settings import Settings
from tests.receiver.claims import ORGANIZATION, Issuer, check, deliver, reversed_
from tests.receiver.erasing import REASON, faults_of, told
from tests.receiver.erasing import erase as erase_all
from tests.receiver.submissions import RECEIVED_AT, Source

SECRET = {"provider": "scrip", "type": "redemption", "id": "secret-a"}


@pytest.fixture
def records(tmp_path: Path) -> Generator[Records]:
    """Records on SQLite: what is looked at does not depend on the database."""
    folder = tmp_path / "records"
    records = Records.open(Settings(data=folder / "data", guard=folder / "guard", origin="example.com/rescind"))
    yield records
    records.close()


@pytest.fixture
def source(records: Records) -> Source:
    """A source with two events, each confirmed, of which the first breaks a rule and is erased."""
    issuer = Issuer(records)
    source = issuer.source("scrip", ORGANIZATION)
    deliver(source, reversed_("secret-a", "act-a", "-5.00"), reversed_("b", "act-b", "5.00"))
    for item, operation, amount in (("secret-a", "act-a", "-5.00"), ("b", "act-b", "5.00")):
        named = Item("redemption", item)
        issuer.says("scrip", Effect.REVERSED, named, operation=operation, amount=amount, account=ORGANIZATION)
    issuer.read_at(format_time(RECEIVED_AT))
    check(records)
    assert faults_of(records) == []
    assert erase_all(records, item=SECRET).erased == 2
    assert faults_of(records) == []
    return source


def damage(records: Records, statement: str) -> None:
    """Change rows as no part of the service would: `ERASED`, `KEPT` and `FOUND` are ids, `OTHER` is what was kept."""
    with records.database.write() as tx:
        gone, kept = tx.execute(sa.text("SELECT id FROM deliveries ORDER BY log_index")).scalars()
        found: str = tx.execute(sa.text(f"SELECT id FROM findings WHERE event_id = '{gone}'")).scalar_one()
        for name, its_id in (("ERASED", gone), ("KEPT", kept), ("FOUND", found)):
            statement = statement.replace(name, f"'{its_id}'")
        assert tx.execute(sa.text(statement.replace(":", r"\:"))).rowcount > 0


def of(column: str) -> str:
    """What the event has there that was not erased."""
    return f"(SELECT {column} FROM deliveries WHERE id = KEPT)"


@pytest.mark.parametrize(
    ("statement", "problems"),
    [
        # Half erased, or put back.
        (f"UPDATE deliveries SET body = {of('body')} WHERE id = ERASED", ["opens to is still there", "opened without"]),
        (f"UPDATE deliveries SET event_salt = {of('event_salt')} WHERE id = ERASED", ["opens to is", "opened without"]),
        ("UPDATE findings SET event_data = x'7b7d' WHERE id = FOUND", ["opens to is still there", "opened without"]),
        ("UPDATE deliveries SET occurred_at = logged_at WHERE id = ERASED", ["occurred_at is still there"]),
        (
            """UPDATE deliveries SET breaches = replace(breaches, '""', '"-5.00"') WHERE id = ERASED""",
            ["what breaches say is still there"],
        ),
        # Gone, and told by nobody.
        ("UPDATE deliveries SET event_data = NULL, event_salt = NULL WHERE id = KEPT", ["no erasure entry names it"]),
        (
            "UPDATE deliveries SET headers = NULL, body = NULL, delivery_salt = NULL WHERE id = KEPT",
            ["the delivery is erased, and no erasure entry names it"],
        ),
        ("UPDATE claims SET entry = NULL, proof = NULL WHERE entry IS NOT NULL", ["no erasure entry counts it"]),
        ("UPDATE claims SET entry = x'7b7d', proof = x'00' WHERE entry IS NULL", ["counts it, and it is still there"]),
        ("DELETE FROM erased_claims", ["claims is 1, and erased_claims has 0", "no erasure entry counts it"]),
        (
            "UPDATE erased_claims SET log_index = 0",
            ["claims is 1, and erased_claims has 0", "has 1 entries of issuers'"],
        ),
        # Rows that say otherwise than the entries.
        ("DELETE FROM erased WHERE entry_id = ERASED", ["erased does not say so", "no erasure", "no erasure", "has 1"]),
        ("UPDATE erased SET extent = 'delivery' WHERE entry_id = ERASED", ["says otherwise", "no erasure entry"]),
        ("UPDATE erased SET extent = 'much' WHERE entry_id = ERASED", ["says otherwise", "no erasure", "no erasure"]),
        ("UPDATE erased SET entry_id = KEPT WHERE entry_id = ERASED", ["does not say so", "names it", "no erasure"]),
        (
            "INSERT INTO erased SELECT KEPT, log_id, log_index, erasure_id, extent FROM erased WHERE entry_id = ERASED",
            ["names it", "erased is 2, and erased has 3"],
        ),
        ("UPDATE erasures SET erased = 7", ["erased is 7, and erased has 2 of it"]),
        ("UPDATE erasures SET state = 'gone'", ["state is 'gone'", "completed_at"]),
        ("UPDATE erasures SET state = 'running'", ["it is running, and completed_at"]),
        ("UPDATE erasures SET target = 'all'", ["target is 'all', the entry's fact 'item'", "target is 'all', which"]),
        ("UPDATE erasures SET asked_by = 'me'", ["by is 'me', the entry's fact 'command'"]),
        ("UPDATE erasures SET reason = 'x'", ["its reason is still there"]),
        ("UPDATE findings SET state = 'delivery' WHERE kind = 'erasure'", ["state is 'delivery', the entry's fact"]),
        ("UPDATE findings SET event_data = x'7b7d' WHERE kind = 'erasure'", ["do not give the event"]),
        ("DELETE FROM findings WHERE kind = 'erasure'", ["which has no row"]),
    ],
)
def test_what_is_wrong_is_found(records: Records, source: Source, statement: str, problems: list[str]) -> None:
    """Each is named, whether the row or the entry is right."""
    damage(records, statement)
    found = faults_of(records)

    assert [problem for problem in problems if not any(problem in one for one in found)] == []
    assert found != []


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"ids": []}, "ids are not 1 to 1000 in their order"),
        ({"ids": ["b", "a"]}, "ids are not 1 to 1000 in their order"),
        ({"ids": ["0198a1b2-0000-7000-8000-000000000000"]}, "which is not there"),
        ({"erasure": "nothing"}, "the request 'nothing' that it names is not there"),
        ({"more": 1}, "the entry has the fact more, which an erasure has not"),
    ],
)
def test_entries_that_cannot_be_right(records: Records, source: Source, facts: dict[str, object], problem: str) -> None:
    """What no erasure of ours would say."""
    tenant = source.endpoint.tenant
    told_of = dict(told(records)[0][1].facts)
    del told_of["state"]
    with change(records.database, tenant.log) as changing:
        keep(changing, tenant, Finding(Kind.ERASURE, "all", {**told_of, **facts}, {"reason": "x"}))  # pyright: ignore[reportArgumentType]
    assert any(problem in one for one in faults_of(records))


def test_an_entry_that_names_what_is_still_there(records: Records, source: Source) -> None:
    """And says so of what was logged after it, and of what is another tenant's."""
    other = records.ensure_tenant("other")
    its_id = begin(records, other, Target.EVENT, Wanted(), REASON)
    kept = source.rows()[1].id
    facts = {"by": "command", "erasure": its_id, "ids": [kept], "target": "event"}
    with change(records.database, other.log) as changing:
        keep(changing, other, Finding(Kind.ERASURE, "all", facts, {"reason": "x"}))

    found = faults_of(records)
    for problem in ("which is another tenant's", "is still there", "erased does not say so"):
        assert any(problem in one for one in found)


def test_bodies_alone(records: Records, source: Source) -> None:
    """Where only the delivery was erased the event is still held against its commitment."""
    tenant, kept = source.endpoint.tenant, source.rows()[1].id
    its_id = begin(records, tenant, Target.RETENTION, Wanted(), REASON)
    with change(records.database, tenant.log) as changing:
        order = Order(its_id, Target.RETENTION, "command", REASON, Extent.DELIVERY)
        assert erase(changing, tenant, order, [kept]).rows == 1
    assert faults_of(records) == []
    damage(records, "UPDATE deliveries SET event_data = NULL, event_salt = NULL WHERE id = KEPT")
    assert [one.rpartition(": ")[2] for one in faults_of(records)] == [
        "the event is erased, and no erasure entry names it"
    ]
