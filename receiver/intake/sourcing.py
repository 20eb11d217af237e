"""Sources, from what was asked for to what is kept: what a command and a request have in common.

`Addition`, `Changes` and `Rotation` say what is asked; as the body of a request (`receiver.bodies`) they have these
members and no others. What they ask is settled here: the scheme with its options, the secret that goes with it, and
what to warn of. What cannot be is a `SettingError`, in a sentence that shows no secret.

What depends on how a source is now is decided under its log's lock (`receiver.records.sources.change_source`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeAlias, TypeVar

from msgspec import UNSET, Meta, UnsetType

from receiver import providers
from receiver.intake.schemes import Scheme, check_secret, generate_secret, scheme_from_options
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.secrets import MAX_SECRET, StoredSecret, new_secret
from receiver.records.sources import (
    DEFAULT_REPLAY_WINDOW,
    MAX_NAME,
    Decision,
    ListedSource,
    NewSource,
    Source,
    change_source,
    is_id,
    is_name,
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


class SettingError(ValueError):
    """What was asked cannot be: `member` names what of it, the message says why."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


class UnusableError(RecordsError):
    """What was asked does not go with the secrets that the source has; the message says what to do."""


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
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be different; what is left out stays as it is. A new secret ends the others at once.

    With a scheme, its options are those given and no others; without one, those given are changed.
    """

    scheme: Word | UnsetType = UNSET
    scheme_options: Options | UnsetType = UNSET
    account: str | UnsetType | None = UNSET
    environment: Environment | UnsetType = UNSET
    replay_window: ReplayWindow | UnsetType = UNSET
    rate_limit: RateLimit | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    secret: str | UnsetType = field(default=UNSET, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A new secret, beside which the others stay valid for so many seconds. If none is given, one is made."""

    secret: str | None = field(default=None, repr=False)
    overlap_seconds: Overlap = DEFAULT_OVERLAP


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
    """What to keep, with `add_source`, of a new source. Raises SettingError."""
    _must_be_name("name", asked.name)
    if is_id(asked.name):
        raise SettingError("name", "name has the shape of an id, which it could be taken for; choose another")
    _must_be_name("account", asked.account)
    try:
        signing = providers.get(asked.provider).signing
    except ValueError as error:
        raise SettingError("provider", str(error)) from error
    name, options = asked.scheme, asked.scheme_options
    if name is None:
        if signing.scheme is None:
            raise SettingError("scheme", f"{signing.said}: say which scheme it is")
        name, options = signing.scheme, {**signing.options, **options}
    scheme = _scheme(name, options)
    secret = generate_secret(scheme) if asked.secret is None else asked.secret
    new = NewSource(
        name=asked.name,
        provider=asked.provider,
        scheme=scheme.name,
        scheme_options=scheme.options(),
        account=asked.account,
        replay_window=asked.replay_window,
        test=asked.environment == "test",
        rate_limit=asked.rate_limit,
    )
    return Settled(new, secret, _check_secret(scheme, secret))


def change(
    records: Records, tenant: Tenant, source_id: str, asked: Changes, by: str = "command"
) -> tuple[ListedSource, list[str]]:
    """Change a source; the source as it is then, and what to warn of.

    Raises SettingError; UnusableError if the secrets that the source has cannot be used under its new scheme;
    NoSuchSourceError, TakenError.
    """
    if asked.account is not UNSET:
        _must_be_name("account", asked.account)
    warnings: list[str] = []

    def decide(source: Source) -> Decision:
        decision, found = _decide(source, asked)
        warnings.extend(found)
        return decision

    return change_source(records, tenant, source_id, decide, by), warnings


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


def _decide(source: Source, asked: Changes) -> tuple[Decision, list[str]]:
    """What the source is to be, and what to warn of."""
    changed = replace(
        source,
        account=_given(asked.account, source.account),
        test=source.test if asked.environment is UNSET else asked.environment == "test",
        replay_window=_given(asked.replay_window, source.replay_window),
        rate_limit=_given(asked.rate_limit, source.rate_limit),
        enabled=_given(asked.enabled, source.enabled),
    )
    if asked.scheme is UNSET and asked.scheme_options is UNSET and asked.secret is UNSET:
        return Decision(changed), []  # whatever the scheme is: a source of one that is not known here can be disabled
    scheme = _changed_scheme(source, asked)
    changed = replace(changed, scheme=scheme.name, scheme_options=scheme.options())
    if asked.secret is UNSET:
        return Decision(changed), _check_present(source, scheme)
    return Decision(changed, new_secret(asked.secret)), _check_secret(scheme, asked.secret)


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


def _must_be_name(member: str, text: str | None) -> None:
    if text is not None and not is_name(text):
        raise SettingError(member, f"{member} must be 1 to {MAX_NAME} printable characters, without spaces around them")


def _given(asked: T | UnsetType, present: T) -> T:
    return present if isinstance(asked, UnsetType) else asked
