"""Where subscriptions may go: to public addresses, and to networks that the operator allowed, and nowhere else.

    endpoint = parse("https://hooks.example.com/rescind?for=us")
    for address in permitted(endpoint, networks): …         # connect to exactly this address

Whoever may add a subscription names a URL, and this machine calls it. It must not be a way into the operator's network,
nor to what is told about a machine at an address that only it can reach. So the host is resolved here, every address
that it has must be one that may be called, and the connection is then made to an address that was checked: a name that
resolves to another one a moment later changes nothing. How an address is spelled (`127.1`, `0x7f000001`) does not
matter either, for what the resolver makes of it is what is looked at.

Public is what IANA's registries of special-purpose addresses (RFC 6890) say can be reached from everywhere, and is not
multicast; of the two blocks for protocol assignments nothing is, whatever single addresses in them are. Where a cloud's
own services are at an address that looks public, it is not. An IPv6 address that stands for an IPv4 one (RFC 4291
section 2.5.5.2, or RFC 6052 behind a NAT64) leads to that one, which must be public then. 6to4 and Teredo, which led to
others as well and were given up, are not public.
"""

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from threading import BoundedSemaphore, Thread
from typing import TypeAlias

import httpx2

MAX_URL = 2048
"""Characters of a URL."""

SETTING = "RESCIND_SUBSCRIPTION_NETWORKS"

RESOLVED_IN = 5.0
"""Seconds that a resolver has where somebody waits for the answer."""

_RESOLVERS = BoundedSemaphore(8)  # that somebody waits for, or waited for and that have not come back

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""The addresses of a host, for a port, as text; waits for them. Raises OSError where there are none."""

# RFC 3986 section 3, without user and fragment. A label's length is the domain name system's.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)?(?:\?(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?)",
    re.ASCII | re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# What `is_global` of the standard library, in one of its versions or in all, takes for public.
_NOT_PUBLIC = tuple(
    ip_network(one)
    for one in (
        "168.63.129.16/32",  # what Azure tells its machines, and takes from them
        "192.0.0.0/24",  # protocol assignments (RFC 6890); Oracle's cloud has told its machines at 192.0.0.192
        "192.88.99.0/24",  # 6to4 (RFC 7526)
        "2002::/16",
        "2001::/23",  # protocol assignments (RFC 2928), Teredo (RFC 4380) among them
        "3fff::/20",  # documentation (RFC 9637), which the standard library does not know yet
    )
)


class AddressError(ValueError):
    """A URL that cannot be called, or may not be; the message says why, and names no address."""


class NoAddressError(AddressError):
    """The host has no address now."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL, taken apart. `target` is path and query as they were given."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)

    @property
    def authority(self) -> str:
        """What `Host` says: the host, with its port if that is not the scheme's own."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """What is resolved, and what the certificate must be for: the host, of an address without its brackets."""
        return self.host.strip("[]")

    def at(self, address: str) -> httpx2.URL:
        """The URL with that address in the place of the host. Raises AddressError where it would be read as another."""
        host = f"[{address}]" if ":" in address else address
        try:
            url = httpx2.URL(f"{self.scheme}://{host}:{self.port}{self.target}")
        except httpx2.InvalidURL:
            raise AddressError("its URL cannot be read") from None
        if url.raw_path != (self.target.encode() if self.target.startswith("/") else b"/" + self.target.encode()):
            raise AddressError("its path would be read as another: it has a segment . or ..")
        return url


def parse(url: str) -> Endpoint:
    """The endpoint that a URL names. Raises AddressError, which does not repeat it."""
    found = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    port = 0 if found is None else int(found["port"] or _PORTS[found["scheme"].lower()])
    if found is None or not 0 < port < 65_536 or len(found["host"]) > 253:
        raise AddressError(
            f"the URL must be http:// or https:// and a host, with a port, a path and a query if need be, and nothing "
            f"else: no user, no fragment, and at most {MAX_URL} characters of ASCII (a host's name as it is in the "
            "domain name system, xn--…)"
        )
    endpoint = Endpoint(found["scheme"].lower(), found["host"].lower(), port, found["target"])
    if endpoint.host.startswith("["):
        try:
            IPv6Address(endpoint.name)
        except ValueError:
            raise AddressError("the host of the URL is like an address, and is none") from None
    endpoint.at("192.0.2.1")
    return endpoint


def networks(setting: str) -> tuple[Network, ...]:
    """The networks of the setting: addresses or networks, separated by commas. Raises ValueError."""
    return tuple(ip_network(one.strip(), strict=False) for one in setting.split(",") if one.strip())


def resolve(host: str, port: int) -> Sequence[str]:
    """What this machine's resolver makes of a host, each address once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def in_time(resolve: Resolve, seconds: float = RESOLVED_IN) -> Resolve:
    """The same, but TimeoutError (an OSError) if it takes longer, or if too many others are taking long.

    A resolver cannot be interrupted: each has a thread of its own, that nobody waits for at the end.
    """

    def resolved(host: str, port: int) -> Sequence[str]:
        if not _RESOLVERS.acquire(blocking=False):
            raise TimeoutError
        answer: Future[Sequence[str]] = Future()

        def look() -> None:
            try:
                answer.set_result(resolve(host, port))
            except BaseException as error:  # noqa: BLE001  (it is raised where the answer is waited for)
                answer.set_exception(error)
            finally:
                _RESOLVERS.release()

        Thread(target=look, name="resolver", daemon=True).start()
        return answer.result(seconds)

    return resolved


def permitted(endpoint: Endpoint, allowed: Iterable[Network], resolve: Resolve = resolve) -> list[str]:
    """The addresses of an endpoint, in the resolver's order; waits for that.

    Raises NoAddressError if there is none, and AddressError if one of them may not be called: a name with a public
    address and another one is not to be trusted with the choice.
    """
    try:
        found = resolve(endpoint.name, endpoint.port)
    except (OSError, UnicodeError) as error:
        raise NoAddressError("its host has no address") from error
    if not found:
        raise NoAddressError("its host has no address")
    allowed = tuple(allowed)
    if not all(may_be_called(address, allowed) for address in found):
        raise AddressError(
            "its host has an address that is not public, and subscriptions call no other, unless it is in one of the "
            f"networks of the setting {SETTING}"
        )
    return list(found)


def may_be_called(text: str, allowed: Iterable[Network]) -> bool:
    """Whether an address is public, or in one of these networks. What is no address, or one of a zone, is not."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        address = address.ipv4_mapped or address  # the same socket, spelled in another way
    return any(address in network for network in allowed) or _is_public(address)


def _is_public(address: Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC) or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return address.is_global
    if address in _NAT64:
        return _is_public(IPv4Address(address.packed[12:]))
    return address in _GLOBAL_UNICAST and address.is_global
