"""`receiver erase`: what was recorded of an event, an item or a person goes, and who had been given it is said.

What is erased cannot be brought back, so on a terminal it is asked whether that is meant. What was asked for is not
repeated: what a command prints may be kept.
"""

import dataclasses
import sys
from pathlib import Path

import click

from receiver.cli.common import data_option, its_tenant_option, json_option, opened, plainly, show
from receiver.erasure import answers
from receiver.erasure.answers import Answer
from receiver.erasure.requests import Ask, ask
from receiver.records.opening import Records, Tenant

yes_option = click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
reason_option = click.option(
    "--reason", required=True, help="Why: kept, and committed to in the log. Name nobody in it."
)


@click.command()
@click.option("--event", help="The id of an event, or of anything else that was delivered.")
@click.option("--item", metavar="PROVIDER/TYPE/ID", help="All that was recorded about an item.")
@click.option("--person", metavar="KIND:VALUE", help="All that names a person, such as email:jane@example.com.")
@reason_option
@yes_option
@its_tenant_option
@data_option
@json_option
@plainly
def erase(
    event: str | None,
    item: str | None,
    person: str | None,
    reason: str,
    tenant: str,
    data: Path | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase what was recorded; what the log says of it stays, and so does every proof."""
    asked = Ask(reason=reason, event_id=event, item=None if item is None else _item(item), person=person)
    if [event, item, person].count(None) != 2:
        raise click.UsageError("give one of --event, --item and --person")
    must_be_meant(yes=yes)
    with opened(data, new=False) as records:
        answer = erased(records, records.tenant(tenant), asked)
    show(dataclasses.asdict(answer), as_json=as_json, lines=in_words(answer))


def must_be_meant(*, yes: bool) -> None:
    """Ask on a terminal whether it is meant; elsewhere it has to have been said."""
    if yes:
        return
    if not is_terminal():
        raise click.UsageError("what is erased cannot be brought back: say --yes")
    click.confirm("What is erased cannot be brought back. Erase it?", abort=True, err=True)


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def erased(records: Records, tenant: Tenant, asked: Ask) -> Answer:
    """Erase all of it; what became of that. Raises RecordsError: HeldError if a hold is in the way."""
    return answers.load(records, tenant, ask(records, tenant, asked))


def in_words(answer: Answer) -> list[str]:
    """An answer for a person who reads it."""
    if not answer.entries:
        return ["Nothing is kept of it that could be erased.", f"Request {answer.id}."]
    entries = "entry" if answer.erased == 1 else "entries"
    taken = f"{answer.erased} {entries} cannot be opened any more."
    if not answer.erased:
        taken = "What was kept of it were entries of issuers' logs alone, and these are not any more."
    lines = [f"{taken} Request {answer.id}, {answer.state}."]
    if answer.state != "completed":
        lines.append("The database may still have some of it on disk; a running service completes that.")
    lines.append(f"Told by the log's entries {', '.join(map(str, answer.entries))}.")
    if answer.exports or answer.evidence:
        lines += ["Given out before:"]
        lines += [f"  {one.at}  export {one.id} to {one.given_to}" for one in answer.exports]
        lines += [f"  {one.at}  evidence of {one.event_id} to {one.given_to}" for one in answer.evidence]
    else:
        lines.append("It had been given out to nobody.")
    return lines


def _item(text: str) -> dict[str, str]:
    """An item as it is written in URLs, but for the percent signs."""
    parts = text.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise click.BadParameter("an item is PROVIDER/TYPE/ID", param_hint="--item")
    return dict(zip(("provider", "type", "id"), parts, strict=True))
