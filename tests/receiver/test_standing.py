"""How issuers' logs stand, as the routes and the command tell it."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.assurance.progress import tell_of_fork
from receiver.events import Effect, Item, format_time
from receiver.records.issuer_logs import Checking, Followed, followed
from receiver.records.opening import Records
from receiver.records.standing import Stands, standings
from receiver.records.tables import issuer_logs
from tests.receiver.claims import ORGANIZATION, Issuer, forked, reconfigure
from tests.receiver.commands import Commands
from tests.receiver.service import Service, problem
from tests.receiver.submissions import RECEIVED_AT
from translog import cli, note
from translog.checkpoint import Checkpoint

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def ago(**given: float) -> str:
    """So long before `NOW`, as in the rows."""
    return format_time(NOW - timedelta(**given))


def put(records: Records, issuer: Issuer, **values: Any) -> None:
    """Write into a log's row."""
    with records.database.write() as tx:
        tx.execute(sa.update(issuer_logs).where(issuer_logs.c.id == issuer.id).values(**values))


def stands(records: Records, **values: Any) -> Stands:
    """How a log of two entries stands, all of which are read, but for what is given."""
    issuer = Issuer(records)
    issuer.source("scrip", ORGANIZATION, follow_every=10)
    for number in range(2):
        issuer.says("scrip", Effect.REVERSED, Item("redemption", str(number)), account=ORGANIZATION)
    issuer.read_at(ago(seconds=5))
    put(records, issuer, **{"created_at": ago(days=9), "fetched_at": ago(seconds=5), **values})
    with records.database.read() as tx:
        (found,) = standings(tx, NOW, log_id=issuer.id)
    return found.stands


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Stands.CURRENT),
        ({"next_index": 1}, Stands.READING),
        ({"complete_at": None, "next_index": 0}, Stands.READING),
        ({"complete_at": ago(seconds=59)}, Stands.CURRENT),
        ({"complete_at": ago(seconds=61)}, Stands.STALE),
        ({"complete_at": ago(seconds=59), "next_index": 1}, Stands.READING),
        ({"complete_at": ago(seconds=61), "next_index": 1}, Stands.STALE),
        ({"complete_at": None, "fetched_at": ago(seconds=61)}, Stands.STALE),
        ({"complete_at": None, "fetched_at": None, "created_at": ago(seconds=59)}, Stands.READING),
        ({"complete_at": None, "fetched_at": None, "created_at": ago(seconds=61)}, Stands.STALE),
        ({"failing_since": ago(seconds=1), "failure": "out of reach"}, Stands.FAILING),
        ({"failing_since": ago(seconds=1), "failure": "x", "fork": b"", "forked_at": ago(days=1)}, Stands.FORKED),
    ],
)
def test_how_it_stands(records: Records, values: dict[str, Any], expected: Stands) -> None:
    """Forked before all else, then failing, stale, still reading, or current."""
    if "fork" in values:
        values = {**values, "fork": forked(records, Issuer(records)).encode()}
    assert stands(records, **values) is expected


def test_stale_by_how_often_it_is_read(records: Records) -> None:
    """A log that is read once an hour is not stale after a minute, but after five hours."""
    issuer = Issuer(records)
    issuer.source("scrip", ORGANIZATION, follow_every=3600)
    issuer.read_at(ago(hours=4.9))
    with records.database.read() as tx:
        before = standings(tx, NOW, log_id=issuer.id)[0].stands
        after = standings(tx, NOW + timedelta(hours=0.2), log_id=issuer.id)[0].stands
    assert (before, after) == (Stands.CURRENT, Stands.STALE)


def test_a_log_in_full(service: Service) -> None:
    """Which log it is, how far it was read, and the sources that name it."""
    issuer = Issuer(service.records)
    source = issuer.source("scrip", ORGANIZATION, starts_at=7)
    issuer.says("scrip", Effect.REVERSED, Item("redemption", "1"), account=ORGANIZATION)
    issuer.read_at(ago(seconds=0))

    (shown,) = [one for one in _list(service) if one["id"] == issuer.id]

    checkpoint = Checkpoint.parse(note.open(shown["checkpoint"].encode(), [issuer.key.verifying_key()]).text)
    assert (shown["size"], shown["root"]) == (1, checkpoint.root.hex())
    assert (shown["url"], shown["origin"], shown["policy"]) == (
        issuer.identity.url,
        issuer.origin,
        issuer.identity.policy,
    )
    assert (shown["next_index"], shown["unreadable"], shown["fork"]) == (1, 0, None)
    its = source.endpoint.source
    assert shown["sources"] == [{"id": its.id, "name": its.name, "starts_at": 7, "follow_every": 10}]
    assert service.client.get(f"/v1/issuer-logs/{issuer.id}", headers=service.key()).json()["id"] == issuer.id
    assert service.client.get(f"/v1/issuer-logs/{issuer.id}/fork", headers=service.key()).status_code == 404


def test_a_forked_log(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and gives out what proves it to whoever has the key."""
    issuer = Issuer(service.records)
    issuer.source("scrip", ORGANIZATION)
    fork = forked(service.records, issuer)

    (shown,) = [one for one in _list(service) if one["id"] == issuer.id]
    file = service.client.get(f"/v1/issuer-logs/{issuer.id}/fork", headers=service.key())

    assert shown["state"] == "forked"
    assert shown["fork"] == {
        "at": format_time(RECEIVED_AT),
        "smaller": {"size": 3, "root": "01" * 32},
        "larger": {"size": 3, "root": "02" * 32},
    }
    assert file.content == fork.encode()
    (tmp_path / "fork").write_bytes(file.content)
    assert cli.main(["verify", str(tmp_path / "fork"), "--key", str(issuer.key.verifying_key())]) == 0
    assert issuer.origin in capsys.readouterr().out


def test_a_forked_log_that_no_source_names_any_more(service: Service) -> None:
    """Whoever was told that it has forked sees it, with its evidence; nobody else does."""
    issuer = Issuer(service.records)
    source = issuer.source("scrip", ORGANIZATION)
    fork = forked(service.records, issuer)
    (log,) = [one.log for one in _followed(service.records) if one.log.id == issuer.id]
    tell_of_fork(service.records, source.endpoint.tenant, log)
    reconfigure(source, Checking())

    (shown,) = [one for one in _list(service) if one["id"] == issuer.id]
    path = f"/v1/issuer-logs/{issuer.id}/fork"

    assert (shown["state"], shown["sources"]) == ("forked", [])
    assert service.client.get(path, headers=service.key()).content == fork.encode()
    service.records.ensure_tenant("another")
    assert issuer.id not in [one["id"] for one in _list(service, "another")]
    assert service.client.get(path, headers=service.key(tenant="another")).status_code == 404


def _followed(records: Records) -> list[Followed]:
    with records.database.read() as tx:
        return followed(tx)


def test_another_tenants_log_is_not_seen(service: Service) -> None:
    """A log that no source of the tenant names is none of its business."""
    issuer = Issuer(service.records)
    issuer.source("scrip", ORGANIZATION, "another")

    assert issuer.id not in [one["id"] for one in _list(service)]
    assert issuer.id in [one["id"] for one in _list(service, "another")]
    answer = service.client.get(f"/v1/issuer-logs/{issuer.id}", headers=service.key())
    assert problem(answer)["code"] == "NOT_FOUND"


@pytest.mark.parametrize("path", ["", "/x", "/x/fork"])
def test_who_may_ask(service: Service, path: str) -> None:
    """It takes a key with the scope `audit`."""
    assert service.client.get(f"/v1/issuer-logs{path}").status_code == 401
    assert service.client.get(f"/v1/issuer-logs{path}", headers=service.key("operate")).status_code == 403


def _list(service: Service, tenant: str = "default") -> list[dict[str, Any]]:
    answer = service.client.get("/v1/issuer-logs", headers=service.key(tenant=tenant))
    assert answer.json()["next_cursor"] is None
    return answer.json()["items"]


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A data folder of its own."""
    found = Commands(tmp_path)
    found.ok("init")
    return found


def test_list(commands: Commands) -> None:
    """It tells of each log how it stands; with --json as the route does."""
    assert commands.ok("issuer-log", "list") == "No source names an issuer's log.\n"
    with closing(commands.records()) as records:
        issuer = Issuer(records)
        issuer.source("scrip", ORGANIZATION)
        put(records, issuer, failing_since=ago(hours=1), failure="out of \x1b[31mreach")

    printed = commands.ok("issuer-log", "list")

    assert f"{issuer.identity.url}  failing" in printed
    assert issuer.id in printed
    assert "out of \\u{1b}[31mreach" in printed
    (shown,) = json.loads(commands.ok("issuer-log", "list", "--json"))["items"]
    assert (shown["id"], shown["state"]) == (issuer.id, "failing")


def test_evidence(commands: Commands) -> None:
    """What proves a fork is written to a new file, once there is a fork."""
    with closing(commands.records()) as records:
        issuer = Issuer(records)
        issuer.source("scrip", ORGANIZATION)
    out = commands.folder / "fork"
    assert "was not seen to fork" in commands.refused("issuer-log", "evidence", issuer.id, "--out", str(out))
    assert "no source names" in commands.refused("issuer-log", "evidence", "nothing", "--out", str(out))
    with closing(commands.records()) as records:
        fork = forked(records, issuer)

    assert "forked" in commands.ok("issuer-log", "list")
    assert str(out) in commands.ok("issuer-log", "evidence", issuer.id, "--out", str(out))

    assert out.read_bytes() == fork.encode()
    assert cli.main(["verify", str(out), "--key", str(issuer.key.verifying_key())]) == 0
    assert "File exists" in commands.refused("issuer-log", "evidence", issuer.id, "--out", str(out))
