"""Sources, from what was asked for to what is kept: what a command and a request have in common.

`Addition`, `Changes`, `Rotation` and `Credential` say what is asked; as the body of a request (`receiver.bodies`) they
have these members and no others. What they ask is settled here: the scheme with its options, the secret that goes with
it, the upstream, the issuer's log (`receiver.intake.issuing`), and what to warn of. What cannot be is a `SettingError`,
in a sentence that shows no secret.

What depends on how a source is now is decided under its log's lock (`receiver.records.sources.change_source`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeAlias, TypeVar

from msgspec import UNSET, Meta, UnsetType

from receiver import providers
from receiver.intake.issuing import (
    ExpectEvery,
    FollowEvery,
    Grace,
    Index,
    LogMembers,
    Standing,
    log_identity,
    must_have_log,
    warn_of_fork,
    warn_of_owner,
    where_it_stands,
)
from receiver.intake.members import SettingError, base_url, must_be_name
from receiver.intake.schemes import Scheme, check_secret, generate_secret, scheme_from_options
from receiver.providers import Provider
from receiver.records.credentials import MAX_CREDENTIAL, REMOVED, set_credential
from receiver.records.issuer_logs import DEFAULT_FOLLOW_EVERY, DEFAULT_GRACE, Checking, LogIdentity
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.secrets import MAX_SECRET, StoredSecret, new_secret
from receiver.records.sources import (
    DEFAULT_REPLAY_WINDOW,
    Decision,
    ListedSource,
    NewSource,
    Source,
    change_source,
    get_source,
    is_id,
    relay_source,
)

T = TypeVar("T")

MAX_REPLAY_WINDOW = 86_400
MAX_RATE_LIMIT = 1_000_000
DEFAULT_OVERLAP = 86_400
MAX_OVERLAP = 366 * 86_400

Environment: TypeAlias = Literal["live", "test"]
Word: TypeAlias = Annotated[str, Meta(max_length=64)]
Options: TypeAlias = dict[Word, Annotated[str, Meta(max_length=256)] | bool]
ReplayWindow: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_REPLAY_WINDOW, description="seconds")]
RateLimit: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_RATE_LIMIT, description="deliveries a minute")]
Overlap: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_OVERLAP)]
CredentialHeaders: TypeAlias = Annotated[dict[Word, str], Meta(examples=[{"X-API-Key": "a read-only key"}])]

_VALUE = re.compile("[!-~](?:[ -~]*[!-~])?")
_TOKEN = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


class UnusableError(RecordsError):
    """What was asked does not go with what the source is, or with the secrets it has; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A new source. Without a scheme it has the provider's documented one, without a secret one is made."""

    name: str
    provider: Word
    scheme: Word | None = None
    scheme_options: Options = field(default_factory=dict[str, str | bool])
    account: str | None = None
    environment: Environment = "live"
    replay_window: ReplayWindow = DEFAULT_REPLAY_WINDOW
    rate_limit: RateLimit | None = None
    upstream: str | None = None
    issuer_log: LogMembers | None = None
    issuer_log_from: Index | None = None
    exclusive: bool = False
    grace: Grace = DEFAULT_GRACE
    follow_every: FollowEvery = DEFAULT_FOLLOW_EVERY
    expect_every: ExpectEvery | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be different; what is left out stays as it is. A new secret ends the others at once.

    With a scheme, its options are those given and no others; without one, those given are changed. With another issuer
    log, gaps start where that stands, unless it is given where they do; with none, what was said of it goes with it.
    """

    scheme: Word | UnsetType = UNSET
    scheme_options: Options | UnsetType = UNSET
    account: str | UnsetType | None = UNSET
    environment: Environment | UnsetType = UNSET
    replay_window: ReplayWindow | UnsetType = UNSET
    rate_limit: RateLimit | UnsetType | None = UNSET
    upstream: str | UnsetType | None = UNSET
    issuer_log: LogMembers | UnsetType | None = UNSET
    issuer_log_from: Index | UnsetType = UNSET
    exclusive: bool | UnsetType = UNSET
    grace: Grace | UnsetType = UNSET
    follow_every: FollowEvery | UnsetType = UNSET
    expect_every: ExpectEvery | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    secret: str | UnsetType = field(default=UNSET, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A new secret, beside which the others stay valid for so many seconds. If none is given, one is made."""

    secret: str | None = field(default=None, repr=False)
    overlap_seconds: Overlap = DEFAULT_OVERLAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The headers that the provider's own record is asked with, each by its name."""

    headers: CredentialHeaders = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settled:
    """A new source as it is to be kept."""

    new: NewSource
    secret: str = field(repr=False)
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What became of a rotation. `secret` is the new one if it was made here: to be shown once."""

    id: str
    secret: str | None = field(repr=False)
    warnings: list[str]


def settle(asked: Addition) -> Settled:
    """What to keep, with `add_source`, of a new source; its issuer's log is asked where it stands. Raises SettingError.

    Not to be called on an event loop. That the log has forked is to be warned of as well (`issuing.warn_of_fork`).
    """
    must_be_name("name", asked.name)
    if is_id(asked.name):
        raise SettingError("name", "name has the shape of an id, which it could be taken for; choose another")
    must_be_name("account", asked.account)
    try:
        signing = providers.get(asked.provider).signing
    except ValueError as error:
        raise SettingError("provider", str(error)) from error
    upstream, warnings = _upstream(asked.upstream)
    name, options = asked.scheme, asked.scheme_options
    if name is None:
        if signing.scheme is None:
            raise SettingError("scheme", f"{signing.said}: say which scheme it is")
        name, options = signing.scheme, {**signing.options, **options}
    scheme = _scheme(name, options)
    secret = generate_secret(scheme) if asked.secret is None else asked.secret
    warnings += _check_secret(scheme, secret)
    checking = Checking(
        None if asked.issuer_log is None else log_identity(asked.issuer_log),
        asked.issuer_log_from,
        asked.exclusive,
        asked.grace,
        asked.follow_every,
        asked.expect_every,
    )
    must_have_log(checking)
    if checking.log is not None:  # last of all, for it takes a while
        standing = where_it_stands(checking.log, checking.starts_at)
        checking = replace(checking, starts_at=standing.size if checking.starts_at is None else checking.starts_at)
        warnings += standing.warnings
    new = NewSource(
        name=asked.name,
        provider=asked.provider,
        scheme=scheme.name,
        scheme_options=scheme.options(),
        account=asked.account,
        replay_window=asked.replay_window,
        test=asked.environment == "test",
        rate_limit=asked.rate_limit,
        upstream=upstream,
        checking=checking,
    )
    return Settled(new, secret, warnings + warn_of_owner(checking, asked.account))


def change(
    records: Records, tenant: Tenant, source_id: str, asked: Changes, by: str = "command"
) -> tuple[ListedSource, list[str]]:
    """Change a source; the source as it is then, and what to warn of.

    With an upstream of another origin, or with none any more, its credential is removed. An issuer's log that is
    another one is asked where it stands: so this is not to be called on an event loop. Raises SettingError;
    UnusableError if the secrets that the source has cannot be used under its new scheme; NoSuchSourceError, TakenError,
    HeldSourceError.
    """
    if asked.account is not UNSET:
        must_be_name("account", asked.account)
    warnings: list[str] = []
    if asked.upstream is not UNSET:
        upstream, warnings = _upstream(asked.upstream)
        asked = replace(asked, upstream=upstream)
    log = log_identity(asked.issuer_log) if isinstance(asked.issuer_log, dict) else None
    standing = Standing()
    if log is not None or asked.issuer_log_from is not UNSET:
        present = relay_source(records, tenant, source_id).checking.log
        its = present if asked.issuer_log is UNSET else log
        if its is not None and (its != present or asked.issuer_log_from is not UNSET):
            standing = where_it_stands(its, _given(asked.issuer_log_from, None))
    warnings += warn_of_fork(records, log)

    before: list[Source] = []

    def decide(source: Source) -> Decision:
        before.append(source)
        decision, found = _decide(source, asked, log, standing)
        warnings.extend(found)
        return decision

    changed, told = change_source(records, tenant, source_id, decide, by)
    if REMOVED in told:
        removed = f"the read-only credential was for {before[0].upstream}, and is removed"
        warnings.append(removed if changed.upstream is None else f"{removed}; give the new one's")
    return changed, warnings


def rotate(records: Records, tenant: Tenant, source_id: str, asked: Rotation, by: str = "command") -> Rotated:
    """Give a source a new secret. Raises SettingError, NoSuchSourceError, TakenError."""
    kept: list[StoredSecret] = []
    warnings: list[str] = []

    def decide(source: Source) -> Decision:
        scheme = _scheme(source.scheme, source.scheme_options)
        secret = new_secret(generate_secret(scheme) if asked.secret is None else asked.secret)
        warnings.extend(_check_secret(scheme, secret.value))
        kept.append(secret)
        return Decision(source, secret, asked.overlap_seconds)

    change_source(records, tenant, source_id, decide, by)
    (secret,) = kept
    return Rotated(secret.id, secret.value if asked.secret is None else None, warnings)


def give_credential(
    records: Records, tenant: Tenant, source_id: str, headers: Sequence[tuple[str, str]], by: str = "command"
) -> ListedSource:
    """Give a source the credential that its provider's record is asked with, instead of one it has; the source then.

    Raises SettingError for headers that cannot be; UnusableError where the provider has no record to ask;
    NoSuchSourceError.
    """
    operation = _provider_of(get_source(records, tenant, source_id)).operation
    if operation.lookup is None:
        raise UnusableError(
            f"the provider documents nothing that shows what became of {operation.name}, so there is nothing to ask "
            "with a credential"
        )
    set_credential(records, tenant, source_id, _credential(headers, operation.credentials), by)
    return get_source(records, tenant, source_id)


def take_credential(records: Records, tenant: Tenant, source_id: str, by: str = "command") -> tuple[ListedSource, bool]:
    """Take a source's credential away; the source as it is then, and whether it had one. Raises NoSuchSourceError."""
    had_one = set_credential(records, tenant, source_id, None, by)
    return get_source(records, tenant, source_id), had_one


def _decide(source: Source, asked: Changes, log: LogIdentity | None, standing: Standing) -> tuple[Decision, list[str]]:
    """What the source is to be, and what to warn of. `log` is the one that is asked for, `standing` where it stands."""
    checking, warnings = _changed_checking(source, asked, log, standing)
    changed = replace(
        source,
        account=_given(asked.account, source.account),
        test=source.test if asked.environment is UNSET else asked.environment == "test",
        replay_window=_given(asked.replay_window, source.replay_window),
        rate_limit=_given(asked.rate_limit, source.rate_limit),
        upstream=_given(asked.upstream, source.upstream),
        checking=checking,
        enabled=_given(asked.enabled, source.enabled),
    )
    if asked.scheme is UNSET and asked.scheme_options is UNSET and asked.secret is UNSET:
        # Whatever the scheme is: a source of one that is not known here can be disabled.
        return Decision(changed), warnings
    scheme = _changed_scheme(source, asked)
    changed = replace(changed, scheme=scheme.name, scheme_options=scheme.options())
    if asked.secret is UNSET:
        return Decision(changed), warnings + _check_present(source, scheme)
    return Decision(changed, new_secret(asked.secret)), warnings + _check_secret(scheme, asked.secret)


def _changed_checking(
    source: Source, asked: Changes, log: LogIdentity | None, standing: Standing
) -> tuple[Checking, list[str]]:
    """What the source is to be checked against, and what to warn of. Raises SettingError."""
    present, warnings = source.checking, list[str]()
    if asked.issuer_log is UNSET:
        log = present.log
    starts_at = present.starts_at
    warnings += standing.warnings
    if log != present.log:
        starts_at = standing.size
    checking = Checking(
        log,
        _given(asked.issuer_log_from, starts_at),
        _given(asked.exclusive, present.exclusive and log is not None),
        _given(asked.grace, present.grace),
        _given(asked.follow_every, present.follow_every),
        _given(asked.expect_every, present.expect_every),
    )
    must_have_log(checking)
    if asked.issuer_log is not UNSET or asked.account is not UNSET or asked.exclusive is not UNSET:
        warnings += warn_of_owner(checking, _given(asked.account, source.account))
    return checking, warnings


def _changed_scheme(source: Source, asked: Changes) -> Scheme:
    options = {} if asked.scheme_options is UNSET else asked.scheme_options
    if asked.scheme is UNSET:
        return _scheme(source.scheme, {**source.scheme_options, **options})
    return _scheme(asked.scheme, options)


def _scheme(name: str, options: Mapping[str, str | bool]) -> Scheme:
    try:
        return scheme_from_options(name, options)
    except ValueError as error:
        raise SettingError("scheme", str(error)) from error


def _check_secret(scheme: Scheme, secret: str) -> list[str]:
    """What to warn of before a new secret is used under the scheme. Raises SettingError."""
    try:
        warnings = check_secret(scheme, secret)
    except ValueError as error:
        raise SettingError("secret", str(error)) from error
    if len(secret.encode()) > MAX_SECRET:
        raise SettingError("secret", f"a secret is at most {MAX_SECRET} bytes")
    return warnings


def _check_present(source: Source, scheme: Scheme) -> list[str]:
    """What to warn of before the secrets that the source has are used under the scheme. Raises UnusableError."""
    warnings: list[str] = []
    for secret in source.secrets:
        try:
            warnings += check_secret(scheme, secret.value)
        except ValueError as error:
            raise UnusableError(
                f"the secret {secret.id} of the source cannot be used under this scheme: {error}. Give a new secret "
                "together with the scheme: then the present ones end at once"
            ) from error
    return list(dict.fromkeys(warnings))


def _upstream(url: str | None) -> tuple[str | None, list[str]]:
    """An upstream as it is kept, and what to warn of. Raises SettingError, which does not repeat it."""
    if url is None:
        return None, []
    base = base_url("upstream", url)
    warning = "the upstream is http://, and not on this machine: the callers' credentials travel there unencrypted"
    return base.text, [warning] if base.is_exposed else []


def _credential(headers: Sequence[tuple[str, str]], known: Sequence[str]) -> list[tuple[str, str]]:
    """The headers as they are kept, names in lower case. Raises SettingError, which shows no value."""
    may_be = f"this provider takes credentials in {', '.join(known)}"
    kept: dict[str, str] = {}
    for given, value in headers:
        name, is_token = given.lower(), _TOKEN.fullmatch(given) is not None
        if not is_token or name not in known:
            told = f"the header {given}" if is_token else "what stands for a header's name"
            raise SettingError("headers", f"{told} carries no credentials: {may_be}")
        if name in kept:
            raise SettingError("headers", f"the header {name} is given twice")
        if not _VALUE.fullmatch(value):
            raise SettingError(
                "headers", f"the value of {name} must be printable ASCII, without spaces around it, and not empty"
            )
        kept[name] = value
    if not kept:
        raise SettingError("headers", f"no header is given: {may_be}")
    if sum(len(name) + len(value) for name, value in kept.items()) > MAX_CREDENTIAL:
        raise SettingError("headers", f"a credential is at most {MAX_CREDENTIAL} bytes")
    return list(kept.items())


def _provider_of(source: ListedSource) -> Provider:
    try:
        return providers.get(source.provider)
    except ValueError as error:  # one that a later version knows
        raise UnusableError(str(error)) from error


def _given(asked: T | UnsetType, present: T) -> T:
    return present if isinstance(asked, UnsetType) else asked
