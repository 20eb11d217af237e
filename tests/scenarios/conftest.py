"""The sandbox that the documented operations are played on, by name."""

from collections.abc import Generator

import pytest

from tests.scenarios.stage import Stage, staged


@pytest.fixture(scope="module")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    """A running sandbox, for all tests of a file."""
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(sandbox_process: Stage) -> Stage:
    """The same, with everything as in a fresh sandbox."""
    return sandbox_process.reset()
