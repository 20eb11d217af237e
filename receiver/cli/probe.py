"""`receiver source probe`: by which scheme a provider signs that does not say so.

A delivery that a source refuses is tried with every scheme there is (`receiver.intake.probing`). What was held for that
is deleted however the command ends; after a kill, by any running service once the time is over.
"""

import re
import shlex
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from receiver.cli.common import data_option, duration, opened, plainly, printable, settings_of, tenant_option
from receiver.events import format_time
from receiver.intake.probing import Fit, fits, strongest
from receiver.intake.schemes import Hmac, Scheme, Secret, StandardWebhooks, TimestampedHmac, Token
from receiver.records.opening import DEFAULT_TENANT, Records, RecordsError
from receiver.records.probes import MAX_HEADERS, MAX_HELD, Delivery, begin_probe, end_probe, held_deliveries
from receiver.records.sources import Source, load_sources, named_source, webhook_path

LONGEST = 86_400  # seconds
POLL = 0.5
INTERRUPTED = 130

_FIRST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/[0-9.]+|HTTP/[0-9.]+ .*")
_KEYS = {
    "text": "the secret's text",
    "text-without-whsec": "the secret's text after whsec_",
    "base64": "the secret read as base64",
    "hex": "the secret read as hex",
}


@click.command()
@click.argument("name", callback=printable)
@click.option(
    "--for", "seconds", default="15m", show_default=True, callback=duration, help="How long: 90s, 15m, 2h; at most 24h."
)
@click.option(
    "--headers", type=click.Path(path_type=Path), help="Try a delivery from files instead: its headers, a line each."
)
@click.option("--body", type=click.Path(path_type=Path), help="Its body, byte for byte.")
@tenant_option
@data_option
@plainly
def probe(name: str, seconds: int, headers: Path | None, body: Path | None, tenant: str, data: Path | None) -> None:
    """Find the scheme that deliveries to a source are signed by, and print the command that sets it.

    While it is on, at most 20 deliveries that the source refuses are held, encrypted, and each is tried with every
    header, key form, encoding and whitespace rule under the source's secrets. They are still answered 401, and deleted
    at the end.
    """
    if not 0 < seconds <= LONGEST:
        raise click.BadParameter("a probe lasts at least a second and at most 24h", param_hint="--for")
    if headers is not None and body is not None:
        with closing(Records.inspect(settings_of(data=data))) as records:
            source = _source(records, tenant, name)
        delivery = Delivery(time.time(), _read_headers(headers), body.read_bytes())
        found, tried = _strongest(source, [delivery]), 1
    elif headers is None and body is None:
        try:
            with opened(data) as records:
                source = _source(records, tenant, name)
                found, tried = _listen(records, source, seconds)
        except KeyboardInterrupt:
            click.echo("The probe was ended, and what it held is deleted.", err=True)
            sys.exit(INTERRUPTED)
    else:
        raise click.UsageError("give --headers and --body together, or neither")
    if found is None:
        raise click.ClickException(_why_none(source, tried))
    click.echo("\n".join(_told(source, found, live=headers is None)))
    click.echo(shlex.join(_command(source, found.scheme, data)))


def _source(records: Records, tenant: str, name: str) -> Source:
    source_id = named_source(records, records.tenant(tenant), name)
    (source,) = [one for one in load_sources(records) if one.id == source_id]
    now = datetime.now(UTC)
    if all(secret.not_after is not None and secret.not_after <= now for secret in source.secrets):
        raise RecordsError(f"source {name} has no secret to try: give it one with `receiver source rotate`")
    return source


# ---- trying -------------------------------------------------------------------------------------------------------


def _listen(records: Records, source: Source, seconds: int) -> tuple[Fit | None, int]:
    """The strongest fit of a delivery that was held for the source, if one fits, and how many were tried."""
    if not source.enabled:
        raise RecordsError(f"source {source.name} is disabled, so no delivery reaches it: enable it first")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)  # whoever ends it, nothing stays held
    until = begin_probe(records, source.id, seconds)
    try:
        click.echo(
            f"Deliveries to {webhook_path(source.id)} that are refused are tried until {format_time(until)}. "
            "Have the provider send one. Ctrl-C ends this.",
            err=True,
        )
        tried: set[str] = set()
        while True:
            over = datetime.now(UTC) >= until  # asked first, so that what came at the very end is tried as well
            new = held_deliveries(records, source.id, but=tried)
            tried |= new.keys()
            found = _strongest(source, new.values())
            if found is not None or over or len(tried) >= MAX_HELD:
                return found, len(tried)
            time.sleep(POLL)
    finally:
        end_probe(records, source.id, until)


def _strongest(source: Source, deliveries: Iterable[Delivery]) -> Fit | None:
    secrets = [Secret(one.id, one.value, one.not_before, one.not_after) for one in source.secrets]
    return strongest(
        fit
        for delivery in deliveries
        for fit in fits(delivery.headers, delivery.body, secrets, source.replay_window, delivery.received_at)
    )


def _read_headers(file: Path) -> tuple[tuple[bytes, bytes], ...]:
    """Headers as ASGI gives them. Raises ClickException for a line that is none."""
    raw = file.read_bytes()
    if len(raw) > MAX_HEADERS:
        raise click.ClickException(f"{file}: the headers of a delivery are at most {MAX_HEADERS} bytes")
    found: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(raw.splitlines(), 1):
        name, colon, value = line.partition(b":")
        if not line.strip() or (number == 1 and _FIRST_LINE.fullmatch(line)):
            continue
        if not colon or not name or name != name.strip():
            raise click.ClickException(f"{file}: line {number} is no header, `Name: value`")
        found.append((name.lower(), value.strip(b" \t")))
    return tuple(found)


# ---- telling ------------------------------------------------------------------------------------------------------


def _told(source: Source, fit: Fit, *, live: bool) -> list[str]:
    scheme = fit.scheme
    lines = [f"A delivery fits: {_in_words(scheme)}."]
    if isinstance(scheme, Hmac) and scheme.prefix:
        lines.append("What stands before the signature is taken from this one delivery: it must be so in every one.")
    if isinstance(scheme, Hmac) and not fit.shows_whitespace:
        lines.append(
            "The body has no whitespace outside of strings, so this delivery cannot tell whether it would be stripped "
            "before signing (--strip-whitespace)."
        )
    if live and not fit.timely:
        lines.append(
            f"Its timestamp was more than {source.replay_window} s off when it came: compare the clocks, or set "
            "--replay-window as well."
        )
    if (source.scheme, dict(source.scheme_options)) == (scheme.name, scheme.options()):
        lines.append("The source has this scheme already.")
    return lines


def _in_words(scheme: Scheme) -> str:
    match scheme:
        case StandardWebhooks():
            return "Standard Webhooks, which signs an id, the time and the body"
        case TimestampedHmac():
            return f"an HMAC-SHA256 of time and body, as t=…,v1=… in the header {scheme.header}"
        case Hmac():
            body = "the body without the whitespace outside of its strings" if scheme.strip_whitespace else "the body"
            place = f"in the header {scheme.header}" + (f" after {scheme.prefix}" if scheme.prefix else "")
            key = _KEYS[scheme.key_form]
            return f"the HMAC-SHA256 of {body}, in {scheme.encoding}, {place}; the key is {key}"
        case Token():
            return f"the secret itself, in the header {scheme.header}. Neither body nor time is signed"


def _command(source: Source, scheme: Scheme, data: Path | None) -> list[str]:
    """The command that sets the scheme; options that have their default are left out."""
    words = ["receiver", "source", "set", source.name, "--scheme", scheme.name]
    if not isinstance(scheme, StandardWebhooks):
        words += ["--header", scheme.header]
    if isinstance(scheme, Hmac):
        default = Hmac(scheme.header)
        for option in ("prefix", "encoding", "key_form"):
            if getattr(scheme, option) != getattr(default, option):
                words += [f"--{option.replace('_', '-')}", getattr(scheme, option)]
        words += ["--strip-whitespace"] if scheme.strip_whitespace else []
    if source.tenant != DEFAULT_TENANT:
        words += ["--tenant", source.tenant]
    return words if data is None else [*words, "--data", str(data)]


def _why_none(source: Source, tried: int) -> str:
    if tried == 0:
        return (
            f"nothing came to {webhook_path(source.id)} that was refused. Check that a service runs on these records "
            "and that the provider delivers to it; what the source's scheme lets in is not tried"
        )
    return (
        f"{'1 delivery was' if tried == 1 else f'{tried} deliveries were'} tried, and no scheme fits. Check that the "
        "secret is the one that the provider has for this webhook, whole, and that no proxy changes bodies or headers "
        "on the way. If both are so, the provider signs in a way that is not known here"
        + (
            "; or the provider's delivery was not among them: anyone who knows the path can fill a probe up, and then "
            "another one helps"
            if tried >= MAX_HELD
            else ""
        )
    )
