"""What commands share: the data folder, errors as sentences, secrets that are never arguments."""

import functools
import json
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from receiver.intake.sourcing import SettingError
from receiver.records.engine import UnsafeDatabaseError
from receiver.records.migrations import SchemaError
from receiver.records.opening import DEFAULT_TENANT, Records, RecordsError, must_exist
from receiver.records.secrets import MAX_SECRET
from receiver.records.sources import MAX_NAME, is_name
from receiver.records.vault import VaultError
from receiver.settings import Settings, load
from translog.errors import TranslogError

P = ParamSpec("P")
R = TypeVar("R")

data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="Data folder.  [default: ./rescind-data, or RESCIND_DATA]"
)
tenant_option = click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Made on first use.")
its_tenant_option = click.option(
    "--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose: of one that is there."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else.")


def settings_of(**given: Any) -> Settings:
    """The settings, with what the command was given. A setting that cannot be read ends the command with a sentence."""
    try:
        return load(**given)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise click.ClickException("a setting cannot be used: " + "; ".join(lines)) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def opened(data: Path | None, *, check: bool = True, new: bool = True, **given: Any) -> Generator[Records]:
    """The records of a data folder, made there if they are new; closed at the end.

    `new` is False for commands that make no sense on new ones: in a folder that was mistyped they would find nothing.
    """
    settings = settings_of(data=data, **given)
    if not new:
        must_exist(settings)
    records = Records.open(settings, check=check)
    try:
        if records.guard.folder.resolve().is_relative_to(records.settings.data.resolve()):
            click.echo(
                f"warning: the guard {records.guard.folder} is inside of the data folder {records.settings.data}: put "
                "back together with it, it cannot tell that anything was. Set RESCIND_GUARD to a folder outside of it",
                err=True,
            )
        for tenant in records.tenants:
            if not records.must_be_guarded(tenant):
                click.echo(
                    f"warning: the guard {records.guard.folder} knows nothing of the log of tenant {tenant.name}: "
                    "whether this database was put back from a copy cannot be told",
                    err=True,
                )
        yield records
    finally:
        records.close()


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """End a command by what is wrong, in a sentence, instead of by a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (RecordsError, SettingError, VaultError, UnsafeDatabaseError, SchemaError, TranslogError) as error:
            raise click.ClickException(str(error)) from error
        except SQLAlchemyError as error:
            raise click.ClickException(f"the database: {str(error).splitlines()[0]}") from error
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'the system'}: {error.strerror}") from error

    return run


def printable(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A callback for names: text that can be printed, kept, and written in a URL's query."""
    if value is not None and not is_name(value):
        raise click.BadParameter(f"{value!a} must be 1 to {MAX_NAME} printable characters, without spaces around them")
    return value


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """A callback for lengths of time: a number and its unit, `90s`, `15m`, `24h` or `7d`, or `0`; in seconds."""
    if value is None:
        return None
    found = re.fullmatch("([0-9]{1,6})([smhd])|0", value)
    if found is None:
        raise click.BadParameter(f"{value!a} must be a number and its unit, such as 90s, 15m, 24h or 7d")
    return 0 if value == "0" else int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def read_secret(file: Path | None, *, from_stdin: bool) -> str | None:
    """A secret from a file or standard input, without its one trailing newline; None if neither was named."""
    if file is not None and from_stdin:
        raise click.UsageError("give --secret-file or --secret-stdin, not both")
    if file is None and not from_stdin:
        return None
    raw = sys.stdin.buffer.read(MAX_SECRET + 1) if file is None else file.read_bytes()
    if len(raw) > MAX_SECRET:
        raise click.ClickException(f"a secret is at most {MAX_SECRET} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise click.ClickException("the secret is not UTF-8 text") from None
    secret = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
    if not secret:
        raise click.ClickException("the secret is empty")
    return secret


def show(value: dict[str, Any], *, as_json: bool, lines: list[str]) -> None:
    """Print a result: as one JSON object, or in words."""
    click.echo(json.dumps(value) if as_json else "\n".join(lines))
