"""`receiver issuer-log`: the transparency logs that sources name, how each stands, and what proves that one forked."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import click

from receiver.cli.common import data_option, json_option, opened, plainly, show, tenant_option
from receiver.records.standing import Standing, Stands, standings
from translog.cli import printable


@click.group("issuer-log")
def issuer_log() -> None:
    """Issuers' transparency logs."""


@issuer_log.command("list")
@tenant_option
@data_option
@json_option
@plainly
def list_(tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Every log that a source names, and how it stands."""
    from receiver.audit.issuer_logs import shape

    found = _standings(data, tenant)
    lines = [line for one in found for line in in_words(one)]
    items = [dataclasses.asdict(shape(one)) for one in found]
    show({"items": items}, as_json=as_json, lines=lines or ["No source names an issuer's log."])


@issuer_log.command()
@click.argument("log_id", metavar="ID")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write; it must be new.")
@tenant_option
@data_option
@plainly
def evidence(log_id: str, out: Path, tenant: str, data: Path | None) -> None:
    """Write what proves that a log has forked: anyone verifies it with `translog verify` and the log's key."""
    found = [one for one in _standings(data, tenant) if one.id == log_id]
    if not found:
        raise click.ClickException(f"no source names an issuer's log {log_id[:64]!a}; `receiver issuer-log list` does")
    (log,) = found
    if log.fork is None:
        raise click.ClickException(f"{log.label} was not seen to fork: it is {log.stands}")
    try:
        with out.open("xb") as file:
            file.write(log.fork.encode())
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}") from error
    click.echo(f"Written: {out}. To verify it: translog verify {out} --key VKEY, with the key of {log.label}")


def in_words(log: Standing) -> list[str]:
    """A log, in lines."""
    read = "nothing read yet"
    if log.checkpoint is not None:
        read = f"{log.next_index} of {log.checkpoint.size} entries read, root {log.checkpoint.root.hex()}"
    lines = [
        f"{log.label}  {log.stands}",
        f"  id {log.id}, at {log.url}",
        f"  {read}",
        f"  complete as of {log.complete_at or 'never'}",
    ]
    if log.stands is Stands.FORKED:
        lines.append(f"  seen at {log.forked_at}; what proves it: receiver issuer-log evidence {log.id} --out FILE")
    if log.failing_since is not None:
        lines.append(f"  failing since {log.failing_since}: {log.failure}")
    if log.unreadable:
        lines.append(f"  {log.unreadable} entries of a known provider could not be read")
    lines += [
        f"  source {one.name}, gaps from entry {'(not known yet)' if one.starts_at is None else one.starts_at}"
        for one in log.sources
    ]
    return [printable(line) for line in lines]  # some of it is what another server said


def _standings(data: Path | None, tenant: str) -> list[Standing]:
    with opened(data) as records:
        its = records.tenant(tenant).id
        with records.database.read() as tx:
            return standings(tx, datetime.now(UTC), its)
