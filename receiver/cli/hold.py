"""`receiver hold`: what must not be erased, whoever asks for it and however old it is.

Who places a hold, and who releases it, are two: so both commands are given the API key of whoever does it, from a file
or from standard input, never as an argument. What a hold kept from being erased is erased once it is released.
"""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from receiver.cli.common import data_option, its_tenant_option, json_option, opened, plainly, read_secret, show
from receiver.erasure import placing
from receiver.erasure.placing import Hold, Place
from receiver.erasure.requests import run_held
from receiver.records.apikeys import ApiKey, Scope, find_key
from receiver.records.opening import Records, RecordsError, Tenant

C = TypeVar("C", bound=Callable[..., Any])


def _of_a_change(command: C) -> C:
    """The options of every command that changes something."""
    for option in (
        json_option,
        data_option,
        its_tenant_option,
        click.option("--key-stdin", is_flag=True, help="Read the API key from standard input."),
        click.option(
            "--key-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="A file with the API key of whoever does this; its scope must be operate.",
        ),
        click.option("--reason", required=True, help="Why. It is kept beside the log, which commits to it."),
    ):
        command = option(command)
    return command


@click.group()
def hold() -> None:
    """What must not be erased."""


@hold.command()
@click.option("--item", metavar="PROVIDER/TYPE/ID", help="All about this item.")
@click.option("--source", help="All of this source, by its name or its id.")
@click.option("--provider", help="All of this provider.")
@click.option("--person", metavar="KIND:VALUE", help="All that names this person, such as email:jane@example.com.")
@click.option("--since", help="All that was received from then on, RFC 3339; with --until.")
@click.option("--until", help="And before then.")
@_of_a_change
@plainly
def place(
    item: str | None,
    source: str | None,
    provider: str | None,
    person: str | None,
    since: str | None,
    until: str | None,
    reason: str,
    key_file: Path | None,
    tenant: str,
    data: Path | None,
    *,
    key_stdin: bool,
    as_json: bool,
) -> None:
    """Have something kept, until somebody else releases it: what is there, and what is recorded about it later."""
    period = {name: value for name, value in (("since", since), ("until", until)) if value is not None}
    asked = Place(
        reason=reason,
        item=None if item is None else _item(item),
        source=source,
        provider=provider,
        person=person,
        period=period or None,
    )
    presented = _presented(key_file, from_stdin=key_stdin)
    with opened(data, new=False) as records:
        of = records.tenant(tenant)
        placed = placing.place(records, of, asked, _key(records, of, presented))
    show(dataclasses.asdict(placed), as_json=as_json, lines=_in_words(placed))


@hold.command("list")
@click.option("--in-force/--released", default=None, help="Only these.  [default: all]")
@its_tenant_option
@data_option
@json_option
@plainly
def list_(tenant: str, data: Path | None, *, in_force: bool | None, as_json: bool) -> None:
    """Every hold, newest first."""
    with opened(data, new=False) as records:
        released = None if in_force is None else not in_force
        found, _ = placing.find(records, records.tenant(tenant), released, None, None)
    lines = [line for one in found for line in _in_words(one)]
    show({"items": [dataclasses.asdict(one) for one in found]}, as_json=as_json, lines=lines or ["No holds."])


@hold.command()
@click.argument("hold_id", metavar="ID")
@_of_a_change
@plainly
def release(
    hold_id: str,
    reason: str,
    key_file: Path | None,
    tenant: str,
    data: Path | None,
    *,
    key_stdin: bool,
    as_json: bool,
) -> None:
    """Have it kept no longer, with a key of another owner; what it kept from being erased is erased now."""
    presented = _presented(key_file, from_stdin=key_stdin)
    with opened(data, new=False) as records:
        of = records.tenant(tenant)
        released = placing.release(records, of, hold_id, reason, _key(records, of, presented))
        run_held(records, of)
    show(dataclasses.asdict(released), as_json=as_json, lines=_in_words(released))


def _item(text: str) -> dict[str, str]:
    """An item as it is written; the id may have slashes in it."""
    parts = text.split("/", 2)
    if len(parts) != 3:
        raise click.BadParameter("it must be PROVIDER/TYPE/ID", param_hint="--item")
    return dict(zip(("provider", "type", "id"), parts, strict=True))


def _presented(file: Path | None, *, from_stdin: bool) -> str:
    if (file is None) != from_stdin:
        raise click.UsageError("give --key-file or --key-stdin: the API key of whoever does this")
    return read_secret(file, from_stdin=from_stdin) or ""


def _key(records: Records, tenant: Tenant, presented: str) -> ApiKey:
    """The key with that text. Raises RecordsError unless it is valid, of the tenant, and has the scope."""
    key = find_key(records, presented, datetime.now(UTC))
    if key is None or key.tenant != tenant.name:
        raise RecordsError(f"this API key is unknown to the tenant {tenant.name}, expired or revoked")
    if Scope.OPERATE not in key.scopes:
        raise RecordsError(f"this needs a key with the scope {Scope.OPERATE}")
    return key


def _in_words(one: Hold) -> list[str]:
    covered = {
        "item": one.item and "/".join(one.item[name] for name in ("provider", "type", "id")),
        "source": one.source,
        "provider": one.provider,
        "person": "named by a keyed hash",
        "period": one.period and f"received from {one.period['since']} until {one.period['until']}",
    }
    lines = [
        f"{one.id}  {one.state.replace('_', ' ')}  {one.target}: {covered[one.target] or 'erased'}",
        f"  placed {one.placed_at} with the key {one.placed_by} (entry {one.log_index}): {one.reason or 'erased'}",
    ]
    if one.released_at is not None:
        said = f"  released {one.released_at} with the key {one.released_by} (entry {one.release_log_index}): "
        lines.append(said + (one.release_reason or "erased"))
    return lines
