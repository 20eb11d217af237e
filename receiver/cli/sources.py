"""`receiver source`: who may deliver, and how it is authenticated.

What changes a source is in `source_changes`, what its provider is asked with in `credential`.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from receiver import providers
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
from receiver.intake.issuing import MAX_EXPECT_EVERY, MAX_FOLLOW_EVERY, MAX_GRACE, MAX_INDEX, MAX_POLICY, warn_of_fork
from receiver.intake.sourcing import MAX_RATE_LIMIT, MAX_REPLAY_WINDOW, Addition, Environment, settle
from receiver.records.secrets import ListedSecret
from receiver.records.sources import DEFAULT_REPLAY_WINDOW, ListedSource, add_source, list_sources, webhook_path

SCHEMES = ("standard-webhooks", "timestamped-hmac", "hmac", "token")

_LOG_OPTIONS = ("issuer_log_key", "issuer_log_policy", "issuer_log_origin")
_CHECKING = ("issuer_log_from", "exclusive", "grace", "follow_every", "expect_every")

C = TypeVar("C", bound=Callable[..., Any])


def _within(most: int) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """A callback for lengths of time of at least a second; `most` is in seconds, and whole days."""

    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
        seconds = duration(context, parameter, value)
        if seconds is not None and not 1 <= seconds <= most:
            raise click.BadParameter(f"{value} is not between 1s and {most // 86_400}d")
        return seconds

    return check


def _policy_text(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        with file.open("rb") as policy:
            raw = policy.read(MAX_POLICY + 1)
        text = raw.decode()
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise click.BadParameter(f"{file} is not UTF-8 text") from None
    if len(raw) > MAX_POLICY:
        raise click.BadParameter(f"{file}: a policy is at most {MAX_POLICY} bytes")
    return text


scheme_option = click.option("--scheme", type=click.Choice(SCHEMES), help="How deliveries are authenticated.")
environment_option = click.option(
    "--environment", type=click.Choice(["live", "test"]), help="Events of a test source are marked as such."
)
replay_window = click.IntRange(1, MAX_REPLAY_WINDOW)
rate_limit_option = click.option(
    "--rate-limit", type=click.IntRange(1, MAX_RATE_LIMIT), help="Deliveries a minute, beyond which 429."
)
upstream_option = click.option(
    "--upstream", metavar="BASE_URL", help="Where the provider's operation is that /relay/NAME/… passes calls on to."
)


def scheme_options(command: C) -> C:
    """The options of schemes; what was given of them is made of the arguments by `given_options`."""
    for option in (
        click.option(
            "--strip-whitespace/--no-strip-whitespace",
            default=None,
            help="hmac: over the body without whitespace outside strings, or as it is.  [default: as it is]",
        ),
        click.option(
            "--key-form",
            type=click.Choice(["text", "text-without-whsec", "base64", "hex"]),
            help="hmac: how the secret's text becomes the key.  [default: text]",
        ),
        click.option(
            "--encoding", type=click.Choice(["hex", "base64"]), help="hmac: of the signature.  [default: hex]"
        ),
        click.option("--prefix", help="hmac: what stands before the signature, such as sha256=.  [default: nothing]"),
        click.option("--header", help="timestamped-hmac, hmac, token: the header that carries the signature or token."),
    ):
        command = option(command)
    return command


def given_options(**options: str | bool | None) -> dict[str, str | bool]:
    """Those options of a scheme that were given."""
    return {name: value for name, value in options.items() if value is not None}


def checking_options(command: C) -> C:
    """What a source's events are checked against, and how: the command is given `checking`, the members asked for."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in ("issuer_log_url", *_LOG_OPTIONS)}
        checking = {name: value for name in _CHECKING if (value := kwargs.pop(name)) is not None}
        return command(*args, checking={**_issuer_log(**given), **checking}, **kwargs)

    for option in (
        click.option("--expect-every", callback=_within(MAX_EXPECT_EVERY), help="Alert once nothing came for so long."),
        click.option(
            "--follow-every",
            callback=_within(MAX_FOLLOW_EVERY),
            help="How often the issuer's log is looked at: 10s, 5m, 1h.  [default: 10s]",
        ),
        click.option(
            "--grace",
            callback=_within(MAX_GRACE),
            help="How long event and issuer's entry may be apart: 30s, 15m, 24h, 7d.  [default: 24h]",
        ),
        click.option(
            "--exclusive/--no-exclusive",
            default=None,
            help="Every entry of the provider in the issuer's log is this source's, or not.  [default: not]",
        ),
        click.option(
            "--issuer-log-from",
            type=click.IntRange(0, MAX_INDEX),
            help="Entries from this index on may be gaps.  [default: where the log stands now]",
        ),
        click.option("--issuer-log-origin", metavar="LINE", help="Of its checkpoints, if its keys have another name."),
        click.option(
            "--issuer-log-policy",
            type=click.Path(path_type=Path),
            callback=_policy_text,
            help="Or whose signatures are: a C2SP tlog-policy file.",
        ),
        click.option(
            "--issuer-log-key",
            metavar="VKEY",
            multiple=True,
            help="Whose signatures are believed: any of these keys'. May be given more than once.",
        ),
        click.option("--issuer-log-url", metavar="URL", help="The issuer's log that events are checked against."),
    ):
        run = option(run)
    return cast("C", run)


def _issuer_log(
    *,
    issuer_log_url: str | None,
    issuer_log_key: tuple[str, ...],
    issuer_log_policy: str | None,
    issuer_log_origin: str | None,
) -> dict[str, Any]:
    """The member `issuer_log`, if it is asked for."""
    if issuer_log_key and issuer_log_policy is not None:
        raise click.UsageError("give --issuer-log-key or --issuer-log-policy, not both")
    if issuer_log_url is None:
        if issuer_log_key or issuer_log_policy is not None or issuer_log_origin is not None:
            raise click.UsageError("say with --issuer-log-url of which log that is")
        return {}
    if not issuer_log_key and issuer_log_policy is None:
        raise click.UsageError("say whose signatures count, with --issuer-log-key or --issuer-log-policy")
    members = {"url": issuer_log_url, "policy": issuer_log_policy, "origin": issuer_log_origin}
    return {"issuer_log": {**members, "key": list(issuer_log_key) or None}}


def secret_options(command: C) -> C:
    """The two ways in which a secret is given: never as an argument, which everyone on the machine could read."""
    stdin = click.option("--secret-stdin", is_flag=True, help="Read the secret from standard input.")
    file = click.option("--secret-file", type=click.Path(path_type=Path), help="Read the secret from this file.")
    return file(stdin(command))


def warn(warnings: list[str]) -> None:
    """Say on standard error what there is to warn of."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@click.group()
def source() -> None:
    """Sources of deliveries."""


@source.command()
@click.argument("name", callback=printable)
@click.option("--provider", required=True, type=click.Choice(providers.names()))
@scheme_option
@scheme_options
@secret_options
@click.option("--account", callback=printable, help="Deliveries that name another account are quarantined.")
@environment_option
@click.option(
    "--replay-window",
    type=replay_window,
    default=DEFAULT_REPLAY_WINDOW,
    show_default=True,
    help="Seconds a signed timestamp may lie in the past or the future.",
)
@rate_limit_option
@upstream_option
@checking_options
@tenant_option
@data_option
@json_option
@plainly
def add(
    name: str,
    provider: str,
    scheme: str | None,
    header: str | None,
    prefix: str | None,
    encoding: str | None,
    key_form: str | None,
    secret_file: Path | None,
    account: str | None,
    environment: Environment | None,
    replay_window: int,
    rate_limit: int | None,
    upstream: str | None,
    tenant: str,
    data: Path | None,
    *,
    strip_whitespace: bool | None,
    secret_stdin: bool,
    checking: dict[str, Any],
    as_json: bool,
) -> None:
    """Add a source. Without a secret one is made, and printed this once.

    Without --scheme it has the one that its provider documents; the scheme's options change that one's. An issuer's log
    is asked where it stands, which takes some seconds if it does not answer.
    """
    signing = providers.get(provider).signing
    if scheme is None and signing.scheme is None:
        raise click.UsageError(f"{signing.said}: say which --scheme it is")
    secret = read_secret(secret_file, from_stdin=secret_stdin)
    settled = settle(
        Addition(
            name=name,
            provider=provider,
            scheme=scheme,
            scheme_options=given_options(
                header=header,
                prefix=prefix,
                encoding=encoding,
                key_form=key_form,
                strip_whitespace=strip_whitespace,
            ),
            account=account,
            environment=environment or "live",
            replay_window=replay_window,
            rate_limit=rate_limit,
            upstream=upstream,
            secret=secret,
            **checking,
        )
    )
    warn(settled.warnings)
    with opened(data) as records:
        warn(warn_of_fork(records, settled.new.checking.log))
        source_id = add_source(records, records.ensure_tenant(tenant), settled.new, settled.secret)
    path = webhook_path(source_id)
    result = {"id": source_id, "webhook_path": path}
    lines = [f"Source {name} ({source_id})", f"Webhook path: {path}"]
    if secret is None:
        result["secret"] = settled.secret
        lines.append(f"Secret, shown this once: {settled.secret}")
    show(result, as_json=as_json, lines=lines)


@source.command("list")
@tenant_option
@data_option
@json_option
@plainly
def list_(tenant: str, data: Path | None, *, as_json: bool) -> None:
    """Every source, with its secrets' ids and times, and without what these and its credential are."""
    with opened(data) as records:
        found = list_sources(records, records.tenant(tenant))
    lines = [line for one in found for line in in_words(one)]
    show({"items": [dataclasses.asdict(one) for one in found]}, as_json=as_json, lines=lines or ["No sources."])


def in_words(listed: ListedSource) -> list[str]:
    """A source, in lines."""
    options = [name if value is True else f"{name} {value}" for name, value in listed.scheme_options.items() if value]
    account = "any" if listed.account is None else listed.account
    rate = "none" if listed.rate_limit is None else f"{listed.rate_limit} a minute"
    upstream = "none" if listed.upstream is None else listed.upstream
    credential = "none" if listed.credential_since is None else f"since {listed.credential_since}"
    silence = "may be silent" if listed.expect_every is None else f"expected every {listed.expect_every} s"
    return [
        f"{listed.name}  {listed.provider}  {listed.environment}  {'enabled' if listed.enabled else 'disabled'}",
        f"  id {listed.id}, added {listed.created_at}",
        f"  webhook path {listed.webhook_path}",
        f"  scheme {', '.join([listed.scheme, *options])}",
        f"  account {account}, replay window {listed.replay_window} s, rate limit {rate}",
        f"  upstream {upstream}, credential {credential}",
        f"  issuer log {_log_in_words(listed)}",
        f"  grace {listed.grace} s, {silence}",
        *(f"  secret {_times(secret)}" for secret in listed.secrets),
    ]


def _log_in_words(listed: ListedSource) -> str:
    log = listed.issuer_log
    if log is None:
        return "none"
    origin = "" if log.origin is None else f", origin {log.origin}"
    exclusive = ", exclusive" if listed.exclusive else ""
    begins = "its first checkpoint" if listed.issuer_log_from is None else f"entry {listed.issuer_log_from}"
    return f"{log.url}{origin}{exclusive}, gaps from {begins} on, looked at every {listed.follow_every} s"


def _times(secret: ListedSecret) -> str:
    begins = "" if secret.not_before is None else f", valid from {secret.not_before}"
    ends = "" if secret.not_after is None else f", valid until {secret.not_after}"
    return f"{secret.id}, added {secret.created_at}{begins}{ends}"
