"""`receiver serve`: the service."""

import logging
from pathlib import Path

import click

from receiver.cli.common import data_option, opened, plainly


@click.command()
@data_option
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@plainly
def serve(data: Path | None, host: str, port: int) -> None:
    """Receive deliveries and answer auditors, until SIGTERM or Ctrl-C."""
    from receiver.app import create_app
    from receiver.server import listen
    from receiver.server import serve as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # what was tried again in vain, whoever asked for it says
    with opened(data) as records:
        try:
            listening = listen(host, port)
        except OSError as error:
            raise click.ClickException(f"cannot listen on {host}, port {port}: {error.strerror}") from error
        address, bound = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        click.echo(f"Rescind listens on http://{shown}:{bound} (data in {records.settings.data})", err=True)
        run(create_app(records), listening, records.settings.request_timeout)
