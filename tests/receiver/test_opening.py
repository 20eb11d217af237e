"""`receiver.records.opening`: a first start, every start after it, and what is refused before anything is written."""

import base64
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from receiver.records import tables
from receiver.records.apikeys import create_key, parse_scopes
from receiver.records.opening import Records, RecordsError, VaultError
from receiver.records.sources import NewSource, add_source, load_sources
from receiver.records.vault import KEY_FILE
from receiver.settings import Settings
from tests.backups import Backup
from translog.checkpoint import Checkpoint
from translog.errors import LogRegressed, NotPublished, StoreError
from translog.evidence import Leaf
from translog.log import Log
from translog.merkle import EMPTY_ROOT
from translog.note import SigningKey
from translog.policy import Policy
from translog.store import Head, create_log

ORIGIN = "example.com/rescind"  # as the settings have it
SOURCE = NewSource("shop", "truthlocks", "standard-webhooks", {})

Open = Callable[[Settings], Records]


@pytest.fixture(name="open_records")
def _open_records() -> Generator[Open]:
    """Opens records, as often as a test needs, and closes all of them after it."""
    with ExitStack() as opened:

        def open_records(settings: Settings) -> Records:
            records = Records.open(settings)
            opened.callback(records.close)
            return records

        yield open_records


def leaves(log: Log) -> list[Leaf]:
    """All leaves of a log, published or not."""
    with log.store.transactions.read() as tx:
        return [Leaf.parse(entry) for entry in log.store.entries(tx, 0, log.store.head(tx).size)]


def test_a_first_start(records: Records, settings: Settings) -> None:
    """It makes data key, schema and the tenant `default`, whose log publishes size 0 and tells of its making."""
    (tenant,) = records.tenants
    log = tenant.log
    assert (tenant.name, log.origin, log.verifying_key.name) == ("default", f"{ORIGIN}/log/default", log.origin)
    assert (settings.data / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert log.published_size == 0
    assert Policy.of(log.verifying_key).open(log.published.note) == Checkpoint(log.origin, 0, EMPTY_ROOT)
    assert records.guard.read(log.verifying_key) == Checkpoint(log.origin, 0, EMPTY_ROOT)
    (leaf,) = leaves(log)
    assert (leaf.kind, leaf.facts) == ("tenant", {"action": "created", "by": "command", "id": "default"})
    assert log.head() == Head(1, log.head().root, leaf.logged_at)
    assert log.publish() is not None


def test_every_start_after_it(records: Records, settings: Settings, open_records: Open) -> None:
    """Opened again, the same key, log and hash key are there, the newest checkpoint is served, and nothing is added."""
    records.tenant("default").log.publish()
    again = open_records(settings)
    (before,), (after,) = records.tenants, again.tenants
    assert (before.id, before.name, before.log_id, before.hash_key) == (
        after.id,
        after.name,
        after.log_id,
        after.hash_key,
    )
    assert after.log.verifying_key == before.log.verifying_key
    assert after.log.published == before.log.published
    assert after.log.published_size == 1
    assert after.log.publish() is None
    assert len(leaves(after.log)) == 1


# ---- origins and tenants ----------------------------------------------------------------------------------------


def test_the_origin_is_settled_once(records: Records, settings: Settings, open_records: Open) -> None:
    """Whoever names another one later is refused; naming it again, or leaving it out, changes nothing."""
    with pytest.raises(RecordsError, match=rf"is {ORIGIN} and never changes; example\.com/other was asked for"):
        Records.open(settings.model_copy(update={"origin": "example.com/other"}))
    for origin in (ORIGIN, None):
        again = open_records(settings.model_copy(update={"origin": origin}))
        assert again.ensure_tenant("new").log.origin == f"{ORIGIN}/log/new"


def test_without_an_origin_one_is_made_up(settings: Settings, open_records: Open) -> None:
    """It names nothing in the world, is of random digits, and stays as well."""
    unnamed = settings.model_copy(update={"origin": None})
    origin = open_records(unnamed).tenant("default").log.origin
    assert re.fullmatch(r"rescind\.invalid/[0-9a-f]{16}/log/default", origin)
    assert open_records(unnamed).tenant("default").log.origin == origin
    with pytest.raises(RecordsError, match="never changes"):
        Records.open(settings)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "/path",
        "example.com/",
        "example.com//path",
        "https://example.com/path",
        "example.com/a b",
        "example.com/a+b",
        "example.com/path?query",
        "example.com/path\n",
        "exämple.com",
        "example.com:port",
    ],
)
def test_what_is_no_origin(tmp_path: Path, origin: str) -> None:
    """An origin is host/path; anything else is refused before anything is made."""
    settings = Settings(data=tmp_path / "data", guard=tmp_path / "guard", origin=origin)
    with pytest.raises(RecordsError, match="must be host/path"):
        Records.open(settings)
    assert not settings.data.exists()


@pytest.mark.parametrize("name", ["7", "a-" * 31 + "a"])
def test_a_tenant_has_all_its_own(records: Records, name: str) -> None:
    """Its own origin, key, log and hash key; size 0 is published, and nothing of it is in another's log."""
    default, tenant = records.tenant("default"), records.ensure_tenant(name, by="key-1")
    assert records.tenants == (default, tenant)
    assert records.tenant(name) is tenant
    assert records.ensure_tenant(name) is tenant
    assert tenant.log.origin == f"{ORIGIN}/log/{name}"
    assert tenant.log.verifying_key.public != default.log.verifying_key.public
    assert tenant.log_id != default.log_id
    assert len({tenant.hash_key, default.hash_key}) == 2
    assert len(tenant.hash_key) == 32
    assert tenant.log.published_size == 0
    assert [leaf.facts for leaf in leaves(tenant.log)] == [{"action": "created", "by": "key-1", "id": name}]
    assert [leaf.facts["id"] for leaf in leaves(default.log)] == ["default"]


def test_what_is_no_tenants_name(records: Records) -> None:
    """A name is part of an origin and of paths: lower-case letters, digits, hyphens inside, at most 63."""
    for name in ("", "A", "-a", "a-", "a_b", "a.b", "a/b", "ä", "a" * 64, "a\n", "default "):
        with pytest.raises(RecordsError, match="must be lower-case letters, digits and hyphens, at most 63"):
            records.ensure_tenant(name)
    assert [tenant.name for tenant in records.tenants] == ["default"]


def test_tenants_of_other_processes(records: Records, settings: Settings, open_records: Open) -> None:
    """A tenant made elsewhere is known when it is asked for; one that nobody made is not."""
    made = open_records(settings).ensure_tenant("made-elsewhere")
    with pytest.raises(RecordsError, match="there is no tenant 'nobody'; known: default, made-elsewhere"):
        records.tenant("nobody")
    assert records.tenant("made-elsewhere").log.verifying_key == made.log.verifying_key
    assert records.ensure_tenant("made-elsewhere").log_id == made.log_id


def test_a_log_with_a_successor_is_closed(records: Records) -> None:
    """A tenant writes to its newest log; the one before can be read as far as it was published, and nothing else."""
    tenant = records.tenant("default")
    tenant.log.publish()
    assert records.log(tenant.log_id) is tenant.log
    key = SigningKey.generate(f"{ORIGIN}/log/default/2")
    with records.database.write() as tx:
        log_id = create_log(tx, key.name, EMPTY_ROOT)
        records.begin_log(tx, tenant.id, log_id, key, [{"action": "recovered"}])
        tx.execute(sa.update(tables.tenants).values(log_id=log_id))
    records.reload()
    assert records.tenant("default").log.verifying_key == key.verifying_key()
    closed = records.log(tenant.log_id)
    assert closed.published == tenant.log.published
    assert closed.entry(0) == tenant.log.entry(0)
    for step in (closed.publish, lambda: _lock(closed)):
        with pytest.raises(StoreError, match="is closed: it neither grows nor signs"):
            step()
    with pytest.raises(StoreError, match="log 404 is not in the database"):
        records.log(404)


# ---- keys and what is sealed ------------------------------------------------------------------------------------


def test_the_data_key_may_be_a_setting(settings: Settings, open_records: Open) -> None:
    """Then no file is made, and whoever has the same key opens the same records."""
    key = SecretStr(base64.b64encode(bytes(range(32))).decode())
    shared = settings.model_copy(update={"data_key": key})
    first = open_records(shared)
    assert not (settings.data / KEY_FILE).exists()
    elsewhere = shared.model_copy(update={"data": settings.data / "elsewhere"})
    assert open_records(elsewhere).tenant("default").hash_key == first.tenant("default").hash_key


@pytest.mark.parametrize("by", ["setting", "file"])
def test_another_data_key_is_refused(records: Records, settings: Settings, by: str) -> None:
    """A key that is not the one the database was made with opens nothing, and changes nothing."""
    before = _rows(records)
    if by == "setting":
        settings = settings.model_copy(update={"data_key": SecretStr(base64.b64encode(bytes(32)).decode())})
    else:
        (settings.data / KEY_FILE).write_text(base64.b64encode(bytes(32)).decode())
    with pytest.raises(
        VaultError, match=r"does not open with this data key\. Give the key this database was made with"
    ):
        Records.open(settings)
    assert _rows(records) == before


def test_a_lost_data_key_is_not_made_again(records: Records, settings: Settings) -> None:
    """Where the database holds what an earlier key sealed, a missing key is an error, here or in another folder."""
    (settings.data / KEY_FILE).unlink()
    for data in (settings.data, settings.data / "elsewhere"):
        with pytest.raises(VaultError, match="put it back from a copy, or set RESCIND_DATA_KEY"):
            Records.open(settings.model_copy(update={"data": data}))
        assert not (data / KEY_FILE).exists()


def test_no_secret_is_in_the_clear(records: Records, settings: Settings) -> None:
    """Log keys, hash keys, sources' secrets and API keys can be read from no row, and no byte of SQLite's files."""
    tenant = records.tenant("default")
    secret = "whsec_" + base64.b64encode(b"a secret of the provider").decode()
    add_source(records, tenant, SOURCE, secret)
    _, key = create_key(records, tenant, "ci", parse_scopes("audit"))
    signing_key = tenant.log._key  # pyright: ignore[reportPrivateUsage]
    assert signing_key is not None
    hidden = [secret.encode(), secret.removeprefix("whsec_").encode(), b"a secret of the provider", key.encode()]
    hidden += [str(signing_key).encode(), signing_key.seed, tenant.hash_key, b"PRIVATE+KEY"]
    rows = _rows(records)
    assert b"default" in rows
    files = [path for path in settings.data.parent.rglob("*") if path.is_file() and path.name != KEY_FILE]
    for value in hidden:
        assert value not in rows
        assert not [path for path in files if value in path.read_bytes()]
    (source,) = load_sources(records)
    assert source.secrets[0].value == secret


# ---- databases that were put back -------------------------------------------------------------------------------


def test_a_database_put_back_is_refused(records: Records, settings: Settings) -> None:
    """It does not reach the guard; whoever wants to look into it may, without the check."""
    log = records.tenant("default").log
    log.publish()
    backup = Backup.take(records.database)
    add_source(records, records.tenant("default"), SOURCE, "secret")
    log.publish()
    backup.put_back()
    with pytest.raises(
        LogRegressed, match=r"holds 1 entries, but its guard has a checkpoint of 2\. .*receiver recover"
    ):
        Records.open(settings)
    looked = Records.open(settings, check=False)
    assert looked.tenant("default").log.head().size == 1
    looked.close()


def test_a_guard_that_is_missing(records: Records, settings: Settings, open_records: Open, tmp_path: Path) -> None:
    """A log that is not empty should have one: without it a start says so, once, or is refused if it must not be."""
    records.tenant("default").log.publish()
    unguarded = settings.model_copy(update={"guard": tmp_path / "lost"})
    with pytest.raises(RecordsError, match=r"is not empty and the guard .*lost knows nothing of it\. Put the guard"):
        Records.open(unguarded.model_copy(update={"require_guard": True}))
    first = open_records(unguarded)
    assert not first.must_be_guarded(first.tenant("default"))
    second = open_records(unguarded.model_copy(update={"require_guard": True}))
    assert second.must_be_guarded(second.tenant("default"))


def test_a_new_log_needs_no_guard_yet(settings: Settings, open_records: Open) -> None:
    """Requiring a guard does not stand in the way of a first start, nor of new tenants."""
    required = settings.model_copy(update={"require_guard": True})
    records = open_records(required)
    records.ensure_tenant("other")
    assert all(records.must_be_guarded(tenant) for tenant in records.tenants)
    assert len(open_records(required).tenants) == 2


# ---- first starts at once, and looking only ---------------------------------------------------------------------


def test_first_starts_at_once(settings: Settings, open_records: Open) -> None:
    """Threads that all make what is missing end up with one data key, origin, tenant and log."""
    unnamed = settings.model_copy(update={"origin": None})
    together = threading.Barrier(4)

    def start(settings: Settings) -> Records:
        together.wait()
        return open_records(settings)

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(start, [unnamed] * 4))
    (first,) = opened[0].tenants
    for records in opened:
        (tenant,) = records.tenants
        assert (tenant.hash_key, tenant.log.verifying_key) == (first.hash_key, first.log.verifying_key)
    first.log.publish()
    first.log.publish()
    assert [leaf.facts["action"] for leaf in leaves(first.log)] == ["created"]
    assert open_records(unnamed).tenant("default").log.published_size == 1


def test_first_starts_of_processes_at_once(settings: Settings, open_records: Open) -> None:
    """So do processes."""
    program = (
        "import sys; from receiver.records.opening import Records; from receiver.settings import load\n"
        "records = Records.open(load(data=sys.argv[1], database_url=sys.argv[2], guard=sys.argv[3]))\n"
        "print(records.tenant('default').log.verifying_key)"
    )
    command = [sys.executable, "-c", program, settings.data, settings.url, settings.guard]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {start.communicate(timeout=60)[0] for start in starts}
    assert printed == {
        f"{open_records(settings.model_copy(update={'origin': None})).tenant('default').log.verifying_key}\n"
    }


def test_looking_makes_nothing(settings: Settings, open_records: Open) -> None:
    """`inspect` needs what is there: without data folder or database it says so, and makes neither."""
    with pytest.raises(RecordsError, match="there is no data folder"):
        Records.inspect(settings)
    assert not settings.data.exists()
    log = open_records(settings).tenant("default").log
    looked = Records.inspect(settings)
    assert looked.tenants == ()
    assert looked.log(1).verifying_key == log.verifying_key
    looked.close()
    (settings.data / KEY_FILE).unlink()
    with pytest.raises(VaultError, match="put it back from a copy"):
        Records.inspect(settings)


def test_a_data_folder_that_cannot_be(settings: Settings) -> None:
    """A file where the folder should be, or a database of no kind we know, ends the start with a sentence."""
    settings.data.write_bytes(b"")
    with pytest.raises(RecordsError, match=r"the data folder .* cannot be used"):
        Records.open(settings)
    settings.data.unlink()
    with pytest.raises(RecordsError, match=r"sqlite:///FILE or postgresql://"):
        Records.open(settings.model_copy(update={"database_url": "mysql://host/name"}))


def test_a_tenant_whose_maker_died(
    records: Records, settings: Settings, open_records: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant whose maker died before it published has its log all the same, and size 0 comes first in it."""

    def die(_log: Log) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Log, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            records.ensure_tenant("orphan")
    log = open_records(settings).ensure_tenant("orphan").log
    with pytest.raises(NotPublished):
        _ = log.published
    assert log.publish() == Checkpoint(f"{ORIGIN}/log/orphan", 0, EMPTY_ROOT)


def _lock(log: Log) -> Head:
    with log.store.transactions.write() as tx:
        return log.lock(tx)


def _rows(records: Records) -> bytes:
    """Every value of every row, one after another."""
    values: list[bytes] = []
    with records.database.read() as tx:
        for table in tables.metadata.sorted_tables:
            for row in tx.execute(sa.select(table).order_by(*table.primary_key)):
                values += [value if isinstance(value, bytes) else str(value).encode() for value in row]
    return b"\n".join(values)
