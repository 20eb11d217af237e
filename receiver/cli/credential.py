"""`receiver source credential`: what a source's provider is asked with, about calls and about events."""

import dataclasses
import sys
from pathlib import Path

import click

from receiver.cli.common import data_option, json_option, opened, plainly, printable, show, tenant_option
from receiver.intake.sourcing import give_credential, take_credential
from receiver.records.credentials import MAX_CREDENTIAL
from receiver.records.sources import named_source

_SEPARATOR = ": "


@click.command()
@click.argument("name", callback=printable)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read its headers, `Name: value`, from standard input.")
@click.option("--file", type=click.Path(path_type=Path), help="Read them from this file.")
@click.option("--remove", is_flag=True, help="Take the one it has away.")
@tenant_option
@data_option
@json_option
@plainly
def credential(
    name: str,
    file: Path | None,
    tenant: str,
    data: Path | None,
    *,
    from_stdin: bool,
    remove: bool,
    as_json: bool,
) -> None:
    """Give a source a read-only credential, or take it away.

    With it the provider's own record is asked what became of calls that were passed on and have no answer, or have only
    begun something; and, for a source that names no issuer's log, what it says of events. It takes the place of the one
    before, is kept encrypted, and is shown nowhere.
    """
    if [from_stdin, file is not None, remove].count(True) != 1:
        raise click.UsageError("give one of --stdin, --file and --remove")
    headers = [] if remove else _read(file)
    with opened(data) as records:
        of = records.tenant(tenant)
        source_id = named_source(records, of, name)
        if remove:
            source, had_one = take_credential(records, of, source_id)
            said = "has no credential any more" if had_one else "has no credential: nothing is changed"
        else:
            source = give_credential(records, of, source_id, headers)
            said = f"has a credential since {source.credential_since}"
    show(dataclasses.asdict(source), as_json=as_json, lines=[f"Source {name} {said}"])


def _read(file: Path | None) -> list[tuple[str, str]]:
    """The headers in a file, or on standard input. No message repeats a line, which may be a value alone."""
    where = "standard input" if file is None else str(file)
    raw = sys.stdin.buffer.read(MAX_CREDENTIAL + 1) if file is None else file.read_bytes()
    if len(raw) > MAX_CREDENTIAL:
        raise click.ClickException(f"{where}: a credential is at most {MAX_CREDENTIAL} bytes")
    headers: list[tuple[str, str]] = []
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        header, separator, value = line.decode("latin-1").partition(_SEPARATOR)
        if not separator:
            raise click.ClickException(f"{where}: line {number} is no header, `Name: value`")
        headers.append((header, value.strip(" \t")))
    return headers
