"""Evidence: the file that proves an event with the log's key alone."""

import base64
import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver.records.tables import deliveries, sources
from tests.receiver.service import Sender, Service, problem, revoked, running, settings_in
from translog import cli, evidence
from translog.canonical import decode
from translog.errors import SignatureError, TranslogError
from translog.note import SigningKey
from translog.policy import Policy
from translog.proof import TlogProof


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


def ask(service: Service, event_id: str, key: dict[str, str], accept: str | None = None) -> httpx2.Response:
    """Ask for the evidence of an event."""
    headers = {**key, **({} if accept is None else {"accept": accept})}
    return service.client.get(f"/v1/events/{event_id}/evidence", headers=headers)


def policy(service: Service) -> Policy:
    """What an auditor has: the vkey of the tenant's log."""
    return Policy.of(str(service.tenant.log.verifying_key))


def test_evidence_verifies(either_service: Service, either_sender: Sender, key: dict[str, str]) -> None:
    """It shows the leaf, the event's own data, and the delivery as it was sent; nothing is withheld."""
    body = revoked("3f0c2f6e-8a43-4a52-9d8f-0a6f6c1f2b3d", revoked_at="2026-11-20T08:00:00Z")
    headers = either_sender.headers(body)
    event = either_sender.post(body, headers=headers).json()

    answer = ask(either_service, event["event_id"], key)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    name = f'attachment; filename="{event["event_id"]}.tlog-proof"'
    assert answer.headers["content-disposition"] == name
    verified = evidence.verify(answer.content, policy(either_service))
    assert (verified.index, verified.leaf.id) == (event["log_index"], event["event_id"])
    assert verified.leaf == either_service.leaf(event["log_index"])
    assert verified.delivery == evidence.Delivery(tuple(headers.items()), body)
    assert verified.event == decode(either_sender.rows()[0].event_data)
    assert (verified.withheld, verified.issuer) == ((), None)


def test_what_was_just_recorded_has_evidence(
    either_service: Service, either_sender: Sender, key: dict[str, str]
) -> None:
    """It waits for the checkpoint: there is no moment at which an event is acknowledged and cannot be proved."""
    for _ in range(5):
        event = either_sender.post(revoked()).json()
        answer = ask(either_service, event["event_id"], key)
        assert evidence.verify(answer.content, policy(either_service)).index == event["log_index"]


def test_no_byte_of_it_can_be_changed(either_service: Service, either_sender: Sender, key: dict[str, str]) -> None:
    """Each byte of the file changed in turn: it is then no evidence, or none of this log."""
    event = either_sender.post(revoked()).json()
    file = bytearray(ask(either_service, event["event_id"], key).content)

    for at in range(0, len(file), 7):
        file[at] ^= 1
        with pytest.raises(TranslogError):
            evidence.verify(bytes(file), policy(either_service))
        file[at] ^= 1
    assert evidence.verify(bytes(file), policy(either_service)).index == event["log_index"]


def test_another_logs_key_does_not_verify_it(
    either_service: Service, either_sender: Sender, key: dict[str, str]
) -> None:
    """Not even one of the same name."""
    event = either_sender.post(revoked()).json()
    file = ask(either_service, event["event_id"], key).content
    other = SigningKey.generate(either_service.tenant.log.origin).verifying_key()

    with pytest.raises(SignatureError):
        evidence.verify(file, Policy.of(other))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/json, text/plain;q=0.5", "application/json"),
        ("text/html, application/json;q=0.9, */*;q=0.1", "application/json"),
        ("image/png", "text/plain; charset=utf-8"),
        (",;=", "text/plain; charset=utf-8"),
        ("\xe9", "text/plain; charset=utf-8"),
    ],
)
def test_text_or_json(service: Service, accept: str | None, content_type: str) -> None:
    """By Accept; the text where it is not understood."""
    event = service.add_source().post(revoked()).json()
    headers = [(name.encode(), value.encode()) for name, value in service.key().items()]
    if accept is not None:
        headers.append((b"accept", accept.encode("latin-1")))

    answer = service.client.get(f"/v1/events/{event['event_id']}/evidence", headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)


def test_the_json_says_the_same(either_service: Service, either_sender: Sender, key: dict[str, str]) -> None:
    """Its members are those of the file, which it holds as well."""
    body = revoked()
    event = either_sender.post(body).json()

    members: dict[str, Any] = ask(either_service, event["event_id"], key, "application/json").json()

    assert sorted(members) == ["delivery", "entry", "erased_by", "event", "issuer", "proof", "tlog_proof"]
    file = TlogProof.parse(members["tlog_proof"].encode())
    assert evidence.verify(file.encode(), policy(either_service)).index == event["log_index"]
    assert members["proof"]["leaf_hash"] == event["leaf_hash"]
    assert [bytes.fromhex(one) for one in members["proof"]["proof"]] == list(file.hashes)
    assert (members["proof"]["index"], members["proof"]["checkpoint"].encode()) == (file.index, file.checkpoint)
    assert base64.b64decode(members["entry"]) == either_service.entry(event["log_index"])
    shown = evidence.Evidence.parse(file.extra or b"")
    assert shown.event is not None
    assert shown.delivery is not None
    for name, opening in (("event", shown.event), ("delivery", shown.delivery)):
        assert members[name] == {
            "data": base64.b64encode(opening.data).decode(),
            "salt": base64.b64encode(opening.salt).decode(),
        }
    assert json.loads(shown.delivery.data)["body"] == base64.b64encode(body).decode()


def test_a_static_token_is_in_no_evidence(service: Service) -> None:
    """What authenticates every delivery of a source is shown to nobody."""
    token = "a token that is good for ever"
    sender = service.add_source(scheme="token", options={"header": "x-token"}, secret=token)
    event = service.client.post(sender.path, content=revoked(), headers={"x-token": token}).json()

    file = ask(service, event["event_id"], service.key()).content

    shown = evidence.verify(file, policy(service)).delivery
    assert shown is not None
    assert shown.headers == ()


def test_the_command_verifies_it(service: Service, sender: Sender, tmp_path: Path) -> None:
    """`translog verify`, which needs nothing of the service."""
    event = sender.post(revoked()).json()
    file = tmp_path / "event.tlog-proof"
    file.write_bytes(ask(service, event["event_id"], service.key()).content)
    command = [sys.executable, "-m", "translog", "verify", str(file), "--key", str(service.tenant.log.verifying_key)]

    good = subprocess.run(command, capture_output=True, text=True, check=False)
    file.write_bytes(file.read_bytes().replace(b"index ", b"index 1"))
    bad = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (good.returncode, bad.returncode) == (0, 1)
    assert event["event_id"] in good.stdout


@pytest.mark.parametrize(
    "event_id", ["0198a1b2-0000-7000-8000-000000000000", "x", "%00", "%ff", "a" * 5000, "..%2F..", "'--"]
)
def test_there_is_no_such_event(either_service: Service, key: dict[str, str], event_id: str) -> None:
    """404, whatever it is that was asked for."""
    for path in (f"/v1/events/{event_id}", f"/v1/events/{event_id}/evidence"):
        answer = either_service.client.get(path, headers=key)
        assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")


def test_what_is_no_event_has_evidence_as_well(
    either_service: Service, either_sender: Sender, key: dict[str, str], tmp_path: Path
) -> None:
    """Of a quarantined delivery and of a mismatch: it shows the delivery, and the command reads it."""
    receipt = "c0ffee00-0000-4000-8000-000000000000"
    bodies = {"quarantine": b"{", "revocation": revoked(receipt, note="a"), "mismatch": revoked(receipt, note="b")}
    sent = {kind: either_sender.headers(body) for kind, body in bodies.items()}
    for kind, body in bodies.items():
        either_sender.post(body, headers=sent[kind])

    for row in either_sender.rows():
        answer = ask(either_service, row.id, key)
        verified = evidence.verify(answer.content, policy(either_service))
        assert (verified.index, verified.leaf.id, verified.leaf.kind) == (row.log_index, row.id, row.kind)
        assert verified.delivery == evidence.Delivery(tuple(sent[row.kind].items()), bodies[row.kind])
        assert (verified.event is None, verified.withheld) == (row.kind != "revocation", ())
        file = tmp_path / "evidence"
        file.write_bytes(answer.content)
        assert cli.main(["verify", str(file), "--key", str(either_service.tenant.log.verifying_key)]) == 0
        if row.kind != "revocation":
            assert either_service.client.get(f"/v1/events/{row.id}", headers=key).status_code == 404


def test_evidence_of_a_delivery_that_was_read_again(
    service: Service, sender: Sender, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The event's says which quarantined delivery it was, and that one's when it came: both show the same bytes."""
    body = revoked(tenant_id="another")
    quarantine_id = sender.post(body).json()["quarantine_id"]
    with service.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == sender.source_id).values(account="another"))
    headers = service.key("audit,operate")
    event = service.client.post(f"/v1/quarantine/{quarantine_id}/reprocess", headers=headers).json()

    files = [ask(service, one, headers).content for one in (quarantine_id, event["event_id"])]

    before, after = (evidence.verify(file, policy(service)) for file in files)
    assert (before.delivery, after.leaf.facts["reprocessed"]) == (after.delivery, quarantine_id)
    (tmp_path / "evidence").write_bytes(files[1])
    cli.main(["verify", str(tmp_path / "evidence"), "--key", str(service.tenant.log.verifying_key)])
    assert f"in quarantine, as {quarantine_id}," in " ".join(capsys.readouterr().out.split())


def test_of_an_erased_event_the_leaf_is_proved(service: Service, sender: Sender) -> None:
    """Data and salts are gone; that there was an event, and when, stays proved, and what is withheld is named."""
    event = sender.post(revoked()).json()
    gone = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    with service.records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == event["event_id"]).values(**gone))

    verified = evidence.verify(ask(service, event["event_id"], service.key()).content, policy(service))

    assert (verified.leaf.id, verified.event, verified.delivery) == (event["event_id"], None, None)
    assert verified.withheld == ("event", "delivery")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service of which a test may break the log."""
    with running(settings_in(tmp_path_factory.mktemp("damaged"))) as service:
        yield service


def test_damage_is_never_passed_on_as_proof(damaged: Service) -> None:
    """An entry that is not what its leaf hash was made from: 500, and no evidence."""
    event = damaged.add_source().post(revoked()).json()
    headers = damaged.key()
    damaged.until_published()
    with damaged.records.database.write() as tx:
        place = {"index": event["log_index"]}
        tx.execute(sa.text("UPDATE log_entries SET data = data || ' ' WHERE \"index\" = :index"), place)

    answer = ask(damaged, event["event_id"], headers)

    assert (answer.status_code, problem(answer)["code"]) == (500, "INTERNAL_ERROR")
