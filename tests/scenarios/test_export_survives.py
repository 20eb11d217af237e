"""Killed while it makes an export, again and again: it is completed in the end, with the bytes that it always has."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from receiver.fsck import fsck
from receiver.records.opening import Records
from receiver.settings import Settings
from tests.receiver.claims import deliver, new_source
from tests.receiver.service import ACCOUNT
from tests.scenarios.service import PATIENCE, Service, Site, revoked, until

EVENTS = 6_000
AT_ONCE = 500


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An installation with so many events that a bundle of them takes a while."""
    site = Site(tmp_path)
    records = Records.open(Settings(data=site.data, guard=site.guard))
    source = new_source(records, "truthlocks", ACCOUNT)
    for _ in range(EVENTS // AT_ONCE):
        deliver(source, *(revoked() for _ in range(AT_ONCE)))
    records.close()
    return site


def test_an_export_survives_kills(site: Site) -> None:
    """Whichever moment it is: before there is anything of the file, in the middle of it, and in order as well."""
    key = site.key("export")
    sender = site.add_source()
    service = site.start()
    path = asked(service, key)

    seen: set[Path] = set()

    for moment in (begun, written, begun):
        soon(lambda moment=moment, before=frozenset(seen): moment(site, path) - before)
        service.kill()
        seen |= begun(site, path)
        service = site.start()
        assert service.get(path, key).json()["state"] in {"pending", "processing"}
        sender.deliver(service, revoked())
    soon(lambda: begun(site, path) - seen)
    assert service.stop() == 0
    assert begun(site, path) == set(), "nothing is left when the service is stopped in order"

    with site.serving() as service:
        soon(lambda: service.get(path, key).json()["state"] == "completed")
        export = service.get(path, key).json()
        data = service.get(f"{path}/download", key).content
        until(lambda: [one.suffix for one in (site.data / "exports").iterdir()] == [".zip"])
    assert hashlib.sha256(data).hexdigest() == export["sha256"]
    again = site.folder / "again.zip"
    made = json.loads(site.tell("receiver", "export", "--job", export["id"], "--out", again, "--json"))
    assert (made["events"], again.read_bytes()) == (EVENTS, data)
    nothing_is_wrong(site)


def asked(service: Service, key: str) -> str:
    """Ask for an export of everything so far; where it is."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = {"since": "2000-01-01T00:00:00Z", "until": now}
    answer = service.client.post("/v1/exports", json=body, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def begun(site: Site, path: str) -> set[Path]:
    """The folders in which its file is being made, or was when the service was killed."""
    return set(site.data.glob(f"exports/{path.rpartition('/')[2]}-*.part"))


def written(site: Site, path: str) -> set[Path]:
    """Those in which something of it is written down."""
    return {folder for folder in begun(site, path) if any(folder.glob("*"))}


def soon(true: Callable[[], object]) -> None:
    """Wait for what must come about, looking often: some of it is over soon."""
    deadline = time.monotonic() + 3 * PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def nothing_is_wrong(site: Site) -> None:
    """As `receiver fsck` on what the kills left."""
    records = Records.inspect(Settings(data=site.data, guard=site.guard))
    try:
        report = fsck(records)
    finally:
        records.close()
    assert report.findings == ()
