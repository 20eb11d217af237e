"""`receiver init`, `migrate`, `fsck`, `recover`: the data folder itself."""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from receiver.cli.common import data_option, opened, plainly, settings_of
from receiver.fsck.check import Progress
from receiver.records.loss import Loss
from receiver.records.opening import DEFAULT_TENANT, Records, must_exist
from receiver.records.recovery import find_losses
from receiver.records.recovery import recover as recover_tenant


@click.command()
@data_option
@click.option("--origin", help="Base of the log origins, host/path: at first use only, it never changes.")
@plainly
def init(data: Path | None, origin: str | None) -> None:
    """Make the data folder: key, database, and the tenant `default` with its log."""
    with opened(data, origin=origin) as records:
        click.echo(f"{records.settings.data} is ready.")
        for tenant in records.tenants:
            click.echo(f"Log of tenant {tenant.name}: {tenant.log.verifying_key}")


@click.command()
@data_option
@plainly
def migrate(data: Path | None) -> None:
    """Bring the database to this version's schema."""
    with opened(data):
        click.echo("The schema is up to date.")


@click.command()
@data_option
@plainly
def fsck(data: Path | None) -> None:
    """Derive every log again from its entries, and compare all that is kept. Nothing is written.

    Tiles, heads, checkpoints, guard, and every delivery's row with its entry. Exit status 1 if anything is wrong. May
    run while the service does.
    """
    from receiver.fsck import fsck as check

    records = Records.inspect(settings_of(data=data))
    try:
        with _progress() as progress:
            report = check(records, progress)
    finally:
        records.close()
    for finding in report.findings:
        click.echo(str(finding))
    if report.found > len(report.findings):
        click.echo(f"… and {report.found - len(report.findings)} more")
    for remark in report.remarks:
        click.echo(f"note: {remark}")
    wrong = {0: "nothing is wrong", 1: "1 thing is wrong"}.get(report.found, f"{report.found} things are wrong")
    click.echo(f"Checked {report.summary}: {wrong}.")
    if report.found:
        sys.exit(1)


@click.command()
@click.option("--tenant", "name", default=DEFAULT_TENANT, show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@plainly
def recover(name: str, data: Path | None, *, yes: bool) -> None:
    """Go on after a loss: begin a successor of a log that its guard refuses.

    For a database that was put back from a copy, when there is no newer one. The successor's first entry says what is
    missing; the log before it is closed for good.
    """
    settings = settings_of(data=data)
    must_exist(settings)
    with opened(data, check=False) as records:
        losses = find_losses(records, name)
        if not losses:
            click.echo(f"There is nothing to recover: the log of tenant {name} is all that its guard says.")
            return
        click.echo(_explain(name, losses))
        if not yes:
            click.confirm("Begin the successor?", abort=True)
        successor = recover_tenant(records, name, losses).log
    click.echo(f"Tenant {name} goes on in {successor.origin}. Give auditors its key, by a way of its own:")
    click.echo(str(successor.verifying_key))
    for loss in losses:
        if loss.vkey is not None:
            click.echo("What is kept of the closed log verifies with its own key, as before:")
            click.echo(loss.vkey)


def _explain(name: str, losses: Sequence[Loss]) -> str:
    closed = any(loss.vkey is not None for loss in losses)
    closing = (
        "Else this log is closed: it stays readable, and never grows or signs again; its private key is destroyed.\n"
        if closed
        else "Else the tenant is made again.\n"
    )
    return (
        "\n".join(_what_is_lost(name, loss) for loss in losses)
        + "\nIf there is a newer copy of the database, stop here and put that in place: this cannot be undone.\n\n"
        + closing
        + "A successor with an origin and a key of its own begins with an entry that says what is missing. Deliveries\n"
        "that are kept stay known, and what was lost can be delivered again. Sources, secrets and API keys are as in\n"
        "the copy."
    )


def _what_is_lost(name: str, loss: Loss) -> str:
    guard, kept = loss.guard, loss.kept
    if loss.intact:
        return f"The log {kept.origin} of tenant {name} is all that its guard says, but others of that tenant are lost."
    if loss.vkey is None:
        return (
            f"The log {kept.origin} of tenant {name} has signed {guard.size} entries, says its guard. This database "
            "knows\nnothing of it, and its key is gone: all of them are missing."
        )
    if loss.missing is None:
        what = f"It holds {kept.size} entries, but others than it signed: at size {guard.size} its root is another one."
    else:
        what = f"It holds {kept.size} entries, and has signed {guard.size}: {loss.missing} are missing."
    return f"The log {kept.origin} of tenant {name} is not what its guard says.\n{what}"


@contextmanager
def _progress() -> Generator[Progress | None]:
    """Shows on a terminal how far the check is; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    with Bar(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(origin: str, done: int, size: int) -> None:
            if origin not in tasks:
                tasks[origin] = bar.add_task(origin, total=size)
            bar.update(tasks[origin], completed=done)

        yield show
