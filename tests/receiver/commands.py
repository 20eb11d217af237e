"""The `receiver` command as tests run it: the real one, in this process, on a data folder and guard of its own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from receiver.cli import cli
from receiver.records.opening import Records
from receiver.settings import load
from tests.backups import begin


@dataclass(frozen=True, slots=True)
class Commands:
    """A folder to run commands in."""

    folder: Path

    @property
    def data(self) -> Path:
        """The data folder, which need not be there."""
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        """What keeps the guard out of the user's home."""
        return {"RESCIND_GUARD": str(self.folder / "guard")}

    def run(self, *arguments: str, stdin: bytes | None = None, **settings: str) -> Result:
        """Run one; `settings` are `RESCIND_*` variables."""
        given = {f"RESCIND_{name.upper()}": value for name, value in settings.items()}
        command = [*arguments, "--data", str(self.data)]
        return CliRunner().invoke(cli, command, input=stdin, env={**self.environment, **given})

    def ok(self, *arguments: str, stdin: bytes | None = None, **settings: str) -> str:
        """Run one that must succeed; what it printed."""
        result = self.run(*arguments, stdin=stdin, **settings)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str, stdin: bytes | None = None) -> dict[str, Any]:
        """Run one with --json that must succeed; the one object that it printed, which is all it printed."""
        printed = self.ok(*arguments, "--json", stdin=stdin)
        assert printed.endswith("\n")
        assert printed.count("\n") == 1
        value: dict[str, Any] = json.loads(printed)
        assert type(value) is dict
        return value

    def refused(self, *arguments: str, stdin: bytes | None = None, status: int = 1, **settings: str) -> str:
        """Run one that must not succeed: nothing on standard output, a sentence and no traceback on standard error."""
        result = self.run(*arguments, stdin=stdin, **settings)
        assert isinstance(result.exception, SystemExit), result.output
        assert (result.exit_code, result.stdout) == (status, "")
        assert "Error: " in result.stderr
        assert "Traceback" not in result.stderr
        return result.stderr

    def records(self) -> Records:
        """What the commands made, opened."""
        settings = load(data=self.data, guard=self.folder / "guard")
        begin(settings)
        return Records.open(settings)
