"""`receiver reconcile`: what the providers' own records say of events that nothing is known of yet, found out now."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from receiver import providers
from receiver.assurance.asking import Asker, Looked
from receiver.assurance.due import A_TURN, pending
from receiver.assurance.taking_up import PIECE, PIECES, ToCheck, take_up
from receiver.cli.common import data_option, json_option, opened, plainly, printable, show, tenant_option
from receiver.events import CrossCheck
from receiver.metrics import Metrics
from receiver.records.opening import Records, Tenant
from receiver.records.sources import ListedSource, list_sources, relay_source
from translog.cli import printable as on_one_line

FAILURES = 3
"""In a row, after which a source's upstream is not asked any more."""

_BAD = frozenset({CrossCheck.CONTRADICTED, CrossCheck.ABSENT})


@dataclass(frozen=True, slots=True)
class _Asked:
    """An event that was asked about, and the name of its source."""

    source: str
    looked: Looked

    @property
    def item(self) -> str:
        """What the event is about, as `/v1/events?item=` takes it."""
        item = self.looked.item
        return "-" if item is None else f"{item.type}:{item.id}"


@dataclass(frozen=True, slots=True)
class _NotAsked:
    """A source whose provider was not asked, or not about all its events, and why."""

    source: str
    why: str


@click.command()
@click.option("--source", callback=printable, help="Events of this source only, by its name or id.")
@tenant_option
@data_option
@json_option
@plainly
def reconcile(source: str | None, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Check events against the providers' own records now, instead of when they are due.

    Asked about is every event that is still pending, of every source that names no issuer's log and has an upstream and
    a read-only credential. Only what the provider documents for reading is called. Exit status 1 if an event turns out
    to be contradicted, or absent.
    """
    asked: list[_Asked] = []
    not_asked: list[_NotAsked] = []
    with opened(data) as records:
        of = records.tenant(tenant)
        asyncio.run(_reconcile(records, of, _wanted(records, of, source), asked, not_asked, as_json=as_json))
    counts = Counter(one.looked.state.value for one in asked)
    numbers = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    lines = [f"Source {one.source}: {on_one_line(one.why)}" for one in not_asked]
    lines.append(f"{counts.total()} asked about: {numbers}." if counts else "No event was asked about.")
    result = {
        "items": [_item(one) for one in asked],
        "counts": counts,
        "not_asked": [{"source": one.source, "detail": one.why} for one in not_asked],
    }
    show(result, as_json=as_json, lines=lines)
    if any(one.looked.state in _BAD for one in asked):
        sys.exit(1)


def _wanted(records: Records, tenant: Tenant, name: str | None) -> Sequence[ListedSource]:
    found = list_sources(records, tenant)
    if name is None:
        return found
    source_id = relay_source(records, tenant, name).id
    return [one for one in found if one.id == source_id]


async def _reconcile(
    records: Records,
    tenant: Tenant,
    sources: Sequence[ListedSource],
    asked: list[_Asked],
    not_asked: list[_NotAsked],
    *,
    as_json: bool,
) -> None:
    asker = Asker(records, Metrics())
    try:
        for source in sources:
            if (why := _why_not(source)) is not None:
                not_asked.append(_NotAsked(source.name, why))
                continue
            _take_up(records, tenant, source)
            failures = 0
            async for looked in _looks(records, asker, source):
                one = _Asked(source.name, looked)
                asked.append(one)
                if not as_json:  # each as it is done: what was kept before a failure stays kept
                    said = on_one_line(looked.said)
                    click.echo(f"{looked.event_id}  {looked.state:<12}  {one.source}  {on_one_line(one.item)}  {said}")
                failures = failures + 1 if looked.outcome.is_upstreams else 0
                if failures == FAILURES:
                    not_asked.append(_NotAsked(source.name, f"not asked about the others: {looked.said}"))
                    break
    finally:
        await asker.aclose()


def _why_not(source: ListedSource) -> str | None:
    """Why the provider is not asked about a source's events; None if it is."""
    if source.issuer_log is not None:
        return "not asked: its events are checked against the issuer's log"
    if providers.get(source.provider).record is None:
        return "not asked: the provider documents no record to ask"
    if not source.enabled:
        return "not asked: it is disabled: receiver source enable"
    if source.upstream is None:
        return "not asked: it has no upstream: receiver source set --upstream"
    if source.credential_since is None:
        return "not asked: it has no read-only credential: receiver source credential"
    return None


def _take_up(records: Records, tenant: Tenant, source: ListedSource) -> None:
    """Take up what a running service would take up by itself, a moment later."""
    while take_up(records, tenant, ToCheck(source.id, tenant.id)) >= PIECE * PIECES:
        pass


async def _looks(records: Records, asker: Asker, source: ListedSource) -> AsyncGenerator[Looked]:
    """A look at each pending event of a source, oldest first."""
    last = ""
    while True:
        with records.database.read() as tx:
            ids = pending(tx, source.id, last)
        for event_id in ids:
            looked = await asker.look(event_id, patient=False)
            if looked is not None:
                yield looked
        if len(ids) < A_TURN:
            return
        last = ids[-1]


def _item(one: _Asked) -> dict[str, Any]:
    looked = one.looked
    return {
        "event_id": looked.event_id,
        "source": one.source,
        "item": None if looked.item is None else {"type": looked.item.type, "id": looked.item.id},
        "state": looked.state.value,
        "outcome": looked.outcome.value,
        "detail": looked.said,
    }
