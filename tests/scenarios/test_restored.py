"""A database put back from a copy: it is refused, whatever it has grown to since, and `receiver recover` goes on."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.scenarios.service import Sender, Service, Site, leaves, revoked

ADVICE = "`receiver recover` begins a successor log that says what is missing"


def copy_of(site: Site, name: str) -> Path:
    """A copy of a stopped service's database, as an operator makes one: all of its files."""
    folder = site.folder / name
    folder.mkdir()
    for file in site.data.glob("rescind.db*"):
        shutil.copy2(file, folder)
    return folder


def put_back(site: Site, copy: Path) -> None:
    """Put a copy in the place of the database."""
    for file in site.data.glob("rescind.db*"):
        file.unlink()
    for file in copy.iterdir():
        shutil.copy2(file, site.data)


def size_of(site: Site) -> int:
    """How many entries the database holds, read behind everyone's back."""
    with closing(sqlite3.connect(site.data / "rescind.db")) as connection:
        (size,) = connection.execute("SELECT size FROM logs").fetchone()
    return int(size)


def refused(site: Site) -> str:
    """What `receiver serve` says when it does not start."""
    done = site.run("receiver", "serve", "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def deliver(site: Site, sender: Sender, *bodies: bytes, guard: Path | None = None) -> list[str]:
    """Start the service, deliver, stop it; the ids of the events."""
    with site.serving(guard) as service:
        return [sender.deliver(service, body)["event_id"] for body in bodies]


def evidence(site: Site, service: Service, event_id: str, key: str) -> Path:
    """The evidence of an event, as a file."""
    file = site.folder / f"{event_id}.tlog-proof"
    file.write_bytes(service.get(f"/v1/events/{event_id}/evidence", key).content)
    return file


def test_an_earlier_copy_is_refused_and_recovered_from(tmp_path: Path) -> None:
    """Refused at start; after `receiver recover` it serves, proves what was kept, and says what was lost."""
    site = Site(tmp_path)
    sender, key, old_vkey = site.add_source(), site.key(), site.vkey()
    kept = revoked()
    [kept_id] = deliver(site, sender, kept)
    copy = copy_of(site, "copy")
    lost = revoked()
    [lost_id] = deliver(site, sender, lost)
    put_back(site, copy)

    told = refused(site)
    assert "entries, but its guard has a checkpoint of" in told
    assert ADVICE in told
    assert "put back from a copy" in site.run("receiver", "fsck").stdout

    told = site.tell("receiver", "recover", "--yes")
    vkey = site.vkey()
    assert vkey in told.splitlines()
    assert old_vkey in told.splitlines()
    assert vkey != old_vkey

    with site.serving() as service:
        assert sender.deliver(service, kept)["status"] == "duplicate"
        again = sender.deliver(service, lost)
        assert again["status"] == "recorded"
        assert again["event_id"] != lost_id
        size = service.checkpoint_of(again["log_index"] + 1, vkey).size
        first = leaves(service.entries(size))[0]
        old, new = (evidence(site, service, event, key) for event in (kept_id, again["event_id"]))

    assert first.kind == "tenant"
    predecessor = first.facts["predecessor"]
    assert isinstance(predecessor, dict)
    assert (predecessor["vkey"], predecessor["missing"]) == (old_vkey, 3), (
        "one delivery, and a start's and a stop's tally"
    )
    assert site.run("translog", "verify", old, "--key", old_vkey).returncode == 0
    assert site.run("translog", "verify", old, "--key", vkey).returncode == 1
    assert site.run("translog", "verify", new, "--key", vkey).returncode == 0
    told = site.tell("receiver", "fsck")
    assert "was recovered from" in told
    assert "Checked 2 logs" in told
    assert "nothing is wrong" in told


def test_a_copy_that_grew_to_the_same_size_is_refused(tmp_path: Path) -> None:
    """As many entries, but others: the guard's root tells. Then `receiver recover` goes on here as well."""
    site = Site(tmp_path)
    sender = site.add_source()
    deliver(site, sender, revoked())
    copy = copy_of(site, "copy")
    deliver(site, sender, revoked(), revoked())
    before = size_of(site)
    put_back(site, copy)
    deliver(site, sender, revoked(), revoked(), guard=tmp_path / "another guard")
    assert size_of(site) == before

    told = refused(site)
    assert "other entries stand where signed ones stood" in told
    assert ADVICE in told
    assert "has root" in site.run("receiver", "fsck").stdout

    assert "others than it signed" in site.tell("receiver", "recover", "--yes")
    [_] = deliver(site, sender, revoked())
    assert "others stand where signed ones stood" in site.tell("receiver", "fsck")


def test_a_healthy_log_is_not_recovered(tmp_path: Path) -> None:
    """There is nothing to recover where the guard is content, and nothing is changed."""
    site = Site(tmp_path)
    deliver(site, site.add_source(), revoked())
    vkey = site.vkey()
    assert "There is nothing to recover" in site.tell("receiver", "recover", "--yes")
    assert site.vkey() == vkey
