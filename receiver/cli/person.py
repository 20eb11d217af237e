"""`receiver person`: what is kept about a person, for whoever asks what that is, or asks that it be erased.

A person is named as the providers name them, `email:jane@example.com`; by which members of which deliveries is said in
each provider's module. The index by which they are found holds keyed hashes only, and is caught up with first.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from receiver.audit.subject import (
    BodyShape,
    GivenShape,
    KeptShape,
    NamedShape,
    all_kept,
    deliveries_named,
    given_out_with,
)
from receiver.cli.common import data_option, its_tenant_option, json_option, opened, plainly, show
from receiver.cli.erase import erased, in_words, must_be_meant, reason_option, yes_option
from receiver.erasure.holds import first_hold, held_among
from receiver.erasure.placing import Hold
from receiver.erasure.placing import get as get_hold
from receiver.erasure.requests import Ask
from receiver.erasure.selecting import related
from receiver.records.journal import change
from receiver.records.opening import Records, Tenant
from receiver.records.persons import Person, catch_up, catch_up_locked, deliveries_of, key_of
from receiver.records.persons import person as person_named
from translog.cli import printable as on_one_line


def _person(_context: click.Context, _parameter: click.Parameter, value: str) -> Person:
    """A callback for persons. What was given is not repeated: it may be anybody's."""
    try:
        return person_named(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_whom = click.argument("named", metavar="KIND:VALUE", callback=_person)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Everything about a person, as of one moment."""

    entries: list[KeptShape]
    given_out: list[GivenShape]
    holds: list[Hold]
    """Those in force that keep any of it, of each entry the oldest."""


@click.group()
def person() -> None:
    """What is kept about a person."""


@person.command()
@_whom
@its_tenant_option
@data_option
@json_option
@plainly
def find(named: Person, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Which deliveries name this person, such as email:jane@example.com, in the order in which they came."""
    with opened(data, new=False) as records:
        of = records.tenant(tenant)
        catch_up(records, of)
        with records.database.snapshot() as tx:
            found = deliveries_named(tx, of, deliveries_of(tx, of, key_of(of, named)))
    value = {"count": len(found), "items": [asdict(one) for one in found]}
    show(value, as_json=as_json, lines=[*map(_line, found), f"{len(found)} name this {_KINDS[named.kind]}."])


@person.command()
@_whom
@its_tenant_option
@data_option
@json_option
@plainly
def report(named: Person, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Everything that is kept about this person: what was delivered, what is found out, who else was given it.

    With what names the person comes what repeats it: all that an erasure would take. Whoever reads this reads what
    others delivered, which may be about others as well.
    """
    with opened(data, new=False) as records:
        of = records.tenant(tenant)
        catch_up(records, of)
        kept = _everything(records, of, named)
    value = {
        "person": {"kind": named.kind.value, "value": named.value},
        "count": len(kept.entries),
        "items": [asdict(one) for one in kept.entries],
        "given_out": [asdict(one) for one in kept.given_out],
        "holds": [asdict(one) for one in kept.holds],
    }
    show(value, as_json=as_json, lines=_in_words(named, kept))


@person.command()
@_whom
@reason_option
@yes_option
@its_tenant_option
@data_option
@json_option
@plainly
def erase(named: Person, reason: str, tenant: str, data: Path | None, *, yes: bool, as_json: bool) -> None:
    """Erase all that names this person, and what repeats it; what the log says of it stays, and so does every proof."""
    must_be_meant(yes=yes)
    with opened(data, new=False) as records:
        answer = erased(records, records.tenant(tenant), Ask(reason=reason, person=f"{named.kind}:{named.value}"))
    show(asdict(answer), as_json=as_json, lines=in_words(answer))


def _everything(records: Records, tenant: Tenant, named: Person) -> _Kept:
    # Under the log's lock, as holds are judged: so nothing is recorded, held or erased meanwhile.
    with change(records.database, tenant.log) as changing:
        tx = changing.tx
        catch_up_locked(tx, tenant)
        naming = deliveries_of(tx, tenant, key_of(tenant, named))
        ids = related(tx, tenant, naming)
        oldest = {first_hold(tx, tenant, [its_id]) for its_id in held_among(tx, tenant, ids)}
        holding = [hold_id for hold_id in oldest if hold_id is not None]
        entries = list(all_kept(tx, tenant, ids, naming))
        given = given_out_with(tx, tenant, ids)
    return _Kept(entries, given, [get_hold(records, tenant, hold_id) for hold_id in sorted(holding)])


# ---- in words -------------------------------------------------------------------------------------------------------

_KINDS = {
    "email": "email address",
    "mobile": "phone number",
    "external_id": "external id",
    "card_number": "card number",
    "customer_id": "customer id",
}


def _line(one: NamedShape) -> str:
    item = "" if one.item is None else f"  {one.item.type}:{one.item.id}"
    event = one.event or one.kind
    return on_one_line(
        f"{one.id}  {one.provider} {event}{item}  source {one.source_name}  received {one.received_at}  "
        f"entry {one.log_index}"
    )


def _in_words(named: Person, kept: _Kept) -> list[str]:
    lines = [on_one_line(f"What is kept about the {_KINDS[named.kind]} {named.value}: {len(kept.entries)} entries.")]
    for one in kept.entries:
        lines += ["", _line(one), *_parts(one)]
    if kept.given_out:
        lines += ["", "Given out:", *map(_given, kept.given_out)]
    else:
        lines += ["", "Given to nobody."]
    if kept.holds:
        lines += ["", "Not to be erased before these holds are released:"]
        lines += [f"  {one.id}  by {one.target}  placed {one.placed_at}" for one in kept.holds]
    return lines


def _parts(one: KeptShape) -> list[str]:
    lines = [] if one.names_person else ["  names nobody by this; it repeats what one says that does"]
    parts: list[tuple[str, Any]] = [("event", one.data), ("headers", one.headers), ("body", _body(one.body))]
    lines += [f"  {name}: {_json(value)}" for name, value in parts if value is not None]
    lines += [f"  breach {code}: {message}" for code, message in one.breaches if message]
    for found in one.found_out:
        lines.append(f"  {found.kind} {found.state}, entry {found.log_index}, {found.logged_at}: {_json(found.found)}")
        if found.body is not None:
            lines.append(f"    {_json(_body(found.body))}")
    return list(map(on_one_line, lines))


def _body(body: BodyShape | None) -> Any:
    """Bytes as they came if they are text, else their base64, which is said."""
    return None if body is None else {"base64": body.base64} if body.text is None else body.text


def _json(value: Any) -> str:
    """A text as it is, and anything else as its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _given(one: GivenShape) -> str:
    what = f"the evidence of {one.entry_id}" if one.export_id is None else f"the export {one.export_id}"
    return f"  {one.at}  {what} to {one.given_to}"
