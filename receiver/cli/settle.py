"""`receiver relay settle`: what became of calls whose outcome is unknown, and of what others began, found out now."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from receiver.cli.common import data_option, json_option, opened, plainly, printable, show, tenant_option
from receiver.intake.batch import write_batch
from receiver.intake.submission import Outcome, Submission
from receiver.records.opening import Records, Tenant
from receiver.records.sources import relay_source
from receiver.relay.settling import Settled, Settler, must_be_attempts, open_attempts
from receiver.relay.upstream import Upstream
from translog.cli import printable as on_one_line

UNKNOWN, UNDER_WAY = "unknown", "under_way"


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--source", callback=printable, help="Those of this source, by its name or id.")
@tenant_option
@data_option
@json_option
@plainly
def settle(ids: tuple[str, ...], source: str | None, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Find out now what became of calls: of all that are open, oldest first, or of those given.

    Open is a call of unknown outcome, and one that began what has not ended yet. The provider's own record is asked
    with the source's read-only credential, and what it says is recorded. Exit status 1 if one stays open.
    """
    if ids and source is not None:
        raise click.UsageError("give ids or --source, not both")
    found: list[Settled] = []
    with opened(data) as records:
        asyncio.run(_settle(records, _wanted(records, records.tenant(tenant), ids, source), found, as_json=as_json))
    counts = Counter(_word(one) for one in found)
    numbers = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    summary = f"{counts.total()} looked at: {numbers}." if counts else "No call is open."
    show({"items": [_item(one) for one in found], "counts": counts}, as_json=as_json, lines=[summary])
    if any(one.is_open for one in found):
        sys.exit(1)


def _wanted(records: Records, tenant: Tenant, ids: Sequence[str], source: str | None) -> Sequence[str]:
    if ids:
        must_be_attempts(records, tenant, ids)
        return ids
    return open_attempts(records, tenant, None if source is None else relay_source(records, tenant, source).id)


async def _settle(records: Records, ids: Sequence[str], found: list[Settled], *, as_json: bool) -> None:
    upstream = Upstream(records.settings.relay_timeout)

    async def record(submission: Submission) -> Outcome:
        (outcome,) = await asyncio.to_thread(write_batch, records.database, [submission])
        return outcome

    settler = Settler(records, upstream, record)
    try:
        for one in ids:
            settled = await settler.settle(one)
            found.append(settled)
            if not as_json:  # each as it is done: what was recorded before a failure stays recorded
                click.echo(f"{settled.id}  {_word(settled)}  {on_one_line(settled.said)}")
    finally:
        await upstream.aclose()


def _word(settled: Settled) -> str:
    if settled.outcome is None:
        return UNKNOWN
    return UNDER_WAY if settled.under_way else settled.outcome.value


def _item(settled: Settled) -> dict[str, Any]:
    return {
        "id": settled.id,
        "outcome": UNKNOWN if settled.outcome is None else settled.outcome.value,
        "outcome_id": settled.outcome_id,
        "under_way": settled.under_way,
        "detail": settled.said,
    }
