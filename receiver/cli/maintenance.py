"""`receiver init`, `migrate`, `fsck`, `recover`: the data folder itself."""

from pathlib import Path

import click

from receiver.cli.common import data_option, opened, plainly


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
