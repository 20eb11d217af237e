"""What a member of a source must be like, and the error that names the one which is not.

Commands and requests ask for sources in the same members (`receiver.intake.sourcing`). What is checked here is checked
of several of them: a name is one that can be printed, and a base URL names a host and where it is asked, and nothing
else. A URL that is refused is not repeated, for there may be a password in it.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

from receiver.records.sources import MAX_NAME, is_name

MAX_URL = 2048  # characters

# RFC 3986 section 3, of which only what a base URL needs. The length of a label is the domain name system's.
_BASE_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<path>(?:/(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)?)",
    re.ASCII | re.IGNORECASE,
)


class SettingError(ValueError):
    """What was asked cannot be: `member` names what of it, the message says why."""

    def __init__(self, member: str, message: str) -> None:
        super().__init__(message)
        self.member = member


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A URL without a slash at its end, and whether what is sent there can be read by whoever is on the way."""

    text: str
    is_exposed: bool


def base_url(member: str, url: str) -> BaseUrl:
    """The base URL that a member is. Raises SettingError, which does not repeat it."""
    found = _BASE_URL.fullmatch(url)
    if found is None or len(url) > MAX_URL or int(found["port"] or 1) >= 65_536:
        raise SettingError(
            member,
            f"{member} must be a URL of at most {MAX_URL} characters: http:// or https:// and a host, with a port "
            "and a path if need be, and nothing else: no user, no query, no fragment",
        )
    if any(unquote(segment) in {".", ".."} for segment in found["path"].split("/")):
        raise SettingError(member, f"{member} must have no segment . or .. in its path")
    try:
        stays_here = _is_loopback(found["host"])
    except ValueError:
        raise SettingError(member, f"the host of {member} is like an address, and is none") from None
    return BaseUrl(url.rstrip("/"), not stays_here and found["scheme"].lower() == "http")


def must_be_name(member: str, text: str | None) -> None:
    """Refuse a member that is given and is no name. Raises SettingError."""
    if text is not None and not is_name(text):
        raise SettingError(member, f"{member} must be 1 to {MAX_NAME} printable characters, without spaces around them")


def _is_loopback(host: str) -> bool:
    """Raises ValueError for a host that is like an address, and is none."""
    if host.startswith("["):
        return ipaddress.IPv6Address(host[1:-1]).is_loopback
    if host.rpartition(".")[2].isdigit():
        return ipaddress.IPv4Address(host).is_loopback
    return host.lower() == "localhost"
