"""`receiver source set`, `disable`, `enable` and `rotate`: what changes a source that is there.

A service that runs takes a change over within a second.
"""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import UNSET, UnsetType

from receiver.cli.common import (
    data_option,
    duration,
    json_option,
    opened,
    plainly,
    printable,
    read_secret,
    show,
    tenant_option,
)
from receiver.cli.sources import (
    checking_options,
    environment_option,
    given_options,
    in_words,
    rate_limit_option,
    replay_window,
    scheme_option,
    scheme_options,
    secret_options,
    upstream_option,
    warn,
)
from receiver.intake.sourcing import MAX_OVERLAP, Changes, Environment, Rotation, change, rotate
from receiver.records.sources import named_source

T = TypeVar("T")


@click.command("set")
@click.argument("name", callback=printable)
@scheme_option
@scheme_options
@secret_options
@click.option("--account", callback=printable, help="Deliveries that name another account are quarantined.")
@click.option("--no-account", is_flag=True, help="Take deliveries of any account.")
@environment_option
@click.option(
    "--replay-window", type=replay_window, help="Seconds a signed timestamp may lie in the past or the future."
)
@rate_limit_option
@click.option("--no-rate-limit", is_flag=True, help="Take any number of deliveries.")
@upstream_option
@click.option("--no-upstream", is_flag=True, help="Pass no calls on.")
@checking_options
@click.option("--no-issuer-log", is_flag=True, help="Check events against no issuer's log.")
@click.option("--no-expect-every", is_flag=True, help="Let it be silent for as long as it is.")
@tenant_option
@data_option
@json_option
@plainly
def set_(
    name: str,
    scheme: str | None,
    header: str | None,
    prefix: str | None,
    encoding: str | None,
    key_form: str | None,
    secret_file: Path | None,
    account: str | None,
    environment: Environment | None,
    replay_window: int | None,
    rate_limit: int | None,
    upstream: str | None,
    tenant: str,
    data: Path | None,
    *,
    strip_whitespace: bool | None,
    secret_stdin: bool,
    no_account: bool,
    no_rate_limit: bool,
    no_upstream: bool,
    checking: dict[str, Any],
    no_issuer_log: bool,
    no_expect_every: bool,
    as_json: bool,
) -> None:
    """Change a source; what is not named stays as it is.

    With --scheme, the scheme has the options given here and no others; without it, those given are changed. A secret
    given here ends the others at once; `receiver source rotate` leaves them time.
    """
    options = given_options(
        header=header, prefix=prefix, encoding=encoding, key_form=key_form, strip_whitespace=strip_whitespace
    )
    log: dict[str, Any] | None = checking.pop("issuer_log", None)
    if no_issuer_log and log is not None:
        raise click.UsageError("give --issuer-log-url or --no-issuer-log, not both")
    asked = Changes(
        scheme=_unless_none(scheme),
        scheme_options=options or UNSET,
        account=_given(account, "account", gone=no_account),
        environment=_unless_none(environment),
        replay_window=_unless_none(replay_window),
        rate_limit=_given(rate_limit, "rate-limit", gone=no_rate_limit),
        upstream=_given(upstream, "upstream", gone=no_upstream),
        issuer_log=None if no_issuer_log else _unless_none(log),
        expect_every=_given(checking.pop("expect_every", None), "expect-every", gone=no_expect_every),
        secret=_unless_none(read_secret(secret_file, from_stdin=secret_stdin)),
        **checking,
    )
    if asked == Changes():
        raise click.UsageError("say what to change; --help lists what there is")
    _change(name, asked, tenant, data, as_json=as_json)


@click.command()
@click.argument("name", callback=printable)
@tenant_option
@data_option
@json_option
@plainly
def disable(name: str, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Take no more deliveries from a source: they are answered 404."""
    _change(name, Changes(enabled=False), tenant, data, as_json=as_json)


@click.command()
@click.argument("name", callback=printable)
@tenant_option
@data_option
@json_option
@plainly
def enable(name: str, tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Take deliveries from a source again."""
    _change(name, Changes(enabled=True), tenant, data, as_json=as_json)


@click.command("rotate")
@click.argument("name", callback=printable)
@secret_options
@click.option(
    "--overlap",
    default="24h",
    show_default=True,
    callback=duration,
    help="How long the others stay valid: 90s, 15m, 24h, 7d; 0 ends them at once.",
)
@tenant_option
@data_option
@json_option
@plainly
def rotate_(
    name: str,
    secret_file: Path | None,
    overlap: int,
    tenant: str,
    data: Path | None,
    *,
    secret_stdin: bool,
    as_json: bool,
) -> None:
    """Give a source a new secret, beside which the others stay valid for a while. Without one it is made, and printed
    this once.
    """
    if overlap > MAX_OVERLAP:
        raise click.BadParameter(f"at most {MAX_OVERLAP // 86_400}d", param_hint="--overlap")
    asked = Rotation(secret=read_secret(secret_file, from_stdin=secret_stdin), overlap_seconds=overlap)
    with opened(data) as records:
        of = records.tenant(tenant)
        rotated = rotate(records, of, named_source(records, of, name), asked)
    warn(rotated.warnings)
    result = {"id": rotated.id}
    lines = [f"Source {name} has the new secret {rotated.id}"]
    if rotated.secret is not None:
        result["secret"] = rotated.secret
        lines.append(f"Secret, shown this once: {rotated.secret}")
    show(result, as_json=as_json, lines=lines)


def _change(name: str, asked: Changes, tenant: str, data: Path | None, *, as_json: bool) -> None:
    with opened(data) as records:
        of = records.tenant(tenant)
        changed, warnings = change(records, of, named_source(records, of, name), asked)
    warn(warnings)
    show(dataclasses.asdict(changed), as_json=as_json, lines=in_words(changed))


def _unless_none(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value


def _given(value: T | None, option: str, *, gone: bool) -> T | UnsetType | None:
    """What is asked by an option and the one that takes it away."""
    if gone and value is not None:
        raise click.UsageError(f"give --{option} or --no-{option}, not both")
    return None if gone else _unless_none(value)
