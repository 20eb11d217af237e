"""`receiver source`: who may deliver, and how it is authenticated.

What changes a source is in `source_changes`, what its provider is asked with in `credential`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from receiver import providers
from receiver.cli.common import data_option, json_option, opened, plainly, printable, read_secret, show, tenant_option
from receiver.intake.sourcing import MAX_RATE_LIMIT, MAX_REPLAY_WINDOW, Addition, Environment, settle
from receiver.records.secrets import ListedSecret
from receiver.records.sources import DEFAULT_REPLAY_WINDOW, ListedSource, add_source, list_sources, webhook_path

SCHEMES = ("standard-webhooks", "timestamped-hmac", "hmac", "token")

C = TypeVar("C", bound=Callable[..., Any])

scheme_option = click.option("--scheme", type=click.Choice(SCHEMES), help="How deliveries are authenticated.")
environment_option = click.option(
    "--environment", type=click.Choice(["live", "test"]), help="Events of a test source are marked as such."
)
replay_window = click.IntRange(1, MAX_REPLAY_WINDOW)
rate_limit_option = click.option(
    "--rate-limit", type=click.IntRange(1, MAX_RATE_LIMIT), help="Deliveries a minute, beyond which 429."
)
upstream_option = click.option(
    "--upstream", metavar="BASE_URL", help="Where the provider's operation is that /relay/NAME/… passes calls on to."
)


def scheme_options(command: C) -> C:
    """The options of schemes; what was given of them is made of the arguments by `given_options`."""
    for option in (
        click.option(
            "--strip-whitespace/--no-strip-whitespace",
            default=None,
            help="hmac: over the body without whitespace outside strings, or as it is.  [default: as it is]",
        ),
        click.option(
            "--key-form",
            type=click.Choice(["text", "text-without-whsec", "base64", "hex"]),
            help="hmac: how the secret's text becomes the key.  [default: text]",
        ),
        click.option(
            "--encoding", type=click.Choice(["hex", "base64"]), help="hmac: of the signature.  [default: hex]"
        ),
        click.option("--prefix", help="hmac: what stands before the signature, such as sha256=.  [default: nothing]"),
        click.option("--header", help="timestamped-hmac, hmac, token: the header that carries the signature or token."),
    ):
        command = option(command)
    return command


def given_options(**options: str | bool | None) -> dict[str, str | bool]:
    """Those options of a scheme that were given."""
    return {name: value for name, value in options.items() if value is not None}


def secret_options(command: C) -> C:
    """The two ways in which a secret is given: never as an argument, which everyone on the machine could read."""
    stdin = click.option("--secret-stdin", is_flag=True, help="Read the secret from standard input.")
    file = click.option("--secret-file", type=click.Path(path_type=Path), help="Read the secret from this file.")
    return file(stdin(command))


def warn(warnings: list[str]) -> None:
    """Say on standard error what there is to warn of."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@click.group()
def source() -> None:
    """Sources of deliveries."""


@source.command()
@click.argument("name", callback=printable)
@click.option("--provider", required=True, type=click.Choice(providers.names()))
@scheme_option
@scheme_options
@secret_options
@click.option("--account", callback=printable, help="Deliveries that name another account are quarantined.")
@environment_option
@click.option(
    "--replay-window",
    type=replay_window,
    default=DEFAULT_REPLAY_WINDOW,
    show_default=True,
    help="Seconds a signed timestamp may lie in the past or the future.",
)
@rate_limit_option
@upstream_option
@tenant_option
@data_option
@json_option
@plainly
def add(
    name: str,
    provider: str,
    scheme: str | None,
    header: str | None,
    prefix: str | None,
    encoding: str | None,
    key_form: str | None,
    secret_file: Path | None,
    account: str | None,
    environment: Environment | None,
    replay_window: int,
    rate_limit: int | None,
    upstream: str | None,
    tenant: str,
    data: Path | None,
    *,
    strip_whitespace: bool | None,
    secret_stdin: bool,
    as_json: bool,
) -> None:
    """Add a source. Without a secret one is made, and printed this once.

    Without --scheme it has the one that its provider documents; the scheme's options change that one's.
    """
    signing = providers.get(provider).signing
    if scheme is None and signing.scheme is None:
        raise click.UsageError(f"{signing.said}: say which --scheme it is")
    secret = read_secret(secret_file, from_stdin=secret_stdin)
    settled = settle(
        Addition(
            name=name,
            provider=provider,
            scheme=scheme,
            scheme_options=given_options(
                header=header,
                prefix=prefix,
                encoding=encoding,
                key_form=key_form,
                strip_whitespace=strip_whitespace,
            ),
            account=account,
            environment=environment or "live",
            replay_window=replay_window,
            rate_limit=rate_limit,
            upstream=upstream,
            secret=secret,
        )
    )
    warn(settled.warnings)
    with opened(data) as records:
        source_id = add_source(records, records.ensure_tenant(tenant), settled.new, settled.secret)
    path = webhook_path(source_id)
    result = {"id": source_id, "webhook_path": path}
    lines = [f"Source {name} ({source_id})", f"Webhook path: {path}"]
    if secret is None:
        result["secret"] = settled.secret
        lines.append(f"Secret, shown this once: {settled.secret}")
    show(result, as_json=as_json, lines=lines)


@source.command("list")
@tenant_option
@data_option
@json_option
@plainly
def list_(tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Every source, with its secrets' ids and times, and without what these and its credential are."""
    with opened(data) as records:
        found = list_sources(records, records.tenant(tenant))
    lines = [line for one in found for line in in_words(one)]
    show({"items": [dataclasses.asdict(one) for one in found]}, as_json=as_json, lines=lines or ["No sources."])


def in_words(listed: ListedSource) -> list[str]:
    """A source, in lines."""
    options = [name if value is True else f"{name} {value}" for name, value in listed.scheme_options.items() if value]
    account = "any" if listed.account is None else listed.account
    rate = "none" if listed.rate_limit is None else f"{listed.rate_limit} a minute"
    upstream = "none" if listed.upstream is None else listed.upstream
    credential = "none" if listed.credential_since is None else f"since {listed.credential_since}"
    return [
        f"{listed.name}  {listed.provider}  {listed.environment}  {'enabled' if listed.enabled else 'disabled'}",
        f"  id {listed.id}, added {listed.created_at}",
        f"  webhook path {listed.webhook_path}",
        f"  scheme {', '.join([listed.scheme, *options])}",
        f"  account {account}, replay window {listed.replay_window} s, rate limit {rate}",
        f"  upstream {upstream}, credential {credential}",
        *(f"  secret {_times(secret)}" for secret in listed.secrets),
    ]


def _times(secret: ListedSecret) -> str:
    begins = "" if secret.not_before is None else f", valid from {secret.not_before}"
    ends = "" if secret.not_after is None else f", valid until {secret.not_after}"
    return f"{secret.id}, added {secret.created_at}{begins}{ends}"
