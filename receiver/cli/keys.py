"""`receiver key` and `receiver log-key`: who may ask, and which key the log signs with."""

from datetime import datetime
from pathlib import Path

import click

from receiver.cli.common import data_option, json_option, opened, plainly, printable, show, tenant_option
from receiver.erasure.placing import unseen
from receiver.events import parse_time
from receiver.records.apikeys import Scope, create_key, list_keys, parse_scopes, revoke_key


def _seen(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A callback for owners: a name, all of which can be seen, so that two which look the same are the same."""
    if value is not None and (hidden := unseen(value)):
        code = ", ".join(f"U+{ord(char):04X}" for char in dict.fromkeys(hidden))
        raise click.BadParameter(f"{value!a} has characters that cannot be seen: {code}")
    return printable(context, parameter, value)


@click.group()
def key() -> None:
    """API keys for /v1 and /relay."""


@key.command()
@click.argument("name", callback=printable)
@click.option("--scopes", required=True, help="Separated by commas: audit, export, operate, admin.")
@click.option("--owner", callback=_seen, help="Who answers for it.  [default: NAME]")
@click.option("--expires", help="RFC 3339, such as 2027-01-01T00:00:00Z.  [default: never]")
@tenant_option
@data_option
@json_option
@plainly
def create(
    name: str, scopes: str, owner: str | None, expires: str | None, tenant: str, data: Path | None, *, as_json: bool
) -> None:
    """Make a key and print it, this once."""
    wanted = parse_scopes(scopes)
    expires_at = None if expires is None else _time(expires)
    with opened(data) as records:
        key_id, made = create_key(records, records.ensure_tenant(tenant), name, wanted, owner, expires_at)
    use = "Authorization: Bearer <key>"
    if Scope.OPERATE in wanted:
        use += ", or for /relay X-Rescind-Key: <key>"
    show(
        {"id": key_id, "key": made},
        as_json=as_json,
        lines=[made, "", f"Key {key_id} ({name}). It is shown this once: {use}"],
    )


@key.command("list")
@tenant_option
@data_option
@json_option
@plainly
def list_(tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Every key, without what would let anybody use it."""
    with opened(data) as records:
        keys = list_keys(records, records.tenant(tenant))
    words = [
        f"{one['name']}  {one['scopes']}  owner {one['owner']}  "
        + (f"revoked {one['revoked_at']}" if one["revoked_at"] else f"expires {one['expires_at'] or 'never'}")
        + f"  last used {one['last_used_at'] or 'never'}"
        for one in keys
    ]
    show({"items": keys}, as_json=as_json, lines=words or ["No keys."])


@key.command()
@click.argument("name", callback=printable)
@tenant_option
@data_option
@plainly
def revoke(name: str, tenant: str, data: Path | None) -> None:
    """Make a key invalid, at once."""
    with opened(data) as records:
        revoke_key(records, records.tenant(tenant), name)
    click.echo(f"Key {name} is revoked.")


@click.command("log-key")
@tenant_option
@data_option
@plainly
def log_key(tenant: str, data: Path | None) -> None:
    """Print the vkey of a tenant's log: what verifies its proofs. Give it to auditors by a way of its own."""
    with opened(data) as records:
        click.echo(str(records.tenant(tenant).log.verifying_key))


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from error
