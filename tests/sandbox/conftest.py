"""A running sandbox by name, each with a folder of its own, so that its log and fixtures are fresh."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.sandbox.service import Sandbox, running


@pytest.fixture
def sandbox(tmp_path: Path) -> Generator[Sandbox]:
    """A running sandbox with its fixtures, where nothing was done yet. It owes every notice, and delivers none."""
    with running(tmp_path / "sandbox") as sandbox:
        yield sandbox
