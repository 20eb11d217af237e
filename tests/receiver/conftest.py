"""Running services by name. Starting one takes a while, so a module's tests share theirs, each with sources of its own.

`service` runs on SQLite; a test that names `either_service` runs twice, on SQLite and on PostgreSQL.
"""

from collections.abc import Generator
from pathlib import Path

import pytest

from receiver.records.opening import Records
from receiver.records.vault import data_key_in
from tests.backups import begin
from tests.postgres import Cluster
from tests.receiver.service import Sender, Service, running, settings_in


@pytest.fixture
def local(tmp_path: Path) -> Generator[Records]:
    """Records on SQLite, for what need not be tried twice."""
    settings = settings_in(tmp_path)
    begin(settings)
    records = Records.open(settings)
    yield records
    records.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A running service on SQLite, shared by the tests of a module."""
    with running(settings_in(tmp_path_factory.mktemp("service"))) as service:
        yield service


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either_service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A running service on either database, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("service")
    if request.param == "sqlite":
        with running(settings_in(folder)) as service:
            yield service
        return
    cluster: Cluster = request.getfixturevalue("postgresql")
    name = cluster.create_database(template=request.getfixturevalue("postgresql_schema"))
    (folder / "data").mkdir(mode=0o700)
    data_key_in(folder / "data", make=True)
    with running(settings_in(folder, database_url=cluster.url(name))) as service:
        yield service
    cluster.drop_database(name)


@pytest.fixture
def sender(service: Service) -> Sender:
    """A source of the service on SQLite that had no delivery yet."""
    return service.add_source()


@pytest.fixture
def either_sender(either_service: Service) -> Sender:
    """A source of the service on either database that had no delivery yet."""
    return either_service.add_source()
