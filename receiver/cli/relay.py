"""`receiver relay`: calls that were passed on to a provider, and what became of each."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from receiver.audit.attempted import OUTCOMES, UNKNOWN, Wanted, all_attempts, given_up
from receiver.audit.shapes import AttemptShape
from receiver.cli.common import data_option, json_option, opened, plainly, printable, show, tenant_option
from receiver.records.sources import list_sources, relay_source
from translog.cli import printable as on_one_line


@click.group()
def relay() -> None:
    """Calls that were passed on to a provider."""


@relay.command("list")
@click.option("--source", callback=printable, help="Those of this source, by its name or id.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Those that came to this.")
@click.option("--all", "everything", is_flag=True, help="Those whose outcome is known as well.")
@tenant_option
@data_option
@json_option
@plainly
def list_(
    source: str | None, outcome: str | None, tenant: str, data: Path | None, *, everything: bool, as_json: bool
) -> None:
    """Calls without an outcome, newest first: unknown ones, with what can be done, and those in progress.

    In progress is one that was begun so lately that the answer may still come, or be recorded.
    """
    if outcome is not None and everything:
        raise click.UsageError("give --outcome or --all, not both")
    with opened(data) as records:
        of = records.tenant(tenant)
        names = {one.id: one.name for one in list_sources(records, of)}
        only_open = outcome is None and not everything
        source_id = None if source is None else relay_source(records, of, source).id
        wanted = Wanted(source=source_id, outcome=outcome, open=only_open)
        with records.database.read() as tx:
            found = list(all_attempts(tx, of, wanted, given_up(records.settings.relay_timeout, datetime.now(UTC))))
    lines = [_line(one, names) for one in found]
    none = "Every call that was passed on has an outcome." if only_open else "There is no such call."
    show({"items": [asdict(one) for one in found]}, as_json=as_json, lines=lines or [none])


def _line(one: AttemptShape, names: dict[str, str]) -> str:
    item = "erased" if one.item is None else f"{one.item.type}:{one.item.id}"
    parts = [one.id, one.outcome, one.operation, item, f"source {names[one.source]}", f"begun {one.started_at}"]
    if one.status is not None:
        parts.append(f"status {one.status}")
    if one.outcome_id is not None:
        parts.append(f"told by {one.outcome_id}")
    if one.outcome == UNKNOWN and one.idempotency_key is not None:
        parts.append(f"idempotency key {one.idempotency_key}")
    if one.note is not None:
        parts.append(one.note)
    return "  ".join(map(on_one_line, parts))
