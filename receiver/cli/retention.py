"""`receiver retention`: for how many days what a provider sent is kept.

A service that runs erases what is too old once an hour; `run` does so now, whether one runs or not. What is erased are
bodies and headers: what was read out of them stays, and so does every proof.
"""

import dataclasses
from pathlib import Path

import click

from receiver.cli.common import data_option, its_tenant_option, json_option, opened, plainly, show, tenant_option
from receiver.erasure import aging, retention
from receiver.erasure.retention import MAX_DAYS, Rule


@click.group("retention")
def retention_() -> None:
    """For how long bodies are kept."""


@retention_.command("set")
@click.option("--provider", required=True, help="Whose deliveries.")
@click.option("--days", required=True, type=click.IntRange(1, MAX_DAYS), help="From when a delivery was received.")
@tenant_option
@data_option
@json_option
@plainly
def set_(provider: str, days: int, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Keep bodies for so many days, those that are there as well: what is older is erased within the hour."""
    with opened(data, new=False) as records:
        rule = retention.set_days(records, records.ensure_tenant(tenant), provider, days)
    show(dataclasses.asdict(rule), as_json=as_json, lines=[_in_words(rule)])


@retention_.command("list")
@its_tenant_option
@data_option
@json_option
@plainly
def list_(tenant: str, data: Path | None, *, as_json: bool) -> None:
    """What is not kept for ever."""
    with opened(data, new=False) as records:
        found = retention.rules(records, records.tenant(tenant))
    lines = [_in_words(rule) for rule in found] or ["Everything is kept for ever."]
    show({"items": [dataclasses.asdict(rule) for rule in found]}, as_json=as_json, lines=lines)


@retention_.command()
@click.option("--provider", required=True, help="Whose deliveries.")
@its_tenant_option
@data_option
@plainly
def clear(provider: str, tenant: str, data: Path | None) -> None:
    """Keep bodies for ever, as far as they are still there."""
    with opened(data, new=False) as records:
        retention.clear(records, records.tenant(tenant), provider)
    click.echo(f"What {provider} sent is kept for ever from now on.")


@retention_.command()
@its_tenant_option
@data_option
@json_option
@plainly
def run(tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Erase what is too old now."""
    with opened(data, new=False) as records:
        done = aging.run(records, records.tenant(tenant))
        if any(one.erased for one in done):
            records.database.truncate_wal()
    lines = [
        f"{one.provider}: of what is older than {one.days} days {one.erased} entries are erased now, and a hold keeps "
        f"{one.held} deliveries"
        for one in done
    ]
    items = [dataclasses.asdict(one) for one in done]
    show({"items": items}, as_json=as_json, lines=lines or ["Everything is kept for ever."])


def _in_words(rule: Rule) -> str:
    return f"{rule.provider}: {rule.days} days, since {rule.set_at}"
