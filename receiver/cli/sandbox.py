"""`receiver sandbox` and `receiver sandbox-log-key`: an issuing side to try with, and which key its log signs with."""

import ipaddress
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from receiver.cli.common import plainly, read_secret

if TYPE_CHECKING:
    from receiver.sandbox.deliverer import Destination

REQUEST_TIMEOUT = 10.0  # seconds for a request to arrive

_data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("rescind-sandbox"),
    help="The sandbox's own folder.  [default: ./rescind-sandbox]",
)


@click.command()
@_data_option
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8100, show_default=True, help="0 takes a free one.")
@click.option("--deliver", multiple=True, metavar="PROVIDER=URL", help="Deliver its notices there, in this run.")
@click.option("--deliver-secret", multiple=True, metavar="PROVIDER=FILE", help="The secret that they are signed with.")
@plainly
def sandbox(data: Path, host: str, port: int, deliver: Sequence[str], deliver_secret: Sequence[str]) -> None:
    """Be the issuing side of every provider, with made-up things, until SIGTERM or Ctrl-C.

    Its credentials are fixed and public, and so it listens on loopback only unless --host says otherwise.
    """
    from receiver.sandbox.app import create_sandbox
    from receiver.sandbox.ledger import Ledger
    from receiver.server import listen, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("httpx2", "stamina"):  # a line for each attempt; the deliverer says when it begins to fail
        logging.getLogger(name).setLevel(logging.ERROR)
    destinations = _destinations(_pairs("--deliver", deliver), _pairs("--deliver-secret", deliver_secret))
    ledger = Ledger.open(data, frozenset(destinations))
    try:
        try:
            listening = listen(host, port)
        except OSError as error:
            raise click.ClickException(f"cannot listen on {host}, port {port}: {error.strerror}") from error
        address, bound = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        if not ipaddress.ip_address(address).is_loopback:
            click.echo(f"warning: whoever reaches {shown} can use it, for its credentials are public", err=True)
        for provider, destination in destinations.items():
            click.echo(f"Notices of {provider} are delivered to {destination.url}", err=True)
        click.echo(f"The vkey of the log is {ledger.log.verifying_key}", err=True)
        click.echo(f"The sandbox listens on http://{shown}:{bound} (data in {data})", err=True)
        serve(create_sandbox(ledger, destinations), listening, REQUEST_TIMEOUT)
    finally:
        ledger.close()


@click.command("sandbox-log-key")
@_data_option
@plainly
def sandbox_log_key(data: Path) -> None:
    """Print the vkey of the sandbox's log: what verifies its checkpoints."""
    from receiver.sandbox.ledger import Ledger

    ledger = Ledger.open(data)
    click.echo(str(ledger.log.verifying_key))
    ledger.close()


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """What was given as PROVIDER=VALUE, by provider."""
    from receiver.sandbox.issuers import issuers

    pairs: dict[str, str] = {}
    for one in given:
        provider, _, value = one.partition("=")
        if provider not in issuers():
            known = ", ".join(issuers())
            raise click.BadParameter(f"{one!a} must begin with a provider and =; known: {known}", param_hint=option)
        if not value:
            raise click.BadParameter(f"{one!a} must say something after the =", param_hint=option)
        if provider in pairs:
            raise click.BadParameter(f"{provider} is given twice", param_hint=option)
        pairs[provider] = value
    return pairs


def _destinations(urls: dict[str, str], files: dict[str, str]) -> "dict[str, Destination]":
    """Where notices go, by provider. Each was tried out: an issuer can sign with its secret."""
    from receiver.sandbox.deliverer import Destination
    from receiver.sandbox.issuers import issuers

    for provider in sorted(urls.keys() ^ files.keys()):
        missing = "--deliver-secret" if provider in urls else "--deliver"
        raise click.UsageError(f"--deliver and --deliver-secret go together: {provider} has no {missing}")
    destinations: dict[str, Destination] = {}
    for provider, url in urls.items():
        if not _is_http(url):
            raise click.BadParameter(f"{url!a} must be an http:// or https:// URL", param_hint="--deliver")
        secret = read_secret(Path(files[provider]), from_stdin=False) or ""  # of a file it is never None
        try:
            headers = issuers()[provider].sign(b"{}", secret, "id", 0)
        except ValueError as error:
            raise click.ClickException(f"{files[provider]} holds no secret for {provider}: {error}") from error
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise click.ClickException(f"{files[provider]} holds no secret for {provider}: no header can carry it")
        destinations[provider] = Destination(url, secret)
    return destinations


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
