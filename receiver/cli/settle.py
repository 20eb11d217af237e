"""`receiver relay settle`: what became of calls whose outcome is unknown, and of what others began, found out now."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from receiver.audit.attempted import UNKNOWN, find_attempt, given_up
from receiver.cli.common import data_option, json_option, opened, plainly, printable, show, tenant_option
from receiver.intake.batch import write_batch
from receiver.intake.submission import Outcome, Submission
from receiver.records.opening import Records, Tenant
from receiver.records.sources import relay_source
from receiver.relay.settling import Settled, Settler, must_be_attempts, open_attempts
from receiver.upstream import Upstream
from translog.cli import printable as on_one_line

UNDER_WAY = "under_way"


@dataclass(frozen=True, slots=True)
class _Looked:
    """A call that was looked at, and its outcome as `/v1/attempts` has it."""

    settled: Settled
    outcome: str

    @property
    def word(self) -> str:
        return UNDER_WAY if self.settled.under_way else self.outcome


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
    found: list[_Looked] = []
    with opened(data) as records:
        of = records.tenant(tenant)
        asyncio.run(_settle(records, of, _wanted(records, of, ids, source), found, as_json=as_json))
    counts = Counter(one.word for one in found)
    numbers = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    summary = f"{counts.total()} looked at: {numbers}." if counts else "No call is open."
    show({"items": [_item(one) for one in found], "counts": counts}, as_json=as_json, lines=[summary])
    if any(one.settled.is_open for one in found):
        sys.exit(1)


def _wanted(records: Records, tenant: Tenant, ids: Sequence[str], source: str | None) -> Sequence[str]:
    if ids:
        must_be_attempts(records, tenant, ids)
        return ids
    return open_attempts(records, tenant, None if source is None else relay_source(records, tenant, source).id)


async def _settle(records: Records, tenant: Tenant, ids: Sequence[str], found: list[_Looked], *, as_json: bool) -> None:
    upstream = Upstream(records.settings.relay_timeout)

    async def record(submission: Submission) -> Outcome:
        (outcome,) = await asyncio.to_thread(write_batch, records.database, [submission])
        return outcome

    settler = Settler(records, upstream, record)
    try:
        for one in ids:
            settled = await settler.settle(one)
            looked = _Looked(settled, await asyncio.to_thread(_outcome, records, tenant, settled))
            found.append(looked)
            if not as_json:  # each as it is done: what was recorded before a failure stays recorded
                click.echo(f"{settled.id}  {looked.word}  {on_one_line(settled.said)}")
    finally:
        await upstream.aclose()


def _outcome(records: Records, tenant: Tenant, settled: Settled) -> str:
    if settled.outcome is not None:
        return settled.outcome.value
    # Without one, the same clock tells here as where calls are listed: it may still be in progress.
    late = given_up(records.settings.relay_timeout, datetime.now(UTC))
    with records.database.read() as tx:
        attempt = find_attempt(tx, tenant, settled.id, late)
    return UNKNOWN if attempt is None else attempt.outcome


def _item(looked: _Looked) -> dict[str, Any]:
    settled = looked.settled
    return {
        "id": settled.id,
        "outcome": looked.outcome,
        "outcome_id": settled.outcome_id,
        "under_way": settled.under_way,
        "detail": settled.said,
    }
