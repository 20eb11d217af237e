"""What a source is checked against, from what was asked for to what is kept: its issuer's log, and what goes with it.

A log is given by its URL and by whom to believe: the vkeys of the log, or a policy file. Both become the text of a
policy in one spelling, so that sources which ask for the same have the same log (`receiver.records.issuer_logs`).

What the log held before it was given was announced to nobody here, and is no gap: so the log is asked where it stands,
by its checkpoint, verified, and gaps start there. That is done in no transaction, once, and for a few seconds at most.
A log that cannot be read just then is taken all the same, with a warning: its gaps start at the first checkpoint that
is. So a wrong key is noticed when it is given, and a log that is down keeps nobody from adding a source. A log that is
known to have forked is taken with a warning as well.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, cast

from msgspec import Meta

from receiver.intake.members import SettingError, base_url
from receiver.records.issuer_logs import LogIdentity
from receiver.records.opening import Records
from receiver.records.siblings import known_fork
from receiver.records.sources import Checking
from translog.errors import FetchError, FormatError, SignatureError, TranslogError
from translog.policy import Policy
from translog.remote import RemoteLog

MAX_POLICY = 65_536  # bytes
MAX_ORIGIN = 1024  # characters
MAX_INDEX = 2**53 - 1
MAX_GRACE = 366 * 86_400
MAX_FOLLOW_EVERY = 86_400
MAX_EXPECT_EVERY = 366 * 86_400

ASKING_SECONDS = 5.0
"""How long a log may take to say where it stands."""

_LONGEST_REASON = 300
_NO_OWNER = (
    "the source has neither an account nor is it exclusive, so it cannot be told which entries of the issuer's log are "
    "its own: those without an account may confirm its events, and none is ever a gap"
)
_STRING = {"type": "string"}
_MEMBERS = {
    "url": {**_STRING, "description": "under which the log has its checkpoint and its tiles"},
    "key": {"type": ["array", "null"], "items": _STRING, "description": "the log's vkeys: any of them signs for it"},
    "policy": {"type": ["string", "null"], "description": "the text of a C2SP tlog-policy file, instead of vkeys"},
    "origin": {"type": ["string", "null"], "description": "of its checkpoints, if that is not the name of its keys"},
}

Index: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INDEX)]
Grace: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_GRACE, description="seconds")]
FollowEvery: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_FOLLOW_EVERY, description="seconds")]
ExpectEvery: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_EXPECT_EVERY, description="seconds")]
LogMembers: TypeAlias = Annotated[
    dict[str, Any],  # what each is like, `log_identity` says
    Meta(extra_json_schema={"properties": _MEMBERS, "propertyNames": {"enum": list(_MEMBERS)}, "required": ["url"]}),
]


@dataclass(frozen=True, slots=True)
class Standing:
    """How many entries a log says that it has; None if it was not asked, or could not be, which is to be warned of."""

    size: int | None = None
    warnings: tuple[str, ...] = ()


def log_identity(asked: Mapping[str, object]) -> LogIdentity:
    """The log that the members of `issuer_log` name. Raises SettingError."""
    for name in asked:
        if name not in _MEMBERS:
            raise SettingError(
                "issuer_log", f"there is no member {name[:80]!a} in issuer_log; known: {', '.join(_MEMBERS)}"
            )
    url, key, policy, origin = (asked.get(name) for name in _MEMBERS)
    if not isinstance(url, str):
        raise SettingError("issuer_log.url", "issuer_log.url, under which the log has its checkpoint, must be a text")
    if not isinstance(origin, str | None) or len(origin or "") > MAX_ORIGIN:
        raise SettingError("issuer_log.origin", f"issuer_log.origin must be a line of at most {MAX_ORIGIN} characters")
    where = base_url("issuer_log.url", url).text
    trust = _trust(_vkeys(key), _text("issuer_log.policy", policy))
    if {key.name for key in trust.logs} == {origin}:
        origin = None
    return LogIdentity(where, trust.text, _checked_origin(trust, origin))


def must_have_log(checking: Checking) -> None:
    """Refuse what says something of an issuer log where there is none. Raises SettingError."""
    if checking.log is None and checking.exclusive:
        raise SettingError("exclusive", "exclusive says whose the entries of an issuer log are: give that as well")
    if checking.log is None and checking.starts_at is not None:
        raise SettingError("issuer_log_from", "issuer_log_from is an index in an issuer log: give that as well")


def warn_of_owner(checking: Checking, account: str | None) -> list[str]:
    """What to warn of where it cannot be told which entries of a log are a source's own."""
    if checking.log is None or checking.exclusive or account is not None:
        return []
    return [_NO_OWNER]


def where_it_stands(log: LogIdentity, starts_at: int | None = None) -> Standing:
    """Ask a log for its checkpoint, once, and verify that. To be called in no transaction, and on no event loop.

    `starts_at` is where gaps are to start, if that was given.
    """
    trust = log.trust()
    then = "" if starts_at is not None else ". Gaps start at the first one that is fetched and verified"
    try:
        size = trust.open(asyncio.run(_checkpoint(log.url, trust))).size
    except SignatureError as error:
        said = "is not signed as its keys or its policy demand, which may be the wrong ones"
        return Standing(None, (_warning(log, said, error) + then,))
    except FetchError as error:
        if starts_at is not None:  # nothing hangs on its answer, and it is asked again soon
            return Standing(None)
        return Standing(None, (_warning(log, "cannot be had just now", error) + then,))
    except TranslogError as error:
        return Standing(None, (_warning(log, "cannot be had just now", error) + then,))
    if starts_at is not None and starts_at > size:
        return Standing(size, (f"{log.url} has {size} entries: none before entry {starts_at} will ever be a gap",))
    return Standing(size)


def warn_of_fork(records: Records, log: LogIdentity | None) -> list[str]:
    """What to warn of where a log is known to have forked, under this name or another one of the same key's."""
    if log is None:
        return []
    with records.database.read() as tx:
        fork = known_fork(tx, log.trust())
    if fork is None:
        return []
    name = fork.unverified_heads().larger.origin
    said = f"the log {name} has forked: its key signed two histories. Nothing of it is believed, whatever the URL"
    return [f"{said}, and what is checked against it stays pending; name a log with another key"]


async def _checkpoint(url: str, trust: Policy) -> bytes:
    async with RemoteLog(url, trust, attempts=1, timeout=ASKING_SECONDS) as remote:
        return await remote.checkpoint()


def _warning(log: LogIdentity, said: str, error: TranslogError) -> str:
    reason = str(error)[:_LONGEST_REASON]
    return f"the checkpoint of {log.url} {said}: {reason}"


def _vkeys(key: object) -> list[str] | None:
    """The member `key`. Raises SettingError."""
    if key is None:
        return None
    refused = SettingError("issuer_log.key", "issuer_log.key must be a list of the log's vkeys, each a text")
    if not isinstance(key, list):
        raise refused
    vkeys: list[str] = []
    for one in cast("list[object]", key):
        if not isinstance(one, str):
            raise refused
        vkeys.append(one)
    return vkeys


def _text(member: str, value: object) -> str | None:
    if not isinstance(value, str | None):
        raise SettingError(member, f"{member} must be a text")
    return value


def _trust(keys: list[str] | None, policy: str | None) -> Policy:
    """Whom to believe: any of these keys, whose order means nothing, or whom the policy names. Raises SettingError."""
    if keys is not None and policy is not None:
        raise SettingError("issuer_log", "issuer_log has both key and policy: give one of them")
    if policy is None and not keys:
        raise SettingError(
            "issuer_log", "issuer_log must say whose signatures count: with key, the log's vkeys, or with policy"
        )
    member = "issuer_log.key" if policy is None else "issuer_log.policy"
    try:
        trust = Policy.of(*sorted(keys or ())) if policy is None else Policy.parse(policy.encode())
    except FormatError as error:
        raise SettingError(member, f"{member} cannot be used: {error}") from error
    if len(trust.encode()) > MAX_POLICY:
        raise SettingError(member, f"{member} is too long: a policy's text is at most {MAX_POLICY} bytes")
    return trust


def _checked_origin(trust: Policy, origin: str | None) -> str | None:
    try:
        return Policy.parse(trust.encode(), origin).origin
    except FormatError as error:
        raise SettingError("issuer_log.origin", f"issuer_log.origin cannot be used: {error}") from error
