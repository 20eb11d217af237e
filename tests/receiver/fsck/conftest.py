"""Records filled once by a running service, and a copy of them for each test to damage."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from receiver.records.opening import Records
from tests.receiver.fsck.calls import Filled, fill_calls
from tests.receiver.fsck.copies import Copy, fill
from tests.receiver.fsck.found import fill_found
from tests.receiver.service import settings_in


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and the guard of a service that was stopped in order."""
    folder = tmp_path_factory.mktemp("filled")
    fill(settings_in(folder))
    return folder


@pytest.fixture
def copy(filled: Path, tmp_path: Path) -> Copy:
    """A copy of them."""
    shutil.copytree(filled, tmp_path / "copy")
    return Copy(settings_in(tmp_path / "copy"))


@pytest.fixture
def open_copy(copy: Copy) -> Generator[Records]:
    """The copy, opened as the service opens it, to append to its log what no service would."""
    records = Records.open(copy.settings)
    yield records
    records.close()


@pytest.fixture(scope="session")
def passed_on(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with the data of a service that passed calls on, and the ids of what it wrote."""
    folder = tmp_path_factory.mktemp("passed-on")
    return folder, fill_calls(settings_in(folder))


@pytest.fixture
def calls(passed_on: tuple[Path, dict[str, str]], tmp_path: Path) -> Filled:
    """A copy of it."""
    folder, ids = passed_on
    shutil.copytree(folder, tmp_path / "calls")
    return Filled(Copy(settings_in(tmp_path / "calls")), ids)


@pytest.fixture(scope="session")
def found_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with the data of all that can be found out, and the ids of what was written."""
    folder = tmp_path_factory.mktemp("found-out")
    return folder, fill_found(settings_in(folder))


@pytest.fixture
def found(found_out: tuple[Path, dict[str, str]], tmp_path: Path) -> Filled:
    """A copy of it."""
    folder, ids = found_out
    shutil.copytree(folder, tmp_path / "found")
    return Filled(Copy(settings_in(tmp_path / "found")), ids)
