"""`receiver subscription`: which of the log's entries are passed on to which of the operator's own systems.

A service that runs passes on what there is; a change takes effect within a second. `test` sends by itself.
"""

import asyncio
import dataclasses
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import sqlalchemy as sa
from msgspec import UNSET

from receiver.assurance import addresses, messages, subscribing
from receiver.assurance.sending import Result, Sender
from receiver.assurance.subscribing import KINDS, Listed, Replay, Resubscribe, Subscribe, TopicName
from receiver.cli.common import data_option, json_option, opened, plainly, printable, read_secret, show, tenant_option
from receiver.cli.sources import secret_options, warn
from receiver.events import new_id
from receiver.records.opening import Records, Tenant
from receiver.records.tables import subscriptions

C = TypeVar("C", bound=Callable[..., Any])


def _topics(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[TopicName] | None:
    """A callback for topics, separated by commas."""
    if value is None:
        return None
    named = [one.strip() for one in value.split(",")]
    for one in named:
        if one not in KINDS:
            raise click.BadParameter(f"{one!a} is no topic; there are {', '.join(KINDS)}")
    return cast("list[TopicName]", named)


_URL = "Where the messages are sent to: https:// or http://."
_ON = f"Topics, separated by commas: {', '.join(KINDS)}."
_index = click.IntRange(0, 2**53 - 1)


def _of_a_subscription(command: C) -> C:
    """The argument and the options of every command about one subscription."""
    for option in (json_option, data_option, tenant_option, click.argument("name", callback=printable)):
        command = option(command)
    return command


@click.group()
def subscription() -> None:
    """Systems of yours that events and alerts are passed on to."""


@subscription.command()
@click.option("--url", required=True, help=_URL)
@click.option("--on", required=True, callback=_topics, help=_ON)
@click.option("--from", "from_index", type=_index, help="The first index of the log to pass on.  [default: its end]")
@secret_options
@_of_a_subscription
@plainly
def add(
    name: str,
    url: str,
    on: list[TopicName],
    from_index: int | None,
    secret_file: Path | None,
    tenant: str,
    data: Path | None,
    *,
    secret_stdin: bool,
    as_json: bool,
) -> None:
    """Add a subscription. Without a secret one is made, and printed this once."""
    secret = read_secret(secret_file, from_stdin=secret_stdin)
    asked = Subscribe(name=name, url=url, on=on, from_index=from_index, secret=secret)
    with opened(data) as records:
        added = subscribing.subscribe(records, records.ensure_tenant(tenant), asked)
    warn(added.warnings)
    result = dataclasses.asdict(added.subscription)
    lines = _in_words(added.subscription)
    if added.secret is not None:
        result["secret"] = added.secret
        lines.append(f"Secret, shown this once: {added.secret}")
    show(result, as_json=as_json, lines=lines)


@subscription.command("list")
@tenant_option
@data_option
@json_option
@plainly
def list_(tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Every subscription, how far it is, and what waits or was given up."""
    with opened(data) as records:
        found = subscribing.list_all(records, records.tenant(tenant))
    lines = [line for one in found for line in _in_words(one)]
    show({"items": [dataclasses.asdict(one) for one in found]}, as_json=as_json, lines=lines or ["No subscriptions."])


@subscription.command("set")
@click.option("--url", help=_URL)
@click.option("--on", callback=_topics, help=_ON)
@secret_options
@_of_a_subscription
@plainly
def set_(
    name: str,
    url: str | None,
    on: list[TopicName] | None,
    secret_file: Path | None,
    tenant: str,
    data: Path | None,
    *,
    secret_stdin: bool,
    as_json: bool,
) -> None:
    """Change a subscription; what is not named stays as it is."""
    secret = read_secret(secret_file, from_stdin=secret_stdin)
    asked = Resubscribe(
        url=UNSET if url is None else url,
        on=UNSET if on is None else on,
        secret=UNSET if secret is None else secret,
    )
    if asked == Resubscribe():
        raise click.UsageError("say what to change; --help lists what there is")
    _change(name, asked, tenant, data, as_json=as_json)


@subscription.command()
@_of_a_subscription
@plainly
def enable(name: str, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Go on passing on, from where it was disabled."""
    _change(name, Resubscribe(enabled=True), tenant, data, as_json=as_json)


@subscription.command()
@_of_a_subscription
@plainly
def disable(name: str, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Pass nothing on until it is enabled again; what comes meanwhile is passed on then."""
    _change(name, Resubscribe(enabled=False), tenant, data, as_json=as_json)


@subscription.command()
@_of_a_subscription
@plainly
def remove(name: str, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Remove a subscription, with all that waits to be sent."""
    with opened(data) as records:
        of = records.tenant(tenant)
        removed = subscribing.named(records, of, name)
        subscribing.unsubscribe(records, of, removed.id)
    show(dataclasses.asdict(removed), as_json=as_json, lines=[f"Subscription {name} is removed."])


@subscription.command()
@click.option("--from", "from_index", type=_index, required=True, help="The first index of the log to pass on again.")
@click.option("--to", "to_index", type=_index, help="The last one.  [default: what was passed on last]")
@_of_a_subscription
@plainly
def replay(name: str, from_index: int, to_index: int | None, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Pass entries on once more, also those that were given up. Messages keep their ids."""
    asked = Replay(from_index=from_index, to_index=to_index)
    with opened(data) as records:
        of = records.tenant(tenant)
        replayed = subscribing.replay(records, of, subscribing.named(records, of, name).id, asked)
    show(dataclasses.asdict(replayed), as_json=as_json, lines=_in_words(replayed))


@subscription.command()
@_of_a_subscription
@plainly
def test(name: str, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Send a message of the type `test` now, and say what was answered: exit status 1 if it was not taken."""
    with opened(data) as records:
        of = records.tenant(tenant)
        result = asyncio.run(_try(records, of, subscribing.named(records, of, name)))
    said = f"Taken: answered {result.status}" if result.failure is None else f"Not taken: {result.failure}"
    show({"status": result.status, "failure": result.failure}, as_json=as_json, lines=[said])
    if result.failure is not None:
        sys.exit(1)


async def _try(records: Records, tenant: Tenant, one: Listed) -> Result:
    with records.database.read() as tx:
        sealed = tx.execute(sa.select(subscriptions.c.secret).where(subscriptions.c.id == one.id)).scalar_one()
    key = subscribing.open_key(records, one.id, bytes(sealed))
    sender = Sender(addresses.networks(records.settings.subscription_networks))
    try:
        message = messages.trial(tenant.name, one.id, new_id(), datetime.now(UTC))
        return await sender.send(one.url, message, key)
    finally:
        await sender.aclose()


def _change(name: str, asked: Resubscribe, tenant: str, data: Path | None, *, as_json: bool) -> None:
    with opened(data) as records:
        of = records.tenant(tenant)
        changed, warnings = subscribing.resubscribe(records, of, subscribing.named(records, of, name).id, asked)
    warn(warnings)
    show(dataclasses.asdict(changed), as_json=as_json, lines=_in_words(changed))


def _in_words(one: Listed) -> list[str]:
    lines = [
        f"{one.name}  {one.url}  {'enabled' if one.enabled else 'disabled'}",
        f"  id {one.id}, added {one.created_at}",
        f"  on {', '.join(one.on)}; passed on so far: the entries below {one.next_index}",
        f"  {one.waiting} waiting, {one.given_up} given up",
    ]
    if one.replay is not None:
        lines.append(f"  replaying, from {one.replay.next_index} to {one.replay.to_index}")
    if one.failure is not None:
        lines.append(f"  {one.failure}")
    return lines
