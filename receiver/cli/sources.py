"""`receiver source`: who may deliver, and how it is authenticated."""

from pathlib import Path

import click

from receiver import providers
from receiver.cli.common import data_option, json_option, opened, plainly, printable, read_secret, show, tenant_option
from receiver.intake.signatures import check_secret, generate_secret, scheme_from_options
from receiver.records.sources import DEFAULT_REPLAY_WINDOW, NewSource, add_source

SCHEMES = ("standard-webhooks", "timestamped-hmac", "hmac", "token")
MAX_REPLAY_WINDOW = 86_400


@click.group()
def source() -> None:
    """Sources of deliveries."""


@source.command()
@click.argument("name", callback=printable)
@click.option("--provider", required=True, type=click.Choice(providers.names()))
@click.option("--scheme", type=click.Choice(SCHEMES), help="How deliveries are authenticated.")
@click.option("--header", help="timestamped-hmac, hmac, token: the header that carries the signature or token.")
@click.option("--prefix", help="hmac: what stands before the signature, such as sha256=.  [default: nothing]")
@click.option("--encoding", type=click.Choice(["hex", "base64"]), help="hmac: of the signature.  [default: hex]")
@click.option(
    "--key-form",
    type=click.Choice(["text", "text-without-whsec", "base64", "hex"]),
    help="hmac: how the secret's text becomes the key.  [default: text]",
)
@click.option("--strip-whitespace", is_flag=True, help="hmac: over the body without whitespace outside strings.")
@click.option("--secret-file", type=click.Path(path_type=Path), help="Read the secret from this file.")
@click.option("--secret-stdin", is_flag=True, help="Read the secret from standard input.")
@click.option("--account", callback=printable, help="Deliveries that name another account are quarantined.")
@click.option(
    "--replay-window",
    type=click.IntRange(1, MAX_REPLAY_WINDOW),
    default=DEFAULT_REPLAY_WINDOW,
    show_default=True,
    help="Seconds a signed timestamp may lie in the past or the future.",
)
@click.option("--rate-limit", type=click.IntRange(1), help="Deliveries a minute, beyond which 429.  [default: none]")
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
    replay_window: int,
    rate_limit: int | None,
    tenant: str,
    data: Path | None,
    *,
    strip_whitespace: bool,
    secret_stdin: bool,
    as_json: bool,
) -> None:
    """Add a source. Without a secret one is made, and printed this once."""
    known = providers.get(provider)
    if scheme is None:
        raise click.UsageError(f"{known.signing.said}: say which --scheme it is")
    given: dict[str, str | bool | None] = {
        "header": header,
        "prefix": prefix,
        "encoding": encoding,
        "key_form": key_form,
        "strip_whitespace": strip_whitespace or None,
    }
    options = {option: value for option, value in given.items() if value is not None}
    try:
        settled = scheme_from_options(scheme, options)
        secret = read_secret(secret_file, from_stdin=secret_stdin)
        made = secret is None
        if secret is None:
            secret = generate_secret(settled)
        for warning in check_secret(settled, secret):
            click.echo(f"warning: {warning}", err=True)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    new = NewSource(name, provider, scheme, settled.options(), account, replay_window, rate_limit=rate_limit)
    with opened(data) as records:
        source_id = add_source(records, records.ensure_tenant(tenant), new, secret)
    path = f"/webhooks/{source_id}"
    result = {"id": source_id, "webhook_path": path, **({"secret": secret} if made else {})}
    lines = [f"Source {name} ({source_id})", f"Webhook path: {path}"]
    if made:
        lines += [f"Secret, shown this once: {secret}"]
    show(result, as_json=as_json, lines=lines)
