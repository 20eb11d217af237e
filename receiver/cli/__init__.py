"""The `receiver` command. One file for each group of commands; what they share is in `receiver.cli.common`."""

import click

from receiver.cli.credential import credential
from receiver.cli.demo import demo
from receiver.cli.erase import erase
from receiver.cli.export import export
from receiver.cli.hold import hold
from receiver.cli.issuer_log import issuer_log
from receiver.cli.keys import key, log_key
from receiver.cli.maintenance import fsck, init, migrate, recover
from receiver.cli.person import person
from receiver.cli.probe import probe
from receiver.cli.quarantine import quarantine
from receiver.cli.reconcile import reconcile
from receiver.cli.relay import relay
from receiver.cli.retention import retention_
from receiver.cli.sandbox import sandbox, sandbox_log_key
from receiver.cli.serving import serve
from receiver.cli.settle import settle
from receiver.cli.source_changes import disable, enable, rotate_, set_
from receiver.cli.sources import source
from receiver.cli.subscription import subscription


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="rescind")
def cli() -> None:
    """Rescind: receives the notice that something was taken back, and keeps it so that it can be proved."""


for command in (credential, disable, enable, probe, rotate_, set_):
    source.add_command(command)
relay.add_command(settle)
for command in (
    demo,
    erase,
    export,
    fsck,
    hold,
    init,
    issuer_log,
    key,
    log_key,
    migrate,
    person,
    quarantine,
    reconcile,
    recover,
    relay,
    retention_,
    sandbox,
    sandbox_log_key,
    serve,
    source,
    subscription,
):
    cli.add_command(command)
