"""Erased is gone: from every table and every file that there is, while every proof still verifies."""

import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from receiver.events import format_time
from receiver.records.opening import Records
from receiver.records.tables import claims, deliveries, findings
from receiver.settings import Settings
from tests.receiver.erasing import erase, faults_of, told, traces
from tests.receiver.exporting import fill
from tests.receiver.fsck.found import fill_found
from tests.scenarios.service import Service, Site, revoked, until
from translog.merkle import leaf_hash, verify_inclusion

JANE = "jane.doe@example.com"
RECEIPT = "3f0c1c5e-7a4b-4a68-9a3f-9c6f2b1d7e55"
OTHER = "9b1f6a0d-2c3e-4d5f-8a7b-6c5d4e3f2a1b"


def asked(service: Service, key: str, path: str, body: dict[str, Any], status: int) -> dict[str, Any]:
    """Ask for something under `/v1`, which must be answered so."""
    answer = service.client.post(f"/v1{path}", json=body, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == status, answer.text
    return answer.json()


def files_with(folder: Path, *texts: bytes) -> set[str]:
    """The names of the files under a folder that hold one of these."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.name for file in files if any(text in file.read_bytes() for text in texts)}


def test_a_person_is_erased_while_the_service_runs(tmp_path: Path) -> None:
    """Nothing in the data folder names them any more, the file of an export included; what was given out is named."""
    site = Site(tmp_path)
    sender, key, vkey = site.add_source(), site.key("audit,export,operate"), site.vkey()
    subscribe = ("receiver", "subscription", "add", "away", "--url", "https://127.0.0.1:9/", "--on", "recorded")
    site.run(*subscribe)  # nobody is there: messages wait, or none is allowed to
    with site.serving() as service:
        event = sender.deliver(service, revoked(RECEIPT, subject=JANE, payload={"note": "hush-hush"}))["event_id"]
        sender.deliver(service, revoked(RECEIPT, subject=JANE, note="hush-hush, and other"))
        other = sender.deliver(service, revoked(OTHER))["event_id"]
        quarantined = sender.deliver(service, json.dumps({"event_type": "receipt.new", "subject": JANE}).encode())
        before = service.get(f"/v1/events/{event}/evidence", key).content
        export = exported(service, key)
        held = service.get(f"/v1/exports/{export}/download", key).content
        assert RECEIPT.encode() in held
        assert files_with(site.data, RECEIPT.encode()) > {"rescind.db-wal"}
        answer = asked(service, key, "/erasures", {"person": f"email:{JANE}", "reason": "they asked for it"}, 200)

        assert (answer["state"], answer["erased"], answer["target"]) == ("completed", 3, "person")
        assert {export} == {one["id"] for one in answer["exports"]}
        assert {event} == {one["event_id"] for one in answer["evidence"]}
        gone = [text.encode() for text in (JANE, RECEIPT, "hush-hush")]
        until(lambda: files_with(site.data, *gone) == set())
        until(lambda: service.get(f"/v1/exports/{export}", key).json()["state"] == "completed")
        again = site.folder / "again.zip"
        again.write_bytes(service.get(f"/v1/exports/{export}/download", key).content)
        assert files_with(site.data, *gone) == set()
        with zipfile.ZipFile(again) as bundle:
            lines = [json.loads(line) for line in bundle.read("events.jsonl").splitlines()]
        assert {(event, True), (other, False)} == {(line["leaf"]["id"], line["erased"]) for line in lines}
        assert service.get(f"/v1/events/{event}", key).json()["erased"] is True
        assert service.get(f"/v1/quarantine/{quarantined['quarantine_id']}", key).json()["erased"] is True
        for name, data in (("before", before), ("after", service.get(f"/v1/events/{event}/evidence", key).content)):
            proof = site.folder / f"{name}.tlog-proof"
            proof.write_bytes(data)
            site.tell("translog", "verify", proof, "--key", vkey)
        again_told = sender.deliver(service, revoked(RECEIPT, subject=JANE, payload={"note": "hush-hush"}))
        assert (again_told["status"], again_told["event_id"]) == ("duplicate", event)
        assert files_with(site.data, *gone) == set()
    site.tell("translog", "verify", again, "--key", vkey)
    assert JANE.encode() not in b"".join(file.read_bytes() for file in site.folder.glob("*.log"))
    assert "nothing is wrong" in site.tell("receiver", "fsck").lower()


def exported(service: Service, key: str) -> str:
    """The id of an export of everything so far, which is completed."""
    period = {"since": "2000-01-01T00:00:00Z", "until": format_time(datetime.now(UTC))}
    export = asked(service, key, "/exports", period, 202)["id"]
    until(lambda: service.get(f"/v1/exports/{export}", key).json()["state"] == "completed")
    return str(export)


def test_everything_is_erased_one_by_one(settings: Settings) -> None:
    """Every delivery and every entry of an issuer's log that there can be: no byte of them is left in any table."""
    fill_found(settings)
    records = Records.open(settings)
    fill(records)
    secrets = list(openings(records))
    with records.database.read() as tx:
        ids = tx.execute(sa.select(deliveries.c.id).order_by(deliveries.c.log_index)).scalars().all()
        logs = {tenant.name: tenant for tenant in records.tenants}
    for its_id in ids:
        for name in logs:
            if its_id in its_ids(records, name):
                erase(records, name, event_id=its_id)
    for item in items_left(records):
        for name in logs:
            erase(records, name, item=item)

    assert len(secrets) > 100
    assert traces(records, *secrets) == []
    assert list(openings(records)) == []
    wrong = [one for one in faults_of(records) if "idempotency" not in one]
    assert wrong == []
    for name, tenant in logs.items():
        tenant.log.publish()
        published = tenant.log.published
        assert told(records, name)
        for index in range(published.size):
            hashes, leaf, root = tenant.log.inclusion_proof(index, published.size)
            assert leaf == leaf_hash(tenant.log.entry(index))
            verify_inclusion(leaf, index, published.size, hashes, root)
    records.close()
    if records.database.is_sqlite:
        files = [settings.data / name for name in ("rescind.db", "rescind.db-wal")]
        assert [one for file in files if file.exists() for one in secrets if one.encode() in file.read_bytes()] == []


def its_ids(records: Records, tenant: str) -> set[str]:
    """The deliveries in a tenant's log."""
    its = sa.select(deliveries.c.id).where(deliveries.c.log_id == records.tenant(tenant).log_id)
    with records.database.read() as tx:
        return set(tx.execute(its).scalars())


def items_left(records: Records) -> list[dict[str, str]]:
    """The items that entries of issuers' logs are still about."""
    with records.database.read() as tx:
        left = tx.execute(sa.select(claims.c.entry).where(claims.c.entry.is_not(None))).scalars().all()
    told_of = [json.loads(entry) for entry in left]
    return [{"provider": one["provider"], **one["item"]} for one in told_of]


def openings(records: Records) -> Iterator[str]:
    """What deliveries, findings about these, and issuers' entries hold, as text: bodies, data and salts."""
    about = findings.c.kind.in_(("cross_check", "gap"))
    with records.database.read() as tx:
        columns = ("event_data", "event_salt", "body", "delivery_salt")
        for table, which in ((deliveries, sa.true()), (findings, about)):
            for row in tx.execute(sa.select(*(table.c[name] for name in columns)).where(which)):
                yield from (text for value in row if value is not None and (text := as_text(value)))
        for row in tx.execute(sa.select(claims.c.entry, claims.c.proof)):
            yield from (text for value in row if value is not None and (text := as_text(value)))


def as_text(value: bytes) -> str:
    """Bytes that can be looked for: of what is short enough to be part of anything else nothing."""
    text = bytes(value).decode("utf-8", "ignore") if len(value) > 32 else ""
    return text if len(text) > 60 else ""
