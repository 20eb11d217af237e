"""`/v1/exports`: asked for, made in the background, given out by parts, by keys with the scope `export`."""

import hashlib
import io
import json
import zipfile
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from receiver.events import Kind, format_time
from receiver.exports import making
from receiver.exports.making import sweep
from receiver.records.giving import file_of, remove_files, withdraw
from receiver.records.journal import change
from receiver.records.keeping import exports, given_out
from tests.receiver.exported import until_completed
from tests.receiver.service import Sender, Service, problem, revoked, until

SINCE, UNTIL = "2026-07-01T00:00:00.000000Z", "2026-10-01T00:00:00.000000Z"


@pytest.fixture(scope="module", autouse=True)
def _quickly() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """What is to be made is looked for more often than once a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "LOOKED_EVERY", 0.05)
        patch.setattr(making, "NOTED_EVERY", 0.05)
        yield


class Caller:
    """Somebody with a key."""

    def __init__(self, service: Service, tenant: str, scopes: str = "export") -> None:
        self.service = service
        self.tenant = service.records.ensure_tenant(tenant)
        self.headers = service.key(scopes, tenant)
        self.key_id: Any = service.leaf(service.size(tenant) - 1, tenant).facts["id"]

    def request(self, method: str, path: str = "", body: Any = None, **headers: str) -> httpx2.Response:
        """Ask for something under `/v1/exports`."""
        url, sent = f"/v1/exports{path}", {**self.headers, **headers}
        return self.service.client.request(method, url, headers=sent, json=body)

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Ask for an export, which must be taken."""
        body = {"since": SINCE, "until": format_time(datetime.now(UTC)), **asked}
        answer = self.request("POST", body=body)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/exports/{answer.json()['id']}"
        return answer.json()

    def get(self, export_id: str) -> dict[str, Any]:
        """How far it is."""
        answer = self.request("GET", f"/{export_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def made(self, **asked: Any) -> dict[str, Any]:
        """Ask for an export, and wait until it is completed."""
        export_id = self.ask(**asked)["id"]
        self.until_completed(export_id)
        return self.get(export_id)

    def until_completed(self, export_id: str) -> None:
        """Wait until it is."""
        until_completed(self.service, self.headers, export_id)

    def download(self, export_id: str, **headers: str) -> httpx2.Response:
        """Its file, or a part of it."""
        return self.request("GET", f"/{export_id}/download", **headers)

    def given(self, export_id: str) -> list[str]:
        """To whom it was given."""
        with self.service.records.database.read() as tx:
            query = sa.select(given_out.c.given_to).where(given_out.c.export_id == export_id)
            return list(tx.execute(query.order_by(given_out.c.id)).scalars())

    def file(self, export: dict[str, Any]) -> Path:
        """Where its file is."""
        return file_of(self.service.records.settings, export["id"], bytes.fromhex(export["sha256"]))

    def change(self, export_id: str, **values: Any) -> None:
        """Change its row, as time or a crash might."""
        with self.service.records.database.write() as tx:
            tx.execute(sa.update(exports).where(exports.c.id == export_id).values(**values))


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """A tenant of the test's own."""
    return f"t{abs(hash(request.node.nodeid)) % 10**12}"


@pytest.fixture
def caller(service: Service, tenant: str) -> Caller:
    """Somebody who may export what is the tenant's."""
    return Caller(service, tenant)


@pytest.fixture
def either_caller(either_service: Service, tenant: str) -> Caller:
    """The same on either database, for what depends on it."""
    return Caller(either_service, tenant)


@pytest.fixture
def own_sender(caller: Caller) -> Sender:
    """A source of the test's tenant that was delivered to."""
    return _delivered(caller)


@pytest.fixture
def either_sender(either_caller: Caller) -> Sender:
    """The same on either database."""
    return _delivered(either_caller)


def _delivered(caller: Caller) -> Sender:
    sender = caller.service.add_source(caller.tenant.name)
    for _ in range(3):
        assert sender.post(revoked()).status_code == 200
    return sender


def test_an_export_is_asked_for_made_and_given_out(either_caller: Caller, either_sender: Sender) -> None:
    """With all that was delivered, under the hash that is told; its file is the owner's alone."""
    asked = either_caller.ask(basis="received")
    assert asked["state"] in {"pending", "processing"}
    assert (asked["since"], asked["basis"], asked["providers"]) == (SINCE, "received", None)
    either_caller.until_completed(asked["id"])

    export, answer = either_caller.get(asked["id"]), either_caller.download(asked["id"])

    assert (export["progress_percent"], export["error"]) == (100, None)
    assert (export["size"], export["sha256"]) == (len(answer.content), hashlib.sha256(answer.content).hexdigest())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="export-{asked["id"]}.zip"'
    assert answer.headers["etag"] == f'"{export["sha256"]}"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        events = [json.loads(line) for line in bundle.read("events.jsonl").splitlines()]
        manifest = json.loads(bundle.read("manifest.json"))
    assert [one["leaf"]["id"] for one in events] == [row.id for row in either_sender.rows()]
    assert (manifest["export"], manifest["asked"]["by"]) == (asked["id"], either_caller.key_id)
    file = either_caller.file(export)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    until(lambda: [one.name for one in file.parent.iterdir() if one.name.startswith(asked["id"])] == [file.name])


def test_what_is_asked_for_is_logged_under_the_key(caller: Caller) -> None:
    """After the entry that announces the key of exports."""
    asked = caller.ask(until=UNTIL, providers=["thanx", "scrip"], tests=True)

    leaf = caller.service.leaf(asked["log_index"], caller.tenant.name)
    assert (leaf.kind, leaf.id) == (Kind.EXPORT, asked["id"])
    assert leaf.facts == {
        "basis": "logged",
        "by": caller.key_id,
        "parquet": False,
        "providers": ["scrip", "thanx"],
        "since": SINCE,
        "tests": True,
        "until": UNTIL,
    }


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        ({}, "since"),
        ({"since": SINCE}, "until"),
        ({"since": UNTIL, "until": SINCE}, "until"),
        ({"since": SINCE, "until": "2999-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-07-01", "until": UNTIL}, "since"),
        ({"since": 1, "until": UNTIL}, "since"),
        ({"since": SINCE, "until": UNTIL, "basis": "reported"}, "basis"),
        ({"since": SINCE, "until": UNTIL, "providers": []}, "providers"),
        ({"since": SINCE, "until": UNTIL, "providers": "scrip"}, "providers"),
        ({"since": SINCE, "until": UNTIL, "providers": ["nobody"]}, "providers"),
        ({"since": SINCE, "until": UNTIL, "tests": "yes"}, "tests"),
        ({"since": SINCE, "until": UNTIL, "parquet": 1}, "parquet"),
        ({"since": SINCE, "until": UNTIL, "tenant": "other"}, "tenant"),
    ],
)
def test_what_cannot_be_asked_for(service: Service, asked: dict[str, Any], member: str) -> None:
    """400 that names the member; nothing is logged."""
    caller = Caller(service, "default")
    size = service.size()

    answer = caller.request("POST", body=asked)

    assert (answer.status_code, problem(answer)["code"]) == (400, "VALIDATION_ERROR")
    assert list(answer.json()["details"]) == [member]
    assert service.size() == size


def test_a_parquet_file_needs_its_extra(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 that says which, where it is not installed."""
    monkeypatch.setattr("receiver.exports.parquet.available", lambda: False)

    answer = Caller(service, "default").request("POST", body={"since": SINCE, "until": UNTIL, "parquet": True})

    assert (answer.status_code, answer.json()["details"].keys()) == (400, {"parquet"})
    assert "rescind[parquet]" in problem(answer)["detail"]


def test_a_service_that_has_stopped_recording_takes_none(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """503; those that are there can be had all the same."""
    caller = Caller(service, "default")
    export = caller.made()
    monkeypatch.setattr(type(service.intake.recorder), "refusal", property(lambda _: "halted"), raising=False)

    answer = caller.request("POST", body={"since": SINCE, "until": UNTIL})

    assert (answer.status_code, problem(answer)["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert caller.download(export["id"]).status_code == 200


def test_exports_are_listed_by_pages(either_caller: Caller) -> None:
    """Newest first."""
    ids = [either_caller.ask(until=UNTIL)["id"] for _ in range(3)]

    first = either_caller.request("GET", "?limit=2").json()
    second = either_caller.request("GET", f"?limit=2&cursor={first['next_cursor']}").json()

    assert [one["id"] for one in (*first["items"], *second["items"])] == ids[::-1]
    assert second["next_cursor"] is None
    assert either_caller.request("GET", "?cursor=x").status_code == 400
    assert either_caller.request("GET", "?state=pending").status_code == 400


def test_another_tenants_exports_are_not_there(caller: Caller) -> None:
    """Neither in the list, nor by id, nor their files; nor is what no id can be."""
    export = caller.made(until=UNTIL)
    other = Caller(caller.service, f"{caller.tenant.name}-other")

    assert other.request("GET").json() == {"items": [], "next_cursor": None}
    for export_id in (export["id"], "nothing", "%00", "%ff"):
        for path in (f"/{export_id}", f"/{export_id}/download"):
            answer = other.request("GET", path)
            assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("asked", ["GET ", "POST ", "GET /x", "GET /x/download", "HEAD /x/download"])
def test_who_may_ask(service: Service, asked: str) -> None:
    """A key with the scope `export`, and nobody else."""
    method, path = asked.split(" ")
    without = service.client.request(method, f"/v1/exports{path}")
    others = Caller(service, "default", "audit,operate,admin").request(method, path)

    assert (without.status_code, others.status_code) == (401, 403)
    if method != "HEAD":
        assert problem(others)["details"] == {"scope": "export"}


# ---- the file -------------------------------------------------------------------------------------------------------


def test_parts_of_the_file(caller: Caller) -> None:
    """One range of bytes, as RFC 9110 has it: from and to, from on, the last ones."""
    export = caller.made(until=UNTIL)
    whole = caller.download(export["id"]).content
    size = len(whole)
    for asked, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, size),
        ("bytes=-5", size - 5, size),
        (f"bytes={size - 1}-{size + 5}", size - 1, size),
        (f"bytes=-{size + 5}", 0, size),
    ):
        answer = caller.download(export["id"], range=asked)
        assert (answer.status_code, answer.content) == (206, whole[start:stop]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for asked in ("bytes=0-1,5-6", "lines=0-9", "bytes=9-0", "bytes=-", "bytes=a-b"):
        answer = caller.download(export["id"], range=asked)
        assert (answer.status_code, len(answer.content)) == (200, size), asked
    for asked in (f"bytes={size}-", "bytes=-0"):
        answer = caller.download(export["id"], range=asked)
        assert (answer.status_code, problem(answer)["status"]) == (416, 416)
        assert answer.headers["content-range"] == f"bytes */{size}"


def test_the_schema_tells_how_to_ask_for_a_part(service: Service) -> None:
    """By two headers, each a text that may be left out."""
    operation = service.client.get("/schema").json()["paths"]["/v1/exports/{export_id}/download"]["get"]
    headers = [one for one in operation["parameters"] if one["in"] == "header"]

    assert sorted(one["name"] for one in headers) == ["If-Range", "Range"]
    assert [(one["required"], one["schema"]["type"]) for one in headers] == 2 * [(False, "string")]


def test_a_part_of_another_content_is_not_given(caller: Caller) -> None:
    """`If-Range` names the content: of another one the whole file is given."""
    export = caller.made(until=UNTIL)
    etag = f'"{export["sha256"]}"'
    for if_range, status in (
        (etag, 206),
        ('"another"', 200),
        ("Sat, 21 Nov 2026 00:00:00 GMT", 200),
        (f"W/{etag}", 200),
    ):
        answer = caller.download(export["id"], range="bytes=0-9", **{"if-range": if_range})
        assert answer.status_code == status, if_range


def test_head_answers_like_get(caller: Caller) -> None:
    """Without a body, without noting that something was given out, and of the whole file: ranges are for GET alone."""
    export = caller.made(until=UNTIL)
    get = caller.download(export["id"])
    for headers in ({}, {"range": "bytes=0-9"}, {"range": "bytes=999999999-"}):
        head = caller.request("HEAD", f"/{export['id']}/download", **headers)
        assert (head.status_code, head.content, dict(head.headers)) == (200, b"", dict(get.headers))

    assert caller.given(export["id"]) == [caller.key_id]


def test_who_is_given_a_file_is_noted(caller: Caller) -> None:
    """Each time that bytes of it go out, and not where none do."""
    export_id = caller.ask(until=UNTIL)["id"]
    assert caller.download(export_id).status_code in {200, 409}
    caller.until_completed(export_id)
    before = len(caller.given(export_id))
    other = Caller(caller.service, caller.tenant.name)
    for who, asked in ((caller, "bytes=0-"), (other, "bytes=1-1"), (other, "bytes=999999999-")):
        who.download(export_id, range=asked)

    assert caller.given(export_id)[before:] == [caller.key_id, other.key_id]


def test_there_is_no_file_yet(caller: Caller) -> None:
    """409 that says how far it is; or that it failed, and why."""
    export = caller.made(until=UNTIL)
    now = format_time(datetime.now(UTC))
    for state, detail in (("processing", "not made yet"), ("failed", "the disk is full")):
        values = {"state": state, "error": "the disk is full", "held_until": "9999", "expires_at": now}
        caller.change(export["id"], **values)
        answer = caller.download(export["id"])
        assert (answer.status_code, problem(answer)["code"]) == (409, "CONFLICT")
        assert answer.json()["details"] == {"state": state}
        assert detail in answer.json()["detail"]
    assert caller.get(export["id"])["error"] == "the disk is full"
    assert caller.given(export["id"]) == []


def test_a_file_expires(caller: Caller) -> None:
    """410 then, at once; it is removed in a while, and what there was of it is still told."""
    export = caller.made(until=UNTIL)
    caller.change(export["id"], expires_at=format_time(datetime.now(UTC)))

    answer = caller.download(export["id"])
    assert (answer.status_code, problem(answer)["code"]) == (410, "NOT_FOUND")
    sweep(caller.service.records)
    assert not caller.file(export).exists()
    assert (caller.get(export["id"])["state"], caller.get(export["id"])["sha256"]) == ("completed", export["sha256"])


@pytest.mark.parametrize("damage", ["gone", "shorter", "altered"])
def test_a_file_that_is_not_there_is_made_again(caller: Caller, own_sender: Sender, damage: str) -> None:
    """The same, to the byte: it is another host's, or was removed; or it is not what was written, after a download."""
    export = caller.made()
    whole, file = caller.download(export["id"]).content, caller.file(export)
    if damage == "gone":
        file.unlink()
    elif damage == "shorter":
        file.write_bytes(whole[:-1])
    else:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    answer = caller.download(export["id"])

    assert (answer.status_code, answer.json()["details"]["state"]) == (409, "pending")
    caller.until_completed(export["id"])
    assert caller.download(export["id"]).content == whole
    assert caller.given(export["id"]) == 2 * [caller.key_id]


def test_asking_how_far_it_is_finds_that_it_is_not_there(caller: Caller) -> None:
    """So whoever waits for it need not have tried."""
    export = caller.made(until=UNTIL)
    caller.file(export).unlink()

    assert caller.get(export["id"])["state"] != "completed"
    caller.until_completed(export["id"])
    assert caller.get(export["id"])["sha256"] == export["sha256"]


def test_a_withdrawn_file_is_not_given_out(either_caller: Caller, either_sender: Sender) -> None:
    """It is removed, and made again."""
    export = either_caller.made()
    tenant = either_caller.tenant
    with change(either_caller.service.records.database, tenant.log) as changing:
        place = (tenant.log_id, either_sender.rows()[0].log_index)
        ids = withdraw(changing.tx, tenant, [place])
    remove_files(either_caller.service.records.settings, ids)

    assert ids == [export["id"]]
    either_caller.until_completed(export["id"])
    assert either_caller.download(export["id"]).status_code == 200


def test_what_a_crash_leaves_is_swept(caller: Caller) -> None:
    """Unfinished files, and those that were withdrawn; nothing of what is being made, and nothing of others."""
    export = caller.made(until=UNTIL)
    file = caller.file(export)
    folder = file.parent
    left, old = folder / f"{export['id']}-{16 * '0'}.part", folder / f"{export['id']}-{16 * '1'}.zip"
    others = folder / "others.zip"
    unknown = folder / f"{export['id'][::-1].replace('-', '0')[:8]}{export['id'][8:]}-{16 * '1'}.zip"
    left.mkdir()
    (left / "bundle.zip").write_bytes(b"half")
    for path in (old, others, unknown):
        path.write_bytes(b"data")

    caller.change(export["id"], state="processing", held_until="9999")
    sweep(caller.service.records)
    assert (left.exists(), old.exists()) == (True, True)
    caller.change(export["id"], state="completed", held_until=None)
    sweep(caller.service.records)

    assert (left.exists(), old.exists(), file.exists()) == (False, False, True)
    assert (others.exists(), unknown.exists()) == (True, True)
    others.unlink()
    unknown.unlink()
