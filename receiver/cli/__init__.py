"""The `receiver` command. One file for each group of commands; what they share is in `receiver.cli.common`."""

import click

from receiver.cli.demo import demo
from receiver.cli.keys import key, log_key
from receiver.cli.maintenance import fsck, init, migrate, recover
from receiver.cli.serving import serve
from receiver.cli.sources import source


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="rescind")
def cli() -> None:
    """Rescind: receives the notice that something was taken back, and keeps it so that it can be proved."""


for command in (demo, fsck, init, key, log_key, migrate, recover, serve, source):
    cli.add_command(command)
