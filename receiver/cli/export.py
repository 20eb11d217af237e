"""`receiver export`: a bundle of a period's events, made here and now, or made once more.

It is asked for like any other export, with an entry of the log, and lists with the others; but its file goes where the
command was told, and nowhere else. Whoever stops it leaves no file behind, and is told how to make it.
"""

import contextlib
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from receiver import providers
from receiver.cli.common import data_option, its_tenant_option, json_option, opened, plainly, show
from receiver.events import new_id
from receiver.exports import leases
from receiver.exports.apart import percent
from receiver.exports.building import Built, build_into
from receiver.exports.jobs import BASES, Job, Query, UncoveredError, ask, find, query_of, settle
from receiver.exports.unnamed import unnamed
from receiver.records.giving import give
from receiver.records.opening import DEFAULT_TENANT, Records, RecordsError, Tenant
from translog.succession import Predecessor, predecessors

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_BY = "command"
_NOTED_EVERY = 1.0
_PATIENCE = 10.0
"""Seconds."""


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A callback for times: a date is its first moment in UTC."""
    return f"{value}T00:00:00Z" if value is not None and _DATE.fullmatch(value) else value


@click.command()
@click.option("--since", callback=_moment, help="From then on: RFC 3339, or a date, which is its midnight in UTC.")
@click.option("--until", callback=_moment, help="Before then, which is not after now.")
@click.option("--basis", type=click.Choice(BASES), default="logged", show_default=True, help="What the times are of.")
@click.option("--provider", "of", multiple=True, type=click.Choice(providers.names()), help="May be given repeatedly.")
@click.option("--tests", is_flag=True, help="Those of test sources as well.")
@click.option("--parquet", is_flag=True, help="With events.parquet; needs the extra `parquet`.")
@click.option("--job", "job_id", metavar="ID", help="An export that was asked for before, by whomever, made once more.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option("--force", is_flag=True, help="In the place of one that is there.")
@its_tenant_option
@data_option
@json_option
@plainly
def export(
    since: str | None,
    until: str | None,
    basis: str,
    of: tuple[str, ...],
    job_id: str | None,
    out: Path,
    tenant: str,
    data: Path | None,
    *,
    tests: bool,
    parquet: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a bundle of what was recorded in a period, which verifies offline."""
    asked = [bool(since), bool(until), bool(of), tests, parquet, basis != "logged"]
    if job_id is not None and any(asked):
        raise click.UsageError("with --job, all else was settled when it was asked for")
    if job_id is None and not (since and until):
        raise click.UsageError("give --since and --until, or --job")
    if out.exists() and not force:
        raise click.ClickException(f"{out} is there already; --force writes in its place")
    if not out.absolute().parent.is_dir():
        raise click.ClickException(f"there is no folder {out.parent} to write into")
    with _stoppable(), opened(data, new=False) as records:
        its_tenant = records.tenant(tenant)
        to = _To(out, data, force=force)
        if job_id is None:
            query = query_of(since or "", until or "", basis, of or None, tests=tests, parquet=parquet)
            made = _ask(records, its_tenant, query, to)
        else:
            made = _make_again(records, its_tenant, job_id, to)
        vkey = str(records.log(made.job.log_id).verifying_key)
        before = _before(records, made)
    for one in before:
        click.echo(f"warning: {one.sentence}", err=True)
    built, entries = made.built, made.built.end - made.built.start
    result = {
        "id": made.job.id,
        "file": str(out),
        "size": built.size,
        "sha256": built.sha256.hex(),
        "events": built.events,
        "entries": entries,
    }
    counted = f"{_number(built.events, 'event')}, in a range of {_number(entries, 'entry', 'entries')}"
    lines = [
        f"Export {made.job.id}: {counted}.",
        f"{out}: {built.size} bytes, SHA-256 {built.sha256.hex()}",
        "To verify it, with the log's key, which others should have from elsewhere than from you:",
        f"  translog verify {shlex.quote(str(out))} --key {vkey}",
    ]
    show(result, as_json=as_json, lines=lines)


def _number(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


@contextmanager
def _stoppable() -> Generator[None]:
    """Whoever ends this ends it as Ctrl-C does, which leaves nothing behind."""
    before: dict[int, Any] = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class _To:
    """Where the file is to go."""

    out: Path
    data: Path | None
    force: bool

    def command(self, tenant: Tenant, export_id: str) -> str:
        """The one that makes it once it was asked for."""
        words = ["receiver", "export", "--job", export_id, "--out", str(self.out)]
        words += ["--force"] if self.force else []
        words += [] if tenant.name == DEFAULT_TENANT else ["--tenant", tenant.name]
        words += [] if self.data is None else ["--data", str(self.data)]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class _Made:
    """A file that was made, and of what."""

    job: Job
    built: Built


def _before(records: Records, made: _Made) -> tuple[Predecessor, ...]:
    """The logs that the export's log goes on for, if the period reaches back to where it began."""
    if made.built.start:
        return ()
    log = records.log(made.job.log_id)
    with records.database.read() as tx:
        return predecessors(log.store.entries(tx, 0, made.built.end))


def _ask(records: Records, tenant: Tenant, query: Query, to: _To) -> _Made:
    """Ask for an export, and make it. Whoever else makes exports leaves it to this command, as long as that runs.

    If that does not come to an end, it is said how to make it.
    """
    holder = f"{_BY} {new_id()}"
    export_id = ask(records, tenant, query, _BY, leases.lease(holder, datetime.now(UTC)))
    noted = time.monotonic()

    def note(done: int, of: int) -> None:
        nonlocal noted
        if time.monotonic() - noted >= _NOTED_EVERY:
            noted = time.monotonic()
            with records.database.write() as tx:
                leases.note_progress(tx, export_id, holder, percent(done, of), datetime.now(UTC))

    def complete(built: Built) -> None:
        now = datetime.now(UTC)
        with records.database.write() as tx:
            if not leases.complete(tx, export_id, holder, built, now, kept_for=timedelta(0)):
                raise RecordsError("something of this period was erased while the file was made, so it was thrown away")

    try:
        job = _settle(records, tenant, export_id)
        return _Made(job, _write(records, tenant, job, to, note, complete))
    except BaseException as error:
        if not (isinstance(error, UncoveredError) and error.for_good):
            click.echo(f"The export is asked for; this makes its file: {to.command(tenant, export_id)}", err=True)
        with contextlib.suppress(SQLAlchemyError), records.database.write() as tx:
            said = f"the command that made it did not end; receiver export --job {export_id} makes it"
            leases.fail(tx, export_id, holder, said, datetime.now(UTC), for_good=True)
        raise


def _make_again(records: Records, tenant: Tenant, export_id: str, to: _To) -> _Made:
    """Make the file of an export that was asked for before, whatever became of that."""
    with records.database.read() as tx:
        find(tx, tenant, export_id)
    job = _settle(records, tenant, export_id)

    def complete(built: Built) -> None:
        with records.database.write() as tx:
            leases.note_range(tx, export_id, built)

    return _Made(job, _write(records, tenant, job, to, lambda _done, _of: None, complete))


def _settle(records: Records, tenant: Tenant, export_id: str) -> Job:
    """What it is made from, once a checkpoint covers it: this one signs it, if no service is faster."""
    until = time.monotonic() + _PATIENCE
    while True:
        tenant.log.publish()
        try:
            with records.database.write() as tx:
                return settle(tx, export_id)
        except UncoveredError as error:
            if error.for_good or time.monotonic() > until:
                raise
            time.sleep(0.05)


def _write(
    records: Records,
    tenant: Tenant,
    job: Job,
    to: _To,
    note: Callable[[int, int], None],
    complete: Callable[[Built], None],
) -> Built:
    """Make the file, and put it in its place, durably, once `complete` has taken it for whole.

    Who is given it is noted before, so that whoever erases something of it later is told.
    """
    with records.database.write() as tx:
        give(tx, tenant, _BY, export_id=job.id)
    with unnamed(to.out) as new, _progress() as show_progress:

        def tell(done: int, of: int) -> None:
            show_progress(done, of)
            note(done, of)

        built = build_into(records, job, new.file, to.out.absolute().parent, tell)
        complete(built)
        new.appear(replace=to.force)
    return built


@contextmanager
def _progress() -> Generator[Callable[[int, int], None]]:
    """Shows on a terminal how far it is; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Export", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
