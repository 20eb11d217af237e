"""`receiver quarantine`: authentic deliveries that were not understood, and reading them again."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from receiver.audit.quarantined import REASONS, Wanted, all_quarantined
from receiver.audit.shapes import QuarantinedShape
from receiver.cli.common import data_option, json_option, opened, plainly, printable, show, tenant_option
from receiver.intake.submission import Outcome, Status
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import sources
from translog.errors import StoreError

FAILED = "failed"

_source_option = click.option("--source", callback=printable, help="Those of this source, by its name or id.")
_reason_option = click.option("--reason", type=click.Choice(REASONS), help="Those that are there for this reason.")


@click.group()
def quarantine() -> None:
    """Authentic deliveries that were not understood."""


@quarantine.command("list")
@_source_option
@_reason_option
@click.option("--all", "everything", is_flag=True, help="Those that were reprocessed as well.")
@tenant_option
@data_option
@json_option
@plainly
def list_(
    source: str | None, reason: str | None, tenant: str, data: Path | None, *, everything: bool, as_json: bool
) -> None:
    """What is in quarantine, newest first."""
    with opened(data) as records:
        of = records.tenant(tenant)
        names = _names(records, of)
        wanted = Wanted(source=_known(source, names), reason=reason, reprocessed=None if everything else False)
        with records.database.read() as tx:
            found = list(all_quarantined(tx, of, wanted))
    lines = [_line(one, names) for one in found]
    show({"items": [asdict(one) for one in found]}, as_json=as_json, lines=lines or ["Nothing is in quarantine."])


@quarantine.command("reprocess")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_source_option
@_reason_option
@click.option("--all", "everything", is_flag=True, help="All of the tenant.")
@tenant_option
@data_option
@json_option
@plainly
def reprocess_(
    ids: tuple[str, ...],
    source: str | None,
    reason: str | None,
    tenant: str,
    data: Path | None,
    *,
    everything: bool,
    as_json: bool,
) -> None:
    """Read quarantined deliveries again, oldest first: by id, or those of a source (--source), or all (--all).

    By the settings that their source has now. What is still not understood stays in quarantine. Exit status 1 if one
    could not be read, or if one that is the same as what is erased could not be erased with it.
    """
    if [bool(ids), source is not None, everything].count(True) != 1:
        raise click.UsageError("give ids, or --source, or --all")
    if ids and reason is not None:
        raise click.UsageError("--reason goes with --source or --all")
    counts = Counter[str]()
    items: list[dict[str, Any]] = []
    read: list[str] = []
    with opened(data) as records:
        of = records.tenant(tenant)
        source = _known(source, _names(records, of))
        for quarantine_id in ids or _pending(records, of, Wanted(source=source, reason=reason, reprocessed=False)):
            item = {"id": quarantine_id, **_reprocess(records, of, quarantine_id)}
            counts[item["status"]] += 1
            read.append(quarantine_id)
            if as_json:
                items.append(item)
            else:  # each as it is done: those before a failure of the database stay done
                click.echo(_result(item), err=item["status"] == FAILED)
        numbers = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        summary = f"{counts.total()} read again: {numbers}." if counts else "Nothing is in quarantine."
        show({"items": items, "counts": counts}, as_json=as_json, lines=[summary])
        _erase_copies(records, of, read)
    if counts[FAILED]:
        sys.exit(1)


def _pending(records: Records, tenant: Tenant, wanted: Wanted) -> Sequence[str]:
    """The ids of those, oldest first: rules see what came before."""
    with records.database.read() as tx:
        return [one.id for one in all_quarantined(tx, tenant, wanted) if not one.erased][::-1]


def _reprocess(records: Records, tenant: Tenant, quarantine_id: str) -> dict[str, Any]:
    from receiver.intake.reprocessing import IGNORED, NotQuarantinedError, NotReprocessableError, reprocess

    try:
        outcome = reprocess(records, tenant, quarantine_id)
    except (NotQuarantinedError, NotReprocessableError) as error:
        return {"status": FAILED, "detail": str(error)}
    return {"status": IGNORED} if outcome is None else dict(_told(outcome))


def _erase_copies(records: Records, tenant: Tenant, ids: Sequence[str]) -> None:
    """Erase those that are the same as what is erased: reading one asks for that, which need not wait for a service."""
    from receiver.erasure.requests import resume

    try:
        resume(records, tenant, event_ids=frozenset(ids))
    except (SQLAlchemyError, StoreError, OSError):
        click.echo(
            "Copies of what is erased are left: a running service erases them, or call this with their ids.", err=True
        )
        raise


def _told(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """The members of the answer that a delivery gets."""
    yield "status", outcome.status.value
    yield "quarantine_id" if outcome.status is Status.QUARANTINED else "event_id", outcome.id
    yield "log_index", outcome.log_index
    yield "leaf_hash", outcome.leaf_hash.hex()
    if outcome.reason is not None:
        yield "reason", outcome.reason


def _result(item: dict[str, Any]) -> str:
    said = f"{item['id']}  {item['status']}"
    if "event_id" in item:
        return f"{said}  event {item['event_id']}, entry {item['log_index']}"
    return "  ".join((said, *(item[name] for name in ("detail", "reason") if name in item)))


def _line(one: QuarantinedShape, names: dict[str, str]) -> str:
    size = "erased" if one.size is None else f"{one.size} bytes"
    done = "" if one.reprocessed is None else f"  reprocessed {one.reprocessed.at}: {one.reprocessed.status}"
    return f"{one.id}  {one.reason}  source {names[one.source]}  received {one.received_at}  {size}{done}"


def _names(records: Records, tenant: Tenant) -> dict[str, str]:
    """The names of the tenant's sources, by id."""
    with records.database.read() as tx:
        rows = tx.execute(sa.select(sources.c.id, sources.c.name).where(sources.c.tenant_id == tenant.id)).all()
    return {row.id: row.name for row in rows}


def _known(source: str | None, names: dict[str, str]) -> str | None:
    if source is not None and source not in names and source not in names.values():
        raise RecordsError(f"there is no source {source!r}; known: {', '.join(sorted(names.values())) or 'none'}")
    return source
